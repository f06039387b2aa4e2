/* SPDX-License-Identifier: BSD-2-Clause */
/* The register file of an engine, and which of its threads is next. */
#include "cmdq/gce.h"

#include <string.h>

void gce_init(struct gce *gce, const struct cmdq_profile *profile, const struct cmdq_bus *bus)
{
	memset(gce, 0, sizeof(*gce));
	gce->profile = profile;
	gce->bus = *bus;
	gce->threads = MIN(profile->threads, (unsigned)GCE_THREADS);
	gce->shift = profile->shift;
	gce->stalling = -1;
}

/* --- events --- */

void gce_event_set(struct gce *gce, unsigned event, bool value)
{
	const uint64_t bit = 1ull << (event % 64);
	uint64_t *word = &gce->event[event / 64];

	if (!(*word & bit) != value)
		return;
	*word ^= bit;
	gce->blocked = 0;
}

/* --- code --- */

void gce_map(struct gce *gce, struct gce_code *code)
{
	code->next = gce->code;
	gce->code = code;
}

void gce_unmap(struct gce *gce, struct gce_code *code)
{
	struct gce_code **at = &gce->code;

	while (*at && *at != code)
		at = &(*at)->next;
	if (*at)
		*at = code->next;
	for (unsigned i = 0; i < gce->threads; i++) {
		if (gce->thread[i].code == code)
			gce->thread[i].code = NULL;
	}
}

const struct gce_code *gce_code_at(const struct gce *gce, uint64_t address)
{
	for (const struct gce_code *code = gce->code; code; code = code->next) {
		if (address - code->address < code->bytes)
			return code;
	}
	return NULL;
}

/* --- registers --- */

/* What a thread waits for, or failed at, is told anew when it runs again. */
static void thread_changed(struct gce *gce, unsigned n)
{
	const struct gce_thread *t = &gce->thread[n];

	gce->live &= ~(1u << n);
	if (t->enabled && !t->suspended && !t->fault)
		gce->live |= 1u << n;
	gce->blocked &= ~(1u << n);
	if (gce->stalling == (int)n)
		gce->stalling = -1;
}

static void thread_reset(struct gce *gce, unsigned n)
{
	memset(&gce->thread[n], 0, sizeof(gce->thread[n]));
	thread_changed(gce, n);
}

static uint32_t thread_read(const struct gce *gce, unsigned n, unsigned offset)
{
	const struct gce_thread *t = &gce->thread[n];

	switch (offset) {
	case GCE_ENABLE:
		return t->enabled;
	case GCE_SUSPEND:
		return t->suspended;
	case GCE_STATUS:
		return t->suspended ? GCE_SUSPENDED : 0;
	case GCE_IRQ_STATUS:
		return t->irq_status;
	case GCE_IRQ_ENABLE:
		return t->irq_enable;
	case GCE_PC:
		return (uint32_t)(t->pc >> gce->shift);
	case GCE_END:
		return (uint32_t)(t->end >> gce->shift);
	case GCE_WAIT_TOKEN:
		return t->wait_token;
	case GCE_PRIORITY:
		return t->priority;
	default:
		if (offset - GCE_SPR < sizeof(t->spr) && !(offset % 4))
			return t->spr[(offset - GCE_SPR) / 4];
		return 0;
	}
}

static void thread_write(struct gce *gce, unsigned n, unsigned offset, uint32_t value)
{
	struct gce_thread *t = &gce->thread[n];

	switch (offset) {
	case GCE_WARM_RESET:
		if (value & 1)
			thread_reset(gce, n);
		return;
	case GCE_ENABLE:
		t->enabled = value & 1;
		break;
	case GCE_SUSPEND:
		t->suspended = value & 1;
		break;
	case GCE_IRQ_STATUS:
		t->irq_status &= value;
		return;
	case GCE_IRQ_ENABLE:
		t->irq_enable = value;
		return;
	case GCE_PC:
		t->pc = (uint64_t)value << gce->shift;
		t->fault = CMDQ_FAULT_NONE;
		t->wait_token = 0;
		break;
	case GCE_END:
		t->end = (uint64_t)value << gce->shift;
		break;
	case GCE_PRIORITY:
		t->priority = value & 7;
		return;
	default:
		if (offset - GCE_SPR < sizeof(t->spr) && !(offset % 4))
			t->spr[(offset - GCE_SPR) / 4] = value;
		return;
	}
	thread_changed(gce, n);
}

static bool thread_interrupts(const struct gce_thread *t)
{
	return t->irq_status & t->irq_enable;
}

uint32_t gce_read(const struct gce *gce, unsigned offset)
{
	uint32_t irqs = UINT32_MAX;

	if (offset >= GCE_THREAD) {
		const unsigned n = (offset - GCE_THREAD) / GCE_THREAD_BYTES;

		return n < gce->threads ? thread_read(gce, n, offset % GCE_THREAD_BYTES) : 0;
	}
	if (offset - GCE_GENERAL < sizeof(gce->gpr) && !(offset % 4))
		return gce->gpr[(offset - GCE_GENERAL) / 4];
	switch (offset) {
	case GCE_IRQS:
		for (unsigned i = 0; i < gce->threads; i++) {
			if (thread_interrupts(&gce->thread[i]))
				irqs &= ~(1u << i);
		}
		return irqs;
	case GCE_LOADED:
		return gce->current;
	case GCE_TOKEN_ID:
		return gce->token;
	case GCE_TOKEN_VALUE:
		return gce_event(gce, gce->token);
	default:
		return 0;
	}
}

void gce_write(struct gce *gce, unsigned offset, uint32_t value)
{
	if (offset >= GCE_THREAD) {
		const unsigned n = (offset - GCE_THREAD) / GCE_THREAD_BYTES;

		if (n < gce->threads)
			thread_write(gce, n, offset % GCE_THREAD_BYTES, value);
	} else if (offset - GCE_GENERAL < sizeof(gce->gpr) && !(offset % 4)) {
		gce->gpr[(offset - GCE_GENERAL) / 4] = value;
	} else if (offset == GCE_TOKEN_ID) {
		gce->token = value % CMDQ_EVENTS;
	} else if (offset == GCE_TOKEN_UPDATE) {
		gce_event_set(gce, value % CMDQ_EVENTS, value >> 16 & 1);
	}
}

/* --- running --- */

/* Of those with the highest priority that can run, the next behind the last; with its slice, that one. *alone: there
 * is no other one. -1: none. */
static int pick(struct gce *gce, bool *alone)
{
	const unsigned first = (gce->current + !gce->slice) % GCE_THREADS;
	const uint32_t can = gce->live & ~gce->blocked;
	unsigned found = 0;
	int best = -1;

	/* From first on, and then from 0. */
	for (uint64_t set = ((uint64_t)can << 32 | can) >> first; set; set &= set - 1) {
		const unsigned bit = (unsigned)__builtin_ctzll(set);
		const unsigned n = (first + bit) % GCE_THREADS;

		if (bit >= GCE_THREADS)
			break;
		if (gce->thread[n].pc == gce->thread[n].end)
			continue;
		found++;
		if (best < 0 || gce->thread[n].priority > gce->thread[best].priority)
			best = (int)n;
	}
	*alone = found == 1 && !gce->blocked;
	return best;
}

static void stopped(struct gce *gce, unsigned n, enum gce_stop stop)
{
	struct gce_thread *t = &gce->thread[n];

	if (stop == GCE_STOP_WAIT)
		gce->blocked |= 1u << n;
	else if (stop == GCE_STOP_POLL)
		gce->stalling = (int)n;
	if (stop == GCE_STOP_FAILED) {
		t->irq_status |= t->fault == CMDQ_FAULT_COMMAND ? GCE_IRQ_COMMAND : GCE_IRQ_BUS;
		thread_changed(gce, n);
	}
	if (t->irq_status)
		gce->raised |= 1u << n;
}

/* Commands that the thread may run now, at most. Alone, nobody else becomes ready by what it does. */
static uint64_t allowance(struct gce *gce, unsigned n, bool alone, uint64_t commands)
{
	if (n != gce->current || !gce->slice)
		gce->slice = GCE_SLICE;
	gce->current = n;
	return alone ? commands : MIN(commands, (uint64_t)gce->slice);
}

/* What is left of a slice does not depend on how many commands gce_run was asked for at a time. */
static void slice_take(struct gce *gce, uint64_t ran)
{
	if (ran <= gce->slice)
		gce->slice -= (unsigned)ran;
	else
		gce->slice = (unsigned)((GCE_SLICE - (ran - gce->slice) % GCE_SLICE) % GCE_SLICE);
}

/* True: whoever calls has something to do now. */
static bool interrupt(struct gce *gce)
{
	bool stop = false;

	for (uint32_t set = gce->raised; set; set &= set - 1) {
		const unsigned n = (unsigned)__builtin_ctz(set);

		if (thread_interrupts(&gce->thread[n]) && gce->irq)
			stop |= gce->irq(gce->irq_data, n);
		if (!gce->thread[n].irq_status)
			gce->raised &= ~(1u << n);
	}
	return stop;
}

/* Interrupts are delivered before the next command, not behind the last one that was asked for: so a driver meets every state
 * that it can meet on a chip. */
uint64_t gce_run(struct gce *gce, uint64_t commands)
{
	uint64_t left = commands;

	bool stop = interrupt(gce);

	while (left && !stop) {
		bool alone = true;
		const int n = gce->stalling >= 0 ? gce->stalling : pick(gce, &alone);
		uint64_t asked, rest;

		if (n < 0)
			break;
		asked = rest = allowance(gce, (unsigned)n, alone, left);
		gce->stalling = -1;
		stopped(gce, (unsigned)n, gce_execute(gce, &gce->thread[n], &rest));
		slice_take(gce, asked - rest);
		left -= asked - rest;
		if (left && gce->raised)
			stop = interrupt(gce);
	}
	return commands - left;
}
