/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writing back: dirty pages of a file's page cache go to the file. See file.h.
 *
 * Errors, as fsync has them since Linux 4.16: each is counted in the object, and each holder (a region, an open file) is told at
 * its next sync, once, that there was one since it was told last. One that nobody has been told of yet is told to who opens
 * the file next. What could not be written stays dirty, in memory, and is tried again: by reclaim and by age after a
 * pause that doubles, by a sync at once.
 */
#include <errno.h>
#include <sched.h>

#include "base/log.h"
#include "vm/file_page.h"

enum { RETRY_FIRST_MS = 100, RETRY_MOST_MS = 10000 };
#define DIRTY_NS_MOST 5000000000ull
#define PATIENCE_NS 1000000000ull

static bool page_to_write(uint32_t state)
{
	return (state & (FILE_DIRTY | FILE_WRITING)) == FILE_DIRTY;
}

/* --- errors --- */

static void error_note(struct vm *vm, struct file_object *f, uint32_t pages, int err)
{
	add_relaxed(&vm->count.write_failed, pages);
	if (!f->retry_step_ms && !pages)
		log_line("a file cannot be synced (%s): what was written may not be on its disk",
			 errno_name(err));
	else if (!f->retry_step_ms)
		log_line("%u pages cannot be written back to their file (%s): they stay in memory, "
			 "and are tried again",
			 pages, errno_name(err));
	f->retry_step_ms = f->retry_step_ms ? MIN(f->retry_step_ms * 2, (uint32_t)RETRY_MOST_MS)
					    : RETRY_FIRST_MS;
	store_relaxed(&f->retry_ns, now_ns() + f->retry_step_ms * 1000000ull);
	f->error = err;
	f->error_count++;
	f->error_seen = false;
}

static void error_over(struct file_object *f)
{
	f->retry_step_ms = 0;
	store_relaxed(&f->retry_ns, 0);
}

int error_take(struct file_object *f, struct file_hold *hold)
{
	int err = 0;

	lock_acquire(&f->write_lock);
	if (hold->seen != f->error_count) {
		err = f->error;
		hold->seen = f->error_count;
		f->error_seen = true;
	}
	lock_release(&f->write_lock);
	return err;
}

bool writeback_sensible(struct file_object *f)
{
	const uint64_t retry = load_relaxed(&f->retry_ns);

	return load_acquire(&f->writable) && (!retry || now_ns() >= retry);
}

/* --- a run --- */

/* No region may write to locked pages any more without a fault. */
static int run_protect(struct file_object *f, const struct file_run *run)
{
	for (unsigned i = 0; i < FILE_REGIONS; i++) {
		struct region *region = load_acquire(&f->region[i]);
		uint32_t first = UINT32_MAX, last = 0;
		int err;

		for (uint32_t k = 0; region && k < run->count; k++) {
			if (word_state(load_relaxed(&region->word[run->first + k])) != PAGE_DIRTY)
				continue;
			first = MIN(first, k);
			last = k;
		}
		if (first == UINT32_MAX)
			continue;
		err = uffd_writeprotect(region->uffd, page_address(region, run->first + first),
					(size_t)(last - first + 1) << PAGE_SHIFT, true);
		if (err)
			return err;
		for (uint32_t k = first; k <= last; k++) {
			page_word_t *word = &region->word[run->first + k];

			if (word_state(load_relaxed(word)) == PAGE_DIRTY)
				store_relaxed(word, PAGE_CLEAN);
		}
	}
	return 0;
}

/* Locks the first dirty page from *page on, and those behind it. */
static bool run_find(struct vm *vm, struct file_object *f, struct file_run *run, uint32_t *page,
		     uint32_t end)
{
	const uint32_t chunk = 1u << CHUNK_SHIFT;

	run->count = 0;
	while (*page < end && !run->count) {
		if (!load_relaxed(&f->cached[*page >> CHUNK_SHIFT])) {
			*page += chunk - *page % chunk;
			continue;
		}
		if (load_relaxed(&f->state[*page]) & FILE_DIRTY) {
			run->first = *page;
			run->state[0] = page_take_wait(f, *page);
			if (page_to_write(run->state[0]))
				run->count = 1;
			else
				page_put(vm, f, *page, run->state[0]);
		}
		*page += 1;
	}
	if (!run->count)
		return false;
	run_grow(vm, f, run, MIN(write_most(f), end - run->first), false, page_to_write);
	*page = run->first + run->count;
	return true;
}

bool writeback_run(struct vm *vm, struct pager *self, struct file_object *f, uint32_t *page,
		   uint32_t end, int *err)
{
	struct file_run run;

	if (!run_find(vm, f, &run, page, MIN(end, f->pages)))
		return false;
	if (run_protect(f, &run)) {
		/* Not just now (an event that somebody must read first, memory of the system): those that became protected were
		 * told so by their words. */
		*err = -EAGAIN;
		run_put(vm, f, &run);
		return true;
	}
	for (uint32_t i = 0; i < run.count; i++)
		run.state[i] = (run.state[i] & ~(uint32_t)FILE_DIRTY) | FILE_WRITING;
	sub_relaxed(&f->dirty, run.count);
	run_put(vm, f, &run);
	/* From here on somebody may write to them: what the file gets may be mixed, and they are dirty again. */
	*err = cache_write(self, f, run.first, run.count);
	for (uint32_t i = 0; i < run.count; i++) {
		uint32_t state = page_take_wait(f, run.first + i) & ~(uint32_t)FILE_WRITING;

		page_put(vm, f, run.first + i, *err ? page_dirty(f, state) : state);
	}
	if (*err && *err != -EAGAIN)
		error_note(vm, f, run.count, *err);
	else if (!*err) {
		error_over(f);
		add_relaxed(&vm->count.written, run.count);
	}
	return true;
}

/* --- who begins it --- */

int writeback(struct vm *vm, struct pager *self, struct file_object *f, uint32_t page,
	      uint32_t count)
{
	const uint32_t end = count < f->pages - page ? page + count : f->pages;
	bool more = true;
	int err = 0;

	while (more && !err) {
		lock_acquire(&f->write_lock);
		more = writeback_run(vm, self, f, &page, end, &err);
		lock_release(&f->write_lock);
		file_crew_breathe();
	}
	return err;
}

void writeback_all(struct vm *vm, struct pager *self, struct file_object *f, uint32_t page,
		   uint32_t count)
{
	const uint64_t until = now_ns() + PATIENCE_NS;
	int err, unsynced;

	/* What has no window or no protection just now has not been written, and nobody may be told that it has. */
	while ((err = writeback(vm, self, f, page, count)) == -EAGAIN && now_ns() < until)
		sched_yield();
	unsynced = file_source_sync(&f->out);
	lock_acquire(&f->write_lock);
	if (err == -EAGAIN)
		error_note(vm, f, MAX(load_relaxed(&f->dirty), 1u), err);
	else if (unsynced)
		error_note(vm, f, 0, unsynced);
	else if (!err)
		error_over(f);
	lock_release(&f->write_lock);
}

void writeback_ask(struct vm *vm, struct file_object *f, uint32_t page)
{
	const struct file_job job = {
		.kind = JOB_WRITEBACK, .file = f, .page = page, .count = 4 * FILE_RUN};

	if (!writeback_sensible(f) || exchange_relaxed(&f->writing_back, true))
		return;
	if (!file_crew_ask(vm, &job))
		store_relaxed(&f->writing_back, false);
}

void file_tick(struct vm *vm)
{
	const uint64_t now = now_ns();

	for (unsigned i = 0; i < FILES_MAX; i++) {
		struct file_object *f = load_acquire(&vm->file_object[i]);
		uint64_t since = f ? load_relaxed(&f->dirty_ns) : 0;

		if (f && !f->files && !load_relaxed(&f->dirty) && !load_relaxed(&vm->hold)) {
			file_outlived(vm, f);
			continue;
		}
		if (!f || !load_relaxed(&f->dirty) || now < since + DIRTY_NS_MOST)
			continue;
		/* What becomes dirty from now on has its time, too. */
		store_relaxed(&f->dirty_ns, now);
		if (writeback_sensible(f))
			(void)file_crew_ask(vm, &(struct file_job){.kind = JOB_WRITEBACK,
								   .file = f,
								   .count = f->pages});
	}
}
