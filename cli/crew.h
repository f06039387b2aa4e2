/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Handlers for a bare userfaultfd, woken in one of several ways: what `weir stress fault` and `weir bench fault` compare.
 *
 *   CREW_WEIR   as weir does it: leader and followers, and placement (fault/readers.h, fault/placement.h)
 *   CREW_ONE    leader and followers alone
 *   CREW_READ   all handlers block in read: the kernel wakes all of them for each fault
 *   CREW_POLL   all handlers block in poll, and read without blocking: likewise
 *   CREW_EPOLL  each waits in an epoll set of its own that has the descriptor with EPOLLEXCLUSIVE: the kernel wakes one
 */
#ifndef WEIR_CLI_CREW_H
#define WEIR_CLI_CREW_H

#include <pthread.h>

#include "fault/placement.h"
#include "fault/readers.h"
#include "os/uffd.h"

enum crew_way { CREW_WEIR, CREW_ONE, CREW_READ, CREW_POLL, CREW_EPOLL, CREW_WAYS };
extern const char *const crew_way_name[CREW_WAYS];

enum { CREW_MAX = 64 };

struct crew;

struct crew_member {
	NO_SHARING struct crew *crew;
	pthread_t thread;
	unsigned number;
	int queue; /* CREW_EPOLL */
	enum place place;
	int cpu;		 /* CREW_WEIR: bound there, or -1 */
	_Atomic uint64_t served; /* (A) faults, written by the member */
	_Atomic uintptr_t
		serving; /* (A) address of the fault that it serves; 0: none. For people, when it hangs */
};

struct crew {
	int uffd;
	enum crew_way way;
	unsigned count;	  /* of members */
	unsigned readers; /* CREW_ONE, CREW_WEIR: at most so many in read */
	bool poll;	  /* CREW_ONE: readers poll instead of blocking in read */
	int cpu;	  /* all members are bound there; -1: nowhere */
	/* Installs the page of one fault. */
	void (*serve)(void *data, struct crew_member *member, const struct uffd_fault *fault);
	void *data;
	char *doorbell; /* a page under the userfaultfd whose fault tells one member to end */
	struct readers places;
	_Atomic uint32_t in_read,
		in_read_most;	    /* (A) CREW_ONE, CREW_WEIR: who reads, and most at a time */
	struct placement placement; /* CREW_WEIR: who faults attaches, and detaches */
	struct crew_member member[CREW_MAX];
};

/* The first fields up to data are the caller's. 0 or -errno. */
int crew_start(struct crew *crew);
/* When nobody faults any more. */
void crew_stop(struct crew *crew);
uint64_t crew_served(const struct crew *crew);

#endif
