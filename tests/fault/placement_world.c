/* SPDX-License-Identifier: BSD-2-Clause */
/* The calls that the linker gives the tests of placement first, see placement_world.h. */
#include "placement_world.h"

struct placement_world world;

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

int world_begin(void **state)
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

int world_end(void **state)
{
	(void)state;
	world.on = false;
	return 0;
}
