/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The compressed store in zone high: objects are reached through 4 windows; what it holds is right, compaction copies by
 * pairs, and where the system gives no window nothing is lost and nothing is left behind.
 *
 * The linker puts the function below in place of the real one.
 */
#include "../unit.h"

#include "os/mem.h"
#include "store/compressed.h"

enum { OBJECTS = 3000 };

static unsigned maps, fail_from, fail_count; /* so many calls fail, from that one on */

int __real_mem_window_map(void *addr, size_t bytes, int fd, uint64_t offset);
int __wrap_mem_window_map(void *addr, size_t bytes, int fd, uint64_t offset);

int __wrap_mem_window_map(void *addr, size_t bytes, int fd, uint64_t offset)
{
	maps++;
	if (maps >= fail_from && maps < fail_from + fail_count)
		return -ENOMEM;
	return __real_mem_window_map(addr, bytes, fd, offset);
}

static void fail_next(unsigned count)
{
	fail_from = maps + 1;
	fail_count = count;
}

static struct {
	struct weir_pool *pool;
	struct weir_kmap *kmap;
	struct compressed store;
	slot_t slot[OBJECTS];
	uint16_t size[OBJECTS]; /* 0: none */
	unsigned moved;
} f;

static void open_high(void)
{
	const struct weir_pool_options options = {.size = sizeof(options),
						  .high_max = MIB(16),
						  .block = WEIR_POOL_BLOCK_MIN,
						  .cache_frames = WEIR_POOL_NO_CACHE};
	struct weir_kmap_options windows = {.size = sizeof(windows), .slots = 4};
	uint32_t first;

	memset(&f, 0, sizeof(f));
	maps = fail_from = fail_count = 0;
	assert_int_equal(weir_pool_create(&options, &f.pool), 0);
	assert_int_equal(weir_pool_add(f.pool, WEIR_ZONE_HIGH, 4, &first), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(weir_pool_online(f.pool, first + i, NULL), 0);
	windows.pool = f.pool;
	assert_int_equal(weir_kmap_create(&windows, &f.kmap), 0);
	assert_int_equal(compressed_init(&f.store, f.pool), 0);
	assert_int_equal(f.store.zone, WEIR_ZONE_HIGH);
	compressed_kmap_set(&f.store, f.kmap);
}

static void close_high(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	for (unsigned i = 0; i < OBJECTS; i++) {
		if (f.size[i])
			compressed_free(&f.store, f.slot[i]);
	}
	assert_int_equal(compressed_validate(&f.store), 0);
	assert_int_equal(load_relaxed(&f.store.class_bytes), 0);
	assert_int_equal(weir_pool_stats_read(f.pool, &stats), 0);
	assert_int_equal(stats.zone[WEIR_ZONE_HIGH].allocated, 0);
	compressed_destroy(&f.store);
	/* Every window was let go. */
	assert_int_equal(weir_kmap_destroy(f.kmap), 0);
	weir_pool_destroy(f.pool);
}

static void make(unsigned i, char room[OBJECT_MAX])
{
	struct object *obj = (struct object *)(void *)room;
	uint64_t seed = i + 1;

	obj->page = i;
	obj->bytes = (f.size[i] - sizeof(*obj)) & 0x1fff;
	obj->codec = CODEC_RAW;
	obj->check = i;
	random_bytes(&seed, obj->packed, obj->bytes);
}

static int put(unsigned i, size_t size)
{
	_Alignas(8) char object[OBJECT_MAX];
	int err;

	f.size[i] = (uint16_t)size;
	make(i, object);
	err = compressed_put(&f.store, object, size, &f.slot[i]);
	if (err)
		f.size[i] = 0;
	return err;
}

static void check(unsigned i)
{
	_Alignas(8) char right[OBJECT_MAX];
	const struct object *object = compressed_object(&f.store, f.slot[i]);

	make(i, right);
	assert_non_null(object);
	assert_memory_equal(object, right, f.size[i]);
	compressed_object_end(&f.store, object);
}

/* As reclaim does it. */
static void relocate(void *data, page_no_t page, slot_t slot)
{
	slot_t to;

	(void)data;
	if (page >= OBJECTS || !f.size[page] || f.slot[page] != slot ||
	    compressed_copy(&f.store, slot, &to))
		return;
	compressed_free(&f.store, slot);
	f.slot[page] = to;
	f.moved++;
}

static void fill(uint64_t *seed)
{
	for (unsigned i = 0; i < OBJECTS; i++)
		assert_int_equal(put(i, sizeof(struct object) + 1 + random_below(seed, 4096)), 0);
}

static void objects_are_what_they_were(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	open_high();
	fill(&seed);
	for (unsigned i = 0; i < OBJECTS; i++)
		check(i);
	assert_true(maps > 100);
	close_high();
}

static void compaction_moves_them(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	open_high();
	fill(&seed);
	for (unsigned i = 0; i < OBJECTS; i++) {
		if (i % 4) {
			compressed_free(&f.store, f.slot[i]);
			f.size[i] = 0;
		}
	}
	assert_true(compressed_compact(&f.store, 0, relocate, NULL) > 0);
	assert_true(f.moved > 0);
	for (unsigned i = 0; i < OBJECTS; i += 4)
		check(i);
	close_high();
}

/* A block goes offline: what it held is elsewhere. */
static void a_block_goes_offline(void **state)
{
	const struct weir_pool_evacuation how = {.size = sizeof(how), .timeout_ns = 1000000000};
	uint64_t seed = test_seed();
	uint32_t block;

	(void)state;
	open_high();
	for (unsigned i = 0; i < OBJECTS / 2; i++)
		assert_int_equal(put(i, sizeof(struct object) + 1 + random_below(&seed, 4096)), 0);
	compressed_relocate_set(&f.store, relocate, NULL);
	block = (f.slot[0] >> (PAGE_SHIFT - SLOT_SHIFT)) / weir_pool_block_frames(f.pool);
	assert_int_equal(weir_pool_offline(f.pool, block, &how, NULL), 0);
	assert_true(f.moved > 0);
	for (unsigned i = 0; i < OBJECTS / 2; i++)
		check(i);
	close_high();
}

/* Neither to put, nor to copy, nor to read: each says so, and all is as before. */
static void without_a_window_nothing_is_lost(void **state)
{
	uint64_t seed = test_seed();
	uint64_t bytes;
	slot_t to;

	(void)state;
	open_high();
	fill(&seed);
	compressed_free(&f.store, f.slot[9]);
	f.size[9] = 0;
	bytes = load_relaxed(&f.store.class_bytes);
	for (unsigned i = 0; i < 100; i++) {
		fail_next(2);
		/* Its frame may just be mapped: then it needs no window. */
		if (!put(9, 200)) {
			compressed_free(&f.store, f.slot[9]);
			f.size[9] = 0;
		}
		fail_next(2);
		if (!compressed_copy(&f.store, f.slot[i * 20], &to))
			compressed_free(&f.store, to);
		assert_int_equal(load_relaxed(&f.store.class_bytes), bytes);
	}
	fail_next(1000);
	for (unsigned i = 0, failed = 0; !failed; i++) {
		const struct object *object = compressed_object(&f.store, f.slot[i * 13 % OBJECTS]);

		if (object)
			compressed_object_end(&f.store, object);
		failed = !object;
		assert_true(i < OBJECTS);
	}
	fail_next(0);
	for (unsigned i = 0; i < OBJECTS; i++) {
		if (f.size[i])
			check(i);
	}
	close_high();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_are_what_they_were),
		cmocka_unit_test(compaction_moves_them),
		cmocka_unit_test(a_block_goes_offline),
		cmocka_unit_test(without_a_window_nothing_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
