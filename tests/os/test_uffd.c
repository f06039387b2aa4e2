/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * userfaultfd on the real kernel: what a handler is told, what each call does, and what each error means.
 *
 * Exits 77 where userfaultfd is not permitted; a test whose feature this kernel lacks is skipped with the reason.
 */
#include "uffd_area.h"

#include <linux/capability.h>
#include <sched.h>
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

/* --- installing --- */

static void test_copy_installs_exactly_the_bytes(void **state)
{
	struct area a = area_open(0, UFFD_MISSING);
	uint64_t seed = test_seed();
	size_t done = 0;

	(void)state;
	random_bytes(&seed, source, sizeof(source));
	assert_int_equal(uffd_copy(a.fd, page_of(a.base, 8), source, 16 * PAGE_SIZE, false, &done),
			 0);
	assert_int_equal(done, 16 * PAGE_SIZE);
	assert_memory_equal(page_of(a.base, 8), source, 16 * PAGE_SIZE);
	for (unsigned page = 0; page < PAGES; page++)
		assert_int_equal(pte_of(page_of(a.base, page)),
				 page >= 8 && page < 24 ? PTE_PRESENT : 0);
	/* Writable: not under protection. */
	page_of(a.base, 9)[0] ^= 1;
	/* done may be NULL. */
	assert_int_equal(uffd_copy(a.fd, a.base, source, PAGE_SIZE, false, NULL), 0);
	area_close(&a);
}

static void test_zeropage_reads_as_zero_and_wakes(void **state)
{
	struct area a = area_open(0, UFFD_MISSING);
	struct toucher t;
	size_t done = 0;

	(void)state;
	touch_start(&t, page_of(a.base, 4), false, 'x');
	next_fault(a.fd, page_of(a.base, 4));
	assert_int_equal(uffd_zeropage(a.fd, page_of(a.base, 2), 4 * PAGE_SIZE, &done), 0);
	assert_int_equal(done, 4 * PAGE_SIZE);
	assert_int_equal(touch_end(&t), 0);
	assert_true(all_bytes_are(page_of(a.base, 2), 0, 4 * PAGE_SIZE));
	page_of(a.base, 3)[5] = 'w';
	assert_int_equal(page_of(a.base, 3)[5], 'w');
	assert_int_equal(pte_of(page_of(a.base, 1)), 0);
	assert_int_equal(pte_of(page_of(a.base, 6)), 0);
	assert_int_equal(uffd_zeropage(a.fd, a.base, PAGE_SIZE, NULL), 0);
	area_close(&a);
}

/* What stopped the call, and how far it had come: the pages before are installed, those behind are not. */
static void test_eexist_says_how_far_it_came(void **state)
{
	(void)state;
	for (unsigned there = 0; there < 6; there++) {
		struct area a = area_open(UFFD_HAS_WRITEPROTECT, UFFD_MISSING | UFFD_WP);
		size_t done = 99;

		put_page(&a, 10 + there, 'o', false);
		assert_int_equal(uffd_copy(a.fd, page_of(a.base, 10), source_of('n'), 6 * PAGE_SIZE,
					   true, &done),
				 -EEXIST);
		assert_int_equal(done, there * PAGE_SIZE);
		put_page(&a, 30 + there, 'o', false);
		assert_int_equal(uffd_zeropage(a.fd, page_of(a.base, 30), 6 * PAGE_SIZE, &done),
				 -EEXIST);
		assert_int_equal(done, there * PAGE_SIZE);
		for (unsigned i = 0; i < 6; i++) {
			assert_int_equal(pte_of(page_of(a.base, 10 + i)),
					 i < there    ? PTE_PRESENT | PTE_PROTECTED
					 : i == there ? PTE_PRESENT
						      : 0);
			assert_int_equal(pte_of(page_of(a.base, 30 + i)),
					 i <= there ? PTE_PRESENT : 0);
			if (i <= there) {
				assert_true(all_bytes_are(page_of(a.base, 10 + i),
							  i < there ? 'n' : 'o', PAGE_SIZE));
				assert_true(all_bytes_are(page_of(a.base, 30 + i),
							  i < there ? 0 : 'o', PAGE_SIZE));
			}
		}
		/* done may be NULL where the call stops, too. */
		assert_int_equal(
			uffd_copy(a.fd, page_of(a.base, 10), source, 6 * PAGE_SIZE, false, NULL),
			-EEXIST);
		area_close(&a);
	}
}

/* -ENOENT: not, or no longer, a range of this userfaultfd. */
static void test_enoent_where_nothing_is_registered(void **state)
{
	struct area a = area_open(UFFD_HAS_WRITEPROTECT, UFFD_MISSING | UFFD_WP);
	char *plain = anonymous(BYTES);
	size_t done = 99;

	(void)state;
	assert_int_equal(uffd_copy(a.fd, plain, source, PAGE_SIZE, false, &done), -ENOENT);
	assert_int_equal(done, 0);
	done = 99;
	assert_true(uffd_zeropage(a.fd, plain, PAGE_SIZE, &done) < 0);
	assert_int_equal(done, 0);
	assert_int_equal(uffd_writeprotect(a.fd, plain, PAGE_SIZE, true), -ENOENT);
	munmap(plain, BYTES);
	assert_int_equal(uffd_copy(a.fd, plain, source, PAGE_SIZE, false, NULL), -ENOENT);
	assert_int_equal(uffd_unregister(a.fd, a.base, BYTES), 0);
	assert_int_equal(uffd_copy(a.fd, a.base, source, PAGE_SIZE, false, NULL), -ENOENT);
	area_close(&a);
}

struct owner {
	char *base;
	int tell[2], hold[2];
};

/* Registers its own memory, says with which descriptor, and lives until told. */
static pid_t owner_start(struct owner *o)
{
	pid_t pid;

	assert_int_equal(pipe2(o->tell, O_CLOEXEC), 0);
	assert_int_equal(pipe2(o->hold, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = uffd_open(0);
		char c, value;

		close(o->hold[1]);
		if (fd < 0 || uffd_register(fd, o->base, BYTES, UFFD_MISSING))
			_exit(1);
		(void)!write(o->tell[1], &fd, sizeof(fd));
		value = *(volatile char *)o->base; /* served by the parent */
		(void)!write(o->tell[1], &value, 1);
		(void)!read(o->hold[0], &c, 1);
		_exit(0);
	}
	close(o->hold[0]);
	close(o->tell[1]);
	return pid;
}

/* A copy of the descriptor works into the process that made it; -ESRCH when that is gone. */
static void test_esrch_when_the_process_is_gone(void **state)
{
	struct owner o = {.base = anonymous(BYTES)};
	pid_t pid = owner_start(&o);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), theirs = -1, fd, status;
	char got = 0;

	(void)state;
	assert_int_equal(read(o.tell[0], &theirs, sizeof(theirs)), sizeof(theirs));
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, theirs, 0);
	assert_true(fd >= 0);
	assert_int_equal(uffd_copy(fd, o.base, source_of('c'), PAGE_SIZE, false, NULL), 0);
	assert_int_equal(read(o.tell[0], &got, 1), 1);
	assert_int_equal(got, 'c');
	assert_int_equal(o.base[0], 0); /* ours is another */
	close(o.hold[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(uffd_copy(fd, o.base + PAGE_SIZE, source, PAGE_SIZE, false, NULL), -ESRCH);
	assert_int_equal(uffd_zeropage(fd, o.base + PAGE_SIZE, PAGE_SIZE, NULL), -ESRCH);
	close(fd);
	close(pidfd);
	close(o.tell[0]);
	munmap(o.base, BYTES);
}

static void *discard_main(void *arg)
{
	struct area *a = arg;

	(void)madvise(page_of(a->base, 32), PAGE_SIZE, MADV_DONTNEED);
	return NULL;
}

/*
 * -EAGAIN while a mapping change waits for its event to be read: returned, not retried. Reading the event, which is no
 * fault (0), lets the change happen and the copy succeed.
 */
static void test_eagain_until_the_event_is_read(void **state)
{
	struct uffd_fault f;
	pthread_t thread;
	struct area a;
	int err;

	(void)state;
	need(UFFD_HAS_EVENT_REMOVE, "EVENT_REMOVE");
	a = area_open(UFFD_HAS_EVENT_REMOVE, UFFD_MISSING);
	put_page(&a, 0, 'a', false);
	assert_int_equal(pthread_create(&thread, NULL, discard_main, &a), 0);
	do {
		size_t done = 99;

		err = uffd_copy(a.fd, a.base, source, PAGE_SIZE, false, &done);
		assert_int_equal(done, 0);
	} while (err == -EEXIST);
	assert_int_equal(err, -EAGAIN);
	assert_int_equal(uffd_zeropage(a.fd, page_of(a.base, 1), PAGE_SIZE, NULL), -EAGAIN);
	assert_int_equal(uffd_read(a.fd, &f, 1), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	put_page(&a, 1, 'b', false);
	area_close(&a);
}

/* --- write protection --- */

/* A page copied in write-protected is read freely; a write waits, says so, and goes on when released. */
static void test_a_protected_copy_faults_at_writes_only(void **state)
{
	struct area a =
		area_open(UFFD_HAS_WRITEPROTECT | UFFD_HAS_THREAD_ID, UFFD_MISSING | UFFD_WP);
	struct uffd_fault f;
	struct toucher t;

	(void)state;
	put_page(&a, 6, 'p', true);
	assert_int_equal(pte_of(page_of(a.base, 6)), PTE_PRESENT | PTE_PROTECTED);
	assert_true(all_bytes_are(page_of(a.base, 6), 'p', PAGE_SIZE));
	touch_start(&t, page_of(a.base, 6) + 100, true, 'W');
	f = next_fault(a.fd, page_of(a.base, 6));
	assert_true(f.wp);
	assert_false(f.minor);
	assert_int_equal(f.tid, load_relaxed(&t.tid));
	assert_false(load_acquire(&t.done));
	assert_int_equal(peek(page_of(a.base, 6) + 100), 'p');
	assert_int_equal(uffd_writeprotect(a.fd, page_of(a.base, 6), PAGE_SIZE, false), 0);
	touch_end(&t);
	assert_int_equal(page_of(a.base, 6)[100], 'W');
	assert_int_equal(page_of(a.base, 6)[99], 'p');
	area_close(&a);
}

/* Protecting a range passes absent pages over: they fault as missing, and come in as they are installed. */
static void test_protecting_passes_absent_pages_over(void **state)
{
	struct area a = area_open(UFFD_HAS_WRITEPROTECT, UFFD_MISSING | UFFD_WP);
	struct uffd_fault f;
	struct toucher t;

	(void)state;
	put_page(&a, 1, 'a', false);
	put_page(&a, 3, 'c', false);
	assert_int_equal(uffd_writeprotect(a.fd, a.base, 4 * PAGE_SIZE, true), 0);
	assert_int_equal(pte_of(page_of(a.base, 1)), PTE_PRESENT | PTE_PROTECTED);
	assert_int_equal(pte_of(page_of(a.base, 3)), PTE_PRESENT | PTE_PROTECTED);
	touch_start(&t, page_of(a.base, 2), true, 'x');
	f = next_fault(a.fd, page_of(a.base, 2));
	assert_true(f.write);
	assert_false(f.wp);
	put_page(&a, 2, 'b', false);
	touch_end(&t);
	/* Released, and protected again: the contents stay. */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(uffd_writeprotect(a.fd, a.base, 4 * PAGE_SIZE, false), 0);
		assert_int_equal(pte_of(page_of(a.base, 1)), PTE_PRESENT);
		page_of(a.base, 1)[0] = (char)i;
		assert_int_equal(uffd_writeprotect(a.fd, a.base, 4 * PAGE_SIZE, true), 0);
		assert_int_equal(page_of(a.base, 1)[0], i);
		assert_true(all_bytes_are(page_of(a.base, 3), 'c', PAGE_SIZE));
	}
	area_close(&a);
}

/* --- everything at random against an oracle --- */

struct oracle {
	struct area a;
	struct {
		bool present, protected;
		char fill;
	} page[PAGES];
	uint64_t seed;
};

static void oracle_install(struct oracle *o, unsigned first, unsigned count, bool zero)
{
	char fill = random_char(&o->seed, 1);
	bool protected = !zero && random_chance(&o->seed, 2);
	unsigned free = 0;
	size_t done = 99;
	int err;

	if (zero)
		fill = 0;
	while (free < count && !o->page[first + free].present)
		free++;
	err = zero ? uffd_zeropage(o->a.fd, page_of(o->a.base, first), count * PAGE_SIZE, &done)
		   : uffd_copy(o->a.fd, page_of(o->a.base, first), source_of(fill),
			       count * PAGE_SIZE, protected, &done);
	assert_int_equal(err, free < count ? -EEXIST : 0);
	assert_int_equal(done, free * PAGE_SIZE);
	for (unsigned i = first; i < first + free; i++) {
		o->page[i].present = true;
		o->page[i].protected = protected;
		o->page[i].fill = fill;
	}
}

static void oracle_protect(struct oracle *o, unsigned first, unsigned count, bool protect)
{
	assert_int_equal(
		uffd_writeprotect(o->a.fd, page_of(o->a.base, first), count * PAGE_SIZE, protect),
		0);
	for (unsigned i = first; i < first + count; i++) {
		if (o->page[i].present)
			o->page[i].protected = protect;
	}
}

static void oracle_drop(struct oracle *o, unsigned first, unsigned count)
{
	assert_int_equal(madvise(page_of(o->a.base, first), count * PAGE_SIZE, MADV_DONTNEED), 0);
	for (unsigned i = first; i < first + count; i++)
		o->page[i].present = o->page[i].protected = false;
}

static void oracle_write(struct oracle *o, unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++) {
		if (!o->page[i].present || o->page[i].protected)
			continue;
		o->page[i].fill = (char)random_next(&o->seed);
		memset(page_of(o->a.base, i), o->page[i].fill, PAGE_SIZE);
	}
}

static void oracle_compare(struct oracle *o)
{
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(pte_of(page_of(o->a.base, i)),
				 (o->page[i].present ? PTE_PRESENT : 0) |
					 (o->page[i].protected ? PTE_PROTECTED : 0));
		if (o->page[i].present)
			assert_true(
				all_bytes_are(page_of(o->a.base, i), o->page[i].fill, PAGE_SIZE));
	}
}

/* Present, protected, contents, and what each call answers are as predicted, after every call. */
static void test_random_calls_against_an_oracle(void **state)
{
	struct oracle o = {
		.a = area_open(UFFD_HAS_WRITEPROTECT, UFFD_MISSING | UFFD_WP),
		.seed = test_seed(),
	};

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		unsigned first = random_below(&o.seed, PAGES);
		unsigned count = 1 + random_below(&o.seed, MIN(16u, PAGES - first));

		switch (random_below(&o.seed, 6)) {
		case 0:
		case 1:
			oracle_install(&o, first, count, false);
			break;
		case 2:
			oracle_install(&o, first, count, true);
			break;
		case 3:
			oracle_protect(&o, first, count, random_chance(&o.seed, 2));
			break;
		case 4:
			oracle_drop(&o, first, count);
			break;
		default:
			oracle_write(&o, first, count);
			break;
		}
		if (i % 20 == 0)
			oracle_compare(&o);
	}
	oracle_compare(&o);
	area_close(&o.a);
}

/* --- later kernels --- */

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
		cmocka_unit_test(test_copy_installs_exactly_the_bytes),
		cmocka_unit_test(test_zeropage_reads_as_zero_and_wakes),
		cmocka_unit_test(test_eexist_says_how_far_it_came),
		cmocka_unit_test(test_enoent_where_nothing_is_registered),
		cmocka_unit_test(test_esrch_when_the_process_is_gone),
		cmocka_unit_test(test_eagain_until_the_event_is_read),
		cmocka_unit_test(test_a_protected_copy_faults_at_writes_only),
		cmocka_unit_test(test_protecting_passes_absent_pages_over),
		cmocka_unit_test(test_random_calls_against_an_oracle),
		cmocka_unit_test(test_move_takes_the_page_along),
		cmocka_unit_test(test_move_stops_at_holes_and_pages),
		cmocka_unit_test(test_move_refusals),
		cmocka_unit_test(test_continue_maps_what_the_file_has),
		cmocka_unit_test(test_poison_is_told_to_every_reader),
		cmocka_unit_test(test_poison_wakes_who_waits),
	};
	int err = uffd_probe(&features);

	if (err == -EPERM || err == -ENOSYS) {
		fprintf(stderr,
			"userfaultfd: %s; needs root, vm.unprivileged_userfaultfd=1 or access to "
			"/dev/userfaultfd\n",
			err == -EPERM ? "not permitted" : "not in this kernel");
		return EXIT_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
