/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench pool: what a frame costs, and how fast blocks come and go.
 *
 * Patterns, as the allocators of kernels are measured: *bulk* gets all frames and then puts all, *repeat* gets one and puts it
 * at once, *rand* puts all in random order and gets them again out of that disorder. No frame is touched: what is
 * measured is the pool. Blocks are: their frames are written first, so that the system has memory to take back.
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
#include "os/mem.h"
#include "os/thread.h"
#include "weir/pool.h"

enum pattern { BULK_GET, BULK_PUT, REPEAT, RAND_GET, RAND_PUT, PATTERNS };
enum { SIZES = 2, THREADS_MOST = 2 };
enum hotplug { OFF_FREE, ON_FREE, OFF_UNTOUCHED, OFF_HALF, COPY_HALF, HOTPLUGS };

static const char *const pattern_name[PATTERNS] = {"bulk_get", "bulk_put", "repeat_pair",
						   "rand_get", "rand_put"};
static const unsigned size_order[SIZES] = {0, WEIR_POOL_ORDER_MAX};
static const struct {
	const char *name, *what;
} hotplugs[HOTPLUGS] = {
	{"offline_free", "offline, free, every frame written before"},
	{"online", "online"},
	{"offline_untouched", "offline, free, no frame ever touched"},
	{"offline_half", "offline, every second frame in use, all written"},
	{"copy_half", "copying these frames, and dropping the block"},
};
/* Aims in ns, where an uncontended atomic takes 6; 0: none. */
static const double aims[PATTERNS][SIZES] = {
	[BULK_GET] = {62, 75},
	[BULK_PUT] = {46, 37},
	[REPEAT] = {25, 0},
};
#define AIM_TWO_THREADS 1.3
#define AIM_OFFLINE_FREE_MS 15
#define AIM_OFFLINE_HALF 1.5

static struct {
	struct bench_options options;
	struct bench_machine machine;
	unsigned runs, threads;
	uint64_t bytes, block;
	double ns[PATTERNS][SIZES][THREADS_MOST][BENCH_RUNS];
	double atomic_ns[BENCH_RUNS];
	double ms[HOTPLUGS][BENCH_RUNS];
} bench;

/* --- patterns --- */

struct worker {
	struct weir_pool *pool;
	unsigned order, index;
	uint64_t count, seed;
	weir_pfn_t *pfn;
	pthread_barrier_t *together;
	double ns[PATTERNS];
	int err;
};

static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static double get_all(struct worker *w)
{
	uint64_t start;

	pthread_barrier_wait(w->together);
	start = now_ns();
	for (uint64_t i = 0; i < w->count; i++) {
		int64_t pfn = weir_pool_alloc(w->pool, w->order, 0, 0);

		if (unlikely(pfn < 0))
			w->err = (int)pfn;
		w->pfn[i] = (weir_pfn_t)pfn;
	}
	return (double)(now_ns() - start) / (double)w->count;
}

static double put_all(struct worker *w)
{
	uint64_t start;

	pthread_barrier_wait(w->together);
	start = now_ns();
	for (uint64_t i = 0; i < w->count; i++) {
		if (unlikely(weir_pool_free(w->pool, w->pfn[i], w->order)))
			w->err = -EINVAL;
	}
	return (double)(now_ns() - start) / (double)w->count;
}

static double repeat(struct worker *w)
{
	const unsigned pairs = bench.options.quick ? 200000 : 2000000;
	uint64_t start;

	pthread_barrier_wait(w->together);
	start = now_ns();
	for (unsigned i = 0; i < pairs; i++) {
		int64_t pfn = weir_pool_alloc(w->pool, w->order, 0, 0);

		if (unlikely(pfn < 0 || weir_pool_free(w->pool, (weir_pfn_t)pfn, w->order)))
			w->err = -EINVAL;
	}
	return (double)(now_ns() - start) / pairs;
}

static void shuffle(struct worker *w)
{
	for (uint64_t left = w->count; left > 1; left--) {
		uint64_t j = random_next(&w->seed) % left;
		weir_pfn_t pfn = w->pfn[left - 1];

		w->pfn[left - 1] = w->pfn[j];
		w->pfn[j] = pfn;
	}
}

static void *work(void *arg)
{
	/* Of the highest order there are few: many rounds, or it would be over before it can be measured. */
	struct worker *w = arg;
	const unsigned rounds = w->order ? 64 : 1;

	/* One CPU each: what is asked is what the allocator costs, not what the scheduler does. */
	(void)thread_bind(0, (int)w->index);
	w->ns[REPEAT] = repeat(w);
	for (unsigned i = 0; i < rounds; i++) {
		w->ns[BULK_GET] += get_all(w) / rounds;
		w->ns[BULK_PUT] += put_all(w) / rounds;
	}
	(void)get_all(w);
	for (unsigned i = 0; i < rounds; i++) {
		shuffle(w);
		w->ns[RAND_PUT] += put_all(w) / rounds;
		w->ns[RAND_GET] += get_all(w) / rounds;
	}
	(void)put_all(w);
	return NULL;
}

static int pool_open(uint64_t bytes, struct weir_pool **pool)
{
	const struct weir_pool_options options = {
		.size = sizeof(options), .low_max = bytes, .block = bench.block};
	uint32_t first, blocks = (uint32_t)(bytes / bench.block);
	int err = weir_pool_create(&options, pool);

	if (err)
		return err;
	err = weir_pool_add(*pool, WEIR_ZONE_LOW, blocks, &first);
	for (uint32_t i = 0; i < blocks && !err; i++)
		err = weir_pool_online(*pool, first + i, NULL);
	if (err)
		weir_pool_destroy(*pool);
	return err;
}

/* All patterns by so many threads; the mean of the threads' figures counts. */
static int patterns_run(struct weir_pool *pool, weir_pfn_t *room, unsigned size, unsigned threads,
			unsigned run)
{
	const unsigned order = size_order[size];
	/* What other CPUs' caches may hold is left out. */
	const uint64_t each = (bench.bytes / PAGE_SIZE >> order) * 98 / 100 / threads;
	struct worker worker[THREADS_MOST];
	pthread_t thread[THREADS_MOST];
	pthread_barrier_t together;
	int err = -pthread_barrier_init(&together, NULL, threads);

	if (err)
		return err;
	for (unsigned i = 0; i < threads; i++) {
		worker[i] = (struct worker){.pool = pool,
					    .order = order,
					    .index = i,
					    .count = each,
					    .seed = 0x9e3779b97f4a7c15ull + i,
					    .pfn = room + i * each,
					    .together = &together};
		if (pthread_create(&thread[i], NULL, work, &worker[i]))
			return -EAGAIN;
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(thread[i], NULL);
		err = err ? err : worker[i].err;
	}
	pthread_barrier_destroy(&together);
	for (unsigned p = 0; p < PATTERNS; p++) {
		double sum = 0;

		for (unsigned i = 0; i < threads; i++)
			sum += worker[i].ns[p];
		bench.ns[p][size][threads - 1][run] = sum / threads;
	}
	return err;
}

static double atomic_measure(void)
{
	enum { TIMES = 5000000 };
	static _Atomic uint64_t word;
	uint64_t start = now_ns();

	for (unsigned i = 0; i < TIMES; i++)
		add_relaxed(&word, 1);
	return (double)(now_ns() - start) / TIMES;
}

static int patterns_all(unsigned run)
{
	const size_t room_bytes = ALIGN_UP(bench.bytes / PAGE_SIZE * sizeof(weir_pfn_t), PAGE_SIZE);
	weir_pfn_t *room = mem_alloc(room_bytes);
	struct weir_pool *pool;
	int err = room ? pool_open(bench.bytes, &pool) : -ENOMEM;

	if (err)
		goto out;
	memset(room, 1, room_bytes);
	bench.atomic_ns[run] = atomic_measure();
	for (unsigned size = 0; size < SIZES && !err; size++) {
		for (unsigned threads = 1; threads <= bench.threads && !err; threads++)
			err = patterns_run(pool, room, size, threads, run);
		/* What one order has left behind is not the next one's. */
		(void)weir_pool_trim(pool, UINT64_MAX);
	}
	weir_pool_destroy(pool);
out:
	mem_release(room, room_bytes);
	return err;
}

/* --- blocks --- */

struct movable {
	struct weir_pool *pool;
	char *base;
	weir_pfn_t *at; /* by private word - 1 */
};

static int frame_migrate(void *data, weir_pfn_t from, unsigned order, uint64_t word, weir_pfn_t to)
{
	struct movable *m = data;

	memcpy(m->base + ((size_t)to << PAGE_SHIFT), m->base + ((size_t)from << PAGE_SHIFT),
	       PAGE_SIZE << order);
	m->at[word - 1] = to;
	return 0;
}

static double ms_since(uint64_t start)
{
	return (double)(now_ns() - start) / 1e6;
}

/* Every frame of both blocks is got and written; then all are freed but every second one of the first block. */
static int half_use(struct movable *m, unsigned owner)
{
	const weir_pfn_t block = weir_pool_block_frames(m->pool);
	uint64_t held = 0;

	for (weir_pfn_t i = 0; i < 2 * block; i++) {
		int64_t pfn = weir_pool_alloc(m->pool, 0, WEIR_POOL_MOVABLE, owner);

		if (pfn < 0)
			return (int)pfn;
		memset(m->base + ((size_t)pfn << PAGE_SHIFT), 1, PAGE_SIZE);
	}
	for (weir_pfn_t pfn = 0; pfn < 2 * block; pfn++) {
		if (pfn < block && pfn % 2 == 0) {
			m->at[held++] = pfn;
			weir_pool_private_set(m->pool, pfn, held);
		} else if (weir_pool_free(m->pool, pfn, 0)) {
			return -EINVAL;
		}
	}
	return 0;
}

static int block_timed(struct weir_pool *pool, enum hotplug what, unsigned run)
{
	uint64_t start = now_ns();
	int err = what == ON_FREE ? weir_pool_online(pool, 0, NULL)
				  : weir_pool_offline(pool, 0, NULL, NULL);

	bench.ms[what][run] = ms_since(start);
	return err;
}

/* The least that it can cost: the same frames copied to such that were written before, and the block dropped. */
static int copy_timed(unsigned run)
{
	char *from = mem_alloc(bench.block), *to = mem_alloc(bench.block);
	int err = from && to ? 0 : -ENOMEM;
	uint64_t start;

	if (!err) {
		memset(from, 1, bench.block);
		memset(to, 1, bench.block);
		start = now_ns();
		for (size_t i = 0; i < bench.block / PAGE_SIZE / 2; i++)
			memcpy(to + i * PAGE_SIZE, from + 2 * i * PAGE_SIZE, PAGE_SIZE);
		err = mem_discard(from, bench.block);
		bench.ms[COPY_HALF][run] = ms_since(start);
	}
	mem_release(from, bench.block);
	mem_release(to, bench.block);
	return err;
}

static int blocks_run(struct movable *m, unsigned run)
{
	const struct weir_pool_owner owner = {
		.size = sizeof(owner), .name = "bench", .migrate = frame_migrate, .data = m};
	const weir_pfn_t block = weir_pool_block_frames(m->pool);
	int id = weir_pool_owner_add(m->pool, &owner), err;

	if (id < 0)
		return id;
	/* Free, and written before. */
	memset(m->base, 1, bench.block);
	err = block_timed(m->pool, OFF_FREE, run);
	if (!err)
		err = block_timed(m->pool, ON_FREE, run);
	if (!err)
		err = block_timed(m->pool, OFF_UNTOUCHED, run);
	if (!err)
		err = weir_pool_online(m->pool, 0, NULL);
	if (!err)
		err = half_use(m, (unsigned)id);
	if (!err)
		err = block_timed(m->pool, OFF_HALF, run);
	for (weir_pfn_t i = 0; i < block / 2 && !err; i++)
		err = m->base[(size_t)m->at[i] << PAGE_SHIFT] == 1 && m->at[i] >= block ? 0 : -EIO;
	return err;
}

static int blocks_all(unsigned run)
{
	struct movable m = {.at = mem_alloc(bench.block / PAGE_SIZE * sizeof(weir_pfn_t))};
	int err = m.at ? pool_open(2 * bench.block, &m.pool) : -ENOMEM;

	if (!err) {
		m.base = weir_pool_base(m.pool);
		err = run % 2 ? copy_timed(run) : 0;
		if (!err)
			err = blocks_run(&m, run);
		if (!err && run % 2 == 0)
			err = copy_timed(run);
		weir_pool_destroy(m.pool);
	}
	mem_release(m.at, bench.block / PAGE_SIZE * sizeof(weir_pfn_t));
	return err;
}

/* --- figures --- */

static struct bench_spread ratio(const double *over, const double *under)
{
	double values[BENCH_RUNS];

	for (unsigned run = 0; run < bench.runs; run++)
		values[run] = under[run] > 0 ? over[run] / under[run] : 0;
	return bench_spread_of(values, bench.runs);
}

static struct bench_spread spread(const double *values)
{
	return bench_spread_of(values, bench.runs);
}

static double gib_per_s(double ms)
{
	return ms > 0 ? (double)bench.block / (double)GIB(1) / (ms / 1000) : 0;
}

static double two_threads(enum pattern pattern, unsigned size)
{
	return bench.threads < 2
		       ? 0
		       : ratio(bench.ns[pattern][size][1], bench.ns[pattern][size][0]).median;
}

static void missed_print(void)
{
	for (unsigned size = 0; size < SIZES; size++) {
		for (unsigned p = 0; p < PATTERNS; p++) {
			double ns = spread(bench.ns[p][size][0]).median;

			if (aims[p][size] > 0 && ns > aims[p][size])
				printf("Missed: %s of order %u is to take at most %.0f ns where an "
				       "atomic takes 6; it "
				       "took %.1f, and an atomic %.1f.\n",
				       pattern_name[p], size_order[size], aims[p][size], ns,
				       spread(bench.atomic_ns).median);
			if (two_threads((enum pattern)p, size) > AIM_TWO_THREADS)
				printf("Missed: %s of order %u with two threads is to take at most "
				       "%.1f times what it "
				       "takes one; it took %.2f.\n",
				       pattern_name[p], size_order[size], AIM_TWO_THREADS,
				       two_threads((enum pattern)p, size));
		}
	}
	if (spread(bench.ms[OFF_FREE]).median * (double)MIB(128) >
	    AIM_OFFLINE_FREE_MS * (double)bench.block)
		printf("Missed: 128 MiB that are free are to go offline in at most %d ms.\n",
		       AIM_OFFLINE_FREE_MS);
	if (ratio(bench.ms[OFF_HALF], bench.ms[COPY_HALF]).median > AIM_OFFLINE_HALF)
		printf("Missed: a half-used block is to go offline in at most %.1f times what "
		       "copying and dropping takes; "
		       "it took %.2f.\n",
		       AIM_OFFLINE_HALF, ratio(bench.ms[OFF_HALF], bench.ms[COPY_HALF]).median);
}

static void print_text(void)
{
	const struct bench_machine *m = &bench.machine;
	const double atomic = spread(bench.atomic_ns).median;

	printf("What a frame costs, ns, median (of each run) of %u runs; descriptors of %llu MiB\n",
	       bench.runs, (unsigned long long)(bench.bytes >> 20));
	printf("%u CPUs, Linux %s, %llu MiB of memory; load %.1f before\n", m->cpus, m->kernel,
	       m->mem_mib, m->load);
	printf("An uncontended atomic takes %.1f ns.\n\n", atomic);
	printf("%-12s %5s  %-28s %-28s %8s %8s\n", "", "order", "1 thread", "2 threads", "2 over 1",
	       "atomics");
	for (unsigned size = 0; size < SIZES; size++) {
		for (unsigned p = 0; p < PATTERNS; p++) {
			struct bench_spread one = spread(bench.ns[p][size][0]);
			struct bench_spread two = spread(bench.ns[p][size][1]);

			printf("%-12s %5u  %7.1f (%6.1f..%6.1f)    ", pattern_name[p],
			       size_order[size], one.median, one.min, one.max);
			if (bench.threads > 1)
				printf("%7.1f (%6.1f..%6.1f)     %8.2f", two.median, two.min,
				       two.max, two_threads((enum pattern)p, size));
			else
				printf("%-37s", "one CPU only");
			printf(" %8.1f\n", one.median / atomic);
		}
	}
	printf("\nA block of %llu MiB, ms\n\n", (unsigned long long)(bench.block >> 20));
	for (unsigned h = 0; h < HOTPLUGS; h++) {
		struct bench_spread s = spread(bench.ms[h]);

		printf("%-48s %8.2f (%6.2f..%6.2f)  %9.1f GiB/s\n", hotplugs[h].what, s.median,
		       s.min, s.max, gib_per_s(s.median));
	}
	printf("\nhalf-used over copying and dropping (offline_half_vs_copy)  %.2f\n\n",
	       ratio(bench.ms[OFF_HALF], bench.ms[COPY_HALF]).median);
	missed_print();
}

static void json_result(const char *name, unsigned order, unsigned threads, const char *unit,
			const double *values, const char *end)
{
	struct bench_spread s = spread(values);
	char suffix[16] = "";

	if (order != UINT32_MAX)
		snprintf(suffix, sizeof(suffix), "_o%u", order);
	printf("{\"name\": \"%s%s\", \"design\": \"weir\", \"threads\": %u, \"unit\": \"%s\", "
	       "\"median\": %.3f, "
	       "\"min\": %.3f, \"max\": %.3f}%s",
	       name, suffix, threads, unit, s.median, s.min, s.max, end);
}

static void print_json(void)
{
	bench_json_head("pool", &bench.machine, bench.runs, bench.options.quick);
	printf("\"bytes\": %llu, \"block_bytes\": %llu, \"results\": [",
	       (unsigned long long)bench.bytes, (unsigned long long)bench.block);
	for (unsigned size = 0; size < SIZES; size++) {
		for (unsigned p = 0; p < PATTERNS; p++) {
			for (unsigned threads = 1; threads <= bench.threads; threads++)
				json_result(pattern_name[p], size_order[size], threads, "ns",
					    bench.ns[p][size][threads - 1], ", ");
		}
	}
	for (unsigned h = 0; h < HOTPLUGS; h++)
		json_result(hotplugs[h].name, UINT32_MAX, 1, "ms", bench.ms[h], ", ");
	json_result("atomic", UINT32_MAX, 1, "ns", bench.atomic_ns, "], ");
	printf("\"ratios\": {\"offline_free_ms\": %.3f, \"offline_half_vs_copy\": %.3f, ",
	       spread(bench.ms[OFF_FREE]).median,
	       ratio(bench.ms[OFF_HALF], bench.ms[COPY_HALF]).median);
	if (bench.threads > 1)
		printf("\"two_threads_repeat_o0\": %.3f, ", two_threads(REPEAT, 0));
	else
		printf("\"two_threads_repeat_o0\": null, ");
	printf("\"repeat_o0_vs_atomic\": %.3f, \"offline_free_gib_per_s\": %.2f}, \"skipped\": "
	       "{%s}}\n",
	       ratio(bench.ns[REPEAT][0][0], bench.atomic_ns).median,
	       gib_per_s(spread(bench.ms[OFF_FREE]).median),
	       bench.threads > 1 ? "" : "\"two_threads_repeat_o0\": \"one CPU only\"");
}

/* --- the picture --- */

static void plot(FILE *to)
{
	fprintf(to, "set terminal svg size 900,420 font 'sans,12'\nset output '%s'\n",
		bench.options.svg);
	fputs("set style data histogram\nset style histogram errorbars gap 1 lw 1\nset style fill "
	      "solid 0.7\n"
	      "set yrange [0:*]\nset ylabel 'ns'\nset grid y\nset key top left\nset xtics rotate "
	      "by -20\n"
	      "set title 'weir: what a frame costs (median, least and most of all runs)'\n$data << "
	      "EOD\n",
	      to);
	for (unsigned size = 0; size < SIZES; size++) {
		for (unsigned p = 0; p < PATTERNS; p++) {
			fprintf(to, "\"%s order %u\"", pattern_name[p], size_order[size]);
			for (unsigned threads = 0; threads < bench.threads; threads++) {
				struct bench_spread s = spread(bench.ns[p][size][threads]);

				fprintf(to, " %.2f %.2f %.2f", s.median, s.min, s.max);
			}
			fputc('\n', to);
		}
	}
	fputs("EOD\nplot $data using 2:3:4:xtic(1) title '1 thread' noenhanced", to);
	if (bench.threads > 1)
		fputs(", '' using 5:6:7 title '2 threads'", to);
	fputc('\n', to);
}

/* The path goes into a script between quotes. */
static int picture_write(void)
{
	FILE *to;

	if (strchr(bench.options.svg, '\'') || strchr(bench.options.svg, '\n')) {
		log_line("bench pool: no quote in the name of a picture, please: %s",
			 bench.options.svg);
		return EXIT_WEIR;
	}
	to = popen("gnuplot",
		   "w"); // NOLINT(bugprone-command-processor, cert-env33-c): a fixed command
	if (to)
		plot(to);
	if (!to || pclose(to)) {
		log_line("bench pool: gnuplot did not write %s; is it installed (apt-get install "
			 "gnuplot-nox), and may "
			 "you write there?",
			 bench.options.svg);
		return 1;
	}
	return 0;
}

int bench_pool(int argc, char **argv)
{
	int status, err = bench_options_parse("pool", argc, argv, &bench.options, &status);

	if (err)
		return status;
	bench.runs = bench.options.quick ? BENCH_RUNS_QUICK : BENCH_RUNS;
	bench.threads = thread_cpu_count() > 1 ? 2 : 1;
	bench.bytes = bench.options.quick ? GIB(1) : GIB(8);
	bench.block = MIB(128);
	bench_machine_read(&bench.machine);
	for (unsigned run = 0; run < bench.runs && !err; run++) {
		err = patterns_all(run);
		if (!err)
			err = blocks_all(run);
	}
	if (err) {
		log_line("bench pool: %s; nothing is printed", errno_name(err));
		return 1;
	}
	if (bench.options.json)
		print_json();
	else
		print_text();
	status = bench.options.svg ? picture_write() : 0;
	return fflush(stdout) ? 1 : status;
}
