/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading, writing and syncing a file for threads of the program: see file.h. Such a thread has no descriptors. What is cached
 * and mapped for weir it copies itself, a page at a time by way of its stack: the program's memory may lie in a region, and is
 * not touched while a page is locked. Everything else the crew does, by way of a buffer of weir's own; and all, where the stack lies in a
 * region: it would be touched then, and a fault that needs room may wait for who writes pages back, who waits for that page.
 */
#include <errno.h>
#include <string.h>

#include "os/thread.h"
#include "vm/file_page.h"

enum { BUFFER = FILE_RUN * 4096 };

/* The thread has not weir's descriptors. What wakes or reclaims leaves that to others. */
static bool borrow(bool now)
{
	const bool before = vm_borrowed;

	vm_borrowed = now;
	return before;
}

/* A page that is cached, and free just now, by this thread itself. */
static bool copy_here(struct vm *vm, struct file_object *f, uint32_t page, uint32_t at, char *bytes,
		      uint32_t count, bool in)
{
	uint32_t state;
	bool done = false, before;
	THREAD_SIGNALS_BLOCKED;

	if (f->kmap || !(load_relaxed(&f->state[page]) & FILE_CACHED) || !page_try(f, page, &state))
		return false;
	before = borrow(true);
	if (page_cached(state)) {
		done = cache_copy(f, page, at, bytes, count, in);
		state = in ? page_dirty(f, state) : state & ~(uint32_t)FILE_AHEAD;
	}
	page_put(vm, f, page, state);
	(void)borrow(before);
	return done;
}

static bool page_copy(struct vm *vm, struct file_object *f, uint32_t page, uint32_t at, char *bytes,
		      uint32_t count, bool in)
{
	_Alignas(8) char bounce[4096];

	if (in)
		memcpy(bounce, bytes, count);
	if (!copy_here(vm, f, page, at, bounce, count, in))
		return false;
	if (!in)
		memcpy(bytes, bounce, count);
	return true;
}

/* By the crew: bytes from an offset on, at most what the buffer takes. */
static int run_copy(struct vm *vm, struct file_hold *hold, char *buffer, char *bytes,
		    uint64_t offset, uint64_t left, bool in)
{
	const uint32_t at = (uint32_t)(offset % PAGE_SIZE);
	struct file_job job = {.kind = JOB_COPY,
			       .file = hold->file,
			       .page = (uint32_t)(offset >> PAGE_SHIFT),
			       .at = at,
			       .count = (uint32_t)MIN(left, (uint64_t)BUFFER - at),
			       .slot = hold->slot,
			       .buffer = buffer,
			       .in = in};
	int got;

	if (in)
		memcpy(buffer, bytes, job.count);
	got = file_crew_do(vm, &job);
	if (!in && got > 0)
		memcpy(bytes, buffer, (size_t)got);
	return got;
}

void file_note(struct vm *vm, const struct file_hold *hold, uint64_t offset, uint64_t bytes)
{
	struct file_object *f = hold->file;
	const uint32_t first = (uint32_t)(offset >> PAGE_SHIFT);
	const uint32_t count = (uint32_t)(DIV_UP(offset + bytes, PAGE_SIZE) - first);
	int32_t window;
	struct flow *flow = flow_match(f, first, flow_most(f, hold->slot), &window);

	if (!window && count > 1)
		window = (int32_t)MIN(count, (uint32_t)FILE_RUN);
	if (window > 0)
		flow_advance(vm, f, flow, first, count, window, hold->slot);
}

static int64_t transfer(struct vm *vm, struct file_hold *hold, char *bytes, uint64_t count,
			uint64_t offset, bool in, bool paged)
{
	struct file_object *f = hold->file;
	char *buffer = NULL;
	uint64_t done = 0;
	int err = 0;

	if (offset >= f->id.bytes)
		return in && count ? -EFBIG : 0;
	count = MIN(count, f->id.bytes - offset);
	while (done < count) {
		const uint64_t from = offset + done;
		const uint32_t at = (uint32_t)(from % PAGE_SIZE);
		const uint32_t n = (uint32_t)MIN(count - done, PAGE_SIZE - at);
		int got;

		if (!paged &&
		    page_copy(vm, f, (uint32_t)(from >> PAGE_SHIFT), at, bytes + done, n, in)) {
			done += n;
			continue;
		}
		if (!buffer)
			buffer = mem_alloc(BUFFER);
		got = buffer ? run_copy(vm, hold, buffer, bytes + done, from, count - done, in)
			     : -ENOMEM;
		if (got <= 0) {
			err = got;
			break;
		}
		done += (uint64_t)got;
	}
	mem_release(buffer, BUFFER);
	return done ? (int64_t)done : err;
}

int64_t file_pread(struct vm *vm, struct file_hold *hold, void *to, uint64_t bytes, uint64_t offset,
		   bool paged)
{
	return transfer(vm, hold, to, bytes, offset, false, paged);
}

int64_t file_pwrite(struct vm *vm, struct file_hold *hold, const void *from, uint64_t bytes,
		    uint64_t offset, bool paged)
{
	return transfer(vm, hold, (char *)(uintptr_t)from, bytes, offset, true, paged);
}

int file_sync(struct vm *vm, struct file_hold *hold, uint32_t page, uint32_t count)
{
	struct file_job job = {
		.kind = JOB_SYNC, .file = hold->file, .page = page, .count = count, .hold = hold};

	/* Nothing of it was ever written to through weir. */
	return load_relaxed(&hold->file->writable) ? file_crew_do(vm, &job) : 0;
}

void file_write_out(struct vm *vm, struct file_hold *hold)
{
	struct file_job job = {
		.kind = JOB_WRITEBACK, .file = hold->file, .count = hold->file->pages};

	if (hold->write && load_relaxed(&hold->file->dirty))
		(void)file_crew_do(vm, &job);
}
