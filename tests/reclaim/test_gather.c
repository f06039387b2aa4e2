/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Gathering: who comes with a fault sleeps until the spans are protected, and no longer; nobody is waited for without end;
 * the cheaper way is taken. The clock is the test's.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "reclaim/gather.h"

enum { MANY = 64, FEW = 7, PEOPLE = 3 };

static struct gather g;
static _Atomic uint32_t went_on; /* (A) */
static _Atomic uint64_t time_ns; /* (A) */
static uint64_t look_ns;	 /* that goes by with each look at the clock */
static uint32_t come;		 /* so many, as soon as somebody gathers */

uint64_t __wrap_now_ns(void);
uint64_t __wrap_now_ns(void)
{
	if (come && load_relaxed(&g.round))
		store_relaxed(&g.joined, come);
	return add_relaxed(&time_ns, look_ns);
}

/* Sleepers sleep until they are woken, whatever they say; but for what nobody ends. */
static bool nobody_wakes;
static uint32_t round_after; /* the one that is under way when their time is over */

int __real_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns);
int __wrap_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns);
int __wrap_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
	assert_true(timeout_ns > 0);
	if (!nobody_wakes)
		return __real_futex_wait(word, expected, 0);
	store_relaxed(word, round_after);
	return -ETIMEDOUT;
}

static int setup(void **state)
{
	(void)state;
	g = (struct gather){0};
	look_ns = 0;
	come = 0;
	nobody_wakes = false;
	store_relaxed(&went_on, 0);
	return 0;
}

/* Comes with one fault, as soon as somebody gathers. */
static void *comes(void *data)
{
	while (!gather_join(&g))
		sched_yield();
	add_relaxed(&went_on, 1);
	return data;
}

static void test_who_comes_sleeps_until_the_end(void **state)
{
	pthread_t people[PEOPLE];

	(void)state;
	for (unsigned i = 0; i < PEOPLE; i++)
		assert_int_equal(pthread_create(&people[i], NULL, comes, NULL), 0);
	assert_true(gather_begin(&g, MANY));
	/* Those who were not there in time come into the round that is under way. */
	while (load_relaxed(&g.joined) < PEOPLE)
		sched_yield();
	for (unsigned i = 0; i < 1000; i++)
		sched_yield();
	assert_int_equal(load_relaxed(&went_on), 0);
	gather_end(&g, true, MANY);
	for (unsigned i = 0; i < PEOPLE; i++)
		assert_int_equal(pthread_join(people[i], NULL), 0);
	assert_int_equal(load_relaxed(&went_on), PEOPLE);
	assert_false(gather_join(&g));
}

/* The clock stands still, and nobody comes: it goes on all the same. */
static void test_nobody_is_waited_for_without_end(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		const bool gathered = gather_begin(&g, MANY);

		assert_true(gathered || i);
		gather_end(&g, gathered, MANY);
		assert_int_equal(load_relaxed(&g.round), 0);
	}
	assert_false(gather_join(&g));
}

/* Who gathers does not get to run: one fault waits a moment, and those after it do not. */
static void test_a_round_that_nobody_ends_keeps_one_fault(void **state)
{
	(void)state;
	nobody_wakes = true;
	store_relaxed(&g.round, 1);
	round_after = 1;
	assert_true(gather_join(&g));
	assert_false(gather_join(&g));
}

/* But not another one, which began meanwhile. */
static void test_only_its_own_round_is_ended(void **state)
{
	(void)state;
	nobody_wakes = true;
	store_relaxed(&g.round, 1);
	round_after = 3;
	assert_true(gather_join(&g));
	assert_int_equal(load_relaxed(&g.round), 3);
}

static void test_few_spans_interrupt(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 200; i++) {
		assert_false(gather_begin(&g, FEW));
		gather_end(&g, false, FEW);
	}
	assert_false(gather_begin(&g, 0));
	gather_end(&g, false, 0);
}

/* Of so many jobs, how many gather, where a span costs so much either way? */
static unsigned gatherings(unsigned jobs, uint64_t plain_ns, uint64_t gathered_ns)
{
	unsigned n = 0;

	for (unsigned i = 0; i < jobs; i++) {
		const bool gathered = gather_begin(&g, MANY);

		add_relaxed(&time_ns, MANY * (gathered ? gathered_ns : plain_ns));
		gather_end(&g, gathered, MANY);
		n += gathered;
	}
	return n;
}

/* Also where what is cheaper changes: the other way is tried now and then. */
static void test_the_cheaper_way_is_taken(void **state)
{
	enum { JOBS = 8192 };

	(void)state;
	assert_true(gatherings(JOBS, 15000, 1500) > JOBS * 9 / 10);
	assert_true(gatherings(JOBS, 1000, 1500) < JOBS * 3 / 10);
	assert_true(gatherings(JOBS, 1000, 1500) < JOBS / 10);
	assert_true(gatherings(JOBS, 15000, 1500) > JOBS * 7 / 10);
	assert_true(gatherings(JOBS, 15000, 1500) > JOBS * 9 / 10);
}

/* Also where gathering is tried only now and then: how many come may change. */
static void test_who_is_to_come_is_found_out(void **state)
{
	enum { JOBS = 64 * 64 };

	(void)state;
	look_ns = 1000;
	for (come = 3; come > 0; come--) {
		assert_true(gatherings(JOBS, 100, 5000) < JOBS / 10);
		assert_int_equal(g.company, come);
	}
}

/* What is waited for in vain counts as its cost. */
static void test_waiting_in_vain_is_given_up(void **state)
{
	enum { JOBS = 2048 };

	(void)state;
	look_ns = 1000;
	assert_true(gatherings(JOBS, 300, 300) < JOBS / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_who_comes_sleeps_until_the_end, setup),
		cmocka_unit_test_setup(test_nobody_is_waited_for_without_end, setup),
		cmocka_unit_test_setup(test_a_round_that_nobody_ends_keeps_one_fault, setup),
		cmocka_unit_test_setup(test_only_its_own_round_is_ended, setup),
		cmocka_unit_test_setup(test_few_spans_interrupt, setup),
		cmocka_unit_test_setup(test_the_cheaper_way_is_taken, setup),
		cmocka_unit_test_setup(test_who_is_to_come_is_found_out, setup),
		cmocka_unit_test_setup(test_waiting_in_vain_is_given_up, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
