/* SPDX-License-Identifier: BSD-2-Clause */
/* What came with later kernels: pages that move, minor faults, poison. A test whose feature this kernel lacks is skipped. */
#include "uffd_area.h"

/* The page itself goes: contents at the destination, nothing left at the source. */
static void test_move_takes_the_page_along(void **state)
{
	struct area a;
	char *from = anonymous(BYTES);
	size_t done = 0;

	(void)state;
	need(UFFD_HAS_MOVE, "MOVE");
	a = area_open(UFFD_HAS_MOVE, UFFD_MISSING);
	memset(from, 'm', 4 * PAGE_SIZE);
	assert_int_equal(
		move_patiently(a.fd, page_of(a.base, 2), from, 4 * PAGE_SIZE, false, &done), 0);
	assert_int_equal(done, 4 * PAGE_SIZE);
	assert_true(all_bytes_are(page_of(a.base, 2), 'm', 4 * PAGE_SIZE));
	assert_int_equal(pte_of(from), 0);
	assert_int_equal(from[0], 0);
	area_close(&a);
	munmap(from, BYTES);
}

/* -ENOENT at a hole of the source, unless holes are allowed; -EEXIST at a present destination; both say how far. */
static void test_move_stops_at_holes_and_pages(void **state)
{
	struct area a;
	char *from = anonymous(BYTES);
	size_t done = 99;

	(void)state;
	need(UFFD_HAS_MOVE, "MOVE");
	a = area_open(UFFD_HAS_MOVE, UFFD_MISSING);
	for (unsigned page = 0; page < 6; page++) {
		if (page != 3)
			memset(page_of(from, page), 'a' + (int)page, PAGE_SIZE);
	}
	assert_int_equal(move_patiently(a.fd, a.base, from, 6 * PAGE_SIZE, false, &done), -ENOENT);
	assert_int_equal(done, 3 * PAGE_SIZE);
	assert_true(all_bytes_are(page_of(a.base, 2), 'c', PAGE_SIZE));
	assert_int_equal(pte_of(page_of(a.base, 3)), 0);
	assert_int_equal(move_patiently(a.fd, page_of(a.base, 3), page_of(from, 3), 3 * PAGE_SIZE,
					true, &done),
			 0);
	assert_int_equal(done, 3 * PAGE_SIZE);
	assert_int_equal(pte_of(page_of(a.base, 3)), 0);
	assert_true(all_bytes_are(page_of(a.base, 5), 'f', PAGE_SIZE));

	memset(from, 'n', 3 * PAGE_SIZE);
	assert_int_equal(move_patiently(a.fd, page_of(a.base, 20), from, PAGE_SIZE, false, NULL),
			 0);
	memset(from, 'n', 3 * PAGE_SIZE);
	assert_int_equal(
		move_patiently(a.fd, page_of(a.base, 18), from, 3 * PAGE_SIZE, false, &done),
		-EEXIST);
	assert_int_equal(done, 2 * PAGE_SIZE);
	assert_int_equal(pte_of(page_of(from, 2)), PTE_PRESENT);
	area_close(&a);
	munmap(from, BYTES);
}

static void linger(void *arg)
{
	(void)arg;
}

/* -EBUSY for pages that a fork made shared, until they are written again; -EINVAL across a border of protection. */
static void test_move_refusals(void **state)
{
	struct area a;
	char *from = anonymous(BYTES);
	struct child child;
	size_t done = 99;

	(void)state;
	need(UFFD_HAS_MOVE, "MOVE");
	a = area_open(UFFD_HAS_MOVE, UFFD_MISSING);
	memset(from, 's', 2 * PAGE_SIZE);
	run_child(&child, linger, NULL);
	assert_int_equal(uffd_move(a.fd, a.base, from, PAGE_SIZE, false, &done), -EBUSY);
	assert_int_equal(done, 0);
	assert_true(all_bytes_are(from, 's', PAGE_SIZE));
	from[0] = 'S';
	assert_int_equal(move_patiently(a.fd, a.base, from, PAGE_SIZE, false, &done), 0);

	memset(page_of(from, 8), 'r', 2 * PAGE_SIZE);
	assert_int_equal(mprotect(page_of(from, 9), PAGE_SIZE, PROT_READ), 0);
	assert_int_equal(move_patiently(a.fd, page_of(a.base, 8), page_of(from, 8), 2 * PAGE_SIZE,
					false, &done),
			 -EINVAL);
	assert_int_equal(done, 0);
	area_close(&a);
	munmap(from, BYTES);
}

/* A minor fault: the page cache has the page; continue maps it, contents as they are there. */
static void test_continue_maps_what_the_file_has(void **state)
{
	int memfd = memfd_create("test", MFD_CLOEXEC), fd;
	char *map, *other;
	struct uffd_fault f;
	struct toucher t;
	size_t done = 99;

	(void)state;
	need(UFFD_HAS_MINOR_SHMEM, "MINOR_SHMEM");
	assert_int_equal(ftruncate(memfd, BYTES), 0);
	map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	other = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	assert_true(map != MAP_FAILED && other != MAP_FAILED);
	fd = uffd_open(UFFD_HAS_MINOR_SHMEM);
	assert_true(fd >= 0);
	assert_int_equal(uffd_register(fd, map, BYTES, UFFD_MINOR), 0);
	memset(other, 'm', 4 * PAGE_SIZE);
	touch_start(&t, page_of(map, 2), false, 0);
	f = next_fault(fd, page_of(map, 2));
	assert_true(f.minor);
	assert_false(f.wp);
	assert_int_equal(uffd_continue(fd, page_of(map, 2), PAGE_SIZE, false, &done), 0);
	assert_int_equal(done, PAGE_SIZE);
	assert_int_equal(touch_end(&t), 'm');
	/* Mapped already: -EEXIST, and how far it came; nothing in the file: -EFAULT. */
	assert_int_equal(uffd_continue(fd, map, 4 * PAGE_SIZE, false, &done), -EEXIST);
	assert_int_equal(done, 2 * PAGE_SIZE);
	assert_int_equal(uffd_continue(fd, page_of(map, 3), 3 * PAGE_SIZE, false, &done), -EFAULT);
	assert_int_equal(done, PAGE_SIZE);
	assert_true(all_bytes_are(map, 'm', 4 * PAGE_SIZE));
	map[0] = 'w';
	assert_int_equal(other[0], 'w');
	assert_int_equal(uffd_close(fd), 0);
	munmap(map, BYTES);
	munmap(other, BYTES);
	close(memfd);
}

/* A poisoned page: SIGBUS at every touch, EFAULT in system calls; a page that is there is left alone. */
static void test_poison_is_told_to_every_reader(void **state)
{
	struct area a;
	int ends[2];

	(void)state;
	need(UFFD_HAS_POISON, "POISON");
	a = area_open(UFFD_HAS_POISON, UFFD_MISSING);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(uffd_poison(a.fd, page_of(a.base, 1), PAGE_SIZE), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(touch_is_fatal(page_of(a.base, 1) + i));
		assert_int_equal(write(ends[1], page_of(a.base, 1), 8), -1);
		assert_int_equal(errno, EFAULT);
	}
	put_page(&a, 2, 'p', false);
	assert_int_equal(uffd_poison(a.fd, page_of(a.base, 2), PAGE_SIZE), -EEXIST);
	assert_false(touch_is_fatal(page_of(a.base, 2)));
	assert_true(all_bytes_are(page_of(a.base, 2), 'p', PAGE_SIZE));
	/* Discarded, it is an absent page again. */
	assert_int_equal(madvise(page_of(a.base, 1), PAGE_SIZE, MADV_DONTNEED), 0);
	put_page(&a, 1, 'h', false);
	assert_true(all_bytes_are(page_of(a.base, 1), 'h', PAGE_SIZE));
	close(ends[0]);
	close(ends[1]);
	area_close(&a);
}

/* Who waits at a page that is poisoned gets SIGBUS then, and does not wait for ever. */
static void poison_a_waiter(void *arg)
{
	struct area a = area_open(UFFD_HAS_POISON, UFFD_MISSING);
	struct toucher t;

	(void)arg;
	signal(SIGBUS, SIG_DFL);
	touch_start(&t, a.base, false, 0);
	next_fault(a.fd, a.base);
	(void)uffd_poison(a.fd, a.base, PAGE_SIZE);
	touch_end(&t);
}

static void test_poison_wakes_who_waits(void **state)
{
	struct child child;

	(void)state;
	need(UFFD_HAS_POISON, "POISON");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip_because("a sanitizer takes SIGBUS for itself");
#endif
	run_child(&child, poison_a_waiter, NULL);
	if (!WIFSIGNALED(child.status) || WTERMSIG(child.status) != SIGBUS)
		fail_msg("status %#x, \"%s\"", (unsigned)child.status, child.stderr_);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_move_takes_the_page_along),
		cmocka_unit_test(test_move_stops_at_holes_and_pages),
		cmocka_unit_test(test_move_refusals),
		cmocka_unit_test(test_continue_maps_what_the_file_has),
		cmocka_unit_test(test_poison_is_told_to_every_reader),
		cmocka_unit_test(test_poison_wakes_who_waits),
	};

	uffd_probe_or_skip();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
