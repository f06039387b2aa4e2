/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The buddy allocator: free runs by order and mobility.
 *
 * Frames of each mobility come from pageblocks of that mobility, so that whole blocks stay without unmovable frames and can
 * be emptied. Where one mobility has none left, it takes a whole pageblock from the other if most of that one is free,
 * and else only the run that it needs, out of the largest.
 */
#include "pool/pool.h"

enum { MOSTLY_FREE = PAGEBLOCK / 2 };

/* --- sets of a pageblock --- */

static uint64_t run_mask(weir_pfn_t pfn, unsigned order)
{
	return order >= 6 ? ~0ull : ((1ull << (1u << order)) - 1) << (pfn % 64);
}

static unsigned run_words(unsigned order)
{
	return order <= 6 ? 1 : 1u << (order - 6);
}

void run_set(uint64_t *set, weir_pfn_t pfn, unsigned order)
{
	for (unsigned i = 0; i < run_words(order); i++)
		set[pfn % PAGEBLOCK / 64 + i] |= run_mask(pfn, order);
}

void run_clear(uint64_t *set, weir_pfn_t pfn, unsigned order)
{
	for (unsigned i = 0; i < run_words(order); i++)
		set[pfn % PAGEBLOCK / 64 + i] &= ~run_mask(pfn, order);
}

unsigned run_count(const uint64_t *set, weir_pfn_t pfn, unsigned order)
{
	unsigned count = 0;

	for (unsigned i = 0; i < run_words(order); i++) {
		const uint64_t bits = set[pfn % PAGEBLOCK / 64 + i] & run_mask(pfn, order);

		/* Mostly all of them; counting takes a call where the processor may lack the instruction. */
		count += bits == ~0ull ? 64 : (unsigned)__builtin_popcountll(bits);
	}
	return count;
}

/* --- lists --- */

static unsigned mobility_of(const struct weir_pool *pool, weir_pfn_t pfn)
{
	return pageblock_mark(pool, pfn) & PB_UNMOVABLE;
}

static void list_add(struct weir_pool *pool, struct zone *zone, weir_pfn_t pfn, unsigned order,
		     unsigned mobility)
{
	struct free_list *list = &zone->list[mobility][order];
	struct frame *frame = &pool->frame[pfn];

	store_relaxed(&frame->word, word_make(FRAME_FREE, order));
	frame->next = list->head;
	frame->prev = WEIR_PFN_NONE;
	if (list->head != WEIR_PFN_NONE)
		pool->frame[list->head].prev = pfn;
	list->head = pfn;
	list->count++;
	zone->filled[mobility] |= (uint16_t)(1u << order);
}

static void list_remove(struct weir_pool *pool, struct zone *zone, weir_pfn_t pfn, unsigned order,
			unsigned mobility)
{
	struct free_list *list = &zone->list[mobility][order];
	struct frame *frame = &pool->frame[pfn];

	if (frame->prev == WEIR_PFN_NONE)
		list->head = frame->next;
	else
		pool->frame[frame->prev].next = frame->next;
	if (frame->next != WEIR_PFN_NONE)
		pool->frame[frame->next].prev = frame->prev;
	if (--list->count == 0)
		zone->filled[mobility] &= (uint16_t)~(1u << order);
	store_relaxed(&frame->word, FRAME_NONE);
}

/* What was free is not any more. Returns how many of its frames may have memory. */
static unsigned account_taken(struct weir_pool *pool, struct zone *zone, weir_pfn_t pfn,
			      unsigned order)
{
	struct pageblock *pb = &pool->pageblock[pageblock_of(pfn)];
	const unsigned frames = 1u << order;
	unsigned backed;

	if (order == ORDER_MAX)
		backed = pb->free_backed;
	else if (order == 0)
		backed = pb->backed[pfn % PAGEBLOCK / 64] >> pfn % 64 & 1;
	else
		backed = pb->free_backed ? run_count(pb->backed, pfn, order) : 0;
	pb->free -= (uint16_t)frames;
	pb->free_backed -= (uint16_t)backed;
	block_of(pool, pfn)->free -= frames;
	/* Only this thread writes them: it has the lock. */
	store_relaxed(&zone->free, load_relaxed(&zone->free) - frames);
	if (backed)
		store_relaxed(&zone->free_backed, load_relaxed(&zone->free_backed) - backed);
	return backed;
}

static void account_back(struct weir_pool *pool, struct zone *zone, weir_pfn_t pfn, unsigned order,
			 unsigned backed)
{
	struct pageblock *pb = &pool->pageblock[pageblock_of(pfn)];
	const unsigned frames = 1u << order;

	pb->free += (uint16_t)frames;
	pb->free_backed += (uint16_t)backed;
	block_of(pool, pfn)->free += frames;
	store_relaxed(&zone->free, load_relaxed(&zone->free) + frames);
	if (backed)
		store_relaxed(&zone->free_backed, load_relaxed(&zone->free_backed) + backed);
}

void buddy_remove(struct weir_pool *pool, struct zone *zone, weir_pfn_t pfn, unsigned order)
{
	list_remove(pool, zone, pfn, order, mobility_of(pool, pfn));
	(void)account_taken(pool, zone, pfn, order);
}

void buddy_add(struct weir_pool *pool, struct zone *zone, weir_pfn_t pfn, unsigned order,
	       unsigned backed)
{
	const unsigned mobility = mobility_of(pool, pfn);

	account_back(pool, zone, pfn, order, backed);
	while (order < ORDER_MAX) {
		weir_pfn_t buddy = pfn ^ 1u << order;

		if (load_relaxed(&pool->frame[buddy].word) != word_make(FRAME_FREE, order))
			break;
		list_remove(pool, zone, buddy, order, mobility);
		store_relaxed(&pool->frame[pfn | 1u << order].word, FRAME_NONE);
		pfn &= ~(1u << order);
		order++;
	}
	list_add(pool, zone, pfn, order, mobility);
	if (order == ORDER_MAX && pool->options.trim_delay_ms)
		timer_note(pool, pfn);
}

void free_locked(struct weir_pool *pool, struct zone *zone, weir_pfn_t pfn, unsigned order)
{
	if (is_isolated(pool, pfn))
		isolated_add(pool, zone, pfn, order);
	else
		buddy_add(pool, zone, pfn, order, 1u << order);
}

void free_neighbours_locked(struct weir_pool *pool, struct zone *zone, weir_pfn_t start,
			    weir_pfn_t end)
{
	while (start < end) {
		const unsigned fits = 31u - (unsigned)__builtin_clz(end - start);
		const unsigned aligned = start ? (unsigned)__builtin_ctz(start) : ORDER_MAX;
		const unsigned order = MIN(MIN(fits, aligned), (unsigned)ORDER_MAX);

		for (weir_pfn_t pfn = start + 1; pfn < start + (1u << order); pfn++)
			store_relaxed(&pool->frame[pfn].word, FRAME_NONE);
		free_locked(pool, zone, start, order);
		start += 1u << order;
	}
}

/* --- taking --- */

/* All free runs of a pageblock go to the lists of the other mobility. */
static void pageblock_steal(struct weir_pool *pool, struct zone *zone, weir_pfn_t start,
			    unsigned to)
{
	for (weir_pfn_t pfn = start; pfn < start + PAGEBLOCK;) {
		uint32_t word = load_relaxed(&pool->frame[pfn].word);
		unsigned order = frame_order(word);

		if (frame_state(word) == FRAME_FREE) {
			list_remove(pool, zone, pfn, order, !to);
			list_add(pool, zone, pfn, order, to);
		}
		pfn += 1u << order;
	}
	store_relaxed(&pool->mark[pageblock_of(start)], (uint8_t)(to ? PB_UNMOVABLE : 0));
}

/* From the other mobility. Returns the mobility whose lists have the run now, or -1. */
static int fall_back(struct weir_pool *pool, struct zone *zone, unsigned mobility, unsigned order)
{
	const unsigned other = !mobility;
	weir_pfn_t pfn;

	if (!(zone->filled[other] >> order))
		return -1;
	pfn = zone->list[other][31 - __builtin_clz(zone->filled[other])].head;
	if (pool->pageblock[pageblock_of(pfn)].free < MOSTLY_FREE)
		return (int)other;
	pageblock_steal(pool, zone, ALIGN_DOWN(pfn, (weir_pfn_t)PAGEBLOCK), mobility);
	return (int)mobility;
}

weir_pfn_t zone_take(struct weir_pool *pool, struct zone *zone, unsigned mobility, unsigned order)
{
	unsigned from = mobility, have;
	weir_pfn_t pfn;

	if (unlikely(!(zone->filled[mobility] >> order))) {
		int fallen = fall_back(pool, zone, mobility, order);

		if (fallen < 0)
			return WEIR_PFN_NONE;
		from = (unsigned)fallen;
		/* Out of the largest where it is not ours, so that few pageblocks get mixed. */
		have = from == mobility
			       ? order + (unsigned)__builtin_ctz(zone->filled[from] >> order)
			       : 31u - (unsigned)__builtin_clz(zone->filled[from]);
	} else {
		have = order + (unsigned)__builtin_ctz(zone->filled[from] >> order);
	}
	pfn = zone->list[from][have].head;
	list_remove(pool, zone, pfn, have, from);
	while (have > order) {
		have--;
		list_add(pool, zone, pfn + (1u << have), have, from);
	}
	/* All frames count as having memory from now on. */
	if (account_taken(pool, zone, pfn, order) != 1u << order)
		run_set(pool->pageblock[pageblock_of(pfn)].backed, pfn, order);
	return pfn;
}
