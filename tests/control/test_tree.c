/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tree and its values: names, depth, deletion, moving, limits as text, events, effective low, pressure. The
 * scenarios of the kernel's own memory-controller selftests that need no pages are here; those that need
 * some are in tests/reclaim/test_tenants.c.
 */
#include "trees.h"

static struct tree tree;
static struct weir_container *top;

static void open_tree(uint64_t max)
{
	assert_int_equal(tree_init(&tree, max), 0);
	top = tree.root;
}

static void close_tree(void)
{
	tree_destroy(&tree);
}

/* --- bad input --- */

static void test_names(void **state)
{
	static const char *const bad[] = {"",	  ".",	  "..",	       "a/b", "/",
					  "a\nb", "\x7f", "tab\there", "\x01"};
	char longest[WEIR_NAME_MAX + 2];
	struct weir_container *c = NULL;

	(void)state;
	open_tree(GIB(1));
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(weir_container_create(top, bad[i], &c), -EINVAL);
	memset(longest, 'n', sizeof(longest));
	longest[WEIR_NAME_MAX + 1] = '\0';
	assert_int_equal(weir_container_create(top, longest, &c), -ENAMETOOLONG);
	assert_null(c);
	longest[WEIR_NAME_MAX] = '\0';
	assert_int_equal(weir_container_create(top, longest, &c), 0);
	assert_string_equal(weir_container_name(c), longest);
	assert_int_equal(weir_container_create(top, longest, &c), -EEXIST);
	/* Other names of other languages, and dots, are names. */
	(void)child(top, "B\xc3\xa4ume");
	(void)child(child(top, "..."), "...");
	assert_string_equal(weir_container_name(top), "");
	assert_int_equal(load_relaxed(&tree.count), 5);
	close_tree();
}

static void test_find(void **state)
{
	struct weir_container *a, *b;

	(void)state;
	open_tree(GIB(1));
	a = child(top, "a");
	b = child(a, "b");
	assert_ptr_equal(weir_container_find(top, ""), top);
	assert_ptr_equal(weir_container_find(top, "a"), a);
	assert_ptr_equal(weir_container_find(top, "a/b"), b);
	assert_ptr_equal(weir_container_find(top, "/a//b/"), b);
	assert_ptr_equal(weir_container_find(a, "b"), b);
	assert_null(weir_container_find(top, "b"));
	assert_null(weir_container_find(top, "a/b/c"));
	assert_null(weir_container_find(top, "aa"));
	close_tree();
}

static void test_depth_is_bounded(void **state)
{
	struct weir_container *c, *more;

	(void)state;
	open_tree(GIB(1));
	c = top;
	for (unsigned i = 0; i < WEIR_DEPTH_MAX; i++)
		c = child(c, "d");
	assert_int_equal(weir_container_create(c, "d", &more), -ENOSPC);
	close_tree();
}

static void test_limits_as_text(void **state)
{
	struct weir_container *c;

	(void)state;
	open_tree(GIB(1));
	c = child(top, "c");
	assert_int_equal(weir_container_set_text(c, "max", "64M"), 0);
	assert_int_equal(weir_container_get(c, WEIR_MAX), MIB(64));
	assert_int_equal(weir_container_set_text(c, "max", "max"), 0);
	assert_true(weir_container_get(c, WEIR_MAX) == WEIR_NO_LIMIT);
	assert_int_equal(weir_container_set_text(c, "low", "1.5G"), 0);
	assert_int_equal(weir_container_get(c, WEIR_LOW), GIB(3) / 2);
	assert_int_equal(weir_container_set_text(c, "high", "4096"), 0);
	assert_int_equal(weir_container_set_text(c, "swap.max", "0"), 0);
	assert_int_equal(weir_container_get(c, WEIR_SWAP_MAX), 0);
	assert_int_equal(weir_container_set_text(c, "peak", "0"), 0);
	assert_int_equal(weir_container_set_text(c, "max", "12 apples"), -EINVAL);
	assert_int_equal(weir_container_set_text(c, "max", ""), -EINVAL);
	assert_int_equal(weir_container_set_text(c, "max", "-1"), -EINVAL);
	assert_int_equal(weir_container_set_text(c, "max", "50%"), -EINVAL);
	assert_int_equal(weir_container_set_text(c, "max", "99999999999G"), -ERANGE);
	assert_int_equal(weir_container_set_text(c, "min", "1M"), -ENOENT);
	assert_int_equal(weir_container_set_text(c, "current", "1M"), -EINVAL);
	assert_int_equal(weir_container_set_text(c, "swap.current", "1M"), -EINVAL);
	/* Nothing of it has changed the limit. */
	assert_true(weir_container_get(c, WEIR_MAX) == WEIR_NO_LIMIT);
	assert_int_equal(weir_container_set(top, WEIR_MAX, WEIR_LIMIT_MIN - 1), -EINVAL);
	assert_int_equal(weir_container_set(top, WEIR_MAX, WEIR_NO_LIMIT), -EINVAL);
	close_tree();
}

static void test_delete_and_move_refuse(void **state)
{
	struct tree other;
	struct weir_container *a, *b, *c;

	(void)state;
	open_tree(GIB(1));
	assert_int_equal(tree_init(&other, GIB(1)), 0);
	a = child(top, "a");
	b = child(a, "b");
	c = child(b, "c");
	assert_int_equal(weir_container_delete(top), -EINVAL);
	assert_int_equal(weir_container_delete(a), -EBUSY);
	/* Cycles. */
	assert_int_equal(weir_container_move(a, a), -ELOOP);
	assert_int_equal(weir_container_move(a, c), -ELOOP);
	assert_int_equal(weir_container_move(top, c), -EINVAL);
	assert_int_equal(weir_container_move(c, other.root), -EXDEV);
	(void)child(top, "c");
	assert_int_equal(weir_container_move(c, top), -EEXIST);
	assert_int_equal(weir_charge(c, 1), 0);
	assert_int_equal(weir_container_move(b, top), -EBUSY);
	weir_uncharge(c, 1);
	/* And then it goes, with its limits worked out anew. */
	container_set_max(a, MIB(8));
	assert_int_equal(load_relaxed(&c->limit), MIB(8));
	assert_int_equal(weir_container_move(b, top), 0);
	assert_int_equal(load_relaxed(&c->limit), GIB(1));
	assert_ptr_equal(weir_container_find(top, "b/c"), c);
	assert_int_equal(c->depth, 2);
	stock_close();
	tree_destroy(&other);
	close_tree();
}

/* --- deletion --- */

/* What is charged moves to the parent at once: the counters of the parent do not change. */
static void test_delete_reparents_the_charge(void **state)
{
	struct weir_container *a, *b;

	(void)state;
	open_tree(GIB(1));
	a = child(top, "a");
	b = child(a, "b");
	assert_int_equal(container_charge(b, CHARGE_RESIDENT, PAGES(100)), 0);
	assert_int_equal(container_charge(a, CHARGE_RESIDENT, PAGES(10)), 0);
	container_event(b, EVENT_MAX);
	assert_int_equal(container_own_charged(a), PAGES(10));
	assert_int_equal(weir_container_delete(b), 0);
	assert_null(weir_container_find(a, "b"));
	assert_int_equal(container_own_charged(a), PAGES(110));
	assert_int_equal(container_own_usage(a, CHARGE_RESIDENT), PAGES(110));
	assert_int_equal(container_charged(top), PAGES(110));
	assert_int_equal(events_of(a, false).max, 1);
	container_uncharge(a, CHARGE_RESIDENT, PAGES(110));
	assert_sums(&tree);
	assert_int_equal(weir_container_delete(a), 0);
	assert_int_equal(load_relaxed(&tree.count), 1);
	close_tree();
}

/* What stocks hold of a container that goes is given back: not a byte stays with its ancestors. */
static void test_delete_drains_the_stocks(void **state)
{
	struct weir_container *a;

	(void)state;
	open_tree(GIB(1));
	a = child(top, "a");
	assert_int_equal(stock_open(), 0);
	assert_int_equal(charge_bytes(a, PAGE_SIZE), 0);
	assert_int_equal(container_charged(top), PAGES(64));
	assert_int_equal(weir_container_delete(a), 0);
	assert_int_equal(container_charged(top), PAGE_SIZE);
	uncharge_bytes(top, PAGE_SIZE);
	stock_close();
	assert_int_equal(container_charged(top), 0);
	close_tree();
}

/* While a container goes nobody else changes which ones there are: its parent outlives it, and stays where it is. */
static void others_wait(void *data, struct weir_container *c)
{
	bool *free = data;

	*free = lock_try(&c->tree->shape);
}

static void test_a_parent_outlives_the_deletion_of_its_child(void **state)
{
	struct weir_container *a, *b, *c;
	bool free = true;

	(void)state;
	open_tree(GIB(1));
	a = child(top, "a");
	b = child(a, "b");
	c = child(b, "c");
	tree.ops = (struct control_ops){.reparent = others_wait, .data = &free};
	assert_int_equal(weir_container_delete(c), 0);
	assert_false(free);
	tree.ops = (struct control_ops){0};
	assert_int_equal(weir_container_move(b, top), 0);
	assert_int_equal(weir_container_delete(b), 0);
	assert_int_equal(weir_container_delete(a), 0);
	close_tree();
}

static bool tell_used(void *data, struct weir_container *c)
{
	return data == c;
}

/* What has regions, or a descendant that has, is not moved. */
static void test_a_container_in_use_is_not_moved(void **state)
{
	struct weir_container *a, *b;

	(void)state;
	open_tree(GIB(1));
	a = child(child(top, "up"), "a");
	b = child(a, "b");
	tree.ops = (struct control_ops){.used = tell_used, .data = b};
	assert_int_equal(weir_container_move(a, top), -EBUSY);
	assert_int_equal(weir_container_move(b, top), -EBUSY);
	tree.ops.data = NULL;
	assert_int_equal(weir_container_move(a, top), 0);
	close_tree();
}

/* --- reclaim --- */

static uint64_t asked_to_give;

static uint64_t give_nothing(void *data, struct weir_container *c, uint64_t bytes)
{
	(void)data;
	(void)c;
	asked_to_give = bytes;
	return 0;
}

/* What a stock held of another container is not what this one gave; no more is asked for than there is. */
static void test_reclaim_tells_what_the_container_gave(void **state)
{
	struct weir_container *a, *b;

	(void)state;
	open_tree(GIB(1));
	tree.ops = (struct control_ops){.reclaim = give_nothing};
	a = child(top, "a");
	b = child(top, "b");
	assert_int_equal(container_charge(a, CHARGE_RESIDENT, PAGES(3)), 0);
	assert_int_equal(stock_open(), 0);
	assert_int_equal(charge_bytes(b, PAGE_SIZE), 0);
	assert_int_equal(weir_container_reclaim(a, PAGE_SIZE), -EAGAIN);
	assert_int_equal(asked_to_give, PAGE_SIZE);
	assert_int_equal(container_charged(b), PAGE_SIZE);
	/* A stock of its own is. */
	assert_int_equal(charge_bytes(b, PAGE_SIZE), 0);
	assert_int_equal(weir_container_reclaim(b, PAGES(60)), 0);
	assert_int_equal(weir_container_reclaim(a, UINT64_MAX), -EAGAIN);
	assert_int_equal(asked_to_give, PAGES(3));
	uncharge_bytes(b, PAGES(2));
	stock_close();
	container_uncharge(a, CHARGE_RESIDENT, PAGES(3));
	close_tree();
}

/* --- values --- */

static void test_peak_begins_anew(void **state)
{
	struct weir_container *c;

	(void)state;
	open_tree(GIB(1));
	c = child(top, "c");
	assert_int_equal(container_charge(c, CHARGE_RESIDENT, PAGES(50)), 0);
	container_uncharge(c, CHARGE_RESIDENT, PAGES(20));
	assert_int_equal(weir_container_get(c, WEIR_PEAK), PAGES(50));
	assert_int_equal(weir_container_set(c, WEIR_PEAK, 0), 0);
	assert_int_equal(weir_container_get(c, WEIR_PEAK), PAGES(30));
	assert_int_equal(weir_container_get(top, WEIR_PEAK), PAGES(50));
	container_uncharge(c, CHARGE_RESIDENT, PAGES(30));
	close_tree();
}

/* Below usage: it holds for the next charge at once, and the caller is told that what is there is more. */
static void test_max_below_usage(void **state)
{
	struct weir_container *c;

	(void)state;
	open_tree(GIB(1));
	c = child(top, "c");
	assert_int_equal(container_charge(c, CHARGE_RESIDENT, PAGES(50)), 0);
	assert_int_equal(weir_container_set(c, WEIR_MAX, PAGES(40)), -EAGAIN);
	assert_int_equal(weir_container_get(c, WEIR_MAX), PAGES(40));
	assert_int_equal(container_charge(c, CHARGE_RESIDENT, 1), -ENOMEM);
	container_uncharge(c, CHARGE_RESIDENT, PAGES(11));
	assert_int_equal(container_charge(c, CHARGE_RESIDENT, PAGES(1)), 0);
	assert_int_equal(weir_container_set(c, WEIR_MAX, PAGES(40)), 0);
	container_uncharge(c, CHARGE_RESIDENT, PAGES(40));
	close_tree();
}

/* high is a sixteenth below max for background reclaim, at most 8 MiB, at least 16 pages; a lower high counts. */
static void test_marks(void **state)
{
	static const struct {
		uint64_t max, mark;
	} marks[] = {
		{0, 0},
		{1, 1},
		{PAGE_SIZE, PAGE_SIZE / 2},
		{PAGES(64), PAGES(48)},
		{MIB(64), MIB(60)},
		{MIB(256), MIB(248)},
		{GIB(1024), GIB(1024) - MIB(8)},
		{INT64_MAX, INT64_MAX - MIB(8)},
		{WEIR_NO_LIMIT, WEIR_NO_LIMIT},
	};
	struct weir_container *c, *below;

	(void)state;
	open_tree(INT64_MAX);
	c = child(top, "c");
	below = child(c, "below");
	for (unsigned i = 0; i < ARRAY_SIZE(marks); i++) {
		container_set_max(c, marks[i].max);
		assert_true(load_relaxed(&c->mark) == marks[i].mark);
		assert_true(load_relaxed(&below->limit) == MIN(marks[i].max, (uint64_t)INT64_MAX));
	}
	assert_int_equal(weir_container_set(c, WEIR_HIGH, MIB(3)), 0);
	assert_int_equal(load_relaxed(&c->mark), MIB(3));
	close_tree();
}

/* --- events --- */

static void test_events_local_and_hierarchical(void **state)
{
	struct weir_container *a, *b;

	(void)state;
	open_tree(GIB(1));
	a = child(top, "a");
	b = child(a, "b");
	container_set_max(a, PAGES(4));
	/* b is charged, a is in the way: it is a's. */
	assert_int_equal(container_charge(b, CHARGE_RESIDENT, PAGES(5)), -ENOMEM);
	assert_int_equal(events_of(b, false).max, 0);
	assert_int_equal(events_of(a, true).max, 1);
	assert_int_equal(events_of(a, true).oom, 1);
	assert_int_equal(events_of(top, true).max, 0);
	assert_int_equal(events_of(top, false).max, 1);
	assert_int_equal(weir_container_set(b, WEIR_HIGH, PAGES(1)), 0);
	assert_int_equal(container_charge(b, CHARGE_RESIDENT, PAGES(2)), 0);
	container_throttle(b);
	assert_int_equal(events_of(b, true).high, 1);
	assert_int_equal(events_of(a, true).high, 0);
	assert_int_equal(events_of(a, false).high, 1);
	container_uncharge(b, CHARGE_RESIDENT, PAGES(2));
	close_tree();
}

/* --- effective low --- */

static struct weir_container *tenant(struct weir_container *parent, const char *name,
				     uint64_t usage, uint64_t low)
{
	struct weir_container *c = child(parent, name);

	assert_int_equal(weir_container_set(c, WEIR_LOW, low), 0);
	container_force(c, CHARGE_RESIDENT, usage);
	return c;
}

/* The kernel's own example: a parent protected with 50 and four children; the shares are of what each uses of its low. */
static void test_effective_low_is_shared_out(void **state)
{
	struct weir_container *parent, *b, *c, *d, *e;

	(void)state;
	open_tree(GIB(1));
	parent = child(top, "parent");
	assert_int_equal(weir_container_set(parent, WEIR_LOW, MIB(50)), 0);
	b = tenant(parent, "b", MIB(50), MIB(75));
	c = tenant(parent, "c", MIB(50), MIB(25));
	d = tenant(parent, "d", MIB(50), 0);
	e = tenant(parent, "e", 0, MIB(500));
	container_protect(top);
	assert_true(parent->elow == MIB(50) && !parent->safe);
	assert_int_equal(b->elow, MIB(50) * 50 / 75);
	assert_int_equal(c->elow, MIB(50) * 25 / 75);
	assert_int_equal(d->elow, 0);
	assert_int_equal(e->elow, 0);
	assert_false(b->safe || c->safe || d->safe);
	/* For reclaim in the parent itself its own low says nothing: each child has its own. */
	container_protect(parent);
	assert_int_equal(b->elow, MIB(75));
	assert_true(b->safe);
	assert_false(c->safe);
	/* A parent within its low protects all below it. */
	assert_int_equal(weir_container_set(parent, WEIR_LOW, MIB(150)), 0);
	container_protect(top);
	assert_true(parent->safe && b->safe && c->safe && d->safe);
	for (struct weir_container *t = parent->child; t; t = t->next)
		container_uncharge(t, CHARGE_RESIDENT, container_usage(t, CHARGE_RESIDENT));
	close_tree();
}

/* --- pressure --- */

static void test_pressure_some_and_full(void **state)
{
	const uint64_t ms = 1000000;
	uint64_t total[PRESSURE_KINDS], t = 5000 * ms;
	uint32_t avg[PRESSURE_KINDS];
	struct pressure p;

	(void)state;
	pressure_init(&p, t);
	/* Two threads fault; while one stalls it is some, while both do it is full as well. */
	pressure_begin(&p, 1, t += ms);
	pressure_end(&p, t += ms);
	pressure_begin(&p, 2, t += ms);
	pressure_begin(&p, 1, t += 10 * ms);
	pressure_end(&p, t += 5 * ms);
	pressure_end(&p, t += 3 * ms);
	pressure_read(&p, t + ms, total, avg);
	assert_int_equal(total[PRESSURE_SOME], 19 * ms);
	/* One thread alone, before the second was seen, and both together. */
	assert_int_equal(total[PRESSURE_FULL], 6 * ms);
	assert_int_equal(avg[PRESSURE_SOME], 0);
	/* A thread that faulted long ago is not waited for. */
	t += 200 * ms;
	pressure_begin(&p, 1, t);
	pressure_end(&p, t += 10 * ms);
	pressure_read(&p, t, total, avg);
	assert_int_equal(total[PRESSURE_FULL], 16 * ms);
	/* One whose faults are no stalls is. */
	pressure_note(&p, 2, t);
	pressure_begin(&p, 1, t);
	pressure_end(&p, t += 10 * ms);
	pressure_read(&p, t, total, avg);
	assert_int_equal(total[PRESSURE_FULL], 16 * ms);
	assert_int_equal(total[PRESSURE_SOME], 39 * ms);
	assert_true(total[PRESSURE_FULL] <= total[PRESSURE_SOME]);
}

/* All of the time for a minute is all; none for a minute is none. */
static void test_pressure_average(void **state)
{
	const uint64_t s = 1000000000;
	uint64_t total[PRESSURE_KINDS];
	uint32_t avg[PRESSURE_KINDS];
	struct weir_pressure print = {.some_avg10 = 4205, .some_us = 17, .full_us = 3};
	char text[128];
	struct pressure p;

	(void)state;
	pressure_init(&p, s);
	pressure_begin(&p, 1, s);
	pressure_read(&p, 3 * s, total, avg);
	/* One period: 1 - e^(-2/10) */
	assert_in_range(avg[PRESSURE_SOME], PRESSURE_ONE * 18 / 100, PRESSURE_ONE * 183 / 1000);
	pressure_read(&p, 61 * s, total, avg);
	assert_in_range(avg[PRESSURE_SOME], PRESSURE_ONE * 99 / 100, PRESSURE_ONE);
	assert_int_equal(avg[PRESSURE_FULL], avg[PRESSURE_SOME]);
	pressure_end(&p, 61 * s);
	pressure_read(&p, 121 * s, total, avg);
	assert_in_range(avg[PRESSURE_SOME], 0, PRESSURE_ONE / 100);
	assert_int_equal(total[PRESSURE_SOME], 60 * s);
	(void)weir_pressure_print(&print, text, sizeof(text));
	assert_string_equal(text, "some avg10=42.05 total=17\nfull avg10=0.00 total=3\n");
}

static void test_stalls_count_above_too(void **state)
{
	struct weir_container *a;
	struct weir_pressure p;

	(void)state;
	open_tree(GIB(1));
	a = child(top, "a");
	container_stall_begin(a, 7, now_ns());
	container_stall_end(a, now_ns() + 5000000);
	weir_container_pressure(top, &p);
	assert_true(p.some_us >= 4000 && p.full_us <= p.some_us);
	close_tree();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_depth_is_bounded),
		cmocka_unit_test(test_limits_as_text),
		cmocka_unit_test(test_delete_and_move_refuse),
		cmocka_unit_test(test_delete_reparents_the_charge),
		cmocka_unit_test(test_delete_drains_the_stocks),
		cmocka_unit_test(test_a_parent_outlives_the_deletion_of_its_child),
		cmocka_unit_test(test_a_container_in_use_is_not_moved),
		cmocka_unit_test(test_reclaim_tells_what_the_container_gave),
		cmocka_unit_test(test_peak_begins_anew),
		cmocka_unit_test(test_max_below_usage),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_events_local_and_hierarchical),
		cmocka_unit_test(test_effective_low_is_shared_out),
		cmocka_unit_test(test_pressure_some_and_full),
		cmocka_unit_test(test_pressure_average),
		cmocka_unit_test(test_stalls_count_above_too),
	};

	log_set_sink(no_log);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
