/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signal mode through the public functions: threads serve their own faults, as anybody may; modes that an instance has; calls that
 * get memory of a region.
 */
#include "signal_mode.h"

#include <fcntl.h>

/* --- pages come back --- */

NO_TSAN static void contents(void *arg)
{
	struct weir *weir = open_as(*(enum weir_mode *)arg);
	uint64_t *base = region_filled(weir);
	struct weir_stats stats;

	for (unsigned round = 0; round < 3; round++) {
		errno = 4711;
		region_check(base, PAGES);
		child_check(errno == 4711);
	}
	stats = stats_of(weir);
	child_check(stats.compressed_faults && stats.moved_out && stats.stored_faults);
	child_check(stats.charged <= stats.limit + MIB(1));
	/* Cleaned, read back and written: a write to a clean page is a fault too. */
	for (uint32_t i = 0; i < PAGES; i++)
		(*at(base, i))++;
	for (uint32_t i = 0; i < PAGES; i++)
		child_check(*at(base, i) == word_of(i, 0) + 1);
	child_check(!weir_region_discard(weir, base, PAGE_SIZE));
	child_check(*base == 0);
	child_check(!weir_region_destroy(weir, base));
	child_check(stats_of(weir).resident == 0);
	weir_close(weir);
}

static void test_pages_come_back(void **state)
{
	(void)state;
	for (enum weir_mode mode = WEIR_MODE_SIGNAL; mode <= WEIR_MODE_BOTH; mode++)
		child_passes(contents, &mode);
}

/* Both modes in one instance, under one limit. */
static void both_modes(void *arg)
{
	struct weir *weir = open_as(WEIR_MODE_BOTH);
	uint64_t *mine = region_filled(weir), *theirs;
	void *base;

	(void)arg;
	child_check(!weir_region_create(weir, PAGES * PAGE_SIZE, &base));
	theirs = base;
	for (uint32_t i = 0; i < PAGES; i++)
		page_write(at(theirs, i), i);
	for (unsigned round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < PAGES; i++) {
			page_check(at(mine, i), i);
			page_check(at(theirs, PAGES - 1 - i), PAGES - 1 - i);
		}
	}
	child_check(stats_of(weir).charged <= LIMIT + MIB(1));
	weir_close(weir);
}

static void test_both_modes_under_one_limit(void **state)
{
	(void)state;
	child_passes(both_modes, NULL);
}

static void wrong_modes(void *arg)
{
	struct weir_options options = {
		.size = sizeof(options), .limit = LIMIT, .mode = WEIR_MODE_BOTH + 1};
	struct weir *weir = open_signal();
	void *base;

	(void)arg;
	child_check(region_as(weir, PAGE_SIZE, WEIR_MODE_THREAD, &base) == -ENOTSUP);
	child_check(region_as(weir, PAGE_SIZE, WEIR_MODE_BOTH, &base) == -EINVAL);
	weir_close(weir);
	child_check(weir_open(&options, &weir) == -EINVAL);
	weir = open_as(WEIR_MODE_THREAD);
	child_check(region_as(weir, PAGE_SIZE, WEIR_MODE_SIGNAL, &base) == -ENOTSUP);
	weir_close(weir);
}

/* What it compresses with is refused where it is none; of a program that is older than the field it is not read. */
static void codecs(void *arg)
{
	static const char *const right[] = {NULL, "lz4", "zstd", "zstd:10"},
				 *const wrong[] = {"", "lz5", "zstd:", "zstd:0", "zstd:11"};
	struct weir_options options = {
		.size = sizeof(options), .limit = LIMIT, .mode = WEIR_MODE_SIGNAL};
	struct weir *weir;

	(void)arg;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		options.compress = wrong[i];
		child_check(weir_open(&options, &weir) == -EINVAL);
	}
	options.size = offsetof(struct weir_options, compress);
	child_check(!weir_open(&options, &weir));
	weir_close(weir);
	options.size = sizeof(options);
	for (unsigned i = 0; i < ARRAY_SIZE(right); i++) {
		options.compress = right[i];
		child_check(!weir_open(&options, &weir));
		weir_close(weir);
	}
}

static void test_codecs_are_checked(void **state)
{
	(void)state;
	child_passes(codecs, NULL);
}

/* Windows: thread mode only, as many as a power of two; and none of their descriptors is the program's, refused or not. */
static void windows_and_modes(void *arg)
{
	const unsigned wrong[] = {1, 2, 3, 100, 65536};
	const int before = descriptors_open_now();
	struct weir_options options = {
		.size = sizeof(options), .limit = LIMIT, .mode = WEIR_MODE_SIGNAL, .kmap_slots = 4};
	struct weir *weir;

	(void)arg;
	child_check(weir_open(&options, &weir) == -ENOTSUP);
	options.mode = WEIR_MODE_BOTH;
	child_check(weir_open(&options, &weir) == -ENOTSUP);
	options.mode = WEIR_MODE_THREAD;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		options.kmap_slots = wrong[i];
		child_check(weir_open(&options, &weir) == -EINVAL);
		child_check(descriptors_open_now() == before);
	}
	options.kmap_slots = 4;
	child_check(!weir_open(&options, &weir));
	child_check(descriptors_open_now() == before);
	weir_close(weir);
	child_check(descriptors_open_now() == before);
}

static void test_windows_are_for_thread_mode(void **state)
{
	(void)state;
	child_passes(windows_and_modes, NULL);
}

static void test_a_mode_that_was_not_opened_is_refused(void **state)
{
	(void)state;
	child_passes(wrong_modes, NULL);
}

/* --- permission --- */

static void as_nobody(void *arg)
{
	struct weir_options options = {.size = sizeof(options), .limit = LIMIT};
	struct weir *weir;

	child_check(!setgid(65534) && !setuid(65534));
	if (access("/dev/userfaultfd", R_OK | W_OK)) {
		FILE *file = fopen("/proc/sys/vm/unprivileged_userfaultfd", "re");

		/* Where everybody may, there is nothing to refuse. */
		if (file && fgetc(file) == '0') {
			child_check(weir_open(&options, &weir) == -EPERM);
			child_check(!strcmp(weir_advice(-EPERM),
					    "permission denied; set "
					    "vm.unprivileged_userfaultfd=1, or give access to "
					    "/dev/userfaultfd"));
		}
		if (file)
			fclose(file);
	}
	contents(arg);
}

/* As nobody: signal mode works, thread mode says what to do. */
static void test_nobody_has_signal_mode(void **state)
{
	enum weir_mode mode = WEIR_MODE_SIGNAL;

	(void)state;
	if (geteuid() != 0)
		skip_because("not root, who could become nobody");
	child_passes(as_nobody, &mode);
}

/* --- arguments in a region --- */

NO_TSAN static void arguments(void *arg)
{
	struct weir *weir = open_as(*(enum weir_mode *)arg), **weir_slot;
	uint64_t *base = region_filled(weir);
	struct weir_options *options;
	struct weir_stats *stats;
	uint32_t page = absent_page(base, PAGES);
	void **slot;

	/* Each in a page that is absent when the call is made. */
	slot = (void **)at(base, page);
	child_check(!weir_region_create(weir, MIB(1), slot));
	child_check(*slot && !weir_region_destroy(weir, *slot));
	page_write(at(base, page), page);

	page = absent_page(base, PAGES);
	stats = (struct weir_stats *)at(base, page);
	stats->size = sizeof(*stats);
	for (unsigned i = 0; i < 4 * PAGES && resident(stats); i++)
		(void)*(volatile uint64_t *)at(base, (page + 1 + i) % PAGES);
	child_check(!weir_stats_read(weir, stats));
	child_check(stats->limit == LIMIT && stats->faults);
	page_write(at(base, page), page);

	page = absent_page(base, PAGES);
	options = (struct weir_options *)at(base, page);
	*options = (struct weir_options){
		.size = sizeof(*options), .limit = LIMIT, .mode = WEIR_MODE_SIGNAL};
	weir_slot = (struct weir **)(at(base, page) + 64);
	for (unsigned i = 0; i < 4 * PAGES && resident(options); i++)
		(void)*(volatile uint64_t *)at(base, (page + 1 + i) % PAGES);
	child_check(!weir_open(options, weir_slot));
	weir_close(*weir_slot);
	page_write(at(base, page), page);
	region_check(base, PAGES);
	weir_close(weir);
}

static void test_arguments_may_lie_in_a_region(void **state)
{
	(void)state;
	for (enum weir_mode mode = WEIR_MODE_SIGNAL; mode <= WEIR_MODE_BOTH; mode++)
		child_passes(arguments, &mode);
}

/* --- system calls and pins --- */

NO_TSAN static void pins(void *arg)
{
	struct weir *weir = open_signal();
	uint64_t *base = region_filled(weir);
	uint32_t page = absent_page(base, PAGES - 1);
	int ends[2];

	(void)arg;
	child_check(!pipe2(ends, O_CLOEXEC));
	child_check(write(ends[1], at(base, page), 8) == -1 && errno == EFAULT);
	child_check(!weir_region_pin(weir, at(base, page), PAGE_SIZE + 1, 0));
	child_check(write(ends[1], at(base, page), 2 * PAGE_SIZE) == 2 * PAGE_SIZE);
	/* Whatever is touched, they stay; also when they are pinned once more, and once less. */
	child_check(!weir_region_pin(weir, at(base, page), 1, 0));
	child_check(!weir_region_unpin(weir, at(base, page), 1));
	for (unsigned round = 0; round < 3; round++) {
		region_check(base, PAGES);
		child_check(resident(at(base, page)) && resident(at(base, page + 1)));
	}
	child_check(weir_region_discard(weir, at(base, page), PAGE_SIZE) == -EBUSY);
	page_check(at(base, page), page);
	/* read(2) into a page that was clean: pinned for writing it takes it. */
	child_check(!weir_region_unpin(weir, at(base, page), 2 * PAGE_SIZE));
	page = absent_page(base, PAGES - 1);
	page_check(at(base, page), page);
	child_check(!weir_region_pin(weir, at(base, page), PAGE_SIZE, 1));
	for (unsigned round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < PAGES; i++)
			(void)*(volatile uint64_t *)at(base, i);
		child_check(read(ends[0], at(base, page), 64) == 64);
	}
	page_write(at(base, page), page);
	child_check(!weir_region_unpin(weir, at(base, page), PAGE_SIZE));
	for (unsigned round = 0; round < 3; round++)
		region_check(base, PAGES);
	/* Not a region, or beyond its end. */
	child_check(weir_region_pin(weir, ends, 8, 0) == -EINVAL);
	child_check(weir_region_pin(weir, at(base, PAGES - 1), PAGE_SIZE + 1, 0) == -EINVAL);
	weir_close(weir);
}

static void test_pinned_pages_are_for_system_calls(void **state)
{
	(void)state;
	child_passes(pins, NULL);
}

/* --- descriptors and forks --- */

NO_TSAN static void closed(void *arg)
{
	struct weir *weir = open_as(*(enum weir_mode *)arg);
	uint64_t *base = region_filled(weir);
	int reused;

	child_check(!syscall(SYS_close_range, 3u, ~0u, 0u));
	/* The numbers are somebody else's now: full of what is no page. */
	reused = memfd_create("other", 0);
	child_check(reused >= 0 && !ftruncate(reused, MIB(16)));
	for (int fd = 470; fd < 500; fd++)
		child_check(dup2(reused, fd) == fd);
	for (unsigned round = 0; round < 2; round++)
		region_check(base, PAGES);
	for (uint32_t i = 0; i < PAGES; i++)
		page_write(at(base, i), i);
	region_check(base, PAGES);
	child_check(stats_of(weir).poisoned == 0);
	weir_close(weir);
	/* And stay theirs. */
	for (int fd = 470; fd < 500; fd++)
		child_check(fcntl(fd, F_GETFD) >= 0);
}

/* closefrom(3): no page is lost, none reads as zeroes, and nobody closes what is not his. */
static void test_closed_descriptors_lose_nothing(void **state)
{
	(void)state;
	for (enum weir_mode mode = WEIR_MODE_SIGNAL; mode <= WEIR_MODE_BOTH; mode++)
		child_passes(closed, &mode);
}

NO_TSAN static void forks(void *arg)
{
	struct weir *weir = open_signal();
	uint64_t *base = region_filled(weir);
	int status;
	pid_t pid;

	(void)arg;
	child_check(!weir_before_fork(weir));
	pid = fork();
	if (pid == 0) {
		region_check(base, PAGES);
		*at(base, 3) = 1;
		_exit(0);
	}
	weir_after_fork(weir);
	region_check(base, PAGES);
	child_check(waitpid(pid, &status, 0) == pid && status == 0);
	region_check(base, PAGES);
	weir_close(weir);
}

static void test_a_child_sees_the_same_memory(void **state)
{
	(void)state;
	child_passes(forks, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_come_back),
		cmocka_unit_test(test_both_modes_under_one_limit),
		cmocka_unit_test(test_a_mode_that_was_not_opened_is_refused),
		cmocka_unit_test(test_nobody_has_signal_mode),
		cmocka_unit_test(test_codecs_are_checked),
		cmocka_unit_test(test_windows_are_for_thread_mode),
		cmocka_unit_test(test_arguments_may_lie_in_a_region),
		cmocka_unit_test(test_pinned_pages_are_for_system_calls),
		cmocka_unit_test(test_closed_descriptors_lose_nothing),
		cmocka_unit_test(test_a_child_sees_the_same_memory),
	};

	descriptors_fill();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
