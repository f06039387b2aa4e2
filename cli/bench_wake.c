/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench_wake.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "bench.h"
#include "crew.h"
#include "os/mem.h"
#include "os/thread.h"
#include "os/usage.h"
#include "svg.h"

enum {
	COUNTS = 6, /* numbers of handlers */
	LOADS = 3,  /* numbers of threads */
	FAULTS = 8192,
	FAULTS_QUICK = 256,
	THREADS_MAX = 16,
	SLOW_US = 200,
	SLOW_THREADS = 16,
	SLOW_EACH = 64, /* faults of each thread, per run */
};
static const unsigned handlers[COUNTS] = {1, 2, 4, 8, 16, 32}, threads[LOADS] = {1, 2, 8};
static const char *const handlers_text[COUNTS] = {"1", "2", "4", "8", "16", "32"};

/* Of one run. */
struct figures {
	double per_s, switches, cpu_us; /* the latter two a fault */
};

static struct {
	unsigned runs;
	struct figures figures[CREW_WAYS][COUNTS][LOADS][BENCH_RUNS];
	struct figures slow[2][BENCH_RUNS]; /* 1 and 16 handlers */
	char *region;
	uint32_t pages;
	bool slow_store;
	_Alignas(4096) char page[PAGE_SIZE];
	struct crew crew;
} wake;

/* --- one measurement --- */

struct toucher {
	pthread_t thread;
	unsigned number, of;
	_Atomic uint32_t *go;
};

static void *toucher_main(void *data)
{
	struct toucher *t = data;

	while (!load_acquire(t->go))
		(void)futex_wait(t->go, 0, 0);
	if (wake.crew.way == CREW_WEIR)
		placement_attach(&wake.crew.placement);
	for (uint32_t i = t->number; i < wake.pages; i += t->of)
		(void)*(volatile char *)(wake.region + ((size_t)i << PAGE_SHIFT));
	if (wake.crew.way == CREW_WEIR) {
		placement_unbind(&wake.crew.placement, 0);
		placement_detach(&wake.crew.placement);
	}
	return NULL;
}

static void serve(void *data, struct crew_member *member, const struct uffd_fault *fault)
{
	(void)data;
	if (wake.slow_store) {
		/* As weir's handlers before they read a file. */
		readers_block(&wake.crew.places, &member->place);
		sleep_ns(SLOW_US * 1000u);
	}
	(void)uffd_copy(wake.crew.uffd, (void *)fault->address, wake.page, PAGE_SIZE, false, NULL);
}

static int touch_all(unsigned count)
{
	struct toucher t[THREADS_MAX];
	_Atomic uint32_t go = 0;
	unsigned started = 0;
	int err = 0;

	for (; started < count && !err; started += !err) {
		t[started] = (struct toucher){.number = started, .of = count, .go = &go};
		err = thread_start(&t[started].thread, "touch", toucher_main, &t[started]);
	}
	store_release(&go, 1);
	(void)futex_wake(&go, THREADS_MAX);
	for (unsigned i = 0; i < started; i++)
		pthread_join(t[i].thread, NULL);
	return err;
}

static int measure(enum crew_way way, unsigned members, unsigned count, struct figures *f)
{
	const size_t bytes = (size_t)wake.pages << PAGE_SHIFT;
	struct usage_meter meter;
	struct usage before, after, used;
	int err;

	wake.crew = (struct crew){
		.uffd = wake.crew.uffd,
		.way = way,
		.count = members,
		/* As weir's service has it (fault/service.c). */
		.readers = way == CREW_WEIR || count > 1 ? MIN(members, thread_cpu_count()) : 1,
		.cpu = -1,
		.serve = serve,
	};
	err = mem_discard(wake.region, bytes);
	usage_open(&meter);
	if (!err)
		err = crew_start(&wake.crew);
	if (err)
		goto out;
	usage_read(&meter, &before);
	err = touch_all(count);
	usage_read(&meter, &after);
	crew_stop(&wake.crew);
	used = usage_since(&before, &after);
	*f = (struct figures){
		.per_s = wake.pages * 1e9 / (double)used.wall_ns,
		.switches = (double)used.counter[USAGE_SWITCHES] / wake.pages,
		.cpu_us = (double)used.task_ns / 1e3 / wake.pages,
	};
out:
	usage_close(&meter);
	return err;
}

/* --- a run --- */

static int measure_slow(unsigned run)
{
	static const unsigned members[2] = {1, SLOW_THREADS};
	const uint32_t all = wake.pages;
	int err = 0;

	wake.slow_store = true;
	wake.pages = MIN(all, (uint32_t)SLOW_THREADS * SLOW_EACH);
	for (unsigned i = 0; i < 2 && !err; i++)
		err = measure(CREW_WEIR, members[i], SLOW_THREADS, &wake.slow[i][run]);
	wake.pages = all;
	wake.slow_store = false;
	return err;
}

static int measure_all(unsigned run)
{
	int err = 0;

	for (unsigned h = 0; h < COUNTS; h++) {
		for (unsigned l = 0; l < LOADS; l++) {
			for (enum crew_way way = 0; way < CREW_WAYS && !err; way++)
				err = measure(way, handlers[h], threads[l],
					      &wake.figures[way][h][l][run]);
		}
	}
	return err ? err : measure_slow(run);
}

int bench_wake_run(unsigned run, bool quick)
{
	size_t bytes;
	int err;

	wake.pages = quick ? FAULTS_QUICK : FAULTS;
	bytes = (size_t)wake.pages << PAGE_SHIFT;
	wake.runs = run + 1;
	wake.region = mem_region_map(bytes, MIB(2));
	if (!wake.region)
		return -ENOMEM;
	wake.crew.uffd = uffd_open(UFFD_HAS_THREAD_ID);
	err = wake.crew.uffd < 0 ? wake.crew.uffd
				 : uffd_register(wake.crew.uffd, wake.region, bytes, UFFD_MISSING);
	if (!err)
		err = measure_all(run);
	if (wake.crew.uffd >= 0)
		(void)uffd_close(wake.crew.uffd);
	mem_release(wake.region, bytes);
	return err;
}

/* --- figures over runs --- */

enum which { PER_S, SWITCHES, CPU_US };

static double value(const struct figures *f, enum which which)
{
	return which == PER_S ? f->per_s : which == SWITCHES ? f->switches : f->cpu_us;
}

static double median(const struct figures *of_runs, enum which which)
{
	double v[BENCH_RUNS];

	for (unsigned run = 0; run < wake.runs; run++)
		v[run] = value(&of_runs[run], which);
	return bench_spread_of(v, wake.runs).median;
}

/* Of weir's way to another in the same run, for one number of handlers and threads. */
static double ratio(enum crew_way other, unsigned h, unsigned l, enum which which)
{
	double v[BENCH_RUNS];

	for (unsigned run = 0; run < wake.runs; run++)
		v[run] = value(&wake.figures[CREW_WEIR][h][l][run], which) /
			 value(&wake.figures[other][h][l][run], which);
	return bench_spread_of(v, wake.runs).median;
}

enum { AT_2 = 1, AT_16 = 4, BY_2 = 1, BY_8 = 2 }; /* indices of handlers and threads */

/* The worse of 2 and 8 threads. */
static double worse(enum which which)
{
	double a = ratio(CREW_READ, AT_16, BY_2, which), b = ratio(CREW_READ, AT_16, BY_8, which);

	return which == PER_S ? MIN(a, b) : MAX(a, b);
}

/* Against the better of the two at each load of the same run; the geometric mean over the loads. */
static double best_2(void)
{
	double v[BENCH_RUNS];

	for (unsigned run = 0; run < wake.runs; run++) {
		double product = 1;

		for (unsigned l = 0; l < LOADS; l++)
			product *= wake.figures[CREW_WEIR][AT_2][l][run].per_s /
				   MAX(wake.figures[CREW_READ][AT_2][l][run].per_s,
				       wake.figures[CREW_POLL][AT_2][l][run].per_s);
		v[run] = cbrt(product);
	}
	return bench_spread_of(v, wake.runs).median;
}

static double slow_ratio(void)
{
	return median(wake.slow[1], PER_S) / median(wake.slow[0], PER_S);
}

static const struct {
	const char *key, *what;
	double aim;
	bool most; /* the aim is the most that it may be */
} shown[] = {
	{"wake_one_vs_best_2", "to the better of read and poll, 2 handlers (mean of loads)", 0.95,
	 false},
	{"wake_one_vs_read_16", "to read, 16 handlers, throughput", 1.8, false},
	{"wake_one_switches_16", "the same, context switches", 0.5, true},
	{"wake_one_cpu_16", "the same, CPU time", 0.5, true},
	{"slow_store_16_vs_1", "a store of 200 us, 16 handlers to one", 12, false},
};

static double shown_value(unsigned i)
{
	switch (i) {
	case 0:
		return best_2();
	case 1:
		return worse(PER_S);
	case 2:
		return worse(SWITCHES);
	case 3:
		return worse(CPU_US);
	default:
		return slow_ratio();
	}
}

void bench_wake_print(void)
{
	printf("\nFaults served by many handlers: us of wall time, us of CPU, context switches a "
	       "fault; medians\n\n%-8s %-9s",
	       "threads", "handlers");
	for (enum crew_way way = 0; way < CREW_WAYS; way++)
		printf("  %-20s", crew_way_name[way]);
	putchar('\n');
	for (unsigned l = 0; l < LOADS; l++) {
		for (unsigned h = 0; h < COUNTS; h++) {
			printf("%-8u %-9u", threads[l], handlers[h]);
			for (enum crew_way way = 0; way < CREW_WAYS; way++)
				printf("  %5.1f %6.1f %6.2f ",
				       1e6 / median(wake.figures[way][h][l], PER_S),
				       median(wake.figures[way][h][l], CPU_US),
				       median(wake.figures[way][h][l], SWITCHES));
			putchar('\n');
		}
	}
	printf("\nweir: leader and followers, and threads and handlers placed; one: the former "
	       "alone; "
	       "epoll: EPOLLEXCLUSIVE.\nWeir's way to others; of 2 and 8 threads the worse "
	       "counts:\n");
	for (unsigned i = 0; i < ARRAY_SIZE(shown); i++) {
		double v = shown_value(i);
		bool missed = shown[i].most ? v > shown[i].aim : v < shown[i].aim;

		printf("%-58s %5.2f  aim: at %s %.2f%s\n", shown[i].what, v,
		       shown[i].most ? "most" : "least", shown[i].aim, missed ? ": MISSED" : "");
	}
}

void bench_wake_json_results(void)
{
	for (enum crew_way way = 0; way < CREW_WAYS; way++) {
		for (unsigned h = 0; h < COUNTS; h++) {
			for (unsigned l = 0; l < LOADS; l++) {
				const struct figures *f = wake.figures[way][h][l];
				double v[BENCH_RUNS];
				struct bench_spread s;

				for (unsigned run = 0; run < wake.runs; run++)
					v[run] = f[run].per_s;
				s = bench_spread_of(v, wake.runs);
				printf(", {\"name\": \"faults_per_s\", \"design\": \"bare\", "
				       "\"way\": \"%s\", \"handlers\": %u, \"threads\": %u, "
				       "\"unit\": \"per_s\", \"median\": %.0f, \"min\": %.0f, "
				       "\"max\": %.0f, \"switches\": %.3f, \"cpu_us\": %.3f}",
				       crew_way_name[way], handlers[h], threads[l], s.median, s.min,
				       s.max, median(f, SWITCHES), median(f, CPU_US));
			}
		}
	}
}

void bench_wake_json_ratios(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(shown); i++)
		printf(", \"%s\": %.3f", shown[i].key, shown_value(i));
}

int bench_wake_svg(const char *path)
{
	double y[CREW_WAYS][COUNTS];
	struct svg_line lines[CREW_WAYS];
	const struct svg_chart chart = {
		.title = "Faults served, 8 threads that fault, by the way to wake handlers",
		.x_title = "handlers",
		.y_title = "thousand a second",
		.x = handlers_text,
		.points = COUNTS,
		.lines = lines,
		.count = CREW_WAYS,
	};

	for (enum crew_way way = 0; way < CREW_WAYS; way++) {
		lines[way] = (struct svg_line){.name = crew_way_name[way], .y = y[way]};
		for (unsigned h = 0; h < COUNTS; h++)
			y[way][h] = median(wake.figures[way][h][BY_8], PER_S) / 1e3;
	}
	return svg_write(path, &chart);
}
