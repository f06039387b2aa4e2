/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Containers of a child of fork. The tree is a copy of the parent's, taken while other threads charged: which containers there are is
 * as it should be, since the forking thread had the lock for that. What follows from limits may be half done, and counters
 * are of different moments. So marks are made anew, and counters counted from what there is to count: pages (src/vm/child.c).
 */
#include <string.h>

#include "control/stock.h"
#include "os/thread.h"

void tree_before_fork(struct tree *tree)
{
	lock_acquire(&tree->shape);
}

void tree_fork_end(struct tree *tree)
{
	lock_release(&tree->shape);
}

/* Only what is charged without a page stays, its children's included. */
static void pages_forget(struct weir_container *c)
{
	int64_t other = load_relaxed(&c->charged);

	for (unsigned kind = 0; kind < CHARGE_KINDS; kind++) {
		other -= load_relaxed(&c->usage[kind]);
		store_relaxed(&c->usage[kind], 0);
	}
	store_relaxed(&c->charged, other);
	store_relaxed(&c->swap, 0);
	/* Who had it in hands is not here. */
	store_relaxed(&c->pins, 0);
	pressure_init(&c->pressure, now_ns());
	memset(c->local, 0, sizeof(c->local));
	memset(c->all, 0, sizeof(c->all));
	memset(c->count, 0, sizeof(c->count));
}

/* Its own part of that, which is not negative whatever was just being charged; to all levels, so that they agree. Parents first. */
static void other_settle(struct weir_container *c)
{
	int64_t own = load_relaxed(&c->charged);

	for (const struct weir_container *child = c->child; child; child = child->next)
		own -= MAX(load_relaxed(&child->charged), 0);
	store_relaxed(&c->charged, 0);
	for (struct weir_container *level = c; level; level = level->parent)
		store_relaxed(&level->charged, load_relaxed(&level->charged) + MAX(own, 0));
}

void tree_after_fork(struct tree *tree)
{
	struct weir_container *const root = tree->root;

	lock_init(&tree->lock, RANK_CONTAINER, "containers");
	stocks_after_fork(tree);
	for (struct weir_container *c = root; c; c = container_next(root, c)) {
		container_marks(c);
		pages_forget(c);
	}
	for (struct weir_container *c = root; c; c = container_next(root, c))
		other_settle(c);
	for (struct weir_container *c = root; c; c = container_next(root, c))
		store_relaxed(&c->peak, load_relaxed(&c->charged));
}

void container_recount(struct weir_container *container, uint64_t resident, uint64_t compressed,
		       uint64_t swap)
{
	container_force(container, CHARGE_RESIDENT, resident);
	container_force(container, CHARGE_COMPRESSED, compressed);
	container_swap_force(container, swap);
}
