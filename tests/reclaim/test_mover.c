/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The mover: pages leave by packets, and a packet that does not get to its end loses nothing. What a packet would do is changed
 * where it is traced, just before it runs: so it fails at every one of its commands, one after the other.
 */
#include "world.h"

static struct world w;

enum { PAGES = 64 };
static const struct world_options plain = {.pages = {PAGES}, .check_each = true};

/* --- packets as they come by --- */

static struct {
	unsigned packets; /* so far */
	unsigned commands;
	int packet, at; /* whose command at becomes none; -1: none does */
	uint64_t put_in;
	uint64_t words[4096];
	unsigned seen;
} trace;

static void on_packet(void *data, const uint64_t *words, size_t count)
{
	(void)data;
	for (size_t i = 0; i < count && trace.seen < ARRAY_SIZE(trace.words); i++)
		trace.words[trace.seen++] = words[i];
	if ((int)trace.packets == trace.packet && trace.at >= 0 && (size_t)trace.at < count)
		((uint64_t *)(uintptr_t)words)[trace.at] = trace.put_in;
	trace.packets++;
	trace.commands += (unsigned)count;
}

static void trace_from_here(int packet, int at, uint64_t put_in)
{
	memset(&trace, 0, sizeof(trace));
	trace.packet = packet;
	trace.at = at;
	trace.put_in = put_in;
	w.reclaim.movers.trace = on_packet;
}

static unsigned failures(void)
{
	return (unsigned)load_relaxed(&w.reclaim.movers.failures);
}

static void read_all(void)
{
	for (uint32_t page = 0; page < PAGES; page++)
		read_page(&w, page);
}

/* --- what a packet says --- */

static unsigned count_of(uint32_t offset, uint32_t value)
{
	const uint64_t write = (uint64_t)CMDQ_OP_WRITE << 56 | (uint64_t)offset << 32;
	unsigned n = 0;

	for (unsigned i = 0; i < trace.seen; i++)
		n += trace.words[i] == (write | value);
	return n;
}

/* A job: each of its pages named once and packed, then one drop; to the file: gathered, one write, turned over. */
static void test_what_packets_say(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, PAGES, NOISE);
	trace_from_here(-1, -1, 0);
	evict(&w, PAGES);
	assert_int_equal(count_of(MOVER_COMMAND, MOVER_PACK), PAGES);
	assert_int_equal(count_of(MOVER_COMMAND, MOVER_DROP), 1);
	assert_int_equal(count_of(MOVER_COUNT, PAGES), 1);
	for (uint32_t page = 0; page < PAGES; page++)
		assert_int_equal(count_of(MOVER_PAGE, (uint32_t)page_number(w.only, page)), 1);
	assert_int_equal(failures(), 0);
	assert_int_equal(load_relaxed(&w.reclaim.movers.packets), trace.packets);
	trace_from_here(-1, -1, 0);
	assert_int_equal(store_open(&w.store), 0);
	store_relaxed(&w.vm.memory_share, 0);
	assert_int_equal(writeback_once(&w.reclaim), PAGES);
	assert_int_equal(trace.packets, 2);
	assert_int_equal(count_of(MOVER_COMMAND, MOVER_GATHER), PAGES);
	assert_int_equal(count_of(MOVER_COMMAND, MOVER_WRITE), 1);
	assert_int_equal(count_of(MOVER_COMMAND, MOVER_TURN), 1);
	read_all();
	world_close(&w);
}

/* --- failures --- */

/* A word that is no command; a command that the mover has not; a register that it has not. */
static const uint64_t bad[] = {0xff00000000000000, 0x0400000800000063, 0x0400010000000000};

/* Every command of every packet of a job. The pages that it did not get to are dirty, as they were. */
static void test_a_job_that_fails_anywhere(void **state)
{
	unsigned packets, at = 0;

	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, PAGES, TEXT);
	trace_from_here(-1, -1, 0);
	evict(&w, PAGES);
	packets = trace.packets;
	assert_true(packets > 2);
	for (unsigned packet = 0; packet < packets; packet++) {
		for (at = 0; at < 40; at++) {
			const unsigned before = failures();

			write_pages(&w, 0, PAGES, at % 2 ? TEXT : NOISE);
			trace_from_here((int)packet, (int)at, bad[at % ARRAY_SIZE(bad)]);
			(void)reclaim_once(&w.reclaim, w.pager);
			world_check(&w);
			/* Behind its end there was nothing to break. */
			if (failures() == before)
				break;
			trace_from_here(-1, -1, 0);
			read_all();
			evict_all(&w);
			assert_int_equal(resident(&w), 0);
		}
		assert_true(at >= 4);
		trace_from_here(-1, -1, 0);
		read_all();
	}
	world_close(&w);
}

/* The same for the store, in the packet that hands pages over, or that turns them over: nothing is left behind there, the pages stay
 * compressed, and the next attempt has them. Returns the commands of that packet. */
static unsigned writeback_fails_in(int packet)
{
	unsigned at;

	world_open(&w, &plain);
	assert_int_equal(store_open(&w.store), 0);
	for (at = 0;; at++) {
		const unsigned before = failures();
		int n;

		write_pages(&w, 0, PAGES, NOISE);
		evict_all(&w);
		assert_int_equal(resident(&w), 0);
		assert_int_equal(load_relaxed(&w.store.bytes), 0);
		trace_from_here(packet, (int)at, bad[at % ARRAY_SIZE(bad)]);
		store_relaxed(&w.vm.memory_share, 0);
		n = writeback_once(&w.reclaim);
		store_relaxed(&w.vm.memory_share, UINT64_MAX);
		world_check(&w);
		if (failures() == before)
			break;
		/* Behind the last command everything was done: the end of the packet is no page's. */
		if (load_relaxed(&w.store.bytes))
			assert_int_equal(n, PAGES);
		else
			assert_true(n < 0);
		assert_int_equal(load_relaxed(&w.container->swap), load_relaxed(&w.store.bytes));
		store_relaxed(&w.reclaim.retry_ns, 0);
		trace_from_here(-1, -1, 0);
		read_all();
	}
	world_close(&w);
	return at;
}

static void test_a_writeback_that_fails_anywhere(void **state)
{
	(void)state;
	/* 64 pages, two commands each, and the first one's high half; WRITE; two for the end. */
	assert_int_equal(writeback_fails_in(0), 2 * PAGES + 1 + 1 + 2);
	/* Which batch; TURN; two for the end. */
	assert_int_equal(writeback_fails_in(1), 2 + 2);
}

/* The disk fails in the middle of a packet: STATUS says why, and what the caller is told is that. */
static void test_the_write_fails(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, PAGES, NOISE);
	evict_all(&w);
	assert_int_equal(store_open(&w.store), 0);
	store_relaxed(&w.vm.memory_share, 0);
	fake_fail(FAKE_FILE_WRITE, 1, 4096, -EIO);
	assert_int_equal(writeback_once(&w.reclaim), -EIO);
	assert_int_equal(failures(), 1);
	assert_int_equal(load_relaxed(&w.store.bytes), 0);
	world_check(&w);
	assert_int_equal(writeback_once(&w.reclaim), PAGES);
	read_all();
	world_close(&w);
}

/* No frame for a copy: that page stays, and the packet goes on with the next. */
static void test_no_room_for_copies(void **state)
{
	const struct world_options tight = {
		.pages = {PAGES}, .check_each = true, .free_frames = 40};

	(void)state;
	world_open(&w, &tight);
	write_pages(&w, 0, PAGES, NOISE);
	(void)reclaim_once(&w.reclaim, w.pager);
	assert_int_equal(failures(), 0);
	assert_true(resident(&w) > 0 && resident(&w) < PAGES);
	read_all();
	world_close(&w);
}

/* All channels are taken: who comes then works on nothing, and the job goes on when one is free. */
static void test_no_channel(void **state)
{
	struct mover *mover[MOVERS_MAX];
	unsigned n = 0, dropped = 0;

	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, PAGES, TEXT);
	while ((mover[n] = mover_take(&w.reclaim.movers, w.pager)))
		n++;
	assert_int_equal(n, w.reclaim.movers.count);
	assert_true(job_fill(&w.reclaim, w.container));
	assert_int_equal(job_work(&w.reclaim, w.pager, JOB_MAX, &dropped), 0);
	mover_give(&w.reclaim.movers, mover[--n]);
	assert_int_equal(job_work(&w.reclaim, w.pager, JOB_MAX, &dropped), PAGES);
	assert_int_equal(dropped, PAGES);
	while (n)
		mover_give(&w.reclaim.movers, mover[--n]);
	read_all();
	world_close(&w);
}

/* --- memory for packets --- */

/* Every allocation of a start fails, one after the other: -ENOMEM, nothing is left charged. */
static void test_allocations_of_the_start(void **state)
{
	unsigned n;

	(void)state;
	world_open(&w, &plain);
	reclaim_destroy(&w.reclaim);
	assert_int_equal(container_charged(w.container), 0);
	for (n = 1;; n++) {
		int err;

		fake_fail(FAKE_ALLOC, n, 0, -ENOMEM);
		err = reclaim_init(&w.reclaim, &w.vm, w.background);
		if (fake_calm()) {
			assert_int_equal(err, 0);
			break;
		}
		assert_int_equal(err, -ENOMEM);
		reclaim_destroy(&w.reclaim);
		assert_int_equal(container_charged(w.container), 0);
	}
	assert_true(n > 2 * w.reclaim.movers.count);
	assert_int_equal(container_charged(w.container), w.packets);
	world_close(&w);
}

/* The limit has no room for them: the same. */
static void test_packets_are_charged(void **state)
{
	struct weir_container *a;
	struct cmdq_buffer_ops ops;
	struct cmdq_buffer buffer;

	(void)state;
	world_open(&w, &plain);
	assert_int_equal(w.packets, w.reclaim.movers.count * PAGE_SIZE);
	reclaim_destroy(&w.reclaim);
	w.tree.ops = (struct control_ops){0};
	container_set_max(w.container, w.packets - 1);
	assert_int_equal(reclaim_init(&w.reclaim, &w.vm, w.background), -ENOMEM);
	reclaim_destroy(&w.reclaim);
	assert_int_equal(container_charged(w.container), 0);
	container_set_max(w.container, MIB(64));
	assert_int_equal(reclaim_init(&w.reclaim, &w.vm, w.background), 0);
	/* A client of a tenant: the tenant pays, and its limit holds. */
	assert_int_equal(weir_container_create(w.container, "a", &a), 0);
	ops = mover_buffers(w.container);
	assert_int_equal(ops.alloc(ops.data, a, 8192, &buffer), 0);
	assert_int_equal(container_charged(a), 8192);
	assert_int_equal(container_charged(w.container), 8192 + w.packets);
	ops.free(ops.data, a, &buffer);
	assert_int_equal(container_charged(a), 0);
	container_set_max(a, 4096);
	assert_int_equal(ops.alloc(ops.data, a, 8192, &buffer), -ENOMEM);
	assert_int_equal(container_charged(a), 0);
	fake_fail(FAKE_ALLOC, 1, 0, -ENOMEM);
	assert_int_equal(ops.alloc(ops.data, a, 4096, &buffer), -ENOMEM);
	assert_int_equal(container_charged(a), 0);
	assert_int_equal(weir_container_delete(a), 0);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_packets_say),
		cmocka_unit_test(test_a_job_that_fails_anywhere),
		cmocka_unit_test(test_a_writeback_that_fails_anywhere),
		cmocka_unit_test(test_the_write_fails),
		cmocka_unit_test(test_no_room_for_copies),
		cmocka_unit_test(test_no_channel),
		cmocka_unit_test(test_allocations_of_the_start),
		cmocka_unit_test(test_packets_are_charged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
