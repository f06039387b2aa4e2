/* SPDX-License-Identifier: BSD-2-Clause */
/* What a reader will want next: streams, and whether loads from the file belong to any. */
#include "vm/stream.h"

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

/* The first half of the table holds streams that have proved themselves, the second half candidates: random faults wash
 * through the candidates only. */
struct stream *stream_match(struct vm *vm, page_no_t page, int32_t *window)
{
	enum { HALF = STREAMS / 2 };
	unsigned i;

	*window = 0;
	for (i = 0; i < STREAMS && !*window; i++)
		*window = stream_continues(&vm->stream[i], page);
	if (!*window) {
		i = HALF + add_relaxed(&vm->stream_hand, 1) % HALF;
		stream_begin(&vm->stream[i], page + 1);
		return &vm->stream[i];
	}
	if (--i >= HALF) {
		stream_set(&vm->stream[i], 0, 0);
		i = add_relaxed(&vm->proved_hand, 1) % HALF;
	}
	return &vm->stream[i];
}

void stream_advance(struct stream *s, page_no_t page, uint32_t count, int32_t window)
{
	stream_set(s, window > 0 ? page + count : page - count, window);
}

void stream_begin(struct stream *s, page_no_t next)
{
	stream_set(s, next, 0);
}

void stream_note_file(struct vm *vm, bool in_stream)
{
	enum { FILE_WINDOW = 256 };
	struct file_control *c = &vm->file_control;

	if (in_stream)
		add_relaxed(&c->in_stream, 1);
	if (add_relaxed(&c->loads, 1) + 1 == FILE_WINDOW) {
		store_relaxed(&c->random, load_relaxed(&c->in_stream) < FILE_WINDOW / 4);
		store_relaxed(&c->in_stream, 0);
		store_relaxed(&c->loads, 0);
	}
}
