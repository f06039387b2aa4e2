/* SPDX-License-Identifier: BSD-2-Clause */
/* weir top: what is on the screen (top_draw.c), and what keys and time do to it (top.c). */
#ifndef WEIR_CLI_TOP_H
#define WEIR_CLI_TOP_H

#include "process.h"

enum top_sort {
	SORT_PID,
	SORT_NAME,
	SORT_LIMIT,
	SORT_USED, /* of the limit */
	SORT_RESIDENT,
	SORT_COMPRESSED,
	SORT_STORED,
	SORT_FAULTS,
	SORT_PRESSURE,
	SORTS
};

struct top {
	struct processes processes;
	pid_t selected; /* 0: none yet */
	unsigned first; /* row that is the topmost on the screen */
	enum top_sort sort;
	bool reverse, help, colours;
	char message[160];  /* of what was done last */
	const char *prompt; /* NULL: nobody types */
	char typed[32];
};

/* Between initscr and endwin. */
void top_draw(struct top *top);
/* "faults/s", for messages. */
const char *top_sort_name(enum top_sort sort);

/* A row's figures: 0 where it does not tell. */
uint64_t top_value(const struct process *process, enum top_sort sort);
/* It has published nothing for long. */
bool top_silent(const struct process *process);

#endif
