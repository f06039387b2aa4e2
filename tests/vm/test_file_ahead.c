/* SPDX-License-Identifier: BSD-2-Clause */
/* Readahead of files: windows of who goes in a row, nothing for who does not, and never a byte that was written since. */
#include "one_file.h"

enum { PAGES = 3000, TAIL = 100 };
#define BYTES (((size_t)PAGES - 1) * PAGE_SIZE + TAIL)

/* Reads pages in a row, the crew at work after each; returns faults. */
static unsigned read_row(unsigned r, uint32_t first, uint32_t count, bool down)
{
	unsigned faults = 0;

	for (uint32_t i = 0; i < count; i++) {
		const uint32_t page = down ? first - i : first + i;

		faults += files_touch(&f, r, page, false);
		files_read(&f, r, page);
		fake_threads_run();
	}
	return faults;
}

/* Up the whole file: each page is read once, nothing behind the end is, and a window takes one fault. */
static void test_up(void **state)
{
	unsigned r, faults;

	(void)state;
	r = begin(0, BYTES, false);
	faults = read_row(r, 0, PAGES, false);
	assert_int_equal(pages_read(), PAGES);
	assert_in_range(faults, PAGES / FILE_RUN, PAGES / FILE_RUN + 10);
	/* One read for each job of the crew, but for the first windows. */
	assert_in_range(fake_count(FAKE_SOURCE_READ), PAGES / FILE_RUN, PAGES / FILE_RUN + 20);
	end();
}

/* Down it: the same. */
static void test_down(void **state)
{
	unsigned r, faults;

	(void)state;
	r = begin(0, BYTES, false);
	faults = read_row(r, PAGES - 1, PAGES, true);
	assert_int_equal(pages_read(), PAGES);
	assert_in_range(faults, PAGES / FILE_RUN, PAGES / FILE_RUN + 12);
	end();
}

/* What comes next is asked for before the reader is there: no fault of its own reads, once the crew is under way. */
static void test_in_time(void **state)
{
	uint64_t stored;
	unsigned r;

	(void)state;
	r = begin(0, BYTES, false);
	(void)read_row(r, 0, 64, false);
	stored = load_relaxed(&f.w.vm.count.stored);
	(void)read_row(r, 64, PAGES - 64, false);
	assert_int_equal(load_relaxed(&f.w.vm.count.stored), stored);
	end();
}

/* While the crew does nothing a reader has what its own faults bring, RUN_MAX pages at the most. */
static void test_no_crew(void **state)
{
	unsigned r, faults = 0;

	(void)state;
	r = begin(0, BYTES, false);
	for (uint32_t page = 0; page < 1024; page++) {
		const uint64_t units = pages_read();

		faults += files_touch(&f, r, page, false);
		assert_in_range(pages_read() - units, 0, RUN_MAX);
	}
	assert_in_range(faults, 1024 / RUN_MAX, 1024 / RUN_MAX + 10);
	assert_in_range(pages_read(), 1024, 1024 + RUN_MAX);
	end();
}

/* At random each fault reads its page, and the crew is asked for nothing. */
static void test_random(void **state)
{
	uint64_t seed = 5;
	unsigned r;

	(void)state;
	r = begin(0, BYTES, false);
	for (unsigned i = 0; i < 200; i++)
		files_read(&f, r, (uint32_t)(random_next(&seed) % (PAGES / 8)) * 8);
	fake_threads_run();
	assert_int_equal(pages_read(), load_relaxed(&f.w.vm.count.stored));
	assert_int_equal(load_relaxed(&f.w.vm.count.ahead), 0);
	end();
}

/* Where it was said that access is random, a row of faults reads single pages, too. */
static void test_said_random(void **state)
{
	unsigned r;

	(void)state;
	r = begin(0, BYTES, false);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 0, PAGES, WEIR_ADVICE_RANDOM), 0);
	assert_int_equal(read_row(r, 0, 100, false), 100);
	assert_int_equal(pages_read(), 100);
	end();
}

/* A reader of pages that are cached, and mapped around each fault, is known by the time it comes to those that are not. */
static void test_over_cached(void **state)
{
	unsigned a, b;

	(void)state;
	a = begin(0, BYTES, false);
	b = files_map(&f, 0, false, NULL);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[a], 0, 256, WEIR_ADVICE_WILLNEED), 0);
	fake_threads_run();
	assert_int_equal(pages_read(), 256);
	(void)read_row(b, 0, 256, false);
	assert_int_equal(read_row(b, 256, 256, false), 1);
	end();
}

/*
 * Pages here and there are cached already, and some have been written to: one read goes over them, and leaves them as they are.
 */
static void test_holes(void **state)
{
	uint64_t reads;
	unsigned r;

	(void)state;
	r = begin(0, BYTES, true);
	for (uint32_t page = 1027; page < 1024 + 256; page += 7)
		files_write(&f, r, page, page * 3);
	files_check(&f);
	reads = fake_count(FAKE_SOURCE_READ);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 1024, 256, WEIR_ADVICE_WILLNEED),
			 0);
	fake_threads_run();
	assert_int_equal(fake_count(FAKE_SOURCE_READ), reads + 1);
	assert_int_equal(file_usage(&f), 256);
	files_check(&f);
	for (uint32_t page = 1024; page < 1024 + 256; page++)
		files_read(&f, r, page);
	assert_int_equal(sync_all(r), 0);
	end();
}

/* The same read fails: what it was for is absent and uncharged, what was there is as it was. */
static void test_holes_fail(void **state)
{
	unsigned r;

	(void)state;
	r = begin(0, BYTES, true);
	for (uint32_t page = 5; page < 200; page += 7)
		files_write(&f, r, page, page * 3);
	fake_fail(FAKE_SOURCE_READ, 1, 50 * PAGE_SIZE, -EIO);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 0, 200, WEIR_ADVICE_WILLNEED), 0);
	fake_threads_run();
	assert_int_equal(file_usage(&f), 28);
	files_check(&f);
	fake_fail(FAKE_SHARED_WRITE, 3, 2, -EAGAIN);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 0, 200, WEIR_ADVICE_WILLNEED), 0);
	fake_threads_run();
	assert_int_equal(file_usage(&f), 28);
	files_check(&f);
	assert_int_equal(sync_all(r), 0);
	end();
}

/* What is cached in one piece is not read again. */
static void test_long_hole(void **state)
{
	unsigned r;

	(void)state;
	r = begin(0, BYTES, false);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 50, 100, WEIR_ADVICE_WILLNEED),
			 0);
	fake_threads_run();
	assert_int_equal(pages_read(), 100);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 0, 200, WEIR_ADVICE_WILLNEED), 0);
	fake_threads_run();
	assert_int_equal(pages_read(), 200);
	end();
}

/* Nobody reads further ahead than a sixteenth of the limit, and what comes ahead never takes more than there is. */
static void test_small_limit(void **state)
{
	enum { LIMIT = 320 };
	unsigned r;

	(void)state;
	r = begin(LIMIT, BYTES, false);
	for (uint32_t page = 0; page < PAGES; page++) {
		files_read(&f, r, page);
		fake_threads_run();
		assert_true(container_charged(f.w.container) <= load_relaxed(&f.w.container->max));
		assert_in_range(load_relaxed(&f.w.vm.count.ahead), 0, page + 1 + LIMIT / 16 * 2);
	}
	assert_int_equal(pages_read(), PAGES);
	/* The crew makes room for what it reads. */
	assert_in_range(load_relaxed(&f.w.vm.count.stored), 1, 10);
	end();
}

/* A limit that gets so small that one page fits: it is read, and no other. */
static void test_no_room(void **state)
{
	unsigned r;

	(void)state;
	r = begin(320, BYTES, false);
	(void)read_row(r, 0, 64, false);
	f.w.own = load_relaxed(&f.w.container->max) - container_charged(f.w.container) -
		  2 * PAGE_SIZE;
	assert_int_equal(container_charge(f.w.container, CHARGE_FILE, f.w.own), 0);
	add_relaxed(&f.w.container->usage[CHARGE_FILE], -(int64_t)f.w.own);
	(void)read_row(r, 64, 64, false);
	add_relaxed(&f.w.container->usage[CHARGE_FILE], (int64_t)f.w.own);
	container_uncharge(f.w.container, CHARGE_FILE, f.w.own);
	f.w.own = 0;
	end();
}

/* Several readers in a row at once, and a random one between: all are known. */
static void test_several(void **state)
{
	uint64_t stored = 0, seed = 3;
	unsigned r;

	(void)state;
	r = begin(0, BYTES, false);
	for (uint32_t i = 0; i < 600; i++) {
		if (i == 64)
			stored = load_relaxed(&f.w.vm.count.stored);
		for (uint32_t k = 0; k < 3; k++)
			files_read(&f, r, k * 700 + i);
		files_read(&f, r, 2100 + (uint32_t)(random_next(&seed) % (PAGES - 2100)));
		fake_threads_run();
	}
	/* The random one has read its own. */
	assert_in_range(load_relaxed(&f.w.vm.count.stored) - stored, 0, 600 - 64);
	end();
}

/* SEQUENTIAL from the first fault on; what the reader has left behind leaves first where room is needed, and nothing else. */
static void test_said_sequential(void **state)
{
	enum { OTHERS = 300 };
	unsigned other, r;

	(void)state;
	files_open(&f, 1600, BYTES, OTHERS * PAGE_SIZE);
	other = files_map(&f, 1, false, NULL);
	(void)read_row(other, 0, OTHERS, false);
	r = files_map(&f, 0, false, NULL);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 0, PAGES, WEIR_ADVICE_SEQUENTIAL),
			 0);
	assert_int_equal(files_touch(&f, r, 0, false), 1);
	assert_int_equal(pages_read(), OTHERS + RUN_MAX);
	(void)read_row(r, 1, PAGES - 1, false);
	assert_int_equal(pages_read(), OTHERS + PAGES);
	for (uint32_t page = 0; page < OTHERS; page++)
		assert_true(state_of(&f, other, page) & FILE_CACHED);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_up),	    cmocka_unit_test(test_down),
		cmocka_unit_test(test_in_time),	    cmocka_unit_test(test_no_crew),
		cmocka_unit_test(test_random),	    cmocka_unit_test(test_said_random),
		cmocka_unit_test(test_over_cached), cmocka_unit_test(test_holes),
		cmocka_unit_test(test_holes_fail),  cmocka_unit_test(test_long_hole),
		cmocka_unit_test(test_small_limit), cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_several),	    cmocka_unit_test(test_said_sequential),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
