/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random operations against the oracle of contents, with errors injected and other threads meddling between the calls
 * of the kernel; every 100 steps the oracle of words, charges and copies. One thread: a seed repeats a run exactly.
 * See random_run.h for the environment.
 */
#include "world.h"
#include "store/filestore.h"

#include "random_run.h"

static struct world w;
static struct pager *other; /* of a second handler, which meddles */

enum { WORLDS = 6, PROGRAM_REGIONS = 2, CHECK_EACH = 100 };

/* What happened in all worlds; a run in which something never did has tested nothing. */
static struct {
	uint64_t first, compressed, stored, ahead, parked, vanished, poisoned, moved_out,
		same_filled;
	uint64_t written, write_failed, relocated, locked, over_max, looked;
} sum;

/* --- the program --- */

struct place {
	unsigned region;
	uint32_t page;
};

/* Half of the touches go to an eighth of the pages. */
static struct place anywhere(void)
{
	struct place p = {.region = below(PROGRAM_REGIONS)};
	const uint32_t pages = w.region[p.region]->pages;

	p.page = one_in(2) ? below(pages) : below(pages / 8);
	return p;
}

static uint64_t word_there(struct place p)
{
	return word_at(&w, p.region, p.page);
}

static char *address(struct place p)
{
	return page_address(w.region[p.region], p.page);
}

static void new_contents(char *page)
{
	switch (below(8)) {
	case 0:
		fill_noise(page, random_next(&rng));
		break;
	case 1:
		fill_half_noise(page, random_next(&rng));
		break;
	case 2:
		fill_word(page, one_in(2) ? 0 : (uint32_t)random_next(&rng));
		break;
	default:
		fill_text(page, random_next(&rng));
	}
}

static void program_read(struct place p)
{
	world_read(&w, p.region, p.page);
}

static void program_write(struct place p)
{
	static _Alignas(4096) char page[4096];

	new_contents(page);
	world_write(&w, p.region, p.page, page);
}

static void program_poke(struct place p)
{
	world_poke(&w, p.region, p.page, below(512), random_next(&rng));
}

/* Page by page, up or down. */
static void program_walk(void)
{
	struct place p = anywhere();
	const uint32_t pages = w.region[p.region]->pages;
	const bool up = one_in(2), write = one_in(3);

	for (uint32_t left = 1 + below(100); left; left--) {
		if (write)
			program_poke(p);
		else
			program_read(p);
		if (p.page == (up ? pages - 1 : 0))
			break;
		p.page = up ? p.page + 1 : p.page - 1;
	}
}

/* Hints, and at times what the background thread makes of them. */
static void program_advise(void)
{
	static const enum weir_region_advice advice[] = {
		WEIR_ADVICE_NORMAL,   WEIR_ADVICE_NORMAL, WEIR_ADVICE_SEQUENTIAL,
		WEIR_ADVICE_WILLNEED, WEIR_ADVICE_RANDOM, WEIR_ADVICE_COLD,
	};
	struct place p = anywhere();
	struct advised piece;

	assert_int_equal(region_advise(&w.vm, w.region[p.region], p.page,
				       1 + below(w.region[p.region]->pages - p.page),
				       advice[below(ARRAY_SIZE(advice))]),
			 0);
	while (!one_in(4) && advised_cut(&w.vm, &w.vm.wanted, NULL, RUN_MAX, &piece)) {
		sum.looked += pagein_ahead(&w.vm, w.pager, piece.region, piece.first,
					   piece.end - piece.first);
	}
}

/* With locked pages in it the call fails, and a part is gone: the words say which. */
static void program_discard(void)
{
	struct place p = anywhere();
	const uint32_t left = w.region[p.region]->pages - p.page, most = one_in(4) ? 1200 : 20;
	const uint32_t count = 1 + below(MIN(left, most));

	(void)region_discard(&w.vm, one_in(2) ? w.pager : NULL, w.region[p.region], p.page, count);
	for (uint32_t page = p.page; page < p.page + count; page++) {
		if (word_at(&w, p.region, page) != PAGE_NONE)
			continue;
		memset(content_of(&w, p.region, page), 0, PAGE_SIZE);
		w.lost[p.region][page] = false;
	}
}

/* --- what a program can do behind weir's back --- */

static void drop_behind(void)
{
	struct place p = anywhere();

	/* Of a page that a job is about to copy this must not happen: the job would read what is not there. */
	if (!word_resident(word_there(p)) || word_state(word_there(p)) == PAGE_CLEANING)
		return;
	fake_lock(address(p), false);
	fake_drop_behind(address(p));
	memset(content_of(&w, p.region, p.page), 0, PAGE_SIZE);
	w.lost[p.region][p.page] = false;
	program_read(p);
}

static void install_behind(void)
{
	static _Alignas(4096) char page[4096];
	struct place p = anywhere();

	if (word_resident(word_there(p)) || word_state(word_there(p)) == PAGE_POISONED ||
	    w.lost[p.region][p.page])
		return;
	new_contents(page);
	fake_install_behind(address(p), page);
	memcpy(content_of(&w, p.region, p.page), page, PAGE_SIZE);
	/* A run that breaks at a neighbour does not get here: then its thread faults again. */
	for (unsigned i = 0; i < 4 && !word_resident(word_there(p)); i++) {
		fake_wait(address(p));
		assert_int_equal(pagein(&w.vm, w.pager, w.region[p.region], p.page, ACCESS_READ),
				 PAGEIN_DONE);
		assert_false(fake_waiting(address(p)));
	}
	program_read(p);
}

static void lock_some(void)
{
	fake_lock(address(anywhere()), true);
	sum.locked++;
}

static void unlock_all(void)
{
	for (unsigned r = 0; r < PROGRAM_REGIONS; r++) {
		for (uint32_t page = 0; page < w.region[r]->pages; page++)
			fake_lock(page_address(w.region[r], page), false);
	}
}

/* --- what breaks --- */

/* A bit of a copy, in memory or in the file. The header's last byte says nothing about the contents. */
static void break_copy(void)
{
	struct place p = anywhere();
	const uint64_t x = word_there(p);
	unsigned char *copy;
	size_t bytes;

	/* Broken twice may be mended. */
	if (w.lost[p.region][p.page])
		return;
	if (word_kind(x) == COPY_MEMORY)
		copy = (unsigned char *)compressed_object(&w.memory, word_location(x));
	else if (word_kind(x) == COPY_FILE)
		copy = fake_file(&bytes) +
		       (size_t)(word_location(x) >> FILE_UNITS_SHIFT) * w.store.unit;
	else
		return;
	bytes = object_size((struct object *)copy);
	copy[one_in(3) ? below(sizeof(struct object) - 1)
		       : sizeof(struct object) + below((uint32_t)(bytes - 16))] ^=
		(unsigned char)(1u << below(8));
	w.lost[p.region][p.page] = true;
}

/* A failed read loses the page that faulted, and no other. */
static void failed_file_read(void)
{
	struct place p = anywhere();
	const uint64_t x = word_there(p);

	if (word_kind(x) != COPY_FILE || word_state(x) != PAGE_ABSENT || w.lost[p.region][p.page])
		return;
	w.lost[p.region][p.page] = true;
	fake_fail(FAKE_FILE_READ, 1, below(2) * 512, -EIO);
	program_read(p);
	(void)fake_calm();
	/* A stream had begun lower down, and this page was not the one that the failed read was for. */
	if (word_state(word_there(p)) != PAGE_POISONED)
		w.lost[p.region][p.page] = false;
}

static void inject(void)
{
	static const struct {
		enum fake_call call;
		int err;
		unsigned done;
	} failures[] = {
		{FAKE_COPY, -ENOMEM, 20},	   {FAKE_COPY, -EAGAIN, 20},
		{FAKE_PROTECT, -EAGAIN, 1},	   {FAKE_PROTECT, -ENOMEM, 1},
		{FAKE_UNPROTECT, -EAGAIN, 1},	   {FAKE_ZEROPAGE, -EAGAIN, 1},
		{FAKE_DROP, -EINVAL, 100},	   {FAKE_DROP, -ENOMEM, 100},
		{FAKE_FILE_WRITE, -ENOSPC, 99999}, {FAKE_FILE_WRITE, -EIO, 9999},
		{FAKE_FILE_OPEN, -EACCES, 1},
	};
	const unsigned i = below(ARRAY_SIZE(failures));

	fake_fail(failures[i].call, 1 + below(3), below(failures[i].done), failures[i].err);
}

/* --- a second handler, between the calls of the first --- */

/* One touch by another thread; false: it parked, and waits. */
static bool other_touch(struct place p, bool write)
{
	for (unsigned i = 0; i < 8; i++) {
		const enum fake_touch touch = fake_touch(address(p), write);

		if (touch == TOUCH_DONE)
			return true;
		if (touch == TOUCH_SIGBUS)
			return false;
		if (pagein(&w.vm, other, w.region[p.region], p.page,
			   touch == TOUCH_PROTECTED ? ACCESS_WP
			   : write		    ? ACCESS_WRITE
						    : ACCESS_READ) == PAGEIN_PARKED)
			return false;
	}
	fail_msg("a second thread faults for ever");
	return false;
}

/* The next page that somebody is working on, if there is one. */
static struct place where_it_is_busy(void)
{
	struct place p = anywhere();
	const uint32_t pages = w.region[p.region]->pages;

	for (uint32_t i = 0; i < pages && !(word_there(p) & WORD_BUSY); i++)
		p.page = (p.page + 1) % pages;
	return p;
}

static void meddle(void *data)
{
	const struct place p = one_in(2) ? anywhere() : where_it_is_busy();
	char *page = content_of(&w, p.region, p.page);

	(void)data;
	switch (below(5)) {
	case 0:
	case 1:
		if (other_touch(p, false))
			assert_memory_equal(address(p), page, PAGE_SIZE);
		return;
	case 2:
		if (!other_touch(p, true))
			return;
		assert_memory_equal(address(p), page, PAGE_SIZE);
		((uint64_t *)address(p))[1] = ((uint64_t *)page)[1] = random_next(&rng);
		w.lost[p.region][p.page] = false;
		return;
	case 3:
		/* Not of a busy page: this thread would wait for itself. */
		if (!(word_there(p) & WORD_BUSY) &&
		    !region_discard(&w.vm, NULL, w.region[p.region], p.page, 1)) {
			memset(page, 0, PAGE_SIZE);
			w.lost[p.region][p.page] = false;
		}
		return;
	default:
		(void)reclaim_once(&w.reclaim, other);
	}
}

static void meddle_soon(void)
{
	static const enum fake_call calls[] = {FAKE_COPY,      FAKE_PROTECT, FAKE_DROP,
					       FAKE_UNPROTECT, FAKE_DISCARD, FAKE_FILE_WRITE,
					       FAKE_FILE_READ};

	fake_meanwhile(calls[below(ARRAY_SIZE(calls))], meddle, NULL);
}

/* --- weir --- */

static void compact(void)
{
	sum.relocated +=
		compressed_compact(&w.memory, below(2) * MIB(1), relocate_object, &w.reclaim);
}

/* There is one background thread: it does not write while it writes. */
static void background_writes(void *data)
{
	static bool writing;

	(void)data;
	if (writing)
		return;
	writing = true;
	(void)writeback_once(&w.reclaim);
	writing = false;
}

static void write_back(void)
{
	store_relaxed(&w.vm.memory_share, one_in(2) ? 0 : below(512) * PAGE_SIZE);
	if (one_in(20))
		fake_disk(one_in(2) ? below(FAKE_FILE_MAX / 16) / PAGE_SIZE * PAGE_SIZE
				    : FAKE_FILE_MAX);
	for (unsigned i = below(4); i < 4; i++)
		background_writes(NULL);
	fake_time_pass(below(3) * 1000000000ull);
}

static void change_limit(void)
{
	container_set_max(w.container, (uint64_t)(64 + below(1000)) << PAGE_SHIFT);
	store_relaxed(&tenant_of(w.container)->credit.on, one_in(2));
}

/* Everything comes in; what is lost is told. */
static void fork_comes(void)
{
	bool lost = false;
	int err;

	add_relaxed(&w.vm.hold, 1);
	reclaim_quiesce(&w.reclaim);
	err = vm_bring_in(&w.vm, w.pager);
	for (unsigned r = 0; r < PROGRAM_REGIONS; r++) {
		for (uint32_t page = 0; page < w.region[r]->pages; page++) {
			assert_int_not_equal(word_state(word_at(&w, r, page)), PAGE_ABSENT);
			lost |= word_state(word_at(&w, r, page)) == PAGE_POISONED;
		}
	}
	assert_int_equal(err, lost ? -EIO : 0);
	sub_relaxed(&w.vm.hold, 1);
}

/* One turn of the background thread, without its naps. */
static int no_errand(void *data)
{
	reclaim_stop(data);
	return 0;
}

static void wake_all(void)
{
	struct errand errand = {.fn = no_errand, .data = &w.reclaim};

	store_release(&w.reclaim.errand, &errand);
	reclaim_run(&w.reclaim);
	store_relaxed(&w.reclaim.stop, false);
}

/* --- one step --- */

static void step(void)
{
	const unsigned dice = below(100);

	if (one_in(10))
		inject();
	if (one_in(6))
		meddle_soon();
	if (dice < 30)
		program_read(anywhere());
	else if (dice < 42)
		program_write(anywhere());
	else if (dice < 54)
		program_poke(anywhere());
	else if (dice < 60)
		program_walk();
	else if (dice < 62)
		program_discard();
	else if (dice < 63)
		program_advise();
	else if (dice < 75)
		(void)reclaim_once(&w.reclaim, w.pager);
	else if (dice < 84)
		reclaim_after_fault(&w.reclaim, w.pager);
	else if (dice < 90)
		write_back();
	else if (dice < 92)
		compact();
	else if (dice < 94)
		lock_some();
	else if (dice < 95)
		change_limit();
	(void)fake_calm();
	if (dice == 95)
		break_copy();
	else if (dice == 96)
		drop_behind();
	else if (dice == 97)
		install_behind();
	else if (dice == 98)
		failed_file_read();
	else if (dice == 99 && one_in(10))
		fork_comes();
}

/* No fault is forgotten: who parked has been woken, or will be by the background thread. */
static void nobody_waits(void)
{
	if (load_relaxed(&w.vm.wake_all))
		wake_all();
	for (unsigned r = 0; r < PROGRAM_REGIONS; r++) {
		for (uint32_t page = 0; page < w.region[r]->pages; page++) {
			if (fake_waiting(page_address(w.region[r], page)))
				fail_msg("a thread waits on page %u of region %u, word %#llx", page,
					 r, (unsigned long long)word_at(&w, r, page));
		}
	}
}

/* Pages whose broken copy has gone are as good as any; those that are poisoned begin anew. */
static void forget_losses(void)
{
	for (unsigned r = 0; r < PROGRAM_REGIONS; r++) {
		for (uint32_t page = 0; page < w.region[r]->pages; page++) {
			const uint64_t x = word_at(&w, r, page);

			if (word_state(x) == PAGE_POISONED) {
				fake_lock(page_address(w.region[r], page), false);
				assert_int_equal(world_discard(&w, r, page, 1, true), 0);
			}
			w.lost[r][page] &= word_kind(x) != COPY_NONE;
		}
	}
}

static void sum_up(void)
{
	struct vm_counters *n = &w.vm.count;

	sum.first += load_relaxed(&n->first);
	sum.compressed += load_relaxed(&n->compressed);
	sum.stored += load_relaxed(&n->stored);
	sum.ahead += load_relaxed(&n->ahead);
	sum.parked += load_relaxed(&n->parked);
	sum.vanished += load_relaxed(&n->vanished);
	sum.poisoned += load_relaxed(&n->poisoned);
	sum.moved_out += load_relaxed(&n->moved_out);
	sum.same_filled += load_relaxed(&n->same_filled);
	sum.written += load_relaxed(&n->written);
	sum.write_failed += load_relaxed(&n->write_failed);
	sum.over_max += load_relaxed(&w.container->count[COUNT_OVER_MAX]);
}

static void one_world(unsigned number)
{
	const struct world_options options = {
		.max = number == 0 ? 16384 : 64 + below(1000),
		.pages = {600 + below(1500), 64 + below(500)},
		.free_frames = number == 1 ? 256 : 0,
		.streams = true,
	};

	world_open(&w, &options);
	fake_on_yield(background_writes, NULL);
	/* Each look at the clock takes as long as ten naps: who waits for room has its patience, and does not look for it 4,096 times. */
	fake_time_step(2000000);
	if (number & 1)
		fake_file_unit(4096);
	for (unsigned i = 1; i <= steps; i++) {
		step();
		if (i % CHECK_EACH)
			continue;
		nobody_waits();
		world_check(&w);
		forget_losses();
		if (one_in(4))
			unlock_all();
	}
	fake_disk(FAKE_FILE_MAX);
	forget_losses();
	for (unsigned r = 0; r < PROGRAM_REGIONS; r++) {
		for (uint32_t page = 0; page < w.region[r]->pages; page++)
			world_read(&w, r, page);
	}
	reclaim_quiesce(&w.reclaim);
	sum_up();
	world_close(&w);
}

static void test_random_operations_follow_the_oracles(void **state)
{
	(void)state;
	other = mem_alloc(ALIGN_UP(sizeof(*other), PAGE_SIZE));
	assert_non_null(other);
	for (unsigned i = 0; i < WORLDS; i++) {
		/* Each world by itself, so that one can be repeated without those before. */
		rng = seed + i;
		one_world(i);
	}
	mem_release(other, ALIGN_UP(sizeof(*other), PAGE_SIZE));
}

/* It fails if it idled. */
static void test_everything_happened(void **state)
{
	bool all = true;

	(void)state;
	if (steps < 1000)
		skip();
	all &= HAPPENED(first);
	all &= HAPPENED(compressed);
	all &= HAPPENED(stored);
	all &= HAPPENED(ahead);
	all &= HAPPENED(parked);
	all &= HAPPENED(vanished);
	all &= HAPPENED(poisoned);
	all &= HAPPENED(moved_out);
	all &= HAPPENED(same_filled);
	all &= HAPPENED(written);
	all &= HAPPENED(write_failed);
	all &= HAPPENED(relocated);
	all &= HAPPENED(locked);
	all &= HAPPENED(over_max);
	all &= HAPPENED(looked);
	assert_true(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_operations_follow_the_oracles),
		cmocka_unit_test(test_everything_happened),
	};
	random_run_begin(8000);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
