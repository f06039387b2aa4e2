/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Wait queue: who is woken, in what order, and that no wake-up is lost.
 *
 * Waiting is prepare, sleep, finish; a waiter that has only been prepared is in the queue already. So most
 * tests need no second thread: they queue waiters, wake, and read from waitq_finish who was woken.
 */
#include "help.h"

#include <sched.h>

#include "base/waitq.h"

enum { LONG_NS = 1000000000 }; /* a lost wake-up reads as a timeout */

/* The queue keeps shared before exclusive, its links agree, and the count is that of the list. */
static void assert_sound(const struct waitq *queue)
{
	const struct waiter *prev = NULL;
	unsigned count = 0;

	for (const struct waiter *w = queue->head; w; prev = w, w = w->next, count++) {
		assert_ptr_equal(w->prev, prev);
		if (prev && prev->kind == WAIT_EXCLUSIVE)
			assert_int_equal(w->kind, WAIT_EXCLUSIVE);
	}
	assert_int_equal(load_relaxed(&queue->queued), count);
}

static void test_empty_queue_wakes_nobody(void **state)
{
	struct waitq made, fixed = WAITQ_INIT;

	(void)state;
	waitq_init(&made);
	assert_false(waitq_active(&made));
	assert_int_equal(waitq_wake_one(&made), 0);
	assert_int_equal(waitq_wake_all(&made), 0);
	assert_false(waitq_active(&fixed));
	assert_int_equal(waitq_wake_one(&fixed), 0);
	assert_sound(&made);
}

/* Active from prepare until the waiter is woken or leaves. */
static void test_active_while_somebody_waits(void **state)
{
	struct waitq queue = WAITQ_INIT;
	struct waiter one, two;

	(void)state;
	waitq_prepare(&queue, &one, WAIT_SHARED);
	assert_true(waitq_active(&queue));
	waitq_prepare(&queue, &two, WAIT_EXCLUSIVE);
	waitq_finish(&queue, &one);
	assert_true(waitq_active(&queue));
	assert_int_equal(waitq_wake_one(&queue), 1);
	assert_false(waitq_active(&queue));
	waitq_finish(&queue, &two);
	assert_false(waitq_active(&queue));
	assert_sound(&queue);
}

/* Exclusive waiters: the last in is the first out, one to each wake-up. */
static void test_exclusive_waiters_are_lifo(void **state)
{
	struct waitq queue = WAITQ_INIT;
	struct waiter w[5];

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		waitq_prepare(&queue, &w[i], WAIT_EXCLUSIVE);
	assert_sound(&queue);
	for (unsigned i = 5; i-- > 0;) {
		assert_int_equal(waitq_wake_one(&queue), 1);
		assert_true(waitq_finish(&queue, &w[i]));
		assert_int_equal(load_relaxed(&queue.queued), i);
	}
}

/* wake_one wakes all shared waiters, also those that came last, and the first exclusive one, and no more. */
static void test_wake_one_wakes_all_shared_and_one_exclusive(void **state)
{
	static const enum wait_kind kinds[] = {
		WAIT_EXCLUSIVE, WAIT_SHARED,	WAIT_EXCLUSIVE,
		WAIT_SHARED,	WAIT_EXCLUSIVE, WAIT_SHARED,
	};
	static const bool woken[] = {false, true, false, true, true, true};
	struct waitq queue = WAITQ_INIT;
	struct waiter w[ARRAY_SIZE(kinds)];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		waitq_prepare(&queue, &w[i], kinds[i]);
	assert_sound(&queue);
	assert_int_equal(waitq_wake_one(&queue), 4);
	assert_sound(&queue);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		assert_int_equal(waitq_finish(&queue, &w[i]), woken[i]);
	assert_sound(&queue);
}

static void test_wake_one_wakes_shared_without_an_exclusive(void **state)
{
	struct waitq queue = WAITQ_INIT;
	struct waiter w[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		waitq_prepare(&queue, &w[i], WAIT_SHARED);
	assert_int_equal(waitq_wake_one(&queue), 3);
	for (unsigned i = 0; i < 3; i++)
		assert_true(waitq_finish(&queue, &w[i]));
}

static void test_wake_all_wakes_everybody(void **state)
{
	struct waitq queue = WAITQ_INIT;
	struct waiter w[6];

	(void)state;
	for (unsigned i = 0; i < 6; i++)
		waitq_prepare(&queue, &w[i], i % 2 ? WAIT_SHARED : WAIT_EXCLUSIVE);
	assert_int_equal(waitq_wake_all(&queue), 6);
	assert_false(waitq_active(&queue));
	for (unsigned i = 0; i < 6; i++)
		assert_true(waitq_finish(&queue, &w[i]));
}

/* A wake-up between prepare and sleep is kept: sleep returns at once. */
static void test_wake_before_sleep_is_not_lost(void **state)
{
	static const enum wait_kind kinds[] = {WAIT_SHARED, WAIT_EXCLUSIVE};
	struct waitq queue = WAITQ_INIT;
	struct waiter me;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		waitq_prepare(&queue, &me, kinds[i]);
		waitq_wake_one(&queue);
		assert_true(waitq_sleep(&me, LONG_NS));
		assert_true(waitq_sleep(&me, LONG_NS));
		assert_true(waitq_finish(&queue, &me));
	}
}

/* finish: true when a wake-up was consumed, else false and out of the queue; the next round starts afresh. */
static void test_finish_tells_whether_woken(void **state)
{
	struct waitq queue = WAITQ_INIT;
	struct waiter me;

	(void)state;
	waitq_prepare(&queue, &me, WAIT_EXCLUSIVE);
	assert_false(waitq_finish(&queue, &me));
	assert_int_equal(waitq_wake_one(&queue), 0);
	waitq_prepare(&queue, &me, WAIT_EXCLUSIVE);
	assert_int_equal(waitq_wake_one(&queue), 1);
	assert_int_equal(waitq_wake_one(&queue), 0); /* woken once, not again */
	assert_true(waitq_finish(&queue, &me));
	assert_false(waitq_finish(&queue, &me)); /* consumed */
	waitq_prepare(&queue, &me, WAIT_EXCLUSIVE);
	assert_false(waitq_finish(&queue, &me));
}

/* A wake-up goes to a waiter that still waits, not to one that has left. */
static void test_who_left_takes_no_wake_up(void **state)
{
	struct waitq queue = WAITQ_INIT;
	struct waiter old, left, gone;

	(void)state;
	waitq_prepare(&queue, &old, WAIT_EXCLUSIVE);
	waitq_prepare(&queue, &left, WAIT_EXCLUSIVE);
	waitq_prepare(&queue, &gone, WAIT_SHARED);
	assert_false(waitq_finish(&queue, &left));
	assert_false(waitq_finish(&queue, &gone));
	assert_int_equal(waitq_wake_one(&queue), 1);
	assert_true(waitq_finish(&queue, &old));
}

/* A timeout ends the sleep, not before its time, and leaves the waiter in the queue until finish. */
static void test_timeout(void **state)
{
	struct waitq queue = WAITQ_INIT;
	struct waiter me;
	uint64_t start;

	(void)state;
	waitq_prepare(&queue, &me, WAIT_EXCLUSIVE);
	start = now_ns();
	assert_false(waitq_sleep(&me, 2000000));
	assert_true(now_ns() - start >= 2000000);
	assert_true(waitq_active(&queue));
	assert_false(waitq_finish(&queue, &me));
	assert_false(waitq_active(&queue));
}

/* A wake-up that comes between the timeout and finish is not lost: finish owns up to it. */
static void test_wake_after_timeout_is_reported(void **state)
{
	struct waitq queue = WAITQ_INIT;
	struct waiter me;

	(void)state;
	waitq_prepare(&queue, &me, WAIT_EXCLUSIVE);
	assert_false(waitq_sleep(&me, 1000));
	assert_int_equal(waitq_wake_one(&queue), 1);
	assert_true(waitq_finish(&queue, &me));
}

enum { MODEL_WAITERS = 12 };
struct model {
	struct waitq queue;
	struct waiter w[MODEL_WAITERS];
	enum { OUT, WAITS, WOKEN_ONCE } is[MODEL_WAITERS];
	enum wait_kind kind[MODEL_WAITERS];
	uint64_t since[MODEL_WAITERS];
};

static unsigned model_wake(struct model *m, bool all)
{
	int newest = -1;
	unsigned woken = 0;

	for (int i = 0; i < MODEL_WAITERS; i++) {
		if (m->is[i] != WAITS)
			continue;
		if (m->kind[i] == WAIT_EXCLUSIVE && !all) {
			if (newest < 0 || m->since[newest] < m->since[i])
				newest = i;
			continue;
		}
		m->is[i] = WOKEN_ONCE;
		woken++;
	}
	if (newest >= 0) {
		m->is[newest] = WOKEN_ONCE;
		woken++;
	}
	return woken;
}

/* Any sequence of prepare, finish, wake_one and wake_all does what a plain array of waiters says. */
static void test_random_sequences_follow_the_model(void **state)
{
	struct model m = {.queue = WAITQ_INIT};
	uint64_t seed = 1;

	(void)state;
	for (unsigned step = 0; step < 50000; step++) {
		uint64_t dice = random_next(&seed);
		unsigned i = (unsigned)(dice >> 32) % MODEL_WAITERS;

		if (dice % 32 == 0) {
			assert_int_equal(waitq_wake_all(&m.queue), model_wake(&m, true));
		} else if (dice % 32 < 6) {
			assert_int_equal(waitq_wake_one(&m.queue), model_wake(&m, false));
		} else if (m.is[i] == OUT) {
			m.kind[i] = (dice >> 16) % 4 ? WAIT_EXCLUSIVE : WAIT_SHARED;
			m.since[i] = step;
			m.is[i] = WAITS;
			waitq_prepare(&m.queue, &m.w[i], m.kind[i]);
		} else {
			assert_int_equal(waitq_finish(&m.queue, &m.w[i]), m.is[i] == WOKEN_ONCE);
			m.is[i] = OUT;
		}
		assert_sound(&m.queue);
	}
}

enum { SLEEPERS = 4 };
struct sleepers {
	struct waitq queue;
	enum wait_kind kind;
	_Atomic unsigned count; /* how many have returned from their sleep */
	unsigned order
		[SLEEPERS]; /* who returned first, second, ...; written by the one that counts */
	bool slept_on[SLEEPERS];  /* a sleep that ended by its timeout */
	bool not_woken[SLEEPERS]; /* finish denied the wake-up */
	unsigned woken[SLEEPERS]; /* what each wake returned */
};

static void sleep_in_turn(struct sleepers *s, unsigned index)
{
	struct waiter me;

	/* One after the other, so that the order in the queue is known. */
	while (load_relaxed(&s->queue.queued) != index)
		sched_yield();
	waitq_prepare(&s->queue, &me, s->kind);
	s->slept_on[index] = !waitq_sleep(&me, 20ull * LONG_NS);
	s->not_woken[index] = !waitq_finish(&s->queue, &me);
	/* Release: pairs with the waker's acquire, which reads order[] after it. */
	s->order[load_relaxed(&s->count)] = index;
	add_acq_rel(&s->count, 1);
}

static void wake_sleepers_one_by_one(unsigned index, void *arg)
{
	struct sleepers *s = arg;

	if (index < SLEEPERS) {
		sleep_in_turn(s, index);
		return;
	}
	while (load_relaxed(&s->queue.queued) != SLEEPERS)
		sched_yield();
	for (unsigned i = 0; i < SLEEPERS; i++) {
		s->woken[i] = waitq_wake_one(&s->queue);
		while (load_acquire(&s->count) != i + 1)
			sched_yield();
	}
}

/* Threads asleep are woken one to a wake-up, the last that lay down first. */
static void test_sleeping_threads_wake_lifo(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		struct sleepers s = {.queue = WAITQ_INIT, .kind = WAIT_EXCLUSIVE};

		run_threads(SLEEPERS + 1, wake_sleepers_one_by_one, &s);
		for (unsigned i = 0; i < SLEEPERS; i++) {
			assert_int_equal(s.woken[i], 1);
			assert_int_equal(s.order[i], SLEEPERS - 1 - i);
			assert_false(s.slept_on[i]);
			assert_false(s.not_woken[i]);
		}
	}
}

struct crowd {
	struct waitq queue;
	bool all;		 /* by wake_all, else wake_one */
	_Atomic unsigned failed; /* slept to the timeout, or was not woken */
	unsigned woken;
};

static void wake_the_crowd(unsigned index, void *arg)
{
	struct crowd *c = arg;
	struct waiter me;

	if (index == 0) {
		while (load_relaxed(&c->queue.queued) != SLEEPERS)
			sched_yield();
		c->woken = c->all ? waitq_wake_all(&c->queue) : waitq_wake_one(&c->queue);
		return;
	}
	waitq_prepare(&c->queue, &me, c->all && index % 2 ? WAIT_EXCLUSIVE : WAIT_SHARED);
	if (!waitq_sleep(&me, 20ull * LONG_NS))
		add_relaxed(&c->failed, 1);
	if (!waitq_finish(&c->queue, &me))
		add_relaxed(&c->failed, 1);
}

/* One wake_all wakes threads asleep of both kinds, one wake_one all shared ones. */
static void test_one_call_wakes_a_crowd(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		struct crowd c = {.queue = WAITQ_INIT, .all = round % 2};

		run_threads(SLEEPERS + 1, wake_the_crowd, &c);
		assert_int_equal(c.woken, SLEEPERS);
		assert_int_equal(c.failed, 0);
		assert_false(waitq_active(&c.queue));
	}
}

struct interrupted {
	struct waitq queue;
	_Atomic bool ready, over;
	pthread_t sleeper; /* written before ready */
	bool ended_by_timeout, was_woken;
};

static void on_signal(int number)
{
	(void)number;
}

static void sleep_under_signals(unsigned index, void *arg)
{
	struct interrupted *t = arg;
	struct waiter me;

	if (index == 0) {
		t->sleeper = pthread_self();
		waitq_prepare(&t->queue, &me, WAIT_EXCLUSIVE);
		store_release(&t->ready, true); /* pairs with the load below */
		t->ended_by_timeout = !waitq_sleep(&me, 20ull * LONG_NS);
		t->was_woken = waitq_finish(&t->queue, &me);
		store_relaxed(&t->over, true);
	} else {
		while (!load_acquire(&t->ready))
			sched_yield();
		while (!load_relaxed(&t->over)) {
			pthread_kill(t->sleeper, SIGUSR1);
			sched_yield();
		}
	}
}

/* A signal ends the sleep early without a wake-up, and finish does not claim one. */
static void test_signal_ends_the_sleep_unwoken(void **state)
{
	struct sigaction act = {.sa_handler = on_signal}, before;
	struct interrupted t = {.queue = WAITQ_INIT};

	(void)state;
	sigaction(SIGUSR1, &act, &before);
	run_threads(2, sleep_under_signals, &t);
	sigaction(SIGUSR1, &before, NULL);
	assert_false(t.ended_by_timeout);
	assert_false(t.was_woken);
	assert_false(waitq_active(&t.queue));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty_queue_wakes_nobody),
		cmocka_unit_test(test_active_while_somebody_waits),
		cmocka_unit_test(test_exclusive_waiters_are_lifo),
		cmocka_unit_test(test_wake_one_wakes_all_shared_and_one_exclusive),
		cmocka_unit_test(test_wake_one_wakes_shared_without_an_exclusive),
		cmocka_unit_test(test_wake_all_wakes_everybody),
		cmocka_unit_test(test_wake_before_sleep_is_not_lost),
		cmocka_unit_test(test_finish_tells_whether_woken),
		cmocka_unit_test(test_who_left_takes_no_wake_up),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_wake_after_timeout_is_reported),
		cmocka_unit_test(test_random_sequences_follow_the_model),
		cmocka_unit_test(test_sleeping_threads_wake_lifo),
		cmocka_unit_test(test_one_call_wakes_a_crowd),
		cmocka_unit_test(test_signal_ends_the_sleep_unwoken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
