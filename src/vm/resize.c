/* SPDX-License-Identifier: BSD-2-Clause */
/* Regions that grow and shrink in place, in the room that they were made with. */
#include <errno.h>

#include "vm/vm.h"

int region_grow(struct region *region, uint32_t pages)
{
	const uint32_t old = load_relaxed(&region->pages);
	int err;

	if (region->file || !region->mapped_here || pages < old)
		return -EINVAL;
	if (pages == old)
		return 0;
	if (pages > region->room)
		return -ENOMEM;
	/* Before anybody can touch the new pages: who serves their faults sees it. */
	store_relaxed(&region->pages, pages);
	err = mem_commit(page_address(region, old), (size_t)(pages - old) << PAGE_SHIFT);
	if (err)
		store_relaxed(&region->pages, old);
	return err;
}

/* Pages from there on are nobody's, but for threads of the program that go on touching them: faults there are not served, and
 * end with a signal once the pages are hidden. */
int region_cut_off(struct vm *vm, struct pager *self, struct region *region, uint32_t old)
{
	const uint32_t first = load_relaxed(&region->pages), count = old - first;
	uint32_t top = load_relaxed(&region->top);
	int err;

	for (uint32_t page = first; page < MIN(top, old); page++) {
		/* None comes any more. */
		if (word_pins(load_relaxed(&region->word[page])))
			return -EBUSY;
	}
	(void)mem_unlock(page_address(region, first), (size_t)count << PAGE_SHIFT);
	err = region_discard(vm, self, region, first, count);
	if (err)
		return err;
	/* Not before: a job may read the pages that it has chosen until they are forgotten. */
	err = mem_protect_none(page_address(region, first), (size_t)count << PAGE_SHIFT);
	if (err)
		return err;
	while (top > first && !cas_relaxed(&region->top, &top, first))
		;
	(void)uffd_wake(region->uffd, page_address(region, first), (size_t)count << PAGE_SHIFT);
	return 0;
}
