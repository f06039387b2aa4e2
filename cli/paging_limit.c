/* SPDX-License-Identifier: BSD-2-Clause */
#include "paging_limit.h"

#include <errno.h>
#include <lz4.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "base/base.h"
#include "os/mem.h"
#include "os/signal.h"
#include "os/uffd.h"

enum { BATCH = 256, AHEAD = 16, RING_SPARE = 4 * BATCH };

static struct limit {
	uint32_t pages, resident;
	enum contents contents;
	int uffd;
	char *region, *plain; /* paged; all there */
	size_t bytes;
	char *packed;	  /* copies of all pages, one after the other */
	uint64_t *copy;	  /* of each page: where it begins there */
	uint32_t *length; /* 4096: as it is */
	struct mem_dropper dropper;
	bool write, ahead, helped;
	/* Pages in memory, oldest first. Entries are written before loaded moves past them, and 0 means not yet written. */
	_Atomic uint32_t *ring; /* (A) page + 1 */
	uint32_t ring_size;
	NO_SHARING _Atomic uint64_t loaded;  /* (A) ever put into the ring */
	NO_SHARING _Atomic uint64_t dropped; /* (A) ever taken; written by who holds dropping */
	NO_SHARING _Atomic uint32_t
		dropping;  /* taken by exchange_acquire, given back by store_release */
	_Atomic bool stop; /* (A) the helper */
} limit;

/* Buffers of a thread, touched before the first fault. */
struct buffers {
	_Alignas(4096) char page[AHEAD * PAGE_SIZE];
	char out[LZ4_COMPRESSBOUND(4096)];
	_Alignas(64) char state[16 * 1024 + 64];
};
static struct buffers buffers[LOAD_THREADS + 1]; /* the last one is the helper's */
static _Atomic unsigned buffers_used;		 /* (A) */
static _Thread_local struct buffers *mine;

/* Frames in the kernel are copied and written, as in any pager. */
static void unpack(uint32_t page, char *at)
{
	const uint32_t n = limit.length[page];

	if (n == PAGE_SIZE)
		memcpy(at, limit.packed + limit.copy[page], PAGE_SIZE);
	else if (limit.contents == ZERO)
		memset(at, 0, PAGE_SIZE);
	else
		(void)LZ4_decompress_safe(limit.packed + limit.copy[page], at, (int)n,
					  (int)PAGE_SIZE);
}

static void pack(const char *page)
{
	/* Zeroes are found by looking. */
	if (limit.contents == ZERO && !memcmp(page, page + 8, PAGE_SIZE - 8))
		return;
	(void)LZ4_compress_fast_extState(mine->state, page, mine->out, (int)PAGE_SIZE,
					 (int)sizeof(mine->out), 1);
}

/* Drops the oldest batch. Who calls holds dropping. */
static void batch_drop(void)
{
	struct iovec runs[BATCH];
	const uint64_t from = load_relaxed(&limit.dropped);
	unsigned n = 0;

	for (unsigned i = 0; i < BATCH; i++) {
		_Atomic uint32_t *slot = &limit.ring[(from + i) % limit.ring_size];
		uint32_t page;
		char *at;

		while (!(page = load_acquire(slot)))
			cpu_relax();
		store_relaxed(slot, 0);
		at = limit.region + ((size_t)(page - 1) << PAGE_SHIFT);
		if (limit.write)
			pack(at);
		if (n && (char *)runs[n - 1].iov_base + runs[n - 1].iov_len == at)
			runs[n - 1].iov_len += PAGE_SIZE;
		else
			runs[n++] = (struct iovec){at, PAGE_SIZE};
	}
	(void)mem_drop(&limit.dropper, runs, n);
	/* Slots are free before they are counted as such. */
	store_release(&limit.dropped, from + BATCH);
}

static bool too_many(uint32_t spare)
{
	return load_relaxed(&limit.loaded) - load_acquire(&limit.dropped) + spare > limit.resident;
}

static void room_make(void)
{
	if (limit.helped) {
		while (too_many(0))
			sched_yield();
		return;
	}
	if (too_many(0) && !exchange_acquire(&limit.dropping, 1)) {
		if (too_many(0))
			batch_drop();
		store_release(&limit.dropping, 0);
	}
	while (too_many(0) && load_relaxed(&limit.loaded) - load_relaxed(&limit.dropped) >
				      limit.resident + RING_SPARE / 2)
		sched_yield();
}

static bool serve(const struct bus_fault *fault)
{
	const uint64_t offset = fault->address - (uintptr_t)limit.region;
	const uint32_t page = (uint32_t)(offset >> PAGE_SHIFT);
	unsigned n = 1;
	size_t done = 0;
	uint64_t at;

	if (offset >= limit.bytes)
		return false;
	if (limit.ahead)
		n = MIN((unsigned)AHEAD, limit.pages - page);
	for (unsigned i = 0; i < n; i++)
		unpack(page + i, mine->page + i * PAGE_SIZE);
	/* -EEXIST where the other thread was first: then there is nothing to do. */
	(void)uffd_copy(limit.uffd, limit.region + ((size_t)page << PAGE_SHIFT), mine->page,
			(size_t)n << PAGE_SHIFT, false, &done);
	done >>= PAGE_SHIFT;
	if (!done)
		return true;
	at = add_relaxed(&limit.loaded, done);
	for (unsigned i = 0; i < done; i++)
		/* Pairs with the load in batch_drop. */
		store_release(&limit.ring[(at + i) % limit.ring_size], page + i + 1);
	room_make();
	return true;
}

static void *helper_main(void *data)
{
	mine = data;
	while (!load_relaxed(&limit.stop)) {
		/* Some batches ahead of need. */
		if (too_many(2 * BATCH))
			batch_drop();
		else
			sched_yield();
	}
	return NULL;
}

static void copies_make(void)
{
	size_t end = 0;

	memset(buffers, 0, sizeof(buffers));
	mine = buffers;
	for (uint32_t i = 0; i < limit.pages; i++) {
		int n;

		load_page_make(limit.contents, i, mine->page);
		n = limit.contents == ZERO
			    ? 0
			    : LZ4_compress_default(mine->page, mine->out, (int)PAGE_SIZE,
						   (int)sizeof(mine->out));
		limit.copy[i] = end;
		limit.length[i] = (uint32_t)MIN(n, (int)PAGE_SIZE);
		memcpy(limit.packed + end, n < (int)PAGE_SIZE ? mine->out : mine->page,
		       limit.length[i]);
		end += limit.length[i];
	}
}

int limit_open(uint32_t pages, uint32_t resident, enum contents contents)
{
	int err;

	limit.pages = pages;
	limit.resident = resident;
	limit.contents = contents;
	limit.bytes = (size_t)pages << PAGE_SHIFT;
	limit.ring_size = resident + RING_SPARE;
	limit.packed = mem_alloc(limit.bytes);
	limit.copy = mem_alloc(ALIGN_UP(pages * sizeof(*limit.copy), PAGE_SIZE));
	limit.length = mem_alloc(ALIGN_UP(pages * sizeof(*limit.length), PAGE_SIZE));
	limit.ring = mem_alloc(ALIGN_UP(limit.ring_size * sizeof(*limit.ring), PAGE_SIZE));
	limit.plain = mem_alloc(limit.bytes);
	limit.region = mem_region_map(limit.bytes, MIB(2));
	if (!limit.packed || !limit.copy || !limit.length || !limit.ring || !limit.plain ||
	    !limit.region)
		return -ENOMEM;
	mem_dropper_init(&limit.dropper);
	copies_make();
	load_fill(limit.plain, pages, contents);
	limit.uffd = uffd_open_user(UFFD_HAS_SIGBUS);
	if (limit.uffd < 0)
		return limit.uffd;
	err = uffd_register(limit.uffd, limit.region, limit.bytes, UFFD_MISSING);
	return err ? err : bus_handler_install(serve);
}

static void thread_begin(void)
{
	mine = &buffers[add_relaxed(&buffers_used, 1)];
}

static void mark_loaded(void *data, bool open)
{
	uint64_t *loads = data;

	*loads = open ? load_relaxed(&limit.loaded) : load_relaxed(&limit.loaded) - *loads;
}

int limit_run(struct load load, struct load_result *result, uint64_t *loads)
{
	static struct hist unused;
	pthread_t helper = 0;
	int err;

	limit.write = load.write;
	limit.ahead = load.pattern == PATTERN_SEQ;
	limit.helped = load.write && load.threads == 1;
	store_relaxed(&limit.stop, false);
	store_relaxed(&buffers_used, 0);
	load.region = limit.region;
	load.thread_begin = thread_begin;
	load.mark = mark_loaded;
	load.data = loads;
	if (limit.helped) {
		err = -pthread_create(&helper, NULL, helper_main, &buffers[LOAD_THREADS]);
		if (err)
			return err;
	}
	err = load_run(&load, result, &unused);
	store_relaxed(&limit.stop, true);
	if (limit.helped)
		pthread_join(helper, NULL);
	return err;
}

int limit_hits(struct load load, struct load_result *result)
{
	static struct hist unused;

	load.region = limit.plain;
	return load_run(&load, result, &unused);
}
