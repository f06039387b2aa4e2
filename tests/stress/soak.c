/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The soak: everything that weir does at once, on the real kernel, for as long as one likes, while things go wrong.
 *
 *     soak [--seed N] [SECONDS]        600 if not given
 *
 * Four threads use five regions, of both fault modes, in every way; others make and destroy regions and containers, read a
 * file through regions, change limits and owners, shrink and grow regions, bring blocks of the pool on- and offline; two more use
 * an instance whose frames are not mapped. Meanwhile writes of cold
 * pages fail, copies are damaged, and memory is not to be had (soak.h).
 *
 * What must hold:
 *   1. No byte is ever wrong. A page that cannot be read back says so, and there are no more such pages than errors that
 *      can cost one; weir counts them as they are met.
 *   2. Nothing hangs (the watchdog).
 *   3. At the end no frame and no charge is left, and the counters agree with each other and with the kernel.
 *   4. It did not idle: every kind of work and every injected error happened.
 *
 * The seed determines what each thread does next, and at which of their calls errors are injected; not how threads meet. Ends
 * with 0, 1 (with what went wrong and the seed), 2 for wrong arguments, 77 where it cannot run (and why).
 */
#include "soak.h"
#include "store/filestore.h"

#include <dirent.h>
#include <errno.h>
#include <sys/syscall.h>

#include "control/stock.h"
#include "instance.h"
#include "lost.h"
#include "os/uffd.h"

enum { FILES = 2, GRACE_S = 60 };

struct soak soak;

/* --- what must hold at the end --- */

struct row {
	const char *name;
	uint64_t count;
};

enum { ROWS_MAX = 64 };

/* All that must have happened. Returns how many there are. */
static unsigned rows_read(struct row row[ROWS_MAX])
{
	const struct weir_stats stats = stats_now(soak.weir), *s = &stats;
	const struct weir_stats far = stats_now(soak.far);
	struct weir_kmap_stats windows = {.size = sizeof(windows)};
	uint64_t drains, missed;
	unsigned count;

	stock_drains(&drains, &missed);
	CHECK(!weir_kmap_stats_read(soak.windows, &windows), "weir_kmap_stats_read");
	const struct row rows[] = {
		{"cells read", load_relaxed(&soak.reads)},
		{"cells written", load_relaxed(&soak.writes)},
		{"discards", load_relaxed(&soak.discards)},
		{"pins", load_relaxed(&soak.pins)},
		{"pages of a file region", load_relaxed(&soak.file_pages)},
		{"writes to a file", load_relaxed(&soak.file_written)},
		{"syncs of a file", load_relaxed(&soak.file_syncs)},
		{"errors of writing a file that were told", load_relaxed(&soak.file_told)},
		{"passing regions", load_relaxed(&soak.regions)},
		{"regions and containers refused", load_relaxed(&soak.refused_regions)},
		{"charges of the program's own", load_relaxed(&soak.charges)},
		{"acts of the governor", load_relaxed(&soak.governed)},
		{"changes of owner", load_relaxed(&soak.owners)},
		{"stock drains", drains},
		{"first touches", s->first_faults},
		{"soft faults", s->soft_faults},
		{"same-filled pages", s->same_filled},
		{"compressed faults", s->compressed_faults},
		{"stored faults", s->stored_faults},
		{"refaults", s->refaults},
		{"pages moved out", s->moved_out},
		{"pages written to the file", s->written},
		{"pages not written to the file", s->write_failed},
		{"pages lost and mourned", load_relaxed(&soak.mourned)},
		{"pages of a file lost", load_relaxed(&soak.file_lost)},
		{"blocks offline by hand", load_relaxed(&soak.offline_done)},
		{"blocks online by hand", load_relaxed(&soak.onlined)},
		{"blocks offline that held frames", s->blocks_offlined_live},
		{"offline refused: pinned", load_relaxed(&soak.offline_pinned)},
		{"offline refused: not movable", load_relaxed(&soak.offline_unmovable)},
		{"offline refused: by a listener", load_relaxed(&soak.offline_listener)},
		{"spans moved", moves_done()},
		{"moves that met EBUSY", moves_busy() + load_relaxed(&soak.frames_busy)},
		{"frames of its own moved", load_relaxed(&soak.frames_moved)},
		{"blocks online by the public call", load_relaxed(&soak.memory_onlined)},
		{"blocks offline by the public call", load_relaxed(&soak.memory_offlined)},
		{"regions shrunk and grown", load_relaxed(&soak.resized)},
		{"advice: normal", load_relaxed(&soak.advised[WEIR_ADVICE_NORMAL])},
		{"advice: sequential", load_relaxed(&soak.advised[WEIR_ADVICE_SEQUENTIAL])},
		{"advice: random", load_relaxed(&soak.advised[WEIR_ADVICE_RANDOM])},
		{"advice: willneed", load_relaxed(&soak.advised[WEIR_ADVICE_WILLNEED])},
		{"advice: cold", load_relaxed(&soak.advised[WEIR_ADVICE_COLD])},
		{"pages loaded ahead", s->ahead},
		{"compressed faults, far frames", far.compressed_faults},
		{"far frames mapped", far.kmap_misses},
		{"far frames found mapped", far.kmap_hits},
		{"far mappings retired", far.kmap_retired},
		{"waits for a window", windows.waits},
		{"uses of windows", load_relaxed(&soak.window_uses)},
	};

	_Static_assert(ARRAY_SIZE(rows) + INJECTIONS <= ROWS_MAX, "room for all");
	count = ARRAY_SIZE(rows);
	memcpy(row, rows, sizeof(rows));
	for (unsigned i = 0; i < INJECTIONS; i++)
		row[count++] = (struct row){injection_name(i), injected(i)};
	return count;
}

/* What has not happened yet; NULL: everything has. */
static const char *idle(void)
{
	struct row row[ROWS_MAX];
	const unsigned count = rows_read(row);

	for (unsigned i = 0; i < count; i++) {
		if (!row[i].count)
			return row[i].name;
	}
	return NULL;
}

static void idle_check(void)
{
	struct row row[ROWS_MAX];
	const unsigned count = rows_read(row);

	for (unsigned i = 0; i < count; i++)
		printf("%12" PRIu64 " %s\n", row[i].count, row[i].name);
	printf("beside: %" PRIu64 " busy holders and %" PRIu64
	       " other refusals of offline, %" PRIu64 " charges refused, %" PRIu64
	       " lost pages left to others\n",
	       load_relaxed(&soak.offline_busy), load_relaxed(&soak.offline_other),
	       load_relaxed(&soak.refused_charges), load_relaxed(&soak.passed));
	fflush(stdout);
	CHECK(!idle(), "the run idled, as to: %s", idle());
}

/* Errors that can cost a page, each of them one. */
static uint64_t could_cost(void)
{
	return injected(READ_ERROR) + injected(DAMAGED_READ) + injected(DAMAGED_OBJECT) +
	       injected(SOURCE_ERROR);
}

static void loss_check(const struct weir_stats *s, const struct weir_stats *far)
{
	const uint64_t seen = load_relaxed(&soak.mourned) + load_relaxed(&soak.file_lost);

	CHECK(s->poisoned + far->poisoned == seen,
	      "%" PRIu64 " and %" PRIu64 " pages were poisoned, %" PRIu64 " were met", s->poisoned,
	      far->poisoned, seen);
	CHECK(seen <= could_cost(), "%" PRIu64 " pages lost by %" PRIu64 " errors", seen,
	      could_cost());
}

/* A message is served in one way; those that met an error are tried again, or are the end of a page. */
static void balance_check(const struct weir_stats *s)
{
	const uint64_t served = s->soft_faults + s->parked_faults + s->first_faults +
				s->compressed_faults + s->stored_faults;
	const uint64_t errors = could_cost() + injected(NO_COPY) + load_relaxed(&soak.memory_full);

	CHECK(served <= s->faults && s->faults - served <= errors,
	      "of %" PRIu64 " faults %" PRIu64 " were served, %" PRIu64 " errors", s->faults,
	      served, errors);
}

/* Every region is gone, and everybody has come to rest. */
static void leak_check(struct weir *weir)
{
	struct weir_container *root = weir_container_root(weir);
	struct weir_container_stat stat = {.size = sizeof(stat)};
	struct weir_pool_stats pool = {.size = sizeof(pool)};
	const struct weir_zone_stats *zone = &pool.zone[weir->memory.zone];

	stats_check_empty(weir);
	CHECK(!weir_container_stat(root, &stat), "weir_container_stat");
	CHECK(!stat.anon && !stat.file && !stat.compressed && !stat.stored &&
		      !weir_container_get(root, WEIR_SWAP_CURRENT),
	      "left: %" PRIu64 " anon, %" PRIu64 " file, %" PRIu64 " compressed, %" PRIu64
	      " stored, %" PRIu64 " swap",
	      stat.anon, stat.file, stat.compressed, stat.stored,
	      weir_container_get(root, WEIR_SWAP_CURRENT));
	CHECK(!weir_pool_stats_read(weir->pool, &pool), "weir_pool_stats_read");
	CHECK(!zone->allocated && !zone->isolated,
	      "%" PRIu64 " frames are allocated, %" PRIu64 " isolated", zone->allocated,
	      zone->isolated);
	CHECK(zone->free + zone->cached + zone->offline == zone->total,
	      "%" PRIu64 " free, %" PRIu64 " cached and %" PRIu64 " offline are not %" PRIu64,
	      zone->free, zone->cached, zone->offline, zone->total);
	CHECK(!compressed_validate(&weir->memory), "the compressed store is not as it should be");
	CHECK(!(store_is_open(weir->vm.store) && weir->vm.store->ops == &filestore_ops &&
		filestore_validate(weir->vm.store->handle)),
	      "the file store is not as it should be");
	CHECK(!weir_pool_validate(weir->pool), "the pool is not as it should be");
}

/* --- the run --- */

static void areas_make(void)
{
	static const struct {
		uint32_t pages, per_page;
		unsigned weight[KINDS];
	} shape[AREAS] = {
		{2048, 1, {1, 1, 8, 1}},			  /* like a program's heap */
		{1500, 1, {2, 2, 3, 3}}, {1024, 1, {0, 0, 0, 1}}, /* forces the file */
		{512, 4, {1, 3, 3, 1}},				  /* four threads on one page */
		{1024, 2, {1, 1, 4, 2}},
	};

	/* Modes in turn, so that there are some of each. */
	for (unsigned i = 0; i < AREAS; i++) {
		setup.mode = i % 2 ? WEIR_MODE_SIGNAL : WEIR_MODE_THREAD;
		soak.area[i] =
			area_create(soak.weir, shape[i].pages, shape[i].per_page, shape[i].weight);
		area_fill(soak.area[i]);
	}
}

/* A machine that is busy with others, or a sanitizer, may need longer until everything has happened. */
static void run(void)
{
	const uint64_t until = now_ns() + (uint64_t)(setup.seconds * 1e9);
	const uint64_t latest = until + GRACE_S * 1000000000ull;
	struct player *player[2 * WORKERS + FILES + 9];
	unsigned players = 0;

	inject(true);
	for (unsigned i = 0; i < WORKERS; i++)
		player[players++] = player_start("worker", i, worker_body, NULL);
	for (unsigned i = 0; i < FILES; i++)
		player[players++] = player_start("file", i, file_body, NULL);
	for (unsigned i = 0; i < WORKERS; i++)
		player[players++] = player_start("windows", i, windows_body, NULL);
	for (unsigned i = 0; i < 2; i++)
		player[players++] = player_start("far", i, far_body, NULL);
	player[players++] = player_start("scribe", 0, scribe_body, NULL);
	player[players++] = player_start("passing", 0, passing_body, NULL);
	player[players++] = player_start("governor", 0, governor_body, NULL);
	player[players++] = player_start("frames", 0, frames_body, NULL);
	player[players++] = player_start("hotplug", 0, hotplug_body, NULL);
	while (now_ns() < until || (idle() && now_ns() < latest))
		pause_ms(20);
	store_relaxed(&soak.stop, true);
	for (unsigned i = 0; i < players; i++)
		player_join(player[i]);
	inject(false);
}

/* After a write that failed the next one is a second away. */
static void comes_down(struct weir *weir, uint64_t limit)
{
	struct weir_stats s;

	set_limit(weir, limit);
	for (unsigned polls = 0; (s = stats_now(weir)).charged > limit; polls++) {
		CHECK(polls < 3000,
		      "it stays over its limit: %" PRIu64 " charged, %" PRIu64
		      " compressed, %" PRIu64 " resident",
		      s.charged, s.compressed, s.resident);
		pause_ms(10);
	}
}

static void end(void)
{
	struct weir_stats stats, far;

	pool_end();
	govern_end();
	comes_down(soak.weir, MIB(4));
	comes_down(soak.far, MIB(2));
	/* Twice: the first time the last of the damaged copies are met. */
	for (unsigned i = 0; i < AREAS; i++)
		soak_check(soak.area[i], "check at the end");
	soak_check(soak.far_area, "check at the end");
	stats_check(soak.weir, soak.area, AREAS);
	stats_check(soak.far, &soak.far_area, 1);
	for (unsigned i = 0; i < AREAS; i++)
		soak_check(soak.area[i], "check at the end");
	soak_check(soak.far_area, "check at the end");
	stats = stats_now(soak.weir);
	far = stats_now(soak.far);
	idle_check();
	loss_check(&stats, &far);
	balance_check(&stats);
	balance_check(&far);
	far_end();
	for (unsigned i = 0; i < AREAS; i++)
		area_destroy(soak.area[i]);
	leak_check(soak.weir);
	leak_check(soak.far);
}

static unsigned descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	CHECK(dir, "/proc/self/fd: %s", strerrorname_np(errno));
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* --- the command --- */

static _Noreturn void usage(void)
{
	fprintf(stderr, "Usage: soak [--seed N] [SECONDS]; SECONDS from 1 to 1000000, 600 if not "
			"given\n");
	exit(2);
}

static void arguments(int argc, char **argv)
{
	char *end = NULL;

	setup.seed = now_ns() % 1000000007;
	setup.seconds = 600;
	setup.name = "soak";
	if (argc >= 3 && !strcmp(argv[1], "--seed")) {
		setup.seed = strtoull(argv[2], &end, 0);
		if (end == argv[2] || *end)
			usage();
		argc -= 2;
		argv += 2;
	}
	if (argc > 2)
		usage();
	if (argc == 2) {
		setup.seconds = strtod(argv[1], &end);
		if (end == argv[1] || *end || !(setup.seconds >= 1 && setup.seconds <= 1e6))
			usage();
	}
}

int main(int argc, char **argv)
{
	uint64_t features = 0;
	unsigned open_before;

	arguments(argc, argv);
	printf("soak, seed %" PRIu64 ", %.0f s\n", setup.seed, setup.seconds);
	fflush(stdout);
	if (!uffd_probe(&features) && !(features & UFFD_HAS_POISON)) {
		printf("skipped: this kernel has no UFFDIO_POISON\n");
		return 77;
	}
	descriptors_apart();
	players_init();
	lost_init();
	soak.source = source_make();
	soak.scribe = scribe_make();
	inject_init(setup.seed, soak.source, soak.scribe);
	open_before = descriptors();
	setup.mode = WEIR_MODE_BOTH;
	soak.weir = open_or_skip(MIB(64));
	areas_make();
	far_init();
	pool_init();
	govern_init();
	run();
	scribe_end();
	end();
	doing("weir_close", 0);
	weir_close(soak.far);
	weir_close(soak.weir);
	CHECK(descriptors() == open_before, "%u descriptors are open, %u were before",
	      descriptors(), open_before);
	printf("done\n");
	return 0;
}
