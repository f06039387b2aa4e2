/* SPDX-License-Identifier: BSD-2-Clause */
/* The figures of bench fault, over its runs: for people and for programs. */
#include "bench_fault.h"

#include <stdio.h>
#include <string.h>

#include "bench_wake.h"

enum { AIM_US = 12 };

static const struct {
	const char *name, *design, *what;
} ways[WAYS] = {
	{"first_touch", "bare", "first touch, bare loop"},
	{"first_touch", "weir", "first touch"},
	{"first_touch_one_cpu", "weir", "first touch, on one CPU"},
	{"first_touch_signal", "bare", "first touch, bare signal"},
	{"first_touch_signal", "weir", "first touch, signal mode"},
	{"compressed_read", "weir", "read, from compressed memory"},
	{"compressed_read_signal", "weir", "the same in signal mode"},
	{"clean_write", "weir", "write, to a clean page"},
	{"file_read", "weir", "read, from the file"},
};

static const struct {
	const char *key, *what;
	enum way way, bare;
	double aim; /* 0: none */
} costs[] = {
	{"signal_vs_bare", "signal mode to a bare signal and UFFDIO_COPY", SIGNAL, BARE_SIGNAL,
	 1.25},
	{"thread_vs_bare", "thread mode on one CPU to a bare read and UFFDIO_COPY", ONE_CPU, BARE,
	 1.25},
	{"default_1t_vs_bare", "thread mode, default placement, to the same", FIRST_TOUCH, BARE,
	 1.5},
	{"compressed_1t_vs_bare", "a page from compressed memory to the same", COMPRESSED_READ,
	 BARE, 0},
};

/* --- figures over runs --- */

enum quantile { P50, P90, P99, PER_S };

static double figure(enum way way, unsigned run, enum quantile which)
{
	const struct bench_figures *f = &bench.figures[way][run];

	return which == P50 ? f->p50 : which == P90 ? f->p90 : which == P99 ? f->p99 : f->per_s;
}

static struct bench_spread spread(enum way way, enum quantile which)
{
	double values[BENCH_RUNS];

	for (unsigned run = 0; run < bench.runs; run++)
		values[run] = figure(way, run, which);
	return bench_spread_of(values, bench.runs);
}

/* A cost over that of a bare loop in the same run. */
static struct bench_spread ratio(enum way way, enum way bare)
{
	double values[BENCH_RUNS];

	for (unsigned run = 0; run < bench.runs; run++)
		values[run] = figure(way, run, P50) / MAX(figure(bare, run, P50), 1);
	return bench_spread_of(values, bench.runs);
}

static double max_of(enum way way)
{
	double max = 0;

	for (unsigned run = 0; run < bench.runs; run++)
		max = MAX(max, bench.figures[way][run].max);
	return max;
}

static unsigned count_of(enum way way)
{
	unsigned count = 0;

	for (unsigned run = 0; run < bench.runs; run++)
		count += bench.figures[way][run].count;
	return count;
}

static const char *skipped_why(enum way way)
{
	if (bench.skipped[way])
		return bench.skipped[way];
	return count_of(way) ? NULL : "no touch had to wait";
}

/* --- for people --- */

static void print_row(enum way way)
{
	struct bench_spread p50 = spread(way, P50);

	if (skipped_why(way)) {
		printf("%-30s not measured: %s\n", ways[way].what, skipped_why(way));
		return;
	}
	printf("%-30s %6.1f %6.1f..%-6.1f %7.1f %7.1f %9.1f %8u\n", ways[way].what,
	       p50.median / 1e3, p50.min / 1e3, p50.max / 1e3, spread(way, P90).median / 1e3,
	       spread(way, P99).median / 1e3, max_of(way) / 1e3, count_of(way));
}

void bench_fault_print_text(void)
{
	const struct bench_machine *m = &bench.machine;
	const unsigned scale = bench.options.quick ? 2 : 1;
	double reached = spread(COMPRESSED_READ, P50).median / 1e3;

	printf("What one thread waits for a page, timed around the touch, in us; medians of %u "
	       "runs\n",
	       bench.runs);
	printf("%u CPUs, Linux %s, %llu MiB of memory; load %.1f before\n\n", m->cpus, m->kernel,
	       m->mem_mib, m->load);
	printf("%-30s %6s %14s %7s %7s %9s %8s\n", "", "median", "(of each run)", "p90", "p99",
	       "max", "touches");
	for (enum way way = 0; way < WAYS; way++)
		print_row(way);
	printf("\nRandom order throughout. The thread and its handler share a CPU: bound by hand "
	       "in the bare loop (read,\n"
	       "UFFDIO_COPY), by weir's automatic placement else (bound %llu times).\n",
	       (unsigned long long)bench.bindings);
	printf("Compressed: %u MiB of text, %.2f:1, limit %.0f MiB: the copies of all pages and "
	       "%.0f %% of the pages.\n",
	       TEXT_MIB / scale, bench.compression, bench.limit_mib, bench.resident_share * 100);
	printf("File: %u MiB of text, limit %.0f MiB, compressed pages go out at once; eight pages "
	       "a read.\n\n",
	       FILE_MIB / scale, bench.file_limit_mib);
	for (unsigned i = 0; i < ARRAY_SIZE(costs); i++) {
		double r = ratio(costs[i].way, costs[i].bare).median;

		if (skipped_why(costs[i].way))
			continue;
		printf("%-58s %5.2f", costs[i].what, r);
		if (costs[i].aim > 0)
			printf("  aim: at most %.2f%s", costs[i].aim,
			       r > costs[i].aim ? ": MISSED" : "");
		putchar('\n');
	}
	printf("\nAim: a fault from compressed memory on the program's CPU: median at most %d "
	       "us.\n",
	       AIM_US);
	if (reached > AIM_US)
		printf("Missed: it was %.1f us here.\n", reached);
	bench_wake_print();
}

/* --- for programs --- */

static void json_spread(const char *name, const char *design, const char *unit,
			struct bench_spread s, bool there)
{
	printf("{\"name\": \"%s\", \"design\": \"%s\", \"threads\": 1, \"unit\": \"%s\", ", name,
	       design, unit);
	if (there)
		printf("\"median\": %.0f, \"min\": %.0f, \"max\": %.0f", s.median, s.min, s.max);
	else
		printf("\"median\": null, \"min\": null, \"max\": null");
}

static void json_results(void)
{
	printf("\"results\": [");
	for (enum way way = 0; way < WAYS; way++) {
		bool there = !skipped_why(way);

		json_spread(ways[way].name, ways[way].design, "ns", spread(way, P50), there);
		if (there)
			printf(", \"p50\": %.0f, \"p90\": %.0f, \"p99\": %.0f, \"longest\": %.0f, "
			       "\"count\": %u",
			       spread(way, P50).median, spread(way, P90).median,
			       spread(way, P99).median, max_of(way), count_of(way));
		printf("}, ");
	}
	json_spread("faults_per_s", "bare", "per_s", spread(BARE, PER_S), true);
	printf(", \"way\": \"thread\", \"handlers\": 1}, ");
	json_spread("faults_per_s", "weir", "per_s", spread(FIRST_TOUCH, PER_S), true);
	printf(", \"way\": \"thread\", \"handlers\": \"default\"}");
	bench_wake_json_results();
	printf("], ");
}

static void json_ratios(void)
{
	bool first = true;

	printf("\"ratios\": {");
	for (unsigned i = 0; i < ARRAY_SIZE(costs); i++) {
		printf("%s\"%s\": ", i ? ", " : "", costs[i].key);
		if (skipped_why(costs[i].way))
			printf("null");
		else
			printf("%.3f", ratio(costs[i].way, costs[i].bare).median);
	}
	bench_wake_json_ratios();
	printf("}, \"skipped\": {");
	for (unsigned i = 0; i < ARRAY_SIZE(costs); i++) {
		if (!skipped_why(costs[i].way))
			continue;
		printf("%s\"%s\": \"%s\"", first ? "" : ", ", costs[i].key,
		       skipped_why(costs[i].way));
		first = false;
	}
	for (enum way way = 0; way < WAYS; way++) {
		if (!skipped_why(way) || !strcmp(ways[way].design, "bare"))
			continue;
		printf("%s\"%s\": \"%s\"", first ? "" : ", ", ways[way].name, skipped_why(way));
		first = false;
	}
	printf("}");
}

void bench_fault_print_json(void)
{
	bench_json_head("fault", &bench.machine, bench.runs, bench.options.quick);
	printf("\"compression\": %.3f, ", bench.compression);
	json_results();
	json_ratios();
	printf("}\n");
}
