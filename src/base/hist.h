/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A histogram of durations: eight buckets to each power of two (at most 12.5 % wide), any number of writers.
 */
#ifndef WEIR_BASE_HIST_H
#define WEIR_BASE_HIST_H

#include "base/atomic.h"
#include "base/base.h"

enum { HIST_SUB_BITS = 3, HIST_BUCKETS = (64 - HIST_SUB_BITS + 1) << HIST_SUB_BITS };

struct hist {
	_Atomic uint64_t bucket[HIST_BUCKETS]; /* (A) */
	_Atomic uint64_t sum, max;	       /* (A) */
};

void hist_add(struct hist *hist, uint64_t value);
void hist_merge(struct hist *into, const struct hist *from);
uint64_t hist_count(const struct hist *hist);
/* The middle of the bucket that holds the given share (0 to 1000 thousandths) of all values; 0 when empty. */
uint64_t hist_quantile(const struct hist *hist, unsigned thousandths);

#endif
