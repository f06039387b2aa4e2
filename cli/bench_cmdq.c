/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * weir bench cmdq: appends a second through the public functions, with all their checks, beside a loop that stores 8-byte words
 * where nothing is checked; and words disassembled a second.
 *
 * A pass fills a packet of 16384 words (128 KiB: more than a level 1 cache) that has its memory from the pass before. Each is
 * timed by itself, and a run's figure is the median over its passes, so that a pass in which the thread lost its CPU does not count.
 * All take turns in every run, and ratios are of the same run.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "bench.h"
#include "cli.h"
#include "cmdq/cmdq.h"
#include "os/mem.h"

enum { WORDS = 16384, PASSES = 4096 };
/* Of one measurement. */
enum { MEASURE_NS = 100000000, MEASURE_QUICK_NS = 10000000 };

static struct {
	struct bench_options options;
	struct bench_machine machine;
	unsigned runs;
	struct cmdq_pkt *pkt;
	struct cmdq_base base;
	uint64_t *words; /* what the store loop fills */
	uint64_t *mixed; /* a program of all kinds, to be disassembled */
	char *text;
} bench;

enum { TEXT_BYTES = 1 << 16 };

/* --- what is measured: each does one pass, and returns how many --- */

static unsigned pass_store(void)
{
	uint64_t *word = bench.words;

	for (unsigned i = 0; i < WORDS; i++) {
		*word++ = bench.base.write | i;
		/* One store each: not several at a time, as the compiler would have it. */
		__asm__ volatile("" ::: "memory");
	}
	return WORDS;
}

static unsigned pass_write(void)
{
	const struct cmdq_base *base = &bench.base;
	struct cmdq_pkt *pkt = bench.pkt;
	int err = cmdq_pkt_reset(pkt);

	for (unsigned i = 0; i < WORDS; i++)
		err |= cmdq_pkt_write(pkt, i, base, i * 4 & 0xfff);
	return err ? 0 : WORDS;
}

static unsigned pass_write_mask(void)
{
	const struct cmdq_base *base = &bench.base;
	struct cmdq_pkt *pkt = bench.pkt;
	int err = cmdq_pkt_reset(pkt);

	for (unsigned i = 0; i < WORDS / 2; i++)
		err |= cmdq_pkt_write_mask(pkt, i, base, i * 4 & 0xfff, 0xff);
	return err ? 0 : WORDS / 2;
}

static unsigned pass_wfe(void)
{
	struct cmdq_pkt *pkt = bench.pkt;
	int err = cmdq_pkt_reset(pkt);

	for (unsigned i = 0; i < WORDS; i++)
		err |= cmdq_pkt_wfe(pkt, i & 1023);
	return err ? 0 : WORDS;
}

static unsigned pass_dis(void)
{
	size_t used = 0;

	for (unsigned i = 0; i < WORDS; i++) {
		if (used > TEXT_BYTES - CMDQ_LINE_MAX - 1)
			used = 0;
		used += text_word(bench.base.profile, bench.mixed[i], bench.text + used);
		bench.text[used++] = '\n';
	}
	return WORDS;
}

/* least: the aim, as a share of the store loop of the same run; or so many million a second. 0: none. */
static const struct measurement {
	const char *name, *design, *what;
	unsigned (*pass)(void);
	double least_share, least_million;
} measurements[] = {
	{"store", "loop", "8-byte words, stored by a loop", pass_store, 0, 0},
	{"write", "weir", "writes", pass_write, 0.5, 600},
	{"write_mask", "weir", "masked writes (two words each)", pass_write_mask, 0.25, 320},
	{"wfe", "weir", "waits", pass_wfe, 0.5, 600},
	{"dis", "weir", "words disassembled", pass_dis, 0, 50},
};
enum { MEASUREMENTS = ARRAY_SIZE(measurements) };

static double per_s[MEASUREMENTS][BENCH_RUNS];

/* --- measuring --- */

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double measure(const struct measurement *measurement)
{
	static double rates[PASSES];
	const uint64_t end = now_ns() + (bench.options.quick ? MEASURE_QUICK_NS : MEASURE_NS);
	unsigned count = 0;

	do {
		const uint64_t began = now_ns();
		const unsigned done = measurement->pass();
		const uint64_t took = now_ns() - began;

		if (!done)
			panic("bench cmdq: %s: %s", measurement->name, cmdq_error());
		rates[count++] = done * 1e9 / (double)MAX(took, (uint64_t)1);
	} while (count < PASSES && now_ns() < end);
	qsort(rates, count, sizeof(rates[0]), compare_double);
	return rates[count / 2];
}

/* What a display driver's packets are made of, and what newer engines add. */
static void mixed_fill(void)
{
	const struct cmdq_operand counter = {true, CMDQ_REG_SPR(1)}, one = {false, 1};
	const uint64_t *words;
	size_t count;
	int err = cmdq_pkt_reset(bench.pkt);

	for (unsigned i = 0; !err && i < WORDS; i += 8) {
		err |= cmdq_pkt_wfe(bench.pkt, i % 512);
		err |= cmdq_pkt_write(bench.pkt, i * 0x9e3779b9u, &bench.base, i % 0xffc);
		err |= cmdq_pkt_write_mask(bench.pkt, i, &bench.base, i % 0xffc, 0xffu << i % 24);
		err |= cmdq_pkt_assign(bench.pkt, CMDQ_REG_SPR(0), i << 12);
		err |= cmdq_pkt_write_s(bench.pkt, CMDQ_REG_SPR(0), 0x1234, CMDQ_REG_SPR(1));
		err |= cmdq_pkt_logic(bench.pkt, CMDQ_LOGIC_ADD, CMDQ_REG_SPR(1), counter, one);
		err |= cmdq_pkt_jump_c_rel(bench.pkt, CMDQ_LESS_THAN,
					   (struct cmdq_operand){false, 0xfffe}, counter,
					   (struct cmdq_operand){false, (uint16_t)i});
	}
	words = cmdq_pkt_words(bench.pkt, &count);
	if (err || count != WORDS)
		panic("bench cmdq: %zu words: %s", count, cmdq_error());
	memcpy(bench.mixed, words, WORDS * sizeof(*words));
}

static int setup(void)
{
	const struct cmdq_profile *profile = cmdq_profile_find("mt8192");
	int err = cmdq_register_device(profile, 0x14000000, &bench.base);

	if (!err)
		err = cmdq_pkt_create_for(profile, NULL, &bench.pkt);
	bench.words = mem_alloc(WORDS * sizeof(uint64_t));
	bench.mixed = mem_alloc(WORDS * sizeof(uint64_t));
	bench.text = mem_alloc(TEXT_BYTES);
	if (err || !bench.words || !bench.mixed || !bench.text)
		return -ENOMEM;
	mixed_fill();
	return 0;
}

static void run_all(void)
{
	for (unsigned run = 0; run < bench.runs; run++) {
		for (unsigned m = 0; m < MEASUREMENTS; m++)
			per_s[m][run] = measure(&measurements[m]);
	}
	cmdq_pkt_destroy(bench.pkt);
}

/* --- printing --- */

/* Over the store loop, which is the first measurement. */
static double share(unsigned m)
{
	double values[BENCH_RUNS];

	for (unsigned run = 0; run < bench.runs; run++)
		values[run] = per_s[m][run] / per_s[0][run];
	return bench_spread_of(values, bench.runs).median;
}

static void print_text(void)
{
	const struct bench_machine *m = &bench.machine;

	printf("Command packets, million a second; medians of %u runs\n", bench.runs);
	printf("%u CPUs, Linux %s, %llu MiB of memory; load %.1f before\n\n", m->cpus, m->kernel,
	       m->mem_mib, m->load);
	for (unsigned i = 0; i < MEASUREMENTS; i++) {
		const struct bench_spread s = bench_spread_of(per_s[i], bench.runs);

		printf("%-34s %8.0f %8.0f..%-8.0f", measurements[i].what, s.median / 1e6,
		       s.min / 1e6, s.max / 1e6);
		if (measurements[i].least_share > 0)
			printf(" %5.2f of the loop", share(i));
		printf("\n");
	}
	printf("\n");
	for (unsigned i = 0; i < MEASUREMENTS; i++) {
		const struct measurement *a = &measurements[i];
		const double million = bench_spread_of(per_s[i], bench.runs).median / 1e6;

		if (!(a->least_million > 0) || million >= a->least_million ||
		    (a->least_share > 0 && share(i) >= a->least_share))
			continue;
		if (a->least_share > 0)
			printf("Missed: %s is %.0f million a second, %.2f of the loop; the aim is "
			       "%.2f, or %.0f million.\n",
			       a->name, million, share(i), a->least_share, a->least_million);
		else
			printf("Missed: %s is %.0f million a second; the aim is %.0f.\n", a->name,
			       million, a->least_million);
	}
}

static void print_json(void)
{
	const struct bench_machine *m = &bench.machine;
	unsigned ratios = 0;

	printf("{\"bench\": \"cmdq\", \"machine\": {\"cpus\": %u, \"kernel\": \"%s\", "
	       "\"mem_mib\": %llu, \"load\": %.2f}, \"runs\": %u, \"quick\": %s, \"results\": [",
	       m->cpus, m->kernel, m->mem_mib, m->load, bench.runs,
	       bench.options.quick ? "true" : "false");
	for (unsigned i = 0; i < MEASUREMENTS; i++) {
		const struct bench_spread s = bench_spread_of(per_s[i], bench.runs);

		printf("%s{\"name\": \"%s\", \"design\": \"%s\", \"threads\": 1, \"unit\": "
		       "\"per_s\", \"median\": %.0f, \"min\": %.0f, \"max\": %.0f}",
		       i ? ", " : "", measurements[i].name, measurements[i].design, s.median, s.min,
		       s.max);
	}
	printf("], \"ratios\": {");
	for (unsigned i = 0; i < MEASUREMENTS; i++) {
		if (measurements[i].least_share > 0)
			printf("%s\"%s_vs_store\": %.3f", ratios++ ? ", " : "",
			       measurements[i].name, share(i));
	}
	printf("}, \"skipped\": {}}\n");
}

int bench_cmdq(int argc, char **argv)
{
	int status;
	int err = bench_options_parse("cmdq", argc, argv, &bench.options, &status);

	if (err)
		return status;
	if (bench.options.svg) {
		log_line("bench cmdq: draws no picture; leave --svg out");
		return EXIT_WEIR;
	}
	bench.runs = bench.options.quick ? BENCH_RUNS_QUICK : BENCH_RUNS;
	bench_machine_read(&bench.machine);
	err = setup();
	if (err) {
		log_line("bench cmdq: %s; nothing is printed", errno_name(err));
		return 1;
	}
	run_all();
	if (bench.options.json)
		print_json();
	else
		print_text();
	return fflush(stdout) ? 1 : 0;
}
