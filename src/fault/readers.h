/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Leader and followers: how a fault wakes one handler.
 *
 * Kernels wake every thread that blocks in read of a userfaultfd for each fault: a blocking read joins the queue as an
 * ordinary waiter, and so does poll. So only as many handlers sit in read as are wanted; the others wait in a queue of
 * weir's own, exclusively, last in first out. Who is about to block gives its place to the next one first.
 *
 *           enter: reading < wanted                  a fault
 *      FOLLOWING ─────────────────────▶ READING ──────────────────▶ SERVING ──┐
 *          ▲                               ▲        nothing blocks, and still │
 *          │                               └──────── wanted ──────────────────┤
 *          └───── yield: too many readers; block: the place was given up ◀────┘
 *
 * The other way, EPOLLEXCLUSIVE in front of reads that do not block, lives in the bench (cli/crew.h): `weir bench fault`
 * measures both, and docs/benchmarks.md says why this one ships.
 */
#ifndef WEIR_FAULT_READERS_H
#define WEIR_FAULT_READERS_H

#include "base/waitq.h"

enum place { PLACE_NONE, PLACE_READING, PLACE_BLOCKED };

struct readers {
	_Atomic uint32_t reading; /* (A) places taken */
	_Atomic uint32_t wanted;  /* (A) */
	_Atomic uint32_t
		blocked; /* (A) who gave its place up to wait; while there is one, one more may read */
	struct waitq followers;
	_Atomic bool stop; /* (A) */
	_Atomic uint64_t
		woken; /* (A) followers, ever: one at most for each hand-over and each place more */
};

void readers_init(struct readers *readers, unsigned wanted);
void readers_set(struct readers *readers, unsigned wanted);
/* Waits until the caller may read, and has a place; after readers_stop all may read, until each has heard that it is to
 * end. *place is the caller's, PLACE_NONE to begin with. */
void readers_enter(struct readers *readers, enum place *place);
/* The caller is going to wait for something: gives its place up, and lets a follower come forward. Handing over takes a
 * wake-up, during which nobody might read: hence the one more. */
void readers_block(struct readers *readers, enum place *place);
/* Gives the place up if there are too many readers. */
void readers_yield(struct readers *readers, enum place *place);
void readers_stop(struct readers *readers);

#endif
