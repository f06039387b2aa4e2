/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A store in memory, test:, that does what tests tell it: fails, lies, dies, completes late and in another order. It knows
 * nothing of weir but weir/store.h, and checks what that promises a store.
 *
 * One at a time. test_store_reset before each; keys are handed out from 1.
 */
#ifndef WEIR_TESTS_FAKE_STORE_H
#define WEIR_TESTS_FAKE_STORE_H

#include <stdbool.h>

#include "weir/store.h"

enum test_store_read {
	READ_RIGHT,
	READ_FAILS,   /* -EIO */
	READ_SHORT,   /* half of the bytes, and says so: -EIO */
	READ_HALF,    /* half of the bytes, and says that it has all */
	READ_NOTHING, /* none, and says that it has all */
	READ_ROTTEN,  /* a bit is another */
	READ_OTHERS,  /* those of another page, where there is one */
	READ_KINDS,
};

/* Everything at once; plain data, changed by the test at any time. */
struct test_store_plan {
	unsigned unit; /* 0: 512 */
	uint64_t room; /* bytes; 0: no bound */
	unsigned
		fail_page; /* of the next batches: this page of it (from 1) fails; 0: none; UINT32_MAX: all */
	int fail_err;		   /* with this */
	enum test_store_read read; /* what reads do */
	unsigned read_every;	   /* of so many pages one; 0: each */
	bool dead;		   /* everything fails with -ENODEV */
	unsigned dies_after;	   /* pages written, then it is dead; 0: never */
	bool late;		   /* writes are completed by poll, or test_store_complete */
	bool reversed;		   /* the last one first */
	bool threads; /* they are completed by a thread of its own, which has no order and no hurry */
	int open_err;
};
extern struct test_store_plan test_store_plan;

/* Registers it, once a process, and forgets everything. */
void test_store_reset(void);
/* Completes up to so many of the batches that are held back. Returns how many are left. */
unsigned test_store_complete(unsigned most);
/* What it has under a key, NULL: nothing; and how many it has. */
const void *test_store_peek(uint32_t key, uint32_t *bytes);
unsigned test_store_pages(void);
uint64_t test_store_reads(void);
uint64_t test_store_writes(void);
/* Is it open? */
bool test_store_open(void);

#endif
