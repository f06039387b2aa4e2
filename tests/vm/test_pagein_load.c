/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pagein, one fault that goes well: what the page reads as, what becomes of its copy, what is charged; and all pages at
 * once, as a fork wants them.
 */
#include "pagein.h"

/* --- what a page reads as --- */

static void test_first_touch_reads_zeroes(void **state)
{
	(void)state;
	world_open(&w, &plain);
	for (uint32_t page = 0; page < 512; page += 37) {
		touch(&w, page, page & 1);
		read_page(&w, page);
		for (size_t i = 0; i < PAGE_SIZE; i++)
			assert_int_equal(at(&w, page)[i], 0);
	}
	assert_int_equal(load_relaxed(&w.vm.count.first), 14);
	assert_int_equal(load_relaxed(&w.vm.count.compressed) + load_relaxed(&w.vm.count.stored),
			 0);
	world_close(&w);
}

/* Read back, and away again: nothing is packed, nothing is protected, the copy is the same. */
static void test_second_eviction_of_a_page_that_was_only_read_costs_nothing(void **state)
{
	uint64_t copy[16], packed, protect_calls, objects;

	(void)state;
	world_open(&w, &plain);
	away(16, TEXT);
	packed = load_relaxed(&w.vm.count.packed_in);
	protect_calls = fake_count(FAKE_PROTECT);
	objects = compressed(&w);
	assert_int_equal(packed, 16 * PAGE_SIZE);
	for (unsigned round = 0; round < 3; round++) {
		for (uint32_t page = 0; page < 16; page++) {
			copy[page] = word_copy_of(word_of(&w, page));
			read_page(&w, page);
			assert_int_equal(state_of(page), PAGE_CLEAN);
		}
		assert_int_equal(evict_all(&w), 16);
		for (uint32_t page = 0; page < 16; page++)
			assert_true(word_copy_of(word_of(&w, page)) == copy[page]);
	}
	assert_int_equal(load_relaxed(&w.vm.count.packed_in), packed);
	assert_int_equal(fake_count(FAKE_PROTECT), protect_calls);
	assert_int_equal(compressed(&w), objects);
	assert_int_equal(load_relaxed(&w.vm.count.compressed), 3 * 16);
	world_close(&w);
}

/* The copy of a page that is written is let go at once, and what was written is what comes back. */
static void test_write_fault_on_a_clean_page_frees_its_copy(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(4, TEXT);
	for (uint32_t page = 0; page < 4; page++)
		read_page(&w, page);
	for (uint32_t page = 0; page < 4; page++) {
		uint64_t soft = load_relaxed(&w.vm.count.soft),
			 objects = load_relaxed(&w.memory.objects);

		world_poke(&w, 0, page, 3, page);
		assert_int_equal(load_relaxed(&w.memory.objects), objects - 1);
		assert_int_equal(load_relaxed(&w.vm.count.soft), soft + 1);
		assert_true(word_of(&w, page) & 3ull << REWRITTEN_SHIFT);
	}
	assert_int_equal(compressed(&w), 0);
	assert_int_equal(evict_all(&w), 4);
	for (uint32_t page = 0; page < 4; page++)
		read_page(&w, page);
	world_close(&w);
}

/* A copy larger than half a page is not worth its memory beside the page. */
static void test_large_copies_are_not_kept(void **state)
{
	static const enum contents large[] = {NOISE, HALF_NOISE};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(large); i++) {
		world_open(&w, &plain);
		away(1, large[i]);
		assert_true(compressed(&w) > PAGE_SIZE / 2);
		read_page(&w, 0);
		assert_int_equal(state_of(0), PAGE_GUARDED);
		assert_int_equal(compressed(&w), 0);
		world_close(&w);
	}
}

/* A page of one word costs no memory at all, zeroes among them. */
static void test_same_filled_pages_are_a_word(void **state)
{
	static const uint32_t words[] = {0, 1, 0xffffffff, 0xa5a5a5a5, 0x12345678};
	char page[4096];

	(void)state;
	world_open(&w, &plain);
	for (uint32_t i = 0; i < ARRAY_SIZE(words); i++) {
		fill_word(page, words[i]);
		world_write(&w, 0, i, page);
	}
	/* Nearly: the last byte differs. */
	page[4095] ^= 1;
	world_write(&w, 0, ARRAY_SIZE(words), page);
	assert_int_equal(evict_all(&w), ARRAY_SIZE(words) + 1);
	assert_int_equal(load_relaxed(&w.vm.count.same_filled), ARRAY_SIZE(words));
	assert_int_equal(load_relaxed(&w.memory.objects), 1);
	for (uint32_t i = 0; i < ARRAY_SIZE(words); i++) {
		assert_int_equal(word_kind(word_of(&w, i)), COPY_FILLED);
		assert_int_equal(word_location(word_of(&w, i)), words[i]);
	}
	for (uint32_t i = 0; i <= ARRAY_SIZE(words); i++) {
		read_page(&w, i);
		assert_int_equal(state_of(i), PAGE_CLEAN);
	}
	world_poke(&w, 0, 1, 7, 7);
	evict_all(&w);
	assert_int_equal(word_kind(word_of(&w, 1)), COPY_MEMORY);
	for (uint32_t i = 0; i <= ARRAY_SIZE(words); i++)
		read_page(&w, i);
	world_close(&w);
}

/* What is in the file comes back from it, clean, with its copy kept there; a write frees that. */
static void test_load_from_the_file(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(8, NOISE);
	assert_int_equal(write_all(&w), 8);
	assert_int_equal(compressed(&w), 0);
	for (uint32_t page = 0; page < 8; page++)
		read_page(&w, page);
	assert_int_equal(load_relaxed(&w.vm.count.stored) + load_relaxed(&w.vm.count.ahead), 8);
	for (uint32_t page = 0; page < 8; page++) {
		assert_int_equal(state_of(page), PAGE_CLEAN);
		assert_int_equal(word_kind(word_of(&w, page)), COPY_FILE);
	}
	assert_int_equal(evict_all(&w), 8);
	assert_int_equal(load_relaxed(&w.vm.count.packed_in), 8 * PAGE_SIZE);
	world_poke(&w, 0, 0, 0, 1);
	assert_int_equal(word_kind(word_of(&w, 0)), COPY_NONE);
	world_close(&w);
}

/* --- charges --- */

/* At the limit a fault makes room first, and the limit holds but for the copies that a job makes. */
static void test_fault_at_the_limit_makes_room(void **state)
{
	const struct world_options tight = {.max = 64, .pages = {512}};

	(void)state;
	world_open(&w, &tight);
	write_pages(&w, 0, 40, TEXT);
	write_pages(&w, 40, 472, FILLED);
	for (uint32_t page = 0; page < 512; page++)
		read_page(&w, page);
	world_check(&w);
	assert_int_equal(load_relaxed(&w.container->count[COUNT_OVER_MAX]), 0);
	assert_true(load_relaxed(&w.container->peak) <= (64 + 8) * (int64_t)PAGE_SIZE);
	assert_true(load_relaxed(&tenant_of(w.container)->evictions) >= 512 - 64);
	world_close(&w);
}

/* With nothing to be had it goes over, counted: over the limit is better than lost. */
static void test_fault_goes_over_the_limit_for_want_of_room(void **state)
{
	const struct world_options tight = {.max = 64, .pages = {512}, .check_each = true};

	(void)state;
	world_open(&w, &tight);
	add_relaxed(&w.vm.hold, 1);
	write_pages(&w, 0, 100, TEXT);
	assert_int_equal(resident(&w), 100);
	assert_int_equal(load_relaxed(&w.container->count[COUNT_OVER_MAX]), 36);
	assert_int_equal(fake_count(FAKE_DROP), 0);
	sub_relaxed(&w.vm.hold, 1);
	world_close(&w);
}

/* --- reading is handed over before a load that may block --- */

static void count_blocking(void *data)
{
	/* Before the read, not after. */
	assert_int_equal(fake_count(FAKE_FILE_READ), *(unsigned *)data);
	++*(unsigned *)data;
}

static void test_before_block_is_called_for_file_loads_only(void **state)
{
	unsigned blocked = 0;

	(void)state;
	world_open(&w, &plain);
	w.pager->before_block = count_blocking;
	w.pager->data = &blocked;
	away(2, NOISE);
	read_page(&w, 0);
	world_poke(&w, 0, 1, 0, 1);
	evict_all(&w);
	assert_int_equal(blocked, 0);
	write_all(&w);
	read_page(&w, 0);
	assert_int_equal(blocked, 1);
	w.pager->before_block = NULL;
	world_close(&w);
}

/* --- everything comes in --- */

/* Pages in memory, as a word, in the file, and those never touched; over the limit, and clean where they can be. */
static void test_bring_in_loads_every_absent_page(void **state)
{
	const struct world_options two = {.max = 64, .pages = {2048, 600}};

	(void)state;
	world_open(&w, &two);
	write_pages(&w, 0, 40, NOISE);
	evict_all(&w);
	write_all(&w);
	write_pages(&w, 1000, 40, TEXT);
	write_pages(&w, 1040, 20, FILLED);
	world_poke(&w, 1, 599, 0, 1);
	evict_all(&w);
	assert_int_equal(vm_bring_in(&w.vm, w.pager), 0);
	world_check(&w);
	assert_int_equal(resident(&w), 101);
	assert_int_equal(load_relaxed(&w.vm.count.fork_loaded), 101);
	for (uint32_t page = 0; page < 2048; page++) {
		bool there = page < 40 || (page >= 1000 && page < 1060);

		assert_true(word_resident(word_of(&w, page)) == there);
	}
	assert_true(word_resident(word_at(&w, 1, 599)));
	assert_int_equal(state_of(1000), PAGE_CLEAN);
	/* Again: nothing left to do. */
	assert_int_equal(vm_bring_in(&w.vm, w.pager), 0);
	assert_int_equal(load_relaxed(&w.vm.count.fork_loaded), 101);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_touch_reads_zeroes),
		cmocka_unit_test(test_second_eviction_of_a_page_that_was_only_read_costs_nothing),
		cmocka_unit_test(test_write_fault_on_a_clean_page_frees_its_copy),
		cmocka_unit_test(test_large_copies_are_not_kept),
		cmocka_unit_test(test_same_filled_pages_are_a_word),
		cmocka_unit_test(test_load_from_the_file),
		cmocka_unit_test(test_fault_at_the_limit_makes_room),
		cmocka_unit_test(test_fault_goes_over_the_limit_for_want_of_room),
		cmocka_unit_test(test_before_block_is_called_for_file_loads_only),
		cmocka_unit_test(test_bring_in_loads_every_absent_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
