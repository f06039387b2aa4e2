/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a program says of its memory. How a chunk is used (NORMAL, SEQUENTIAL, RANDOM) is a byte that each fault looks at.
 * Ranges that are to be loaded, or to leave first, are remembered in two short lists, the oldest first; the background thread
 * takes pieces off the one (reclaim.c, load_wanted), and whoever fills a job off the other (cold_scan).
 */
#include <errno.h>
#include <string.h>

#include "vm/vm.h"

static bool touches(const struct advised *a, const struct advised *b)
{
	return a->region == b->region && a->first <= b->end && b->first <= a->end;
}

static void list_remove(struct advised_list *list, uint32_t i)
{
	const uint32_t count = load_relaxed(&list->count) - 1;

	memmove(&list->at[i], &list->at[i + 1], (count - i) * sizeof(list->at[0]));
	store_relaxed(&list->count, count);
}

/* Ranges that touch become one. Where the list is full, the oldest one is forgotten. */
static void advised_add(struct vm *vm, struct advised_list *list, struct advised range)
{
	lock_acquire(&vm->advised_lock);
	for (uint32_t i = load_relaxed(&list->count); i-- > 0;) {
		if (!touches(&list->at[i], &range))
			continue;
		range.first = MIN(range.first, list->at[i].first);
		range.end = MAX(range.end, list->at[i].end);
		list_remove(list, i);
	}
	if (load_relaxed(&list->count) == ADVISED_MAX)
		list_remove(list, 0);
	if (!range.region->hidden) {
		list->at[load_relaxed(&list->count)] = range;
		store_relaxed(&list->count, load_relaxed(&list->count) + 1);
	}
	lock_release(&vm->advised_lock);
}

bool advised_cut(struct vm *vm, struct advised_list *list, const struct weir_container *container,
		 uint32_t most, struct advised *piece)
{
	bool found = false;

	/* One that has just been added waits for the next look. */
	if (likely(!load_relaxed(&list->count)))
		return false;
	lock_acquire(&vm->advised_lock);
	for (uint32_t i = 0; i < load_relaxed(&list->count) && !found; i++) {
		struct advised *range = &list->at[i];

		if (container && !owners_mask(&range->region->owners, container, false))
			continue;
		*piece = *range;
		piece->end = MIN(piece->end, piece->first + most);
		range->first = piece->end;
		if (range->first == range->end)
			list_remove(list, i);
		found = true;
	}
	lock_release(&vm->advised_lock);
	return found;
}

void advised_again(struct vm *vm, struct advised_list *list, const struct advised *piece,
		   uint32_t from)
{
	if (from < piece->end)
		advised_add(vm, list, (struct advised){piece->region, from, piece->end});
}

void advised_forget(struct vm *vm, struct region *region)
{
	lock_acquire(&vm->advised_lock);
	region->hidden = true;
	for (unsigned n = 0; n < 2; n++) {
		struct advised_list *list = n ? &vm->cold : &vm->wanted;

		for (uint32_t i = load_relaxed(&list->count); i-- > 0;) {
			if (list->at[i].region == region)
				list_remove(list, i);
		}
	}
	lock_release(&vm->advised_lock);
}

void region_pass(struct vm *vm, struct region *region, uint32_t page)
{
	/* Two loads' worth stay: a reader may look back a little. What lies two before that was passed the last time, at the
	 * latest. */
	const uint32_t end = page > RUN_MAX ? page - RUN_MAX : 0;
	uint32_t first = end > 2 * RUN_MAX ? end - 2 * RUN_MAX : 0;

	while (first < end && region_access(region, first) != WEIR_ADVICE_SEQUENTIAL)
		first = ALIGN_DOWN(first, 1u << CHUNK_SHIFT) + (1u << CHUNK_SHIFT);
	if (first < end)
		advised_add(vm, &vm->cold, (struct advised){region, first, end});
}

static void access_set(struct region *region, uint32_t page, uint32_t count, uint8_t access)
{
	for (uint32_t c = page >> CHUNK_SHIFT; c <= (page + count - 1) >> CHUNK_SHIFT; c++)
		store_relaxed(&region->access[c], access);
}

int region_advise(struct vm *vm, struct region *region, uint32_t page, uint32_t count,
		  enum weir_region_advice advice)
{
	const struct weir_container *container =
		owners_get(&region->owners, load_relaxed(&region->owners.current));
	const uint64_t half = load_relaxed(&container->limit) >> (PAGE_SHIFT + 1);

	if (!count)
		return 0;
	switch (advice) {
	case WEIR_ADVICE_NORMAL:
	case WEIR_ADVICE_SEQUENTIAL:
	case WEIR_ADVICE_RANDOM:
		access_set(region, page, count, (uint8_t)advice);
		return 0;
	case WEIR_ADVICE_WILLNEED:
		count = (uint32_t)MIN((uint64_t)count, MAX(half, 1));
		advised_add(vm, &vm->wanted, (struct advised){region, page, page + count});
		vm_attention(vm);
		return 0;
	case WEIR_ADVICE_DONTNEED:
		return region_discard(vm, NULL, region, page, count);
	case WEIR_ADVICE_COLD:
		advised_add(vm, &vm->cold, (struct advised){region, page, page + count});
		return 0;
	}
	return -EINVAL;
}
