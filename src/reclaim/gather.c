/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A rendezvous, for a job that takes many calls to protect: see gather.h.
 */
#include "reclaim/gather.h"

#include <errno.h>

#include "base/base.h"
#include "base/lock.h"

enum {
	SPANS_MIN = 8,	     /* with fewer, what they interrupt costs less than waiting */
	WAIT_NS = 50000,     /* for the others to come */
	LOOKS_MAX = 1024,    /* for them meanwhile, should the clock stand still */
	ASLEEP_NS = 2000000, /* at the most: who gathers is not running */
	PROBE_EVERY = 64,    /* jobs */
	FULL_EVERY = 8,	     /* gatherings: how many there are to come is found out */
	SPAN_NS_MAX = 50000,
	MEAN_SHIFT = 3,
};

/* Of the two ways the one that a span costs less in; now and then the other, which may have become cheaper. */
static bool worth_it(struct gather *g)
{
	const bool cheaper = g->span_ns[true] <= g->span_ns[false];

	return ++g->turn % PROBE_EVERY ? cheaper : !cheaper;
}

bool gather_begin(struct gather *g, unsigned spans)
{
	uint64_t until;
	uint32_t came = 0;
	bool all;

	if (spans < SPANS_MIN)
		return false;
	g->began_ns = now_ns();
	if (!worth_it(g))
		return false;
	/* Not by turns: where gathering is but tried now and then, they would never be ones at which it is found out. */
	all = ++g->gatherings % FULL_EVERY == 1;
	store_relaxed(&g->joined, 0);
	/* Nothing is published by it: who comes just sleeps. 0 once in 2^32: nobody does. */
	store_relaxed(&g->round, g->gatherings);
	until = g->began_ns + WAIT_NS;
	for (unsigned i = 0; i < LOOKS_MAX; i++) {
		came = load_relaxed(&g->joined);
		if ((!all && came >= g->company) || now_ns() >= until)
			break;
		cpu_relax();
	}
	if (all)
		g->company = MAX(came, 1u);
	return true;
}

void gather_end(struct gather *g, bool gathered, unsigned spans)
{
	uint32_t joined = 0;
	uint64_t cost;

	if (gathered) {
		store_relaxed(&g->round, 0);
		/* Without a look at who sleeps: the call orders it behind the store. */
		(void)futex_wake(&g->round, INT32_MAX);
		joined = load_relaxed(&g->joined);
	}
	if (spans < SPANS_MIN)
		return;
	/* What those who slept could have done meanwhile counts, too. */
	cost = (now_ns() - g->began_ns) * (1 + joined) / spans;
	/* Who was not running meanwhile has measured something else. */
	cost = MIN(cost, (uint64_t)SPAN_NS_MAX);
	g->span_ns[gathered] += (cost >> MEAN_SHIFT) - (g->span_ns[gathered] >> MEAN_SHIFT);
}

void gather_sleep(struct gather *g)
{
	uint32_t round = load_relaxed(&g->round);

	if (!round)
		return;
	add_relaxed(&g->joined, 1);
	/* Who gathers does not get to run, perhaps for long: nobody else waits for it. */
	if (futex_wait(&g->round, round, ASLEEP_NS) == -ETIMEDOUT)
		(void)cas_relaxed(&g->round, &round, 0);
}
