/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory of the process: reserving, committing, dropping. The contract, as for every function here: addresses and
 * lengths are multiples of the page size; fresh memory reads as zeroes; 0 is success, else -errno.
 */
#ifndef WEIR_OS_MEM_H
#define WEIR_OS_MEM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/base.h"

/* Address space without memory behind it and without access. NULL: none to be had. */
void *mem_reserve(size_t bytes) MUST_CHECK;
/* A reserved range becomes readable and writable; memory comes with the first touch, never as huge pages. */
int mem_commit(void *addr, size_t bytes);
/* What an access to each page would do, without one: where that would be a signal, an error. -EINVAL: Linux before 5.14, or
 * memory without that access; -EHWPOISON or -EFAULT: an access would be SIGBUS. */
int mem_populate(void *addr, size_t bytes, bool write);
/* Contents gone, memory back to the system; the range stays committed. */
int mem_discard(void *addr, size_t bytes);
/* Back to a reservation; memory returned. */
int mem_decommit(void *addr, size_t bytes);
void mem_release(void *addr, size_t bytes);
/* Committed memory that is no huge page's: tables and buffers of weir's own. NULL: none to be had. */
void *mem_alloc(size_t bytes) MUST_CHECK;
/* The same, below all other memory of the process: a fork copies in the order of addresses. NULL: no room there. */
void *mem_alloc_lowest(size_t bytes) MUST_CHECK;
/* Address space for a region: private, readable, writable, never huge pages, at a multiple of align. */
void *mem_region_map(size_t bytes, size_t align) MUST_CHECK;

/* An unlinked file in memory, sparse, of so many bytes. Its descriptor, or -errno. */
int mem_file_open(uint64_t bytes);
void mem_file_close(int fd);
/* Bytes that a file has, or -errno. */
int64_t mem_file_size(int fd);
/* Contents gone, memory back to the system. 0 also for a file that cannot do it: it has memory of its own. */
int mem_file_punch(int fd, uint64_t offset, uint64_t bytes);

/* Windows on a file, in a reservation: a part of the file is readable and writable there, in place of what was; and nothing
 * is there any more, with the address space kept. Either takes effect in all threads before it returns. */
int mem_window_map(void *addr, size_t bytes, int fd, uint64_t offset);
int mem_window_hide(void *addr, size_t bytes);

/* A buffer of whole huge pages, where the system has them: a disk that is read into it is handed few large pieces. A child of fork
 * does not have it. */
void *mem_buffer_alloc(size_t bytes) MUST_CHECK;
/* A region's address space as mem_region_map gave it, over whatever is there by now, without access. */
int mem_region_renew(void *addr, size_t bytes);
/* Without access, until it is committed again; contents stay. */
int mem_protect_none(void *addr, size_t bytes);
/* What was locked (mlock) may go again. */
int mem_unlock(void *addr, size_t bytes);
/* The process's memory as a file, for pages that nobody may read where they stand. A descriptor, or -errno. */
int mem_self_open(void) MUST_CHECK;
/* 0, or -EFAULT and others: it cannot be read so either. */
int mem_self_read(int fd, const void *addr, void *to, size_t bytes);

/* Drops scattered pages in one go: one process_madvise where the kernel takes it (6.13 and later), else one
 * madvise a run. */
struct mem_dropper {
	int pidfd; /* (C) of this process, in the table of the threads that use it; -1: by runs */
	bool scatter; /* (C) the kernel does process_madvise(DONTNEED) on oneself */
};
void mem_dropper_init(struct mem_dropper *dropper);
void mem_dropper_close(struct mem_dropper *dropper);
int mem_drop(const struct mem_dropper *dropper, const struct iovec *runs, unsigned count);

/* Memory that can be mapped more than once (a memfd): its descriptor, or -errno. */
int mem_shared_create(size_t bytes) MUST_CHECK;
/* For weir itself, to read and write. NULL: no address space. Not in a child of fork, which would keep all of the memory when it is
 * closed here. */
void *mem_shared_map(int fd, size_t bytes) MUST_CHECK;
/* For a region: not in a child either, which would have no handler. */
void *mem_shared_region_map(int fd, size_t bytes, bool write) MUST_CHECK;
/* One that others may read: the descriptor can be passed on, nobody but this mapping can write it or make it shorter, and a child
 * of fork does not have it. Its descriptor, or -errno. */
int mem_published_create(size_t bytes, void **addr) MUST_CHECK;
/* Contents for a range, which has memory then. Whole pages are neither zeroed nor mapped for that. 0 or -errno; -EAGAIN: there is no
 * memory for it just now. */
int mem_shared_write(int fd, const void *from, size_t bytes, size_t offset);
/* Gives the memory of a range back, from all mappings at once. */
int mem_shared_punch(int fd, size_t offset, size_t bytes);

/* One bit a page in resident[] (pages/8 bytes): is it in memory? */
int mem_resident(void *addr, size_t bytes, uint8_t *resident);
/* Bytes of address space that the process may have (ulimit -v); UINT64_MAX: no limit. */
uint64_t mem_address_space(void);
/* Bytes of memory that the machine has. */
uint64_t mem_machine(void);
/* Peak resident set of this process in bytes, as the kernel counts it; 0 when it does not tell. */
uint64_t mem_peak_rss(void);
/* Bytes that are locked (mlock). */
uint64_t mem_locked(void);

#endif
