/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of the soak share: see soak.c for what it is.
 *
 * Errors are injected where weir meets the system and between its layers, by functions that the linker puts in between
 * (soak_inject.c). Each kind comes once in so many calls, at places that the seed determines.
 *
 * Who loses a page to one of them is told by SIGBUS, and *mourns* it: looks again with all cells of the page locked,
 * discards it, and it is a page of zeroes from then on. The number of pages mourned is compared with what weir says that it
 * has poisoned, and that with the errors that can cost a page.
 */
#ifndef WEIR_TESTS_SOAK_H
#define WEIR_TESTS_SOAK_H

#include "stress.h"

/* --- errors (soak_inject.c) --- */

enum injection {
	SHORT_WRITE,	/* of the file of cold pages: the first half is written */
	FULL_WRITE,	/* and what is left of it meets a full disk */
	NO_SPACE,	/* ENOSPC from the start */
	WRITE_ERROR,	/* EIO */
	RING_FAILED,	/* a ring did not do it, or a part */
	SHORT_READ,	/* the first half is read */
	READ_ERROR,	/* EIO: may cost a page */
	DAMAGED_READ,	/* one bit is another: may cost a page */
	DAMAGED_OBJECT, /* a bit of a compressed page in memory changes: may cost a page */
	SOURCE_SHORT,	/* of the file of a file region */
	SOURCE_ERROR,	/* EIO: costs a page of one region */
	NO_TABLE,	/* mem_alloc fails, for a thread that has armed it */
	NO_FRAME,	/* weir_pool_alloc fails */
	NO_BLOCK,	/* a block's memory is not to be had */
	NO_COPY,	/* UFFDIO_COPY finds no memory */
	INJECTIONS
};

/* source: the descriptor whose file is that of the file regions; scribe: that of the one that is written, whose reads are only short. */
void inject_init(uint64_t seed, int source, int scribe);
/* From now on, or no more. */
void inject(bool on);
uint64_t injected(enum injection kind);
const char *injection_name(enum injection kind);
/* The nth mem_alloc of the calling thread from now fails (1: the next; 0: none). Returns what was left of it. */
unsigned arm_allocation(unsigned nth);
/* Moves of spans of the compressed store to other frames, and those that found a page busy. */
uint64_t moves_done(void);
uint64_t moves_busy(void);

/* --- what all threads see --- */

enum { AREAS = 5, BOXES = 4, WORKERS = 4 };

struct soak {
	struct weir *weir;
	struct area *area[AREAS];
	struct weir *far; /* its frames are not mapped (soak_far.c) */
	struct area *far_area;
	struct weir_kmap *windows;	   /* of the soak's own */
	struct weir_container *box[BOXES]; /* the governor's */
	int source;			   /* the file of the file regions */
	int scribe;			   /* the file that is written (soak_file.c) */
	_Atomic bool stop;		   /* (A) */
	/* (A) what was done; mourned: pages found lost; passed: those that somebody else had locked then */
	_Atomic uint64_t reads, writes, discards, pins, mourned, passed, file_pages, file_lost;
	_Atomic uint64_t file_written, file_syncs, file_told;
	_Atomic uint64_t advised[6], resized, window_uses;
	_Atomic uint64_t memory_onlined, memory_offlined; /* by the public functions */
	_Atomic uint64_t charges, refused_charges, regions, refused_regions, owners, governed;
	_Atomic uint64_t
		memory_full; /* writes of files' pages to their cache that found no memory: the fault is tried again */
	_Atomic uint64_t offline_done, offline_pinned, offline_unmovable, offline_busy;
	_Atomic uint64_t offline_listener, offline_other, onlined, frames_moved, frames_busy;
};
extern struct soak soak;

/* --- threads --- */

/* Uses the areas in every way (soak_work.c). */
void worker_body(struct player *self);
/* The same of the instance whose frames are far. */
void far_body(struct player *self);
/* More threads than windows (soak_far.c). */
void windows_body(struct player *self);
/* Regions and containers that come and go, some of whose tables cannot be had. */
void passing_body(struct player *self);
/* Reads a file through regions that come and go. */
void file_body(struct player *self);
/* Writes one, by a region and by calls. */
void scribe_body(struct player *self);
int scribe_make(void);
/* Nothing fails any more: the file has every byte. */
void scribe_end(void);
/* Limits, owners, reclaim, containers (soak_govern.c). */
void governor_body(struct player *self);
/* Frames of its own in weir's pool: movable, pinned, and such that cannot be moved (soak_pool.c). */
void frames_body(struct player *self);
/* Blocks go on- and offline. */
void hotplug_body(struct player *self);

void far_init(void);
void far_end(void);
/* The end of a region goes and comes back, while others use the rest. */
void soak_resize(struct area *area);
void pool_init(void);
void pool_end(void);
void govern_init(void);
void govern_end(void);
/* Every cell of an area, with the lost pages mourned. */
void soak_check(struct area *area, const char *how);
/* Of the file of the file regions. */
enum { SOURCE_PAGES = 1500 };
int source_make(void);

#endif
