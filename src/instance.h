/* SPDX-License-Identifier: BSD-2-Clause */
/* An instance and its parts, for weir.c (start, stop, regions, statistics) and tenants.c (what control asks for). */
#ifndef WEIR_INSTANCE_H
#define WEIR_INSTANCE_H

#include "fault/service.h"
#include "fork.h"
#include "fault/signal.h"
#include "publish.h"
#include "weir/weir.h"

/* Descriptors that are in the program's table and in weir's own, by the same number: for signal mode (modes.c). */
enum { SHARED_MAX = 4 };
struct shared {
	int fd;
	dev_t device;
	ino_t inode;
};

struct weir {
	struct lock lock;	/* (I) RANK_INSTANCE: the list of regions */
	struct weir_pool *pool; /* (C) */
	struct weir_kmap *kmap; /* (C) windows on its frames; NULL: they are mapped */
	int frames_fd;		/* (C) of the file that they are then in, in weir's own table; -1 */
	struct tree containers;
	struct compressed memory;
	struct store stores[2]; /* vm.store is the one that is used; the other is the next */
	struct lock store_lock; /* RANK_STORE: one is replaced at a time */
	struct vm vm;
	struct reclaim reclaim;
	struct service service;
	struct signal_service signal;
	struct fork fork;
	enum weir_mode mode;		  /* (C) */
	struct shared shared[SHARED_MAX]; /* (C) */
	unsigned shares;		  /* (C) */
	struct publish publish;
	struct pager *pager;		    /* (C) of the background thread */
	pthread_t background;		    /* (C) */
	_Atomic uint32_t started;	    /* (A) enum start_state, slept on as a futex */
	_Atomic uint32_t visitors[2], turn; /* (A) see instance_visit */
	int start_error;		    /* written before started */
	const char *
		trace; /* (C) until weir_open returns: where packets are traced to; NULL: nowhere */
	int trace_fd;  /* (C) once they are */
	struct weir_container *
		home; /* (C) of regions for which nothing else is said; deleted, it is a program's error */
	bool published; /* (C) others may see and steer it */
	uint64_t share; /* (I) compressed_share as it was asked for; 0: the default */
};

static inline struct weir *instance_of(const struct weir_container *container)
{
	return CONTAINER_OF(container->tree, struct weir, containers);
}

/* weir.c: the background thread says once how its start went, and who started it waits for that. */
void instance_starting(struct weir *weir);
void instance_started(struct weir *weir, int err);
int instance_start_wait(struct weir *weir);

/* modes.c: descriptors of signal mode, in the program's table; before weir's threads take a table of their own. */
int modes_open_signal(struct weir *weir);
void modes_close_signal(struct weir *weir);
/* The file of frames that are not mapped: only weir's own threads have it, so only they may map a window or trim the pool. In the
 * program's table until weir's is there. */
int modes_open_frames(struct weir *weir, uint64_t bytes);
void modes_hand_over(struct weir *weir);
/* By the background thread: takes a table of its own, with what it needs; and closes all of that. */
int modes_open_own(struct weir *weir);
int modes_close_own(void *weir);

/* trace.c: by the background thread, whose table has the file; before any packet runs. 0 or -errno. */
int trace_open(struct weir *weir, const char *path);
void trace_close(struct weir *weir);

/* files.c: what regions over files and open files need. files_close by the background thread, when there are no handlers any
 * more. files_flush: what can be written is, before the region at addr goes. */
void files_init(struct weir *weir);
int files_close(void *weir);
void files_flush(struct weir *weir, void *addr);

/* Registers what control asks for. */
void tenants_init(struct weir *weir);
/* Sets how much compressed pages may take of the root's max. */
void tenants_share(struct weir *weir);

/*
 * Visitors: threads of the program that go through the list of regions, or hold one or a container, without the lock.
 * Who destroys one hides it, then waits until nobody has it any more; taking turns, so that newcomers do not hold
 * that up.
 */
unsigned instance_visit(struct weir *weir);
void instance_leave(struct weir *weir, unsigned turn);
/* Does it lie in a region? Any thread of the program; no lock is held meanwhile, so signals may come. */
bool instance_pages(struct weir *weir, const volatile void *address);
/* Every thread that has a region, a container or a slot of a table in its hands is through with it: handlers, threads that
 * serve their own fault, visitors, the job under way. On the background thread. */
void instance_quiesce(struct weir *weir);

/* regions.c: weir_region_discard. patient: waits for a fork as long as it takes, and writes nothing.
 * pinned: pages that are pinned, too. */
int region_discard_beside_forks(struct weir *weir, void *addr, uint64_t bytes, bool patient,
				bool pinned);

#endif
