/* SPDX-License-Identifier: BSD-2-Clause */
/* How much copies may take, and how that follows what faults cost: vm/share.h. */
#include "reclaim/reclaim.h"

/* Of the root what the instance was opened with; of a tenant three quarters of what it has: it may be pressed together by others' pages
 * long before it is near a limit of its own. */
static uint64_t bound_of(const struct reclaim *r, const struct weir_container *c)
{
	return c->parent ? container_charged(c) / 4 * 3 : load_relaxed(&r->vm->memory_share);
}

uint64_t reclaim_share(const struct reclaim *r, struct weir_container *c)
{
	if (c->parent && !container_pressed(c))
		return WEIR_NO_LIMIT;
	return share_bytes(bound_of(r, c), load_relaxed(&tenant_of(c)->share.cut));
}

/* Counts copies in memory, and the oldest of them, in a part of the container's pages. */
static void share_sample(struct reclaim *r, const struct weir_container *c)
{
	enum { WINDOWS = 64 };
	struct share_control *s = &tenant_of(c)->share;
	struct clock_hand hand = {s->hand_region, s->hand_page};
	const struct tenancy whose = {c, false};
	const unsigned old = load_relaxed(&s->old);
	struct window at;
	unsigned laps = 0;

	s->seen /= 2;
	s->seen_old /= 2;
	for (unsigned i = 0; i < WINDOWS && clock_step(r->vm, &whose, &hand, &at, &laps) && !laps;
	     i++) {
		for (uint32_t page = at.first; page < at.first + at.count; page++) {
			const uint64_t w = load_relaxed(&at.region->word[page]);

			if (word_kind(w) != COPY_MEMORY || !(at.owners >> word_owner(w) & 1))
				continue;
			s->seen++;
			s->seen_old += word_state(w) == PAGE_ABSENT && vm_age(c, w) >= old;
		}
	}
	s->hand_region = hand.region;
	s->hand_page = hand.page;
}

/* Does the share of this one follow? Its own pages are all that it has, and some of them are in the file. */
static bool follows(const struct reclaim *r, const struct weir_container *c)
{
	return !r->vm->share_fixed && !c->child && load_relaxed(&c->swap) > 0;
}

static void follow_one(struct reclaim *r, const struct weir_container *c)
{
	struct share_control *s = &tenant_of(c)->share;
	const struct share_state state = {.limit = load_relaxed(&c->limit),
					  .bound = bound_of(r, c),
					  .copies = container_usage(c, CHARGE_COMPRESSED),
					  .file_bytes = positive(load_relaxed(&c->swap))};

	store_relaxed(&s->on, follows(r, c));
	if (!follows(r, c)) {
		store_relaxed(&s->cut, 0);
		s->step = 0;
	} else if (share_due(s)) {
		share_sample(r, c);
		share_look(s, &state);
	}
}

void share_follow(struct reclaim *r)
{
	struct weir_container *root = r->vm->root;

	lock_acquire(&root->tree->lock);
	for (struct weir_container *c = root; c; c = container_next(root, c))
		follow_one(r, c);
	lock_release(&root->tree->lock);
}
