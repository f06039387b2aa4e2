/* SPDX-License-Identifier: BSD-2-Clause */
/* What src/kmap does when others come in between, when the system refuses, when it is asked wrongly; and with a pool. */
#include "windows.h"

/* --- in between --- */

static struct weir_kmap *between;
static void *winner;

static void map_the_same(void)
{
	assert_int_equal(weir_kmap(between, 9 * FRAMES_IN, &winner), 0);
}

/* Another thread maps the frame while this one takes a slot for it: its slot is free again, and the winner's is used. */
static void a_lost_race_uses_the_winners_slot(void **state)
{
	const unsigned forms[] = {WEIR_KMAP_TABLED, WEIR_KMAP_HASHED};

	(void)state;
	for (unsigned form = 0; form < 2; form++) {
		struct weir_kmap *kmap =
			windows_make(&(struct weir_kmap_options){.slots = 8,
								 .batch = 4,
								 .reserve = WEIR_KMAP_NO_RESERVE,
								 .flags = forms[form]});
		char *addr;

		for (uint32_t i = 0; i < 8; i++)
			visit(kmap, 100 + i);
		between = kmap;
		os.in_hide = map_the_same;
		addr = hold(kmap, 9);
		assert_ptr_equal(addr, winner);
		assert_int_equal(stats(kmap).races, 1);
		assert_int_equal(stats(kmap).held, 2);
		let_go(kmap, addr);
		let_go(kmap, winner);
		windows_end(kmap);
	}
}

static struct second {
	pthread_t thread;
	char *addr;
} second;

static void *second_main(void *data)
{
	struct second *s = data;
	void *addr = NULL;

	(void)weir_kmap(between, 9 * FRAMES_IN, &addr);
	s->addr = addr;
	return NULL;
}

/* In the middle of the mapping: the other one wants it, and waits for this. */
static void second_wants_it(void)
{
	(void)pthread_create(&second.thread, NULL, second_main, &second);
	while (!load_relaxed(&between->settling))
		sched_yield();
}

static void a_frame_that_is_being_mapped_is_waited_for(void **state)
{
	struct weir_kmap *kmap = slots_make(8, 4);
	char *addr;

	(void)state;
	between = kmap;
	os.in_map = second_wants_it;
	addr = hold(kmap, 9);
	pthread_join(second.thread, NULL);
	assert_ptr_equal(second.addr, addr);
	assert_int_equal(os.maps, 1);
	assert_true(stats(kmap).busy > 0);
	let_go(kmap, addr);
	let_go(kmap, addr);
	windows_end(kmap);
}

/* --- who waits for what --- */

static struct waiter_of {
	pthread_t thread;
	uint32_t range;
	void *addr;
} waiter_of[2];

static void *waiter_main(void *data)
{
	struct waiter_of *w = data;

	(void)weir_kmap(between, w->range * FRAMES_IN, &w->addr);
	return NULL;
}

/* One wants what only the fault path holds, and takes no other slot: a wake-up does not end with it. */
static void a_waiter_for_a_reserved_slot_takes_no_wake_up(void **state)
{
	struct weir_kmap *kmap =
		windows_make(&(struct weir_kmap_options){.slots = 4, .reserve = 2});
	char *one, *two;
	void *fault;

	(void)state;
	between = kmap;
	one = hold(kmap, 1);
	two = hold(kmap, 2);
	assert_int_equal(weir_kmap_fault(kmap, 9 * FRAMES_IN, &fault), 0);
	for (unsigned i = 0; i < 2; i++) {
		waiter_of[i].range = i ? 20 : 9;
		assert_int_equal(
			pthread_create(&waiter_of[i].thread, NULL, waiter_main, &waiter_of[i]), 0);
		while (stats(kmap).waits <= i)
			sched_yield();
	}
	let_go(kmap, one);
	pthread_join(waiter_of[1].thread, NULL);
	let_go(kmap, two);
	let_go(kmap, fault);
	pthread_join(waiter_of[0].thread, NULL);
	for (unsigned i = 0; i < 2; i++)
		let_go(kmap, waiter_of[i].addr);

	assert_int_equal(load_relaxed(&kmap->choosy), 0);
	windows_end(kmap);
}

/* More ranges in one bucket than a look without the lock goes through: each is found, and none is mapped twice. */
static void a_long_bucket_hides_nothing(void **state)
{
	enum { SLOTS = 64, HELD = 40, PAGES = 1 << 14 };
	struct weir_kmap_options options = {.size = sizeof(options),
					    .bytes = (uint64_t)PAGES * PAGE_SIZE,
					    .slots = SLOTS,
					    .slot_bytes = PAGE_SIZE,
					    .reserve = WEIR_KMAP_NO_RESERVE,
					    .flags = WEIR_KMAP_HASHED};
	uint32_t range[HELD], n = 0;
	void *addr[HELD], *again;
	struct weir_kmap *kmap;

	(void)state;
	options.fd = mem_file_open(options.bytes);
	assert_true(options.fd >= 0);
	memset(&os, 0, sizeof(os));
	assert_int_equal(weir_kmap_create(&options, &kmap), 0);
	os.kmap = kmap;
	for (uint32_t key = 0; key < PAGES && n < HELD; key++) {
		if ((uint64_t)(key * 2654435769u) * SLOTS >> 32 == 0)
			range[n++] = key;
	}
	assert_int_equal(n, HELD);
	for (unsigned i = 0; i < HELD; i++)
		assert_int_equal(weir_kmap(kmap, range[i], &addr[i]), 0);
	for (unsigned i = 0; i < HELD; i++) {
		assert_ptr_equal(weir_kmap_address(kmap, range[i]), addr[i]);
		assert_int_equal(weir_kmap_try(kmap, range[i], &again), 0);
		assert_ptr_equal(again, addr[i]);
		let_go(kmap, again);
		let_go(kmap, addr[i]);
	}
	assert_int_equal(os.maps, HELD);
	assert_int_equal(weir_kmap_destroy(kmap), 0);
	mem_file_close(options.fd);
}

/* --- what fails --- */

static void a_map_that_fails_holds_nothing(void **state)
{
	const unsigned forms[] = {WEIR_KMAP_TABLED, WEIR_KMAP_HASHED};

	(void)state;
	for (unsigned form = 0; form < 2; form++) {
		struct weir_kmap *kmap =
			windows_make(&(struct weir_kmap_options){.slots = 8, .flags = forms[form]});
		const weir_pfn_t pair[2] = {1 * FRAMES_IN, 2 * FRAMES_IN};
		void *addr = NULL, *two[2];

		os.fail_nth = 1;
		assert_int_equal(weir_kmap(kmap, 5 * FRAMES_IN, &addr), -ENOMEM);
		assert_null(addr);
		assert_null(weir_kmap_address(kmap, 5 * FRAMES_IN));
		assert_int_equal(stats(kmap).held, 0);
		os.fail_nth = os.maps + 2;
		assert_int_equal(weir_kmap_pair(kmap, pair, two), -ENOMEM);
		assert_int_equal(stats(kmap).held, 0);
		visit(kmap, 5);
		assert_int_equal(weir_kmap_pair(kmap, pair, two), 0);
		let_go(kmap, two[0]);
		let_go(kmap, two[1]);
		windows_end(kmap);
	}
}

static void second_wants_it_and_it_fails(void)
{
	second_wants_it();
	os.fail_nth = os.maps + 1;
}

/* Who waited for that mapping makes one itself. */
static void a_map_that_fails_wakes_who_waits_for_it(void **state)
{
	struct weir_kmap *kmap = slots_make(8, 4);
	void *addr;

	(void)state;
	between = kmap;
	os.in_map = second_wants_it_and_it_fails;
	assert_int_equal(weir_kmap(kmap, 9 * FRAMES_IN, &addr), -ENOMEM);
	pthread_join(second.thread, NULL);
	assert_non_null(second.addr);
	let_go(kmap, second.addr);
	windows_end(kmap);
}

static void each_allocation_fails_in_turn(void **state)
{
	const unsigned forms[] = {WEIR_KMAP_TABLED, WEIR_KMAP_HASHED};

	(void)state;
	for (unsigned form = 0; form < 2; form++) {
		for (unsigned nth = 1; nth <= 4; nth++) {
			const struct weir_kmap_options options = {.size = sizeof(options),
								  .fd = 0,
								  .bytes = MIB(1),
								  .flags = forms[form]};
			struct weir_kmap *kmap = NULL;

			os.allocs = 0;
			os.alloc_nth = nth;
			assert_int_equal(weir_kmap_create(&options, &kmap), -ENOMEM);
			assert_null(kmap);
		}
	}
	os.alloc_nth = 0;
}

/* --- asked wrongly --- */

static void options_are_checked(void **state)
{
	const struct weir_kmap_options wrong[] = {
		{.slots = 3, .bytes = MIB(1)},
		{.slots = 2 * WEIR_KMAP_SLOTS_MOST, .bytes = MIB(1)},
		{.slot_bytes = 2048, .bytes = MIB(1)},
		{.slot_bytes = MIB(4), .bytes = MIB(1)},
		{.slot_bytes = 3 * 4096, .bytes = MIB(1)},
		{.slots = 8, .reserve = 8, .bytes = MIB(1)},
		{.slots = 8, .batch = 9, .bytes = MIB(1)},
		{.flags = 4, .bytes = MIB(1)},
		{.flags = WEIR_KMAP_HASHED | WEIR_KMAP_TABLED, .bytes = MIB(1)},
		{.bytes = 4095},
		{.bytes = 1ull << 44},
		{.fd = -1, .bytes = MIB(1)},
	};
	struct weir_kmap *kmap = NULL;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct weir_kmap_options options = wrong[i];

		options.size = sizeof(options);
		if (weir_kmap_create(&options, &kmap) != -EINVAL)
			fail_msg("options %u were taken", i);
	}
	assert_int_equal(weir_kmap_create(NULL, &kmap), -EINVAL);
	assert_int_equal(weir_kmap_create(&(struct weir_kmap_options){.size = 4}, &kmap), -EINVAL);
	assert_null(kmap);
	assert_int_equal(weir_kmap_destroy(NULL), 0);
}

static void a_pfn_out_of_range_is_refused(void **state)
{
	struct weir_kmap *kmap = slots_make(4, 1);
	const weir_pfn_t pair[2] = {0, RANGES * FRAMES_IN};
	void *addr, *two[2];

	(void)state;
	assert_int_equal(weir_kmap(kmap, RANGES * FRAMES_IN, &addr), -EINVAL);
	assert_int_equal(weir_kmap_try(kmap, WEIR_PFN_NONE, &addr), -EINVAL);
	assert_int_equal(weir_kmap_pair(kmap, pair, two), -EINVAL);
	assert_null(weir_kmap_address(kmap, RANGES * FRAMES_IN));
	assert_int_equal(weir_kunmap(kmap, &addr), -EINVAL);
	assert_int_equal(weir_kunmap(kmap, NULL), -EINVAL);
	visit(kmap, RANGES - 1);
	windows_end(kmap);
}

static void put_too_often(void *data)
{
	struct weir_kmap *kmap = data;
	void *addr;

	child_check(!weir_kmap(kmap, 77 * FRAMES_IN, &addr));
	child_check(!weir_kunmap(kmap, addr));
	child_check(weir_kunmap(kmap, addr) == -EINVAL);
	child_check(weir_kunmap(kmap, (char *)kmap->base + (size_t)3 * SLOT) == -EINVAL);
}

/* kunmap without kmap. */
static void an_unbalanced_put_is_detected(void **state)
{
	struct weir_kmap *kmap = slots_make(4, 1);
#ifdef WEIR_DEBUG
	struct child child;
	char words[32];

	run_child(&child, put_too_often, kmap);
	assert_panicked(&child);
	snprintf(words, sizeof(words), "pfn %u", 77 * FRAMES_IN);
	assert_says(&child, words);
#else
	child_passes(put_too_often, kmap);
#endif
	(void)state;
	windows_end(kmap);
}

static void destroy_refuses_what_is_held(void **state)
{
	struct weir_kmap *kmap = slots_make(4, 1);
	char *addr = hold(kmap, 3);

	(void)state;
	assert_int_equal(weir_kmap_destroy(kmap), -EBUSY);
	assert_int_equal(*(uint32_t *)(void *)addr, 3 * FRAMES_IN);
	let_go(kmap, addr);
	windows_end(kmap);
}

/* --- pairs --- */

static void a_pair_takes_both_or_none(void **state)
{
	struct weir_kmap *kmap = slots_make(2, 1);
	const weir_pfn_t same[2] = {4 * FRAMES_IN, 4 * FRAMES_IN + 1};
	const weir_pfn_t two[2] = {5 * FRAMES_IN, 6 * FRAMES_IN};
	void *addr[2];

	(void)state;
	assert_int_equal(weir_kmap_pair(kmap, same, addr), 0);
	assert_ptr_equal(addr[1], (char *)addr[0] + PAGE_SIZE);
	let_go(kmap, addr[0]);
	let_go(kmap, addr[1]);
	assert_int_equal(weir_kmap_pair(kmap, two, addr), 0);
	assert_int_equal(*(uint32_t *)addr[0], two[0]);
	assert_int_equal(*(uint32_t *)addr[1], two[1]);
	let_go(kmap, addr[0]);
	let_go(kmap, addr[1]);
	windows_end(kmap);
	kmap = slots_make(1, 1);
	assert_int_equal(weir_kmap_pair(kmap, two, addr), -EINVAL);
	windows_end(kmap);
}

struct pairs {
	struct weir_kmap *kmap;
	_Atomic unsigned wrong;
};

static void pairs_body(unsigned index, void *data)
{
	struct pairs *p = data;
	uint64_t seed = index + 1;

	for (unsigned i = 0; i < 2000; i++) {
		const weir_pfn_t pfn[2] = {random_below(&seed, 40) * FRAMES_IN,
					   random_below(&seed, 40) * FRAMES_IN};
		void *addr[2];

		if (weir_kmap_pair(p->kmap, pfn, addr) || *(uint32_t *)addr[0] != pfn[0] ||
		    *(uint32_t *)addr[1] != pfn[1] || weir_kunmap(p->kmap, addr[0]) ||
		    weir_kunmap(p->kmap, addr[1]))
			add_relaxed(&p->wrong, 1);
	}
}

/* N threads that need two slots each, and N + 1 slots; also the fewest that are possible. */
static void pairs_never_deadlock(void **state)
{
	const unsigned slots[] = {4, 2};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(slots); i++) {
		struct pairs p = {.kmap = slots_make(slots[i], 1)};

		run_threads(3, pairs_body, &p);
		assert_int_equal(load_relaxed(&p.wrong), 0);
		windows_end(p.kmap);
	}
}

/* --- with a pool --- */

static int never(void *data, weir_pfn_t from, unsigned order, uint64_t private_word, weir_pfn_t to)
{
	struct weir_kmap *kmap = data;
	const weir_pfn_t pfn[2] = {from, to};
	void *addr[2];

	(void)private_word;
	if (weir_kmap_pair(kmap, pfn, addr))
		return -EAGAIN;
	memcpy(addr[1], addr[0], PAGE_SIZE << order);
	(void)weir_kunmap(kmap, addr[0]);
	(void)weir_kunmap(kmap, addr[1]);
	return 0;
}

/* Low frames have their address; high ones a window; one that is held counts as pinned, and moves when it is not. */
static void a_held_frame_counts_as_pinned(void **state)
{
	const struct weir_pool_options options = {.size = sizeof(options),
						  .low_max = MIB(4),
						  .high_max = MIB(16),
						  .block = MIB(4),
						  .cache_frames = WEIR_POOL_NO_CACHE};
	struct weir_kmap_options windows = {.size = sizeof(windows), .slots = 4};
	struct weir_pool_owner owner = {.size = sizeof(owner), .name = "test", .migrate = never};
	struct weir_pool *pool;
	struct weir_pool_why why;
	struct weir_block_info block;
	struct weir_kmap *kmap;
	uint32_t low, high;
	int64_t pfn;
	void *addr;
	int id;

	(void)state;
	assert_int_equal(weir_pool_create(&options, &pool), 0);
	windows.pool = pool;
	assert_int_equal(weir_kmap_create(&windows, &kmap), 0);
	memset(&os, 0, sizeof(os));
	os.kmap = kmap;
	owner.data = kmap;
	id = weir_pool_owner_add(pool, &owner);
	assert_int_equal(weir_pool_add(pool, WEIR_ZONE_LOW, 1, &low), 0);
	assert_int_equal(weir_pool_add(pool, WEIR_ZONE_HIGH, 4, &high), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(weir_pool_online(pool, high + i, NULL), 0);
	assert_int_equal(weir_pool_online(pool, low, NULL), 0);
	pfn = weir_pool_alloc(pool, 0, 0, 0);
	assert_int_equal(weir_kmap(kmap, (weir_pfn_t)pfn, &addr), 0);
	assert_ptr_equal(addr, (char *)weir_pool_base(pool) + ((size_t)pfn << PAGE_SHIFT));
	assert_ptr_equal(weir_kmap_address(kmap, (weir_pfn_t)pfn), addr);
	let_go(kmap, addr);
	assert_int_equal(os.maps, 0);
	pfn = weir_pool_alloc(pool, 2, WEIR_POOL_HIGH | WEIR_POOL_MOVABLE, (unsigned)id);
	assert_true(pfn >= weir_pool_end(pool, WEIR_ZONE_LOW));
	assert_int_equal(weir_kmap(kmap, (weir_pfn_t)pfn, &addr), 0);
	memset(addr, 0x5a, PAGE_SIZE << 2);
	low = (uint32_t)(pfn / weir_pool_block_frames(pool));
	assert_int_equal(weir_pool_offline(pool, low, NULL, &why), -EBUSY);
	assert_int_equal(why.reason, WEIR_POOL_PINNED);
	assert_int_equal(why.pfn, pfn);
	assert_int_equal(why.pins, 1);
	let_go(kmap, addr);
	assert_int_equal(weir_pool_offline(pool, low, NULL, &why), 0);
	assert_int_equal(weir_pool_block_read(pool, low, &block), 0);
	assert_int_equal(block.state, WEIR_BLOCK_OFFLINE);
	/* A window that is still there keeps no memory: what comes back reads as it was given. */
	assert_int_equal(weir_pool_online(pool, low, NULL), 0);
	assert_int_equal(weir_kmap(kmap, (weir_pfn_t)pfn, &addr), 0);
	assert_true(all_bytes_are(addr, 0, PAGE_SIZE << 2));
	let_go(kmap, addr);
	assert_int_equal(weir_kmap_destroy(kmap), 0);
	weir_pool_destroy(pool);
}

static void a_pool_without_zone_high_has_no_windows(void **state)
{
	const struct weir_pool_options options = {.size = sizeof(options), .low_max = MIB(4)};
	struct weir_kmap_options windows = {.size = sizeof(windows)};
	struct weir_kmap *kmap;

	(void)state;
	assert_int_equal(weir_pool_create(&options, &windows.pool), 0);
	assert_int_equal(weir_kmap_create(&windows, &kmap), -EINVAL);
	weir_pool_destroy(windows.pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lost_race_uses_the_winners_slot),
		cmocka_unit_test(a_frame_that_is_being_mapped_is_waited_for),
		cmocka_unit_test(a_waiter_for_a_reserved_slot_takes_no_wake_up),
		cmocka_unit_test(a_long_bucket_hides_nothing),
		cmocka_unit_test(a_map_that_fails_holds_nothing),
		cmocka_unit_test(a_map_that_fails_wakes_who_waits_for_it),
		cmocka_unit_test(each_allocation_fails_in_turn),
		cmocka_unit_test(options_are_checked),
		cmocka_unit_test(a_pfn_out_of_range_is_refused),
		cmocka_unit_test(an_unbalanced_put_is_detected),
		cmocka_unit_test(destroy_refuses_what_is_held),
		cmocka_unit_test(a_pair_takes_both_or_none),
		cmocka_unit_test(pairs_never_deadlock),
		cmocka_unit_test(a_held_frame_counts_as_pinned),
		cmocka_unit_test(a_pool_without_zone_high_has_no_windows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
