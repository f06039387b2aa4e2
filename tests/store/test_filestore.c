/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file store: where its file is, what a batch wrote comes back page by page or in one read, and bytes that changed on the
 * disk are refused.
 */
#include "file_oracle.h"

#include "../allocations.h"

/* --- where the file is --- */

struct place {
	const char *dir, *tmpdir; /* NULL: none */
	int err;
	const char *says;
};

static void open_at(void *arg)
{
	const struct place *p = arg;

	if (p->tmpdir)
		setenv("TMPDIR", p->tmpdir, 1); // NOLINT(concurrency-mt-unsafe): a child of its own
	else
		unsetenv("TMPDIR"); // NOLINT(concurrency-mt-unsafe): a child of its own
	child_check(store_init(&store, NULL, p->dir) == 0);
	child_check(store_open_late(&store) == p->err);
	child_check(store_open_late(&store) == p->err); /* said once */
	child_check(store_is_open(&store) == !p->err);
	for (unsigned i = 0; i < 2 && !p->err; i++) {
		struct entry e = {.kind = KIND_TEXT};

		batch_start();
		child_check(batch_put(&e, 1));
		child_check(write_batch() == 0);
	}
	store_close(&store);
}

static void opens_and_says(const struct place *place)
{
	struct child child;
	const char *line;

	run_child(&child, open_at, (void *)place);
	assert_child_passed(&child);
	assert_says(&child, place->says);
	line = strchr(child.stderr_, '\n');
	assert_true(line && !line[1]); /* one line */
}

/* The folder given, else TMPDIR, then /var/tmp: the first that is on a disk, and the log says which. */
static void test_places_are_tried_in_order(void **state)
{
	char in_dir[DIR_TEXT + 64];
	const bool var_tmp = !dir_in_memory("/var/tmp") && !access("/var/tmp", W_OK);
	const bool shm = dir_in_memory("/dev/shm") && !access("/dev/shm", W_OK);
	const char *in_var = "an unlinked file in /var/tmp";

	(void)state;
	snprintf(in_dir, sizeof(in_dir), "an unlinked file in %s", dir);
	opens_and_says(&(struct place){dir, "/nowhere", 0, in_dir});
	opens_and_says(&(struct place){NULL, dir, 0, in_dir});
	if (!var_tmp)
		skip_because("/var/tmp is on no disk");
	opens_and_says(&(struct place){NULL, NULL, 0, in_var});
	opens_and_says(&(struct place){NULL, "", 0, in_var});
	opens_and_says(&(struct place){"/nowhere", dir, 0, in_var});
	opens_and_says(&(struct place){NULL, "/proc/self/exe", 0, in_var});
	if (!shm)
		skip_because("/dev/shm is no tmpfs");
	opens_and_says(&(struct place){"/dev/shm", NULL, 0, in_var});
	opens_and_says(&(struct place){NULL, "/dev/shm", 0, in_var});
}

static void open_nowhere(void *arg)
{
	deny_if(SYS_openat, 2, 020000000, 020000000, EROFS); /* the bit of O_TMPFILE */
	open_at(arg);
}

/* No place at all: the error of the last, and the line names it. */
static void test_no_place_is_told(void **state)
{
	struct place place = {dir, NULL, -EROFS, ""};
	struct child child;

	(void)state;
	run_child(&child, open_nowhere, &place);
	assert_child_passed(&child);
	assert_says(&child, "no place for cold pages (EROFS)");
	assert_says(&child, "Set TMPDIR");
}

/* Nothing is made before it is needed, and nothing is left when the store goes. */
static void test_nothing_is_opened_before_its_time(void **state)
{
	int before = descriptors_open_now();

	(void)state;
	assert_int_equal(store_init(&store, NULL, dir), 0);
	assert_int_equal(descriptors_open_now(), before);
	assert_int_equal(store_open(&store), 0);
	assert_int_equal(store_open(&store), 0);
	assert_int_equal(descriptors_open_now(), before + 1);
	assert_int_equal(dir_entries(dir), 0);
	store_close(&store);
	assert_int_equal(descriptors_open_now(), before);
}

/* No malloc on these ways: under weir run it is the program's, and lives in a region. */
static void test_the_file_store_calls_no_malloc(void **state)
{
	unsigned long before = load_relaxed(&allocations);

	(void)state;
	if (!ALLOCATIONS_COUNTED)
		skip_because("a sanitizer has taken malloc");
	memset(&oracle, 0, sizeof(oracle));
	assert_int_equal(store_init(&store, NULL, dir), 0);
	assert_int_equal(store_open(&store), 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(oracle_write(STORE_BATCH, PAGE_KINDS), 0);
	assert_true(oracle_all_read_back());
	oracle_free_random(PAGES);
	store_close(&store);
	assert_int_equal(load_relaxed(&allocations), before);
}

/* --- writing and reading --- */

/* Every page comes back, objects lie apart, and the counts are the oracle's, through hundreds of batches. */
static void test_random_batches_against_an_oracle(void **state)
{
	(void)state;
	store_open_in_dir();
	oracle_start();
	for (unsigned step = 0; step < 250; step++) {
		if (oracle.live > PAGES - 2 * STORE_BATCH || random_chance(&oracle.seed, 3))
			oracle_free_random(random_below(&oracle.seed, 3 * STORE_BATCH));
		assert_int_equal(
			oracle_write(1 + random_below(&oracle.seed, STORE_BATCH), PAGE_KINDS), 0);
		oracle_counts();
		if (step % 50 == 0) {
			assert_true(oracle_all_read_back());
			assert_true(oracle_apart());
		}
	}
	assert_true(oracle_all_read_back());
	assert_true(oracle_apart());
	assert_int_equal(load_relaxed(&store.failures), 0);
	oracle_end();
}

/* A batch takes so many objects, or so many bytes, and says when it is full; what it took stays as it was. */
static void test_a_batch_says_when_it_is_full(void **state)
{
	struct entry e[STORE_BATCH + 1];

	(void)state;
	store_open_in_dir();
	batch_start();
	for (unsigned i = 0; i <= STORE_BATCH; i++) {
		e[i] = (struct entry){.kind = KIND_RANDOM, .seed = i};
		assert_int_equal(batch_put(&e[i], i), i < STORE_BATCH);
	}
	assert_int_equal(batch.count, STORE_BATCH);
	assert_int_equal(write_batch(), 0);
	for (unsigned i = 0; i < STORE_BATCH; i++) {
		e[i].slot = batch.page[i].key;
		assert_int_equal(batch.tag[i], i);
		assert_true(entry_reads_back(&e[i], i));
		store_discard(&store, e[i].slot);
	}
	store_end();
}

/* Objects of one batch lie one behind the other, and are read in one go as far as the buffer reaches. */
static void test_neighbours_are_read_in_one_go(void **state)
{
	struct entry e[STORE_BATCH];
	store_key_t slots[STORE_BATCH];
	unsigned pages;
	uint64_t seed = test_seed();

	(void)state;
	store_open_in_dir();
	for (unsigned round = 0; round < 10; round++) {
		size_t fits = 0;
		unsigned expected = 0;
		int got;

		batch_start();
		pages = 1 + random_below(&seed, STORE_BATCH);
		for (unsigned i = 0; i < pages; i++) {
			e[i].kind = round ? random_below(&seed, PAGE_KINDS) : KIND_RANDOM;
			e[i].seed = random_next(&seed);
			assert_true(batch_put(&e[i], i));
		}
		assert_int_equal(write_batch(), 0);
		for (unsigned i = 0; i < pages; i++) {
			e[i].slot = batch.page[i].key;
			if (i)
				assert_int_equal(e[i].slot >> FILE_UNITS_SHIFT,
						 (e[i - 1].slot >> FILE_UNITS_SHIFT) +
							 e[i - 1].units);
		}
		for (; expected < pages; expected++) {
			fits += (size_t)e[expected].units * fs->file.unit;
			if (fits > STORE_READ_BYTES)
				break;
		}
		keys_of(slots, pages);
		got = read_keys(slots, pages);
		assert_int_equal(got, expected);
		for (unsigned i = 0; i < expected; i++) {
			page_make(page_buffer, e[i].kind, e[i].seed);
			assert_int_equal(store_unpack(&reader, packer, i, i, back), 0);
			assert_memory_equal(back, page_buffer, PAGE_SIZE);
			/* Another's number gets nothing. */
			assert_int_equal(store_unpack(&reader, packer, i, i + 1, back), -EBADMSG);
		}
		/* Asked for fewer, it takes no more. */
		assert_int_equal(read_keys(slots, 1), 1);
	}
	store_close(&store);
}

/* Objects that do not lie one behind the other, in any order, even one twice: one read gives all of them, with rings and without. */
static void test_what_lies_apart_is_read_in_one_go(void **state)
{
	static const unsigned order[] = {4, 5, 0, 2, 2, 1, 3};
	struct entry e[6];
	store_key_t slots[6], apart[ARRAY_SIZE(order)];

	(void)state;
	store_open_in_dir();
	batch_start();
	for (unsigned i = 0; i < 6; i++) {
		e[i] = (struct entry){.kind = i % 2 ? KIND_TEXT : KIND_RANDOM, .seed = i};
		assert_true(batch_put(&e[i], i));
	}
	assert_int_equal(write_batch(), 0);
	keys_of(slots, 6);
	for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
		apart[i] = slots[order[i]];
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(read_keys(apart, ARRAY_SIZE(order)), ARRAY_SIZE(order));
		for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
			page_make(page_buffer, e[order[i]].kind, e[order[i]].seed);
			assert_int_equal(store_unpack(&reader, packer, i, order[i], back), 0);
			assert_memory_equal(back, page_buffer, PAGE_SIZE);
		}
		/* All taken, as by other threads. */
		store_relaxed(&fs->rings_taken, (1u << FILE_READ_RINGS) - 1);
	}
	store_relaxed(&fs->rings_taken, 0);
	store_close(&store);
}

/* --- bytes that changed --- */

/* Changes one byte of the file behind the store's back. */
static void rot(off_t offset, unsigned char by)
{
	static char block[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
	off_t start = ALIGN_DOWN(offset, (off_t)fs->file.unit);

	assert_int_equal(pread(fs->file.fd, block, fs->file.unit, start), fs->file.unit);
	((unsigned char *)block)[offset - start] ^= by;
	assert_int_equal(pwrite(fs->file.fd, block, fs->file.unit, start), fs->file.unit);
}

/* One byte that rotted anywhere in an object is refused; beside it, and when it is mended, the page comes back. */
static void test_rotten_bytes_are_refused(void **state)
{
	uint64_t seed = test_seed();
	struct entry e[3];

	(void)state;
	store_open_in_dir();
	batch_start();
	for (unsigned i = 0; i < 3; i++) {
		e[i] = (struct entry){.kind = i == 1 ? KIND_RANDOM : KIND_TEXT, .seed = i};
		assert_true(batch_put(&e[i], i));
	}
	assert_int_equal(write_batch(), 0);
	for (unsigned i = 0; i < 3; i++)
		e[i].slot = batch.page[i].key;
	for (unsigned round = 0; round < 300; round++) {
		unsigned i = round % 3;
		size_t size = object_size((struct object *)batch.page[i].data);
		off_t at =
			(off_t)slot_start(i) * fs->file.unit + random_below(&seed, (unsigned)size);
		unsigned char by = (unsigned char)(1 + random_below(&seed, 255));

		rot(at, by);
		memset(back, 0xee, PAGE_SIZE);
		assert_int_equal(read_one(e[i].slot, i, back), -EBADMSG);
		assert_true(all_bytes_are(back, 0xee, PAGE_SIZE));
		assert_true(entry_reads_back(&e[(i + 1) % 3], (i + 1) % 3));
		rot(at, by);
		assert_true(entry_reads_back(&e[i], i));
	}
	store_close(&store);
}

/* A write that went to the wrong place: the object there is another page's, and refused. */
static void test_misplaced_objects_are_refused(void **state)
{
	struct entry e[2];
	store_key_t slots[2];

	(void)state;
	store_open_in_dir();
	batch_start();
	for (unsigned i = 0; i < 2; i++) {
		e[i] = (struct entry){.kind = KIND_RANDOM, .seed = 3};
		assert_true(batch_put(&e[i], i));
	}
	assert_int_equal(write_batch(), 0);
	e[0].slot = batch.page[1].key;
	e[1].slot = batch.page[0].key;
	assert_int_equal(read_one(e[0].slot, 0, back), -EBADMSG);
	assert_int_equal(read_one(e[1].slot, 1, back), -EBADMSG);
	/* Cut short: the file ends before the object does. */
	assert_int_equal(ftruncate(fs->file.fd, fs->file.unit), 0);
	assert_int_equal(read_one(batch.page[1].key, 1, back), -EIO);
	keys_of(slots, 2);
	assert_int_equal(read_keys(slots, 2), 2);
	assert_int_equal(store_unpack(&reader, packer, 0, 0, back), -EIO);
	assert_int_equal(store_unpack(&reader, packer, 1, 1, back), -EIO);
	store_close(&store);
}

static void read_from_a_bad_disk(void *arg)
{
	struct entry e = {.kind = KIND_TEXT};

	(void)arg;
	child_check(store_init(&store, NULL, dir) == 0 && store_open(&store) == 0);
	batch_start();
	child_check(batch_put(&e, 1));
	child_check(write_batch() == 0);
	deny(SYS_pread64, EIO);
	child_check(read_one(batch.page[0].key, 1, back) == -EIO);
}

static void test_errors_of_reading_are_told(void **state)
{
	store_key_t slot = 0;

	(void)state;
	child_passes(read_from_a_bad_disk, NULL);
	/* Nothing was ever opened. */
	assert_int_equal(store_init(&store, NULL, dir), 0);
	assert_int_equal(read_one(slot, 1, back), -EBADF);
	store_close(&store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* First those that read the log, which says it once a process. */
		cmocka_unit_test(test_places_are_tried_in_order),
		cmocka_unit_test(test_no_place_is_told),
		cmocka_unit_test(test_random_batches_against_an_oracle),
		cmocka_unit_test(test_a_batch_says_when_it_is_full),
		cmocka_unit_test(test_neighbours_are_read_in_one_go),
		cmocka_unit_test(test_what_lies_apart_is_read_in_one_go),
		cmocka_unit_test(test_rotten_bytes_are_refused),
		cmocka_unit_test(test_misplaced_objects_are_refused),
		cmocka_unit_test(test_errors_of_reading_are_told),
		cmocka_unit_test(test_nothing_is_opened_before_its_time),
		cmocka_unit_test(test_the_file_store_calls_no_malloc),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
