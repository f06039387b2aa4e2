/* SPDX-License-Identifier: BSD-2-Clause */
/* Appending: what is refused is refused here, before anything is appended. */
#include <errno.h>

#include "cmdq/cmdq.h"

/* The short ways, for who does not inline them. */
extern inline int cmdq_pkt_write(struct cmdq_pkt *pkt, uint32_t value, const struct cmdq_base *base,
				 uint32_t offset);
extern inline int cmdq_pkt_write_mask(struct cmdq_pkt *pkt, uint32_t value,
				      const struct cmdq_base *base, uint32_t offset, uint32_t mask);
extern inline int cmdq_pkt_event(struct cmdq_pkt *pkt, uint32_t event, uint32_t low);

enum { POLL_ADDR_GPR = 15 };

#define FIELD(value, at) ((uint64_t)(value) << (at))
#define A_TYPE FIELD(1, 55)
#define B_TYPE FIELD(1, 54)
#define C_TYPE FIELD(1, 53)
#define USE_MASK FIELD(1, 32)

static uint64_t op_word(enum cmdq_op op)
{
	return FIELD(op, 56);
}

static uint64_t mask_word(uint32_t mask)
{
	return op_word(CMDQ_OP_MASK) | (uint32_t)~mask;
}

/* A command that may need a mask: user_mask is what is added to it then. */
static int append_masked(struct cmdq_pkt *pkt, uint64_t word, uint32_t mask, uint64_t use_mask)
{
	const uint64_t words[] = {mask_word(mask), word | use_mask};

	return mask == UINT32_MAX ? pkt_append(pkt, &word, 1) : pkt_append(pkt, words, 2);
}

/* --- registers of devices --- */

static int check_base(const struct cmdq_pkt *pkt, const struct cmdq_base *base, uint32_t offset)
{
	if (base->profile != pkt->profile)
		return cmdq_refuse(-EINVAL, "a device of %s in a packet for %s",
				   base->profile->name, pkt->profile->name);
	if (offset & 3 || offset >= base->room)
		return cmdq_refuse(-EINVAL,
				   "offset 0x%x: a multiple of 4, 0 to 0x%x, where subsys %u ends",
				   offset, (base->room - 1) & ~3u, base->subsys);
	return 0;
}

int cmdq_pkt_write_slow(struct cmdq_pkt *pkt, uint32_t value, const struct cmdq_base *base,
			uint32_t offset)
{
	return cmdq_pkt_write_mask_slow(pkt, value, base, offset, UINT32_MAX);
}

int cmdq_pkt_write_mask_slow(struct cmdq_pkt *pkt, uint32_t value, const struct cmdq_base *base,
			     uint32_t offset, uint32_t mask)
{
	int err = check_base(pkt, base, offset);

	if (err)
		return err;
	return append_masked(pkt, base->write + FIELD(offset, 32) + value, mask, USE_MASK);
}

int cmdq_pkt_poll_mask(struct cmdq_pkt *pkt, uint32_t value, const struct cmdq_base *base,
		       uint32_t offset, uint32_t mask)
{
	const uint64_t write_to_poll = op_word(CMDQ_OP_WRITE) ^ op_word(CMDQ_OP_POLL);
	int err = check_base(pkt, base, offset);

	if (err)
		return err;
	return append_masked(pkt, (base->write ^ write_to_poll) + FIELD(offset, 32) + value, mask,
			     USE_MASK);
}

int cmdq_pkt_poll(struct cmdq_pkt *pkt, uint32_t value, const struct cmdq_base *base,
		  uint32_t offset)
{
	return cmdq_pkt_poll_mask(pkt, value, base, offset, UINT32_MAX);
}

int cmdq_pkt_poll_addr(struct cmdq_pkt *pkt, uint32_t addr, uint32_t value, uint32_t mask)
{
	const uint64_t words[] = {
		mask_word(mask),
		op_word(CMDQ_OP_MASK) | A_TYPE | FIELD(POLL_ADDR_GPR, 48) | addr,
		op_word(CMDQ_OP_POLL) | A_TYPE | FIELD(POLL_ADDR_GPR, 48) | value |
			(mask == UINT32_MAX ? 0 : USE_MASK),
	};
	const size_t skip = mask == UINT32_MAX;

	if (addr & 3)
		return cmdq_refuse(-EINVAL, "address 0x%x is not a multiple of 4", addr);
	return pkt_append(pkt, words + skip, 3 - skip);
}

/* --- events --- */

int cmdq_pkt_event_slow(struct cmdq_pkt *pkt, uint32_t event, uint32_t low)
{
	int raw = cmdq_event_raw(pkt->profile, event);
	const uint64_t word = op_word(CMDQ_OP_WFE) | FIELD((uint32_t)raw, 32) | low;

	return raw < 0 ? raw : pkt_append(pkt, &word, 1);
}

/* --- registers of the engine --- */

bool reg_exists(uint16_t reg)
{
	return reg < CMDQ_SPRS || (reg >= CMDQ_REG_GPR(0) && reg < CMDQ_REG_GPR(CMDQ_GPRS)) ||
	       reg == CMDQ_REG_TIMER || (reg >= CMDQ_REG_CPR(0) && reg < CMDQ_REG_CPR(CMDQ_CPRS));
}

static int check_reg(uint16_t reg)
{
	if (reg_exists(reg))
		return 0;
	return cmdq_refuse(-EINVAL,
			   "no register %u: 0 to 3 (SPR), 32 to 47 (general), 56 (timer), "
			   "0x8000 to 0x851f (CPR)",
			   reg);
}

static int check_target(uint16_t reg)
{
	if (reg == CMDQ_REG_TIMER)
		return cmdq_refuse(-EINVAL, "register 56, the timer, is read only");
	return check_reg(reg);
}

static int check_operand(struct cmdq_operand operand)
{
	return operand.reg ? check_reg(operand.value) : 0;
}

static int check_high_low(uint16_t high_reg, uint16_t addr_low)
{
	if (high_reg >= CMDQ_SPRS)
		return cmdq_refuse(-EINVAL,
				   "register %u cannot have the high half of an address: 0 to 3 "
				   "(SPR) can",
				   high_reg);
	if (addr_low & 1)
		return cmdq_refuse(-EINVAL, "address 0x%x is not a multiple of 4", addr_low);
	return 0;
}

static uint64_t read_s_word(uint16_t high_reg, uint16_t addr_low, uint16_t reg)
{
	return op_word(CMDQ_OP_READ_S) | A_TYPE | FIELD(high_reg, 48) | FIELD(reg, 32) |
	       FIELD(addr_low | 2, 16);
}

static uint64_t write_s_word(uint16_t high_reg, uint16_t addr_low)
{
	return op_word(CMDQ_OP_WRITE_S) | FIELD(high_reg, 48) | FIELD(addr_low | 2, 32);
}

static uint64_t assign_word(uint16_t reg, uint32_t value)
{
	return op_word(CMDQ_OP_LOGIC) | A_TYPE | FIELD(reg, 32) | value;
}

int cmdq_pkt_read_s(struct cmdq_pkt *pkt, uint16_t high_reg, uint16_t addr_low, uint16_t reg)
{
	const uint64_t word = read_s_word(high_reg, addr_low, reg);
	int err = check_high_low(high_reg, addr_low);

	if (!err)
		err = check_target(reg);
	return err ? err : pkt_append(pkt, &word, 1);
}

/* 90 becomes 91 where the mask is used. */
#define WRITE_S_USE_MASK (FIELD(CMDQ_OP_WRITE_S, 56) ^ FIELD(CMDQ_OP_WRITE_S_MASK, 56))

int cmdq_pkt_write_s_mask(struct cmdq_pkt *pkt, uint16_t high_reg, uint16_t addr_low,
			  uint16_t src_reg, uint32_t mask)
{
	int err = check_high_low(high_reg, addr_low);

	if (!err)
		err = check_reg(src_reg);
	if (err)
		return err;
	return append_masked(pkt, write_s_word(high_reg, addr_low) | B_TYPE | FIELD(src_reg, 16),
			     mask, WRITE_S_USE_MASK);
}

int cmdq_pkt_write_s(struct cmdq_pkt *pkt, uint16_t high_reg, uint16_t addr_low, uint16_t src_reg)
{
	return cmdq_pkt_write_s_mask(pkt, high_reg, addr_low, src_reg, UINT32_MAX);
}

int cmdq_pkt_write_s_mask_value(struct cmdq_pkt *pkt, uint16_t high_reg, uint16_t addr_low,
				uint32_t value, uint32_t mask)
{
	int err = check_high_low(high_reg, addr_low);

	if (err)
		return err;
	return append_masked(pkt, write_s_word(high_reg, addr_low) | value, mask, WRITE_S_USE_MASK);
}

int cmdq_pkt_write_s_value(struct cmdq_pkt *pkt, uint16_t high_reg, uint16_t addr_low,
			   uint32_t value)
{
	return cmdq_pkt_write_s_mask_value(pkt, high_reg, addr_low, value, UINT32_MAX);
}

int cmdq_pkt_mem_move(struct cmdq_pkt *pkt, uint64_t src_addr, uint64_t dst_addr)
{
	const uint64_t words[] = {
		assign_word(CMDQ_REG_SPR(0), CMDQ_ADDR_HIGH(src_addr)),
		read_s_word(CMDQ_REG_SPR(0), CMDQ_ADDR_LOW(src_addr), CMDQ_REG_SPR(1)),
		assign_word(CMDQ_REG_SPR(0), CMDQ_ADDR_HIGH(dst_addr)),
		write_s_word(CMDQ_REG_SPR(0), CMDQ_ADDR_LOW(dst_addr)) | B_TYPE |
			FIELD(CMDQ_REG_SPR(1), 16),
	};

	if ((src_addr | dst_addr) >> 48 || (src_addr | dst_addr) & 3)
		return cmdq_refuse(-EINVAL,
				   "addresses 0x%llx and 0x%llx: multiples of 4 below 1 << 48",
				   (unsigned long long)src_addr, (unsigned long long)dst_addr);
	return pkt_append(pkt, words, ARRAY_SIZE(words));
}

int cmdq_pkt_assign(struct cmdq_pkt *pkt, uint16_t reg, uint32_t value)
{
	const uint64_t word = assign_word(reg, value);
	int err = check_target(reg);

	return err ? err : pkt_append(pkt, &word, 1);
}

static uint64_t operand_words(struct cmdq_operand left, struct cmdq_operand right)
{
	return (left.reg ? B_TYPE : 0) | FIELD(left.value, 16) | (right.reg ? C_TYPE : 0) |
	       right.value;
}

static bool logic_exists(enum cmdq_logic op)
{
	return (op >= CMDQ_LOGIC_ADD && op <= CMDQ_LOGIC_MULTIPLY) ||
	       (op >= CMDQ_LOGIC_XOR && op <= CMDQ_LOGIC_RIGHT_SHIFT);
}

int cmdq_pkt_logic(struct cmdq_pkt *pkt, enum cmdq_logic op, uint16_t reg, struct cmdq_operand left,
		   struct cmdq_operand right)
{
	uint64_t word;
	int err;

	if (!logic_exists(op))
		return cmdq_refuse(
			-EINVAL, "no logic operation %d: 1 to 3 or 8 to 13 (0 is cmdq_pkt_assign)",
			(int)op);
	if (op == CMDQ_LOGIC_NOT)
		right = (struct cmdq_operand){0};
	err = check_target(reg);
	if (!err)
		err = check_operand(left);
	if (!err)
		err = check_operand(right);
	if (err)
		return err;
	word = op_word(CMDQ_OP_LOGIC) | A_TYPE | FIELD((uint64_t)op, 48) | FIELD(reg, 32) |
	       operand_words(left, right);
	return pkt_append(pkt, &word, 1);
}

/* --- jumps --- */

int jump_abs_field(const struct cmdq_profile *profile, uint64_t addr, uint32_t *field)
{
	const uint64_t limit = (uint64_t)UINT32_MAX << profile->shift;

	if (addr % CMDQ_INST_SIZE || addr + profile->offset < addr ||
	    addr + profile->offset > limit)
		return cmdq_refuse(-EINVAL,
				   "address 0x%llx: a multiple of 8, 0 to 0x%llx on %s (shift %u)",
				   (unsigned long long)addr,
				   (unsigned long long)((limit - profile->offset) & ~7ull),
				   profile->name, profile->shift);
	*field = (uint32_t)((addr + profile->offset) >> profile->shift);
	return 0;
}

int jump_rel_field(const struct cmdq_profile *profile, int64_t offset, unsigned bits,
		   unsigned align, uint32_t *field)
{
	const int64_t most = ((int64_t)1 << (bits - 1)) - 1;
	/* Arithmetic: a negative offset stays one. */
	const int64_t shifted = offset >> profile->shift;

	if (offset % (int64_t)align || shifted > most || shifted < -most - 1)
		return cmdq_refuse(-EINVAL,
				   "offset %lld: a multiple of %u, %lld to %lld on %s (shift %u)",
				   (long long)offset, align,
				   (long long)-(int64_t)((uint64_t)(most + 1) << profile->shift),
				   (long long)((uint64_t)most << profile->shift) / align * align,
				   profile->name, profile->shift);
	*field = (uint32_t)shifted;
	return 0;
}

int cmdq_pkt_jump_abs(struct cmdq_pkt *pkt, uint64_t addr)
{
	uint32_t field = 0;
	int err = jump_abs_field(pkt->profile, addr, &field);
	const uint64_t word = op_word(CMDQ_OP_JUMP) | FIELD(1, 32) | field;

	return err ? err : pkt_append(pkt, &word, 1);
}

int cmdq_pkt_jump_rel(struct cmdq_pkt *pkt, int64_t offset)
{
	uint32_t field = 0;
	int err = jump_rel_field(pkt->profile, offset, 32, CMDQ_INST_SIZE, &field);
	const uint64_t word = op_word(CMDQ_OP_JUMP) | field;

	return err ? err : pkt_append(pkt, &word, 1);
}

static int jump_c(struct cmdq_pkt *pkt, enum cmdq_op op, enum cmdq_condition condition,
		  struct cmdq_operand target, struct cmdq_operand left, struct cmdq_operand right)
{
	const uint64_t word = op_word(op) | (target.reg ? A_TYPE : 0) |
			      FIELD((uint64_t)condition, 48) | FIELD(target.value, 32) |
			      operand_words(left, right);
	int err;

	if ((unsigned)condition > CMDQ_LESS_THAN)
		return cmdq_refuse(-EINVAL, "no condition %d: 0 to 5", (int)condition);
	err = check_operand(target);
	if (!err)
		err = check_operand(left);
	if (!err)
		err = check_operand(right);
	return err ? err : pkt_append(pkt, &word, 1);
}

int cmdq_pkt_jump_c_abs(struct cmdq_pkt *pkt, enum cmdq_condition condition,
			struct cmdq_operand target, struct cmdq_operand left,
			struct cmdq_operand right)
{
	return jump_c(pkt, CMDQ_OP_JUMP_C_ABS, condition, target, left, right);
}

int cmdq_pkt_jump_c_rel(struct cmdq_pkt *pkt, enum cmdq_condition condition,
			struct cmdq_operand target, struct cmdq_operand left,
			struct cmdq_operand right)
{
	return jump_c(pkt, CMDQ_OP_JUMP_C_REL, condition, target, left, right);
}

/* --- the rest --- */

int cmdq_pkt_raw(struct cmdq_pkt *pkt, uint64_t word)
{
	return pkt_append(pkt, &word, 1);
}

int cmdq_pkt_eoc(struct cmdq_pkt *pkt)
{
	const uint64_t word = op_word(CMDQ_OP_EOC) | 1;

	return pkt_append(pkt, &word, 1);
}
