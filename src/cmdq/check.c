/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is wrong with a program, as far as it can be seen without running it. Three passes: the way that control takes, which
 * masked command has its mask, then each word with what the others found out about it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmdq/program.h"

enum {
	REACHED = 1,
	TARGET = 2, /* a jump lands here */
	MASKED = 4, /* a MASK whose user follows, or a user whose MASK is before it */
};

struct checker {
	const struct cmdq_profile *profile;
	uint64_t base;
	const struct program *program;
	complain_fn complain;
	void *data;
	int defects;
	uint8_t *flags; /* of each word */
	bool opaque;	/* a jump to where a register says: anything may be reached */
	bool set[CMDQ_EVENTS];
};

__attribute__((format(printf, 3, 4))) static void defect(struct checker *check, size_t i,
							 const char *format, ...)
{
	char message[320];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	check->defects++;
	check->complain(check->data, check->program->lines[i], 0, message);
}

/* --- jumps --- */

enum target_kind { NO_JUMP, TO_INDEX, TO_REGISTER, TO_UNKNOWN };

/* Where a jump goes: bytes from the program's start. */
static enum target_kind jump_target(const struct checker *check, size_t i, int64_t *bytes)
{
	const uint64_t word = check->program->words[i];
	const unsigned shift = check->profile->shift;
	const enum cmdq_form_id form = form_of(word);
	const bool conditional = form == FORM_JUMP_C_ABS || form == FORM_JUMP_C_REL;
	uint64_t address;

	if (conditional && word_a_is_reg(word))
		return TO_REGISTER;
	switch (form) {
	case FORM_JUMP_REL:
		*bytes = (int64_t)(i * CMDQ_INST_SIZE) + jump_rel_bytes((int32_t)word, shift);
		return TO_INDEX;
	case FORM_JUMP_C_REL:
		*bytes = (int64_t)(i * CMDQ_INST_SIZE) +
			 jump_rel_bytes((int16_t)word_a(word), shift);
		return TO_INDEX;
	case FORM_JUMP_ABS:
	case FORM_JUMP_C_ABS:
		if (check->base == BASE_UNKNOWN)
			return TO_UNKNOWN;
		address = (uint64_t)(form == FORM_JUMP_ABS ? (uint32_t)word : word_a(word))
			  << shift;
		*bytes = (int64_t)(address - check->profile->offset - check->base);
		return TO_INDEX;
	default:
		return NO_JUMP;
	}
}

static bool is_jump(enum cmdq_form_id form)
{
	return form == FORM_JUMP_REL || form == FORM_JUMP_ABS;
}

/* The index, or count for what is none of the program's. */
static size_t target_index(const struct checker *check, int64_t bytes)
{
	if (bytes < 0 || bytes % CMDQ_INST_SIZE ||
	    (uint64_t)bytes / CMDQ_INST_SIZE >= check->program->count)
		return check->program->count;
	return (size_t)bytes / CMDQ_INST_SIZE;
}

/* Follows every way from the first word. */
static int follow(struct checker *check)
{
	const size_t count = check->program->count;
	size_t *stack = malloc((count + 1) * sizeof(*stack)), top = 0;

	if (!stack)
		return -ENOMEM;
	/* Each word is put on the stack once at most: when it is first reached. */
	check->flags[0] |= REACHED;
	stack[top++] = 0;
	while (top) {
		const size_t i = stack[--top];
		const enum cmdq_form_id form = form_of(check->program->words[i]);
		size_t next[2] = {is_jump(form) ? count : i + 1, count};
		int64_t bytes = 0;

		switch (jump_target(check, i, &bytes)) {
		case TO_INDEX:
			next[1] = target_index(check, bytes);
			if (next[1] < count)
				check->flags[next[1]] |= TARGET;
			break;
		case TO_REGISTER:
			check->opaque = true;
			break;
		case TO_UNKNOWN:
		case NO_JUMP:
			break;
		}
		for (unsigned k = 0; k < 2; k++) {
			if (next[k] < count && !(check->flags[next[k]] & REACHED)) {
				check->flags[next[k]] |= REACHED;
				stack[top++] = next[k];
			}
		}
	}
	free(stack);
	return 0;
}

static void check_jump(struct checker *check, size_t i)
{
	const struct program *program = check->program;
	const uint64_t word = program->words[i];
	const enum cmdq_form_id form = form_of(word);
	const unsigned shift = check->profile->shift;
	const int64_t end = (int64_t)(program->count * CMDQ_INST_SIZE);
	int64_t bytes = 0;

	switch (jump_target(check, i, &bytes)) {
	case NO_JUMP:
	case TO_REGISTER:
		return;
	case TO_UNKNOWN:
		defect(check, i,
		       "absolute jump: whether it stays in the packet can be seen only with --base "
		       "ADDRESS, where the packet lies");
		return;
	case TO_INDEX:
		break;
	}
	if (form == FORM_JUMP_REL && shift && (int32_t)word > 0 &&
	    (int32_t)((uint32_t)word << shift) < 0) {
		/* What a logical shift makes of a negative offset: the upper bits are gone. */
		const int32_t meant = (int32_t)((uint32_t)word << shift);

		defect(check, i,
		       "negative jump under a shift: 0x%08x is %d shifted logically and jumps far "
		       "outside the packet; shifted arithmetically it would be 0x%08x",
		       (uint32_t)word, meant, (uint32_t)(meant >> shift));
		return;
	}
	if (bytes % CMDQ_INST_SIZE)
		defect(check, i, "jump to byte %lld, which is inside a command", (long long)bytes);
	else if (bytes < 0 || bytes > end || (bytes == end && i + 1 != program->count))
		defect(check, i, "jump outside the packet: to byte %lld, of 0 to %lld",
		       (long long)bytes, (long long)end - (long long)CMDQ_INST_SIZE);
	else if (form == FORM_JUMP_REL && shift && (int32_t)word < 0)
		defect(check, i,
		       "negative jump under a shift: right as it is, but helpers that shift "
		       "logically make 0x%08x of it; jump_c_rel is safe",
		       (uint32_t)word << shift >> shift);
}

/* --- masks --- */

/* Finds the user of each MASK: the next command that takes one, with no jump from or into what is between. */
static void match_masks(struct checker *check)
{
	const struct program *program = check->program;

	for (size_t i = 0; i < program->count; i++) {
		if (form_of(program->words[i]) != FORM_MASK)
			continue;
		for (size_t k = i + 1; k < program->count; k++) {
			const enum cmdq_form_id form = form_of(program->words[k]);
			int64_t bytes;

			if (form == FORM_MASK || check->flags[k] & TARGET ||
			    jump_target(check, k, &bytes) != NO_JUMP)
				break;
			if (form != FORM_WORD && form_uses_mask(&cmdq_forms[form])) {
				check->flags[i] |= MASKED;
				check->flags[k] |= MASKED;
				break;
			}
		}
	}
}

static void check_mask(struct checker *check, size_t i)
{
	const enum cmdq_form_id form = form_of(check->program->words[i]);

	if (form == FORM_WORD || check->flags[i] & MASKED)
		return;
	if (form == FORM_MASK)
		defect(check, i,
		       "mask not used: no masked command takes it before the next mask, jump, "
		       "place "
		       "that is jumped to, or end");
	else if (form_uses_mask(&cmdq_forms[form]))
		defect(check, i,
		       "masked write without a fresh mask: `mask` must stand before each %s%s",
		       cmdq_forms[form].mnemonic,
		       check->flags[i] & TARGET ? ", and a jump lands between them" : "");
}

/* --- operands --- */

static void check_register(struct checker *check, size_t i, unsigned reg)
{
	if (!reg_exists((uint16_t)reg))
		defect(check, i, "no register %u: spr0 to spr3, r0 to r15, timer, cpr0 to cpr1311",
		       reg);
}

static void check_subsys(struct checker *check, size_t i, unsigned offset)
{
	const unsigned id = word_sop(check->program->words[i]);

	if (!check->profile->subsys[id].known)
		defect(check, i, "unknown subsys %u: %s has none of that number", id,
		       check->profile->name);
	if (offset & 3)
		defect(check, i, "offset 0x%x is not a multiple of 4", offset);
}

static void check_event(struct checker *check, size_t i)
{
	const uint64_t word = check->program->words[i];
	const unsigned event = word_a(word);
	const bool waits = word >> 15 & 1 && (word & 0xfff) == 1;

	if (cmdq_event_name(check->profile, event))
		return;
	/* What has a name is set by hardware. */
	defect(check, i, "unknown event %u: %s has no name for it%s", event, check->profile->name,
	       waits && !check->set[event]
		       ? "; nothing in this packet sets it, so this wait may never end"
		       : "");
}

static void check_operand(struct checker *check, size_t i, enum cmdq_operand_kind kind)
{
	const uint64_t word = check->program->words[i];

	switch (kind) {
	case OPERAND_ADDR_OLD:
		check_subsys(check, i, word_a(word) & 0xfffe);
		break;
	case OPERAND_ADDR_A:
	case OPERAND_ADDR_B:
		check_subsys(check, i, 0);
		break;
	case OPERAND_ADDR48_A:
	case OPERAND_ADDR48_B:
		check_register(check, i, word_sop(word));
		break;
	case OPERAND_REG_A:
		if (word_a(word) == CMDQ_REG_TIMER)
			defect(check, i, "register 56, the timer, is only read");
		check_register(check, i, word_a(word));
		break;
	case OPERAND_REG_ADDR_A:
		check_register(check, i, word_a(word));
		break;
	case OPERAND_REG_ADDR_B:
		check_register(check, i, word_b(word));
		break;
	case OPERAND_SOURCE:
	case OPERAND_OPERAND_B:
		if (word_b_is_reg(word))
			check_register(check, i, word_b(word));
		break;
	case OPERAND_OPERAND_C:
		if (word_c_is_reg(word))
			check_register(check, i, word_c(word));
		break;
	case OPERAND_TARGET_REL:
	case OPERAND_TARGET_ABS:
		if (word_a_is_reg(word))
			check_register(check, i, word_a(word));
		break;
	case OPERAND_EVENT:
		check_event(check, i);
		break;
	default:
		break;
	}
}

/* --- words --- */

static void check_word(struct checker *check, size_t i)
{
	const uint64_t word = check->program->words[i];
	const enum cmdq_form_id form = form_of(word);
	const bool dead = !check->opaque && !(check->flags[i] & REACHED);

	if (dead && (i == 0 || check->flags[i - 1] & REACHED))
		defect(check, i, "dead code: nothing leads here");
	if (form == FORM_WORD) {
		defect(check, i, "0x%016llx is no command", (unsigned long long)word);
		return;
	}
	if (word_op(word) == CMDQ_OP_POLL)
		defect(check, i,
		       "poll stalls all threads of the engine until it ends; read_s and jump_c_rel "
		       "in a loop stall one");
	for (unsigned k = 0; k < CMDQ_OPERANDS_MAX; k++)
		check_operand(check, i, (enum cmdq_operand_kind)cmdq_forms[form].operands[k]);
	check_mask(check, i);
	check_jump(check, i);
}

static void check_end(struct checker *check)
{
	const struct program *program = check->program;
	const size_t last = program->count - 1;
	enum cmdq_form_id form;

	if (!is_jump(form_of(program->words[last]))) {
		defect(check, last,
		       "no terminating jump: a packet ends in `finalize`, that is eoc and jump_rel "
		       "+8, with which an engine links the next one");
		return;
	}
	form = last ? form_of(program->words[last - 1]) : FORM_WORD;
	if (form_of(program->words[last]) == FORM_JUMP_REL && (int32_t)program->words[last] > 0 &&
	    form != FORM_EOC && form != FORM_EOC_VALUE)
		defect(check, last,
		       "no eoc before the terminating jump: nobody is told of the end");
}

static void check_base(struct checker *check)
{
	const struct cmdq_profile *profile = check->profile;
	const unsigned __int128 end = (unsigned __int128)check->base + profile->offset +
				      check->program->count * CMDQ_INST_SIZE;

	if (check->base == BASE_UNKNOWN)
		return;
	if (check->base % CMDQ_INST_SIZE)
		defect(check, 0, "base address 0x%llx is not a multiple of 8",
		       (unsigned long long)check->base);
	if (end > (unsigned __int128)UINT32_MAX << profile->shift)
		defect(check, 0,
		       "address beyond the shift: a packet at 0x%llx ends above 0x%llx, the most "
		       "that %s can express with shift %u",
		       (unsigned long long)check->base,
		       ((unsigned long long)UINT32_MAX << profile->shift) - profile->offset,
		       profile->name, profile->shift);
}

int check_program(const struct cmdq_profile *profile, uint64_t base, const struct program *program,
		  complain_fn complain, void *data)
{
	struct checker check = {
		.profile = profile,
		.base = base,
		.program = program,
		.complain = complain,
		.data = data,
	};

	if (!program->count) {
		complain(data, 1, 0, "no commands at all");
		return 1;
	}
	check.flags = calloc(program->count, sizeof(*check.flags));
	if (!check.flags)
		return -ENOMEM;
	if (follow(&check)) {
		free(check.flags);
		return -ENOMEM;
	}
	match_masks(&check);
	for (size_t i = 0; i < program->count; i++) {
		const uint64_t word = program->words[i];

		/* b31 update, b27:16 to */
		if (word_op(word) == CMDQ_OP_WFE && form_of(word) != FORM_WORD && word >> 31 & 1 &&
		    word >> 16 & 0xfff)
			check.set[word_a(word)] = true;
	}
	check_base(&check);
	for (size_t i = 0; i < program->count; i++)
		check_word(&check, i);
	check_end(&check);
	free(check.flags);
	return check.defects;
}
