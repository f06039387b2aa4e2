/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files by way of weir: a page cache of the program's own, with a limit of its own, instead of the system's.
 *
 * A *file* is opened for a container, which pays for the pages that are read or written by it. The pages of one file are
 * cached once, however often it is open in the instance; regions over it (weir_file_map, weir_region_open),
 * weir_file_read and weir_file_write see the same pages, so that what one writes the others read at once. They are read
 * past the system's page cache where the file system can do that (O_DIRECT).
 *
 *     struct weir_file *file;
 *     uint64_t *table, bytes;
 *     int err = weir_file_open(weir_container_root(weir), "table.db", WEIR_FILE_WRITE, &file);
 *     if (!err)
 *             err = weir_file_map(file, (void **)&table, &bytes);
 *     table[7]++;
 *     err = weir_file_sync(file);
 *
 * What is written reaches the file when it is synced or closed, when room is needed, and after five to ten seconds.
 * *Errors* of that are reported as fsync(2) does since Linux 4.16: each region and each open file is told at its next sync, or
 * when it is closed, once. What could not be written (no space, EIO) stays in memory, counts against the limit, and is tried
 * again; it keeps nothing else out of the file. A later sync that returns 0 means that all of it is there. The log says it once.
 *
 * That does not hold where the disk took the pages and then could not *flush* its own cache (the log: "a file cannot be synced"):
 * they are clean by then and are not written again, and a later sync that returns 0 says nothing of them. As with fsync(2): who
 * has written, and is told of an error by a sync, writes it anew, or takes the file for damaged.
 *
 * The size is that of the moment when the file was opened first: it neither grows nor shrinks through weir. Bytes behind it in
 * the last page of a region read as zeroes, and are never written. The file is weir's as long as it is open: what others write to
 * it may not be seen, and may be overwritten. If somebody makes it shorter: pages in memory stay as they are, others cannot be
 * read, and dirty ones behind the new end cannot be written; both is -ESTALE.
 *
 * What a *device* writes past the CPU into a region over a file (read with O_DIRECT, io_uring with that or with registered buffers,
 * libaio, RDMA) may be lost, also where the page stays in memory: that it was written to is known from the fault at the beginning,
 * and a sync, or what is written after five seconds, takes a page for clean that the device goes on writing to; the file does not get
 * the rest, and the page goes without it. Such memory cannot be pinned. Read into other memory, and copy; or use
 * weir_file_write, whose buffer is that memory. Writing from a region by O_DIRECT loses nothing.
 *
 * All functions but weir_file_close may be called by several threads at once on one file. A read beside a write of the same bytes
 * gets some of both, in whole pages.
 */
#ifndef WEIR_FILE_H
#define WEIR_FILE_H

#include <stddef.h>
#include <stdint.h>

#include <weir/api.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir;
struct weir_container;
struct weir_file;

enum weir_file_flags {
	WEIR_FILE_READ = 0,
	WEIR_FILE_WRITE = 1, /* and write */
};

/*
 * Opens a regular file that is there and not empty. The errors of open(2); -EINVAL: no such file, or other flags; -EOPNOTSUPP:
 * before Linux 5.14, to write before 6.4; -ENOTSUP: the instance has signal mode only; -ENOSPC: 64 files, or 16 containers that
 * share one; -ESTALE: it is open, and its size is another by now; -ENOMEM. To be closed before the instance is.
 */
WEIR_API int weir_file_open(struct weir_container *container, const char *path, unsigned flags,
			    struct weir_file **file);
/* Writes what is dirty. 0, or an error of that, which this file was not told of yet: it is closed all the same, and what could
 * not be written stays in memory and is tried again while the instance lives. Regions over it stay. */
WEIR_API int weir_file_close(struct weir_file *file);
WEIR_API uint64_t weir_file_size(const struct weir_file *file);

/*
 * A region over the file, writable if it was opened so; it ends with weir_region_destroy, which returns what weir_file_close
 * would. bytes: the size. A touch of a page that cannot be read, or that there is no room for, is SIGBUS, and the log
 * says why; ask before with weir_file_read. In thread mode, and a child of fork does not have it. -ENOSPC: 16 regions over one file,
 * or too many in all; -ENOMEM.
 */
WEIR_API int weir_file_map(struct weir_file *file, void **addr, uint64_t *bytes);

/*
 * As pread(2) and pwrite(2): any offset, any length. Bytes that were copied: fewer only at the file's end, or where
 * an error comes after the first. -EIO and others of the disk; -ESTALE; -ENOMEM: no room below the limits of the container;
 * writing also -EBADF: not opened for that; -EFBIG: the offset is behind the end. The buffer may lie in a region.
 */
WEIR_API int64_t weir_file_read(struct weir_file *file, void *buffer, uint64_t bytes,
				uint64_t offset);
WEIR_API int64_t weir_file_write(struct weir_file *file, const void *buffer, uint64_t bytes,
				 uint64_t offset);
/* What was written before the call, by anybody, is on the disk when it returns 0, unless an error was told since it was written: see
 * above. Else the error; -EAGAIN: the system could
 * not take write access to some pages away for a second, and they are not written yet. */
WEIR_API int weir_file_sync(struct weir_file *file);

#ifdef __cplusplus
}
#endif

#endif
