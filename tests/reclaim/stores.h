/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of stores share: a world whose store is the fake's, which does what it is told (fake/store.h). */
#ifndef WEIR_TESTS_RECLAIM_STORES_H
#define WEIR_TESTS_RECLAIM_STORES_H

#include "away.h"
#include "store.h"

enum { PAGES = 512 };
static const struct world_options plain = {.pages = {PAGES}, .check_each = true, .store = "test:"};

static inline void start(void)
{
	test_store_reset();
	world_open(&w, &plain);
}

static inline void end(void)
{
	(void)test_store_complete(UINT32_MAX);
	writeback_flush(&w.reclaim);
	world_close(&w);
	assert_int_equal(test_store_pages(), 0);
	assert_false(test_store_open());
}

static inline int write_once(void)
{
	int n;

	store_relaxed(&w.vm.memory_share, 0);
	n = writeback_once(&w.reclaim);
	store_relaxed(&w.vm.memory_share, UINT64_MAX);
	return n;
}

#endif
