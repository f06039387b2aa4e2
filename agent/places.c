/* SPDX-License-Identifier: BSD-2-Clause */
#include "places.h"

#include "base/log.h"
#include "maps.h"
#include "os/mem.h"

/* As many mappings as the kernel allows, and some. 12 bytes each, when they are there. */
enum { ROOM = 128 << 10 };

struct places places = {.lock = LOCK_INIT(RANK_MAPS, "mappings")};

bool mapping_touches(const void *addr, size_t bytes)
{
	/* Pairs with the release in region_ready. */
	const char *base = load_acquire(&places.base);

	return base && (const char *)addr < base + place_bytes(places.pages) &&
	       ((const char *)addr >= base || bytes > (size_t)(base - (const char *)addr));
}

void mapping_locking(const void *addr, size_t bytes)
{
	if (mapping_touches(addr, bytes))
		store_release(&places.locked, true);
}

bool place_inside(const void *addr, size_t bytes)
{
	const char *base = load_acquire(&places.base);
	const size_t all = place_bytes(places.pages), at = (size_t)((const char *)addr - base);

	return base && at < all && bytes <= all - at;
}

bool places_ready(struct weir *weir)
{
	struct range *table;
	char *base = NULL;
	uint64_t bytes;

	if (load_acquire(&places.base))
		return true;
	bytes = MIN(GIB(256), ALIGN_DOWN(mem_address_space() / 4, MIB(2)));
	lock_acquire(&places.lock);
	if (load_relaxed(&places.base) || places.refused)
		goto out;
	for (; bytes >= MIB(16) && maps_create(weir, bytes, &base); bytes /= 2)
		;
	table = base ? mem_alloc(ROOM * sizeof(*table)) : NULL;
	if (!table) {
		log_once("no address space for what the program maps: it is not managed");
		places.refused = true;
		goto out;
	}
	/* A page at either end is never given away: no range of the program's begins outside and ends inside. */
	places.pages = (uint32_t)(bytes >> PAGE_SHIFT) - 2;
	ranges_init(&places.ranges, table, ROOM, places.pages);
	/* Pairs with the acquires above. */
	store_release(&places.base, base + PAGE_SIZE);
out:
	lock_release(&places.lock);
	return load_relaxed(&places.base) != NULL;
}

bool place_readable(uint32_t what)
{
	return (what & (PROT_READ | PROT_WRITE)) && !(what & KEY);
}

int place_protect(struct weir *weir, uint32_t page, uint32_t count, uint32_t was, uint32_t what,
		  int key)
{
	char *addr = place_address(page);
	int err;

	if (!place_readable(what))
		maps_readable(weir, addr, place_bytes(count), false);
	err = kernel_protect(addr, place_bytes(count), (int)(what & ACCESS), key);
	if (place_readable(err ? was : what))
		maps_readable(weir, addr, place_bytes(count), true);
	return err;
}

bool place_free(uint32_t page, uint32_t count)
{
	return ranges_piece(&places.ranges, page, page + count).pages == count &&
	       !ranges_piece(&places.ranges, page, page + count).what;
}

/* What was set a moment ago is free again: that takes no room. */
static void must_fit(int err)
{
	if (err)
		panic("a mapping cannot be taken back");
}

int place_use(struct weir *weir, uint32_t page, uint32_t count, uint32_t prot)
{
	int err = ranges_set(&places.ranges, page, count, USED | prot);

	if (err || !prot)
		return err;
	err = place_protect(weir, page, count, 0, prot, -1);
	if (err)
		must_fit(ranges_set(&places.ranges, page, count, 0));
	return err;
}

/* ENOMEM was not for the kernel's limit: the program has made a hole by the bare system call. */
static bool has_hole(void *addr, size_t bytes)
{
	return syscall(SYS_msync, addr, bytes, MS_ASYNC) && errno == ENOMEM;
}

/*
 * Contents, access and advice of used pages go: as they were before the first mapping. -errno: they are as they were, since the kernel may have
 * as many mappings as it allows, and what this takes is one more. LOST: they have gone, and something of them has not: nothing may be there again.
 */
enum { LOST = 1 };

static int place_empty_one(struct weir *weir, struct range r)
{
	char *addr = place_address(r.first);
	const size_t bytes = place_bytes(r.pages);
	int err = 0;

	if (r.what & FOREIGN)
		return maps_restore(weir, addr, bytes);
	/* Whether pages are there or not: the lock is the mapping's. Pairs with the release in mapping_locking. */
	if (load_acquire(&places.locked) && mem_unlock(addr, bytes) == -ENOMEM &&
	    !has_hole(addr, bytes))
		return -ENOMEM;
	/* What fails first is what makes the range a mapping of its own: the rest takes no more. */
	if (r.what & ACCESS)
		err = place_protect(weir, r.first, r.pages, r.what, 0, r.what & KEY ? 0 : -1);
	if (err == -ENOMEM && has_hole(addr, bytes)) {
		maps_readable(weir, addr, bytes, false);
		err = kernel_unmap(addr, bytes);
		if (!err)
			maps_forget(weir, addr, bytes);
		return err ? err : LOST;
	}
	if (err) {
		/* A part of it may have lost its access before it failed. */
		if (!(r.what & KEY))
			(void)kernel_protect(addr, bytes, (int)(r.what & ACCESS), -1);
		return err;
	}
	err = maps_discard(weir, addr, bytes);
	if (r.what & ADVISED) {
		if (kernel_advise(addr, bytes, MADV_KEEPONFORK) ||
		    kernel_advise(addr, bytes, MADV_DODUMP) || maps_wipe(weir, addr, bytes, false))
			err = LOST;
	}
	return err ? LOST : 0;
}

int place_apart(struct range r, int advice)
{
	const uint32_t what = advice == MADV_DONTFORK ? r.what | APART : r.what & ~(uint32_t)APART;

	return ranges_set(&places.ranges, r.first, r.pages, what | ADVISED);
}

int place_wipe(struct weir *weir, struct range r, int advice)
{
	const bool wiped = advice == MADV_WIPEONFORK;
	char *addr = place_address(r.first);
	const size_t bytes = place_bytes(r.pages);
	int err = kernel_advise(addr, bytes, advice);

	if (!err)
		err = maps_wipe(weir, addr, bytes, wiped);
	return err ? err
		   : ranges_set(&places.ranges, r.first, r.pages,
				(wiped ? r.what | WIPED : r.what & ~(uint32_t)WIPED) | ADVISED);
}

int place_empty(struct weir *weir, uint32_t page, uint32_t count)
{
	const uint32_t end = page + count;
	int err = 0;

	while (page < end && !err) {
		const struct range r = ranges_piece(&places.ranges, page, end);

		if (r.what & USED)
			err = place_empty_one(weir, r);
		else if (r.what)
			/* Lost, or somebody else is just unmapping it, and has not said so to anybody yet. */
			err = -ENOMEM;
		if (err == LOST) {
			if (ranges_set(&places.ranges, r.first, r.pages, LEAVING))
				panic("a mapping that is lost cannot be kept from being used");
			err = -ENOMEM;
		}
		if (!err && r.what)
			err = ranges_set(&places.ranges, r.first, r.pages, 0);
		page += r.pages;
	}
	return err;
}

int place_leave(struct weir *weir, uint32_t page, uint32_t end)
{
	while (page < end) {
		struct range r;
		int err = 0, set;

		lock_acquire(&places.lock);
		r = ranges_piece(&places.ranges, page, end);
		if (r.what & USED)
			err = ranges_set(&places.ranges, r.first, r.pages, LEAVING);
		lock_release(&places.lock);
		if (err)
			return err;
		page += r.pages;
		if (!(r.what & USED))
			continue;
		err = place_empty_one(weir, r);
		/* The range is lost, and nothing else. It is not unmapped: a hole would be for anything to be mapped in. */
		if (err == LOST)
			continue;
		lock_acquire(&places.lock);
		set = ranges_set(&places.ranges, r.first, r.pages, err ? r.what : 0);
		lock_release(&places.lock);
		if (err || set)
			return err ? err : set;
	}
	return 0;
}
