/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A small world of threads, CPUs and time, which stands where the system is asked (the linker wraps the calls, see meson.build):
 * in it each test of placement knows who is bound where. Outside of it, the calls go to the system.
 */
#ifndef WEIR_TESTS_PLACEMENT_WORLD_H
#define WEIR_TESTS_PLACEMENT_WORLD_H

#include "../unit.h"

#include <sched.h>

#include "fault/placement.h"

enum { WORLD_THREADS = 12, WORLD_CPUS = 70, HANDLER = WORLD_THREADS - 1 };

struct placement_world {
	bool on;
	int self; /* the thread that calls */
	uint64_t now;
	unsigned cpus;
	int cpu_now;			       /* of the caller */
	const volatile uint32_t *word;	       /* of the caller; NULL: a system without rseq */
	cpu_set_t affinity[WORLD_THREADS + 1]; /* of thread 1 and up */
	bool gone[WORLD_THREADS + 1];	       /* it has ended: calls for it fail */
	unsigned looks, changes; /* calls that asked for an affinity, and that set one */
};
extern struct placement_world world;

/* Every thread may run on CPUs 0 to 3; the handler is who calls. */
int world_begin(void **state);
int world_end(void **state);

#define in_the_world(test) cmocka_unit_test_setup_teardown(test, world_begin, world_end)

/* Those of the system, in the world or out of it. */
int __real_thread_id(void);
int __real_thread_affinity_get(int tid, cpu_set_t *set);
int __real_thread_affinity_set(int tid, const cpu_set_t *set);

static inline cpu_set_t cpus(unsigned count, const int *list)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (unsigned i = 0; i < count; i++)
		CPU_SET(list[i], &set);
	return set;
}
#define CPUS(...) cpus(sizeof((int[]){__VA_ARGS__}) / sizeof(int), (int[]){__VA_ARGS__})

static inline void attach_as(struct placement *p, int tid, const volatile uint32_t *word)
{
	int self = world.self;

	world.self = tid;
	world.word = word;
	placement_attach(p);
	world.self = self;
}

static inline void detach_as(struct placement *p, int tid)
{
	int self = world.self;

	world.self = tid;
	placement_detach(p);
	world.self = self;
}

static inline struct placement *placement_new(enum placement_policy policy)
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
static inline unsigned faults(struct placement *p, int tid, int *own_cpu, unsigned count)
{
	unsigned threads = 0;

	while (count--)
		threads = placement_fault(p, tid, own_cpu);
	return threads;
}

#endif
