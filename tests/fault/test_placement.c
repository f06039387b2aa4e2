/* SPDX-License-Identifier: BSD-2-Clause */
/* Placement: who is bound, when and where to, and what ends it. */
#include "placement_world.h"

/* STREAK_FIRST faults in a row bind the thread and the handler to the thread's CPU; one fewer binds nobody. */
static void test_streak_binds(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 2;
	int own_cpu = -1;

	(void)state;
	attach_as(p, 1, &word);
	assert_int_equal(faults(p, 1, &own_cpu, STREAK_FIRST - 1), 2);
	assert_affinity(1, 0, 1, 2, 3);
	assert_int_equal(faults(p, 1, &own_cpu, 1), 1);
	assert_affinity(1, 2);
	assert_affinity(HANDLER, 2);
	assert_int_equal(own_cpu, 2);
	assert_int_equal(load_relaxed(&p->bound_tid), 1);
	assert_int_equal(load_relaxed(&p->bindings), 1);
	assert_int_equal(faults(p, 1, &own_cpu, 100), 1);
	assert_int_equal(load_relaxed(&p->bindings), 1);
}

/* A thread that did not attach keeps its affinity, and so do those that it creates; with PAIR it is bound where the handler is. */
static void test_unattached_is_not_bound(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	int own_cpu = -1;

	(void)state;
	world.cpu_now = 3;
	assert_int_equal(faults(p, 1, &own_cpu, 4 * STREAK_FIRST), 1);
	assert_affinity(1, 0, 1, 2, 3);
	assert_affinity(HANDLER, 0, 1, 2, 3);
	assert_int_equal(load_relaxed(&p->bound_tid), 0);
	/* Only where pairs were asked for. */
	p = placement_new(PLACEMENT_PAIR);
	assert_int_equal(faults(p, 1, &own_cpu, STREAK_FIRST), 1);
	assert_affinity(1, 3);
	assert_affinity(HANDLER, 3);
}

/* A handler that takes over a bound thread's faults goes where the pair is. */
static void test_another_handler_comes_along(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 1;
	int own_cpu = -1, other_cpu = 3;

	(void)state;
	attach_as(p, 1, &word);
	(void)faults(p, 1, &own_cpu, STREAK_FIRST);
	world.self = HANDLER - 1;
	assert_int_equal(placement_fault(p, 1, &other_cpu), 1);
	assert_int_equal(other_cpu, 1);
	assert_affinity(HANDLER - 1, 1);
}

/* The fixed pair: bound from the first fault on, and with whoever faulted last. */
static void test_pair_binds_at_once(void **state)
{
	struct placement *p = placement_new(PLACEMENT_PAIR);
	uint32_t word[] = {2, 1};
	int own_cpu = -1;

	(void)state;
	attach_as(p, 1, &word[0]);
	attach_as(p, 2, &word[1]);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(placement_fault(p, 1, &own_cpu), 1);
		assert_affinity(1, 2);
		assert_affinity(2, 0, 1, 2, 3);
		assert_affinity(HANDLER, 2);
		assert_int_equal(placement_fault(p, 2, &own_cpu), 1);
		assert_affinity(1, 0, 1, 2, 3);
		assert_affinity(2, 1);
		assert_affinity(HANDLER, 1);
	}
	placement_unbind(p, 1);
	assert_affinity(2, 0, 1, 2, 3);
}

/* Fixed following: the handler goes where the thread is, alone or in a crowd; no thread of the program is bound. */
static void test_follow_never_binds(void **state)
{
	enum { THREADS = 6 };
	uint32_t word[THREADS] = {2, 1, 3, 0, 1, 2};
	struct placement *p;
	int own_cpu = -1;

	(void)state;
	world.cpus = 2;
	p = placement_new(PLACEMENT_FOLLOW);
	for (int i = 0; i < THREADS; i++)
		attach_as(p, 1 + i, &word[i]);
	assert_int_equal(faults(p, 1, &own_cpu, 2 * STREAK_FIRST), 1);
	for (unsigned i = 1; i < 4 * CROWD_WINDOW; i++) {
		const int tid = 1 + (int)(i % THREADS);

		assert_int_equal(placement_fault(p, tid, &own_cpu), 2);
		assert_int_equal(own_cpu, word[tid - 1]);
		assert_affinity(tid, 0, 1, 2, 3);
	}
	assert_int_equal(load_relaxed(&p->bindings), 0);
}

/* A fault of another thread lets the bound one go, and the next binding takes four times as many. */
static void test_another_thread_ends_it(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word[] = {2, 1};
	int own_cpu = -1;

	(void)state;
	world.affinity[1] = CPUS(0, 2, 65);
	attach_as(p, 1, &word[0]);
	attach_as(p, 2, &word[1]);
	(void)faults(p, 1, &own_cpu, STREAK_FIRST);
	assert_affinity(1, 2);
	assert_int_equal(placement_fault(p, 2, &own_cpu), 2);
	assert_affinity(1, 0, 2, 65);
	assert_affinity(2, 0, 1, 2, 3);
	assert_int_equal(load_relaxed(&p->bound_tid), 0);
	/* The handler follows who faults. */
	assert_int_equal(own_cpu, 1);
	assert_affinity(HANDLER, 1);
	(void)faults(p, 1, &own_cpu, 4 * STREAK_FIRST - 1);
	assert_affinity(1, 0, 2, 65);
	(void)faults(p, 1, &own_cpu, 1);
	assert_affinity(1, 2);
}

/* Handlers follow as long as there is about a CPU for each thread; in a crowd they run where they like, and follow again
 * when it is over. */
static void test_no_following_in_a_crowd(void **state)
{
	enum { THREADS = 10 };
	struct placement *p = placement_new(PLACEMENT_AUTO);
	volatile uint32_t word[THREADS + 1];
	int own_cpu = -1;

	(void)state;
	for (int i = 1; i <= THREADS; i++) {
		word[i] = (uint32_t)i % 4;
		world.self = i;
		world.word = &word[i];
		placement_attach(p);
	}
	world.self = HANDLER;
	for (unsigned threads = 2; threads <= THREADS; threads += 8) {
		for (unsigned i = 0; i < 3 * CROWD_WINDOW; i++) {
			int tid = 1 + (int)(i % threads);

			assert_int_equal(placement_fault(p, tid, &own_cpu), 2);
			if (i >= CROWD_WINDOW)
				assert_int_equal(own_cpu,
						 threads > CROWD * world.cpus ? -1 : tid % 4);
		}
	}
	assert_affinity(HANDLER, 0, 1, 2, 3);
	for (unsigned i = 0; i < 2 * CROWD_WINDOW; i++)
		(void)placement_fault(p, 1 + (int)(i % 2), &own_cpu);
	assert_int_equal(own_cpu, 2);
}

/* However often bindings do not last, a thread that stays alone is bound in the end. */
static void test_slower_and_slower_has_an_end(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 1;
	int own_cpu = -1;

	(void)state;
	attach_as(p, 1, &word);
	for (unsigned i = 0; i < 20; i++) {
		(void)faults(p, 1, &own_cpu, STREAK_MAX);
		assert_int_equal(load_relaxed(&p->bound_tid), 1);
		(void)placement_fault(p, 2, &own_cpu);
		assert_int_equal(load_relaxed(&p->bound_tid), 0);
	}
	/* And time without a binding forgives. */
	for (unsigned i = 0; i < 20; i++)
		placement_tick(p);
	(void)faults(p, 1, &own_cpu, STREAK_FIRST);
	assert_int_equal(load_relaxed(&p->bound_tid), 1);
}

/* Two threads that fault by turns are never bound. */
static void test_turns_bind_nobody(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	int own_cpu = -1;

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(faults(p, 1 + (int)(i % 2), &own_cpu, STREAK_FIRST - 1), 2);
	assert_int_equal(load_relaxed(&p->bindings), 0);
	assert_affinity(1, 0, 1, 2, 3);
	assert_affinity(2, 0, 1, 2, 3);
}

/* A tick without faults lets the thread go; with faults it may stay, but not for ever. */
static void test_ticks_end_it(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 1;
	int own_cpu = -1;
	unsigned ticks = 0;

	(void)state;
	attach_as(p, 1, &word);
	(void)faults(p, 1, &own_cpu, STREAK_FIRST);
	placement_tick(p); /* those faults were since the last tick */
	assert_int_equal(load_relaxed(&p->bound_tid), 1);
	placement_tick(p);
	assert_int_equal(load_relaxed(&p->bound_tid), 0);
	assert_affinity(1, 0, 1, 2, 3);
	/* It stopped by itself: it is bound again as fast. */
	(void)faults(p, 1, &own_cpu, STREAK_FIRST);
	assert_int_equal(load_relaxed(&p->bound_tid), 1);
	for (; load_relaxed(&p->bound_tid); ticks++) {
		(void)placement_fault(p, 1, &own_cpu);
		placement_tick(p);
		assert_in_range(ticks, 0, 100);
	}
	assert_in_range(ticks, 2, 100);
	assert_affinity(1, 0, 1, 2, 3);
}

/* placement_unbind lets go, and nobody is bound before the quiet time is over. */
static void test_unbind_is_quiet(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 1;
	int own_cpu = -1;

	(void)state;
	attach_as(p, 1, &word);
	(void)faults(p, 1, &own_cpu, STREAK_FIRST);
	placement_unbind(p, 1000);
	assert_affinity(1, 0, 1, 2, 3);
	world.now += 999;
	(void)faults(p, 1, &own_cpu, 3 * STREAK_FIRST);
	assert_affinity(1, 0, 1, 2, 3);
	assert_int_equal(load_relaxed(&p->bound_tid), 0);
	world.now += 1;
	(void)faults(p, 1, &own_cpu, 1);
	assert_int_equal(load_relaxed(&p->bound_tid), 1);
	placement_unbind(p, 0);
	(void)faults(p, 1, &own_cpu, 1);
	assert_int_equal(load_relaxed(&p->bound_tid), 1);
}

/* A thread that detaches has its own affinity afterwards. */
static void test_detach_ends_it(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 0;
	int own_cpu = -1;

	(void)state;
	world.affinity[1] = CPUS(0, 69);
	attach_as(p, 1, &word);
	(void)faults(p, 1, &own_cpu, STREAK_FIRST);
	assert_affinity(1, 0);
	detach_as(p, 1);
	assert_affinity(1, 0, 69);
	assert_int_equal(load_relaxed(&p->bound_tid), 0);
}

/* Somebody else's detach does not end it. */
static void test_detach_of_another_does_not(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 1;
	int own_cpu = -1;

	(void)state;
	attach_as(p, 1, &word);
	(void)faults(p, 1, &own_cpu, STREAK_FIRST);
	detach_as(p, 2);
	assert_int_equal(load_relaxed(&p->bound_tid), 1);
}

/* A thread that may run on one CPU only stays there, and nothing is given back to it that it did not have. */
static void test_one_cpu_is_never_widened(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 3;
	int own_cpu = -1;

	(void)state;
	world.affinity[1] = CPUS(3);
	attach_as(p, 1, &word);
	(void)faults(p, 1, &own_cpu, 3 * STREAK_FIRST);
	assert_affinity(1, 3);
	assert_affinity(HANDLER, 3);
	assert_int_equal(load_relaxed(&p->bindings), 0);
	placement_unbind(p, 0);
	detach_as(p, 1);
	placement_tick(p);
	assert_affinity(1, 3);
}

/* A CPU that the thread may not use (any more) is not where it is bound. */
static void test_forbidden_cpu(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 3;
	int own_cpu = -1;

	(void)state;
	world.affinity[1] = CPUS(0, 1);
	attach_as(p, 1, &word);
	(void)faults(p, 1, &own_cpu, 3 * STREAK_FIRST);
	assert_affinity(1, 0, 1);
	assert_int_equal(load_relaxed(&p->bound_tid), 0);
	/* rseq says so of a thread that has not run yet: (uint32_t)-1 */
	word = UINT32_MAX;
	world.cpu_now = 2;
	(void)faults(p, 1, &own_cpu, 3 * STREAK_FIRST);
	assert_affinity(1, 0, 1);
}

/* A thread that has ended meanwhile: nothing is bound, and nothing is kept. */
static void test_thread_that_has_ended(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 1;
	int own_cpu = -1;

	(void)state;
	attach_as(p, 1, &word);
	attach_as(p, 2, &word);
	world.gone[1] = true;
	(void)faults(p, 1, &own_cpu, 3 * STREAK_FIRST);
	assert_int_equal(load_relaxed(&p->bound_tid), 0);
	/* It ends while it is bound. */
	(void)faults(p, 2, &own_cpu, STREAK_FIRST);
	assert_int_equal(load_relaxed(&p->bound_tid), 2);
	world.gone[2] = true;
	(void)placement_fault(p, 3, &own_cpu);
	assert_int_equal(load_relaxed(&p->bound_tid), 0);
}

/* PLACEMENT_NONE asks for no affinity and sets none, and still tells one thread from several. */
static void test_none_touches_nothing(void **state)
{
	struct placement *p = placement_new(PLACEMENT_NONE);
	uint32_t word = 1;
	int own_cpu = -1;

	(void)state;
	attach_as(p, 1, &word);
	assert_int_equal(p->attached_count, 0);
	assert_int_equal(faults(p, 1, &own_cpu, STREAK_FIRST - 1), 2);
	assert_int_equal(faults(p, 1, &own_cpu, 10), 1);
	assert_int_equal(placement_fault(p, 2, &own_cpu), 2);
	placement_tick(p);
	placement_unbind(p, 0);
	detach_as(p, 1);
	assert_int_equal(own_cpu, -1);
	assert_int_equal(world.looks + world.changes, 0);
}

/* So does a machine with one CPU, and a fault whose thread the kernel did not name. */
static void test_nothing_to_be_won(void **state)
{
	struct placement *p;
	int own_cpu = -1;

	(void)state;
	p = placement_new(PLACEMENT_AUTO);
	assert_int_equal(world.looks, 1); /* where handlers may run */
	world.looks = 0;
	assert_int_equal(faults(p, 0, &own_cpu, 3 * STREAK_FIRST), 1);
	world.cpus = 1;
	p = placement_new(PLACEMENT_AUTO);
	assert_int_equal(faults(p, 1, &own_cpu, 3 * STREAK_FIRST), 1);
	assert_int_equal(world.looks + world.changes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_the_world(test_pair_binds_at_once),
		in_the_world(test_follow_never_binds),
		in_the_world(test_streak_binds),
		in_the_world(test_unattached_is_not_bound),
		in_the_world(test_another_handler_comes_along),
		in_the_world(test_another_thread_ends_it),
		in_the_world(test_no_following_in_a_crowd),
		in_the_world(test_slower_and_slower_has_an_end),
		in_the_world(test_turns_bind_nobody),
		in_the_world(test_ticks_end_it),
		in_the_world(test_unbind_is_quiet),
		in_the_world(test_detach_ends_it),
		in_the_world(test_detach_of_another_does_not),
		in_the_world(test_one_cpu_is_never_widened),
		in_the_world(test_forbidden_cpu),
		in_the_world(test_thread_that_has_ended),
		in_the_world(test_none_touches_nothing),
		in_the_world(test_nothing_to_be_won),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
