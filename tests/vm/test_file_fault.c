/* SPDX-License-Identifier: BSD-2-Clause */
/* Faults of regions over files: what is read, what is only mapped, and what becomes of a page that cannot be had. */
#include "one_file.h"

enum { PAGES = 40, TAIL = 1234 };
#define BYTES (((size_t)PAGES - 1) * PAGE_SIZE + TAIL)

/* A first fault reads its page and no other, charges it, and maps it; a region that may write has it protected. */
static void test_miss(void **state)
{
	unsigned r, w;

	(void)state;
	r = begin(0, BYTES, false);
	w = files_map(&f, 0, true, NULL);
	files_read(&f, r, 7);
	assert_int_equal(pages_read(), 1);
	assert_int_equal(file_usage(&f), 1);
	assert_int_equal(load_relaxed(&f.w.vm.count.stored), 1);
	assert_false(fake_protected(page_address(f.region[r], 7)));
	files_read(&f, w, 20);
	assert_true(fake_protected(page_address(f.region[w], 20)));
	assert_int_equal(pages_read(), 2);
	finish();
}

/* What lies behind the file's end in its last page reads as zeroes. */
static void test_last_page(void **state)
{
	static const char zeroes[PAGE_SIZE - TAIL];
	unsigned r;

	(void)state;
	r = begin(0, BYTES, false);
	files_read(&f, r, PAGES - 1);
	assert_memory_equal(page_address(f.region[r], PAGES - 1) + TAIL, zeroes, sizeof(zeroes));
	finish();
}

/* A page that is cached is mapped without a read, and those beside it with it, in one call. */
static void test_minor(void **state)
{
	uint64_t calls;
	unsigned a, b;

	(void)state;
	a = begin(0, BYTES, false);
	b = files_map(&f, 0, false, NULL);
	for (uint32_t page = 0; page < 16; page += 2)
		files_read(&f, a, page);
	for (uint32_t page = 1; page < 16; page += 2)
		files_read(&f, a, page);
	fake_threads_run();
	assert_int_equal(pages_read(), file_usage(&f));
	calls = fake_count(FAKE_CONTINUE);
	for (uint32_t page = 0; page < 16; page++)
		files_read(&f, b, page);
	assert_int_equal(pages_read(), file_usage(&f));
	assert_int_equal(fake_count(FAKE_CONTINUE), calls + 1);
	finish();
}

static uint32_t meanwhile_page;

static void fault_meanwhile(void *data)
{
	static struct pager other;

	(void)data;
	fake_wait(page_address(f.region[0], meanwhile_page));
	assert_int_equal(pagein(&f.w.vm, &other, f.region[0], meanwhile_page, ACCESS_READ),
			 PAGEIN_PARKED);
}

/* Who faults on a page that is being read is neither served twice nor forgotten. */
static void test_parked(void **state)
{
	unsigned r;

	(void)state;
	r = begin(0, BYTES, false);
	meanwhile_page = 3;
	fake_meanwhile(FAKE_SOURCE_READ, fault_meanwhile, NULL);
	files_read(&f, r, 3);
	assert_false(fake_waiting(page_address(f.region[r], 3)));
	assert_int_equal(load_relaxed(&f.w.vm.count.parked), 1);
	assert_int_equal(fake_count(FAKE_SOURCE_READ), 1);
	finish();
}

/* The same where the crew reads it for nobody: it wakes who came meanwhile. */
static void test_parked_ahead(void **state)
{
	unsigned r;

	(void)state;
	r = begin(0, BYTES, false);
	meanwhile_page = 3;
	fake_meanwhile(FAKE_SOURCE_READ, fault_meanwhile, NULL);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 0, 8, WEIR_ADVICE_WILLNEED), 0);
	fake_threads_run();
	assert_int_equal(load_relaxed(&f.w.vm.count.parked), 1);
	assert_false(fake_waiting(page_address(f.region[r], 3)));
	files_read(&f, r, 3);
	assert_int_equal(fake_count(FAKE_SOURCE_READ), 1);
	finish();
}

/* A page that cannot be read is SIGBUS, charged to nobody, and said so; others are as they were. When it is said that it is not
 * needed it is tried again. */
static void test_unreadable(void **state)
{
	unsigned r;

	(void)state;
	r = begin(0, BYTES, false);
	files_read(&f, r, 4);
	fake_fail(FAKE_SOURCE_READ, 1, 0, -EIO);
	(void)files_touch(&f, r, 9, false);
	assert_true(fake_poisoned(page_address(f.region[r], 9)));
	assert_int_equal(load_relaxed(&f.w.vm.count.poisoned), 1);
	assert_true(world_said("page 9 of a file region cannot be read (EIO)"));
	assert_int_equal(file_usage(&f), 1);
	/* Nor is anything left of one that came as far as the cache. */
	fake_fail(FAKE_SHARED_WRITE, 1, 1, -EIO);
	(void)files_touch(&f, r, 20, false);
	assert_true(fake_poisoned(page_address(f.region[r], 20)));
	files_check(&f);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 9, 1, WEIR_ADVICE_DONTNEED), 0);
	fake_threads_run();
	files_read(&f, r, 9);
	files_read(&f, r, 4);
	finish();
}

/* A thread that faulted at the same time, and was in line only after the page had been given up, is woken whatever has become of the
 * page by then: read by its own fault, or by another region's; and whether it would write. */
static void test_late(void **state)
{
	unsigned r, other;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		const enum fault_access access = i & 1 ? ACCESS_WRITE : ACCESS_READ;

		r = begin(0, BYTES, true);
		other = files_map(&f, 0, false, NULL);
		fake_fail(FAKE_SOURCE_READ, 1, 0, -EIO);
		(void)files_touch(&f, r, 9, false);
		assert_true(fake_poisoned(page_address(f.region[r], 9)));
		if (i & 2)
			files_read(&f, other, 9);
		fake_wait(page_address(f.region[r], 9));
		assert_int_equal(files_fault(&f, r, 9, access), PAGEIN_DONE);
		assert_false(fake_waiting(page_address(f.region[r], 9)));
		assert_true(fake_poisoned(page_address(f.region[r], 9)));
		finish();
	}
}

/* One bad page among those that are read with it: who waits has its own. */
static void test_bad_neighbour(void **state)
{
	unsigned r;

	(void)state;
	r = begin(0, BYTES, false);
	files_read(&f, r, 0);
	fake_fail(FAKE_SOURCE_READ, 1, PAGE_SIZE * 2, -EIO);
	files_read(&f, r, 1);
	assert_int_equal(load_relaxed(&f.w.vm.count.poisoned), 0);
	assert_int_equal(file_usage(&f), 2);
	files_check(&f);
	fake_threads_run();
	for (uint32_t page = 0; page < PAGES; page++)
		files_read(&f, r, page);
	finish();
}

/* The file is shorter than it was: an error, never zeroes. */
static void test_cut_off(void **state)
{
	unsigned r;

	(void)state;
	r = begin(0, BYTES, false);
	(void)fake_source(files_path[0], 10 * PAGE_SIZE, 7);
	files_read(&f, r, 9);
	(void)files_touch(&f, r, 30, false);
	assert_true(fake_poisoned(page_address(f.region[r], 30)));
	assert_int_equal(file_usage(&f), 1);
	finish();
}

/* Without poison nothing is installed in the page's place: the thread is woken, and faults again. */
static void test_no_poison(void **state)
{
	unsigned r;

	(void)state;
	files_open(&f, 0, BYTES, 0);
	f.w.vm.can_poison = false;
	r = files_map(&f, 0, false, NULL);
	fake_fail(FAKE_SOURCE_READ, 1, 0, -EIO);
	fake_fail(FAKE_SOURCE_READ, 2, 0, -EIO);
	files_read(&f, r, 5);
	assert_int_equal(load_relaxed(&f.w.vm.count.poisoned), 0);
	assert_int_equal(fake_count(FAKE_SOURCE_READ), 3);
	finish();
}

/* The system has no memory for the cache, or none for the mapping, of part of a run or of all: the thread faults again, and
 * words and charges say what the kernel has. */
static void test_no_memory(void **state)
{
	unsigned r;

	(void)state;
	for (unsigned done = 0; done < 5; done++) {
		r = begin(0, BYTES, done & 1);
		fake_fail(FAKE_SHARED_WRITE, 1, done, -EAGAIN);
		files_read(&f, r, 0);
		assert_int_equal(fake_count(FAKE_SOURCE_READ), 2);
		fake_fail(FAKE_CONTINUE, 1, done, -ENOMEM);
		files_read(&f, r, 1);
		assert_int_equal(load_relaxed(&f.w.vm.count.poisoned), 0);
		finish();
	}
}

/* A limit for the size of files, which the cache is one of, keeps no page away. */
static void test_file_limit(void **state)
{
	unsigned r;

	(void)state;
	for (unsigned slots = 0; slots <= 8; slots += 8) {
		files_open(&f, 0, BYTES, 0);
		f.w.vm.kmap_slots = slots;
		r = files_map(&f, 0, false, NULL);
		for (unsigned n = 1; n <= PAGES; n++)
			fake_fail(FAKE_SHARED_WRITE, n, n % 2, -EFBIG);
		for (uint32_t page = 0; page < PAGES; page++)
			files_read(&f, r, page);
		(void)fake_calm();
		finish();
	}
}

/* A page that something else has mapped is taken as it is. */
static void test_mapped_behind(void **state)
{
	unsigned a, b;

	(void)state;
	a = begin(0, BYTES, false);
	b = files_map(&f, 0, false, NULL);
	for (uint32_t page = 0; page < 8; page++)
		files_read(&f, a, page);
	fake_threads_run();
	assert_int_equal(
		uffd_continue(f.w.vm.uffd, page_address(f.region[b], 2), PAGE_SIZE, false, NULL),
		0);
	for (uint32_t page = 0; page < 8; page++)
		files_read(&f, b, page);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_miss),	      cmocka_unit_test(test_last_page),
		cmocka_unit_test(test_minor),	      cmocka_unit_test(test_parked),
		cmocka_unit_test(test_parked_ahead),  cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_bad_neighbour), cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_no_poison),     cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_mapped_behind), cmocka_unit_test(test_file_limit),
		cmocka_unit_test(test_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
