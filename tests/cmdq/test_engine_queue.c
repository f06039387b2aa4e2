/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Packets in a queue: each that was taken is called back once, in order, wherever its thread was suspended meanwhile, and
 * threads of the engine take turns.
 */
#include "engine.h"

#include <pthread.h>

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

/* --- turns --- */

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
		cmocka_unit_test(test_suspended_at_every_command),
		cmocka_unit_test(test_queued_at_every_command),
		cmocka_unit_test(test_queued_while_suspended),
		cmocka_unit_test(test_queueing_at_random),
		cmocka_unit_test(test_what_a_thread_keeps),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_several_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
