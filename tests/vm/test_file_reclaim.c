/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages of files that leave: clean ones at once, dirty ones when the file has them, each uncharged from who paid for it. */
#include "vm/file_page.h"

#include "one_file.h"

enum { PAGES = 400 };
#define BYTES ((size_t)PAGES * PAGE_SIZE)

static unsigned reclaim(struct weir_container *c, unsigned most)
{
	return file_reclaim(&f.w.vm, f.w.background, c ? c : f.w.container, most);
}

/* Pages far enough from each other that nobody reads ahead. */
static void read_some(unsigned r, uint32_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		files_read(&f, r, first + i * 3);
}

/* Clean pages leave the cache, all mappings and the charge; read again they are right. */
static void test_clean(void **state)
{
	const unsigned r = begin(0, BYTES, false), other = files_map(&f, 0, true, NULL);

	(void)state;
	read_some(r, 0, 30);
	read_some(other, 0, 15);
	assert_int_equal(reclaim(NULL, 20), 20);
	assert_int_equal(file_usage(&f), 10);
	files_check(&f);
	assert_int_equal(reclaim(NULL, 256), 10);
	assert_int_equal(file_usage(&f), 0);
	files_check(&f);
	assert_int_equal(reclaim(NULL, 256), 0);
	read_some(r, 0, 30);
	read_some(other, 0, 15);
	end();
}

/* Neighbours leave in one call. */
static void test_runs(void **state)
{
	const unsigned r = begin(0, BYTES, false);

	(void)state;
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 0, 200, WEIR_ADVICE_WILLNEED), 0);
	fake_threads_run();
	assert_int_equal(file_usage(&f), 200);
	for (uint32_t page = 0; page < 200; page++)
		files_read(&f, r, page);
	assert_int_equal(reclaim(NULL, 200), 200);
	assert_int_equal(fake_count(FAKE_PUNCH), 1);
	end();
}

/* What is dirty stays as long as there is something else; then it is written first, and nothing of it is lost. */
static void test_dirty(void **state)
{
	const unsigned r = begin(0, BYTES, true);

	(void)state;
	for (uint32_t page = 0; page < 40; page += 4)
		files_write(&f, r, page, page + 1);
	read_some(r, 100, 10);
	assert_int_equal(reclaim(NULL, 256), 10);
	assert_int_equal(load_relaxed(&object(&f, r)->dirty), 10);
	files_check(&f);
	/* The crew has been asked to write. */
	fake_threads_run();
	assert_int_equal(load_relaxed(&object(&f, r)->dirty), 0);
	assert_int_equal(reclaim(NULL, 256), 10);
	files_check(&f);
	for (uint32_t page = 0; page < 40; page++)
		files_read(&f, r, page);
	end();
}

/* Nothing but dirty pages, and the crew is elsewhere: who needs room writes some itself. */
static void test_all_dirty(void **state)
{
	const unsigned r = begin(0, BYTES, true);

	(void)state;
	for (uint32_t page = 0; page < 40; page += 4)
		files_write(&f, r, page, page + 1);
	assert_true(reclaim(NULL, 256) > 0);
	files_check(&f);
	end();
}

/* The disk takes nothing: nothing leaves, everything can be read, and it leaves when the disk is well again. */
static void test_failing_disk(void **state)
{
	const unsigned r = begin(0, BYTES, true);

	(void)state;
	for (uint32_t page = 0; page < 40; page += 4)
		files_write(&f, r, page, page + 1);
	for (unsigned n = 1; n <= 40; n++)
		fake_fail(FAKE_SOURCE_WRITE, n, 0, -EIO);
	for (unsigned n = 0; n < 4; n++) {
		assert_int_equal(reclaim(NULL, 256), 0);
		fake_threads_run();
		assert_int_equal(file_usage(&f), 10);
		files_check(&f);
		fake_time_pass(10000000000);
	}
	(void)fake_calm();
	fake_time_pass(10000000000);
	while (file_usage(&f)) {
		(void)reclaim(NULL, 256);
		fake_threads_run();
	}
	for (uint32_t page = 0; page < 40; page++)
		files_read(&f, r, page);
	/* What went wrong meanwhile is still to be told. */
	assert_int_equal(sync_all(r), -EIO);
	end();
}

/* What the disk has refused keeps nothing else from leaving: others are written before it is tried again, and behind it. */
static void test_one_refused(void **state)
{
	const unsigned r = begin(0, BYTES, true);

	(void)state;
	files_write(&f, r, 20, 1);
	fake_fail(FAKE_SOURCE_WRITE, 1, 0, -EIO);
	/* The crew has been asked, too. */
	assert_int_equal(reclaim(NULL, 256), 0);
	fake_threads_run();
	assert_int_equal(fake_count(FAKE_SOURCE_WRITE), 1);
	assert_false(writeback_sensible(object(&f, r)));
	/* In the pause, and before it. */
	files_write(&f, r, 10, 1);
	assert_int_equal(reclaim(NULL, 256), 1);
	assert_int_equal(fake_count(FAKE_SOURCE_WRITE), 2);
	fake_threads_run();
	/* After the pause, and behind it. */
	fake_time_pass(10000000000);
	files_write(&f, r, 40, 1);
	fake_fail(FAKE_SOURCE_WRITE, 1, 0, -EIO);
	assert_int_equal(reclaim(NULL, 256), 1);
	assert_int_equal(fake_count(FAKE_SOURCE_WRITE), 4);
	fake_threads_run();
	files_check(&f);
	assert_int_equal(file_usage(&f), 1);
	assert_int_equal(sync_all(r), -EIO);
	end();
}

/* The kernel does not take the memory back: the pages are where they were. */
static void test_punch_fails(void **state)
{
	const unsigned r = begin(0, BYTES, false);

	(void)state;
	files_read(&f, r, 10);
	fake_fail(FAKE_PUNCH, 1, 0, -ENOMEM);
	fake_fail(FAKE_PUNCH, 2, 0, -ENOMEM);
	assert_int_equal(reclaim(NULL, 256), 0);
	assert_int_equal(file_usage(&f), 1);
	files_check(&f);
	assert_int_equal(files_touch(&f, r, 10, false), 0);
	(void)fake_calm();
	assert_int_equal(reclaim(NULL, 256), 1);
	end();
}

/* What was read ahead waits for its reader, while there is something else; but not for ever. */
static void test_ahead(void **state)
{
	const unsigned r = begin(0, BYTES, false);

	(void)state;
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 0, 50, WEIR_ADVICE_WILLNEED), 0);
	fake_threads_run();
	read_some(r, 100, 10);
	files_read(&f, r, 17);
	assert_false(state_of(&f, r, 17) & FILE_AHEAD);
	assert_true(state_of(&f, r, 49) & FILE_AHEAD);
	assert_int_equal(reclaim(NULL, 256), 10 + 15);
	assert_true(state_of(&f, r, 49) & FILE_CACHED);
	assert_false(state_of(&f, r, 100) & FILE_CACHED);
	assert_int_equal(reclaim(NULL, 256), 50 - 15);
	end();
}

/* A page with credit is passed over and pays one, so that others leave before it; COLD takes the credit. */
static void test_credit(void **state)
{
	const unsigned r = begin(0, BYTES, false);

	(void)state;
	read_some(r, 0, 10);
	read_some(r, 200, 10);
	for (uint32_t i = 0; i < 10; i++)
		or_relaxed(&object(&f, r)->state[i * 3], 2u << CREDIT_SHIFT);
	assert_int_equal(reclaim(NULL, 10), 10);
	for (uint32_t i = 0; i < 10; i++) {
		assert_true(state_of(&f, r, i * 3) & FILE_CACHED);
		assert_int_equal(state_of(&f, r, i * 3) >> CREDIT_SHIFT & CREDIT_MAX, 1);
	}
	read_some(r, 200, 10);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 0, 40, WEIR_ADVICE_COLD), 0);
	assert_int_equal(reclaim(NULL, 10), 10);
	for (uint32_t i = 0; i < 10; i++)
		assert_false(state_of(&f, r, i * 3) & FILE_CACHED);
	end();
}

/* COLD: these leave before all others. */
static void test_cold(void **state)
{
	const unsigned r = begin(0, BYTES, false);

	(void)state;
	read_some(r, 0, 10);
	read_some(r, 200, 10);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 200, 30, WEIR_ADVICE_COLD), 0);
	assert_int_equal(reclaim(NULL, 10), 10);
	for (uint32_t i = 0; i < 10; i++) {
		assert_true(state_of(&f, r, i * 3) & FILE_CACHED);
		assert_false(state_of(&f, r, 200 + i * 3) & FILE_CACHED);
	}
	end();
}

/* A page that comes back soon after it has left is one that came back. */
static void test_refault(void **state)
{
	const unsigned r = begin(0, BYTES, false);
	uint32_t left;

	(void)state;
	files_read(&f, r, 9);
	world_pass(&f.w, 1);
	assert_int_equal(reclaim(NULL, 1), 1);
	left = state_of(&f, r, 9);
	assert_false(left & FILE_CACHED);
	assert_true(left);
	files_read(&f, r, 9);
	assert_int_equal(load_relaxed(&f.w.vm.count.refaults), 1);
	assert_int_equal(state_of(&f, r, 9) >> GRADE_SHIFT & GRADE_MAX, 1);
	end();
}

/* DONTNEED: clean pages leave, dirty ones when they are written; contents are the file's, and stay. */
static void test_dontneed(void **state)
{
	const unsigned r = begin(0, BYTES, true);

	(void)state;
	files_write(&f, r, 20, 1);
	files_read(&f, r, 30);
	files_read(&f, r, 200);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 0, 100, WEIR_ADVICE_DONTNEED), 0);
	fake_threads_run();
	assert_int_equal(file_usage(&f), 1);
	assert_true(files_on_disk(&f, 0, 20, 1));
	files_check(&f);
	files_read(&f, r, 20);
	files_write(&f, r, 20, 2);
	fake_fail(FAKE_SOURCE_WRITE, 1, 0, -EIO);
	assert_int_equal(file_region_advise(&f.w.vm, f.region[r], 0, 100, WEIR_ADVICE_DONTNEED), 0);
	fake_threads_run();
	assert_true(state_of(&f, r, 20) & FILE_DIRTY);
	files_check(&f);
	assert_int_equal(sync_all(r), -EIO);
	end();
}

/* Whose limit presses gives its own pages, and who shares them finds them gone, and right when it reads them again. */
static void test_owners(void **state)
{
	struct weir_container *a, *b;
	unsigned ra, rb;

	(void)state;
	files_open(&f, 0, BYTES, 0);
	assert_int_equal(weir_container_create(f.w.container, "a", &a), 0);
	assert_int_equal(weir_container_create(f.w.container, "b", &b), 0);
	ra = files_map(&f, 0, false, a);
	rb = files_map(&f, 0, false, b);
	read_some(ra, 0, 10);
	read_some(rb, 0, 10);
	read_some(rb, 100, 5);
	/* Once, and to who was first. */
	assert_int_equal(container_own_usage(a, CHARGE_FILE), 10 * PAGE_SIZE);
	assert_int_equal(container_own_usage(b, CHARGE_FILE), 5 * PAGE_SIZE);
	files_check(&f);
	assert_int_equal(reclaim(a, 256), 10);
	assert_int_equal(container_own_usage(a, CHARGE_FILE), 0);
	assert_int_equal(container_own_usage(b, CHARGE_FILE), 5 * PAGE_SIZE);
	files_check(&f);
	/* The pages are b's now, and stay when a has closed. */
	read_some(rb, 0, 10);
	assert_int_equal(container_own_usage(b, CHARGE_FILE), 15 * PAGE_SIZE);
	assert_int_equal(files_unmap(&f, ra), 0);
	files_check(&f);
	assert_int_equal(files_unmap(&f, rb), 0);
	assert_int_equal(weir_container_delete(a), 0);
	assert_int_equal(weir_container_delete(b), 0);
	end();
}

/* A file larger than the limit, read and written at random: never above it, no wrong byte, and it is all in the file in the end. */
static void test_larger(void **state)
{
	const unsigned r = begin(320, BYTES, true);
	uint64_t seed = 11;

	(void)state;
	for (unsigned i = 0; i < 4000; i++) {
		const uint64_t x = random_next(&seed);
		const uint32_t page = (uint32_t)(x % PAGES);

		if (x >> 60 < 5)
			files_write(&f, r, page, x);
		else
			files_read(&f, r, page);
		if (x >> 58 & 1)
			fake_threads_run();
		assert_true(container_charged(f.w.container) <= load_relaxed(&f.w.container->max));
		if (i % 500 == 0) {
			fake_threads_run();
			files_check(&f);
		}
	}
	assert_int_equal(sync_all(r), 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean),	     cmocka_unit_test(test_runs),
		cmocka_unit_test(test_dirty),	     cmocka_unit_test(test_all_dirty),
		cmocka_unit_test(test_failing_disk), cmocka_unit_test(test_one_refused),
		cmocka_unit_test(test_punch_fails),  cmocka_unit_test(test_ahead),
		cmocka_unit_test(test_credit),	     cmocka_unit_test(test_refault),
		cmocka_unit_test(test_cold),	     cmocka_unit_test(test_dontneed),
		cmocka_unit_test(test_owners),	     cmocka_unit_test(test_larger),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
