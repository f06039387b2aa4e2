/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pagein, one fault on a page that cannot be read back: nobody gets wrong bytes, the reader is told, and the pages beside it
 * are as good as before.
 */
#include "pagein.h"

#include "base/log.h"
#include "store/filestore.h"

/* --- what cannot be read back --- */

static void assert_poisoned(uint32_t page)
{
	w.lost[0][page] = true;
	read_page(&w, page);
	assert_true(word_of(&w, page) == PAGE_POISONED);
	assert_true(fake_poisoned(at(&w, page)));
	assert_false(fake_waiting(at(&w, page)));
}

/* A flipped bit anywhere in the object, header or packed bytes: refused, and the reader is told. */
static void test_checksum_mismatch_poisons(void **state)
{
	uint32_t page = 0;

	(void)state;
	world_open(&w, &plain);
	w.check_each = false;
	away(300, TEXT);
	for (size_t byte = 0; byte < sizeof(struct object) + 200; byte++) {
		((unsigned char *)object_of(page))[byte] ^= (unsigned char)(1u << (byte % 8));
		assert_poisoned(page);
		page++;
	}
	world_check(&w);
	assert_int_equal(load_relaxed(&w.vm.count.poisoned), page);
	assert_true(world_said("cannot be read back (EBADMSG)"));
	for (; page < 300; page++)
		read_page(&w, page);
	assert_int_equal(resident(&w), 300 - load_relaxed(&w.vm.count.poisoned));
	/* Discarding is the way back. */
	assert_int_equal(world_discard(&w, 0, 0, 300, true), 0);
	for (page = 0; page < 300; page++)
		read_page(&w, page);
	world_close(&w);
}

/* A good object of another page is as wrong as a broken one. */
static void test_object_of_another_page_poisons(void **state)
{
	uint64_t x, y;

	(void)state;
	world_open(&w, &plain);
	away(2, TEXT);
	x = word_of(&w, 0);
	y = word_of(&w, 1);
	store_relaxed(&w.only->word[0], y);
	store_relaxed(&w.only->word[1], x);
	w.lost[0][0] = w.lost[0][1] = true;
	assert_poisoned(0);
	assert_poisoned(1);
	assert_int_equal(compressed(&w), 0);
	world_close(&w);
}

static void store_in_file(uint32_t count)
{
	away(count, NOISE);
	assert_int_equal(write_all(&w), count);
}

/* The file's slot of a page in the fake. */
static unsigned char *slot_of(uint32_t page)
{
	size_t bytes;

	return fake_file(&bytes) +
	       (size_t)(word_location(word_of(&w, page)) >> FILE_UNITS_SHIFT) * w.store.unit;
}

static void test_flipped_bit_in_the_file_poisons(void **state)
{
	(void)state;
	world_open(&w, &plain);
	store_in_file(4);
	slot_of(0)[100] ^= 4;
	assert_poisoned(0);
	assert_int_equal(resident(&w), 0);
	/* The neighbours are as good as before. */
	for (uint32_t page = 1; page < 4; page++)
		read_page(&w, page);
	world_close(&w);
}

/* A read that ends early and says nothing is found by the checksum; one that says so by its errno. */
static void test_short_and_failed_reads_poison(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		world_open(&w, &plain);
		store_in_file(1);
		fake_fail(FAKE_FILE_READ, 1, i ? 1024 : 0, i == 1 ? 0 : -EIO);
		assert_poisoned(0);
		assert_int_equal(load_relaxed(&w.store.bytes), 0);
		assert_true(world_said(i == 1 ? "(EBADMSG)" : "(EIO)"));
		world_close(&w);
	}
}

/* Only the page that faulted is condemned: a neighbour may be readable later. */
static void test_unreadable_neighbour_is_left_alone(void **state)
{
	(void)state;
	world_open(&w, &plain);
	store_in_file(8);
	slot_of(3)[100] ^= 4;
	w.lost[0][3] = true;
	/* Reads around: pages 0 to 7, as far as they can be read. */
	read_page(&w, 0);
	assert_int_equal(state_of(2), PAGE_CLEAN);
	for (uint32_t page = 3; page < 8; page++)
		assert_int_equal(state_of(page), PAGE_ABSENT);
	assert_int_equal(resident(&w), 3);
	assert_int_equal(load_relaxed(&w.vm.count.poisoned), 0);
	/* The disk has a good day. */
	slot_of(3)[100] ^= 4;
	w.lost[0][3] = false;
	for (uint32_t page = 0; page < 8; page++)
		read_page(&w, page);
	world_close(&w);
}

/* A reader that goes downwards, and the lower neighbour cannot be read: the page itself comes all the same. */
static void test_run_downwards_that_breaks_before_its_target(void **state)
{
	(void)state;
	world_open(&w, &plain);
	store_in_file(60);
	w.streams = true;
	/* The first fault reads 50 to 57; the next ones go down. */
	read_page(&w, 50);
	slot_of(48)[100] ^= 4;
	w.lost[0][48] = true;
	read_page(&w, 49);
	assert_int_equal(state_of(48), PAGE_ABSENT);
	assert_int_equal(load_relaxed(&w.vm.count.poisoned), 0);
	assert_poisoned(48);
	read_page(&w, 47);
	world_close(&w);
}

static void poison_without_kernel(void *arg)
{
	(void)arg;
	w.vm.can_poison = false;
	touch(&w, 0, false);
}

/* Where the kernel has no UFFDIO_POISON the process ends, with the reason: it must not go on with wrong bytes. */
static void test_without_uffdio_poison_the_process_ends(void **state)
{
	struct child child;

	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	object_of(0)->packed[0] ^= 1;
	w.lost[0][0] = true;
	w.check_each = false;
	log_set_sink(NULL);
	run_child(&child, poison_without_kernel, NULL);
	assert_panicked(&child);
	assert_says(&child, "UFFDIO_POISON");
	world_discard(&w, 0, 0, 1, true);
	world_close(&w);
}

/* A thread that faulted before the page was poisoned, and is heard after: it must be woken to get its SIGBUS. */
static void test_late_fault_on_a_poisoned_page_is_woken(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	object_of(0)->packed[0] ^= 1;
	assert_poisoned(0);
	fake_wait(at(&w, 0));
	assert_int_equal(world_fault(&w, 0, ACCESS_READ), PAGEIN_DONE);
	assert_false(fake_waiting(at(&w, 0)));
	assert_true(word_of(&w, 0) == PAGE_POISONED);
	world_close(&w);
}

/* --- everything is to come in --- */

/* A page that is lost is told, and the others come all the same; also when it was lost before. */
static void test_bring_in_tells_of_lost_pages(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(4, TEXT);
	object_of(1)->packed[0] ^= 1;
	w.lost[0][1] = true;
	assert_int_equal(vm_bring_in(&w.vm, w.pager), -EIO);
	assert_int_equal(state_of(1), PAGE_POISONED);
	assert_int_equal(resident(&w), 3);
	assert_int_equal(vm_bring_in(&w.vm, w.pager), -EIO);
	world_close(&w);
}

/* A child would read zeroes where a page stayed out: a failed load is tried again, or at least told. */
static void test_bring_in_never_leaves_a_page_out_in_silence(void **state)
{
	static const int errors[] = {-ENOMEM, -EAGAIN};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
		int err;

		world_open(&w, &plain);
		away(4, TEXT);
		fake_fail(FAKE_COPY, 2, 0, errors[i]);
		err = vm_bring_in(&w.vm, w.pager);
		world_check(&w);
		if (!err)
			assert_int_equal(resident(&w), 4);
		world_close(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksum_mismatch_poisons),
		cmocka_unit_test(test_object_of_another_page_poisons),
		cmocka_unit_test(test_flipped_bit_in_the_file_poisons),
		cmocka_unit_test(test_short_and_failed_reads_poison),
		cmocka_unit_test(test_unreadable_neighbour_is_left_alone),
		cmocka_unit_test(test_run_downwards_that_breaks_before_its_target),
		cmocka_unit_test(test_without_uffdio_poison_the_process_ends),
		cmocka_unit_test(test_late_fault_on_a_poisoned_page_is_woken),
		cmocka_unit_test(test_bring_in_tells_of_lost_pages),
		cmocka_unit_test(test_bring_in_never_leaves_a_page_out_in_silence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
