/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs of random operations that a seed repeats exactly.
 *
 *     WEIR_TEST_SEED=N    this seed (else a new one, which is printed)
 *     WEIR_TEST_STEPS=N   so many steps in each world
 */
#ifndef WEIR_TESTS_RECLAIM_RANDOM_RUN_H
#define WEIR_TESTS_RECLAIM_RANDOM_RUN_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "../random.h"

static uint64_t seed, rng;
static unsigned steps;

static inline uint32_t below(uint32_t n)
{
	return (uint32_t)(random_next(&rng) % n);
}

static inline bool one_in(uint32_t n)
{
	return below(n) == 0;
}

static inline void random_run_begin(unsigned default_steps)
{
	const char *text = getenv("WEIR_TEST_SEED");

	if (text)
		seed = strtoull(text, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = 1;
	text = getenv("WEIR_TEST_STEPS");
	steps = text ? (unsigned)strtoul(text, NULL, 0) : default_steps;
	printf("WEIR_TEST_SEED=%#llx\n", (unsigned long long)seed);
	fflush(stdout);
}

/* A run in which something never happened has tested nothing: `sum` counts. */
#define HAPPENED(what) (printf("  %-20s %llu\n", #what, (unsigned long long)sum.what), sum.what > 0)

#endif
