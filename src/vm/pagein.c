/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pagein: one fault, or one page of a fork, from the page word to the woken thread.
 *
 * Order of things in a load: charge, lock the page (and neighbours that a stream will want), read the copies into
 * the thread's own buffer, install them with UFFDIO_COPY (which wakes), let copies go that are no longer
 * one, unlock. A charge is made before a page is locked, since making room may take time and busy bits are short.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vm/file.h"

/* A run of adjacent pages that this thread has locked. */
struct run {
	struct region *region;
	uint32_t first, count;
	uint64_t before[RUN_MAX]; /* words without BUSY */
	uint64_t after[RUN_MAX];
	bool writable[RUN_MAX];
	struct weir_container *container; /* that pays, */
	unsigned owner;			  /* in this slot of the region's table */
	uint32_t charged; /* pages charged; what is not installed is uncharged at the end */
	enum fault_access access;
	uint32_t target; /* the page that faulted */
};

/* --- credits --- */

static void credit_note(struct credit_control *c, bool quick, bool graded)
{
	uint32_t loads = add_relaxed(&c->loads, 1) + 1;

	if (quick)
		add_relaxed(&c->quick, 1);
	if (graded)
		add_relaxed(&c->graded, 1);
	if (quick && graded)
		add_relaxed(&c->graded_quick, 1);
	if (loads == 4096) {
		uint64_t all = load_relaxed(&c->quick);
		uint64_t part = load_relaxed(&c->graded),
			 part_quick = load_relaxed(&c->graded_quick);

		/* Concentrated: who came back quickly before does so again, half as often again as anybody. */
		store_relaxed(&c->on, part >= 64 && part_quick * 2 * loads >= part * all * 3);
		store_relaxed(&c->quick, 0);
		store_relaxed(&c->graded, 0);
		store_relaxed(&c->graded_quick, 0);
		store_relaxed(&c->loads, 0);
	}
}

/* Grade and credit of a page that comes back: 1, 2, 4, 8, 15 for quick returns in a row, quartered otherwise. */
static uint64_t credit_of(struct vm *vm, struct weir_container *container, uint64_t w, bool *quick)
{
	struct credit_control *control = &tenant_of(container)->credit;
	unsigned away = (vm_clock(container) - word_stamp(w)) & STAMP_MASK;
	unsigned grade = word_grade(w), credit = 0;

	*quick = away < 512; /* vm_clock counts 512ths of the limit */
	credit_note(control, *quick, grade > 0);
	if (*quick) {
		grade = MIN(grade + 1, (unsigned)GRADE_MAX);
		add_relaxed(&vm->count.refaults, 1);
		container_count(container, COUNT_REFAULTS, 1);
	} else {
		grade = grade > 2 ? grade - 2 : 0;
	}
	if (grade && load_relaxed(&control->on))
		credit = MIN(1u << (grade - 1), (unsigned)CREDIT_MAX);
	return (uint64_t)grade << GRADE_SHIFT | (uint64_t)credit << CREDIT_SHIFT;
}

/* --- streams --- */

/* Window of a known stream that the page continues, or 0. */
static int32_t stream_continues(const struct stream *s, page_no_t page)
{
	enum { TOLERANCE = 16 }; /* pages that were there already are stepped over */
	int32_t step = load_relaxed(&s->step);
	uint64_t next = load_relaxed(&s->next);

	if (!next)
		return 0;
	if (step == 0) /* one fault so far, on the page before next */
		return page == next ? 2 : page == next - 2 ? -2 : 0;
	if (step > 0)
		return page - next < TOLERANCE ? MIN(step * 2, RUN_MAX) : 0;
	return next - page < TOLERANCE ? MAX(step * 2, -RUN_MAX) : 0;
}

static void stream_set(struct stream *s, page_no_t next, int32_t step)
{
	store_relaxed(&s->step, step);
	store_relaxed(&s->next, next);
}

/*
 * The stream that a page continues, and how many pages from it on the reader is likely to want (negative: downwards);
 * 0: it continues none, and begins the candidate that is returned. The first half of the table holds streams that have proved themselves, the second half candidates:
 * random faults wash through the candidates only.
 */
static struct stream *stream_match(struct vm *vm, page_no_t page, int32_t *window)
{
	enum { HALF = STREAMS / 2 };
	unsigned i;

	*window = 0;
	for (i = 0; i < STREAMS && !*window; i++)
		*window = stream_continues(&vm->stream[i], page);
	if (!*window) {
		i = HALF + add_relaxed(&vm->stream_hand, 1) % HALF;
		stream_set(&vm->stream[i], page + 1, 0);
		return &vm->stream[i];
	}
	if (--i >= HALF) {
		stream_set(&vm->stream[i], 0, 0);
		i = add_relaxed(&vm->proved_hand, 1) % HALF;
	}
	return &vm->stream[i];
}

/* The stream has come by count pages from page on. */
static void stream_advance(struct stream *s, page_no_t page, uint32_t count, int32_t window)
{
	stream_set(s, window > 0 ? page + count : page - count, window);
}

/* --- one run --- */

static bool loadable(uint64_t w)
{
	return word_state(w) == PAGE_NONE || word_state(w) == PAGE_ABSENT;
}

/* One access to a disk costs as much for many pages as for one; out of memory more pages win little, and all of them
 * take room from others: at most a 128th of the limit. */
static unsigned run_limit(const struct run *run, uint64_t w)
{
	uint64_t pages = load_relaxed(&run->container->limit) >> (PAGE_SHIFT + 7);
	unsigned most =
		word_state(w) == PAGE_ABSENT && word_kind(w) == COPY_FILE ? RUN_MAX : RUN_MEMORY;

	return (unsigned)MAX(MIN((uint64_t)most, pages), 2u);
}

/*
 * Pages read from a file around a fault that belongs to no stream: the access costs as much as eight pages do. Where
 * hardly a fault belongs to one, they would only take room from others.
 */
enum { FILE_AROUND = 8, FILE_WINDOW = 256 };

static void file_note(struct vm *vm, bool in_stream)
{
	struct file_control *c = &vm->file_control;

	if (in_stream)
		add_relaxed(&c->in_stream, 1);
	if (add_relaxed(&c->loads, 1) + 1 == FILE_WINDOW) {
		store_relaxed(&c->random, load_relaxed(&c->in_stream) < FILE_WINDOW / 4);
		store_relaxed(&c->in_stream, 0);
		store_relaxed(&c->loads, 0);
	}
}

/* Locks neighbours of the target in the direction of the stream, as far as they can be loaded and charged. */
static void run_extend(struct vm *vm, struct run *run, unsigned want, int step)
{
	uint64_t words[RUN_MAX];
	uint32_t got = 0;
	const uint64_t first = run->before[0];

	want = MIN(want, run_limit(run, first));
	for (; got + 1 < want; got++) {
		int64_t page = (int64_t)run->target + (int64_t)step * (int64_t)(got + 1);
		page_word_t *word;

		if (page < 0 || page >= run->region->pages)
			break;
		word = &run->region->word[page];
		words[got] = load_relaxed(word);
		/* A stream of first touches ends where there are contents, and the other way round. */
		if ((words[got] & WORD_BUSY) || !loadable(words[got]) ||
		    word_state(words[got]) != word_state(first) ||
		    !container_try(run->container, CHARGE_RESIDENT, PAGE_SIZE))
			break;
		run->charged++;
		if (!page_lock(word, &words[got]))
			break;
	}
	run->count = got + 1;
	if (step < 0) {
		run->first = run->target - got;
		for (uint32_t i = 0; i < got; i++)
			run->before[got - 1 - i] = words[i];
		run->before[got] = first;
	} else {
		memcpy(&run->before[1], words, got * sizeof(words[0]));
	}
	add_relaxed(&vm->count.ahead, got);
}

/* Reads the copies of pages from index i on that lie in the file one behind the other. Returns how many. */
static int fill_from_file(struct vm *vm, struct pager *self, struct run *run, uint32_t i)
{
	file_slot_t slot[RUN_MAX];
	uint32_t n = 0;
	int got;

	while (i + n < run->count && word_kind(run->before[i + n]) == COPY_FILE &&
	       word_state(run->before[i + n]) == PAGE_ABSENT) {
		slot[n] = word_location(run->before[i + n]);
		n++;
	}
	if (self->before_block)
		self->before_block(self->data);
	got = filestore_read_run(vm->file, slot, n, self->file);
	for (int k = 0; k < got; k++) {
		int err = filestore_unpack(vm->file, slot, (unsigned)k, self->file,
					   page_number(run->region, run->first + i + (uint32_t)k),
					   self->run[i + (uint32_t)k]);
		if (err)
			return k ? k : err;
		if (run->first + i + (uint32_t)k == run->target)
			add_relaxed(&vm->count.stored, 1);
	}
	return got;
}

/* Contents of page i into the buffer. Returns for how many pages from i on that was done, or -errno; -EAGAIN: the copy is
 * there, but not to be reached just now. */
static int run_fill(struct vm *vm, struct pager *self, struct run *run, uint32_t i)
{
	const struct object *object;
	const uint64_t w = run->before[i];
	const bool target = run->first + i == run->target;
	int err;

	if (word_state(w) == PAGE_NONE) {
		memset(self->run[i], 0, PAGE_SIZE);
		if (target)
			add_relaxed(&vm->count.first, 1);
		return 1;
	}
	switch (word_kind(w)) {
	case COPY_FILE:
		return fill_from_file(vm, self, run, i);
	case COPY_MEMORY:
		object = compressed_object(vm->memory, word_location(w));
		if (!object)
			return -EAGAIN;
		err = object_unpack(object, compressed_room(vm->memory, word_location(w)),
				    page_number(run->region, run->first + i), self->run[i]);
		compressed_object_end(vm->memory, object);
		if (target)
			add_relaxed(&vm->count.compressed, 1);
		return err ? err : 1;
	case COPY_FILLED:
		page_fill(self->run[i], word_location(w));
		if (target)
			add_relaxed(&vm->count.compressed, 1);
		return 1;
	case COPY_NONE:
		break;
	}
	panic("page %#llx is absent and has no copy",
	      (unsigned long long)page_number(run->region, run->first + i));
}

/* Is a kept copy worth its memory? Not when it is larger than half a page. */
static bool copy_worth_keeping(struct vm *vm, uint64_t w)
{
	if (word_kind(w) != COPY_MEMORY)
		return true;
	return compressed_room(vm->memory, word_location(w)) <= PAGE_SIZE / 2;
}

/*
 * Did a page that comes from the file come back so soon that memory would still have it, had it been kept there? Then
 * it belongs there, and its copy in the file is given up: when it leaves again it is compressed. Else it is one of many
 * that come and go, and leaves as it came, at no cost.
 */
static bool belongs_in_memory(struct vm *vm, const struct weir_container *container, uint64_t w)
{
	uint64_t class_bytes = MAX(load_relaxed(&vm->memory->class_bytes), 1);
	uint64_t objects = container_usage(container, CHARGE_COMPRESSED) *
			   load_relaxed(&vm->memory->objects) / class_bytes;

	return word_kind(w) == COPY_FILE &&
	       vm_away(container, w) <
		       (container_usage(container, CHARGE_RESIDENT) >> PAGE_SHIFT) + objects;
}

/* The word that page i gets once it is installed. */
static void run_decide(struct vm *vm, struct run *run, uint32_t i)
{
	const uint64_t w = run->before[i];
	unsigned rewritten = word_rewritten(w);
	bool quick;
	uint64_t kept = (uint64_t)run->owner << OWNER_SHIFT;

	if (word_state(w) == PAGE_NONE) {
		run->writable[i] = true;
		run->after[i] = kept | PAGE_DIRTY;
		return;
	}
	kept |= credit_of(vm, run->container, w, &quick);
	/* A copy stays with the container that its page belonged to, so a page that changes hands comes without. */
	run->writable[i] =
		(run->access != ACCESS_READ) || rewritten || word_owner(w) != run->owner ||
		!copy_worth_keeping(vm, w) ||
		(run->first + i == run->target && belongs_in_memory(vm, run->container, w));
	if (run->access == ACCESS_READ && rewritten)
		rewritten--;
	kept |= (uint64_t)rewritten << REWRITTEN_SHIFT;
	run->after[i] = run->writable[i]
				? kept | PAGE_DIRTY
				: kept | PAGE_CLEAN | word_copy_of(w) | (w & WORD_WRITEBACK);
}

/* Its copy cannot be read: the reader is told, and never sees wrong bytes or zeroes. */
static void page_poison(struct vm *vm, struct run *run, uint32_t i, int err)
{
	const uint32_t page = run->first + i;
	char *address = page_address(run->region, page);

	log_line("the page at %p cannot be read back (%s): it is poisoned, a touch is SIGBUS",
		 (void *)address, errno_name(err));
	add_relaxed(&vm->count.poisoned, 1);
	page_copy_free(vm, run->region, run->before[i]);
	/* In signal mode the thread finds the state of the page, and passes its SIGBUS on. */
	if ((!vm->can_poison || uffd_poison(run->region->uffd, address, PAGE_SIZE)) &&
	    !run->region->signal)
		panic("this kernel has no UFFDIO_POISON, and there is no other way to tell the "
		      "program");
	page_unlock(vm, run->region, page, PAGE_POISONED, true);
	(void)uffd_wake(run->region->uffd, address, PAGE_SIZE);
}

static enum pagein_result install_failed(const struct pager *self, struct run *run, int err)
{
	char *address = page_address(run->region, run->target);

	if (self->borrowed && err != -ENOMEM && err != -EAGAIN)
		return PAGEIN_ELSEWHERE;
	/* Nothing is mapped there any more, and munmap wakes nobody: the thread goes and sees. */
	if (err == -ENOENT)
		(void)uffd_wake(run->region->uffd, address, PAGE_SIZE);
	if (err == -ENOENT || err == -ESRCH || err == -EINVAL)
		return PAGEIN_GONE;
	/* Memory of the system, or an event that somebody must read first: the thread faults again. */
	if (err == -ENOMEM) {
		log_once("the system has no memory for a page; trying again");
		sched_yield();
	}
	(void)uffd_wake(run->region->uffd, address, PAGE_SIZE);
	return PAGEIN_RETRY;
}

/* Page i of a run is not loaded. */
static void run_give_back(struct vm *vm, struct run *run, uint32_t i)
{
	if (word_state(run->before[i]) == PAGE_NONE)
		sub_relaxed(&run->region->populated[(run->first + i) >> CHUNK_SHIFT], 1);
	page_unlock(vm, run->region, run->first + i, run->before[i], true);
}

/* Installs the filled pages [from, to), unlocks all of them. Returns the first error. */
static int run_install(struct vm *vm, struct pager *self, struct run *run, uint32_t from,
		       uint32_t to)
{
	struct region *region = run->region;
	bool apart = false;
	int err = 0;

	while (from < to) {
		uint32_t n = 1;
		size_t done = 0;

		while (!apart && from + n < to && run->writable[from + n] == run->writable[from])
			n++;
		err = uffd_copy(region->uffd, page_address(region, run->first + from),
				self->run[from], (size_t)n << PAGE_SHIFT, !run->writable[from],
				&done);
		for (uint32_t i = from; i < from + (uint32_t)(done >> PAGE_SHIFT); i++) {
			if (run->writable[i])
				page_copy_free(vm, region, run->before[i]);
			page_unlock(vm, region, run->first + i, run->after[i], true);
		}
		from += (uint32_t)(done >> PAGE_SHIFT);
		run->charged -= (uint32_t)(done >> PAGE_SHIFT);
		if (err == -EEXIST) {
			/* Somebody put a page there behind our back: it is what the program sees, so it is true. */
			log_once("a page was installed by somebody else");
			page_copy_free(vm, region, run->before[from]);
			page_unlock(vm, region, run->first + from,
				    (uint64_t)run->owner << OWNER_SHIFT | PAGE_DIRTY, true);
			(void)uffd_wake(region->uffd, page_address(region, run->first + from),
					PAGE_SIZE);
			from++;
			run->charged--;
			err = 0;
		}
		/* The kernel copies into one mapping at a time, and mlock or mprotect of a part makes two of one. A run
		 * over their border goes page by page; a neighbour that is not mapped at all stays away. */
		if (err == -ENOENT && n > 1) {
			apart = true;
			err = 0;
		} else if (err == -ENOENT && run->first + from != run->target) {
			run_give_back(vm, run, from++);
			err = 0;
		}
		if (err)
			break;
	}
	for (uint32_t i = from; i < to; i++)
		run_give_back(vm, run, i);
	return err;
}

static enum pagein_result copy_out_of_reach(void)
{
	log_once("the system has no window for a page (too many mappings?); trying again");
	sched_yield();
	return PAGEIN_RETRY;
}

/* The target is locked and charged (run->charged >= 1). */
static enum pagein_result run_load(struct vm *vm, struct pager *self, struct run *run)
{
	enum pagein_result result = PAGEIN_DONE;
	uint32_t filled = 0, total = run->count;
	int err = 0;

	/* All pages of a run are alike. */
	if (word_state(run->before[0]) == PAGE_NONE)
		region_populate(run->region, run->first, run->count);
	while (filled < run->count) {
		int n = run_fill(vm, self, run, filled);

		if (n > 0) {
			filled += (uint32_t)n;
			continue;
		}
		err = n;
		break;
	}
	for (uint32_t i = 0; i < filled; i++)
		run_decide(vm, run, i);
	if (filled < total) {
		/* Page `filled` is unreadable. Neighbours beyond it go back; it is poisoned only when it is the
		 * page that faulted: a guess must not condemn a page that may be readable later. */
		uint32_t target = run->target - run->first;

		for (uint32_t i = filled; i < total; i++) {
			if (self->borrowed || err == -EAGAIN)
				run_give_back(vm, run, i);
			else if (i == target && i == filled)
				page_poison(vm, run, i, err);
			else
				page_unlock(vm, run->region, run->first + i, run->before[i], true);
		}
		if (self->borrowed)
			result = PAGEIN_ELSEWHERE;
		else if (err == -EAGAIN)
			result = copy_out_of_reach();
		/* A run downwards that broke before its target: the thread faults again, for that page alone. */
		if (target > filled || (err == -EAGAIN && target == filled))
			(void)uffd_wake(run->region->uffd, page_address(run->region, run->target),
					PAGE_SIZE);
	}
	err = run_install(vm, self, run, 0, filled);
	if (err)
		result = install_failed(self, run, err);
	if (run->charged)
		container_uncharge(run->container, CHARGE_RESIDENT,
				   (uint64_t)run->charged << PAGE_SHIFT);
	return result;
}

/* --- the transitions of a page that is there --- */

/* The word of a page that has become writable. */
static uint64_t written_word(struct vm *vm, const struct region *region, uint64_t w)
{
	uint64_t history = word_history(w) | (uint64_t)word_credit(w) << CREDIT_SHIFT |
			   (uint64_t)word_pins(w) << PIN_SHIFT;

	if (word_state(w) == PAGE_CLEAN) {
		page_copy_free(vm, region, w);
		history |= (uint64_t)REWRITTEN_MAX << REWRITTEN_SHIFT;
	}
	return history | PAGE_DIRTY;
}

/*
 * A write to a protected page: the page becomes dirty and its copy is let go. Where the writes go page by page, the
 * clean pages ahead follow at once: taking protection away costs a shootdown, for one page or for many.
 */
static int make_writable(struct vm *vm, struct region *region, uint32_t page, uint64_t w)
{
	/* Streams of writes are told apart from streams of loads by a bit that no page number has. */
	const page_no_t key = page_number(region, page) | 1ull << 62;
	uint64_t words[RUN_MAX] = {w};
	uint32_t first = page, count = 1;
	int step, err;
	int32_t window;
	struct stream *stream = stream_match(vm, key, &window);
	unsigned want = window ? MIN((unsigned)abs(window), (unsigned)RUN_MEMORY) : 1;

	step = window < 0 ? -1 : 1;
	for (; count < want; count++) {
		int64_t next = (int64_t)page + (int64_t)step * (int64_t)count;

		if (next < 0 || next >= region->pages)
			break;
		words[count] = load_relaxed(&region->word[next]);
		if ((words[count] & WORD_BUSY) || word_state(words[count]) != PAGE_CLEAN ||
		    !page_lock(&region->word[next], &words[count]))
			break;
	}
	if (window)
		stream_advance(stream, key, count, window);
	if (step < 0)
		first = page - (count - 1);
	/* Wakes as well. Where it fails the page is still protected, which is harmless: the thread faults again. */
	tsan_release(page_address(region, page));
	err = uffd_writeprotect(region->uffd, page_address(region, first),
				(size_t)count << PAGE_SHIFT, false);
	if (err)
		(void)uffd_wake(region->uffd, page_address(region, page), PAGE_SIZE);
	for (uint32_t i = 0; i < count; i++)
		page_unlock(vm, region, step < 0 ? page - i : page + i,
			    written_word(vm, region, words[i]), true);
	return err;
}

/*
 * A missing fault on a page that the word calls resident: mostly somebody loaded it meanwhile, and waking is all.
 * But where a page was dropped behind weir's back (a raw madvise), waking would repeat for ever. ZEROPAGE tells the
 * two apart, and gives what such a drop means: zeroes. Under the busy bit, so that reclaim cannot drop it just then.
 */
static int page_recheck(struct vm *vm, struct region *region, uint32_t page, uint64_t w)
{
	char *address = page_address(region, page);
	int err = uffd_zeropage(region->uffd, address, PAGE_SIZE, NULL);

	if (err == 0) {
		add_relaxed(&vm->count.vanished, 1);
		page_copy_free(vm, region, w);
		w = (uint64_t)word_owner(w) << OWNER_SHIFT | (uint64_t)word_pins(w) << PIN_SHIFT |
		    PAGE_DIRTY;
	}
	page_unlock(vm, region, page, w, true);
	(void)uffd_wake(region->uffd, address, PAGE_SIZE);
	return err == -EEXIST ? 0 : err;
}

static void run_pays(struct run *run)
{
	run->owner = load_relaxed(&run->region->owners.current);
	run->container = owners_get(&run->region->owners, run->owner);
}

void pager_stall(struct pager *self, struct weir_container *container)
{
	if (self->stalled)
		return;
	self->stalled = container;
	container_stall_begin(container, self->tid, self->began_ns ? self->began_ns : now_ns());
}

/* One page for the target. False: it is refused, and the touch is to fail. */
static bool run_charge(struct vm *vm, struct pager *self, struct run *run, uint64_t w)
{
	int err;

	run->charged = 1;
	container_throttle(run->container);
	if (likely(container_try(run->container, CHARGE_RESIDENT, PAGE_SIZE)))
		return true;
	pager_stall(self, run->container);
	err = container_charge(run->container, CHARGE_RESIDENT, PAGE_SIZE);
	if (!err)
		return true;
	if (err == -ENOMEM && word_state(w) == PAGE_NONE && vm->can_poison) {
		run->charged = 0;
		return false;
	}
	/* Nothing to reclaim just now, or the page has contents: over the limit is better than lost. */
	container_force(run->container, CHARGE_RESIDENT, PAGE_SIZE);
	container_count(run->container, COUNT_OVER_MAX, 1);
	return true;
}

/* A first touch that the container has no room for. The page stays poisoned until it is discarded. */
static bool page_refuse(struct vm *vm, struct region *region, uint32_t page, uint64_t *w)
{
	char *address = page_address(region, page);
	int err;

	if (!page_lock(&region->word[page], w))
		return false;
	region_populate(region, page, 1);
	/* In signal mode the thread finds the state of the page, and passes its SIGBUS on. */
	err = uffd_poison(region->uffd, address, PAGE_SIZE);
	if (region->signal)
		err = 0;
	add_relaxed(&vm->count.poisoned, !err);
	if (err)
		sub_relaxed(&region->populated[page >> CHUNK_SHIFT], 1);
	page_unlock(vm, region, page, err ? *w : (uint64_t)PAGE_POISONED, true);
	(void)uffd_wake(region->uffd, address, PAGE_SIZE);
	return true;
}

static enum pagein_result fault_serve(struct vm *vm, struct pager *self, struct region *region,
				      uint32_t page, enum fault_access access)
{
	struct run run = {
		.region = region,
		.first = page,
		.target = page,
		.count = 1,
		.access = access,
	};
	page_word_t *word = &region->word[page];
	uint64_t w = load_relaxed(word);
	struct stream *stream;
	int32_t window;
	int err = 0;

	run_pays(&run);
	self->container = run.container;
	for (;;) {
		if (w & WORD_BUSY) {
			/* The holder's exchange in page_unlock sees the bit, or this fails. */
			if (!cas_relaxed(word, &w, w | WORD_PARKED))
				continue;
			add_relaxed(&vm->count.parked, 1);
			break;
		}
		if (!loadable(w)) {
			if (!page_lock(word, &w))
				continue;
			add_relaxed(&vm->count.soft, 1);
			container_count(run.container, COUNT_SOFT, 1);
			if (word_state(w) == PAGE_POISONED) {
				/* A thread that faulted before, and was not yet in line when page_poison woke. */
				page_unlock(vm, region, page, w, true);
				(void)uffd_wake(region->uffd, page_address(region, page),
						PAGE_SIZE);
			} else if (access == ACCESS_WP) {
				err = make_writable(vm, region, page, w);
			} else {
				err = page_recheck(vm, region, page, w);
			}
			break;
		}
		if (word_state(w) == PAGE_ABSENT)
			pager_stall(self, run.container);
		if (!run.charged && !run_charge(vm, self, &run, w)) {
			if (page_refuse(vm, region, page, &w))
				break;
			continue;
		}
		if (!page_lock(word, &w))
			continue;
		run.before[0] = w;
		stream = stream_match(vm, page_number(region, page), &window);
		if (word_kind(w) == COPY_FILE)
			file_note(vm, window != 0);
		if (window) {
			run_extend(vm, &run, (unsigned)abs(window), window < 0 ? -1 : 1);
			stream_advance(stream, page_number(region, page), run.count, window);
		} else if (word_kind(w) == COPY_FILE && !load_relaxed(&vm->file_control.random)) {
			run_extend(vm, &run, FILE_AROUND, 1);
			/* A reader that goes on faults behind them next. */
			stream_set(stream, page_number(region, page) + run.count, 0);
		}
		return run_load(vm, self, &run);
	}
	if (run.charged)
		container_uncharge(run.container, CHARGE_RESIDENT, PAGE_SIZE);
	if (err && self->borrowed)
		return PAGEIN_ELSEWHERE;
	return w & WORD_BUSY ? PAGEIN_PARKED : PAGEIN_DONE;
}

enum pagein_result pagein(struct vm *vm, struct pager *self, struct region *region, uint32_t page,
			  enum fault_access access)
{
	enum pagein_result result = region->file ? file_pagein(vm, self, region, page)
						 : fault_serve(vm, self, region, page, access);

	if (self->stalled) {
		container_count(self->stalled, COUNT_MAJOR, 1);
		self->ended_ns = now_ns();
		container_stall_end(self->stalled, self->ended_ns);
		self->stalled = NULL;
	}
	return result;
}

/*
 * Loads the page if it is absent; waits for its busy bit. Where the system has no memory for it this goes on trying,
 * as a fault does: a child would read zeroes in its place.
 */
static int bring_in_page(struct vm *vm, struct pager *self, struct region *region, uint32_t page)
{
	for (;;) {
		struct run run = {.region = region, .first = page, .target = page, .count = 1};
		uint64_t w = page_lock_wait(&region->word[page]);

		if (word_state(w) != PAGE_ABSENT) {
			page_unlock(vm, region, page, w, true);
			return word_state(w) == PAGE_POISONED ? -EIO : 0;
		}
		run_pays(&run);
		container_force(run.container, CHARGE_RESIDENT, PAGE_SIZE);
		run.charged = 1;
		run.before[0] = w;
		switch (run_load(vm, self, &run)) {
		case PAGEIN_GONE:
			return 0;
		case PAGEIN_DONE:
			add_relaxed(&vm->count.fork_loaded, 1);
			break;
		case PAGEIN_PARKED:
		case PAGEIN_RETRY:
		case PAGEIN_ELSEWHERE:
			break;
		}
	}
}

int vm_bring_in(struct vm *vm, struct pager *self)
{
	int err = 0;

	for (uint32_t i = 0; i < load_relaxed(&vm->regions); i++) {
		struct region *region = load_acquire(&vm->region[i]);

		for (uint32_t page = 0; region && page < load_relaxed(&region->top);) {
			if (!load_relaxed(&region->populated[page >> CHUNK_SHIFT])) {
				page = ALIGN_DOWN(page, 1u << CHUNK_SHIFT) + (1u << CHUNK_SHIFT);
				continue;
			}
			if (bring_in_page(vm, self, region, page))
				err = -EIO;
			page++;
		}
	}
	return err;
}
