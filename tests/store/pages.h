/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages of every sort for the tests of the stores: each can be made again from its kind and seed. */
#ifndef WEIR_TESTS_STORE_PAGES_H
#define WEIR_TESTS_STORE_PAGES_H

#include "../unit.h"

enum page_kind {
	KIND_ZERO,
	KIND_SAME,     /* one word repeated */
	KIND_TEXT,     /* words of a language */
	KIND_COUNTING, /* tables of small numbers */
	KIND_SPARSE,   /* a few bytes among zeroes */
	KIND_MIXED,    /* compresses badly, near the line above which a page is kept whole */
	KIND_RANDOM,   /* does not compress */
	PAGE_KINDS
};

static inline void page_text(char *page, uint64_t *seed)
{
	static const char *const words[] = {"the ",  "dam ",	"holds ", "water ", "at ",
					    "level", "and ",	"lets ",  "rest ",  "flow",
					    ", ",    "over.\n", "weir ",  "page ",  "is "};
	size_t at = 0;

	while (at < PAGE_SIZE) {
		for (const char *c = words[random_below(seed, ARRAY_SIZE(words))];
		     *c && at < PAGE_SIZE; c++)
			page[at++] = *c;
	}
}

static inline void page_make(void *page, enum page_kind kind, uint64_t seed)
{
	uint32_t *words = page;
	uint32_t base = (uint32_t)random_next(&seed);

	memset(page, 0, PAGE_SIZE);
	switch (kind) {
	case KIND_SAME:
		for (size_t i = 0; i < PAGE_SIZE / 4; i++)
			words[i] = base;
		break;
	case KIND_TEXT:
		page_text(page, &seed);
		break;
	case KIND_COUNTING:
		for (size_t i = 0; i < PAGE_SIZE / 4; i++)
			words[i] = (base & 0xffff) + (uint32_t)i;
		break;
	case KIND_SPARSE:
		for (unsigned i = 0; i < 20; i++)
			((char *)page)[random_below(&seed, PAGE_SIZE)] = (char)(1 + i);
		break;
	case KIND_MIXED:
		random_bytes(&seed, page, PAGE_SIZE);
		memset(page, 'm', random_below(&seed, 700));
		break;
	case KIND_RANDOM:
		random_bytes(&seed, page, PAGE_SIZE);
		break;
	default:
		break;
	}
}

#endif
