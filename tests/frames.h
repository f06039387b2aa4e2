/* SPDX-License-Identifier: BSD-2-Clause */
/* A pool for tests of what lives in frames: all of it online from the start, in the smallest blocks, without caches. */
#ifndef WEIR_TESTS_FRAMES_H
#define WEIR_TESTS_FRAMES_H

#include "base/help.h"

#include "weir/pool.h"

static inline struct weir_pool *frames_open(size_t bytes)
{
	const struct weir_pool_options options = {.size = sizeof(options),
						  .low_max = bytes,
						  .block = WEIR_POOL_BLOCK_MIN,
						  .cache_frames = WEIR_POOL_NO_CACHE};
	struct weir_pool *pool;
	uint32_t blocks, first;

	assert_int_equal(weir_pool_create(&options, &pool), 0);
	blocks = weir_pool_end(pool, WEIR_ZONE_LOW) / weir_pool_block_frames(pool);
	assert_int_equal(weir_pool_add(pool, WEIR_ZONE_LOW, blocks, &first), 0);
	for (uint32_t i = 0; i < blocks; i++)
		assert_int_equal(weir_pool_online(pool, first + i, NULL), 0);
	return pool;
}

static inline struct weir_zone_stats frames_stats(struct weir_pool *pool)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	assert_int_equal(weir_pool_stats_read(pool, &stats), 0);
	return stats.zone[WEIR_ZONE_LOW];
}

static inline uint64_t frames_used(struct weir_pool *pool)
{
	return frames_stats(pool).allocated;
}

/* Takes frames until so many are free. They are nobody's, and stay. */
static inline void frames_leave(struct weir_pool *pool, uint64_t free)
{
	while (weir_pool_free_frames(pool, WEIR_ZONE_LOW) > free)
		assert_true(weir_pool_alloc(pool, 0, 0, 0) >= 0);
}

#endif
