/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signal mode: a thread that faults gets SIGBUS, and serves its fault itself, by the same pagein() that handlers call. No
 * wake-up and no context switch; no permission needed.
 *
 *      touch ──SIGBUS──▶ find the region ──▶ take a pager ──▶ pagein ──┬─▶ page is there: the touch happens again
 *                          │ none of ours                              ├─▶ busy: sleep until it is not, touch again
 *                          ▼                                           └─▶ the thread's table of descriptors has not
 *                 the handler that was there before                        what it takes (the program has closed it):
 *                                                                          the background thread does it
 *
 * Rules:
 *   - In the handler all asynchronous signals are blocked, as they are in public functions that hold a lock or a busy
 *     bit (thread_signals_block). So a signal handler of the program never runs while its thread is inside weir, and may fault.
 *     (A way for nested faults around what the thread holds does not exist: the page that the handler touches may be the
 *     very one that its own thread has locked.)
 *   - What weir itself touches is no fault; where a page vanished behind weir's back it is zeroes, put there at once.
 *   - No malloc: pagers come from an array that is reserved at the start, memory comes with their first use.
 *   - The descriptors are the program's to close: what does not work in its table is done in weir's own. Never zeroes.
 *
 * Lifetime: a thread in the handler is a visitor; signal_quiesce waits until none that may have found a region is left.
 */
#ifndef WEIR_FAULT_SIGNAL_H
#define WEIR_FAULT_SIGNAL_H

#include "reclaim/reclaim.h"

enum {
	SIGNAL_PAGERS = 64
}; /* threads that are in the handler at a time; others yield until one is free */

struct signal_service {
	struct vm *vm;		 /* (C) */
	struct reclaim *reclaim; /* (C) */
	struct hist *served_ns;	 /* (C) */
	char *pagers;		 /* (C) */
	_Atomic uint64_t taken;	 /* (A) a bit for each pager */
	_Atomic uintptr_t
		going; /* (A) a region that is being destroyed: who touches it goes round */
	_Atomic size_t going_bytes; /* (A) */
};

/* -ENOSPC: 64 instances in signal mode; -ENOMEM. */
int signal_start(struct signal_service *signal, struct vm *vm, struct reclaim *reclaim,
		 struct hist *served_ns);
void signal_stop(struct signal_service *signal);
/* Serves what a touch of the address would be, by the calling thread, without one: as far as the handler would. */
void signal_touch(const void *address, bool write);
/* From before region_hide until the range is gone, or plain memory again (bytes 0). */
void signal_going(struct signal_service *signal, const void *base, size_t bytes);
/* Returns when no thread serves a fault whose region it looked up before the call. */
void signal_quiesce(struct signal_service *signal);

#endif
