/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who must give, and when: containers above their marks, at their limits, over their share of compressed pages.
 *
 * A job (reclaim.c) takes pages of one container. Which one: reclaim works for a *target*, the level whose limit
 * presses; of the containers at or below it that have pages, the one with most beyond its effective low gives. So tenants
 * that use as much more than they are promised give equally, and one within its promise gives nothing while
 * others can. Who has nothing that can go is passed over more and more (doubt).
 */
#include "reclaim/reclaim.h"
#include "vm/file.h"

enum { FREE_FRAMES = 512, PATIENCE_NS = 50000000 };
#define SLACK_ALLOWED MIB(6)
/* Copies over a cap that jobs do not wait for: more than the batches on their way have, so that the next job is copied meanwhile. */
#define BACKLOG_ALLOWED MIB(1)

uint64_t reclaim_slack(struct reclaim *r)
{
	struct compressed *memory = r->vm->memory;
	uint64_t unused = compressed_slack(memory) +
			  (weir_pool_backed_frames(memory->pool, memory->zone) << PAGE_SHIFT);

	return unused > SLACK_ALLOWED ? unused - SLACK_ALLOWED : 0;
}

/* Gives memory of free frames back where there is too much of it. False: nothing was given. */
static bool trim(struct reclaim *r)
{
	struct weir_pool *pool = r->vm->memory->pool;

	return weir_pool_backed_frames(pool, r->vm->memory->zone) > FREE_FRAMES &&
	       weir_pool_trim(pool, FREE_FRAMES / 2) > 0;
}

void slack_reduce(struct reclaim *r)
{
	struct compressed *memory = r->vm->memory;

	if (compressed_slack(memory) > SLACK_ALLOWED / 2)
		(void)compressed_compact(memory, SLACK_ALLOWED / 4, relocate_object, r);
	(void)trim(r);
}

/* --- choosing --- */

/* One container: nothing to choose, and no lock to take. */
static bool alone(const struct reclaim *r)
{
	return load_relaxed(&r->vm->root->tree->count) == 1;
}

/* What a container can give: its own part of what is charged beyond its effective low. */
static uint64_t gives(const struct weir_container *c, enum choose choose)
{
	uint64_t own = container_own_charged(c), charged = container_charged(c);

	if (!container_own_usage(c, CHARGE_RESIDENT) && !container_own_usage(c, CHARGE_FILE))
		return 0;
	if (choose == CHOOSE_ANY || c->elow == WEIR_NO_LIMIT)
		return own;
	return c->safe ? 0 : MIN(own, charged - c->elow);
}

static uint32_t pages_up(uint64_t bytes)
{
	return (uint32_t)MIN(DIV_UP(bytes, PAGE_SIZE), (uint64_t)UINT32_MAX);
}

/* Each job that got nothing out of a container quarters its claim to be the next: pages may be pinned, or without a place to go, and
 * those of others are to be had. */
static unsigned doubt(const struct weir_container *c)
{
	return MIN(load_relaxed(&tenant_of(c)->fruitless) * 2, 63u);
}

static struct weir_container *choose_locked(struct weir_container *target, enum choose choose)
{
	struct weir_container *best = NULL;
	uint64_t most = 0;

	container_protect(target);
	for (struct weir_container *c = target; c; c = container_next(target, c)) {
		uint64_t n = gives(c, choose) >> doubt(c);

		if (n > most) {
			most = n;
			best = c;
		}
	}
	if (best)
		store_relaxed(&tenant_of(best)->spare, pages_up(gives(best, choose)));
	return best;
}

/* Nobody has a claim left: all are asked anew. */
static void doubts_end(struct weir_container *target)
{
	for (struct weir_container *c = target; c; c = container_next(target, c))
		store_relaxed(&tenant_of(c)->fruitless, 0);
}

struct weir_container *reclaim_choose(struct reclaim *r, struct weir_container *target,
				      enum choose choose)
{
	struct weir_container *c;

	if (alone(r))
		return r->vm->root;
	lock_acquire(&target->tree->lock);
	c = choose_locked(target, CHOOSE_UNSAFE);
	if (!c && choose == CHOOSE_ANY) {
		c = choose_locked(target, CHOOSE_ANY);
		if (!c)
			doubts_end(target);
		/* Beyond what was promised: it is told. */
		if (c && c->safe)
			container_event(c, EVENT_LOW);
	}
	lock_release(&target->tree->lock);
	return c;
}

/* The container of the tree, from a turning start, for which the function gives one. */
static struct weir_container *
turn(struct reclaim *r, struct weir_container *(*fn)(struct reclaim *r, struct weir_container *c))
{
	struct weir_container *root = r->vm->root, *c = root, *found = NULL;
	uint32_t count, skip;

	if (alone(r))
		return fn(r, root);
	lock_acquire(&root->tree->lock);
	count = load_relaxed(&root->tree->count);
	skip = add_relaxed(&r->turn, 1) % count;
	for (uint32_t i = 0; i < 2 * count && !found; i++) {
		if (i >= skip)
			found = fn(r, c);
		c = container_next(root, c);
		if (!c)
			c = root;
	}
	lock_release(&root->tree->lock);
	return found;
}

static struct weir_container *wants(struct reclaim *r, struct weir_container *c)
{
	if (!container_above_mark(c))
		return NULL;
	return alone(r) ? c : choose_locked(c, CHOOSE_UNSAFE);
}

struct weir_container *reclaim_wanted(struct reclaim *r)
{
	return turn(r, wants);
}

/* Whatever follows from faults, not more than its cap. */
static uint64_t share_of(const struct reclaim *r, struct weir_container *c)
{
	const uint64_t cap = load_relaxed(&tenant_of(c)->cap), share = reclaim_share(r, c);

	return cap ? MIN(share, cap) : share;
}

static bool beyond_share(const struct reclaim *r, struct weir_container *c)
{
	return container_usage(c, CHARGE_COMPRESSED) > share_of(r, c);
}

/* Does one at or below it have copies that its swap.max lets go to the store? The lock of the tree is held, where there are several. */
static bool writable(const struct reclaim *r, struct weir_container *c)
{
	if (alone(r))
		return !container_swap_full(c);
	for (struct weir_container *d = c; d; d = container_next(c, d)) {
		if (container_own_usage(d, CHARGE_COMPRESSED) && !container_swap_full(d))
			return true;
	}
	return false;
}

static struct weir_container *over_share(struct reclaim *r, struct weir_container *c)
{
	return beyond_share(r, c) && writable(r, c) ? c : NULL;
}

/* The same for who does not hold the lock. */
static bool writable_at_all(struct reclaim *r, struct weir_container *c)
{
	bool can;

	if (alone(r))
		return writable(r, c);
	lock_acquire(&c->tree->lock);
	can = writable(r, c);
	lock_release(&c->tree->lock);
	return can;
}

/* Can anything be written, of copies at or below it? */
static bool can_write(struct reclaim *r, struct weir_container *c)
{
	return !store_failing(r) && writable_at_all(r, c);
}

/* Not now, but soon. Not for the background thread: while it asks, nobody writes. */
static bool write_pauses(struct reclaim *r, const struct pager *self, struct weir_container *c)
{
	return self != r->pager && write_resumes(r) && writable_at_all(r, c);
}

/* More is held than may be, by copies that nothing writes: each page that leaves makes another one. */
static bool copies_stay(struct reclaim *r, struct weir_container *c)
{
	return container_above_max(c) && beyond_share(r, c) && !can_write(r, c);
}

/* The same, without what is on its way to the store. */
static struct weir_container *over_share_now(struct reclaim *r, struct weir_container *c)
{
	const uint64_t usage = container_usage(c, CHARGE_COMPRESSED);
	const uint64_t flying = load_relaxed(&r->flying);

	return usage > flying && usage - flying > share_of(r, c) && writable(r, c) ? c : NULL;
}

struct weir_container *reclaim_over_share(struct reclaim *r)
{
	return turn(r, over_share_now);
}

/* Copies wait to be written, and another job would make no room. */
static bool capped(struct reclaim *r, struct weir_container *c)
{
	const uint64_t cap = load_relaxed(&tenant_of(c)->cap);

	return cap && container_usage(c, CHARGE_COMPRESSED) > cap + BACKLOG_ALLOWED &&
	       !store_failing(r) && !container_swap_full(c);
}

void reclaim_judge(struct reclaim *r, struct weir_container *c, uint64_t pages, uint64_t copies)
{
	_Atomic uint64_t *cap = &tenant_of(c)->cap;
	const uint64_t usage = container_usage(c, CHARGE_COMPRESSED);

	if (copies <= pages / 4 * 3 || !container_pressed(c) || store_failing(r) ||
	    container_swap_full(c))
		store_relaxed(cap, 0);
	else if (!load_relaxed(cap))
		store_relaxed(cap, MAX(usage - MIN(usage, copies), 1u));
}

/* --- the fault path --- */

/* Pages of files first, where they are a third or more of what is resident: dropping them costs no copy. */
bool reclaim_take(struct reclaim *r, struct pager *self, struct weir_container *c)
{
	const uint64_t file = container_usage(c, CHARGE_FILE);

	if (file && !load_relaxed(&r->vm->hold) &&
	    (file * 2 >= container_usage(c, CHARGE_RESIDENT) || doubt(c)) &&
	    file_reclaim(r->vm, self, c, job_size(c))) {
		store_relaxed(&tenant_of(c)->fruitless, 0);
		return true;
	}
	return !capped(r, c) && job_fill(r, c);
}

/* Starts a job for a target, unless there is one; or *writes: that copies are written comes first. */
static bool job_start(struct reclaim *r, struct pager *self, struct weir_container *target,
		      enum choose choose, bool *writes)
{
	struct weir_container *c;

	if (load_relaxed(&r->state) != IDLE)
		return false;
	c = reclaim_choose(r, target, choose);
	if (!c)
		return false;
	if (reclaim_take(r, self, c))
		return true;
	*writes = capped(r, c);
	return false;
}

void reclaim_after_fault(struct reclaim *r, struct pager *self)
{
	struct weir_container *c = self->container ? container_pressed(self->container) : NULL;
	unsigned dropped = 0;
	bool writes;

	if (likely(!c))
		return;
	/* While the background thread sleeps, protecting from here costs no shootdown. */
	if (job_start(r, self, c, CHOOSE_UNSAFE, &writes))
		store_relaxed(&r->faults_fill, true);
	/* While somebody chooses, or drops, there is nothing for it to do. */
	if (load_relaxed(&r->state) == IDLE || job_has_work(r))
		vm_attention(r->vm);
	if (container_held(c) > (load_relaxed(&c->mark) + load_relaxed(&c->max)) / 2)
		(void)job_work(r, self, 2, &dropped);
}

/* Lets the background thread write. False: it cannot, since it waits until nobody serves a fault; or this is it, and there is
 * nothing to write. */
static bool background_helps(struct reclaim *r, const struct pager *self, unsigned *waits)
{
	if (self == r->pager)
		return writeback_once(r) > 0;
	if (load_relaxed(&r->quiescing))
		return false;
	vm_attention(r->vm);
	wait_a_little(waits);
	return true;
}

void reclaim_throttle(struct reclaim *r, struct pager *self, struct weir_container *level)
{
	enum { PATIENCE = 256 };
	const uint64_t until = now_ns() + PATIENCE_NS;
	unsigned dropped = 0, worked = 0, waited = 0, waits = 0;
	bool writes;

	while (container_charged(level) > load_relaxed(&level->high) && worked < JOB_MAX &&
	       waited < PATIENCE && !load_relaxed(&r->vm->hold)) {
		unsigned n = job_work(r, self, 4, &dropped);

		worked += n;
		if (n || job_start(r, self, level, CHOOSE_ANY, &writes))
			continue;
		/* Others are at it, or it is copies that must go to the file: the tenant waits a little, and goes on. */
		if (!background_helps(r, self, &waits) || now_ns() >= until)
			break;
		waited++;
	}
}

static bool fits(struct weir_container *c, uint64_t bytes)
{
	return container_held(c) + bytes <= load_relaxed(&c->max);
}

/* Copies hold nearly everything below the level, or jobs give next to nothing: what helps is writing copies out, which the background does. */
static bool writing_helps(struct reclaim *r, struct weir_container *c, bool fruitless)
{
	return (fruitless || container_usage(c, CHARGE_RESIDENT) < load_relaxed(&c->max) / 16) &&
	       beyond_share(r, c) && can_write(r, c);
}

/* Who is not protected has given all its pages, and what is left of it can go to the file: that comes first. */
static bool writing_spares_the_safe(struct reclaim *r, struct weir_container *level)
{
	bool found = false;

	if (alone(r) || store_failing(r))
		return false;
	lock_acquire(&level->tree->lock);
	container_protect(level);
	for (struct weir_container *c = level; c && !found; c = container_next(level, c))
		found = !c->safe && over_share(r, c);
	lock_release(&level->tree->lock);
	return found;
}

enum room reclaim_make_room(struct reclaim *r, struct pager *self, struct weir_container *level,
			    uint64_t bytes)
{
	/* FEW: where the background thread waits for this fault, or nothing will help, what it brings must not keep it. NAPS: as many as take
	 * PATIENCE_NS. */
	enum { PATIENCE = 4096, FEW = 16, NAPS = 256 };
	const uint64_t until = now_ns() + PATIENCE_NS;
	unsigned dropped = 0, idle = 0, waits = 0;

	for (unsigned i = 0; i < PATIENCE && !fits(level, bytes); i++) {
		bool writes = false;

		/* On a busy machine each yield is a time slice of others: patience is time, then. */
		if (i % 16 == 15 && now_ns() >= until)
			return ROOM_LATER;
		if (load_relaxed(&r->vm->hold) || reclaim_futile(r) ||
		    (i >= FEW && (load_relaxed(&r->quiescing) || copies_stay(r, level))))
			return ROOM_LATER;
		if (trim(r))
			continue;
		if (writing_helps(r, level, dropped < i / FEW)) {
			if (!background_helps(r, self, &waits))
				break;
			continue;
		}
		if (job_work(r, self, 4, &dropped))
			continue;
		if (job_start(r, self, level, CHOOSE_UNSAFE, &writes)) {
			vm_attention(r->vm);
			continue;
		}
		if (writes || writing_spares_the_safe(r, level)) {
			if (!background_helps(r, self, &waits))
				break;
			continue;
		}
		if (job_start(r, self, level, CHOOSE_ANY, &writes)) {
			vm_attention(r->vm);
			continue;
		}
		/* Nothing resident is left to choose: what presses is the copies, and they go to the file in
		 * the background; when that goes on, it is worth waiting for. */
		if (load_relaxed(&r->state) == IDLE)
			idle++;
		if (idle > 2 && load_relaxed(&r->state) == IDLE &&
		    (idle > NAPS || !write_pauses(r, self, level)))
			break;
		if (!gather_join(&r->gather))
			wait_a_little(&waits);
	}
	if (fits(level, bytes))
		return ROOM_MADE;
	/* Without a page to take and with nothing to write, now or soon, nothing will change. */
	if (idle > 2 && !container_usage(level, CHARGE_RESIDENT) &&
	    !container_usage(level, CHARGE_FILE) &&
	    (!container_usage(level, CHARGE_COMPRESSED) ||
	     (!can_write(r, level) && !write_pauses(r, self, level))))
		return ROOM_NEVER;
	return ROOM_LATER;
}

/* A job that takes no more than is asked for. */
static void job_give(struct reclaim *r, struct weir_container *target, uint64_t bytes)
{
	struct weir_container *c;
	uint32_t spare;

	if (load_relaxed(&r->state) != IDLE)
		return;
	c = reclaim_choose(r, target, CHOOSE_ANY);
	if (!c)
		return;
	spare = load_relaxed(&tenant_of(c)->spare);
	store_relaxed(&tenant_of(c)->spare, MIN(spare ? spare : UINT32_MAX, pages_up(bytes)));
	/* What is asked for by hand is copied, though it may make no room before it is written. */
	if (!reclaim_take(r, r->pager, c))
		(void)job_fill(r, c);
}

uint64_t reclaim_give(struct reclaim *r, struct weir_container *container, uint64_t bytes)
{
	/* Net of what came while something was given, and gross. */
	int64_t given = 0;
	uint64_t gross = 0;
	unsigned fruitless = 0;

	bytes = MIN(bytes, (uint64_t)INT64_MAX);
	/* What it holds may stay the same for ever: others may load as fast as this gives. */
	while (given < (int64_t)bytes && gross / 2 < bytes && fruitless < 4) {
		const uint64_t held = container_held(container);
		unsigned dropped = 0;
		int64_t less;

		if (load_relaxed(&r->vm->hold))
			break;
		job_give(r, container, bytes - (uint64_t)MAX(given, 0));
		while (job_work(r, r->pager, JOB_MAX, &dropped))
			;
		slack_reduce(r);
		/* What is asked for is more than what a share is for: with nothing resident left, compressed pages go on to the store. */
		if (!dropped && can_write(r, container))
			(void)writeback_of(r, container);
		else if (beyond_share(r, container) && can_write(r, container))
			(void)writeback_once(r);
		writeback_flush(r);
		less = (int64_t)(held - container_held(container));
		given += less;
		gross += (uint64_t)MAX(less, 0);
		fruitless = less > 0 ? 0 : fruitless + 1;
	}
	return (uint64_t)MAX(given, 0);
}
