/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kmap: a bounded set of windows on frames that have no address.
 *
 * Frames of a pool's zone high, and pages of any file, are not mapped. weir_kmap gives one an address for as long as it is
 * held, weir_kunmap returns it. A *slot* is a window of adjacent frames, naturally aligned (64 KiB unless the options say
 * otherwise), so neighbours share one; a slot that nobody uses stays mapped until its turn comes to be given to others, and
 * who asks for it meanwhile has a *hit*: two atomic operations and no system call. A frame of zone low has its fixed
 * address, at no cost.
 *
 *     struct weir_kmap_options options = {.size = sizeof(options), .pool = pool};
 *     struct weir_kmap *kmap;
 *     void *addr;
 *     int err = weir_kmap_create(&options, &kmap);
 *     if (!err)
 *             err = weir_kmap(kmap, pfn, &addr);
 *     if (!err) {
 *             memcpy(addr, data, 4096);
 *             weir_kunmap(kmap, addr);
 *     }
 *
 * When to use something else; `weir bench kmap` measures all of it on your machine:
 *   - *Map everything* where address space allows and the file can stay mapped: nothing is cheaper. Windows are for 32-bit
 *     processes, for files larger than their address space, and where what is not in use must not be reachable.
 *   - *pread and pwrite* for data that is looked at once: a window that nobody uses again costs a system call and a page
 *     fault as well, and beside running threads a TLB shootdown, which one call of pread does not.
 *   - *A window per thread*, remapped by its owner alone, where each thread stays within one range for long: a hit costs no
 *     atomic at all. Ranges that several threads use, or that one thread uses in turn, are what it is bad at.
 *
 * Who holds a slot must not wait for somebody who waits for one: not ask for a second (weir_kmap_pair gets two at once), nor
 * take a lock under which others ask. The exception is the fault path: weir_kmap_fault may use slots that others cannot,
 * so whoever serves a fault gets on even if all other slots are held by the one who faulted.
 *
 * A frame whose slot is held counts as pinned: offline and weir_pool_alloc_range report it so. As for
 * weir_pool_pin, the holder of a movable frame maps it under what its owner's migrate takes. A slot that nobody holds does not
 * keep a frame from leaving, nor memory behind it alive.
 *
 * Functions return 0 or -errno. All are thread-safe, but for create and destroy, and none may be called from a signal
 * handler. None calls malloc. A miss calls mmap with the descriptor of the file, which must be in the caller's table of
 * descriptors. Windows are shared memory: the child of a fork must not use them.
 */
#ifndef WEIR_KMAP_H
#define WEIR_KMAP_H

#include <stddef.h>
#include <stdint.h>

#include <weir/api.h>
#include <weir/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_kmap;

#define WEIR_KMAP_SLOTS_MOST 32768u

/* Zero means the default. New fields are added at the end; size tells which the caller knows. */
struct weir_kmap_options {
	size_t size;		/* sizeof(struct weir_kmap_options) */
	struct weir_pool *pool; /* whose frames; it stays longer than the windows */
	/* Without a pool: a file, open for reading and writing, and how much of it. Its page n is frame n. */
	int fd;
	uint64_t bytes;	     /* below 2^32 pages */
	unsigned slots;	     /* a power of two up to WEIR_KMAP_SLOTS_MOST; default 512 */
	uint64_t slot_bytes; /* a power of two from 4 KiB to 2 MiB; default 64 KiB */
	unsigned
		reserve; /* slots that only weir_kmap_fault gets; default a 16th, and 2 at least, where there are 4 */
	/* Slots that lose their mapping together, with one system call, when none is left that has none. Default 32, and
	 * an eighth of the slots at most. */
	unsigned batch;
	unsigned flags; /* WEIR_KMAP_* */
};
#define WEIR_KMAP_NO_RESERVE (~0u) /* for reserve */
/* How a frame's slot is found: by a table with 4 bytes for each slot_bytes of the zone (the default with a pool), or by a
 * hash table with an entry for each slot (the default without): slower, and of the same size whatever the file's. */
#define WEIR_KMAP_TABLED 1u
#define WEIR_KMAP_HASHED 2u

/* -EINVAL: slots that are no power of two, or too many; slot_bytes likewise; no slots but the reserve; a batch larger than
 * the slots; neither a pool nor a file, or a file of no page; -ENOMEM: no address space, or no memory. */
WEIR_API int weir_kmap_create(const struct weir_kmap_options *options, struct weir_kmap **kmap);
/* Nobody holds a slot any more: -EBUSY, and all stays, where somebody does. NULL is allowed. */
WEIR_API int weir_kmap_destroy(struct weir_kmap *kmap);

/*
 * The address of a frame, and of those beside it up to the next multiple of slot_bytes, as long as it is held; holds are
 * counted. Sleeps while all slots are held. -EINVAL: no such frame; else what mmap says (-ENOMEM: no address space, or too
 * many mappings), and then nothing is held.
 */
WEIR_API int weir_kmap(struct weir_kmap *kmap, weir_pfn_t pfn, void **addr);
/* The same, but never waits for a slot to be returned: -EAGAIN. */
WEIR_API int weir_kmap_try(struct weir_kmap *kmap, weir_pfn_t pfn, void **addr);
/* The same as weir_kmap for who serves a fault: gets the reserved slots, too. Keeps them for a moment only. */
WEIR_API int weir_kmap_fault(struct weir_kmap *kmap, weir_pfn_t pfn, void **addr);
/* Two frames at once, both or none; each is returned by itself. For who holds no slot. -EINVAL, too: there is only one
 * slot that the caller may have. */
WEIR_API int weir_kmap_pair(struct weir_kmap *kmap, const weir_pfn_t pfn[2], void *addr[2]);
WEIR_API int weir_kmap_pair_fault(struct weir_kmap *kmap, const weir_pfn_t pfn[2], void *addr[2]);
/* Where the frame is mapped at this moment, NULL: nowhere. Holds nothing: the answer lasts for who holds the frame. */
WEIR_API void *weir_kmap_address(struct weir_kmap *kmap, weir_pfn_t pfn);
/* Returns what one of these gave; any address within the slot will do. -EINVAL: not an address of the windows, or its slot is
 * held by nobody; builds with debug checks end the process there, naming the pfn. */
WEIR_API int weir_kunmap(struct weir_kmap *kmap, const void *addr);

struct weir_kmap_stats {
	size_t size;	  /* in: sizeof(struct weir_kmap_stats) of the caller */
	uint64_t hits;	  /* the frame's slot was mapped */
	uint64_t misses;  /* slots that were mapped */
	uint64_t retired; /* slots that lost their mapping */
	uint64_t
		flushes; /* system calls that took mappings away, each with a TLB shootdown where another thread runs */
	uint64_t
		waits; /* every slot was held, and the thread slept until one came back, or looked again */
	uint64_t
		busy; /* the frame's slot was just being mapped or retired by another thread, which was waited for */
	uint64_t races;	      /* another thread mapped the same frame first */
	uint64_t slots, held; /* held: now */
};
/* Each count is exact; they are not of one moment. */
WEIR_API int weir_kmap_stats_read(struct weir_kmap *kmap, struct weir_kmap_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
