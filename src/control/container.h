/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A container: who pays. One for now, without a tree.
 *
 * Everything that weir holds for a tenant is charged here in bytes: resident pages, and compressed objects at the
 * cost of their size class. What the store has in frames without using it (slack) is nobody's charge, but beyond an
 * allowance it presses as if it were: both limits are lowered by it at once. The limit is `max`; background
 * reclaim starts at `high`.
 *
 * Invariant: charged = sum of usage[]; charged + slack <= max, except for what container_force charged: reclaim's own
 * copies (at most a batch of pages), a page that nothing could make room for, and pages that a fork brought in.
 * Each such time that a fault goes over is counted in over_max.
 *
 * Charging is for every thread; it never sleeps itself. make_room is called without locks held.
 */
#ifndef WEIR_CONTROL_CONTAINER_H
#define WEIR_CONTROL_CONTAINER_H

#include "base/atomic.h"
#include "base/base.h"

enum charge_kind { CHARGE_RESIDENT, CHARGE_COMPRESSED, CHARGE_KINDS };

struct container;
/* Asked for so many bytes when max is reached. True: something was freed, try again. May reclaim, never sleeps on
 * a page, and is called by the thread that charges, with no lock held. slack: bytes held and not used, beyond the
 * allowance; called often, reads a few counters. Either may be NULL. */
struct container_ops {
	bool (*make_room)(void *data, uint64_t bytes);
	uint64_t (*slack)(void *data);
	void *data;
};

struct container {
	NO_SHARING _Atomic int64_t charged; /* (A) */
	_Atomic int64_t peak;		    /* (A) highest charged */
	_Atomic uint64_t
		over_max; /* (A) charges that went over max for want of anything to reclaim */
	NO_SHARING _Atomic int64_t usage[CHARGE_KINDS]; /* (A) */
	NO_SHARING _Atomic uint64_t max, high;		/* (A) seldom written */
	struct container_ops ops;			/* (C) set before the first charge */
};

void container_init(struct container *container, uint64_t max);
/* Sets both marks: high is a sixteenth below max, at most 8 MiB, at least 16 pages. */
void container_set_max(struct container *container, uint64_t max);
/* 0, or -ENOMEM: over max, make_room had nothing more to give, and nothing is charged. */
int container_charge(struct container *container, enum charge_kind kind, uint64_t bytes) MUST_CHECK;
/* Charges if it fits below max now, without asking for room. */
bool container_try(struct container *container, enum charge_kind kind, uint64_t bytes) MUST_CHECK;
void container_force(struct container *container, enum charge_kind kind, uint64_t bytes);
void container_uncharge(struct container *container, enum charge_kind kind, uint64_t bytes);

static inline uint64_t container_charged(struct container *container)
{
	int64_t charged = load_relaxed(&container->charged);

	return charged > 0 ? (uint64_t)charged : 0;
}

static inline uint64_t container_usage(struct container *container, enum charge_kind kind)
{
	int64_t usage = load_relaxed(&container->usage[kind]);

	return usage > 0 ? (uint64_t)usage : 0;
}

/* Charged and slack: what is held against max. */
static inline uint64_t container_held(struct container *container)
{
	return container_charged(container) +
	       (container->ops.slack ? container->ops.slack(container->ops.data) : 0);
}

static inline bool container_above_high(struct container *container)
{
	return container_held(container) > load_relaxed(&container->high);
}

static inline bool container_above_max(struct container *container)
{
	return container_held(container) > load_relaxed(&container->max);
}

#endif
