/* SPDX-License-Identifier: BSD-2-Clause */
/* Blocks come and go: states, listeners, who takes the frames, memory; and everything as before where it fails. */
#include <fcntl.h>
#include <sys/stat.h>

#include "pools.h"

/* Added blocks are offline and were never isolated: they come online, and all of their frames can be had. (The first design
 * brought online only what it found on the isolated list.) */
static void test_onlining_a_block_that_was_just_added(void **state)
{
	struct weir_pool *pool = pool_make(0);

	(void)state;
	assert_int_equal(block_state(pool, 5), WEIR_BLOCK_OFFLINE);
	assert_int_equal(low_of(pool).offline, 8 * BLOCK);
	assert_int_equal(low_of(pool).total, 8 * BLOCK);
	assert_int_equal(weir_pool_alloc(pool, 0, 0, 0), -ENOMEM);
	assert_int_equal(weir_pool_online(pool, 5, NULL), 0);
	assert_int_equal(block_state(pool, 5), WEIR_BLOCK_ONLINE);
	assert_int_equal(low_of(pool).free, BLOCK);
	for (unsigned i = 0; i < BLOCK; i++) {
		weir_pfn_t pfn = get(pool, 0, 0, 0);

		assert_in_range(pfn, 5 * BLOCK, 6 * BLOCK - 1);
		memset(memory_of(pool, pfn), 5, PAGE_SIZE);
	}
	assert_int_equal(weir_pool_alloc(pool, 0, 0, 0), -ENOMEM);
	pool_end(pool);
}

/* (The first design could not offline these: it only counted high-order runs.) */
static void test_offlining_a_block_whose_frames_were_freed_one_at_a_time(void **state)
{
	static weir_pfn_t pfn[2 * BLOCK];
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned cached = 0; cached < 2; cached++) {
		const struct weir_pool_options options = {.cache_frames =
								  cached ? 0 : WEIR_POOL_NO_CACHE};
		struct weir_pool *pool = pool_make_with(&options, 2);

		for (unsigned i = 0; i < 2 * BLOCK; i++) {
			pfn[i] = get(pool, 0, 0, 0);
			*memory_of(pool, pfn[i]) = 1;
		}
		for (unsigned i = 0; i < 2 * BLOCK; i++) {
			unsigned at = i + random_below(&seed, 2 * BLOCK - i);

			put(pool, pfn[at], 0);
			pfn[at] = pfn[i];
		}
		assert_int_equal(weir_pool_offline(pool, 0, NULL, NULL), 0);
		assert_int_equal(weir_pool_offline(pool, 1, NULL, NULL), 0);
		assert_int_equal(low_of(pool).offline, 8 * BLOCK);
		assert_int_equal(low_of(pool).free, 0);
		assert_int_equal(resident_frames(pool, 0, 2 * BLOCK), 0);
		pool_end(pool);
	}
}

/* Memory is gone with the block, and reads as zeroes when it comes back. */
static void test_memory_goes_and_comes(void **state)
{
	struct weir_pool *pool = pool_make(1);

	(void)state;
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < BLOCK; i++) {
			weir_pfn_t pfn = get(pool, 0, 0, 0);

			assert_true(all_bytes_are(memory_of(pool, pfn), 0, PAGE_SIZE));
			memset(memory_of(pool, pfn), 0x5a, PAGE_SIZE);
		}
		assert_int_equal(resident_frames(pool, 0, BLOCK), BLOCK);
		for (weir_pfn_t pfn = 0; pfn < BLOCK; pfn++)
			put(pool, pfn, 0);
		assert_int_equal(weir_pool_offline(pool, 0, NULL, NULL), 0);
		assert_int_equal(resident_frames(pool, 0, BLOCK), 0);
		pool_check(pool);
		assert_int_equal(weir_pool_online(pool, 0, NULL), 0);
		pool_check(pool);
	}
	pool_end(pool);
}

static void touch_offline(void *arg)
{
	struct weir_pool *pool = pool_make(1);

	(void)arg;
	child_check(weir_pool_offline(pool, 0, NULL, NULL) == 0);
	signal(SIGSEGV, SIG_DFL);
	*(volatile char *)memory_of(pool, 3) = 1;
}

static void test_memory_of_an_offline_block_is_closed(void **state)
{
	struct child child;

	(void)state;
	run_child(&child, touch_offline, NULL);
#if !defined(__SANITIZE_ADDRESS__) && !defined(WEIR_TSAN)
	assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGSEGV);
#else
	assert_true(child.status != 0);
#endif
}

/* A frame of a block that is offline cannot be freed, and nothing is allocated from there afterwards. */
static void free_into_offline(void *arg)
{
	struct weir_pool *pool = pool_make(2);
	weir_pfn_t pfn = get(pool, 0, 0, 0);

	(void)arg;
	put(pool, pfn, 0);
	child_check(weir_pool_offline(pool, pfn / BLOCK, NULL, NULL) == 0);
	child_check(weir_pool_free(pool, pfn, 0) == -EINVAL);
	child_check(low_of(pool).free == BLOCK);
	for (unsigned i = 0; i < BLOCK; i++)
		child_check(weir_pool_alloc(pool, 0, 0, 0) / BLOCK != pfn / BLOCK);
	child_check(weir_pool_alloc(pool, 0, 0, 0) == -ENOMEM);
	child_check(weir_pool_validate(pool) == 0);
}

static void test_free_into_an_offline_block(void **state)
{
	(void)state;
#ifdef WEIR_DEBUG
	struct child child;

	run_child(&child, free_into_offline, NULL);
	assert_panicked(&child);
	assert_says(&child, "is freed, but is not allocated");
#else
	child_passes(free_into_offline, NULL);
#endif
}

/* --- listeners --- */

static void test_listeners_are_told(void **state)
{
	struct weir_pool *pool = pool_make(0);
	struct record r[2];

	(void)state;
	record_listen(&r[0], pool);
	record_listen(&r[1], pool);
	assert_int_equal(weir_pool_listen(pool, &r[0].listener), -EEXIST);
	assert_int_equal(weir_pool_listen(pool, NULL), -EINVAL);
	assert_int_equal(weir_pool_online(pool, 3, NULL), 0);
	assert_int_equal(weir_pool_offline(pool, 3, NULL, NULL), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(r[i].events[WEIR_GOING_ONLINE], 1);
		assert_int_equal(r[i].events[WEIR_ONLINE], 1);
		assert_int_equal(r[i].events[WEIR_CANCEL_ONLINE], 0);
		assert_int_equal(r[i].events[WEIR_GOING_OFFLINE], 1);
		assert_int_equal(r[i].events[WEIR_OFFLINE], 1);
		assert_int_equal(r[i].events[WEIR_CANCEL_OFFLINE], 0);
		assert_int_equal(r[i].start, 3 * BLOCK);
		assert_int_equal(r[i].end, 4 * BLOCK);
	}
	assert_int_equal(weir_pool_unlisten(pool, &r[0].listener), 0);
	assert_int_equal(weir_pool_unlisten(pool, &r[0].listener), -ENOENT);
	assert_int_equal(weir_pool_online(pool, 3, NULL), 0);
	assert_int_equal(r[0].events[WEIR_ONLINE], 1);
	assert_int_equal(r[1].events[WEIR_ONLINE], 2);
	assert_int_equal(weir_pool_unlisten(pool, &r[1].listener), 0);
	pool_end(pool);
}

/* Each listener refuses in turn: its errno comes back, those before it get exactly one CANCEL, the last first, those
 * after it and itself nothing, and the block is as it was. */
static void test_refusal_at_each_listener(void **state)
{
	struct weir_pool *pool = pool_make(1);
	const struct weir_zone_stats before = low_of(pool);
	struct record r[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		record_listen(&r[i], pool);
	for (unsigned at = 0; at < 8; at++) {
		const bool off = at >= 4;
		const unsigned who = at % 4;
		struct weir_zone_stats now;
		struct weir_pool_why why;
		int err;

		for (unsigned i = 0; i < 4; i++)
			memset(r[i].events, 0, sizeof(r[i].events));
		r[who].refuse[off ? WEIR_GOING_OFFLINE : WEIR_GOING_ONLINE] = -EPERM - (int)who;
		err = off ? weir_pool_offline(pool, 0, NULL, &why)
			  : weir_pool_online(pool, 1, &why);
		assert_int_equal(err, -EPERM - (int)who);
		assert_int_equal(why.err, err);
		assert_int_equal(why.reason, WEIR_POOL_REFUSED);
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(r[i].events[off ? WEIR_GOING_OFFLINE : WEIR_GOING_ONLINE],
					 i <= who);
			assert_int_equal(
				r[i].events[off ? WEIR_CANCEL_OFFLINE : WEIR_CANCEL_ONLINE],
				i < who);
			assert_int_equal(r[i].events[off ? WEIR_OFFLINE : WEIR_ONLINE], 0);
			if (i + 1 < who)
				assert_true(r[i].order > r[i + 1].order);
		}
		r[who].refuse[WEIR_GOING_ONLINE] = r[who].refuse[WEIR_GOING_OFFLINE] = 0;
		assert_int_equal(block_state(pool, 0), WEIR_BLOCK_ONLINE);
		assert_int_equal(block_state(pool, 1), WEIR_BLOCK_OFFLINE);
		now = low_of(pool);
		assert_memory_equal(&now, &before, sizeof(now));
		pool_check(pool);
	}
	pool_end(pool);
}

/* An answer to an event that is no question changes nothing. */
static void test_answers_to_other_events_are_ignored(void **state)
{
	struct weir_pool *pool = pool_make(0);
	struct record r;

	(void)state;
	record_listen(&r, pool);
	r.refuse[WEIR_ONLINE] = r.refuse[WEIR_OFFLINE] = -EPERM;
	assert_int_equal(weir_pool_online(pool, 0, NULL), 0);
	assert_int_equal(weir_pool_offline(pool, 0, NULL, NULL), 0);
	pool_end(pool);
}

/* --- states --- */

static void test_wrong_states_and_blocks_that_do_not_exist(void **state)
{
	const struct weir_pool_options options = {
		.size = sizeof(options), .low_max = MIB(16), .block = WEIR_POOL_BLOCK_MIN};
	struct weir_block_info info;
	struct weir_pool_why why;
	struct weir_pool *pool;
	uint32_t first;

	(void)state;
	assert_int_equal(weir_pool_create(&options, &pool), 0);
	assert_int_equal(weir_pool_online(pool, 0, &why), -EINVAL);
	assert_int_equal(why.reason, WEIR_POOL_BAD_STATE);
	assert_int_equal(weir_pool_offline(pool, 0, NULL, &why), -EINVAL);
	assert_int_equal(why.reason, WEIR_POOL_BAD_STATE);
	assert_int_equal(weir_pool_remove(pool, 0), -EINVAL);
	assert_int_equal(weir_pool_grow(pool, WEIR_ZONE_LOW), -ENOMEM);
	assert_int_equal(weir_pool_grow(pool, (enum weir_zone)2), -EINVAL);
	for (uint32_t b = 4; b; b = b == 4 ? UINT32_MAX : 0) {
		assert_int_equal(weir_pool_online(pool, b, &why), -EINVAL);
		assert_int_equal(why.reason, WEIR_POOL_BAD_RANGE);
		assert_int_equal(weir_pool_offline(pool, b, NULL, &why), -EINVAL);
		assert_int_equal(weir_pool_remove(pool, b), -EINVAL);
		assert_int_equal(weir_pool_block_read(pool, b, &info), -EINVAL);
	}
	assert_int_equal(weir_pool_add(pool, WEIR_ZONE_LOW, 0, &first), -EINVAL);
	assert_int_equal(weir_pool_add(pool, (enum weir_zone)2, 1, &first), -EINVAL);
	assert_int_equal(weir_pool_add(pool, WEIR_ZONE_HIGH, 1, &first), -ENOMEM);
	assert_int_equal(weir_pool_add(pool, WEIR_ZONE_LOW, 5, &first), -ENOMEM);
	assert_int_equal(weir_pool_add(pool, WEIR_ZONE_LOW, 4, &first), 0);
	assert_int_equal(weir_pool_online(pool, 1, NULL), 0);
	assert_int_equal(weir_pool_online(pool, 1, NULL), -EINVAL);
	assert_int_equal(weir_pool_remove(pool, 1), -EINVAL);
	assert_int_equal(weir_pool_offline(pool, 0, NULL, NULL), -EINVAL);
	/* Removed, and added again where there is room. */
	assert_int_equal(weir_pool_remove(pool, 2), 0);
	assert_int_equal(block_state(pool, 2), WEIR_BLOCK_ABSENT);
	assert_int_equal(low_of(pool).total, 3 * BLOCK);
	assert_int_equal(weir_pool_add(pool, WEIR_ZONE_LOW, 2, &first), -ENOMEM);
	assert_int_equal(weir_pool_add(pool, WEIR_ZONE_LOW, 1, &first), 0);
	assert_int_equal(first, 2);
	pool_end(pool);
}

/* The lowest block that is offline comes, until there is none. */
static void test_grow_takes_the_lowest(void **state)
{
	struct weir_pool *pool = pool_make(0);
	uint32_t free;

	(void)state;
	assert_int_equal(weir_pool_emptiest(pool, WEIR_ZONE_LOW, &free), -ENOENT);
	assert_int_equal(weir_pool_online(pool, 1, NULL), 0);
	assert_int_equal(weir_pool_grow(pool, WEIR_ZONE_LOW), 0);
	for (unsigned i = 2; i < 8; i++)
		assert_int_equal(weir_pool_grow(pool, WEIR_ZONE_LOW), i);
	assert_int_equal(weir_pool_grow(pool, WEIR_ZONE_LOW), -ENOMEM);
	assert_int_equal(weir_pool_emptiest(pool, WEIR_ZONE_LOW, &free), 7);
	assert_int_equal(free, BLOCK);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(weir_pool_offline(pool, i, NULL, NULL), 0);
	pool_end(pool);
}

static int grow_inside(void *data, enum weir_pool_event event, weir_pfn_t start, weir_pfn_t end)
{
	(void)start;
	(void)end;
	return event == WEIR_GOING_OFFLINE && weir_pool_grow(data, WEIR_ZONE_LOW) != -EAGAIN
		       ? -EPERM
		       : 0;
}

/* While a block is going, whoever wants one does not wait: -EAGAIN. */
static void test_grow_never_waits(void **state)
{
	struct weir_pool *pool = pool_make(1);
	struct weir_pool_listener listener = {.fn = grow_inside, .data = pool};

	(void)state;
	assert_int_equal(weir_pool_listen(pool, &listener), 0);
	assert_int_equal(weir_pool_offline(pool, 0, NULL, NULL), 0);
	pool_end(pool);
}

/* --- who takes the frames --- */

struct balloon {
	struct weir_pool *pool;
	weir_pfn_t start, end;
	unsigned id, asked;
};

static void balloon_take(void *data, weir_pfn_t start, weir_pfn_t end)
{
	struct balloon *b = data;

	b->start = start;
	b->end = end;
}

static int balloon_give(void *data, weir_pfn_t from, unsigned order, uint64_t word, weir_pfn_t to)
{
	struct balloon *b = data;

	(void)word;
	if (to != WEIR_PFN_NONE || order != WEIR_POOL_ORDER_MAX || from < b->start ||
	    from >= b->end)
		return -EIO;
	b->asked++;
	return weir_pool_free(b->pool, from, order) ? -EIO : -ENOENT;
}

/* A balloon keeps the frames of new blocks, hands them out as it likes, and gives them up when the block goes. */
static void test_online_callback(void **state)
{
	struct balloon b = {.pool = pool_make(0)};
	const struct weir_pool_owner owner = {.size = sizeof(owner),
					      .name = "balloon",
					      .migrate = balloon_give,
					      .data = &b,
					      .flags = WEIR_OWNER_OWN_ROOM};

	(void)state;
	assert_int_equal(weir_pool_online_set(b.pool, balloon_take, &b, 9), -EINVAL);
	b.id = (unsigned)weir_pool_owner_add(b.pool, &owner);
	assert_int_equal(weir_pool_online_set(b.pool, balloon_take, &b, b.id), 0);
	assert_int_equal(weir_pool_online(b.pool, 2, NULL), 0);
	assert_int_equal(b.start, 2 * BLOCK);
	assert_int_equal(b.end, 3 * BLOCK);
	assert_int_equal(low_of(b.pool).allocated, BLOCK);
	assert_int_equal(weir_pool_alloc(b.pool, 0, 0, 0), -ENOMEM);
	assert_int_equal(info_of(b.pool, b.start).owner, b.id);
	put(b.pool, b.start, WEIR_POOL_ORDER_MAX);
	assert_int_equal(low_of(b.pool).free, WEIR_POOL_PAGEBLOCK);
	pool_check(b.pool);
	assert_int_equal(weir_pool_offline(b.pool, 2, NULL, NULL), 0);
	assert_int_equal(b.asked, 1);
	assert_int_equal(weir_pool_online_set(b.pool, NULL, NULL, 0), 0);
	assert_int_equal(weir_pool_online(b.pool, 2, NULL), 0);
	assert_int_equal(low_of(b.pool).free, BLOCK);
	pool_end(b.pool);
}

/* --- zone high --- */

static uint64_t file_blocks(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* Frames of a file are reached by their offset, are never of zone low, and leave the file with their block. */
static void test_zone_high(void **state)
{
	const struct weir_pool_options options = {
		.low_max = MIB(8), .high_max = MIB(16), .cache_frames = WEIR_POOL_NO_CACHE};
	struct weir_pool *pool = pool_make_with(&options, 2);
	const int fd = weir_pool_fd(pool);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(weir_pool_offset(pool, 0), -EINVAL);
	assert_int_equal(weir_pool_offset(pool, 2 * BLOCK + 4 * BLOCK), -EINVAL);
	for (unsigned i = 0; i < 2 * BLOCK; i++) {
		weir_pfn_t pfn = get(pool, 0, WEIR_POOL_HIGH, 0);
		int64_t offset = weir_pool_offset(pool, pfn);

		assert_in_range(offset, 0, MIB(8) - PAGE_SIZE);
		assert_int_equal(offset % (int64_t)PAGE_SIZE, 0);
		assert_int_equal(pwrite(fd, "frame", 5, offset), 5);
	}
	assert_int_equal(weir_pool_alloc(pool, 0, WEIR_POOL_HIGH, 0), -ENOMEM);
	assert_int_equal(low_of(pool).free, 2 * BLOCK);
	assert_int_equal(file_blocks(fd), MIB(8));
	for (weir_pfn_t pfn = 2 * BLOCK; pfn < 4 * BLOCK; pfn++)
		put(pool, pfn, 0);
	assert_int_equal(weir_pool_trim(pool, BLOCK), BLOCK);
	assert_int_equal(file_blocks(fd), MIB(4));
	assert_int_equal(weir_pool_offline(pool, 2, NULL, NULL), 0);
	assert_int_equal(weir_pool_offline(pool, 3, NULL, NULL), 0);
	assert_int_equal(file_blocks(fd), 0);
	assert_int_equal(stats_of(pool, WEIR_ZONE_HIGH).offline, 4 * BLOCK);
	pool_end(pool);
}

static void test_zone_high_in_a_given_file(void **state)
{
	struct weir_pool_options options = {.size = sizeof(options),
					    .high_max = MIB(8),
					    .block = WEIR_POOL_BLOCK_MIN,
					    .flags = WEIR_POOL_GIVEN_FD,
					    .high_fd = mem_file_open(MIB(8))};
	struct weir_pool *pool;

	(void)state;
	assert_int_equal(weir_pool_create(&options, &pool), 0);
	assert_null(weir_pool_base(pool));
	assert_int_equal(weir_pool_fd(pool), options.high_fd);
	weir_pool_destroy(pool);
	/* Still the caller's. */
	assert_int_equal(fcntl(options.high_fd, F_GETFD), FD_CLOEXEC);
	options.high_max = MIB(12);
	assert_int_equal(weir_pool_create(&options, &pool), -EINVAL);
	mem_file_close(options.high_fd);
	assert_int_equal(weir_pool_create(&options, &pool), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_onlining_a_block_that_was_just_added),
		cmocka_unit_test(test_offlining_a_block_whose_frames_were_freed_one_at_a_time),
		cmocka_unit_test(test_memory_goes_and_comes),
		cmocka_unit_test(test_memory_of_an_offline_block_is_closed),
		cmocka_unit_test(test_free_into_an_offline_block),
		cmocka_unit_test(test_listeners_are_told),
		cmocka_unit_test(test_refusal_at_each_listener),
		cmocka_unit_test(test_answers_to_other_events_are_ignored),
		cmocka_unit_test(test_wrong_states_and_blocks_that_do_not_exist),
		cmocka_unit_test(test_grow_takes_the_lowest),
		cmocka_unit_test(test_grow_never_waits),
		cmocka_unit_test(test_online_callback),
		cmocka_unit_test(test_zone_high),
		cmocka_unit_test(test_zone_high_in_a_given_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
