/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The commands that a process under weir takes on its socket, as text: <weir/segment.h> lists them. Both ends use this. What comes in
 * is anybody's of the same user: it is understood whole, or refused.
 */
#ifndef WEIR_COMMAND_H
#define WEIR_COMMAND_H

#include "weir/container.h"
#include "weir/segment.h"

enum command_kind { COMMAND_WATCH, COMMAND_SET, COMMAND_RECLAIM, COMMAND_ONLINE, COMMAND_OFFLINE };

struct command {
	enum command_kind kind;
	enum weir_value value; /* of set */
	uint64_t bytes;	       /* but for watch */
	const char *path; /* of set and reclaim: in the text, which is as long; "" for the root */
};

/* Of a packet, which is followed by room for a zero byte. -EINVAL: no command; -ERANGE: a number larger than 64 bits. */
int command_parse(char *text, size_t size, struct command *command);
/* Its length; -ENAMETOOLONG. */
int command_format(const struct command *command, char *text, size_t room);

/* What comes back. */
struct reply {
	int result;
	uint64_t number;
};
int reply_parse(char *text, size_t size, struct reply *reply);
int reply_format(const struct reply *reply, char *text, size_t room);

/* "max", "swap.max": the names of values that may be set. NULL, and -ENOENT: there is none. */
const char *command_value_name(enum weir_value value);
int command_value_find(const char *name, size_t len, enum weir_value *value);

#endif
