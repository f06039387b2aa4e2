/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pagein: one fault, or one page of a fork, from the page word to the woken thread.
 *
 * Order of things in a load: charge, lock the page, and neighbours that a stream will want (stream.h), load them (run.h).
 * A charge is made before a page is locked, since making room may take time and busy bits are short.
 */
#include <errno.h>
#include <stdlib.h>

#include "os/thread.h"
#include "vm/file.h"
#include "vm/run.h"
#include "vm/stream.h"

/* --- the transitions of a page that is there --- */

/* Write-protected for certain. */
static bool page_protected(uint64_t w)
{
	return word_state(w) == PAGE_CLEAN || word_state(w) == PAGE_GUARDED;
}

/* The word of a page that has become writable. */
static uint64_t written_word(struct vm *vm, const struct region *region, uint64_t w)
{
	uint64_t history = word_history(w) | (uint64_t)word_credit(w) << CREDIT_SHIFT |
			   (uint64_t)word_pins(w) << PIN_SHIFT;

	if (page_protected(w)) {
		add_relaxed(
			&tenant_of(page_owner(region, w))->rewrite[word_rewritten(w) > 0].written,
			1);
		history |= (uint64_t)REWRITTEN_MAX << REWRITTEN_SHIFT;
	}
	return history | page_copy_leave(vm, region, w, word_owner(w)) | PAGE_DIRTY;
}

/* The stream that a page belongs to, but where nothing is to be loaded that is not touched. */
static struct stream *stream_of(struct vm *vm, const struct region *region, uint32_t page,
				page_no_t key, int32_t *window)
{
	*window = 0;
	return region_access(region, page) == WEIR_ADVICE_RANDOM ? NULL
								 : stream_match(vm, key, window);
}

/*
 * A write to a protected page: the page becomes dirty and its copy is let go. Where the writes go page by page, the
 * clean pages ahead follow at once: taking protection away costs a shootdown, for one page or for many.
 */
static int make_writable(struct vm *vm, struct region *region, uint32_t page, uint64_t w)
{
	/* Streams of writes are told apart from streams of loads by a bit that no page number has. */
	const page_no_t key = page_number(region, page) | 1ull << 62;
	uint64_t words[RUN_MAX] = {w};
	uint32_t first = page, count = 1;
	int step, err;
	int32_t window;
	struct stream *stream = stream_of(vm, region, page, key, &window);
	unsigned want = window ? MIN((unsigned)abs(window), (unsigned)RUN_MEMORY) : 1;

	step = window < 0 ? -1 : 1;
	for (; count < want; count++) {
		int64_t next = (int64_t)page + (int64_t)step * (int64_t)count;

		if (next < 0 || next >= load_relaxed(&region->pages))
			break;
		words[count] = load_relaxed(&region->word[next]);
		if ((words[count] & WORD_BUSY) || !page_protected(words[count]) ||
		    !page_lock(&region->word[next], &words[count]))
			break;
	}
	if (window)
		stream_advance(stream, key, count, window);
	if (step < 0)
		first = page - (count - 1);
	/* Wakes as well. Where it fails the page is still protected, which is harmless: the thread faults again. */
	tsan_release(page_address(region, page));
	err = uffd_writeprotect(region->uffd, page_address(region, first),
				(size_t)count << PAGE_SHIFT, false);
	if (err)
		page_wake_later(vm, region, page, err);
	for (uint32_t i = 0; i < count; i++)
		page_unlock(vm, region, step < 0 ? page - i : page + i,
			    written_word(vm, region, words[i]), true);
	return err;
}

/*
 * A missing fault on a page that the word calls resident: mostly somebody loaded it meanwhile, and waking is all.
 * But where a page was dropped behind weir's back (a raw madvise), waking would repeat for ever. ZEROPAGE tells the
 * two apart, and gives what such a drop means: zeroes. Under the busy bit, so that reclaim cannot drop it just then.
 */
static int page_recheck(struct vm *vm, struct region *region, uint32_t page, uint64_t w)
{
	char *address = page_address(region, page);
	int err = uffd_zeropage(region->uffd, address, PAGE_SIZE, NULL);

	if (err == 0) {
		add_relaxed(&vm->count.vanished, 1);
		w = (uint64_t)word_owner(w) << OWNER_SHIFT | (uint64_t)word_pins(w) << PIN_SHIFT |
		    page_copy_leave(vm, region, w, word_owner(w)) | PAGE_DIRTY;
	}
	page_unlock(vm, region, page, w, true);
	page_wake_later(vm, region, page, err);
	return err == -EEXIST ? 0 : err;
}

/* Zeroes where the page has vanished: 0. -EEXIST: it has not. Or another -errno. */
static int zeroes_for_reader(struct vm *vm, struct region *region, uint32_t page)
{
	const int err = uffd_zeropage(region->uffd, page_address(region, page), PAGE_SIZE, NULL);

	if (!err) {
		add_relaxed(&vm->count.vanished, 1);
		or_relaxed(&region->word[page], WORD_VANISHED);
	}
	return err;
}

void page_read_begin(struct vm *vm, struct pager *self, struct region *region, uint32_t page)
{
	/* Not plain stores: a handler may set PARKED at any moment. */
	and_relaxed(&region->word[page], ~word_copy(3, UINT32_MAX));
	or_relaxed(&region->word[page], WORD_READING);
	if (self->before_block)
		(void)zeroes_for_reader(vm, region, page);
}

bool page_read_end(struct vm *vm, struct region *region, uint32_t page)
{
	unsigned waited = 0;

	and_relaxed(&region->word[page], ~WORD_READING);
	/* Pairs with the fence in page_revive: it sees this, or is seen. */
	fence_seq_cst();
	/* Pairs with the release there: what it has made of the word. */
	while (unlikely(load_acquire(&vm->reviving)))
		wait_a_little(&waited);
	return !(load_relaxed(&region->word[page]) & WORD_VANISHED);
}

bool page_revive(struct vm *vm, struct region *region, uint32_t page)
{
	int err = -ENOENT;

	add_relaxed(&vm->reviving, 1);
	/* Pairs with the fence in page_read_end. */
	fence_seq_cst();
	if (word_being_read(load_relaxed(&region->word[page]))) {
		err = zeroes_for_reader(vm, region, page);
		if (err)
			page_wake_later(vm, region, page, err);
	}
	/* Pairs with the acquire in page_read_end. */
	(void)sub_acq_rel(&vm->reviving, 1);
	/* It is there, or will be when the thread has faulted again. */
	return !err || err == -EEXIST || err == -EAGAIN || err == -ENOMEM;
}

static void run_pays(struct run *run)
{
	run->owner = load_relaxed(&run->region->owners.current);
	run->container = owners_get(&run->region->owners, run->owner);
}

void pager_stall(struct pager *self, struct weir_container *container)
{
	if (self->stalled)
		return;
	self->stalled = container;
	container_stall_begin(container, self->tid, self->began_ns ? self->began_ns : now_ns());
}

void pager_load(struct pager *self, struct weir_container *container, bool refault)
{
	if (refault)
		pager_stall(self, container);
	else if (!self->stalled && !self->major)
		container_fault_note(container, self->tid,
				     self->began_ns ? self->began_ns : now_ns());
	self->major = true;
}

void pager_end(struct pager *self)
{
	if (likely(!self->loads))
		return;
	share_took(&tenant_of(self->container)->share, self->loaded, self->loads,
		   now_ns() - self->began_ns);
	self->loads = 0;
}

/*
 * The tenant is far above its high all the same: its thread is slowed down. Nothing is locked. A handler sleeps with the right to read
 * handed over, and only while another one is awake; the background thread, which works for all, never does.
 */
static void pager_slow(struct vm *vm, struct pager *self, struct weir_container *container)
{
	const uint64_t ns = container_delay_ns(container);

	if (likely(!ns) || load_relaxed(&vm->hold))
		return;
	if (self->borrowed) {
		sleep_ns(ns);
		return;
	}
	if (!self->before_block)
		return;
	if (add_relaxed(&vm->asleep, 1) < vm->asleep_most) {
		self->before_block(self->data);
		sleep_ns(ns);
	}
	sub_relaxed(&vm->asleep, 1);
}

/* One page for the target. False: it is refused, and the touch is to fail. */
static bool run_charge(struct vm *vm, struct pager *self, struct run *run, uint64_t w)
{
	int err;

	run->charged = 1;
	if (unlikely(container_over_high(run->container))) {
		pager_stall(self, run->container);
		container_throttle(run->container);
		pager_slow(vm, self, run->container);
	}
	if (likely(container_try(run->container, CHARGE_RESIDENT, PAGE_SIZE)))
		return true;
	pager_stall(self, run->container);
	err = container_charge(run->container, CHARGE_RESIDENT, PAGE_SIZE);
	if (!err)
		return true;
	if (err == -ENOMEM && word_state(w) == PAGE_NONE && vm->can_poison) {
		run->charged = 0;
		return false;
	}
	/* Nothing to reclaim just now, or the page has contents: over the limit is better than lost. */
	container_force(run->container, CHARGE_RESIDENT, PAGE_SIZE);
	container_count(run->container, COUNT_OVER_MAX, 1);
	return true;
}

/* A first touch that the container has no room for. The page stays poisoned until it is discarded. */
static bool page_refuse(struct vm *vm, struct region *region, uint32_t page, uint64_t *w)
{
	char *address = page_address(region, page);
	int err;

	if (!page_lock_counted(region, page, w))
		return false;
	/* Before the reader is told: who has had the signal finds it counted. */
	add_relaxed(&vm->count.poisoned, 1);
	/* In signal mode the thread finds the state of the page, and passes its SIGBUS on. */
	err = uffd_poison(region->uffd, address, PAGE_SIZE);
	if (region->signal)
		err = 0;
	if (err) {
		sub_relaxed(&vm->count.poisoned, 1);
		page_unlock_uncounted(vm, region, page, *w);
	} else {
		page_unlock(vm, region, page, PAGE_POISONED, true);
	}
	page_wake_later(vm, region, page, err);
	return true;
}

/* Neighbours that will be wanted too. */
static void run_ahead(struct vm *vm, struct run *run)
{
	struct region *region = run->region;
	const page_no_t number = page_number(region, run->target);
	const uint64_t w = run->before[0];
	const bool file = word_kind(w) == COPY_FILE;
	struct stream *stream;
	unsigned cluster = region->cluster;
	int32_t window;

	if (region_access(region, run->target) == WEIR_ADVICE_SEQUENTIAL) {
		region_pass(vm, region, run->target);
		run->stream = true;
		run_extend(vm, run, RUN_MAX, 1);
		return;
	}
	stream = stream_of(vm, region, run->target, number, &window);
	if (!stream)
		return;
	if (file)
		stream_note_file(vm, window != 0);
	if (!cluster && file && !load_relaxed(&vm->file_control.random))
		cluster = FILE_AROUND;
	run->stream = window != 0;
	if (window) {
		run_extend(vm, run, (unsigned)abs(window), window < 0 ? -1 : 1);
		stream_advance(stream, number, run->count, window);
	} else if (cluster > 1 && word_state(w) == PAGE_ABSENT) {
		run_extend(vm, run, cluster, 1);
		/* A reader that goes on faults behind them next. */
		stream_begin(stream, number + run->count);
	}
}

static enum pagein_result fault_serve(struct vm *vm, struct pager *self, struct region *region,
				      uint32_t page, enum fault_access access)
{
	struct run run = {
		.region = region,
		.first = page,
		.target = page,
		.count = 1,
		.access = access,
	};
	page_word_t *word = &region->word[page];
	uint64_t w = load_relaxed(word);
	int err = 0;

	/* Shrunk meanwhile: it is hidden in a moment, and the thread finds that. Pairs with the fence in region_shrink's
	 * quiescence, as vm_find does. */
	if (page >= load_relaxed(&region->pages)) {
		add_relaxed(&vm->count.soft, 1);
		(void)uffd_wake(region->uffd, page_address(region, page), PAGE_SIZE);
		return PAGEIN_GONE;
	}
	run_pays(&run);
	self->container = run.container;
	for (;;) {
		if (word_being_read(w) && access != ACCESS_WP && !self->borrowed &&
		    page_revive(vm, region, page)) {
			add_relaxed(&vm->count.soft, 1);
			w &= ~WORD_BUSY;
			break;
		}
		if (w & WORD_BUSY) {
			/* The holder's exchange in page_unlock sees the bit, or this fails. */
			if (!cas_relaxed(word, &w, w | WORD_PARKED))
				continue;
			add_relaxed(&vm->count.parked, 1);
			break;
		}
		if (!page_loadable(w)) {
			if (!page_lock(word, &w))
				continue;
			add_relaxed(&vm->count.soft, 1);
			container_count(run.container, COUNT_SOFT, 1);
			if (word_state(w) == PAGE_POISONED) {
				/* A thread that faulted before, and was not yet in line when page_poison woke. */
				page_unlock(vm, region, page, w, true);
				(void)uffd_wake(region->uffd, page_address(region, page),
						PAGE_SIZE);
			} else if (access == ACCESS_WP) {
				err = make_writable(vm, region, page, w);
			} else {
				err = page_recheck(vm, region, page, w);
			}
			break;
		}
		if (word_state(w) == PAGE_ABSENT)
			pager_load(self, run.container, vm_refault(run.container, w));
		if (!run.charged && !run_charge(vm, self, &run, w)) {
			if (page_refuse(vm, region, page, &w))
				break;
			continue;
		}
		if (!page_lock_counted(region, page, &w))
			continue;
		run.before[0] = w;
		run_ahead(vm, &run);
		return run_load(vm, self, &run);
	}
	if (run.charged)
		container_uncharge(run.container, CHARGE_RESIDENT, PAGE_SIZE);
	if (err && self->borrowed)
		return PAGEIN_ELSEWHERE;
	return w & WORD_BUSY ? PAGEIN_PARKED : PAGEIN_DONE;
}

enum pagein_result pagein(struct vm *vm, struct pager *self, struct region *region, uint32_t page,
			  enum fault_access access)
{
	enum pagein_result result = region->file ? file_pagein(vm, self, region, page, access)
						 : fault_serve(vm, self, region, page, access);

	if (self->major) {
		container_count(self->container, COUNT_MAJOR, 1);
		self->major = false;
	}
	if (self->stalled) {
		self->ended_ns = now_ns();
		container_stall_end(self->stalled, self->ended_ns);
		self->stalled = NULL;
	}
	return result;
}

/*
 * Loads the page if it is absent; waits for its busy bit. Where the system has no memory for it this goes on trying,
 * as a fault does: a child would read zeroes in its place.
 */
static int bring_in_page(struct vm *vm, struct pager *self, struct region *region, uint32_t page)
{
	for (;;) {
		struct run run = {.region = region, .first = page, .target = page, .count = 1};
		uint64_t w = page_lock_wait(&region->word[page]);

		if (word_state(w) != PAGE_ABSENT) {
			page_unlock(vm, region, page, w, true);
			return word_state(w) == PAGE_POISONED ? -EIO : 0;
		}
		run_pays(&run);
		container_force(run.container, CHARGE_RESIDENT, PAGE_SIZE);
		run.charged = 1;
		run.before[0] = w;
		switch (run_load(vm, self, &run)) {
		case PAGEIN_GONE:
			return 0;
		case PAGEIN_DONE:
			add_relaxed(&vm->count.fork_loaded, 1);
			break;
		case PAGEIN_PARKED:
		case PAGEIN_RETRY:
		case PAGEIN_ELSEWHERE:
			break;
		}
	}
}

uint32_t pagein_ahead(struct vm *vm, struct pager *self, struct region *region, uint32_t page,
		      uint32_t count)
{
	const uint32_t first = page, end = page + count;

	while (page < end) {
		struct run run = {
			.region = region, .first = page, .target = page, .count = 1, .ahead = true};
		uint64_t w = load_relaxed(&region->word[page]);

		if ((w & WORD_BUSY) || word_state(w) != PAGE_ABSENT) {
			page++;
			continue;
		}
		run_pays(&run);
		if (!container_try(run.container, CHARGE_RESIDENT, PAGE_SIZE))
			break;
		run.charged = 1;
		if (!page_lock(&region->word[page], &w)) {
			container_uncharge(run.container, CHARGE_RESIDENT, PAGE_SIZE);
			continue;
		}
		run.before[0] = w;
		run_extend(vm, &run, end - page, 1);
		add_relaxed(&vm->count.ahead, 1);
		/* What cannot be read stays as it is, for a fault to find out; neighbours behind it have their turn. */
		(void)run_load(vm, self, &run);
		page++;
	}
	return page - first;
}

int vm_bring_in(struct vm *vm, struct pager *self)
{
	int err = 0;

	for (uint32_t i = 0; i < load_relaxed(&vm->regions); i++) {
		struct region *region = load_acquire(&vm->region[i]);

		for (uint32_t page = 0; region && page < load_relaxed(&region->top);) {
			if (!load_relaxed(&region->populated[page >> CHUNK_SHIFT])) {
				page = ALIGN_DOWN(page, 1u << CHUNK_SHIFT) + (1u << CHUNK_SHIFT);
				continue;
			}
			if (bring_in_page(vm, self, region, page))
				err = -EIO;
			page++;
		}
	}
	return err;
}
