/* SPDX-License-Identifier: BSD-2-Clause */
/* Ranges of pages: whatever is set, each page is what was set last; the array is sorted, merged, and never larger than needed. */
#include "../unit.h"

#include "ranges.h"

enum { PAGES = 192, ROOM = PAGES };

/* What ranges.h promises of the array itself. */
static void assert_valid(const struct ranges *r)
{
	for (uint32_t i = 0; i < r->count; i++) {
		const struct range *a = &r->range[i];

		assert_true(a->pages && a->what);
		assert_true((uint64_t)a->first + a->pages <= r->pages);
		if (i) {
			const struct range *before = a - 1;

			assert_true(before->first + before->pages <= a->first);
			assert_true(before->first + before->pages < a->first ||
				    before->what != a->what);
		}
	}
}

/* How many stretches a plain array of words has: what the array needs. */
static uint32_t stretches(const uint32_t *oracle)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < PAGES; i++)
		n += oracle[i] && (!i || oracle[i - 1] != oracle[i]);
	return n;
}

static int64_t oracle_place(const uint32_t *oracle, uint32_t pages)
{
	uint32_t run = 0;

	for (uint32_t i = 0; i < PAGES; i++) {
		run = oracle[i] ? 0 : run + 1;
		if (run == pages)
			return (int64_t)i + 1 - pages;
	}
	return -1;
}

static void compare(const struct ranges *r, const uint32_t *oracle, uint64_t *seed)
{
	const uint32_t end = 1 + random_below(seed, PAGES);
	const uint32_t pages = 1 + random_below(seed, 12);

	assert_valid(r);
	assert_int_equal(r->count, stretches(oracle));
	for (uint32_t at = random_below(seed, end); at < end;) {
		const struct range piece = ranges_piece(r, at, end);

		assert_true(piece.first == at && piece.pages && at + piece.pages <= end);
		for (uint32_t i = 0; i < piece.pages; i++)
			assert_int_equal(oracle[at + i], piece.what);
		at += piece.pages;
		/* As long as it can be. */
		assert_true(at == end || oracle[at] != piece.what);
	}
	assert_int_equal(ranges_place(r, pages), oracle_place(oracle, pages));
}

static void run(uint32_t room, unsigned rounds, uint64_t *seed)
{
	struct range memory[ROOM + 1];
	uint32_t oracle[PAGES] = {0}, refused = 0;
	struct ranges r;

	ranges_init(&r, memory, room, PAGES);
	memory[room] = (struct range){1, 2, 3};
	for (unsigned i = 0; i < rounds; i++) {
		uint32_t first = random_below(seed, PAGES), what = random_below(seed, 4),
			 was[PAGES];
		uint32_t most = random_chance(seed, 8) ? PAGES : 9;
		uint32_t pages = 1 + random_below(seed, MIN(PAGES - first, most));
		int err = ranges_set(&r, first, pages, what);

		memcpy(was, oracle, sizeof(was));
		for (uint32_t page = first; page < first + pages; page++)
			oracle[page] = what;
		/* Refused exactly when the result does not fit; nothing has changed then. */
		assert_int_equal(err, stretches(oracle) > room ? -ENOMEM : 0);
		if (err) {
			memcpy(oracle, was, sizeof(was));
			refused++;
		}
		compare(&r, oracle, seed);
	}
	assert_int_equal(memory[room].what, 3);
	assert_true(room == ROOM || refused);
}

static void test_each_page_is_what_was_set_last(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	run(ROOM, 20000, &seed);
}

static void test_a_full_array_refuses_and_changes_nothing(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	for (uint32_t room = 1; room < 12; room++)
		run(room, 2000, &seed);
}

static void test_places_are_the_lowest(void **state)
{
	struct range memory[4];
	struct ranges r;

	(void)state;
	ranges_init(&r, memory, 4, 100);
	assert_int_equal(ranges_place(&r, 100), 0);
	assert_int_equal(ranges_place(&r, 101), -1);
	assert_int_equal(ranges_set(&r, 10, 80, 1), 0);
	assert_int_equal(ranges_place(&r, 10), 0);
	assert_int_equal(ranges_place(&r, 11), -1);
	assert_int_equal(ranges_set(&r, 50, 20, 0), 0);
	assert_int_equal(ranges_place(&r, 11), 50);
	/* The last page of all. */
	assert_int_equal(ranges_set(&r, 0, 99, 1), 0);
	assert_int_equal(ranges_place(&r, 1), 99);
	assert_int_equal(r.count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_page_is_what_was_set_last),
		cmocka_unit_test(test_a_full_array_refuses_and_changes_nothing),
		cmocka_unit_test(test_places_are_the_lowest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
