/* SPDX-License-Identifier: BSD-2-Clause */
/* A page of each kind, for what is done to pages whatever they are. */
#ifndef WEIR_TESTS_VM_KINDS_H
#define WEIR_TESTS_VM_KINDS_H

#include "world.h"

/* Pages 0 to 9 of the kinds that a page may have, one each. */
enum {
	DIRTY,
	CLEAN,
	CLEAN_FILLED,
	MEMORY,
	STORED,
	FILLED_AWAY,
	POISONED,
	REWRITTEN,
	CLEAN_STORED,
	NEVER,
	KINDS
};

static inline void one_of_each(struct world *w)
{
	write_pages(w, CLEAN_STORED, 1, NOISE);
	write_pages(w, STORED, 1, NOISE);
	evict_all(w);
	write_all(w);
	write_pages(w, CLEAN, 1, TEXT);
	write_pages(w, CLEAN_FILLED, 1, FILLED);
	write_pages(w, MEMORY, 1, TEXT);
	write_pages(w, FILLED_AWAY, 1, FILLED);
	write_pages(w, POISONED, 1, TEXT);
	write_pages(w, REWRITTEN, 1, TEXT);
	evict_all(w);
	read_page(w, CLEAN);
	read_page(w, CLEAN_STORED);
	read_page(w, CLEAN_FILLED);
	read_page(w, REWRITTEN);
	world_poke(w, 0, REWRITTEN, 1, 1);
	write_pages(w, DIRTY, 1, TEXT);
	compressed_object(&w->memory, word_location(word_of(w, POISONED)))->packed[0] ^= 1;
	w->lost[0][POISONED] = true;
	read_page(w, POISONED);
	assert_int_equal(word_state(word_of(w, CLEAN_STORED)), PAGE_CLEAN);
	assert_int_equal(word_kind(word_of(w, STORED)), COPY_FILE);
	assert_int_equal(word_state(word_of(w, POISONED)), PAGE_POISONED);
	assert_int_equal(load_relaxed(&w->only->populated[0]), KINDS - 1);
}

#endif
