/* SPDX-License-Identifier: BSD-2-Clause */
/* What the parts of maps share: pages with known contents, and touches of what may not be there. */
#ifndef WEIR_TESTS_MAPS_H
#define WEIR_TESTS_MAPS_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

extern unsigned long long seed_given;

#define must(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "maps: %s:%d: %s (errno %d: %s; seed %llu)\n", __FILE__,   \
				__LINE__, #cond, errno, strerror(errno), seed_given);              \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

/* False: the touch was a signal. */
bool touches(volatile unsigned char *p, bool write);
#define readable(p) touches(p, false)
#define writable(p) touches(p, true)

/* value: what the page's words are made of; to page_holds 0 is zeroes. It prints what is wrong. */
void page_write(unsigned char *page, uint32_t value);
bool page_holds(const unsigned char *page, uint32_t value);

/* New memory; pages of value, value + 1... */
unsigned char *map(size_t pages, int prot);
void fill(unsigned char *p, size_t pages, uint32_t value);
void holds(unsigned char *p, size_t pages, uint32_t value);

/* The parts: 0, or exit(1). */
int storm(unsigned threads, unsigned rounds);
int profiled(unsigned threads, unsigned rounds);
int rules(void);
int forks(void);

#endif
