/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of the engine share: a device that it writes to, and packets that are counted when they are called back. */
#ifndef WEIR_TESTS_CMDQ_ENGINE_H
#define WEIR_TESTS_CMDQ_ENGINE_H

#include "../unit.h"

#include "cmdq/gce.h"

enum { DEVICE = 0x14000000, BROKEN = 0xf00, REGISTERS = 0x1000 };

/* --- a device: registers, and a log of what was written --- */

static struct {
	uint32_t value[REGISTERS / 4];
	uint32_t log[1 << 16];
	unsigned logged;
} device;

static inline int device_read(void *data, uint64_t address, uint32_t *value)
{
	(void)data;
	if (address - DEVICE >= REGISTERS || address - DEVICE == BROKEN)
		return -EIO;
	*value = device.value[(address - DEVICE) / 4];
	return 0;
}

static inline int device_write(void *data, uint64_t address, uint32_t value)
{
	uint32_t old;

	if (device_read(data, address, &old))
		return -EIO;
	device.value[(address - DEVICE) / 4] = value;
	device.log[device.logged++ % ARRAY_SIZE(device.log)] = value;
	return 0;
}

/* --- packets that are counted --- */

enum { PACKETS = 64 };

static struct {
	unsigned calls;
	int err;
} ended[PACKETS];
static unsigned order[4 * PACKETS], orders;

static const struct cmdq_profile *profile;
static struct cmdq_engine *engine;
static struct cmdq_client *client;
static struct cmdq_base base;
static struct cmdq_pkt *packet[PACKETS];

static inline void on_end(void *data, int err, struct cmdq_pkt *pkt)
{
	const unsigned i = (unsigned)(uintptr_t)data;

	assert_ptr_equal(pkt, packet[i]);
	ended[i].calls++;
	ended[i].err = err;
	order[orders++ % ARRAY_SIZE(order)] = i;
}

static inline struct cmdq_client *client_at(unsigned channel, unsigned timeout_ms,
					    unsigned priority)
{
	const struct cmdq_client_options options = {
		.size = sizeof(options), .timeout_ms = timeout_ms, .priority = priority};
	struct cmdq_client *c;

	assert_int_equal(cmdq_mbox_create(engine, channel, &options, &c), 0);
	return c;
}

static inline void open_as(const char *soc, unsigned timeout_ms)
{
	struct cmdq_engine_options options = {.size = sizeof(options),
					      .bus = {device_read, device_write, NULL}};

	memset(&device, 0, sizeof(device));
	memset(ended, 0, sizeof(ended));
	memset(packet, 0, sizeof(packet));
	orders = 0;
	profile = options.profile = cmdq_profile_find(soc);
	assert_int_equal(cmdq_engine_create(&options, &engine), 0);
	assert_int_equal(cmdq_register_device(profile, DEVICE, &base), 0);
	client = client_at(3, timeout_ms, 0);
}

static inline void open_one(void)
{
	open_as("mt8173", 0);
}

static inline void close_all(void)
{
	cmdq_engine_destroy(engine);
	for (unsigned i = 0; i < PACKETS; i++)
		cmdq_pkt_destroy(packet[i]);
}

/* A packet of so many writes of its own number. */
static inline struct cmdq_pkt *make(unsigned i, unsigned writes)
{
	assert_int_equal(cmdq_pkt_create(client, &packet[i]), 0);
	for (unsigned n = 0; n < writes; n++)
		assert_int_equal(cmdq_pkt_write(packet[i], i * 100 + n, &base, 4 * n), 0);
	return packet[i];
}

static inline void send_to(struct cmdq_client *c, unsigned i)
{
	assert_int_equal(cmdq_pkt_flush_async(c, packet[i], on_end, (void *)(uintptr_t)i), 0);
}

static inline void send(unsigned i)
{
	send_to(client, i);
}

static inline void run_dry(void)
{
	for (unsigned i = 0; cmdq_engine_run(engine, 1000); i++)
		assert_true(i < 100000);
}

static inline uint32_t channel_read(unsigned channel, enum gce_register r)
{
	return cmdq_engine_read(engine, gce_thread_register(channel, r));
}

static inline void channel_write(unsigned channel, enum gce_register r, uint32_t value)
{
	cmdq_engine_write(engine, gce_thread_register(channel, r), value);
}

/* Packets first to last, each called back once with err, in order. */
static inline void assert_ended(unsigned first, unsigned last, int err)
{
	for (unsigned i = first; i <= last; i++) {
		if (ended[i].calls != 1 || ended[i].err != err)
			fail_msg("packet %u: called back %u times, last with %d", i, ended[i].calls,
				 ended[i].err);
		if (i > first) {
			unsigned at = 0;

			while (at < orders && order[at] != i)
				at++;
			assert_true(at > 0 && at < orders);
			assert_int_equal(order[at - 1], i - 1);
		}
	}
}

static inline void assert_not_ended(unsigned i)
{
	assert_int_equal(ended[i].calls, 0);
}

#endif
