/* SPDX-License-Identifier: BSD-2-Clause */
#include "ranges.h"

#include <errno.h>
#include <string.h>

static uint32_t end_of(const struct range *range)
{
	return range->first + range->pages;
}

void ranges_init(struct ranges *ranges, struct range *memory, uint32_t room, uint32_t pages)
{
	*ranges = (struct ranges){.range = memory, .room = room, .pages = pages};
}

/* The first stretch that ends beyond the page; count: there is none. */
static uint32_t find(const struct ranges *ranges, uint32_t page)
{
	uint32_t low = 0, high = ranges->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (end_of(&ranges->range[middle]) > page)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

int ranges_set(struct ranges *ranges, uint32_t first, uint32_t pages, uint32_t what)
{
	struct range new[3];
	const uint32_t end = first + pages;
	/* Those from `from` on and before `to` are replaced by new[]: what is left of the outer two, and the new one between. */
	uint32_t from = find(ranges, first), to = from, n = 0;
	struct range set = {first, pages, what};

	/* Neighbours that touch and are the same become one with it. */
	if (what && from && end_of(&ranges->range[from - 1]) == first &&
	    ranges->range[from - 1].what == what)
		from--;
	while (to < ranges->count && ranges->range[to].first < end)
		to++;
	if (what && to < ranges->count && ranges->range[to].first == end &&
	    ranges->range[to].what == what)
		to++;
	if (from < to) {
		const struct range left = ranges->range[from], right = ranges->range[to - 1];

		if (left.first < first && left.what == what)
			set.first = left.first;
		else if (left.first < first)
			new[n++] = (struct range){left.first, first - left.first, left.what};
		set.pages = end - set.first;
		if (end_of(&right) > end && right.what == what)
			set.pages = end_of(&right) - set.first;
		if (what)
			new[n++] = set;
		if (end_of(&right) > end && right.what != what)
			new[n++] = (struct range){end, end_of(&right) - end, right.what};
	} else if (what) {
		new[n++] = set;
	}
	if (ranges->count - (to - from) + n > ranges->room)
		return -ENOMEM;
	memmove(&ranges->range[from + n], &ranges->range[to],
		(ranges->count - to) * sizeof(new[0]));
	memcpy(&ranges->range[from], new, n * sizeof(new[0]));
	ranges->count += n - (to - from);
	return 0;
}

struct range ranges_piece(const struct ranges *ranges, uint32_t page, uint32_t end)
{
	const uint32_t i = find(ranges, page);
	const struct range *range = i < ranges->count ? &ranges->range[i] : NULL;

	if (range && range->first <= page)
		return (struct range){page, MIN(end, end_of(range)) - page, range->what};
	return (struct range){page, (range ? MIN(end, range->first) : end) - page, 0};
}

int64_t ranges_place(const struct ranges *ranges, uint32_t pages)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < ranges->count; i++) {
		if (ranges->range[i].first - at >= pages)
			return at;
		at = end_of(&ranges->range[i]);
	}
	return ranges->pages - at >= pages ? (int64_t)at : -1;
}
