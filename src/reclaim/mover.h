/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The mover: how pages leave. A device with registers, on the platform profile `weir`; what it does is done by packets,
 * which the engine of a *channel* runs.
 *
 *      job: pages chosen            packets of up to 16 pages         the last one
 *      by the clock       ─────▶   page, PACK, page, PACK, ...  ─▶   count, DROP          region ─▶ compressed store
 *
 *      writeback: pages             one packet                        one when it is there
 *      longest away       ─────▶   page, GATHER, ..., WRITE   ─▶     batch, TURN         memory ─▶ store
 *
 * Registers of the window at 0x10000000, 32 bits each:
 *
 *      00 PAGE     number of a page (its address / 4096), bits 31:0
 *      04 HIGH     bits 63:32 of it; stays until it is written again
 *      08 COMMAND  written, does it: when the write is done, so is the work
 *      0c STATUS   the errno of a command that failed; the packet ends with an error there
 *      10 COUNT    of pages: written for DROP, read for what was done; which batch: written for TURN
 *
 * A page that a command finds in another state than it should be in is passed over: somebody uses it, it stays. A
 * command fails where nothing behind it makes sense (what is no command), and TURN where a page of its batch could not be written. A packet that
 * does not end leaves its pages where they were.
 *
 * Each channel has an engine of its own, and a packet whose memory is there from the start, charged to the root: a thread that
 * works on a job takes a channel for the time, and runs the engine itself. So nothing is allocated on the way, nothing is
 * waited for, and several threads work on one job at a time.
 *
 * Letters: (C) constant, (H) whoever has taken the channel.
 */
#ifndef WEIR_RECLAIM_MOVER_H
#define WEIR_RECLAIM_MOVER_H

#include "vm/vm.h"
#include "weir/cmdq_engine.h"

enum mover_register {
	MOVER_PAGE = 0x00,
	MOVER_HIGH = 0x04,
	MOVER_COMMAND = 0x08,
	MOVER_STATUS = 0x0c,
	MOVER_COUNT = 0x10,
	MOVER_WINDOW = 0x10000000,
};

enum mover_command {
	MOVER_PACK = 1, /* compresses a page that is being cleaned into the compressed store */
	MOVER_DROP = 2, /* drops the pages of the job that are clean: COUNT of them are looked at */
	MOVER_GATHER = 3, /* copies a page's compressed object into the batch for the store */
	MOVER_WRITE = 4,  /* hands the batch to the store */
	MOVER_TURN = 5, /* a batch that is written: its copies are those in the store from now on */
};

enum { MOVERS_MAX = 16, MOVER_PAGES = 16 /* in a packet that packs */ };

struct reclaim;

struct mover {
	struct reclaim *reclaim;    /* (C) */
	struct cmdq_engine *engine; /* (C) */
	struct cmdq_client *client; /* (C) */
	struct cmdq_pkt *packet;    /* (C) */
	struct cmdq_base base;	    /* (C) */
	struct pager *pager;	    /* (H) of the thread */
	struct region *region;	    /* (H) of the last page */
	uint32_t page, high, count; /* (H) registers */
	int status;		    /* (H) */
};

/* Where a traced packet goes, before it runs; by the thread that runs it. */
typedef void (*mover_trace_fn)(void *data, const uint64_t *words, size_t count);

struct movers {
	struct mover mover[MOVERS_MAX];
	struct cmdq_buffer_ops buffers; /* (C) */
	unsigned count;			/* (C) */
	_Atomic uint32_t taken;		/* (A) a bit each */
	_Atomic uint64_t packets;	/* (A) that ran */
	_Atomic uint64_t failures;	/* (A) that did not end well */
	mover_trace_fn trace;		/* (C) NULL: none */
	void *trace_data;		/* (C) */
};

/* Memory for packets, charged to the client's container, or to the root: for any engine of an instance. */
struct cmdq_buffer_ops mover_buffers(struct weir_container *root);
/* -ENOMEM: also where the limit has no room for the packets. */
int movers_init(struct movers *movers, struct reclaim *reclaim, struct weir_container *root);
void movers_destroy(struct movers *movers);
/* A channel for the calling thread, NULL: all are taken. */
struct mover *mover_take(struct movers *movers, struct pager *self);
void mover_give(struct movers *movers, struct mover *mover);

/* A packet of its own each. 0; else what did not happen has left pages where they were. */
struct victim;
int mover_pack(struct mover *mover, const struct victim *victims, unsigned count);
/* Looks at so many victims of the job. Returns how many it dropped. */
unsigned mover_drop(struct mover *mover, unsigned count);
int mover_writeback(struct mover *mover, const struct victim *pages, unsigned count);
/* -errno of the write where that failed. */
int mover_turn(struct mover *mover, unsigned write);

#endif
