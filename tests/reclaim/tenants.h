/* SPDX-License-Identifier: BSD-2-Clause */
/* What tests of several tenants share: one world, and up to two containers below its root that own its regions. */
#ifndef WEIR_TESTS_RECLAIM_TENANTS_H
#define WEIR_TESTS_RECLAIM_TENANTS_H

#include "../fake/world.h"

static struct world w;
static struct weir_container *a, *b;

enum { PAGES = 512 };
static const struct world_options two = {.pages = {PAGES, PAGES}, .check_each = true};

static inline struct weir_container *tenant(struct weir_container *parent, const char *name)
{
	struct weir_container *c = NULL;

	assert_int_equal(weir_container_create(parent, name, &c), 0);
	return c;
}

/* A region of the world belongs to a container from now on. Nothing of it has been touched. */
static inline void belongs(unsigned region, struct weir_container *c)
{
	owners_set(&w.region[region]->owners, 0, c);
}

/* A world with a tenant a, who has region 0, and b with region 1; or with a alone. */
static inline void open_tenants(const struct world_options *options, unsigned count)
{
	world_open(&w, options);
	a = tenant(w.container, "a");
	belongs(0, a);
	b = count > 1 ? tenant(w.container, "b") : NULL;
	if (b)
		belongs(1, b);
}

/* The region's pages are charged to that one from now on. */
static inline void take_over(unsigned region, struct weir_container *c)
{
	int slot = region_owner_slot(w.region[region], c);

	assert_true(slot >= 0);
	owners_set(&w.region[region]->owners, (unsigned)slot, c);
	store_relaxed(&w.region[region]->owners.current, (uint32_t)slot);
}

static inline void write_some(unsigned region, uint32_t first, uint32_t count,
			      enum contents contents)
{
	static _Alignas(4096) char page[4096];

	for (uint32_t i = first; i < first + count; i++) {
		fill_as(page, contents, i + 1);
		world_write(&w, region, i, page);
	}
}

static inline uint64_t pages_of(struct weir_container *c)
{
	return container_usage(c, CHARGE_RESIDENT) >> PAGE_SHIFT;
}

static inline struct weir_events events_of(struct weir_container *c)
{
	struct weir_events e;

	weir_container_events(c, 1, &e);
	return e;
}

#endif
