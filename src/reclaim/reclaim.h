/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reclaim: choose pages, copy them, drop them.
 *
 * There is one *job* at a time: a batch of victims that the clock chose. Any thread may work on it: the background
 * thread, and handlers whose fault found the container near its limit.
 *
 *               job_fill                    last item done                dropped
 *      IDLE ───────────────▶ FILLING ─▶ OPEN ───────────────▶ DROPPING ─────────────▶ IDLE
 *        ▲  compare-and-swap    │ nothing found
 *        └──────────────────────┘
 *
 *   FILLING   one thread scans and write-protects; it alone touches the clock's hand and the list of victims
 *   OPEN      the list is constant; items are claimed, a few at a time, by a compare-and-swap on the ticket, which names the
 *             job, so a thread that slept cannot claim from a later job; a packet compresses them (mover.h); each claimed item is
 *             counted in done, whatever became of the packet
 *   DROPPING  the thread that completed the last item drops what is clean, by a packet, in one call
 *
 * Cleaning: a dirty victim is write-protected in a range with its neighbours, compressed where it stands (readable
 * all the while), and clean once the copy is in the store. Dropping: clean victims leave together by one
 * process_madvise under their busy bits. Pages that were written meanwhile simply are no longer CLEANING or CLEAN.
 *
 * The second job of the background thread is *writeback*: when compressed objects outgrow their share, the ones
 * longest away go to the file, copied under the busy bit and written without it.
 *
 * Locks: none is held over a job. Letters: (F) only the thread in FILLING, (O) constant while OPEN and DROPPING,
 * (T) only the background thread.
 */
#ifndef WEIR_RECLAIM_RECLAIM_H
#define WEIR_RECLAIM_RECLAIM_H

#include <pthread.h>

#include "reclaim/gather.h"
#include "reclaim/mover.h"

enum {
	JOB_MAX = 256
}; /* 256 pages share one shootdown; more won nothing (measured: 64 / 256 = 125 / 141) */

struct victim {
	struct region *region;
	uint32_t page;
};

/* Whose pages the clock steps over: a container's own, or also those of all below it. */
struct tenancy {
	const struct weir_container *container;
	bool below;
};

/* Where it stands. A page is meant where owners has the bit of its owner. */
struct window {
	struct region *region;
	uint32_t first, count, owners;
};

enum { FOLLOW_FREE_LOW = 1024 }; /* frames: below this a block comes online */

/* What the background thread remembers of the pool's load: see follow.c. */
struct follow {
	unsigned plenty_ticks;	       /* (T) */
	_Atomic bool grown_out;	       /* (A) no block is left to come online */
	uint64_t churn_ns, churned_ns; /* churn_ns (C): how often a block goes for the sake of it */
	uint32_t churned;	       /* (T) where its turn is */
	uint32_t by_hand;	       /* (T) so many blocks stay online, if they are */
};

/*
 * A batch of pages for the store.
 *
 *      FREE ──GATHER──▶ FILLING ──WRITE──▶ FLYING ──the store is done, TURN──▶ FREE
 *                          └────────────────────── nothing in it, or no WRITE ──▶ FREE
 */
enum { WRITES = 3 };
enum write_state { WRITE_FREE, WRITE_FILLING, WRITE_FLYING };
struct write {
	enum write_state state;			   /* (T) */
	struct store_batch batch;		   /* (T) the store's while FLYING */
	uint64_t bytes;				   /* (T) that its pages take compressed */
	struct weir_container *payer[STORE_BATCH]; /* (T) whose swap each page is charged to */
};

/* Work that needs weir's descriptor table, done by the background thread for another. */
struct errand {
	int (*fn)(void *data);
	void *data;
	int result;
};

enum job_state { IDLE, FILLING, OPEN, DROPPING };

/* Pauses after failed writes, each twice as long as the one before. */
#define RETRY_STEP_LEAST_NS 10000000u
#define RETRY_STEP_MOST_NS 1000000000u

struct reclaim {
	struct vm *vm;		       /* (C) */
	_Atomic uint32_t state;	       /* (A) IDLE, FILLING, OPEN, DROPPING */
	_Atomic uint64_t ticket;       /* (A) job << 32 | items << 16 | next */
	_Atomic uint32_t done;	       /* (A) items of the current job */
	_Atomic uint32_t ended;	       /* (A) jobs, and attempts at one that found nothing */
	uint32_t job;		       /* (F) */
	struct weir_container *giver;  /* (F) (O) whose pages the job takes */
	_Atomic uint64_t packed;       /* (A) bytes of pages that the job has copied */
	_Atomic uint64_t copied;       /* (A) what their copies take */
	struct victim victim[JOB_MAX]; /* (F) (O) */
	struct movers movers;
	struct clock_hand writeback_hand; /* (T) */
	struct victim cold[STORE_BATCH];  /* (T) pages chosen for the store */
	unsigned colds;			  /* (T) */
	struct write write[WRITES];	  /* (T) batches on their way there */
	unsigned write_turn;		  /* (T) the last one that was begun */
	struct write *filling;		  /* (T) the one that GATHER and WRITE mean */
	_Atomic uint64_t
		flying;	     /* (A) bytes of compressed pages in those; by the background thread */
	struct pager *pager; /* (T) */
	_Atomic uint64_t
		retry_ns; /* (A) after a failed write: not before; written by the background thread */
	/* (A) how long that is, from then; 0: the last one succeeded; written by the background thread. Who finds one of the two
	 * words new and the other one old takes a pause for one that is shorter or over, and asks again. */
	_Atomic uint32_t retry_step_ns;
	_Atomic bool
		write_closed; /* (A) a store is being emptied: nothing goes there; written by the background thread */
	_Atomic uint32_t turn; /* (A) which of the containers that want something is first */
	/* Nothing can be written and a job has not got below the limit: no other job before this. (A) */
	_Atomic uint64_t futile_until_ns;
	/* A thread that had faulted began the last job, so the background thread leaves the next one to them as well: it is
	 * chosen and protected while the background thread sleeps, which costs no shootdown. (A) */
	_Atomic bool faults_fill;
	struct gather gather;
	struct follow follow;
	_Atomic bool stop;	/* (A) */
	_Atomic bool quiescing; /* (A) the background thread waits until no fault is being served */
	struct lock errand_lock;       /* one errand at a time; held by the caller while it waits */
	struct errand *_Atomic errand; /* (A) set by the caller, NULL again when done */
	struct waitq errand_done;
	void (*tick)(
		void *data); /* (C) called by the background thread now and then; may be NULL */
	void *tick_data;     /* (C) */
	/* (A) set in an errand: what the background thread does next, once, before anything else. */
	void (*_Atomic next)(void *data);
	void *next_data; /* written before next */
};

int reclaim_init(struct reclaim *reclaim, struct vm *vm, struct pager *pager);
void reclaim_destroy(struct reclaim *reclaim);
/* Body of the background thread; ends after reclaim_stop. */
void reclaim_run(struct reclaim *reclaim);
void reclaim_stop(struct reclaim *reclaim);

/* For the fault path, before anything is held: sleeps while a job is being protected, if that is cheaper for all (gather.h). */
static inline void reclaim_before_fault(struct reclaim *reclaim)
{
	(void)gather_join(&reclaim->gather);
}
/* For the fault path, after a load: starts a job above the mark, helps with it near `max`. Cheap below the mark. */
void reclaim_after_fault(struct reclaim *reclaim, struct pager *self);
/* Makes room for bytes below level; control's make_room. */
enum room reclaim_make_room(struct reclaim *reclaim, struct pager *self,
			    struct weir_container *level, uint64_t bytes);
/* A level is above its high: works for it, a job at the most; control's throttle. */
void reclaim_throttle(struct reclaim *reclaim, struct pager *self, struct weir_container *level);
/* Until a container and those below it have given so many bytes, whatever comes in meanwhile, or nothing helps. Returns what they
 * have given. On the background thread. */
uint64_t reclaim_give(struct reclaim *reclaim, struct weir_container *container, uint64_t bytes);
/* Bytes that the store and the pool hold without use, beyond what is allowed; the container's slack. */
uint64_t reclaim_slack(struct reclaim *reclaim);
/* One whole job by the calling thread: choose, clean, drop. Returns pages dropped. For tests and proactive use. */
unsigned reclaim_once(struct reclaim *reclaim, struct pager *self);

/* Runs fn(data) on the background thread and returns its result. */
int reclaim_errand(struct reclaim *reclaim, int (*fn)(void *data), void *data);
/* In the child of a fork, which nothing was under way at: no errand waits, and nothing is held. */
void reclaim_after_fork(struct reclaim *reclaim);
/* On the background thread: returns when no job that was under way at the call is. */
void reclaim_quiesce(struct reclaim *reclaim);

/* Returns when no job that was choosing pages at the call does so any more: a page that was pinned before is not
 * write-protected after. */
void reclaim_wait_filled(struct reclaim *reclaim);

/* From now on no job begins, and charges go over the limit; until reclaim_release. Any thread, any number of times. */
void reclaim_hold(struct reclaim *reclaim);
void reclaim_release(struct reclaim *reclaim);
/* A fork: the same, and loads every absent page. Called by a program's thread. */
int reclaim_hold_for_fork(struct reclaim *reclaim);

/* The pool follows the load. Are free frames short, and would a block help? Brings blocks online until they are not. */
bool follow_short(struct reclaim *reclaim);
void follow_grow(struct reclaim *reclaim);
/* By the background thread, now and then: a block may go. */
void follow_tick(struct reclaim *reclaim);

/* By hand, on the background thread: bytes that came or went, in whole blocks; or, where none did, -ENOMEM, -EBUSY, -ENOENT. */
int64_t follow_online(struct reclaim *reclaim, uint64_t bytes);
int64_t follow_offline(struct reclaim *reclaim, uint64_t bytes);

/* One batch of compressed pages to the store. Returns pages that are on their way or there, 0: nothing old enough, or -errno. */
int writeback_once(struct reclaim *reclaim);
/* The same of a container's, however small its share is. NULL: of the oldest of any. */
int writeback_of(struct reclaim *reclaim, struct weir_container *target);
/* What the store has done meanwhile: pages are turned over to it. wait: for one batch, if any is under way. 0 or -errno. */
int writeback_land(struct reclaim *reclaim, bool wait);
/* The same until none is. */
void writeback_flush(struct reclaim *reclaim);
/* Could a batch begin now, without waiting for another one? On the background thread. */
bool writeback_ready(struct reclaim *reclaim);
static inline bool writeback_flying(const struct reclaim *reclaim)
{
	return load_relaxed(&reclaim->flying) > 0;
}
/* Every page of the store comes back into compressed memory (removal.c). On the background thread. */
int store_empty(struct reclaim *reclaim);
/* Moves the object of a page to another slot; for compaction. data is the struct reclaim. */
void relocate_object(void *data, page_no_t page, slot_t slot);

/* Steps a clock's hand over windows of populated pages. False: no page is populated. *laps counts wrap-arounds. */
bool clock_step(struct vm *vm, const struct tenancy *whose, struct clock_hand *hand,
		struct window *window, unsigned *laps);

/* --- between reclaim.c, the job, and demand.c, who wants one and from whom --- */

/* Pages of one job of a container: few where the limit is tiny, which a job must not empty. */
unsigned job_size(const struct weir_container *container);
/* IDLE to OPEN, by whoever gets there first. False: another thread has the job, or there is nothing to do. */
bool job_fill(struct reclaim *reclaim, struct weir_container *container);
/* Is there an item that nobody has claimed? Who would wait for the others' need not be awake: the last one says so. */
bool job_has_work(const struct reclaim *reclaim);
/* Works on at most `most` items of the job that is open; drops when it did the last one. Returns items done. */
unsigned job_work(struct reclaim *reclaim, struct pager *self, unsigned most, unsigned *dropped);

/* The errand that waits, if one does; by the background thread. */
bool errand_run(struct reclaim *reclaim);

/* --- what the mover's commands do --- */

/* A page that is CLEANING is compressed; its copy is in the store then, and it is clean. */
/* protect.c: the first so many victims, where they are dirty, become write-protected. 0 or -errno: some are not. */
int protect_victims(struct reclaim *reclaim, unsigned count);
/* Gives pages back that the job had marked. False: some are busy, and stay marked. */
bool job_abandon(const struct victim *victims, unsigned count);
void job_clean(struct reclaim *reclaim, struct pager *self, struct region *region, uint32_t page);
/* Drops those of the job's first count victims that are clean. Returns how many. */
unsigned job_drop(struct reclaim *reclaim, unsigned count);
/* Copies a page's object into the batch that is being filled, and marks it. */
void batch_add(struct reclaim *reclaim, struct region *region, uint32_t page);
/* Hands that batch to the store. */
void batch_write(struct reclaim *reclaim);
/* The store is done with a batch: the copies of all pages that have kept their mark, and were written, are those in the store. 0, or
 * the first error of a page. -EINVAL: no such batch. */
int batch_turn_over(struct reclaim *reclaim, unsigned write);

/* The last write failed, and it is not yet time for the next; or there is no store. */
bool write_paused(struct reclaim *reclaim);
bool store_failing(struct reclaim *reclaim);
/* It is paused, and it is too early to say that it will not go on: writes have not failed for so long that pauses have become as long as they
 * get. */
bool write_resumes(struct reclaim *reclaim);
/* Nothing can be written, and a job has not got below the limit lately. */
bool reclaim_futile(struct reclaim *reclaim);

enum choose { CHOOSE_UNSAFE, /* only where more is used than low protects */ CHOOSE_ANY };
/* The container at or below target to take pages from: of those that have any, the one with most beyond its effective
 * low. NULL: none. */
struct weir_container *reclaim_choose(struct reclaim *reclaim, struct weir_container *target,
				      enum choose choose);
/* Takes pages of it: drops some of a file's, or begins a job. False: nothing to be had just now. */
bool reclaim_take(struct reclaim *reclaim, struct pager *self, struct weir_container *container);
/*
 * What a job came to: pages left or were copied, and the copies take so many bytes. Where that is nearly as much, in a container that is
 * pressed, copying makes no room but writing does: what its copies take now, without these, is their *cap*, and what is more goes to
 * the file. More than a little over it no job begins, and who needs room waits for the writes. Else all that is resident would be
 * copied, at a fault's cost of many jobs, before the first page is written.
 *
 *                   job makes no room
 *       no cap ─────────────────────────▶ capped      a cap is not moved; each job, and each turn of writeback, judges anew
 *          ▲                                 │
 *          └─────────────────────────────────┘
 *              job makes room; writeback finds nothing to write
 *
 * Nobody is woken for it, and nobody waits for a cap to change: who waits does for room, looks at all of this again in each turn, and
 * goes over its limit after 50 ms in any case. That some turn finds no cap or copies below it: a capped container is over its share
 * (share_of), so that the background thread, which who waits has called, writes, or lifts the cap.
 */
void reclaim_judge(struct reclaim *reclaim, struct weir_container *container, uint64_t pages,
		   uint64_t copies);
/* The container to take pages from in the background, NULL: nobody is above its mark. */
struct weir_container *reclaim_wanted(struct reclaim *reclaim);
/* A container whose compressed pages, and those below it, are more than their share, and may go to the file. */
struct weir_container *reclaim_over_share(struct reclaim *reclaim);
/* share.c: bytes that copies of a container, and of those below it, may take before they go to the file; WEIR_NO_LIMIT: any. Any thread,
 * as container_pressed. */
uint64_t reclaim_share(const struct reclaim *reclaim, struct weir_container *container);
/* What that is follows what faults cost. By the background thread, now and then. */
void share_follow(struct reclaim *reclaim);
/* Frames without use go back to the system; sparse spans are emptied when they hold too much. */
void slack_reduce(struct reclaim *reclaim);

#endif
