/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A Global Command Engine in software: threads with a register file, events, and an interpreter of commands. It has no
 * thread of the machine's: whoever calls gce_run runs it, so many commands at a time, and nothing in it waits. Time is a count of
 * ticks of 26 MHz: one for each command, and what gce_pass adds.
 *
 *   sim.c      runs the commands of one thread           engine.c   the register file, and which thread is next
 *   mbox.c     clients, and packets that wait for their turn; knows the engine by its registers only
 *   look.c     what can be seen and done from outside
 *
 * A thread:
 *
 *                      PC, END, enable                    PC == END
 *      (reset) ─────────────────────────▶ running ─────────────────────▶ idle ──┐ END or PC moved
 *         ▲                                │ ▲ │ ▲                               │
 *         │ warm reset,         suspend    │ │ │ └───────────────────────────────┘
 *         │ from everywhere  (at a command │ │ │ WFE of an event that is not there
 *         │                     boundary)  ▼ │ ▼
 *         │                       suspended  │ waiting ── the event comes ──▶ running
 *         │                           resume─┘
 *         └── failed: an error interrupt; goes on when PC is written
 *
 * POLL is no state: while it does not find its value, that thread repeats it, a tick each, and no other thread runs.
 *
 * Addresses are those of the engine's bus, 48 bits. Code is mapped there by gce_map; registers of devices and memory are the
 * back-end's (struct cmdq_bus).
 *
 * Locks: (L) the engine's, which mbox.c holds (an unshared engine: whoever has it); gce_* take none.
 */
#ifndef WEIR_CMDQ_GCE_H
#define WEIR_CMDQ_GCE_H

#include "base/lock.h"
#include "cmdq/cmdq.h"
#include "weir/cmdq_engine.h"

enum { GCE_THREADS = 32, GCE_SLICE = 8 /* commands, then another thread of the same priority */ };

/* The register file: offsets of a thread's registers from its own 0x80, and of those of all. */
enum gce_register {
	GCE_IRQS = 0x10,	 /* one bit a thread; clear: it has an interrupt */
	GCE_LOADED = 0x18,	 /* the thread that ran last */
	GCE_TOKEN_ID = 0x60,	 /* which event GCE_TOKEN_VALUE is */
	GCE_TOKEN_VALUE = 0x64,	 /* read-only */
	GCE_TOKEN_UPDATE = 0x68, /* write: bits 9:0 which event, bit 16 its value */
	GCE_GENERAL = 0x80,	 /* 16 general registers, 4 bytes each */
	GCE_THREAD = 0x100,
	GCE_THREAD_BYTES = 0x80,
	GCE_WARM_RESET = 0x00,
	GCE_ENABLE = 0x04,
	GCE_SUSPEND = 0x08,
	GCE_STATUS = 0x0c,
	GCE_IRQ_STATUS = 0x10, /* written: bits that are 0 are cleared */
	GCE_IRQ_ENABLE = 0x14,
	GCE_PC = 0x20,
	GCE_END = 0x24,
	GCE_WAIT_TOKEN = 0x30, /* bit 31: waits for the event in bits 9:0 */
	GCE_PRIORITY = 0x40,   /* 0 to 7 */
	GCE_SPR = 0x60,	       /* 4 of them */
};

enum {
	GCE_SUSPENDED = 1 << 1,
	GCE_IRQ_DONE = 1 << 0,
	GCE_IRQ_BUS = 1 << 1,	  /* an address or a register that is not there, or that refused */
	GCE_IRQ_COMMAND = 1 << 4, /* not a command */
	GCE_IRQ_ERROR = GCE_IRQ_BUS | GCE_IRQ_COMMAND,
};

/* (L) all of it */
struct gce_thread {
	uint64_t pc, end;
	const struct gce_code *code; /* where pc was last; NULL: not known */
	uint32_t spr[CMDQ_SPRS];
	uint32_t mask; /* of the last MASK: bits that a masked write leaves as they are */
	uint32_t irq_status, irq_enable, wait_token, priority;
	enum cmdq_fault fault;
	bool enabled, suspended;
};

struct gce {
	const struct cmdq_profile *profile; /* (C) */
	struct cmdq_bus bus;		    /* (C) */
	unsigned threads, shift;	    /* (C) */
	uint64_t offset;		    /* (C) */
	/* (L) from here on */
	uint64_t ticks;
	uint64_t event[CMDQ_EVENTS / 64];
	uint32_t token;
	uint32_t gpr[CMDQ_GPRS], cpr[CMDQ_CPRS];
	struct gce_thread thread[GCE_THREADS];
	/* Sets of threads, a bit each. */
	uint32_t live;	  /* enabled, not suspended, not failed */
	uint32_t blocked; /* that wait for an event; none any more when one changes */
	uint32_t raised;  /* that have a bit of irq_status, or had when it was last looked at */
	int stalling;	  /* the thread whose POLL stalls the others, or -1 */
	unsigned current; /* the thread that ran last, */
	unsigned slice;	  /* and what it has left */
	struct gce_code *code;
	/* (C) A thread has an interrupt. True: gce_run returns. */
	bool (*irq)(void *data, unsigned thread);
	void *irq_data; /* (C) */
};

void gce_init(struct gce *gce, const struct cmdq_profile *profile, const struct cmdq_bus *bus);
/* What is no register reads as 0, and ignores what is written. */
uint32_t gce_read(const struct gce *gce, unsigned offset);
void gce_write(struct gce *gce, unsigned offset, uint32_t value);
static inline unsigned gce_thread_register(unsigned thread, enum gce_register r)
{
	return GCE_THREAD + thread * GCE_THREAD_BYTES + r;
}
/* Runs at most so many commands. Returns how many; less: no thread can go on, until an event or a register changes. */
uint64_t gce_run(struct gce *gce, uint64_t commands);
void gce_event_set(struct gce *gce, unsigned event, bool value);
static inline bool gce_event(const struct gce *gce, unsigned event)
{
	return gce->event[event / 64] >> (event % 64) & 1;
}
/* Code that stays where it is until gce_unmap. */
void gce_map(struct gce *gce, struct gce_code *code);
void gce_unmap(struct gce *gce, struct gce_code *code);
const struct gce_code *gce_code_at(const struct gce *gce, uint64_t address);

/* --- sim.c --- */

enum gce_stop {
	GCE_STOP_BUDGET, /* all commands that were asked for have run */
	GCE_STOP_END,	 /* pc is at END */
	GCE_STOP_WAIT,	 /* pc is at a WFE of an event that is not there */
	GCE_STOP_POLL,	 /* at a POLL that did not find its value; it took a tick */
	GCE_STOP_IRQ,	 /* an EOC has raised the interrupt */
	GCE_STOP_FAILED, /* pc is at the command that failed; thread->fault says how */
};
/* Runs one thread, at most *commands (at least one), and takes what it ran off from *commands. */
enum gce_stop gce_execute(struct gce *gce, struct gce_thread *thread, uint64_t *commands);

#endif
