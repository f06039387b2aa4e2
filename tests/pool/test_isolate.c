/* SPDX-License-Identifier: BSD-2-Clause */
/* Isolation: all or nothing, and its own inverse; every count true while it lasts. */
#include <sched.h>

#include "pools.h"

enum { PB = WEIR_POOL_PAGEBLOCK };

struct snapshot {
	struct weir_zone_stats stats;
	struct weir_frame_info info[4 * BLOCK];
};

static void snapshot_take(struct weir_pool *pool, struct snapshot *s)
{
	s->stats = low_of(pool);
	for (weir_pfn_t pfn = 0; pfn < 4 * BLOCK; pfn++)
		s->info[pfn] = info_of(pool, pfn);
}

static void assert_as_before(struct weir_pool *pool, const struct snapshot *s)
{
	static struct snapshot now;

	snapshot_take(pool, &now);
	assert_memory_equal(&now.stats, &s->stats, sizeof(now.stats));
	for (weir_pfn_t pfn = 0; pfn < 4 * BLOCK; pfn++)
		assert_memory_equal(&now.info[pfn], &s->info[pfn], sizeof(now.info[pfn]));
	pool_check(pool);
}

/* Movable and unmovable frames of all orders, here and there; the unmovable ones only where they get pageblocks. */
static void scatter(struct weir_pool *pool, struct holder *h, uint64_t *seed, bool unmovable)
{
	for (unsigned i = 0; i < 300; i++) {
		if (unmovable && random_chance(seed, 2))
			(void)weir_pool_alloc(pool, random_below(seed, 3), 0, 0);
		else
			(void)hold(h, random_below(seed, 4));
	}
	for (unsigned i = 0; i < h->count; i++) {
		if (random_chance(seed, 2))
			let_go(h, &h->held[i]);
	}
}

/* Isolate, then undo: counts, types, merges and every descriptor are exactly as before. */
static void test_isolate_then_undo_is_the_identity(void **state)
{
	uint64_t seed = test_seed();
	static struct snapshot before;

	(void)state;
	for (unsigned round = 0; round < 30; round++) {
		struct weir_pool *pool = pool_make(4);
		struct holder *h = holder_make(pool);

		scatter(pool, h, &seed, true);
		snapshot_take(pool, &before);
		for (unsigned i = 0; i < 8; i++) {
			weir_pfn_t start = random_below(&seed, 8) * PB;
			weir_pfn_t end = start + (1 + random_below(&seed, 8 - start / PB)) * PB;
			struct weir_pool_why why;
			int err = weir_pool_isolate_range(pool, start, end, &why);

			if (err) {
				assert_int_equal(err, -EBUSY);
				assert_int_equal(why.reason, WEIR_POOL_NOT_MOVABLE);
				assert_in_range(why.pfn, start, end - 1);
				assert_false(info_of(pool, why.pfn).movable);
			} else {
				pool_check(pool);
				assert_int_equal(weir_pool_undo_isolate_range(pool, start, end, -1),
						 0);
			}
			assert_as_before(pool, &before);
		}
		pool_end(pool);
	}
}

/* While frames are isolated every count is true, and `free` is only what an allocation can get. */
static void test_counts_stay_true_while_frames_are_isolated(void **state)
{
	struct weir_pool *pool = pool_make(4);
	struct holder *h = holder_make(pool);
	uint64_t seed = test_seed(), could = 0;
	struct weir_zone_stats s;
	struct weir_block_info block;

	(void)state;
	scatter(pool, h, &seed, false);
	assert_int_equal(weir_pool_isolate_range(pool, 0, 2 * PB, NULL), 0);
	pool_check(pool);
	/* Frees on both sides of the border, one by one. */
	for (unsigned i = 0; i < h->count; i++) {
		if (h->held[i].live && random_chance(&seed, 2))
			let_go(h, &h->held[i]);
		if (i % 16 == 0)
			pool_check(pool);
	}
	s = low_of(pool);
	assert_int_equal(weir_pool_block_read(pool, 0, &block), 0);
	assert_int_equal(block.isolated, s.isolated);
	assert_int_equal(block.free, 0);
	while (weir_pool_alloc(pool, 0, 0, 0) >= 0)
		could++;
	assert_int_equal(could, s.free);
	assert_int_equal(low_of(pool).isolated, s.isolated);
	pool_end(pool);
}

/* Nothing is allocated from an isolated pageblock, by whatever order and mobility. */
static void test_no_allocation_from_an_isolated_pageblock(void **state)
{
	struct weir_pool *pool = pool_make(2);
	struct holder *h = holder_make(pool);

	(void)state;
	assert_int_equal(weir_pool_isolate_range(pool, PB, 3 * PB, NULL), 0);
	for (unsigned i = 0; i < 2 * PB; i++) {
		int64_t pfn = i % 2 ? weir_pool_alloc(pool, 0, 0, 0)
				    : weir_pool_alloc(pool, 0, WEIR_POOL_MOVABLE, h->owner);

		assert_true(pfn >= 0 && (pfn < PB || pfn >= 3 * PB));
	}
	for (unsigned order = 0; order <= WEIR_POOL_ORDER_MAX; order++) {
		assert_int_equal(weir_pool_alloc(pool, order, 0, 0), -ENOMEM);
		assert_int_equal(weir_pool_alloc(pool, order, WEIR_POOL_MOVABLE, h->owner),
				 -ENOMEM);
	}
	pool_end(pool);
}

/* Of two that overlap one wins; the other is told, and takes back only its own. */
static void test_overlapping_isolations(void **state)
{
	struct weir_pool *pool = pool_make(4);
	struct weir_pool_why why;

	(void)state;
	assert_int_equal(weir_pool_isolate_range(pool, 2 * PB, 4 * PB, NULL), 0);
	assert_int_equal(weir_pool_isolate_range(pool, 0, 3 * PB, &why), -EBUSY);
	assert_int_equal(why.reason, WEIR_POOL_ISOLATED);
	assert_int_equal(why.pfn, 2 * PB);
	assert_int_equal(weir_pool_isolate_range(pool, 3 * PB, 6 * PB, NULL), -EBUSY);
	assert_int_equal(weir_pool_isolate_range(pool, 0, 8 * PB, NULL), -EBUSY);
	assert_int_equal(weir_pool_isolate_range(pool, 2 * PB, 4 * PB, NULL), -EBUSY);
	assert_int_equal(weir_pool_range_isolated(pool, 2 * PB, 4 * PB), 1);
	assert_int_equal(low_of(pool).isolated, 2 * PB);
	assert_int_equal(weir_pool_range_isolated(pool, 0, PB), 0);
	assert_int_equal(weir_pool_isolate_range(pool, 0, 2 * PB, NULL), 0);
	pool_check(pool);
	/* Undone in other parts than it was done. */
	assert_int_equal(weir_pool_undo_isolate_range(pool, PB, 3 * PB, -1), 0);
	assert_int_equal(weir_pool_undo_isolate_range(pool, 0, 2 * PB, -1), -EINVAL);
	assert_int_equal(weir_pool_undo_isolate_range(pool, 0, PB, -1), 0);
	assert_int_equal(weir_pool_undo_isolate_range(pool, 3 * PB, 4 * PB, -1), 0);
	assert_int_equal(low_of(pool).isolated, 0);
	pool_end(pool);
}

struct race {
	struct weir_pool *pool;
	_Atomic unsigned wrong;
};

/* Until it has won often enough; who loses lets the other go on. */
static void isolate_and_undo(unsigned index, void *arg)
{
	struct race *r = arg;
	const weir_pfn_t start = index * PB, end = start + 4 * PB;

	for (unsigned won = 0; won < 1000;) {
		int err = weir_pool_isolate_range(r->pool, start, end, NULL);

		if (!err) {
			won++;
			if (weir_pool_range_isolated(r->pool, start, end) != 1 ||
			    weir_pool_undo_isolate_range(r->pool, start, end, -1))
				add_relaxed(&r->wrong, 1);
		} else if (err == -EBUSY) {
			sched_yield();
		} else {
			add_relaxed(&r->wrong, 1);
		}
	}
}

static void test_overlapping_isolations_by_two_threads(void **state)
{
	struct race r = {.pool = pool_make(4)};

	(void)state;
	run_threads(2, isolate_and_undo, &r);
	assert_int_equal(load_relaxed(&r.wrong), 0);
	assert_int_equal(low_of(r.pool).isolated, 0);
	assert_int_equal(low_of(r.pool).free_runs[WEIR_POOL_ORDER_MAX], 8);
	pool_end(r.pool);
}

/* Right for what was never allocated, for what was freed one by one, and for one with runs of all orders. */
static void test_range_isolated_whatever_its_history(void **state)
{
	struct weir_pool *pool = pool_make(4);
	struct holder *h = holder_make(pool);
	uint64_t seed = test_seed();

	(void)state;
	/* The block that came last is used first: one by one. Of all orders: the third. Never used: the first. */
	for (unsigned i = 0; i < BLOCK; i++)
		assert_non_null(hold(h, 0));
	for (unsigned order = 0; order <= 8; order++)
		assert_non_null(hold(h, order));
	assert_int_equal(weir_pool_isolate_range(pool, 0, 4 * BLOCK, NULL), 0);
	assert_int_equal(weir_pool_range_isolated(pool, 0, BLOCK), 1);
	assert_int_equal(weir_pool_range_isolated(pool, 3 * BLOCK, 4 * BLOCK), 0);
	while (h->count) {
		struct holding last = h->held[--h->count],
			       *it = &h->held[random_below(&seed, h->count + 1)];

		let_go(h, it);
		*it = last;
	}
	assert_int_equal(weir_pool_range_isolated(pool, 0, 4 * BLOCK), 1);
	for (unsigned i = 0; i < 200; i++) {
		weir_pfn_t start = random_below(&seed, 4 * BLOCK - 1);
		weir_pfn_t end = start + 1 + random_below(&seed, 4 * BLOCK - start);

		assert_int_equal(weir_pool_range_isolated(pool, start, end), 1);
	}
	assert_int_equal(weir_pool_undo_isolate_range(pool, 0, 4 * BLOCK, -1), 0);
	assert_int_equal(weir_pool_range_isolated(pool, 5, 6), 0);
	assert_int_equal(low_of(pool).free_runs[WEIR_POOL_ORDER_MAX], 8);
	pool_end(pool);
}

/* A frame that is not isolated is found wherever it is, inside longer ranges of such that are. */
static void test_range_isolated_finds_the_one_that_is_not(void **state)
{
	struct weir_pool *pool = pool_make(4);
	struct holder *h = holder_make(pool);
	struct holding *it;

	(void)state;
	for (unsigned i = 0; i < 700; i++)
		assert_non_null(hold(h, 0));
	assert_int_equal(weir_pool_isolate_range(pool, 0, 4 * BLOCK, NULL), 0);
	for (unsigned i = 0; i < 700; i++) {
		if (i != 600)
			let_go(h, &h->held[i]);
	}
	it = &h->held[600];
	for (weir_pfn_t d = 0; d < 40; d++) {
		weir_pfn_t start = it->pfn > d ? it->pfn - d : 0;

		assert_int_equal(weir_pool_range_isolated(pool, start, it->pfn + 1), 0);
		assert_int_equal(weir_pool_range_isolated(pool, it->pfn, it->pfn + 1 + d), 0);
		if (start < it->pfn)
			assert_int_equal(weir_pool_range_isolated(pool, start, it->pfn), 1);
		assert_int_equal(weir_pool_range_isolated(pool, it->pfn + 1, it->pfn + 2 + d), 1);
	}
	let_go(h, it);
	assert_int_equal(weir_pool_range_isolated(pool, 0, 4 * BLOCK), 1);
	pool_end(pool);
}

/* The type survives, or is what it is told to be; the frames go to its lists. */
static void test_types_survive_or_are_overridden(void **state)
{
	struct weir_pool *pool = pool_make(2);
	weir_pfn_t unmovable = get(pool, 0, 0, 0);

	(void)state;
	put(pool, unmovable, 0);
	unmovable = ALIGN_DOWN(unmovable, PB);
	assert_int_equal(info_of(pool, unmovable).mobility, WEIR_UNMOVABLE);
	assert_int_equal(weir_pool_isolate_range(pool, 0, 2 * BLOCK, NULL), 0);
	assert_int_equal(info_of(pool, unmovable).mobility, WEIR_UNMOVABLE);
	assert_int_equal(weir_pool_undo_isolate_range(pool, 0, 2 * BLOCK, -1), 0);
	for (weir_pfn_t pfn = 0; pfn < 2 * BLOCK; pfn += PB)
		assert_int_equal(info_of(pool, pfn).mobility,
				 pfn == unmovable ? WEIR_UNMOVABLE : WEIR_MOVABLE);
	for (int mobility = WEIR_MOVABLE; mobility <= WEIR_UNMOVABLE; mobility++) {
		assert_int_equal(weir_pool_isolate_range(pool, 0, BLOCK, NULL), 0);
		assert_int_equal(weir_pool_undo_isolate_range(pool, 0, BLOCK, mobility), 0);
		assert_int_equal(info_of(pool, 0).mobility, mobility);
		pool_check(pool);
	}
	assert_int_equal(weir_pool_isolate_range(pool, 0, BLOCK, NULL), 0);
	assert_int_equal(weir_pool_undo_isolate_range(pool, 0, BLOCK, 2), -EINVAL);
	assert_int_equal(weir_pool_undo_isolate_range(pool, 0, BLOCK, -2), -EINVAL);
	pool_end(pool);
}

/* The first frame that cannot move is named, with its owner. */
static void test_unmovable_frame_is_named(void **state)
{
	struct weir_pool *pool = pool_make(2);
	const struct weir_pool_owner owner = {.size = sizeof(owner), .name = "a stone"};
	unsigned id = (unsigned)weir_pool_owner_add(pool, &owner);
	weir_pfn_t pfn = get(pool, 3, 0, id);
	struct weir_pool_why why;

	(void)state;
	assert_int_equal(weir_pool_isolate_range(pool, 0, 2 * BLOCK, &why), -EBUSY);
	assert_int_equal(why.reason, WEIR_POOL_NOT_MOVABLE);
	assert_int_equal(why.err, -EBUSY);
	assert_int_equal(why.pfn, pfn);
	assert_int_equal(why.order, 3);
	assert_int_equal(why.owner, id);
	assert_string_equal(why.holder, "a stone");
	assert_int_equal(low_of(pool).isolated, 0);
	pool_end(pool);
}

/* Misaligned, empty, backwards, beyond, not online: -EINVAL, and nothing is isolated. */
static void test_bad_ranges(void **state)
{
	static const weir_pfn_t bad[][2] = {{1, PB},
					    {0, PB + 1},
					    {0, 0},
					    {PB, 0},
					    {0, FRAMES_MOST + PB},
					    {UINT32_MAX - 511, 0},
					    {0, 3 * BLOCK},
					    {2 * BLOCK, 3 * BLOCK},
					    {FRAMES_MOST, FRAMES_MOST + PB},
					    {PB, UINT32_MAX}};
	struct weir_pool *pool = pool_make(2);
	struct weir_pool_why why;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(weir_pool_isolate_range(pool, bad[i][0], bad[i][1], &why),
				 -EINVAL);
		assert_int_equal(why.reason, WEIR_POOL_BAD_RANGE);
		assert_int_equal(weir_pool_undo_isolate_range(pool, bad[i][0], bad[i][1], -1),
				 -EINVAL);
	}
	assert_int_equal(weir_pool_range_isolated(pool, 0, 0), -EINVAL);
	assert_int_equal(weir_pool_range_isolated(pool, 0, 3 * BLOCK), -EINVAL);
	assert_int_equal(weir_pool_isolated(pool, UINT32_MAX), 0);
	assert_int_equal(low_of(pool).isolated, 0);
	pool_end(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_isolate_then_undo_is_the_identity),
		cmocka_unit_test(test_counts_stay_true_while_frames_are_isolated),
		cmocka_unit_test(test_no_allocation_from_an_isolated_pageblock),
		cmocka_unit_test(test_overlapping_isolations),
		cmocka_unit_test(test_overlapping_isolations_by_two_threads),
		cmocka_unit_test(test_range_isolated_whatever_its_history),
		cmocka_unit_test(test_range_isolated_finds_the_one_that_is_not),
		cmocka_unit_test(test_types_survive_or_are_overridden),
		cmocka_unit_test(test_unmovable_frame_is_named),
		cmocka_unit_test(test_bad_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
