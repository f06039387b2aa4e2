/* SPDX-License-Identifier: BSD-2-Clause */
/* The assembler's operands: read by their shape (asm.c), then made to bits of a form (operand.c). */
#ifndef WEIR_CMDQ_OPERAND_H
#define WEIR_CMDQ_OPERAND_H

#include "cmdq/cmdq.h"

/* Numbers of the text are signed, and have up to 64 bits. */
typedef __int128 int128_t;

enum operand_shape {
	SHAPE_NUMBER,
	SHAPE_LABEL, /* a number: bytes from the program's start */
	SHAPE_NAME,  /* neither: an event, or a label that is not known yet */
	SHAPE_REG,
	SHAPE_REG_ADDR, /* [register] */
	SHAPE_HIGH_LOW, /* register:number */
	SHAPE_SUBSYS,	/* number:number */
	SHAPE_CONDITION,
};

struct operand {
	enum operand_shape shape;
	uint16_t reg; /* its index */
	int128_t
		value; /* a number, or condition, or what stands behind the colon: -1 << 63 to (1 << 64) - 1 */
	int128_t subsys; /* what stands before it */
	const char *text;
	size_t length;
};

struct operand_place {
	const struct cmdq_profile *profile;
	uint64_t base, here; /* of the program; of this command from there */
};

/* Whether the shape is one that the kind has. */
bool operand_fits(enum cmdq_operand_kind kind, const struct operand *operand);
/* The operand's bits of the word, for a shape that fits; or -EINVAL and a message for cmdq_error. */
int operand_bits(enum cmdq_operand_kind kind, const struct operand *operand,
		 const struct operand_place *place, uint64_t *bits);

#endif
