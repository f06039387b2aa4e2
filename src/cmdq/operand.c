/* SPDX-License-Identifier: BSD-2-Clause */
#include "cmdq/operand.h"

#include <errno.h>
#include <stdio.h>

#include "cmdq/program.h"

#define FIELD(value, at) ((uint64_t)(value) << (at))

static bool is_number(const struct operand *operand)
{
	return operand->shape == SHAPE_NUMBER || operand->shape == SHAPE_LABEL ||
	       operand->shape == SHAPE_NAME;
}

bool operand_fits(enum cmdq_operand_kind kind, const struct operand *operand)
{
	const enum operand_shape shape = operand->shape;

	switch (kind) {
	case OPERAND_ADDR_OLD:
	case OPERAND_ADDR_A:
	case OPERAND_ADDR_B:
		return is_number(operand) || shape == SHAPE_SUBSYS;
	case OPERAND_ADDR48_A:
	case OPERAND_ADDR48_B:
		return shape == SHAPE_HIGH_LOW;
	case OPERAND_GPR_LOW:
	case OPERAND_GPR_SOP:
	case OPERAND_REG_A:
		return shape == SHAPE_REG;
	case OPERAND_GPR_ADDR:
	case OPERAND_REG_ADDR_A:
	case OPERAND_REG_ADDR_B:
		return shape == SHAPE_REG_ADDR;
	case OPERAND_VALUE:
	case OPERAND_MASK:
	case OPERAND_EVENT:
	case OPERAND_REL:
	case OPERAND_ABS:
		return is_number(operand);
	case OPERAND_SOURCE_OLD:
	case OPERAND_SOURCE:
	case OPERAND_OPERAND_B:
	case OPERAND_OPERAND_C:
	case OPERAND_TARGET_REL:
	case OPERAND_TARGET_ABS:
		return is_number(operand) || shape == SHAPE_REG;
	case OPERAND_CONDITION:
		return shape == SHAPE_CONDITION;
	case OPERAND_NONE:
	case OPERAND_KINDS:
		break;
	}
	return false;
}

/* --- numbers --- */

static int undefined(const struct operand *operand)
{
	return cmdq_refuse(-EINVAL, "'%.*s' is not defined: a number, a label or a name of .equ",
			   (int)MIN(operand->length, (size_t)60), operand->text);
}

static bool in_range(int128_t value, int128_t least, int128_t most)
{
	return value >= least && value <= most;
}

static int out_of_range(int128_t value, const char *what, int64_t least, uint64_t most)
{
	const char *const sign = value < 0 ? "-" : "";
	const unsigned long long size = (unsigned long long)(value < 0 ? -value : value);

	/* Numbers of things are decimal, bits are hexadecimal. */
	if (most < CMDQ_EVENTS)
		return cmdq_refuse(-EINVAL, "%s %s%llu is out of range: 0 to %llu", what, sign,
				   size, (unsigned long long)most);
	return cmdq_refuse(-EINVAL, "%s %s0x%llx is out of range: %s0x%llx to 0x%llx", what, sign,
			   size, least < 0 ? "-" : "",
			   (unsigned long long)(least < 0 ? -(uint64_t)least : (uint64_t)least),
			   (unsigned long long)most);
}

/* A value of 16 or 32 bits; of 32 also a negative one. */
static int number_bits(const struct operand *operand, unsigned bits, uint64_t *value)
{
	const uint64_t most = ((uint64_t)1 << bits) - 1;
	const int64_t least = bits == 32 ? INT32_MIN : 0;

	if (operand->shape == SHAPE_NAME)
		return undefined(operand);
	if (!in_range(operand->value, least, most))
		return out_of_range(operand->value, "value", least, most);
	*value = (uint64_t)operand->value & most;
	return 0;
}

/* --- device registers --- */

/* With the windows that there are, as many as fit. */
static int no_subsys(const struct cmdq_profile *profile, uint64_t address)
{
	enum { SHOWN = 8 };
	char list[SHOWN * 11 + 5] = "";
	size_t used = 0;
	unsigned shown = 0;

	for (unsigned id = 0; id < CMDQ_SUBSYS_MAX && shown <= SHOWN; id++) {
		if (!profile->subsys[id].known)
			continue;
		if (shown++ == SHOWN)
			snprintf(list + used, sizeof(list) - used, " ...");
		else
			used += (size_t)snprintf(list + used, sizeof(list) - used, " 0x%04xxxxx",
						 profile->subsys[id].high);
	}
	return cmdq_refuse(-EINVAL, "0x%llx is in no subsys of %s, which has%s",
			   (unsigned long long)address, profile->name, list);
}

/* align: 4, or 2 where bit 1 is part of the offset. at: where the offset's bits are. */
static int subsys_bits(const struct operand *operand, const struct cmdq_profile *profile,
		       unsigned align, unsigned at, uint64_t *bits)
{
	uint64_t offset = (uint64_t)operand->value;
	int id;

	if (operand->shape == SHAPE_NAME)
		return undefined(operand);
	if (operand->shape == SHAPE_SUBSYS) {
		if (!in_range(operand->subsys, 0, CMDQ_SUBSYS_MAX - 1))
			return out_of_range(operand->subsys, "subsys", 0, CMDQ_SUBSYS_MAX - 1);
		if (!in_range(operand->value, 0, 0xffff))
			return out_of_range(operand->value, "offset", 0, 0xffff);
		id = (int)operand->subsys;
	} else {
		id = operand->value < 0 ? -1 : profile_subsys(profile, offset);
		if (id < 0)
			return no_subsys(profile, offset);
		offset &= 0xffff;
	}
	if (offset % align)
		return cmdq_refuse(-EINVAL, "offset 0x%llx is not a multiple of 4",
				   (unsigned long long)offset);
	*bits = FIELD(id, 48) | FIELD(offset, at);
	return 0;
}

static int high_low_bits(const struct operand *operand, unsigned at, uint64_t *bits)
{
	if (operand->reg >= 32)
		return cmdq_refuse(-EINVAL,
				   "this register cannot have the high half of an address: spr0 to "
				   "spr3 can");
	if (!in_range(operand->value, 0, 0xfffc))
		return out_of_range(operand->value, "low half", 0, 0xfffc);
	if (operand->value & 3)
		return cmdq_refuse(-EINVAL, "low half 0x%x is not a multiple of 4",
				   (unsigned)operand->value);
	*bits = FIELD(operand->reg, 48) | FIELD(operand->value, at);
	return 0;
}

/* --- registers of the engine --- */

static int gpr_bits(const struct operand *operand, unsigned at, uint64_t *bits)
{
	const unsigned n = (unsigned)operand->reg - CMDQ_REG_GPR(0);

	if (n >= CMDQ_GPRS)
		return cmdq_refuse(-EINVAL, "only a general register can stand here: r0 to r15");
	*bits = FIELD(n, at);
	return 0;
}

static int source_bits(enum cmdq_operand_kind kind, const struct operand *operand, uint64_t *bits)
{
	int err;

	if (operand->shape != SHAPE_REG)
		return number_bits(operand, 32, bits);
	if (kind == OPERAND_SOURCE)
		*bits = FIELD(operand->reg, 16);
	err = kind == OPERAND_SOURCE ? 0 : gpr_bits(operand, 0, bits);
	*bits |= FIELD(1, 54);
	return err;
}

/* 16 bits, and a type bit where it is a register. */
static int short_bits(const struct operand *operand, unsigned at, unsigned type_at, uint64_t *bits)
{
	int err = 0;

	if (operand->shape == SHAPE_REG) {
		*bits = FIELD(operand->reg, at) | FIELD(1, type_at);
		return 0;
	}
	err = number_bits(operand, 16, bits);
	*bits <<= at;
	return err;
}

/* --- jumps --- */

static int rel_field(const struct operand *operand, const struct operand_place *place,
		     unsigned field_bits, uint32_t *field)
{
	/* Any field is somebody's: what a disassembler shows can be assembled, whole commands or not. */
	const unsigned align = 1u << place->profile->shift;
	int128_t offset = operand->value;

	if (operand->shape == SHAPE_NAME)
		return undefined(operand);
	if (operand->shape == SHAPE_LABEL)
		offset -= place->here;
	/* Beyond 63 bits it is out of any range. */
	if (!in_range(offset, INT64_MIN, INT64_MAX))
		return cmdq_refuse(-EINVAL, "this offset is out of any range");
	return jump_rel_field(place->profile, (int64_t)offset, field_bits, align, field);
}

static int abs_field(const struct operand *operand, const struct operand_place *place,
		     unsigned field_bits, uint32_t *field)
{
	const struct cmdq_profile *profile = place->profile;
	/* Modulo this, as text.c has it. */
	const uint64_t most = ((uint64_t)1 << (32 + profile->shift)) - 1;
	uint64_t address = (uint64_t)operand->value;

	if (operand->shape == SHAPE_NAME)
		return undefined(operand);
	if (operand->shape == SHAPE_LABEL) {
		if (place->base == BASE_UNKNOWN)
			return cmdq_refuse(-EINVAL, "the address of a label needs --base ADDRESS, "
						    "where the packet will lie");
		address += place->base;
	}
	if (operand->value < 0 || address > most ||
	    (((address + profile->offset) & most) >> profile->shift) >> field_bits ||
	    (address + profile->offset) & (((uint64_t)1 << profile->shift) - 1))
		return cmdq_refuse(-EINVAL,
				   "address 0x%llx: a multiple of %d, 0 to 0x%llx on %s (shift %u)",
				   (unsigned long long)address, 1 << profile->shift,
				   (((1ull << field_bits) - 1) << profile->shift), profile->name,
				   profile->shift);
	address = (address + profile->offset) & most;
	*field = (uint32_t)(address >> profile->shift);
	return 0;
}

static int target_bits(enum cmdq_operand_kind kind, const struct operand *operand,
		       const struct operand_place *place, uint64_t *bits)
{
	uint32_t field = 0;
	int err;

	if (operand->shape == SHAPE_REG) {
		*bits = FIELD(operand->reg, 32) | FIELD(1, 55);
		return 0;
	}
	err = kind == OPERAND_TARGET_REL ? rel_field(operand, place, 16, &field)
					 : abs_field(operand, place, 16, &field);
	*bits = FIELD(field & 0xffff, 32);
	return err;
}

/* --- */

static int event_bits(const struct operand *operand, const struct cmdq_profile *profile,
		      uint64_t *bits)
{
	int raw;

	if (operand->shape == SHAPE_NAME) {
		raw = profile_event(profile, operand->text, operand->length);
		if (raw < 0)
			return cmdq_refuse(-EINVAL,
					   "%s has no event '%.*s'; 0 to %d, or a name that `weir "
					   "cmdq soc %s` lists",
					   profile->name, (int)MIN(operand->length, (size_t)60),
					   operand->text, CMDQ_EVENTS - 1, profile->name);
		*bits = FIELD((unsigned)raw, 32);
		return 0;
	}
	if (!in_range(operand->value, 0, CMDQ_EVENTS - 1))
		return out_of_range(operand->value, "event", 0, CMDQ_EVENTS - 1);
	*bits = FIELD(operand->value, 32);
	return 0;
}

int operand_bits(enum cmdq_operand_kind kind, const struct operand *operand,
		 const struct operand_place *place, uint64_t *bits)
{
	uint32_t field = 0;
	int err = 0;

	*bits = 0;
	switch (kind) {
	case OPERAND_ADDR_OLD:
		return subsys_bits(operand, place->profile, 2, 32, bits);
	case OPERAND_ADDR_A:
		return subsys_bits(operand, place->profile, 4, 32, bits);
	case OPERAND_ADDR_B:
		return subsys_bits(operand, place->profile, 4, 16, bits);
	case OPERAND_ADDR48_A:
		return high_low_bits(operand, 32, bits);
	case OPERAND_ADDR48_B:
		return high_low_bits(operand, 16, bits);
	case OPERAND_GPR_LOW:
		return gpr_bits(operand, 0, bits);
	case OPERAND_GPR_SOP:
	case OPERAND_GPR_ADDR:
		return gpr_bits(operand, 48, bits);
	case OPERAND_REG_A:
	case OPERAND_REG_ADDR_A:
		*bits = FIELD(operand->reg, 32);
		return 0;
	case OPERAND_REG_ADDR_B:
		*bits = FIELD(operand->reg, 16);
		return 0;
	case OPERAND_VALUE:
		return number_bits(operand, 32, bits);
	case OPERAND_MASK:
		err = number_bits(operand, 32, bits);
		*bits ^= UINT32_MAX;
		return err;
	case OPERAND_SOURCE_OLD:
	case OPERAND_SOURCE:
		return source_bits(kind, operand, bits);
	case OPERAND_OPERAND_B:
		return short_bits(operand, 16, 54, bits);
	case OPERAND_OPERAND_C:
		return short_bits(operand, 0, 53, bits);
	case OPERAND_EVENT:
		return event_bits(operand, place->profile, bits);
	case OPERAND_REL:
		err = rel_field(operand, place, 32, &field);
		*bits = field;
		return err;
	case OPERAND_ABS:
		err = abs_field(operand, place, 32, &field);
		*bits = field;
		return err;
	case OPERAND_TARGET_REL:
	case OPERAND_TARGET_ABS:
		return target_bits(kind, operand, place, bits);
	case OPERAND_CONDITION:
		*bits = FIELD(operand->value, 48);
		return 0;
	case OPERAND_NONE:
	case OPERAND_KINDS:
		break;
	}
	return 0;
}
