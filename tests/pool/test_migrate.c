/* SPDX-License-Identifier: BSD-2-Clause */
/* Offline of blocks that hold something, and ranges: contents and owners are kept, what is in the way is named. */
#include "pools.h"

static void offline_all(struct weir_pool *pool, struct holder *h, unsigned block)
{
	struct weir_pool_why why;

	assert_int_equal(weir_pool_offline(pool, block, NULL, &why), 0);
	assert_int_equal(why.reason, WEIR_POOL_FINE);
	assert_int_equal(block_state(pool, block), WEIR_BLOCK_OFFLINE);
	holder_check(h);
	pool_check(pool);
}

/* Contents, owner, order and word are what they were; no frame of the block holds anything; nothing lands in it. */
static void test_migration_preserves_contents_and_owner(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned round = 0; round < 10; round++) {
		struct weir_pool *pool = pool_make(4);
		struct holder *h = holder_make(pool);
		struct weir_pool_stats stats = {.size = sizeof(stats)};

		for (unsigned i = 0; i < 500; i++)
			(void)hold(h, random_below(&seed, 4));
		for (unsigned i = 0; i < h->count; i++) {
			if (random_chance(&seed, 3))
				let_go(h, &h->held[i]);
		}
		/* Those that came last are used first. */
		for (unsigned block = 3; block >= 2; block--) {
			offline_all(pool, h, block);
			for (unsigned i = 0; i < h->count; i++)
				assert_true(!h->held[i].live || h->held[i].pfn / BLOCK != block);
		}
		assert_true(h->moved > 0);
		assert_int_equal(weir_pool_stats_read(pool, &stats), 0);
		assert_int_equal(stats.offlined_live, 2);
		assert_int_equal(stats.offlined, 2);
		assert_true(stats.migrated >= h->moved);
		let_all_go(h);
		pool_end(pool);
	}
}

/* --- what is in the way --- */

/* EBUSY until the deadline, with the frame, its owner and pins; unpinned, it goes. */
static void test_pinned_frame_gives_ebusy_and_its_name(void **state)
{
	struct weir_pool *pool = pool_make(2);
	struct holder *h = holder_make(pool);
	const struct weir_pool_evacuation how = {.size = sizeof(how), .timeout_ns = 3000000};
	struct holding *it;
	struct weir_pool_why why;
	struct record r;

	(void)state;
	record_listen(&r, pool);
	for (unsigned i = 0; i < 20; i++)
		assert_non_null(hold(h, 1));
	it = &h->held[13];
	assert_int_equal(weir_pool_pin(pool, it->pfn), 0);
	assert_int_equal(weir_pool_pin(pool, it->pfn), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(weir_pool_offline(pool, it->pfn / BLOCK, i ? &how : NULL, &why),
				 -EBUSY);
		assert_int_equal(why.reason, WEIR_POOL_PINNED);
		assert_int_equal(why.pfn, it->pfn);
		assert_int_equal(why.order, 1);
		assert_int_equal(why.owner, h->owner);
		assert_int_equal(why.pins, 2);
		assert_string_equal(why.holder, "holder: holding 14");
		assert_int_equal(block_state(pool, it->pfn / BLOCK), WEIR_BLOCK_ONLINE);
		assert_int_equal(low_of(pool).isolated, 0);
		assert_int_equal(r.events[WEIR_CANCEL_OFFLINE], i + 1);
		holder_check(h);
		pool_check(pool);
	}
	(void)weir_pool_unpin(pool, it->pfn);
	(void)weir_pool_unpin(pool, it->pfn);
	offline_all(pool, h, it->pfn / BLOCK);
	assert_int_equal(r.events[WEIR_OFFLINE], 1);
	pool_end(pool);
}

static void test_unmovable_frame_refuses(void **state)
{
	struct weir_pool *pool = pool_make(2);
	weir_pfn_t pfn = get(pool, 0, 0, 0);
	struct weir_pool_why why;
	struct record r;

	(void)state;
	record_listen(&r, pool);
	assert_int_equal(weir_pool_offline(pool, pfn / BLOCK, NULL, &why), -EBUSY);
	assert_int_equal(why.reason, WEIR_POOL_NOT_MOVABLE);
	assert_int_equal(why.pfn, pfn);
	assert_int_equal(r.events[WEIR_GOING_OFFLINE], 1);
	assert_int_equal(r.events[WEIR_CANCEL_OFFLINE], 1);
	assert_int_equal(weir_pool_offline(pool, 1 - pfn / BLOCK, NULL, NULL), 0);
	pool_end(pool);
}

static void test_busy_holder_is_asked_again(void **state)
{
	struct weir_pool *pool = pool_make(2);
	struct holder *h = holder_make(pool);
	const struct weir_pool_evacuation how = {.size = sizeof(how), .timeout_ns = 5000000000};
	struct weir_pool_why why;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		assert_non_null(hold(h, 0));
	h->busy = 25;
	assert_int_equal(weir_pool_offline(pool, h->held[0].pfn / BLOCK, &how, &why), 0);
	assert_int_equal(h->moved, 10);
	holder_check(h);
	h->busy = 1000;
	for (unsigned block = 0; block < 2; block++)
		assert_int_equal(weir_pool_online(pool, block, NULL),
				 block == h->held[0].pfn / BLOCK ? -EINVAL : 0);
	assert_int_equal(weir_pool_offline(pool, h->held[0].pfn / BLOCK, NULL, &why), -EBUSY);
	assert_int_equal(why.reason, WEIR_POOL_HOLDER_BUSY);
	pool_check(pool);
	pool_end(pool);
}

/* The whole pool is full: -ENOMEM, and everything is where it was or somewhere else in the same block's company. */
static void test_no_room_elsewhere(void **state)
{
	struct weir_pool *pool = pool_make(2);
	struct holder *h = holder_make(pool);
	struct weir_pool_why why;

	(void)state;
	for (unsigned i = 0; i < 2 * BLOCK - 100; i++)
		assert_non_null(hold(h, 0));
	assert_int_equal(weir_pool_offline(pool, 0, NULL, &why), -ENOMEM);
	assert_int_equal(why.reason, WEIR_POOL_NO_ROOM);
	assert_int_equal(low_of(pool).free, 100);
	assert_int_equal(block_state(pool, 0), WEIR_BLOCK_ONLINE);
	holder_check(h);
	pool_end(pool);
}

/* An owner's error at each frame in turn ends it with that error; no frame is lost, no target leaks, one CANCEL. */
static void test_owner_fails_at_each_frame(void **state)
{
	static const int errors[] = {-EIO, -ENOMEM, -EPERM};
	struct weir_pool *pool = pool_make(2);
	struct holder *h = holder_make(pool);
	struct record r;

	(void)state;
	record_listen(&r, pool);
	for (unsigned i = 0; i < 12; i++)
		assert_non_null(hold(h, i % 3));
	for (unsigned nth = 1; nth <= 12; nth++) {
		const struct weir_zone_stats before = low_of(pool);
		struct weir_pool_why why;

		h->fail_at = nth;
		h->fail_with = errors[nth % 3];
		/* All are in one block before, and what has moved comes back. */
		for (uint32_t block = 0; block < 2 && h->fail_at; block++) {
			unsigned here = 0;

			for (unsigned i = 0; i < h->count; i++)
				here += h->held[i].pfn / BLOCK == block;
			if (here < nth)
				continue;
			memset(r.events, 0, sizeof(r.events));
			assert_int_equal(weir_pool_offline(pool, block, NULL, &why), h->fail_with);
			assert_int_equal(why.reason, h->fail_with == -ENOMEM ? WEIR_POOL_NO_ROOM
									     : WEIR_POOL_MIGRATE);
			assert_int_equal(why.pfn / BLOCK, block);
			assert_int_equal(r.events[WEIR_CANCEL_OFFLINE], 1);
			assert_int_equal(r.events[WEIR_OFFLINE], 0);
			assert_int_equal(block_state(pool, block), WEIR_BLOCK_ONLINE);
		}
		h->fail_at = 0;
		assert_int_equal(low_of(pool).allocated, before.allocated);
		assert_int_equal(low_of(pool).isolated, 0);
		holder_check(h);
		pool_check(pool);
		/* Together again. */
		offline_all(pool, h, nth % 2);
		assert_int_equal(weir_pool_online(pool, nth % 2, NULL), 0);
	}
	let_all_go(h);
	pool_end(pool);
}

static void free_under_migration(struct holder *h, weir_pfn_t from)
{
	for (unsigned i = 0; i < h->count; i++) {
		if (h->held[i].live && h->held[i].pfn == from && i % 2)
			let_go(h, &h->held[i]);
	}
}

/* The holder frees a frame just when it is asked to move it: it is gone, and so is the target. */
static void test_frame_is_freed_while_it_is_moved(void **state)
{
	struct weir_pool *pool = pool_make(2);
	struct holder *h = holder_make(pool);

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		assert_non_null(hold(h, i % 4));
	h->meanwhile = free_under_migration;
	offline_all(pool, h, h->held[0].pfn / BLOCK);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(h->held[i].live, i % 2 == 0);
	let_all_go(h);
	assert_int_equal(low_of(pool).allocated, 0);
	pool_end(pool);
}

/* --- progress --- */

struct progress {
	unsigned calls, stop_at;
	uint64_t last, total;
};

static int progress_note(void *data, uint64_t done, uint64_t total)
{
	struct progress *p = data;

	assert_true(done >= p->last && done <= total);
	p->last = done;
	p->total = total;
	return ++p->calls == p->stop_at;
}

/* Frames that are done never get fewer; who stops it gets -EINTR, and everything stays. */
static void test_progress_and_interruption(void **state)
{
	struct weir_pool *pool = pool_make(4);
	struct holder *h = holder_make(pool);

	(void)state;
	for (unsigned i = 0; i < 600; i++)
		assert_non_null(hold(h, 0));
	for (unsigned stop = 1; stop <= 4; stop++) {
		struct progress p = {.stop_at = stop};
		const struct weir_pool_evacuation how = {
			.size = sizeof(how), .progress = progress_note, .data = &p};
		struct weir_pool_why why;

		assert_int_equal(weir_pool_offline(pool, h->held[599].pfn / BLOCK, &how, &why),
				 -EINTR);
		assert_int_equal(why.reason, WEIR_POOL_INTERRUPTED);
		assert_int_equal(p.calls, stop);
		assert_int_equal(p.total, BLOCK);
		assert_int_equal(low_of(pool).isolated, 0);
		holder_check(h);
		pool_check(pool);
	}
	pool_end(pool);
}

/* Somebody wants a block while one is going: it gives up with -ENOMEM. */
static void want_a_block(struct holder *h, weir_pfn_t from)
{
	(void)from;
	assert_int_equal(weir_pool_grow(h->pool, WEIR_ZONE_LOW), -EAGAIN);
}

static void test_offline_gives_way_to_who_wants_a_block(void **state)
{
	struct weir_pool *pool = pool_make(2);
	struct holder *h = holder_make(pool);
	struct weir_pool_why why;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		assert_non_null(hold(h, 0));
	h->meanwhile = want_a_block;
	assert_int_equal(weir_pool_offline(pool, h->held[0].pfn / BLOCK, NULL, &why), -ENOMEM);
	assert_int_equal(h->asked, 1);
	h->meanwhile = NULL;
	offline_all(pool, h, h->held[9].pfn / BLOCK);
	pool_end(pool);
}

/* What the pool isolates to empty it is not for others to give back. */
static void undo_meanwhile(struct holder *h, weir_pfn_t from)
{
	const weir_pfn_t start = ALIGN_DOWN(from, WEIR_POOL_PAGEBLOCK);

	assert_int_equal(weir_pool_isolated(h->pool, from), 1);
	assert_int_equal(
		weir_pool_undo_isolate_range(h->pool, start, start + WEIR_POOL_PAGEBLOCK, -1),
		-EBUSY);
	assert_int_equal(weir_pool_isolate_range(h->pool, start, start + WEIR_POOL_PAGEBLOCK, NULL),
			 block_state(h->pool, from / BLOCK) == WEIR_BLOCK_ONLINE ? -EBUSY
										 : -EINVAL);
}

static void test_nobody_undoes_the_isolation_of_what_leaves(void **state)
{
	struct weir_pool *pool = pool_make(2);
	struct holder *h = holder_make(pool);
	weir_pfn_t at;

	(void)state;
	for (unsigned i = 0; i < 20; i++)
		assert_non_null(hold(h, 0));
	at = h->held[0].pfn;
	h->meanwhile = undo_meanwhile;
	assert_int_equal(weir_pool_alloc_range(pool, at, at + 1, 0, NULL, NULL), 0);
	assert_int_equal(h->asked, 1);
	assert_int_equal(weir_pool_free_range(pool, at, at + 1), 0);
	offline_all(pool, h, at / BLOCK);
	assert_true(h->asked >= 20);
	pool_end(pool);
}

/* --- ranges --- */

/* Any range can be had whole, whatever was there; its frames are single ones of their owner, and come back merged. */
static void test_alloc_range_takes_exactly_the_range(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned round = 0; round < 40; round++) {
		struct weir_pool *pool = pool_make(4);
		struct holder *h = holder_make(pool);
		weir_pfn_t start = BLOCK + random_below(&seed, 2 * BLOCK);
		weir_pfn_t end = start + 1 + random_below(&seed, BLOCK);
		struct weir_pool_why why;
		uint64_t held = 0;

		for (unsigned i = 0; i < 400; i++)
			(void)hold(h, random_below(&seed, 4));
		for (unsigned i = 0; i < h->count; i++) {
			if (random_chance(&seed, 2))
				let_go(h, &h->held[i]);
		}
		held = low_of(pool).allocated;
		assert_int_equal(weir_pool_alloc_range(pool, start, end, h->owner, NULL, &why), 0);
		assert_int_equal(low_of(pool).allocated, held + end - start);
		assert_int_equal(low_of(pool).isolated, 0);
		for (weir_pfn_t pfn = start; pfn < end; pfn++) {
			struct weir_frame_info info = info_of(pool, pfn);

			assert_int_equal(info.state, WEIR_FRAME_ALLOCATED);
			assert_int_equal(info.order, 0);
			assert_int_equal(info.owner, h->owner);
			assert_int_equal(info.movable, 0);
		}
		holder_check(h);
		pool_check(pool);
		/* It is unmovable now: again is no use. */
		assert_int_equal(weir_pool_alloc_range(pool, start, start + 1, 0, NULL, &why),
				 -EBUSY);
		assert_int_equal(why.pfn, start);
		assert_int_equal(weir_pool_pin(pool, end - 1), 0);
		assert_int_equal(weir_pool_free_range(pool, start, end), -EBUSY);
		assert_int_equal(weir_pool_unpin(pool, end - 1), 0);
		assert_int_equal(weir_pool_free_range(pool, start, end), 0);
		assert_int_equal(weir_pool_free_range(pool, start, end), -EINVAL);
		let_all_go(h);
		assert_int_equal(low_of(pool).free_runs[WEIR_POOL_ORDER_MAX], 8);
		pool_end(pool);
	}
}

static void test_alloc_range_that_cannot_be(void **state)
{
	struct weir_pool *pool = pool_make(2);
	struct holder *h = holder_make(pool);
	struct holding *it = hold(h, 0);
	struct weir_pool_why why;

	(void)state;
	assert_int_equal(weir_pool_alloc_range(pool, 5, 5, 0, NULL, &why), -EINVAL);
	assert_int_equal(weir_pool_alloc_range(pool, 5, 2 * BLOCK + 1, 0, NULL, &why), -EINVAL);
	assert_int_equal(weir_pool_alloc_range(pool, 5, 9, 200, NULL, &why), -EINVAL);
	assert_int_equal(why.reason, WEIR_POOL_BAD_RANGE);
	assert_int_equal(weir_pool_free_range(pool, 5, 4), -EINVAL);
	assert_int_equal(weir_pool_pin(pool, it->pfn), 0);
	assert_int_equal(weir_pool_alloc_range(pool, it->pfn, it->pfn + 9, 0, NULL, &why), -EBUSY);
	assert_int_equal(why.reason, WEIR_POOL_PINNED);
	/* Beside it, in the same pageblock, there is no hindrance. */
	assert_int_equal(weir_pool_alloc_range(pool, it->pfn + 1, it->pfn + 9, 0, NULL, &why), 0);
	assert_int_equal(weir_pool_free_range(pool, it->pfn + 1, it->pfn + 9), 0);
	assert_int_equal(low_of(pool).isolated, 0);
	pool_end(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_migration_preserves_contents_and_owner),
		cmocka_unit_test(test_pinned_frame_gives_ebusy_and_its_name),
		cmocka_unit_test(test_unmovable_frame_refuses),
		cmocka_unit_test(test_busy_holder_is_asked_again),
		cmocka_unit_test(test_no_room_elsewhere),
		cmocka_unit_test(test_owner_fails_at_each_frame),
		cmocka_unit_test(test_frame_is_freed_while_it_is_moved),
		cmocka_unit_test(test_progress_and_interruption),
		cmocka_unit_test(test_offline_gives_way_to_who_wants_a_block),
		cmocka_unit_test(test_nobody_undoes_the_isolation_of_what_leaves),
		cmocka_unit_test(test_alloc_range_takes_exactly_the_range),
		cmocka_unit_test(test_alloc_range_that_cannot_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
