/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * forks CASE [SEED [PAGES]]: programs that fork, each with an oracle: what every page of a heap larger than the limit must hold
 * follows from its number and version. Run under weir with a limit of 4 MiB by forks.sh, and alone. Ends with 0, or says what was
 * expected and what was seen.
 *
 *   snapshot   the child reads all, while the parent writes all: it sees what was there at the fork
 *   container  the child has a container of its own by the same name: what weir stat ($FORKS_WEIR) says of both goes to descriptor 3
 *   files      some hundred streams, whose pages are elsewhere when libc's part of fork visits them
 *   family     children that fork, each changing what the next one must see
 *   threads    several threads fork at once, beside others that write pages and take and free memory
 *   orphan     the parent ends at once; the child writes what it found to descriptor 3
 *   killed     children that are killed at any moment
 *   bomb       200 short children, some of which execute a program: no process and no descriptor is left
 *   raw        clone by its system call, which nobody announces
 *   exec       a fork and exec of /bin/true, 20 times; prints how long one took
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, PAGES_MOST = 1 << 20 };

static uint64_t (*heap)[WORDS];
static uint32_t pages = 3072, version[PAGES_MOST];
static uint64_t seed = 1;

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* A quarter of the pages cannot be compressed, a quarter is one word, the rest compresses well. */
static uint64_t word_of(uint32_t page, uint32_t v, unsigned i)
{
	const uint64_t base = mix(seed ^ ((uint64_t)page << 32 | v));

	switch (page % 4) {
	case 0:
		return mix(base + i);
	case 1:
		return (base & 0xffffffffu) * 0x100000001u;
	default:
		return mix(base + i % 32);
	}
}

static void page_write(uint32_t page, uint32_t v)
{
	version[page] = v;
	for (unsigned i = 0; i < WORDS; i++)
		heap[page][i] = word_of(page, v, i);
}

/* 0, or 1 and it is said what was wrong. */
static int page_check(const char *who, uint32_t page)
{
	for (unsigned i = 0; i < WORDS; i++) {
		const uint64_t expected = word_of(page, version[page], i);

		if (heap[page][i] == expected)
			continue;
		fprintf(stderr,
			"%s: page %u, word %u: expected %016llx (version %u), seen %016llx\n", who,
			page, i, (unsigned long long)expected, version[page],
			(unsigned long long)heap[page][i]);
		return 1;
	}
	return 0;
}

static int all_check(const char *who)
{
	int wrong = 0;

	for (uint32_t page = 0; page < pages && wrong < 3; page++)
		wrong += page_check(who, page);
	return wrong != 0;
}

static void all_write(uint32_t v)
{
	for (uint32_t page = 0; page < pages; page++)
		page_write(page, v);
}

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static pid_t fork_or_die(void)
{
	const pid_t pid = fork();

	if (pid < 0)
		die("fork");
	return pid;
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			die("waitpid");
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int expect_status(pid_t pid, int expected, const char *who)
{
	const int status = wait_for(pid);

	if (status == expected)
		return 0;
	fprintf(stderr, "%s: expected status %d, seen %d\n", who, expected, status);
	return 1;
}

/* Under weir, the heap that is in memory is within the limit and what a job may be late by; a little later at the latest. It is polled:
 * nothing tells a program that a page of it has left. */
static int expect_limit(const char *who)
{
	enum { LIMIT_PAGES = (4 << 20) / PAGE };
	const struct timespec nap = {0, 10000000};
	unsigned char there[3072];
	unsigned count = 0;

	for (unsigned i = 0; getenv("FORKS_LIMITED") && pages <= sizeof(there) && i < 1000; i++) {
		count = 0;
		if (mincore(heap, sizeof(*heap) * pages, there))
			die("mincore");
		for (unsigned page = 0; page < pages; page++)
			count += there[page] & 1;
		if (count <= LIMIT_PAGES)
			return 0;
		nanosleep(&nap, NULL);
	}
	if (count)
		fprintf(stderr, "%s: expected at most %d pages in memory, seen %u\n", who,
			LIMIT_PAGES, count);
	return count != 0;
}

/* --- cases --- */

static int snapshot(void)
{
	int wrong = 0;

	for (uint32_t round = 1; round <= 3; round++) {
		const pid_t child = fork_or_die();

		if (!child) {
			wrong = all_check("child");
			/* What it writes itself is its own, and comes back as well. */
			for (uint32_t page = 0; page < pages; page += 3)
				page_write(page, 1000 + round);
			_exit(wrong | all_check("child, changed") | expect_limit("child"));
		}
		/* Backwards, against the child. */
		for (uint32_t page = pages; page-- > 0;)
			page_write(page, round + 1);
		wrong |= all_check("parent") | expect_limit("parent");
		wrong |= expect_status(child, 0, "child");
	}
	return wrong | all_check("parent at the end");
}

/* A line for this process; the rest of the pages is checked while and after it is looked at. */
static int tell_statistics(void)
{
	const char *weir = getenv("FORKS_WEIR");
	char command[4096];

	if (!weir)
		return 0;
	snprintf(command, sizeof(command), "'%s' stat %d --json >&3", weir, (int)getpid());
	return system(command) != 0;
}

static int container(void)
{
	const pid_t child = fork_or_die();
	int wrong = 0;

	if (!child) {
		wrong = all_check("child");
		all_write(7);
		wrong |= tell_statistics() | expect_limit("child");
		_exit(wrong | all_check("child, changed"));
	}
	all_write(2);
	wrong |= expect_status(child, 0, "child");
	return wrong | tell_statistics() | expect_limit("parent") | all_check("parent");
}

static int files(void)
{
	enum { FILES = 200 };
	static FILE *file[FILES];
	char *gap[FILES];
	int wrong = 0;

	for (unsigned i = 0; i < FILES; i++) {
		file[i] = fopen("/dev/zero", "r");
		/* So that few share a page. */
		gap[i] = malloc(2000);
		if (!file[i] || !gap[i] || fgetc(file[i]) != 0)
			die("/dev/zero");
		memset(gap[i], (int)i, 2000);
	}
	all_write(2);
	for (unsigned round = 0; round < 3; round++) {
		const pid_t child = fork_or_die();

		if (!child) {
			for (unsigned i = 0; i < FILES; i++)
				wrong |= fgetc(file[i]) != 0 || gap[i][1999] != (char)i;
			_exit(wrong | all_check("child"));
		}
		wrong |= expect_status(child, 0, "child");
		all_write(3 + round);
	}
	return wrong;
}

static int family(void)
{
	enum { GENERATIONS = 9 };
	unsigned generation = 0;
	int wrong = 0;
	pid_t child;

	/* Down: each changes a part, and lets a child see it; then another one, of which it is the parent no more than that. */
	do {
		child = fork_or_die();
		if (child)
			break;
		generation++;
		wrong |= all_check("descendant");
		for (uint32_t page = generation; page < pages; page += GENERATIONS)
			page_write(page, 10 + generation);
	} while (generation < GENERATIONS);
	if (child) {
		/* While it lives: what it still needs of our file must not be used again. */
		for (uint32_t page = 0; page < pages; page += 2)
			page_write(page, 100 + generation);
		wrong |= all_check("ancestor");
		wrong |= expect_status(child, 0, "descendant");
	}
	wrong |= all_check("member");
	if (generation)
		_exit(wrong);
	return wrong;
}

static atomic_bool over;

static void *writer(void *data)
{
	const uint32_t part = (uint32_t)(uintptr_t)data;
	uint64_t random = seed + part;

	while (!atomic_load(&over)) {
		char *memory = malloc(1 + random % 300000);

		random = mix(random);
		if (!memory)
			die("malloc");
		memory[0] = 1;
		/* The upper half of the pages is theirs; versions of single words need no order. */
		heap[pages / 2 + random % (pages / 2)][part] = random;
		free(memory);
	}
	return NULL;
}

static void *forker(void *data)
{
	intptr_t wrong = 0;

	for (unsigned i = 0; i < 8; i++) {
		const pid_t child = fork_or_die();

		if (!child) {
			for (uint32_t page = 0; page < pages / 2; page += 1 + i % 3)
				wrong |= page_check("child of a thread", page);
			_exit((int)wrong);
		}
		wrong |= expect_status(child, 0, "child of a thread");
	}
	(void)data;
	return (void *)wrong;
}

static int threads(void)
{
	enum { WRITERS = 2, FORKERS = 3 };
	pthread_t thread[WRITERS + FORKERS];
	int wrong = 0;

	for (uintptr_t i = 0; i < WRITERS + FORKERS; i++) {
		if (pthread_create(&thread[i], NULL, i < WRITERS ? writer : forker, (void *)i))
			die("pthread_create");
	}
	for (unsigned i = WRITERS; i < WRITERS + FORKERS; i++) {
		void *result;

		pthread_join(thread[i], &result);
		wrong |= result != NULL;
	}
	atomic_store(&over, true);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(thread[i], NULL);
	for (uint32_t page = 0; page < pages / 2; page++)
		wrong |= page_check("parent of threads", page);
	return wrong;
}

static int orphan(void)
{
	struct pollfd parent = {.fd = (int)syscall(SYS_pidfd_open, getpid(), 0), .events = POLLIN};
	const pid_t child = fork_or_die();

	if (parent.fd < 0)
		die("pidfd_open");
	if (child)
		_exit(0);
	/* Until it has gone, with all of its threads. */
	while (poll(&parent, 1, -1) < 0 && errno == EINTR)
		;
	if (all_check("orphan"))
		return 1;
	all_write(7);
	if (all_check("orphan, changed"))
		return 1;
	return write(3, "right\n", 6) == 6 ? 0 : 1;
}

static unsigned descriptors(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned count = 0;
	struct dirent *task;

	if (!tasks)
		die("/proc/self/task");
	/* Those of weir's threads are in a table of their own. */
	while ((task = readdir(tasks))) {
		char path[300];
		DIR *fds;

		snprintf(path, sizeof(path), "/proc/self/task/%s/fd", task->d_name);
		fds = task->d_name[0] == '.' ? NULL : opendir(path);
		while (fds && readdir(fds))
			count++;
		if (fds)
			closedir(fds);
	}
	closedir(tasks);
	return count;
}

/* Waits, for weir learns of a child's end a little later; polled, since it closes them in a table of its own, and tells nobody. */
static int expect_descriptors(unsigned before)
{
	const struct timespec nap = {0, 10000000};
	unsigned now = 0;

	for (unsigned i = 0; i < 1000; i++) {
		now = descriptors();
		if (now <= before)
			return 0;
		nanosleep(&nap, NULL);
	}
	fprintf(stderr, "expected at most %u descriptors as before, seen %u\n", before, now);
	return 1;
}

static int killed(void)
{
	const pid_t first = fork_or_die();
	uint64_t random = seed;
	unsigned before;
	int wrong = 0;

	if (!first)
		_exit(all_check("first child"));
	wrong |= expect_status(first, 0, "first child");
	before = descriptors();
	for (unsigned i = 0; i < 40; i++) {
		pid_t killer = fork_or_die(), child;
		struct timespec nap = {0, 0};

		random = mix(random);
		nap.tv_nsec = (long)(random % 3000000);
		/* A child that forks and forks, killed in the middle of that. */
		while (!killer) {
			child = fork_or_die();
			if (!child)
				_exit(page_check("child of the killed", i) ? 9 : 0);
			if (wait_for(child))
				_exit(9);
		}
		/* Not for anything: it may be killed at any moment. */
		nanosleep(&nap, NULL);
		kill(killer, SIGKILL);
		wrong |= expect_status(killer, 128 + SIGKILL, "the killed");
		page_write((uint32_t)(random % pages), 50 + i);
	}
	return wrong | all_check("parent of the killed") | expect_descriptors(before);
}

static int bomb(void)
{
	enum { CHILDREN = 200, AT_ONCE = 10 };
	pid_t child[AT_ONCE] = {0};
	const pid_t first = fork_or_die();
	unsigned before;
	int wrong = 0;

	if (!first)
		_exit(0);
	wrong |= expect_status(first, 0, "first child");
	before = descriptors();
	for (unsigned i = 0; i < CHILDREN; i++) {
		pid_t *slot = &child[i % AT_ONCE];

		if (*slot)
			wrong |= expect_status(*slot, 0, "one of 200");
		*slot = fork_or_die();
		if (*slot)
			continue;
		if (i % 20 == 0)
			execl("/bin/true", "true", (char *)NULL);
		if (i % 7 == 0)
			_exit(wait_for(fork_or_die() ?: (_exit(0), 0)));
		_exit(page_check("one of 200", i * 13 % pages));
	}
	for (unsigned i = 0; i < AT_ONCE; i++)
		wrong |= expect_status(child[i], 0, "one of the last");
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
		fprintf(stderr, "expected no child to be left\n");
		wrong = 1;
	}
	return wrong | all_check("parent of 200") | expect_descriptors(before);
}

static int raw(void)
{
	enum { WIPED = 64 };
	uint64_t *wiped = aligned_alloc(PAGE, (size_t)WIPED * PAGE);
	int wrong = 0;

	if (!wiped || madvise(wiped, (size_t)WIPED * PAGE, MADV_WIPEONFORK))
		die("MADV_WIPEONFORK");
	for (size_t i = 0; i < (size_t)WIPED * WORDS; i++)
		wiped[i] = i + 1;
	/* They leave. */
	all_write(1);

	for (uint32_t round = 0; round < 3; round++) {
		const long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

		if (child < 0)
			die("clone");
		if (!child) {
			for (size_t i = 0; i < (size_t)WIPED * WORDS; i++)
				wrong |= wiped[i] != 0;
			_exit(wrong | all_check("unannounced child"));
		}
		wrong |= expect_status((pid_t)child, 0, "unannounced child");
		all_write(2 + round);
	}
	for (size_t i = 0; i < (size_t)WIPED * WORDS; i++)
		wrong |= wiped[i] != i + 1;
	return wrong | all_check("parent");
}

static int exec_many(void)
{
	enum { TIMES = 20 };
	struct timespec from, to;
	int wrong = 0;

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (unsigned i = 0; i < TIMES; i++) {
		const pid_t child = fork_or_die();

		if (!child) {
			execl("/bin/true", "true", (char *)NULL);
			_exit(127);
		}
		wrong |= expect_status(child, 0, "/bin/true");
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%.0f us\n", ((double)(to.tv_sec - from.tv_sec) * 1e6 +
			     (double)(to.tv_nsec - from.tv_nsec) / 1e3) /
				    TIMES);
	return wrong;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} cases[] = {
		{"snapshot", snapshot}, {"container", container}, {"files", files},
		{"family", family},	{"threads", threads},	  {"orphan", orphan},
		{"killed", killed},	{"bomb", bomb},		  {"raw", raw},
		{"exec", exec_many},
	};

	if (argc > 2)
		seed = strtoull(argv[2], NULL, 0);
	if (argc > 3)
		pages = (uint32_t)strtoul(argv[3], NULL, 0);
	if (!pages || pages > PAGES_MOST)
		return 2;
	heap = aligned_alloc(PAGE, pages * sizeof(*heap));
	if (!heap)
		die("aligned_alloc");
	all_write(1);
	for (unsigned i = 0; argc > 1 && i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (!strcmp(argv[1], cases[i].name))
			return cases[i].run();
	}
	fprintf(stderr, "usage: forks CASE [SEED [PAGES]]\n");
	return 2;
}
