/* SPDX-License-Identifier: BSD-2-Clause */
/* An engine and its clients, for mbox.c, and for look.c, which looks at them from outside. */
#ifndef WEIR_CMDQ_MBOX_H
#define WEIR_CMDQ_MBOX_H

#include "cmdq/gce.h"

struct cmdq_client {
	struct cmdq_engine *engine;	  /* (C) NULL: the channel is free (L) */
	unsigned channel;		  /* (C) */
	unsigned priority;		  /* (C) */
	uint64_t timeout;		  /* (C) ticks; 0: none */
	struct weir_container *container; /* (C) */
	struct task *first, *last;	  /* (L) */
	enum cmdq_fault fault;		  /* (L) of the last packet that failed */
	uint64_t fault_offset;		  /* (L) */
	bool going;			  /* (L) takes no packet any more */
};

struct cmdq_engine {
	struct lock lock;
	bool unshared; /* (C) the lock is not used: one thread at a time has the engine anyhow */
	struct gce gce;
	struct cmdq_client client[GCE_THREADS];
	const struct cmdq_buffer_ops *buffers; /* (C) NULL: plain memory */
	struct task *ended, **ended_end;       /* (L) to be called back, in order */
	uint64_t mapped;		       /* (L) where code was mapped last */
};

static inline void enter(struct cmdq_engine *e)
{
	if (!e->unshared)
		lock_acquire(&e->lock);
}

static inline void leave(struct cmdq_engine *e)
{
	if (!e->unshared)
		lock_release(&e->lock);
}

#endif
