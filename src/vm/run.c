/* SPDX-License-Identifier: BSD-2-Clause */
/* One load, of a run of pages: see run.h. */
#include "vm/run.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/log.h"

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
		const uint64_t part = MIN(load_relaxed(&c->graded), loads),
			       part_quick = MIN(load_relaxed(&c->graded_quick), part);
		const uint64_t rest = loads - part,
			       rest_quick = MAX(load_relaxed(&c->quick), part_quick) - part_quick;

		/* Concentrated: who came back quickly before does so again, half as often again as others. Than all, it was: but
		 * where nearly all loads are of hot pages, nearly all come back quickly, and credits were off where they were needed most. */
		store_relaxed(&c->on, part >= 64 && rest >= 64 &&
					      part_quick * 2 * rest >= rest_quick * 3 * part);
		store_relaxed(&c->quick, 0);
		store_relaxed(&c->graded, 0);
		store_relaxed(&c->graded_quick, 0);
		store_relaxed(&c->loads, 0);
	}
}

/*
 * Evictions within which a page that was hot comes back: about as many as memory would hold pages if those that stay had no
 * copies. That is half the limit where pages are compressed well, and not much more than is resident where they are not.
 */
static uint64_t soon(const struct weir_container *container)
{
	const uint64_t resident = (container_usage(container, CHARGE_RESIDENT) +
				   container_usage(container, CHARGE_FILE)) >>
				  PAGE_SHIFT;
	const uint64_t half = load_relaxed(&container->limit) >> (PAGE_SHIFT + 1);

	return MAX(resident, MIN(half, 2 * resident));
}

bool vm_refault(const struct weir_container *container, uint64_t w)
{
	return vm_away(container, w) < soon(container);
}

uint64_t credit_of(struct vm *vm, struct weir_container *container, uint64_t w, bool *quick)
{
	struct credit_control *control = &tenant_of(container)->credit;
	unsigned grade = word_grade(w), credit = 0;

	*quick = vm_refault(container, w);
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

/* Is a read going to be followed by a write? before: the page was rewritten before. */
static bool rewrite_expected(struct weir_container *container, bool before)
{
	/* A probe of a page that is written costs a fault and a shootdown; hardly one of FIRST says enough. */
	enum { PROBE_EVERY = 64, PROBES = 64, FIRST = 16 };
	struct rewrite_control *c = &tenant_of(container)->rewrite[before];
	const bool expected = before != load_relaxed(&c->contrary);
	uint32_t probes, written;

	if (expected && (add_relaxed(&c->loads, 1) + 1) % PROBE_EVERY)
		return true;
	probes = add_relaxed(&c->probes, 1) + 1;
	written = load_relaxed(&c->written);
	if (probes == PROBES || (probes == FIRST && expected && written <= FIRST / 8)) {
		/* To doubt what is known of a page takes more than to doubt what is not known. */
		const uint32_t enough = before ? PROBES / 3 : PROBES * 2 / 3;

		store_relaxed(&c->contrary, before != (written >= enough));
		store_relaxed(&c->written, 0);
		store_relaxed(&c->probes, 0);
	}
	return false;
}

/* --- a run --- */

/* One access to a disk costs as much for many pages as for one; out of memory more pages win little, and all of them
 * take room from others: at most a 128th of the limit. */
static unsigned run_limit(const struct run *run, uint64_t w)
{
	const bool twice = region_access(run->region, run->target) == WEIR_ADVICE_SEQUENTIAL;
	uint64_t pages = load_relaxed(&run->container->limit) >> (PAGE_SHIFT + 7 - twice);
	unsigned most = word_state(w) == PAGE_ABSENT && word_kind(w) == COPY_FILE
				? RUN_MAX
				: (unsigned)RUN_MEMORY << twice;

	return (unsigned)MAX(MIN((uint64_t)most, pages), 2u);
}

void run_extend(struct vm *vm, struct run *run, unsigned want, int step)
{
	uint64_t words[RUN_MAX];
	uint32_t got = 0;
	const uint64_t first = run->before[0];

	want = MIN(want, run_limit(run, first));
	for (; got + 1 < want; got++) {
		int64_t page = (int64_t)run->target + (int64_t)step * (int64_t)(got + 1);
		page_word_t *word;

		if (page < 0 || page >= load_relaxed(&run->region->pages))
			break;
		word = &run->region->word[page];
		words[got] = load_relaxed(word);
		/* A stream of first touches ends where there are contents, and the other way round; and where nobody may go. */
		if ((words[got] & WORD_BUSY) || !page_readable(run->region, (uint32_t)page) ||
		    !page_loadable(words[got]) || word_state(words[got]) != word_state(first) ||
		    !container_try(run->container, CHARGE_RESIDENT, PAGE_SIZE))
			break;
		run->charged++;
		if (!page_lock_counted(run->region, (uint32_t)page, &words[got]))
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

/* Reads the copies of pages from index i on that are in the store, as many as fit the buffer. Returns how many. */
static int fill_from_store(struct vm *vm, struct pager *self, struct run *run, uint32_t i)
{
	store_key_t key[RUN_MAX];
	uint32_t n = 0;
	int got;

	while (i + n < run->count && word_kind(run->before[i + n]) == COPY_FILE &&
	       word_state(run->before[i + n]) == PAGE_ABSENT) {
		key[n] = word_location(run->before[i + n]);
		n++;
	}
	if (self->before_block)
		self->before_block(self->data);
	got = store_read(vm->store, &self->reader, key, n, self->stored, self->borrowed);
	for (int k = 0; k < got; k++) {
		int err = store_unpack(&self->reader, &self->packer, (unsigned)k,
				       page_number(run->region, run->first + i + (uint32_t)k),
				       self->run[i + (uint32_t)k]);
		if (err)
			return k ? k : err;
		if (run_waited_for(run, i + (uint32_t)k))
			add_relaxed(&vm->count.stored, 1);
	}
	return got;
}

int run_fill(struct vm *vm, struct pager *self, struct run *run, uint32_t i)
{
	const struct object *object;
	const uint64_t w = run->before[i];
	const bool target = run_waited_for(run, i);
	int err;

	if (word_state(w) == PAGE_NONE) {
		memset(self->run[i], 0, PAGE_SIZE);
		if (target)
			add_relaxed(&vm->count.first, 1);
		return 1;
	}
	switch (word_kind(w)) {
	case COPY_FILE:
		return fill_from_store(vm, self, run, i);
	case COPY_MEMORY:
		object = compressed_object(vm->memory, word_location(w));
		if (!object)
			return -EAGAIN;
		err = object_unpack(&self->packer, object,
				    compressed_room(vm->memory, word_location(w)),
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

int page_read(struct vm *vm, struct pager *self, struct region *region, uint32_t page, uint64_t w)
{
	/* No target: it counts as nobody's fault. */
	struct run run = {.region = region, .first = page, .count = 1, .target = UINT32_MAX};
	int got;

	run.before[0] =
		word_kind(w) == COPY_NONE ? (uint64_t)PAGE_NONE : word_copy_of(w) | PAGE_ABSENT;
	do
		got = run_fill(vm, self, &run, 0);
	while (got == -EAGAIN);
	return got < 0 ? got : 0;
}

/*
 * Is a kept copy worth its memory? Not when it is larger than half a page; nor where the page will stay for long, so
 * that making the copy again costs little an access: such pages have room for more of their like then.
 */
static bool copy_worth_keeping(struct vm *vm, uint64_t w, unsigned credit)
{
	enum { CREDIT_STAYS = 4 };

	if (word_kind(w) != COPY_MEMORY)
		return true;
	return credit < CREDIT_STAYS &&
	       compressed_room(vm->memory, word_location(w)) <= PAGE_SIZE / 2;
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

/* For the share to follow. Neighbours that nobody may want are no loads. */
static void run_note(struct pager *self, const struct run *run, uint32_t i)
{
	struct share_control *share = &tenant_of(run->container)->share;
	const uint64_t w = run->before[i];

	if (likely(!load_relaxed(&share->on)) || word_state(w) == PAGE_NONE ||
	    !(run->stream || run_waited_for(run, i)))
		return;
	self->loaded = word_kind(w) == COPY_FILE ? SHARE_FILE : SHARE_MEMORY;
	self->loads++;
	share_note(share, self->loaded, vm_age(run->container, w), word_kind(w) == COPY_FILLED);
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
	run->writable[i] = run->access != ACCESS_READ;
	if (run->access == ACCESS_READ) {
		const bool before = rewritten;

		/* Once a run, so that it is not cut into pieces. */
		if (!run->asked[before])
			run->expected[before] = rewrite_expected(run->container, before);
		run->asked[before] = true;
		run->writable[i] = run->expected[before];
		rewritten -= before && !run->writable[i];
	}
	kept |= (uint64_t)rewritten << REWRITTEN_SHIFT;
	/* A copy stays with the container that its page belonged to, so a page that changes hands comes without. */
	if (run->writable[i])
		run->after[i] = kept | PAGE_DIRTY;
	else if (word_owner(w) != run->owner ||
		 !copy_worth_keeping(vm, w, (unsigned)(kept >> CREDIT_SHIFT) & CREDIT_MAX) ||
		 (run_waited_for(run, i) && belongs_in_memory(vm, run->container, w)))
		run->after[i] = kept | PAGE_GUARDED;
	else
		run->after[i] = kept | PAGE_CLEAN | word_copy_of(w) | (w & WORD_WRITEBACK);
}

/* Its copy cannot be read: the reader is told, and never sees wrong bytes or zeroes. */
static void page_poison(struct vm *vm, struct run *run, uint32_t i, int why)
{
	const uint32_t page = run->first + i;
	char *address = page_address(run->region, page);
	const bool signal = run->region->signal;
	uint64_t copy;
	int err;

	/* First: from the poison on the reader goes on, and may look. */
	add_relaxed(&vm->count.poisoned, 1);
	err = vm->can_poison ? uffd_poison(run->region->uffd, address, PAGE_SIZE) : -EINVAL;
	if (err == -EAGAIN && !signal && load_relaxed(&vm->forking)) {
		sub_relaxed(&vm->count.poisoned, 1);
		page_unlock(vm, run->region, page, run->before[i], true);
		page_wake_later(vm, run->region, page, err);
		return;
	}
	log_line("the page at %p cannot be read back (%s): it is poisoned, a touch is SIGBUS",
		 (void *)address, errno_name(why));
	/* In signal mode the thread finds the state of the page, and passes its SIGBUS on. */
	if (err && !signal)
		panic("this kernel has no UFFDIO_POISON, and there is no other way to tell the "
		      "program");
	/* Whose it was, should the copy stay for a fork. */
	copy = page_copy_leave(vm, run->region, run->before[i], word_owner(run->before[i]));
	page_unlock(vm, run->region, page,
		    (copy ? copy | word_history(run->before[i]) : 0) | PAGE_POISONED, true);
	(void)uffd_wake(run->region->uffd, address, PAGE_SIZE);
}

static enum pagein_result install_failed(struct vm *vm, const struct pager *self, struct run *run,
					 int err)
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
	page_wake_later(vm, run->region, run->target, err);
	return PAGEIN_RETRY;
}

/* Page i of a run is not loaded. */
static void run_give_back(struct vm *vm, struct run *run, uint32_t i)
{
	page_unlock_uncounted(vm, run->region, run->first + i, run->before[i]);
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
			uint64_t after = run->after[i];

			if (word_kind(after) == COPY_NONE)
				after |= page_copy_leave(vm, region, run->before[i], run->owner);
			page_unlock(vm, region, run->first + i, after, true);
		}
		from += (uint32_t)(done >> PAGE_SHIFT);
		run->charged -= (uint32_t)(done >> PAGE_SHIFT);
		if (err == -EEXIST) {
			/* Somebody put a page there behind our back: it is what the program sees, so it is true. */
			log_once("a page was installed by somebody else");
			page_unlock(
				vm, region, run->first + from,
				(uint64_t)run->owner << OWNER_SHIFT | PAGE_DIRTY |
					page_copy_leave(vm, region, run->before[from], run->owner),
				true);
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

enum pagein_result run_load(struct vm *vm, struct pager *self, struct run *run)
{
	enum pagein_result result = PAGEIN_DONE;
	uint32_t filled = 0, total = run->count;
	int err = 0;

	while (filled < run->count) {
		int n = run_fill(vm, self, run, filled);

		if (n > 0) {
			filled += (uint32_t)n;
			continue;
		}
		err = n;
		break;
	}
	for (uint32_t i = 0; i < filled; i++) {
		run_decide(vm, run, i);
		run_note(self, run, i);
	}
	if (filled < total) {
		/* Page `filled` is unreadable. Neighbours beyond it go back; it is poisoned only when it is the
		 * page that faulted: a guess must not condemn a page that may be readable later. */
		uint32_t target = run->target - run->first;

		for (uint32_t i = filled; i < total; i++) {
			if (self->borrowed || err == -EAGAIN)
				run_give_back(vm, run, i);
			else if (i == target && i == filled && !run->ahead)
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
		result = install_failed(vm, self, run, err);
	if (run->charged)
		container_uncharge(run->container, CHARGE_RESIDENT,
				   (uint64_t)run->charged << PAGE_SHIFT);
	return result;
}
