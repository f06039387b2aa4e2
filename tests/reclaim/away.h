/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages that are away: written, moved out, and compressed in memory. */
#ifndef WEIR_TESTS_RECLAIM_AWAY_H
#define WEIR_TESTS_RECLAIM_AWAY_H

#include "one_world.h"

/* Pages [first, first + count) written and moved out; nothing else is resident then. */
static inline void away(uint32_t first, uint32_t count)
{
	const bool each = w.check_each;

	w.check_each = false;
	write_pages(&w, first, count, NOISE);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	w.check_each = each;
	world_check(&w);
}

#endif
