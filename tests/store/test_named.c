/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files of the file store and how processes end: a named one is one process's at a time, is never another's, keeps its bound; whenever
 * its user is killed nothing stays locked or half-made, and a temporary one leaves nothing at all.
 */
#include "../disk.h"
#include "pages.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/filestore.h"

static char dir[DIR_TEXT], name[DIR_TEXT + 16], uri[DIR_TEXT + 64];
static struct packer *packer;
static char *page_buffer;

static int setup(void **state)
{
	(void)state;
	if (!dir_make(dir))
		dir[0] = 0;
	snprintf(name, sizeof(name), "%s/cold", dir);
	snprintf(uri, sizeof(uri), "file:%s?size=1M&keep=0", name);
	packer = aligned_alloc(64, sizeof(*packer));
	page_buffer = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (dir[0])
		dir_remove(dir);
	free(packer);
	free(page_buffer);
	return 0;
}

static void need_dir(void)
{
	if (!dir[0])
		skip_because("no folder on a disk; set WEIR_TEST_DIR to one");
}

static int open_it(struct store *s)
{
	int err = store_init(s, uri, NULL);

	return err ? err : store_open(s);
}

static int write_batch(struct store *s, struct store_batch *batch, uint64_t seed)
{
	store_batch_start(batch);
	for (unsigned i = 0; i < STORE_BATCH; i++) {
		page_make(page_buffer, KIND_RANDOM, seed + i);
		(void)object_pack(packer, 0, seed + i, page_buffer);
		if (!store_batch_add(s, batch, (struct object *)packer->out, 0))
			break;
	}
	store_write(s, batch);
	store_poll(s, batch, true);
	return store_batch_end(s, batch);
}

static bool reads_back(struct store *s, const struct store_batch *batch, uint64_t seed)
{
	static char buffer[STORE_READ_BYTES] __attribute__((aligned(4096))), back[4096];
	static struct store_reader reader;
	bool right = true;

	for (unsigned i = 0; i < batch->count; i++) {
		page_make(page_buffer, KIND_RANDOM, seed + i);
		right = right &&
			store_read(s, &reader, &batch->page[i].key, 1, buffer, false) == 1 &&
			!store_unpack(&reader, packer, 0, seed + i, back) &&
			!memcmp(back, page_buffer, PAGE_SIZE);
	}
	return right;
}

static void another_process_is_refused(void)
{
	static struct store s;
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child)
		_exit(open_it(&s) == -EBUSY ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* Made, bounded, one user at a time (in one process, too), removed when it is closed. */
static void test_a_named_file(void **state)
{
	static struct store_batch batch;
	static struct store first, second;
	struct stat st;
	uint64_t written = 0;
	int err;

	(void)state;
	need_dir();
	batch.buffer = aligned_alloc(PAGE_SIZE, STORE_BATCH_BYTES);
	assert_int_equal(open_it(&first), 0);
	assert_int_equal(open_it(&second), -EBUSY);
	another_process_is_refused();
	while (!(err = write_batch(&first, &batch, written))) {
		assert_true(reads_back(&first, &batch, written));
		written += STORE_BATCH;
	}
	assert_int_equal(err, -ENOSPC);
	assert_true(written > 0);
	assert_int_equal(stat(name, &st), 0);
	assert_true(st.st_size <= (off_t)MIB(1) && st.st_size > (off_t)MIB(1) / 2);
	assert_int_equal(st.st_mode & 0777, 0600);
	store_close(&first);
	assert_int_equal(dir_entries(dir), 0);
	assert_int_equal(open_it(&second), 0);
	store_close(&second);
	free(batch.buffer);
}

/* What somebody else has made stays as it is: a file, a folder's link, even one that begins like ours. An empty file is nobody's. */
static void test_a_file_of_somebody_else(void **state)
{
	static const char *const contents[] = {"x", "weir store 1\n", "weir store 2\nCold pages"};
	static struct store s;
	struct stat st;
	char link[DIR_TEXT + 16];
	int fd;

	(void)state;
	need_dir();
	for (unsigned i = 0; i < ARRAY_SIZE(contents); i++) {
		char seen[64] = "";

		fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, contents[i], strlen(contents[i])), strlen(contents[i]));
		assert_int_equal(open_it(&s), -EEXIST);
		assert_int_equal(pread(fd, seen, sizeof(seen), 0), strlen(contents[i]));
		assert_string_equal(seen, contents[i]);
		close(fd);
		assert_int_equal(unlink(name), 0);
	}
	snprintf(link, sizeof(link), "%s/other", dir);
	assert_int_equal(symlink(link, name), 0);
	assert_int_equal(open_it(&s), -EEXIST);
	assert_int_not_equal(stat(link, &st), 0);
	assert_int_equal(unlink(name), 0);
	fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(open_it(&s), 0);
	store_close(&s);
	assert_int_equal(dir_entries(dir), 0);
}

/* --- kill -9 --- */

/* Opens, writes, discards, closes, over and over; says each step into a pipe. */
static _Noreturn void work(int pipe, bool named)
{
	static struct store_batch batch[2];
	static struct store s;

	for (unsigned b = 0; b < 2; b++)
		batch[b].buffer = aligned_alloc(PAGE_SIZE, STORE_BATCH_BYTES);
	for (;;) {
		int err = named ? open_it(&s) : store_init(&s, NULL, dir);

		if (err || (!named && store_open(&s)))
			_exit(1);
		(void)!write(pipe, "o", 1);
		for (unsigned i = 0; i < 2; i++) {
			store_batch_start(&batch[i]);
			for (unsigned k = 0; k < 20; k++) {
				page_make(page_buffer, KIND_TEXT, k);
				(void)object_pack(packer, 0, k, page_buffer);
				if (!store_batch_add(&s, &batch[i], (struct object *)packer->out,
						     0))
					_exit(2);
			}
			store_write(&s, &batch[i]);
			(void)!write(pipe, "w", 1);
		}
		for (unsigned i = 0; i < 2; i++) {
			store_poll(&s, &batch[i], true);
			if (store_batch_end(&s, &batch[i]))
				_exit(3);
			(void)!write(pipe, "d", 1);
		}
		for (unsigned k = 0; k < 20; k++)
			store_discard(&s, batch[0].page[k].key);
		store_close(&s);
		(void)!write(pipe, "c", 1);
	}
}

static void kill_at(unsigned step, unsigned spin, bool named)
{
	int ends[2], status;
	char said;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child)
		work(ends[1], named);
	close(ends[1]);
	for (unsigned i = 0; i < step; i++)
		assert_int_equal(read(ends[0], &said, 1), 1);
	/* Somewhere between this step and the next. */
	for (unsigned i = 0; i < spin; i++)
		cpu_relax();
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	close(ends[0]);
}

static void test_killed_at_any_moment(void **state)
{
	uint64_t seed = test_seed();
	static struct store s;

	(void)state;
	need_dir();
	for (unsigned round = 0; round < 60; round++) {
		const bool named = round % 2;

		kill_at(1 + random_below(&seed, 12), random_below(&seed, 20000), named);
		if (!named) {
			assert_int_equal(dir_entries(dir), 0);
			continue;
		}
		/* The name may be there; it is nobody's, and the next one has it at once. */
		assert_true(dir_entries(dir) <= 1);
		assert_int_equal(open_it(&s), 0);
		store_close(&s);
		assert_int_equal(dir_entries(dir), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_named_file),
		cmocka_unit_test(test_a_file_of_somebody_else),
		cmocka_unit_test(test_killed_at_any_moment),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
