/* SPDX-License-Identifier: BSD-2-Clause */
/* Cases of regions that grow and shrink while threads fault on them, and of thousands of regions. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include "stress.h"

static _Atomic bool stop;

/* --- touches of what may be gone --- */

static _Thread_local sigjmp_buf segv_back;
static _Thread_local volatile bool segv_expected;

static void on_segv(int signal, siginfo_t *info, void *context)
{
	(void)context;
	if (segv_expected)
		siglongjmp(segv_back, 1);
	fprintf(stderr, "signal %d at %p\n", signal, info->si_addr);
	abort();
}

void catch_signal(int number)
{
	struct sigaction action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_NODEFER};

	CHECK(!sigaction(number, &action, NULL), "sigaction");
}

bool touch_ends(const char *at, unsigned char *seen)
{
	if (sigsetjmp(segv_back, 1)) {
		segv_expected = false;
		return true;
	}
	segv_expected = true;
	*seen = region_byte(at);
	segv_expected = false;
	return false;
}

/* --- resize --- */

enum { FRONT = 64, ROOM = 320, MARK = 0x5a };

static struct {
	struct area *front;
	_Atomic uint64_t front_uses, touches, ends, zeroes;
} resized;

/* The front stays, whatever happens behind it. */
static void front_body(struct player *self)
{
	struct area *area = resized.front;

	(void)self;
	while (!load_relaxed(&stop)) {
		const uint32_t cell = (uint32_t)draw(&me->random, area->cells);
		const bool write = draw(&me->random, 3) == 0;

		doing("use the front", cell);
		if (!cells_try(area, cell, 1, write))
			continue;
		cell_check(area, cell, "reading");
		if (write)
			cell_write(area, cell, contents_new(area, &me->random));
		cells_done(area, cell, 1, write);
		add_relaxed(&resized.front_uses, 1);
	}
}

/* Behind it a touch sees a mark, zeroes, or its end. */
static void tail_body(struct player *self)
{
	(void)self;
	while (!load_relaxed(&stop)) {
		const uint32_t page = FRONT + (uint32_t)draw(&me->random, ROOM - FRONT);
		unsigned char seen;

		doing("touch the tail", page);
		if (touch_ends(resized.front->base + (size_t)page * PAGE_SIZE, &seen)) {
			add_relaxed(&resized.ends, 1);
			continue;
		}
		CHECK(!seen || seen == MARK, "page %u of the tail shows %#x", page, seen);
		add_relaxed(&resized.touches, 1);
		add_relaxed(&resized.zeroes, !seen);
	}
}

static void advise_any(struct weir *weir, char *base, uint32_t pages)
{
	static const enum weir_region_advice advice[] = {
		WEIR_ADVICE_NORMAL,   WEIR_ADVICE_SEQUENTIAL, WEIR_ADVICE_RANDOM,
		WEIR_ADVICE_WILLNEED, WEIR_ADVICE_COLD,
	};
	const uint32_t first = (uint32_t)draw(&me->random, pages);
	int err = weir_region_advise(weir, base + (size_t)first * PAGE_SIZE,
				     (uint64_t)(pages - first) * PAGE_SIZE,
				     advice[draw(&me->random, ARRAY_SIZE(advice))]);

	CHECK(!err, "weir_region_advise: %s", strerrorname_np(-err));
}

static uint32_t resize_once(struct weir *weir, char *base, uint32_t pages)
{
	const uint32_t other = FRONT + (uint32_t)draw(&me->random, ROOM - FRONT + 1);
	int err;

	doing(other < pages ? "shrink" : "grow", other);
	err = other < pages ? weir_region_shrink(weir, base, (uint64_t)other * PAGE_SIZE)
			    : weir_region_grow(weir, base, (uint64_t)other * PAGE_SIZE);
	CHECK(!err, "from %u to %u pages: %s", pages, other, strerrorname_np(-err));
	for (uint32_t page = MIN(pages, other); page < other; page++) {
		CHECK(!region_byte(base + (size_t)page * PAGE_SIZE), "page %u is not new", page);
		if (page % 3)
			region_set_byte(base + (size_t)page * PAGE_SIZE, MARK);
	}
	doing("weir_region_advise", other);
	advise_any(weir, base, other);
	return other;
}

/* A region that grows and shrinks 3,000 times, with threads that fault on what stays and on what comes and goes. */
void case_resize(void)
{
	enum { TIMES = 3000, USERS = 2, WEIGHT = 1 };
	static const unsigned weights[KINDS] = {WEIGHT, WEIGHT, 4, 2};
	struct weir *weir = open_or_skip(MIB(1));
	const struct weir_region_options options = {.size = sizeof(options),
						    .max_bytes = ROOM * PAGE_SIZE};
	struct player *front[USERS], *tail[USERS];
	uint32_t pages = FRONT;
	void *base;
	int err = weir_region_create_with(weir, FRONT * PAGE_SIZE, &options, &base);

	CHECK(!err, "weir_region_create_with: %s", strerrorname_np(-err));
	CHECK(weir_region_grow(weir, base, (ROOM + 1) * PAGE_SIZE) == -ENOMEM &&
		      weir_region_grow(weir, base, PAGE_SIZE) == -EINVAL &&
		      weir_region_shrink(weir, base, ROOM * PAGE_SIZE) == -EINVAL &&
		      weir_region_shrink(weir, base, 0) == -EINVAL &&
		      weir_region_grow(weir, (char *)base + PAGE_SIZE, ROOM * PAGE_SIZE) == -ENOENT,
	      "a size that cannot be was taken");
	catch_signal(SIGSEGV);
	resized.front = area_over(weir, base, FRONT, 1);
	resized.front->signal = setup.mode == WEIR_MODE_SIGNAL;
	memcpy(resized.front->weight, weights, sizeof(weights));
	area_fill(resized.front);
	store_relaxed(&stop, false);
	for (unsigned i = 0; i < USERS; i++) {
		front[i] = player_start("front", i, front_body, NULL);
		tail[i] = player_start("tail", i, tail_body, NULL);
	}
	for (unsigned i = 0; i < TIMES / SLOW || !load_relaxed(&resized.ends) ||
			     load_relaxed(&resized.zeroes) == load_relaxed(&resized.touches);
	     i++)
		pages = resize_once(weir, base, pages);
	/* Pinned pages keep what they are in. */
	err = weir_region_grow(weir, base, ROOM * PAGE_SIZE);
	CHECK(!err, "grow: %s", strerrorname_np(-err));
	err = weir_region_pin(weir, (char *)base + (ROOM - 1) * PAGE_SIZE, 1, 1);
	CHECK(!err, "pin: %s", strerrorname_np(-err));
	CHECK(weir_region_shrink(weir, base, FRONT * PAGE_SIZE) == -EBUSY, "it shrank");
	CHECK(!weir_region_unpin(weir, (char *)base + (ROOM - 1) * PAGE_SIZE, 1), "unpin");
	/* And so does nothing else, not mlock either. */
	(void)mlock((char *)base + (ROOM - 2) * PAGE_SIZE, PAGE_SIZE);
	err = weir_region_shrink(weir, base, FRONT * PAGE_SIZE);
	CHECK(!err, "shrink: %s", strerrorname_np(-err));
	store_relaxed(&stop, true);
	for (unsigned i = 0; i < USERS; i++) {
		player_join(front[i]);
		player_join(tail[i]);
	}
	area_check(resized.front, "check at the end");
	stats_check(weir, &resized.front, 1);
	area_destroy(resized.front);
	stats_check_empty(weir);
	weir_close(weir);
	printf("%" PRIu64 " uses of the front, %" PRIu64 " touches of the tail, %" PRIu64
	       " met its end\n",
	       load_relaxed(&resized.front_uses), load_relaxed(&resized.touches),
	       load_relaxed(&resized.ends));
	CHECK(load_relaxed(&resized.front_uses), "the run idled");
}

/* --- many --- */

enum { MANY = 4000 / SLOW, PAGES_MOST = 6 };

static struct one_of_many {
	_Atomic bool locked; /* (A) only ever tried */
	char *base;	     /* (L) */
	uint32_t pages;	     /* (L) */
	uint64_t stamp;	     /* (L) */
} many[MANY];

static _Atomic uint64_t many_uses;

static uint64_t *stamp_at(const struct one_of_many *one, uint32_t page)
{
	return (uint64_t *)(one->base + (size_t)page * PAGE_SIZE + 64);
}

static void one_write(struct one_of_many *one, uint64_t stamp)
{
	one->stamp = stamp;
	for (uint32_t page = 0; page < one->pages; page++) {
		const uint64_t value = mixed(stamp + page);

		region_store(stamp_at(one, page), &value, sizeof(value));
	}
}

static void one_check(const struct one_of_many *one)
{
	for (uint32_t page = 0; page < one->pages; page++) {
		uint64_t value;

		region_load(&value, stamp_at(one, page), sizeof(value));
		CHECK(value == mixed(one->stamp + page), "page %u of region %td is wrong", page,
		      one - many);
	}
}

static void one_make(struct weir *weir, struct one_of_many *one)
{
	void *base;
	int err;

	one->pages = 1 + (uint32_t)draw(&me->random, PAGES_MOST);
	err = region_as(weir, (uint64_t)one->pages * PAGE_SIZE,
			setup.mode == WEIR_MODE_BOTH
				? (enum weir_mode)(WEIR_MODE_THREAD + (one - many) % 2)
				: setup.mode,
			&base);
	CHECK(!err, "region %td: %s", one - many, strerrorname_np(-err));
	one->base = base;
	one_write(one, draw(&me->random, UINT64_MAX));
}

static bool one_try(struct one_of_many *one)
{
	bool open = false;

	/* Pairs with the release in one_done. */
	return cas_acquire(&one->locked, &open, true);
}

static void one_done(struct one_of_many *one)
{
	/* Pairs with the acquire in one_try. */
	store_release(&one->locked, false);
}

static void many_body(struct player *self)
{
	(void)self;
	while (!load_relaxed(&stop)) {
		struct one_of_many *one = &many[draw(&me->random, MANY)];

		doing("use one of many", (uint64_t)(one - many));
		if (!one_try(one))
			continue;
		one_check(one);
		if (draw(&me->random, 4) == 0)
			one_write(one, draw(&me->random, UINT64_MAX));
		one_done(one);
		add_relaxed(&many_uses, 1);
	}
}

/* Four thousand regions, more memory than the limit; some go and others come while threads use them all. */
void case_many(void)
{
	enum { USERS = 3, CHANGES = MANY / 2 };
	struct weir *weir = open_or_skip(MIB(8));
	struct player *user[USERS];
	struct weir_stats stats;
	unsigned i;

	for (i = 0; i < MANY; i++) {
		doing("make one of many", i);
		one_make(weir, &many[i]);
	}
	store_relaxed(&stop, false);
	for (i = 0; i < USERS; i++)
		user[i] = player_start("user", i, many_body, NULL);
	for (unsigned done = 0; done < CHANGES || load_relaxed(&many_uses) < MANY;) {
		struct one_of_many *one = &many[draw(&me->random, MANY)];

		doing("change one of many", (uint64_t)(one - many));
		if (!one_try(one))
			continue;
		one_check(one);
		CHECK(!weir_region_destroy(weir, one->base), "weir_region_destroy");
		one_make(weir, one);
		one_done(one);
		done++;
	}
	store_relaxed(&stop, true);
	for (i = 0; i < USERS; i++)
		player_join(user[i]);
	stats = stats_now(weir);
	CHECK(stats.compressed_faults, "the run idled");
	for (i = 0; i < MANY; i++) {
		doing("end of one of many", i);
		one_check(&many[i]);
		CHECK(!weir_region_destroy(weir, many[i].base), "weir_region_destroy");
	}
	stats_check_empty(weir);
	weir_close(weir);
	printf("%u regions, %" PRIu64 " uses, %llu pages back from memory\n", (unsigned)MANY,
	       load_relaxed(&many_uses), (unsigned long long)stats.compressed_faults);
}
