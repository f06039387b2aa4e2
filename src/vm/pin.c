/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pins: pages that must stay as they are, since a system call (which gets EFAULT in signal mode, and is told nothing) or a
 * device is going to use them. A count in the page's word; reclaim passes over pages that have one.
 */
#include <errno.h>

#include "vm/vm.h"

int page_pin(struct vm *vm, struct region *region, uint32_t page, bool write)
{
	uint64_t w = load_relaxed(&region->word[page]);
	int err = 0;

	/* Nothing there to pin. And not counted (page_lock_counted). */
	if (word_state(w) == PAGE_NONE)
		return -EAGAIN;
	w = page_lock_wait(&region->word[page]);
	/* Given back, as job_abandon does: the job makes no copy of it. That it may have been write-protected is harmless. To
	 * wait for a touch would not do: left over from a job that has ended it may not be, and then no touch faults. */
	if (write && word_state(w) == PAGE_CLEANING)
		w = word_with_state(w, PAGE_DIRTY);
	if (word_state(w) == PAGE_POISONED)
		err = -EIO;
	else if (!word_resident(w) || (write && word_state(w) != PAGE_DIRTY))
		err = -EAGAIN;
	else if (word_pins(w) == PIN_MAX)
		err = -EBUSY;
	else
		w += 1ull << PIN_SHIFT;
	page_unlock(vm, region, page, w, false);
	return err;
}

void page_unpin(struct vm *vm, struct region *region, uint32_t page)
{
	uint64_t w = load_relaxed(&region->word[page]);

	if (word_state(w) == PAGE_NONE)
		return;
	w = page_lock_wait(&region->word[page]);
	if (word_pins(w))
		w -= 1ull << PIN_SHIFT;
	page_unlock(vm, region, page, w, false);
}
