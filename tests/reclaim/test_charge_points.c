/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every point at which memory is charged or uncharged on the way of a page, made to fail over the fake: nothing leaks, that is
 * counters, copies, frames and busy bits are as world_check says they must be, and the page has its contents. The
 * list of all points is in docs/architecture.md.
 */
#include "tenants.h"
#include "store/filestore.h"

#include "../frames.h"
#include "control/stock.h"

static const struct world_options unchecked = {.pages = {PAGES, PAGES}};

/* --- a page comes in --- */

/* A first touch that the limit refuses is SIGBUS: nothing is charged, and discarding makes the page a page again. */
static void test_a_first_touch_that_is_refused(void **state)
{
	(void)state;
	open_tenants(&unchecked, 1);
	container_set_max(a, 16 * PAGE_SIZE);
	/* Memory of the program's own, that reclaim cannot take. */
	assert_int_equal(charge_bytes(a, 16 * PAGE_SIZE), 0);
	assert_int_equal(fake_touch(page_address(w.region[0], 3), true), TOUCH_MISSING);
	assert_int_equal(world_fault(&w, 3, ACCESS_WRITE), PAGEIN_DONE);
	assert_int_equal(fake_touch(page_address(w.region[0], 3), true), TOUCH_SIGBUS);
	assert_true(word_of(&w, 3) == PAGE_POISONED);
	assert_int_equal(events_of(a).oom, 1);
	assert_int_equal(container_charged(a), 16 * PAGE_SIZE);
	assert_true(world_said("container 'a' is out of memory: max 64K, in use 64K"));
	uncharge_bytes(a, 16 * PAGE_SIZE);
	assert_int_equal(world_discard(&w, 0, 3, 1, true), 0);
	world_read(&w, 0, 3);
	world_close(&w);
}

/* One that has contents comes back over the limit rather than be lost, and is counted. */
static void test_a_page_with_contents_goes_over(void **state)
{
	(void)state;
	open_tenants(&unchecked, 1);
	write_some(0, 0, 4, FILLED);
	evict_all(&w);
	container_set_max(a, 16 * PAGE_SIZE);
	/* Memory of the program's own, that reclaim cannot take. */
	assert_int_equal(charge_bytes(a, 16 * PAGE_SIZE), 0);
	world_read(&w, 0, 1);
	assert_int_equal(load_relaxed(&a->count[COUNT_OVER_MAX]), 1);
	assert_int_equal(container_charged(a), 17 * PAGE_SIZE);
	uncharge_bytes(a, 16 * PAGE_SIZE);
	world_close(&w);
}

/* The system has no memory for the page: the charge is given back, and the thread woken to try again. */
static void test_a_failed_install_uncharges(void **state)
{
	(void)state;
	open_tenants(&two, 1);
	fake_fail(FAKE_COPY, 1, 0, -ENOMEM);
	assert_int_equal(fake_touch(page_address(w.region[0], 0), true), TOUCH_MISSING);
	assert_int_equal(world_fault(&w, 0, ACCESS_WRITE), PAGEIN_RETRY);
	assert_int_equal(container_charged(a), 0);
	world_check(&w);
	world_close(&w);
}

static void test_create_without_memory(void **state)
{
	struct weir_container *c = NULL;

	(void)state;
	world_open(&w, &two);
	fake_fail(FAKE_ALLOC, 1, 0, -ENOMEM);
	assert_int_equal(weir_container_create(w.container, "a", &c), -ENOMEM);
	assert_null(c);
	assert_null(w.container->child);
	c = tenant(w.container, "a");
	world_close(&w);
}

/* Absent pages of each kind, for which the system has no memory just then: the charge is given back, the copy stays. */
static void test_a_failed_load_uncharges(void **state)
{
	static const enum contents contents[] = {TEXT, FILLED, TEXT};
	uint64_t charged, swap;

	(void)state;
	open_tenants(&two, 1);
	write_some(0, 2, 1, contents[2]);
	evict_all(&w);
	assert_int_equal(write_all(&w), 1);
	for (uint32_t page = 0; page < 2; page++)
		write_some(0, page, 1, contents[page]);
	evict_all(&w);
	charged = container_charged(a);
	swap = weir_container_get(a, WEIR_SWAP_CURRENT);
	assert_true(charged > 0 && swap > 0);
	for (uint32_t page = 0; page < 3; page++) {
		fake_fail(FAKE_COPY, 1, 0, -ENOMEM);
		assert_int_equal(fake_touch(at(&w, page), true), TOUCH_MISSING);
		assert_int_equal(world_fault(&w, page, ACCESS_WRITE), PAGEIN_RETRY);
		assert_int_equal(container_charged(a), charged);
		assert_int_equal(weir_container_get(a, WEIR_SWAP_CURRENT), swap);
		world_check(&w);
	}
	for (uint32_t page = 0; page < 3; page++)
		world_read(&w, 0, page);
	world_close(&w);
}

/* A copy that rotted, in memory and in the file: page and copy are uncharged with the page that is lost. */
static void test_a_page_that_is_lost_uncharges(void **state)
{
	size_t bytes;

	(void)state;
	open_tenants(&two, 1);
	write_some(0, 0, 1, TEXT);
	evict_all(&w);
	assert_int_equal(write_all(&w), 1);
	write_some(0, 1, 1, TEXT);
	evict_all(&w);
	compressed_object(&w.memory, word_location(word_of(&w, 1)))->packed[3] ^= 1;
	(fake_file(&bytes) + (size_t)(word_location(word_of(&w, 0)) >> FILE_UNITS_SHIFT) *
				     w.store.unit)[sizeof(struct object) + 3] ^= 1;
	w.lost[0][0] = w.lost[0][1] = true;
	world_read(&w, 0, 0);
	assert_int_equal(weir_container_get(a, WEIR_SWAP_CURRENT), 0);
	world_read(&w, 0, 1);
	assert_true(fake_poisoned(at(&w, 0)) && fake_poisoned(at(&w, 1)));
	assert_int_equal(container_charged(a), 0);
	assert_int_equal(world_discard(&w, 0, 0, 2, true), 0);
	world_close(&w);
}

/* A first write to a same-filled page pays for a page; to forget such a page gives nothing back, as it cost nothing. */
static void test_same_filled_pages(void **state)
{
	(void)state;
	open_tenants(&two, 1);
	write_some(0, 0, 20, FILLED);
	evict_all(&w);
	assert_int_equal(container_charged(a), 0);
	assert_int_equal(world_discard(&w, 0, 10, 10, true), 0);
	assert_int_equal(container_charged(a), 0);
	write_some(0, 0, 5, NOISE);
	assert_int_equal(container_charged(a), 5 * PAGE_SIZE);
	/* None to be had: the page has contents, and comes over the limit. */
	assert_int_equal(charge_bytes(a, 17 * PAGE_SIZE), 0);
	w.own = 17 * PAGE_SIZE;
	assert_int_equal(weir_container_set(a, WEIR_MAX, 16 * PAGE_SIZE), -EAGAIN);
	write_some(0, 5, 1, NOISE);
	assert_true(load_relaxed(&a->count[COUNT_OVER_MAX]) > 0);
	uncharge_bytes(a, 17 * PAGE_SIZE);
	w.own = 0;
	world_close(&w);
}

/* Neighbours that a stream would bring come as far as the limit allows, and never ask for room. */
static void test_neighbours_stop_at_the_limit(void **state)
{
	static const struct world_options streams = {
		.pages = {PAGES, PAGES}, .check_each = true, .streams = true};
	uint64_t stolen;

	(void)state;
	open_tenants(&streams, 1);
	write_some(0, 0, 200, FILLED);
	evict_all(&w);
	stolen = load_relaxed(&a->count[COUNT_STOLEN]);
	/* Eleven pages of room: the third fault of a stream wants four, the fourth eight. */
	assert_int_equal(charge_bytes(a, 53 * PAGE_SIZE), 0);
	w.own = 53 * PAGE_SIZE;
	container_set_max(a, 64 * PAGE_SIZE);
	for (uint32_t page = 0; page < 11; page++)
		world_read(&w, 0, page);
	assert_int_equal(pages_of(a), 11);
	assert_int_equal(container_charged(a), 64 * PAGE_SIZE);
	assert_true(load_relaxed(&w.vm.count.ahead) > 4);
	assert_int_equal(events_of(a).max, 0);
	assert_int_equal(load_relaxed(&a->count[COUNT_STOLEN]), stolen);
	uncharge_bytes(a, 53 * PAGE_SIZE);
	w.own = 0;
	world_close(&w);
}

/* Before a fork all comes in, over the limit; what cannot be installed at first is charged once all the same. */
static void test_a_fork_charges_over_the_limit(void **state)
{
	(void)state;
	open_tenants(&two, 1);
	write_some(0, 0, 60, FILLED);
	evict_all(&w);
	container_set_max(a, 16 * PAGE_SIZE);
	fake_fail(FAKE_COPY, 3, 0, -ENOMEM);
	assert_int_equal(vm_bring_in(&w.vm, w.pager), 0);
	assert_int_equal(container_charged(a), 60 * PAGE_SIZE);
	world_check(&w);
	world_close(&w);
}

/* --- a page goes out --- */

/* No frame for a copy: the page stays, dirty, and no copy is charged. */
static void test_a_copy_without_a_frame_charges_nothing(void **state)
{
	(void)state;
	open_tenants(&two, 1);
	write_some(0, 0, 30, NOISE);
	frames_leave(w.pool, 0);
	w.not_ours = frames_used(w.pool);
	assert_int_equal(reclaim_once(&w.reclaim, w.pager), 0);
	assert_int_equal(container_charged(a), 30 * PAGE_SIZE);
	assert_int_equal(container_usage(a, CHARGE_COMPRESSED), 0);
	assert_int_equal(pages_of(a), 30);
	world_check(&w);
	world_close(&w);
}

/* A write to a clean page lets its copy go; where protection cannot be taken off that is seen at the next fault. */
static void test_a_write_uncharges_the_copy(void **state)
{
	(void)state;
	open_tenants(&two, 1);
	write_some(0, 0, 1, TEXT);
	evict_all(&w);
	world_read(&w, 0, 0);
	assert_true(container_usage(a, CHARGE_COMPRESSED) > 0);
	fake_fail(FAKE_UNPROTECT, 1, 0, -EAGAIN);
	assert_int_equal(fake_touch(at(&w, 0), true), TOUCH_PROTECTED);
	(void)world_fault(&w, 0, ACCESS_WP);
	world_check(&w);
	write_some(0, 0, 1, TEXT);
	assert_int_equal(container_charged(a), PAGE_SIZE);
	world_close(&w);
}

/* Pages that cannot be dropped stay charged, to the page; what was dropped is not. */
static void test_a_failed_drop_keeps_the_charge(void **state)
{
	(void)state;
	open_tenants(&two, 1);
	write_some(0, 0, 8, FILLED);
	fake_lock(at(&w, 3), true);
	(void)reclaim_once(&w.reclaim, w.pager);
	assert_int_equal(pages_of(a), 1);
	assert_int_equal(container_charged(a), PAGE_SIZE);
	fake_lock(at(&w, 3), false);
	world_check(&w);
	world_close(&w);
}

/* --- threads --- */

/* No memory for a stock: the thread charges the counters. */
static void test_a_thread_without_a_stock(void **state)
{
	(void)state;
	open_tenants(&two, 1);
	fake_fail(FAKE_ALLOC, 1, 0, -ENOMEM);
	assert_int_equal(stock_open(), -ENOMEM);
	assert_int_equal(weir_charge_bound(a), 0);
	write_some(0, 0, 3, FILLED);
	assert_int_equal(container_charged(a), 3 * PAGE_SIZE);
	assert_int_equal(stock_open(), 0);
	assert_int_equal(charge_bytes(a, PAGE_SIZE), 0);
	assert_true(container_charged(a) > 4 * PAGE_SIZE);
	uncharge_bytes(a, PAGE_SIZE);
	stock_close();
	assert_int_equal(container_charged(a), 3 * PAGE_SIZE);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_first_touch_that_is_refused),
		cmocka_unit_test(test_a_page_with_contents_goes_over),
		cmocka_unit_test(test_a_failed_install_uncharges),
		cmocka_unit_test(test_create_without_memory),
		cmocka_unit_test(test_a_failed_load_uncharges),
		cmocka_unit_test(test_a_page_that_is_lost_uncharges),
		cmocka_unit_test(test_same_filled_pages),
		cmocka_unit_test(test_neighbours_stop_at_the_limit),
		cmocka_unit_test(test_a_fork_charges_over_the_limit),
		cmocka_unit_test(test_a_copy_without_a_frame_charges_nothing),
		cmocka_unit_test(test_a_write_uncharges_the_copy),
		cmocka_unit_test(test_a_failed_drop_keeps_the_charge),
		cmocka_unit_test(test_a_thread_without_a_stock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
