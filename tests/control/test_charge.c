/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Charging: what is charged at which level, what is refused, who is asked for room and in which order, stocks and their
 * bound, transfers, swap. Each failure must leave every counter as it was.
 */
#include <sched.h>

#include "trees.h"

static struct tree tree;
static struct weir_container *top, *left, *right; /* root, and two children */

static void open_tree(uint64_t max)
{
	assert_int_equal(tree_init(&tree, max), 0);
	top = tree.root;
	left = child(top, "left");
	right = child(top, "right");
}

static void close_tree(void)
{
	(void)stocks_drain(&tree, NULL, true);
	assert_int_equal(container_charged(top), 0);
	tree_destroy(&tree);
}

/* charged = what was charged, after every step of a random run, at both levels; peak is the highest of them. */
static void test_charged_counts_at_every_level(void **state)
{
	uint64_t seed = test_seed(), own[2][CHARGE_KINDS] = {{0}}, sum[2] = {0}, peak = 0;
	struct weir_container *of[2];

	(void)state;
	open_tree(MIB(1));
	of[0] = left;
	of[1] = right;
	container_set_max(left, KIB(700));
	for (unsigned i = 0; i < 20000; i++) {
		enum charge_kind kind = random_below(&seed, CHARGE_KINDS);
		unsigned who = random_below(&seed, 2);
		uint64_t bytes = 1 + random_below(&seed, 3 * PAGE_SIZE);
		bool fits =
			sum[0] + sum[1] + bytes <= MIB(1) && (who || sum[0] + bytes <= KIB(700));

		if (random_chance(&seed, 2) && own[who][kind] >= bytes) {
			container_uncharge(of[who], kind, bytes);
			own[who][kind] -= bytes;
			sum[who] -= bytes;
		} else {
			assert_int_equal(container_try(of[who], kind, bytes), fits);
			own[who][kind] += fits ? bytes : 0;
			sum[who] += fits ? bytes : 0;
		}
		peak = MAX(peak, sum[0] + sum[1]);
		assert_int_equal(container_charged(of[who]), sum[who]);
		assert_int_equal(container_charged(top), sum[0] + sum[1]);
		assert_int_equal(container_usage(of[who], kind), own[who][kind]);
		assert_int_equal(container_usage(top, kind), own[0][kind] + own[1][kind]);
		assert_int_equal(weir_container_get(top, WEIR_PEAK), peak);
	}
	assert_sums(&tree);
	for (unsigned who = 0; who < 2; who++)
		for (unsigned kind = 0; kind < CHARGE_KINDS; kind++)
			container_uncharge(of[who], kind, own[who][kind]);
	close_tree();
}

/* Up to max exactly; a byte more is refused, and nothing is charged at any level. */
static void test_a_refused_charge_charges_no_level(void **state)
{
	(void)state;
	open_tree(MIB(2));
	container_set_max(left, MIB(1));
	assert_int_equal(container_charge(left, CHARGE_RESIDENT, MIB(1) - 1), 0);
	assert_int_equal(container_charge(left, CHARGE_RESIDENT, 2), -ENOMEM);
	assert_int_equal(container_charged(left), MIB(1) - 1);
	assert_int_equal(container_charged(top), MIB(1) - 1);
	assert_int_equal(container_usage(left, CHARGE_RESIDENT), MIB(1) - 1);
	assert_true(container_try(left, CHARGE_RESIDENT, 1));
	/* The level above is the one in the way. */
	assert_int_equal(container_charge(right, CHARGE_FILE, MIB(1)), 0);
	assert_false(container_try(right, CHARGE_FILE, 1));
	assert_int_equal(container_charged(right), MIB(1));
	assert_int_equal(weir_charge(right, UINT64_MAX), -ENOMEM);
	container_uncharge(left, CHARGE_RESIDENT, MIB(1));
	container_uncharge(right, CHARGE_FILE, MIB(1));
	assert_int_equal(weir_container_get(top, WEIR_PEAK), MIB(2));
	close_tree();
}

/* --- make room --- */

static void test_room_is_asked_of_the_level_in_the_way(void **state)
{
	struct room_maker r = {.step = PAGE_SIZE, .most = 100};

	(void)state;
	open_tree(PAGES(64));
	tree.ops = (struct control_ops){.make_room = make_room, .data = &r};
	container_set_max(left, PAGES(16));
	r.from = left;
	assert_int_equal(container_charge(left, CHARGE_RESIDENT, PAGES(16)), 0);
	assert_int_equal(r.calls, 0);
	assert_int_equal(container_charge(left, CHARGE_COMPRESSED, PAGES(3)), 0);
	assert_int_equal(r.calls, 3);
	assert_ptr_equal(r.level, left);
	assert_int_equal(r.asked, PAGES(3));
	assert_int_equal(container_charge(right, CHARGE_RESIDENT, PAGES(49)), 0);
	assert_ptr_equal(r.level, top);
	assert_int_equal(container_charged(top), PAGES(64));
	container_uncharge(left, CHARGE_RESIDENT, container_usage(left, CHARGE_RESIDENT));
	container_uncharge(left, CHARGE_COMPRESSED, PAGES(3));
	container_uncharge(right, CHARGE_RESIDENT, PAGES(49));
	close_tree();
}

/* Never: oom. Later: the caller is told to go over, and no oom is counted. */
static void test_room_that_is_not_to_be_had(void **state)
{
	struct room_maker r = {.most = 0, .end = ROOM_LATER};

	(void)state;
	open_tree(MIB(1));
	tree.ops = (struct control_ops){.make_room = make_room, .data = &r};
	container_set_max(left, PAGES(4));
	assert_int_equal(container_charge(left, CHARGE_RESIDENT, PAGES(5)), -EAGAIN);
	assert_int_equal(events_of(left, true).oom, 0);
	assert_int_equal(events_of(left, true).max, 1);
	/* Once more after the stocks are drained, and no more. */
	assert_int_equal(r.calls, 2);
	r.end = ROOM_NEVER;
	assert_int_equal(container_charge(left, CHARGE_RESIDENT, PAGES(5)), -ENOMEM);
	assert_int_equal(events_of(left, true).oom, 1);
	assert_int_equal(weir_charge(left, PAGES(5)), -ENOMEM);
	assert_int_equal(load_relaxed(&left->count[COUNT_FAILURES]), 3);
	assert_int_equal(container_charged(top), 0);
	close_tree();
}

/* The root without a handler leaves it to the caller; a child fails. */
static void test_the_root_is_left_to_the_caller(void **state)
{
	(void)state;
	open_tree(MIB(1));
	assert_int_equal(container_charge(left, CHARGE_RESIDENT, MIB(2)), -EAGAIN);
	assert_int_equal(weir_charge(left, MIB(2)), -ENOMEM);
	assert_int_equal(container_charged(top), 0);
	close_tree();
}

/* --- oom --- */

struct asked {
	struct weir_container *container;
	uint64_t bytes;
	unsigned times;
	enum weir_oom answer;
};

static enum weir_oom on_oom(void *data, struct weir_container *container, uint64_t bytes)
{
	struct asked *a = data;

	a->container = container;
	a->bytes = bytes;
	a->times++;
	if (a->answer == WEIR_OOM_RETRY && a->times == 3)
		container_set_max(container, MIB(4));
	return a->answer;
}

static void test_oom_handler_decides(void **state)
{
	struct asked a = {.answer = WEIR_OOM_OVER}, above = {.answer = WEIR_OOM_FAIL};

	(void)state;
	open_tree(MIB(64));
	container_set_max(left, MIB(1));
	weir_container_on_oom(left, on_oom, &a);
	weir_container_on_oom(top, on_oom, &above);
	assert_int_equal(weir_charge(left, MIB(2)), 0);
	assert_int_equal(a.times, 1);
	assert_ptr_equal(a.container, left);
	assert_int_equal(a.bytes, MIB(2));
	assert_int_equal(weir_container_get(left, WEIR_CURRENT), MIB(2));
	assert_int_equal(load_relaxed(&left->count[COUNT_OVER_MAX]), 1);
	/* The handler makes room, in three attempts. */
	a = (struct asked){.answer = WEIR_OOM_RETRY};
	assert_int_equal(weir_charge(left, MIB(1)), 0);
	assert_int_equal(a.times, 3);
	/* One that says so and does not is not asked for ever. */
	a = (struct asked){.answer = WEIR_OOM_RETRY, .times = 100};
	assert_int_equal(weir_charge(left, MIB(32)), -ENOMEM);
	assert_in_range(a.times, 101, 140);
	/* The next handler above, for a container that has none. */
	container_set_max(right, MIB(1));
	assert_int_equal(weir_charge(right, MIB(2)), -ENOMEM);
	assert_ptr_equal(above.container, right);
	weir_uncharge(left, MIB(3));
	stock_close();
	close_tree();
}

/* A handler that lets everything over: counters do not overflow. */
static void test_over_has_an_end(void **state)
{
	struct asked a = {.answer = WEIR_OOM_OVER};

	(void)state;
	open_tree(MIB(1));
	weir_container_on_oom(top, on_oom, &a);
	assert_int_equal(weir_charge(left, UINT64_MAX), -ENOMEM);
	assert_int_equal(a.times, 0);
	assert_int_equal(weir_charge(left, INT64_MAX / 2), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(weir_charge(left, INT64_MAX / 2), -ENOMEM);
	assert_int_equal(container_charged(top), INT64_MAX / 2);
	weir_uncharge(left, INT64_MAX / 2);
	stock_close();
	close_tree();
}

/* --- force, underflow, slack --- */

static void test_force_goes_over_and_is_seen(void **state)
{
	(void)state;
	open_tree(MIB(1));
	container_force(left, CHARGE_COMPRESSED, MIB(2));
	assert_int_equal(container_charged(top), MIB(2));
	assert_true(container_above_max(top));
	assert_false(container_try(right, CHARGE_RESIDENT, 1));
	container_uncharge(left, CHARGE_COMPRESSED, MIB(2));
	assert_false(container_above_max(top));
	close_tree();
}

struct misuse {
	uint64_t charged, uncharged;
	enum charge_kind kind, other;
};

static void uncharge_wrongly(void *arg)
{
	const struct misuse *m = arg;

	if (tree_init(&tree, MIB(1)))
		_exit(2);
	container_force(tree.root, m->kind, m->charged);
	container_uncharge(tree.root, m->other, m->uncharged);
}

static void test_underflow_panics(void **state)
{
	struct misuse wrong[] = {
		{0, 1, CHARGE_RESIDENT, CHARGE_RESIDENT},
		{PAGE_SIZE, PAGE_SIZE + 1, CHARGE_COMPRESSED, CHARGE_COMPRESSED},
		{MIB(1), PAGE_SIZE, CHARGE_RESIDENT, CHARGE_COMPRESSED},
	};
	struct misuse right_ = {PAGE_SIZE, PAGE_SIZE, CHARGE_COMPRESSED, CHARGE_COMPRESSED};
	struct child child_;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		run_child(&child_, uncharge_wrongly, &wrong[i]);
		assert_panicked(&child_);
	}
	child_passes(uncharge_wrongly, &right_);
}

static void uncharge_negative(void *arg)
{
	(void)arg;
	if (tree_init(&tree, MIB(1)) || weir_charge(tree.root, PAGES(2)))
		_exit(2);
	weir_uncharge(tree.root, PAGE_SIZE - PAGES(2));
}

static void test_uncharging_a_negative_size_panics(void **state)
{
	struct child child_;

	(void)state;
	run_child(&child_, uncharge_negative, NULL);
	assert_panicked(&child_);
}

static uint64_t tell_slack(void *data)
{
	return *(uint64_t *)data;
}

static void test_slack_presses_on_the_root_only(void **state)
{
	uint64_t slack = 0;

	(void)state;
	open_tree(MIB(64));
	tree.ops = (struct control_ops){.slack = tell_slack, .data = &slack};
	container_set_max(left, MIB(60));
	assert_int_equal(container_charge(left, CHARGE_RESIDENT, MIB(50)), 0);
	slack = MIB(10);
	assert_int_equal(container_held(left), MIB(50));
	assert_int_equal(container_held(top), MIB(60));
	assert_false(container_above_mark(top));
	slack = MIB(10) + 1;
	assert_true(container_above_mark(top));
	assert_ptr_equal(container_pressed(left), top);
	assert_true(container_try(left, CHARGE_RESIDENT, MIB(4) - 1));
	assert_false(container_try(left, CHARGE_RESIDENT, 1));
	slack = 0;
	assert_true(container_try(left, CHARGE_RESIDENT, 1));
	container_uncharge(left, CHARGE_RESIDENT, MIB(54));
	close_tree();
}

/* --- stocks --- */

/* What a stock holds is charged, within the published bound, and goes back when it is drained. */
static void test_stock_is_charged_and_bounded(void **state)
{
	const uint64_t batch = PAGES(64);

	(void)state;
	open_tree(GIB(1));
	assert_int_equal(stock_open(), 0);
	assert_int_equal(charge_bytes(left, PAGE_SIZE), 0);
	assert_int_equal(container_charged(left), batch);
	assert_int_equal(container_charged(top), batch);
	for (unsigned i = 1; i < 64; i++)
		assert_int_equal(charge_bytes(left, PAGE_SIZE), 0);
	assert_int_equal(container_charged(left), batch);
	assert_int_equal(charge_bytes(left, PAGE_SIZE), 0);
	assert_int_equal(container_charged(left), 2 * batch);
	/* Given back it stays prepaid up to two batches. */
	for (unsigned i = 0; i < 65; i++)
		uncharge_bytes(left, PAGE_SIZE);
	assert_int_equal(container_charged(left), 2 * batch);
	assert_int_equal(weir_charge_bound(left), 2 * batch);
	assert_int_equal(stocks_drain(&tree, right, true), 0);
	assert_int_equal(stocks_drain(&tree, NULL, true), 2 * batch);
	assert_int_equal(container_charged(top), 0);
	/* More than it may hold goes its own way. */
	assert_int_equal(charge_bytes(left, PAGES(1000)), 0);
	assert_int_equal(container_charged(left), PAGES(1000));
	uncharge_bytes(left, PAGES(1000));
	assert_int_equal(container_charged(left), 0);
	stock_close();
	assert_int_equal(weir_charge_bound(left), 0);
	close_tree();
}

/* Eight containers of one thread keep their slots; a ninth takes one, and what was in it goes back. */
static void test_eight_slots(void **state)
{
	struct weir_container *c[STOCK_SLOTS + 1];

	(void)state;
	open_tree(GIB(1));
	assert_int_equal(stock_open(), 0);
	for (unsigned i = 0; i <= STOCK_SLOTS; i++) {
		char name[8];

		(void)snprintf(name, sizeof(name), "c%u", i);
		c[i] = child(top, name);
		assert_int_equal(charge_bytes(c[i], PAGE_SIZE), 0);
	}
	assert_int_equal(container_charged(c[0]), PAGE_SIZE);
	for (unsigned i = 1; i <= STOCK_SLOTS; i++)
		assert_int_equal(container_charged(c[i]), PAGES(64));
	for (unsigned i = 0; i <= STOCK_SLOTS; i++)
		uncharge_bytes(c[i], PAGE_SIZE);
	stock_close();
	close_tree();
}

/* A thread that ends gives its stock back. */
static void charge_and_end(unsigned index, void *arg)
{
	(void)index;
	if (weir_charge(arg, PAGE_SIZE) == 0)
		weir_uncharge(arg, PAGE_SIZE);
}

static void test_a_thread_that_ends_gives_back(void **state)
{
	(void)state;
	open_tree(GIB(1));
	run_threads(4, charge_and_end, left);
	assert_int_equal(container_charged(top), 0);
	assert_int_equal(weir_charge_bound(left), 0);
	close_tree();
}

/* Near its limit a stock takes no batch, and what other stocks have is drained before a charge fails. */
struct hoard {
	struct weir_container *of;
	pthread_barrier_t filled, done;
};

static void hoard_and_wait(unsigned index, void *arg)
{
	struct hoard *h = arg;

	(void)index;
	(void)stock_open();
	if (charge_bytes(h->of, PAGE_SIZE) == 0)
		uncharge_bytes(h->of, PAGE_SIZE);
	pthread_barrier_wait(&h->filled);
	pthread_barrier_wait(&h->done);
	stock_close();
}

static void *hoarder(void *arg)
{
	hoard_and_wait(0, arg);
	return NULL;
}

static void test_stocks_are_drained_before_a_charge_fails(void **state)
{
	struct hoard h;
	pthread_t thread;

	(void)state;
	open_tree(GIB(1));
	container_set_max(left, MIB(64));
	h.of = left;
	pthread_barrier_init(&h.filled, NULL, 2);
	pthread_barrier_init(&h.done, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, hoarder, &h), 0);
	pthread_barrier_wait(&h.filled);
	assert_true(container_charged(left) > 0);
	assert_true(container_charged(left) <= weir_charge_bound(left));
	/* All of it, though a sleeping thread has some prepaid. */
	assert_int_equal(container_charge(left, CHARGE_RESIDENT, MIB(64)), 0);
	assert_int_equal(container_charge(left, CHARGE_RESIDENT, 1), -ENOMEM);
	container_uncharge(left, CHARGE_RESIDENT, MIB(64));
	pthread_barrier_wait(&h.done);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&h.filled);
	pthread_barrier_destroy(&h.done);
	close_tree();
}

/*
 * A thread of the program is interrupted while it charges, and its signal handler touches a page of a tenant at its max: that fault
 * drains, and the thread leaves its stock only then. A deletion that waits for the stock must not keep what the fault needs.
 */
static void *deleter(void *arg)
{
	assert_int_equal(weir_container_delete(arg), 0);
	return NULL;
}

static void test_who_waits_for_a_stock_lets_others_drain(void **state)
{
	struct stock *stock;
	pthread_t thread;

	(void)state;
	open_tree(GIB(1));
	assert_int_equal(stock_open(), 0);
	stock = stock_here;
	assert_int_equal(charge_bytes(right, PAGE_SIZE), 0);
	uncharge_bytes(right, PAGE_SIZE);
	assert_int_equal(container_charged(top), PAGES(64));
	container_set_max(left, 0);
	assert_true(stock_enter(stock));
	assert_int_equal(pthread_create(&thread, NULL, deleter, right), 0);
	while (!load_acquire(&stock->flag))
		sched_yield();
	/* Serving the fault, as signal mode does it: past the stock. */
	stock_here = NULL;
	assert_int_equal(container_charge(left, CHARGE_RESIDENT, PAGE_SIZE), -ENOMEM);
	stock_here = stock;
	/* It still waits: the stock has what was right's. */
	assert_int_equal(container_charged(top), PAGES(64));
	stock_leave(stock);
	pthread_join(thread, NULL);
	assert_int_equal(container_charged(top), 0);
	stock_close();
	close_tree();
}

/* A tiny limit is not eaten by stocks. */
static void test_tiny_limits_have_no_stock(void **state)
{
	(void)state;
	open_tree(GIB(1));
	container_set_max(left, PAGES(512));
	assert_int_equal(stock_open(), 0);
	assert_int_equal(charge_bytes(left, PAGE_SIZE), 0);
	assert_int_equal(container_charged(left), PAGE_SIZE);
	assert_int_equal(weir_charge_bound(left), 0);
	uncharge_bytes(left, PAGE_SIZE);
	assert_int_equal(container_charged(left), 0);
	stock_close();
	close_tree();
}

/* --- transfers --- */

static void test_transfer_leaves_common_levels_alone(void **state)
{
	struct weir_container *deep;

	(void)state;
	open_tree(PAGES(256));
	deep = child(right, "deep");
	container_set_max(right, PAGES(4));
	assert_int_equal(container_charge(left, CHARGE_RESIDENT, PAGES(256)), 0);
	/* The root is full, and does not mind. */
	assert_int_equal(container_transfer(left, deep, CHARGE_RESIDENT, PAGES(4)), 0);
	assert_int_equal(container_charged(top), PAGES(256));
	assert_int_equal(weir_container_get(top, WEIR_PEAK), PAGES(256));
	assert_int_equal(container_charged(deep), PAGES(4));
	assert_int_equal(container_usage(right, CHARGE_RESIDENT), PAGES(4));
	/* A level in between is full: nothing has changed. */
	assert_int_equal(container_transfer(left, deep, CHARGE_RESIDENT, 1), -ENOMEM);
	assert_int_equal(container_charged(left), PAGES(252));
	assert_int_equal(container_charged(deep), PAGES(4));
	container_transfer_force(deep, left, CHARGE_RESIDENT, PAGES(4));
	assert_int_equal(container_charged(right), 0);
	assert_sums(&tree);
	container_uncharge(left, CHARGE_RESIDENT, PAGES(256));
	close_tree();
}

/* --- swap --- */

static void test_swap_max(void **state)
{
	(void)state;
	open_tree(GIB(1));
	assert_int_equal(weir_container_set(left, WEIR_SWAP_MAX, PAGES(2)), 0);
	assert_true(container_swap_try(left, PAGES(2)));
	assert_true(container_swap_full(left));
	assert_false(container_swap_full(right));
	assert_false(container_swap_try(left, 512));
	assert_int_equal(events_of(left, true).swap_max, 1);
	assert_int_equal(events_of(left, true).swap_fail, 1);
	assert_int_equal(events_of(top, true).swap_max, 0);
	assert_int_equal(events_of(top, false).swap_max, 1);
	assert_int_equal(weir_container_get(top, WEIR_SWAP_CURRENT), PAGES(2));
	assert_int_equal(container_swap_transfer(left, right, PAGES(1)), 0);
	assert_int_equal(container_swap_transfer(right, left, PAGES(1)), 0);
	assert_int_equal(container_swap_transfer(right, left, 0), 0);
	container_swap_uncharge(left, PAGES(2));
	assert_int_equal(weir_container_get(top, WEIR_SWAP_CURRENT), 0);
	close_tree();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_charged_counts_at_every_level),
		cmocka_unit_test(test_a_refused_charge_charges_no_level),
		cmocka_unit_test(test_room_is_asked_of_the_level_in_the_way),
		cmocka_unit_test(test_room_that_is_not_to_be_had),
		cmocka_unit_test(test_the_root_is_left_to_the_caller),
		cmocka_unit_test(test_oom_handler_decides),
		cmocka_unit_test(test_over_has_an_end),
		cmocka_unit_test(test_force_goes_over_and_is_seen),
		cmocka_unit_test(test_uncharging_a_negative_size_panics),
		cmocka_unit_test(test_underflow_panics),
		cmocka_unit_test(test_slack_presses_on_the_root_only),
		cmocka_unit_test(test_stock_is_charged_and_bounded),
		cmocka_unit_test(test_eight_slots),
		cmocka_unit_test(test_a_thread_that_ends_gives_back),
		cmocka_unit_test(test_stocks_are_drained_before_a_charge_fails),
		cmocka_unit_test(test_who_waits_for_a_stock_lets_others_drain),
		cmocka_unit_test(test_tiny_limits_have_no_stock),
		cmocka_unit_test(test_transfer_leaves_common_levels_alone),
		cmocka_unit_test(test_swap_max),
	};

	log_set_sink(no_log);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
