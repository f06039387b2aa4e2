/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * userfaultfd on the real kernel: what a probe and an open answer, what memory can be registered, and what a handler is told.
 * What each call does is in test_uffd_install.c, what came with later kernels in test_uffd_later.c.
 */
#include "uffd_area.h"

#include <linux/capability.h>
#include <sys/time.h>

/* --- probe and open --- */

/* The answer is the kernel's, the same each time, and leaves no descriptor behind. */
static void test_probe_is_stable_and_leaks_nothing(void **state)
{
	int before = descriptors_open_now();

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		uint64_t again = 0;

		assert_int_equal(uffd_probe(&again), 0);
		assert_int_equal(again, features);
	}
	assert_int_equal(descriptors_open_now(), before);
	assert_true(features & UFFD_HAS_WRITEPROTECT);
}

/* Every feature that the probe found can be asked for, alone and with the others that weir uses. */
static void test_open_grants_what_probe_found(void **state)
{
	int before = descriptors_open_now();

	(void)state;
	for (unsigned bit = 0; bit < 17; bit++) {
		int fd;

		/* An event of forks is for privileged handlers. */
		if (!(features >> bit & 1) || 1u << bit == UFFD_HAS_EVENT_FORK)
			continue;
		fd = uffd_open(1ull << bit);
		if (fd < 0)
			fail_msg("feature %u: %d", bit, fd);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
		assert_int_equal(uffd_close(fd), 0);
	}
	assert_int_equal(descriptors_open_now(), before);
}

/* -EINVAL for a feature that no kernel has; nothing stays open. */
static void test_open_refuses_a_missing_feature(void **state)
{
	int before = descriptors_open_now();

	(void)state;
	assert_int_equal(uffd_open(1ull << 62), -EINVAL);
	assert_int_equal(uffd_open(UFFD_HAS_WRITEPROTECT | 1ull << 62), -EINVAL);
	assert_int_equal(descriptors_open_now(), before);
	assert_int_equal(uffd_close(-1), -EBADF);
}

static int sysctl_unprivileged(void)
{
	int fd = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);
	char c = '0';

	if (fd >= 0) {
		(void)!read(fd, &c, 1);
		close(fd);
	}
	return c != '0';
}

static void ask_as_nobody(void *arg)
{
	uint64_t has;
	bool may;

	(void)arg;
	child_check(!setgid(65534) && !setuid(65534));
	may = sysctl_unprivileged() || access("/dev/userfaultfd", R_OK | W_OK) == 0;
	child_check(uffd_probe(&has) == (may ? 0 : -EPERM));
	child_check(may ? uffd_open(0) >= 0 : uffd_open(0) == -EPERM);
}

/* -EPERM means: neither the system call nor the device. */
static void test_no_permission_is_eperm(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip_because("not root, who could become nobody");
	child_passes(ask_as_nobody, NULL);
}

static void ask_by_device(void *arg)
{
	struct __user_cap_header_struct who = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct caps[2];
	uint64_t has = 0;
	int before = descriptors_open_now(), fd;

	(void)arg;
	child_check(!syscall(SYS_capget, &who, caps));
	caps[0].effective &= ~(1u << CAP_SYS_PTRACE);
	child_check(!syscall(SYS_capset, &who, caps));
	child_check(sysctl_unprivileged() || syscall(SYS_userfaultfd, O_CLOEXEC) < 0);
	child_check(uffd_probe(&has) == 0);
	child_check(has == features);
	fd = uffd_open(UFFD_HAS_WRITEPROTECT);
	child_check(fd >= 0);
	child_check(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	child_check(descriptors_open_now() == before + 1);
}

/* Without the capability the device is enough: nothing but file permission is needed. */
static void test_the_device_is_enough(void **state)
{
	(void)state;
	if (access("/dev/userfaultfd", R_OK | W_OK))
		skip_because("no /dev/userfaultfd for this user");
	child_passes(ask_by_device, NULL);
}

static void ask_old_kernel(void *arg)
{
	uint64_t has;

	(void)arg;
	deny(SYS_userfaultfd, ENOSYS);
	child_check(uffd_probe(&has) == -ENOSYS);
	child_check(uffd_open(0) == -ENOSYS);
}

static void test_a_kernel_without_it_is_enosys(void **state)
{
	(void)state;
	child_passes(ask_old_kernel, NULL);
}

/* --- register --- */

static void test_register_needs_free_memory_of_ours(void **state)
{
	struct area a = area_open(0, UFFD_MISSING);
	int other = uffd_open(0);
	char *unmapped = anonymous(BYTES);

	(void)state;
	munmap(unmapped, BYTES);
	assert_true(other >= 0);
	assert_int_equal(uffd_register(other, a.base, BYTES, UFFD_MISSING), -EBUSY);
	assert_true(uffd_register(other, unmapped, BYTES, UFFD_MISSING) < 0);
	assert_int_equal(uffd_register(other, a.base + 1, PAGE_SIZE, UFFD_MISSING), -EINVAL);
	assert_int_equal(uffd_register(other, a.base, 0, UFFD_MISSING), -EINVAL);
	/* Again by the same one is nothing new. */
	assert_int_equal(uffd_register(a.fd, a.base, BYTES, UFFD_MISSING), 0);
	/* Let go, the range is anybody's. */
	assert_int_equal(uffd_unregister(a.fd, a.base, BYTES), 0);
	assert_int_equal(uffd_register(other, a.base, BYTES, UFFD_MISSING), 0);
	assert_int_equal(uffd_close(other), 0);
	area_close(&a);
}

/* After unregister the kernel serves touches itself, with zeroes; what was installed stays. */
static void test_unregistered_memory_is_plain_again(void **state)
{
	struct area a = area_open(0, UFFD_MISSING);

	(void)state;
	put_page(&a, 1, 'x', false);
	assert_int_equal(uffd_unregister(a.fd, a.base, BYTES), 0);
	assert_true(all_bytes_are(page_of(a.base, 0), 0, PAGE_SIZE));
	assert_true(all_bytes_are(page_of(a.base, 1), 'x', PAGE_SIZE));
	area_close(&a);
}

/* --- faults --- */

/* A fault says where, who, and how; the page that comes is what the thread reads. */
static void test_a_fault_says_where_who_and_how(void **state)
{
	struct area a = area_open(UFFD_HAS_THREAD_ID, UFFD_MISSING);
	struct uffd_fault f;
	struct toucher t;

	(void)state;
	touch_start(&t, page_of(a.base, 3) + 777, false, 0);
	f = next_fault(a.fd, page_of(a.base, 3));
	assert_false(load_acquire(&t.done));
	assert_int_equal(f.address & PAGE_MASK, 0);
	assert_int_equal(f.tid, load_relaxed(&t.tid));
	assert_false(f.write || f.wp || f.minor);
	put_page(&a, 3, 'r', false);
	assert_int_equal(touch_end(&t), 'r');

	touch_start(&t, page_of(a.base, 5), true, 'W');
	f = next_fault(a.fd, page_of(a.base, 5));
	assert_int_equal(f.tid, load_relaxed(&t.tid));
	assert_true(f.write);
	assert_false(f.wp || f.minor);
	put_page(&a, 5, 'w', false);
	touch_end(&t);
	assert_int_equal(page_of(a.base, 5)[0], 'W');
	assert_true(all_bytes_are(page_of(a.base, 5) + 1, 'w', PAGE_SIZE - 1));
	area_close(&a);
}

/* Without the features: no thread, and the address of the page; with EXACT_ADDRESS that of the byte. */
static void test_features_decide_what_a_fault_says(void **state)
{
	struct area a = area_open(0, UFFD_MISSING);
	struct uffd_fault f;
	struct toucher t;

	(void)state;
	touch_start(&t, page_of(a.base, 2) + 99, false, 0);
	f = next_fault(a.fd, page_of(a.base, 2));
	assert_int_equal(f.tid, 0);
	assert_int_equal(f.address & PAGE_MASK, 0);
	put_page(&a, 2, 'a', false);
	touch_end(&t);
	area_close(&a);

	need(UFFD_HAS_EXACT_ADDRESS, "EXACT_ADDRESS");
	a = area_open(UFFD_HAS_EXACT_ADDRESS, UFFD_MISSING);
	touch_start(&t, page_of(a.base, 2) + 99, false, 0);
	f = next_fault(a.fd, page_of(a.base, 2));
	assert_int_equal(f.address & PAGE_MASK, 99);
	put_page(&a, 2, 'a', false);
	touch_end(&t);
	area_close(&a);
}

enum { CROWD = 24 };

/* Many waiters: no read gives more than was asked for, each fault comes once, none is lost. */
static void test_reads_give_at_most_max(void **state)
{
	struct area a = area_open(UFFD_HAS_THREAD_ID, UFFD_MISSING);
	struct toucher t[CROWD];
	bool seen[CROWD] = {false};
	unsigned served = 0;

	(void)state;
	for (unsigned i = 0; i < CROWD; i++)
		touch_start(&t[i], page_of(a.base, i), false, 0);
	for (unsigned round = 0; served < CROWD; round++) {
		struct uffd_fault f[CROWD + 1];
		unsigned max = 1 + (round * 7) % CROWD;
		int got;

		memset(f, 0x5a, sizeof(f));
		got = uffd_read(a.fd, f, max);
		assert_in_range(got, 0, max);
		assert_true(all_bytes_are(&f[got], 0x5a, sizeof(f) - (size_t)got * sizeof(f[0])));
		for (int i = 0; i < got; i++) {
			size_t page = (f[i].address - (uintptr_t)a.base) >> PAGE_SHIFT;

			assert_in_range(page, 0, CROWD - 1);
			assert_false(seen[page]);
			seen[page] = true;
			assert_int_equal(f[i].tid, load_relaxed(&t[page].tid));
			put_page(&a, (unsigned)page, (char)('A' + page), false);
			served++;
		}
	}
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(touch_end(&t[i]), 'A' + (char)i);
	area_close(&a);
}

static void on_alarm(int sig)
{
	(void)sig;
}

/* A signal ends a read that waits: -EINTR. */
static void test_a_signal_ends_a_read(void **state)
{
	struct area a = area_open(0, UFFD_MISSING);
	struct sigaction act = {.sa_handler = on_alarm}, old;
	const struct itimerval soon = {{0, 10000}, {0, 10000}}, never = {{0, 0}, {0, 0}};
	struct uffd_fault f;

	(void)state;
	assert_int_equal(sigaction(SIGALRM, &act, &old), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
	assert_int_equal(uffd_read(a.fd, &f, 1), -EINTR);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
	area_close(&a);
}

/* Waking installs nothing: the thread looks again, and faults again at the same page. */
static void test_wake_alone_makes_a_thread_fault_again(void **state)
{
	struct area a = area_open(0, UFFD_MISSING);
	struct toucher t;

	(void)state;
	touch_start(&t, page_of(a.base, 7), false, 0);
	for (unsigned i = 0; i < 5; i++) {
		next_fault(a.fd, page_of(a.base, 7));
		assert_false(load_acquire(&t.done));
		assert_int_equal(uffd_wake(a.fd, page_of(a.base, 7), PAGE_SIZE), 0);
	}
	next_fault(a.fd, page_of(a.base, 7));
	put_page(&a, 7, 'z', false);
	assert_int_equal(touch_end(&t), 'z');
	/* Nobody waits there: nothing happens. */
	assert_int_equal(uffd_wake(a.fd, a.base, BYTES), 0);
	area_close(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probe_is_stable_and_leaks_nothing),
		cmocka_unit_test(test_open_grants_what_probe_found),
		cmocka_unit_test(test_open_refuses_a_missing_feature),
		cmocka_unit_test(test_no_permission_is_eperm),
		cmocka_unit_test(test_the_device_is_enough),
		cmocka_unit_test(test_a_kernel_without_it_is_enosys),
		cmocka_unit_test(test_register_needs_free_memory_of_ours),
		cmocka_unit_test(test_unregistered_memory_is_plain_again),
		cmocka_unit_test(test_a_fault_says_where_who_and_how),
		cmocka_unit_test(test_features_decide_what_a_fault_says),
		cmocka_unit_test(test_reads_give_at_most_max),
		cmocka_unit_test(test_a_signal_ends_a_read),
		cmocka_unit_test(test_wake_alone_makes_a_thread_fault_again),
	};

	uffd_probe_or_skip();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
