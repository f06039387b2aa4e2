/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The share of copies against an oracle: a model of a container, run once with each of some fixed shares, and once with one that
 * follows. It counts what loads cost: one from memory 12 microseconds, one from the file more; a copy takes two fifths of a page.
 *
 * In the model pages leave in the order in which they came (nothing has credit), copies go to the file in the order in which their
 * pages left, and a resident page has no copy.
 */
#include "../base/help.h"

#include "../random.h"
#include "vm/share.h"

enum {
	LIMIT = 2048, /* pages */
	PAGES_MOST = 8192,
	COPY_BYTES = PAGE_SIZE * 2 / 5,
	MEMORY_NS = 12000,
};
#define LIMIT_BYTES ((uint64_t)LIMIT * PAGE_SIZE)
#define BOUND_BYTES (LIMIT_BYTES / 4 * 3)

/* --- the model --- */

enum where { NOWHERE, RESIDENT, COPIED, STORED };
static struct model {
	enum where where[PAGES_MOST];
	uint32_t left[PAGES_MOST]; /* by the clock of evictions */
	/* Two rings, of which these are a part: resident pages, and copies in memory; the first ones have been there longest. */
	uint32_t after[PAGES_MOST + 2], before[PAGES_MOST + 2];
	uint64_t residents, copied, stored; /* pages */
	uint32_t evictions;
	uint64_t file_ns, cost_ns;
	uint32_t least, most; /* cuts */
	bool follow;
	struct share_control share;
} m;
enum { RESIDENTS = PAGES_MOST, COPIES };

static void ring_take(uint32_t page)
{
	m.after[m.before[page]] = m.after[page];
	m.before[m.after[page]] = m.before[page];
}

static void ring_add(uint32_t ring, uint32_t page)
{
	m.before[page] = m.before[ring];
	m.after[page] = ring;
	m.after[m.before[ring]] = page;
	m.before[ring] = page;
}

static uint32_t ring_first(uint32_t ring)
{
	const uint32_t page = m.after[ring];

	assert_true(page < PAGES_MOST);
	ring_take(page);
	return page;
}

static unsigned clock_of(uint32_t evictions)
{
	return evictions / (LIMIT / 512);
}

static void look(void)
{
	const struct share_state state = {.limit = LIMIT_BYTES,
					  .bound = BOUND_BYTES,
					  .copies = m.copied * COPY_BYTES,
					  .file_bytes = m.stored * COPY_BYTES};

	m.share.seen = m.share.seen_old = 0;
	for (uint32_t page = 0; page < PAGES_MOST; page++) {
		if (m.where[page] != COPIED)
			continue;
		m.share.seen++;
		m.share.seen_old += clock_of(m.evictions) - clock_of(m.left[page]) >=
				    load_relaxed(&m.share.old);
	}
	share_look(&m.share, &state);
	m.least = MIN(m.least, load_relaxed(&m.share.cut));
	m.most = MAX(m.most, load_relaxed(&m.share.cut));
}

static void make_room(void)
{
	const uint64_t share = share_bytes(BOUND_BYTES, load_relaxed(&m.share.cut));

	while (m.residents * PAGE_SIZE + m.copied * COPY_BYTES > LIMIT_BYTES) {
		if (m.copied * COPY_BYTES > share) {
			m.where[ring_first(COPIES)] = STORED;
			m.copied--;
			m.stored++;
			continue;
		}
		const uint32_t page = ring_first(RESIDENTS);

		m.where[page] = COPIED;
		m.left[page] = ++m.evictions;
		m.residents--;
		m.copied++;
		ring_add(COPIES, page);
	}
}

static void touch(uint32_t page)
{
	const enum where was = m.where[page];
	const enum share_kind kind = was == STORED ? SHARE_FILE : SHARE_MEMORY;

	if (was == RESIDENT)
		return;
	if (was != NOWHERE) {
		const uint64_t ns = kind == SHARE_FILE ? m.file_ns : MEMORY_NS;

		m.cost_ns += ns;
		share_note(&m.share, kind, clock_of(m.evictions) - clock_of(m.left[page]), false);
		share_took(&m.share, kind, 1, ns);
		if (was == COPIED)
			ring_take(page);
		m.copied -= was == COPIED;
		m.stored -= was == STORED;
	}
	m.where[page] = RESIDENT;
	m.residents++;
	ring_add(RESIDENTS, page);
	make_room();
	if (m.follow && m.stored && share_due(&m.share))
		look();
}

/* --- streams --- */

enum stream { SKEWED, UNIFORM, CYCLE };

static uint32_t next(enum stream stream, uint32_t pages, uint64_t *seed, uint64_t i)
{
	switch (stream) {
	case SKEWED:
		return (uint32_t)(random_next(seed) % 10 < 8
					  ? random_next(seed) % (pages / 5)
					  : pages / 5 + random_next(seed) % (pages - pages / 5));
	case UNIFORM:
		return (uint32_t)(random_next(seed) % pages);
	case CYCLE:
		break;
	}
	return (uint32_t)(i % pages);
}

struct load {
	enum stream stream;
	uint32_t pages;
	uint64_t file_ns; /* that a load from the file takes */
};

/* All pages have been touched, in order. */
static void fill(uint32_t pages)
{
	memset(&m, 0, sizeof(m));
	m.after[RESIDENTS] = m.before[RESIDENTS] = RESIDENTS;
	m.after[COPIES] = m.before[COPIES] = COPIES;
	for (uint32_t page = 0; page < pages; page++)
		touch(page);
}

/* What the loads of half a run cost, behind the other half; least and most are of that half. */
static uint64_t run(const struct load *load)
{
	enum { ACCESSES = 200000 };
	uint64_t seed = 1;

	m.file_ns = load->file_ns;
	for (uint64_t i = 0; i < 2ull * ACCESSES; i++) {
		if (i == ACCESSES) {
			m.cost_ns = 0;
			m.least = m.most = load_relaxed(&m.share.cut);
		}
		touch(next(load->stream, load->pages, &seed, i));
	}
	return m.cost_ns;
}

/* The least cost of five shares from all that is allowed to the least. */
static uint64_t best_fixed(const struct load *load, uint32_t *cut)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t i = 0; i <= 4; i++) {
		uint64_t cost;

		fill(load->pages);
		store_relaxed(&m.share.cut, SHARE_CUT_MAX * i / 4);
		cost = run(load);
		if (cost < least) {
			least = cost;
			*cut = SHARE_CUT_MAX * i / 4;
		}
	}
	return least;
}

/* --- against the oracle --- */

static void assert_near_the_best(const struct load *load)
{
	uint32_t cut = 0;
	const uint64_t best = best_fixed(load, &cut);

	/* Wherever it begins. */
	for (uint32_t from = 0; from <= SHARE_CUT_MAX; from += SHARE_CUT_MAX) {
		uint64_t cost;

		fill(load->pages);
		store_relaxed(&m.share.cut, from);
		m.follow = true;
		cost = run(load);
		if (cost > best / 10 * 11)
			fail_msg("%u pages, %u us a load from the file: %u ms, but %u with a cut "
				 "of %u; cuts were %u to %u",
				 load->pages, (unsigned)(load->file_ns / 1000),
				 (unsigned)(cost / 1000000), (unsigned)(best / 1000000), cut,
				 m.least, m.most);
		/* It has come to rest. */
		assert_in_range(m.most - m.least, 0, SHARE_PARTS / 3);
	}
}

/* Which fifth is hot does not depend on the file, but what a copy of the others is worth does. */
static void test_skewed(void **state)
{
	(void)state;
	for (uint64_t ns = 30000; ns <= 120000; ns *= 2) {
		assert_near_the_best(&(struct load){SKEWED, 6000, ns});
		assert_near_the_best(&(struct load){SKEWED, 8192, ns});
	}
}

static void test_uniform(void **state)
{
	(void)state;
	for (uint64_t ns = 30000; ns <= 120000; ns *= 4) {
		assert_near_the_best(&(struct load){UNIFORM, 4096, ns});
		assert_near_the_best(&(struct load){UNIFORM, 8192, ns});
	}
}

/* 4096 pages fit as long as nearly all of the share is there; then no load tells of old copies any more. */
static void test_round_and_round(void **state)
{
	(void)state;
	assert_near_the_best(&(struct load){CYCLE, 4096, 30000});
	assert_near_the_best(&(struct load){CYCLE, 4096, 120000});
	assert_near_the_best(&(struct load){CYCLE, 8192, 120000});
}

/* Though less room for copies would cost less here: nothing is written that fits. */
static void test_what_fits_is_not_written(void **state)
{
	(void)state;
	fill(4096);
	m.follow = true;
	(void)run(&(struct load){SKEWED, 4096, 30000});
	assert_int_equal(m.stored, 0);
	assert_int_equal(load_relaxed(&m.share.cut), 0);
}

static void test_follows_what_a_program_does(void **state)
{
	(void)state;
	fill(6000);
	m.follow = true;
	for (unsigned i = 0; i < 3; i++) {
		(void)run(&(struct load){SKEWED, 6000, 30000});
		assert_in_range(m.least, SHARE_CUT_MAX / 2, SHARE_CUT_MAX);
		(void)run(&(struct load){UNIFORM, 6000, 60000});
		assert_in_range(m.most, 0, SHARE_CUT_MAX / 16);
	}
}

/* --- a step --- */

static void test_gain_and_loss(void **state)
{
	struct share_window w = {.soon = {100, 10},
				 .oldest = 10,
				 .file = 20,
				 .ns = {10000, 60000},
				 .soon_bytes = 1 << 20,
				 .oldest_bytes = 1 << 20,
				 .file_bytes = 8 << 20};
	struct share_weight weight = share_weigh(&w);

	(void)state;
	assert_int_equal(weight.gain, 100 * 10000 + 10 * 60000);
	assert_int_equal(weight.loss, 10 * 50000);
	w.file = 400;
	assert_int_equal(share_weigh(&w).loss, 400 * 50000 / 8);
	/* Nothing that could be lost, or is dearer. */
	w.oldest_bytes = w.file_bytes = 0;
	assert_int_equal(share_weigh(&w).loss, 0);
	w.oldest_bytes = 1;
	w.ns[SHARE_FILE] = 9000;
	assert_int_equal(share_weigh(&w).loss, 0);
}

static void test_steps_grow_turn_and_end(void **state)
{
	const struct share_weight down = {160, 100}, up = {100, 101}, stay = {125, 100};
	uint32_t cut = 0;
	int32_t step = 0;

	(void)state;
	/* More than the loss is not enough. */
	assert_int_equal(share_step(cut, stay, &step), 0);
	assert_int_equal(step, 0);
	cut = share_step(cut, down, &step);
	assert_int_equal(cut, 4);
	cut = share_step(cut, down, &step);
	assert_int_equal(cut, 12);
	for (unsigned i = 0; i < 4; i++)
		cut = share_step(cut, down, &step);
	assert_int_equal(cut, 76);
	cut = share_step(cut, up, &step);
	assert_int_equal(cut, 72);
	cut = share_step(cut, down, &step);
	assert_int_equal(cut, 73);
	for (unsigned i = 0; i < 20; i++)
		cut = share_step(cut, down, &step);
	assert_int_equal(cut, SHARE_CUT_MAX);
	for (unsigned i = 0; i < 20; i++)
		cut = share_step(cut, up, &step);
	assert_int_equal(cut, 0);
}

/* One look behind loads that tell of a gain only, or of a loss. Returns the cut. */
static uint32_t look_at(struct share_control *s, bool gain, uint64_t copies, uint32_t seen_old)
{
	const struct share_state state = {
		.limit = 1 << 20, .bound = 1 << 19, .copies = copies, .file_bytes = 1 << 20};

	for (unsigned i = 0; i < SHARE_LOADS; i++)
		share_note(s, gain ? SHARE_MEMORY : SHARE_FILE, gain ? 0 : 1000, false);
	share_took(s, SHARE_MEMORY, 1, 10000);
	share_took(s, SHARE_FILE, 1, 60000);
	s->seen = 100;
	s->seen_old = seen_old;
	assert_true(share_due(s));
	share_look(s, &state);
	assert_false(share_due(s));
	return load_relaxed(&s->cut);
}

static void test_what_a_step_waits_for(void **state)
{
	struct share_control s = {0};

	(void)state;
	/* An age that few copies have; it comes nearer. */
	assert_int_equal(look_at(&s, true, 1 << 19, 26), 0);
	assert_int_equal(load_relaxed(&s.old), 16);
	assert_int_equal(look_at(&s, true, 1 << 19, 26), 0);
	assert_int_equal(load_relaxed(&s.old), 32);
	assert_int_equal(look_at(&s, true, 1 << 19, 10), 4);
	/* Copies that are on their way out. */
	assert_int_equal(look_at(&s, true, (1 << 19) + (1 << 16), 10), 4);
	assert_int_equal(look_at(&s, true, 1 << 19, 10), 12);
	/* Copies that have not come. */
	assert_int_equal(look_at(&s, false, 1 << 18, 10), 12);
	assert_int_equal(look_at(&s, false, 1 << 19, 10), 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_skewed),
		cmocka_unit_test(test_uniform),
		cmocka_unit_test(test_round_and_round),
		cmocka_unit_test(test_what_fits_is_not_written),
		cmocka_unit_test(test_follows_what_a_program_does),
		cmocka_unit_test(test_gain_and_loss),
		cmocka_unit_test(test_steps_grow_turn_and_end),
		cmocka_unit_test(test_what_a_step_waits_for),
	};

	return cmocka_run_group_tests_name("share", tests, NULL, NULL);
}
