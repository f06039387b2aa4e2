/* SPDX-License-Identifier: BSD-2-Clause */
#include "store/store.h"

#include <errno.h>
#include <string.h>

#include "base/lock.h"
#include "base/log.h"
#include "store/filestore.h"

static bool ops_complete(const struct weir_store_ops *ops)
{
	return ops->size >= offsetof(struct weir_store_ops, poll) && ops->open && ops->close &&
	       ops->write && ops->read && ops->discard && ops->bytes && ops->flush && ops->stat;
}

/* A table of an older size has no such operation. */
#define HAS(ops, op)                                                                               \
	((ops)->size >= offsetof(struct weir_store_ops, op) + sizeof((ops)->op) && (ops)->op)

int store_open(struct store *s)
{
	struct weir_store_info info = {.size = sizeof(info), .unit = 512};
	int err;

	if (store_is_open(s))
		return 0;
	if (!s->ops)
		return -ENOENT;
	err = s->ops->open(&s->config, &info, &s->handle);
	if (err)
		return err;
	if (info.unit < 512 || info.unit > PAGE_SIZE || (info.unit & (info.unit - 1))) {
		s->ops->close(s->handle);
		return -EINVAL;
	}
	s->unit = info.unit;
	/* Pairs with the acquire in store_is_open. */
	store_release(&s->open, true);
	return 0;
}

int store_open_late(struct store *s)
{
	int err = store_open(s);

	if (err && s->ops)
		log_once("no place for cold pages (%s): they stay in memory, over the limit. Set "
			 "TMPDIR to a "
			 "folder on a disk",
			 errno_name(err));
	return err;
}

void store_close(struct store *s)
{
	if (!store_is_open(s))
		return;
	store_relaxed(&s->open, false);
	s->ops->close(s->handle);
}

void store_share(struct store *s, int (*move)(void *data, int fd), void *data)
{
	if (store_is_open(s) && HAS(s->ops, share))
		s->ops->share(s->handle, move, data);
}

bool store_ops_valid(const struct weir_store_ops *ops)
{
	return ops && ops_complete(ops);
}

/* --- writing --- */

void store_batch_start(struct store_batch *batch)
{
	batch->count = 0;
	batch->fill = 0;
	store_relaxed(&batch->done, 0);
}

bool store_batch_add(struct store *s, struct store_batch *batch, const struct object *obj,
		     uint64_t tag)
{
	const size_t size = object_size(obj), room = ALIGN_UP(size, (size_t)s->unit);
	const unsigned i = batch->count;

	if (i == STORE_BATCH || batch->fill + room > STORE_BATCH_BYTES)
		return false;
	batch->number[i] = obj->page;
	batch->tag[i] = tag;
	batch->page[i] = (struct weir_store_page){.data = batch->buffer + batch->fill,
						  .bytes = (uint32_t)room};
	memcpy(batch->buffer + batch->fill, obj, size);
	memset(batch->buffer + batch->fill + size, 0, room - size);
	batch->fill += room;
	batch->count++;
	return true;
}

/* What the store said is complete; by any thread. */
static void done_tell(_Atomic uint32_t *done)
{
	/* Pairs with the acquire in store_batch_done and in read_wait. */
	store_release(done, 1);
	(void)futex_wake(done, 1);
}

static void write_done(struct weir_store_batch *io)
{
	done_tell(&CONTAINER_OF(io, struct store_batch, io)->done);
}

void store_write(struct store *s, struct store_batch *batch)
{
	batch->io = (struct weir_store_batch){
		.page = batch->page, .count = batch->count, .done = write_done};
	s->ops->write(s->handle, &batch->io);
}

void store_poll(struct store *s, struct store_batch *batch, bool wait)
{
	if (HAS(s->ops, poll)) {
		do
			s->ops->poll(s->handle, wait);
		while (wait && !store_batch_done(batch));
		return;
	}
	while (wait && !store_batch_done(batch))
		(void)futex_wait(&batch->done, 0, 0);
}

int store_batch_end(struct store *s, struct store_batch *batch)
{
	int err = 0;

	for (unsigned i = 0; i < batch->count; i++) {
		/* Errors are negative: what else a store may say is one, too. */
		if (batch->page[i].error > 0)
			batch->page[i].error = -EIO;
		if (!batch->page[i].error)
			add_relaxed(&s->bytes, batch->page[i].bytes);
		else if (!err)
			err = batch->page[i].error;
	}
	if (err)
		add_relaxed(&s->failures, 1);
	return err;
}

/* --- reading --- */

static void read_done(struct weir_store_batch *io)
{
	done_tell(&CONTAINER_OF(io, struct store_reader, io)->done);
}

int store_read(struct store *s, struct store_reader *reader, const store_key_t *key, unsigned count,
	       void *buffer, bool borrowed)
{
	size_t fill = 0;
	unsigned n = 0;

	if (!store_is_open(s) || (borrowed && !HAS(s->ops, share)))
		return -EBADF;
	for (; n < count && n < STORE_BATCH; n++) {
		const uint32_t bytes = s->ops->bytes(s->handle, key[n]);

		if (fill + bytes > STORE_READ_BYTES)
			break;
		reader->page[n] = (struct weir_store_page){
			.key = key[n], .bytes = bytes, .data = (char *)buffer + fill};
		/* A store that says that it has read, and has not, must not find an object of the same page here. */
		memset(reader->page[n].data, 0, sizeof(struct object));
		fill += bytes;
	}
	store_relaxed(&reader->done, 0);
	reader->io = (struct weir_store_batch){.page = reader->page,
					       .count = n,
					       .flags = borrowed ? WEIR_STORE_BORROWED : 0,
					       .done = read_done};
	s->ops->read(s->handle, &reader->io);
	/* Pairs with the release in done_tell. */
	while (!load_acquire(&reader->done))
		(void)futex_wait(&reader->done, 0, 0);
	return (int)n;
}

const struct object *store_object(const struct store_reader *reader, unsigned i, page_no_t page,
				  int *err)
{
	const struct weir_store_page *p = &reader->page[i];

	*err = p->error < 0 ? p->error : p->error ? -EIO : 0;
	if (!*err && !object_sound(p->data, p->bytes, page))
		*err = -EBADMSG;
	return *err ? NULL : p->data;
}

int store_unpack(const struct store_reader *reader, struct packer *packer, unsigned i,
		 page_no_t page, void *dst)
{
	const struct weir_store_page *p = &reader->page[i];

	if (p->error)
		return p->error < 0 ? p->error : -EIO;
	return object_unpack(packer, p->data, p->bytes, page, dst);
}

/* --- keys --- */

uint32_t store_key_bytes(const struct store *s, store_key_t key)
{
	/* Closed with the instance: nobody counts any more. */
	return store_is_open(s) ? s->ops->bytes(s->handle, key) : 0;
}

void store_discard(struct store *s, store_key_t key)
{
	if (!store_is_open(s))
		return;
	sub_relaxed(&s->bytes, s->ops->bytes(s->handle, key));
	s->ops->discard(s->handle, &key, 1);
}

/* --- forks --- */

_Static_assert((int)STORE_PASS_MAX == (int)FILE_PASS_MAX, "as many files as the file store has");

int store_pass(const struct store *s, int *fds)
{
	if (!store_is_open(s))
		return 0;
	if (s->ops != &filestore_ops)
		return -ENOTSUP;
	return load_relaxed(&s->bytes) ? filestore_pass(s->handle, fds) : 0;
}

void store_keep(struct store *s)
{
	filestore_keep(s->handle);
}

void store_unkeep(struct store *s)
{
	filestore_unkeep(s->handle);
}

bool store_after_fork(struct store *s, const int *fds, int lease)
{
	if (!store_is_open(s))
		return false;
	return filestore_after_fork(s->handle, load_relaxed(&s->bytes) ? fds : NULL, lease);
}
