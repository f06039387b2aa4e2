/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time lost to memory, one record a container. A stall begins and ends with a fault that loads a refault, waits
 * for room or is throttled; `some` runs while one is under way, `full` while as many are as threads have faulted within PRESSURE_ACTIVE_NS.
 *
 * Averages are folded every two seconds, when somebody comes by: avg = avg * e^(-2/10) + share * (1 - e^(-2/10)), as
 * PSI does. Fixed point, 1 << 16 is all of the time.
 */
#ifndef WEIR_CONTROL_PRESSURE_H
#define WEIR_CONTROL_PRESSURE_H

#include "base/lock.h"

enum { PRESSURE_TASKS = 8, PRESSURE_ONE = 1 << 16 };
#define PRESSURE_PERIOD_NS 2000000000ull
#define PRESSURE_ACTIVE_NS 100000000ull

enum pressure_kind { PRESSURE_SOME, PRESSURE_FULL, PRESSURE_KINDS };

/* All under the lock. */
struct pressure {
	struct lock lock;
	uint32_t stalled;		  /* stalls under way */
	uint32_t active;		  /* threads that faulted lately, when last counted */
	uint64_t seen_ns;		  /* total[] is right up to here */
	uint64_t folded_ns;		  /* avg10[] is right up to here */
	uint64_t total[PRESSURE_KINDS];	  /* ns */
	uint64_t at_fold[PRESSURE_KINDS]; /* total at folded_ns */
	uint32_t avg10[PRESSURE_KINDS];	  /* of PRESSURE_ONE */
	struct {
		int tid;
		uint64_t seen_ns;
	} task[PRESSURE_TASKS];
};

void pressure_init(struct pressure *pressure, uint64_t now);
/* A fault that is no stall: its thread is active. */
void pressure_note(struct pressure *pressure, int tid, uint64_t now);
void pressure_begin(struct pressure *pressure, int tid, uint64_t now);
void pressure_end(struct pressure *pressure, uint64_t now);
/* Both kinds, up to now. */
void pressure_read(struct pressure *pressure, uint64_t now, uint64_t total_ns[PRESSURE_KINDS],
		   uint32_t avg10[PRESSURE_KINDS]);

#endif
