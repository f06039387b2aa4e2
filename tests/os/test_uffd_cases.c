/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cases of the kernel's own unit tests of userfaultfd, by their names: what weir relies on, or would, on the kernel
 * that it runs on. Each says what must hold. Those of hugetlb pages are left out: no region has any. Those of forks and of
 * mappings that change are in test_uffd_events.c.
 */
#include "uffd_area.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
enum { CONTINUE_WP = 2 }; /* mode of UFFDIO_CONTINUE, Linux 6.4 */
#define HUGE_BYTES MIB(2)

/* --- helpers --- */

/* A file in memory, mapped twice: `map` is for the userfaultfd, `alias` is how the page cache is filled. */
struct shared {
	int fd;
	size_t bytes;
	char *map, *alias;
};

static char *aligned_map(size_t bytes, int flags, int fd)
{
	char *wide = mmap(NULL, bytes + HUGE_BYTES, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *at = (char *)ALIGN_UP((uintptr_t)wide, HUGE_BYTES);

	assert_true(wide != MAP_FAILED);
	assert_ptr_equal(mmap(at, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0), at);
	return at;
}

static struct shared shared_open(size_t bytes)
{
	struct shared s = {.fd = memfd_create("test", MFD_CLOEXEC), .bytes = bytes};

	assert_true(s.fd >= 0);
	assert_int_equal(ftruncate(s.fd, (off_t)bytes), 0);
	s.map = aligned_map(bytes, MAP_SHARED, s.fd);
	s.alias = aligned_map(bytes, MAP_SHARED, s.fd);
	return s;
}

static void shared_close(struct shared *s)
{
	munmap(s->map, s->bytes);
	munmap(s->alias, s->bytes);
	close(s->fd);
}

/* Bytes of huge pages in the mapping that begins at addr. */
static size_t huge_bytes(const char *addr)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long from, to, kib;
	bool here = false;
	char line[512];
	size_t sum = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = from <= (uintptr_t)addr && (uintptr_t)addr < to;
		else if (here && sscanf(line, "AnonHugePages: %lu kB", &kib) == 1)
			sum = kib << 10;
	}
	fclose(file);
	return sum;
}

static char *huge_page_or_skip(char fill)
{
	char *at = aligned_map(HUGE_BYTES, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (madvise(at, HUGE_BYTES, MADV_HUGEPAGE))
		skip_because("this kernel has no huge pages");
	memset(at, fill, HUGE_BYTES);
	if (huge_bytes(at) < HUGE_BYTES)
		skip_because("no huge page was to be had");
	return at;
}

/* --- register-ioctls --- */

static uint64_t ioctls_of(char *base, unsigned modes)
{
	int fd = uffd_open(UFFD_HAS_WP_SHMEM & features ? UFFD_HAS_WP_SHMEM : 0);
	struct uffdio_register args = {{(uintptr_t)base, BYTES}, modes, 0};

	assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &args), 0);
	assert_int_equal(uffd_close(fd), 0);
	return args.ioctls;
}

/* Registering says which calls the range takes: those that weir makes are among them. */
static void test_register_ioctls(void **state)
{
	const uint64_t missing = 1 << _UFFDIO_WAKE | 1 << _UFFDIO_COPY | 1 << _UFFDIO_ZEROPAGE;
	const uint64_t wp = 1 << _UFFDIO_WRITEPROTECT;
	char *base = anonymous(BYTES);
	struct shared s = shared_open(BYTES);

	(void)state;
	assert_int_equal(ioctls_of(base, UFFD_MISSING) & missing, missing);
	assert_int_equal(ioctls_of(base, UFFD_MISSING | UFFD_WP) & (missing | wp), missing | wp);
	if (features & UFFD_HAS_MINOR_SHMEM) {
		assert_int_equal(ioctls_of(s.map, UFFD_MINOR) >> _UFFDIO_CONTINUE & 1, 1);
	}
	shared_close(&s);
	munmap(base, BYTES);
}

/* --- zeropage --- */

/* Anonymous or shared: zeroes come, a second time is -EEXIST. */
static void test_zeropage(void **state)
{
	struct shared s = shared_open(BYTES);
	char *base[2] = {anonymous(BYTES), s.map};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		int fd = uffd_open(0);

		assert_int_equal(uffd_register(fd, base[i], BYTES, UFFD_MISSING), 0);
		assert_int_equal(uffd_zeropage(fd, base[i], PAGE_SIZE, NULL), 0);
		assert_int_equal(uffd_zeropage(fd, base[i], PAGE_SIZE, NULL), -EEXIST);
		assert_true(all_bytes_are(base[i], 0, PAGE_SIZE));
		assert_int_equal(uffd_close(fd), 0);
	}
	munmap(base[0], BYTES);
	shared_close(&s);
}

/* --- move --- */

/* A fault is answered with a page that lies elsewhere: the thread reads it, and it is gone from there. */
static void test_move(void **state)
{
	struct toucher t;
	struct area a;
	char *from;

	(void)state;
	need(UFFD_HAS_MOVE, "MOVE");
	a = area_open(UFFD_HAS_MOVE, UFFD_MISSING);
	from = anonymous(BYTES);
	for (unsigned page = 0; page < PAGES; page++) {
		memset(page_of(from, page), 'A' + (int)page % 26, PAGE_SIZE);
		touch_start(&t, page_of(a.base, page), page % 2, 'w');
		next_fault(a.fd, page_of(a.base, page));
		assert_int_equal(move_patiently(a.fd, page_of(a.base, page), page_of(from, page),
						PAGE_SIZE, false, NULL),
				 0);
		touch_end(&t);
		assert_int_equal(page_of(a.base, page)[1], 'A' + (int)page % 26);
		assert_int_equal(pte_of(page_of(from, page)), 0);
	}
	munmap(from, BYTES);
	area_close(&a);
}

/* Is it there? While the kernel moves a page to another frame, it is not for a moment, of whose end nothing tells: it is polled. */
static bool stays_present(const char *page)
{
	for (unsigned i = 0; i < 1000; i++) {
		if (pte_of(page) & PTE_PRESENT)
			return true;
		usleep(1000);
	}
	return false;
}

static void move_huge(size_t offset, size_t bytes)
{
	char *to = aligned_map(HUGE_BYTES, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	char *from = huge_page_or_skip('h');
	int fd = uffd_open(UFFD_HAS_MOVE);
	size_t done = 0;

	assert_int_equal(madvise(to, HUGE_BYTES, MADV_HUGEPAGE), 0);
	assert_int_equal(uffd_register(fd, to, HUGE_BYTES, UFFD_MISSING), 0);
	assert_int_equal(move_patiently(fd, to + offset, from + offset, bytes, false, &done), 0);
	assert_int_equal(done, bytes);
	assert_true(all_bytes_are(to + offset, 'h', bytes));
	for (size_t at = 0; at < HUGE_BYTES; at += PAGE_SIZE) {
		bool moved = at >= offset && at < offset + bytes;

		const char *there = moved ? to : from, *gone = moved ? from : to;

		assert_true(stays_present(there + at));
		assert_int_equal(pte_of(gone + at) & PTE_PRESENT, 0);
	}
	assert_int_equal(huge_bytes(to), bytes == HUGE_BYTES ? HUGE_BYTES : 0);
	assert_int_equal(uffd_close(fd), 0);
	munmap(from, HUGE_BYTES);
	munmap(to, HUGE_BYTES);
}

/* A huge page moves as one. */
static void test_move_pmd(void **state)
{
	(void)state;
	need(UFFD_HAS_MOVE, "MOVE");
	move_huge(0, HUGE_BYTES);
}

/* A part of one moves too: it is split for that, and the rest stays. */
static void test_move_pmd_split(void **state)
{
	(void)state;
	need(UFFD_HAS_MOVE, "MOVE");
	move_huge(HUGE_BYTES / 4, HUGE_BYTES / 8);
}

/* --- wp-unpopulated --- */

/* With the feature, protecting a range protects absent pages as well, also after they were dropped. */
static void test_wp_unpopulated(void **state)
{
	struct toucher t;
	struct area a;

	(void)state;
	need(UFFD_HAS_WP_UNPOPULATED, "WP_UNPOPULATED");
	a = area_open(UFFD_HAS_WRITEPROTECT | UFFD_HAS_WP_UNPOPULATED, UFFD_WP);
	assert_int_equal(uffd_writeprotect(a.fd, a.base, BYTES, true), 0);
	assert_int_equal(pte_of(a.base) & PTE_PROTECTED, PTE_PROTECTED);
	touch_start(&t, a.base, true, 'w');
	assert_true(next_fault(a.fd, a.base).wp);
	assert_int_equal(uffd_writeprotect(a.fd, a.base, PAGE_SIZE, false), 0);
	touch_end(&t);
	assert_int_equal(a.base[0], 'w');
	/* A read brings zeroes, and protection stays. */
	assert_int_equal(page_of(a.base, 1)[0], 0);
	assert_int_equal(pte_of(page_of(a.base, 1)) & PTE_PROTECTED, PTE_PROTECTED);
	/* Dropped, the mark is gone. */
	assert_int_equal(madvise(page_of(a.base, 2), PAGE_SIZE, MADV_DONTNEED), 0);
	assert_int_equal(pte_of(page_of(a.base, 2)) & PTE_PROTECTED, 0);
	area_close(&a);
}

/* --- minor --- */

static int continue_page(int fd, char *page, bool protected)
{
	struct uffdio_continue args = {
		.range = {(uintptr_t)page, PAGE_SIZE},
		.mode = protected ? CONTINUE_WP : 0,
	};

	return ioctl(fd, UFFDIO_CONTINUE, &args) ? -errno : 0;
}

/* Every page that the file has is told as a minor fault, seen as changed meanwhile, and as the alias has it. */
static void minor_faults(bool protect)
{
	const uint64_t wanted = UFFD_HAS_MINOR_SHMEM | (protect ? UFFD_HAS_WP_SHMEM : 0);
	struct shared s = shared_open(BYTES);
	int fd = uffd_open(wanted);
	struct toucher t;

	assert_true(fd >= 0);
	assert_int_equal(uffd_register(fd, s.map, BYTES, UFFD_MINOR | (protect ? UFFD_WP : 0)), 0);
	memset(s.alias, 'o', BYTES);
	for (unsigned page = 0; page < PAGES; page++) {
		char *at = page_of(s.map, page);

		touch_start(&t, at, protect, 'w');
		assert_true(next_fault(fd, at).minor);
		memset(page_of(s.alias, page), 'n', PAGE_SIZE);
		assert_int_equal(continue_page(fd, at, protect), 0);
		if (protect) {
			/* It came in protected: the write goes on to fault, as a write. */
			assert_true(next_fault(fd, at).wp);
			assert_int_equal(pte_of(at), PTE_PRESENT | PTE_PROTECTED);
			assert_int_equal(uffd_writeprotect(fd, at, PAGE_SIZE, false), 0);
		}
		assert_int_equal(touch_end(&t), protect ? 'w' : 'n');
		assert_int_equal(page_of(s.alias, page)[0], protect ? 'w' : 'n');
		assert_true(all_bytes_are(at + 1, 'n', PAGE_SIZE - 1));
	}
	assert_int_equal(uffd_close(fd), 0);
	shared_close(&s);
}

static void test_minor(void **state)
{
	(void)state;
	need(UFFD_HAS_MINOR_SHMEM, "MINOR_SHMEM");
	minor_faults(false);
}

static void test_minor_wp(void **state)
{
	(void)state;
	need(UFFD_HAS_MINOR_SHMEM, "MINOR_SHMEM");
	need(UFFD_HAS_WP_SHMEM, "WP_HUGETLBFS_SHMEM");
	need(UFFD_HAS_WP_UNPOPULATED, "CONTINUE_MODE_WP, which came with WP_UNPOPULATED");
	minor_faults(true);
}

/* The file's pages become one huge page behind the mapping: faults are told and continued as before. */
static void test_minor_collapse(void **state)
{
	struct toucher t;
	struct shared s;
	int fd;

	(void)state;
	need(UFFD_HAS_MINOR_SHMEM, "MINOR_SHMEM");
	s = shared_open(HUGE_BYTES);
	for (size_t at = 0; at < HUGE_BYTES; at += PAGE_SIZE)
		memset(s.alias + at, (int)(at >> PAGE_SHIFT) & 0x7f, PAGE_SIZE);
	if (madvise(s.alias, HUGE_BYTES, MADV_COLLAPSE)) {
		shared_close(&s);
		skip_because("this kernel does not collapse shared memory (errno %d)", errno);
	}
	fd = uffd_open(UFFD_HAS_MINOR_SHMEM);
	assert_int_equal(uffd_register(fd, s.map, HUGE_BYTES, UFFD_MINOR), 0);
	for (unsigned page = 0; page < HUGE_BYTES >> PAGE_SHIFT; page += 31) {
		touch_start(&t, page_of(s.map, page), false, 0);
		assert_true(next_fault(fd, page_of(s.map, page)).minor);
		assert_int_equal(uffd_continue(fd, page_of(s.map, page), PAGE_SIZE, false, NULL),
				 0);
		assert_int_equal(touch_end(&t), (char)(page & 0x7f));
	}
	assert_int_equal(uffd_close(fd), 0);
	shared_close(&s);
}

/* --- sigbus --- */

static struct {
	struct area a;
	volatile unsigned signals;
	char *volatile address;
	volatile bool protected;
} bus;

static void serve_in_handler(int sig, siginfo_t *info, void *context)
{
	char *page = (char *)ALIGN_DOWN((uintptr_t)info->si_addr, PAGE_SIZE);

	(void)sig;
	(void)context;
	bus.signals++;
	bus.address = info->si_addr;
	if (bus.protected)
		(void)uffd_writeprotect(bus.a.fd, page, PAGE_SIZE, false);
	else
		(void)uffd_copy(bus.a.fd, page, source, PAGE_SIZE, false, NULL);
}

static void bus_open(unsigned modes, struct sigaction *old)
{
	struct sigaction act = {.sa_sigaction = serve_in_handler, .sa_flags = SA_SIGINFO};

	memset(&bus, 0, sizeof(bus));
	/* As anybody may have it. */
	bus.a.fd = uffd_open_user(UFFD_HAS_SIGBUS | UFFD_HAS_WRITEPROTECT);
	bus.a.base = anonymous(BYTES);
	assert_true(bus.a.fd >= 0);
	assert_int_equal(uffd_register(bus.a.fd, bus.a.base, BYTES, modes), 0);
	assert_int_equal(sigaction(SIGBUS, &act, old), 0);
}

static void bus_close(const struct sigaction *old)
{
	assert_int_equal(sigaction(SIGBUS, old, NULL), 0);
	area_close(&bus.a);
}

/* A touch is SIGBUS with its address, and goes on when the handler has brought the page; a system call is EFAULT. */
static void test_sigbus(void **state)
{
	struct sigaction old;
	int ends[2];

	(void)state;
	need(UFFD_HAS_SIGBUS, "SIGBUS");
	bus_open(UFFD_MISSING, &old);
	(void)source_of('s');
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(write(ends[1], bus.a.base, 8), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(bus.signals, 0);
	for (unsigned page = 0; page < PAGES; page++) {
		char *at = page_of(bus.a.base, page) + page;

		assert_int_equal(*(volatile char *)at, 's');
		assert_ptr_equal(bus.address, at);
		assert_int_equal(bus.signals, page + 1);
	}
	assert_int_equal(write(ends[1], bus.a.base, 8), 8);
	close(ends[0]);
	close(ends[1]);
	bus_close(&old);
}

/* A write to a protected page is SIGBUS too; reads are not. */
static void test_sigbus_wp(void **state)
{
	struct sigaction old;

	(void)state;
	need(UFFD_HAS_SIGBUS, "SIGBUS");
	bus_open(UFFD_MISSING | UFFD_WP, &old);
	for (unsigned page = 0; page < PAGES; page++)
		put_page(&bus.a, page, 'p', true);
	bus.protected = true;
	for (unsigned page = 0; page < PAGES; page++) {
		volatile char *at = page_of(bus.a.base, page) + 9;

		assert_int_equal(*at, 'p');
		assert_int_equal(bus.signals, page);
		*at = 'w';
		assert_int_equal(bus.signals, page + 1);
		assert_int_equal(*at, 'w');
	}
	bus_close(&old);
}

/* --- poison --- */

/* Pages at random are poisoned, others come: each is what it was made, also for a thread that waits. */
static void test_poison(void **state)
{
	uint64_t seed = test_seed();
	struct area a;

	(void)state;
	need(UFFD_HAS_POISON, "POISON");
	a = area_open(UFFD_HAS_POISON, UFFD_MISSING);
	for (unsigned round = 0; round < 8; round++) {
		bool bad[PAGES];

		for (unsigned page = 0; page < PAGES; page++) {
			bad[page] = random_chance(&seed, 2);
			if (bad[page])
				assert_int_equal(
					uffd_poison(a.fd, page_of(a.base, page), PAGE_SIZE), 0);
			else
				put_page(&a, page, 'g', false);
		}
		for (unsigned page = 0; page < PAGES; page++)
			assert_int_equal(touch_is_fatal(page_of(a.base, page) + page), bad[page]);
		assert_int_equal(madvise(a.base, BYTES, MADV_DONTNEED), 0);
	}
	area_close(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_register_ioctls),
		cmocka_unit_test(test_zeropage),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_move_pmd),
		cmocka_unit_test(test_move_pmd_split),
		cmocka_unit_test(test_wp_unpopulated),
		cmocka_unit_test(test_minor),
		cmocka_unit_test(test_minor_wp),
		cmocka_unit_test(test_minor_collapse),
		cmocka_unit_test(test_sigbus),
		cmocka_unit_test(test_sigbus_wp),
		cmocka_unit_test(test_poison),
	};

	uffd_probe_or_skip();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
