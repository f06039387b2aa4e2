/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Each call of the pool into os/ fails in turn: what was asked for fails with that error, everything is as before, and
 * whoever had agreed to it is told exactly once that it is off.
 *
 * The linker puts the functions below in place of the real ones.
 */
#include "pools.h"

#include "os/thread.h"

static unsigned calls, fail_nth; /* fail_nth 0: none */
static int fail_with;
static long mappings;
static void (*meanwhile)(void); /* during the next discard, once */

static bool fails(void)
{
	return ++calls == fail_nth;
}

void *__real_mem_alloc(size_t bytes);
void *__wrap_mem_alloc(size_t bytes);
void *__real_mem_reserve(size_t bytes);
void *__wrap_mem_reserve(size_t bytes);
void __real_mem_release(void *addr, size_t bytes);
void __wrap_mem_release(void *addr, size_t bytes);
int __real_mem_commit(void *addr, size_t bytes);
int __wrap_mem_commit(void *addr, size_t bytes);
int __real_mem_discard(void *addr, size_t bytes);
int __wrap_mem_discard(void *addr, size_t bytes);
int __real_mem_decommit(void *addr, size_t bytes);
int __wrap_mem_decommit(void *addr, size_t bytes);
int __real_mem_file_open(uint64_t bytes);
int __wrap_mem_file_open(uint64_t bytes);
int __real_mem_file_punch(int fd, uint64_t offset, uint64_t bytes);
int __wrap_mem_file_punch(int fd, uint64_t offset, uint64_t bytes);
int __real_thread_start(pthread_t *thread, const char *name, thread_fn fn, void *arg);
int __wrap_thread_start(pthread_t *thread, const char *name, thread_fn fn, void *arg);

void *__wrap_mem_alloc(size_t bytes)
{
	void *addr = fails() ? NULL : __real_mem_alloc(bytes);

	mappings += addr != NULL;
	return addr;
}

void *__wrap_mem_reserve(size_t bytes)
{
	void *addr = fails() ? NULL : __real_mem_reserve(bytes);

	mappings += addr != NULL;
	return addr;
}

void __wrap_mem_release(void *addr, size_t bytes)
{
	mappings -= addr != NULL;
	__real_mem_release(addr, bytes);
}

int __wrap_mem_commit(void *addr, size_t bytes)
{
	return fails() ? fail_with : __real_mem_commit(addr, bytes);
}

int __wrap_mem_discard(void *addr, size_t bytes)
{
	void (*fn)(void) = meanwhile;

	meanwhile = NULL;
	if (fn)
		fn();
	return fails() ? fail_with : __real_mem_discard(addr, bytes);
}

int __wrap_mem_decommit(void *addr, size_t bytes)
{
	return fails() ? fail_with : __real_mem_decommit(addr, bytes);
}

int __wrap_mem_file_open(uint64_t bytes)
{
	return fails() ? fail_with : __real_mem_file_open(bytes);
}

int __wrap_mem_file_punch(int fd, uint64_t offset, uint64_t bytes)
{
	return fails() ? fail_with : __real_mem_file_punch(fd, offset, bytes);
}

int __wrap_thread_start(pthread_t *thread, const char *name, thread_fn fn, void *arg)
{
	return fails() ? fail_with : __real_thread_start(thread, name, fn, arg);
}

static void fail_next(unsigned nth, int err)
{
	calls = 0;
	fail_nth = nth;
	fail_with = err;
}

/* --- */

/* Every allocation, the file, the thread: an error, and nothing left behind. */
static void test_creation_fails_at_every_step(void **state)
{
	const struct weir_pool_options options = {.size = sizeof(options),
						  .low_max = MIB(32),
						  .high_max = MIB(32),
						  .block = WEIR_POOL_BLOCK_MIN,
						  .trim_delay_ms = 1000};
	const int descriptors = descriptors_open_now();
	struct weir_pool *pool = NULL;
	unsigned nth = 0;
	int err;

	(void)state;
	mappings = 0;
	do {
		fail_next(++nth, -ENOMEM);
		err = weir_pool_create(&options, &pool);
		assert_true(err == 0 || err == -ENOMEM);
		if (err) {
			assert_int_equal(mappings, 0);
			assert_int_equal(descriptors_open_now(), descriptors);
		}
	} while (err);
	assert_true(nth > 8);
	fail_next(0, 0);
	weir_pool_destroy(pool);
	assert_int_equal(mappings, 0);
	assert_int_equal(descriptors_open_now(), descriptors);
}

struct scene {
	struct weir_pool *pool;
	struct holder *h;
	struct record record[3];
	uint32_t block; /* that is tried */
	struct weir_zone_stats before;
};

static void scene_open(struct scene *s, enum weir_zone zone)
{
	const struct weir_pool_options options = {
		.low_max = MIB(32), .high_max = MIB(32), .cache_frames = WEIR_POOL_NO_CACHE};

	fail_next(0, 0);
	s->pool = pool_make_with(&options, 3);
	s->h = holder_make(s->pool);
	for (unsigned i = 0; i < 3; i++)
		record_listen(&s->record[i], s->pool);
	for (unsigned i = 0; i < 100; i++)
		assert_non_null(hold(s->h, i % 4));
	s->block = zone == WEIR_ZONE_HIGH ? 8 : s->h->held[0].pfn / BLOCK;
	s->before = stats_of(s->pool, zone);
}

static void assert_cancelled_once(struct scene *s, enum weir_zone zone, enum weir_pool_event cancel,
				  uint32_t block, enum weir_block_state state)
{
	struct weir_zone_stats now = stats_of(s->pool, zone);

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(s->record[i].events[cancel], 1);
		assert_int_equal(
			s->record[i].events[WEIR_ONLINE] + s->record[i].events[WEIR_OFFLINE], 0);
	}
	assert_int_equal(block_state(s->pool, block), state);
	/* Frames may have moved to other blocks and back; what is held, free and away is the same. */
	assert_int_equal(now.allocated, s->before.allocated);
	assert_int_equal(now.free, s->before.free);
	assert_int_equal(now.offline, s->before.offline);
	assert_int_equal(now.isolated, 0);
	holder_check(s->h);
	pool_check(s->pool);
}

static void test_online_fails_at_every_step(void **state)
{
	unsigned failed = 0;

	(void)state;
	for (unsigned nth = 1;; nth++) {
		struct weir_pool_why why;
		struct scene s;
		int err;

		scene_open(&s, WEIR_ZONE_LOW);
		fail_next(nth, -ENOMEM);
		err = weir_pool_online(s.pool, 5, &why);
		fail_next(0, 0);
		if (!err) {
			weir_pool_destroy(s.pool);
			break;
		}
		failed++;
		assert_int_equal(err, -ENOMEM);
		assert_int_equal(why.reason, WEIR_POOL_SYSTEM);
		assert_cancelled_once(&s, WEIR_ZONE_LOW, WEIR_CANCEL_ONLINE, 5, WEIR_BLOCK_OFFLINE);
		/* And then it works. */
		assert_int_equal(weir_pool_online(s.pool, 5, NULL), 0);
		pool_end(s.pool);
	}
	assert_true(failed >= 1);
}

/* Memory that the system does not take back: the block stays. What fails after that, descriptors and protection, does not
 * matter. */
static void offline_fails(enum weir_zone zone, unsigned at_least)
{
	unsigned failed = 0;

	for (unsigned nth = 1;; nth++) {
		struct weir_pool_why why;
		struct scene s;
		int err;

		scene_open(&s, zone);
		fail_next(nth, -EINVAL);
		err = weir_pool_offline(s.pool, s.block, NULL, &why);
		if (err) {
			failed++;
			fail_next(0, 0);
			assert_int_equal(err, -EINVAL);
			assert_int_equal(why.reason, WEIR_POOL_SYSTEM);
			assert_cancelled_once(&s, zone, WEIR_CANCEL_OFFLINE, s.block,
					      WEIR_BLOCK_ONLINE);
			assert_int_equal(weir_pool_offline(s.pool, s.block, NULL, NULL), 0);
		}
		assert_int_equal(block_state(s.pool, s.block), WEIR_BLOCK_OFFLINE);
		holder_check(s.h);
		pool_end(s.pool);
		if (!err && nth > calls)
			break;
	}
	assert_true(failed >= at_least);
}

static void test_offline_fails_at_every_step(void **state)
{
	(void)state;
	offline_fails(WEIR_ZONE_LOW, 1);
	offline_fails(WEIR_ZONE_HIGH, 1);
}

/* What the system does not take stays with the frames; what it took before counts. */
static void test_trim_fails_at_every_step(void **state)
{
	(void)state;
	for (unsigned nth = 1; nth < 6; nth++) {
		struct scene s;
		int64_t trimmed;

		scene_open(&s, WEIR_ZONE_LOW);
		for (unsigned i = 0; i < 100; i += 10)
			let_go(s.h, &s.h->held[i]);
		s.before = low_of(s.pool);
		fail_next(nth, -EINVAL);
		trimmed = weir_pool_trim(s.pool, 0);
		fail_next(0, 0);
		assert_true(nth == 1 ? trimmed == -EINVAL : trimmed > 0);
		assert_int_equal(low_of(s.pool).backed,
				 s.before.backed - (uint64_t)MAX(trimmed, 0));
		assert_int_equal(low_of(s.pool).free, s.before.free);
		/* And then it works. */
		assert_true(weir_pool_trim(s.pool, 0) >= 0);
		assert_int_equal(low_of(s.pool).backed, 0);
		holder_check(s.h);
		pool_end(s.pool);
	}
}

static struct weir_pool *trimmed_pool;
static weir_pfn_t trimmed_pageblock;

static void isolate_meanwhile(void)
{
	assert_int_equal(low_of(trimmed_pool).cached, WEIR_POOL_PAGEBLOCK);
	assert_int_equal(weir_pool_isolate_range(trimmed_pool, trimmed_pageblock,
						 trimmed_pageblock + WEIR_POOL_PAGEBLOCK, NULL),
			 0);
	assert_int_equal(weir_pool_range_isolated(trimmed_pool, trimmed_pageblock,
						  trimmed_pageblock + WEIR_POOL_PAGEBLOCK),
			 0);
}

/* What comes back from a trim, to a pageblock that was isolated meanwhile, joins the isolated ones. */
static void test_trim_returns_to_an_isolated_pageblock(void **state)
{
	(void)state;
	trimmed_pool = pool_make(1);
	trimmed_pageblock = get(trimmed_pool, 9, 0, 0);
	put(trimmed_pool, trimmed_pageblock, 9);
	meanwhile = isolate_meanwhile;
	assert_int_equal(weir_pool_trim(trimmed_pool, 0), WEIR_POOL_PAGEBLOCK);
	assert_null(meanwhile);
	assert_int_equal(low_of(trimmed_pool).isolated, WEIR_POOL_PAGEBLOCK);
	assert_int_equal(weir_pool_range_isolated(trimmed_pool, trimmed_pageblock,
						  trimmed_pageblock + WEIR_POOL_PAGEBLOCK),
			 1);
	pool_end(trimmed_pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_creation_fails_at_every_step),
		cmocka_unit_test(test_online_fails_at_every_step),
		cmocka_unit_test(test_offline_fails_at_every_step),
		cmocka_unit_test(test_trim_fails_at_every_step),
		cmocka_unit_test(test_trim_returns_to_an_isolated_pageblock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
