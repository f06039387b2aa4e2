/* SPDX-License-Identifier: BSD-2-Clause */
/* Invariants of src/kmap, one a test; each on windows that are found by a table and on such that are hashed, where it matters. */
#include "windows.h"

/* --- holding --- */

static void a_hit_makes_no_system_call(void **state)
{
	struct weir_kmap *kmap = slots_make(8, 0);
	char *one = hold(kmap, 7), *two;
	void *inside;

	(void)state;
	two = hold(kmap, 7);
	assert_ptr_equal(one, two);
	assert_int_equal(weir_kmap(kmap, 7 * FRAMES_IN + 3, &inside), 0);
	assert_ptr_equal(inside, one + 3 * PAGE_SIZE);
	assert_int_equal(*(uint32_t *)inside, 7 * FRAMES_IN + 3);
	assert_int_equal(os.maps, 1);
	assert_int_equal(stats(kmap).hits, 2);
	assert_int_equal(stats(kmap).misses, 1);
	assert_int_equal(stats(kmap).held, 3);
	let_go(kmap, inside);
	let_go(kmap, one);
	let_go(kmap, two);
	visit(kmap, 7);
	assert_int_equal(os.maps, 1);
	windows_end(kmap);
}

/* Its pattern stays for the life of the hold, whatever else is mapped. */
static void a_held_slot_is_never_remapped(void **state)
{
	struct weir_kmap *kmap = slots_make(8, 4);
	char *held[3] = {hold(kmap, 1), hold(kmap, 2), hold(kmap, 3)};

	(void)state;
	for (uint32_t range = 10; range < RANGES; range++) {
		visit(kmap, range);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(*(uint32_t *)(void *)held[i], (i + 1) * FRAMES_IN);
	}
	for (unsigned i = 0; i < 3; i++)
		let_go(kmap, held[i]);
	windows_end(kmap);
}

static void check_unique(struct weir_kmap *kmap)
{
	for (unsigned i = 0; i < kmap->slots; i++) {
		const uint32_t key = load_relaxed(&kmap->slot[i].key);

		for (unsigned j = 0; j < i && key != KEY_NONE; j++)
			assert_int_not_equal(load_relaxed(&kmap->slot[j].key), key);
		if (key != KEY_NONE)
			assert_int_equal(assoc_find(kmap, key), i + 1);
	}
}

static void a_frame_is_in_at_most_one_slot(void **state)
{
	const unsigned forms[] = {WEIR_KMAP_TABLED, WEIR_KMAP_HASHED};
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned form = 0; form < 2; form++) {
		struct weir_kmap *kmap = windows_make(
			&(struct weir_kmap_options){.slots = 16, .flags = forms[form]});
		void *held[8] = {0};

		for (unsigned i = 0; i < 3000; i++) {
			void **at = &held[random_below(&seed, 8)];

			if (*at)
				let_go(kmap, *at);
			*at = hold(kmap, random_below(&seed, 40));
			check_unique(kmap);
		}
		for (unsigned i = 0; i < 8; i++)
			let_go(kmap, held[i]);
		windows_end(kmap);
	}
}

/* Another range moved in between the look-up of a slot and the hold on it. */
static void reuse_between_lookup_and_hold_is_caught(void **state)
{
	struct weir_kmap *kmap = slots_make(1, 1);

	(void)state;
	visit(kmap, 5);
	assert_int_equal(assoc_find(kmap, 5), 1);
	visit(kmap, 6);
	assert_int_equal(slot_pin(kmap, 0, 5), MOVED);
	assert_int_equal(stats(kmap).held, 0);
	assert_int_equal(stats(kmap).hits, 0);
	assert_int_equal(slot_pin(kmap, 0, 6), PINNED);
	assert_int_equal(slot_put(kmap, 0), 0);
	windows_end(kmap);
}

static void hits_are_counted_beyond_what_the_word_holds(void **state)
{
	struct weir_kmap *kmap = slots_make(2, 1);

	(void)state;
	visit(kmap, 9);
	store_relaxed(&kmap->slot[assoc_find(kmap, 9) - 1].word, 0xffffffffull << 32 | 1);
	visit(kmap, 9);
	visit(kmap, 9);
	assert_int_equal(stats(kmap).hits, (1ull << 32) + 1);
	windows_end(kmap);
}

/* --- retiring --- */

/* Under misses alone a batch goes with one call, and none is mapped over one that was not taken away. */
static void slots_are_retired_in_batches(void **state)
{
	struct weir_kmap *kmap = slots_make(64, 32);
	struct weir_kmap_stats s;

	(void)state;
	for (uint32_t i = 0; i < 64 + 10 * 32; i++)
		visit(kmap, i % RANGES);
	s = stats(kmap);
	assert_int_equal(s.hits, 0);
	assert_int_equal(s.retired, 10 * 32);
	assert_int_equal(s.flushes, 10);
	assert_true(s.flushes <= s.retired / 32 + 1);
	assert_int_equal(os.hides, s.flushes);
	assert_int_equal(os.remaps, 0);
	windows_end(kmap);
}

static void no_slot_is_reused_before_its_flush(void **state)
{
	uint64_t seed = test_seed();
	struct weir_kmap *kmap = slots_make(32, 8);
	void *held[6] = {0};

	(void)state;
	for (unsigned i = 0; i < 5000; i++) {
		void **at = &held[random_below(&seed, 6)];

		if (*at)
			let_go(kmap, *at);
		*at = hold(kmap, random_below(&seed, random_chance(&seed, 2) ? 20 : RANGES));
		/* One that goes alone is flushed by the call that maps the next range there. */
		assert_int_equal(stats(kmap).flushes, os.hides + os.remaps);
	}
	for (unsigned i = 0; i < 6; i++)
		let_go(kmap, held[i]);
	windows_end(kmap);
}

/* Retired windows are out of reach; the address space stays taken. */
static void touch_in_child(void *addr)
{
	/* Not cmocka's handler. */
	signal(SIGSEGV, SIG_DFL);
	*(volatile char *)addr;
}

static void a_retired_window_is_inaccessible(void **state)
{
	struct weir_kmap *kmap = slots_make(8, 8);
	char *old = hold(kmap, 0);
	struct child child;

	(void)state;
	let_go(kmap, old);
	for (uint32_t i = 1; i <= 8; i++)
		visit(kmap, i);
	assert_int_equal(stats(kmap).flushes, 1);
	/* The slot of the first is in use again; the others of the batch are empty. */
	run_child(&child, touch_in_child, kmap->base + 3 * SLOT);
	assert_true(child.status != 0);
	run_child(&child, touch_in_child, kmap->base);
	assert_int_equal(child.status, 0);
	windows_end(kmap);
}

/* What was used since the hand came by stays; the rest goes. */
static void a_young_slot_gets_a_second_chance(void **state)
{
	struct weir_kmap *kmap = slots_make(8, 1);

	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		visit(kmap, i);
	visit(kmap, 0);
	visit(kmap, 3);
	for (uint32_t i = 10; i < 16; i++)
		visit(kmap, i);
	assert_non_null(weir_kmap_address(kmap, 0));
	assert_non_null(weir_kmap_address(kmap, 3 * FRAMES_IN));
	assert_null(weir_kmap_address(kmap, 1 * FRAMES_IN));
	assert_null(weir_kmap_address(kmap, 7 * FRAMES_IN));
	windows_end(kmap);
}

static void all_young_the_hand_ends(void **state)
{
	struct weir_kmap *kmap = slots_make(8, 2);

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 8; i++)
			visit(kmap, i);
	}
	store_relaxed(&kmap->hand, 0);
	visit(kmap, 100);
	assert_true(load_relaxed(&kmap->hand) <= 2 * 8);
	windows_end(kmap);
}

static void the_hand_wraps(void **state)
{
	struct weir_kmap *kmap = slots_make(8, 2);

	(void)state;
	store_relaxed(&kmap->hand, UINT32_MAX - 5);
	for (uint32_t i = 0; i < 100; i++)
		visit(kmap, i);
	assert_true(load_relaxed(&kmap->hand) < 1000);
	assert_int_equal(stats(kmap).misses, 100);
	windows_end(kmap);
}

/* --- exhausted --- */

static void all_held_try_says_so(void **state)
{
	struct weir_kmap *kmap = slots_make(4, 1);
	char *held[4];
	void *addr;

	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		held[i] = hold(kmap, i);
	assert_int_equal(weir_kmap_try(kmap, 50 * FRAMES_IN, &addr), -EAGAIN);
	/* What is mapped needs no slot. */
	assert_int_equal(weir_kmap_try(kmap, 2 * FRAMES_IN, &addr), 0);
	let_go(kmap, addr);
	let_go(kmap, held[1]);
	assert_int_equal(weir_kmap_try(kmap, 50 * FRAMES_IN, &addr), 0);
	let_go(kmap, addr);
	for (uint32_t i = 0; i < 4; i++) {
		if (i != 1)
			let_go(kmap, held[i]);
	}
	windows_end(kmap);
}

struct sleeper {
	struct weir_kmap *kmap;
	uint32_t range;
	_Atomic bool done;
	bool fault, right;
};

static void *sleeper_main(void *data)
{
	struct sleeper *s = data;
	const weir_pfn_t pfn = s->range * FRAMES_IN;
	void *addr;

	if (!(s->fault ? weir_kmap_fault(s->kmap, pfn, &addr) : weir_kmap(s->kmap, pfn, &addr))) {
		s->right = *(uint32_t *)addr == pfn;
		(void)weir_kunmap(s->kmap, addr);
	}
	store_relaxed(&s->done, true);
	return NULL;
}

static void waits_reach(struct weir_kmap *kmap, uint64_t count)
{
	while (stats(kmap).waits < count)
		sched_yield();
}

/* It sleeps: `waits` counts each look around, and stands still. */
static void all_held_waits_and_does_not_spin(void **state)
{
	struct weir_kmap *kmap = slots_make(2, 1);
	char *one = hold(kmap, 1), *two = hold(kmap, 2);
	struct sleeper s[2] = {{.kmap = kmap, .range = 8}, {.kmap = kmap, .range = 9}};
	pthread_t thread[2];
	uint64_t waits;

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, sleeper_main, &s[i]), 0);
	waits_reach(kmap, 2);
	waits = stats(kmap).waits;
	for (unsigned i = 0; i < 1000; i++)
		sched_yield();
	assert_true(stats(kmap).waits <= waits + 2);
	assert_false(load_relaxed(&s[0].done) || load_relaxed(&s[1].done));
	/* One slot is enough for both: who has it wakes the next when it returns it. */
	let_go(kmap, one);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(thread[i], NULL);
		assert_true(s[i].right);
	}
	let_go(kmap, two);
	windows_end(kmap);
}

/* Two sleepers, both want the same range: the one that was woken takes a slot, the other needs none. */
static void who_takes_no_slot_wakes_the_next(void **state)
{
	struct weir_kmap *kmap = slots_make(2, 1);
	char *one = hold(kmap, 1), *two = hold(kmap, 2);
	struct sleeper s[3] = {
		{.kmap = kmap, .range = 8}, {.kmap = kmap, .range = 8}, {.kmap = kmap, .range = 9}};
	pthread_t thread[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, sleeper_main, &s[i]), 0);
	waits_reach(kmap, 3);
	let_go(kmap, one);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(thread[i], NULL);
		assert_true(s[i].right);
	}
	let_go(kmap, two);
	windows_end(kmap);
}

/* --- the reserve --- */

/* Somebody who holds all the slots that he can get faults: the fault is served. */
static void the_fault_path_never_waits_for_a_holder(void **state)
{
	struct weir_kmap *kmap =
		windows_make(&(struct weir_kmap_options){.slots = 8, .reserve = 2});
	const weir_pfn_t pair[2] = {30 * FRAMES_IN, 31 * FRAMES_IN};
	char *held[6];
	void *addr, *two[2];

	(void)state;
	for (uint32_t i = 0; i < 6; i++)
		held[i] = hold(kmap, i);
	assert_int_equal(weir_kmap_try(kmap, 20 * FRAMES_IN, &addr), -EAGAIN);
	for (uint32_t i = 20; i < 28; i++) {
		assert_int_equal(weir_kmap_fault(kmap, i * FRAMES_IN, &addr), 0);
		assert_int_equal(*(uint32_t *)addr, i * FRAMES_IN);
		let_go(kmap, addr);
	}
	assert_int_equal(weir_kmap_pair_fault(kmap, pair, two), 0);
	let_go(kmap, two[0]);
	let_go(kmap, two[1]);
	assert_int_equal(stats(kmap).waits, 0);
	for (uint32_t i = 0; i < 6; i++)
		let_go(kmap, held[i]);
	windows_end(kmap);
}

/* A range that the fault path mapped in the reserve: others cannot hold it there, so it comes to a slot of theirs. */
static void nobody_else_holds_a_reserved_slot(void **state)
{
	struct weir_kmap *kmap =
		windows_make(&(struct weir_kmap_options){.slots = 4, .reserve = 2});
	char *one = hold(kmap, 1), *two = hold(kmap, 2);
	struct sleeper s = {.kmap = kmap, .range = 9};
	pthread_t thread;
	void *addr, *again;

	(void)state;
	assert_int_equal(weir_kmap_fault(kmap, 9 * FRAMES_IN, &addr), 0);
	assert_true((char *)addr < kmap->base + 2 * SLOT);
	assert_int_equal(weir_kmap_try(kmap, 9 * FRAMES_IN, &again), -EAGAIN);
	let_go(kmap, two);
	assert_int_equal(weir_kmap_try(kmap, 9 * FRAMES_IN, &again), -EAGAIN);
	/* Held there by the fault path: waited for. */
	assert_int_equal(pthread_create(&thread, NULL, sleeper_main, &s), 0);
	waits_reach(kmap, 1);
	let_go(kmap, addr);
	pthread_join(thread, NULL);
	assert_true(s.right);
	again = hold(kmap, 9);
	assert_true((char *)again >= kmap->base + 2 * SLOT);
	let_go(kmap, again);
	let_go(kmap, one);
	windows_end(kmap);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hit_makes_no_system_call),
		cmocka_unit_test(a_held_slot_is_never_remapped),
		cmocka_unit_test(a_frame_is_in_at_most_one_slot),
		cmocka_unit_test(reuse_between_lookup_and_hold_is_caught),
		cmocka_unit_test(hits_are_counted_beyond_what_the_word_holds),
		cmocka_unit_test(slots_are_retired_in_batches),
		cmocka_unit_test(no_slot_is_reused_before_its_flush),
		cmocka_unit_test(a_retired_window_is_inaccessible),
		cmocka_unit_test(a_young_slot_gets_a_second_chance),
		cmocka_unit_test(all_young_the_hand_ends),
		cmocka_unit_test(the_hand_wraps),
		cmocka_unit_test(all_held_try_says_so),
		cmocka_unit_test(all_held_waits_and_does_not_spin),
		cmocka_unit_test(who_takes_no_slot_wakes_the_next),
		cmocka_unit_test(the_fault_path_never_waits_for_a_holder),
		cmocka_unit_test(nobody_else_holds_a_reserved_slot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
