/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Removal of a store, the swapoff of old: every page that it keeps comes back into compressed memory. On the background thread, while others fault,
 * reclaim for themselves, write and discard.
 *
 *      closed for writing ─▶ batches landed ─▶ all reserved ─▶ pages moved, up to 64 at a time ─▶ what is left of the reservation given back
 *                                                  └─ -ENOMEM: given back; nothing has changed
 *
 * The reservation is a charge: what its pages take in the store (never less than what they take in memory), to the container of each. So they fit, whatever
 * others do meanwhile; a page that is loaded, written or discarded before its turn leaves its share until the end. Busy bits are
 * held over a read, as by a fault that loads a run.
 */
#include <errno.h>

#include "reclaim/reclaim.h"

/* A page of any state may name a copy: a stale one, from a fork, if not these two. */
static bool in_store(uint64_t w)
{
	return word_kind(w) == COPY_FILE;
}

static bool copy_valid(uint64_t w)
{
	return word_state(w) == PAGE_ABSENT || word_state(w) == PAGE_CLEAN;
}

/* The next page of a region, from page on, that the store has; its end: none. */
static uint32_t page_next(const struct region *region, uint32_t page)
{
	const uint32_t top = load_relaxed(&region->top);

	while (page < top && !in_store(load_relaxed(&region->word[page])))
		page++;
	return page < top ? page : UINT32_MAX;
}

static int region_reserve(struct reclaim *r, struct region *region)
{
	for (uint32_t page = page_next(region, 0); page != UINT32_MAX;
	     page = page_next(region, page + 1)) {
		uint64_t w = page_lock_wait(&region->word[page]);
		struct weir_container *owner =
			in_store(w) && copy_valid(w) ? page_owner(region, w) : NULL;
		const uint64_t bytes = owner ? store_key_bytes(r->vm->store, word_location(w)) : 0;

		page_unlock(r->vm, region, page, w, true);
		/* Not under the busy bit: it may have to make room. */
		if (owner && container_charge(owner, CHARGE_COMPRESSED, bytes))
			return -ENOMEM;
		if (owner)
			tenant_of(owner)->reserved += bytes;
	}
	return 0;
}

static void reservation_end(struct reclaim *r)
{
	struct weir_container *root = r->vm->root, *c;
	uint64_t bytes;

	do {
		lock_acquire(&root->tree->lock);
		for (c = root; c && !tenant_of(c)->reserved;)
			c = container_next(root, c);
		bytes = c ? tenant_of(c)->reserved : 0;
		if (c)
			tenant_of(c)->reserved = 0;
		lock_release(&root->tree->lock);
		/* Nobody deletes it meanwhile: that takes this thread. */
		if (c)
			container_uncharge(c, CHARGE_COMPRESSED, bytes);
	} while (c);
}

/* The page's own copy is charged from the reservation, as far as that goes. */
static void charge_turn(struct weir_container *owner, uint64_t room, uint64_t bytes)
{
	const uint64_t from = MIN(tenant_of(owner)->reserved, bytes);

	tenant_of(owner)->reserved -= from;
	container_force(owner, CHARGE_COMPRESSED, room);
	if (from)
		container_uncharge(owner, CHARGE_COMPRESSED, from);
}

/* An absent page whose object was read. Its word from now on; *err: it stays where it is. */
static uint64_t page_bring(struct reclaim *r, struct region *region, uint32_t page, uint64_t w,
			   unsigned i, int *err)
{
	struct vm *vm = r->vm;
	struct weir_container *owner = page_owner(region, w);
	const uint64_t bytes = store_key_bytes(vm->store, word_location(w));
	const struct object *obj =
		store_object(&r->pager->reader, i, page_number(region, page), err);
	slot_t slot;

	if (!obj) {
		*err = -EIO;
		return w;
	}
	*err = compressed_put(vm->memory, obj, object_size(obj), &slot);
	if (*err)
		return w;
	charge_turn(owner, compressed_room(vm->memory, slot), bytes);
	page_copy_free(vm, region, w);
	w &= ~(WORD_WRITEBACK | word_copy(3, UINT32_MAX));
	return w | word_copy(COPY_MEMORY, slot);
}

/* A copy that nobody needs goes: of a page that is resident, which is dirty from now on and still write-protected, and a stale one. */
static uint64_t copy_let_go(struct vm *vm, const struct region *region, uint64_t w)
{
	page_copy_free(vm, region, w);
	w = word_without_copy(w);
	if (word_state(w) == PAGE_POISONED)
		return PAGE_POISONED;
	return word_state(w) == PAGE_CLEAN ? word_with_state(w, PAGE_GUARDED) : w;
}

/* Some pages from *page on. Afterwards *page is the next to look at. 0, -EIO: one cannot be read; -ENOMEM. */
static int pages_bring(struct reclaim *r, struct region *region, uint32_t *page)
{
	store_key_t key[RUN_MAX];
	uint32_t at[RUN_MAX], next = *page;
	uint64_t w[RUN_MAX];
	int result = 0, got;
	unsigned n = 0;

	for (; n < RUN_MAX && next != UINT32_MAX; next = page_next(region, next + 1)) {
		uint64_t x = load_relaxed(&region->word[next]);

		/* The first is waited for, so that none is left behind; further ones are higher, and only tried. */
		if (!n)
			x = page_lock_wait(&region->word[next]);
		else if ((x & WORD_BUSY) || !in_store(x) || !page_lock(&region->word[next], &x))
			break;
		if (word_state(x) != PAGE_ABSENT || !in_store(x)) {
			page_unlock(r->vm, region, next,
				    in_store(x) ? copy_let_go(r->vm, region, x) : x, true);
			continue;
		}
		at[n] = next;
		w[n] = x;
		key[n++] = word_location(x);
	}
	*page = next;
	if (!n)
		return 0;
	got = store_read(r->vm->store, &r->pager->reader, key, n, r->pager->stored, false);
	for (unsigned i = 0; i < n; i++) {
		int err = got < 0 ? -EIO : 0;

		if ((int)i < got && result != -ENOMEM)
			w[i] = page_bring(r, region, at[i], w[i], i, &err);
		page_unlock(r->vm, region, at[i], w[i], true);
		result = err && result != -ENOMEM ? err : result;
	}
	/* What did not fit the buffer is next. */
	if (got > 0 && (unsigned)got < n)
		*page = at[got];
	return result;
}

static int regions_each(struct reclaim *r, int (*fn)(struct reclaim *r, struct region *region))
{
	int result = 0;

	for (uint32_t i = 0; i < load_relaxed(&r->vm->regions) && result != -ENOMEM; i++) {
		struct region *region = load_acquire(&r->vm->region[i]);
		int err = region && !region->file ? fn(r, region) : 0;

		result = err ? err : result;
	}
	return result;
}

static int region_bring(struct reclaim *r, struct region *region)
{
	uint32_t page = page_next(region, 0);
	int result = 0;

	while (page != UINT32_MAX && result != -ENOMEM) {
		int err = pages_bring(r, region, &page);

		result = err ? err : result;
	}
	return result;
}

int store_empty(struct reclaim *r)
{
	int err;

	store_relaxed(&r->write_closed, true);
	writeback_flush(r);
	err = regions_each(r, region_reserve);
	if (!err)
		err = regions_each(r, region_bring);
	reservation_end(r);
	store_relaxed(&r->write_closed, false);
	return err;
}
