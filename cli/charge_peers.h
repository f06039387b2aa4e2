/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The designs that bench charge compares with: counters of a level each, changed by atomics (shared) or under a spinlock of
 * their own (spinlock). Inline, as weir's own fast path is.
 */
#ifndef WEIR_CLI_CHARGE_PEERS_H
#define WEIR_CLI_CHARGE_PEERS_H

#include <sched.h>

#include "base/atomic.h"
#include "base/base.h"

struct level {
	NO_SHARING _Atomic int64_t used;
	_Atomic uint32_t lock;
	int64_t limit;
	struct level *parent;
};

static inline bool shared_charge(struct level *level, int64_t bytes)
{
	struct level *l = level, *full;

	for (; l; l = l->parent) {
		if (add_relaxed(&l->used, bytes) + bytes > l->limit)
			break;
	}
	if (likely(!l))
		return true;
	full = l->parent;
	for (l = level; l != full; l = l->parent)
		sub_relaxed(&l->used, bytes);
	return false;
}

static inline void shared_uncharge(struct level *level, int64_t bytes)
{
	for (struct level *l = level; l; l = l->parent)
		sub_relaxed(&l->used, bytes);
}

static inline void spin_lock(struct level *level)
{
	/* Pairs with the release in spin_unlock. */
	for (unsigned spin = 1; exchange_acquire(&level->lock, 1); spin++) {
		while (load_relaxed(&level->lock)) {
			/* A holder that lost its CPU: let it run. The kernel's spinlocks turn preemption off instead. */
			if (spin++ % 1000 == 0)
				sched_yield();
			cpu_relax();
		}
	}
}

static inline bool spin_add(struct level *level, int64_t bytes)
{
	int64_t now;

	spin_lock(level);
	now = load_relaxed(&level->used) + bytes;
	if (now <= level->limit)
		store_relaxed(&level->used, now);
	store_release(&level->lock, 0);
	return now <= level->limit;
}

static inline bool spin_charge(struct level *level, int64_t bytes)
{
	struct level *l = level;

	while (l && spin_add(l, bytes))
		l = l->parent;
	for (struct level *taken = level; l && taken != l; taken = taken->parent)
		(void)spin_add(taken, -bytes);
	return !l;
}

static inline void spin_uncharge(struct level *level, int64_t bytes)
{
	for (struct level *l = level; l; l = l->parent)
		(void)spin_add(l, -bytes);
}

#endif
