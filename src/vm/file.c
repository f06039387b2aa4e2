/* SPDX-License-Identifier: BSD-2-Clause */
/* File objects, what is open of them, and regions over them: see file.h. */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/log.h"
#include "vm/file_page.h"

static size_t table_bytes(uint32_t pages)
{
	return ALIGN_UP((size_t)pages * sizeof(uint32_t), PAGE_SIZE);
}

static size_t chunks_bytes(uint32_t pages)
{
	return table_bytes((pages >> CHUNK_SHIFT) + 1);
}

static size_t word_bytes(uint32_t pages)
{
	return ALIGN_UP((size_t)pages * sizeof(page_word_t), PAGE_SIZE);
}

#define OBJECT_BYTES ALIGN_UP(sizeof(struct file_object), PAGE_SIZE)
#define REGION_BYTES ALIGN_UP(sizeof(struct file_region), PAGE_SIZE)

/* --- objects --- */

static void object_free(struct file_object *f)
{
	file_source_close(&f->in);
	file_source_close(&f->out);
	/* A child of fork has the windows of that moment, and by one of them would keep all of the memory. */
	if (f->kmap)
		(void)mem_shared_punch(f->cache, 0, (size_t)f->pages << PAGE_SHIFT);
	if (f->cache >= 0)
		mem_file_close(f->cache);
	mem_release(f->view, (size_t)f->pages << PAGE_SHIFT);
	(void)weir_kmap_destroy(f->kmap);
	mem_release((void *)f->state, table_bytes(f->pages));
	mem_release((void *)f->account, table_bytes(f->pages));
	mem_release((void *)f->cached, chunks_bytes(f->pages));
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

/* How weir reaches what is in the cache. A file may be of any size, so its windows are hashed. */
static int cache_open(struct file_object *f, unsigned slots)
{
	const struct weir_kmap_options windows = {.size = sizeof(windows),
						  .fd = f->cache,
						  .bytes = (uint64_t)f->pages << PAGE_SHIFT,
						  .slots = slots,
						  .flags = WEIR_KMAP_HASHED};

	if (slots)
		return weir_kmap_create(&windows, &f->kmap);
	f->view = mem_shared_map(f->cache, (size_t)f->pages << PAGE_SHIFT);
	return f->view ? 0 : -ENOMEM;
}

/* Takes the descriptors over, also when it fails. */
static int object_create(const struct file_source *in, const struct file_id *id, unsigned slots,
			 struct file_object **out)
{
	struct file_object *f = mem_alloc(OBJECT_BYTES);
	struct file_source mine = *in;
	int err = -ENOMEM;

	if (!f) {
		file_source_close(&mine);
		return err;
	}
	f->id = *id;
	f->in = mine;
	f->out = (struct file_source){-1, -1};
	f->error_seen = true;
	lock_init(&f->sync_lock, RANK_FILE_SYNC, "file sync");
	lock_init(&f->write_lock, RANK_FILE_WRITE, "file write");
	lock_init(&f->cache_lock, RANK_FILE_CACHE, "file cache");
	f->pages = (uint32_t)DIV_UP(id->bytes, PAGE_SIZE);
	f->cache = mem_shared_create((size_t)f->pages << PAGE_SHIFT);
	err = f->cache < 0 ? f->cache : cache_open(f, slots);
	f->state = mem_alloc(table_bytes(f->pages));
	f->account = mem_alloc(table_bytes(f->pages));
	f->cached = mem_alloc(chunks_bytes(f->pages));
	if (!err && (!f->state || !f->account || !f->cached))
		err = -ENOMEM;
	if (err) {
		object_free(f);
		return err;
	}
	*out = f;
	return 0;
}

/* From now on it may be written to, too. */
static int object_make_writable(struct file_object *f, const char *path)
{
	struct file_source out;
	struct file_id id;
	int err;

	if (load_relaxed(&f->writable))
		return 0;
	err = file_source_open(&out, path, true, &id);
	if (err)
		return err;
	/* The name is another file's by now. */
	if (id.device != f->id.device || id.inode != f->id.inode) {
		file_source_close(&out);
		return -ESTALE;
	}
	f->out = out;
	/* Pairs with the acquire in writeback_sensible. */
	store_release(&f->writable, true);
	return 0;
}

static int object_open(struct vm *vm, const char *path, bool *fresh, struct file_object **out)
{
	struct file_source in;
	struct file_id id;
	int place, err = file_source_open(&in, path, false, &id);

	*fresh = false;
	if (err)
		return err;
	*out = object_find(vm, &id, &place);
	if (*out) {
		file_source_close(&in);
		return (*out)->id.bytes == id.bytes ? 0 : -ESTALE;
	}
	if (place < 0 || DIV_UP(id.bytes, PAGE_SIZE) >= INT32_MAX) {
		file_source_close(&in);
		return place < 0 ? place : -EFBIG;
	}
	err = object_create(&in, &id, vm->kmap_slots, out);
	if (err)
		return err;
	*fresh = true;
	store_release(&vm->file_object[place], *out);
	return 0;
}

/* Nobody sees the object any more. */
static void object_hide(struct vm *vm, const struct file_object *f)
{
	for (unsigned i = 0; i < FILES_MAX; i++) {
		if (load_relaxed(&vm->file_object[i]) == f)
			store_relaxed(&vm->file_object[i], NULL);
	}
}

/* Nothing of it is open. What it still has is the page cache's alone. */
static void object_destroy(struct file_object *f)
{
	for (uint32_t page = 0; page < f->pages; page++) {
		if (!load_relaxed(&f->cached[page >> CHUNK_SHIFT]))
			page |= (1u << CHUNK_SHIFT) - 1;
		else if (load_relaxed(&f->state[page]) & FILE_CACHED)
			(void)account_release(&f->account[page], &f->owners, CHARGE_FILE,
					      PAGE_SIZE);
	}
	object_free(f);
}

/*
 * A slot that nobody has: no page is charged by it, and no file and no region open by it. Who has such a slot in hands still (a
 * fault of a region that was closed, what is read ahead for it) might charge to the container that is in it now, and
 * uncharge the next one: they are waited for, and what begins later finds no hold (ahead in file_crew.c). And so is who has
 * let the last page go, and looks only then whom to uncharge (account_release).
 */
static int slot_unused(struct vm *vm, struct file_object *f)
{
	uint32_t used = 0;

	vm->quiesce(vm->quiesce_data);
	for (uint32_t page = 0; page < f->pages; page++) {
		if (account_holders(&f->account[page]))
			used |= 1u << load_relaxed(&f->account[page]) % OWNERS_MAX;
	}
	vm->quiesce(vm->quiesce_data);
	for (unsigned slot = 0; slot < OWNERS_MAX; slot++) {
		if (!(used >> slot & 1) && !load_relaxed(&f->holds[slot]))
			return (int)slot;
	}
	return -ENOSPC;
}

static int owner_slot(struct vm *vm, struct file_object *f, struct weir_container *container)
{
	int slot = 0;

	while (slot < OWNERS_MAX && owners_get(&f->owners, (unsigned)slot)) {
		if (owners_get(&f->owners, (unsigned)slot) == container)
			return slot;
		slot++;
	}
	if (slot == OWNERS_MAX)
		slot = slot_unused(vm, f);
	if (slot >= 0)
		owners_set(&f->owners, (unsigned)slot, container);
	return slot;
}

/* --- what is open --- */

/* One hold more, or less. */
static void object_held(struct file_object *f, unsigned slot, int one)
{
	f->files += (unsigned)one;
	store_relaxed(&f->holds[slot], load_relaxed(&f->holds[slot]) + (uint32_t)one);
}

int file_hold_open(struct vm *vm, struct weir_container *container, const char *path, bool write,
		   struct file_hold *hold)
{
	struct file_object *f = NULL;
	bool fresh;
	int err, slot = 0;

	if (!vm->can_minor || (write && !vm->can_track))
		return -EOPNOTSUPP;
	err = file_crew_start(vm);
	if (!err)
		err = object_open(vm, path, &fresh, &f);
	if (err)
		return err;
	slot = owner_slot(vm, f, container);
	err = slot < 0 ? slot : write ? object_make_writable(f, path) : 0;
	if (err) {
		if (fresh) {
			object_hide(vm, f);
			vm->quiesce(vm->quiesce_data);
			object_free(f);
		}
		return err;
	}
	object_held(f, (unsigned)slot, 1);
	lock_acquire(&f->write_lock);
	*hold = (struct file_hold){.file = f,
				   .slot = (uint8_t)slot,
				   .write = write,
				   .seen = f->error_count - (f->error_seen ? 0 : 1)};
	lock_release(&f->write_lock);
	return 0;
}

/* What is on its way to the file is not dirty, and may be again: asked when nothing is. */
static bool object_dirty(struct file_object *f)
{
	bool dirty;

	lock_acquire(&f->write_lock);
	dirty = load_relaxed(&f->dirty) > 0;
	lock_release(&f->write_lock);
	return dirty;
}

/* Everything dirty goes to the file. What of it cannot is dirty still, and the holder is told. */
static int hold_flush(struct vm *vm, struct pager *self, struct file_hold *hold)
{
	struct file_object *f = hold->file;
	int own = 0, told;

	if (!load_relaxed(&f->writable) || (!hold->write && f->files > 1))
		return 0;
	if (object_dirty(f))
		own = writeback_all(vm, self, f, 0, f->pages);
	if (!hold->write)
		return 0;
	told = error_take(f, hold);
	return told ? told : own;
}

static void object_let_go(struct vm *vm, struct file_object *f)
{
	object_hide(vm, f);
	vm->quiesce(vm->quiesce_data);
	file_crew_forget(vm, f);
	object_destroy(f);
}

int file_hold_close(struct vm *vm, struct pager *self, struct file_hold *hold)
{
	struct file_object *f = hold->file;
	int err = hold_flush(vm, self, hold);

	object_held(f, hold->slot, -1);
	if (!f->files && !object_dirty(f))
		object_let_go(vm, f);
	return err;
}

void file_outlived(struct vm *vm, struct file_object *f)
{
	if (!object_dirty(f))
		object_let_go(vm, f);
}

/* --- regions --- */

static void region_free(struct file_region *file)
{
	struct region *region = &file->region;

	if (region->mapped_here)
		mem_release(region->base, (size_t)region->pages << PAGE_SHIFT);
	mem_release((void *)region->word, word_bytes(region->pages));
	mem_release((void *)region->access, chunks_bytes(region->pages));
	mem_release(file, REGION_BYTES);
}

static int region_over(struct vm *vm, const struct file_hold *hold, struct file_region **out)
{
	struct file_object *f = hold->file;
	struct file_region *file = mem_alloc(REGION_BYTES);
	struct region *region;
	int err = -ENOMEM;

	if (!file)
		return err;
	file->hold = *hold;
	region = &file->region;
	region->file = f;
	region->pages = region->room = f->pages;
	region->uffd = vm->uffd;
	region->base = mem_shared_region_map(f->cache, (size_t)f->pages << PAGE_SHIFT, hold->write);
	region->mapped_here = region->base != NULL;
	region->word = mem_alloc(word_bytes(region->pages));
	region->access = mem_alloc(chunks_bytes(region->pages));
	if (region->base && region->word && region->access)
		err = uffd_register(vm->uffd, region->base, (size_t)f->pages << PAGE_SHIFT,
				    UFFD_MISSING | UFFD_MINOR | (hold->write ? UFFD_WP : 0));
	if (err) {
		region_free(file);
		return err;
	}
	*out = file;
	return 0;
}

int file_region_create(struct vm *vm, const struct file_hold *hold, struct region **out)
{
	struct file_object *f = hold->file;
	struct file_region *file = NULL;
	unsigned at = 0;
	int err, place = region_place(vm);

	if (place < 0)
		return place;
	while (at < FILE_REGIONS && load_relaxed(&f->region[at]))
		at++;
	if (at == FILE_REGIONS)
		return -ENOSPC;
	err = region_over(vm, hold, &file);
	if (err)
		return err;
	store_relaxed(&file->region.owners.current, hold->slot);
	object_held(f, hold->slot, 1);
	store_release(&f->region[at], &file->region);
	region_publish(vm, place, &file->region);
	*out = &file->region;
	return 0;
}

struct file_hold *file_region_hold(struct region *region)
{
	return &file_region_of(region)->hold;
}

void file_region_hide(struct region *region)
{
	struct file_object *f = region->file;

	for (unsigned i = 0; i < FILE_REGIONS; i++) {
		if (load_relaxed(&f->region[i]) == region)
			store_relaxed(&f->region[i], NULL);
	}
}

int file_region_close(struct vm *vm, struct pager *self, struct region *region)
{
	struct file_region *file = file_region_of(region);
	struct file_object *f = region->file;
	int err;

	for (uint32_t page = 0; page < region->pages; page++) {
		enum page_state was = word_state(load_relaxed(&region->word[page]));
		uint32_t state;

		if (was != PAGE_CLEAN && was != PAGE_DIRTY)
			continue;
		state = page_take_wait(f, page);
		/* Hidden, it was passed over by who has written the page meanwhile; and could be written to until now. */
		if (was == PAGE_DIRTY)
			state = page_dirty(f, state);
		(void)account_release(&f->account[page], &f->owners, CHARGE_FILE, PAGE_SIZE);
		page_put(vm, f, page, state);
	}
	err = file_hold_close(vm, self, &file->hold);
	region_free(file);
	return err;
}

/* --- the end --- */

static void object_end(struct vm *vm, struct pager *self, struct file_object *f)
{
	if (load_relaxed(&f->dirty))
		(void)writeback_all(vm, self, f, 0, f->pages);
	if (load_relaxed(&f->dirty))
		log_line("%u pages could not be written to their file before the end: what was "
			 "changed there is lost",
			 load_relaxed(&f->dirty));
	object_hide(vm, f);
	object_destroy(f);
}

void files_destroy(struct vm *vm, struct pager *self)
{
	file_crew_stop(vm);
	for (uint32_t i = 0; i < load_relaxed(&vm->regions); i++) {
		struct region *region = load_relaxed(&vm->region[i]);

		if (!region || !region->file)
			continue;
		region_hide(vm, region);
		region_unregister(region);
		(void)file_region_close(vm, self, region);
	}
	for (unsigned i = 0; i < FILES_MAX; i++) {
		if (load_relaxed(&vm->file_object[i]))
			object_end(vm, self, load_relaxed(&vm->file_object[i]));
	}
}
