/* SPDX-License-Identifier: BSD-2-Clause */
#include "reclaim/mover.h"

#include <errno.h>

#include "os/thread.h"
#include "reclaim/reclaim.h"

/* --- memory for packets --- */

static int buffer_alloc(void *data, struct weir_container *container, size_t bytes,
			struct cmdq_buffer *buffer)
{
	struct weir_container *payer = container ? container : data;

	/* A thread of the program takes locks that handlers take too. */
	THREAD_SIGNALS_BLOCKED;
	if (charge_bytes(payer, bytes))
		return -ENOMEM;
	*buffer = (struct cmdq_buffer){.addr = mem_alloc(bytes), .bytes = bytes};
	/* Our engine maps what it runs: any address will do, as long as it is this packet's. */
	buffer->pa = (uintptr_t)buffer->addr;
	if (buffer->addr)
		return 0;
	uncharge_bytes(payer, bytes);
	return -ENOMEM;
}

static void buffer_free(void *data, struct weir_container *container,
			const struct cmdq_buffer *buffer)
{
	THREAD_SIGNALS_BLOCKED;
	mem_release(buffer->addr, buffer->bytes);
	uncharge_bytes(container ? container : data, buffer->bytes);
}

struct cmdq_buffer_ops mover_buffers(struct weir_container *root)
{
	return (struct cmdq_buffer_ops){.size = sizeof(struct cmdq_buffer_ops),
					.alloc = buffer_alloc,
					.free = buffer_free,
					.data = root};
}

/* --- the device --- */

/* The page that the registers name. NULL: its region has gone. */
static struct region *page_named(struct mover *m, uint32_t *page)
{
	const page_no_t number = (page_no_t)m->high << 32 | m->page;
	struct region *region = m->region;

	if (!region || number - page_number(region, 0) >= region->room)
		region = vm_find(m->reclaim->vm, (uintptr_t)number << PAGE_SHIFT);
	m->region = region;
	if (region)
		*page = (uint32_t)(number - page_number(region, 0));
	return region;
}

static int command(struct mover *m, uint32_t value)
{
	struct region *region;
	uint32_t page;

	switch (value) {
	case MOVER_PACK:
		region = page_named(m, &page);
		if (region)
			job_clean(m->reclaim, m->pager, region, page);
		return 0;
	case MOVER_DROP:
		m->count = job_drop(m->reclaim, m->count);
		return 0;
	case MOVER_GATHER:
		region = page_named(m, &page);
		if (region)
			batch_add(m->reclaim, region, page);
		return 0;
	case MOVER_WRITE:
		batch_write(m->reclaim);
		return 0;
	case MOVER_TURN:
		return batch_turn_over(m->reclaim, m->count);
	default:
		return -EINVAL;
	}
}

static int device_write(void *data, uint64_t address, uint32_t value)
{
	struct mover *m = data;

	switch (address - MOVER_WINDOW) {
	case MOVER_PAGE:
		m->page = value;
		return 0;
	case MOVER_HIGH:
		m->high = value;
		return 0;
	case MOVER_COMMAND:
		m->status = command(m, value);
		return m->status;
	case MOVER_COUNT:
		m->count = value;
		return 0;
	default:
		return -EINVAL;
	}
}

static int device_read(void *data, uint64_t address, uint32_t *value)
{
	const struct mover *m = data;

	switch (address - MOVER_WINDOW) {
	case MOVER_PAGE:
		*value = m->page;
		return 0;
	case MOVER_HIGH:
		*value = m->high;
		return 0;
	case MOVER_STATUS:
		*value = (uint32_t)-m->status;
		return 0;
	case MOVER_COUNT:
		*value = m->count;
		return 0;
	default:
		return -EINVAL;
	}
}

/* --- packets --- */

static int named(struct mover *m, const struct victim *v, uint32_t *high, uint32_t what)
{
	const page_no_t number = page_number(v->region, v->page);
	int err = 0;

	if ((uint32_t)(number >> 32) != *high) {
		*high = (uint32_t)(number >> 32);
		err = cmdq_pkt_write(m->packet, *high, &m->base, MOVER_HIGH);
	}
	if (!err)
		err = cmdq_pkt_write(m->packet, (uint32_t)number, &m->base, MOVER_PAGE);
	return err ? err : cmdq_pkt_write(m->packet, what, &m->base, MOVER_COMMAND);
}

/* One command for each page. */
static int each(struct mover *m, const struct victim *pages, unsigned count, uint32_t what)
{
	/* A packet says all it needs, so the first page's is always written. */
	uint32_t high = ~(uint32_t)(page_number(pages[0].region, pages[0].page) >> 32);
	int err = 0;

	for (unsigned i = 0; i < count && !err; i++)
		err = named(m, &pages[i], &high, what);
	return err;
}

/* Runs what the packet has, if it has all of it. */
static int run(struct mover *m, int err)
{
	struct movers *movers = &m->reclaim->movers;

	if (!err)
		err = cmdq_pkt_finalize(m->packet);
	if (!err && unlikely(movers->trace)) {
		size_t count;
		const uint64_t *words = cmdq_pkt_words(m->packet, &count);

		movers->trace(movers->trace_data, words, count);
	}
	m->status = 0;
	if (!err)
		err = cmdq_pkt_flush(m->client, m->packet);
	add_relaxed(err ? &movers->failures : &movers->packets, 1);
	(void)cmdq_pkt_reset(m->packet);
	return err;
}

int mover_pack(struct mover *m, const struct victim *victims, unsigned count)
{
	return run(m, each(m, victims, count, MOVER_PACK));
}

unsigned mover_drop(struct mover *m, unsigned count)
{
	int err = cmdq_pkt_write(m->packet, count, &m->base, MOVER_COUNT);

	if (!err)
		err = cmdq_pkt_write(m->packet, MOVER_DROP, &m->base, MOVER_COMMAND);
	return run(m, err) ? 0 : m->count;
}

int mover_writeback(struct mover *m, const struct victim *pages, unsigned count)
{
	int err = each(m, pages, count, MOVER_GATHER);

	if (!err)
		err = cmdq_pkt_write(m->packet, MOVER_WRITE, &m->base, MOVER_COMMAND);
	return run(m, err);
}

int mover_turn(struct mover *m, unsigned write)
{
	int err = cmdq_pkt_write(m->packet, write, &m->base, MOVER_COUNT);

	if (!err)
		err = cmdq_pkt_write(m->packet, MOVER_TURN, &m->base, MOVER_COMMAND);
	err = run(m, err);
	return m->status ? m->status : err;
}

/* --- channels --- */

static int mover_init(struct mover *m, struct reclaim *reclaim,
		      const struct cmdq_buffer_ops *buffers)
{
	const struct cmdq_engine_options options = {
		.size = sizeof(options),
		.profile = cmdq_profile_find("weir"),
		.bus = {device_read, device_write, m},
		.buffers = buffers,
		/* Whoever has taken the channel has it; what the mover's commands do is done without a lock. */
		.unshared = true,
	};
	int err;

	m->reclaim = reclaim;
	err = cmdq_register_device(options.profile, MOVER_WINDOW, &m->base);
	if (!err)
		err = cmdq_engine_create(&options, &m->engine);
	if (!err)
		err = cmdq_mbox_create(m->engine, 0, NULL, &m->client);
	return err ? err : cmdq_pkt_create(m->client, &m->packet);
}

int movers_init(struct movers *movers, struct reclaim *reclaim, struct weir_container *root)
{
	/* Compressing keeps a CPU busy; a thread that was taken off its own has a channel all the same. */
	const unsigned count = MIN(2 * thread_cpu_count(), (unsigned)MOVERS_MAX);

	movers->buffers = mover_buffers(root);
	for (unsigned i = 0; i < count; i++) {
		int err = mover_init(&movers->mover[i], reclaim, &movers->buffers);

		if (err) {
			movers->count = i + 1;
			movers_destroy(movers);
			return err;
		}
	}
	movers->count = count;
	return 0;
}

void movers_destroy(struct movers *movers)
{
	for (unsigned i = 0; i < movers->count; i++) {
		cmdq_pkt_destroy(movers->mover[i].packet);
		cmdq_engine_destroy(movers->mover[i].engine);
	}
	movers->count = 0;
}

struct mover *mover_take(struct movers *movers, struct pager *self)
{
	const uint32_t all = (uint32_t)((1ull << movers->count) - 1);
	uint32_t taken = load_relaxed(&movers->taken);

	while (taken != all) {
		const unsigned i = (unsigned)__builtin_ctz(~taken);

		/* Pairs with the release in mover_give. */
		if (cas_acquire(&movers->taken, &taken, taken | 1u << i)) {
			movers->mover[i].pager = self;
			movers->mover[i].region = NULL;
			return &movers->mover[i];
		}
	}
	return NULL;
}

void mover_give(struct movers *movers, struct mover *mover)
{
	const uint32_t bit = 1u << (mover - movers->mover);
	uint32_t taken = load_relaxed(&movers->taken);

	/* Pairs with the acquire in mover_take. */
	while (!cas_release(&movers->taken, &taken, taken & ~bit))
		;
}
