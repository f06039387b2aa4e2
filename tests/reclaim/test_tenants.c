/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Several tenants over the fake: who gives when a limit presses, and whose a page is. The scenarios of the kernel's own
 * memory-controller selftests that need pages: low, high, max, reclaim, swap.max, oom. world_check, after every step,
 * compares each container's usage with the words of its pages.
 */
#include "world.h"

static struct world w;

enum { PAGES = 512 };
static const struct world_options unchecked = {.pages = {PAGES, PAGES}};
static const struct world_options two = {.pages = {PAGES, PAGES}, .check_each = true};

static struct weir_container *tenant(struct weir_container *parent, const char *name)
{
	struct weir_container *c = NULL;

	assert_int_equal(weir_container_create(parent, name, &c), 0);
	return c;
}

/* A region of the world belongs to a container from now on. Nothing of it has been touched. */
static void belongs(unsigned region, struct weir_container *c)
{
	owners_set(&w.region[region]->owners, 0, c);
}

static void write_some(unsigned region, uint32_t first, uint32_t count, enum contents contents)
{
	static _Alignas(4096) char page[4096];

	for (uint32_t i = first; i < first + count; i++) {
		fill_as(page, contents, i + 1);
		world_write(&w, region, i, page);
	}
}

static uint64_t pages_of(struct weir_container *c)
{
	return container_usage(c, CHARGE_RESIDENT) >> PAGE_SHIFT;
}

static struct weir_events events_of(struct weir_container *c)
{
	struct weir_events e;

	weir_container_events(c, 1, &e);
	return e;
}

/* --- limits --- */

/* A tenant at its max pages within itself; its neighbour is not touched. */
static void test_max_is_kept_and_disturbs_nobody(void **state)
{
	struct weir_container *a, *b;

	(void)state;
	world_open(&w, &two);
	a = tenant(w.container, "a");
	b = tenant(w.container, "b");
	belongs(0, a);
	belongs(1, b);
	container_set_max(a, 64 * PAGE_SIZE);
	write_some(1, 0, 100, TEXT);
	write_some(0, 0, 400, FILLED);
	for (uint32_t page = 0; page < 400; page++)
		world_read(&w, 0, page);
	assert_true(container_charged(a) <= 64 * PAGE_SIZE);
	assert_int_equal(weir_container_get(a, WEIR_PEAK), 64 * PAGE_SIZE);
	assert_true(events_of(a).max > 0);
	assert_int_equal(events_of(a).oom, 0);
	assert_int_equal(pages_of(b), 100);
	assert_int_equal(load_relaxed(&b->count[COUNT_STOLEN]), 0);
	world_close(&w);
}

/* At the parent's max the child with low keeps its pages; when the other has none left, it gives, and that is told. */
static void test_low_holds_while_others_can_give(void **state)
{
	struct weir_container *parent, *a, *b;

	(void)state;
	world_open(&w, &two);
	parent = tenant(w.container, "parent");
	a = tenant(parent, "a");
	b = tenant(parent, "b");
	belongs(0, a);
	belongs(1, b);
	container_set_max(parent, 200 * PAGE_SIZE);
	assert_int_equal(weir_container_set(a, WEIR_LOW, 150 * PAGE_SIZE), 0);
	write_some(0, 0, 120, FILLED);
	write_some(1, 0, 400, FILLED);
	assert_int_equal(pages_of(a), 120);
	assert_int_equal(events_of(a).low, 0);
	assert_true(load_relaxed(&b->count[COUNT_STOLEN]) >= 300);
	assert_true(container_charged(parent) <= 200 * PAGE_SIZE);
	/* Now the other has nothing: what is asked for beyond that comes from the protected one. */
	assert_int_equal(world_discard(&w, 1, 0, PAGES, true), 0);
	container_set_max(parent, 64 * PAGE_SIZE);
	write_some(1, 0, 1, FILLED);
	assert_true(pages_of(a) < 120);
	assert_true(events_of(a).low > 0);
	world_close(&w);
}

/* Of two without a promise, the larger gives: they end alike. */
static void test_who_has_more_gives(void **state)
{
	struct weir_container *a, *b;

	(void)state;
	world_open(&w, &two);
	container_set_max(w.container, 300 * PAGE_SIZE);
	a = tenant(w.container, "a");
	b = tenant(w.container, "b");
	belongs(0, a);
	belongs(1, b);
	write_some(0, 0, 250, FILLED);
	write_some(1, 0, 250, FILLED);
	assert_in_range(pages_of(a), 120, 170);
	assert_in_range(pages_of(b), 120, 170);
	world_close(&w);
}

/* Above high a tenant works for itself before each page, and never fails. */
static void test_high_throttles(void **state)
{
	struct weir_container *a;

	(void)state;
	world_open(&w, &two);
	a = tenant(w.container, "a");
	belongs(0, a);
	assert_int_equal(weir_container_set(a, WEIR_HIGH, 64 * PAGE_SIZE), 0);
	write_some(0, 0, 300, FILLED);
	assert_true(weir_container_get(a, WEIR_PEAK) <= 65 * PAGE_SIZE);
	assert_true(events_of(a).high > 0);
	assert_int_equal(events_of(a).max, 0);
	world_close(&w);
}

static void test_reclaim_on_demand(void **state)
{
	struct weir_container *a, *b;

	(void)state;
	world_open(&w, &two);
	a = tenant(w.container, "a");
	b = tenant(w.container, "b");
	belongs(0, a);
	belongs(1, b);
	write_some(0, 0, 200, FILLED);
	write_some(1, 0, 50, FILLED);
	assert_true(reclaim_give(&w.reclaim, a, 60 * PAGE_SIZE) >= 60 * PAGE_SIZE);
	assert_int_equal(pages_of(b), 50);
	/* More than there is. */
	assert_true(reclaim_give(&w.reclaim, a, 4000 * PAGE_SIZE) < 4000 * PAGE_SIZE);
	assert_int_equal(container_charged(a), 0);
	assert_int_equal(pages_of(b), 50);
	world_close(&w);
}

/* Pages of a tenant without swap stay out of the file, also while its neighbour's are written. */
static void test_swap_max_keeps_pages_in_memory(void **state)
{
	struct weir_container *a, *b;

	(void)state;
	world_open(&w, &two);
	a = tenant(w.container, "a");
	b = tenant(w.container, "b");
	belongs(0, a);
	belongs(1, b);
	assert_int_equal(weir_container_set(a, WEIR_SWAP_MAX, 3 * 4096), 0);
	write_some(0, 0, 100, TEXT);
	write_some(1, 0, 100, TEXT);
	evict_all(&w);
	assert_true(write_all(&w) >= 100);
	assert_true(weir_container_get(a, WEIR_SWAP_CURRENT) <= 3 * 4096);
	assert_true(weir_container_get(b, WEIR_SWAP_CURRENT) >= 100 * 512);
	assert_true(events_of(a).swap_max > 0);
	assert_int_equal(events_of(b).swap_max, 0);
	world_check(&w);
	world_close(&w);
}

/* A disk that fails: the charge for the file is given back with the batch, and the event told. */
static void test_a_failed_write_uncharges_swap(void **state)
{
	struct weir_container *a;

	(void)state;
	world_open(&w, &two);
	a = tenant(w.container, "a");
	belongs(0, a);
	write_some(0, 0, 64, TEXT);
	evict_all(&w);
	fake_fail(FAKE_FILE_WRITE, 1, 0, -EIO);
	assert_int_equal(write_until_failure(&w), -EIO);
	assert_int_equal(weir_container_get(a, WEIR_SWAP_CURRENT), 0);
	assert_int_equal(events_of(a).swap_fail, 64);
	assert_int_equal(events_of(a).swap_max, 0);
	world_check(&w);
	world_close(&w);
}

/* The page that no longer fits the batch is somebody else's: who pays for those in it stays who paid. Pages without a copy
 * in memory keep batches from ending where the hand pauses. */
static void test_a_full_batch_keeps_its_payers(void **state)
{
	enum { OWNERS = 3 };
	struct weir_container *c[OWNERS];
	uint64_t failed = 0;

	(void)state;
	world_open(&w, &two);
	for (unsigned i = 0; i < OWNERS; i++) {
		c[i] = tenant(w.container, (const char *[]){"a", "b", "c"}[i]);
		owners_set(&w.only->owners, i, c[i]);
	}
	for (uint32_t page = 0; page < 4 * FILE_BATCH; page++) {
		store_relaxed(&w.only->owners.current, page % OWNERS);
		write_some(0, page, 1, page % FILE_BATCH < 10 ? FILLED : TEXT);
	}
	evict_all(&w);
	fake_fail(FAKE_FILE_WRITE, 1, 0, -EIO);
	assert_int_equal(write_until_failure(&w), -EIO);
	for (unsigned i = 0; i < OWNERS; i++) {
		assert_int_equal(weir_container_get(c[i], WEIR_SWAP_CURRENT), 0);
		failed += events_of(c[i]).swap_fail;
	}
	assert_int_equal(failed, FILE_BATCH);
	world_close(&w);
}

/* --- charges that fail --- */

/* A first touch that the limit refuses is SIGBUS: nothing is charged, and discarding makes the page a page again. */
static void test_a_first_touch_that_is_refused(void **state)
{
	struct weir_container *a;

	(void)state;
	world_open(&w, &unchecked);
	a = tenant(w.container, "a");
	belongs(0, a);
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
	struct weir_container *a;

	(void)state;
	world_open(&w, &unchecked);
	a = tenant(w.container, "a");
	belongs(0, a);
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
	struct weir_container *a;

	(void)state;
	world_open(&w, &two);
	a = tenant(w.container, "a");
	belongs(0, a);
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

/* --- pages that change hands --- */

static void take_over(unsigned region, struct weir_container *c)
{
	int slot = region_owner_slot(w.region[region], c);

	assert_true(slot >= 0);
	owners_set(&w.region[region]->owners, (unsigned)slot, c);
	store_relaxed(&w.region[region]->owners.current, (uint32_t)slot);
}

/* Later: pages stay where they were charged until they come in anew; kept copies of the old owner are let go. */
static void test_a_region_that_moves_later(void **state)
{
	struct weir_container *a, *b;

	(void)state;
	world_open(&w, &two);
	a = tenant(w.container, "a");
	b = tenant(w.container, "b");
	belongs(0, a);
	write_some(0, 0, 20, TEXT);
	evict_all(&w);
	write_some(0, 20, 10, TEXT);
	take_over(0, b);
	assert_int_equal(pages_of(a), 10);
	for (uint32_t page = 0; page < 5; page++)
		world_read(&w, 0, page);
	assert_int_equal(pages_of(a), 10);
	assert_int_equal(pages_of(b), 5);
	assert_int_equal(container_usage(b, CHARGE_COMPRESSED), 0);
	write_some(0, 40, 2, TEXT);
	assert_int_equal(pages_of(b), 7);
	assert_int_equal(world_discard(&w, 0, 0, PAGES, true), 0);
	assert_int_equal(container_charged(a), 0);
	assert_int_equal(container_charged(b), 0);
	world_close(&w);
}

/* Now: pages, copies in memory and in the file go over; the common parent sees nothing of it. */
static void test_a_region_that_moves_with_its_pages(void **state)
{
	struct weir_container *a, *b;
	uint64_t all, swap;

	(void)state;
	world_open(&w, &two);
	a = tenant(w.container, "a");
	b = tenant(w.container, "b");
	belongs(0, a);
	write_some(0, 0, 20, TEXT);
	evict_all(&w);
	assert_int_equal(write_all(&w), 20);
	write_some(0, 20, 20, TEXT);
	evict_all(&w);
	write_some(0, 40, 20, TEXT);
	all = container_charged(w.container);
	assert_int_equal(weir_container_set(w.container, WEIR_PEAK, 0), 0);
	swap = weir_container_get(a, WEIR_SWAP_CURRENT);
	take_over(0, b);
	assert_int_equal(region_transfer(&w.vm, w.region[0]), 0);
	world_check(&w);
	assert_int_equal(container_charged(a), 0);
	assert_int_equal(weir_container_get(a, WEIR_SWAP_CURRENT), 0);
	assert_int_equal(container_charged(b), all);
	assert_int_equal(weir_container_get(b, WEIR_SWAP_CURRENT), swap);
	assert_int_equal(container_charged(w.container), all);
	assert_int_equal(weir_container_get(w.container, WEIR_PEAK), all);
	for (uint32_t page = 0; page < 60; page++)
		world_read(&w, 0, page);
	world_close(&w);
}

/* What does not fit stays, whole: no page is half the one's and half the other's. */
static void test_a_move_that_does_not_fit(void **state)
{
	struct weir_container *a, *b;

	(void)state;
	world_open(&w, &two);
	a = tenant(w.container, "a");
	b = tenant(w.container, "b");
	belongs(0, a);
	write_some(0, 0, 10, TEXT);
	evict_all(&w);
	for (uint32_t page = 0; page < 10; page++)
		world_read(&w, 0, page);
	assert_true(container_usage(a, CHARGE_COMPRESSED) > 0);
	/* Room for pages, and in the end for one without its copy. */
	container_set_max(b, 3 * PAGE_SIZE);
	take_over(0, b);
	assert_int_equal(region_transfer(&w.vm, w.region[0]), -ENOMEM);
	world_check(&w);
	assert_in_range(pages_of(b), 1, 2);
	assert_int_equal(pages_of(a) + pages_of(b), 10);
	/* A full swap refuses as well. */
	evict_all(&w);
	assert_true(write_all(&w) > 0);
	container_set_max(b, MIB(64));
	assert_int_equal(weir_container_set(b, WEIR_SWAP_MAX, 512), 0);
	assert_int_equal(region_transfer(&w.vm, w.region[0]), -ENOMEM);
	world_check(&w);
	world_close(&w);
}

/* Sixteen owners, and no more until pages are moved. */
static void test_sixteen_owners(void **state)
{
	struct weir_container *c[OWNERS_MAX + 1];
	char name[8];

	(void)state;
	world_open(&w, &two);
	for (unsigned i = 0; i <= OWNERS_MAX; i++) {
		(void)snprintf(name, sizeof(name), "c%u", i);
		c[i] = tenant(w.container, name);
	}
	/* The root has the first slot, and a page. */
	write_some(0, 0, 1, FILLED);
	for (unsigned i = 1; i < OWNERS_MAX; i++) {
		take_over(0, c[i]);
		write_some(0, i, 1, FILLED);
	}
	assert_int_equal(region_owner_slot(w.region[0], c[OWNERS_MAX]), -ENOSPC);
	assert_int_equal(region_owner_slot(w.region[0], c[3]), 3);
	assert_int_equal(region_transfer(&w.vm, w.region[0]), 0);
	take_over(0, c[OWNERS_MAX]);
	write_some(0, 20, 1, FILLED);
	assert_int_equal(pages_of(c[OWNERS_MAX]), 1);
	assert_int_equal(pages_of(c[OWNERS_MAX - 1]), OWNERS_MAX);
	world_close(&w);
}

/* Deleting: the pages are the parent's, with one store a region and none a page. */
static void test_delete_reparents_pages(void **state)
{
	struct weir_container *a, *b;
	uint64_t all;

	(void)state;
	world_open(&w, &two);
	a = tenant(w.container, "a");
	b = tenant(a, "b");
	belongs(0, b);
	write_some(0, 0, 30, TEXT);
	evict_all(&w);
	write_some(0, 30, 30, TEXT);
	all = container_charged(a);
	owners_reparent(&w.region[0]->owners, b);
	assert_int_equal(weir_container_delete(b), 0);
	world_check(&w);
	assert_int_equal(container_charged(a), all);
	assert_int_equal(pages_of(a), 30);
	for (uint32_t page = 0; page < 60; page++)
		world_read(&w, 0, page);
	world_close(&w);
}

static void test_stat_counts_what_the_words_say(void **state)
{
	struct weir_container_stat stat = {.size = sizeof(stat)};
	struct weir_container *a;

	(void)state;
	world_open(&w, &two);
	a = tenant(w.container, "a");
	belongs(0, a);
	write_some(0, 0, 20, TEXT);
	evict_all(&w);
	assert_int_equal(write_all(&w), 20);
	write_some(0, 20, 20, TEXT);
	evict_all(&w);
	for (uint32_t page = 20; page < 25; page++)
		world_read(&w, 0, page);
	write_some(0, 60, 7, TEXT);
	assert_int_equal(weir_container_stat(a, &stat), 0);
	region_stat(&w.vm, w.region[0], a, &stat);
	region_stat(&w.vm, w.region[1], a, &stat);
	assert_int_equal(stat.anon, 12 * PAGE_SIZE);
	assert_int_equal(stat.active + stat.inactive, stat.anon);
	assert_int_equal(stat.stored, 20 * PAGE_SIZE);
	assert_int_equal(stat.compressed_pages, 20 * PAGE_SIZE);
	assert_true(stat.swapcache > 0 && stat.swapcache < stat.compressed);
	assert_int_equal(stat.major_faults, 5);
	assert_int_equal(stat.stolen, 40);
	stat.size = 4;
	assert_int_equal(weir_container_stat(a, &stat), -EINVAL);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_max_is_kept_and_disturbs_nobody),
		cmocka_unit_test(test_low_holds_while_others_can_give),
		cmocka_unit_test(test_who_has_more_gives),
		cmocka_unit_test(test_high_throttles),
		cmocka_unit_test(test_reclaim_on_demand),
		cmocka_unit_test(test_swap_max_keeps_pages_in_memory),
		cmocka_unit_test(test_a_failed_write_uncharges_swap),
		cmocka_unit_test(test_a_full_batch_keeps_its_payers),
		cmocka_unit_test(test_a_first_touch_that_is_refused),
		cmocka_unit_test(test_a_page_with_contents_goes_over),
		cmocka_unit_test(test_a_failed_install_uncharges),
		cmocka_unit_test(test_create_without_memory),
		cmocka_unit_test(test_a_region_that_moves_later),
		cmocka_unit_test(test_a_region_that_moves_with_its_pages),
		cmocka_unit_test(test_a_move_that_does_not_fit),
		cmocka_unit_test(test_sixteen_owners),
		cmocka_unit_test(test_delete_reparents_pages),
		cmocka_unit_test(test_stat_counts_what_the_words_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
