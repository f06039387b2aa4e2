/* SPDX-License-Identifier: BSD-2-Clause */
/* The tree in the child of a fork: whole, with its locks free, charged what was charged without a page, and no stock of another thread. */
#include "trees.h"

static struct tree tree;
static struct weir_container *top, *batch, *nightly, *other;

static void open_tree(void)
{
	assert_int_equal(tree_init(&tree, GIB(1)), 0);
	top = tree.root;
	batch = child(top, "batch");
	nightly = child(batch, "nightly");
	other = child(top, "other");
}

static void charged_are(uint64_t in_top, uint64_t in_batch, uint64_t in_nightly, uint64_t in_other)
{
	const struct {
		struct weir_container *c;
		uint64_t bytes;
	} all[] = {{top, in_top}, {batch, in_batch}, {nightly, in_nightly}, {other, in_other}};

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		assert_int_equal(container_charged(all[i].c), all[i].bytes);
		assert_int_equal(weir_container_get(all[i].c, WEIR_PEAK), all[i].bytes);
	}
}

/* Pages are forgotten until they are counted, what weir_charge charged stays where it was charged, and stocks hold nothing. */
static void test_what_has_no_page_stays(void **state)
{
	(void)state;
	open_tree();
	assert_int_equal(stock_open(), 0);
	assert_int_equal(weir_charge(nightly, 3 * PAGE_SIZE), 0);
	assert_int_equal(weir_charge(batch, 100), 0);
	assert_int_equal(weir_charge(other, MIB(5)), 0);
	assert_int_equal(container_charge(nightly, CHARGE_RESIDENT, PAGES(70)), 0);
	assert_int_equal(container_charge(other, CHARGE_COMPRESSED, 1234), 0);
	assert_int_equal(container_charge(top, CHARGE_FILE, PAGES(2)), 0);
	assert_true(container_swap_try(nightly, 4096));
	/* The stock has something of each. */
	assert_true(container_charged(top) >
		    3 * PAGE_SIZE + 100 + MIB(5) + PAGES(70) + 1234 + PAGES(2));
	tree_after_fork(&tree);
	charged_are(3 * PAGE_SIZE + 100 + MIB(5), 3 * PAGE_SIZE + 100, 3 * PAGE_SIZE, MIB(5));
	for (struct weir_container *c = top; c; c = container_next(top, c)) {
		for (unsigned kind = 0; kind < CHARGE_KINDS; kind++)
			assert_int_equal(container_usage(c, (enum charge_kind)kind), 0);
		assert_int_equal(load_relaxed(&c->swap), 0);
	}
	assert_int_equal(stocks_drain(&tree, NULL, true), 0);
	container_recount(nightly, PAGES(70), 0, 4096);
	container_recount(other, 0, 1234, 0);
	charged_are(3 * PAGE_SIZE + 100 + MIB(5) + PAGES(70) + 1234,
		    3 * PAGE_SIZE + 100 + PAGES(70), 3 * PAGE_SIZE + PAGES(70), MIB(5) + 1234);
	assert_int_equal(weir_container_get(batch, WEIR_SWAP_CURRENT), 4096);
	/* All of it can be given back. */
	container_uncharge(nightly, CHARGE_RESIDENT, PAGES(70));
	container_uncharge(other, CHARGE_COMPRESSED, 1234);
	container_swap_uncharge(nightly, 4096);
	weir_uncharge(nightly, 3 * PAGE_SIZE);
	weir_uncharge(batch, 100);
	weir_uncharge(other, MIB(5));
	assert_sums(&tree);
	assert_int_equal(container_charged(top), 0);
	stock_close();
	tree_destroy(&tree);
}

/* Counters that other threads were just changing: whatever they have, levels agree, and none is negative. */
static void test_counters_of_different_moments(void **state)
{
	(void)state;
	open_tree();
	assert_int_equal(weir_charge(nightly, PAGES(4)), 0);
	/* Charged to two levels of three; taken from usage, and not from what is charged; more usage than charge. */
	add_relaxed(&nightly->charged, PAGES(1));
	add_relaxed(&batch->charged, PAGES(1));
	add_relaxed(&other->usage[CHARGE_RESIDENT], (int64_t)PAGES(9));
	(void)stocks_drain(&tree, NULL, true);
	tree_after_fork(&tree);
	charged_are(PAGES(5), PAGES(5), PAGES(5), 0);
	weir_uncharge(nightly, PAGES(4));
	(void)stocks_drain(&tree, NULL, true);
	assert_int_equal(container_charged(top), PAGES(1));
	tree_destroy(&tree);
}

/* Another thread was in the middle: it had the lock, a limit was set and what follows from it not yet, a name was being looked at. */
static void test_nothing_is_left_half_done(void **state)
{
	const uint64_t mark = PAGES(1024) - PAGES(64);

	(void)state;
	open_tree();
	container_set_max(batch, PAGES(1024));
	assert_int_equal(load_relaxed(&nightly->limit), PAGES(1024));
	assert_int_equal(load_relaxed(&batch->mark), mark);
	container_set_max(batch, WEIR_NO_LIMIT);
	store_relaxed(&batch->max, PAGES(1024));
	assert_ptr_equal(container_pin(top, "batch/nightly"), nightly);
	container_event(nightly, EVENT_HIGH);
	container_count(nightly, COUNT_SCANNED, 7);
	lock_acquire(&tree.lock);
	/* As if that had been another thread. */
	lock_release(&tree.lock);
	store_relaxed(&tree.lock.word, LOCK_HELD);
	tree_after_fork(&tree);
	assert_int_equal(load_relaxed(&nightly->limit), PAGES(1024));
	assert_int_equal(load_relaxed(&batch->mark), mark);
	assert_int_equal(events_of(top, false).high, 0);
	assert_int_equal(load_relaxed(&top->count[COUNT_SCANNED]), 0);
	assert_ptr_equal(weir_container_find(top, "batch/nightly"), nightly);
	/* It does not wait for the one that is not here. */
	assert_int_equal(weir_container_delete(nightly), 0);
	assert_int_equal(weir_container_delete(batch), 0);
	assert_int_equal(load_relaxed(&tree.count), 2);
	tree_destroy(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_has_no_page_stays),
		cmocka_unit_test(test_counters_of_different_moments),
		cmocka_unit_test(test_nothing_is_left_half_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
