/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Blocks of the pool under compressed pages: a block that holds some goes offline, with every byte kept; and the pool
 * follows the load, both ways, without going to and fro.
 */
#include "one_world.h"

#include "../frames.h"

enum { BLOCK = 1024, LOW = FOLLOW_FREE_LOW, PATIENCE = 10 };

static const struct world_options wide = {.pages = {8192}, .pool = MIB(32)};

static struct weir_pool_stats stats(void)
{
	struct weir_pool_stats s = {.size = sizeof(s)};

	assert_int_equal(weir_pool_stats_read(w.pool, &s), 0);
	return s;
}

static uint64_t free_frames(void)
{
	return weir_pool_free_frames(w.pool, WEIR_ZONE_LOW);
}

static struct weir_block_info block_of(uint32_t block)
{
	struct weir_block_info info;

	assert_int_equal(weir_pool_block_read(w.pool, block, &info), 0);
	return info;
}

static unsigned online_blocks(void)
{
	unsigned count = 0;

	for (uint32_t b = 0; b < weir_pool_end(w.pool, WEIR_ZONE_LOW) / BLOCK; b++)
		count += block_of(b).state == WEIR_BLOCK_ONLINE;
	return count;
}

/* A block that holds objects; -1: none does. */
static int64_t used_block(void)
{
	for (uint32_t b = 0; b < weir_pool_end(w.pool, WEIR_ZONE_LOW) / BLOCK; b++) {
		if (block_of(b).allocated)
			return b;
	}
	return -1;
}

static void pages_compress(uint32_t text, uint32_t noise)
{
	write_pages(&w, 0, text, TEXT);
	if (noise)
		write_pages(&w, text, noise, NOISE);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
}

/* --- blocks that hold compressed pages --- */

/* Every such block goes, one after the other, while some pages are clean and others are on their way to the file. */
static void test_blocks_with_compressed_pages_go_offline(void **state)
{
	struct weir_pool_why why;

	(void)state;
	world_open(&w, &wide);
	pages_compress(3000, 600);
	for (uint32_t page = 0; page < 3600; page += 9)
		read_page(&w, page);
	for (uint32_t page = 0; page < 3600; page += 7)
		world_poke(&w, 0, page, 3, page);
	for (unsigned round = 0; round < 8; round++) {
		int64_t block = used_block();
		const uint64_t before = stats().offlined_live;

		assert_true(block >= 0);
		assert_int_equal(weir_pool_offline(w.pool, (uint32_t)block, NULL, &why), 0);
		assert_int_equal(stats().offlined_live, before + 1);
		assert_int_equal(block_of((uint32_t)block).state, WEIR_BLOCK_OFFLINE);
		world_check(&w);
		assert_int_equal(weir_pool_online(w.pool, (uint32_t)block, NULL), 0);
		world_check(&w);
	}
	read_all(3600);
	world_close(&w);
}

/* A page that is busy keeps its block, and the reason names the store; everything is as it was, and takes new pages. */
static void test_busy_page_keeps_its_block(void **state)
{
	struct weir_pool_why why;
	uint64_t x;
	uint32_t block;

	(void)state;
	world_open(&w, &wide);
	pages_compress(400, 0);
	x = word_of(&w, 77);
	block = word_location(x) >> (PAGE_SHIFT - SLOT_SHIFT) >> 10;
	assert_true(page_lock(&w.only->word[77], &x));
	assert_int_equal(weir_pool_offline(w.pool, block, NULL, &why), -EBUSY);
	assert_int_equal(why.reason, WEIR_POOL_HOLDER_BUSY);
	assert_int_equal(why.pfn >> 10, block);
	assert_non_null(strstr(why.holder, "compressed store: objects of up to"));
	page_unlock(&w.vm, w.only, 77, x, true);
	world_check(&w);
	pages_compress(700, 0);
	assert_int_equal(weir_pool_offline(w.pool, block, NULL, &why), 0);
	world_check(&w);
	read_all(700);
	world_close(&w);
}

/* Nothing new goes into spans that are about to leave, though they have room. */
static void test_no_object_goes_where_a_block_leaves(void **state)
{
	uint64_t x[400];
	uint32_t block;

	(void)state;
	world_open(&w, &wide);
	pages_compress(400, 0);
	for (uint32_t page = 0; page < 400; page += 2)
		world_poke(&w, 0, page, 0, 1);
	block = (uint32_t)used_block();
	for (uint32_t page = 0; page < 400; page++)
		x[page] = word_of(&w, page);
	assert_int_equal(weir_pool_isolate_range(w.pool, block * BLOCK, (block + 1) * BLOCK, NULL),
			 0);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	for (uint32_t page = 0; page < 400; page++) {
		uint64_t now = word_of(&w, page);

		if (word_kind(now) == COPY_MEMORY && word_location(now) != word_location(x[page]))
			assert_int_not_equal(word_location(now) >> (PAGE_SHIFT - SLOT_SHIFT) >> 10,
					     block);
	}
	assert_int_equal(
		weir_pool_undo_isolate_range(w.pool, block * BLOCK, (block + 1) * BLOCK, -1), 0);
	world_check(&w);
	read_all(400);
	world_close(&w);
}

/* With no room elsewhere a block stays, with -ENOMEM, and no page is lost. */
static void test_no_room_for_the_objects_of_a_block(void **state)
{
	const struct world_options full = {.pages = {8192}, .pool = MIB(8)};
	struct weir_pool_why why;

	(void)state;
	world_open(&w, &full);
	write_pages(&w, 0, 1300, NOISE);
	while (evict_all(&w))
		;
	assert_int_equal(weir_pool_offline(w.pool, 0, NULL, &why), -ENOMEM);
	assert_int_equal(why.reason, WEIR_POOL_NO_ROOM);
	world_check(&w);
	read_all(1300);
	world_close(&w);
}

/* --- following the load --- */

static void offline_empty_blocks(unsigned leave)
{
	for (uint32_t b = 0; online_blocks() > leave; b++) {
		if (!block_of(b).allocated)
			assert_int_equal(weir_pool_offline(w.pool, b, NULL, NULL), 0);
	}
}

/* Blocks come until frames are not short; where none is left that is remembered, until one goes. */
static void test_pool_grows_when_frames_run_short(void **state)
{
	(void)state;
	world_open(&w, &wide);
	offline_empty_blocks(0);
	assert_true(follow_short(&w.reclaim));
	follow_grow(&w.reclaim);
	assert_int_equal(free_frames(), LOW);
	assert_false(follow_short(&w.reclaim));
	/* A frame less, and another block comes; and so on to the last. */
	while (online_blocks() < 8) {
		unsigned before = online_blocks();

		frames_leave(w.pool, LOW - 1);
		assert_true(follow_short(&w.reclaim));
		follow_grow(&w.reclaim);
		assert_int_equal(online_blocks(), before + 1);
	}
	frames_leave(w.pool, LOW - 1);
	assert_true(follow_short(&w.reclaim));
	follow_grow(&w.reclaim);
	assert_false(follow_short(&w.reclaim));
	w.not_ours = frames_used(w.pool);
	world_close(&w);
}

/* Who compresses and finds no frame brings a block online itself. */
static void test_out_of_frames_a_block_comes_at_once(void **state)
{
	(void)state;
	world_open(&w, &wide);
	offline_empty_blocks(1);
	frames_leave(w.pool, 3);
	w.not_ours = frames_used(w.pool);
	pages_compress(0, 40);
	assert_int_equal(online_blocks(), 2);
	world_check(&w);
	read_all(40);
	world_close(&w);
}

/* Only after some ticks of plenty, one block a tick, and never below the mark; then nothing changes any more. */
static void test_pool_shrinks_with_patience_and_stops(void **state)
{
	const struct world_options big = {.pages = {8192}, .pool = MIB(64)};
	uint64_t onlined;

	(void)state;
	world_open(&w, &big);
	pages_compress(200, 100);
	for (unsigned i = 1; i < PATIENCE; i++) {
		follow_tick(&w.reclaim);
		assert_int_equal(online_blocks(), 16);
	}
	for (unsigned i = 0; i < 40; i++) {
		unsigned before = online_blocks();

		follow_tick(&w.reclaim);
		assert_true(online_blocks() + 1 >= before);
	}
	assert_in_range(online_blocks(), 3, 6);
	assert_true(free_frames() > 2 * LOW);
	world_check(&w);
	onlined = stats().onlined;
	for (unsigned i = 0; i < 40; i++)
		follow_tick(&w.reclaim);
	assert_int_equal(stats().onlined, onlined);
	/* The load comes back. */
	write_pages(&w, 300, 7000, NOISE);
	while (resident(&w)) {
		follow_tick(&w.reclaim);
		assert_true(evict_all(&w) > 0);
	}
	assert_true(stats().onlined > onlined);
	world_check(&w);
	read_all(7300);
	world_close(&w);
}

/* A spell of plenty that is interrupted begins anew. */
static void test_patience_begins_anew(void **state)
{
	const struct world_options big = {.pages = {8192}, .pool = MIB(64)};
	int64_t held;

	(void)state;
	world_open(&w, &big);
	for (unsigned i = 1; i < PATIENCE; i++)
		follow_tick(&w.reclaim);
	/* Order by order until there is not plenty, for one tick. */
	held = -1;
	while (free_frames() > 3 * LOW)
		assert_true((held = weir_pool_alloc(w.pool, 9, 0, 0)) >= 0);
	follow_tick(&w.reclaim);
	assert_int_equal(weir_pool_free(w.pool, (weir_pfn_t)held, 9), 0);
	w.not_ours = frames_used(w.pool);
	for (unsigned i = 1; i < PATIENCE; i++) {
		follow_tick(&w.reclaim);
		assert_int_equal(online_blocks(), 16);
	}
	world_close(&w);
}

/* A load that comes and goes: every time blocks come by themselves, and go by themselves when it has gone; while it stays as it
 * is none does, so nothing goes to and fro. */
static void test_load_up_and_down(void **state)
{
	enum { ROUNDS = 4, LOAD = 7000, STEP = 500, CALM = 60 };
	const struct world_options big = {.pages = {8192}, .pool = MIB(64)};

	(void)state;
	world_open(&w, &big);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct weir_pool_stats before = stats(), at;

		for (uint32_t page = 0; page < LOAD; page += STEP) {
			write_pages(&w, page, STEP, NOISE);
			while (resident(&w)) {
				follow_tick(&w.reclaim);
				assert_true(evict_all(&w) > 0);
			}
		}
		follow_tick(&w.reclaim);
		at = stats();
		/* In the first round all are online from the start. */
		assert_true(round == 0 || at.onlined - before.onlined >= 4);
		assert_true(free_frames() >= LOW);
		for (unsigned i = 0; i < CALM; i++)
			follow_tick(&w.reclaim);
		before = stats();
		for (unsigned i = 0; i < CALM; i++)
			follow_tick(&w.reclaim);
		at = stats();
		assert_int_equal(at.onlined, before.onlined);
		assert_int_equal(at.offlined, before.offlined);
		world_check(&w);
		assert_int_equal(world_discard(&w, 0, 0, LOAD, true), 0);
		for (unsigned i = 0; i < CALM; i++)
			follow_tick(&w.reclaim);
		at = stats();
		assert_true(at.offlined - before.offlined >= 4);
		assert_int_equal(at.onlined, before.onlined);
		before = at;
		for (unsigned i = 0; i < CALM; i++)
			follow_tick(&w.reclaim);
		assert_int_equal(stats().offlined, before.offlined);
	}
	world_close(&w);
}

/* --- by hand --- */

static void test_blocks_by_hand(void **state)
{
	const struct world_options big = {.pages = {8192}, .pool = MIB(64)};
	const int64_t bytes = (int64_t)BLOCK << PAGE_SHIFT;

	(void)state;
	world_open(&w, &big);
	/* All are online: none can come, and those that are there need not stay if nobody has asked for them. */
	assert_int_equal(follow_online(&w.reclaim, 1), -ENOMEM);
	assert_int_equal(follow_offline(&w.reclaim, 1), bytes);
	assert_int_equal(follow_offline(&w.reclaim, 3 * (uint64_t)bytes + 1), 4 * bytes);
	assert_int_equal(online_blocks(), 11);
	/* What is left is what it takes. */
	assert_int_equal(follow_offline(&w.reclaim, MIB(64)), (int64_t)(11 - 1) * bytes);
	assert_int_equal(follow_offline(&w.reclaim, 1), -EBUSY);
	assert_int_equal(online_blocks(), 1);
	/* Ten stay, whatever else comes and goes. */
	assert_int_equal(follow_online(&w.reclaim, 9 * (uint64_t)bytes), 9 * bytes);
	for (unsigned i = 0; i < 4 * PATIENCE; i++)
		follow_tick(&w.reclaim);
	assert_int_equal(online_blocks(), 10);
	/* Six of them need not any more; nor do the others soon. */
	assert_int_equal(follow_offline(&w.reclaim, 4 * (uint64_t)bytes), 4 * bytes);
	for (unsigned i = 0; i < 4 * PATIENCE; i++)
		follow_tick(&w.reclaim);
	assert_int_equal(online_blocks(), 6);
	assert_int_equal(follow_online(&w.reclaim, MIB(64)), 10 * bytes);
	world_close(&w);
}

/* Compressed pages move out of the way; where they cannot, the block stays and all is as before. */
static void test_blocks_with_pages_by_hand(void **state)
{
	const struct world_options big = {.pages = {8192}, .pool = MIB(64)};
	const int64_t bytes = (int64_t)BLOCK << PAGE_SHIFT;
	int64_t gone, more;
	uint64_t x;

	(void)state;
	world_open(&w, &big);
	pages_compress(1000, 5000);
	gone = follow_offline(&w.reclaim, MIB(64));
	assert_true(gone >= 2 * bytes && free_frames() >= LOW);
	world_check(&w);
	/* Frames are short now, so the load takes it back. */
	assert_int_equal(follow_offline(&w.reclaim, 1), -EBUSY);
	while (follow_online(&w.reclaim, 1) > 0)
		;
	assert_int_equal(online_blocks(), 16);
	/* Fill the holes, so that every block has something. */
	more = used_block();
	assert_true(more >= 0);
	for (uint32_t page = 0; page < 6000; page++) {
		x = word_of(&w, page);
		assert_true(page_lock(&w.only->word[page], &x));
	}
	/* Empty blocks go, those with busy pages do not. */
	gone = follow_offline(&w.reclaim, MIB(64));
	assert_true(gone > 0 && gone < 16 * bytes);
	assert_int_equal(follow_offline(&w.reclaim, 1), -EBUSY);
	for (uint32_t page = 0; page < 6000; page++)
		page_unlock(&w.vm, w.only, page, word_of(&w, page), true);
	world_check(&w);
	read_all(6000);
	world_close(&w);
}

/* For tests of whole programs: block after block goes, whatever is in it. */
static void test_churn(void **state)
{
	(void)state;
	world_open(&w, &wide);
	pages_compress(2000, 1000);
	w.reclaim.follow.churn_ns = 1;
	fake_time_step(1);
	for (unsigned i = 0; i < 20; i++) {
		follow_tick(&w.reclaim);
		world_check(&w);
	}
	fake_time_step(0);
	assert_true(stats().offlined_live >= 10);
	assert_true(stats().migrated > 1000);
	read_all(3000);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks_with_compressed_pages_go_offline),
		cmocka_unit_test(test_busy_page_keeps_its_block),
		cmocka_unit_test(test_no_object_goes_where_a_block_leaves),
		cmocka_unit_test(test_no_room_for_the_objects_of_a_block),
		cmocka_unit_test(test_pool_grows_when_frames_run_short),
		cmocka_unit_test(test_out_of_frames_a_block_comes_at_once),
		cmocka_unit_test(test_pool_shrinks_with_patience_and_stops),
		cmocka_unit_test(test_patience_begins_anew),
		cmocka_unit_test(test_load_up_and_down),
		cmocka_unit_test(test_blocks_by_hand),
		cmocka_unit_test(test_blocks_with_pages_by_hand),
		cmocka_unit_test(test_churn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
