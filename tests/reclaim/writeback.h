/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of writeback share. Pages do not compress (fill_noise), so that the file is the only place that helps. */
#ifndef WEIR_TESTS_RECLAIM_WRITEBACK_H
#define WEIR_TESTS_RECLAIM_WRITEBACK_H

#include "away.h"

enum { PAGES = 1024, UNIT = 512 };
static const struct world_options plain = {.pages = {PAGES}, .check_each = true};

static inline void over_share(void)
{
	store_relaxed(&w.vm.memory_share, 0);
}

/* One batch. The file is there already, so that nothing else happens. */
static inline void open_file(void)
{
	assert_int_equal(store_open(&w.store), 0);
}

static inline int write_once(void)
{
	int n = writeback_once(&w.reclaim);

	world_check(&w);
	return n;
}

static inline uint64_t written(void)
{
	return load_relaxed(&w.vm.count.written);
}

#endif
