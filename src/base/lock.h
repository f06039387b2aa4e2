/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Locks with ranks.
 *
 * A thread takes locks in rising rank only; a try-lock may go against the order, since it cannot wait. Debug
 * builds (WEIR_DEBUG) keep the ranks that a thread holds and panic at the first wrong order, with both names.
 *
 * A lock is a futex word: 0 free, 1 held, 2 held and perhaps waited for. It calls no malloc and may be used by
 * every thread, also by those that serve faults. It is not recursive and not for signal handlers.
 */
#ifndef WEIR_BASE_LOCK_H
#define WEIR_BASE_LOCK_H

#include "base/atomic.h"
#include "base/base.h"

/* Outermost first. A rank that is free to use: take the one below the first lock taken inside. */
enum lock_rank {
	RANK_MAPS = 3,	      /* agent/: what is mapped where */
	RANK_BUS = 5,	      /* os/: the SIGBUS handler is put in or taken out */
	RANK_FORK = 7,	      /* fork.c: one fork at a time, until its child serves itself */
	RANK_TREE = 8,	      /* control/: which containers there are, also over a fork */
	RANK_INSTANCE = 10,   /* weir.c: start, stop, the list of regions */
	RANK_STORE = 12,      /* stores.c: one store is replaced at a time */
	RANK_ERRAND = 15,     /* reclaim/: one errand at a time */
	RANK_PLACEMENT = 20,  /* fault/: which thread is bound where */
	RANK_FILE_SYNC = 24,  /* vm/: one at a time has the disk flush a file */
	RANK_FILE_WRITE = 25, /* vm/: one at a time writes pages of a file back */
	RANK_FILE_CACHE = 27, /* vm/: one at a time gives a file's cache memory, or takes it */
	RANK_CREW = 28,	      /* vm/: jobs that wait for the crew */
	RANK_ENGINE = 30,     /* cmdq/: one engine, also while it runs */
	RANK_ADVISED = 40,    /* vm/: ranges that somebody said something of */
	RANK_HOTPLUG = 45,    /* pool/: one block comes or goes at a time */
	RANK_CLASS = 50,      /* store/: one size class of the compressed store */
	RANK_FILE = 55,	      /* store/: slots of the file store */
	RANK_WINDOWS = 56,    /* pool/: who has windows on its frames */
	RANK_KMAP = 57,	      /* kmap/: one at a time asks for two slots, and waits with it */
	RANK_POOL = 60,	      /* pool/: free frames */
	RANK_BUCKET = 65,     /* kmap/: a bucket of the hash table */
	RANK_STOCKS = 70,     /* control/: the list of stocks, and draining them */
	RANK_CONTAINER = 75,  /* control/: the tree and its counters */
	RANK_SCHEMES = 78,    /* store/: the list of kinds of store */
	RANK_PRESSURE = 80,   /* control/: one container's stall times */
	RANK_WAITQ = 90,      /* base/: the list inside a wait queue */
};

struct lock {
	_Atomic uint32_t word; /* (A) */
#ifdef WEIR_DEBUG
	uint16_t rank;	  /* (C) */
	const char *name; /* (C) */
#endif
};

#ifdef WEIR_DEBUG
#define LOCK_INIT(rank_, name_) {.word = 0, .rank = (rank_), .name = (name_)}
#else
#define LOCK_INIT(rank_, name_) {.word = 0}
#endif

void lock_init(struct lock *lock, enum lock_rank rank, const char *name);
bool lock_try(struct lock *lock) MUST_CHECK;

/* For lock_acquire and lock_release: it is held; somebody may wait; what debug builds check. */
void lock_wait(struct lock *lock);
void lock_wake(struct lock *lock);
#ifdef WEIR_DEBUG
void lock_order_check(const struct lock *lock);
void lock_order_push(const struct lock *lock);
void lock_order_pop(const struct lock *lock);
#else
static inline void lock_order_check(const struct lock *lock)
{
	(void)lock;
}
static inline void lock_order_push(const struct lock *lock)
{
	(void)lock;
}
static inline void lock_order_pop(const struct lock *lock)
{
	(void)lock;
}
#endif

enum { LOCK_FREE, LOCK_HELD, LOCK_WAITED };

static inline void lock_acquire(struct lock *lock)
{
	uint32_t seen = LOCK_FREE;

	lock_order_check(lock);
	/* Pairs with the exchange in lock_release. */
	if (unlikely(!cas_acquire(&lock->word, &seen, LOCK_HELD)))
		lock_wait(lock);
	lock_order_push(lock);
}

static inline void lock_release(struct lock *lock)
{
	lock_order_pop(lock);
	/* Pairs with the acquires above: the next holder sees what this one wrote. */
	if (unlikely(exchange_release(&lock->word, LOCK_FREE) == LOCK_WAITED))
		lock_wake(lock);
}

/* Futexes of this process only; both return 0 or -errno (EAGAIN, EINTR, ETIMEDOUT are everyday answers).
 * timeout_ns is relative, 0 means none. */
int futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns);
int futex_wake(_Atomic uint32_t *word, int count);

#endif
