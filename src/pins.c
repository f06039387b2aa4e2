/* SPDX-License-Identifier: BSD-2-Clause */
/* weir_region_pin and weir_region_unpin. A pin is a count in the page's word (vm/pin.c). */
#include <errno.h>

#include "instance.h"
#include "os/mem.h"
#include "os/thread.h"

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
	    (size_t)(end - region->base) > (size_t)region->pages << PAGE_SHIFT)
		return -EINVAL;
	return region->file ? -EOPNOTSUPP : 0;
}

/* Brings a page in. One that is lost must not be touched: its pinner is told by an error, and not by SIGBUS. */
static void bring(struct weir *weir, char *page, bool write)
{
	struct region *region;
	sigset_t signals;
	unsigned turn;
	bool signal;

	thread_signals_block(&signals);
	turn = instance_visit(weir);
	region = vm_find(&weir->vm, (uintptr_t)page);
	signal = region && region->signal;
	instance_leave(weir, turn);
	thread_signals_restore(&signals);
	if (signal)
		signal_touch(page, write);
	else if (mem_touch(page, write) == -EINVAL)
		touch(page, write);
}

/* Pins or unpins pages [*page, end), as far as it comes without a fault. */
static int pins_change(struct weir *weir, char **page, const char *end, bool pin, bool write)
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
	instance_leave(weir, turn);
	thread_signals_restore(&signals);
	return err;
}

int weir_region_unpin(struct weir *weir, void *addr, uint64_t bytes)
{
	char *page = (char *)ALIGN_DOWN((uintptr_t)addr, PAGE_SIZE);
	const char *end = (char *)ALIGN_UP((uintptr_t)addr + bytes, PAGE_SIZE);

	return pins_change(weir, &page, end, false, false);
}

int weir_region_pin(struct weir *weir, void *addr, uint64_t bytes, int write)
{
	char *const first = (char *)ALIGN_DOWN((uintptr_t)addr, PAGE_SIZE);
	char *const end = (char *)ALIGN_UP((uintptr_t)addr + bytes, PAGE_SIZE);
	char *page = first;
	int err;

	for (;;) {
		err = pins_change(weir, &page, end, true, write);
		if (err != -EAGAIN)
			break;
		bring(weir, page, write);
	}
	if (err) {
		if (page > first)
			(void)weir_region_unpin(weir, first, (uint64_t)(page - first));
		return err;
	}
	/* A job that chose its pages before they were pinned may have write-protected them with their neighbours. */
	reclaim_wait_filled(&weir->reclaim);
	for (page = first; write && page < end; page += PAGE_SIZE)
		touch(page, true);
	return 0;
}
