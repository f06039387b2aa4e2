/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One line to a person.
 *
 * A line says what failed, on what, and what to do next. It is formed on the stack and leaves by one write(2):
 * no malloc, no stdio stream, so any thread may log, also one that serves faults. No floating point in formats
 * (glibc's printf may call malloc for it).
 *
 * Where the line goes is a function, since weir's own threads have a descriptor table of their own and must
 * not keep the program's standard error open (os/thread.h sets it).
 */
#ifndef WEIR_BASE_LOG_H
#define WEIR_BASE_LOG_H

#include <stddef.h>

typedef void (*log_sink_fn)(const char *line, size_t len);

/* NULL: back to descriptor 2. Set before threads start. */
void log_set_sink(log_sink_fn sink);
/* Writes "weir: ...\n". Longer lines are cut at 512 bytes. errno stays as it was. */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same, but only the first time that it is reached. */
#define log_once(...)                                                                              \
	do {                                                                                       \
		static _Atomic unsigned logged_;                                                   \
		if (!atomic_exchange(&logged_, 1))                                                 \
			log_line(__VA_ARGS__);                                                     \
	} while (0)
/* The text of an errno without malloc or locale: "ENOSPC". Takes err or -err. */
const char *errno_name(int err);

#endif
