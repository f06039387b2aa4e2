/* SPDX-License-Identifier: BSD-2-Clause */
/* A pool, its tables, its owners. */
#include <string.h>

#include "os/mem.h"
#include "pool/pool.h"

#define LOW_MAX_DEFAULT (GIB(1) << 10)
#define BLOCK_DEFAULT MIB(128)
/* pfns fit 32 bits, WEIR_PFN_NONE apart. */
#define MOST ((uint64_t)UINT32_MAX << PAGE_SHIFT)

static int options_check(const struct weir_pool_options *in, struct weir_pool_options *o)
{
	if (!in || in->size < offsetof(struct weir_pool_options, block))
		return -EINVAL;
	memset(o, 0, sizeof(*o));
	memcpy(o, in, MIN(in->size, sizeof(*o)));
	if (!o->block)
		o->block = BLOCK_DEFAULT;
	if (o->block < WEIR_POOL_BLOCK_MIN || (o->block & (o->block - 1)) || o->block > MOST / 2)
		return -EINVAL;
	if (!o->low_max && !o->high_max)
		o->low_max = LOW_MAX_DEFAULT;
	if (o->low_max > MOST || o->high_max > MOST)
		return -EINVAL;
	o->low_max = ALIGN_UP(o->low_max, o->block);
	o->high_max = ALIGN_UP(o->high_max, o->block);
	if (o->low_max + o->high_max > MOST || o->flags & ~WEIR_POOL_GIVEN_FD || o->low < o->min ||
	    o->high < o->low || o->trim_delay_ms > INT32_MAX)
		return -EINVAL;
	return 0;
}

static void zone_init(struct zone *zone, weir_pfn_t start, weir_pfn_t end)
{
	lock_init(&zone->lock, RANK_POOL, "zone");
	waitq_init(&zone->room);
	zone->start = start;
	zone->end = end;
	for (unsigned mobility = 0; mobility < MOBILITIES; mobility++) {
		for (unsigned order = 0; order < ORDERS; order++)
			zone->list[mobility][order].head = WEIR_PFN_NONE;
	}
}

static size_t table_bytes(uint64_t entries, size_t size)
{
	return ALIGN_UP(entries * size, PAGE_SIZE);
}

static int tables_init(struct weir_pool *pool)
{
	const uint32_t pageblocks = pool->frames / PAGEBLOCK;

	pool->frame = mem_alloc(table_bytes(pool->frames, sizeof(*pool->frame)));
	pool->mark = mem_alloc(table_bytes(pageblocks, sizeof(*pool->mark)));
	pool->pageblock = mem_alloc(table_bytes(pageblocks, sizeof(*pool->pageblock)));
	pool->block = mem_alloc(table_bytes(pool->blocks, sizeof(*pool->block)));
	if (!pool->frame || !pool->mark || !pool->pageblock || !pool->block)
		return -ENOMEM;
	/* All of it is about to be written: one call, and not two faults a page. */
	(void)mem_populate(pool->block, table_bytes(pool->blocks, sizeof(*pool->block)), true);
	return caches_init(pool);
}

static int high_init(struct weir_pool *pool)
{
	const struct weir_pool_options *o = &pool->options;
	int64_t size;

	if (!o->high_max)
		return 0;
	if (!(o->flags & WEIR_POOL_GIVEN_FD)) {
		pool->fd = mem_file_open(o->high_max);
		return pool->fd < 0 ? pool->fd : 0;
	}
	pool->fd = o->high_fd;
	size = mem_file_size(o->high_fd);
	if (size < 0)
		return (int)size;
	return (uint64_t)size < o->high_max ? -EINVAL : 0;
}

static int parts_init(struct weir_pool *pool)
{
	const struct weir_pool_options *o = &pool->options;
	const weir_pfn_t low = (weir_pfn_t)(o->low_max >> PAGE_SHIFT);
	int err;

	pool->fd = -1;
	pool->frames = low + (weir_pfn_t)(o->high_max >> PAGE_SHIFT);
	pool->block_shift = (unsigned)__builtin_ctzll(o->block) - PAGE_SHIFT;
	pool->blocks = pool->frames >> pool->block_shift;
	lock_init(&pool->hotplug, RANK_HOTPLUG, "hotplug");
	lock_init(&pool->windows_lock, RANK_WINDOWS, "windows");
	zone_init(&pool->zone[WEIR_ZONE_LOW], 0, low);
	zone_init(&pool->zone[WEIR_ZONE_HIGH], low, pool->frames);
	store_relaxed(&pool->owners, 1);
	err = tables_init(pool);
	if (err)
		return err;
	err = high_init(pool);
	if (err)
		return err;
	if (low) {
		pool->base = mem_reserve(o->low_max);
		if (!pool->base)
			return -ENOMEM;
	}
	return timer_start(pool);
}

static size_t pool_bytes(void)
{
	return ALIGN_UP(sizeof(struct weir_pool), PAGE_SIZE);
}

int weir_pool_create(const struct weir_pool_options *options, struct weir_pool **out)
{
	struct weir_pool_options checked;
	struct weir_pool *pool;
	int err = options_check(options, &checked);

	if (err)
		return err;
	pool = mem_alloc(pool_bytes());
	if (!pool)
		return -ENOMEM;
	pool->options = checked;
	err = parts_init(pool);
	if (err) {
		weir_pool_destroy(pool);
		return err;
	}
	*out = pool;
	return 0;
}

void weir_pool_destroy(struct weir_pool *pool)
{
	if (!pool)
		return;
	timer_stop(pool);
	mem_release(pool->base, pool->options.low_max);
	if (pool->fd >= 0 && !(pool->options.flags & WEIR_POOL_GIVEN_FD))
		mem_file_close(pool->fd);
	caches_destroy(pool);
	mem_release(pool->block, table_bytes(pool->blocks, sizeof(*pool->block)));
	mem_release(pool->pageblock,
		    table_bytes(pool->frames / PAGEBLOCK, sizeof(*pool->pageblock)));
	mem_release((void *)pool->mark, table_bytes(pool->frames / PAGEBLOCK, sizeof(*pool->mark)));
	mem_release(pool->frame, table_bytes(pool->frames, sizeof(*pool->frame)));
	mem_release(pool, pool_bytes());
}

int weir_pool_owner_add(struct weir_pool *pool, const struct weir_pool_owner *owner)
{
	unsigned id;

	if (!owner || owner->size < sizeof(*owner) || owner->flags & ~WEIR_OWNER_OWN_ROOM)
		return -EINVAL;
	lock_acquire(&pool->hotplug);
	id = load_relaxed(&pool->owners);
	if (id < OWNERS) {
		pool->owner[id] = *owner;
		/* Pairs with the acquire in weir_pool_alloc: who knows the id sees the owner. */
		store_release(&pool->owners, id + 1);
	}
	lock_release(&pool->hotplug);
	return id < OWNERS ? (int)id : -ENOSPC;
}

void *weir_pool_base(const struct weir_pool *pool)
{
	return pool->base;
}

int weir_pool_fd(const struct weir_pool *pool)
{
	return pool->fd;
}

int64_t weir_pool_offset(const struct weir_pool *pool, weir_pfn_t pfn)
{
	const struct zone *high = &pool->zone[WEIR_ZONE_HIGH];

	if (pfn < high->start || pfn >= high->end)
		return -EINVAL;
	return (int64_t)(pfn - high->start) << PAGE_SHIFT;
}

weir_pfn_t weir_pool_end(const struct weir_pool *pool, enum weir_zone zone)
{
	return pool->zone[zone == WEIR_ZONE_HIGH].end;
}

uint32_t weir_pool_block_frames(const struct weir_pool *pool)
{
	return 1u << pool->block_shift;
}

void pool_after_fork(struct weir_pool *pool)
{
	for (unsigned i = 0; i < ZONES; i++) {
		lock_init(&pool->zone[i].lock, RANK_POOL, "zone");
		waitq_init(&pool->zone[i].room);
		store_relaxed(&pool->zone[i].waiting, 0);
	}
	lock_init(&pool->hotplug, RANK_HOTPLUG, "hotplug");
	lock_init(&pool->windows_lock, RANK_WINDOWS, "windows");
	for (unsigned i = 0; i < pool->caches; i++)
		store_relaxed(&pool->cache[i].lock, 0);
	store_relaxed(&pool->evacuating, 0);
}
