/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Isolation: pageblocks out of which nothing is allocated.
 *
 * A bit beside the mobility marks the pageblock, so its type survives. What is free in it is on no free list and in no
 * free count: it is a bit in the pageblock's set, in the order of pfns by nature, with the run's order in the
 * descriptor. Frames that are freed later come to the set one by one; going back, all are merged.
 */
#include <string.h>

#include "pool/pool.h"

static void count_isolated(struct weir_pool *pool, struct zone *zone, weir_pfn_t pfn, int frames)
{
	struct pageblock *pb = &pool->pageblock[pageblock_of(pfn)];
	struct block *block = block_of(pool, pfn);

	pb->held = (uint16_t)(pb->held + frames);
	block->isolated = (uint32_t)((int64_t)block->isolated + frames);
	zone->isolated = (uint64_t)((int64_t)zone->isolated + frames);
}

void isolated_add(struct weir_pool *pool, struct zone *zone, weir_pfn_t pfn, unsigned order)
{
	run_set(pool->pageblock[pageblock_of(pfn)].isolated, pfn, 0);
	store_relaxed(&pool->frame[pfn].word, word_make(FRAME_ISOLATED, order));
	count_isolated(pool, zone, pfn, 1 << order);
}

/* False: it is isolated already, or its block does not allow it. */
static bool pageblock_isolate(struct weir_pool *pool, struct zone *zone, weir_pfn_t start,
			      unsigned mark)
{
	const uint32_t pb = pageblock_of(start);
	bool free;

	lock_acquire(&zone->lock);
	free = !is_isolated(pool, start) && block_is_up(block_of(pool, start));
	for (weir_pfn_t pfn = start; free && pfn < start + PAGEBLOCK;) {
		uint32_t word = load_relaxed(&pool->frame[pfn].word);
		unsigned order = frame_order(word);

		if (frame_state(word) == FRAME_FREE) {
			buddy_remove(pool, zone, pfn, order);
			isolated_add(pool, zone, pfn, order);
		}
		pfn += 1u << order;
	}
	if (free)
		store_relaxed(&pool->mark[pb], pageblock_mark(pool, start) | mark);
	lock_release(&zone->lock);
	return free;
}

static void pageblock_undo(struct weir_pool *pool, struct zone *zone, weir_pfn_t start,
			   int mobility)
{
	const uint32_t at = pageblock_of(start);
	struct pageblock *pb = &pool->pageblock[at];
	unsigned mark = pageblock_mark(pool, start) & PB_UNMOVABLE;

	if (mobility >= 0)
		mark = mobility == WEIR_UNMOVABLE ? PB_UNMOVABLE : 0;
	lock_acquire(&zone->lock);
	store_relaxed(&pool->mark[at], (uint8_t)mark);
	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++) {
		while (pb->isolated[i]) {
			weir_pfn_t pfn =
				start + i * 64 + (unsigned)__builtin_ctzll(pb->isolated[i]);
			unsigned order = frame_order(load_relaxed(&pool->frame[pfn].word));

			pb->isolated[i] &= pb->isolated[i] - 1;
			count_isolated(pool, zone, pfn, -(1 << order));
			buddy_add(pool, zone, pfn, order, run_count(pb->backed, pfn, order));
		}
	}
	zone_release_freed(pool, zone);
}

/* --- ranges --- */

struct zone *range_zone(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end, bool going)
{
	if (start >= end || end > pool->frames || zone_of(pool, start) != zone_of(pool, end - 1))
		return NULL;
	for (weir_pfn_t pfn = start; pfn < end;
	     pfn = ALIGN_DOWN(pfn, 1u << pool->block_shift) + (1u << pool->block_shift)) {
		const struct block *block = block_of(pool, pfn);

		if (going ? !block_is_up(block) : load_relaxed(&block->state) != WEIR_BLOCK_ONLINE)
			return NULL;
	}
	return zone_of(pool, start);
}

static bool is_aligned(weir_pfn_t start, weir_pfn_t end)
{
	return (start | end) % PAGEBLOCK == 0;
}

/* The first allocation that cannot be moved, or end. */
static weir_pfn_t first_unmovable(struct weir_pool *pool, struct zone *zone, weir_pfn_t start,
				  weir_pfn_t end, uint32_t *word)
{
	weir_pfn_t pfn = start;

	while (pfn < end) {
		const weir_pfn_t stop =
			MIN(end, ALIGN_DOWN(pfn, (weir_pfn_t)PAGEBLOCK) + PAGEBLOCK);

		lock_acquire(&zone->lock);
		while (pfn < stop) {
			*word = load_relaxed(&pool->frame[pfn].word);
			if (frame_state(*word) == FRAME_ALLOCATED && !(*word & WORD_MOVABLE))
				break;
			pfn += 1u << frame_order(*word);
		}
		lock_release(&zone->lock);
		if (pfn < stop)
			return pfn;
	}
	return end;
}

int range_isolate(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end, unsigned mark,
		  struct weir_pool_why *why)
{
	struct zone *zone = zone_of(pool, start);
	weir_pfn_t pfn;
	uint32_t word = 0;

	for (pfn = start; pfn < end; pfn += PAGEBLOCK) {
		if (!pageblock_isolate(pool, zone, pfn, mark)) {
			range_undo(pool, start, pfn, -1);
			return why_frame(pool, why, WEIR_POOL_ISOLATED, -EBUSY, pfn, 0);
		}
	}
	/* After this no frame of the range is in a cache, nor comes to one; and none becomes unmovable any more. */
	caches_drain(pool, start, end, true);
	pfn = first_unmovable(pool, zone, start, end, &word);
	if (pfn == end)
		return 0;
	(void)why_frame(pool, why, WEIR_POOL_NOT_MOVABLE, -EBUSY, pfn, word);
	range_undo(pool, start, end, -1);
	return -EBUSY;
}

void range_undo(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end, int mobility)
{
	for (weir_pfn_t pfn = start; pfn < end; pfn += PAGEBLOCK)
		pageblock_undo(pool, zone_of(pool, pfn), pfn, mobility);
}

void range_clear_isolation(struct weir_pool *pool, struct zone *zone, weir_pfn_t start,
			   weir_pfn_t end)
{
	for (weir_pfn_t pfn = start; pfn < end; pfn += PAGEBLOCK) {
		struct pageblock *pb = &pool->pageblock[pageblock_of(pfn)];

		for (weir_pfn_t at = pfn; at < pfn + PAGEBLOCK;) {
			struct frame *frame = &pool->frame[at];

			at += 1u << frame_order(load_relaxed(&frame->word));
			store_relaxed(&frame->word, word_make(FRAME_NONE, 0));
		}
		count_isolated(pool, zone, pfn, -(int)pb->held);
		memset(pb, 0, sizeof(*pb));
		store_relaxed(&pool->mark[pageblock_of(pfn)], 0);
	}
}

weir_pfn_t range_first_not_isolated(const struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end)
{
	/* From the pageblock's first frame on, since a run may begin before start. */
	weir_pfn_t pfn = ALIGN_DOWN(start, (weir_pfn_t)PAGEBLOCK);

	while (pfn < end) {
		uint32_t word = load_relaxed(&pool->frame[pfn].word);
		weir_pfn_t next = pfn + (1u << frame_order(word));

		if (pool->pageblock[pageblock_of(pfn)].held == PAGEBLOCK && pfn % PAGEBLOCK == 0)
			next = pfn + PAGEBLOCK;
		else if (frame_state(word) != FRAME_ISOLATED && next > start)
			return MAX(pfn, start);
		pfn = next;
	}
	return end;
}

/* --- public --- */

int weir_pool_isolate_range(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end,
			    struct weir_pool_why *why)
{
	int err;

	if (!is_aligned(start, end) || !range_zone(pool, start, end, false))
		return why_set(why, WEIR_POOL_BAD_RANGE, -EINVAL);
	err = range_isolate(pool, start, end, PB_ISOLATED, why);
	return err ? err : why_set(why, WEIR_POOL_FINE, 0);
}

int weir_pool_undo_isolate_range(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end,
				 int mobility)
{
	if (!is_aligned(start, end) || start >= end || end > pool->frames || mobility < -1 ||
	    mobility > WEIR_UNMOVABLE)
		return -EINVAL;
	for (weir_pfn_t pfn = start; pfn < end; pfn += PAGEBLOCK) {
		if (pageblock_mark(pool, pfn) & PB_LEAVING)
			return -EBUSY;
		if (!is_isolated(pool, pfn))
			return -EINVAL;
	}
	range_undo(pool, start, end, mobility);
	return 0;
}

int weir_pool_range_isolated(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end)
{
	struct zone *zone = range_zone(pool, start, end, true);
	bool isolated;

	if (!zone)
		return -EINVAL;
	lock_acquire(&zone->lock);
	isolated = range_first_not_isolated(pool, start, end) == end;
	lock_release(&zone->lock);
	return isolated;
}

int weir_pool_isolated(const struct weir_pool *pool, weir_pfn_t pfn)
{
	return pfn < pool->frames && is_isolated(pool, pfn);
}
