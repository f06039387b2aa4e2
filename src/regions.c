/* SPDX-License-Identifier: BSD-2-Clause */
/* Regions as the program sees them (weir/region.h): from an address to a region, and to the thread that may do it. Pins are in
 * pins.c; containers of regions in tenants.c, regions over files in files.c. */
#include <errno.h>
#include <string.h>

#include "instance.h"
#include "os/thread.h"
#include "vm/file.h"

/* --- errands: they need weir's descriptors --- */

struct region_errand {
	struct weir *weir;
	struct region *region;
	uint32_t page, count;
	enum weir_region_advice advice;
};

static int register_errand(void *data)
{
	struct region_errand *e = data;

	return region_register(e->region);
}

static int destroy_errand(void *data)
{
	struct region_errand *e = data;
	struct vm *vm = &e->weir->vm;

	const bool signal = e->region->signal;

	if (signal)
		signal_going(&e->weir->signal, e->region->base,
			     (size_t)e->region->room << PAGE_SHIFT);
	region_hide(vm, e->region);
	instance_quiesce(e->weir);
	region_unregister(e->region);
	if (e->region->file)
		return file_region_close(vm, e->weir->pager, e->region);
	region_destroy(vm, e->region);
	if (signal)
		signal_going(&e->weir->signal, NULL, 0);
	return 0;
}

/* --- beginning and end --- */

static int region_add(struct weir_container *container, void *addr, uint64_t bytes,
		      const struct region_options *options, void **out)
{
	struct weir *weir = instance_of(container);
	struct region_errand e = {.weir = weir};
	void *base = NULL;
	sigset_t signals;
	int err;

	thread_signals_block(&signals);
	lock_acquire(&weir->lock);
	err = region_create(&weir->vm, container, addr, bytes, options, &e.region);
	if (!err) {
		base = e.region->base;
		err = reclaim_errand(&weir->reclaim, register_errand, &e);
		if (err)
			(void)reclaim_errand(&weir->reclaim, destroy_errand, &e);
	}
	lock_release(&weir->lock);
	thread_signals_restore(&signals);
	/* May lie in a region: with nothing held. */
	if (!err)
		*out = base;
	return err;
}

static int mode_decide(const struct weir *weir, enum weir_mode *mode)
{
	if (*mode == WEIR_MODE_DEFAULT)
		*mode = weir->mode == WEIR_MODE_SIGNAL ? WEIR_MODE_SIGNAL : WEIR_MODE_THREAD;
	if ((unsigned)*mode > WEIR_MODE_SIGNAL)
		return -EINVAL;
	return weir->mode == WEIR_MODE_BOTH || *mode == weir->mode ? 0 : -ENOTSUP;
}

static int options_check(struct weir *weir, const struct weir_region_options *in,
			 struct weir_region_options *out)
{
	memset(out, 0, sizeof(*out));
	if (in && in->size < offsetof(struct weir_region_options, container))
		return -EINVAL;
	if (in)
		memcpy(out, in, MIN(in->size, sizeof(*out)));
	if (!out->container)
		out->container = weir->home;
	if (out->container->tree != &weir->containers)
		return -EXDEV;
	if ((unsigned)out->access > WEIR_ADVICE_RANDOM || out->cluster > RUN_MAX ||
	    out->max_bytes > INT64_MAX)
		return -EINVAL;
	return mode_decide(weir, &out->mode);
}

int weir_region_create_with(struct weir *weir, uint64_t bytes,
			    const struct weir_region_options *options, void **addr)
{
	struct weir_region_options checked;
	struct region_options how;
	int err = options_check(weir, options, &checked);

	if (err)
		return err;
	if (!bytes || bytes > INT64_MAX || (checked.max_bytes && checked.max_bytes < bytes))
		return -EINVAL;
	how = (struct region_options){
		.signal = checked.mode == WEIR_MODE_SIGNAL,
		.access = (uint8_t)checked.access,
		.cluster = (uint8_t)checked.cluster,
		.max_bytes = ALIGN_UP(checked.max_bytes, (uint64_t)PAGE_SIZE),
	};
	return region_add(checked.container, NULL, ALIGN_UP(bytes, (uint64_t)PAGE_SIZE), &how,
			  addr);
}

int weir_region_create(struct weir *weir, uint64_t bytes, void **addr)
{
	return weir_region_create_with(weir, bytes, NULL, addr);
}

int weir_region_adopt(struct weir *weir, void *addr, uint64_t bytes)
{
	const struct region_options how = {.signal = weir->mode == WEIR_MODE_SIGNAL};
	void *same;

	return addr ? region_add(weir->home, addr, bytes, &how, &same) : -EINVAL;
}

/* Runs an errand for the region that begins at addr, and for no other. */
static int region_errand(struct region_errand *e, const void *addr, int (*fn)(void *data))
{
	struct weir *weir = e->weir;
	int err = -ENOENT;
	THREAD_SIGNALS_BLOCKED;

	lock_acquire(&weir->lock);
	e->region = vm_find(&weir->vm, (uintptr_t)addr);
	if (e->region && e->region->base == addr)
		err = reclaim_errand(&weir->reclaim, fn, e);
	lock_release(&weir->lock);
	return err;
}

int weir_region_destroy(struct weir *weir, void *addr)
{
	struct region_errand e = {.weir = weir};

	/* What takes long, before anybody waits for it. Of an error the holder is told when it goes. */
	files_flush(weir, addr);
	return region_errand(&e, addr, destroy_errand);
}

/* --- growing and shrinking --- */

static int shrink_errand(void *data)
{
	struct region_errand *e = data;
	const uint32_t old = load_relaxed(&e->region->pages);
	int err;

	if (e->region->file || !e->region->mapped_here || e->count > old)
		return -EINVAL;
	if (e->count == old)
		return 0;
	store_relaxed(&e->region->pages, e->count);
	/* Who serves a fault on one of those beyond, or pins one, is through with it; from now on nobody does. */
	instance_quiesce(e->weir);
	err = region_cut_off(&e->weir->vm, e->weir->pager, e->region, old);
	if (err)
		store_relaxed(&e->region->pages, old);
	return err;
}

static int grow_errand(void *data)
{
	struct region_errand *e = data;

	return region_grow(e->region, e->count);
}

/* The errand with a number of pages. */
static int resize(struct weir *weir, const void *addr, uint64_t bytes, int (*fn)(void *data))
{
	const uint64_t pages = DIV_UP(bytes, (uint64_t)PAGE_SIZE);
	struct region_errand e = {.weir = weir, .count = (uint32_t)pages};

	if (!bytes || bytes > INT64_MAX)
		return -EINVAL;
	if (pages >= UINT32_MAX)
		return fn == grow_errand ? -ENOMEM : -EINVAL;
	return region_errand(&e, addr, fn);
}

int weir_region_grow(struct weir *weir, void *addr, uint64_t bytes)
{
	return resize(weir, addr, bytes, grow_errand);
}

int weir_region_shrink(struct weir *weir, void *addr, uint64_t bytes)
{
	return resize(weir, addr, bytes, shrink_errand);
}

/* --- ranges --- */

/* The pages of a range, all inside one region. */
static int range_pages(const struct region *region, const void *addr, uint64_t bytes,
		       uint32_t *page, uint32_t *count)
{
	uint64_t offset, end;

	if (!region || ((uintptr_t)addr | bytes) & PAGE_MASK)
		return -EINVAL;
	offset = (uint64_t)((uintptr_t)addr - (uintptr_t)region->base);
	end = (uint64_t)load_relaxed(&region->pages) << PAGE_SHIFT;
	if (offset > end || bytes > end - offset)
		return -EINVAL;
	*page = (uint32_t)(offset >> PAGE_SHIFT);
	*count = (uint32_t)(bytes >> PAGE_SHIFT);
	return 0;
}

/* It is found, and pages of it are being adopted that no word tells of. */
static bool being_adopted(struct weir *weir, const void *addr)
{
	const struct region *region = vm_find(&weir->vm, (uintptr_t)addr);

	/* Pairs with the release in region_register. */
	return region && load_acquire(&region->adopting);
}

/* For a visit that changes what pages are, which neither a fork nor who adopts can bear. False: it has been waited for in vain, and what was to be
 * discarded was written with zeroes. patient: never in vain. */
static bool visit_beside_forks(struct weir *weir, void *addr, uint64_t bytes, bool patient,
			       unsigned *turn)
{
	unsigned waited = 0;
	bool forking;

	*turn = instance_visit(weir);
	/* Behind the visitor's fence: the fork waits for this visit, or this visit sees the fork. */
	while (unlikely((forking = load_relaxed(&weir->vm.forking)) || being_adopted(weir, addr))) {
		instance_leave(weir, *turn);
		/* The background thread is at it, and may wait for visitors before. */
		if (!forking)
			wait_a_little(&waited);
		else if (patient)
			fork_wait(weir, UINT32_MAX);
		else if (fork_discard(weir, addr, bytes))
			return false;
		*turn = instance_visit(weir);
	}
	return true;
}

int region_discard_beside_forks(struct weir *weir, void *addr, uint64_t bytes, bool patient,
				bool pinned)
{
	struct region *region;
	uint32_t page, count;
	unsigned turn;
	int err;
	THREAD_SIGNALS_BLOCKED;

	if (!visit_beside_forks(weir, addr, bytes, patient, &turn))
		return 0;
	region = vm_find(&weir->vm, (uintptr_t)addr);
	err = range_pages(region, addr, bytes, &page, &count);
	if (!err)
		err = region->file ? -EINVAL
		      : pinned	   ? region_discard_pinned(&weir->vm, region, page, count)
				   : region_discard(&weir->vm, NULL, region, page, count);
	instance_leave(weir, turn);
	return err;
}

int weir_region_discard(struct weir *weir, void *addr, uint64_t bytes)
{
	return region_discard_beside_forks(weir, addr, bytes, false, false);
}

static int advise_file_errand(void *data)
{
	struct region_errand *e = data;

	return file_region_advise(&e->weir->vm, e->region, e->page, e->count, e->advice);
}

/* Of a region over a file: with the instance's lock, since its errand may stand behind one that waits for visitors. */
static int advise_file(struct weir *weir, const void *addr, uint64_t bytes,
		       enum weir_region_advice advice)
{
	struct region_errand e = {.weir = weir, .advice = advice};
	int err;

	lock_acquire(&weir->lock);
	e.region = vm_find(&weir->vm, (uintptr_t)addr);
	err = range_pages(e.region, addr, bytes, &e.page, &e.count);
	/* Gone meanwhile, and another one there now. */
	if (!err && !e.region->file)
		err = -EINVAL;
	if (!err)
		err = reclaim_errand(&weir->reclaim, advise_file_errand, &e);
	lock_release(&weir->lock);
	return err;
}

int weir_region_advise(struct weir *weir, void *addr, uint64_t bytes,
		       enum weir_region_advice advice)
{
	struct region *region;
	uint32_t page, count;
	unsigned turn;
	bool file;
	int err;
	THREAD_SIGNALS_BLOCKED;

	if ((unsigned)advice > WEIR_ADVICE_COLD || bytes > INT64_MAX)
		return -EINVAL;
	/* What is lost is said exactly. */
	if (advice != WEIR_ADVICE_DONTNEED) {
		bytes = ALIGN_UP(bytes, (uint64_t)PAGE_SIZE);
		turn = instance_visit(weir);
	} else if (!visit_beside_forks(weir, addr, bytes, false, &turn)) {
		return 0;
	}
	region = vm_find(&weir->vm, (uintptr_t)addr);
	err = range_pages(region, addr, bytes, &page, &count);
	/* Nothing to say anything of. */
	if (!err && !count) {
		instance_leave(weir, turn);
		return 0;
	}
	file = !err && region->file;
	if (!err && !file)
		err = region_advise(&weir->vm, region, page, count, advice);
	instance_leave(weir, turn);
	return file ? advise_file(weir, addr, bytes, advice) : err;
}
