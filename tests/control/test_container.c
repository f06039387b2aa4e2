/* SPDX-License-Identifier: BSD-2-Clause */
/* The container: what is charged, what is refused, who is asked for room, and that the sums hold among threads. */
#include "../unit.h"

#include "base/atomic.h"
#include "control/container.h"

static int64_t sum_of_usage(struct container *c)
{
	int64_t sum = 0;

	for (unsigned kind = 0; kind < CHARGE_KINDS; kind++)
		sum += load_relaxed(&c->usage[kind]);
	return sum;
}

/* charged = sum of usage, after every step of a random run; the peak is the highest of them. */
static void test_charged_is_the_sum_of_usage(void **state)
{
	uint64_t seed = test_seed(), peak = 0;
	uint64_t usage[CHARGE_KINDS] = {0}, total = 0;
	struct container c;

	(void)state;
	container_init(&c, MIB(1));
	for (unsigned i = 0; i < 20000; i++) {
		enum charge_kind kind = random_below(&seed, CHARGE_KINDS);
		uint64_t bytes = 1 + random_below(&seed, 3 * PAGE_SIZE);

		if (random_chance(&seed, 2) && usage[kind] >= bytes) {
			container_uncharge(&c, kind, bytes);
			usage[kind] -= bytes;
			total -= bytes;
		} else if (random_chance(&seed, 8)) {
			container_force(&c, kind, bytes);
			usage[kind] += bytes;
			total += bytes;
		} else if (container_try(&c, kind, bytes)) {
			usage[kind] += bytes;
			total += bytes;
			assert_true(total <= MIB(1));
		} else {
			assert_true(total + bytes > MIB(1));
		}
		peak = MAX(peak, total);
		assert_int_equal(container_charged(&c), total);
		assert_int_equal(container_usage(&c, kind), usage[kind]);
		assert_int_equal(sum_of_usage(&c), total);
		assert_int_equal(load_relaxed(&c.peak), peak);
		assert_int_equal(container_above_max(&c), total > MIB(1));
		assert_int_equal(container_above_high(&c), total > load_relaxed(&c.high));
	}
}

/* Up to max exactly; a byte more is refused, and charges nothing. */
static void test_max_is_exact(void **state)
{
	struct container c;

	(void)state;
	container_init(&c, MIB(1));
	assert_int_equal(container_charge(&c, CHARGE_RESIDENT, MIB(1) - 1), 0);
	assert_false(container_try(&c, CHARGE_RESIDENT, 2));
	assert_int_equal(container_charge(&c, CHARGE_COMPRESSED, 2), -ENOMEM);
	assert_int_equal(container_charged(&c), MIB(1) - 1);
	assert_int_equal(container_usage(&c, CHARGE_COMPRESSED), 0);
	assert_true(container_try(&c, CHARGE_COMPRESSED, 1));
	assert_false(container_above_max(&c));
	assert_int_equal(container_charge(&c, CHARGE_RESIDENT, 1), -ENOMEM);
	assert_int_equal(container_charged(&c), MIB(1));
	assert_int_equal(load_relaxed(&c.peak), MIB(1));
	/* More than max can never hold. */
	assert_int_equal(container_charge(&c, CHARGE_RESIDENT, MIB(2)), -ENOMEM);
	assert_int_equal(load_relaxed(&c.peak), MIB(1));
	container_uncharge(&c, CHARGE_RESIDENT, MIB(1) - 1);
	container_uncharge(&c, CHARGE_COMPRESSED, 1);
	assert_int_equal(container_charged(&c), 0);
	assert_int_equal(load_relaxed(&c.peak), MIB(1));
}

/* Nobody to ask: a container of nothing takes nothing. */
static void test_a_limit_of_nothing(void **state)
{
	struct container c;

	(void)state;
	container_init(&c, 0);
	assert_false(container_try(&c, CHARGE_RESIDENT, 1));
	assert_int_equal(container_charge(&c, CHARGE_RESIDENT, PAGE_SIZE), -ENOMEM);
	assert_true(container_try(&c, CHARGE_RESIDENT, 0));
	assert_false(container_above_high(&c));
	assert_false(container_above_max(&c));
	container_force(&c, CHARGE_RESIDENT, 1);
	assert_true(container_above_max(&c));
}

/* --- make room --- */

struct room {
	struct container *container;
	uint64_t asked, step; /* the last bytes asked for; what each call frees */
	unsigned calls, most; /* of calls that free something */
};

static bool make_room(void *data, uint64_t bytes)
{
	struct room *r = data;

	r->asked = bytes;
	r->calls++;
	if (r->calls > r->most)
		return false;
	if (r->step)
		container_uncharge(r->container, CHARGE_RESIDENT, r->step);
	return true;
}

/* Asked only at the limit, with the bytes that are wanted, again and again as long as it gives. */
static void test_make_room_is_asked_until_it_fits(void **state)
{
	struct container c;
	struct room r = {.container = &c, .step = PAGE_SIZE, .most = 100};

	(void)state;
	container_init(&c, 64 * PAGE_SIZE);
	c.ops = (struct container_ops){.make_room = make_room, .data = &r};
	assert_int_equal(container_charge(&c, CHARGE_RESIDENT, 64 * PAGE_SIZE), 0);
	assert_int_equal(r.calls, 0);
	assert_false(container_try(&c, CHARGE_RESIDENT, PAGE_SIZE));
	assert_int_equal(r.calls, 0);
	assert_int_equal(container_charge(&c, CHARGE_COMPRESSED, 5 * PAGE_SIZE), 0);
	assert_int_equal(r.calls, 5);
	assert_int_equal(r.asked, 5 * PAGE_SIZE);
	assert_int_equal(container_charged(&c), 64 * PAGE_SIZE);
	assert_int_equal(container_usage(&c, CHARGE_RESIDENT), 59 * PAGE_SIZE);
	container_force(&c, CHARGE_COMPRESSED, PAGE_SIZE);
	assert_int_equal(r.calls, 5);
}

/* When it has nothing more to give: -ENOMEM, and nothing is charged but what it freed is free. */
static void test_make_room_that_gives_up(void **state)
{
	struct container c;
	struct room r = {.container = &c, .step = PAGE_SIZE, .most = 3};

	(void)state;
	container_init(&c, 64 * PAGE_SIZE);
	c.ops = (struct container_ops){.make_room = make_room, .data = &r};
	assert_int_equal(container_charge(&c, CHARGE_RESIDENT, 64 * PAGE_SIZE), 0);
	assert_int_equal(container_charge(&c, CHARGE_COMPRESSED, 8 * PAGE_SIZE), -ENOMEM);
	assert_int_equal(r.calls, 4);
	assert_int_equal(container_usage(&c, CHARGE_COMPRESSED), 0);
	assert_int_equal(container_charged(&c), 61 * PAGE_SIZE);
	/* One that lies, freeing nothing, is asked again until it stops saying yes. */
	r = (struct room){.container = &c, .step = 0, .most = 50};
	assert_int_equal(container_charge(&c, CHARGE_COMPRESSED, 8 * PAGE_SIZE), -ENOMEM);
	assert_int_equal(r.calls, 51);
	assert_int_equal(container_charged(&c), 61 * PAGE_SIZE);
}

/* --- slack --- */

static uint64_t tell_slack(void *data)
{
	return *(uint64_t *)data;
}

/* What is held and not used presses at once: on both marks and on charges, and is no charge itself. */
static void test_slack_presses_like_a_charge(void **state)
{
	uint64_t slack = 0;
	struct container c;

	(void)state;
	container_init(&c, MIB(64));
	c.ops = (struct container_ops){.slack = tell_slack, .data = &slack};
	assert_int_equal(container_charge(&c, CHARGE_RESIDENT, MIB(50)), 0);
	assert_int_equal(container_held(&c), MIB(50));
	slack = MIB(10);
	assert_int_equal(container_held(&c), MIB(60));
	assert_int_equal(container_charged(&c), MIB(50));
	assert_false(container_above_high(&c));
	slack = MIB(10) + 1;
	assert_true(container_above_high(&c));
	assert_true(container_try(&c, CHARGE_RESIDENT, MIB(4) - 1));
	assert_false(container_above_max(&c));
	assert_false(container_try(&c, CHARGE_RESIDENT, 1));
	assert_int_equal(container_charge(&c, CHARGE_COMPRESSED, 1), -ENOMEM);
	slack = MIB(20);
	assert_true(container_above_max(&c));
	assert_int_equal(load_relaxed(&c.peak), MIB(54) - 1);
	slack = 0;
	assert_false(container_above_high(&c));
	assert_int_equal(container_charge(&c, CHARGE_COMPRESSED, MIB(10) + 1), 0);
	assert_false(container_try(&c, CHARGE_COMPRESSED, 1));
}

/* --- marks --- */

/* high is a sixteenth below max, at most 8 MiB, at least 16 pages; below 32 pages, half of it. */
static void test_marks_for_tiny_and_huge_limits(void **state)
{
	static const struct {
		uint64_t max, high;
	} marks[] = {
		{0, 0},
		{1, 1},
		{2, 1},
		{PAGE_SIZE, PAGE_SIZE / 2},
		{16 * PAGE_SIZE, 8 * PAGE_SIZE},
		{32 * PAGE_SIZE, 16 * PAGE_SIZE},
		{64 * PAGE_SIZE, 48 * PAGE_SIZE},
		{MIB(1), MIB(1) - 16 * PAGE_SIZE},
		{MIB(64), MIB(60)},
		{MIB(128), MIB(120)},
		{MIB(256), MIB(248)},
		{GIB(1024), GIB(1024) - MIB(8)},
		{INT64_MAX, INT64_MAX - MIB(8)},
	};
	struct container c;

	(void)state;
	container_init(&c, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(marks); i++) {
		container_set_max(&c, marks[i].max);
		assert_int_equal(load_relaxed(&c.max), marks[i].max);
		assert_int_equal(load_relaxed(&c.high), marks[i].high);
	}
	/* The largest limit takes everything. */
	assert_true(container_try(&c, CHARGE_RESIDENT, GIB(1)));
	assert_true(container_try(&c, CHARGE_RESIDENT, INT64_MAX - GIB(1)));
	assert_false(container_above_max(&c));
}

/* A limit that is lowered below what is charged refuses until enough is uncharged; raised, it takes at once. */
static void test_a_limit_that_moves(void **state)
{
	struct container c;

	(void)state;
	container_init(&c, MIB(64));
	assert_int_equal(container_charge(&c, CHARGE_RESIDENT, MIB(48)), 0);
	assert_false(container_above_high(&c));
	container_set_max(&c, MIB(32));
	assert_true(container_above_high(&c));
	assert_true(container_above_max(&c));
	assert_int_equal(container_charge(&c, CHARGE_RESIDENT, PAGE_SIZE), -ENOMEM);
	assert_int_equal(container_charged(&c), MIB(48));
	container_uncharge(&c, CHARGE_RESIDENT, MIB(17));
	assert_int_equal(container_charge(&c, CHARGE_RESIDENT, MIB(1)), 0);
	assert_false(container_above_max(&c));
	assert_true(container_above_high(&c));
	container_set_max(&c, MIB(128));
	assert_int_equal(container_charge(&c, CHARGE_RESIDENT, MIB(96)), 0);
	assert_int_equal(load_relaxed(&c.peak), MIB(128));
}

/* --- force and misuse --- */

/* Reclaim's own copies go over, are seen to, and count in the peak. */
static void test_force_goes_over(void **state)
{
	struct container c;

	(void)state;
	container_init(&c, MIB(1));
	assert_int_equal(container_charge(&c, CHARGE_RESIDENT, MIB(1)), 0);
	container_force(&c, CHARGE_COMPRESSED, MIB(2));
	assert_int_equal(container_charged(&c), MIB(3));
	assert_int_equal(container_usage(&c, CHARGE_COMPRESSED), MIB(2));
	assert_int_equal(load_relaxed(&c.peak), MIB(3));
	assert_true(container_above_max(&c));
	assert_false(container_try(&c, CHARGE_RESIDENT, 1));
	container_uncharge(&c, CHARGE_COMPRESSED, MIB(2));
	assert_false(container_above_max(&c));
	assert_int_equal(load_relaxed(&c.peak), MIB(3));
}

struct misuse {
	uint64_t charged, uncharged;
	enum charge_kind kind, other;
};

static void uncharge_wrongly(void *arg)
{
	const struct misuse *m = arg;
	struct container c;

	container_init(&c, MIB(1));
	container_force(&c, m->kind, m->charged);
	container_uncharge(&c, m->other, m->uncharged);
}

/* Giving back more than was taken, in all or of one kind, is a bug that must not stay hidden. */
static void test_underflow_panics(void **state)
{
	struct misuse wrong[] = {
		{0, 1, CHARGE_RESIDENT, CHARGE_RESIDENT},
		{PAGE_SIZE, PAGE_SIZE + 1, CHARGE_COMPRESSED, CHARGE_COMPRESSED},
		{MIB(1), PAGE_SIZE, CHARGE_RESIDENT, CHARGE_COMPRESSED},
	};
	struct misuse right = {PAGE_SIZE, PAGE_SIZE, CHARGE_COMPRESSED, CHARGE_COMPRESSED};
	struct child child;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		run_child(&child, uncharge_wrongly, &wrong[i]);
		assert_panicked(&child);
	}
	child_passes(uncharge_wrongly, &right);
}

/* --- threads --- */

enum { CHARGERS = 4, STEPS = 100000, MOST = 4 * PAGE_SIZE };

struct crowd {
	struct container c;
	uint64_t seed;
	_Atomic int64_t held; /* successful minus given back */
	_Atomic unsigned charged, refused, over;
};

static void charge_at_random(unsigned index, void *arg)
{
	struct crowd *crowd = arg;
	struct container *c = &crowd->c;
	uint64_t seed = crowd->seed + index, mine[CHARGE_KINDS] = {0};

	for (unsigned i = 0; i < STEPS; i++) {
		enum charge_kind kind = random_below(&seed, CHARGE_KINDS);
		uint64_t bytes = 1 + random_below(&seed, MOST);

		if (mine[kind] >= bytes && random_below(&seed, 5) < 2) {
			/* First out of the oracle, so that it never holds more than the container. */
			sub_relaxed(&crowd->held, (int64_t)bytes);
			container_uncharge(c, kind, bytes);
			mine[kind] -= bytes;
		} else if (container_try(c, kind, bytes)) {
			add_relaxed(&crowd->held, (int64_t)bytes);
			add_relaxed(&crowd->charged, 1);
			mine[kind] += bytes;
		} else {
			add_relaxed(&crowd->refused, 1);
		}
		if (load_relaxed(&crowd->held) > (int64_t)load_relaxed(&c->max) ||
		    container_charged(c) > load_relaxed(&c->max) + CHARGERS * (uint64_t)MOST)
			add_relaxed(&crowd->over, 1);
	}
	for (unsigned kind = 0; kind < CHARGE_KINDS; kind++) {
		if (index % 2)
			continue;
		container_uncharge(c, kind, mine[kind]);
		sub_relaxed(&crowd->held, (int64_t)mine[kind]);
	}
}

/*
 * What was granted never exceeds max; charged exceeds it by attempts in flight only; when all is quiet the sums are
 * those of the oracle.
 */
static void test_threads_never_exceed_max(void **state)
{
	struct crowd crowd = {.seed = test_seed()};

	(void)state;
	container_init(&crowd.c, 32 * PAGE_SIZE);
	run_threads(CHARGERS, charge_at_random, &crowd);
	assert_int_equal(load_relaxed(&crowd.over), 0);
	assert_true(load_relaxed(&crowd.charged) > STEPS / 10);
	assert_true(load_relaxed(&crowd.refused) > STEPS / 10);
	assert_int_equal(container_charged(&crowd.c), load_relaxed(&crowd.held));
	assert_int_equal(sum_of_usage(&crowd.c), load_relaxed(&crowd.held));
	assert_in_range(load_relaxed(&crowd.c.peak), 31 * PAGE_SIZE, 32 * PAGE_SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_charged_is_the_sum_of_usage),
		cmocka_unit_test(test_max_is_exact),
		cmocka_unit_test(test_a_limit_of_nothing),
		cmocka_unit_test(test_make_room_is_asked_until_it_fits),
		cmocka_unit_test(test_make_room_that_gives_up),
		cmocka_unit_test(test_slack_presses_like_a_charge),
		cmocka_unit_test(test_marks_for_tiny_and_huge_limits),
		cmocka_unit_test(test_a_limit_that_moves),
		cmocka_unit_test(test_force_goes_over),
		cmocka_unit_test(test_underflow_panics),
		cmocka_unit_test(test_threads_never_exceed_max),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
