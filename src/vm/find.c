/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From an address to its region, for every fault: a sorted list of where regions begin, searched by halves.
 *
 * There are two lists. Readers use the one that version names; who adds or removes a region makes the other one anew, and
 * then names that. So a reader never waits, not for a writer that was put to sleep in the middle either: it reads a list
 * that nobody writes, and begins anew only if two changes have been made meanwhile, or one was and the next is under way.
 *
 * A reader may see a mix of entries then, and looks into none of the regions before it knows that it has not. The
 * orders: a writer's stores to entries are releases and come after its store of version, a reader's loads of entries are acquires
 * and come before its second load of version. So who has seen an entry of a later list sees that version has changed.
 *
 * Letters: (A) atomic, written under the instance's lock.
 */
#include <errno.h>

#include "vm/vm.h"

struct entry {
	_Atomic uintptr_t base;		 /* (A) */
	_Atomic(struct region *) region; /* (A) */
};

struct region_list {
	_Atomic uint32_t count;	      /* (A) */
	struct entry at[REGIONS_MAX]; /* by base, rising */
};

struct region_index {
	_Atomic uint32_t version; /* (A) the list of its lowest bit is the one to read */
	struct region_list list[2];
};

#define INDEX_BYTES ALIGN_UP(sizeof(struct region_index), PAGE_SIZE)

int index_init(struct vm *vm)
{
	vm->index = mem_alloc(INDEX_BYTES);
	return vm->index ? 0 : -ENOMEM;
}

void index_destroy(struct vm *vm)
{
	mem_release(vm->index, INDEX_BYTES);
	vm->index = NULL;
}

/* How many regions begin at or below the address. Which way it goes at each step is no branch, which nobody could predict. */
static inline uint32_t list_rank(const struct region_list *list, uintptr_t address)
{
	uint32_t count = MIN(load_acquire(&list->count), (uint32_t)REGIONS_MAX), from = 0;

	while (count > 0) {
		const uint32_t half = (count + 1) / 2;

		from += load_acquire(&list->at[from + half - 1].base) <= address ? half : 0;
		count -= half;
	}
	return from;
}

struct region *vm_find(struct vm *vm, uintptr_t address)
{
	const struct region_index *index = vm->index;
	struct region *region;
	uint32_t version;

	do {
		const struct region_list *list;
		uint32_t rank;

		/* Pairs with the release in list_publish: that list is complete. */
		version = load_acquire(&index->version);
		list = &index->list[version & 1];
		rank = list_rank(list, address);
		region = rank ? load_acquire(&list->at[rank - 1].region) : NULL;
	} while (unlikely(load_relaxed(&index->version) != version));
	return region && address - (uintptr_t)region->base < (size_t)region->room << PAGE_SHIFT
		       ? region
		       : NULL;
}

static struct region_list *list_now(struct region_index *index)
{
	return &index->list[load_relaxed(&index->version) & 1];
}

uint32_t index_count(const struct vm *vm)
{
	return load_relaxed(&list_now(vm->index)->count);
}

static void entry_set(struct region_list *list, uint32_t i, uintptr_t base, struct region *region)
{
	/* Pair with the acquires in list_rank and vm_find. */
	store_release(&list->at[i].base, base);
	store_release(&list->at[i].region, region);
}

static void entries_copy(struct region_list *to, uint32_t at, const struct region_list *from,
			 uint32_t first, uint32_t end)
{
	for (uint32_t i = first; i < end; i++)
		entry_set(to, at + (i - first), load_relaxed(&from->at[i].base),
			  load_relaxed(&from->at[i].region));
}

static void list_publish(struct region_index *index, struct region_list *next, uint32_t count)
{
	store_release(&next->count, count);
	/* Pairs with the acquire in vm_find. */
	store_release(&index->version, load_relaxed(&index->version) + 1);
}

void index_add(struct vm *vm, struct region *region)
{
	struct region_list *now = list_now(vm->index);
	struct region_list *next = &vm->index->list[now == &vm->index->list[0]];
	const uint32_t count = load_relaxed(&now->count);
	const uint32_t rank = list_rank(now, (uintptr_t)region->base);

	entries_copy(next, 0, now, 0, rank);
	entry_set(next, rank, (uintptr_t)region->base, region);
	entries_copy(next, rank + 1, now, rank, count);
	list_publish(vm->index, next, count + 1);
}

void index_remove(struct vm *vm, const struct region *region)
{
	struct region_list *now = list_now(vm->index);
	struct region_list *next = &vm->index->list[now == &vm->index->list[0]];
	const uint32_t count = load_relaxed(&now->count);
	const uint32_t rank = list_rank(now, (uintptr_t)region->base);

	assert_debug(rank && load_relaxed(&now->at[rank - 1].region) == region);
	entries_copy(next, 0, now, 0, rank - 1);
	entries_copy(next, rank - 1, now, rank, count);
	list_publish(vm->index, next, count - 1);
}
