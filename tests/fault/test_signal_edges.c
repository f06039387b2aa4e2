/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signal mode where it meets what else a program does: cancelled threads, forks, containers that go, handlers that come,
 * memory that is lost. Each test runs in a child, which would hang or end where weir is wrong.
 */
#include "../unit.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>

#include "base/atomic.h"
#include "os/thread.h"
#include "weir/weir.h"

enum { PAGES = 2048, LIMIT = 2 << 20 };

static struct weir *open_signal(void)
{
	struct weir_options options = {
		.size = sizeof(options), .limit = LIMIT, .mode = WEIR_MODE_SIGNAL};
	struct weir *weir;
	int err = weir_open(&options, &weir);

	if (err) {
		dprintf(STDERR_FILENO, "weir_open: %s", weir_advice(err));
		_exit(err == -ENOSYS || err == -EPERM ? EXIT_SKIP : 1);
	}
	return weir;
}

static char *page_of(char *base, uint32_t page)
{
	return base + ((size_t)page << PAGE_SHIFT);
}

/* Pages that cannot be packed, so that most go to the file. */
NO_TSAN static char *region_filled(struct weir *weir)
{
	uint64_t seed = 1;
	void *base;

	child_check(!weir_region_create(weir, (uint64_t)PAGES << PAGE_SHIFT, &base));
	for (uint32_t i = 0; i < PAGES; i++) {
		uint64_t *page = (uint64_t *)page_of(base, i);

		for (unsigned k = 0; k < PAGE_SIZE / 8; k++)
			page[k] = random_next(&seed);
	}
	return base;
}

static bool resident(const void *page)
{
	unsigned char bit = 0;

	child_check(!mincore((void *)(uintptr_t)page, PAGE_SIZE, &bit));
	return bit & 1;
}

/* Touches other pages until this one is gone. */
static char *pushed_out(char *base, char *page)
{
	for (unsigned round = 0; round < 50 && resident(page); round++) {
		for (uint32_t i = 0; i < PAGES; i++) {
			if (page_of(base, i) != page)
				(void)*(volatile char *)page_of(base, i);
		}
	}
	child_check(!resident(page));
	return page;
}

/* --- cancellation --- */

NO_TSAN static void read_all(char *base)
{
	for (uint32_t i = 0; i < PAGES; i++)
		(void)*(volatile char *)page_of(base, i);
}

static void *cancelled_main(void *base)
{
	pthread_cancel(pthread_self());
	read_all(base);
	pthread_testcancel();
	return NULL;
}

static void cancelled(void *arg)
{
	struct weir *weir = open_signal();
	char *base = region_filled(weir);
	pthread_t thread;
	void *result;

	(void)arg;
	child_check(!pthread_create(&thread, NULL, cancelled_main, base));
	child_check(!pthread_join(thread, &result) && result == PTHREAD_CANCELED);
	/* It has left no page busy. */
	read_all(base);
	weir_close(weir);
}

/* To read a page from the file is a cancellation point of libc; a touch of memory is none. */
static void test_a_cancelled_thread_ends_after_its_fault(void **state)
{
	(void)state;
	child_passes(cancelled, NULL);
}

/* --- arguments in a region --- */

NO_TSAN static void container_arguments(void *arg)
{
	struct weir *weir = open_signal();
	struct weir_container *root = weir_container_root(weir), *child;
	char *base = region_filled(weir), *p = base;
	struct weir_container_stat *stat = (struct weir_container_stat *)p;
	struct weir_pressure pressure = {.some_us = 5};

	(void)arg;
	memcpy(p, "tenant", sizeof("tenant"));
	child_check(!weir_container_create(root, pushed_out(base, p), &child));
	child_check(weir_container_find(root, pushed_out(base, p)) == child);
	memcpy(p, "max", sizeof("max"));
	memcpy(p + 16, "1G", sizeof("1G"));
	child_check(!weir_container_set_text(child, pushed_out(base, p), p + 16));
	child_check(weir_container_get(child, WEIR_MAX) == GIB(1));
	stat->size = sizeof(*stat);
	child_check(!weir_container_stat(root, (struct weir_container_stat *)pushed_out(base, p)));
	child_check(stat->anon);
	weir_container_events(root, 0, (struct weir_events *)pushed_out(base, p));
	weir_container_pressure(root, (struct weir_pressure *)pushed_out(base, p));
	child_check(weir_pressure_print(&pressure, pushed_out(base, p), 100) > 0);
	child_check(!weir_container_create(root, "other",
					   (struct weir_container **)(void *)pushed_out(base, p)));
	child_check(weir_container_find(root, "other") == *(struct weir_container **)(void *)p);
	weir_close(weir);
}

static void test_arguments_of_containers_may_lie_in_a_region(void **state)
{
	(void)state;
	child_passes(container_arguments, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_cancelled_thread_ends_after_its_fault),
		cmocka_unit_test(test_arguments_of_containers_may_lie_in_a_region),
	};

	/* ThreadSanitizer knows one descriptor table only, and would take weir's 3 and the program's for the same. */
	for (int fd = 0; fd >= 0 && fd < 63;)
		fd = (int)syscall(SYS_dup, STDOUT_FILENO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
