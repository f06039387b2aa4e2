/* SPDX-License-Identifier: BSD-2-Clause */
#include "pool/pool.h"

#include <errno.h>
#include <string.h>

#include "os/mem.h"

enum { WORD_BITS = 64 };

static size_t bitmap_bytes(pfn_t frames)
{
	return ALIGN_UP((size_t)frames / 8, PAGE_SIZE);
}

int pool_init(struct pool *pool, size_t bytes)
{
	size_t frames =
		MIN(ALIGN_UP(bytes, (size_t)1 << (PAGE_SHIFT + POOL_ORDER_MAX)) >> PAGE_SHIFT,
		    (size_t)UINT32_MAX & ~(size_t)(WORD_BITS - 1));

	memset(pool, 0, sizeof(*pool));
	lock_init(&pool->lock, RANK_POOL, "pool");
	pool->frames = (pfn_t)frames;
	pool->used = mem_alloc(bitmap_bytes(pool->frames));
	pool->backed = mem_alloc(bitmap_bytes(pool->frames));
	pool->base = mem_alloc(frames << PAGE_SHIFT);
	if (pool->used && pool->backed && pool->base)
		return 0;
	pool_destroy(pool);
	return -ENOMEM;
}

void pool_destroy(struct pool *pool)
{
	mem_release(pool->used, bitmap_bytes(pool->frames));
	mem_release(pool->backed, bitmap_bytes(pool->frames));
	mem_release(pool->base, (size_t)pool->frames << PAGE_SHIFT);
	memset(pool, 0, sizeof(*pool));
}

/* The bits of an aligned run inside its word: a run never crosses one, since 2^POOL_ORDER_MAX = WORD_BITS. */
static uint64_t run_mask(pfn_t pfn, unsigned order)
{
	uint64_t ones = order == POOL_ORDER_MAX ? ~0ull : (1ull << (1u << order)) - 1;

	return ones << (pfn % WORD_BITS);
}

/* Lowest free run at or above the hint, or frames if there is none. */
static pfn_t run_find(const struct pool *pool, unsigned order)
{
	const pfn_t step = 1u << order;

	for (pfn_t pfn = pool->hint[order]; pfn < pool->frames;) {
		uint64_t word = pool->used[pfn / WORD_BITS];

		if (!~word) {
			pfn = ALIGN_DOWN(pfn, WORD_BITS) + WORD_BITS;
			continue;
		}
		if (!(word & run_mask(pfn, order)))
			return pfn;
		pfn += step;
	}
	return pool->frames;
}

int64_t pool_get(struct pool *pool, unsigned order)
{
	pfn_t pfn;
	uint64_t mask, had;

	assert_always(order <= POOL_ORDER_MAX);
	lock_acquire(&pool->lock);
	pfn = run_find(pool, order);
	pool->hint[order] = pfn;
	if (pfn >= pool->frames) {
		lock_release(&pool->lock);
		return -ENOMEM;
	}
	mask = run_mask(pfn, order);
	had = pool->backed[pfn / WORD_BITS] & mask;
	pool->used[pfn / WORD_BITS] |= mask;
	pool->backed[pfn / WORD_BITS] |= mask;
	pool->hint[order] = pfn + (1u << order);
	pool->top = MAX(pool->top, pfn + (1u << order));
	add_relaxed(&pool->in_use, 1u << order);
	sub_relaxed(&pool->free_backed, (uint32_t)__builtin_popcountll(had));
	lock_release(&pool->lock);
	return pfn;
}

void pool_put(struct pool *pool, pfn_t pfn, unsigned order)
{
	uint64_t mask;

	assert_always(order <= POOL_ORDER_MAX && pfn < pool->frames && pfn % (1u << order) == 0);
	mask = run_mask(pfn, order);
	lock_acquire(&pool->lock);
	if ((pool->used[pfn / WORD_BITS] & mask) != mask)
		panic("pool: frame %u, order %u is freed twice", pfn, order);
	pool->used[pfn / WORD_BITS] &= ~mask;
	for (unsigned o = 0; o <= POOL_ORDER_MAX; o++)
		pool->hint[o] = MIN(pool->hint[o], ALIGN_DOWN(pfn, 1u << o));
	sub_relaxed(&pool->in_use, 1u << order);
	add_relaxed(&pool->free_backed, 1u << order);
	lock_release(&pool->lock);
}

unsigned pool_trim(struct pool *pool, unsigned keep)
{
	unsigned trimmed = 0;

	lock_acquire(&pool->lock);
	for (pfn_t word = DIV_UP(pool->top, WORD_BITS); word-- > 0;) {
		uint64_t idle = pool->backed[word] & ~pool->used[word];

		if (load_relaxed(&pool->free_backed) <= keep)
			break;
		while (idle) {
			unsigned first = (unsigned)__builtin_ctzll(idle);
			uint64_t from = idle >> first;
			unsigned run = ~from ? (unsigned)__builtin_ctzll(~from) : WORD_BITS;
			uint64_t mask = (run == WORD_BITS ? ~0ull : (1ull << run) - 1) << first;

			if (mem_discard(pool_address(pool, word * WORD_BITS + first),
					(size_t)run << PAGE_SHIFT))
				goto out;
			pool->backed[word] &= ~mask;
			sub_relaxed(&pool->free_backed, run);
			trimmed += run;
			idle &= ~mask;
		}
	}
out:
	lock_release(&pool->lock);
	return trimmed;
}

int pool_validate(struct pool *pool)
{
	uint32_t in_use = 0, free_backed = 0;
	int err = 0;

	lock_acquire(&pool->lock);
	for (pfn_t word = 0; word < pool->frames / WORD_BITS; word++) {
		in_use += (uint32_t)__builtin_popcountll(pool->used[word]);
		free_backed +=
			(uint32_t)__builtin_popcountll(pool->backed[word] & ~pool->used[word]);
		if (pool->used[word] & ~pool->backed[word])
			err = -EINVAL;
	}
	for (unsigned order = 0; order <= POOL_ORDER_MAX; order++) {
		for (pfn_t pfn = 0; pfn < MIN(pool->hint[order], pool->frames);
		     pfn += 1u << order) {
			if (!(pool->used[pfn / WORD_BITS] & run_mask(pfn, order)))
				err = -EINVAL;
		}
	}
	if (in_use != load_relaxed(&pool->in_use) ||
	    free_backed != load_relaxed(&pool->free_backed))
		err = -EINVAL;
	lock_release(&pool->lock);
	return err;
}
