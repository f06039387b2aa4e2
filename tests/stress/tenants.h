/* SPDX-License-Identifier: BSD-2-Clause */
/* What the cases of stress_tenants.c share. */
#ifndef WEIR_TESTS_TENANTS_H
#define WEIR_TESTS_TENANTS_H

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../random.h"
#include "../regions.h"

#define CHECK(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "stress_tenants: %s:%d: %s: ", __FILE__, __LINE__, #cond); \
			fprintf(stderr, __VA_ARGS__);                                              \
			fprintf(stderr, "; seed %" PRIu64 "\n", seed);                             \
			abort();                                                                   \
		}                                                                                  \
	} while (0)
#define MIB(n) ((uint64_t)(n) << 20)

enum { PAGE = 4096, TENANTS = 4, SKIPPED = 77 };

extern uint64_t seed;
extern double seconds;
extern atomic_bool stop; /* for the threads of a case */
extern enum weir_mode mode;
extern unsigned kmap_slots;

unsigned below(uint64_t *s, unsigned n);
double now(void);

/* What a page of a number and a version holds. noise: words that do not compress. */
void page_make(unsigned char *page, uint64_t number, uint64_t version, bool noise);
/* To a page of a region. */
void page_write(unsigned char *page, uint64_t number, uint64_t version, bool noise);
void page_check(const unsigned char *page, uint64_t number, uint64_t version, bool noise);
/* Does a touch give SIGBUS? */
bool touch_is_bus(volatile unsigned char *at, bool write);

struct weir *open_or_skip(uint64_t limit);
struct weir_container *child_of(struct weir_container *parent, const char *name, uint64_t max);
uint64_t current(struct weir_container *c);
/* Charged to the root, but for what the mover's packets take. */
uint64_t used(struct weir *weir);
/* Stocks are nobody's pages. Waits for who is at his own just now. */
void drain(struct weir *weir);
/* Until it is within these, stocks apart. Where pages are taken in the background, or read ahead, that takes a moment. */
void wait_charged(struct weir_container *c, uint64_t at_least, uint64_t at_most);

void case_storm(void);
void case_file(void);
void case_refused(void);
void case_readers(void);
void case_eio(void);
void case_oom(void);
void case_high(void);
void case_swap(void);
void case_packets(void);

#endif
