/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The soak's part in weir's own pool, which is no public business: blocks go on- and offline as by hand, on the background
 * thread, where weir does the same; beside the compressed store there is another holder of frames, whose contents
 * are known. Its frames are movable, pinned, or not movable, so that it is known which block must not go.
 */
#include <errno.h>

#include "instance.h"
#include "soak.h"

enum { FRAMES = 48 };

struct frame {
	_Atomic bool locked; /* (A) only ever tried */
	int64_t pfn;	     /* (L) -1: none */
	unsigned order;	     /* (L) */
	uint64_t seed;	     /* (L) */
};

static struct {
	unsigned owner; /* (C) */
	struct frame frame[FRAMES];
	struct weir_pool_listener listener;
	_Atomic bool refuse; /* (A) blocks may not go */
} held;

static bool frame_try(struct frame *f)
{
	bool open = false;

	/* Pairs with the release in frame_done. */
	return cas_acquire(&f->locked, &open, true);
}

static void frame_done(struct frame *f)
{
	/* Pairs with the acquire in frame_try. */
	store_release(&f->locked, false);
}

static uint64_t *words_of(int64_t pfn)
{
	return (uint64_t *)((char *)weir_pool_base(soak.weir->pool) + ((size_t)pfn << PAGE_SHIFT));
}

static size_t words_in(const struct frame *f)
{
	return PAGE_SIZE / sizeof(uint64_t) << f->order;
}

/* The pool asks, on the background thread. */
static int frame_migrate(void *data, weir_pfn_t from, unsigned order, uint64_t private_word,
			 weir_pfn_t to)
{
	struct frame *f;
	int err = -ENOENT;

	(void)data;
	/* Just got, and not yet marked. */
	if (!private_word)
		return -EAGAIN;
	f = &held.frame[private_word - 1];
	if (!frame_try(f)) {
		add_relaxed(&soak.frames_busy, 1);
		return -EAGAIN;
	}
	if (f->pfn == (int64_t)from) {
		memcpy(words_of(to), words_of(from), PAGE_SIZE << order);
		f->pfn = to;
		add_relaxed(&soak.frames_moved, 1);
		err = 0;
	}
	frame_done(f);
	return err;
}

static int on_block(void *data, enum weir_pool_event event, weir_pfn_t start, weir_pfn_t end)
{
	(void)data;
	(void)start;
	(void)end;
	return event == WEIR_GOING_OFFLINE && load_relaxed(&held.refuse) ? -EPERM : 0;
}

void pool_init(void)
{
	const struct weir_pool_owner owner = {
		.size = sizeof(owner), .name = "soak", .migrate = frame_migrate};
	int id = weir_pool_owner_add(soak.weir->pool, &owner);

	CHECK(id > 0, "weir_pool_owner_add: %s", strerrorname_np(-id));
	held.owner = (unsigned)id;
	for (unsigned i = 0; i < FRAMES; i++)
		held.frame[i].pfn = -1;
	held.listener.fn = on_block;
	CHECK(!weir_pool_listen(soak.weir->pool, &held.listener), "weir_pool_listen");
}

/* --- frames --- */

static void frame_get(struct frame *f)
{
	struct weir_pool *pool = soak.weir->pool;
	uint64_t *word;

	f->order = draw(&me->random, 4) ? 0 : (unsigned)draw(&me->random, 4);
	f->pfn = weir_pool_alloc(pool, f->order, WEIR_POOL_MOVABLE, held.owner);
	if (f->pfn < 0) {
		CHECK(f->pfn == -ENOMEM, "weir_pool_alloc: %s", strerrorname_np((int)-f->pfn));
		f->pfn = -1;
		return;
	}
	weir_pool_private_set(pool, (weir_pfn_t)f->pfn, (uint64_t)(f - held.frame) + 1);
	f->seed = draw(&me->random, UINT64_MAX);
	word = words_of(f->pfn);
	for (size_t i = 0; i < words_in(f); i++)
		word[i] = mixed(f->seed + i);
}

static void frame_check(const struct frame *f)
{
	const uint64_t *word = words_of(f->pfn);

	for (size_t i = 0; i < words_in(f); i++)
		CHECK(word[i] == mixed(f->seed + i), "frame %" PRId64 " word %zu is wrong", f->pfn,
		      i);
}

static void frame_put(struct frame *f)
{
	int err = weir_pool_free(soak.weir->pool, (weir_pfn_t)f->pfn, f->order);

	CHECK(!err, "weir_pool_free: %s", strerrorname_np(-err));
	f->pfn = -1;
}

void frames_body(struct player *self)
{
	(void)self;
	while (!load_relaxed(&soak.stop)) {
		struct frame *f = &held.frame[draw(&me->random, FRAMES)];

		doing("a frame of its own", (uint64_t)(f - held.frame));
		if (!frame_try(f))
			continue;
		if (f->pfn < 0) {
			frame_get(f);
		} else {
			frame_check(f);
			if (draw(&me->random, 8) == 0)
				frame_put(f);
		}
		/* Held for a while, so that a move meets it. */
		if (draw(&me->random, 16) == 0)
			pause_ms(1);
		frame_done(f);
		if (draw(&me->random, 4) == 0)
			pause_ms(1);
	}
}

/* --- blocks --- */

struct order {
	uint32_t block;
	uint64_t patience_ns;
	struct weir_pool_why why;
};

/* On the background thread. */
static int offline_errand(void *data)
{
	struct order *e = data;
	const struct weir_pool_evacuation how = {.size = sizeof(how), .timeout_ns = e->patience_ns};

	return weir_pool_offline(soak.weir->pool, e->block, &how, &e->why);
}

static int grow_errand(void *data)
{
	(void)data;
	return (int)weir_pool_grow(soak.weir->pool, WEIR_ZONE_LOW);
}

static int online_errand(void *data)
{
	return weir_pool_online(soak.weir->pool, ((struct order *)data)->block, NULL);
}

static int in_background(int (*fn)(void *data), struct order *e)
{
	return reclaim_errand(&soak.weir->reclaim, fn, e);
}

static int offline(uint32_t block, struct weir_pool_why *why)
{
	struct order e = {.block = block, .patience_ns = draw(&me->random, 3) * 1000000};
	int err;

	doing("weir_pool_offline", block);
	err = in_background(offline_errand, &e);
	*why = e.why;
	return err;
}

/* A block that is online, any one; -1: none. */
static int64_t online_block(void)
{
	struct weir_pool *pool = soak.weir->pool;
	const uint32_t blocks = weir_pool_end(pool, WEIR_ZONE_LOW) / weir_pool_block_frames(pool);
	/* Those that are online are the lowest, mostly. */
	const uint32_t start = (uint32_t)draw(&me->random, 8) % blocks;

	for (uint32_t i = 0; i < blocks; i++) {
		struct weir_block_info info;
		uint32_t block = (start + i) % blocks;

		CHECK(!weir_pool_block_read(pool, block, &info), "weir_pool_block_read");
		if (info.state == WEIR_BLOCK_ONLINE)
			return block;
	}
	return -1;
}

static void count_refusal(int err, const struct weir_pool_why *why)
{
	CHECK(err == why->err || err == -EINVAL, "offline: %s, and %s as the reason",
	      strerrorname_np(-err), strerrorname_np(-why->err));
	switch (why->reason) {
	case WEIR_POOL_PINNED:
		add_relaxed(&soak.offline_pinned, 1);
		break;
	case WEIR_POOL_NOT_MOVABLE:
		add_relaxed(&soak.offline_unmovable, 1);
		break;
	case WEIR_POOL_HOLDER_BUSY:
		add_relaxed(&soak.offline_busy, 1);
		break;
	case WEIR_POOL_REFUSED:
		add_relaxed(&soak.offline_listener, 1);
		break;
	default:
		add_relaxed(&soak.offline_other, 1);
		break;
	}
}

static void any_goes(void)
{
	struct weir_pool_why why;
	int64_t block = online_block();
	int err;

	if (block < 0)
		return;
	/* Room elsewhere, mostly. */
	for (unsigned i = 0; i < 2 && draw(&me->random, 4); i++)
		(void)in_background(grow_errand, NULL);
	err = offline((uint32_t)block, &why);
	if (err) {
		count_refusal(err, &why);
		return;
	}
	add_relaxed(&soak.offline_done, 1);
	if (draw(&me->random, 2)) {
		struct order e = {.block = (uint32_t)block};

		err = in_background(online_errand, &e);
		/* Somebody was faster, or its memory was not to be had. */
		CHECK(!err || err == -EINVAL || err == -ENOMEM, "weir_pool_online: %s",
		      strerrorname_np(-err));
		add_relaxed(&soak.onlined, !err);
	}
}

/* A frame that cannot be moved is in it, or a listener is against it: it must not go, and is as before. */
static void none_may_go(void)
{
	struct weir_pool *pool = soak.weir->pool;
	const unsigned how = (unsigned)draw(&me->random, 3);
	struct weir_pool_why why;
	struct weir_block_info info;
	int64_t pfn;
	uint32_t block;
	int err;

	/* The private word 0: its migrate says that it is busy, but for the pin nobody asks. */
	pfn = weir_pool_alloc(pool, 0, how == 1 ? WEIR_POOL_MOVABLE : 0, how == 1 ? held.owner : 0);
	if (pfn < 0)
		return;
	block = (uint32_t)pfn / weir_pool_block_frames(pool);
	if (how == 1)
		CHECK(!weir_pool_pin(pool, (weir_pfn_t)pfn), "weir_pool_pin");
	if (how == 2)
		store_relaxed(&held.refuse, true);
	err = offline(block, &why);
	store_relaxed(&held.refuse, false);
	CHECK(err < 0, "a block went offline with a frame that must stay");
	count_refusal(err, &why);
	CHECK(!weir_pool_block_read(pool, block, &info) && info.state == WEIR_BLOCK_ONLINE,
	      "a block that was refused is in state %u", (unsigned)info.state);
	if (how == 1)
		CHECK(!weir_pool_unpin(pool, (weir_pfn_t)pfn), "weir_pool_unpin");
	CHECK(!weir_pool_free(pool, (weir_pfn_t)pfn, 0), "weir_pool_free");
}

/* As a person would: so much more memory, so much less. */
static void by_hand(struct weir *weir)
{
	const uint64_t bytes = 1 + draw(&me->random, MIB(12));
	const bool more = draw(&me->random, 2);
	const int64_t block = (int64_t)weir_pool_block_frames(weir->pool) << PAGE_SHIFT;
	int64_t done;

	doing(more ? "weir_memory_online" : "weir_memory_offline", bytes);
	done = more ? weir_memory_online(weir, bytes) : weir_memory_offline(weir, bytes);
	/* EPERM: the listener. */
	CHECK(done > 0 || done == -ENOMEM || done == -EBUSY || done == -EPERM, "%s: %s",
	      more ? "weir_memory_online" : "weir_memory_offline", strerrorname_np((int)-done));
	CHECK(done < 0 || (done % block == 0 && done < (int64_t)bytes + block),
	      "of %" PRIu64 " bytes %" PRId64 " came or went", bytes, done);
	add_relaxed(more ? &soak.memory_onlined : &soak.memory_offlined, done > 0);
}

void hotplug_body(struct player *self)
{
	(void)self;
	while (!load_relaxed(&soak.stop)) {
		if (draw(&me->random, 6) == 0)
			by_hand(draw(&me->random, 3) ? soak.weir : soak.far);
		else if (draw(&me->random, 4))
			any_goes();
		else
			none_may_go();
		if (draw(&me->random, 16) == 0)
			CHECK(weir_pool_trim(soak.weir->pool, 256) >= 0, "weir_pool_trim");
		pause_ms(1 + (unsigned)draw(&me->random, 10));
	}
}

void pool_end(void)
{
	for (unsigned i = 0; i < FRAMES; i++) {
		if (held.frame[i].pfn < 0)
			continue;
		frame_check(&held.frame[i]);
		frame_put(&held.frame[i]);
	}
	CHECK(!weir_pool_unlisten(soak.weir->pool, &held.listener), "weir_pool_unlisten");
}
