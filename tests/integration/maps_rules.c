/* SPDX-License-Identifier: BSD-2-Clause */
/* maps rules: one case each: errors, what is mapped, guards, MAP_FIXED, mremap. */
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "maps.h"

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

static unsigned long locked_kb(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	unsigned long kb = 0;
	char line[256];

	must(status);
	while (fgets(line, sizeof(line), status)) {
		if (!strncmp(line, "VmLck:", 6))
			kb = strtoul(line + 6, NULL, 10);
	}
	(void)fclose(status);
	return kb;
}

/* A lock goes with its mapping, also where no page has ever been. */
static void locks(void)
{
	const unsigned long before = locked_kb();
	unsigned char *p = map(64, RW);

	if (mlock2(p, 64 * PAGE, MLOCK_ONFAULT)) {
		must(errno == EPERM || errno == ENOMEM);
		must(!munmap(p, 64 * PAGE));
		return;
	}
	must(locked_kb() == before + 256);
	must(!munmap(p + 8 * PAGE, 8 * PAGE) && locked_kb() == before + 224);
	must(!munmap(p, 64 * PAGE) && locked_kb() == before);
	p = map(64, PROT_NONE);
	/* It fails for what cannot come, and is locked all the same. */
	(void)mlock(p, 64 * PAGE);
	must(!munmap(p, 64 * PAGE) && locked_kb() == before);
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

/* What works leaves errno alone, whatever happens inside; what nobody can have is ENOMEM. */
static void errors(void)
{
	enum { BEFORE = 1234 };
	const size_t pages = 600;
	/* Volatile: compilers refuse what cannot be. */
	const volatile size_t huge = (size_t)-300, many = (size_t)1 << 40;
	void *volatile none;

	for (int i = 0; i < 100; i++) {
		unsigned char *p;

		errno = BEFORE;
		p = mmap(NULL, pages * PAGE, RW, ANON, -1, 0);
		must(p != MAP_FAILED && errno == BEFORE);
		fill(p, pages, 9);
		must(errno == BEFORE);
		must(!munmap(p, 100 * PAGE) && errno == BEFORE);
		must(!madvise(p + 100 * PAGE, 100 * PAGE, MADV_DONTNEED) && errno == BEFORE);
		must(!mprotect(p + 200 * PAGE, 100 * PAGE, PROT_READ) && errno == BEFORE);
		must(mremap(p + 300 * PAGE, 300 * PAGE, 200 * PAGE, 0) == p + 300 * PAGE &&
		     errno == BEFORE);
		must(!munmap(p + 100 * PAGE, 500 * PAGE) && errno == BEFORE);
	}
	none = malloc(huge);
	must(!none && errno == ENOMEM);
	errno = 0;
	none = calloc(many, many);
	must(!none && errno == ENOMEM);
	errno = 0;
	none = aligned_alloc(64, huge);
	must(!none && errno == ENOMEM);
	none = malloc(10);
	errno = 0;
	must(!realloc(none, huge) && errno == ENOMEM);
	free(none);
}

/* What advice malloc memory does not take is refused there, too: who believes in a guard must have one. */
static void advice_on_malloc(void)
{
	enum { NOT_KNOWN = 4711 };
	unsigned char *p = aligned_alloc(PAGE, 4 * (size_t)PAGE);

	must(p);
	fill(p, 4, 3);
	fails(madvise(p, PAGE, NOT_KNOWN), EINVAL);
	fails(madvise(p, PAGE, MADV_REMOVE), EINVAL);
	must(!madvise(p, PAGE, MADV_NORMAL) && !madvise(p, 4 * (size_t)PAGE, MADV_WILLNEED));
	holds(p, 4, 3);
	free(p);
}

/* Of a list that is not there the kernel says so. */
static void no_list(void)
{
	const struct iovec *volatile none =
		(const struct iovec *)16; // NOLINT(performance-no-int-to-ptr)
	int fd = open("/proc/self/exe", O_RDONLY);

	must(fd >= 0);
	fails(readv(fd, none, 1), EFAULT);
	close(fd);
}

/* As many mappings as the kernel allows: what munmap says it has taken away is gone, and what it refuses is as it was. */
static void too_many(void)
{
	const size_t holes = 70000;
	unsigned char *p = map(2 * holes, RW);
	size_t i;

	for (i = 0; i < holes; i++) {
		unsigned char *hole = p + (2 * i + 1) * PAGE;

		*hole = 7;
		if (munmap(hole, PAGE)) {
			must(errno == ENOMEM && *hole == 7 && writable(hole));
			break;
		}
		must(!readable(hole));
	}
	must(i > 1000);
	must(!munmap(p, 2 * holes * PAGE) && !readable(p));
}

int rules(void)
{
	too_many();
	errors();
	advice_on_malloc();
	no_list();
	holes();
	arguments();
	larger_than_all();
	locks();
	leftovers();
	guards();
	moves();
	bare();
	return 0;
}
