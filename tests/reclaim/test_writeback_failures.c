/* SPDX-License-Identifier: BSD-2-Clause */
/* Writeback: disks that fail, and copies that have rotted. What could not be written stays in memory, and nobody gets wrong bytes. */
#include "writeback.h"

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
	assert_int_equal(load_relaxed(&w.reclaim.retry_step_ns), 0);
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
		cmocka_unit_test(test_failed_write_keeps_pages_in_memory),
		cmocka_unit_test(test_disk_full_and_room_again),
		cmocka_unit_test(test_full_disk_with_room_inside_the_file),
		cmocka_unit_test(test_kept_copies_are_given_up_when_nothing_can_be_written),
		cmocka_unit_test(test_no_place_for_the_file),
		cmocka_unit_test(test_background_waits_longer_after_each_failure),
		cmocka_unit_test(test_background_does_not_try_before_its_time),
		cmocka_unit_test(test_incompressible_pages_stay_while_nothing_can_be_written),
		cmocka_unit_test(test_rotten_headers_are_passed_over),
		cmocka_unit_test(test_rotten_contents_are_found_out_at_the_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
