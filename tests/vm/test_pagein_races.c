/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pagein, one fault that is not alone: another handler is at the page, the program has dropped or filled it behind weir's
 * back, or the kernel says no. The thread is woken or parked, and nothing is as if the page had been loaded.
 */
#include "pagein.h"

/* --- busy, there already, gone --- */

/* Somebody else has loaded it: the thread is woken, and nothing changes. */
static void test_fault_on_a_page_that_is_there_wakes_only(void **state)
{
	uint64_t x, copies;

	(void)state;
	world_open(&w, &plain);
	away(2, TEXT);
	write_pages(&w, 1, 1, TEXT);
	read_page(&w, 0);
	for (uint32_t page = 0; page < 2; page++) {
		x = word_of(&w, page);
		copies = fake_count(FAKE_COPY);
		fake_wait(at(&w, page));
		assert_int_equal(world_fault(&w, page, ACCESS_READ), PAGEIN_DONE);
		assert_false(fake_waiting(at(&w, page)));
		fake_wait(at(&w, page));
		assert_int_equal(world_fault(&w, page, ACCESS_WRITE), PAGEIN_DONE);
		assert_false(fake_waiting(at(&w, page)));
		assert_true(word_of(&w, page) == x);
		assert_int_equal(fake_count(FAKE_COPY), copies);
	}
	assert_int_equal(load_relaxed(&w.vm.count.vanished), 0);
	world_close(&w);
}

struct meddling {
	uint32_t page;
	uint64_t word;
	bool done;
};

/* For control_ops.make_room: another handler loads the page while this one makes room. */
static enum room load_meanwhile(void *data, struct weir_container *level, uint64_t bytes)
{
	struct meddling *m = data;

	(void)level;
	(void)bytes;
	container_set_max(w.container, MIB(64));
	assert_int_equal(world_fault(&w, m->page, ACCESS_READ), PAGEIN_DONE);
	m->done = true;
	return ROOM_MADE;
}

static enum room lock_meanwhile(void *data, struct weir_container *level, uint64_t bytes)
{
	struct meddling *m = data;

	(void)level;
	(void)bytes;
	container_set_max(w.container, MIB(64));
	m->word = page_lock_wait(&w.only->word[m->page]);
	m->done = true;
	return ROOM_MADE;
}

/* The charge for a page that somebody else loaded meanwhile is given back. */
static void test_page_loaded_while_room_is_made(void **state)
{
	struct meddling m = {.page = 0};

	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	w.tree.ops = (struct control_ops){.make_room = load_meanwhile, .data = &m};
	container_set_max(w.container, 0);
	read_page(&w, 0);
	assert_true(m.done);
	assert_int_equal(resident(&w), 1);
	assert_int_equal(load_relaxed(&w.vm.count.soft), 1);
	world_close(&w);
}

/* A page that got busy meanwhile parks the fault, uncharged. */
static void test_page_locked_while_room_is_made(void **state)
{
	struct meddling m = {.page = 0};

	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	w.tree.ops = (struct control_ops){.make_room = lock_meanwhile, .data = &m};
	container_set_max(w.container, 0);
	assert_int_equal(fake_touch(at(&w, 0), false), TOUCH_MISSING);
	assert_int_equal(world_fault(&w, 0, ACCESS_READ), PAGEIN_PARKED);
	assert_true(m.done);
	assert_int_equal(resident(&w), 0);
	page_unlock(&w.vm, w.only, 0, m.word, true);
	assert_false(fake_waiting(at(&w, 0)));
	read_page(&w, 0);
	world_close(&w);
}

/* Meanwhile, for the calls of a load: a second thread faults on the same page. */
static void fault_meanwhile(void *data)
{
	struct meddling *m = data;

	fake_wait(at(&w, m->page));
	assert_int_equal(world_fault(&w, m->page, ACCESS_READ), PAGEIN_PARKED);
	m->done = true;
}

/* A page is busy all through its load, be it from memory or from the file; who comes meanwhile is woken by it. */
static void test_second_fault_during_a_load_parks_and_is_woken(void **state)
{
	struct meddling m = {.page = 0};

	(void)state;
	world_open(&w, &plain);
	away(1, NOISE);
	fake_meanwhile(FAKE_COPY, fault_meanwhile, &m);
	read_page(&w, 0);
	assert_true(m.done);
	assert_false(fake_waiting(at(&w, 0)));
	evict_all(&w);
	write_all(&w);
	m.done = false;
	fake_meanwhile(FAKE_FILE_READ, fault_meanwhile, &m);
	read_page(&w, 0);
	assert_true(m.done);
	assert_false(fake_waiting(at(&w, 0)));
	assert_int_equal(load_relaxed(&w.vm.count.parked), 2);
	world_close(&w);
}

/* --- dropped behind weir's back --- */

static void drop_behind(uint32_t page)
{
	fake_drop_behind(at(&w, page));
	memset(content_of(&w, 0, page), 0, PAGE_SIZE);
	read_page(&w, page);
	assert_int_equal(state_of(page), PAGE_DIRTY);
}

static void nothing_blocks(void *data)
{
	(void)data;
}

/* A raw madvise means zeroes. The copy of a clean page is no longer one, and goes. */
static void test_page_dropped_behind_weirs_back_reads_zeroes(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 3, TEXT);
	drop_behind(0);
	evict_all(&w);
	for (uint32_t page = 0; page < 3; page++)
		read_page(&w, page);
	assert_int_equal(state_of(1), PAGE_CLEAN);
	drop_behind(1);
	write_all(&w);
	drop_behind(2);
	assert_int_equal(load_relaxed(&w.vm.count.vanished), 3);
	assert_int_equal(resident(&w), 3);
	assert_int_equal(compressed(&w), 0);
	world_close(&w);
}

/* So it is when a job reads a page: by a handler, which asks before; by others, whose fault is served. What was read is no copy. */
static void test_page_vanished_under_a_job(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 3, TEXT);
	w.check_each = false;
	w.pager->before_block = nothing_blocks;
	fake_drop_behind(at(&w, 1));
	memset(content_of(&w, 0, 1), 0, PAGE_SIZE);
	evict(&w, 2);
	w.pager->before_block = NULL;
	assert_int_equal(state_of(1), PAGE_DIRTY);
	assert_true(fake_present(at(&w, 1)));
	assert_int_equal(load_relaxed(&w.vm.count.vanished), 1);
	w.check_each = true;
	world_check(&w);
	for (uint32_t page = 0; page < 3; page++)
		read_page(&w, page);
	world_close(&w);
}

static void test_fault_on_a_page_that_a_job_reads(void **state)
{
	page_word_t *word;
	uint64_t x;

	(void)state;
	for (unsigned vanished = 0; vanished < 2; vanished++) {
		world_open(&w, &plain);
		write_pages(&w, 0, 1, TEXT);
		w.check_each = false;
		word = &w.only->word[0];
		x = page_lock_wait(word);
		page_unlock(&w.vm, w.only, 0, word_with_state(x, PAGE_CLEANING), true);
		x = page_lock_wait(word);
		/* Not yet: whoever has it may be about to drop it. */
		fake_wait(at(&w, 0));
		assert_int_equal(world_fault(&w, 0, ACCESS_READ), PAGEIN_PARKED);
		page_read_begin(&w.vm, w.background, w.only, 0);
		if (vanished)
			fake_drop_behind(at(&w, 0));
		/* A write to a protected page is none to one that has vanished. */
		assert_int_equal(world_fault(&w, 0, ACCESS_WP), PAGEIN_PARKED);
		assert_true(fake_waiting(at(&w, 0)));
		assert_int_equal(world_fault(&w, 0, ACCESS_READ), PAGEIN_DONE);
		assert_false(fake_waiting(at(&w, 0)));
		assert_true(fake_present(at(&w, 0)));
		assert_int_equal(load_relaxed(&w.vm.count.vanished), vanished);
		assert_int_equal(page_read_end(&w.vm, w.only, 0), !vanished);
		/* No more: the page may leave next. */
		fake_wait(at(&w, 0));
		assert_int_equal(world_fault(&w, 0, ACCESS_READ), PAGEIN_PARKED);
		page_unlock(&w.vm, w.only, 0, word_with_state(x, PAGE_DIRTY), true);
		assert_false(fake_waiting(at(&w, 0)));
		if (vanished)
			memset(content_of(&w, 0, 0), 0, PAGE_SIZE);
		world_check(&w);
		read_page(&w, 0);
		world_close(&w);
	}
}

/* The check itself may fail: then the thread is woken, and faults again. */
static void test_recheck_that_fails_wakes(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 1, TEXT);
	fake_drop_behind(at(&w, 0));
	memset(content_of(&w, 0, 0), 0, PAGE_SIZE);
	fake_fail(FAKE_ZEROPAGE, 1, 0, -EAGAIN);
	assert_int_equal(touch(&w, 0, false), 2);
	read_page(&w, 0);
	world_close(&w);
}

/* --- answers of UFFDIO_COPY --- */

/* Somebody has put a page there: it is what the program sees, so it counts, and the copy goes. */
static void test_copy_eexist(void **state)
{
	static char mine[4096];

	(void)state;
	world_open(&w, &plain);
	away(2, TEXT);
	fill_text(mine, 4711);
	for (uint32_t page = 1; page < 4; page++) {
		/* 1: absent; 2, 3: never touched */
		fake_wait(at(&w, page));
		fake_install_behind(at(&w, page), mine);
		memcpy(content_of(&w, 0, page), mine, PAGE_SIZE);
		fake_wait(at(&w, page));
		assert_int_equal(world_fault(&w, page, ACCESS_READ), PAGEIN_DONE);
		assert_false(fake_waiting(at(&w, page)));
		assert_int_equal(state_of(page), PAGE_DIRTY);
		world_check(&w);
	}
	assert_int_equal(load_relaxed(&w.memory.objects), 1);
	assert_int_equal(resident(&w), 3);
	for (uint32_t page = 0; page < 4; page++)
		read_page(&w, page);
	world_close(&w);
}

struct answer {
	int err;
	enum pagein_result result;
	bool woken;
};

/* The range or the process goes away: unregistering will wake. Or the system is short of something for the moment: the
 * thread is woken to fault again. In any case nothing is as if the page had been loaded. */
static void test_copy_errors(void **state)
{
	static const struct answer answers[] = {
		{-ENOENT, PAGEIN_GONE, true},  {-ESRCH, PAGEIN_GONE, false},
		{-EINVAL, PAGEIN_GONE, false}, {-ENOMEM, PAGEIN_RETRY, true},
		{-EAGAIN, PAGEIN_RETRY, true},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(answers); i++) {
		const struct answer *a = &answers[i];
		uint64_t x, held;

		world_open(&w, &plain);
		away(2, TEXT);
		write_all(&w);
		write_pages(&w, 2, 2, TEXT);
		evict_all(&w);
		x = word_of(&w, 3);
		held = compressed(&w);
		/* 3: in memory; 1: in the file, with a neighbour; 100: never touched */
		for (unsigned k = 0; k < 3; k++) {
			const uint32_t page = (const uint32_t[]){3, 1, 100}[k];

			assert_int_equal(fake_touch(at(&w, page), false), TOUCH_MISSING);
			fake_fail(FAKE_COPY, 1, 0, a->err);
			/* A run is tried again page by page. */
			if (a->err == -ENOENT)
				fake_fail(FAKE_COPY, 2, 0, a->err);
			assert_int_equal(world_fault(&w, page, ACCESS_READ), a->result);
			assert_true(fake_waiting(at(&w, page)) == !a->woken);
			assert_int_equal(resident(&w), 0);
			assert_int_equal(compressed(&w), held);
			(void)fake_calm();
			world_check(&w);
		}
		assert_true(word_copy_of(word_of(&w, 3)) == word_copy_of(x));
		assert_int_equal(state_of(100), PAGE_NONE);
		/* And the next fault finds all as it was. */
		for (uint32_t page = 0; page < 4; page++)
			read_page(&w, page);
		read_page(&w, 100);
		world_close(&w);
	}
}

/* The kernel copies into one mapping at a time: a run over a border comes in page by page, and a neighbour that is not
 * mapped stays where it was. */
static void test_copy_over_a_border(void **state)
{
	(void)state;
	for (unsigned gone = 0; gone < 2; gone++) {
		world_open(&w, &plain);
		away(2, TEXT);
		write_all(&w);
		assert_int_equal(fake_touch(at(&w, 0), false), TOUCH_MISSING);
		fake_fail(FAKE_COPY, 1, 0, -ENOENT);
		if (gone)
			fake_fail(FAKE_COPY, 3, 0, -ENOENT);
		assert_int_equal(world_fault(&w, 0, ACCESS_READ), PAGEIN_DONE);
		assert_false(fake_waiting(at(&w, 0)));
		assert_int_equal(resident(&w), gone ? 1 : 2);
		assert_int_equal(fake_calm(), 0);
		world_check(&w);
		read_page(&w, 1);
		assert_int_equal(resident(&w), 2);
		world_close(&w);
	}
}

/* --- write faults --- */

/* Releasing the protection fails: the thread must be woken all the same, and faults again. */
static void test_failed_release_of_protection_wakes(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	read_page(&w, 0);
	fake_fail(FAKE_UNPROTECT, 1, 0, -EAGAIN);
	assert_int_equal(touch(&w, 0, true), 2);
	world_poke(&w, 0, 0, 0, 1);
	evict_all(&w);
	read_page(&w, 0);
	world_close(&w);
}

/* The page was dropped between the write fault and its handler: it is loaded, for writing. */
static void test_write_fault_on_a_page_that_has_left(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	read_page(&w, 0);
	assert_int_equal(fake_touch(at(&w, 0), true), TOUCH_PROTECTED);
	evict(&w, 1);
	assert_int_equal(world_fault(&w, 0, ACCESS_WP), PAGEIN_DONE);
	assert_false(fake_waiting(at(&w, 0)));
	assert_int_equal(touch(&w, 0, true), 0);
	assert_int_equal(state_of(0), PAGE_DIRTY);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fault_on_a_page_that_is_there_wakes_only),
		cmocka_unit_test(test_page_loaded_while_room_is_made),
		cmocka_unit_test(test_page_locked_while_room_is_made),
		cmocka_unit_test(test_second_fault_during_a_load_parks_and_is_woken),
		cmocka_unit_test(test_page_dropped_behind_weirs_back_reads_zeroes),
		cmocka_unit_test(test_page_vanished_under_a_job),
		cmocka_unit_test(test_fault_on_a_page_that_a_job_reads),
		cmocka_unit_test(test_recheck_that_fails_wakes),
		cmocka_unit_test(test_copy_eexist),
		cmocka_unit_test(test_copy_errors),
		cmocka_unit_test(test_copy_over_a_border),
		cmocka_unit_test(test_failed_release_of_protection_wakes),
		cmocka_unit_test(test_write_fault_on_a_page_that_has_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
