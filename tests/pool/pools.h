/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pools for the tests of src/pool: small ones, with a holder of movable frames that knows where each of them is and what was
 * written there, and a listener that keeps a record.
 */
#ifndef WEIR_TESTS_POOL_POOLS_H
#define WEIR_TESTS_POOL_POOLS_H

#include "../unit.h"

#include "base/atomic.h"
#include "os/mem.h"
#include "pool/pool.h"
#include "weir/pool.h"

enum {
	BLOCK = 1024, /* frames of the smallest block: two pageblocks */
	FRAMES_MOST = 8 * BLOCK,
};

/* --- making one --- */

static inline struct weir_pool *pool_make_with(const struct weir_pool_options *given,
					       unsigned online)
{
	struct weir_pool_options options = *given;
	struct weir_pool *pool;
	uint32_t first;

	options.size = sizeof(options);
	options.block = WEIR_POOL_BLOCK_MIN;
	if (!options.low_max && !options.high_max)
		options.low_max = MIB(32);
	assert_int_equal(weir_pool_create(&options, &pool), 0);
	for (unsigned z = 0; z < 2; z++) {
		uint64_t bytes = z ? options.high_max : options.low_max;

		if (!bytes)
			continue;
		assert_int_equal(weir_pool_add(pool, (enum weir_zone)z,
					       (uint32_t)(bytes / WEIR_POOL_BLOCK_MIN), &first),
				 0);
		for (unsigned i = 0; i < online; i++)
			assert_int_equal(weir_pool_online(pool, first + i, NULL), 0);
	}
	return pool;
}

/* Zone low, room for 8 blocks, so many of them online; without caches, so that what happens is exactly what is asked for. */
static inline struct weir_pool *pool_make(unsigned online)
{
	const struct weir_pool_options options = {.cache_frames = WEIR_POOL_NO_CACHE};

	return pool_make_with(&options, online);
}

static inline struct weir_zone_stats stats_of(struct weir_pool *pool, enum weir_zone zone)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	assert_int_equal(weir_pool_stats_read(pool, &stats), 0);
	return stats.zone[zone];
}

static inline struct weir_zone_stats low_of(struct weir_pool *pool)
{
	return stats_of(pool, WEIR_ZONE_LOW);
}

/* free + isolated + allocated + cached + offline = total, of both zones, and what the walk of all descriptors says. */
static inline void pool_check(struct weir_pool *pool)
{
	for (unsigned z = 0; z < 2; z++) {
		struct weir_zone_stats s = stats_of(pool, (enum weir_zone)z);
		uint64_t runs = 0;

		assert_int_equal(s.free + s.isolated + s.allocated + s.cached + s.offline, s.total);
		for (unsigned order = 0; order <= WEIR_POOL_ORDER_MAX; order++)
			runs += s.free_runs[order] << order;
		assert_int_equal(runs, s.free);
		assert_int_equal(weir_pool_free_frames(pool, (enum weir_zone)z), s.free);
	}
	assert_int_equal(weir_pool_validate(pool), 0);
}

static inline void pool_end(struct weir_pool *pool)
{
	pool_check(pool);
	weir_pool_destroy(pool);
}

static inline weir_pfn_t get(struct weir_pool *pool, unsigned order, unsigned flags, unsigned owner)
{
	int64_t pfn = weir_pool_alloc(pool, order, flags, owner);

	assert_true(pfn >= 0);
	assert_int_equal(pfn % (1 << order), 0);
	return (weir_pfn_t)pfn;
}

static inline void put(struct weir_pool *pool, weir_pfn_t pfn, unsigned order)
{
	assert_int_equal(weir_pool_free(pool, pfn, order), 0);
}

static inline char *memory_of(struct weir_pool *pool, weir_pfn_t pfn)
{
	return (char *)weir_pool_base(pool) + ((size_t)pfn << PAGE_SHIFT);
}

static inline struct weir_frame_info info_of(struct weir_pool *pool, weir_pfn_t pfn)
{
	struct weir_frame_info info;

	assert_int_equal(weir_pool_frame_read(pool, pfn, &info), 0);
	return info;
}

static inline enum weir_block_state block_state(struct weir_pool *pool, uint32_t block)
{
	struct weir_block_info info;

	assert_int_equal(weir_pool_block_read(pool, block, &info), 0);
	return info.state;
}

static inline unsigned resident_frames(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end)
{
	static uint8_t bits[FRAMES_MOST / 8];
	unsigned count = 0;

	assert_int_equal(
		mem_resident(memory_of(pool, start), (size_t)(end - start) << PAGE_SHIFT, bits), 0);
	for (weir_pfn_t i = 0; i < end - start; i++)
		count += bits[i / 8] >> i % 8 & 1;
	return count;
}

/* --- a holder of movable frames --- */

struct holding {
	weir_pfn_t pfn;
	unsigned order;
	uint32_t seed; /* of the contents */
	bool live;
};

struct holder {
	struct weir_pool *pool;
	unsigned owner;
	struct holding held[FRAMES_MOST]; /* the private word is the index + 1 */
	unsigned count;
	unsigned asked, moved; /* by the pool */
	unsigned busy;	       /* so many times -EAGAIN first */
	unsigned fail_at;      /* the nth ask from now answers this: */
	int fail_with;
	void (*meanwhile)(struct holder *holder, weir_pfn_t from); /* during each ask */
	void *data;
};

static inline int holder_migrate(void *data, weir_pfn_t from, unsigned order, uint64_t word,
				 weir_pfn_t to)
{
	struct holder *h = data;
	struct holding *it = &h->held[word - 1];

	h->asked++;
	if (h->meanwhile)
		h->meanwhile(h, from);
	if (h->busy) {
		h->busy--;
		return -EAGAIN;
	}
	if (h->fail_at && --h->fail_at == 0)
		return h->fail_with;
	if (!it->live || it->pfn != from || it->order != order)
		return -ENOENT;
	memcpy(memory_of(h->pool, to), memory_of(h->pool, from), PAGE_SIZE << order);
	it->pfn = to;
	h->moved++;
	return 0;
}

static inline void holder_describe(void *data, weir_pfn_t pfn, uint64_t word, char *text,
				   size_t room)
{
	(void)data;
	(void)pfn;
	snprintf(text, room, "holding %llu", (unsigned long long)word);
}

static inline struct holder *holder_make(struct weir_pool *pool)
{
	static struct holder h;
	struct weir_pool_owner owner = {.size = sizeof(owner),
					.name = "holder",
					.migrate = holder_migrate,
					.describe = holder_describe,
					.data = &h};
	int id;

	memset(&h, 0, sizeof(h));
	h.pool = pool;
	id = weir_pool_owner_add(pool, &owner);
	assert_true(id > 0);
	h.owner = (unsigned)id;
	return &h;
}

static inline void holding_fill(struct holder *h, const struct holding *it)
{
	uint64_t seed = it->seed;

	for (unsigned i = 0; i < 1u << it->order; i++) {
		uint64_t word = random_next(&seed);

		memcpy(memory_of(h->pool, it->pfn + i), &word, sizeof(word));
		memcpy(memory_of(h->pool, it->pfn + i) + PAGE_SIZE - sizeof(word), &word,
		       sizeof(word));
	}
}

static inline bool holding_intact(struct holder *h, const struct holding *it)
{
	uint64_t seed = it->seed;

	for (unsigned i = 0; i < 1u << it->order; i++) {
		uint64_t word = random_next(&seed);

		if (memcmp(memory_of(h->pool, it->pfn + i), &word, sizeof(word)) ||
		    memcmp(memory_of(h->pool, it->pfn + i) + PAGE_SIZE - sizeof(word), &word,
			   sizeof(word)))
			return false;
	}
	return true;
}

/* One more; NULL: there is no room. */
static inline struct holding *hold(struct holder *h, unsigned order)
{
	struct holding *it = &h->held[h->count];
	int64_t pfn = weir_pool_alloc(h->pool, order, WEIR_POOL_MOVABLE, h->owner);

	if (pfn < 0)
		return NULL;
	h->count++;
	*it = (struct holding){(weir_pfn_t)pfn, order, h->count * 7919, true};
	weir_pool_private_set(h->pool, it->pfn, h->count);
	holding_fill(h, it);
	return it;
}

static inline void let_go(struct holder *h, struct holding *it)
{
	it->live = false;
	put(h->pool, it->pfn, it->order);
}

/* Everything that is held is where the holder thinks, with its contents and owner. */
static inline void holder_check(struct holder *h)
{
	for (unsigned i = 0; i < h->count; i++) {
		const struct holding *it = &h->held[i];
		struct weir_frame_info info;

		if (!it->live)
			continue;
		info = info_of(h->pool, it->pfn);
		assert_int_equal(info.state, WEIR_FRAME_ALLOCATED);
		assert_int_equal(info.order, it->order);
		assert_int_equal(info.owner, h->owner);
		assert_int_equal(info.private_word, i + 1);
		assert_true(holding_intact(h, it));
	}
}

static inline void let_all_go(struct holder *h)
{
	for (unsigned i = 0; i < h->count; i++) {
		if (h->held[i].live)
			let_go(h, &h->held[i]);
	}
}

/* --- a listener with a record --- */

struct record {
	struct weir_pool_listener listener;
	unsigned events[WEIR_CANCEL_OFFLINE + 1];
	int refuse[WEIR_CANCEL_OFFLINE + 1]; /* what to answer */
	weir_pfn_t start, end;		     /* of the last one */
	unsigned order;			     /* of the last event among all records */
};

static unsigned record_clock;

static inline int record_event(void *data, enum weir_pool_event event, weir_pfn_t start,
			       weir_pfn_t end)
{
	struct record *r = data;

	r->events[event]++;
	r->start = start;
	r->end = end;
	r->order = ++record_clock;
	return r->refuse[event];
}

static inline void record_listen(struct record *r, struct weir_pool *pool)
{
	memset(r, 0, sizeof(*r));
	r->listener = (struct weir_pool_listener){.fn = record_event, .data = r};
	assert_int_equal(weir_pool_listen(pool, &r->listener), 0);
}

#endif
