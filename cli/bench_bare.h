/* SPDX-License-Identifier: BSD-2-Clause */
/* The least that faults cost: loops of nothing but the system calls, on one CPU. */
#ifndef WEIR_CLI_BENCH_BARE_H
#define WEIR_CLI_BENCH_BARE_H

#include <stdint.h>

/* Calls measure with a region of absent pages. A thread reads faults and answers them by UFFDIO_COPY of one page. */
int bench_bare_thread(uint32_t pages, void (*measure)(char *region, uint32_t pages));
/* The faulting thread answers its SIGBUS by UFFDIO_COPY of the same page. -ENOSYS: not on this kernel. */
int bench_bare_signal(uint32_t pages, void (*measure)(char *region, uint32_t pages));

#endif
