/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of userfaultfd share: an area under one, threads that touch it, what the page table says. */
#ifndef WEIR_TESTS_UFFD_AREA_H
#define WEIR_TESTS_UFFD_AREA_H

#include "../unit.h"

#include <fcntl.h>

#include "base/atomic.h"
#include "os/thread.h"
#include "os/uffd.h"

enum { PAGES = 64 };
#define BYTES (PAGES * PAGE_SIZE)

static uint64_t features; /* of this kernel */

/* Finds the features. Ends the program with 77 where userfaultfd is not to be had. */
static inline void uffd_probe_or_skip(void)
{
	int err = uffd_probe(&features);

	if (err == -EPERM || err == -ENOSYS) {
		fprintf(stderr, "userfaultfd: %s\n", uffd_advice(err));
		exit(EXIT_SKIP);
	}
}

static inline char *page_of(char *base, unsigned page)
{
	return base + ((size_t)page << PAGE_SHIFT);
}

static inline char *anonymous(size_t bytes)
{
	char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(base != MAP_FAILED);
	assert_int_equal(madvise(base, bytes, MADV_NOHUGEPAGE), 0);
	return base;
}

/* PAGES pages that nobody has touched, under a userfaultfd of their own. */
struct area {
	int fd;
	char *base;
};

static inline struct area area_open(uint64_t wanted, unsigned modes)
{
	struct area a = {.fd = uffd_open(wanted), .base = anonymous(BYTES)};

	assert_true(a.fd >= 0);
	assert_int_equal(uffd_register(a.fd, a.base, BYTES, modes), 0);
	return a;
}

static inline void area_close(struct area *a)
{
	assert_int_equal(uffd_close(a->fd), 0);
	munmap(a->base, BYTES);
}

static inline void need(uint64_t feature, const char *name)
{
	if (!(features & feature))
		skip_because("this kernel has no %s", name);
}

/* What the kernel's page table says of a page that must not be touched. */
enum pte { PTE_PRESENT = 1, PTE_PROTECTED = 2 };

static inline unsigned pte_of(const char *page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &entry, 8, (off_t)((uintptr_t)page >> PAGE_SHIFT) * 8), 8);
	close(fd);
	return (entry >> 63 ? PTE_PRESENT : 0) | (entry >> 57 & 1 ? PTE_PROTECTED : 0);
}

/* A thread that touches one byte once. */
struct toucher {
	pthread_t thread;
	volatile char *at;
	_Atomic int tid;
	bool write;
	char value; /* to write, or what was read */
	_Atomic bool done;
};

static inline void *touch_main(void *arg)
{
	struct toucher *t = arg;

	store_relaxed(&t->tid, thread_id());
	if (t->write)
		*t->at = t->value;
	else
		t->value = *t->at;
	store_release(&t->done, true);
	return NULL;
}

static inline void touch_start(struct toucher *t, char *at, bool write, char value)
{
	t->at = at;
	t->write = write;
	t->value = value;
	store_relaxed(&t->tid, 0);
	store_relaxed(&t->done, false);
	assert_int_equal(pthread_create(&t->thread, NULL, touch_main, t), 0);
}

static inline char touch_end(struct toucher *t)
{
	assert_int_equal(pthread_join(t->thread, NULL), 0);
	return t->value;
}

/* The next fault, which must be one at this page. */
static inline struct uffd_fault next_fault(int fd, const char *page)
{
	struct uffd_fault f = {0};
	int got;

	do {
		got = uffd_read(fd, &f, 1);
	} while (got == 0 || got == -EINTR);
	assert_int_equal(got, 1);
	assert_int_equal(ALIGN_DOWN(f.address, PAGE_SIZE), (uintptr_t)page);
	return f;
}

static char source[BYTES] __attribute__((aligned(PAGE_SIZE)));

static inline void *source_of(char fill)
{
	memset(source, fill, sizeof(source));
	return source;
}

static inline void put_page(struct area *a, unsigned page, char fill, bool protected)
{
	size_t done = 0;

	assert_int_equal(uffd_copy(a->fd, page_of(a->base, page), source_of(fill), PAGE_SIZE,
				   protected, &done),
			 0);
	assert_int_equal(done, PAGE_SIZE);
}

/* A look at what another thread is about to write. */
NO_TSAN static inline char peek(const volatile char *at)
{
	return *at;
}

/* uffd_move, again where it is -EBUSY: so it is too while the kernel itself has a page in its hands, for a moment. Where -EBUSY
 * stays the test ends by its time limit. */
static inline int move_patiently(int fd, char *dst, char *src, size_t bytes, bool holes,
				 size_t *done)
{
	size_t moved = 0, now;
	int err;

	while ((err = uffd_move(fd, dst + moved, src + moved, bytes - moved, holes, &now)) ==
	       -EBUSY) {
		moved += now;
		sched_yield();
	}
	if (done)
		*done = moved + now;
	return err;
}

static sigjmp_buf poisoned;

static inline void on_sigbus(int sig)
{
	(void)sig;
	siglongjmp(poisoned, 1);
}

/* Whether a touch gets SIGBUS. */
static inline bool touch_is_fatal(const volatile char *at)
{
	struct sigaction act = {.sa_handler = on_sigbus}, old;
	volatile bool fatal = true;

	assert_int_equal(sigaction(SIGBUS, &act, &old), 0);
	if (!sigsetjmp(poisoned, 1)) {
		(void)*at;
		fatal = false;
	}
	assert_int_equal(sigaction(SIGBUS, &old, NULL), 0);
	return fatal;
}

#endif
