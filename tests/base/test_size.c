/* SPDX-License-Identifier: BSD-2-Clause */
/* Sizes as text: what is read, what is refused, exactness, and printing. */
#include "help.h"

#include <errno.h>

#include "base/base.h"
#include "base/size.h"

static void test_every_form_is_read(void **state)
{
	static const struct {
		const char *text;
		uint64_t whole, bytes;
	} good[] = {
		{"0", 0, 0},
		{"4096", 0, 4096},
		{"007", 0, 7},
		{"18446744073709551615", 0, UINT64_MAX},
		{"4096B", 0, 4096},
		{"4096b", 0, 4096},
		{"64K", 0, KIB(64)},
		{"64k", 0, KIB(64)},
		{"64KB", 0, KIB(64)},
		{"64kb", 0, KIB(64)},
		{"64KiB", 0, KIB(64)},
		{"64kib", 0, KIB(64)},
		{"256M", 0, MIB(256)},
		{"256m", 0, MIB(256)},
		{"256MiB", 0, MIB(256)},
		{"2G", 0, GIB(2)},
		{"2gB", 0, GIB(2)},
		{"2T", 0, GIB(2) << 10},
		{"2tib", 0, GIB(2) << 10},
		{"3P", 0, GIB(3) << 20},
		{"15E", 0, GIB(15) << 30},
		{"15eiB", 0, GIB(15) << 30},
		{"16383P", 0, GIB(16383) << 20},
		{"1.5G", 0, MIB(1536)},
		{"0.5K", 0, 512},
		{"2.0", 0, 2},
		{"1.000000001G", 0, GIB(1) + 1},
		{"15.999999999E", 0, UINT64_MAX - (GIB(1) << 30) / 1000000000},
		{"0%", 100, 0},
		{"50%", 4096, 2048},
		{"100%", 4096, 4096},
		{"100.0%", 4096, 4096},
		{"12.5%", GIB(8), GIB(1)},
		{"50%", UINT64_MAX, UINT64_MAX / 2},
		{"100%", UINT64_MAX, UINT64_MAX},
		{"33%", 10, 3},
		{"64K", 100, KIB(64)}, /* a whole bounds percentages only */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		uint64_t bytes = ~good[i].bytes;
		int err = size_parse(good[i].text, good[i].whole, &bytes);

		if (err || bytes != good[i].bytes)
			fail_msg("\"%s\" of %llu: %d, %llu instead of %llu", good[i].text,
				 (unsigned long long)good[i].whole, err, (unsigned long long)bytes,
				 (unsigned long long)good[i].bytes);
	}
}

static void test_everything_else_is_refused(void **state)
{
	static const struct {
		const char *text;
		uint64_t whole;
		int err;
	} bad[] = {
		{"", 0, -EINVAL},
		{"-1", 0, -EINVAL},
		{"+1", 0, -EINVAL},
		{"1.", 0, -EINVAL},
		{"1.K", 0, -EINVAL},
		{".5", 0, -EINVAL},
		{".", 0, -EINVAL},
		{"1.5.5", 0, -EINVAL},
		{"1,5", 0, -EINVAL},
		{"1K5", 0, -EINVAL},
		{"1K.5", 0, -EINVAL},
		{"0x10", 0, -EINVAL},
		{"1e3", 0, -EINVAL},
		{" 1", 0, -EINVAL},
		{"1 ", 0, -EINVAL},
		{"1 K", 0, -EINVAL},
		{"1K ", 0, -EINVAL},
		{"1\n", 0, -EINVAL},
		{"K", 0, -EINVAL},
		{"1KK", 0, -EINVAL},
		{"1Ki", 0, -EINVAL},
		{"1iB", 0, -EINVAL},
		{"1BB", 0, -EINVAL},
		{"1BK", 0, -EINVAL},
		{"1Z", 0, -EINVAL},
		{"1\x8b", 0, -EINVAL},
		{"inf", 0, -EINVAL},
		{"nan", 0, -EINVAL},
		{"18446744073709551616", 0, -ERANGE},
		{"99999999999999999999999999", 0, -ERANGE},
		{"16E", 0, -ERANGE},
		{"16384P", 0, -ERANGE},
		{"18446744073709551615K", 0, -ERANGE},
		{"18446744073709551615E", 0, -ERANGE},
		{"50%", 0, -EINVAL},
		{"0%", 0, -EINVAL},
		{"%", 100, -EINVAL},
		{"-50%", 100, -EINVAL},
		{"50%%", 100, -EINVAL},
		{"50% ", 100, -EINVAL},
		{"50 %", 100, -EINVAL},
		{"50K%", 100, -EINVAL},
		{"50%K", 100, -EINVAL},
		{"101%", 100, -ERANGE},
		{"101%", 1, -ERANGE},
		{"101%", UINT64_MAX, -ERANGE},
		{"100.5%", 100, -ERANGE},
		{"100.000000001%", 1, -ERANGE},
		/* In 128 bits these products wrap round to small ones. */
		{"9223372036854775808%", 1ull << 56, -ERANGE},
		{"18446744073709551615%", UINT64_MAX, -ERANGE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t bytes;
		int err = size_parse(bad[i].text, bad[i].whole, &bytes);

		if (err != bad[i].err)
			fail_msg("\"%s\" of %llu: %d instead of %d", bad[i].text,
				 (unsigned long long)bad[i].whole, err, bad[i].err);
	}
}

/* A fraction of up to nine decimals is exact, rounded down to a byte: against one division of integers. */
static void test_fractions_are_exact(void **state)
{
	static const char units[] = "BKMGTPE";
	uint64_t seed = 5;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		unsigned unit = (unsigned)(random_next(&seed) % 7);
		unsigned decimals = 1 + (unsigned)(random_next(&seed) % 9);
		uint64_t scale = 1, digits, bytes = 0, exact;
		unsigned __int128 numerator;
		char text[64];

		for (unsigned d = 0; d < decimals; d++)
			scale *= 10;
		digits = random_next(&seed) % (16 * scale);
		numerator = (unsigned __int128)digits << (10 * unit);
		exact = (uint64_t)(numerator / scale);
		snprintf(text, sizeof(text), "%llu.%0*llu%c", (unsigned long long)(digits / scale),
			 (int)decimals, (unsigned long long)(digits % scale), units[unit]);
		assert_int_equal(size_parse(text, 0, &bytes), 0);
		if (bytes != exact)
			fail_msg("%s: %llu instead of %llu", text, (unsigned long long)bytes,
				 (unsigned long long)exact);
	}
}

static void test_percentages_are_exact(void **state)
{
	uint64_t seed = 6;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t whole = random_magnitude(&seed) | 1, bytes = 0;
		unsigned hundredths = (unsigned)(random_next(&seed) % 10001);
		char text[32];

		snprintf(text, sizeof(text), "%u.%02u%%", hundredths / 100, hundredths % 100);
		assert_int_equal(size_parse(text, whole, &bytes), 0);
		assert_int_equal(bytes, (uint64_t)((unsigned __int128)whole * hundredths / 10000));
	}
}

static void test_printing_rounds_to_nearest(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} prints[] = {
		{0, "0B"},
		{1, "1B"},
		{1023, "1023B"},
		{1024, "1K"},
		{1536, "1.5K"},
		{1024 + 51, "1K"},   /* 1.0498 */
		{1024 + 52, "1.1K"}, /* 1.0508 */
		{4096, "4K"},
		{102348, "99.9K"},  /* 99.949 */
		{102349, "100K"},   /* 99.9502 */
		{102861, "100K"},   /* 100.4502: not 100.5 first and 101 then */
		{102911, "100K"},   /* 100.499 */
		{102912, "101K"},   /* 100.5 */
		{1048063, "1023K"}, /* 1023.499 */
		{1048064, "1M"},    /* 1023.5: never "1024K" */
		{1048524, "1M"},    /* 1023.949 */
		{1048525, "1M"},    /* 1023.95 */
		{MIB(1) - 1, "1M"},
		{MIB(1), "1M"},
		{MIB(256), "256M"},
		{GIB(3) / 2, "1.5G"},
		{GIB(1) - 1, "1G"},
		{GIB(1024), "1T"},
		{GIB(1024) << 10, "1P"},
		{GIB(1024) << 20, "1E"},
		{UINT64_MAX, "16E"},
	};
	char text[SIZE_TEXT];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(prints); i++) {
		assert_ptr_equal(size_print(prints[i].bytes, text), text);
		if (strcmp(text, prints[i].text) != 0)
			fail_msg("%llu: \"%s\" instead of \"%s\"",
				 (unsigned long long)prints[i].bytes, text, prints[i].text);
	}
}

/* The distance that rounding may make: half of the last digit printed, and a byte that reading rounds off. */
static uint64_t rounding_of(const char *text)
{
	static const char units[] = "BKMGTPE";
	unsigned shift = 10 * (unsigned)(strchr(units, text[strlen(text) - 1]) - units);

	if (strchr(text, '.') || strlen(text) < 4) /* below 100 a tenth decides */
		return ((1ull << shift) / 20) + 1;
	return (1ull << shift) / 2;
}

/* What was printed reads back as the same within rounding, prints the same again, and is short. */
static void test_printed_reads_back(void **state)
{
	uint64_t seed = 7;

	(void)state;
	for (unsigned i = 0; i < 50000; i++) {
		uint64_t bytes = random_magnitude(&seed), back = 0, off;
		char text[SIZE_TEXT], again[SIZE_TEXT];

		if (bytes > (GIB(1) << 30) / 100 * 1594) /* "16E" is beyond 64 bits */
			continue;
		size_print(bytes, text);
		assert_in_range(strlen(text), 2, 9);
		assert_int_equal(size_parse(text, 0, &back), 0);
		off = back > bytes ? back - bytes : bytes - back;
		if (off > rounding_of(text))
			fail_msg("%llu: \"%s\" is %llu off", (unsigned long long)bytes, text,
				 (unsigned long long)off);
		assert_string_equal(size_print(back, again), text);
	}
}

/* A number of whole units below 1024 loses nothing. */
static void test_whole_units_print_exactly(void **state)
{
	(void)state;
	for (unsigned shift = 0; shift <= 60; shift += 10) {
		for (uint64_t n = 1; n < (shift == 60 ? 16 : 1024); n++) {
			char text[SIZE_TEXT];
			uint64_t back = 0;

			assert_int_equal(size_parse(size_print(n << shift, text), 0, &back), 0);
			assert_int_equal(back, n << shift);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_form_is_read),
		cmocka_unit_test(test_everything_else_is_refused),
		cmocka_unit_test(test_fractions_are_exact),
		cmocka_unit_test(test_percentages_are_exact),
		cmocka_unit_test(test_printing_rounds_to_nearest),
		cmocka_unit_test(test_printed_reads_back),
		cmocka_unit_test(test_whole_units_print_exactly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
