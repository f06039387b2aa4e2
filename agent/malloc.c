/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * malloc and its family, served by mimalloc out of the agent's region. The names are libc's; what each must do is in
 * malloc(3), posix_memalign(3) and malloc_usable_size(3).
 *
 * mimalloc's own library exports them too, but behind libc's in the order of search: the agent is loaded before
 * both, and hands each call on.
 *
 * A program that is linked with an allocator of its own keeps it: jemalloc and tcmalloc have more functions than these, and what
 * one of theirs has given must not be freed by another's. It gets its memory by mmap, which is managed (mapping.c). What mimalloc
 * has given until that was known goes back to it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <mimalloc.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "base/atomic.h"
#include "base/base.h"

/* The program's own, where it has one. */
static struct {
	bool kept; /* (C) once looked for, which the first malloc does, before there is a second thread */
	bool looked;
	void *(*malloc)(size_t);
	void (*free)(void *);
	void *(*calloc)(size_t, size_t);
	void *(*realloc)(void *, size_t);
	void *(*memalign)(size_t, size_t);
	int (*posix_memalign)(void **, size_t, size_t);
	size_t (*usable)(void *);
} own;

/*
 * What only those two have. The loader has looked for them: the first malloc may be one of libc's own with the lock of its locales, which dlerror
 * takes as well, to say in which language a name was not found.
 */
extern void *mallocx(size_t size, int flags) __attribute__((weak));
extern void *tc_malloc(size_t size) __attribute__((weak));

static bool own_there(void)
{
	return mallocx || tc_malloc;
}

static void own_look(void)
{
	/* Looking a name up may allocate: from mimalloc, then. */
	own.looked = true;
	if (!own_there())
		return;
	own.malloc = (__typeof__(own.malloc))dlsym(RTLD_NEXT, "malloc");
	own.free = (__typeof__(own.free))dlsym(RTLD_NEXT, "free");
	own.calloc = (__typeof__(own.calloc))dlsym(RTLD_NEXT, "calloc");
	own.realloc = (__typeof__(own.realloc))dlsym(RTLD_NEXT, "realloc");
	own.memalign = (__typeof__(own.memalign))dlsym(RTLD_NEXT, "memalign");
	own.posix_memalign = (__typeof__(own.posix_memalign))dlsym(RTLD_NEXT, "posix_memalign");
	own.usable = (__typeof__(own.usable))dlsym(RTLD_NEXT, "malloc_usable_size");
	own.kept = own.malloc && own.free && own.calloc && own.realloc && own.memalign &&
		   own.posix_memalign && own.usable;
}

static inline void ready(void)
{
	if (likely(own.looked))
		return;
	if (!agent.region)
		agent_early();
	own_look();
}

/* Is a block of the program's own allocator? */
static inline bool theirs(const void *ptr)
{
	return unlikely(own.kept) && ptr && !agent_owns(ptr);
}

/* mimalloc does not say so of sizes that nobody can have. */
static inline void *or_no_memory(void *block)
{
	if (unlikely(!block))
		errno = ENOMEM;
	return block;
}

AGENT_EXPORT void *malloc(size_t size)
{
	ready();
	return unlikely(own.kept) ? own.malloc(size) : or_no_memory(mi_malloc(size));
}

AGENT_EXPORT void free(void *ptr)
{
	if (theirs(ptr))
		own.free(ptr);
	else
		mi_free(ptr);
}

AGENT_EXPORT void *calloc(size_t count, size_t size)
{
	ready();
	return unlikely(own.kept) ? own.calloc(count, size) : or_no_memory(mi_calloc(count, size));
}

/* A block of mimalloc's becomes one of the program's. */
static void *realloc_across(void *ptr, size_t size)
{
	void *new = own.malloc(size);

	if (!new)
		return NULL;
	memcpy(new, ptr, MIN(size, mi_usable_size(ptr)));
	mi_free(ptr);
	return new;
}

AGENT_EXPORT void *realloc(void *ptr, size_t size)
{
	ready();
	if (likely(!own.kept))
		return or_no_memory(mi_realloc(ptr, size));
	return !ptr || theirs(ptr) ? own.realloc(ptr, size) : realloc_across(ptr, size);
}

AGENT_EXPORT void *reallocarray(void *ptr, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(ptr, bytes);
}

/*
 * mimalloc 2.0.9 takes it that a block whose size is a power of two, 1 KiB at most, is aligned to that, which it is not in all of its pages. A byte
 * more takes it another way.
 */
static void *aligned(size_t alignment, size_t size)
{
	void *block = mi_memalign(alignment, size);

	if (likely(!((uintptr_t)block & (alignment - 1))))
		return block;
	mi_free(block);
	return mi_memalign(alignment, size + 1);
}

AGENT_EXPORT void *memalign(size_t alignment, size_t size)
{
	ready();
	return unlikely(own.kept) ? own.memalign(alignment, size)
				  : or_no_memory(aligned(alignment, size));
}

AGENT_EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
	/* As libc does: any power of two, any size. */
	return memalign(alignment, size);
}

AGENT_EXPORT int posix_memalign(void **out, size_t alignment, size_t size)
{
	void *block;

	ready();
	if (unlikely(own.kept))
		return own.posix_memalign(out, alignment, size);
	if (alignment % sizeof(void *) || !alignment || (alignment & (alignment - 1)))
		return EINVAL;
	block = aligned(alignment, size);
	if (!block)
		return ENOMEM;
	*out = block;
	return 0;
}

AGENT_EXPORT void *valloc(size_t size)
{
	return memalign(PAGE_SIZE, size);
}

AGENT_EXPORT void *pvalloc(size_t size)
{
	return memalign(PAGE_SIZE, ALIGN_UP(size, PAGE_SIZE));
}

AGENT_EXPORT size_t malloc_usable_size(void *ptr)
{
	return theirs(ptr) ? own.usable(ptr) : mi_malloc_usable_size(ptr);
}
