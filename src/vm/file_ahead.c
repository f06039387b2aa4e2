/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Readahead: readers that go up or down a file page by page, told by the pages on which they fault.
 *
 * A reader's first faults bring windows of 4, 8, ... up to FILE_RUN pages, which its handler reads. From the second one on
 * the crew is asked for what comes behind it, so that the reader meets pages that are in the cache already and only have to be
 * mapped, a window with one fault. Each such fault asks for as much more as was used up:
 *
 *        mapped             next              read, or being read               asked
 *     ────────────────────────┼──────────────────────────────────────────────────┼─────────────
 *                             │◀──────── as far as flow_most allows ────────────▶│
 */
#include "vm/file_page.h"

enum {
	WINDOW_FIRST = 4,
	TOLERANCE = 16, /* pages that were there already are stepped over */
	RUNS_AHEAD = 8,
};

uint32_t flow_most(const struct file_object *f, unsigned slot)
{
	const uint64_t pages =
		load_relaxed(&owners_get(&f->owners, slot)->limit) >> (PAGE_SHIFT + 4);

	return (uint32_t)MAX(MIN(pages, (uint64_t)RUNS_AHEAD * FILE_RUN), 2u);
}

static int32_t flow_continues(const struct flow *flow, uint32_t page, uint32_t most)
{
	const int32_t window = load_relaxed(&flow->window);
	const uint32_t next = load_relaxed(&flow->next);
	const int32_t limit = (int32_t)MIN(most, (uint32_t)FILE_RUN);

	if (!next)
		return 0;
	/* One fault so far, on the page `asked`, which brought all before next. */
	if (!window)
		return page + 1 == next				? MIN(WINDOW_FIRST, limit)
		       : page + 2 == load_relaxed(&flow->asked) ? -MIN(WINDOW_FIRST, limit)
								: 0;
	if (window > 0)
		return page + 1 - next < TOLERANCE ? MIN(window * 2, limit) : 0;
	return next - (page + 1) < TOLERANCE ? -MIN(-window * 2, limit) : 0;
}

static void flow_set(struct flow *flow, uint32_t next, int32_t window, uint32_t asked)
{
	store_relaxed(&flow->next, next);
	store_relaxed(&flow->window, window);
	store_relaxed(&flow->asked, asked);
}

struct flow *flow_match(struct file_object *f, uint32_t page, uint32_t most, int32_t *window)
{
	enum { HALF = FILE_FLOWS / 2 };
	struct flow *flow, *proved;
	unsigned i;

	*window = 0;
	for (i = 0; i < FILE_FLOWS && !*window; i++)
		*window = flow_continues(&f->flow[i], page, most);
	/* The first half holds readers that have proved themselves, the second half candidates: random faults wash through
	 * the candidates only. */
	if (!*window) {
		flow = &f->flow[HALF + add_relaxed(&f->flow_hand, 1) % HALF];
		flow_set(flow, page + 2, 0, page + 1);
		return flow;
	}
	flow = &f->flow[i - 1];
	if (i - 1 < HALF)
		return flow;
	proved = &f->flow[add_relaxed(&f->flow_hand, 1) % HALF];
	flow_set(flow, 0, 0, 0);
	flow_set(proved, 0, 0, 0);
	return proved;
}

void flow_begin(struct flow *flow, uint32_t next)
{
	store_relaxed(&flow->next, next + 1);
}

/* Up or down from the reader's next page, as far as it may be read ahead. */
void flow_advance(struct vm *vm, struct file_object *f, struct flow *flow, uint32_t page,
		  uint32_t count, int32_t window, unsigned slot)
{
	const uint32_t most = flow_most(f, slot);
	const bool down = window < 0;
	/* In pages from the reader on, whichever way it goes. */
	const uint32_t next = down ? page - count : page + count;
	const uint32_t left =
		down ? (next < f->pages ? next + 1 : 0) : (next < f->pages ? f->pages - next : 0);
	const uint32_t asked = load_relaxed(&flow->asked);
	const uint32_t size = (uint32_t)(down ? -window : window);
	const uint32_t far = MIN(MIN(size * RUNS_AHEAD, most), left);
	uint32_t have = asked ? (down ? next - (asked - 1) : asked - 1 - next) : 0;

	/* The reader has jumped, or was faster than what was asked for. */
	if (have > f->pages)
		have = 0;
	while (have < far) {
		uint32_t n = MIN(far - have, (uint32_t)FILE_RUN);
		const struct file_job job = {.kind = JOB_AHEAD,
					     .file = f,
					     .page = down ? next - have - (n - 1) : next + have,
					     .count = n,
					     .slot = slot};

		/* Not in pieces smaller than the window: each is a read of the disk. */
		if ((have && n < size) || !file_crew_ask(vm, &job))
			break;
		have += n;
	}
	flow_set(flow, next + 1, window, (down ? next - have : next + have) + 1);
}

void flow_pass(struct vm *vm, struct file_object *f, uint32_t page, uint32_t count, unsigned slot)
{
	/* The window before the one before: what the reader has in its hands is in neither. */
	const uint32_t back = MIN(count, page), behind = MIN(2 * count, page);

	if (behind > back && container_pressed(owners_get(&f->owners, slot)))
		(void)file_crew_ask(vm, &(struct file_job){.kind = JOB_DROP,
							   .file = f,
							   .page = page - behind,
							   .count = behind - back});
}
