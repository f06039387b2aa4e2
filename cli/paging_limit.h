/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The limit of a pattern of weir bench paging: what the same accesses cost with nothing but a bare SIGBUS, the page
 * unpacked from a copy of its own, UFFDIO_COPY, and the oldest 256 pages dropped at once whenever too many are there. Where
 * pages are written each is packed again before it goes. Sequentially 16 pages come at once. No page has a state, nothing
 * is charged, nothing is checked, and what was written is lost.
 *
 * Over both CPUs: with two threads each does all of that for itself; with one that writes, another thread packs and
 * drops. (One that only reads drops itself, which costs less than being interrupted by another's dropping.)
 *
 * One in a process.
 */
#ifndef WEIR_CLI_PAGING_LIMIT_H
#define WEIR_CLI_PAGING_LIMIT_H

#include "paging_load.h"

/* resident: pages that may be in memory. 0 or -errno. */
int limit_open(uint32_t pages, uint32_t resident, enum contents contents);
/* load's region is filled in here. *loads: pages that were loaded in the window. */
int limit_run(struct load load, struct load_result *result, uint64_t *loads);
/* The same accesses to memory that is all there. */
int limit_hits(struct load load, struct load_result *result);

#endif
