/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The compressed store: objects in size classes over frames of the pool.
 *
 * A class is a size in steps of 64 bytes. A *span* is a run of 1 to 16 frames cut into slots of one class, at most 64
 * of them; each class keeps a list of its spans that have room, fullest use first come. A location is the slot's
 * offset in the pool in units of 64 bytes: span and, in zone low, pointer are one table look-up and one addition away. In
 * zone high an object has an address only between compressed_object and compressed_object_end: a span lies in one window.
 *
 * Who may touch what: the holder of a page's busy bit owns the object of that page: it may read and free it. The
 * store's locks (RANK_CLASS, one a class) protect the spans' maps and lists only. What is in a slot that is taken is
 * written without them, before anybody is told of it.
 *
 * Spans are movable frames of the pool: a block that goes offline has them emptied by the same relocation of objects that
 * compaction does. While a span's pageblock is isolated, nothing new goes into it.
 *
 * An object costs its size class (compressed_room); who puts it there charges that to the container of its page.
 */
#ifndef WEIR_STORE_COMPRESSED_H
#define WEIR_STORE_COMPRESSED_H

#include "base/lock.h"
#include "store/object.h"
#include "weir/kmap.h"
#include "weir/pool.h"

enum {
	SLOT_SHIFT = 6,
	CLASSES = (OBJECT_MAX + (1 << SLOT_SHIFT) - 1) >>
		  SLOT_SHIFT, /* class c holds up to (c + 1) * 64 bytes */
	SPAN_SLOTS_MAX = 64,
	SPAN_ORDER_MAX = 4,
};

typedef uint32_t slot_t; /* location of an object: offset in the pool >> SLOT_SHIFT */

/* One a frame, in a table by pfn; the span's state stands at its first frame. */
struct span {
	uint64_t free;	       /* (L: class) slots that are free */
	weir_pfn_t head;       /* (L: class) first frame of the span */
	weir_pfn_t next, prev; /* (L: class) in the list of spans with room; pfn + 1, 0 is none */
	_Atomic uint8_t kind;  /* (A) class + 1, written under its lock; 0: no span starts here */
	uint8_t used;	       /* (L: class) */
	bool listed;	       /* (L: class) */
};
_Static_assert(sizeof(struct span) <= 32, "tables stay below 1 % of memory");

struct size_class {
	struct lock lock;
	weir_pfn_t partial;	 /* (L) list of spans with room */
	uint32_t spans, used;	 /* (L) used: objects */
	uint8_t order, per_span; /* (C) */
} __attribute__((aligned(CACHE_LINE)));

/* Asked to move the object of a page away from a slot; called without locks, decides whether the object is still that
 * page's, and moves it by put and free. The page is a guess, and may be none at all: a slot that somebody just takes says what was
 * there before. */
typedef void (*relocate_fn)(void *data, page_no_t page, slot_t slot);

struct compressed {
	struct weir_pool *pool; /* (C) */
	enum weir_zone zone;	/* (C) of its frames: low where the pool has that, else high */
	char *base;		/* (C) of zone low */
	struct weir_kmap *kmap; /* (C) zone high */
	weir_pfn_t frames;	/* (C) of the zone */
	unsigned owner;		/* (C) the pool's id of this store */
	struct span *span;	/* (C) table by pfn */
	relocate_fn relocate;	/* (C) for the pool, once it is set */
	void *relocate_data;	/* (C) */
	/* For bench kmap: told of each frame that is reached through a window. Set before there is an object; NULL: nobody. */
	void (*trace)(void *data, weir_pfn_t pfn); /* (C) */
	void *trace_data;			   /* (C) */
	struct weir_pool_listener listener;
	struct size_class class[CLASSES];
	_Atomic uint64_t objects;     /* (A) */
	_Atomic uint64_t class_bytes; /* (A) what the objects cost */
	_Atomic uint64_t span_bytes;  /* (A) frames in spans */
	/* The span that compaction empties, pfn + 1; takes no new objects. Set to 0 under its class's lock when the
	 * last object is gone and the frames are back in the pool. (A) written under that lock */
	_Atomic weir_pfn_t draining;
};

int compressed_init(struct compressed *store, struct weir_pool *pool);
/* Zone high, before the first object: the windows, of at least SPAN_ORDER_MAX each. All is done in the reserved ones if need
 * be: faults wait for it. */
void compressed_kmap_set(struct compressed *store, struct weir_kmap *kmap);
void compressed_destroy(struct compressed *store);
/* Copies the object in. 0, or -ENOMEM: no frames or no window to be had; then the page stays where it is. */
int compressed_put(struct compressed *store, const void *object, size_t size,
		   slot_t *slot) MUST_CHECK;
/* The same for an object that is in the store, and stays there, too. All of its slot is copied, whatever the header has become:
 * the copy is of the same class. */
int compressed_copy(struct compressed *store, slot_t from, slot_t *to) MUST_CHECK;
void compressed_free(struct compressed *store, slot_t slot);
/* Valid while the caller holds the busy bit of the object's page, and until compressed_object_end. NULL: the system has no
 * window for it, now. Between the two the caller waits for nothing. */
struct object *compressed_object(const struct compressed *store, slot_t slot) MUST_CHECK;
void compressed_object_end(const struct compressed *store, const struct object *object);
/* How many bytes may be read there: what the object costs. */
size_t compressed_room(const struct compressed *store, slot_t slot);

/*
 * Compaction: asks for each object of the sparsest spans to be moved. One caller at a time, and not while the pool
 * evacuates a range: both are the background thread's.
 */
/* Empties spans until at most slack bytes of the spans are unused, or nothing more can be won. Returns frames freed. */
unsigned compressed_compact(struct compressed *store, uint64_t slack, relocate_fn relocate,
			    void *data);
/* From now on the pool may ask for spans to be moved, and has them emptied by this. Before that they are busy. */
void compressed_relocate_set(struct compressed *store, relocate_fn relocate, void *data);
/* Unused room in spans. */
uint64_t compressed_slack(struct compressed *store);
int compressed_validate(struct compressed *store);
/* In the child of a fork that nobody changed the store beside: its locks are free. */
void compressed_after_fork(struct compressed *store);

#endif
