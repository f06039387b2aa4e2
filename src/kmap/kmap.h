/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kmap inside. What it does is in weir/kmap.h; here is how.
 *
 * The file is cut into *ranges* of as many frames as a slot covers; a range's number is its *key*. Each slot has one word with a
 * count, a young bit and a number of hits, so that one compare-and-swap takes a hold, says that the slot is in use, and
 * counts the hit. The count:
 *
 *     0      somebody owns the slot exclusively: it is being mapped or retired. The entry lock of the slot
 *     1      free: mapped (key is a range) or empty (KEY_NONE), held by nobody
 *     n      n - 1 holds; the mapping stays
 *
 *                          slot_own, slot_own_idle                slot_map: mapped, published
 *            EMPTY, 1 ───────────────────────────────▶ OWNED, 0 ─────────────────────────────▶ HELD, 2..
 *              ▲  ▲                                     │  ▲  ▲                                  │  ▲
 *              │  └── slot_release: a race was lost, ───┘  │  │ slot_own                         │  │ slot_pin,
 *              │      or mmap failed                       │  │                          put, the│  │ put
 *              │                                           │  └───────────── MAPPED, 1 ◀──── last│  │
 *              └──── slots_retire: hidden, all together ───┘                     │ ▲  └──────────┘  │
 *                                                                                └─┼─ slot_pin ─────┘
 *
 * The association of a range with a slot is written by the owner of the slot only: published by compare-and-swap from none
 * (or under the bucket's lock) *before* the slot is mapped, so that another thread that wants the range waits for this
 * mapping and makes none of its own; taken away before the mapping goes.
 *
 * A hit reads the association, takes a hold unless the count is zero, and then reads the slot's key: where that is another
 * range, somebody moved in between, the hold is put back, and all begins anew. The compare-and-swap acquires what
 * slot_release and slot_map, which released the count, had written: so an old key is never seen in a slot that has a new
 * mapping.
 *
 * No wake-up is lost, twice. Who finds all slots held registers in `waiting`, reads `freed`, looks at all slots once more, and
 * sleeps unless `freed` has moved on. Whoever brings a count to 1 then looks at `waiting`, and moves `freed` on before it
 * wakes. The four accesses (change the count, read `waiting`; change `waiting`, read the count) are sequentially
 * consistent: one of the two sees the other. The same with `settling` and the count itself for who waits for a slot that is
 * owned. models/kmap.pml is this protocol for Spin; with -DFIRST, the one that registered after its last look, and could hang.
 *
 * Waiters are alike for ordinary slots: any of them can use one, so one is woken for one. One that takes none wakes the next.
 * Reserved slots, which not all can use, wake all.
 *
 * Letters: (A) atomic, (C) constant after creation, (O) written by the owner of the slot (count 0), (B) the bucket's lock.
 */
#ifndef WEIR_KMAP_KMAP_H
#define WEIR_KMAP_KMAP_H

#include <errno.h>

#include "base/lock.h"
#include "pool/pool.h"
#include "weir/kmap.h"

#define SLOT_COUNT 0x7fffffffull
#define SLOT_YOUNG 0x80000000ull /* held since the hand last came by */
#define SLOT_HIT (1ull << 32)
#define KEY_NONE UINT32_MAX

struct slot {
	union {
		_Alignas(CACHE_LINE) _Atomic uint64_t word; /* (A) */
		_Atomic uint32_t half[2]; /* the same, for futexes: one has the count */
	};
	_Atomic uint32_t key;	     /* (O) to write, (A) to read */
	_Atomic uint32_t next;	     /* (B) to write, (A) to read: slot + 1 in its bucket; 0 ends */
	_Atomic uint64_t hits_above; /* (A) hits that the word has no room for */
};

struct bucket {
	struct lock lock;
	_Atomic uint32_t head; /* (B) to write, (A) to read: slot + 1; 0: none */
};

/* How a hold is asked for. */
enum { HOW_TRY = 1, HOW_FAULT = 2 };

struct weir_kmap {
	char *base;			  /* (C) of the windows */
	size_t bytes;			  /* (C) of them */
	char *low;			  /* (C) of the pool's zone low; NULL: none */
	weir_pfn_t start, frames;	  /* (C) of the zone or the file */
	unsigned order, shift;		  /* (C) frames, and bytes, of a slot as powers of two */
	unsigned slots, mask;		  /* (C) */
	unsigned reserve, batch;	  /* (C) */
	int fd;				  /* (C) */
	struct weir_pool *pool;		  /* (C) NULL: a file */
	struct windows windows;		  /* for the pool */
	uint32_t keys;			  /* (C) */
	_Atomic uint32_t *table;	  /* (A) by key: slot + 1, 0 none; NULL: hashed */
	struct bucket *bucket;		  /* as many as slots */
	struct slot *slot;		  /* (C) table */
	struct lock pair[2];		  /* one asks for two: of all, of the fault path */
	NO_SHARING _Atomic uint32_t hand; /* (A) wraps */
	_Atomic uint64_t misses, retired, flushes, waits, busy, races; /* (A) */
	NO_SHARING _Atomic uint32_t waiting; /* (A) threads that wait for a slot to be free, */
	_Atomic uint32_t
		choosy; /* (A) of these, that a slot was not good enough for: with them all are woken */
	_Atomic uint32_t
		freed; /* (A) on this: slots that came free while somebody waited; a futex */
	_Atomic uint32_t settling; /* (A) threads that wait for one slot to be owned no longer */
};

static inline uint64_t slot_count(uint64_t word)
{
	return word & SLOT_COUNT;
}
static inline char *slot_address(const struct weir_kmap *kmap, uint32_t index)
{
	return kmap->base + ((size_t)index << kmap->shift);
}
/* May such a caller hold it? */
static inline bool slot_usable(const struct weir_kmap *kmap, uint32_t index, unsigned how)
{
	return index >= kmap->reserve || how & HOW_FAULT;
}

/* --- assoc.c: which slot has a range --- */

/* slot + 1, 0: none. Where it is hashed and the bucket changes meanwhile, none may be wrong: assoc_publish tells. */
uint32_t assoc_find(const struct weir_kmap *kmap, uint32_t key);
/* 0: the range has the slot from now on; else slot + 1 of the one that has it. By the owner. */
uint32_t assoc_publish(struct weir_kmap *kmap, uint32_t key, uint32_t index);
void assoc_drop(struct weir_kmap *kmap, uint32_t key, uint32_t index);

/* --- slot.c: slots that change hands --- */

/* A slot with the range mapped, held; its index, or -errno. What the fast path could not do. */
int64_t slot_get(struct weir_kmap *kmap, uint32_t key, unsigned how);
/* After a count came to 1 while somebody waits. */
void slot_freed(struct weir_kmap *kmap, uint32_t index, unsigned count);
enum pin { PINNED, OWNED, MOVED };
enum pin slot_pin(struct weir_kmap *kmap, uint32_t index, uint32_t key);
/* A hold less. -EINVAL: there is none. */
int slot_put(struct weir_kmap *kmap, uint32_t index);

#endif
