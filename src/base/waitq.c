/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/waitq.h"

#include <errno.h>
#include <sched.h>

enum { IDLE, QUEUED, WOKEN };

void waitq_init(struct waitq *queue)
{
	*queue = (struct waitq)WAITQ_INIT;
}

static void unlink_waiter(struct waitq *queue, struct waiter *w)
{
	if (w->prev)
		w->prev->next = w->next;
	else
		queue->head = w->next;
	if (w->next)
		w->next->prev = w->prev;
	w->next = w->prev = NULL;
	sub_relaxed(&queue->queued, 1);
}

void waitq_prepare(struct waitq *queue, struct waiter *me, enum wait_kind kind)
{
	struct waiter *before = NULL, *after;

	me->kind = kind;
	store_relaxed(&me->state, QUEUED);
	lock_acquire(&queue->lock);
	after = queue->head;
	/* Shared: to the front. Exclusive: behind the last shared one, before the older exclusive ones. */
	while (kind == WAIT_EXCLUSIVE && after && after->kind == WAIT_SHARED) {
		before = after;
		after = after->next;
	}
	me->prev = before;
	me->next = after;
	if (before)
		before->next = me;
	else
		queue->head = me;
	if (after)
		after->prev = me;
	add_relaxed(&queue->queued, 1);
	lock_release(&queue->lock);
	/* Pairs with the fence in waitq_active: either the waker sees us, or we see its condition. */
	fence_seq_cst();
}

bool waitq_sleep(struct waiter *me, uint64_t timeout_ns)
{
	int err = 0;

	if (load_relaxed(&me->state) == QUEUED)
		err = futex_wait(&me->state, QUEUED, timeout_ns);
	return err != -ETIMEDOUT;
}

bool waitq_finish(struct waitq *queue, struct waiter *me)
{
	bool woken;

	lock_acquire(&queue->lock);
	woken = load_relaxed(&me->state) == WOKEN;
	if (load_relaxed(&me->state) == QUEUED)
		unlink_waiter(queue, me);
	store_relaxed(&me->state, IDLE);
	lock_release(&queue->lock);
	return woken;
}

/* The futex wake happens under the lock: waitq_finish takes it too, so the waiter cannot be gone yet. */
static void wake(struct waitq *queue, struct waiter *w)
{
	unlink_waiter(queue, w);
	store_relaxed(&w->state, WOKEN);
	(void)futex_wake(&w->state, 1);
}

unsigned waitq_wake_one(struct waitq *queue)
{
	unsigned woken = 0;
	bool exclusive = false;

	lock_acquire(&queue->lock);
	while (queue->head && !exclusive) {
		exclusive = queue->head->kind == WAIT_EXCLUSIVE;
		wake(queue, queue->head);
		woken++;
	}
	lock_release(&queue->lock);
	return woken;
}

unsigned waitq_wake_all(struct waitq *queue)
{
	unsigned woken = 0;

	lock_acquire(&queue->lock);
	for (; queue->head; woken++)
		wake(queue, queue->head);
	lock_release(&queue->lock);
	return woken;
}

bool waitq_active(struct waitq *queue)
{
	/* Pairs with the fence in waitq_prepare. */
	fence_seq_cst();
	return load_relaxed(&queue->queued) != 0;
}

void sleep_ns(uint64_t ns)
{
	_Atomic uint32_t never = 0;

	(void)futex_wait(&never, 0, ns);
}

void wait_a_little(unsigned *steps)
{
	enum { YIELDS = 8, NAP_NS = 25000, NAP_SHIFT_MAX = 3 };

	if ((*steps)++ < YIELDS)
		sched_yield();
	else
		sleep_ns((uint64_t)NAP_NS << MIN(*steps - YIELDS, NAP_SHIFT_MAX));
}
