/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Leader and followers: how a fault wakes one handler.
 *
 * Kernels wake every thread that blocks in read of a userfaultfd for each fault: a blocking read joins the queue as an
 * ordinary waiter, and so does poll. So only as many handlers sit in read as are wanted; the others wait in a queue of
 * weir's own, exclusively, last in first out. Who is about to block gives its place to the next one first.
 *
 *                   reading < wanted                 a fault
 *      FOLLOWING ─────────────────────▶ READING ──────────────────▶ SERVING ──┐
 *          ▲                               ▲         nothing blocks and still │
 *          │                               └──────── wanted ──────────────────┤
 *          └───── too many readers, or the place was given up ◀───────────────┘
 *
 * The other way, EPOLLEXCLUSIVE in front of reads that do not block, lives in the bench (cli/crew.h): `weir bench fault`
 * measures both, and docs/benchmarks.md says why this one ships.
 */
#ifndef WEIR_FAULT_READERS_H
#define WEIR_FAULT_READERS_H

#include "base/waitq.h"

struct readers {
	_Atomic uint32_t reading; /* (A) places taken */
	_Atomic uint32_t wanted;  /* (A) */
	struct waitq followers;
	_Atomic bool stop; /* (A) */
};

void readers_init(struct readers *readers, unsigned wanted);
void readers_set(struct readers *readers, unsigned wanted);
/* Waits until the caller may read. *place: has one of the places; not after readers_stop, when all may read, until
 * each has heard that it is to end. */
void readers_enter(struct readers *readers, bool *place);
/* Gives the place up, if the caller has one, and lets a follower come forward. */
void readers_leave(struct readers *readers, bool *place);
/* The same, if there are too many readers. */
void readers_yield(struct readers *readers, bool *place);
void readers_stop(struct readers *readers);

#endif
