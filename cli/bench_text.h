/* SPDX-License-Identifier: BSD-2-Clause */
/* Text as it is in programs: frequent and rare words, phrases that come again. The same in each run of a bench. */
#ifndef WEIR_CLI_BENCH_TEXT_H
#define WEIR_CLI_BENCH_TEXT_H

#include <stdint.h>

uint32_t bench_random_below(uint32_t n);
/* Once, before the first text. */
void bench_words_make(void);
/* first_word[]: of each page, as it was written. */
void bench_text_fill(char *at, uint32_t pages, uint64_t *first_word);

#endif
