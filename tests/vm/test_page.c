/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page word, and every transition of the diagram in vm/page.h by its name. What each one does to the kernel's
 * page, the copy and the charge is asserted by world_check after each step.
 */
#include "one_world.h"

/* A limit at which jobs are of 8 pages, and a job can be stopped between its steps (see job_open and job_half). */
enum { LIMIT = 256, HIGH = 240, MIDDLE = 248, JOB = 8 };
static const struct world_options small = {.max = LIMIT, .pages = {512}, .check_each = true};

/* Just above the high mark: reclaim_after_fault chooses a job, pages 0 to 7, and does not work on it. */
static void job_open(void)
{
	write_pages(&w, 0, HIGH + 1, TEXT);
	assert_int_equal(resident(&w), HIGH + 1);
	reclaim_after_fault(&w.reclaim, w.pager);
}

/* Nearer to the limit it works on two of them. */
static void job_half(void)
{
	write_pages(&w, 0, MIDDLE + 1, TEXT);
	reclaim_after_fault(&w.reclaim, w.pager);
}

/* --- the word --- */

static void test_fields_do_not_overlap(void **state)
{
	const uint64_t copy = word_copy(COPY_FILE, 0x89abcdef);
	const uint64_t x = copy | PAGE_ABSENT | 3ull << REWRITTEN_SHIFT | 5ull << GRADE_SHIFT |
			   9ull << OWNER_SHIFT | (uint64_t)STAMP_MASK << STAMP_SHIFT;
	const uint64_t here = PAGE_DIRTY | 15ull << CREDIT_SHIFT;

	(void)state;
	assert_false(x & (WORD_BUSY | WORD_PARKED | WORD_WRITEBACK));
	assert_int_equal(word_state(x), PAGE_ABSENT);
	assert_int_equal(word_rewritten(x), 3);
	assert_int_equal(word_kind(x), COPY_FILE);
	assert_int_equal(word_grade(x), 5);
	assert_int_equal(word_owner(x), 9);
	/* Credit and stamp have one place: a page is here or away. */
	assert_int_equal(word_credit(x), 0);
	assert_int_equal(word_credit(here), 15);
	assert_false(here & (WORD_WRITEBACK | word_copy(COPY_FILE, UINT32_MAX)));
	assert_int_equal(word_stamp(x), STAMP_MASK);
	assert_int_equal(word_location(x), 0x89abcdef);
	assert_true(word_copy_of(x | WORD_WRITEBACK | WORD_BUSY | WORD_PARKED) == copy);
	assert_true(word_history(x) ==
		    (3ull << REWRITTEN_SHIFT | 5ull << GRADE_SHIFT | 9ull << OWNER_SHIFT));
	assert_true(word_with_state(x, PAGE_NONE) == (x & ~WORD_STATE));
	for (unsigned bit = 0; bit < 64; bit++) {
		const uint64_t one = 1ull << bit;
		unsigned fields = (one & WORD_STATE) != 0;

		fields += one == WORD_BUSY || one == WORD_PARKED || one == WORD_WRITEBACK;
		fields += word_rewritten(one) || word_kind(one) || word_grade(one);
		fields += word_owner(one) || word_stamp(one) || word_location(one);
		assert_int_equal(fields, 1);
	}
}

static void test_states_with_memory(void **state)
{
	(void)state;
	for (unsigned s = PAGE_NONE; s <= PAGE_GUARDED; s++)
		assert_int_equal(word_resident(s), s == PAGE_DIRTY || s == PAGE_CLEANING ||
							   s == PAGE_CLEAN || s == PAGE_GUARDED);
}

/* The busy bit is taken by one; who fails learns the word that stands there. */
static void test_page_lock(void **state)
{
	page_word_t word = PAGE_DIRTY;
	uint64_t mine = PAGE_DIRTY, theirs = PAGE_DIRTY, stale = PAGE_CLEAN;

	(void)state;
	assert_false(page_lock(&word, &stale));
	assert_true(stale == PAGE_DIRTY);
	assert_true(page_lock(&word, &mine));
	assert_true(mine == PAGE_DIRTY);
	assert_false(page_lock(&word, &theirs));
	assert_true(theirs == (PAGE_DIRTY | WORD_BUSY));
}

/* The new word never brings BUSY or PARKED with it; nobody is woken where nobody is parked. */
static void test_page_unlock(void **state)
{
	uint64_t x;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 1, TEXT);
	x = page_lock_wait(&w.only->word[0]);
	page_unlock(&w.vm, w.only, 0, x | WORD_BUSY | WORD_PARKED, true);
	assert_true(word_of(&w, 0) == x);
	assert_int_equal(fake_count(FAKE_WAKE), 0);
	world_close(&w);
}

/* A fault on a busy page parks and does not wait; who clears the bit wakes it. */
static void test_parked_fault_is_woken_by_page_unlock(void **state)
{
	uint64_t x;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 1, TEXT);
	evict(&w, 1);
	x = page_lock_wait(&w.only->word[0]);
	assert_int_equal(fake_touch(at(&w, 0), false), TOUCH_MISSING);
	assert_int_equal(world_fault(&w, 0, ACCESS_READ), PAGEIN_PARKED);
	assert_true(word_of(&w, 0) & WORD_PARKED);
	assert_true(fake_waiting(at(&w, 0)));
	assert_int_equal(load_relaxed(&w.vm.count.parked), 1);
	assert_int_equal(resident(&w), 0);
	page_unlock(&w.vm, w.only, 0, x, true);
	assert_false(fake_waiting(at(&w, 0)));
	assert_false(word_of(&w, 0) & WORD_PARKED);
	read_page(&w, 0);
	world_close(&w);
}

/* A thread without the userfaultfd cannot wake: the background thread does it for all regions. */
static void test_parked_fault_is_woken_for_a_thread_without_the_descriptor(void **state)
{
	static const struct world_options two = {.max = LIMIT, .pages = {16, 16}};
	uint64_t x;

	(void)state;
	world_open(&w, &two);
	world_touch(&w, 1, 3, true);
	x = page_lock_wait(&w.region[1]->word[3]);
	fake_wait(page_address(w.region[1], 3));
	assert_int_equal(pagein(&w.vm, w.pager, w.region[1], 3, ACCESS_WP), PAGEIN_PARKED);
	page_unlock(&w.vm, w.region[1], 3, x, false);
	assert_true(load_relaxed(&w.vm.wake_all));
	assert_true(fake_waiting(page_address(w.region[1], 3)));
	background_turns(&w, 1);
	assert_false(load_relaxed(&w.vm.wake_all));
	assert_false(fake_waiting(page_address(w.region[1], 3)));
	/* Once is enough. */
	x = fake_count(FAKE_WAKE);
	background_turns(&w, 2);
	assert_int_equal(fake_count(FAKE_WAKE), x);
	world_close(&w);
}

/* Nobody is parked: nothing to do for the background thread. */
static void test_unlock_without_descriptor_asks_for_nothing_when_nobody_is_parked(void **state)
{
	uint64_t x;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 1, TEXT);
	x = page_lock_wait(&w.only->word[0]);
	page_unlock(&w.vm, w.only, 0, x, false);
	assert_false(load_relaxed(&w.vm.wake_all));
	world_close(&w);
}

/* --- transitions --- */

static void test_none_to_dirty_by_load(void **state)
{
	(void)state;
	world_open(&w, &small);
	for (unsigned write = 0; write < 2; write++) {
		uint32_t page = 100 * write + 7;

		assert_int_equal(touch(&w, page, write), 1);
		assert_true(word_of(&w, page) == PAGE_DIRTY);
		assert_false(fake_protected(at(&w, page)));
		read_page(&w, page);
	}
	assert_int_equal(resident(&w), 2);
	assert_int_equal(load_relaxed(&w.vm.count.first), 2);
	assert_int_equal(load_relaxed(&w.only->top), 108);
	world_close(&w);
}

static void test_dirty_to_cleaning_by_job_fill(void **state)
{
	(void)state;
	world_open(&w, &small);
	job_open();
	for (uint32_t page = 0; page <= JOB; page++) {
		assert_int_equal(state_of(page), page < JOB ? PAGE_CLEANING : PAGE_DIRTY);
		assert_true(fake_protected(at(&w, page)) == (page < JOB));
		/* Readable all the while. */
		assert_int_equal(fake_touch(at(&w, page), false), TOUCH_DONE);
	}
	assert_int_equal(compressed(&w), 0);
	assert_int_equal(fake_count(FAKE_PROTECT), 1);
	evict(&w, JOB);
	world_close(&w);
}

static void test_cleaning_to_dirty_by_make_writable(void **state)
{
	(void)state;
	world_open(&w, &small);
	job_open();
	world_poke(&w, 0, 3, 5, 1);
	assert_true(word_of(&w, 3) == PAGE_DIRTY);
	assert_false(fake_protected(at(&w, 3)));
	evict(&w, JOB - 1);
	assert_true(word_of(&w, 3) == PAGE_DIRTY);
	assert_int_equal(load_relaxed(&w.vm.count.packed_in), (JOB - 1) << PAGE_SHIFT);
	for (uint32_t page = 0; page < JOB; page++)
		read_page(&w, page);
	world_close(&w);
}

static void test_cleaning_to_clean_by_job_clean(void **state)
{
	(void)state;
	world_open(&w, &small);
	job_half();
	for (uint32_t page = 0; page < JOB; page++) {
		assert_int_equal(state_of(page), page < 2 ? PAGE_CLEAN : PAGE_CLEANING);
		assert_int_equal(word_kind(word_of(&w, page)), page < 2 ? COPY_MEMORY : COPY_NONE);
		assert_true(fake_protected(at(&w, page)));
	}
	assert_true(compressed(&w) > 0);
	assert_int_equal(resident(&w), MIDDLE + 1);
	evict(&w, JOB);
	world_close(&w);
}

static void test_cleaning_to_dirty_without_room_for_the_copy(void **state)
{
	const struct world_options tiny = {
		.max = LIMIT, .pages = {256}, .free_frames = 64, .check_each = true};
	unsigned kept = 0, dropped;

	(void)state;
	world_open(&w, &tiny);
	write_pages(&w, 0, 128, NOISE);
	dropped = evict_all(&w);
	assert_true(dropped > 0 && dropped < 64);
	for (uint32_t page = 0; page < 128; page++)
		kept += state_of(page) == PAGE_DIRTY;
	assert_int_equal(kept, 128 - dropped);
	assert_int_equal(resident(&w), kept);
	for (uint32_t page = 0; page < 128; page++)
		read_page(&w, page);
	world_close(&w);
}

static void test_cleaning_to_dirty_by_job_abandon(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 20, TEXT);
	fake_fail(FAKE_PROTECT, 1, 0, -ENOMEM);
	evict(&w, 0);
	for (uint32_t page = 0; page < 20; page++)
		assert_true(word_of(&w, page) == PAGE_DIRTY);
	assert_int_equal(load_relaxed(&w.reclaim.state), 0);
	assert_int_equal(fake_count(FAKE_DROP), 0);
	assert_int_equal(evict_all(&w), 20);
	world_close(&w);
}

static void pin_page_3(void *data)
{
	(void)data;
	assert_int_equal(state_of(3), PAGE_CLEANING);
	assert_int_equal(page_pin(&w.vm, w.only, 3, true), 0);
}

/* Who pins a page to write to it does not wait for a job, not for one that has ended either: that may have left it as it is, without
 * protection, and no touch makes it dirty then. */
static void test_cleaning_to_dirty_by_page_pin(void **state)
{
	(void)state;
	for (unsigned later = 0; later < 2; later++) {
		world_open(&w, &small);
		write_pages(&w, 0, 20, TEXT);
		w.check_each = false;
		if (later) {
			store_relaxed(&w.only->word[3],
				      word_with_state(word_of(&w, 3), PAGE_CLEANING));
			pin_page_3(NULL);
		} else {
			fake_meanwhile(FAKE_PROTECT, pin_page_3, NULL);
		}
		assert_true(evict_all(&w) >= 19);
		assert_int_equal(state_of(3), PAGE_DIRTY);
		assert_int_equal(word_pins(word_of(&w, 3)), 1);
		assert_true(fake_present(at(&w, 3)));
		world_poke(&w, 0, 3, 5, 77);
		page_unpin(&w.vm, w.only, 3);
		world_check(&w);
		assert_int_equal(evict_all(&w), 1);
		for (uint32_t page = 0; page < 20; page++)
			read_page(&w, page);
		world_close(&w);
	}
}

static void test_clean_to_absent_by_job_drop(void **state)
{
	(void)state;
	world_open(&w, &small);
	job_half();
	add_relaxed(&tenant_of(w.container)->evictions, 5);
	evict(&w, JOB);
	for (uint32_t page = 0; page < JOB; page++) {
		assert_int_equal(state_of(page), PAGE_ABSENT);
		assert_int_equal(word_stamp(word_of(&w, page)), JOB + 5);
		assert_false(fake_present(at(&w, page)));
	}
	assert_int_equal(resident(&w), MIDDLE + 1 - JOB);
	assert_int_equal(load_relaxed(&w.vm.count.moved_out), JOB);
	assert_int_equal(load_relaxed(&tenant_of(w.container)->evictions), JOB + 5);
	world_close(&w);
}

static void test_absent_to_clean_by_load(void **state)
{
	uint64_t copy;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 1, TEXT);
	evict(&w, 1);
	copy = word_copy_of(word_of(&w, 0));
	assert_int_equal(touch(&w, 0, false), 1);
	assert_int_equal(state_of(0), PAGE_CLEAN);
	assert_true(word_copy_of(word_of(&w, 0)) == copy);
	assert_true(fake_protected(at(&w, 0)));
	read_page(&w, 0);
	world_close(&w);
}

static void test_absent_to_dirty_by_load_for_a_write(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 1, TEXT);
	evict(&w, 1);
	/* One fault, not two: it comes back writable. */
	assert_int_equal(touch(&w, 0, true), 1);
	assert_int_equal(state_of(0), PAGE_DIRTY);
	assert_false(fake_protected(at(&w, 0)));
	assert_int_equal(compressed(&w), 0);
	read_page(&w, 0);
	world_close(&w);
}

static void test_absent_to_dirty_by_load_that_believes(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 1, TEXT);
	evict(&w, 1);
	read_page(&w, 0);
	world_poke(&w, 0, 0, 1, 2);
	assert_int_equal(word_rewritten(word_of(&w, 0)), REWRITTEN_MAX);
	evict(&w, 1);
	read_page(&w, 0);
	assert_int_equal(state_of(0), PAGE_DIRTY);
	assert_int_equal(word_rewritten(word_of(&w, 0)), REWRITTEN_MAX);
	assert_false(fake_protected(at(&w, 0)));
	world_close(&w);
}

static void test_clean_to_dirty_by_make_writable(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 1, TEXT);
	evict(&w, 1);
	read_page(&w, 0);
	assert_true(compressed(&w) > 0);
	assert_int_equal(touch(&w, 0, true), 1);
	assert_int_equal(state_of(0), PAGE_DIRTY);
	assert_int_equal(compressed(&w), 0);
	assert_false(fake_protected(at(&w, 0)));
	world_close(&w);
}

/* In writeback.c, when nothing can be written: the page stays protected, and a write to it faults once. */
static void test_clean_to_guarded_by_copy_give_up(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 2, TEXT);
	evict(&w, 2);
	read_page(&w, 0);
	fake_disk(0);
	assert_int_equal(write_until_failure(&w), -ENOSPC);
	assert_int_equal(state_of(0), PAGE_GUARDED);
	assert_int_equal(state_of(1), PAGE_ABSENT);
	assert_true(fake_protected(at(&w, 0)));
	assert_int_equal(touch(&w, 0, true), 1);
	assert_int_equal(state_of(0), PAGE_DIRTY);
	assert_int_equal(touch(&w, 0, true), 0);
	world_close(&w);
}

/* A copy that is not kept leaves a page that is protected: between victims it does not stand in the way of one call for all. */
static void test_absent_to_guarded_by_load(void **state)
{
	enum { PAGES = 2 * JOB };
	unsigned calls;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, PAGES, NOISE);
	assert_int_equal(evict_all(&w), PAGES);
	for (uint32_t page = 0; page < PAGES; page++) {
		read_page(&w, page);
		assert_int_equal(state_of(page), PAGE_GUARDED);
		assert_int_equal(word_kind(word_of(&w, page)), COPY_NONE);
		assert_true(fake_protected(at(&w, page)));
	}
	w.region[0]->word[1] |= 1ull << CREDIT_SHIFT;
	calls = fake_count(FAKE_PROTECT);
	assert_int_equal(job_fill(&w.reclaim, w.container), true);
	assert_int_equal(state_of(1), PAGE_GUARDED);
	assert_int_equal(fake_count(FAKE_PROTECT), calls + 1);
	assert_int_equal(evict_all(&w), PAGES);
	for (uint32_t page = 0; page < PAGES; page++)
		read_page(&w, page);
	/* A write makes it dirty. */
	assert_int_equal(touch(&w, 0, true), 1);
	assert_int_equal(state_of(0), PAGE_DIRTY);
	world_close(&w);
}

static void test_absent_to_poisoned_by_load(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 1, TEXT);
	evict(&w, 1);
	compressed_object(&w.memory, word_location(word_of(&w, 0)))->packed[0] ^= 1;
	w.lost[0][0] = true;
	touch(&w, 0, false);
	assert_true(word_of(&w, 0) == PAGE_POISONED);
	assert_int_equal(fake_touch(at(&w, 0), true), TOUCH_SIGBUS);
	assert_int_equal(resident(&w), 0);
	assert_int_equal(compressed(&w), 0);
	world_close(&w);
}

static void test_every_state_to_none_by_discard(void **state)
{
	(void)state;
	world_open(&w, &small);
	/* Pages 0 and 1 CLEAN, 2 to 7 CLEANING, the others DIRTY. */
	job_half();
	for (uint32_t page = 0; page < 10; page++)
		assert_int_equal(world_discard(&w, 0, page, 1, page & 1), 0);
	/* Nothing of the job is left, and it ends. */
	evict(&w, 0);
	assert_int_equal(load_relaxed(&w.reclaim.state), 0);
	assert_int_equal(compressed(&w), 0);
	/* In memory, same-filled, in the file, and poisoned. */
	world_discard(&w, 0, 0, 512, true);
	write_pages(&w, 0, 2, TEXT);
	evict_all(&w);
	assert_int_equal(write_all(&w), 2);
	write_pages(&w, 3, 2, TEXT);
	write_pages(&w, 5, 1, FILLED);
	evict_all(&w);
	assert_int_equal(word_kind(word_of(&w, 0)), COPY_FILE);
	compressed_object(&w.memory, word_location(word_of(&w, 3)))->packed[0] ^= 1;
	w.lost[0][3] = true;
	touch(&w, 3, false);
	assert_int_equal(state_of(3), PAGE_POISONED);
	assert_int_equal(word_kind(word_of(&w, 4)), COPY_MEMORY);
	assert_int_equal(word_kind(word_of(&w, 5)), COPY_FILLED);
	for (uint32_t page = 0; page < 6; page++)
		assert_int_equal(world_discard(&w, 0, page, 1, true), 0);
	for (uint32_t page = 0; page < 512; page++)
		assert_true(word_of(&w, page) == PAGE_NONE);
	assert_int_equal(container_charged(w.container), w.packets);
	for (uint32_t page = 0; page < 6; page++)
		read_page(&w, page);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields_do_not_overlap),
		cmocka_unit_test(test_states_with_memory),
		cmocka_unit_test(test_page_lock),
		cmocka_unit_test(test_page_unlock),
		cmocka_unit_test(test_parked_fault_is_woken_by_page_unlock),
		cmocka_unit_test(test_parked_fault_is_woken_for_a_thread_without_the_descriptor),
		cmocka_unit_test(
			test_unlock_without_descriptor_asks_for_nothing_when_nobody_is_parked),
		cmocka_unit_test(test_none_to_dirty_by_load),
		cmocka_unit_test(test_dirty_to_cleaning_by_job_fill),
		cmocka_unit_test(test_cleaning_to_dirty_by_make_writable),
		cmocka_unit_test(test_cleaning_to_clean_by_job_clean),
		cmocka_unit_test(test_cleaning_to_dirty_without_room_for_the_copy),
		cmocka_unit_test(test_cleaning_to_dirty_by_job_abandon),
		cmocka_unit_test(test_cleaning_to_dirty_by_page_pin),
		cmocka_unit_test(test_clean_to_absent_by_job_drop),
		cmocka_unit_test(test_absent_to_clean_by_load),
		cmocka_unit_test(test_absent_to_dirty_by_load_for_a_write),
		cmocka_unit_test(test_absent_to_dirty_by_load_that_believes),
		cmocka_unit_test(test_clean_to_dirty_by_make_writable),
		cmocka_unit_test(test_clean_to_guarded_by_copy_give_up),
		cmocka_unit_test(test_absent_to_guarded_by_load),
		cmocka_unit_test(test_absent_to_poisoned_by_load),
		cmocka_unit_test(test_every_state_to_none_by_discard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
