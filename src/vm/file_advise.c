/* SPDX-License-Identifier: BSD-2-Clause */
/* What weir_region_advise means for a region over a file: see file.h. */
#include <errno.h>

#include "vm/file_page.h"

static void access_set(struct region *region, uint32_t page, uint32_t count,
		       enum weir_region_advice advice)
{
	const uint32_t last = (page + count - 1) >> CHUNK_SHIFT;

	for (uint32_t chunk = page >> CHUNK_SHIFT; chunk <= last; chunk++)
		store_relaxed(&region->access[chunk], (uint8_t)advice);
}

/* Half of the limit at the most, in pieces that several of the crew read at once. */
static void will_need(struct vm *vm, const struct region *region, uint32_t page, uint32_t count)
{
	enum { PIECES = 2 * FILE_CREW };
	struct file_object *f = region->file;
	const unsigned slot = load_relaxed(&region->owners.current);
	const uint64_t half =
		load_relaxed(&owners_get(&f->owners, slot)->limit) >> (PAGE_SHIFT + 1);
	const uint32_t end = page + (uint32_t)MIN((uint64_t)count, half);
	const uint32_t piece = MAX((end - page) / PIECES, (uint32_t)FILE_RUN);

	for (uint32_t n; page < end; page += n) {
		n = MIN(piece, end - page);
		if (!file_crew_ask(vm, &(struct file_job){.kind = JOB_AHEAD,
							  .file = f,
							  .page = page,
							  .count = n,
							  .slot = slot}))
			break;
	}
}

/* A page that could not be had may be by now. */
static void heal(struct vm *vm, struct region *region, uint32_t page, uint32_t end)
{
	for (; page < end; page++) {
		uint32_t state;

		if (word_state(load_relaxed(&region->word[page])) != PAGE_POISONED)
			continue;
		state = page_take_wait(region->file, page);
		if (word_state(load_relaxed(&region->word[page])) == PAGE_POISONED &&
		    !mem_discard(page_address(region, page), PAGE_SIZE))
			store_relaxed(&region->word[page], PAGE_NONE);
		page_put(vm, region->file, page, state);
	}
}

/* Neither credit nor a reader that was expected keeps them, and reclaim goes on here. */
static void cold(struct file_object *f, uint32_t page, uint32_t end)
{
	const uint32_t keeps = FILE_AHEAD | (uint32_t)CREDIT_MAX << CREDIT_SHIFT;

	store_relaxed(&f->hand, page);
	for (; page < end; page++) {
		uint32_t s = load_relaxed(&f->state[page]);

		if ((s & (FILE_CACHED | FILE_BUSY)) == FILE_CACHED && s & keeps)
			(void)cas_relaxed(&f->state[page], &s, s & ~keeps);
	}
}

int file_region_advise(struct vm *vm, struct region *region, uint32_t page, uint32_t count,
		       enum weir_region_advice advice)
{
	struct file_object *f = region->file;

	switch (advice) {
	case WEIR_ADVICE_NORMAL:
	case WEIR_ADVICE_SEQUENTIAL:
	case WEIR_ADVICE_RANDOM:
		access_set(region, page, count, advice);
		return 0;
	case WEIR_ADVICE_WILLNEED:
		will_need(vm, region, page, count);
		return 0;
	case WEIR_ADVICE_DONTNEED:
		heal(vm, region, page, page + count);
		(void)file_crew_ask(
			vm, &(struct file_job){
				    .kind = JOB_DROP, .file = f, .page = page, .count = count});
		return 0;
	case WEIR_ADVICE_COLD:
		cold(f, page, page + count);
		return 0;
	}
	return -EINVAL;
}
