/* SPDX-License-Identifier: BSD-2-Clause */
/* What can be seen of an engine from outside, and done to it: events, registers, faults. */
#include <errno.h>

#include "cmdq/mbox.h"

int cmdq_engine_set_event(struct cmdq_engine *e, uint32_t event, bool value)
{
	const int raw = cmdq_event_raw(e->gce.profile, event);

	if (raw < 0)
		return raw;
	enter(e);
	gce_event_set(&e->gce, (unsigned)raw, value);
	leave(e);
	return 0;
}

uint32_t cmdq_engine_read(struct cmdq_engine *e, unsigned offset)
{
	uint32_t value;

	enter(e);
	value = gce_read(&e->gce, offset);
	leave(e);
	return value;
}

void cmdq_engine_write(struct cmdq_engine *e, unsigned offset, uint32_t value)
{
	enter(e);
	gce_write(&e->gce, offset, value);
	leave(e);
}

int cmdq_engine_register(struct cmdq_engine *e, unsigned channel, unsigned reg, uint32_t *value)
{
	int err = 0;

	if (channel >= e->gce.threads)
		return -EINVAL;
	enter(e);
	if (reg < CMDQ_SPRS)
		*value = e->gce.thread[channel].spr[reg];
	else if (reg - CMDQ_REG_GPR(0) < CMDQ_GPRS)
		*value = e->gce.gpr[reg - CMDQ_REG_GPR(0)];
	else if (reg - CMDQ_REG_CPR(0) < CMDQ_CPRS)
		*value = e->gce.cpr[reg - CMDQ_REG_CPR(0)];
	else if (reg == CMDQ_REG_TIMER)
		*value = (uint32_t)e->gce.ticks;
	else
		err = -EINVAL;
	leave(e);
	return err;
}

enum cmdq_fault cmdq_engine_fault(struct cmdq_engine *e, unsigned channel, uint64_t *offset)
{
	enum cmdq_fault fault = CMDQ_FAULT_NONE;

	if (channel >= e->gce.threads)
		return fault;
	enter(e);
	fault = e->client[channel].fault;
	if (offset)
		*offset = e->client[channel].fault_offset;
	leave(e);
	return fault;
}

const char *cmdq_fault_text(enum cmdq_fault fault)
{
	switch (fault) {
	case CMDQ_FAULT_NONE:
		return "no fault";
	case CMDQ_FAULT_COMMAND:
		return "not a command";
	case CMDQ_FAULT_REGISTER:
		return "no such register";
	case CMDQ_FAULT_SUBSYS:
		return "no such subsys on this chip";
	case CMDQ_FAULT_BUS:
		return "nothing answers at the address";
	case CMDQ_FAULT_PC:
		return "no commands there";
	}
	return "";
}
