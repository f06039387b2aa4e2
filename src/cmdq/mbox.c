/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clients, and packets that wait for their turn. Whatever is done to a thread is done through its registers.
 *
 *            flush                               its commands are behind pc
 *      free ───────▶ queued ──▶ first, running ─────────────────────────────▶ 0
 *       ▲              │               ├── error interrupt ─────────────────▶ -EFAULT       then, without the lock,
 *       │              │               └── its time is over ────────────────▶ -ETIMEDOUT ─▶ the callback, once
 *       │              └───────── the client or the engine goes ────────────▶ -ECONNABORTED
 *       └──────────────────────────────────────────────────────────────────────────────────┘
 *
 * Several packets of a client are one program: the last command of each, the jump that finalizes it, is made a jump to the
 * next packet while that is queued, and is put back when it ends. So a packet can be flushed again, and one that does not
 * end in that jump is refused: what stands there instead would be lost.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "cmdq/mbox.h"
#include "os/mem.h"

#define ENGINE_BYTES ALIGN_UP(sizeof(struct cmdq_engine), PAGE_SIZE)

/* --- registers of a channel --- */

static uint32_t channel_read(const struct cmdq_client *c, enum gce_register r)
{
	return gce_read(&c->engine->gce, gce_thread_register(c->channel, r));
}

static void channel_write(struct cmdq_client *c, enum gce_register r, uint32_t value)
{
	gce_write(&c->engine->gce, gce_thread_register(c->channel, r), value);
}

static uint64_t channel_pc(const struct cmdq_client *c)
{
	return (uint64_t)channel_read(c, GCE_PC) << c->engine->gce.shift;
}

static void channel_goto(struct cmdq_client *c, const struct task *task)
{
	channel_write(c, GCE_PC, (uint32_t)(task->code.address >> c->engine->gce.shift));
}

static void channel_end_at(struct cmdq_client *c, const struct task *task)
{
	channel_write(c, GCE_END,
		      (uint32_t)((task->code.address + task->code.bytes) >> c->engine->gce.shift));
}

/* --- where packets are on the bus --- */

enum { WINDOW_START = 0x40000000 }; /* where the memory of these chips begins */

static const struct gce_code *overlapping(const struct gce *gce, uint64_t address, uint64_t bytes)
{
	for (const struct gce_code *code = gce->code; code; code = code->next) {
		if (address < code->address + code->bytes && code->address < address + bytes)
			return code;
	}
	return NULL;
}

/* A packet is where its buffer says if the engine can express that, else the engine maps it. */
static int task_map(struct cmdq_engine *e, struct pkt *pkt, size_t words)
{
	const uint64_t limit = 1ull << (32 + e->gce.shift), bytes = words * CMDQ_INST_SIZE;
	struct gce_code *code = &pkt->task.code;
	uint64_t address = pkt_pa(pkt) + e->gce.profile->offset;

	if (address + bytes >= limit || overlapping(&e->gce, address, bytes)) {
		const struct gce_code *other;
		unsigned laps = 0;

		address = e->mapped;
		while ((other = overlapping(&e->gce, address, bytes)) || address + bytes >= limit) {
			if (!other && laps++)
				return cmdq_refuse(-ENOSPC, "no address is free for %llu bytes",
						   (unsigned long long)bytes);
			address = other ? ALIGN_UP(other->address + other->bytes, PAGE_SIZE)
					: WINDOW_START;
		}
		e->mapped = ALIGN_UP(address + bytes, PAGE_SIZE);
	}
	*code = (struct gce_code){.address = address, .bytes = bytes, .words = pkt->words};
	gce_map(&e->gce, code);
	return 0;
}

/* --- tasks --- */

static struct pkt *pkt_of_task(struct task *task)
{
	return CONTAINER_OF(task, struct pkt, task);
}

static uint64_t *last_word(struct task *task)
{
	return pkt_of_task(task)->words + task->code.bytes / CMDQ_INST_SIZE - 1;
}

static uint64_t final_jump(const struct gce *gce)
{
	return (uint64_t)CMDQ_OP_JUMP << 56 | CMDQ_INST_SIZE >> gce->shift;
}

/* The time of a packet begins when it is the first. */
static void clock_start(struct cmdq_client *c)
{
	if (c->first)
		c->first->deadline = c->timeout ? c->engine->gce.ticks + c->timeout : UINT64_MAX;
}

/* The first task has ended; pc is not in it any more. */
static void first_ends(struct cmdq_client *c, int err)
{
	struct cmdq_engine *e = c->engine;
	struct task *task = c->first;

	c->first = task->next;
	if (!c->first)
		c->last = NULL;
	*last_word(task) = final_jump(&e->gce);
	gce_unmap(&e->gce, &task->code);
	task->next = NULL;
	task->err = err;
	*e->ended_end = task;
	e->ended_end = &task->next;
	clock_start(c);
}

/* The same, from wherever pc is: the next one begins, if there is one. */
static void first_leaves(struct cmdq_client *c, int err)
{
	const uint32_t suspended = channel_read(c, GCE_SUSPEND);

	channel_write(c, GCE_SUSPEND, 1);
	if (c->first->next)
		channel_goto(c, c->first->next);
	else
		channel_write(c, GCE_ENABLE, 0);
	first_ends(c, err);
	channel_write(c, GCE_SUSPEND, suspended);
}

static bool holds(const struct task *task, uint64_t pc)
{
	return pc - task->code.address < task->code.bytes;
}

/* Where pc is tells which packets are done. */
static void packets_done(struct cmdq_client *c, bool failed)
{
	/* Not by the register, which has 32 bits: a jump to nowhere may have more, and alias another packet. */
	const uint64_t pc = c->engine->gce.thread[c->channel].pc;
	struct task *at = c->first;

	while (at && !holds(at, pc))
		at = at->next;
	/* Outside of all packets, and not behind the last: in code that the first one jumped to. */
	if (!at && pc != c->last->code.address + c->last->code.bytes)
		at = c->first;
	while (c->first && c->first != at && c->first->next)
		first_ends(c, 0);
	if (at != c->first || (at && pc == at->code.address + at->code.bytes - CMDQ_INST_SIZE)) {
		/* At its last command, the jump, or behind: it is done, and the next one begins. */
		first_leaves(c, 0);
	} else if (failed) {
		c->fault = c->engine->gce.thread[c->channel].fault;
		c->fault_offset = holds(at, pc) ? pc - at->code.address : UINT64_MAX;
		first_leaves(c, -EFAULT);
	}
}

static bool channel_irq(void *data, unsigned channel)
{
	struct cmdq_engine *e = data;
	struct cmdq_client *c = &e->client[channel];
	uint32_t status;

	/* Who writes registers himself has no client, or no packet. */
	if (!c->engine || !c->first)
		return false;
	status = channel_read(c, GCE_IRQ_STATUS);
	channel_write(c, GCE_IRQ_STATUS, ~status);
	packets_done(c, status & GCE_IRQ_ERROR);
	return e->ended;
}

/* Calls back what has ended. The lock is held, and let go meanwhile. */
static bool call_back(struct cmdq_engine *e)
{
	bool any = false;

	while (e->ended) {
		struct task *task = e->ended;
		struct pkt *pkt = pkt_of_task(task);
		const cmdq_async_flush_cb cb = task->cb;
		void *data = task->data;
		const int err = task->err;

		e->ended = task->next;
		if (!e->ended)
			e->ended_end = &e->ended;
		leave(e);
		/* Pairs with the acquire in flush: whoever has the packet next sees what the engine did to it. */
		store_release(&pkt->busy, false);
		if (cb)
			cb(data, err, &pkt->head);
		any = true;
		enter(e);
	}
	return any;
}

/* --- time --- */

static uint64_t next_deadline(const struct cmdq_engine *e)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < e->gce.threads; i++) {
		if (e->client[i].first)
			next = MIN(next, e->client[i].first->deadline);
	}
	return next;
}

static void times_out(struct cmdq_engine *e)
{
	for (unsigned i = 0; i < e->gce.threads; i++) {
		struct cmdq_client *c = &e->client[i];

		/* One at a time: the time of the next begins now. */
		if (c->first && c->first->deadline <= e->gce.ticks)
			first_leaves(c, -ETIMEDOUT);
	}
}

/* --- running --- */

static uint64_t engine_run(struct cmdq_engine *e, uint64_t commands)
{
	uint64_t left = commands;

	do {
		const uint64_t deadline = next_deadline(e);
		const uint64_t time = deadline - MIN(deadline, e->gce.ticks);
		const uint64_t ran = gce_run(&e->gce, MIN(left, time));

		left -= ran;
		if (e->gce.ticks >= deadline) {
			/* What has ended in time has not timed out. */
			(void)gce_run(&e->gce, 0);
			times_out(e);
		}
		if (!call_back(e) && !ran)
			break;
	} while (left);
	return commands - left;
}

uint64_t cmdq_engine_run(struct cmdq_engine *e, uint64_t commands)
{
	uint64_t ran;

	enter(e);
	ran = engine_run(e, commands);
	leave(e);
	return ran;
}

static void engine_pass(struct cmdq_engine *e, uint64_t ticks)
{
	(void)gce_run(&e->gce, 0);
	e->gce.ticks += ticks;
	times_out(e);
	(void)call_back(e);
}

void cmdq_engine_pass(struct cmdq_engine *e, uint64_t ticks)
{
	enter(e);
	engine_pass(e, ticks);
	leave(e);
}

uint64_t cmdq_engine_ticks(struct cmdq_engine *e)
{
	uint64_t ticks;

	enter(e);
	ticks = e->gce.ticks;
	leave(e);
	return ticks;
}

/* --- flushing --- */

/* The client's thread does nothing: begins with the packet. */
static void start(struct cmdq_client *c, struct task *task)
{
	channel_write(c, GCE_WARM_RESET, 1);
	channel_goto(c, task);
	channel_end_at(c, task);
	channel_write(c, GCE_PRIORITY, c->priority);
	channel_write(c, GCE_IRQ_ENABLE, GCE_IRQ_DONE | GCE_IRQ_ERROR);
	channel_write(c, GCE_ENABLE, 1);
}

/* It has packets: the new one follows the last. */
static void append(struct cmdq_client *c, struct task *task)
{
	const uint64_t end = c->last->code.address + c->last->code.bytes;
	const uint32_t suspended = channel_read(c, GCE_SUSPEND);
	uint64_t pc;

	channel_write(c, GCE_SUSPEND, 1);
	pc = channel_pc(c);
	if (pc == end || pc == end - CMDQ_INST_SIZE)
		channel_goto(c, task);
	else
		*last_word(c->last) = (uint64_t)CMDQ_OP_JUMP << 56 | 1ull << 32 |
				      task->code.address >> c->engine->gce.shift;
	channel_end_at(c, task);
	channel_write(c, GCE_SUSPEND, suspended);
}

/* The last two commands are those of cmdq_pkt_finalize. */
static bool ends_well(const struct gce *gce, const uint64_t *words, size_t count)
{
	return count >= 2 && words[count - 1] == final_jump(gce) &&
	       words[count - 2] == ((uint64_t)CMDQ_OP_EOC << 56 | 1);
}

static int flush(struct cmdq_client *c, struct pkt *pkt, cmdq_async_flush_cb cb, void *data)
{
	struct cmdq_engine *e = c->engine;
	const uint64_t *words;
	size_t count;
	int err = cmdq_pkt_finalize(&pkt->head);

	if (err)
		return err;
	words = cmdq_pkt_words(&pkt->head, &count);
	if (!ends_well(&e->gce, words, count))
		return cmdq_refuse(-EINVAL, "the packet does not end in an EOC with the interrupt "
					    "and the jump of one command that finalizes it");
	enter(e);
	err = c->going ? -ECONNABORTED : task_map(e, pkt, count);
	if (!err) {
		struct task *task = &pkt->task;

		task->next = NULL;
		task->cb = cb;
		task->data = data;
		if (c->last) {
			append(c, task);
			c->last->next = task;
			c->last = task;
		} else {
			start(c, task);
			c->first = c->last = task;
			clock_start(c);
		}
	}
	leave(e);
	return err;
}

int cmdq_pkt_flush_async(struct cmdq_client *c, struct cmdq_pkt *head, cmdq_async_flush_cb cb,
			 void *data)
{
	struct pkt *pkt = pkt_of(head);
	int err;

	if (head->profile != c->engine->gce.profile)
		return cmdq_refuse(-EINVAL, "a packet for %s on an engine of %s",
				   head->profile->name, c->engine->gce.profile->name);
	/* Pairs with the release in call_back. */
	if (exchange_acquire(&pkt->busy, true))
		return cmdq_refuse(-EBUSY, "an engine has the packet: wait for its callback");
	err = flush(c, pkt, cb, data);
	if (err)
		store_release(&pkt->busy, false);
	return err;
}

struct completion {
	_Atomic bool done; /* (A) */
	int err;	   /* before done */
};

static void complete(void *data, int err, struct cmdq_pkt *pkt)
{
	struct completion *completion = data;

	(void)pkt;
	completion->err = err;
	/* Pairs with the acquire in cmdq_pkt_flush. */
	store_release(&completion->done, true);
}

static bool queued(const struct cmdq_client *c, const struct task *task)
{
	const struct task *t = c->first;

	while (t && t != task)
		t = t->next;
	return t;
}

/* No thread of the engine can go on: time passes, up to the next deadline. Where there is none, the packet, or one that
 * stands before it, waits for what never comes. */
static void nothing_runs(struct cmdq_client *c, const struct task *task)
{
	struct cmdq_engine *e = c->engine;
	uint64_t deadline;

	enter(e);
	deadline = next_deadline(e);
	/* Else another thread is about to call back. */
	if (queued(c, task)) {
		if (deadline != UINT64_MAX)
			engine_pass(e, deadline - MIN(deadline, e->gce.ticks));
		else
			first_leaves(c, -ETIMEDOUT);
		(void)call_back(e);
	}
	leave(e);
}

int cmdq_pkt_flush(struct cmdq_client *c, struct cmdq_pkt *head)
{
	enum { AT_ONCE = 1 << 16 };
	struct completion completion = {.done = false};
	const int err = cmdq_pkt_flush_async(c, head, complete, &completion);

	if (err)
		return err;
	/* Pairs with the release in complete. */
	while (!load_acquire(&completion.done)) {
		if (cmdq_engine_run(c->engine, AT_ONCE) || load_relaxed(&completion.done))
			continue;
		nothing_runs(c, &pkt_of(head)->task);
		if (!load_relaxed(&completion.done))
			sched_yield();
	}
	return completion.err;
}

int cmdq_pkt_create(struct cmdq_client *c, struct cmdq_pkt **pkt)
{
	const struct cmdq_engine *e = c->engine;

	return pkt_create(e->gce.profile, e->buffers, c->container, pkt);
}

/* --- making and ending --- */

int cmdq_engine_create(const struct cmdq_engine_options *in, struct cmdq_engine **out)
{
	struct cmdq_engine_options options = {0};
	struct cmdq_engine *e;

	if (!in || in->size < offsetof(struct cmdq_engine_options, buffers))
		return cmdq_refuse(-EINVAL, "options.size is not that of an engine's options");
	memcpy(&options, in, MIN(in->size, sizeof(options)));
	if (!options.profile || !options.bus.read || !options.bus.write)
		return cmdq_refuse(-EINVAL,
				   "an engine needs a profile, and a bus to read and write");
	e = mem_alloc(ENGINE_BYTES);
	if (!e)
		return cmdq_refuse(-ENOMEM, "no memory for an engine");
	lock_init(&e->lock, RANK_ENGINE, "engine");
	gce_init(&e->gce, options.profile, &options.bus);
	e->gce.irq = channel_irq;
	e->gce.irq_data = e;
	e->buffers = options.buffers;
	e->unshared = options.unshared;
	e->ended_end = &e->ended;
	e->mapped = WINDOW_START;
	*out = e;
	return 0;
}

size_t cmdq_engine_bytes(void)
{
	return ENGINE_BYTES;
}

int cmdq_mbox_create(struct cmdq_engine *e, unsigned channel, const struct cmdq_client_options *in,
		     struct cmdq_client **out)
{
	struct cmdq_client_options options = {0};
	struct cmdq_client *c;
	int err = 0;

	if (in)
		memcpy(&options, in, MIN(in->size, sizeof(options)));
	if (channel >= e->gce.threads)
		return cmdq_refuse(-EINVAL, "channel %u: %s has 0 to %u", channel,
				   e->gce.profile->name, e->gce.threads - 1);
	if (options.priority > 7)
		return cmdq_refuse(-EINVAL, "priority %u: 0 to 7", options.priority);
	c = &e->client[channel];
	enter(e);
	if (c->engine)
		err = -EBUSY;
	else
		*c = (struct cmdq_client){.engine = e,
					  .channel = channel,
					  .priority = options.priority,
					  .timeout =
						  (uint64_t)options.timeout_ms * CMDQ_TICKS_PER_MS,
					  .container = options.container};
	leave(e);
	if (err)
		return cmdq_refuse(err, "channel %u has a client", channel);
	*out = c;
	return 0;
}

void cmdq_mbox_destroy(struct cmdq_client *c)
{
	struct cmdq_engine *e = c->engine;

	enter(e);
	/* A callback may try. */
	c->going = true;
	/* What has run before this has ended well. */
	(void)gce_run(&e->gce, 0);
	while (c->first)
		first_leaves(c, -ECONNABORTED);
	channel_write(c, GCE_WARM_RESET, 1);
	(void)call_back(e);
	c->engine = NULL;
	leave(e);
}

void cmdq_engine_destroy(struct cmdq_engine *e)
{
	if (!e)
		return;
	for (unsigned i = 0; i < e->gce.threads; i++) {
		if (e->client[i].engine)
			cmdq_mbox_destroy(&e->client[i]);
	}
	mem_release(e, ENGINE_BYTES);
}
