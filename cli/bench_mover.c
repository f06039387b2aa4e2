/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pageouts of an instance, timed from outside; and the same packets, written and run by the same functions, on a device whose
 * commands do nothing. The second is what packets cost.
 */
#include "bench_mover.h"

#include <errno.h>

#include "bench_text.h"
#include "instance.h"
#include "os/mem.h"

static int nothing_read(void *data, uint64_t address, uint32_t *value)
{
	(void)data;
	(void)address;
	*value = 0;
	return 0;
}

static int nothing_written(void *data, uint64_t address, uint32_t value)
{
	uint32_t *written = data;

	(void)address;
	*written += value;
	return 0;
}

/* Nanoseconds for one packet of so many pages. */
static int packets_time(unsigned pages, unsigned packets, double *ns)
{
	uint32_t written = 0;
	const struct cmdq_engine_options options = {
		.size = sizeof(options),
		.profile = cmdq_profile_find("weir"),
		.bus = {nothing_read, nothing_written, &written}};
	struct cmdq_engine *engine;
	struct cmdq_client *client;
	struct cmdq_pkt *pkt;
	struct cmdq_base base;
	uint64_t began;
	int err = cmdq_engine_create(&options, &engine);

	if (err)
		return err;
	err = cmdq_mbox_create(engine, 0, NULL, &client);
	if (!err)
		err = cmdq_register_device(options.profile, MOVER_WINDOW, &base);
	if (!err)
		err = cmdq_pkt_create(client, &pkt);
	if (err)
		goto out;
	began = now_ns();
	for (unsigned i = 0; i < packets && !err; i++) {
		err = cmdq_pkt_write(pkt, 0, &base, MOVER_HIGH);
		for (unsigned page = 0; page < pages && !err; page++) {
			err = cmdq_pkt_write(pkt, page, &base, MOVER_PAGE);
			if (!err)
				err = cmdq_pkt_write(pkt, MOVER_PACK, &base, MOVER_COMMAND);
		}
		if (!err)
			err = cmdq_pkt_flush(client, pkt);
		(void)cmdq_pkt_reset(pkt);
	}
	*ns = (double)(now_ns() - began) / packets;
	cmdq_pkt_destroy(pkt);
out:
	cmdq_engine_destroy(engine);
	return err;
}

/* Moves pages out until most have gone. */
static int pageout_time(uint32_t pages, struct bench_mover *result)
{
	const struct weir_options options = {.size = sizeof(options),
					     .limit = (uint64_t)pages * 2 << PAGE_SHIFT,
					     .mode = WEIR_MODE_SIGNAL};
	const size_t words = ALIGN_UP(pages * sizeof(uint64_t), PAGE_SIZE);
	struct weir_stats stats = {.size = sizeof(stats)};
	uint64_t *first = mem_alloc(words), began, took, packets;
	struct weir *weir;
	void *region;
	int err = first ? weir_open(&options, &weir) : -ENOMEM;

	if (err)
		goto out;
	err = weir_region_create(weir, (uint64_t)pages << PAGE_SHIFT, &region);
	if (err)
		goto close;
	weir_thread_attach(weir);
	bench_words_make();
	bench_text_fill(region, pages, first);
	began = now_ns();
	/* Copies count, too: it gives no more than about a half, and says so. */
	(void)weir_container_reclaim(weir_container_root(weir), (uint64_t)pages << PAGE_SHIFT);
	took = now_ns() - began;
	(void)weir_stats_read(weir, &stats);
	packets = load_relaxed(&weir->reclaim.movers.packets);
	if (!stats.moved_out || !packets)
		err = -ENODATA;
	result->pageout_ns = (double)took / (double)MAX(stats.moved_out, (uint64_t)1);
	result->pages = (double)stats.moved_out / (double)MAX(packets, (uint64_t)1);
	weir_thread_detach(weir);
close:
	weir_close(weir);
out:
	mem_release(first, words);
	return err;
}

int bench_mover_run(struct bench_mover *result, bool quick)
{
	int err = pageout_time(quick ? 4096 : 16384, result);
	unsigned pages;

	if (err)
		return err;
	pages = (unsigned)MAX(result->pages, 1.0);
	err = packets_time(pages, quick ? 20000 : 200000, &result->packet_ns);
	result->packet_ns /= pages;
	return err;
}
