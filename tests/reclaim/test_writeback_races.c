/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writeback: no busy bit is held while the file is written. What threads do to a page meanwhile is done here between the copy
 * into the batch and the write.
 */
#include "writeback.h"

/* --- between the copy and the write --- */

static bool met;

/* Does to page 1 of a batch of 0 to 3 what a thread may do, and writes the batch. */
static void write_while(void (*fn)(void *data))
{
	world_open(&w, &plain);
	away(0, 4);
	open_file();
	over_share();
	w.check_each = false;
	met = false;
	fake_meanwhile(FAKE_FILE_WRITE, fn, NULL);
	assert_int_equal(writeback_once(&w.reclaim), 4);
	assert_true(met);
	w.check_each = true;
	world_check(&w);
}

/* The other three are in the file, and the slot of page 1 was given back; all is read as it was left. */
static void only_three_were_written(void)
{
	assert_int_equal(written(), 3);
	assert_int_equal(load_relaxed(&w.store.bytes), 3 * 9 * UNIT);
	for (uint32_t page = 0; page < 4; page++)
		assert_true((kind_of(page) == COPY_FILE) == (page != 1));
	read_all(4);
	world_close(&w);
}

static void read_it(void *data)
{
	(void)data;
	/* Nobody holds it: no busy bit over a write. */
	read_page(&w, 1);
	met = true;
}

/* A large copy is not kept beside the page: the page has none then, and the slot goes back. */
static void test_page_is_loaded_meanwhile(void **state)
{
	(void)state;
	write_while(read_it);
	assert_int_equal(state_of(1), PAGE_GUARDED);
	only_three_were_written();
}

/* A copy that is kept is turned over to the file under the clean page, which then can leave without more ado. */
static void test_page_with_a_kept_copy_is_loaded_meanwhile(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 4, TEXT);
	evict_all(&w);
	open_file();
	over_share();
	w.check_each = false;
	met = false;
	fake_meanwhile(FAKE_FILE_WRITE, read_it, NULL);
	while (writeback_once(&w.reclaim) > 0)
		;
	assert_true(met);
	w.check_each = true;
	world_check(&w);
	assert_int_equal(written(), 4);
	assert_int_equal(state_of(1), PAGE_CLEAN);
	assert_int_equal(kind_of(1), COPY_FILE);
	assert_int_equal(compressed(&w), 0);
	evict(&w, 1);
	assert_int_equal(kind_of(1), COPY_FILE);
	read_all(4);
	world_close(&w);
}

static void read_and_evict_it(void *data)
{
	(void)data;
	read_page(&w, 1);
	evict(&w, 1);
	met = true;
}

/* Loaded and dropped again with the same copy: it is still the one that was written. */
static void test_page_is_loaded_and_dropped_meanwhile(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 4, TEXT);
	evict_all(&w);
	open_file();
	over_share();
	w.check_each = false;
	met = false;
	fake_meanwhile(FAKE_FILE_WRITE, read_and_evict_it, NULL);
	while (writeback_once(&w.reclaim) > 0)
		;
	assert_true(met);
	w.check_each = true;
	world_check(&w);
	assert_int_equal(written(), 4);
	assert_int_equal(kind_of(1), COPY_FILE);
	read_all(4);
	world_close(&w);
}

static void write_it(void *data)
{
	(void)data;
	world_poke(&w, 0, 1, 7, 7);
	met = true;
}

static void test_page_is_written_meanwhile(void **state)
{
	(void)state;
	write_while(write_it);
	assert_int_equal(state_of(1), PAGE_DIRTY);
	only_three_were_written();
}

static void write_and_evict_it(void *data)
{
	(void)data;
	world_poke(&w, 0, 1, 7, 7);
	evict(&w, 1);
	met = true;
}

/* Written, packed and dropped again: the copy in memory is a new one, and must not be taken for the old. */
static void test_page_is_written_and_dropped_meanwhile(void **state)
{
	(void)state;
	write_while(write_and_evict_it);
	assert_int_equal(kind_of(1), COPY_MEMORY);
	only_three_were_written();
}

/* The same while the batch is still being filled: page 1 is there to be chosen once more, by the second look that takes
 * pages of any age, and its new copy must not be turned over to what the file has of the old one. */
static void test_page_is_written_and_dropped_while_the_batch_fills(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(0, 4);
	world_pass(&w, 1); /* all are old enough for the first look */
	open_file();
	over_share();
	w.check_each = false;
	met = false;
	/* A parked fault: whoever unlocks the page wakes it, just after it has joined the batch. */
	or_relaxed(&w.only->word[1], WORD_PARKED);
	fake_meanwhile(FAKE_WAKE, write_and_evict_it, NULL);
	assert_int_equal(writeback_once(&w.reclaim), 4);
	assert_true(met);
	w.check_each = true;
	world_check(&w);
	assert_int_equal(kind_of(1), COPY_MEMORY);
	only_three_were_written();
}

static void discard_it(void *data)
{
	(void)data;
	assert_int_equal(world_discard(&w, 0, 1, 1, false), 0);
	met = true;
}

static void test_page_is_discarded_meanwhile(void **state)
{
	(void)state;
	write_while(discard_it);
	assert_true(word_of(&w, 1) == PAGE_NONE);
	only_three_were_written();
}

static void relocate_it(void *data)
{
	const uint64_t x = word_of(&w, 1);

	(void)data;
	relocate_object(&w.reclaim, page_number(w.only, 1), word_location(x));
	assert_int_not_equal(word_location(word_of(&w, 1)), word_location(x));
	met = true;
}

static void test_object_is_moved_meanwhile(void **state)
{
	(void)state;
	write_while(relocate_it);
	assert_int_equal(kind_of(1), COPY_MEMORY);
	only_three_were_written();
}

static void drop_it_behind(void *data)
{
	(void)data;
	read_page(&w, 1);
	fake_drop_behind(at(&w, 1));
	memset(content_of(&w, 0, 1), 0, PAGE_SIZE);
	read_page(&w, 1);
	met = true;
}

static void test_page_vanishes_meanwhile(void **state)
{
	(void)state;
	write_while(drop_it_behind);
	only_three_were_written();
}

/* A write that fails finds the same pages, and takes the mark off those that still have it. */
static void test_page_is_written_while_the_write_fails(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(0, 4);
	open_file();
	over_share();
	w.check_each = false;
	fake_meanwhile(FAKE_FILE_WRITE, write_and_evict_it, NULL);
	fake_fail(FAKE_FILE_WRITE, 1, 2048, -EIO);
	assert_int_equal(writeback_once(&w.reclaim), -EIO);
	world_check(&w);
	for (uint32_t page = 0; page < 4; page++) {
		assert_int_equal(kind_of(page), COPY_MEMORY);
		assert_false(word_of(&w, page) & WORD_WRITEBACK);
	}
	read_all(4);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page_is_loaded_meanwhile),
		cmocka_unit_test(test_page_with_a_kept_copy_is_loaded_meanwhile),
		cmocka_unit_test(test_page_is_loaded_and_dropped_meanwhile),
		cmocka_unit_test(test_page_is_written_meanwhile),
		cmocka_unit_test(test_page_is_written_and_dropped_meanwhile),
		cmocka_unit_test(test_page_is_written_and_dropped_while_the_batch_fills),
		cmocka_unit_test(test_page_is_discarded_meanwhile),
		cmocka_unit_test(test_object_is_moved_meanwhile),
		cmocka_unit_test(test_page_vanishes_meanwhile),
		cmocka_unit_test(test_page_is_written_while_the_write_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
