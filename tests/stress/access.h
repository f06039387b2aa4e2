/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copies to and from a region. ThreadSanitizer sees neither the write protection that keeps a program's write apart from
 * the reclaim that reads the page, nor the fault between them: under it these copies are not looked at.
 */
#ifndef WEIR_TESTS_ACCESS_H
#define WEIR_TESTS_ACCESS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/atomic.h"

#ifdef WEIR_TSAN
NO_TSAN __attribute__((noinline, unused)) static void access_copy(void *to, const void *from,
								  size_t bytes)
{
	volatile unsigned char *t = to;
	const volatile unsigned char *f = from;

	for (; bytes >= 8 && !(((uintptr_t)t | (uintptr_t)f) & 7); t += 8, f += 8, bytes -= 8)
		*(volatile uint64_t *)t = *(const volatile uint64_t *)f;
	while (bytes--)
		*t++ = *f++;
}
#else
#define access_copy memcpy
#endif

#endif
