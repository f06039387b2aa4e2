/* SPDX-License-Identifier: BSD-2-Clause */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/base.h"
#include "base/log.h"
#include "base/size.h"
#include "os/mem.h"
#include "segment.h"

struct text {
	char bytes[8192];
	size_t used;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text->bytes + text->used, sizeof(text->bytes) - text->used, format, args);
	va_end(args);
	if (n > 0)
		text->used = MIN(text->used + (size_t)n, sizeof(text->bytes) - 1);
}

typedef unsigned long long ull;

/* --- children of fork --- */

/*
 * What children add up to, of all generations: shared memory, made when the program that was executed starts. A child adds its numbers,
 * then counts itself; who prints the sum closes it first. A child that finds it closed, or nobody left to print it, prints its own.
 */
#define FAMILY_CLOSED (1ull << 63)
struct family {
	_Atomic uint64_t ended; /* (A) children counted, and FAMILY_CLOSED */
	_Atomic uint64_t value[WEIR_SEGMENT_VALUE_COUNT];
	pid_t first; /* (C) who prints it */
};
static struct family *family;	 /* (C) NULL: there is no memory for it, so nobody is counted */
static struct weir_stats before; /* (C) after the fork: what is counted on from the parent's */

static bool summed(size_t i)
{
	return segment_number[i].kind == SEGMENT_COUNT || segment_number[i].kind == SEGMENT_BYTES ||
	       i == WEIR_SEGMENT_fault_ns_sum;
}

/* True: whoever prints for the family has this one's. */
static bool family_add(const struct weir_stats *s)
{
	uint64_t value[WEIR_SEGMENT_VALUE_COUNT];

	if (!family || (load_relaxed(&family->ended) & FAMILY_CLOSED) ||
	    (syscall(SYS_kill, family->first, 0) && errno == ESRCH))
		return false;
	segment_values(s, mem_peak_rss(), value);
	for (size_t i = 0; i < ARRAY_SIZE(value); i++) {
		uint64_t most = load_relaxed(&family->value[i]);

		if (summed(i))
			add_relaxed(&family->value[i], value[i]);
		while (segment_number[i].kind == SEGMENT_PEAK && most < value[i] &&
		       !cas_relaxed(&family->value[i], &most, value[i]))
			;
	}
	/* Pairs with the acquire in family_close. */
	return !(add_acq_rel(&family->ended, 1) & FAMILY_CLOSED);
}

/* How many children there were. */
static uint64_t family_close(void)
{
	/* Pairs with the addition in family_add. */
	return family ? add_acq_rel(&family->ended, FAMILY_CLOSED) : 0;
}

static void family_json(struct text *t, uint64_t ended)
{
	add(t, ",\"children\":{\"ended\":%llu", (ull)ended);
	for (size_t i = 0; i < ARRAY_SIZE(family->value); i++) {
		if (segment_number[i].kind != SEGMENT_NS && segment_number[i].kind != SEGMENT_SIZE)
			add(t, ",\"%s\":%llu", segment_number[i].name,
			    (ull)load_relaxed(&family->value[i]));
	}
	add(t, ",\"fault_ns\":{\"sum\":%llu}}",
	    (ull)load_relaxed(&family->value[WEIR_SEGMENT_fault_ns_sum]));
}

/* --- forms --- */

static void add_json(struct text *t, const struct weir_stats *s, const char *name, uint64_t wall_ns,
		     pid_t parent, uint64_t children)
{
	add(t, "{\"pid\":%d,", (int)getpid());
	if (parent)
		add(t, "\"forked_by\":%d,", (int)parent);
	add(t, "\"program\":\"");
	for (; *name; name++)
		add(t,
		    (*name == '"' || *name == '\\') ? "\\%c"
		    : (unsigned char)*name < ' '    ? "?"
						    : "%c",
		    *name);
	add(t, "\",\"wall_s\":%llu.%03llu", (ull)(wall_ns / 1000000000u),
	    (ull)(wall_ns / 1000000u % 1000));
	uint64_t value[WEIR_SEGMENT_VALUE_COUNT];

	segment_values(s, mem_peak_rss(), value);
	for (size_t i = 0; i < ARRAY_SIZE(value); i++) {
		if (segment_number[i].kind != SEGMENT_NS)
			add(t, ",\"%s\":%llu", segment_number[i].name, (ull)value[i]);
	}
	add(t, ",\"fault_ns\":{\"p50\":%llu,\"p90\":%llu,\"p99\":%llu,\"max\":%llu,\"sum\":%llu}",
	    (ull)s->fault_ns_p50, (ull)s->fault_ns_p90, (ull)s->fault_ns_p99, (ull)s->fault_ns_max,
	    (ull)s->fault_ns_sum);
	if (children)
		family_json(t, children);
	add(t, "}\n");
}

static void add_size(struct text *t, const char *label, uint64_t bytes, const char *note)
{
	char size[SIZE_TEXT];

	add(t, "  %-22s %10s  %s\n", label, size_print(bytes, size), note);
}

static void add_count(struct text *t, const char *label, uint64_t count, const char *note)
{
	add(t, "  %-22s %10llu  %s\n", label, (ull)count, note);
}

static void add_ns(struct text *t, const char *label, uint64_t ns, const char *note)
{
	add(t, "  %-22s %8llu.%llu  %s\n", label, (ull)(ns / 1000), (ull)(ns / 100 % 10), note);
}

static void add_seconds(struct text *t, const char *label, uint64_t ns)
{
	add(t, "  %-22s %6llu.%03llu  s\n", label, (ull)(ns / 1000000000u),
	    (ull)(ns / 1000000u % 1000));
}

static void family_table(struct text *t, uint64_t ended)
{
	static const struct {
		size_t value;
		const char *label;
	} counts[] = {
		{WEIR_SEGMENT_faults, "  faults"},
		{WEIR_SEGMENT_compressed_faults, "  from compressed"},
		{WEIR_SEGMENT_stored_faults, "  from the file"},
		{WEIR_SEGMENT_moved_out, "  pages moved out"},
	};

	add_count(t, "children of fork", ended,
		  "ended, each with a limit of its own; all of theirs:");
	add_size(t, "  peak managed", load_relaxed(&family->value[WEIR_SEGMENT_peak_managed_bytes]),
		 "of the largest");
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		add_count(t, counts[i].label, load_relaxed(&family->value[counts[i].value]), "");
	add_seconds(t, "  time lost to faults",
		    load_relaxed(&family->value[WEIR_SEGMENT_fault_ns_sum]));
}

static void add_table(struct text *t, const struct weir_stats *s, const char *name,
		      uint64_t wall_ns, pid_t parent, uint64_t children)
{
	char of[32] = "";
	uint64_t ratio = s->packed_out ? s->packed_in * 100 / s->packed_out : 0;
	char size[SIZE_TEXT];

	if (parent)
		snprintf(of, sizeof(of), ", child of %d", (int)parent);
	add(t, "weir: %s (%d%s), limit %s per process\n", name, (int)getpid(), of,
	    size_print(s->limit, size));
	add_seconds(t, "wall time", wall_ns);
	add_size(t, "peak managed", s->peak,
		 "resident and compressed pages, what the limit covers");
	add_size(t, "peak resident", mem_peak_rss(),
		 "of the whole process, as the kernel counts it");
	add_size(t, "touched", s->populated, "of the heap, now");
	add_size(t, "overhead", s->overhead, "tables, unused room of the store, free frames");
	add_count(t, "faults", s->faults, "");
	add_count(t, "  first touches", s->first_faults, "");
	add_count(t, "  soft", s->soft_faults, "writes to clean pages, races");
	add_count(t, "  from compressed", s->compressed_faults, "");
	add_count(t, "  from the file", s->stored_faults, "");
	add_count(t, "pages read ahead", s->ahead, "");
	add_count(t, "pages moved out", s->moved_out, "");
	add_count(t, "same-filled pages", s->same_filled, "kept as one word");
	add(t, "  %-22s %7llu.%02llu  %s\n", "compression", (ull)(ratio / 100), (ull)(ratio % 100),
	    "bytes in to bytes out");
	add_size(t, "  bytes in", s->packed_in, "");
	add_size(t, "  bytes out", s->packed_out, "");
	add_size(t, "stored", s->stored, "in the file, now");
	add_count(t, "pages written", s->written, "to the file");
	add_ns(t, "fault, median", s->fault_ns_p50, "us in the handler");
	add_ns(t, "fault, 90 of 100", s->fault_ns_p90, "us");
	add_ns(t, "fault, 99 of 100", s->fault_ns_p99, "us");
	add_ns(t, "fault, longest", s->fault_ns_max, "us");
	add_seconds(t, "time lost to faults", s->fault_ns_sum);
	if (s->blocks_offlined) {
		add_count(t, "blocks gone", s->blocks_offlined, "of memory for compressed pages");
		add_count(t, "  that held pages", s->blocks_offlined_live, "which moved");
	}
	if (s->kmap_misses) {
		add_count(t, "windows, hits", s->kmap_hits, "on compressed pages that were mapped");
		add_count(t, "  mapped", s->kmap_misses, "");
		add_count(t, "  flushes", s->kmap_flushes, "that took mappings away");
		add_count(t, "  waits", s->kmap_waits, "for a window, all being in use");
	}
	if (s->over_max)
		add_count(t, "over the limit", s->over_max,
			  "times, for want of anything to move out");
	if (s->write_failed)
		add_count(t, "writes that failed", s->write_failed, "pages stayed in memory");
	if (s->fork_loaded)
		add_count(t, "loaded for forks", s->fork_loaded, "pages");
	if (s->poisoned)
		add_count(t, "lost pages", s->poisoned, "poisoned");
	if (children)
		family_table(t, children);
}

/* --- where to --- */

/*
 * Programs close their standard error before the last moment (coreutils do, to see whether writing failed), and what a daemon opens next has that
 * number. So a second descriptor to it is kept where statistics go there, out of the way of the numbers that programs get. Either
 * is used only while it still is the file that standard error was at the start.
 */
static struct {
	int fd;
	dev_t dev;
	ino_t ino;
} kept = {.fd = -1};

void report_prepare(const struct config *config)
{
	enum { OUT_OF_THE_WAY = 240 };
	struct stat st;
	void *shared;

	if (config->stats == STATS_NONE)
		return;
	shared = (void *)syscall(SYS_mmap, NULL, sizeof(*family), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0L);
	if (shared != MAP_FAILED) {
		family = shared;
		family->first = (pid_t)syscall(SYS_getpid);
	}
	if (config->stats_file[0] || fstat(STDERR_FILENO, &st))
		return;
	kept.fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	kept.dev = st.st_dev;
	kept.ino = st.st_ino;
}

static bool still_stderr(int fd)
{
	struct stat st;

	return fd >= 0 && !fstat(fd, &st) && st.st_dev == kept.dev && st.st_ino == kept.ino;
}

/* -1: there is none any more. */
static int stderr_now(void)
{
	return still_stderr(STDERR_FILENO) ? STDERR_FILENO : still_stderr(kept.fd) ? kept.fd : -1;
}

void report_forked(struct weir *weir)
{
	before = (struct weir_stats){.size = sizeof(before)};
	(void)weir_stats_read(weir, &before);
}

static bool stats_read(struct weir *weir, struct weir_stats *s)
{
	*s = (struct weir_stats){.size = sizeof(*s)};
	if (weir_stats_read(weir, s))
		return false;
	/* The pool counts on from what the parent had. */
	s->blocks_onlined -= before.blocks_onlined;
	s->blocks_offlined -= before.blocks_offlined;
	s->blocks_offlined_live -= before.blocks_offlined_live;
	s->blocks_refused -= before.blocks_refused;
	s->frames_migrated -= before.frames_migrated;
	return true;
}

void report_print(struct weir *weir, const struct config *config, uint64_t wall_ns, pid_t parent)
{
	static struct text text; /* once a process, on whatever stack it ends */
	struct weir_stats stats;
	char name[17] = "";
	uint64_t children;
	int fd;

	if (!stats_read(weir, &stats) || (parent && family_add(&stats) && !config->stats_children))
		return;
	children = parent ? 0 : family_close();
	prctl(PR_GET_NAME, name);
	text.used = 0;
	if (config->stats == STATS_JSON)
		add_json(&text, &stats, name, wall_ns, parent, children);
	else
		add_table(&text, &stats, name, wall_ns, parent, children);
	if (config->stats_file[0]) {
		fd = open(config->stats_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
		if (fd < 0) {
			log_line("%s: %s", config->stats_file, errno_name(errno));
			return;
		}
	} else {
		fd = stderr_now();
	}
	/* By one call, so that those of others do not come in between. */
	for (size_t at = 0; at < text.used;) {
		ssize_t n = write(fd, text.bytes + at, text.used - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		at += (size_t)n;
	}
	if (config->stats_file[0])
		close(fd);
}
