/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Accounts of pages that several hold: the first pays, the last gives back, whatever the order in which threads come. The
 * races that earlier memory controllers lost are here: two first holders at once, one that fails, one that revives a
 * page which another is just letting go, an owner that goes meanwhile.
 */
#include "trees.h"

#include "control/account.h"

static struct tree tree;
static struct weir_container *a, *b;
static struct owners owners;

static void open_tree(void)
{
	assert_int_equal(tree_init(&tree, GIB(1)), 0);
	a = child(tree.root, "a");
	b = child(tree.root, "b");
	memset((void *)&owners, 0, sizeof(owners));
	owners_set(&owners, 0, a);
	owners_set(&owners, 1, b);
}

static int hold(account_t *account, unsigned slot)
{
	return account_hold(account, &owners, slot, CHARGE_FILE, PAGE_SIZE, false);
}

static bool release(account_t *account)
{
	return account_release(account, &owners, CHARGE_FILE, PAGE_SIZE);
}

static void test_first_pays_last_gives_back(void **state)
{
	account_t account = 0;

	(void)state;
	open_tree();
	assert_false(account_join(&account));
	assert_int_equal(hold(&account, 1), 0);
	assert_int_equal(hold(&account, 0), 0);
	assert_true(account_join(&account));
	assert_int_equal(account_holders(&account), 3);
	assert_int_equal(container_charged(a), 0);
	assert_int_equal(container_charged(b), PAGE_SIZE);
	/* The one who paid may be the first to go. */
	assert_false(release(&account));
	assert_false(release(&account));
	assert_int_equal(container_charged(b), PAGE_SIZE);
	assert_true(release(&account));
	assert_int_equal(container_charged(tree.root), 0);
	assert_int_equal(load_relaxed(&account), 0);
	/* And the next one is the first again. */
	assert_int_equal(hold(&account, 0), 0);
	assert_int_equal(container_charged(a), PAGE_SIZE);
	assert_true(release(&account));
	tree_destroy(&tree);
}

/* A first hold that the limit refuses leaves nothing; a later one needs no room. */
static void test_a_refused_hold(void **state)
{
	account_t account = 0;

	(void)state;
	open_tree();
	container_set_max(a, PAGE_SIZE - 1);
	assert_int_equal(hold(&account, 0), -ENOMEM);
	assert_int_equal(load_relaxed(&account), 0);
	assert_int_equal(container_charged(tree.root), 0);
	assert_int_equal(hold(&account, 1), 0);
	assert_int_equal(hold(&account, 0), 0);
	assert_false(release(&account));
	assert_true(release(&account));
	assert_int_equal(account_hold(&account, &owners, 0, CHARGE_FILE, PAGE_SIZE, true), 0);
	assert_int_equal(container_charged(a), PAGE_SIZE);
	assert_true(release(&account));
	tree_destroy(&tree);
}

/* An owner that is deleted: its parent pays, and gives back. */
static void test_an_owner_that_goes(void **state)
{
	account_t account = 0;

	(void)state;
	open_tree();
	assert_int_equal(hold(&account, 0), 0);
	owners_reparent(&owners, a);
	assert_int_equal(weir_container_delete(a), 0);
	assert_int_equal(container_charged(tree.root), PAGE_SIZE);
	assert_true(release(&account));
	assert_int_equal(container_charged(tree.root), 0);
	tree_destroy(&tree);
}

/* make_room runs between the look at the account and the charge: another holder comes first just then. */
static account_t *raced;

static enum room race_room(void *data, struct weir_container *level, uint64_t bytes)
{
	(void)data;
	(void)level;
	(void)bytes;
	container_set_max(a, MIB(1));
	assert_int_equal(hold(raced, 1), 0);
	return ROOM_MADE;
}

static void test_the_loser_drops_its_own_charge(void **state)
{
	account_t account = 0;

	(void)state;
	open_tree();
	raced = &account;
	tree.ops = (struct control_ops){.make_room = race_room};
	container_set_max(a, 0);
	assert_int_equal(hold(&account, 0), 0);
	/* The winner's charge counts, and the loser is a holder of that. */
	assert_int_equal(account_holders(&account), 2);
	assert_int_equal(container_charged(a), 0);
	assert_int_equal(container_charged(b), PAGE_SIZE);
	assert_false(release(&account));
	assert_true(release(&account));
	assert_int_equal(container_charged(tree.root), 0);
	tree_destroy(&tree);
}

static void release_nothing(void *arg)
{
	account_t account = 0;

	(void)arg;
	if (tree_init(&tree, GIB(1)))
		_exit(2);
	owners_set(&owners, 0, tree.root);
	(void)release(&account);
}

static void test_letting_go_what_is_not_held_panics(void **state)
{
	struct child child_;

	(void)state;
	run_child(&child_, release_nothing, NULL);
	assert_panicked(&child_);
}

/* --- threads --- */

enum { HOLDERS = 4, ACCOUNTS = 3, STEPS = 60000 };

struct crowd {
	account_t account[ACCOUNTS];
	uint64_t seed;
	_Atomic unsigned refused, wrong, firsts;
};

static void hold_and_release(unsigned index, void *arg)
{
	struct crowd *crowd = arg;
	uint64_t seed = crowd->seed + index;
	unsigned held[ACCOUNTS] = {0};

	if (index % 2)
		(void)stock_open();
	for (unsigned i = 0; i < STEPS; i++) {
		unsigned n = random_below(&seed, ACCOUNTS);

		if (held[n] && !random_chance(&seed, 4)) {
			held[n]--;
			add_relaxed(&crowd->firsts, release(&crowd->account[n]));
		} else if (hold(&crowd->account[n], index % 2)) {
			/* There is one page of room in each. */
			add_relaxed(&crowd->refused, 1);
		} else {
			held[n]++;
		}
		/* Who holds one sees it held, and paid for. */
		if (held[n] && (account_holders(&crowd->account[n]) < held[n] ||
				container_usage(tree.root, CHARGE_FILE) < PAGE_SIZE))
			add_relaxed(&crowd->wrong, 1);
	}
	for (unsigned n = 0; n < ACCOUNTS; n++) {
		while (held[n]--)
			add_relaxed(&crowd->firsts, release(&crowd->account[n]));
	}
	stock_close();
}

/* Never charged twice: with room for two pages below each, three accounts of two owners are refused now and then, and
 * in the end nothing is charged. */
static void test_threads_charge_once(void **state)
{
	struct crowd crowd = {.seed = test_seed()};

	(void)state;
	open_tree();
	container_set_max(a, 2 * PAGE_SIZE);
	container_set_max(b, 2 * PAGE_SIZE);
	run_threads(HOLDERS, hold_and_release, &crowd);
	assert_int_equal(load_relaxed(&crowd.wrong), 0);
	assert_true(load_relaxed(&crowd.firsts) > 100);
	for (unsigned n = 0; n < ACCOUNTS; n++)
		assert_int_equal(load_relaxed(&crowd.account[n]), 0);
	assert_sums(&tree);
	assert_int_equal(container_charged(tree.root), 0);
	assert_true(weir_container_get(tree.root, WEIR_PEAK) <= 4 * PAGE_SIZE);
	tree_destroy(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_pays_last_gives_back),
		cmocka_unit_test(test_a_refused_hold),
		cmocka_unit_test(test_an_owner_that_goes),
		cmocka_unit_test(test_the_loser_drops_its_own_charge),
		cmocka_unit_test(test_letting_go_what_is_not_held_panics),
		cmocka_unit_test(test_threads_charge_once),
	};

	log_set_sink(no_log);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
