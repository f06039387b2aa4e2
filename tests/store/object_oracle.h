/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the tests of the compressed store share: a store over a pool, and an oracle that knows what every object is to be, and
 * what is to be charged.
 */
#ifndef WEIR_TESTS_STORE_OBJECT_ORACLE_H
#define WEIR_TESTS_STORE_OBJECT_ORACLE_H

#include "../frames.h"
#include "../unit.h"

#include "base/atomic.h"
#include "store/compressed.h"

enum { SLOT_BYTES = 1 << SLOT_SHIFT, OBJECTS = 4096 };

struct fixture {
	struct weir_pool *pool;
	struct compressed store;
};

static inline struct fixture *fixture_make(size_t pool_bytes)
{
	static struct fixture f;

	f.pool = frames_open(pool_bytes);
	assert_int_equal(compressed_init(&f.store, f.pool), 0);
	return &f;
}

static inline void fixture_end(struct fixture *f)
{
	assert_int_equal(compressed_validate(&f->store), 0);
	assert_int_equal(weir_pool_validate(f->pool), 0);
	compressed_destroy(&f->store);
	weir_pool_destroy(f->pool);
}

/* An object of so many bytes whose contents follow from its page and its seed. */
static inline void object_make(void *room, page_no_t page, size_t size, uint64_t seed)
{
	struct object *obj = room;

	obj->page = page;
	obj->bytes = (size - sizeof(*obj)) & 0x1fff;
	obj->codec = CODEC_RAW;
	obj->check = seed;
	random_bytes(&seed, obj->packed, obj->bytes);
}

/* What the oracle knows of one page. */
struct entry {
	slot_t slot;
	uint64_t seed;
	uint16_t size; /* 0: the page has no object */
};

static inline bool entry_intact(struct compressed *store, const struct entry *e, page_no_t page)
{
	_Alignas(8) char expected[OBJECT_MAX];

	object_make(expected, page, e->size, e->seed);
	return compressed_room(store, e->slot) >= e->size &&
	       !memcmp(compressed_object(store, e->slot), expected, e->size);
}

static inline int entry_put(struct compressed *store, struct entry *e, page_no_t page, size_t size,
			    uint64_t seed)
{
	_Alignas(8) char object[OBJECT_MAX];
	int err;

	object_make(object, page, size, seed);
	err = compressed_put(store, object, size, &e->slot);
	if (!err) {
		e->size = (uint16_t)size;
		e->seed = seed;
	}
	return err;
}

/* Sizes as pages give them: some tiny, most in the middle, some whole. */
static inline size_t size_random(uint64_t *seed)
{
	switch (random_below(seed, 4)) {
	case 0:
		return OBJECT_MAX;
	case 1:
		return sizeof(struct object) + 1 + random_below(seed, 200);
	default:
		return sizeof(struct object) + 1 + random_below(seed, 1 << PAGE_SHIFT);
	}
}

static inline size_t class_bytes_of(size_t size)
{
	return ALIGN_UP(size, (size_t)SLOT_BYTES);
}

/* --- an oracle --- */

struct oracle {
	struct fixture *f;
	struct entry entry[OBJECTS];
	uint64_t live, bytes, seed;
};

static inline void oracle_counts(struct oracle *o)
{
	struct compressed *store = &o->f->store;
	uint64_t spans = load_relaxed(&store->span_bytes);

	assert_int_equal(load_relaxed(&store->objects), o->live);
	assert_int_equal(load_relaxed(&store->class_bytes), o->bytes);
	assert_int_equal(load_relaxed(&o->f->store.class_bytes), o->bytes);
	assert_int_equal(spans, frames_used(o->f->pool) << PAGE_SHIFT);
	assert_int_equal(compressed_slack(store), spans - o->bytes);
}

static inline void oracle_put(struct oracle *o, page_no_t page)
{
	size_t size = size_random(&o->seed);

	assert_int_equal(
		entry_put(&o->f->store, &o->entry[page], page, size, random_next(&o->seed)), 0);
	o->live++;
	o->bytes += class_bytes_of(size);
}

static inline void oracle_free(struct oracle *o, page_no_t page)
{
	struct entry *e = &o->entry[page];

	assert_true(entry_intact(&o->f->store, e, page));
	compressed_free(&o->f->store, e->slot);
	o->live--;
	o->bytes -= class_bytes_of(e->size);
	e->size = 0;
}

/* Is the frame a part of something that is allocated? */
static inline bool frame_is_used(struct weir_pool *pool, weir_pfn_t pfn)
{
	struct weir_frame_info info;

	for (unsigned order = 0; order <= WEIR_POOL_ORDER_MAX; order++) {
		assert_int_equal(weir_pool_frame_read(pool, pfn & ~((1u << order) - 1), &info), 0);
		if (info.state == WEIR_FRAME_ALLOCATED && info.order >= order)
			return true;
	}
	return false;
}

/* Every object whole; no two slots share a unit; all of them in frames that the pool has handed out. */
static inline void oracle_compare(struct oracle *o)
{
	const size_t units = (size_t)o->f->store.frames << (PAGE_SHIFT - SLOT_SHIFT);
	char *taken = calloc(1, units);

	for (page_no_t page = 0; page < OBJECTS; page++) {
		const struct entry *e = &o->entry[page];
		weir_pfn_t first, last;

		if (!e->size)
			continue;
		assert_true(entry_intact(&o->f->store, e, page));
		for (size_t u = 0; u < class_bytes_of(e->size) >> SLOT_SHIFT; u++) {
			assert_true(e->slot + u < units);
			assert_false(taken[e->slot + u]);
			taken[e->slot + u] = 1;
		}
		first = e->slot >> (PAGE_SHIFT - SLOT_SHIFT);
		last = (weir_pfn_t)((e->slot + (class_bytes_of(e->size) >> SLOT_SHIFT) - 1) >>
				    (PAGE_SHIFT - SLOT_SHIFT));
		for (weir_pfn_t pfn = first; pfn <= last; pfn++)
			assert_true(frame_is_used(o->f->pool, pfn));
	}
	free(taken);
	oracle_counts(o);
	assert_int_equal(compressed_validate(&o->f->store), 0);
}

static inline struct oracle *oracle_make(size_t pool_bytes)
{
	static struct oracle o;

	memset(&o, 0, sizeof(o));
	o.f = fixture_make(pool_bytes);
	o.seed = test_seed();
	return &o;
}

/* Frees what is left: then everything is as it was at the start. */
static inline void oracle_end(struct oracle *o)
{
	for (page_no_t page = 0; page < OBJECTS; page++) {
		if (o->entry[page].size)
			oracle_free(o, page);
	}
	oracle_counts(o);
	assert_int_equal(frames_used(o->f->pool), 0);
	assert_int_equal(load_relaxed(&o->f->store.class_bytes), 0);
	fixture_end(o->f);
}

#endif
