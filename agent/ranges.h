/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is where in a range of pages: a sorted array of stretches, each with a word that says what it is. 0 is "free", and what is
 * not in the array is free. Neighbours with the same word are one stretch, as the kernel merges mappings.
 *
 * It has the memory that it is given, and calls nothing. The caller serialises.
 */
#ifndef WEIR_AGENT_RANGES_H
#define WEIR_AGENT_RANGES_H

#include "base/base.h"

struct range {
	uint32_t first, pages;
	uint32_t what; /* never 0 in the array */
};

struct ranges {
	struct range *range; /* sorted, apart from each other or different */
	uint32_t count, room;
	uint32_t pages; /* numbers run from 0 to this */
};

void ranges_init(struct ranges *ranges, struct range *memory, uint32_t room, uint32_t pages);
/* From now on so many pages are what the word says, whatever they were. 0, or -ENOMEM: no room in the array; nothing changed. */
int ranges_set(struct ranges *ranges, uint32_t first, uint32_t pages, uint32_t what) MUST_CHECK;
/* The stretch of one word, free ones too, that begins at a page and ends at the latest before `end`. page < end. */
struct range ranges_piece(const struct ranges *ranges, uint32_t page, uint32_t end);
/* The lowest free place for so many pages. -1: there is none. */
int64_t ranges_place(const struct ranges *ranges, uint32_t pages);

#endif
