/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The assembler. A line is `label:`, a command with operands, or a directive (.word, .equ), in this order, each may lack; a
 * comment begins with ; or # or //. The text is read twice: the first pass knows where labels are, the second one
 * complains and makes words. Both see the same shapes of operands, so they agree about how many words there are.
 */
#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmdq/asm.h"

/* --- commands --- */

static void emit(struct assembler *as, uint64_t word)
{
	as->here += CMDQ_INST_SIZE;
	if (as->pass == 2 && program_add(as->program, word, as->line))
		as->no_memory = true;
}

static unsigned form_operands(const struct cmdq_form *form)
{
	unsigned n = 0;

	while (n < CMDQ_OPERANDS_MAX && form->operands[n] != OPERAND_NONE)
		n++;
	return n;
}

/* How many operands fit, from the first on. */
static unsigned form_fits(const struct cmdq_form *form, const struct operand *operands, unsigned n)
{
	unsigned fit = 0;

	while (fit < n && fit < CMDQ_OPERANDS_MAX &&
	       operand_fits((enum cmdq_operand_kind)form->operands[fit], &operands[fit]))
		fit++;
	return fit;
}

/* "`write ADDRESS, VALUE|rN` or `write [rN], VALUE|rN`": each way to write a command. */
static void usages(const char *mnemonic, size_t length, char *text, size_t room)
{
	char usage[CMDQ_LINE_MAX];
	size_t used = 0;

	for (unsigned i = 0; i < FORMS; i++) {
		if (!asm_text_is(mnemonic, length, cmdq_forms[i].mnemonic))
			continue;
		form_usage((enum cmdq_form_id)i, usage, sizeof(usage));
		used += (size_t)snprintf(text + used, room - used, "%s`%s`", used ? " or " : "",
					 usage);
	}
}

static void no_such_command(struct assembler *as, const char *mnemonic, size_t length)
{
	char list[400];
	size_t used = 0;

	for (unsigned i = 0; i < FORMS; i++) {
		if (!i || strcmp(cmdq_forms[i].mnemonic, cmdq_forms[i - 1].mnemonic) != 0)
			used += (size_t)snprintf(list + used, sizeof(list) - used, " %s",
						 cmdq_forms[i].mnemonic);
	}
	asm_complain(as, mnemonic,
		     "no command '%.*s'; expected a label, or one of: .equ .word finalize%s",
		     (int)MIN(length, (size_t)40), mnemonic, list);
}

/*
 * The form that has these operands, or FORM_WORD after a complaint. One operand more, the mask, where the form uses one:
 * `write_mask ADDRESS, VALUE, MASK` stands for two commands.
 */
static enum cmdq_form_id form_choose(struct assembler *as, const char *mnemonic, size_t length,
				     const struct operand *operands, unsigned n)
{
	unsigned best = 0;
	bool known = false;
	char text[384];

	for (unsigned i = 0; i < FORMS; i++) {
		const struct cmdq_form *form = &cmdq_forms[i];
		const unsigned wants = form_operands(form), fits = form_fits(form, operands, n);

		if (!asm_text_is(mnemonic, length, form->mnemonic))
			continue;
		known = true;
		if (fits == wants && (n == wants || (n == wants + 1 && form_uses_mask(form) &&
						     operand_fits(OPERAND_MASK, &operands[wants]))))
			return (enum cmdq_form_id)i;
		best = MAX(best, fits);
	}
	if (!known) {
		no_such_command(as, mnemonic, length);
		return FORM_WORD;
	}
	usages(mnemonic, length, text, sizeof(text));
	asm_complain(as, best < n ? operands[best].text : as->end, "expected %s", text);
	return FORM_WORD;
}

static void assemble_form(struct assembler *as, enum cmdq_form_id id,
			  const struct operand *operands, unsigned n)
{
	const struct cmdq_form *form = &cmdq_forms[id];
	const unsigned wants = form_operands(form);
	const bool with_mask = n > wants;
	const struct operand_place place = {
		.profile = as->profile,
		.base = as->base,
		.here = as->here + (with_mask ? CMDQ_INST_SIZE : 0),
	};
	uint64_t word = form->value, mask = cmdq_forms[FORM_MASK].value, bits;

	for (unsigned i = 0; i < n; i++) {
		const enum cmdq_operand_kind kind =
			i < wants ? (enum cmdq_operand_kind)form->operands[i] : OPERAND_MASK;

		if (operand_bits(kind, &operands[i], &place, &bits))
			asm_complain_at(as, operands[i].text, cmdq_error());
		else if (i < wants)
			word |= bits;
		else
			mask |= bits;
	}
	if (with_mask)
		emit(as, mask);
	emit(as, word);
}

/* --- directives --- */

static void assemble_equ(struct assembler *as)
{
	struct symbol symbol = {.line = as->line};
	struct operand value;
	uint16_t reg;

	asm_skip_blanks(as);
	symbol.text = as->at;
	symbol.length = asm_name_length(as);
	if (!symbol.length) {
		asm_expected(as, "a name");
		return;
	}
	as->at += symbol.length;
	if (asm_register_named(as, symbol.text, symbol.length, &reg)) {
		asm_complain(as, symbol.text, "a register cannot be given a value here");
		return;
	}
	if (!asm_take(as, ',')) {
		asm_expected(as, "a comma");
		return;
	}
	if (!asm_parse_sum(as, &value))
		return;
	asm_skip_blanks(as);
	if (as->at != as->end) {
		asm_expected(as, "the end of the line");
		return;
	}
	if (value.shape != SHAPE_NUMBER && value.shape != SHAPE_LABEL) {
		asm_complain(as, value.text, "expected a number");
		return;
	}
	symbol.value = value.value;
	symbol.label = value.shape == SHAPE_LABEL;
	asm_symbol_define(as, &symbol);
}

static void assemble_words(struct assembler *as)
{
	struct operand value;

	do {
		if (!asm_parse_sum(as, &value))
			return;
		if (value.shape == SHAPE_NAME) {
			asm_complain(as, value.text, "expected a number, 0 to 0xffffffffffffffff");
			return;
		}
		if (value.shape == SHAPE_REG) {
			asm_complain(as, value.text, "a register is no word");
			return;
		}
		emit(as, (uint64_t)value.value);
	} while (asm_take(as, ','));
	asm_skip_blanks(as);
	if (as->at != as->end)
		asm_expected(as, "a comma or the end of the line");
}

/* --- lines --- */

static void assemble_command(struct assembler *as, const char *mnemonic, size_t length)
{
	struct operand operands[OPERANDS_MAX];
	enum cmdq_form_id id;
	int n;

	if (asm_text_is(mnemonic, length, ".equ")) {
		assemble_equ(as);
		return;
	}
	if (asm_text_is(mnemonic, length, ".word")) {
		assemble_words(as);
		return;
	}
	n = asm_parse_operands(as, operands);
	if (n < 0)
		return;
	if (asm_text_is(mnemonic, length, "finalize")) {
		if (n)
			asm_complain(as, operands[0].text, "`finalize` has no operands");
		emit(as, cmdq_forms[FORM_EOC].value);
		emit(as, cmdq_forms[FORM_JUMP_REL].value | CMDQ_INST_SIZE >> as->profile->shift);
		return;
	}
	id = form_choose(as, mnemonic, length, operands, (unsigned)n);
	if (id != FORM_WORD)
		assemble_form(as, id, operands, (unsigned)n);
}

static void define_label(struct assembler *as, const char *text, size_t length)
{
	struct symbol symbol = {
		.text = text, .length = length, .label = true, .value = as->here, .line = as->line};
	uint16_t reg;

	if (asm_register_named(as, text, length, &reg))
		asm_complain(as, text, "this is the name of a register, and cannot be a label");
	else
		asm_symbol_define(as, &symbol);
}

static void assemble_line(struct assembler *as)
{
	for (;;) {
		const char *name;
		size_t length;

		asm_skip_blanks(as);
		if (as->at == as->end)
			return;
		name = as->at;
		length = asm_name_length(as);
		if (!length) {
			asm_expected(as, "a label or a command");
			return;
		}
		as->at += length;
		if (as->at == as->end || *as->at != ':') {
			assemble_command(as, name, length);
			return;
		}
		as->at++;
		define_label(as, name, length);
	}
}

static const char *comment_at(const char *at, const char *end)
{
	for (; at < end; at++) {
		if (*at == ';' || *at == '#' || (*at == '/' && end - at > 1 && at[1] == '/'))
			return at;
	}
	return end;
}

static void assemble_text(struct assembler *as, const char *text, size_t length)
{
	const char *end = text + length;

	as->here = 0;
	as->line = 0;
	while (text < end && !as->no_memory) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));

		as->line++;
		as->start = as->at = text;
		text = newline ? newline + 1 : end;
		as->end = comment_at(as->at, newline ? newline : end);
		assemble_line(as);
	}
}

int asm_program(const struct cmdq_profile *profile, uint64_t base, const char *text, size_t length,
		struct program *program, complain_fn complain_, void *data)
{
	struct assembler as = {
		.profile = profile,
		.base = base,
		.program = program,
		.complain = complain_,
		.data = data,
	};

	for (as.pass = 1; as.pass <= 2; as.pass++)
		assemble_text(&as, text, length);
	tdestroy(as.symbols, free);
	if (as.no_memory)
		return -ENOMEM;
	return as.complaints ? -EINVAL : 0;
}
