/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A run: adjacent pages that one thread has locked and loads together. Its target is the page that faulted; the others
 * are neighbours that a stream will want. All of them are alike: never touched, or absent.
 */
#ifndef WEIR_VM_RUN_H
#define WEIR_VM_RUN_H

#include "vm/vm.h"

struct run {
	struct region *region;
	uint32_t first, count;
	uint64_t before[RUN_MAX]; /* words without BUSY */
	uint64_t after[RUN_MAX];
	bool writable[RUN_MAX];
	/* Whether pages that were not rewritten before, and those that were, will be written; and they will. */
	bool asked[2], expected[2];
	struct weir_container *container; /* that pays, */
	unsigned owner;			  /* in this slot of the region's table */
	uint32_t charged; /* pages charged; what is not installed is uncharged at the end */
	enum fault_access access;
	uint32_t target; /* the page that faulted */
	bool ahead;	 /* none did, and nobody waits: the target is only the first of them */
	bool stream;	 /* neighbours belong to a stream, else they are a guess */
};

static inline bool page_loadable(uint64_t w)
{
	return word_state(w) == PAGE_NONE || word_state(w) == PAGE_ABSENT;
}

static inline bool run_waited_for(const struct run *run, uint32_t i)
{
	return run->first + i == run->target && !run->ahead;
}

/* Locks neighbours of the target in the direction of the stream, as far as they can be loaded and charged. */
void run_extend(struct vm *vm, struct run *run, unsigned want, int step);
/* Contents of page i into the thread's own buffer, self->run[i]. Returns for how many pages from i on that was done, or -errno;
 * -EAGAIN: the copy is there, but not to be reached just now. */
int run_fill(struct vm *vm, struct pager *self, struct run *run, uint32_t i);
/*
 * Reads the copies into the thread's own buffer, installs them with UFFDIO_COPY (which wakes), lets copies go that are no
 * longer one, unlocks. The target is locked and charged (run->charged >= 1); what is not installed is uncharged.
 */
enum pagein_result run_load(struct vm *vm, struct pager *self, struct run *run);

/* Grade and credit of a page that comes back, from its grade and its stamp: 1, 2, 4, 8, 15 for quick returns in a row, quartered
 * otherwise. */
uint64_t credit_of(struct vm *vm, struct weir_container *container, uint64_t w, bool *quick);

#endif
