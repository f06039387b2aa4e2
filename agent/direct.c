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

/* The next definition of a symbol behind the agent's; libc has two names for each, of which headers may make one. */
#define NEXT(type, symbol)                                                                         \
	({                                                                                         \
		static type next_;                                                                 \
		if (!next_)                                                                        \
			next_ = (type)dlsym(RTLD_NEXT, symbol);                                    \
		next_;                                                                             \
	})
typedef ssize_t (*read_fn)(int fd, void *buf, size_t bytes);
typedef ssize_t (*pread_fn)(int fd, void *buf, size_t bytes, off_t offset);
typedef ssize_t (*readv_fn)(int fd, const struct iovec *iov, int count);
typedef ssize_t (*preadv_fn)(int fd, const struct iovec *iov, int count, off_t offset);

/* May the read be past the page cache, into memory of ours? Lengths are multiples of the device's block then. */
static struct weir *direct_weir(int fd, uintptr_t address, size_t bytes)
{
	const void *buf = (const void *)address; // NOLINT(performance-no-int-to-ptr)
	struct weir *weir;
	long flags;

	if (!bytes || bytes % BLOCK)
		return NULL;
	weir = agent_weir();
	if (!weir || !(agent_owns(buf) || place_inside(buf, bytes)))
		return NULL;
	flags = syscall(SYS_fcntl, fd, F_GETFL);
	return flags >= 0 && (flags & O_DIRECT) ? weir : NULL;
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
static ssize_t read_once(int fd, char *buf, size_t bytes, off_t offset)
{
	return offset < 0 ? syscall(SYS_read, fd, buf, bytes)
			  : syscall(SYS_pread64, fd, buf, bytes, offset);
}

static ssize_t read_pinned(struct weir *weir, int fd, char *buf, size_t bytes, off_t offset)
{
	size_t done = 0;

	while (done < bytes) {
		const size_t piece = MIN(bytes - done, (size_t)PIECE);
		const bool pinned = pin(weir, buf + done, piece);
		const ssize_t n = read_once(fd, buf + done, piece,
					    offset < 0 ? offset : offset + (off_t)done);
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
ssize_t agent_read_chk(int fd, void *buf, size_t bytes, size_t room);
ssize_t agent_pread_chk(int fd, void *buf, size_t bytes, off_t offset, size_t room);

ssize_t agent_read(int fd, void *buf, size_t bytes)
{
	struct weir *weir = direct_weir(fd, (uintptr_t)buf, bytes);

	return weir ? read_pinned(weir, fd, buf, bytes, -1) : NEXT(read_fn, "read")(fd, buf, bytes);
}

ssize_t agent_pread(int fd, void *buf, size_t bytes, off_t offset)
{
	struct weir *weir = offset < 0 ? NULL : direct_weir(fd, (uintptr_t)buf, bytes);

	return weir ? read_pinned(weir, fd, buf, bytes, offset)
		    : NEXT(pread_fn, "pread64")(fd, buf, bytes, offset);
}

/* What programs call that are built with _FORTIFY_SOURCE; libc ends who has no room. */
ssize_t agent_read_chk(int fd, void *buf, size_t bytes, size_t room)
{
	typedef ssize_t (*fn)(int, void *, size_t, size_t);

	return bytes > room ? NEXT(fn, "__read_chk")(fd, buf, bytes, room)
			    : agent_read(fd, buf, bytes);
}

ssize_t agent_pread_chk(int fd, void *buf, size_t bytes, off_t offset, size_t room)
{
	typedef ssize_t (*fn)(int, void *, size_t, off_t, size_t);

	return bytes > room ? NEXT(fn, "__pread64_chk")(fd, buf, bytes, offset, room)
			    : agent_pread(fd, buf, bytes, offset);
}

/* One after the other; each is pinned if it has to be. */
static ssize_t read_each(int fd, const struct iovec *iov, int count, off_t offset)
{
	ssize_t done = 0;

	for (int i = 0; i < count; i++) {
		const ssize_t n = offset < 0 ? agent_read(fd, iov[i].iov_base, iov[i].iov_len)
					     : agent_pread(fd, iov[i].iov_base, iov[i].iov_len,
							   offset + done);

		if (n < 0)
			return done ? done : n;
		done += n;
		if ((size_t)n < iov[i].iov_len)
			break;
	}
	return done;
}

static bool any_direct(int fd, const struct iovec *iov, int count)
{
	for (int i = 0; i < count; i++) {
		if (direct_weir(fd, (uintptr_t)iov[i].iov_base, iov[i].iov_len))
			return true;
	}
	return false;
}

ssize_t agent_readv(int fd, const struct iovec *iov, int count)
{
	return any_direct(fd, iov, count) ? read_each(fd, iov, count, -1)
					  : NEXT(readv_fn, "readv")(fd, iov, count);
}

ssize_t agent_preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
	return offset >= 0 && any_direct(fd, iov, count)
		       ? read_each(fd, iov, count, offset)
		       : NEXT(preadv_fn, "preadv64")(fd, iov, count, offset);
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
