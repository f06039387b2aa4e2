/* SPDX-License-Identifier: BSD-2-Clause */
/* Contents of a file's page cache: charged, read, copied, punched out. See file.h. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "vm/file_page.h"
#include "vm/run.h"

/* --- the page's lock, and runs --- */

uint32_t page_take_wait(struct file_object *f, uint32_t page)
{
	unsigned waited = 0;
	uint32_t state;

	while (!page_try(f, page, &state))
		wait_a_little(&waited);
	return state;
}

/* Who has no descriptor has it done. */
static void page_wake(struct vm *vm, struct file_object *f, uint32_t page)
{
	if (vm_borrowed) {
		/* Pairs with the exchange in vm_wake_parked. */
		store_release(&vm->wake_all, true);
		vm_attention(vm);
		return;
	}
	for (unsigned i = 0; i < FILE_REGIONS; i++) {
		struct region *region = load_acquire(&f->region[i]);

		if (region)
			(void)uffd_wake(vm->uffd, page_address(region, page), PAGE_SIZE);
	}
}

void page_put(struct vm *vm, struct file_object *f, uint32_t page, uint32_t state)
{
	/* Pairs with the acquire in page_try. An exchange, since a handler may set PARKED at any moment. */
	uint32_t before =
		exchange_release(&f->state[page], state & ~(uint32_t)(FILE_BUSY | FILE_PARKED));

	assert_debug(before & FILE_BUSY);
	if (unlikely(before & FILE_PARKED))
		page_wake(vm, f, page);
}

uint32_t page_dirty(struct file_object *f, uint32_t state)
{
	if (!(state & FILE_DIRTY) && add_relaxed(&f->dirty, 1) == 0)
		store_relaxed(&f->dirty_ns, now_ns());
	return state | FILE_DIRTY;
}

void run_grow(struct vm *vm, struct file_object *f, struct file_run *run, uint32_t most, bool down,
	      bool (*fits)(uint32_t state))
{
	most = MIN(most, (uint32_t)FILE_RUN);
	while (run->count < most) {
		uint32_t page = down ? run->first - 1 : run->first + run->count, state;

		/* Below the first page lies UINT32_MAX. */
		if (page >= f->pages || !fits(load_relaxed(&f->state[page])) ||
		    !page_try(f, page, &state))
			return;
		if (!fits(state)) {
			page_put(vm, f, page, state);
			return;
		}
		if (down) {
			memmove(&run->state[1], &run->state[0], run->count * sizeof(run->state[0]));
			run->first--;
		}
		run->state[down ? 0 : run->count] = state;
		run->count++;
	}
}

void run_gather(struct vm *vm, struct file_object *f, struct file_run *run, uint32_t end)
{
	enum { HOLE_MOST = 16 };
	uint32_t page = run->first, count = 0;

	run->count = 0;
	end = MIN(end, run->first + FILE_RUN);
	for (; page < end && count - run->count <= HOLE_MOST; page++) {
		uint32_t state;

		run->state[count++] = RUN_HOLE;
		if (!page_absent(load_relaxed(&f->state[page])) || !page_try(f, page, &state))
			continue;
		if (!page_absent(state)) {
			page_put(vm, f, page, state);
			continue;
		}
		run->state[count - 1] = state;
		run->count = count;
	}
}

/* The pages of its own that come next in a run, from *i on. False: there are none. */
static bool run_piece(const struct file_run *run, uint32_t *i, uint32_t *n)
{
	while (*i < run->count && run->state[*i] == RUN_HOLE)
		*i += 1;
	for (*n = 0; *i + *n < run->count && run->state[*i + *n] != RUN_HOLE; *n += 1)
		;
	return *n > 0;
}

void run_put(struct vm *vm, struct file_object *f, const struct file_run *run)
{
	for (uint32_t i = 0; i < run->count; i++) {
		if (run->state[i] != RUN_HOLE)
			page_put(vm, f, run->first + i, run->state[i]);
	}
}

/* --- windows --- */

/* A page of the cache, for a moment; NULL: the system has no window just now. */
static char *window_open(struct file_object *f, uint32_t page)
{
	void *at;

	if (!f->kmap)
		return f->view + ((size_t)page << PAGE_SHIFT);
	return weir_kmap_fault(f->kmap, page, &at) ? NULL : at;
}

static void window_close(struct file_object *f, const char *at)
{
	if (f->kmap)
		(void)weir_kunmap(f->kmap, at);
}

bool cache_copy(struct file_object *f, uint32_t page, uint32_t at, void *bytes, uint32_t count,
		bool in)
{
	char *window = window_open(f, page);

	if (!window)
		return false;
	if (in)
		memcpy(window + at, bytes, count);
	else
		memcpy(bytes, window + at, count);
	window_close(f, window);
	return true;
}

uint32_t read_most(void)
{
	return file_crew_buffer() ? FILE_RUN : RUN_MAX;
}

/*
 * Contents for locked pages. They are written to the cache, and not read there: into memory that is not mapped the kernel reads by
 * faults of its own, a page each, zeroed before, and hands the disk single pages, at less than half of what it gives for large pieces
 * (docs/benchmarks.md). The kernel lets one at a time do this, and others spin; so they sleep here, and never for long.
 */
static int cache_put(struct file_object *f, uint32_t page, char *from, uint32_t count)
{
	int err;

	lock_acquire(&f->cache_lock);
	err = mem_shared_write(f->cache, from, (size_t)count << PAGE_SHIFT,
			       (size_t)page << PAGE_SHIFT);
	lock_release(&f->cache_lock);
	/* The program has set itself a limit for files (RLIMIT_FSIZE) since this one was opened. */
	for (uint32_t i = 0; err == -EFBIG && i < count; i++)
		err = cache_copy(f, page + i, 0, from + ((size_t)i << PAGE_SHIFT), PAGE_SIZE, true)
			      ? (i + 1 < count ? -EFBIG : 0)
			      : -EAGAIN;
	return err;
}

/* Reads the pages of a run into the cache: all of them, or an error. */
static int cache_fill(struct pager *self, struct file_object *f, const struct file_run *run)
{
	char *own = file_crew_buffer(), *buffer = own ? own : self->run[0];
	int err = file_source_read(&f->in, buffer, (size_t)run->count << PAGE_SHIFT,
				   (off_t)run->first << PAGE_SHIFT, f->id.bytes);

	for (uint32_t i = 0, n; !err && run_piece(run, &i, &n); i += n)
		err = cache_put(f, run->first + i, buffer + ((size_t)i << PAGE_SHIFT), n);
	return err;
}

static int contents_write(struct pager *self, struct file_object *f, uint32_t first, uint32_t count)
{
	const off_t offset = (off_t)first << PAGE_SHIFT;
	const size_t bytes = (size_t)count << PAGE_SHIFT;

	if (!f->kmap)
		return file_source_write(&f->out, f->view + offset, bytes, offset, f->id.bytes);
	for (uint32_t i = 0; i < count; i++) {
		if (!cache_copy(f, first + i, 0, self->run[i], PAGE_SIZE, false))
			return -EAGAIN;
	}
	return file_source_write(&f->out, self->run, bytes, offset, f->id.bytes);
}

int cache_write(struct pager *self, struct file_object *f, uint32_t first, uint32_t count)
{
	int err;

	/* Who writes to a page meanwhile makes it dirty again: it is written once more. */
	tsan_reads_ignore();
	err = contents_write(self, f, first, count);
	tsan_reads_heed();
	return err;
}

static int cache_punch(struct file_object *f, uint32_t first, uint32_t count)
{
	int err;

	lock_acquire(&f->cache_lock);
	err = mem_shared_punch(f->cache, (size_t)first << PAGE_SHIFT, (size_t)count << PAGE_SHIFT);
	lock_release(&f->cache_lock);
	return err;
}

/* --- coming in --- */

int cache_charge(struct vm *vm, struct file_object *f, uint32_t page, unsigned slot)
{
	struct weir_container *container = owners_get(&f->owners, slot);
	int err;

	container_throttle(container);
	err = account_hold(&f->account[page], &f->owners, slot, CHARGE_FILE, PAGE_SIZE, false);
	if (err == -EAGAIN || (err && !vm->can_poison)) {
		container_count(container, COUNT_OVER_MAX, 1);
		err = account_hold(&f->account[page], &f->owners, slot, CHARGE_FILE, PAGE_SIZE,
				   true);
	}
	return err;
}

static uint32_t run_own(const struct file_run *run)
{
	uint32_t own = 0;

	for (uint32_t i = 0; i < run->count; i++)
		own += run->state[i] != RUN_HOLE;
	return own;
}

/* Charges as many of the run's pages as there is room for, `must` apart. The others are let go. */
static void run_charge_file(struct vm *vm, struct file_object *f, struct file_run *run,
			    unsigned slot, uint32_t must)
{
	struct weir_container *container = owners_get(&f->owners, slot);
	const bool down = must == run->first + run->count - 1 && run->count > 1;
	uint32_t charged = run_own(run) - (must != UINT32_MAX), others = charged;

	while (charged && !container_try(container, CHARGE_FILE, (uint64_t)charged << PAGE_SHIFT))
		charged /= 2;
	/* Those farthest from where the reader is stay out. */
	for (; others > charged; others--) {
		uint32_t drop = down ? 0 : run->count - 1;

		page_put(vm, f, run->first + drop, run->state[drop]);
		run->count--;
		if (down) {
			run->first++;
			memmove(&run->state[0], &run->state[1], run->count * sizeof(run->state[0]));
		}
		while (run->count && run->state[run->count - 1] == RUN_HOLE)
			run->count--;
	}
	for (uint32_t i = 0; i < run->count; i++) {
		account_t *account = &f->account[run->first + i];

		if (run->first + i == must || run->state[i] == RUN_HOLE)
			continue;
		/* A region that is being closed has not let go yet of what went while it was hidden: it is charged for it. */
		if (account_join(account))
			container_uncharge(container, CHARGE_FILE, PAGE_SIZE);
		else
			account_begin(account, slot);
	}
}

/* Pages [from, run's end) of it cannot be had: no memory, no charge. */
static void run_cut(struct vm *vm, struct file_object *f, struct file_run *run, uint32_t from)
{
	for (uint32_t i = from, n; run_piece(run, &i, &n); i += n) {
		/* What the read has left there; nobody has seen it. */
		(void)cache_punch(f, run->first + i, n);
		for (uint32_t k = i; k < i + n; k++) {
			(void)account_release(&f->account[run->first + k], &f->owners, CHARGE_FILE,
					      PAGE_SIZE);
			page_put(vm, f, run->first + k, run->state[k]);
		}
	}
	run->count = from;
}

/* The same for those before `to`. */
static void run_cut_front(struct vm *vm, struct file_object *f, struct file_run *run, uint32_t to)
{
	struct file_run front = {.first = run->first, .count = to};

	memcpy(front.state, run->state, to * sizeof(run->state[0]));
	run_cut(vm, f, &front, 0);
	run->first += to;
	run->count -= to;
	memmove(&run->state[0], &run->state[to], run->count * sizeof(run->state[0]));
}

/* What a page that comes in has of its history. */
static uint32_t came_back(struct vm *vm, struct weir_container *container, uint32_t state)
{
	bool quick;

	return state ? (uint32_t)credit_of(vm, container, state, &quick) : 0;
}

uint32_t cache_load(struct vm *vm, struct pager *self, struct file_object *f, struct file_run *run,
		    unsigned slot, uint32_t must, uint32_t extra, int *err)
{
	struct weir_container *container = owners_get(&f->owners, slot);

	*err = 0;
	run_charge_file(vm, f, run, slot, must);
	if (!run->count) {
		*err = -EAGAIN;
		return 0;
	}
	if (self->before_block)
		self->before_block(self->data);
	*err = cache_fill(self, f, run);
	/* One bad page among many that nobody has asked for: the one that somebody has is read alone. */
	if (*err && run->count > 1 && must != UINT32_MAX) {
		run_cut(vm, f, run, must - run->first + 1);
		run_cut_front(vm, f, run, must - run->first);
		*err = cache_fill(self, f, run);
	}
	if (*err) {
		/* The page that must come is the caller's to put. */
		if (must != UINT32_MAX) {
			(void)cache_punch(f, must, 1);
			(void)account_release(&f->account[must], &f->owners, CHARGE_FILE,
					      PAGE_SIZE);
		} else {
			run_cut(vm, f, run, 0);
		}
		return 0;
	}
	for (uint32_t i = 0; i < run->count; i++) {
		if (run->state[i] == RUN_HOLE)
			continue;
		add_relaxed(&f->cached[(run->first + i) >> CHUNK_SHIFT], 1);
		run->state[i] = FILE_CACHED | came_back(vm, container, run->state[i]) |
				(run->first + i == must ? 0 : extra);
	}
	return run_own(run);
}

/* --- going out --- */

/* The page is locked and out of all mappings: every holder lets go. */
static void page_let_go(struct file_object *f, uint32_t page)
{
	for (unsigned i = 0; i < FILE_REGIONS; i++) {
		struct region *region = load_acquire(&f->region[i]);

		if (!region || !word_resident(load_relaxed(&region->word[page])))
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

		holders += region && word_resident(load_relaxed(&region->word[page]));
	}
	return account_holders(&f->account[page]) == holders;
}

/* Punches locked pages out, all of which are free to go. Returns how many: all, or none. */
static uint32_t run_punch(struct vm *vm, struct file_object *f, struct file_run *run)
{
	struct weir_container *owner = NULL;
	bool gone;

	if (!run->count)
		return 0;
	gone = !cache_punch(f, run->first, run->count);
	for (uint32_t i = 0; gone && i < run->count; i++) {
		owner = owners_get(&f->owners,
				   load_relaxed(&f->account[run->first + i]) % OWNERS_MAX);
		page_let_go(f, run->first + i);
		sub_relaxed(&f->cached[(run->first + i) >> CHUNK_SHIFT], 1);
		add_relaxed(&tenant_of(owner)->evictions, 1);
		run->state[i] = (run->state[i] & 7u << GRADE_SHIFT) | vm_clock(owner)
									      << STAMP_SHIFT;
	}
	run_put(vm, f, run);
	return gone ? run->count : 0;
}

struct sweep {
	uint32_t owners; /* slots whose pages are looked for */
	bool hard;	 /* pages go that wait for their reader, or have credit */
	bool due;	 /* what the file has refused may be tried again */
	uint32_t dirty;	 /* pages met that only the file needs first */
	uint32_t first_dirty;
};

/* Locks the page if it may go. A page with credit pays one. */
static bool sweep_take(struct vm *vm, struct file_object *f, uint32_t page, struct sweep *sweep,
		       uint32_t *state)
{
	const uint32_t credit_one = 1u << CREDIT_SHIFT, credit = CREDIT_MAX << CREDIT_SHIFT;
	uint32_t s = load_relaxed(&f->state[page]);

	if ((s & (FILE_BUSY | FILE_CACHED)) != FILE_CACHED ||
	    !(sweep->owners >> load_relaxed(&f->account[page]) % OWNERS_MAX & 1))
		return false;
	if (s & (FILE_DIRTY | FILE_WRITING)) {
		if ((sweep->due || !(s & FILE_REFUSED)) && !sweep->dirty++)
			sweep->first_dirty = page;
		return false;
	}
	if (!sweep->hard && s & (FILE_AHEAD | credit)) {
		if (s & credit)
			(void)cas_relaxed(&f->state[page], &s, s - credit_one);
		return false;
	}
	if (!page_try(f, page, &s))
		return false;
	*state = s;
	if (s & FILE_CACHED && !(s & (FILE_DIRTY | FILE_WRITING)) && page_free_to_go(f, page))
		return true;
	page_put(vm, f, page, s);
	return false;
}

/* One lap of the hand, at most. Returns pages dropped. */
static uint32_t object_sweep(struct vm *vm, struct file_object *f, struct sweep *sweep,
			     uint32_t most)
{
	const uint32_t chunk = 1u << CHUNK_SHIFT;
	uint32_t dropped = 0, page = load_relaxed(&f->hand), n = 0;
	struct file_run run = {.count = 0};

	while (n < f->pages && dropped + run.count < most) {
		uint32_t state, step = 1;

		if (page >= f->pages)
			page = 0;
		if (run.count && (run.count == FILE_RUN || run.first + run.count != page)) {
			dropped += run_punch(vm, f, &run);
			run.count = 0;
		}
		if (!load_relaxed(&f->cached[page >> CHUNK_SHIFT])) {
			step = chunk - page % chunk;
		} else if (sweep_take(vm, f, page, sweep, &state)) {
			run.first = run.count ? run.first : page;
			run.state[run.count++] = state;
		}
		page += step;
		n += step;
	}
	dropped += run_punch(vm, f, &run);
	store_relaxed(&f->hand, page);
	return dropped;
}

void cache_drop(struct vm *vm, struct file_object *f, uint32_t first, uint32_t end)
{
	struct sweep sweep = {.owners = UINT32_MAX, .hard = true};
	struct file_run run = {.count = 0};
	uint32_t state;

	for (uint32_t page = first; page < end; page++) {
		if (run.count && (run.count == FILE_RUN || run.first + run.count != page)) {
			(void)run_punch(vm, f, &run);
			run.count = 0;
		}
		if (sweep_take(vm, f, page, &sweep, &state)) {
			run.first = run.count ? run.first : page;
			run.state[run.count++] = state;
		}
	}
	(void)run_punch(vm, f, &run);
}

/* Nothing is to be had but what is dirty: some of it is written. True: that may have helped. */
static bool object_clean(struct vm *vm, struct pager *self, struct file_object *f, uint32_t page)
{
	if (!writeback_sensible(f))
		return false;
	if (self->before_block)
		self->before_block(self->data);
	return writeback_some(vm, self, f, page);
}

unsigned file_reclaim(struct vm *vm, struct pager *self, struct weir_container *container,
		      unsigned most)
{
	unsigned dropped = 0;

	/* It takes weir's own descriptors. */
	if (vm_borrowed || load_relaxed(&vm->hold))
		return 0;
	/* Punching out takes as long as a read does. */
	if (self->before_block)
		self->before_block(self->data);
	for (unsigned i = 0; i < FILES_MAX && dropped < most; i++) {
		struct file_object *f = load_acquire(&vm->file_object[i]);
		struct sweep sweep = {.owners = f ? owners_mask(&f->owners, container, false) : 0,
				      .due = f && writeback_due(f)};

		if (!sweep.owners)
			continue;
		dropped += object_sweep(vm, f, &sweep, most - dropped);
		if (sweep.dirty)
			writeback_ask(vm, f, sweep.first_dirty);
		if (!dropped && sweep.dirty && object_clean(vm, self, f, sweep.first_dirty))
			sweep.dirty = 0;
		sweep.hard = true;
		if (!dropped)
			dropped += object_sweep(vm, f, &sweep, most);
	}
	container_count(container, COUNT_STOLEN, dropped);
	return dropped;
}
