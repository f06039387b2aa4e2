/* SPDX-License-Identifier: BSD-2-Clause */
#include "reclaim/reclaim.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

enum { WINDOW = 64, TICK_NS = 50000000, FLIGHT_NS = 200000, FUTILE_NS = 20000000 };

/* --- the clock --- */

bool clock_step(struct vm *vm, const struct tenancy *whose, struct clock_hand *hand,
		struct window *out, unsigned *laps)
{
	uint32_t regions = load_relaxed(&vm->regions), skipped = 0;

	while (skipped <= regions) {
		struct region *region =
			hand->region < regions ? load_acquire(&vm->region[hand->region]) : NULL;
		uint32_t top = region ? load_relaxed(&region->top) : 0;
		uint32_t mask =
			top ? owners_mask(&region->owners, whose->container, whose->below) : 0;

		if (!mask || hand->page >= top) {
			hand->page = 0;
			hand->region++;
			skipped++;
			if (hand->region >= regions) {
				hand->region = 0;
				(*laps)++;
			}
			continue;
		}
		if (!load_relaxed(&region->populated[hand->page >> CHUNK_SHIFT])) {
			hand->page =
				ALIGN_DOWN(hand->page, 1u << CHUNK_SHIFT) + (1u << CHUNK_SHIFT);
			continue;
		}
		*out = (struct window){region, hand->page, MIN((uint32_t)WINDOW, top - hand->page),
				       mask};
		hand->page += WINDOW;
		return true;
	}
	return false;
}

/* Batches small enough that a tiny limit is not emptied by one job, nor a tenant taken far below what it was promised. */
unsigned job_size(const struct weir_container *container)
{
	uint64_t pages = load_relaxed(&container->limit) >> PAGE_SHIFT;
	uint32_t spare = load_relaxed(&tenant_of(container)->spare);

	pages = MIN(pages / 32, (uint64_t)JOB_MAX);
	return (unsigned)MAX(spare ? MIN(pages, (uint64_t)spare) : pages, 8u);
}

/* Looks at one page as the clock's hand passes. True: it is a victim (and CLEANING if it was dirty). */
static bool clock_visit(page_word_t *word, uint32_t owners)
{
	uint64_t w = load_relaxed(word);

	for (;;) {
		if ((w & WORD_BUSY) || !word_resident(w) || word_pins(w) ||
		    !(owners >> word_owner(w) & 1) || word == vm_untouched)
			return false;
		/* Of this job, or left over from an earlier one that met it busy. */
		if (word_state(w) == PAGE_CLEANING)
			return true;
		if (word_credit(w)) {
			if (cas_relaxed(word, &w, w - (1ull << CREDIT_SHIFT)))
				return false;
			continue;
		}
		if (word_state(w) == PAGE_CLEAN)
			return true;
		/* Pairs with nothing: the write-protect call that follows orders it before the copy. */
		if (cas_relaxed(word, &w, word_with_state(w, PAGE_CLEANING)))
			return true;
	}
}

static bool chosen(const struct reclaim *r, unsigned found, const struct region *region,
		   uint32_t page)
{
	for (unsigned i = 0; i < found; i++) {
		if (r->victim[i].page == page && r->victim[i].region == region)
			return true;
	}
	return false;
}

/* What was said to leave first, of one range: whatever credit it has. */
static unsigned cold_scan(struct reclaim *r, struct weir_container *container, unsigned want)
{
	enum { LOOK = 4 * JOB_MAX };
	struct advised at;
	unsigned found = 0;

	while (!found && advised_cut(r->vm, &r->vm->cold, container, LOOK, &at)) {
		const uint32_t owners = owners_mask(&at.region->owners, container, false);
		const uint32_t end = MIN(at.end, load_relaxed(&at.region->top));

		for (uint32_t page = at.first; page < end && found < want; page++) {
			page_word_t *word = &at.region->word[page];
			uint64_t w = load_relaxed(word);

			while (word_credit(w) && !(w & WORD_BUSY) && !word_pins(w) &&
			       !cas_relaxed(word, &w, w & ~((uint64_t)CREDIT_MAX << CREDIT_SHIFT)))
				;
			if (clock_visit(word, owners))
				r->victim[found++] = (struct victim){at.region, page};
		}
		if (found == want)
			advised_again(r->vm, &r->vm->cold, &at, r->victim[found - 1].page + 1);
	}
	return found;
}

static unsigned clock_scan(struct reclaim *r, struct weir_container *container, unsigned want)
{
	const struct tenancy whose = {container, false};
	struct clock_hand *hand = &tenant_of(container)->hand;
	struct window at;
	unsigned found = 0, laps = 0, spared = 0, scanned = 0;

	/* A credit of 15 takes 15 laps to wear off; where a lap and a bit see none, more laps will not find more. */
	while (found < want && laps <= CREDIT_MAX + 1 && (laps < 2 || spared) &&
	       clock_step(r->vm, &whose, hand, &at, &laps)) {
		for (uint32_t page = at.first; page < at.first + at.count && found < want; page++) {
			page_word_t *word = &at.region->word[page];

			spared += word_credit(load_relaxed(word)) > 0;
			scanned++;
			if (clock_visit(word, at.owners) &&
			    !(laps && chosen(r, found, at.region, page)))
				r->victim[found++] = (struct victim){at.region, page};
		}
		/* The batch is full inside the window: go on from there next time. */
		if (found == want)
			hand->page = r->victim[found - 1].page + 1;
	}
	container_count(container, COUNT_SCANNED, scanned);
	return found;
}

static unsigned victims_choose(struct reclaim *r, struct weir_container *container, unsigned want)
{
	const unsigned cold = cold_scan(r, container, want);

	return cold ? cold : clock_scan(r, container, want);
}

bool write_paused(struct reclaim *r)
{
	uint64_t retry = load_relaxed(&r->retry_ns);

	if (load_relaxed(&r->write_closed))
		return true;

	return retry && now_ns() < retry;
}

bool store_failing(struct reclaim *r)
{
	return !store_there(r->vm->store) || write_paused(r);
}

bool write_resumes(struct reclaim *r)
{
	return store_there(r->vm->store) && write_paused(r) &&
	       load_relaxed(&r->retry_step_ns) < RETRY_STEP_MOST_NS;
}

bool reclaim_futile(struct reclaim *r)
{
	uint64_t until = load_relaxed(&r->futile_until_ns);

	return until && now_ns() < until;
}

/* A thread of the program cannot write-protect pages of regions in thread mode. */
static bool foreign_victims(struct reclaim *r)
{
	return vm_borrowed && r->vm->uffd >= 0;
}

static void job_end(struct reclaim *r)
{
	/* Pairs with the acquires in errand.c: before IDLE, so that who has seen it has seen the end of this one. */
	add_acq_rel(&r->ended, 1);
	/* Pairs with the acquire in job_fill. */
	store_release(&r->state, IDLE);
}

static void job_gave(const struct weir_container *container, unsigned pages)
{
	_Atomic uint32_t *fruitless = &tenant_of(container)->fruitless;

	store_relaxed(fruitless, pages ? 0 : load_relaxed(fruitless) + 1);
}

/* IDLE to OPEN, by whoever gets there first. False: another thread has the job, or there is nothing to do. */
bool job_fill(struct reclaim *r, struct weir_container *container)
{
	uint32_t idle = IDLE;
	unsigned count;

	/* Pairs with the release that ends the job before. */
	if (load_relaxed(&r->vm->hold) || reclaim_futile(r) || foreign_victims(r) ||
	    !cas_acquire(&r->state, &idle, FILLING))
		return false;
	/* A fork that holds now waits for IDLE (reclaim_hold_for_fork): look again behind its fence. */
	fence_seq_cst();
	count = load_relaxed(&r->vm->hold) ? 0 : victims_choose(r, container, job_size(container));
	store_relaxed(&tenant_of(container)->spare, 0);
	if (count) {
		int err = protect_victims(r, count);

		if (err) {
			if (err != -EAGAIN && err != -ENOENT && !vm_borrowed)
				log_once("write-protecting pages failed (%s); pages stay in memory",
					 errno_name(err));
			(void)job_abandon(r->victim, count);
			count = 0;
		}
	}
	if (!count) {
		job_gave(container, 0);
		job_end(r);
		return false;
	}
	store_relaxed(&r->done, 0);
	store_relaxed(&r->packed, 0);
	store_relaxed(&r->copied, 0);
	r->giver = container;
	r->job++;
	/* Before the ticket: who claims the last item sets the state too, and may do so at once. */
	store_relaxed(&r->state, OPEN);
	/* Pairs with the acquire in job_claim: the list is complete. */
	store_release(&r->ticket, (uint64_t)r->job << 32 | (uint64_t)count << 16);
	return true;
}

/* --- cleaning --- */

static unsigned ticket_items(uint64_t ticket)
{
	return ticket >> 16 & 0xffff;
}

/* The first of at most `most` items that now are the caller's, and *count of them; -1: none is left. Of the last ones each
 * takes fewer, so that all are done at about the same time. */
static int job_claim(struct reclaim *r, uint64_t *ticket, unsigned most, unsigned *count)
{
	*ticket = load_acquire(&r->ticket);
	while ((*ticket & 0xffff) < ticket_items(*ticket)) {
		const unsigned left = ticket_items(*ticket) - (unsigned)(*ticket & 0xffff);

		*count = MIN(MIN(most, (unsigned)MOVER_PAGES), MAX(left / 8, 1u));
		/* Pairs with the release in job_fill. */
		if (cas_acquire(&r->ticket, ticket, *ticket + *count))
			return (int)(*ticket & 0xffff);
	}
	return -1;
}

bool job_has_work(const struct reclaim *r)
{
	const uint64_t ticket = load_relaxed(&r->ticket);

	return load_relaxed(&r->state) == OPEN && (ticket & 0xffff) < ticket_items(ticket);
}

/* The copy of a page: its kind and location, or COPY_NONE when there is no room for it. */
static uint64_t copy_make(struct reclaim *r, struct pager *self, struct weir_container *container,
			  page_no_t number, const void *src)
{
	struct vm *vm = r->vm;
	uint32_t location;
	size_t size;

	if (page_same_filled(src, &location)) {
		add_relaxed(&vm->count.same_filled, 1);
		return word_copy(COPY_FILLED, location);
	}
	size = object_pack(&self->packer, vm->zstd_level, number, src);
	/* A copy as large as the page wins only if the file can have it. */
	if (size > PAGE_SIZE && (store_failing(r) || container_swap_full(container)))
		return 0;
	if (compressed_put(vm->memory, self->packer.out, size, &location))
		return 0;
	/* By force: a copy is made to free a page, and must not need room itself. */
	container_force(container, CHARGE_COMPRESSED, compressed_room(vm->memory, location));
	add_relaxed(&vm->count.packed_in, PAGE_SIZE);
	add_relaxed(&vm->count.packed_out, size);
	add_relaxed(&r->packed, PAGE_SIZE);
	add_relaxed(&r->copied, compressed_room(vm->memory, location));
	return word_copy(COPY_MEMORY, location);
}

void job_clean(struct reclaim *r, struct pager *self, struct region *region, uint32_t page)
{
	page_word_t *word = &region->word[page];
	uint64_t w = load_relaxed(word), copy;
	const void *contents;

	do {
		/* Busy: a write is making it dirty again, or it is being discarded. */
		if ((w & WORD_BUSY) || word_state(w) != PAGE_CLEANING)
			return;
	} while (!page_lock(word, &w));
	tsan_acquire(page_address(region, page));
	/* A stale one, from a fork. */
	page_copy_free(r->vm, region, w);
	page_read_begin(r->vm, self, region, page);
	/* In the buffer for loads: a thread compresses before it loads, or after. */
	contents = page_source(r->vm, region, page, self->run[0]);
	if (!contents)
		log_once("pages that the program protects from reading cannot be compressed here, "
			 "and stay");
	copy = contents ? copy_make(r, self, page_owner(region, w), page_number(region, page),
				    contents)
			: 0;
	if (!page_read_end(r->vm, region, page)) {
		page_copy_free(r->vm, region, word_history(w) | copy);
		copy = 0;
	}
	if (copy)
		w = word_history(w) | (uint64_t)word_pins(w) << PIN_SHIFT | PAGE_CLEAN | copy;
	else
		w = word_with_state(word_without_copy(w), PAGE_DIRTY);
	page_unlock(r->vm, region, page, w, true);
}

/* --- dropping --- */

/* Locks what is clean; list[] gets the victims and w[] their words. */
static unsigned drop_lock(struct reclaim *r, unsigned count, const struct victim **list,
			  uint64_t *w)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++) {
		const struct victim *v = &r->victim[i];
		page_word_t *word = &v->region->word[v->page];

		w[n] = load_relaxed(word);
		if (!(w[n] & WORD_BUSY) && word_state(w[n]) == PAGE_CLEAN && !word_pins(w[n]) &&
		    page_lock(word, &w[n]))
			list[n++] = v;
	}
	return n;
}

static unsigned drop_runs(const struct victim **list, unsigned n, struct iovec *runs)
{
	unsigned count = 0;

	for (unsigned i = 0; i < n; i++) {
		char *at = page_address(list[i]->region, list[i]->page);

		if (count && (char *)runs[count - 1].iov_base + runs[count - 1].iov_len == at)
			runs[count - 1].iov_len += PAGE_SIZE;
		else
			runs[count++] = (struct iovec){at, PAGE_SIZE};
	}
	return count;
}

unsigned job_drop(struct reclaim *r, unsigned count)
{
	const struct victim *list[JOB_MAX];
	struct iovec runs[JOB_MAX];
	uint64_t w[JOB_MAX];
	struct vm *vm = r->vm;
	unsigned n = drop_lock(r, count, list, w);
	int err = n ? mem_drop(&vm->dropper, runs, drop_runs(list, n, runs)) : 0;
	unsigned dropped = 0;
	struct dues dues = {0};
	uint64_t stamp = 0;

	if (err)
		log_once("dropping pages failed (%s); they stay in memory", errno_name(err));
	for (unsigned i = 0; i < n; i++) {
		/* A call that failed (mlock) has dropped some of them, and does not tell which: a word that calls
		 * such a page clean would make it read as zeroes. Dropping each again tells, page by page. */
		if (!err || !mem_discard(page_address(list[i]->region, list[i]->page), PAGE_SIZE)) {
			struct weir_container *owner = page_owner(list[i]->region, w[i]);

			/* One time for all that leave together. */
			if (owner != dues.container)
				stamp = (uint64_t)vm_clock_after(owner, n) << STAMP_SHIFT;
			w[i] = word_history(w[i]) | word_copy_of(w[i]) | (w[i] & WORD_WRITEBACK) |
			       PAGE_ABSENT | stamp;
			dues_add(&dues, owner);
			add_relaxed(&tenant_of(owner)->evictions, 1);
			container_count(owner, COUNT_STOLEN, 1);
			dropped++;
		}
		page_unlock(vm, list[i]->region, list[i]->page, w[i], true);
	}
	dues_settle(&dues);
	add_relaxed(&vm->count.moved_out, dropped);
	return dropped;
}

/* Counts items as done. Who has done the last one drops the job. */
static void job_done(struct reclaim *r, struct mover *mover, uint64_t ticket, unsigned count,
		     unsigned *dropped)
{
	unsigned now;

	/* Acquire and release: the last one sees what the others did to the pages. */
	if (add_acq_rel(&r->done, count) + count != ticket_items(ticket))
		return;
	store_relaxed(&r->state, DROPPING);
	now = mover_drop(mover, ticket_items(ticket));
	*dropped += now;
	job_gave(r->giver, now);
	reclaim_judge(r, r->giver, MAX((uint64_t)now << PAGE_SHIFT, load_relaxed(&r->packed)),
		      load_relaxed(&r->copied));
	if (store_failing(r) && container_above_max(r->vm->root))
		store_relaxed(&r->futile_until_ns, now_ns() + FUTILE_NS);
	job_end(r);
	vm_attention(r->vm);
}

/* Works on at most `most` items of the job that is open; drops when it did the last one. Returns items done. */
unsigned job_work(struct reclaim *r, struct pager *self, unsigned most, unsigned *dropped)
{
	struct mover *mover;
	unsigned worked = 0;

	if (!job_has_work(r))
		return 0;
	mover = mover_take(&r->movers, self);
	while (mover && worked < most) {
		uint64_t ticket;
		unsigned count;
		int first = job_claim(r, &ticket, most - worked, &count);

		if (first < 0)
			break;
		/* Those that a packet did not get to stay. */
		if (mover_pack(mover, &r->victim[first], count))
			(void)job_abandon(&r->victim[first], count);
		worked += count;
		job_done(r, mover, ticket, count, dropped);
	}
	if (mover)
		mover_give(&r->movers, mover);
	return worked;
}

unsigned reclaim_once(struct reclaim *r, struct pager *self)
{
	unsigned dropped = 0;

	struct weir_container *container = reclaim_choose(r, r->vm->root, CHOOSE_ANY);

	if (container)
		(void)job_fill(r, container);
	while (job_work(r, self, JOB_MAX, &dropped))
		;
	return dropped;
}

/* --- the background thread --- */

/* Somebody waits for this thread itself. */
static bool asked(struct reclaim *r)
{
	return load_relaxed(&r->stop) || load_relaxed(&r->errand) || load_relaxed(&r->next) ||
	       load_relaxed(&r->vm->wake_all);
}

static bool work_to_do(struct reclaim *r)
{
	if (asked(r))
		return true;
	if (load_relaxed(&r->vm->hold))
		return false;
	return job_has_work(r) || load_relaxed(&r->vm->wanted.count) || reclaim_wanted(r) ||
	       follow_short(r) || (!write_paused(r) && reclaim_over_share(r));
}

/* idle: the last turn achieved nothing although there was work (everything busy, a full disk): wait a little then. */
static void sleep_until_needed(struct reclaim *r, bool idle)
{
	struct waiter me;

	waitq_prepare(&r->vm->attention, &me, WAIT_SHARED);
	/* What is under way is looked at soon: a disk may take seconds, and who has an errand does not wait for it. */
	if (writeback_flying(r) && (idle ? !asked(r) : !work_to_do(r)))
		(void)waitq_sleep(&me, FLIGHT_NS);
	else if (!work_to_do(r))
		(void)waitq_sleep(&me, TICK_NS);
	else if (idle && !job_has_work(r) && !waitq_sleep(&me, 1000000))
		/* In all that time nobody has faulted. */
		store_relaxed(&r->faults_fill, false);
	(void)waitq_finish(&r->vm->attention, &me);
}

/* Loads a piece of what a program says that it will need. Where the limit has no room, a job may have made some next time. */
static bool load_wanted(struct reclaim *r, bool progress)
{
	struct advised piece;
	uint32_t looked;

	if (!advised_cut(r->vm, &r->vm->wanted, NULL, RUN_MAX, &piece))
		return false;
	looked = pagein_ahead(r->vm, r->pager, piece.region, piece.first, piece.end - piece.first);
	if (progress)
		advised_again(r->vm, &r->vm->wanted, &piece, piece.first + looked);
	return looked > 0;
}

/* One turn of what there is to do. False: nothing was achieved. */
static bool background_turn(struct reclaim *r)
{
	unsigned dropped = 0, worked;
	struct weir_container *container;
	bool took;

	if (errand_run(r))
		return true;
	if (load_relaxed(&r->vm->hold))
		return false;
	follow_grow(r);
	container = load_relaxed(&r->state) == IDLE && !load_relaxed(&r->faults_fill)
			    ? reclaim_wanted(r)
			    : NULL;
	took = container && reclaim_take(r, r->pager, container);
	worked = job_work(r, r->pager, JOB_MAX, &dropped);
	slack_reduce(r);
	(void)writeback_land(r, false);
	if (writeback_ready(r) && reclaim_over_share(r))
		worked += writeback_once(r) > 0;
	return load_wanted(r, took || worked) || took || worked;
}

void reclaim_run(struct reclaim *r)
{
	uint64_t ticked = now_ns();

	vm_wakes = true;
	while (!load_relaxed(&r->stop)) {
		void (*next)(void *) = exchange_relaxed(&r->next, NULL);
		bool achieved;

		if (next)
			next(r->next_data);
		/* Not behind the turn: an errand of that one may have said what is next, and it is before anything else. */
		if (now_ns() - ticked >= TICK_NS) {
			if (!load_relaxed(&r->vm->hold))
				follow_tick(r);
			share_follow(r);
			if (r->tick)
				r->tick(r->tick_data);
			ticked = now_ns();
		}
		vm_wake_parked(r->vm);
		achieved = background_turn(r);
		sleep_until_needed(r, !achieved);
	}
	writeback_flush(r);
	vm_wakes = false;
}

void reclaim_stop(struct reclaim *r)
{
	store_relaxed(&r->stop, true);
	vm_attention(r->vm);
}

int reclaim_init(struct reclaim *r, struct vm *vm, struct pager *pager)
{
	memset(r, 0, sizeof(*r));
	r->vm = vm;
	r->pager = pager;
	lock_init(&r->errand_lock, RANK_ERRAND, "errand");
	waitq_init(&r->errand_done);
	compressed_relocate_set(vm->memory, relocate_object, r);
	for (unsigned i = 0; i < WRITES; i++) {
		r->write[i].batch.buffer = mem_alloc(STORE_BATCH_BYTES);
		if (!r->write[i].batch.buffer)
			return -ENOMEM;
	}
	return movers_init(&r->movers, r, vm->root);
}

void reclaim_destroy(struct reclaim *r)
{
	movers_destroy(&r->movers);
	for (unsigned i = 0; i < WRITES; i++) {
		if (r->write[i].batch.buffer)
			mem_release(r->write[i].batch.buffer, STORE_BATCH_BYTES);
		r->write[i].batch.buffer = NULL;
	}
}
