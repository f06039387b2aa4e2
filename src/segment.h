/* SPDX-License-Identifier: BSD-2-Clause */
/* The numbers of a segment (<weir/segment.h>): writing them, and reading what another process has written, whatever it has. */
#ifndef WEIR_SEGMENT_READ_H
#define WEIR_SEGMENT_READ_H

#include "base/base.h"
#include "weir/segment.h"
#include "weir/weir.h"

enum segment_kind {
	SEGMENT_SIZE,
	SEGMENT_PEAK,
	SEGMENT_COUNT,
	SEGMENT_BYTES,
	SEGMENT_NS,
	SEGMENT_LIMIT,
	SEGMENT_US,
	SEGMENT_SHARE
};

struct segment_number {
	const char *name, *help;
	enum segment_kind kind;
};
extern const struct segment_number segment_number[WEIR_SEGMENT_VALUE_COUNT];
extern const struct segment_number segment_container_number[WEIR_SEGMENT_CONTAINER_VALUE_COUNT];

void segment_values(const struct weir_stats *stats, uint64_t peak_rss,
		    uint64_t value[static WEIR_SEGMENT_VALUE_COUNT]);

/* A segment as it was at one moment. What its writer does not know is 0. */
struct seen {
	uint64_t sequence, now_ns, start_ns;
	uint64_t value[WEIR_SEGMENT_VALUE_COUNT];
	unsigned containers; /* at least one: the root */
	unsigned more;
	struct weir_segment_container container[WEIR_SEGMENT_CONTAINERS];
};

/* The most that a segment of any version is read of. */
enum { SEGMENT_MOST = 1 << 20 };

/* -EAGAIN: it was being written; -EINVAL: no segment, or one that contradicts itself. Paths are printable, and end. */
int segment_parse(const void *bytes, size_t size, struct seen *seen);

#endif
