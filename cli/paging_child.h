/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processes of weir bench paging: each holds the pages of one design and runs loads when it is told to, so that all
 * designs of a table are there at the same time and take turns.
 *
 *   READY --child_begin--> BUSY --answer--> READY        GONE: it ended, or was killed
 */
#ifndef WEIR_CLI_PAGING_CHILD_H
#define WEIR_CLI_PAGING_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

#include "paging_load.h"
#include "paging_peers.h"

enum design { PEER, SIGNAL, THREAD, LIMIT, DESIGNS };
enum table { TABLE_ZRAM, TABLE_FILE, TABLE_MMAP, TABLES };

struct child_setup {
	enum table table;
	enum design design;
	enum contents contents;
	uint32_t pages;
	uint64_t limit;	   /* bytes, for weir */
	uint32_t resident; /* pages, for LIMIT */
	const char *path;  /* TABLE_MMAP: the file; else the folder of weir's own file */
	int group;	   /* enter this peer_group; -1: none */
};

struct child_figures {
	int err;
	struct load_result load;
	double miss;   /* touches that had to wait for a page, an access */
	double loads;  /* pages that came, with those that came ahead, an access; not of PEER */
	double hit_ns; /* LIMIT: an access to memory that is there */
	uint64_t limit, resident, kept, charged,
		overhead;	/* weir, bytes; kept: copies of resident pages */
	uint64_t stored_faults; /* in the window, from the file */
	struct hist hist;
};

struct child {
	pid_t pid; /* 0: gone */
	int fd;
	bool grouped;
	uint64_t writes;	       /* that it has made */
	struct child_figures *figures; /* shared with it */
};

/* Starts it, and waits until it has filled its pages. 0 or -errno; -ECHILD: it was killed. */
int child_start(struct child *child, const struct child_setup *setup);
/* limit: for weir from now on; 0: as it is. Its figures are in *figures. */
int child_run(struct child *child, const struct load *load, uint64_t limit);
/* Reads all its pages. 0; -EBADMSG: something that was written is not there, or something else is. */
int child_verify(struct child *child);
void child_end(struct child *child);
/* For a signal handler: all that there are. */
void children_kill(void);

#endif
