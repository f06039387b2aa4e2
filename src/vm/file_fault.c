/* SPDX-License-Identifier: BSD-2-Clause */
/* Faults of regions over files: see file.h. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "vm/file_page.h"

enum {
	AROUND =
		16, /* pages that are mapped with one that is cached, where no reader in a row is seen */
	WRITE_AHEAD = 16 /* pages that one who writes in a row may write to without a fault */
};

/* False: it is busy, and PARKED is left. */
static bool page_take(struct file_object *f, uint32_t page, uint32_t *state)
{
	while (!page_try(f, page, state)) {
		uint32_t s = load_relaxed(&f->state[page]);

		/* The holder's exchange in page_put sees the bit, or this fails. */
		if (s & FILE_BUSY && cas_relaxed(&f->state[page], &s, s | FILE_PARKED))
			return false;
	}
	return true;
}

/* --- mapping --- */

static bool mapped(uint64_t w)
{
	return word_state(w) == PAGE_CLEAN || word_state(w) == PAGE_DIRTY;
}

/* What a page of a run is to be in the region: writable where it is dirty, and the region is for writing. */
static enum page_state wanted(const struct file_region *file, uint32_t state)
{
	return file->hold.write && state & FILE_DIRTY ? PAGE_DIRTY : PAGE_CLEAN;
}

/* Pages [i, i + n) of a run, none of them mapped and all of one kind. Returns how many are now, and what stopped it. */
static uint32_t span_map(struct file_region *file, const struct file_run *run, uint32_t i,
			 uint32_t n, enum page_state kind, int *err)
{
	struct region *region = &file->region;
	const bool protect = file->hold.write && kind == PAGE_CLEAN;
	size_t done = 0;

	for (uint32_t k = i; k < i + n; k++) {
		if (!account_join(&region->file->account[run->first + k]))
			panic("a cached page has no holder");
		store_relaxed(&region->word[run->first + k], kind);
	}
	*err = uffd_continue(region->uffd, page_address(region, run->first + i),
			     (size_t)n << PAGE_SHIFT, protect, &done);
	return (uint32_t)(done >> PAGE_SHIFT);
}

static void span_unmap(struct file_region *file, const struct file_run *run, uint32_t i,
		       uint32_t end)
{
	struct file_object *f = file->region.file;

	for (; i < end; i++) {
		store_relaxed(&file->region.word[run->first + i], PAGE_NONE);
		(void)account_release(&f->account[run->first + i], &f->owners, CHARGE_FILE,
				      PAGE_SIZE);
	}
}

/* The region maps those pages of the run that it does not map yet, and holds them from now on. 0, or why page `target` is not
 * mapped; -EEXIST: the kernel had some already, and nobody was woken there. */
static int run_map(struct file_region *file, const struct file_run *run, uint32_t target)
{
	struct region *region = &file->region;
	int result = 0;

	for (uint32_t i = 0; i < run->count;) {
		enum page_state kind = wanted(file, run->state[i]);
		uint32_t n = 0, done;
		int err;

		/* Poisoned, too: that one stays so. */
		if (word_state(load_relaxed(&region->word[run->first + i])) != PAGE_NONE) {
			i++;
			continue;
		}
		while (i + n < run->count && wanted(file, run->state[i + n]) == kind &&
		       word_state(load_relaxed(&region->word[run->first + i + n])) == PAGE_NONE)
			n++;
		done = span_map(file, run, i, n, kind, &err);
		/* The kernel has it already: what the word says now. */
		if (err == -EEXIST) {
			span_unmap(file, run, i + done + 1, i + n);
			i += done + 1;
			result = result ? result : err;
			continue;
		}
		if (err) {
			span_unmap(file, run, i + done, i + n);
			if (target - run->first >= i + done && target - run->first < i + n)
				result = err;
			i += n;
			continue;
		}
		i += n;
	}
	return result;
}

/* Mapped and write-protected pages of the run that are dirty now become writable. Wakes who waits there. */
static int run_unprotect(struct file_region *file, const struct file_run *run)
{
	struct region *region = &file->region;
	int result = 0;

	for (uint32_t i = 0, n; i < run->count; i += MAX(n, 1u)) {
		int err;

		for (n = 0; i + n < run->count && run->state[i + n] & FILE_DIRTY &&
			    mapped(load_relaxed(&region->word[run->first + i + n]));
		     n++)
			;
		if (!n)
			continue;
		for (uint32_t k = i; k < i + n; k++)
			store_relaxed(&region->word[run->first + k], PAGE_DIRTY);
		err = uffd_writeprotect(region->uffd, page_address(region, run->first + i),
					(size_t)n << PAGE_SHIFT, false);
		/* Protected still, which is harmless: the thread faults again. */
		result = err ? err : result;
	}
	return result;
}

/* No memory below the limit for it, or it cannot be read: the reader is told. */
static void page_refuse(struct vm *vm, struct region *region, uint32_t page)
{
	char *address = page_address(region, page);

	/* Before the reader is told: who has had the signal finds it counted. */
	add_relaxed(&vm->count.poisoned, 1);
	if (vm->can_poison && !uffd_poison(vm->uffd, address, PAGE_SIZE))
		store_relaxed(&region->word[page], PAGE_POISONED);
	else
		sub_relaxed(&vm->count.poisoned, 1);
	(void)uffd_wake(vm->uffd, address, PAGE_SIZE);
}

/* --- one fault --- */

/* The page is absent, and locked: it is read, and with it what a reader in a row wants next. */
static int fault_load(struct vm *vm, struct pager *self, struct file_region *file,
		      struct file_run *run, int32_t window)
{
	struct file_object *f = file->region.file;
	const uint32_t page = run->first;
	const unsigned slot = load_relaxed(&file->region.owners.current);
	int err;

	pager_load(self, self->container,
		   run->state[0] && vm_refault(self->container, run->state[0]));
	/* The page is locked: nobody sleeps for being above high. */
	if (container_over_high(self->container) || container_full(self->container))
		pager_stall(self, self->container);
	err = cache_charge(vm, f, page, slot);
	if (err)
		return err;
	if (window)
		run_grow(vm, f, run, MIN((uint32_t)(window < 0 ? -window : window), read_most()),
			 window < 0, page_absent);
	if (cache_load(vm, self, f, run, slot, page, FILE_AHEAD, &err)) {
		add_relaxed(&vm->count.stored, 1);
		add_relaxed(&vm->count.ahead, run->count - 1);
		return 0;
	}
	if (err != -EAGAIN)
		log_line("page %u of a file region cannot be read (%s): a touch of it is SIGBUS",
			 page, errno_name(err));
	return err;
}

/* The page is cached, and locked: those that are beside it come along. */
static void fault_around(struct vm *vm, struct file_region *file, struct file_run *run,
			 int32_t window, bool random)
{
	struct file_object *f = file->region.file;
	const uint32_t page = run->first;

	if (window > 0)
		run_grow(vm, f, run, (uint32_t)window, false, page_cached);
	else if (window < 0)
		run_grow(vm, f, run, (uint32_t)-window, true, page_cached);
	else if (!random)
		run_grow(vm, f, run, AROUND - page % AROUND, false, page_cached);
}

/* One who writes in a row will write to what comes next, too. Returns for how many pages from there on that was said. */
static uint32_t run_make_dirty(struct file_object *f, struct file_run *run, uint32_t page,
			       int32_t window)
{
	uint32_t first = page - run->first, count = 1;

	if (window > 0)
		count = MIN(run->count - first, MIN((uint32_t)window, (uint32_t)WRITE_AHEAD));
	for (uint32_t i = first; i < first + count; i++) {
		run->state[i] = page_dirty(f, run->state[i]);
		/* Known before the page is mapped: who has written to it may sync it before its lock is free. */
		or_relaxed(&f->state[run->first + i], FILE_DIRTY);
	}
	return count;
}

/* The run is cached, and comes into the region: 0, or what stopped it. */
static int fault_map(struct file_region *file, struct file_run *run, uint32_t page,
		     enum fault_access access)
{
	struct region *region = &file->region;
	const bool again = mapped(load_relaxed(&region->word[page]));
	int err = 0;

	for (uint32_t i = 0; i < run->count; i++)
		run->state[i] &= ~(uint32_t)FILE_AHEAD;
	if (access != ACCESS_READ)
		err = run_unprotect(file, run);
	if (!err)
		err = run_map(file, run, page);
	/* The word says that it is mapped: by a fault that was served just now, or something has unmapped it. */
	if (!err && again && access != ACCESS_WP)
		err = uffd_continue(region->uffd, page_address(region, page), PAGE_SIZE,
				    file->hold.write && word_state(load_relaxed(
								&region->word[page])) == PAGE_CLEAN,
				    NULL);
	/* Poisoned: a thread that faulted before, and was not yet in line when page_refuse woke. What it faulted for has come
	 * into the cache meanwhile, and not into the region. */
	if (err || word_state(load_relaxed(&region->word[page])) == PAGE_POISONED)
		(void)uffd_wake(region->uffd, page_address(region, page), PAGE_SIZE);
	return err == -EEXIST ? 0 : err;
}

enum pagein_result file_pagein(struct vm *vm, struct pager *self, struct region *region,
			       uint32_t page, enum fault_access access)
{
	struct file_region *file = file_region_of(region);
	struct file_object *f = region->file;
	const unsigned slot = load_relaxed(&region->owners.current);
	struct file_run run = {.first = page, .count = 1};
	const enum weir_region_advice use = region_access(region, page);
	const bool random = use == WEIR_ADVICE_RANDOM;
	struct flow *flow = NULL;
	int32_t window = 0;
	uint32_t count;
	int err = 0;

	self->container = owners_get(&f->owners, slot);
	if (!page_take(f, page, &run.state[0])) {
		add_relaxed(&vm->count.parked, 1);
		return PAGEIN_PARKED;
	}
	if (!random)
		flow = flow_match(f, page, flow_most(f, slot), &window);
	if (use == WEIR_ADVICE_SEQUENTIAL)
		window = (int32_t)MIN(flow_most(f, slot), (uint32_t)FILE_RUN);
	if (page_cached(run.state[0])) {
		add_relaxed(&vm->count.soft, 1);
		container_count(self->container, COUNT_SOFT, 1);
		fault_around(vm, file, &run, window, random);
	} else {
		err = fault_load(vm, self, file, &run, window);
		if (err && err != -EAGAIN)
			page_refuse(vm, region, page);
		else if (err)
			(void)uffd_wake(vm->uffd, page_address(region, page), PAGE_SIZE);
	}
	count = run.count;
	if (!err) {
		if (access != ACCESS_READ)
			count = run_make_dirty(f, &run, page, window);
		err = fault_map(file, &run, page, access);
	}
	/* Room first, so that what comes next takes it from nobody else. */
	if (!err && use == WEIR_ADVICE_SEQUENTIAL)
		flow_pass(vm, f, page, count, slot);
	if (!err && window)
		flow_advance(vm, f, flow, page, count, window, slot);
	else if (!err && flow)
		flow_begin(flow, page + count);
	run_put(vm, f, &run);
	return err ? PAGEIN_RETRY : PAGEIN_DONE;
}
