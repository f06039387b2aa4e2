/* SPDX-License-Identifier: BSD-2-Clause */
/* Every thread gets its own affinity back: whatever happens in the small world, and on the system itself. */
#include "placement_world.h"

#include <pthread.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_the_world(test_own_affinity_always_comes_back),
		cmocka_unit_test(test_real_thread),
		cmocka_unit_test(test_real_threads_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
