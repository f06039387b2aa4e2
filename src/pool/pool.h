/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pool inside. What it does is in weir/pool.h; here is how.
 *
 * A frame is described by 16 bytes: a word that says what it is, a count of pins, and either links of a free list or
 * its holder's word. Only the first frame of a run, its *head*, says anything; since no run is longer than a
 * pageblock, heads are found by walking a pageblock from its first frame, run by run.
 *
 * States of a head:
 *
 *      NONE ──────▶ FREE ◀──────▶ ALLOCATED ◀──────▶ CACHED
 *       ▲            ▲ ▲              │ ▲              │ ▲
 *       │            │ └──────────────┼─┼──────────────┼─┘
 *       │            ▼                ▼ │              │
 *       └──────── ISOLATED ◀────────────┴──────────────┘
 *
 *   NONE to FREE, or ALLOCATED     frames_give: its block comes online
 *   FREE to ALLOCATED              zone_alloc
 *   FREE to CACHED                 refill; runs_take, for a trim
 *   FREE to ISOLATED               pageblock_isolate
 *   ALLOCATED to and from CACHED   cache_put, cache_get
 *   ALLOCATED, CACHED to FREE, or  free_locked: weir_pool_free, spill, caches_drain, the end of a trim;
 *     to ISOLATED                    which of the two the isolate bit says
 *   ISOLATED to FREE               pageblock_undo
 *   ISOLATED to ALLOCATED          range_take
 *   ISOLATED to NONE               frames_withdraw: its block goes offline
 *
 *   FREE       on the list of its order and its pageblock's mobility; never in an isolated pageblock; its buddy is not
 *              free with the same order
 *   ALLOCATED  somebody's
 *   CACHED     in the cache of a CPU, or in the hands of a trim
 *   ISOLATED   a bit in the set of its pageblock, which is isolated
 *   NONE       not a head; or the block is not online
 *
 * Where a freed frame goes is decided from the isolate bit of its pageblock under the zone's lock. The caches look at
 * the bit, too, under their own: who isolates sets the bit first, and then empties each cache under its lock, so
 * that what was put in before is found, and who puts in later sees the bit.
 *
 * Letters: (Z) the zone's lock, (K) the cache's lock, (H) the hotplug lock, (W) that of windows, (A) atomic, (C) constant after creation.
 * Order: hotplug (RANK_HOTPLUG), a cache's word, the zone (RANK_POOL). Owners and listeners are called with the hotplug
 * lock at the most. No memory is asked for or given back under a zone's lock or a cache's.
 */
#ifndef WEIR_POOL_POOL_H
#define WEIR_POOL_POOL_H

#include <errno.h>
#include <pthread.h>

#include "base/lock.h"
#include "base/waitq.h"
#include "weir/pool.h"

enum {
	ORDER_MAX = WEIR_POOL_ORDER_MAX,
	ORDERS = ORDER_MAX + 1,
	PAGEBLOCK_SHIFT = 9,
	PAGEBLOCK = 1 << PAGEBLOCK_SHIFT,
	PAGEBLOCK_WORDS = PAGEBLOCK / 64,
	ZONES = 2,
	MOBILITIES = 2,
	OWNERS = 256,
	CACHE_ORDERS = 4,	/* smaller runs than 2^CACHE_ORDERS frames are cached, */
	CACHE_SLOTS_SMALL = 64, /* at most so many of an order in a small pool, */
	CACHE_SLOTS = 256,	/* so many in a large one; */
	CACHE_LARGE = 32,	/* and then so many of the highest order */
};

/* --- descriptors --- */

enum frame_state { FRAME_NONE, FRAME_FREE, FRAME_ALLOCATED, FRAME_CACHED, FRAME_ISOLATED };
_Static_assert((int)FRAME_ISOLATED == (int)WEIR_FRAME_ISOLATED, "the same states");

#define WORD_STATE_MASK 0xfu
#define WORD_ORDER_SHIFT 4
#define WORD_MOVABLE (1u << 8)
#define WORD_OWNER_SHIFT 16

struct frame {
	/* (Z) to and from FREE and ISOLATED; between ALLOCATED and CACHED (K); read anywhere, so (A). The order
	 * changes only under the zone's lock. */
	_Atomic uint32_t word;
	_Atomic uint32_t pins; /* (A) */
	union {
		struct {
			weir_pfn_t next, prev; /* (Z) FREE: in its list, WEIR_PFN_NONE ends */
		};
		_Atomic uint64_t private_word; /* (A) ALLOCATED: the holder's */
	};
};
_Static_assert(sizeof(struct frame) == 16, "16 bytes for 4 KiB: 0.4 %");

static inline uint32_t word_make(enum frame_state state, unsigned order)
{
	return (uint32_t)state | order << WORD_ORDER_SHIFT;
}
static inline enum frame_state frame_state(uint32_t word)
{
	return (enum frame_state)(word & WORD_STATE_MASK);
}
static inline unsigned frame_order(uint32_t word)
{
	return word >> WORD_ORDER_SHIFT & 0xf;
}
static inline unsigned frame_owner(uint32_t word)
{
	return word >> WORD_OWNER_SHIFT & 0xff;
}

/* The mark of a pageblock; a table of its own, since the caches read it each time. */
#define PB_UNMOVABLE 1u /* enum weir_mobility of its free frames */
#define PB_ISOLATED 2u
#define PB_LEAVING 4u /* isolated by the pool itself, to empty it: not the public undo's */

struct pageblock {
	uint16_t free;	      /* (Z) frames that are FREE */
	uint16_t free_backed; /* (Z) of these, such that may have memory */
	uint16_t held;	      /* (Z) frames that are ISOLATED */
	uint32_t freed_ms;    /* (Z) when it became free as a whole; kept where there is a timer */
	_Alignas(CACHE_LINE)
		uint64_t isolated[PAGEBLOCK_WORDS]; /* (Z) one bit a head that is ISOLATED */
	uint64_t backed
		[PAGEBLOCK_WORDS]; /* (Z) frames that may have memory; set where ALLOCATED or cached */
};

struct block {
	_Atomic uint32_t state; /* (A) enum weir_block_state; written with (H) and (Z) */
	uint32_t free;		/* (Z) frames */
	uint32_t isolated;	/* (Z) frames */
};

/* --- zones and caches --- */

struct free_list {
	weir_pfn_t head; /* (Z) */
	uint32_t count;	 /* (Z) runs */
};

struct zone {
	NO_SHARING struct lock lock;		   /* (Z) */
	uint16_t filled[MOBILITIES];		   /* (Z) one bit an order: its list is not empty */
	struct free_list list[MOBILITIES][ORDERS]; /* (Z) */
	int64_t allocated; /* (Z) frames; those that caches handed out apart */
	uint64_t total, offline, isolated, in_trim; /* (Z) frames */
	bool below;    /* (Z) under the low watermark, and it was told */
	bool ripening; /* (Z) the timer is to be told of a free pageblock */
	NO_SHARING _Atomic uint64_t free, free_backed; /* (A) frames; written under (Z) */
	_Atomic uint32_t waiting;		       /* (A) threads in weir_pool_alloc_wait */
	struct waitq room;
	weir_pfn_t start, end; /* (C) */
};

/* One a CPU. Its lock is only tried on the way of an allocation: who does not get it goes to the zone. */
struct cache {
	NO_SHARING _Atomic uint32_t lock;	   /* (K) 1: taken */
	uint16_t count[ZONES][MOBILITIES][ORDERS]; /* (K) runs */
	int64_t allocated[ZONES]; /* (K) frames handed out less those taken back; any sign */
	/* (K) heads that are CACHED */
	weir_pfn_t slot[ZONES][MOBILITIES][CACHE_ORDERS][CACHE_SLOTS];
	weir_pfn_t large[ZONES][MOBILITIES][CACHE_LARGE];
};

/* Somebody who has windows on frames of zone high (kmap/): how often frames of [start, end) are held there. Called with the
 * lock of the list, and no other of the pool's. */
struct windows {
	unsigned (*held)(void *data, weir_pfn_t start, weir_pfn_t end);
	void *data;
	struct windows *next; /* (W) */
};

struct weir_pool {
	struct weir_pool_options options; /* (C) */
	char *base;			  /* (C) of zone low; reserved */
	int fd;				  /* (C) of zone high, or -1 */
	weir_pfn_t frames;		  /* (C) of both zones */
	unsigned block_shift;		  /* (C) frames of a block, as a power of two */
	uint32_t blocks;		  /* (C) */
	unsigned caches;		  /* (C) 0: none */
	uint16_t cache_most[ORDERS];	  /* (C) */
	struct frame *frame;		  /* (C) table by pfn */
	_Atomic uint8_t *mark;		  /* (A) table by pageblock; written under (Z) */
	struct pageblock *pageblock;	  /* (C) table */
	struct block *block;		  /* (C) table */
	struct cache *cache;		  /* (C) table */
	struct zone zone[ZONES];
	struct weir_pool_owner owner[OWNERS]; /* written before `owners`; 0 is nobody */
	_Atomic unsigned owners;	      /* (A) used of them */
	struct lock hotplug;		      /* (H) */
	struct weir_pool_listener *listener;  /* (H) */
	struct lock windows_lock;	      /* (W) */
	struct windows *windows;	      /* (W) */
	weir_pool_online_fn
		online;	       /* (H) who takes the frames of new blocks; NULL: the allocator */
	void *online_data;     /* (H) */
	unsigned online_owner; /* (H) */
	_Atomic bool wanted;   /* (A) somebody wanted a block while one was going */
	_Atomic uint32_t
		evacuated; /* (A) counts frames that came to an isolated pageblock, and unpins; a futex */
	_Atomic uint32_t evacuating; /* (A) threads that sleep on it */
	_Atomic uint64_t onlined, offlined, offlined_live, offline_failed, migrated,
		trimmed; /* (A) */
	/* The timer's thread, where there is one. */
	pthread_t timer;	      /* (C) */
	_Atomic uint32_t timer_state; /* (A) enum timer_state; slept on as a futex */
};

static inline uint32_t pageblock_of(weir_pfn_t pfn)
{
	return pfn >> PAGEBLOCK_SHIFT;
}
static inline struct block *block_of(struct weir_pool *pool, weir_pfn_t pfn)
{
	return &pool->block[pfn >> pool->block_shift];
}
static inline unsigned zone_index(const struct weir_pool *pool, weir_pfn_t pfn)
{
	return pfn >= pool->zone[WEIR_ZONE_HIGH].start;
}
static inline struct zone *zone_of(struct weir_pool *pool, weir_pfn_t pfn)
{
	return &pool->zone[zone_index(pool, pfn)];
}
static inline unsigned pageblock_mark(const struct weir_pool *pool, weir_pfn_t pfn)
{
	return load_relaxed(&pool->mark[pageblock_of(pfn)]);
}
static inline bool is_isolated(const struct weir_pool *pool, weir_pfn_t pfn)
{
	return pageblock_mark(pool, pfn) & PB_ISOLATED;
}
static inline bool block_is_up(const struct block *block)
{
	uint32_t state = load_relaxed(&block->state);

	return state == WEIR_BLOCK_ONLINE || state == WEIR_BLOCK_GOING_OFFLINE;
}

/* --- buddy.c: runs of free frames; all with the zone's lock held --- */

/* A run off the lists, split as needed: a head that is in no state yet. WEIR_PFN_NONE: there is none. */
weir_pfn_t zone_take(struct weir_pool *pool, struct zone *zone, unsigned mobility, unsigned order);
/* One that is FREE, off its list. */
void buddy_remove(struct weir_pool *pool, struct zone *zone, weir_pfn_t pfn, unsigned order);
/* Merges it and puts it on a list. Its pageblock is not isolated. backed: how many of its frames may have memory. */
void buddy_add(struct weir_pool *pool, struct zone *zone, weir_pfn_t pfn, unsigned order,
	       unsigned backed);
/* What was allocated or cached, to where it belongs, by the isolate bit. */
void free_locked(struct weir_pool *pool, struct zone *zone, weir_pfn_t pfn, unsigned order);
/* The same for neighbours: heads of order 0, [start, end). */
void free_neighbours_locked(struct weir_pool *pool, struct zone *zone, weir_pfn_t start,
			    weir_pfn_t end);
/* Bits of a run in one of a pageblock's sets. */
void run_set(uint64_t *set, weir_pfn_t pfn, unsigned order);
void run_clear(uint64_t *set, weir_pfn_t pfn, unsigned order);
unsigned run_count(const uint64_t *set, weir_pfn_t pfn, unsigned order);

/* --- alloc.c --- */

/* After frames were freed with the zone's lock held: releases it, and tells who waits. */
void zone_release_freed(struct weir_pool *pool, struct zone *zone);

/* --- cache.c --- */

int caches_init(struct weir_pool *pool);
void caches_destroy(struct weir_pool *pool);
/* -EAGAIN: the cache has none and gets none, or is in use: ask the zone. */
int64_t cache_get(struct weir_pool *pool, unsigned zone, unsigned mobility, unsigned order,
		  uint32_t word);
/* False: give it to the zone. The frame is ALLOCATED. */
bool cache_put(struct weir_pool *pool, weir_pfn_t pfn, unsigned order);
/* Empties all caches of frames in [start, end). wait: those in use, too. */
void caches_drain(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end, bool wait);
void caches_lock(struct weir_pool *pool);
void caches_unlock(struct weir_pool *pool);

/* --- isolate.c --- */

void isolated_add(struct weir_pool *pool, struct zone *zone, weir_pfn_t pfn, unsigned order);
/* mark: PB_ISOLATED, and PB_LEAVING. */
int range_isolate(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end, unsigned mark,
		  struct weir_pool_why *why);
void range_undo(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end, int mobility);
/* Takes the mark off pageblocks whose frames are withdrawn: they are NONE afterwards, and nothing is freed. (Z) */
void range_clear_isolation(struct weir_pool *pool, struct zone *zone, weir_pfn_t start,
			   weir_pfn_t end);
/* The first frame that is not isolated, or end. (Z) */
weir_pfn_t range_first_not_isolated(const struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end);
/* The zone of a range of blocks that are ONLINE (going: or GOING_OFFLINE); NULL: it is none. */
struct zone *range_zone(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end, bool going);

/* --- migrate.c --- */

/* Moves away what is in a range that is isolated. 0: all of it is. give_up may be set by others: then -ENOMEM. */
int range_evacuate(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end,
		   const struct weir_pool_evacuation *how, const _Atomic bool *give_up,
		   uint64_t *moved, struct weir_pool_why *why);
/* Fills *why (may be NULL) and returns err. */
int why_set(struct weir_pool_why *why, enum weir_pool_reason reason, int err);
int why_frame(struct weir_pool *pool, struct weir_pool_why *why, enum weir_pool_reason reason,
	      int err, weir_pfn_t pfn, uint32_t word);
/* Something in an isolated pageblock has changed: whoever evacuates looks again. */
void evacuation_wake(struct weir_pool *pool);

/* --- notify.c --- */

/* Frames that are held in windows count as pinned. */
void windows_add(struct weir_pool *pool, struct windows *windows);
void windows_remove(struct weir_pool *pool, struct windows *windows);
unsigned windows_held(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end);

/* Tells everybody; a refusal of a GOING event is answered with CANCEL to those who had agreed. */
int listeners_going(struct weir_pool *pool, enum weir_pool_event event, weir_pfn_t start,
		    weir_pfn_t end);
/* CANCEL to those that stand before `until` (NULL: to all), the last first. */
void listeners_cancel(struct weir_pool *pool, const struct weir_pool_listener *until,
		      enum weir_pool_event going, weir_pfn_t start, weir_pfn_t end);
void listeners_tell(struct weir_pool *pool, enum weir_pool_event event, weir_pfn_t start,
		    weir_pfn_t end);

/* --- trim.c --- */

enum timer_state { TIMER_NONE, TIMER_IDLE, TIMER_BUSY, TIMER_STOP };
int timer_start(struct weir_pool *pool);
void timer_stop(struct weir_pool *pool);
/* A pageblock has become free as a whole. (Z) */
void timer_note(struct weir_pool *pool, weir_pfn_t pfn);
void timer_wake(struct weir_pool *pool);
/* Memory of a zone's free frames goes back, the highest first, until at most keep have any; without emptying
 * caches or waiting for anybody. */
int64_t zone_trim(struct weir_pool *pool, unsigned zone, uint64_t keep);
/* Memory behind a range, of a zone, goes back to the system. */
int range_discard(const struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end);

/* In the child of a fork that nobody changed the pool beside: its locks are free, and nobody waits. */
void pool_after_fork(struct weir_pool *pool);

#endif
