/* SPDX-License-Identifier: BSD-2-Clause */
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

static const char *const kinds[] = {
	[COMMAND_WATCH] = "watch",   [COMMAND_SET] = "set",	    [COMMAND_RECLAIM] = "reclaim",
	[COMMAND_ONLINE] = "online", [COMMAND_OFFLINE] = "offline",
};

static const char *const values[WEIR_VALUES] = {
	[WEIR_PEAK] = "peak", [WEIR_MAX] = "max",	    [WEIR_HIGH] = "high",
	[WEIR_LOW] = "low",   [WEIR_SWAP_MAX] = "swap.max",
};

const char *command_value_name(enum weir_value value)
{
	return (unsigned)value < WEIR_VALUES ? values[value] : NULL;
}

int command_value_find(const char *name, size_t len, enum weir_value *value)
{
	for (unsigned i = 0; i < WEIR_VALUES; i++) {
		if (values[i] && strlen(values[i]) == len && !memcmp(name, values[i], len)) {
			*value = (enum weir_value)i;
			return 0;
		}
	}
	return -ENOENT;
}

/* The word at *at, up to a blank or the end. False: there is none. */
static bool word_take(char **at, const char **word, size_t *len)
{
	*word = *at;
	*len = strcspn(*at, " ");
	*at += *len;
	if (**at == ' ')
		(*at)++;
	return *len != 0;
}

/* Digits and nothing else, or "max". */
static int bytes_take(char **at, uint64_t *bytes)
{
	const char *word;
	uint64_t n = 0;
	size_t len;

	if (!word_take(at, &word, &len))
		return -EINVAL;
	if (len == 3 && !memcmp(word, "max", 3)) {
		*bytes = WEIR_NO_LIMIT;
		return 0;
	}
	for (size_t i = 0; i < len; i++) {
		if (word[i] < '0' || word[i] > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(word[i] - '0'), &n))
			return -ERANGE;
	}
	*bytes = n;
	return 0;
}

/* Printable, and with an end: then the rest need not look for either. */
static int text_check(char *text, size_t size)
{
	if (size && text[size - 1] == '\n')
		size--;
	for (size_t i = 0; i < size; i++) {
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return -EINVAL;
	}
	text[size] = '\0';
	return 0;
}

int command_parse(char *text, size_t size, struct command *command)
{
	const char *word;
	unsigned kind = 0;
	size_t len;
	int err = text_check(text, size);

	if (err || !word_take(&text, &word, &len))
		return -EINVAL;
	while (kind < ARRAY_SIZE(kinds) &&
	       (strlen(kinds[kind]) != len || memcmp(kinds[kind], word, len)))
		kind++;
	if (kind == ARRAY_SIZE(kinds))
		return -EINVAL;
	*command = (struct command){.kind = (enum command_kind)kind, .path = ""};
	if (kind == COMMAND_SET &&
	    (!word_take(&text, &word, &len) || command_value_find(word, len, &command->value)))
		return -EINVAL;
	if (kind != COMMAND_WATCH)
		err = bytes_take(&text, &command->bytes);
	if (kind == COMMAND_SET || kind == COMMAND_RECLAIM) {
		command->path = text;
		text += strlen(text);
	}
	return err ? err : *text ? -EINVAL : 0;
}

/* Of what snprintf returned. */
static int formatted(int n, size_t room)
{
	return n < 0 || (size_t)n >= room ? -ENAMETOOLONG : n;
}

int command_format(const struct command *c, char *text, size_t room)
{
	char bytes[24] = "max";
	int n;

	if (c->bytes != WEIR_NO_LIMIT)
		snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)c->bytes);
	switch (c->kind) {
	case COMMAND_WATCH:
		n = snprintf(text, room, "watch\n");
		break;
	case COMMAND_SET:
		n = snprintf(text, room, "set %s %s %s\n", command_value_name(c->value), bytes,
			     c->path);
		break;
	case COMMAND_RECLAIM:
		n = snprintf(text, room, "reclaim %s %s\n", bytes, c->path);
		break;
	default:
		n = snprintf(text, room, "%s %s\n", kinds[c->kind], bytes);
		break;
	}
	return formatted(n, room);
}

int reply_parse(char *text, size_t size, struct reply *reply)
{
	uint64_t result;
	bool minus;
	int err = text_check(text, size);

	if (err)
		return err;
	minus = *text == '-';
	text += minus;
	err = bytes_take(&text, &result);
	if (!err)
		err = bytes_take(&text, &reply->number);
	if (err || *text || result > 4095 || (result && !minus))
		return -EINVAL;
	reply->result = -(int)result;
	return 0;
}

int reply_format(const struct reply *reply, char *text, size_t room)
{
	return formatted(
		snprintf(text, room, "%d %llu\n", reply->result, (unsigned long long)reply->number),
		room);
}
