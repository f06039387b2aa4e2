/* SPDX-License-Identifier: BSD-2-Clause */
/* What bench fault measures (bench_fault.c) and prints (bench_fault_print.c). */
#ifndef WEIR_CLI_BENCH_FAULT_H
#define WEIR_CLI_BENCH_FAULT_H

#include "base/base.h"
#include "bench.h"

enum way {
	BARE,
	FIRST_TOUCH,
	ONE_CPU,
	BARE_SIGNAL,
	SIGNAL,
	COMPRESSED_READ,
	SIGNAL_READ,
	CLEAN_WRITE,
	FILE_READ,
	WAYS
};
/* Half of it with --quick. */
enum { TEXT_MIB = 128, FIRST_MIB = 64, FILE_MIB = 64 };

struct bench_fault {
	struct bench_options options;
	struct bench_machine machine;
	unsigned runs;
	struct bench_samples samples;
	struct bench_figures figures[WAYS][BENCH_RUNS];
	const char *skipped[WAYS]; /* why there are no figures */
	double compression;	   /* bytes in to bytes out */
	double resident_share;	   /* of the pages of text, while they were read */
	double limit_mib, file_limit_mib;
	uint64_t bindings;
	uint64_t first_word[MIB(TEXT_MIB) >> PAGE_SHIFT]; /* of each page, as it was written */
	uint32_t order[MIB(TEXT_MIB) >> PAGE_SHIFT];
};
extern struct bench_fault bench;

void bench_fault_print_text(void);
void bench_fault_print_json(void);

#endif
