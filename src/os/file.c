/* SPDX-License-Identifier: BSD-2-Clause */
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "os/mem.h"

/* File systems without O_TMPFILE: a name that lives for the moment between the two calls. */
static int open_named(const char *dir)
{
	char name[4096];
	int n = snprintf(name, sizeof(name), "%s/weir-XXXXXX", dir);
	int fd;

	if (n < 0 || (size_t)n >= sizeof(name))
		return -ENAMETOOLONG;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	(void)unlink(name);
	return fd;
}

static int open_unlinked(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)
		return open_named(dir);
	return -errno;
}

static bool in_memory(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return false;
	return (uint32_t)fs.f_type == TMPFS_MAGIC || (uint32_t)fs.f_type == RAMFS_MAGIC;
}

/* O_DIRECT wants multiples of the device's block; which one is found by trying. */
static void direct_probe(struct file *file)
{
	char *page = mem_alloc(PAGE_SIZE);
	int flags = fcntl(file->fd, F_GETFL);

	file->unit = 512;
	file->direct = page && flags >= 0 && fcntl(file->fd, F_SETFL, flags | O_DIRECT) == 0;
	if (file->direct && pwrite(file->fd, page, 512, file->base) != 512) {
		file->unit = (unsigned)PAGE_SIZE;
		file->direct = errno != ENOSPC &&
			       pwrite(file->fd, page, PAGE_SIZE, file->base) == (ssize_t)PAGE_SIZE;
		if (!file->direct)
			(void)fcntl(file->fd, F_SETFL, flags);
	}
	mem_release(page, PAGE_SIZE);
}

void file_unit_set(struct file *file, unsigned unit)
{
	const int flags = fcntl(file->fd, F_GETFL);

	if (file->direct && unit % file->unit && flags >= 0 &&
	    !fcntl(file->fd, F_SETFL, flags & ~O_DIRECT))
		file->direct = false;
	file->unit = unit;
}

int file_temp_open(struct file *file, const char *dir)
{
	int fd = open_unlinked(dir);

	if (fd < 0)
		return fd;
	if (in_memory(fd)) {
		close(fd);
		return -EOPNOTSUPP;
	}
	file->fd = fd;
	file->base = 0;
	file->name[0] = '\0';
	(void)file_identity(fd, &file->device, &file->inode);
	(void)snprintf(file->where, sizeof(file->where), "an unlinked file in %s", dir);
	direct_probe(file);
	return 0;
}

/* --- a file with a name --- */

static const char header[] =
	"weir store 1\nCold pages of a process. To be removed while no process uses it.\n";

/* Is it weir's, or nobody's? */
static int header_check(int fd)
{
	char seen[sizeof(header)] = "";
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EEXIST;
	if (st.st_size && (pread(fd, seen, sizeof(seen), 0) != (ssize_t)sizeof(seen) ||
			   memcmp(seen, header, sizeof(seen))))
		return -EEXIST;
	return 0;
}

static bool name_is(const char *name, dev_t device, ino_t inode)
{
	struct stat st;

	return !stat(name, &st) && st.st_dev == device && st.st_ino == inode;
}

/*
 * Two locks. The one of flock(2) goes when the kernel has done the last input and output of a process that was killed, some milliseconds after it:
 * before that nobody else may write there. The one of fcntl(2) goes with the process, and tells whether it is worth waiting for the
 * other.
 */
static int named_lock(int fd)
{
	enum { PATIENCE_MS = 1000 };
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	for (unsigned ms = 0; flock(fd, LOCK_EX | LOCK_NB); ms++) {
		const struct timespec wait = {.tv_nsec = 1000000};
		struct flock holder = lock;

		if (errno != EWOULDBLOCK)
			return -errno;
		if (ms == PATIENCE_MS || fcntl(fd, F_GETLK, &holder) || holder.l_type != F_UNLCK)
			return -EBUSY;
		nanosleep(&wait, NULL);
	}
	(void)fcntl(fd, F_SETLK, &lock);
	return 0;
}

/* -EAGAIN: its last user removed the name meanwhile. */
static int named_take(int fd, const char *name)
{
	dev_t device;
	ino_t inode;
	int err = named_lock(fd);

	if (err)
		return err;
	err = file_identity(fd, &device, &inode);
	if (err)
		return err;
	return name_is(name, device, inode) ? header_check(fd) : -EAGAIN;
}

int file_named_open(struct file *file, const char *name)
{
	int err = -EAGAIN;

	if (strlen(name) >= sizeof(file->name))
		return -ENAMETOOLONG;
	/* Killed between this and the header it leaves an empty file, which the next one takes. */
	while (err == -EAGAIN) {
		file->fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
		if (file->fd < 0)
			return errno == ELOOP || errno == EISDIR ? -EEXIST : -errno;
		err = named_take(file->fd, name);
		if (err)
			close(file->fd);
	}
	if (err)
		return err;
	file->base = (off_t)PAGE_SIZE;
	strcpy(file->name, name);
	(void)snprintf(file->where, sizeof(file->where), "the file %s", name);
	(void)file_identity(file->fd, &file->device, &file->inode);
	if (pwrite(file->fd, header, sizeof(header), 0) != (ssize_t)sizeof(header))
		err = errno ? -errno : -EIO;
	if (!err) {
		direct_probe(file);
		err = ftruncate(file->fd, file->base) ? -errno : 0;
	}
	if (err)
		file_close(file);
	return err;
}

int file_store_open(struct file *file, const char *place)
{
	const char *dirs[] = {place, "/var/tmp", "/tmp"};
	int err = -ENOENT;

	for (unsigned i = *place ? 0 : 1; i < ARRAY_SIZE(dirs) && err; i++)
		err = file_temp_open(file, dirs[i]);
	return err;
}

bool file_is_folder(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISDIR(st.st_mode);
}

int file_disk_free(const struct file *file, uint64_t *bytes)
{
	struct statvfs fs;

	if (fstatvfs(file->fd, &fs))
		return -errno;
	*bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	return 0;
}

uint64_t file_disk_reserve(const struct file *file)
{
	struct statvfs fs;
	uint64_t all;

	if (fstatvfs(file->fd, &fs))
		return 0;
	all = (uint64_t)fs.f_blocks * fs.f_frsize;
	return MIN(MAX(all / 100, MIB(64)), all / 8);
}

int file_flush(const struct file *file)
{
	return fdatasync(file->fd) ? -errno : 0;
}

void file_close(struct file *file)
{
	dev_t device;
	ino_t inode;

	/* In a table of descriptors that has not got it, its number may be somebody else's. */
	if (file->fd >= 0 && !file_identity(file->fd, &device, &inode) && device == file->device &&
	    inode == file->inode) {
		/* While it is still locked: who has opened it meanwhile looks for the name again. */
		if (file->name[0] && name_is(file->name, device, inode))
			(void)unlink(file->name);
		close(file->fd);
	}
	file->fd = -1;
}

/* The page cache is memory too, and nobody's limit would count it. Without O_DIRECT an error of the disk comes only here;
 * then the data is lost with the cache. */
static int cache_flush(int fd, off_t from, off_t bytes)
{
	int err = sync_file_range(fd, from, bytes,
				  SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
					  SYNC_FILE_RANGE_WAIT_AFTER)
			  ? -errno
			  : 0;

	(void)posix_fadvise(fd, from, bytes, POSIX_FADV_DONTNEED);
	/* Not every file system has the call. */
	return err == -ENOSYS || err == -EINVAL || err == -ESPIPE ? 0 : err;
}

int file_write(const struct file *file, const void *data, size_t bytes, off_t offset)
{
	off_t from = offset;

	for (size_t left = bytes; left;) {
		ssize_t n = pwrite(file->fd, data, left, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data = (const char *)data + n;
		left -= (size_t)n;
		offset += n;
	}
	return file->direct ? 0 : cache_flush(file->fd, from, (off_t)bytes);
}

int file_read(const struct file *file, void *data, size_t bytes, off_t offset)
{
	while (bytes) {
		ssize_t n = pread(file->fd, data, bytes, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data = (char *)data + n;
		bytes -= (size_t)n;
		offset += n;
	}
	return 0;
}

static int regular_open(const char *path, int flags, struct stat *st)
{
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (!fstat(fd, st) && S_ISREG(st->st_mode) && st->st_size)
		return fd;
	close(fd);
	return -EINVAL;
}

int file_source_open(struct file_source *source, const char *path, bool write, struct file_id *id)
{
	const int flags = write ? O_RDWR : O_RDONLY;
	struct stat st = {0}, again = {0};

	source->plain = regular_open(path, flags, &st);
	if (source->plain < 0)
		return source->plain;
	/* The kernel's own readahead would read everything a second time. */
	(void)posix_fadvise(source->plain, 0, 0, POSIX_FADV_RANDOM);
	source->direct = regular_open(path, flags | O_DIRECT, &again);
	/* Another file has got the name in between. */
	if (source->direct >= 0 && (again.st_dev != st.st_dev || again.st_ino != st.st_ino)) {
		close(source->direct);
		source->direct = -1;
	}
	if (id)
		*id = (struct file_id){st.st_dev, st.st_ino, (uint64_t)st.st_size};
	return 0;
}

void file_source_close(struct file_source *source)
{
	if (source->plain >= 0)
		close(source->plain);
	if (source->direct >= 0)
		close(source->direct);
	*source = (struct file_source){-1, -1};
}

/* What goes past the page cache is whole pages; a file system that wants more than that says EINVAL. */
static int way(const struct file_source *source, size_t bytes, size_t at)
{
	return source->direct >= 0 && !((bytes | at) & PAGE_MASK) ? source->direct : source->plain;
}

static bool once_more(const struct file_source *source, int fd)
{
	return errno == EINTR || (errno == EINVAL && fd != source->plain);
}

int file_source_read(const struct file_source *source, void *dst, size_t bytes, off_t offset,
		     uint64_t size)
{
	const size_t there = (uint64_t)offset < size ? MIN(bytes, size - (uint64_t)offset) : 0;
	size_t at = 0;
	bool plain = false;

	while (at < there) {
		/* Up to a page's end also where the file ends before: past the cache only whole pages are read. */
		size_t want = plain ? there - at : ALIGN_UP(there, PAGE_SIZE) - at;
		int fd = plain ? source->plain : way(source, want, at);
		ssize_t got = pread(fd, (char *)dst + at, want, offset + (off_t)at);

		if (got < 0 && !once_more(source, fd))
			return -errno;
		if (got == 0)
			return -ESTALE;
		plain = plain || (got < 0 && errno == EINVAL);
		at += got > 0 ? (size_t)got : 0;
	}
	memset((char *)dst + there, 0, bytes - there);
	return 0;
}

int file_source_write(const struct file_source *source, const void *src, size_t bytes, off_t offset,
		      uint64_t size)
{
	const size_t all = (uint64_t)offset < size ? MIN(bytes, size - (uint64_t)offset) : 0;
	struct stat st;
	size_t there, at = 0;
	bool plain = false, cached = false;
	int err;

	/* Written behind its end it would grow again, with a hole in it. */
	if (fstat(source->plain, &st))
		return -errno;
	there = offset < st.st_size ? MIN(all, (size_t)(st.st_size - offset)) : 0;
	while (at < there) {
		size_t whole = ALIGN_DOWN(there - at, PAGE_SIZE);
		size_t want = whole && !plain ? whole : there - at;
		int fd = plain ? source->plain : way(source, want, at);
		ssize_t n = pwrite(fd, (const char *)src + at, want, offset + (off_t)at);

		if (n < 0 && !once_more(source, fd))
			return -errno;
		if (n == 0)
			return -EIO;
		plain = plain || (n < 0 && errno == EINVAL);
		at += n > 0 ? (size_t)n : 0;
		cached = cached || (n > 0 && fd == source->plain);
	}
	/* While the caller has it still: what the disk refuses later is lost with the system's cache, and told once. */
	err = cached ? cache_flush(source->plain, offset, (off_t)there) : 0;
	return err || there == all ? err : -ESTALE;
}

int file_source_sync(const struct file_source *source)
{
	return fdatasync(source->plain) ? -errno : 0;
}

int file_identity(int fd, dev_t *device, ino_t *inode)
{
	struct stat st = {0};
	int err = fstat(fd, &st) ? -errno : 0;

	*device = st.st_dev;
	*inode = st.st_ino;
	return err;
}

int file_append_open(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);

	return fd < 0 ? -errno : fd;
}

void file_append_close(int fd)
{
	close(fd);
}

int file_append(int fd, const void *data, size_t bytes)
{
	const char *at = data;

	while (bytes) {
		ssize_t n = write(fd, at, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		bytes -= (size_t)n;
	}
	return 0;
}
