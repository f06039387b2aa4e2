/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Emptying an isolated range: whatever is allocated there is moved by its owner, until only isolated frames are left.
 *
 * Nothing can be allocated from the range any more, so what has gone does not come back: each turn walks it from the
 * start, and moves what it finds. What is pinned or busy is met again at the next turn, until the deadline. Between
 * turns that achieved nothing the thread sleeps until a frame of an isolated pageblock is freed or unpinned.
 */
#include <stdio.h>
#include <string.h>

#include "pool/pool.h"

enum { NAP_NS = 1000000, PROGRESS_EVERY = 64 };

int why_set(struct weir_pool_why *why, enum weir_pool_reason reason, int err)
{
	if (why)
		*why = (struct weir_pool_why){.reason = reason, .err = err, .pfn = WEIR_PFN_NONE};
	return err;
}

int why_frame(struct weir_pool *pool, struct weir_pool_why *why, enum weir_pool_reason reason,
	      int err, weir_pfn_t pfn, uint32_t word)
{
	const struct weir_pool_owner *owner = &pool->owner[frame_owner(word)];
	size_t used = 0;

	if (!why)
		return err;
	(void)why_set(why, reason, err);
	why->pfn = pfn;
	why->order = frame_order(word);
	why->owner = frame_owner(word);
	why->pins = load_relaxed(&pool->frame[pfn].pins);
	if (owner->name) {
		int n = snprintf(why->holder, sizeof(why->holder), "%s", owner->name);

		used = MIN((size_t)MAX(n, 0), sizeof(why->holder) - 1);
	}
	if (owner->describe && used + 3 < sizeof(why->holder)) {
		memcpy(why->holder + used, ": ", 3);
		owner->describe(owner->data, pfn, load_relaxed(&pool->frame[pfn].private_word),
				why->holder + used + 2, sizeof(why->holder) - used - 2);
		why->holder[sizeof(why->holder) - 1] = '\0';
	}
	return err;
}

void evacuation_wake(struct weir_pool *pool)
{
	if (likely(!load_relaxed(&pool->evacuating)))
		return;
	add_acq_rel(&pool->evacuated, 1);
	(void)futex_wake(&pool->evacuated, 1);
}

struct evacuation {
	struct weir_pool *pool;
	struct zone *zone;
	weir_pfn_t start, end;
	const struct weir_pool_evacuation *how;
	const _Atomic bool *give_up;
	struct weir_pool_why *why;
	uint64_t moved;	   /* frames */
	bool blocked;	   /* this turn has met what it could not move */
	unsigned reported; /* since progress was last called */
};

/* The first run from pfn on, where one begins, that is somebody's and reaches into the range; end: none. Runs that are isolated
 * or somebody's do not merge, so where one began one begins still. */
static weir_pfn_t next_held(struct evacuation *e, weir_pfn_t pfn, uint32_t *word)
{
	while (pfn < e->end) {
		const weir_pfn_t stop =
			MIN(e->end, ALIGN_DOWN(pfn, (weir_pfn_t)PAGEBLOCK) + PAGEBLOCK);

		lock_acquire(&e->zone->lock);
		if (e->pool->pageblock[pageblock_of(pfn)].held == PAGEBLOCK)
			pfn = stop;
		while (pfn < stop) {
			weir_pfn_t next;

			*word = load_relaxed(&e->pool->frame[pfn].word);
			next = pfn + (1u << frame_order(*word));
			if (next > e->start && frame_state(*word) != FRAME_ISOLATED)
				break;
			pfn = next;
		}
		lock_release(&e->zone->lock);
		if (pfn < stop)
			break;
	}
	return MIN(pfn, e->end);
}

/* Asks the owner. 0: it is gone from there; -EAGAIN: not now; else the evacuation has failed. */
static int frame_move(struct evacuation *e, weir_pfn_t pfn, uint32_t word)
{
	struct weir_pool *pool = e->pool;
	const unsigned order = frame_order(word), id = frame_owner(word);
	const struct weir_pool_owner *owner = &pool->owner[id];
	const uint64_t private_word = load_relaxed(&pool->frame[pfn].private_word);
	int64_t to = WEIR_PFN_NONE;
	int err;

	if (!(owner->flags & WEIR_OWNER_OWN_ROOM)) {
		to = weir_pool_alloc(pool, order,
				     WEIR_POOL_MOVABLE | WEIR_POOL_RESERVE |
					     (zone_index(pool, pfn) ? WEIR_POOL_HIGH : 0),
				     id);
		if (to < 0)
			return why_frame(pool, e->why, WEIR_POOL_NO_ROOM, -ENOMEM, pfn, word);
		store_relaxed(&pool->frame[to].private_word, private_word);
	}
	err = owner->migrate(owner->data, pfn, order, private_word, (weir_pfn_t)to);
	if (to != WEIR_PFN_NONE)
		assert_always(!weir_pool_free(pool, err ? (weir_pfn_t)to : pfn, order));
	if (err == -ENOMEM)
		return why_frame(pool, e->why, WEIR_POOL_NO_ROOM, -ENOMEM, pfn, word);
	if (err && err != -EAGAIN && err != -ENOENT)
		return why_frame(pool, e->why, WEIR_POOL_MIGRATE, err, pfn, word);
	if (err == -EAGAIN)
		return -EAGAIN;
	e->moved += 1u << order;
	add_relaxed(&pool->migrated, 1u << order);
	return 0;
}

static int frame_try(struct evacuation *e, weir_pfn_t pfn, uint32_t word)
{
	enum weir_pool_reason reason = WEIR_POOL_HOLDER_BUSY;
	unsigned held = 0;
	int err = -EAGAIN;

	if (frame_state(word) == FRAME_ALLOCATED) {
		held = windows_held(e->pool, pfn, pfn + (1u << frame_order(word)));
		if (held || load_relaxed(&e->pool->frame[pfn].pins))
			reason = WEIR_POOL_PINNED;
		else
			err = frame_move(e, pfn, word);
	}
	/* Anything else is in the hands of a trim, and comes back by itself. */
	if (err == -EAGAIN && !e->blocked) {
		(void)why_frame(e->pool, e->why, reason, -EBUSY, pfn, word);
		if (e->why)
			e->why->pins += held;
		e->blocked = true;
	}
	return err == -EAGAIN ? 0 : err;
}

static int check_in(struct evacuation *e)
{
	if (e->give_up && load_relaxed(e->give_up))
		return why_set(e->why, WEIR_POOL_NO_ROOM, -ENOMEM);
	if (e->how->progress && e->reported++ % PROGRESS_EVERY == 0) {
		uint64_t done = 0;

		lock_acquire(&e->zone->lock);
		for (weir_pfn_t pfn = ALIGN_DOWN(e->start, (weir_pfn_t)PAGEBLOCK); pfn < e->end;
		     pfn += PAGEBLOCK)
			done += e->pool->pageblock[pageblock_of(pfn)].held;
		lock_release(&e->zone->lock);
		if (e->how->progress(e->how->data, MIN(done, (uint64_t)(e->end - e->start)),
				     e->end - e->start))
			return why_set(e->why, WEIR_POOL_INTERRUPTED, -EINTR);
	}
	return 0;
}

/* Everything that is there, once. */
static int turn(struct evacuation *e)
{
	/* The range may begin inside a run. */
	weir_pfn_t pfn = ALIGN_DOWN(e->start, (weir_pfn_t)PAGEBLOCK);
	uint32_t word = 0;
	int err = check_in(e);

	e->blocked = false;
	while (!err && (pfn = next_held(e, pfn, &word)) < e->end) {
		err = frame_try(e, pfn, word);
		if (!err)
			err = check_in(e);
		pfn += 1u << frame_order(word);
	}
	return err;
}

static bool is_empty(struct evacuation *e)
{
	bool empty;

	lock_acquire(&e->zone->lock);
	empty = range_first_not_isolated(e->pool, e->start, e->end) == e->end;
	lock_release(&e->zone->lock);
	return empty;
}

int range_evacuate(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end,
		   const struct weir_pool_evacuation *how, const _Atomic bool *give_up,
		   uint64_t *moved, struct weir_pool_why *why)
{
	static const struct weir_pool_evacuation none;
	struct evacuation e = {.pool = pool,
			       .zone = zone_of(pool, start),
			       .start = start,
			       .end = end,
			       .how = how ? how : &none,
			       .give_up = give_up,
			       .why = why};
	const uint64_t deadline = now_ns() + e.how->timeout_ns;
	int err;

	for (;;) {
		/* Pairs with evacuation_wake. What is freed before this thread is counted as a sleeper wakes nobody: so
		 * the sleep is short. */
		uint32_t seen = load_acquire(&pool->evacuated);
		uint64_t before = e.moved;

		err = turn(&e);
		if (err || is_empty(&e))
			break;
		if (now_ns() >= deadline) {
			err = -EBUSY;
			/* What was in the way has moved just now, and something else is there. */
			if (!e.blocked)
				(void)why_set(why, WEIR_POOL_HOLDER_BUSY, -EBUSY);
			break;
		}
		if (e.moved != before)
			continue;
		add_relaxed(&pool->evacuating, 1);
		(void)futex_wait(&pool->evacuated, seen, NAP_NS);
		sub_relaxed(&pool->evacuating, 1);
	}
	*moved = e.moved;
	return err;
}
