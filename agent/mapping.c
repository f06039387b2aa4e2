/* SPDX-License-Identifier: BSD-2-Clause */
#include "mapping.h"

#include "agent.h"
#include "base/log.h"
#include "maps.h"
#include "os/thread.h"
#include "places.h"

/* --- mmap --- */

static bool servable(int prot, int flags, off_t offset)
{
	const int refused = MAP_STACK | MAP_GROWSDOWN | MAP_HUGETLB | MAP_LOCKED | MAP_32BIT;

	return (flags & MAP_TYPE) == MAP_PRIVATE && (flags & MAP_ANONYMOUS) && !(flags & refused) &&
	       !(prot & ~ACCESS) && !(offset & (off_t)PAGE_MASK);
}

/* An address that allocators ask for to have many mappings near each other, and where nothing else is by itself: what they
 * get elsewhere is as good. Any other address may matter: it is the kernel's to give. */
static bool hint_is_idle(const void *addr)
{
	return (uintptr_t)addr >> 40 && (uintptr_t)addr >> 40 < 64;
}

/* Memory anywhere, or where the hint says if that is free. NULL: not to be had here. */
static void *map_new(struct weir *weir, void *hint, size_t bytes, int prot)
{
	const uint32_t pages = (uint32_t)(bytes >> PAGE_SHIFT);
	int64_t at = -1;
	int err;

	/* More than a number of pages can say is among it. */
	if (bytes > place_bytes(places.pages))
		return NULL;
	lock_acquire(&places.lock);
	if (hint && place_inside(hint, bytes) && !((uintptr_t)hint & PAGE_MASK) &&
	    place_free(place_page(hint), pages))
		at = place_page(hint);
	if (at < 0)
		at = ranges_place(&places.ranges, pages);
	err = at < 0 ? -ENOMEM : place_use(weir, (uint32_t)at, pages, (uint32_t)prot);
	lock_release(&places.lock);
	return err ? NULL : place_address((uint32_t)at);
}

/* Something of the kernel's in place of what is there; what is there is lost when that has worked. Under the lock. */
static void *map_foreign(struct weir *weir, void *addr, size_t bytes, int prot, int flags, int fd,
			 off_t offset)
{
	const uint32_t page = place_page(addr), count = (uint32_t)(bytes >> PAGE_SHIFT);
	int err = 0;
	void *got;

	/* Nobody reads there while it changes; beyond the end of a file that would be a signal. */
	maps_readable(weir, addr, bytes, false);
	got = kernel_map(addr, bytes, prot, (flags & ~MAP_FIXED_NOREPLACE) | MAP_FIXED, fd, offset);
	if (got == MAP_FAILED) {
		err = -errno;
		for (uint32_t at = page; at < page + count;) {
			const struct range r = ranges_piece(&places.ranges, at, page + count);

			if ((r.what & USED) && !(r.what & FOREIGN) && place_readable(r.what))
				maps_readable(weir, place_address(r.first), place_bytes(r.pages),
					      true);
			at += r.pages;
		}
		return failed(err);
	}
	maps_forget(weir, addr, bytes);
	if (ranges_set(&places.ranges, page, count, USED | FOREIGN | ((uint32_t)prot & ACCESS)))
		log_once("too many mappings to keep count of: one will not be usable again");
	return got;
}

static void *map_fixed(struct weir *weir, void *addr, size_t bytes, int prot, int flags, int fd,
		       off_t offset)
{
	const uint32_t page = place_page(addr), count = (uint32_t)(bytes >> PAGE_SHIFT);
	void *got = addr;
	int err;

	if (!place_inside(addr, bytes))
		return failed(-ENOMEM);
	lock_acquire(&places.lock);
	if ((flags & MAP_FIXED_NOREPLACE) && !place_free(page, count)) {
		got = failed(-EEXIST);
	} else if (!servable(prot, flags, offset)) {
		got = map_foreign(weir, addr, bytes, prot, flags, fd, offset);
	} else {
		err = place_empty(weir, page, count);
		if (!err)
			err = place_use(weir, page, count, (uint32_t)prot);
		if (err)
			got = failed(err);
	}
	lock_release(&places.lock);
	return got;
}

/* --- over malloc memory --- */

/* What of a range is malloc's; empty: nothing. */
static size_t heap_part(void *addr, size_t bytes, char **part)
{
	char *from = MAX((char *)addr, agent.region);
	char *to = MIN((char *)addr + bytes, agent.region + agent.region_bytes);

	*part = from;
	return from < to ? (size_t)(to - from) : 0;
}

/* A program may map over pages of a block, or take them out of it: nobody reads there while that changes, and weir knows nothing of
 * them then. `changed`: whether it did. */
static void heap_changing(struct weir *weir, void *addr, size_t bytes)
{
	char *part;
	const size_t n = heap_part(addr, bytes, &part);

	if (n)
		maps_readable(weir, part, n, false);
}

static void heap_changed(struct weir *weir, void *addr, size_t bytes, bool changed)
{
	char *part;
	const size_t n = heap_part(addr, bytes, &part);

	if (n && changed)
		maps_forget(weir, part, n);
	if (n)
		maps_readable(weir, part, n, true);
}

static void *map_over_heap(struct weir *weir, void *addr, size_t bytes, int prot, int flags, int fd,
			   off_t offset)
{
	void *got;

	heap_changing(weir, addr, bytes);
	got = kernel_map(addr, bytes, prot, flags, fd, offset);
	heap_changed(weir, addr, bytes, got != MAP_FAILED);
	return got;
}

static int unmap_heap(struct weir *weir, void *addr, size_t bytes)
{
	int err;
	THREAD_SIGNALS_BLOCKED;

	heap_changing(weir, addr, bytes);
	err = kernel_unmap(addr, bytes);
	heap_changed(weir, addr, bytes, !err);
	return err;
}

static bool touches_heap(const void *addr, size_t bytes)
{
	char *part;

	return heap_part((void *)(uintptr_t)addr, bytes, &part);
}

/* What mmap returns; errno is as before where it has worked. */
static void *mapped(int before, void *got)
{
	if (got != MAP_FAILED)
		errno = before;
	return got;
}

/* Under both names of libc. Headers may make one of the other, so neither is used here. */
void *agent_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);

void *agent_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	const bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
	const size_t bytes = ALIGN_UP(length, PAGE_SIZE);
	struct weir *weir = agent_weir();
	const int before = errno;
	void *got;

	/* What cannot be right is the kernel's to refuse. */
	if (!weir || !bytes || bytes < length || (fixed && ((uintptr_t)addr & PAGE_MASK)))
		return kernel_map(addr, length, prot, flags, fd, offset);
	{
		THREAD_SIGNALS_BLOCKED;

		if (fixed && mapping_touches(addr, bytes))
			return mapped(before,
				      map_fixed(weir, addr, bytes, prot, flags, fd, offset));
		if ((flags & MAP_FIXED) && touches_heap(addr, bytes))
			return mapped(before,
				      map_over_heap(weir, addr, bytes, prot, flags, fd, offset));
		if (!fixed && servable(prot, flags, offset) && places_ready(weir) &&
		    (!addr || mapping_touches(addr, 1) || hint_is_idle(addr))) {
			got = map_new(weir, addr, bytes, prot);
			if (got)
				return mapped(before, got);
		}
	}
	return kernel_map(addr, length, prot, flags, fd, offset);
}

#define MMAP_NAME(symbol, name)                                                                    \
	AGENT_EXPORT void *symbol(void *addr, size_t length, int prot, int flags, int fd,          \
				  off_t offset) __asm__(name) __attribute__((alias("agent_mmap")))
MMAP_NAME(agent_mmap_plain, "mmap");
MMAP_NAME(agent_mmap_64, "mmap64");

/* --- munmap --- */

AGENT_EXPORT int munmap(void *addr, size_t length)
{
	const size_t bytes = ALIGN_UP(length, PAGE_SIZE);
	struct weir *weir = agent_weir();
	char *from = addr, *to = from + bytes, *base, *end;
	const int before = errno;
	int err = 0;

	if (!weir || !bytes || bytes < length || to < from || ((uintptr_t)addr & PAGE_MASK) ||
	    !(mapping_touches(addr, bytes) || touches_heap(addr, bytes)))
		return (int)syscall(SYS_munmap, addr, length);
	if (!mapping_touches(addr, bytes))
		return agent_answer(before, unmap_heap(weir, addr, bytes));
	base = place_address(0);
	end = place_address(places.pages);
	/* A range that reaches beyond: the pages at either end of the region belong to nobody. */
	if (from < base)
		err = kernel_unmap(from, (size_t)(base - PAGE_SIZE - from));
	if (!err && to > end)
		err = kernel_unmap(end + PAGE_SIZE, (size_t)(to - end - (ptrdiff_t)PAGE_SIZE));
	if (err == -EINVAL)
		err = 0;
	if (!err) {
		THREAD_SIGNALS_BLOCKED;

		err = place_leave(weir, from < base ? 0 : place_page(from),
				  to > end ? places.pages : place_page(to));
	}
	return agent_answer(before, err);
}

/* --- mprotect --- */

int mapping_protect(struct weir *weir, void *addr, size_t length, int prot, int key)
{
	const size_t bytes = ALIGN_UP(length, PAGE_SIZE);
	uint32_t page, end;
	int err = 0;
	THREAD_SIGNALS_BLOCKED;

	if (((uintptr_t)addr & PAGE_MASK) || (prot & ~ACCESS))
		return -EINVAL;
	if (bytes < length || !place_inside(addr, bytes))
		return -ENOMEM;
	lock_acquire(&places.lock);
	end = place_page(addr) + (uint32_t)(bytes >> PAGE_SHIFT);
	for (page = place_page(addr); page < end && !err;) {
		const struct range r = ranges_piece(&places.ranges, page, end);
		/* Without a key, the one that it has stays. */
		const uint32_t kept = r.what & ~(uint32_t)(key < 0 ? ACCESS : ACCESS | KEY);
		const uint32_t what = kept | (uint32_t)prot | (key > 0 ? KEY : 0);

		page += r.pages;
		if (!(r.what & USED))
			err = -ENOMEM;
		else if (r.what & FOREIGN)
			err = kernel_protect(place_address(r.first), place_bytes(r.pages), prot,
					     key);
		else
			err = place_protect(weir, r.first, r.pages, r.what, what, key);
		if (!err)
			err = ranges_set(&places.ranges, r.first, r.pages, what);
	}
	lock_release(&places.lock);
	return err;
}

/* --- madvise --- */

/* As documented in madvise(2) and the kernel's headers; older headers do not have all of them. */
enum {
	ADVICE_COLD = 20,
	ADVICE_PAGEOUT = 21,
	ADVICE_POPULATE_READ = 22,
	ADVICE_POPULATE_WRITE = 23,
};

/* One stretch of managed pages. */
static int advise_managed(struct weir *weir, struct range r, int advice)
{
	char *addr = place_address(r.first);
	const size_t bytes = place_bytes(r.pages);
	int err;

	switch (advice) {
	case MADV_DONTNEED:
	case MADV_FREE:
		return maps_advise_dontneed(weir, addr, bytes);
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
		return place_wipe(weir, r, advice);
	case MADV_DONTDUMP:
	case MADV_DODUMP:
		err = kernel_advise(addr, bytes, advice);
		return err ? err : ranges_set(&places.ranges, r.first, r.pages, r.what | ADVISED);
	case MADV_WILLNEED:
		return weir_region_advise(weir, addr, bytes, WEIR_ADVICE_WILLNEED);
	case ADVICE_COLD:
	case ADVICE_PAGEOUT:
		return weir_region_advise(weir, addr, bytes, WEIR_ADVICE_COLD);
	case MADV_NORMAL:
	case MADV_RANDOM:
	case MADV_SEQUENTIAL:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
		/* Huge pages and sharing are not for a region; how it is read shows by itself. */
		return 0;
	default:
		/* MADV_REMOVE, which is for shared memory; guards of the kernel's, of which the page states know nothing; what nobody
		 * knows. */
		return -EINVAL;
	}
}

int mapping_advise(struct weir *weir, void *addr, size_t length, int advice)
{
	const size_t bytes = ALIGN_UP(length, PAGE_SIZE);
	uint32_t page, end;
	bool hole = false;
	int err = 0;
	THREAD_SIGNALS_BLOCKED;

	if (((uintptr_t)addr & PAGE_MASK) || bytes < length)
		return -EINVAL;
	if (!place_inside(addr, bytes))
		return -ENOMEM;
	/* They fault like any other access, and that is all they do; nothing may be locked over it. */
	if (advice == ADVICE_POPULATE_READ || advice == ADVICE_POPULATE_WRITE)
		return kernel_advise(addr, bytes, advice);
	lock_acquire(&places.lock);
	end = place_page(addr) + (uint32_t)(bytes >> PAGE_SHIFT);
	for (page = place_page(addr); page < end && !err;) {
		const struct range r = ranges_piece(&places.ranges, page, end);

		page += r.pages;
		if (!(r.what & USED))
			hole = true;
		else if (advice == MADV_DONTFORK || advice == MADV_DOFORK)
			err = place_apart(r, advice);
		else
			err = r.what & FOREIGN ? kernel_advise(place_address(r.first),
							       place_bytes(r.pages), advice)
					       : advise_managed(weir, r, advice);
	}
	lock_release(&places.lock);
	return err ? err : hole ? -ENOMEM : 0;
}

/* --- what is mapped? --- */

bool mapping_foreign(const void *addr, size_t bytes)
{
	bool foreign = false;
	uint32_t page, end;
	THREAD_SIGNALS_BLOCKED;

	if (!place_inside(addr, bytes))
		return false;
	lock_acquire(&places.lock);
	end = place_page((const char *)addr + bytes - 1) + 1;
	for (page = place_page(addr); page < end && !foreign;) {
		const struct range r = ranges_piece(&places.ranges, page, end);

		foreign = (r.what & (FOREIGN | KEY)) || !(r.what & USED);
		page += r.pages;
	}
	lock_release(&places.lock);
	return foreign;
}

AGENT_EXPORT int mincore(void *addr, size_t length, unsigned char *vec)
{
	const size_t bytes = ALIGN_UP(length, PAGE_SIZE);
	bool hole = false;

	if (place_inside(addr, bytes) && agent_weir()) {
		const uint32_t end = place_page(addr) + (uint32_t)(bytes >> PAGE_SHIFT);
		THREAD_SIGNALS_BLOCKED;

		lock_acquire(&places.lock);
		for (uint32_t page = place_page(addr); page < end && !hole;) {
			const struct range r = ranges_piece(&places.ranges, page, end);

			hole = !(r.what & USED);
			page += r.pages;
		}
		lock_release(&places.lock);
	}
	if (!hole)
		return (int)syscall(SYS_mincore, addr, length, vec);
	errno = ENOMEM;
	return -1;
}

/* --- forks --- */

void mapping_before_fork(void)
{
	sigset_t signals;

	thread_signals_block(&signals);
	lock_acquire(&places.lock);
	places.before_fork = signals;
}

void mapping_after_fork(void)
{
	const sigset_t signals = places.before_fork;

	lock_release(&places.lock);
	thread_signals_restore(&signals);
}

/* The next stretch from a page on that a child does not have: apart, or on its way out when the process forked. */
static bool next_missing(uint32_t page, struct range *r)
{
	for (; page < places.pages; page += r->pages) {
		*r = ranges_piece(&places.ranges, page, places.pages);
		if (r->what & (APART | LEAVING))
			return true;
	}
	return false;
}

void mapping_child(struct weir *weir)
{
	struct range r = {0};

	while (next_missing(r.first + r.pages, &r)) {
		int err = maps_renew(weir, place_address(r.first), place_bytes(r.pages));

		if (ranges_set(&places.ranges, r.first, r.pages, err ? LEAVING : 0) || err)
			log_once("a child of fork cannot do without a mapping (%s)",
				 errno_name(err));
	}
}

void mapping_child_plain(void)
{
	struct range r = {0};

	while (next_missing(r.first + r.pages, &r))
		(void)kernel_unmap(place_address(r.first), place_bytes(r.pages));
}
