/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames: no frame has two holders, runs split and merge, kinds keep apart, marks are kept, misuse is refused. */
#include "pools.h"

/* Every order is naturally aligned, and all of the memory can be had, as any order. */
static void test_every_order_is_aligned_and_complete(void **state)
{
	(void)state;
	for (unsigned order = 0; order <= WEIR_POOL_ORDER_MAX; order++) {
		struct weir_pool *pool = pool_make(2);
		static bool seen[2 * BLOCK];

		memset(seen, 0, sizeof(seen));
		for (unsigned i = 0; i < 2u * BLOCK >> order; i++) {
			weir_pfn_t pfn = get(pool, order, 0, 0);

			for (unsigned f = 0; f < 1u << order; f++) {
				assert_true(pfn + f < 2 * BLOCK);
				assert_false(seen[pfn + f]);
				seen[pfn + f] = true;
			}
		}
		assert_int_equal(weir_pool_alloc(pool, 0, 0, 0), -ENOMEM);
		assert_int_equal(low_of(pool).allocated, 2 * BLOCK);
		assert_int_equal(low_of(pool).free, 0);
		pool_check(pool);
		for (weir_pfn_t pfn = 0; pfn < 2 * BLOCK; pfn += 1u << order)
			put(pool, pfn, order);
		assert_int_equal(low_of(pool).free_runs[WEIR_POOL_ORDER_MAX], 4);
		pool_end(pool);
	}
}

/* free = sum of the lists, at each step of a random walk; freed at random, all merges again; an oracle of bits. */
static void test_free_count_is_the_sum_of_lists(void **state)
{
	struct weir_pool *pool = pool_make(3);
	static struct {
		weir_pfn_t pfn;
		unsigned order;
	} held[3 * BLOCK];
	static bool used[3 * BLOCK];
	uint64_t seed = test_seed(), frames = 0;
	unsigned count = 0;

	(void)state;
	memset(used, 0, sizeof(used));
	for (unsigned step = 0; step < 20000; step++) {
		bool fill = step / 1500 % 2 == 0;

		if (!count || (random_below(&seed, 8) < 5) == fill) {
			unsigned order = random_chance(&seed, 4) ? random_below(&seed, 10)
								 : random_below(&seed, 3);
			int64_t pfn = weir_pool_alloc(pool, order, 0, 0);

			if (pfn < 0) {
				assert_int_equal(pfn, -ENOMEM);
				continue;
			}
			for (unsigned f = 0; f < 1u << order; f++) {
				assert_false(used[pfn + f]);
				used[pfn + f] = true;
			}
			held[count].pfn = (weir_pfn_t)pfn;
			held[count++].order = order;
			frames += 1u << order;
		} else {
			unsigned at = random_below(&seed, count);

			put(pool, held[at].pfn, held[at].order);
			memset(&used[held[at].pfn], 0, (size_t)1 << held[at].order);
			frames -= 1u << held[at].order;
			held[at] = held[--count];
		}
		assert_int_equal(weir_pool_free_frames(pool, WEIR_ZONE_LOW), 3 * BLOCK - frames);
		if (step % 500 == 0)
			pool_check(pool);
	}
	while (count) {
		count--;
		put(pool, held[count].pfn, held[count].order);
	}
	assert_int_equal(low_of(pool).free_runs[WEIR_POOL_ORDER_MAX], 6);
	pool_end(pool);
}

/* Movable and unmovable frames come from pageblocks of their own. */
static void test_mobilities_keep_apart(void **state)
{
	struct weir_pool *pool = pool_make(2);
	struct holder *h = holder_make(pool);

	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		assert_non_null(hold(h, 0));
		(void)get(pool, 0, 0, 0);
	}
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(info_of(pool, h->held[i].pfn).mobility, WEIR_MOVABLE);
	for (weir_pfn_t pfn = 0; pfn < 2 * BLOCK; pfn++) {
		struct weir_frame_info info = info_of(pool, pfn);

		if (info.state == WEIR_FRAME_ALLOCATED)
			assert_int_equal(info.mobility,
					 info.movable ? WEIR_MOVABLE : WEIR_UNMOVABLE);
	}
	pool_end(pool);
}

/* A pageblock that is mostly free is taken over whole, one that is not lends what is needed and keeps its type. */
static void test_stealing_takes_whole_pageblocks(void **state)
{
	struct weir_pool *pool = pool_make(1);
	struct holder *h = holder_make(pool);
	weir_pfn_t lone, lent;

	(void)state;
	/* 512 movable ones fill a pageblock, 300 more a part of the other. */
	for (unsigned i = 0; i < 812; i++)
		assert_non_null(hold(h, 0));
	/* 212 are left of it: less than half, so it stays movable. */
	lent = get(pool, 0, 0, 0);
	assert_int_equal(info_of(pool, lent).mobility, WEIR_MOVABLE);
	assert_false(info_of(pool, lent).movable);
	put(pool, lent, 0);
	for (unsigned i = 512; i < 812; i++)
		let_go(h, &h->held[i]);
	/* All free: taken whole, and then it serves unmovable frames until it is full. */
	lone = get(pool, 0, 0, 0);
	assert_int_equal(info_of(pool, lone).mobility, WEIR_UNMOVABLE);
	for (unsigned i = 0; i < 511; i++)
		assert_int_equal(info_of(pool, get(pool, 0, 0, 0)).mobility, WEIR_UNMOVABLE);
	assert_int_equal(weir_pool_alloc(pool, 0, 0, 0), -ENOMEM);
	pool_end(pool);
}

/* Below min only who asks for the reserve is served; below() comes once, and again after high. */
static unsigned fallen;

static void note_fallen(void *data, enum weir_zone zone)
{
	assert_ptr_equal(data, &fallen);
	assert_int_equal(zone, WEIR_ZONE_LOW);
	fallen++;
}

static void test_watermarks(void **state)
{
	const struct weir_pool_options options = {.cache_frames = WEIR_POOL_NO_CACHE,
						  .min = 10,
						  .low = 100,
						  .high = 200,
						  .below = note_fallen,
						  .data = &fallen};
	struct weir_pool *pool = pool_make_with(&options, 1);
	static weir_pfn_t pfn[BLOCK];
	unsigned n = 0;

	(void)state;
	fallen = 0;
	while (n < BLOCK - 100)
		pfn[n++] = get(pool, 0, 0, 0);
	assert_int_equal(fallen, 0);
	pfn[n++] = get(pool, 0, 0, 0);
	assert_int_equal(fallen, 1);
	while (n < BLOCK - 10)
		pfn[n++] = get(pool, 0, 0, 0);
	assert_int_equal(weir_pool_alloc(pool, 0, 0, 0), -ENOMEM);
	while (n < BLOCK)
		pfn[n++] = get(pool, 0, WEIR_POOL_RESERVE, 0);
	assert_int_equal(weir_pool_alloc(pool, 0, WEIR_POOL_RESERVE, 0), -ENOMEM);
	assert_int_equal(fallen, 1);
	/* Not at high yet: it is not said again. */
	while (n > BLOCK - 150)
		put(pool, pfn[--n], 0);
	while (n < BLOCK - 50)
		pfn[n++] = get(pool, 0, 0, 0);
	assert_int_equal(fallen, 1);
	while (n > BLOCK - 200)
		put(pool, pfn[--n], 0);
	while (n < BLOCK - 50)
		pfn[n++] = get(pool, 0, 0, 0);
	assert_int_equal(fallen, 2);
	pool_end(pool);
}

/* --- a waiter that trusts the free count --- */

/* With all free frames isolated the count says 0 and a waiter gets -ETIMEDOUT: the first design counted them as free, and
 * looped for ever. */
static void test_waiter_that_trusts_the_free_count(void **state)
{
	struct weir_pool *pool = pool_make(1);

	(void)state;
	assert_int_equal(weir_pool_isolate_range(pool, 0, BLOCK, NULL), 0);
	assert_int_equal(weir_pool_free_frames(pool, WEIR_ZONE_LOW), 0);
	assert_int_equal(weir_pool_alloc_wait(pool, 0, 0, 0, 1000000), -ETIMEDOUT);
	assert_int_equal(weir_pool_undo_isolate_range(pool, 0, BLOCK, -1), 0);
	assert_true(weir_pool_alloc_wait(pool, 0, 0, 0, 1000000) >= 0);
	pool_end(pool);
}

struct waiting {
	struct weir_pool *pool;
	weir_pfn_t pfn[BLOCK];
	int64_t got;
};

static void wait_or_free(unsigned index, void *arg)
{
	struct waiting *w = arg;

	if (index == 0) {
		w->got = weir_pool_alloc_wait(w->pool, 0, 0, 0, 0);
		return;
	}
	/* Once the other waits, or is about to. */
	while (!load_relaxed(&w->pool->zone[0].waiting))
		sched_yield();
	(void)weir_pool_free(w->pool, w->pfn[7], 0);
}

/* A waiter without a deadline is woken by a free, also by one that would have stayed in a cache. */
static void test_free_wakes_a_waiter(void **state)
{
	const struct weir_pool_options cached = {.cache_frames = 0};
	static struct waiting w;

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		w.pool = pool_make_with(&cached, 1);
		for (unsigned i = 0; i < BLOCK; i++)
			w.pfn[i] = get(w.pool, 0, 0, 0);
		run_threads(2, wait_or_free, &w);
		assert_int_equal(w.got, w.pfn[7]);
		pool_end(w.pool);
	}
}

/* --- misuse --- */

static void test_bad_arguments_of_alloc(void **state)
{
	struct weir_pool *pool = pool_make(1);
	const struct weir_pool_owner still = {.size = sizeof(still), .name = "still"};
	int id = weir_pool_owner_add(pool, &still);

	(void)state;
	assert_int_equal(weir_pool_alloc(pool, 10, 0, 0), -EINVAL);
	assert_int_equal(weir_pool_alloc(pool, UINT32_MAX, 0, 0), -EINVAL);
	assert_int_equal(weir_pool_alloc(pool, 0, 8, 0), -EINVAL);
	assert_int_equal(weir_pool_alloc(pool, 0, 0, (unsigned)id + 1), -EINVAL);
	assert_int_equal(weir_pool_alloc(pool, 0, WEIR_POOL_MOVABLE, 0), -EINVAL);
	assert_int_equal(weir_pool_alloc(pool, 0, WEIR_POOL_MOVABLE, (unsigned)id), -EINVAL);
	assert_int_equal(weir_pool_alloc(pool, 0, WEIR_POOL_HIGH, 0), -ENOMEM);
	assert_int_equal(weir_pool_alloc_wait(pool, 10, 0, 0, 1), -EINVAL);
	assert_int_equal(weir_pool_owner_add(pool, NULL), -EINVAL);
	assert_int_equal(weir_pool_owner_add(pool, &(struct weir_pool_owner){.size = 8}), -EINVAL);
	for (unsigned i = (unsigned)id; i < 255; i++)
		assert_int_equal(weir_pool_owner_add(pool, &still), i + 1);
	assert_int_equal(weir_pool_owner_add(pool, &still), -ENOSPC);
	assert_int_equal(low_of(pool).allocated, 0);
	pool_end(pool);
}

struct misuse {
	weir_pfn_t pfn;
	unsigned order;
	bool twice;
};

static int free_wrongly(const struct misuse *m)
{
	struct weir_pool *pool = pool_make(2);

	/* pfn 0 order 3, and 512 order 0 */
	while (weir_pool_alloc(pool, 3, 0, 0) != 0)
		;
	if (m->twice)
		(void)weir_pool_free(pool, m->pfn, m->order);
	return weir_pool_free(pool, m->pfn, m->order);
}

static void free_wrongly_in_child(void *arg)
{
	child_check(free_wrongly(arg) == -EINVAL);
}

/* Freed twice, never got, another order, misaligned, out of range: -EINVAL, or in debug builds an abort that names the pfn. */
static void test_double_free_is_detected(void **state)
{
	struct misuse cases[] = {{0, 3, true},
				 {1, 0, false},
				 {0, 2, false},
				 {0, 4, false},
				 {4, 3, false},
				 {BLOCK * 3, 0, false},
				 {FRAMES_MOST, 0, false},
				 {UINT32_MAX, 0, false},
				 {0, 10, false},
				 {0, UINT32_MAX, false}};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
#ifdef WEIR_DEBUG
		struct child child;
		char words[32];

		run_child(&child, free_wrongly_in_child, &cases[i]);
		assert_panicked(&child);
		snprintf(words, sizeof(words), "pfn %u,", cases[i].pfn);
		assert_says(&child, words);
#else
		child_passes(free_wrongly_in_child, &cases[i]);
#endif
	}
}

/* A frame that is pinned is not freed, and a pin is somebody's. */
static void test_pins(void **state)
{
	struct weir_pool *pool = pool_make(1);
	weir_pfn_t pfn = get(pool, 2, 0, 0);

	(void)state;
	assert_int_equal(weir_pool_unpin(pool, pfn), -EINVAL);
	assert_int_equal(weir_pool_pin(pool, pfn), 0);
	assert_int_equal(weir_pool_pin(pool, pfn), 0);
	assert_int_equal(info_of(pool, pfn).pins, 2);
	assert_int_equal(weir_pool_free(pool, pfn, 2), -EBUSY);
	assert_int_equal(weir_pool_unpin(pool, pfn), 0);
	assert_int_equal(weir_pool_unpin(pool, pfn), 0);
	assert_int_equal(weir_pool_pin(pool, pfn + 1), -EINVAL);
	assert_int_equal(weir_pool_pin(pool, FRAMES_MOST), -EINVAL);
	put(pool, pfn, 2);
	assert_int_equal(weir_pool_pin(pool, pfn), -EINVAL);
	pool_end(pool);
}

/* --- the rest of the face --- */

static void test_bad_options(void **state)
{
	static const struct weir_pool_options bad[] = {
		{.size = 8},
		{.size = sizeof(bad[0]), .block = MIB(2)},
		{.size = sizeof(bad[0]), .block = MIB(12)},
		{.size = sizeof(bad[0]), .low_max = GIB(16) << 10},
		{.size = sizeof(bad[0]), .low_max = GIB(8) << 10, .high_max = GIB(8) << 10},
		{.size = sizeof(bad[0]), .flags = 2},
		{.size = sizeof(bad[0]), .min = 3, .low = 2, .high = 4},
		{.size = sizeof(bad[0]), .low = 2, .high = 1},
		{.size = sizeof(bad[0]), .trim_delay_ms = UINT32_MAX},
	};
	struct weir_pool *pool;

	(void)state;
	assert_int_equal(weir_pool_create(NULL, &pool), -EINVAL);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(weir_pool_create(&bad[i], &pool), -EINVAL);
	weir_pool_destroy(NULL);
}

/*
 * ThreadSanitizer has 1.5 TiB of addresses for mappings, of which chance (28 bits of pages) takes up to 1 TiB from the top: the
 * default of 1 TiB then fits only in some runs, 256 GiB in all.
 */
#ifdef WEIR_TSAN
enum { LOW_GIB = 256, LOW_GIVEN = LOW_GIB };
#else
enum { LOW_GIB = 1024, LOW_GIVEN = 0 };
#endif

/* The default reserves a TiB and uses no memory; tables are at most 1 % of the memory that is online. */
static void test_a_terabyte_is_only_reserved(void **state)
{
	const struct weir_pool_options options = {.size = sizeof(options),
						  .low_max = GIB(LOW_GIVEN)};
	const uint32_t blocks = LOW_GIB * 8;
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	struct weir_pool *pool;
	uint32_t first;

	(void)state;
	assert_int_equal(weir_pool_create(&options, &pool), 0);
	assert_int_equal(weir_pool_end(pool, WEIR_ZONE_LOW), GIB(LOW_GIB) >> PAGE_SHIFT);
	assert_int_equal(weir_pool_block_frames(pool), 32768);
	assert_int_equal(weir_pool_add(pool, WEIR_ZONE_LOW, blocks, &first), 0);
	assert_int_equal(weir_pool_add(pool, WEIR_ZONE_LOW, 1, &first), -ENOMEM);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(weir_pool_online(pool, blocks - 1 - i, NULL), 0);
	*memory_of(pool, get(pool, 0, 0, 0)) = 1;
	assert_int_equal(weir_pool_stats_read(pool, &stats), 0);
	assert_true(stats.tables <= GIB(2) / 100);
	assert_true(sizeof(struct frame) <= 32);
	weir_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_order_is_aligned_and_complete),
		cmocka_unit_test(test_free_count_is_the_sum_of_lists),
		cmocka_unit_test(test_mobilities_keep_apart),
		cmocka_unit_test(test_stealing_takes_whole_pageblocks),
		cmocka_unit_test(test_watermarks),
		cmocka_unit_test(test_waiter_that_trusts_the_free_count),
		cmocka_unit_test(test_free_wakes_a_waiter),
		cmocka_unit_test(test_bad_arguments_of_alloc),
		cmocka_unit_test(test_double_free_is_detected),
		cmocka_unit_test(test_pins),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_a_terabyte_is_only_reserved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
