/* SPDX-License-Identifier: BSD-2-Clause */
/* Single situations, each of its own invariant, which stands above its function. */
#include <dirent.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "stress.h"

static const unsigned noises[KINDS] = {0, 0, 0, 1}, all_kinds[KINDS] = {1, 1, 4, 2};

static _Atomic bool roaming;

/* Reads and writes random cells of an area while `roaming`. */
static void roam(struct player *self)
{
	struct area *area = self->arg;

	while (load_relaxed(&roaming)) {
		uint32_t cell = (uint32_t)draw(&me->random, area->cells);
		bool write = draw(&me->random, 3) == 0;

		doing(write ? "stamp" : "read", cell);
		if (!cells_try(area, cell, 1, write))
			continue;
		if (write)
			cell_stamp(area, cell, (uint16_t)draw(&me->random, UINT16_MAX));
		else
			cell_check(area, cell, "reading");
		cells_done(area, cell, 1, write);
	}
}

void roam_start(struct player **player, unsigned count, struct area *area)
{
	store_relaxed(&roaming, true);
	for (unsigned i = 0; i < count; i++)
		player[i] = player_start("roamer", i, roam, area);
}

void roam_stop(struct player **player, unsigned count)
{
	store_relaxed(&roaming, false);
	for (unsigned i = 0; i < count; i++)
		player_join(player[i]);
}

/* --- many threads on one page --- */

enum { CROWD = 64, LANE = PAGE_SIZE / CROWD };

static struct {
	pthread_barrier_t start, end;
	char *page;
	unsigned char expected[PAGE_SIZE];
	bool write, over;
} crowd;

static void crowd_body(struct player *self)
{
	const unsigned lane = self->number * LANE;

	for (unsigned round = 0;; round++) {
		doing("wait for the start", round);
		pthread_barrier_wait(&crowd.start);
		if (crowd.over)
			return;
		doing("touch", (uintptr_t)crowd.page);
		/* Every other thread writes, in rounds of writing: reads meet the writes of others. */
		if (crowd.write && self->number % 2) {
			region_set_byte(crowd.page + lane, crowd.expected[lane] ^ 0x55);
		} else {
			unsigned char seen = region_byte(crowd.page + lane + 1);

			CHECK(seen == crowd.expected[lane + 1], "thread %u sees %#x, expected %#x",
			      self->number, seen, crowd.expected[lane + 1]);
		}
		doing("wait for the end", round);
		pthread_barrier_wait(&crowd.end);
	}
}

/* Pushes a page out by reading others; at the end there is room, so that it comes back once only. */
static void push_out(struct area *area, uint32_t page, struct area *ballast)
{
	const char *address = cell_address(area, page);

	set_limit(area->weir, MIB(1));
	for (uint32_t i = 0; page_resident(address); i++) {
		CHECK(i < 200 * ballast->cells, "page %u stays in memory whatever is touched",
		      page);
		doing("push out", i);
		cell_check(ballast, (uint32_t)draw(&me->random, ballast->cells), "reading ballast");
	}
	set_limit(area->weir, MIB(256));
	/* Of a drop that is under way the page may still be in a CPU's TLB, and is read without a fault. It is counted when the call has
	 * returned. */
	for (unsigned polls = 0;
	     stats_now(area->weir).resident !=
	     (uint64_t)(area_resident(area) + area_resident(ballast)) << PAGE_SHIFT;
	     polls++) {
		CHECK(polls < 10000 * SLOW, "weir counts other pages than the kernel");
		pause_ms(1);
	}
}

/* 64 threads touch one absent page at the same moment: one load, and all of them go on with the right bytes. */
void case_one_page(void)
{
	struct weir *weir = open_or_skip(MIB(1));
	struct area *area = area_create(weir, 256, 1, all_kinds);
	struct area *ballast = area_create(weir, 1024, 1, noises);
	struct player *player[CROWD];
	struct weir_stats before, after = {0};

	area_fill(area);
	area_fill(ballast);
	pthread_barrier_init(&crowd.start, NULL, CROWD + 1);
	pthread_barrier_init(&crowd.end, NULL, CROWD + 1);
	for (unsigned i = 0; i < CROWD; i++)
		player[i] = player_start("crowd", i, crowd_body, NULL);
	for (unsigned round = 0; round < 48; round++) {
		const bool first_touch = round % 6 == 5;
		uint32_t page = (uint32_t)draw(&me->random, area->cells);

		crowd.page = cell_address(area, page);
		crowd.write = round % 2;
		if (first_touch) {
			CHECK(!weir_region_discard(weir, crowd.page, PAGE_SIZE), "discard failed");
			cell_note(area, page, (struct contents){.kind = ZERO});
			set_limit(weir, MIB(256));
		}
		contents_make(area, page, area->cell[page].now, crowd.expected);
		/* Nobody else faults, so from then on it stays away; what the background thread still does is no load. */
		do {
			if (!first_touch)
				push_out(area, page, ballast);
			before = stats_now(weir);
		} while (page_resident(crowd.page));
		pthread_barrier_wait(&crowd.start);
		doing("wait for the crowd", round);
		pthread_barrier_wait(&crowd.end);
		after = stats_now(weir);
		CHECK(after.first_faults - before.first_faults == first_touch &&
			      after.compressed_faults + after.stored_faults -
					      before.compressed_faults - before.stored_faults ==
				      !first_touch,
		      "round %u: %" PRIu64 " first, %" PRIu64 " compressed, %" PRIu64
		      " stored loads instead of one",
		      round, after.first_faults - before.first_faults,
		      after.compressed_faults - before.compressed_faults,
		      after.stored_faults - before.stored_faults);
		for (unsigned i = 1; crowd.write && i < CROWD; i += 2)
			crowd.expected[(size_t)i * LANE] ^= 0x55;
		region_load(me->seen, crowd.page, PAGE_SIZE);
		CHECK(!memcmp(me->seen, crowd.expected, PAGE_SIZE), "round %u: a write was lost",
		      round);
		cell_write(area, page, contents_new(area, &me->random));
	}
	printf("%" PRIu64 " compressed, %" PRIu64 " stored, %" PRIu64 " parked, %" PRIu64 " soft\n",
	       after.compressed_faults, after.stored_faults, after.parked_faults,
	       after.soft_faults);
	CHECK(after.compressed_faults && after.stored_faults &&
		      after.parked_faults + after.soft_faults,
	      "the run idled");
	crowd.over = true;
	pthread_barrier_wait(&crowd.start);
	for (unsigned i = 0; i < CROWD; i++)
		player_join(player[i]);
	area_check(area, "check at the end");
	area_destroy(area);
	area_destroy(ballast);
	stats_check_empty(weir);
	weir_close(weir);
}

/* --- instances that come and go --- */

static unsigned entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned count = 0;

	CHECK(dir, "%s: %s", path, strerrorname_np(errno));
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static unsigned lines(const char *path)
{
	FILE *file = fopen(path, "re");
	unsigned count = 0;
	int c;

	CHECK(file, "%s: %s", path, strerrorname_np(errno));
	while ((c = getc(file)) != EOF)
		count += c == '\n';
	fclose(file);
	return count;
}

static void open_once(void)
{
	struct weir *weir = open_or_skip(MIB(1) + draw(&me->random, MIB(3)));
	struct area *area = area_create(weir, 700, 1, all_kinds);
	void *left;

	area_fill(area);
	area_check(area, "check before the end");
	/* Half of them leave their regions to weir_close. */
	if (draw(&me->random, 2)) {
		area_destroy(area);
	} else {
		CHECK(!weir_region_create(weir, MIB(1), &left), "weir_region_create failed");
		region_set_byte(left, 1);
		area_forget(area);
	}
	doing("weir_close", 0);
	weir_close(weir);
}

/* weir_open and weir_close 200 times, with data: no descriptor, thread or mapping is left behind. */
void case_reopen(void)
{
	unsigned fds, tasks, maps, polls = 0;

	/* The first ones fill the caches of libc: stacks, arenas. */
	for (unsigned i = 0; i < 10; i++)
		open_once();
	fds = entries("/proc/self/fd");
	tasks = entries("/proc/self/task");
	maps = lines("/proc/self/maps");
	for (unsigned i = 0; i < 200 / SLOW; i++)
		open_once();
	/* A thread that was joined may be seen a moment longer. */
	while (entries("/proc/self/task") > tasks && polls++ < 1000)
		pause_ms(1);
	printf("descriptors %u, %u; threads %u, %u; mappings %u, %u\n", fds,
	       entries("/proc/self/fd"), tasks, entries("/proc/self/task"), maps,
	       lines("/proc/self/maps"));
	CHECK(entries("/proc/self/fd") == fds, "descriptors leak");
	/* One that lingered may be in the first count; a leak would be 200 / SLOW at least. */
	CHECK(entries("/proc/self/task") <= tasks, "threads leak");
	/* Neighbouring mappings are merged or not as it comes, those of ThreadSanitizer's shadow too; a leak would be
	 * 200 / SLOW at least. */
	CHECK(lines("/proc/self/maps") <= maps + (SLOW > 1 ? 40 : 10), "mappings leak");
}

/* --- a program that closes everything --- */

/* The program closes all descriptors above 2 while its threads fault: weir's are not among them, and a file that is
 * first needed afterwards works as well. */
void case_closefds(void)
{
	enum { ROAMERS = 3 };
	struct weir *weir = open_or_skip(MIB(8));
	struct area *area = area_create(weir, 2048, 1, noises);
	struct player *roamer[ROAMERS];
	const uint64_t until = now_ns() + (uint64_t)(setup.seconds * 1e9);
	struct weir_stats stats;

	area_fill(area);
	roam_start(roamer, ROAMERS, area);
	pause_ms(50);
	CHECK(!syscall(SYS_close_range, 3u, ~0u, 0u), "close_range: %s", strerrorname_np(errno));
	set_limit(weir, MIB(2));
	while (now_ns() < until) {
		pause_ms(10);
		(void)syscall(SYS_close_range, 3u, ~0u, 0u);
	}
	roam_stop(roamer, ROAMERS);
	area_check(area, "check at the end");
	stats_check(weir, &area, 1);
	stats = stats_now(weir);
	CHECK(stats.stored_faults && stats.written, "the run idled");
	area_destroy(area);
	stats_check_empty(weir);
	weir_close(weir);
}

/* --- a limit that is lowered --- */

/* A limit that is lowered while four threads fault is kept again after a bounded time. */
void case_lower(void)
{
	enum { ROAMERS = 4, POLLS = 3000 * SLOW };
	const uint64_t low = MIB(3), spare = KIB(512); /* a batch of copies, made by force */
	struct weir *weir = open_or_skip(MIB(64));
	struct area *area = area_create(weir, 4096, 1, all_kinds);
	struct player *roamer[ROAMERS];
	unsigned worst = 0;

	area_fill(area);
	roam_start(roamer, ROAMERS, area);
	for (unsigned round = 0; round < 8; round++) {
		struct weir_stats s;
		unsigned polls = 0;

		set_limit(weir, MIB(64));
		pause_ms(300);
		set_limit(weir, low);
		while ((s = stats_now(weir)).charged > low + spare) {
			CHECK(polls++ < POLLS,
			      "after %u ms charged is %" PRIu64 " (resident %" PRIu64
			      ", compressed %" PRIu64 "), limit %" PRIu64,
			      POLLS, s.charged, s.resident, s.compressed, s.limit);
			pause_ms(1);
		}
		worst = MAX(worst, polls);
	}
	roam_stop(roamer, ROAMERS);
	printf("at most %u polls, one a millisecond\n", worst);
	area_check(area, "check at the end");
	stats_check(weir, &area, 1);
	area_destroy(area);
	stats_check_empty(weir);
	weir_close(weir);
}

/* --- a region of many mappings --- */

/*
 * mlock, mprotect and madvise of single pages divide a region into many mappings. Runs go over their borders, and what
 * is locked stays in memory; the limit is kept all the same.
 */
void case_borders(void)
{
	enum { ROAMERS = 2, LOCKED = 32 };
	const uint64_t until = now_ns() + (uint64_t)(setup.seconds * 1e9);
	struct weir *weir = open_or_skip(MIB(2));
	struct area *area = area_create(weir, 2048, 1, all_kinds);
	struct player *roamer[ROAMERS];

	area_fill(area);
	for (uint32_t i = 0; i < area->cells; i += 1 + (uint32_t)draw(&me->random, 9)) {
		doing("divide", i);
		if (draw(&me->random, 2))
			CHECK(!syscall(SYS_madvise, cell_address(area, i), PAGE_SIZE,
				       MADV_DONTDUMP),
			      "madvise: %s", strerrorname_np(errno));
		else
			CHECK(!mprotect(cell_address(area, i), PAGE_SIZE,
					PROT_READ | PROT_WRITE | PROT_EXEC),
			      "mprotect: %s", strerrorname_np(errno));
	}
	/* The call itself: sanitizers make libc's do nothing. */
	for (uint32_t i = 0; i < LOCKED; i++) {
		const uint32_t cell = i * (area->cells / LOCKED);

		cells_pin(area, cell, 1, true);
		CHECK(!syscall(SYS_mlock, cell_address(area, cell), PAGE_SIZE), "mlock: %s",
		      strerrorname_np(errno));
		cells_unpin(area, cell, 1);
	}
	roam_start(roamer, ROAMERS, area);
	/* In order, so that there are runs, beside those who come at random. */
	while (now_ns() < until) {
		bool down = draw(&me->random, 2), write = draw(&me->random, 2);

		for (uint32_t i = 0; i < area->cells; i++) {
			uint32_t cell = down ? area->cells - 1 - i : i;

			doing(down ? "go down" : "go up", cell);
			if (!cells_try(area, cell, 1, write))
				continue;
			cell_check(area, cell, "reading in order");
			if (write)
				cell_stamp(area, cell, (uint16_t)draw(&me->random, UINT16_MAX));
			cells_done(area, cell, 1, write);
		}
	}
	roam_stop(roamer, ROAMERS);
	area_check(area, "check at the end");
	for (uint32_t i = 0; i < LOCKED; i++)
		CHECK(page_resident(cell_address(area, i * (area->cells / LOCKED))),
		      "a locked page left");
	stats_check(weir, &area, 1);
	area_destroy(area);
	stats_check_empty(weir);
	weir_close(weir);
}
