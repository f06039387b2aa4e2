/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of signal mode share. Each of them runs in a child, since SIGBUS is its subject. */
#ifndef WEIR_TESTS_SIGNAL_H
#define WEIR_TESTS_SIGNAL_H

#include "../regions.h"
#include "../unit.h"

#include "base/atomic.h"
#include "weir/weir.h"

enum { PAGES = 2048, LIMIT = 2 << 20 };

static inline struct weir *open_as(enum weir_mode mode)
{
	struct weir_options options = {.size = sizeof(options), .limit = LIMIT, .mode = mode};
	struct weir *weir;
	int err = weir_open(&options, &weir);

	if (err) {
		dprintf(STDERR_FILENO, "weir_open: %s", weir_advice(err));
		_exit(err == -ENOSYS || err == -EPERM ? EXIT_SKIP : 1);
	}
	return weir;
}

static inline struct weir *open_signal(void)
{
	return open_as(WEIR_MODE_SIGNAL);
}

/* What touches pages is NO_TSAN: weir reads them in threads of its own, ordered by the kernel only. */

/* Half of the words can be packed, so that some pages go to memory and some to the file. */
static inline uint64_t word_of(uint32_t page, unsigned i)
{
	uint64_t seed = (uint64_t)page << 32 | i;

	return i % 2 ? page : random_next(&seed);
}

NO_TSAN static inline void page_write(uint64_t *at, uint32_t page)
{
	for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
		at[i] = word_of(page, i);
}

NO_TSAN static inline void page_check(const uint64_t *at, uint32_t page)
{
	for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
		child_check(at[i] == word_of(page, i));
}

static inline uint64_t *region_filled_as(struct weir *weir, enum weir_mode mode)
{
	void *base;

	child_check(!region_as(weir, (uint64_t)PAGES << PAGE_SHIFT, mode, &base));
	for (uint32_t i = 0; i < PAGES; i++)
		page_write((uint64_t *)base + i * (PAGE_SIZE / 8), i);
	return base;
}

static inline uint64_t *region_filled(struct weir *weir)
{
	return region_filled_as(weir, WEIR_MODE_SIGNAL);
}

static inline uint64_t *at(uint64_t *base, uint32_t page)
{
	return base + page * (PAGE_SIZE / 8);
}

static inline void region_check(uint64_t *base, uint32_t pages)
{
	for (uint32_t i = 0; i < pages; i++)
		page_check(at(base, i), i);
}

static inline struct weir_stats stats_of(struct weir *weir)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	child_check(!weir_stats_read(weir, &stats));
	return stats;
}

static inline bool resident(const void *page)
{
	unsigned char bit = 0;

	child_check(!mincore((void *)(uintptr_t)page, PAGE_SIZE, &bit));
	return bit & 1;
}

/* An absent page of the region, pushed out by touching others. */
static inline uint32_t absent_page(uint64_t *base, uint32_t pages)
{
	for (uint32_t page = 0; page < pages; page++) {
		if (!resident(at(base, page)))
			return page;
	}
	child_check(!"every page is in memory");
	return 0;
}

/* The child ends by SIGBUS: nobody takes it. */
static inline void child_dies_of_sigbus(void (*body)(void *arg), void *arg)
{
	struct child child;

	run_child(&child, body, arg);
	if (WIFEXITED(child.status) && WEXITSTATUS(child.status) == EXIT_SKIP)
		skip_because("%s", child.stderr_);
	if (!WIFSIGNALED(child.status) || WTERMSIG(child.status) != SIGBUS)
		fail_msg("status %#x, \"%s\"", (unsigned)child.status, child.stderr_);
}

/* ThreadSanitizer knows one descriptor table only, and would take weir's 3 and the program's for the same. */
static inline void descriptors_fill(void)
{
	for (int fd = 0; fd >= 0 && fd < 63;)
		fd = (int)syscall(SYS_dup, STDOUT_FILENO);
}

#endif
