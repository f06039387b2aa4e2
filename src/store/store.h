/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the engine sees of a store (weir/store.h): batches that are written in the background, pages that are read back and
 * verified. Nothing above this file knows what kind of store there is.
 *
 *      closed ──store_open──▶ open ──store_close──▶ closed
 *
 * A store is opened when the first page must go there (file:DIR), or at the start (all others).
 *
 * Letters: (A) atomic, (C) constant while open, (W) the background thread.
 */
#ifndef WEIR_STORE_STORE_H
#define WEIR_STORE_STORE_H

#include "base/atomic.h"
#include "store/object.h"
#include "weir/store.h"

typedef uint32_t store_key_t;

enum {
	STORE_BATCH = WEIR_STORE_BATCH_MAX,			 /* pages in one write, or read */
	STORE_BATCH_BYTES = STORE_BATCH * 2 * (1 << PAGE_SHIFT), /* room for them */
	STORE_READ_BYTES = STORE_BATCH * (1 << PAGE_SHIFT),
	STORE_PLACE_MAX = 4096,
};

struct store {
	const struct weir_store_ops *ops; /* (C) NULL: there is none, pages stay in memory (mem:) */
	void *handle;			  /* (C) */
	struct weir_store_config config;  /* (C) */
	char place[STORE_PLACE_MAX];	  /* (C) */
	unsigned unit;			  /* (C) */
	bool late;			  /* (C) opened when the first page must go there */
	_Atomic bool open;		  /* (A) set by who opens it */
	_Atomic uint64_t bytes;		  /* (A) of the pages that it keeps */
	_Atomic uint64_t failures;	  /* (A) batches of which a page could not be written */
};

/* A batch on its way: filled, handed over, done. All but the last word is the background thread's. */
struct store_batch {
	struct weir_store_batch io; /* the store's, while it is under way */
	struct weir_store_page page[STORE_BATCH];
	page_no_t number[STORE_BATCH];
	uint64_t tag[STORE_BATCH]; /* the caller's */
	unsigned count;
	size_t fill;
	char *buffer;	       /* STORE_BATCH_BYTES, page aligned, the caller's */
	_Atomic uint32_t done; /* (A) the store has said what became of it */
};

/* Parses a URI, or takes a folder (uri NULL; dir NULL: the default). Opens nothing. 0; -EINVAL: not a URI, or its parameters; -ENOSYS: this
 * build has no such store; -ENAMETOOLONG. */
int store_init(struct store *store, const char *uri, const char *dir);
/* 0 or -errno, of the store. */
int store_open(struct store *store);
/* The same for one that is opened late: where it cannot be, that is said once. By the background thread. */
int store_open_late(struct store *store);
/* For signal mode: moves the descriptors that reads need. */
void store_share(struct store *store, int (*move)(void *data, int fd), void *data);
/* Nothing is under way. By a thread of the table of descriptors in which it was opened. */
void store_close(struct store *store);
static inline bool store_is_open(const struct store *store)
{
	/* Pairs with the release in store_open: what is constant is complete. */
	return load_acquire(&store->open);
}
/* Is there a store at all? */
static inline bool store_there(const struct store *store)
{
	return store->ops;
}

/* Has a table all operations that it must have? */
bool store_ops_valid(const struct weir_store_ops *ops);

/* --- writing; the background thread --- */

void store_batch_start(struct store_batch *batch);
/* Adds a copy of an object; false: the batch is full. */
bool store_batch_add(struct store *store, struct store_batch *batch, const struct object *obj,
		     uint64_t tag) MUST_CHECK;
/* Hands it over. Its pages and bytes are the store's until store_batch_done. */
void store_write(struct store *store, struct store_batch *batch);
static inline bool store_batch_done(const struct store_batch *batch)
{
	/* Pairs with the release in write_done: the errors are there. */
	return load_acquire(&batch->done);
}
/* Completes what is ready; wait: sleeps until this batch is done. */
void store_poll(struct store *store, struct store_batch *batch, bool wait);
/* After done: counts what is kept now. 0, or the first error of a page. */
int store_batch_end(struct store *store, struct store_batch *batch);

/* --- reading; any thread --- */

/* One thread's: what it reads, and where. */
struct store_reader {
	struct weir_store_batch io;
	struct weir_store_page page[STORE_BATCH];
	_Atomic uint32_t done;
};

/*
 * Reads pages; buffer: STORE_READ_BYTES, page aligned. Returns how many were taken (at least 1): as many as fit there. Then
 * store_unpack says of each whether it is right. borrowed: by a thread of the program. -EBADF: not open.
 */
int store_read(struct store *store, struct store_reader *reader, const store_key_t *key,
	       unsigned count, void *buffer, bool borrowed) MUST_CHECK;
/* Page i of it as it was packed, verified; NULL: *err says why. Valid until the buffer is used again. */
const struct object *store_object(const struct store_reader *reader, unsigned i, page_no_t page,
				  int *err) MUST_CHECK;
/* Page i of it into dst. 0; -EBADMSG: not the page that was written; or what the store said. */
int store_unpack(const struct store_reader *reader, struct packer *packer, unsigned i,
		 page_no_t page, void *dst) MUST_CHECK;

/* --- forks: filestore.h; of other stores a child has only what it can do without --- */

/* What a child needs to read what is kept now: descriptors, into fds. Returns how many, at most STORE_PASS_MAX; 0: nothing is
 * kept. -ENOTSUP: it cannot; -EMFILE: it would have too many files. By the background thread, with nothing under way, as the
 * next two. */
enum { STORE_PASS_MAX = 12 };
int store_pass(const struct store *store, int *fds) MUST_CHECK;
/* What is kept now stays as it is, until store_unkeep. */
void store_keep(struct store *store);
void store_unkeep(struct store *store);
/* In the child, with what store_pass gave, before anybody uses it. lease: to be closed with the last of the files, and by every end
 * of the process; true: it is the store's now. */
bool store_after_fork(struct store *store, const int *fds, int lease);

/* Bytes that the page of a key takes there. The caller holds its busy bit. */
uint32_t store_key_bytes(const struct store *store, store_key_t key);
void store_discard(struct store *store, store_key_t key);

#endif
