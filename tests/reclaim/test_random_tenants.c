/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random operations of several tenants: they come and go at any depth, their limits move, regions change hands with and
 * without their pages, memory of their own is charged, bytes are asked back; calls of the kernel fail, and another thread
 * moves limits and charges between them. Oracles: what this test has charged itself, to the byte and the container; what
 * the words say, of each container (world_check); and the contents of every page. A seed repeats a run exactly.
 * See random_run.h for the environment.
 */
#include "tenants.h"

#include "control/stock.h"
#include "random_run.h"

enum { WORLDS = 4, REGIONS = 3, BOXES = 8, CHECK_EACH = 50 };

/* The containers that there are, the root first, and what this test has charged to each itself. */
static struct box {
	struct weir_container *container;
	uint64_t own;
} box[BOXES];
static unsigned boxes;

/* What happened in all worlds; a run in which something never did has tested nothing. */
static struct {
	uint64_t made, deleted, deleted_with_charge, moved, moved_pages, left_behind, charged,
		refused, poisoned, reclaimed, lowered, written, stolen, over_max, max, high, low,
		oom, swap_max;
} sum;

static struct box *any_box(void)
{
	return &box[below(boxes)];
}

static uint64_t some_pages(uint32_t most)
{
	return (uint64_t)below(most) << PAGE_SHIFT;
}

/* --- tenants --- */

static void make(void)
{
	static unsigned number;
	struct weir_container *c = NULL;
	char name[16];
	bool fails = one_in(8);

	if (boxes == BOXES)
		return;
	(void)snprintf(name, sizeof(name), "t%u", number++);
	if (fails)
		fake_fail(FAKE_ALLOC, 1, 0, -ENOMEM);
	assert_int_equal(weir_container_create(any_box()->container, name, &c),
			 fails ? -ENOMEM : 0);
	if (fails)
		return;
	box[boxes++] = (struct box){.container = c};
	sum.made++;
}

static struct box *box_of(const struct weir_container *c)
{
	for (unsigned i = 0; i < boxes; i++) {
		if (box[i].container == c)
			return &box[i];
	}
	fail_msg("a container that nobody made");
	return NULL;
}

/* All that it had is its parent's. */
static void end(struct box *gone)
{
	struct weir_container *c = gone->container, *parent = c->parent;
	const bool leaf = !c->child;
	uint64_t above;

	if (!parent || !leaf) {
		assert_int_equal(weir_container_delete(c), parent ? -EBUSY : -EINVAL);
		return;
	}
	/* A job that is under way is ended first. */
	reclaim_quiesce(&w.reclaim);
	w.pager->container = NULL;
	(void)stocks_drain(&w.tree, NULL, true);
	above = container_charged(parent);
	sum.deleted_with_charge += container_charged(c) > 0;
	assert_int_equal(weir_container_delete(c), 0);
	assert_int_equal(container_charged(parent), above);
	box_of(parent)->own += gone->own;
	*gone = box[--boxes];
	sum.deleted++;
}

static void move_region(void)
{
	const unsigned region = below(REGIONS);
	struct weir_container *to = any_box()->container;

	if (region_owner_slot(w.region[region], to) < 0)
		return;
	take_over(region, to);
	sum.moved++;
	if (one_in(2)) {
		int err = region_transfer(&w.vm, w.region[region]);

		assert_true(!err || err == -ENOMEM);
		sum.left_behind += err != 0;
		sum.moved_pages += !err;
	}
}

/* weir_container_set reclaims what is over; what cannot be is told. */
static void set_limit(void)
{
	static const enum weir_value values[] = {WEIR_MAX,  WEIR_MAX, WEIR_MAX,
						 WEIR_HIGH, WEIR_LOW, WEIR_SWAP_MAX};
	const enum weir_value value = values[below(ARRAY_SIZE(values))];
	struct weir_container *c = any_box()->container;
	uint64_t bytes = one_in(4) ? WEIR_NO_LIMIT : (16 + below(600)) * PAGE_SIZE;
	int err;

	if (!c->parent && value == WEIR_MAX)
		bytes = MAX(MIN(bytes, MIB(64)), (uint64_t)WEIR_LIMIT_MIN);
	err = weir_container_set(c, value, bytes);
	assert_true(!err || err == -EAGAIN);
	if (value == WEIR_MAX || value == WEIR_HIGH)
		assert_int_equal(err, container_held(c) > bytes ? -EAGAIN : 0);
	assert_true(weir_container_get(c, value) == bytes);
	sum.lowered += bytes != WEIR_NO_LIMIT;
}

static void charge_own(struct box *who)
{
	const uint64_t bytes = one_in(4) ? 1 + below(100000) : some_pages(4);
	int err = charge_bytes(who->container, bytes);

	assert_true(!err || err == -ENOMEM || err == -EAGAIN);
	who->own += err ? 0 : bytes;
	sum.charged += !err;
	sum.refused += err != 0;
}

static void uncharge_own(struct box *who)
{
	uint64_t bytes = some_pages(4);

	bytes = one_in(3) ? who->own : MIN(who->own, bytes);

	who->own -= bytes;
	uncharge_bytes(who->container, bytes);
}

static void ask_back(void)
{
	struct weir_container *c = any_box()->container;
	uint64_t bytes = one_in(10) ? UINT64_MAX : some_pages(100), before;

	(void)stocks_drain(&w.tree, NULL, true);
	before = container_held(c);
	if (weir_container_reclaim(c, bytes) == 0) {
		assert_true(container_held(c) + bytes <= before);
		sum.reclaimed++;
	}
}

/* What another thread may do between the calls of the kernel. It must not wait for a busy page. */
static void meddle(void *data)
{
	struct box *who = any_box();

	(void)data;
	if (one_in(2))
		container_set_max(who->container, WEIR_LIMIT_MIN + some_pages(600));
	else if (who->own)
		uncharge_own(who);
	else if (stock_here)
		(void)stocks_drain(&w.tree, NULL, false);
}

/* --- the program --- */

/* A first touch may be refused: then the page is poisoned, until it is discarded. */
static void touch_some(void)
{
	static _Alignas(4096) char page[4096];
	const unsigned region = below(REGIONS);
	uint32_t at = below(PAGES);

	for (uint32_t left = one_in(4) ? 1 + below(40) : 1; left && at < PAGES; left--, at++) {
		const bool none = word_state(word_at(&w, region, at)) == PAGE_NONE;

		w.lost[region][at] |= none;
		if (one_in(2)) {
			world_read(&w, region, at);
		} else {
			fill_as(page, (enum contents)below(4), random_next(&rng));
			world_write(&w, region, at, page);
		}
		if (word_state(word_at(&w, region, at)) == PAGE_POISONED)
			sum.poisoned += none;
		else
			w.lost[region][at] = false;
	}
}

static void discard_some(void)
{
	const uint32_t page = below(PAGES), count = 1 + below(MIN(PAGES - page, 60u));

	assert_int_equal(world_discard(&w, below(REGIONS), page, count, one_in(2)), 0);
}

static void write_out(void *data)
{
	static bool writing;

	(void)data;
	if (writing)
		return;
	writing = true;
	(void)writeback_once(&w.reclaim);
	writing = false;
	fake_time_pass(1000000);
}

/* The background thread gets on, now and then. */
static void yield(void *data)
{
	if (one_in(16))
		write_out(data);
}

static void inject(void)
{
	static const struct {
		enum fake_call call;
		int err;
	} failures[] = {{FAKE_COPY, -ENOMEM},	    {FAKE_COPY, -EAGAIN},
			{FAKE_PROTECT, -EAGAIN},    {FAKE_DROP, -ENOMEM},
			{FAKE_FILE_WRITE, -ENOSPC}, {FAKE_UNPROTECT, -EAGAIN}};
	static const enum fake_call calls[] = {FAKE_COPY, FAKE_PROTECT, FAKE_DROP, FAKE_FILE_WRITE,
					       FAKE_FILE_READ};
	const unsigned i = below(ARRAY_SIZE(failures));

	if (one_in(2))
		fake_fail(failures[i].call, 1 + below(3), below(20), failures[i].err);
	else
		fake_meanwhile(calls[below(ARRAY_SIZE(calls))], meddle, NULL);
}

static void step(void)
{
	const unsigned dice = below(100);

	if (one_in(8))
		inject();
	if (dice < 50)
		touch_some();
	else if (dice < 56)
		discard_some();
	else if (dice < 62)
		reclaim_after_fault(&w.reclaim, w.pager);
	else if (dice < 68)
		(void)reclaim_once(&w.reclaim, w.pager);
	else if (dice < 74)
		write_out(NULL);
	(void)fake_calm();
	if (dice < 74)
		return;
	if (dice < 78)
		make();
	else if (dice < 81)
		end(any_box());
	else if (dice < 85)
		move_region();
	else if (dice < 90)
		set_limit();
	else if (dice < 94)
		charge_own(any_box());
	else if (dice < 97)
		uncharge_own(any_box());
	else
		ask_back();
	(void)fake_calm();
}

/* --- the oracle of sums --- */

static void container_check(struct weir_container *c)
{
	uint64_t own = c == w.container ? w.packets : 0, usage = 0, of_children[EVENTS] = {0};

	for (unsigned i = 0; i < boxes; i++)
		own += container_below(box[i].container, c) ? box[i].own : 0;
	for (unsigned kind = 0; kind < CHARGE_KINDS; kind++)
		usage += container_usage(c, (enum charge_kind)kind);
	assert_int_equal(container_charged(c), usage + own);
	assert_true(weir_container_get(c, WEIR_PEAK) >= usage + own);
	for (struct weir_container *child = c->child; child; child = child->next) {
		assert_ptr_equal(child->parent, c);
		for (unsigned e = 0; e < EVENTS; e++)
			of_children[e] += load_relaxed(&child->all[e]);
	}
	/* Those of children that are gone stay with their ancestors. */
	for (unsigned e = 0; e < EVENTS; e++)
		assert_true(load_relaxed(&c->all[e]) >=
			    load_relaxed(&c->local[e]) + of_children[e]);
}

static void check_all(void)
{
	(void)stocks_drain(&w.tree, NULL, true);
	w.own = 0;
	for (unsigned i = 0; i < boxes; i++)
		w.own += box[i].own;
	assert_int_equal(load_relaxed(&w.tree.count), boxes);
	for (unsigned i = 0; i < boxes; i++)
		container_check(box[i].container);
	world_check(&w);
}

/* Pages that were refused begin anew. */
static void forget_refused(void)
{
	for (unsigned r = 0; r < REGIONS; r++) {
		for (uint32_t page = 0; page < PAGES; page++) {
			if (word_state(word_at(&w, r, page)) == PAGE_POISONED)
				assert_int_equal(world_discard(&w, r, page, 1, true), 0);
		}
	}
}

static void sum_up(void)
{
	struct weir_events e;

	weir_container_events(w.container, 0, &e);
	sum.max += e.max;
	sum.high += e.high;
	sum.low += e.low;
	sum.oom += e.oom;
	sum.swap_max += e.swap_max;
	sum.written += load_relaxed(&w.vm.count.written);
	sum.stolen += load_relaxed(&w.container->count[COUNT_STOLEN]);
	sum.over_max += load_relaxed(&w.container->count[COUNT_OVER_MAX]);
}

static void one_world(unsigned number)
{
	const struct world_options options = {
		.max = number % 2 ? 300 + below(700) : 0,
		.pages = {PAGES, PAGES, PAGES},
		.streams = true,
	};

	world_open(&w, &options);
	fake_on_yield(yield, NULL);
	if (number < 2)
		assert_int_equal(stock_open(), 0);
	box[0] = (struct box){.container = w.container};
	boxes = 1;
	for (unsigned i = 1; i <= steps; i++) {
		step();
		if (i % CHECK_EACH)
			continue;
		check_all();
		if (one_in(3))
			forget_refused();
	}
	/* All go, leaves first; what they had is the root's, and the pages are what they were. */
	while (boxes > 1)
		end(&box[1 + below(boxes - 1)]);
	uncharge_bytes(w.container, box[0].own);
	box[0].own = 0;
	stock_close();
	check_all();
	forget_refused();
	container_set_max(w.container, MIB(64));
	for (unsigned r = 0; r < REGIONS; r++) {
		for (uint32_t page = 0; page < PAGES; page++)
			world_read(&w, r, page);
	}
	reclaim_quiesce(&w.reclaim);
	sum_up();
	world_close(&w);
}

static void test_sums_hold_whatever_tenants_do(void **state)
{
	(void)state;
	for (unsigned i = 0; i < WORLDS; i++) {
		/* Each world by itself, so that one can be repeated without those before. */
		rng = seed + i;
		one_world(i);
	}
}

/* It fails if it idled. */
static void test_everything_happened(void **state)
{
	bool all = true;

	(void)state;
	if (steps < 600)
		skip();
	all &= HAPPENED(made);
	all &= HAPPENED(deleted);
	all &= HAPPENED(deleted_with_charge);
	all &= HAPPENED(moved);
	all &= HAPPENED(charged);
	all &= HAPPENED(lowered);
	all &= HAPPENED(written);
	all &= HAPPENED(stolen);
	all &= HAPPENED(max);
	/* Each in most runs, but a seed may well miss one. */
	(void)HAPPENED(over_max);
	(void)HAPPENED(reclaimed);
	(void)HAPPENED(moved_pages);
	(void)HAPPENED(high);
	(void)HAPPENED(swap_max);
	(void)HAPPENED(left_behind);
	(void)HAPPENED(refused);
	(void)HAPPENED(low);
	(void)HAPPENED(oom);
	(void)HAPPENED(poisoned);
	assert_true(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sums_hold_whatever_tenants_do),
		cmocka_unit_test(test_everything_happened),
	};
	random_run_begin(600);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
