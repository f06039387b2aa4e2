/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Containers: who pays. See <weir/container.h> for what the values mean.
 *
 * Everything that weir holds for a tenant is charged in bytes: resident pages, and compressed objects at the cost of
 * their size class. A charge counts in the container and in all above it. What the store has in frames without using it
 * (slack) is nobody's charge, but beyond an allowance it presses on the root as if it were.
 *
 * How a charge is made, cheapest first (charge.c):
 *
 *      the thread's stock ─▶ a batch ─▶ the exact bytes ─▶ make_room ─▶ drain every stock, once ─▶ oom
 *                            └─────── under the tree's lock: all levels or none ──────┘
 *
 * The counters are changed under one lock of the tree, all levels at once. So no charge is ever taken back: two that
 * race cannot fail each other, and `charged <= max` holds exactly at every level, but for what container_force charged.
 * The lock is taken once a batch of up to 64 pages, since in between threads charge from their stocks (stock.h).
 *
 * Invariants:
 *   - charged of a container = what is charged to itself, also by stocks, and to its children
 *   - charged <= max at every level, but for force: reclaim's own copies (at most a batch of pages), a page that nothing
 *     could make room for, pages that a fork brought in, and a max lowered below charged. A fault that goes over is
 *     counted in over_max
 *   - what stocks hold of a container <= stock_bound; a charge that fails has drained them before
 *   - quiet and drained, charged = sum of usage[] + what weir_charge charged; usage[] of a container holds its children's
 *   - charged is right again at the moment a deletion returns: the parent has all, without a page being touched
 *
 * Letters: (L) under the tree's lock, (A) atomic, (C) constant. A pointer to a parent is (C) but for
 * container_move, which moves only containers that nothing is charged to.
 */
#ifndef WEIR_CONTROL_CONTAINER_H
#define WEIR_CONTROL_CONTAINER_H

#include "base/atomic.h"
#include "base/base.h"
#include "base/lock.h"
#include "control/pressure.h"
#include "weir/weir.h"

enum charge_kind { CHARGE_RESIDENT, CHARGE_FILE, CHARGE_COMPRESSED, CHARGE_KINDS };
/* In the order of struct weir_events. */
enum container_event {
	EVENT_LOW,
	EVENT_HIGH,
	EVENT_MAX,
	EVENT_OOM,
	EVENT_SWAP_MAX,
	EVENT_SWAP_FAIL,
	EVENTS
};
enum container_count {
	COUNT_SOFT,
	COUNT_MAJOR,
	COUNT_REFAULTS,
	COUNT_SCANNED,
	COUNT_STOLEN,
	COUNT_FAILURES, /* charges that failed */
	COUNT_OVER_MAX, /* charges that went over max for want of anything to reclaim */
	COUNTS
};

enum room {
	ROOM_NEVER, /* nothing can be freed */
	ROOM_LATER, /* not now: pages are busy, a fork is under way, writing has not caught up */
	ROOM_MADE,  /* try again */
};

/*
 * What control asks of the layers above, by the thread that charges or sets a value, with no lock held but where it is said. Any may be NULL.
 *   make_room  so many bytes below level; may reclaim, never sleeps on a page
 *   throttle   level is above high: reclaims from it for a while
 *   reclaim    as weir_container_reclaim; returns the bytes that were freed
 *   reparent   its pages and regions to its parent; returns when no thread has the container in its hands any more
 *   used       does it have regions? Under the tree's lock
 *   stat       fills what only the pages tell
 *   notice     a value was set: look whether something is to be done
 *   slack      bytes held and not used, beyond the allowance; called often and under the lock, reads a few counters
 */
struct control_ops {
	enum room (*make_room)(void *data, struct weir_container *level, uint64_t bytes);
	void (*throttle)(void *data, struct weir_container *level);
	uint64_t (*reclaim)(void *data, struct weir_container *container, uint64_t bytes);
	void (*reparent)(void *data, struct weir_container *container);
	bool (*used)(void *data, struct weir_container *container);
	void (*stat)(void *data, struct weir_container *container,
		     struct weir_container_stat *stat);
	void (*notice)(void *data);
	uint64_t (*slack)(void *data);
	void *data;
};

/* The most that one slot of a stock takes at a time, and keeps at most twice. */
enum { STOCK_BATCH = 64 << PAGE_SHIFT };

struct tree {
	struct lock
		shape; /* RANK_TREE: held by who changes which containers there are, and over a fork */
	struct lock lock;	     /* (L) RANK_CONTAINER */
	struct weir_container *root; /* (C) */
	struct control_ops ops;	     /* (C) set before the first charge */
	_Atomic uint32_t count;	     /* (A) containers; written under the lock */
};

struct weir_container {
	NO_SHARING _Atomic int64_t charged; /* (A) written under the lock; descendants included */
	_Atomic int64_t peak;		    /* (A) written under the lock */
	_Atomic int64_t swap;		    /* (A) written under the lock: bytes in the file */
	NO_SHARING _Atomic uint64_t max, high, low, swap_max; /* (A) written under the lock */
	_Atomic uint64_t limit; /* (A) the lowest max from here to the root */
	_Atomic uint64_t
		mark; /* (A) background reclaim begins here: below max, and not above high */
	_Atomic uint64_t batch;			      /* (A) what a stock takes at a time */
	struct weir_container *parent, *child, *next; /* (L); parent see above */
	struct tree *tree;			      /* (C) */
	unsigned depth;				      /* (L) */
	_Atomic uint32_t
		pins;	 /* (A) raised under the lock; slept on as a futex by who deletes it */
	uint64_t elow;	 /* (L) container_protect: effective low */
	bool safe;	 /* (L) container_protect: nothing may be taken */
	weir_oom_fn oom; /* (L) */
	void *oom_data;	 /* (L) */
	char name[WEIR_NAME_MAX + 1];			/* (C) */
	NO_SHARING _Atomic int64_t usage[CHARGE_KINDS]; /* (A) */
	_Atomic uint64_t local[EVENTS], all[EVENTS];	/* (A) */
	_Atomic uint64_t count[COUNTS];			/* (A) */
	NO_SHARING struct pressure pressure;
	/* What the layers above keep of a container; zero when it is created. */
	NO_SHARING uint64_t above[32];
};

/* A tree with its root, whose max this is. 0 or -ENOMEM. */
int tree_init(struct tree *tree, uint64_t max);
/*
 * child.c: forks. From before one until it is over, in parent and child, no container comes, goes or moves.
 * tree_after_fork: in the child, by the thread that forked: the tree is whole, its locks are free, and each container is charged what was
 * charged to it without a page, but for what other threads were just charging. container_recount: what pages say, on top of that.
 */
void tree_before_fork(struct tree *tree);
void tree_fork_end(struct tree *tree);
void tree_after_fork(struct tree *tree);
void container_recount(struct weir_container *container, uint64_t resident, uint64_t compressed,
		       uint64_t swap);
/* Frees all containers; nobody charges any more. */
void tree_destroy(struct tree *tree);
/* Sets max; high stays. The mark is a sixteenth below max, at most 8 MiB, at least 16 pages. */
void container_set_max(struct weir_container *container, uint64_t max);
/* Everything that follows from the limits of a container and those above it. The lock is held. */
void container_marks(struct weir_container *container);

/*
 * 0; -ENOMEM: over max, nothing can be reclaimed, and the oom handler had no other answer; -EAGAIN: there is no room just
 * now, or it is the root's max and the root has no handler. Nothing is charged then.
 */
int container_charge(struct weir_container *container, enum charge_kind kind,
		     uint64_t bytes) MUST_CHECK;
/* Charges if it fits now, without asking for room. */
bool container_try(struct weir_container *container, enum charge_kind kind,
		   uint64_t bytes) MUST_CHECK;
void container_force(struct weir_container *container, enum charge_kind kind, uint64_t bytes);
void container_uncharge(struct weir_container *container, enum charge_kind kind, uint64_t bytes);
/*
 * The same past the thread's stock: for pages that leave for copies which were charged by force. From its stock the thread would pay for the
 * next touch, of which a copy is made by force again: one more at each touch, over max, and nobody would be asked for room.
 */
void container_uncharge_levels(struct weir_container *container, enum charge_kind kind,
			       uint64_t bytes);
/* What is charged to `from` is `to`'s from now on. -ENOMEM: it does not fit there, and nothing has changed. Counters
 * of ancestors that both have are not touched. */
int container_transfer(struct weir_container *from, struct weir_container *to,
		       enum charge_kind kind, uint64_t bytes) MUST_CHECK;
/* The same, whatever the limits are; bytes in the file, too. */
void container_transfer_force(struct weir_container *from, struct weir_container *to,
			      enum charge_kind kind, uint64_t bytes);
void container_swap_transfer_force(struct weir_container *from, struct weir_container *to,
				   uint64_t bytes);
/* Bytes in the file; -ENOMEM: swap.max. */
int container_swap_transfer(struct weir_container *from, struct weir_container *to,
			    uint64_t bytes) MUST_CHECK;
/* The same without a kind: what weir_charge and weir_uncharge are made of. */
int charge_bytes(struct weir_container *container, uint64_t bytes) MUST_CHECK;
void uncharge_bytes(struct weir_container *container, uint64_t bytes);
/* Takes all levels or none. Returns the level that is in the way, or NULL. For stock.c. */
struct weir_container *charge_levels(struct weir_container *container, uint64_t bytes);
void uncharge_levels(struct weir_container *container, uint64_t bytes);

/* Bytes in the file. False: swap.max of some level is in the way, and its event is counted. */
bool container_swap_try(struct weir_container *container, uint64_t bytes) MUST_CHECK;
/* Is there room for one page more? */
bool container_swap_full(struct weir_container *container);
void container_swap_uncharge(struct weir_container *container, uint64_t bytes);
/* Whatever swap.max is. */
void container_swap_force(struct weir_container *container, uint64_t bytes);

void container_event(struct weir_container *container, enum container_event event);
void container_count(struct weir_container *container, enum container_count count, uint64_t n);
/* The thread tid loads something without a stall, in this container and all above it. */
void container_fault_note(struct weir_container *container, int tid, uint64_t now);
/* A stall of the thread tid, in this container and all above it. */
void container_stall_begin(struct weir_container *container, int tid, uint64_t now);
void container_stall_end(struct weir_container *container, uint64_t now);
/* The first level, from the container upwards, that is above its high; NULL: none. */
struct weir_container *container_over_high(struct weir_container *container);
/* Before a page is charged: makes the thread work for each level that is above its high. */
void container_throttle(struct weir_container *container);
/* How long a thread that wants a page is to sleep, since that was not enough: the square of how far the level that is farthest above
 * its high is above it. 0 up to two hundredths, DELAY_MOST_NS from a seventh on. */
enum { DELAY_MOST_NS = 2000000 };
uint64_t container_delay_ns(struct weir_container *container);
/* Is there no room for a page more, but for what stocks hold? */
bool container_full(struct weir_container *container);

/* As weir_container_find, and its deletion waits for the unpin: for who did not create it. */
struct weir_container *container_pin(struct weir_container *parent, const char *path);
void container_unpin(struct weir_container *container);

/* --- the tree, for reclaim; the caller holds the lock --- */

/* "batch/nightly"; "" for the root. Its length, or -ENAMETOOLONG. */
int container_path(const struct weir_container *container, char *path, size_t room);

/* All containers from root downwards, parents first: the one after c, or NULL. */
struct weir_container *container_next(const struct weir_container *root, struct weir_container *c);
/*
 * Effective low of everything below target, as reclaim for target sees it: low, but where the lows of children are more
 * than the parent is itself protected, shares in proportion to what they use of them. Sets elow and safe.
 */
void container_protect(struct weir_container *target);
/* Charged to the container itself, in one kind or in all. */
uint64_t container_own_usage(const struct weir_container *container, enum charge_kind kind);
uint64_t container_own_charged(const struct weir_container *container);

static inline bool container_below(const struct weir_container *container,
				   const struct weir_container *root)
{
	while (container && container != root)
		container = container->parent;
	return container != NULL;
}

static inline uint64_t positive(int64_t counter)
{
	return counter > 0 ? (uint64_t)counter : 0;
}
static inline uint64_t container_charged(const struct weir_container *container)
{
	return positive(load_relaxed(&container->charged));
}
static inline uint64_t container_usage(const struct weir_container *container,
				       enum charge_kind kind)
{
	return positive(load_relaxed(&container->usage[kind]));
}

/* Charged and slack: what is held against max. */
static inline uint64_t container_held(const struct weir_container *container)
{
	const struct control_ops *ops = &container->tree->ops;

	return container_charged(container) +
	       (!container->parent && ops->slack ? ops->slack(ops->data) : 0);
}
static inline bool container_above_mark(const struct weir_container *container)
{
	return container_held(container) > load_relaxed(&container->mark);
}
static inline bool container_above_max(const struct weir_container *container)
{
	return container_held(container) > load_relaxed(&container->max);
}
/* The first level, from the container upwards, that is above its mark; NULL: none. */
struct weir_container *container_pressed(struct weir_container *container);

#endif
