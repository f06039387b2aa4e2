/* SPDX-License-Identifier: BSD-2-Clause */
/* What happens at max, high and swap.max, the cases oom, high and swap: see stress_tenants.c. */
#include "tenants.h"
#include "weir/cmdq_engine.h"

static _Atomic unsigned asked;

static enum weir_oom over_once(void *data, struct weir_container *c, uint64_t bytes)
{
	(void)data;
	(void)c;
	(void)bytes;
	return atomic_fetch_add(&asked, 1) ? WEIR_OOM_FAIL : WEIR_OOM_OVER;
}

void case_oom(void)
{
	struct weir *weir = open_or_skip(MIB(64));
	struct weir_container *a = child_of(weir_container_root(weir), "a", MIB(1));
	struct weir_events events;
	unsigned char *memory;
	void *addr;

	/* Its own memory fills the limit: nothing that reclaim could take. */
	CHECK(!weir_charge(a, MIB(1)), "charge");
	CHECK(!region_in(weir, a, MIB(1), &addr), "region");
	memory = addr;
	CHECK(touch_is_bus(memory, true), "a page came over the limit");
	CHECK(weir_charge(a, PAGE) == -ENOMEM, "and more");
	weir_container_events(a, 1, &events);
	CHECK(events.oom >= 2 && events.max >= 2, "%" PRIu64 " and %" PRIu64, events.oom,
	      events.max);
	weir_container_on_oom(a, over_once, NULL);
	page_write(memory + PAGE, 1, 1, true);
	page_check(memory + PAGE, 1, 1, true);
	/* Once for the first touch; again where the page was taken in the background and comes back. */
	CHECK(atomic_load(&asked) >= 1, "it was not asked");
	/* There is room again; the poison stays until the page is discarded. */
	weir_uncharge(a, MIB(1));
	drain(weir);
	/* A page, its copy if the background was at it meanwhile, or both. */
	CHECK(current(a) && current(a) < 2 * PAGE, "%" PRIu64, current(a));
	CHECK(touch_is_bus(memory, false), "still poisoned");
	CHECK(!weir_region_discard(weir, memory, PAGE), "discard");
	CHECK(!touch_is_bus(memory, false) && !*memory, "zeroes");
	CHECK(!weir_region_destroy(weir, memory), "destroy");
	drain(weir);
	CHECK(!current(a), "%" PRIu64, current(a));
	weir_close(weir);
}

static void fill(unsigned char *memory, unsigned pages, bool noise)
{
	for (unsigned i = 0; i < pages; i++)
		page_write(memory + (size_t)i * PAGE, i, 1, noise);
	for (unsigned i = 0; i < pages; i++)
		page_check(memory + (size_t)i * PAGE, i, 1, noise);
}

void case_high(void)
{
	struct weir *weir = open_or_skip(MIB(256));
	struct weir_container *a = child_of(weir_container_root(weir), "a", WEIR_NO_LIMIT);
	struct weir_events events;
	void *memory;

	CHECK(!weir_container_set(a, WEIR_HIGH, MIB(4)), "high");
	CHECK(!region_in(weir, a, MIB(32), &memory), "region");
	fill(memory, MIB(32) / PAGE, false);
	weir_container_events(a, 1, &events);
	CHECK(events.high > 0 && !events.max && !events.oom, "high %" PRIu64, events.high);
	/* It is no hard limit: half of what is wanted is far above what it comes to. */
	CHECK(weir_container_get(a, WEIR_PEAK) < MIB(16), "peak %" PRIu64,
	      weir_container_get(a, WEIR_PEAK));
	weir_close(weir);
}

void case_swap(void)
{
	struct weir *weir = open_or_skip(MIB(64));
	struct weir_container *a = child_of(weir_container_root(weir), "a", MIB(4));
	struct weir_container *b = child_of(weir_container_root(weir), "b", MIB(4));
	void *mine, *theirs;

	CHECK(!weir_container_set(a, WEIR_SWAP_MAX, 0), "swap.max");
	CHECK(!region_in(weir, a, MIB(6), &mine) && !region_in(weir, b, MIB(16), &theirs),
	      "regions");
	fill(mine, MIB(6) / PAGE, false);
	fill(theirs, MIB(16) / PAGE, true);
	CHECK(!weir_container_get(a, WEIR_SWAP_CURRENT), "a page of it went to the file");
	CHECK(weir_container_get(b, WEIR_SWAP_CURRENT) > MIB(8), "none of the other's did");
	weir_close(weir);
}

/* Memory for packets is the container's that it is asked for, up to its max. */
void case_packets(void)
{
	struct weir *weir = open_or_skip(MIB(64));
	struct weir_container *a = child_of(weir_container_root(weir), "a", 2 * PAGE);
	struct cmdq_buffer_ops ops;
	struct cmdq_buffer two, more;

	weir_packet_buffers(weir, &ops);
	CHECK(!ops.alloc(ops.data, a, 2 * PAGE, &two), "two pages");
	memset(two.addr, 1, 2 * PAGE);
	CHECK(current(a) == 2 * PAGE, "%" PRIu64, current(a));
	CHECK(ops.alloc(ops.data, a, PAGE, &more) == -ENOMEM, "a third one");
	ops.free(ops.data, a, &two);
	drain(weir);
	CHECK(!current(a) && !used(weir), "%" PRIu64 " and %" PRIu64, current(a), used(weir));
	CHECK(!ops.alloc(ops.data, NULL, PAGE, &more), "one for the root");
	CHECK(used(weir) >= PAGE, "%" PRIu64, used(weir));
	ops.free(ops.data, NULL, &more);
	weir_close(weir);
}
