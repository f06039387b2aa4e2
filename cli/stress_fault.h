/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stress test of faults: two areas bounce contents back and forth, through a userfaultfd.
 *
 * A bounce. The area that has the contents is the source; the other one, empty and registered, the destination. One
 * thread for each CPU touches pages of the destination; a handler for each CPU answers every fault with UFFDIO_COPY of
 * the same page of the source. At the end every page has come over, the source is dropped, and the roles change.
 *
 * A page begins with a lock and a counter; the rest is a pattern that follows from its number. Who touches it takes the
 * lock, compares the counter with what it must be, and adds one. A page that came over twice, late, from the wrong place,
 * or not at all is a wrong counter or a wrong pattern, which ends the run with its number and both counts.
 */
#ifndef WEIR_CLI_STRESS_FAULT_H
#define WEIR_CLI_STRESS_FAULT_H

#include <stdio.h>

#include "crew.h"
#include "os/usage.h"

struct stress_fault {
	/* The caller's. */
	uint64_t bytes;
	unsigned bounces, cpus;
	enum crew_way way;
	uint64_t seed;
	FILE *out; /* lines of each bounce; NULL: none */
	/* Serves a fault; NULL: as it should be. Tests put a broken one here. */
	int (*install)(int uffd, char *dst, const char *src);
	unsigned patience_s; /* without any progress: the run hangs; 0: 30 */
	/* Results. */
	uint64_t faults; /* served */
	uint64_t woken;	 /* CREW_ONE, CREW_WEIR: followers */
	uint32_t
		in_read_most; /* CREW_ONE, CREW_WEIR: handlers in read at a time, whom a fault wakes */
	struct usage used;
	char wrong[200]; /* what was found, when the run fails with -EBADMSG or -ETIMEDOUT */
};

/* Pages that the run works on: a multiple of the CPUs. */
uint32_t stress_fault_pages(const struct stress_fault *run);
/* 0; -EBADMSG: a wrong page; -ETIMEDOUT: it hangs, and its threads are left where they are; or another -errno. */
int stress_fault_run(struct stress_fault *run);

#endif
