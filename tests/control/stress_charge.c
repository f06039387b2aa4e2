/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Charging among threads, against an oracle: each thread knows what it holds of each container, to the byte.
 *
 *   storm    threads charge and uncharge eight containers of three levels, from stocks and without; others give back what
 *            they charged; meanwhile limits move, stocks are drained, containers come and go
 *   small    a small charge that fits never fails because a large one beside it is refused
 *   lower    a limit that is lowered below usage refuses at once, and is kept again when what was charged is gone
 *   drain    one thread charges as fast as it can while another one drains
 *   stocks   threads come and go with stocks; what they leave is nothing
 *
 * stress_charge [--seed N] [--seconds S] [CASE]. Prints its seed.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/stock.h"
#include "../random.h"

#define CHECK(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "stress_charge: %s:%d: %s: ", __FILE__, __LINE__, #cond);  \
			fprintf(stderr, __VA_ARGS__);                                              \
			fprintf(stderr, "; seed %llu\n", (unsigned long long)seed);                \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

enum { THREADS = 6, TENANTS = 8, BOX = 64 };

static uint64_t seed;
static double seconds = 2;
static struct tree tree;
static struct weir_container *tenant[TENANTS];
static _Atomic bool stop;

static unsigned below(uint64_t *s, unsigned n)
{
	return (unsigned)((random_next(s) >> 32) * n >> 32);
}

/* --- the storm --- */

struct player {
	pthread_t thread;
	unsigned index;
	uint64_t charged, refused;
};

/* What is charged and not yet given back, per container: by whom does not matter. */
static _Atomic int64_t held[TENANTS];
/* Charges on their way to another thread: container + 1 << 32 | bytes; 0: empty. */
static _Atomic uint64_t box[BOX];
/* Containers whose max never moves: this one and the root. */
enum { FIXED = 3 };
static const uint64_t fixed_max = MIB(3), root_max = MIB(24);

static void give_back(unsigned t, uint64_t bytes)
{
	/* First out of the oracle, so that it never has more than the container. */
	sub_relaxed(&held[t], (int64_t)bytes);
	container_uncharge(tenant[t], CHARGE_RESIDENT, bytes);
}

/* At any moment: no more than max, and no more than peak. */
static void level_look(struct weir_container *c, uint64_t max)
{
	uint64_t now = weir_container_get(c, WEIR_CURRENT), peak = weir_container_get(c, WEIR_PEAK);

	CHECK(now <= peak && peak <= max, "charged %llu, peak %llu, max %llu",
	      (unsigned long long)now, (unsigned long long)peak, (unsigned long long)max);
}

static void storm_step(struct player *p, uint64_t *s, uint64_t mine[TENANTS])
{
	unsigned t = below(s, TENANTS);
	uint64_t bytes = below(s, 8) ? PAGE_SIZE : (1 + below(s, 200)) * PAGE_SIZE;

	switch (below(s, 8)) {
	case 0 ... 3:
		if (container_charge(tenant[t], CHARGE_RESIDENT, bytes)) {
			p->refused++;
			break;
		}
		add_relaxed(&held[t], (int64_t)bytes);
		mine[t] += bytes;
		p->charged++;
		break;
	case 4 ... 5:
		bytes = MIN(bytes, mine[t]);
		if (bytes)
			give_back(t, bytes);
		mine[t] -= bytes;
		break;
	default: {
		/* Another thread may uncharge it. */
		_Atomic uint64_t *place = &box[below(s, BOX)];
		uint64_t put = mine[t] >= PAGE_SIZE ? (uint64_t)(t + 1) << 32 | PAGE_SIZE : 0, got;

		if (put)
			mine[t] -= PAGE_SIZE;
		got = atomic_exchange(place, put);
		if (got)
			give_back((unsigned)(got >> 32) - 1, got & UINT32_MAX);
		break;
	}
	}
	level_look(tenant[FIXED], fixed_max);
	level_look(tree.root, root_max);
}

static void *storm_main(void *data)
{
	struct player *p = data;
	uint64_t s = seed + p->index, mine[TENANTS] = {0};

	/* Every third works without a stock. */
	if (p->index % 3)
		CHECK(!stock_open(), "no stock");
	while (!load_relaxed(&stop))
		storm_step(p, &s, mine);
	for (unsigned t = 0; t < TENANTS; t++) {
		if (mine[t])
			give_back(t, mine[t]);
	}
	stock_close();
	return NULL;
}

/* Limits move, stocks are drained, containers of its own come and go. */
static void govern(uint64_t *s)
{
	unsigned t = below(s, TENANTS);
	struct weir_container *own = NULL;

	if (t != FIXED)
		container_set_max(tenant[t], (1 + below(s, 16)) * MIB(1));
	if (below(s, 4) == 0)
		(void)stocks_drain(&tree, below(s, 2) ? tenant[t] : NULL, below(s, 2));
	CHECK(!weir_container_create(tenant[t], "own", &own), "create");
	if (container_charge(own, CHARGE_FILE, PAGE_SIZE) == 0) {
		container_uncharge(own, CHARGE_FILE, PAGE_SIZE);
		/* Left to the parent, which gives it back. */
		if (below(s, 2) && container_charge(own, CHARGE_FILE, 3 * PAGE_SIZE) == 0) {
			CHECK(!weir_container_delete(own), "delete");
			container_uncharge(tenant[t], CHARGE_FILE, 3 * PAGE_SIZE);
			return;
		}
	}
	CHECK(!weir_container_delete(own), "delete");
}

static void tenants_make(uint64_t max)
{
	CHECK(!tree_init(&tree, max), "tree");
	for (unsigned t = 0; t < TENANTS; t++) {
		struct weir_container *parent = t < 2 ? tree.root : tenant[t % 2];
		char name[8];

		(void)snprintf(name, sizeof(name), "t%u", t);
		CHECK(!weir_container_create(parent, name, &tenant[t]), "create");
	}
}

/* Every level has what the oracle says of it and those below. */
static void sums_check(void)
{
	(void)stocks_drain(&tree, NULL, true);
	for (struct weir_container *c = tree.root; c; c = container_next(tree.root, c)) {
		int64_t sum = 0;

		for (unsigned t = 0; t < TENANTS; t++)
			sum += container_below(tenant[t], c) ? load_relaxed(&held[t]) : 0;
		CHECK(load_relaxed(&c->charged) == sum &&
			      load_relaxed(&c->usage[CHARGE_RESIDENT]) == sum,
		      "container '%s': charged %lld, usage %lld, the oracle has %lld", c->name,
		      (long long)load_relaxed(&c->charged),
		      (long long)load_relaxed(&c->usage[CHARGE_RESIDENT]), (long long)sum);
	}
}

static void case_storm(void)
{
	const uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
	struct player player[THREADS] = {0};
	uint64_t s = seed ^ 0xabcdef, charged = 0, refused = 0, drains, missed;

	tenants_make(root_max);
	container_set_max(tenant[FIXED], fixed_max);
	CHECK(!stock_open(), "no stock");
	for (unsigned i = 0; i < THREADS; i++) {
		player[i].index = i;
		CHECK(!pthread_create(&player[i].thread, NULL, storm_main, &player[i]), "thread");
	}
	while (now_ns() < end)
		govern(&s);
	store_relaxed(&stop, true);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(player[i].thread, NULL);
		charged += player[i].charged;
		refused += player[i].refused;
	}
	sums_check();
	for (unsigned i = 0; i < BOX; i++) {
		uint64_t got = load_relaxed(&box[i]);

		if (got)
			give_back((unsigned)(got >> 32) - 1, got & UINT32_MAX);
	}
	stock_close();
	sums_check();
	CHECK(!container_charged(tree.root), "something is left");
	stock_drains(&drains, &missed);
	printf("%llu charged, %llu refused, %llu drains, %llu stocks passed over\n",
	       (unsigned long long)charged, (unsigned long long)refused, (unsigned long long)drains,
	       (unsigned long long)missed);
	CHECK(charged > 1000 && refused > 100 && drains > 100, "the run idled");
	tree_destroy(&tree);
}

/* --- a small charge beside a large one --- */

static void *large_main(void *data)
{
	_Atomic uint64_t *refused = data;

	while (!load_relaxed(&stop)) {
		CHECK(container_charge(tenant[5], CHARGE_RESIDENT, 60 * PAGE_SIZE),
		      "it cannot fit");
		add_relaxed(refused, 1);
	}
	return NULL;
}

static void case_small(void)
{
	const uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
	_Atomic uint64_t refused[2] = {0};
	uint64_t small = 0;
	pthread_t thread[2];

	tenants_make(GIB(1));
	/* 40 pages are free: the large charge fits its own level and fails at this one, the small ones fit. */
	container_set_max(tenant[1], 100 * PAGE_SIZE);
	container_force(tenant[1], CHARGE_RESIDENT, 60 * PAGE_SIZE);
	for (unsigned i = 0; i < 2; i++)
		CHECK(!pthread_create(&thread[i], NULL, large_main, &refused[i]), "thread");
	while (now_ns() < end || load_relaxed(&refused[0]) < 1000) {
		CHECK(!container_charge(tenant[7], CHARGE_RESIDENT, 40 * PAGE_SIZE),
		      "there was room");
		container_uncharge(tenant[7], CHARGE_RESIDENT, 40 * PAGE_SIZE);
		small++;
		sched_yield();
	}
	store_relaxed(&stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	printf("%llu small ones charged beside %llu large ones refused\n",
	       (unsigned long long)small,
	       (unsigned long long)(load_relaxed(&refused[0]) + load_relaxed(&refused[1])));
	container_uncharge(tenant[1], CHARGE_RESIDENT, 60 * PAGE_SIZE);
	CHECK(!container_charged(tree.root), "something is left");
	tree_destroy(&tree);
}

/* --- a limit lowered in a storm --- */

static _Atomic uint64_t lower_charged; /* (A) */

static void *lower_main(void *data)
{
	struct player *p = data;

	CHECK(!stock_open(), "no stock");
	while (!load_relaxed(&stop)) {
		if (container_charge(tenant[0], CHARGE_RESIDENT, PAGE_SIZE)) {
			p->refused++;
			sched_yield();
			continue;
		}
		add_relaxed(&lower_charged, 1);
		container_uncharge(tenant[0], CHARGE_RESIDENT, PAGE_SIZE);
	}
	stock_close();
	return NULL;
}

static void case_lower(void)
{
	const uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
	struct player player[THREADS] = {0};
	unsigned rounds = 0;

	tenants_make(GIB(1));
	for (unsigned i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&player[i].thread, NULL, lower_main, &player[i]), "thread");
	/* A busy machine needs longer until something has happened. */
	for (; now_ns() < end || rounds <= 10 || !load_relaxed(&lower_charged); rounds++) {
		uint64_t now;

		(void)weir_container_set(tenant[0], WEIR_MAX, MIB(64));
		sched_yield();
		/* Nothing but what is in a thread's hands, once the stocks have been drained. */
		(void)weir_container_set(tenant[0], WEIR_MAX, PAGE_SIZE);
		CHECK(container_charged(tenant[0]) <= THREADS * (2 * STOCK_BATCH + PAGE_SIZE),
		      "%llu", (unsigned long long)container_charged(tenant[0]));
		/* No batch is on its way to a stock either. */
		(void)stocks_drain(&tree, NULL, true);
		now = container_charged(tenant[0]);
		CHECK(now <= THREADS * PAGE_SIZE, "%llu", (unsigned long long)now);
	}
	store_relaxed(&stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(player[i].thread, NULL);
	CHECK(!container_charged(tree.root), "something is left");
	printf("%u rounds\n", rounds);
	tree_destroy(&tree);
}

/* --- one that charges and one that drains --- */

/* As fast as it can be: an update that the drainer misses, or undoes, is a sum that is wrong in the end. */
static void *fast_main(void *data)
{
	_Atomic uint64_t *pairs = data;

	CHECK(!stock_open(), "no stock");
	while (!load_relaxed(&stop)) {
		for (unsigned i = 0; i < 4096; i++) {
			CHECK(!charge_bytes(tenant[0], PAGE_SIZE), "there is room");
			uncharge_bytes(tenant[0], PAGE_SIZE);
		}
		add_relaxed(pairs, 4096);
	}
	stock_close();
	return NULL;
}

static void case_drain(void)
{
	const uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
	_Atomic uint64_t pairs = 0;
	uint64_t drains = 0;
	pthread_t thread;

	tenants_make(GIB(1));
	CHECK(!pthread_create(&thread, NULL, fast_main, (void *)&pairs), "thread");
	for (; now_ns() < end || !load_relaxed(&pairs); drains++) {
		(void)stocks_drain(&tree, NULL, true);
		/* The owner refills; the more often it does, the more there is to go wrong. */
		for (unsigned i = 0; i < 300; i++)
			cpu_relax();
	}
	store_relaxed(&stop, true);
	pthread_join(thread, NULL);
	CHECK(!container_charged(tree.root), "%llu are left after %llu drains",
	      (unsigned long long)container_charged(tree.root), (unsigned long long)drains);
	printf("%llu drains of %llu pairs\n", (unsigned long long)drains,
	       (unsigned long long)load_relaxed(&pairs));
	tree_destroy(&tree);
}

/* --- threads that come and go --- */

static void *visitor_main(void *data)
{
	struct weir_container *c = data;

	for (unsigned i = 0; i < 40; i++) {
		if (weir_charge(c, PAGE_SIZE) == 0)
			weir_uncharge(c, PAGE_SIZE);
	}
	return NULL;
}

static void case_stocks(void)
{
	const uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
	unsigned threads = 0;

	tenants_make(GIB(1));
	while (now_ns() < end) {
		pthread_t thread[THREADS];

		for (unsigned i = 0; i < THREADS; i++)
			CHECK(!pthread_create(&thread[i], NULL, visitor_main, tenant[i]), "thread");
		(void)stocks_drain(&tree, NULL, false);
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(thread[i], NULL);
		CHECK(!container_charged(tree.root), "%llu",
		      (unsigned long long)container_charged(tree.root));
		CHECK(!stock_bound(tenant[0]), "a stock stayed open");
		threads += THREADS;
	}
	printf("%u threads\n", threads);
	tree_destroy(&tree);
}

/* --- --- */

static void no_log(const char *line, size_t len)
{
	(void)line;
	(void)len;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
		{"storm", case_storm}, {"small", case_small},	{"lower", case_lower},
		{"drain", case_drain}, {"stocks", case_stocks},
	};
	const char *only = NULL;

	seed = now_ns();
	for (int i = 1; i < argc && argv[i]; i++) {
		if (!strcmp(argv[i], "--seed") && argv[i + 1])
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--seconds") && argv[i + 1])
			seconds = strtod(argv[++i], NULL);
		else
			only = argv[i];
	}
	log_set_sink(no_log);
	if (stock_open()) {
		printf("skipped: no membarrier here\n");
		return 77;
	}
	stock_close();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		if (only && strcmp(only, cases[i].name) != 0)
			continue;
		printf("%s, seed %llu\n", cases[i].name, (unsigned long long)seed);
		fflush(stdout);
		store_relaxed(&stop, false);
		memset((void *)held, 0, sizeof(held));
		memset((void *)box, 0, sizeof(box));
		cases[i].run();
	}
	return 0;
}
