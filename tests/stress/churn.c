/* SPDX-License-Identifier: BSD-2-Clause */
/* Cases of regions that come and go while threads fault on them. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#include "stress.h"

static const unsigned all_kinds[KINDS] = {1, 1, 4, 2};

static _Atomic bool stop;

enum { DOOMED_PAGES = 64, DOOMED_BYTE = 0x2a };

static struct {
	_Atomic(char *) base; /* (A) of a region that is destroyed while it is used */
	_Atomic uint32_t
		users; /* (A) threads that may touch it: its addresses are not used again before none does */
	_Atomic uint64_t touches, ends, zeroes; /* (A) */
} doomed;

/* One touch of a region that may be gone: what it held, zeroes, or SIGSEGV, and never a hang. False: it is gone. */
static bool doomed_touch(const char *base)
{
	unsigned char seen;

	doing("touch what is going", (uintptr_t)base);
	if (touch_ends(base + draw(&me->random, DOOMED_PAGES) * PAGE_SIZE, &seen)) {
		add_relaxed(&doomed.ends, 1);
		return false;
	}
	CHECK(!seen || seen == DOOMED_BYTE, "a region that is going shows %#x", seen);
	add_relaxed(&doomed.touches, 1);
	add_relaxed(&doomed.zeroes, !seen);
	return true;
}

static void doomed_body(struct player *self)
{
	(void)self;
	while (!load_relaxed(&stop)) {
		const char *base;
		bool there;

		/* Sequentially consistent, a Dekker pair with doomed_once. */
		atomic_fetch_add(&doomed.users, 1);
		base = atomic_load(&doomed.base);
		there = base && doomed_touch(base);
		atomic_fetch_sub(&doomed.users, 1);
		/* Not to take the CPU from who destroys it. */
		if (!there) {
			doing("wait for a region", 0);
			usleep(50);
		}
	}
}

static void doomed_once(struct weir *weir, struct area *stay)
{
	void *base;
	int err;

	doing("weir_region_create", DOOMED_PAGES);
	err = weir_region_create(weir, DOOMED_PAGES * PAGE_SIZE, &base);
	CHECK(!err, "weir_region_create: %s", strerrorname_np(-err));
	for (unsigned i = 0; i < DOOMED_PAGES; i++)
		region_set_byte((char *)base + i * PAGE_SIZE, DOOMED_BYTE);
	/* Others, so that those are moved out. */
	for (unsigned i = 0; i < 32; i++) {
		uint32_t cell = (uint32_t)draw(&me->random, stay->cells);

		if (cells_try(stay, cell, 1, false)) {
			cell_check(stay, cell, "reading");
			cells_done(stay, cell, 1, false);
		}
	}
	atomic_store(&doomed.base, base);
	usleep((unsigned)draw(&me->random, 300));
	doing("destroy a region in use", (uintptr_t)base);
	if (draw(&me->random, 2))
		atomic_store(&doomed.base, NULL);
	err = weir_region_destroy(weir, base);
	CHECK(!err, "weir_region_destroy: %s", strerrorname_np(-err));
	atomic_store(&doomed.base, NULL);
	for (unsigned polls = 0; atomic_load(&doomed.users); polls++) {
		doing("wait for who touches what is gone", polls);
		sched_yield();
	}
}

/* Takes a mapping into weir, with pages in memory, and out again. */
static void adopt_once(struct weir *weir)
{
	enum { PAGES = 64 };
	struct area *area;
	char *base = mmap(NULL, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(base != MAP_FAILED, "mmap");
	for (unsigned i = 0; i < PAGES / 2; i++)
		region_set_byte(base + i * PAGE_SIZE, DOOMED_BYTE);
	area = area_adopt(weir, base, PAGES);
	for (unsigned i = 0; i < PAGES; i++) {
		unsigned seen = region_byte(base + i * PAGE_SIZE);

		CHECK(seen == (i < PAGES / 2 ? DOOMED_BYTE : 0), "adopted page %u is %#x", i, seen);
	}
	for (unsigned i = 0; i < PAGES; i++)
		region_set_byte(base + i * PAGE_SIZE, (unsigned char)i);
	area_destroy(area);
	for (unsigned i = 0; i < PAGES; i++) {
		unsigned seen = region_byte(base + i * PAGE_SIZE);

		CHECK(seen == i || !seen, "page %u that was adopted is %#x", i, seen);
	}
	munmap(base, PAGES * PAGE_SIZE);
}

static void churn_one(struct weir *weir)
{
	struct area *area = area_create(weir, 1 + (uint32_t)draw(&me->random, 96), 1, all_kinds);

	area_fill(area);
	area_check(area, "check of a passing region");
	area_destroy(area);
}

/* Reads the figures and discards pages of a region that stays: both look at all regions on their way. */
static void asker_body(struct player *self)
{
	struct area *stay = self->arg;

	while (!load_relaxed(&stop)) {
		uint32_t cell = stay->cells - 1 - (uint32_t)draw(&me->random, 64);

		doing("weir_stats_read", 0);
		(void)stats_now(stay->weir);
		doing("weir_region_discard", cell);
		if (!cells_try(stay, cell, 1, true))
			continue;
		CHECK(!weir_region_discard(stay->weir, cell_address(stay, cell), PAGE_SIZE),
		      "weir_region_discard failed");
		cell_note(stay, cell, (struct contents){.kind = ZERO});
		cells_done(stay, cell, 1, true);
	}
}

/* Regions are created and destroyed 1,000 times, some in full use, while other threads fault on others, discard, and
 * read the figures: nothing is mixed up, lost or left over. */
void case_churn(void)
{
	enum { ROAMERS = 2, DOOMED = 2 };
	struct weir *weir = open_or_skip(MIB(2));
	struct area *before = area_create(weir, 1, 1, all_kinds);
	struct area *stay = area_create(weir, 1024, 1, all_kinds);
	struct player *roamer[ROAMERS], *victim[DOOMED], *asker;

	catch_signal(SIGSEGV);
	store_relaxed(&stop, false);
	/* Its place in the table is that of those that come and go, so that looking for the other passes by them. */
	area_destroy(before);
	area_fill(stay);
	roam_start(roamer, ROAMERS, stay);
	for (unsigned i = 0; i < DOOMED; i++)
		victim[i] = player_start("doomed", i, doomed_body, NULL);
	watch_instance(weir);
	asker = player_start("asker", 0, asker_body, stay);
	for (unsigned i = 0; i < 1000 / SLOW; i++) {
		if (i % 4 == 0)
			doomed_once(weir, stay);
		else if (i % 16 == 1)
			adopt_once(weir);
		else
			churn_one(weir);
	}
	store_relaxed(&stop, true);
	for (unsigned i = 0; i < DOOMED; i++)
		player_join(victim[i]);
	player_join(asker);
	roam_stop(roamer, ROAMERS);
	area_check(stay, "check at the end");
	watch_instance(NULL);
	stats_check(weir, &stay, 1);
	area_destroy(stay);
	stats_check_empty(weir);
	weir_close(weir);
	printf("%" PRIu64 " touches of what is going, %" PRIu64 " met its end, %" PRIu64
	       " saw zeroes\n",
	       load_relaxed(&doomed.touches), load_relaxed(&doomed.ends),
	       load_relaxed(&doomed.zeroes));
	CHECK(load_relaxed(&doomed.touches) && load_relaxed(&doomed.ends), "the run idled");
}

/* Regions are destroyed 10,000 times (fewer where a sanitizer looks on) while other threads fault on them: each touch sees what was there or SIGSEGV, and
 * nothing hangs or is left over. */
void case_doomed(void)
{
	enum { TIMES = 10000 / SLOW, DOOMED = 3 };
	struct weir *weir = open_or_skip(MIB(2));
	struct player *victim[DOOMED];

	catch_signal(SIGSEGV);
	store_relaxed(&stop, false);
	for (unsigned i = 0; i < DOOMED; i++)
		victim[i] = player_start("doomed", i, doomed_body, NULL);
	for (unsigned i = 0; i < TIMES; i++) {
		void *base;
		uint64_t seen = load_relaxed(&doomed.touches);
		int err = region_as(weir, DOOMED_PAGES * PAGE_SIZE,
				    setup.mode == WEIR_MODE_BOTH ? WEIR_MODE_THREAD + i % 2
								 : setup.mode,
				    &base);

		CHECK(!err, "weir_region_create: %s", strerrorname_np(-err));
		region_set_byte((char *)base + draw(&me->random, DOOMED_PAGES) * PAGE_SIZE,
				DOOMED_BYTE);
		atomic_store(&doomed.base, base);
		/* Somebody is on it. */
		while (load_relaxed(&doomed.touches) == seen) {
			doing("wait for a touch", i);
			sched_yield();
		}
		doing("destroy a region in use", (uintptr_t)base);
		err = weir_region_destroy(weir, base);
		CHECK(!err, "weir_region_destroy: %s", strerrorname_np(-err));
		atomic_store(&doomed.base, NULL);
		while (atomic_load(&doomed.users)) {
			doing("wait for who touches what is gone", i);
			sched_yield();
		}
	}
	store_relaxed(&stop, true);
	for (unsigned i = 0; i < DOOMED; i++)
		player_join(victim[i]);
	stats_check_empty(weir);
	weir_close(weir);
	printf("%u regions, %" PRIu64 " touches, %" PRIu64 " met the end of one\n", TIMES,
	       load_relaxed(&doomed.touches), load_relaxed(&doomed.ends));
	CHECK(load_relaxed(&doomed.ends), "the run idled");
}
