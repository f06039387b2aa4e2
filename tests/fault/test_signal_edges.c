/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signal mode where it meets what else a program does: cancelled threads, forks, containers that go, handlers that come,
 * memory that is lost. Each test runs in a child, which would hang or end where weir is wrong.
 */
#include "signal_mode.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>

#include "os/thread.h"

static char *page_of(char *base, uint32_t page)
{
	return base + ((size_t)page << PAGE_SHIFT);
}

/* Pages that cannot be packed, so that most go to the file. */
NO_TSAN static char *region_noise_as(struct weir *weir, enum weir_mode mode)
{
	uint64_t seed = 1;
	void *base;

	child_check(!region_as(weir, (uint64_t)PAGES << PAGE_SHIFT, mode, &base));
	for (uint32_t i = 0; i < PAGES; i++) {
		uint64_t *page = (uint64_t *)page_of(base, i);

		for (unsigned k = 0; k < PAGE_SIZE / 8; k++)
			page[k] = random_next(&seed);
	}
	return base;
}

static char *region_noise(struct weir *weir)
{
	return region_noise_as(weir, WEIR_MODE_SIGNAL);
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
	char *base = region_noise(weir);
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

/* --- a page that vanished --- */

NO_TSAN static void dropped(void *arg)
{
	struct weir *weir = open_signal();
	void *base;
	char *page;

	(void)arg;
	child_check(!weir_region_create(weir, PAGE_SIZE, &base));
	page = base;
	*page = 1;
	child_check(!madvise(page, PAGE_SIZE, MADV_DONTNEED));
	page[1] = 2;
	child_check(page[0] == 0 && page[1] == 2);
	weir_close(weir);
}

/* Dropped behind weir's back it reads as zeroes, and a write to it is no write to a protected page. */
static void test_a_write_to_a_dropped_page(void **state)
{
	(void)state;
	child_passes(dropped, NULL);
}

/* --- handlers of the program --- */

static struct sigaction below;

static void on_bus_above(int sig, siginfo_t *info, void *context)
{
	below.sa_sigaction(sig, info, context);
}

static void opened_again(void *arg)
{
	struct sigaction act = {.sa_sigaction = on_bus_above, .sa_flags = SA_SIGINFO};
	struct weir *weir;
	char *map;
	int fd;

	(void)arg;
	signal(SIGBUS, SIG_DFL);
	weir = open_signal();
	child_check(!sigaction(SIGBUS, &act, &below));
	weir_close(weir);
	weir = open_signal();
	read_all(region_noise(weir));
	fd = memfd_create("short", MFD_CLOEXEC);
	map = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	child_check(map != MAP_FAILED);
	(void)*(volatile char *)map;
}

/* A handler that calls the one below it, as it should: opened again, weir is not above and below it at once, where what is
 * nobody's would go round for ever. */
static void test_open_again_below_a_handler(void **state)
{
	(void)state;
	child_dies_of_sigbus(opened_again, NULL);
}

/* --- memory that is lost --- */

static volatile int told;

static void on_lost(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	told = info->si_code;
}

static void lost(void *arg)
{
	static const int codes[] = {BUS_MCEERR_AR, BUS_MCEERR_AO};
	struct sigaction act = {.sa_sigaction = on_lost, .sa_flags = SA_SIGINFO};
	struct weir *weir;
	char *base;

	(void)arg;
	child_check(!sigaction(SIGBUS, &act, NULL));
	weir = open_signal();
	base = region_noise(weir);
	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
		siginfo_t info = {.si_signo = SIGBUS, .si_code = codes[i]};

		*base = 1;
		info.si_addr = base;
		child_check(!syscall(SYS_rt_tgsigqueueinfo, getpid(), thread_id(), SIGBUS, &info));
		child_check(told == codes[i]);
	}
	weir_close(weir);
}

/* Memory that the machine has lost is no fault of weir's, though it lies in a region: served, it would come again for ever. */
static void test_lost_memory_is_told(void **state)
{
	(void)state;
#ifdef WEIR_TSAN
	skip_because("ThreadSanitizer runs signal handlers when it likes");
#endif
	child_passes(lost, NULL);
}

/* --- a fault that takes its time --- */

/* A container without room, whose oom handler holds up the thread that faults, in its SIGBUS handler. */
static struct {
	struct weir *weir;
	struct weir_container *container;
	char *base;
	_Atomic bool inside, over;
	_Atomic int
		waits; /* tid of a thread that must wait for the fault: the handler goes on when it sleeps; 0: none */
} held;

/* Does the thread sleep? */
static bool sleeps(int tid)
{
	char path[64], text[512] = "";
	const char *state;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	child_check(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	state = strrchr(text, ')');
	return state && state[2] == 'S';
}

static enum weir_oom on_oom(void *data, struct weir_container *container, uint64_t bytes)
{
	(void)data;
	(void)bytes;
	store_release(&held.inside, true);
	for (unsigned asleep = 0; asleep < 200 && !load_acquire(&held.over); sched_yield()) {
		int tid = load_relaxed(&held.waits);

		asleep = tid && sleeps(tid) ? asleep + 1 : 0;
	}
	/* Its memory is still there. */
	child_check(!strcmp(weir_container_name(container), "tenant"));
	child_check(!load_relaxed(&held.waits) || !load_acquire(&held.over));
	return WEIR_OOM_OVER;
}

static void *held_main(void *arg)
{
	(void)arg;
	*held.base = 1;
	return NULL;
}

static pthread_t held_start(void)
{
	pthread_t thread;
	void *base;

	held.weir = open_signal();
	child_check(
		!weir_container_create(weir_container_root(held.weir), "tenant", &held.container));
	child_check(!weir_container_set(held.container, WEIR_MAX, 0));
	weir_container_on_oom(held.container, on_oom, NULL);
	child_check(!region_in(held.weir, held.container, PAGE_SIZE, &base));
	held.base = base;
	child_check(!pthread_create(&thread, NULL, held_main, NULL));
	while (!load_acquire(&held.inside))
		sched_yield();
	return thread;
}

static void container_goes(void *arg)
{
	struct weir_stats stats = {.size = sizeof(stats)};
	pthread_t thread = held_start();

	store_relaxed(&held.waits, thread_id());
	if (*(bool *)arg)
		child_check(!weir_container_delete(held.container));
	else
		child_check(!weir_region_move(held.weir, held.base, weir_container_root(held.weir),
					      WEIR_MOVE_LATER));
	store_release(&held.over, true);
	child_check(!pthread_join(thread, NULL));
	child_check(*(volatile char *)held.base == 1);
	child_check(!weir_region_destroy(held.weir, held.base));
	child_check(!weir_stats_read(held.weir, &stats) && stats.resident == 0);
	weir_close(held.weir);
}

/* A thread that serves its fault has a container in its hands: who deletes it, or gives the region to another, waits. */
static void test_a_container_stays_until_its_faults_are_served(void **state)
{
	(void)state;
	for (unsigned deleted = 0; deleted < 2; deleted++)
		child_passes(container_goes, &(bool){deleted});
}

/* --- forks --- */

static void forked(void *arg)
{
	const uint64_t until = now_ns() + 60000000000u;
	pthread_t thread = held_start();
	int status = 0;
	pid_t pid;

	(void)arg;
	pid = fork();
	if (pid == 0) {
		struct weir *weir = open_signal();
		char *base = region_noise(weir);

		read_all(base);
		child_check(!weir_region_destroy(weir, base));
		weir_close(weir);
		_exit(0);
	}
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (now_ns() > until) {
			kill(pid, SIGKILL);
			child_check(!"the child hangs");
		}
		sched_yield();
	}
	child_check(status == 0);
	store_release(&held.over, true);
	child_check(!pthread_join(thread, NULL));
	weir_close(held.weir);
}

/* A child does not wait for threads of its parent that were in the handler. */
static void test_a_child_has_an_instance_of_its_own(void **state)
{
	(void)state;
#ifdef WEIR_TSAN
	skip_because("ThreadSanitizer starts no threads in a child of a process with threads");
#endif
	child_passes(forked, NULL);
}

/* --- pins of lost pages --- */

/* The file of cold pages: garbage from now on. */
static void file_spoil(void)
{
	char link[PATH_MAX], path[64], garbage[PAGE_SIZE];
	unsigned spoiled = 0;

	memset(garbage, 0x5a, sizeof(garbage));
	for (int fd = 3; fd < 1024; fd++) {
		ssize_t n;
		off_t size;
		int file;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, link, sizeof(link) - 1);
		if (n <= 0)
			continue;
		link[n] = '\0';
		if (!strstr(link, " (deleted)") || !strncmp(link, "/memfd:", 7))
			continue;
		file = open(path, O_RDWR | O_CLOEXEC);
		child_check(file >= 0);
		size = lseek(file, 0, SEEK_END);
		for (off_t at = 0; at < size; at += PAGE_SIZE)
			child_check(pwrite(file, garbage, sizeof(garbage), at) == PAGE_SIZE);
		close(file);
		spoiled += size > 0;
	}
	child_check(spoiled);
}

struct lost {
	bool write, thread;
};

static void pins_of_lost_pages(void *arg)
{
	const struct lost *how = arg;
	struct weir *weir = how->thread ? open_as(WEIR_MODE_BOTH) : open_signal();
	char *base = region_noise_as(weir, how->thread ? WEIR_MODE_THREAD : WEIR_MODE_SIGNAL);
	unsigned pinned = 0, refused = 0;

	file_spoil();
	for (uint32_t i = 0; i < PAGES; i++) {
		int err = weir_region_pin(weir, page_of(base, i), 1, how->write);

		child_check(!err || err == -EIO);
		refused += err != 0;
		pinned += !err && !weir_region_unpin(weir, page_of(base, i), 1);
	}
	child_check(refused && pinned);
	/* Nothing of a range that has one is pinned. */
	child_check(weir_region_pin(weir, base, PAGES << PAGE_SHIFT, 0) == -EIO);
	child_check(!weir_region_discard(weir, base, PAGES << PAGE_SHIFT));
	child_check(weir_region_pin(weir, base + 1, 0, 0) == -EINVAL);
	child_check(weir_region_unpin(weir, base + 1, 0) == -EINVAL);
	weir_close(weir);
}

/* A page whose copy cannot be read back is an error of the call, and no SIGBUS, in either mode. */
static void test_a_pin_tells_of_a_lost_page(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++)
		child_passes(pins_of_lost_pages, &(struct lost){.write = i & 1, .thread = i & 2});
}

/* Half of the limit, and more than all of it. */
NO_TSAN static void pins_of_much(void *arg)
{
	const uint64_t bytes = *(uint64_t *)arg;
	struct weir_stats stats = {.size = sizeof(stats)};
	struct weir *weir = open_signal();
	char *base = region_noise(weir);

	for (unsigned write = 0; write < 2; write++) {
		child_check(!weir_region_pin(weir, base, bytes, (int)write));
		for (uint32_t i = 0; i < bytes >> PAGE_SHIFT; i++)
			child_check(resident(page_of(base, i)));
		/* Beside them there is room for hardly a page. */
		for (uint32_t i = PAGES - 64; i < PAGES; i++)
			(void)*(volatile char *)page_of(base, i);
		child_check(!weir_region_unpin(weir, base, bytes));
		/* What it held back for that goes on, with each fault. */
		do {
			read_all(base);
			child_check(!weir_stats_read(weir, &stats));
		} while (stats.charged > LIMIT);
	}
	weir_close(weir);
}

/* Near the limit a page that comes is the first one that reclaim takes: a pin gets hold of it all the same. */
static void test_pins_of_half_the_limit_and_more(void **state)
{
	(void)state;
	for (uint64_t bytes = LIMIT / 2; bytes <= 2 * LIMIT; bytes *= 4)
		child_passes(pins_of_much, &bytes);
}

/* --- arguments in a region --- */

NO_TSAN static void container_arguments(void *arg)
{
	struct weir *weir = open_signal();
	struct weir_container *root = weir_container_root(weir), *child;
	char *base = region_noise(weir), *p = base;
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
		cmocka_unit_test(test_a_write_to_a_dropped_page),
		cmocka_unit_test(test_open_again_below_a_handler),
		cmocka_unit_test(test_lost_memory_is_told),
		cmocka_unit_test(test_a_container_stays_until_its_faults_are_served),
		cmocka_unit_test(test_a_child_has_an_instance_of_its_own),
		cmocka_unit_test(test_a_pin_tells_of_a_lost_page),
		cmocka_unit_test(test_pins_of_half_the_limit_and_more),
		cmocka_unit_test(test_arguments_of_containers_may_lie_in_a_region),
	};

	descriptors_fill();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
