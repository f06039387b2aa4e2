/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

enum { LINE_MAX_BYTES = 512 };

static _Atomic(log_sink_fn) log_sink; /* (A) set before threads start */

static void to_stderr(const char *line, size_t len)
{
	while (len) {
		ssize_t n = write(STDERR_FILENO, line, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		line += n;
		len -= (size_t)n;
	}
}

void log_set_sink(log_sink_fn sink)
{
	atomic_store(&log_sink, sink);
}

static void emit(const char *format, va_list args)
{
	char line[LINE_MAX_BYTES] = "weir: ";
	const size_t prefix = 6;
	log_sink_fn sink = atomic_load(&log_sink);
	int n = vsnprintf(line + prefix, sizeof(line) - prefix, format, args);
	size_t len;

	if (n < 0)
		return;
	len = prefix + MIN((size_t)n, sizeof(line) - prefix - 1);
	line[len++] = '\n';
	(sink ? sink : to_stderr)(line, len);
}

void log_line(const char *format, ...)
{
	int saved = errno;
	va_list args;

	va_start(args, format);
	emit(format, args);
	va_end(args);
	errno = saved;
}

_Noreturn void panic_at(const char *file, int line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	emit(format, args);
	va_end(args);
	log_line("this is a bug in weir (%s:%d); please report it with what led to it", file, line);
	abort();
}

const char *errno_name(int err)
{
	const char *name = strerrorname_np(err < 0 ? -err : err);

	return name ? name : "unknown error";
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
