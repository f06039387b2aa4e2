/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * maps: what programs do with mmap and its kin, against an oracle of what every byte must be.
 *
 *     maps storm THREADS ROUNDS [SEED]   random mappings, each thread's own, and what each page must hold
 *     maps profiled THREADS ROUNDS SEED  the same under a storm of SIGPROF, whose handler looks at memory, too
 *     maps rules                         one case each: errors, what is mapped, guards, MAP_FIXED, mremap
 *     maps fork                          the child sees what the parent had mapped; advice about forks is kept
 *
 * Ends with 0; 1 and a line that says what was wrong; 2 if it could not run.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, RANGES = 24, MOST = 700 };
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

static unsigned long long seed_given;

#define must(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "maps: %s:%d: %s (errno %d: %s; seed %llu)\n", __FILE__,   \
				__LINE__, #cond, errno, strerror(errno), seed_given);              \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

/* --- touching what may be a signal --- */

static __thread sigjmp_buf back;
static __thread volatile sig_atomic_t expecting;

static void on_segv(int sig)
{
	if (!expecting)
		_exit(100 + sig);
	siglongjmp(back, 1);
}

static bool touches(volatile unsigned char *p, bool write)
{
	bool done = false;

	expecting = 1;
	if (!sigsetjmp(back, 1)) {
		unsigned char c = *p;

		if (write)
			*p = c;
		done = true;
	}
	expecting = 0;
	return done;
}

#define readable(p) touches(p, false)
#define writable(p) touches(p, true)

/* --- the storm --- */

/* A mapping of the thread's own. value[]: what the page's words are made of; 0: zeroes. */
struct mapping {
	unsigned char *base;
	unsigned pages;
	int prot;
	bool shared; /* a file's, mapped over a managed one */
	uint32_t value[MOST * 2];
};

struct thread {
	uint64_t random;
	unsigned rounds, id;
	struct mapping map[RANGES];
	pthread_t thread;
};

static unsigned below(struct thread *t, unsigned n)
{
	t->random ^= t->random << 13;
	t->random ^= t->random >> 7;
	t->random ^= t->random << 17;
	return (unsigned)((t->random >> 20) % n);
}

/* A page's first and last word, and some between; some pages compress, some are one word throughout, some do neither. */
static void page_write(unsigned char *page, uint32_t value)
{
	uint32_t *w = (uint32_t *)page;

	for (unsigned i = 0; i < PAGE / 4; i++)
		w[i] = value % 3 == 0	? value
		       : value % 3 == 1 ? value + i / 64
					: value * (i + 1) * 2654435761u;
}

static bool page_holds(const unsigned char *page, uint32_t value)
{
	const uint32_t *w = (const uint32_t *)page;

	for (unsigned i = 0; i < PAGE / 4; i++) {
		uint32_t is = !value	       ? 0
			      : value % 3 == 0 ? value
			      : value % 3 == 1 ? value + i / 64
					       : value * (i + 1) * 2654435761u;

		if (w[i] != is) {
			fprintf(stderr, "maps: word %u of %p is %#x, expected %#x\n", i,
				(const void *)page, w[i], is);
			return false;
		}
	}
	return true;
}

static void check(struct thread *t, struct mapping *m, unsigned page)
{
	if (m->prot & PROT_READ)
		must(page_holds(m->base + (size_t)page * PAGE, m->value[page]));
	(void)t;
}

static void check_all(struct thread *t, struct mapping *m)
{
	for (unsigned i = 0; i < m->pages; i++)
		check(t, m, i);
}

static void fill_some(struct thread *t, struct mapping *m)
{
	if (m->prot != RW || !m->pages)
		return;
	for (unsigned n = below(t, m->pages) + 1; n; n--) {
		unsigned page = below(t, m->pages);

		m->value[page] = (uint32_t)(t->random >> 16) | 1;
		page_write(m->base + (size_t)page * PAGE, m->value[page]);
	}
}

static void map_new(struct thread *t, struct mapping *m)
{
	m->pages = 1 + below(t, below(t, 4) ? 40 : MOST);
	m->prot = RW;
	m->base = mmap(NULL, (size_t)m->pages * PAGE, RW,
		       ANON | (below(t, 2) ? MAP_NORESERVE : 0) | (below(t, 8) ? 0 : MAP_POPULATE),
		       -1, 0);
	must(m->base != MAP_FAILED);
	memset(m->value, 0, sizeof(m->value));
	check(t, m, below(t, m->pages));
}

static void unmap_part(struct thread *t, struct mapping *m)
{
	unsigned keep = below(t, m->pages + 1);

	/* The head or the tail. */
	if (below(t, 2)) {
		must(!munmap(m->base + (size_t)keep * PAGE, (size_t)(m->pages - keep) * PAGE) ||
		     keep == m->pages);
	} else {
		unsigned gone = m->pages - keep;

		must(!munmap(m->base, (size_t)gone * PAGE) || !gone);
		m->base += (size_t)gone * PAGE;
		memmove(m->value, m->value + gone, keep * sizeof(m->value[0]));
	}
	m->pages = keep;
}

static _Atomic unsigned moved;

static void remap(struct thread *t, struct mapping *m)
{
	unsigned pages = 1 + below(t, MOST), way = below(t, 4);
	size_t was = (size_t)m->pages * PAGE, bytes;
	unsigned char *to, *fixed = NULL;

	pages = way == 1 ? m->pages : pages;
	bytes = (size_t)pages * PAGE;
	switch (way) {
	case 0: /* to an address that has been somebody's */
		fixed = mmap(NULL, bytes, below(t, 2) ? RW : PROT_NONE, ANON, -1, 0);
		must(fixed != MAP_FAILED);
		if (below(t, 2) && readable(fixed))
			memset(fixed, 7, bytes);
		to = mremap(m->base, was, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, fixed);
		break;
	case 1: /* the old one stays, empty */
		to = mremap(m->base, was, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
		break;
	default:
		to = mremap(m->base, was, bytes, MREMAP_MAYMOVE);
	}
	if (to == MAP_FAILED) {
		/* What was protected or advised in parts is no longer one mapping, for the kernel and for weir. */
		must(errno == EFAULT || (way == 1 && errno == EINVAL));
		must(!fixed || !munmap(fixed, bytes));
		return;
	}
	moved++;
	must(!fixed || to == fixed);
	for (unsigned i = 0; way == 1 && (m->prot & PROT_READ) && i < pages; i++)
		must(page_holds(m->base + (size_t)i * PAGE, 0));
	must(way != 1 || !munmap(m->base, was));
	for (unsigned i = m->pages; i < pages; i++)
		m->value[i] = 0;
	m->base = to;
	m->pages = pages;
	check_all(t, m);
}

static void protect(struct thread *t, struct mapping *m)
{
	static const int prots[] = {PROT_NONE, PROT_READ, RW, RW, PROT_READ | PROT_EXEC};
	int prot = prots[below(t, 5)];

	must(!mprotect(m->base, (size_t)m->pages * PAGE, prot));
	m->prot = prot;
	must(readable(m->base) == (prot != PROT_NONE));
	must(writable(m->base + (size_t)(m->pages - 1) * PAGE) == (prot == RW));
}

/* A page in the middle that cannot be touched for a while, with contents. */
static void guard(struct thread *t, struct mapping *m)
{
	unsigned page = below(t, m->pages);
	unsigned char *at = m->base + (size_t)page * PAGE;
	struct mapping *other = &t->map[below(t, RANGES)];

	must(!mprotect(at, PAGE, PROT_NONE));
	must(!readable(at));
	if (other != m)
		fill_some(t, other);
	must(!readable(at));
	must(!mprotect(at, PAGE, m->prot));
	check(t, m, page);
}

static void advise(struct thread *t, struct mapping *m)
{
	unsigned from = below(t, m->pages), n = 1 + below(t, m->pages - from);
	unsigned char *at = m->base + (size_t)from * PAGE;

	switch (below(t, 5)) {
	case 0:
		must(!madvise(at, (size_t)n * PAGE, MADV_DONTNEED));
		memset(m->value + from, 0, n * sizeof(m->value[0]));
		break;
	case 1:
		must(!madvise(at, (size_t)n * PAGE, MADV_WILLNEED));
		break;
	case 2:
		must(!madvise(at, (size_t)n * PAGE, MADV_HUGEPAGE) || errno == EINVAL);
		break;
	case 3:
		must(madvise(at, (size_t)n * PAGE, MADV_REMOVE) && errno == EINVAL);
		break;
	default:
		must(!madvise(at, (size_t)n * PAGE, MADV_DONTFORK));
		must(!madvise(at, (size_t)n * PAGE, MADV_DOFORK));
	}
}

/* A new mapping over a part of one, of memory or of a file, which later becomes memory again. */
static void map_over(struct thread *t, struct mapping *m)
{
	unsigned from = below(t, m->pages), n = 1 + below(t, m->pages - from);
	unsigned char *at = m->base + (size_t)from * PAGE;
	struct mapping *other = &t->map[below(t, RANGES)];

	if (m->prot != RW)
		return;
	if (below(t, 2)) {
		int fd = memfd_create("maps", 0);

		must(fd >= 0 && !ftruncate(fd, (off_t)n * PAGE));
		must(mmap(at, (size_t)n * PAGE, RW,
			  (below(t, 2) ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED, fd, 0) == at);
		for (unsigned i = 0; i < n; i++) {
			must(page_holds(at + (size_t)i * PAGE, 0));
			page_write(at + (size_t)i * PAGE, i * 2 + 1);
		}
		if (other != m)
			check_all(t, other);
		for (unsigned i = 0; i < n; i++)
			must(page_holds(at + (size_t)i * PAGE, i * 2 + 1));
		must(!close(fd));
	}
	must(mmap(at, (size_t)n * PAGE, RW, ANON | MAP_FIXED, -1, 0) == at);
	memset(m->value + from, 0, n * sizeof(m->value[0]));
	check(t, m, from);
}

static void *storm_thread(void *data)
{
	struct thread *t = data;

	for (unsigned round = 0; round < t->rounds; round++) {
		struct mapping *m = &t->map[below(t, RANGES)];

		if (!m->pages) {
			map_new(t, m);
			fill_some(t, m);
			continue;
		}
		check(t, m, below(t, m->pages));
		switch (below(t, 10)) {
		case 0:
			check_all(t, m);
			unmap_part(t, m);
			break;
		case 1:
			remap(t, m);
			break;
		case 2:
			protect(t, m);
			break;
		case 3:
			guard(t, m);
			break;
		case 4:
			advise(t, m);
			break;
		case 5:
			map_over(t, m);
			break;
		default:
			fill_some(t, m);
		}
	}
	for (unsigned i = 0; i < RANGES; i++) {
		struct mapping *m = &t->map[i];

		if (!m->pages)
			continue;
		must(!mprotect(m->base, (size_t)m->pages * PAGE, RW));
		m->prot = RW;
		check_all(t, m);
		must(!munmap(m->base, (size_t)m->pages * PAGE));
	}
	return NULL;
}

static int storm(unsigned threads, unsigned rounds)
{
	struct thread *all = calloc(threads, sizeof(*all));

	must(all);
	fprintf(stderr, "maps: seed %llu\n", seed_given);
	for (unsigned i = 0; i < threads; i++) {
		all[i].random = seed_given * 2654435761u + i * 40503u + 1;
		all[i].rounds = rounds;
		all[i].id = i;
		must(!pthread_create(&all[i].thread, NULL, storm_thread, &all[i]));
	}
	for (unsigned i = 0; i < threads; i++)
		must(!pthread_join(all[i].thread, NULL));
	free(all);
	must(moved);
	return 0;
}

/* --- the rules --- */

static unsigned char *map(size_t pages, int prot)
{
	unsigned char *p = mmap(NULL, pages * PAGE, prot, ANON, -1, 0);

	must(p != MAP_FAILED);
	return p;
}

static void fill(unsigned char *p, size_t pages, uint32_t value)
{
	for (size_t i = 0; i < pages; i++)
		page_write(p + i * PAGE, value + (uint32_t)i);
}

static void holds(unsigned char *p, size_t pages, uint32_t value)
{
	for (size_t i = 0; i < pages; i++)
		must(page_holds(p + i * PAGE, value + (uint32_t)i));
}

/* More than any limit that this is run under: what was there before has to go. */
static void press(void)
{
	const size_t pages = 16384;
	unsigned char *p = map(pages, RW);

	fill(p, pages, 77);
	holds(p, pages, 77);
	must(!munmap(p, pages * PAGE));
}

#define fails(call, error) must((call) && errno == (error))
#define not_mapped(call, error) must((call) == MAP_FAILED && errno == (error))

static void holes(void)
{
	unsigned char vec[8], *p = map(8, RW);

	fill(p, 8, 5);
	must(!munmap(p + 3 * PAGE, 2 * PAGE));
	must(!readable(p + 3 * PAGE) && !writable(p + 5 * PAGE - 1));
	holds(p, 3, 5);
	holds(p + 5 * PAGE, 3, 10);
	fails(mincore(p, 8 * PAGE, vec), ENOMEM);
	must(!mincore(p, 3 * PAGE, vec));
	fails(mprotect(p, 8 * PAGE, RW), ENOMEM);
	fails(madvise(p, 8 * PAGE, MADV_DONTNEED), ENOMEM);
	must(page_holds(p, 0) && page_holds(p + 7 * PAGE, 0));
	not_mapped(mremap(p, 8 * PAGE, 16 * PAGE, MREMAP_MAYMOVE), EFAULT);
	/* What is not there can be unmapped. */
	must(!munmap(p, 8 * PAGE) && !munmap(p, 8 * PAGE));
	must(!readable(p));
}

/* As many pages as 32 bits can count, and one. */
#define HUGE_BYTES (((size_t)PAGE << 32) + PAGE)

/* It is all there, or not at all. */
static void larger_than_all(void)
{
	unsigned char *p = mmap(NULL, HUGE_BYTES, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		must(errno == ENOMEM);
		return;
	}
	must(!mprotect(p + HUGE_BYTES - PAGE, PAGE, RW));
	fill(p + HUGE_BYTES - PAGE, 1, 9);
	holds(p + HUGE_BYTES - PAGE, 1, 9);
	must(!munmap(p, HUGE_BYTES));
}

static void arguments(void)
{
	unsigned char *p = map(4, RW);

	not_mapped(mmap(NULL, 0, RW, ANON, -1, 0), EINVAL);
	not_mapped(mmap(NULL, SIZE_MAX - PAGE, RW, ANON, -1, 0), ENOMEM);
	not_mapped(mmap(p + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
	not_mapped(mmap(NULL, PAGE, RW, MAP_PRIVATE, -1, 0), EBADF);
	not_mapped(mmap(p, PAGE, RW, MAP_PRIVATE | MAP_FIXED, -1, 0), EBADF);
	not_mapped(mmap(p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
	fails(munmap(p + 1, PAGE), EINVAL);
	fails(munmap(p, 0), EINVAL);
	fails(mprotect(p + 1, PAGE, RW), EINVAL);
	fails(mprotect(p, PAGE, 0x40), EINVAL);
	fails(madvise(p + 1, PAGE, MADV_DONTNEED), EINVAL);
	fails(madvise(p, PAGE, 4711), EINVAL);
	fails(madvise(p, PAGE, MADV_REMOVE), EINVAL);
	not_mapped(mremap(p + 1, PAGE, PAGE, 0), EINVAL);
	not_mapped(mremap(p, PAGE, 0, 0), EINVAL);
	not_mapped(mremap(p, 4 * PAGE, 4 * PAGE, MREMAP_FIXED, p), EINVAL);
	not_mapped(mremap(p, 4 * PAGE, 4 * PAGE, MREMAP_FIXED | MREMAP_MAYMOVE, p + PAGE), EINVAL);
	not_mapped(mremap(p, PAGE, 2 * PAGE, 0), ENOMEM);
	must(!mprotect(p, 0, RW) && !madvise(p, 0, MADV_DONTNEED));
	fails(mprotect(p, SIZE_MAX, RW), ENOMEM);
	fails(madvise(p, SIZE_MAX, MADV_DONTNEED), EINVAL);
	not_mapped(mremap(p, 4 * PAGE, HUGE_BYTES, 0), ENOMEM);
	must(!munmap(p, 3 * PAGE + 1) && !readable(p + 3 * PAGE));
}

/* A lock does not keep contents for the next mapping, nor does advice. */
static void leftovers(void)
{
	unsigned char *p = map(64, RW), *again;
	pid_t child;
	int status;

	fill(p, 64, 3);
	if (mlock(p, 32 * PAGE) == 0)
		must(!munmap(p, 64 * PAGE));
	else
		must(!munmap(p, 64 * PAGE));
	p = map(64, RW);
	for (int i = 0; i < 64; i++)
		must(page_holds(p + (size_t)i * PAGE, 0));
	fill(p, 64, 9);
	must(!madvise(p, 64 * PAGE, MADV_DONTFORK));
	must(!munmap(p, 64 * PAGE));
	again = map(64, RW);
	fill(again, 64, 11);
	child = fork();
	must(child >= 0);
	if (!child) {
		holds(again, 64, 11);
		_exit(0);
	}
	must(waitpid(child, &status, 0) == child && status == 0);
	must(!munmap(again, 64 * PAGE));
}

static void guards(void)
{
	const size_t pages = 2048;
	unsigned char *p = map(pages, RW), *heap = aligned_alloc(PAGE, 64 * PAGE), *none;

	must(heap);
	fill(p, pages, 100);
	fill(heap, 64, 200);
	/* With contents, of which nobody may read any. */
	must(!mprotect(p, pages * PAGE, PROT_NONE));
	must(!mprotect(heap + 8 * PAGE, PAGE, PROT_NONE));
	press();
	must(!readable(p + 5 * PAGE) && !readable(heap + 8 * PAGE) && readable(heap + 7 * PAGE));
	/* Those that may only be read. */
	must(!mprotect(p, pages / 2 * PAGE, PROT_READ));
	holds(p, pages / 2, 100);
	press();
	holds(p, pages / 2, 100);
	must(!writable(p) && !readable(p + (pages - 1) * PAGE));
	must(!mprotect(p, pages * PAGE, RW) && !mprotect(heap + 8 * PAGE, PAGE, RW));
	holds(p, pages, 100);
	holds(heap, 64, 200);
	fill(p, pages, 300);
	press();
	holds(p, pages, 300);
	/* Reserved first, given access to later, as allocators do. */
	none = map(1 << 20, PROT_NONE);
	must(!readable(none + 12345 * (size_t)PAGE));
	must(!mprotect(none + 12345 * (size_t)PAGE, 16 * PAGE, RW));
	fill(none + 12345 * (size_t)PAGE, 16, 1);
	must(!readable(none + 12344 * (size_t)PAGE) && !readable(none + 12361 * (size_t)PAGE));
	must(!munmap(none, (size_t)PAGE << 20) && !munmap(p, pages * PAGE));
	free(heap);
}

static void moves(void)
{
	const size_t pages = 3000;
	unsigned char *p = map(pages, RW), *q, *block;

	fill(p, pages, 1000);
	press();
	/* Something is behind it. */
	block = map(1, RW);
	q = mremap(p, pages * PAGE, 2 * pages * PAGE, MREMAP_MAYMOVE);
	must(q != MAP_FAILED);
	holds(q, pages, 1000);
	must(page_holds(q + (2 * pages - 1) * PAGE, 0));
	must(q == p || !readable(p));
	/* Smaller in place, larger in place. */
	must(mremap(q, 2 * pages * PAGE, pages * PAGE, 0) == q);
	must(!readable(q + pages * PAGE));
	press();
	p = mremap(q, pages * PAGE, (pages + 7) * PAGE, MREMAP_MAYMOVE);
	must(p != MAP_FAILED && page_holds(p + (pages + 6) * PAGE, 0));
	holds(p, pages, 1000);
	/* Protected, and to an address that the program has chosen. */
	must(!mprotect(p, (pages + 7) * PAGE, PROT_NONE));
	press();
	q = map(pages + 7, RW);
	must(mremap(p, (pages + 7) * PAGE, (pages + 7) * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q) ==
	     q);
	must(!readable(q) && !readable(p));
	must(!mprotect(q, (pages + 7) * PAGE, RW));
	holds(q, pages, 1000);
	must(!munmap(q, (pages + 7) * PAGE) && !munmap(block, PAGE));
}

/* By the system calls themselves, past libc: what is left is right, and goes on being paged. */
static void bare(void)
{
	const size_t pages = 4096;
	unsigned char *p = map(pages, RW), *other = map(pages, RW);

	fill(p, pages, 50);
	fill(other, pages, 60);
	must(!syscall(SYS_madvise, p, 100 * (size_t)PAGE, MADV_DONTNEED));
	must(!syscall(SYS_munmap, p + 1000 * (size_t)PAGE, 1000 * (size_t)PAGE));
	must(!readable(p + 1500 * (size_t)PAGE));
	for (int i = 0; i < 3; i++) {
		press();
		holds(p + 100 * (size_t)PAGE, 900, 150);
		holds(p + 2000 * (size_t)PAGE, pages - 2000, 2050);
		holds(other, pages, 60);
	}
	must(!munmap(other, pages * PAGE));
	must(!munmap(p, pages * PAGE));
}

static int rules(void)
{
	holes();
	arguments();
	larger_than_all();
	leftovers();
	guards();
	moves();
	bare();
	return 0;
}

/* --- forks --- */

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

static int forks(void)
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

/* --- a profiler --- */

static volatile sig_atomic_t samples;
static unsigned char *table;

/* A handler that looks at memory which may not be there. */
static void on_prof(int sig)
{
	static unsigned at;
	int saved = errno;

	(void)sig;
	at = (at * 1103515245u + 12345u) % 4096;
	if (!page_holds(table + (size_t)at * PAGE, at + 1))
		_exit(3);
	samples++;
	errno = saved;
}

static int profiled(unsigned threads, unsigned rounds)
{
	const struct sigaction action = {.sa_handler = on_prof, .sa_flags = SA_RESTART};
	const struct itimerval often = {{0, 500}, {0, 500}}, never = {0};

	table = map(4096, RW);
	fill(table, 4096, 1);
	must(!sigaction(SIGPROF, &action, NULL) && !setitimer(ITIMER_PROF, &often, NULL));
	must(!storm(threads, rounds));
	must(!setitimer(ITIMER_PROF, &never, NULL) && samples);
	holds(table, 4096, 1);
	return 0;
}

int main(int argc, char **argv)
{
	const struct sigaction action = {.sa_handler = on_segv};

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	if (argc >= 4 && !strcmp(argv[1], "storm")) {
		seed_given = argc > 4 ? strtoull(argv[4], NULL, 0) : (unsigned long long)getpid();
		return storm((unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
	}
	if (argc == 5 && !strcmp(argv[1], "profiled")) {
		seed_given = strtoull(argv[4], NULL, 0);
		return profiled((unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
	}
	if (argc == 2 && !strcmp(argv[1], "rules"))
		return rules();
	if (argc == 2 && !strcmp(argv[1], "fork"))
		return forks();
	fprintf(stderr, "maps: storm THREADS ROUNDS [SEED], rules or fork\n");
	return 2;
}
