/* SPDX-License-Identifier: BSD-2-Clause */
/* What the parts of vm/file.h share: the page's lock, and runs of locked pages. */
#ifndef WEIR_VM_FILE_PAGE_H
#define WEIR_VM_FILE_PAGE_H

#include "vm/file.h"

/* A region over a file. */
struct file_region {
	struct region region;
	struct file_hold hold;
};

static inline struct file_region *file_region_of(struct region *region)
{
	return CONTAINER_OF(region, struct file_region, region);
}

/* --- the page's lock --- */

/* False: it is busy just now. */
static inline bool page_try(struct file_object *f, uint32_t page, uint32_t *state)
{
	uint32_t s = load_relaxed(&f->state[page]);

	while (!(s & FILE_BUSY)) {
		/* Pairs with the release in page_put. */
		if (cas_acquire(&f->state[page], &s, s | FILE_BUSY)) {
			*state = s;
			return true;
		}
	}
	return false;
}

/* For who holds no page: waits, yielding. Holders hold it for a read of the file at the most. */
uint32_t page_take_wait(struct file_object *f, uint32_t page);
/* Ends it with a new state, and wakes who is parked. */
void page_put(struct vm *vm, struct file_object *f, uint32_t page, uint32_t state);
/* A locked page is dirty from now on; returns its new state. */
uint32_t page_dirty(struct file_object *f, uint32_t state);

/* --- runs --- */

/* Neighbours, locked, but for holes: RUN_HOLE is the state of a page that is not the run's. Only what is read ahead has any, and
 * neither end of it is one. */
#define RUN_HOLE (1u << 31)
struct file_run {
	uint32_t first, count;
	uint32_t state[FILE_RUN];
};

static inline bool page_absent(uint32_t state)
{
	return !(state & FILE_CACHED);
}
static inline bool page_cached(uint32_t state)
{
	return state & FILE_CACHED;
}

/* The run becomes longer by neighbours for which the function says yes, upwards or downwards, up to most pages and to the file's
 * borders. It ends at one that is busy. */
void run_grow(struct vm *vm, struct file_object *f, struct file_run *run, uint32_t most, bool down,
	      bool (*fits)(uint32_t state));
/* An empty run becomes all absent pages from run->first on up to `end` that are free just now, as far as no hole is longer than
 * HOLE_MOST: one read of the disk goes over it. */
void run_gather(struct vm *vm, struct file_object *f, struct file_run *run, uint32_t end);
void run_put(struct vm *vm, struct file_object *f, const struct file_run *run);

/* --- contents (file_cache.c) --- */

/* Pages that one call writes: where the cache is reached through windows, they go by way of the caller's pager. */
static inline uint32_t write_most(const struct file_object *f)
{
	return f->kmap ? (uint32_t)RUN_MAX : (uint32_t)FILE_RUN;
}

/*
 * Charges the pages of a run that is absent to a slot, and reads them, read_most at once; those that are there then are CACHED, with
 * what `extra` says. Never waits for room: page `must` is charged already, and is read alone if that helps (UINT32_MAX: none is). Returns the
 * number of pages that are there, and in *err what was wrong with the first of the others: -EAGAIN: no memory, or no room.
 */
uint32_t read_most(void);
uint32_t cache_load(struct vm *vm, struct pager *self, struct file_object *f, struct file_run *run,
		    unsigned slot, uint32_t must, uint32_t extra, int *err);
/* Room for a page that must come, charged: waits for it, and goes over the limit where there can be none just now. 0 or
 * -ENOMEM. */
int cache_charge(struct vm *vm, struct file_object *f, uint32_t page, unsigned slot);
/* Copies contents of a page out, or in. False: no window just now. */
bool cache_copy(struct file_object *f, uint32_t page, uint32_t at, void *bytes, uint32_t count,
		bool in);
/* Those of the pages that are clean, and that nobody needs at the moment, leave. */
void cache_drop(struct vm *vm, struct file_object *f, uint32_t first, uint32_t end);
/* The file gets the contents of pages. 0 or -errno. */
int cache_write(struct pager *self, struct file_object *f, uint32_t first, uint32_t count);

/* Nobody has it open any more: it goes, if all of it is written. By the background thread. */
void file_outlived(struct vm *vm, struct file_object *f);

/* --- writing back (file_write.c) --- */

/* May somebody but a sync try to write, or has all that is dirty just failed? */
bool writeback_sensible(struct file_object *f);
/* And what failed, too? */
bool writeback_due(struct file_object *f);
/* Has the crew begin behind a page, if it is sensible and nobody has yet. */
void writeback_ask(struct vm *vm, struct file_object *f, uint32_t page);
/* What the crew then does, so many pages from there on; all: also what has just failed. 0, or the first error: what could be
 * written has been all the same; but -EAGAIN: it has stopped. */
int writeback(struct vm *vm, struct pager *self, struct file_object *f, uint32_t page,
	      uint32_t count, bool all);
/* Writes some dirty pages, preferably from that one on. True: there may be clean ones now. */
bool writeback_some(struct vm *vm, struct pager *self, struct file_object *f, uint32_t page);
/* Everything dirty of the pages, and what was written before is on the disk. 0, or why not: that is counted, and another sync of
 * the same holder may have taken it (error_take) before the caller does. So who is told by the caller is told of either. */
int writeback_all(struct vm *vm, struct pager *self, struct file_object *f, uint32_t page,
		  uint32_t count);
/* An error that this holder was not told of, or 0. */
int error_take(struct file_object *f, struct file_hold *hold);

/* --- readahead (file_ahead.c) --- */

/* The reader's flow that a page continues, and how many pages from there on (negative: downwards) it will want; 0: none. */
struct flow *flow_match(struct file_object *f, uint32_t page, uint32_t most, int32_t *window);
/* A flow that continues none begins with a fault that brought all pages before next. */
void flow_begin(struct flow *flow, uint32_t next);
/* It has come by count pages from page on; the crew is asked to read what comes next. */
void flow_advance(struct vm *vm, struct file_object *f, struct flow *flow, uint32_t page,
		  uint32_t count, int32_t window, unsigned slot);
/* What an upward reader that was said to go on so has left behind leaves first, where room is needed. */
void flow_pass(struct vm *vm, struct file_object *f, uint32_t page, uint32_t count, unsigned slot);
/* How many pages a reader may have read ahead, of whoever pays. */
uint32_t flow_most(const struct file_object *f, unsigned slot);

/* --- jobs of the crew --- */

enum job_kind { JOB_AHEAD, JOB_WRITEBACK, JOB_SYNC, JOB_DROP, JOB_COPY };

struct file_job {
	enum job_kind kind;
	struct file_object *file;
	uint32_t page, count;
	unsigned slot;
	/* Of those that are waited for. */
	struct file_hold *hold;
	char *buffer; /* COPY: from or to here, bytes of the first page from `at` on */
	uint32_t at;
	bool in; /* COPY: into the file */
	int result;
	_Atomic uint32_t done; /* (A) slept on as a futex */
};

/* The calling thread's buffer, of FILE_RUN pages. NULL: it is none of the crew, or has none. */
char *file_crew_buffer(void);
/* Nobody waits for it; where there is no place left it is forgotten. False: that. */
bool file_crew_ask(struct vm *vm, const struct file_job *job);
/* Waits until it is done; its result. */
int file_crew_do(struct vm *vm, struct file_job *job);
/* In the middle of a long job, with no region and no container in its hands: who waits in file_crew_quiesce goes on. */
void file_crew_breathe(void);
/* No job of the object is left, and none is under way. From a thread that is none of the crew. */
void file_crew_forget(struct vm *vm, struct file_object *f);

#endif
