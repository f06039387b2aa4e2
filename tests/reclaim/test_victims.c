/* SPDX-License-Identifier: BSD-2-Clause */
/* Reclaim jobs: which pages are chosen, how many, and that one job chooses at a time. */
#include "jobs.h"

/* --- the clock --- */

static void test_clock_of_an_empty_world(void **state)
{
	const struct world_options one = {.pages = {8192}};
	struct clock_hand hand = {0};
	struct tenancy whose = {0};
	struct window at;
	unsigned laps = 0;

	(void)state;
	world_open(&w, &one);
	whose.container = w.container;
	assert_false(clock_step(&w.vm, &whose, &hand, &at, &laps));
	assert_int_equal(reclaim_once(&w.reclaim, w.pager), 0);
	/* Populated once, and discarded again. */
	touch(&w, 8000, true);
	assert_int_equal(world_discard(&w, 0, 8000, 1, true), 0);
	assert_false(clock_step(&w.vm, &whose, &hand, &at, &laps));
	region_hide(&w.vm, w.only);
	assert_false(clock_step(&w.vm, &whose, &hand, &at, &laps));
	region_publish(&w.vm, 0, w.only);
	world_close(&w);
}

/* Windows of 64 pages, chunks without pages left out, region after region, round and round. */
static void test_clock_steps_over_populated_windows(void **state)
{
	const struct world_options three = {.pages = {2048, 2048, 700}};
	static const uint32_t windows[][3] = {
		/* region, first, count */
		{0, 512, 64}, {0, 576, 64}, {0, 640, 64}, {0, 704, 7}, {2, 0, 64}, {2, 64, 37},
	};
	struct clock_hand hand = {0};
	struct tenancy whose = {0};
	struct window at;
	unsigned laps = 0;

	(void)state;
	world_open(&w, &three);
	whose.container = w.container;
	touch(&w, 710, true);
	touch(&w, 600, true);
	world_touch(&w, 2, 100, true);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(windows); i++) {
			assert_true(clock_step(&w.vm, &whose, &hand, &at, &laps));
			assert_ptr_equal(at.region, w.region[windows[i][0]]);
			assert_int_equal(at.first, windows[i][1]);
			assert_int_equal(at.count, windows[i][2]);
			assert_int_equal(at.owners, 1);
			assert_int_equal(laps, round);
		}
	}
	region_hide(&w.vm, w.region[0]);
	hand = (struct clock_hand){0};
	assert_true(clock_step(&w.vm, &whose, &hand, &at, &laps));
	assert_ptr_equal(at.region, w.region[2]);
	region_publish(&w.vm, 0, w.region[0]);
	world_close(&w);
}

/* A job goes on where the one before ended, so that every page has its turn before any has a second one. */
static void test_jobs_go_round(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 100, TEXT);
	for (uint32_t first = 0; first + JOB <= 100; first += JOB) {
		evict(&w, JOB);
		for (uint32_t page = 0; page < 100; page++)
			assert_int_equal(state_of(page),
					 page < first + JOB ? PAGE_ABSENT : PAGE_DIRTY);
	}
	evict(&w, 4);
	read_all(100);
	world_close(&w);
}

/* A 32nd of the limit, but 8 at least and 256 at most. */
static void test_size_of_a_job(void **state)
{
	static const uint32_t limits[] = {64, 256, 512, 2048, 8192, 16384};
	static const uint32_t jobs[] = {8, 8, 16, 64, 256, 256};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(limits); i++) {
		const struct world_options limited = {.max = limits[i], .pages = {PAGES}};

		world_open(&w, &limited);
		add_relaxed(&w.vm.hold, 1);
		write_pages(&w, 0, 300, TEXT);
		sub_relaxed(&w.vm.hold, 1);
		evict(&w, jobs[i]);
		world_close(&w);
	}
}

/* Fewer pages than a job wants: each is taken once. */
static void test_job_of_few_pages(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 3, TEXT);
	evict(&w, 3);
	assert_int_equal(load_relaxed(&w.vm.count.moved_out), 3);
	read_all(3);
	evict(&w, 3);
	evict(&w, 0);
	read_all(3);
	world_close(&w);
}

/* Absent, busy and poisoned pages, and those never touched, are nobody's victims. */
static void test_who_is_never_chosen(void **state)
{
	uint64_t x;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 4, TEXT);
	evict(&w, 4);
	compressed_object(&w.memory, word_location(word_of(&w, 1)))->packed[0] ^= 1;
	w.lost[0][1] = true;
	read_page(&w, 1);
	write_pages(&w, 5, 2, TEXT);
	w.check_each = false;
	x = page_lock_wait(&w.only->word[5]);
	evict(&w, 1);
	assert_int_equal(state_of(6), PAGE_ABSENT);
	assert_true(word_of(&w, 5) == (x | WORD_BUSY));
	page_unlock(&w.vm, w.only, 5, x, true);
	world_check(&w);
	world_close(&w);
}

/* --- credits --- */

/* A page with credit is passed over, and pays one each time. */
static void test_credit_is_paid_for_being_passed_over(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 24, TEXT);
	for (uint32_t page = 0; page < 24; page += 2)
		give_credit(page, 2);
	/* The first lap takes the odd pages, 8 and then 4; the hand is then in its second one. */
	evict(&w, JOB);
	for (uint32_t page = 0; page < 16; page++) {
		assert_int_equal(state_of(page), page & 1 ? PAGE_ABSENT : PAGE_DIRTY);
		assert_int_equal(word_credit(word_of(&w, page)), page & 1 ? 0 : 1);
	}
	assert_int_equal(word_credit(word_of(&w, 16)), 2);
	evict(&w, JOB);
	assert_int_equal(resident(&w), 8);
	assert_int_equal(evict_all(&w), 8);
	read_all(24);
	world_close(&w);
}

/* Credit wears off within one job where there is nothing else to take. */
static void test_credit_does_not_protect_for_ever(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 4, TEXT);
	for (uint32_t page = 0; page < 4; page++)
		give_credit(page, CREDIT_MAX);
	evict(&w, 4);
	world_close(&w);
}

/* --- one job at a time --- */

/* A job is open: another is not begun, neither by a fault nor by reclaim_once, which ends the one there is. */
static void test_only_one_job(void **state)
{
	uint64_t protect_calls;

	(void)state;
	world_open(&w, &small);
	job_open();
	protect_calls = fake_count(FAKE_PROTECT);
	for (unsigned i = 0; i < 4; i++)
		after_fault();
	assert_int_equal(fake_count(FAKE_PROTECT), protect_calls);
	for (uint32_t page = 0; page < PAGES; page++)
		assert_true((state_of(page) == PAGE_CLEANING) == (page < JOB));
	evict(&w, JOB);
	assert_int_equal(job_state(), IDLE);
	assert_int_equal(fake_count(FAKE_PROTECT), protect_calls);
	world_close(&w);
}

struct meddling {
	unsigned dropped;
	bool done;
};

static void another_job(void *data)
{
	struct meddling *m = data;

	m->dropped = reclaim_once(&w.reclaim, w.background);
	m->done = true;
}

/* Nor while one is being chosen or dropped. */
static void test_no_job_beside_one_that_is_filled_or_dropped(void **state)
{
	static const enum fake_call calls[] = {FAKE_PROTECT, FAKE_DROP};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
		struct meddling m = {.dropped = 99};

		world_open(&w, &small);
		write_pages(&w, 0, 40, TEXT);
		fake_meanwhile(calls[i], another_job, &m);
		evict(&w, JOB);
		assert_true(m.done);
		assert_int_equal(m.dropped, 0);
		assert_int_equal(resident(&w), 40 - JOB);
		world_close(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clock_of_an_empty_world),
		cmocka_unit_test(test_clock_steps_over_populated_windows),
		cmocka_unit_test(test_jobs_go_round),
		cmocka_unit_test(test_size_of_a_job),
		cmocka_unit_test(test_job_of_few_pages),
		cmocka_unit_test(test_who_is_never_chosen),
		cmocka_unit_test(test_credit_is_paid_for_being_passed_over),
		cmocka_unit_test(test_credit_does_not_protect_for_ever),
		cmocka_unit_test(test_only_one_job),
		cmocka_unit_test(test_no_job_beside_one_that_is_filled_or_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
