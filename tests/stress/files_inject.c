/* SPDX-License-Identifier: BSD-2-Clause */
/* Errors of the system, for stress_files.c: see files.h. */
#include <sys/stat.h>
#include <unistd.h>

#include "control/container.h"
#include "files.h"
#include "os/mem.h"
#include "os/uffd.h"
#include "weir/kmap.h"

static struct {
	_Atomic unsigned one_in;
	_Atomic uint64_t calls, done;
} kinds[FAULT_KINDS];
static dev_t device;
static ino_t inode;

void fail(enum fault_kind kind, unsigned one_in)
{
	atomic_store(&kinds[kind].one_in, one_in);
}

void fail_nothing(void)
{
	for (unsigned i = 0; i < FAULT_KINDS; i++)
		fail((enum fault_kind)i, 0);
}

uint64_t failed(enum fault_kind kind)
{
	return atomic_load(&kinds[kind].done);
}

const char *fault_kind_name(enum fault_kind kind)
{
	static const char *const names[FAULT_KINDS] = {
		"reads with EIO",	"short reads",
		"writes with EIO",	"short writes",
		"writes with ENOSPC",	"syncs with EIO",
		"mappings that failed", "protections that failed",
		"punches that failed",	"windows refused",
		"charges refused",	"flushes with EIO"};

	return names[kind];
}

void fail_file(const char *path)
{
	struct stat st;

	CHECK(!stat(path, &st), "stat: %s", strerrorname_np(errno));
	device = st.st_dev;
	inode = st.st_ino;
}

static bool due(enum fault_kind kind)
{
	unsigned one_in = atomic_load(&kinds[kind].one_in);
	uint64_t s;

	if (!one_in)
		return false;
	s = seed ^ (uint64_t)kind << 56 ^ atomic_fetch_add(&kinds[kind].calls, 1);
	if (random_next(&s) % one_in)
		return false;
	atomic_fetch_add(&kinds[kind].done, 1);
	return true;
}

static bool ours(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && st.st_dev == device && st.st_ino == inode;
}

/* Half of it, in units that O_DIRECT takes; the whole of what is not more than one. */
static size_t half(size_t bytes)
{
	return bytes >= 2 * (size_t)PAGE ? bytes / 2 / PAGE * PAGE : bytes;
}

ssize_t __real_pread64(int fd, void *data, size_t bytes, off_t offset);
ssize_t __wrap_pread64(int fd, void *data, size_t bytes, off_t offset);
ssize_t __real_pwrite64(int fd, const void *data, size_t bytes, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t bytes, off_t offset);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_sync_file_range(int fd, off_t offset, off_t bytes, unsigned flags);
int __wrap_sync_file_range(int fd, off_t offset, off_t bytes, unsigned flags);
int __real_uffd_continue(int fd, void *addr, size_t bytes, bool write_protected, size_t *done);
int __wrap_uffd_continue(int fd, void *addr, size_t bytes, bool write_protected, size_t *done);
int __real_uffd_writeprotect(int fd, void *addr, size_t bytes, bool protect);
int __wrap_uffd_writeprotect(int fd, void *addr, size_t bytes, bool protect);
int __real_mem_shared_punch(int fd, size_t offset, size_t bytes);
int __wrap_mem_shared_punch(int fd, size_t offset, size_t bytes);
int __real_weir_kmap_fault(struct weir_kmap *kmap, uint64_t range, void **addr);
int __wrap_weir_kmap_fault(struct weir_kmap *kmap, uint64_t range, void **addr);
bool __real_container_try(struct weir_container *c, enum charge_kind kind, uint64_t bytes);
bool __wrap_container_try(struct weir_container *c, enum charge_kind kind, uint64_t bytes);

ssize_t __wrap_pread64(int fd, void *data, size_t bytes, off_t offset)
{
	if (ours(fd) && due(READ_ERROR)) {
		errno = EIO;
		return -1;
	}
	if (ours(fd) && due(READ_SHORT))
		bytes = half(bytes);
	return __real_pread64(fd, data, bytes, offset);
}

ssize_t __wrap_pwrite64(int fd, const void *data, size_t bytes, off_t offset)
{
	if (ours(fd) && due(WRITE_ERROR)) {
		errno = EIO;
		return -1;
	}
	if (ours(fd) && due(WRITE_FULL)) {
		errno = ENOSPC;
		return -1;
	}
	if (ours(fd) && due(WRITE_SHORT))
		bytes = half(bytes);
	return __real_pwrite64(fd, data, bytes, offset);
}

int __wrap_fdatasync(int fd)
{
	if (due(SYNC_ERROR)) {
		errno = EIO;
		return -1;
	}
	return __real_fdatasync(fd);
}

/* The disk refuses what is in the system's cache, which is let go: the file has what it had before, here zeroes. */
int __wrap_sync_file_range(int fd, off_t offset, off_t bytes, unsigned flags)
{
	static const char zeroes[PAGE];

	if (!ours(fd) || !due(FLUSH_ERROR))
		return __real_sync_file_range(fd, offset, bytes, flags);
	for (off_t at = offset; at < offset + bytes; at += PAGE)
		CHECK(__real_pwrite64(
			      fd, zeroes,
			      (size_t)(offset + bytes - at < PAGE ? offset + bytes - at : PAGE),
			      at) > 0,
		      "pwrite: %s", strerrorname_np(errno));
	errno = EIO;
	return -1;
}

int __wrap_uffd_continue(int fd, void *addr, size_t bytes, bool write_protected, size_t *done)
{
	size_t part = bytes / 2 / PAGE * PAGE;

	if (!due(MAP_ERROR))
		return __real_uffd_continue(fd, addr, bytes, write_protected, done);
	if (done)
		*done = 0;
	if (part && __real_uffd_continue(fd, addr, part, write_protected, done))
		return -EEXIST;
	return -ENOMEM;
}

int __wrap_uffd_writeprotect(int fd, void *addr, size_t bytes, bool protect)
{
	return due(PROTECT_ERROR) ? -ENOENT : __real_uffd_writeprotect(fd, addr, bytes, protect);
}

int __wrap_mem_shared_punch(int fd, size_t offset, size_t bytes)
{
	return due(PUNCH_ERROR) ? -ENOMEM : __real_mem_shared_punch(fd, offset, bytes);
}

int __wrap_weir_kmap_fault(struct weir_kmap *kmap, uint64_t range, void **addr)
{
	return due(NO_WINDOW) ? -ENOMEM : __real_weir_kmap_fault(kmap, range, addr);
}

bool __wrap_container_try(struct weir_container *c, enum charge_kind kind, uint64_t bytes)
{
	return kind == CHARGE_FILE && due(NO_CHARGE) ? false : __real_container_try(c, kind, bytes);
}
