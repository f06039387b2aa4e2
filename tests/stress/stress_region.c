/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stress of regions on the real kernel, through the public functions:
 *
 *     stress_region [--case NAME] [--handlers N] [--placement none|pair|follow] [--mode signal|both] [--kmap SLOTS] [--compress zstd] [SEED] [SECONDS]
 *
 * The storm, which is what happens without --case: 1, then 2, then 4 threads use four areas in every way that memory
 * can be used, while a control thread changes the limit and forks, and another one makes and destroys regions.
 *
 * What must hold:
 *   1. No byte is ever wrong: every read is compared with the oracle (stress.h), also by system calls, also in the
 *      children of a fork.
 *   2. Nothing hangs (the watchdog).
 *   3. The figures are true: at rest, resident is what the kernel says, charged is resident and compressed and slack,
 *      every message was served in exactly one way; when the regions are gone everything is zero.
 *   4. It did not idle: each kind of fault and of work happened.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "stress.h"

enum { AREAS = 4, SPAN_MAX = 64, WORKERS_MAX = 4 };

static struct {
	struct weir *weir;
	struct area *area[AREAS];
	_Atomic bool stop, stop_workers; /* (A) */
	/* The gate: no cell is changed while the control thread forks. */
	_Atomic uint32_t writers, closed; /* (A) sequentially consistent: a Dekker pair */
	_Atomic uint64_t discards, forks, churned, limits, calls; /* (A) */
} storm;

struct worker {
	int pipe[2], file;
	_Alignas(16) char bytes[SPAN_MAX * PAGE_SIZE];
};

/* --- the gate --- */

static bool gate_enter(void)
{
	atomic_fetch_add(&storm.writers, 1);
	if (!atomic_load(&storm.closed))
		return true;
	atomic_fetch_sub(&storm.writers, 1);
	return false;
}

static void gate_leave(void)
{
	atomic_fetch_sub(&storm.writers, 1);
}

static void gate_close(void)
{
	atomic_store(&storm.closed, 1);
	while (atomic_load(&storm.writers)) {
		doing("wait for writers", atomic_load(&storm.writers));
		usleep(100);
	}
}

/* --- what a worker does --- */

static void use_read(struct worker *w, struct area *area, uint32_t first, uint32_t count)
{
	(void)w;
	for (uint32_t i = first; i < first + count; i++)
		cell_check(area, i, "reading");
}

static void use_read_down(struct worker *w, struct area *area, uint32_t first, uint32_t count)
{
	(void)w;
	for (uint32_t i = first + count; i-- > first;)
		cell_check(area, i, "reading downwards");
}

static void use_write(struct worker *w, struct area *area, uint32_t first, uint32_t count)
{
	(void)w;
	for (uint32_t i = first; i < first + count; i++)
		cell_write(area, i, contents_new(area, &me->random));
}

static void use_stamp(struct worker *w, struct area *area, uint32_t first, uint32_t count)
{
	bool down = draw(&me->random, 2);

	(void)w;
	for (uint32_t i = 0; i < count; i++)
		cell_stamp(area, first + (down ? count - 1 - i : i),
			   (uint16_t)draw(&me->random, UINT16_MAX));
}

static void use_read_stamp(struct worker *w, struct area *area, uint32_t first, uint32_t count)
{
	use_read(w, area, first, count);
	use_stamp(w, area, first, count);
}

/* Contents that are new come by read(2) out of a file, in one call over pages that may be absent. */
static void use_file_in(struct worker *w, struct area *area, uint32_t first, uint32_t count)
{
	struct contents contents[SPAN_MAX];
	const size_t bytes = count * area->cell_bytes;
	ssize_t n;

	for (uint32_t i = 0; i < count; i++) {
		contents[i] = contents_new(area, &me->random);
		contents_make(area, first + i, contents[i], w->bytes + i * area->cell_bytes);
	}
	n = pwrite(w->file, w->bytes, bytes, 0);
	CHECK(n == (ssize_t)bytes, "pwrite of plain memory gave %zd", n);
	cells_pin(area, first, count, true);
	doing("pread into a region", (uintptr_t)cell_address(area, first));
	n = syscall(SYS_pread64, w->file, cell_address(area, first), bytes, 0);
	CHECK(n == (ssize_t)bytes, "pread of %zu bytes into a region gave %zd, %s", bytes, n,
	      strerrorname_np(errno));
	for (uint32_t i = 0; i < count; i++)
		cell_note(area, first + i, contents[i]);
	cells_unpin(area, first, count);
}

static void use_file_out(struct worker *w, struct area *area, uint32_t first, uint32_t count)
{
	const size_t bytes = count * area->cell_bytes;
	ssize_t n;

	cells_pin(area, first, count, false);
	doing("pwrite from a region", (uintptr_t)cell_address(area, first));
	n = syscall(SYS_pwrite64, w->file, cell_address(area, first), bytes, 0);
	CHECK(n == (ssize_t)bytes, "pwrite of %zu bytes of a region gave %zd, %s", bytes, n,
	      strerrorname_np(errno));
	cells_unpin(area, first, count);
	n = pread(w->file, w->bytes, bytes, 0);
	CHECK(n == (ssize_t)bytes, "pread into plain memory gave %zd", n);
	for (uint32_t i = 0; i < count; i++)
		cell_compare(area, first + i, w->bytes + i * area->cell_bytes, "pwrite");
}

/* As many cells as a pipe takes: out of the region and back, by calls with several parts. */
static void use_pipe(struct worker *w, struct area *area, uint32_t first, uint32_t count)
{
	struct iovec parts[8];
	size_t bytes;
	ssize_t n;

	count = MIN(count, 8u);
	bytes = count * area->cell_bytes;
	/* The parts go backwards, so that the call faults downwards. */
	for (uint32_t i = 0; i < count; i++)
		parts[i] =
			(struct iovec){cell_address(area, first + count - 1 - i), area->cell_bytes};
	cells_pin(area, first, count, true);
	doing("writev from a region", (uintptr_t)cell_address(area, first));
	n = syscall(SYS_writev, w->pipe[1], parts, count);
	CHECK(n == (ssize_t)bytes, "writev of %zu bytes of a region gave %zd, %s", bytes, n,
	      strerrorname_np(errno));
	doing("readv into a region", (uintptr_t)cell_address(area, first));
	n = syscall(SYS_readv, w->pipe[0], parts, count);
	CHECK(n == (ssize_t)bytes, "readv of %zu bytes into a region gave %zd, %s", bytes, n,
	      strerrorname_np(errno));
	cells_unpin(area, first, count);
	for (uint32_t i = 0; i < count; i++)
		cell_check(area, first + i, "readv");
}

static void use_discard(struct worker *w, struct area *area, uint32_t first, uint32_t count)
{
	const uint32_t from = DIV_UP(first, area->per_page), to = (first + count) / area->per_page;
	int err;

	(void)w;
	if (from >= to)
		return;
	doing("weir_region_discard", from);
	err = weir_region_discard(storm.weir, area->base + ((size_t)from << PAGE_SHIFT),
				  (uint64_t)(to - from) << PAGE_SHIFT);
	CHECK(!err, "weir_region_discard: %s", strerrorname_np(-err));
	for (uint32_t i = from * area->per_page; i < to * area->per_page; i++)
		cell_note(area, i, (struct contents){.kind = ZERO});
	add_relaxed(&storm.discards, 1);
}

static const struct use {
	const char *name;
	void (*use)(struct worker *w, struct area *area, uint32_t first, uint32_t count);
	bool write;
	unsigned often; /* in a hundred */
} uses[] = {
	{"read", use_read, false, 30},
	{"read downwards", use_read_down, false, 8},
	{"write", use_write, true, 10},
	{"stamp", use_stamp, true, 16},
	{"read and stamp", use_read_stamp, true, 16},
	{"file in", use_file_in, true, 4},
	{"file out", use_file_out, false, 6},
	{"pipe", use_pipe, true, 6},
	{"discard", use_discard, true, 4},
};

static const struct use *use_choose(void)
{
	unsigned at = (unsigned)draw(&me->random, 100), i = 0;

	while (at >= uses[i].often)
		at -= uses[i++].often;
	return &uses[i];
}

/* A cell, one of the first quarter of its area more often than not; mostly alone, sometimes the start of a run. */
static void one_use(struct worker *w)
{
	struct area *area = storm.area[draw(&me->random, AREAS)];
	const struct use *use = use_choose();
	uint32_t first = (uint32_t)draw(&me->random,
					draw(&me->random, 10) < 6 ? area->cells / 4 : area->cells);
	uint32_t count = draw(&me->random, 4) ? 1 + (uint32_t)draw(&me->random, 3)
					      : 1 + (uint32_t)draw(&me->random, SPAN_MAX);

	count = MIN(count, area->cells - first);
	if (use->write && !gate_enter())
		use = &uses[0];
	doing(use->name, (uintptr_t)cell_address(area, first));
	if (cells_try(area, first, count, use->write)) {
		use->use(w, area, first, count);
		cells_done(area, first, count, use->write);
	}
	if (use->write)
		gate_leave();
}

static void worker_body(struct player *self)
{
	const bool attach = self->number % 3 != 2;
	struct worker *w = calloc(1, sizeof(*w));

	CHECK(w && !pipe(w->pipe), "no pipe");
	w->file = memfd_create("stress", MFD_CLOEXEC);
	CHECK(w->file >= 0, "no memfd");
	if (attach)
		weir_thread_attach(storm.weir);
	while (!load_relaxed(&storm.stop_workers))
		one_use(w);
	if (attach)
		weir_thread_detach(storm.weir);
	close(w->pipe[0]);
	close(w->pipe[1]);
	close(w->file);
	free(w);
}

/* --- regions that come and go --- */

static void churn_body(struct player *self)
{
	static const unsigned mixes[][KINDS] = {{1, 1, 8, 2}, {0, 0, 1, 1}, {2, 2, 1, 0}};

	(void)self;
	while (!load_relaxed(&storm.stop)) {
		uint32_t pages = 1 + (uint32_t)draw(&me->random, 700);
		struct area *area = area_create(storm.weir, pages, 1,
						mixes[draw(&me->random, ARRAY_SIZE(mixes))]);

		area_fill(area);
		if (draw(&me->random, 2)) {
			area_check(area, "check of a passing region");
			doing("weir_region_discard", 0);
			CHECK(!weir_region_discard(storm.weir, area->base,
						   (uint64_t)(pages / 2) << PAGE_SHIFT),
			      "weir_region_discard failed");
			for (uint32_t i = 0; i < pages / 2; i++)
				cell_note(area, i, (struct contents){.kind = ZERO});
			area_check(area, "check of a passing region, half discarded");
		}
		area_destroy(area);
		add_relaxed(&storm.churned, 1);
		(void)stats_now(storm.weir);
	}
}

/* --- limits and forks --- */

/* In the child, where weir's threads are not: the memory of the parent, as it was. Nothing is changed meanwhile. */
static void child_check(uint64_t random)
{
	alarm(60);
	for (unsigned i = 0; i < AREAS; i++) {
		struct area *area = storm.area[i];

		for (uint32_t cell = (uint32_t)draw(&random, 8); cell < area->cells;
		     cell += 1 + (uint32_t)draw(&random, 8 * SLOW))
			cell_check(area, cell, "a child of fork");
	}
	_exit(0);
}

static void fork_once(void)
{
	int status, err;
	pid_t pid;

	weir_thread_unbind(storm.weir);
	doing("weir_before_fork", 0);
	err = weir_before_fork(storm.weir);
	CHECK(!err, "weir_before_fork: %s", strerrorname_np(-err));
	gate_close();
	doing("fork", 0);
	pid = fork();
	if (pid == 0)
		child_check(me->random);
	CHECK(pid > 0, "fork: %s", strerrorname_np(errno));
	atomic_store(&storm.closed, 0);
	doing("weir_after_fork", 0);
	weir_after_fork(storm.weir);
	while (waitpid(pid, &status, WNOHANG) == 0)
		pause_ms(5);
	CHECK(WIFEXITED(status) && !WEXITSTATUS(status), "a child of fork: status %#x", status);
	add_relaxed(&storm.forks, 1);
}

static void control_body(struct player *self)
{
	/* Small ones mostly: that is where pages move. */
	static const uint64_t limits[] = {MIB(2), MIB(2), MIB(3), MIB(4), MIB(6), MIB(12), MIB(64)};

	(void)self;
	while (!load_relaxed(&storm.stop)) {
		uint64_t limit = limits[draw(&me->random, ARRAY_SIZE(limits))];

		doing("weir_set_limit", limit);
		set_limit(storm.weir, limit);
		add_relaxed(&storm.limits, 1);
		pause_ms(5 + (unsigned)draw(&me->random, 120));
		if (draw(&me->random, 8) == 0)
			fork_once();
	}
}

/* --- the storm --- */

static void idle_check(const struct weir_stats *s)
{
	const struct {
		const char *name;
		uint64_t count;
	} done[] = {
		{"first touches", s->first_faults},
		{"compressed faults", s->compressed_faults},
		{"stored faults", s->stored_faults},
		{"soft faults", s->soft_faults},
		{"parked faults", s->parked_faults},
		{"refaults", s->refaults},
		{"same-filled pages", s->same_filled},
		{"pages moved out", s->moved_out},
		{"pages written to the file", s->written},
		{"pages read ahead", s->ahead},
		{"pages brought in for forks", s->fork_loaded},
		{"forks", load_relaxed(&storm.forks)},
		{"discards", load_relaxed(&storm.discards)},
		{"changes of the limit", load_relaxed(&storm.limits)},
		{"passing regions", load_relaxed(&storm.churned)},
	};
	bool idled = false;

	for (unsigned i = 0; i < ARRAY_SIZE(done); i++) {
		printf("%12" PRIu64 " %s\n", done[i].count, done[i].name);
		idled = idled || !done[i].count;
	}
	printf("%12" PRIu64 " bindings\n", s->bindings);
	fflush(stdout);
	CHECK(!idled, "the run idled: one of the counts above is zero");
	CHECK(setup.placement == WEIR_PLACEMENT_AUTO || setup.placement == WEIR_PLACEMENT_PAIR ||
		      !s->bindings,
	      "bindings without placement");
	CHECK(!s->poisoned && !s->write_failed,
	      "%" PRIu64 " pages poisoned, %" PRIu64 " not written", s->poisoned, s->write_failed);
	CHECK(s->soft_faults + s->parked_faults + s->first_faults + s->compressed_faults +
			      s->stored_faults ==
		      s->faults + s->fork_loaded,
	      "of %" PRIu64 " faults and %" PRIu64 " pages for forks, %" PRIu64 " soft, %" PRIu64
	      " parked, %" PRIu64 " first, %" PRIu64 " compressed, %" PRIu64 " stored",
	      s->faults, s->fork_loaded, s->soft_faults, s->parked_faults, s->first_faults,
	      s->compressed_faults, s->stored_faults);
}

static void storm_threads(unsigned count, double seconds)
{
	const uint64_t until = now_ns() + (uint64_t)(seconds * 1e9);
	struct player *worker[WORKERS_MAX];

	store_relaxed(&storm.stop_workers, false);
	for (unsigned i = 0; i < count; i++)
		worker[i] = player_start("worker", i, worker_body, NULL);
	while (now_ns() < until)
		pause_ms(20);
	store_relaxed(&storm.stop_workers, true);
	for (unsigned i = 0; i < count; i++)
		player_join(worker[i]);
	for (unsigned i = 0; i < AREAS; i++)
		area_check(storm.area[i], "check of everything");
}

static void case_storm(void)
{
	static const struct {
		uint32_t pages, per_page;
		unsigned weight[KINDS];
	} shape[AREAS] = {
		{2048, 1, {1, 1, 8, 1}}, /* like a program's heap */
		{1500, 1, {2, 2, 3, 3}},
		{1024, 1, {0, 0, 0, 1}}, /* forces the file */
		{512, 4, {1, 3, 3, 1}},	 /* four threads on one page */
	};
	struct player *control, *churn;
	struct weir_stats stats;

	storm.weir = open_or_skip(MIB(4));
	for (unsigned i = 0; i < AREAS; i++) {
		storm.area[i] =
			area_create(storm.weir, shape[i].pages, shape[i].per_page, shape[i].weight);
		area_fill(storm.area[i]);
	}
	control = player_start("control", 0, control_body, NULL);
	churn = player_start("churn", 0, churn_body, NULL);
	for (unsigned count = 1; count <= WORKERS_MAX; count *= 2)
		storm_threads(count, setup.seconds / 3);
	store_relaxed(&storm.stop, true);
	player_join(control);
	player_join(churn);
	set_limit(storm.weir, MIB(3));
	stats_check(storm.weir, storm.area, AREAS);
	for (unsigned i = 0; i < AREAS; i++)
		area_check(storm.area[i], "check at the end");
	stats_check(storm.weir, storm.area, AREAS);
	stats = stats_now(storm.weir);
	idle_check(&stats);
	for (unsigned i = 0; i < AREAS; i++)
		area_destroy(storm.area[i]);
	stats_check_empty(storm.weir);
	doing("weir_close", 0);
	weir_close(storm.weir);
}

/* --- the command --- */

static const struct {
	const char *name;
	void (*run)(void);
	double seconds;
} cases[] = {
	{"storm", case_storm, 3},   {"one-page", case_one_page, 0}, {"churn", case_churn, 0},
	{"doomed", case_doomed, 0}, {"reopen", case_reopen, 0},	    {"closefds", case_closefds, 2},
	{"resize", case_resize, 0}, {"many", case_many, 0},	    {"lower", case_lower, 0},
	{"rot", case_rot, 0},	    {"borders", case_borders, 2},
};

static _Noreturn void usage(void)
{
	fprintf(stderr,
		"Usage: stress_region [--case NAME] [--handlers N] [--placement none|pair|follow] "
		"[--mode signal|both] [--kmap SLOTS] [--compress zstd] [SEED] "
		"[SECONDS]\nCases:");
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		fprintf(stderr, " %s", cases[i].name);
	fputc('\n', stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	unsigned which = 0;
	int i = 1;

	setup.seed = now_ns() % 1000000007;
	for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
		if (!strcmp(argv[i], "--kmap")) {
			setup.kmap_slots = (unsigned)strtoul(argv[i + 1], NULL, 0);
		} else if (!strcmp(argv[i], "--compress")) {
			setup.compress = argv[i + 1];
		} else if (!strcmp(argv[i], "--handlers")) {
			setup.handlers = (unsigned)strtoul(argv[i + 1], NULL, 0);
		} else if (!strcmp(argv[i], "--placement") && !strcmp(argv[i + 1], "none")) {
			setup.placement = WEIR_PLACEMENT_NONE;
		} else if (!strcmp(argv[i], "--placement") && !strcmp(argv[i + 1], "pair")) {
			setup.placement = WEIR_PLACEMENT_PAIR;
		} else if (!strcmp(argv[i], "--placement") && !strcmp(argv[i + 1], "follow")) {
			setup.placement = WEIR_PLACEMENT_FOLLOW;
		} else if (!strcmp(argv[i], "--mode") && !strcmp(argv[i + 1], "signal")) {
			setup.mode = WEIR_MODE_SIGNAL;
		} else if (!strcmp(argv[i], "--mode") && !strcmp(argv[i + 1], "both")) {
			setup.mode = WEIR_MODE_BOTH;
		} else if (!strcmp(argv[i], "--case")) {
			for (which = 0; strcmp(cases[which].name, argv[i + 1]);) {
				if (++which == ARRAY_SIZE(cases))
					usage();
			}
		} else {
			usage();
		}
	}
	if (argc > i + 2 || (i < argc && argv[i][0] == '-'))
		usage();
	setup.name = cases[which].name;
	if (i < argc)
		setup.seed = strtoull(argv[i], NULL, 0);
	setup.seconds = i + 1 < argc ? strtod(argv[i + 1], NULL) : cases[which].seconds;
	printf("%s, seed %" PRIu64 "\n", setup.name, setup.seed);
	fflush(stdout);
	descriptors_apart();
	players_init();
	cases[which].run();
	printf("done\n");
	return 0;
}
