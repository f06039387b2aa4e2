/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames: getting and freeing them, pins, the holder's word. */
#include "pool/pool.h"

enum { FLAGS = WEIR_POOL_MOVABLE | WEIR_POOL_HIGH | WEIR_POOL_RESERVE };

/* Tells once when the free count falls below the mark. True: the caller calls below() when it holds no lock. */
static bool zone_fell(const struct weir_pool *pool, struct zone *zone)
{
	if (zone->below || load_relaxed(&zone->free) >= pool->options.low)
		return false;
	zone->below = true;
	return pool->options.below != NULL;
}

/* The zone's own way: without the caches. */
static int64_t zone_alloc(struct weir_pool *pool, unsigned z, unsigned order, unsigned flags,
			  uint32_t word)
{
	struct zone *zone = &pool->zone[z];
	const uint64_t least = (flags & WEIR_POOL_RESERVE) ? 0 : pool->options.min;
	weir_pfn_t pfn = WEIR_PFN_NONE;
	bool fell;

	lock_acquire(&zone->lock);
	if (load_relaxed(&zone->free) >= least + (1u << order))
		pfn = zone_take(pool, zone, !(flags & WEIR_POOL_MOVABLE), order);
	if (pfn != WEIR_PFN_NONE) {
		store_relaxed(&pool->frame[pfn].private_word, 0);
		store_relaxed(&pool->frame[pfn].word, word);
		zone->allocated += 1 << order;
	}
	fell = zone_fell(pool, zone);
	lock_release(&zone->lock);
	if (fell)
		pool->options.below(pool->options.data, (enum weir_zone)z);
	return pfn == WEIR_PFN_NONE ? -ENOMEM : (int64_t)pfn;
}

int64_t weir_pool_alloc(struct weir_pool *pool, unsigned order, unsigned flags, unsigned owner)
{
	const unsigned z = (flags & WEIR_POOL_HIGH) != 0;
	uint32_t word;
	int64_t pfn;

	/* Pairs with the release in weir_pool_owner_add. */
	if (unlikely(order > ORDER_MAX || flags & ~FLAGS || owner >= load_acquire(&pool->owners)))
		return -EINVAL;
	word = word_make(FRAME_ALLOCATED, order) | owner << WORD_OWNER_SHIFT;
	if (flags & WEIR_POOL_MOVABLE) {
		if (!pool->owner[owner].migrate)
			return -EINVAL;
		word |= WORD_MOVABLE;
	}
	pfn = cache_get(pool, z, !(flags & WEIR_POOL_MOVABLE), order, word);
	if (likely(pfn >= 0))
		return pfn;
	pfn = zone_alloc(pool, z, order, flags, word);
	if (likely(pfn >= 0) || !pool->caches)
		return pfn;
	/* What is left is in the caches, perhaps. */
	caches_drain(pool, pool->zone[z].start, pool->zone[z].end, false);
	return zone_alloc(pool, z, order, flags, word);
}

int64_t weir_pool_alloc_wait(struct weir_pool *pool, unsigned order, unsigned flags, unsigned owner,
			     uint64_t timeout_ns)
{
	struct zone *zone = &pool->zone[(flags & WEIR_POOL_HIGH) != 0];
	const uint64_t end = timeout_ns ? now_ns() + timeout_ns : UINT64_MAX;
	int64_t pfn = weir_pool_alloc(pool, order, flags, owner);

	if (pfn != -ENOMEM)
		return pfn;
	/* From now on what is freed goes to the zone; what was in caches before does so with the drain, and a
	 * cache's lock tells a later free of this count. */
	add_acq_rel(&zone->waiting, 1);
	caches_drain(pool, zone->start, zone->end, true);
	for (;;) {
		struct waiter me;
		uint64_t now;

		waitq_prepare(&zone->room, &me, WAIT_SHARED);
		pfn = weir_pool_alloc(pool, order, flags, owner);
		now = now_ns();
		if (pfn == -ENOMEM && now < end)
			(void)waitq_sleep(&me, timeout_ns ? end - now : 0);
		(void)waitq_finish(&zone->room, &me);
		if (pfn != -ENOMEM || now >= end)
			break;
	}
	sub_relaxed(&zone->waiting, 1);
	return pfn == -ENOMEM ? -ETIMEDOUT : pfn;
}

void zone_release_freed(struct weir_pool *pool, struct zone *zone)
{
	/* Under the lock: who waits has counted itself before it looks at the lists. */
	const bool waited = load_relaxed(&zone->waiting);
	const bool ripening = zone->ripening;

	zone->ripening = false;
	if (zone->below && load_relaxed(&zone->free) >= pool->options.high)
		zone->below = false;
	lock_release(&zone->lock);
	if (unlikely(waited))
		waitq_wake_all(&zone->room);
	if (unlikely(ripening))
		timer_wake(pool);
}

static int free_refused(weir_pfn_t pfn, unsigned order)
{
#ifdef WEIR_DEBUG
	panic("pool: pfn %u, order %u is freed, but is not allocated so (freed twice?)", pfn,
	      order);
#else
	(void)pfn;
	(void)order;
	return -EINVAL;
#endif
}

int weir_pool_free(struct weir_pool *pool, weir_pfn_t pfn, unsigned order)
{
	struct zone *zone;
	struct frame *frame;

	if (unlikely(order > ORDER_MAX || pfn >= pool->frames || pfn & ((1u << order) - 1)))
		return free_refused(pfn, order);
	frame = &pool->frame[pfn];
	if (unlikely((load_relaxed(&frame->word) & 0xff) != word_make(FRAME_ALLOCATED, order)))
		return free_refused(pfn, order);
	if (unlikely(load_relaxed(&frame->pins)))
		return -EBUSY;
	if (cache_put(pool, pfn, order))
		return 0;
	zone = zone_of(pool, pfn);
	lock_acquire(&zone->lock);
	/* Again, now that nobody else can free it meanwhile. */
	if (unlikely((load_relaxed(&frame->word) & 0xff) != word_make(FRAME_ALLOCATED, order))) {
		lock_release(&zone->lock);
		return free_refused(pfn, order);
	}
	zone->allocated -= 1 << order;
	free_locked(pool, zone, pfn, order);
	zone_release_freed(pool, zone);
	evacuation_wake(pool);
	return 0;
}

/* --- pins and the holder's word --- */

static struct frame *allocated_frame(struct weir_pool *pool, weir_pfn_t pfn)
{
	if (pfn >= pool->frames ||
	    frame_state(load_relaxed(&pool->frame[pfn].word)) != FRAME_ALLOCATED)
		return NULL;
	return &pool->frame[pfn];
}

int weir_pool_pin(struct weir_pool *pool, weir_pfn_t pfn)
{
	struct frame *frame = allocated_frame(pool, pfn);

	if (!frame)
		return -EINVAL;
	add_relaxed(&frame->pins, 1);
	return 0;
}

int weir_pool_unpin(struct weir_pool *pool, weir_pfn_t pfn)
{
	struct frame *frame = allocated_frame(pool, pfn);
	uint32_t pins = frame ? load_relaxed(&frame->pins) : 0;

	do {
		if (!pins)
			return -EINVAL;
	} while (!cas_relaxed(&frame->pins, &pins, pins - 1));
	if (pins == 1)
		evacuation_wake(pool);
	return 0;
}

void weir_pool_private_set(struct weir_pool *pool, weir_pfn_t pfn, uint64_t word)
{
	assert_always(allocated_frame(pool, pfn));
	store_relaxed(&pool->frame[pfn].private_word, word);
}

uint64_t weir_pool_private(struct weir_pool *pool, weir_pfn_t pfn)
{
	assert_always(allocated_frame(pool, pfn));
	return load_relaxed(&pool->frame[pfn].private_word);
}
