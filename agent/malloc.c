/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * malloc and its family, served by mimalloc out of the agent's region. The names are libc's; what each must do is in
 * malloc(3), posix_memalign(3) and malloc_usable_size(3).
 *
 * mimalloc's own library exports them too, but behind libc's in the order of search: the agent is loaded before
 * both, and hands each call on.
 */
#include <errno.h>
#include <malloc.h>
#include <mimalloc.h>
#include <stdlib.h>

#include "agent.h"
#include "base/base.h"

static inline void ready(void)
{
	if (unlikely(!agent.region))
		agent_early();
}

AGENT_EXPORT void *malloc(size_t size)
{
	ready();
	return mi_malloc(size);
}

AGENT_EXPORT void free(void *ptr)
{
	mi_free(ptr);
}

AGENT_EXPORT void *calloc(size_t count, size_t size)
{
	ready();
	return mi_calloc(count, size);
}

AGENT_EXPORT void *realloc(void *ptr, size_t size)
{
	ready();
	return mi_realloc(ptr, size);
}

AGENT_EXPORT void *reallocarray(void *ptr, size_t count, size_t size)
{
	ready();
	return mi_reallocarray(ptr, count, size);
}

AGENT_EXPORT void *memalign(size_t alignment, size_t size)
{
	ready();
	return mi_memalign(alignment, size);
}

AGENT_EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
	ready();
	/* As libc does: any power of two, any size. */
	return mi_memalign(alignment, size);
}

AGENT_EXPORT int posix_memalign(void **out, size_t alignment, size_t size)
{
	ready();
	return mi_posix_memalign(out, alignment, size);
}

AGENT_EXPORT void *valloc(size_t size)
{
	ready();
	return mi_valloc(size);
}

AGENT_EXPORT void *pvalloc(size_t size)
{
	ready();
	return mi_pvalloc(size);
}

AGENT_EXPORT size_t malloc_usable_size(void *ptr)
{
	return mi_malloc_usable_size(ptr);
}
