/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory of free frames goes back: at once, or after the delay; never that of frames in use. */
#include "pools.h"

/* Frames in use keep their bytes; free ones lose their memory, the highest first, down to what is kept. */
static void test_trim_keeps_what_is_used_and_what_is_kept(void **state)
{
	static const unsigned keeps[] = {5000, 1000, 511, 64, 1, 0};
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(keeps); i++) {
		struct weir_pool *pool = pool_make(2);
		struct holder *h = holder_make(pool);
		uint64_t backed;
		int64_t trimmed;

		for (unsigned n = 0; n < 1800; n++) {
			struct holding *it = hold(h, 0);

			memset(memory_of(pool, it->pfn), 1, PAGE_SIZE);
			holding_fill(h, it);
		}
		for (unsigned n = 0; n < 1800; n++) {
			if (random_below(&seed, 10) > i)
				let_go(h, &h->held[n]);
		}
		backed = low_of(pool).backed;
		assert_int_equal(backed, 1800 - low_of(pool).allocated);
		assert_int_equal(resident_frames(pool, 0, 2 * BLOCK), 1800);
		trimmed = weir_pool_trim(pool, keeps[i]);
		assert_int_equal(trimmed, backed - low_of(pool).backed);
		assert_true(low_of(pool).backed <= keeps[i]);
		assert_int_equal(resident_frames(pool, 0, 2 * BLOCK),
				 low_of(pool).backed + low_of(pool).allocated);
		holder_check(h);
		pool_check(pool);
		assert_int_equal(weir_pool_trim(pool, keeps[i]), 0);
		let_all_go(h);
		pool_end(pool);
	}
}

/* Trimmed frames read as zeroes, and count as having memory again once they were handed out. */
static void test_trimmed_frames_read_as_zero(void **state)
{
	struct weir_pool *pool = pool_make(1);
	weir_pfn_t pfn = get(pool, 9, 0, 0);

	(void)state;
	memset(memory_of(pool, pfn), 7, PAGE_SIZE << 9);
	put(pool, pfn, 9);
	assert_int_equal(low_of(pool).backed, 512);
	assert_int_equal(weir_pool_trim(pool, 0), 512);
	assert_int_equal(low_of(pool).backed, 0);
	pfn = get(pool, 9, 0, 0);
	assert_true(all_bytes_are(memory_of(pool, pfn), 0, PAGE_SIZE << 9));
	assert_int_equal(low_of(pool).backed, 0);
	put(pool, pfn, 9);
	assert_int_equal(low_of(pool).backed, 512);
	pool_end(pool);
}

/* More than that have memory, or some are just losing it. */
static bool still_backed(struct weir_pool *pool, uint64_t frames)
{
	struct weir_zone_stats s = low_of(pool);

	return s.backed > frames || s.cached;
}

/* The timer gives memory of free pageblocks back by itself; of others it does not. Waited for, not timed. */
static void test_timer_trims_free_pageblocks(void **state)
{
	const struct weir_pool_options options = {.cache_frames = WEIR_POOL_NO_CACHE,
						  .trim_delay_ms = 20};
	const uint64_t patience = 60000000000;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		struct weir_pool *pool = pool_make_with(&options, 2);
		weir_pfn_t whole, part;
		uint64_t freed, gone;

		whole = get(pool, 9, 0, 0);
		part = get(pool, 8, 0, 0);
		memset(memory_of(pool, whole), 1, PAGE_SIZE << 9);
		memset(memory_of(pool, part), 1, PAGE_SIZE << 8);
		(void)get(pool, 0, 0, 0);
		put(pool, part, 8);
		freed = now_ns();
		put(pool, whole, 9);
		while (still_backed(pool, 256) && now_ns() - freed < patience)
			sched_yield();
		gone = now_ns();
		assert_int_equal(low_of(pool).backed, 256);
		assert_int_equal(resident_frames(pool, whole, whole + 512), 0);
		assert_int_equal(resident_frames(pool, part, part + 256), 256);
		/* Not before it was due; the clock of the pool has milliseconds. */
		assert_true(gone - freed >= 19000000);
		/* And again: it sleeps until there is something. */
		whole = get(pool, 9, 0, 0);
		memset(memory_of(pool, whole), 1, PAGE_SIZE << 9);
		put(pool, whole, 9);
		while (still_backed(pool, 256) && now_ns() - gone < patience)
			sched_yield();
		assert_int_equal(resident_frames(pool, whole, whole + 512), 0);
		pool_end(pool);
	}
}

/* A pool with a timer that never had anything to do ends at once. */
static void test_idle_timer_ends(void **state)
{
	const struct weir_pool_options options = {.trim_delay_ms = 1000000};

	(void)state;
	for (unsigned i = 0; i < 50; i++)
		weir_pool_destroy(pool_make_with(&options, i % 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trim_keeps_what_is_used_and_what_is_kept),
		cmocka_unit_test(test_trimmed_frames_read_as_zero),
		cmocka_unit_test(test_timer_trims_free_pageblocks),
		cmocka_unit_test(test_idle_timer_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
