/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * weir bench fault: how long one thread waits for a page, timed around the touch, by way of the public library in this
 * process. Beside it, in each run, the least that the system calls cost: a thread that reads a userfaultfd and answers with
 * UFFDIO_COPY, on the CPU of the thread that touches.
 *
 * Each run, one after the other:
 *
 *   bare              random first touches, served by the bare loop; and by a bare SIGBUS handler
 *   first_touch       the same under weir, with room for all: default placement, all on one CPU, signal mode
 *   compressed_read   reads, in random order, of a region of text; the limit leaves room for the compressed copies of all
 *                     pages and for about a quarter of the pages themselves
 *   clean_write       writes to pages that were just read back, and are write-protected until then
 *   file_read         reads, in random order, where nearly all pages are in the file
 *
 *   wake              many threads and handlers, woken in four ways (bench_wake.h)
 *
 * Only touches of pages that were absent just before count. That is asked of the kernel for a few pages at a time, so
 * that the question does not warm what the fault needs.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "bench_bare.h"
#include "bench_fault.h"
#include "bench_text.h"
#include "bench_wake.h"
#include "cli.h"
#include "os/mem.h"
#include "os/thread.h"
#include "os/uffd.h"
#include "weir/weir.h"

enum {
	WINDOW = 16,	    /* pages asked for at a time */
	WARM_TOUCHES = 512, /* before the first that counts: the thread is bound by then */
	READS = 16384,
	WRITES = 4096,
	FILE_READS = 2048,
};

struct bench_fault bench;

static void order_shuffle(uint32_t pages)
{
	for (uint32_t i = 0; i < pages; i++) {
		uint32_t j = bench_random_below(i + 1);

		bench.order[i] = bench.order[j];
		bench.order[j] = i;
	}
}

static uint64_t scaled(uint64_t full)
{
	return bench.options.quick ? full / 2 : full;
}

/* --- one touch --- */

static bool absent(void *addr)
{
	uint8_t bit = 0;

	return mem_resident(addr, PAGE_SIZE, &bit) == 0 && !bit;
}

static uint64_t read_timed(const void *addr, uint64_t *value)
{
	uint64_t began = now_ns();

	*value = *(const volatile uint64_t *)addr;
	return now_ns() - began;
}

/* Writes what is there, or zero where nothing is yet. */
static uint64_t write_timed(void *addr, uint64_t value)
{
	uint64_t began = now_ns();

	*(volatile uint64_t *)addr = value;
	return now_ns() - began;
}

static int wrong_contents(const char *region, uint32_t page)
{
	log_line("bench fault: the page at %p has WRONG CONTENTS: this is a bug in weir",
		 (const void *)(region + ((size_t)page << PAGE_SHIFT)));
	return -EBADMSG;
}

/* Reads random pages until `want` of them had to be loaded, or the time is over. */
static int reads_measure(const char *region, uint32_t pages, unsigned warm, unsigned want,
			 uint64_t timeout_ns)
{
	uint64_t deadline = now_ns() + timeout_ns;
	unsigned touched = 0;

	bench.samples.count = 0;
	while (bench.samples.count < want && now_ns() < deadline) {
		uint32_t page[WINDOW];
		bool counts[WINDOW];

		for (unsigned i = 0; i < WINDOW; i++) {
			page[i] = bench_random_below(pages);
			counts[i] = absent(
				(void *)(uintptr_t)(region + ((size_t)page[i] << PAGE_SHIFT)));
		}
		for (unsigned i = 0; i < WINDOW; i++) {
			uint64_t value,
				ns = read_timed(region + ((size_t)page[i] << PAGE_SHIFT), &value);

			if (value != bench.first_word[page[i]])
				return wrong_contents(region, page[i]);
			if (counts[i] && touched >= warm)
				bench_samples_add(&bench.samples, ns);
		}
		touched += WINDOW;
	}
	return 0;
}

/* Loads a window of absent pages by reading them, then writes to each, which alone is timed. No page twice, since weir
 * loads one that was written lately as writable. */
static int writes_measure(char *region, uint32_t pages, unsigned want)
{
	uint32_t at = 0;

	order_shuffle(pages);
	bench.samples.count = 0;
	while (bench.samples.count < want && at < pages) {
		uint32_t page[WINDOW];
		unsigned n = 0;

		for (; n < WINDOW && at < pages; at++) {
			if (absent(region + ((size_t)bench.order[at] << PAGE_SHIFT)))
				page[n++] = bench.order[at];
		}
		for (unsigned i = 0; i < n; i++) {
			uint64_t value;

			(void)read_timed(region + ((size_t)page[i] << PAGE_SHIFT), &value);
			if (value != bench.first_word[page[i]])
				return wrong_contents(region, page[i]);
		}
		for (unsigned i = 0; i < n; i++)
			bench_samples_add(&bench.samples,
					  write_timed(region + ((size_t)page[i] << PAGE_SHIFT),
						      bench.first_word[page[i]]));
	}
	return 0;
}

/* Writes to each page once, in random order. */
static void first_touches_measure(char *region, uint32_t pages)
{
	order_shuffle(pages);
	bench.samples.count = 0;
	for (uint32_t i = 0; i < pages; i++) {
		uint64_t ns = write_timed(region + ((size_t)bench.order[i] << PAGE_SHIFT), 1);

		if (i >= WARM_TOUCHES)
			bench_samples_add(&bench.samples, ns);
	}
}

static void keep(enum way way, unsigned run)
{
	bench.figures[way][run] = bench_samples_figures(&bench.samples);
}

/* --- the bare loops --- */

static void first_touches_twice(char *region, uint32_t pages)
{
	/* The second time the kernel has the memory at hand. */
	first_touches_measure(region, pages);
	(void)mem_discard(region, (size_t)pages << PAGE_SHIFT);
	first_touches_measure(region, pages);
}

static int bare_run(unsigned run)
{
	const uint32_t pages = (uint32_t)(scaled(MIB(FIRST_MIB)) >> PAGE_SHIFT);
	int err = bench_bare_thread(pages, first_touches_twice);

	if (err)
		return err;
	keep(BARE, run);
	err = bench_bare_signal(pages, first_touches_twice);
	if (err == -ENOSYS) {
		bench.skipped[BARE_SIGNAL] = "this kernel has no SIGBUS mode";
		return 0;
	}
	keep(BARE_SIGNAL, run);
	return err;
}

/* --- weir --- */

static int instance_open(uint64_t limit, uint64_t compressed_share, enum weir_mode mode,
			 struct weir **weir)
{
	const struct weir_options options = {
		.size = sizeof(options),
		.limit = limit,
		.compressed_share = compressed_share,
		.mode = mode,
	};
	int err = weir_open(&options, weir);

	if (!err)
		weir_thread_attach(*weir);
	return err;
}

static void instance_close(struct weir *weir)
{
	/* In this order: a thread that detaches while it is bound stays bound. */
	weir_thread_unbind(weir);
	weir_thread_detach(weir);
	weir_close(weir);
}

static struct weir_stats stats_of(struct weir *weir)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	(void)weir_stats_read(weir, &stats);
	return stats;
}

static int first_touches(enum way way, enum weir_mode mode, unsigned run)
{
	const uint64_t bytes = scaled(MIB(FIRST_MIB));
	struct weir *weir;
	void *region;
	int err = instance_open(bytes * 2, 0, mode, &weir);

	if (err)
		return err;
	err = weir_region_create(weir, bytes, &region);
	if (!err) {
		first_touches_measure(region, (uint32_t)(bytes >> PAGE_SHIFT));
		err = weir_region_discard(weir, region, bytes);
	}
	if (!err) {
		first_touches_measure(region, (uint32_t)(bytes >> PAGE_SHIFT));
		keep(way, run);
	}
	instance_close(weir);
	return err;
}

static int first_run(unsigned run)
{
	cpu_set_t before;
	int err = first_touches(FIRST_TOUCH, WEIR_MODE_THREAD, run);

	if (!err)
		err = thread_affinity_get(0, &before);
	if (err)
		return err;
	/* Threads of weir's start where we are. */
	(void)thread_bind(0, thread_cpu_now());
	err = first_touches(ONE_CPU, WEIR_MODE_THREAD, run);
	(void)thread_affinity_set(0, &before);
	if (!err && !bench.skipped[BARE_SIGNAL])
		err = first_touches(SIGNAL, WEIR_MODE_SIGNAL, run);
	return err;
}

static int compressed_touch(struct weir *weir, char *region, uint32_t pages, bool signal,
			    unsigned run)
{
	struct weir_stats stats;
	int err;

	bench_text_fill(region, pages, bench.first_word);
	/* The first lap gives each page its copy; after it nothing needs to be compressed again. */
	err = reads_measure(region, pages, UINT32_MAX, 1, 1000000000);
	if (!err)
		err = reads_measure(region, pages, WARM_TOUCHES, (unsigned)scaled(READS),
				    4000000000);
	if (err)
		return err;
	keep(signal ? SIGNAL_READ : COMPRESSED_READ, run);
	if (signal)
		return 0;
	stats = stats_of(weir);
	bench.compression =
		stats.packed_out ? (double)stats.packed_in / (double)stats.packed_out : 0;
	bench.resident_share = (double)stats.resident / (double)((uint64_t)pages << PAGE_SHIFT);
	bench.bindings += stats.bindings;
	if (stats.stored_faults)
		log_line("bench fault: some pages came from the file; the compressed reads are "
			 "mixed with them");
	err = writes_measure(region, pages, (unsigned)scaled(WRITES));
	if (!err)
		keep(CLEAN_WRITE, run);
	return err;
}

static int compressed(enum weir_mode mode, unsigned run)
{
	const uint64_t bytes = scaled(MIB(TEXT_MIB));
	/* A quarter for the pages, and room for the copies, which are about two fifths of the whole. */
	const uint64_t limit = bytes / 4 + bytes / 16 * 7;
	struct weir *weir;
	void *region;
	int err = instance_open(limit, limit - bytes / 8, mode, &weir);

	if (err)
		return err;
	bench.limit_mib = (double)limit / (double)MIB(1);
	err = weir_region_create(weir, bytes, &region);
	if (!err)
		err = compressed_touch(weir, region, (uint32_t)(bytes >> PAGE_SHIFT),
				       mode == WEIR_MODE_SIGNAL, run);
	instance_close(weir);
	return err;
}

static int compressed_run(unsigned run)
{
	int err = compressed(WEIR_MODE_THREAD, run);

	if (!err && !bench.skipped[BARE_SIGNAL])
		err = compressed(WEIR_MODE_SIGNAL, run);
	return err;
}

/* Until the background has written what is over the share. False: it does not happen. */
static bool written_out(struct weir *weir)
{
	const struct timespec while_ = {.tv_nsec = 5000000};
	uint64_t deadline = now_ns() + 10000000000u;

	while (now_ns() < deadline) {
		struct weir_stats stats = stats_of(weir);

		if (stats.write_failed)
			return false;
		if (stats.stored && stats.compressed <= MIB(1))
			return true;
		(void)nanosleep(&while_, NULL);
	}
	return false;
}

static int file_run(unsigned run)
{
	const uint64_t bytes = scaled(MIB(FILE_MIB)), limit = bytes / 4;
	const uint32_t pages = (uint32_t)(bytes >> PAGE_SHIFT);
	struct weir *weir;
	void *region;
	int err = instance_open(limit, KIB(256), WEIR_MODE_THREAD, &weir);

	if (err)
		return err;
	bench.file_limit_mib = (double)limit / (double)MIB(1);
	err = weir_region_create(weir, bytes, &region);
	if (err)
		goto out;
	bench_text_fill(region, pages, bench.first_word);
	if (!written_out(weir)) {
		bench.skipped[FILE_READ] =
			"cold pages could not be written to a file in TMPDIR, /var/tmp or /tmp";
		goto out;
	}
	err = reads_measure(region, pages, WARM_TOUCHES, (unsigned)scaled(FILE_READS), 2000000000);
	if (!err)
		keep(FILE_READ, run);
out:
	instance_close(weir);
	return err;
}

static int wake_run(unsigned run)
{
	return bench_wake_run(run, bench.options.quick);
}

static int run_all(void)
{
	static int (*const parts[])(unsigned run) = {bare_run, first_run, compressed_run, file_run,
						     wake_run};

	for (unsigned run = 0; run < bench.runs; run++) {
		if (!bench.options.json)
			fprintf(stderr, "run %u of %u\n", run + 1, bench.runs);
		for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
			int err = parts[i](run);

			if (err)
				return err;
		}
	}
	return 0;
}

/* --- */

/* 0, or what to exit with after a message. */
static int permission_check(void)
{
	uint64_t features;
	int err = uffd_probe(&features);

	if (err)
		log_line("bench fault: skipped: userfaultfd: %s", uffd_advice(err));
	else if (!(features & UFFD_HAS_WRITEPROTECT) || !(features & UFFD_HAS_THREAD_ID))
		log_line("bench fault: skipped: userfaultfd cannot write-protect here; Linux 5.9 "
			 "or later is needed");
	else
		return 0;
	return EXIT_SKIPPED;
}

int bench_fault(int argc, char **argv)
{
	int status;
	int err = bench_options_parse("fault", argc, argv, &bench.options, &status);

	if (err)
		return status;
	status = permission_check();
	if (status)
		return status;
	bench.runs = bench.options.quick ? BENCH_RUNS_QUICK : BENCH_RUNS;
	bench_machine_read(&bench.machine);
	bench_words_make();
	err = bench_samples_init(&bench.samples, MIB(FIRST_MIB) >> PAGE_SHIFT);
	if (!err)
		err = run_all();
	bench_samples_destroy(&bench.samples);
	if (err) {
		log_line("bench fault: %s; nothing is printed", errno_name(err));
		return 1;
	}
	if (bench.options.json)
		bench_fault_print_json();
	else
		bench_fault_print_text();
	if (bench.options.svg)
		err = bench_wake_svg(bench.options.svg);
	if (err) {
		log_line("bench fault: %s: %s", bench.options.svg, errno_name(err));
		return 1;
	}
	return fflush(stdout) ? 1 : 0;
}
