/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A region in which a program maps and unmaps at will, for agent/maps.c: it decides what is where, and keeps mprotect, munmap and
 * mremap from going behind weir's back by these.
 *
 * All may be called by any thread of the program. Addresses and lengths are multiples of the page size, inside the region.
 */
#ifndef WEIR_MAPS_H
#define WEIR_MAPS_H

#include <stdbool.h>

#include "weir/weir.h"

/* A region that nobody has access to yet. 0 or -errno as weir_region_create. */
int maps_create(struct weir *weir, uint64_t bytes, char **base);
/* The pages of a region that was adopted can be protected, too. Before anybody does. 0 or -ENOMEM. */
int maps_track(struct weir *weir, void *base);
/* Before the program's access to pages is taken away, and after it has been given. */
void maps_readable(struct weir *weir, void *addr, uint64_t bytes, bool readable);
/* Contents gone, also where the program has locked them, or a read past the page cache is under way into them. 0, or -errno: some are left. */
int maps_discard(struct weir *weir, void *addr, uint64_t bytes);
/* MADV_DONTNEED: as weir_region_discard, but pages that are pinned go like others, as they do without weir. */
int maps_advise_dontneed(struct weir *weir, void *addr, uint64_t bytes);
/* Something else has been mapped there: the contents are gone. */
void maps_forget(struct weir *weir, void *addr, uint64_t bytes);
/* And now it goes: the region again, without access. 0; -errno: it is as it was; 1: it has gone, and faults are not told. */
int maps_restore(struct weir *weir, void *addr, uint64_t bytes);
/* In a child of fork, on weir's thread: the same of a range that it is not to have, whatever is there. 0 or -errno: it is as it was. */
int maps_renew(struct weir *weir, void *addr, uint64_t bytes);
/* A child of fork has zeroes there (MADV_WIPEONFORK), or what is there. 0 or -ENOMEM. */
int maps_wipe(struct weir *weir, void *addr, uint64_t bytes, bool wiped);
/* What is called in a child of fork that has been handed over, on weir's thread, while nobody works on pages: for maps_forget of what
 * the program does not want it to have. */
void maps_in_child(struct weir *weir, void (*fn)(struct weir *weir));
/* Contents from one range to another of which nobody knows yet. The two do not overlap. The old one reads as zeroes. 0 or -errno. */
int maps_move(struct weir *weir, void *from, void *to, uint64_t bytes);

#endif
