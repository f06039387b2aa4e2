/* SPDX-License-Identifier: BSD-2-Clause */
/* Areas: regions whose every byte is known. */
#include <errno.h>
#include <sys/mman.h>

#include "access.h"
#include "stress.h"

static _Atomic uint64_t areas_made;

struct area *area_over(struct weir *weir, char *base, uint32_t pages, uint32_t per_page)
{
	struct area *area = calloc(1, sizeof(*area));

	CHECK(area, "no memory");
	area->weir = weir;
	area->base = base;
	area->id = add_relaxed(&areas_made, 1) + 1;
	area->pages = pages;
	area->per_page = per_page;
	area->cells = pages * per_page;
	area->cell_bytes = PAGE_SIZE / per_page;
	area->cell = calloc(area->cells, sizeof(*area->cell));
	CHECK(area->cell, "no memory");
	return area;
}

struct area *area_create(struct weir *weir, uint32_t pages, uint32_t per_page,
			 const unsigned weight[KINDS])
{
	struct area *area;
	void *base;
	enum weir_mode mode;
	int err;

	doing("weir_region_create", pages);
	mode = setup.mode == WEIR_MODE_BOTH
		       ? (enum weir_mode)(WEIR_MODE_THREAD + draw(&me->random, 2))
		       : setup.mode;
	err = region_as(weir, (uint64_t)pages << PAGE_SHIFT, mode, &base);
	CHECK(!err, "weir_region_create of %u pages: %s", pages, strerrorname_np(-err));
	area = area_over(weir, base, pages, per_page);
	area->signal = mode == WEIR_MODE_SIGNAL;
	memcpy(area->weight, weight, sizeof(area->weight));
	return area;
}

struct area *area_adopt(struct weir *weir, void *base, uint32_t pages)
{
	int err;

	doing("weir_region_adopt", pages);
	err = weir_region_adopt(weir, base, (uint64_t)pages << PAGE_SHIFT);
	CHECK(!err, "weir_region_adopt of %u pages: %s", pages, strerrorname_np(-err));
	return area_over(weir, base, pages, 1);
}

void area_forget(struct area *area)
{
	free(area->cell);
	free(area);
}

void area_destroy(struct area *area)
{
	int err;

	doing("weir_region_destroy", area->id);
	err = weir_region_destroy(area->weir, area->base);
	CHECK(!err, "weir_region_destroy: %s", strerrorname_np(-err));
	area_forget(area);
}

/* --- access --- */

void region_load(void *to, const void *from, size_t bytes)
{
	access_copy(to, from, bytes);
}

void region_store(void *to, const void *from, size_t bytes)
{
	access_copy(to, from, bytes);
}

/* --- locks --- */

static bool cell_try(struct cell *cell, bool write)
{
	int32_t seen = load_relaxed(&cell->lock);

	do {
		if (write ? seen != 0 : seen < 0)
			return false;
		/* Pairs with the releases in cells_done. */
	} while (!cas_acquire(&cell->lock, &seen, write ? -1 : seen + 1));
	return true;
}

void cells_done(struct area *area, uint32_t first, uint32_t count, bool write)
{
	for (uint32_t i = first; i < first + count; i++) {
		/* Both pair with the acquire in cell_try. */
		if (write)
			store_release(&area->cell[i].lock, 0);
		else
			sub_acq_rel(&area->cell[i].lock, 1);
	}
}

bool cells_try(struct area *area, uint32_t first, uint32_t count, bool write)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!cell_try(&area->cell[first + i], write)) {
			cells_done(area, first, i, write);
			return false;
		}
	}
	return true;
}

/* --- contents --- */

struct contents contents_new(const struct area *area, uint64_t *random)
{
	unsigned all = 0, at, kind = 0;

	for (unsigned i = 0; i < KINDS; i++)
		all += area->weight[i];
	at = (unsigned)draw(random, all);
	while (at >= area->weight[kind])
		at -= area->weight[kind++];
	return (struct contents){.seed = (uint32_t)draw(random, UINT32_MAX) + 1,
				 .kind = (uint16_t)kind};
}

/* Compresses about as well as a text does. */
static void text_make(uint64_t seed, char *to, size_t bytes)
{
	static const char words[64][8] = {
		"the ",	  "weir ",  "page ", "of ",    "frame ", "a ",	   "fault ", "and ",
		"is ",	  "to ",    "in ",   "memory", " that ", "it ",	   "lock ",  "holds ",
		"water ", "level ", "back ", "comes ", "when ",	 "touch ", "limit ", "below ",
		"\n",	  ", ",	    ". ",    "not ",   "copy ",	 "clean ", "dirty ", "word ",
	};
	size_t at = 0;

	while (at < bytes) {
		uint64_t bits = mixed(seed += 0x9e3779b97f4a7c15u);

		for (unsigned i = 0; i < 12 && at < bytes; i++, bits >>= 5) {
			const char *word = words[bits & 31];
			size_t n = MIN(strnlen(word, sizeof(words[0])), bytes - at);

			memcpy(to + at, word, n);
			at += n;
		}
	}
}

void contents_make(const struct area *area, uint32_t cell, struct contents contents, void *to)
{
	const uint64_t seed = mixed(area->id << 32 ^ cell) ^ mixed(contents.seed);
	const size_t words = area->cell_bytes / sizeof(uint64_t);
	uint64_t *word = to;

	switch ((enum content_kind)contents.kind) {
	case ZERO:
		memset(to, 0, area->cell_bytes);
		break;
	case FILLED:
		/* The same in all cells of an area, so that pages of several cells can be filled too. */
		memset(to, (int)(area->id % 255 + 1), area->cell_bytes);
		break;
	case TEXT:
		text_make(seed, to, area->cell_bytes);
		break;
	case NOISE:
		for (size_t i = 0; i < words; i++)
			word[i] = mixed(seed + i);
		break;
	case KINDS:
		break;
	}
	if (contents.stamp)
		word[mixed(cell) % words] = mixed(seed + contents.stamp) | 1;
}

void cell_note(struct area *area, uint32_t cell, struct contents contents)
{
	area->cell[cell].before = area->cell[cell].now;
	area->cell[cell].now = contents;
}

void cell_write(struct area *area, uint32_t cell, struct contents contents)
{
	contents_make(area, cell, contents, me->buffer);
	region_store(cell_address(area, cell), me->buffer, area->cell_bytes);
	cell_note(area, cell, contents);
}

void cell_stamp(struct area *area, uint32_t cell, uint16_t stamp)
{
	struct contents contents = area->cell[cell].now;
	const size_t words = area->cell_bytes / sizeof(uint64_t), at = mixed(cell) % words;

	contents.stamp = stamp;
	contents_make(area, cell, contents, me->buffer);
	region_store(cell_address(area, cell) + at * sizeof(uint64_t),
		     me->buffer + at * sizeof(uint64_t), sizeof(uint64_t));
	cell_note(area, cell, contents);
}

static const char *guess(const struct area *area, uint32_t cell, const void *seen)
{
	char other[PAGE_SIZE];
	bool zero = true;

	for (size_t i = 0; i < area->cell_bytes; i++)
		zero = zero && !((const char *)seen)[i];
	if (zero)
		return "zeroes";
	contents_make(area, cell, area->cell[cell].before, other);
	if (!memcmp(seen, other, area->cell_bytes))
		return "what was there before";
	for (uint32_t i = 0; i < area->cells; i++) {
		contents_make(area, i, area->cell[i].now, other);
		if (area->cell[i].now.kind > FILLED && !memcmp(seen, other, area->cell_bytes))
			return "what another cell holds";
	}
	return "nothing known";
}

void cell_compare(const struct area *area, uint32_t cell, const void *seen, const char *how)
{
	const struct cell *c = &area->cell[cell];
	const unsigned char *a = seen, *b = (const unsigned char *)me->buffer;
	size_t at = 0;

	contents_make(area, cell, c->now, me->buffer);
	if (likely(!memcmp(seen, me->buffer, area->cell_bytes)))
		return;
	while (at < area->cell_bytes - 1 && a[at] == b[at])
		at++;
	FAIL("wrong byte by %s: area %" PRIu64 " cell %u of %u (%p) byte %zu is %#x, expected %#x; "
	     "kind %u seed %#x stamp %u, before kind %u seed %#x stamp %u; seen: %s",
	     how, area->id, cell, area->cells, (void *)cell_address(area, cell), at, a[at], b[at],
	     c->now.kind, c->now.seed, c->now.stamp, c->before.kind, c->before.seed,
	     c->before.stamp, guess(area, cell, seen));
}

void cell_check(const struct area *area, uint32_t cell, const char *how)
{
	region_load(me->seen, cell_address(area, cell), area->cell_bytes);
	cell_compare(area, cell, me->seen, how);
}

void area_fill(struct area *area)
{
	for (uint32_t i = 0; i < area->cells; i++) {
		doing("fill", i);
		CHECK(cells_try(area, i, 1, true), "a cell is locked");
		cell_write(area, i, contents_new(area, &me->random));
		cells_done(area, i, 1, true);
	}
}

void area_check(struct area *area, const char *how)
{
	for (uint32_t i = 0; i < area->cells; i++) {
		doing(how, i);
		CHECK(cells_try(area, i, 1, false), "a cell is locked");
		cell_check(area, i, how);
		cells_done(area, i, 1, false);
	}
}

uint32_t area_resident(const struct area *area)
{
	unsigned char there[512];
	uint32_t count = 0;

	for (uint32_t page = 0; page < area->pages; page += sizeof(there)) {
		uint32_t n = MIN((uint32_t)sizeof(there), area->pages - page);

		CHECK(!mincore(area->base + ((size_t)page << PAGE_SHIFT), (size_t)n << PAGE_SHIFT,
			       there),
		      "mincore: %s", strerrorname_np(errno));
		for (uint32_t i = 0; i < n; i++)
			count += there[i] & 1;
	}
	return count;
}

bool page_resident(const void *address)
{
	unsigned char there = 0;

	(void)mincore((void *)ALIGN_DOWN((uintptr_t)address, PAGE_SIZE), PAGE_SIZE, &there);
	return there & 1;
}

void cells_pin(const struct area *area, uint32_t first, uint32_t count, bool write)
{
	int err;

	if (!area->signal)
		return;
	doing("weir_region_pin", first);
	err = weir_region_pin(area->weir, cell_address(area, first), count * area->cell_bytes,
			      write);
	CHECK(!err, "weir_region_pin: %s", strerrorname_np(-err));
}

void cells_unpin(const struct area *area, uint32_t first, uint32_t count)
{
	if (area->signal)
		CHECK(!weir_region_unpin(area->weir, cell_address(area, first),
					 count * area->cell_bytes),
		      "weir_region_unpin failed");
}
