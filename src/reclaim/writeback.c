/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compressed pages to the store, when they outgrow their share of the limit.
 *
 *    ABSENT or CLEAN,        copied under BUSY          WB still set when the
 *    copy in memory   ──────────────────────────▶ WB ─────────────────────────▶ copy in the store
 *                      GATHER, WRITE               │    write has succeeded        TURN
 *                                                  └──▶ the page was loaded for writing, discarded or its object
 *                                                       moved: WB is gone, and what the store has is discarded
 *
 * No busy bit is held while the store writes: the page can be read all the while. Pages are chosen here; a packet of the
 * mover (mover.h) gathers them and hands them over, and another one turns them over when the store is done. Meanwhile this
 * thread compresses and fills the next batch. Where a packet does not get to its end its pages stay in memory. A batch names regions and
 * containers: who destroys one has writeback_flush called before (reclaim_quiesce).
 *
 * Kept copies of resident pages stay: there are never more of them than resident pages, and giving them up first, as the
 * design had it, made every page that came back dirty as soon as the compressed ones filled their share (a sort
 * compressed twice as many pages). They are given up only when nothing can be written.
 */
#include <errno.h>
#include <sched.h>

#include "base/log.h"
#include "reclaim/reclaim.h"

static bool header_right(const struct vm *vm, const struct object *obj, page_no_t number,
			 uint64_t w)
{
	return obj->page == number &&
	       object_size(obj) <= compressed_room(vm->memory, word_location(w));
}

static bool wanted(uint64_t w)
{
	return !(w & WORD_BUSY) && word_kind(w) == COPY_MEMORY &&
	       (word_state(w) == PAGE_ABSENT || word_state(w) == PAGE_CLEAN);
}

/*
 * A page is in one batch, once, of all that are filled or under way: were its mark taken off (it was written, moved to another
 * container, relocated) and set again, the mark would vouch for the first copy as well, which is no longer what the page holds or who
 * pays.
 */
static bool chosen(const struct reclaim *r, const struct region *region, uint32_t page)
{
	const page_no_t number = page_number(region, page);

	for (unsigned i = 0; i < r->colds; i++) {
		if (r->cold[i].page == page && r->cold[i].region == region)
			return true;
	}
	for (unsigned i = 0; i < WRITES; i++) {
		const struct store_batch *batch = &r->write[i].batch;

		for (unsigned k = 0; r->write[i].state == WRITE_FLYING && k < batch->count; k++) {
			if (batch->number[k] == number)
				return true;
		}
	}
	return false;
}

void batch_add(struct reclaim *r, struct region *region, uint32_t page)
{
	uint64_t w = load_relaxed(&region->word[page]);
	struct write *write = r->filling;
	const struct object *obj;

	if (!write)
		return;
	/* Since it was chosen it may have come back. */
	if (!wanted(w) || word_state(w) != PAGE_ABSENT || (w & WORD_WRITEBACK) ||
	    !page_lock(&region->word[page], &w))
		return;
	obj = compressed_object(r->vm->memory, word_location(w));
	/* A header that rotted would go wrong here; whoever loads the page will find out and say so. */
	if (obj && header_right(r->vm, obj, page_number(region, page), w)) {
		struct weir_container *owner = page_owner(region, w);
		const size_t bytes = ALIGN_UP(object_size(obj), (size_t)r->vm->store->unit);

		if (!container_swap_try(owner, bytes)) {
			/* It stays compressed. */
		} else if (store_batch_add(r->vm->store, &write->batch, obj,
					   (uint64_t)(uintptr_t)region)) {
			write->payer[write->batch.count - 1] = owner;
			write->bytes += compressed_room(r->vm->memory, word_location(w));
			w |= WORD_WRITEBACK;
		} else {
			container_swap_uncharge(owner, bytes);
		}
	}
	if (obj)
		compressed_object_end(r->vm->memory, obj);
	page_unlock(r->vm, region, page, w, true);
}

/* Chooses pages of the target that have been away for at least `age` of the eviction clock. One lap at the most. Returns
 * how many could have been, were they old enough. */
static unsigned batch_scan(struct reclaim *r, const struct weir_container *target, unsigned age)
{
	const struct tenancy whose = {target, true};
	const struct weir_container *full =
		NULL; /* by swap.max: seen once, its pages are passed over */
	struct window at;
	unsigned laps = 0, candidates = 0;

	while (r->colds < STORE_BATCH && laps < 2 &&
	       clock_step(r->vm, &whose, &r->writeback_hand, &at, &laps)) {
		for (uint32_t page = at.first; page < at.first + at.count; page++) {
			uint64_t w = load_relaxed(&at.region->word[page]);

			if (!wanted(w) || (w & WORD_WRITEBACK) || word_state(w) == PAGE_CLEAN ||
			    !(at.owners >> word_owner(w) & 1) || page_owner(at.region, w) == full)
				continue;
			candidates++;
			if (age && ((vm_clock(page_owner(at.region, w)) - word_stamp(w)) &
				    STAMP_MASK) < age)
				continue;
			if (chosen(r, at.region, page))
				continue;
			if (r->colds == STORE_BATCH) {
				r->writeback_hand.page = page;
				return candidates;
			}
			r->cold[r->colds++] = (struct victim){at.region, page};
			if (container_swap_full(page_owner(at.region, w)))
				full = page_owner(at.region, w);
		}
	}
	return candidates;
}

/*
 * The pages longest away, nearly: those older than an age that one in eight reaches. It follows what is found, and so
 * needs no sorting, nor a list. Where even a lap finds few, any page goes while the share is exceeded.
 */
static void batch_choose(struct reclaim *r, const struct weir_container *over)
{
	const struct weir_container *target = over ? over : r->vm->root;
	int *shift = &tenant_of(target)->writeback_shift;
	unsigned age = (unsigned)(256 + *shift);
	unsigned candidates = batch_scan(r, target, age);
	unsigned step = MAX(age / 8, 1u);

	if (r->colds * 8 > candidates)
		age = MIN(age + step, STAMP_MASK / 2u);
	else
		age -= MIN(step, age);
	*shift = (int)age - 256;
	if (r->colds < STORE_BATCH / 4 && over)
		(void)batch_scan(r, target, 0);
}

/* Turns the copy of a page over to the file, if it is still the one that was written. */
static bool copy_turn_over(struct vm *vm, struct region *region, uint32_t page, store_key_t key)
{
	/* Whoever has it busy loads or drops it: both keep WB where the copy stays the same. */
	uint64_t w = page_lock_wait(&region->word[page]);

	if (!(w & WORD_WRITEBACK)) {
		page_unlock(vm, region, page, w, true);
		return false;
	}
	page_copy_free(vm, region, w);
	w = word_without_copy(w) & ~WORD_WRITEBACK;
	page_unlock(vm, region, page, w | word_copy(COPY_FILE, key), true);
	return true;
}

void batch_write(struct reclaim *r)
{
	struct write *write = r->filling;

	if (!write || !write->batch.count)
		return;
	r->filling = NULL;
	write->state = WRITE_FLYING;
	add_relaxed(&r->flying, write->bytes);
	store_write(r->vm->store, &write->batch);
}

static struct region *batch_page(const struct store_batch *batch, unsigned i, uint32_t *page)
{
	struct region *region = (struct region *)(uintptr_t)batch->tag[i];

	*page = (uint32_t)(batch->number[i] - page_number(region, 0));
	return region;
}

/* A page that could not be written, or not turned over: its copy stays in memory. */
static void page_forget(struct reclaim *r, struct write *write, unsigned i)
{
	uint32_t page;
	struct region *region = batch_page(&write->batch, i, &page);
	uint64_t w = page_lock_wait(&region->word[page]);

	page_unlock(r->vm, region, page, w & ~WORD_WRITEBACK, true);
	container_swap_uncharge(write->payer[i], write->batch.page[i].bytes);
	container_event(write->payer[i], EVENT_SWAP_FAIL);
	add_relaxed(&r->vm->count.write_failed, 1);
}

static void write_free(struct reclaim *r, struct write *write)
{
	if (write->state == WRITE_FLYING)
		sub_relaxed(&r->flying, write->bytes);
	write->state = WRITE_FREE;
}

int batch_turn_over(struct reclaim *r, unsigned index)
{
	struct write *write = index < WRITES ? &r->write[index] : NULL;
	struct store *store = r->vm->store;
	unsigned turned = 0;
	int err;

	if (!write || write->state != WRITE_FLYING || !store_batch_done(&write->batch))
		return -EINVAL;
	err = store_batch_end(store, &write->batch);
	for (unsigned i = 0; i < write->batch.count; i++) {
		const struct weir_store_page *p = &write->batch.page[i];
		uint32_t page;
		struct region *region = batch_page(&write->batch, i, &page);

		if (p->error) {
			page_forget(r, write, i);
		} else if (copy_turn_over(r->vm, region, page, p->key)) {
			turned++;
		} else {
			store_discard(store, p->key);
			container_swap_uncharge(write->payer[i], p->bytes);
		}
	}
	add_relaxed(&r->vm->count.written, turned);
	write_free(r, write);
	return err;
}

/* Its packet did not get to the end: the copies stay in memory. */
static void batch_forget(struct reclaim *r, struct write *write)
{
	if (write->state == WRITE_FLYING)
		(void)store_batch_end(r->vm->store, &write->batch);
	for (unsigned i = 0; i < write->batch.count; i++) {
		if (write->state == WRITE_FLYING && !write->batch.page[i].error)
			store_discard(r->vm->store, write->batch.page[i].key);
		page_forget(r, write, i);
	}
	write_free(r, write);
}

/* Gives up the copy of a resident page; it is still write-protected. */
static void copy_give_up(struct vm *vm, struct region *region, uint32_t page, uint64_t w)
{
	if (!page_lock(&region->word[page], &w))
		return;
	page_copy_free(vm, region, w);
	page_unlock(vm, region, page,
		    word_history(w) | (uint64_t)word_credit(w) << CREDIT_SHIFT |
			    (uint64_t)word_pins(w) << PIN_SHIFT | PAGE_GUARDED,
		    true);
}

/* While nothing can be written, copies of pages that are resident anyhow are the only memory to be had. */
static void copies_give_up(struct reclaim *r)
{
	const struct tenancy all = {r->vm->root, true};
	struct clock_hand hand = {0};
	struct window at;
	unsigned laps = 0;

	while (!laps && clock_step(r->vm, &all, &hand, &at, &laps)) {
		for (uint32_t page = at.first; page < at.first + at.count; page++) {
			uint64_t w = load_relaxed(&at.region->word[page]);

			if (wanted(w) && word_state(w) == PAGE_CLEAN)
				copy_give_up(r->vm, at.region, page, w);
		}
	}
}

/* Waits longer after each failure in a row, up to a second. */
static int write_failed(struct reclaim *r, int err)
{
	const uint32_t step = MAX(MIN(load_relaxed(&r->retry_step_ns) * 2, RETRY_STEP_MOST_NS),
				  RETRY_STEP_LEAST_NS);

	store_relaxed(&r->retry_step_ns, step);
	store_relaxed(&r->retry_ns, now_ns() + step);
	copies_give_up(r);
	if (store_there(r->vm->store))
		log_once("writing cold pages to the file failed (%s): they stay compressed in "
			 "memory, over "
			 "the limit. "
			 "Make room on the disk, or point TMPDIR to another one",
			 errno_name(err));
	return err;
}

/* Of those under way, the one that was begun first; NULL: none. */
static struct write *write_oldest(struct reclaim *r)
{
	for (unsigned i = 1; i <= WRITES; i++) {
		struct write *write = &r->write[(r->write_turn + i) % WRITES];

		if (write->state == WRITE_FLYING)
			return write;
	}
	return NULL;
}

static int write_land(struct reclaim *r, struct write *write)
{
	struct mover *mover = mover_take(&r->movers, r->pager);
	int err = mover ? mover_turn(mover, (unsigned)(write - r->write)) : 0;

	if (!mover) {
		/* All channels are taken: later. */
		sched_yield();
		return 0;
	}
	mover_give(&r->movers, mover);
	/* Behind TURN nothing is left to go wrong. */
	if (write->state == WRITE_FLYING)
		batch_forget(r, write);
	if (err)
		return write_failed(r, err);
	store_relaxed(&r->retry_step_ns, 0);
	return 0;
}

int writeback_land(struct reclaim *r, bool wait)
{
	struct write *oldest = write_oldest(r);
	int err = 0;

	if (!oldest)
		return 0;
	if (!store_batch_done(&oldest->batch))
		store_poll(r->vm->store, &oldest->batch, wait);
	for (unsigned i = 0; i < WRITES; i++) {
		struct write *write = &r->write[i];

		if (write->state == WRITE_FLYING && store_batch_done(&write->batch)) {
			int now = write_land(r, write);

			err = now ? now : err;
		}
	}
	return err;
}

void writeback_flush(struct reclaim *r)
{
	while (write_oldest(r))
		(void)writeback_land(r, true);
}

static struct write *write_next(struct reclaim *r)
{
	return &r->write[(r->write_turn + 1) % WRITES];
}

bool writeback_ready(struct reclaim *r)
{
	return !write_paused(r) && write_next(r)->state == WRITE_FREE;
}

/* A batch to fill; where all are under way the first one is waited for. */
static struct write *write_begin(struct reclaim *r)
{
	struct write *write = write_next(r);

	if (write->state == WRITE_FLYING)
		(void)writeback_land(r, true);
	if (write->state != WRITE_FREE)
		return NULL;
	r->write_turn++;
	store_batch_start(&write->batch);
	write->bytes = 0;
	write->state = WRITE_FILLING;
	return write;
}

/* Gathers and hands over what was chosen. Returns pages that are on their way or there. */
static int batch_send(struct reclaim *r)
{
	struct mover *mover = mover_take(&r->movers, r->pager);
	struct write *write = mover ? write_begin(r) : NULL;
	int err = 0, count;

	if (write) {
		r->filling = write;
		err = mover_writeback(mover, r->cold, r->colds);
		r->filling = NULL;
	}
	if (mover)
		mover_give(&r->movers, mover);
	if (!write)
		return 0;
	count = (int)write->batch.count;
	if (write->state == WRITE_FILLING) {
		batch_forget(r, write);
		return err && count ? write_failed(r, err) : err;
	}
	/* The packet's end is no page's. */
	err = store_batch_done(&write->batch) ? write_land(r, write) : 0;
	return err ? err : count;
}

int writeback_once(struct reclaim *r)
{
	return writeback_of(r, reclaim_over_share(r));
}

int writeback_of(struct reclaim *r, struct weir_container *target)
{
	int err, sent;

	if (load_relaxed(&r->write_closed))
		return 0;
	err = store_open_late(r->vm->store);
	if (err)
		return write_failed(r, err);
	r->colds = 0;
	batch_choose(r, target);
	sent = r->colds ? batch_send(r) : 0;
	/* Its copies are of pages that are there, or not its own to write: jobs need not wait for them. */
	if (!sent && target)
		store_relaxed(&tenant_of(target)->cap, 0);
	return sent;
}

void relocate_object(void *data, page_no_t number, slot_t slot)
{
	struct vm *vm = ((struct reclaim *)data)->vm;
	struct region *region = vm_find(vm, (uintptr_t)number << PAGE_SHIFT);
	uint32_t page;
	uint64_t w;
	slot_t to;

	if (!region)
		return;
	page = (uint32_t)(number - page_number(region, 0));
	w = load_relaxed(&region->word[page]);
	if ((w & WORD_BUSY) || word_kind(w) != COPY_MEMORY || word_location(w) != slot ||
	    !page_lock(&region->word[page], &w))
		return;
	if (!wanted(w)) {
		/* A stale one, from a fork. */
		page_copy_free(vm, region, w);
		page_unlock(vm, region, page, word_without_copy(w), true);
		return;
	}
	/* Of the same class, so it costs what it did. What rotted moves as it is: whoever loads the page will find out and say so. */
	if (compressed_copy(vm->memory, slot, &to) == 0) {
		compressed_free(vm->memory, slot);
		w = word_without_copy(w) & ~WORD_WRITEBACK;
		w |= word_copy(COPY_MEMORY, to);
	}
	page_unlock(vm, region, page, w, true);
}
