/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * weir bench paging: weir beside the kernel's own paging, the same accesses with the same total memory.
 *
 *   zram    512 MiB of memory. The peer: swap on zram with lz4, R = 128 MiB resident in a memory cgroup, and the Z bytes
 *           that zram says it uses. weir: a limit of R + Z, both modes. And the limit of each pattern (paging_limit.h).
 *   file    The same memory with 128 MiB in all: the peer's swap is a file, weir's is its own, on the same disk.
 *   mmap    A file of 512 MiB, read. The peer: mmap in a cgroup of 128 MiB. weir: a file region, in such a cgroup too, so
 *           that the page cache which it reads through counts as well; the region's limit is seven eighths of it.
 *
 * Each design has a process of its own that fills its pages once a run; then they take turns, pattern by pattern. Z is
 * read after the peer's turn, and is weir's for the same pattern. Each turn has a time to warm up, and a window.
 */
#include "bench_paging.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/log.h"
#include "cli.h"
#include "os/file.h"
#include "os/mem.h"
#include "os/uffd.h"
#include "paging_growth.h"

#define BOTH(table, contents, pattern, write)                                                      \
	{table, contents, pattern, write, 1}, {table, contents, pattern, write, 2}

const struct paging_row paging_rows[ROWS] = {
	BOTH(TABLE_ZRAM, TEXT, PATTERN_RANDOM, false),
	BOTH(TABLE_ZRAM, TEXT, PATTERN_RANDOM, true),
	BOTH(TABLE_ZRAM, TEXT, PATTERN_SKEW, false),
	BOTH(TABLE_ZRAM, TEXT, PATTERN_SKEW, true),
	BOTH(TABLE_ZRAM, TEXT, PATTERN_SEQ, false),
	BOTH(TABLE_ZRAM, TEXT, PATTERN_SEQ, true),
	BOTH(TABLE_ZRAM, RANDOM, PATTERN_RANDOM, false),
	BOTH(TABLE_ZRAM, RANDOM, PATTERN_RANDOM, true),
	BOTH(TABLE_ZRAM, ZERO, PATTERN_RANDOM, false),
	BOTH(TABLE_ZRAM, ZERO, PATTERN_RANDOM, true),
	BOTH(TABLE_FILE, TEXT, PATTERN_RANDOM, false),
	BOTH(TABLE_FILE, TEXT, PATTERN_RANDOM, true),
	BOTH(TABLE_FILE, TEXT, PATTERN_SEQ, false),
	BOTH(TABLE_MMAP, TEXT, PATTERN_RANDOM, false),
	BOTH(TABLE_MMAP, TEXT, PATTERN_SEQ, false),
};

struct paging paging;

enum {
	RUNS = 3,
	REGION_MIB = 512,
	QUICK_MIB = 32,
	WARM_MS = 250,
	/* What is learnt of pages, by the peer or by weir, is learnt by then; and what earlier patterns taught is forgotten. */
	WARM_LEARN_MS = 2000,
	WINDOW_MS = 350,
	WARM_QUICK_MS = 10,
	WINDOW_QUICK_MS = 25,
};

static struct child children[DESIGNS];
static char folder[256]; /* on the disk of weir's file */
/* The same contents for the peer and for weir, each in a file of its own: they must not find pages that the other one has
 * paid for. */
static struct {
	int fd;
	char path[64];
} files[GROUPS] = {{-1, ""}, {-1, ""}};

/* --- rows --- */

bool paging_named(const char *name)
{
	return !paging.options.only || !fnmatch(paging.options.only, name, 0);
}

bool paging_chosen(unsigned row)
{
	return paging_named(paging_row_name(row));
}

/* The first chosen one of [first, end), or end. */
static unsigned chosen_next(unsigned first, unsigned end)
{
	while (first < end && !paging_chosen(first))
		first++;
	return first;
}

/* --- turns --- */

static uint64_t total_of(const struct paging_row *row)
{
	/* Without a peer what it is known to use for such contents. */
	static const double guess[CONTENTS] = {[TEXT] = .325, [RANDOM] = .76, [ZERO] = .01};

	if (row->table == TABLE_FILE)
		return paging.resident;
	if (row->table == TABLE_MMAP)
		return paging.resident - paging.resident / 8;
	if (paging.why[TABLE_ZRAM])
		return paging.resident + (uint64_t)((double)paging.bytes * guess[row->contents]) /
						 PAGE_SIZE * PAGE_SIZE;
	return paging.resident + peers_zram_used();
}

static void cell_fill(unsigned row, enum design design, unsigned run, uint64_t total)
{
	const struct child_figures *f = children[design].figures;
	struct paging_cell *cell = &paging.cell[row][design][run];

	*cell = (struct paging_cell){
		.there = true,
		.per_s = f->load.per_s,
		.miss = f->miss,
		.loads = f->loads,
		.cpus = f->load.cpus,
		.total = (double)total,
		.charged = (double)f->charged,
		.kept = (double)f->kept,
		.overhead = (double)f->overhead,
		.resident = (double)f->resident,
		.stored_share = (double)f->stored_faults / (double)MAX(f->load.accesses, 1u),
	};
	hist_merge(&paging.hist[row][design], &f->hist);
}

/* The bare pager loads pages at a rate of its own: what one of them costs, at weir's rate. */
static void limit_scale(unsigned row, unsigned run)
{
	const struct child_figures *f = children[LIMIT].figures;
	struct paging_cell *cell = &paging.cell[row][LIMIT][run];
	const struct paging_cell *weir = &paging.cell[row][SIGNAL][run];
	const double threads = paging_rows[row].threads;
	double load_ns;

	if (!weir->there)
		weir = &paging.cell[row][THREAD][run];
	if (!weir->there || f->loads <= 0) {
		cell->there = false;
		return;
	}
	load_ns = (threads * 1e9 / cell->per_s - f->hit_ns) / f->loads;
	cell->per_s = threads * 1e9 / (f->hit_ns + weir->loads * load_ns);
	cell->loads = weir->loads;
	cell->miss = weir->miss;
}

static int turn(unsigned row, enum design design, unsigned run, uint64_t total)
{
	const struct paging_row *r = &paging_rows[row];
	const uint64_t ms = 1000000;
	const bool quick = paging.options.quick;
	const unsigned warm_ms = quick				? WARM_QUICK_MS
				 : r->pattern == PATTERN_RANDOM ? WARM_MS
								: WARM_LEARN_MS;
	const struct load load = {
		.pages = paging.pages,
		.contents = r->contents,
		.pattern = r->pattern,
		.write = r->write,
		.threads = r->threads,
		.warm_ns = warm_ms * ms,
		.window_ns = (quick ? WINDOW_QUICK_MS : WINDOW_MS) * ms,
	};
	int err;

	if (!children[design].pid)
		return 0;
	err = child_run(&children[design], &load, design == SIGNAL || design == THREAD ? total : 0);
	if (err == -ECHILD && design == PEER) {
		paging.killed++;
		return 0;
	}
	if (err == -EBADMSG)
		log_line("bench paging: a page has WRONG CONTENTS: this is a bug in %s",
			 design == PEER ? "the kernel" : "weir");
	if (err)
		return err;
	cell_fill(row, design, run, total);
	if (design == LIMIT)
		limit_scale(row, run);
	return 0;
}

/* --- a table of one contents: its processes --- */

static int design_start(const struct paging_row *first, enum design design)
{
	struct child_setup setup = {
		.table = first->table,
		.design = design,
		.contents = first->contents,
		.pages = paging.pages,
		.limit = total_of(first),
		.resident = (uint32_t)(paging.resident >> PAGE_SHIFT),
		.path = first->table != TABLE_MMAP ? folder
			: design == PEER	   ? files[GROUP_PEER].path
						   : files[GROUP_WEIR].path,
		.group = -1,
	};
	int err;

	if (design == PEER) {
		if (paging.why[first->table])
			return 0;
		setup.group = GROUP_PEER;
	} else if (first->table == TABLE_MMAP) {
		if (design == SIGNAL)
			return 0;
		if (design == THREAD && !paging.why[TABLE_MMAP])
			setup.group = GROUP_WEIR;
	}
	if ((design == LIMIT && first->table == TABLE_FILE) ||
	    (design == THREAD && paging.why_thread))
		return 0;
	if (setup.group >= 0) {
		/* What weir itself takes, some MiB, is little beside 128 MiB, but not beside a quick run's 8. */
		err = peers_group_make(
			(enum peer_group)setup.group,
			paging.resident +
				(setup.group == GROUP_WEIR && paging.options.quick ? MIB(24) : 0));
		if (err) {
			log_line("bench paging: a memory cgroup: %s", errno_name(err));
			return err;
		}
	}
	/* In no cache, so that who reads it first pays. */
	if (first->table == TABLE_MMAP)
		(void)posix_fadvise(files[design == PEER ? GROUP_PEER : GROUP_WEIR].fd, 0, 0,
				    POSIX_FADV_DONTNEED);
	err = child_start(&children[design], &setup);
	if (err == -ECHILD && design == PEER) {
		paging.killed++;
		return 0;
	}
	if (err)
		log_line("bench paging: starting the %s: %s", design == PEER ? "peer" : "pager",
			 errno_name(err));
	return err;
}

static void designs_end(void)
{
	for (enum design design = 0; design < DESIGNS; design++)
		child_end(&children[design]);
	for (enum peer_group group = 0; group < GROUPS; group++)
		peers_group_remove(group);
}

static int designs_verify(enum table table)
{
	int err = 0;

	for (enum design design = 0; design <= THREAD && table != TABLE_MMAP && !err; design++) {
		if (!children[design].pid)
			continue;
		err = child_verify(&children[design]);
		if (err == -ECHILD && design == PEER) {
			paging.killed++;
			err = 0;
		}
		if (err)
			log_line("bench paging: at the end the pages of %s are not as they were "
				 "written: %s",
				 design == PEER ? "the peer" : "weir", errno_name(err));
	}
	return err;
}

static int turns(unsigned row, unsigned run)
{
	const struct paging_row *r = &paging_rows[row];
	int err = 0;

	if (r->table != TABLE_MMAP && !paging.why[r->table])
		peers_cluster_set(r->pattern == PATTERN_SEQ ? 3 : 0);
	/* Killed, in the last turn: a new one. */
	if (!children[PEER].pid)
		err = design_start(r, PEER);
	if (!err)
		err = turn(row, PEER, run, 0);
	/* What the peer has used, for both. */
	paging.cell[row][PEER][run].total =
		(double)(r->table == TABLE_MMAP ? paging.resident : total_of(r));
	for (enum design design = SIGNAL; design < DESIGNS && !err; design++)
		err = turn(row, design, run, total_of(r));
	return err;
}

/* The rows from first on that have its table and contents. */
static int group_run(unsigned first, unsigned end, unsigned run)
{
	int err = 0;

	/* The pages of one after those of another: the disk and the CPUs are nobody else's while they are filled. */
	for (enum design design = 0; design < DESIGNS && !err; design++)
		err = design_start(&paging_rows[first], design);
	for (unsigned row = chosen_next(first, end); row < end && !err;
	     row = chosen_next(row + 1, end))
		err = turns(row, run);
	if (!err)
		err = designs_verify(paging_rows[first].table);
	designs_end();
	return err;
}

/* --- the peers --- */

static int swap_up(enum table table)
{
	int err = 0;

	if (table == TABLE_MMAP || paging.why[table])
		return 0;
	/* Room for all, also where compression fails. */
	if (table == TABLE_ZRAM)
		err = peers_zram_on(paging.bytes * 2);
	else
		err = peers_file_on(folder, paging.bytes + paging.bytes / 4);
	if (!err)
		return 0;
	log_line("bench paging: swap on %s: %s; it is left out",
		 table == TABLE_ZRAM ? "zram" : folder, errno_name(err));
	paging.why[table] = "the swap could not be set up; standard error says why";
	return 0;
}

static void down_at(int signal)
{
	children_kill();
	peers_close();
	(void)sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
	(void)raise(signal);
}

static int peers_up(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = down_at};
	const char *group = peers_group_why();

	if (paging.options.no_peers)
		group = "left out by --no-peers";
	paging.why[TABLE_ZRAM] = group ? group : peers_zram_why();
	paging.why[TABLE_FILE] = group;
	paging.why[TABLE_MMAP] = group;
	if (group)
		return 0;
	sigfillset(&action.sa_mask);
	for (unsigned i = 0; i < ARRAY_SIZE(signals); i++) {
		if (sigaction(signals[i], &action, NULL))
			return -errno;
	}
	return peers_open();
}

/* --- files --- */

static int folder_find(void)
{
	const char *const dirs[] = {getenv("TMPDIR"), "/var/tmp", "/tmp"};
	struct file probe;

	for (unsigned i = 0; i < ARRAY_SIZE(dirs); i++) {
		if (!dirs[i] || strlen(dirs[i]) >= sizeof(folder) ||
		    file_temp_open(&probe, dirs[i]))
			continue;
		file_close(&probe);
		snprintf(folder, sizeof(folder), "%s", dirs[i]);
		return 0;
	}
	return -ENOENT;
}

/* Without a name, so that nothing stays behind; processes open it by way of ours. */
static int file_make(enum peer_group whose)
{
	static _Alignas(4096) char page[64 * PAGE_SIZE];
	const int file = open(folder, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	int err = 0;

	if (file < 0)
		return -errno;
	files[whose].fd = file;
	snprintf(files[whose].path, sizeof(files[whose].path), "/proc/%d/fd/%d", getpid(), file);
	for (uint32_t i = 0; i < paging.pages && !err; i += 64) {
		for (uint32_t k = 0; k < 64; k++)
			load_page_make(TEXT, i + k, page + k * PAGE_SIZE);
		if (pwrite(file, page, sizeof(page), (off_t)i << PAGE_SHIFT) != sizeof(page))
			err = errno ? -errno : -ENOSPC;
	}
	if (!err && fsync(file))
		err = -errno;
	return err;
}

/* --- all --- */

static bool table_wanted(enum table table)
{
	unsigned row = chosen_next(0, ROWS);

	while (row < ROWS && paging_rows[row].table != table)
		row = chosen_next(row + 1, ROWS);
	return row < ROWS;
}

static int run_all(unsigned run)
{
	int err = 0;

	for (unsigned first = 0, end; first < ROWS && !err; first = end) {
		const struct paging_row *r = &paging_rows[first];

		for (end = first + 1; end < ROWS && paging_rows[end].table == r->table &&
				      paging_rows[end].contents == r->contents;)
			end++;
		if (!first || paging_rows[first - 1].table != r->table)
			err = table_wanted(r->table) ? swap_up(r->table) : 0;
		if (!err && chosen_next(first, end) < end)
			err = group_run(first, end, run);
		if (end == ROWS || paging_rows[end].table != r->table || err) {
			if (!paging.why[TABLE_FILE])
				peers_swap_off();
		}
	}
	return err;
}

/* 0, or what to exit with after a message. */
static int permission_check(void)
{
	uint64_t has;
	int err = uffd_probe_user(&has);

	if (err || !(has & UFFD_HAS_SIGBUS) || !(has & UFFD_HAS_WRITEPROTECT)) {
		log_line("bench paging: skipped: userfaultfd: %s",
			 err ? uffd_advice(err) : "this kernel has no signal mode (Linux 5.11)");
		return EXIT_SKIPPED;
	}
	if (uffd_probe(&has))
		paging.why_thread = "thread mode is not permitted";
	return 0;
}

static int measure(void)
{
	int err = load_contents_make();

	if (!err)
		err = folder_find();
	if (err)
		log_line("bench paging: no folder on a disk in TMPDIR, /var/tmp and /tmp");
	for (enum peer_group whose = 0; whose < GROUPS && !err; whose++)
		err = file_make(whose);
	if (!err)
		err = peers_up();
	for (unsigned run = 0; run < paging.runs && !err; run++) {
		if (!paging.options.json)
			fprintf(stderr, "run %u of %u\n", run + 1, paging.runs);
		err = run_all(run);
		if (!err && growth_chosen())
			err = growth_run(run, paging.options.quick);
	}
	peers_close();
	for (enum peer_group whose = 0; whose < GROUPS; whose++) {
		if (files[whose].fd >= 0)
			close(files[whose].fd);
	}
	return err;
}

/* Two: how the cost grows goes to FILE-growth.svg where FILE.svg has the patterns. */
static int pictures(void)
{
	const char *const path = paging.options.svg;
	const size_t length = strlen(path);
	const size_t end = length > 4 && !strcmp(path + length - 4, ".svg") ? length - 4 : length;
	const bool rows = chosen_next(0, ROWS) < ROWS;
	char other[4096];
	int err = rows ? paging_print_svg() : 0;

	if (err || !growth_chosen())
		return err;
	if (!rows)
		return growth_print_svg(path);
	if (snprintf(other, sizeof(other), "%.*s-growth.svg", (int)end, path) >= (int)sizeof(other))
		return -ENAMETOOLONG;
	return growth_print_svg(other);
}

int bench_paging(int argc, char **argv)
{
	int status;
	int err = bench_options_parse("paging", argc, argv, &paging.options, &status);

	if (err)
		return status;
	status = permission_check();
	if (status)
		return status;
	if (chosen_next(0, ROWS) == ROWS && !growth_chosen()) {
		log_line("bench paging: no row is called '%s'; they are called like %s, and "
			 "growth_size, growth_limit and growth_regions",
			 paging.options.only, paging_row_name(0));
		return EXIT_WEIR;
	}
	paging.runs = paging.options.quick ? 1 : RUNS;
	if (paging.options.runs)
		paging.runs = paging.options.runs;
	paging.bytes = paging.options.quick ? MIB(QUICK_MIB) : MIB(REGION_MIB);
	paging.resident = paging.bytes / 4;
	paging.pages = (uint32_t)(paging.bytes >> PAGE_SHIFT);
	bench_machine_read(&paging.machine);
	err = measure();
	if (err) {
		log_line("bench paging: %s; nothing is printed", errno_name(err));
		return 1;
	}
	if (paging.options.json)
		paging_print_json();
	else
		paging_print_text();
	err = paging.options.svg ? pictures() : 0;
	if (err) {
		log_line("bench paging: %s: %s", paging.options.svg, errno_name(err));
		return 1;
	}
	return fflush(stdout) ? 1 : 0;
}
