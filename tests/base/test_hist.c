/* SPDX-License-Identifier: BSD-2-Clause */
/* Histogram: quantiles near those of the sorted values, nothing lost by merging or by many writers. */
#include "help.h"

#include "base/hist.h"

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/*
 * The oracle: of n sorted values, the share of t thousandths is reached at number ceil(n * t / 1000). A bucket is
 * at most an eighth of its lower end wide and its middle is reported, so the answer is within a sixteenth.
 */
static void assert_quantiles(const struct hist *hist, const uint64_t *sorted, size_t n)
{
	/* Every share of the tails, where the interest is, and some between; a single value has but one answer. */
	for (unsigned t = 0; t <= 1000; t += n == 1 ? 500 : t < 10 || t >= 990 ? 1 : 14) {
		size_t rank = (n * t + 999) / 1000;
		uint64_t exact = sorted[rank ? rank - 1 : 0];
		uint64_t answer = hist_quantile(hist, t);
		uint64_t off = answer > exact ? answer - exact : exact - answer;

		if (off > exact / 16)
			fail_msg("%u thousandths of %zu: %#llx, exactly %#llx", t, n,
				 (unsigned long long)answer, (unsigned long long)exact);
	}
}

static void assert_same(const struct hist *a, const struct hist *b)
{
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		assert_int_equal(load_relaxed(&a->bucket[i]), load_relaxed(&b->bucket[i]));
	assert_int_equal(load_relaxed(&a->sum), load_relaxed(&b->sum));
	assert_int_equal(load_relaxed(&a->max), load_relaxed(&b->max));
}

static void test_empty_is_zero(void **state)
{
	static struct hist hist;

	(void)state;
	assert_int_equal(hist_count(&hist), 0);
	assert_int_equal(hist_quantile(&hist, 0), 0);
	assert_int_equal(hist_quantile(&hist, 500), 0);
	assert_int_equal(hist_quantile(&hist, 1000), 0);
}

static void assert_alone(uint64_t value)
{
	struct hist hist = {0};

	hist_add(&hist, value);
	assert_int_equal(hist_count(&hist), 1);
	assert_int_equal(load_relaxed(&hist.max), value);
	assert_int_equal(load_relaxed(&hist.sum), value);
	assert_quantiles(&hist, &value, 1);
	assert_true(hist_quantile(&hist, 1000) <= value);
}

/* Every value has a bucket, and it is near: the ends of all powers of two and of their eighths. */
static void test_one_value_is_found_again(void **state)
{
	(void)state;
	assert_alone(0);
	for (unsigned log = 0; log < 64; log++) {
		for (uint64_t sub = 8; sub < 16; sub++) {
			uint64_t edge = log < 3 ? (sub << log) >> 3 : sub << (log - 3);

			assert_alone(edge - 1);
			assert_alone(edge);
			assert_alone(edge + 1);
		}
	}
	assert_alone(UINT64_MAX);
}

/* Below 16 a bucket is one value wide: exact. */
static void test_small_values_are_exact(void **state)
{
	(void)state;
	for (uint64_t value = 0; value < 16; value++) {
		struct hist hist = {0};

		hist_add(&hist, value);
		hist_add(&hist, 1000);
		assert_int_equal(hist_quantile(&hist, 500), value);
	}
}

/* Quantiles against a sorted array, for values spread in several ways. */
static void test_quantiles_follow_the_sorted_values(void **state)
{
	static uint64_t values[5000];
	uint64_t seed = 2;

	(void)state;
	for (unsigned kind = 0; kind < 5; kind++) {
		for (size_t n = 1; n <= ARRAY_SIZE(values); n = n * 3 + 1) {
			struct hist hist = {0};
			uint64_t max = 0;

			for (size_t i = 0; i < n; i++) {
				uint64_t any = random_next(&seed);

				values[i] = kind == 0	? any % 1000000
					    : kind == 1 ? random_magnitude(&seed)
					    : kind == 2 ? 4000
					    : kind == 3 ? (any % 100 ? 4000 + any % 500 : 90000000)
							: UINT64_MAX - any % 1000;
				max = MAX(max, values[i]);
				hist_add(&hist, values[i]);
			}
			qsort(values, n, sizeof(values[0]), by_value);
			assert_int_equal(hist_count(&hist), n);
			assert_int_equal(load_relaxed(&hist.max), max);
			assert_quantiles(&hist, values, n);
		}
	}
}

/* The largest value is kept as it was, and no quantile is above it. */
static void test_max_is_exact(void **state)
{
	uint64_t seed = 3;

	(void)state;
	for (unsigned round = 0; round < 200; round++) {
		struct hist hist = {0};
		uint64_t max = 0;

		for (unsigned i = 0; i < 50; i++) {
			uint64_t value = random_magnitude(&seed);

			hist_add(&hist, value);
			max = MAX(max, value);
			assert_int_equal(load_relaxed(&hist.max), max);
		}
		assert_true(hist_quantile(&hist, 1000) <= max);
	}
}

/* Merged is what one histogram with the values of both would be; the source stays as it was. */
static void test_merge_is_the_union(void **state)
{
	static struct hist a, b, both, b_before, empty;
	uint64_t seed = 4;

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t value = random_magnitude(&seed);

		hist_add(i % 3 ? &a : &b, value);
		hist_add(&both, value);
	}
	hist_merge(&b_before, &b);
	assert_same(&b_before, &b);
	hist_merge(&a, &b);
	assert_same(&a, &both);
	assert_same(&b, &b_before);
	hist_merge(&a, &empty);
	assert_same(&a, &both);
}

enum { WRITERS = 4, ADDS = 20000 };
struct written {
	struct hist added, merged;
};

static void write_values(unsigned index, void *arg)
{
	struct written *w = arg;
	struct hist own = {0};
	uint64_t seed = index;

	for (unsigned i = 0; i < ADDS; i++) {
		uint64_t value = random_magnitude(&seed);

		hist_add(&w->added, value);
		hist_add(&own, value);
		if (i % 1000 == 999) {
			hist_merge(&w->merged, &own);
			own = (struct hist){0};
		}
	}
}

/* Any number of writers: no value, no part of the sum and no maximum is lost. */
static void test_concurrent_writers_lose_nothing(void **state)
{
	static struct written w;
	static struct hist alone;

	(void)state;
	run_threads(WRITERS, write_values, &w);
	for (unsigned index = 0; index < WRITERS; index++) {
		uint64_t seed = index;

		for (unsigned i = 0; i < ADDS; i++)
			hist_add(&alone, random_magnitude(&seed));
	}
	assert_int_equal(hist_count(&w.added), WRITERS * ADDS);
	assert_same(&w.added, &alone);
	assert_same(&w.merged, &alone);
}

struct rising {
	struct hist hist;
	_Atomic unsigned fell;
};

static void write_rising(unsigned index, void *arg)
{
	struct rising *r = arg;

	for (uint64_t i = 0; i < ADDS; i++) {
		uint64_t value = i * WRITERS + index;

		hist_add(&r->hist, value);
		if (load_relaxed(&r->hist.max) < value)
			add_relaxed(&r->fell, 1);
	}
}

/* The maximum moves at nearly every add here, and is never below what a writer has added. */
static void test_concurrent_maximum_only_rises(void **state)
{
	static struct rising r;

	(void)state;
	run_threads(WRITERS, write_rising, &r);
	assert_int_equal(load_relaxed(&r.fell), 0);
	assert_int_equal(load_relaxed(&r.hist.max), WRITERS * ADDS - 1);
	assert_int_equal(hist_count(&r.hist), WRITERS * ADDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty_is_zero),
		cmocka_unit_test(test_one_value_is_found_again),
		cmocka_unit_test(test_small_values_are_exact),
		cmocka_unit_test(test_quantiles_follow_the_sorted_values),
		cmocka_unit_test(test_max_is_exact),
		cmocka_unit_test(test_merge_is_the_union),
		cmocka_unit_test(test_concurrent_writers_lose_nothing),
		cmocka_unit_test(test_concurrent_maximum_only_rises),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
