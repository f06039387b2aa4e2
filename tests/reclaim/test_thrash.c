/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Thrash control: pressure says when refaults rule, and only then; who is far above high is slowed down.
 *
 * Time is the fake's: it goes by where a fault looks at the clock, between faults, and while the background thread works, so that
 * what a stall takes does not depend on the machine.
 */
#include "tenants.h"

enum { LOOK = 400000000, LIMIT = 256, LARGE = 2048 };
#define SECOND 1000000000ull

static const struct world_options large = {.pages = {LARGE}};

static struct weir_pressure pressure_of(struct weir_container *c)
{
	struct weir_pressure p;

	weir_container_pressure(c, &p);
	return p;
}

static struct weir_container_stat stat_of(struct weir_container *c)
{
	struct weir_container_stat stat = {.size = sizeof(stat)};

	assert_int_equal(weir_container_stat(c, &stat), 0);
	return stat;
}

/* A background thread without work would sleep. */
static void keep_up(void)
{
	if (container_above_mark(a))
		background_turns(&w, 1);
}

/* Reads so many pages, one after the other and round and round; the background thread keeps up. */
static void read_round(uint32_t first, uint32_t count, uint32_t accesses)
{
	for (uint32_t i = 0; i < accesses; i++) {
		keep_up();
		fake_time_pass(LOOK);
		fake_time_step(LOOK);
		world_read(&w, 0, first + i % count);
		fake_time_step(0);
	}
}

/* A tenant with a limit, all of whose pages have been written, and have been away for long. */
static void open_limited(void)
{
	open_tenants(&large, 1);
	assert_int_equal(weir_container_set(a, WEIR_MAX, LIMIT * PAGE_SIZE), 0);
	for (uint32_t page = 0; page < LARGE; page++) {
		keep_up();
		write_some(0, page, 1, FILLED);
	}
	world_check(&w);
}

static void test_a_working_set_above_the_limit_is_pressure(void **state)
{
	struct weir_pressure before, p;
	uint64_t refaults;

	(void)state;
	open_limited();
	read_round(0, LIMIT * 5 / 4, LIMIT * 5 / 4);
	fake_time_pass(120 * SECOND);
	refaults = stat_of(a).refaults;
	before = pressure_of(a);
	assert_int_equal(before.some_avg10, 0);
	read_round(0, LIMIT * 5 / 4, 3000);
	p = pressure_of(a);
	/* One thread, so all that stalls is all. */
	assert_true(p.some_avg10 > 1000);
	assert_true(p.full_avg10 > 1000);
	assert_true(stat_of(a).refaults > refaults + 1000);
	/* More than a look at the clock for each of them. */
	assert_true(p.some_us - before.some_us >=
		    (stat_of(a).refaults - refaults) / 2 * (LOOK / 1000));
	/* The same, and it fits: what was in the way has gone, and the figure with it. */
	read_round(0, LIMIT / 2, LIMIT);
	before = pressure_of(a);
	refaults = stat_of(a).refaults;
	read_round(0, LIMIT / 2, 1000);
	fake_time_pass(120 * SECOND);
	p = pressure_of(a);
	assert_int_equal(p.some_us, before.some_us);
	assert_int_equal(p.some_avg10, 0);
	assert_int_equal(p.full_avg10, 0);
	assert_int_equal(stat_of(a).refaults, refaults);
	world_close(&w);
}

/* Every access is a major fault, and none of these pages would be there if there were twice the memory. */
static void test_reading_once_is_no_pressure(void **state)
{
	struct weir_pressure before;
	struct weir_container_stat stat;

	(void)state;
	open_limited();
	stat = stat_of(a);
	before = pressure_of(a);
	read_round(0, LARGE - 2 * LIMIT, LARGE - 2 * LIMIT);
	assert_true(stat_of(a).major_faults - stat.major_faults >= LARGE - 3 * LIMIT);
	assert_int_equal(stat_of(a).refaults, stat.refaults);
	assert_int_equal(pressure_of(a).some_us, before.some_us);
	assert_int_equal(pressure_of(a).some_avg10, 0);
	world_close(&w);
}

/* A first touch that finds no room waits for it. */
static void test_waiting_for_room_is_a_stall(void **state)
{
	(void)state;
	open_tenants(&two, 1);
	assert_int_equal(weir_container_set(a, WEIR_MAX, 64 * PAGE_SIZE), 0);
	fake_time_step(LOOK);
	write_some(0, 0, 64, FILLED);
	assert_int_equal(pressure_of(a).some_us, 0);
	write_some(0, 64, 200, FILLED);
	assert_true(pressure_of(a).some_us > 0);
	assert_int_equal(stat_of(a).major_faults, 0);
	world_close(&w);
}

/* --- high --- */

static unsigned handed_over;

static void count_hand_over(void *data)
{
	(void)data;
	handed_over++;
	/* Nobody else would be kept from the page meanwhile. */
	assert_false(load_relaxed(&w.only->word[0]) & WORD_BUSY);
}

/* A tenant whose own memory is so many pages above a high of 1000: nothing that reclaim could take. */
static void open_above_high(uint32_t over)
{
	open_tenants(&two, 1);
	assert_int_equal(charge_bytes(a, (1000 + over) * PAGE_SIZE), 0);
	w.own = (1000 + over) * PAGE_SIZE;
	assert_int_equal(weir_container_set(a, WEIR_HIGH, 1000 * PAGE_SIZE), -EAGAIN);
	w.pager->before_block = count_hand_over;
	w.vm.asleep_most = 1;
	handed_over = 0;
}

static void close_above_high(void)
{
	uncharge_bytes(a, w.own);
	w.own = 0;
	world_close(&w);
}

/* The farther above high the longer, up to a bound; all of it is pressure. */
static void test_far_above_high_faults_sleep(void **state)
{
	static const struct {
		uint32_t over;
		uint64_t least_us, most_us;
	} cases[] = {{10, 0, 0},	{30, 50, 110},	   {60, 340, 400},
		     {120, 1400, 1500}, {200, 2000, 2000}, {5000, 2000, 2000}};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t high;

		open_above_high(cases[i].over);
		high = events_of(a).high;
		(void)touch(&w, 0, true);
		assert_int_equal(events_of(a).high, high + 1);
		assert_in_range(fake_slept() / 1000, cases[i].least_us, cases[i].most_us);
		assert_int_equal(handed_over, cases[i].least_us > 0);
		assert_int_equal(pressure_of(a).some_us, fake_slept() / 1000);
		assert_int_equal(load_relaxed(&w.vm.asleep), 0);
		close_above_high();
	}
}

/* The last handler that is awake stays awake, and so do all before a fork, and the background thread always. */
static void test_who_is_needed_does_not_sleep(void **state)
{
	(void)state;
	open_above_high(500);
	store_relaxed(&w.vm.asleep, 1);
	(void)touch(&w, 0, true);
	assert_int_equal(fake_slept(), 0);
	assert_int_equal(load_relaxed(&w.vm.asleep), 1);
	store_relaxed(&w.vm.asleep, 0);
	store_relaxed(&w.vm.hold, 1);
	(void)touch(&w, 1, true);
	assert_int_equal(fake_slept(), 0);
	store_relaxed(&w.vm.hold, 0);
	w.pager->before_block = NULL;
	(void)touch(&w, 2, true);
	assert_int_equal(fake_slept(), 0);
	assert_int_equal(handed_over, 0);
	/* A thread that serves itself keeps nobody. */
	w.pager->borrowed = true;
	(void)touch(&w, 3, true);
	assert_int_equal(fake_slept(), DELAY_MOST_NS);
	w.pager->borrowed = false;
	close_above_high();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_working_set_above_the_limit_is_pressure),
		cmocka_unit_test(test_reading_once_is_no_pressure),
		cmocka_unit_test(test_waiting_for_room_is_a_stall),
		cmocka_unit_test(test_far_above_high_faults_sleep),
		cmocka_unit_test(test_who_is_needed_does_not_sleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
