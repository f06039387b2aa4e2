/* SPDX-License-Identifier: BSD-2-Clause */
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
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
	if (file->direct && pwrite(file->fd, page, 512, 0) != 512) {
		file->unit = (unsigned)PAGE_SIZE;
		file->direct = errno != ENOSPC &&
			       pwrite(file->fd, page, PAGE_SIZE, 0) == (ssize_t)PAGE_SIZE;
		if (!file->direct)
			(void)fcntl(file->fd, F_SETFL, flags);
	}
	mem_release(page, PAGE_SIZE);
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
	(void)file_identity(fd, &file->device, &file->inode);
	(void)snprintf(file->where, sizeof(file->where), "an unlinked file in %s", dir);
	direct_probe(file);
	return 0;
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
	    inode == file->inode)
		close(file->fd);
	file->fd = -1;
}

/* The page cache is memory too, and nobody's limit would count it. Without O_DIRECT an error of the disk comes only here;
 * then the data is lost with the cache. */
static int cache_flush(const struct file *file, off_t from, off_t bytes)
{
	int err = sync_file_range(file->fd, from, bytes,
				  SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
					  SYNC_FILE_RANGE_WAIT_AFTER)
			  ? -errno
			  : 0;

	(void)posix_fadvise(file->fd, from, bytes, POSIX_FADV_DONTNEED);
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
	return file->direct ? 0 : cache_flush(file, from, (off_t)bytes);
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

int file_source_open(const char *path, struct file_id *id)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int err = fd < 0 || fstat(fd, &st) ? -errno : 0;

	if (!err && (!S_ISREG(st.st_mode) || !st.st_size))
		err = -EINVAL;
	if (err) {
		if (fd >= 0)
			close(fd);
		return err;
	}
	*id = (struct file_id){st.st_dev, st.st_ino, (uint64_t)st.st_size};
	return fd;
}

void file_source_close(int fd)
{
	close(fd);
}

int file_source_read(int fd, void *dst, size_t bytes, off_t offset)
{
	size_t at = 0;

	while (at < bytes) {
		ssize_t got = pread(fd, (char *)dst + at, bytes - at, offset + (off_t)at);

		if (got < 0 && errno != EINTR)
			return -errno;
		if (got == 0)
			break;
		at += got > 0 ? (size_t)got : 0;
	}
	memset((char *)dst + at, 0, bytes - at);
	return 0;
}

int file_identity(int fd, dev_t *device, ino_t *inode)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*device = st.st_dev;
	*inode = st.st_ino;
	return 0;
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
