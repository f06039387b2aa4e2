/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signal mode among the signals of a program: handlers that fault, threads that block SIGBUS, and SIGBUS that is not weir's.
 */
#include "signal_mode.h"

#include <pthread.h>
#include <sys/time.h>

/* --- handlers that fault --- */

static struct {
	struct weir *weir;
	uint64_t *base;
	_Atomic unsigned alarms, faulting;
	uint64_t random;
} nested;

/* A handler of the program that uses the region, whatever its thread is doing. */
static void on_alarm(int sig)
{
	int saved = errno;

	(void)sig;
	for (unsigned i = 0; i < 8; i++) {
		uint32_t page = PAGES / 2 + random_below(&nested.random, PAGES / 2);

		add_relaxed(&nested.faulting, !resident(at(nested.base, page)));
		child_check(*at(nested.base, page) == word_of(page, 0));
	}
	add_relaxed(&nested.alarms, 1);
	errno = saved;
}

static void nested_storm(void *arg)
{
	const enum weir_mode mode = *(enum weir_mode *)arg;
	const struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
	const struct itimerspec as_often = {{0, 700000}, {0, 700000}};
	struct sigevent abort_event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGABRT};
	struct sigaction act = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	timer_t aborts;
	const uint64_t until = now_ns() + 3000000000u;
	uint64_t random = 1;

	nested.weir = open_as(mode);
	nested.base = region_filled_as(nested.weir, mode);
	sigaddset(&act.sa_mask, SIGALRM);
	sigaddset(&act.sa_mask, SIGABRT);
	child_check(!sigaction(SIGALRM, &act, NULL));
	child_check(!sigaction(SIGABRT, &act, NULL));
	child_check(!setitimer(ITIMER_REAL, &often, NULL));
	/* A watchdog sends this one. */
	child_check(!timer_create(CLOCK_MONOTONIC, &abort_event, &aborts));
	child_check(!timer_settime(aborts, 0, &as_often, NULL));
	while (now_ns() < until || load_relaxed(&nested.alarms) < 50) {
		uint32_t page = random_below(&random, PAGES / 2);
		void *other;

		page_check(at(nested.base, page), page);
		child_check(!weir_region_pin(nested.weir, at(nested.base, page), 1, 1));
		child_check(!weir_region_unpin(nested.weir, at(nested.base, page), 1));
		child_check(!weir_region_discard(nested.weir, at(nested.base, page), PAGE_SIZE));
		page_write(at(nested.base, page), page);
		child_check(!weir_set_limit(nested.weir, LIMIT));
		weir_thread_attach(nested.weir);
		weir_thread_detach(nested.weir);
		if (page % 64 == 0) {
			child_check(!weir_region_create(nested.weir, MIB(1), &other));
			*(volatile char *)other = 1;
			child_check(!weir_region_destroy(nested.weir, other));
		}
	}
	child_check(!setitimer(ITIMER_REAL, &never, NULL));
	child_check(!timer_delete(aborts));
	child_check(load_relaxed(&nested.faulting));
	region_check(nested.base, PAGES);
	weir_close(nested.weir);
}

/* A signal handler that faults while its thread is inside weir, in every public function: it gets its pages, and nothing
 * hangs. So also in thread mode, where the thread holds what its own fault would wait for. */
static void test_a_signal_handler_may_fault_inside_weir(void **state)
{
	(void)state;
#ifdef WEIR_TSAN
	skip_because("ThreadSanitizer runs signal handlers when it likes, blocked or not");
#endif
	for (enum weir_mode mode = WEIR_MODE_THREAD; mode <= WEIR_MODE_SIGNAL; mode++)
		child_passes(nested_storm, &mode);
}

static void block_bus(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGBUS);
	child_check(!pthread_sigmask(SIG_BLOCK, &set, NULL));
}

static void fault_blocked(void *arg)
{
	struct weir *weir = open_signal();
	uint64_t *base = region_filled(weir);
	uint32_t page = absent_page(base, PAGES);

	block_bus();
	if (*(bool *)arg)
		weir_thread_attach(weir);
	page_check(at(base, page), page);
	region_check(base, PAGES);
	weir_close(weir);
}

/* A thread that blocks SIGBUS ends the process at its first fault, and reads nothing wrong; attached, it works. */
static void test_a_thread_that_blocks_sigbus(void **state)
{
	bool attached = true;

	(void)state;
	child_passes(fault_blocked, &attached);
	attached = false;
	child_dies_of_sigbus(fault_blocked, &attached);
}

/* --- SIGBUS that is not weir's --- */

static sigjmp_buf back;
static volatile unsigned foreign;

static void on_foreign_bus(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	foreign++;
	siglongjmp(back, 1);
}

/* The end of a mapping that its file does not have: SIGBUS by the kernel. */
static char *beyond_the_file(void)
{
	int fd = memfd_create("short", MFD_CLOEXEC);
	char *map = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);

	child_check(map != MAP_FAILED);
	close(fd);
	return map;
}

static void chained(void *arg)
{
	struct sigaction act = {.sa_sigaction = on_foreign_bus, .sa_flags = SA_SIGINFO}, now;
	char *short_map = beyond_the_file();
	struct weir *weir;
	uint64_t *base;

	(void)arg;
	child_check(!sigaction(SIGBUS, &act, NULL));
	weir = open_signal();
	base = region_filled(weir);
	for (unsigned i = 1; i <= 3; i++) {
		if (!sigsetjmp(back, 1)) {
			(void)*(volatile char *)short_map;
			child_check(!"no SIGBUS");
		}
		child_check(foreign == i);
		region_check(base, PAGES / 4);
	}
	/* One that was sent, too. */
	if (!sigsetjmp(back, 1))
		raise(SIGBUS);
	child_check(foreign == 4);
	weir_close(weir);
	child_check(!sigaction(SIGBUS, NULL, &now) && now.sa_sigaction == on_foreign_bus);
}

static void unchained(void *arg)
{
	char *short_map = beyond_the_file();
	struct weir *weir;

	(void)arg;
	signal(SIGBUS, SIG_DFL);
	weir = open_signal();
	(void)region_filled(weir);
	(void)*(volatile char *)short_map;
}

/* It goes to the handler that was there before, as if weir's were not; the default is the end of the process. */
static void test_other_sigbus_goes_on(void **state)
{
	(void)state;
	child_passes(chained, NULL);
	child_dies_of_sigbus(unchained, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_signal_handler_may_fault_inside_weir),
		cmocka_unit_test(test_a_thread_that_blocks_sigbus),
		cmocka_unit_test(test_other_sigbus_goes_on),
	};

	descriptors_fill();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
