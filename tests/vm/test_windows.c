/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The system gives no window on a copy, for a while: the page is neither lost nor condemned, who waits for it is woken to try
 * again, and what wanted to move the copy leaves it where it is.
 *
 * The linker puts the functions below in place of the store's.
 */
#include "world.h"

static struct world w;
static const struct world_options plain = {.pages = {64}, .check_each = true};
static unsigned refusals; /* so many calls from now */
static unsigned refused;

struct object *__real_compressed_object(const struct compressed *store, slot_t slot);
struct object *__wrap_compressed_object(const struct compressed *store, slot_t slot);

int __real_compressed_copy(struct compressed *store, slot_t from, slot_t *to);
int __wrap_compressed_copy(struct compressed *store, slot_t from, slot_t *to);

static bool refuse(void)
{
	if (!refusals)
		return false;
	refusals--;
	refused++;
	return true;
}

struct object *__wrap_compressed_object(const struct compressed *store, slot_t slot)
{
	return refuse() ? NULL : __real_compressed_object(store, slot);
}

int __wrap_compressed_copy(struct compressed *store, slot_t from, slot_t *to)
{
	return refuse() ? -ENOMEM : __real_compressed_copy(store, from, to);
}

static void away(uint32_t count)
{
	refused = refusals = 0;
	world_open(&w, &plain);
	write_pages(&w, 0, count, TEXT);
	assert_int_equal(evict_all(&w), count);
}

static void test_a_fault_tries_again(void **state)
{
	(void)state;
	away(8);
	refusals = 3;
	assert_int_equal(touch(&w, 5, false), 4);
	assert_int_equal(refused, 3);
	read_page(&w, 5);
	assert_int_equal(load_relaxed(&w.vm.count.poisoned), 0);
	assert_true(world_said("no window"));
	refusals = 1;
	assert_int_equal(touch(&w, 6, true), 2);
	read_page(&w, 6);
	world_close(&w);
}

/* The middle of a run that is read ahead. */
static void test_a_run_goes_as_far_as_it_can(void **state)
{
	/* The world's own look at the copies must not meet a refusal that was not used up. */
	static const struct world_options streams = {.pages = {64}, .streams = true};

	(void)state;
	world_open(&w, &streams);
	write_pages(&w, 0, 32, TEXT);
	/* And what was read ahead. */
	assert_true(evict_all(&w) >= 32);
	for (uint32_t page = 0; page < 32; page++) {
		refusals = page % 3 == 2;
		touch(&w, page, false);
		refusals = 0;
		read_page(&w, page);
		world_check(&w);
	}
	assert_true(refused > 0);
	assert_int_equal(load_relaxed(&w.vm.count.poisoned), 0);
	world_close(&w);
}

/* What is not to be reached is not written to the file, and stays in memory until it is. */
static void test_writeback_passes_over_it(void **state)
{
	(void)state;
	away(8);
	refusals = 1000;
	world_pass(&w, 4);
	assert_int_equal(writeback_once(&w.reclaim), 0);
	assert_true(refused >= 8);
	refusals = 0;
	assert_int_equal(write_all(&w), 8);
	for (uint32_t page = 0; page < 8; page++)
		read_page(&w, page);
	world_close(&w);
}

static void test_a_copy_is_moved_later(void **state)
{
	slot_t slot;

	(void)state;
	away(8);
	slot = word_location(word_of(&w, 3));
	refusals = 1;
	relocate_object(&w.reclaim, page_number(w.only, 3), slot);
	assert_int_equal(refused, 1);
	assert_int_equal(word_location(word_of(&w, 3)), slot);
	relocate_object(&w.reclaim, page_number(w.only, 3), slot);
	assert_int_not_equal(word_location(word_of(&w, 3)), slot);
	read_page(&w, 3);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_fault_tries_again),
		cmocka_unit_test(test_a_run_goes_as_far_as_it_can),
		cmocka_unit_test(test_writeback_passes_over_it),
		cmocka_unit_test(test_a_copy_is_moved_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
