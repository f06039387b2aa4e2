/* SPDX-License-Identifier: BSD-2-Clause */
/* maps fork: the child sees what the parent had mapped; advice about forks is kept. */
#include <sched.h>
#include <sys/wait.h>

#include "maps.h"

enum { APART_PAGES = 1 << 14, APART_FILLED = 1000, SHARED_PAGES = 3000, WIPED_PAGES = 600 };

/* What the parent has said of memory, and what a child must find there. */
struct advised {
	unsigned char *shared, *apart, *back, *foreign, *moved; /* all, none, all, none, none */
	unsigned char *wiped, *kept, *heap;			/* zeroes, all, zeroes */
};

/* Each, with what it begins with. */
static void advised_each(const struct advised *a,
			 void (*fn)(unsigned char *p, size_t pages, uint32_t value))
{
	fn(a->apart, APART_FILLED, 100000);
	fn(a->shared, SHARED_PAGES, 4000);
	fn(a->back, 100, 10);
	fn(a->foreign, 100, 500);
	fn(a->moved, 100, 20);
	fn(a->wiped, WIPED_PAGES, 1);
	fn(a->kept, 100, 30);
	fn(a->heap, WIPED_PAGES, 40);
}

static void fork_advise(struct advised *a)
{
	a->apart = map(APART_PAGES, RW);
	a->shared = map(SHARED_PAGES, RW);
	a->back = map(100, RW);
	a->foreign = map(100, RW);
	a->moved = map(100, RW);
	a->wiped = map(WIPED_PAGES, RW);
	a->kept = map(100, RW);
	a->heap = aligned_alloc(PAGE, (size_t)WIPED_PAGES * PAGE);
	must(a->heap);
	/* A mapping of the kernel's in the middle of ours. */
	must(mmap(a->foreign + 10 * PAGE, 20 * (size_t)PAGE, RW,
		  MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == a->foreign + 10 * PAGE);
	must(!madvise(a->apart, (size_t)APART_PAGES * PAGE, MADV_DONTFORK));
	must(!madvise(a->back, 100 * PAGE, MADV_DONTFORK));
	must(!madvise(a->back, 100 * PAGE, MADV_DOFORK));
	must(!madvise(a->foreign + 5 * PAGE, 50 * (size_t)PAGE, MADV_DONTFORK));
	must(!madvise(a->moved, 100 * PAGE, MADV_DONTFORK));
	must(!madvise(a->wiped, (size_t)WIPED_PAGES * PAGE, MADV_WIPEONFORK));
	must(!madvise(a->kept, 100 * PAGE, MADV_WIPEONFORK));
	must(!madvise(a->kept, 100 * PAGE, MADV_KEEPONFORK));
	must(!madvise(a->heap, (size_t)WIPED_PAGES * PAGE, MADV_WIPEONFORK));
	advised_each(a, fill);
	/* Advice goes along. */
	a->moved = mremap(a->moved, 100 * PAGE, 200 * (size_t)PAGE, MREMAP_MAYMOVE);
	must(a->moved != MAP_FAILED);
}

static void zeroes(const unsigned char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		must(page_holds(p + i * PAGE, 0));
}

/* What a child maps comes and goes as anywhere, whatever lies where the parent has something. */
static void child_maps(void)
{
	enum { COUNT = 6, PAGES = 500 };
	unsigned char *p[COUNT];

	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < COUNT; i++) {
			p[i] = mmap(NULL, PAGES * PAGE, RW,
				    (i % 2 ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
			must(p[i] != MAP_FAILED);
			zeroes(p[i], PAGES);
			fill(p[i], PAGES, 7 + i);
		}
		for (unsigned i = 0; i < COUNT; i++)
			holds(p[i], PAGES, 7 + i);
		for (unsigned i = 0; i < COUNT; i++) {
			must(!mprotect(p[i], PAGES * PAGE, PROT_READ));
			must(!munmap(p[i], PAGES * PAGE) && !readable(p[i]));
		}
	}
}

static void child_holds(const struct advised *a)
{
	must(!readable(a->apart) && !readable(a->apart + (size_t)(APART_PAGES - 1) * PAGE));
	must(!readable(a->foreign + 5 * PAGE) && !readable(a->foreign + 10 * PAGE) &&
	     !readable(a->foreign + 54 * PAGE));
	must(!readable(a->moved) && !readable(a->moved + 199 * PAGE));
	zeroes(a->wiped, WIPED_PAGES);
	zeroes(a->heap, WIPED_PAGES);
	holds(a->foreign, 5, 500);
	holds(a->foreign + 55 * PAGE, 45, 555);
	holds(a->back, 100, 10);
	holds(a->kept, 100, 30);
	holds(a->shared, SHARED_PAGES, 4000);
}

static void child_of_advised(const struct advised *a)
{
	child_holds(a);
	child_maps();
	fill(a->wiped, WIPED_PAGES, 77);
	fill(a->heap, WIPED_PAGES, 78);
	child_maps();
	holds(a->wiped, WIPED_PAGES, 77);
	holds(a->heap, WIPED_PAGES, 78);
	holds(a->shared, SHARED_PAGES, 4000);
	must(!munmap(a->shared, 1000 * (size_t)PAGE) && !readable(a->shared));
	holds(a->shared + 1000 * (size_t)PAGE, SHARED_PAGES - 1000, 5000);
	must(!mprotect(a->shared + 1000 * (size_t)PAGE, PAGE, PROT_NONE) &&
	     !readable(a->shared + 1000 * (size_t)PAGE));
	/* The last one's children: what a child has been told counts for its own. */
	must(!munmap(a->apart, PAGE) && !readable(a->apart));
}

/* A thread that takes mappings away while others fork: what is half gone is gone in the child, and its place is free. */
struct leaver {
	unsigned char *volatile at;
	volatile bool over;
};
enum { LEAVING_PAGES = 64 };

static void *leave(void *data)
{
	struct leaver *l = data;

	while (!l->over) {
		unsigned char *p = map(LEAVING_PAGES, RW);

		fill(p, LEAVING_PAGES, 9);
		l->at = p;
		must(!munmap(p, LEAVING_PAGES * PAGE));
	}
	return NULL;
}

static void forks_leaving(void)
{
	struct leaver l = {0};
	pthread_t thread;
	int status;

	must(!pthread_create(&thread, NULL, leave, &l));
	while (!l.at)
		sched_yield();
	for (int i = 0; i < 40; i++) {
		pid_t child = fork();

		must(child >= 0);
		if (!child) {
			unsigned char *p = l.at;

			must(!munmap(p, LEAVING_PAGES * PAGE) && !readable(p));
			must(mmap(p, LEAVING_PAGES * PAGE, RW, ANON, -1, 0) == p);
			zeroes(p, LEAVING_PAGES);
			_exit(0);
		}
		must(waitpid(child, &status, 0) == child && status == 0);
	}
	l.over = true;
	must(!pthread_join(thread, NULL));
}

int forks(void)
{
	struct advised a;
	int status;

	fork_advise(&a);
	for (int i = 0; i < 2; i++) {
		pid_t child = fork();

		must(child >= 0);
		if (!child) {
			child_of_advised(&a);
			/* What is zeroes in a child is so in its children. */
			child = fork();
			must(child >= 0);
			if (!child) {
				zeroes(a.wiped, WIPED_PAGES);
				zeroes(a.heap, WIPED_PAGES);
				child_maps();
				_exit(0);
			}
			must(waitpid(child, &status, 0) == child && status == 0);
			_exit(0);
		}
		must(waitpid(child, &status, 0) == child && status == 0);
		advised_each(&a, holds);
	}
	must(!munmap(a.apart, (size_t)APART_PAGES * PAGE));
	forks_leaving();
	return 0;
}
