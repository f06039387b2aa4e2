/* SPDX-License-Identifier: BSD-2-Clause */
/* What the parts of `weir cmdq` share. */
#ifndef WEIR_CLI_CMDQ_H
#define WEIR_CLI_CMDQ_H

#include "cmdq/program.h"

/* Exit statuses: defects or a program that failed; bad input, or output that cannot be written. Options are EXIT_WEIR's. */
enum { EXIT_DEFECT = 1, EXIT_INPUT = 2 };

/* What all parts know; zero is a start. */
struct cmdq_options {
	const char *command; /* as dis check run */
	const char *file;    /* "-": standard input */
	const struct cmdq_profile *profile;
	uint64_t base;
	bool format_given;
	enum input_format format;
	bool hex, listing;  /* as --hex, dis --list */
	const char *output; /* as -o */
};

/*
 * Takes argv[*i], and what belongs to it, if it is an option (or the file) that all parts know. 1: it was; 0: it was not; -1: it was
 * wrong, which has been said.
 */
int cmdq_option(struct cmdq_options *options, int argc, char **argv, int *i);
/* The argument behind an option, or NULL after a message. */
const char *cmdq_argument(const struct cmdq_options *options, int argc, char **argv, int *i);
/* A number from 0 to most for an option; false after a message. */
bool cmdq_number(const struct cmdq_options *options, const char *option, const char *text,
		 uint64_t most, uint64_t *number);
/* After the last one: whether what every part needs is there. */
bool cmdq_options_complete(const struct cmdq_options *options);
/*
 * Reads the file in the form that the options give; where they give none, hex if it looks so, else assembler text. false after
 * messages with file, line and column. program_free it in any case.
 */
bool cmdq_load(const struct cmdq_options *options, struct program *program);
/* Complains to standard error; data: struct cmdq_options. */
void cmdq_complain(void *data, unsigned line, unsigned column, const char *message);
/* 0, or EXIT_INPUT after a message: what was written to standard output did not get there. */
int cmdq_flush(void);

int cmdq_run_main(int argc, char **argv);

#endif
