/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs under weir on this machine: finding them, what they publish, and what they are told. See <weir/segment.h>.
 *
 * What comes from another process is looked at before it is used: root sees everybody's programs. Nothing here waits for one that
 * does not answer longer than PROCESS_PATIENCE_MS.
 */
#ifndef WEIR_CLI_PROCESS_H
#define WEIR_CLI_PROCESS_H

#include <sys/types.h>

#include "command.h"
#include "segment.h"

enum { PROCESS_PATIENCE_MS = 1000 };

enum process_state {
	PROCESS_ASKED,	/* no answer yet */
	PROCESS_READY,	/* its statistics can be read */
	PROCESS_GONE,	/* ended, or what it says is no segment */
	PROCESS_BUSY,	/* as many as it serves are connected */
	PROCESS_FOREIGN /* another user's */
};

struct process {
	pid_t pid;
	uid_t uid;
	enum process_state state;
	int fd, segment_fd;
	char program[64];		   /* as the kernel names it, printable */
	struct seen *seen;		   /* the last that was read; NULL: nothing yet */
	uint64_t before_ns, before_faults; /* of the one before that; 0: none */
};

struct processes {
	struct process *at;
	unsigned count;
};

/* Looks for new ones (pid 0: all; else that one), asks them, and drops those that are gone. Other users' programs are listed
 * as such only when they are asked for by pid. 0 or -errno. */
int processes_find(struct processes *processes, pid_t pid);
/* Takes answers, waiting until all are there, or so many milliseconds have passed. */
void processes_wait(struct processes *processes, int timeout_ms);
/* Reads what it has published. -ESRCH: it has ended. */
int process_read(struct process *process);
/* Drops those that have ended. */
void processes_sift(struct processes *processes);
void processes_close(struct processes *processes);

/* The one program, ready, or a message and NULL. */
struct process *processes_one(struct processes *processes, pid_t pid);

/* Sends a command and waits for what comes back, so many milliseconds (-1: as long as the program lives). -ESRCH: it has ended;
 * -ETIMEDOUT: then it is not to be asked again. */
int process_command(struct process *process, const struct command *command, struct reply *reply,
		    int timeout_ms);

/* A number from 1 on, or a message and 0. */
pid_t pid_parse(const char *text);

#endif
