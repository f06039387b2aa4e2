/* SPDX-License-Identifier: BSD-2-Clause */
#include "paging_growth.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "base/log.h"
#include "bench_paging.h"
#include "bench_text.h"
#include "svg.h"
#include "weir/weir.h"

enum { KINDS = 3, POINTS_MAX = 4, REGIONS_MOST = 64, TOUCHES = 16384, TOUCHES_QUICK = 1024 };
#define GIB(n) ((uint64_t)(n) << 30)
#define GROWTH_AIM 1.3

/* The first point of each kind but the limit's is the same. */
static const struct point {
	uint64_t bytes, limit; /* of all regions; of the instance */
	unsigned regions, factor;
	const char *label;
} points[KINDS][POINTS_MAX] = {
	{
		{GIB(1), MIB(128), 1, 1, "1 GiB"},
		{GIB(4), MIB(128), 1, 4, "4 GiB"},
		{GIB(16), MIB(128), 1, 16, "16 GiB"},
	},
	{
		{GIB(1), MIB(64), 1, 1, "64 MiB"},
		{GIB(1), MIB(128), 1, 2, "128 MiB"},
		{GIB(1), MIB(256), 1, 4, "256 MiB"},
		{GIB(1), MIB(512), 1, 8, "512 MiB"},
	},
	{
		{GIB(1), MIB(128), 1, 1, "1"},
		{GIB(1), MIB(128), 4, 4, "4"},
		{GIB(1), MIB(128), 16, 16, "16"},
		{GIB(1), MIB(128), 64, 64, "64"},
	},
};
static const char *const kind_name[KINDS] = {"growth_size", "growth_limit", "growth_regions"};
static const char *const kind_title[KINDS] = {"address space", "limit", "regions"};

static double cost_us[KINDS][POINTS_MAX][BENCH_RUNS]; /* 0: not measured */
static unsigned runs;

static bool kind_chosen(unsigned kind)
{
	return paging_named(kind_name[kind]);
}

bool growth_chosen(void)
{
	bool any = false;

	for (unsigned kind = 0; kind < KINDS; kind++)
		any |= kind_chosen(kind);
	return any;
}

/* --- one point --- */

static struct place {
	char *region[REGIONS_MOST];
	unsigned regions;
	uint32_t pages;	 /* with contents, in all */
	uint64_t stride; /* from one to the next of a region */
} place;

static char *page_at(uint32_t page)
{
	return place.region[page % place.regions] + page / place.regions * place.stride;
}

static int regions_make(struct weir *weir, const struct point *p)
{
	void *addr;
	int err = 0;

	place.regions = p->regions;
	/* Half as much again as the limit: two thirds of that when it is all compressed. */
	place.pages = (uint32_t)((p->limit + p->limit / 2) >> PAGE_SHIFT);
	place.stride = ALIGN_DOWN(p->bytes / place.pages, PAGE_SIZE);
	for (unsigned i = 0; i < p->regions && !err; i++) {
		err = weir_region_create(weir, p->bytes / p->regions, &addr);
		place.region[i] = addr;
	}
	for (uint32_t page = 0; page < place.pages && !err; page++)
		load_page_make(TEXT, page, page_at(page));
	return err;
}

/* The median of the touches that had to wait. */
static int touches(unsigned count, double *us)
{
	static _Alignas(4096) char right[PAGE_SIZE];
	struct bench_samples samples;
	int err = bench_samples_init(&samples, count);

	/* The first ones find the memory as the filling has left it. */
	for (unsigned i = 0; i < 2 * count && !err; i++) {
		const uint32_t page = bench_random_below(place.pages);
		const volatile char *at = page_at(page);
		const uint64_t before = now_ns();
		uint64_t waited;

		(void)*at;
		waited = now_ns() - before;
		if (i >= count && waited >= LOAD_WAIT_NS)
			bench_samples_add(&samples, waited);
		load_page_make(TEXT, page, right);
		if (memcmp(right, page_at(page), PAGE_SIZE))
			err = -EBADMSG;
	}
	if (!err && !samples.count)
		err = -ENODATA;
	*us = bench_samples_figures(&samples).p50 / 1e3;
	bench_samples_destroy(&samples);
	return err;
}

static int point_run(const struct point *full, bool quick, double *us)
{
	struct point p = *full;
	struct weir_options options = {.size = sizeof(options), .mode = WEIR_MODE_SIGNAL};
	struct weir *weir;
	int err;

	if (quick)
		p.limit /= 8;
	options.limit = p.limit;
	options.compressed_share = UINT64_MAX;
	err = weir_open(&options, &weir);
	if (err)
		return err;
	weir_thread_attach(weir);
	err = regions_make(weir, &p);
	if (!err)
		err = touches(quick ? TOUCHES_QUICK : TOUCHES, us);
	weir_thread_detach(weir);
	weir_close(weir);
	return err;
}

int growth_run(unsigned run, bool quick)
{
	int err = 0;

	runs = run + 1;
	for (unsigned kind = 0; kind < KINDS && !err; kind++) {
		for (unsigned i = 0; i < POINTS_MAX && points[kind][i].regions && !err; i++) {
			if (kind_chosen(kind))
				err = point_run(&points[kind][i], quick, &cost_us[kind][i][run]);
		}
	}
	if (err)
		log_line("bench paging: how the cost grows: %s",
			 err == -EBADMSG ? "a page has WRONG CONTENTS: this is a bug in weir"
					 : errno_name(err));
	return err;
}

/* --- printing --- */

static struct bench_spread cost(unsigned kind, unsigned i)
{
	return bench_spread_of(cost_us[kind][i], runs);
}

/* The dearest point over the cheapest, run by run; their median. */
static double growth(unsigned kind)
{
	double ratios[BENCH_RUNS];

	for (unsigned run = 0; run < runs; run++) {
		double least = cost_us[kind][0][run], most = least;

		for (unsigned i = 1; i < POINTS_MAX && points[kind][i].regions; i++) {
			least = MIN(least, cost_us[kind][i][run]);
			most = MAX(most, cost_us[kind][i][run]);
		}
		ratios[run] = most / least;
	}
	return bench_spread_of(ratios, runs).median;
}

void growth_print_text(void)
{
	printf("\n== how the cost of a fault grows: random reads of text from compressed memory, "
	       "signal mode\n"
	       "  %-15s %10s  %8s %18s\n",
	       "", "", "p50 us", "(min..max)");
	for (unsigned kind = 0; kind < KINDS; kind++) {
		if (!kind_chosen(kind))
			continue;
		for (unsigned i = 0; i < POINTS_MAX && points[kind][i].regions; i++) {
			const struct bench_spread s = cost(kind, i);

			printf("  %-15s %10s  %8.1f (%7.1f..%7.1f)\n", i ? "" : kind_title[kind],
			       points[kind][i].label, s.median, s.min, s.max);
		}
		printf("  %-15s %10s  %8.2f, the dearest over the cheapest\n", "", "",
		       growth(kind));
	}
	putchar('\n');
	for (unsigned kind = 0; kind < KINDS; kind++) {
		if (kind_chosen(kind) && growth(kind) > GROWTH_AIM)
			printf("missed: %s: the dearest fault over the cheapest %.2f, aim %.2f\n",
			       kind_name[kind], growth(kind), GROWTH_AIM);
	}
}

void growth_json_results(void)
{
	for (unsigned kind = 0; kind < KINDS; kind++) {
		for (unsigned i = 0; kind_chosen(kind) && i < POINTS_MAX && points[kind][i].regions;
		     i++) {
			const struct bench_spread s = cost(kind, i);

			printf("{\"name\": \"%s\", \"design\": \"weir\", \"threads\": 1, \"mode\": "
			       "\"signal\", \"at\": \"%s\", \"unit\": \"us\", \"median\": %.3f, "
			       "\"min\": %.3f, \"max\": %.3f}, ",
			       kind_name[kind], points[kind][i].label, s.median, s.min, s.max);
		}
	}
}

void growth_json_ratios(void)
{
	for (unsigned kind = 0; kind < KINDS; kind++) {
		if (kind_chosen(kind))
			printf("\"%s\": %.3f, ", kind_name[kind], growth(kind));
		else
			printf("\"%s\": null, ", kind_name[kind]);
	}
}

void growth_json_skipped(bool *first)
{
	for (unsigned kind = 0; kind < KINDS; kind++) {
		if (kind_chosen(kind))
			continue;
		printf("%s\"%s\": \"left out by --only\"", *first ? "" : ", ", kind_name[kind]);
		*first = false;
	}
}

int growth_print_svg(const char *path)
{
	enum { FACTORS = 7 };
	static const char *const x[FACTORS] = {"1", "2", "4", "8", "16", "32", "64"};
	static const char *const names[KINDS] = {"space, 1 GiB ...", "limit, 64 MiB ...",
						 "regions, 1 ..."};
	static double y[KINDS][FACTORS];
	struct svg_line line[KINDS];
	const struct svg_chart chart = {
		.title = "A fault from compressed memory, as things grow",
		.x_title = "times as much address space, limit, or regions",
		.y_title = "p50, us",
		.x = x,
		.points = FACTORS,
		.lines = line,
		.count = KINDS,
	};

	for (unsigned kind = 0; kind < KINDS; kind++) {
		for (unsigned f = 0; f < FACTORS; f++)
			y[kind][f] = -1;
		for (unsigned i = 0; kind_chosen(kind) && i < POINTS_MAX && points[kind][i].regions;
		     i++)
			y[kind][__builtin_ctz(points[kind][i].factor)] = cost(kind, i).median;
		line[kind] = (struct svg_line){names[kind], y[kind]};
	}
	return svg_write(path, &chart);
}
