/* SPDX-License-Identifier: BSD-2-Clause */
/* Caches of CPUs: what they hold is counted, found when it is needed, and never comes from where nothing may come from. */
#include "os/thread.h"
#include "pools.h"

static struct weir_pool *cached_pool(unsigned online)
{
	const struct weir_pool_options options = {.cache_frames = 0};

	return pool_make_with(&options, online);
}

/* A frame that is freed is cached, and counted so; the next one is that one again. */
static void test_freed_frames_are_cached_and_counted(void **state)
{
	struct weir_pool *pool = cached_pool(1);

	(void)state;
	for (unsigned order = 0; order <= WEIR_POOL_ORDER_MAX; order++) {
		const bool cached = pool->cache_most[order];
		weir_pfn_t pfn = get(pool, order, 0, 0);

		assert_int_equal(low_of(pool).allocated, 1u << order);
		put(pool, pfn, order);
		assert_int_equal(low_of(pool).allocated, 0);
		assert_int_equal(info_of(pool, pfn).state == WEIR_FRAME_CACHED, cached);
		pool_check(pool);
		assert_int_equal(weir_pool_trim(pool, UINT64_MAX), 0);
		assert_int_equal(low_of(pool).cached, 0);
		assert_int_equal(low_of(pool).free, BLOCK);
	}
	pool_end(pool);
}

/* A cache is bounded, whatever is freed into it. */
static void test_caches_are_bounded(void **state)
{
	static const unsigned most[] = {0, 1, 7, 64, 200, 1000, WEIR_POOL_NO_CACHE};
	static weir_pfn_t pfn[BLOCK];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(most); i++) {
		const struct weir_pool_options options = {.cache_frames = most[i]};
		struct weir_pool *pool = pool_make_with(&options, 1);
		const unsigned bound = most[i] == WEIR_POOL_NO_CACHE ? 0
				       : most[i]		     ? MIN(most[i], 256u)
								     : 64;

		for (unsigned n = 0; n < BLOCK; n++)
			pfn[n] = get(pool, 0, 0, 0);
		for (unsigned n = 0; n < BLOCK; n++)
			put(pool, pfn[n], 0);
		/* One mobility, and the thread may have been on each CPU. */
		assert_true(low_of(pool).cached <= bound * MAX(pool->caches, 1u));
		pool_end(pool);
	}
}

/* What lies in caches, of the other mobility too, is found before -ENOMEM is said. */
static void test_no_frame_is_lost_in_a_cache(void **state)
{
	static weir_pfn_t pfn[BLOCK];
	struct weir_pool *pool = cached_pool(1);
	struct holder *h = holder_make(pool);

	(void)state;
	for (unsigned n = 0; n < BLOCK; n++)
		pfn[n] = get(pool, 0, 0, 0);
	for (unsigned n = 0; n < 40; n++)
		put(pool, pfn[n], 0);
	assert_true(low_of(pool).cached > 0);
	for (unsigned n = 0; n < 40; n++)
		assert_non_null(hold(h, 0));
	assert_int_equal(weir_pool_alloc(pool, 0, 0, 0), -ENOMEM);
	assert_int_equal(low_of(pool).allocated, BLOCK);
	pool_end(pool);
}

/* --- isolation --- */

/* What was in a cache when its pageblock was isolated has left it, and comes out of no cache. */
static void test_no_allocation_from_a_cache_of_an_isolated_pageblock(void **state)
{
	struct weir_pool *pool = cached_pool(1);
	weir_pfn_t pfn = get(pool, 0, 0, 0);
	const weir_pfn_t start = ALIGN_DOWN(pfn, WEIR_POOL_PAGEBLOCK);

	(void)state;
	put(pool, pfn, 0);
	assert_int_equal(info_of(pool, pfn).state, WEIR_FRAME_CACHED);
	assert_int_equal(weir_pool_isolate_range(pool, start, start + WEIR_POOL_PAGEBLOCK, NULL),
			 0);
	assert_int_equal(info_of(pool, pfn).state, WEIR_FRAME_ISOLATED);
	assert_int_equal(weir_pool_range_isolated(pool, start, start + WEIR_POOL_PAGEBLOCK), 1);
	for (unsigned i = 0; i < WEIR_POOL_PAGEBLOCK; i++) {
		weir_pfn_t other = get(pool, 0, 0, 0);

		assert_true(other < start || other >= start + WEIR_POOL_PAGEBLOCK);
	}
	assert_int_equal(weir_pool_alloc(pool, 0, 0, 0), -ENOMEM);
	assert_int_equal(weir_pool_undo_isolate_range(pool, start, start + WEIR_POOL_PAGEBLOCK, -1),
			 0);
	pool_end(pool);
}

/* A frame that returns to an isolated pageblock does not stop in the cache on its way. */
static void test_free_into_an_isolated_pageblock_passes_the_cache(void **state)
{
	struct weir_pool *pool = cached_pool(1);
	struct holder *h = holder_make(pool);
	struct holding *it = hold(h, 0);
	const weir_pfn_t start = ALIGN_DOWN(it->pfn, WEIR_POOL_PAGEBLOCK);

	(void)state;
	assert_int_equal(weir_pool_isolate_range(pool, start, start + WEIR_POOL_PAGEBLOCK, NULL),
			 0);
	assert_int_equal(weir_pool_range_isolated(pool, start, start + WEIR_POOL_PAGEBLOCK), 0);
	let_go(h, it);
	assert_int_equal(info_of(pool, it->pfn).state, WEIR_FRAME_ISOLATED);
	assert_int_equal(weir_pool_range_isolated(pool, start, start + WEIR_POOL_PAGEBLOCK), 1);
	assert_int_equal(low_of(pool).isolated, WEIR_POOL_PAGEBLOCK);
	assert_int_equal(weir_pool_undo_isolate_range(pool, start, start + WEIR_POOL_PAGEBLOCK, -1),
			 0);
	assert_int_equal(low_of(pool).free_runs[WEIR_POOL_ORDER_MAX], 2);
	pool_end(pool);
}

/* A frame that was cached as movable goes to the lists of what its pageblock is now. */
static void test_stale_type_in_a_cache(void **state)
{
	struct weir_pool *pool = cached_pool(1);
	struct holder *h = holder_make(pool);
	struct holding *it = hold(h, 0);
	const weir_pfn_t start = ALIGN_DOWN(it->pfn, WEIR_POOL_PAGEBLOCK);

	(void)state;
	let_go(h, it);
	assert_int_equal(info_of(pool, it->pfn).state, WEIR_FRAME_CACHED);
	/* More unmovable frames than the other pageblock has: this one is taken over, while some of it is cached. */
	for (unsigned i = 0; i < WEIR_POOL_PAGEBLOCK + 200; i++)
		(void)get(pool, 0, 0, 0);
	assert_int_equal(info_of(pool, start).mobility, WEIR_UNMOVABLE);
	pool_check(pool);
	(void)weir_pool_trim(pool, UINT64_MAX);
	assert_int_equal(info_of(pool, it->pfn).mobility, WEIR_UNMOVABLE);
	pool_end(pool);
}

/* --- threads --- */

struct crowd {
	struct weir_pool *pool;
	_Atomic unsigned clashes;
	_Atomic uint8_t used[4 * BLOCK];
};

static void get_and_put(unsigned index, void *arg)
{
	struct crowd *c = arg;
	uint64_t seed = index + 1;
	weir_pfn_t held[50];
	unsigned count = 0;

	for (unsigned step = 0; step < 40000; step++) {
		/* From CPU to CPU, so that caches are shared, too. */
		if (step % 1000 == 0)
			(void)thread_bind(0, (int)((step / 1000 + index) % thread_cpu_count()));
		if (count < 50 && random_chance(&seed, 2)) {
			int64_t pfn = weir_pool_alloc(c->pool, 0, 0, 0);

			if (pfn < 0)
				continue;
			if (exchange_relaxed(&c->used[pfn], 1))
				add_relaxed(&c->clashes, 1);
			held[count++] = (weir_pfn_t)pfn;
		} else if (count) {
			weir_pfn_t pfn = held[--count];

			store_relaxed(&c->used[pfn], 0);
			if (weir_pool_free(c->pool, pfn, 0))
				add_relaxed(&c->clashes, 1);
		}
		if (step % 5000 == 0)
			caches_drain(c->pool, 0, 4 * BLOCK, true);
	}
	while (count) {
		store_relaxed(&c->used[held[--count]], 0);
		(void)weir_pool_free(c->pool, held[count], 0);
	}
}

static void test_threads_never_share_a_frame(void **state)
{
	static struct crowd c;

	(void)state;
	c.pool = cached_pool(4);
	run_threads(4, get_and_put, &c);
	assert_int_equal(load_relaxed(&c.clashes), 0);
	assert_int_equal(low_of(c.pool).allocated, 0);
	pool_check(c.pool);
	(void)weir_pool_trim(c.pool, 0);
	assert_int_equal(low_of(c.pool).free_runs[WEIR_POOL_ORDER_MAX], 8);
	pool_end(c.pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_freed_frames_are_cached_and_counted),
		cmocka_unit_test(test_caches_are_bounded),
		cmocka_unit_test(test_no_frame_is_lost_in_a_cache),
		cmocka_unit_test(test_no_allocation_from_a_cache_of_an_isolated_pageblock),
		cmocka_unit_test(test_free_into_an_isolated_pageblock_passes_the_cache),
		cmocka_unit_test(test_stale_type_in_a_cache),
		cmocka_unit_test(test_threads_never_share_a_frame),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
