/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A tenant's max, where its pages are all copies and only writing makes room: first touches do not get past it, and none is
 * refused while writing only pauses.
 */
#include "tenants.h"

#include "control/stock.h"

/* 1024 pages is the least max at which a thread has a stock. */
enum { MAX_PAGES = 1024, MANY = 4096, JOB = MAX_PAGES / 32 };
static const struct world_options many = {.pages = {MANY}};
static uint32_t next; /* the first page that has not been touched */

/* Copies of these take about 45 % of a page: a job makes room, so nobody waits for the file before copies are all there is. */
static void write_next(void)
{
	static _Alignas(4096) char page[4096];

	fill_noise(page, next + 1);
	memset(page + 1760, 7, sizeof(page) - 1760);
	world_write(&w, 0, next++, page);
}

/* A fault of the program's, served by a handler. */
static void first_touch(void)
{
	w.pager->container = NULL;
	write_next();
	reclaim_after_fault(&w.reclaim, w.pager);
}

/* A tenant that is at its max, to less than a page, by copies. */
static void open_full_of_copies(void)
{
	open_tenants(&many, 1);
	next = 0;
	while (container_charged(a) < (MAX_PAGES - 1) * PAGE_SIZE) {
		write_next();
		assert_int_equal(reclaim_once(&w.reclaim, w.pager), 1);
	}
	container_set_max(a, MAX_PAGES * PAGE_SIZE);
	assert_int_equal(load_relaxed(&a->batch), 2 * PAGE_SIZE);
	assert_int_equal(pages_of(a), 0);
}

/* What the background thread does, at the moments when a fault waits for it. */
static void write_at_yield(void *data)
{
	(void)data;
	if (write_paused(&w.reclaim))
		return;
	(void)writeback_once(&w.reclaim);
	(void)writeback_land(&w.reclaim, true);
}

/* --- first touches --- */

/*
 * The background thread is at something else, but for faults that wait for it. A handler pays for a touch from its stock, and frees
 * the page at once, by a copy that is charged by force: what the page had paid must not be what the next touch is paid from.
 */
static void test_first_touches_do_not_get_past_max(void **state)
{
	(void)state;
	open_full_of_copies();
	assert_int_equal(stock_open(), 0);
	fake_on_yield(write_at_yield, NULL);
	while (next < MANY) {
		first_touch();
		assert_true(container_charged(a) <= (MAX_PAGES + JOB) * PAGE_SIZE);
	}
	/* It came to what it is about. */
	assert_true(events_of(a).max > 0);
	assert_int_equal(events_of(a).oom, 0);
	assert_int_equal(load_relaxed(&a->count[COUNT_OVER_MAX]), 0);
	assert_true(load_relaxed(&w.vm.count.written) > 0);
	stock_close();
	world_close(&w);
}

/* --- what cannot be written just now --- */

static uint64_t over_max(void)
{
	return load_relaxed(&a->count[COUNT_OVER_MAX]);
}

static void fail_a_write(void)
{
	fake_fail(FAKE_FILE_WRITE, 1, 0, -EIO);
	assert_int_equal(writeback_of(&w.reclaim, a), -EIO);
	assert_true(write_paused(&w.reclaim));
}

/* The next first touch: is it refused? */
static bool refused(void)
{
	const uint64_t oom = events_of(a).oom;
	const uint32_t page = next++;

	w.pager->container = NULL;
	(void)world_touch(&w, 0, page, true);
	if (!fake_poisoned(page_address(w.only, page)))
		return false;
	assert_int_equal(events_of(a).oom, oom + 1);
	return true;
}

static void time_goes_by(void *data)
{
	fake_time_pass(1000000);
	write_at_yield(data);
}

/* A batch that could not be written: the touch waits until it is time for the next one, and there is room then. */
static void test_a_touch_waits_while_writing_pauses(void **state)
{
	(void)state;
	open_full_of_copies();
	assert_int_equal(store_open(&w.store), 0);
	fail_a_write();
	fake_on_yield(time_goes_by, NULL);
	for (unsigned i = 0; i < 4; i++)
		first_touch();
	assert_int_equal(events_of(a).oom, 0);
	assert_int_equal(over_max(), 0);
	assert_true(load_relaxed(&w.vm.count.written) > 0);
	assert_true(container_charged(a) <= (MAX_PAGES + JOB) * PAGE_SIZE);
	world_close(&w);
}

/* A pause that does not end while it waits: it goes over max, by itself. */
static void test_a_touch_goes_over_max_before_it_is_refused(void **state)
{
	const uint64_t before = now_ns();

	(void)state;
	open_full_of_copies();
	assert_int_equal(store_open(&w.store), 0);
	fail_a_write();
	fake_on_yield(write_at_yield, NULL);
	for (unsigned i = 0; i < 4; i++)
		first_touch();
	assert_int_equal(now_ns(), before);
	assert_int_equal(events_of(a).oom, 0);
	assert_in_range(over_max(), 1, 4);
	assert_int_equal(load_relaxed(&w.vm.count.written), 0);
	world_close(&w);
}

/* Writes that have failed for so long that they are tried once a second: nothing will change soon. */
static void test_a_touch_is_refused_when_writing_has_failed_for_long(void **state)
{
	(void)state;
	open_full_of_copies();
	assert_int_equal(store_open(&w.store), 0);
	for (unsigned i = 0; i < 7; i++) {
		fail_a_write();
		assert_true(write_resumes(&w.reclaim));
	}
	fail_a_write();
	assert_false(write_resumes(&w.reclaim));
	fake_on_yield(write_at_yield, NULL);
	assert_true(refused());
	assert_int_equal(over_max(), 0);
	world_close(&w);
}

/* Where swap.max is what keeps copies in memory, the end of a pause changes nothing. */
static void test_a_touch_is_refused_where_nothing_may_be_written(void **state)
{
	(void)state;
	open_full_of_copies();
	assert_int_equal(store_open(&w.store), 0);
	fail_a_write();
	assert_int_equal(weir_container_set(a, WEIR_SWAP_MAX, 0), 0);
	assert_true(refused());
	world_close(&w);
}

/* A store is being emptied, which the background thread is at: others go over max meanwhile, and it does not wait for itself. */
static void test_a_touch_is_not_refused_while_a_store_is_emptied(void **state)
{
	(void)state;
	open_full_of_copies();
	store_relaxed(&w.reclaim.write_closed, true);
	fake_on_yield(write_at_yield, NULL);
	for (unsigned i = 0; i < 4; i++)
		first_touch();
	assert_int_equal(events_of(a).oom, 0);
	assert_in_range(over_max(), 1, 4);
	assert_int_equal(reclaim_make_room(&w.reclaim, w.reclaim.pager, a, PAGE_SIZE), ROOM_NEVER);
	store_relaxed(&w.reclaim.write_closed, false);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_touches_do_not_get_past_max),
		cmocka_unit_test(test_a_touch_waits_while_writing_pauses),
		cmocka_unit_test(test_a_touch_goes_over_max_before_it_is_refused),
		cmocka_unit_test(test_a_touch_is_refused_when_writing_has_failed_for_long),
		cmocka_unit_test(test_a_touch_is_refused_where_nothing_may_be_written),
		cmocka_unit_test(test_a_touch_is_not_refused_while_a_store_is_emptied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
