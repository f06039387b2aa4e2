/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How much of a limit copies may take follows what faults cost.
 *
 * Memory that copies give up is room for resident pages, and spares faults on pages that had left just before. What it held goes to the file:
 * loads of the oldest copies then cost a read of the file. Both are counted as loads come, and compared for the byte that would change
 * hands next. What a load costs is measured, too: from the message to the end of what the handler did for it.
 *
 *      gain  =  loads of pages that left within the last SHARE_SOON, times their cost, over the bytes of such pages
 *      loss  =  the larger one of   loads of the oldest copies in memory, over the bytes of those
 *               and                 loads from the file, over the bytes that it has
 *               times what a load from the file costs more than one from memory
 *
 * The second of the losses tells what the first cannot: who goes round through more than fits never meets a copy in memory, since all are
 * written before their turn; with more room for copies they would stay. Where accesses do not depend on age both are the same.
 *
 * A gain must be a quarter more than the loss, since writing to the file costs too; a loss need only be more. The background thread looks at each
 * tick (reclaim/share.c). Steps grow while they go one way, shrink when they turn, and wait until the last one has been taken up.
 *
 * Letters: (A) atomic, (T) only the background thread.
 */
#ifndef WEIR_VM_SHARE_H
#define WEIR_VM_SHARE_H

#include "base/atomic.h"
#include "base/base.h"

enum {
	SHARE_PARTS = 256,   /* of the bound, which is what copies may have at most */
	SHARE_CUT_MAX = 171, /* a third of it stays */
	SHARE_SOON = 32,     /* of vm_clock: a 16th of the limit's worth of evictions */
	SHARE_LOADS = 1024,  /* that it takes to learn anything */
};

enum share_kind { SHARE_MEMORY, SHARE_FILE, SHARE_KINDS };

/* Races lose a count and nothing else, as for the other controls of a tenant. */
struct share_control {
	_Atomic bool on; /* (A) written by (T): somebody wants to know */
	/* (A) loads since the last look; those of pages that had left just before; those of the oldest copies in memory */
	_Atomic uint32_t loads[SHARE_KINDS], soon[SHARE_KINDS], oldest;
	_Atomic uint32_t
		old; /* (A) written by (T): from this age on, of vm_clock, they are the oldest */
	_Atomic uint32_t
		timed[SHARE_KINDS]; /* (A) loads that were timed, the last ones counting most; */
	_Atomic uint64_t ns[SHARE_KINDS]; /* (A) and what they took */
	_Atomic uint32_t
		cut;  /* (A) written by (T): SHARE_PARTS of the bound that copies do not have */
	int32_t step; /* (T) the last one, of cut */
	uint32_t hand_region, hand_page; /* (T) where the look at ages stands */
	uint32_t seen,
		seen_old; /* (T) copies in memory that it met, the last ones counting most, and the oldest of those */
};

/* What a look finds. */
struct share_window {
	uint64_t soon[SHARE_KINDS], oldest, file;      /* loads */
	uint64_t ns[SHARE_KINDS];		       /* that one takes */
	uint64_t soon_bytes, oldest_bytes, file_bytes; /* what they could have been of */
};
struct share_weight {
	uint64_t gain, loss; /* a byte, in one unit */
};

struct share_weight share_weigh(const struct share_window *window);
/* The cut that follows; *step: the last step, then this one. */
uint32_t share_step(uint32_t cut, struct share_weight weight, int32_t *step);

/* What else there is to know of a container. */
struct share_state {
	uint64_t limit, bound;	     /* bytes */
	uint64_t copies, file_bytes; /* that there are, in memory and in the file */
};
static inline uint64_t share_bytes(uint64_t bound, uint32_t cut)
{
	return bound - bound / SHARE_PARTS * cut;
}
/* Have there been enough loads to look? */
static inline bool share_due(const struct share_control *s)
{
	return load_relaxed(&s->loads[SHARE_MEMORY]) + load_relaxed(&s->loads[SHARE_FILE]) >=
	       SHARE_LOADS;
}
/* A look: a step, if there is reason for one; seen and seen_old are up to date. Counts begin anew. (T) */
void share_look(struct share_control *s, const struct share_state *state);

/* A load of a page that left so long ago, of vm_clock. filled: its copy takes no memory. */
static inline void share_note(struct share_control *s, enum share_kind kind, unsigned age,
			      bool filled)
{
	add_relaxed(&s->loads[kind], 1);
	if (age < SHARE_SOON)
		add_relaxed(&s->soon[kind], 1);
	else if (kind == SHARE_MEMORY && !filled && age >= load_relaxed(&s->old))
		add_relaxed(&s->oldest, 1);
}

static inline void share_took(struct share_control *s, enum share_kind kind, uint32_t loads,
			      uint64_t ns)
{
	add_relaxed(&s->timed[kind], loads);
	add_relaxed(&s->ns[kind], ns);
}

#endif
