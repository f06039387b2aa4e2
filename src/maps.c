/* SPDX-License-Identifier: BSD-2-Clause */
#include "maps.h"

#include <errno.h>

#include "instance.h"
#include "os/thread.h"

struct maps_errand {
	struct weir *weir;
	struct region *region;
	uint32_t from, to, count;
};

static uint32_t page_of(const struct region *region, const void *addr)
{
	return (uint32_t)((size_t)((const char *)addr - region->base) >> PAGE_SHIFT);
}

static struct maps_errand of(struct weir *weir, void *addr, uint64_t bytes)
{
	struct region *region = vm_find(&weir->vm, (uintptr_t)addr);

	return (struct maps_errand){.weir = weir,
				    .region = region,
				    .from = page_of(region, addr),
				    .count = (uint32_t)(bytes >> PAGE_SHIFT)};
}

int maps_create(struct weir *weir, uint64_t bytes, char **base)
{
	void *addr;
	int err = weir_region_create(weir, bytes, &addr);

	if (err)
		return err;
	err = region_track(vm_find(&weir->vm, (uintptr_t)addr), false);
	if (!err)
		err = mem_protect_none(addr, bytes);
	if (err)
		(void)weir_region_destroy(weir, addr);
	else
		*base = addr;
	return err;
}

int maps_track(struct weir *weir, void *base)
{
	return region_track(vm_find(&weir->vm, (uintptr_t)base), true);
}

void maps_readable(struct weir *weir, void *addr, uint64_t bytes, bool readable)
{
	const struct maps_errand m = of(weir, addr, bytes);
	THREAD_SIGNALS_BLOCKED;

	region_protect(&weir->vm, m.region, m.from, m.count, readable);
}

int maps_discard(struct weir *weir, void *addr, uint64_t bytes)
{
	/* However long a fork takes: nobody has access any more, so zeroes cannot be written instead. */
	if (!region_discard_beside_forks(weir, addr, bytes, true, true))
		return 0;
	(void)mem_unlock(addr, bytes);
	return region_discard_beside_forks(weir, addr, bytes, true, true);
}

int maps_advise_dontneed(struct weir *weir, void *addr, uint64_t bytes)
{
	return region_discard_beside_forks(weir, addr, bytes, false, true);
}

void maps_forget(struct weir *weir, void *addr, uint64_t bytes)
{
	const struct maps_errand m = of(weir, addr, bytes);
	THREAD_SIGNALS_BLOCKED;

	region_forget(&weir->vm, m.region, m.from, m.count);
	(void)region_wipe(m.region, m.from, m.count, false);
}

int maps_wipe(struct weir *weir, void *addr, uint64_t bytes, bool wiped)
{
	const struct maps_errand m = of(weir, addr, bytes);

	return region_wipe(m.region, m.from, m.count, wiped);
}

void maps_in_child(struct weir *weir, void (*fn)(struct weir *weir))
{
	weir->fork.in_child = fn;
}

static int restore(void *data)
{
	const struct maps_errand *m = data;
	char *addr = page_address(m->region, m->from);
	const size_t bytes = (size_t)m->count << PAGE_SHIFT;
	int err = mem_region_renew(addr, bytes);

	if (err)
		return err;
	return uffd_register(m->region->uffd, addr, bytes, UFFD_MISSING | UFFD_WP) ? 1 : 0;
}

int maps_renew(struct weir *weir, void *addr, uint64_t bytes)
{
	struct maps_errand m = of(weir, addr, bytes);
	int err;

	region_protect(&weir->vm, m.region, m.from, m.count, false);
	err = restore(&m);
	if (!err)
		maps_forget(weir, addr, bytes);
	return err > 0 ? -ENOMEM : err;
}

int maps_restore(struct weir *weir, void *addr, uint64_t bytes)
{
	struct maps_errand m = of(weir, addr, bytes);
	THREAD_SIGNALS_BLOCKED;

	return reclaim_errand(&weir->reclaim, restore, &m);
}

static int move(void *data)
{
	const struct maps_errand *m = data;
	struct reclaim *r = &m->weir->reclaim;
	int err = 0;

	for (uint32_t done = 0, n; done < m->count && !err; done += n) {
		n = MIN(m->count - done, (uint32_t)RUN_MAX);
		err = region_move(&m->weir->vm, r->pager, m->region, m->from + done, m->to + done,
				  n);
		/* What was in the file is in memory now. */
		while (container_above_max(m->weir->containers.root) && reclaim_once(r, r->pager))
			;
	}
	return err;
}

int maps_move(struct weir *weir, void *from, void *to, uint64_t bytes)
{
	struct maps_errand m = of(weir, from, bytes);
	THREAD_SIGNALS_BLOCKED;

	m.to = page_of(m.region, to);
	return reclaim_errand(&weir->reclaim, move, &m);
}
