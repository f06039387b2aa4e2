/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of reclaim jobs share. What other threads do meanwhile is done between the calls of the kernel. */
#ifndef WEIR_TESTS_RECLAIM_JOBS_H
#define WEIR_TESTS_RECLAIM_JOBS_H

#include "one_world.h"

/* A limit of 256 pages makes jobs of 8; above 240 a fault begins one, above 248 it works on two of its pages. */
enum { LIMIT = 256, HIGH = 240, MIDDLE = 248, JOB = 8, PAGES = 1024 };
static const struct world_options small = {.max = LIMIT, .pages = {PAGES}, .check_each = true};
/* Jobs of 256, and room for everything. */
static const struct world_options wide = {.pages = {8192}};

static inline uint32_t job_state(void)
{
	return load_relaxed(&w.reclaim.state);
}

static inline void after_fault(void)
{
	reclaim_after_fault(&w.reclaim, w.pager);
	world_check(&w);
}

/* A job that is chosen and protected, and that nobody has worked on: pages 0 to 7. */
static inline void job_open(void)
{
	write_pages(&w, 0, HIGH + 1, TEXT);
	after_fault();
	assert_int_equal(job_state(), OPEN);
}

static inline void give_credit(uint32_t page, unsigned credit)
{
	store_relaxed(&w.only->word[page], word_of(&w, page) | (uint64_t)credit << CREDIT_SHIFT);
}

#endif
