/* SPDX-License-Identifier: BSD-2-Clause */
/* What a program did under weir, as a table for people or one line of JSON. */
#ifndef WEIR_AGENT_REPORT_H
#define WEIR_AGENT_REPORT_H

#include "config.h"
#include "weir/weir.h"

/* At start: keeps what is needed to reach standard error at the end. */
void report_prepare(const struct config *config);
/* To the configured file, else to standard error. No stdio stream is touched: the program may have closed them. */
void report_print(struct weir *weir, const struct config *config, uint64_t wall_ns);

#endif
