/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stress test of faults is itself tested: every way to wake ends with every page right, and each handler that is
 * broken on purpose is found, with the page and both counts where a count is wrong.
 */
#include "../unit.h"

#include "../../cli/stress_fault.h"
#include "os/thread.h"

enum { PAGES = 256, NTH = 100 };

static _Atomic unsigned installs;

static struct stress_fault run_of(enum crew_way way)
{
	store_relaxed(&installs, 0);
	return (struct stress_fault){
		.bytes = PAGES * PAGE_SIZE,
		.bounces = 16,
		.cpus = 2,
		.way = way,
		.seed = test_seed(),
	};
}

static bool nth(void)
{
	return add_relaxed(&installs, 1) == NTH;
}

static int copy(int uffd, char *dst, const char *src)
{
	return uffd_copy(uffd, dst, src, PAGE_SIZE, false, NULL);
}

/* Every mode, with more handlers than CPUs too: all pages right, and every page of every bounce was served. */
static void test_every_way_verifies_every_page(void **state)
{
	(void)state;
	for (enum crew_way way = 0; way < CREW_WAYS; way++) {
		for (unsigned cpus = 1; cpus <= 8; cpus *= 2) {
			struct stress_fault run = run_of(way);

			run.cpus = cpus;
			if (stress_fault_run(&run))
				fail_msg("%s, %u: %s", crew_way_name[way], cpus, run.wrong);
			assert_true(run.faults >= 16 * PAGES);
			assert_true(run.used.wall_ns && run.used.task_ns);
		}
	}
}

/* A fault wakes those who read: never more than are wanted, however many handlers there are. No fault here waits for anything,
 * so nothing is handed over: with a fixed number of readers no follower is ever woken, and where that number follows the
 * faults (CREW_WEIR) each fault calls for one more reader at most on two CPUs, else for as many as there are CPUs. */
static void test_a_fault_wakes_only_those_that_are_wanted(void **state)
{
	(void)state;
	for (enum crew_way way = CREW_WEIR; way <= CREW_ONE; way++) {
		for (unsigned cpus = 1; cpus <= 16; cpus *= 4) {
			const unsigned readers = MIN(cpus, thread_cpu_count());
			struct stress_fault run = run_of(way);

			run.cpus = cpus;
			assert_int_equal(stress_fault_run(&run), 0);
			assert_in_range(run.in_read_most, 1, readers);
			assert_in_range(run.woken, 0,
					way == CREW_ONE ? 0 : run.faults * (readers - 1));
		}
	}
}

/* Pages are rounded to a multiple of the CPUs. */
static void test_pages_are_a_multiple_of_the_cpus(void **state)
{
	struct stress_fault run = {.bytes = MIB(100), .cpus = 24};

	(void)state;
	assert_int_equal(stress_fault_pages(&run), 25584);
}

struct broken {
	enum crew_way way;
	int (*install)(int uffd, char *dst, const char *src);
	int result;
	const char *words; /* that the message must have */
};

/* In a child: where a page never comes, the threads that wait for it are left behind. */
static void run_broken(void *arg)
{
	const struct broken *b = arg;
	struct stress_fault run = run_of(b->way);

	run.install = b->install;
	run.patience_s = b->result == -ETIMEDOUT ? 1 : 0;
	child_check(stress_fault_run(&run) == b->result);
	if (!strstr(run.wrong, b->words)) {
		dprintf(STDERR_FILENO, "%s: \"%s\" does not say \"%s\"", crew_way_name[b->way],
			run.wrong, b->words);
		_exit(1);
	}
	/* Sanitizers would count who is left. */
	syscall(SYS_exit_group, 0);
}

static void finds(int (*install)(int, char *, const char *), int result, const char *words)
{
	struct broken b = {.install = install, .result = result, .words = words};

	for (; b.way < CREW_WAYS; b.way++)
		child_passes(run_broken, &b);
}

static int zeroes(int uffd, char *dst, const char *src)
{
	return nth() ? uffd_zeropage(uffd, dst, PAGE_SIZE, NULL) : copy(uffd, dst, src);
}

/* Zeroes in place of one page. */
static void test_zeroes_are_found(void **state)
{
	(void)state;
	finds(zeroes, -EBADMSG, ": counter 0, expected ");
}

/* The old counter again: a page from two bounces ago. */
static int stale(int uffd, char *dst, const char *src)
{
	_Alignas(4096) static char page[PAGE_SIZE];

	if (!nth())
		return copy(uffd, dst, src);
	memcpy(page, src, PAGE_SIZE);
	page[0]--;
	return copy(uffd, dst, page);
}

static void test_a_lost_count_is_found(void **state)
{
	(void)state;
	finds(stale, -EBADMSG, ", expected ");
}

/* Counters alike, contents of somebody else. */
static int other_page(int uffd, char *dst, const char *src)
{
	_Alignas(4096) static char page[PAGE_SIZE];

	if (!nth())
		return copy(uffd, dst, src);
	memcpy(page, src, PAGE_SIZE);
	page[PAGE_SIZE - 1] ^= 1;
	return copy(uffd, dst, page);
}

static void test_one_wrong_byte_is_found(void **state)
{
	(void)state;
	finds(other_page, -EBADMSG, ": wrong contents");
}

static int refuses(int uffd, char *dst, const char *src)
{
	return nth() ? -EIO : copy(uffd, dst, src);
}

static void test_a_page_that_is_not_installed_is_named(void **state)
{
	(void)state;
	finds(refuses, -EBADMSG, " cannot be installed: errno 5");
}

/* All faults of one page: two threads may wait for it. */
static int forgets(int uffd, char *dst, const char *src)
{
	static _Atomic uintptr_t forgotten;

	if (nth())
		store_relaxed(&forgotten, (uintptr_t)dst);
	return load_relaxed(&forgotten) == (uintptr_t)dst ? 0 : copy(uffd, dst, src);
}

/* A fault that is read and forgotten is a hang, which ends the run with a message and not the reader's evening. */
static void test_a_forgotten_fault_is_told(void **state)
{
	(void)state;
	finds(forgets, -ETIMEDOUT, "nothing goes on: a fault was read and not served");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_way_verifies_every_page),
		cmocka_unit_test(test_a_fault_wakes_only_those_that_are_wanted),
		cmocka_unit_test(test_pages_are_a_multiple_of_the_cpus),
		cmocka_unit_test(test_zeroes_are_found),
		cmocka_unit_test(test_a_lost_count_is_found),
		cmocka_unit_test(test_one_wrong_byte_is_found),
		cmocka_unit_test(test_a_page_that_is_not_installed_is_named),
		cmocka_unit_test(test_a_forgotten_fault_is_told),
	};
	uint64_t features;
	int err = uffd_probe(&features);

	if (err) {
		fprintf(stderr, "userfaultfd: %s\n", uffd_advice(err));
		return EXIT_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
