/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libweir: memory larger than RAM, in user space.
 *
 * An *instance* (struct weir) holds a limit and serves faults. A *region* is a range of addresses that it pages: used
 * like any memory, by the program and by system calls; pages that do not fit the limit are compressed, or written to
 * an unlinked temporary file when the compressed ones do not fit either, and come back when they are touched.
 *
 *     struct weir_options options = {.size = sizeof(options), .limit = 256 << 20};
 *     struct weir *weir;
 *     void *table;
 *     int err = weir_open(&options, &weir);
 *     if (!err)
 *             err = weir_region_create(weir, 8ull << 30, &table);
 *
 * Errors: 0 or a count, or -errno. Functions may be called by any thread at the same time unless they say otherwise.
 * None may be called from a signal handler; asynchronous signals are blocked while they hold a lock, so a signal handler may
 * touch regions. Arguments may lie in regions. After fork the child has the regions as plain memory without a limit
 * (see weir_before_fork), and must not use the instance.
 *
 * Modes, of each region. In *thread mode* threads of weir's own serve faults: nothing in the program is different, system
 * calls may use the memory. Stacks may lie in it, too; pin what functions of weir use of them (weir_region_pin), for they hold
 * locks now and then that serving a fault takes. Permission: CAP_SYS_PTRACE, or the sysctl vm.unprivileged_userfaultfd = 1, or access to
 * /dev/userfaultfd.
 *
 * In *signal mode* the thread that faults serves its fault itself, in a SIGBUS handler: faster, and anybody may (Linux
 * 5.11). In exchange:
 *   - A system call that is given memory that is not there returns EFAULT: weir_region_pin it before.
 *   - SIGBUS stays unblocked in every thread that uses the region: blocked, a fault ends the process. weir_thread_attach
 *     unblocks it. A SIGBUS that is not weir's goes to the handler that was there when weir_open was called; who
 *     installs one later calls the one that sigaction gave back for what is not his own.
 *   - The handler runs on the thread's stack and takes up to 24 KiB of it. No stack may lie in such a region.
 *   - weir's descriptors are in the program's table (from 480 on, where there is room). Closed by the program (closefrom),
 *     faults are served more slowly, by another thread; nothing is lost.
 */
#ifndef WEIR_WEIR_H
#define WEIR_WEIR_H

#include <stddef.h>
#include <stdint.h>

#include <weir/api.h>
#include <weir/container.h>
#include <weir/file.h>
#include <weir/kmap.h>
#include <weir/pool.h>
#include <weir/region.h>
#include <weir/segment.h>
#include <weir/store.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir;

enum weir_placement {
	WEIR_PLACEMENT_AUTO, /* handlers and faulting threads that attached share a CPU where that is faster */
	WEIR_PLACEMENT_NONE, /* no thread's affinity is touched */
	WEIR_PLACEMENT_PAIR, /* the thread that faulted last is bound to one CPU with its handler, at once */
	WEIR_PLACEMENT_FOLLOW, /* a handler binds itself to the CPU of the thread it serves, always; no thread of the program */
};

/* Zero means the default. New fields are added at the end; size tells which the caller knows. */
struct weir_options {
	size_t size; /* sizeof(struct weir_options) */
	uint64_t
		limit; /* bytes, at least WEIR_LIMIT_MIN: resident pages, compressed pages and their copies */
	uint64_t
		compressed_share; /* bytes that compressed pages may take before the coldest go to the file;
				      at most seven eighths of the limit. By default that follows what faults cost,
				      between a quarter and three quarters of the limit */
	const char *
		store_dir; /* folder of the temporary file: default $TMPDIR, then /var/tmp, then /tmp; never
				      one that lies in memory */
	unsigned handlers; /* threads that serve faults; default one a CPU, 2 to 4 */
	enum weir_placement placement;
	unsigned
		churn_ms; /* for tests: every so many ms a block of memory that holds compressed pages goes offline, its
			      contents moved, and comes back when it is needed; default never */
	enum weir_mode mode; /* of its regions (weir/region.h); default thread mode */
	const char *
		trace; /* file that the packets by which pages leave are appended to, before they run: a command of 16 hex
			  digits a line, for `weir cmdq dis --soc weir`. Thread mode only. Default none */
	/* Compressed pages, and the pages of files, are in memory that weir has not mapped (memfds), and reaches through so many
	 * windows of 64 KiB (weir/kmap.h): a power of two, 4 at least. For processes that are short of address space, and for
	 * tests. Default 0: everything is mapped, which is faster. Thread mode only. */
	unsigned kmap_slots;
	/* Where pages go that no longer fit in memory, in place of store_dir: a URI, see weir/store.h. */
	const char *store;
	/* Not 0: the program calls weir_after_fork_child in each child of fork, and children then go on with an instance of
	 * their own. Needs CAP_SYS_PTRACE; without it, with other modes than thread mode, with regions over files or windows, forks are
	 * as without. For one instance of a process. */
	unsigned hand_over;
	/* 1: the same user and root can see this instance in `weir stat` and `weir top`, and change its limits by `weir set`:
	 * weir/segment.h. A thread more. Default 0: nobody can. */
	unsigned publish;
	/* Path of a container, like "batch/nightly", that is made, and has all regions for which nothing else is said. -EINVAL: no
	 * path. Default the root. */
	const char *container;
	/* What cold pages are compressed with: "lz4", the default; "zstd" or "zstd:LEVEL", 1 to 10, default 3: smaller, several times
	 * slower. */
	const char *compress;
};

#define WEIR_LIMIT_MIN (1u << 20)

/*
 * Starts an instance: its threads block all signals and have a table of file descriptors of their own.
 * -EINVAL: options; -ENOTSUP: windows and signal mode, or a libzstd that needs more memory than weir has for it; -EPERM: no permission
 * for userfaultfd; -ENOSYS: a kernel without it or without its
 * write-protect mode, or without close_range (before Linux 5.9); -ENOMEM; -ENOSPC: 64 instances in signal mode; what open(2)
 * said of the file in trace; of the store -EINVAL, -ENOSYS, -ENAMETOOLONG, -EBUSY, -EEXIST (weir/store.h) or what else it says. weir_advice tells people what to do about it.
 */
WEIR_API int weir_open(const struct weir_options *options, struct weir **weir);
/* For an error of weir_open: "permission denied; set vm.unprivileged_userfaultfd=1, or give access to ...". */
WEIR_API const char *weir_advice(int err);
/* Ends it, and unmaps its regions. Nobody may use them any more. */
WEIR_API void weir_close(struct weir *weir);

/* A new limit, at once for the next fault; the rest is reclaimed in the background. -EINVAL: below WEIR_LIMIT_MIN. */
WEIR_API int weir_set_limit(struct weir *weir, uint64_t limit);

/*
 * The pool of frames that hold compressed pages follows the load by itself: blocks of memory come online when frames run
 * short, and go offline when they are mostly free. By hand: so many bytes, rounded up to whole blocks (4 to 16 MiB), come online and
 * stay, though they be free; or go offline, the emptiest block first, what it holds moved elsewhere, and come back
 * when the load needs them. Return how many bytes came or went, which may be fewer than were asked for, or why none did:
 * -EINVAL: no bytes; -ENOMEM: no block is left to come online, or the system has no memory for its tables; -EBUSY: what is
 * online is needed, or a frame cannot move just now; -ENOENT: no block is online.
 */
WEIR_API int64_t weir_memory_online(struct weir *weir, uint64_t bytes);
WEIR_API int64_t weir_memory_offline(struct weir *weir, uint64_t bytes);

/*
 * Around fork(2), all three by the thread that forks, which may be one of several; for pthread_atfork. One fork at a time: others
 * wait in weir_before_fork. All asynchronous signals are blocked from there until after the fork, in parent and child.
 *
 * With options.hand_over the child has every page as it was at the fork, and an instance of its own: its own limit, of the same size,
 * containers with the same handles and limits (weir/container.h), threads, statistics and file. weir_after_fork_child gives it these: 0, and the instance goes on under the same name; else -errno, and
 * the child must end, having touched no region. weir_after_fork returns in the parent when that is done, or the child has gone; after 3 s
 * it does in any case.
 * -ENOTSUP: the child has no room for threads or descriptors; the parent has loaded all pages for it, and it is as below.
 *
 * Else, or where that cannot be had (weir_after_fork_child returns -ENOTSUP then, too): weir_before_fork loads every page that is not in
 * memory, over the limit if need be, and none is dropped until weir_after_fork. The child has the same memory, and no
 * instance: it must not use weir any more. -EIO: a page could not be read back (it stays SIGBUS in both).
 */
WEIR_API int weir_before_fork(struct weir *weir);
WEIR_API void weir_after_fork(struct weir *weir);
WEIR_API int weir_after_fork_child(struct weir *weir);

/*
 * Optional: lets handlers see on which CPU the calling thread runs, so that one is bound there with it where that is faster, and unblocks
 * SIGBUS for signal mode. Detach before the thread ends. A thread that is bound passes the binding on to the threads and processes that
 * it creates: call weir_thread_unbind before.
 */
WEIR_API void weir_thread_attach(struct weir *weir);
WEIR_API void weir_thread_detach(struct weir *weir);
/* Before the program creates threads or processes or asks for its affinity: a thread that weir has bound to a CPU
 * gets its own affinity back, for a tenth of a second at least. */
WEIR_API void weir_thread_unbind(struct weir *weir);

struct weir_stats {
	size_t size;		       /* in: sizeof(struct weir_stats) of the caller */
	uint64_t limit, charged, peak; /* bytes; peak: highest charged */
	uint64_t resident, compressed; /* bytes charged for */
	uint64_t overhead;	       /* tables, unused room of the store, free frames kept */
	uint64_t populated; /* bytes of the regions that were touched and not discarded */
	uint64_t faults, soft_faults, first_faults, compressed_faults, stored_faults, parked_faults;
	uint64_t ahead; /* pages loaded before they were asked for */
	uint64_t refaults, same_filled, moved_out;
	uint64_t packed_in, packed_out; /* bytes before and after compression */
	uint64_t stored, written,
		write_failed; /* bytes in the file; pages written; pages that stayed */
	uint64_t over_max, poisoned, fork_loaded, bindings;
	uint64_t fault_ns_p50, fault_ns_p90, fault_ns_p99, fault_ns_max,
		fault_ns_sum; /* from message to page */
	/* Blocks of memory for compressed pages: come and gone, gone while they held pages, those that did not go, and
	 * frames that were emptied for it. */
	uint64_t blocks_onlined, blocks_offlined, blocks_offlined_live, blocks_refused,
		frames_migrated;
	/* Packets by which pages left, and those that failed; bytes that the memory for them is charged with, to the root. */
	uint64_t packets, packets_failed, packet_bytes;
	/* Of the windows on compressed pages: see struct weir_kmap_stats. */
	uint64_t kmap_hits, kmap_misses, kmap_retired, kmap_flushes, kmap_waits, kmap_busy;
	uint64_t forks_handed_over; /* children that went on with an instance of their own */
};

/* Fills as much as stats->size covers. */
WEIR_API int weir_stats_read(struct weir *weir, struct weir_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
