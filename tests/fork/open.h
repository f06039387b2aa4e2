/* SPDX-License-Identifier: BSD-2-Clause */
/* What tests of the hand-over share: an instance that can hand over, or the test is skipped; what is seen of a child, and of memory. */
#ifndef WEIR_TESTS_FORK_OPEN_H
#define WEIR_TESTS_FORK_OPEN_H

#include "../unit.h"

#include "instance.h"
#include "os/thread.h"
#include "weir/weir.h"

enum { PATIENCE_MS = 10000 };

static struct weir *weir;

static inline void open_for_forks(uint64_t limit)
{
	const struct weir_options options = {
		.size = sizeof(options), .limit = limit, .handlers = 2, .hand_over = 1};
	int err = weir_open(&options, &weir);

	if (err) {
		print_message("skipped: userfaultfd: %s\n", weir_advice(err));
		exit(err == -EPERM || err == -ENOSYS ? EXIT_SKIP : 1);
	}
	if (!weir->fork.can) {
		print_message("skipped: no CAP_SYS_PTRACE here: forks bring all pages in\n");
		exit(EXIT_SKIP);
	}
}

/*
 * Until all handlers look for faults. A thread that begins has locks of AddressSanitizer's, which come to the child of a fork as they are
 * (gcc 12), or keep a handler from being told of it (clang 19). So who forks waits for threads that it has just started.
 */
static inline void handlers_begun(void)
{
	const struct readers *r = &weir->service.readers;

	while (load_relaxed(&r->reading) + load_relaxed(&r->followers.queued) <
	       weir->service.handlers)
		sleep_ns(100000);
}

/* The child ends with 0. */
static inline void expect_child(pid_t child)
{
	int status = 0;

	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* As the kernel has it, at most so many of the pages are in memory, or soon; it tells nobody of those that leave, so it is asked again. */
static inline bool few_in_memory(const char *whose, void *memory, uint32_t pages, uint64_t most)
{
	static unsigned char there[1 << 14];
	uint64_t count = 0;

	assert_always(pages <= sizeof(there));
	for (unsigned i = 0; i < PATIENCE_MS; i++) {
		if (mincore(memory, pages * PAGE_SIZE, there))
			return false;
		count = 0;
		for (uint32_t page = 0; page < pages; page++)
			count += there[page] & 1;
		if (count <= most)
			return true;
		sleep_ns(1000000);
	}
	print_error("%s: expected at most %llu pages in memory, seen %llu\n", whose,
		    (unsigned long long)most, (unsigned long long)count);
	return false;
}

/* Teardown of a group. */
static inline int end(void **state)
{
	(void)state;
	weir_close(weir);
	return 0;
}

#endif
