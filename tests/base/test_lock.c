/* SPDX-License-Identifier: BSD-2-Clause */
/* Locks: mutual exclusion, sleeping and waking, and the order by rank. */
#include "help.h"

#include <errno.h>
#include <sched.h>

#include "base/lock.h"

/* Ranks of these tests: weir's own come and go. */
#define LOW ((enum lock_rank)30)
#define MIDDLE ((enum lock_rank)50)
#define HIGH ((enum lock_rank)60)

/* Held by nobody: a static initialiser and lock_init give the same, and try tells held from free. */
static void test_try_fails_while_held_and_only_then(void **state)
{
	struct lock made, fixed = LOCK_INIT(HIGH, "fixed");

	(void)state;
	lock_init(&made, MIDDLE, "made");
	assert_true(lock_try(&made));
	assert_false(lock_try(&made));
	assert_true(lock_try(&fixed));
	lock_release(&made);
	assert_false(lock_try(&fixed));
	assert_true(lock_try(&made));
	lock_release(&made);
	lock_release(&fixed);
	lock_acquire(&made);
	assert_false(lock_try(&made));
	lock_release(&made);
}

enum { ROUNDS = 300000, CONTENDERS = 6 };

struct contended {
	struct lock lock;
	uint64_t count;	      /* (lock) plain on purpose: two inside at once lose additions */
	volatile bool inside; /* (lock) */
	_Atomic unsigned clashes;
};

static void inside(struct contended *c)
{
	if (c->inside)
		add_relaxed(&c->clashes, 1);
	c->inside = true;
	c->count++;
	c->inside = false;
}

static void add_under_lock(unsigned index, void *arg)
{
	struct contended *c = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		/* Every third thread polls with try: both ways in exclude each other. */
		if (index % 3 == 0) {
			while (!lock_try(&c->lock))
				sched_yield();
		} else {
			lock_acquire(&c->lock);
		}
		inside(c);
		/* Sometimes held across a switch, so that others go to sleep on the word. */
		if (i % 1024 == 0)
			sched_yield();
		lock_release(&c->lock);
	}
}

static void test_one_thread_inside_at_a_time(void **state)
{
	struct contended c = {.lock = LOCK_INIT(HIGH, "contended")};

	(void)state;
	run_threads(CONTENDERS, add_under_lock, &c);
	assert_int_equal(c.count, CONTENDERS * ROUNDS);
	assert_int_equal(c.clashes, 0);
	assert_int_equal(load_relaxed(&c.lock.word), 0);
}

struct handover {
	struct lock lock;
	_Atomic bool held; /* (A) */
	unsigned written;  /* (lock) */
	unsigned seen;
};

static void hand_over(unsigned index, void *arg)
{
	struct handover *h = arg;

	if (index == 0) {
		lock_acquire(&h->lock);
		store_relaxed(&h->held, true);
		while (load_relaxed(&h->lock.word) != 2) /* 2: waited for */
			sched_yield();
		h->written = 42;
	} else {
		while (!load_relaxed(&h->held))
			sched_yield();
		lock_acquire(&h->lock);
		h->seen = h->written;
	}
	lock_release(&h->lock);
}

/* A release wakes a thread that has given up spinning, and hands it what was written inside. */
static void test_release_wakes_the_sleeper(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		struct handover h = {.lock = LOCK_INIT(HIGH, "handover")};

		run_threads(2, hand_over, &h);
		assert_int_equal(h.seen, 42);
		assert_int_equal(load_relaxed(&h.lock.word), 0);
	}
}

/* A futex sleeps only while the word is as expected, and no longer than the timeout. */
static void test_futex_answers(void **state)
{
	_Atomic uint32_t word = 7;
	uint64_t start;

	(void)state;
	assert_int_equal(futex_wait(&word, 8, 0), -EAGAIN);
	start = now_ns();
	assert_int_equal(futex_wait(&word, 7, 2000000), -ETIMEDOUT);
	assert_true(now_ns() - start >= 2000000);
	assert_int_equal(futex_wake(&word, 1), 0);
}

#ifdef WEIR_DEBUG

static struct lock low = LOCK_INIT(LOW, "the-low-one");
static struct lock middle = LOCK_INIT(MIDDLE, "the-middle-one");
static struct lock middle2 = LOCK_INIT(MIDDLE, "its-equal");
static struct lock high = LOCK_INIT(HIGH, "the-high-one");

static void take_wrong_way(void *arg)
{
	(void)arg;
	lock_acquire(&high);
	lock_acquire(&low);
}

/* Taking a lower rank while a higher one is held panics, with both names and ranks. */
static void test_falling_rank_panics(void **state)
{
	struct child child;

	(void)state;
	run_child(&child, take_wrong_way, NULL);
	assert_panicked(&child);
	assert_says(&child, "the-low-one (rank 30)");
	assert_says(&child, "the-high-one (rank 60)");
}

static void take_equals(void *arg)
{
	(void)arg;
	lock_acquire(&middle);
	lock_acquire(&middle2);
}

/* Ranks must rise: two locks of one rank have no order. */
static void test_equal_rank_panics(void **state)
{
	struct child child;

	(void)state;
	run_child(&child, take_equals, NULL);
	assert_panicked(&child);
	assert_says(&child, "the-middle-one");
	assert_says(&child, "its-equal");
}

static void take_twice(void *arg)
{
	(void)arg;
	lock_acquire(&middle);
	lock_acquire(&middle);
}

/* Not recursive: a panic, not a thread that waits for itself. */
static void test_taking_twice_panics(void **state)
{
	struct child child;

	(void)state;
	run_child(&child, take_twice, NULL);
	assert_panicked(&child);
	assert_says(&child, "the-middle-one");
}

static void take_under_the_highest_held(void *arg)
{
	(void)arg;
	/* The last one taken is not the highest one held. */
	lock_acquire(&high);
	if (!lock_try(&low))
		_exit(1);
	lock_acquire(&middle);
}

/* A lock is measured against every lock held, not only against the last one. */
static void test_try_does_not_lift_the_order(void **state)
{
	struct child child;

	(void)state;
	run_child(&child, take_under_the_highest_held, NULL);
	assert_panicked(&child);
	assert_says(&child, "the-middle-one");
	assert_says(&child, "the-high-one");
}

static void try_falling(void *arg)
{
	(void)arg;
	lock_acquire(&high);
	if (!lock_try(&middle) || !lock_try(&middle2) || !lock_try(&low))
		_exit(1);
	lock_release(&high);
	lock_release(&low);
	lock_release(&middle2);
	lock_release(&middle);
}

/* A try-lock cannot wait, so it may go against the order. */
static void test_try_may_fall(void **state)
{
	struct child child;

	(void)state;
	run_child(&child, try_falling, NULL);
	assert_string_equal(child.stderr_, "");
	assert_int_equal(child.status, 0);
}

static void release_in_any_order(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 100; i++) {
		lock_acquire(&low);
		lock_acquire(&middle);
		lock_acquire(&high);
		lock_release(&low);
		lock_release(&high);
		lock_acquire(&high);
		lock_release(&middle);
		lock_release(&high);
	}
	/* Nothing is remembered as held: the lowest rank can be taken again. */
	lock_acquire(&low);
	lock_release(&low);
}

static void test_release_order_is_free(void **state)
{
	struct child child;

	(void)state;
	run_child(&child, release_in_any_order, NULL);
	assert_string_equal(child.stderr_, "");
	assert_int_equal(child.status, 0);
}

static void forget_the_low_one_and_fall(void *arg)
{
	(void)arg;
	lock_acquire(&low);
	lock_acquire(&high);
	lock_release(&low);
	lock_acquire(&middle);
}

/* After a release in another order, what is still held still counts. */
static void test_release_forgets_only_its_own(void **state)
{
	struct child child;

	(void)state;
	run_child(&child, forget_the_low_one_and_fall, NULL);
	assert_panicked(&child);
	assert_says(&child, "the-high-one");
}

static void acquire_middle(unsigned index, void *arg)
{
	(void)index;
	lock_acquire(arg);
}

static void release_it(void *arg)
{
	lock_release(arg);
}

/* Only the thread that took a lock may release it. */
static void test_release_by_a_stranger_panics(void **state)
{
	struct lock taken = LOCK_INIT(MIDDLE, "somebody-elses");
	struct child child;

	(void)state;
	run_threads(1, acquire_middle, &taken);
	run_child(&child, release_it, &taken);
	assert_panicked(&child);
	assert_says(&child, "somebody-elses");
}

static void test_release_of_a_free_lock_panics(void **state)
{
	struct child child;

	(void)state;
	run_child(&child, release_it, &middle);
	assert_panicked(&child);
	assert_says(&child, "the-middle-one");
}

static void use_low(unsigned index, void *arg)
{
	(void)index;
	(void)arg;
	lock_acquire(&low);
	lock_release(&low);
}

/* What one thread holds does not bind another thread. */
static void test_order_is_by_thread(void **state)
{
	(void)state;
	lock_acquire(&high);
	run_threads(1, use_low, NULL);
	lock_release(&high);
}

static void hold_too_many(void *arg)
{
	static struct lock many[64];

	(void)arg;
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++) {
		lock_init(&many[i], HIGH, "many");
		if (!lock_try(&many[i]))
			_exit(1);
	}
}

/* The record of held locks has an end, and says so rather than write past it. */
static void test_holding_too_many_panics(void **state)
{
	struct child child;

	(void)state;
	run_child(&child, hold_too_many, NULL);
	assert_panicked(&child);
}

#else

static void test_order_needs_a_debug_build(void **state)
{
	(void)state;
	skip();
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_try_fails_while_held_and_only_then),
		cmocka_unit_test(test_one_thread_inside_at_a_time),
		cmocka_unit_test(test_release_wakes_the_sleeper),
		cmocka_unit_test(test_futex_answers),
#ifdef WEIR_DEBUG
		cmocka_unit_test(test_falling_rank_panics),
		cmocka_unit_test(test_equal_rank_panics),
		cmocka_unit_test(test_taking_twice_panics),
		cmocka_unit_test(test_try_does_not_lift_the_order),
		cmocka_unit_test(test_try_may_fall),
		cmocka_unit_test(test_release_order_is_free),
		cmocka_unit_test(test_release_forgets_only_its_own),
		cmocka_unit_test(test_release_by_a_stranger_panics),
		cmocka_unit_test(test_release_of_a_free_lock_panics),
		cmocka_unit_test(test_order_is_by_thread),
		cmocka_unit_test(test_holding_too_many_panics),
#else
		cmocka_unit_test(test_order_needs_a_debug_build),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
