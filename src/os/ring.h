/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An io_uring: input and output of one file in flight. Of one thread at a time; its descriptor is in the table of the thread that
 * opened it, so it is for weir's own threads only.
 *
 * Where the kernel has none, or seccomp forbids it, or there is no memory for one, ring_open says so and callers use file_read and file_write.
 */
#ifndef WEIR_OS_RING_H
#define WEIR_OS_RING_H

#include "os/file.h"

struct io_uring;
enum { RING_MAX = 64 };

/* A request; first those that are in line, then those that the kernel did not take and that were done without it. */
struct ring_request {
	const struct file *file;
	void *data;
	uint32_t bytes;
	bool write;
	off_t offset;
	uint64_t tag;
	int result;
};

struct ring {
	struct io_uring *io;  /* NULL: not open */
	unsigned entries;     /* (C) */
	unsigned lined, done; /* requests in line; those done here, from the start of the array */
	bool broken;	      /* the kernel takes no more (a filter that came later) */
	struct ring_request request[RING_MAX];
};

/* entries: a power of two, at most RING_MAX. 0 or -errno. */
int ring_open(struct ring *ring, unsigned entries);
void ring_close(struct ring *ring);
static inline bool ring_is_open(const struct ring *ring)
{
	return ring->io && !ring->broken;
}
/* Puts one in line; with those under way at most `entries`. tag comes back with what became of it. */
void ring_read(struct ring *ring, const struct file *file, void *data, uint32_t bytes, off_t offset,
	       uint64_t tag);
void ring_write(struct ring *ring, const struct file *file, const void *data, uint32_t bytes,
		off_t offset, uint64_t tag);
/* Hands what is in line to the kernel, or does it itself where the kernel refuses; waits until so many can be reaped. */
void ring_submit(struct ring *ring, unsigned wait);
/* The next one that is completed: its tag, and bytes or -errno. False: none is. */
bool ring_reap(struct ring *ring, uint64_t *tag, int *result);

#endif
