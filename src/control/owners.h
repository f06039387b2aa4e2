/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whose pages: a table of at most 16 containers, one for each region, so that a page's owner is four bits of its word and
 * takes no memory of its own.
 *
 * A page is charged to the container in its slot. `current` is the slot that pages brought in from now on get. Moving
 * the region to another container takes another slot; its pages keep theirs until they come in anew. Deleting
 * a container turns its slots over to its parent, which has all that it was charged: so all pages change their owner by one
 * store, and nothing keeps a dead container alive.
 *
 * Who charges or uncharges a page reads its slot under the page's busy bit. So of two that do so one after the other, the
 * second never sees an older owner than the first. A thread that still has a container in its hands when the slot
 * is turned over charges a counter that is about to go, and all those above that stay: nothing is lost. The one
 * who deletes waits for such threads before the memory goes.
 */
#ifndef WEIR_CONTROL_OWNERS_H
#define WEIR_CONTROL_OWNERS_H

#include "control/container.h"

enum { OWNERS_MAX = 16 };

struct owners {
	_Atomic(struct weir_container *)
		slot[OWNERS_MAX]; /* (A) written under the instance's lock */
	_Atomic uint32_t current; /* (A) written under the instance's lock */
};

static inline struct weir_container *owners_get(const struct owners *owners, unsigned slot)
{
	/* Pairs with the release in owners_set: a container that has just been made is all there. */
	return load_acquire(&owners->slot[slot]);
}

static inline void owners_set(struct owners *owners, unsigned slot,
			      struct weir_container *container)
{
	store_release(&owners->slot[slot], container);
}

/* All that is the container's is its parent's from now on. */
static inline void owners_reparent(struct owners *owners, const struct weir_container *container)
{
	for (unsigned slot = 0; slot < OWNERS_MAX; slot++) {
		if (owners_get(owners, slot) == container)
			owners_set(owners, slot, container->parent);
	}
}

/* One bit for each slot that is this container's, or one below it. */
static inline uint32_t owners_mask(const struct owners *owners,
				   const struct weir_container *container, bool below)
{
	uint32_t mask = 0;

	for (unsigned i = 0; i < OWNERS_MAX; i++) {
		const struct weir_container *c = load_acquire(&owners->slot[i]);

		if (c && (c == container || (below && container_below(c, container))))
			mask |= 1u << i;
	}
	return mask;
}

#endif
