/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Streams: readers and writers that go page by page get more with each fault. A test counts how many pages each fault
 * of a walk brought.
 */
#include "world.h"

static struct world w;

/* 64 MiB: runs of 16 from memory and of 64 from a file. */
enum { PAGES = 2048, MOST = 64 };
static const struct world_options wide = {.pages = {PAGES}, .streams = true};

struct walk {
	unsigned faults;
	uint32_t run[PAGES]; /* pages that became resident with each fault */
};

/* Touches count pages from first on, by steps of step, and notes the runs. */
static void walk(struct walk *out, uint32_t first, uint32_t count, int step, bool write)
{
	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t page = (uint32_t)((int64_t)first + (int64_t)step * i);
		const uint64_t before = resident(&w);
		const unsigned faults = touch(&w, page, write);

		assert_true(faults <= 1);
		if (faults)
			out->run[out->faults++] = (uint32_t)(resident(&w) - before);
		read_page(&w, page);
	}
	world_check(&w);
}

static void assert_runs(const struct walk *walked, const uint32_t *expected, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (walked->run[i] != expected[i])
			fail_msg("fault %u brought %u pages, not %u", i, walked->run[i],
				 expected[i]);
	}
}
#define ASSERT_RUNS(walked, ...)                                                                   \
	assert_runs(walked, (const uint32_t[]){__VA_ARGS__},                                       \
		    ARRAY_SIZE(((const uint32_t[]){__VA_ARGS__})))

/* Written without streams, and moved out. */
static void away(uint32_t first, uint32_t count, enum contents contents)
{
	w.streams = false;
	write_pages(&w, first, count, contents);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	w.streams = true;
}

/* Between two walks of a test: what the first one left in the table is forgotten. */
static void forget_streams(void)
{
	memset(w.vm.stream, 0, sizeof(w.vm.stream));
}

/* --- loads --- */

static void test_first_touches_up(void **state)
{
	static struct walk up;

	(void)state;
	world_open(&w, &wide);
	walk(&up, 100, 200, 1, true);
	ASSERT_RUNS(&up, 1, 2, 4, 8, 16, 16, 16);
	assert_int_equal(load_relaxed(&w.vm.count.ahead), resident(&w) - up.faults);
	assert_int_equal(load_relaxed(&w.vm.count.first), up.faults);
	world_close(&w);
}

static void test_first_touches_down(void **state)
{
	static struct walk down;

	(void)state;
	world_open(&w, &wide);
	walk(&down, 1000, 200, -1, false);
	ASSERT_RUNS(&down, 1, 2, 4, 8, 16, 16, 16);
	world_close(&w);
}

static void test_loads_from_memory_up_and_down(void **state)
{
	static struct walk w1, w2;

	(void)state;
	world_open(&w, &wide);
	away(0, 512, TEXT);
	walk(&w1, 0, 256, 1, false);
	ASSERT_RUNS(&w1, 1, 2, 4, 8, 16, 16, 16);
	walk(&w2, 511, 256, -1, false);
	ASSERT_RUNS(&w2, 1, 2, 4, 8, 16, 16, 16);
	/* All of them clean: nobody has written. */
	for (uint32_t page = 0; page < 512; page++)
		assert_int_equal(word_state(word_of(&w, page)), PAGE_CLEAN);
	world_close(&w);
}

/* An access to a file costs as much as eight pages do, so eight come with the first one; a stream gets up to 64. */
static void test_loads_from_the_file_up(void **state)
{
	static struct walk up;

	(void)state;
	world_open(&w, &wide);
	away(0, 512, NOISE);
	assert_int_equal(write_all(&w), 512);
	walk(&up, 0, 512, 1, false);
	ASSERT_RUNS(&up, 8, 2, 4, 8, 16, 32, 64, 64);
	assert_true(fake_count(FAKE_FILE_READ) < 512 / 8);
	world_close(&w);
}

static void test_loads_from_the_file_down(void **state)
{
	static struct walk down;

	(void)state;
	world_open(&w, &wide);
	away(0, 512, NOISE);
	assert_int_equal(write_all(&w), 512);
	walk(&down, 511, 512, -1, false);
	ASSERT_RUNS(&down, 1, 2, 4, 8, 16, 32, 64, 64);
	assert_true(fake_count(FAKE_FILE_READ) < 512 / 8);
	world_close(&w);
}

/* A write takes the same runs, and the pages ahead are writable: they were loaded for a write. */
static void test_loads_for_writes_are_writable(void **state)
{
	static struct walk up;

	(void)state;
	world_open(&w, &wide);
	away(0, 128, TEXT);
	walk(&up, 0, 128, 1, true);
	ASSERT_RUNS(&up, 1, 2, 4, 8, 16);
	for (uint32_t page = 0; page < 128; page++)
		assert_int_equal(word_state(word_of(&w, page)), PAGE_DIRTY);
	assert_int_equal(compressed(&w), 0);
	world_close(&w);
}

/* --- where runs end --- */

static void test_runs_end_at_the_borders_of_the_region(void **state)
{
	static struct walk end;

	(void)state;
	world_open(&w, &wide);
	walk(&end, PAGES - 10, 10, 1, false);
	ASSERT_RUNS(&end, 1, 2, 4, 3);
	walk(&end, 9, 10, -1, false);
	ASSERT_RUNS(&end, 1, 2, 4, 3);
	assert_int_equal(resident(&w), 20);
	world_close(&w);
}

/* First touches end where there are contents, and the other way round. */
static void test_runs_are_of_one_kind(void **state)
{
	static struct walk mixed;

	(void)state;
	world_open(&w, &wide);
	away(12, 12, TEXT);
	walk(&mixed, 0, 20, 1, false);
	/* 0; 1 2; 3 to 6; 7 to 11, where 8 were wanted; then the contents */
	ASSERT_RUNS(&mixed, 1, 2, 4, 5, 12);
	assert_int_equal(word_state(word_of(&w, 24)), PAGE_NONE);
	world_close(&w);
}

static void test_runs_end_at_a_page_that_is_there_or_busy(void **state)
{
	static struct walk up;
	uint64_t x;

	(void)state;
	world_open(&w, &wide);
	touch(&w, 10, true);
	forget_streams();
	walk(&up, 0, 9, 1, false);
	ASSERT_RUNS(&up, 1, 2, 4, 3);
	/* Busy: the run stops before it, with what was charged for it given back. */
	x = page_lock_wait(&w.only->word[105]);
	w.streams = true;
	touch(&w, 100, false);
	touch(&w, 101, false);
	touch(&w, 103, false);
	assert_int_equal(word_state(word_of(&w, 104)), PAGE_DIRTY);
	assert_int_equal(word_state(word_of(&w, 106)), PAGE_NONE);
	page_unlock(&w.vm, w.only, 105, x, true);
	world_check(&w);
	world_close(&w);
}

/* Neighbours are a guess: they take what room there is, and never make any. */
static void test_runs_end_at_the_limit(void **state)
{
	const struct world_options tight = {.max = 64, .pages = {512}, .streams = true};

	(void)state;
	world_open(&w, &tight);
	w.streams = false;
	for (uint32_t page = 100; page < 162; page++)
		touch(&w, page, true);
	w.streams = true;
	touch(&w, 0, true);
	touch(&w, 1, true);
	assert_int_equal(resident(&w), 64);
	assert_int_equal(word_state(word_of(&w, 2)), PAGE_NONE);
	assert_int_equal(load_relaxed(&tenant_of(w.container)->evictions), 0);
	world_close(&w);
}

/* At most a 128th of the limit, but two. */
static void test_runs_are_small_under_a_small_limit(void **state)
{
	static const uint32_t limits[] = {64, 512, 1024, 2048, 4096};
	static const uint32_t most[] = {2, 4, 8, 16, 16};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(limits); i++) {
		const struct world_options limited = {
			.max = limits[i], .pages = {PAGES}, .streams = true};
		static struct walk up;
		uint32_t longest = 0;

		world_open(&w, &limited);
		walk(&up, 0, 60, 1, false);
		for (unsigned k = 0; k < up.faults; k++)
			longest = MAX(longest, up.run[k]);
		assert_int_equal(longest, most[i]);
		world_close(&w);
	}
}

/* --- what is a stream --- */

static void test_scattered_faults_bring_nothing_ahead(void **state)
{
	(void)state;
	world_open(&w, &wide);
	for (uint32_t i = 0; i < 500; i++)
		touch(&w, i * 773 % PAGES, i & 1);
	assert_int_equal(load_relaxed(&w.vm.count.ahead), 0);
	assert_int_equal(resident(&w), 500);
	world_close(&w);
}

/* Several readers at once, in both directions, each with a stream of its own. */
static void test_interleaved_streams(void **state)
{
	enum { READERS = 8, EACH = 128 };
	unsigned faults = 0;

	(void)state;
	world_open(&w, &wide);
	for (uint32_t i = 0; i < EACH; i++) {
		for (uint32_t k = 0; k < READERS; k++)
			faults += touch(&w, k & 1 ? (k + 1) * EACH - 1 - i : k * EACH + i, false);
	}
	assert_int_equal(resident(&w), READERS * EACH);
	/* 1 + 2 + 4 + 8, then 16 at a time: 12 faults each. */
	assert_in_range(faults, READERS * 11, READERS * 13);
	world_close(&w);
}

/* Random faults wash through the candidates; a stream that has proved itself stays. */
static void test_proved_stream_survives_random_faults(void **state)
{
	unsigned faults = 0;

	(void)state;
	world_open(&w, &wide);
	for (uint32_t i = 0; i < 200; i++) {
		faults += touch(&w, i, false);
		if (i >= 2 && i < 60) {
			for (uint32_t k = 0; k < 20; k++)
				touch(&w, 512 + (i * 20 + k) * 769 % 1536, false);
		}
	}
	assert_true(faults <= 20);
	world_close(&w);
}

/* A page that is there already does not end a stream: it is stepped over. */
static void test_stream_goes_on_behind_pages_that_are_there(void **state)
{
	static struct walk up;

	(void)state;
	world_open(&w, &wide);
	w.streams = false;
	for (uint32_t page = 15; page < 25; page++)
		touch(&w, page, true);
	w.streams = true;
	walk(&up, 0, 60, 1, false);
	ASSERT_RUNS(&up, 1, 2, 4, 8, 16, 16);
	world_close(&w);
}

/* --- writes over clean pages --- */

/* Pages made writable by each fault of a walk of writes. */
static void write_walk(struct walk *out, uint32_t first, uint32_t count, int step)
{
	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t page = (uint32_t)((int64_t)first + (int64_t)step * i);
		const uint64_t before = fake_units(FAKE_UNPROTECT);

		if (touch(&w, page, true))
			out->run[out->faults++] = (uint32_t)(fake_units(FAKE_UNPROTECT) - before);
		world_poke(&w, 0, page, 1, page);
	}
	world_check(&w);
}

static void clean_pages(uint32_t count)
{
	away(0, count, TEXT);
	w.streams = false;
	for (uint32_t page = 0; page < count; page++)
		read_page(&w, page);
	w.streams = true;
	forget_streams();
}

static void test_writes_over_clean_pages_up_and_down(void **state)
{
	static struct walk writes;

	(void)state;
	for (int step = -1; step <= 1; step += 2) {
		world_open(&w, &wide);
		clean_pages(256);
		write_walk(&writes, step > 0 ? 0 : 255, 256, step);
		ASSERT_RUNS(&writes, 1, 2, 4, 8, 16, 16, 16);
		assert_int_equal(compressed(&w), 0);
		for (uint32_t page = 0; page < 256; page++) {
			assert_int_equal(word_state(word_of(&w, page)), PAGE_DIRTY);
			assert_int_equal(word_rewritten(word_of(&w, page)), REWRITTEN_MAX);
			assert_false(fake_protected(at(&w, page)));
		}
		world_close(&w);
	}
}

/* Only clean pages follow, and only those in a row. */
static void test_write_runs_end_at_a_page_that_is_not_clean(void **state)
{
	(void)state;
	world_open(&w, &wide);
	clean_pages(64);
	assert_int_equal(world_discard(&w, 0, 5, 1, true), 0);
	touch(&w, 0, true);
	touch(&w, 1, true); /* 1 and 2 */
	touch(&w, 3, true); /* 3 and 4, where 4 were wanted */
	assert_true(fake_protected(at(&w, 6)));
	assert_int_equal(word_state(word_of(&w, 5)), PAGE_NONE);
	assert_int_equal(word_state(word_of(&w, 6)), PAGE_CLEAN);
	world_check(&w);
	world_close(&w);
}

/* Streams of loads and streams of writes are told apart: reading pages does not make the next ones writable. */
static void test_reads_are_no_stream_of_writes(void **state)
{
	(void)state;
	world_open(&w, &wide);
	away(0, 128, TEXT);
	for (uint32_t page = 0; page < 64; page++)
		read_page(&w, page);
	/* The first write after the reads is alone. */
	assert_int_equal(touch(&w, 64 - 1, true), 1);
	assert_int_equal(fake_units(FAKE_UNPROTECT), 1);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_touches_up),
		cmocka_unit_test(test_first_touches_down),
		cmocka_unit_test(test_loads_from_memory_up_and_down),
		cmocka_unit_test(test_loads_from_the_file_up),
		cmocka_unit_test(test_loads_from_the_file_down),
		cmocka_unit_test(test_loads_for_writes_are_writable),
		cmocka_unit_test(test_runs_end_at_the_borders_of_the_region),
		cmocka_unit_test(test_runs_are_of_one_kind),
		cmocka_unit_test(test_runs_end_at_a_page_that_is_there_or_busy),
		cmocka_unit_test(test_runs_end_at_the_limit),
		cmocka_unit_test(test_runs_are_small_under_a_small_limit),
		cmocka_unit_test(test_scattered_faults_bring_nothing_ahead),
		cmocka_unit_test(test_interleaved_streams),
		cmocka_unit_test(test_proved_stream_survives_random_faults),
		cmocka_unit_test(test_stream_goes_on_behind_pages_that_are_there),
		cmocka_unit_test(test_writes_over_clean_pages_up_and_down),
		cmocka_unit_test(test_write_runs_end_at_a_page_that_is_not_clean),
		cmocka_unit_test(test_reads_are_no_stream_of_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
