/* SPDX-License-Identifier: BSD-2-Clause */
/* region_move and region_protect: contents go along whatever a page is, nothing stays behind, and nobody reads what is protected. */
#include "kinds.h"

#include "os/mem.h"

static struct world w;

enum { CHUNK = 1 << CHUNK_SHIFT, PAGES = 2 * CHUNK };
static const struct world_options plain = {.pages = {PAGES}, .check_each = true};

/* Moves, and so does what must be read. */
static void move(uint32_t from, uint32_t to, uint32_t count)
{
	assert_int_equal(region_move(&w.vm, w.background, w.only, from, to, count), 0);
	for (uint32_t i = 0; i < count; i++) {
		memcpy(content_of(&w, 0, to + i), content_of(&w, 0, from + i), PAGE_SIZE);
		memset(content_of(&w, 0, from + i), 0, PAGE_SIZE);
		w.lost[0][to + i] = w.lost[0][from + i];
		w.lost[0][from + i] = false;
		assert_true(word_of(&w, from + i) == 0);
		assert_false(fake_present(at(&w, from + i)));
	}
	world_check(&w);
}

static void read_all(uint32_t first, uint32_t count)
{
	for (uint32_t page = first; page < first + count; page++)
		read_page(&w, page);
}

static void test_every_kind_of_page_moves(void **state)
{
	static const uint32_t places[] = {KINDS, 40, CHUNK - 3, CHUNK, PAGES - KINDS};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		world_open(&w, &plain);
		one_of_each(&w);
		move(0, places[i], KINDS);
		/* And back, downwards, once all of them have been there. */
		move(places[i], 0, KINDS);
		assert_int_equal(word_state(word_of(&w, NEVER)), PAGE_NONE);
		assert_int_equal(word_state(word_of(&w, POISONED)), PAGE_POISONED);
		/* A copy in memory goes along, and what is in the file comes. */
		assert_int_equal(word_kind(word_of(&w, MEMORY)), COPY_MEMORY);
		assert_int_equal(word_kind(word_of(&w, FILLED_AWAY)), COPY_FILLED);
		assert_int_equal(word_state(word_of(&w, STORED)), PAGE_DIRTY);
		read_all(0, KINDS);
		read_all(places[i], KINDS);
		world_close(&w);
	}
}

/* Whatever was there before. */
static void test_the_target_is_emptied(void **state)
{
	(void)state;
	world_open(&w, &plain);
	one_of_each(&w);
	write_pages(&w, 100, KINDS, NOISE);
	/* Over the pages of each kind, too. */
	move(100, 0, KINDS);
	w.lost[0][POISONED] = false;
	read_all(0, KINDS);
	read_all(100, KINDS);
	world_close(&w);
}

static void test_a_moved_copy_can_be_written_out(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, RUN_MAX, TEXT);
	evict_all(&w);
	move(0, CHUNK, RUN_MAX);
	assert_true(write_all(&w) > 0);
	assert_int_equal(word_kind(word_of(&w, CHUNK)), COPY_FILE);
	read_all(CHUNK, RUN_MAX);
	evict_all(&w);
	move(CHUNK, 0, RUN_MAX);
	read_all(0, RUN_MAX);
	world_close(&w);
}

/* A copy that has rotted is SIGBUS where it moves to, never something else. */
static void test_a_damaged_copy(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 4, TEXT);
	evict_all(&w);
	compressed_object(&w.memory, word_location(word_of(&w, 2)))->packed[3] ^= 1;
	w.lost[0][2] = true;
	move(0, 8, 4);
	assert_int_equal(word_state(word_of(&w, 10)), PAGE_POISONED);
	assert_true(world_said("cannot be read back"));
	read_all(8, 4);
	world_close(&w);
}

static void test_protected_pages_are_not_read_in_place(void **state)
{
	int fd = mem_self_open();

	(void)state;
	assert_true(fd >= 0);
	world_open(&w, &plain);
	assert_int_equal(region_track(w.only, true), 0);
	write_pages(&w, 0, 70, TEXT);
	region_protect(&w.vm, w.only, 3, 65, false);
	for (uint32_t page = 0; page < 70; page++)
		assert_int_equal(page_readable(w.only, page), page < 3 || page >= 68);
	/* Without another way to read them they stay. */
	assert_int_equal(evict_all(&w), 5);
	assert_int_equal(resident(&w), 65);
	/* By /proc/self/mem they go. */
	w.vm.self_mem = fd;
	assert_int_equal(evict_all(&w), 65);
	region_protect(&w.vm, w.only, 0, 70, true);
	read_all(0, 70);
	w.vm.self_mem = -1;
	world_close(&w);
	mem_file_close(fd);
}

/* A stream does not go where nobody may: what came there would be a page of the next mapping. */
static void test_streams_end_at_protected_pages(void **state)
{
	const struct world_options streams = {
		.pages = {PAGES}, .check_each = true, .streams = true};

	(void)state;
	world_open(&w, &streams);
	assert_int_equal(region_track(w.only, false), 0);
	region_protect(&w.vm, w.only, 0, 100, true);
	for (uint32_t page = 0; page < 100; page++)
		read_page(&w, page);
	for (uint32_t page = 100; page < PAGES; page++)
		assert_true(word_of(&w, page) == 0);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind_of_page_moves),
		cmocka_unit_test(test_the_target_is_emptied),
		cmocka_unit_test(test_a_moved_copy_can_be_written_out),
		cmocka_unit_test(test_a_damaged_copy),
		cmocka_unit_test(test_protected_pages_are_not_read_in_place),
		cmocka_unit_test(test_streams_end_at_protected_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
