/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Words to text: for every word a text of its own, which asm.c makes the word of again. A kernel log has some hundred words, a
 * trace of a simulation many millions: so numbers are written eight digits at a time, and nothing is searched.
 */
#include <string.h>

#include "cmdq/cmdq.h"

/* --- numbers --- */

/* The eight hexadecimal digits of value, the first one in the lowest byte. */
static uint64_t hex_digits(uint32_t value)
{
	uint64_t x = value, above_9;

	/* One nibble a byte, */
	x = (x | x << 16) & 0x0000ffff0000ffff;
	x = (x | x << 8) & 0x00ff00ff00ff00ff;
	x = (x | x << 4) & 0x0f0f0f0f0f0f0f0f;
	/* then a character each. */
	above_9 = (x + 0x0606060606060606) >> 4 & 0x0101010101010101;
	return __builtin_bswap64(x + 0x3030303030303030 + above_9 * ('a' - '0' - 10));
}

/* Without its NUL. */
#define PUT(at, literal) put_bytes(at, literal, sizeof(literal) - 1)

static char *put_bytes(char *at, const char *bytes, size_t count)
{
	memcpy(at, bytes, count);
	return at + count;
}

static char *put_digits(char *at, uint32_t value, unsigned digits)
{
	uint64_t text = hex_digits(value) >> (8 - digits) * 8;

	memcpy(at, &text, 8);
	return at + digits;
}

static char *put_hex(char *at, uint32_t value)
{
	return put_digits(PUT(at, "0x"), value, (35 - (unsigned)__builtin_clz(value | 1)) / 4);
}

static char *put_number(char *at, uint32_t value)
{
	if (value >= 10)
		return put_hex(at, value);
	*at = (char)('0' + value);
	return at + 1;
}

static char *put_address(char *at, uint64_t address)
{
	if (address <= UINT32_MAX)
		return put_number(at, (uint32_t)address);
	at = put_hex(at, (uint32_t)(address >> 32));
	return put_digits(at, (uint32_t)address, 8);
}

static char *put_decimal(char *at, uint64_t value)
{
	char digits[20];
	unsigned n = 0;

	do {
		digits[n++] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	while (n)
		*at++ = digits[--n];
	return at;
}

static char *put_offset(char *at, int64_t bytes)
{
	*at++ = bytes < 0 ? '-' : '+';
	return put_decimal(at, bytes < 0 ? -(uint64_t)bytes : (uint64_t)bytes);
}

/* --- operands --- */

static char *put_gpr(char *at, unsigned n)
{
	*at++ = 'r';
	return put_decimal(at, n);
}

static char *put_reg(char *at, unsigned reg)
{
	if (reg < CMDQ_SPRS) {
		at = PUT(at, "spr");
		*at = (char)('0' + reg);
		return at + 1;
	}
	if (reg - CMDQ_REG_GPR(0) < CMDQ_GPRS)
		return put_gpr(at, reg - CMDQ_REG_GPR(0));
	if (reg - CMDQ_REG_CPR(0) < CMDQ_CPRS)
		return put_decimal(PUT(at, "cpr"), reg - CMDQ_REG_CPR(0));
	if (reg == CMDQ_REG_TIMER)
		return PUT(at, "timer");
	/* No such register: named all the same, so that the word can be read. */
	return put_decimal(PUT(at, "reg"), reg);
}

static char *put_in_brackets(char *at, char *(*put)(char *at, unsigned n), unsigned n)
{
	*at++ = '[';
	at = put(at, n);
	*at++ = ']';
	return at;
}

static char *put_subsys(char *at, const struct cmdq_profile *profile, unsigned id, unsigned offset)
{
	if (likely(profile->subsys[id].known))
		return put_digits(PUT(at, "0x"), (uint32_t)profile->subsys[id].high << 16 | offset,
				  8);
	at = put_decimal(at, id);
	*at++ = ':';
	return put_number(at, offset);
}

static char *put_high_low(char *at, unsigned reg, unsigned low)
{
	at = put_reg(at, reg);
	*at++ = ':';
	return put_number(at, low);
}

static char *put_event(char *at, const struct cmdq_profile *profile, unsigned event)
{
	const struct event_name *name;

	if (event >= profile->event_count || !profile->events[event].length)
		return put_decimal(at, event);
	name = &profile->events[event];
	memcpy(at, name->text, sizeof(name->text));
	return at + name->length;
}

static char *put_operand(char *at, unsigned value, bool reg)
{
	return reg ? put_reg(at, value) : put_number(at, value);
}

/* Modulo what the field can hold, so that every field has an address. */
static uint64_t abs_address(const struct cmdq_profile *profile, uint32_t field)
{
	return (((uint64_t)field << profile->shift) - profile->offset) &
	       (((uint64_t)1 << (32 + profile->shift)) - 1);
}

static char *put_condition(char *at, unsigned condition)
{
	static const char conditions[][3] = {"==", "!=", ">=", "<=", ">", "<"};

	memcpy(at, conditions[condition], 2);
	return at + (conditions[condition][1] ? 2 : 1);
}

/* One table, and whole for that. */
static char *put_kind(char *at, const struct cmdq_profile *profile, uint64_t word,
		      enum cmdq_operand_kind kind) // NOLINT(readability-function-size)
{
	const unsigned sop = word_sop(word);
	const uint32_t low = (uint32_t)word;

	switch (kind) {
	case OPERAND_ADDR_OLD:
		return put_subsys(at, profile, sop, word_a(word) & 0xfffe);
	case OPERAND_ADDR_A:
		return put_subsys(at, profile, sop, word_a(word) & 0xfffc);
	case OPERAND_ADDR_B:
		return put_subsys(at, profile, sop, word_b(word) & 0xfffc);
	case OPERAND_ADDR48_A:
		return put_high_low(at, sop, word_a(word) & 0xfffc);
	case OPERAND_ADDR48_B:
		return put_high_low(at, sop, word_b(word) & 0xfffc);
	case OPERAND_GPR_LOW:
		return put_gpr(at, low);
	case OPERAND_GPR_SOP:
		return put_gpr(at, sop);
	case OPERAND_GPR_ADDR:
		return put_in_brackets(at, put_gpr, sop);
	case OPERAND_REG_A:
		return put_reg(at, word_a(word));
	case OPERAND_REG_ADDR_A:
		return put_in_brackets(at, put_reg, word_a(word));
	case OPERAND_REG_ADDR_B:
		return put_in_brackets(at, put_reg, word_b(word));
	case OPERAND_VALUE:
		return put_number(at, low);
	case OPERAND_MASK:
		return put_number(at, ~low);
	case OPERAND_SOURCE_OLD:
		return word_b_is_reg(word) ? put_gpr(at, low) : put_number(at, low);
	case OPERAND_SOURCE:
		return word_b_is_reg(word) ? put_reg(at, word_b(word)) : put_number(at, low);
	case OPERAND_OPERAND_B:
		return put_operand(at, word_b(word), word_b_is_reg(word));
	case OPERAND_OPERAND_C:
		return put_operand(at, word_c(word), word_c_is_reg(word));
	case OPERAND_EVENT:
		return put_event(at, profile, word_a(word));
	case OPERAND_REL:
		return put_offset(at, jump_rel_bytes((int32_t)low, profile->shift));
	case OPERAND_ABS:
		return put_address(at, abs_address(profile, low));
	case OPERAND_TARGET_REL:
		if (word_a_is_reg(word))
			return put_reg(at, word_a(word));
		return put_offset(at, jump_rel_bytes((int16_t)word_a(word), profile->shift));
	case OPERAND_TARGET_ABS:
		if (word_a_is_reg(word))
			return put_reg(at, word_a(word));
		return put_address(at, abs_address(profile, word_a(word)));
	case OPERAND_CONDITION:
		return put_condition(at, sop);
	case OPERAND_NONE:
	case OPERAND_KINDS:
		break;
	}
	return at;
}

/* --- lines --- */

static char *put_word(char *at, uint64_t word)
{
	at = put_digits(at, (uint32_t)(word >> 32), 8);
	return put_digits(at, (uint32_t)word, 8);
}

size_t text_word(const struct cmdq_profile *profile, uint64_t word, char *line)
{
	const enum cmdq_form_id id = form_of(word);
	const struct cmdq_form *form = &cmdq_forms[id];
	char *at = line;

	if (id == FORM_WORD)
		return (size_t)(put_word(PUT(at, ".word 0x"), word) - line);
	memcpy(at, form->mnemonic, sizeof(form->mnemonic));
	at += form->mnemonic_length;
	for (unsigned i = 0; i < CMDQ_OPERANDS_MAX && form->operands[i] != OPERAND_NONE; i++) {
		if (i && form->operands[i] != OPERAND_CONDITION &&
		    form->operands[i - 1] != OPERAND_CONDITION)
			*at++ = ',';
		*at++ = ' ';
		at = put_kind(at, profile, word, (enum cmdq_operand_kind)form->operands[i]);
	}
	return (size_t)(at - line);
}

size_t text_listing(const struct cmdq_profile *profile, size_t index, uint64_t word, char *line)
{
	enum { COMMENT = 48 };
	size_t length = text_word(profile, word, line);
	char *at;

	while (length < COMMENT)
		line[length++] = ' ';
	at = PUT(line + length, " ; ");
	at = put_digits(at, (uint32_t)(index * CMDQ_INST_SIZE), 8);
	*at++ = ' ';
	return (size_t)(put_word(at, word) - line);
}

int cmdq_text(const struct cmdq_profile *profile, uint64_t word, char *text, size_t room)
{
	char line[CMDQ_LINE_MAX];
	size_t length = text_word(profile, word, line);

	if (room) {
		const size_t fits = MIN(length, room - 1);

		memcpy(text, line, fits);
		text[fits] = '\0';
	}
	return (int)length;
}
