/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page word: where a page of a region is. One 64-bit atomic a page.
 *
 *    63        32 31  30             16 15  12 11    9 8   7 6       5    4     3   2    0
 *   ┌────────────┬────┬─────────────────┬──────┬───────┬─────┬─────────┬──────┬────┬───────┐
 *   │  location  │ WB │ stamp or credit │owner │ grade │kind │rewritten│PARKED│BUSY│ state │
 *   └────────────┴────┴─────────────────┴──────┴───────┴─────┴─────────┴──────┴────┴───────┘
 *
 *   state     below
 *   BUSY      the page lock. Who holds it alone may change the word, but for PARKED; it is never held over anything
 *             that waits for another page, and never by a thread that sleeps on a limit.
 *   PARKED    a fault waits for the busy bit to be cleared; whoever clears it wakes the page (page_unlock)
 *   rewritten 0 to 3: how sure we are that a read of this page is followed by a write; set to 3 by a write fault on a
 *             protected page, one less with each load that protects it all the same (rewrite_control in vm.h)
 *   kind      what location is: COPY_NONE, COPY_FILLED (the 32-bit word the page is full of), COPY_MEMORY (a slot of
 *             the compressed store), COPY_FILE (a slot of the file store)
 *   grade     0 to 5: how often the page came back within one limit's worth of evictions
 *   owner     whose the page is: which of the containers in the region's table (control/owners.h) its memory and its copy are
 *             charged to; meaningless in NONE and POISONED, to which nothing is charged
 *   credit    resident pages: how many times the clock passes over (4 bits)
 *   stamp     absent pages: the eviction clock when it left
 *   pins      resident pages, in the upper eleven bits of stamp: who needs the page to stay as it is
 *   WB        the copy in memory is on its way to the file; anything that changes location clears it
 *
 * States, and the function that performs each transition. A page moves only under its busy bit, except that the
 * filler of a reclaim job turns DIRTY or GUARDED into CLEANING, and job_abandon CLEANING into DIRTY, by one compare-and-swap from a
 * word without BUSY; so does the clock's hand take credit.
 *
 *            run_load (first touch)           job_fill: chosen
 *      NONE ───────────────────────▶ DIRTY ──────────────────────▶ CLEANING ◀─────────────────┐
 *       ▲                            ▲ ▲ ▲ ▲   job_abandon, pin, no │  │                      │
 *       │                            │ │ │ └── room for a copy, ────┘  │ job_clean: copied    │ job_fill: chosen
 *       │ region_discard             │ │ │     make_writable           ▼                      │
 *       │ (from every state)         │ │ └──── make_writable ──────── CLEAN ─ copy_give_up ─▶ GUARDED
 *       │                            │ │                             │  ▲     copy_let_go    │  ▲
 *   any state      run_load (write,  │ └──── make_writable ──────────┼──┼────────────────────┘  │
 *                  or believed)      │                     job_drop  │  │ run_load (read)       │
 *                                    │                               ▼  │                       │
 *                                    └──────────────────────────── ABSENT ──────────────────────┘
 *                                                                    │    run_load (read; the copy is not kept)
 *                                                                    │ page_poison: it cannot be read back
 *                                                                    └─────────────────────────▶ POISONED
 *
 * Not drawn: NONE to POISONED where a limit has no room (page_refuse); resident states to DIRTY where a page was dropped, or
 * one installed, behind weir's back (page_recheck, page_read_end, run_install), and in the child of a fork (child.c); what mremap does (move.c).
 *
 *   NONE      never touched, or discarded: reads as zeroes. No page, no copy.
 *   DIRTY     present, no copy. The kernel may still write-protect it (harmless: one more fault). Where location names
 *             one all the same, it is *stale*: a fork was under way when the page ceased to need it, and the child may. It
 *             is let go with the page's next change.
 *   GUARDED   present, no copy, and write-protected for certain: a job may protect it again at no cost to anybody.
 *   CLEANING  present; the current job write-protects it, then copies it. No copy yet.
 *   CLEAN     present, write-protected, and location holds a copy of it.
 *   ABSENT    not present; location holds the only copy. "compressed" with COPY_MEMORY or COPY_FILLED, "stored" with
 *             COPY_FILE.
 *   POISONED  its copy was lost; touching it is SIGBUS until it is discarded.
 *
 * Why CLEAN and GUARDED can be trusted: protection is taken away only by make_writable, under the busy bit, together with
 * the state. A page is compressed only in CLEANING, by the one job that chose it, after that job's write-protect
 * call has returned; there is only one job at a time. Protecting too much costs a fault and is never wrong.
 */
#ifndef WEIR_VM_PAGE_H
#define WEIR_VM_PAGE_H

#include "base/atomic.h"
#include "base/base.h"

typedef _Atomic uint64_t page_word_t;

enum page_state {
	PAGE_NONE,
	PAGE_DIRTY,
	PAGE_CLEANING,
	PAGE_CLEAN,
	PAGE_ABSENT,
	PAGE_POISONED,
	PAGE_GUARDED,
};
enum copy_kind { COPY_NONE, COPY_FILLED, COPY_MEMORY, COPY_FILE };

#define WORD_STATE 0x7ull
#define WORD_BUSY (1ull << 3)
#define WORD_PARKED (1ull << 4)
#define WORD_WRITEBACK (1ull << 31)

/* Of a page that is CLEANING and busy, and so has no copy, in the place of location: a job reads it where it stands; and it had vanished
 * meanwhile, is there again, and can be written (page_read_begin). */
#define WORD_READING (1ull << 32)
#define WORD_VANISHED (1ull << 33)

enum {
	REWRITTEN_SHIFT = 5,
	KIND_SHIFT = 7,
	GRADE_SHIFT = 9,
	OWNER_SHIFT = 12,
	STAMP_SHIFT = 16,
	CREDIT_SHIFT = STAMP_SHIFT, /* a page is resident or away */
	PIN_SHIFT = 20,
	LOCATION_SHIFT = 32,
	REWRITTEN_MAX = 3,
	GRADE_MAX = 5,
	CREDIT_MAX = 15,
	OWNER_MASK = 15,
	STAMP_MASK = 0x7fff,
	PIN_MAX = 0x7ff,
};

static inline enum page_state word_state(uint64_t w)
{
	return (enum page_state)(w & WORD_STATE);
}
static inline unsigned word_rewritten(uint64_t w)
{
	return w >> REWRITTEN_SHIFT & 3;
}
static inline enum copy_kind word_kind(uint64_t w)
{
	return (enum copy_kind)(w >> KIND_SHIFT & 3);
}
static inline unsigned word_grade(uint64_t w)
{
	return w >> GRADE_SHIFT & 7;
}
static inline unsigned word_owner(uint64_t w)
{
	return w >> OWNER_SHIFT & OWNER_MASK;
}
static inline unsigned word_stamp(uint64_t w)
{
	return w >> STAMP_SHIFT & STAMP_MASK;
}
static inline uint32_t word_location(uint64_t w)
{
	return (uint32_t)(w >> LOCATION_SHIFT);
}
static inline bool word_resident(uint64_t w)
{
	return word_state(w) == PAGE_DIRTY || word_state(w) == PAGE_CLEAN ||
	       word_state(w) == PAGE_CLEANING || word_state(w) == PAGE_GUARDED;
}

/* 0 for a page that is away: the bits are its stamp then. */
static inline unsigned word_credit(uint64_t w)
{
	return word_resident(w) ? w >> CREDIT_SHIFT & CREDIT_MAX : 0;
}

static inline unsigned word_pins(uint64_t w)
{
	return word_resident(w) ? w >> PIN_SHIFT & PIN_MAX : 0;
}

/* What a page keeps from state to state: rewritten, grade and owner. */
static inline uint64_t word_history(uint64_t w)
{
	return w & (3ull << REWRITTEN_SHIFT | 7ull << GRADE_SHIFT |
		    (uint64_t)OWNER_MASK << OWNER_SHIFT);
}
static inline uint64_t word_copy(enum copy_kind kind, uint32_t location)
{
	return (uint64_t)kind << KIND_SHIFT | (uint64_t)location << LOCATION_SHIFT;
}
static inline uint64_t word_copy_of(uint64_t w)
{
	return word_copy(word_kind(w), word_location(w));
}
static inline uint64_t word_with_state(uint64_t w, enum page_state state)
{
	return (w & ~WORD_STATE) | state;
}

static inline uint64_t word_without_copy(uint64_t w)
{
	return w & ~word_copy(3, UINT32_MAX);
}

/* READING? In the place of location only where there is none. */
static inline bool word_being_read(uint64_t w)
{
	return (w & (WORD_BUSY | WORD_READING)) == (WORD_BUSY | WORD_READING) &&
	       word_state(w) == PAGE_CLEANING && word_kind(w) == COPY_NONE;
}

/* Takes the busy bit if the word is still *w, which must be without it. Else *w is what stands there. */
static inline bool page_lock(page_word_t *word, uint64_t *w)
{
	/* Pairs with the release in page_unlock. */
	return cas_acquire(word, w, *w | WORD_BUSY);
}

#endif
