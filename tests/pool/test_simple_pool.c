/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The simple pool: which frames are handed out, that no frame has two holders, what memory stands behind them, and
 * its own count of all that.
 */
#include "../unit.h"

#include "base/atomic.h"
#include "os/mem.h"
#include "pool/pool.h"

static size_t pool_resident(struct pool *pool)
{
	size_t bytes = (size_t)pool->frames << PAGE_SHIFT, count = 0;
	uint8_t *bits = calloc(1, DIV_UP(pool->frames, 8));

	assert_int_equal(mem_resident(pool->base, bytes, bits), 0);
	for (pfn_t i = 0; i < pool->frames; i++)
		count += bits[i / 8] >> (i % 8) & 1;
	free(bits);
	return count;
}

static pfn_t get(struct pool *pool, unsigned order)
{
	int64_t pfn = pool_get(pool, order);

	assert_true(pfn >= 0);
	return (pfn_t)pfn;
}

/* Whole runs of the highest order, at least what was asked for; no memory before frames are used. */
static void test_init_reserves_only(void **state)
{
	static const struct {
		size_t bytes;
		pfn_t frames;
	} sizes[] = {
		{1, 64},
		{PAGE_SIZE, 64},
		{64 * PAGE_SIZE, 64},
		{64 * PAGE_SIZE + 1, 128},
		{MIB(64), 16384},
		{GIB(8), 2097152},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct pool pool;

		assert_int_equal(pool_init(&pool, sizes[i].bytes), 0);
		assert_int_equal(pool.frames, sizes[i].frames);
		assert_int_equal(load_relaxed(&pool.in_use), 0);
		assert_int_equal(load_relaxed(&pool.free_backed), 0);
		assert_int_equal(pool_validate(&pool), 0);
		if (sizes[i].bytes <= MIB(64))
			assert_int_equal(pool_resident(&pool), 0);
		pool_destroy(&pool);
	}
}

static void init_without_room(void *arg)
{
	const uint32_t *refused = arg;
	struct pool pool;

	deny_if(SYS_mmap, 1, ~0u, *refused, ENOMEM);
	child_check(pool_init(&pool, GIB(1)) == -ENOMEM);
	child_check(!pool.base && !pool.used && !pool.backed);
}

/* -ENOMEM, and nothing held, where there is no room for the frames, or for the bitmaps. */
static void test_init_without_room_is_enomem(void **state)
{
	uint32_t refused[] = {GIB(1), GIB(1) / PAGE_SIZE / 8};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++)
		child_passes(init_without_room, &refused[i]);
}

/* Every run is naturally aligned, inside the pool, and its address is the frame's. */
static void test_runs_are_aligned(void **state)
{
	struct pool pool;

	(void)state;
	assert_int_equal(pool_init(&pool, MIB(4)), 0);
	for (unsigned order = 0; order <= POOL_ORDER_MAX; order++) {
		for (unsigned i = 0; i < 3; i++) {
			pfn_t pfn = get(&pool, order);

			assert_int_equal(pfn % (1u << order), 0);
			assert_true(pfn + (1u << order) <= pool.frames);
			assert_ptr_equal(pool_address(&pool, pfn),
					 pool.base + (size_t)pfn * PAGE_SIZE);
			memset(pool_address(&pool, pfn), 1, PAGE_SIZE << order);
		}
	}
	assert_int_equal(pool_validate(&pool), 0);
	pool_destroy(&pool);
}

/* The lowest run that fits is handed out, so that the top empties. */
static void test_lowest_first(void **state)
{
	struct pool pool;

	(void)state;
	assert_int_equal(pool_init(&pool, MIB(4)), 0);
	for (pfn_t i = 0; i < 256; i++)
		assert_int_equal(get(&pool, 0), i);
	pool_put(&pool, 200, 0);
	pool_put(&pool, 7, 0);
	pool_put(&pool, 100, 0);
	assert_int_equal(get(&pool, 0), 7);
	assert_int_equal(get(&pool, 1), 256);
	pool_put(&pool, 101, 0);
	assert_int_equal(get(&pool, 1), 100);
	assert_int_equal(get(&pool, 0), 200);
	assert_int_equal(get(&pool, 0), 258);
	assert_int_equal(get(&pool, 6), 320);
	assert_int_equal(get(&pool, 0), 259);
	assert_int_equal(get(&pool, 2), 260);
	assert_int_equal(pool_validate(&pool), 0);
	pool_destroy(&pool);
}

/* Full is -ENOMEM for each order, at the very last run; what is put back can be got again. */
static void test_exhaustion_is_enomem(void **state)
{
	(void)state;
	for (unsigned order = 0; order <= POOL_ORDER_MAX; order++) {
		struct pool pool;

		assert_int_equal(pool_init(&pool, MIB(1)), 0);
		for (pfn_t n = 0; n < 256u >> order; n++)
			assert_int_equal(get(&pool, order), n << order);
		for (unsigned o = 0; o <= POOL_ORDER_MAX; o++)
			assert_int_equal(pool_get(&pool, o), -ENOMEM);
		assert_int_equal(load_relaxed(&pool.in_use), 256);
		assert_int_equal(pool_validate(&pool), 0);
		pool_put(&pool, 128, order);
		assert_int_equal(get(&pool, order), 128);
		assert_int_equal(pool_get(&pool, 0), -ENOMEM);
		pool_destroy(&pool);
	}
}

/* Frames that are free but not in one aligned run do not make one. */
static void test_scattered_frames_are_no_run(void **state)
{
	struct pool pool;

	(void)state;
	assert_int_equal(pool_init(&pool, MIB(1)), 0);
	for (pfn_t i = 0; i < 256; i++)
		(void)get(&pool, 0);
	for (pfn_t i = 1; i < 256; i += 2)
		pool_put(&pool, i, 0);
	assert_int_equal(pool_get(&pool, 1), -ENOMEM);
	pool_put(&pool, 34, 0); /* 33, 34 and 35 are free: 34 and 35 are a run */
	assert_int_equal(pool_get(&pool, 2), -ENOMEM);
	assert_int_equal(get(&pool, 1), 34);
	assert_int_equal(pool_get(&pool, 1), -ENOMEM);
	assert_int_equal(get(&pool, 0), 1);
	assert_int_equal(pool_validate(&pool), 0);
	pool_destroy(&pool);
}

/* --- misuse --- */

struct misuse {
	pfn_t got;
	unsigned order;
	pfn_t put;
	unsigned put_order;
	bool twice;
};

static void put_wrongly(void *arg)
{
	const struct misuse *m = arg;
	struct pool pool;

	child_check(pool_init(&pool, MIB(4)) == 0);
	for (pfn_t i = 0; i <= m->got >> m->order; i++)
		child_check(pool_get(&pool, m->order) >= 0);
	if (m->twice)
		pool_put(&pool, m->put, m->put_order);
	pool_put(&pool, m->put, m->put_order);
}

/* A frame that is freed twice, or was never got, ends the process and names the frame. */
static void test_double_free_panics(void **state)
{
	struct misuse cases[] = {
		{5, 0, 5, 0, true},	{64, 6, 64, 6, true},
		{16, 3, 17, 0, true},	{7, 0, 8, 0, false}, /* never got */
		{7, 0, 1000, 0, false},			     /* never got, far off */
		{5, 0, 4, 2, false},			     /* half of it is free */
		{62, 0, 0, 6, false},			     /* the last of it is free */
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct child child;
		char words[64];

		run_child(&child, put_wrongly, &cases[i]);
		assert_panicked(&child);
		snprintf(words, sizeof(words), "frame %u, order %u is freed twice", cases[i].put,
			 cases[i].put_order);
		assert_says(&child, words);
	}
}

/* Neither a frame outside, nor one out of line, nor an order that there is not. */
static void test_impossible_runs_panic(void **state)
{
	struct misuse cases[] = {
		{5, 0, 1024, 0, false}, {5, 0, 0xffffffff, 0, false}, {5, 0, 1, 1, false},
		{0, 6, 32, 6, false},	{0, 6, 0, 7, false},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct child child;

		run_child(&child, put_wrongly, &cases[i]);
		assert_panicked(&child);
	}
}

/* --- memory behind free frames --- */

/* Trimming leaves at most keep, no more than a word's worth fewer, and takes the highest. */
static void test_trim_keeps_at_most_keep(void **state)
{
	static const unsigned keeps[] = {1000, 512, 511, 300, 64, 63, 1, 0};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(keeps); i++) {
		struct pool pool;
		unsigned kept, trimmed;

		assert_int_equal(pool_init(&pool, MIB(4)), 0);
		for (pfn_t n = 0; n < 512; n++)
			*pool_address(&pool, get(&pool, 0)) = 1;
		for (pfn_t n = 0; n < 512; n++)
			pool_put(&pool, n, 0);
		assert_int_equal(load_relaxed(&pool.free_backed), 512);
		trimmed = pool_trim(&pool, keeps[i]);
		kept = load_relaxed(&pool.free_backed);
		assert_int_equal(kept + trimmed, 512);
		assert_in_range(kept, MIN(keeps[i], 512u) - MIN(keeps[i], 63u),
				MIN(keeps[i], 512u));
		assert_int_equal(pool_resident(&pool), kept);
		if (keeps[i] >= 64)
			assert_int_equal(*pool_address(&pool, 0), 1);
		assert_int_equal(pool_validate(&pool), 0);
		/* Nothing more to do. */
		assert_int_equal(pool_trim(&pool, keeps[i]), 0);
		pool_destroy(&pool);
	}
}

/* Frames in use are not touched, free ones between them go and read as zeroes when they come back. */
static void test_trimmed_frames_read_as_zero(void **state)
{
	uint64_t seed = test_seed();
	struct pool pool;
	bool freed[1024];

	(void)state;
	assert_int_equal(pool_init(&pool, MIB(4)), 0);
	for (unsigned round = 0; round < 5; round++) {
		unsigned count = 0;

		for (pfn_t n = 0; n < 1024; n++)
			memset(pool_address(&pool, get(&pool, 0)), (int)n | 1, PAGE_SIZE);
		for (pfn_t n = 0; n < 1024; n++) {
			freed[n] = random_below(&seed, 5) > round;
			if (freed[n]) {
				pool_put(&pool, n, 0);
				count++;
			}
		}
		assert_int_equal(pool_trim(&pool, 0), count);
		assert_int_equal(load_relaxed(&pool.free_backed), 0);
		assert_int_equal(pool_resident(&pool), 1024 - count);
		assert_int_equal(pool_validate(&pool), 0);
		for (pfn_t n = 0; n < 1024; n++) {
			if (freed[n])
				assert_int_equal(get(&pool, 0), n);
			assert_true(all_bytes_are(pool_address(&pool, n), freed[n] ? 0 : (int)n | 1,
						  PAGE_SIZE));
		}
		for (pfn_t n = 0; n < 1024; n++)
			pool_put(&pool, n, 0);
	}
	pool_destroy(&pool);
}

/* Free frames with memory are used before bare ones only by being lower: their number is kept right all the same. */
static void test_backed_frames_are_counted(void **state)
{
	struct pool pool;

	(void)state;
	assert_int_equal(pool_init(&pool, MIB(1)), 0);
	assert_int_equal(get(&pool, 3), 0);
	assert_int_equal(load_relaxed(&pool.free_backed), 0);
	pool_put(&pool, 0, 3);
	assert_int_equal(load_relaxed(&pool.free_backed), 8);
	assert_int_equal(get(&pool, 1), 0);
	assert_int_equal(load_relaxed(&pool.free_backed), 6);
	/* A run that is half backed, half bare. */
	assert_int_equal(get(&pool, 3), 8);
	assert_int_equal(get(&pool, 4), 16);
	assert_int_equal(load_relaxed(&pool.free_backed), 6);
	assert_int_equal(load_relaxed(&pool.in_use), 26);
	/* The highest go. */
	assert_int_equal(get(&pool, 6), 64);
	pool_put(&pool, 64, 6);
	assert_int_equal(load_relaxed(&pool.free_backed), 70);
	assert_int_equal(pool_trim(&pool, 6), 64);
	assert_int_equal(load_relaxed(&pool.free_backed), 6);
	assert_int_equal(pool_validate(&pool), 0);
	pool_destroy(&pool);
}

/* --- everything at random --- */

enum { FRAMES = 512, HOLDINGS = FRAMES };

struct oracle {
	struct pool pool;
	bool used[FRAMES], backed[FRAMES];
	struct {
		pfn_t pfn;
		unsigned order;
	} held[HOLDINGS];
	unsigned holdings, in_use;
};

/* The lowest aligned run of free frames, or FRAMES. */
static pfn_t oracle_find(const struct oracle *o, unsigned order)
{
	for (pfn_t pfn = 0; pfn < FRAMES; pfn += 1u << order) {
		pfn_t i = 0;

		while (i < 1u << order && !o->used[pfn + i])
			i++;
		if (i == 1u << order)
			return pfn;
	}
	return FRAMES;
}

static void oracle_get(struct oracle *o, unsigned order)
{
	pfn_t expected = oracle_find(o, order);
	int64_t pfn = pool_get(&o->pool, order);

	assert_int_equal(pfn, expected == FRAMES ? -ENOMEM : (int64_t)expected);
	if (pfn < 0)
		return;
	for (pfn_t i = 0; i < 1u << order; i++)
		o->used[expected + i] = o->backed[expected + i] = true;
	o->held[o->holdings].pfn = expected;
	o->held[o->holdings++].order = order;
	o->in_use += 1u << order;
}

static void oracle_put(struct oracle *o, unsigned index)
{
	pfn_t pfn = o->held[index].pfn;
	unsigned order = o->held[index].order;

	pool_put(&o->pool, pfn, order);
	for (pfn_t i = 0; i < 1u << order; i++)
		o->used[pfn + i] = false;
	o->in_use -= 1u << order;
	o->held[index] = o->held[--o->holdings];
}

static unsigned oracle_free_backed(const struct oracle *o)
{
	unsigned count = 0;

	for (pfn_t i = 0; i < FRAMES; i++)
		count += o->backed[i] && !o->used[i];
	return count;
}

/* What is trimmed is the pool's choice, within its promise; the oracle takes it over and checks it. */
static void oracle_trim(struct oracle *o, unsigned keep)
{
	unsigned before = oracle_free_backed(o), trimmed = pool_trim(&o->pool, keep), after = 0;
	pfn_t lowest_bare = FRAMES;

	for (pfn_t i = 0; i < FRAMES; i++) {
		bool backed = o->pool.backed[i / 64] >> (i % 64) & 1;

		assert_true(backed ? o->backed[i] : !o->used[i]);
		if (o->backed[i] && !backed)
			lowest_bare = MIN(lowest_bare, i);
		/* Highest first, by words. */
		if (backed && !o->used[i])
			assert_true(i / 64 <= lowest_bare / 64);
		o->backed[i] = backed;
		after += backed && !o->used[i];
	}
	assert_int_equal(before - after, trimmed);
	assert_true(after <= keep || trimmed == 0);
	assert_true(before > keep ? after <= keep : trimmed == 0);
}

/* Lowest first, no run with two holders, and every count right, through thousands of random calls. */
static void test_random_calls_against_a_bitmap(void **state)
{
	static struct oracle o;
	uint64_t seed = test_seed();

	(void)state;
	memset(&o, 0, sizeof(o));
	assert_int_equal(pool_init(&o.pool, FRAMES * PAGE_SIZE), 0);
	for (unsigned step = 0; step < 30000; step++) {
		/* Phases that fill and phases that empty. */
		bool filling = step / 700 % 2 == 0;

		if (random_chance(&seed, 200))
			oracle_trim(&o, random_below(&seed, FRAMES));
		else if (!o.holdings || (random_below(&seed, 8) < 5) == filling)
			oracle_get(&o, random_chance(&seed, 3) ? random_below(&seed, 7)
							       : random_below(&seed, 3));
		else
			oracle_put(&o, random_below(&seed, o.holdings));
		assert_int_equal(load_relaxed(&o.pool.in_use), o.in_use);
		if (step % 100 == 0) {
			assert_int_equal(pool_validate(&o.pool), 0);
			assert_int_equal(load_relaxed(&o.pool.free_backed), oracle_free_backed(&o));
		}
	}
	while (o.holdings)
		oracle_put(&o, 0);
	assert_int_equal(pool_validate(&o.pool), 0);
	assert_int_equal(get(&o.pool, POOL_ORDER_MAX), 0);
	pool_destroy(&o.pool);
}

/* --- threads --- */

enum { THREADS = 2, STEPS = 20000, HELD = 24 };

struct crowd {
	struct pool pool;
	uint64_t seed;
	_Atomic unsigned clashes, got;
};

/* Marks every frame that it holds with its name, and looks that the mark is still there when it lets go. */
static void hold_and_mark(unsigned index, void *arg)
{
	struct crowd *c = arg;
	struct {
		pfn_t pfn;
		unsigned order;
	} held[HELD];
	uint64_t seed = c->seed + index;
	unsigned count = 0;

	for (unsigned step = 0; step < STEPS; step++) {
		if (step % 2000 == 1999)
			(void)pool_trim(&c->pool, 16);
		if (count < HELD && random_chance(&seed, 2)) {
			unsigned order = random_below(&seed, 4);
			int64_t pfn = pool_get(&c->pool, order);

			if (pfn < 0)
				continue;
			add_relaxed(&c->got, 1);
			for (pfn_t i = 0; i < 1u << order; i++)
				*(uint64_t *)pool_address(&c->pool, (pfn_t)pfn + i) =
					(uint64_t)index << 32 | (uint32_t)pfn;
			held[count].pfn = (pfn_t)pfn;
			held[count++].order = order;
		} else if (count) {
			unsigned at = random_below(&seed, count);

			for (pfn_t i = 0; i < 1u << held[at].order; i++) {
				if (*(uint64_t *)pool_address(&c->pool, held[at].pfn + i) !=
				    ((uint64_t)index << 32 | held[at].pfn))
					add_relaxed(&c->clashes, 1);
			}
			pool_put(&c->pool, held[at].pfn, held[at].order);
			held[at] = held[--count];
		}
	}
	while (count) {
		count--;
		pool_put(&c->pool, held[count].pfn, held[count].order);
	}
}

/* No frame has two holders, and none is lost. */
static void test_threads_never_share_a_frame(void **state)
{
	struct crowd c = {.seed = test_seed()};

	(void)state;
	assert_int_equal(pool_init(&c.pool, MIB(1)), 0);
	run_threads(THREADS, hold_and_mark, &c);
	assert_int_equal(load_relaxed(&c.clashes), 0);
	assert_true(load_relaxed(&c.got) > STEPS / 4);
	assert_int_equal(load_relaxed(&c.pool.in_use), 0);
	assert_int_equal(pool_validate(&c.pool), 0);
	pool_destroy(&c.pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_init_reserves_only),
		cmocka_unit_test(test_init_without_room_is_enomem),
		cmocka_unit_test(test_runs_are_aligned),
		cmocka_unit_test(test_lowest_first),
		cmocka_unit_test(test_exhaustion_is_enomem),
		cmocka_unit_test(test_scattered_frames_are_no_run),
		cmocka_unit_test(test_double_free_panics),
		cmocka_unit_test(test_impossible_runs_panic),
		cmocka_unit_test(test_trim_keeps_at_most_keep),
		cmocka_unit_test(test_trimmed_frames_read_as_zero),
		cmocka_unit_test(test_backed_frames_are_counted),
		cmocka_unit_test(test_random_calls_against_a_bitmap),
		cmocka_unit_test(test_threads_never_share_a_frame),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
