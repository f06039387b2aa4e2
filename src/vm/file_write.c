/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writing back: dirty pages of a file's page cache go to the file. See file.h.
 *
 * Errors, as fsync has them since Linux 4.16: each is counted in the object, and each holder (a region, an open file) is told at
 * its next sync, once, that there was one since it was told last. One that nobody has been told of yet is told to who opens
 * the file next. What could not be written stays dirty, in memory, and is tried again: by reclaim and by age after a
 * pause that doubles, by a sync at once. What a flush of the disk has failed for is not: the pages are clean by then, and may
 * have left. So as with fsync a later sync may return 0 although they are not on the disk; whoever had written was told.
 *
 * A page that is refused keeps no other one out of the file. A run that fails is written again page by page, and those that
 * fail alone are REFUSED: until the pause is over only a sync tries them, and what became dirty since is written as ever.
 * A pass ends early only where a disk seems to take nothing: after FAILURES_MOST failures in a row, and PATIENCE_NS of them. So
 * one that answers at once has been asked for every page, and nobody waits long for one that does not. The next pass goes on there.
 */
#include <errno.h>
#include <sched.h>

#include "base/log.h"
#include "vm/file_page.h"

enum { RETRY_FIRST_MS = 100, RETRY_MOST_MS = 10000, FAILURES_MOST = 16 };
#define DIRTY_NS_MOST 5000000000ull
#define PATIENCE_NS 1000000000ull

/* One go over pages of a file. */
struct write_pass {
	uint32_t first, from; /* it begins at from; then come those between first and from */
	uint32_t page, end;   /* where it is, and how far it goes on */
	bool (*fits)(uint32_t state); /* which pages */
	uint32_t written, failed;     /* pages */
	uint32_t failures;	      /* writes that failed since the last that did not */
	uint64_t failing_ns;	      /* since when */
	bool again;		      /* no window, or no protection, just now: that ends it */
	int err;		      /* of the first page that failed */
};

static bool page_to_write(uint32_t state)
{
	return (state & (FILE_DIRTY | FILE_WRITING)) == FILE_DIRTY;
}

static bool page_not_refused(uint32_t state)
{
	return (state & (FILE_DIRTY | FILE_WRITING | FILE_REFUSED)) == FILE_DIRTY;
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

/* Nothing that was refused is left. */
static void error_over(struct file_object *f)
{
	if (load_relaxed(&f->refused))
		return;
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

bool writeback_due(struct file_object *f)
{
	const uint64_t retry = load_relaxed(&f->retry_ns);

	return !retry || now_ns() >= retry;
}

bool writeback_sensible(struct file_object *f)
{
	if (!load_acquire(&f->writable))
		return false;
	return writeback_due(f) ||
	       (!load_relaxed(&f->down) && load_relaxed(&f->dirty) > load_relaxed(&f->refused));
}

/* --- a pass --- */

static struct write_pass pass_begin(struct file_object *f, uint32_t first, uint32_t end,
				    uint32_t from, bool all)
{
	return (struct write_pass){.first = first,
				   .from = from,
				   .page = from,
				   .end = MIN(end, f->pages),
				   .fits = all ? page_to_write : page_not_refused};
}

/* Does the disk seem to take nothing? */
static bool pass_hopeless(const struct write_pass *pass)
{
	return pass->failures >= FAILURES_MOST && now_ns() - pass->failing_ns >= PATIENCE_NS;
}

static bool pass_over(const struct write_pass *pass)
{
	return pass->again || pass_hopeless(pass);
}

/* 0, or what kept pages out of the file: -EAGAIN if it came to that. */
static int pass_end(struct vm *vm, struct file_object *f, const struct write_pass *pass)
{
	const bool hopeless = pass_hopeless(pass);

	lock_acquire(&f->write_lock);
	if (hopeless || pass->again)
		store_relaxed(&f->write_hand, pass->page);
	if (hopeless || pass->written)
		store_relaxed(&f->down, hopeless);
	if (pass->failed)
		error_note(vm, f, pass->failed, pass->err);
	else if (pass->written)
		error_over(f);
	lock_release(&f->write_lock);
	return pass->again ? -EAGAIN : pass->err;
}

static int pass_write(struct pager *self, struct file_object *f, struct write_pass *pass,
		      uint32_t first, uint32_t count)
{
	int err = cache_write(self, f, first, count);

	if (!err)
		pass->failures = 0;
	else if (err == -EAGAIN)
		pass->again = true;
	else if (!pass->failures++)
		pass->failing_ns = now_ns();
	return err;
}

/* These have been written, or not. */
static void pass_put(struct vm *vm, struct file_object *f, struct write_pass *pass, uint32_t first,
		     uint32_t count, int err)
{
	const bool refused = err && err != -EAGAIN;

	if (refused) {
		add_relaxed(&f->refused, count);
		pass->failed += count;
		pass->err = pass->err ? pass->err : err;
	} else if (!err) {
		add_relaxed(&vm->count.written, count);
		pass->written += count;
	}
	for (uint32_t page = first; page < first + count; page++) {
		uint32_t state = page_take_wait(f, page) & ~(uint32_t)FILE_WRITING;

		if (err)
			state = page_dirty(f, state) | (refused ? FILE_REFUSED : 0);
		page_put(vm, f, page, state);
	}
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

/* Locks the next dirty page, and those behind it. */
static bool run_find(struct vm *vm, struct file_object *f, struct file_run *run,
		     struct write_pass *pass)
{
	const uint32_t chunk = 1u << CHUNK_SHIFT;

	run->count = 0;
	while (pass->page < pass->end && !run->count) {
		const uint32_t page = pass->page;

		if (!load_relaxed(&f->cached[page >> CHUNK_SHIFT])) {
			pass->page += chunk - page % chunk;
			continue;
		}
		if (pass->fits(load_relaxed(&f->state[page]))) {
			run->first = page;
			run->state[0] = page_take_wait(f, page);
			if (pass->fits(run->state[0]))
				run->count = 1;
			else
				page_put(vm, f, page, run->state[0]);
		}
		pass->page++;
	}
	if (!run->count)
		return false;
	run_grow(vm, f, run, MIN(write_most(f), pass->end - run->first), false, pass->fits);
	pass->page = run->first + run->count;
	return true;
}

/* The rest of a pass that did not begin with its first page. False: there is none. */
static bool pass_turn(struct write_pass *pass)
{
	if (pass->from == pass->first)
		return false;
	pass->page = pass->first;
	pass->end = pass->from;
	pass->from = pass->first;
	return true;
}

/* Alone, since together they failed. Where the disk takes nothing the rest has failed with them. */
static void run_write_singly(struct vm *vm, struct pager *self, struct file_object *f,
			     struct write_pass *pass, const struct file_run *run, int err)
{
	for (uint32_t page = run->first; page < run->first + run->count; page++) {
		if (pass_over(pass))
			pass->page = MIN(pass->page, page);
		else
			err = pass_write(self, f, pass, page, 1);
		pass_put(vm, f, pass, page, 1, err);
	}
}

/* Writes the next run of dirty pages, as far as that can be done. The caller holds the write lock. False: there was none. */
static bool writeback_run(struct vm *vm, struct pager *self, struct file_object *f,
			  struct write_pass *pass)
{
	struct file_run run;
	uint32_t refused = 0;
	int err;

	while (!run_find(vm, f, &run, pass)) {
		if (!pass_turn(pass))
			return false;
	}
	if (run_protect(f, &run)) {
		/* Not just now (an event that somebody must read first, memory of the system): those that became protected were
		 * told so by their words. */
		pass->again = true;
		run_put(vm, f, &run);
		return true;
	}
	for (uint32_t i = 0; i < run.count; i++) {
		refused += !!(run.state[i] & FILE_REFUSED);
		run.state[i] =
			(run.state[i] & ~(uint32_t)(FILE_DIRTY | FILE_REFUSED)) | FILE_WRITING;
	}
	sub_relaxed(&f->refused, refused);
	sub_relaxed(&f->dirty, run.count);
	run_put(vm, f, &run);
	/* From here on somebody may write to them: what the file gets may be mixed, and they are dirty again. */
	err = pass_write(self, f, pass, run.first, run.count);
	if (!err || err == -EAGAIN || run.count == 1)
		pass_put(vm, f, pass, run.first, run.count, err);
	else
		run_write_singly(vm, self, f, pass, &run, err);
	return true;
}

/* --- who begins it --- */

int writeback(struct vm *vm, struct pager *self, struct file_object *f, uint32_t page,
	      uint32_t count, bool all)
{
	const uint32_t end = count < f->pages - page ? page + count : f->pages;
	const uint32_t hand = load_relaxed(&f->write_hand);
	struct write_pass pass =
		pass_begin(f, page, end, hand > page && hand < end ? hand : page, all);
	bool more = true;

	while (more && !pass_over(&pass)) {
		lock_acquire(&f->write_lock);
		more = writeback_run(vm, self, f, &pass);
		lock_release(&f->write_lock);
		file_crew_breathe();
	}
	return pass_end(vm, f, &pass);
}

bool writeback_some(struct vm *vm, struct pager *self, struct file_object *f, uint32_t page)
{
	struct write_pass pass = pass_begin(f, 0, f->pages, page, writeback_due(f));
	bool more = true;

	while (more && !pass.written && !pass_over(&pass)) {
		lock_acquire(&f->write_lock);
		more = writeback_run(vm, self, f, &pass);
		lock_release(&f->write_lock);
	}
	return !pass_end(vm, f, &pass) || pass.written;
}

int writeback_all(struct vm *vm, struct pager *self, struct file_object *f, uint32_t page,
		  uint32_t count)
{
	const uint64_t until = now_ns() + PATIENCE_NS;
	int err, unsynced;

	/* What has no window or no protection just now has not been written, and nobody may be told that it has. */
	while ((err = writeback(vm, self, f, page, count, true)) == -EAGAIN && now_ns() < until)
		sched_yield();
	/* The kernel tells of a flush that failed once, whoever asks first: nobody flushes after that before it is counted here. */
	lock_acquire(&f->sync_lock);
	unsynced = file_source_sync(&f->out);
	lock_acquire(&f->write_lock);
	if (err == -EAGAIN)
		error_note(vm, f, MAX(load_relaxed(&f->dirty), 1u), err);
	else if (unsynced)
		error_note(vm, f, 0, unsynced);
	else if (!err)
		error_over(f);
	lock_release(&f->write_lock);
	lock_release(&f->sync_lock);
	return err ? err : unsynced;
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
