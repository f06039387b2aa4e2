/* SPDX-License-Identifier: BSD-2-Clause */
#include "fault/readers.h"

void readers_init(struct readers *r, unsigned wanted)
{
	store_relaxed(&r->reading, 0);
	store_relaxed(&r->wanted, wanted);
	store_relaxed(&r->blocked, 0);
	store_relaxed(&r->stop, false);
	store_relaxed(&r->woken, 0);
	waitq_init(&r->followers);
}

static uint32_t places(struct readers *r)
{
	return load_relaxed(&r->wanted) + (load_relaxed(&r->blocked) != 0);
}

static bool place_take(struct readers *r)
{
	uint32_t reading = load_relaxed(&r->reading);

	while (reading < places(r)) {
		if (cas_relaxed(&r->reading, &reading, reading + 1))
			return true;
	}
	return false;
}

/* A follower comes forward if there are fewer readers than `most`. The places are counted before, the queue looked at after,
 * with the fence of waitq_active between: a follower that is just going to sleep sees the free place. */
static void place_offer(struct readers *r, uint32_t most)
{
	if (load_relaxed(&r->reading) < most && waitq_active(&r->followers))
		add_relaxed(&r->woken, waitq_wake_one(&r->followers));
}

void readers_set(struct readers *r, unsigned wanted)
{
	if (load_relaxed(&r->wanted) != wanted) {
		store_relaxed(&r->wanted, wanted);
		place_offer(r, places(r));
	}
}

void readers_enter(struct readers *r, enum place *place)
{
	struct waiter me;

	if (*place == PLACE_BLOCKED) {
		*place = PLACE_NONE;
		sub_relaxed(&r->blocked, 1);
	}
	while (*place == PLACE_NONE && !load_relaxed(&r->stop)) {
		waitq_prepare(&r->followers, &me, WAIT_EXCLUSIVE);
		if (place_take(r))
			*place = PLACE_READING;
		else if (!load_relaxed(&r->stop))
			(void)waitq_sleep(&me, 0);
		/* The wake-up may have been for another place than the one taken here, and several may have become free
		 * at once (readers_set): whoever takes one passes it on while readers are wanted. Not for the one more,
		 * which would be a second wake-up for a hand-over. */
		(void)waitq_finish(&r->followers, &me);
		if (*place == PLACE_READING)
			place_offer(r, load_relaxed(&r->wanted));
	}
}

static void leave(struct readers *r, enum place *place, enum place now)
{
	if (*place != PLACE_READING)
		return;
	*place = now;
	if (now == PLACE_BLOCKED)
		add_relaxed(&r->blocked, 1);
	sub_relaxed(&r->reading, 1);
	place_offer(r, places(r));
}

void readers_block(struct readers *r, enum place *place)
{
	leave(r, place, PLACE_BLOCKED);
}

void readers_yield(struct readers *r, enum place *place)
{
	if (load_relaxed(&r->reading) > places(r))
		leave(r, place, PLACE_NONE);
}

void readers_stop(struct readers *r)
{
	store_relaxed(&r->stop, true);
	waitq_wake_all(&r->followers);
}
