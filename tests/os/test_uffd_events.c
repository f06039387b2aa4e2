/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cases of the kernel's own unit tests of userfaultfd, by their names, of forks and of mappings that change under it: what is
 * protected in a child, what events tell, and what no call does before its event is read. The others are in test_uffd_cases.c.
 */
#include "uffd_area.h"

#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/uio.h>

#define ALL_EVENTS                                                                                 \
	(UFFD_HAS_EVENT_FORK | UFFD_HAS_EVENT_REMAP | UFFD_HAS_EVENT_REMOVE | UFFD_HAS_EVENT_UNMAP)

/* --- helpers --- */

static struct uffd_msg next_message(int fd)
{
	struct uffd_msg message;

	while (read(fd, &message, sizeof(message)) != sizeof(message))
		assert_int_equal(errno, EINTR);
	return message;
}

static void need_events(void)
{
	need(UFFD_HAS_EVENT_FORK, "EVENT_FORK");
	need(UFFD_HAS_EVENT_REMAP, "EVENT_REMAP");
	need(UFFD_HAS_EVENT_REMOVE, "EVENT_REMOVE");
	need(UFFD_HAS_EVENT_UNMAP, "EVENT_UNMAP");
}

/* Runs fn(arg) in a thread, since it waits for its event to be read, and returns that event. */
struct change {
	void (*fn)(struct area *a);
	struct area *a;
	pthread_t thread;
	_Atomic bool over;
};

static void *change_main(void *arg)
{
	struct change *c = arg;

	c->fn(c->a);
	store_release(&c->over, true);
	return NULL;
}

/* A change may have more than one, such as of what it unmaps; `want` is the one that is looked for. */
static struct uffd_msg event_of(struct area *a, void (*fn)(struct area *a), unsigned want)
{
	struct change c = {.fn = fn, .a = a};
	struct uffd_msg found = {0};

	assert_int_equal(uffd_nonblocking(a->fd, true), 0);
	assert_int_equal(pthread_create(&c.thread, NULL, change_main, &c), 0);
	while (!load_acquire(&c.over)) {
		struct uffd_msg message;

		if (read(a->fd, &message, sizeof(message)) == sizeof(message) &&
		    message.event == want)
			found = message;
		sched_yield();
	}
	assert_int_equal(pthread_join(c.thread, NULL), 0);
	assert_int_equal(uffd_nonblocking(a->fd, false), 0);
	assert_int_equal(found.event, want);
	return found;
}

/* --- wp-fork --- */

/* Pins a page as a device would: a fixed buffer of io_uring. Returns the ring, to be closed. */
static int pin_or_skip(char *page)
{
	struct io_uring_params params = {0};
	struct iovec buffer = {page, PAGE_SIZE};
	int ring = (int)syscall(SYS_io_uring_setup, 1, &params);

	if (ring < 0)
		skip_because("no io_uring to pin a page with (errno %d)", errno);
	if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1)) {
		close(ring);
		skip_because("io_uring does not pin (errno %d)", errno);
	}
	return ring;
}

static void *read_fork_event(void *arg)
{
	struct uffd_msg *message = arg;
	int fd = (int)message->arg.fork.ufd;

	*message = next_message(fd);
	return NULL;
}

/* Is a protected page protected in a child? */
static bool child_is_protected(bool with_event, bool pinned)
{
	struct area a = area_open(UFFD_HAS_WRITEPROTECT | (with_event ? UFFD_HAS_EVENT_FORK : 0),
				  UFFD_MISSING | UFFD_WP);
	struct uffd_msg message = {.arg.fork.ufd = (uint32_t)a.fd};
	pthread_t reader;
	int ring = -1, status;
	pid_t pid;

	put_page(&a, 0, 'p', false);
	if (pinned)
		ring = pin_or_skip(a.base);
	assert_int_equal(uffd_writeprotect(a.fd, a.base, PAGE_SIZE, true), 0);
	if (with_event)
		assert_int_equal(pthread_create(&reader, NULL, read_fork_event, &message), 0);
	pid = fork();
	if (pid == 0)
		_exit(pte_of(a.base) & PTE_PROTECTED ? 1 : 0);
	if (with_event) {
		assert_int_equal(pthread_join(reader, NULL), 0);
		assert_int_equal(message.event, UFFD_EVENT_FORK);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* Not earlier: closing it takes the protection away. */
	if (with_event)
		close((int)message.arg.fork.ufd);
	assert_true(WIFEXITED(status));
	/* Ours stays, whatever the child has. */
	assert_int_equal(pte_of(a.base), PTE_PRESENT | PTE_PROTECTED);
	assert_true(all_bytes_are(a.base, 'p', PAGE_SIZE));
	if (ring >= 0)
		close(ring);
	area_close(&a);
	return WEXITSTATUS(status);
}

/* A child without the event has plain memory, protected by nobody; with it, protection goes along. */
static void test_wp_fork(void **state)
{
	(void)state;
	assert_false(child_is_protected(false, false));
}

static void test_wp_fork_with_event(void **state)
{
	(void)state;
	need(UFFD_HAS_EVENT_FORK, "EVENT_FORK");
	assert_true(child_is_protected(true, false));
}

/* The same for a pinned page, which a fork copies at once. */
static void test_wp_fork_pin(void **state)
{
	(void)state;
	assert_false(child_is_protected(false, true));
}

static void test_wp_fork_pin_with_event(void **state)
{
	(void)state;
	need(UFFD_HAS_EVENT_FORK, "EVENT_FORK");
	assert_true(child_is_protected(true, true));
}

/* --- events --- */

enum { MOVED_FROM = 8, MOVED_TO = 40, MOVED = 4 };

static void remap(struct area *a)
{
	(void)mremap(page_of(a->base, MOVED_FROM), MOVED * PAGE_SIZE, MOVED * PAGE_SIZE,
		     MREMAP_MAYMOVE | MREMAP_FIXED, page_of(a->base, MOVED_TO));
}

static void drop(struct area *a)
{
	(void)madvise(a->base, 2 * PAGE_SIZE, MADV_DONTNEED);
}

static void unmap(struct area *a)
{
	(void)munmap(page_of(a->base, 60), 2 * PAGE_SIZE);
}

static volatile pid_t forked;

static void fork_child(struct area *a)
{
	pid_t pid = fork();

	/* One page that is there and may be protected, one that is not. */
	if (pid == 0) {
		bool right = *(volatile char *)page_of(a->base, 1) == 'a';

		*(volatile char *)page_of(a->base, 1) = 'c';
		right = right && *(volatile char *)page_of(a->base, 5) == 'C';
		_exit(right ? 0 : 1);
	}
	forked = pid;
}

/* A fork: the event has a descriptor for the child, whose faults it tells and serves. */
static void fork_is_told(struct area *a, bool protect)
{
	struct uffd_msg message = event_of(a, fork_child, UFFD_EVENT_FORK);
	int theirs = (int)message.arg.fork.ufd, status;

	assert_int_equal(uffd_nonblocking(theirs, false), 0);
	if (protect) {
		assert_true(next_fault(theirs, page_of(a->base, 1)).wp);
		assert_int_equal(uffd_writeprotect(theirs, page_of(a->base, 1), PAGE_SIZE, false),
				 0);
	}
	(void)next_fault(theirs, page_of(a->base, 5));
	assert_int_equal(
		uffd_copy(theirs, page_of(a->base, 5), source_of('C'), PAGE_SIZE, false, NULL), 0);
	assert_int_equal(waitpid(forked, &status, 0), forked);
	assert_int_equal(status, 0);
	assert_int_equal(uffd_close(theirs), 0);
	/* Ours is ours. */
	assert_int_equal(pte_of(page_of(a->base, 5)), 0);
	assert_true(all_bytes_are(page_of(a->base, 1), 'a', PAGE_SIZE));
}

static void events(bool protect)
{
	struct area a = area_open(ALL_EVENTS | UFFD_HAS_WRITEPROTECT,
				  UFFD_MISSING | (protect ? UFFD_WP : 0));
	struct uffd_msg m;
	struct toucher t;

	for (unsigned page = 0; page < 3; page++)
		put_page(&a, page, 'a', protect);
	put_page(&a, MOVED_FROM, 'm', protect);
	fork_is_told(&a, protect);

	/* A page goes along with its protection, and what is absent there faults there. */
	m = event_of(&a, remap, UFFD_EVENT_REMAP);
	assert_int_equal(m.arg.remap.from, (uintptr_t)page_of(a.base, MOVED_FROM));
	assert_int_equal(m.arg.remap.to, (uintptr_t)page_of(a.base, MOVED_TO));
	assert_int_equal(m.arg.remap.len, MOVED * PAGE_SIZE);
	assert_int_equal(pte_of(page_of(a.base, MOVED_TO)),
			 PTE_PRESENT | (protect ? PTE_PROTECTED : 0));
	assert_int_equal(page_of(a.base, MOVED_TO)[0], 'm');
	touch_start(&t, page_of(a.base, MOVED_TO + 1), false, 0);
	(void)next_fault(a.fd, page_of(a.base, MOVED_TO + 1));
	put_page(&a, MOVED_TO + 1, 'n', false);
	assert_int_equal(touch_end(&t), 'n');

	/* What was dropped faults anew. */
	m = event_of(&a, drop, UFFD_EVENT_REMOVE);
	assert_int_equal(m.arg.remove.start, (uintptr_t)a.base);
	assert_int_equal(m.arg.remove.end, (uintptr_t)page_of(a.base, 2));
	touch_start(&t, a.base, false, 0);
	(void)next_fault(a.fd, a.base);
	put_page(&a, 0, 'd', false);
	assert_int_equal(touch_end(&t), 'd');

	m = event_of(&a, unmap, UFFD_EVENT_UNMAP);
	assert_int_equal(m.arg.remove.start, (uintptr_t)page_of(a.base, 60));
	assert_int_equal(m.arg.remove.end, (uintptr_t)page_of(a.base, 62));
	assert_int_equal(
		uffd_copy(a.fd, page_of(a.base, 60), source_of('u'), PAGE_SIZE, false, NULL),
		-ENOENT);
	area_close(&a);
}

static void test_events(void **state)
{
	(void)state;
	need_events();
	events(false);
}

static void test_events_wp(void **state)
{
	(void)state;
	need_events();
	events(true);
}

/* --- mmap-changing --- */

/* While a change waits for its event to be read, no call goes through; afterwards all do. */
static void test_mmap_changing(void **state)
{
	struct change c = {.fn = drop};
	char *from = anonymous(BYTES);
	struct area a;

	(void)state;
	need_events();
	need(UFFD_HAS_MOVE, "MOVE");
	need(UFFD_HAS_POISON, "POISON");
	a = area_open(ALL_EVENTS | UFFD_HAS_WRITEPROTECT | UFFD_HAS_MOVE | UFFD_HAS_POISON,
		      UFFD_MISSING | UFFD_WP);
	c.a = &a;
	memset(from, 'f', BYTES);
	put_page(&a, 0, 'a', false);
	assert_int_equal(pthread_create(&c.thread, NULL, change_main, &c), 0);
	while (uffd_copy(a.fd, a.base, source, PAGE_SIZE, false, NULL) == -EEXIST)
		sched_yield();
	for (unsigned i = 0; i < 3; i++) {
		char *at = page_of(a.base, 10 + i);

		assert_int_equal(uffd_copy(a.fd, at, source, PAGE_SIZE, false, NULL), -EAGAIN);
		assert_int_equal(uffd_zeropage(a.fd, at, PAGE_SIZE, NULL), -EAGAIN);
		assert_int_equal(move_patiently(a.fd, at, from, PAGE_SIZE, false, NULL), -EAGAIN);
		assert_int_equal(uffd_writeprotect(a.fd, at, PAGE_SIZE, true), -EAGAIN);
		assert_int_equal(uffd_poison(a.fd, at, PAGE_SIZE), -EAGAIN);
	}
	assert_int_equal(next_message(a.fd).event, UFFD_EVENT_REMOVE);
	assert_int_equal(pthread_join(c.thread, NULL), 0);
	assert_int_equal(move_patiently(a.fd, page_of(a.base, 10), from, PAGE_SIZE, false, NULL),
			 0);
	assert_int_equal(uffd_zeropage(a.fd, page_of(a.base, 11), PAGE_SIZE, NULL), 0);
	assert_int_equal(uffd_writeprotect(a.fd, page_of(a.base, 11), PAGE_SIZE, true), 0);
	assert_int_equal(uffd_poison(a.fd, page_of(a.base, 12), PAGE_SIZE), 0);
	put_page(&a, 0, 'b', false);
	munmap(from, BYTES);
	area_close(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wp_fork),	      cmocka_unit_test(test_wp_fork_with_event),
		cmocka_unit_test(test_wp_fork_pin),   cmocka_unit_test(test_wp_fork_pin_with_event),
		cmocka_unit_test(test_events),	      cmocka_unit_test(test_events_wp),
		cmocka_unit_test(test_mmap_changing),
	};

	uffd_probe_or_skip();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
