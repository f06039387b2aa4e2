/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench kmap: what it costs to reach a page that is not mapped, in six ways (kmap_rig.h), by one thread and by several.
 *
 * A pair maps a range of 64 KiB, reads a word of it, and unmaps it. At a hit ratio of h of 100, h of 100 pairs are of ranges that
 * are used all the time, a quarter as many as there are slots; the others are of ranges that no slot can still have. The last row
 * replays what weir itself asked for, recorded just before.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/atomic.h"
#include "base/base.h"
#include "base/log.h"
#include "bench.h"
#include "cli.h"
#include "kmap_rig.h"
#include "kmap_trace.h"
#include "os/mem.h"
#include "os/thread.h"
#include "svg.h"

enum { CROWDS = 4, RATIOS = 4, ROWS = RATIOS + 1, TRACE = RATIOS };
enum { SLOTS = 512, HOT = SLOTS / 4, KEYS = 8192, TRACE_ROOM = 200000 };
static const unsigned crowd[CROWDS] = {1, 2, 4, 16};
static const unsigned ratio_of[RATIOS] = {100, 99, 90, 0};
static const char *const row_name[ROWS] = {"pair_h100", "pair_h99", "pair_h90", "pair_h0",
					   "pair_trace"};
static const char *const design_name[KMAP_DESIGNS] = {"weir",  "spinlock", "mutex",
						      "pread", "mapall",   "window_a_thread"};
/* Where an atomic takes 6 ns. */
static const double aim_hit[2] = {20, 35};
#define AIM_PEERS 3
#define AIM_BATCH 32

_Thread_local uint64_t atomics_counted;

static struct {
	struct bench_options options;
	struct bench_machine machine;
	unsigned runs;
	int fd;
	struct kmap_trace trace;
	int trace_err;
	double ns[ROWS][CROWDS][KMAP_DESIGNS][BENCH_RUNS]; /* of a CPU, a pair */
	double flushes[ROWS][CROWDS][KMAP_DESIGNS];	   /* a thousand pairs, of the last run */
	double atomics[ROWS][CROWDS][KMAP_DESIGNS];	   /* a pair */
	double retired_per_flush; /* under misses, one thread, of the last run */
	double add_ns[BENCH_RUNS], cas_ns[BENCH_RUNS];
} bench;

static unsigned pairs_of(unsigned row, unsigned design)
{
	static const unsigned pairs[ROWS] = {1600000, 160000, 32000, 8000, TRACE_ROOM};
	unsigned n = pairs[row];

	if (design == KMAP_PREAD)
		n = MIN(n, 160000u);
	/* Nearly each pair is a remap, whatever the ratio. */
	if (design == KMAP_THREAD)
		n = MIN(n, 16000u);
	return bench.options.quick ? n / 25 : n;
}

/* --- a run --- */

struct worker {
	pthread_t thread;
	pthread_barrier_t *together;
	struct kmap_rig *rig;
	uint32_t *key;
	unsigned number, count;
	bool counted;
	uint64_t wrong, began, ended, atomics;
};

static void *work(void *data)
{
	struct worker *w = data;

	pthread_barrier_wait(w->together);
	w->began = now_ns();
	if (w->counted)
		w->wrong = counted_rig_run(w->rig, w->number, w->key, w->count);
	else
		w->wrong = kmap_rig_run(w->rig, w->number, w->key, w->count);
	w->ended = now_ns();
	w->atomics = atomics_counted;
	return NULL;
}

static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Each thread has cold ranges of its own, which come again when all others have been. To warm up, all slots are used for
 * them, then the hot ranges are mapped; cold ranges begin behind those. */
static void keys_fill(struct worker *w, unsigned row, unsigned threads, bool warm)
{
	const uint32_t share = (KEYS - HOT) / threads;
	uint32_t cold = warm ? 0 : w->count;
	uint64_t seed = 0x2545f4914f6cdd1d + w->number;

	for (unsigned i = 0; i < w->count; i++) {
		const uint64_t r = random_next(&seed);

		if (warm && row != TRACE)
			w->key[i] = i + HOT < w->count ? HOT + w->number * share + cold++ % share
						       : w->count - 1 - i;
		else if (row == TRACE)
			w->key[i] = bench.trace.key[(uint64_t)(i * threads + w->number) %
						    bench.trace.count];
		else if ((r >> 32) % 100 < ratio_of[row])
			w->key[i] = (uint32_t)(r % HOT);
		else
			w->key[i] = HOT + w->number * share + cold++ % share;
	}
}

struct outcome {
	double ns, atomics, flushes;
};

static size_t key_bytes(unsigned count)
{
	return ALIGN_UP(count * sizeof(uint32_t), PAGE_SIZE);
}

/* All threads together: ns of a CPU, atomics and flushes a pair. */
static int crowd_run(struct kmap_rig *rig, unsigned row, unsigned threads, unsigned count,
		     bool warm, bool counted, struct outcome *out)
{
	struct worker w[KMAP_RIG_THREADS];
	const unsigned cpus = MIN(threads, bench.machine.cpus);
	pthread_barrier_t together;
	uint64_t wrong = 0, atomics = 0, began = UINT64_MAX, ended = 0;
	int err = -pthread_barrier_init(&together, NULL, threads);

	for (unsigned started = 0; started < threads && !err; started++) {
		w[started] = (struct worker){.together = &together,
					     .rig = rig,
					     .number = started,
					     .count = count,
					     .counted = counted,
					     .key = mem_alloc(key_bytes(count))};
		if (!w[started].key)
			return -ENOMEM;
		keys_fill(&w[started], row, threads, warm);
	}
	/* Those that wait at the barrier for one that could not be started are not waited for: the bench ends. */
	for (unsigned i = 0; i < threads && !err; i++)
		err = -pthread_create(&w[i].thread, NULL, work, &w[i]);
	if (err)
		return err;
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(w[i].thread, NULL);
		mem_release(w[i].key, key_bytes(count));
		wrong += w[i].wrong;
		began = MIN(began, w[i].began);
		ended = MAX(ended, w[i].ended);
		atomics += w[i].atomics;
	}
	pthread_barrier_destroy(&together);
	out->ns = (double)(ended - began) * cpus / ((double)count * threads);
	out->atomics = (double)atomics / ((double)count * threads);
	return wrong ? -EBADMSG : 0;
}

/* A rig that is warm, and then what is measured. */
static int rig_measure(unsigned row, unsigned c, unsigned design, unsigned slots, bool counted,
		       struct outcome *out)
{
	const unsigned threads = crowd[c];
	const unsigned count = pairs_of(row, design) / threads;
	struct outcome warm;
	struct kmap_rig *rig;
	uint64_t before, retired;
	int err = counted ? counted_rig_open(design, bench.fd, KEYS, slots, &rig)
			  : kmap_rig_open(design, bench.fd, KEYS, slots, &rig);

	if (err)
		return err;
	err = crowd_run(rig, row, threads, 2 * SLOTS / threads + HOT, true, counted, &warm);
	before = counted ? counted_rig_flushes(rig) : kmap_rig_flushes(rig);
	retired = counted ? 0 : kmap_rig_retired(rig);
	if (!err)
		err = crowd_run(rig, row, threads, count, false, counted, out);
	out->flushes =
		1000.0 *
		(double)((counted ? counted_rig_flushes(rig) : kmap_rig_flushes(rig)) - before) /
		((double)count * threads);
	if (!counted && design == KMAP_WEIR && row == RATIOS - 1 && !c &&
	    kmap_rig_flushes(rig) != before)
		bench.retired_per_flush = (double)(kmap_rig_retired(rig) - retired) /
					  (double)(kmap_rig_flushes(rig) - before);
	if (counted)
		counted_rig_close(rig);
	else
		kmap_rig_close(rig);
	return err;
}

static int cell_measure(unsigned run, unsigned row, unsigned c, unsigned design)
{
	struct outcome out = {0};
	int err = rig_measure(row, c, design, SLOTS, false, &out);

	bench.ns[row][c][design][run] = out.ns;
	bench.flushes[row][c][design] = out.flushes;
	if (err || run)
		return err;
	err = rig_measure(row, c, design, SLOTS, true, &out);
	bench.atomics[row][c][design] = out.atomics;
	return err;
}

static void atomics_measure(unsigned run)
{
	enum { TURNS = 2000000 };
	static _Atomic uint64_t word;
	uint64_t old = load_relaxed(&word), began = now_ns();

	for (unsigned i = 0; i < TURNS; i++)
		(void)add_relaxed(&word, 1);
	bench.add_ns[run] = (double)(now_ns() - began) / TURNS;
	began = now_ns();
	for (unsigned i = 0; i < TURNS; i++) {
		old = load_relaxed(&word);
		(void)cas_relaxed(&word, &old, old + 1);
	}
	bench.cas_ns[run] = (double)(now_ns() - began) / TURNS;
}

static int measure_all(void)
{
	int err = 0;

	for (unsigned run = 0; run < bench.runs && !err; run++) {
		atomics_measure(run);
		for (unsigned row = 0; row < ROWS && !err; row++) {
			if (row == TRACE && bench.trace_err)
				continue;
			for (unsigned c = 0; c < CROWDS && !err; c++) {
				for (unsigned d = 0; d < KMAP_DESIGNS && !err; d++)
					err = cell_measure(run, row, c, d);
			}
		}
	}
	return err;
}

/* Every range says at its start which one it is. */
static int file_make(void)
{
	const size_t bytes = (size_t)KEYS << KMAP_RIG_SHIFT;
	char *all;

	bench.fd = mem_file_open(bytes);
	if (bench.fd < 0)
		return bench.fd;
	all = mem_shared_map(bench.fd, bytes);
	if (!all)
		return -ENOMEM;
	for (uint32_t key = 0; key < KEYS; key++)
		memcpy(all + ((size_t)key << KMAP_RIG_SHIFT), &key, sizeof(key));
	mem_release(all, bytes);
	return 0;
}

/* --- what is printed --- */

static struct bench_spread spread(unsigned row, unsigned c, unsigned design)
{
	return bench_spread_of(bench.ns[row][c][design], bench.runs);
}

/* weir's throughput over that of another design, run by run. */
static double versus(unsigned row, unsigned c, unsigned design)
{
	double values[BENCH_RUNS];

	for (unsigned run = 0; run < bench.runs; run++)
		values[run] = bench.ns[row][c][design][run] / bench.ns[row][c][KMAP_WEIR][run];
	return bench_spread_of(values, bench.runs).median;
}

static void missed_print(void)
{
	const double add = bench_spread_of(bench.add_ns, bench.runs).median;

	printf("Aims, where an atomic takes 6 ns (here %.1f):\n", add);
	for (unsigned c = 0; c < 2; c++) {
		const double ns = spread(0, c, KMAP_WEIR).median;

		printf("  a hit from %u thread%s: %.1f ns; aim %.0f%s\n", crowd[c], c ? "s" : "",
		       ns, aim_hit[c], ns > aim_hit[c] ? ": MISSED" : "");
	}
	printf("  slots retired a flush under misses: %.1f; aim %d%s\n", bench.retired_per_flush,
	       AIM_BATCH, bench.retired_per_flush < AIM_BATCH - 0.5 ? ": MISSED" : "");
	for (unsigned d = KMAP_SPINLOCK; d <= KMAP_MUTEX; d++) {
		const double times = versus(2, 1, d);

		printf("  90 of 100 hits, 2 threads, against the %s: %.2f times; aim %d%s\n",
		       design_name[d], times, AIM_PEERS, times < AIM_PEERS ? ": MISSED" : "");
	}
}

static void table_print(unsigned row)
{
	if (row == TRACE)
		printf("\nThe engine's own: %u kmaps of %u ranges, %.1f us apart; %.1f of 100 were "
		       "hits, %llu waits, %llu busy\n",
		       bench.trace.count, bench.trace.keys, bench.trace.us_apart, bench.trace.hits,
		       bench.trace.waits, bench.trace.busy);
	else
		printf("\n%u of 100 hits\n", ratio_of[row]);
	printf("%-16s", "threads");
	for (unsigned c = 0; c < CROWDS; c++)
		printf(" %26u           ", crowd[c]);
	putchar('\n');
	for (unsigned d = 0; d < KMAP_DESIGNS; d++) {
		printf("%-16s", design_name[d]);
		for (unsigned c = 0; c < CROWDS; c++) {
			struct bench_spread s = spread(row, c, d);

			printf(" %7.0f (%6.0f..%6.0f) %4.1f %6.1f", s.median, s.min, s.max,
			       bench.atomics[row][c][d], bench.flushes[row][c][d]);
		}
		putchar('\n');
	}
}

static void print_text(void)
{
	const struct bench_machine *m = &bench.machine;

	printf("What it costs to reach a page that is not mapped: map, read a word, unmap; %u "
	       "windows of 64 KiB\n"
	       "ns of a CPU a pair (least..most of %u runs), atomic operations a pair, flushes a "
	       "thousand pairs\n"
	       "%u CPUs, Linux %s, %llu MiB of memory; load %.1f before\n"
	       "An uncontended atomic addition takes %.1f ns, a load with a compare-and-swap "
	       "%.1f.\n",
	       SLOTS, bench.runs, m->cpus, m->kernel, m->mem_mib, m->load,
	       bench_spread_of(bench.add_ns, bench.runs).median,
	       bench_spread_of(bench.cas_ns, bench.runs).median);
	for (unsigned row = 0; row < ROWS; row++) {
		if (row != TRACE || !bench.trace_err)
			table_print(row);
	}
	if (bench.trace_err)
		printf("\nThe engine's own kmaps: left out, %s\n", errno_name(bench.trace_err));
	printf("\npread includes copying 4 KiB. mutex: a futex, no work of its own. A pair that "
	       "misses includes the page fault.\n\n");
	missed_print();
}

static void json_cell(unsigned row, unsigned c, unsigned d)
{
	const struct bench_spread s = spread(row, c, d);

	printf("{\"name\": \"%s\", \"design\": \"%s\", \"threads\": %u, \"unit\": \"ns\", "
	       "\"median\": %.2f, \"min\": %.2f, \"max\": %.2f, \"atomics\": %.3f, "
	       "\"flushes_per_thousand\": %.3f}, ",
	       row_name[row], design_name[d], crowd[c], s.median, s.min, s.max,
	       bench.atomics[row][c][d], bench.flushes[row][c][d]);
}

static void print_json(void)
{
	const struct bench_machine *m = &bench.machine;

	printf("{\"bench\": \"kmap\", \"machine\": {\"cpus\": %u, \"kernel\": \"%s\", \"mem_mib\": "
	       "%llu, \"load\": %.2f}, \"runs\": %u, \"quick\": %s, \"slots\": %u, \"results\": [",
	       m->cpus, m->kernel, m->mem_mib, m->load, bench.runs,
	       bench.options.quick ? "true" : "false", SLOTS);
	for (unsigned row = 0; row < ROWS; row++) {
		for (unsigned c = 0; c < CROWDS && !(row == TRACE && bench.trace_err); c++) {
			for (unsigned d = 0; d < KMAP_DESIGNS; d++)
				json_cell(row, c, d);
		}
	}
	printf("{\"name\": \"atomic_add\", \"design\": \"machine\", \"threads\": 1, \"unit\": "
	       "\"ns\", \"median\": %.2f, \"min\": %.2f, \"max\": %.2f}], ",
	       bench_spread_of(bench.add_ns, bench.runs).median,
	       bench_spread_of(bench.add_ns, bench.runs).min,
	       bench_spread_of(bench.add_ns, bench.runs).max);
	printf("\"ratios\": {\"hit90_2t_vs_spinlock\": %.3f, \"hit90_2t_vs_mutex\": %.3f, "
	       "\"retired_per_flush\": %.2f}, ",
	       versus(2, 1, KMAP_SPINLOCK), versus(2, 1, KMAP_MUTEX), bench.retired_per_flush);
	if (bench.trace_err)
		printf("\"skipped\": {\"pair_trace\": \"%s\"}}\n", errno_name(bench.trace_err));
	else
		printf("\"trace\": {\"kmaps\": %u, \"ranges\": %u, \"us_apart\": %.2f, \"hits\": "
		       "%.2f, \"waits\": %llu}, \"skipped\": {}}\n",
		       bench.trace.count, bench.trace.keys, bench.trace.us_apart, bench.trace.hits,
		       bench.trace.waits);
}

static int picture_write(void)
{
	static char names[RATIOS * 2][16];
	static double y[KMAP_DESIGNS][RATIOS * 2];
	const char *x[RATIOS * 2];
	struct svg_line lines[KMAP_DESIGNS];
	const struct svg_chart chart = {
		.title = "Reaching a page that is not mapped: ns of a CPU for map, read, unmap",
		.x_title = "threads, hits of 100",
		.y_title = "ns",
		.x = x,
		.points = RATIOS * 2,
		.lines = lines,
		.count = KMAP_DESIGNS,
		.y_log = true,
	};
	int err;

	for (unsigned i = 0; i < RATIOS * 2; i++) {
		snprintf(names[i], sizeof(names[i]), "%u, %u", crowd[i / RATIOS],
			 ratio_of[i % RATIOS]);
		x[i] = names[i];
		for (unsigned d = 0; d < KMAP_DESIGNS; d++)
			y[d][i] = spread(i % RATIOS, i / RATIOS, d).median;
	}
	for (unsigned d = 0; d < KMAP_DESIGNS; d++)
		lines[d] = (struct svg_line){design_name[d], y[d]};
	err = svg_write(bench.options.svg, &chart);
	if (err)
		log_line("bench kmap: %s: %s; give a file that you may write to", bench.options.svg,
			 errno_name(err));
	return err ? 1 : 0;
}

int bench_kmap(int argc, char **argv)
{
	int status, err = bench_options_parse("kmap", argc, argv, &bench.options, &status);

	if (err)
		return status;
	bench.runs = bench.options.quick ? BENCH_RUNS_QUICK : BENCH_RUNS;
	bench_machine_read(&bench.machine);
	bench.trace_err =
		kmap_trace_record(&bench.trace, bench.options.quick ? TRACE_ROOM / 10 : TRACE_ROOM,
				  bench.options.quick ? MIB(64) : MIB(256), SLOTS);
	if (!bench.trace_err && (!bench.trace.count || bench.trace.keys > KEYS))
		bench.trace_err = -ERANGE;
	err = file_make();
	if (!err)
		err = measure_all();
	kmap_trace_destroy(&bench.trace);
	if (err) {
		log_line("bench kmap: %s; nothing is printed", errno_name(err));
		return 1;
	}
	if (bench.options.json)
		print_json();
	else
		print_text();
	status = bench.options.svg ? picture_write() : 0;
	return fflush(stdout) ? 1 : status;
}
