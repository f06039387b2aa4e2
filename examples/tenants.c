/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tenants of one process, each with a container and a region of its own. Two stories:
 *
 *   low      three tenants with 200 MiB of working set each, under a parent whose max is 400 MiB. One of them has
 *            low = 210 MiB: it keeps its pages, and the others page.
 *   greedy   two tenants that fit, and a third that wants four times what it was given. Its max makes it page; the two keep
 *            their pages and their speed.
 *
 *     tenants [MIB [SECONDS]]      the working set of a tenant, 200 if not given, and how long to measure, 3
 *
 * Ends with 0 when the stories came out so, 1 when not, 77 where userfaultfd is not permitted.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <weir/weir.h>

enum { PAGE = 4096, TENANTS = 3 };

struct tenant {
	const char *name;
	struct weir_container *container;
	unsigned char *memory;
	uint64_t pages;
	pthread_t thread;
	_Atomic uint64_t accesses;
	atomic_bool filled, stop;
};

struct sample {
	uint64_t accesses, loads; /* loads: faults that brought pages back */
	double seconds;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void pause_for(double seconds)
{
	struct timespec t = {.tv_sec = (time_t)seconds,
			     .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};

	nanosleep(&t, NULL);
}

static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "tenants: %s: %s\n", what, strerror(-err));
	exit(err == -EPERM || err == -ENOSYS ? 77 : 1);
}

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

/* A page that compresses about 2:1 and says which one it is. */
static void page_fill(unsigned char *page, uint64_t number)
{
	uint64_t state = number;

	memset(page, 0, PAGE);
	for (unsigned i = 8; i < PAGE; i += 16) {
		uint64_t word = next_random(&state);

		memcpy(page + i, &word, 8);
	}
	memcpy(page, &number, 8);
}

/* Fills its memory, then reads pages at random, and writes to one in four. */
static void *tenant_main(void *arg)
{
	struct tenant *t = arg;
	uint64_t state = (uintptr_t)t;

	for (uint64_t i = 0; i < t->pages; i++)
		page_fill(t->memory + i * PAGE, i);
	atomic_store(&t->filled, true);
	while (!atomic_load_explicit(&t->stop, memory_order_relaxed)) {
		uint64_t i = next_random(&state) % t->pages, number;
		unsigned char *page = t->memory + i * PAGE;

		memcpy(&number, page, 8);
		if (number != i) {
			fprintf(stderr, "tenants: page %" PRIu64 " of '%s' reads as %" PRIu64 "\n",
				i, t->name, number);
			abort();
		}
		if (i % 4 == 0)
			page[8]++;
		atomic_fetch_add_explicit(&t->accesses, 1, memory_order_relaxed);
	}
	return NULL;
}

static void tenant_open(struct tenant *t, struct weir *weir, struct weir_container *parent,
			const char *name, uint64_t bytes)
{
	struct weir_region_options options = {.size = sizeof(options)};
	void *memory;

	memset(t, 0, sizeof(*t));
	t->name = name;
	t->pages = bytes / PAGE;
	must(weir_container_create(parent, name, &t->container), "creating a container");
	options.container = t->container;
	must(weir_region_create_with(weir, bytes, &options, &memory), "creating a region");
	t->memory = memory;
}

static void tenant_start(struct tenant *t)
{
	must(-pthread_create(&t->thread, NULL, tenant_main, t), "starting a thread");
}

static void tenant_wait_filled(struct tenant *t)
{
	while (!atomic_load(&t->filled))
		pause_for(0.01);
}

static void tenant_close(struct weir *weir, struct tenant *t)
{
	atomic_store(&t->stop, true);
	pthread_join(t->thread, NULL);
	must(weir_region_destroy(weir, t->memory), "destroying a region");
	must(weir_container_delete(t->container), "deleting a container");
}

static struct sample sample_of(struct tenant *t)
{
	struct weir_container_stat stat = {.size = sizeof(stat)};

	must(weir_container_stat(t->container, &stat), "reading statistics");
	return (struct sample){atomic_load(&t->accesses), stat.major_faults, now()};
}

/* What a tenant did in the meantime. Returns its loads in per cent of its accesses. */
static double report(struct tenant *t, const struct sample *before, double *per_s)
{
	struct sample after = sample_of(t);
	struct weir_pressure pressure;
	double accesses = (double)(after.accesses - before->accesses);
	double loads = (double)(after.loads - before->loads);
	double share = accesses > 0 ? loads * 100 / accesses : 100;

	weir_container_pressure(t->container, &pressure);
	*per_s = accesses / (after.seconds - before->seconds);
	printf("  %-8s %5" PRIu64 " MiB charged of %5" PRIu64
	       " wanted %12.0f accesses/s %8.3f %% came back "
	       "pressure %2u %%\n",
	       t->name, weir_container_get(t->container, WEIR_CURRENT) >> 20, t->pages * PAGE >> 20,
	       *per_s, share, pressure.some_avg10 / 100);
	return share;
}

/* --- the two stories --- */

static int story_low(struct weir *weir, uint64_t bytes, double seconds)
{
	static const char *const names[TENANTS] = {"kept", "second", "third"};
	struct tenant tenant[TENANTS];
	struct sample before[TENANTS];
	struct weir_container *parent;
	double share[TENANTS], per_s;
	int failed;

	must(weir_container_create(weir_container_root(weir), "low", &parent),
	     "creating a container");
	(void)weir_container_set(parent, WEIR_MAX, 2 * bytes);
	for (unsigned i = 0; i < TENANTS; i++)
		tenant_open(&tenant[i], weir, parent, names[i], bytes);
	must(weir_container_set(tenant[0].container, WEIR_LOW, bytes + bytes / 20), "setting low");
	for (unsigned i = 0; i < TENANTS; i++)
		tenant_start(&tenant[i]);
	for (unsigned i = 0; i < TENANTS; i++)
		tenant_wait_filled(&tenant[i]);
	/* Warm. */
	pause_for(seconds);
	for (unsigned i = 0; i < TENANTS; i++)
		before[i] = sample_of(&tenant[i]);
	pause_for(seconds);
	printf("low: three tenants under a max of %" PRIu64 " MiB, '%s' with low = %" PRIu64
	       " MiB\n",
	       2 * bytes >> 20, names[0], (bytes + bytes / 20) >> 20);
	for (unsigned i = 0; i < TENANTS; i++)
		share[i] = report(&tenant[i], &before[i], &per_s);
	for (unsigned i = 0; i < TENANTS; i++)
		tenant_close(weir, &tenant[i]);
	must(weir_container_delete(parent), "deleting the parent");
	failed = share[0] >= 1 || share[1] < 1 || share[2] < 1;
	printf("  %s: '%s' had %.3f %% of its accesses come back, below 1 %% is wanted; the others "
	       "paged\n\n",
	       failed ? "FAILED" : "as promised", names[0], share[0]);
	return failed;
}

static int story_greedy(struct weir *weir, uint64_t bytes, double seconds)
{
	static const char *const names[TENANTS] = {"first", "second", "greedy"};
	struct tenant tenant[TENANTS];
	struct sample before[TENANTS];
	struct weir_container *parent;
	double share[TENANTS], alone[TENANTS], beside[TENANTS];
	int failed;

	must(weir_container_create(weir_container_root(weir), "greedy", &parent),
	     "creating a container");
	(void)weir_container_set(parent, WEIR_MAX, 3 * bytes);
	for (unsigned i = 0; i < TENANTS; i++)
		tenant_open(&tenant[i], weir, parent, names[i], i < 2 ? bytes : 2 * bytes);
	(void)weir_container_set(tenant[2].container, WEIR_MAX, bytes / 2);
	for (unsigned i = 0; i < 2; i++)
		tenant_start(&tenant[i]);
	for (unsigned i = 0; i < 2; i++)
		tenant_wait_filled(&tenant[i]);
	for (unsigned i = 0; i < 2; i++)
		before[i] = sample_of(&tenant[i]);
	pause_for(seconds);
	printf("greedy: two tenants that fit, alone\n");
	for (unsigned i = 0; i < 2; i++)
		share[i] = report(&tenant[i], &before[i], &alone[i]);
	tenant_start(&tenant[2]);
	tenant_wait_filled(&tenant[2]);
	for (unsigned i = 0; i < TENANTS; i++)
		before[i] = sample_of(&tenant[i]);
	pause_for(seconds);
	printf("and beside one that wants four times its max of %" PRIu64 " MiB\n",
	       bytes / 2 >> 20);
	for (unsigned i = 0; i < TENANTS; i++)
		share[i] = report(&tenant[i], &before[i], &beside[i]);
	for (unsigned i = 0; i < TENANTS; i++)
		tenant_close(weir, &tenant[i]);
	must(weir_container_delete(parent), "deleting the parent");
	failed = share[0] >= 1 || share[1] >= 1 || share[2] < 1;
	/* Three threads share the CPUs that two had: a third of the speed may go to that alone. */
	printf("  %s: the two had %.3f and %.3f %% of their accesses come back, and %.0f %% of "
	       "their speed "
	       "(a third thread shares the CPUs)\n",
	       failed ? "FAILED" : "as promised", share[0], share[1],
	       (beside[0] + beside[1]) * 100 / (alone[0] + alone[1]));
	return failed;
}

int main(int argc, char **argv)
{
	const uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 200;
	const double seconds = argc > 2 ? strtod(argv[2], NULL) : 3;
	struct weir_options options = {.size = sizeof(options), .limit = mib * 8 << 20};
	struct weir *weir;
	int failed;

	if (mib < 4 || mib > 65536 || seconds <= 0) {
		fprintf(stderr, "Usage: tenants [MIB [SECONDS]]; at least 4 MiB\n");
		return 2;
	}
	must(weir_open(&options, &weir), "weir_open");
	failed = story_low(weir, mib << 20, seconds);
	failed |= story_greedy(weir, mib << 20, seconds);
	weir_close(weir);
	return failed;
}
