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
	off_t base;  /* offsets of what is stored begin here */
	char where[4096 + 32]; /* for people */
	char name[4096];       /* of one that has a name, else empty */
};

/* Offsets and lengths are to be multiples of this, 512 or 4096, whatever its disk wants: where that is more, by way of the page cache. */
void file_unit_set(struct file *file, unsigned unit);
/* Opens a temporary file in dir. -EOPNOTSUPP: dir is in memory. */
int file_temp_open(struct file *file, const char *dir);
/*
 * Opens the file of that name, for us alone: made if it is not there, or emptied. It begins with a page that says that it is weir's, so that no other
 * file is ever taken for one; an empty one is nobody's. The lock goes with the process, however that ends. file_close removes
 * the name. -EBUSY: another process has it; -EEXIST: it is not weir's; else what open(2) says.
 */
int file_named_open(struct file *file, const char *name);
/* Opens a temporary file in that folder, else in /var/tmp, else in /tmp. 0, or the errno of the last one. */
int file_store_open(struct file *file, const char *place);
bool file_is_folder(const char *path);
/* Bytes that the disk has left for us. -errno: it does not tell. */
int file_disk_free(const struct file *file, uint64_t *bytes);
/* How much a disk of its size is to have left: a hundredth, at least 64 MiB, but of a small disk an eighth. */
uint64_t file_disk_reserve(const struct file *file);
/* What was written is on the disk. */
int file_flush(const struct file *file);
void file_close(struct file *file);
/* Which file a descriptor is open on, so that one that was replaced is told apart. Zeroes where it is open on none. */
int file_identity(int fd, dev_t *device, ino_t *inode);
/* All of it or an error: -ENOSPC, -EIO, ...; a short answer of the kernel is tried on, an end of file is -EIO. */
int file_write(const struct file *file, const void *data, size_t bytes, off_t offset);
int file_read(const struct file *file, void *data, size_t bytes, off_t offset);

/* Which file it is, whatever its name, and how long it was. */
struct file_id {
	uint64_t device, inode, bytes;
};
/* A regular file of the program, by two descriptors: through the system's page cache, and past it (-1: it cannot). What goes
 * past it is in memory once, not twice. */
struct file_source {
	int plain, direct;
};
/* To read, or to read and write. 0 or the errors of open(2); -EINVAL: not a regular file, or empty. id may be NULL. */
int file_source_open(struct file_source *source, const char *path, bool write, struct file_id *id);
void file_source_close(struct file_source *source);
/*
 * Reads bytes to dst, of a file that is so long; what lies behind the end is zeroes. Multiples of a page, dst and offset too. 0
 * or -errno; -ESTALE: the file has become shorter.
 */
int file_source_read(const struct file_source *source, void *dst, size_t bytes, off_t offset,
		     uint64_t size);
/* Writes them, as far as they lie within the size. 0 or -errno: some may be in the file; -ESTALE: it has become shorter, and
 * has those that lie before its end now. */
int file_source_write(const struct file_source *source, const void *src, size_t bytes, off_t offset,
		      uint64_t size);
/* What was written is on the disk. */
int file_source_sync(const struct file_source *source);

/* A file that lines are appended to, made if need be; writers do not mix what each writes at once. Its descriptor, or -errno. */
int file_append_open(const char *path);
void file_append_close(int fd);
/* All of it, or -errno. */
int file_append(int fd, const void *data, size_t bytes);

#endif
