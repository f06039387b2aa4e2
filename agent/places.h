/* SPDX-License-Identifier: BSD-2-Clause */
/* Places in the region for what the program maps (mapping.h): which are used, and how they become used and free. For mapping.c and remap.c. */
#ifndef WEIR_AGENT_PLACES_H
#define WEIR_AGENT_PLACES_H

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/lock.h"
#include "mapping.h"
#include "ranges.h"

/* What a range is, besides PROT_READ, PROT_WRITE and PROT_EXEC. */
enum {
	ACCESS = PROT_READ | PROT_WRITE | PROT_EXEC,
	USED = 8,
	FOREIGN = 16,
	ADVISED = 32, /* the kernel was told something that the next mapping there must not have */
	KEY = 64,     /* a key protects it: not for weir's threads to read */
	LEAVING = 128,
	/* What a child of fork does not have (MADV_DONTFORK), by our doing: a hole that the kernel makes in the region would be for anything to
	 * be mapped in. */
	APART = 256,
	WIPED = 512, /* it has zeroes there: MADV_WIPEONFORK */
};

struct places {
	struct lock lock;
	_Atomic(char *) base; /* (A) NULL: no region yet */
	uint32_t pages;	      /* (C) from then on */
	struct ranges ranges; /* under the lock */
	_Atomic bool locked;  /* (A) the program has locked some of it, at some time */
	bool refused;	      /* under the lock: there is none to be had */
	sigset_t before_fork; /* under the lock: of the thread that forks */
};
extern struct places places;

/* --- the kernel's side --- */

static inline void *kernel_map(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	return (void *)syscall(SYS_mmap, addr, bytes, prot, flags, fd,
			       offset); // NOLINT(performance-no-int-to-ptr)
}

static inline int kernel_unmap(void *addr, size_t bytes)
{
	return syscall(SYS_munmap, addr, bytes) ? -errno : 0;
}

static inline int kernel_protect(void *addr, size_t bytes, int prot, int key)
{
	return (key < 0 ? syscall(SYS_mprotect, addr, bytes, prot)
			: syscall(SYS_pkey_mprotect, addr, bytes, prot, key))
		       ? -errno
		       : 0;
}

static inline int kernel_advise(void *addr, size_t bytes, int advice)
{
	return syscall(SYS_madvise, addr, bytes, advice) ? -errno : 0;
}

static inline void *failed(int err)
{
	errno = -err;
	return MAP_FAILED;
}

/* --- places --- */

static inline char *place_address(uint32_t page)
{
	return load_relaxed(&places.base) + ((size_t)page << PAGE_SHIFT);
}

static inline uint32_t place_page(const void *addr)
{
	return (uint32_t)((size_t)((const char *)addr - load_relaxed(&places.base)) >> PAGE_SHIFT);
}

static inline size_t place_bytes(uint32_t pages)
{
	return (size_t)pages << PAGE_SHIFT;
}

/* The region, made when the first mapping wants it. */
bool places_ready(struct weir *weir);
/* All of it lies in the region. */
bool place_inside(const void *addr, size_t bytes);
/* May weir's threads read it where it is? */
bool place_readable(uint32_t what);
bool place_free(uint32_t page, uint32_t count);

/* Under the lock, all of them; 0 or -errno. */
/* The kernel's protection and weir's, of pages that are managed. key -1: the one that they have. */
int place_protect(struct weir *weir, uint32_t page, uint32_t count, uint32_t was, uint32_t what,
		  int key);
/* The pages are used from now on, with access; contents are zero. */
int place_use(struct weir *weir, uint32_t page, uint32_t count, uint32_t prot);
/* Contents, access and advice of what is used go: as before the first mapping. It is free. Where that fails, what had gone by then is free, and the rest as it was. */
int place_empty(struct weir *weir, uint32_t page, uint32_t count);

/* MADV_DONTFORK and MADV_DOFORK, of what is used; MADV_WIPEONFORK and MADV_KEEPONFORK, of what is managed. */
int place_apart(struct range r, int advice);
int place_wipe(struct weir *weir, struct range r, int advice);

/* The same without the lock, which it takes for moments only: for a range from a page to before another. */
int place_leave(struct weir *weir, uint32_t page, uint32_t end);

#endif
