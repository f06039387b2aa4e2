/* SPDX-License-Identifier: BSD-2-Clause */
/* Counts, of one moment. */
#include <string.h>

#include "pool/pool.h"

uint64_t weir_pool_free_frames(struct weir_pool *pool, enum weir_zone zone)
{
	return load_relaxed(&pool->zone[zone == WEIR_ZONE_HIGH].free);
}

uint64_t weir_pool_backed_frames(struct weir_pool *pool, enum weir_zone zone)
{
	return load_relaxed(&pool->zone[zone == WEIR_ZONE_HIGH].free_backed);
}

/* Frames of a zone in caches. All caches are locked. */
static uint64_t cached_frames(const struct weir_pool *pool, unsigned z)
{
	uint64_t frames = 0;

	for (unsigned i = 0; i < pool->caches; i++) {
		for (unsigned order = 0; order < ORDERS; order++)
			frames += (uint64_t)(pool->cache[i].count[z][WEIR_MOVABLE][order] +
					     pool->cache[i].count[z][WEIR_UNMOVABLE][order])
				  << order;
	}
	return frames;
}

static void zone_read(struct weir_pool *pool, unsigned z, struct weir_zone_stats *s)
{
	struct zone *zone = &pool->zone[z];
	int64_t allocated;

	lock_acquire(&zone->lock);
	allocated = zone->allocated;
	for (unsigned i = 0; i < pool->caches; i++)
		allocated += pool->cache[i].allocated[z];
	s->total = zone->total;
	s->free = load_relaxed(&zone->free);
	s->isolated = zone->isolated;
	s->allocated = (uint64_t)allocated;
	s->cached = zone->in_trim + cached_frames(pool, z);
	s->offline = zone->offline;
	s->backed = load_relaxed(&zone->free_backed);
	for (unsigned order = 0; order < ORDERS; order++)
		s->free_runs[order] = zone->list[WEIR_MOVABLE][order].count +
				      zone->list[WEIR_UNMOVABLE][order].count;
	lock_release(&zone->lock);
}

int weir_pool_stats_read(struct weir_pool *pool, struct weir_pool_stats *out)
{
	struct weir_pool_stats s = {.size = MIN(out->size, sizeof(s))};
	uint64_t up = 0;

	if (out->size < sizeof(size_t))
		return -EINVAL;
	caches_lock(pool);
	for (unsigned z = 0; z < ZONES; z++) {
		zone_read(pool, z, &s.zone[z]);
		up += s.zone[z].total - s.zone[z].offline;
	}
	caches_unlock(pool);
	s.onlined = load_relaxed(&pool->onlined);
	s.offlined = load_relaxed(&pool->offlined);
	s.offlined_live = load_relaxed(&pool->offlined_live);
	s.offline_failed = load_relaxed(&pool->offline_failed);
	s.migrated = load_relaxed(&pool->migrated);
	s.trimmed = load_relaxed(&pool->trimmed);
	s.tables = up * sizeof(struct frame) +
		   up / PAGEBLOCK * (sizeof(struct pageblock) + sizeof(*pool->mark)) +
		   pool->caches * sizeof(struct cache) + sizeof(*pool);
	memcpy(out, &s, s.size);
	return 0;
}

int weir_pool_block_read(struct weir_pool *pool, uint32_t b, struct weir_block_info *info)
{
	struct zone *zone;
	uint64_t frames[WEIR_FRAME_ISOLATED + 1] = {0};

	if (b >= pool->blocks)
		return -EINVAL;
	*info = (struct weir_block_info){.start = b << pool->block_shift,
					 .end = (b + 1) << pool->block_shift};
	zone = zone_of(pool, info->start);
	info->zone = (enum weir_zone)zone_index(pool, info->start);
	caches_lock(pool);
	lock_acquire(&zone->lock);
	info->state = (enum weir_block_state)load_relaxed(&pool->block[b].state);
	if (block_is_up(&pool->block[b])) {
		for (weir_pfn_t pfn = info->start; pfn < info->end;) {
			uint32_t word = load_relaxed(&pool->frame[pfn].word);

			frames[frame_state(word)] += 1u << frame_order(word);
			pfn += 1u << frame_order(word);
		}
	} else if (info->state != WEIR_BLOCK_ABSENT) {
		info->offline = info->end - info->start;
	}
	lock_release(&zone->lock);
	caches_unlock(pool);
	info->free = frames[WEIR_FRAME_FREE];
	info->isolated = frames[WEIR_FRAME_ISOLATED];
	info->allocated = frames[WEIR_FRAME_ALLOCATED];
	info->cached = frames[WEIR_FRAME_CACHED];
	return 0;
}

int64_t weir_pool_emptiest(struct weir_pool *pool, enum weir_zone z, uint32_t *free)
{
	struct zone *zone = &pool->zone[z == WEIR_ZONE_HIGH];
	int64_t best = -ENOENT;

	lock_acquire(&zone->lock);
	for (uint32_t b = zone->start >> pool->block_shift; b < zone->end >> pool->block_shift;
	     b++) {
		if (load_relaxed(&pool->block[b].state) == WEIR_BLOCK_ONLINE &&
		    (best < 0 || pool->block[b].free >= pool->block[best].free))
			best = b;
	}
	*free = best < 0 ? 0 : pool->block[best].free;
	lock_release(&zone->lock);
	return best;
}

int weir_pool_frame_read(struct weir_pool *pool, weir_pfn_t pfn, struct weir_frame_info *info)
{
	const struct frame *frame;
	uint32_t word;

	if (pfn >= pool->frames)
		return -EINVAL;
	frame = &pool->frame[pfn];
	word = load_relaxed(&frame->word);
	*info = (struct weir_frame_info){
		.state = (enum weir_frame_state)frame_state(word),
		.order = frame_order(word),
		.owner = frame_owner(word),
		.pins = load_relaxed(&frame->pins),
		.movable = (word & WORD_MOVABLE) != 0,
		.mobility =
			pageblock_mark(pool, pfn) & PB_UNMOVABLE ? WEIR_UNMOVABLE : WEIR_MOVABLE,
	};
	if (info->state == WEIR_FRAME_ALLOCATED)
		info->private_word = load_relaxed(&frame->private_word);
	return 0;
}
