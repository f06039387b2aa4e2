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

/* A tenant that is at its max, nearly, by copies. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_touches_do_not_get_past_max),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
