/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A store that a program brings, and that fails in every way a store can: what it must not come to is a wrong byte, a page lost without
 * its reader being told, or a count that does not tally (world_check, after each step).
 */
#include "stores.h"

/* Nothing above the table knows what kind of store it is. */
static void test_pages_go_there_and_come_back(void **state)
{
	(void)state;
	for (unsigned unit = 512; unit <= PAGE_SIZE; unit *= 2) {
		start();
		test_store_plan.unit = unit;
		away(0, 200);
		assert_int_equal(write_all(&w), 200);
		assert_int_equal(test_store_pages(), 200);
		assert_int_equal(load_relaxed(&w.store.bytes), 200 * ALIGN_UP(4112u, unit));
		read_all(200);
		assert_true(test_store_reads() >= 200);
		end();
	}
}

/* --- writing --- */

/* One page of a batch fails: it alone stays in memory. */
static void test_one_page_of_a_batch_fails(void **state)
{
	static const int errors[] = {-EIO, -ENOSPC, -ENODEV, EIO};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
		start();
		away(0, 40);
		test_store_plan.fail_page = 1 + i * 13;
		test_store_plan.fail_err = errors[i];
		assert_int_equal(write_once(), errors[i] < 0 ? errors[i] : -EIO);
		world_check(&w);
		assert_int_equal(test_store_pages(), 39);
		assert_int_equal(load_relaxed(&w.vm.count.written), 39);
		assert_int_equal(load_relaxed(&w.vm.count.write_failed), 1);
		assert_int_equal(load_relaxed(&w.memory.objects), 1);
		/* Once a process. */
		assert_true(i || world_said("they stay compressed in memory"));
		/* It is tried again when it is time, not before. */
		test_store_plan.fail_page = 0;
		assert_true(store_failing(&w.reclaim));
		fake_time_pass(2000000000);
		assert_int_equal(write_once(), 1);
		world_check(&w);
		read_all(40);
		end();
	}
}

/* All of them, for want of room: pages stay, over the limit; when there is room they go. */
static void test_a_full_store(void **state)
{
	(void)state;
	start();
	away(0, 200);
	test_store_plan.room = 100 * 9 * 512;
	assert_int_equal(write_until_failure(&w), -ENOSPC);
	world_check(&w);
	assert_int_equal(test_store_pages(), 100);
	assert_int_equal(load_relaxed(&w.memory.objects), 100);
	read_all(50);
	test_store_plan.room = 0;
	fake_time_pass(2000000000);
	evict_all(&w);
	(void)write_all(&w);
	assert_int_equal(load_relaxed(&w.memory.objects), 0);
	read_all(200);
	end();
}

/* It cannot be opened, and later it can. */
static void test_a_store_that_does_not_open(void **state)
{
	(void)state;
	start();
	away(0, 10);
	test_store_plan.open_err = -ECONNREFUSED;
	assert_int_equal(write_once(), -ECONNREFUSED);
	assert_int_equal(load_relaxed(&w.memory.objects), 10);
	read_page(&w, 0);
	test_store_plan.open_err = 0;
	fake_time_pass(2000000000);
	assert_int_equal(write_once(), 9);
	read_all(10);
	end();
}

/* --- late, and in another order --- */

/* Batches that are under way are not chosen again, there are never more than there is room for, and what they hold can be read, written,
 * discarded, moved meanwhile. */
static void test_batches_in_flight(void **state)
{
	(void)state;
	for (unsigned reversed = 0; reversed < 2; reversed++) {
		start();
		away(0, 3 * STORE_BATCH);
		test_store_plan.late = true;
		test_store_plan.reversed = reversed;
		for (unsigned i = 0; i < WRITES; i++)
			assert_int_equal(write_once(), STORE_BATCH);
		assert_int_equal(test_store_pages(), 0);
		assert_true(writeback_flying(&w.reclaim));
		assert_int_equal(write_once(), 0);
		w.check_each = false;
		read_page(&w, 0);
		world_poke(&w, 0, 1, 7, 7);
		assert_int_equal(world_discard(&w, 0, 2, 3, false), 0);
		relocate_object(&w.reclaim, page_number(w.only, 5), word_location(word_of(&w, 5)));
		/* Those of the others that are asked for while their batches land, one by one. */
		for (unsigned left = WRITES; left; left--) {
			assert_int_equal(test_store_complete(1), left - 1);
			assert_int_equal(writeback_land(&w.reclaim, false), 0);
			read_page(&w, left * 40);
		}
		assert_false(writeback_flying(&w.reclaim));
		w.check_each = true;
		world_check(&w);
		/* 0 and those with a batch just read are dirty: their copies were large; 1 was written, 2 to 4 are gone, 5 has moved. */
		assert_true(kind_of(0) == COPY_NONE && kind_of(1) == COPY_NONE);
		assert_int_equal(kind_of(5), COPY_MEMORY);
		assert_int_equal(kind_of(6), COPY_FILE);
		assert_true(test_store_pages() >= 3 * STORE_BATCH - 9);
		read_all(3 * STORE_BATCH);
		end();
	}
}

/* What a page held when it went into a batch is not what it holds when it has been written and has left again meanwhile: it does not
 * go into another one before the first has landed, whose mark would vouch for both. */
static void test_a_page_in_flight_is_written_and_leaves_again(void **state)
{
	(void)state;
	for (unsigned reversed = 0; reversed < 2; reversed++) {
		start();
		away(0, 40);
		test_store_plan.late = true;
		test_store_plan.reversed = reversed;
		w.check_each = false;
		assert_int_equal(write_once(), 40);
		world_poke(&w, 0, 0, 7, 7);
		write_pages(&w, 100, 100, NOISE);
		while (resident(&w))
			assert_true(evict_all(&w) > 0);
		assert_int_equal(write_once(), STORE_BATCH);
		assert_int_equal(write_once(), 100 - STORE_BATCH);
		while (writeback_flying(&w.reclaim)) {
			(void)test_store_complete(1);
			assert_int_equal(writeback_land(&w.reclaim, false), 0);
		}
		w.check_each = true;
		world_check(&w);
		assert_int_equal(kind_of(0), COPY_MEMORY);
		/* Its turn comes. */
		test_store_plan.late = false;
		assert_int_equal(write_all(&w), 1);
		read_all(200);
		end();
	}
}

/* With all batches under way a further one waits for the first; so does a quiesce, for all. */
static void test_no_batch_left(void **state)
{
	(void)state;
	start();
	away(0, 5 * STORE_BATCH);
	test_store_plan.late = true;
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(write_once(), STORE_BATCH);
	assert_int_equal(test_store_writes(), 2 * STORE_BATCH);
	reclaim_quiesce(&w.reclaim);
	assert_int_equal(test_store_writes(), 5 * STORE_BATCH);
	assert_false(writeback_flying(&w.reclaim));
	world_check(&w);
	read_all(5 * STORE_BATCH);
	end();
}

/* What is on its way counts as gone: else twice as much would go as the share wants. */
static void test_no_more_goes_than_is_wanted(void **state)
{
	(void)state;
	start();
	away(0, 256);
	test_store_plan.late = true;
	store_relaxed(&w.vm.memory_share, compressed(&w) - 100 * 4160);
	for (unsigned i = 0; i < 6; i++)
		background_turns(&w, 1);
	writeback_flush(&w.reclaim);
	assert_in_range(test_store_pages(), 100, 2 * STORE_BATCH);
	world_check(&w);
	read_all(256);
	end();
}

/* It dies with batches under way: what it has is lost, and said to be; what it was given last is in memory. */
static void test_a_store_that_dies(void **state)
{
	unsigned lost = 0;

	(void)state;
	start();
	away(0, 5 * STORE_BATCH);
	test_store_plan.late = true;
	assert_int_equal(write_once(), STORE_BATCH);
	assert_int_equal(write_once(), STORE_BATCH);
	test_store_plan.dies_after = STORE_BATCH + 20;
	writeback_flush(&w.reclaim);
	world_check(&w);
	assert_int_equal(test_store_pages(), STORE_BATCH + 20);
	assert_int_equal(load_relaxed(&w.vm.count.write_failed), STORE_BATCH - 20);
	for (uint32_t page = 0; page < 5 * STORE_BATCH; page++) {
		w.lost[0][page] = kind_of(page) == COPY_FILE;
		lost += w.lost[0][page];
	}
	assert_int_equal(lost, STORE_BATCH + 20);
	read_all(5 * STORE_BATCH);
	for (uint32_t page = 0; page < 5 * STORE_BATCH; page++)
		assert_int_equal(word_state(word_of(&w, page)) == PAGE_POISONED, w.lost[0][page]);
	assert_int_equal(load_relaxed(&w.vm.count.poisoned), lost);
	assert_true(world_said("cannot be read back (ENODEV)"));
	end();
}

/* --- reading --- */

/* Whatever a read may say or give: right bytes, or the reader is told. Neighbours that it was not asked for are left alone. */
static void test_reads_that_fail_or_lie(void **state)
{
	(void)state;
	for (enum test_store_read how = READ_FAILS; how < READ_KINDS; how++) {
		start();
		away(0, 64);
		assert_int_equal(write_all(&w), 64);
		test_store_plan.read = how;
		w.lost[0][7] = true;
		read_page(&w, 7);
		assert_int_equal(word_state(word_of(&w, 7)), PAGE_POISONED);
		assert_int_equal(load_relaxed(&w.vm.count.poisoned), 1);
		assert_true(world_said("the page at"));
		/* In a run of eight one in three is bad; those that were not asked for come when they are. */
		w.streams = true;
		test_store_plan.read_every = 3;
		for (uint32_t page = 16; page < 40; page++) {
			const uint64_t before = load_relaxed(&w.vm.count.poisoned);

			w.lost[0][page] = true;
			read_page(&w, page);
			if (load_relaxed(&w.vm.count.poisoned) == before)
				w.lost[0][page] = false;
			world_check(&w);
		}
		assert_true(load_relaxed(&w.vm.count.poisoned) < 1 + 24);
		test_store_plan.read = READ_RIGHT;
		w.streams = false;
		for (uint32_t page = 40; page < 64; page++)
			read_page(&w, page);
		end();
	}
}

/* A buffer that has the page of an earlier read: a store that gives nothing and says that it has gives nobody that one. */
static void test_what_was_read_before_is_not_read_again(void **state)
{
	(void)state;
	start();
	away(0, 1);
	assert_int_equal(write_all(&w), 1);
	read_page(&w, 0);
	world_poke(&w, 0, 0, 3, 3);
	evict_all(&w);
	assert_int_equal(write_all(&w), 1);
	test_store_plan.read = READ_NOTHING;
	w.lost[0][0] = true;
	read_page(&w, 0);
	assert_int_equal(word_state(word_of(&w, 0)), PAGE_POISONED);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_go_there_and_come_back),
		cmocka_unit_test(test_one_page_of_a_batch_fails),
		cmocka_unit_test(test_a_full_store),
		cmocka_unit_test(test_a_store_that_does_not_open),
		cmocka_unit_test(test_batches_in_flight),
		cmocka_unit_test(test_a_page_in_flight_is_written_and_leaves_again),
		cmocka_unit_test(test_no_batch_left),
		cmocka_unit_test(test_no_more_goes_than_is_wanted),
		cmocka_unit_test(test_a_store_that_dies),
		cmocka_unit_test(test_reads_that_fail_or_lie),
		cmocka_unit_test(test_what_was_read_before_is_not_read_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
