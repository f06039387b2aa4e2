/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every invariant, checked: the descriptors of all blocks are walked, and must agree with the lists, the sets, the caches and
 * the counts. A frame that is on two lists, or on none, does not add up.
 */
#include "base/log.h"
#include "pool/pool.h"

struct sum {
	uint64_t frames[FRAME_ISOLATED + 1];
	uint64_t runs[MOBILITIES][ORDERS]; /* FREE, of each kind */
	uint64_t backed;
	uint64_t total, offline;
};

#define broken(...) (log_line("pool: " __VA_ARGS__), -EINVAL)

/* --- lists --- */

static int list_check(const struct weir_pool *pool, const struct zone *zone, unsigned mobility,
		      unsigned order)
{
	const struct free_list *list = &zone->list[mobility][order];
	weir_pfn_t prev = WEIR_PFN_NONE;
	uint64_t count = 0;

	for (weir_pfn_t pfn = list->head; pfn != WEIR_PFN_NONE; pfn = pool->frame[pfn].next) {
		const struct frame *frame = &pool->frame[pfn];

		if (pfn < zone->start || pfn >= zone->end ||
		    load_relaxed(&frame->word) != word_make(FRAME_FREE, order))
			return broken("pfn %u is on a list of order %u, but is not free so", pfn,
				      order);
		if (frame->prev != prev)
			return broken("pfn %u has a wrong neighbour in its list", pfn);
		if ((pageblock_mark(pool, pfn) & PB_UNMOVABLE) != mobility ||
		    is_isolated(pool, pfn))
			return broken("pfn %u is on a list that is not its pageblock's", pfn);
		if (++count > list->count)
			break;
		prev = pfn;
	}
	if (count != list->count || (count != 0) != (zone->filled[mobility] >> order & 1))
		return broken("a list of order %u counts %u runs, not %llu", order, list->count,
			      (unsigned long long)count);
	return 0;
}

/* --- descriptors --- */

static int free_run_check(const struct weir_pool *pool, weir_pfn_t pfn, unsigned order,
			  struct sum *sum)
{
	const struct pageblock *pb = &pool->pageblock[pageblock_of(pfn)];

	if (is_isolated(pool, pfn))
		return broken("pfn %u is free in an isolated pageblock", pfn);
	if (order < ORDER_MAX &&
	    load_relaxed(&pool->frame[pfn ^ 1u << order].word) == word_make(FRAME_FREE, order))
		return broken("pfn %u is not merged with its buddy", pfn);
	sum->runs[pageblock_mark(pool, pfn) & PB_UNMOVABLE][order]++;
	sum->backed += run_count(pb->backed, pfn, order);
	return 0;
}

static int run_check(const struct weir_pool *pool, weir_pfn_t pfn, uint32_t word, struct sum *sum)
{
	const struct pageblock *pb = &pool->pageblock[pageblock_of(pfn)];
	const unsigned order = frame_order(word);
	const bool in_set = pb->isolated[pfn % PAGEBLOCK / 64] >> pfn % 64 & 1;

	if (frame_state(word) == FRAME_NONE || order > ORDER_MAX || pfn % (1u << order))
		return broken("pfn %u is no head, word %#x", pfn, word);
	if (in_set != (frame_state(word) == FRAME_ISOLATED) || (in_set && !is_isolated(pool, pfn)))
		return broken("pfn %u: its word and the set of isolated frames differ", pfn);
	sum->frames[frame_state(word)] += 1u << order;
	if (frame_state(word) == FRAME_FREE)
		return free_run_check(pool, pfn, order, sum);
	if (frame_state(word) == FRAME_ALLOCATED &&
	    run_count(pb->backed, pfn, order) != 1u << order)
		return broken("pfn %u is allocated, and not counted as having memory", pfn);
	return 0;
}

static int pageblock_check(const struct weir_pool *pool, weir_pfn_t start, struct sum *sum)
{
	const struct pageblock *pb = &pool->pageblock[pageblock_of(start)];
	const struct sum before = *sum;
	unsigned bits = 0, heads = 0;

	for (weir_pfn_t pfn = start; pfn < start + PAGEBLOCK;) {
		uint32_t word = load_relaxed(&pool->frame[pfn].word);
		int err = run_check(pool, pfn, word, sum);

		if (err)
			return err;
		heads += frame_state(word) == FRAME_ISOLATED;
		pfn += 1u << frame_order(word);
	}
	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++)
		bits += (unsigned)__builtin_popcountll(pb->isolated[i]);
	if (bits != heads)
		return broken("pageblock at pfn %u: %u isolated runs, %u in its set", start, heads,
			      bits);
	if (sum->frames[FRAME_FREE] - before.frames[FRAME_FREE] != pb->free ||
	    sum->backed - before.backed != pb->free_backed ||
	    sum->frames[FRAME_ISOLATED] - before.frames[FRAME_ISOLATED] != pb->held)
		return broken("pageblock at pfn %u: its counts are wrong", start);
	return 0;
}

static int block_check(struct weir_pool *pool, uint32_t b, struct sum *sum)
{
	const weir_pfn_t start = b << pool->block_shift, end = (b + 1) << pool->block_shift;
	const struct block *block = &pool->block[b];
	const struct sum before = *sum;

	if (load_relaxed(&block->state) == WEIR_BLOCK_ABSENT)
		return 0;
	sum->total += end - start;
	if (!block_is_up(block)) {
		sum->offline += end - start;
		for (weir_pfn_t pfn = start; pfn < end; pfn++) {
			if (load_relaxed(&pool->frame[pfn].word))
				return broken("pfn %u is offline, and has a state", pfn);
		}
	}
	for (weir_pfn_t pfn = start; block_is_up(block) && pfn < end; pfn += PAGEBLOCK) {
		int err = pageblock_check(pool, pfn, sum);

		if (err)
			return err;
	}
	if (sum->frames[FRAME_FREE] - before.frames[FRAME_FREE] != block->free ||
	    sum->frames[FRAME_ISOLATED] - before.frames[FRAME_ISOLATED] != block->isolated)
		return broken("block %u: its counts are wrong", b);
	return 0;
}

/* --- caches --- */

/* Frames in the cache's slots, or -EINVAL. */
static int64_t cache_check(const struct weir_pool *pool, const struct cache *cache, unsigned z)
{
	int64_t frames = 0;

	for (unsigned at = 0; at < MOBILITIES * ORDERS; at++) {
		const unsigned m = at / ORDERS, order = at % ORDERS;
		const weir_pfn_t *slot =
			order < CACHE_ORDERS ? cache->slot[z][m][order] : cache->large[z][m];

		if (cache->count[z][m][order] > pool->cache_most[order])
			return broken("a cache has too many runs of order %u", order);
		for (unsigned i = 0; i < cache->count[z][m][order]; i++) {
			if (load_relaxed(&pool->frame[slot[i]].word) !=
			    word_make(FRAME_CACHED, order))
				return broken("pfn %u is in a cache, and its word does not say so",
					      slot[i]);
			frames += 1 << order;
		}
	}
	return frames;
}

static int counts_check(const struct weir_pool *pool, unsigned z, const struct sum *sum)
{
	const struct zone *zone = &pool->zone[z];
	int64_t allocated = zone->allocated, cached = (int64_t)zone->in_trim;

	for (unsigned i = 0; i < pool->caches; i++) {
		int64_t frames = cache_check(pool, &pool->cache[i], z);

		if (frames < 0)
			return (int)frames;
		cached += frames;
		allocated += pool->cache[i].allocated[z];
	}
	if (sum->frames[FRAME_FREE] != load_relaxed(&zone->free) ||
	    sum->backed != load_relaxed(&zone->free_backed) ||
	    sum->frames[FRAME_ISOLATED] != zone->isolated ||
	    (int64_t)sum->frames[FRAME_ALLOCATED] != allocated ||
	    (int64_t)sum->frames[FRAME_CACHED] != cached || sum->total != zone->total ||
	    sum->offline != zone->offline)
		return broken("zone %u: free %llu, isolated %llu, allocated %lld, cached %lld, "
			      "offline %llu of %llu "
			      "are counted, and %llu, %llu, %llu, %llu, %llu of %llu found",
			      z, (unsigned long long)load_relaxed(&zone->free),
			      (unsigned long long)zone->isolated, (long long)allocated,
			      (long long)cached, (unsigned long long)zone->offline,
			      (unsigned long long)zone->total,
			      (unsigned long long)sum->frames[FRAME_FREE],
			      (unsigned long long)sum->frames[FRAME_ISOLATED],
			      (unsigned long long)sum->frames[FRAME_ALLOCATED],
			      (unsigned long long)sum->frames[FRAME_CACHED],
			      (unsigned long long)sum->offline, (unsigned long long)sum->total);
	return 0;
}

static int zone_check(struct weir_pool *pool, unsigned z)
{
	const struct zone *zone = &pool->zone[z];
	struct sum sum = {0};
	int err = 0;

	for (uint32_t b = zone->start >> pool->block_shift;
	     !err && b < zone->end >> pool->block_shift; b++)
		err = block_check(pool, b, &sum);
	for (unsigned at = 0; !err && at < MOBILITIES * ORDERS; at++) {
		const unsigned m = at / ORDERS, order = at % ORDERS;

		err = list_check(pool, zone, m, order);
		if (!err && zone->list[m][order].count != sum.runs[m][order])
			err = broken("%u free runs of order %u are on lists, %llu exist",
				     zone->list[m][order].count, order,
				     (unsigned long long)sum.runs[m][order]);
	}
	return err ? err : counts_check(pool, z, &sum);
}

int weir_pool_validate(struct weir_pool *pool)
{
	int err = 0;

	caches_lock(pool);
	for (unsigned z = 0; z < ZONES && !err; z++) {
		lock_acquire(&pool->zone[z].lock);
		err = zone_check(pool, z);
		lock_release(&pool->zone[z].lock);
	}
	caches_unlock(pool);
	return err;
}
