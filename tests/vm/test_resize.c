/* SPDX-License-Identifier: BSD-2-Clause */
/* Regions that grow and shrink in place: what goes is free at once, whatever it was; what stays is untouched; what comes is
 * new. */
#include "one_world.h"

enum { PAGES = 1400, CHUNK = 1 << CHUNK_SHIFT };
static const struct world_options plain = {.pages = {PAGES, 40}, .check_each = true};

static uint32_t pages_now(void)
{
	return load_relaxed(&w.only->pages);
}

/* As the public function does, which waits in between. */
static int shrink(uint32_t pages)
{
	const uint32_t old = pages_now();
	int err;

	store_relaxed(&w.only->pages, pages);
	reclaim_quiesce(&w.reclaim);
	err = region_cut_off(&w.vm, w.pager, w.only, old);
	if (err) {
		store_relaxed(&w.only->pages, old);
	} else {
		memset(content_of(&w, 0, pages), 0, (size_t)(old - pages) << PAGE_SHIFT);
		memset(&w.lost[0][pages], 0, old - pages);
	}
	world_check(&w);
	return err;
}

static int grow(uint32_t pages)
{
	int err = region_grow(w.only, pages);

	world_check(&w);
	return err;
}

static void assert_gone(uint32_t first, uint32_t end)
{
	for (uint32_t page = first; page < end; page++) {
		assert_true(word_of(&w, page) == 0);
		assert_false(fake_present(at(&w, page)));
		assert_int_equal(fake_touch(at(&w, page), false), TOUCH_HIDDEN);
	}
}

static uint32_t populated(void)
{
	uint32_t sum = 0;

	for (uint32_t c = 0; c <= PAGES >> CHUNK_SHIFT; c++)
		sum += load_relaxed(&w.only->populated[c]);
	return sum;
}

/* Of every kind of page there is some in what stays and in what goes. */
static void fill(void)
{
	w.check_each = false;
	write_pages(&w, 0, 1200, NOISE);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	assert_true(write_all(&w) > 0);
	for (uint32_t page = 0; page < 1200; page += 3)
		write_pages(&w, page, 1, page % 2 ? TEXT : FILLED);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	for (uint32_t page = 0; page < 1200; page += 5)
		read_page(&w, page);
	for (uint32_t page = 0; page < 1200; page += 7)
		world_poke(&w, 0, page, 1, page);
	w.check_each = true;
	world_check(&w);
}

/* To sizes inside a chunk, at its border, and down to one page. */
static void test_shrinks_and_grows(void **state)
{
	static const uint32_t sizes[] = {1300, 1100, CHUNK * 2, CHUNK + 1, 100, 1};

	(void)state;
	world_open(&w, &plain);
	fill();
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(shrink(sizes[i]), 0);
		assert_gone(sizes[i], PAGES);
		assert_int_equal(populated(), MIN(sizes[i], 1200u));
		assert_true(load_relaxed(&w.only->top) <= sizes[i]);
	}
	w.check_each = false;
	read_all(1);
	/* What comes back is new, and a page like any other. */
	for (unsigned i = ARRAY_SIZE(sizes); i-- > 0;) {
		assert_int_equal(grow(sizes[i]), 0);
		read_all(sizes[i]);
	}
	assert_int_equal(grow(PAGES), 0);
	write_pages(&w, 0, PAGES, TEXT);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	read_all(PAGES);
	world_close(&w);
}

static void test_sizes_that_are_refused(void **state)
{
	struct region *region;
	char *memory;

	(void)state;
	world_open(&w, &plain);
	assert_int_equal(grow(PAGES + 1), -ENOMEM);
	assert_int_equal(grow(PAGES - 1), -EINVAL);
	assert_int_equal(grow(PAGES), 0);
	memory = mem_region_map(MIB(2), MIB(2));
	assert_non_null(memory);
	assert_int_equal(region_create(&w.vm, w.container, memory, MIB(2), NULL, &region), 0);
	assert_int_equal(region_grow(region, 600), -EINVAL);
	region_hide(&w.vm, region);
	region_destroy(&w.vm, region);
	mem_release(memory, MIB(2));
	world_close(&w);
}

/* Room that was asked for: addresses and tables, and no page more. */
static void test_room_to_grow(void **state)
{
	const struct region_options roomy = {.max_bytes = MIB(64)};
	struct region *region;

	(void)state;
	world_open(&w, &plain);
	assert_int_equal(region_create(&w.vm, w.container, NULL, MIB(1), &roomy, &region), 0);
	assert_int_equal(load_relaxed(&region->pages), 256);
	assert_int_equal(region->room, 16384);
	assert_ptr_equal(vm_find(&w.vm, (uintptr_t)region->base + MIB(64) - 1), region);
	assert_int_equal(region_grow(region, 16385), -ENOMEM);
	assert_int_equal(region_grow(region, 16384), 0);
	assert_int_equal(load_relaxed(&region->pages), 16384);
	/* Tables that nobody has touched cost no memory. */
	assert_int_equal(region_overhead(region), PAGE_SIZE);
	region_hide(&w.vm, region);
	region_destroy(&w.vm, region);
	world_close(&w);
}

/* --- what stands in the way --- */

static void test_pinned_pages_keep_their_region(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 30, TEXT);
	assert_int_equal(page_pin(&w.vm, w.only, 25, false), 0);
	assert_int_equal(shrink(20), -EBUSY);
	assert_int_equal(pages_now(), PAGES);
	read_all(30);
	assert_int_equal(shrink(26), 0);
	page_unpin(&w.vm, w.only, 25);
	assert_int_equal(shrink(20), 0);
	world_close(&w);
}

/* mlock of what goes is taken back. */
static void test_locked_pages_go(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 30, TEXT);
	fake_lock(at(&w, 22), true);
	assert_int_equal(shrink(20), 0);
	assert_gone(20, PAGES);
	world_close(&w);
}

/* The system has too many mappings: the region has its size and what was said of it; nothing is charged for what has gone. */
static void test_calls_that_fail(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 30, TEXT);
	fake_fail(FAKE_HIDE, 1, 0, -ENOMEM);
	assert_int_equal(shrink(20), -ENOMEM);
	memset(content_of(&w, 0, 20), 0, (size_t)10 << PAGE_SHIFT);
	assert_int_equal(pages_now(), PAGES);
	read_all(30);
	assert_int_equal(shrink(20), 0);
	fake_fail(FAKE_COMMIT, 1, 0, -ENOMEM);
	assert_int_equal(grow(40), -ENOMEM);
	assert_int_equal(pages_now(), 20);
	assert_gone(20, 40);
	assert_int_equal(grow(40), 0);
	read_all(40);
	world_close(&w);
}

/* --- beside other work --- */

/* A fault that was under way when its page went: nothing is loaded nor charged, and the thread is woken, to find out. */
static void test_a_fault_on_a_page_that_goes(void **state)
{
	(void)state;
	world_open(&w, &plain);
	assert_int_equal(fake_touch(at(&w, 700), true), TOUCH_MISSING);
	store_relaxed(&w.only->pages, 600);
	assert_int_equal(world_fault(&w, 700, ACCESS_WRITE), PAGEIN_GONE);
	assert_false(fake_waiting(at(&w, 700)));
	assert_int_equal(resident(&w), 0);
	assert_int_equal(region_cut_off(&w.vm, w.pager, w.only, PAGES), 0);
	assert_int_equal(fake_touch(at(&w, 700), true), TOUCH_HIDDEN);
	/* Neither do readers in a row go beyond the end. */
	w.streams = true;
	for (uint32_t page = 500; page < 600; page++)
		(void)touch(&w, page, false);
	assert_true(word_of(&w, 600) == 0);
	world_close(&w);
}

/* Threads that wait for pages that go are woken, all of them. */
static void test_waiters_are_woken(void **state)
{
	(void)state;
	world_open(&w, &plain);
	for (uint32_t page = 600; page < 640; page++)
		fake_wait(at(&w, page));
	assert_int_equal(shrink(600), 0);
	for (uint32_t page = 600; page < 640; page++)
		assert_false(fake_waiting(at(&w, page)));
	world_close(&w);
}

/* A job has chosen pages that go. */
static void test_pages_of_an_open_job(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 300, TEXT);
	assert_true(job_fill(&w.reclaim, w.container));
	assert_int_equal(word_state(word_of(&w, 200)), PAGE_CLEANING);
	store_relaxed(&w.only->pages, 100);
	assert_int_equal(region_cut_off(&w.vm, w.pager, w.only, PAGES), 0);
	memset(content_of(&w, 0, 100), 0, (size_t)200 << PAGE_SHIFT);
	reclaim_quiesce(&w.reclaim);
	world_check(&w);
	assert_gone(100, 300);
	read_all(100);
	world_close(&w);
}

/* Ranges that were advised reach beyond what is left. */
static void test_advised_ranges_beyond_the_end(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 300, TEXT);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	for (uint32_t page = 0; page < 300; page += 2)
		read_page(&w, page);
	assert_int_equal(region_advise(&w.vm, w.only, 0, PAGES, WEIR_ADVICE_WILLNEED), 0);
	assert_int_equal(region_advise(&w.vm, w.only, 50, 250, WEIR_ADVICE_COLD), 0);
	assert_int_equal(shrink(100), 0);
	for (unsigned i = 0; i < 100 && load_relaxed(&w.vm.wanted.count); i++)
		background_turns(&w, 1);
	assert_int_equal(resident(&w), 100);
	evict(&w, 50);
	evict(&w, 50);
	read_all(100);
	world_close(&w);
}

/* --- at random --- */

static void test_random_sizes(void **state)
{
	static _Alignas(4096) char page[4096];
	uint64_t rng = 20261129;
	unsigned grown = 0, shrunk = 0;

	(void)state;
	world_open(&w, &(struct world_options){.max = 256, .pages = {PAGES}});
	for (unsigned step = 0; step < 20000; step++) {
		const uint32_t now = pages_now(), one = (uint32_t)(random_next(&rng) % now);
		const uint32_t other = 1 + (uint32_t)(random_next(&rng) % PAGES);

		switch (random_next(&rng) % 64) {
		case 0:
			if (other >= now)
				assert_int_equal(grow(other), 0);
			else
				assert_int_equal(shrink(other), 0);
			*(other >= now ? &grown : &shrunk) += 1;
			break;
		case 1:
			assert_int_equal(region_advise(&w.vm, w.only, one, now - one,
						       random_next(&rng) % 2 ? WEIR_ADVICE_WILLNEED
									     : WEIR_ADVICE_COLD),
					 0);
			break;
		case 2:
			assert_int_equal(world_discard(&w, 0, one, MIN(now - one, 30u), true), 0);
			break;
		case 3:
			background_turns(&w, 1);
			break;
		default:
			fill_as(page, (enum contents)(random_next(&rng) % 4), step);
			if (random_next(&rng) % 2)
				world_write(&w, 0, one, page);
			else
				read_page(&w, one);
			reclaim_after_fault(&w.reclaim, w.pager);
		}
		if (step % 500 == 0) {
			reclaim_quiesce(&w.reclaim);
			world_check(&w);
		}
	}
	assert_true(grown > 50 && shrunk > 50 && load_relaxed(&w.vm.count.moved_out) > 1000);
	reclaim_quiesce(&w.reclaim);
	read_all(pages_now());
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shrinks_and_grows),
		cmocka_unit_test(test_sizes_that_are_refused),
		cmocka_unit_test(test_room_to_grow),
		cmocka_unit_test(test_pinned_pages_keep_their_region),
		cmocka_unit_test(test_locked_pages_go),
		cmocka_unit_test(test_calls_that_fail),
		cmocka_unit_test(test_a_fault_on_a_page_that_goes),
		cmocka_unit_test(test_waiters_are_woken),
		cmocka_unit_test(test_pages_of_an_open_job),
		cmocka_unit_test(test_advised_ranges_beyond_the_end),
		cmocka_unit_test(test_random_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
