/* SPDX-License-Identifier: BSD-2-Clause */
/* The index of regions by address: what is found is what a search of all says, also while regions come and go. */
#include "../base/help.h"

#include "../random.h"

#include <pthread.h>

#include "base/base.h"
#include "vm/vm.h"

enum { PLACES = 512, MOST_PAGES = 8 };

static struct vm vm;
/* Regions that need no memory: each may be at one place only, so that none overlap. Every other place is a gap. */
static struct region at[PLACES];
static bool there[PLACES];

static uintptr_t place(unsigned i)
{
	return ((uintptr_t)(i + 1) * 2 * MOST_PAGES) << PAGE_SHIFT;
}

static void places_open(void)
{
	assert_int_equal(vm_init(&vm, NULL, NULL, NULL), 0);
	memset(there, 0, sizeof(there));
	for (unsigned i = 0; i < PLACES; i++) {
		at[i].base =
			(char *)place(i); /* NOLINT(performance-no-int-to-ptr): never accessed */
		at[i].room = 1 + i % MOST_PAGES;
		at[i].hidden = false;
	}
}

static void come(unsigned i)
{
	region_publish(&vm, region_place(&vm), &at[i]);
	there[i] = true;
}

static void go(unsigned i)
{
	region_hide(&vm, &at[i]);
	there[i] = false;
}

/* The slow way. */
static struct region *search(uintptr_t address)
{
	for (unsigned i = 0; i < PLACES; i++) {
		if (there[i] && address >= place(i) &&
		    address < place(i) + ((uintptr_t)at[i].room << PAGE_SHIFT))
			return &at[i];
	}
	return NULL;
}

static void check_all(void)
{
	for (unsigned i = 0; i < PLACES; i++) {
		const uintptr_t begin = place(i),
				end = begin + ((uintptr_t)at[i].room << PAGE_SHIFT);
		const uintptr_t borders[] = {begin - 1, begin, begin + 1, end - 1, end};

		for (unsigned k = 0; k < ARRAY_SIZE(borders); k++)
			assert_ptr_equal(vm_find(&vm, borders[k]), search(borders[k]));
	}
	assert_null(vm_find(&vm, 0));
	assert_null(vm_find(&vm, UINTPTR_MAX));
}

static void test_finds_what_a_search_finds(void **state)
{
	uint64_t rng = 42;
	unsigned count = 0, seen_full = 0, seen_empty = 0;

	(void)state;
	places_open();
	for (unsigned step = 0; step < 6000; step++) {
		const unsigned i = random_next(&rng) % PLACES;
		/* Mostly more, then mostly fewer. */
		const bool more = random_next(&rng) % 16 != 0;

		if (there[i] != (more == (step / 1500 % 2 == 0))) {
			count += there[i] ? -1u : 1u;
			if (there[i])
				go(i);
			else
				come(i);
		}
		assert_int_equal(index_count(&vm), count);
		seen_full += count > PLACES * 3 / 4;
		seen_empty += count < PLACES / 4;
		if (step % 250 == 0)
			check_all();
	}
	check_all();
	assert_true(seen_full > 100 && seen_empty > 100);
	vm_destroy(&vm);
}

static void test_destroyed_twice(void **state)
{
	(void)state;
	places_open();
	vm_destroy(&vm);
	/* Twice is once. */
	vm_destroy(&vm);
	assert_null(vm.index);
	assert_int_equal(load_relaxed(&vm.regions), 0);
}

/* --- beside readers --- */

static _Atomic bool stop;
static _Atomic uint64_t looked;

/* Regions of even places stay, those of odd ones come and go. */
static void *reader(void *data)
{
	uint64_t rng = (uintptr_t)data, n = 0;

	while (!load_relaxed(&stop)) {
		const unsigned i = random_next(&rng) % PLACES;
		const uintptr_t offset = random_next(&rng) % ((uintptr_t)at[i].room << PAGE_SHIFT);
		struct region *found = vm_find(&vm, place(i) + offset);

		if (found != &at[i] && (i % 2 == 0 || found))
			return at;
		/* The gap behind it is never anybody's. */
		if (vm_find(&vm, place(i + 1) - 1))
			return at;
		if (++n % 64 == 0)
			add_relaxed(&looked, 64);
	}
	return NULL;
}

static void test_readers_beside_changes(void **state)
{
	enum { READERS = 3, CHANGES = 3000 };
	pthread_t thread[READERS];
	uint64_t rng = 7;

	(void)state;
	places_open();
	store_relaxed(&stop, false);
	store_relaxed(&looked, 0);
	for (unsigned i = 0; i < PLACES; i += 2)
		come(i);
	for (uintptr_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, reader, (void *)(i + 1)), 0);
	for (unsigned n = 0; n < CHANGES || load_relaxed(&looked) < 10000; n++) {
		const unsigned i = random_next(&rng) % PLACES | 1;

		if (there[i])
			go(i);
		else
			come(i);
	}
	store_relaxed(&stop, true);
	for (unsigned i = 0; i < READERS; i++) {
		void *wrong;

		assert_int_equal(pthread_join(thread[i], &wrong), 0);
		assert_null(wrong);
	}
	check_all();
	vm_destroy(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_what_a_search_finds),
		cmocka_unit_test(test_destroyed_twice),
		cmocka_unit_test(test_readers_beside_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
