/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A reclaim job and its victims: what is protected, copied and dropped, what a fault does to it meanwhile, and what is left
 * as it was when something goes wrong.
 */
#include "jobs.h"

/* --- faults beside a job --- */

/* Reading goes on while pages are cleaned. */
static void test_pages_of_a_job_stay_readable(void **state)
{
	uint64_t faults;

	(void)state;
	world_open(&w, &small);
	job_open();
	faults = w.faults;
	read_all(JOB);
	assert_int_equal(w.faults, faults);
	evict(&w, JOB);
	world_close(&w);
}

/* A write while the page is CLEANING, before its copy: it stays, and is not even packed. */
static void test_write_before_the_copy(void **state)
{
	(void)state;
	world_open(&w, &small);
	job_open();
	world_poke(&w, 0, 0, 9, 1);
	world_poke(&w, 0, 7, 9, 1);
	evict(&w, JOB - 2);
	assert_int_equal(state_of(0), PAGE_DIRTY);
	assert_int_equal(state_of(7), PAGE_DIRTY);
	assert_int_equal(load_relaxed(&w.memory.objects), JOB - 2);
	read_all(JOB);
	world_close(&w);
}

/* A write after the copy, before the drop: the copy is let go, the page stays, and what was written is what counts. */
static void test_write_after_the_copy(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, MIDDLE + 1, TEXT);
	after_fault();
	assert_int_equal(state_of(0), PAGE_CLEAN);
	assert_int_equal(load_relaxed(&w.memory.objects), 2);
	world_poke(&w, 0, 0, 9, 1);
	assert_int_equal(load_relaxed(&w.memory.objects), 1);
	evict(&w, JOB - 1);
	assert_int_equal(state_of(0), PAGE_DIRTY);
	assert_int_equal(load_relaxed(&w.memory.objects), JOB - 1);
	read_all(JOB);
	world_close(&w);
}

/* A page that was written while CLEANING may be chosen again by the next job, and is copied as it is then. */
static void test_written_page_is_cleaned_by_a_later_job(void **state)
{
	(void)state;
	world_open(&w, &small);
	job_open();
	world_poke(&w, 0, 3, 9, 1);
	evict(&w, JOB - 1);
	while (state_of(3) != PAGE_ABSENT)
		assert_true(reclaim_once(&w.reclaim, w.pager) > 0);
	read_all(JOB);
	world_close(&w);
}

static void fault_on_victims(void *data)
{
	bool *parked = data;

	for (uint32_t page = 0; page < JOB; page++) {
		fake_wait(at(&w, page));
		assert_int_equal(world_fault(&w, page, page & 1 ? ACCESS_WP : ACCESS_READ),
				 PAGEIN_PARKED);
	}
	*parked = true;
}

/* While victims are dropped they are busy: faults park, and are woken when the pages have left. */
static void test_faults_during_the_drop_park_and_are_woken(void **state)
{
	bool parked = false;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 40, TEXT);
	fake_meanwhile(FAKE_DROP, fault_on_victims, &parked);
	evict(&w, JOB);
	assert_true(parked);
	for (uint32_t page = 0; page < JOB; page++)
		assert_false(fake_waiting(at(&w, page)));
	read_all(40);
	world_close(&w);
}

/* A holder of the busy bit kept job_clean away from a page, and gave it back as it was: a later job must take it. */
static void test_page_that_was_busy_when_its_turn_came(void **state)
{
	uint64_t x;

	(void)state;
	world_open(&w, &small);
	job_open();
	w.check_each = false;
	x = page_lock_wait(&w.only->word[3]);
	evict(&w, JOB - 1);
	page_unlock(&w.vm, w.only, 3, x, true);
	assert_int_equal(state_of(3), PAGE_CLEANING);
	for (unsigned i = 0; i < 2 * PAGES / JOB && word_resident(word_of(&w, 3)); i++)
		(void)reclaim_once(&w.reclaim, w.pager);
	assert_int_equal(state_of(3), PAGE_ABSENT);
	world_check(&w);
	read_all(JOB);
	world_close(&w);
}

static uint64_t locked_word;

static void lock_page_3(void *data)
{
	(void)data;
	locked_word = page_lock_wait(&w.only->word[3]);
}

/* The same when the job was abandoned. */
static void test_page_that_was_busy_when_its_job_was_abandoned(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 8, TEXT);
	w.check_each = false;
	fake_fail(FAKE_PROTECT, 1, 0, -ENOMEM);
	fake_meanwhile(FAKE_PROTECT, lock_page_3, NULL);
	evict(&w, 0);
	page_unlock(&w.vm, w.only, 3, locked_word, true);
	assert_int_equal(evict_all(&w), 8);
	world_check(&w);
	read_all(8);
	world_close(&w);
}

/* Page 3 is busy while the job is told that it is not there, and free again when the job would come to copy it. */
static void page_3_busy_until_page_5(void *data)
{
	unsigned *calls = data;

	if (++*calls == 1)
		lock_page_3(NULL);
	if (*calls == 7)
		page_unlock(&w.vm, w.only, 3, locked_word, true);
	else
		fake_meanwhile(FAKE_PROTECT, page_3_busy_until_page_5, calls);
}

static void test_page_that_was_busy_and_could_not_be_protected(void **state)
{
	unsigned calls = 0;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 8, TEXT);
	w.check_each = false;
	/* All at once, then 0, 1, 2 and 3. */
	fake_fail(FAKE_PROTECT, 1, 0, -ENOENT);
	fake_fail(FAKE_PROTECT, 5, 0, -ENOENT);
	fake_meanwhile(FAKE_PROTECT, page_3_busy_until_page_5, &calls);
	evict(&w, 0);
	if (calls < 7) {
		page_unlock(&w.vm, w.only, 3, locked_word, true);
		(void)fake_calm();
	}
	for (uint32_t page = 0; page < 8; page++)
		assert_true(word_resident(word_of(&w, page)));
	assert_int_equal(evict_all(&w), 8);
	world_check(&w);
	read_all(8);
	world_close(&w);
}

/* --- write protection --- */

/* Victims that lie together, or with pages between that cannot be written, are one call. */
static void test_victims_are_protected_as_ranges(void **state)
{
	(void)state;
	world_open(&w, &wide);
	/* 10 to 19 and 30 to 39 dirty; between them 20 to 24 never touched and 25 to 29 absent. */
	write_pages(&w, 25, 5, TEXT);
	evict(&w, 5);
	write_pages(&w, 10, 10, TEXT);
	write_pages(&w, 30, 10, TEXT);
	assert_int_equal(fake_count(FAKE_PROTECT), 1);
	evict(&w, 20);
	assert_int_equal(fake_count(FAKE_PROTECT), 2);
	assert_int_equal(fake_units(FAKE_PROTECT), 5 + 30);
	world_check(&w);
	world_close(&w);
}

/* A dirty page that stays is not protected: its owner's next write would fault for nothing. */
static void test_bystanders_are_not_protected(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 24, TEXT);
	for (uint32_t page = 1; page < 24; page += 3)
		give_credit(page, 5);
	/* Victims 0 | 2 3 | 5 6 | 8 9 | 11 */
	evict(&w, JOB);
	assert_int_equal(fake_count(FAKE_PROTECT), 5);
	assert_int_equal(fake_units(FAKE_PROTECT), JOB);
	for (uint32_t page = 0; page < 24; page++)
		assert_false(fake_protected(at(&w, page)));
	for (uint32_t page = 1; page < 24; page += 3)
		assert_int_equal(touch(&w, page, true), 0);
	world_close(&w);
}

/* As many spans as a job can have: each victim is one of its own. */
static void test_every_victim_is_a_span(void **state)
{
	enum { SPANS = 256 };

	(void)state;
	world_open(&w, &wide);
	write_pages(&w, 0, 2 * SPANS + 8, TEXT);
	for (uint32_t page = 1; page < 2 * SPANS; page += 2)
		give_credit(page, 5);
	evict(&w, SPANS);
	assert_int_equal(fake_count(FAKE_PROTECT), SPANS);
	assert_int_equal(fake_units(FAKE_PROTECT), SPANS);
	/* And worth to be gathered for, which has an end. */
	assert_int_equal(w.reclaim.gather.gatherings, 1);
	assert_int_equal(load_relaxed(&w.reclaim.gather.round), 0);
	world_check(&w);
	world_close(&w);
}

/* A clean page that stays is protected anyhow, and no reason for a second call. */
static void test_clean_pages_between_victims(void **state)
{
	(void)state;
	world_open(&w, &wide);
	write_pages(&w, 5, 1, TEXT);
	evict(&w, 1);
	read_page(&w, 5);
	give_credit(5, 5);
	write_pages(&w, 0, 5, TEXT);
	write_pages(&w, 6, 4, TEXT);
	/* 5 pays for each lap that the job makes in search of more. */
	assert_true(reclaim_once(&w.reclaim, w.pager) >= 9);
	assert_int_equal(fake_count(FAKE_PROTECT), 2);
	world_check(&w);
	world_close(&w);
}

/* Victims far apart, or of two regions, are calls of their own. */
static void test_distant_victims_are_protected_apart(void **state)
{
	const struct world_options two = {.pages = {8192, 64}};

	(void)state;
	world_open(&w, &two);
	touch(&w, 0, true);
	touch(&w, 4000, true);
	touch(&w, 8191, true);
	world_touch(&w, 1, 3, true);
	evict(&w, 4);
	assert_int_equal(fake_count(FAKE_PROTECT), 3);
	assert_int_equal(fake_units(FAKE_PROTECT), 4001 + 1 + 1);
	world_check(&w);
	world_close(&w);
}

/* Protecting fails: every page is dirty as before, one more fault at most, and the next job takes them all. */
static void test_abandoned_job_gives_every_page_back(void **state)
{
	/* Before the first call, and between the calls of a job that makes several. */
	(void)state;
	for (unsigned nth = 1; nth <= 3; nth++) {
		world_open(&w, &small);
		write_pages(&w, 0, 24, TEXT);
		for (uint32_t page = 1; page < 24; page += 3)
			give_credit(page, 5);
		fake_fail(FAKE_PROTECT, nth, 0, nth == 2 ? -EAGAIN : -EINVAL);
		evict(&w, 0);
		assert_int_equal(job_state(), IDLE);
		for (uint32_t page = 0; page < 24; page++) {
			assert_int_equal(state_of(page), PAGE_DIRTY);
			assert_true(touch(&w, page, true) <= 1);
			assert_false(fake_protected(at(&w, page)));
		}
		assert_int_equal(load_relaxed(&w.memory.objects), 0);
		assert_int_equal(evict_all(&w), 24);
		read_all(24);
		world_close(&w);
	}
}

/* --- dropping --- */

/* All victims leave in one call, adjacent ones as one run. */
static void test_victims_leave_in_one_call(void **state)
{
	(void)state;
	world_open(&w, &wide);
	write_pages(&w, 0, 10, TEXT);
	write_pages(&w, 20, 10, TEXT);
	for (uint32_t page = 40; page < 60; page += 2)
		touch(&w, page, true);
	evict(&w, 30);
	assert_int_equal(fake_count(FAKE_DROP), 1);
	assert_int_equal(fake_units(FAKE_DROP), 2 + 10);
	assert_int_equal(fake_count(FAKE_DISCARD), 0);
	world_check(&w);
	world_close(&w);
}

/* Nothing can be dropped: the pages stay, clean, with their copies, and are not packed again next time. */
static void test_failed_drop_keeps_the_pages(void **state)
{
	uint64_t packed;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, JOB, TEXT);
	for (uint32_t page = 0; page < JOB; page++)
		fake_lock(at(&w, page), true);
	evict(&w, 0);
	assert_int_equal(resident(&w), JOB);
	assert_int_equal(load_relaxed(&w.memory.objects), JOB);
	assert_int_equal(load_relaxed(&tenant_of(w.container)->evictions), 0);
	assert_int_equal(load_relaxed(&w.vm.count.moved_out), 0);
	for (uint32_t page = 0; page < JOB; page++)
		assert_int_equal(state_of(page), PAGE_CLEAN);
	packed = load_relaxed(&w.vm.count.packed_in);
	for (uint32_t page = 0; page < JOB; page++)
		fake_lock(at(&w, page), false);
	evict(&w, JOB);
	assert_int_equal(load_relaxed(&w.vm.count.packed_in), packed);
	read_all(JOB);
	world_close(&w);
}

/* The kernel stops at a page that it will not drop (mlock), wherever that is: what it has dropped before is absent and
 * comes back as it was; what it has not is clean. */
static void test_drop_that_fails_in_the_middle(void **state)
{
	(void)state;
	for (uint32_t locked = 0; locked < JOB; locked++) {
		for (unsigned gap = 1; gap <= 2; gap++) {
			world_open(&w, &small);
			for (uint32_t i = 0; i < JOB; i++)
				write_pages(&w, i * gap, 1, TEXT);
			fake_lock(at(&w, locked * gap), true);
			(void)reclaim_once(&w.reclaim, w.pager);
			world_check(&w);
			assert_int_equal(state_of(locked * gap), PAGE_CLEAN);
			read_all(JOB * gap);
			world_close(&w);
		}
	}
}

/* The same without a page to blame: a call that fails after some of its runs. */
static void test_drop_that_fails_after_some_runs(void **state)
{
	(void)state;
	for (size_t runs = 0; runs < JOB; runs++) {
		world_open(&w, &small);
		for (uint32_t i = 0; i < JOB; i++)
			write_pages(&w, i * 2, 1, TEXT);
		fake_fail(FAKE_DROP, 1, runs, -ENOMEM);
		(void)reclaim_once(&w.reclaim, w.pager);
		world_check(&w);
		read_all(JOB * 2);
		world_close(&w);
	}
}

/* --- room for copies --- */

/* The pool is full: pages that do not fit stay dirty, and those that do leave all the same. */
static void test_no_room_for_some_copies(void **state)
{
	const struct world_options tiny = {
		.max = 8192, .pages = {PAGES}, .free_frames = 64, .check_each = true};

	(void)state;
	world_open(&w, &tiny);
	/* There are 64 frames; 63 of them can hold pages that do not compress, 20 of which leave room. */
	write_pages(&w, 0, 100, NOISE);
	write_pages(&w, 100, 20, FILLED);
	while (reclaim_once(&w.reclaim, w.pager) > 0)
		;
	assert_in_range(load_relaxed(&w.memory.objects), 40, 63);
	for (uint32_t page = 100; page < 120; page++)
		assert_int_equal(state_of(page), PAGE_ABSENT);
	assert_int_equal(resident(&w), 100 - load_relaxed(&w.memory.objects));
	read_all(120);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_of_a_job_stay_readable),
		cmocka_unit_test(test_write_before_the_copy),
		cmocka_unit_test(test_write_after_the_copy),
		cmocka_unit_test(test_written_page_is_cleaned_by_a_later_job),
		cmocka_unit_test(test_faults_during_the_drop_park_and_are_woken),
		cmocka_unit_test(test_page_that_was_busy_when_its_turn_came),
		cmocka_unit_test(test_page_that_was_busy_when_its_job_was_abandoned),
		cmocka_unit_test(test_page_that_was_busy_and_could_not_be_protected),
		cmocka_unit_test(test_victims_are_protected_as_ranges),
		cmocka_unit_test(test_bystanders_are_not_protected),
		cmocka_unit_test(test_every_victim_is_a_span),
		cmocka_unit_test(test_clean_pages_between_victims),
		cmocka_unit_test(test_distant_victims_are_protected_apart),
		cmocka_unit_test(test_abandoned_job_gives_every_page_back),
		cmocka_unit_test(test_victims_leave_in_one_call),
		cmocka_unit_test(test_failed_drop_keeps_the_pages),
		cmocka_unit_test(test_drop_that_fails_in_the_middle),
		cmocka_unit_test(test_drop_that_fails_after_some_runs),
		cmocka_unit_test(test_no_room_for_some_copies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
