/* SPDX-License-Identifier: BSD-2-Clause */
/* Counts, injections, and time. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

enum { PENDING_MAX = 64 };

struct pending {
	enum fake_call call;
	uint64_t at; /* number of the call, from 1; 0: not in use */
	struct fake_failure failure;
};

struct meanwhile {
	void (*fn)(void *data);
	void *data;
};

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static struct pending pending[PENDING_MAX];
static struct meanwhile meanwhile[FAKE_CALLS];
static uint64_t count[FAKE_CALLS], units_of[FAKE_CALLS];
static uint64_t time_ns, time_step_ns, slept_ns;
static struct meanwhile on_yield;

void fake_guard_enter(void)
{
	pthread_mutex_lock(&guard);
}

void fake_guard_leave(void)
{
	pthread_mutex_unlock(&guard);
}

void fake_misuse(const char *what)
{
	fprintf(stderr, "fake: %s\n", what);
	abort();
}

void fake_meanwhile(enum fake_call call, void (*fn)(void *data), void *data)
{
	fake_guard_enter();
	if (meanwhile[call].fn)
		fake_misuse("two things at once meanwhile");
	meanwhile[call] = (struct meanwhile){fn, data};
	fake_guard_leave();
}

void fake_before(enum fake_call call)
{
	struct meanwhile m;

	fake_guard_enter();
	m = meanwhile[call];
	meanwhile[call].fn = NULL;
	fake_guard_leave();
	if (m.fn)
		m.fn(m.data);
}

bool fake_called(enum fake_call call, size_t units, struct fake_failure *failure)
{
	count[call]++;
	units_of[call] += units;
	for (struct pending *p = pending; p < pending + PENDING_MAX; p++) {
		if (p->at && p->call == call && p->at == count[call]) {
			*failure = p->failure;
			p->at = 0;
			return true;
		}
	}
	return false;
}

void fake_fail(enum fake_call call, unsigned nth, size_t done, int err)
{
	struct pending *p = pending;

	fake_guard_enter();
	while (p < pending + PENDING_MAX && p->at)
		p++;
	if (p == pending + PENDING_MAX)
		fake_misuse("too many injections at once");
	*p = (struct pending){call, count[call] + nth, {done, err}};
	fake_guard_leave();
}

unsigned fake_calm(void)
{
	unsigned left = 0;

	fake_guard_enter();
	for (struct pending *p = pending; p < pending + PENDING_MAX; p++) {
		left += p->at != 0;
		p->at = 0;
	}
	for (struct meanwhile *m = meanwhile; m < meanwhile + FAKE_CALLS; m++) {
		left += m->fn != NULL;
		m->fn = NULL;
	}
	fake_guard_leave();
	return left;
}

static uint64_t read_guarded(const uint64_t *value)
{
	uint64_t now;

	fake_guard_enter();
	now = *value;
	fake_guard_leave();
	return now;
}

uint64_t fake_count(enum fake_call call)
{
	return read_guarded(&count[call]);
}

uint64_t fake_units(enum fake_call call)
{
	return read_guarded(&units_of[call]);
}

void fake_time_pass(uint64_t ns)
{
	fake_guard_enter();
	time_ns += ns;
	fake_guard_leave();
}

void fake_time_step(uint64_t step_ns)
{
	fake_guard_enter();
	time_step_ns = step_ns;
	fake_guard_leave();
}

void fake_on_yield(void (*fn)(void *data), void *data)
{
	fake_guard_enter();
	on_yield = (struct meanwhile){fn, data};
	fake_guard_leave();
}

int __real_sched_yield(void);
int __wrap_sched_yield(void);
int __wrap_sched_yield(void)
{
	struct meanwhile m;

	fake_guard_enter();
	m = on_yield;
	fake_guard_leave();
	if (!m.fn)
		return fake_threads_yield() ? 0 : __real_sched_yield();
	m.fn(m.data);
	return 0;
}

void __wrap_wait_a_little(unsigned *steps);
void __wrap_wait_a_little(unsigned *steps)
{
	(*steps)++;
	(void)__wrap_sched_yield();
}

void __wrap_sleep_ns(uint64_t ns);
void __wrap_sleep_ns(uint64_t ns)
{
	fake_time_pass(ns);
	fake_guard_enter();
	slept_ns += ns;
	fake_guard_leave();
}

uint64_t fake_slept(void)
{
	uint64_t ns;

	fake_guard_enter();
	ns = slept_ns;
	fake_guard_leave();
	return ns;
}

uint64_t __wrap_now_ns(void);
uint64_t __wrap_now_ns(void)
{
	uint64_t now;

	fake_guard_enter();
	now = time_ns;
	time_ns += time_step_ns;
	fake_guard_leave();
	return now;
}

void fake_reset(void)
{
	(void)fake_calm();
	fake_on_yield(NULL, NULL);
	fake_threads_reset();
	fake_memory_reset();
	fake_shared_reset();
	fake_file_reset();
	fake_source_reset();
	fake_guard_enter();
	memset(count, 0, sizeof(count));
	memset(units_of, 0, sizeof(units_of));
	/* Never 0: that is "not at all" in places. */
	time_ns = 1000000000;
	time_step_ns = slept_ns = 0;
	fake_guard_leave();
}
