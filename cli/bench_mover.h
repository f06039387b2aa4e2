/* SPDX-License-Identifier: BSD-2-Clause */
/* What it costs that pages leave by packets. */
#ifndef WEIR_CLI_BENCH_MOVER_H
#define WEIR_CLI_BENCH_MOVER_H

#include <stdbool.h>

struct bench_mover {
	double pageout_ns; /* a page, all in all */
	double packet_ns; /* a page: writing its part of a packet, and running that but for what the mover does */
	double pages; /* in a packet, on average */
};

/* One run: moves a region's pages out, and runs packets of the same length over a mover that does nothing. 0, or -errno:
 * signal mode is not to be had here. */
int bench_mover_run(struct bench_mover *result, bool quick);

#endif
