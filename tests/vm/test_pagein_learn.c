/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pagein: what loads learn of pages, and do the next time. Which are written again, come back soon, or are alone in it.
 */
#include "pagein.h"

/* --- pages that are written again --- */

/* 3 after a write to a clean page; one less with each load that protects it all the same, of which there is one in 64 at first,
 * and then, since none of them is written, all: so it is clean again, and for good at 0. */
static void test_rewritten_counts_down(void **state)
{
	unsigned loads = 0, guarded = 0, left = REWRITTEN_MAX;

	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	read_page(&w, 0);
	assert_int_equal(word_rewritten(word_of(&w, 0)), 0);
	world_poke(&w, 0, 0, 0, 1);
	for (; left > 0; loads++) {
		assert_int_equal(word_rewritten(word_of(&w, 0)), left);
		evict(&w, 1);
		read_page(&w, 0);
		left -= state_of(0) == PAGE_CLEAN;
		assert_int_equal(word_rewritten(word_of(&w, 0)), left);
	}
	assert_int_equal(loads, 64 * REWRITTEN_MAX);
	for (unsigned i = 0; i < 20; i++) {
		evict(&w, 1);
		read_page(&w, 0);
		assert_int_equal(state_of(0), PAGE_CLEAN);
	}
	/* A load for a write is no news: the counter stays as it is. */
	world_poke(&w, 0, 0, 0, 2);
	evict(&w, 1);
	assert_int_equal(touch(&w, 0, true), 1);
	assert_int_equal(word_rewritten(word_of(&w, 0)), REWRITTEN_MAX);
	/* Written again by none of so many, 16 of which are looked at: not believed any more, until that changes. */
	for (unsigned i = 0; i < 64 * 16; i++) {
		for (uint32_t page = 0; page < 4; page++)
			guarded += i >= 64 * 16 - 8 && word_state(word_of(&w, page)) == PAGE_CLEAN;
		evict_all(&w);
		w.region[0]->word[0] |= 3ull << REWRITTEN_SHIFT;
		read_page(&w, 0);
	}
	assert_int_equal(guarded, 8);
	world_close(&w);
}

/* As long as pages that were rewritten are, those come back writable, but for the one in 64 that asks: it takes more than that 16 of these were
 * looked at. */
static void test_rewrites_stay_expected_while_they_come(void **state)
{
	enum { LOADS = 64 * 64 };
	unsigned guarded = 0;

	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	read_page(&w, 0);
	for (unsigned i = 0; i < LOADS; i++) {
		world_poke(&w, 0, 0, 0, i);
		evict(&w, 1);
		read_page(&w, 0);
		guarded += state_of(0) != PAGE_DIRTY;
	}
	assert_int_equal(guarded, LOADS / 64);
	world_close(&w);
}

/* Where nearly all that is loaded for a read is written then, pages come back writable that never were rewritten before. */
static void test_rewrites_are_expected_where_they_rule(void **state)
{
	enum { PAGES = 256 };
	unsigned dirty = 0, soft;

	(void)state;
	world_open(&w, &plain);
	away(PAGES, TEXT);
	for (uint32_t page = 0; page < PAGES / 2; page++) {
		const uint32_t at = page * 2; /* no stream of neighbours */

		read_page(&w, at);
		world_poke(&w, 0, at, 1, page);
	}
	evict_all(&w);
	for (uint32_t page = 1; page < PAGES; page += 2) {
		read_page(&w, page);
		dirty += state_of(page) == PAGE_DIRTY;
	}
	assert_in_range(dirty, PAGES / 2 - PAGES / 16, PAGES / 2 - 1);
	/* And no more when reads alone rule again. */
	for (unsigned i = 0; i < 16; i++) {
		evict_all(&w);
		for (uint32_t page = 1; page < PAGES; page += 2)
			read_page(&w, page);
	}
	soft = (unsigned)load_relaxed(&w.vm.count.soft);
	for (uint32_t page = 1; page < PAGES; page += 2)
		assert_int_equal(state_of(page), PAGE_CLEAN);
	assert_int_equal(load_relaxed(&w.vm.count.soft), soft);
	world_close(&w);
}

/* --- pages of the file that come back soon, or alone --- */

/* A page that comes back from the file sooner than memory would have let it go belongs into memory: it gives its copy
 * up, and is compressed again. One that comes back late stays the file's. Either way its neighbours leave as they came. */
static void test_pages_that_come_back_soon_leave_the_file(void **state)
{
	(void)state;
	for (unsigned late = 0; late < 2; late++) {
		world_open(&w, &plain);
		away(64, NOISE);
		write_all(&w); /* and time passes */
		write_pages(&w, 100, 400, TEXT);
		for (uint32_t page = 0; page < 64; page++)
			read_page(&w, page);
		assert_int_equal(evict_all(&w), 464);
		if (late)
			world_pass(&w, 1);
		read_page(&w, 10);
		assert_int_equal(state_of(10), late ? PAGE_CLEAN : PAGE_GUARDED);
		assert_int_equal(word_kind(word_of(&w, 10)), late ? COPY_FILE : COPY_NONE);
		assert_int_equal(state_of(11), PAGE_CLEAN);
		assert_int_equal(word_kind(word_of(&w, 11)), COPY_FILE);
		evict_all(&w);
		assert_int_equal(word_kind(word_of(&w, 10)), late ? COPY_FILE : COPY_MEMORY);
		read_page(&w, 10);
		world_close(&w);
	}
}

/* The file's neighbours come along, until hardly a fault continues a stream. */
static void test_random_faults_bring_no_neighbours(void **state)
{
	enum { PAGES = 4096 };
	uint32_t page = 0;

	(void)state;
	world_open(&w, &(struct world_options){.pages = {PAGES}, .streams = true});
	away(PAGES, HALF_NOISE);
	write_all(&w);
	read_page(&w, 0);
	assert_true(resident(&w) > 1);
	for (unsigned i = 0; i < 1024; i++) {
		evict_all(&w);
		page = (page * 5 + 1231) % PAGES; /* in no order */
		touch(&w, page, false);
	}
	assert_int_equal(resident(&w), 1);
	/* And again when they do. */
	for (unsigned pass = 0; pass < 8; pass++) {
		evict_all(&w);
		for (page = 0; page < PAGES; page++)
			touch(&w, page, false);
	}
	evict_all(&w);
	touch(&w, 77, false);
	assert_true(resident(&w) > 1);
	world_close(&w);
}

/* --- credits --- */

/* What was away for a limit's worth of evictions or more comes back slowly. */
static void let_time_pass(void)
{
	uint64_t limit_pages = load_relaxed(&w.container->max) >> PAGE_SHIFT;

	add_relaxed(&tenant_of(w.container)->evictions, limit_pages + limit_pages / 64);
}

static void test_grade_and_credit_of_quick_and_slow_returns(void **state)
{
	static const unsigned credits[] = {1, 2, 4, 8, 15, 15};
	static const unsigned grades[] = {1, 2, 3, 4, 5, 5};
	static const unsigned slow_credits[] = {4, 1, 0, 0}, slow_grades[] = {3, 1, 0, 0};

	(void)state;
	world_open(&w, &plain);
	store_relaxed(&tenant_of(w.container)->credit.on, true);
	away(1, TEXT);
	for (unsigned i = 0; i < ARRAY_SIZE(credits); i++) {
		read_page(&w, 0);
		assert_int_equal(word_grade(word_of(&w, 0)), grades[i]);
		assert_int_equal(word_credit(word_of(&w, 0)), credits[i]);
		assert_int_equal(load_relaxed(&w.vm.count.refaults), i + 1);
		assert_int_equal(evict_all(&w), 1);
		assert_int_equal(word_grade(word_of(&w, 0)), grades[i]);
		assert_int_equal(word_credit(word_of(&w, 0)), 0);
	}
	/* Quartered with each slow one, down to none. */
	for (unsigned i = 0; i < ARRAY_SIZE(slow_grades); i++) {
		let_time_pass();
		read_page(&w, 0);
		assert_int_equal(word_grade(word_of(&w, 0)), slow_grades[i]);
		assert_int_equal(word_credit(word_of(&w, 0)), slow_credits[i]);
		assert_int_equal(evict_all(&w), 1);
	}
	assert_int_equal(load_relaxed(&w.vm.count.refaults), ARRAY_SIZE(credits));
	world_close(&w);
}

/* While refaults are not concentrated pages get grades and no credit. A write keeps both. */
static void test_no_credit_while_credits_are_off(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	read_page(&w, 0);
	assert_int_equal(word_grade(word_of(&w, 0)), 1);
	assert_int_equal(word_credit(word_of(&w, 0)), 0);
	evict_all(&w);
	store_relaxed(&tenant_of(w.container)->credit.on, true);
	read_page(&w, 0);
	world_poke(&w, 0, 0, 0, 1);
	assert_int_equal(word_grade(word_of(&w, 0)), 2);
	assert_int_equal(word_credit(word_of(&w, 0)), 2);
	world_close(&w);
}

/* After 4096 loads: on where pages that came back quickly do so again, half as often again as others do. */
static void test_credits_are_switched_by_how_refaults_are_spread(void **state)
{
	struct credit_control *c = &tenant_of(w.container)->credit;
	static const struct {
		uint32_t quick, graded, graded_quick;
		bool on;
	} windows[] = {
		{2000, 1000, 900, true},
		{2000, 1000, 300, false},
		{2000, 1000, 900, true},
		/* Nearly all are quick, and nearly all graded; then as many of both sorts. */
		{3500, 3000, 2900, true},
		{3500, 3000, 2560, false},
		/* Too few of either to tell. */
		{2000, 10, 10, false},
		{4000, 4060, 4000, false},
		/* What a race leaves behind. */
		{10, 5000, 5000, false},
	};

	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	for (unsigned i = 0; i < ARRAY_SIZE(windows); i++) {
		store_relaxed(&c->loads, 4095);
		store_relaxed(&c->quick, windows[i].quick);
		store_relaxed(&c->graded, windows[i].graded);
		store_relaxed(&c->graded_quick, windows[i].graded_quick);
		read_page(&w, 0);
		assert_true(load_relaxed(&c->on) == windows[i].on);
		assert_int_equal(load_relaxed(&c->loads), 0);
		assert_int_equal(load_relaxed(&c->graded_quick), 0);
		evict_all(&w);
	}
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rewritten_counts_down),
		cmocka_unit_test(test_rewrites_stay_expected_while_they_come),
		cmocka_unit_test(test_rewrites_are_expected_where_they_rule),
		cmocka_unit_test(test_pages_that_come_back_soon_leave_the_file),
		cmocka_unit_test(test_random_faults_bring_no_neighbours),
		cmocka_unit_test(test_grade_and_credit_of_quick_and_slow_returns),
		cmocka_unit_test(test_no_credit_while_credits_are_off),
		cmocka_unit_test(test_credits_are_switched_by_how_refaults_are_spread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
