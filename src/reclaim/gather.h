/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gather: write-protecting while nobody else runs.
 *
 * Protecting a span of pages interrupts every other CPU that runs a thread of the process, and waits for them: 10 to 20 us a call on
 * virtual machines. A CPU whose thread sleeps in the kernel is not interrupted. So where hot dirty pages lie between the victims of
 * a job, and each is a span of its own, the thread that fills the job gathers the others first: whoever comes with a fault
 * sleeps until the spans are protected.
 *
 *      round 0 ──gather_begin──▶ round n ──(company has come, or WAIT_NS)──▶ protecting ──gather_end: wakes──▶ round 0
 *                                   │                                           │
 *                                   └───────── gather_join: a fault comes ──────┘  sleeps until round is not n, at most ASLEEP_NS:
 *                                                                                  then it ends the round itself
 *
 * It is for speed only: who does not come is interrupted, as without it; who sleeps holds nothing. Both ways are timed, and the
 * cheaper one is taken.
 *
 * Letters: (A) atomic, (F) only the thread that fills a job.
 */
#ifndef WEIR_RECLAIM_GATHER_H
#define WEIR_RECLAIM_GATHER_H

#include "base/atomic.h"
#include "base/base.h"

struct gather {
	NO_SHARING _Atomic uint32_t round; /* (A) a futex; 0: nobody gathers */
	_Atomic uint32_t joined;	   /* (A) who sleep in this round, or have */
	uint32_t turn, gatherings; /* (F) jobs with many spans; rounds, whose numbers these are */
	uint32_t company;	   /* (F) so many came when they were last waited for */
	uint64_t span_ns[2];	   /* (F) what a span costs, running means: without, and with */
	uint64_t began_ns;	   /* (F) */
};

/* Before a job's spans are protected. True: others were gathered. */
bool gather_begin(struct gather *gather, unsigned spans);
void gather_end(struct gather *gather, bool gathered, unsigned spans);
void gather_sleep(struct gather *gather);

/* A thread that begins with a fault, and holds nothing. True: it has slept. */
static inline bool gather_join(struct gather *gather)
{
	if (likely(!load_relaxed(&gather->round)))
		return false;
	gather_sleep(gather);
	return true;
}

#endif
