/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pool follows the load, by the background thread: blocks come online when free frames run short, and the emptiest one goes
 * offline when frames have been plenty for a while.
 *
 *     free frames    0 ........ FREE_LOW ............................. what is free without the emptiest block
 *                    grow, now  │ nothing is done                      > FREE_HIGH and it is mostly free, for PATIENCE
 *                                                                        ticks in a row: it goes
 *
 * A free frame without memory costs 16 bytes, so being generous is cheap; what goes with a block is those, and order: the
 * objects that are left in it move closer together. A fault never waits for any of this: where there is no frame, the page stays
 * where it is, and a handler brings a block online itself, unless one is just coming or going (weir_pool_grow never
 * waits); an offline that is under way then gives up.
 *
 * By hand blocks come and go as well. Those that came so stay, however much is free: the pool keeps as many as were online then.
 */
#include <errno.h>
#include <sched.h>

#include "base/log.h"
#include "reclaim/reclaim.h"

enum {
	FREE_LOW = FOLLOW_FREE_LOW,
	FREE_HIGH = 3 * FREE_LOW,
	PATIENCE = 10,
	/* Of a block: it is worth to move so few frames. */
	MOSTLY_FREE_NUM = 3,
	MOSTLY_FREE_DEN = 4,
};
/* A page is busy for microseconds, but its thread may have to wait for a CPU. */
#define TRY_NS 2000000u
#define BY_HAND_NS 200000000u

/* Where compressed pages are. */
static enum weir_zone zone_of(const struct reclaim *r)
{
	return r->vm->memory->zone;
}

bool follow_short(struct reclaim *r)
{
	return !r->follow.grown_out &&
	       weir_pool_free_frames(r->vm->memory->pool, zone_of(r)) < FREE_LOW;
}

void follow_grow(struct reclaim *r)
{
	struct weir_pool *pool = r->vm->memory->pool;

	while (follow_short(r)) {
		int64_t block = weir_pool_grow(pool, zone_of(r));

		if (block == -EAGAIN)
			break;
		if (block < 0) {
			r->follow.grown_out = true;
			if (block != -ENOMEM)
				log_once("no block of memory for compressed pages can come online "
					 "(%s)",
					 errno_name((int)block));
		}
	}
}

static int block_offline(struct reclaim *r, uint32_t block, uint64_t timeout_ns)
{
	const struct weir_pool_evacuation how = {.size = sizeof(how), .timeout_ns = timeout_ns};
	int err = weir_pool_offline(r->vm->memory->pool, block, &how, NULL);

	if (!err)
		r->follow.grown_out = false;
	return err;
}

/* Would everything still fit, with room to spare, without this many frames? */
static bool plenty(struct reclaim *r, uint64_t without)
{
	return weir_pool_free_frames(r->vm->memory->pool, zone_of(r)) > without + FREE_HIGH;
}

static uint32_t blocks_online(const struct reclaim *r)
{
	struct weir_pool *pool = r->vm->memory->pool;
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	const struct weir_zone_stats *zone = &stats.zone[zone_of(r)];

	(void)weir_pool_stats_read(pool, &stats);
	return (uint32_t)((zone->total - zone->offline) / weir_pool_block_frames(pool));
}

static void shrink(struct reclaim *r)
{
	struct weir_pool *pool = r->vm->memory->pool;
	const uint32_t frames = weir_pool_block_frames(pool);
	uint32_t free = 0;
	int64_t block = plenty(r, frames) ? weir_pool_emptiest(pool, zone_of(r), &free) : -1;

	if (block < 0 || (uint64_t)free * MOSTLY_FREE_DEN < (uint64_t)frames * MOSTLY_FREE_NUM) {
		r->follow.plenty_ticks = 0;
		return;
	}
	if (++r->follow.plenty_ticks < PATIENCE || blocks_online(r) <= r->follow.by_hand)
		return;
	/* One a tick; a failure means that somebody needs it, or that pages are busy: not again at once. */
	if (block_offline(r, (uint32_t)block, TRY_NS))
		r->follow.plenty_ticks = 0;
}

/* --- by hand --- */

static uint64_t block_bytes(const struct reclaim *r)
{
	return (uint64_t)weir_pool_block_frames(r->vm->memory->pool) << PAGE_SHIFT;
}

int64_t follow_online(struct reclaim *r, uint64_t bytes)
{
	struct weir_pool *pool = r->vm->memory->pool;
	uint64_t done = 0;
	int64_t block = 0;

	while (done < bytes && block >= 0) {
		block = weir_pool_grow(pool, zone_of(r));
		if (block >= 0) {
			done += block_bytes(r);
		} else if (block == -EAGAIN) {
			/* A handler brings one online just now. */
			sched_yield();
			block = 0;
		}
	}
	r->follow.by_hand = blocks_online(r);
	return done ? (int64_t)done : block;
}

int64_t follow_offline(struct reclaim *r, uint64_t bytes)
{
	struct weir_pool *pool = r->vm->memory->pool;
	const uint32_t frames = weir_pool_block_frames(pool);
	uint64_t done = 0;
	int64_t err = 0;

	while (done < bytes && !err) {
		uint32_t free = 0;
		const int64_t block = weir_pool_emptiest(pool, zone_of(r), &free);

		if (block < 0)
			err = block;
		/* Else what is in it has no place to go, or a block would come back at once. */
		else if (weir_pool_free_frames(pool, zone_of(r)) < (uint64_t)frames + FREE_LOW)
			err = -EBUSY;
		else
			err = block_offline(r, (uint32_t)block, BY_HAND_NS);
		done += err ? 0 : block_bytes(r);
		vm_wake_meanwhile(r->vm);
	}
	r->follow.by_hand = MIN(r->follow.by_hand, blocks_online(r));
	return done ? (int64_t)done : err;
}

/* The next block that holds objects, in turn, whatever it costs: so that a test sees what is rare else. */
static void churn(struct reclaim *r)
{
	struct weir_pool *pool = r->vm->memory->pool;
	const uint32_t frames = weir_pool_block_frames(pool);
	const uint32_t blocks = weir_pool_end(pool, zone_of(r)) / frames;

	for (uint32_t i = 0; i < blocks; i++) {
		const uint32_t block = r->follow.churned++ % blocks;
		struct weir_block_info info;

		if (weir_pool_block_read(pool, block, &info) || info.state != WEIR_BLOCK_ONLINE ||
		    !info.allocated)
			continue;
		while (weir_pool_free_frames(pool, zone_of(r)) <
			       frames + info.allocated + FREE_LOW &&
		       weir_pool_grow(pool, zone_of(r)) >= 0)
			;
		(void)block_offline(r, block, TRY_NS);
		return;
	}
}

void follow_tick(struct reclaim *r)
{
	follow_grow(r);
	if (r->follow.churn_ns && now_ns() - r->follow.churned_ns >= r->follow.churn_ns) {
		churn(r);
		r->follow.churned_ns = now_ns();
	} else if (!r->follow.churn_ns) {
		shrink(r);
	}
}
