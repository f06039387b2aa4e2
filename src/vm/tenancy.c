/* SPDX-License-Identifier: BSD-2-Clause */
/* Whose pages a region has: its table of owners, pages that change hands, and what they say of a container. */
#include <errno.h>

#include "vm/vm.h"

int region_owner_slot(const struct region *region, const struct weir_container *container)
{
	uint32_t used = 1u << load_relaxed(&region->owners.current);

	for (unsigned slot = 0; slot < OWNERS_MAX; slot++) {
		if (owners_get(&region->owners, slot) == container)
			return (int)slot;
	}
	/* Slots are not counted: it is only here that somebody wants to know. */
	for (uint32_t page = 0; page < load_relaxed(&region->top); page++) {
		uint64_t w = load_relaxed(&region->word[page]);

		if (word_resident(w) || word_state(w) == PAGE_ABSENT)
			used |= 1u << word_owner(w);
	}
	for (unsigned slot = 0; slot < OWNERS_MAX; slot++) {
		if (!(used >> slot & 1))
			return (int)slot;
	}
	return -ENOSPC;
}

void copy_transfer(struct vm *vm, const struct region *region, uint64_t w, unsigned slot)
{
	struct weir_container *from = page_owner(region, w);
	struct weir_container *to = owners_get(&region->owners, slot);

	if (word_kind(w) == COPY_MEMORY)
		container_transfer_force(from, to, CHARGE_COMPRESSED,
					 compressed_room(vm->memory, word_location(w)));
	else if (word_kind(w) == COPY_FILE)
		container_swap_transfer_force(from, to,
					      store_key_bytes(vm->store, word_location(w)));
}

/* The page's memory and its copy, all or nothing. */
static int page_transfer(struct vm *vm, struct weir_container *from, struct weir_container *to,
			 uint64_t w)
{
	const uint64_t resident = word_resident(w) ? PAGE_SIZE : 0;
	uint64_t copy = 0;
	int err = container_transfer(from, to, CHARGE_RESIDENT, resident);

	if (err)
		return err;
	if (word_kind(w) == COPY_MEMORY) {
		copy = compressed_room(vm->memory, word_location(w));
		err = container_transfer(from, to, CHARGE_COMPRESSED, copy);
	} else if (word_kind(w) == COPY_FILE) {
		copy = store_key_bytes(vm->store, word_location(w));
		err = container_swap_transfer(from, to, copy);
	}
	if (err)
		/* It was there a moment ago, and a lowered limit does not refuse what goes back. */
		container_transfer_force(to, from, CHARGE_RESIDENT, resident);
	return err;
}

int region_transfer(struct vm *vm, struct region *region)
{
	const unsigned slot = load_relaxed(&region->owners.current);
	int result = 0;

	for (uint32_t page = 0; page < load_relaxed(&region->top); page++) {
		uint64_t w = load_relaxed(&region->word[page]);
		int err;

		if (word_owner(w) == slot || word_state(w) == PAGE_NONE ||
		    word_state(w) == PAGE_POISONED)
			continue;
		w = page_lock_wait(&region->word[page]);
		if (word_owner(w) != slot && (word_resident(w) || word_state(w) == PAGE_ABSENT)) {
			err = page_transfer(vm, page_owner(region, w),
					    owners_get(&region->owners, slot), w);
			if (!err) {
				w &= ~((uint64_t)OWNER_MASK << OWNER_SHIFT);
				w |= (uint64_t)slot << OWNER_SHIFT;
				/* What is on its way to the file was charged to the old owner: it stays. */
				w &= ~WORD_WRITEBACK;
			}
			result = err ? err : result;
		}
		page_unlock(vm, region, page, w, true);
	}
	return result;
}

/* One page of one of the container's. */
static void word_stat(struct vm *vm, uint64_t w, struct weir_container_stat *stat)
{
	stat->overhead += sizeof(page_word_t);
	if (word_resident(w)) {
		if (word_credit(w))
			stat->active += PAGE_SIZE;
		else
			stat->inactive += PAGE_SIZE;
	}
	if (word_kind(w) == COPY_MEMORY || word_kind(w) == COPY_FILLED) {
		stat->compressed_pages += PAGE_SIZE;
		if (word_resident(w) && word_kind(w) == COPY_MEMORY)
			stat->swapcache += compressed_room(vm->memory, word_location(w));
	}
	if (word_kind(w) == COPY_FILE)
		stat->stored += PAGE_SIZE;
}

void region_stat(struct vm *vm, const struct region *region, const struct weir_container *container,
		 struct weir_container_stat *stat)
{
	const uint32_t mask = owners_mask(&region->owners, container, true);

	for (uint32_t page = 0; mask && page < load_relaxed(&region->top); page++) {
		uint64_t w = load_relaxed(&region->word[page]);

		/* Who changes it now is counted next time. The busy bit keeps the copy whose size is asked for. */
		if ((w & WORD_BUSY) || !(word_resident(w) || word_state(w) == PAGE_ABSENT) ||
		    !(mask >> word_owner(w) & 1) || !page_lock(&region->word[page], &w))
			continue;
		word_stat(vm, w, stat);
		page_unlock(vm, (struct region *)region, page, w, false);
	}
}
