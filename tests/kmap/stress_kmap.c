/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * More threads than slots map, pair and unmap ranges of a file, and compare what they see with what they wrote.
 *
 *     stress_kmap THREADS SLOTS RANGES ROUNDS [SEED]
 *
 * with slots that are found by a table, and an eighth as many rounds with such that are hashed.
 *
 * Invariants: a held slot is never remapped (each thread has words of its own in each range, and knows what it wrote there
 * last); a range is in one slot at the most; no wake-up is lost (the rounds end); threads that need two slots each do
 * not block each other; counts are back at 1.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "kmap/kmap.h"
#include "os/mem.h"

#include "../random.h"

enum { THREADS_MOST = 32, RANGES_MOST = 4096, WORDS = 8 };

static struct weir_kmap *kmap;
static unsigned threads, ranges;
static uint64_t rounds;
static _Atomic bool failed;

struct worker {
	pthread_t thread;
	unsigned number;
	uint64_t seed, pairs;
	uint32_t wrote[RANGES_MOST];
};
static struct worker worker[THREADS_MOST];

static uint32_t pick(struct worker *w, uint32_t n)
{
	return (uint32_t)((random_next(&w->seed) >> 32) * n >> 32);
}

static void fail_at(const struct worker *w, uint32_t key, const char *what)
{
	fprintf(stderr, "thread %u, range %" PRIu32 ": %s\n", w->number, key, what);
	store_relaxed(&failed, true);
}

/* Word 0 says which range it is; a thread's own words follow, all alike. */
static void look(struct worker *w, uint32_t key, char *addr)
{
	const uint32_t *is = (const uint32_t *)(void *)addr;
	uint32_t *mine = (uint32_t *)(void *)addr + 64 + w->number * WORDS;

	if (*is != key + 1)
		fail_at(w, key, "the window shows another range");
	for (unsigned i = 0; i < WORDS; i++) {
		if (mine[i] != w->wrote[key])
			fail_at(w, key, "not what this thread wrote there last");
	}
	w->wrote[key]++;
	for (unsigned i = 0; i < WORDS; i++)
		mine[i] = w->wrote[key];
	if (*is != key + 1 || mine[0] != w->wrote[key])
		fail_at(w, key, "the window was remapped while it was held");
	if (weir_kmap_address(kmap, key << kmap->order) != addr)
		fail_at(w, key, "a second slot has the range");
}

static void put(struct worker *w, uint32_t key, const void *addr)
{
	if (weir_kunmap(kmap, addr))
		fail_at(w, key, "kunmap failed");
}

static void one(struct worker *w, unsigned how)
{
	const uint32_t key = pick(w, ranges);
	const weir_pfn_t pfn = key << kmap->order;
	void *addr;
	int err = how == 0   ? weir_kmap_try(kmap, pfn, &addr)
		  : how == 1 ? weir_kmap_fault(kmap, pfn, &addr)
			     : weir_kmap(kmap, pfn, &addr);

	if (err == -EAGAIN && how == 0)
		return;
	if (err) {
		fail_at(w, key, "kmap failed");
		return;
	}
	look(w, key, addr);
	put(w, key, addr);
}

static void two(struct worker *w)
{
	const uint32_t key[2] = {pick(w, ranges), pick(w, ranges)};
	const weir_pfn_t pfn[2] = {key[0] << kmap->order, key[1] << kmap->order};
	void *addr[2];

	if (weir_kmap_pair(kmap, pfn, addr)) {
		fail_at(w, key[0], "kmap of a pair failed");
		return;
	}
	look(w, key[0], addr[0]);
	look(w, key[1], addr[1]);
	put(w, key[0], addr[0]);
	put(w, key[1], addr[1]);
	w->pairs++;
}

static void *work(void *data)
{
	struct worker *w = data;

	for (uint64_t i = 0; i < rounds / threads && !load_relaxed(&failed); i++) {
		const unsigned how = pick(w, 8);

		if (how == 7)
			two(w);
		else
			one(w, how);
	}
	return NULL;
}

static int fill(int fd)
{
	const size_t bytes = (size_t)ranges << kmap->shift;
	char *all = mem_shared_map(fd, bytes);

	if (!all)
		return -ENOMEM;
	for (uint32_t key = 0; key < ranges; key++)
		*(uint32_t *)(void *)(all + ((size_t)key << kmap->shift)) = key + 1;
	mem_release(all, bytes);
	return 0;
}

static int finish(uint64_t seed)
{
	struct weir_kmap_stats s = {.size = sizeof(s)};
	uint64_t pairs = 0;

	for (unsigned i = 0; i < threads; i++)
		pairs += worker[i].pairs;
	if (weir_kmap_stats_read(kmap, &s) || s.held) {
		fprintf(stderr, "%" PRIu64 " holds are left\n", s.held);
		store_relaxed(&failed, true);
	}
	printf("seed %" PRIu64 ", %s: %" PRIu64 " rounds (%" PRIu64 " pairs) of %u threads on %u "
	       "slots, %u ranges: hits %" PRIu64 ", misses %" PRIu64 ", retired %" PRIu64
	       ", flushes %" PRIu64 ", waits %" PRIu64 ", busy %" PRIu64 ", races %" PRIu64 "\n",
	       seed, kmap->table ? "table" : "hash", rounds, pairs, threads, kmap->slots, ranges,
	       s.hits, s.misses, s.retired, s.flushes, s.waits, s.busy, s.races);
	if (weir_kmap_destroy(kmap)) {
		fprintf(stderr, "a slot is not free at the end\n");
		store_relaxed(&failed, true);
	}
	return load_relaxed(&failed);
}

static int run(unsigned slots, unsigned flags, uint64_t seed)
{
	const uint64_t bytes = (uint64_t)ranges * PAGE_SIZE;
	struct weir_kmap_options options = {.size = sizeof(options),
					    .fd = mem_file_open(bytes),
					    .bytes = bytes,
					    .slots = slots,
					    .slot_bytes = PAGE_SIZE,
					    .flags = flags};
	int failures;

	if (options.fd < 0 || weir_kmap_create(&options, &kmap) || fill(options.fd)) {
		fprintf(stderr, "no windows: bad arguments, or no memory\n");
		return 1;
	}
	for (unsigned i = 0; i < threads; i++) {
		worker[i] = (struct worker){.number = i, .seed = seed + i * 77777 + 1};
		if (pthread_create(&worker[i].thread, NULL, work, &worker[i]))
			return 1;
	}
	for (unsigned i = 0; i < threads; i++)
		pthread_join(worker[i].thread, NULL);
	failures = finish(seed);
	mem_file_close(options.fd);
	return failures;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 5 ? strtoull(argv[5], NULL, 0) : now_ns();
	unsigned slots;

	if (argc < 5) {
		fprintf(stderr, "Usage: %s THREADS SLOTS RANGES ROUNDS [SEED]\n", argv[0]);
		return 2;
	}
	threads = (unsigned)strtoul(argv[1], NULL, 0);
	slots = (unsigned)strtoul(argv[2], NULL, 0);
	ranges = (unsigned)strtoul(argv[3], NULL, 0);
	rounds = strtoull(argv[4], NULL, 0);
	if (!threads || threads > THREADS_MOST || !ranges || ranges > RANGES_MOST) {
		fprintf(stderr, "at most %d threads and %d ranges\n", THREADS_MOST, RANGES_MOST);
		return 2;
	}
	if (run(slots, WEIR_KMAP_TABLED, seed))
		return 1;
	/* Only how a slot is found differs. */
	rounds /= 8;
	return run(slots, WEIR_KMAP_HASHED, seed);
}
