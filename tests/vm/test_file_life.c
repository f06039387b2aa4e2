/* SPDX-License-Identifier: BSD-2-Clause */
/* File objects: one for all that is open of a file, as long as anything is, or as long as it has what the file has not. */
#include "control/stock.h"
#include "one_file.h"

#include <sys/stat.h>
#include <unistd.h>

enum { PAGES = 64 };
#define BYTES ((size_t)PAGES * PAGE_SIZE)

static unsigned objects(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < FILES_MAX; i++)
		n += load_relaxed(&f.w.vm.file_object[i]) != NULL;
	return n;
}

static int hold_close(struct file_hold *hold)
{
	return file_hold_close(&f.w.vm, f.w.background, hold);
}

static int hold_open(const char *path, bool write, struct file_hold *hold)
{
	return file_hold_open(&f.w.vm, f.w.container, path, write, hold);
}

/* Opened twice, by two names, to read and to write: one object, one page cache; it goes with the last that has it. */
static void test_shared(void **state)
{
	struct file_hold first, second;
	unsigned r;

	(void)state;
	files_open(&f, 0, BYTES, 0);
	/* Another name of it. */
	memcpy(fake_source("/a/link", BYTES, 7), f.source[0].disk, BYTES);
	assert_int_equal(hold_open(files_path[0], false, &first), 0);
	assert_int_equal(hold_open("/a/link", false, &second), 0);
	assert_ptr_equal(first.file, second.file);
	assert_int_equal(objects(), 1);
	assert_int_equal(fake_sources_open(), 1);
	r = files_map(&f, 0, false, NULL);
	files_read(&f, r, 3);
	assert_int_equal(hold_close(&first), 0);
	assert_int_equal(hold_close(&second), 0);
	/* The region has it still. */
	assert_int_equal(objects(), 1);
	files_read(&f, r, 4);
	assert_int_equal(files_unmap(&f, r), 0);
	assert_int_equal(objects(), 0);
	assert_int_equal(file_usage(&f), 0);
	assert_int_equal(fake_sources_open(), 0);
	files_close(&f);
}

/* With windows: nothing of the page cache stays with a child of fork that has one of them. */
static void test_inherited(void **state)
{
	struct stat st;
	unsigned r;
	int theirs;

	(void)state;
	files_open(&f, 0, BYTES, 0);
	f.w.vm.kmap_slots = 8;
	r = files_map(&f, 0, false, NULL);
	files_read(&f, r, 3);
	theirs = dup(object(&f, r)->cache);
	assert_int_equal(fstat(theirs, &st), 0);
	assert_int_not_equal(st.st_blocks, 0);
	files_close(&f);
	assert_int_equal(fstat(theirs, &st), 0);
	assert_int_equal(st.st_blocks, 0);
	close(theirs);
}

/* Two files are two objects, and one does not go with the other. */
static void test_two(void **state)
{
	unsigned a, b;

	(void)state;
	files_open(&f, 0, BYTES, 3 * PAGE_SIZE + 5);
	a = files_map(&f, 0, false, NULL);
	b = files_map(&f, 1, true, NULL);
	assert_int_equal(objects(), 2);
	files_read(&f, a, 2);
	files_write(&f, b, 2, 1);
	files_read(&f, b, 3);
	files_check(&f);
	assert_int_equal(files_unmap(&f, a), 0);
	assert_int_equal(objects(), 1);
	finish();
}

/* What cannot be opened leaves nothing behind. */
static void test_refused(void **state)
{
	struct file_hold hold, other;

	(void)state;
	files_open(&f, 0, BYTES, 0);
	assert_int_equal(hold_open("/not/there", false, &hold), -ENOENT);
	f.w.vm.can_track = false;
	assert_int_equal(hold_open(files_path[0], true, &hold), -EOPNOTSUPP);
	f.w.vm.can_track = true;
	f.w.vm.can_minor = false;
	assert_int_equal(hold_open(files_path[0], false, &hold), -EOPNOTSUPP);
	f.w.vm.can_minor = true;
	/* To read it succeeds, to write it does not. */
	fake_fail(FAKE_SOURCE_OPEN, 2, 0, -EACCES);
	assert_int_equal(hold_open(files_path[0], true, &hold), -EACCES);
	assert_int_equal(objects(), 0);
	assert_int_equal(fake_sources_open(), 0);
	/* It has another length than what is open of it, or is another file by now. */
	assert_int_equal(hold_open(files_path[0], false, &hold), 0);
	(void)fake_source(files_path[0], BYTES - PAGE_SIZE, 7);
	assert_int_equal(hold_open(files_path[0], false, &other), -ESTALE);
	(void)fake_source(files_path[0], BYTES, 7);
	assert_int_equal(objects(), 1);
	assert_int_equal(fake_sources_open(), 1);
	assert_int_equal(hold_close(&hold), 0);
	files_close(&f);
}

/* The system has no memory, whichever allocation that is: an error, and nothing is left. */
static void test_no_memory(void **state)
{
	struct file_hold hold;
	unsigned refused = 0;

	(void)state;
	files_open(&f, 0, BYTES, 0);
	for (unsigned n = 1;; n++) {
		struct region *region;
		int err;

		fake_fail(FAKE_ALLOC, n, 0, 0);
		err = hold_open(files_path[0], true, &hold);
		if (!err) {
			err = file_region_create(&f.w.vm, &hold, &region);
			if (!err) {
				region_hide(&f.w.vm, region);
				region_unregister(region);
				assert_int_equal(file_region_close(&f.w.vm, f.w.background, region),
						 0);
			}
			assert_int_equal(hold_close(&hold), 0);
		}
		assert_int_equal(objects(), 0);
		assert_int_equal(fake_sources_open(), 0);
		if (fake_calm())
			break;
		assert_true(!err || err == -ENOMEM);
		refused += err == -ENOMEM;
	}
	assert_in_range(refused, 6, 20);
	files_close(&f);
}

/* No thread of the crew can be started: nothing is opened. One can: that will do. */
static void test_no_threads(void **state)
{
	struct file_hold hold;
	unsigned r;

	(void)state;
	files_open(&f, 0, BYTES, 0);
	fake_fail(FAKE_THREAD, 1, 0, -EAGAIN);
	assert_int_equal(hold_open(files_path[0], true, &hold), -EAGAIN);
	assert_null(f.w.vm.crew);
	fake_fail(FAKE_THREAD, 2, 0, -EAGAIN);
	r = files_map(&f, 0, true, NULL);
	files_write(&f, r, 1, 1);
	assert_int_equal(sync_all(r), 0);
	files_close(&f);
}

/* As many regions as there may be over a file, and one more. */
static void test_regions(void **state)
{
	struct region *region[FILE_REGIONS], *more;
	struct file_hold hold;

	(void)state;
	files_open(&f, 0, BYTES, 0);
	hold = files_hold(&f, 0, false, NULL);
	for (unsigned i = 0; i < FILE_REGIONS; i++)
		assert_int_equal(file_region_create(&f.w.vm, &hold, &region[i]), 0);
	assert_int_equal(file_region_create(&f.w.vm, &hold, &more), -ENOSPC);
	for (unsigned i = 0; i < FILE_REGIONS; i++) {
		f.region[0] = region[i];
		files_read(&f, 0, 9);
	}
	/* Read once, charged once. */
	assert_int_equal(pages_read(), 1);
	assert_int_equal(file_usage(&f), 1);
	files_check(&f);
	for (unsigned i = 0; i < FILE_REGIONS; i++) {
		f.region[0] = region[i];
		assert_int_equal(files_unmap(&f, 0), 0);
		files_check(&f);
	}
	assert_int_equal(hold_close(&hold), 0);
	files_close(&f);
}

/* Sixteen containers share a file at a time, and any number of them one after the other: a slot that nobody has open, and by
 * which no page is charged, is another's. */
static void test_containers(void **state)
{
	struct weir_container *c[OWNERS_MAX + 1];
	struct file_hold held[OWNERS_MAX - 1], hold, root;
	char name[16];
	unsigned r;

	(void)state;
	files_open(&f, 0, BYTES, 0);
	root = files_hold(&f, 0, true, NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		(void)snprintf(name, sizeof(name), "c%u", i);
		assert_int_equal(weir_container_create(f.w.container, name, &c[i]), 0);
	}
	/* One has it open, and one has pages of it; the others did, and let them go. */
	assert_int_equal(file_hold_open(&f.w.vm, c[0], files_path[0], false, &hold), 0);
	r = files_map(&f, 0, true, c[1]);
	files_write(&f, r, 9, 1);
	assert_int_equal(files_unmap(&f, r), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 2; i < ARRAY_SIZE(c); i++) {
			r = files_map(&f, 0, false, c[i]);
			files_read(&f, r, 20);
			files_read(&f, r, 9);
			files_check(&f);
			/* What is asked for ahead, and comes when nobody has it any more, is nobody's. */
			(void)file_region_advise(&f.w.vm, f.region[r], 40, 10,
						 WEIR_ADVICE_WILLNEED);
			assert_int_equal(files_unmap(&f, r), 0);
			fake_threads_run();
			(void)stocks_drain(&f.w.tree, c[i], true);
			assert_int_equal(container_own_usage(c[i], CHARGE_FILE), PAGE_SIZE);
			(void)file_reclaim(&f.w.vm, f.w.background, c[i], 256);
			files_check(&f);
			assert_int_equal(container_own_usage(c[i], CHARGE_FILE), 0);
		}
	}
	assert_int_equal(container_own_usage(c[1], CHARGE_FILE), PAGE_SIZE);
	assert_ptr_equal(owners_get(&root.file->owners, hold.slot), c[0]);
	/* Seventeen at once, with the root, are too many. */
	assert_int_equal(hold_close(&hold), 0);
	for (unsigned i = 0; i < OWNERS_MAX - 1; i++)
		assert_int_equal(file_hold_open(&f.w.vm, c[i], files_path[0], false, &held[i]), 0);
	assert_int_equal(file_hold_open(&f.w.vm, c[OWNERS_MAX], files_path[0], false, &hold),
			 -ENOSPC);
	for (unsigned i = 0; i < OWNERS_MAX - 1; i++)
		assert_int_equal(hold_close(&held[i]), 0);
	assert_int_equal(hold_close(&root), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		assert_int_equal(weir_container_delete(c[i]), 0);
	files_close(&f);
}

/* Closing writes what is dirty. */
static void test_close_writes(void **state)
{
	unsigned r;

	(void)state;
	r = begin(0, BYTES, true);
	files_write(&f, r, 5, 1);
	assert_int_equal(files_unmap(&f, r), 0);
	assert_true(files_on_disk(&f, 0, 5, 1));
	assert_int_equal(objects(), 0);
	files_close(&f);
}

/* A region that is going away can be written to until it is gone, and nobody protects it any more: what is written then is not
 * lost. */
static void test_written_while_going(void **state)
{
	const uint64_t last = 0x1a57;
	struct region *region;
	struct file_hold hold;
	unsigned r;

	(void)state;
	files_open(&f, 0, BYTES, 0);
	hold = files_hold(&f, 0, true, NULL);
	r = files_map(&f, 0, true, NULL);
	files_write(&f, r, 5, 1);
	region = f.region[r];
	region_hide(&f.w.vm, region);
	assert_int_equal(file_sync(&f.w.vm, &hold, 0, PAGES), 0);
	assert_int_equal(load_relaxed(&hold.file->dirty), 0);
	memcpy(page_address(region, 5), &last, sizeof(last));
	files_wrote(&f, 0, &last, sizeof(last), 5 * PAGE_SIZE);
	region_unregister(region);
	f.region[r] = NULL;
	assert_int_equal(file_region_close(&f.w.vm, f.w.background, region), 0);
	files_check(&f);
	assert_int_equal(hold_close(&hold), 0);
	assert_true(files_on_disk(&f, 0, 5, 1));
	files_close(&f);
}

/*
 * Closing where the disk takes nothing says so, and keeps what was written: who opens the file again reads it, is told, and it
 * is written when the disk is well.
 */
static void test_outlives(void **state)
{
	unsigned r;

	(void)state;
	r = begin(0, BYTES, true);
	files_write(&f, r, 5, 1);
	fake_fail(FAKE_SOURCE_WRITE, 1, 0, -ENOSPC);
	assert_int_equal(files_unmap(&f, r), -ENOSPC);
	assert_int_equal(objects(), 1);
	assert_int_equal(file_usage(&f), 1);
	files_check(&f);
	r = files_map(&f, 0, true, NULL);
	files_read(&f, r, 5);
	assert_int_equal(pages_read(), 1);
	files_write(&f, r, 6, 1);
	for (unsigned n = 1; n <= 3; n++)
		fake_fail(FAKE_SOURCE_WRITE, n, 0, -EIO);
	assert_int_equal(files_unmap(&f, r), -EIO);
	/* Nobody has it: it goes by itself, when it can. */
	fake_time_pass(20000000000);
	file_tick(&f.w.vm);
	fake_threads_run();
	assert_true(files_on_disk(&f, 0, 0, PAGES));
	file_tick(&f.w.vm);
	assert_int_equal(objects(), 0);
	files_close(&f);
}

/* The end of the instance: what is dirty is written, and what cannot be is said to be lost. */
static void test_end(void **state)
{
	unsigned r;

	(void)state;
	for (unsigned bad = 0; bad < 2; bad++) {
		r = begin(0, BYTES, true);
		files_write(&f, r, 5, 1);
		for (unsigned n = 1; bad && n <= 8; n++)
			fake_fail(FAKE_SOURCE_WRITE, n, 0, -EIO);
		files_destroy(&f.w.vm, f.w.background);
		f.region[r] = NULL;
		(void)fake_calm();
		assert_int_equal(objects(), 0);
		assert_int_equal(files_on_disk(&f, 0, 5, 1), !bad);
		assert_int_equal(world_said("1 pages could not be written to their file before the "
					    "end"),
				 bad);
		memcpy(f.source[0].disk, f.source[0].right, BYTES);
		files_close(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared),	     cmocka_unit_test(test_two),
		cmocka_unit_test(test_refused),	     cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_no_threads),   cmocka_unit_test(test_regions),
		cmocka_unit_test(test_close_writes), cmocka_unit_test(test_written_while_going),
		cmocka_unit_test(test_outlives),     cmocka_unit_test(test_end),
		cmocka_unit_test(test_containers),   cmocka_unit_test(test_inherited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
