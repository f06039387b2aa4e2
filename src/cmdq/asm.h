/* SPDX-License-Identifier: BSD-2-Clause */
/* The assembler's two halves: parse.c reads a line's parts, asm.c makes words of them. */
#ifndef WEIR_CMDQ_ASM_H
#define WEIR_CMDQ_ASM_H

#include "cmdq/operand.h"
#include "cmdq/program.h"

enum { OPERANDS_MAX = CMDQ_OPERANDS_MAX + 1, COMPLAINTS_MAX = 20 };

struct symbol {
	const char *text;
	size_t length;
	bool label;
	int128_t value; /* of a label: bytes from the program's start */
	unsigned line;	/* where it is defined */
};

struct assembler {
	const struct cmdq_profile *profile;
	uint64_t base;
	struct program *program;
	complain_fn complain;
	void *data;
	unsigned pass;
	unsigned complaints;
	bool no_memory;
	void *symbols; /* tsearch */
	uint64_t here; /* bytes from the program's start */
	/* the line */
	unsigned line;
	const char *start, *at, *end;
};

/* Says what is wrong at a place of the line; nothing in the first pass, nor after COMPLAINTS_MAX. */
void asm_complain_at(struct assembler *as, const char *where, const char *message);
void asm_complain(struct assembler *as, const char *where, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* "expected WHAT, found ...", at the place that has been reached. */
void asm_expected(struct assembler *as, const char *what);

void asm_skip_blanks(struct assembler *as);
/* Takes blanks and the character, if it is the next one. */
bool asm_take(struct assembler *as, char c);
/* The length of the name that begins here; 0: none does. */
size_t asm_name_length(const struct assembler *as);
bool asm_text_is(const char *text, size_t length, const char *word);

void asm_symbol_define(struct assembler *as, const struct symbol *symbol);
/* 1: it names a register; 0: it does not; -1: it would be one out of range, and that has been said. */
int asm_register_named(struct assembler *as, const char *text, size_t length, uint16_t *reg);

/* Terms with + and - between them, or before the first; false after a complaint. */
bool asm_parse_sum(struct assembler *as, struct operand *sum);
/* Up to the end of the line: how many of OPERANDS_MAX, or -1 after a complaint. */
int asm_parse_operands(struct assembler *as, struct operand *operands);

#endif
