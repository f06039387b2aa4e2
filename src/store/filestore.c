/* SPDX-License-Identifier: BSD-2-Clause */
#include "store/filestore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "os/mem.h"

enum { UNITS_MAX = 1 << 28, MAP_BYTES = UNITS_MAX / 8, WORD_BITS = 64 };

/* After a full disk the file is filled up first, and grows again when somebody may have made room. */
#define FULL_NS 1000000000u

int filestore_init(struct filestore *store, const char *dir)
{
	unsigned n = 0;

	memset(store, 0, sizeof(*store));
	lock_init(&store->lock, RANK_FILE, "file store");
	store->file.fd = -1;
	if (!dir)
		dir = getenv("TMPDIR");
	if (dir && *dir) {
		if (strlen(dir) >= sizeof(store->first))
			return -ENAMETOOLONG;
		strcpy(store->first, dir);
		store->dirs[n++] = store->first;
	}
	store->dirs[n++] = "/var/tmp";
	store->dirs[n++] = "/tmp";
	store->map = mem_alloc(MAP_BYTES);
	return store->map ? 0 : -ENOMEM;
}

void filestore_destroy(struct filestore *store)
{
	if (load_relaxed(&store->open))
		file_close(&store->file);
	mem_release(store->map, MAP_BYTES);
	memset(store, 0, sizeof(*store));
	store->file.fd = -1;
}

static void told_where(const struct filestore *store)
{
	log_once("compressed pages no longer fit the limit: the coldest go to an unlinked file "
		 "in %s%s",
		 store->dirs[store->dir], store->file.direct ? "" : " (without O_DIRECT)");
}

int filestore_open(struct filestore *store, bool early)
{
	const char *last = "";
	int err = -ENOENT;

	if (load_relaxed(&store->open)) {
		if (!early)
			told_where(store);
		return 0;
	}
	for (unsigned i = 0; store->dirs[i]; i++) {
		last = store->dirs[i];
		err = file_temp_open(&store->file, last);
		if (!err) {
			store->dir = i;
			if (!early)
				told_where(store);
			/* Pairs with the acquire in filestore_read_run: file is complete. */
			store_release(&store->open, true);
			return 0;
		}
	}
	if (early)
		return err;
	log_once("no place for a file of cold pages (%s, last tried %s); they stay in memory, over "
		 "the limit. "
		 "Set TMPDIR to a folder on a disk",
		 errno_name(err), last);
	return err;
}

static bool unit_used(const struct filestore *store, uint32_t unit)
{
	return store->map[unit / WORD_BITS] >> (unit % WORD_BITS) & 1;
}

/* Marks or clears a run word by word. */
static void units_mark(struct filestore *store, uint32_t unit, uint32_t count, bool used)
{
	while (count) {
		uint32_t first = unit % WORD_BITS, n = MIN(count, WORD_BITS - first);
		uint64_t mask = (n == WORD_BITS ? ~0ull : (1ull << n) - 1) << first;

		if (used)
			store->map[unit / WORD_BITS] |= mask;
		else
			store->map[unit / WORD_BITS] &= ~mask;
		unit += n;
		count -= n;
	}
}

/* First run of free units in [from, to), or to. */
static uint32_t run_find(const struct filestore *store, uint32_t from, uint32_t to, uint32_t count)
{
	uint32_t run = 0;

	for (uint32_t unit = from; unit < to; unit++) {
		if (unit % WORD_BITS == 0 && !~store->map[unit / WORD_BITS]) {
			run = 0;
			unit += WORD_BITS - 1;
			continue;
		}
		run = unit_used(store, unit) ? 0 : run + 1;
		if (run == count)
			return unit + 1 - count;
	}
	return to;
}

/* A run of units for the whole batch: next fit, and behind the end when more than half is in use or no run is. */
static int64_t units_get(struct filestore *store, uint32_t count)
{
	bool may_grow;
	uint32_t at;

	lock_acquire(&store->lock);
	may_grow = !store->full_until_ns || now_ns() >= store->full_until_ns;
	at = store->size;
	/* A file as large as it may be is searched too, however full. */
	if (!may_grow || store->used < store->size / 2 || store->size + count > UNITS_MAX) {
		at = run_find(store, store->cursor, store->size, count);
		if (at == store->size)
			at = run_find(store, 0, store->size, count);
	}
	if (at + count > UNITS_MAX || (at == store->size && !may_grow)) {
		lock_release(&store->lock);
		return -ENOSPC;
	}
	units_mark(store, at, count, true);
	store->size = MAX(store->size, at + count);
	store->used += count;
	store->cursor = at + count;
	lock_release(&store->lock);
	add_relaxed(&store->bytes, (uint64_t)count * store->file.unit);
	return at;
}

/* The file could not grow: free runs inside it are used until it is worth trying again. */
static void full_note(struct filestore *store)
{
	lock_acquire(&store->lock);
	store->full_until_ns = now_ns() + FULL_NS;
	lock_release(&store->lock);
}

static void units_put(struct filestore *store, uint32_t unit, uint32_t count)
{
	lock_acquire(&store->lock);
	for (uint32_t i = 0; i < count; i++) {
		if (!unit_used(store, unit + i))
			panic("file store: unit %u is freed twice", unit + i);
	}
	units_mark(store, unit, count, false);
	store->used -= count;
	lock_release(&store->lock);
	sub_relaxed(&store->bytes, (uint64_t)count * store->file.unit);
}

/* What was not written at the end is not part of the file: else the next batch would be tried there again. */
static void end_take_back(struct filestore *store, uint32_t unit, uint32_t count)
{
	lock_acquire(&store->lock);
	if (unit + count == store->size)
		store->size = unit;
	store->cursor = MIN(store->cursor, store->size);
	lock_release(&store->lock);
}

static uint32_t slot_units(file_slot_t slot)
{
	return (slot & ((1u << FILE_UNITS_SHIFT) - 1)) + 1;
}

static uint32_t slot_unit(file_slot_t slot)
{
	return slot >> FILE_UNITS_SHIFT;
}

bool file_batch_add(struct filestore *store, struct file_batch *batch, const struct object *obj,
		    uint64_t tag)
{
	const size_t size = object_size(obj), room = ALIGN_UP(size, (size_t)store->file.unit);
	unsigned i = batch->count;

	if (i == FILE_BATCH || batch->fill + room > FILE_BATCH_BYTES)
		return false;
	batch->page[i] = obj->page;
	batch->tag[i] = tag;
	batch->offset[i] = batch->fill;
	batch->size[i] = room;
	memcpy(batch->buffer + batch->fill, obj, size);
	memset(batch->buffer + batch->fill + size, 0, room - size);
	batch->fill += room;
	batch->count++;
	return true;
}

int filestore_write(struct filestore *store, struct file_batch *batch)
{
	const unsigned unit = store->file.unit;
	const uint32_t count = (uint32_t)(batch->fill / unit);
	int64_t at = units_get(store, count);
	int err;

	if (at < 0)
		return (int)at;
	err = file_write(&store->file, batch->buffer, batch->fill, (off_t)at * unit);
	if (err) {
		units_put(store, (uint32_t)at, count);
		end_take_back(store, (uint32_t)at, count);
		add_relaxed(&store->failures, 1);
		if (err == -ENOSPC || err == -EDQUOT || err == -EFBIG)
			full_note(store);
		return err;
	}
	for (unsigned i = 0; i < batch->count; i++)
		batch->slot[i] = (file_slot_t)((uint32_t)at + batch->offset[i] / unit)
					 << FILE_UNITS_SHIFT |
				 (file_slot_t)(batch->size[i] / unit - 1);
	return 0;
}

uint64_t filestore_slot_bytes(const struct filestore *store, file_slot_t slot)
{
	return (uint64_t)slot_units(slot) * store->file.unit;
}

void filestore_free(struct filestore *store, file_slot_t slot)
{
	units_put(store, slot_unit(slot), slot_units(slot));
}

int filestore_read_run(struct filestore *store, const file_slot_t *slot, unsigned count,
		       void *buffer)
{
	uint32_t first = slot_unit(slot[0]), units = slot_units(slot[0]);
	unsigned taken = 1;
	int err;

	/* Pairs with the release in filestore_open. */
	if (!load_acquire(&store->open))
		return -EBADF;
	while (taken < count && slot_unit(slot[taken]) == first + units &&
	       (size_t)(units + slot_units(slot[taken])) * store->file.unit <= FILE_READ_BYTES)
		units += slot_units(slot[taken++]);
	err = file_read(&store->file, buffer, (size_t)units * store->file.unit,
			(off_t)first * store->file.unit);
	return err ? err : (int)taken;
}

int filestore_unpack(struct filestore *store, const file_slot_t *slot, unsigned index,
		     const void *buffer, page_no_t page, void *dst)
{
	size_t offset = (size_t)(slot_unit(slot[index]) - slot_unit(slot[0])) * store->file.unit;

	return object_unpack((const struct object *)((const char *)buffer + offset),
			     (size_t)slot_units(slot[index]) * store->file.unit, page, dst);
}

int filestore_read(struct filestore *store, file_slot_t slot, page_no_t page, void *buffer,
		   void *dst)
{
	int got = filestore_read_run(store, &slot, 1, buffer);

	return got < 0 ? got : filestore_unpack(store, &slot, 0, buffer, page, dst);
}

int filestore_validate(struct filestore *store)
{
	uint32_t used = 0;
	int err = 0;

	lock_acquire(&store->lock);
	for (uint32_t word = 0; word < DIV_UP(store->size, WORD_BITS); word++)
		used += (uint32_t)__builtin_popcountll(store->map[word]);
	if (used != store->used || store->used > store->size)
		err = -EINVAL;
	lock_release(&store->lock);
	if (!err && load_relaxed(&store->open) &&
	    load_relaxed(&store->bytes) != (uint64_t)used * store->file.unit)
		err = -EINVAL;
	return err;
}
