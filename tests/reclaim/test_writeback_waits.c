/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writeback: who waits for it, and who must not. Faults wait while copies can be written, and only then; pages that do not become
 * smaller are not copied for nothing.
 */
#include "writeback.h"

/* --- who waits for whom --- */

static unsigned yields;

static void count_yield(void *data)
{
	(void)data;
	yields++;
}

static void write_at_yield(void *data)
{
	(void)data;
	yields++;
	(void)writeback_once(&w.reclaim);
}

/* Only copies are left, and they do not fit. */
static void only_copies(void)
{
	world_open(&w, &plain);
	away(0, 200);
	container_set_max(w.container, 20 * PAGE_SIZE);
	over_share();
	yields = 0;
}

static enum room room_for(struct pager *pager)
{
	return reclaim_make_room(&w.reclaim, pager, w.container, PAGE_SIZE);
}

static void test_a_fault_waits_until_the_background_has_written(void **state)
{
	(void)state;
	only_copies();
	fake_on_yield(write_at_yield, NULL);
	assert_int_equal(room_for(w.pager), ROOM_MADE);
	assert_in_range(yields, 1, 200);
	world_check(&w);
	read_all(200);
	world_close(&w);
}

/* The background thread waits for faults to end, as it does before a container or a region goes. */
static void test_a_fault_does_not_wait_for_who_waits_for_it(void **state)
{
	(void)state;
	only_copies();
	fake_on_yield(count_yield, NULL);
	store_relaxed(&w.reclaim.quiescing, true);
	assert_int_equal(room_for(w.pager), ROOM_LATER);
	reclaim_throttle(&w.reclaim, w.pager, w.container);
	assert_int_equal(yields, 0);
	store_relaxed(&w.reclaim.quiescing, false);
	read_all(200);
	world_close(&w);
}

/* It serves a fault for a thread that cannot: there is nobody else to write. */
static void test_the_background_thread_does_not_wait_for_itself(void **state)
{
	(void)state;
	only_copies();
	fake_on_yield(count_yield, NULL);
	assert_int_equal(room_for(w.reclaim.pager), ROOM_MADE);
	assert_int_equal(yields, 0);
	/* Nowhere to write: it gives up soon. */
	fake_disk(0);
	container_set_max(w.container, 0);
	assert_int_not_equal(room_for(w.reclaim.pager), ROOM_MADE);
	assert_true(yields < 4);
	fake_disk(UINT64_MAX);
	read_all(200);
	world_close(&w);
}

/* And while that leaves the container over its limit, jobs are not tried one after the other; faults go over at once. */
static void test_jobs_wait_while_they_cannot_help(void **state)
{
	uint64_t calls;

	(void)state;
	world_open(&w, &plain);
	away(0, 40);
	fake_disk(0);
	assert_int_equal(write_until_failure(&w), -ENOSPC);
	container_set_max(w.container, 20 * PAGE_SIZE);
	write_pages(&w, 100, 30, NOISE);
	evict(&w, 0);
	calls = fake_count(FAKE_PROTECT);
	assert_int_not_equal(reclaim_make_room(&w.reclaim, w.pager, w.container, PAGE_SIZE),
			     ROOM_MADE);
	evict(&w, 0);
	reclaim_after_fault(&w.reclaim, w.pager);
	write_pages(&w, 200, 1, TEXT);
	assert_int_equal(fake_count(FAKE_PROTECT), calls);
	/* A fiftieth of a second later a job may have better luck. */
	fake_time_pass(20000000);
	(void)reclaim_make_room(&w.reclaim, w.pager, w.container, PAGE_SIZE);
	assert_true(fake_count(FAKE_PROTECT) > calls);
	world_check(&w);
	world_close(&w);
}

/* --- pages that do not become smaller --- */

static void full_of(enum contents contents)
{
	world_open(&w, &plain);
	/* So many that to check the whole world at each would be all that the test does. */
	w.check_each = false;
	write_pages(&w, 0, 600, contents);
	container_set_max(w.container, 600 * PAGE_SIZE);
	store_relaxed(&w.vm.memory_share, 600 * PAGE_SIZE / 4 * 3);
	yields = 0;
}

static uint64_t cap(void)
{
	return load_relaxed(&tenant_of(w.container)->cap);
}

/* A job of them at the limit makes no room, however much their share allows: as much as it has copied goes to the file, and the
 * others stay resident. */
static void test_what_a_job_does_not_make_smaller_goes_to_the_file(void **state)
{
	(void)state;
	full_of(NOISE);
	while (!cap())
		assert_true(reclaim_once(&w.reclaim, w.pager) > 0);
	background_turns(&w, 20);
	world_check(&w);
	assert_true(written() > 0);
	assert_true(container_usage(w.container, CHARGE_COMPRESSED) <
		    load_relaxed(&w.vm.memory_share) / 2);
	assert_true(resident(&w) > 600 / 2);
	container_set_max(w.container, WEIR_NO_LIMIT);
	read_all(600);
	world_close(&w);
}

/* While much waits to be written, a fault waits for that, and copies nothing; when it is written there is room. */
static void test_a_fault_copies_nothing_while_copies_wait(void **state)
{
	uint32_t jobs;

	(void)state;
	full_of(NOISE);
	container_set_max(w.container, WEIR_NO_LIMIT);
	while (container_usage(w.container, CHARGE_COMPRESSED) <= MIB(1) + PAGE_SIZE)
		assert_true(reclaim_once(&w.reclaim, w.pager) > 0);
	container_set_max(w.container, 600 * PAGE_SIZE);
	store_relaxed(&tenant_of(w.container)->cap, 1);
	jobs = w.reclaim.job;
	fake_on_yield(write_at_yield, NULL);
	assert_int_equal(room_for(w.pager), ROOM_MADE);
	assert_in_range(yields, 1, 200);
	assert_int_equal(w.reclaim.job, jobs);
	assert_true(written() > 0);
	fake_on_yield(NULL, NULL);
	container_set_max(w.container, WEIR_NO_LIMIT);
	read_all(600);
	world_close(&w);
}

/* The same of pages that do become smaller: they stay in memory, as long as they have their share. */
static void test_what_a_job_makes_smaller_stays(void **state)
{
	(void)state;
	full_of(TEXT);
	for (unsigned i = 0; i < 4; i++)
		(void)reclaim_once(&w.reclaim, w.pager);
	background_turns(&w, 10);
	assert_int_equal(cap(), 0);
	assert_int_equal(written(), 0);
	world_close(&w);
}

/* Faults do not wait for what cannot be written: that nothing is found, is found out once; and where nothing can be, they copy as before. */
static void test_no_job_waits_for_what_cannot_be_written(void **state)
{
	uint32_t jobs;

	(void)state;
	full_of(TEXT);
	/* Copies that the count has and the pages do not. */
	container_force(w.container, CHARGE_COMPRESSED, MIB(2));
	store_relaxed(&tenant_of(w.container)->cap, 1);
	assert_int_equal(writeback_once(&w.reclaim), 0);
	assert_int_equal(cap(), 0);
	store_relaxed(&tenant_of(w.container)->cap, 1);
	store_relaxed(&w.reclaim.write_closed, true);
	jobs = w.reclaim.job;
	(void)room_for(w.pager);
	assert_true(w.reclaim.job > jobs);
	container_uncharge(w.container, CHARGE_COMPRESSED, MIB(2));
	store_relaxed(&w.reclaim.write_closed, false);
	container_set_max(w.container, WEIR_NO_LIMIT);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_jobs_wait_while_they_cannot_help),
		cmocka_unit_test(test_a_fault_waits_until_the_background_has_written),
		cmocka_unit_test(test_a_fault_does_not_wait_for_who_waits_for_it),
		cmocka_unit_test(test_the_background_thread_does_not_wait_for_itself),
		cmocka_unit_test(test_what_a_job_does_not_make_smaller_goes_to_the_file),
		cmocka_unit_test(test_a_fault_copies_nothing_while_copies_wait),
		cmocka_unit_test(test_what_a_job_makes_smaller_stays),
		cmocka_unit_test(test_no_job_waits_for_what_cannot_be_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
