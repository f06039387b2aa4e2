/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reads past the page cache (O_DIRECT) into managed memory. The device writes into the page that was there when the read began, without a
 * fault, so weir would not see it: a page that left meanwhile came back as it was before. Therefore the pages are pinned as long as the call lasts, a
 * piece at a time. Writes need nothing: the kernel keeps the page that it was given, with what was in it.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/uio.h>

#include "agent.h"
#include "base/base.h"
#include "os/mem.h"
#include "places.h"

/* Several at once may not be more than a small limit has room for. */
enum { PIECE = 128 << 10, BLOCK = 512 };

/*
 * libc's, which are cancellation points. Found before weir's threads start, which read through here as well, and may not wait for the loader's lock: a thread
 * of the program that has it may wait for them. Until then, and where there is none, the bare call.
 */
static struct {
	ssize_t (*read)(int fd, void *buf, size_t bytes);
	ssize_t (*pread)(int fd, void *buf, size_t bytes, off_t offset);
	ssize_t (*readv)(int fd, const struct iovec *iov, int count);
	ssize_t (*preadv)(int fd, const struct iovec *iov, int count, off_t offset);
	ssize_t (*preadv2)(int fd, const struct iovec *iov, int count, off_t offset, int flags);
	ssize_t (*read_chk)(int fd, void *buf, size_t bytes, size_t room);
	ssize_t (*pread_chk)(int fd, void *buf, size_t bytes, off_t offset, size_t room);
} next; /* (C) from direct_prepare on */

void direct_prepare(void)
{
	next.read = (__typeof__(next.read))dlsym(RTLD_NEXT, "read");
	next.pread = (__typeof__(next.pread))dlsym(RTLD_NEXT, "pread64");
	next.readv = (__typeof__(next.readv))dlsym(RTLD_NEXT, "readv");
	next.preadv = (__typeof__(next.preadv))dlsym(RTLD_NEXT, "preadv64");
	next.preadv2 = (__typeof__(next.preadv2))dlsym(RTLD_NEXT, "preadv64v2");
	next.read_chk = (__typeof__(next.read_chk))dlsym(RTLD_NEXT, "__read_chk");
	next.pread_chk = (__typeof__(next.pread_chk))dlsym(RTLD_NEXT, "__pread64_chk");
}

/* Is it memory of ours that a device may write to? Lengths are multiples of its block then. */
static struct weir *managed(uintptr_t address, size_t bytes)
{
	const void *buf = (const void *)address; // NOLINT(performance-no-int-to-ptr)
	struct weir *weir;

	if (!bytes || bytes % BLOCK)
		return NULL;
	weir = agent_weir();
	return weir && (agent_owns(buf) || place_inside(buf, bytes)) ? weir : NULL;
}

/*
 * May a read be past the page cache? The look at the flag is 160 ns for a read that takes 450 (4 KiB out of the page cache). It is not remembered: the
 * flag is the open file's, of which other descriptors, and other processes, can change it, and a descriptor comes and goes by
 * ways that nobody here sees.
 */
static bool direct_file(int fd)
{
	const int before = errno;
	const long flags = syscall(SYS_fcntl, fd, F_GETFL);

	errno = before;
	return flags >= 0 && (flags & O_DIRECT);
}

static struct weir *direct_weir(int fd, const void *buf, size_t bytes)
{
	struct weir *weir = managed((uintptr_t)buf, bytes);

	return weir && direct_file(fd) ? weir : NULL;
}

static bool pin(struct weir *weir, char *buf, size_t bytes)
{
	char *page = (char *)ALIGN_DOWN((uintptr_t)buf, PAGE_SIZE);
	const size_t all = (size_t)((char *)ALIGN_UP((uintptr_t)buf + bytes, PAGE_SIZE) - page);
	int err = mem_populate(page, all, true);

	/* What may not be written is the kernel's to refuse. */
	return !err && !mapping_foreign(buf, bytes) && !weir_region_pin(weir, buf, bytes, 1);
}

/* offset -1: where the file is. */
static ssize_t read_once(int fd, char *buf, size_t bytes, off_t offset, int flags)
{
	const struct iovec one = {buf, bytes};

	/* The high half of the offset is nothing here. */
	return syscall(SYS_preadv2, fd, &one, 1, offset, 0l, flags);
}

static ssize_t read_pinned(struct weir *weir, int fd, char *buf, size_t bytes, off_t offset,
			   int flags)
{
	size_t done = 0;

	while (done < bytes) {
		const size_t piece = MIN(bytes - done, (size_t)PIECE);
		const bool pinned = pin(weir, buf + done, piece);
		const ssize_t n = read_once(fd, buf + done, piece,
					    offset < 0 ? offset : offset + (off_t)done, flags);
		const int error = errno;

		if (pinned)
			(void)weir_region_unpin(weir, buf + done, piece);
		errno = error;
		if (n < 0)
			return done ? (ssize_t)done : n;
		done += (size_t)n;
		if ((size_t)n < piece)
			break;
	}
	return (ssize_t)done;
}

ssize_t agent_read(int fd, void *buf, size_t bytes);
ssize_t agent_pread(int fd, void *buf, size_t bytes, off_t offset);
ssize_t agent_readv(int fd, const struct iovec *iov, int count);
ssize_t agent_preadv(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t agent_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t agent_read_chk(int fd, void *buf, size_t bytes, size_t room);
ssize_t agent_pread_chk(int fd, void *buf, size_t bytes, off_t offset, size_t room);

ssize_t agent_read(int fd, void *buf, size_t bytes)
{
	struct weir *weir = direct_weir(fd, buf, bytes);

	if (weir)
		return read_pinned(weir, fd, buf, bytes, -1, 0);
	return next.read ? next.read(fd, buf, bytes) : syscall(SYS_read, fd, buf, bytes);
}

ssize_t agent_pread(int fd, void *buf, size_t bytes, off_t offset)
{
	struct weir *weir = offset < 0 ? NULL : direct_weir(fd, buf, bytes);

	if (weir)
		return read_pinned(weir, fd, buf, bytes, offset, 0);
	return next.pread ? next.pread(fd, buf, bytes, offset)
			  : syscall(SYS_pread64, fd, buf, bytes, offset);
}

/* What programs call that are built with _FORTIFY_SOURCE; libc ends who has no room. */
ssize_t agent_read_chk(int fd, void *buf, size_t bytes, size_t room)
{
	return bytes > room && next.read_chk ? next.read_chk(fd, buf, bytes, room)
					     : agent_read(fd, buf, MIN(bytes, room));
}

ssize_t agent_pread_chk(int fd, void *buf, size_t bytes, off_t offset, size_t room)
{
	return bytes > room && next.pread_chk ? next.pread_chk(fd, buf, bytes, offset, room)
					      : agent_pread(fd, buf, MIN(bytes, room), offset);
}

/* Of a file that is read so: one after the other, and each is pinned if it has to be. */
static ssize_t read_each(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	ssize_t done = 0;

	for (int i = 0; i < count; i++) {
		const size_t bytes = iov[i].iov_len;
		const off_t at = offset < 0 ? offset : offset + done;
		struct weir *weir = managed((uintptr_t)iov[i].iov_base, bytes);
		const ssize_t n = weir ? read_pinned(weir, fd, iov[i].iov_base, bytes, at, flags)
				       : read_once(fd, iov[i].iov_base, bytes, at, flags);

		if (n < 0)
			return done ? done : n;
		done += n;
		if ((size_t)n < bytes)
			break;
	}
	return done;
}

static bool any_direct(int fd, const struct iovec *iov, int count)
{
	/* First: a list that is not there is the kernel's to refuse, but for files that are read so. */
	if (!agent_weir() || !direct_file(fd))
		return false;
	for (int i = 0; i < count; i++) {
		if (managed((uintptr_t)iov[i].iov_base, iov[i].iov_len))
			return true;
	}
	return false;
}

ssize_t agent_readv(int fd, const struct iovec *iov, int count)
{
	if (any_direct(fd, iov, count))
		return read_each(fd, iov, count, -1, 0);
	return next.readv ? next.readv(fd, iov, count) : syscall(SYS_readv, fd, iov, count);
}

ssize_t agent_preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
	if (offset >= 0 && any_direct(fd, iov, count))
		return read_each(fd, iov, count, offset, 0);
	/* The high half of the offset comes last, and is nothing here. */
	return next.preadv ? next.preadv(fd, iov, count, offset)
			   : syscall(SYS_preadv, fd, iov, count, offset, 0l);
}

/* Here -1 is where the file is, and less is the kernel's to refuse. */
ssize_t agent_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	if (offset >= -1 && any_direct(fd, iov, count))
		return read_each(fd, iov, count, offset, flags);
	return next.preadv2 ? next.preadv2(fd, iov, count, offset, flags)
			    : syscall(SYS_preadv2, fd, iov, count, offset, 0l, flags);
}

#define NAME(symbol, function, name)                                                               \
	AGENT_EXPORT __typeof__(function) symbol __asm__(name) __attribute__((alias(#function)))
NAME(name_read, agent_read, "read");
NAME(name_read_chk, agent_read_chk, "__read_chk");
NAME(name_pread, agent_pread, "pread");
NAME(name_pread64, agent_pread, "pread64");
NAME(name_pread_chk, agent_pread_chk, "__pread_chk");
NAME(name_pread64_chk, agent_pread_chk, "__pread64_chk");
NAME(name_readv, agent_readv, "readv");
NAME(name_preadv, agent_preadv, "preadv");
NAME(name_preadv64, agent_preadv, "preadv64");
NAME(name_preadv2, agent_preadv2, "preadv2");
NAME(name_preadv64v2, agent_preadv2, "preadv64v2");
