/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The crew: threads that read and write files while nobody, or a thread without descriptors, waits for it.
 *
 * Jobs stand in a ring, and are done in turn, several at a time. One that is waited for is told of when it is done. What a
 * crew has in its hands (an object, a container) stays until it is through: file_crew_quiesce, file_crew_forget.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "control/stock.h"
#include "os/thread.h"
#include "vm/file_page.h"

struct mate {
	struct crew *crew;		  /* (C) */
	struct pager *pager;		  /* (C) */
	char *buffer;			  /* (C) of FILE_RUN pages, or NULL */
	pthread_t thread;		  /* (C) */
	struct file_object *_Atomic file; /* (A) written under the lock: what it works on */
	_Atomic uint64_t serving; /* (A) odd while it works; moves on within long jobs, too */
};

struct place {
	struct file_job job;
	struct file_job *waits; /* who is told; NULL: nobody */
};

struct crew {
	struct vm *vm;		       /* (C) */
	struct lock lock;	       /* (J) RANK_CREW */
	struct place place[FILE_JOBS]; /* (J) */
	uint32_t first, count;	       /* (J) */
	struct waitq idle;	       /* mates without work */
	_Atomic bool stop;	       /* (A) */
	char *buffers;		       /* (C) of all of them, or NULL */
	unsigned mates;		       /* (C) once they run */
	struct mate mate[FILE_CREW];
};

#define CREW_BYTES ALIGN_UP(sizeof(struct crew), PAGE_SIZE)
#define PAGER_BYTES ALIGN_UP(sizeof(struct pager), PAGE_SIZE)
#define BUFFER_BYTES ((size_t)FILE_RUN << PAGE_SHIFT)

static _Thread_local struct mate *mate_self __attribute__((tls_model("initial-exec")));

void file_crew_breathe(void)
{
	/* Pairs with the acquire in file_crew_quiesce. */
	if (mate_self)
		add_acq_rel(&mate_self->serving, 2);
}

char *file_crew_buffer(void)
{
	return mate_self ? mate_self->buffer : NULL;
}

/* --- what they do --- */

/* Who has asked may have closed meanwhile, and another container have the slot soon (slot_unused in file.c). So it is asked before
 * each run, since between two nobody waits for this thread. */
static bool asked_for(struct file_object *f, unsigned slot)
{
	/* Pairs with the one in file_crew_quiesce: who does not see this thread at work any more has it see that there is no hold. */
	fence_seq_cst();
	return load_relaxed(&f->holds[slot]) > 0;
}

/* Nobody waits for these pages: as many as there is room for. */
static void ahead(struct vm *vm, struct pager *self, struct file_object *f, uint32_t page,
		  uint32_t count, unsigned slot)
{
	const uint32_t end = MIN(page + count, f->pages);

	while (page < end && asked_for(f, slot)) {
		struct weir_container *container = owners_get(&f->owners, slot);
		struct file_run run = {.first = page, .count = 0};
		uint32_t got;
		int err;

		if (load_relaxed(&f->state[page]) & (FILE_CACHED | FILE_BUSY)) {
			page++;
			continue;
		}
		run_gather(vm, f, &run, MIN(end, page + read_most()));
		if (!run.count) {
			page++;
			continue;
		}
		/* A reader in a row takes the place of what it has read before, and not of the little that there is. */
		if (container_pressed(container) && container_usage(container, CHARGE_FILE) >=
							    (uint64_t)run.count << (PAGE_SHIFT + 2))
			(void)file_reclaim(vm, self, container, run.count);
		page += run.count;
		got = cache_load(vm, self, f, &run, slot, UINT32_MAX, FILE_AHEAD, &err);
		add_relaxed(&vm->count.ahead, got);
		run_put(vm, f, &run);
		file_crew_breathe();
		if (!got)
			break;
	}
}

/* The page, and those behind it up to `most`, cached and locked; the run may be shorter. */
static int run_hold(struct vm *vm, struct pager *self, struct file_object *f, struct file_run *run,
		    uint32_t page, uint32_t most, unsigned slot)
{
	int err;

	run->first = page;
	run->count = 1;
	run->state[0] = page_take_wait(f, page);
	if (page_cached(run->state[0])) {
		run_grow(vm, f, run, most, false, page_cached);
		return 0;
	}
	err = cache_charge(vm, f, page, slot);
	if (err) {
		run_put(vm, f, run);
		return err;
	}
	run_grow(vm, f, run, MIN(most, read_most()), false, page_absent);
	if (cache_load(vm, self, f, run, slot, page, 0, &err)) {
		/* No fault has asked for them. */
		add_relaxed(&vm->count.ahead, run->count);
		return 0;
	}
	run_put(vm, f, run);
	return err;
}

/* Between the job's buffer and pages, from and to bytes that need not begin or end with one. Returns bytes, or -errno. */
static int copy(struct vm *vm, struct pager *self, struct file_job *job)
{
	struct file_object *f = job->file;
	struct file_run run;
	uint32_t done = 0;

	while (done < job->count) {
		uint32_t at = (job->at + done) % PAGE_SIZE;
		uint32_t page = job->page + (job->at + done) / (uint32_t)PAGE_SIZE;
		uint32_t pages = DIV_UP(at + job->count - done, (uint32_t)PAGE_SIZE);
		int err = run_hold(vm, self, f, &run, page, pages, job->slot);

		for (uint32_t i = 0; !err && i < run.count && done < job->count; i++, at = 0) {
			uint32_t n = MIN((uint32_t)PAGE_SIZE - at, job->count - done);

			if (!cache_copy(f, run.first + i, at, job->buffer + done, n, job->in)) {
				run_put(vm, f, &run);
				err = -EAGAIN;
				break;
			}
			if (job->in)
				run.state[i] = page_dirty(f, run.state[i]);
			done += n;
		}
		if (!err)
			run_put(vm, f, &run);
		else if (err != -EAGAIN)
			return done ? (int)done : err;
		else
			sched_yield();
	}
	return (int)done;
}

static int job_run(struct vm *vm, struct mate *mate, struct file_job *job)
{
	struct file_object *f = job->file;
	const uint32_t end = job->count < f->pages - job->page ? job->page + job->count : f->pages;
	int own, told;

	switch (job->kind) {
	case JOB_AHEAD:
		ahead(vm, mate->pager, f, job->page, job->count, job->slot);
		return 0;
	case JOB_COPY:
		return copy(vm, mate->pager, job);
	case JOB_WRITEBACK:
		(void)writeback(vm, mate->pager, f, job->page, end - job->page, writeback_due(f));
		store_relaxed(&f->writing_back, false);
		return 0;
	case JOB_SYNC:
		own = writeback_all(vm, mate->pager, f, job->page, end - job->page);
		told = error_take(f, job->hold);
		return told ? told : own;
	case JOB_DROP:
		(void)writeback(vm, mate->pager, f, job->page, end - job->page, true);
		cache_drop(vm, f, job->page, end);
		return 0;
	}
	return -EINVAL;
}

/* --- the ring --- */

static bool place_take(struct crew *crew, struct mate *mate, struct place *place)
{
	bool some;

	lock_acquire(&crew->lock);
	some = crew->count > 0;
	if (some) {
		*place = crew->place[crew->first];
		crew->first = (crew->first + 1) % FILE_JOBS;
		crew->count--;
		/* Pairs with the acquire in file_crew_quiesce: before the job's slot is looked at. */
		add_acq_rel(&mate->serving, 1);
	}
	store_relaxed(&mate->file, some ? place->job.file : NULL);
	lock_release(&crew->lock);
	return some;
}

/* Handlers come here, too, and threads of the program: one of these that was interrupted with a lock of the ring would have its
 * handler of signals wait, by a fault, for a thread that waits for that lock. */
static bool place_add(struct crew *crew, const struct place *place)
{
	bool room;
	THREAD_SIGNALS_BLOCKED;

	lock_acquire(&crew->lock);
	/* Who waits has a place although the others have filled the ring. */
	room = crew->count < (place->waits ? FILE_JOBS : FILE_JOBS - 8);
	if (room)
		crew->place[(crew->first + crew->count++) % FILE_JOBS] = *place;
	lock_release(&crew->lock);
	if (room && waitq_active(&crew->idle))
		(void)waitq_wake_one(&crew->idle);
	return room;
}

static void tell(struct file_job *waits, int result)
{
	waits->result = result;
	/* Pairs with the acquire in file_crew_do. The word may be gone after it: waking a strange word is harmless. */
	store_release(&waits->done, 1);
	(void)futex_wake(&waits->done, 1);
}

static void *mate_main(void *data)
{
	struct mate *mate = data;
	struct crew *crew = mate->crew;
	struct place place;
	struct waiter me;

	mate_self = mate;
	(void)stock_open();
	if (crew->vm->crew_begin)
		crew->vm->crew_begin(mate->pager);
	for (;;) {
		bool some = place_take(crew, mate, &place);

		if (!some) {
			waitq_prepare(&crew->idle, &me, WAIT_EXCLUSIVE);
			some = place_take(crew, mate, &place);
			if (!some && !load_relaxed(&crew->stop))
				(void)waitq_sleep(&me, 0);
			/* A wake-up that another job had found already is passed on. */
			if (waitq_finish(&crew->idle, &me) && some)
				(void)waitq_wake_one(&crew->idle);
		}
		if (some) {
			int result = job_run(crew->vm, mate, &place.job);

			lock_acquire(&crew->lock);
			store_relaxed(&mate->file, NULL);
			add_acq_rel(&mate->serving, 1);
			lock_release(&crew->lock);
			if (place.waits)
				tell(place.waits, result);
		} else if (load_relaxed(&crew->stop)) {
			break;
		}
	}
	stock_close();
	return NULL;
}

bool file_crew_ask(struct vm *vm, const struct file_job *job)
{
	return place_add(vm->crew, &(struct place){.job = *job});
}

int file_crew_do(struct vm *vm, struct file_job *job)
{
	unsigned waited = 0;

	store_relaxed(&job->done, 0);
	while (!place_add(vm->crew, &(struct place){.job = *job, .waits = job}))
		wait_a_little(&waited);
	/* Pairs with the release in tell. */
	while (!load_acquire(&job->done))
		(void)futex_wait(&job->done, 0, 0);
	return job->result;
}

/* --- start and stop --- */

int file_crew_start(struct vm *vm)
{
	struct crew *crew = vm->crew;
	int err = 0;

	if (crew)
		return 0;
	crew = mem_alloc(CREW_BYTES);
	if (!crew)
		return -ENOMEM;
	crew->vm = vm;
	crew->buffers = mem_buffer_alloc(FILE_CREW * BUFFER_BYTES);
	lock_init(&crew->lock, RANK_CREW, "crew");
	waitq_init(&crew->idle);
	vm->crew = crew;
	for (unsigned i = 0; i < FILE_CREW && !err; i++) {
		struct mate *mate = &crew->mate[i];

		mate->crew = crew;
		mate->buffer = crew->buffers ? crew->buffers + i * BUFFER_BYTES : NULL;
		mate->pager = mem_alloc(PAGER_BYTES);
		err = mate->pager ? thread_start(&mate->thread, "weir-file", mate_main, mate)
				  : -ENOMEM;
		if (err)
			mem_release(mate->pager, PAGER_BYTES);
		else
			crew->mates++;
	}
	/* One will do. */
	if (crew->mates)
		return 0;
	file_crew_stop(vm);
	return err;
}

void file_crew_stop(struct vm *vm)
{
	struct crew *crew = vm->crew;

	if (!crew)
		return;
	store_relaxed(&crew->stop, true);
	waitq_wake_all(&crew->idle);
	for (unsigned i = 0; i < crew->mates; i++) {
		pthread_join(crew->mate[i].thread, NULL);
		mem_release(crew->mate[i].pager, PAGER_BYTES);
	}
	vm->crew = NULL;
	mem_release(crew->buffers, FILE_CREW * BUFFER_BYTES);
	mem_release(crew, CREW_BYTES);
}

void file_crew_quiesce(struct vm *vm)
{
	struct crew *crew = vm->crew;
	uint64_t seen[FILE_CREW] = {0};

	fence_seq_cst();
	for (unsigned i = 0; crew && i < crew->mates; i++)
		seen[i] = load_acquire(&crew->mate[i].serving);
	for (unsigned i = 0; crew && i < crew->mates; i++) {
		unsigned waited = 0;

		while ((seen[i] & 1) && load_acquire(&crew->mate[i].serving) == seen[i])
			wait_a_little(&waited);
	}
}

/* Is one of them at work on it? Takes its jobs out of the ring. */
static bool forget_once(struct crew *crew, const struct file_object *f)
{
	uint32_t kept = 0;
	bool busy = false;

	lock_acquire(&crew->lock);
	for (uint32_t i = 0; i < crew->count; i++) {
		struct place place = crew->place[(crew->first + i) % FILE_JOBS];

		if (place.job.file != f)
			crew->place[(crew->first + kept++) % FILE_JOBS] = place;
	}
	crew->count = kept;
	for (unsigned i = 0; i < crew->mates; i++)
		busy |= load_relaxed(&crew->mate[i].file) == f;
	lock_release(&crew->lock);
	return busy;
}

void file_crew_forget(struct vm *vm, struct file_object *f)
{
	unsigned waited = 0;

	while (vm->crew && forget_once(vm->crew, f))
		wait_a_little(&waited);
}
