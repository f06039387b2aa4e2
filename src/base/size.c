/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/size.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

/* At most nine decimals are kept: 1.5G is exact, and nothing can overflow. */
static int number_parse(const char **text, uint64_t *whole, uint64_t *nano)
{
	const char *s = *text;
	uint64_t scale = 100000000;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	for (*whole = 0; *s >= '0' && *s <= '9'; s++) {
		if (__builtin_mul_overflow(*whole, 10, whole) ||
		    __builtin_add_overflow(*whole, (uint64_t)(*s - '0'), whole))
			return -ERANGE;
	}
	*nano = 0;
	if (*s == '.') {
		if (s[1] < '0' || s[1] > '9')
			return -EINVAL;
		for (s++; *s >= '0' && *s <= '9'; s++, scale /= 10)
			*nano += (uint64_t)(*s - '0') * scale;
	}
	*text = s;
	return 0;
}

static int unit_parse(const char *s, unsigned *shift)
{
	static const char units[] = "KMGTPE";
	const char *unit;

	*shift = 0;
	if (*s) {
		char upper = (char)(*s & ~0x20);

		unit = memchr(units, upper, sizeof(units) - 1);
		if (unit) {
			*shift = 10 * (unsigned)(unit - units + 1);
			s++;
			if (*s == 'i' && (s[1] == 'B' || s[1] == 'b'))
				s++;
		}
		if (*s == 'B' || *s == 'b')
			s++;
	}
	return *s ? -EINVAL : 0;
}

/* (integer + nano / 10^9) percent of a whole, rounded down. In 64 bits, for machines that have no more: each product is of a
 * quotient or a remainder. integer: at most 100. */
static uint64_t percent_of(uint64_t integer, uint64_t nano, uint64_t whole)
{
	const uint64_t giga = 1000000000u;
	const uint64_t rest = whole / giga * nano + whole % giga * nano / giga;

	return whole / 100 * integer + rest / 100 + (whole % 100 * integer + rest % 100) / 100;
}

/* nano / 10^9 of 2^shift, rounded down. */
static uint64_t part_of(uint64_t nano, unsigned shift)
{
	const unsigned low = shift < 30 ? shift : 30, high = shift - low;
	const uint64_t giga = 1000000000u, first = nano << low;

	return (first / giga << high) + ((first % giga << high) / giga);
}

int size_parse(const char *text, uint64_t whole, uint64_t *bytes)
{
	uint64_t integer, nano;
	unsigned shift;
	int err = number_parse(&text, &integer, &nano);

	if (err)
		return err;
	if (strcmp(text, "%") == 0) {
		if (!whole)
			return -EINVAL;
		if (integer > 100 || (integer == 100 && nano))
			return -ERANGE;
		*bytes = percent_of(integer, nano, whole);
		return 0;
	}
	err = unit_parse(text, &shift);
	if (err)
		return err;
	if (integer > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes = (integer << shift) + part_of(nano, shift);
	return 0;
}

/* bytes in parts (10 at most) of a unit, rounded to nearest */
static uint64_t in_units(uint64_t bytes, unsigned unit, unsigned parts)
{
	const uint64_t one = 1ull << (10 * unit);

	return bytes / one * parts + (bytes % one * parts + one / 2) / one;
}

char *size_print(uint64_t bytes, char text[static SIZE_TEXT])
{
	static const char units[] = "BKMGTPE";
	unsigned unit = 0;
	uint64_t tenths;

	/* Rounded first: 1023.5K is "1M", not "1024K". */
	while (unit < 6 && in_units(bytes, unit, 1) >= 1024)
		unit++;
	tenths = in_units(bytes, unit, 10);
	if (tenths % 10 && tenths < 1000)
		snprintf(text, SIZE_TEXT, "%llu.%llu%c", (unsigned long long)(tenths / 10),
			 (unsigned long long)(tenths % 10), units[unit]);
	else
		snprintf(text, SIZE_TEXT, "%llu%c", (unsigned long long)in_units(bytes, unit, 1),
			 units[unit]);
	return text;
}
