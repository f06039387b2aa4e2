/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * weir bench cmdq: appends a second through the public functions, with all their checks, beside a loop that stores 8-byte words
 * where nothing is checked; words disassembled a second; commands simulated a second, by an engine that a packet is flushed to;
 * and what the mover's packets cost of a pageout.
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
#include "bench_mover.h"
#include "cli.h"
#include "cmdq/cmdq.h"
#include "os/mem.h"
#include "weir/cmdq_engine.h"

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
	struct cmdq_engine *engine;
	struct cmdq_client *client;
	struct cmdq_pkt *loop; /* a program that runs for long */
	uint32_t registers[1024];
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

static unsigned pass_run(void)
{
	const uint64_t began = cmdq_engine_ticks(bench.engine);

	if (cmdq_pkt_flush(bench.client, bench.loop))
		return 0;
	return (unsigned)(cmdq_engine_ticks(bench.engine) - began);
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
	{"run", "weir", "commands simulated", pass_run, 0, 100},
};
enum { MEASUREMENTS = ARRAY_SIZE(measurements) };

static double per_s[MEASUREMENTS][BENCH_RUNS];

/* The mover's packets may take so much of a pageout. */
#define MOVER_LIMIT 0.02
static struct bench_mover mover[BENCH_RUNS];
static int mover_error;

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

static int registers_read(void *data, uint64_t address, uint32_t *value)
{
	(void)data;
	*value = bench.registers[address / 4 % ARRAY_SIZE(bench.registers)];
	return 0;
}

static int registers_write(void *data, uint64_t address, uint32_t value)
{
	(void)data;
	bench.registers[address / 4 % ARRAY_SIZE(bench.registers)] = value;
	return 0;
}

/* Half of it writes, the rest what programs have around them: masks, events, arithmetic, a jump back. */
static int loop_make(void)
{
	const struct cmdq_operand counter = {true, CMDQ_REG_SPR(0)}, one = {false, 1};
	const struct cmdq_engine_options options = {.size = sizeof(options),
						    .profile = bench.base.profile,
						    .bus = {registers_read, registers_write, NULL}};
	int err = cmdq_engine_create(&options, &bench.engine);

	if (!err)
		err = cmdq_mbox_create(bench.engine, 0, NULL, &bench.client);
	if (!err)
		err = cmdq_pkt_create(bench.client, &bench.loop);
	if (err)
		return err;
	err |= cmdq_pkt_assign(bench.loop, CMDQ_REG_SPR(0), 0);
	for (unsigned i = 0; i < 5; i++)
		err |= cmdq_pkt_write(bench.loop, i, &bench.base, 4 * i);
	err |= cmdq_pkt_write_mask(bench.loop, 5, &bench.base, 0x40, 0xff);
	err |= cmdq_pkt_set_event(bench.loop, 5);
	err |= cmdq_pkt_wfe(bench.loop, 5);
	err |= cmdq_pkt_logic(bench.loop, CMDQ_LOGIC_ADD, CMDQ_REG_SPR(0), counter, one);
	err |= cmdq_pkt_jump_c_rel(bench.loop, CMDQ_LESS_THAN,
				   (struct cmdq_operand){false, (uint16_t)-10}, counter,
				   (struct cmdq_operand){false, 5000});
	return err;
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
	return loop_make();
}

static void run_all(void)
{
	for (unsigned run = 0; run < bench.runs; run++) {
		for (unsigned m = 0; m < MEASUREMENTS; m++)
			per_s[m][run] = measure(&measurements[m]);
		if (!mover_error)
			mover_error = bench_mover_run(&mover[run], bench.options.quick);
	}
	cmdq_pkt_destroy(bench.pkt);
	cmdq_pkt_destroy(bench.loop);
	cmdq_engine_destroy(bench.engine);
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

/* What packets take of a pageout; each run against itself. */
static double mover_share(void)
{
	double values[BENCH_RUNS];

	for (unsigned run = 0; run < bench.runs; run++)
		values[run] = mover[run].packet_ns / mover[run].pageout_ns;
	return bench_spread_of(values, bench.runs).median;
}

static void print_mover(void)
{
	double pageout[BENCH_RUNS], packet[BENCH_RUNS];

	if (mover_error) {
		printf("The mover is not measured: %s; signal mode is not to be had here\n",
		       errno_name(mover_error));
		return;
	}
	for (unsigned run = 0; run < bench.runs; run++) {
		pageout[run] = mover[run].pageout_ns;
		packet[run] = mover[run].packet_ns;
	}
	printf("A page moved out by packets of %.1f: %.0f ns, of which its packet %.1f ns (%.2f "
	       "%%)\n",
	       mover[0].pages, bench_spread_of(pageout, bench.runs).median,
	       bench_spread_of(packet, bench.runs).median, mover_share() * 100);
	if (mover_share() > MOVER_LIMIT)
		printf("Missed: packets take %.1f %% of a pageout; the aim is less than %.0f %%.\n",
		       mover_share() * 100, MOVER_LIMIT * 100);
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
	print_mover();
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
	if (mover_error)
		printf(", \"mover_of_limit\": null}, \"skipped\": {\"mover_of_limit\": \"%s\"}}\n",
		       errno_name(mover_error));
	else
		printf(", \"mover_of_limit\": %.3f, \"mover_packet_ns\": %.1f, "
		       "\"mover_pageout_ns\": %.0f}, \"skipped\": {}}\n",
		       mover_share() / MOVER_LIMIT, mover[0].packet_ns, mover[0].pageout_ns);
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
