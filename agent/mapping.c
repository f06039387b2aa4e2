/* SPDX-License-Identifier: BSD-2-Clause */
#include "mapping.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"
#include "base/lock.h"
#include "base/log.h"
#include "maps.h"
#include "os/mem.h"
#include "os/thread.h"
#include "ranges.h"

/* What a range is, besides PROT_READ, PROT_WRITE and PROT_EXEC. */
enum {
	ACCESS = PROT_READ | PROT_WRITE | PROT_EXEC,
	USED = 8,
	FOREIGN = 16,
	ADVISED = 32, /* the kernel was told something that the next mapping there must not have */
	KEY = 64,     /* a key protects it: not for weir's threads to read */
	LEAVING = 128,
};
/* As many mappings as the kernel allows, and some. 12 bytes each, when they are there. */
enum { ROOM = 128 << 10 };

static struct {
	struct lock lock;
	_Atomic(char *) base; /* (A) NULL: no region yet */
	uint32_t pages;	      /* (C) from then on */
	struct ranges ranges; /* under the lock */
	bool refused;	      /* under the lock: there is none to be had */
	sigset_t before_fork; /* under the lock: of the thread that forks */
} maps = {.lock = LOCK_INIT(RANK_MAPS, "mappings")};

/* --- the kernel's side --- */

static void *kernel_map(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	return (void *)syscall(SYS_mmap, addr, bytes, prot, flags, fd,
			       offset); // NOLINT(performance-no-int-to-ptr)
}

static int kernel_unmap(void *addr, size_t bytes)
{
	return syscall(SYS_munmap, addr, bytes) ? -errno : 0;
}

static int kernel_protect(void *addr, size_t bytes, int prot, int key)
{
	return (key < 0 ? syscall(SYS_mprotect, addr, bytes, prot)
			: syscall(SYS_pkey_mprotect, addr, bytes, prot, key))
		       ? -errno
		       : 0;
}

static int kernel_advise(void *addr, size_t bytes, int advice)
{
	return syscall(SYS_madvise, addr, bytes, advice) ? -errno : 0;
}

static void *failed(int err)
{
	errno = -err;
	return MAP_FAILED;
}

/* --- the region --- */

static char *address(uint32_t page)
{
	return load_relaxed(&maps.base) + ((size_t)page << PAGE_SHIFT);
}

static uint32_t page_of(const void *addr)
{
	return (uint32_t)((size_t)((const char *)addr - load_relaxed(&maps.base)) >> PAGE_SHIFT);
}

static size_t bytes_of(uint32_t pages)
{
	return (size_t)pages << PAGE_SHIFT;
}

bool mapping_touches(const void *addr, size_t bytes)
{
	/* Pairs with the release in region_ready. */
	const char *base = load_acquire(&maps.base);

	return base && (const char *)addr < base + bytes_of(maps.pages) &&
	       ((const char *)addr >= base || bytes > (size_t)(base - (const char *)addr));
}

static bool inside(const void *addr, size_t bytes)
{
	const char *base = load_acquire(&maps.base);
	const size_t all = bytes_of(maps.pages), at = (size_t)((const char *)addr - base);

	return base && at < all && bytes <= all - at;
}

/* The region, made when the first mapping wants it. */
static bool region_ready(struct weir *weir)
{
	uint64_t bytes = MIN(GIB(256), ALIGN_DOWN(mem_address_space() / 4, MIB(2)));
	struct range *table;
	char *base = NULL;

	if (load_acquire(&maps.base))
		return true;
	lock_acquire(&maps.lock);
	if (load_relaxed(&maps.base) || maps.refused)
		goto out;
	for (; bytes >= MIB(16) && maps_create(weir, bytes, &base); bytes /= 2)
		;
	table = base ? mem_alloc(ROOM * sizeof(*table)) : NULL;
	if (!table) {
		log_once("no address space for what the program maps: it is not managed");
		maps.refused = true;
		goto out;
	}
	/* A page at either end is never given away: no range of the program's begins outside and ends inside. */
	maps.pages = (uint32_t)(bytes >> PAGE_SHIFT) - 2;
	ranges_init(&maps.ranges, table, ROOM, maps.pages);
	/* Pairs with the acquires above. */
	store_release(&maps.base, base + PAGE_SIZE);
out:
	lock_release(&maps.lock);
	return load_relaxed(&maps.base) != NULL;
}

static bool may_read(uint32_t what)
{
	return (what & (PROT_READ | PROT_WRITE)) && !(what & KEY);
}

/* The kernel's protection and weir's, of pages that are managed. */
static int protect(struct weir *weir, uint32_t page, uint32_t count, uint32_t was, uint32_t what,
		   int key)
{
	char *addr = address(page);
	int err;

	if (!may_read(what))
		maps_readable(weir, addr, bytes_of(count), false);
	err = kernel_protect(addr, bytes_of(count), (int)(what & ACCESS), key);
	if (may_read(err ? was : what))
		maps_readable(weir, addr, bytes_of(count), true);
	return err;
}

static bool all_free(uint32_t page, uint32_t count)
{
	return ranges_piece(&maps.ranges, page, page + count).pages == count &&
	       !ranges_piece(&maps.ranges, page, page + count).what;
}

/* What was set a moment ago is free again: that takes no room. */
static void must_fit(int err)
{
	if (err)
		panic("a mapping cannot be taken back");
}

/* The pages are used from now on, with access; contents are zero. Under the lock. */
static int use(struct weir *weir, uint32_t page, uint32_t count, uint32_t prot)
{
	int err = ranges_set(&maps.ranges, page, count, USED | prot);

	if (err || !prot)
		return err;
	err = protect(weir, page, count, 0, prot, -1);
	if (err)
		must_fit(ranges_set(&maps.ranges, page, count, 0));
	return err;
}

/* Contents, access and advice of used pages go: as they were before the first mapping. */
static int empty(struct weir *weir, struct range r)
{
	char *addr = address(r.first);
	const size_t bytes = bytes_of(r.pages);

	if (r.what & FOREIGN)
		return maps_restore(weir, addr, bytes);
	if (r.what & ACCESS)
		(void)protect(weir, r.first, r.pages, 0, 0, r.what & KEY ? 0 : -1);
	maps_discard(weir, addr, bytes);
	if (r.what & ADVISED) {
		(void)kernel_advise(addr, bytes, MADV_DOFORK);
		(void)kernel_advise(addr, bytes, MADV_KEEPONFORK);
		(void)kernel_advise(addr, bytes, MADV_DODUMP);
	}
	return 0;
}

/* The same for all of a range, which then is free. Under the lock. */
static int empty_all(struct weir *weir, uint32_t page, uint32_t count)
{
	const uint32_t end = page + count;
	int err = 0;

	while (page < end && !err) {
		const struct range r = ranges_piece(&maps.ranges, page, end);

		if (r.what & USED)
			err = empty(weir, r);
		page += r.pages;
	}
	return err ? err : ranges_set(&maps.ranges, end - count, count, 0);
}

/* munmap of a range inside. Others go on meanwhile, but for the moments that a mark takes. */
static int leave(struct weir *weir, uint32_t page, uint32_t end)
{
	while (page < end) {
		struct range r;
		int err = 0;

		lock_acquire(&maps.lock);
		r = ranges_piece(&maps.ranges, page, end);
		if (r.what & USED)
			err = ranges_set(&maps.ranges, r.first, r.pages, LEAVING);
		lock_release(&maps.lock);
		if (err)
			return err;
		page += r.pages;
		if (!(r.what & USED))
			continue;
		if (empty(weir, r)) {
			/* The range is lost, and nothing else. */
			(void)kernel_unmap(address(r.first), bytes_of(r.pages));
			continue;
		}
		lock_acquire(&maps.lock);
		err = ranges_set(&maps.ranges, r.first, r.pages, 0);
		lock_release(&maps.lock);
		if (err)
			return err;
	}
	return 0;
}

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

	lock_acquire(&maps.lock);
	if (hint && inside(hint, bytes) && !((uintptr_t)hint & PAGE_MASK) &&
	    all_free(page_of(hint), pages))
		at = page_of(hint);
	if (at < 0)
		at = ranges_place(&maps.ranges, pages);
	err = at < 0 ? -ENOMEM : use(weir, (uint32_t)at, pages, (uint32_t)prot);
	lock_release(&maps.lock);
	return err ? NULL : address((uint32_t)at);
}

/* Something of the kernel's in place of what is there; what is there is lost when that has worked. Under the lock. */
static void *map_foreign(struct weir *weir, void *addr, size_t bytes, int prot, int flags, int fd,
			 off_t offset)
{
	const uint32_t page = page_of(addr), count = (uint32_t)(bytes >> PAGE_SHIFT);
	int err = 0;
	void *got;

	/* Nobody reads there while it changes; beyond the end of a file that would be a signal. */
	maps_readable(weir, addr, bytes, false);
	got = kernel_map(addr, bytes, prot, (flags & ~MAP_FIXED_NOREPLACE) | MAP_FIXED, fd, offset);
	if (got == MAP_FAILED) {
		err = -errno;
		for (uint32_t at = page; at < page + count;) {
			const struct range r = ranges_piece(&maps.ranges, at, page + count);

			if ((r.what & USED) && !(r.what & FOREIGN) && may_read(r.what))
				maps_readable(weir, address(r.first), bytes_of(r.pages), true);
			at += r.pages;
		}
		return failed(err);
	}
	maps_forget(weir, addr, bytes);
	if (ranges_set(&maps.ranges, page, count, USED | FOREIGN | ((uint32_t)prot & ACCESS)))
		log_once("too many mappings to keep count of: one will not be usable again");
	return got;
}

static void *map_fixed(struct weir *weir, void *addr, size_t bytes, int prot, int flags, int fd,
		       off_t offset)
{
	const uint32_t page = page_of(addr), count = (uint32_t)(bytes >> PAGE_SHIFT);
	void *got = addr;
	int err;

	if (!inside(addr, bytes))
		return failed(-ENOMEM);
	lock_acquire(&maps.lock);
	if ((flags & MAP_FIXED_NOREPLACE) && !all_free(page, count)) {
		got = failed(-EEXIST);
	} else if (!servable(prot, flags, offset)) {
		got = map_foreign(weir, addr, bytes, prot, flags, fd, offset);
	} else {
		err = empty_all(weir, page, count);
		if (!err)
			err = use(weir, page, count, (uint32_t)prot);
		if (err)
			got = failed(err);
	}
	lock_release(&maps.lock);
	return got;
}

/* Under both names of libc. Headers may make one of the other, so neither is used here. */
void *agent_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);

void *agent_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	const bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
	const size_t bytes = ALIGN_UP(length, PAGE_SIZE);
	struct weir *weir = agent_weir();
	void *got;

	/* What cannot be right is the kernel's to refuse. */
	if (!weir || !bytes || bytes < length || (fixed && ((uintptr_t)addr & PAGE_MASK)))
		return kernel_map(addr, length, prot, flags, fd, offset);
	{
		THREAD_SIGNALS_BLOCKED;

		if (fixed && mapping_touches(addr, bytes))
			return map_fixed(weir, addr, bytes, prot, flags, fd, offset);
		if (!fixed && servable(prot, flags, offset) && region_ready(weir) &&
		    (!addr || mapping_touches(addr, 1) || hint_is_idle(addr))) {
			got = map_new(weir, addr, bytes, prot);
			if (got)
				return got;
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
	int err = 0;

	if (!weir || !bytes || !mapping_touches(addr, bytes) || bytes < length || to < from ||
	    ((uintptr_t)addr & PAGE_MASK))
		return (int)syscall(SYS_munmap, addr, length);
	base = address(0);
	end = address(maps.pages);
	/* A range that reaches beyond: the pages at either end of the region belong to nobody. */
	if (from < base)
		err = kernel_unmap(from, (size_t)(base - PAGE_SIZE - from));
	if (!err && to > end)
		err = kernel_unmap(end + PAGE_SIZE, (size_t)(to - end - (ptrdiff_t)PAGE_SIZE));
	if (err == -EINVAL)
		err = 0;
	if (!err) {
		THREAD_SIGNALS_BLOCKED;

		err = leave(weir, from < base ? 0 : page_of(from),
			    to > end ? maps.pages : page_of(to));
	}
	errno = err ? -err : errno;
	return err ? -1 : 0;
}

/* --- mremap --- */

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

/* To a place of ours that is free and goes with it. */
static void *remap_to(const struct remap *m, uint32_t page)
{
	char *to = address(page), *from = address(m->old.first);
	int err = ranges_set(&maps.ranges, page, m->pages, USED | plain(m->old.what));

	if (err)
		return failed(err);
	/* Without access so far: nobody is there before the contents are. */
	err = maps_move(m->weir, from, to, bytes_of(MIN(m->old.pages, m->pages)));
	if (!err && (m->old.what & ACCESS))
		err = protect(m->weir, page, m->pages, 0, plain(m->old.what), -1);
	if (err) {
		/* What has moved goes back, if it can. */
		(void)maps_move(m->weir, to, from, bytes_of(MIN(m->old.pages, m->pages)));
		(void)empty_all(m->weir, page, m->pages);
		return failed(err);
	}
	if (!(m->flags & MREMAP_DONTUNMAP))
		(void)empty_all(m->weir, m->old.first, m->old.pages);
	return to;
}

/* To an address that the program has chosen outside of the region: there it is the kernel's. */
static void *remap_out(const struct remap *m)
{
	char *from = address(m->old.first);
	const size_t bytes = bytes_of(m->pages);
	void *got = kernel_map(m->to, bytes, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (got == MAP_FAILED)
		return got;
	/* The program's thread may touch it: it faults like any other access. */
	(void)kernel_protect(from, bytes_of(m->old.pages), PROT_READ | PROT_WRITE, -1);
	memcpy(got, from, bytes_of(MIN(m->old.pages, m->pages)));
	(void)kernel_protect(got, bytes, (int)plain(m->old.what), -1);
	if (m->flags & MREMAP_DONTUNMAP) {
		maps_discard(m->weir, from, bytes_of(m->old.pages));
		(void)kernel_protect(from, bytes_of(m->old.pages), (int)plain(m->old.what), -1);
	} else {
		(void)empty_all(m->weir, m->old.first, m->old.pages);
	}
	return got;
}

/* A mapping of the kernel's that lies in the region. */
static void *remap_foreign(const struct remap *m)
{
	char *from = address(m->old.first);
	void *got;

	got = (void *)syscall(SYS_mremap, from, bytes_of(m->old.pages), bytes_of(m->pages),
			      m->flags, m->to); // NOLINT(performance-no-int-to-ptr)
	if (got == MAP_FAILED || (m->flags & MREMAP_DONTUNMAP))
		return got;
	/* Where it was there is a hole now. */
	if (got != from)
		(void)empty_all(m->weir, m->old.first, m->old.pages);
	else if (m->pages < m->old.pages)
		(void)empty_all(m->weir, m->old.first + m->pages, m->old.pages - m->pages);
	return got;
}

/* Something of the kernel's, by its own call, to a fixed place in the region. */
static void *remap_in(const struct remap *m, void *from, size_t bytes)
{
	const uint32_t page = page_of(m->to);
	void *got;

	maps_readable(m->weir, m->to, bytes_of(m->pages), false);
	got = (void *)syscall(SYS_mremap, from, bytes, bytes_of(m->pages), m->flags,
			      m->to); // NOLINT(performance-no-int-to-ptr)
	if (got == MAP_FAILED)
		return got;
	maps_forget(m->weir, m->to, bytes_of(m->pages));
	if (ranges_set(&maps.ranges, page, m->pages, USED | FOREIGN | ACCESS))
		log_once("too many mappings to keep count of: one will not be usable again");
	return got;
}

static void *remap_managed(const struct remap *m)
{
	const uint32_t first = m->old.first, was = m->old.pages;
	int64_t page;
	int err;

	if (m->to && !mapping_touches(m->to, bytes_of(m->pages)))
		return remap_out(m);
	if (m->to) {
		err = empty_all(m->weir, page_of(m->to), m->pages);
		return err ? failed(err) : remap_to(m, page_of(m->to));
	}
	if (!(m->flags & MREMAP_DONTUNMAP)) {
		if (m->pages <= was) {
			err = m->pages < was ? empty_all(m->weir, first + m->pages, was - m->pages)
					     : 0;
			return err ? failed(err) : address(first);
		}
		if (m->pages <= maps.pages - first && all_free(first + was, m->pages - was) &&
		    !(m->old.what & (KEY | ADVISED)))
			return use(m->weir, first + was, m->pages - was, plain(m->old.what))
				       ? failed(-ENOMEM)
				       : address(first);
	}
	if (!(m->flags & MREMAP_MAYMOVE))
		return failed(-ENOMEM);
	page = ranges_place(&maps.ranges, m->pages);
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
	if (m.to && mapping_touches(m.to, bytes) && !inside(m.to, bytes))
		return failed(-ENOMEM);
	lock_acquire(&maps.lock);
	if (!mapping_touches(old, old_bytes)) {
		got = remap_in(&m, old, old_bytes);
	} else {
		m.old = (struct range){0};
		if (inside(old, old_bytes))
			m.old = ranges_piece(&maps.ranges, page_of(old), page_of(old + old_bytes));
		/* One mapping, as the kernel has it. */
		if (!(m.old.what & USED) || bytes_of(m.old.pages) != old_bytes)
			got = failed(-EFAULT);
		else if (!(m.old.what & FOREIGN))
			got = remap_managed(&m);
		else if (m.to && mapping_touches(m.to, bytes))
			got = failed(-ENOMEM);
		else
			got = remap_foreign(&m);
	}
	lock_release(&maps.lock);
	return got;
}

AGENT_EXPORT void *mremap(void *old, size_t old_length, size_t length, int flags, ...)
{
	struct weir *weir = agent_weir();
	void *to = NULL;
	va_list list;

	va_start(list, flags);
	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))
		to = va_arg(list, void *);
	va_end(list);
	if (!weir || (!mapping_touches(old, old_length) &&
		      !((flags & MREMAP_FIXED) && mapping_touches(to, length))))
		return (void *)syscall(SYS_mremap, old, old_length, length, flags,
				       to); // NOLINT(performance-no-int-to-ptr)
	THREAD_SIGNALS_BLOCKED;
	return remap(weir, old, ALIGN_UP(old_length, PAGE_SIZE), ALIGN_UP(length, PAGE_SIZE), flags,
		     to);
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
	if (!inside(addr, bytes))
		return -ENOMEM;
	lock_acquire(&maps.lock);
	end = page_of(addr) + (uint32_t)(bytes >> PAGE_SHIFT);
	for (page = page_of(addr); page < end && !err;) {
		const struct range r = ranges_piece(&maps.ranges, page, end);
		/* Without a key, the one that it has stays. */
		const uint32_t kept = r.what & ~(uint32_t)(key < 0 ? ACCESS : ACCESS | KEY);
		const uint32_t what = kept | (uint32_t)prot | (key > 0 ? KEY : 0);

		page += r.pages;
		if (!(r.what & USED))
			err = -ENOMEM;
		else if (r.what & FOREIGN)
			err = kernel_protect(address(r.first), bytes_of(r.pages), prot, key);
		else
			err = protect(weir, r.first, r.pages, r.what, what, key);
		if (!err)
			err = ranges_set(&maps.ranges, r.first, r.pages, what);
	}
	lock_release(&maps.lock);
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
	char *addr = address(r.first);
	const size_t bytes = bytes_of(r.pages);
	int err;

	switch (advice) {
	case MADV_DONTNEED:
	case MADV_FREE:
		return weir_region_discard(weir, addr, bytes);
	case MADV_DONTFORK:
	case MADV_DOFORK:
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
	case MADV_DONTDUMP:
	case MADV_DODUMP:
		err = kernel_advise(addr, bytes, advice);
		if (!err)
			err = ranges_set(&maps.ranges, r.first, r.pages, r.what | ADVISED);
		return err;
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

	if ((uintptr_t)addr & PAGE_MASK)
		return -EINVAL;
	if (!inside(addr, bytes))
		return -ENOMEM;
	/* They fault like any other access, and that is all they do; nothing may be locked over it. */
	if (advice == ADVICE_POPULATE_READ || advice == ADVICE_POPULATE_WRITE)
		return kernel_advise(addr, bytes, advice);
	lock_acquire(&maps.lock);
	end = page_of(addr) + (uint32_t)(bytes >> PAGE_SHIFT);
	for (page = page_of(addr); page < end && !err;) {
		const struct range r = ranges_piece(&maps.ranges, page, end);

		page += r.pages;
		if (!(r.what & USED))
			hole = true;
		else
			err = r.what & FOREIGN
				      ? kernel_advise(address(r.first), bytes_of(r.pages), advice)
				      : advise_managed(weir, r, advice);
	}
	lock_release(&maps.lock);
	return err ? err : hole ? -ENOMEM : 0;
}

/* --- what is mapped? --- */

AGENT_EXPORT int mincore(void *addr, size_t length, unsigned char *vec)
{
	const size_t bytes = ALIGN_UP(length, PAGE_SIZE);
	bool hole = false;

	if (inside(addr, bytes) && agent_weir()) {
		const uint32_t end = page_of(addr) + (uint32_t)(bytes >> PAGE_SHIFT);
		THREAD_SIGNALS_BLOCKED;

		lock_acquire(&maps.lock);
		for (uint32_t page = page_of(addr); page < end && !hole;) {
			const struct range r = ranges_piece(&maps.ranges, page, end);

			hole = !(r.what & USED);
			page += r.pages;
		}
		lock_release(&maps.lock);
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
	lock_acquire(&maps.lock);
	maps.before_fork = signals;
}

void mapping_after_fork(void)
{
	const sigset_t signals = maps.before_fork;

	lock_release(&maps.lock);
	thread_signals_restore(&signals);
}
