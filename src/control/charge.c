/* SPDX-License-Identifier: BSD-2-Clause */
/* Charging and uncharging: see container.h for the order of attempts. */
#include <errno.h>

#include "base/log.h"
#include "base/size.h"
#include "control/stock.h"
#include "os/thread.h"

/* --- the counters --- */

/* The level at which so many bytes more would not fit. */
static struct weir_container *level_full(struct weir_container *container, uint64_t bytes)
{
	for (struct weir_container *c = container; c; c = c->parent) {
		if (container_held(c) + bytes > load_relaxed(&c->max))
			return c;
	}
	return NULL;
}

bool container_full(struct weir_container *container)
{
	return level_full(container, PAGE_SIZE) != NULL;
}

/*
 * The lock is held: the only writer. Who reads charged, then peak, never finds the peak below it.
 */
static inline void level_add(struct weir_container *c, int64_t bytes)
{
	int64_t now = load_relaxed(&c->charged) + bytes;

	assert_always(now >= 0);
	if (bytes > 0 && now > load_relaxed(&c->peak))
		store_relaxed(&c->peak, now);
	/* Pairs with the acquire in weir_container_get. */
	store_release(&c->charged, now);
}

static inline void levels_add(struct weir_container *container, int64_t bytes)
{
	for (struct weir_container *c = container; c; c = c->parent)
		level_add(c, bytes);
}

struct weir_container *charge_levels(struct weir_container *container, uint64_t bytes)
{
	struct tree *tree = container->tree;
	struct weir_container *full;

	lock_acquire(&tree->lock);
	full = level_full(container, bytes);
	if (likely(!full))
		levels_add(container, (int64_t)bytes);
	lock_release(&tree->lock);
	return full;
}

void uncharge_levels(struct weir_container *container, uint64_t bytes)
{
	struct tree *tree = container->tree;

	lock_acquire(&tree->lock);
	levels_add(container, -(int64_t)bytes);
	lock_release(&tree->lock);
}

static void force_levels(struct weir_container *container, uint64_t bytes)
{
	lock_acquire(&container->tree->lock);
	levels_add(container, (int64_t)bytes);
	lock_release(&container->tree->lock);
}

/* What one call may charge, and what a handler may let over in all: counters have room for it and for every page. */
#define BYTES_MOST ((uint64_t)INT64_MAX / 2)

static int charge_over(struct weir_container *container, uint64_t bytes)
{
	struct tree *tree = container->tree;
	bool counts;

	lock_acquire(&tree->lock);
	counts = container_charged(tree->root) + bytes <= BYTES_MOST;
	if (counts)
		levels_add(container, (int64_t)bytes);
	lock_release(&tree->lock);
	return counts ? 0 : -ENOMEM;
}

static void usage_add(struct weir_container *container, enum charge_kind kind, int64_t bytes)
{
	for (struct weir_container *c = container; c; c = c->parent) {
		int64_t before = add_relaxed(&c->usage[kind], bytes);

		assert_always(before + bytes >= 0);
	}
}

/* --- attempts --- */

/* Stock, batch, exact. Returns the level in the way, or NULL when it is charged. */
static inline struct weir_container *attempt(struct weir_container *container, uint64_t bytes)
{
	struct stock *stock = stock_here;
	uint64_t batch = load_relaxed(&container->batch);

	/* More than a slot may hold goes its own way, and leaves the slots as they are. */
	if (stock && bytes <= 2 * batch) {
		if (stock_take_slow(stock, container, bytes))
			return NULL;
		/* Where bytes is a batch and more, the slot could come to have more than two. */
		if (bytes < batch && stock_refill(stock, container, bytes, batch))
			return NULL;
	}
	return charge_levels(container, bytes);
}

static enum room ask_room(struct weir_container *level, uint64_t bytes)
{
	const struct control_ops *ops = &level->tree->ops;

	return ops->make_room ? ops->make_room(ops->data, level, bytes) : ROOM_NEVER;
}

/* The handler of level, or of the first one above it that has one; NULL: none. */
static weir_oom_fn oom_handler(struct weir_container *level, void **data)
{
	weir_oom_fn fn = NULL;

	lock_acquire(&level->tree->lock);
	for (struct weir_container *c = level; c && !fn; c = c->parent) {
		fn = c->oom;
		*data = c->oom_data;
	}
	lock_release(&level->tree->lock);
	return fn;
}

/* The 1st, 2nd, 4th, 8th time. */
static void oom_say(struct weir_container *level)
{
	const uint64_t times = load_relaxed(&level->local[EVENT_OOM]);
	char limit[SIZE_TEXT], used[SIZE_TEXT];

	if ((times & (times - 1)) == 0)
		log_line("container '%s' is out of memory: max %s, in use %s, and nothing can be "
			 "reclaimed. "
			 "Raise its max, or give its pages a file to go to",
			 level->name, size_print(load_relaxed(&level->max), limit),
			 size_print(container_charged(level), used));
}

/* Reclaim and draining have not helped. 0: it is charged all the same; 1: try again; else -errno. */
static int out_of_memory(struct weir_container *container, struct weir_container *level,
			 uint64_t bytes)
{
	void *data = NULL;
	weir_oom_fn fn = oom_handler(level, &data);
	int err;

	container_event(level, EVENT_OOM);
	if (!fn) {
		/* What is right for the whole instance is for the caller to know: a fault goes over. */
		if (!level->parent)
			return -EAGAIN;
		oom_say(level);
		return -ENOMEM;
	}
	switch (fn(data, level, bytes)) {
	case WEIR_OOM_OVER:
		err = charge_over(container, bytes);
		if (!err)
			container_count(level, COUNT_OVER_MAX, 1);
		return err;
	case WEIR_OOM_RETRY:
		return 1;
	case WEIR_OOM_FAIL:
		break;
	}
	return -ENOMEM;
}

/* A limit is in the way, at that level. */
static __attribute__((noinline)) int charge_at_limit(struct weir_container *container,
						     uint64_t bytes, struct weir_container *level)
{
	enum { PATIENCE = 16 };
	unsigned retries = 0;
	bool drained = false;
	int err;

	container_event(level, EVENT_MAX);
	for (; level; level = charge_levels(container, bytes)) {
		enum room room = ask_room(level, bytes);

		if (room == ROOM_MADE)
			continue;
		if (!drained) {
			drained = true;
			(void)stocks_drain(container->tree, NULL, false);
			continue;
		}
		err = room == ROOM_LATER ? -EAGAIN : out_of_memory(container, level, bytes);
		if (!err)
			return 0;
		if (err < 0 || ++retries > PATIENCE) {
			container_count(level, COUNT_FAILURES, 1);
			return err < 0 ? err : -ENOMEM;
		}
	}
	return 0;
}

static __attribute__((noinline)) int charge_slow(struct weir_container *container, uint64_t bytes)
{
	struct weir_container *level = attempt(container, bytes);

	return likely(!level) ? 0 : charge_at_limit(container, bytes, level);
}

static __attribute__((noinline)) void uncharge_slow(struct weir_container *container,
						    uint64_t bytes)
{
	struct stock *stock = stock_here;

	if (!stock || bytes > 2 * load_relaxed(&container->batch) ||
	    !stock_give_slow(stock, container, bytes))
		uncharge_levels(container, bytes);
}

int charge_bytes(struct weir_container *container, uint64_t bytes)
{
	struct stock *stock = stock_here;

	if (likely(stock) && likely(stock_take(stock, container, bytes)))
		return 0;
	return charge_slow(container, bytes);
}

void uncharge_bytes(struct weir_container *container, uint64_t bytes)
{
	struct stock *stock = stock_here;

	if (likely(stock) && likely(stock_give(stock, container, bytes)))
		return;
	uncharge_slow(container, bytes);
}

/* --- with a kind --- */

int container_charge(struct weir_container *container, enum charge_kind kind, uint64_t bytes)
{
	int err = charge_bytes(container, bytes);

	if (!err)
		usage_add(container, kind, (int64_t)bytes);
	return err;
}

bool container_try(struct weir_container *container, enum charge_kind kind, uint64_t bytes)
{
	struct stock *stock = stock_here;

	if (!(stock && stock_take(stock, container, bytes)) && attempt(container, bytes))
		return false;
	usage_add(container, kind, (int64_t)bytes);
	return true;
}

void container_force(struct weir_container *container, enum charge_kind kind, uint64_t bytes)
{
	struct stock *stock = stock_here;

	if (!stock || !stock_take_slow(stock, container, bytes))
		force_levels(container, bytes);
	usage_add(container, kind, (int64_t)bytes);
}

void container_uncharge(struct weir_container *container, enum charge_kind kind, uint64_t bytes)
{
	usage_add(container, kind, -(int64_t)bytes);
	uncharge_bytes(container, bytes);
}

void container_uncharge_levels(struct weir_container *container, enum charge_kind kind,
			       uint64_t bytes)
{
	usage_add(container, kind, -(int64_t)bytes);
	uncharge_levels(container, bytes);
}

/* The lowest container that both are, or lie below. */
static struct weir_container *common(struct weir_container *a, struct weir_container *b)
{
	while (a != b) {
		if (a->depth >= b->depth)
			a = a->parent;
		else
			b = b->parent;
	}
	return a;
}

static void level_move(struct weir_container *c, enum charge_kind kind, int64_t bytes)
{
	if (kind == CHARGE_KINDS) {
		store_relaxed(&c->swap, load_relaxed(&c->swap) + bytes);
		return;
	}
	level_add(c, bytes);
	add_relaxed(&c->usage[kind], bytes);
}

/* Levels that only one of the two has. kind CHARGE_KINDS: bytes in the file. */
static int transfer(struct weir_container *from, struct weir_container *to, enum charge_kind kind,
		    int64_t bytes, bool force)
{
	struct weir_container *both, *c;
	int err = 0;

	lock_acquire(&from->tree->lock);
	both = common(from, to);
	for (c = to; c != both && !err && !force; c = c->parent) {
		bool fits = kind == CHARGE_KINDS
				    ? load_relaxed(&c->swap) + bytes <=
					      (int64_t)MIN(load_relaxed(&c->swap_max),
							   (uint64_t)INT64_MAX)
				    : container_held(c) + (uint64_t)bytes <= load_relaxed(&c->max);

		err = fits ? 0 : -ENOMEM;
	}
	for (c = to; c != both && !err; c = c->parent)
		level_move(c, kind, bytes);
	for (c = from; c != both && !err; c = c->parent)
		level_move(c, kind, -bytes);
	lock_release(&from->tree->lock);
	return err;
}

int container_transfer(struct weir_container *from, struct weir_container *to,
		       enum charge_kind kind, uint64_t bytes)
{
	return transfer(from, to, kind, (int64_t)bytes, false);
}

void container_transfer_force(struct weir_container *from, struct weir_container *to,
			      enum charge_kind kind, uint64_t bytes)
{
	(void)transfer(from, to, kind, (int64_t)bytes, true);
}

int container_swap_transfer(struct weir_container *from, struct weir_container *to, uint64_t bytes)
{
	return transfer(from, to, CHARGE_KINDS, (int64_t)bytes, false);
}

void container_swap_transfer_force(struct weir_container *from, struct weir_container *to,
				   uint64_t bytes)
{
	(void)transfer(from, to, CHARGE_KINDS, (int64_t)bytes, true);
}

/* --- swap --- */

static struct weir_container *swap_full(struct weir_container *container, uint64_t bytes)
{
	for (struct weir_container *c = container; c; c = c->parent) {
		if (positive(load_relaxed(&c->swap)) + bytes > load_relaxed(&c->swap_max))
			return c;
	}
	return NULL;
}

bool container_swap_full(struct weir_container *container)
{
	return swap_full(container, PAGE_SIZE) != NULL;
}

static void swap_add(struct weir_container *container, int64_t bytes)
{
	for (struct weir_container *c = container; c; c = c->parent) {
		int64_t now = load_relaxed(&c->swap) + bytes;

		assert_always(now >= 0);
		store_relaxed(&c->swap, now);
	}
}

void container_swap_force(struct weir_container *container, uint64_t bytes)
{
	lock_acquire(&container->tree->lock);
	swap_add(container, (int64_t)bytes);
	lock_release(&container->tree->lock);
}

bool container_swap_try(struct weir_container *container, uint64_t bytes)
{
	struct weir_container *full;

	lock_acquire(&container->tree->lock);
	full = swap_full(container, bytes);
	if (!full)
		swap_add(container, (int64_t)bytes);
	lock_release(&container->tree->lock);
	if (full) {
		container_event(full, EVENT_SWAP_MAX);
		container_event(full, EVENT_SWAP_FAIL);
	}
	return !full;
}

void container_swap_uncharge(struct weir_container *container, uint64_t bytes)
{
	lock_acquire(&container->tree->lock);
	swap_add(container, -(int64_t)bytes);
	lock_release(&container->tree->lock);
}

/* --- public --- */

int weir_charge(struct weir_container *container, uint64_t bytes)
{
	struct stock *stock;

	if (unlikely(!stock_here))
		(void)stock_open_for_life();
	if (unlikely(bytes > BYTES_MOST))
		return -ENOMEM;
	stock = stock_here;
	if (likely(stock) && likely(stock_take(stock, container, bytes)))
		return 0;
	/* The program's thread takes locks that handlers take too. */
	THREAD_SIGNALS_BLOCKED;
	return charge_slow(container, bytes) ? -ENOMEM : 0;
}

void weir_uncharge(struct weir_container *container, uint64_t bytes)
{
	struct stock *stock = stock_here;

	/* A size that was taken from a larger one and is negative would charge. */
	assert_always(bytes <= BYTES_MOST);
	if (likely(stock) && likely(stock_give(stock, container, bytes)))
		return;
	THREAD_SIGNALS_BLOCKED;
	uncharge_slow(container, bytes);
}

uint64_t weir_charge_bound(struct weir_container *container)
{
	return stock_bound(container);
}
