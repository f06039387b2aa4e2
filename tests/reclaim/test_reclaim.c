/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reclaim jobs: which pages are chosen, what is protected, copied and dropped, and what is left as it was when
 * something goes wrong. Single-threaded: what other threads do meanwhile is done between the calls of the kernel.
 */
#include "world.h"

#include "../frames.h"

static struct world w;

/* A limit of 256 pages makes jobs of 8; above 240 a fault begins one, above 248 it works on two of its pages. */
enum { LIMIT = 256, HIGH = 240, MIDDLE = 248, JOB = 8, PAGES = 1024 };
static const struct world_options small = {.max = LIMIT, .pages = {PAGES}, .check_each = true};
/* Jobs of 256, and room for everything. */
static const struct world_options wide = {.pages = {8192}};

static enum page_state state_of(uint32_t page)
{
	return word_state(word_of(&w, page));
}

static uint32_t job_state(void)
{
	return load_relaxed(&w.reclaim.state);
}

static void after_fault(void)
{
	reclaim_after_fault(&w.reclaim, w.pager);
	world_check(&w);
}

/* A job that is chosen and protected, and that nobody has worked on: pages 0 to 7. */
static void job_open(void)
{
	write_pages(&w, 0, HIGH + 1, TEXT);
	after_fault();
	assert_int_equal(job_state(), OPEN);
}

static void read_all(uint32_t count)
{
	for (uint32_t page = 0; page < count; page++)
		read_page(&w, page);
}

/* --- the clock --- */

static void test_clock_of_an_empty_world(void **state)
{
	const struct world_options one = {.pages = {8192}};
	struct clock_hand hand = {0};
	struct tenancy whose = {0};
	struct window at;
	unsigned laps = 0;

	(void)state;
	world_open(&w, &one);
	whose.container = w.container;
	assert_false(clock_step(&w.vm, &whose, &hand, &at, &laps));
	assert_int_equal(reclaim_once(&w.reclaim, w.pager), 0);
	/* Populated once, and discarded again. */
	touch(&w, 8000, true);
	assert_int_equal(world_discard(&w, 0, 8000, 1, true), 0);
	assert_false(clock_step(&w.vm, &whose, &hand, &at, &laps));
	region_hide(&w.vm, w.only);
	assert_false(clock_step(&w.vm, &whose, &hand, &at, &laps));
	region_publish(&w.vm, 0, w.only);
	world_close(&w);
}

/* Windows of 64 pages, chunks without pages left out, region after region, round and round. */
static void test_clock_steps_over_populated_windows(void **state)
{
	const struct world_options three = {.pages = {2048, 2048, 700}};
	static const uint32_t windows[][3] = {
		/* region, first, count */
		{0, 512, 64}, {0, 576, 64}, {0, 640, 64}, {0, 704, 7}, {2, 0, 64}, {2, 64, 37},
	};
	struct clock_hand hand = {0};
	struct tenancy whose = {0};
	struct window at;
	unsigned laps = 0;

	(void)state;
	world_open(&w, &three);
	whose.container = w.container;
	touch(&w, 710, true);
	touch(&w, 600, true);
	world_touch(&w, 2, 100, true);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(windows); i++) {
			assert_true(clock_step(&w.vm, &whose, &hand, &at, &laps));
			assert_ptr_equal(at.region, w.region[windows[i][0]]);
			assert_int_equal(at.first, windows[i][1]);
			assert_int_equal(at.count, windows[i][2]);
			assert_int_equal(at.owners, 1);
			assert_int_equal(laps, round);
		}
	}
	region_hide(&w.vm, w.region[0]);
	hand = (struct clock_hand){0};
	assert_true(clock_step(&w.vm, &whose, &hand, &at, &laps));
	assert_ptr_equal(at.region, w.region[2]);
	region_publish(&w.vm, 0, w.region[0]);
	world_close(&w);
}

/* A job goes on where the one before ended, so that every page has its turn before any has a second one. */
static void test_jobs_go_round(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 100, TEXT);
	for (uint32_t first = 0; first + JOB <= 100; first += JOB) {
		evict(&w, JOB);
		for (uint32_t page = 0; page < 100; page++)
			assert_int_equal(state_of(page),
					 page < first + JOB ? PAGE_ABSENT : PAGE_DIRTY);
	}
	evict(&w, 4);
	read_all(100);
	world_close(&w);
}

/* A 32nd of the limit, but 8 at least and 256 at most. */
static void test_size_of_a_job(void **state)
{
	static const uint32_t limits[] = {64, 256, 512, 2048, 8192, 16384};
	static const uint32_t jobs[] = {8, 8, 16, 64, 256, 256};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(limits); i++) {
		const struct world_options limited = {.max = limits[i], .pages = {PAGES}};

		world_open(&w, &limited);
		add_relaxed(&w.vm.hold, 1);
		write_pages(&w, 0, 300, TEXT);
		sub_relaxed(&w.vm.hold, 1);
		evict(&w, jobs[i]);
		world_close(&w);
	}
}

/* Fewer pages than a job wants: each is taken once. */
static void test_job_of_few_pages(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 3, TEXT);
	evict(&w, 3);
	assert_int_equal(load_relaxed(&w.vm.count.moved_out), 3);
	read_all(3);
	evict(&w, 3);
	evict(&w, 0);
	read_all(3);
	world_close(&w);
}

/* Absent, busy and poisoned pages, and those never touched, are nobody's victims. */
static void test_who_is_never_chosen(void **state)
{
	uint64_t x;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 4, TEXT);
	evict(&w, 4);
	compressed_object(&w.memory, word_location(word_of(&w, 1)))->packed[0] ^= 1;
	w.lost[0][1] = true;
	read_page(&w, 1);
	write_pages(&w, 5, 2, TEXT);
	w.check_each = false;
	x = page_lock_wait(&w.only->word[5]);
	evict(&w, 1);
	assert_int_equal(state_of(6), PAGE_ABSENT);
	assert_true(word_of(&w, 5) == (x | WORD_BUSY));
	page_unlock(&w.vm, w.only, 5, x, true);
	world_check(&w);
	world_close(&w);
}

/* --- credits --- */

static void give_credit(uint32_t page, unsigned credit)
{
	store_relaxed(&w.only->word[page], word_of(&w, page) | (uint64_t)credit << CREDIT_SHIFT);
}

/* A page with credit is passed over, and pays one each time. */
static void test_credit_is_paid_for_being_passed_over(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 24, TEXT);
	for (uint32_t page = 0; page < 24; page += 2)
		give_credit(page, 2);
	/* The first lap takes the odd pages, 8 and then 4; the hand is then in its second one. */
	evict(&w, JOB);
	for (uint32_t page = 0; page < 16; page++) {
		assert_int_equal(state_of(page), page & 1 ? PAGE_ABSENT : PAGE_DIRTY);
		assert_int_equal(word_credit(word_of(&w, page)), page & 1 ? 0 : 1);
	}
	assert_int_equal(word_credit(word_of(&w, 16)), 2);
	evict(&w, JOB);
	assert_int_equal(resident(&w), 8);
	assert_int_equal(evict_all(&w), 8);
	read_all(24);
	world_close(&w);
}

/* Credit wears off within one job where there is nothing else to take. */
static void test_credit_does_not_protect_for_ever(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 4, TEXT);
	for (uint32_t page = 0; page < 4; page++)
		give_credit(page, CREDIT_MAX);
	evict(&w, 4);
	world_close(&w);
}

/* --- one job at a time --- */

/* A job is open: another is not begun, neither by a fault nor by reclaim_once, which ends the one there is. */
static void test_only_one_job(void **state)
{
	uint64_t protect_calls;

	(void)state;
	world_open(&w, &small);
	job_open();
	protect_calls = fake_count(FAKE_PROTECT);
	for (unsigned i = 0; i < 4; i++)
		after_fault();
	assert_int_equal(fake_count(FAKE_PROTECT), protect_calls);
	for (uint32_t page = 0; page < PAGES; page++)
		assert_true((state_of(page) == PAGE_CLEANING) == (page < JOB));
	evict(&w, JOB);
	assert_int_equal(job_state(), IDLE);
	assert_int_equal(fake_count(FAKE_PROTECT), protect_calls);
	world_close(&w);
}

struct meddling {
	unsigned dropped;
	bool done;
};

static void another_job(void *data)
{
	struct meddling *m = data;

	m->dropped = reclaim_once(&w.reclaim, w.background);
	m->done = true;
}

/* Nor while one is being chosen or dropped. */
static void test_no_job_beside_one_that_is_filled_or_dropped(void **state)
{
	static const enum fake_call calls[] = {FAKE_PROTECT, FAKE_DROP};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
		struct meddling m = {.dropped = 99};

		world_open(&w, &small);
		write_pages(&w, 0, 40, TEXT);
		fake_meanwhile(calls[i], another_job, &m);
		evict(&w, JOB);
		assert_true(m.done);
		assert_int_equal(m.dropped, 0);
		assert_int_equal(resident(&w), 40 - JOB);
		world_close(&w);
	}
}

/* --- faults beside a job --- */

/* Reading goes on while pages are cleaned. */
static void test_pages_of_a_job_stay_readable(void **state)
{
	uint64_t faults;

	(void)state;
	world_open(&w, &small);
	job_open();
	faults = w.faults;
	read_all(JOB);
	assert_int_equal(w.faults, faults);
	evict(&w, JOB);
	world_close(&w);
}

/* A write while the page is CLEANING, before its copy: it stays, and is not even packed. */
static void test_write_before_the_copy(void **state)
{
	(void)state;
	world_open(&w, &small);
	job_open();
	world_poke(&w, 0, 0, 9, 1);
	world_poke(&w, 0, 7, 9, 1);
	evict(&w, JOB - 2);
	assert_int_equal(state_of(0), PAGE_DIRTY);
	assert_int_equal(state_of(7), PAGE_DIRTY);
	assert_int_equal(load_relaxed(&w.memory.objects), JOB - 2);
	read_all(JOB);
	world_close(&w);
}

/* A write after the copy, before the drop: the copy is let go, the page stays, and what was written is what counts. */
static void test_write_after_the_copy(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, MIDDLE + 1, TEXT);
	after_fault();
	assert_int_equal(state_of(0), PAGE_CLEAN);
	assert_int_equal(load_relaxed(&w.memory.objects), 2);
	world_poke(&w, 0, 0, 9, 1);
	assert_int_equal(load_relaxed(&w.memory.objects), 1);
	evict(&w, JOB - 1);
	assert_int_equal(state_of(0), PAGE_DIRTY);
	assert_int_equal(load_relaxed(&w.memory.objects), JOB - 1);
	read_all(JOB);
	world_close(&w);
}

/* A page that was written while CLEANING may be chosen again by the next job, and is copied as it is then. */
static void test_written_page_is_cleaned_by_a_later_job(void **state)
{
	(void)state;
	world_open(&w, &small);
	job_open();
	world_poke(&w, 0, 3, 9, 1);
	evict(&w, JOB - 1);
	while (state_of(3) != PAGE_ABSENT)
		assert_true(reclaim_once(&w.reclaim, w.pager) > 0);
	read_all(JOB);
	world_close(&w);
}

static void fault_on_victims(void *data)
{
	bool *parked = data;

	for (uint32_t page = 0; page < JOB; page++) {
		fake_wait(at(&w, page));
		assert_int_equal(world_fault(&w, page, page & 1 ? ACCESS_WP : ACCESS_READ),
				 PAGEIN_PARKED);
	}
	*parked = true;
}

/* While victims are dropped they are busy: faults park, and are woken when the pages have left. */
static void test_faults_during_the_drop_park_and_are_woken(void **state)
{
	bool parked = false;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 40, TEXT);
	fake_meanwhile(FAKE_DROP, fault_on_victims, &parked);
	evict(&w, JOB);
	assert_true(parked);
	for (uint32_t page = 0; page < JOB; page++)
		assert_false(fake_waiting(at(&w, page)));
	read_all(40);
	world_close(&w);
}

/* A holder of the busy bit kept job_clean away from a page, and gave it back as it was: a later job must take it. */
static void test_page_that_was_busy_when_its_turn_came(void **state)
{
	uint64_t x;

	(void)state;
	world_open(&w, &small);
	job_open();
	w.check_each = false;
	x = page_lock_wait(&w.only->word[3]);
	evict(&w, JOB - 1);
	page_unlock(&w.vm, w.only, 3, x, true);
	assert_int_equal(state_of(3), PAGE_CLEANING);
	for (unsigned i = 0; i < 2 * PAGES / JOB && word_resident(word_of(&w, 3)); i++)
		(void)reclaim_once(&w.reclaim, w.pager);
	assert_int_equal(state_of(3), PAGE_ABSENT);
	world_check(&w);
	read_all(JOB);
	world_close(&w);
}

static uint64_t locked_word;

static void lock_page_3(void *data)
{
	(void)data;
	locked_word = page_lock_wait(&w.only->word[3]);
}

/* The same when the job was abandoned. */
static void test_page_that_was_busy_when_its_job_was_abandoned(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 8, TEXT);
	w.check_each = false;
	fake_fail(FAKE_PROTECT, 1, 0, -ENOMEM);
	fake_meanwhile(FAKE_PROTECT, lock_page_3, NULL);
	evict(&w, 0);
	page_unlock(&w.vm, w.only, 3, locked_word, true);
	assert_int_equal(evict_all(&w), 8);
	world_check(&w);
	read_all(8);
	world_close(&w);
}

/* --- write protection --- */

/* Victims that lie together, or with pages between that cannot be written, are one call. */
static void test_victims_are_protected_as_ranges(void **state)
{
	(void)state;
	world_open(&w, &wide);
	/* 10 to 19 and 30 to 39 dirty; between them 20 to 24 never touched and 25 to 29 absent. */
	write_pages(&w, 25, 5, TEXT);
	evict(&w, 5);
	write_pages(&w, 10, 10, TEXT);
	write_pages(&w, 30, 10, TEXT);
	assert_int_equal(fake_count(FAKE_PROTECT), 1);
	evict(&w, 20);
	assert_int_equal(fake_count(FAKE_PROTECT), 2);
	assert_int_equal(fake_units(FAKE_PROTECT), 5 + 30);
	world_check(&w);
	world_close(&w);
}

/* A dirty page that stays is not protected: its owner's next write would fault for nothing. */
static void test_bystanders_are_not_protected(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, 24, TEXT);
	for (uint32_t page = 1; page < 24; page += 3)
		give_credit(page, 5);
	/* Victims 0 | 2 3 | 5 6 | 8 9 | 11 */
	evict(&w, JOB);
	assert_int_equal(fake_count(FAKE_PROTECT), 5);
	assert_int_equal(fake_units(FAKE_PROTECT), JOB);
	for (uint32_t page = 0; page < 24; page++)
		assert_false(fake_protected(at(&w, page)));
	for (uint32_t page = 1; page < 24; page += 3)
		assert_int_equal(touch(&w, page, true), 0);
	world_close(&w);
}

/* As many spans as a job can have: each victim is one of its own. */
static void test_every_victim_is_a_span(void **state)
{
	enum { SPANS = 256 };

	(void)state;
	world_open(&w, &wide);
	write_pages(&w, 0, 2 * SPANS + 8, TEXT);
	for (uint32_t page = 1; page < 2 * SPANS; page += 2)
		give_credit(page, 5);
	evict(&w, SPANS);
	assert_int_equal(fake_count(FAKE_PROTECT), SPANS);
	assert_int_equal(fake_units(FAKE_PROTECT), SPANS);
	/* And worth to be gathered for, which has an end. */
	assert_int_equal(w.reclaim.gather.gatherings, 1);
	assert_int_equal(load_relaxed(&w.reclaim.gather.round), 0);
	world_check(&w);
	world_close(&w);
}

/* A clean page that stays is protected anyhow, and no reason for a second call. */
static void test_clean_pages_between_victims(void **state)
{
	(void)state;
	world_open(&w, &wide);
	write_pages(&w, 5, 1, TEXT);
	evict(&w, 1);
	read_page(&w, 5);
	give_credit(5, 5);
	write_pages(&w, 0, 5, TEXT);
	write_pages(&w, 6, 4, TEXT);
	/* 5 pays for each lap that the job makes in search of more. */
	assert_true(reclaim_once(&w.reclaim, w.pager) >= 9);
	assert_int_equal(fake_count(FAKE_PROTECT), 2);
	world_check(&w);
	world_close(&w);
}

/* Victims far apart, or of two regions, are calls of their own. */
static void test_distant_victims_are_protected_apart(void **state)
{
	const struct world_options two = {.pages = {8192, 64}};

	(void)state;
	world_open(&w, &two);
	touch(&w, 0, true);
	touch(&w, 4000, true);
	touch(&w, 8191, true);
	world_touch(&w, 1, 3, true);
	evict(&w, 4);
	assert_int_equal(fake_count(FAKE_PROTECT), 3);
	assert_int_equal(fake_units(FAKE_PROTECT), 4001 + 1 + 1);
	world_check(&w);
	world_close(&w);
}

/* Protecting fails: every page is dirty as before, one more fault at most, and the next job takes them all. */
static void test_abandoned_job_gives_every_page_back(void **state)
{
	/* Before the first call, and between the calls of a job that makes several. */
	(void)state;
	for (unsigned nth = 1; nth <= 3; nth++) {
		world_open(&w, &small);
		write_pages(&w, 0, 24, TEXT);
		for (uint32_t page = 1; page < 24; page += 3)
			give_credit(page, 5);
		fake_fail(FAKE_PROTECT, nth, 0, nth == 2 ? -EAGAIN : -EINVAL);
		evict(&w, 0);
		assert_int_equal(job_state(), IDLE);
		for (uint32_t page = 0; page < 24; page++) {
			assert_int_equal(state_of(page), PAGE_DIRTY);
			assert_true(touch(&w, page, true) <= 1);
			assert_false(fake_protected(at(&w, page)));
		}
		assert_int_equal(load_relaxed(&w.memory.objects), 0);
		assert_int_equal(evict_all(&w), 24);
		read_all(24);
		world_close(&w);
	}
}

/* --- dropping --- */

/* All victims leave in one call, adjacent ones as one run. */
static void test_victims_leave_in_one_call(void **state)
{
	(void)state;
	world_open(&w, &wide);
	write_pages(&w, 0, 10, TEXT);
	write_pages(&w, 20, 10, TEXT);
	for (uint32_t page = 40; page < 60; page += 2)
		touch(&w, page, true);
	evict(&w, 30);
	assert_int_equal(fake_count(FAKE_DROP), 1);
	assert_int_equal(fake_units(FAKE_DROP), 2 + 10);
	assert_int_equal(fake_count(FAKE_DISCARD), 0);
	world_check(&w);
	world_close(&w);
}

/* Nothing can be dropped: the pages stay, clean, with their copies, and are not packed again next time. */
static void test_failed_drop_keeps_the_pages(void **state)
{
	uint64_t packed;

	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, JOB, TEXT);
	for (uint32_t page = 0; page < JOB; page++)
		fake_lock(at(&w, page), true);
	evict(&w, 0);
	assert_int_equal(resident(&w), JOB);
	assert_int_equal(load_relaxed(&w.memory.objects), JOB);
	assert_int_equal(load_relaxed(&tenant_of(w.container)->evictions), 0);
	assert_int_equal(load_relaxed(&w.vm.count.moved_out), 0);
	for (uint32_t page = 0; page < JOB; page++)
		assert_int_equal(state_of(page), PAGE_CLEAN);
	packed = load_relaxed(&w.vm.count.packed_in);
	for (uint32_t page = 0; page < JOB; page++)
		fake_lock(at(&w, page), false);
	evict(&w, JOB);
	assert_int_equal(load_relaxed(&w.vm.count.packed_in), packed);
	read_all(JOB);
	world_close(&w);
}

/* The kernel stops at a page that it will not drop (mlock), wherever that is: what it has dropped before is absent and
 * comes back as it was; what it has not is clean. */
static void test_drop_that_fails_in_the_middle(void **state)
{
	(void)state;
	for (uint32_t locked = 0; locked < JOB; locked++) {
		for (unsigned gap = 1; gap <= 2; gap++) {
			world_open(&w, &small);
			for (uint32_t i = 0; i < JOB; i++)
				write_pages(&w, i * gap, 1, TEXT);
			fake_lock(at(&w, locked * gap), true);
			(void)reclaim_once(&w.reclaim, w.pager);
			world_check(&w);
			assert_int_equal(state_of(locked * gap), PAGE_CLEAN);
			read_all(JOB * gap);
			world_close(&w);
		}
	}
}

/* The same without a page to blame: a call that fails after some of its runs. */
static void test_drop_that_fails_after_some_runs(void **state)
{
	(void)state;
	for (size_t runs = 0; runs < JOB; runs++) {
		world_open(&w, &small);
		for (uint32_t i = 0; i < JOB; i++)
			write_pages(&w, i * 2, 1, TEXT);
		fake_fail(FAKE_DROP, 1, runs, -ENOMEM);
		(void)reclaim_once(&w.reclaim, w.pager);
		world_check(&w);
		read_all(JOB * 2);
		world_close(&w);
	}
}

/* --- room for copies --- */

/* The pool is full: pages that do not fit stay dirty, and those that do leave all the same. */
static void test_no_room_for_some_copies(void **state)
{
	const struct world_options tiny = {
		.max = 8192, .pages = {PAGES}, .free_frames = 64, .check_each = true};

	(void)state;
	world_open(&w, &tiny);
	/* There are 64 frames; 63 of them can hold pages that do not compress, 20 of which leave room. */
	write_pages(&w, 0, 100, NOISE);
	write_pages(&w, 100, 20, FILLED);
	while (reclaim_once(&w.reclaim, w.pager) > 0)
		;
	assert_in_range(load_relaxed(&w.memory.objects), 40, 63);
	for (uint32_t page = 100; page < 120; page++)
		assert_int_equal(state_of(page), PAGE_ABSENT);
	assert_int_equal(resident(&w), 100 - load_relaxed(&w.memory.objects));
	read_all(120);
	world_close(&w);
}

/* --- making room --- */

static void test_make_room(void **state)
{
	(void)state;
	world_open(&w, &small);
	/* There is room. */
	write_pages(&w, 0, LIMIT - 1, FILLED);
	assert_int_equal(reclaim_make_room(&w.reclaim, w.pager, w.container, PAGE_SIZE), ROOM_MADE);
	assert_int_equal(resident(&w), LIMIT - 1);
	/* There is none; a job makes some. */
	touch(&w, LIMIT, true);
	assert_int_equal(resident(&w), LIMIT);
	assert_int_equal(reclaim_make_room(&w.reclaim, w.pager, w.container, PAGE_SIZE), ROOM_MADE);
	assert_int_equal(resident(&w), LIMIT - JOB);
	/* More than one job's worth. */
	assert_int_equal(reclaim_make_room(&w.reclaim, w.pager, w.container, 100 * PAGE_SIZE),
			 ROOM_MADE);
	assert_true(resident(&w) <= LIMIT - 100);
	world_check(&w);
	world_close(&w);
}

static void test_no_room_to_be_made(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, LIMIT, FILLED);
	/* A fork is under way. */
	add_relaxed(&w.vm.hold, 1);
	assert_int_not_equal(reclaim_make_room(&w.reclaim, w.pager, w.container, PAGE_SIZE),
			     ROOM_MADE);
	assert_int_equal(fake_count(FAKE_DROP), 0);
	sub_relaxed(&w.vm.hold, 1);
	/* More than there is. */
	assert_int_not_equal(
		reclaim_make_room(&w.reclaim, w.pager, w.container, (LIMIT + 1) * PAGE_SIZE),
		ROOM_MADE);
	assert_int_equal(resident(&w), 0);
	/* Nothing is resident, and copies are not this function's to free. */
	container_set_max(w.container, 0);
	assert_int_not_equal(reclaim_make_room(&w.reclaim, w.pager, w.container, PAGE_SIZE),
			     ROOM_MADE);
	world_close(&w);
}

static void test_after_fault_below_high_does_nothing(void **state)
{
	(void)state;
	world_open(&w, &small);
	write_pages(&w, 0, HIGH, TEXT);
	after_fault();
	assert_int_equal(job_state(), IDLE);
	assert_int_equal(fake_count(FAKE_PROTECT), 0);
	touch(&w, HIGH, true);
	after_fault();
	assert_int_equal(job_state(), OPEN);
	evict(&w, JOB);
	world_close(&w);
}

/* --- the background thread --- */

/* It ends what is open, and goes on until the high mark is reached, no further. */
static void test_background_reclaims_down_to_high(void **state)
{
	(void)state;
	world_open(&w, &small);
	w.check_each = false;
	write_pages(&w, 0, LIMIT, FILLED);
	background_turns(&w, 10);
	world_check(&w);
	assert_in_range(resident(&w), HIGH - JOB, HIGH);
	read_page(&w, 0);
	world_close(&w);
}

static void test_background_does_nothing_during_a_fork(void **state)
{
	(void)state;
	world_open(&w, &small);
	w.check_each = false;
	write_pages(&w, 0, 40, NOISE);
	evict(&w, JOB);
	add_relaxed(&w.vm.hold, 1);
	store_relaxed(&w.vm.memory_share, 0);
	container_set_max(w.container, 16 * PAGE_SIZE);
	background_turns(&w, 3);
	assert_int_equal(resident(&w), 40 - JOB);
	assert_int_equal(fake_count(FAKE_FILE_WRITE), 0);
	assert_int_equal(fake_count(FAKE_DROP), 1);
	sub_relaxed(&w.vm.hold, 1);
	background_turns(&w, 10);
	assert_true(resident(&w) < 16);
	assert_true(load_relaxed(&w.vm.count.written) > 0);
	world_check(&w);
	world_close(&w);
}

static int answer(void *data)
{
	*(bool *)data = true;
	return -ESTALE;
}

static void test_background_runs_errands(void **state)
{
	bool ran = false;
	struct errand errand = {.fn = answer, .data = &ran};

	(void)state;
	world_open(&w, &small);
	store_release(&w.reclaim.errand, &errand);
	background_turns(&w, 1);
	assert_true(ran);
	assert_int_equal(errand.result, -ESTALE);
	assert_null(load_relaxed(&w.reclaim.errand));
	world_close(&w);
}

static void test_quiesce_ends_the_job_that_is_open(void **state)
{
	(void)state;
	world_open(&w, &small);
	job_open();
	reclaim_quiesce(&w.reclaim);
	assert_int_equal(job_state(), IDLE);
	world_check(&w);
	assert_int_equal(resident(&w), HIGH + 1 - JOB);
	reclaim_quiesce(&w.reclaim);
	assert_int_equal(resident(&w), HIGH + 1 - JOB);
	world_close(&w);
}

/* --- compaction --- */

static unsigned in_use(void)
{
	return (unsigned)frames_used(w.pool);
}

/* Most objects are let go, here and there; those that stay move together, with their contents, and frames come free. */
static void test_compaction_moves_objects_and_keeps_contents(void **state)
{
	unsigned before, freed;

	(void)state;
	world_open(&w, &wide);
	write_pages(&w, 0, 600, TEXT);
	write_pages(&w, 600, 200, NOISE);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	/* Three of four go; some of the others are clean, so that both kinds of copies move. */
	for (uint32_t page = 0; page < 800; page++) {
		if (page % 4)
			world_poke(&w, 0, page, 0, 1);
		else if (page % 8)
			read_page(&w, page);
	}
	world_check(&w);
	before = in_use();
	freed = compressed_compact(&w.memory, 0, relocate_object, &w.reclaim);
	world_check(&w);
	assert_true(freed > 0);
	assert_int_equal(in_use(), before - freed);
	assert_true(in_use() < before / 2);
	for (uint32_t page = 0; page < 800; page++)
		read_page(&w, page);
	world_check(&w);
	world_close(&w);
}

/* 400 pages are away, then three of four come back. */
static void leave_sparse(void)
{
	world_open(&w, &wide);
	write_pages(&w, 0, 400, TEXT);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	for (uint32_t page = 0; page < 400; page++) {
		if (page % 4)
			world_poke(&w, 0, page, 0, 1);
	}
}

static void test_compaction_passes_over_a_busy_page(void **state)
{
	uint64_t x;

	(void)state;
	leave_sparse();
	x = word_of(&w, 0);
	assert_true(page_lock(&w.only->word[0], &x));
	(void)compressed_compact(&w.memory, 0, relocate_object, &w.reclaim);
	page_unlock(&w.vm, w.only, 0, x, true);
	assert_int_equal(word_location(word_of(&w, 0)), word_location(x));
	world_check(&w);
	read_all(400);
	world_close(&w);
}

/* However long an object says it is, by then: it moves as it is, costs what it did, and its page is lost. */
static void test_what_rotted_moves_and_costs_what_it_did(void **state)
{
	static const uint16_t lengths[] = {0, 1, 47, 48, 300, 2000, 4096, 0x1ff0};

	(void)state;
	leave_sparse();
	for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		const uint32_t page = 4 * i;
		const slot_t slot = word_location(word_of(&w, page));

		compressed_object(&w.memory, slot)->bytes = lengths[i] & 0x1fff;
		w.lost[0][page] = true;
		relocate_object(&w.reclaim, page_number(w.only, page), slot);
		assert_int_not_equal(word_location(word_of(&w, page)), slot);
		world_check(&w);
	}
	read_all(400);
	for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++)
		assert_int_equal(state_of(4 * i), PAGE_POISONED);
	world_check(&w);
	world_discard(&w, 0, 0, 400, false);
	assert_int_equal(container_usage(w.vm.root, CHARGE_COMPRESSED), 0);
	world_close(&w);
}

/* A slot that is no longer the page's: nothing moves. */
static void test_relocate_refuses_what_is_not_the_pages_copy(void **state)
{
	const page_no_t nowhere = 0x1234;
	uint64_t x;

	(void)state;
	world_open(&w, &wide);
	write_pages(&w, 0, 3, TEXT);
	evict(&w, 3);
	write_pages(&w, 1, 1, TEXT);
	x = word_of(&w, 0);
	relocate_object(&w.reclaim, nowhere, word_location(x));
	relocate_object(&w.reclaim, page_number(w.only, 0), word_location(x) + 1);
	relocate_object(&w.reclaim, page_number(w.only, 1), word_location(x));
	relocate_object(&w.reclaim, page_number(w.only, 2), word_location(x));
	relocate_object(&w.reclaim, page_number(w.only, 200), word_location(x));
	assert_true(word_of(&w, 0) == x);
	world_check(&w);
	/* And the right one moves. */
	relocate_object(&w.reclaim, page_number(w.only, 0), word_location(x));
	assert_int_not_equal(word_location(word_of(&w, 0)), word_location(x));
	world_check(&w);
	read_all(3);
	world_close(&w);
}

/* The background thread compacts, and gives frames back to the system, so that slack does not eat the limit. */
static void test_background_reduces_slack(void **state)
{
	const struct world_options big = {.max = 65536, .pages = {8192}, .pool = MIB(64)};
	uint64_t before;

	(void)state;
	world_open(&w, &big);
	write_pages(&w, 0, 8000, NOISE);
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	for (uint32_t page = 0; page < 8000; page++) {
		if (page % 5)
			world_poke(&w, 0, page, 0, 1);
	}
	before = reclaim_slack(&w.reclaim);
	assert_true(before > MIB(10));
	assert_int_equal(container_held(w.container), container_charged(w.container) + before);
	background_turns(&w, 3);
	world_check(&w);
	assert_true(reclaim_slack(&w.reclaim) < MIB(1));
	assert_true(weir_pool_backed_frames(w.pool, WEIR_ZONE_LOW) <= 512);
	for (uint32_t page = 0; page < 8000; page += 5)
		read_page(&w, page);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clock_of_an_empty_world),
		cmocka_unit_test(test_clock_steps_over_populated_windows),
		cmocka_unit_test(test_jobs_go_round),
		cmocka_unit_test(test_size_of_a_job),
		cmocka_unit_test(test_job_of_few_pages),
		cmocka_unit_test(test_who_is_never_chosen),
		cmocka_unit_test(test_credit_is_paid_for_being_passed_over),
		cmocka_unit_test(test_credit_does_not_protect_for_ever),
		cmocka_unit_test(test_only_one_job),
		cmocka_unit_test(test_no_job_beside_one_that_is_filled_or_dropped),
		cmocka_unit_test(test_pages_of_a_job_stay_readable),
		cmocka_unit_test(test_write_before_the_copy),
		cmocka_unit_test(test_write_after_the_copy),
		cmocka_unit_test(test_written_page_is_cleaned_by_a_later_job),
		cmocka_unit_test(test_faults_during_the_drop_park_and_are_woken),
		cmocka_unit_test(test_page_that_was_busy_when_its_turn_came),
		cmocka_unit_test(test_page_that_was_busy_when_its_job_was_abandoned),
		cmocka_unit_test(test_victims_are_protected_as_ranges),
		cmocka_unit_test(test_bystanders_are_not_protected),
		cmocka_unit_test(test_every_victim_is_a_span),
		cmocka_unit_test(test_clean_pages_between_victims),
		cmocka_unit_test(test_distant_victims_are_protected_apart),
		cmocka_unit_test(test_abandoned_job_gives_every_page_back),
		cmocka_unit_test(test_victims_leave_in_one_call),
		cmocka_unit_test(test_failed_drop_keeps_the_pages),
		cmocka_unit_test(test_drop_that_fails_in_the_middle),
		cmocka_unit_test(test_drop_that_fails_after_some_runs),
		cmocka_unit_test(test_no_room_for_some_copies),
		cmocka_unit_test(test_make_room),
		cmocka_unit_test(test_no_room_to_be_made),
		cmocka_unit_test(test_after_fault_below_high_does_nothing),
		cmocka_unit_test(test_background_reclaims_down_to_high),
		cmocka_unit_test(test_background_does_nothing_during_a_fork),
		cmocka_unit_test(test_background_runs_errands),
		cmocka_unit_test(test_quiesce_ends_the_job_that_is_open),
		cmocka_unit_test(test_compaction_moves_objects_and_keeps_contents),
		cmocka_unit_test(test_compaction_passes_over_a_busy_page),
		cmocka_unit_test(test_what_rotted_moves_and_costs_what_it_did),
		cmocka_unit_test(test_relocate_refuses_what_is_not_the_pages_copy),
		cmocka_unit_test(test_background_reduces_slack),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
