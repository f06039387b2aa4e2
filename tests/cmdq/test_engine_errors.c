/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Packets that fail, run out of time, or are refused: called back once with what became of them, and the others run as if
 * nothing was.
 */
#include "engine.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_fault),
		cmocka_unit_test(test_a_fault_seen_late),
		cmocka_unit_test(test_time_is_over),
		cmocka_unit_test(test_a_loop_has_an_end),
		cmocka_unit_test(test_poll_stalls_all),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_no_memory_to_finalize),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
