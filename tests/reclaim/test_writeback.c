/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writeback: compressed pages to the file. No busy bit is held while the file is written; what threads do to a page
 * meanwhile is done here between the copy into the batch and the write.
 *
 * Pages do not compress (fill_noise), so that the file is the only place that helps.
 */
#include "world.h"
#include "store/filestore.h"

static struct world w;

enum { PAGES = 1024, UNIT = 512 };
static const struct world_options plain = {.pages = {PAGES}, .check_each = true};

static enum page_state state_of(uint32_t page)
{
	return word_state(word_of(&w, page));
}

static enum copy_kind kind_of(uint32_t page)
{
	return word_kind(word_of(&w, page));
}

/* Pages [first, first + count) written and moved out; nothing else is resident then. */
static void away(uint32_t first, uint32_t count)
{
	const bool each = w.check_each;

	w.check_each = false;
	write_pages(&w, first, count, NOISE);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	w.check_each = each;
	world_check(&w);
}

static void over_share(void)
{
	store_relaxed(&w.vm.memory_share, 0);
}

/* One batch. The file is there already, so that nothing else happens. */
static void open_file(void)
{
	assert_int_equal(store_open(&w.store), 0);
}

static int write_once(void)
{
	int n = writeback_once(&w.reclaim);

	world_check(&w);
	return n;
}

static void read_all(uint32_t count)
{
	for (uint32_t page = 0; page < count; page++)
		read_page(&w, page);
}

static uint64_t written(void)
{
	return load_relaxed(&w.vm.count.written);
}

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

/* --- disks that fail --- */

/* Full disk, I/O error, torn write: everything stays in memory, counted; nothing in the file; later all is written. */
static void test_failed_write_keeps_pages_in_memory(void **state)
{
	static const int errors[] = {-ENOSPC, -EIO, -EDQUOT, -EFBIG};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
		world_open(&w, &plain);
		away(0, 100);
		open_file();
		over_share();
		fake_fail(FAKE_FILE_WRITE, 1, 4096 * i, errors[i]);
		assert_int_equal(write_once(), errors[i]);
		assert_int_equal(load_relaxed(&w.vm.count.write_failed), STORE_BATCH);
		assert_int_equal(load_relaxed(&w.store.failures), 1);
		assert_int_equal(load_relaxed(&w.store.bytes), 0);
		assert_int_equal(load_relaxed(&w.memory.objects), 100);
		for (uint32_t page = 0; page < 100; page++)
			assert_int_equal(kind_of(page), COPY_MEMORY);
		/* Whatever the disk had, it has recovered. */
		fake_time_pass(2000000000);
		assert_int_equal(write_all(&w), 100);
		read_all(100);
		world_close(&w);
	}
}

/* A disk that is full and gets room again. */
static void test_disk_full_and_room_again(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(0, 200);
	fake_disk(STORE_BATCH * 9 * UNIT);
	assert_int_equal(write_until_failure(&w), -ENOSPC);
	assert_int_equal(written(), STORE_BATCH);
	assert_int_equal(load_relaxed(&w.memory.objects), 200 - STORE_BATCH);
	/* Without room the file is not asked to grow for a while. */
	assert_int_equal(fake_count(FAKE_FILE_WRITE), 2);
	assert_int_equal(write_until_failure(&w), -ENOSPC);
	assert_int_equal(fake_count(FAKE_FILE_WRITE), 2);
	fake_disk(FAKE_FILE_MAX);
	fake_time_pass(2000000000);
	assert_int_equal(write_all(&w), 200 - STORE_BATCH);
	read_all(200);
	world_close(&w);
}

/* On a full disk what is free inside the file is used. */
static void test_full_disk_with_room_inside_the_file(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(0, 128);
	assert_int_equal(write_all(&w), 128);
	fake_disk(128 * 9 * UNIT);
	away(200, STORE_BATCH);
	assert_int_equal(write_until_failure(&w), -ENOSPC);
	/* A run that one batch had taken. The file is half full, but it cannot grow. */
	assert_int_equal(world_discard(&w, 0, 64, STORE_BATCH, true), 0);
	assert_int_equal(write_all(&w), STORE_BATCH);
	for (uint32_t page = 0; page < 200 + STORE_BATCH; page++)
		read_page(&w, page);
	world_close(&w);
}

/* While nothing can be written copies of resident pages are the only memory to be had: they go, the pages stay. */
static void test_kept_copies_are_given_up_when_nothing_can_be_written(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 20, TEXT);
	evict_all(&w);
	for (uint32_t page = 0; page < 10; page++)
		read_page(&w, page);
	fake_disk(0);
	assert_int_equal(write_until_failure(&w), -ENOSPC);
	assert_int_equal(load_relaxed(&w.memory.objects), 10);
	for (uint32_t page = 0; page < 20; page++)
		assert_int_equal(state_of(page), page < 10 ? PAGE_GUARDED : PAGE_ABSENT);
	read_all(20);
	world_close(&w);
}

/* No file to be had at all, and then one. Which folders are tried is the file's matter (tests/store/test_filestore.c). */
static void test_no_place_for_the_file(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(0, 20);
	fake_fail(FAKE_FILE_OPEN, 1, 0, -EACCES);
	assert_int_equal(write_until_failure(&w), -EACCES);
	assert_int_equal(fake_count(FAKE_FILE_OPEN), 1);
	assert_int_equal(load_relaxed(&w.memory.objects), 20);
	read_page(&w, 0);
	/* When it is time to try again. */
	fake_time_pass(2000000000);
	evict(&w, 1);
	assert_int_equal(write_all(&w), 20);
	assert_int_equal(fake_count(FAKE_FILE_OPEN), 2);
	read_all(20);
	world_close(&w);
}

/* After a failure the background thread waits, longer each time, up to a second; a success ends that. */
static void test_background_waits_longer_after_each_failure(void **state)
{
	static const uint64_t steps_ms[] = {10, 20, 40, 80, 160, 320, 640, 1000, 1000};

	(void)state;
	world_open(&w, &plain);
	away(0, 10);
	open_file();
	over_share();
	for (unsigned i = 0; i < ARRAY_SIZE(steps_ms); i++) {
		const uint64_t now = now_ns();

		fake_fail(FAKE_FILE_WRITE, 1, 0, -EIO);
		assert_int_equal(write_once(), -EIO);
		assert_int_equal(load_relaxed(&w.reclaim.retry_ns) - now, steps_ms[i] * 1000000);
	}
	/* Before its time it does not try. */
	fake_time_step(0);
	assert_int_equal(fake_count(FAKE_FILE_WRITE), ARRAY_SIZE(steps_ms));
	assert_int_equal(write_once(), 10);
	assert_int_equal(w.reclaim.retry_step_ns, 0);
	world_close(&w);
}

static void test_background_does_not_try_before_its_time(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(0, 10);
	open_file();
	over_share();
	store_relaxed(&w.reclaim.retry_ns, now_ns() + 1000000000000);
	background_turns(&w, 3);
	assert_int_equal(fake_count(FAKE_FILE_WRITE), 0);
	store_relaxed(&w.reclaim.retry_ns, 0);
	background_turns(&w, 3);
	assert_int_equal(written(), 10);
	world_check(&w);
	world_close(&w);
}

/* While nothing can be written a copy as large as its page wins nothing: such pages stay, and the others leave. */
static void test_incompressible_pages_stay_while_nothing_can_be_written(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(0, 10);
	fake_disk(0);
	assert_int_equal(write_until_failure(&w), -ENOSPC);
	write_pages(&w, 100, 10, NOISE);
	write_pages(&w, 110, 10, TEXT);
	write_pages(&w, 120, 10, FILLED);
	evict(&w, 20);
	for (uint32_t page = 100; page < 130; page++)
		assert_int_equal(state_of(page), page < 110 ? PAGE_DIRTY : PAGE_ABSENT);
	assert_int_equal(load_relaxed(&w.memory.objects), 10 + 10);
	/* Until it is time to try again. */
	fake_time_pass(2000000000);
	evict(&w, 10);
	for (uint32_t page = 0; page < 130; page++)
		read_page(&w, page);
	world_close(&w);
}

/* And while that leaves the container over its limit, jobs are not tried one after the other; faults go over at once. */
static void test_jobs_wait_while_they_cannot_help(void **state)
{
	uint64_t calls;

	(void)state;
	world_open(&w, &plain);
	away(0, 40);
	fake_disk(0);
	assert_int_equal(write_until_failure(&w), -ENOSPC);
	container_set_max(w.container, 20 * PAGE_SIZE);
	write_pages(&w, 100, 30, NOISE);
	evict(&w, 0);
	calls = fake_count(FAKE_PROTECT);
	assert_int_not_equal(reclaim_make_room(&w.reclaim, w.pager, w.container, PAGE_SIZE),
			     ROOM_MADE);
	evict(&w, 0);
	reclaim_after_fault(&w.reclaim, w.pager);
	write_pages(&w, 200, 1, TEXT);
	assert_int_equal(fake_count(FAKE_PROTECT), calls);
	/* A fiftieth of a second later a job may have better luck. */
	fake_time_pass(20000000);
	(void)reclaim_make_room(&w.reclaim, w.pager, w.container, PAGE_SIZE);
	assert_true(fake_count(FAKE_PROTECT) > calls);
	world_check(&w);
	world_close(&w);
}

/* --- who waits for whom --- */

static unsigned yields;

static void count_yield(void *data)
{
	(void)data;
	yields++;
}

static void write_at_yield(void *data)
{
	(void)data;
	yields++;
	(void)writeback_once(&w.reclaim);
}

/* Only copies are left, and they do not fit. */
static void only_copies(void)
{
	world_open(&w, &plain);
	away(0, 200);
	container_set_max(w.container, 20 * PAGE_SIZE);
	over_share();
	yields = 0;
}

static enum room room_for(struct pager *pager)
{
	return reclaim_make_room(&w.reclaim, pager, w.container, PAGE_SIZE);
}

static void test_a_fault_waits_until_the_background_has_written(void **state)
{
	(void)state;
	only_copies();
	fake_on_yield(write_at_yield, NULL);
	assert_int_equal(room_for(w.pager), ROOM_MADE);
	assert_in_range(yields, 1, 200);
	world_check(&w);
	read_all(200);
	world_close(&w);
}

/* The background thread waits for faults to end, as it does before a container or a region goes. */
static void test_a_fault_does_not_wait_for_who_waits_for_it(void **state)
{
	(void)state;
	only_copies();
	fake_on_yield(count_yield, NULL);
	store_relaxed(&w.reclaim.quiescing, true);
	assert_int_equal(room_for(w.pager), ROOM_LATER);
	reclaim_throttle(&w.reclaim, w.pager, w.container);
	assert_int_equal(yields, 0);
	store_relaxed(&w.reclaim.quiescing, false);
	read_all(200);
	world_close(&w);
}

/* It serves a fault for a thread that cannot: there is nobody else to write. */
static void test_the_background_thread_does_not_wait_for_itself(void **state)
{
	(void)state;
	only_copies();
	fake_on_yield(count_yield, NULL);
	assert_int_equal(room_for(w.reclaim.pager), ROOM_MADE);
	assert_int_equal(yields, 0);
	/* Nowhere to write: it gives up soon. */
	fake_disk(0);
	container_set_max(w.container, 0);
	assert_int_not_equal(room_for(w.reclaim.pager), ROOM_MADE);
	assert_true(yields < 4);
	fake_disk(UINT64_MAX);
	read_all(200);
	world_close(&w);
}

/* --- pages that do not become smaller --- */

static void full_of(enum contents contents)
{
	world_open(&w, &plain);
	/* So many that to check the whole world at each would be all that the test does. */
	w.check_each = false;
	write_pages(&w, 0, 600, contents);
	container_set_max(w.container, 600 * PAGE_SIZE);
	store_relaxed(&w.vm.memory_share, 600 * PAGE_SIZE / 4 * 3);
	yields = 0;
}

static uint64_t cap(void)
{
	return load_relaxed(&tenant_of(w.container)->cap);
}

/* A job of them at the limit makes no room, however much their share allows: as much as it has copied goes to the file, and the
 * others stay resident. */
static void test_what_a_job_does_not_make_smaller_goes_to_the_file(void **state)
{
	(void)state;
	full_of(NOISE);
	while (!cap())
		assert_true(reclaim_once(&w.reclaim, w.pager) > 0);
	background_turns(&w, 20);
	world_check(&w);
	assert_true(written() > 0);
	assert_true(container_usage(w.container, CHARGE_COMPRESSED) <
		    load_relaxed(&w.vm.memory_share) / 2);
	assert_true(resident(&w) > 600 / 2);
	container_set_max(w.container, WEIR_NO_LIMIT);
	read_all(600);
	world_close(&w);
}

/* While much waits to be written, a fault waits for that, and copies nothing; when it is written there is room. */
static void test_a_fault_copies_nothing_while_copies_wait(void **state)
{
	uint32_t jobs;

	(void)state;
	full_of(NOISE);
	container_set_max(w.container, WEIR_NO_LIMIT);
	while (container_usage(w.container, CHARGE_COMPRESSED) <= MIB(1) + PAGE_SIZE)
		assert_true(reclaim_once(&w.reclaim, w.pager) > 0);
	container_set_max(w.container, 600 * PAGE_SIZE);
	store_relaxed(&tenant_of(w.container)->cap, 1);
	jobs = w.reclaim.job;
	fake_on_yield(write_at_yield, NULL);
	assert_int_equal(room_for(w.pager), ROOM_MADE);
	assert_in_range(yields, 1, 200);
	assert_int_equal(w.reclaim.job, jobs);
	assert_true(written() > 0);
	fake_on_yield(NULL, NULL);
	container_set_max(w.container, WEIR_NO_LIMIT);
	read_all(600);
	world_close(&w);
}

/* The same of pages that do become smaller: they stay in memory, as long as they have their share. */
static void test_what_a_job_makes_smaller_stays(void **state)
{
	(void)state;
	full_of(TEXT);
	for (unsigned i = 0; i < 4; i++)
		(void)reclaim_once(&w.reclaim, w.pager);
	background_turns(&w, 10);
	assert_int_equal(cap(), 0);
	assert_int_equal(written(), 0);
	world_close(&w);
}

/* Faults do not wait for what cannot be written: that nothing is found, is found out once; and where nothing can be, they copy as before. */
static void test_no_job_waits_for_what_cannot_be_written(void **state)
{
	uint32_t jobs;

	(void)state;
	full_of(TEXT);
	/* Copies that the count has and the pages do not. */
	container_force(w.container, CHARGE_COMPRESSED, MIB(2));
	store_relaxed(&tenant_of(w.container)->cap, 1);
	assert_int_equal(writeback_once(&w.reclaim), 0);
	assert_int_equal(cap(), 0);
	store_relaxed(&tenant_of(w.container)->cap, 1);
	store_relaxed(&w.reclaim.write_closed, true);
	jobs = w.reclaim.job;
	(void)room_for(w.pager);
	assert_true(w.reclaim.job > jobs);
	container_uncharge(w.container, CHARGE_COMPRESSED, MIB(2));
	store_relaxed(&w.reclaim.write_closed, false);
	container_set_max(w.container, WEIR_NO_LIMIT);
	world_close(&w);
}

/* --- what has rotted --- */

/* A header that has rotted is passed over, wherever the bit is, and does not keep others from being written. */
static void test_rotten_headers_are_passed_over(void **state)
{
	(void)state;
	for (size_t byte = 0; byte < offsetof(struct object, packed); byte++) {
		world_open(&w, &plain);
		away(0, 200);
		((unsigned char *)compressed_object(&w.memory,
						    word_location(word_of(&w, 70))))[byte] ^= 0x81;
		w.lost[0][70] = true;
		over_share();
		for (unsigned i = 0; i < 20 && writeback_once(&w.reclaim) > 0; i++)
			;
		world_check(&w);
		assert_true(written() >= 199);
		for (uint32_t page = 0; page < 200; page++)
			read_page(&w, page);
		world_close(&w);
	}
}

/* Contents that have rotted go to the file as they are, and are found out when somebody reads them. */
static void test_rotten_contents_are_found_out_at_the_read(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(0, 4);
	compressed_object(&w.memory, word_location(word_of(&w, 2)))->packed[1000] ^= 0x10;
	w.lost[0][2] = true;
	write_all(&w);
	read_all(4);
	assert_true(word_of(&w, 2) == PAGE_POISONED);
	assert_int_equal(load_relaxed(&w.vm.count.poisoned), 1);
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
		cmocka_unit_test(test_failed_write_keeps_pages_in_memory),
		cmocka_unit_test(test_disk_full_and_room_again),
		cmocka_unit_test(test_full_disk_with_room_inside_the_file),
		cmocka_unit_test(test_kept_copies_are_given_up_when_nothing_can_be_written),
		cmocka_unit_test(test_no_place_for_the_file),
		cmocka_unit_test(test_background_waits_longer_after_each_failure),
		cmocka_unit_test(test_background_does_not_try_before_its_time),
		cmocka_unit_test(test_incompressible_pages_stay_while_nothing_can_be_written),
		cmocka_unit_test(test_jobs_wait_while_they_cannot_help),
		cmocka_unit_test(test_a_fault_waits_until_the_background_has_written),
		cmocka_unit_test(test_a_fault_does_not_wait_for_who_waits_for_it),
		cmocka_unit_test(test_the_background_thread_does_not_wait_for_itself),
		cmocka_unit_test(test_what_a_job_does_not_make_smaller_goes_to_the_file),
		cmocka_unit_test(test_a_fault_copies_nothing_while_copies_wait),
		cmocka_unit_test(test_what_a_job_makes_smaller_stays),
		cmocka_unit_test(test_no_job_waits_for_what_cannot_be_written),
		cmocka_unit_test(test_rotten_headers_are_passed_over),
		cmocka_unit_test(test_rotten_contents_are_found_out_at_the_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
