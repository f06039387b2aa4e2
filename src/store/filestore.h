/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file store: objects in an unlinked temporary file, the default place for what no longer fits in memory.
 *
 * The file is made when the first object is written. Slots are runs of units (the file's block, 512 or 4096 bytes).
 * A batch is written in one run of free units where there is one, so that writes are sequential; the file grows
 * only when it is half full or no run is left.
 *
 * A location is offset in units << 4 | units - 1: 28 bits of offset, so at most 128 GiB of units of 512 bytes.
 *
 * Locks: RANK_FILE protects the map of units; no input or output happens under it. The holder of a page's busy bit
 * may read and free the object of that page.
 */
#ifndef WEIR_STORE_FILESTORE_H
#define WEIR_STORE_FILESTORE_H

#include "base/lock.h"
#include "os/file.h"
#include "store/object.h"

typedef uint32_t file_slot_t;

enum {
	FILE_BATCH = 64, /* objects in one write */
	FILE_BATCH_BYTES =
		FILE_BATCH * 2 * 4096, /* room for them, each at a multiple of the unit */
	FILE_UNITS_SHIFT = 4,
};

struct filestore {
	struct lock lock;
	struct file file;	     /* (C) once open */
	_Atomic bool open;	     /* (A) set by the only writer */
	char first[4096];	     /* (C) the caller's, or TMPDIR: a copy, since both may go */
	const char *dirs[4];	     /* (C) where to try, in order; NULL ends */
	unsigned dir;		     /* (C) once open: which of them */
	uint64_t *map;		     /* (L) one bit a unit: in use */
	uint32_t size, used, cursor; /* (L) in units */
	uint64_t full_until_ns;	     /* (L) the disk was full: until then the file does not grow */
	_Atomic uint64_t bytes;	     /* (A) in use, whole units */
	_Atomic uint64_t failures;   /* (A) writes that failed */
};

/* dir: the first place to try (NULL: $TMPDIR), then /var/tmp, then /tmp. Nothing is opened yet. 0, -ENAMETOOLONG,
 * -ENOMEM. */
int filestore_init(struct filestore *store, const char *dir);
void filestore_destroy(struct filestore *store);

struct file_batch {
	unsigned count;
	page_no_t page[FILE_BATCH];
	uint64_t tag[FILE_BATCH];     /* the caller's */
	file_slot_t slot[FILE_BATCH]; /* where each one went */
	size_t offset[FILE_BATCH], size[FILE_BATCH];
	size_t fill;
	char *buffer; /* FILE_BATCH_BYTES, page aligned, the caller's */
};

/* Makes sure that there is a file. 0, or the errno of the last place tried; says once where the file is, or that
 * there is none. One caller at a time. early: nothing is to be written yet, and nothing is said. */
int filestore_open(struct filestore *store, bool early);
/* Adds a copy of an object; false: the batch is full. */
bool file_batch_add(struct filestore *store, struct file_batch *batch, const struct object *obj,
		    uint64_t tag);
/* Writes the batch. 0: all of it is in the file. Else -errno (-ENOSPC, -EIO, ...) and nothing is. */
int filestore_write(struct filestore *store, struct file_batch *batch);
void filestore_free(struct filestore *store, file_slot_t slot);
/* Bytes of the file that a slot takes: whole units. */
uint64_t filestore_slot_bytes(const struct filestore *store, file_slot_t slot);
/* Reads an object of page into dst; buffer: page aligned, FILE_READ_BYTES. 0; -EBADMSG as object_unpack; errno. */
enum { FILE_READ_BYTES = 64 * 4096 };
int filestore_read(struct filestore *store, file_slot_t slot, page_no_t page, void *buffer,
		   void *dst) MUST_CHECK;
/* Reads count objects that lie one behind the other, as one batch wrote them; returns how many could be taken in
 * one read (at least 1) and leaves their bytes in buffer, or -errno. Then filestore_unpack gives each. */
int filestore_read_run(struct filestore *store, const file_slot_t *slot, unsigned count,
		       void *buffer) MUST_CHECK;
int filestore_unpack(struct filestore *store, const file_slot_t *slot, unsigned index,
		     const void *buffer, page_no_t page, void *dst) MUST_CHECK;
int filestore_validate(struct filestore *store);

#endif
