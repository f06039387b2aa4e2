/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What benches share: their options, durations of one run and their quantiles, the spread over runs, the machine.
 * A bench measures in several runs, all designs in each, so that ratios compare what ran side by side.
 */
#ifndef WEIR_CLI_BENCH_H
#define WEIR_CLI_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_RUNS = 5, BENCH_RUNS_QUICK = 2, EXIT_SKIPPED = 77 };

struct bench_options {
	bool json, quick;
	const char *svg; /* file for a picture; NULL: none */
	/* paging only: rows whose names match, as a shell would; NULL: all. And no peers: for two builds of weir side by side. */
	const char *only;
	bool no_peers;
	unsigned runs; /* 0: as many as usual */
};

/* The options of a bench. 0; else *status is what to exit with (0 after --help). */
int bench_options_parse(const char *name, int argc, char **argv, struct bench_options *options,
			int *status);

/* Durations in the order in which they were added. The memory is there before the first one is added. */
struct bench_samples {
	uint32_t *ns;
	unsigned count, room;
};
int bench_samples_init(struct bench_samples *samples, unsigned room);
void bench_samples_destroy(struct bench_samples *samples);
/* Beyond the room: ignored. */
void bench_samples_add(struct bench_samples *samples, uint64_t ns);

/* Of one run. Nanoseconds, but for per_s: count over the sum. */
struct bench_figures {
	double p50, p90, p99, max, per_s;
	unsigned count;
};
/* Sorts the samples. All 0 where there are none. */
struct bench_figures bench_samples_figures(struct bench_samples *samples);

/* Over runs. */
struct bench_spread {
	double median, min, max;
};
struct bench_spread bench_spread_of(const double *values, unsigned runs);

struct bench_machine {
	unsigned cpus;
	unsigned long long mem_mib;
	char kernel[65];
	double load; /* runnable threads over the last minute, before the bench */
};
void bench_machine_read(struct bench_machine *machine);
/* The head of a bench's JSON, up to where its own members begin: ends with ", ". */
void bench_json_head(const char *name, const struct bench_machine *machine, unsigned runs,
		     bool quick);

#endif
