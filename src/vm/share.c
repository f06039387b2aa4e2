/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/share.h"

/* What loads cost a byte, in 2^-20 ns. */
static uint64_t density(uint64_t loads, uint64_t ns, uint64_t bytes)
{
	return bytes ? ((loads * ns) << 20) / bytes : 0;
}

struct share_weight share_weigh(const struct share_window *w)
{
	const uint64_t memory = w->ns[SHARE_MEMORY], file = w->ns[SHARE_FILE];
	const uint64_t more = file > memory ? file - memory : 0;

	return (struct share_weight){
		.gain = density(w->soon[SHARE_MEMORY], memory, w->soon_bytes) +
			density(w->soon[SHARE_FILE], file, w->soon_bytes),
		.loss = MAX(density(w->oldest, more, w->oldest_bytes),
			    density(w->file, more, w->file_bytes)),
	};
}

uint32_t share_step(uint32_t cut, struct share_weight weight, int32_t *step)
{
	enum { MOST = SHARE_PARTS / 16, FIRST = SHARE_PARTS / 64 };
	const bool down = weight.gain / 5 > weight.loss / 4;
	int32_t size = *step < 0 ? -*step : *step;

	if (!down && weight.loss <= weight.gain)
		return cut;
	if (!size)
		size = FIRST;
	else if ((*step > 0) == down)
		size = MIN(size * 2, (int32_t)MOST);
	else
		size = MAX(size / 4, 1);
	*step = down ? size : -size;
	return down ? MIN(cut + (uint32_t)size, (uint32_t)SHARE_CUT_MAX)
		    : cut - MIN((uint32_t)size, cut);
}

/* So few that they are the oldest. */
static bool old_known(const struct share_control *s)
{
	return s->seen_old <= s->seen / 4;
}

/* The age that about an eighth of the copies in memory have, or one that is nearer to it. */
static uint32_t old_next(const struct share_control *s)
{
	enum { FIRST = 16, MOST = 1 << 14 };
	const uint32_t old = load_relaxed(&s->old);

	if (!old_known(s))
		return MIN(MAX(old * 2, (uint32_t)FIRST), (uint32_t)MOST);
	if (s->seen_old > s->seen / 8)
		return MIN(old + old / 8, (uint32_t)MOST);
	return s->seen_old < s->seen / 16 ? old - old / 8 : old;
}

/* What was counted since the last time. */
static struct share_window take(struct share_control *s)
{
	struct share_window w = {.oldest = exchange_relaxed(&s->oldest, 0)};

	for (unsigned i = 0; i < SHARE_KINDS; i++) {
		const uint32_t timed = load_relaxed(&s->timed[i]);
		const uint64_t ns = load_relaxed(&s->ns[i]);

		w.soon[i] = exchange_relaxed(&s->soon[i], 0);
		w.ns[i] = ns / MAX(timed, 1u);
		if (timed > 4 * SHARE_LOADS) {
			store_relaxed(&s->timed[i], timed / 2);
			store_relaxed(&s->ns[i], ns / 2);
		}
	}
	w.file = exchange_relaxed(&s->loads[SHARE_FILE], 0);
	store_relaxed(&s->loads[SHARE_MEMORY], 0);
	return w;
}

void share_look(struct share_control *s, const struct share_state *state)
{
	const uint32_t cut = load_relaxed(&s->cut);
	const uint64_t share = share_bytes(state->bound, cut), slack = state->bound / 16;
	struct share_window window = take(s);
	struct share_weight weight;

	window.soon_bytes = state->limit / 512 * SHARE_SOON;
	window.oldest_bytes = state->copies * s->seen_old / MAX(s->seen, 1u);
	window.file_bytes = state->file_bytes;
	weight = share_weigh(&window);
	/* Else copies are on their way out, or have not yet come. */
	if (old_known(s) && (weight.gain > weight.loss ? state->copies <= share + slack
						       : state->copies + slack >= share))
		store_relaxed(&s->cut, share_step(cut, weight, &s->step));
	store_relaxed(&s->old, old_next(s));
}
