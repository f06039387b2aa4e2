/* SPDX-License-Identifier: BSD-2-Clause */
/* region_advise: how much a fault brings, what leaves first, what comes before it is asked for; and that all of it stays
 * within the limit, and is only a hint. */
#include "world.h"

static struct world w;

enum { PAGES = 2048, CHUNK = 1 << CHUNK_SHIFT };
static const struct world_options wide = {.pages = {PAGES}, .streams = true};

static void advise(uint32_t page, uint32_t count, enum weir_region_advice advice)
{
	assert_int_equal(region_advise(&w.vm, w.only, page, count, advice), 0);
}

static void away(uint32_t first, uint32_t count, enum contents contents)
{
	w.streams = false;
	write_pages(&w, first, count, contents);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	w.streams = true;
}

/* Pages that one touch brings. */
static uint64_t brought(uint32_t page, bool write)
{
	const uint64_t before = resident(&w);

	(void)touch(&w, page, write);
	read_page(&w, page);
	return resident(&w) - before;
}

static uint32_t resident_in(uint32_t first, uint32_t count)
{
	uint32_t n = 0;

	for (uint32_t page = first; page < first + count; page++)
		n += word_resident(word_of(&w, page));
	return n;
}

static void turns_until_loaded(void)
{
	for (unsigned i = 0; i < 200 && load_relaxed(&w.vm.wanted.count); i++)
		background_turns(&w, 1);
	assert_int_equal(load_relaxed(&w.vm.wanted.count), 0);
}

/* --- how much a fault brings --- */

static void test_sequential_brings_twice_as_many_at_once(void **state)
{
	(void)state;
	world_open(&w, &wide);
	away(0, 256, TEXT);
	advise(0, PAGES, WEIR_ADVICE_SEQUENTIAL);
	for (uint32_t page = 0; page < 256; page++)
		assert_int_equal(brought(page, false), page % 32 ? 0 : 32);
	/* First touches as well. */
	assert_int_equal(brought(1024, true), 32);
	world_check(&w);
	world_close(&w);
}

static void test_sequential_from_the_file(void **state)
{
	(void)state;
	world_open(&w, &wide);
	away(0, 256, NOISE);
	assert_int_equal(write_all(&w), 256);
	advise(0, PAGES, WEIR_ADVICE_SEQUENTIAL);
	assert_int_equal(brought(0, false), RUN_MAX);
	world_close(&w);
}

static void test_random_brings_one(void **state)
{
	(void)state;
	world_open(&w, &wide);
	away(0, 300, NOISE);
	assert_int_equal(write_all(&w), 300);
	away(600, 300, TEXT);
	advise(0, PAGES, WEIR_ADVICE_RANDOM);
	for (uint32_t page = 0; page < 300; page++) {
		assert_int_equal(brought(page, false), 1);
		assert_int_equal(brought(600 + page, false), 1);
		assert_int_equal(brought(1200 + page, true), 1);
	}
	/* Writes to clean pages: one becomes writable, and the next ones do not. */
	for (uint32_t page = 600; page < 700; page++) {
		assert_int_equal(touch(&w, page, true), 1);
		assert_int_equal(word_state(word_of(&w, page + 1)), PAGE_CLEAN);
	}
	/* And back. */
	advise(0, PAGES, WEIR_ADVICE_NORMAL);
	assert_int_equal(brought(1600, true), 1);
	assert_int_equal(brought(1601, true), 2);
	world_close(&w);
}

static void test_a_cluster_comes_with_a_lone_fault(void **state)
{
	const struct region_options clustered = {.cluster = 4};

	(void)state;
	world_open(&w, &wide);
	/* The same pages, in a region that was made so. */
	w.only->cluster = clustered.cluster;
	away(0, 400, TEXT);
	assert_int_equal(brought(100, false), 4);
	assert_int_equal(brought(300, false), 4);
	/* A reader that goes on is one. */
	assert_int_equal(brought(104, false), 2);
	/* What was never moved out comes page by page. */
	assert_int_equal(brought(1000, true), 1);
	advise(0, PAGES, WEIR_ADVICE_RANDOM);
	assert_int_equal(brought(200, false), 1);
	world_close(&w);
}

/* For 2 MiB at a time, of which the last word counts. */
static void test_pieces_of_chunks(void **state)
{
	(void)state;
	world_open(&w, &wide);
	advise(CHUNK - 1, 2, WEIR_ADVICE_RANDOM);
	advise(2 * CHUNK, CHUNK, WEIR_ADVICE_SEQUENTIAL);
	assert_int_equal(region_access(w.only, 0), WEIR_ADVICE_RANDOM);
	assert_int_equal(region_access(w.only, 2 * CHUNK - 1), WEIR_ADVICE_RANDOM);
	assert_int_equal(region_access(w.only, 2 * CHUNK), WEIR_ADVICE_SEQUENTIAL);
	assert_int_equal(region_access(w.only, 3 * CHUNK), WEIR_ADVICE_NORMAL);
	advise(0, 1, WEIR_ADVICE_NORMAL);
	assert_int_equal(region_access(w.only, CHUNK - 1), WEIR_ADVICE_NORMAL);
	advise(0, 0, WEIR_ADVICE_SEQUENTIAL);
	assert_int_equal(region_access(w.only, 0), WEIR_ADVICE_NORMAL);
	assert_int_equal(region_advise(&w.vm, w.only, 0, 1, (enum weir_region_advice)17), -EINVAL);
	world_close(&w);
}

static void test_a_region_that_begins_so(void **state)
{
	const struct region_options random = {.access = WEIR_ADVICE_RANDOM, .cluster = 9};
	struct region *region;

	(void)state;
	world_open(&w, &wide);
	assert_int_equal(region_create(&w.vm, w.container, NULL, MIB(8), &random, &region), 0);
	for (uint32_t page = 0; page < 2048; page += 100)
		assert_int_equal(region_access(region, page), WEIR_ADVICE_RANDOM);
	assert_int_equal(region->cluster, 9);
	region_hide(&w.vm, region);
	region_destroy(&w.vm, region);
	world_close(&w);
}

/* --- what leaves first --- */

static const struct world_options plain = {.pages = {PAGES}};
static const struct world_options pressed = {.max = 512, .pages = {PAGES}};

/* Cold pages go before any other, though they have credit and others have none. */
static void test_cold_pages_leave_first(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 400, TEXT);
	for (uint32_t page = 100; page < 200; page++)
		or_relaxed(&w.only->word[page], (uint64_t)CREDIT_MAX << CREDIT_SHIFT);
	advise(100, 100, WEIR_ADVICE_COLD);
	/* It costs nothing by itself. */
	assert_int_equal(resident(&w), 400);
	evict(&w, 100);
	assert_int_equal(resident_in(100, 100), 0);
	/* And then the clock goes on. */
	evict(&w, 256);
	for (uint32_t page = 0; page < 400; page++)
		read_page(&w, page);
	world_close(&w);
}

/* More than a job takes: the rest stays first in line. Pinned pages stay. */
static void test_cold_pages_of_several_jobs(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 1500, TEXT);
	assert_int_equal(page_pin(&w.vm, w.only, 1000, false), 0);
	advise(700, 600, WEIR_ADVICE_COLD);
	evict(&w, 256);
	evict(&w, 256);
	evict(&w, 600 - 512 - 1);
	assert_int_equal(resident_in(700, 600), 1);
	assert_int_equal(resident(&w), 901);
	assert_int_equal(load_relaxed(&w.vm.cold.count), 0);
	page_unpin(&w.vm, w.only, 1000);
	world_close(&w);
}

/* A job of another container leaves them, and finds its own. */
static void test_cold_pages_of_others_stay(void **state)
{
	struct weir_container *tenant;
	struct advised piece;

	(void)state;
	world_open(&w, &wide);
	assert_int_equal(weir_container_create(w.container, "t", &tenant), 0);
	write_pages(&w, 0, 10, TEXT);
	advise(0, 10, WEIR_ADVICE_COLD);
	assert_false(advised_cut(&w.vm, &w.vm.cold, tenant, 5, &piece));
	assert_true(advised_cut(&w.vm, &w.vm.cold, w.container, 5, &piece));
	assert_true(piece.region == w.only && piece.first == 0 && piece.end == 5);
	assert_true(advised_cut(&w.vm, &w.vm.cold, NULL, 50, &piece));
	assert_true(piece.first == 5 && piece.end == 10);
	assert_false(advised_cut(&w.vm, &w.vm.cold, NULL, 1, &piece));
	assert_int_equal(weir_container_delete(tenant), 0);
	world_close(&w);
}

/* Ranges that touch are one; of more than 64 the oldest is forgotten; a region takes its own with it. */
static void test_the_list_of_ranges(void **state)
{
	struct region *region;
	struct advised piece;

	(void)state;
	world_open(&w, &wide);
	assert_int_equal(region_create(&w.vm, w.container, NULL, MIB(1), NULL, &region), 0);
	advise(10, 10, WEIR_ADVICE_COLD);
	advise(30, 10, WEIR_ADVICE_COLD);
	assert_int_equal(region_advise(&w.vm, region, 20, 10, WEIR_ADVICE_COLD), 0);
	assert_int_equal(load_relaxed(&w.vm.cold.count), 3);
	advise(15, 15, WEIR_ADVICE_COLD);
	assert_int_equal(load_relaxed(&w.vm.cold.count), 2);
	region_hide(&w.vm, region);
	assert_int_equal(load_relaxed(&w.vm.cold.count), 1);
	assert_int_equal(region_advise(&w.vm, region, 0, 10, WEIR_ADVICE_COLD), 0);
	assert_int_equal(load_relaxed(&w.vm.cold.count), 1);
	region_destroy(&w.vm, region);
	assert_true(advised_cut(&w.vm, &w.vm.cold, NULL, 1000, &piece));
	assert_true(piece.first == 10 && piece.end == 40);
	for (uint32_t i = 0; i < ADVISED_MAX + 6; i++)
		advise(20 * i, 10, WEIR_ADVICE_COLD);
	assert_int_equal(load_relaxed(&w.vm.cold.count), ADVISED_MAX);
	assert_true(advised_cut(&w.vm, &w.vm.cold, NULL, 1000, &piece));
	assert_int_equal(piece.first, 20 * 6);
	world_close(&w);
}

/* A reader of much more than fits the limit, beside pages that nobody has touched for as long: are these still here at the
 * end? */
static uint32_t left_beside_a_reader(enum weir_region_advice how)
{
	enum { KEPT = 128 };
	uint32_t left;

	world_open(&w, &pressed);
	write_pages(&w, CHUNK, PAGES - CHUNK, FILLED);
	write_pages(&w, 0, KEPT, FILLED);
	w.streams = true;
	advise(CHUNK, PAGES - CHUNK, how);
	for (uint32_t page = CHUNK; page < PAGES; page++) {
		(void)touch(&w, page, false);
		reclaim_after_fault(&w.reclaim, w.pager);
		background_turns(&w, 1);
		read_page(&w, page);
	}
	world_check(&w);
	left = resident_in(0, KEPT);
	world_close(&w);
	return left;
}

static void test_drop_behind(void **state)
{
	uint32_t sequential, normal;

	(void)state;
	sequential = left_beside_a_reader(WEIR_ADVICE_SEQUENTIAL);
	normal = left_beside_a_reader(WEIR_ADVICE_NORMAL);
	assert_true(normal < 32);
	assert_true(sequential > 96);
}

/* --- what comes before it is asked for --- */

static void test_willneed_loads_in_the_background(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(0, 300, TEXT);
	away(400, 100, NOISE);
	assert_true(write_all(&w) > 0);
	w.streams = false;
	write_pages(&w, 1000, 2, TEXT);
	advise(0, PAGES, WEIR_ADVICE_WILLNEED);
	/* At once nothing has happened. */
	assert_int_equal(resident(&w), 2);
	turns_until_loaded();
	assert_int_equal(resident(&w), 402);
	/* What was never there is not now. */
	assert_int_equal(load_relaxed(&w.vm.count.first), 402);
	assert_int_equal(word_of(&w, 350), 0);
	w.faults = 0;
	for (uint32_t page = 0; page < PAGES; page++) {
		if (word_of(&w, page))
			read_page(&w, page);
	}
	assert_int_equal(w.faults, 0);
	/* No fault was counted for it. */
	assert_int_equal(load_relaxed(&w.vm.count.compressed) + load_relaxed(&w.vm.count.stored),
			 0);
	world_close(&w);
}

/* Half of the limit at the most, and what is resident makes room as for faults. */
static void test_willneed_is_bounded_by_the_limit(void **state)
{
	const uint64_t limit = (uint64_t)pressed.max << PAGE_SHIFT;

	(void)state;
	world_open(&w, &pressed);
	write_pages(&w, 0, PAGES, FILLED);
	advise(0, PAGES, WEIR_ADVICE_WILLNEED);
	turns_until_loaded();
	assert_true(container_charged(w.container) <= limit + w.packets);
	assert_true(resident_in(0, 256) > 200);
	assert_int_equal(load_relaxed(&w.container->count[COUNT_OVER_MAX]), 0);
	world_check(&w);
	world_close(&w);
}

/* With no room, and none to be made, it gives up. */
static void test_willneed_without_room(void **state)
{
	uint64_t rest;

	(void)state;
	world_open(&w, &pressed);
	write_pages(&w, 0, 100, TEXT);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	/* Of a kind that reclaim finds nothing of. */
	rest = load_relaxed(&w.container->max) - container_charged(w.container);
	container_force(w.container, CHARGE_FILE, rest);
	advise(0, 100, WEIR_ADVICE_WILLNEED);
	turns_until_loaded();
	assert_int_equal(resident(&w), 0);
	container_uncharge(w.container, CHARGE_FILE, rest);
	world_close(&w);
}

/* A copy that cannot be read stays where it is: a hint condemns no page. */
static void test_willneed_of_a_lost_page(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(0, 40, TEXT);
	compressed_object(&w.memory, word_location(word_of(&w, 7)))->packed[0] ^= 1;
	w.lost[0][7] = true;
	advise(0, 40, WEIR_ADVICE_WILLNEED);
	turns_until_loaded();
	assert_int_equal(word_state(word_of(&w, 7)), PAGE_ABSENT);
	assert_int_equal(load_relaxed(&w.vm.count.poisoned), 0);
	assert_int_equal(resident_in(0, 40), 39);
	world_close(&w);
}

/* The system refuses a page, or has no window: it is not loaded, and not lost. */
static void test_willneed_with_failing_calls(void **state)
{
	(void)state;
	world_open(&w, &wide);
	away(0, 200, TEXT);
	for (unsigned nth = 1; nth < 12; nth += 2) {
		advise(0, 200, WEIR_ADVICE_WILLNEED);
		fake_fail(FAKE_COPY, nth, 0, -ENOMEM);
		turns_until_loaded();
		(void)fake_calm();
		world_check(&w);
		while (resident(&w))
			assert_true(evict_all(&w) > 0);
	}
	for (uint32_t page = 0; page < 200; page++)
		read_page(&w, page);
	world_close(&w);
}

/* --- --- */

static void test_dontneed_is_discard(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 20, TEXT);
	advise(5, 10, WEIR_ADVICE_DONTNEED);
	memset(content_of(&w, 0, 5), 0, (size_t)10 << PAGE_SHIFT);
	assert_int_equal(resident(&w), 10);
	for (uint32_t page = 0; page < 20; page++)
		read_page(&w, page);
	assert_int_equal(page_pin(&w.vm, w.only, 3, false), 0);
	assert_int_equal(region_advise(&w.vm, w.only, 0, 20, WEIR_ADVICE_DONTNEED), -EBUSY);
	page_unpin(&w.vm, w.only, 3);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sequential_brings_twice_as_many_at_once),
		cmocka_unit_test(test_sequential_from_the_file),
		cmocka_unit_test(test_random_brings_one),
		cmocka_unit_test(test_a_cluster_comes_with_a_lone_fault),
		cmocka_unit_test(test_pieces_of_chunks),
		cmocka_unit_test(test_a_region_that_begins_so),
		cmocka_unit_test(test_cold_pages_leave_first),
		cmocka_unit_test(test_cold_pages_of_several_jobs),
		cmocka_unit_test(test_cold_pages_of_others_stay),
		cmocka_unit_test(test_the_list_of_ranges),
		cmocka_unit_test(test_drop_behind),
		cmocka_unit_test(test_willneed_loads_in_the_background),
		cmocka_unit_test(test_willneed_is_bounded_by_the_limit),
		cmocka_unit_test(test_willneed_without_room),
		cmocka_unit_test(test_willneed_of_a_lost_page),
		cmocka_unit_test(test_willneed_with_failing_calls),
		cmocka_unit_test(test_dontneed_is_discard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
