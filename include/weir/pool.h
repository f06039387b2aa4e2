/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A pool of page frames: a buddy allocator over blocks of memory that come and go while the program runs.
 *
 * A *frame* is 4 KiB, named by its pfn. An allocation is of *order* n: 2^n frames, naturally aligned, 0 to 9. A *pageblock*
 * is 2^9 frames (2 MiB), the unit of isolation. A *block* is the unit of hotplug: 128 MiB unless the options say otherwise.
 * *Zone low* is private anonymous memory at an address; *zone high* is a file (a memfd, or a descriptor that is given), not
 * mapped. pfns of zone low start at 0 and those of zone high follow, so a pfn and an address, or an offset in the file,
 * are one subtraction apart.
 *
 *     struct weir_pool_options options = {.size = sizeof(options), .low_max = 1 << 30};
 *     struct weir_pool *pool;
 *     uint32_t block;
 *     int64_t pfn;
 *     int err = weir_pool_create(&options, &pool);
 *     if (!err)
 *             err = weir_pool_add(pool, WEIR_ZONE_LOW, 1, &block);
 *     if (!err)
 *             err = weir_pool_online(pool, block, NULL);
 *     pfn = weir_pool_alloc(pool, 0, 0, 0);
 *
 * States of a block:
 *
 *               add            online            given to the allocator
 *     (absent) ─────▶ OFFLINE ────────▶ GOING_ONLINE ────────────────▶ ONLINE
 *         ▲             │  ▲ ▲              │ refused, failed             │ offline
 *         └── remove ───┘  │ └──────────────┘                            ▼
 *                          └───────── withdrawn ─────────────── GOING_OFFLINE
 *                                                    refused, failed: back to ONLINE
 *
 * Counts: free + isolated + allocated + cached + offline = total, at every moment. `free` are frames that an allocation can
 * get. `cached` are those in the caches of CPUs, and those whose memory is on its way to the system.
 *
 * Functions return 0 or a count, or -errno. All are thread-safe and none may be called from a signal handler or, for a pool
 * of the parent, in the child of a fork. alloc and free never sleep and never call malloc; they may be called with locks of the
 * caller's held that the caller's own operations below take, too, except that pool operations on blocks may not.
 */
#ifndef WEIR_POOL_H
#define WEIR_POOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef WEIR_API
#define WEIR_API __attribute__((visibility("default")))
#endif

struct weir_pool;
typedef uint32_t weir_pfn_t;

#define WEIR_PFN_NONE UINT32_MAX
#define WEIR_POOL_ORDER_MAX 9
#define WEIR_POOL_PAGEBLOCK 512u /* frames */
#define WEIR_POOL_BLOCK_MIN (4u << 20)

enum weir_zone { WEIR_ZONE_LOW, WEIR_ZONE_HIGH };
enum weir_mobility { WEIR_MOVABLE, WEIR_UNMOVABLE };

/* --- making one --- */

/* Zero means the default. New fields are added at the end; size tells which the caller knows. */
struct weir_pool_options {
	size_t size; /* sizeof(struct weir_pool_options) */
	uint64_t
		low_max; /* bytes of address space for zone low; default 1 TiB where high_max is 0 */
	uint64_t high_max; /* bytes of the file of zone high; default none */
	uint64_t block; /* bytes, a power of two, at least WEIR_POOL_BLOCK_MIN; default 128 MiB */
	unsigned flags; /* WEIR_POOL_GIVEN_FD */
	int high_fd; /* with WEIR_POOL_GIVEN_FD: of at least high_max bytes, open as long as the pool */
	/* That a CPU's cache may hold of each order, at most 256; default 1/64 of the frames over all CPUs, 64 to 256.
	 * From 64 on also an eighth as many runs of the highest order. */
	unsigned cache_frames;
	unsigned
		trim_delay_ms; /* memory of pageblocks that are free for so long goes back; 0: only by call */
	/* Watermarks of a zone's free count, in frames. Below min only WEIR_POOL_RESERVE allocates. `below` is called
	 * once when the count falls under low, and again only after it has been at high: by the thread that allocates, so
	 * it must not sleep, nor call the pool. high: at least low. */
	uint64_t min, low, high;
	void (*below)(void *data, enum weir_zone zone);
	void *data; /* of below */
};

#define WEIR_POOL_GIVEN_FD 1u
#define WEIR_POOL_NO_CACHE (~0u) /* for cache_frames */

/* -EINVAL: options; -ENOMEM: no address space or no memory; else what memfd_create or the timer's thread say. */
WEIR_API int weir_pool_create(const struct weir_pool_options *options, struct weir_pool **pool);
/* Everything is gone, allocated frames too. Nobody may use the pool any more. NULL is allowed. */
WEIR_API void weir_pool_destroy(struct weir_pool *pool);

/* --- frames --- */

#define WEIR_POOL_MOVABLE 1u /* the owner's migrate may be asked to move it */
#define WEIR_POOL_HIGH 2u    /* from zone high; there is no way from one zone to the other */
#define WEIR_POOL_RESERVE 4u /* may go below the min watermark */

/* The first pfn, contents undefined. owner: 0, or as weir_pool_owner_add says. -ENOMEM: none free; -EINVAL: an order above
 * WEIR_POOL_ORDER_MAX, an owner that there is not, or MOVABLE for one that cannot migrate. */
WEIR_API int64_t weir_pool_alloc(struct weir_pool *pool, unsigned order, unsigned flags,
				 unsigned owner);
/* The same, but sleeps until there is one or timeout_ns have passed: then -ETIMEDOUT. 0: no timeout. */
WEIR_API int64_t weir_pool_alloc_wait(struct weir_pool *pool, unsigned order, unsigned flags,
				      unsigned owner, uint64_t timeout_ns);
/* order: as it was allocated. -EBUSY: it is pinned. -EINVAL: misaligned, out of range, or not allocated with that order (freed
 * twice, or offline); builds with debug checks end the process there, naming the pfn. */
WEIR_API int weir_pool_free(struct weir_pool *pool, weir_pfn_t pfn, unsigned order);

/* A pinned frame is not migrated. For who holds the frame, under what its migrate takes, so that a pin cannot slip in
 * between. -EINVAL: not the first frame of an allocation; unpin: or not pinned. */
WEIR_API int weir_pool_pin(struct weir_pool *pool, weir_pfn_t pfn);
WEIR_API int weir_pool_unpin(struct weir_pool *pool, weir_pfn_t pfn);

/* One word of the holder's, 0 when allocated; migration passes it on to the new frame. */
WEIR_API void weir_pool_private_set(struct weir_pool *pool, weir_pfn_t pfn, uint64_t word);
WEIR_API uint64_t weir_pool_private(struct weir_pool *pool, weir_pfn_t pfn);

/* Zone low: the address of pfn 0, the same for the life of the pool. Frames that are not online fault. */
WEIR_API void *weir_pool_base(const struct weir_pool *pool);
/* Zone high: the descriptor, and where a frame is in it. -EINVAL for a pfn of zone low. */
WEIR_API int weir_pool_fd(const struct weir_pool *pool);
WEIR_API int64_t weir_pool_offset(const struct weir_pool *pool, weir_pfn_t pfn);
/* Is the frame's pageblock isolated now? For owners that would rather not fill what is about to leave. */
WEIR_API int weir_pool_isolated(const struct weir_pool *pool, weir_pfn_t pfn);

/* --- owners: what holds movable frames --- */

struct weir_pool_owner {
	size_t size; /* sizeof(struct weir_pool_owner) */
	const char *name;
	/*
	 * Moves contents, references and charge from one allocation to another of the same order, which has the
	 * same owner and private word; the old one is the pool's afterwards. Called without locks of the pool, by the thread
	 * that evacuates. The holder may free `from` at the same time, in the usual way: then -ENOENT. 0; -EAGAIN: busy, ask
	 * again; anything else ends the evacuation. With WEIR_OWNER_OWN_ROOM there is no `to` (WEIR_PFN_NONE): the
	 * owner finds room itself, frees `from` itself, and returns -ENOENT when that is done.
	 */
	int (*migrate)(void *data, weir_pfn_t from, unsigned order, uint64_t private_word,
		       weir_pfn_t to);
	/* Who holds it, for a person. May be NULL. */
	void (*describe)(void *data, weir_pfn_t pfn, uint64_t private_word, char *text,
			 size_t room);
	void *data;
	unsigned flags;
};
#define WEIR_OWNER_OWN_ROOM 1u

/* The id, from 1; it lasts as long as the pool. The struct is copied. -EINVAL; -ENOSPC: 255 owners. */
WEIR_API int weir_pool_owner_add(struct weir_pool *pool, const struct weir_pool_owner *owner);

/* --- what went wrong --- */

enum weir_pool_reason {
	WEIR_POOL_FINE,
	WEIR_POOL_BAD_RANGE,   /* misaligned, or not in blocks that are there: -EINVAL */
	WEIR_POOL_BAD_STATE,   /* of the block: -EINVAL */
	WEIR_POOL_ISOLATED,    /* a part is being isolated by somebody else: -EBUSY */
	WEIR_POOL_NOT_MOVABLE, /* -EBUSY */
	WEIR_POOL_PINNED,      /* until the deadline: -EBUSY */
	WEIR_POOL_HOLDER_BUSY, /* until the deadline: -EBUSY */
	WEIR_POOL_NO_ROOM,     /* elsewhere: -ENOMEM */
	WEIR_POOL_INTERRUPTED, /* by progress: -EINTR */
	WEIR_POOL_REFUSED,     /* by a listener: its errno */
	WEIR_POOL_MIGRATE,     /* the owner failed: its errno */
	WEIR_POOL_SYSTEM,      /* the system gave no memory, or did not take it back: its errno */
};

struct weir_pool_why {
	enum weir_pool_reason reason;
	int err;	  /* what the function returned */
	weir_pfn_t pfn;	  /* that is in the way; WEIR_PFN_NONE */
	unsigned order;	  /* of the allocation there */
	unsigned owner;	  /* its owner's id, 0: none */
	unsigned pins;	  /* how often it is pinned, or held by weir_kmap with those beside it */
	char holder[128]; /* the owner's name and what it says */
};

/* --- blocks --- */

enum weir_block_state {
	WEIR_BLOCK_ABSENT,
	WEIR_BLOCK_OFFLINE,
	WEIR_BLOCK_GOING_ONLINE,
	WEIR_BLOCK_ONLINE,
	WEIR_BLOCK_GOING_OFFLINE,
};

/* So many blocks more; their first index goes to *first, and they are OFFLINE. -ENOMEM: beyond max; -EINVAL. */
WEIR_API int weir_pool_add(struct weir_pool *pool, enum weir_zone zone, uint32_t blocks,
			   uint32_t *first);
/* An OFFLINE block is absent again; its index can be added again. -EINVAL: another state, or no such block. */
WEIR_API int weir_pool_remove(struct weir_pool *pool, uint32_t block);
/* -EINVAL: not OFFLINE; -ENOMEM; a listener's errno: then all is as before. why may be NULL. */
WEIR_API int weir_pool_online(struct weir_pool *pool, uint32_t block, struct weir_pool_why *why);
/* Brings the lowest OFFLINE block of a zone online, without ever waiting. The index, -EAGAIN: a block is just coming or
 * going (an offline that is under way is asked to give up); -ENOMEM: there is none. */
WEIR_API int64_t weir_pool_grow(struct weir_pool *pool, enum weir_zone zone);

/*
 * Who takes the frames of a block that comes online from now on: NULL, the allocator. Else they are allocated to `owner` in
 * pieces of order 9, and fn is called, as a listener is; it keeps them and frees them when it likes. An owner that can
 * migrate is asked to when the block goes offline again. -EINVAL: there is no such owner.
 */
typedef void (*weir_pool_online_fn)(void *data, weir_pfn_t start, weir_pfn_t end);
WEIR_API int weir_pool_online_set(struct weir_pool *pool, weir_pool_online_fn fn, void *data,
				  unsigned owner);

/* How to empty a range. Zero, or NULL for all: a deadline of no time, after which each frame has been tried once. */
struct weir_pool_evacuation {
	size_t size; /* sizeof(struct weir_pool_evacuation) */
	uint64_t timeout_ns;
	/* Called now and then with frames that are done, of all; anything but 0 ends it with -EINTR. */
	int (*progress)(void *data, uint64_t done, uint64_t total);
	void *data;
};
/* Empties a block and gives its memory back. One block comes or goes at a time; others wait. On failure everything is as
 * before. -EINVAL: not ONLINE; -EBUSY, -EINTR, -ENOMEM or a listener's or owner's errno, with the reason in *why. */
WEIR_API int weir_pool_offline(struct weir_pool *pool, uint32_t block,
			       const struct weir_pool_evacuation *how, struct weir_pool_why *why);

struct weir_block_info {
	enum weir_block_state state;
	enum weir_zone zone;
	weir_pfn_t start, end;
	uint64_t free, isolated, allocated, cached, offline; /* frames */
};
/* -EINVAL: beyond max. */
WEIR_API int weir_pool_block_read(struct weir_pool *pool, uint32_t block,
				  struct weir_block_info *info);
WEIR_API uint32_t weir_pool_block_frames(const struct weir_pool *pool);
/* pfns of a zone are below this. */
WEIR_API weir_pfn_t weir_pool_end(const struct weir_pool *pool, enum weir_zone zone);
/* The ONLINE block of a zone with most free frames, of equals the highest: the one to take offline next. Frames that are free
 * there go to *free. -ENOENT: none is online. */
WEIR_API int64_t weir_pool_emptiest(struct weir_pool *pool, enum weir_zone zone, uint32_t *free);

/* --- listeners --- */

enum weir_pool_event {
	WEIR_GOING_ONLINE,
	WEIR_ONLINE,
	WEIR_CANCEL_ONLINE,
	WEIR_GOING_OFFLINE,
	WEIR_OFFLINE,
	WEIR_CANCEL_OFFLINE,
};

/*
 * fn is called in the order of listening, without locks but the one that lets one block come or go at a time: it may
 * allocate and free, and must not call functions on blocks or listeners. A GOING event may be refused with -errno; whoever
 * had agreed gets exactly one CANCEL then, the last first. Answers to the other events are ignored. The struct is the
 * caller's until weir_pool_unlisten.
 */
struct weir_pool_listener {
	int (*fn)(void *data, enum weir_pool_event event, weir_pfn_t start, weir_pfn_t end);
	void *data;
	struct weir_pool_listener *next; /* the pool's */
};
WEIR_API int weir_pool_listen(struct weir_pool *pool, struct weir_pool_listener *listener);
WEIR_API int weir_pool_unlisten(struct weir_pool *pool, struct weir_pool_listener *listener);

/* --- isolation and ranges --- */

/*
 * From now on nothing is allocated from [start, end): free frames leave the free lists, frames that are freed join them.
 * All or nothing. start and end: multiples of WEIR_POOL_PAGEBLOCK, in ONLINE blocks of one zone, else -EINVAL. -EBUSY: a
 * part is isolated already, or a frame there is not movable (see *why, may be NULL).
 */
WEIR_API int weir_pool_isolate_range(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end,
				     struct weir_pool_why *why);
/* Gives the frames back, merged, to the type that each pageblock had, or to another one: mobility -1 or enum
 * weir_mobility. -EINVAL: not all of it is isolated; -EBUSY: some of it is so because it is being emptied. */
WEIR_API int weir_pool_undo_isolate_range(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end,
					  int mobility);
/* 1: every frame is isolated, of whatever history; 0: not; -EINVAL. Any start and end. */
WEIR_API int weir_pool_range_isolated(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end);

/* Allocates exactly [start, end), any range within one zone, moving away what is there. Free it by weir_pool_free_range,
 * or as single frames. Errors as weir_pool_offline. */
WEIR_API int weir_pool_alloc_range(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end,
				   unsigned owner, const struct weir_pool_evacuation *how,
				   struct weir_pool_why *why);
/* -EINVAL: not all of it is allocated as single frames; -EBUSY: one is pinned. Then nothing is freed. */
WEIR_API int weir_pool_free_range(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end);

/* --- memory behind frames --- */

/* Memory of free frames goes back to the system, now; caches are emptied first, but for those that a thread uses at this
 * moment. At most `keep` free frames of each zone keep theirs. How many frames lost it, or what the system says. */
WEIR_API int64_t weir_pool_trim(struct weir_pool *pool, uint64_t keep);

/* --- counts --- */

struct weir_zone_stats {
	uint64_t total, free, isolated, allocated, cached, offline; /* frames */
	uint64_t backed;			     /* free frames that have memory */
	uint64_t free_runs[WEIR_POOL_ORDER_MAX + 1]; /* by order */
};
struct weir_pool_stats {
	size_t size; /* in: sizeof(struct weir_pool_stats) of the caller */
	struct weir_zone_stats zone[2];
	uint64_t onlined, offlined; /* blocks, so far */
	uint64_t offlined_live;	    /* of these, such that held frames that had to be moved */
	uint64_t offline_failed, migrated, trimmed; /* attempts; frames; frames */
	uint64_t
		tables; /* bytes of descriptors of blocks that are online, and of what is there once */
};
/* One moment of all counts together. Takes all locks for some microseconds. */
WEIR_API int weir_pool_stats_read(struct weir_pool *pool, struct weir_pool_stats *stats);
/* One count without a lock: frames that an allocation can get now, and those of them that have memory. */
WEIR_API uint64_t weir_pool_free_frames(struct weir_pool *pool, enum weir_zone zone);
WEIR_API uint64_t weir_pool_backed_frames(struct weir_pool *pool, enum weir_zone zone);

enum weir_frame_state {
	WEIR_FRAME_NONE, /* not the first frame of anything, or offline */
	WEIR_FRAME_FREE,
	WEIR_FRAME_ALLOCATED,
	WEIR_FRAME_CACHED,
	WEIR_FRAME_ISOLATED,
};
struct weir_frame_info {
	enum weir_frame_state state;
	unsigned order, owner, pins;
	int movable;		     /* allocated so */
	enum weir_mobility mobility; /* of the pageblock */
	uint64_t private_word;
};
/* -EINVAL: beyond max. */
WEIR_API int weir_pool_frame_read(struct weir_pool *pool, weir_pfn_t pfn,
				  struct weir_frame_info *info);

/* For tests: every invariant of the structure. 0, or -EINVAL with a line on standard error. Stops everybody meanwhile. */
WEIR_API int weir_pool_validate(struct weir_pool *pool);

#ifdef __cplusplus
}
#endif

#endif
