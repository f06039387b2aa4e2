/* SPDX-License-Identifier: BSD-2-Clause */
/* A tree for tests: make_room gives what the test says. */
#ifndef WEIR_TESTS_CONTROL_TREES_H
#define WEIR_TESTS_CONTROL_TREES_H

#include "../unit.h"

#include "base/log.h"
#include "control/stock.h"

#define PAGES(n) ((uint64_t)(n) << PAGE_SHIFT)

/* What make_room does: uncharges `step` bytes of `from`, so many times; then answers `end`. */
struct room_maker {
	struct weir_container *from, *level; /* level: the last one asked for */
	uint64_t step, asked;
	unsigned calls, most;
	enum room end;
};

static inline enum room make_room(void *data, struct weir_container *level, uint64_t bytes)
{
	struct room_maker *r = data;

	r->level = level;
	r->asked = bytes;
	if (++r->calls > r->most)
		return r->end;
	if (r->step)
		container_uncharge(r->from, CHARGE_RESIDENT, r->step);
	return ROOM_MADE;
}

static inline struct weir_container *child(struct weir_container *parent, const char *name)
{
	struct weir_container *c = NULL;

	assert_int_equal(weir_container_create(parent, name, &c), 0);
	return c;
}

/* Quiet and drained: what is charged is the sum of usage, at every level. */
static inline void assert_sums(struct tree *tree)
{
	(void)stocks_drain(tree, NULL, true);
	for (struct weir_container *c = tree->root; c; c = container_next(tree->root, c)) {
		uint64_t sum = 0;

		for (unsigned kind = 0; kind < CHARGE_KINDS; kind++)
			sum += container_usage(c, (enum charge_kind)kind);
		assert_int_equal(container_charged(c), sum);
		assert_true(weir_container_get(c, WEIR_PEAK) >= sum);
	}
}

/* For log_set_sink: limits are met on purpose. */
static inline void no_log(const char *line, size_t len)
{
	(void)line;
	(void)len;
}

static inline struct weir_events events_of(struct weir_container *c, bool local)
{
	struct weir_events e;

	weir_container_events(c, local, &e);
	return e;
}

#endif
