/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fault service: handler threads read faults, pagein() serves them.
 *
 * Readers (fault/readers.h). With one faulting thread one handler reads; with more, as many as there are CPUs (and
 * handlers). Before a load that may block (a file) a handler gives up its place, so that somebody always reads.
 *
 * Placement. A fault served on the CPU that faulted costs 4 to 5 microseconds, across CPUs of a virtual machine 40 to
 * 100. So (fault/placement.h): while one thread faults, it and the handler are bound to one CPU; while several do, a
 * handler follows the thread it serves.
 */
#ifndef WEIR_FAULT_SERVICE_H
#define WEIR_FAULT_SERVICE_H

#include "fault/placement.h"
#include "fault/readers.h"
#include "reclaim/reclaim.h"

enum { HANDLERS_MAX = 16 };

struct service;

struct handler {
	struct service *service; /* (C) */
	struct pager *pager;	 /* (C) */
	pthread_t thread;	 /* (C) */
	enum place place;	 /* own thread */
	int cpu;		 /* own thread: bound there, or -1 */
	/* Odd while a message is served: region_destroy waits for it to change. */
	_Atomic uint64_t serving; /* (A) */
};

struct service {
	struct vm *vm;		 /* (C) */
	struct reclaim *reclaim; /* (C) */
	struct placement placement;
	unsigned handlers; /* (C) */
	unsigned started;  /* (C) between start and stop */
	char *doorbell;	   /* (C) a page whose fault tells one handler to end */
	struct handler handler[HANDLERS_MAX];
	struct readers readers;
	struct hist served_ns; /* from the message to the installed page */
	/* The process has forked, and has this descriptor for the child now: by the handler that was told, which reads no more
	 * meanwhile. (C) */
	void (*forked)(void *data, struct pager *self, int child);
	void *forked_data; /* (C) */
	bool lowest;	   /* (C) the doorbell lies below all other memory: see src/fork.h */
};

int service_init(struct service *service, struct vm *vm, struct reclaim *reclaim, unsigned handlers,
		 enum placement_policy policy);
/* Starts the handlers from the calling thread, whose descriptor table they share. */
int service_start(struct service *service);
/* In the child of a fork, where no handler is left: starts them anew, but none reads before service_read_again. For who
 * creates a thread touches memory that malloc gave libc for one that has gone: somebody else must serve that. */
int service_start_again(struct service *service);
void service_read_again(struct service *service);
/* Ends the handlers, from a thread that is none of them. Faults that come later wait for ever. */
void service_stop(struct service *service);
void service_destroy(struct service *service);
/* Returns when no handler serves a message that it read before the call. */
void service_quiesce(struct service *service);
/* The pager of a handler that is the calling thread, else NULL. */
struct pager *service_self(void);
void service_self_set(struct pager *pager);

#endif
