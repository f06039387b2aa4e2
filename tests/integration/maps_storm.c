/* SPDX-License-Identifier: BSD-2-Clause */
/* maps storm: random mappings, each thread's own, and what each page must hold; and the same under a profiler. */
#include <signal.h>
#include <sys/time.h>

#include "maps.h"

enum { RANGES = 24, MOST = 700 };

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

int storm(unsigned threads, unsigned rounds)
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

int profiled(unsigned threads, unsigned rounds)
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
