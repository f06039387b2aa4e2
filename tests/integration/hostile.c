/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hostile: what programs may do, and a paged heap could get wrong.
 *
 *     hostile signals   a signal handler touches malloc memory while its thread gives other memory back
 *     hostile stacks    threads whose stacks come from malloc
 *     hostile joins     thousands of threads, one after the other, on one stack of managed memory
 *     hostile guard     a page of malloc memory that cannot be accessed
 *     hostile c11       a thread of thrd_create may run where its creator may
 *     hostile limits    forks while hardly any descriptors and no address space are allowed
 *     hostile over      something else is mapped over malloc memory, and some of it is taken out
 *     hostile mlockall  all that is asked for is refused, or it works
 *
 * Ends with 0; 1 and a line that says what was wrong; 2 if it could not run. A hang is for the caller to see.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 6144, THREADS = 8 };

static unsigned char *heap;
static volatile sig_atomic_t hits, bad;

static unsigned char expected(size_t page)
{
	return (unsigned char)(page * 7 + 1);
}

static void *must(void *p)
{
	if (!p) {
		perror("hostile");
		exit(2);
	}
	return p;
}

static void heap_fill(void)
{
	heap = must(aligned_alloc(PAGE, (size_t)PAGES * PAGE));
	for (size_t i = 0; i < PAGES; i++) {
		heap[i * PAGE] = expected(i);
		heap[i * PAGE + 8] = 2;
	}
}

static int heap_check(void)
{
	for (size_t i = 0; i < PAGES; i++) {
		if (heap[i * PAGE] != expected(i)) {
			fprintf(stderr, "hostile: page %zu holds %u, expected %u\n", i,
				heap[i * PAGE], expected(i));
			return 1;
		}
	}
	return 0;
}

static void on_alarm(int sig)
{
	static unsigned random = 1;
	size_t page;

	(void)sig;
	random = random * 1103515245u + 12345u;
	page = (random >> 8) % PAGES;
	bad |= heap[page * PAGE] != expected(page);
	hits++;
}

static void *giver(void *data)
{
	const size_t pages = 512;
	unsigned char *other = must(aligned_alloc(PAGE, pages * PAGE));

	for (int round = 0; round < 250; round++) {
		for (size_t i = 0; i < pages; i++) {
			other[i * PAGE] = 1;
			other[i * PAGE + 8] = (unsigned char)(i | 2);
		}
		if (madvise(other, pages * PAGE, MADV_DONTNEED)) {
			perror("hostile: madvise");
			exit(1);
		}
	}
	return data;
}

static int signals(void)
{
	const struct itimerval often = {{0, 500}, {0, 500}}, never = {0};
	pthread_t thread[THREADS];
	sigset_t alarm;

	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &often, NULL);
	for (size_t i = 0; i < THREADS; i++) {
		if (pthread_create(&thread[i], NULL, giver, NULL))
			return 2;
	}
	/* The threads are to get them. */
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	setitimer(ITIMER_REAL, &never, NULL);
	if (!hits)
		return 2;
	return bad || heap_check();
}

static void *reader(void *data)
{
	unsigned random = (unsigned)(size_t)data;
	size_t wrong = 0;

	for (int i = 0; i < 20000; i++) {
		size_t page;

		random = random * 1103515245u + 12345u;
		page = (random >> 8) % PAGES;
		wrong += heap[page * PAGE] != expected(page);
	}
	return (void *)wrong;
}

static int stacks(void)
{
	const size_t size = 128 << 10;
	pthread_t thread[THREADS];
	size_t wrong = 0;

	for (size_t i = 0; i < THREADS; i++) {
		pthread_attr_t attr;

		pthread_attr_init(&attr);
		if (pthread_attr_setstack(&attr, must(aligned_alloc(PAGE, size)), size) ||
		    pthread_create(&thread[i], &attr, reader, (void *)i))
			return 2;
		pthread_attr_destroy(&attr);
	}
	for (size_t i = 0; i < THREADS; i++) {
		void *result;

		pthread_join(thread[i], &result);
		wrong += (size_t)result;
	}
	return wrong != 0;
}

static _Atomic bool joins_over;

static void *presses(void *data)
{
	unsigned char *p = data;
	unsigned seed = 1;

	while (!joins_over) {
		for (size_t i = 0; i < 2048; i++)
			p[i * PAGE] = (unsigned char)rand_r(&seed);
	}
	return NULL;
}

static void *nothing(void *data)
{
	return data;
}

/* What the kernel writes where a thread has ended gets there, be the page away a moment before: every one is joined. */
static int joins(void)
{
	enum { COUNT = 40000, STACK = 64 << 10 };
	void *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t presser, thread;
	pthread_attr_t attr;

	if (stack == MAP_FAILED || pthread_attr_init(&attr) ||
	    pthread_attr_setstack(&attr, stack, STACK) ||
	    pthread_create(&presser, NULL, presses, must(malloc(2048 * (size_t)PAGE))))
		return 2;
	for (int i = 0; i < COUNT; i++) {
		if (pthread_create(&thread, &attr, nothing, NULL) || pthread_join(thread, NULL))
			return 1;
	}
	joins_over = true;
	return pthread_join(presser, NULL) != 0;
}

static int guard(void)
{
	const size_t size = 16 * PAGE;
	unsigned char *p = must(aligned_alloc(PAGE, size));

	memset(p, 'g', size);
	if (mprotect(p + PAGE, PAGE, PROT_NONE))
		return 2;
	for (int round = 0; round < 3; round++) {
		if (heap_check())
			return 1;
	}
	if (mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE))
		return 2;
	for (size_t i = 0; i < size; i++) {
		if (p[i] != 'g')
			return 1;
	}
	return 0;
}

/* The bare call: libc's is the agent's, before which it lets the thread go. */
static int cpus(void *data)
{
	cpu_set_t set;

	(void)data;
	CPU_ZERO(&set);
	return syscall(SYS_sched_getaffinity, 0, sizeof(set), &set) < 0 ? -1 : CPU_COUNT(&set);
}

static int c11(void)
{
	thrd_t thread;
	int before = cpus(NULL), in_thread;

	heap_fill();
	if (heap_check() || thrd_create(&thread, cpus, NULL) != thrd_success)
		return 1;
	thrd_join(thread, &in_thread);
	if (in_thread == before)
		return 0;
	fprintf(stderr, "hostile: the thread may run on %d CPUs, its creator on %d\n", in_thread,
		before);
	return 1;
}

static int lock_all(void)
{
	(void)mlockall(MCL_CURRENT | MCL_FUTURE);
	return heap_check();
}

/* A child has what there is; refused: or there may be none. */
static int fork_checked(bool refused)
{
	pid_t child = fork();
	int status;

	if (!child)
		_exit(heap_check());
	if (child < 0 && refused && errno == EAGAIN)
		return heap_check();
	if (child < 0 || waitpid(child, &status, 0) != child || status) {
		fprintf(stderr, "hostile: a fork failed, or its child (errno %d)\n", errno);
		return 1;
	}
	return heap_check();
}

static int limits(void)
{
	struct rlimit files, less, space = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};

	if (getrlimit(RLIMIT_NOFILE, &files))
		return 2;
	less = files;
	for (unsigned allowed = 0; allowed < 4; allowed++) {
		less.rlim_cur = allowed;
		if (setrlimit(RLIMIT_NOFILE, &less) || fork_checked(true))
			return 1;
	}
	if (setrlimit(RLIMIT_NOFILE, &files) || setrlimit(RLIMIT_AS, &space))
		return 2;
	return fork_checked(false);
}

static int over(void)
{
	const size_t half = (size_t)PAGES / 2 * PAGE;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	unsigned char *more;

	if (mmap(heap, half, PROT_READ | PROT_WRITE, flags, -1, 0) != heap)
		return 2;
	for (size_t i = 0; i < half; i += PAGE) {
		if (heap[i]) {
			fprintf(stderr, "hostile: a new mapping is not zero\n");
			return 1;
		}
		heap[i] = expected(i / PAGE);
	}
	/* So that there is pressure: what was mapped over is weir's no more. */
	more = must(aligned_alloc(PAGE, half));
	memset(more, 3, half);
	if (heap_check())
		return 1;
	if (mremap(more, half, half + PAGE, MREMAP_MAYMOVE) != MAP_FAILED) {
		fprintf(stderr, "hostile: malloc memory has moved\n");
		return 1;
	}
	if (munmap(more, half))
		return 2;
	more = must(aligned_alloc(PAGE, half));
	memset(more, 3, half);
	return heap_check();
}

/* Blocks of all sizes that are powers of two, many at once, lie at multiples of what was asked for, by either call. */
static int alignment(void)
{
	enum { BLOCKS = 4096, BYTES_MAX = 16384 };
	static void *block[BLOCKS];
	size_t wrong = 0, n = 0;

	for (int round = 0; round < 4; round++) {
		for (size_t bytes = 16; bytes <= BYTES_MAX; bytes *= 2) {
			for (size_t align = 16; align <= 2 * bytes; align *= 2) {
				for (size_t i = 0; i < 64; i++, n++) {
					void **at = &block[n * 2654435761u / 16 % BLOCKS];

					free(*at);
					if (i % 2)
						*at = must(aligned_alloc(align, bytes));
					else if (posix_memalign(at, align, bytes))
						return 2;
					memset(*at, 1, bytes);
					wrong += (uintptr_t)*at % align != 0;
				}
			}
		}
	}
	if (posix_memalign(&block[0], 24, 64) != EINVAL ||
	    posix_memalign(&block[0], 4, 64) != EINVAL)
		wrong++;
	if (wrong)
		fprintf(stderr, "hostile: %zu of %zu blocks are not aligned as asked for\n", wrong,
			n);
	return wrong || heap_check();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} cases[] = {{"signals", signals}, {"stacks", stacks},	   {"joins", joins},
		     {"guard", guard},	   {"c11", c11},	   {"limits", limits},
		     {"over", over},	   {"mlockall", lock_all}, {"alignment", alignment}};

	for (size_t i = 0; argc == 2 && i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (strcmp(argv[1], cases[i].name))
			continue;
		if (cases[i].run != c11)
			heap_fill();
		return cases[i].run();
	}
	fprintf(stderr,
		"hostile: signals, stacks, guard, c11, limits, over, mlockall or alignment\n");
	return 2;
}
