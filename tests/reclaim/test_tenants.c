/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Several tenants over the fake: who gives when a limit presses, and whose a page is. The scenarios of the kernel's own
 * memory-controller selftests that need pages: low, high, max, reclaim, swap.max, oom. world_check, after every step,
 * compares each container's usage with the words of its pages.
 */
#include "tenants.h"

/* --- limits --- */

/* A tenant at its max pages within itself; its neighbour is not touched. */
static void test_max_is_kept_and_disturbs_nobody(void **state)
{
	(void)state;
	open_tenants(&two, 2);
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
	struct weir_container *parent;

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

/* Of a subtree that was promised less than its children were, each keeps its share of that; who was promised nothing gives all. */
static void test_low_of_a_subtree_is_shared_out(void **state)
{
	static const struct world_options four = {.pages = {PAGES, PAGES, PAGES, 1024}};
	static const struct {
		const char *name;
		uint64_t low;
	} children[] = {{"c", 300}, {"d", 100}, {"e", 0}};
	struct weir_container *parent, *c[3], *hog;

	(void)state;
	world_open(&w, &four);
	parent = tenant(w.container, "parent");
	hog = tenant(w.container, "hog");
	assert_int_equal(weir_container_set(parent, WEIR_LOW, 200 * PAGE_SIZE), 0);
	for (unsigned i = 0; i < 3; i++) {
		c[i] = tenant(parent, children[i].name);
		belongs(i, c[i]);
		assert_int_equal(weir_container_set(c[i], WEIR_LOW, children[i].low * PAGE_SIZE),
				 0);
		write_some(i, 0, 200, FILLED);
	}
	belongs(3, hog);
	container_set_max(w.container, 1000 * PAGE_SIZE + w.packets);
	assert_int_equal(weir_container_set(hog, WEIR_LOW, 800 * PAGE_SIZE), 0);
	write_some(3, 0, 800, FILLED);
	assert_int_equal(pages_of(hog), 800);
	/* As the kernel's own: of 50 MiB for both one keeps 29 and the other 21; here a MiB is four pages. */
	assert_in_range(pages_of(c[0]), 116 - 8, 116 + 8);
	assert_in_range(pages_of(c[1]), 84 - 8, 84 + 8);
	assert_int_equal(pages_of(c[2]), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(events_of(c[i]).low, 0);
	world_close(&w);
}

/* Lowered below what there is, max and high reclaim at once; of more than can go the caller is told, and the limit stays. */
static void test_lowering_reclaims_at_once(void **state)
{
	(void)state;
	open_tenants(&two, 2);
	write_some(0, 0, 200, FILLED);
	write_some(1, 0, 50, FILLED);
	assert_int_equal(weir_container_set(a, WEIR_MAX, 100 * PAGE_SIZE), 0);
	assert_in_range(pages_of(a), 50, 100);
	assert_int_equal(weir_container_set(a, WEIR_HIGH, 40 * PAGE_SIZE), 0);
	assert_in_range(pages_of(a), 10, 40);
	assert_int_equal(pages_of(b), 50);
	/* All of its pages, and it is still more. */
	assert_int_equal(charge_bytes(a, 20 * PAGE_SIZE), 0);
	w.own = 20 * PAGE_SIZE;
	assert_int_equal(weir_container_set(a, WEIR_MAX, 10 * PAGE_SIZE), -EAGAIN);
	assert_int_equal(weir_container_get(a, WEIR_MAX), 10 * PAGE_SIZE);
	assert_int_equal(container_charged(a), 20 * PAGE_SIZE);
	uncharge_bytes(a, 20 * PAGE_SIZE);
	w.own = 0;
	world_close(&w);
}

/* Of two without a promise, the larger gives: they end alike. */
static void test_who_has_more_gives(void **state)
{
	(void)state;
	open_tenants(&two, 2);
	container_set_max(w.container, 300 * PAGE_SIZE);
	write_some(0, 0, 250, FILLED);
	write_some(1, 0, 250, FILLED);
	assert_in_range(pages_of(a), 120, 170);
	assert_in_range(pages_of(b), 120, 170);
	world_close(&w);
}

/* The larger has nothing that can go, since all of it is pinned: then the other gives, and the limit is kept. */
static void test_who_cannot_give_is_passed_over(void **state)
{
	(void)state;
	open_tenants(&two, 2);
	container_set_max(w.container, 300 * PAGE_SIZE);
	write_some(0, 0, 160, FILLED);
	for (uint32_t page = 0; page < 160; page++)
		assert_int_equal(page_pin(&w.vm, w.region[0], page, false), 0);
	write_some(1, 0, 400, FILLED);
	assert_int_equal(pages_of(a), 160);
	assert_true(container_charged(w.container) <= 300 * PAGE_SIZE);
	assert_int_equal(load_relaxed(&w.container->count[COUNT_OVER_MAX]), 0);
	for (uint32_t page = 0; page < 160; page++)
		page_unpin(&w.vm, w.region[0], page);
	/* It gives again, once others have nothing. */
	assert_int_equal(world_discard(&w, 1, 0, PAGES, true), 0);
	container_set_max(w.container, 64 * PAGE_SIZE + w.packets);
	write_some(1, 0, 8, FILLED);
	assert_true(pages_of(a) < 64);
	world_close(&w);
}

/* When nobody has a claim left, for want of pages that can go, all are asked anew: what can go by then does. */
static void test_claims_come_back(void **state)
{
	(void)state;
	open_tenants(&two, 2);
	write_some(0, 0, 40, FILLED);
	for (uint32_t page = 0; page < 40; page++)
		assert_int_equal(page_pin(&w.vm, w.region[0], page, false), 0);
	for (unsigned i = 0; i < 40; i++)
		assert_false(reclaim_take(&w.reclaim, w.pager, a));
	for (uint32_t page = 0; page < 40; page++)
		page_unpin(&w.vm, w.region[0], page);
	assert_null(reclaim_choose(&w.reclaim, w.container, CHOOSE_ANY));
	assert_ptr_equal(reclaim_choose(&w.reclaim, w.container, CHOOSE_ANY), a);
	world_close(&w);
}

/* A page that does not become smaller stays as it is where swap.max lets none go to the file: its copy would only take more. */
static void test_swap_max_and_pages_that_do_not_compress(void **state)
{
	(void)state;
	open_tenants(&two, 1);
	assert_int_equal(weir_container_set(a, WEIR_SWAP_MAX, 0), 0);
	write_some(0, 0, 100, NOISE);
	evict_all(&w);
	assert_int_equal(pages_of(a), 100);
	assert_int_equal(container_usage(a, CHARGE_COMPRESSED), 0);
	world_close(&w);
}

/* Copies that swap.max keeps in memory: nobody waits until they are written, and what others have can be. */
static void test_what_swap_max_keeps_is_not_over_a_share(void **state)
{
	(void)state;
	open_tenants(&two, 2);
	assert_int_equal(weir_container_set(a, WEIR_SWAP_MAX, 0), 0);
	write_some(0, 0, 200, TEXT);
	write_some(1, 0, 4, TEXT);
	evict_all(&w);
	store_relaxed(&w.vm.memory_share, 1);
	assert_ptr_equal(reclaim_over_share(&w.reclaim), w.container);
	assert_true(write_all(&w) >= 4);
	assert_int_equal(container_usage(b, CHARGE_COMPRESSED), 0);
	assert_null(reclaim_over_share(&w.reclaim));
	/* More than there may be, for good: it comes in all the same, by force, and not all that is there is made a copy before. */
	write_some(0, 200, 150, TEXT);
	container_set_max(w.container, 16 * PAGE_SIZE);
	assert_int_equal(reclaim_make_room(&w.reclaim, w.pager, w.container, PAGE_SIZE),
			 ROOM_LATER);
	assert_true(pages_of(a) >= 50);
	for (uint32_t page = 0; page < 200; page++)
		world_read(&w, 0, page);
	assert_int_equal(weir_container_set(a, WEIR_SWAP_MAX, WEIR_NO_LIMIT), 0);
	assert_non_null(reclaim_over_share(&w.reclaim));
	world_close(&w);
}

/* Above high a tenant works for itself before each page, and never fails. */
static void test_high_throttles(void **state)
{
	(void)state;
	open_tenants(&two, 1);
	assert_int_equal(weir_container_set(a, WEIR_HIGH, 64 * PAGE_SIZE), 0);
	write_some(0, 0, 300, FILLED);
	assert_true(weir_container_get(a, WEIR_PEAK) <= 65 * PAGE_SIZE);
	assert_true(events_of(a).high > 0);
	assert_int_equal(events_of(a).max, 0);
	world_close(&w);
}

static void test_reclaim_on_demand(void **state)
{
	(void)state;
	open_tenants(&two, 2);
	write_some(0, 0, 200, FILLED);
	write_some(1, 0, 50, FILLED);
	assert_int_equal(weir_container_reclaim(a, 60 * PAGE_SIZE), 0);
	assert_in_range(pages_of(a), 100, 140);
	assert_int_equal(pages_of(b), 50);
	/* More than there is: all of it. */
	assert_int_equal(weir_container_reclaim(a, UINT64_MAX), -EAGAIN);
	assert_int_equal(container_charged(a), 0);
	assert_int_equal(pages_of(b), 50);
	world_close(&w);
}

/* Pages of a tenant without swap stay out of the file, also while its neighbour's are written. */
static void test_swap_max_keeps_pages_in_memory(void **state)
{
	(void)state;
	open_tenants(&two, 2);
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
	(void)state;
	open_tenants(&two, 1);
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

/* --- pages that change hands --- */

/* Later: pages stay where they were charged until they come in anew; kept copies of the old owner are let go. */
static void test_a_region_that_moves_later(void **state)
{
	(void)state;
	open_tenants(&two, 2);
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
	uint64_t all, swap;

	(void)state;
	open_tenants(&two, 2);
	write_some(0, 0, 20, TEXT);
	evict_all(&w);
	assert_int_equal(write_all(&w), 20);
	write_some(0, 20, 20, TEXT);
	evict_all(&w);
	write_some(0, 40, 20, TEXT);
	all = container_charged(w.container) - w.packets;
	assert_int_equal(weir_container_set(w.container, WEIR_PEAK, 0), 0);
	swap = weir_container_get(a, WEIR_SWAP_CURRENT);
	take_over(0, b);
	assert_int_equal(region_transfer(&w.vm, w.region[0]), 0);
	world_check(&w);
	assert_int_equal(container_charged(a), 0);
	assert_int_equal(weir_container_get(a, WEIR_SWAP_CURRENT), 0);
	assert_int_equal(container_charged(b), all);
	assert_int_equal(weir_container_get(b, WEIR_SWAP_CURRENT), swap);
	assert_int_equal(container_charged(w.container), all + w.packets);
	assert_int_equal(weir_container_get(w.container, WEIR_PEAK), all + w.packets);
	for (uint32_t page = 0; page < 60; page++)
		world_read(&w, 0, page);
	world_close(&w);
}

/* What does not fit stays, whole: no page is half the one's and half the other's. */
static void test_a_move_that_does_not_fit(void **state)
{
	(void)state;
	open_tenants(&two, 2);
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
	(void)state;
	open_tenants(&two, 1);
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

/* --- whose neighbours load as fast as it gives --- */

static struct {
	uint64_t all, loaded;
	unsigned asked;
} others;

/* Whenever a round of giving begins others have brought in what the one before it gave. */
static uint64_t others_load(void *data)
{
	(void)data;
	if (others.asked++ % 2 == 0)
		others.loaded = others.all - container_charged(w.container);
	return others.loaded;
}

/* It ends with what was asked for, not with the last page. */
static void test_giving_ends_although_others_load(void **state)
{
	enum { ASKED = 32, JOB = 16 };
	const struct world_options narrow = {.max = JOB * 32, .pages = {PAGES}};
	uint64_t given;

	(void)state;
	world_open(&w, &narrow);
	write_some(0, 0, 300, FILLED);
	others.all = container_charged(w.container);
	others.asked = 0;
	w.tree.ops.slack = others_load;
	given = reclaim_give(&w.reclaim, w.container, ASKED * PAGE_SIZE);
	w.tree.ops.slack = NULL;
	assert_in_range(given, ASKED * PAGE_SIZE, (ASKED + JOB) * PAGE_SIZE);
	assert_in_range(resident(&w), 300 - ASKED - JOB, 300 - ASKED);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_max_is_kept_and_disturbs_nobody),
		cmocka_unit_test(test_low_holds_while_others_can_give),
		cmocka_unit_test(test_low_of_a_subtree_is_shared_out),
		cmocka_unit_test(test_lowering_reclaims_at_once),
		cmocka_unit_test(test_who_has_more_gives),
		cmocka_unit_test(test_who_cannot_give_is_passed_over),
		cmocka_unit_test(test_claims_come_back),
		cmocka_unit_test(test_swap_max_and_pages_that_do_not_compress),
		cmocka_unit_test(test_what_swap_max_keeps_is_not_over_a_share),
		cmocka_unit_test(test_high_throttles),
		cmocka_unit_test(test_reclaim_on_demand),
		cmocka_unit_test(test_giving_ends_although_others_load),
		cmocka_unit_test(test_swap_max_keeps_pages_in_memory),
		cmocka_unit_test(test_a_failed_write_uncharges_swap),
		cmocka_unit_test(test_a_region_that_moves_later),
		cmocka_unit_test(test_a_region_that_moves_with_its_pages),
		cmocka_unit_test(test_a_move_that_does_not_fit),
		cmocka_unit_test(test_sixteen_owners),
		cmocka_unit_test(test_delete_reparents_pages),
		cmocka_unit_test(test_stat_counts_what_the_words_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
