/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * File objects: one page cache for all regions of the instance over the same file.
 *
 * The page cache is a memfd, page n of it page n of the file. A region maps it read-only; a page that is not in the cache is
 * a missing fault, one that is but was not touched through this region a minor one (UFFDIO_CONTINUE): the kernel
 * keeps one copy, however many regions map it. Each page has an account (control/account.h): its page cache holds it,
 * and every region that has it mapped. So it is charged once, to the container whose region brought it in.
 *
 *                 file_pagein: charged, read            file_pagein: continued, per region
 *      (absent) ──────────────────────────▶ CACHED ──────────────────────────────────────▶ CACHED, mapped
 *         ▲      the read fails: uncharged     │                                                │
 *         └────────── file_reclaim: punched out of all mappings, all holders let go ────────────┘
 *
 * BUSY is the page's lock, as in the page word: a handler never waits for it but leaves PARKED, and whoever clears it wakes
 * the page in all regions. The words of the regions' pages (PAGE_NONE: not mapped, PAGE_CLEAN: mapped and holding the
 * account, PAGE_POISONED) change under it.
 *
 * So far regions over files are only read. What is written to the file behind weir's back is not seen while the page is
 * cached.
 */
#ifndef WEIR_VM_FILE_H
#define WEIR_VM_FILE_H

#include "control/account.h"
#include "os/file.h"
#include "vm/vm.h"

enum { FILE_REGIONS = 16 };
enum { FILE_BUSY = 1, FILE_PARKED = 2, FILE_CACHED = 4 };

struct file_object {
	struct file_id id;	 /* (C) */
	int source, cache;	 /* (C) descriptors, in weir's own table */
	char *view;		 /* (C) the cache, mapped for weir; NULL: reached through */
	struct weir_kmap *kmap;	 /* (C) windows */
	uint32_t pages;		 /* (C) */
	_Atomic uint32_t *state; /* (A) one a page */
	account_t *account;	 /* (A) one a page */
	struct owners owners;
	_Atomic(struct region *) region[FILE_REGIONS]; /* (I) to write, (A) to read */
	unsigned regions;			       /* (I) */
	_Atomic uint32_t hand;			       /* (A) where reclaim goes on */
};

/* From a thread with the userfaultfd, under the instance's lock. The errors of open(2); -EINVAL: not a regular file, or
 * empty; -EOPNOTSUPP: this kernel has no minor faults for it (before 5.14); -ENOSPC: too many regions, files, or containers
 * that share one; -ENOMEM. */
int file_region_create(struct vm *vm, struct weir_container *container, const char *path,
		       struct region **region);
/* The region is hidden: no reclaim sees it any more. */
void file_region_hide(struct vm *vm, struct region *region);
/* Lets go what it holds; with the last region the object goes. */
void file_region_close(struct vm *vm, struct region *region);

/* What weir_region_advise says of a range of pages, on the background thread: descriptors and a pager are at hand, and
 * whatever takes long is not for here. 0 or -errno. */
int file_region_advise(struct vm *vm, struct pager *self, struct region *region, uint32_t page,
		       uint32_t count, enum weir_region_advice advice);

enum pagein_result file_pagein(struct vm *vm, struct pager *self, struct region *region,
			       uint32_t page);
/* Drops cached pages charged to the container, at most so many. Returns how many. Never waits for a busy page. */
unsigned file_reclaim(struct vm *vm, struct weir_container *container, unsigned most);

#endif
