/* SPDX-License-Identifier: BSD-2-Clause */
/* region_discard: contents gone, memory and copies free at once, and exactly those that were asked for. */
#include "kinds.h"

static struct world w;

enum { CHUNK = 1 << CHUNK_SHIFT, PAGES = 4 * CHUNK + 100 };
static const struct world_options plain = {.pages = {PAGES}, .check_each = true};

static uint32_t populated(unsigned chunk)
{
	return load_relaxed(&w.only->populated[chunk]);
}

static void assert_none(uint32_t first, uint32_t count)
{
	for (uint32_t page = first; page < first + count; page++) {
		assert_true(word_of(&w, page) == 0);
		assert_false(fake_present(at(&w, page)));
	}
}

/* --- states --- */

static void test_every_kind_of_page(void **state)
{
	(void)state;
	for (unsigned have_uffd = 0; have_uffd < 2; have_uffd++) {
		for (uint32_t kind = 0; kind < KINDS; kind++) {
			world_open(&w, &plain);
			one_of_each(&w);
			assert_int_equal(world_discard(&w, 0, kind, 1, have_uffd), 0);
			assert_none(kind, 1);
			assert_int_equal(populated(0), KINDS - 1 - (kind != NEVER));
			/* The others are as before, this one reads as zeroes. */
			for (uint32_t page = 0; page < KINDS; page++)
				read_page(&w, page);
			world_close(&w);
		}
	}
}

static void test_all_kinds_in_one_window(void **state)
{
	(void)state;
	world_open(&w, &plain);
	one_of_each(&w);
	assert_int_equal(world_discard(&w, 0, 0, KINDS, true), 0);
	assert_none(0, KINDS);
	assert_int_equal(container_charged(w.container), w.packets);
	assert_int_equal(load_relaxed(&w.store.bytes), 0);
	assert_int_equal(populated(0), 0);
	world_close(&w);
}

/* Pages of a job that is open, before and after it has copied them. */
static void test_pages_of_an_open_job(void **state)
{
	const struct world_options small = {.max = 256, .pages = {PAGES}, .check_each = true};

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 249, TEXT);
	reclaim_after_fault(&w.reclaim, w.pager);
	assert_int_equal(word_state(word_of(&w, 1)), PAGE_CLEAN);
	assert_int_equal(word_state(word_of(&w, 2)), PAGE_CLEANING);
	assert_int_equal(world_discard(&w, 0, 1, 3, true), 0);
	assert_none(1, 3);
	evict(&w, 5);
	for (uint32_t page = 0; page < 249; page++)
		read_page(&w, page);
	world_close(&w);
}

/* --- windows --- */

static void populate_all(void)
{
	w.check_each = false;
	for (uint32_t page = 0; page < PAGES; page++)
		world_poke(&w, 0, page, 0, page + 1);
	w.check_each = true;
}

/* Windows that begin and end anywhere: inside a chunk, at its borders, over several. */
static void test_partial_windows_count_exactly(void **state)
{
	static const uint32_t windows[][2] = {
		{0, 1},		{CHUNK - 1, 1},	    {CHUNK, 1},
		{CHUNK - 1, 2}, {3, CHUNK - 5},	    {10, CHUNK},
		{0, CHUNK},	{CHUNK, 2 * CHUNK}, {7, 3 * CHUNK + 11},
		{PAGES - 1, 1}, {PAGES - 120, 120}, {0, PAGES},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(windows); i++) {
		const uint32_t first = windows[i][0], count = windows[i][1];

		world_open(&w, &plain);
		populate_all();
		assert_int_equal(world_discard(&w, 0, first, count, true), 0);
		assert_none(first, count);
		assert_int_equal(resident(&w), PAGES - count);
		for (uint32_t page = 0; page < PAGES; page++)
			assert_true(word_resident(word_of(&w, page)) ==
				    (page < first || page >= first + count));
		/* Again: nothing is counted twice. */
		assert_int_equal(world_discard(&w, 0, first, count, true), 0);
		assert_int_equal(resident(&w), PAGES - count);
		w.check_each = false;
		for (uint32_t page = 0; page < PAGES; page++)
			read_page(&w, page);
		world_close(&w);
	}
}

static void test_nothing_to_discard(void **state)
{
	(void)state;
	world_open(&w, &plain);
	touch(&w, 5, true);
	assert_int_equal(world_discard(&w, 0, 5, 0, true), 0);
	assert_true(fake_present(at(&w, 5)));
	world_close(&w);
}

/* What was never populated costs no call: chunks without pages, and all above the highest page. */
static void test_unpopulated_parts_cost_no_call(void **state)
{
	(void)state;
	world_open(&w, &plain);
	touch(&w, 2, true);
	touch(&w, 2 * CHUNK + 7, true);
	assert_int_equal(world_discard(&w, 0, 0, PAGES, true), 0);
	assert_int_equal(fake_count(FAKE_DISCARD), 2);
	/* Of the second chunk only what is below the highest page. */
	assert_int_equal(fake_units(FAKE_DISCARD), CHUNK + 8);
	assert_int_equal(world_discard(&w, 0, 2 * CHUNK + 8, CHUNK, true), 0);
	assert_int_equal(fake_count(FAKE_DISCARD), 2);
	world_close(&w);
}

/* --- failure --- */

/* The kernel refuses (mlock): the caller is told, and exactly the pages that were not dropped keep their words, their
 * copies and their charge; the others are gone. */
static void test_failed_discard(void **state)
{
	uint64_t before[KINDS];

	(void)state;
	/* Bit i: page i is locked. None: the call fails all the same. */
	for (unsigned locked = 0; locked < 1u << KINDS; locked += locked < 8 ? 1 : 61) {
		world_open(&w, &plain);
		one_of_each(&w);
		w.check_each = false;
		for (uint32_t page = 0; page < KINDS; page++) {
			before[page] = word_of(&w, page);
			fake_lock(at(&w, page), locked >> page & 1);
		}
		if (!locked)
			fake_fail(FAKE_DISCARD, 1, 4, -EINVAL);
		assert_int_equal(region_discard(&w.vm, w.pager, w.only, 0, NEVER),
				 locked & ((1 << NEVER) - 1) || !locked ? -EINVAL : 0);
		for (uint32_t page = 0; page < NEVER; page++) {
			assert_true(word_of(&w, page) ==
				    (locked >> page & 1 ? before[page] : PAGE_NONE));
			if (locked >> page & 1)
				continue;
			memset(content_of(&w, 0, page), 0, PAGE_SIZE);
			w.lost[0][page] = false;
		}
		world_check(&w);
		for (uint32_t page = 0; page < KINDS; page++)
			read_page(&w, page);
		world_close(&w);
	}
}

/* The first window that fails ends the call; those before it are gone. */
static void test_discard_ends_at_the_window_that_fails(void **state)
{
	(void)state;
	world_open(&w, &plain);
	populate_all();
	for (uint32_t page = CHUNK; page < 2 * CHUNK; page++)
		fake_lock(at(&w, page), true);
	assert_int_equal(region_discard(&w.vm, w.pager, w.only, 0, 3 * CHUNK), -EINVAL);
	memset(content_of(&w, 0, 0), 0, (size_t)CHUNK << PAGE_SHIFT);
	world_check(&w);
	assert_int_equal(populated(0), 0);
	assert_int_equal(populated(1), CHUNK);
	assert_int_equal(populated(2), CHUNK);
	world_close(&w);
}

/* --- pins --- */

/* What is pinned stops the one, and nothing of it; the other takes it along with all that lies behind it. */
static void test_pinned_pages(void **state)
{
	(void)state;
	world_open(&w, &plain);
	populate_all();
	assert_int_equal(page_pin(&w.vm, w.only, CHUNK + 3, true), 0);
	assert_int_equal(page_pin(&w.vm, w.only, CHUNK + 3, true), 0);
	assert_int_equal(region_discard(&w.vm, w.pager, w.only, CHUNK, 2 * CHUNK), -EBUSY);
	world_check(&w);
	assert_int_equal(populated(1), CHUNK);
	assert_int_equal(populated(2), CHUNK);
	assert_int_equal(region_discard_pinned(&w.vm, w.only, CHUNK, 2 * CHUNK), 0);
	memset(content_of(&w, 0, CHUNK), 0, (size_t)(2 * CHUNK) << PAGE_SHIFT);
	world_check(&w);
	assert_none(CHUNK, 2 * CHUNK);
	/* Who pinned it lets go of what is not there, or of a page that has come since. */
	page_unpin(&w.vm, w.only, CHUNK + 3);
	assert_none(CHUNK + 3, 1);
	touch(&w, CHUNK + 3, true);
	page_unpin(&w.vm, w.only, CHUNK + 3);
	assert_int_equal(word_pins(word_of(&w, CHUNK + 3)), 0);
	assert_int_equal(word_state(word_of(&w, CHUNK + 3)), PAGE_DIRTY);
	world_check(&w);
	world_close(&w);
}

/* --- beside faults --- */

struct meddling {
	uint32_t page;
	unsigned parked;
};

static void fault_meanwhile(void *data)
{
	struct meddling *m = data;

	/* Present, absent or never touched: every page of the window is busy while it is dropped. */
	for (uint32_t page = 0; page < KINDS; page++) {
		fake_wait(at(&w, page));
		m->parked += world_fault(&w, page, ACCESS_READ) == PAGEIN_PARKED;
	}
}

/* A page that is loaded while the window is dropped must not be caught in it: its fault parks, and is woken after. */
static void test_faults_during_a_discard_park_and_are_woken(void **state)
{
	(void)state;
	for (unsigned have_uffd = 0; have_uffd < 2; have_uffd++) {
		struct meddling m = {0};

		world_open(&w, &plain);
		one_of_each(&w);
		/* So that the page that was never touched is below the highest one. */
		touch(&w, KINDS, true);
		w.check_each = false;
		fake_meanwhile(FAKE_DISCARD, fault_meanwhile, &m);
		assert_int_equal(world_discard(&w, 0, 0, KINDS, have_uffd), 0);
		assert_int_equal(m.parked, KINDS);
		assert_true(load_relaxed(&w.vm.wake_all) == !have_uffd);
		if (!have_uffd)
			background_turns(&w, 1);
		for (uint32_t page = 0; page < KINDS; page++) {
			assert_false(fake_waiting(at(&w, page)));
			read_page(&w, page);
		}
		world_close(&w);
	}
}

static void discard_meanwhile(void *data)
{
	assert_int_equal(world_discard(&w, 0, *(uint32_t *)data, 1, true), 0);
}

/* The page is discarded between the choice of a job and its copy: no copy is made. */
static void test_discard_while_a_job_is_filled(void **state)
{
	uint32_t page = 3;

	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 20, TEXT);
	w.check_each = false;
	fake_meanwhile(FAKE_PROTECT, discard_meanwhile, &page);
	evict(&w, 19);
	world_check(&w);
	assert_none(3, 1);
	assert_int_equal(load_relaxed(&w.memory.objects), 19);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind_of_page),
		cmocka_unit_test(test_all_kinds_in_one_window),
		cmocka_unit_test(test_pages_of_an_open_job),
		cmocka_unit_test(test_partial_windows_count_exactly),
		cmocka_unit_test(test_nothing_to_discard),
		cmocka_unit_test(test_unpopulated_parts_cost_no_call),
		cmocka_unit_test(test_failed_discard),
		cmocka_unit_test(test_discard_ends_at_the_window_that_fails),
		cmocka_unit_test(test_pinned_pages),
		cmocka_unit_test(test_faults_during_a_discard_park_and_are_woken),
		cmocka_unit_test(test_discard_while_a_job_is_filled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
