/* SPDX-License-Identifier: BSD-2-Clause */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/log.h"
#include "base/size.h"
#include "os/mem.h"
#include "segment.h"

struct text {
	char bytes[4096];
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

static void add_json(struct text *t, const struct weir_stats *s, const char *name, uint64_t wall_ns)
{
	add(t, "{\"pid\":%d,\"program\":\"", (int)getpid());
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
	add(t,
	    ",\"fault_ns\":{\"p50\":%llu,\"p90\":%llu,\"p99\":%llu,\"max\":%llu,\"sum\":%llu}}\n",
	    (ull)s->fault_ns_p50, (ull)s->fault_ns_p90, (ull)s->fault_ns_p99, (ull)s->fault_ns_max,
	    (ull)s->fault_ns_sum);
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

static void add_table(struct text *t, const struct weir_stats *s, const char *name,
		      uint64_t wall_ns)
{
	uint64_t ratio = s->packed_out ? s->packed_in * 100 / s->packed_out : 0;
	char size[SIZE_TEXT];

	add(t, "weir: %s (%d), limit %s per process\n", name, (int)getpid(),
	    size_print(s->limit, size));
	add(t, "  %-22s %6llu.%03llu  s\n", "wall time", (ull)(wall_ns / 1000000000u),
	    (ull)(wall_ns / 1000000u % 1000));
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
	add(t, "  %-22s %6llu.%03llu  s\n", "time lost to faults",
	    (ull)(s->fault_ns_sum / 1000000000u), (ull)(s->fault_ns_sum / 1000000u % 1000));
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
}

/*
 * Programs close their standard error before the last moment (coreutils do, to see whether writing failed). So a
 * second descriptor to it is kept where statistics go there, out of the way of the numbers that programs get, and
 * used only if it still is the same file: the program may have closed it, and its number be another's.
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

	if (config->stats == STATS_NONE || config->stats_file[0] || fstat(STDERR_FILENO, &st))
		return;
	kept.fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	kept.dev = st.st_dev;
	kept.ino = st.st_ino;
}

static int stderr_now(void)
{
	struct stat st;

	if (fcntl(STDERR_FILENO, F_GETFD) >= 0)
		return STDERR_FILENO;
	if (kept.fd >= 0 && fstat(kept.fd, &st) == 0 && st.st_dev == kept.dev &&
	    st.st_ino == kept.ino)
		return kept.fd;
	return STDERR_FILENO;
}

void report_print(struct weir *weir, const struct config *config, uint64_t wall_ns)
{
	struct weir_stats stats = {.size = sizeof(stats)};
	struct text text = {.used = 0};
	char name[17] = "";
	int fd = stderr_now();

	prctl(PR_GET_NAME, name);
	if (weir_stats_read(weir, &stats))
		return;
	if (config->stats == STATS_JSON)
		add_json(&text, &stats, name, wall_ns);
	else
		add_table(&text, &stats, name, wall_ns);
	if (config->stats_file[0]) {
		fd = open(config->stats_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
		if (fd < 0) {
			log_line("%s: %s", config->stats_file, errno_name(errno));
			return;
		}
	}
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
