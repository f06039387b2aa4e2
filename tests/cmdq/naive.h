/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An oracle for the simulator: one thread, run as the table of encodings reads, a bit at a time, without the tables of src/cmdq and
 * without a care for speed.
 */
#ifndef WEIR_TESTS_CMDQ_NAIVE_H
#define WEIR_TESTS_CMDQ_NAIVE_H

#include <stdbool.h>
#include <stdint.h>

enum naive_state { NAIVE_RUNS, NAIVE_ENDED, NAIVE_WAITS, NAIVE_POLLS, NAIVE_FAILED };

struct naive {
	/* given */
	unsigned shift;
	int high[32]; /* of each subsys: bits 31:16 of its address, or -1 */
	const uint64_t *program;
	uint64_t base; /* its address */
	unsigned count;
	int (*read)(void *data, uint64_t address, uint32_t *value);
	int (*write)(void *data, uint64_t address, uint32_t value);
	void *data;
	/* state */
	uint64_t pc, end, ticks;
	uint32_t spr[4], general[16], shared[1312], mask;
	bool event[1024], interrupt;
	enum naive_state state;
};

/* One command, or one more look at what it waits for. */
void naive_step(struct naive *n);

#endif
