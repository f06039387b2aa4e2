/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Caches of frames, one a CPU.
 *
 * A thread uses the cache of the CPU that it runs on, as its rseq area says; if it moves in between, it just uses
 * another CPU's. The lock of a cache is a word that is tried once: two threads meet there only when one of them was moved or
 * interrupted, and then the zone serves the other. Caches of CPUs rather than of threads: their number is bounded, nothing
 * has to be done when a thread ends, and anybody can empty any of them.
 */
#include <sched.h>

#include "os/mem.h"
#include "os/thread.h"
#include "pool/pool.h"

static size_t caches_bytes(const struct weir_pool *pool)
{
	return ALIGN_UP(pool->caches * sizeof(struct cache), PAGE_SIZE);
}

/* As many as make the zone's lock rare among threads, and no more than a small pool can spare. */
static unsigned frames_default(const struct weir_pool *pool)
{
	const unsigned share = pool->frames / 64 / pool->caches;

	return MIN(MAX(share, (unsigned)CACHE_SLOTS_SMALL), (unsigned)CACHE_SLOTS);
}

int caches_init(struct weir_pool *pool)
{
	unsigned most = pool->options.cache_frames;

	if (most == WEIR_POOL_NO_CACHE)
		return 0;
	pool->caches = thread_cpu_most();
	most = most ? MIN(most, (unsigned)CACHE_SLOTS) : frames_default(pool);
	for (unsigned order = 0; order < CACHE_ORDERS; order++)
		pool->cache_most[order] = (uint16_t)(most >> order);
	if (most >= CACHE_SLOTS_SMALL)
		pool->cache_most[ORDER_MAX] = (uint16_t)(most * CACHE_LARGE / CACHE_SLOTS);
	pool->cache = mem_alloc(caches_bytes(pool));
	return pool->cache ? 0 : -ENOMEM;
}

void caches_destroy(struct weir_pool *pool)
{
	mem_release(pool->cache, caches_bytes(pool));
}

/* --- locks --- */

static bool cache_try(struct cache *cache)
{
	/* Pairs with the release in cache_release. */
	return !load_relaxed(&cache->lock) && !exchange_acquire(&cache->lock, 1);
}

static void cache_wait(struct cache *cache)
{
	for (unsigned spin = 0; !cache_try(cache); spin++) {
		if (spin % 64 == 63)
			sched_yield();
		else
			cpu_relax();
	}
}

static void cache_release(struct cache *cache)
{
	/* Pairs with the acquire in cache_try. */
	store_release(&cache->lock, 0);
}

void caches_lock(struct weir_pool *pool)
{
	for (unsigned i = 0; i < pool->caches; i++)
		cache_wait(&pool->cache[i]);
}

void caches_unlock(struct weir_pool *pool)
{
	for (unsigned i = 0; i < pool->caches; i++)
		cache_release(&pool->cache[i]);
}

static struct cache *cache_here(struct weir_pool *pool)
{
	const volatile uint32_t *word = thread_cpu_word();
	unsigned cpu = word ? *word : (unsigned)thread_cpu_now();

	/* Not registered, or a CPU that came later: any will do. */
	return &pool->cache[likely(cpu < pool->caches) ? cpu : cpu % pool->caches];
}

static weir_pfn_t *cache_slots(struct cache *cache, unsigned zone, unsigned mobility,
			       unsigned order)
{
	return order == ORDER_MAX ? cache->large[zone][mobility]
				  : cache->slot[zone][mobility][order];
}

/* --- getting and putting --- */

/* Half full from the zone, by whole runs: the smallest that there are, so that larger ones stay. Returns how many there
 * are now. */
static unsigned refill(struct weir_pool *pool, struct cache *cache, unsigned z, unsigned mobility,
		       unsigned order)
{
	struct zone *zone = &pool->zone[z];
	const unsigned want = DIV_UP(pool->cache_most[order], 2u);
	/* Neither below min, nor so low that somebody must be told: the zone's own way does both. */
	const uint64_t least = MAX(pool->options.min, pool->options.low);
	weir_pfn_t *slot = cache_slots(cache, z, mobility, order);
	unsigned count = 0;

	lock_acquire(&zone->lock);
	while (count < want &&
	       load_relaxed(&zone->free) >= least + ((uint64_t)(want - count) << order)) {
		const unsigned fits = order + 31u - (unsigned)__builtin_clz(want - count);
		const unsigned filled = zone->filled[mobility] >> order;
		const unsigned run =
			MIN(fits, filled ? order + (unsigned)__builtin_ctz(filled) : order);
		weir_pfn_t pfn = zone_take(pool, zone, mobility, run);

		if (pfn == WEIR_PFN_NONE)
			break;
		for (weir_pfn_t end = pfn + (1u << run); pfn < end; pfn += 1u << order) {
			store_relaxed(&pool->frame[pfn].word, word_make(FRAME_CACHED, order));
			slot[count++] = pfn;
		}
	}
	lock_release(&zone->lock);
	cache->count[z][mobility][order] = (uint16_t)count;
	return count;
}

int64_t cache_get(struct weir_pool *pool, unsigned zone, unsigned mobility, unsigned order,
		  uint32_t word)
{
	struct cache *cache;
	struct frame *frame;
	unsigned count;
	weir_pfn_t pfn;

	if (!pool->cache_most[order])
		return -EAGAIN;
	cache = cache_here(pool);
	if (unlikely(!cache_try(cache)))
		return -EAGAIN;
	count = cache->count[zone][mobility][order];
	if (unlikely(!count))
		count = refill(pool, cache, zone, mobility, order);
	if (unlikely(!count)) {
		cache_release(cache);
		return -EAGAIN;
	}
	count--;
	pfn = cache_slots(cache, zone, mobility, order)[count];
	cache->count[zone][mobility][order] = (uint16_t)count;
	cache->allocated[zone] += 1 << order;
	frame = &pool->frame[pfn];
	store_relaxed(&frame->private_word, 0);
	store_relaxed(&frame->word, word);
	cache_release(cache);
	return pfn;
}

/* Neighbours that were freed in a row go back as one. The zone's lock is held. */
static void slots_free(struct weir_pool *pool, struct zone *zone, const weir_pfn_t *slot,
		       unsigned count, unsigned order)
{
	unsigned at = 0;

	while (at < count) {
		weir_pfn_t low = slot[at], high = low;

		if (order) {
			free_locked(pool, zone, slot[at++], order);
			continue;
		}
		for (at++; at < count && (slot[at] + 1 == low || slot[at] == high + 1); at++) {
			low = MIN(low, slot[at]);
			high = MAX(high, slot[at]);
		}
		free_neighbours_locked(pool, zone, low, high + 1);
	}
}

/* The oldest half to the zone. */
static void spill(struct weir_pool *pool, struct cache *cache, unsigned z, unsigned mobility,
		  unsigned order)
{
	struct zone *zone = &pool->zone[z];
	weir_pfn_t *slot = cache_slots(cache, z, mobility, order);
	const unsigned count = cache->count[z][mobility][order], out = DIV_UP(count, 2u);

	/* What merging looks at is far away: not to be waited for under the lock. */
	for (unsigned i = 0; i < out; i++) {
		__builtin_prefetch(&pool->frame[slot[i] ^ 1u << order]);
		__builtin_prefetch(&pool->pageblock[pageblock_of(slot[i])]);
	}
	lock_acquire(&zone->lock);
	slots_free(pool, zone, slot, out, order);
	zone_release_freed(pool, zone);
	for (unsigned i = out; i < count; i++)
		slot[i - out] = slot[i];
	cache->count[z][mobility][order] = (uint16_t)(count - out);
}

bool cache_put(struct weir_pool *pool, weir_pfn_t pfn, unsigned order)
{
	const unsigned zone = zone_index(pool, pfn);
	struct frame *frame = &pool->frame[pfn];
	struct cache *cache;
	unsigned mark, mobility, count;

	if (!pool->cache_most[order])
		return false;
	cache = cache_here(pool);
	if (unlikely(!cache_try(cache)))
		return false;
	mark = pageblock_mark(pool, pfn);
	/* Under the lock: see weir_pool_alloc_wait, and caches_drain for the isolate bit. */
	if (unlikely(mark & PB_ISOLATED || load_relaxed(&pool->zone[zone].waiting) ||
		     frame_state(load_relaxed(&frame->word)) != FRAME_ALLOCATED)) {
		cache_release(cache);
		return false;
	}
	/* By what the pageblock is, not by what the frame was asked for: it helps to sort the two again. */
	mobility = mark & PB_UNMOVABLE;
	count = cache->count[zone][mobility][order];
	if (unlikely(count == pool->cache_most[order])) {
		spill(pool, cache, zone, mobility, order);
		count = cache->count[zone][mobility][order];
	}
	cache_slots(cache, zone, mobility, order)[count] = pfn;
	cache->count[zone][mobility][order] = (uint16_t)(count + 1);
	cache->allocated[zone] -= 1 << order;
	store_relaxed(&frame->word, word_make(FRAME_CACHED, order));
	cache_release(cache);
	return true;
}

/* --- emptying --- */

static void slots_drain(struct weir_pool *pool, struct cache *cache, unsigned z, unsigned mobility,
			unsigned order, weir_pfn_t start, weir_pfn_t end)
{
	struct zone *zone = &pool->zone[z];
	weir_pfn_t *slot = cache_slots(cache, z, mobility, order);
	const unsigned count = cache->count[z][mobility][order];
	unsigned kept = 0;

	if (!count)
		return;
	lock_acquire(&zone->lock);
	for (unsigned i = 0; i < count; i++) {
		if (slot[i] >= start && slot[i] < end)
			free_locked(pool, zone, slot[i], order);
		else
			slot[kept++] = slot[i];
	}
	zone_release_freed(pool, zone);
	cache->count[z][mobility][order] = (uint16_t)kept;
}

void caches_drain(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end, bool wait)
{
	for (unsigned i = 0; i < pool->caches; i++) {
		struct cache *cache = &pool->cache[i];

		if (wait)
			cache_wait(cache);
		else if (!cache_try(cache))
			continue;
		for (unsigned z = 0; z < ZONES; z++) {
			if (end <= pool->zone[z].start || start >= pool->zone[z].end)
				continue;
			for (unsigned order = 0; order < ORDERS; order++) {
				for (unsigned m = 0; pool->cache_most[order] && m < MOBILITIES; m++)
					slots_drain(pool, cache, z, m, order, start, end);
			}
		}
		cache_release(cache);
	}
}
