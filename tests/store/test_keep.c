/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a store leaves of the disk: the file does not grow where less would stay free than it keeps, goes on inside itself, and grows
 * again when there is room. The disk's size and what is free of it are the test's: the linker puts its fstatvfs in place of libc's.
 */
#include "../disk.h"
#include "pages.h"

#include <sys/statvfs.h>

#include "base/atomic.h"
#include "store/filestore.h"
#include "store/store.h"

enum { BLOCK = 4096 };

static uint64_t disk_bytes, disk_free;
static bool disk_is_silent;

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker's names, of which a call has one or the other: it depends on how
 * wide the C library is told that sizes are. */
int __wrap_fstatvfs(int fd, struct statvfs *fs);
int __wrap_fstatvfs64(int fd, struct statvfs *fs);
int __wrap_fstatvfs(int fd, struct statvfs *fs)
{
	(void)fd;
	if (disk_is_silent) {
		errno = ENOSYS;
		return -1;
	}
	*fs = (struct statvfs){
		.f_bsize = BLOCK,
		.f_frsize = BLOCK,
		.f_blocks = disk_bytes / BLOCK,
		.f_bfree = disk_free / BLOCK + 1000, /* what only root may use is not ours */
		.f_bavail = disk_free / BLOCK,
	};
	return 0;
}
int __wrap_fstatvfs64(int fd, struct statvfs *fs)
{
	return __wrap_fstatvfs(fd, fs);
}
/* NOLINTEND(bugprone-reserved-identifier) */

static void disk_is(uint64_t bytes, uint64_t left)
{
	disk_bytes = bytes;
	disk_free = left;
	disk_is_silent = false;
}

/* A hundredth, at least 64 MiB, at most an eighth; nothing of a disk that does not tell. */
static void test_what_is_kept_by_default(void **state)
{
	static const struct {
		uint64_t bytes, kept;
	} cases[] = {
		{GIB(100), GIB(1)},
		{GIB(50), GIB(50) / 100},
		{GIB(6), MIB(64)},
		{MIB(512), MIB(64)},
		{MIB(511), MIB(511) / 8},
		{MIB(8), MIB(1)},
		{0, 0},
	};
	struct file file = {.fd = -1};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		disk_is(cases[i].bytes, 0);
		assert_int_equal(file_disk_reserve(&file), cases[i].kept);
	}
	disk_is_silent = true;
	assert_int_equal(file_disk_reserve(&file), 0);
}

/* --- a store --- */

enum { PAGES = 8 };

static char dir[DIR_TEXT];
static struct packer packer;
static struct store store;
static struct store_batch batch;
#define fs ((struct filestore *)store.handle)

static void store_start(const char *how)
{
	char uri[DIR_TEXT + 64];

	if (!dir_make(dir))
		skip_because("no folder on a disk; set WEIR_TEST_DIR to one");
	batch.buffer = aligned_alloc(4096, STORE_BATCH_BYTES);
	snprintf(uri, sizeof(uri), "file:%s%s", dir, how);
	assert_int_equal(store_init(&store, uri, NULL), 0);
	assert_int_equal(store_open(&store), 0);
}

static void store_end(void)
{
	assert_int_equal(filestore_validate(fs), 0);
	store_close(&store);
	dir_remove(dir);
	free(batch.buffer);
}

/* Some pages that do not compress. Their keys are left in the batch. */
static int write_pages(void)
{
	static _Alignas(4096) char page[4096];

	store_batch_start(&batch);
	for (unsigned i = 0; i < PAGES; i++) {
		page_make(page, KIND_RANDOM, i + 1);
		(void)object_pack(&packer, 0, i, page);
		assert_true(store_batch_add(&store, &batch, (struct object *)packer.out, i));
	}
	store_write(&store, &batch);
	store_poll(&store, &batch, true);
	return store_batch_end(&store, &batch);
}

static void discard_written(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		store_discard(&store, batch.page[i].key);
}

/* Whatever was asked for, or the default: one byte less than it is too little to grow. */
static void keeps(const char *how, uint64_t kept)
{
	uint64_t bytes;
	uint32_t size;

	disk_is(GIB(100), GIB(50));
	store_start(how);
	assert_int_equal(fs->keep_free, kept);
	assert_int_equal(write_pages(), 0);
	size = fs->size;
	bytes = load_relaxed(&store.bytes);
	/* One block short of what a batch takes and what is kept. */
	disk_is(GIB(100), ALIGN_DOWN(kept + bytes - 1, BLOCK));
	assert_int_equal(write_pages(), -ENOSPC);
	assert_int_equal(fs->size, size);
	assert_int_equal(load_relaxed(&store.bytes), bytes);
	assert_int_equal(filestore_validate(fs), 0);
	/* Just enough, when the second has passed in which it is not tried again. */
	disk_is(GIB(100), ALIGN_UP(kept + bytes, BLOCK));
	assert_true(fs->full_until_ns > 0);
	fs->full_until_ns = now_ns();
	assert_int_equal(write_pages(), 0);
	assert_true(fs->size > size);
	/* Room inside the file costs the disk nothing. */
	discard_written();
	disk_is(GIB(100), 0);
	size = fs->size;
	assert_int_equal(write_pages(), 0);
	assert_int_equal(fs->size, size);
	discard_written();
	store_end();
}

static void test_the_default_is_kept(void **state)
{
	(void)state;
	keeps("", GIB(1));
}

static void test_what_was_asked_for_is_kept(void **state)
{
	(void)state;
	keeps("?keep=3G", GIB(3));
	keeps("/named?size=64M&keep=5M", MIB(5));
}

/* Then only a write that fails says that it is full. */
static void test_a_disk_that_does_not_tell_is_used(void **state)
{
	(void)state;
	disk_is_silent = true;
	store_start("?keep=3G");
	assert_int_equal(write_pages(), 0);
	assert_int_equal(write_pages(), 0);
	store_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_kept_by_default),
		cmocka_unit_test(test_the_default_is_kept),
		cmocka_unit_test(test_what_was_asked_for_is_kept),
		cmocka_unit_test(test_a_disk_that_does_not_tell_is_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
