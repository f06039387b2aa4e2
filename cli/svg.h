/* SPDX-License-Identifier: BSD-2-Clause */
/* A picture of a bench: lines over a few named points, as SVG that any browser shows. */
#ifndef WEIR_CLI_SVG_H
#define WEIR_CLI_SVG_H

#include <stdbool.h>

struct svg_line {
	const char *name;
	const double *y; /* one a point; negative: none */
};

struct svg_chart {
	const char *title, *x_title, *y_title;
	const char *const *x; /* names of the points, evenly apart */
	unsigned points;
	const struct svg_line *lines;
	unsigned count; /* of lines, at most 8 */
	bool y_log;	/* decades evenly apart; values above 0 */
};

/* 0, or the -errno of writing the file. Texts are ASCII without <, > and &. */
int svg_write(const char *path, const struct svg_chart *chart);

#endif
