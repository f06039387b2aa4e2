/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Blocks: memory hotplug. The states are drawn in weir/pool.h; each function here performs the transition that it is named
 * after, or leaves everything as it was.
 */
#include <string.h>

#include "os/mem.h"
#include "pool/pool.h"

static weir_pfn_t block_start(const struct weir_pool *pool, uint32_t block)
{
	return (weir_pfn_t)block << pool->block_shift;
}

static uint32_t block_frames(const struct weir_pool *pool)
{
	return 1u << pool->block_shift;
}

static enum weir_block_state state_of(const struct weir_pool *pool, uint32_t block)
{
	return (enum weir_block_state)load_relaxed(&pool->block[block].state);
}

static void state_set(struct weir_pool *pool, uint32_t block, enum weir_block_state state)
{
	struct zone *zone = zone_of(pool, block_start(pool, block));

	/* Walkers of the zone look at the state under its lock. */
	lock_acquire(&zone->lock);
	store_relaxed(&pool->block[block].state, state);
	lock_release(&zone->lock);
}

/* --- add and remove --- */

static int zone_add(struct weir_pool *pool, struct zone *zone, uint32_t blocks, uint32_t *first)
{
	const uint32_t end = zone->end >> pool->block_shift;
	uint32_t run = 0;

	for (uint32_t b = zone->start >> pool->block_shift; b < end; b++) {
		run = state_of(pool, b) == WEIR_BLOCK_ABSENT ? run + 1 : 0;
		if (run < blocks)
			continue;
		*first = b + 1 - blocks;
		for (uint32_t i = *first; i <= b; i++)
			state_set(pool, i, WEIR_BLOCK_OFFLINE);
		lock_acquire(&zone->lock);
		zone->total += (uint64_t)blocks << pool->block_shift;
		zone->offline += (uint64_t)blocks << pool->block_shift;
		lock_release(&zone->lock);
		return 0;
	}
	return -ENOMEM;
}

int weir_pool_add(struct weir_pool *pool, enum weir_zone zone, uint32_t blocks, uint32_t *first)
{
	int err;

	if ((unsigned)zone >= ZONES || !blocks || !first)
		return -EINVAL;
	lock_acquire(&pool->hotplug);
	err = zone_add(pool, &pool->zone[zone], blocks, first);
	lock_release(&pool->hotplug);
	return err;
}

int weir_pool_remove(struct weir_pool *pool, uint32_t block)
{
	struct zone *zone;
	int err = -EINVAL;

	if (block >= pool->blocks)
		return -EINVAL;
	zone = zone_of(pool, block_start(pool, block));
	lock_acquire(&pool->hotplug);
	if (state_of(pool, block) == WEIR_BLOCK_OFFLINE) {
		lock_acquire(&zone->lock);
		store_relaxed(&pool->block[block].state, WEIR_BLOCK_ABSENT);
		zone->total -= block_frames(pool);
		zone->offline -= block_frames(pool);
		lock_release(&zone->lock);
		err = 0;
	}
	lock_release(&pool->hotplug);
	return err;
}

/* --- online --- */

static int memory_commit(struct weir_pool *pool, weir_pfn_t start)
{
	if (zone_index(pool, start))
		return 0;
	return mem_commit(pool->base + ((size_t)start << PAGE_SHIFT), (size_t)block_frames(pool)
									      << PAGE_SHIFT);
}

/* Its frames, all at one moment, from offline to free, or to the owner that wants them. A block was never isolated before it
 * comes online: nothing is asked of its past. */
static void frames_give(struct weir_pool *pool, uint32_t block)
{
	const weir_pfn_t start = block_start(pool, block), end = start + block_frames(pool);
	const unsigned owner = pool->online_owner;
	const uint32_t word = word_make(FRAME_ALLOCATED, ORDER_MAX) | owner << WORD_OWNER_SHIFT |
			      (pool->owner[owner].migrate ? WORD_MOVABLE : 0);
	struct zone *zone = zone_of(pool, start);

	lock_acquire(&zone->lock);
	store_relaxed(&pool->block[block].state, WEIR_BLOCK_ONLINE);
	zone->offline -= block_frames(pool);
	/* The last first, so that the lowest is the first to be taken. */
	for (weir_pfn_t pfn = end; pfn > start;) {
		pfn -= PAGEBLOCK;
		if (!pool->online) {
			buddy_add(pool, zone, pfn, ORDER_MAX, 0);
			continue;
		}
		run_set(pool->pageblock[pageblock_of(pfn)].backed, pfn, ORDER_MAX);
		store_relaxed(&pool->frame[pfn].private_word, 0);
		store_relaxed(&pool->frame[pfn].word, word);
		zone->allocated += PAGEBLOCK;
	}
	zone_release_freed(pool, zone);
}

static int block_online(struct weir_pool *pool, uint32_t block, struct weir_pool_why *why)
{
	const weir_pfn_t start = block_start(pool, block), end = start + block_frames(pool);
	enum weir_pool_reason reason = WEIR_POOL_REFUSED;
	int err;

	if (state_of(pool, block) != WEIR_BLOCK_OFFLINE)
		return why_set(why, WEIR_POOL_BAD_STATE, -EINVAL);
	state_set(pool, block, WEIR_BLOCK_GOING_ONLINE);
	err = listeners_going(pool, WEIR_GOING_ONLINE, start, end);
	if (err)
		goto back;
	reason = WEIR_POOL_SYSTEM;
	err = memory_commit(pool, start);
	if (err)
		goto cancel;
	frames_give(pool, block);
	add_relaxed(&pool->onlined, 1);
	listeners_tell(pool, WEIR_ONLINE, start, end);
	if (pool->online)
		pool->online(pool->online_data, start, end);
	return why_set(why, WEIR_POOL_FINE, 0);
cancel:
	listeners_cancel(pool, NULL, WEIR_GOING_ONLINE, start, end);
back:
	state_set(pool, block, WEIR_BLOCK_OFFLINE);
	return why_set(why, reason, err);
}

int weir_pool_online(struct weir_pool *pool, uint32_t block, struct weir_pool_why *why)
{
	int err;

	if (block >= pool->blocks)
		return why_set(why, WEIR_POOL_BAD_RANGE, -EINVAL);
	lock_acquire(&pool->hotplug);
	err = block_online(pool, block, why);
	lock_release(&pool->hotplug);
	return err;
}

int64_t weir_pool_grow(struct weir_pool *pool, enum weir_zone zone)
{
	int64_t answer = -ENOMEM;
	uint32_t end, b;

	if ((unsigned)zone >= ZONES)
		return -EINVAL;
	if (!lock_try(&pool->hotplug)) {
		store_relaxed(&pool->wanted, true);
		return -EAGAIN;
	}
	end = pool->zone[zone].end >> pool->block_shift;
	for (b = pool->zone[zone].start >> pool->block_shift; b < end; b++) {
		if (state_of(pool, b) == WEIR_BLOCK_OFFLINE) {
			answer = block_online(pool, b, NULL);
			break;
		}
	}
	lock_release(&pool->hotplug);
	return answer ? answer : b;
}

int weir_pool_online_set(struct weir_pool *pool, weir_pool_online_fn fn, void *data, unsigned owner)
{
	if (owner >= load_relaxed(&pool->owners))
		return -EINVAL;
	lock_acquire(&pool->hotplug);
	pool->online = fn;
	pool->online_data = data;
	pool->online_owner = owner;
	lock_release(&pool->hotplug);
	return 0;
}

/* --- offline --- */

/* The frames, all isolated and without memory, from isolated to offline. */
static void frames_withdraw(struct weir_pool *pool, uint32_t block)
{
	const weir_pfn_t start = block_start(pool, block), end = start + block_frames(pool);
	const size_t bytes = (size_t)block_frames(pool) * sizeof(struct frame);
	struct zone *zone = zone_of(pool, start);

	lock_acquire(&zone->lock);
	range_clear_isolation(pool, zone, start, end);
	zone->offline += block_frames(pool);
	store_relaxed(&pool->block[block].state, WEIR_BLOCK_OFFLINE);
	lock_release(&zone->lock);
	/* All NONE; the memory of the descriptors goes, too. */
	if (mem_discard(&pool->frame[start], bytes))
		memset(&pool->frame[start], 0, bytes);
}

static int block_empty(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end,
		       const struct weir_pool_evacuation *how, uint64_t *moved,
		       struct weir_pool_why *why)
{
	int err = range_isolate(pool, start, end, PB_ISOLATED | PB_LEAVING, why);

	if (err)
		return err;
	store_relaxed(&pool->wanted, false);
	err = range_evacuate(pool, start, end, how, &pool->wanted, moved, why);
	if (!err) {
		err = range_discard(pool, start, end);
		if (err)
			(void)why_set(why, WEIR_POOL_SYSTEM, err);
	}
	if (err)
		range_undo(pool, start, end, -1);
	return err;
}

static int block_offline(struct weir_pool *pool, uint32_t block,
			 const struct weir_pool_evacuation *how, struct weir_pool_why *why)
{
	const weir_pfn_t start = block_start(pool, block), end = start + block_frames(pool);
	uint64_t moved = 0;
	int err;

	if (state_of(pool, block) != WEIR_BLOCK_ONLINE)
		return why_set(why, WEIR_POOL_BAD_STATE, -EINVAL);
	state_set(pool, block, WEIR_BLOCK_GOING_OFFLINE);
	err = listeners_going(pool, WEIR_GOING_OFFLINE, start, end);
	if (err) {
		(void)why_set(why, WEIR_POOL_REFUSED, err);
		goto back;
	}
	err = block_empty(pool, start, end, how, &moved, why);
	if (err)
		goto cancel;
	frames_withdraw(pool, block);
	if (!zone_index(pool, start))
		(void)mem_decommit(pool->base + ((size_t)start << PAGE_SHIFT),
				   (size_t)block_frames(pool) << PAGE_SHIFT);
	add_relaxed(&pool->offlined, 1);
	add_relaxed(&pool->offlined_live, moved != 0);
	listeners_tell(pool, WEIR_OFFLINE, start, end);
	return why_set(why, WEIR_POOL_FINE, 0);
cancel:
	listeners_cancel(pool, NULL, WEIR_GOING_OFFLINE, start, end);
back:
	state_set(pool, block, WEIR_BLOCK_ONLINE);
	add_relaxed(&pool->offline_failed, 1);
	return err;
}

int weir_pool_offline(struct weir_pool *pool, uint32_t block,
		      const struct weir_pool_evacuation *how, struct weir_pool_why *why)
{
	struct weir_pool_evacuation checked = {0};
	int err;

	if (block >= pool->blocks)
		return why_set(why, WEIR_POOL_BAD_RANGE, -EINVAL);
	if (how)
		memcpy(&checked, how, MIN(how->size, sizeof(checked)));
	lock_acquire(&pool->hotplug);
	err = block_offline(pool, block, &checked, why);
	lock_release(&pool->hotplug);
	return err;
}
