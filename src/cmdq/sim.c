/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interpreter. What a command means goes by its form in ops.def, that is by its op and its type bits; a word that is of no
 * form fails. The switch is by op, and each op looks which of its forms the word has: form_of would ask them all.
 */
#include "cmdq/gce.h"

/* One thread while it runs; what is in here is not in the thread. */
struct run {
	struct gce *gce;
	struct gce_thread *thread;
	const uint64_t *at;    /* the command at pc */
	const uint64_t *stop;  /* where the code ends, or END is */
	const uint64_t *words; /* of thread->code */
	uint64_t left, began;  /* commands */
};

#define FITS(form) ((word & cmdq_forms[FORM_##form].fixed) == cmdq_forms[FORM_##form].value)

static uint64_t pc_of(const struct run *run)
{
	return run->thread->code->address + (uint64_t)(run->at - run->words) * CMDQ_INST_SIZE;
}

/* --- where the next command is --- */

/* Goes to an address in the code that pc is in already. */
static void enter(struct run *run, uint64_t pc)
{
	const struct gce_code *code = run->thread->code;
	const uint64_t end = run->thread->end;

	run->words = code->words;
	run->at = code->words + (pc - code->address) / CMDQ_INST_SIZE;
	run->stop =
		code->words + (end >= pc && end - code->address < code->bytes ? end - code->address
									      : code->bytes) /
				      CMDQ_INST_SIZE;
}

/* pc may be anywhere. False: there is no command; stop says why. */
static bool arrive(struct run *run, uint64_t pc, enum gce_stop *stop)
{
	struct gce_thread *t = run->thread;

	if (pc == t->end) {
		t->pc = pc;
		*stop = GCE_STOP_END;
		return false;
	}
	if (!t->code || pc - t->code->address >= t->code->bytes)
		t->code = gce_code_at(run->gce, pc);
	if (!t->code || pc % CMDQ_INST_SIZE) {
		t->pc = pc;
		t->fault = CMDQ_FAULT_PC;
		*stop = GCE_STOP_FAILED;
		return false;
	}
	enter(run, pc);
	return true;
}

/* Where a jump goes: a target that the engine cannot express any more is as wrong as one without code. */
static bool jump(struct run *run, uint64_t target, enum gce_stop *stop)
{
	const struct gce_code *code = run->thread->code;

	if (likely(target - code->address < code->bytes && !(target % CMDQ_INST_SIZE) &&
		   target != run->thread->end)) {
		enter(run, target);
		return true;
	}
	return arrive(run, target, stop);
}

/* --- registers --- */

static uint32_t *spr_or_gpr(struct run *run, unsigned reg)
{
	if (reg < CMDQ_SPRS)
		return &run->thread->spr[reg];
	if (reg - CMDQ_REG_GPR(0) < CMDQ_GPRS)
		return &run->gce->gpr[reg - CMDQ_REG_GPR(0)];
	if (reg - CMDQ_REG_CPR(0) < CMDQ_CPRS)
		return &run->gce->cpr[reg - CMDQ_REG_CPR(0)];
	return NULL;
}

static enum cmdq_fault reg_read(struct run *run, unsigned reg, uint32_t *value)
{
	const uint32_t *r = spr_or_gpr(run, reg);

	if (likely(r))
		*value = *r;
	else if (reg == CMDQ_REG_TIMER)
		*value = (uint32_t)(run->gce->ticks + run->began - run->left);
	else
		return CMDQ_FAULT_REGISTER;
	return CMDQ_FAULT_NONE;
}

static enum cmdq_fault reg_write(struct run *run, unsigned reg, uint32_t value)
{
	uint32_t *r = spr_or_gpr(run, reg);

	if (unlikely(!r))
		return CMDQ_FAULT_REGISTER;
	*r = value;
	return CMDQ_FAULT_NONE;
}

/* A register, or a value of 16 bits. */
static enum cmdq_fault operand(struct run *run, bool is_reg, uint16_t arg, uint32_t *value)
{
	*value = arg;
	return is_reg ? reg_read(run, arg, value) : CMDQ_FAULT_NONE;
}

/* --- the bus --- */

static enum cmdq_fault bus_read(struct run *run, uint64_t address, uint32_t *value)
{
	const struct cmdq_bus *bus = &run->gce->bus;

	return bus->read(bus->data, address, value) ? CMDQ_FAULT_BUS : CMDQ_FAULT_NONE;
}

static enum cmdq_fault bus_write(struct run *run, uint64_t address, uint32_t value, bool masked)
{
	const struct cmdq_bus *bus = &run->gce->bus;
	const uint32_t keep = run->thread->mask;

	if (masked) {
		uint32_t old;

		if (bus_read(run, address, &old))
			return CMDQ_FAULT_BUS;
		value = (old & keep) | (value & ~keep);
	}
	return bus->write(bus->data, address, value) ? CMDQ_FAULT_BUS : CMDQ_FAULT_NONE;
}

static enum cmdq_fault subsys_address(struct run *run, unsigned id, uint32_t offset,
				      uint64_t *address)
{
	const struct subsys *subsys = &run->gce->profile->subsys[id];

	*address = (uint64_t)subsys->high << 16 | offset;
	return subsys->known ? CMDQ_FAULT_NONE : CMDQ_FAULT_SUBSYS;
}

/* In the older commands: a subsys and an offset, or an address in a general register. */
static enum cmdq_fault old_address(struct run *run, uint64_t word, uint64_t *address)
{
	if (!word_a_is_reg(word))
		return subsys_address(run, word_sop(word), word_a(word) & 0xfffe, address);
	*address = run->gce->gpr[word_sop(word) % CMDQ_GPRS];
	return CMDQ_FAULT_NONE;
}

/* In the newer ones: the same without a register, by bit 1 of low an address of 48 bits. */
static enum cmdq_fault new_address(struct run *run, uint64_t word, uint16_t low, uint64_t *address)
{
	uint32_t high;

	if (!(low & 2))
		return subsys_address(run, word_sop(word), low & 0xfffc, address);
	if (reg_read(run, word_sop(word), &high))
		return CMDQ_FAULT_REGISTER;
	*address = (uint64_t)high << 16 | (low & 0xfffc);
	return CMDQ_FAULT_NONE;
}

/* --- commands; each returns what is wrong --- */

static enum cmdq_fault do_read(struct run *run, uint64_t word)
{
	uint64_t address;
	uint32_t value;
	enum cmdq_fault fault;

	if (!FITS(READ) && !FITS(READ_REG))
		return CMDQ_FAULT_COMMAND;
	fault = old_address(run, word, &address);
	if (!fault)
		fault = bus_read(run, address, &value);
	if (!fault)
		run->gce->gpr[word % CMDQ_GPRS] = value;
	return fault;
}

static enum cmdq_fault do_mask(struct run *run, uint64_t word)
{
	if (FITS(MASK))
		run->thread->mask = (uint32_t)word;
	else if (FITS(MOVE))
		run->gce->gpr[word_sop(word)] = (uint32_t)word;
	else
		return CMDQ_FAULT_COMMAND;
	return CMDQ_FAULT_NONE;
}

static enum cmdq_fault do_write(struct run *run, uint64_t word)
{
	uint64_t address;
	uint32_t value = (uint32_t)word;
	enum cmdq_fault fault;

	/* First, what nearly all are. */
	if (likely(FITS(WRITE) && !word_b_is_reg(word))) {
		fault = subsys_address(run, word_sop(word), word_a(word), &address);
		return fault ? fault : bus_write(run, address, value, false);
	}
	if (!FITS(WRITE) && !FITS(WRITE_MASK) && !FITS(WRITE_REG) && !FITS(WRITE_REG_MASK))
		return CMDQ_FAULT_COMMAND;
	if (word_b_is_reg(word)) {
		if (value >= CMDQ_GPRS)
			return CMDQ_FAULT_COMMAND;
		value = run->gce->gpr[value];
	}
	fault = old_address(run, word, &address);
	return fault ? fault : bus_write(run, address, value, word_a(word) & 1);
}

/* *met: the register has the value. */
static enum cmdq_fault do_poll(struct run *run, uint64_t word, bool *met)
{
	uint64_t address;
	uint32_t value;
	enum cmdq_fault fault;

	if (!FITS(POLL) && !FITS(POLL_MASK) && !FITS(POLL_REG) && !FITS(POLL_REG_MASK))
		return CMDQ_FAULT_COMMAND;
	fault = old_address(run, word, &address);
	if (!fault)
		fault = bus_read(run, address, &value);
	if (!fault)
		*met = !((value ^ (uint32_t)word) & (word_a(word) & 1 ? ~run->thread->mask : ~0u));
	return fault;
}

/* An event is one bit: of the values to wait for and to set, only the lowest counts. */
static enum cmdq_fault do_wfe(struct run *run, uint64_t word, bool *met)
{
	const unsigned event = word_a(word);

	if (!FITS(SYNC))
		return CMDQ_FAULT_COMMAND;
	*met = !(word >> 15 & 1) || gce_event(run->gce, event) == (word & 1);
	if (*met && (word >> 31 & 1))
		gce_event_set(run->gce, event, word >> 16 & 1);
	return CMDQ_FAULT_NONE;
}

static enum cmdq_fault do_read_s(struct run *run, uint64_t word)
{
	uint64_t address;
	uint32_t value = 0;
	enum cmdq_fault fault;

	if (FITS(READ_S) || FITS(READ_S_SUBSYS)) {
		fault = new_address(run, word, word_b(word), &address);
	} else if (FITS(READ_S_REG)) {
		fault = reg_read(run, word_b(word), &value);
		address = value;
	} else {
		return CMDQ_FAULT_COMMAND;
	}
	if (!fault)
		fault = bus_read(run, address, &value);
	return fault ? fault : reg_write(run, word_a(word), value);
}

static enum cmdq_fault do_write_s(struct run *run, uint64_t word)
{
	const bool masked = word_op(word) & 1;
	uint32_t value = (uint32_t)word;
	uint64_t address;
	enum cmdq_fault fault = CMDQ_FAULT_NONE;

	if (masked ? !FITS(WRITE_S_MASK) && !FITS(WRITE_S_SUBSYS_MASK) && !FITS(WRITE_S_REG_MASK)
		   : !FITS(WRITE_S) && !FITS(WRITE_S_SUBSYS) && !FITS(WRITE_S_REG))
		return CMDQ_FAULT_COMMAND;
	if (word_b_is_reg(word)) {
		if (word_c(word))
			return CMDQ_FAULT_COMMAND;
		fault = reg_read(run, word_b(word), &value);
	}
	if (fault)
		return fault;
	if (word_a_is_reg(word)) {
		uint32_t low = 0;

		fault = reg_read(run, word_a(word), &low);
		address = low;
	} else {
		fault = new_address(run, word, word_a(word), &address);
	}
	return fault ? fault : bus_write(run, address, value, masked);
}

/* One bit for each s_op that has two operands. */
#define LOGIC_TWO                                                                                  \
	(1u << CMDQ_LOGIC_ADD | 1u << CMDQ_LOGIC_SUBTRACT | 1u << CMDQ_LOGIC_MULTIPLY |            \
	 1u << CMDQ_LOGIC_XOR | 1u << CMDQ_LOGIC_OR | 1u << CMDQ_LOGIC_AND |                       \
	 1u << CMDQ_LOGIC_LEFT_SHIFT | 1u << CMDQ_LOGIC_RIGHT_SHIFT)

static uint32_t logic_result(unsigned op, uint32_t left, uint32_t right)
{
	switch (op) {
	case CMDQ_LOGIC_ADD:
		return left + right;
	case CMDQ_LOGIC_SUBTRACT:
		return left - right;
	case CMDQ_LOGIC_MULTIPLY:
		return left * right;
	case CMDQ_LOGIC_XOR:
		return left ^ right;
	case CMDQ_LOGIC_NOT:
		return ~left;
	case CMDQ_LOGIC_OR:
		return left | right;
	case CMDQ_LOGIC_AND:
		return left & right;
	/* All bits may be shifted out. */
	case CMDQ_LOGIC_LEFT_SHIFT:
		return right < 32 ? left << right : 0;
	default:
		return right < 32 ? left >> right : 0;
	}
}

static enum cmdq_fault do_logic(struct run *run, uint64_t word)
{
	const unsigned op = word_sop(word);
	uint32_t left, right;
	enum cmdq_fault fault;

	if (FITS(ASSIGN))
		return reg_write(run, word_a(word), (uint32_t)word);
	if (!word_a_is_reg(word) || !(LOGIC_TWO >> op & 1 || FITS(NOT)))
		return CMDQ_FAULT_COMMAND;
	fault = operand(run, word_b_is_reg(word), word_b(word), &left);
	if (!fault)
		fault = operand(run, word_c_is_reg(word), word_c(word), &right);
	return fault ? fault : reg_write(run, word_a(word), logic_result(op, left, right));
}

static bool condition_holds(unsigned condition, uint32_t left, uint32_t right)
{
	switch (condition) {
	case CMDQ_EQUAL:
		return left == right;
	case CMDQ_NOT_EQUAL:
		return left != right;
	case CMDQ_GREATER_THAN_AND_EQUAL:
		return left >= right;
	case CMDQ_LESS_THAN_AND_EQUAL:
		return left <= right;
	case CMDQ_GREATER_THAN:
		return left > right;
	default:
		return left < right;
	}
}

/* *taken: and then *target is where it goes. */
static enum cmdq_fault do_jump_c(struct run *run, uint64_t word, bool *taken, uint64_t *target)
{
	const bool relative = word_op(word) == CMDQ_OP_JUMP_C_REL;
	const unsigned shift = run->gce->shift;
	uint32_t left, right, to = word_a(word);
	enum cmdq_fault fault;

	if (word_sop(word) > CMDQ_LESS_THAN)
		return CMDQ_FAULT_COMMAND;
	fault = operand(run, word_b_is_reg(word), word_b(word), &left);
	if (!fault)
		fault = operand(run, word_c_is_reg(word), word_c(word), &right);
	if (fault)
		return fault;
	*taken = condition_holds(word_sop(word), left, right);
	if (!*taken)
		return CMDQ_FAULT_NONE;
	if (word_a_is_reg(word))
		fault = reg_read(run, word_a(word), &to);
	else if (relative)
		to = (uint32_t)(int16_t)word_a(word);
	*target = relative ? pc_of(run) + (uint64_t)jump_rel_bytes((int32_t)to, shift)
			   : (uint64_t)to << shift;
	return fault;
}

static enum cmdq_fault do_jump(struct run *run, uint64_t word, uint64_t *target)
{
	const unsigned shift = run->gce->shift;

	if (FITS(JUMP_REL))
		*target = pc_of(run) + (uint64_t)jump_rel_bytes((int32_t)word, shift);
	else if (FITS(JUMP_ABS))
		*target = (uint64_t)(uint32_t)word << shift;
	else
		return CMDQ_FAULT_COMMAND;
	return CMDQ_FAULT_NONE;
}

/* Those that go on with the next command. */
static enum cmdq_fault plain(struct run *run, uint64_t word)
{
	switch (word_op(word)) {
	case CMDQ_OP_READ:
		return do_read(run, word);
	case CMDQ_OP_MASK:
		return do_mask(run, word);
	case CMDQ_OP_WRITE:
		return do_write(run, word);
	case CMDQ_OP_READ_S:
		return do_read_s(run, word);
	case CMDQ_OP_WRITE_S:
	case CMDQ_OP_WRITE_S_MASK:
		return do_write_s(run, word);
	case CMDQ_OP_LOGIC:
		return do_logic(run, word);
	default:
		return CMDQ_FAULT_COMMAND;
	}
}

static enum gce_stop waits(struct run *run, unsigned event)
{
	run->thread->wait_token = 1u << 31 | event;
	return GCE_STOP_WAIT;
}

static enum gce_stop finish(struct run *run, enum cmdq_fault fault, enum gce_stop stop)
{
	run->thread->pc = pc_of(run);
	run->thread->fault = fault;
	return fault ? GCE_STOP_FAILED : stop;
}

/* Until something stops it; pc is right in the thread then. */
static enum gce_stop loop(struct run *run)
{
	enum gce_stop stop = GCE_STOP_BUDGET;
	enum cmdq_fault fault;
	uint64_t target;
	bool met = false;

	while (run->left) {
		uint64_t word;

		if (unlikely(run->at == run->stop) && !arrive(run, pc_of(run), &stop))
			return stop;
		word = *run->at;
		switch (word_op(word)) {
		case CMDQ_OP_WFE:
			fault = do_wfe(run, word, &met);
			if (unlikely(fault || !met))
				return finish(run, fault,
					      fault ? GCE_STOP_FAILED : waits(run, word_a(word)));
			break;
		case CMDQ_OP_POLL:
			met = false;
			fault = do_poll(run, word, &met);
			run->left -= !fault && !met;
			if (unlikely(fault || !met))
				return finish(run, fault, GCE_STOP_POLL);
			break;
		case CMDQ_OP_EOC:
			if (!FITS(EOC_VALUE))
				return finish(run, CMDQ_FAULT_COMMAND, GCE_STOP_FAILED);
			if (!(word & 1))
				break;
			run->thread->irq_status |= GCE_IRQ_DONE;
			run->left--;
			run->at++;
			return finish(run, CMDQ_FAULT_NONE, GCE_STOP_IRQ);
		case CMDQ_OP_JUMP:
		case CMDQ_OP_JUMP_C_ABS:
		case CMDQ_OP_JUMP_C_REL:
			met = true;
			fault = word_op(word) == CMDQ_OP_JUMP ? do_jump(run, word, &target)
							      : do_jump_c(run, word, &met, &target);
			if (unlikely(fault))
				return finish(run, fault, GCE_STOP_FAILED);
			if (!met)
				break;
			run->left--;
			if (!jump(run, target, &stop))
				return stop;
			continue;
		default:
			fault = plain(run, word);
			if (unlikely(fault))
				return finish(run, fault, GCE_STOP_FAILED);
		}
		run->left--;
		run->at++;
	}
	return finish(run, CMDQ_FAULT_NONE, GCE_STOP_BUDGET);
}

enum gce_stop gce_execute(struct gce *gce, struct gce_thread *thread, uint64_t *commands)
{
	struct run run = {.gce = gce, .thread = thread, .left = *commands, .began = *commands};
	enum gce_stop stop;

	thread->wait_token = 0;
	if (!arrive(&run, thread->pc, &stop))
		return stop;
	stop = loop(&run);
	*commands = run.left;
	gce->ticks += run.began - run.left;
	return stop;
}
