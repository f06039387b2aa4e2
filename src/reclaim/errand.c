/* SPDX-License-Identifier: BSD-2-Clause */
/* What others have the background thread do: errands, and what a fork needs; and waiting until a job has ended. */

#include "reclaim/reclaim.h"

int reclaim_errand(struct reclaim *r, int (*fn)(void *data), void *data)
{
	struct errand errand = {.fn = fn, .data = data};
	struct waiter me;

	lock_acquire(&r->errand_lock);
	/* Pairs with the acquire in errand_run. */
	store_release(&r->errand, &errand);
	for (;;) {
		waitq_prepare(&r->errand_done, &me, WAIT_SHARED);
		/* Pairs with the release in errand_run. */
		if (!load_acquire(&r->errand))
			break;
		vm_attention(r->vm);
		(void)waitq_sleep(&me, 0);
		(void)waitq_finish(&r->errand_done, &me);
	}
	(void)waitq_finish(&r->errand_done, &me);
	lock_release(&r->errand_lock);
	return errand.result;
}

bool errand_run(struct reclaim *r)
{
	struct errand *errand = load_acquire(&r->errand);

	if (!errand)
		return false;
	errand->result = errand->fn(errand->data);
	store_release(&r->errand, NULL);
	waitq_wake_all(&r->errand_done);
	return true;
}

void reclaim_wait_filled(struct reclaim *r)
{
	unsigned waited = 0;
	uint32_t ended;

	fence_seq_cst();
	ended = load_acquire(&r->ended);
	while (load_acquire(&r->state) == FILLING && load_acquire(&r->ended) == ended)
		wait_a_little(&waited);
}

void reclaim_quiesce(struct reclaim *r)
{
	const uint32_t ended = load_acquire(&r->ended);
	unsigned dropped = 0, waited = 0;

	/* Not until it is IDLE: handlers that find nothing to take try again and again, and who looks now and then may never see it. */
	while (load_acquire(&r->state) != IDLE && load_acquire(&r->ended) == ended) {
		if (!job_work(r, r->pager, JOB_MAX, &dropped))
			wait_a_little(&waited);
		vm_wake_meanwhile(r->vm);
	}
	writeback_flush(r);
}

/* By the background thread: the job that was under way ends first, then every page comes in. */
static int bring_in(void *data)
{
	struct reclaim *r = data;

	reclaim_quiesce(r);
	return vm_bring_in(r->vm, r->pager);
}

void reclaim_hold(struct reclaim *r)
{
	add_relaxed(&r->vm->hold, 1);
	/* Pairs with the fence in job_fill: either it sees the hold, or reclaim_quiesce sees its state. */
	fence_seq_cst();
}

int reclaim_hold_for_fork(struct reclaim *r)
{
	reclaim_hold(r);
	return reclaim_errand(r, bring_in, r);
}

void reclaim_release(struct reclaim *r)
{
	sub_relaxed(&r->vm->hold, 1);
	vm_attention(r->vm);
}

void reclaim_after_fork(struct reclaim *r)
{
	lock_init(&r->errand_lock, RANK_ERRAND, "errand");
	waitq_init(&r->errand_done);
	store_relaxed(&r->errand, NULL);
	store_relaxed(&r->next, NULL);
	store_relaxed(&r->stop, false);
	/* A thread may have been just about to find that a fork holds. */
	store_relaxed(&r->state, IDLE);
	store_relaxed(&r->movers.taken, 0);
	store_relaxed(&r->gather.round, 0);
	packer_after_fork(&r->pager->packer);
}
