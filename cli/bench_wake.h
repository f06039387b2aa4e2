/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Part of weir bench fault: how many faults many handlers serve, by the way in which a fault wakes them (crew.h). Each
 * fault is answered by UFFDIO_COPY of one page and nothing else, so what differs is the waking.
 *
 * And a store that takes 200 us: each fault waits so long before its page is installed, with weir's way to wake.
 */
#ifndef WEIR_CLI_BENCH_WAKE_H
#define WEIR_CLI_BENCH_WAKE_H

#include <stdbool.h>

/* One run of all. 0 or -errno. */
int bench_wake_run(unsigned run, bool quick);
void bench_wake_print(void);
/* Members of the array "results", and of the object "ratios"; each begins with a comma. */
void bench_wake_json_results(void);
void bench_wake_json_ratios(void);
int bench_wake_svg(const char *path);

#endif
