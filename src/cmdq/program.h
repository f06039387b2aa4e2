/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs as files have them: read (input.c), assembled (asm.c, operand.c), checked (check.c). For tools: these call malloc.
 *
 * Who finds something wrong calls complain with the place, and goes on as long as that makes sense, so that one run shows all.
 */
#ifndef WEIR_CMDQ_PROGRAM_H
#define WEIR_CMDQ_PROGRAM_H

#include "cmdq/cmdq.h"

/* Lines and columns count from 1. column 0: the whole line. */
typedef void (*complain_fn)(void *data, unsigned line, unsigned column, const char *message);

struct program {
	uint64_t *words;
	uint32_t *lines; /* of each word, in its file */
	size_t count, room;
};

/* -ENOMEM */
int program_add(struct program *program, uint64_t word, unsigned line);
void program_free(struct program *program);

enum input_format {
	INPUT_HEX,    /* 16 digits a line */
	INPUT_PAIRS,  /* pairs of 8 digits, low half first */
	INPUT_BINARY, /* little-endian */
	INPUT_LOG,    /* words somewhere in the lines of a kernel log */
};
/* 0, or -EINVAL after complaints, or -ENOMEM. */
int input_read(enum input_format format, const char *text, size_t length, struct program *program,
	       complain_fn complain, void *data);
/* Whether the first line that has something is 16 digits. */
bool input_looks_hex(const char *text, size_t length);

/* Where the program will lie; needed for absolute addresses of its labels. */
#define BASE_UNKNOWN UINT64_MAX

/* 0, or -EINVAL after complaints, or -ENOMEM. */
int asm_program(const struct cmdq_profile *profile, uint64_t base, const char *text, size_t length,
		struct program *program, complain_fn complain, void *data);

/* How many defects there are, or -ENOMEM. Complains about each with its line, and column 0. */
int check_program(const struct cmdq_profile *profile, uint64_t base, const struct program *program,
		  complain_fn complain, void *data);

#endif
