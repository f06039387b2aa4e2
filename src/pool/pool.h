/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pool: where page frames live. A simple one: a reservation of address space, a bitmap of what is in use,
 * runs of 2^order frames, naturally aligned, found lowest first so that the top empties.
 *
 * Every frame is in one of three states:
 *
 *      pool_get            pool_put            pool_trim
 *   ┌──────────▶ in use ───────────▶ free, backed ──────────▶ free, bare ──┐
 *   │               ▲───────pool_get──────┘                                │
 *   └──────────────────────────────────────────────────────────────────────┘
 *
 * Thread-safe; the lock is RANK_POOL and nothing is called under it but the system call that trims.
 * Invariant: in_use + backed + bare = frames; a frame's bit in used[] is set exactly while it is in use.
 */
#ifndef WEIR_POOL_POOL_H
#define WEIR_POOL_POOL_H

#include "base/atomic.h"
#include "base/base.h"
#include "base/lock.h"

typedef uint32_t pfn_t;
enum { POOL_ORDER_MAX = 6 };

struct pool {
	struct lock lock;
	char *base;			/* (C) the address of frame 0 */
	pfn_t frames;			/* (C) */
	uint64_t *used, *backed;	/* (L) one bit a frame; backed: memory may be behind it */
	pfn_t hint[POOL_ORDER_MAX + 1]; /* (L) no free run of that order starts below */
	pfn_t top;			/* (L) frames from here on were never handed out */
	_Atomic uint32_t in_use;	/* (A) written under the lock */
	_Atomic uint32_t free_backed;	/* (A) written under the lock */
};

/* Reserves room for so many bytes; no memory is used before frames are. 0 or -ENOMEM. */
int pool_init(struct pool *pool, size_t bytes);
void pool_destroy(struct pool *pool);
/* The first pfn of a run of 2^order frames, contents undefined; -ENOMEM when the reservation is used up or the
 * system gives no memory. */
int64_t pool_get(struct pool *pool, unsigned order) MUST_CHECK;
void pool_put(struct pool *pool, pfn_t pfn, unsigned order);
/* Gives memory of free frames back, highest first, until at most keep of them have memory. Returns how many
 * frames lost theirs. */
unsigned pool_trim(struct pool *pool, unsigned keep);
/* For tests: every invariant, 0 or -EINVAL. */
int pool_validate(struct pool *pool);

static inline char *pool_address(const struct pool *pool, pfn_t pfn)
{
	return pool->base + ((size_t)pfn << PAGE_SHIFT);
}

#endif
