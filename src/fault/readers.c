/* SPDX-License-Identifier: BSD-2-Clause */
#include "fault/readers.h"

void readers_init(struct readers *r, unsigned wanted)
{
	store_relaxed(&r->reading, 0);
	store_relaxed(&r->wanted, wanted);
	store_relaxed(&r->stop, false);
	waitq_init(&r->followers);
}

static bool place_take(struct readers *r)
{
	uint32_t reading = load_relaxed(&r->reading);

	while (reading < load_relaxed(&r->wanted)) {
		if (cas_relaxed(&r->reading, &reading, reading + 1))
			return true;
	}
	return false;
}

/* A follower comes forward if there are too few readers. The places are counted before, the queue looked at after,
 * with the fence of waitq_active between: a follower that is just going to sleep sees the free place. */
static void place_offer(struct readers *r)
{
	if (load_relaxed(&r->reading) < load_relaxed(&r->wanted) && waitq_active(&r->followers))
		waitq_wake_one(&r->followers);
}

void readers_set(struct readers *r, unsigned wanted)
{
	if (load_relaxed(&r->wanted) != wanted) {
		store_relaxed(&r->wanted, wanted);
		place_offer(r);
	}
}

void readers_enter(struct readers *r, bool *place)
{
	struct waiter me;

	while (!*place && !load_relaxed(&r->stop)) {
		waitq_prepare(&r->followers, &me, WAIT_EXCLUSIVE);
		*place = place_take(r);
		if (!*place && !load_relaxed(&r->stop))
			(void)waitq_sleep(&me, 0);
		(void)waitq_finish(&r->followers, &me);
	}
}

void readers_leave(struct readers *r, bool *place)
{
	if (!*place)
		return;
	*place = false;
	sub_relaxed(&r->reading, 1);
	place_offer(r);
}

void readers_yield(struct readers *r, bool *place)
{
	if (load_relaxed(&r->reading) > load_relaxed(&r->wanted))
		readers_leave(r, place);
}

void readers_stop(struct readers *r)
{
	store_relaxed(&r->stop, true);
	waitq_wake_all(&r->followers);
}
