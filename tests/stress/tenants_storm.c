/* SPDX-License-Identifier: BSD-2-Clause */
/* The case storm: see stress_tenants.c. */
#include <pthread.h>
#include <unistd.h>

#include "tenants.h"

/* Beyond the pages whose contents are known, some that are touched by one thread and discarded by another at any moment: the
 * oracle of these is that nothing of them stays charged. */
enum { STORM_PAGES = 1024, WILD_PAGES = 64 };

struct area {
	unsigned char *memory;
	uint64_t version[STORM_PAGES];
	struct weir_container *container;
	pthread_t thread;
	unsigned index;
	uint64_t touches;
};

static void *area_main(void *data)
{
	struct area *a = data;
	uint64_t s = seed + a->index;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		unsigned page = below(&s, STORM_PAGES);
		unsigned char *at = a->memory + (size_t)page * PAGE;

		if (a->version[page])
			page_check(at, page, a->version[page], page % 3 == 0);
		if (below(&s, 3) == 0)
			page_write(at, page, ++a->version[page], page % 3 == 0);
		if (below(&s, 4) == 0)
			page_write(a->memory + (STORM_PAGES + (size_t)below(&s, WILD_PAGES)) * PAGE,
				   page, 1, page % 2 == 0);
		a->touches++;
	}
	return NULL;
}

static void govern(struct weir *weir, struct area area[TENANTS],
		   struct weir_container *box[TENANTS], uint64_t *s)
{
	struct area *a = &area[below(s, TENANTS)];
	unsigned to = below(s, TENANTS);
	char name[16];
	int err;

	switch (below(s, 6)) {
	case 0:
		(void)weir_container_set(box[to], WEIR_MAX, MIB(1 + below(s, 4)));
		break;
	case 1:
		(void)weir_container_set(box[to], WEIR_LOW, MIB(below(s, 3)));
		(void)weir_container_set(box[to], WEIR_HIGH,
					 below(s, 2) ? MIB(1 + below(s, 3)) : WEIR_NO_LIMIT);
		break;
	case 2:
		err = weir_region_move(weir, a->memory, box[to],
				       below(s, 2) ? WEIR_MOVE_PAGES : WEIR_MOVE_LATER);
		CHECK(!err || err == -ENOMEM || err == -ENOSPC, "move: %s", strerrorname_np(-err));
		break;
	case 3:
		(void)weir_container_reclaim(box[to], MIB(below(s, 2)));
		break;
	default:
		/* Its regions and pages go to the parent, and a new one takes its place. */
		(void)snprintf(name, sizeof(name), "t%u-%u", to, below(s, 1000000));
		CHECK(!weir_container_delete(box[to]), "delete");
		box[to] = child_of(weir_container_root(weir), name, MIB(1 + below(s, 4)));
		CHECK(!weir_region_move(weir, a->memory, box[to], WEIR_MOVE_LATER) || true, "move");
		break;
	}
	to = below(s, WILD_PAGES);
	CHECK(!weir_region_discard(weir, a->memory + (STORM_PAGES + (size_t)to) * PAGE,
				   (uint64_t)(WILD_PAGES - to) * PAGE),
	      "discard");
	if (below(s, 4) == 0)
		(void)weir_container_set(weir_container_root(weir), WEIR_MAX, MIB(4 + below(s, 8)));
}

static bool idle(struct weir_container *root, uint64_t rounds)
{
	struct weir_container_stat stat = {.size = sizeof(stat)};

	CHECK(!weir_container_stat(root, &stat), "stat");
	return !stat.stolen || stat.major_faults < 1000 || rounds < 6;
}

void case_storm(void)
{
	struct weir *weir = open_or_skip(MIB(8));
	struct weir_container *root = weir_container_root(weir), *box[TENANTS];
	static struct area area[TENANTS];
	uint64_t s = seed, touches = 0, rounds = 0;
	double end = now() + seconds;
	struct weir_container_stat stat = {.size = sizeof(stat)};
	char name[16];

	memset(area, 0, sizeof(area));
	for (unsigned i = 0; i < TENANTS; i++) {
		void *memory;

		(void)snprintf(name, sizeof(name), "t%u", i);
		box[i] = child_of(root, name, MIB(3));
		CHECK(!region_in(weir, box[i], (uint64_t)(STORM_PAGES + WILD_PAGES) * PAGE,
				 &memory),
		      "region");
		area[i].memory = memory;
		area[i].index = i;
		CHECK(!pthread_create(&area[i].thread, NULL, area_main, &area[i]), "thread");
	}
	/* On a machine that is busy with other things, until something has happened. */
	for (; now() < end || (idle(root, rounds) && now() < end + 30); rounds++) {
		govern(weir, area, box, &s);
		usleep(500);
	}
	CHECK(!idle(root, rounds), "the run idled");
	atomic_store(&stop, true);
	for (unsigned i = 0; i < TENANTS; i++) {
		pthread_join(area[i].thread, NULL);
		touches += area[i].touches;
		for (unsigned page = 0; page < STORM_PAGES; page++) {
			if (area[i].version[page])
				page_check(area[i].memory + (size_t)page * PAGE, page,
					   area[i].version[page], page % 3 == 0);
		}
	}
	CHECK(!weir_container_stat(root, &stat), "stat");
	for (unsigned i = 0; i < TENANTS; i++)
		CHECK(!weir_region_destroy(weir, area[i].memory), "destroy");
	drain(weir);
	CHECK(!used(weir) && !weir_container_get(root, WEIR_SWAP_CURRENT),
	      "%" PRIu64 " and %" PRIu64 " are left", used(weir),
	      weir_container_get(root, WEIR_SWAP_CURRENT));
	for (unsigned i = 0; i < TENANTS; i++) {
		/* What was deleted left nothing behind, and what moved was taken off. */
		CHECK(!current(box[i]), "%" PRIu64, current(box[i]));
		CHECK(!weir_container_delete(box[i]), "delete");
	}
	weir_close(weir);
	printf("%" PRIu64 " touches, %" PRIu64 " rounds, %" PRIu64 " pages stolen\n", touches,
	       rounds, stat.stolen);
}
