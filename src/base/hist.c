/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/hist.h"

static unsigned bucket_of(uint64_t value)
{
	unsigned log;

	if (value < (1u << HIST_SUB_BITS))
		return (unsigned)value;
	log = 63 - (unsigned)__builtin_clzll(value);
	return ((log - HIST_SUB_BITS + 1) << HIST_SUB_BITS) +
	       (unsigned)((value >> (log - HIST_SUB_BITS)) & ((1u << HIST_SUB_BITS) - 1));
}

static uint64_t bucket_middle(unsigned bucket)
{
	unsigned log, sub;

	if (bucket < (1u << HIST_SUB_BITS))
		return bucket;
	log = (bucket >> HIST_SUB_BITS) - 1;
	sub = bucket & ((1u << HIST_SUB_BITS) - 1);
	return ((uint64_t)((1u << HIST_SUB_BITS) + sub) << log) + ((1ull << log) >> 1);
}

void hist_add(struct hist *hist, uint64_t value)
{
	uint64_t max = load_relaxed(&hist->max);

	add_relaxed(&hist->bucket[bucket_of(value)], 1);
	add_relaxed(&hist->sum, value);
	while (value > max && !cas_relaxed(&hist->max, &max, value))
		;
}

void hist_merge(struct hist *into, const struct hist *from)
{
	uint64_t max = load_relaxed(&into->max), other = load_relaxed(&from->max);

	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		add_relaxed(&into->bucket[i], load_relaxed(&from->bucket[i]));
	add_relaxed(&into->sum, load_relaxed(&from->sum));
	while (other > max && !cas_relaxed(&into->max, &max, other))
		;
}

uint64_t hist_count(const struct hist *hist)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		count += load_relaxed(&hist->bucket[i]);
	return count;
}

uint64_t hist_quantile(const struct hist *hist, unsigned thousandths)
{
	uint64_t all = hist_count(hist), seen = 0;
	/* All of them times thousandths / 1000, rounded up, in 64 bits. */
	uint64_t want = all / 1000 * thousandths + (all % 1000 * thousandths + 999) / 1000;

	if (!all)
		return 0;
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		seen += load_relaxed(&hist->bucket[i]);
		if (seen >= want && seen)
			return MIN(bucket_middle(i), load_relaxed(&hist->max));
	}
	return load_relaxed(&hist->max);
}
