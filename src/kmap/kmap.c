/* SPDX-License-Identifier: BSD-2-Clause */
/* What callers call: the fast path, pairs, creation, counts. */
#include "kmap/kmap.h"

#include <string.h>

#include "os/mem.h"

enum { SLOTS_DEFAULT = 512, BATCH_DEFAULT = 32 };
#define SLOT_BYTES_DEFAULT KIB(64)
#define SLOT_BYTES_MOST MIB(2)

/* --- holding --- */

static int get_elsewhere(const struct weir_kmap *kmap, weir_pfn_t pfn, void **addr)
{
	if (!kmap->low || pfn >= kmap->start)
		return -EINVAL;
	*addr = kmap->low + ((size_t)pfn << PAGE_SHIFT);
	return 0;
}

static inline int get(struct weir_kmap *kmap, weir_pfn_t pfn, unsigned how, void **addr)
{
	const weir_pfn_t frame = pfn - kmap->start;
	const uint32_t key = frame >> kmap->order;
	uint32_t found;
	int64_t index;

	if (unlikely(frame >= kmap->frames))
		return get_elsewhere(kmap, pfn, addr);
	found = assoc_find(kmap, key);
	if (likely(found) && likely(slot_usable(kmap, found - 1, how)) &&
	    likely(slot_pin(kmap, found - 1, key) == PINNED)) {
		index = found - 1;
	} else {
		index = slot_get(kmap, key, how);
		if (unlikely(index < 0))
			return (int)index;
	}
	*addr = slot_address(kmap, (uint32_t)index) +
		((size_t)(frame & ((1u << kmap->order) - 1)) << PAGE_SHIFT);
	return 0;
}

int weir_kmap(struct weir_kmap *kmap, weir_pfn_t pfn, void **addr)
{
	return get(kmap, pfn, 0, addr);
}

int weir_kmap_try(struct weir_kmap *kmap, weir_pfn_t pfn, void **addr)
{
	return get(kmap, pfn, HOW_TRY, addr);
}

int weir_kmap_fault(struct weir_kmap *kmap, weir_pfn_t pfn, void **addr)
{
	return get(kmap, pfn, HOW_FAULT, addr);
}

int weir_kunmap(struct weir_kmap *kmap, const void *addr)
{
	const size_t at = (uintptr_t)addr - (uintptr_t)kmap->base;

	if (likely(at < kmap->bytes))
		return slot_put(kmap, (uint32_t)(at >> kmap->shift));
	if (kmap->low && (uintptr_t)addr - (uintptr_t)kmap->low < (uintptr_t)kmap->start
									  << PAGE_SHIFT)
		return 0;
	return -EINVAL;
}

/*
 * Who asks for two holds the lock from the first to the second: so all others who hold some have what they need, and return
 * them. The fault path has a lock of its own where the reserve is enough for a pair, for others may hold theirs for as
 * long as slots are held.
 */
static int get_pair(struct weir_kmap *kmap, const weir_pfn_t pfn[2], unsigned how, void *addr[2])
{
	struct lock *lock = &kmap->pair[how & HOW_FAULT && kmap->reserve >= 2];
	int err;

	if (kmap->slots - (how & HOW_FAULT ? 0 : kmap->reserve) < 2)
		return -EINVAL;
	lock_acquire(lock);
	err = get(kmap, pfn[0], how, &addr[0]);
	if (!err) {
		err = get(kmap, pfn[1], how, &addr[1]);
		if (err)
			(void)weir_kunmap(kmap, addr[0]);
	}
	lock_release(lock);
	return err;
}

int weir_kmap_pair(struct weir_kmap *kmap, const weir_pfn_t pfn[2], void *addr[2])
{
	return get_pair(kmap, pfn, 0, addr);
}

int weir_kmap_pair_fault(struct weir_kmap *kmap, const weir_pfn_t pfn[2], void *addr[2])
{
	return get_pair(kmap, pfn, HOW_FAULT, addr);
}

void *weir_kmap_address(struct weir_kmap *kmap, weir_pfn_t pfn)
{
	const weir_pfn_t frame = pfn - kmap->start;
	void *addr = NULL;
	uint32_t found;

	if (frame >= kmap->frames) {
		(void)get_elsewhere(kmap, pfn, &addr);
		return addr;
	}
	found = assoc_find(kmap, frame >> kmap->order);
	/* One that is owned is being mapped, or retired. */
	if (!found || !slot_count(load_acquire(&kmap->slot[found - 1].word)))
		return NULL;
	return slot_address(kmap, found - 1) +
	       ((size_t)(frame & ((1u << kmap->order) - 1)) << PAGE_SHIFT);
}

/* For the pool: how often frames of [start, end) are held. */
static unsigned frames_held(void *data, weir_pfn_t start, weir_pfn_t end)
{
	const struct weir_kmap *kmap = data;
	uint64_t held = 0;

	for (weir_pfn_t frame = ALIGN_DOWN(start - kmap->start, 1u << kmap->order);
	     frame < end - kmap->start; frame += 1u << kmap->order) {
		const uint32_t key = frame >> kmap->order, found = assoc_find(kmap, key);
		uint64_t count = 0;

		if (found)
			count = slot_count(load_acquire(&kmap->slot[found - 1].word));
		if (count > 1 && load_relaxed(&kmap->slot[found - 1].key) == key)
			held += count - 1;
	}
	return (unsigned)held;
}

/* --- creation --- */

static bool power_of_two(uint64_t n)
{
	return n && !(n & (n - 1));
}

static int options_check(const struct weir_kmap_options *in, struct weir_kmap_options *o)
{
	if (!in || in->size < offsetof(struct weir_kmap_options, slots))
		return -EINVAL;
	memset(o, 0, sizeof(*o));
	memcpy(o, in, MIN(in->size, sizeof(*o)));
	if (!o->slots)
		o->slots = SLOTS_DEFAULT;
	if (!o->slot_bytes)
		o->slot_bytes = SLOT_BYTES_DEFAULT;
	if (!o->batch)
		o->batch = MIN(MAX(o->slots / 8, 1u), (unsigned)BATCH_DEFAULT);
	if (!o->reserve)
		o->reserve = o->slots >= 4 ? MAX(o->slots / 16, 2u) : 0;
	else if (o->reserve == WEIR_KMAP_NO_RESERVE)
		o->reserve = 0;
	if (!(o->flags & (WEIR_KMAP_TABLED | WEIR_KMAP_HASHED)))
		o->flags |= o->pool ? WEIR_KMAP_TABLED : WEIR_KMAP_HASHED;
	if (!power_of_two(o->slots) || o->slots > WEIR_KMAP_SLOTS_MOST ||
	    !power_of_two(o->slot_bytes) || o->slot_bytes < PAGE_SIZE ||
	    o->slot_bytes > SLOT_BYTES_MOST || o->reserve >= o->slots || o->batch > o->slots ||
	    (o->flags != WEIR_KMAP_TABLED && o->flags != WEIR_KMAP_HASHED))
		return -EINVAL;
	if (!o->pool &&
	    (o->fd < 0 || o->bytes < PAGE_SIZE || o->bytes >> PAGE_SHIFT >= WEIR_PFN_NONE))
		return -EINVAL;
	return 0;
}

static size_t kmap_bytes(void)
{
	return ALIGN_UP(sizeof(struct weir_kmap), PAGE_SIZE);
}

static size_t table_bytes(uint32_t entries, size_t size)
{
	return ALIGN_UP(entries * size, PAGE_SIZE);
}

/* What is mapped through windows: a zone, or a file. -EINVAL: there is nothing. */
static int file_init(struct weir_kmap *kmap, const struct weir_kmap_options *o)
{
	if (!o->pool) {
		kmap->fd = o->fd;
		kmap->frames = (weir_pfn_t)(o->bytes >> PAGE_SHIFT);
		return 0;
	}
	kmap->pool = o->pool;
	kmap->fd = weir_pool_fd(o->pool);
	kmap->low = weir_pool_base(o->pool);
	kmap->start = weir_pool_end(o->pool, WEIR_ZONE_LOW);
	kmap->frames = weir_pool_end(o->pool, WEIR_ZONE_HIGH) - kmap->start;
	return kmap->frames ? 0 : -EINVAL;
}

static int tables_init(struct weir_kmap *kmap, unsigned flags)
{
	kmap->base = mem_reserve(kmap->bytes);
	kmap->slot = mem_alloc(table_bytes(kmap->slots, sizeof(*kmap->slot)));
	if (flags & WEIR_KMAP_TABLED)
		kmap->table = mem_alloc(table_bytes(kmap->keys, sizeof(*kmap->table)));
	else
		kmap->bucket = mem_alloc(table_bytes(kmap->slots, sizeof(*kmap->bucket)));
	if (!kmap->base || !kmap->slot || (!kmap->table && !kmap->bucket))
		return -ENOMEM;
	for (uint32_t i = 0; i < kmap->slots; i++) {
		store_relaxed(&kmap->slot[i].word, 1);
		store_relaxed(&kmap->slot[i].key, KEY_NONE);
		if (kmap->bucket)
			lock_init(&kmap->bucket[i].lock, RANK_BUCKET, "bucket");
	}
	return 0;
}

static void tables_destroy(struct weir_kmap *kmap)
{
	mem_release(kmap->base, kmap->bytes);
	mem_release(kmap->slot, table_bytes(kmap->slots, sizeof(*kmap->slot)));
	mem_release((void *)kmap->table, table_bytes(kmap->keys, sizeof(*kmap->table)));
	mem_release(kmap->bucket, table_bytes(kmap->slots, sizeof(*kmap->bucket)));
	mem_release(kmap, kmap_bytes());
}

int weir_kmap_create(const struct weir_kmap_options *options, struct weir_kmap **out)
{
	struct weir_kmap_options o;
	struct weir_kmap *kmap;
	int err = options_check(options, &o);

	if (err)
		return err;
	kmap = mem_alloc(kmap_bytes());
	if (!kmap)
		return -ENOMEM;
	kmap->shift = (unsigned)__builtin_ctzll(o.slot_bytes);
	kmap->order = kmap->shift - PAGE_SHIFT;
	kmap->slots = o.slots;
	kmap->mask = o.slots - 1;
	kmap->reserve = o.reserve;
	kmap->batch = o.batch;
	kmap->bytes = (size_t)o.slots << kmap->shift;
	for (unsigned i = 0; i < ARRAY_SIZE(kmap->pair); i++)
		lock_init(&kmap->pair[i], RANK_KMAP, "pair of slots");
	err = file_init(kmap, &o);
	if (!err) {
		kmap->keys = ((kmap->frames - 1) >> kmap->order) + 1;
		err = (uint64_t)o.slots << kmap->shift > SIZE_MAX / 2 ? -ENOMEM
								      : tables_init(kmap, o.flags);
	}
	if (err) {
		tables_destroy(kmap);
		return err;
	}
	if (kmap->pool) {
		kmap->windows = (struct windows){.held = frames_held, .data = kmap};
		windows_add(kmap->pool, &kmap->windows);
	}
	*out = kmap;
	return 0;
}

int weir_kmap_destroy(struct weir_kmap *kmap)
{
	if (!kmap)
		return 0;
	for (uint32_t i = 0; i < kmap->slots; i++) {
		if (slot_count(load_acquire(&kmap->slot[i].word)) != 1)
			return -EBUSY;
	}
	if (kmap->pool)
		windows_remove(kmap->pool, &kmap->windows);
	tables_destroy(kmap);
	return 0;
}

int weir_kmap_stats_read(struct weir_kmap *kmap, struct weir_kmap_stats *out)
{
	struct weir_kmap_stats s = {.slots = kmap->slots};

	if (out->size < sizeof(size_t))
		return -EINVAL;
	s.size = MIN(out->size, sizeof(s));
	for (uint32_t i = 0; i < kmap->slots; i++) {
		const uint64_t word = load_relaxed(&kmap->slot[i].word);

		s.hits += load_relaxed(&kmap->slot[i].hits_above) + (word >> 32);
		s.held += slot_count(word) ? slot_count(word) - 1 : 0;
	}
	s.misses = load_relaxed(&kmap->misses);
	s.retired = load_relaxed(&kmap->retired);
	s.flushes = load_relaxed(&kmap->flushes);
	s.waits = load_relaxed(&kmap->waits);
	s.busy = load_relaxed(&kmap->busy);
	s.races = load_relaxed(&kmap->races);
	memcpy(out, &s, s.size);
	return 0;
}
