/* SPDX-License-Identifier: BSD-2-Clause */
/* Writeback: which compressed pages go to the file, how, and that they come back. */
#include "writeback.h"

#include "store/filestore.h"

/* --- what goes, and comes back --- */

static void test_pages_go_to_the_file_and_come_back(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(0, 100);
	assert_int_equal(write_all(&w), 100);
	assert_int_equal(written(), 100);
	assert_int_equal(compressed(&w), 0);
	assert_int_equal(load_relaxed(&w.memory.objects), 0);
	assert_int_equal(load_relaxed(&w.store.bytes), 100 * 9 * UNIT);
	for (uint32_t page = 0; page < 100; page++) {
		assert_int_equal(state_of(page), PAGE_ABSENT);
		assert_int_equal(kind_of(page), COPY_FILE);
	}
	read_all(100);
	world_close(&w);
}

/* Who is asked for more than is resident gives compressed pages, too, below their share; the oldest first, and no more than that. */
static void test_what_is_asked_for_goes_to_the_file(void **state)
{
	uint64_t held, given;

	(void)state;
	world_open(&w, &plain);
	away(0, 600);
	write_pages(&w, 600, 20, NOISE);
	held = container_held(w.container);
	given = reclaim_give(&w.reclaim, w.container, held / 2);
	assert_true(given >= held / 2);
	assert_int_equal(resident(&w), 0);
	assert_in_range(written(), 250, 320 + STORE_BATCH);
	given = reclaim_give(&w.reclaim, w.container, UINT64_MAX);
	assert_true(given > 0);
	assert_int_equal(compressed(&w), 0);
	assert_int_equal(written(), 620);
	/* Nothing is left to give. */
	assert_int_equal(reclaim_give(&w.reclaim, w.container, PAGE_SIZE), 0);
	read_all(620);
	world_close(&w);
}

/* A file whose block is a page. */
static void test_units_of_a_page(void **state)
{
	(void)state;
	world_open(&w, &plain);
	fake_file_unit(4096);
	away(0, 20);
	write_pages(&w, 20, 20, HALF_NOISE);
	evict_all(&w);
	assert_int_equal(write_all(&w), 40);
	/* Two units for a page that did not compress, one for the others. */
	assert_int_equal(load_relaxed(&w.store.bytes), 20 * 2 * 4096 + 20 * 4096);
	read_all(40);
	world_close(&w);
}

/* 64 objects are one write, and lie one behind the other. */
static void test_a_batch_is_one_write(void **state)
{
	uint32_t at = 0;

	(void)state;
	world_open(&w, &plain);
	away(0, 150);
	open_file();
	over_share();
	assert_int_equal(write_once(), STORE_BATCH);
	assert_int_equal(fake_count(FAKE_FILE_WRITE), 1);
	assert_int_equal(fake_units(FAKE_FILE_WRITE), STORE_BATCH * 9 * UNIT);
	for (uint32_t page = 0; page < 150; page++) {
		if (kind_of(page) != COPY_FILE)
			continue;
		assert_int_equal(word_location(word_of(&w, page)) >> FILE_UNITS_SHIFT, at);
		at += 9;
	}
	assert_int_equal(at, STORE_BATCH * 9);
	assert_int_equal(write_once(), STORE_BATCH);
	assert_int_equal(write_once(), 150 - 2 * STORE_BATCH);
	assert_int_equal(fake_count(FAKE_FILE_WRITE), 3);
	assert_int_equal(write_once(), 0);
	assert_int_equal(fake_count(FAKE_FILE_WRITE), 3);
	read_all(150);
	world_close(&w);
}

/* Pages of one word and copies of resident pages are not for the file, nor is anything else that is resident. */
static void test_what_is_not_written(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 20, TEXT);
	write_pages(&w, 20, 10, FILLED);
	evict_all(&w);
	write_pages(&w, 30, 10, TEXT);
	for (uint32_t page = 0; page < 20; page++)
		read_page(&w, page);
	open_file();
	over_share();
	assert_int_equal(write_once(), 0);
	assert_int_equal(fake_count(FAKE_FILE_WRITE), 0);
	for (uint32_t page = 0; page < 20; page++)
		assert_int_equal(state_of(page), PAGE_CLEAN);
	world_close(&w);
}

/* Those that are longest away go first; younger ones only while the share is exceeded and there are few old ones. */
static void test_the_oldest_go_first(void **state)
{
	const uint64_t half_a_limit = 16384 / 2;

	(void)state;
	world_open(&w, &plain);
	away(500, 40);
	add_relaxed(&tenant_of(w.container)->evictions, half_a_limit + 64);
	away(0, 200);
	open_file();
	over_share();
	assert_int_equal(write_once(), 40);
	for (uint32_t page = 0; page < 540; page++) {
		if (page < 200 || page >= 500)
			assert_int_equal(kind_of(page), page < 200 ? COPY_MEMORY : COPY_FILE);
	}
	/* No old ones are left. */
	assert_int_equal(write_once(), STORE_BATCH);
	world_close(&w);
}

/* The age from which pages go follows what is there: pages leave one after the other, a quarter of them fits, and what is
 * in memory is what left last, but for some near the border. */
static void test_the_age_of_what_is_written_follows(void **state)
{
	enum { STEP = 7 }; /* no neighbours in time are neighbours in the region */
	const uint32_t end = 4 * PAGES;

	(void)state;
	world_open(&w, &(struct world_options){.pages = {PAGES}});
	open_file();
	store_relaxed(&w.vm.memory_share, PAGES / 4 * (PAGE_SIZE + 64ull));
	for (uint32_t i = 0; i < end; i++) {
		away(i * STEP % PAGES, 1);
		world_pass(&w, i % 32 == 0);
		while (compressed(&w) > load_relaxed(&w.vm.memory_share))
			assert_true(writeback_once(&w.reclaim) > 0);
	}
	for (uint32_t ago = 1; ago <= PAGES; ago++) {
		uint32_t page = (end - ago) * STEP % PAGES;

		if (ago <= PAGES / 8)
			assert_int_equal(kind_of(page), COPY_MEMORY);
		else if (ago > PAGES / 2)
			assert_int_equal(kind_of(page), COPY_FILE);
	}
	world_close(&w);
}

static void test_nothing_young_is_written_below_the_share(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(0, 20);
	open_file();
	assert_int_equal(write_once(), 0);
	world_close(&w);
}

/* The background thread writes when the share is exceeded, and only then. */
static void test_background_writes_above_the_share(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(0, 200);
	background_turns(&w, 3);
	assert_int_equal(written(), 0);
	store_relaxed(&w.vm.memory_share, compressed(&w) / 2);
	background_turns(&w, 10);
	world_check(&w);
	assert_true(compressed(&w) <= load_relaxed(&w.vm.memory_share));
	assert_in_range(written(), 100, 200 - 1);
	read_all(200);
	world_close(&w);
}

/* Discarding and writing free slots, and a file that is less than half full is filled up before it grows. */
static void test_slots_of_the_file_are_used_again(void **state)
{
	size_t before, after;

	(void)state;
	world_open(&w, &plain);
	away(0, 512);
	assert_int_equal(write_all(&w), 512);
	fake_file(&before);
	assert_int_equal(world_discard(&w, 0, 0, 320, true), 0);
	assert_int_equal(load_relaxed(&w.store.bytes), 192 * 9 * UNIT);
	away(600, STORE_BATCH);
	assert_int_equal(write_all(&w), STORE_BATCH);
	fake_file(&after);
	assert_int_equal(after, before);
	for (uint32_t page = 0; page < 600 + STORE_BATCH; page++)
		read_page(&w, page);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_go_to_the_file_and_come_back),
		cmocka_unit_test(test_units_of_a_page),
		cmocka_unit_test(test_what_is_asked_for_goes_to_the_file),
		cmocka_unit_test(test_a_batch_is_one_write),
		cmocka_unit_test(test_what_is_not_written),
		cmocka_unit_test(test_the_oldest_go_first),
		cmocka_unit_test(test_the_age_of_what_is_written_follows),
		cmocka_unit_test(test_nothing_young_is_written_below_the_share),
		cmocka_unit_test(test_background_writes_above_the_share),
		cmocka_unit_test(test_slots_of_the_file_are_used_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
