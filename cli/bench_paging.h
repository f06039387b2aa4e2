/* SPDX-License-Identifier: BSD-2-Clause */
/* What weir bench paging has measured, for what prints it. */
#ifndef WEIR_CLI_BENCH_PAGING_H
#define WEIR_CLI_BENCH_PAGING_H

#include "bench.h"
#include "paging_child.h"

/* Of the zram table: text 12, noise 4, zeroes 4; of the file table 6; of the mmap table 4. */
enum { ROWS = 30 };

struct paging_row {
	enum table table;
	enum contents contents;
	enum pattern pattern;
	bool write;
	unsigned threads;
};
extern const struct paging_row paging_rows[ROWS];

/* One run of one design. LIMIT: per_s at the rate of loads that weir had in the same run. */
struct paging_cell {
	bool there;
	double per_s, miss, loads, cpus; /* loads: pages an access, those ahead included */
	double total; /* bytes that the design had in all; the peer's and weir's are compared */
	double charged, kept, overhead, resident, stored_share; /* weir */
};

struct paging {
	struct bench_options options;
	struct bench_machine machine;
	unsigned runs;
	uint32_t pages;
	uint64_t bytes, resident; /* of a region; of the peer's memory */
	struct paging_cell cell[ROWS][DESIGNS][BENCH_RUNS];
	struct hist hist[ROWS][DESIGNS]; /* touches that waited, over all runs */
	const char *why[TABLES];	 /* there is no peer; NULL: there is */
	const char *why_thread;		 /* no thread mode */
	unsigned killed;		 /* peers, by the kernel */
};
extern struct paging paging;

/* "zram_text_skew_rw_2t": table, contents, pattern, threads. In a buffer of its own. */
const char *paging_row_name(unsigned row);
/* Not left out by --only. */
bool paging_named(const char *name);
bool paging_chosen(unsigned row);
/* Why a cell has no figures. */
const char *paging_why(unsigned row, enum design design);
void paging_print_text(void);
void paging_print_json(void);
int paging_print_svg(void);

#endif
