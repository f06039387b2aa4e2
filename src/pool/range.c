/* SPDX-License-Identifier: BSD-2-Clause */
/* Exactly the frames of a range, whatever holds them now. */
#include "pool/pool.h"

/* The isolated runs that touch [start, end) become single frames: those inside are allocated, the others stay isolated. */
static void range_take(struct weir_pool *pool, struct zone *zone, weir_pfn_t start, weir_pfn_t end,
		       uint32_t word)
{
	weir_pfn_t pfn = ALIGN_DOWN(start, (weir_pfn_t)PAGEBLOCK), next;

	for (; pfn < end; pfn = next) {
		struct pageblock *pb = &pool->pageblock[pageblock_of(pfn)];
		uint32_t was = load_relaxed(&pool->frame[pfn].word);

		next = pfn + (1u << frame_order(was));
		if (next <= start)
			continue;
		run_clear(pb->isolated, pfn, 0);
		pb->held -= (uint16_t)(next - pfn);
		block_of(pool, pfn)->isolated -= next - pfn;
		zone->isolated -= next - pfn;
		run_set(pb->backed, pfn, frame_order(was));
		for (weir_pfn_t at = pfn; at < next; at++) {
			if (at < start || at >= end) {
				isolated_add(pool, zone, at, 0);
				continue;
			}
			store_relaxed(&pool->frame[at].private_word, 0);
			store_relaxed(&pool->frame[at].word, word);
			zone->allocated++;
		}
	}
}

int weir_pool_alloc_range(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end, unsigned owner,
			  const struct weir_pool_evacuation *how, struct weir_pool_why *why)
{
	struct zone *zone = range_zone(pool, start, end, false);
	const weir_pfn_t first = ALIGN_DOWN(start, (weir_pfn_t)PAGEBLOCK);
	const weir_pfn_t last = ALIGN_UP(end, (weir_pfn_t)PAGEBLOCK);
	uint64_t moved;
	int err;

	/* Pairs with the release in weir_pool_owner_add. */
	if (!zone || owner >= load_acquire(&pool->owners))
		return why_set(why, WEIR_POOL_BAD_RANGE, -EINVAL);
	err = range_isolate(pool, first, last, PB_ISOLATED | PB_LEAVING, why);
	if (err)
		return err;
	err = range_evacuate(pool, start, end, how, NULL, &moved, why);
	if (!err) {
		lock_acquire(&zone->lock);
		range_take(pool, zone, start, end,
			   word_make(FRAME_ALLOCATED, 0) | owner << WORD_OWNER_SHIFT);
		lock_release(&zone->lock);
		(void)why_set(why, WEIR_POOL_FINE, 0);
	}
	range_undo(pool, first, last, -1);
	return err;
}

int weir_pool_free_range(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end)
{
	/* A block that tries to go does not keep anybody from freeing. */
	if (!range_zone(pool, start, end, true))
		return -EINVAL;
	for (weir_pfn_t pfn = start; pfn < end; pfn++) {
		uint32_t word = load_relaxed(&pool->frame[pfn].word);

		if (frame_state(word) != FRAME_ALLOCATED || frame_order(word))
			return -EINVAL;
		if (load_relaxed(&pool->frame[pfn].pins))
			return -EBUSY;
	}
	for (weir_pfn_t pfn = start; pfn < end; pfn++) {
		int err = weir_pool_free(pool, pfn, 0);

		if (err)
			return err;
	}
	return 0;
}
