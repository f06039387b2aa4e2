/* SPDX-License-Identifier: BSD-2-Clause */
/* mremap of what the program has mapped. */
#include <stdarg.h>
#include <string.h>

#include "agent.h"
#include "base/log.h"
#include "maps.h"
#include "os/thread.h"
#include "places.h"

struct remap {
	struct weir *weir;
	struct range old; /* one stretch */
	uint32_t pages;	  /* that it is to have */
	char *to;	  /* where it is to be; NULL: anywhere */
	int flags;
};

/* What it is when nobody has told the kernel anything about it. */
static uint32_t plain(uint32_t what)
{
	return what & ACCESS;
}

/* What was said about forks goes along. */
static int remap_advise(const struct remap *m, uint32_t page)
{
	struct range r = {page, m->pages, USED | plain(m->old.what)};
	int err = 0;

	if (m->old.what & WIPED)
		err = place_wipe(m->weir, r, MADV_WIPEONFORK);
	r = ranges_piece(&places.ranges, page, page + m->pages);
	return err || !(m->old.what & APART) ? err : place_apart(r, MADV_DONTFORK);
}

/* To a place of ours that is free and goes with it. */
static void *remap_to(const struct remap *m, uint32_t page)
{
	char *to = place_address(page), *from = place_address(m->old.first);
	int err = ranges_set(&places.ranges, page, m->pages, USED | plain(m->old.what));

	if (err)
		return failed(err);
	/* Without access so far: nobody is there before the contents are. */
	err = maps_move(m->weir, from, to, place_bytes(MIN(m->old.pages, m->pages)));
	if (!err && (m->old.what & ACCESS))
		err = place_protect(m->weir, page, m->pages, 0, plain(m->old.what), -1);
	if (!err)
		err = remap_advise(m, page);
	if (err) {
		/* What has moved goes back, if it can. */
		(void)maps_move(m->weir, to, from, place_bytes(MIN(m->old.pages, m->pages)));
		(void)place_empty(m->weir, page, m->pages);
		return failed(err);
	}
	if (!(m->flags & MREMAP_DONTUNMAP))
		(void)place_empty(m->weir, m->old.first, m->old.pages);
	return to;
}

/* To an address that the program has chosen outside of the region: there it is the kernel's. */
static void *remap_out(const struct remap *m)
{
	char *from = place_address(m->old.first);
	const size_t bytes = place_bytes(m->pages);
	void *got = kernel_map(m->to, bytes, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (got == MAP_FAILED)
		return got;
	/* The program's thread may touch it: it faults like any other access. */
	(void)kernel_protect(from, place_bytes(m->old.pages), PROT_READ | PROT_WRITE, -1);
	memcpy(got, from, place_bytes(MIN(m->old.pages, m->pages)));
	(void)kernel_protect(got, bytes, (int)plain(m->old.what), -1);
	if (m->flags & MREMAP_DONTUNMAP) {
		(void)maps_discard(m->weir, from, place_bytes(m->old.pages));
		(void)kernel_protect(from, place_bytes(m->old.pages), (int)plain(m->old.what), -1);
	} else {
		(void)place_empty(m->weir, m->old.first, m->old.pages);
	}
	return got;
}

/* A mapping of the kernel's that lies in the region. */
static void *remap_foreign(const struct remap *m)
{
	char *from = place_address(m->old.first);
	void *got;

	got = (void *)syscall(SYS_mremap, from, place_bytes(m->old.pages), place_bytes(m->pages),
			      m->flags, m->to); // NOLINT(performance-no-int-to-ptr)
	if (got == MAP_FAILED || (m->flags & MREMAP_DONTUNMAP))
		return got;
	/* Where it was there is a hole now. */
	if (got != from)
		(void)place_empty(m->weir, m->old.first, m->old.pages);
	else if (m->pages < m->old.pages)
		(void)place_empty(m->weir, m->old.first + m->pages, m->old.pages - m->pages);
	return got;
}

/* Something of the kernel's, by its own call, to a fixed place in the region. */
static void *remap_in(const struct remap *m, void *from, size_t bytes)
{
	const uint32_t page = place_page(m->to);
	void *got;

	maps_readable(m->weir, m->to, place_bytes(m->pages), false);
	got = (void *)syscall(SYS_mremap, from, bytes, place_bytes(m->pages), m->flags,
			      m->to); // NOLINT(performance-no-int-to-ptr)
	if (got == MAP_FAILED)
		return got;
	maps_forget(m->weir, m->to, place_bytes(m->pages));
	if (ranges_set(&places.ranges, page, m->pages, USED | FOREIGN | ACCESS))
		log_once("too many mappings to keep count of: one will not be usable again");
	return got;
}

static void *remap_managed(const struct remap *m)
{
	const uint32_t first = m->old.first, was = m->old.pages;
	int64_t page;
	int err;

	if (m->to && !mapping_touches(m->to, place_bytes(m->pages)))
		return remap_out(m);
	if (m->to) {
		err = place_empty(m->weir, place_page(m->to), m->pages);
		return err ? failed(err) : remap_to(m, place_page(m->to));
	}
	if (!(m->flags & MREMAP_DONTUNMAP)) {
		if (m->pages <= was) {
			err = m->pages < was
				      ? place_empty(m->weir, first + m->pages, was - m->pages)
				      : 0;
			return err ? failed(err) : place_address(first);
		}
		if (m->pages <= places.pages - first && place_free(first + was, m->pages - was) &&
		    !(m->old.what & (KEY | ADVISED)))
			return place_use(m->weir, first + was, m->pages - was, plain(m->old.what))
				       ? failed(-ENOMEM)
				       : place_address(first);
	}
	if (!(m->flags & MREMAP_MAYMOVE))
		return failed(-ENOMEM);
	page = ranges_place(&places.ranges, m->pages);
	return page < 0 ? failed(-ENOMEM) : remap_to(m, (uint32_t)page);
}

/* What the kernel would refuse, of what can be told by the arguments. */
static bool remap_wrong(const char *old, size_t old_bytes, size_t bytes, int flags, const char *to)
{
	const int known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;

	return ((uintptr_t)old & PAGE_MASK) || !bytes || !old_bytes || (flags & ~known) ||
	       ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && !(flags & MREMAP_MAYMOVE)) ||
	       ((flags & MREMAP_DONTUNMAP) && old_bytes != bytes) ||
	       ((flags & MREMAP_FIXED) &&
		(((uintptr_t)to & PAGE_MASK) || (to < old + old_bytes && old < to + bytes)));
}

static void *remap(struct weir *weir, char *old, size_t old_bytes, size_t bytes, int flags,
		   char *to)
{
	struct remap m = {.weir = weir,
			  .pages = (uint32_t)(bytes >> PAGE_SHIFT),
			  .to = flags & MREMAP_FIXED ? to : NULL,
			  .flags = flags};
	void *got;

	if (remap_wrong(old, old_bytes, bytes, flags, to))
		return failed(-EINVAL);
	if (bytes > place_bytes(places.pages) ||
	    (m.to && mapping_touches(m.to, bytes) && !place_inside(m.to, bytes)))
		return failed(-ENOMEM);
	lock_acquire(&places.lock);
	if (!mapping_touches(old, old_bytes)) {
		got = remap_in(&m, old, old_bytes);
	} else {
		m.old = (struct range){0};
		if (place_inside(old, old_bytes))
			m.old = ranges_piece(&places.ranges, place_page(old),
					     place_page(old + old_bytes));
		/* One mapping, as the kernel has it. */
		if (!(m.old.what & USED) || place_bytes(m.old.pages) != old_bytes)
			got = failed(-EFAULT);
		else if (!(m.old.what & FOREIGN))
			got = remap_managed(&m);
		else if (m.to && mapping_touches(m.to, bytes))
			got = failed(-ENOMEM);
		else
			got = remap_foreign(&m);
	}
	lock_release(&places.lock);
	return got;
}

AGENT_EXPORT void *mremap(void *old, size_t old_length, size_t length, int flags, ...)
{
	struct weir *weir = agent_weir();
	const int before = errno;
	void *to = NULL, *got;
	va_list list;

	va_start(list, flags);
	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))
		to = va_arg(list, void *);
	va_end(list);
	/* Malloc memory stays where it is: pages that are not in memory would not go along. */
	if (weir && (agent_owns(old) || ((flags & MREMAP_FIXED) && agent_owns(to))))
		return failed(-EFAULT);
	if (!weir || (!mapping_touches(old, old_length) &&
		      !((flags & MREMAP_FIXED) && mapping_touches(to, length))))
		return (void *)syscall(SYS_mremap, old, old_length, length, flags,
				       to); // NOLINT(performance-no-int-to-ptr)
	THREAD_SIGNALS_BLOCKED;
	got = remap(weir, old, ALIGN_UP(old_length, PAGE_SIZE), ALIGN_UP(length, PAGE_SIZE), flags,
		    to);
	if (got != MAP_FAILED)
		errno = before;
	return got;
}
