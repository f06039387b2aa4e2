/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages of files that are written to: dirty, written back, and dirty again; and what becomes of writes that fail. */
#include "vm/file_page.h"

#include "one_file.h"

enum { PAGES = 64, TAIL = 100, WRITE_AHEAD = 16 };
#define BYTES (((size_t)PAGES - 1) * PAGE_SIZE + TAIL)
#define RETRY_NS 10000000000ull

static uint64_t pages_written(void)
{
	return fake_units(FAKE_SOURCE_WRITE) >> PAGE_SHIFT;
}

/* A write makes its page dirty, and none beside it; a sync writes it and no other, and the next write to it faults again. */
static void test_sync(void **state)
{
	const unsigned r = begin(0, BYTES, true);

	(void)state;
	files_read(&f, r, 40);
	files_write(&f, r, 5, 55);
	assert_int_equal(load_relaxed(&object(&f, r)->dirty), 1);
	assert_true(state_of(&f, r, 5) & FILE_DIRTY);
	files_check(&f);
	assert_false(files_on_disk(&f, 0, 5, 1));
	assert_int_equal(sync_all(r), 0);
	assert_true(files_on_disk(&f, 0, 0, PAGES));
	assert_int_equal(pages_written(), 1);
	assert_int_equal(fake_count(FAKE_SOURCE_SYNC), 1);
	files_check(&f);
	assert_int_equal(files_touch(&f, r, 5, true), 1);
	files_write(&f, r, 5, 56);
	assert_int_equal(sync_all(r), 0);
	assert_int_equal(pages_written(), 2);
	end();
}

/* Clean, cached and dirty before it is mapped, in one region and in another: each way a page comes to be writable says that it is
 * dirty. */
static void test_ways(void **state)
{
	const unsigned r = begin(0, BYTES, true);
	unsigned other;

	(void)state;
	other = files_map(&f, 0, true, NULL);
	files_write(&f, r, 0, 1); /* absent */
	files_read(&f, r, 20);
	files_write(&f, r, 20, 2);     /* mapped and protected */
	files_write(&f, other, 20, 3); /* dirty by another region */
	files_read(&f, other, 0);      /* read where another has it dirty: no fault any more */
	assert_int_equal(files_touch(&f, other, 0, true), 0);
	files_check(&f);
	assert_int_equal(sync_all(r), 0);
	files_check(&f);
	/* Neither region may write without a fault. */
	assert_int_equal(files_touch(&f, other, 0, true), 1);
	files_write(&f, other, 0, 4);
	files_read(&f, r, 0);
	end();
}

static void dirty_already(void *data)
{
	assert_true(state_of(&f, *(unsigned *)data, 7) & FILE_DIRTY);
}

/* It is known to be dirty before it can be written to: who syncs in between writes it. */
static void test_known_before(void **state)
{
	unsigned r = begin(0, BYTES, true);

	(void)state;
	fake_meanwhile(FAKE_CONTINUE, dirty_already, &r);
	files_write(&f, r, 7, 1);
	assert_int_equal(fake_calm(), 0);
	end();
}

/* Who writes in a row faults once in WRITE_AHEAD pages, and what was not written to in the end is written all the same. */
static void test_row(void **state)
{
	const unsigned r = begin(0, BYTES, true);
	unsigned faults = 0;

	(void)state;
	for (uint32_t page = 0; page < 48; page++) {
		faults += files_touch(&f, r, page, true);
		files_write(&f, r, page, page);
		fake_threads_run();
	}
	assert_in_range(faults, 48 / WRITE_AHEAD, 48 / WRITE_AHEAD + 6);
	files_check(&f);
	assert_int_equal(sync_all(r), 0);
	assert_in_range(pages_written(), 48, 48 + WRITE_AHEAD);
	end();
}

/* A region for reading never gets a page to write, also one that is dirty. */
static void test_read_only(void **state)
{
	const unsigned r = begin(0, BYTES, true);
	unsigned reader;

	(void)state;
	reader = files_map(&f, 0, false, NULL);
	files_write(&f, r, 8, 1);
	files_read(&f, reader, 8);
	assert_int_equal(word_state(load_relaxed(&f.region[reader]->word[8])), PAGE_CLEAN);
	end();
}

static void write_meanwhile(void *data)
{
	files_write(&f, *(unsigned *)data, 3, 0x77);
}

/* Somebody writes to a page while it is on its way to the file: it is dirty again, and is written once more. */
static void test_race(void **state)
{
	unsigned r = begin(0, BYTES, true);

	(void)state;
	files_write(&f, r, 3, 0x33);
	fake_meanwhile(FAKE_SOURCE_WRITE, write_meanwhile, &r);
	assert_int_equal(sync_all(r), 0);
	assert_true(state_of(&f, r, 3) & FILE_DIRTY);
	files_check(&f);
	assert_int_equal(sync_all(r), 0);
	assert_true(files_on_disk(&f, 0, 3, 1));
	assert_int_equal(pages_written(), 2);
	end();
}

/* The same where the write fails: it is dirty once, and counted once. */
static void test_race_failed(void **state)
{
	unsigned r = begin(0, BYTES, true);

	(void)state;
	files_write(&f, r, 3, 0x33);
	fake_meanwhile(FAKE_SOURCE_WRITE, write_meanwhile, &r);
	fake_fail(FAKE_SOURCE_WRITE, 1, 0, -EIO);
	assert_int_equal(sync_all(r), -EIO);
	files_check(&f);
	assert_int_equal(load_relaxed(&object(&f, r)->dirty), 1);
	assert_int_equal(sync_all(r), 0);
	end();
}

/* Writes of these pages, and no others. Downwards, where nobody takes pages to be written to that are not. */
static void make_dirty(unsigned r, uint32_t first, uint32_t count)
{
	for (uint32_t page = first + count; page-- > first;)
		files_write(&f, r, page, page + 1);
}

static void writes_fail(unsigned first, unsigned last, size_t done, int err)
{
	for (unsigned n = first; n <= last; n++)
		fake_fail(FAKE_SOURCE_WRITE, n, done, err);
}

/* A write that fails, before or after some of it is in the file: the pages stay dirty and right, each holder is told once, and a
 * later sync writes them. */
static void test_error(void **state)
{
	const int errors[] = {-EIO, -ENOSPC, -ESTALE};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
		const unsigned r = begin(0, BYTES, true), other = files_map(&f, 0, true, NULL);

		make_dirty(r, 10, 10);
		/* All of them, and then each of them. */
		writes_fail(1, 11, i * 300, errors[i]);
		assert_int_equal(sync_all(r), errors[i]);
		assert_int_equal(load_relaxed(&object(&f, r)->dirty), 10);
		assert_int_equal(load_relaxed(&f.w.vm.count.write_failed), 10);
		assert_true(world_said("10 pages cannot be written back to their file"));
		files_check(&f);
		for (uint32_t page = 0; page < PAGES; page++)
			files_read(&f, r, page);
		assert_int_equal(sync_all(r), 0);
		assert_true(files_on_disk(&f, 0, 0, PAGES));
		assert_int_equal(load_relaxed(&object(&f, r)->dirty), 0);
		/* The other has not heard of it yet, and hears it once. */
		assert_int_equal(sync_all(other), errors[i]);
		assert_int_equal(sync_all(other), 0);
		end();
	}
}

/* One page that the disk refuses keeps no other out of the file: neither of its run, nor behind it. */
static void test_one_refused(void **state)
{
	const unsigned r = begin(0, BYTES, true);

	(void)state;
	make_dirty(r, 0, 10);
	make_dirty(r, 30, 10);
	/* The first run, and its third page. */
	fake_fail(FAKE_SOURCE_WRITE, 1, 0, -EIO);
	fake_fail(FAKE_SOURCE_WRITE, 4, 0, -EIO);
	assert_int_equal(sync_all(r), -EIO);
	assert_int_equal(load_relaxed(&object(&f, r)->dirty), 1);
	assert_true(state_of(&f, r, 2) & FILE_REFUSED);
	assert_true(world_said("1 pages cannot be written back to their file (EIO)"));
	files_check(&f);
	/* It is tried by each sync, and others are written all the same. */
	make_dirty(r, 50, 2);
	fake_fail(FAKE_SOURCE_WRITE, 1, 0, -EIO);
	assert_int_equal(sync_all(r), -EIO);
	assert_true(files_on_disk(&f, 0, 3, PAGES - 3));
	assert_int_equal(load_relaxed(&object(&f, r)->dirty), 1);
	files_check(&f);
	assert_int_equal(sync_all(r), 0);
	assert_true(files_on_disk(&f, 0, 0, PAGES));
	end();
}

/* All together are refused, and none of them alone: nobody has anything to be told. */
static void test_only_together(void **state)
{
	const unsigned r = begin(0, BYTES, true);

	(void)state;
	make_dirty(r, 0, 10);
	fake_fail(FAKE_SOURCE_WRITE, 1, 3 * PAGE_SIZE, -EIO);
	assert_int_equal(sync_all(r), 0);
	assert_true(files_on_disk(&f, 0, 0, PAGES));
	assert_int_equal(load_relaxed(&f.w.vm.count.write_failed), 0);
	end();
}

/* The file has become shorter: what lies before its end is written, to the byte, and only that. */
static void test_shorter(void **state)
{
	const unsigned r = begin(0, BYTES, true);
	const size_t end_now = 20 * PAGE_SIZE + 100;

	(void)state;
	make_dirty(r, 0, 40);
	files_write(&f, r, 50, 7);
	(void)fake_source(files_path[0], end_now, 7);
	assert_int_equal(sync_all(r), -ESTALE);
	assert_memory_equal(f.source[0].disk, f.source[0].right, end_now);
	assert_false(files_on_disk(&f, 0, 21, 1) || files_on_disk(&f, 0, 50, 1));
	assert_int_equal(load_relaxed(&object(&f, r)->dirty), 21);
	files_check(&f);
	(void)fake_source(files_path[0], BYTES, 7);
	assert_int_equal(sync_all(r), 0);
	end();
}

/* A disk that says no at once is asked for every page. */
static void test_asked_for_all(void **state)
{
	const unsigned r = begin(0, BYTES, true);

	(void)state;
	make_dirty(r, 0, PAGES);
	writes_fail(1, PAGES, 0, -ENOSPC);
	assert_int_equal(sync_all(r), -ENOSPC);
	assert_true(files_on_disk(&f, 0, PAGES - 1, 1));
	assert_int_equal(load_relaxed(&object(&f, r)->dirty), PAGES - 1);
	files_check(&f);
	assert_int_equal(sync_all(r), 0);
	end();
}

/* Nobody waits for one that takes its time for every no; the next pass goes on where this one has ended. */
static void test_hopeless(void **state)
{
	const unsigned r = begin(0, BYTES, true);
	uint32_t hand;

	(void)state;
	make_dirty(r, 0, PAGES);
	writes_fail(1, 60, 0, -EIO);
	fake_time_step(40000000);
	assert_int_equal(sync_all(r), -EIO);
	fake_time_step(0);
	assert_in_range(fake_count(FAKE_SOURCE_WRITE), 17, 50);
	assert_int_equal(load_relaxed(&object(&f, r)->dirty), PAGES);
	files_check(&f);
	/* Nor does anybody who needs room, for a while; not even for what is new. */
	assert_false(writeback_sensible(object(&f, r)));
	fake_time_pass(RETRY_NS);
	assert_true(writeback_sensible(object(&f, r)));
	(void)fake_calm();
	hand = load_relaxed(&object(&f, r)->write_hand);
	assert_in_range(hand, 16, 50);
	writes_fail(2, 60, 0, -EIO);
	assert_int_equal(sync_all(r), -EIO);
	(void)fake_calm();
	assert_true(files_on_disk(&f, 0, hand, PAGES - hand));
	assert_int_equal(load_relaxed(&object(&f, r)->dirty), hand);
	files_check(&f);
	assert_int_equal(sync_all(r), 0);
	end();
}

static void flushes_alone(void *data)
{
	assert_false(lock_try(&object(&f, *(unsigned *)data)->sync_lock));
}

/* Written, but not on the disk: that is an error, too. The kernel says so to one who asks, and all that have the file open are told, once;
 * nobody can have been told that all is well after the flush, and before it is known to have failed. */
static void test_sync_error(void **state)
{
	unsigned r = begin(0, BYTES, true), other;
	struct file_hold late;

	(void)state;
	other = files_map(&f, 0, true, NULL);
	files_write(&f, r, 1, 1);
	fake_fail(FAKE_SOURCE_SYNC, 1, 0, -EIO);
	fake_meanwhile(FAKE_SOURCE_SYNC, flushes_alone, &r);
	assert_int_equal(sync_all(r), -EIO);
	assert_int_equal(fake_calm(), 0);
	assert_true(world_said("a file cannot be synced (EIO)"));
	late = files_hold(&f, 0, true, NULL);
	assert_int_equal(sync_all(r), 0);
	assert_int_equal(sync_all(other), -EIO);
	assert_int_equal(sync_all(other), 0);
	/* Others have been told before it came. */
	assert_int_equal(file_sync(&f.w.vm, &late, 0, PAGES), 0);
	assert_int_equal(file_hold_close(&f.w.vm, f.w.background, &late), 0);
	end();
}

static void taken_meanwhile(void *data)
{
	const unsigned r = *(unsigned *)data;

	assert_int_equal(error_take(object(&f, r), file_region_hold(f.region[r])), -EIO);
}

/* Two syncs of one holder at once: the other one is told of what this one has met, and this one says so all the same. */
static void test_two_syncs(void **state)
{
	unsigned r = begin(0, BYTES, true);

	(void)state;
	files_write(&f, r, 1, 1);
	fake_fail(FAKE_SOURCE_WRITE, 1, 0, -EIO);
	fake_meanwhile(FAKE_SOURCE_SYNC, taken_meanwhile, &r);
	assert_int_equal(sync_all(r), -EIO);
	assert_int_equal(fake_calm(), 0);
	assert_int_equal(sync_all(r), 0);
	end();
}

/* The pages cannot be protected: nothing is written, since a write to them could be missed, and nobody is told that all is well. */
static void test_no_protection(void **state)
{
	const unsigned r = begin(0, BYTES, true);

	(void)state;
	files_write(&f, r, 1, 1);
	fake_fail(FAKE_PROTECT, 1, 0, -ENOENT);
	assert_int_equal(sync_all(r), 0);
	assert_true(files_on_disk(&f, 0, 1, 1));
	files_write(&f, r, 1, 2);
	for (unsigned n = 1; n < 60; n++)
		fake_fail(FAKE_PROTECT, n, 0, -ENOENT);
	/* Its patience ends. */
	fake_time_step(100000000);
	assert_int_equal(sync_all(r), -EAGAIN);
	fake_time_step(0);
	assert_int_equal(pages_written(), 1);
	(void)fake_calm();
	files_check(&f);
	assert_int_equal(sync_all(r), 0);
	assert_true(files_on_disk(&f, 0, 1, 1));
	end();
}

/* What has been dirty for long is written without anybody asking, and not before. */
static void test_age(void **state)
{
	const unsigned r = begin(0, BYTES, true);

	(void)state;
	files_write(&f, r, 1, 1);
	fake_time_pass(4000000000);
	file_tick(&f.w.vm);
	fake_threads_run();
	assert_int_equal(pages_written(), 0);
	fake_time_pass(2000000000);
	file_tick(&f.w.vm);
	fake_threads_run();
	assert_int_equal(pages_written(), 1);
	assert_true(files_on_disk(&f, 0, 1, 1));
	end();
}

/* After a failure it waits, longer each time; the error is there for the next sync. */
static void test_retry(void **state)
{
	const unsigned r = begin(0, BYTES, true);
	struct file_hold late;

	(void)state;
	files_write(&f, r, 1, 1);
	fake_time_pass(RETRY_NS);
	fake_fail(FAKE_SOURCE_WRITE, 1, 0, -EIO);
	file_tick(&f.w.vm);
	fake_threads_run();
	assert_int_equal(fake_count(FAKE_SOURCE_WRITE), 1);
	assert_false(writeback_sensible(object(&f, r)));
	file_tick(&f.w.vm);
	fake_threads_run();
	assert_int_equal(fake_count(FAKE_SOURCE_WRITE), 1);
	files_check(&f);
	/* Nobody has been told of it: who opens the file now will be. */
	late = files_hold(&f, 0, true, NULL);
	fake_time_pass(RETRY_NS);
	file_tick(&f.w.vm);
	fake_threads_run();
	assert_int_equal(fake_count(FAKE_SOURCE_WRITE), 2);
	assert_true(files_on_disk(&f, 0, 1, 1));
	assert_int_equal(sync_all(r), -EIO);
	assert_int_equal(sync_all(r), 0);
	assert_int_equal(file_sync(&f.w.vm, &late, 0, PAGES), -EIO);
	assert_int_equal(file_hold_close(&f.w.vm, f.w.background, &late), 0);
	end();
}

/* The last page is written as far as the file goes. */
static void test_last_page(void **state)
{
	const unsigned r = begin(0, BYTES, true);

	(void)state;
	files_write(&f, r, PAGES - 1, 9);
	/* A program may write behind the end, as with mmap; the file does not get it. */
	page_address(f.region[r], PAGES - 1)[TAIL + 7] = 1;
	assert_int_equal(sync_all(r), 0);
	assert_true(files_on_disk(&f, 0, PAGES - 1, 1));
	page_address(f.region[r], PAGES - 1)[TAIL + 7] = 0;
	end();
}

/* A sync of a part leaves the rest dirty. */
static void test_part(void **state)
{
	const unsigned r = begin(0, BYTES, true);

	(void)state;
	files_write(&f, r, 2, 1);
	files_write(&f, r, 30, 2);
	assert_int_equal(file_sync(&f.w.vm, file_region_hold(f.region[r]), 20, 20), 0);
	assert_true(files_on_disk(&f, 0, 30, 1));
	assert_false(files_on_disk(&f, 0, 2, 1));
	files_check(&f);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sync),	     cmocka_unit_test(test_ways),
		cmocka_unit_test(test_known_before), cmocka_unit_test(test_row),
		cmocka_unit_test(test_read_only),    cmocka_unit_test(test_race),
		cmocka_unit_test(test_race_failed),  cmocka_unit_test(test_error),
		cmocka_unit_test(test_sync_error),   cmocka_unit_test(test_no_protection),
		cmocka_unit_test(test_age),	     cmocka_unit_test(test_retry),
		cmocka_unit_test(test_last_page),    cmocka_unit_test(test_part),
		cmocka_unit_test(test_one_refused),  cmocka_unit_test(test_only_together),
		cmocka_unit_test(test_shorter),	     cmocka_unit_test(test_asked_for_all),
		cmocka_unit_test(test_hopeless),     cmocka_unit_test(test_two_syncs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
