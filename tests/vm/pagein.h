/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of pagein share. After every touch world_check compares words, kernel, stores and charges. */
#ifndef WEIR_TESTS_VM_PAGEIN_H
#define WEIR_TESTS_VM_PAGEIN_H

#include "one_world.h"

static const struct world_options plain = {.pages = {512}, .check_each = true};

/* Pages [0, count) written and moved out. */
static inline void away(uint32_t count, enum contents contents)
{
	write_pages(&w, 0, count, contents);
	assert_int_equal(evict_all(&w), count);
}

#endif
