/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stress_stores [SEED]: the store of an instance is replaced, again and again (a file, one with a name, one that completes late and out of order,
 * none), while threads write and read more than fits, containers come and go, and the process forks. Every word that is read is what
 * was written, every replacement says the truth, and at the end nothing is left anywhere.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../fake/store.h"
#include "../random.h"
#include "access.h"
#include "base/atomic.h"
#include "weir/weir.h"

enum { THREADS = 2, PAGES = 4096, WORDS = 512, ROUNDS = 12, SKIP = 77 };

#define CHECK(true_, ...)                                                                          \
	do {                                                                                       \
		if (!(true_)) {                                                                    \
			fprintf(stderr, "stress_stores: " __VA_ARGS__);                            \
			fprintf(stderr, "; seed %llu\n", (unsigned long long)seed);                \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static uint64_t seed;
static _Atomic bool stop;
static _Atomic uint64_t touched;
static uint64_t *area[THREADS];
static uint32_t version[THREADS][PAGES];

static uint64_t word_of(unsigned thread, uint32_t page, unsigned i)
{
	uint64_t x = ((uint64_t)thread << 56 ^ (uint64_t)page << 32 ^ version[thread][page]) *
		     0x9e3779b97f4a7c15;

	/* As compressible as text. */
	return i % 3 ? x : x * (i | 1);
}

static uint32_t random_below(uint64_t *state, uint32_t end)
{
	return (uint32_t)(random_next(state) % end);
}

static bool page_right(unsigned thread, uint32_t page, unsigned step)
{
	uint64_t seen[WORDS];
	bool right = true;

	access_copy(seen, area[thread] + (size_t)page * WORDS, sizeof(seen));
	for (unsigned i = 0; i < WORDS; i += step)
		right = right && seen[i] == word_of(thread, page, i);
	return right;
}

static void page_write(unsigned thread, uint32_t page)
{
	uint64_t next[WORDS];

	version[thread][page]++;
	for (unsigned i = 0; i < WORDS; i++)
		next[i] = word_of(thread, page, i);
	access_copy(area[thread] + (size_t)page * WORDS, next, sizeof(next));
}

static void *work(void *data)
{
	const unsigned self = (unsigned)(uintptr_t)data;
	uint64_t mine = seed + self;

	while (!load_relaxed(&stop)) {
		const uint32_t page = random_below(&mine, PAGES);

		CHECK(!version[self][page] || page_right(self, page, 7), "page %u of %u is wrong",
		      page, self);
		if (random_below(&mine, 2))
			page_write(self, page);
		add_relaxed(&touched, 1);
	}
	return NULL;
}

static void tenant_comes_and_goes(struct weir *weir)
{
	static char some[1 << 20];
	struct weir_container *tenant;
	char byte = 0;
	void *addr;

	memset(some, 0x5a, sizeof(some));
	CHECK(!weir_container_create(weir_container_root(weir), "tenant", &tenant), "no container");
	CHECK(!weir_region_create(weir, 1 << 20, &addr), "no region");
	CHECK(!weir_region_move(weir, addr, tenant, WEIR_MOVE_PAGES), "it does not move");
	access_copy(addr, some, sizeof(some));
	CHECK(!weir_container_delete(tenant), "it does not go");
	access_copy(&byte, (char *)addr + 12345, 1);
	CHECK(byte == 0x5a, "a byte is wrong");
	CHECK(!weir_region_destroy(weir, addr), "no end of it");
}

static uint64_t expected(unsigned thread, uint32_t page, unsigned i)
{
	return version[thread][page] ? word_of(thread, page, i) : 0;
}

/* In a child. Each thread may have been in the middle of one page: there, what was before is right, too. */
static bool all_as_they_were(unsigned thread)
{
	unsigned torn = 0;

	for (uint32_t page = 0; page < PAGES; page++) {
		const uint64_t *at = area[thread] + (size_t)page * WORDS;
		bool whole = true;

		for (unsigned i = 0; i < WORDS; i++) {
			if (at[i] == expected(thread, page, i))
				continue;
			whole = false;
			if (!version[thread][page])
				return false;
			version[thread][page]--;
			if (at[i] != expected(thread, page, i))
				return false;
			version[thread][page]++;
		}
		torn += !whole;
	}
	return torn <= 1;
}

static void child_sees_all(struct weir *weir)
{
	int status;
	pid_t child;

	CHECK(!weir_before_fork(weir), "before the fork");
	child = fork();
	if (!child)
		_exit(all_as_they_were(0) && all_as_they_were(1) ? 0 : 1);
	weir_after_fork(weir);
	CHECK(child > 0 && waitpid(child, &status, 0) == child && !status, "the child fails");
}

static uint64_t stored(struct weir *weir)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	(void)weir_stats_read(weir, &stats);
	return stats.stored;
}

int main(int argc, char **argv)
{
	const uint64_t limit = 6 << 20;
	struct weir_options options = {
		.size = sizeof(options), .limit = limit, .compressed_share = 2 << 20};
	char named[64];
	const char *uris[] = {"mem:", NULL, "test:", "file:/var/tmp", named};
	unsigned done = 0, refused = 0;
	uint64_t draw;
	pthread_t thread[THREADS];
	struct weir *weir;
	int err;

	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)getpid();
	draw = seed;
	snprintf(named, sizeof(named), "file:/var/tmp/weir-stress-%d?size=1G", (int)getpid());
	test_store_reset();
	test_store_plan.threads = true;
	err = weir_open(&options, &weir);
	if (err == -EPERM || err == -ENOSYS) {
		printf("not tested: %s\n", weir_advice(err));
		return SKIP;
	}
	CHECK(!err, "weir_open: %d", err);
	for (unsigned i = 0; i < THREADS; i++) {
		void *addr;

		CHECK(!weir_region_create(weir, (uint64_t)PAGES * WORDS * 8, &addr), "no region");
		area[i] = addr;
		CHECK(!pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)i), "no thread");
	}
	/* Each kind of store in its turn, and none where it fits; until pages have gone to each. */
	for (unsigned round = 0; round < ROUNDS; round++) {
		const char *uri = uris[round % 5];
		const uint64_t before = load_relaxed(&touched);
		bool roomy;

		while (round && load_relaxed(&touched) < before + 2000)
			sched_yield();
		roomy = random_below(&draw, 3) > 0;
		CHECK(!weir_set_limit(weir, roomy ? 64 << 20 : limit), "no limit");
		err = weir_store_replace(weir, uri);
		CHECK(!err || (err == -ENOMEM && !roomy), "%s: %d", uri ? uri : "default", err);
		done += !err;
		refused += err != 0;
		CHECK(!weir_set_limit(weir, limit), "no limit");
		CHECK(weir_store_replace(weir, "nbd://x") == -ENOSYS, "a module that is not there");
		tenant_comes_and_goes(weir);
		if (round == ROUNDS / 2)
			child_sees_all(weir);
	}
	CHECK(!weir_set_limit(weir, 64 << 20), "no limit");
	CHECK(!weir_store_replace(weir, "mem:"), "the last one stays");
	CHECK(!stored(weir) && !test_store_pages() && !test_store_open(),
	      "something is left there");
	store_relaxed(&stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	for (unsigned t = 0; t < THREADS; t++) {
		for (uint32_t page = 0; page < PAGES; page++)
			CHECK(!version[t][page] || page_right(t, page, 1),
			      "page %u of %u is wrong at the end", page, t);
	}
	weir_close(weir);
	CHECK(done > 4, "it idled: %u done, %u refused", done, refused);
	printf("%u replaced, %u refused, seed %llu\n", done, refused, (unsigned long long)seed);
	return 0;
}
