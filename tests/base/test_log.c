/* SPDX-License-Identifier: BSD-2-Clause */
/* Log lines: their form, where they go, and what logging must not do: touch errno, call malloc. */
#include "help.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <sched.h>

#include "base/atomic.h"
#include "base/base.h"
#include "base/log.h"

/*
 * Every allocation of this program is counted: by the sanitizer's hook where there is one, else by standing in
 * front of glibc's own functions.
 */
static _Atomic unsigned long allocations;

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZER_ALLOCATES
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZER_ALLOCATES
#endif
#endif
#ifdef WEIR_TSAN
#define SANITIZER_ALLOCATES
#endif

#ifdef SANITIZER_ALLOCATES
int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void *, size_t),
					      void (*free_hook)(const volatile void *));

static void on_malloc(const volatile void *p, size_t size)
{
	(void)p;
	(void)size;
	add_relaxed(&allocations, 1);
}

static void on_free(const volatile void *p)
{
	(void)p;
}

static void count_allocations(void)
{
	__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
}
#else
/* NOLINTBEGIN(bugprone-reserved-identifier): glibc's own names for what is stood in front of */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
/* NOLINTEND(bugprone-reserved-identifier) */

/* Seen by libc, even if the program is built with hidden visibility. */
#define IN_FRONT __attribute__((visibility("default")))

IN_FRONT void *malloc(size_t size)
{
	add_relaxed(&allocations, 1);
	return __libc_malloc(size);
}

IN_FRONT void *calloc(size_t count, size_t size)
{
	add_relaxed(&allocations, 1);
	return __libc_calloc(count, size);
}

IN_FRONT void *realloc(void *p, size_t size)
{
	add_relaxed(&allocations, 1);
	return __libc_realloc(p, size);
}

IN_FRONT void *memalign(size_t align, size_t size)
{
	add_relaxed(&allocations, 1);
	return __libc_memalign(align, size);
}

static void count_allocations(void)
{
}
#endif

/* What the sink was given. Written by the main thread, except for the count. */
static struct {
	char line[1024];
	size_t len;
	_Atomic unsigned lines;
} sunk;

static void sink(const char *line, size_t len)
{
	sunk.len = len;
	memcpy(sunk.line, line, MIN(len, sizeof(sunk.line) - 1));
	sunk.line[MIN(len, sizeof(sunk.line) - 1)] = 0;
	add_relaxed(&sunk.lines, 1);
}

static void counting_sink(const char *line, size_t len)
{
	(void)line;
	(void)len;
	add_relaxed(&sunk.lines, 1);
}

static int use_sink(void **state)
{
	(void)state;
	memset(&sunk, 0, sizeof(sunk));
	log_set_sink(sink);
	return 0;
}

static int drop_sink(void **state)
{
	(void)state;
	log_set_sink(NULL);
	return 0;
}

static void test_a_line_is_prefix_text_newline(void **state)
{
	(void)state;
	log_line("store %s: %d of %llu", "a.store", -3, 18446744073709551615ull);
	assert_string_equal(sunk.line, "weir: store a.store: -3 of 18446744073709551615\n");
	assert_int_equal(sunk.len, strlen(sunk.line));
	log_line("%s", "");
	assert_string_equal(sunk.line, "weir: \n");
	assert_int_equal(sunk.lines, 2);
}

/* Up to 512 bytes a line is whole; a longer one is cut there, and still ends with its newline. */
static void test_lines_are_cut_at_512_bytes(void **state)
{
	static char text[5001];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	for (int n = 400; n <= 5000; n += n < 600 ? 1 : 1100) {
		size_t whole = 6 + (size_t)n + 1;

		log_line("%.*s", n, text);
		assert_int_equal(sunk.len, MIN(whole, 512));
		assert_memory_equal(sunk.line, "weir: xxx", 9);
		assert_memory_equal(sunk.line + 6, text, sunk.len - 7);
		assert_int_equal(sunk.line[sunk.len - 1], '\n');
	}
}

static int keep_stderr(void)
{
	int kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);

	assert_true(kept >= 0);
	return kept;
}

static void restore_stderr(int kept)
{
	if (kept < 0)
		return;
	dup2(kept, STDERR_FILENO);
	close(kept);
}

/* Makes descriptor 2 a pipe that keeps writes apart; returns the end to read from. */
static int catch_stderr(int *kept)
{
	int ends[2];

	*kept = keep_stderr();
	assert_int_equal(pipe2(ends, O_DIRECT | O_CLOEXEC), 0);
	assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
	close(ends[1]);
	return ends[0];
}

static void failing_sink(const char *line, size_t len)
{
	sink(line, len);
	errno = EIO;
}

static void test_errno_stays(void **state)
{
	int kept;

	(void)state;
	log_set_sink(failing_sink);
	errno = ENOSPC;
	log_line("full");
	assert_int_equal(errno, ENOSPC);
	assert_string_equal(sunk.line, "weir: full\n");

	/* Nowhere to write: lost, quietly. */
	log_set_sink(NULL);
	kept = keep_stderr();
	close(STDERR_FILENO);
	errno = ENOENT;
	log_line("into nothing");
	assert_int_equal(errno, ENOENT);
	restore_stderr(kept);
}

/* Without a sink a line goes to descriptor 2, by one write; with one, not. */
static void test_a_line_is_one_write_to_stderr(void **state)
{
	char line[600];
	int kept, end = catch_stderr(&kept);
	ssize_t first, second, last;

	(void)state;
	log_set_sink(NULL);
	log_line("number %d", 1);
	log_line("%0600d", 2);
	log_set_sink(sink);
	log_line("elsewhere");
	log_set_sink(NULL);
	restore_stderr(kept);

	first = read(end, line, sizeof(line));
	assert_int_equal(first, strlen("weir: number 1\n"));
	assert_memory_equal(line, "weir: number 1\n", (size_t)first);
	second = read(end, line, sizeof(line));
	assert_int_equal(second, 512);
	last = read(end, line, sizeof(line));
	assert_int_equal(last, 0);
	close(end);
	assert_string_equal(sunk.line, "weir: elsewhere\n");
}

enum { WRITERS = 4, LINES = 200 };
struct mixed {
	int end; /* to read from */
	unsigned got[WRITERS], broken;
};

static void write_or_read_lines(unsigned index, void *arg)
{
	struct mixed *m = arg;

	if (index < WRITERS) {
		for (unsigned i = 0; i < LINES; i++)
			log_line("thread %u line %u of %s", index, i, "many");
		return;
	}
	for (unsigned i = 0; i < WRITERS * LINES; i++) {
		char line[600], expected[64];
		ssize_t n = read(m->end, line, sizeof(line) - 1);
		unsigned thread;

		if (n <= 0)
			break;
		line[n] = 0;
		if (sscanf(line, "weir: thread %u", &thread) != 1 || thread >= WRITERS) {
			m->broken++;
			continue;
		}
		snprintf(expected, sizeof(expected), "weir: thread %u line %u of many\n", thread,
			 m->got[thread]);
		if (strcmp(line, expected) != 0)
			m->broken++;
		m->got[thread]++;
	}
}

/* Lines of several threads come whole, and those of one thread in their order. */
static void test_lines_of_threads_do_not_mix(void **state)
{
	struct mixed m = {0};
	int kept;

	(void)state;
	m.end = catch_stderr(&kept);
	log_set_sink(NULL);
	run_threads(WRITERS + 1, write_or_read_lines, &m);
	restore_stderr(kept);
	close(m.end);
	assert_int_equal(m.broken, 0);
	for (unsigned i = 0; i < WRITERS; i++)
		assert_int_equal(m.got[i], LINES);
}

enum { SPEAKERS = 2, PLACES = 64 };

/* All speakers go on together, as near to one instant as the CPUs allow. */
static void meet(_Atomic unsigned *arrived)
{
	unsigned goal = (add_relaxed(arrived, 1) / SPEAKERS + 1) * SPEAKERS;

	for (unsigned spin = 0; load_relaxed(arrived) < goal; spin++) {
		if (spin % 1024 == 1023)
			sched_yield();
	}
}

#define ONCE                                                                                       \
	do {                                                                                       \
		meet(arg);                                                                         \
		log_once("first was %u", index);                                                   \
	} while (0)
#define ONCE_IN_FOUR_PLACES                                                                        \
	do {                                                                                       \
		ONCE;                                                                              \
		ONCE;                                                                              \
		ONCE;                                                                              \
		ONCE;                                                                              \
	} while (0)
#define ONCE_IN_16_PLACES                                                                          \
	do {                                                                                       \
		ONCE_IN_FOUR_PLACES;                                                               \
		ONCE_IN_FOUR_PLACES;                                                               \
		ONCE_IN_FOUR_PLACES;                                                               \
		ONCE_IN_FOUR_PLACES;                                                               \
	} while (0)

static void say_once(unsigned index, void *arg)
{
	ONCE_IN_16_PLACES;
	ONCE_IN_16_PLACES;
	ONCE_IN_16_PLACES;
	ONCE_IN_16_PLACES;
}

/* Of the threads that reach a place at once, one logs; later, nobody. */
static void test_log_once_is_once_for_all_threads(void **state)
{
	_Atomic unsigned arrived = 0;

	(void)state;
	log_set_sink(counting_sink);
	run_threads(SPEAKERS, say_once, &arrived);
	assert_int_equal(sunk.lines, PLACES);
	run_threads(SPEAKERS, say_once, &arrived);
	assert_int_equal(sunk.lines, PLACES);
}

/* Once for each place in the source, not once for the program. */
static void test_log_once_is_by_place(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		log_once("here %u", i);
		assert_string_equal(sunk.line, i ? "weir: there 0\n" : "weir: here 0\n");
		log_once("there %u", i);
	}
	assert_int_equal(sunk.lines, 2);
}

static void log_much(void)
{
	static char text[2000];

	memset(text, 'y', sizeof(text) - 1);
	log_line("%s %d %llx %p %zu %c %%", "a word", INT_MIN, ~0ull, (void *)text, sizeof(text),
		 'c');
	log_line("%*d|%-*d|%.*s|%08x", 40, 1, 300, 2, 10, text, 0xabcu);
	log_line("%s", text);
	log_line("%1500d", 5);
	errno = ENOMEM;
	log_line("%m, %s, %s", errno_name(-ENOSPC), errno_name(123456));
	log_once("once");
}

/* No malloc, through a sink or not: any thread may log, also one that malloc itself waits for. */
static void test_logging_calls_no_malloc(void **state)
{
	unsigned long before;
	int kept, end;

	(void)state;
	count_allocations();
	before = load_relaxed(&allocations);
	free(strdup(sunk.line));
	assert_true(load_relaxed(&allocations) > before); /* what libc allocates is counted */

	before = load_relaxed(&allocations);
	log_much();
	assert_int_equal(load_relaxed(&allocations) - before, 0);
	assert_int_equal(sunk.lines, 6);

	end = catch_stderr(&kept);
	log_set_sink(NULL);
	before = load_relaxed(&allocations);
	log_much();
	before = load_relaxed(&allocations) - before;
	restore_stderr(kept);
	close(end);
	assert_int_equal(before, 0);
}

static void test_errno_names(void **state)
{
	(void)state;
	assert_string_equal(errno_name(ENOSPC), "ENOSPC");
	assert_string_equal(errno_name(-ENOSPC), "ENOSPC");
	assert_string_equal(errno_name(-EAGAIN), "EAGAIN");
	assert_string_equal(errno_name(123456), "unknown error");
	assert_string_equal(errno_name(-123456), "unknown error");
}

static void do_panic(void *arg)
{
	panic("page %d has no %s", 7, (const char *)arg);
}

static void fail_assertion(void *arg)
{
	assert_always(arg == NULL);
}

/* A panic says what and where, and aborts. */
static void test_panic_says_what_and_where(void **state)
{
	struct child child;

	(void)state;
	run_child(&child, do_panic, "owner");
	assert_panicked(&child);
	assert_says(&child, "weir: page 7 has no owner\n");
	assert_says(&child, "test_log.c:");
	run_child(&child, fail_assertion, "not null");
	assert_panicked(&child);
	assert_says(&child, "assertion failed: arg == NULL");
	run_child(&child, fail_assertion, NULL);
	assert_int_equal(child.status, 0);
}

/* The clock does not go back. */
static void test_clock_does_not_go_back(void **state)
{
	uint64_t last = now_ns();

	(void)state;
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t now = now_ns();

		assert_true(now >= last);
		last = now;
	}
}

#define TEST_WITH_SINK(test) cmocka_unit_test_setup_teardown(test, use_sink, drop_sink)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_WITH_SINK(test_a_line_is_prefix_text_newline),
		TEST_WITH_SINK(test_lines_are_cut_at_512_bytes),
		TEST_WITH_SINK(test_errno_stays),
		TEST_WITH_SINK(test_a_line_is_one_write_to_stderr),
		TEST_WITH_SINK(test_lines_of_threads_do_not_mix),
		TEST_WITH_SINK(test_log_once_is_once_for_all_threads),
		TEST_WITH_SINK(test_log_once_is_by_place),
		TEST_WITH_SINK(test_logging_calls_no_malloc),
		cmocka_unit_test(test_errno_names),
		cmocka_unit_test(test_panic_says_what_and_where),
		cmocka_unit_test(test_clock_does_not_go_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
