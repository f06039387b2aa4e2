/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Placement: who is attached, who is bound, and that every thread gets its own affinity back.
 *
 * Most tests run in a small world of threads, CPUs and time, which stands where the system is asked (the linker wraps
 * the calls, see meson.build). The last ones run on the system itself.
 */
#include "../unit.h"

#include <pthread.h>
#include <sched.h>

#include "fault/placement.h"

/* --- the world --- */

enum { WORLD_THREADS = 12, WORLD_CPUS = 70, HANDLER = WORLD_THREADS - 1 };

static struct {
	bool on;
	int self; /* the thread that calls */
	uint64_t now;
	unsigned cpus;
	int cpu_now;			       /* of the caller */
	const volatile uint32_t *word;	       /* of the caller; NULL: a system without rseq */
	cpu_set_t affinity[WORLD_THREADS + 1]; /* of thread 1 and up */
	bool gone[WORLD_THREADS + 1];	       /* it has ended: calls for it fail */
	unsigned looks, changes; /* calls that asked for an affinity, and that set one */
} world;

/* Numbers that are not threads of this world have no affinity to be asked for. */
static int world_thread(int tid)
{
	int thread = tid ? tid : world.self;

	return thread >= 1 && thread <= WORLD_THREADS && !world.gone[thread] ? thread : -ESRCH;
}

uint64_t __real_now_ns(void);
uint64_t __wrap_now_ns(void);
uint64_t __wrap_now_ns(void)
{
	return world.on ? world.now : __real_now_ns();
}

int __real_thread_id(void);
int __wrap_thread_id(void);
int __wrap_thread_id(void)
{
	return world.on ? world.self : __real_thread_id();
}

unsigned __real_thread_cpu_count(void);
unsigned __wrap_thread_cpu_count(void);
unsigned __wrap_thread_cpu_count(void)
{
	return world.on ? world.cpus : __real_thread_cpu_count();
}

int __real_thread_cpu_now(void);
int __wrap_thread_cpu_now(void);
int __wrap_thread_cpu_now(void)
{
	return world.on ? world.cpu_now : __real_thread_cpu_now();
}

const volatile uint32_t *__real_thread_cpu_word(void);
const volatile uint32_t *__wrap_thread_cpu_word(void);
const volatile uint32_t *__wrap_thread_cpu_word(void)
{
	return world.on ? world.word : __real_thread_cpu_word();
}

int __real_thread_affinity_get(int tid, cpu_set_t *set);
int __wrap_thread_affinity_get(int tid, cpu_set_t *set);
int __wrap_thread_affinity_get(int tid, cpu_set_t *set)
{
	int thread = world_thread(tid);

	if (!world.on)
		return __real_thread_affinity_get(tid, set);
	world.looks++;
	if (thread < 0)
		return thread;
	*set = world.affinity[thread];
	return 0;
}

int __real_thread_affinity_set(int tid, const cpu_set_t *set);
int __wrap_thread_affinity_set(int tid, const cpu_set_t *set);
int __wrap_thread_affinity_set(int tid, const cpu_set_t *set)
{
	int thread = world_thread(tid);

	if (!world.on)
		return __real_thread_affinity_set(tid, set);
	world.changes++;
	if (thread < 0)
		return thread;
	world.affinity[thread] = *set;
	return 0;
}

int __real_thread_bind(int tid, int cpu);
int __wrap_thread_bind(int tid, int cpu);
int __wrap_thread_bind(int tid, int cpu)
{
	cpu_set_t set;

	if (!world.on)
		return __real_thread_bind(tid, cpu);
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return __wrap_thread_affinity_set(tid, &set);
}

static cpu_set_t cpus(unsigned count, const int *list)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (unsigned i = 0; i < count; i++)
		CPU_SET(list[i], &set);
	return set;
}
#define CPUS(...) cpus(sizeof((int[]){__VA_ARGS__}) / sizeof(int), (int[]){__VA_ARGS__})

/* Every thread may run on CPUs 0 to 3; the handler is who calls. */
static int world_begin(void **state)
{
	(void)state;
	memset(&world, 0, sizeof(world));
	world.on = true;
	world.now = 1000000000000;
	world.cpus = 4;
	world.self = HANDLER;
	for (int i = 1; i <= WORLD_THREADS; i++)
		world.affinity[i] = CPUS(0, 1, 2, 3);
	return 0;
}

static int world_end(void **state)
{
	(void)state;
	world.on = false;
	return 0;
}

static void attach_as(struct placement *p, int tid, const volatile uint32_t *word)
{
	int self = world.self;

	world.self = tid;
	world.word = word;
	placement_attach(p);
	world.self = self;
}

static void detach_as(struct placement *p, int tid)
{
	int self = world.self;

	world.self = tid;
	placement_detach(p);
	world.self = self;
}

static struct placement *placement_new(enum placement_policy policy)
{
	static struct placement p;

	placement_init(&p, policy);
	return &p;
}

#define assert_affinity(tid, ...)                                                                  \
	do {                                                                                       \
		cpu_set_t expected_ = CPUS(__VA_ARGS__);                                           \
		assert_true(CPU_EQUAL(&world.affinity[tid], &expected_));                          \
	} while (0)

/* Count faults of one thread in a row, each served by the same handler. Returns what the last one answered. */
static unsigned faults(struct placement *p, int tid, int *own_cpu, unsigned count)
{
	unsigned threads = 0;

	while (count--)
		threads = placement_fault(p, tid, own_cpu);
	return threads;
}

/* --- the table --- */

enum { TABLE_TIDS = 400 };

/* Where a fault of tid draws the handler: its CPU if it is attached, else nowhere (-1). */
static int drawn_to(struct placement *p, int tid)
{
	int own_cpu = -1;

	/* However many threads a test has, it looks at two. */
	store_relaxed(&p->crowd, 0);
	store_relaxed(&p->window, 0);
	/* Never two faults of one thread in a row: nobody is bound. */
	(void)placement_fault(p, INT32_MAX, &own_cpu);
	assert_int_equal(own_cpu, -1);
	(void)placement_fault(p, tid, &own_cpu);
	return own_cpu;
}

/* Numbers as threads get them: runs of neighbours, and some far away that hash to the same slot. */
static void tids_draw(uint64_t *seed, int *tid)
{
	for (unsigned i = 0; i < TABLE_TIDS; i++) {
		unsigned other = i ? random_below(seed, i) : 0;

		do {
			switch (i ? random_below(seed, 4) : 3) {
			case 0:
				tid[i] = tid[other] + 1;
				break;
			case 1:
			case 2:
				tid[i] = tid[other] +
					 ATTACHED_MAX * (int)(1 + random_below(seed, 3));
				break;
			default:
				tid[i] = 1 + (int)random_below(seed, 4194303);
			}
			other = 0;
			while (other < i && tid[other] != tid[i])
				other++;
		} while (other < i);
	}
}

/* Whoever is attached is found, nobody else is, whatever came and went before: removal keeps every chain whole. */
static void test_table_is_what_was_attached(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint64_t seed = test_seed();
	uint32_t word[TABLE_TIDS];
	bool attached[TABLE_TIDS] = {false};
	int tid[TABLE_TIDS];
	uint32_t count = 0;

	(void)state;
	tids_draw(&seed, tid);
	for (unsigned i = 0; i < TABLE_TIDS; i++)
		word[i] = i;
	for (unsigned step = 0; step < 20000; step++) {
		/* Nearly all attached and nearly none, by turns. */
		unsigned i = random_below(&seed, TABLE_TIDS);
		bool attach = random_below(&seed, 100) < (step / 2000 % 2 ? 20u : 80u);

		if (attach)
			attach_as(p, tid[i], &word[i]);
		else
			detach_as(p, tid[i]);
		count += attach - attached[i];
		attached[i] = attach;
		assert_int_equal(p->attached_count, count);
		for (unsigned k = 0; k < 4; k++) {
			unsigned look = k ? random_below(&seed, TABLE_TIDS) : i;

			assert_int_equal(drawn_to(p, tid[look]), attached[look] ? (int)look : -1);
		}
	}
	for (unsigned i = 0; i < TABLE_TIDS; i++) {
		assert_int_equal(drawn_to(p, tid[i]), attached[i] ? (int)i : -1);
		detach_as(p, tid[i]);
	}
	for (unsigned i = 0; i < ATTACHED_MAX; i++)
		assert_int_equal(load_relaxed(&p->attached[i].tid), 0);
	assert_int_equal(p->attached_count, 0);
}

/* A chain that goes over the end of the table, taken apart in every order of four. */
static void test_chain_goes_round_the_end(void **state)
{
	(void)state;
	for (unsigned order = 0; order < 24; order++) {
		struct placement *p = placement_new(PLACEMENT_AUTO);
		uint32_t word[4] = {10, 11, 12, 13};
		unsigned left[4] = {0, 1, 2, 3}, pick = order;
		int last = 1;

		/* The number whose home is the last slot: found by looking where it goes. */
		for (;; last++) {
			attach_as(p, last, &word[0]);
			if (load_relaxed(&p->attached[ATTACHED_MAX - 1].tid) == last)
				break;
			detach_as(p, last);
		}
		for (int i = 1; i < 4; i++)
			attach_as(p, last + i * ATTACHED_MAX, &word[i]);
		assert_int_equal(load_relaxed(&p->attached[2].tid), last + 3 * ATTACHED_MAX);
		for (unsigned n = 4; n; n--) {
			unsigned at = pick % n;

			pick /= n;
			detach_as(p, last + (int)left[at] * ATTACHED_MAX);
			memmove(&left[at], &left[at + 1], (n - 1 - at) * sizeof(left[0]));
			for (unsigned i = 0; i < n - 1; i++)
				assert_int_equal(drawn_to(p, last + (int)left[i] * ATTACHED_MAX),
						 10 + (int)left[i]);
			assert_int_equal(p->attached_count, n - 1);
		}
	}
}

/* Attaching twice is once; detaching who is not attached is nothing. */
static void test_attach_and_detach_repeat(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 2;

	(void)state;
	detach_as(p, 5);
	attach_as(p, 5, &word);
	attach_as(p, 5, &word);
	assert_int_equal(p->attached_count, 1);
	detach_as(p, 6);
	assert_int_equal(drawn_to(p, 5), 2);
	detach_as(p, 5);
	detach_as(p, 5);
	assert_int_equal(p->attached_count, 0);
	assert_int_equal(drawn_to(p, 5), -1);
}

/* The table keeps room, so that a look-up ends; who does not fit is served without it, and may come later. */
static void test_table_keeps_room(void **state)
{
	enum { FULL = ATTACHED_MAX / 2 };
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 3;

	(void)state;
	for (int tid = 1; tid <= FULL + 10; tid++)
		attach_as(p, tid, &word);
	assert_int_equal(p->attached_count, FULL);
	assert_int_equal(drawn_to(p, FULL), 3);
	assert_int_equal(drawn_to(p, FULL + 1), -1);
	detach_as(p, FULL + 1);
	assert_int_equal(p->attached_count, FULL);
	detach_as(p, 1);
	attach_as(p, FULL + 1, &word);
	assert_int_equal(drawn_to(p, FULL + 1), 3);
}

/* Without rseq nobody can be looked at. */
static void test_no_rseq_attaches_nobody(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);

	(void)state;
	attach_as(p, 5, NULL);
	assert_int_equal(p->attached_count, 0);
}

/* --- binding --- */

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

/*
 * Whatever happens in whatever order: at most one thread differs from its own affinity, that is the bound one, it
 * differs by being on one CPU of its own, and when it is let go nobody differs.
 */
static void test_own_affinity_always_comes_back(void **state)
{
	enum { THREADS = HANDLER - 1, STEPS = 30000 };
	uint64_t seed = test_seed(), bindings = 0;

	(void)state;
	for (unsigned round = 0; round < 4; round++) {
		struct placement *p = placement_new(PLACEMENT_AUTO);
		cpu_set_t own[THREADS + 1];
		uint32_t word[THREADS + 1];
		int own_cpu = -1;

		for (int i = 1; i <= THREADS; i++) {
			CPU_ZERO(&own[i]);
			do
				CPU_SET(random_below(&seed, WORLD_CPUS), &own[i]);
			while (random_chance(&seed, 2) || (i > 3 && CPU_COUNT(&own[i]) < 2));
			world.affinity[i] = own[i];
			word[i] = random_below(&seed, WORLD_CPUS);
		}
		for (unsigned step = 0; step < STEPS; step++) {
			int tid = 1 + (int)random_below(&seed, THREADS), bound;

			world.cpu_now = (int)random_below(&seed, WORLD_CPUS);
			/* Threads run where they may. */
			if (CPU_COUNT(&world.affinity[tid]) == 1 || random_chance(&seed, 4)) {
				do
					word[tid] = random_below(&seed, WORLD_CPUS);
				while (!CPU_ISSET(word[tid], &world.affinity[tid]));
			}
			switch (random_below(&seed, 12)) {
			case 0:
				attach_as(p, tid, &word[tid]);
				break;
			case 1:
				detach_as(p, tid);
				break;
			case 2:
				placement_tick(p);
				break;
			case 3:
				if (random_chance(&seed, 4))
					placement_unbind(p, random_below(&seed, 1000));
				break;
			case 4:
				world.now += random_below(&seed, 1000);
				break;
			default:
				(void)faults(p, tid, &own_cpu,
					     1 + random_below(&seed, 2 * STREAK_FIRST));
			}
			bound = load_relaxed(&p->bound_tid);
			for (int i = 1; i <= THREADS; i++) {
				cpu_set_t both;

				if (i != bound) {
					assert_true(CPU_EQUAL(&world.affinity[i], &own[i]));
					continue;
				}
				CPU_AND(&both, &world.affinity[i], &own[i]);
				assert_int_equal(CPU_COUNT(&world.affinity[i]), 1);
				assert_int_equal(CPU_COUNT(&both), 1);
				assert_in_range(CPU_COUNT(&own[i]), 2, WORLD_CPUS);
			}
			assert_true(own_cpu < 0 || (CPU_COUNT(&world.affinity[HANDLER]) == 1 &&
						    CPU_ISSET(own_cpu, &world.affinity[HANDLER])));
		}
		bindings += load_relaxed(&p->bindings);
		placement_unbind(p, 0);
		for (int i = 1; i <= THREADS; i++)
			assert_true(CPU_EQUAL(&world.affinity[i], &own[i]));
	}
	/* Else it has shown nothing. */
	assert_in_range(bindings, 100, UINT32_MAX);
}

/* --- on the system --- */

struct sleeper {
	struct placement *p;
	pthread_barrier_t ready, end;
	int tid;
	cpu_set_t before, after;
};

static void *sleeper_main(void *arg)
{
	struct sleeper *s = arg;

	s->tid = __real_thread_id();
	(void)__real_thread_affinity_get(0, &s->before);
	placement_attach(s->p);
	pthread_barrier_wait(&s->ready);
	pthread_barrier_wait(&s->end);
	placement_detach(s->p);
	(void)__real_thread_affinity_get(0, &s->after);
	return NULL;
}

/* A thread of this system is bound, and has its own affinity again when it has detached. */
static void test_real_thread(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	struct sleeper s = {.p = p};
	cpu_set_t mine, bound;
	int own_cpu = -1;
	pthread_t thread;

	(void)state;
	if (p->cpus < 2)
		skip_because("one CPU");
	assert_int_equal(__real_thread_affinity_get(0, &mine), 0);
	pthread_barrier_init(&s.ready, NULL, 2);
	pthread_barrier_init(&s.end, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, sleeper_main, &s), 0);
	pthread_barrier_wait(&s.ready);
	assert_int_equal(faults(p, s.tid, &own_cpu, STREAK_FIRST), 1);
	assert_int_equal(__real_thread_affinity_get(s.tid, &bound), 0);
	assert_int_equal(CPU_COUNT(&bound), 1);
	assert_true(CPU_ISSET(own_cpu, &bound));
	assert_int_equal(sched_getcpu(), own_cpu);
	pthread_barrier_wait(&s.end);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(CPU_EQUAL(&s.before, &s.after));
	assert_int_equal(__real_thread_affinity_set(0, &mine), 0);
	pthread_barrier_destroy(&s.ready);
	pthread_barrier_destroy(&s.end);
}

struct crowd {
	struct placement *p;
	_Atomic int tid
		[MAX_THREADS]; /* (A) who may be said to have faulted: it is attached and waits */
	_Atomic bool wrong;
};

/* Three come and go; the last one serves faults, unbinds and ticks meanwhile. */
static void come_and_go(unsigned index, void *arg)
{
	enum { CLIENTS = 3, ROUNDS = 300 };
	struct crowd *c = arg;
	cpu_set_t before, after;
	uint64_t seed = index;
	int own_cpu = -1;

	(void)__real_thread_affinity_get(0, &before);
	for (unsigned i = 0; index < CLIENTS && i < ROUNDS; i++) {
		placement_attach(c->p);
		store_relaxed(&c->tid[index], __real_thread_id());
		sched_yield();
		if (random_chance(&seed, 8))
			placement_unbind(c->p, 0);
		store_relaxed(&c->tid[index], 0);
		placement_detach(c->p);
		/* Bound once more by a fault that was under way: nobody is, after the call. */
		placement_unbind(c->p, 0);
	}
	for (unsigned i = 0; index == CLIENTS && i < 20 * ROUNDS; i++) {
		int tid = load_relaxed(&c->tid[random_below(&seed, CLIENTS)]);

		if (tid)
			(void)faults(c->p, tid, &own_cpu, 1 + random_below(&seed, 12));
		if (random_chance(&seed, 16))
			placement_tick(c->p);
	}
	if (index == CLIENTS)
		return;
	(void)__real_thread_affinity_get(0, &after);
	/* The serving thread may have bound this one just now, which is what it is there for: unless nobody is. */
	if (!CPU_EQUAL(&before, &after) && load_relaxed(&c->p->bound_tid) != __real_thread_id())
		store_relaxed(&c->wrong, true);
}

/* Threads attach, detach and unbind while others are served: nothing is left of it in the end. */
static void test_real_threads_come_and_go(void **state)
{
	struct crowd c = {.p = placement_new(PLACEMENT_AUTO)};
	cpu_set_t mine;

	(void)state;
	assert_int_equal(__real_thread_affinity_get(0, &mine), 0);
	run_threads(4, come_and_go, &c);
	placement_unbind(c.p, 0);
	assert_false(load_relaxed(&c.wrong));
	assert_int_equal(c.p->attached_count, 0);
	assert_int_equal(load_relaxed(&c.p->bound_tid), 0);
	assert_int_equal(__real_thread_affinity_set(0, &mine), 0);
}

#define in_the_world(test) cmocka_unit_test_setup_teardown(test, world_begin, world_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_the_world(test_table_is_what_was_attached),
		in_the_world(test_chain_goes_round_the_end),
		in_the_world(test_attach_and_detach_repeat),
		in_the_world(test_table_keeps_room),
		in_the_world(test_no_rseq_attaches_nobody),
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
		in_the_world(test_own_affinity_always_comes_back),
		cmocka_unit_test(test_real_thread),
		cmocka_unit_test(test_real_threads_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
