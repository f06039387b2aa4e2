/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Forks of an instance with containers, on the real kernel: the child has the same tree with the same limits, every page of it is charged to the
 * container that its word names, and to all above it, and the limits hold. What most pages are at the fork is compressed, or in the file.
 */
#include "open.h"

#include <pthread.h>

#include "base/atomic.h"
#include "control/stock.h"
#include "os/thread.h"

enum { REGIONS = 5, PAGES = 1024, WORDS = PAGE_SIZE / 8, OWN = 300000 };

static struct weir_container *root, *batch, *nightly, *other;
static uint64_t (*memory[REGIONS])[WORDS];

/* --- contents --- */

/* Half of the pages do not compress, one in eight is a single word. */
static uint64_t word_for(unsigned r, uint32_t page, uint32_t version, unsigned i)
{
	uint64_t seed = (uint64_t)version << 40 | (uint64_t)r << 32 | page;
	const uint64_t base = random_next(&seed);

	return page % 8 < 4    ? base * (2 * i + 1)
	       : page % 8 == 4 ? (base & 0xffffffffu) * 0x100000001u
			       : base + i / 16;
}

static void write_all(uint32_t version)
{
	for (unsigned r = 0; r < REGIONS; r++) {
		for (uint32_t page = 0; page < PAGES; page++) {
			for (unsigned i = 0; i < WORDS; i++)
				memory[r][page][i] = word_for(r, page, version, i);
		}
	}
}

static bool all_right(uint32_t version)
{
	for (unsigned r = 0; r < REGIONS; r++) {
		for (uint32_t page = 0; page < PAGES; page++) {
			for (unsigned i = 0; i < WORDS; i++) {
				const uint64_t expected = word_for(r, page, version, i);

				if (memory[r][page][i] == expected)
					continue;
				print_error(
					"region %u, page %u, word %u: expected %llx, seen %llx\n",
					r, page, i, (unsigned long long)expected,
					(unsigned long long)memory[r][page][i]);
				return false;
			}
		}
	}
	return true;
}

/* --- charges --- */

struct sums {
	uint64_t resident, compressed, swap;
};

static int quiet(void *data)
{
	instance_quiesce(data);
	return 0;
}

static struct sums sums_of(const struct weir_container *c)
{
	struct sums sums = {0};

	for (uint32_t i = 0; i < load_relaxed(&weir->vm.regions); i++) {
		const struct region *region = load_acquire(&weir->vm.region[i]);

		for (uint32_t page = 0; region && page < load_relaxed(&region->pages); page++) {
			const uint64_t w = load_relaxed(&region->word[page]);

			if (word_state(w) == PAGE_NONE ||
			    !container_below(page_owner(region, w), c))
				continue;
			sums.resident += word_resident(w) ? PAGE_SIZE : 0;
			if (word_kind(w) == COPY_MEMORY)
				sums.compressed += compressed_room(&weir->memory, word_location(w));
			else if (word_kind(w) == COPY_FILE)
				sums.swap += store_key_bytes(weir->vm.store, word_location(w));
		}
	}
	return sums;
}

static bool equal(const char *name, const char *what, uint64_t seen, uint64_t expected)
{
	if (seen != expected)
		print_error("container '%s', %s: expected %llu as the words say, seen %llu\n", name,
			    what, (unsigned long long)expected, (unsigned long long)seen);
	return seen == expected;
}

/* While nobody touches a page: counters of each container are what its pages say, and what the program has charged itself. */
static bool charges_agree(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};
	bool right = !weir_stats_read(weir, &stats);

	reclaim_hold(&weir->reclaim);
	right = right && !reclaim_errand(&weir->reclaim, quiet, weir);
	(void)stocks_drain(&weir->containers, NULL, true);
	for (struct weir_container *c = root; c && right; c = container_next(root, c)) {
		const struct sums s = sums_of(c);
		const uint64_t own = (container_below(nightly, c) ? OWN : 0) +
				     (c == root ? stats.packet_bytes : 0);

		right = equal(c->name, "resident", container_usage(c, CHARGE_RESIDENT),
			      s.resident) &&
			equal(c->name, "compressed", container_usage(c, CHARGE_COMPRESSED),
			      s.compressed) &&
			equal(c->name, "in the file", weir_container_get(c, WEIR_SWAP_CURRENT),
			      s.swap) &&
			equal(c->name, "charged", container_charged(c),
			      s.resident + s.compressed + own);
	}
	reclaim_release(&weir->reclaim);
	return right;
}

static bool all_kinds(const struct weir_container *c)
{
	return container_usage(c, CHARGE_RESIDENT) && container_usage(c, CHARGE_COMPRESSED) &&
	       load_relaxed(&c->swap);
}

static bool limits_hold(void)
{
	struct weir_container *over = root;

	for (unsigned i = 0; over && i < PATIENCE_MS; i++) {
		over = NULL;
		for (struct weir_container *c = root; c; c = container_next(root, c)) {
			if (weir_container_get(c, WEIR_CURRENT) > weir_container_get(c, WEIR_MAX))
				over = c;
		}
		if (over)
			sleep_ns(1000000);
	}
	if (over)
		print_error("container '%s': expected at most %llu bytes, seen %llu\n", over->name,
			    (unsigned long long)weir_container_get(over, WEIR_MAX),
			    (unsigned long long)weir_container_get(over, WEIR_CURRENT));
	return !over;
}

/* The pages of the region that are in memory are not more than its container may have. */
static bool region_within(unsigned r, const struct weir_container *c)
{
	return few_in_memory(c->name, memory[r], PAGES, load_relaxed(&c->max) >> PAGE_SHIFT);
}

/* --- a fork --- */

static bool values_are(void)
{
	return weir_container_find(root, "batch/nightly") == nightly &&
	       weir_container_find(root, "other") == other &&
	       load_relaxed(&weir->containers.count) == 4 &&
	       weir_container_get(root, WEIR_MAX) == MIB(8) &&
	       weir_container_get(batch, WEIR_MAX) == MIB(5) &&
	       weir_container_get(nightly, WEIR_MAX) == MIB(2) &&
	       weir_container_get(nightly, WEIR_HIGH) == MIB(2) - KIB(256) &&
	       weir_container_get(nightly, WEIR_LOW) == KIB(512) &&
	       weir_container_get(other, WEIR_SWAP_MAX) == MIB(3) &&
	       weir_container_get(other, WEIR_MAX) == WEIR_NO_LIMIT;
}

/* What a child sees, as the number of the first thing that is wrong. */
static int child_checks(uint32_t version)
{
	if (!charges_agree())
		return 2;
	if (!values_are())
		return 3;
	if (!all_right(version))
		return 4;
	write_all(7);
	if (!limits_hold() || !region_within(0, nightly) || !region_within(1, batch))
		return 5;
	if (!charges_agree())
		return 6;
	if (weir_container_get(other, WEIR_SWAP_CURRENT) > MIB(3))
		return 7;
	return all_right(7) ? 0 : 8;
}

static void weir_child(void)
{
	int err = weir_after_fork_child(weir);

	if (err) {
		print_error("child: expected a hand-over, seen %d\n", err);
		_exit(9);
	}
	handlers_begun();
}

static void test_a_child_has_the_same_tree(void **state)
{
	pid_t child;

	(void)state;
	write_all(1);
	assert_true(charges_agree());
	/* There is something of each kind to count, below the root as well. */
	for (unsigned i = 0; !(all_kinds(root) && all_kinds(batch)); i++) {
		assert_true(i < PATIENCE_MS);
		sleep_ns(1000000);
	}
	assert_int_equal(weir_before_fork(weir), 0);
	child = fork();
	if (!child) {
		weir_child();
		_exit(child_checks(1));
	}
	weir_after_fork(weir);
	write_all(2);
	expect_child(child);
	assert_true(values_are());
	assert_true(limits_hold());
	assert_true(charges_agree());
	assert_true(all_right(2));
}

/* Each has a limit of its own: what a child sets, and what it deletes, is its own. And a child of that child. */
static void test_trees_are_not_shared(void **state)
{
	pid_t child, second;

	(void)state;
	write_all(3);
	assert_int_equal(weir_before_fork(weir), 0);
	child = fork();
	if (!child) {
		int status = 0;

		weir_child();
		if (weir_before_fork(weir))
			_exit(10);
		second = fork();
		if (!second) {
			weir_child();
			_exit(child_checks(3));
		}
		weir_after_fork(weir);
		if (waitpid(second, &status, 0) != second || status)
			_exit(11);
		(void)weir_container_set(other, WEIR_MAX, MIB(1));
		weir_uncharge(nightly, OWN);
		if (weir_container_delete(nightly) || !limits_hold())
			_exit(12);
		nightly = NULL;
		/* Whose it was: the parent's pages, to the byte. */
		_exit(charges_agree() && all_right(3) ? 0 : 13);
	}
	weir_after_fork(weir);
	expect_child(child);
	assert_true(values_are());
	assert_true(charges_agree());
	assert_true(all_right(3));
}

static _Atomic bool changing, over;

static void *changer(void *data)
{
	(void)data;
	store_relaxed(&changing, true);
	while (!load_relaxed(&over)) {
		struct weir_container *a, *b;

		assert_always(!weir_container_create(batch, "a", &a));
		assert_always(!weir_container_create(a, "b", &b));
		(void)weir_container_set(a, WEIR_MAX, MIB(4));
		assert_always(!weir_container_move(b, other));
		assert_always(!weir_container_delete(a));
		assert_always(!weir_container_delete(b));
	}
	return NULL;
}

/* Beside a thread that makes, moves and deletes containers: each child has a tree that is whole. */
static void test_forks_beside_changes_of_the_tree(void **state)
{
	enum { FORKS = 20 };
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, changer, NULL), 0);
	while (!load_relaxed(&changing))
		sleep_ns(100000);
	for (unsigned i = 0; i < FORKS; i++) {
		pid_t child;

		assert_int_equal(weir_before_fork(weir), 0);
		child = fork();
		if (!child) {
			uint32_t count = 0;
			struct weir_container *own;

			weir_child();
			for (struct weir_container *c = root; c; c = container_next(root, c))
				count++;
			if (count != load_relaxed(&weir->containers.count))
				_exit(2);
			if (weir_container_create(other, "own", &own) ||
			    weir_container_delete(own) || !charges_agree())
				_exit(3);
			_exit(0);
		}
		weir_after_fork(weir);
		expect_child(child);
	}
	store_relaxed(&over, true);
	pthread_join(thread, NULL);
	assert_true(values_are());
}

static void region_in(unsigned r, struct weir_container *c)
{
	const struct weir_region_options options = {.size = sizeof(options), .container = c};
	void *base;

	assert_int_equal(
		weir_region_create_with(weir, (uint64_t)PAGES * PAGE_SIZE, &options, &base), 0);
	memory[r] = base;
}

static int start(void **state)
{
	(void)state;
	open_for_forks(MIB(8));
	root = weir_container_root(weir);
	assert_int_equal(weir_container_create(root, "batch", &batch), 0);
	assert_int_equal(weir_container_create(batch, "nightly", &nightly), 0);
	assert_int_equal(weir_container_create(root, "other", &other), 0);
	assert_int_equal(weir_container_set(batch, WEIR_MAX, MIB(5)), 0);
	assert_int_equal(weir_container_set(nightly, WEIR_MAX, MIB(2)), 0);
	assert_int_equal(weir_container_set(nightly, WEIR_HIGH, MIB(2) - KIB(256)), 0);
	assert_int_equal(weir_container_set(nightly, WEIR_LOW, KIB(512)), 0);
	assert_int_equal(weir_container_set(other, WEIR_SWAP_MAX, MIB(3)), 0);
	assert_int_equal(weir_charge(nightly, OWN), 0);
	region_in(0, nightly);
	region_in(1, batch);
	region_in(2, other);
	region_in(3, root);
	/* Its pages are of two. */
	region_in(4, other);
	memset(memory[4], 1, (size_t)PAGES / 2 * PAGE_SIZE);
	assert_int_equal(weir_region_move(weir, memory[4], batch, WEIR_MOVE_LATER), 0);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_child_has_the_same_tree),
		cmocka_unit_test(test_trees_are_not_shared),
		cmocka_unit_test(test_forks_beside_changes_of_the_tree),
	};

	return cmocka_run_group_tests(tests, start, end);
}
