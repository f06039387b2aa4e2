/* SPDX-License-Identifier: BSD-2-Clause */
#include "store/filestore.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "os/mem.h"
#include "os/pass.h"

enum { UNITS_MAX = 1 << 28, MAP_BYTES = UNITS_MAX / 8, WORD_BITS = 64 };

#define STORE_BYTES ALIGN_UP(sizeof(struct filestore), PAGE_SIZE)

/* After a full disk the file is filled up first, and grows again when somebody may have made room. */
#define FULL_NS 1000000000u

/* --- units --- */

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
		if (unit % WORD_BITS == 0 && !~filestore_taken(store, unit / WORD_BITS)) {
			run = 0;
			unit += WORD_BITS - 1;
			continue;
		}
		run = filestore_taken(store, unit / WORD_BITS) >> (unit % WORD_BITS) & 1 ? 0
											 : run + 1;
		if (run == count)
			return unit + 1 - count;
	}
	return to;
}

/* May the file grow by so many units? Not where the disk would have less left than it should. */
static bool disk_has(const struct filestore *store, uint32_t count)
{
	const uint64_t bytes = (uint64_t)count * store->file.unit;
	uint64_t left;

	return file_disk_free(&store->file, &left) || left >= store->keep_free + bytes;
}

/* A run of units for the whole batch: next fit, and behind the end when more than half is in use or no run is. */
static int64_t units_get(struct filestore *store, uint32_t count)
{
	const bool has = disk_has(store, count);
	bool may_grow;
	uint32_t at;

	lock_acquire(&store->lock);
	may_grow = has && (!store->full_until_ns || now_ns() >= store->full_until_ns);
	at = store->size;
	/* A file as large as it may be is searched too, however full. */
	if (!may_grow || store->used < store->size / 2 || store->size + count > store->most) {
		at = run_find(store, store->cursor, store->size, count);
		if (at == store->size)
			at = run_find(store, store->base, store->size, count);
	}
	if (at + count > store->most || (at == store->size && !may_grow)) {
		if (!has)
			store->full_until_ns = now_ns() + FULL_NS;
		lock_release(&store->lock);
		return -ENOSPC;
	}
	units_mark(store, at, count, true);
	store->size = MAX(store->size, at + count);
	store->used += count;
	store->cursor = at + count;
	lock_release(&store->lock);
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

static uint32_t key_units(store_key_t key)
{
	return (key & ((1u << FILE_UNITS_SHIFT) - 1)) + 1;
}

static uint32_t key_unit(store_key_t key)
{
	return key >> FILE_UNITS_SHIFT;
}

/* The file that a unit is in, and where. */
static const struct file *file_of(const struct filestore *store, uint32_t unit, off_t *offset)
{
	const struct file *file = &store->file;
	uint32_t from = store->base;

	for (unsigned i = 0; i < store->inherited && unit < store->base; i++) {
		file = &store->inheritance[i].file;
		from = store->inheritance[i].from;
		if (unit < store->inheritance[i].end)
			break;
	}
	*offset = file->base + (off_t)(unit - from) * store->file.unit;
	return file;
}

/* --- writing --- */

static void batch_fail(struct weir_store_batch *batch, int err)
{
	for (unsigned i = 0; i < batch->count; i++)
		batch->page[i].error = err;
	batch->done(batch);
}

/* All of the batch was written, or it is as if it had never been. */
static void write_end(struct filestore *store, const struct flight *f, int err)
{
	struct weir_store_batch *batch = f->batch;
	uint32_t at = f->unit;

	if (err) {
		units_put(store, f->unit, f->count);
		end_take_back(store, f->unit, f->count);
		if (err == -ENOSPC || err == -EDQUOT || err == -EFBIG)
			full_note(store);
		batch_fail(batch, err);
		return;
	}
	for (unsigned i = 0; i < batch->count; i++) {
		const uint32_t units = batch->page[i].bytes / store->file.unit;

		batch->page[i].key = at << FILE_UNITS_SHIFT | (units - 1);
		batch->page[i].error = 0;
		at += units;
	}
	batch->done(batch);
}

/* Without O_DIRECT the page cache is to be written out as well, which a ring does not do. */
static bool may_fly(struct filestore *store)
{
	if (!store->write_ring_tried) {
		store->write_ring_tried = true;
		(void)ring_open(&store->write_ring, FILE_FLIGHTS);
	}
	return store->file.direct && ring_is_open(&store->write_ring);
}

static struct flight *flight_free(struct filestore *store)
{
	for (unsigned i = 0; i < FILE_FLIGHTS; i++) {
		if (!store->flight[i].batch)
			return &store->flight[i];
	}
	return NULL;
}

/* In a child of fork. Keys count in units of one size. */
static bool own_open(struct filestore *store)
{
	struct file file;

	if (file_store_open(&file, store->place))
		return false;
	file_unit_set(&file, store->file.unit);
	store->file = file;
	return true;
}

static void store_write_batch(void *data, struct weir_store_batch *batch)
{
	struct filestore *store = data;
	struct flight here = {.batch = batch}, *f;
	size_t bytes = 0;
	off_t offset;
	int64_t at;

	if (store->file.fd < 0 && !own_open(store)) {
		batch_fail(batch, -EOPNOTSUPP);
		return;
	}
	if (!store->told)
		log_once("compressed pages no longer fit the limit: the coldest go to %s%s",
			 store->file.where, store->file.direct ? "" : " (without O_DIRECT)");
	store->told = true;
	for (unsigned i = 0; i < batch->count; i++)
		bytes += batch->page[i].bytes;
	here.count = (uint32_t)(bytes / store->file.unit);
	at = units_get(store, here.count);
	if (at < 0) {
		batch_fail(batch, (int)at);
		return;
	}
	here.unit = (uint32_t)at;
	(void)file_of(store, here.unit, &offset);
	f = may_fly(store) ? flight_free(store) : NULL;
	if (!f) {
		write_end(store, &here,
			  file_write(&store->file, batch->page[0].data, bytes, offset));
		return;
	}
	*f = here;
	ring_write(&store->write_ring, &store->file, batch->page[0].data, (uint32_t)bytes, offset,
		   (uint64_t)(f - store->flight));
	ring_submit(&store->write_ring, 0);
}

/* What the ring did not do, or not all of, is done the other way: that one knows short answers, and its errors are final. */
static void flight_land(struct filestore *store, struct flight *f, int result)
{
	const struct flight landed = *f;
	const size_t bytes = (size_t)f->count * store->file.unit;
	off_t offset;
	int err = 0;

	(void)file_of(store, landed.unit, &offset);
	if (result < 0 || (size_t)result != bytes)
		err = file_write(&store->file, landed.batch->page[0].data, bytes, offset);
	f->batch = NULL;
	write_end(store, &landed, err);
}

static bool flying(const struct filestore *store)
{
	for (unsigned i = 0; i < FILE_FLIGHTS; i++) {
		if (store->flight[i].batch)
			return true;
	}
	return false;
}

static void store_poll_writes(void *data, int wait)
{
	struct filestore *store = data;
	uint64_t tag;
	int result;

	if (!flying(store))
		return;
	if (wait)
		ring_submit(&store->write_ring, 1);
	while (ring_reap(&store->write_ring, &tag, &result))
		flight_land(store, &store->flight[tag], result);
}

static int store_flush(void *data)
{
	struct filestore *store = data;

	while (flying(store))
		store_poll_writes(store, 1);
	return file_flush(&store->file);
}

/* --- reading --- */

/* A ring for the calling thread, or -1. */
static int ring_take(struct filestore *store)
{
	uint32_t taken = load_relaxed(&store->rings_taken);

	while (taken != (1u << FILE_READ_RINGS) - 1) {
		const int i = __builtin_ctz(~taken);

		/* Pairs with the release in ring_give. */
		if (!cas_acquire(&store->rings_taken, &taken, taken | 1u << i))
			continue;
		if (!store->read_ring_tried[i]) {
			store->read_ring_tried[i] = true;
			(void)ring_open(&store->read_ring[i], WEIR_STORE_BATCH_MAX);
		}
		return i;
	}
	return -1;
}

static void ring_give(struct filestore *store, int i)
{
	uint32_t taken = load_relaxed(&store->rings_taken);

	/* Pairs with the acquire in ring_take. */
	while (!cas_release(&store->rings_taken, &taken, taken & ~(1u << i)))
		;
}

/* Pages of a batch that lie one behind the other, in a file and in memory. */
struct run {
	const struct file *file;
	off_t offset;
	unsigned first, count;
	uint32_t bytes;
};

static unsigned runs_find(const struct filestore *store, const struct weir_store_batch *batch,
			  struct run *runs)
{
	unsigned n = 0;
	uint32_t next = 0;

	for (unsigned i = 0; i < batch->count; i++) {
		const struct weir_store_page *p = &batch->page[i];
		off_t offset;
		const struct file *file = file_of(store, key_unit(p->key), &offset);

		if (n && key_unit(p->key) == next && file == runs[n - 1].file) {
			runs[n - 1].count++;
			runs[n - 1].bytes += p->bytes;
		} else {
			runs[n++] = (struct run){file, offset, i, 1, p->bytes};
		}
		next = key_unit(p->key) + p->bytes / store->file.unit;
	}
	return n;
}

static int page_read(const struct filestore *store, const struct weir_store_page *p)
{
	off_t offset;
	const struct file *file = file_of(store, key_unit(p->key), &offset);

	return file_read(file, p->data, p->bytes, offset);
}

static void run_read(const struct filestore *store, const struct weir_store_batch *batch,
		     const struct run *run)
{
	const int err = file_read(run->file, batch->page[run->first].data, run->bytes, run->offset);

	for (unsigned i = run->first; i < run->first + run->count; i++) {
		struct weir_store_page *p = &batch->page[i];

		/* A neighbour that cannot be read is not to cost the others. */
		p->error = err && run->count > 1 ? page_read(store, p) : err;
	}
}

/* All in one submission; false: there is no ring. What a ring did not do is done the other way. */
static bool runs_fly(struct filestore *store, const struct weir_store_batch *batch,
		     const struct run *runs, unsigned n)
{
	const int i = ring_take(store);
	struct ring *ring = i < 0 ? NULL : &store->read_ring[i];
	uint64_t tag;
	int result;

	if (i < 0)
		return false;
	if (!ring_is_open(ring)) {
		ring_give(store, i);
		return false;
	}
	for (unsigned k = 0; k < n; k++) {
		const struct weir_store_page *first = &batch->page[runs[k].first];

		ring_read(ring, runs[k].file, first->data, runs[k].bytes, runs[k].offset, k);
	}
	ring_submit(ring, n);
	while (ring_reap(ring, &tag, &result)) {
		const struct run *run = &runs[tag];

		if (result < 0 || (uint32_t)result != run->bytes)
			run_read(store, batch, run);
		else
			for (unsigned k = run->first; k < run->first + run->count; k++)
				batch->page[k].error = 0;
	}
	ring_give(store, i);
	return true;
}

static void store_read_batch(void *data, struct weir_store_batch *batch)
{
	struct filestore *store = data;
	struct run runs[WEIR_STORE_BATCH_MAX];
	const unsigned n = runs_find(store, batch, runs);

	/* A thread of the program has no ring: its descriptor is in weir's own table. */
	if (n == 1 || (batch->flags & WEIR_STORE_BORROWED) || !runs_fly(store, batch, runs, n)) {
		for (unsigned k = 0; k < n; k++)
			run_read(store, batch, &runs[k]);
	}
	batch->done(batch);
}

/* --- the rest of the table --- */

static void store_discard_keys(void *data, const uint32_t *keys, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		units_put(data, key_unit(keys[i]), key_units(keys[i]));
}

static uint32_t store_bytes(void *data, uint32_t key)
{
	const struct filestore *store = data;

	return key_units(key) * store->file.unit;
}

static void store_stat(void *data, struct weir_store_stat *stat)
{
	struct filestore *store = data;

	lock_acquire(&store->lock);
	stat->bytes = (uint64_t)store->used * store->file.unit;
	stat->bytes_max = (uint64_t)store->most * store->file.unit;
	lock_release(&store->lock);
}

static void store_share_file(void *data, int (*move)(void *data, int fd), void *mover)
{
	struct filestore *store = data;

	store->file.fd = move(mover, store->file.fd);
}

static int store_open_with(int (*open_file)(struct file *file, const char *place),
			   const struct weir_store_config *config, struct weir_store_info *info,
			   void **out)
{
	struct filestore *store = mem_alloc(STORE_BYTES);
	uint64_t bytes;
	int err = -ENOMEM;

	if (!store)
		return err;
	lock_init(&store->lock, RANK_FILE, "file store");
	store->place = config->place;
	store->map = mem_alloc(MAP_BYTES);
	store->kept = mem_alloc(MAP_BYTES);
	if (store->map && store->kept)
		err = open_file(&store->file, config->place);
	if (err) {
		mem_release(store->map, MAP_BYTES);
		mem_release(store->kept, MAP_BYTES);
		mem_release(store, STORE_BYTES);
		return err;
	}
	bytes = config->bytes_max - MIN(config->bytes_max, (uint64_t)store->file.base);
	store->most = (uint32_t)MIN(bytes / store->file.unit, (uint64_t)UNITS_MAX);
	store->keep_free = config->keep_free == UINT64_MAX ? file_disk_reserve(&store->file)
							   : config->keep_free;
	info->unit = store->file.unit;
	*out = store;
	return 0;
}

static int store_open_temporary(const struct weir_store_config *config,
				struct weir_store_info *info, void **out)
{
	return store_open_with(file_store_open, config, info, out);
}

static int store_open_named(const struct weir_store_config *config, struct weir_store_info *info,
			    void **out)
{
	return store_open_with(file_named_open, config, info, out);
}

static void store_close_file(void *data)
{
	struct filestore *store = data;

	ring_close(&store->write_ring);
	for (unsigned i = 0; i < FILE_READ_RINGS; i++)
		ring_close(&store->read_ring[i]);
	file_close(&store->file);
	for (unsigned i = 0; i < store->inherited; i++) {
		file_close(&store->inheritance[i].file);
		pass_close(store->inheritance[i].lease);
	}
	mem_release(store->map, MAP_BYTES);
	mem_release(store->kept, MAP_BYTES);
	mem_release(store, STORE_BYTES);
}

#define STORE_OPS(open_)                                                                           \
	{                                                                                          \
		.size = sizeof(struct weir_store_ops),                                             \
		.open = (open_),                                                                   \
		.close = store_close_file,                                                         \
		.write = store_write_batch,                                                        \
		.read = store_read_batch,                                                          \
		.discard = store_discard_keys,                                                     \
		.bytes = store_bytes,                                                              \
		.flush = store_flush,                                                              \
		.stat = store_stat,                                                                \
		.poll = store_poll_writes,                                                         \
		.share = store_share_file,                                                         \
	}

const struct weir_store_ops filestore_ops = STORE_OPS(store_open_temporary);
const struct weir_store_ops filestore_named_ops = STORE_OPS(store_open_named);

int filestore_validate(struct filestore *store)
{
	uint32_t used = 0;
	int err = 0;

	lock_acquire(&store->lock);
	for (uint32_t word = 0; word < DIV_UP(store->size, WORD_BITS); word++)
		used += (uint32_t)__builtin_popcountll(store->map[word]);
	if (used != store->used || store->used > store->size || store->size > store->most)
		err = -EINVAL;
	lock_release(&store->lock);
	return err;
}
