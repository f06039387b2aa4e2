/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What lets others see and steer an instance: a thread that answers on a socket, and a segment with statistics. <weir/segment.h>
 * has the protocol and the layout.
 *
 *     background thread ──publish_start──▶ listening ──somebody watches──▶ writing, every WEIR_SEGMENT_PERIOD_MS
 *                                              ▲                                │
 *                                              └──────── the last one goes ─────┘
 *
 * The thread is one of weir's own: it has their table of descriptors, blocks all signals, calls no malloc and touches no region. It
 * sleeps until somebody comes; the segment is made for the first one who watches. Nothing has a name in a file system.
 */
#ifndef WEIR_PUBLISH_H
#define WEIR_PUBLISH_H

#include <pthread.h>

#include "base/atomic.h"
#include "weir/segment.h"
#include "weir/weir.h"

enum { PUBLISH_CLIENTS = 32 };

struct publish {
	pthread_t thread;      /* (C) */
	bool started;	       /* (C) once the instance is open */
	uint64_t start_ns;     /* (C) */
	_Atomic int listen_fd; /* (A) in weir's own table; -1: not yet */
	_Atomic bool stop;     /* (A) */
	/* Of the thread. */
	struct weir_segment *segment; /* NULL: nobody has watched yet */
	int segment_fd;
	uint64_t written_ns;
	unsigned clients;
	struct client {
		int fd;
		bool watches;
	} client[PUBLISH_CLIENTS];
};

/* On a thread that has weir's own table. Nothing of a former life is looked at, so that the child of a fork can begin anew.
 * 0 or -errno; without it an instance works as well. */
int publish_start(struct weir *weir);
/* By a thread of the program: returns when nobody is served any more. */
void publish_stop(struct weir *weir);

#endif
