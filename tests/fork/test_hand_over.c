/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Forks whose hand-over does not go as it should: a child that touches everything before it serves itself, one that is stopped, one to which
 * nothing can be passed, one that gets no descriptors or no threads, one that is made while a handler has a page. In each the child has every page as it was at the fork, or is
 * told that it may not go on; the parent writes every page meanwhile, and goes on as ever.
 *
 * The heap is several times the limit, so most of it is compressed or in the file at the fork. The linker puts what is here in place of pass_send,
 * thread_start and stream_match.
 */
#include "open.h"

#include <pthread.h>

#include "base/atomic.h"
#include "os/thread.h"

enum {
	PAGES = 9000, /* more than two blocks of what a child is told of */
	FRESH = 500,  /* behind them; nobody has touched them at the fork */
	WORDS = PAGE_SIZE / 8,
	LIMIT_MIB = 8,
};

static uint64_t (*heap)[WORDS];

/* --- what goes wrong --- */

enum send_error { SEND_WORKS, SEND_NO_DESCRIPTORS, SEND_NOTHING };
static _Atomic int send_error, send_errno,
	thread_fails; /* in this process: the child has its own */

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker's names */
int __real_pass_send(int end, const void *data, size_t bytes, const int *fds, unsigned count);
int __wrap_pass_send(int end, const void *data, size_t bytes, const int *fds, unsigned count);
int __wrap_pass_send(int end, const void *data, size_t bytes, const int *fds, unsigned count)
{
	const int how = load_relaxed(&send_error);

	if (how == SEND_NOTHING || (how == SEND_NO_DESCRIPTORS && count))
		return load_relaxed(&send_errno);
	return __real_pass_send(end, data, bytes, fds, count);
}

/* thread_fails counts down: at 1 it does. */
int __real_thread_start(pthread_t *thread, const char *name, void *(*fn)(void *), void *arg);
int __wrap_thread_start(pthread_t *thread, const char *name, void *(*fn)(void *), void *arg);
int __wrap_thread_start(pthread_t *thread, const char *name, void *(*fn)(void *), void *arg)
{
	if (load_relaxed(&thread_fails) && sub_relaxed(&thread_fails, 1) == 1)
		return -EAGAIN;
	return __real_thread_start(thread, name, fn, arg);
}

/* Asked by a handler that has a page which nobody has touched: it may be made to stay so until the process has forked. */
enum { HOLD_NO, HOLD_NEXT, HOLD_HELD };
static _Atomic uint32_t hold;

struct stream *__real_stream_match(struct vm *vm, page_no_t page, int32_t *window);
struct stream *__wrap_stream_match(struct vm *vm, page_no_t page, int32_t *window);
struct stream *__wrap_stream_match(struct vm *vm, page_no_t page, int32_t *window)
{
	uint32_t next = HOLD_NEXT;

	if (cas_relaxed(&hold, &next, HOLD_HELD)) {
		struct pager *self = service_self();

		(void)futex_wake(&hold, 1);
		/* The other one is told of the fork. */
		self->before_block(self->data);
		while (load_acquire(&hold) == HOLD_HELD)
			(void)futex_wait(&hold, HOLD_HELD, 0);
	}
	return __real_stream_match(vm, page, window);
}

/* A page whose copy cannot be read for a child. */
static _Atomic uint32_t unreadable = UINT32_MAX;

int __real_page_read(struct vm *vm, struct pager *self, struct region *region, uint32_t page,
		     uint64_t w);
int __wrap_page_read(struct vm *vm, struct pager *self, struct region *region, uint32_t page,
		     uint64_t w);
int __wrap_page_read(struct vm *vm, struct pager *self, struct region *region, uint32_t page,
		     uint64_t w)
{
	if (page == load_relaxed(&unreadable) && word_kind(w) != COPY_NONE)
		return -EBADMSG;
	return __real_page_read(vm, self, region, page, w);
}
/* NOLINTEND(bugprone-reserved-identifier) */

/* --- the heap and its oracle --- */

/* Few pages do not compress, since those cost the disk; a third is one word, the rest compresses. */
static uint64_t word_of(uint32_t page, uint32_t version, unsigned i)
{
	uint64_t seed = (uint64_t)version << 32 | page;
	const uint64_t base = random_next(&seed);

	switch (page % 3) {
	case 0:
		return page % 16 ? base + i / 16 : base * (2 * i + 1);
	case 1:
		return base & 0xffffffffu;
	default:
		return base + i / 16;
	}
}

static void all_write(uint32_t version)
{
	for (uint32_t page = 0; page < PAGES; page++) {
		for (unsigned i = 0; i < WORDS; i++)
			heap[page][i] = word_of(page, version, i);
	}
}

static bool page_right(uint32_t page, uint32_t version)
{
	for (unsigned i = 0; i < WORDS; i++) {
		const uint64_t expected = page < PAGES ? word_of(page, version, i) : 0;

		if (heap[page][i] == expected)
			continue;
		print_error("%s: page %u, word %u: expected %llx of version %u, seen %llx\n",
			    getpid() == getpgrp() ? "parent" : "process", page, i,
			    (unsigned long long)expected, version,
			    (unsigned long long)heap[page][i]);
		return false;
	}
	return true;
}

static bool all_right(uint32_t version, uint32_t from, uint32_t to)
{
	for (uint32_t page = from; page < to; page++) {
		if (!page_right(page, version))
			return false;
	}
	return true;
}

/* A page that weir does not know to be in memory stays there for ever. */
static bool within_limit(void)
{
	return few_in_memory("the heap", heap, PAGES + FRESH, (LIMIT_MIB << 20) / PAGE_SIZE);
}

/* --- a fork --- */

/* What the child does before it asks for its instance; what it must be told then. */
struct how {
	void (*before)(void);
	int expected; /* 1: any error but -ENOTSUP */
	enum send_error send;
	int send_errno;
	uint64_t patience_ns; /* 0: long */
	bool stops;
};

static void child_nothing(void)
{
}

/* What it has been told is so: all of it is there, what it writes stays, what it forgets is zero; in an instance under its limit. */
static int child_checks(int err, int expected)
{
	static const char *const said[] = {"hand-over", "no descriptors", "an error"};

	if (expected == 1 ? !err || err == -ENOTSUP : err != expected) {
		print_error("child: expected %s, seen %d\n",
			    said[expected == 1 ? 2 : expected != 0], err);
		return 2;
	}
	if (expected == 1)
		return 0;
	if (!all_right(1, 0, PAGES + FRESH))
		return 3;
	all_write(7);
	memset(heap[PAGES], 1, (size_t)FRESH * PAGE_SIZE);
	if (!err) {
		if (weir_region_discard(weir, heap[PAGES], (uint64_t)FRESH * PAGE_SIZE))
			return 4;
		if (!within_limit())
			return 5;
	} else {
		memset(heap[PAGES], 0, (size_t)FRESH * PAGE_SIZE);
	}
	return all_right(7, 0, PAGES + FRESH) ? 0 : 6;
}

/* The child has stopped, or will. */
static void stopped_goes_on(pid_t child)
{
	int status = 0;

	assert_int_equal(waitpid(child, &status, WUNTRACED), child);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(kill(child, SIGCONT), 0);
}

static void fork_so(struct how how)
{
	const uint64_t patient = 120 * 1000000000ull;
	pid_t child;

	all_write(1);
	weir->fork.patience_ns = how.patience_ns ? how.patience_ns : patient;
	store_relaxed(&send_error, how.send);
	store_relaxed(&send_errno, how.send_errno);
	assert_int_equal(weir_before_fork(weir), 0);
	child = fork();
	if (!child) {
		store_relaxed(&send_error, SEND_WORKS);
		how.before();
		_exit(child_checks(weir_after_fork_child(weir), how.expected));
	}
	weir_after_fork(weir);
	store_relaxed(&send_error, SEND_WORKS);
	assert_true(child > 0);
	/* The child has what was there at the fork. */
	all_write(2);
	memset(heap[PAGES], 5, (size_t)FRESH * PAGE_SIZE);
	if (how.stops)
		stopped_goes_on(child);
	expect_child(child);
	assert_int_equal(weir_region_discard(weir, heap[PAGES], (uint64_t)FRESH * PAGE_SIZE), 0);
	assert_true(all_right(2, 0, PAGES + FRESH));
	/* Nothing is left of it: no lease, no fork under way, and the limit holds. */
	assert_int_equal(load_relaxed(&weir->vm.forking), 0);
	assert_true(within_limit());
}

static unsigned leases(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < LEASES_MAX; i++)
		count += weir->fork.lease[i].end != 0;
	return count;
}

static void expect_no_lease(void)
{
	for (unsigned i = 0; leases() && i < 5000; i++)
		sleep_ns(1000000);
	assert_int_equal(leases(), 0);
}

/* --- cases --- */

static void touch_all(void)
{
	if (!all_right(1, 0, PAGES + FRESH))
		_exit(8);
	/* Writes, too: to pages of both kinds. */
	for (uint32_t page = 0; page < PAGES; page += 5)
		heap[page][3] = word_of(page, 1, 3);
}

static void *touch_one(void *data)
{
	*(volatile uint64_t *)data = 1;
	return NULL;
}

/*
 * A page whose handler had just begun with it when the kernel copied the tables; where the child's counts say that there is no page, and
 * where they do not. Its handler is not in the child: it is the child's first touch, and zeroes.
 */
static void test_a_page_that_a_handler_had_begun(void **state)
{
	enum { PATIENCE_S = 120 };

	(void)state;
	for (uint32_t page = PAGES; page < PAGES + FRESH; page += FRESH - 1) {
		pthread_t thread;
		pid_t child;

		all_write(1);
		/* Writing in a row brings in more. */
		assert_int_equal(
			weir_region_discard(weir, heap[PAGES], (uint64_t)FRESH * PAGE_SIZE), 0);
		assert_int_equal(weir_before_fork(weir), 0);
		assert_true(weir->fork.handed);
		store_release(&hold, HOLD_NEXT);
		assert_int_equal(pthread_create(&thread, NULL, touch_one, heap[page]), 0);
		while (load_acquire(&hold) != HOLD_HELD)
			(void)futex_wait(&hold, HOLD_NEXT, 0);
		child = fork();
		if (!child) {
			(void)alarm(PATIENCE_S);
			_exit(child_checks(weir_after_fork_child(weir), 0));
		}
		store_release(&hold, HOLD_NO);
		(void)futex_wake(&hold, 1);
		weir_after_fork(weir);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(heap[page][0], 1);
		expect_child(child);
	}
	assert_int_equal(weir_region_discard(weir, heap[PAGES], (uint64_t)FRESH * PAGE_SIZE), 0);
	expect_no_lease();
}

/* However many pages the child touches before it serves itself. */
static void test_all_is_touched_before(void **state)
{
	(void)state;
	fork_so((struct how){.before = touch_all});
	expect_no_lease();
}

static void stop(void)
{
	(void)raise(SIGSTOP);
	/* The parent serves, now and then, what it had nothing of. */
	for (uint32_t page = PAGES; page < PAGES + 3; page++) {
		if (!page_right(page, 1))
			_exit(8);
	}
	if (!all_right(1, 100, 200))
		_exit(8);
	heap[150][0] = word_of(150, 1, 0);
}

/* The parent goes on, and writes every page; the child has all as it was when it goes on itself. */
static void test_a_stopped_child(void **state)
{
	(void)state;
	fork_so((struct how){.before = stop, .patience_ns = 50000000, .stops = true});
	expect_no_lease();
}

/* Pages but one, which has no contents: a touch is SIGBUS. */
static bool all_right_but(uint32_t lost, uint32_t version)
{
	return all_right(version, 0, lost) && mem_populate(heap[lost], PAGE_SIZE, false) &&
	       all_right(version, lost + 1, PAGES + FRESH);
}

static int child_checks_but(uint32_t lost)
{
	if (!all_right_but(lost, 1))
		return 2;
	/* Under pressure: all pages leave memory, which what is not there cannot. */
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t page = lost + 1; page < PAGES; page++)
			heap[page][5] = word_of(page, 1, 5);
	}
	if (!within_limit() || !all_right_but(lost, 1))
		return 3;
	if (weir_region_discard(weir, heap[lost], PAGE_SIZE))
		return 4;
	for (unsigned i = 0; i < WORDS; i++) {
		if (heap[lost][i])
			return 5;
	}
	return 0;
}

/* A child that is late is given all; what the parent cannot read is lost there, and never taken for a page that is there. */
static void test_a_stopped_child_and_a_page_that_is_lost(void **state)
{
	enum { LOST = 100 };
	pid_t child;

	(void)state;
	all_write(1);
	weir->fork.patience_ns = 50000000;
	store_relaxed(&unreadable, LOST);
	assert_int_equal(weir_before_fork(weir), 0);
	child = fork();
	if (!child) {
		(void)raise(SIGSTOP);
		_exit(weir_after_fork_child(weir) ? 1 : child_checks_but(LOST));
	}
	weir_after_fork(weir);
	store_relaxed(&unreadable, UINT32_MAX);
	stopped_goes_on(child);
	expect_child(child);
	/* The parent has it. */
	assert_true(all_right(1, 0, PAGES + FRESH));
	expect_no_lease();
}

static void *replaces(void *data)
{
	*(int *)data = weir_store_replace(weir, NULL);
	return NULL;
}

static int child_has_no_threads_of_others(void)
{
	if (!all_right(1, 0, PAGES + FRESH))
		return 2;
	if (weir_region_discard(weir, heap[0], 100 * PAGE_SIZE))
		return 3;
	if (weir_store_replace(weir, NULL))
		return 4;
	return all_right(1, 100, PAGES + FRESH) ? 0 : 5;
}

/* What other threads of the parent have is not held in the child: pages that they have pinned, the lock of one that replaces the store. */
static void test_what_other_threads_hold(void **state)
{
	int result = -1;
	pthread_t thread;
	pid_t child;

	(void)state;
	all_write(1);
	assert_int_equal(weir_region_pin(weir, heap[5], PAGE_SIZE, 1), 0);
	assert_int_equal(weir_before_fork(weir), 0);
	assert_true(weir->fork.handed);
	assert_int_equal(pthread_create(&thread, NULL, replaces, &result), 0);
	while (!load_relaxed(&weir->reclaim.errand))
		sleep_ns(100000);
	child = fork();
	if (!child) {
		int err = weir_after_fork_child(weir);

		_exit(err ? 1 : child_has_no_threads_of_others());
	}
	weir_after_fork(weir);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(result, 0);
	expect_child(child);
	assert_int_equal(weir_region_unpin(weir, heap[5], PAGE_SIZE), 0);
	assert_true(all_right(1, 0, PAGES + FRESH));
	expect_no_lease();
}

static void test_descriptors_cannot_be_sent(void **state)
{
	static const int errors[] = {-EAGAIN, -EMFILE, -ETOOMANYREFS};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(errors); i++)
		fork_so((struct how){.before = child_nothing,
				     .expected = -ENOTSUP,
				     .send = SEND_NO_DESCRIPTORS,
				     .send_errno = errors[i]});
	expect_no_lease();
}

static void test_nothing_can_be_sent(void **state)
{
	(void)state;
	fork_so((struct how){.before = child_nothing,
			     .expected = 1,
			     .send = SEND_NOTHING,
			     .send_errno = -ENOBUFS});
	expect_no_lease();
}

static void no_descriptors(void)
{
	const struct rlimit none = {0, 0};

	if (setrlimit(RLIMIT_NOFILE, &none))
		_exit(9);
}

static void test_a_child_without_room_for_descriptors(void **state)
{
	(void)state;
	fork_so((struct how){.before = no_descriptors, .expected = -ENOTSUP});
	expect_no_lease();
}

static void no_thread(void)
{
	store_relaxed(&thread_fails, 1);
}

static void no_second_handler(void)
{
	store_relaxed(&thread_fails, 3);
}

static void test_a_child_without_threads(void **state)
{
	(void)state;
	fork_so((struct how){.before = no_thread, .expected = -ENOTSUP});
	fork_so((struct how){.before = no_second_handler, .expected = -ENOTSUP});
	expect_no_lease();
}

/* After all of that it hands over as ever. */
static void test_and_then_as_ever(void **state)
{
	(void)state;
	fork_so((struct how){.before = child_nothing});
	expect_no_lease();
}

static int start(void **state)
{
	void *base;

	(void)state;
	open_for_forks((uint64_t)LIMIT_MIB << 20);
	assert_int_equal(weir_region_create(weir, (uint64_t)(PAGES + FRESH) * PAGE_SIZE, &base), 0);
	heap = base;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_page_that_a_handler_had_begun),
		cmocka_unit_test(test_all_is_touched_before),
		cmocka_unit_test(test_a_stopped_child),
		cmocka_unit_test(test_a_stopped_child_and_a_page_that_is_lost),
		cmocka_unit_test(test_what_other_threads_hold),
		cmocka_unit_test(test_descriptors_cannot_be_sent),
		cmocka_unit_test(test_nothing_can_be_sent),
		cmocka_unit_test(test_a_child_without_room_for_descriptors),
		cmocka_unit_test(test_a_child_without_threads),
		cmocka_unit_test(test_and_then_as_ever),
	};

	return cmocka_run_group_tests(tests, start, end);
}
