/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * File objects: one page cache for all that the instance has open of one file, regions and files (weir_file_open) alike.
 *
 * The page cache is a memfd, page n of it page n of the file. A region maps it; a page that is not in the cache is
 * a missing fault, one that is but was not touched through this region a minor one (UFFDIO_CONTINUE): the kernel
 * keeps one copy, however many regions map it. Each page has an account (control/account.h): its page cache holds it,
 * every region that has it mapped, and who copies from or to it at the moment. So it is charged once, to the container that
 * brought it in.
 *
 * One word a page:
 *
 *    31 30             16 15  12 11    9 8  7 6       5       4       3      2      1      0
 *   ┌──┬─────────────────┬──────┬───────┬────┬───────┬───────┬───────┬─────┬──────┬──────┬────┐
 *   │  │ stamp or credit │      │ grade │    │REFUSED│WRITING│ AHEAD │DIRTY│CACHED│PARKED│BUSY│
 *   └──┴─────────────────┴──────┴───────┴────┴───────┴───────┴───────┴─────┴──────┴──────┴────┘
 *
 *   BUSY     the page's lock, as in the page word of a region (vm/page.h): a handler never waits for it but leaves PARKED, and
 *            whoever clears it wakes the page in all regions
 *   CACHED   its memory is there, and has the contents
 *   DIRTY    and they are newer than the file's: it is not punched out
 *   WRITING  they are on their way to the file: it is not punched out either, and may be written to, which makes it DIRTY
 *   REFUSED  DIRTY, and the last try to write them failed: only a sync tries again before the pause is over
 *   AHEAD    read ahead of a reader that has not come by yet
 *   grade, credit, stamp   where they are in the page word: how often it came back soon, how often the hand passes over it,
 *            when it left
 *
 *                 cache_load: charged, read                     page_dirty: a write fault, weir_file_write
 *      (absent) ─────────────────────────────▶ CACHED ──────────────────────────────────▶ CACHED, DIRTY
 *         ▲        the read fails: uncharged    │  ▲                                        │        ▲
 *         │                                     │  │ writeback_run: the file has it         │        │ the write failed,
 *         └──────── file_reclaim: punched ──────┘  └──────────────────── CACHED, WRITING ◀──┘        │ or somebody wrote
 *              out of all mappings, all let go                                  └────────────────────┘
 *
 * The words of the regions' pages (PAGE_NONE: not mapped, PAGE_CLEAN: mapped and holding the account, in a region that may
 * write write-protected; PAGE_DIRTY: mapped and writable, PAGE_POISONED) change under BUSY. Where a word says PAGE_DIRTY the page
 * is DIRTY (and its state says so before it is mapped); writeback takes that back in all regions before it copies, so that no write is missed.
 *
 * Who does what: handlers read what a fault needs, RUN_MAX pages at the most; the crew (file_crew.c), threads of their own, reads ahead, writes back
 * and does the reading and writing for threads of the program, which have no descriptor; who needs room punches out, and
 * writes what is dirty if there is nothing else.
 *
 * Waiting: write_lock is taken by threads that hold absent pages, which need room; who has it waits for pages that are DIRTY or
 * WRITING only, and those are held for no longer than it takes to map or to copy them, by threads that do not fault meanwhile: none
 * whose stack lies in a region is among them (file_io.c).
 *
 * Letters: as in vm/vm.h; (W) under write_lock.
 */
#ifndef WEIR_VM_FILE_H
#define WEIR_VM_FILE_H

#include "base/waitq.h"
#include "control/account.h"
#include "os/file.h"
#include "vm/vm.h"

enum {
	FILE_REGIONS = 16,
	FILE_RUN = 256,	 /* pages that are read, mapped, written or punched out at once */
	FILE_FLOWS = 16, /* readers in a row that are known of one file */
	FILE_CREW = 4,	 /* as many reads of 1 MiB at a time get all that a disk gives */
	FILE_JOBS = 64,
};
enum {
	FILE_BUSY = 1,
	FILE_PARKED = 2,
	FILE_CACHED = 4,
	FILE_DIRTY = 8,
	FILE_AHEAD = 16,
	FILE_WRITING = 32,
	FILE_REFUSED = 64,
};

/* A reader that goes up or down page by page. Racy on purpose, as in vm/stream.h. */
struct flow {
	_Atomic uint32_t next; /* (A) the page expected + 1; 0: none */
	_Atomic int32_t
		window; /* (A) pages, negative: downwards; 0: the direction is not known yet */
	_Atomic uint32_t
		asked; /* (A) as far as the crew was asked to read, + 1; direction not known: the page of the fault, + 1 */
};

struct file_object {
	struct file_id id;	  /* (C) */
	struct file_source in;	  /* (C) descriptors, in weir's own table */
	struct file_source out;	  /* (C) once it is writable */
	_Atomic bool writable;	  /* (A) */
	int cache;		  /* (C) */
	struct lock cache_lock;	  /* RANK_FILE_CACHE: see cache_put */
	char *view;		  /* (C) the cache, mapped for weir; NULL: reached through */
	struct weir_kmap *kmap;	  /* (C) windows */
	uint32_t pages;		  /* (C) */
	_Atomic uint32_t *state;  /* (A) one a page */
	account_t *account;	  /* (A) one a page */
	_Atomic uint32_t *cached; /* (A) per chunk: pages that are CACHED */
	struct owners owners;
	_Atomic(struct region *) region[FILE_REGIONS]; /* (I) to write, (A) to read */
	unsigned files;				       /* (I) holds: of regions too */
	_Atomic uint32_t holds[OWNERS_MAX]; /* (I) to write, (A) to read: those of each slot */
	_Atomic uint32_t hand;		    /* (A) where reclaim goes on */
	struct flow flow[FILE_FLOWS];
	_Atomic uint32_t flow_hand;  /* (A) */
	_Atomic uint32_t dirty;	     /* (A) pages */
	_Atomic uint32_t refused;    /* (A) those of them that are REFUSED */
	_Atomic uint64_t dirty_ns;   /* (A) when the first of them became so */
	_Atomic bool writing_back;   /* (A) the crew has been asked to */
	_Atomic uint64_t retry_ns;   /* (A) what is REFUSED not before, but for a sync */
	_Atomic bool down;	     /* (A) the disk took nothing: nothing else before, either */
	_Atomic uint32_t write_hand; /* (A) where a pass ended early: the next one begins there */
	struct lock sync_lock;	     /* RANK_FILE_SYNC: see writeback_all */
	struct lock write_lock;	     /* RANK_FILE_WRITE: one writes back at a time */
	uint32_t retry_step_ms;	     /* (W) */
	int error;		     /* (W) the last one */
	uint32_t error_count;	     /* (W) how many there were */
	bool error_seen;	     /* (W) somebody was told of it */
};

/* What is open of a file: who has it must be told of errors, once. */
struct file_hold {
	struct file_object *file; /* (C) */
	uint32_t seen;		  /* (W) error_count when it was told last */
	uint8_t slot;		  /* (C) whose it is: in the file's table */
	bool write;		  /* (C) */
};

/*
 * From a thread with the userfaultfd, under the instance's lock. The errors of open(2); -EINVAL: not a regular file, or
 * empty; -EOPNOTSUPP: this kernel has no minor faults for it (before 5.14), or cannot map them write-protected (before
 * 6.4); -ENOSPC: too many regions, files, or containers that share one; -ENOMEM.
 */
int file_hold_open(struct vm *vm, struct weir_container *container, const char *path, bool write,
		   struct file_hold *hold);
/* Writes what is dirty; 0, or an error that this holder was not told of. With the last hold the object goes, unless pages of it
 * cannot be written: then it stays, with them, and they are tried again. */
int file_hold_close(struct vm *vm, struct pager *self, struct file_hold *hold);
/* A region over it, which has a hold of its own, as this one. */
int file_region_create(struct vm *vm, const struct file_hold *hold, struct region **region);
struct file_hold *file_region_hold(struct region *region);
/* The region is hidden: no reclaim sees it any more. */
void file_region_hide(struct region *region);
/* Lets go what it holds, its own hold on the file too. As file_hold_close. */
int file_region_close(struct vm *vm, struct pager *self, struct region *region);
/* All objects and regions over them, at the end of the instance, while the descriptors are there: by the background thread, when
 * there is no handler any more. What is dirty and cannot be written is lost, and the log says so. */
void files_destroy(struct vm *vm, struct pager *self);

/* What weir_region_advise says of a range of pages, on the background thread. Nothing of it takes long there: the crew does
 * that. 0 or -EINVAL. */
int file_region_advise(struct vm *vm, struct region *region, uint32_t page, uint32_t count,
		       enum weir_region_advice advice);

enum pagein_result file_pagein(struct vm *vm, struct pager *self, struct region *region,
			       uint32_t page, enum fault_access access);
/*
 * Drops cached pages charged to the container, at most so many; where all are dirty some are written first, and the caller
 * waits for that. Returns how many. Never waits for a busy page.
 */
unsigned file_reclaim(struct vm *vm, struct pager *self, struct weir_container *container,
		      unsigned most);
/* By the background thread, now and then: pages that have been dirty for long are written. */
void file_tick(struct vm *vm);

/* --- the crew --- */

/* Threads with the descriptors of the calling one. 0 or -errno; does nothing where they are there already. */
int file_crew_start(struct vm *vm);
void file_crew_stop(struct vm *vm);
/* Returns when no thread of the crew works on what it did at the call. */
void file_crew_quiesce(struct vm *vm);

/* --- for threads of the program, without descriptors: the crew does it, and the caller waits --- */

/* Everything dirty of the pages is in the file. 0, or the first error that this holder has not heard of. */
int file_sync(struct vm *vm, struct file_hold *hold, uint32_t page, uint32_t count);
/* The same for all of it, and nobody is told of errors yet. */
void file_write_out(struct vm *vm, struct file_hold *hold);
/* Bytes copied, fewer only behind the file's end, or -errno. paged: the caller's stack lies in a region. */
int64_t file_pread(struct vm *vm, struct file_hold *hold, void *to, uint64_t bytes, uint64_t offset,
		   bool paged);
int64_t file_pwrite(struct vm *vm, struct file_hold *hold, const void *from, uint64_t bytes,
		    uint64_t offset, bool paged);
/* After either, of the bytes that were copied: the crew reads ahead of readers in a row, as at faults. It looks into the container
 * that pays, so the caller is one of those that are waited for before a container goes. */
void file_note(struct vm *vm, const struct file_hold *hold, uint64_t offset, uint64_t bytes);

#endif
