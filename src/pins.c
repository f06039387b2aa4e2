/* SPDX-License-Identifier: BSD-2-Clause */
/* weir_region_pin and weir_region_unpin. A pin is a count in the page's word (vm/pin.c). */
#include <errno.h>

#include "instance.h"
#include "os/thread.h"

enum {
	TRIES = 8, /* to get hold of a page, before nothing is reclaimed for the rest of the call */
	TRIES_MOST = 10000,
};

/* One access, which faults if need be, and changes nothing. Other threads may use the byte meanwhile. */
NO_TSAN static void touch(char *at, bool write)
{
	char c = *(volatile char *)at;

	while (write &&
	       !__atomic_compare_exchange_n(at, &c, c, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static int region_check(const struct region *region, const char *page, const char *end)
{
	if (!region || page >= end ||
	    (size_t)(end - region->base) > (size_t)load_relaxed(&region->pages) << PAGE_SHIFT)
		return -EINVAL;
	return region->file ? -EOPNOTSUPP : 0;
}

/* Pins or unpins pages [*page, end), as far as it comes without a fault. *served: one was needed, and is served. */
static int pins_change(struct weir *weir, char **page, const char *end, bool pin, bool write,
		       bool *served)
{
	struct region *region;
	sigset_t signals;
	unsigned turn;
	int err;

	thread_signals_block(&signals);
	turn = instance_visit(weir);
	region = vm_find(&weir->vm, (uintptr_t)*page);
	err = region_check(region, *page, end);
	while (!err && *page < end) {
		uint32_t number = (uint32_t)((size_t)(*page - region->base) >> PAGE_SHIFT);

		if (pin)
			err = page_pin(&weir->vm, region, number, write);
		else
			page_unpin(&weir->vm, region, number);
		*page += err ? 0 : PAGE_SIZE;
	}
	*served = err == -EAGAIN && region->signal;
	instance_leave(weir, turn);
	/* A touch would be SIGBUS if the page turned out to be lost. */
	if (*served)
		signal_serve((uintptr_t)*page, write);
	thread_signals_restore(&signals);
	return err;
}

/* The program has no access to a page, which mem_populate has refused. Kernels that do not know that call refuse it with no pages, too. */
static bool forbidden(char *page, bool write, int err)
{
	return err == -EINVAL && !mem_populate(page, 0, write);
}

/* A fault in thread mode. The kernel takes it without an access, and a page that turns out to be lost is an error: the next
 * look at its word says so. Kernels that cannot do that have no poison either, and there a lost page ends the process.
 * 0, or -EFAULT: it may not be touched. */
static int fault_in(char *page, bool write)
{
	int err = mem_populate(page, PAGE_SIZE, write);

	if (forbidden(page, write, err))
		return -EFAULT;
	if (err && err != -EHWPOISON && err != -EFAULT)
		touch(page, write);
	return 0;
}

/* Pages that are pinned are writable: without a touch where that goes, since somebody may take access to them away now. */
static int make_writable(char *page, const char *end)
{
	int err = mem_populate(page, (size_t)(end - page), true);

	if (forbidden(page, true, err))
		return -EFAULT;
	for (; err && page < end; page += PAGE_SIZE)
		touch(page, true);
	return 0;
}

int weir_region_unpin(struct weir *weir, void *addr, uint64_t bytes)
{
	char *page = (char *)ALIGN_DOWN((uintptr_t)addr, PAGE_SIZE);
	const char *end = (char *)ALIGN_UP((uintptr_t)addr + bytes, PAGE_SIZE);
	bool served;

	return bytes ? pins_change(weir, &page, end, false, false, &served) : -EINVAL;
}

int weir_region_pin(struct weir *weir, void *addr, uint64_t bytes, int write)
{
	char *const first = (char *)ALIGN_DOWN((uintptr_t)addr, PAGE_SIZE);
	char *const end = (char *)ALIGN_UP((uintptr_t)addr + bytes, PAGE_SIZE);
	char *page = first;
	const char *stuck = NULL;
	unsigned tries = 0;
	bool served, held = false;
	int err;

	if (!bytes)
		return -EINVAL;
	for (;;) {
		err = pins_change(weir, &page, end, true, write, &served);
		if (err != -EAGAIN)
			break;
		tries = page == stuck ? tries + 1 : 0;
		stuck = page;
		/* Nothing leaves any more, and still it does not come: something else is mapped there. */
		if (tries > TRIES_MOST && held) {
			err = -EFAULT;
			break;
		}
		/* Near the limit what has just come is what reclaim finds to take, each time. */
		if (tries == TRIES && !held) {
			reclaim_hold(&weir->reclaim);
			held = true;
		}
		if (!served && fault_in(page, write)) {
			err = -EFAULT;
			break;
		}
	}
	if (held)
		reclaim_release(&weir->reclaim);
	if (!err) {
		/* A job that chose its pages before they were pinned may have write-protected them with their neighbours. */
		reclaim_wait_filled(&weir->reclaim);
		if (write)
			err = make_writable(first, end);
	}
	if (err && page > first)
		(void)weir_region_unpin(weir, first, (uint64_t)(page - first));
	return err;
}
