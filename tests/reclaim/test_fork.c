/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A fork: nothing is dropped from its beginning to its end, and every page is there when it happens. Here with the
 * background thread running, as reclaim_hold_for_fork waits for it; the program is the main thread.
 */
#include "tenants.h"

#include <sched.h>
#include <unistd.h>

#include "os/thread.h"

static pthread_t background;

enum { LIMIT = 256, HIGH = 240, JOB = 8 };
static const struct world_options small = {.max = LIMIT, .pages = {1024}};

static void *background_main(void *data)
{
	reclaim_run(data);
	return NULL;
}

static void background_start(void)
{
	/* Its naps are real, its clock is the fake's. */
	fake_time_step(1000000);
	assert_int_equal(thread_start(&background, "background", background_main, &w.reclaim), 0);
}

static void background_end(void)
{
	reclaim_stop(&w.reclaim);
	pthread_join(background, NULL);
	store_relaxed(&w.reclaim.stop, false);
}

static void everything_is_there(uint32_t count)
{
	for (uint32_t page = 0; page < count; page++) {
		assert_true(fake_present(at(&w, page)));
		assert_memory_equal(at(&w, page), content_of(&w, 0, page), PAGE_SIZE);
	}
}

/* Pages in memory, as words, and in the file; over the limit while the fork lasts, and back below it afterwards. */
static void test_hold_brings_everything_in(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 200, NOISE);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	write_all(&w);
	write_pages(&w, 200, 100, TEXT);
	write_pages(&w, 300, 100, FILLED);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	world_check(&w);
	background_start();
	assert_int_equal(reclaim_hold_for_fork(&w.reclaim), 0);
	everything_is_there(400);
	assert_int_equal(load_relaxed(&w.vm.count.fork_loaded), 400);
	assert_true(container_charged(w.container) > LIMIT * PAGE_SIZE);
	/* What the program does meanwhile goes over the limit too. */
	write_pages(&w, 400, 50, TEXT);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(reclaim_once(&w.reclaim, w.pager), 0);
		reclaim_after_fault(&w.reclaim, w.pager);
		sched_yield();
	}
	everything_is_there(450);
	reclaim_release(&w.reclaim);
	for (unsigned i = 0; i < 20000 && container_above_mark(w.container); i++)
		usleep(1000);
	assert_false(container_above_mark(w.container));
	background_end();
	world_check(&w);
	for (uint32_t page = 0; page < 450; page++)
		read_page(&w, page);
	world_close(&w);
}

/* The job that is open when the fork comes is ended, not left half-way, and what it dropped comes in. */
static void test_hold_ends_the_open_job_first(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, HIGH + 1, TEXT);
	reclaim_after_fault(&w.reclaim, w.pager);
	assert_int_equal(word_state(word_of(&w, 0)), PAGE_CLEANING);
	background_start();
	assert_int_equal(reclaim_hold_for_fork(&w.reclaim), 0);
	everything_is_there(HIGH + 1);
	for (uint32_t page = 0; page < 1024; page++)
		assert_int_not_equal(word_state(word_of(&w, page)), PAGE_CLEANING);
	reclaim_release(&w.reclaim);
	background_end();
	world_check(&w);
	world_close(&w);
}

/* Two threads fork at once: the first one to be done does not end it for the other. */
static void test_holds_nest(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 40, FILLED);
	background_start();
	assert_int_equal(reclaim_hold_for_fork(&w.reclaim), 0);
	assert_int_equal(reclaim_hold_for_fork(&w.reclaim), 0);
	reclaim_release(&w.reclaim);
	assert_int_equal(reclaim_once(&w.reclaim, w.pager), 0);
	everything_is_there(40);
	reclaim_release(&w.reclaim);
	/* Whoever works on it: the background thread helps. */
	(void)reclaim_once(&w.reclaim, w.pager);
	background_end();
	reclaim_quiesce(&w.reclaim);
	assert_int_equal(load_relaxed(&w.vm.count.moved_out), JOB);
	world_check(&w);
	world_close(&w);
}

/* A page that is lost is told to who forks, and the rest comes all the same. */
static void test_hold_tells_of_lost_pages(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 40, TEXT);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	compressed_object(&w.memory, word_location(word_of(&w, 7)))->packed[3] ^= 1;
	w.lost[0][7] = true;
	background_start();
	assert_int_equal(reclaim_hold_for_fork(&w.reclaim), -EIO);
	reclaim_release(&w.reclaim);
	background_end();
	assert_int_equal(resident(&w), 39);
	assert_true(fake_poisoned(at(&w, 7)));
	world_check(&w);
	world_close(&w);
}

/* Beside a fork with a hand-over: a page that is written keeps the copy of what it was, which the child may need; it is let go
 * with the page's next change. */
static void test_copies_are_kept_beside_a_fork(void **state)
{
	static char before[4096];
	uint64_t w_before, w_after;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 40, TEXT);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	memcpy(before, content_of(&w, 0, 7), PAGE_SIZE);
	w_before = word_of(&w, 7);
	add_relaxed(&w.vm.forking, 1);
	world_poke(&w, 0, 7, 5, 12345);
	w_after = word_of(&w, 7);
	assert_int_equal(word_state(w_after), PAGE_DIRTY);
	assert_int_equal(word_copy_of(w_after), word_copy_of(w_before));
	assert_int_equal(page_read(&w.vm, w.background, w.only, 7, w_after), 0);
	assert_memory_equal(w.background->run[0], before, PAGE_SIZE);
	sub_relaxed(&w.vm.forking, 1);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	assert_int_equal(word_state(word_of(&w, 7)), PAGE_ABSENT);
	/* Counters, copies and words agree again: nothing was kept for good. */
	world_check(&w);
	for (uint32_t page = 0; page < 40; page++)
		read_page(&w, page);
	world_close(&w);
}

/* A page that comes to another container while a fork keeps its copy: the copy goes with it, over that one's limits, and both are let
 * go where they are charged. In memory and in the file. */
static void test_a_kept_copy_goes_with_its_page(void **state)
{
	uint64_t copies, swap;

	(void)state;
	open_tenants(&two, 2);
	write_some(0, 0, 20, NOISE);
	while (pages_of(a))
		assert_true(evict_all(&w) > 0);
	assert_int_equal(write_all(&w), 20);
	swap = load_relaxed(&a->swap);
	write_some(0, 20, 20, TEXT);
	while (pages_of(a))
		assert_true(evict_all(&w) > 0);
	copies = container_usage(a, CHARGE_COMPRESSED);
	assert_true(swap && copies);
	take_over(0, b);
	assert_int_equal(weir_container_set(b, WEIR_SWAP_MAX, 0), 0);
	add_relaxed(&w.vm.forking, 1);
	w.check_each = false;
	for (uint32_t page = 0; page < 40; page++)
		world_read(&w, 0, page);
	assert_int_equal(container_usage(a, CHARGE_COMPRESSED), 0);
	assert_int_equal(container_usage(b, CHARGE_COMPRESSED), copies);
	assert_int_equal(load_relaxed(&a->swap), 0);
	assert_int_equal(load_relaxed(&b->swap), swap);
	sub_relaxed(&w.vm.forking, 1);
	for (uint32_t page = 0; page < 40; page++)
		world_poke(&w, 0, page, 3, page + 1);
	assert_int_equal(weir_container_set(b, WEIR_SWAP_MAX, WEIR_NO_LIMIT), 0);
	while (pages_of(b))
		assert_true(evict_all(&w) > 0);
	world_check(&w);
	assert_int_equal(load_relaxed(&b->swap), 0);
	world_close(&w);
}

/* A child's pages are charged to the containers that they are of, and to no other; first touches to who has the region now. */
static void test_pages_of_a_child_are_charged_to_their_owners(void **state)
{
	uint64_t usage[2][CHARGE_KINDS], swap[2];
	struct weir_container *of[2];

	(void)state;
	open_tenants(&two, 2);
	of[0] = a;
	of[1] = b;
	write_some(0, 0, 30, NOISE);
	while (pages_of(a))
		assert_true(evict_all(&w) > 0);
	assert_int_equal(write_all(&w), 30);
	write_some(0, 30, 30, TEXT);
	write_some(1, 0, 50, HALF_NOISE);
	evict_all(&w);
	take_over(0, b);
	/* One from the file brings its neighbours; most stay. */
	world_read(&w, 0, 0);
	for (uint32_t page = 30; page < 50; page += 2)
		world_read(&w, 0, page);
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned kind = 0; kind < CHARGE_KINDS; kind++)
			usage[i][kind] = container_usage(of[i], (enum charge_kind)kind);
		swap[i] = load_relaxed(&of[i]->swap);
	}
	assert_true(swap[0] && usage[0][CHARGE_COMPRESSED] && usage[1][CHARGE_RESIDENT]);
	tree_after_fork(&w.tree);
	for (unsigned r = 0; r < 2; r++)
		region_after_fork(&w.vm, w.region[r], false);
	world_check(&w);
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned kind = 0; kind < CHARGE_KINDS; kind++)
			assert_int_equal(container_usage(of[i], (enum charge_kind)kind),
					 usage[i][kind]);
		assert_int_equal(load_relaxed(&of[i]->swap), swap[i]);
	}
	/* One that the child was given before it knew. */
	assert_int_equal(uffd_zeropage(w.vm.uffd, page_address(w.region[0], 500), PAGE_SIZE, NULL),
			 0);
	page_after_fork(w.region[0], 500);
	assert_ptr_equal(page_owner(w.region[0], word_at(&w, 0, 500)), b);
	container_force(b, CHARGE_RESIDENT, PAGE_SIZE);
	world_check(&w);
	world_close(&w);
}

/* The child's copy of the words: a busy page that has not come is what it was, one that has come is dirty and keeps its copy. */
static void test_words_of_a_child_are_settled(void **state)
{
	uint64_t absent, clean, copies;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 40, TEXT);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	read_page(&w, 1);
	absent = word_of(&w, 0);
	clean = word_of(&w, 1);
	assert_int_equal(word_state(clean), PAGE_CLEAN);
	store_relaxed(&w.only->word[0], absent | WORD_BUSY | WORD_PARKED);
	store_relaxed(&w.only->word[1], clean | WORD_BUSY);
	copies = compressed(&w);
	tree_after_fork(&w.tree);
	region_after_fork(&w.vm, w.only, false);
	assert_int_equal(word_of(&w, 0), absent);
	assert_int_equal(word_state(word_of(&w, 1)), PAGE_DIRTY);
	assert_int_equal(word_copy_of(word_of(&w, 1)), word_copy_of(clean));
	assert_int_equal(resident(&w), 1);
	assert_int_equal(compressed(&w), copies);
	assert_int_equal(load_relaxed(&w.container->swap), 0);
	evict(&w, 1);
	world_check(&w);
	world_close(&w);
}

/* A child that was given all pages may write to all of them without a fault, and can pin them so. */
static void test_words_of_a_child_that_has_all(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 3, HALF_NOISE);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	read_page(&w, 0);
	/* Its copy is not worth its memory. */
	assert_int_equal(word_state(word_of(&w, 0)), PAGE_GUARDED);
	for (uint32_t page = 1; page < 3; page++)
		assert_int_equal(touch(&w, page, true), 1);
	assert_int_equal(uffd_writeprotect(w.vm.uffd, at(&w, 0), PAGE_SIZE, false), 0);
	tree_after_fork(&w.tree);
	region_after_fork(&w.vm, w.only, true);
	assert_int_equal(resident(&w), 3);
	for (uint32_t page = 0; page < 3; page++) {
		assert_int_equal(page_pin(&w.vm, w.only, page, true), 0);
		page_unpin(&w.vm, w.only, page);
	}
	world_check(&w);
	world_close(&w);
}

static int count_up(void *data)
{
	return ++*(int *)data;
}

/* A thread that looked for a hold just before there was one finds it with the job in its hands. The child does not have that thread. */
static void test_a_child_begins_without_a_job(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 2 * JOB, TEXT);
	store_relaxed(&w.reclaim.state, FILLING);
	store_relaxed(&w.reclaim.gather.round, 1);
	reclaim_after_fork(&w.reclaim);
	assert_int_equal(load_relaxed(&w.reclaim.gather.round), 0);
	evict(&w, JOB);
	world_check(&w);
	world_close(&w);
}

/* Work for the background thread: done there, in order, and answered. */
static void test_errands_are_answered(void **state)
{
	int n = 0;

	(void)state;
	world_open(&w, &small);
	background_start();
	for (int i = 1; i <= 100; i++)
		assert_int_equal(reclaim_errand(&w.reclaim, count_up, &n), i);
	background_end();
	world_close(&w);
}

/* What the background thread does, a letter each. */
static char done[16];

static void next_is_done(void *data)
{
	(void)data;
	strcat(done, "n");
}

static void tick_is_done(void *data)
{
	strcat(done, "t");
	if (strlen(done) > 4)
		reclaim_stop(data);
}

static int errand_with_a_next(void *data)
{
	struct reclaim *r = data;

	strcat(done, "e");
	r->next_data = r;
	store_relaxed(&r->next, next_is_done);
	return 0;
}

/* What an errand leaves to be done next comes before anything else, and be it time for all that is due: a fork is under way. */
static void test_what_is_next_is_before_what_is_due(void **state)
{
	struct errand errand = {.fn = errand_with_a_next};

	(void)state;
	world_open(&w, &small);
	errand.data = &w.reclaim;
	done[0] = 0;
	w.reclaim.tick = tick_is_done;
	w.reclaim.tick_data = &w.reclaim;
	store_relaxed(&w.reclaim.errand, &errand);
	/* Each look at the clock: it is time for all that is due now and then. */
	fake_time_step(50000000);
	reclaim_run(&w.reclaim);
	fake_time_step(0);
	w.reclaim.tick = NULL;
	store_relaxed(&w.reclaim.stop, false);
	assert_non_null(strstr(done, "en"));
	assert_non_null(strstr(done, "t"));
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hold_brings_everything_in),
		cmocka_unit_test(test_hold_ends_the_open_job_first),
		cmocka_unit_test(test_holds_nest),
		cmocka_unit_test(test_hold_tells_of_lost_pages),
		cmocka_unit_test(test_copies_are_kept_beside_a_fork),
		cmocka_unit_test(test_a_kept_copy_goes_with_its_page),
		cmocka_unit_test(test_pages_of_a_child_are_charged_to_their_owners),
		cmocka_unit_test(test_words_of_a_child_are_settled),
		cmocka_unit_test(test_words_of_a_child_that_has_all),
		cmocka_unit_test(test_a_child_begins_without_a_job),
		cmocka_unit_test(test_errands_are_answered),
		cmocka_unit_test(test_what_is_next_is_before_what_is_due),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
