/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this process uses, as perf stat counts it: the kernel's software counters, for all threads that are started after
 * usage_open. Where they are not to be had (perf_event_open is refused), the figures come from getrusage and the process's
 * clock, and migrations are not known.
 */
#ifndef WEIR_OS_USAGE_H
#define WEIR_OS_USAGE_H

#include "base/base.h"

#define USAGE_UNKNOWN UINT64_MAX

enum usage_counter { USAGE_SWITCHES, USAGE_MIGRATIONS, USAGE_FAULTS, USAGE_COUNTERS };

struct usage_meter {
	int fd[USAGE_COUNTERS]; /* -1: not to be had */
};

struct usage {
	uint64_t wall_ns, task_ns; /* since some moment; CPU time of all threads */
	uint64_t counter[USAGE_COUNTERS];
};

void usage_open(struct usage_meter *meter);
void usage_read(const struct usage_meter *meter, struct usage *usage);
void usage_close(struct usage_meter *meter);
/* What was used between two readings. */
struct usage usage_since(const struct usage *before, const struct usage *after);

#endif
