/* SPDX-License-Identifier: BSD-2-Clause */
/* What weir bench paging prints: for people, as JSON, as a picture. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "bench_paging.h"
#include "paging_growth.h"
#include "svg.h"

static const char *const table_name[TABLES] = {"zram", "file", "mmap"};
static const char *const peer_name[TABLES] = {"zram", "swapfile", "mmap"};
static const char *const contents_name[CONTENTS] = {"text", "random", "zero"};
static const char *const pattern_name[PATTERNS] = {"random", "skew", "seq"};

/* For text in the zram table, and for the mmap table. 0: none. */
static const struct aim {
	enum table table;
	enum pattern pattern;
	bool write;
	double ratio[LOAD_THREADS], of_limit;
} aims[] = {
	{TABLE_ZRAM, PATTERN_RANDOM, false, {2.5, 2.8}, .85},
	{TABLE_ZRAM, PATTERN_RANDOM, true, {2.1, 2.1}, .75},
	{TABLE_ZRAM, PATTERN_SKEW, false, {2.5, 4}, 0},
	{TABLE_ZRAM, PATTERN_SKEW, true, {2.3, 2.4}, 0},
	{TABLE_ZRAM, PATTERN_SEQ, false, {4.5, 5}, 0},
	{TABLE_MMAP, PATTERN_RANDOM, false, {3, 3}, 0},
	{TABLE_MMAP, PATTERN_SEQ, false, {3, 3}, 0},
};
#define MISS_AIM .26 /* of the skewed reads */

/* Waits in signal mode, us; of random text. */
static const struct {
	bool write;
	unsigned threads;
	double p50, p99, p999; /* 0: none */
} wait_aims[] = {{false, 1, 6, 50, 0}, {true, 2, 25, 150, 500}};

/* --- figures --- */

const char *paging_why(unsigned row, enum design design)
{
	const struct paging_row *r = &paging_rows[row];
	bool any = false;

	for (unsigned run = 0; run < paging.runs; run++)
		any |= paging.cell[row][design][run].there;
	if (any)
		return NULL;
	if (!paging_chosen(row))
		return "left out by --only";
	if (design == PEER && paging.why[r->table])
		return paging.why[r->table];
	if (design == PEER)
		return "the kernel killed the peer for lack of memory";
	if (design == SIGNAL && r->table == TABLE_MMAP)
		return "regions over files have thread mode only";
	if (design == THREAD && paging.why_thread)
		return paging.why_thread;
	return design == LIMIT && r->table == TABLE_FILE ? "not measured for this table"
							 : "weir had to load no page";
}

enum what { PER_S, MISS, CPUS, TOTAL, CHARGED, KEPT, OVERHEAD, STORED };

static double value_of(const struct paging_cell *c, enum what what)
{
	switch (what) {
	case MISS:
		return c->miss;
	case CPUS:
		return c->cpus;
	case TOTAL:
		return c->total;
	case CHARGED:
		return c->charged;
	case KEPT:
		return c->kept;
	case OVERHEAD:
		return c->overhead;
	case STORED:
		return c->stored_share;
	default:
		return c->per_s;
	}
}

static struct bench_spread spread(unsigned row, enum design design, enum what what)
{
	double values[BENCH_RUNS];
	unsigned n = 0;

	for (unsigned run = 0; run < paging.runs; run++) {
		if (paging.cell[row][design][run].there)
			values[n++] = value_of(&paging.cell[row][design][run], what);
	}
	return n ? bench_spread_of(values, n) : (struct bench_spread){0};
}

static double median(unsigned row, enum design design, enum what what)
{
	return spread(row, design, what).median;
}

/* Of throughputs, run by run. False: in no run both were there. */
static bool ratio_of(unsigned row, enum design design, enum design to, double *ratio)
{
	double values[BENCH_RUNS];
	unsigned n = 0;

	for (unsigned run = 0; run < paging.runs; run++) {
		const struct paging_cell *a = &paging.cell[row][design][run];
		const struct paging_cell *b = &paging.cell[row][to][run];

		if (a->there && b->there && b->per_s > 0)
			values[n++] = a->per_s / b->per_s;
	}
	*ratio = n ? bench_spread_of(values, n).median : 0;
	return n;
}

/* The mode whose figures stand for weir. */
static enum design main_mode(unsigned row)
{
	return paging_rows[row].table == TABLE_MMAP ? THREAD : SIGNAL;
}

/* "random_read", "skew_rw" */
static const char *row_name(unsigned row)
{
	static char name[32];
	const struct paging_row *r = &paging_rows[row];

	snprintf(name, sizeof(name), "%s_%s", pattern_name[r->pattern], r->write ? "rw" : "read");
	return name;
}

const char *paging_row_name(unsigned row)
{
	static char name[64];
	const struct paging_row *r = &paging_rows[row];

	snprintf(name, sizeof(name), "%s_%s_%s_%ut", table_name[r->table],
		 contents_name[r->contents], row_name(row), r->threads);
	return name;
}

static double wait_us(unsigned row, enum design design, unsigned thousandths)
{
	return (double)hist_quantile(&paging.hist[row][design], thousandths) / 1e3;
}

static int row_find(bool write, unsigned threads)
{
	for (unsigned row = 0; row < ROWS; row++) {
		const struct paging_row *r = &paging_rows[row];

		if (r->table == TABLE_ZRAM && r->contents == TEXT && r->pattern == PATTERN_RANDOM &&
		    r->write == write && r->threads == threads)
			return (int)row;
	}
	return -1;
}

/* --- for people --- */

static void print_design(unsigned row, enum design design)
{
	const struct paging_row *r = &paging_rows[row];
	const char *const names[DESIGNS] = {peer_name[r->table], "weir, signal", "weir, thread",
					    "limit"};
	struct bench_spread per_s = spread(row, design, PER_S);
	double ratio;

	printf("  %-13s", names[design]);
	if (paging_why(row, design)) {
		printf(" not measured: %s\n", paging_why(row, design));
		return;
	}
	printf(" %8.1f (%7.1f..%7.1f)", per_s.median / 1e3, per_s.min / 1e3, per_s.max / 1e3);
	if (design == LIMIT) {
		putchar('\n');
		return;
	}
	if (design != PEER && ratio_of(row, design, PEER, &ratio))
		printf(" %5.2f", ratio);
	else
		printf(" %5s", "");
	if (design != PEER && ratio_of(row, design, LIMIT, &ratio))
		printf("  %3.0f %%", ratio * 100);
	else
		printf("  %5s", "");
	printf("  %.3f %4.2f %6.0f", median(row, design, MISS), median(row, design, CPUS),
	       median(row, design, TOTAL) / (double)MIB(1));
	if (design == PEER)
		printf(" %5s", "");
	else
		printf(" %5.1f", median(row, design, KEPT) / (double)MIB(1));
	printf(" %8.1f %8.1f %8.1f", wait_us(row, design, 500), wait_us(row, design, 990),
	       wait_us(row, design, 999));
	if (median(row, design, STORED) > 0 && r->table == TABLE_ZRAM)
		printf("  from weir's file: %.4f", median(row, design, STORED));
	putchar('\n');
}

static void print_hist(unsigned row, enum design design, const char *what)
{
	const struct hist *hist = &paging.hist[row][design];
	const uint64_t all = hist_count(hist);

	printf("\nTouches that waited, %s, by powers of two\n", what);
	for (unsigned b = 0; b < HIST_BUCKETS >> HIST_SUB_BITS; b++) {
		uint64_t n = 0;

		for (unsigned k = 0; k < 1u << HIST_SUB_BITS; k++)
			n += load_relaxed(&hist->bucket[(b << HIST_SUB_BITS) + k]);
		if (!n || !all)
			continue;
		/* The first eight values have buckets of their own; from there on a power of two has eight. */
		printf("  from %10.1f us %10llu  %6.3f %%\n",
		       b ? (double)(8ull << (b - 1)) / 1e3 : 0, (unsigned long long)n,
		       100.0 * (double)n / (double)all);
	}
}

static void missed(const char *name, unsigned threads, const char *what, double is, double aim)
{
	printf("missed: %s, %u thread%s: %s %.2f, aim %.2f\n", name, threads,
	       threads > 1 ? "s" : "", what, is, aim);
}

static void print_missed_row(unsigned row)
{
	const struct paging_row *r = &paging_rows[row];
	const enum design mode = main_mode(row);
	double is;

	for (unsigned i = 0; i < ARRAY_SIZE(aims); i++) {
		const struct aim *a = &aims[i];

		if (a->table != r->table || r->contents != TEXT || a->pattern != r->pattern ||
		    a->write != r->write)
			continue;
		if (ratio_of(row, mode, PEER, &is) && is < a->ratio[r->threads - 1])
			missed(row_name(row), r->threads, peer_name[r->table], is,
			       a->ratio[r->threads - 1]);
		if (a->of_limit > 0 && ratio_of(row, mode, LIMIT, &is) && is < a->of_limit)
			missed(row_name(row), r->threads, "of the limit", is, a->of_limit);
		if (r->table == TABLE_ZRAM && r->pattern == PATTERN_SKEW && !r->write &&
		    !paging_why(row, mode) && median(row, mode, MISS) > MISS_AIM)
			missed(row_name(row), r->threads, "misses", median(row, mode, MISS),
			       MISS_AIM);
	}
}

static void print_missed(void)
{
	for (unsigned row = 0; row < ROWS; row++)
		print_missed_row(row);
	for (unsigned i = 0; i < ARRAY_SIZE(wait_aims); i++) {
		const int row = row_find(wait_aims[i].write, wait_aims[i].threads);
		const double aim[] = {wait_aims[i].p50, wait_aims[i].p99, wait_aims[i].p999};
		const unsigned at[] = {500, 990, 999};
		const char *const name[] = {"p50 us", "p99 us", "p99.9 us"};

		for (unsigned k = 0; k < ARRAY_SIZE(at) && row >= 0; k++) {
			double is = wait_us((unsigned)row, SIGNAL, at[k]);

			if (aim[k] > 0 && is > aim[k])
				missed(row_name((unsigned)row), wait_aims[i].threads, name[k], is,
				       aim[k]);
		}
	}
}

static void print_title(const struct paging_row *r)
{
	static const char *const titles[TABLES] = {
		"compressed memory, beside swap on zram (lz4)",
		"all in a file, beside swap on a file of the same disk",
		"a file that is read, beside mmap",
	};

	printf("\n== %s; %s\n", titles[r->table], contents_name[r->contents]);
	printf("  %-13s %8s %18s %5s %6s %6s %4s %6s %5s %8s %8s %8s\n", "", "1000/s", "(min..max)",
	       "ratio", "limit", "misses", "CPUs", "MiB", "kept", "p50 us", "p99", "p99.9");
}

void paging_print_text(void)
{
	const struct bench_machine *m = &paging.machine;
	const int one = row_find(false, 1), two = row_find(true, 2);

	printf("weir bench paging: %u CPUs, Linux %s, %llu MiB, load %.2f; %u runs%s\n", m->cpus,
	       m->kernel, m->mem_mib, m->load, paging.runs,
	       paging.options.quick ? ", too short for figures" : "");
	printf("%llu MiB, the peer with %llu MiB resident. MiB: all that the design may use; kept: "
	       "of "
	       "it, copies of resident\npages. limit: share of what bare system calls and the "
	       "codec do "
	       "in the same run. CPUs above 1 with one thread:\nweir's own work on the other. "
	       "Waits: "
	       "touches of a microsecond and more.\n",
	       (unsigned long long)(paging.bytes >> 20),
	       (unsigned long long)(paging.resident >> 20));
	for (unsigned row = 0, last = ROWS; row < ROWS; row++) {
		const struct paging_row *r = &paging_rows[row];

		if (!paging_chosen(row))
			continue;
		if (last == ROWS || paging_rows[last].table != r->table ||
		    paging_rows[last].contents != r->contents)
			print_title(r);
		last = row;
		printf("%s, %u thread%s\n", row_name(row), r->threads, r->threads > 1 ? "s" : "");
		for (enum design design = 0; design < DESIGNS; design++) {
			if ((design == LIMIT && r->table == TABLE_FILE) ||
			    (design == SIGNAL && r->table == TABLE_MMAP))
				continue;
			print_design(row, design);
		}
	}
	if (one >= 0 && paging_chosen((unsigned)one))
		print_hist((unsigned)one, SIGNAL, "random reads of text, 1 thread, signal mode");
	if (two >= 0 && paging_chosen((unsigned)two))
		print_hist((unsigned)two, SIGNAL, "random read-write, 2 threads, signal mode");
	if (growth_chosen())
		growth_print_text();
	print_missed();
	if (paging.killed)
		printf("the kernel killed the peer %u times for lack of memory; those turns do not "
		       "count\n",
		       paging.killed);
}

/* --- JSON --- */

static void json_number(const char *key, double value, bool there)
{
	if (there)
		printf(", \"%s\": %.3f", key, value);
	else
		printf(", \"%s\": null", key);
}

static void json_ratio(const char *key, unsigned row, enum design design, enum design to)
{
	double ratio;
	const bool there = ratio_of(row, design, to, &ratio);

	json_number(key, ratio, there);
}

static void json_cell(unsigned row, enum design design, const char *comma)
{
	const struct paging_row *r = &paging_rows[row];
	const char *const names[DESIGNS] = {peer_name[r->table], "weir", "weir", "limit"};
	const bool there = !paging_why(row, design), weir = design == SIGNAL || design == THREAD;
	struct bench_spread per_s = spread(row, design, PER_S);

	printf("%s{\"name\": \"%s\", \"design\": \"%s\", \"table\": \"%s\", \"contents\": \"%s\", "
	       "\"threads\": %u, \"mode\": %s, \"unit\": \"per_s\"",
	       comma, row_name(row), names[design], table_name[r->table],
	       contents_name[r->contents], r->threads,
	       design == SIGNAL	  ? "\"signal\""
	       : design == THREAD ? "\"thread\""
				  : "null");
	json_number("median", per_s.median, there);
	json_number("min", per_s.min, there);
	json_number("max", per_s.max, there);
	json_number("misses", median(row, design, MISS), there);
	if (design != LIMIT) {
		json_number("cpus", median(row, design, CPUS), there);
		json_number("total_bytes", median(row, design, TOTAL), there);
		json_number("wait_us_p50", wait_us(row, design, 500), there);
		json_number("wait_us_p99", wait_us(row, design, 990), there);
		json_number("wait_us_p999", wait_us(row, design, 999), there);
	}
	if (weir) {
		json_number("charged_bytes", median(row, design, CHARGED), there);
		json_number("kept_bytes", median(row, design, KEPT), there);
		json_number("overhead_bytes", median(row, design, OVERHEAD), there);
		json_number("from_file", median(row, design, STORED), there);
		json_ratio("ratio", row, design, PEER);
		json_ratio("of_limit", row, design, LIMIT);
	}
	putchar('}');
}

/* Rows that have a ratio by name: "zram_random_read_1t". NULL: the others. */
static const char *ratio_key(unsigned row)
{
	static char key[64];
	const struct paging_row *r = &paging_rows[row];

	if (r->contents != TEXT)
		return NULL;
	snprintf(key, sizeof(key), "%s_%s_%ut", table_name[r->table], row_name(row), r->threads);
	return key;
}

static void json_ratios(void)
{
	const int one = row_find(false, 1);
	const bool there = one >= 0 && !paging_why((unsigned)one, SIGNAL);

	printf("\"ratios\": {");
	growth_json_ratios();
	if (there)
		printf("\"fault_p50_us\": %.3f, \"fault_p99_us\": %.3f",
		       wait_us((unsigned)one, SIGNAL, 500), wait_us((unsigned)one, SIGNAL, 990));
	else
		printf("\"fault_p50_us\": null, \"fault_p99_us\": null");
	for (unsigned row = 0; row < ROWS; row++) {
		const char *key = ratio_key(row);
		char longer[80];

		if (!key)
			continue;
		json_ratio(key, row, main_mode(row), PEER);
		snprintf(longer, sizeof(longer), "of_limit_%s", key);
		json_ratio(longer, row, main_mode(row), LIMIT);
		if (main_mode(row) == THREAD)
			continue;
		snprintf(longer, sizeof(longer), "thread_%s", key);
		json_ratio(longer, row, THREAD, PEER);
	}
	printf("}, ");
}

static void json_skipped_one(const char *before, unsigned row, enum design weir, enum design to,
			     bool *first)
{
	const char *why = paging_why(row, weir) ? paging_why(row, weir) : paging_why(row, to);
	double ratio;

	if (ratio_of(row, weir, to, &ratio))
		return;
	if (!why)
		why = "no access ended in time";
	printf("%s\"%s%s\": \"%s\"", *first ? "" : ", ", before, ratio_key(row), why);
	*first = false;
}

static void json_skipped(void)
{
	const int one = row_find(false, 1);
	const char *why = one < 0 ? "no such row" : paging_why((unsigned)one, SIGNAL);
	bool first = !why;

	printf("\"skipped\": {");
	if (why)
		printf("\"fault_p50_us\": \"%s\", \"fault_p99_us\": \"%s\"", why, why);
	growth_json_skipped(&first);
	for (unsigned row = 0; row < ROWS; row++) {
		if (!ratio_key(row))
			continue;
		json_skipped_one("", row, main_mode(row), PEER, &first);
		json_skipped_one("of_limit_", row, main_mode(row), LIMIT, &first);
		if (main_mode(row) != THREAD)
			json_skipped_one("thread_", row, THREAD, PEER, &first);
	}
	printf("}");
}

void paging_print_json(void)
{
	const struct bench_machine *m = &paging.machine;
	const char *comma = "";

	printf("{\"bench\": \"paging\", \"machine\": {\"cpus\": %u, \"kernel\": \"%s\", "
	       "\"mem_mib\": "
	       "%llu, \"load\": %.2f}, \"runs\": %u, \"quick\": %s, \"bytes\": %llu, "
	       "\"resident_bytes\": %llu, \"peers_killed\": %u, \"results\": [",
	       m->cpus, m->kernel, m->mem_mib, m->load, paging.runs,
	       paging.options.quick ? "true" : "false", (unsigned long long)paging.bytes,
	       (unsigned long long)paging.resident, paging.killed);
	growth_json_results();
	for (unsigned row = 0; row < ROWS; row++) {
		for (enum design design = 0; design < DESIGNS; design++) {
			if ((design == LIMIT && paging_rows[row].table == TABLE_FILE) ||
			    (design == SIGNAL && paging_rows[row].table == TABLE_MMAP))
				continue;
			json_cell(row, design, comma);
			comma = ", ";
		}
	}
	printf("], ");
	json_ratios();
	json_skipped();
	printf("}\n");
}

/* --- the picture: text in compressed memory, two threads --- */

int paging_print_svg(void)
{
	enum { POINTS = 6 };
	static double y[DESIGNS][POINTS];
	static char names[POINTS][48];
	static const char *x[POINTS];
	static const char *const lines[DESIGNS] = {"zram", "weir, signal mode", "weir, thread mode",
						   "limit"};
	struct svg_line line[DESIGNS];
	struct svg_chart chart = {
		.title = "The same accesses in the same memory: text, 2 threads",
		.x_title = "pattern",
		.y_title = "1000 accesses/s",
		.x = x,
		.points = POINTS,
		.lines = line,
		.count = DESIGNS,
	};

	for (unsigned point = 0; point < POINTS; point++) {
		/* The table begins with text, each pattern with one thread and with two. */
		const unsigned row = 2 * point + 1;
		const struct paging_row *r = &paging_rows[row];

		snprintf(names[point], sizeof(names[point]), "%s%s", pattern_name[r->pattern],
			 r->write ? " rw" : "");
		x[point] = names[point];
		for (enum design design = 0; design < DESIGNS; design++)
			y[design][point] =
				paging_why(row, design) ? -1 : median(row, design, PER_S) / 1e3;
	}
	for (enum design design = 0; design < DESIGNS; design++)
		line[design] = (struct svg_line){lines[design], y[design]};
	return svg_write(paging.options.svg, &chart);
}
