/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file behind the file store. A temporary one is unlinked from the start, so that no end of the process, however it
 * comes, leaves anything behind; never on tmpfs or ramfs, which would be memory.
 */
#ifndef WEIR_OS_FILE_H
#define WEIR_OS_FILE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/base.h"

struct file {
	int fd; /* -1: not open */
	dev_t device; /* which file it is, so that a descriptor that is something else by now is not closed */
	ino_t inode;
	unsigned unit; /* offsets, lengths and addresses are multiples of this: 512 or 4096 */
	bool direct; /* goes past the page cache; else file_write drops what it wrote from there */
	char where[4096 + 32]; /* for people */
};

/* Opens a temporary file in dir. -EOPNOTSUPP: dir is in memory. */
int file_temp_open(struct file *file, const char *dir);
/* Opens what a store of that place needs: a temporary file in that folder, else in /var/tmp, else in /tmp. 0, or the errno of the last one. */
int file_store_open(struct file *file, const char *place);
bool file_is_folder(const char *path);
/* Bytes that the disk has left for us. -errno: it does not tell. */
int file_disk_free(const struct file *file, uint64_t *bytes);
/* How much a disk of its size is to have left: a hundredth, at least 64 MiB, but of a small disk an eighth. */
uint64_t file_disk_reserve(const struct file *file);
/* What was written is on the disk. */
int file_flush(const struct file *file);
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
