/* SPDX-License-Identifier: BSD-2-Clause */
#include "fault/placement.h"

#include <string.h>

#include "os/thread.h"

void placement_init(struct placement *p, enum placement_policy policy)
{
	memset(p, 0, sizeof(*p));
	lock_init(&p->lock, RANK_PLACEMENT, "placement");
	p->policy = policy;
	p->cpus = thread_cpu_count();
	store_relaxed(&p->streak_wanted, policy == PLACEMENT_PAIR ? 1 : STREAK_FIRST);
	if (policy != PLACEMENT_NONE && p->cpus > 1 && thread_affinity_get(0, &p->all))
		p->policy = PLACEMENT_NONE;
}

void placement_after_fork(struct placement *p)
{
	placement_init(p, p->policy);
}

static void unbind_locked(struct placement *p)
{
	int tid = load_relaxed(&p->bound_tid);

	if (!tid)
		return;
	store_relaxed(&p->bound_tid, 0);
	(void)thread_affinity_set(tid, &p->saved);
}

/* --- threads that told where their CPU can be read --- */

static unsigned slot_of(int tid)
{
	return (unsigned)tid * 2654435761u % ATTACHED_MAX;
}

/* Under the lock. NULL: not attached. */
static struct attached *attached_find(struct placement *p, int tid)
{
	for (unsigned i = 0; i < ATTACHED_MAX; i++) {
		struct attached *a = &p->attached[(slot_of(tid) + i) % ATTACHED_MAX];
		int there = load_relaxed(&a->tid);

		if (there == tid)
			return a;
		if (there == 0)
			return NULL;
	}
	return NULL;
}

void placement_attach(struct placement *p)
{
	const volatile uint32_t *word = thread_cpu_word();
	int tid = thread_id();

	if (!word || p->policy == PLACEMENT_NONE)
		return;
	lock_acquire(&p->lock);
	/* A table that is nearly full would make look-ups long: later threads are served where handlers are. */
	if (p->attached_count < ATTACHED_MAX / 2 && !attached_find(p, tid)) {
		unsigned i = slot_of(tid);

		while (load_relaxed(&p->attached[i].tid) > 0)
			i = (i + 1) % ATTACHED_MAX;
		p->attached[i].cpu = word;
		store_relaxed(&p->attached[i].tid, tid);
		p->attached_count++;
	}
	lock_release(&p->lock);
}

/* Takes an entry out of a table with linear probing: later ones of the same cluster move up. */
static void attached_remove(struct placement *p, unsigned hole)
{
	for (unsigned i = (hole + 1) % ATTACHED_MAX; load_relaxed(&p->attached[i].tid);
	     i = (i + 1) % ATTACHED_MAX) {
		unsigned home = slot_of(load_relaxed(&p->attached[i].tid));

		/* May the entry at i stand at the hole? Only if its home is not between the two. */
		if ((i + ATTACHED_MAX - home) % ATTACHED_MAX <
		    (i + ATTACHED_MAX - hole) % ATTACHED_MAX)
			continue;
		p->attached[hole].cpu = p->attached[i].cpu;
		store_relaxed(&p->attached[hole].tid, load_relaxed(&p->attached[i].tid));
		hole = i;
	}
	store_relaxed(&p->attached[hole].tid, 0);
	p->attached_count--;
}

void placement_detach(struct placement *p)
{
	struct attached *a;
	int tid = thread_id();

	lock_acquire(&p->lock);
	a = attached_find(p, tid);
	if (a)
		attached_remove(p, (unsigned)(a - p->attached));
	/* Its number may be another thread's soon; and it may live on, attached to nothing. */
	if (load_relaxed(&p->bound_tid) == tid)
		unbind_locked(p);
	lock_release(&p->lock);
}

/* The CPU of a thread that waits for its fault, or -1. Under the lock, so that it cannot detach meanwhile. */
static int cpu_of(struct placement *p, int tid)
{
	struct attached *a = attached_find(p, tid);
	uint32_t cpu = a ? *a->cpu : UINT32_MAX;

	return cpu < CPU_SETSIZE ? (int)cpu : -1;
}

/* --- binding --- */

static void bind_pair(struct placement *p, int tid, int *own_cpu)
{
	int cpu;

	lock_acquire(&p->lock);
	if (load_relaxed(&p->bound_tid) || now_ns() < p->quiet_until_ns ||
	    thread_affinity_get(tid, &p->saved))
		goto out;
	cpu = cpu_of(p, tid);
	/* Threads that it creates inherit the binding, for good: only who attached has heard of weir_thread_unbind. */
	if (cpu < 0 && p->policy != PLACEMENT_PAIR)
		goto out;
	if (cpu < 0)
		cpu = thread_cpu_now();
	/* A CPU that its owner has forbidden it, or the only one it has: nothing to be won. */
	if (cpu < 0 || !CPU_ISSET(cpu, &p->saved) || thread_bind(0, cpu))
		goto out;
	*own_cpu = cpu;
	if (CPU_COUNT(&p->saved) > 1 && thread_bind(tid, cpu) == 0) {
		store_relaxed(&p->bound_tid, tid);
		store_relaxed(&p->bound_cpu, cpu);
		p->bound_ticks = 0;
		add_relaxed(&p->bindings, 1);
	}
out:
	lock_release(&p->lock);
}

/* Another thread faults too: let go, and be slower to bind again. */
static void give_up_binding(struct placement *p)
{
	lock_acquire(&p->lock);
	if (load_relaxed(&p->bound_tid)) {
		unbind_locked(p);
		if (p->policy != PLACEMENT_PAIR)
			store_relaxed(&p->streak_wanted,
				      MIN(load_relaxed(&p->streak_wanted) * 4, STREAK_MAX));
	}
	lock_release(&p->lock);
}

static void follow(struct placement *p, int tid, int *own_cpu)
{
	int cpu;

	lock_acquire(&p->lock);
	cpu = cpu_of(p, tid);
	lock_release(&p->lock);
	if (cpu >= 0 && cpu != *own_cpu && thread_bind(0, cpu) == 0)
		*own_cpu = cpu;
}

/* Do far more threads fault than there are CPUs? */
static bool crowded(struct placement *p, int tid)
{
	uint64_t bit = 1ull << ((uint32_t)tid * 2654435761u >> 26);

	if (!(load_relaxed(&p->seen) & bit))
		(void)or_relaxed(&p->seen, bit);
	if (add_relaxed(&p->window, 1) + 1 == CROWD_WINDOW) {
		store_relaxed(&p->crowd,
			      (uint32_t)__builtin_popcountll(exchange_relaxed(&p->seen, 0)));
		store_relaxed(&p->window, 0);
	}
	return load_relaxed(&p->crowd) > CROWD * p->cpus;
}

static void roam(struct placement *p, int *own_cpu)
{
	if (*own_cpu >= 0 && thread_affinity_set(0, &p->all) == 0)
		*own_cpu = -1;
}

unsigned placement_fault(struct placement *p, int tid, int *own_cpu)
{
	uint32_t streak;

	add_relaxed(&p->faults, 1);
	if (load_relaxed(&p->last_tid) == tid) {
		streak = add_relaxed(&p->streak, 1) + 1;
	} else {
		store_relaxed(&p->last_tid, tid);
		store_relaxed(&p->streak, 1);
		streak = 1;
	}
	if (p->policy == PLACEMENT_NONE || p->cpus < 2 || !tid)
		return streak >= STREAK_FIRST ? 1 : 2;
	if (p->policy == PLACEMENT_FOLLOW) {
		follow(p, tid, own_cpu);
		return streak >= STREAK_FIRST ? 1 : 2;
	}
	if (load_relaxed(&p->bound_tid) == tid) {
		/* Served by another handler than the one it was bound with: come here. */
		int cpu = load_relaxed(&p->bound_cpu);

		if (*own_cpu != cpu && thread_bind(0, cpu) == 0)
			*own_cpu = cpu;
		return 1;
	}
	if (load_relaxed(&p->bound_tid))
		give_up_binding(p);
	if (streak >= load_relaxed(&p->streak_wanted)) {
		bind_pair(p, tid, own_cpu);
		return 1;
	}
	if (crowded(p, tid))
		roam(p, own_cpu);
	else
		follow(p, tid, own_cpu);
	return 2;
}

void placement_unbind(struct placement *p, uint64_t quiet_ns)
{
	if (p->policy == PLACEMENT_NONE)
		return;
	lock_acquire(&p->lock);
	unbind_locked(p);
	p->quiet_until_ns = now_ns() + quiet_ns;
	lock_release(&p->lock);
}

void placement_tick(struct placement *p)
{
	enum { MOVE_TICKS = 8 };
	uint64_t faults = exchange_relaxed(&p->faults, 0);

	if (!load_relaxed(&p->bound_tid)) {
		/* Quiet times forgive: a thread that is alone again is bound soon. */
		uint32_t wanted = load_relaxed(&p->streak_wanted);

		if (wanted > STREAK_FIRST)
			store_relaxed(&p->streak_wanted, wanted / 2);
		return;
	}
	lock_acquire(&p->lock);
	if (!faults || ++p->bound_ticks >= MOVE_TICKS)
		unbind_locked(p);
	lock_release(&p->lock);
}
