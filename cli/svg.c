/* SPDX-License-Identifier: BSD-2-Clause */
#include "svg.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

enum { WIDTH = 720, HEIGHT = 440, LEFT = 80, RIGHT = 150, TOP = 50, BOTTOM = 60, GRID = 5 };

/* Colours that are told apart also by who sees few of them. */
static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
				      "#e69f00", "#56b4e9", "#000000", "#999999"};

/* The next of 1, 2, 5, 10, ... above. */
static double round_up(double value)
{
	double unit = pow(10, floor(log10(value > 0 ? value : 1)));

	for (unsigned step = 1; step <= 10; step = step == 2 ? 5 : step * 2) {
		if (value <= step * unit)
			return step * unit;
	}
	return 10 * unit;
}

/* The heights at the top and at the bottom. */
struct span {
	double least, most;
	bool log;
};

static struct span y_span_log(const struct svg_chart *chart)
{
	struct span s = {.least = INFINITY, .most = 0, .log = true};

	for (unsigned i = 0; i < chart->count; i++) {
		for (unsigned k = 0; k < chart->points; k++) {
			const double y = chart->lines[i].y[k];

			s.most = fmax(s.most, y);
			s.least = y > 0 ? fmin(s.least, y) : s.least;
		}
	}
	s.least = s.least < INFINITY ? pow(10, floor(log10(s.least))) : 1;
	s.most = fmax(pow(10, ceil(log10(s.most > 0 ? s.most : 1))), s.least * 10);
	return s;
}

static struct span y_span(const struct svg_chart *chart)
{
	double most = 0;

	if (chart->y_log)
		return y_span_log(chart);

	for (unsigned i = 0; i < chart->count; i++) {
		for (unsigned k = 0; k < chart->points; k++)
			most = fmax(most, chart->lines[i].y[k]);
	}
	return (struct span){.most = round_up(most)};
}

static double x_at(const struct svg_chart *chart, unsigned point)
{
	const double room = WIDTH - LEFT - RIGHT;

	return LEFT + (chart->points > 1 ? room * point / (chart->points - 1) : room / 2);
}

static double y_at(double value, struct span s)
{
	double part = value / s.most;

	if (s.log)
		part = value > 0 ? log10(value / s.least) / log10(s.most / s.least) : 0;
	return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part;
}

static void text(FILE *out, double x, double y, const char *anchor, const char *words)
{
	fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor,
		words);
}

static void axes(FILE *out, const struct svg_chart *chart, struct span s)
{
	const unsigned grid = s.log ? (unsigned)lround(log10(s.most / s.least)) : GRID;
	char label[32];

	for (unsigned i = 0; i <= grid; i++) {
		const double value = s.log ? s.least * pow(10, i) : s.most * i / grid;
		double y = y_at(value, s);

		fprintf(out,
			"<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n",
			LEFT, WIDTH - RIGHT, y, y);
		snprintf(label, sizeof(label), "%g", value);
		text(out, LEFT - 8, y + 4, "end", label);
	}
	for (unsigned i = 0; i < chart->points; i++)
		text(out, x_at(chart, i), HEIGHT - BOTTOM + 20, "middle", chart->x[i]);
	text(out, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 15, "middle", chart->x_title);
	text(out, LEFT, TOP - 12, "middle", chart->y_title);
	fputs("<g font-size=\"15\">\n", out);
	text(out, WIDTH / 2.0, 22, "middle", chart->title);
	fputs("</g>\n", out);
}

static void line(FILE *out, const struct svg_chart *chart, unsigned i, struct span s)
{
	const struct svg_line *l = &chart->lines[i];
	const double y = TOP + 20.0 * i;

	fprintf(out, "<g stroke=\"%s\" fill=\"none\" stroke-width=\"2\"><polyline points=\"",
		colours[i]);
	for (unsigned k = 0; k < chart->points; k++) {
		if (l->y[k] >= 0)
			fprintf(out, "%.1f,%.1f ", x_at(chart, k), y_at(l->y[k], s));
	}
	fputs("\"/>", out);
	for (unsigned k = 0; k < chart->points; k++) {
		if (l->y[k] >= 0)
			fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>", x_at(chart, k),
				y_at(l->y[k], s));
	}
	fprintf(out, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/></g>\n",
		WIDTH - RIGHT + 12, WIDTH - RIGHT + 34, y, y);
	text(out, WIDTH - RIGHT + 40, y + 4, "start", l->name);
}

int svg_write(const char *path, const struct svg_chart *chart)
{
	FILE *out = fopen(path, "we");
	const struct span s = y_span(chart);
	int err;

	if (!out)
		return -errno;
	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
		"font-family=\"sans-serif\" font-size=\"12\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
		WIDTH, HEIGHT);
	axes(out, chart, s);
	for (unsigned i = 0; i < chart->count; i++)
		line(out, chart, i, s);
	fputs("</svg>\n", out);
	err = ferror(out) ? -EIO : 0;
	if (fclose(out) && !err)
		err = -errno;
	return err;
}
