/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The words of a child of fork. They are a copy of the parent's, taken while its handlers went on: but from before the copy
 * began until it was over the kernel refused them every change of a page (src/fork.h), and no copy was let go. So a word
 * that is not busy is right. One that is busy was just being changed: whether the page had come by then is for the page to say;
 * what it had is still in the word.
 */
#include "vm/vm.h"

/* The page is there, and may be written: as after a load that kept its copy for the fork. */
static uint64_t word_came(uint64_t w)
{
	return w & WORD_WRITEBACK ? word_with_state(w & ~WORD_WRITEBACK, PAGE_DIRTY)
				  : word_with_state(w, PAGE_DIRTY);
}

/* An absent page has its stamp where a resident one has credit and pins. */
static uint64_t word_loaded(uint64_t w)
{
	return word_came(w & ~((uint64_t)STAMP_MASK << STAMP_SHIFT));
}

/* Nobody had ever touched it: it is of who gets the region's pages now. */
static uint64_t word_first(const struct region *region)
{
	return (uint64_t)load_relaxed(&region->owners.current) << OWNER_SHIFT | PAGE_DIRTY;
}

static uint64_t settle(struct region *region, uint32_t page, uint64_t w)
{
	uint8_t there = 0;

	w &= ~(WORD_BUSY | WORD_PARKED);
	switch (word_state(w)) {
	case PAGE_NONE:
	case PAGE_ABSENT:
		if (mem_resident(page_address(region, page), PAGE_SIZE, &there) || !(there & 1))
			return w;
		return word_state(w) == PAGE_NONE ? word_first(region) : word_loaded(w);
	case PAGE_CLEAN:
	case PAGE_GUARDED:
		return word_came(w);
	case PAGE_DIRTY:
	case PAGE_CLEANING:
	case PAGE_POISONED:
		break;
	}
	return w;
}

void page_after_fork(struct region *region, uint32_t page)
{
	uint64_t w = load_relaxed(&region->word[page]) & ~(WORD_BUSY | WORD_PARKED);

	if (word_state(w) == PAGE_NONE) {
		region_populate(region, page, 1);
		store_relaxed(&region->word[page], word_first(region));
	} else if (word_state(w) == PAGE_ABSENT)
		store_relaxed(&region->word[page], word_loaded(w));
	else if (word_state(w) == PAGE_CLEAN || word_state(w) == PAGE_GUARDED)
		store_relaxed(&region->word[page], word_came(w));
}

void page_lost_after_fork(struct vm *vm, struct region *region, uint32_t page)
{
	const uint64_t w = load_relaxed(&region->word[page]);

	if (word_state(w) == PAGE_NONE)
		region_populate(region, page, 1);
	/* Not uncharged: charges are counted anew, by what the words say then. */
	if (word_kind(w) == COPY_MEMORY)
		compressed_free(vm->memory, word_location(w));
	else if (word_kind(w) == COPY_FILE)
		store_discard(vm->store, word_location(w));
	store_relaxed(&region->word[page], (uint64_t)PAGE_POISONED);
	add_relaxed(&vm->count.poisoned, 1);
}

struct counts {
	uint64_t resident, compressed, swap; /* bytes */
};

static void word_count(struct vm *vm, uint64_t w, struct counts *counts)
{
	if (word_resident(w))
		counts->resident += PAGE_SIZE;
	if (word_kind(w) == COPY_MEMORY)
		counts->compressed += compressed_room(vm->memory, word_location(w));
	else if (word_kind(w) == COPY_FILE)
		counts->swap += store_key_bytes(vm->store, word_location(w));
}

void region_after_fork(struct vm *vm, struct region *region, bool all)
{
	const uint32_t chunk = 1u << CHUNK_SHIFT, top = load_relaxed(&region->top);
	struct counts counts[OWNERS_MAX] = {0};

	for (uint32_t first = 0; first < top; first += chunk) {
		uint32_t populated = 0;

		if (!load_relaxed(&region->populated[first >> CHUNK_SHIFT]))
			continue;
		for (uint32_t page = first; page < MIN(first + chunk, load_relaxed(&region->pages));
		     page++) {
			uint64_t w = load_relaxed(&region->word[page]);

			if (w & (WORD_BUSY | WORD_PARKED)) {
				w = settle(region, page, w);
				store_relaxed(&region->word[page], w);
			}
			/* What is under way in the parent is not so here. */
			if (word_pins(w)) {
				w &= ~((uint64_t)PIN_MAX << PIN_SHIFT);
				store_relaxed(&region->word[page], w);
			}
			/* Those that are there were given write access, too. */
			if (all && word_state(w) != PAGE_NONE) {
				page_after_fork(region, page);
				w = load_relaxed(&region->word[page]);
			}
			populated += word_state(w) != PAGE_NONE;
			word_count(vm, w, &counts[word_owner(w)]);
		}
		store_relaxed(&region->populated[first >> CHUNK_SHIFT], populated);
	}
	for (unsigned slot = 0; slot < OWNERS_MAX; slot++) {
		struct weir_container *owner = owners_get(&region->owners, slot);

		if (owner)
			container_recount(owner, counts[slot].resident, counts[slot].compressed,
					  counts[slot].swap);
	}
}

void region_wipe_child(struct vm *vm, struct pager *self, struct region *region)
{
	const uint32_t chunk = 1u << CHUNK_SHIFT, top = load_relaxed(&region->top);

	for (uint32_t page = 0, n; load_relaxed(&region->wiped) && page < top; page += n) {
		n = 1;
		if (!load_relaxed(&region->populated[page >> CHUNK_SHIFT])) {
			n = chunk - page % chunk;
			continue;
		}
		if (!page_wiped(region, page))
			continue;
		while (page + n < top && page_wiped(region, page + n))
			n++;
		/* Nothing is locked in a child, and nothing pinned any more: it cannot fail. */
		(void)region_discard(vm, self, region, page, n);
	}
}

void vm_after_fork(struct vm *vm)
{
	waitq_init(&vm->attention);
	lock_init(&vm->advised_lock, RANK_ADVISED, "advised");
	/* Advice may be forgotten. */
	store_relaxed(&vm->cold.count, 0);
	store_relaxed(&vm->wanted.count, 0);
	store_relaxed(&vm->wake_all, false);
	store_relaxed(&vm->hold, 0);
	store_relaxed(&vm->forking, 0);
	vm->count = (struct vm_counters){0};
}
