/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/file.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/log.h"
#include "os/file.h"

static size_t table_bytes(uint32_t pages)
{
	return ALIGN_UP((size_t)pages * sizeof(uint32_t), PAGE_SIZE);
}

static size_t word_bytes(uint32_t pages)
{
	return ALIGN_UP((size_t)pages * sizeof(page_word_t), PAGE_SIZE);
}

#define OBJECT_BYTES ALIGN_UP(sizeof(struct file_object), PAGE_SIZE)
#define REGION_BYTES ALIGN_UP(sizeof(struct region), PAGE_SIZE)

/* --- the page's lock --- */

/* False: it is busy, and PARKED is left. */
static bool page_take(struct file_object *f, uint32_t page, uint32_t *state)
{
	uint32_t s = load_relaxed(&f->state[page]);

	for (;;) {
		if (s & FILE_BUSY) {
			/* The holder's exchange in page_put sees the bit, or this fails. */
			if (cas_relaxed(&f->state[page], &s, s | FILE_PARKED))
				return false;
			continue;
		}
		/* Pairs with the release in page_put. */
		if (cas_acquire(&f->state[page], &s, s | FILE_BUSY)) {
			*state = s;
			return true;
		}
	}
}

static void page_put(struct vm *vm, struct file_object *f, uint32_t page, uint32_t state)
{
	/* Pairs with the acquire in page_take. */
	uint32_t before = exchange_release(&f->state[page], state);

	if (likely(!(before & FILE_PARKED)))
		return;
	for (unsigned i = 0; i < FILE_REGIONS; i++) {
		struct region *region = load_acquire(&f->region[i]);

		if (region)
			(void)uffd_wake(vm->uffd, page_address(region, page), PAGE_SIZE);
	}
}

static void page_take_wait(struct file_object *f, uint32_t page, uint32_t *state)
{
	while (!page_take(f, page, state))
		sched_yield();
}

/* --- objects --- */

static void object_free(struct file_object *f)
{
	if (f->source >= 0)
		file_source_close(f->source);
	if (f->cache >= 0)
		file_source_close(f->cache);
	mem_release(f->view, (size_t)f->pages << PAGE_SHIFT);
	(void)weir_kmap_destroy(f->kmap);
	mem_release((void *)f->state, table_bytes(f->pages));
	mem_release((void *)f->account, table_bytes(f->pages));
	mem_release(f, OBJECT_BYTES);
}

static struct file_object *object_find(const struct vm *vm, const struct file_id *id, int *place)
{
	*place = -ENOSPC;
	for (unsigned i = 0; i < FILES_MAX; i++) {
		struct file_object *f = load_relaxed(&vm->file_object[i]);

		if (f && f->id.device == id->device && f->id.inode == id->inode)
			return f;
		if (!f && *place < 0)
			*place = (int)i;
	}
	return NULL;
}

/* How weir reaches the cache. A file may be of any size, so its windows are hashed; a load holds one while it reads, and as
 * many loads run as there are handlers. */
static int cache_open(struct file_object *f, unsigned slots)
{
	const struct weir_kmap_options windows = {.size = sizeof(windows),
						  .fd = f->cache,
						  .bytes = (uint64_t)f->pages << PAGE_SHIFT,
						  .slots = slots,
						  .flags = WEIR_KMAP_HASHED};

	if (slots)
		return weir_kmap_create(&windows, &f->kmap);
	f->view = mem_shared_map(f->cache, (size_t)f->pages << PAGE_SHIFT, true);
	return f->view ? 0 : -ENOMEM;
}

/* Reads a page of the file into the cache. */
static int cache_fill(struct file_object *f, uint32_t page)
{
	void *at;
	int err;

	/* The system has no window just now: the page is as well as it was. */
	if (f->kmap && weir_kmap_fault(f->kmap, page, &at))
		return -EAGAIN;
	if (!f->kmap)
		at = f->view + ((size_t)page << PAGE_SHIFT);
	err = file_source_read(f->source, at, PAGE_SIZE, (off_t)page << PAGE_SHIFT);
	if (f->kmap)
		(void)weir_kunmap(f->kmap, at);
	return err;
}

/* Takes the descriptor over, also when it fails. */
static int object_create(int source, const struct file_id *id, unsigned slots,
			 struct file_object **out)
{
	struct file_object *f = mem_alloc(OBJECT_BYTES);
	int err = -ENOMEM;

	if (!f) {
		file_source_close(source);
		return err;
	}
	f->id = *id;
	f->source = source;
	f->pages = (uint32_t)DIV_UP(id->bytes, PAGE_SIZE);
	f->cache = mem_shared_create((size_t)f->pages << PAGE_SHIFT);
	err = f->cache < 0 ? f->cache : cache_open(f, slots);
	f->state = mem_alloc(table_bytes(f->pages));
	f->account = mem_alloc(table_bytes(f->pages));
	if (!err && (!f->state || !f->account))
		err = -ENOMEM;
	if (err) {
		object_free(f);
		return err;
	}
	*out = f;
	return 0;
}

/* The object of a path, with a place for one region more. */
static int object_open(struct vm *vm, const char *path, struct file_object **out)
{
	struct file_id id;
	int fd = file_source_open(path, &id), place, err;

	if (fd < 0)
		return fd;
	*out = object_find(vm, &id, &place);
	if (*out) {
		file_source_close(fd);
		return (*out)->regions < FILE_REGIONS ? 0 : -ENOSPC;
	}
	if (place < 0 || DIV_UP(id.bytes, PAGE_SIZE) >= UINT32_MAX) {
		file_source_close(fd);
		return place < 0 ? place : -EFBIG;
	}
	err = object_create(fd, &id, vm->kmap_slots, out);
	if (!err)
		store_release(&vm->file_object[place], *out);
	return err;
}

/* Nobody sees the object any more. */
static void object_hide(struct vm *vm, const struct file_object *f)
{
	for (unsigned i = 0; i < FILES_MAX; i++) {
		if (load_relaxed(&vm->file_object[i]) == f)
			store_relaxed(&vm->file_object[i], NULL);
	}
}

static int owner_slot(struct file_object *f, struct weir_container *container)
{
	for (unsigned slot = 0; slot < OWNERS_MAX; slot++) {
		struct weir_container *c = owners_get(&f->owners, slot);

		if (c == container)
			return (int)slot;
		if (!c) {
			owners_set(&f->owners, slot, container);
			return (int)slot;
		}
	}
	return -ENOSPC;
}

/* --- regions --- */

static void region_free(struct region *region)
{
	if (region->mapped_here)
		mem_release(region->base, (size_t)region->pages << PAGE_SHIFT);
	mem_release((void *)region->word, word_bytes(region->pages));
	mem_release(region, REGION_BYTES);
}

static int region_over(struct vm *vm, struct file_object *f, struct region **out)
{
	struct region *region = mem_alloc(REGION_BYTES);
	int err = -ENOMEM;

	if (!region)
		return err;
	region->file = f;
	region->pages = region->room = f->pages;
	region->uffd = vm->uffd;
	region->base = mem_shared_map(f->cache, (size_t)f->pages << PAGE_SHIFT, false);
	region->mapped_here = region->base != NULL;
	region->word = mem_alloc(word_bytes(region->pages));
	if (region->base && region->word)
		err = uffd_register(vm->uffd, region->base, (size_t)f->pages << PAGE_SHIFT,
				    UFFD_MISSING | UFFD_MINOR);
	if (err) {
		region_free(region);
		return err;
	}
	*out = region;
	return 0;
}

int file_region_create(struct vm *vm, struct weir_container *container, const char *path,
		       struct region **out)
{
	struct file_object *f = NULL;
	struct region *region = NULL;
	int err, slot, place = vm->can_minor ? region_place(vm) : -EOPNOTSUPP;

	if (place < 0)
		return place;
	err = object_open(vm, path, &f);
	if (err)
		return err;
	slot = owner_slot(f, container);
	err = slot < 0 ? slot : region_over(vm, f, &region);
	if (err) {
		if (!f->regions) {
			object_hide(vm, f);
			object_free(f);
		}
		return err;
	}
	store_relaxed(&region->owners.current, (uint32_t)slot);
	f->regions++;
	for (unsigned i = 0; i < FILE_REGIONS; i++) {
		if (!load_relaxed(&f->region[i])) {
			store_release(&f->region[i], region);
			break;
		}
	}
	region_publish(vm, place, region);
	*out = region;
	return 0;
}

void file_region_hide(struct vm *vm, struct region *region)
{
	struct file_object *f = region->file;

	for (unsigned i = 0; i < FILE_REGIONS; i++) {
		if (load_relaxed(&f->region[i]) == region)
			store_relaxed(&f->region[i], NULL);
	}
	if (--f->regions == 0)
		object_hide(vm, f);
}

void file_region_close(struct vm *vm, struct region *region)
{
	struct file_object *f = region->file;

	for (uint32_t page = 0; page < region->pages; page++) {
		uint32_t state;

		if (word_state(load_relaxed(&region->word[page])) != PAGE_CLEAN)
			continue;
		page_take_wait(f, page, &state);
		(void)account_release(&f->account[page], &f->owners, CHARGE_FILE, PAGE_SIZE);
		page_put(vm, f, page, state);
	}
	if (!f->regions) {
		for (uint32_t page = 0; page < f->pages; page++) {
			if (load_relaxed(&f->state[page]) & FILE_CACHED)
				(void)account_release(&f->account[page], &f->owners, CHARGE_FILE,
						      PAGE_SIZE);
		}
		object_free(f);
	}
	region_free(region);
}

int file_region_advise(struct vm *vm, struct pager *self, struct region *region, uint32_t page,
		       uint32_t count, enum weir_region_advice advice)
{
	(void)vm;
	(void)self;
	(void)region;
	(void)page;
	(void)count;
	/* The rest are hints, of which nothing depends on any. */
	return advice == WEIR_ADVICE_DONTNEED ? -EINVAL : 0;
}

/* --- faults --- */

/* Charged and read; the page cache holds it. */
static int page_load(struct vm *vm, struct pager *self, struct file_object *f, uint32_t page,
		     unsigned slot)
{
	struct weir_container *container = owners_get(&f->owners, slot);
	int err;

	pager_stall(self, container);
	container_throttle(container);
	err = account_hold(&f->account[page], &f->owners, slot, CHARGE_FILE, PAGE_SIZE, false);
	if (err == -EAGAIN || (err && !vm->can_poison)) {
		container_count(container, COUNT_OVER_MAX, 1);
		err = account_hold(&f->account[page], &f->owners, slot, CHARGE_FILE, PAGE_SIZE,
				   true);
	}
	if (err)
		return err;
	if (self->before_block)
		self->before_block(self->data);
	err = cache_fill(f, page);
	if (!err)
		return 0;
	(void)mem_shared_punch(f->cache, (size_t)page << PAGE_SHIFT, PAGE_SIZE);
	(void)account_release(&f->account[page], &f->owners, CHARGE_FILE, PAGE_SIZE);
	if (err != -EAGAIN)
		log_line("page %u of a file region cannot be read (%s): a touch of it is SIGBUS",
			 page, errno_name(err));
	return err;
}

/* The page is cached and locked: the region maps it, and holds it from now on. */
static int page_map(struct vm *vm, struct file_object *f, struct region *region, uint32_t page)
{
	const bool held = word_state(load_relaxed(&region->word[page])) == PAGE_CLEAN;
	int err;

	if (!held && !account_join(&f->account[page]))
		panic("a cached page has no holder");
	store_relaxed(&region->word[page], PAGE_CLEAN);
	err = uffd_continue(vm->uffd, page_address(region, page), PAGE_SIZE, NULL);
	/* Mapped already, by a fault that was served just now. */
	if (err == -EEXIST) {
		(void)uffd_wake(vm->uffd, page_address(region, page), PAGE_SIZE);
		err = 0;
	}
	if (err && !held) {
		store_relaxed(&region->word[page], PAGE_NONE);
		(void)account_release(&f->account[page], &f->owners, CHARGE_FILE, PAGE_SIZE);
	}
	return err;
}

/* No memory below the limit for it, or it cannot be read: the reader is told. */
static void page_refuse(struct vm *vm, struct region *region, uint32_t page)
{
	char *address = page_address(region, page);

	if (vm->can_poison && !uffd_poison(vm->uffd, address, PAGE_SIZE)) {
		store_relaxed(&region->word[page], PAGE_POISONED);
		add_relaxed(&vm->count.poisoned, 1);
	}
	(void)uffd_wake(vm->uffd, address, PAGE_SIZE);
}

enum pagein_result file_pagein(struct vm *vm, struct pager *self, struct region *region,
			       uint32_t page)
{
	struct file_object *f = region->file;
	const unsigned slot = load_relaxed(&region->owners.current);
	uint32_t state;
	int err = 0;

	self->container = owners_get(&f->owners, slot);
	if (!page_take(f, page, &state)) {
		add_relaxed(&vm->count.parked, 1);
		return PAGEIN_PARKED;
	}
	if (state & FILE_CACHED) {
		add_relaxed(&vm->count.soft, 1);
		container_count(self->container, COUNT_SOFT, 1);
	} else {
		err = page_load(vm, self, f, page, slot);
		state |= err ? 0 : FILE_CACHED;
		if (err && err != -EAGAIN)
			page_refuse(vm, region, page);
		else if (!err)
			add_relaxed(&vm->count.stored, 1);
	}
	if (!err)
		err = page_map(vm, f, region, page);
	page_put(vm, f, page, state);
	if (err == -EAGAIN || err == -ENOMEM)
		(void)uffd_wake(vm->uffd, page_address(region, page), PAGE_SIZE);
	return err ? PAGEIN_RETRY : PAGEIN_DONE;
}

/* --- reclaim --- */

/* The page is locked and out of all mappings: every holder lets go. */
static void page_let_go(struct file_object *f, uint32_t page)
{
	for (unsigned i = 0; i < FILE_REGIONS; i++) {
		struct region *region = load_acquire(&f->region[i]);

		if (!region || word_state(load_relaxed(&region->word[page])) != PAGE_CLEAN)
			continue;
		store_relaxed(&region->word[page], PAGE_NONE);
		(void)account_release(&f->account[page], &f->owners, CHARGE_FILE, PAGE_SIZE);
	}
	(void)account_release(&f->account[page], &f->owners, CHARGE_FILE, PAGE_SIZE);
}

/* Is it held by the page cache and by regions that can be seen, and nobody else? One that is being closed lets go itself. */
static bool page_free_to_go(struct file_object *f, uint32_t page)
{
	unsigned holders = 1;

	for (unsigned i = 0; i < FILE_REGIONS; i++) {
		struct region *region = load_acquire(&f->region[i]);

		holders += region && word_state(load_relaxed(&region->word[page])) == PAGE_CLEAN;
	}
	return account_holders(&f->account[page]) == holders;
}

static bool page_drop(struct vm *vm, struct file_object *f, uint32_t page, uint32_t owners)
{
	uint32_t state = load_relaxed(&f->state[page]);
	bool dropped;

	if ((state & (FILE_BUSY | FILE_CACHED)) != FILE_CACHED ||
	    !(owners >> load_relaxed(&f->account[page]) % OWNERS_MAX & 1) ||
	    !cas_acquire(&f->state[page], &state, state | FILE_BUSY))
		return false;
	dropped = page_free_to_go(f, page) &&
		  !mem_shared_punch(f->cache, (size_t)page << PAGE_SHIFT, PAGE_SIZE);
	if (dropped)
		page_let_go(f, page);
	page_put(vm, f, page, dropped ? 0 : FILE_CACHED);
	return dropped;
}

unsigned file_reclaim(struct vm *vm, struct weir_container *container, unsigned most)
{
	unsigned dropped = 0;

	/* It takes weir's own descriptors. */
	if (vm_borrowed)
		return 0;
	for (unsigned i = 0; i < FILES_MAX && dropped < most; i++) {
		struct file_object *f = load_acquire(&vm->file_object[i]);
		uint32_t owners = f ? owners_mask(&f->owners, container, false) : 0;
		uint32_t page = f ? load_relaxed(&f->hand) : 0;

		for (uint32_t n = 0; owners && n < f->pages && dropped < most; n++, page++) {
			if (page >= f->pages)
				page = 0;
			dropped += page_drop(vm, f, page, owners);
		}
		if (owners)
			store_relaxed(&f->hand, page);
	}
	container_count(container, COUNT_STOLEN, dropped);
	return dropped;
}
