/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench_text.h"

#include <string.h>

#include "base/base.h"

static uint64_t seed = 0x9e3779b97f4a7c15ull;

static uint64_t random_next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dull >> 16;
}

uint32_t bench_random_below(uint32_t n)
{
	return (uint32_t)(random_next() % n);
}

enum { WORDS = 4096, WORD_MAX = 16, PHRASE_MAX = 48, PHRASE_BACK = 2048, PHRASES = 54 };
static char words[WORDS][WORD_MAX];
static uint8_t word_length[WORDS];

void bench_words_make(void)
{
	static const char *const syllables[] = {
		"a",  "be",  "con", "der", "ent", "fi",	 "gra",	 "hol", "in", "ju", "ka",
		"le", "mar", "no",  "or",  "pre", "qui", "re",	 "st",	"ti", "un", "ver",
		"wo", "xe",  "y",   "zo",  "ing", "ed",	 "tion", "s",	"er", "al"};

	for (unsigned i = 0; i < WORDS; i++) {
		unsigned parts = 1 + bench_random_below(4), at = 0;

		for (unsigned k = 0; k < parts && at + 4 < WORD_MAX - 1; k++) {
			const char *s = syllables[bench_random_below(ARRAY_SIZE(syllables))];

			memcpy(words[i] + at, s, strlen(s));
			at += (unsigned)strlen(s);
		}
		words[i][at++] = i % 12 ? ' ' : '\n';
		word_length[i] = (uint8_t)at;
	}
}

/* Some words are frequent and most are rare, as in a language. */
static unsigned word_choose(void)
{
	uint64_t r = random_next();
	uint64_t a = r & 0xffff, b = r >> 16 & 0xffff, c = r >> 32 & 0xffff;

	return (unsigned)((a * b >> 16) * c * (WORDS - 1) >> 32);
}

static char recent[1 << 16]; /* what was written last */
static size_t recent_end;

static const char *recent_phrase(size_t n)
{
	return recent + recent_end - n - bench_random_below(PHRASE_BACK - PHRASE_MAX);
}

static void recent_add(const char *at, size_t n)
{
	if (recent_end + n > sizeof(recent)) {
		memmove(recent, recent + recent_end - PHRASE_BACK, PHRASE_BACK);
		recent_end = PHRASE_BACK;
	}
	memcpy(recent + recent_end, at, n);
	recent_end += n;
}

void bench_text_fill(char *at, uint32_t pages, uint64_t *first_word)
{
	char *const end = at + ((size_t)pages << PAGE_SHIFT);
	char *const start = at;

	while (at < end) {
		size_t n;

		if (at - start > PHRASE_BACK && bench_random_below(100) < PHRASES) {
			/* Texts repeat themselves. From a buffer of our own: the region's pages may be gone. */
			n = 8 + bench_random_below(PHRASE_MAX - 8);
			n = MIN(n, (size_t)(end - at));
			memcpy(at, recent_phrase(n), n);
		} else {
			unsigned i = word_choose();

			n = MIN((size_t)word_length[i], (size_t)(end - at));
			memcpy(at, words[i], n);
		}
		recent_add(at, n);
		at += n;
		/* A page is read back while it is hot: later it would be a fault that nobody needs. */
		if (((uintptr_t)at & PAGE_MASK) < n && at - start >= (ptrdiff_t)PAGE_SIZE) {
			size_t page = ((size_t)(at - start) >> PAGE_SHIFT) - 1;

			memcpy(&first_word[page], start + (page << PAGE_SHIFT), sizeof(uint64_t));
		}
	}
}
