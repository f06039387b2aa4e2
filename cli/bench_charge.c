/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * weir bench charge: what it costs to charge a page and give it back, in three designs side by side.
 *
 *   weir      a stock a thread, counters under a lock beyond it (src/control/stock.h)
 *   shared    one atomic counter a level: add, compare with the limit, take back
 *   spinlock  a counter a level under a spinlock of its own, as the first memory controllers had it
 *
 * All limits are far away: what is measured is accounting, not reclaim. Threads are bound to CPUs in turn. Each times slices
 * of 2048 pairs, and a run's figure is the median over slices of all its threads, so that a slice in which the thread lost
 * its CPU does not count. Wall time. Designs take turns in every run.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "bench.h"
#include "charge_peers.h"
#include "cli.h"
#include "control/stock.h"
#include "os/thread.h"

enum design { WEIR, SHARED, SPINLOCK, DESIGNS };
static const char *const design_names[DESIGNS] = {"weir", "shared", "spinlock"};

enum { DEPTH = 3, THREADS_MAX = 16, SLICES = 512, SLICE_PAIRS = 2048, BEAT_PAIRS = 128 };
/* Of one measurement, after all its threads have begun. */
enum { MEASURE_NS = 60000000, MEASURE_QUICK_NS = 8000000 };
enum kind { PAIR, CROSS, BATCH };

/* What is measured; the figures of each design and run. */
static const struct config {
	const char *name, *what;
	enum kind kind;
	unsigned depth, threads;
} configs[] = {
	{"pair_d1", "a page, one level", PAIR, 1, 1},
	{"pair_d1", "", PAIR, 1, 2},
	{"pair_d1", "", PAIR, 1, 4},
	{"pair_d1", "", PAIR, 1, 16},
	{"pair_d3", "a page, three levels", PAIR, 3, 1},
	{"pair_d3", "", PAIR, 3, 2},
	{"pair_d3", "", PAIR, 3, 4},
	{"pair_d3", "", PAIR, 3, 16},
	{"cross_d3", "charged on one thread, given back on another", CROSS, 3, 2},
	{"batch_d3", "256 pages at once, more than a stock holds", BATCH, 3, 1},
	{"batch_d3", "", BATCH, 3, 2},
};
enum { CONFIGS = ARRAY_SIZE(configs) };

/* --- one measurement --- */

static struct {
	struct bench_options options;
	struct bench_machine machine;
	unsigned runs;
	struct tree tree;
	struct weir_container *container[DEPTH]; /* of depth 1, 2, 3 */
	struct level level[DEPTH];		 /* the same for the peers */
	double ns[CONFIGS][DESIGNS][BENCH_RUNS];
	double atomic_ns[BENCH_RUNS];
	bool apart[CONFIGS]; /* in some run its two threads never ran side by side */
} bench;

struct worker {
	const struct config *config;
	enum design design;
	unsigned index, slices;
	uint64_t duration_ns;
	pthread_barrier_t *together;
	struct worker *other;		  /* of a cross pair */
	NO_SHARING _Atomic uint64_t made; /* pages charged, for the other to give back */
	NO_SHARING _Atomic uint64_t taken;
	NO_SHARING _Atomic uint64_t beat; /* goes on as long as the thread does */
	pthread_t thread;
	float ns[SLICES]; /* a pair */
};

static bool charge(enum design design, unsigned depth, uint64_t bytes)
{
	switch (design) {
	case WEIR:
		return !charge_bytes(bench.container[depth - 1], bytes);
	case SHARED:
		return shared_charge(&bench.level[depth - 1], (int64_t)bytes);
	default:
		return spin_charge(&bench.level[depth - 1], (int64_t)bytes);
	}
}

static void uncharge(enum design design, unsigned depth, uint64_t bytes)
{
	switch (design) {
	case WEIR:
		uncharge_bytes(bench.container[depth - 1], bytes);
		break;
	case SHARED:
		shared_uncharge(&bench.level[depth - 1], (int64_t)bytes);
		break;
	default:
		spin_uncharge(&bench.level[depth - 1], (int64_t)bytes);
		break;
	}
}

/* The loop of each design is its own code, so that none pays for a look at which one it is. */
#define PAIRS(charge_, uncharge_, account_)                                                        \
	for (unsigned i = 0; i < pairs; i++) {                                                     \
		ok &= (charge_)(account_, bytes);                                                  \
		(uncharge_)(account_, bytes);                                                      \
	}

static bool weir_try(struct weir_container *container, uint64_t bytes)
{
	return !charge_bytes(container, bytes);
}

static bool pairs_run(enum design design, unsigned depth, uint64_t bytes, unsigned pairs)
{
	bool ok = true;

	switch (design) {
	case WEIR:
		PAIRS(weir_try, uncharge_bytes, bench.container[depth - 1]);
		break;
	case SHARED:
		PAIRS(shared_charge, shared_uncharge, &bench.level[depth - 1]);
		break;
	default:
		PAIRS(spin_charge, spin_uncharge, &bench.level[depth - 1]);
		break;
	}
	return ok;
}

/* Slices go round, so that the last ones count: by then everybody runs. */
static float *slice_next(struct worker *w)
{
	return &w->ns[w->slices++ % SLICES];
}

static void pairs_measure(struct worker *w)
{
	const struct config *c = w->config;
	const uint64_t bytes = c->kind == BATCH ? 256 * PAGE_SIZE : PAGE_SIZE;
	const uint64_t end = now_ns() + w->duration_ns;
	uint64_t began;

	while ((began = now_ns()) < end || (w->slices < 32 && began < end + 20 * w->duration_ns)) {
		uint64_t theirs = load_relaxed(&w->other->beat);
		float ns;

		for (unsigned n = 0; n < SLICE_PAIRS; n += BEAT_PAIRS) {
			if (!pairs_run(w->design, c->depth, bytes, BEAT_PAIRS))
				panic("bench charge: a charge far below its limit failed");
			store_relaxed(&w->beat, load_relaxed(&w->beat) + 1);
		}
		ns = (float)(now_ns() - began) / SLICE_PAIRS;
		/* Two threads are measured while both have a CPU: a slice without the other one is none. */
		theirs = load_relaxed(&w->other->beat) - theirs;
		if (c->threads != 2 || theirs >= SLICE_PAIRS / BEAT_PAIRS / 4)
			*slice_next(w) = ns;
	}
}

/* Thread 0 charges and thread 1 gives back, 32 pages at a time, so that the hand-over itself costs little. */
static void cross_measure(struct worker *w)
{
	enum { STEP = 32, AHEAD = 4096 };
	const unsigned depth = w->config->depth;
	struct worker *first = w->index ? w->other : w;
	uint64_t done = 0;
	const unsigned slices = (unsigned)(w->duration_ns / 20 / SLICE_PAIRS);

	for (unsigned i = 0; i < slices; i++) {
		uint64_t waited = 0, began = now_ns();

		for (unsigned n = 0; n < SLICE_PAIRS; n += STEP, done += STEP) {
			uint64_t from = now_ns();
			unsigned spin = 0;

			while (w->index ? load_acquire(&first->made) < done + STEP
					: done - load_acquire(&first->taken) > AHEAD) {
				if (++spin % 1000 == 0)
					sched_yield();
				cpu_relax();
			}
			waited += spin ? now_ns() - from : 0;
			for (unsigned k = 0; k < STEP; k++) {
				if (w->index)
					uncharge(w->design, depth, PAGE_SIZE);
				else if (!charge(w->design, depth, PAGE_SIZE))
					panic("bench charge: a charge far below its limit failed");
			}
			/* Pairs with the acquires above. */
			store_release(w->index ? &first->taken : &first->made, done + STEP);
		}
		*slice_next(w) = (float)(now_ns() - began - waited) / SLICE_PAIRS;
	}
}

static void *worker_main(void *data)
{
	struct worker *w = data;

	/* Side by side, not one after the other. */
	(void)thread_bind(0, (int)(w->index % bench.machine.cpus));
	if (stock_open())
		log_once("bench charge: no stocks: this kernel has no membarrier");
	pthread_barrier_wait(w->together);
	if (w->config->kind == CROSS)
		cross_measure(w);
	else
		pairs_measure(w);
	/* Nobody ends while others still contend. */
	pthread_barrier_wait(w->together);
	stock_close();
	return NULL;
}

static int compare_float(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static double median(float *values, unsigned count)
{
	qsort(values, count, sizeof(values[0]), compare_float);
	return count ? values[count / 2] : 0;
}

/* ns a pair; NAN never: a thread that cannot be had is an error. */
static int measure(const struct config *config, enum design design, double *ns)
{
	static struct worker worker[THREADS_MAX];
	static float all[THREADS_MAX * SLICES];
	pthread_barrier_t together;
	unsigned count = 0;

	*ns = 0;
	if (config->threads == 2 && bench.machine.cpus < 2) {
		bench.apart[config - configs] = true;
		return 0;
	}
	memset(worker, 0, sizeof(worker));
	pthread_barrier_init(&together, NULL, config->threads);
	for (unsigned i = 0; i < config->threads; i++) {
		struct worker *w = &worker[i];

		w->config = config;
		w->design = design;
		w->index = i;
		w->duration_ns = bench.options.quick ? MEASURE_QUICK_NS : MEASURE_NS;
		w->together = &together;
		w->other = &worker[config->threads == 2 ? !i : 0];
		if (pthread_create(&w->thread, NULL, worker_main, w))
			panic("bench charge: no thread to be had");
	}
	for (unsigned i = 0; i < config->threads; i++) {
		pthread_join(worker[i].thread, NULL);
		worker[i].slices = MIN(worker[i].slices, (unsigned)SLICES);
		memcpy(all + count, worker[i].ns, worker[i].slices * sizeof(all[0]));
		count += worker[i].slices;
	}
	pthread_barrier_destroy(&together);
	*ns = median(all, count);
	if (!count)
		bench.apart[config - configs] = true;
	/* A pair of two threads is what both of them do. */
	if (config->kind == CROSS)
		*ns = median(worker[0].ns, worker[0].slices) +
		      median(worker[1].ns, worker[1].slices);
	return 0;
}

/* One atomic addition on memory of one's own. */
static double atomic_measure(void)
{
	static float ns[SLICES];
	static _Atomic uint64_t word;

	for (unsigned i = 0; i < 64; i++) {
		uint64_t began = now_ns();

		for (unsigned n = 0; n < SLICE_PAIRS; n++)
			add_relaxed(&word, 1);
		ns[i] = (float)(now_ns() - began) / SLICE_PAIRS;
	}
	return median(ns, 64);
}

static int setup(void)
{
	static const char *const names[DEPTH - 1] = {"tenant", "job"};
	int err = tree_init(&bench.tree, GIB(1024));

	if (err)
		return err;
	bench.container[0] = bench.tree.root;
	for (unsigned i = 1; i < DEPTH && !err; i++)
		err = weir_container_create(bench.container[i - 1], names[i - 1],
					    &bench.container[i]);
	for (unsigned i = 0; i < DEPTH; i++) {
		bench.level[i].limit = INT64_MAX / 2;
		bench.level[i].parent = i ? &bench.level[i - 1] : NULL;
	}
	return err;
}

static int run_all(void)
{
	int err = setup();

	for (unsigned run = 0; run < bench.runs && !err; run++) {
		bench.atomic_ns[run] = atomic_measure();
		for (unsigned c = 0; c < CONFIGS; c++) {
			for (enum design d = 0; d < DESIGNS && !err; d++)
				err = measure(&configs[c], d, &bench.ns[c][d][run]);
		}
	}
	if (!err && container_charged(bench.tree.root))
		panic("bench charge: %llu bytes are left charged",
		      (unsigned long long)container_charged(bench.tree.root));
	tree_destroy(&bench.tree);
	return err;
}

/* --- printing --- */

static unsigned config_find(const char *name, unsigned threads)
{
	for (unsigned i = 0; i < CONFIGS; i++) {
		if (!strcmp(configs[i].name, name) && configs[i].threads == threads)
			return i;
	}
	panic("bench charge: no config %s of %u threads", name, threads);
}

/* Of each run: the first over the second. */
static struct bench_spread ratio(unsigned c, enum design d, unsigned over_c, enum design over_d)
{
	double values[BENCH_RUNS];

	for (unsigned run = 0; run < bench.runs; run++)
		values[run] = bench.ns[c][d][run] / bench.ns[over_c][over_d][run];
	return bench_spread_of(values, bench.runs);
}

static struct {
	const char *key, *what;
	struct bench_spread value;
	double least, most; /* the aim; 0: none */
} ratios[] = {
	{"two_threads_d3", "two threads over one, weir, three levels", {0}, 0, 1.2},
	{"vs_shared_d3_2t", "shared counters over weir, two threads", {0}, 10, 0},
	{"vs_spinlock_d3_2t", "spinlocks over weir, two threads", {0}, 10, 0},
	{"pair_d3_vs_atomic", "a pair at three levels over one atomic of this run", {0}, 0, 0.5},
};

static void ratios_fill(void)
{
	const unsigned one = config_find("pair_d3", 1), two = config_find("pair_d3", 2);
	double values[BENCH_RUNS];

	ratios[0].value = ratio(two, WEIR, one, WEIR);
	ratios[1].value = ratio(two, SHARED, two, WEIR);
	ratios[2].value = ratio(two, SPINLOCK, two, WEIR);
	for (unsigned run = 0; run < bench.runs; run++)
		values[run] = bench.ns[one][WEIR][run] / bench.atomic_ns[run];
	ratios[3].value = bench_spread_of(values, bench.runs);
}

static const char apart_why[] =
	"the two threads never ran side by side: one CPU, or too much else to do";

/* Is the ratio one of what was measured? All but the last need two threads. */
static bool ratio_there(unsigned i)
{
	return i == ARRAY_SIZE(ratios) - 1 || !bench.apart[config_find("pair_d3", 2)];
}

static void print_text(void)
{
	const struct bench_machine *m = &bench.machine;
	const double pair =
		bench_spread_of(bench.ns[config_find("pair_d3", 1)][WEIR], bench.runs).median;

	printf("Charging a page and giving it back, ns a pair in each thread; medians of %u runs\n",
	       bench.runs);
	printf("%u CPUs, Linux %s, %llu MiB of memory; load %.1f before; one atomic addition %.1f "
	       "ns\n\n",
	       m->cpus, m->kernel, m->mem_mib, m->load,
	       bench_spread_of(bench.atomic_ns, bench.runs).median);
	printf("%-46s %7s %22s %22s %22s\n", "", "threads", "weir", "shared counters", "spinlocks");
	for (unsigned c = 0; c < CONFIGS; c++) {
		printf("%-46s %7u", configs[c].what, configs[c].threads);
		if (bench.apart[c]) {
			printf(" not measured: %s\n", apart_why);
			continue;
		}
		for (enum design d = 0; d < DESIGNS; d++) {
			struct bench_spread s = bench_spread_of(bench.ns[c][d], bench.runs);

			printf(" %8.1f %6.1f..%-5.1f", s.median, s.min, s.max);
		}
		printf("\n");
	}
	printf("\n");
	for (unsigned i = 0; i < ARRAY_SIZE(ratios); i++)
		if (ratio_there(i))
			printf("%-52s %-18s %6.2f\n", ratios[i].what, ratios[i].key,
			       ratios[i].value.median);
	printf("\n");
	for (unsigned i = 0; i < ARRAY_SIZE(ratios); i++) {
		const double v = ratios[i].value.median;
		/* At most 3 ns or half an atomic: either will do. */
		const bool well = (i == 3 && pair <= 3) || !ratio_there(i);

		if (ratios[i].most > 0 && v > ratios[i].most && !well)
			printf("Missed: %s is %.2f; the aim is at most %.1f%s.\n", ratios[i].key, v,
			       ratios[i].most, i == 3 ? ", or 3 ns" : "");
		if (ratios[i].least > 0 && v < ratios[i].least && !well)
			printf("Missed: %s is %.2f; the aim is at least %.0f.\n", ratios[i].key, v,
			       ratios[i].least);
	}
}

static void print_ratio_json(unsigned i)
{
	printf("%s\"%s\": ", i ? ", " : "", ratios[i].key);
	if (ratio_there(i))
		printf("%.3f", ratios[i].value.median);
	else
		printf("null");
}

static void print_json(void)
{
	bench_json_head("charge", &bench.machine, bench.runs, bench.options.quick);
	printf("\"atomic_ns\": %.2f, \"results\": [",
	       bench_spread_of(bench.atomic_ns, bench.runs).median);
	for (unsigned c = 0; c < CONFIGS; c++) {
		for (enum design d = 0; d < DESIGNS; d++) {
			struct bench_spread s = bench_spread_of(bench.ns[c][d], bench.runs);

			printf("%s{\"name\": \"%s\", \"design\": \"%s\", \"threads\": %u, "
			       "\"unit\": \"ns\", ",
			       c || d ? ", " : "", configs[c].name, design_names[d],
			       configs[c].threads);
			if (bench.apart[c])
				printf("\"median\": null, \"min\": null, \"max\": null}");
			else
				printf("\"median\": %.2f, \"min\": %.2f, \"max\": %.2f}", s.median,
				       s.min, s.max);
		}
	}
	printf("], \"ratios\": {");
	for (unsigned i = 0; i < ARRAY_SIZE(ratios); i++)
		print_ratio_json(i);
	printf("}, \"skipped\": {");
	for (unsigned c = 0, n = 0; c < CONFIGS; c++) {
		if (bench.apart[c])
			printf("%s\"%s, %u threads\": \"%s\"", n++ ? ", " : "", configs[c].name,
			       configs[c].threads, apart_why);
	}
	printf("}}\n");
}

/* A bar for each design and config, on a logarithmic scale from 1 to 10,000 ns. */
static int print_svg(const char *path)
{
	static const char *const colour[DESIGNS] = {"#2a7ab0", "#c9a227", "#b04a3a"};
	enum { BAR = 9, GAP = 12, LEFT = 170, SCALE = 130, TOP = 34 };
	FILE *out = fopen(path, "w");
	unsigned y = TOP;

	if (!out)
		return -errno;
	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"%u\" "
		"font-family=\"sans-serif\" font-size=\"11\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
		"<text x=\"8\" y=\"18\" font-size=\"14\">charge and uncharge, ns a pair "
		"(logarithmic)</text>\n",
		TOP + (unsigned)CONFIGS * (DESIGNS * BAR + GAP) + 10);
	for (unsigned c = 0; c < CONFIGS; c++, y += GAP) {
		fprintf(out, "<text x=\"8\" y=\"%u\">%s, %u thread%s</text>\n", y + 2 * BAR,
			configs[c].name, configs[c].threads, configs[c].threads > 1 ? "s" : "");
		for (enum design d = 0; d < DESIGNS; d++, y += BAR) {
			double ns = bench_spread_of(bench.ns[c][d], bench.runs).median, left = ns;
			double length = 1;

			while (left > 1) {
				left /= 1.0232929922807541; /* 100 steps a decade */
				length += SCALE / 100.0;
			}
			fprintf(out,
				"<rect x=\"%d\" y=\"%u\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>"
				"<text x=\"%.1f\" y=\"%u\" font-size=\"9\">%s %.1f</text>\n",
				LEFT, y, length, BAR - 1, colour[d], LEFT + length + 4, y + BAR - 1,
				design_names[d], ns);
		}
	}
	fprintf(out, "</svg>\n");
	return fclose(out) ? -errno : 0;
}

int bench_charge(int argc, char **argv)
{
	int status;
	int err = bench_options_parse("charge", argc, argv, &bench.options, &status);

	if (err)
		return status;
	bench.runs = bench.options.quick ? BENCH_RUNS_QUICK : BENCH_RUNS;
	bench_machine_read(&bench.machine);
	err = run_all();
	if (err) {
		log_line("bench charge: %s; nothing is printed", errno_name(err));
		return 1;
	}
	ratios_fill();
	if (bench.options.svg) {
		err = print_svg(bench.options.svg);
		if (err)
			log_line("bench charge: %s: %s; no picture", bench.options.svg,
				 errno_name(err));
	}
	if (bench.options.json)
		print_json();
	else
		print_text();
	return fflush(stdout) || err ? 1 : 0;
}
