/* SPDX-License-Identifier: BSD-2-Clause */
/* weir stress: see cli/stress_fault.h for what it does. Here: arguments, repetition, the summary. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli.h"
#include "os/mem.h"
#include "os/thread.h"
#include "stress_fault.h"

static const char usage[] =
	"Usage: weir stress fault MIB BOUNCES [--cpus N] [--wake WAY[,WAY...]] [--runs N] [--seed "
	"N]\n"
	"\n"
	"Two areas of MIB MiB bounce their contents back and forth, BOUNCES times: one thread for "
	"each\n"
	"CPU touches the pages of the one, a handler for each CPU brings them from the other by\n"
	"userfaultfd. Each page has a counter that must be right at every touch.\n"
	"\n"
	"The bits of a bounce's number, counted down, choose its mode: 1 rnd (random order), 2 "
	"racing\n"
	"(all threads over all pages, else each over its share), 4 ver (all bytes are compared),\n"
	"8 poll (handlers poll, else they block in read).\n"
	"\n"
	"  --cpus N      threads that fault, and handlers (default: one a CPU)\n"
	"  --wake WAY    how a fault wakes handlers (default one); several ways are compared:\n"
	"                  one     leader and followers, as weir's own service\n"
	"                  all     every handler waits in read or poll, and wakes for each fault\n"
	"                  epoll   every handler waits in epoll with EPOLLEXCLUSIVE\n"
	"  --runs N      runs of each way, 1 to 99 (default 3)\n"
	"  --seed N      of the random order (default: another one each time, which is printed)\n"
	"\n"
	"Exits with 0 when every page was right, 1 when one was not, 77 where userfaultfd is not\n"
	"permitted, 125 for arguments that make no sense.\n";

enum { RUNS = 3, RUNS_MAX = 99, WAYS_MAX = 3, MIB_MAX = 1 << 20, BOUNCES_MAX = 1 << 20 };

/* One figure over all runs of a way. */
enum figure { WALL_S, TASK_MS, SWITCHES, MIGRATIONS, PAGE_FAULTS, PER_S, FIGURES };

struct way {
	const char *name;
	enum crew_way way;
	double figure[FIGURES][RUNS_MAX];
};

static struct {
	struct stress_fault run;
	unsigned runs, ways;
	struct way way[WAYS_MAX];
} stress;

static const struct {
	const char *name;
	enum crew_way way;
} known[WAYS_MAX] = {{"one", CREW_ONE}, {"all", CREW_READ}, {"epoll", CREW_EPOLL}};

/* --- arguments --- */

static int number(const char *what, const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (*text >= '0' && *text <= '9' && !*end && !errno && *out >= least && *out <= most)
		return 0;
	log_line("stress fault: %s '%s'; give a number from %" PRIu64 " to %" PRIu64, what, text,
		 least, most);
	return -EINVAL;
}

static int ways_set(const char *text)
{
	stress.ways = 0;
	while (*text) {
		size_t len = strcspn(text, ",");
		unsigned i = 0;

		while (i < WAYS_MAX &&
		       (strlen(known[i].name) != len || memcmp(known[i].name, text, len) != 0))
			i++;
		if (i == WAYS_MAX || stress.ways == WAYS_MAX)
			break;
		stress.way[stress.ways++] =
			(struct way){.name = known[i].name, .way = known[i].way};
		text += len;
		/* A comma announces another one. */
		if (text[0] == ',' && text[1])
			text++;
		else if (*text)
			break;
	}
	if (*text || !stress.ways) {
		log_line("stress fault: no way '%s' to wake; there are one, all and epoll", text);
		return -EINVAL;
	}
	return 0;
}

static int option(const char *name, const char *value)
{
	uint64_t n = 0;
	int err;

	if (!strcmp(name, "--wake"))
		return ways_set(value);
	if (!strcmp(name, "--cpus")) {
		err = number(name, value, 1, CREW_MAX, &n);
		stress.run.cpus = (unsigned)n;
	} else if (!strcmp(name, "--runs")) {
		err = number(name, value, 1, RUNS_MAX, &n);
		stress.runs = (unsigned)n;
	} else if (!strcmp(name, "--seed")) {
		err = number(name, value, 0, UINT64_MAX, &stress.run.seed);
	} else {
		log_line("stress fault: no option '%s'; see weir stress --help", name);
		err = -EINVAL;
	}
	return err;
}

static int arguments(int argc, char **argv)
{
	uint64_t value[2] = {0};
	unsigned given = 0;
	int err = 0;

	for (int i = 0; i < argc && !err; i++) {
		if (argv[i][0] == '-') {
			char *equals = strchr(argv[i], '=');

			if (equals)
				*equals++ = '\0';
			else if (++i < argc)
				equals = argv[i];
			if (!equals) {
				log_line("stress fault: %s needs a value", argv[i - 1]);
				return -EINVAL;
			}
			err = option(equals == argv[i] ? argv[i - 1] : argv[i], equals);
		} else if (given == 2) {
			log_line("stress fault: '%s' is one too many; see weir stress --help",
				 argv[i]);
			return -EINVAL;
		} else {
			err = number(given ? "bounces" : "MiB", argv[i], 1,
				     given ? BOUNCES_MAX : MIB_MAX, &value[given]);
			given++;
		}
	}
	if (!err && given < 2) {
		log_line("stress fault: no %s; try `weir stress fault 64 32`",
			 given ? "number of bounces" : "size in MiB");
		err = -EINVAL;
	}
	/* Both areas are in memory at the end of a bounce. */
	if (!err && value[0] > mem_machine() >> 21) {
		log_line("stress fault: %" PRIu64 " MiB are more than half of this machine's "
			 "memory; at most %" PRIu64,
			 value[0], mem_machine() >> 21);
		err = -EINVAL;
	}
	stress.run.bytes = MIB(value[0]);
	stress.run.bounces = (unsigned)value[1];
	return err;
}

/* --- the summary --- */

static void figures_keep(struct way *way, unsigned run)
{
	const struct usage *u = &stress.run.used;
	double(*f)[RUNS_MAX] = way->figure;

	f[WALL_S][run] = (double)u->wall_ns / 1e9;
	f[TASK_MS][run] = (double)u->task_ns / 1e6;
	f[SWITCHES][run] = (double)u->counter[USAGE_SWITCHES];
	f[MIGRATIONS][run] = u->counter[USAGE_MIGRATIONS] == USAGE_UNKNOWN
				     ? -1
				     : (double)u->counter[USAGE_MIGRATIONS];
	f[PAGE_FAULTS][run] = (double)u->counter[USAGE_FAULTS];
	f[PER_S][run] = (double)stress.run.faults / f[WALL_S][run];
}

static void figure_print(const double *values, const char *name, int decimals)
{
	const unsigned n = stress.runs;
	double mean = 0, variance = 0;

	for (unsigned i = 0; i < n; i++)
		mean += values[i] / n;
	for (unsigned i = 0; i < n; i++)
		variance += (values[i] - mean) * (values[i] - mean);
	if (mean < 0) {
		printf("  %14s  %s\n", "not counted", name);
		return;
	}
	printf("  %14.*f  %-28s", decimals, mean, name);
	/* Of the mean, as perf stat -r has it. */
	if (n > 1 && mean > 0)
		printf(" ( +- %5.2f%% )", 100 * sqrt(variance / (n - 1) / n) / mean);
	putchar('\n');
}

static void summary_print(const struct way *way)
{
	static const struct {
		const char *name;
		int decimals;
	} shown[FIGURES] = {
		[WALL_S] = {"seconds of wall time", 3}, [TASK_MS] = {"ms of task-clock", 2},
		[SWITCHES] = {"context-switches", 0},	[MIGRATIONS] = {"cpu-migrations", 0},
		[PAGE_FAULTS] = {"page-faults", 0},	[PER_S] = {"faults served per second", 0},
	};

	printf("\nwake %s, %u CPUs, %u handlers (%u %s):\n", way->name, stress.run.cpus,
	       stress.run.cpus, stress.runs, stress.runs == 1 ? "run" : "runs");
	for (unsigned i = 0; i < FIGURES; i++)
		figure_print(way->figure[i], shown[i].name, shown[i].decimals);
}

/* Ways take turns, so that all meet the same machine. */
static int run_all(void)
{
	for (unsigned run = 0; run < stress.runs; run++) {
		for (unsigned i = 0; i < stress.ways; i++) {
			struct way *way = &stress.way[i];
			int err;

			stress.run.way = way->way;
			printf("run %u of %u, wake %s\n", run + 1, stress.runs, way->name);
			err = stress_fault_run(&stress.run);
			if (err)
				return err;
			figures_keep(way, run);
			fflush(stdout);
		}
	}
	return 0;
}

static int failed(int err)
{
	fflush(stdout);
	if (err == -EBADMSG || err == -ETIMEDOUT) {
		log_line("stress fault: %s", stress.run.wrong);
		log_line("stress fault: FAILED; again with --seed %" PRIu64, stress.run.seed);
		return 1;
	}
	if (err == -EPERM || err == -ENOSYS) {
		log_line("stress fault: skipped: userfaultfd: %s", uffd_advice(err));
		return 77;
	}
	log_line("stress fault: %s; try fewer MiB or CPUs", errno_name(err));
	return 1;
}

int cli_stress(int argc, char **argv)
{
	uint32_t pages;
	int err;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			fputs(usage, stdout);
			return 0;
		}
	}
	if (argc < 2 || strcmp(argv[1], "fault") != 0) {
		log_line("%s; there is `weir stress fault 64 32`, and `weir stress --help`",
			 argc < 2 ? "nothing named to stress" : "no such stress");
		return EXIT_WEIR;
	}
	stress.runs = RUNS;
	stress.run.cpus = MIN(thread_cpu_count(), (unsigned)CREW_MAX);
	stress.run.seed = now_ns() % 1000000007;
	stress.run.out = stdout;
	(void)ways_set("one");
	if (arguments(argc - 2, argv + 2))
		return EXIT_WEIR;
	pages = stress_fault_pages(&stress.run);
	printf("nr_pages: %" PRIu32 ", nr_pages_per_cpu: %" PRIu32 "\n", pages,
	       pages / stress.run.cpus);
	printf("seed: %" PRIu64 "\n", stress.run.seed);
	err = run_all();
	if (err)
		return failed(err);
	for (unsigned i = 0; i < stress.ways; i++)
		summary_print(&stress.way[i]);
	printf("\nall pages were right, in every run\n");
	return fflush(stdout) ? 1 : 0;
}
