/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Containers: who pays. A container is a tenant; containers form a tree under the root of an instance, and what is
 * charged to one counts in every container above it. Values are named as users of Linux cgroup v2 know them, and mean
 * the same where nothing else is said (Documentation/admin-guide/cgroup-v2.rst).
 *
 * All values are bytes: a resident page costs 4096, a compressed one its size class. A charge is taken first from a
 * stock that the calling thread has prepaid, so `current` counts what the stocks hold too: at most
 * weir_charge_bound() for a container, and all of it is drained before a charge fails.
 *
 * After a fork with a hand-over (weir_before_fork) the child has the same tree: the same handles and names, values, and handlers for
 * oom, and each page is charged to the child's container of the one that it was charged to. What was charged by weir_charge at the fork is
 * charged in the child as well, for the caller's memory is there too. Events, pressure, peak and counts begin anew. Containers are not
 * shared: parent and child each have their limits once more.
 *
 * Errors: 0 or -errno. Functions may be called by any thread at the same time; who deletes a container must know that
 * nobody uses the handle any more. A failed charge has charged nothing at any level.
 */
#ifndef WEIR_CONTAINER_H
#define WEIR_CONTAINER_H

#include <stddef.h>
#include <stdint.h>

#include <weir/api.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir;
struct weir_container;

enum { WEIR_NAME_MAX = 255, WEIR_DEPTH_MAX = 32 };
#define WEIR_NO_LIMIT UINT64_MAX /* the word "max" */

enum weir_value {
	WEIR_CURRENT, /* charged now, descendants included */
	WEIR_PEAK,    /* the highest current; setting it, to any value, begins anew from current */
	WEIR_MAX,     /* never exceeded by a charge; what cannot be made room for is oom */
	/* Above it the tenant reclaims from itself before each page that it gets; where that is not enough, and it is more than two
	 * hundredths above, the thread sleeps: longer with the square of that, at most 2 ms a fault. It never fails. */
	WEIR_HIGH,
	WEIR_LOW,	   /* at or under it nothing is reclaimed while others can give */
	WEIR_SWAP_CURRENT, /* bytes of its pages in the file */
	WEIR_SWAP_MAX,	   /* beyond this none of its pages go to the file */
	WEIR_VALUES
};

/* The root of an instance: its max is the instance's limit. Never deleted. */
WEIR_API struct weir_container *weir_container_root(struct weir *weir);
/*
 * A container under parent, without limits. name: 1 to 255 bytes without '/' and control characters, not "." or "..".
 * -EINVAL: a name that is none; -ENAMETOOLONG; -EEXIST: the parent has a child of that name; -ENOSPC: deeper than
 * WEIR_DEPTH_MAX; -ENOMEM.
 */
WEIR_API int weir_container_create(struct weir_container *parent, const char *name,
				   struct weir_container **container);
/* The container of a path like "batch/nightly" below parent; NULL: there is none. */
WEIR_API struct weir_container *weir_container_find(struct weir_container *parent,
						    const char *path);
/* Its name; "" for the root. Valid as long as the container. */
WEIR_API const char *weir_container_name(const struct weir_container *container);
/*
 * What is charged to it, its pages and its regions belong to its parent from now on, at once; the handle is gone. One deletion at a
 * time: others wait, and so do a creation and a move. -EBUSY: it has children; -EINVAL: the root.
 */
WEIR_API int weir_container_delete(struct weir_container *container);
/*
 * Puts it under another parent of the same instance. Nobody makes a region in it meanwhile. -ELOOP: parent is the container
 * itself, or below it; -EBUSY: something is charged to it, or it has regions; -EEXIST, -ENOSPC as in create; -EXDEV: another instance; -EINVAL: the root.
 */
WEIR_API int weir_container_move(struct weir_container *container, struct weir_container *parent);

WEIR_API uint64_t weir_container_get(struct weir_container *container, enum weir_value value);
/*
 * -EINVAL: WEIR_CURRENT and WEIR_SWAP_CURRENT, which only are; a max of the root below WEIR_LIMIT_MIN. -EAGAIN: max or
 * high is set, and holds from the next charge on, but what could be reclaimed at once was not enough to get below.
 */
WEIR_API int weir_container_set(struct weir_container *container, enum weir_value value,
				uint64_t bytes);
/* By name ("current" "peak" "max" "high" "low" "swap.current" "swap.max") and as text: "64M", "1.5G", "max" for no
 * limit. -ENOENT: no such value; -EINVAL: not a size; -ERANGE: larger than 64 bits; else as weir_container_set. */
WEIR_API int weir_container_set_text(struct weir_container *container, const char *value,
				     const char *text);

/* Makes the container and its descendants give bytes up, those in the stocks of threads first (0: only those, of all
 * containers). -EAGAIN: less than that was to be had; it has given what it could. */
WEIR_API int weir_container_reclaim(struct weir_container *container, uint64_t bytes);

/* How often, since the container was created. */
struct weir_events {
	uint64_t low;	   /* reclaimed from although at or under low */
	uint64_t high;	   /* throttled for being above high */
	uint64_t max;	   /* a charge met max */
	uint64_t oom;	   /* nothing could be reclaimed, and a charge failed or went over */
	uint64_t swap_max; /* a page was kept out of the file by swap.max */
	uint64_t
		swap_fail; /* a page could not be written to the file, for that or any other reason */
};
/* local: of this container itself; else with those of its descendants. */
WEIR_API void weir_container_events(struct weir_container *container, int local,
				    struct weir_events *events);

struct weir_container_stat {
	size_t size;		   /* in: sizeof(struct weir_container_stat) of the caller */
	uint64_t anon, file;	   /* bytes resident */
	uint64_t swapcache;	   /* bytes of copies kept of resident pages */
	uint64_t compressed;	   /* bytes that compressed pages take, kept copies included */
	uint64_t compressed_pages; /* bytes of those pages */
	uint64_t stored;	   /* bytes of pages that are in the file */
	uint64_t active,
		inactive; /* bytes resident, with and without credit for having come back soon */
	uint64_t soft_faults;	  /* of pages that were in memory */
	uint64_t major_faults;	  /* that brought a page back, */
	uint64_t refaults;	  /* and pages that had left a short time ago: see weir_pressure */
	uint64_t scanned, stolen; /* pages that reclaim looked at, pages that it took */
	uint64_t charge_failures;
	uint64_t overhead; /* of the page words of its regions */
};
/* With those of its descendants. Looks at every page of their regions. -EINVAL: size. */
WEIR_API int weir_container_stat(struct weir_container *container,
				 struct weir_container_stat *stat);

/* Time lost to memory, as PSI counts it (Documentation/accounting/psi.rst). A stall is a fault that finds no room, is throttled
 * by high, or brings back a page that left so short a time ago that with more memory it would have stayed (a refault: fewer
 * pages left meanwhile than there are resident, or half of what the limit holds). Reading much once is no stall.
 * some: at least one thread stalls; full: all threads that loaded or stalled within the last 100 ms do. avg10: per ten thousand of the time, over the last ten seconds. */
struct weir_pressure {
	uint64_t some_us, full_us;
	unsigned some_avg10, full_avg10;
};
WEIR_API void weir_container_pressure(struct weir_container *container,
				      struct weir_pressure *pressure);
/* "some avg10=0.12 total=345\nfull ...\n"; returns what snprintf would. */
WEIR_API int weir_pressure_print(const struct weir_pressure *pressure, char *text, size_t room);

/*
 * Charges memory of the caller's own. 0, or -ENOMEM: over a limit, and nothing could be reclaimed. The first charge of
 * a thread gives it a stock, which is given back when the thread ends.
 */
WEIR_API int weir_charge(struct weir_container *container, uint64_t bytes);
/* Any thread may give back what another has charged; more than was charged is a programmer's error. */
WEIR_API void weir_uncharge(struct weir_container *container, uint64_t bytes);
/* Bytes of a container that the stocks of all threads together can hold at most. */
WEIR_API uint64_t weir_charge_bound(struct weir_container *container);

/*
 * What happens when reclaim cannot make room below max: the handler of the container whose max it is, or of the next one
 * above that has a handler. It runs in one of weir's threads, in signal mode on the thread
 * that faulted, in its SIGBUS handler: it must not touch a region, allocate or block for long, nor create, move or delete
 * containers, or set anything of them: who does that may be waiting for it.
 */
enum weir_oom {
	WEIR_OOM_FAIL, /* the charge fails; where it was for a first touch, the touch is SIGBUS (the default) */
	/* It goes over the limit, and is counted (what the root does by default); fails beyond 4 EiB in all. */
	WEIR_OOM_OVER,
	WEIR_OOM_RETRY, /* the handler has made room; taken for an answer a few times, then it is WEIR_OOM_FAIL */
};
typedef enum weir_oom (*weir_oom_fn)(void *data, struct weir_container *container, uint64_t bytes);
WEIR_API void weir_container_on_oom(struct weir_container *container, weir_oom_fn fn, void *data);

#ifdef __cplusplus
}
#endif

#endif
