/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Regions: ranges of addresses that an instance pages. What <weir/weir.h> says of modes, errors and threads holds here.
 *
 *     weir_region_create(weir, 8ull << 30, &table);
 *
 *     struct weir_region_options options = {.size = sizeof(options), .container = tenant, .access = WEIR_ADVICE_RANDOM};
 *     weir_region_create_with(weir, 1ull << 30, &options, &table);
 *
 * An instance can have thousands of regions; one costs 4 KiB of tables at least, and 8 bytes for each page that was touched.
 * A region is named by the address that it begins at.
 */
#ifndef WEIR_REGION_H
#define WEIR_REGION_H

#include <stddef.h>
#include <stdint.h>

#include <weir/api.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir;
struct weir_container;

enum weir_mode {
	WEIR_MODE_DEFAULT, /* of an instance: thread mode; of a region: thread mode where its instance has that */
	WEIR_MODE_THREAD, /* weir's threads serve faults */
	WEIR_MODE_SIGNAL, /* threads serve their own */
	WEIR_MODE_BOTH,	  /* for an instance only: regions of either */
};

/* What is known of the use of memory. The first three last until others are given, for 2 MiB at a time: a piece of 2 MiB
 * that only partly belongs to a range is used as was last said of any part of it. The others are done once. */
enum weir_region_advice {
	WEIR_ADVICE_NORMAL, /* readers in a row are noticed, and pages loaded ahead of them */
	WEIR_ADVICE_SEQUENTIAL, /* upwards: twice as many are loaded ahead, and what lies behind leaves first */
	WEIR_ADVICE_RANDOM, /* nothing is loaded but what is touched */
	WEIR_ADVICE_WILLNEED, /* is loaded in the background, half of the container's limit at the most */
	WEIR_ADVICE_DONTNEED, /* contents gone, memory back: weir_region_discard */
	WEIR_ADVICE_COLD,     /* the first to leave when room is needed; the contents stay */
};

/* Zero means the default. New fields are added at the end; size tells which the caller knows. */
struct weir_region_options {
	size_t size;			  /* sizeof(struct weir_region_options) */
	struct weir_container *container; /* whose it is; default the root */
	enum weir_mode mode;
	enum weir_region_advice access; /* NORMAL, SEQUENTIAL or RANDOM: how it begins */
	/* Pages that a fault brings in, this one and those behind it, where it continues no reader and what it needs has
	 * been moved out: 1 to 64. Default 1 out of memory, and 8 from the file while most faults there continue one. RANDOM
	 * goes first. */
	unsigned cluster;
	/* Address space for weir_region_grow: as far as the region can. Default what it is created with. */
	uint64_t max_bytes;
};

/* bytes: rounded up to pages. The region reads as zeroes. -EINVAL: no bytes; -ENOMEM: no address space; -ENOSPC: 16384
 * regions. It ends with weir_region_destroy, or with the instance. */
WEIR_API int weir_region_create(struct weir *weir, uint64_t bytes, void **addr);
/* The same with options, NULL for the default ones. -EINVAL: options; -ENOTSUP: the instance was not opened for that mode; -EXDEV: a
 * container of another instance. */
WEIR_API int weir_region_create_with(struct weir *weir, uint64_t bytes,
				     const struct weir_region_options *options, void **addr);
/* Pages memory that the caller has mapped: private, anonymous, readable and writable. What is in memory counts.
 * -EINVAL: not whole pages of such memory, or a part of another region. */
WEIR_API int weir_region_adopt(struct weir *weir, void *addr, uint64_t bytes);
/* addr: as it was given. Unmaps a created region; an adopted one becomes plain memory with the pages that are in
 * memory, the others lost. -ENOENT: no such region; of a region over a file also what weir_file_close returns. Threads that touch it afterwards get SIGSEGV. */
WEIR_API int weir_region_destroy(struct weir *weir, void *addr);

/*
 * So many bytes from now on, rounded up to pages, at the same address; other threads may use what stays meanwhile. What comes
 * reads as zeroes, and there must be room for it (max_bytes, or what it had before it shrank). What goes is forgotten: memory,
 * copies and charges are free at once, threads that touch it get SIGSEGV. -ENOENT: no region begins at addr; -EINVAL: fewer bytes
 * than it has to grow, more to shrink, none at all, or a region that was adopted or is over a file; -ENOMEM: no room to grow, or the
 * system has too many mappings (then a region that was to shrink has its size and reads as zeroes there); -EBUSY: pages
 * that would go are pinned, and all is as before.
 */
WEIR_API int weir_region_grow(struct weir *weir, void *addr, uint64_t bytes);
WEIR_API int weir_region_shrink(struct weir *weir, void *addr, uint64_t bytes);

/* Forgets pages, as madvise(MADV_DONTNEED) does: they read as zeroes, their memory is free at once. Call this
 * instead of madvise. addr and bytes: whole pages inside one region, else -EINVAL. -EBUSY: some are pinned; those, and
 * up to 511 pages beside them, stay. */
WEIR_API int weir_region_discard(struct weir *weir, void *addr, uint64_t bytes);
/*
 * What the use of a range will be (see above). Returns at once; but for DONTNEED nothing depends on it, and nothing is
 * promised. Ranges that are WILLNEED or COLD are remembered until they are loaded, or gone; the 64 last ones of each.
 * addr: of a page; bytes: rounded up to pages, all of them inside one region, else -EINVAL, as is another advice. DONTNEED: what is
 * said at weir_region_discard.
 */
WEIR_API int weir_region_advise(struct weir *weir, void *addr, uint64_t bytes,
				enum weir_region_advice advice);

/*
 * Brings pages into memory and keeps them there until weir_region_unpin, for system calls in signal mode and for devices.
 * addr and bytes: bytes inside one region, whose pages are pinned. write: something will be written there (the memory must
 * be writable). Pins are counted; the child of a fork has none. What is pinned counts against the limit, and is not reclaimed: where
 * there is no room for it, the limit is exceeded. -EINVAL: not in a region; -EOPNOTSUPP: a region over a file, into which no
 * device may write (<weir/file.h>);
 * -EIO: a page is lost; -EBUSY: pinned 2047 times; -EFAULT: something else has been mapped there, or
 * the program has no access. Then nothing is pinned.
 */
WEIR_API int weir_region_pin(struct weir *weir, void *addr, uint64_t bytes, int write);
WEIR_API int weir_region_unpin(struct weir *weir, void *addr, uint64_t bytes);

/*
 * What was written to these bytes of a region over a file, and all that was before, is in the file and on the disk when it returns
 * 0. Else an error of writing back that this region was not told of yet: <weir/file.h> says what that means. -EINVAL: no such
 * region, or no bytes. The region is not to be destroyed meanwhile.
 */
WEIR_API int weir_region_sync(struct weir *weir, void *addr, uint64_t bytes);

enum weir_move {
	WEIR_MOVE_LATER, /* pages stay where they are charged until they come into memory anew */
	WEIR_MOVE_PAGES, /* pages and copies go over now */
};
/*
 * The region belongs to another container of its instance from now on: its later pages are charged there. -ENOENT: no
 * region begins at addr; -EXDEV: a container of another instance; -ENOSPC: pages of the region are charged to 16
 * containers already (move them); -EINVAL: a region over a file; -ENOMEM, with WEIR_MOVE_PAGES: not all pages fit below the limits of the container;
 * those that do have gone over, the others follow when they come in anew.
 */
WEIR_API int weir_region_move(struct weir *weir, void *addr, struct weir_container *container,
			      enum weir_move how);

/*
 * A region over a file, read-only (to write: weir_file_map in <weir/file.h>): its pages come from the file when they are touched, and are charged to the container whose
 * region touches them first, once, however many regions of the instance are over the file. A touch of a page that
 * cannot be read is SIGBUS, and the log says why. bytes: the file's size at this moment; what lies behind it in the
 * last page reads as zeroes. The file must not change meanwhile. A child of fork does not have the region. The errors of
 * open(2); -EINVAL: not a regular file, or an empty one; -EOPNOTSUPP: before Linux 5.14; -ENOSPC: 16 regions over one
 * file, 64 files, or 16384 regions in all; -ENOMEM; -ENOTSUP: the instance has signal mode only.
 */
WEIR_API int weir_region_open(struct weir_container *container, const char *path, void **addr,
			      uint64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
