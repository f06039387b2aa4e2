/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory of free frames back to the system: at once by a call, or after a delay by a thread with a timer.
 *
 * Runs that are trimmed leave the free lists while the system works on them, so that no lock is held over a system
 * call and nobody gets such a frame; they count as cached. They come back the way every freed frame does.
 */
#include <string.h>

#include "os/mem.h"
#include "os/thread.h"
#include "pool/pool.h"

enum { RUNS_MAX = 32 };

struct run {
	weir_pfn_t pfn;
	unsigned order;
};

int range_discard(const struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end)
{
	if (!zone_index(pool, start))
		return mem_discard(pool->base + ((size_t)start << PAGE_SHIFT),
				   (size_t)(end - start) << PAGE_SHIFT);
	return mem_file_punch(pool->fd, (uint64_t)weir_pool_offset(pool, start),
			      (uint64_t)(end - start) << PAGE_SHIFT);
}

/* Free runs of a pageblock that have memory, off their lists; at most most frames of them, or one run. */
static unsigned runs_take(struct weir_pool *pool, struct zone *zone, weir_pfn_t start,
			  uint64_t most, struct run *runs)
{
	const struct pageblock *pb = &pool->pageblock[pageblock_of(start)];
	unsigned count = 0;
	uint64_t frames = 0;

	for (weir_pfn_t pfn = start;
	     pfn < start + PAGEBLOCK && count < RUNS_MAX && frames < most;) {
		uint32_t word = load_relaxed(&pool->frame[pfn].word);
		unsigned order = frame_order(word);

		if (frame_state(word) == FRAME_FREE && run_count(pb->backed, pfn, order)) {
			frames += run_count(pb->backed, pfn, order);
			buddy_remove(pool, zone, pfn, order);
			store_relaxed(&pool->frame[pfn].word, word_make(FRAME_CACHED, order));
			zone->in_trim += 1u << order;
			runs[count++] = (struct run){pfn, order};
		}
		pfn += 1u << order;
	}
	return count;
}

/* Neighbours in one call. Returns how many of the runs are without memory now. */
static unsigned runs_discard(const struct weir_pool *pool, const struct run *runs, unsigned count,
			     int *err)
{
	unsigned at = 0;

	while (at < count) {
		weir_pfn_t end = runs[at].pfn + (1u << runs[at].order);
		unsigned next = at + 1;

		while (next < count && runs[next].pfn == end)
			end += 1u << runs[next++].order;
		*err = range_discard(pool, runs[at].pfn, end);
		if (*err)
			break;
		at = next;
	}
	return at;
}

/* Returns frames that lost their memory, or -errno. */
static int64_t pageblock_trim(struct weir_pool *pool, struct zone *zone, weir_pfn_t start,
			      uint64_t most)
{
	struct pageblock *pb = &pool->pageblock[pageblock_of(start)];
	struct run runs[RUNS_MAX];
	unsigned count, done;
	int64_t frames = 0;
	int err = 0;

	lock_acquire(&zone->lock);
	count = block_is_up(block_of(pool, start)) ? runs_take(pool, zone, start, most, runs) : 0;
	lock_release(&zone->lock);
	if (!count)
		return 0;
	done = runs_discard(pool, runs, count, &err);
	lock_acquire(&zone->lock);
	for (unsigned i = 0; i < count; i++) {
		const weir_pfn_t pfn = runs[i].pfn;
		unsigned order = runs[i].order, backed = run_count(pb->backed, pfn, order);

		if (i < done) {
			run_clear(pb->backed, pfn, order);
			frames += backed;
			backed = 0;
		}
		zone->in_trim -= 1u << order;
		if (is_isolated(pool, pfn))
			isolated_add(pool, zone, pfn, order);
		else
			buddy_add(pool, zone, pfn, order, backed);
	}
	zone_release_freed(pool, zone);
	evacuation_wake(pool);
	add_relaxed(&pool->trimmed, (uint64_t)frames);
	return frames ? frames : err;
}

int64_t zone_trim(struct weir_pool *pool, unsigned z, uint64_t keep)
{
	struct zone *zone = &pool->zone[z];
	int64_t trimmed = 0;

	for (weir_pfn_t pb = zone->end / PAGEBLOCK; pb-- > zone->start / PAGEBLOCK;) {
		const weir_pfn_t start = pb * PAGEBLOCK;
		uint64_t backed = load_relaxed(&zone->free_backed);
		int64_t got = 1;

		if (backed <= keep)
			break;
		if (!block_is_up(block_of(pool, start))) {
			pb = ALIGN_DOWN(start, 1u << pool->block_shift) / PAGEBLOCK;
			continue;
		}
		while (got > 0 && backed > keep) {
			got = pageblock_trim(pool, zone, start, backed - keep);
			if (got < 0)
				return trimmed ? trimmed : got;
			trimmed += got;
			backed = load_relaxed(&zone->free_backed);
		}
	}
	return trimmed;
}

int64_t weir_pool_trim(struct weir_pool *pool, uint64_t keep)
{
	int64_t trimmed = 0;

	for (unsigned z = 0; z < ZONES; z++) {
		struct zone *zone = &pool->zone[z];
		int64_t got;

		caches_drain(pool, zone->start, zone->end, false);
		got = zone_trim(pool, z, keep);
		if (got < 0)
			return trimmed ? trimmed : got;
		trimmed += got;
	}
	return trimmed;
}

/* --- the timer --- */

static uint32_t now_ms(void)
{
	return (uint32_t)(now_ns() / 1000000);
}

void timer_note(struct weir_pool *pool, weir_pfn_t pfn)
{
	struct pageblock *pb = &pool->pageblock[pageblock_of(pfn)];

	if (!pb->free_backed)
		return;
	pb->freed_ms = now_ms();
	zone_of(pool, pfn)->ripening = true;
}

void timer_wake(struct weir_pool *pool)
{
	uint32_t idle = TIMER_IDLE;

	/* The zone's lock, which both have taken, orders this after what the timer looks at. */
	if (load_relaxed(&pool->timer_state) == TIMER_IDLE &&
	    cas_relaxed(&pool->timer_state, &idle, TIMER_BUSY))
		(void)futex_wake(&pool->timer_state, 1);
}

/* A pageblock that is free as a whole and has memory: how many ms until it is due; -1: there is no such. */
static int32_t due_in_ms(struct weir_pool *pool, struct zone *zone, weir_pfn_t start)
{
	const struct pageblock *pb = &pool->pageblock[pageblock_of(start)];
	int32_t due = -1;

	lock_acquire(&zone->lock);
	if (pb->free == PAGEBLOCK && pb->free_backed && block_is_up(block_of(pool, start)))
		due = MAX((int32_t)(pb->freed_ms + pool->options.trim_delay_ms - now_ms()), 0);
	lock_release(&zone->lock);
	return due;
}

/* Trims what is due. Returns ms until the next one is, -1: there is none. */
static int32_t zone_trim_due(struct weir_pool *pool, struct zone *zone)
{
	int32_t next = -1;

	for (weir_pfn_t start = zone->start; start < zone->end; start += PAGEBLOCK) {
		int32_t due;

		if (!block_is_up(block_of(pool, start))) {
			start = ALIGN_DOWN(start, 1u << pool->block_shift) +
				(1u << pool->block_shift) - PAGEBLOCK;
			continue;
		}
		due = due_in_ms(pool, zone, start);
		/* One that the system does not take is asked about again after a whole delay. */
		if (due == 0 && pageblock_trim(pool, zone, start, PAGEBLOCK) < 0)
			due = (int32_t)pool->options.trim_delay_ms;
		if (due > 0 && (next < 0 || due < next))
			next = due;
	}
	return next;
}

static void *timer_main(void *data)
{
	struct weir_pool *pool = data;

	while (load_relaxed(&pool->timer_state) != TIMER_STOP) {
		uint32_t busy = TIMER_BUSY;
		int32_t next = -1;

		/* From here on a note wakes. */
		(void)cas_relaxed(&pool->timer_state, &busy, TIMER_IDLE);
		for (unsigned z = 0; z < ZONES; z++) {
			int32_t due = zone_trim_due(pool, &pool->zone[z]);

			if (due > 0 && (next < 0 || due < next))
				next = due;
		}
		if (next < 0) {
			(void)futex_wait(&pool->timer_state, TIMER_IDLE, 0);
			continue;
		}
		/* What becomes free meanwhile is due later than this. */
		busy = TIMER_IDLE;
		(void)cas_relaxed(&pool->timer_state, &busy, TIMER_BUSY);
		(void)futex_wait(&pool->timer_state, TIMER_BUSY, (uint64_t)next * 1000000);
	}
	return NULL;
}

int timer_start(struct weir_pool *pool)
{
	int err;

	if (!pool->options.trim_delay_ms)
		return 0;
	store_relaxed(&pool->timer_state, TIMER_BUSY);
	err = thread_start(&pool->timer, "weir-trim", timer_main, pool);
	if (err)
		store_relaxed(&pool->timer_state, TIMER_NONE);
	return err;
}

void timer_stop(struct weir_pool *pool)
{
	if (load_relaxed(&pool->timer_state) == TIMER_NONE)
		return;
	store_relaxed(&pool->timer_state, TIMER_STOP);
	(void)futex_wake(&pool->timer_state, 1);
	pthread_join(pool->timer, NULL);
}
