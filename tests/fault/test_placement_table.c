/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of who is attached: whoever is in it is found, nobody else is, whatever came and went. */
#include "placement_world.h"

enum { TABLE_TIDS = 400 };

/* Where a fault of tid draws the handler: its CPU if it is attached, else nowhere (-1). */
static int drawn_to(struct placement *p, int tid)
{
	int own_cpu = -1;

	/* However many threads a test has, it looks at two. */
	store_relaxed(&p->crowd, 0);
	store_relaxed(&p->window, 0);
	/* Never two faults of one thread in a row: nobody is bound. */
	(void)placement_fault(p, INT32_MAX, &own_cpu);
	assert_int_equal(own_cpu, -1);
	(void)placement_fault(p, tid, &own_cpu);
	return own_cpu;
}

/* Numbers as threads get them: runs of neighbours, and some far away that hash to the same slot. */
static void tids_draw(uint64_t *seed, int *tid)
{
	for (unsigned i = 0; i < TABLE_TIDS; i++) {
		unsigned other = i ? random_below(seed, i) : 0;

		do {
			switch (i ? random_below(seed, 4) : 3) {
			case 0:
				tid[i] = tid[other] + 1;
				break;
			case 1:
			case 2:
				tid[i] = tid[other] +
					 ATTACHED_MAX * (int)(1 + random_below(seed, 3));
				break;
			default:
				tid[i] = 1 + (int)random_below(seed, 4194303);
			}
			other = 0;
			while (other < i && tid[other] != tid[i])
				other++;
		} while (other < i);
	}
}

/* Whoever is attached is found, nobody else is, whatever came and went before: removal keeps every chain whole. */
static void test_table_is_what_was_attached(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint64_t seed = test_seed();
	uint32_t word[TABLE_TIDS];
	bool attached[TABLE_TIDS] = {false};
	int tid[TABLE_TIDS];
	uint32_t count = 0;

	(void)state;
	tids_draw(&seed, tid);
	for (unsigned i = 0; i < TABLE_TIDS; i++)
		word[i] = i;
	for (unsigned step = 0; step < 20000; step++) {
		/* Nearly all attached and nearly none, by turns. */
		unsigned i = random_below(&seed, TABLE_TIDS);
		bool attach = random_below(&seed, 100) < (step / 2000 % 2 ? 20u : 80u);

		if (attach)
			attach_as(p, tid[i], &word[i]);
		else
			detach_as(p, tid[i]);
		count += attach - attached[i];
		attached[i] = attach;
		assert_int_equal(p->attached_count, count);
		for (unsigned k = 0; k < 4; k++) {
			unsigned look = k ? random_below(&seed, TABLE_TIDS) : i;

			assert_int_equal(drawn_to(p, tid[look]), attached[look] ? (int)look : -1);
		}
	}
	for (unsigned i = 0; i < TABLE_TIDS; i++) {
		assert_int_equal(drawn_to(p, tid[i]), attached[i] ? (int)i : -1);
		detach_as(p, tid[i]);
	}
	for (unsigned i = 0; i < ATTACHED_MAX; i++)
		assert_int_equal(load_relaxed(&p->attached[i].tid), 0);
	assert_int_equal(p->attached_count, 0);
}

/* A chain that goes over the end of the table, taken apart in every order of four. */
static void test_chain_goes_round_the_end(void **state)
{
	(void)state;
	for (unsigned order = 0; order < 24; order++) {
		struct placement *p = placement_new(PLACEMENT_AUTO);
		uint32_t word[4] = {10, 11, 12, 13};
		unsigned left[4] = {0, 1, 2, 3}, pick = order;
		int last = 1;

		/* The number whose home is the last slot: found by looking where it goes. */
		for (;; last++) {
			attach_as(p, last, &word[0]);
			if (load_relaxed(&p->attached[ATTACHED_MAX - 1].tid) == last)
				break;
			detach_as(p, last);
		}
		for (int i = 1; i < 4; i++)
			attach_as(p, last + i * ATTACHED_MAX, &word[i]);
		assert_int_equal(load_relaxed(&p->attached[2].tid), last + 3 * ATTACHED_MAX);
		for (unsigned n = 4; n; n--) {
			unsigned at = pick % n;

			pick /= n;
			detach_as(p, last + (int)left[at] * ATTACHED_MAX);
			memmove(&left[at], &left[at + 1], (n - 1 - at) * sizeof(left[0]));
			for (unsigned i = 0; i < n - 1; i++)
				assert_int_equal(drawn_to(p, last + (int)left[i] * ATTACHED_MAX),
						 10 + (int)left[i]);
			assert_int_equal(p->attached_count, n - 1);
		}
	}
}

/* Attaching twice is once; detaching who is not attached is nothing. */
static void test_attach_and_detach_repeat(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 2;

	(void)state;
	detach_as(p, 5);
	attach_as(p, 5, &word);
	attach_as(p, 5, &word);
	assert_int_equal(p->attached_count, 1);
	detach_as(p, 6);
	assert_int_equal(drawn_to(p, 5), 2);
	detach_as(p, 5);
	detach_as(p, 5);
	assert_int_equal(p->attached_count, 0);
	assert_int_equal(drawn_to(p, 5), -1);
}

/* The table keeps room, so that a look-up ends; who does not fit is served without it, and may come later. */
static void test_table_keeps_room(void **state)
{
	enum { FULL = ATTACHED_MAX / 2 };
	struct placement *p = placement_new(PLACEMENT_AUTO);
	uint32_t word = 3;

	(void)state;
	for (int tid = 1; tid <= FULL + 10; tid++)
		attach_as(p, tid, &word);
	assert_int_equal(p->attached_count, FULL);
	assert_int_equal(drawn_to(p, FULL), 3);
	assert_int_equal(drawn_to(p, FULL + 1), -1);
	detach_as(p, FULL + 1);
	assert_int_equal(p->attached_count, FULL);
	detach_as(p, 1);
	attach_as(p, FULL + 1, &word);
	assert_int_equal(drawn_to(p, FULL + 1), 3);
}

/* Without rseq nobody can be looked at. */
static void test_no_rseq_attaches_nobody(void **state)
{
	struct placement *p = placement_new(PLACEMENT_AUTO);

	(void)state;
	attach_as(p, 5, NULL);
	assert_int_equal(p->attached_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_the_world(test_table_is_what_was_attached),
		in_the_world(test_chain_goes_round_the_end),
		in_the_world(test_attach_and_detach_repeat),
		in_the_world(test_table_keeps_room),
		in_the_world(test_no_rseq_attaches_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
