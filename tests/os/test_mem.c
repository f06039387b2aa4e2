/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory: what is reserved, committed, dropped and resident, against what the kernel says. */
#include "../unit.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "os/mem.h"

/* Reads one byte there as the kernel would for a system call: no signal where it may not. */
static bool readable(const void *addr)
{
	static int ends[2] = {-1, -1};
	char c;

	if (ends[0] < 0)
		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	if (write(ends[1], addr, 1) != 1)
		return false;
	assert_int_equal(read(ends[0], &c, 1), 1);
	return true;
}

static bool writable(void *addr)
{
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	bool ok = read(fd, addr, 1) == 1;

	close(fd);
	return ok;
}

static size_t resident_pages(void *addr, size_t bytes)
{
	size_t pages = bytes >> PAGE_SHIFT, count = 0;
	uint8_t *bits = calloc(1, DIV_UP(pages, 8));

	assert_int_equal(mem_resident(addr, bytes, bits), 0);
	for (size_t i = 0; i < pages; i++)
		count += bits[i / 8] >> (i % 8) & 1;
	free(bits);
	return count;
}

/* Bytes of address space of this process. */
static size_t address_space(void)
{
	char text[256] = "";
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return strtoull(text, NULL, 10) << PAGE_SHIFT;
}

/* Whether the mapping of addr has this word among its VmFlags. */
static bool has_vm_flag(const void *addr, const char *flag)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long long from, to;
	bool here = false, found = false;
	char line[4096];

	if (!smaps)
		return false;
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%llx-%llx ", &from, &to) == 2 && !strstr(line, "VmFlags"))
			here = (uintptr_t)addr >= from && (uintptr_t)addr < to;
		else if (here && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, flag) != NULL;
	}
	fclose(smaps);
	return found;
}

/* A reservation has no access; committed it reads as zeroes and can be written; decommitted it is as before. */
static void test_reserve_commit_decommit(void **state)
{
	const size_t bytes = 64 * PAGE_SIZE;
	char *base = mem_reserve(bytes);

	(void)state;
	assert_non_null(base);
	assert_int_equal((uintptr_t)base & PAGE_MASK, 0);
	assert_false(readable(base));
	assert_false(readable(base + bytes - 1));
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(mem_commit(base + 8 * PAGE_SIZE, 16 * PAGE_SIZE), 0);
		assert_false(readable(base + 8 * PAGE_SIZE - 1));
		assert_false(readable(base + 24 * PAGE_SIZE));
		assert_true(writable(base + 8 * PAGE_SIZE));
		assert_true(all_bytes_are(base + 8 * PAGE_SIZE, 0, 16 * PAGE_SIZE));
		memset(base + 8 * PAGE_SIZE, 'x', 16 * PAGE_SIZE);
		assert_int_equal(resident_pages(base, bytes), 16);
		/* A part of it. */
		assert_int_equal(mem_decommit(base + 8 * PAGE_SIZE, 4 * PAGE_SIZE), 0);
		assert_false(readable(base + 12 * PAGE_SIZE - 1));
		assert_true(all_bytes_are(base + 12 * PAGE_SIZE, 'x', 12 * PAGE_SIZE));
		assert_int_equal(resident_pages(base, bytes), 12);
		assert_int_equal(mem_decommit(base, bytes), 0);
		assert_false(readable(base + 12 * PAGE_SIZE));
		assert_int_equal(resident_pages(base, bytes), 0);
	}
	mem_release(base, bytes);
	assert_true(mem_commit(base, bytes) < 0);
}

/* Contents gone, memory back, and the range can be used at once. */
static void test_discard_zeroes_and_keeps_the_range(void **state)
{
	const size_t bytes = 32 * PAGE_SIZE;
	char *base = mem_alloc(bytes);

	(void)state;
	assert_non_null(base);
	assert_true(all_bytes_are(base, 0, bytes));
	memset(base, 'd', bytes);
	assert_int_equal(mem_discard(base + 4 * PAGE_SIZE, 8 * PAGE_SIZE), 0);
	assert_int_equal(resident_pages(base, bytes), 24);
	assert_true(all_bytes_are(base, 'd', 4 * PAGE_SIZE));
	assert_true(all_bytes_are(base + 4 * PAGE_SIZE, 0, 8 * PAGE_SIZE));
	assert_true(all_bytes_are(base + 12 * PAGE_SIZE, 'd', 20 * PAGE_SIZE));
	base[4 * PAGE_SIZE] = 'n';
	assert_int_equal(base[4 * PAGE_SIZE], 'n');
	mem_release(base, bytes);
	assert_true(mem_discard(base, bytes) < 0);
}

/* Reserving and allocating use no memory before the first touch, however much it is. */
static void test_room_costs_nothing(void **state)
{
	const size_t bytes = GIB(16);
	char *base = mem_reserve(bytes), *table = mem_alloc(bytes);

	(void)state;
	assert_non_null(base);
	assert_non_null(table);
	assert_int_equal(resident_pages(base, MIB(64)), 0);
	assert_int_equal(resident_pages(table + GIB(8), MIB(64)), 0);
	table[GIB(8)] = 1;
	assert_int_equal(resident_pages(table + GIB(8), MIB(64)), 1);
	mem_release(base, bytes);
	mem_release(table, bytes);
	mem_release(NULL, PAGE_SIZE); /* nothing */
}

/* NULL where there is no such room, also where the sizes would wrap round. */
static void test_no_room_is_null(void **state)
{
	volatile size_t most = 1ull << 60;

	(void)state;
	assert_null(mem_reserve(most));
	assert_null(mem_alloc(most));
	assert_null(mem_region_map(most, PAGE_SIZE));
	assert_null(mem_region_map(PAGE_SIZE, most));
	assert_null(mem_region_map(~(size_t)PAGE_MASK, PAGE_SIZE));
}

/* A child of fork has none of it: one mapping of it keeps all of that memory. */
static void test_shared_memory_is_not_inherited(void **state)
{
	const int fd = mem_shared_create(MIB(1));
	char *own = mem_shared_map(fd, MIB(1));
	char *region = mem_shared_region_map(fd, MIB(1), true);
	int status = 0;
	pid_t child;

	(void)state;
	assert_non_null(own);
	assert_non_null(region);
	own[0] = region[PAGE_SIZE] = 1;
	child = fork();
	if (!child)
		_exit(readable(own) || readable(region));
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	mem_release(own, MIB(1));
	mem_release(region, MIB(1));
	mem_file_close(fd);
}

/* A page of a region is 4 KiB always: a huge page would be several pages' worth in one touch. */
static void test_no_huge_pages(void **state)
{
	char *region = mem_region_map(MIB(8), MIB(2)), *table = mem_alloc(MIB(8));

	(void)state;
	if (access("/sys/kernel/mm/transparent_hugepage", F_OK))
		skip_because("this kernel has no transparent huge pages");
	assert_true(has_vm_flag(region, "nh"));
	assert_true(has_vm_flag(table, "nh"));
	for (size_t at = 0; at < MIB(8); at += MIB(2))
		region[at] = table[at] = 1;
	assert_int_equal(resident_pages(region, MIB(8)), 4);
	assert_int_equal(resident_pages(table, MIB(8)), 4);
	mem_release(region, MIB(8));
	mem_release(table, MIB(8));
}

/* Aligned as asked, readable and writable from end to end, and what alignment cost is given back. */
static void test_regions_are_aligned_and_no_wider(void **state)
{
	(void)state;
	for (size_t align = PAGE_SIZE; align <= GIB(1); align <<= 3) {
		for (unsigned i = 0; i < 4; i++) {
			size_t bytes = (i * 37 + 1) * PAGE_SIZE, before = address_space();
			char *base = mem_region_map(bytes, align);
			size_t grown = address_space() - before;

			assert_non_null(base);
			assert_int_equal((uintptr_t)base & (align - 1), 0);
			assert_true(writable(base) && writable(base + bytes - 1));
			assert_true(all_bytes_are(base, 0, bytes));
			/* A sanitizer may have mapped something of its own meanwhile. */
			assert_in_range(grown, bytes, bytes + MIB(1));
			mem_release(base, bytes);
		}
	}
}

/* --- dropping scattered runs --- */

enum { AREA_PAGES = 8192 };

struct drop_case {
	struct mem_dropper dropper;
	char *base;
	bool *dropped; /* by page */
	struct iovec *runs;
	unsigned count;
};

/* Marks every page with its number, so that a page that moved or mixed would show. */
static void pages_mark(char *base, unsigned pages)
{
	for (unsigned i = 0; i < pages; i++) {
		uint64_t *p = (uint64_t *)(base + ((size_t)i << PAGE_SHIFT));

		p[0] = p[511] = i + 1;
	}
}

/* Runs of 1 to longest pages with gaps of at least one page, in random order. */
static void runs_make(struct drop_case *c, uint64_t *seed, unsigned want, unsigned longest)
{
	unsigned page = random_below(seed, 3);

	memset(c->dropped, 0, AREA_PAGES * sizeof(*c->dropped));
	for (c->count = 0; c->count < want && page < AREA_PAGES; c->count++) {
		unsigned n = 1 + random_below(seed, MIN(longest, AREA_PAGES - page));

		c->runs[c->count] = (struct iovec){c->base + ((size_t)page << PAGE_SHIFT),
						   (size_t)n << PAGE_SHIFT};
		for (unsigned i = 0; i < n; i++)
			c->dropped[page + i] = true;
		page += n + 1 + random_below(seed, 2);
	}
	for (unsigned i = c->count; i-- > 1;) {
		unsigned j = random_below(seed, i + 1);
		struct iovec swap = c->runs[i];

		c->runs[i] = c->runs[j];
		c->runs[j] = swap;
	}
}

/* In memory, or reading as zeroes: exactly as the oracle says. */
static void drop_compare(const struct drop_case *c)
{
	uint8_t bits[AREA_PAGES / 8];

	assert_int_equal(mem_resident(c->base, (size_t)AREA_PAGES << PAGE_SHIFT, bits), 0);
	for (unsigned i = 0; i < AREA_PAGES; i++) {
		const uint64_t *p = (const uint64_t *)(c->base + ((size_t)i << PAGE_SHIFT));

		assert_int_equal(bits[i / 8] >> (i % 8) & 1, !c->dropped[i]);
		assert_int_equal(p[0], c->dropped[i] ? 0 : i + 1);
		assert_int_equal(p[511], c->dropped[i] ? 0 : i + 1);
	}
}

static void drop_at_random(bool scatter)
{
	static const unsigned wants[] = {1, 2, 255, 256, 257, 1023, 1024, 1025, 2000};
	static bool dropped[AREA_PAGES];
	static struct iovec runs[2048];
	struct drop_case c = {.dropped = dropped, .runs = runs};
	uint64_t seed = test_seed();

	c.base = mem_alloc((size_t)AREA_PAGES << PAGE_SHIFT);
	assert_non_null(c.base);
	mem_dropper_init(&c.dropper);
	if (scatter && !c.dropper.scatter)
		skip_because("this kernel has no process_madvise(DONTNEED) on oneself");
	c.dropper.scatter = scatter;
	for (unsigned i = 0; i < ARRAY_SIZE(wants) + 6; i++) {
		unsigned want = i < ARRAY_SIZE(wants) ? wants[i] : 1 + random_below(&seed, 2000);

		pages_mark(c.base, AREA_PAGES);
		runs_make(&c, &seed, want, want > 1000 ? 3 : 12);
		assert_int_equal(mem_drop(&c.dropper, c.runs, c.count), 0);
		drop_compare(&c);
	}
	mem_dropper_close(&c.dropper);
	mem_release(c.base, (size_t)AREA_PAGES << PAGE_SHIFT);
}

/* Exactly the pages of the runs go, whatever their number and order, more than one system call takes as well. */
static void test_drop_scattered(void **state)
{
	(void)state;
	drop_at_random(true);
}

static void test_drop_by_runs(void **state)
{
	(void)state;
	drop_at_random(false);
}

/* Nothing to drop, twice the same, and runs that touch or overlap are all well. */
static void test_drop_odd_lists(void **state)
{
	char *base = mem_alloc(16 * PAGE_SIZE);
	const struct iovec runs[] = {
		{base + 2 * PAGE_SIZE, PAGE_SIZE},     {base + 2 * PAGE_SIZE, PAGE_SIZE},
		{base + 3 * PAGE_SIZE, 2 * PAGE_SIZE}, {base + 4 * PAGE_SIZE, 2 * PAGE_SIZE},
		{base + 1 * PAGE_SIZE, PAGE_SIZE},
	};
	struct mem_dropper dropper;

	(void)state;
	mem_dropper_init(&dropper);
	for (unsigned by_runs = 0; by_runs < 2; by_runs++) {
		dropper.scatter = dropper.scatter && !by_runs;
		memset(base, 'k', 16 * PAGE_SIZE);
		assert_int_equal(mem_drop(&dropper, runs, 0), 0);
		assert_int_equal(resident_pages(base, 16 * PAGE_SIZE), 16);
		assert_int_equal(mem_drop(&dropper, runs, ARRAY_SIZE(runs)), 0);
		assert_int_equal(resident_pages(base, 16 * PAGE_SIZE), 11);
		assert_true(all_bytes_are(base + PAGE_SIZE, 0, 5 * PAGE_SIZE));
		assert_true(all_bytes_are(base + 6 * PAGE_SIZE, 'k', 10 * PAGE_SIZE));
	}
	mem_dropper_close(&dropper);
	mem_release(base, 16 * PAGE_SIZE);
}

/* A run that is not mapped is an error, and what stood before it is dropped. */
static void test_drop_tells_of_a_hole(void **state)
{
	char *base = mem_alloc(16 * PAGE_SIZE), *hole = mem_alloc(PAGE_SIZE);
	const struct iovec runs[] = {
		{base, PAGE_SIZE},
		{base + 2 * PAGE_SIZE, PAGE_SIZE},
		{hole, PAGE_SIZE},
		{base + 4 * PAGE_SIZE, PAGE_SIZE},
	};
	struct mem_dropper dropper;

	(void)state;
	mem_release(hole, PAGE_SIZE);
	mem_dropper_init(&dropper);
	for (unsigned by_runs = 0; by_runs < 2; by_runs++) {
		dropper.scatter = dropper.scatter && !by_runs;
		memset(base, 'k', 16 * PAGE_SIZE);
		assert_int_equal(mem_drop(&dropper, runs, ARRAY_SIZE(runs)), -ENOMEM);
		assert_true(all_bytes_are(base, 0, PAGE_SIZE));
		assert_true(all_bytes_are(base + 2 * PAGE_SIZE, 0, PAGE_SIZE));
		assert_true(all_bytes_are(base + 5 * PAGE_SIZE, 'k', 11 * PAGE_SIZE));
	}
	mem_dropper_close(&dropper);
	mem_release(base, 16 * PAGE_SIZE);
}

static void drop_on_old_kernel(void *arg)
{
	char *base = mem_alloc(8 * PAGE_SIZE);
	const struct iovec runs[] = {{base, PAGE_SIZE}, {base + 2 * PAGE_SIZE, PAGE_SIZE}};
	struct mem_dropper dropper;

	deny(*(int *)arg, ENOSYS);
	mem_dropper_init(&dropper);
	child_check(!dropper.scatter);
	memset(base, 'o', 8 * PAGE_SIZE);
	child_check(mem_drop(&dropper, runs, 2) == 0);
	child_check(all_bytes_are(base, 0, PAGE_SIZE) && base[PAGE_SIZE] == 'o' &&
		    all_bytes_are(base + 2 * PAGE_SIZE, 0, PAGE_SIZE) &&
		    base[3 * PAGE_SIZE] == 'o');
	mem_dropper_close(&dropper);
}

/* Where the kernel lacks a call, the dropper knows, and drops run by run. */
static void test_drop_on_older_kernels(void **state)
{
	int calls[] = {SYS_process_madvise, SYS_pidfd_open};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++)
		child_passes(drop_on_old_kernel, &calls[i]);
}

static void drop_after_late_refusal(void *arg)
{
	char *base = mem_alloc(8 * PAGE_SIZE);
	const struct iovec runs[] = {{base, PAGE_SIZE}, {base + 2 * PAGE_SIZE, PAGE_SIZE}};
	struct mem_dropper dropper;

	(void)arg;
	mem_dropper_init(&dropper);
	deny(SYS_process_madvise, EPERM);
	memset(base, 'o', 8 * PAGE_SIZE);
	child_check(mem_drop(&dropper, runs, 2) == 0);
	child_check(all_bytes_are(base, 0, PAGE_SIZE) && base[PAGE_SIZE] == 'o' &&
		    all_bytes_are(base + 2 * PAGE_SIZE, 0, PAGE_SIZE));
}

/* A program that forbids the call to itself later (seccomp) does not stop the dropping. */
static void test_drop_survives_a_late_refusal(void **state)
{
	(void)state;
	child_passes(drop_after_late_refusal, NULL);
}

static void test_dropper_keeps_one_descriptor(void **state)
{
	struct mem_dropper dropper;
	int before = descriptors_open_now();

	(void)state;
	mem_dropper_init(&dropper);
	if (dropper.pidfd < 0)
		skip_because("this kernel has no pidfd_open");
	assert_int_equal(descriptors_open_now(), before + 1);
	assert_int_equal(fcntl(dropper.pidfd, F_GETFD), FD_CLOEXEC);
	mem_dropper_close(&dropper);
	assert_int_equal(dropper.pidfd, -1);
	mem_dropper_close(&dropper);
	assert_int_equal(descriptors_open_now(), before);
}

/* --- what is in memory --- */

/* One bit a page, right for every page touched by reading or writing, and no byte beyond the last bit. */
static void test_resident_is_what_was_touched(void **state)
{
	static const unsigned sizes[] = {1, 7, 8, 9, 511, 512, 513, 1024, 1500};
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
		unsigned pages = sizes[s];
		char *base = mem_alloc((size_t)pages << PAGE_SHIFT);
		char *touched = calloc(1, pages);
		uint8_t *bits = (uint8_t *)guarded(DIV_UP(pages, 8));

		for (unsigned i = 0; i < pages; i++) {
			volatile char *page = base + ((size_t)i << PAGE_SHIFT);

			if (random_chance(&seed, 3)) {
				touched[i] = 1;
				page[random_below(&seed, PAGE_SIZE)] = 1;
			} else if (random_chance(&seed, 3)) {
				touched[i] = 1;
				(void)page[random_below(&seed, PAGE_SIZE)];
			}
		}
		memset(bits, 0xff, DIV_UP(pages, 8));
		assert_int_equal(mem_resident(base, (size_t)pages << PAGE_SHIFT, bits), 0);
		for (unsigned i = 0; i < DIV_UP(pages, 8) * 8; i++)
			assert_int_equal(bits[i / 8] >> (i % 8) & 1, i < pages ? touched[i] : 0);
		mem_release(base, (size_t)pages << PAGE_SHIFT);
		free(touched);
	}
}

static void test_resident_tells_of_a_hole(void **state)
{
	char *base = mem_alloc(4 * PAGE_SIZE);
	uint8_t bits[1];

	(void)state;
	mem_release(base + 2 * PAGE_SIZE, PAGE_SIZE);
	assert_int_equal(mem_resident(base, 4 * PAGE_SIZE, bits), -ENOMEM);
	mem_release(base, 4 * PAGE_SIZE);
}

/* A page that the kernel has touched is in memory and as it was; where a touch would be a signal there is an error. */
static void test_touch_is_no_signal(void **state)
{
	char *base = mem_alloc(4 * PAGE_SIZE);
	uint8_t bits[1];
	int err;

	(void)state;
	base[PAGE_SIZE + 5] = 7;
	err = mem_populate(base, PAGE_SIZE, false);
	if (err == -EINVAL) {
		mem_release(base, 4 * PAGE_SIZE);
		print_message("this kernel has no MADV_POPULATE_READ\n");
		skip();
	}
	assert_int_equal(err, 0);
	assert_int_equal(mem_populate(base + PAGE_SIZE, PAGE_SIZE, true), 0);
	assert_int_equal(mem_populate(base + 2 * PAGE_SIZE, PAGE_SIZE, true), 0);
	assert_int_equal(mem_resident(base, 4 * PAGE_SIZE, bits), 0);
	assert_int_equal(bits[0], 7);
	assert_int_equal(base[PAGE_SIZE + 5], 7);
	assert_int_equal(mem_decommit(base, PAGE_SIZE), 0);
	assert_int_not_equal(mem_populate(base, PAGE_SIZE, false), 0);
	mem_release(base + PAGE_SIZE, PAGE_SIZE);
	assert_int_equal(mem_populate(base + PAGE_SIZE, PAGE_SIZE, true), -ENOMEM);
	mem_release(base, 4 * PAGE_SIZE);
}

/* --- figures --- */

static uint64_t proc_kib(const char *path, const char *field)
{
	FILE *f = fopen(path, "re");
	unsigned long long kib = 0;
	char line[256];

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, field, strlen(field)))
			kib = strtoull(line + strlen(field), NULL, 10);
	}
	fclose(f);
	return kib << 10;
}

static void test_machine_memory_is_the_kernels(void **state)
{
	(void)state;
	assert_int_equal(mem_machine(), proc_kib("/proc/meminfo", "MemTotal:"));
}

/* The peak rises with what is touched, and stays when that is gone. */
static void test_peak_rises_and_stays(void **state)
{
	const size_t bytes = MIB(24);
	uint64_t before = proc_kib("/proc/self/status", "VmRSS:"), peak;
	char *base = mem_alloc(bytes);

	(void)state;
	for (size_t at = 0; at < bytes; at += PAGE_SIZE)
		base[at] = 1;
	peak = mem_peak_rss();
	/* The kernel counts in batches on each CPU. */
	assert_true(peak + MIB(1) >= before + bytes);
	assert_true(peak <= proc_kib("/proc/self/status", "VmHWM:"));
	mem_release(base, bytes);
	assert_true(mem_peak_rss() >= peak);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reserve_commit_decommit),
		cmocka_unit_test(test_discard_zeroes_and_keeps_the_range),
		cmocka_unit_test(test_room_costs_nothing),
		cmocka_unit_test(test_no_room_is_null),
		cmocka_unit_test(test_no_huge_pages),
		cmocka_unit_test(test_shared_memory_is_not_inherited),
		cmocka_unit_test(test_regions_are_aligned_and_no_wider),
		cmocka_unit_test(test_drop_scattered),
		cmocka_unit_test(test_drop_by_runs),
		cmocka_unit_test(test_drop_odd_lists),
		cmocka_unit_test(test_drop_tells_of_a_hole),
		cmocka_unit_test(test_drop_on_older_kernels),
		cmocka_unit_test(test_drop_survives_a_late_refusal),
		cmocka_unit_test(test_dropper_keeps_one_descriptor),
		cmocka_unit_test(test_resident_is_what_was_touched),
		cmocka_unit_test(test_resident_tells_of_a_hole),
		cmocka_unit_test(test_touch_is_no_signal),
		cmocka_unit_test(test_machine_memory_is_the_kernels),
		cmocka_unit_test(test_peak_rises_and_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
