/* SPDX-License-Identifier: BSD-2-Clause */
/* What a program did under weir, as a table for people or one line of JSON. */
#ifndef WEIR_AGENT_REPORT_H
#define WEIR_AGENT_REPORT_H

#include <sys/types.h>

#include "config.h"
#include "weir/weir.h"

/* At start: keeps what is needed to reach standard error at the end, and makes what children of fork add theirs to. */
void report_prepare(const struct config *config);
/* In a child of fork that has taken over: what it has done begins here. */
void report_forked(struct weir *weir);
/*
 * To the configured file, else to standard error. No stdio stream is touched: the program may have closed them. parent: who forked this one, 0 where it was
 * executed. A child's figures are added to those of the program that was executed, which prints them; one that outlives that
 * prints its own.
 */
void report_print(struct weir *weir, const struct config *config, uint64_t wall_ns, pid_t parent);

#endif
