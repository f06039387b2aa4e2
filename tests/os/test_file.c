/* SPDX-License-Identifier: BSD-2-Clause */
/* The temporary file: nameless from the start, never in memory, all of it or an error. */
#include "../disk.h"

#include <sys/stat.h>

#include "os/file.h"

static char dir[DIR_TEXT]; /* on a disk, empty, for each test anew */

static int dir_setup(void **state)
{
	(void)state;
	if (!dir_make(dir))
		dir[0] = 0;
	return 0;
}

static int dir_teardown(void **state)
{
	(void)state;
	if (dir[0])
		dir_remove(dir);
	return 0;
}

static void need_disk(void)
{
	if (!dir[0])
		skip_because("no folder on a disk; set WEIR_TEST_DIR to one");
}

static struct file open_here(void)
{
	struct file f = {.fd = -1};

	need_disk();
	assert_int_equal(file_temp_open(&f, dir), 0);
	return f;
}

/* --- opening --- */

/* Nothing in the folder, no link, no rights for others, not passed on to other programs; gone when closed. */
static void test_the_file_has_no_name(void **state)
{
	int before = descriptors_open_now();
	struct file f = open_here();
	char path[64], target[512] = "";
	struct stat st;

	(void)state;
	assert_int_equal(dir_entries(dir), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f.fd);
	assert_true(readlink(path, target, sizeof(target) - 1) > 0);
	assert_non_null(strstr(target, "(deleted)"));
	assert_int_equal(strncmp(target, dir, strlen(dir)), 0);
	assert_int_equal(fstat(f.fd, &st), 0);
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(fcntl(f.fd, F_GETFD), FD_CLOEXEC);
	file_close(&f);
	assert_int_equal(f.fd, -1);
	file_close(&f); /* nothing */
	assert_int_equal(descriptors_open_now(), before);
}

/* The unit is a block of devices, and direct says what the descriptor does. */
static void test_unit_and_direct_are_true(void **state)
{
	struct file f = open_here();
	char *page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	int flags = fcntl(f.fd, F_GETFL);

	(void)state;
	assert_true(f.unit == 512 || f.unit == 4096);
	assert_int_equal(f.direct, !!(flags & O_DIRECT));
	memset(page, 'u', PAGE_SIZE);
	/* One unit at an odd multiple of it. */
	assert_int_equal(file_write(&f, page, f.unit, 3 * (off_t)f.unit), 0);
	memset(page, 0, PAGE_SIZE);
	assert_int_equal(file_read(&f, page, f.unit, 3 * (off_t)f.unit), 0);
	assert_true(all_bytes_are(page, 'u', f.unit));
	free(page);
	file_close(&f);
}

/* What a store has of its parent in units of one size goes on in them, on a disk that wants another. */
static void test_a_unit_of_another_disk(void **state)
{
	static _Alignas(4096) char out[PAGE_SIZE], in[PAGE_SIZE];
	struct file f;
	bool direct;

	(void)state;
	assert_int_equal(file_temp_open(&f, dir), 0);
	direct = f.direct;
	memset(out, 'x', sizeof(out));
	file_unit_set(&f, PAGE_SIZE);
	assert_int_equal(f.direct, direct);
	assert_int_equal(file_write(&f, out, PAGE_SIZE, 0), 0);
	/* It wants pages now, which is more than what comes. */
	file_unit_set(&f, 512);
	assert_int_equal(f.unit, 512);
	assert_false(f.direct);
	assert_false(fcntl(f.fd, F_GETFL) & O_DIRECT);
	assert_int_equal(file_write(&f, out + 1, 512, 512), 0);
	assert_int_equal(file_read(&f, in, PAGE_SIZE, 0), 0);
	assert_memory_equal(in, out, PAGE_SIZE);
	file_close(&f);
}

static void test_no_place_no_file(void **state)
{
	struct file f = {.fd = -1};
	char path[2 * DIR_TEXT];
	int before = descriptors_open_now();

	(void)state;
	need_disk();
	snprintf(path, sizeof(path), "%s/none", dir);
	assert_int_equal(file_temp_open(&f, path), -ENOENT);
	assert_int_equal(file_temp_open(&f, "/proc/self/exe"), -ENOTDIR);
	assert_int_equal(file_temp_open(&f, ""), -ENOENT);
	assert_int_equal(f.fd, -1);
	assert_int_equal(descriptors_open_now(), before);
}

static void open_as_nobody(void *arg)
{
	struct file f;

	(void)arg;
	child_check(chmod(dir, 0700) == 0);
	child_check(!setgid(65534) && !setuid(65534));
	child_check(file_temp_open(&f, dir) == -EACCES);
}

static void test_a_folder_of_others_is_eacces(void **state)
{
	(void)state;
	need_disk();
	if (geteuid() != 0)
		skip_because("not root, who could become nobody");
	child_passes(open_as_nobody, NULL);
}

/* A file in memory would not free any: refused, and nothing stays open or behind. */
static void test_never_on_tmpfs(void **state)
{
	int before = descriptors_open_now();
	struct file f = {.fd = -1};
	unsigned entries;

	(void)state;
	if (!dir_in_memory("/dev/shm") || access("/dev/shm", W_OK))
		skip_because("/dev/shm is no tmpfs here");
	entries = dir_entries("/dev/shm");
	assert_int_equal(file_temp_open(&f, "/dev/shm"), -EOPNOTSUPP);
	assert_int_equal(descriptors_open_now(), before);
	assert_int_equal(dir_entries("/dev/shm"), entries);
}

static void open_on(void *arg)
{
	struct file f;

	child_own_mounts();
	if (mount("none", dir, arg, 0, NULL))
		child_cannot("this kernel does not mount it");
	child_check(file_temp_open(&f, dir) == -EOPNOTSUPP);
	child_check(dir_entries(dir) == 0);
}

static void test_never_on_ramfs(void **state)
{
	(void)state;
	need_disk();
	child_passes(open_on, "ramfs");
	child_passes(open_on, "tmpfs");
}

static void open_without_tmpfile(void *arg)
{
	int err = *(int *)arg;
	struct file f;
	struct stat st;
	char page[512] __attribute__((aligned(512)));

	deny_if(SYS_openat, 2, 020000000, 020000000, err); /* the bit of O_TMPFILE */
	child_check(file_temp_open(&f, dir) == 0);
	child_check(dir_entries(dir) == 0);
	child_check(fstat(f.fd, &st) == 0 && st.st_nlink == 0 && (st.st_mode & 07777) == 0600);
	child_check(fcntl(f.fd, F_GETFD) == FD_CLOEXEC);
	memset(page, 't', sizeof(page));
	child_check(f.unit != 512 || file_write(&f, page, 512, 0) == 0);
}

/* File systems without O_TMPFILE: the name is gone before anybody else runs. */
static void test_without_o_tmpfile(void **state)
{
	int says[] = {EOPNOTSUPP, EISDIR, EINVAL};

	(void)state;
	need_disk();
	for (unsigned i = 0; i < ARRAY_SIZE(says); i++)
		child_passes(open_without_tmpfile, &says[i]);
}

/* --- reading and writing --- */

enum { FILE_UNITS = 600 };

/* Random runs of units, one over the other, against the same in memory. */
static void round_trip(const struct file *f, uint64_t seed)
{
	const size_t unit = f->unit, bytes = FILE_UNITS * unit;
	char *all = calloc(1, bytes),
	     *buffer = aligned_alloc(PAGE_SIZE, ALIGN_UP(bytes, PAGE_SIZE));

	memset(buffer, 0, bytes);
	assert_int_equal(file_write(f, buffer, bytes, 0), 0);
	for (unsigned i = 0; i < 200; i++) {
		size_t first = random_below(&seed, FILE_UNITS);
		size_t n = 1 + random_below(&seed, MIN(64u, (unsigned)(FILE_UNITS - first)));

		if (random_chance(&seed, 2)) {
			random_bytes(&seed, buffer, n * unit);
			memcpy(all + first * unit, buffer, n * unit);
			assert_int_equal(file_write(f, buffer, n * unit, (off_t)(first * unit)), 0);
		} else {
			assert_int_equal(file_read(f, buffer, n * unit, (off_t)(first * unit)), 0);
			assert_memory_equal(buffer, all + first * unit, n * unit);
		}
	}
	assert_int_equal(file_read(f, buffer, bytes, 0), 0);
	assert_memory_equal(buffer, all, bytes);
	free(all);
	free(buffer);
}

/* The same file without O_DIRECT. */
static struct file make_cached(struct file f)
{
	assert_int_equal(fcntl(f.fd, F_SETFL, fcntl(f.fd, F_GETFL) & ~O_DIRECT), 0);
	f.direct = false;
	return f;
}

static void test_what_is_written_is_read(void **state)
{
	struct file f = open_here();

	(void)state;
	round_trip(&f, test_seed());
	file_close(&f);
}

static void test_what_is_written_is_read_through_the_cache(void **state)
{
	struct file f = make_cached(open_here());

	(void)state;
	round_trip(&f, test_seed());
	file_close(&f);
}

/* Without O_DIRECT what was written does not stay in the page cache: that would be memory that nobody counts. */
static void test_writes_leave_nothing_in_the_cache(void **state)
{
	struct file f = make_cached(open_here());
	const size_t bytes = 64 * PAGE_SIZE;
	char *data = aligned_alloc(PAGE_SIZE, bytes), *map;
	unsigned char vec[64];
	unsigned cached = 0;

	(void)state;
	memset(data, 'c', bytes);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(
			file_write(&f, data + i * bytes / 4, bytes / 4, (off_t)(i * bytes / 4)), 0);
	map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, f.fd, 0);
	assert_true(map != MAP_FAILED);
	assert_int_equal(mincore(map, bytes, vec), 0);
	for (unsigned i = 0; i < 64; i++)
		cached += vec[i] & 1;
	assert_int_equal(cached, 0);
	munmap(map, bytes);
	free(data);
	file_close(&f);
}

/* An end of file inside what was asked for is -EIO: there is no such thing as a short page. */
static void test_reading_past_the_end_is_eio(void **state)
{
	(void)state;
	for (unsigned cached = 0; cached < 2; cached++) {
		struct file f = open_here();
		char *data = aligned_alloc(PAGE_SIZE, 16 * PAGE_SIZE);

		if (cached)
			f = make_cached(f);
		memset(data, 'e', 16 * PAGE_SIZE);
		assert_int_equal(file_write(&f, data, 8 * PAGE_SIZE, 0), 0);
		assert_int_equal(file_read(&f, data, 8 * PAGE_SIZE, 0), 0);
		assert_int_equal(file_read(&f, data, 16 * PAGE_SIZE, 0), -EIO);
		assert_int_equal(file_read(&f, data, f.unit, 8 * PAGE_SIZE), -EIO);
		assert_int_equal(file_read(&f, data, f.unit, MIB(64)), -EIO);
		/* Cut short behind our back. */
		assert_int_equal(ftruncate(f.fd, PAGE_SIZE), 0);
		assert_int_equal(file_read(&f, data, 2 * PAGE_SIZE, 0), -EIO);
		assert_int_equal(file_read(&f, data, PAGE_SIZE, 0), 0);
		free(data);
		file_close(&f);
	}
}

/* --- kernels and disks that refuse --- */

struct refusal {
	int nr;
	unsigned arg;
	uint32_t mask, value;
	int err;
	bool direct; /* expected afterwards */
	unsigned unit;
};

static void open_refused(void *arg)
{
	const struct refusal *r = arg;
	struct file f;
	char *data = aligned_alloc(PAGE_SIZE, PAGE_SIZE);

	deny_if(r->nr, r->arg, r->mask, r->value, r->err);
	child_check(file_temp_open(&f, dir) == 0);
	child_check(f.direct == r->direct && f.unit == r->unit);
	child_check(!!(fcntl(f.fd, F_GETFL) & O_DIRECT) == r->direct);
	memset(data, 'f', PAGE_SIZE);
	child_check(file_write(&f, data, PAGE_SIZE, PAGE_SIZE) == 0);
	memset(data, 0, PAGE_SIZE);
	child_check(file_read(&f, data, PAGE_SIZE, PAGE_SIZE) == 0);
	child_check(all_bytes_are(data, 'f', PAGE_SIZE));
}

/* Which way the file goes is found by trying: blocks of 4 KiB; no O_DIRECT at all. */
static void test_the_way_is_found_by_trying(void **state)
{
	struct refusal refusals[] = {
		/* a device of 4 KiB blocks */
		{SYS_pwrite64, 2, ~0u, 512, EINVAL, true, 4096},
		/* a file system that refuses the flag */
		{SYS_fcntl, 1, ~0u, F_SETFL, EINVAL, false, 512},
	};
	struct file f = open_here();
	bool direct = f.direct;

	(void)state;
	file_close(&f);
	if (!direct)
		skip_because("no O_DIRECT in %s", dir);
	for (unsigned i = 0; i < ARRAY_SIZE(refusals); i++)
		child_passes(open_refused, &refusals[i]);
}

static void write_refused(void *arg)
{
	const struct refusal *r = arg;
	struct file f;
	char *data = aligned_alloc(PAGE_SIZE, PAGE_SIZE);

	memset(data, 'f', PAGE_SIZE);
	child_check(file_temp_open(&f, dir) == 0);
	if (!r->direct) {
		child_check(fcntl(f.fd, F_SETFL, fcntl(f.fd, F_GETFL) & ~O_DIRECT) == 0);
		f.direct = false;
	}
	child_check(file_write(&f, data, PAGE_SIZE, 0) == 0);
	deny(r->nr, r->err);
	if (r->nr == SYS_pread64)
		child_check(file_read(&f, data, PAGE_SIZE, 0) == -r->err);
	else
		child_check(file_write(&f, data, PAGE_SIZE, 0) == -r->err);
}

/*
 * Each error of the kernel is the caller's to see. Without O_DIRECT the error of a write comes when it reaches the
 * disk: it must not be lost, or the only copy of a page would be.
 */
static void test_errors_of_the_disk_are_told(void **state)
{
	struct refusal refusals[] = {
		{.nr = SYS_pwrite64, .err = EIO, .direct = true},
		{.nr = SYS_pwrite64, .err = ENOSPC, .direct = true},
		{.nr = SYS_pwrite64, .err = EDQUOT, .direct = false},
		{.nr = SYS_pread64, .err = EIO, .direct = true},
		{.nr = SYS_pread64, .err = EIO, .direct = false},
		{.nr = SYS_sync_file_range, .err = EIO, .direct = false},
		{.nr = SYS_sync_file_range, .err = ENOSPC, .direct = false},
	};
	struct file f = open_here();

	(void)state;
	file_close(&f);
	for (unsigned i = 0; i < ARRAY_SIZE(refusals); i++)
		child_passes(write_refused, &refusals[i]);
}

static void write_over_the_limit(void *arg)
{
	struct rlimit limit = {64 * PAGE_SIZE, 128 * PAGE_SIZE};
	char *data = aligned_alloc(PAGE_SIZE, 80 * PAGE_SIZE);
	struct file f;

	(void)arg;
	signal(SIGXFSZ, SIG_IGN);
	memset(data, 'l', 80 * PAGE_SIZE);
	child_check(file_temp_open(&f, dir) == 0);
	child_check(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	child_check(file_write(&f, data, 64 * PAGE_SIZE, 0) == 0);
	child_check(file_write(&f, data, PAGE_SIZE, 64 * PAGE_SIZE) == -EFBIG);
	/* Half of it fits: an error all the same. */
	child_check(file_write(&f, data, 8 * PAGE_SIZE, 60 * PAGE_SIZE) == -EFBIG);
	child_check(file_read(&f, data, 64 * PAGE_SIZE, 0) == 0);
	limit.rlim_cur = limit.rlim_max;
	child_check(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	child_check(file_write(&f, data, 8 * PAGE_SIZE, 60 * PAGE_SIZE) == 0);
}

static void test_the_limit_on_files_is_efbig(void **state)
{
	(void)state;
	need_disk();
	child_passes(write_over_the_limit, NULL);
}

static void fill_the_disk(void *arg)
{
	const size_t bytes = 64 * PAGE_SIZE;
	char *data = aligned_alloc(PAGE_SIZE, bytes);
	struct file f, late;
	off_t at = 0;
	int err;

	(void)arg;
	child_mount_small(dir);
	memset(data, 'd', bytes);
	child_check(file_temp_open(&f, dir) == 0);
	while ((err = file_write(&f, data, bytes, at)) == 0 && at < (off_t)MIB(16))
		at += (off_t)bytes;
	child_check(err == -ENOSPC);
	child_check(at > (off_t)MIB(4) && at < (off_t)MIB(8));
	/* What was confirmed is there, and may be written again. */
	memset(data, 0, bytes);
	for (off_t o = 0; o < at; o += (off_t)bytes) {
		child_check(file_read(&f, data, bytes, o) == 0);
		child_check(all_bytes_are(data, 'd', bytes));
		child_check(file_write(&f, data, bytes, o) == 0);
	}
	/* A file may be opened on a full disk; writing to it fails, and works when there is room. */
	child_check(file_temp_open(&late, dir) == 0);
	child_check(late.unit == 512 || late.unit == 4096);
	child_check(file_write(&late, data, bytes, 0) == -ENOSPC);
	file_close(&f);
	child_check(file_write(&late, data, bytes, 0) == 0);
	child_check(file_read(&late, data, bytes, 0) == 0);
}

/* A disk that is full, a real one: -ENOSPC, nothing lost, and room is used when there is some again. */
static void test_a_full_disk_is_enospc(void **state)
{
	(void)state;
	need_disk();
	child_passes(fill_the_disk, NULL);
}

#define TEST_IN_DIR(test) cmocka_unit_test_setup_teardown(test, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_IN_DIR(test_the_file_has_no_name),
		TEST_IN_DIR(test_unit_and_direct_are_true),
		TEST_IN_DIR(test_a_unit_of_another_disk),
		TEST_IN_DIR(test_no_place_no_file),
		TEST_IN_DIR(test_a_folder_of_others_is_eacces),
		TEST_IN_DIR(test_never_on_tmpfs),
		TEST_IN_DIR(test_never_on_ramfs),
		TEST_IN_DIR(test_without_o_tmpfile),
		TEST_IN_DIR(test_what_is_written_is_read),
		TEST_IN_DIR(test_what_is_written_is_read_through_the_cache),
		TEST_IN_DIR(test_writes_leave_nothing_in_the_cache),
		TEST_IN_DIR(test_reading_past_the_end_is_eio),
		TEST_IN_DIR(test_the_way_is_found_by_trying),
		TEST_IN_DIR(test_errors_of_the_disk_are_told),
		TEST_IN_DIR(test_the_limit_on_files_is_efbig),
		TEST_IN_DIR(test_a_full_disk_is_enospc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
