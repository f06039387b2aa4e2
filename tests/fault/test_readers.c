/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Leader and followers: at most one handler reads while one is wanted and none waits for a file, a hand-over wakes exactly
 * one follower, and no place stays free while one sleeps.
 *
 * Followers that sleep are waiters which the test queues itself: it reads from waitq_finish which of them were woken. What
 * comes between two steps of readers_enter is done in a hook behind waitq_prepare and in place of waitq_sleep (the linker
 * wraps them, see meson.build).
 */
#include "../unit.h"

#include <pthread.h>
#include <sched.h>

#include "fault/readers.h"

static struct {
	void (*prepared)(struct readers *readers); /* once, after the next waitq_prepare */
	void (*asleep)(struct readers *readers);   /* once, in place of the next waitq_sleep */
	struct readers *readers;
} hook;

static void hook_run(void (**hooked)(struct readers *))
{
	void (*run)(struct readers *) = *hooked;

	*hooked = NULL;
	run(hook.readers);
}

void __real_waitq_prepare(struct waitq *queue, struct waiter *me, enum wait_kind kind);
void __wrap_waitq_prepare(struct waitq *queue, struct waiter *me, enum wait_kind kind);
void __wrap_waitq_prepare(struct waitq *queue, struct waiter *me, enum wait_kind kind)
{
	__real_waitq_prepare(queue, me, kind);
	if (hook.prepared)
		hook_run(&hook.prepared);
}

bool __real_waitq_sleep(struct waiter *me, uint64_t timeout_ns);
bool __wrap_waitq_sleep(struct waiter *me, uint64_t timeout_ns);
bool __wrap_waitq_sleep(struct waiter *me, uint64_t timeout_ns)
{
	if (hook.asleep)
		hook_run(&hook.asleep);
	return __real_waitq_sleep(me, timeout_ns);
}

enum { SLEEPERS = 4 };

static struct waiter sleeper[SLEEPERS];

static void sleepers_queue(struct readers *r)
{
	for (unsigned i = 0; i < SLEEPERS; i++)
		waitq_prepare(&r->followers, &sleeper[i], WAIT_EXCLUSIVE);
}

/* Takes all of them out of the queue: how many had been woken? */
static unsigned sleepers_woken(struct readers *r)
{
	unsigned woken = 0;

	for (unsigned i = 0; i < SLEEPERS; i++)
		woken += waitq_finish(&r->followers, &sleeper[i]);
	return woken;
}

/* The leader waits for a file: one follower is woken, not none and not two; when the leader comes back it finds its place
 * taken, and the follower's next yield wakes nobody. */
static void test_a_hand_over_wakes_exactly_one(void **state)
{
	enum place leader = PLACE_NONE, follower = PLACE_NONE;
	struct readers r;

	(void)state;
	readers_init(&r, 1);
	readers_enter(&r, &leader);
	assert_int_equal(leader, PLACE_READING);
	sleepers_queue(&r);
	/* A fault that does not wait: nobody is woken, and the place is kept. */
	readers_set(&r, 1);
	readers_yield(&r, &leader);
	readers_enter(&r, &leader);
	assert_int_equal(load_relaxed(&r.woken), 0);
	readers_block(&r, &leader);
	assert_int_equal(load_relaxed(&r.woken), 1);
	/* Another wait of the same fault. */
	readers_block(&r, &leader);
	assert_int_equal(load_relaxed(&r.woken), 1);
	/* Who was woken takes the place, and does not wake another one for the one more. */
	readers_enter(&r, &follower);
	assert_int_equal(follower, PLACE_READING);
	assert_int_equal(load_relaxed(&r.reading), 1);
	assert_int_equal(load_relaxed(&r.woken), 1);
	assert_int_equal(sleepers_woken(&r), 1);
}

static enum place first;

static void first_yields(struct readers *r)
{
	assert_int_equal(load_relaxed(&r->reading), 1);
	readers_block(r, &first);
}

/* While nobody waits for a file there is one place: a second handler goes to sleep, and has it only when the first has
 * given it up. */
static void test_one_reads(void **state)
{
	enum place second = PLACE_NONE;
	struct readers r;

	(void)state;
	readers_init(&r, 1);
	first = PLACE_NONE;
	readers_enter(&r, &first);
	hook.readers = &r;
	hook.asleep = first_yields;
	readers_enter(&r, &second);
	assert_null(hook.asleep);
	assert_int_equal(first, PLACE_BLOCKED);
	assert_int_equal(second, PLACE_READING);
	assert_int_equal(load_relaxed(&r.woken), 1);
	assert_int_equal(load_relaxed(&r.reading), 1);
}

/* One reader was wanted, four are: they come forward one by one, each woken by the one before, and a fifth is not. */
static void test_each_wanted_reader_is_woken(void **state)
{
	enum place place[4] = {PLACE_NONE};
	struct readers r;

	(void)state;
	readers_init(&r, 1);
	readers_enter(&r, &place[0]);
	sleepers_queue(&r);
	readers_set(&r, 4);
	for (unsigned i = 1; i < 4; i++) {
		assert_int_equal(load_relaxed(&r.woken), i);
		readers_enter(&r, &place[i]);
		assert_int_equal(place[i], PLACE_READING);
	}
	assert_int_equal(load_relaxed(&r.woken), 3);
	assert_int_equal(sleepers_woken(&r), 3);
	/* And back: three find that they are too many, and wake nobody. */
	readers_set(&r, 1);
	for (unsigned i = 0; i < 4; i++)
		readers_yield(&r, &place[i]);
	assert_int_equal(load_relaxed(&r.reading), 1);
	assert_int_equal(load_relaxed(&r.woken), 3);
}

static void two_are_wanted(struct readers *r)
{
	readers_set(r, 2);
}

/* A handler on its way to the free place has just queued itself when one reader more is wanted, and gets that wake-up, as the
 * newest: it takes the first place, and the wake-up goes on to the follower who sleeps. */
static void test_a_wake_up_is_not_eaten(void **state)
{
	enum place place = PLACE_NONE;
	struct readers r;

	(void)state;
	readers_init(&r, 1);
	sleepers_queue(&r);
	hook.readers = &r;
	hook.prepared = two_are_wanted;
	readers_enter(&r, &place);
	assert_null(hook.prepared);
	assert_int_equal(place, PLACE_READING);
	assert_int_equal(load_relaxed(&r.woken), 2);
	assert_int_equal(sleepers_woken(&r), 1);
}

/* --- with threads --- */

enum { HANDLERS = 6, ROUNDS = 3000 };

static struct {
	struct readers readers;
	_Atomic uint32_t in_read, in_read_most;
	_Atomic uint32_t left;	   /* rounds, which stand for faults */
	_Atomic uint32_t given_up; /* places */
	bool blocks;
} many;

/* A handler without a userfaultfd: what stands between enter and the rest is its read. */
static void *handler_main(void *arg)
{
	enum place place = PLACE_NONE;
	uint32_t left = 1;

	while (left) {
		uint32_t inside, most;

		readers_enter(&many.readers, &place);
		/* Stopped. */
		if (place != PLACE_READING)
			break;
		inside = add_relaxed(&many.in_read, 1) + 1;
		most = load_relaxed(&many.in_read_most);
		while (inside > most && !cas_relaxed(&many.in_read_most, &most, inside))
			;
		left = load_relaxed(&many.left);
		while (left && !cas_relaxed(&many.left, &left, left - 1))
			;
		sched_yield();
		sub_relaxed(&many.in_read, 1);
		if (many.blocks && left % 4 == (uintptr_t)arg % 4) {
			readers_block(&many.readers, &place);
			add_relaxed(&many.given_up, 1);
			sched_yield();
		}
		/* Who came back finds one reader too many. */
		if (place == PLACE_READING) {
			readers_yield(&many.readers, &place);
			add_relaxed(&many.given_up, place == PLACE_NONE);
		}
	}
	readers_stop(&many.readers);
	return NULL;
}

static void many_run(bool blocks)
{
	pthread_t thread[HANDLERS];

	memset(&many, 0, sizeof(many));
	readers_init(&many.readers, 1);
	store_relaxed(&many.left, ROUNDS);
	many.blocks = blocks;
	for (uintptr_t i = 0; i < HANDLERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, handler_main, (void *)i), 0);
	for (unsigned i = 0; i < HANDLERS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(load_relaxed(&many.left), 0);
}

/* Nothing waits: one handler serves all of it, and no follower is woken before the end. */
static void test_no_wake_ups_without_waits(void **state)
{
	(void)state;
	many_run(false);
	assert_int_equal(load_relaxed(&many.readers.woken), 0);
	assert_int_equal(load_relaxed(&many.in_read_most), 1);
}

/* Faults that wait: at most one wake-up for each place that is given up, and one reader more while somebody waits. */
static void test_at_most_one_wake_up_for_a_hand_over(void **state)
{
	(void)state;
	many_run(true);
	assert_true(load_relaxed(&many.given_up) > 0);
	assert_in_range(load_relaxed(&many.readers.woken), 0, load_relaxed(&many.given_up));
	assert_in_range(load_relaxed(&many.in_read_most), 1, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_hand_over_wakes_exactly_one),
		cmocka_unit_test(test_one_reads),
		cmocka_unit_test(test_each_wanted_reader_is_woken),
		cmocka_unit_test(test_a_wake_up_is_not_eaten),
		cmocka_unit_test(test_no_wake_ups_without_waits),
		cmocka_unit_test(test_at_most_one_wake_up_for_a_hand_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
