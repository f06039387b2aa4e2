/* SPDX-License-Identifier: BSD-2-Clause */
/* What tests of one world share: the world, and pages of its first region by their number alone. */
#ifndef WEIR_TESTS_FAKE_ONE_WORLD_H
#define WEIR_TESTS_FAKE_ONE_WORLD_H

#include "world.h"

static struct world w;

static inline enum page_state state_of(uint32_t page)
{
	return word_state(word_of(&w, page));
}

static inline enum copy_kind kind_of(uint32_t page)
{
	return word_kind(word_of(&w, page));
}

/* Of a page whose copy is in memory. */
static inline struct object *object_of(uint32_t page)
{
	return compressed_object(&w.memory, word_location(word_of(&w, page)));
}

static inline void read_all(uint32_t count)
{
	for (uint32_t page = 0; page < count; page++)
		read_page(&w, page);
}

#endif
