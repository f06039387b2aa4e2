/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A zone high of 6 GiB, larger than a 32-bit process can map: every pageblock of it is written and read back through windows, and
 * frames of zone low beside it by their addresses. Ends with 0, or says what was wrong.
 *
 *     wide [SEED]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "weir/kmap.h"

#include "../random.h"

#define HIGH_BYTES GIB(6)
#define LOW_BYTES MIB(16)
#define PAGEBLOCKS ((unsigned)(HIGH_BYTES / MIB(2)))

static weir_pfn_t held[PAGEBLOCKS];

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                 \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static void online(struct weir_pool *pool, enum weir_zone zone, uint64_t bytes)
{
	const uint32_t blocks = (uint32_t)(bytes >> PAGE_SHIFT) / weir_pool_block_frames(pool);
	uint32_t first;

	CHECK(!weir_pool_add(pool, zone, blocks, &first));
	for (uint32_t i = 0; i < blocks; i++)
		CHECK(!weir_pool_online(pool, first + i, NULL));
}

/* A frame of the pageblock, another one for each. */
static weir_pfn_t frame_in(unsigned i)
{
	return held[i] + i * 97 % WEIR_POOL_PAGEBLOCK;
}

static void pattern(struct weir_kmap *kmap, unsigned i, uint64_t seed, bool write)
{
	void *addr;
	uint64_t *words;

	CHECK(!weir_kmap(kmap, frame_in(i), &addr));
	words = addr;
	seed += frame_in(i);
	for (unsigned w = 0; w < PAGE_SIZE / sizeof(*words); w += 64) {
		const uint64_t right = random_next(&seed);

		if (write)
			words[w] = right;
		else
			CHECK(words[w] == right);
	}
	CHECK(!weir_kunmap(kmap, addr));
}

int main(int argc, char **argv)
{
	const uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : now_ns();
	const struct weir_pool_options options = {.size = sizeof(options),
						  .low_max = LOW_BYTES,
						  .high_max = HIGH_BYTES,
						  .block = MIB(16)};
	struct weir_kmap_options windows = {.size = sizeof(windows)};
	struct weir_kmap_stats stats = {.size = sizeof(stats)};
	uint64_t order = seed;
	struct weir_kmap *kmap;
	int64_t low;
	void *addr;

	printf("%zu-bit, seed %" PRIu64 "\n", 8 * sizeof(void *), seed);
	CHECK(!weir_pool_create(&options, &windows.pool));
	CHECK(!weir_kmap_create(&windows, &kmap));
	online(windows.pool, WEIR_ZONE_LOW, LOW_BYTES);
	online(windows.pool, WEIR_ZONE_HIGH, HIGH_BYTES);
	low = weir_pool_alloc(windows.pool, 0, 0, 0);
	CHECK(low >= 0 && !weir_kmap(kmap, (weir_pfn_t)low, &addr));
	CHECK((char *)addr == (char *)weir_pool_base(windows.pool) + ((size_t)low << PAGE_SHIFT));
	memset(addr, 0x3c, PAGE_SIZE);
	CHECK(!weir_kunmap(kmap, addr));
	for (unsigned i = 0; i < PAGEBLOCKS; i++) {
		int64_t pfn = weir_pool_alloc(windows.pool, WEIR_POOL_ORDER_MAX, WEIR_POOL_HIGH, 0);

		CHECK(pfn >= 0);
		held[i] = (weir_pfn_t)pfn;
	}
	CHECK(weir_pool_alloc(windows.pool, 0, WEIR_POOL_HIGH, 0) < 0);
	for (unsigned i = 0; i < PAGEBLOCKS; i++)
		pattern(kmap, i, seed, true);
	for (unsigned i = 0; i < 2 * PAGEBLOCKS; i++)
		pattern(kmap, (unsigned)(random_next(&order) % PAGEBLOCKS), seed, false);
	CHECK(!weir_kmap_stats_read(kmap, &stats));
	printf("hits %" PRIu64 ", misses %" PRIu64 ", retired %" PRIu64 " in %" PRIu64 " flushes\n",
	       stats.hits, stats.misses, stats.retired, stats.flushes);
	CHECK(stats.misses > PAGEBLOCKS && stats.hits && stats.flushes && !stats.held);
	for (unsigned i = 0; i < PAGEBLOCKS; i++)
		CHECK(!weir_pool_free(windows.pool, held[i], WEIR_POOL_ORDER_MAX));
	CHECK(weir_pool_trim(windows.pool, 0) > 0 && !weir_pool_validate(windows.pool));
	CHECK(!weir_kmap_destroy(kmap));
	weir_pool_destroy(windows.pool);
	return 0;
}
