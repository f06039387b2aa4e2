/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An engine and its clients: what one packet does, how clients and engines end, events, and the registers. Time is the engine's
 * own: nothing here waits.
 */
#include "engine.h"

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

/* --- events, registers --- */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_packet_runs),
		cmocka_unit_test(test_a_packet_runs_again),
		cmocka_unit_test(test_synchronous),
		cmocka_unit_test(test_shutdown),
		cmocka_unit_test(test_callbacks_may_flush),
		cmocka_unit_test(test_callbacks_may_destroy),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_acquire),
		cmocka_unit_test(test_the_register_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
