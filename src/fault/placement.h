/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where handlers and faulting threads run.
 *
 * Automatic policy:
 *
 *                 `streak` faults of one thread in a row, and it is attached
 *      SPREAD ─────────────────────────────────────────────▶ BOUND (thread and handler on one CPU)
 *         ▲                                                     │
 *         └── a fault of another thread, no fault for a tick, ◀─┘
 *             a tick is over (the pair may move), or the program asks (placement_unbind)
 *
 * SPREAD: a handler follows: it binds itself to the CPU of the thread whose fault it serves, which it reads from the
 * thread's rseq area; threads that did not attach are served from where the handler is. Where far more threads fault than
 * there are CPUs (CROWD), somebody is running on each of them anyhow, and following only moves handlers about (measured: 13
 * instead of 7.5 us a fault with 8 threads on 2 CPUs): handlers run where the kernel puts them.
 *
 * Fixed policies: PAIR is BOUND from the first fault on, with whoever faulted last; FOLLOW is SPREAD whoever faults, in a
 * crowd too; NONE binds nobody (leader and followers, where the kernel puts them).
 *
 * A thread's own affinity is saved when it is bound and given back when it is let go. Children inherit affinity:
 * so the agent lets go before the program creates a thread or a process, and before it asks for its affinity.
 */
#ifndef WEIR_FAULT_PLACEMENT_H
#define WEIR_FAULT_PLACEMENT_H

#include <sched.h>

#include "base/lock.h"

enum placement_policy {
	PLACEMENT_AUTO,
	PLACEMENT_NONE,
	PLACEMENT_PAIR,
	PLACEMENT_FOLLOW,
	PLACEMENT_POLICIES
};

enum {
	ATTACHED_MAX = 1024,
	STREAK_FIRST = 8,  /* faults in a row of one thread before it is bound */
	STREAK_MAX = 4096, /* after bindings that did not last */
	CROWD = 2,	   /* threads for each CPU: with more of them handlers do not follow */
	CROWD_WINDOW = 64, /* faults over which they are counted */
};

struct attached {
	_Atomic int tid;	      /* (P) to write, (A) to read; 0: free */
	const volatile uint32_t *cpu; /* (P) the thread lives as long as it is attached */
};

struct placement {
	struct lock lock;	      /* (P) RANK_PLACEMENT */
	enum placement_policy policy; /* (C) */
	unsigned cpus;		      /* (C) */
	/* Handlers only, mostly one; lost updates make a streak shorter or longer and nothing else. */
	_Atomic int last_tid;		/* (A) */
	_Atomic uint32_t streak;	/* (A) faults in a row of last_tid */
	_Atomic uint32_t streak_wanted; /* (A) */
	_Atomic uint64_t faults;	/* (A) since the last tick */
	_Atomic uint64_t seen;		/* (A) a bit for each thread of this window, hashed */
	_Atomic uint32_t window, crowd; /* (A) faults in it; threads of the one before */
	cpu_set_t all;			/* (C) where handlers may run */
	_Atomic int bound_tid;		/* (P) to write, (A) to read; 0: none */
	_Atomic int bound_cpu;		/* (P) to write, (A) to read: a stale one costs a move */
	cpu_set_t saved;		/* (P) the thread's own affinity */
	uint64_t quiet_until_ns;	/* (P) the program asked: no binding before */
	unsigned bound_ticks;		/* (P) */
	_Atomic uint64_t bindings;	/* (A) counted for people */
	uint32_t attached_count;	/* (P) */
	struct attached attached[ATTACHED_MAX]; /* hashed by tid, linear probing */
};

void placement_init(struct placement *p, enum placement_policy policy);
/* In the child of a fork: nobody is attached, nobody bound. */
void placement_after_fork(struct placement *p);
/* A handler has read a fault of tid. own_cpu: where the handler is bound, or -1; updated. Returns how many
 * threads have faulted lately: 1 or more. */
unsigned placement_fault(struct placement *p, int tid, int *own_cpu);
/* Gives the bound thread its affinity back and binds nobody for a while. Any thread. */
void placement_unbind(struct placement *p, uint64_t quiet_ns);
/* Now and then, by the background thread. */
void placement_tick(struct placement *p);
/* The calling thread tells where its CPU can be read; detach before it ends. */
void placement_attach(struct placement *p);
void placement_detach(struct placement *p);

#endif
