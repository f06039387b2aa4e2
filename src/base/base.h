/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every layer uses: sizes of the field, small arithmetic, checks.
 *
 * base/ is the lowest layer. It knows no memory of weir's: futexes, the clock and a log line are the only
 * system calls here; everything that concerns memory is in os/.
 */
#ifndef WEIR_BASE_BASE_H
#define WEIR_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE ((size_t)1 << PAGE_SHIFT)
#define PAGE_MASK (PAGE_SIZE - 1)

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

#define CACHE_LINE 64
/* Two adjacent lines are fetched as one: counters that must not share are this far apart. */
#define NO_SHARING _Alignas(128)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a) - 1))
#define ALIGN_UP(x, a) ALIGN_DOWN((x) + ((__typeof__(x))(a) - 1), a)
#define DIV_UP(x, d) (((x) + (d) - 1) / (d))
#define CONTAINER_OF(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define MUST_CHECK __attribute__((warn_unused_result))

/* Ends the process with the place and the reason: a programmer's error, never a user's. */
_Noreturn void panic_at(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
#define panic(...) panic_at(__FILE__, __LINE__, __VA_ARGS__)

/* assert_always: cheap, stays in release builds. assert_debug: for checks on hot paths. */
#define assert_always(cond)                                                                        \
	do {                                                                                       \
		if (unlikely(!(cond)))                                                             \
			panic("assertion failed: %s", #cond);                                      \
	} while (0)
#ifdef WEIR_DEBUG
#define assert_debug(cond) assert_always(cond)
#else
#define assert_debug(cond) ((void)sizeof(!(cond)))
#endif

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t now_ns(void);

#endif
