/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The agent: the library that `weir run` loads into a program.
 *
 * It makes one region, gives it to mimalloc, and serves malloc from it. The rest of the program's calls that concern
 * the region, its threads and its forks pass through here too:
 *
 *   malloc.c     malloc and its family, by mimalloc
 *   interpose.c  madvise on the region; thread creation, affinity and process creation, before which a
 *                thread that weir bound to a CPU is let go
 *   agent.c      start, fork, the table at the end
 *
 * Life:
 *
 *            first malloc              constructor                fork, in the child, without a hand-over
 *   (none) ──────────────▶ EARLY ─────────────────────▶ MANAGED ───────────────────▶ PLAIN
 *            region mapped, ▲        instance started,  │          the memory stays, without a
 *            plain memory   │        region adopted     │          limit and without weir
 *                           └───────────────────────────┘
 *                             fork, in the child, until it has taken over
 *
 * Rules: nothing here may call malloc while it serves malloc; messages leave by log_line. The region is never
 * unmapped: exit(3) handlers of the program still use their memory after ours have run.
 */
#ifndef WEIR_AGENT_AGENT_H
#define WEIR_AGENT_AGENT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/weir.h"

#define AGENT_EXPORT __attribute__((visibility("default")))

enum agent_state { AGENT_NONE, AGENT_EARLY, AGENT_MANAGED, AGENT_PLAIN };

struct agent {
	_Atomic int state;   /* (A) enum agent_state */
	char *region;	     /* (C) from AGENT_EARLY on */
	size_t region_bytes; /* (C) */
	struct weir *weir;   /* (C) from AGENT_MANAGED on */
};

extern struct agent agent;

/* Maps the region and gives it to mimalloc. Called by the first malloc, before any constructor if need be. */
void agent_early(void);
/* Is the address in the region? */
static inline bool agent_owns(const void *addr)
{
	return (size_t)((const char *)addr - agent.region) < agent.region_bytes;
}
/* What a function returns that tells of errors by errno. before: errno when it was called, which stays where all went well. */
static inline int agent_answer(int before, int err)
{
	errno = err ? -err : before;
	return err ? -1 : 0;
}
/* The instance, or NULL where there is none (yet, or after a fork). */
struct weir *agent_weir(void);
/* Prints the statistics, once, if they were asked for. */
void agent_report(void);

#endif
