/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What copies may take: when it follows what faults cost, and what is counted for that. Where it goes then is tested in
 * tests/vm/test_share.c.
 */
#include "world.h"

static struct world w;

enum { MAX = 512, PAGES = 2048 };
#define BOUND (512 * 1024ull)
static const struct world_options plain = {.max = MAX, .pages = {PAGES}};

static struct share_control *control(void)
{
	return &tenant_of(w.container)->share;
}

static unsigned cut(void)
{
	return load_relaxed(&control()->cut);
}

/* Pages 0 to 255 are in the file, then 256 to 511 compressed. */
static void open_with_file(void)
{
	world_open(&w, &plain);
	write_pages(&w, 0, 256, TEXT);
	while (resident(&w))
		evict_all(&w);
	assert_int_equal(write_all(&w), 256);
	write_pages(&w, 256, 256, TEXT);
	while (resident(&w))
		evict_all(&w);
	store_relaxed(&w.vm.memory_share, BOUND);
	share_follow(&w.reclaim);
	assert_true(load_relaxed(&control()->on));
}

/* A look behind loads that tell of nothing but pages that had left just before. */
static void look(void)
{
	for (unsigned i = 0; i < SHARE_LOADS; i++)
		share_note(control(), SHARE_MEMORY, 0, false);
	share_took(control(), SHARE_MEMORY, 1, 10000);
	share_follow(&w.reclaim);
}

static void assert_follows(void)
{
	/* First an age has to be found that few of the copies have. */
	for (unsigned i = 0; i < 8 && !cut(); i++)
		look();
	for (unsigned i = 0; i < 4; i++) {
		const unsigned before = cut();

		look();
		assert_true(cut() > before);
		assert_int_equal(reclaim_share(&w.reclaim, w.container), share_bytes(BOUND, cut()));
	}
}

static void assert_stays(void)
{
	for (unsigned i = 0; i < 8; i++) {
		look();
	}
	assert_int_equal(cut(), 0);
	assert_int_equal(reclaim_share(&w.reclaim, w.container), load_relaxed(&w.vm.memory_share));
}

static void test_follows_once_there_is_a_file(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 64, TEXT);
	evict_all(&w);
	share_follow(&w.reclaim);
	assert_false(load_relaxed(&control()->on));
	assert_stays();
	world_close(&w);
	open_with_file();
	assert_follows();
	/* It ends with what was in the file. */
	assert_int_equal(world_discard(&w, 0, 0, PAGES, true), 0);
	share_follow(&w.reclaim);
	assert_int_equal(cut(), 0);
	assert_false(load_relaxed(&control()->on));
	world_close(&w);
}

static void test_what_was_said_is_fixed(void **state)
{
	(void)state;
	open_with_file();
	w.vm.share_fixed = true;
	share_follow(&w.reclaim);
	assert_false(load_relaxed(&control()->on));
	assert_stays();
	world_close(&w);
}

/* While copies are more than they may be, there is nothing to learn: they are on their way out. */
static void test_waits_until_a_step_is_taken_up(void **state)
{
	(void)state;
	open_with_file();
	assert_follows();
	const unsigned before = cut();

	store_relaxed(&w.vm.memory_share, compressed(&w) / 2);
	for (unsigned i = 0; i < 8; i++) {
		look();
	}
	assert_int_equal(cut(), before);
	/* What goes to the file is what is beyond the share. */
	while (writeback_once(&w.reclaim) > 0)
		;
	assert_true(compressed(&w) <= reclaim_share(&w.reclaim, w.container));
	look();
	assert_true(cut() > before);
	world_close(&w);
}

static void test_loads_are_counted_by_what_they_were(void **state)
{
	(void)state;
	open_with_file();
	store_relaxed(&control()->old, 200);
	/* Of the file, whose pages left long ago; of memory just now; and the oldest of those. */
	read_page(&w, 0);
	assert_int_equal(load_relaxed(&control()->loads[SHARE_FILE]), 1);
	assert_int_equal(load_relaxed(&control()->soon[SHARE_FILE]), 0);
	evict_all(&w);
	read_page(&w, 0);
	assert_int_equal(load_relaxed(&control()->soon[SHARE_FILE]) +
				 load_relaxed(&control()->soon[SHARE_MEMORY]),
			 1);
	read_page(&w, 511);
	assert_int_equal(load_relaxed(&control()->oldest), 0);
	world_pass(&w, 1);
	read_page(&w, 256);
	assert_int_equal(load_relaxed(&control()->oldest), 1);
	assert_int_equal(load_relaxed(&control()->loads[SHARE_MEMORY]) +
				 load_relaxed(&control()->loads[SHARE_FILE]),
			 4);
	/* A first touch is none. */
	write_pages(&w, 600, 1, TEXT);
	assert_int_equal(load_relaxed(&control()->loads[SHARE_MEMORY]) +
				 load_relaxed(&control()->loads[SHARE_FILE]),
			 4);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_follows_once_there_is_a_file),
		cmocka_unit_test(test_what_was_said_is_fixed),
		cmocka_unit_test(test_waits_until_a_step_is_taken_up),
		cmocka_unit_test(test_loads_are_counted_by_what_they_were),
	};

	return cmocka_run_group_tests_name("share", tests, NULL, NULL);
}
