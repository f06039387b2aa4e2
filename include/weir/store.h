/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stores: where pages go that no longer fit in memory, even compressed. A store is a table of operations; weir's own file
 * store is one, and a program can bring its own (weir_store_register), for a device, a server, or a test.
 *
 * A store keeps *pages* as bytes, packed by weir (compressed, with a checksum), and names each by a *key* of its
 * own choice, 32 bits. weir verifies what it reads: bytes that are not what was written for that page are never given to the program,
 * whatever the store says. A key is valid from the success of its write until its discard.
 *
 * Who calls what:
 *
 *   open, close       once each, open first. By the background thread (which has a table of descriptors of its own), or, where the
 *                     instance has signal mode, by the caller of weir_open, so that `share` has something to share
 *   write, flush, poll    the background thread only, one call at a time
 *   read              any thread of weir's, several at a time; in signal mode also a thread of the program, inside its SIGBUS
 *                     handler (WEIR_STORE_BORROWED in the batch's flags), if the store has `share`
 *   discard, bytes, stat  any thread, also of the program, several at a time, also while a write is under way. They do not block
 *
 * What a store must not do in any of them: touch a region, call a function of weir's but `done`, change signal masks. For `weir run` moreover, where
 * malloc lives in a region: call malloc, in read, write, discard and poll. Threads of a store's own block all signals.
 *
 * Batches: `write` and `read` are given a batch and call batch->done(batch) exactly once, when every page's `error` says what became of
 * it: before they return, or later, from any thread, in any order of batches. Until then the batch, its pages and their bytes stay where they
 * are; from then on they are weir's. `done` takes no lock, does not block, and may be called in a signal handler. A store whose batches are
 * completed by weir's own thread has `poll`; without it completions come by themselves.
 *
 * An error is that of one page. A page whose write fails stays in memory, is counted (write_failed, events.swap_fail), and is
 * tried again later; one whose read fails is poisoned when it was asked for (a touch is SIGBUS), and left alone when it was read ahead.
 */
#ifndef WEIR_STORE_H
#define WEIR_STORE_H

#include <stddef.h>
#include <stdint.h>

#include <weir/api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One page of a batch. Its form is fixed. */
struct weir_store_page {
	uint32_t key;	/* out of a write: where it is; read: of which page */
	uint32_t bytes; /* at data; a multiple of the unit, at most WEIR_STORE_PAGE_MAX */
	void *data;	/* at a multiple of the unit */
	int error;	/* out: 0 or -errno */
	int reserved;
};

enum { WEIR_STORE_BATCH_MAX = 64, WEIR_STORE_PAGE_MAX = 8192 };

enum weir_store_flags {
	/* A read by a thread of the program in its SIGBUS handler: what is used must be async-signal-safe, and of descriptors only
	 * those that `share` was told of. -EBADF where that is not enough: weir then asks from a thread of its own. */
	WEIR_STORE_BORROWED = 1,
};

/* The pages' data lie one behind the other, in the order of the batch. */
struct weir_store_batch {
	struct weir_store_page *page;
	unsigned count; /* 1 to WEIR_STORE_BATCH_MAX */
	unsigned flags; /* enum weir_store_flags */
	void (*done)(struct weir_store_batch *batch);
};

/*
 * URIs, scheme:place?size=8G&keep=1G. Those of weir itself:
 *
 *   mem:                 none: pages stay in memory, over the limit if need be
 *   file:/folder         an unlinked temporary file, made when the first page must go there, in that folder, else in /var/tmp, else in /tmp;
 *                        never in memory (tmpfs, ramfs): another is tried then
 *   file:/path/name?size=8G   a file of that name (which may be in memory), made or emptied when the instance is opened, removed by
 *                        weir_close. weir_open fails with -EBUSY where another process has it, -EEXIST where it is not weir's: a file that
 *                        weir has not made is never touched, unless it is empty. When its process is killed it stays by its name, its lock
 *                        does not. size is needed: a folder that is misspelled is no file
 *   nbd://, rados://     -ENOSYS: this build has no such module
 *
 * size: it takes no more. keep: so much of the disk stays free; by default a hundredth of it, at least 64 MiB, of a small disk an eighth.
 * In signal mode reads on the thread that faulted go by pread.
 */
/* What a store is opened with: the parts of its URI. */
struct weir_store_config {
	size_t size;	    /* sizeof(struct weir_store_config) of the caller */
	const char *place;  /* valid while the store is open */
	uint64_t bytes_max; /* it takes no more than this; UINT64_MAX: no bound */
	uint64_t
		keep_free; /* bytes of the medium that stay free; UINT64_MAX: the store's default */
};

/* What open says of it. */
struct weir_store_info {
	size_t size; /* sizeof(struct weir_store_info) of the caller */
	unsigned
		unit; /* bytes: 512, 1024, 2048 or 4096. Pages are padded to multiples of it with zeroes */
};

struct weir_store_stat {
	size_t size;	    /* sizeof(struct weir_store_stat) of the caller */
	uint64_t bytes;	    /* of the pages that it keeps */
	uint64_t bytes_max; /* it takes at most; UINT64_MAX: no bound is known */
};

/* Grows at its end only: a table of an older size has NULL for what it does not know. */
struct weir_store_ops {
	size_t size; /* sizeof(struct weir_store_ops) */
	/* 0 or -errno: weir_open fails with it, or for a store that is opened late (file:) it is tried again, and pages stay in memory
	 * meanwhile. */
	int (*open)(const struct weir_store_config *config, struct weir_store_info *info,
		    void **store);
	/* Nothing is under way any more. What it keeps is of no use to anybody. */
	void (*close)(void *store);
	void (*write)(void *store, struct weir_store_batch *batch);
	/* Pages of a batch need not lie side by side in the store. Fewer bytes than `bytes` are an error (-EIO). */
	void (*read)(void *store, struct weir_store_batch *batch);
	void (*discard)(void *store, const uint32_t *keys, unsigned count);
	/* Of the page of a key: what was given to write. Pages are charged by this to swap.current. */
	uint32_t (*bytes)(void *store, uint32_t key);
	/* Completes all writes that are under way, and makes sure that the medium has taken them. 0 or -errno. */
	int (*flush)(void *store);
	void (*stat)(void *store, struct weir_store_stat *stat);

	/* The following may be NULL. Completes batches whose time has come; wait: waits for one, if any is under way. */
	void (*poll)(void *store, int wait);
	/* For signal mode. Called once after open, in the program's table of descriptors: calls move for each descriptor that reads need,
	 * and uses the number that it returns from then on. That one is in the program's table and in weir's own. */
	void (*share)(void *store, int (*move)(void *data, int fd), void *data);
};

struct weir;

/*
 * Removes the store of an instance, and puts another in its place (uri "mem:": none; NULL: the default file). Every page that it keeps comes back into
 * memory, compressed, charged to its container; then it is closed, and the new one is used from then on. Any thread but one of an oom handler; faults,
 * reclaim and other calls go on meanwhile, but for those that need weir's own thread (regions and containers that come or go, forks), which wait.
 * 0: done, and nothing is left there. -ENOMEM: the pages do not fit below the limits, even after reclaim: nothing has changed (where only the memory of the
 * system falls short in the middle, those that came stay in memory). -EIO: some cannot be read; all others have come, the store stays with these, and
 * their touch tells. What is wrong with the new store, and nothing has changed: see weir_open. -EBUSY: a child of fork still has pages there. -ENOTSUP: the instance has signal mode.
 */
WEIR_API int weir_store_replace(struct weir *weir, const char *uri);

/*
 * From now on URIs scheme:... are of this store, in this process. The table stays where it is. -EINVAL: a scheme that is none (2 to 15 small letters and
 * digits, a letter first) or a table without its operations; -EEXIST: it is there; -ENOSPC: 16 schemes.
 */
WEIR_API int weir_store_register(const char *scheme, const struct weir_store_ops *ops);

#ifdef __cplusplus
}
#endif

#endif
