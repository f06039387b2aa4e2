/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file store: the default place for what no longer fits in memory. A store as in weir/store.h, over an unlinked temporary
 * file or a named one (os/file.h).
 *
 * Slots are runs of units (the file's block, 512 or 4096 bytes). A batch is written in one run of free units where there is
 * one, so that writes are sequential; the file grows only when it is half full or no run is left. It does not grow beyond its
 * bound, nor where the disk would have less left free than it should.
 *
 * A key is offset in units << 4 | units - 1: 28 bits of offset, so at most 128 GiB of units of 512 bytes.
 *
 * Input and output: writes are in flight on a ring (os/ring.h), a read of several runs goes as one submission; one run is read
 * by pread, which is as fast and needs no ring. Without rings everything is done by pread and pwrite, in order.
 *
 * After a fork (src/fork.h) two processes have the file. What the child's pages have there it reads, and never writes: its own file
 * begins where the parent's ended, and a key says by its offset in which file it is. What was in use at the fork is *kept*
 * by the parent: freed there, it is not used again until no child holds it any more.
 *
 *      parent     [0 ................ size)     file A; what is kept stays as it is
 *      child      [0 ....... base)[base ...     A, read only; B, its own, made when the first page goes there
 *      its child  [0 ...)[... base)[base ..     A and B, read only; C
 *
 * Locks: RANK_FILE protects the map of units; no input or output happens under it. (W) the background thread.
 */
#ifndef WEIR_STORE_FILESTORE_H
#define WEIR_STORE_FILESTORE_H

#include "base/lock.h"
#include "os/ring.h"
#include "store/store.h"

enum {
	FILE_UNITS_SHIFT = 4,
	FILE_FLIGHTS = 4,    /* batches in flight */
	FILE_READ_RINGS = 4, /* threads that read several runs at a time */
};

/* A file of the process that this one was forked from: units [from, end) are there. */
struct file_inherited {
	struct file file;
	uint32_t from, end;
	int lease; /* while it is open, whose file it is keeps them */
};
enum {
	FILE_INHERITED_MAX = 6, /* forks of forks of more than that bring their pages in */
	FILE_PASS_MAX = 2 * FILE_INHERITED_MAX,
};

struct filestore {
	struct lock lock;
	struct file file;   /* (C) but in a child of fork: (W) not open before the first write */
	const char *place;  /* (C) of its file */
	uint64_t *map;	    /* (L) one bit a unit: in use */
	uint64_t *kept;	    /* (L) the same: in use when the process forked */
	uint32_t keepers;   /* (L) children that may still read those */
	uint32_t base;	    /* (C) the first unit of its own file */
	unsigned inherited; /* (C) */
	struct file_inherited
		inheritance[FILE_INHERITED_MAX]; /* (C) in rising order, from 0 to base */
	uint32_t size, used, cursor;		 /* (L) in units */
	uint32_t most;				 /* (C) it has no more units */
	uint64_t keep_free;			 /* (C) bytes that the disk keeps */
	uint64_t full_until_ns; /* (L) the disk was full: until then the file does not grow */
	bool told;		/* (W) where it is */
	bool write_ring_tried;	/* (W) */
	struct ring write_ring; /* (W) */
	struct flight {
		struct weir_store_batch *batch; /* NULL: free */
		uint32_t unit, count;
	} flight[FILE_FLIGHTS];		       /* (W) */
	_Atomic uint32_t rings_taken;	       /* (A) a bit each; who has it uses the ring, */
	bool read_ring_tried[FILE_READ_RINGS]; /* and opens it the first time */
	struct ring read_ring[FILE_READ_RINGS];
};

/* Whose place is a folder, or "": a temporary file; and a name. */
extern const struct weir_store_ops filestore_ops, filestore_named_ops;
int filestore_validate(struct filestore *store);

/* A word of the map: in use, or kept for a child. */
static inline uint64_t filestore_taken(const struct filestore *store, uint32_t word)
{
	return store->map[word] | (store->keepers ? store->kept[word] : 0);
}

/* inherit.c; as in store.h. fds NULL: nothing was passed. */
int filestore_pass(const struct filestore *store, int *fds);
void filestore_keep(struct filestore *store);
void filestore_unkeep(struct filestore *store);
bool filestore_after_fork(struct filestore *store, const int *fds, int lease);

#endif
