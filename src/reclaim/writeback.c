/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compressed pages to the file, when they outgrow their share of the limit.
 *
 *    ABSENT or CLEAN,        copied under BUSY          WB still set when the
 *    copy in memory   ──────────────────────────▶ WB ─────────────────────────▶ copy in the file
 *                      GATHER                      │    write has succeeded        WRITE, TURN
 *                                                  └──▶ the page was loaded for writing, discarded or its object
 *                                                       moved: WB is gone, and the slot in the file is freed
 *
 * No busy bit is held while the file is written: the page can be read all the while. Pages are chosen here; a packet of the
 * mover (mover.h) does the rest, and where it does not get to its end they stay in memory.
 *
 * Kept copies of resident pages stay: there are never more of them than resident pages, and giving them up first, as the
 * design had it, made every page that came back dirty as soon as the compressed ones filled their share (a sort
 * compressed twice as many pages). They are given up only when nothing can be written.
 */
#include <errno.h>

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

/* A page is in a batch once: were its mark taken off (it was written, moved to another container, relocated) and set again, the
 * mark would vouch for the first copy as well, which is no longer what the page holds or who pays. */
static bool chosen(const struct reclaim *r, const struct region *region, uint32_t page)
{
	for (unsigned i = 0; i < r->colds; i++) {
		if (r->cold[i].page == page && r->cold[i].region == region)
			return true;
	}
	return false;
}

void batch_add(struct reclaim *r, struct region *region, uint32_t page)
{
	uint64_t w = load_relaxed(&region->word[page]);
	const struct object *obj;

	/* Since it was chosen it may have come back. */
	if (!wanted(w) || word_state(w) != PAGE_ABSENT || (w & WORD_WRITEBACK) ||
	    !page_lock(&region->word[page], &w))
		return;
	obj = compressed_object(r->vm->memory, word_location(w));
	/* A header that rotted would go wrong here; whoever loads the page will find out and say so. */
	if (obj && header_right(r->vm, obj, page_number(region, page), w)) {
		struct weir_container *owner = page_owner(region, w);
		const size_t bytes = ALIGN_UP(object_size(obj), (size_t)r->vm->file->file.unit);

		if (!container_swap_try(owner, bytes)) {
			/* It stays compressed. */
		} else if (file_batch_add(r->vm->file, &r->batch, obj,
					  (uint64_t)(uintptr_t)region)) {
			r->payer[r->batch.count - 1] = owner;
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

	while (r->colds < FILE_BATCH && laps < 2 &&
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
			if (r->colds == FILE_BATCH) {
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
	if (r->colds < FILE_BATCH / 4 && over)
		(void)batch_scan(r, target, 0);
}

/* Turns the copy of a page over to the file, if it is still the one that was written. */
static bool copy_turn_over(struct vm *vm, struct region *region, uint32_t page, file_slot_t slot)
{
	/* Whoever has it busy loads or drops it: both keep WB where the copy stays the same. */
	uint64_t w = page_lock_wait(&region->word[page]);

	if (!(w & WORD_WRITEBACK)) {
		page_unlock(vm, region, page, w, true);
		return false;
	}
	page_copy_free(vm, region, w);
	w &= ~(WORD_WRITEBACK | word_copy(3, UINT32_MAX));
	page_unlock(vm, region, page, w | word_copy(COPY_FILE, slot), true);
	return true;
}

int batch_write(struct reclaim *r)
{
	int err = r->batch.count ? filestore_write(r->vm->file, &r->batch) : 0;

	r->batch_written = !err;
	return err;
}

/* What the batch has in the file for a page is not needed. */
static void batch_release(struct reclaim *r, unsigned i)
{
	if (r->batch_written)
		filestore_free(r->vm->file, r->batch.slot[i]);
	container_swap_uncharge(r->payer[i], r->batch.size[i]);
}

void batch_turn_over(struct reclaim *r)
{
	unsigned turned = 0;

	for (unsigned i = 0; i < r->batch.count; i++) {
		struct region *region = (struct region *)(uintptr_t)r->batch.tag[i];
		uint32_t page = (uint32_t)(r->batch.page[i] - page_number(region, 0));

		if (copy_turn_over(r->vm, region, page, r->batch.slot[i]))
			turned++;
		else
			batch_release(r, i);
	}
	add_relaxed(&r->vm->count.written, turned);
	r->batch_turned = true;
}

/* Takes the mark off again; the copies stay in memory. */
static void batch_forget(struct reclaim *r)
{
	for (unsigned i = 0; i < r->batch.count; i++) {
		struct region *region = (struct region *)(uintptr_t)r->batch.tag[i];
		uint32_t page = (uint32_t)(r->batch.page[i] - page_number(region, 0));
		uint64_t w = page_lock_wait(&region->word[page]);

		page_unlock(r->vm, region, page, w & ~WORD_WRITEBACK, true);
		batch_release(r, i);
		container_event(r->payer[i], EVENT_SWAP_FAIL);
	}
	add_relaxed(&r->vm->count.write_failed, r->batch.count);
}

/* Gives up the copy of a resident page: it is dirty from now on, and still write-protected, which is harmless. */
static void copy_give_up(struct vm *vm, struct region *region, uint32_t page, uint64_t w)
{
	if (!page_lock(&region->word[page], &w))
		return;
	page_copy_free(vm, region, w);
	page_unlock(vm, region, page,
		    word_history(w) | (uint64_t)word_credit(w) << CREDIT_SHIFT |
			    (uint64_t)word_pins(w) << PIN_SHIFT | PAGE_DIRTY,
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
	r->retry_step_ns = MAX(MIN(r->retry_step_ns * 2, 1000000000u), 10000000u);
	store_relaxed(&r->retry_ns, now_ns() + r->retry_step_ns);
	copies_give_up(r);
	log_once("writing cold pages to the file failed (%s): they stay compressed in memory, over "
		 "the limit. "
		 "Make room on the disk, or point TMPDIR to another one",
		 errno_name(err));
	return err;
}

int writeback_once(struct reclaim *r)
{
	struct vm *vm = r->vm;
	const struct weir_container *target = reclaim_over_share(r);
	struct mover *mover;
	int err = filestore_open(vm->file, false);

	if (err)
		return write_failed(r, err);
	r->batch.count = 0;
	r->batch.fill = 0;
	r->batch_written = r->batch_turned = false;
	r->colds = 0;
	batch_choose(r, target);
	mover = r->colds ? mover_take(&r->movers, r->pager) : NULL;
	if (!mover)
		return 0;
	err = mover_writeback(mover, r->cold, r->colds);
	mover_give(&r->movers, mover);
	/* Behind the last step nothing is left to go wrong. */
	if (!r->batch_turned && err) {
		batch_forget(r);
		return write_failed(r, err);
	}
	r->retry_step_ns = 0;
	return (int)r->batch.count;
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
	if (!wanted(w) || word_location(w) != slot || !page_lock(&region->word[page], &w))
		return;
	/* Of the same class, so it costs what it did. What rotted moves as it is: whoever loads the page will find out and say so. */
	if (compressed_copy(vm->memory, slot, &to) == 0) {
		compressed_free(vm->memory, slot);
		w &= ~(WORD_WRITEBACK | word_copy(3, UINT32_MAX));
		w |= word_copy(COPY_MEMORY, to);
	}
	page_unlock(vm, region, page, w, true);
}
