/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pages that move to other addresses of their region (mremap).
 *
 *      before                     at the new address
 *      DIRTY, CLEANING, CLEAN     DIRTY: copied. Moved by the kernel (UFFDIO_MOVE) each would cost a shootdown of its own
 *      compressed, same-filled    the same copy, under its new number
 *      in the file                DIRTY: read, since a copy in the file cannot be renamed
 *      POISONED                   POISONED
 *
 * Both windows are busy meanwhile, and what is written to the old one after its write protection is lost with it, as after the
 * kernel's own move.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/log.h"
#include "vm/run.h"

struct move {
	struct vm *vm;
	struct pager *self;
	struct region *region;
	struct run source; /* before[]: their words */
	uint32_t to;
	uint64_t after[RUN_MAX]; /* words at the new address */
	bool filled[RUN_MAX];	 /* contents are in the pager's buffer */
};

static void window_lock(struct region *region, uint32_t page, uint32_t count, uint64_t *words)
{
	for (uint32_t i = 0; i < count; i++)
		words[i] = page_lock_wait(&region->word[page + i]);
}

/* A locked window that is nobody's: nothing is there, whatever somebody has touched. */
static void window_empty(struct move *m, uint32_t page, const uint64_t *words)
{
	struct dues dues = {0};
	uint32_t populated = 0, count = m->source.count;
	char *address = page_address(m->region, page);
	int err = 0;

	for (uint32_t i = 0; i < count; i++)
		populated += word_state(words[i]) != PAGE_NONE;
	if (!populated)
		return;
	/* What is locked cannot be dropped; a page that stays would come to light again in the next mapping. */
	err = mem_discard(address, (size_t)count << PAGE_SHIFT);
	if (err) {
		(void)mem_unlock(address, (size_t)count << PAGE_SHIFT);
		err = mem_discard(address, (size_t)count << PAGE_SHIFT);
	}
	if (err)
		log_once("pages that have moved cannot be dropped (%s)", errno_name(err));
	for (uint32_t i = 0; i < count; i++) {
		if (word_resident(words[i]))
			dues_add(&dues, page_owner(m->region, words[i]));
		page_copy_free(m->vm, m->region, words[i]);
		sub_relaxed(&m->region->populated[(page + i) >> CHUNK_SHIFT],
			    word_state(words[i]) != PAGE_NONE);
	}
	dues_settle(&dues);
}

/* A compressed page gets its new number. 0, or -EBADMSG: its copy is damaged. */
static int copy_rename(struct move *m, uint32_t i)
{
	const uint64_t w = m->source.before[i];
	struct object *object;
	int err;

	/* No window for it: there will be one when somebody lets go. */
	while (!(object = compressed_object(m->vm->memory, word_location(w))))
		sched_yield();
	err = object_rename(object, compressed_room(m->vm->memory, word_location(w)),
			    page_number(m->region, m->source.first + i),
			    page_number(m->region, m->to + i));
	compressed_object_end(m->vm->memory, object);
	return err;
}

/* Contents of pages from i on into the buffer: of how many. -errno: page i cannot be read back. */
static int contents(struct move *m, uint32_t i)
{
	const uint64_t w = m->source.before[i];
	const void *page;

	if (!word_resident(w))
		return run_fill(m->vm, m->self, &m->source, i);
	page = page_source(m->vm, m->region, m->source.first + i, m->self->run[i]);
	if (page && page != m->self->run[i])
		memcpy(m->self->run[i], page, PAGE_SIZE);
	return page ? 1 : -EFAULT;
}

/* Decides what becomes of page i, and of those that come with it. Returns how many. */
static uint32_t plan(struct move *m, uint32_t i)
{
	const uint64_t w = m->source.before[i];
	int got = 1;

	m->filled[i] = false;
	m->after[i] = w & ~WORD_WRITEBACK;
	if (word_state(w) == PAGE_NONE || word_state(w) == PAGE_POISONED) {
		m->after[i] = word_state(w);
		return 1;
	}
	if (word_state(w) == PAGE_ABSENT && word_kind(w) == COPY_FILLED)
		return 1;
	if (word_state(w) == PAGE_ABSENT && word_kind(w) == COPY_MEMORY) {
		if (!copy_rename(m, i))
			return 1;
		got = -EBADMSG;
	} else {
		got = contents(m, i);
	}
	if (got <= 0) {
		log_line("the page at %p cannot be read back (%s): where it moves to, a touch is "
			 "SIGBUS",
			 (void *)page_address(m->region, m->source.first + i), errno_name(got));
		m->after[i] = PAGE_POISONED;
		return 1;
	}
	for (uint32_t k = i; k < i + (uint32_t)got; k++) {
		m->filled[k] = true;
		m->after[k] = word_history(m->source.before[k]) | PAGE_DIRTY;
	}
	return (uint32_t)got;
}

/* Installs the pages of which the buffer has the contents. */
static int install(struct move *m)
{
	const uint32_t count = m->source.count;
	int err = 0;

	for (uint32_t i = 0, n; i < count && !err; i += n) {
		size_t done = 0;

		for (n = 0; i + n < count && m->filled[i + n]; n++)
			;
		if (!n) {
			if (m->after[i] == PAGE_POISONED &&
			    (!m->vm->can_poison ||
			     uffd_poison(m->region->uffd, page_address(m->region, m->to + i),
					 PAGE_SIZE)))
				panic("this kernel has no UFFDIO_POISON, and there is no other way "
				      "to "
				      "tell the program");
			n = 1;
			continue;
		}
		err = uffd_copy(m->region->uffd, page_address(m->region, m->to + i),
				m->self->run[i], (size_t)n << PAGE_SHIFT, false, &done);
		n = (uint32_t)(done >> PAGE_SHIFT);
		/* Memory of the system, or an event that somebody else must read first: it comes. */
		if (err == -ENOMEM || err == -EAGAIN) {
			sched_yield();
			err = 0;
		}
	}
	return err;
}

/* What the words say of who pays, and for what. `target` is empty, and so is the old place in a moment. */
static void settle(struct move *m)
{
	for (uint32_t i = 0; i < m->source.count; i++) {
		const uint64_t w = m->source.before[i];

		if (word_state(m->after[i]) != PAGE_NONE)
			region_populate(m->region, m->to + i, 1);
		/* What went along is not let go at the old place: neither the page that is charged, nor the copy. */
		if (m->filled[i] && word_resident(w))
			container_force(page_owner(m->region, w), CHARGE_RESIDENT, PAGE_SIZE);
		else if (m->filled[i])
			container_force(page_owner(m->region, m->after[i]), CHARGE_RESIDENT,
					PAGE_SIZE);
		else if (m->after[i] != PAGE_POISONED)
			m->source.before[i] = w & ~word_copy(3, UINT32_MAX);
	}
}

int region_move(struct vm *vm, struct pager *self, struct region *region, uint32_t from,
		uint32_t to, uint32_t count)
{
	struct move m = {.vm = vm, .self = self, .region = region, .to = to};
	uint64_t target[RUN_MAX] = {0};
	int err;

	assert_debug(count <= RUN_MAX);
	m.source.region = region;
	m.source.first = from;
	m.source.count = count;
	m.source.target = UINT32_MAX;
	/* Ascending: see page_lock_wait. */
	window_lock(region, MIN(from, to), count, from < to ? m.source.before : target);
	window_lock(region, MAX(from, to), count, from < to ? target : m.source.before);
	(void)uffd_writeprotect(region->uffd, page_address(region, from),
				(size_t)count << PAGE_SHIFT, true);
	window_empty(&m, to, target);
	for (uint32_t i = 0; i < count;)
		i += plan(&m, i);
	err = install(&m);
	settle(&m);
	window_empty(&m, from, m.source.before);
	for (uint32_t i = 0; i < count; i++) {
		page_unlock(vm, region, from + i, PAGE_NONE, true);
		page_unlock(vm, region, to + i, m.after[i], true);
	}
	return err;
}
