/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of forms, made from ops.def and operands.def. */
#include <stdio.h>
#include <string.h>

#include "cmdq/cmdq.h"

/* Constants, since initialisers below are made of them. */
enum {
#define CMDQ_OPERAND(name, bits, bad_all, bad_any, syntax) BITS_##name = (bits),
#include "operands.def"
};
enum {
#define CMDQ_OPERAND(name, bits, bad_all, bad_any, syntax) BAD_ALL_##name = (bad_all),
#include "operands.def"
};
enum {
#define CMDQ_OPERAND(name, bits, bad_all, bad_any, syntax) BAD_ANY_##name = (bad_any),
#include "operands.def"
};

#define O(...) O4(__VA_ARGS__, NONE, NONE, NONE, NONE)
#define O4(a, b, c, d, ...)                                                                        \
	.fixed = ~((uint64_t)BITS_##a | (uint64_t)BITS_##b | (uint64_t)BITS_##c |                  \
		   (uint64_t)BITS_##d),                                                            \
	.bad_all = (uint64_t)BAD_ALL_##a | (uint64_t)BAD_ALL_##b | (uint64_t)BAD_ALL_##c |         \
		   (uint64_t)BAD_ALL_##d,                                                          \
	.bad_any = (uint64_t)BAD_ANY_##a | (uint64_t)BAD_ANY_##b | (uint64_t)BAD_ANY_##c |         \
		   (uint64_t)BAD_ANY_##d,                                                          \
	.operands = {OPERAND_##a, OPERAND_##b, OPERAND_##c, OPERAND_##d}

#define CMDQ_CODE(op, first, last)
#define CMDQ_FORM(id, mnemonic_, value_, operands_, what_)                                         \
	[FORM_##id] = {.mnemonic = mnemonic_,                                                      \
		       .mnemonic_length = sizeof(mnemonic_) - 1,                                   \
		       .value = (value_),                                                          \
		       operands_},
const struct cmdq_form cmdq_forms[FORMS] = {
#include "ops.def"
};

#define CMDQ_CODE(op, first_, last_) [op] = {.first = FORM_##first_, .end = FORM_##last_ + 1},
#define CMDQ_FORM(id, mnemonic, value, operands, what)
const struct form_range cmdq_form_ranges[256] = {
#include "ops.def"
};

#define CMDQ_CODE(op, first, last)
#define CMDQ_FORM(id, mnemonic, value, operands, what) [FORM_##id] = (what),
const char *const cmdq_form_meanings[FORMS] = {
#include "ops.def"
};

#define CMDQ_OPERAND(name, bits, bad_all, bad_any, syntax) [OPERAND_##name] = (syntax),
const char *const cmdq_operand_syntax[OPERAND_KINDS] = {
#include "operands.def"
};

bool form_uses_mask(const struct cmdq_form *form)
{
	static const char suffix[] = "_mask";
	const size_t length = sizeof(suffix) - 1;

	return form->mnemonic_length > length &&
	       !memcmp(form->mnemonic + form->mnemonic_length - length, suffix, length);
}

void form_usage(enum cmdq_form_id id, char *text, size_t room)
{
	const struct cmdq_form *form = &cmdq_forms[id];
	size_t used = (size_t)snprintf(text, room, "%s", form->mnemonic);

	for (unsigned i = 0; i < CMDQ_OPERANDS_MAX && form->operands[i] != OPERAND_NONE; i++) {
		const bool comma = i && form->operands[i] != OPERAND_CONDITION &&
				   form->operands[i - 1] != OPERAND_CONDITION;

		used += (size_t)snprintf(text + used, room - used, "%s %s", comma ? "," : "",
					 cmdq_operand_syntax[form->operands[i]]);
	}
	if (form_uses_mask(form))
		snprintf(text + used, room - used, "[, MASK]");
}
