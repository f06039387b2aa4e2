/* SPDX-License-Identifier: BSD-2-Clause */
/* The parts of a line: names, numbers, registers, operands. */
#include <ctype.h>
#include <errno.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmdq/asm.h"

/* --- complaints --- */

void asm_complain_at(struct assembler *as, const char *where, const char *message)
{
	if (as->pass == 1)
		return;
	if (as->complaints++ < COMPLAINTS_MAX)
		as->complain(as->data, as->line, (unsigned)(where - as->start) + 1, message);
}

void asm_complain(struct assembler *as, const char *where, const char *format, ...)
{
	char message[512];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	asm_complain_at(as, where, message);
}

/* "'frob'", or "the end of the line". */
static const char *found(const struct assembler *as, const char *at, char text[static 40])
{
	size_t n = 0;

	if (at == as->end)
		return "the end of the line";
	do
		n++;
	while (at + n < as->end && n < 24 && isalnum((unsigned char)*at) &&
	       (isalnum((unsigned char)at[n]) || at[n] == '_'));
	for (size_t i = 0; i < n; i++)
		text[i + 1] = isprint((unsigned char)at[i]) ? at[i] : '?';
	text[0] = text[n + 1] = '\'';
	text[n + 2] = '\0';
	return text;
}

void asm_expected(struct assembler *as, const char *what)
{
	char text[40];

	asm_complain(as, as->at, "expected %s, found %s", what, found(as, as->at, text));
}

/* --- characters --- */

void asm_skip_blanks(struct assembler *as)
{
	while (as->at < as->end && (*as->at == ' ' || *as->at == '\t' || *as->at == '\r'))
		as->at++;
}

bool asm_take(struct assembler *as, char c)
{
	asm_skip_blanks(as);
	if (as->at == as->end || *as->at != c)
		return false;
	as->at++;
	return true;
}

static bool is_name(char c, bool first)
{
	return isalpha((unsigned char)c) || c == '_' || c == '.' ||
	       (!first && isdigit((unsigned char)c));
}

size_t asm_name_length(const struct assembler *as)
{
	size_t n = 0;

	while (as->at + n < as->end && is_name(as->at[n], n == 0))
		n++;
	return n;
}

bool asm_text_is(const char *text, size_t length, const char *word)
{
	return !strncmp(text, word, length) && !word[length];
}

/* --- symbols --- */

static int compare_symbols(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;
	int order = memcmp(x->text, y->text, MIN(x->length, y->length));

	return order ? order : (x->length > y->length) - (x->length < y->length);
}

static struct symbol *symbol_find(struct assembler *as, const char *text, size_t length)
{
	struct symbol key = {.text = text, .length = length};
	struct symbol **node = (struct symbol **)tfind(&key, &as->symbols, compare_symbols);

	return node ? *node : NULL;
}

void asm_symbol_define(struct assembler *as, const struct symbol *symbol)
{
	struct symbol *old = symbol_find(as, symbol->text, symbol->length), *copy;

	if (old) {
		/* In the second pass everything is there already, and labels where they were. */
		if (old->text != symbol->text)
			asm_complain(as, symbol->text, "'%.*s' is defined already, in line %u",
				     (int)MIN(symbol->length, (size_t)60), symbol->text, old->line);
		else if (old->value != symbol->value && !as->complaints)
			asm_complain(
				as, symbol->text,
				symbol->label
					? "this label moves: define names above where they are used"
					: "this name is made of one that is defined below: define "
					  "it "
					  "above");
		else
			*old = *symbol;
		return;
	}
	copy = malloc(sizeof(*copy));
	if (!copy) {
		as->no_memory = true;
		return;
	}
	*copy = *symbol;
	if (!tsearch(copy, &as->symbols, compare_symbols)) {
		free(copy);
		as->no_memory = true;
	}
}

/* --- numbers --- */

/* Digits of a number; false after a complaint. */
static bool parse_digits(struct assembler *as, int128_t *number)
{
	const char *start = as->at;
	uint64_t value = 0;
	unsigned base = 10;
	bool fits = true;

	if (as->end - as->at > 1 && as->at[0] == '0' && (as->at[1] | 32) == 'x') {
		base = 16;
		as->at += 2;
	} else if (as->end - as->at > 1 && as->at[0] == '0' && (as->at[1] | 32) == 'b') {
		base = 2;
		as->at += 2;
	}
	if (as->at == as->end || !isxdigit((unsigned char)*as->at)) {
		asm_expected(as, "digits");
		return false;
	}
	for (; as->at < as->end && isalnum((unsigned char)*as->at); as->at++) {
		const char c = *as->at;
		const unsigned digit = isdigit((unsigned char)c) ? (unsigned)(c - '0')
								 : (unsigned)((c | 32) - 'a' + 10);

		if (digit >= base) {
			asm_complain(as, as->at, "'%c' is no digit of base %u", c, base);
			return false;
		}
		fits = fits && !__builtin_mul_overflow(value, (uint64_t)base, &value) &&
		       !__builtin_add_overflow(value, (uint64_t)digit, &value);
	}
	*number = value;
	if (!fits)
		asm_complain(as, start, "this number is out of range: 0 to 0x%llx",
			     (unsigned long long)UINT64_MAX);
	return fits;
}

/* Up to 65535 in decimal, at the end of a register's name. */
static bool trailing_number(const char *text, size_t length, unsigned *number)
{
	*number = 0;
	if (!length || length > 5 || (length > 1 && *text == '0'))
		return false;
	for (; length; length--, text++) {
		if (!isdigit((unsigned char)*text))
			return false;
		*number = *number * 10 + (unsigned)(*text - '0');
	}
	return true;
}

int asm_register_named(struct assembler *as, const char *text, size_t length, uint16_t *reg)
{
	static const struct {
		const char *prefix;
		unsigned first, count;
	} banks[] = {
		{"spr", CMDQ_REG_SPR(0), CMDQ_SPRS},
		{"cpr", CMDQ_REG_CPR(0), CMDQ_CPRS},
		{"reg", 0, 65536},
		{"r", CMDQ_REG_GPR(0), CMDQ_GPRS},
	};

	if (asm_text_is(text, length, "timer")) {
		*reg = CMDQ_REG_TIMER;
		return 1;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(banks); i++) {
		const size_t skip = strlen(banks[i].prefix);
		unsigned n;

		if (length <= skip || strncmp(text, banks[i].prefix, skip) != 0 ||
		    !trailing_number(text + skip, length - skip, &n))
			continue;
		if (n >= banks[i].count) {
			asm_complain(as, text, "no register %.*s: %s0 to %s%u", (int)length, text,
				     banks[i].prefix, banks[i].prefix, banks[i].count - 1);
			return -1;
		}
		*reg = (uint16_t)(banks[i].first + n);
		return 1;
	}
	return 0;
}

/* --- operands --- */

/* One number or name; false after a complaint. */
static bool parse_term(struct assembler *as, struct operand *term)
{
	const struct symbol *symbol;
	int is_register;

	asm_skip_blanks(as);
	*term = (struct operand){.text = as->at};
	if (as->at < as->end && isdigit((unsigned char)*as->at)) {
		bool good = parse_digits(as, &term->value);

		term->length = (size_t)(as->at - term->text);
		return good;
	}
	term->length = asm_name_length(as);
	if (!term->length) {
		asm_expected(as, "an operand");
		return false;
	}
	as->at += term->length;
	is_register = asm_register_named(as, term->text, term->length, &term->reg);
	if (is_register) {
		term->shape = SHAPE_REG;
		return is_register > 0;
	}
	symbol = symbol_find(as, term->text, term->length);
	if (!symbol) {
		term->shape = SHAPE_NAME;
		return true;
	}
	/* In the first pass a label that stands further down is a name: shapes must be the same in both. */
	term->shape = symbol->label ? SHAPE_LABEL : SHAPE_NUMBER;
	term->value = symbol->value;
	return true;
}

/* Adds or subtracts; false after a complaint. */
static bool add_term(struct assembler *as, struct operand *sum, const struct operand *term,
		     bool minus)
{
	if (term->shape == SHAPE_REG) {
		asm_complain(as, term->text,
			     "a register cannot be part of a number; `add` adds one");
		return false;
	}
	if (term->shape == SHAPE_NAME) {
		asm_complain(as, term->text, "'%.*s' is not defined above",
			     (int)MIN(term->length, (size_t)60), term->text);
		/* In the first pass it may be a label further down. */
		return as->pass == 1;
	}
	sum->value += minus ? -term->value : term->value;
	if (term->shape == SHAPE_LABEL)
		sum->shape = sum->shape == SHAPE_LABEL && minus ? SHAPE_NUMBER : SHAPE_LABEL;
	if (sum->value < INT64_MIN || sum->value > (int128_t)UINT64_MAX) {
		asm_complain(as, sum->text, "this number is out of range: -0x%llx to 0x%llx",
			     1ull << 63, (unsigned long long)UINT64_MAX);
		return false;
	}
	return true;
}

bool asm_parse_sum(struct assembler *as, struct operand *sum)
{
	bool minus = asm_take(as, '-');
	struct operand term;
	const char *start;

	asm_skip_blanks(as);
	start = as->at;
	if (!minus && !asm_take(as, '+')) {
		/* Alone it may be anything. */
		if (!parse_term(as, sum))
			return false;
		asm_skip_blanks(as);
		if (as->at == as->end || (*as->at != '+' && *as->at != '-'))
			return true;
		as->at = start;
	}
	*sum = (struct operand){.shape = SHAPE_NUMBER, .text = start};
	do {
		if (!parse_term(as, &term) || !add_term(as, sum, &term, minus))
			return false;
		minus = asm_take(as, '-');
	} while (minus || asm_take(as, '+'));
	sum->length = (size_t)(as->at - start);
	return true;
}

/* In the first pass a name may be one of .equ further down: how many words a line makes must not depend on that. */
static bool is_plain_number(const struct assembler *as, const struct operand *operand)
{
	return operand->shape == SHAPE_NUMBER || (as->pass == 1 && operand->shape == SHAPE_NAME);
}

/* A sum, [register], register:low, subsys:offset; false after a complaint. */
static bool parse_operand(struct assembler *as, struct operand *operand)
{
	struct operand high;

	if (asm_take(as, '[')) {
		if (!parse_term(as, operand))
			return false;
		if (operand->shape != SHAPE_REG) {
			asm_complain(as, operand->text, "expected a register between [ and ]");
			return false;
		}
		operand->shape = SHAPE_REG_ADDR;
		if (asm_take(as, ']'))
			return true;
		asm_expected(as, "]");
		return false;
	}
	if (!asm_parse_sum(as, operand))
		return false;
	if (!asm_take(as, ':'))
		return true;
	high = *operand;
	if (!asm_parse_sum(as, operand))
		return false;
	if (!is_plain_number(as, operand) ||
	    (high.shape != SHAPE_REG && !is_plain_number(as, &high))) {
		asm_complain(as, high.text,
			     "expected a register or a number, a colon, and a number");
		return false;
	}
	operand->shape = high.shape == SHAPE_REG ? SHAPE_HIGH_LOW : SHAPE_SUBSYS;
	operand->reg = high.reg;
	operand->subsys = high.value;
	operand->text = high.text;
	return true;
}

/* The condition that begins here, if one does. */
static bool parse_condition(struct assembler *as, struct operand *operand)
{
	/* In the order of enum cmdq_condition. */
	static const char conditions[][3] = {"==", "!=", ">=", "<=", ">", "<"};

	asm_skip_blanks(as);
	for (unsigned i = 0; i < ARRAY_SIZE(conditions); i++) {
		const size_t length = strlen(conditions[i]);

		if ((size_t)(as->end - as->at) < length ||
		    strncmp(as->at, conditions[i], length) != 0)
			continue;
		*operand = (struct operand){
			.shape = SHAPE_CONDITION, .value = i, .text = as->at, .length = length};
		as->at += length;
		return true;
	}
	return false;
}

int asm_parse_operands(struct assembler *as, struct operand *operands)
{
	int n = 0;

	asm_skip_blanks(as);
	if (as->at == as->end)
		return 0;
	for (;;) {
		if (n == OPERANDS_MAX) {
			asm_expected(as, "the end of the line");
			return -1;
		}
		if (!parse_operand(as, &operands[n++]))
			return -1;
		if (n < OPERANDS_MAX && parse_condition(as, &operands[n])) {
			n++;
			continue;
		}
		asm_skip_blanks(as);
		if (as->at == as->end)
			return n;
		if (!asm_take(as, ',')) {
			asm_expected(as, "a comma or the end of the line");
			return -1;
		}
	}
}
