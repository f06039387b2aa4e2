/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Wait queue with shared and exclusive waiters.
 *
 * The queue keeps shared waiters before exclusive ones. wake_one wakes every shared waiter and the first
 * exclusive one; wake_all wakes all. Exclusive waiters are last in, first out, so that the one whose caches are
 * warm runs. Any waiter can be exclusive, one that polls a condition too: it is woken, looks, and waits again.
 *
 *            waitq_prepare            wake_one / wake_all
 *   (none) ───────────────▶ QUEUED ────────────────────────▶ WOKEN ──waitq_finish──▶ (none)
 *                             └──────────waitq_finish (was not woken)──────────────▶ (none)
 *
 * How a wake-up cannot be lost: a waiter queues itself, then looks at its condition, then sleeps:
 *
 *     struct waiter me;
 *     for (;;) {
 *             waitq_prepare(&queue, &me, WAIT_EXCLUSIVE);
 *             if (condition)
 *                     break;
 *             waitq_sleep(&me, 0);
 *             waitq_finish(&queue, &me);
 *     }
 *     waitq_finish(&queue, &me);
 *
 * The waker makes the condition true before it calls wake_*. Both sides take the queue's lock in between, or
 * meet at the fence of waitq_active. An exclusive waiter that was woken and does not use what it was woken for
 * must pass the wake-up on: waitq_finish returns true when a wake-up was consumed.
 */
#ifndef WEIR_BASE_WAITQ_H
#define WEIR_BASE_WAITQ_H

#include "base/lock.h"

enum wait_kind { WAIT_SHARED, WAIT_EXCLUSIVE };

struct waiter {
	struct waiter *next, *prev; /* (Q) */
	_Atomic uint32_t state;	    /* (A) QUEUED to WOKEN under the lock; slept on as a futex */
	enum wait_kind kind;	    /* (Q) */
};

struct waitq {
	struct lock lock;	 /* (Q) protects the list */
	struct waiter *head;	 /* (Q) shared ones first, then exclusive, newest exclusive first */
	_Atomic uint32_t queued; /* (A) how many; written under the lock, read without */
};

#define WAITQ_INIT {.lock = LOCK_INIT(RANK_WAITQ, "waitq")}

void waitq_init(struct waitq *queue);
void waitq_prepare(struct waitq *queue, struct waiter *me, enum wait_kind kind);
/* Sleeps until woken or until timeout_ns have passed (0: no timeout). False: the time is over. Returns early
 * for a signal as if woken; the caller looks at its condition anyhow. */
bool waitq_sleep(struct waiter *me, uint64_t timeout_ns);
/* Leaves the queue. True: somebody had woken this waiter. */
bool waitq_finish(struct waitq *queue, struct waiter *me);
/* Both return how many waiters they woke. */
unsigned waitq_wake_one(struct waitq *queue);
unsigned waitq_wake_all(struct waitq *queue);
/* Is anybody waiting? For wakers that want to skip the lock: has the fence that pairs with waitq_prepare. */
bool waitq_active(struct waitq *queue);

/*
 * For who waits until another thread has done something, where no word is there to sleep on: yields a few times, then sleeps, at most
 * 0.2 ms. Who only yields takes from the thread that is waited for, and on a busy machine each yield is a time slice of others. *steps
 * is 0 at first. In a signal handler, too.
 */
void wait_a_little(unsigned *steps);
/* Sleeps for so long, or until a signal comes. No cancellation point, so that a handler of signals may, too. */
void sleep_ns(uint64_t ns);

#endif
