/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An engine and its clients: every packet that was taken is called back once, in order, with what became of it, wherever its
 * thread was suspended, failed, ran out of time or was ended meanwhile. Time is the engine's own: nothing here waits.
 */
#include "../unit.h"

#include <pthread.h>

#include "cmdq/gce.h"

enum { DEVICE = 0x14000000, BROKEN = 0xf00, REGISTERS = 0x1000 };

/* --- a device: registers, and a log of what was written --- */

static struct {
	uint32_t value[REGISTERS / 4];
	uint32_t log[1 << 16];
	unsigned logged;
} device;

static int device_read(void *data, uint64_t address, uint32_t *value)
{
	(void)data;
	if (address - DEVICE >= REGISTERS || address - DEVICE == BROKEN)
		return -EIO;
	*value = device.value[(address - DEVICE) / 4];
	return 0;
}

static int device_write(void *data, uint64_t address, uint32_t value)
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

static void on_end(void *data, int err, struct cmdq_pkt *pkt)
{
	const unsigned i = (unsigned)(uintptr_t)data;

	assert_ptr_equal(pkt, packet[i]);
	ended[i].calls++;
	ended[i].err = err;
	order[orders++ % ARRAY_SIZE(order)] = i;
}

static struct cmdq_client *client_at(unsigned channel, unsigned timeout_ms, unsigned priority)
{
	const struct cmdq_client_options options = {
		.size = sizeof(options), .timeout_ms = timeout_ms, .priority = priority};
	struct cmdq_client *c;

	assert_int_equal(cmdq_mbox_create(engine, channel, &options, &c), 0);
	return c;
}

static void open_as(const char *soc, unsigned timeout_ms)
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

static void open_one(void)
{
	open_as("mt8173", 0);
}

static void close_all(void)
{
	cmdq_engine_destroy(engine);
	for (unsigned i = 0; i < PACKETS; i++)
		cmdq_pkt_destroy(packet[i]);
}

/* A packet of so many writes of its own number. */
static struct cmdq_pkt *make(unsigned i, unsigned writes)
{
	assert_int_equal(cmdq_pkt_create(client, &packet[i]), 0);
	for (unsigned n = 0; n < writes; n++)
		assert_int_equal(cmdq_pkt_write(packet[i], i * 100 + n, &base, 4 * n), 0);
	return packet[i];
}

static void send_to(struct cmdq_client *c, unsigned i)
{
	assert_int_equal(cmdq_pkt_flush_async(c, packet[i], on_end, (void *)(uintptr_t)i), 0);
}

static void send(unsigned i)
{
	send_to(client, i);
}

static void run_dry(void)
{
	for (unsigned i = 0; cmdq_engine_run(engine, 1000); i++)
		assert_true(i < 100000);
}

static uint32_t channel_read(unsigned channel, enum gce_register r)
{
	return cmdq_engine_read(engine, gce_thread_register(channel, r));
}

static void channel_write(unsigned channel, enum gce_register r, uint32_t value)
{
	cmdq_engine_write(engine, gce_thread_register(channel, r), value);
}

/* Packets first to last, each called back once with err, in order. */
static void assert_ended(unsigned first, unsigned last, int err)
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

static void assert_not_ended(unsigned i)
{
	assert_int_equal(ended[i].calls, 0);
}

/* --- one packet --- */

static void test_a_packet_runs(void **state)
{
	(void)state;
	open_one();
	make(0, 3);
	send(0);
	assert_not_ended(0);
	assert_int_equal(device.logged, 0);
	run_dry();
	assert_ended(0, 0, 0);
	assert_int_equal(device.logged, 3);
	assert_int_equal(device.value[2], 2);
	assert_int_equal(channel_read(3, GCE_ENABLE), 0);
	close_all();
}

/* A finalized packet does the same again; while the engine has it nothing may be done with it. */
static void test_a_packet_runs_again(void **state)
{
	size_t count;
	uint64_t before[8];

	(void)state;
	open_one();
	make(0, 2);
	make(1, 1);
	for (unsigned i = 1; i <= 5; i++) {
		send(0);
		if (i == 1) {
			memcpy(before, cmdq_pkt_words(packet[0], &count), sizeof(uint64_t) * 4);
			assert_int_equal(count, 4);
		}
		assert_int_equal(cmdq_pkt_flush_async(client, packet[0], on_end, NULL), -EBUSY);
		assert_int_equal(cmdq_pkt_reset(packet[0]), -EBUSY);
		/* Another one behind it changes its last command, and that is put back. */
		send(1);
		assert_true(cmdq_pkt_words(packet[0], &count)[3] != before[3]);
		run_dry();
		assert_memory_equal(cmdq_pkt_words(packet[0], &count), before,
				    sizeof(uint64_t) * 4);
		assert_int_equal(ended[0].calls, i);
		assert_int_equal(ended[1].calls, i);
		assert_int_equal(device.logged, 3 * i);
	}
	assert_int_equal(cmdq_pkt_reset(packet[0]), 0);
	close_all();
}

static void test_synchronous(void **state)
{
	(void)state;
	open_one();
	make(0, 5);
	assert_int_equal(cmdq_pkt_flush(client, packet[0]), 0);
	assert_int_equal(device.logged, 5);
	make(1, 1);
	assert_int_equal(cmdq_pkt_write(packet[1], 1, &base, BROKEN), 0);
	assert_int_equal(cmdq_pkt_flush(client, packet[1]), -EFAULT);
	/* What never comes is waited for until the time is over; without a time, it is over at once. */
	make(2, 0);
	assert_int_equal(cmdq_pkt_wfe(packet[2], 7), 0);
	assert_int_equal(cmdq_pkt_flush(client, packet[2]), -ETIMEDOUT);
	client = client_at(4, 5, 0);
	assert_int_equal(cmdq_pkt_flush(client, packet[2]), -ETIMEDOUT);
	assert_true(cmdq_engine_ticks(engine) >= 5 * CMDQ_TICKS_PER_MS);
	assert_int_equal(cmdq_engine_set_event(engine, 7, true), 0);
	assert_int_equal(cmdq_pkt_flush(client, packet[2]), 0);
	close_all();
}

/* --- queueing --- */

/* n packets of `writes` commands were queued: all of them have run, once, in order. */
static void assert_all_ran(unsigned n, unsigned writes)
{
	assert_ended(0, n - 1, 0);
	assert_int_equal(orders, n);
	assert_int_equal(device.logged, n * writes);
	for (unsigned i = 0; i < n * writes; i++)
		assert_int_equal(device.log[i], i / writes * 100 + i % writes);
}

/* 1 to 32 packets, suspended at each command; what is suspended does nothing, and goes on where it was. */
static void test_suspended_at_every_command(void **state)
{
	enum { WRITES = 2, COMMANDS = WRITES + 2 };

	(void)state;
	for (unsigned n = 1; n <= 32; n++) {
		for (unsigned at = 0; at <= n * COMMANDS; at++) {
			unsigned logged;

			open_as(n % 2 ? "mt8173" : "mt8192", 0);
			for (unsigned i = 0; i < n; i++) {
				make(i, WRITES);
				send(i);
			}
			for (unsigned i = 0; i < at; i++)
				(void)cmdq_engine_run(engine, 1);
			channel_write(3, GCE_SUSPEND, 1);
			assert_true(channel_read(3, GCE_STATUS) & GCE_SUSPENDED);
			logged = device.logged;
			assert_int_equal(cmdq_engine_run(engine, 100), 0);
			assert_int_equal(device.logged, logged);
			channel_write(3, GCE_SUSPEND, 0);
			run_dry();
			assert_all_ran(n, WRITES);
			close_all();
		}
	}
}

/* The next packet comes after so many commands of those before: idle, at the last command, behind it, in the middle. */
static void test_queued_at_every_command(void **state)
{
	enum { WRITES = 3, LONGEST = 3 * (WRITES + 2) };

	(void)state;
	for (unsigned n = 2; n <= 32; n++) {
		for (unsigned at = 0; at <= LONGEST; at++) {
			open_as(at % 2 ? "mt8173" : "mt8192", 0);
			for (unsigned i = 0; i < n; i++) {
				make(i, WRITES);
				send(i);
				for (unsigned k = 0; k < at; k++)
					(void)cmdq_engine_run(engine, 1);
			}
			run_dry();
			assert_all_ran(n, WRITES);
			close_all();
		}
	}
}

/* The same while the thread is suspended by somebody else: it stays suspended. */
static void test_queued_while_suspended(void **state)
{
	(void)state;
	for (unsigned at = 0; at <= 10; at++) {
		open_one();
		make(0, 2);
		make(1, 2);
		make(2, 2);
		send(0);
		send(1);
		for (unsigned i = 0; i < at; i++)
			(void)cmdq_engine_run(engine, 1);
		channel_write(3, GCE_SUSPEND, 1);
		send(2);
		if (ended[1].calls == 0) {
			assert_int_equal(cmdq_engine_run(engine, 10), 0);
			assert_not_ended(2);
		}
		channel_write(3, GCE_SUSPEND, 0);
		run_dry();
		assert_all_ran(3, 2);
		close_all();
	}
}

/* Lengths, channels, gaps and suspends at random. */
static void test_queueing_at_random(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		struct cmdq_client *clients[3];
		unsigned next[3] = {0}, of[PACKETS];

		open_as(round % 2 ? "mt8173" : "mt8192", 0);
		clients[0] = client;
		clients[1] = client_at(0, 0, random_below(&seed, 8));
		clients[2] = client_at(15, 0, random_below(&seed, 8));
		for (unsigned i = 0; i < PACKETS; i++) {
			of[i] = random_below(&seed, 3);
			make(i, random_below(&seed, 12));
			send_to(clients[of[i]], i);
			(void)cmdq_engine_run(engine, random_below(&seed, 24));
			channel_write(random_below(&seed, 2) * 3, GCE_SUSPEND,
				      random_below(&seed, 2));
		}
		channel_write(0, GCE_SUSPEND, 0);
		channel_write(3, GCE_SUSPEND, 0);
		run_dry();
		assert_int_equal(orders, PACKETS);
		for (unsigned k = 0; k < PACKETS; k++) {
			const unsigned i = order[k];

			assert_int_equal(ended[i].calls, 1);
			assert_int_equal(ended[i].err, 0);
			/* The next of its client. */
			while (of[next[of[i]]] != of[i])
				next[of[i]]++;
			assert_int_equal(next[of[i]]++, i);
		}
		close_all();
	}
}

/* The registers of a thread are kept from one packet to the next, and reset for one that begins anew. */
static void test_what_a_thread_keeps(void **state)
{
	uint32_t value;

	(void)state;
	open_one();
	make(0, 0);
	make(1, 1);
	assert_int_equal(cmdq_pkt_assign(packet[0], CMDQ_REG_SPR(1), 77), 0);
	send(0);
	send(1);
	run_dry();
	assert_int_equal(cmdq_engine_register(engine, 3, CMDQ_REG_SPR(1), &value), 0);
	assert_int_equal(value, 77);
	send(1);
	assert_int_equal(cmdq_engine_register(engine, 3, CMDQ_REG_SPR(1), &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(cmdq_engine_register(engine, 3, 4, &value), -EINVAL);
	assert_int_equal(cmdq_engine_register(engine, 16, 0, &value), -EINVAL);
	close_all();
}

/* --- errors --- */

static void fails_at(unsigned kind, struct cmdq_pkt *pkt)
{
	static const uint64_t words[] = {
		0xff00000000000000, /* no command */
		0xa080003000000000, /* assign to register 0x30 */
		0x0409000000000000, /* subsys 9 */
		0x0401f0000000f000, /* an address that refuses */
		0x1000000000100000, /* a jump far away */
		0x1000000000000004, /* into the middle of a command */
	};

	assert_int_equal(cmdq_pkt_raw(pkt, words[kind]), 0);
}

static void test_every_fault(void **state)
{
	static const enum cmdq_fault faults[] = {CMDQ_FAULT_COMMAND, CMDQ_FAULT_REGISTER,
						 CMDQ_FAULT_SUBSYS,  CMDQ_FAULT_BUS,
						 CMDQ_FAULT_PC,	     CMDQ_FAULT_PC};

	(void)state;
	for (unsigned kind = 0; kind < ARRAY_SIZE(faults); kind++) {
		/* The one that fails is the first, in the middle, the last; one stands behind it or comes later. */
		for (unsigned which = 0; which < 3; which++) {
			uint64_t offset;

			open_one();
			for (unsigned i = 0; i < 3; i++) {
				make(i, 2);
				if (i == which)
					fails_at(kind, packet[i]);
				send(i);
			}
			run_dry();
			for (unsigned i = 0; i < 3; i++)
				assert_ended(i, i, i == which ? -EFAULT : 0);
			assert_int_equal(cmdq_engine_fault(engine, 3, &offset), faults[kind]);
			assert_true(strlen(cmdq_fault_text(faults[kind])) > 0);
			if (faults[kind] != CMDQ_FAULT_PC)
				assert_int_equal(offset, 2 * CMDQ_INST_SIZE);
			assert_int_equal(device.logged, 6);
			make(3, 1);
			send(3);
			run_dry();
			assert_ended(3, 3, 0);
			close_all();
		}
	}
}

/* Wherever it is stopped, and however long the interrupt takes to be seen. */
static void test_a_fault_seen_late(void **state)
{
	(void)state;
	for (unsigned at = 0; at <= 16; at++) {
		open_one();
		for (unsigned i = 0; i < 4; i++) {
			make(i, 1);
			if (i % 2)
				fails_at(0, packet[i]);
		}
		send(0);
		send(1);
		send(2);
		for (unsigned i = 0; i < at; i++)
			(void)cmdq_engine_run(engine, 1);
		send(3);
		run_dry();
		for (unsigned i = 0; i < 4; i++)
			assert_ended(i, i, i % 2 ? -EFAULT : 0);
		assert_int_equal(orders, 4);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(order[i], i);
		close_all();
	}
}

/* --- time --- */

static void test_time_is_over(void **state)
{
	struct cmdq_client *other;

	(void)state;
	open_as("mt8173", 10);
	other = client_at(4, 0, 0);
	make(0, 1);
	assert_int_equal(cmdq_pkt_wfe(packet[0], 5), 0);
	make(1, 1);
	assert_int_equal(cmdq_pkt_wfe(packet[1], 6), 0);
	make(2, 1);
	make(3, 1);
	assert_int_equal(cmdq_pkt_wfe(packet[3], 7), 0);
	send(0);
	send(1);
	send(2);
	send_to(other, 3);
	run_dry();
	assert_int_equal(channel_read(3, GCE_WAIT_TOKEN), 1u << 31 | 5);
	cmdq_engine_pass(engine, 10 * CMDQ_TICKS_PER_MS - 10);
	assert_int_equal(orders, 0);
	cmdq_engine_pass(engine, 10);
	assert_ended(0, 0, -ETIMEDOUT);
	assert_int_equal(orders, 1);
	/* The time of the next began then. */
	run_dry();
	cmdq_engine_pass(engine, 10 * CMDQ_TICKS_PER_MS - 10);
	assert_int_equal(orders, 1);
	assert_int_equal(cmdq_engine_set_event(engine, 6, true), 0);
	run_dry();
	assert_ended(1, 2, 0);
	/* Another client's is not touched. */
	cmdq_engine_pass(engine, 1ull << 40);
	assert_not_ended(3);
	assert_int_equal(cmdq_engine_set_event(engine, 7, true), 0);
	run_dry();
	assert_ended(3, 3, 0);
	close_all();
}

/* A packet that never ends takes its own time and no more, to the tick; what ended in time has not timed out. */
static void test_a_loop_has_an_end(void **state)
{
	uint64_t began;

	(void)state;
	open_as("mt8173", 1);
	make(0, 0);
	assert_int_equal(cmdq_pkt_jump_rel(packet[0], 0), 0);
	make(1, 1);
	send(0);
	send(1);
	began = cmdq_engine_ticks(engine);
	(void)cmdq_engine_run(engine, CMDQ_TICKS_PER_MS - 1);
	assert_int_equal(orders, 0);
	(void)cmdq_engine_run(engine, 1);
	assert_int_equal(cmdq_engine_ticks(engine) - began, CMDQ_TICKS_PER_MS);
	assert_ended(0, 0, -ETIMEDOUT);
	/* Its EOC has run, and nobody has looked yet: that is in time. */
	for (unsigned i = 0; i < 2; i++)
		(void)cmdq_engine_run(engine, 1);
	cmdq_engine_pass(engine, 1ull << 40);
	assert_ended(1, 1, 0);
	close_all();
}

/* POLL stalls every thread of the engine, and only time ends it. */
static void test_poll_stalls_all(void **state)
{
	(void)state;
	open_as("mt8173", 1);
	make(0, 0);
	assert_int_equal(cmdq_pkt_poll_mask(packet[0], 0x10, &base, 0x20, 0xf0), 0);
	make(1, 2);
	send(0);
	(void)cmdq_engine_run(engine, 5);
	send_to(client_at(4, 0, 7), 1);
	assert_int_equal(cmdq_engine_run(engine, 1000), 1000);
	assert_int_equal(device.logged, 0);
	device.value[0x20 / 4] = 0x1f;
	run_dry();
	assert_ended(0, 1, 0);
	device.value[0x20 / 4] = 0;
	send(0);
	send(1);
	run_dry();
	assert_int_equal(ended[0].err, -ETIMEDOUT);
	assert_int_equal(ended[1].calls, 2);
	assert_int_equal(ended[1].err, 0);
	close_all();
}

/* --- the end --- */

static void again(void *data, int err, struct cmdq_pkt *pkt)
{
	on_end(data, err, pkt);
	assert_int_equal(cmdq_pkt_flush_async(client, pkt, on_end, data),
			 err == -ECONNABORTED ? -ECONNABORTED : 0);
}

static void test_shutdown(void **state)
{
	(void)state;
	/* After so many commands: some have ended, one is under way. */
	for (unsigned at = 0; at <= 14; at++) {
		/* With its EOC, the third command, a packet is done; the jump behind it is not needed then. */
		const unsigned done = at / 3 > 3 ? 3 : at / 3;

		open_one();
		for (unsigned i = 0; i < 3; i++) {
			make(i, 2);
			send(i);
		}
		(void)cmdq_engine_run(engine, at);
		if (at % 2)
			cmdq_mbox_destroy(client);
		else
			cmdq_engine_destroy(engine);
		if (done)
			assert_ended(0, done - 1, 0);
		if (done < 3)
			assert_ended(done, 2, -ECONNABORTED);
		assert_int_equal(orders, 3);
		if (at % 2) {
			/* The channel is free for another, and begins clean. */
			client = client_at(3, 0, 0);
			make(3, 1);
			send(3);
			run_dry();
			assert_ended(3, 3, 0);
			cmdq_engine_destroy(engine);
		}
		engine = NULL;
		close_all();
	}
	cmdq_engine_destroy(NULL);
}

/* A callback that sends its packet again: on and on, and refused when the client goes. */
static void test_callbacks_may_flush(void **state)
{
	(void)state;
	open_one();
	make(0, 1);
	assert_int_equal(cmdq_pkt_flush_async(client, packet[0], again, NULL), 0);
	run_dry();
	assert_int_equal(ended[0].calls, 2);
	assert_int_equal(cmdq_pkt_flush_async(client, packet[0], again, NULL), 0);
	cmdq_mbox_destroy(client);
	assert_int_equal(ended[0].calls, 3);
	assert_int_equal(ended[0].err, -ECONNABORTED);
	close_all();
}

static void destroys(void *data, int err, struct cmdq_pkt *pkt)
{
	on_end(data, err, pkt);
	packet[(uintptr_t)data] = NULL;
	cmdq_pkt_destroy(pkt);
}

static void test_callbacks_may_destroy(void **state)
{
	(void)state;
	open_one();
	make(0, 1);
	make(1, 1);
	assert_int_equal(cmdq_pkt_flush_async(client, packet[0], destroys, (void *)0), 0);
	assert_int_equal(cmdq_pkt_flush_async(client, packet[1], destroys, (void *)1), 0);
	run_dry();
	assert_ended(0, 1, 0);
	close_all();
}

/* --- refusals: nothing is sent, and no callback comes --- */

static void test_refusals(void **state)
{
	struct cmdq_engine_options options = {.size = sizeof(options)};
	struct cmdq_client *c;
	struct cmdq_pkt *foreign;

	(void)state;
	open_one();
	assert_int_equal(cmdq_engine_create(NULL, &engine), -EINVAL);
	assert_int_equal(cmdq_engine_create(&options, &engine), -EINVAL);
	options.size = 8;
	assert_int_equal(cmdq_engine_create(&options, &engine), -EINVAL);
	assert_int_equal(cmdq_mbox_create(engine, 16, NULL, &c), -EINVAL);
	assert_int_equal(cmdq_mbox_create(engine, 3, NULL, &c), -EBUSY);
	assert_int_equal(
		cmdq_mbox_create(engine, 4,
				 &(struct cmdq_client_options){
					 .size = sizeof(struct cmdq_client_options), .priority = 8},
				 &c),
		-EINVAL);
	assert_int_equal(cmdq_engine_set_event(engine, CMDQ_EVENTS, true), -EINVAL);
	assert_int_equal(cmdq_pkt_create_for(cmdq_profile_find("mt8192"), NULL, &foreign), 0);
	assert_int_equal(cmdq_pkt_flush(client, foreign), -EINVAL);
	cmdq_pkt_destroy(foreign);
	/* Ends in an EOC: the jump that links it to the next would be written over that. */
	make(0, 1);
	assert_int_equal(cmdq_pkt_eoc(packet[0]), 0);
	pkt_of(packet[0])->finalized = true;
	assert_int_equal(cmdq_pkt_flush_async(client, packet[0], on_end, NULL), -EINVAL);
	assert_non_null(strstr(cmdq_error(), "jump"));
	run_dry();
	assert_int_equal(orders, 0);
	assert_int_equal(device.logged, 0);
	assert_int_equal(cmdq_pkt_reset(packet[0]), 0);
	close_all();
}

/* No memory to finalize it: -ENOMEM, nothing is sent, and once there is memory it goes. */
static unsigned allocations_left;

static int scarce_alloc(void *data, struct weir_container *container, size_t bytes,
			struct cmdq_buffer *buffer)
{
	(void)data;
	(void)container;
	if (!allocations_left)
		return -ENOMEM;
	allocations_left--;
	/* An address that the engine can express is kept. */
	*buffer = (struct cmdq_buffer){
		.addr = aligned_alloc(4096, bytes), .pa = 0x50000000, .bytes = bytes};
	return buffer->addr ? 0 : -ENOMEM;
}

static void scarce_free(void *data, struct weir_container *container,
			const struct cmdq_buffer *buffer)
{
	(void)data;
	(void)container;
	free(buffer->addr);
}

static void test_no_memory_to_finalize(void **state)
{
	static const struct cmdq_buffer_ops buffers = {
		.size = sizeof(buffers), .alloc = scarce_alloc, .free = scarce_free};
	struct cmdq_engine_options options = {.size = sizeof(options),
					      .bus = {device_read, device_write, NULL},
					      .buffers = &buffers};

	(void)state;
	open_one();
	cmdq_engine_destroy(engine);
	options.profile = profile;
	assert_int_equal(cmdq_engine_create(&options, &engine), 0);
	client = client_at(0, 0, 0);
	allocations_left = 0;
	assert_int_equal(cmdq_pkt_create(client, &packet[0]), -ENOMEM);
	packet[0] = NULL;
	allocations_left = 1;
	make(0, 0);
	while (!cmdq_pkt_write(packet[0], 1, &base, 0))
		;
	assert_int_equal(cmdq_pkt_flush(client, packet[0]), -ENOMEM);
	assert_int_equal(device.logged, 0);
	allocations_left = 1;
	assert_int_equal(cmdq_pkt_flush(client, packet[0]), 0);
	assert_true(device.logged > 100);
	cmdq_pkt_destroy(packet[0]);
	/* Where the buffer is, it runs: a jump to an address in it. */
	allocations_left = 1;
	make(0, 0);
	assert_int_equal(cmdq_pkt_jump_abs(packet[0], 0x50000000 + 2 * CMDQ_INST_SIZE), 0);
	fails_at(0, packet[0]);
	assert_int_equal(cmdq_pkt_write(packet[0], 5, &base, 8), 0);
	assert_int_equal(cmdq_pkt_flush(client, packet[0]), 0);
	assert_int_equal(device.value[2], 5);
	close_all();
}

/* --- events, registers, turns --- */

static void test_events(void **state)
{
	(void)state;
	open_one();
	for (unsigned event = 0; event < CMDQ_EVENTS; event++) {
		cmdq_engine_write(engine, GCE_TOKEN_ID, event);
		assert_int_equal(cmdq_engine_read(engine, GCE_TOKEN_VALUE), 0);
	}
	make(0, 0);
	assert_int_equal(cmdq_pkt_wfe(packet[0], CMDQ_EVENT_DISP_MUTEX0_STREAM_EOF), 0);
	assert_int_equal(cmdq_pkt_set_event(packet[0], 1023), 0);
	make(1, 0);
	assert_int_equal(cmdq_pkt_wait_no_clear(packet[1], 1023), 0);
	send(0);
	send_to(client_at(9, 0, 0), 1);
	run_dry();
	assert_int_equal(orders, 0);
	assert_int_equal(channel_read(9, GCE_WAIT_TOKEN), 1u << 31 | 1023);
	/* By the token registers, as a driver does. */
	cmdq_engine_write(engine, GCE_TOKEN_UPDATE, 1u << 16 | 53);
	run_dry();
	assert_ended(0, 1, 0);
	cmdq_engine_write(engine, GCE_TOKEN_ID, 53);
	assert_int_equal(cmdq_engine_read(engine, GCE_TOKEN_VALUE), 0);
	cmdq_engine_write(engine, GCE_TOKEN_ID, 1023);
	assert_int_equal(cmdq_engine_read(engine, GCE_TOKEN_VALUE), 1);
	close_all();
}

/* A lock between two threads: never both. */
static void test_acquire(void **state)
{
	(void)state;
	open_one();
	for (unsigned i = 0; i < 2; i++) {
		make(i, 0);
		assert_int_equal(cmdq_pkt_acquire_event(packet[i], 3), 0);
		for (unsigned n = 0; n < 20; n++)
			assert_int_equal(cmdq_pkt_write(packet[i], i, &base, 0), 0);
		assert_int_equal(cmdq_pkt_clear_event(packet[i], 3), 0);
	}
	send(0);
	send_to(client_at(4, 0, 0), 1);
	run_dry();
	assert_ended(0, 0, 0);
	assert_ended(1, 1, 0);
	for (unsigned i = 1; i < 40; i++)
		assert_int_equal(device.log[i], device.log[i / 20 * 20]);
	close_all();
}

static void test_the_register_file(void **state)
{
	(void)state;
	open_one();
	cmdq_engine_write(engine, GCE_GENERAL + 4 * 15, 99);
	assert_int_equal(cmdq_engine_read(engine, GCE_GENERAL + 4 * 15), 99);
	channel_write(2, GCE_SPR + 4 * 3, 5);
	assert_int_equal(channel_read(2, GCE_SPR + 4 * 3), 5);
	channel_write(2, GCE_PRIORITY, 3);
	channel_write(2, GCE_PC, 0x1234560);
	channel_write(2, GCE_END, 0x1234560);
	assert_int_equal(channel_read(2, GCE_PC), 0x1234560);
	channel_write(2, GCE_WARM_RESET, 1);
	assert_int_equal(channel_read(2, GCE_WARM_RESET), 0);
	for (unsigned r = 0; r < GCE_THREAD_BYTES; r += 4)
		assert_int_equal(channel_read(2, r), 0);
	/* There are 16 threads; what is behind them, or between registers, is not there. */
	channel_write(16, GCE_ENABLE, 1);
	assert_int_equal(channel_read(16, GCE_ENABLE), 0);
	assert_int_equal(cmdq_engine_read(engine, GCE_GENERAL + 2), 0);
	assert_int_equal(cmdq_engine_read(engine, 0x4c), 0);
	/* A thread that a program of registers runs has no packet: its interrupt stays, until it is cleared. */
	assert_int_equal(cmdq_engine_read(engine, GCE_IRQS), UINT32_MAX);
	channel_write(2, GCE_IRQ_ENABLE, GCE_IRQ_DONE | GCE_IRQ_ERROR);
	channel_write(2, GCE_END, 8);
	channel_write(2, GCE_ENABLE, 1);
	assert_int_equal(cmdq_engine_run(engine, 10), 0);
	assert_int_equal(channel_read(2, GCE_IRQ_STATUS), GCE_IRQ_BUS);
	assert_int_equal(cmdq_engine_read(engine, GCE_IRQS), ~(1u << 2));
	channel_write(2, GCE_IRQ_STATUS, ~(uint32_t)GCE_IRQ_BUS);
	assert_int_equal(cmdq_engine_read(engine, GCE_IRQS), UINT32_MAX);
	close_all();
}

/* Packets of so many writes on four channels; returns what was written, in order. */
static void turns(const unsigned priority[4], unsigned pieces, uint64_t seed)
{
	open_one();
	for (unsigned i = 0; i < 4; i++) {
		make(i, 40);
		send_to(client_at(5 + i, 0, priority[i]), i);
	}
	while (cmdq_engine_run(engine, pieces ? 1 + random_below(&seed, pieces) : 1000))
		;
	run_dry();
	assert_int_equal(orders, 4);
	assert_int_equal(device.logged, 160);
}

/* Which thread is next does not depend on how many commands are asked for at a time. */
static void test_turns(void **state)
{
	static const unsigned equal[4], rising[4] = {1, 2, 3, 4};
	uint32_t first[160];
	uint64_t seed = test_seed();

	(void)state;
	turns(rising, 0, seed);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(order[i], 3 - i);
	close_all();
	turns(equal, 0, seed);
	memcpy(first, device.log, sizeof(first));
	/* Eight of each, in turn. */
	for (unsigned i = 0; i < 128; i++)
		assert_int_equal(first[i] / 100, i / 8 % 4);
	close_all();
	for (unsigned pieces = 1; pieces < 40; pieces++) {
		turns(equal, pieces, random_next(&seed));
		assert_memory_equal(device.log, first, sizeof(first));
		close_all();
	}
}

/* --- several threads of the machine --- */

enum { SENDERS = 3, EACH = 300 };

static void *sender(void *data)
{
	struct cmdq_client *c = data;
	struct cmdq_pkt *pkt;
	unsigned failed = 0;

	if (cmdq_pkt_create(c, &pkt))
		return (void *)1;
	for (unsigned i = 0; i < EACH; i++) {
		failed += cmdq_pkt_reset(pkt) != 0;
		failed += cmdq_pkt_write(pkt, i, &base, 0) != 0;
		failed += cmdq_pkt_flush(c, pkt) != 0;
	}
	cmdq_pkt_destroy(pkt);
	return (void *)(uintptr_t)failed;
}

static void test_several_threads(void **state)
{
	pthread_t thread[SENDERS];

	(void)state;
	open_one();
	for (unsigned i = 0; i < SENDERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, sender, client_at(4 + i, 0, 0)),
				 0);
	for (unsigned i = 0; i < SENDERS; i++) {
		void *failed;

		assert_int_equal(pthread_join(thread[i], &failed), 0);
		assert_null(failed);
	}
	assert_int_equal(device.logged, SENDERS * EACH);
	close_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_packet_runs),
		cmocka_unit_test(test_a_packet_runs_again),
		cmocka_unit_test(test_synchronous),
		cmocka_unit_test(test_suspended_at_every_command),
		cmocka_unit_test(test_queued_at_every_command),
		cmocka_unit_test(test_queued_while_suspended),
		cmocka_unit_test(test_queueing_at_random),
		cmocka_unit_test(test_what_a_thread_keeps),
		cmocka_unit_test(test_every_fault),
		cmocka_unit_test(test_a_fault_seen_late),
		cmocka_unit_test(test_time_is_over),
		cmocka_unit_test(test_a_loop_has_an_end),
		cmocka_unit_test(test_poll_stalls_all),
		cmocka_unit_test(test_shutdown),
		cmocka_unit_test(test_callbacks_may_flush),
		cmocka_unit_test(test_callbacks_may_destroy),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_no_memory_to_finalize),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_acquire),
		cmocka_unit_test(test_the_register_file),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_several_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
