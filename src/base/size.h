/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sizes as people write them: "4096", "64K", "256M", "1.5G", "2T", with an optional "iB" or "B"; "50%" of a
 * whole that the caller names. Units are powers of 1024, either case.
 */
#ifndef WEIR_BASE_SIZE_H
#define WEIR_BASE_SIZE_H

#include <stddef.h>
#include <stdint.h>

/* 0, or -EINVAL: not a size; -ERANGE: does not fit 64 bits, or a percentage above 100. whole 0: no percentages. */
int size_parse(const char *text, uint64_t whole, uint64_t *bytes);

enum { SIZE_TEXT = 24 };
/* "256M", "1.5G": at most one decimal, rounded to nearest, never more than 9 characters. Returns text. */
char *size_print(uint64_t bytes, char text[static SIZE_TEXT]);

#endif
