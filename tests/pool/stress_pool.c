/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stress_pool [SECONDS [SEED]]: allocations, frees, isolation, ranges, trims, and blocks that come and go, by several threads
 * at once, with an oracle of one byte a frame: a frame has one holder at a time, and is never handed out while its
 * pageblock is isolated or its block is away. Contents follow their frame where it is moved.
 *
 * It fails if it idled: every kind of thing must have happened.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "os/thread.h"
#include "pool/pool.h"
#include "../random.h"

enum {
	BLOCKS = 8,
	BLOCK = 1024,
	FRAMES = BLOCKS * BLOCK,
	WORKERS = 3,
	HELD = 600,
	SLOTS = WORKERS * HELD,
};

/* Who a frame belongs to. AWAY: isolated for sure, or offline. */
enum { NOBODY, SOMEBODY, AWAY };

enum tally {
	GOT,
	FREED,
	MOVED,
	BUSY,
	ISOLATED,
	REFUSED_ISOLATION,
	ONLINED,
	OFFLINED,
	REFUSED,
	RANGES,
	TRIMMED,
	FULL,
	TALLIES
};
static const char *const tally_name[TALLIES] = {
	"allocated", "freed",	 "moved",	    "met busy", "isolated", "isolation refused",
	"onlined",   "offlined", "offline refused", "ranges",	"trimmed",  "full"};

/* What a worker holds; the private word of its frames is the index + 1. The lock is its holder's: migration takes it, too. */
struct slot {
	_Atomic uint32_t lock;
	bool live;
	weir_pfn_t pfn;
	unsigned order;
	uint64_t mark;
};

static struct weir_pool *pool;
static unsigned owner;
static struct slot slots[SLOTS];
static _Atomic uint8_t holder[FRAMES];
static _Atomic uint64_t tally[TALLIES];
static _Atomic bool stop;
static uint64_t first_seed;
static _Atomic uint32_t nobody_wakes; /* slept on for a while */

#define CHECK(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "stress_pool: seed %llu: %s:%d: %s: ",                     \
				(unsigned long long)first_seed, __FILE__, __LINE__, #cond);        \
			fprintf(stderr, __VA_ARGS__);                                              \
			fputc('\n', stderr);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static void count(enum tally what)
{
	add_relaxed(&tally[what], 1);
}

static unsigned below(uint64_t *seed, unsigned n)
{
	return (unsigned)(random_next(seed) % n);
}

/* --- the oracle --- */

static void oracle_take(weir_pfn_t pfn, unsigned order)
{
	for (weir_pfn_t i = pfn; i < pfn + (1u << order); i++) {
		uint8_t was = exchange_relaxed(&holder[i], SOMEBODY);

		CHECK(was == NOBODY, "pfn %u of order %u was handed out while it was %s", pfn,
		      order, was == AWAY ? "away" : "somebody's");
	}
}

static void oracle_give(weir_pfn_t pfn, unsigned order)
{
	for (weir_pfn_t i = pfn; i < pfn + (1u << order); i++) {
		uint8_t was = exchange_relaxed(&holder[i], NOBODY);

		CHECK(was == SOMEBODY, "pfn %u was freed and was not held", i);
	}
}

static void oracle_away(weir_pfn_t start, weir_pfn_t end, uint8_t from, uint8_t to)
{
	for (weir_pfn_t i = start; i < end; i++) {
		uint8_t was = exchange_relaxed(&holder[i], to);

		CHECK(was == from, "pfn %u is %u and not %u", i, was, from);
	}
}

/* --- what is in frames --- */

static uint64_t *words_of(weir_pfn_t pfn)
{
	return (uint64_t *)((char *)weir_pool_base(pool) + ((size_t)pfn << PAGE_SHIFT));
}

static void contents_write(const struct slot *s)
{
	for (weir_pfn_t i = 0; i < 1u << s->order; i++)
		*words_of(s->pfn + i) = s->mark + i;
}

static void contents_check(const struct slot *s)
{
	for (weir_pfn_t i = 0; i < 1u << s->order; i++)
		CHECK(*words_of(s->pfn + i) == s->mark + i, "frame %u of pfn %u has other contents",
		      i, s->pfn);
}

static bool slot_try(struct slot *s)
{
	/* Pairs with the release in slot_unlock. */
	return !exchange_acquire(&s->lock, 1);
}

static void slot_unlock(struct slot *s)
{
	store_release(&s->lock, 0);
}

static int migrate(void *data, weir_pfn_t from, unsigned order, uint64_t word, weir_pfn_t to)
{
	struct slot *s;
	int err = -ENOENT;

	(void)data;
	/* Just allocated, and not yet named. */
	if (!word)
		return -EAGAIN;
	s = &slots[word - 1];
	if (!slot_try(s)) {
		count(BUSY);
		return -EAGAIN;
	}
	if (s->live && s->pfn == from && s->order == order) {
		oracle_take(to, order);
		s->pfn = to;
		for (weir_pfn_t i = 0; i < 1u << order; i++)
			*words_of(to + i) = *words_of(from + i);
		oracle_give(from, order);
		count(MOVED);
		err = 0;
	}
	slot_unlock(s);
	return err;
}

/* --- workers: allocate and free --- */

static void slot_fill(struct slot *s, uint64_t *seed)
{
	const unsigned order = below(seed, 20) ? below(seed, 3) : below(seed, 7);
	const bool movable = below(seed, 40) != 0;
	int64_t pfn = weir_pool_alloc(pool, order, movable ? WEIR_POOL_MOVABLE : 0, owner);

	if (pfn < 0) {
		CHECK(pfn == -ENOMEM, "alloc: %lld", (long long)pfn);
		count(FULL);
		return;
	}
	oracle_take((weir_pfn_t)pfn, order);
	s->pfn = (weir_pfn_t)pfn;
	s->order = order;
	s->mark = random_next(seed);
	s->live = true;
	contents_write(s);
	weir_pool_private_set(pool, s->pfn, (uint64_t)(s - slots) + 1);
	count(GOT);
}

static void slot_empty(struct slot *s)
{
	contents_check(s);
	s->live = false;
	oracle_give(s->pfn, s->order);
	CHECK(!weir_pool_free(pool, s->pfn, s->order), "free of pfn %u", s->pfn);
	count(FREED);
}

static void *worker(void *arg)
{
	const unsigned index = (unsigned)(uintptr_t)arg;
	uint64_t seed = first_seed + index;
	struct slot *mine = &slots[index * HELD];

	for (unsigned step = 0; !load_relaxed(&stop); step++) {
		/* Unmovable frames are let go now and then, so that blocks can go. */
		struct slot *s = &mine[below(&seed, step / 5000 % 4 ? HELD : HELD / 20)];

		if (step % 3000 == 0)
			(void)thread_bind(0, (int)(below(&seed, thread_cpu_count())));
		if (!slot_try(s)) {
			sched_yield();
			continue;
		}
		if (s->live)
			slot_empty(s);
		else
			slot_fill(s, &seed);
		slot_unlock(s);
		if (step % 20000 == 19999) {
			for (struct slot *all = mine; all < mine + HELD; all++) {
				if (!slot_try(all))
					continue;
				if (all->live)
					slot_empty(all);
				slot_unlock(all);
			}
		}
	}
	return NULL;
}

/* --- the others --- */

static void isolation_try(uint64_t *seed)
{
	const weir_pfn_t start = below(seed, FRAMES / PAGEBLOCK) * PAGEBLOCK;
	const weir_pfn_t end = MIN(start + (1 + below(seed, 3)) * PAGEBLOCK, (weir_pfn_t)FRAMES);
	int err = weir_pool_isolate_range(pool, start, end, NULL);

	if (err) {
		CHECK(err == -EBUSY || err == -EINVAL, "isolate: %d", err);
		count(REFUSED_ISOLATION);
		return;
	}
	if (weir_pool_range_isolated(pool, start, end) == 1) {
		oracle_away(start, end, NOBODY, AWAY);
		sched_yield();
		oracle_away(start, end, AWAY, NOBODY);
	}
	err = weir_pool_undo_isolate_range(pool, start, end, below(seed, 4) ? -1 : WEIR_MOVABLE);
	CHECK(!err, "undo: %d", err);
	count(ISOLATED);
}

static void range_try(uint64_t *seed)
{
	const struct weir_pool_evacuation how = {.size = sizeof(how), .timeout_ns = 1000000};
	const weir_pfn_t start = below(seed, FRAMES - 1);
	const weir_pfn_t end = MIN(start + 1 + below(seed, 700), (weir_pfn_t)FRAMES);
	int err = weir_pool_alloc_range(pool, start, end, 0, &how, NULL);

	if (err) {
		CHECK(err == -EBUSY || err == -EINVAL || err == -ENOMEM, "alloc_range: %d", err);
		return;
	}
	oracle_away(start, end, NOBODY, SOMEBODY);
	oracle_away(start, end, SOMEBODY, NOBODY);
	err = weir_pool_free_range(pool, start, end);
	CHECK(!err, "free_range: %d", err);
	count(RANGES);
}

static void trim_try(uint64_t *seed)
{
	int64_t got = weir_pool_trim(pool, below(seed, 2000));

	CHECK(got >= 0, "trim: %lld", (long long)got);
	if (got)
		count(TRIMMED);
}

static void check(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	const struct weir_zone_stats *s = &stats.zone[0];

	CHECK(!weir_pool_stats_read(pool, &stats), "stats");
	CHECK(s->free + s->isolated + s->allocated + s->cached + s->offline == s->total,
	      "%llu free + %llu isolated + %llu allocated + %llu cached + %llu offline of %llu",
	      (unsigned long long)s->free, (unsigned long long)s->isolated,
	      (unsigned long long)s->allocated, (unsigned long long)s->cached,
	      (unsigned long long)s->offline, (unsigned long long)s->total);
	CHECK(!weir_pool_validate(pool), "validate");
}

static void *disturber(void *arg)
{
	uint64_t seed = first_seed + 1000 + (uintptr_t)arg;

	while (!load_relaxed(&stop)) {
		switch (below(&seed, 5)) {
		case 0:
		case 1:
			isolation_try(&seed);
			break;
		case 2:
			range_try(&seed);
			break;
		case 3:
			trim_try(&seed);
			break;
		default:
			check();
		}
		sched_yield();
	}
	return NULL;
}

static void block_try(uint64_t *seed)
{
	const struct weir_pool_evacuation how = {.size = sizeof(how), .timeout_ns = 3000000};
	const uint32_t block = below(seed, BLOCKS);
	const weir_pfn_t start = block * BLOCK, end = start + BLOCK;
	struct weir_block_info info;
	int err;

	CHECK(!weir_pool_block_read(pool, block, &info), "block_read");
	if (info.state == WEIR_BLOCK_OFFLINE) {
		oracle_away(start, end, AWAY, NOBODY);
		err = weir_pool_online(pool, block, NULL);
		CHECK(!err, "online: %d", err);
		count(ONLINED);
		return;
	}
	err = weir_pool_offline(pool, block, &how, NULL);
	if (err) {
		CHECK(err == -EBUSY || err == -ENOMEM, "offline: %d", err);
		count(REFUSED);
		return;
	}
	oracle_away(start, end, NOBODY, AWAY);
	count(OFFLINED);
}

static void *hotplugger(void *arg)
{
	uint64_t seed = first_seed + 2000;

	(void)arg;
	while (!load_relaxed(&stop)) {
		block_try(&seed);
		sched_yield();
	}
	return NULL;
}

/* --- */

static void pool_open(void)
{
	const struct weir_pool_options options = {.size = sizeof(options),
						  .low_max = FRAMES * PAGE_SIZE,
						  .block = WEIR_POOL_BLOCK_MIN,
						  .trim_delay_ms = 30};
	const struct weir_pool_owner us = {
		.size = sizeof(us), .name = "stress", .migrate = migrate};
	uint32_t first;

	CHECK(!weir_pool_create(&options, &pool), "create");
	CHECK(!weir_pool_add(pool, WEIR_ZONE_LOW, BLOCKS, &first), "add");
	for (uint32_t i = 0; i < BLOCKS; i++)
		CHECK(!weir_pool_online(pool, i, NULL), "online");
	owner = (unsigned)weir_pool_owner_add(pool, &us);
}

static void end_check(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	for (struct slot *s = slots; s < slots + SLOTS; s++) {
		if (s->live)
			slot_empty(s);
	}
	(void)weir_pool_trim(pool, 0);
	check();
	(void)weir_pool_stats_read(pool, &stats);
	CHECK(stats.zone[0].free + stats.zone[0].cached + stats.zone[0].offline == FRAMES,
	      "frames were lost");
	for (unsigned i = 0; i < TALLIES; i++)
		printf("%s %llu%s", tally_name[i], (unsigned long long)load_relaxed(&tally[i]),
		       i + 1 < TALLIES ? ", " : "\n");
	for (unsigned i = 0; i < TALLIES; i++)
		CHECK(i == FULL || i == BUSY || load_relaxed(&tally[i]),
		      "it idled: %s never happened", tally_name[i]);
}

int main(int argc, char **argv)
{
	void *(*const body[])(void *) = {worker, worker, worker, disturber, disturber, hotplugger};
	const uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 0) : 20;
	const uint64_t end = now_ns() + seconds * 1000000000;
	pthread_t thread[ARRAY_SIZE(body)];

	first_seed = argc > 2 ? strtoull(argv[2], NULL, 0) : now_ns();
	printf("seed %llu\n", (unsigned long long)first_seed);
	fflush(stdout);
	pool_open();
	for (uintptr_t i = 0; i < ARRAY_SIZE(body); i++)
		CHECK(!pthread_create(&thread[i], NULL, body[i], (void *)i), "pthread_create");
	while (now_ns() < end)
		(void)futex_wait(&nobody_wakes, 0, 10000000);
	store_relaxed(&stop, true);
	for (unsigned i = 0; i < ARRAY_SIZE(body); i++)
		pthread_join(thread[i], NULL);
	end_check();
	weir_pool_destroy(pool);
	return 0;
}
