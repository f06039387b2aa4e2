/* SPDX-License-Identifier: BSD-2-Clause */
#include "os/ring.h"

#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <string.h>

#include "os/mem.h"

#define RING_BYTES ALIGN_UP(sizeof(struct io_uring), PAGE_SIZE)

int ring_open(struct ring *ring, unsigned entries)
{
	struct io_uring *io = mem_alloc(RING_BYTES);
	int err;

	memset(ring, 0, sizeof(*ring));
	assert_always(entries <= RING_MAX);
	if (!io)
		return -ENOMEM;
	err = io_uring_queue_init(entries, io, 0);
	if (!err)
		/* A child of fork has no use for it, and the program may have many. */
		err = io_uring_ring_dontfork(io);
	if (err) {
		mem_release(io, RING_BYTES);
		return err;
	}
	ring->io = io;
	ring->entries = entries;
	return 0;
}

void ring_close(struct ring *ring)
{
	if (!ring->io)
		return;
	io_uring_queue_exit(ring->io);
	mem_release(ring->io, RING_BYTES);
	ring->io = NULL;
}

static void line_up(struct ring *ring, const struct ring_request *request)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring->io);

	assert_always(sqe && !ring->done && ring->lined < ring->entries);
	ring->request[ring->lined++] = *request;
	if (request->write)
		io_uring_prep_write(sqe, request->file->fd, request->data, request->bytes,
				    (uint64_t)request->offset);
	else
		io_uring_prep_read(sqe, request->file->fd, request->data, request->bytes,
				   (uint64_t)request->offset);
	io_uring_sqe_set_data64(sqe, request->tag);
}

void ring_read(struct ring *ring, const struct file *file, void *data, uint32_t bytes, off_t offset,
	       uint64_t tag)
{
	line_up(ring,
		&(struct ring_request){
			.file = file, .data = data, .bytes = bytes, .offset = offset, .tag = tag});
}

void ring_write(struct ring *ring, const struct file *file, const void *data, uint32_t bytes,
		off_t offset, uint64_t tag)
{
	line_up(ring, &(struct ring_request){.file = file,
					     .data = (void *)(uintptr_t)data,
					     .bytes = bytes,
					     .offset = offset,
					     .write = true,
					     .tag = tag});
}

/*
 * The kernel takes no more: what it has taken it completes, what is still in line is done here, and it is not asked again, so
 * that nothing is done twice.
 */
static void do_without(struct ring *ring)
{
	const unsigned left = io_uring_sq_ready(ring->io);

	ring->broken = true;
	memmove(ring->request, ring->request + (ring->lined - left),
		left * sizeof(ring->request[0]));
	ring->lined = 0;
	ring->done = left;
	for (unsigned i = 0; i < left; i++) {
		struct ring_request *r = &ring->request[i];
		int err = r->write ? file_write(r->file, r->data, r->bytes, r->offset)
				   : file_read(r->file, r->data, r->bytes, r->offset);

		r->result = err ? err : (int)r->bytes;
	}
}

void ring_submit(struct ring *ring, unsigned wait)
{
	while (!ring->broken) {
		int n = io_uring_submit_and_wait(ring->io, wait);

		if (n >= 0 && !io_uring_sq_ready(ring->io)) {
			ring->lined = 0;
			if (io_uring_cq_ready(ring->io) >= wait)
				return;
			/* Cut short by what no mask holds back, a stop or a debugger: it has taken all, and waits again. */
			continue;
		}
		/* Memory that it lacks just now, completions that nobody has reaped: they have room, and are waited for. */
		if (n >= 0 || n == -EINTR || n == -EAGAIN || n == -EBUSY || n == -ENOMEM)
			sched_yield();
		else
			do_without(ring);
	}
	/* Completions come by what the kernel does when a call of this thread returns. */
	while (ring->done + io_uring_cq_ready(ring->io) < wait)
		sched_yield();
}

bool ring_reap(struct ring *ring, uint64_t *tag, int *result)
{
	struct io_uring_cqe *cqe;

	if (ring->done) {
		*tag = ring->request[--ring->done].tag;
		*result = ring->request[ring->done].result;
		return true;
	}
	/* Not io_uring_peek_cqe, which may call the kernel. */
	if (!io_uring_cq_ready(ring->io))
		return false;
	io_uring_peek_cqe(ring->io, &cqe);
	*tag = io_uring_cqe_get_data64(cqe);
	*result = cqe->res;
	io_uring_cqe_seen(ring->io, cqe);
	return true;
}
