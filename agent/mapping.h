/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that the program maps by itself: mmap and its kin.
 *
 * Private anonymous memory comes out of one region, as malloc's comes out of another: so a mapping costs no registration. The region has
 * no access where nothing is mapped. What is where is kept in ranges.h, with these words; everything else is the kernel's, as if weir
 * were not there.
 *
 *      USED + protection       managed
 *      USED + FOREIGN          something that the program has mapped over (MAP_FIXED): a file, shared memory, a stack
 *      LEAVING                 being unmapped: not to be had by anybody
 *      0                       free
 *
 * A change of the kernel's side comes first where it takes access away, and last where it gives some; weir's threads do not
 * touch a page that nobody may read (src/maps.h).
 *
 * Lock: one for all, below no other, with signals blocked. Nothing here calls malloc.
 */
#ifndef WEIR_AGENT_MAPPING_H
#define WEIR_AGENT_MAPPING_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/weir.h"

/* Is any of it in the region? */
bool mapping_touches(const void *addr, size_t bytes);

/* Before some of it is locked: what is unmapped from then on is unlocked. */
void mapping_locking(const void *addr, size_t bytes);

/* As the calls of these names; 0 or -errno. Of a range that touches the region. */
int mapping_protect(struct weir *weir, void *addr, size_t bytes, int protection, int key);
int mapping_advise(struct weir *weir, void *addr, size_t bytes, int advice);

/* Is some of a range in the region the kernel's, and not managed? */
bool mapping_foreign(const void *addr, size_t bytes);

/* direct.c: before weir's threads start. */
void direct_prepare(void);

/* Around a fork: nobody is in the middle of a change. */
void mapping_before_fork(void);
void mapping_after_fork(void);
/* In the child, for maps_in_child: what the program does not want it to have. */
void mapping_child(struct weir *weir);
/* The same in one that goes on without weir. */
void mapping_child_plain(void);

#endif
