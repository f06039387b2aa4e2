/* SPDX-License-Identifier: BSD-2-Clause */
/* Words from files: binary, hex, pairs, kernel logs. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmdq/program.h"

int program_add(struct program *program, uint64_t word, unsigned line)
{
	if (program->count == program->room) {
		const size_t room = program->room ? 2 * program->room : 512;
		uint64_t *words = realloc(program->words, room * sizeof(*words));
		uint32_t *lines;

		if (words)
			program->words = words;
		lines = realloc(program->lines, room * sizeof(*lines));
		if (lines)
			program->lines = lines;
		if (!words || !lines)
			return -ENOMEM;
		program->room = room;
	}
	program->words[program->count] = word;
	program->lines[program->count++] = line;
	return 0;
}

void program_free(struct program *program)
{
	free(program->words);
	free(program->lines);
	*program = (struct program){0};
}

/* --- lines and tokens --- */

struct reader {
	struct program *program;
	complain_fn complain;
	void *data;
	unsigned line;
	const char *start, *at, *end; /* of the line */
	int err;
	bool have_half; /* PAIRS: the low half of a word that has no high half yet */
	uint32_t half;
	unsigned half_line, half_column;
};

static void complain(struct reader *in, const char *where, const char *message)
{
	in->complain(in->data, in->line, (unsigned)(where - in->start) + 1, message);
	if (!in->err)
		in->err = -EINVAL;
}

static void add(struct reader *in, uint64_t word)
{
	int err = program_add(in->program, word, in->line);

	if (err)
		in->err = err;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/* A run of letters and digits, without its 0x. */
struct token {
	const char *text;
	size_t length;
	bool hex;	/* nothing but hexadecimal digits */
	bool joined;	/* nothing but blanks, commas and colons between it and the token before */
	uint64_t value; /* of the first 16 */
};

static struct token token_at(const char *at, const char *end)
{
	struct token token = {.hex = true};

	if (end - at > 2 && at[0] == '0' && (at[1] | 32) == 'x')
		at += 2;
	token.text = at;
	for (; at < end && (isalnum((unsigned char)*at) || *at == '_'); at++) {
		const char c = *at;

		if (!isxdigit((unsigned char)c))
			token.hex = false;
		else if (token.length < 16)
			token.value = token.value << 4 |
				      (uint64_t)(isdigit((unsigned char)c) ? c - '0'
									   : (c | 32) - 'a' + 10);
		token.length++;
	}
	token.hex = token.hex && token.length;
	return token;
}

/* --- one word of 16 digits a line; 32-bit words of 8 --- */

static void read_hex_line(struct reader *in)
{
	const struct token token = token_at(in->at, in->end);
	const char *at = token.text + token.length;

	if (!token.hex || token.length != 16) {
		char message[128];

		snprintf(message, sizeof(message),
			 "expected one word of 16 hexadecimal digits a line, found %zu digits "
			 "(--pairs, --log and --binary read other forms)",
			 token.hex ? token.length : 0);
		complain(in, in->at, message);
		return;
	}
	while (at < in->end && is_blank(*at))
		at++;
	if (at != in->end)
		complain(in, at, "expected the end of the line: one word a line");
	else
		add(in, token.value);
}

static void read_pairs_line(struct reader *in)
{
	while (in->at < in->end && !in->err) {
		const struct token token = token_at(in->at, in->end);

		if (!token.hex || token.length != 8) {
			complain(in, in->at,
				 "expected 32-bit words of 8 hexadecimal digits, the low half of "
				 "each command first");
			return;
		}
		if (in->have_half) {
			add(in, token.value << 32 | in->half);
		} else {
			in->half = (uint32_t)token.value;
			in->half_line = in->line;
			in->half_column = (unsigned)(in->at - in->start) + 1;
		}
		in->have_half = !in->have_half;
		in->at = token.text + token.length;
		while (in->at < in->end && (is_blank(*in->at) || *in->at == ',' || *in->at == ':'))
			in->at++;
	}
}

/* --- kernel logs --- */

enum { LOG_TOKENS = 1024 };

/*
 * The hexadecimal numbers of 16, 8 or 2 digits of a line. Not among them: an offset or address in front of a dump, which a
 * colon and a blank follow, and addresses of the kernel, which no command looks like.
 */
static unsigned log_tokens(struct reader *in, struct token *tokens)
{
	const char *at = in->at;
	unsigned count = 0;
	bool joined = false;

	while (at < in->end && count < LOG_TOKENS) {
		struct token token;

		if (!isalnum((unsigned char)*at) && *at != '_') {
			joined = joined && (is_blank(*at) || *at == ',' || *at == ':');
			at++;
			continue;
		}
		token = token_at(at, in->end);
		token.joined = joined;
		at = token.text + token.length;
		joined = token.hex && !(in->end - at > 1 && at[0] == ':' && is_blank(at[1])) &&
			 (token.length == 16 || token.length == 8 || token.length == 2) &&
			 !(token.length == 16 && token.value >> 48 == 0xffff);
		if (joined)
			tokens[count++] = token;
	}
	if (at < in->end)
		complain(in, at, "more than 1024 numbers in a line");
	return count;
}

/* A run: tokens of one length, each joined to the one before. */
static unsigned run_length(const struct token *tokens, unsigned count)
{
	unsigned n = 1;

	while (n < count && tokens[n].joined && tokens[n].length == tokens[0].length)
		n++;
	return n;
}

/* Joins so many numbers, lowest first. */
static void log_join(struct reader *in, const struct token *tokens, unsigned count)
{
	const unsigned width = (unsigned)tokens[0].length * 4;
	uint64_t word = 0;

	for (unsigned i = 0, bits = 0; i < count; i++) {
		word |= tokens[i].value << bits;
		bits += width;
		if (bits == 64) {
			add(in, word);
			word = bits = 0;
		}
	}
}

/* The widest numbers that a line has are its words. A single one of 8 digits, or less than eight of 2, is not a command. */
static void read_log_line(struct reader *in)
{
	static const size_t lengths[] = {16, 8, 2};
	struct token tokens[LOG_TOKENS];
	const unsigned count = log_tokens(in, tokens);
	bool found = false;

	for (unsigned k = 0; k < ARRAY_SIZE(lengths) && !found; k++) {
		const unsigned words = 16 / (unsigned)lengths[k];

		for (unsigned i = 0, run; i < count; i += run) {
			run = run_length(tokens + i, count - i);
			if (tokens[i].length != lengths[k] || run < words)
				continue;
			found = true;
			if (words == 2 && run % words)
				complain(in, tokens[i].text,
					 "an odd number of 32-bit words: expected pairs, the low "
					 "half first");
			else
				log_join(in, tokens + i, run / words * words);
		}
	}
}

/* --- */

static int read_binary(const char *text, size_t length, struct reader *in)
{
	char message[160];

	for (size_t i = 0; i + CMDQ_INST_SIZE <= length && !in->err; i += CMDQ_INST_SIZE) {
		uint64_t word;

		memcpy(&word, text + i, CMDQ_INST_SIZE);
		in->line = (unsigned)(i / CMDQ_INST_SIZE) + 1;
		add(in, word);
	}
	if (length % CMDQ_INST_SIZE && !in->err) {
		in->line = (unsigned)(length / CMDQ_INST_SIZE) + 1;
		in->start = text;
		snprintf(
			message, sizeof(message),
			"expected commands of 8 bytes: %zu bytes end with %zu left over (in binary "
			"the line is the number of the command, the column its byte)",
			length, length % CMDQ_INST_SIZE);
		complain(in, text + length % CMDQ_INST_SIZE, message);
	}
	return in->err;
}

static void read_line(enum input_format format, struct reader *in)
{
	if (format == INPUT_LOG) {
		read_log_line(in);
		return;
	}
	for (const char *c = in->at; c < in->end; c++) {
		if (*c == ';' || *c == '#')
			in->end = c;
	}
	while (in->at < in->end && is_blank(*in->at))
		in->at++;
	if (in->at == in->end)
		return;
	if (format == INPUT_HEX)
		read_hex_line(in);
	else
		read_pairs_line(in);
}

int input_read(enum input_format format, const char *text, size_t length, struct program *program,
	       complain_fn complain_, void *data)
{
	struct reader in = {.program = program, .complain = complain_, .data = data};
	const char *end = text + length;

	if (format == INPUT_BINARY)
		return read_binary(text, length, &in);
	/* The first complaint is enough: what follows is most likely of the same kind. */
	while (text < end && !in.err) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));

		in.line++;
		in.start = in.at = text;
		in.end = newline ? newline : end;
		text = newline ? newline + 1 : end;
		read_line(format, &in);
	}
	if (in.have_half && !in.err) {
		in.err = -EINVAL;
		complain_(data, in.half_line, in.half_column,
			  "this low half has no high half: expected pairs of 32-bit words");
	}
	if (format == INPUT_LOG && !in.err && !program->count) {
		in.err = -EINVAL;
		complain_(data, MAX(in.line, 1u), 1,
			  "no words found: expected lines with 16 digits, pairs of 8, or eights of "
			  "2");
	}
	return in.err;
}

bool input_looks_hex(const char *text, size_t length)
{
	const char *end = text + length;

	while (text < end) {
		struct token token;

		while (text < end && (is_blank(*text) || *text == '\n'))
			text++;
		if (text < end && (*text == ';' || *text == '#')) {
			text = memchr(text, '\n', (size_t)(end - text));
			if (!text)
				return false;
			continue;
		}
		token = token_at(text, end);
		return token.hex && token.length == 16;
	}
	return false;
}
