/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The accesses that weir bench paging makes, the same for every design: patterns over a range of memory whose pages say
 * which they are, each touch timed and its contents checked.
 */
#ifndef WEIR_CLI_PAGING_LOAD_H
#define WEIR_CLI_PAGING_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hist.h"

enum contents { TEXT, RANDOM, ZERO, CONTENTS };
enum pattern { PATTERN_RANDOM, PATTERN_SKEW, PATTERN_SEQ, PATTERNS };
/* Touches that take longer have waited: none that finds its page takes a microsecond. */
enum { LOAD_THREADS = 2, LOAD_WAIT_NS = 1000 };

struct load {
	char *region;
	uint32_t pages; /* a power of two */
	enum contents contents;
	enum pattern pattern;
	bool write; /* a read, and then an addition to one word of the page */
	unsigned threads;
	uint64_t warm_ns, window_ns;
	/* Each thread of the load, before the first touch and after the last one; may be NULL. */
	void (*thread_begin)(void), (*thread_end)(void);
	/* When the window opens and when it closes; may be NULL. */
	void (*mark)(void *data, bool open);
	void *data;
};

struct load_result {
	double per_s; /* accesses, of all threads */
	double cpus;  /* CPU time of the process over the window's */
	uint64_t accesses;
	uint64_t major;	 /* faults that the kernel counts as major, in the window */
	uint64_t writes; /* in all, warm-up included */
	bool wrong;	 /* a page had other contents than it should */
};

/* Once, before the others and before children: what pages are made of. 0 or -ENOMEM. */
int load_contents_make(void);
/* The page as it is in the beginning. */
void load_page_make(enum contents contents, uint32_t page, void *at);
void load_fill(char *region, uint32_t pages, enum contents contents);
/* 0 or -errno of starting a thread. hist: touches that waited, within the window. */
int load_run(const struct load *load, struct load_result *result, struct hist *hist);
/* Reads all; the sum of what writes have added, or UINT64_MAX where a page is wrong. */
uint64_t load_verify(const char *region, uint32_t pages, enum contents contents);

#endif
