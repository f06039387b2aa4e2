/* SPDX-License-Identifier: BSD-2-Clause */
/* Room: made for a fault, by the background thread, and by compaction of what is compressed. */
#include "jobs.h"

#include "../frames.h"

/* --- making room --- */

static void test_make_room(void **state)
{
	(void)state;
	world_open(&w, &small);
	/* There is room. */
	write_pages(&w, 0, LIMIT - 1, FILLED);
	assert_int_equal(reclaim_make_room(&w.reclaim, w.pager, w.container, PAGE_SIZE), ROOM_MADE);
	assert_int_equal(resident(&w), LIMIT - 1);
	/* There is none; a job makes some. */
	touch(&w, LIMIT, true);
	assert_int_equal(resident(&w), LIMIT);
	assert_int_equal(reclaim_make_room(&w.reclaim, w.pager, w.container, PAGE_SIZE), ROOM_MADE);
	assert_int_equal(resident(&w), LIMIT - JOB);
	/* More than one job's worth. */
	assert_int_equal(reclaim_make_room(&w.reclaim, w.pager, w.container, 100 * PAGE_SIZE),
			 ROOM_MADE);
	assert_true(resident(&w) <= LIMIT - 100);
	world_check(&w);
	world_close(&w);
}

static void test_no_room_to_be_made(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, LIMIT, FILLED);
	/* A fork is under way. */
	add_relaxed(&w.vm.hold, 1);
	assert_int_not_equal(reclaim_make_room(&w.reclaim, w.pager, w.container, PAGE_SIZE),
			     ROOM_MADE);
	assert_int_equal(fake_count(FAKE_DROP), 0);
	sub_relaxed(&w.vm.hold, 1);
	/* More than there is. */
	assert_int_not_equal(
		reclaim_make_room(&w.reclaim, w.pager, w.container, (LIMIT + 1) * PAGE_SIZE),
		ROOM_MADE);
	assert_int_equal(resident(&w), 0);
	/* Nothing is resident, and copies are not this function's to free. */
	container_set_max(w.container, 0);
	assert_int_not_equal(reclaim_make_room(&w.reclaim, w.pager, w.container, PAGE_SIZE),
			     ROOM_MADE);
	world_close(&w);
}

static void test_after_fault_below_high_does_nothing(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, HIGH, TEXT);
	after_fault();
	assert_int_equal(job_state(), IDLE);
	assert_int_equal(fake_count(FAKE_PROTECT), 0);
	touch(&w, HIGH, true);
	after_fault();
	assert_int_equal(job_state(), OPEN);
	evict(&w, JOB);
	world_close(&w);
}

/* --- the background thread --- */

/* It ends what is open, and goes on until the high mark is reached, no further. */
static void test_background_reclaims_down_to_high(void **state)
{
	(void)state;
	world_open(&w, &small);
	w.check_each = false;
	write_pages(&w, 0, LIMIT, FILLED);
	background_turns(&w, 10);
	world_check(&w);
	assert_in_range(resident(&w), HIGH - JOB, HIGH);
	read_page(&w, 0);
	world_close(&w);
}

static void test_background_does_nothing_during_a_fork(void **state)
{
	(void)state;
	world_open(&w, &small);
	w.check_each = false;
	write_pages(&w, 0, 40, NOISE);
	evict(&w, JOB);
	add_relaxed(&w.vm.hold, 1);
	store_relaxed(&w.vm.memory_share, 0);
	container_set_max(w.container, 16 * PAGE_SIZE);
	background_turns(&w, 3);
	assert_int_equal(resident(&w), 40 - JOB);
	assert_int_equal(fake_count(FAKE_FILE_WRITE), 0);
	assert_int_equal(fake_count(FAKE_DROP), 1);
	sub_relaxed(&w.vm.hold, 1);
	background_turns(&w, 10);
	assert_true(resident(&w) < 16);
	assert_true(load_relaxed(&w.vm.count.written) > 0);
	world_check(&w);
	world_close(&w);
}

static int answer(void *data)
{
	*(bool *)data = true;
	return -ESTALE;
}

static void test_background_runs_errands(void **state)
{
	bool ran = false;
	struct errand errand = {.fn = answer, .data = &ran};

	(void)state;
	world_open(&w, &small);
	store_release(&w.reclaim.errand, &errand);
	background_turns(&w, 1);
	assert_true(ran);
	assert_int_equal(errand.result, -ESTALE);
	assert_null(load_relaxed(&w.reclaim.errand));
	world_close(&w);
}

static void test_quiesce_ends_the_job_that_is_open(void **state)
{
	(void)state;
	world_open(&w, &small);
	job_open();
	reclaim_quiesce(&w.reclaim);
	assert_int_equal(job_state(), IDLE);
	world_check(&w);
	assert_int_equal(resident(&w), HIGH + 1 - JOB);
	reclaim_quiesce(&w.reclaim);
	assert_int_equal(resident(&w), HIGH + 1 - JOB);
	world_close(&w);
}

/* --- compaction --- */

static unsigned in_use(void)
{
	return (unsigned)frames_used(w.pool);
}

/* Most objects are let go, here and there; those that stay move together, with their contents, and frames come free. */
static void test_compaction_moves_objects_and_keeps_contents(void **state)
{
	unsigned before, freed;

	(void)state;
	world_open(&w, &wide);
	write_pages(&w, 0, 600, TEXT);
	write_pages(&w, 600, 200, NOISE);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	/* Three of four go; some of the others are clean, so that both kinds of copies move. */
	for (uint32_t page = 0; page < 800; page++) {
		if (page % 4)
			world_poke(&w, 0, page, 0, 1);
		else if (page % 8)
			read_page(&w, page);
	}
	world_check(&w);
	before = in_use();
	freed = compressed_compact(&w.memory, 0, relocate_object, &w.reclaim);
	world_check(&w);
	assert_true(freed > 0);
	assert_int_equal(in_use(), before - freed);
	assert_true(in_use() < before / 2);
	for (uint32_t page = 0; page < 800; page++)
		read_page(&w, page);
	world_check(&w);
	world_close(&w);
}

/* 400 pages are away, then three of four come back. */
static void leave_sparse(void)
{
	world_open(&w, &wide);
	write_pages(&w, 0, 400, TEXT);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	for (uint32_t page = 0; page < 400; page++) {
		if (page % 4)
			world_poke(&w, 0, page, 0, 1);
	}
}

static void test_compaction_passes_over_a_busy_page(void **state)
{
	uint64_t x;

	(void)state;
	leave_sparse();
	x = word_of(&w, 0);
	assert_true(page_lock(&w.only->word[0], &x));
	(void)compressed_compact(&w.memory, 0, relocate_object, &w.reclaim);
	page_unlock(&w.vm, w.only, 0, x, true);
	assert_int_equal(word_location(word_of(&w, 0)), word_location(x));
	world_check(&w);
	read_all(400);
	world_close(&w);
}

/* However long an object says it is, by then: it moves as it is, costs what it did, and its page is lost. */
static void test_what_rotted_moves_and_costs_what_it_did(void **state)
{
	static const uint16_t lengths[] = {0, 1, 47, 48, 300, 2000, 4096, 0x1ff0};

	(void)state;
	leave_sparse();
	for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		const uint32_t page = 4 * i;
		const slot_t slot = word_location(word_of(&w, page));

		compressed_object(&w.memory, slot)->bytes = lengths[i] & 0x1fff;
		w.lost[0][page] = true;
		relocate_object(&w.reclaim, page_number(w.only, page), slot);
		assert_int_not_equal(word_location(word_of(&w, page)), slot);
		world_check(&w);
	}
	read_all(400);
	for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++)
		assert_int_equal(state_of(4 * i), PAGE_POISONED);
	world_check(&w);
	world_discard(&w, 0, 0, 400, false);
	assert_int_equal(container_usage(w.vm.root, CHARGE_COMPRESSED), 0);
	world_close(&w);
}

/* A slot that is no longer the page's: nothing moves. */
static void test_relocate_refuses_what_is_not_the_pages_copy(void **state)
{
	const page_no_t nowhere = 0x1234;
	uint64_t x;

	(void)state;
	world_open(&w, &wide);
	write_pages(&w, 0, 3, TEXT);
	evict(&w, 3);
	write_pages(&w, 1, 1, TEXT);
	x = word_of(&w, 0);
	relocate_object(&w.reclaim, nowhere, word_location(x));
	relocate_object(&w.reclaim, page_number(w.only, 0), word_location(x) + 1);
	relocate_object(&w.reclaim, page_number(w.only, 1), word_location(x));
	relocate_object(&w.reclaim, page_number(w.only, 2), word_location(x));
	relocate_object(&w.reclaim, page_number(w.only, 200), word_location(x));
	assert_true(word_of(&w, 0) == x);
	world_check(&w);
	/* And the right one moves. */
	relocate_object(&w.reclaim, page_number(w.only, 0), word_location(x));
	assert_int_not_equal(word_location(word_of(&w, 0)), word_location(x));
	world_check(&w);
	read_all(3);
	world_close(&w);
}

/* The background thread compacts, and gives frames back to the system, so that slack does not eat the limit. */
static void test_background_reduces_slack(void **state)
{
	const struct world_options big = {.max = 65536, .pages = {8192}, .pool = MIB(64)};
	uint64_t before;

	(void)state;
	world_open(&w, &big);
	write_pages(&w, 0, 8000, NOISE);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	for (uint32_t page = 0; page < 8000; page++) {
		if (page % 5)
			world_poke(&w, 0, page, 0, 1);
	}
	before = reclaim_slack(&w.reclaim);
	assert_true(before > MIB(10));
	assert_int_equal(container_held(w.container), container_charged(w.container) + before);
	background_turns(&w, 3);
	world_check(&w);
	assert_true(reclaim_slack(&w.reclaim) < MIB(1));
	assert_true(weir_pool_backed_frames(w.pool, WEIR_ZONE_LOW) <= 512);
	for (uint32_t page = 0; page < 8000; page += 5)
		read_page(&w, page);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_make_room),
		cmocka_unit_test(test_no_room_to_be_made),
		cmocka_unit_test(test_after_fault_below_high_does_nothing),
		cmocka_unit_test(test_background_reclaims_down_to_high),
		cmocka_unit_test(test_background_does_nothing_during_a_fork),
		cmocka_unit_test(test_background_runs_errands),
		cmocka_unit_test(test_quiesce_ends_the_job_that_is_open),
		cmocka_unit_test(test_compaction_moves_objects_and_keeps_contents),
		cmocka_unit_test(test_compaction_passes_over_a_busy_page),
		cmocka_unit_test(test_what_rotted_moves_and_costs_what_it_did),
		cmocka_unit_test(test_relocate_refuses_what_is_not_the_pages_copy),
		cmocka_unit_test(test_background_reduces_slack),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
