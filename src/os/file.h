/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The temporary file behind the file store: unlinked from the start, so that no end of the process, however it
 * comes, leaves anything behind; never on tmpfs or ramfs, which would be memory.
 */
#ifndef WEIR_OS_FILE_H
#define WEIR_OS_FILE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/base.h"

struct file {
	int fd;
	unsigned unit; /* offsets, lengths and addresses are multiples of this: 512 or 4096 */
	bool direct; /* goes past the page cache; else file_write drops what it wrote from there */
};

/* Opens in dir. -EOPNOTSUPP: dir is in memory. */
int file_temp_open(struct file *file, const char *dir);
void file_close(struct file *file);
/* Which file a descriptor is open on, so that one that was replaced is told apart. */
int file_identity(int fd, dev_t *device, ino_t *inode);
/* All of it or an error: -ENOSPC, -EIO, ...; a short answer of the kernel is tried on, an end of file is -EIO. */
int file_write(const struct file *file, const void *data, size_t bytes, off_t offset);
int file_read(const struct file *file, void *data, size_t bytes, off_t offset);

/* A regular file of the program, to read: its descriptor, or -errno (-EINVAL: not a regular file, or empty). id: which file
 * it is, whatever its name. */
struct file_id {
	uint64_t device, inode, bytes;
};
int file_source_open(const char *path, struct file_id *id);
void file_source_close(int fd);
/* Fills bytes of dst; what lies behind the end of the file is zeroes. 0 or -errno. */
int file_source_read(int fd, void *dst, size_t bytes, off_t offset);

/* A file that lines are appended to, made if need be; writers do not mix what each writes at once. Its descriptor, or -errno. */
int file_append_open(const char *path);
void file_append_close(int fd);
/* All of it, or -errno. */
int file_append(int fd, const void *data, size_t bytes);

#endif
