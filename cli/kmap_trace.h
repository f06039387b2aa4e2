/* SPDX-License-Identifier: BSD-2-Clause */
/* The engine's own kmaps, recorded: two threads use a region that does not fit its limit, and all compressed pages are high. */
#ifndef WEIR_CLI_KMAP_TRACE_H
#define WEIR_CLI_KMAP_TRACE_H

#include <stdint.h>

struct kmap_trace {
	uint32_t *key; /* ranges of 64 KiB, in the order in which they were asked for */
	unsigned count, room;
	uint32_t keys;	 /* all are below this */
	double us_apart; /* on average, by the clock */
	double hits;	 /* of 100, with the slots that there were */
	unsigned long long waits, busy;
};

/* 0; -EPERM, -ENOSYS: no userfaultfd for us here; or -errno. */
int kmap_trace_record(struct kmap_trace *trace, unsigned room, uint64_t region_bytes,
		      unsigned slots);
void kmap_trace_destroy(struct kmap_trace *trace);

#endif
