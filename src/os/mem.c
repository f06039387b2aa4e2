/* SPDX-License-Identifier: BSD-2-Clause */
#include "os/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomic.h"

/* The system calls themselves: in a program under weir run, the names of libc are the agent's, which come here. */
static int advise(void *addr, size_t bytes, int advice)
{
	return syscall(SYS_madvise, addr, bytes, advice) ? -errno : 0;
}

enum { ANON = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, HUGE_PAGE = 2 << 20 };

static void *map_file(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
#ifdef SYS_mmap2
	/* What is called mmap there takes one pointer, to all of this. In units of 4 KiB, whatever a page is. */
	const long addr =
		syscall(SYS_mmap2, at, bytes, prot, flags, fd, (unsigned long)(offset >> 12));
#else
	const long addr = syscall(SYS_mmap, at, bytes, prot, flags, fd, offset);
#endif

	return addr == -1 ? NULL : (void *)addr; // NOLINT(performance-no-int-to-ptr): as libc does
}

static void *map(void *at, size_t bytes, int prot, int flags)
{
	return map_file(at, bytes, prot, flags, -1, 0);
}

static void unmap(void *addr, size_t bytes)
{
	(void)syscall(SYS_munmap, addr, bytes);
}

void *mem_reserve(size_t bytes)
{
	return map(NULL, bytes, PROT_NONE, ANON);
}

int mem_commit(void *addr, size_t bytes)
{
	if (syscall(SYS_mprotect, addr, bytes, PROT_READ | PROT_WRITE))
		return -errno;
	/* Not every kernel has them, so the answer does not matter. */
	(void)advise(addr, bytes, MADV_NOHUGEPAGE);
	return 0;
}

/* As documented in madvise(2); older headers do not have them. */
enum { POPULATE_READ = 22, POPULATE_WRITE = 23 };

int mem_populate(void *addr, size_t bytes, bool write)
{
	return advise(addr, bytes, write ? POPULATE_WRITE : POPULATE_READ);
}

int mem_discard(void *addr, size_t bytes)
{
	return advise(addr, bytes, MADV_DONTNEED);
}

int mem_decommit(void *addr, size_t bytes)
{
	int err = advise(addr, bytes, MADV_DONTNEED);

	/* Not by a new mapping over it: where that fails, the old one may be gone, and the reservation has a hole. The
	 * memory is back already; where the protection fails, the range is only not guarded. */
	if (!err)
		(void)mem_protect_none(addr, bytes);
	return err;
}

/* ThreadSanitizer does not see these calls: what one thread gives back, another one may get. */
static char given_back;

void mem_release(void *addr, size_t bytes)
{
	tsan_release(&given_back);
	if (addr)
		unmap(addr, bytes);
}

void *mem_alloc(size_t bytes)
{
	void *addr = map(NULL, bytes, PROT_READ | PROT_WRITE, ANON);

	tsan_acquire(&given_back);
	/* Huge pages would put memory behind tables that are meant to stay mostly empty. Not every kernel
	 * has them, so the answer does not matter. */
	if (addr)
		(void)advise(addr, bytes, MADV_NOHUGEPAGE);
	return addr;
}

void *mem_alloc_lowest(size_t bytes)
{
	/* vm.mmap_min_addr is 64 KiB nearly everywhere; programs begin at 4 MiB, if not far above. */
	for (uintptr_t at = 64 << 10; at < (2 << 20); at += 64 << 10) {
		void *addr =
			map((void *)at, bytes, PROT_READ | PROT_WRITE, ANON | MAP_FIXED_NOREPLACE);

		if (addr == (void *)at)
			return addr;
		/* A kernel that does not know the flag (before 4.17) puts it elsewhere. */
		mem_release(addr, bytes);
	}
	return NULL;
}

static char *map_aligned(size_t bytes, size_t align)
{
	char *wide = map(NULL, bytes + align, PROT_READ | PROT_WRITE, ANON);
	char *addr;

	if (!wide)
		return NULL;
	addr = (char *)ALIGN_UP((uintptr_t)wide, align);
	if (addr > wide)
		unmap(wide, (size_t)(addr - wide));
	unmap(addr + bytes, align - (size_t)(addr - wide));
	return addr;
}

void *mem_region_map(size_t bytes, size_t align)
{
	char *addr = map_aligned(bytes, align);

	if (addr)
		(void)advise(addr, bytes, MADV_NOHUGEPAGE);
	return addr;
}

void *mem_buffer_alloc(size_t bytes)
{
	char *addr = map_aligned(bytes, HUGE_PAGE);

	if (addr)
		/* Pinned by a read while somebody forks, it would be copied there and then. */
		(void)(advise(addr, bytes, MADV_HUGEPAGE) | advise(addr, bytes, MADV_DONTFORK));
	return addr;
}

int mem_region_renew(void *addr, size_t bytes)
{
	if (!map(addr, bytes, PROT_NONE, ANON | MAP_FIXED))
		return -errno;
	(void)advise(addr, bytes, MADV_NOHUGEPAGE);
	return 0;
}

int mem_protect_none(void *addr, size_t bytes)
{
	return syscall(SYS_mprotect, addr, bytes, PROT_NONE) ? -errno : 0;
}

int mem_unlock(void *addr, size_t bytes)
{
	return syscall(SYS_munlock, addr, bytes) ? -errno : 0;
}

int mem_self_open(void)
{
	int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int mem_self_read(int fd, const void *addr, void *to, size_t bytes)
{
	const ssize_t got = pread(fd, to, bytes, (off_t)(uintptr_t)addr);

	return got == (ssize_t)bytes ? 0 : got < 0 ? -errno : -EFAULT;
}

int mem_file_open(uint64_t bytes)
{
	int fd = memfd_create("weir-frames", MFD_CLOEXEC);
	int err;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

void mem_file_close(int fd)
{
	close(fd);
}

int64_t mem_file_size(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? -errno : st.st_size;
}

int mem_file_punch(int fd, uint64_t offset, uint64_t bytes)
{
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)bytes) == 0 ||
	    errno == EOPNOTSUPP || errno == ENODEV)
		return 0;
	return -errno;
}

int mem_window_map(void *addr, size_t bytes, int fd, uint64_t offset)
{
	int err;

	if (map_file(addr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		     (off_t)offset))
		return 0;
	err = -errno;
	/* Should the old mapping be gone: into a hole a stranger's mmap could go. */
	(void)mem_window_hide(addr, bytes);
	return err;
}

int mem_window_hide(void *addr, size_t bytes)
{
	return map(addr, bytes, PROT_NONE, ANON | MAP_FIXED) ? 0 : -errno;
}

/* -1: the kernel does not do it. Else how many bytes were dropped. */
static ssize_t scatter_drop(int pidfd, const struct iovec *runs, unsigned count)
{
	return syscall(SYS_process_madvise, pidfd, runs, (size_t)count, MADV_DONTNEED, 0u);
}

void mem_dropper_init(struct mem_dropper *dropper)
{
	char *page = mem_alloc(PAGE_SIZE);

	dropper->scatter = false;
	dropper->pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0u);
	if (page && dropper->pidfd >= 0) {
		struct iovec run = {page, PAGE_SIZE};

		*page = 1;
		dropper->scatter =
			scatter_drop(dropper->pidfd, &run, 1) == (ssize_t)PAGE_SIZE && *page == 0;
	}
	mem_release(page, PAGE_SIZE);
}

void mem_dropper_close(struct mem_dropper *dropper)
{
	if (dropper->pidfd >= 0)
		close(dropper->pidfd);
	dropper->pidfd = -1;
}

int mem_drop(const struct mem_dropper *dropper, const struct iovec *runs, unsigned count)
{
	enum { MOST = 1024 }; /* UIO_MAXIOV */
	unsigned at = 0;

	while (dropper->scatter && at < count) {
		ssize_t done =
			scatter_drop(dropper->pidfd, runs + at, MIN(count - at, (unsigned)MOST));

		if (done < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (done <= 0)
			break;
		/* Runs are dropped whole or not at all: a short count ends at the border of one. */
		while (at < count && done >= (ssize_t)runs[at].iov_len)
			done -= (ssize_t)runs[at++].iov_len;
	}
	for (; at < count; at++) {
		int err = mem_discard(runs[at].iov_base, runs[at].iov_len);

		if (err)
			return err;
	}
	return 0;
}

int mem_shared_create(size_t bytes)
{
	int fd = memfd_create("weir", MFD_CLOEXEC);

	if (fd >= 0 && ftruncate(fd, (off_t)bytes)) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd < 0 ? -errno : fd;
}

static void *shared_map(int fd, size_t bytes, int prot)
{
	void *addr = map_file(NULL, bytes, prot, MAP_SHARED, fd, 0);

	if (addr && advise(addr, bytes, MADV_DONTFORK)) {
		unmap(addr, bytes);
		return NULL;
	}
	return addr;
}

void *mem_shared_map(int fd, size_t bytes)
{
	return shared_map(fd, bytes, PROT_READ | PROT_WRITE);
}

void *mem_shared_region_map(int fd, size_t bytes, bool write)
{
	return shared_map(fd, bytes, write ? PROT_READ | PROT_WRITE : PROT_READ);
}

int mem_published_create(size_t bytes, void **addr)
{
	enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL };
	int fd = memfd_create("weir-statistics", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *at = MAP_FAILED;
	int err;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) == 0)
		at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	err = at == MAP_FAILED ? -errno : advise(at, bytes, MADV_DONTFORK);
	/* After the mapping: future writes are those by new ones. */
	if (!err && fcntl(fd, F_ADD_SEALS, SEALS))
		err = -errno;
	if (!err) {
		*addr = at;
		return fd;
	}
	if (at != MAP_FAILED)
		munmap(at, bytes);
	close(fd);
	return err;
}

int mem_shared_write(int fd, const void *from, size_t bytes, size_t offset)
{
	size_t at = 0;

	while (at < bytes) {
		ssize_t n = pwrite(fd, (const char *)from + at, bytes - at, (off_t)(offset + at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 || errno == ENOMEM || errno == ENOSPC ? -EAGAIN : -errno;
		at += (size_t)n;
	}
	return 0;
}

int mem_shared_punch(int fd, size_t offset, size_t bytes)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			 (off_t)bytes)
		       ? -errno
		       : 0;
}

int mem_resident(void *addr, size_t bytes, uint8_t *resident)
{
	static const unsigned char none[8];
	unsigned char vec[8192];
	size_t pages = bytes >> PAGE_SHIFT;

	memset(resident, 0, DIV_UP(pages, 8));
	for (size_t at = 0; at < pages; at += ARRAY_SIZE(vec)) {
		size_t n = MIN(ARRAY_SIZE(vec), pages - at);

		if (syscall(SYS_mincore, (char *)addr + (at << PAGE_SHIFT), n << PAGE_SHIFT, vec))
			return -errno;
		for (size_t i = 0; i < n; i++) {
			/* Where nothing is, as nearly everywhere, eight at a time. */
			if (i % 8 == 0 && n - i >= 8 && !memcmp(&vec[i], none, sizeof(none))) {
				i += 7;
				continue;
			}
			resident[(at + i) / 8] |= (uint8_t)((vec[i] & 1) << ((at + i) % 8));
		}
	}
	return 0;
}

uint64_t mem_address_space(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX
									       : limit.rlim_cur;
}

uint64_t mem_machine(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* A line of /proc/self/status, in bytes; 0 when the kernel does not tell. */
static uint64_t status_bytes(const char *name)
{
	char text[4096];
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t got;
	const char *line;

	if (fd < 0)
		return 0;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got <= 0)
		return 0;
	text[got] = '\0';
	line = strstr(text, name);
	return line ? strtoull(line + strlen(name), NULL, 10) << 10 : 0;
}

uint64_t mem_peak_rss(void)
{
	return status_bytes("VmHWM:");
}

uint64_t mem_locked(void)
{
	return status_bytes("VmLck:");
}
