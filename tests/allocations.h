/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Counts what this program allocates, by standing in front of glibc's own functions. To be included by one file of a
 * program. A sanitizer's allocator stands there itself: then nothing is counted, and ALLOCATIONS_COUNTED is 0.
 */
#ifndef WEIR_TESTS_ALLOCATIONS_H
#define WEIR_TESTS_ALLOCATIONS_H

#include <stddef.h>
#include <stdlib.h>

#include "base/atomic.h"

static _Atomic unsigned long allocations;

#if defined(__SANITIZE_ADDRESS__) || defined(WEIR_TSAN)
#define ALLOCATIONS_COUNTED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ALLOCATIONS_COUNTED 0
#endif
#endif
#ifndef ALLOCATIONS_COUNTED
#define ALLOCATIONS_COUNTED 1

/* NOLINTBEGIN(bugprone-reserved-identifier): glibc's own names for what is stood in front of */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
/* NOLINTEND(bugprone-reserved-identifier) */

void *memalign(size_t align, size_t size);

/* Seen by every library, even if the program is built with hidden visibility. */
#define IN_FRONT __attribute__((visibility("default")))

IN_FRONT void *malloc(size_t size)
{
	add_relaxed(&allocations, 1);
	return __libc_malloc(size);
}

IN_FRONT void *calloc(size_t count, size_t size)
{
	add_relaxed(&allocations, 1);
	return __libc_calloc(count, size);
}

IN_FRONT void *realloc(void *p, size_t size)
{
	add_relaxed(&allocations, 1);
	return __libc_realloc(p, size);
}

IN_FRONT void *memalign(size_t align, size_t size)
{
	add_relaxed(&allocations, 1);
	return __libc_memalign(align, size);
}
#endif

#endif
