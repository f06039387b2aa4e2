/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Forks: the child goes on with an instance of its own, in which every page is what it was at the moment of the fork.
 *
 * The child's memory is a copy of the parent's: page words, the compressed store, the pool, all of it. What is missing are
 * threads, descriptors, and the pages that were absent: the kernel gives them back as faults, to whoever has the child's
 * userfaultfd, which the parent is told of by an event.
 *
 *   forking thread        handler               background thread        child: its thread      child: background
 *   ──────────────        ───────               ─────────────────        ─────────────────      ─────────────────
 *   before: holds                               ends its job, waits
 *     reclaim, keeps                            until nobody has a page
 *     copies     ──READY────────────────────────▶ waits
 *   fork ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▶ reads the event
 *        ▒ the kernel      sends the userfaultfd
 *        ▒ waits for it    and files to the
 *                          socket  ──BORN──────▶ serves the child's  ◀── libc's part of fork,
 *   after: waits                                 first faults from       faults
 *                                                the parent's words      after: resets locks,
 *                                                                        starts ───────────────▶ own table, receives
 *                                                stops, tells which  ◀──── TAKE ──────────────── asks
 *                                                pages it gave       ────────────────────────▶ makes words right,
 *            ◀──────────────OVER──────────────── lets go of all          goes on ◀────────────── starts handlers
 *   goes on
 *
 * Why the child's copy of the tables is right although handlers go on serving (they must: the forking thread itself may
 * fault, or wait for a lock of libc whose holder faults):
 *   - No job, no writeback, no compaction, nothing that the background thread does is under way.
 *   - From the moment at which the kernel copies the first range of the userfaultfd it refuses every call on it (-EAGAIN)
 *     until the event was read. The first one is the doorbell, which lies below all other memory, and memory is copied in
 *     the order of addresses. So pages come, or become writable, before any of weir's tables is copied, or not at all.
 *   - A handler that is between such a call and the new word has the page busy, and the word still has what was before.
 *     The child clears such bits where pages are counted; so handlers count a page before they take its bit, and until they
 *     have let go of it (vm.h, page_lock_counted). The copy has of one thread's stores all up to some point: a store that
 *     is not in it has met a page that the kernel had protected for the copy, and waits until that is over.
 *   - No copy is let go: pages that no longer need theirs keep it in their word (vm/page.h), so nothing else of the store changes.
 *     Discards wait, and if they must not, write zeroes.
 *   - Which containers there are does not change: the forking thread has the tree's lock for that (control/child.c).
 *   - Locks that somebody held are made anew, and counters are counted anew, of each container by the owners of its pages.
 * The parent's words, as long as it keeps copies, tell what a page of the child has that is absent there: what their copy is,
 * else zeroes.
 *
 * Who has the child's userfaultfd: the message in the socket, from the system call after the one that made it; then the
 * child. In between, less than 10 us, the parent's death closes it, and the child's thread, which is in libc's part of fork, might read
 * zeroes there; before it returns to the program it finds the socket empty, and is ended. From then on a parent that dies
 * leaves a child that blocks (while it has not taken over) or does not need it.
 *
 * The file of cold pages is shared: see store/filestore.h. The child's end of the socket stays open in its table of
 * descriptors, and is passed on to its own children; when the last one has gone, the parent is told.
 *
 * A child that cannot take over has its pages from the parent all the same, all of them, before it goes on; that the parent knew which child it
 * was the child sees by the doorbell's page. One that is late, for it is stopped, is given what had a copy, and the parent goes on; what else
 * it touches until it has taken over the background thread gives it now and then.
 *
 * What is not announced (clone by its system call): the handler brings everything in for that child, from the words of that moment.
 */
#ifndef WEIR_FORK_H
#define WEIR_FORK_H

#include <signal.h>

#include "base/lock.h"
#include "vm/vm.h"

struct weir;

/*
 *                        fork has returned                  nobody has the other end
 *      NONE ──▶ READY ───────────────────▶ RETURNED ────────────────────────────────▶ FAILED
 *                 └───────────┬───────────────┘ a handler was told                      │
 *                             ▼                                                         ▼
 *                          SENDING ──────▶ BORN ──── the child serves itself, ──────▶ OVER ──▶ NONE
 *                                                    has gone, or takes too long
 *      NONE ──▶ PLAIN ──▶ NONE      all pages came in before, and the child needs nothing
 */
enum fork_stage {
	FORK_NONE,
	FORK_PLAIN,
	FORK_READY,
	FORK_RETURNED,
	FORK_SENDING,
	FORK_BORN,
	FORK_FAILED,
	FORK_OVER,
};

enum { LEASES_MAX = 128, LEASES_AT_ONCE = 16, BROUGHT_PAGES = 4094 };

/* Pages that a child was given and does not know of, the last ones first. */
struct brought {
	struct brought *next;
	unsigned count;
	page_no_t page[BROUGHT_PAGES];
};
_Static_assert(sizeof(struct brought) % 4096 == 0, "whole pages");

/* A child that has not taken over in time, or that reads from our file. */
struct lease {
	int end;		 /* our end of its socket; 0: no lease */
	int child;		 /* its userfaultfd, until it has taken over; 0 */
	bool keeps;		 /* the file is kept for it */
	bool all;		 /* everything that had a copy was brought in for it */
	struct brought *brought; /* NULL: it has been told */
};

struct fork {
	struct lock
		lock; /* (K) RANK_FORK, from before a fork until it is over, in parent and child */
	_Atomic uint32_t stage;		     /* (A) enum fork_stage, slept on as a futex */
	bool asked;			     /* (C) the program calls weir_after_fork_child */
	bool can;			     /* (C) the kernel tells of forks */
	void (*in_child)(struct weir *weir); /* (C) maps_in_child; NULL: nothing */
	bool handed;			     /* (K) this fork is of that kind */
	uint64_t
		patience_ns; /* (C) a child that has not taken over then gets all its pages, and the parent goes on */
	sigset_t signals; /* (K) of the forking thread */
	int theirs;	  /* (K) the child's end, in the program's table */
	bool heard; /* (K) in the child: it has been sent what it needs, or that there is nothing */
	struct lease
		born; /* (T) the child that is being born; end and child by the handler, before BORN */
	struct lease lease[LEASES_MAX]; /* (T) */
	_Atomic uint64_t handed_over;	/* (A) children that have taken over */
};

/* By the background thread: serves the child until it does so itself. */
void fork_tick(struct weir *weir);
/* A handler was told of a child. */
void fork_told(void *weir, struct pager *self, int child);
/* By the background thread at the end. */
void fork_close(struct weir *weir);
/* Can weir's threads have the descriptor by which the kernel tells of a fork? */
bool fork_room(struct weir *weir);
/* Until no fork is under way, or so many milliseconds (UINT32_MAX: 49 days). True: none is. */
bool fork_wait(struct weir *weir, uint32_t turns);
/* A discard beside a fork: waits for it, and if it takes long writes zeroes. False: it is over, discard as ever. */
bool fork_discard(struct weir *weir, void *addr, uint64_t bytes);

/* --- between fork.c and child.c --- */

/*
 * What a child says: it takes over; or it cannot (it got no descriptors, or no threads), is given everything, and has plain memory. What it is
 * told; of a child that takes over the pages come then, in messages of at most BROUGHT_AT_ONCE.
 */
static const char fork_take = 'T', fork_plain = 'P';
struct fork_answer {
	uint32_t count;
	uint32_t all;
	uint32_t plain;
};
enum { BROUGHT_AT_ONCE = 2048 };
/* With a page's number: it was not to be read, and the child has poison there. */
static const page_no_t fork_lost = 1ull << 63;
/* In parent and child: lets the locks go, and signals come. */
void fork_end(struct weir *weir);

#endif
