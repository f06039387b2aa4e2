/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stress of the wait queue: stress_waitq [SEED], about two seconds.
 *
 * Three games, each in rounds whose shape comes from the seed:
 *
 *   tokens  Producers post tokens, consumers take them; at most `room` lie between. Both sides wait in queues, as
 *           shared or as exclusive waiters, wait with and without timeouts, and sometimes leave without having looked.
 *   turns   Two threads hand a turn to and fro; who gives it skips the wake-up if waitq_active says nobody waits.
 *   looks   One thread queues itself and looks at a condition, the other makes it true and asks waitq_active, in
 *           the same instant. Nobody sleeps, so this is done often enough to show a missing fence.
 *
 * What must hold:
 *   1. No wake-up is lost: every round ends. A round in which nothing moves for STUCK_NS has lost one.
 *   2. Every token is taken exactly once, and none that was not posted.
 *   3. Wake-ups are conserved: the sum of what the wakers say they woke is how often waitq_finish said true.
 *   4. A waiter is its owner's again after waitq_finish: each is freed at once (ASan and TSan would tell).
 *   5. Of two that look at each other, one at least sees the other.
 *
 * What the unit tests know without threads (order, kinds) is not repeated here.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/waitq.h"
#include "../random.h"

enum { MAX_SIDE = 4, MAX_TOKENS = 2000, TURNS = 1000, LOOKS = 20000 };
#define RUN_NS 1600000000ull
#define STUCK_NS 20000000000ull

static uint64_t first_seed;

/* _exit: other threads may wait for ever. */
#define FAIL(...)                                                                                  \
	do {                                                                                       \
		fprintf(stderr, "stress_waitq: " __VA_ARGS__);                                     \
		fprintf(stderr, "\nrun again with: stress_waitq %" PRIu64 "\n", first_seed);       \
		_exit(1);                                                                          \
	} while (0)

/* True once in n times. */
static bool chance(uint64_t *seed, unsigned n)
{
	return random_next(seed) % n == 0;
}

// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): apart on purpose
struct round {
	/* (C) the shape of this round */
	unsigned producers, consumers, tokens, room;
	unsigned shared_of_8; /* how many waits of eight are shared ones */
	bool restless;	      /* with timeouts and leaving early */

	struct waitq not_empty, not_full;
	NO_SHARING _Atomic uint32_t posted;		   /* (A) tokens 0 to posted - 1 exist */
	NO_SHARING _Atomic uint32_t taken;		   /* (A) tokens 0 to taken - 1 are gone */
	_Atomic bool over;				   /* (A) the last token is gone */
	NO_SHARING _Atomic uint64_t said_woken, was_woken; /* (A) both sides of invariant 3 */
	_Atomic uint32_t
		running;       /* (A) threads that have not ended; the main thread sleeps on it */
	_Atomic uint32_t turn; /* (A) the turns game; release and acquire hand on `handed` */
	uint32_t handed;       /* plain: belongs to who has the turn */

	/* The looks game. */
	NO_SHARING _Atomic uint32_t condition; /* (A) */
	NO_SHARING _Atomic uint32_t arrived;   /* (A) two threads, step by step */
	bool condition_seen[LOOKS],
		waiter_seen[LOOKS]; /* each belongs to one thread until both have ended */
	uint8_t times[MAX_TOKENS];  /* [i] belongs to who took token i */
};

struct player {
	struct round *round;
	uint64_t seed;
	unsigned side;
	uint64_t said_woken, was_woken;
};

static void wake(struct player *p, struct waitq *queue)
{
	p->said_woken += waitq_wake_one(queue);
}

static bool finish(struct player *p, struct waitq *queue, struct waiter *me)
{
	bool woken = waitq_finish(queue, me);

	p->was_woken += woken;
	return woken;
}

/* Looks at the condition of a producer and uses it in one step; try_take the same for a consumer. */
static bool try_post(struct round *r)
{
	uint32_t posted = load_relaxed(&r->posted);

	/* Signed: taken may have passed a posted that is out of date; the exchange will say so. */
	while (posted < r->tokens &&
	       (int32_t)(posted - load_relaxed(&r->taken)) < (int32_t)r->room) {
		if (cas_relaxed(&r->posted, &posted, posted + 1))
			return true;
	}
	return false;
}

/* Both only rise: a token below any posted that was ever read exists. */
static bool try_take(struct round *r)
{
	uint32_t taken = load_relaxed(&r->taken);

	while (taken < load_relaxed(&r->posted)) {
		if (cas_relaxed(&r->taken, &taken, taken + 1)) {
			r->times[taken]++;
			if (taken + 1 == r->tokens)
				store_relaxed(&r->over, true);
			return true;
		}
	}
	return false;
}

/* Waits until attempt succeeds (true) or the round is over (false). */
static bool wait_for(struct player *p, struct waitq *queue, bool (*attempt)(struct round *))
{
	struct round *r = p->round;
	bool done = false, over = false;

	if (attempt(r))
		return true;
	while (!done && !over) {
		struct waiter *me = malloc(sizeof(*me));
		enum wait_kind kind =
			random_next(&p->seed) % 8 < r->shared_of_8 ? WAIT_SHARED : WAIT_EXCLUSIVE;
		bool leaves = r->restless && chance(&p->seed, 8), slept = false;

		if (!me)
			abort();
		waitq_prepare(queue, me, kind);
		if (!leaves) {
			done = attempt(r);
			over = load_relaxed(&r->over);
			if (!done && !over) {
				waitq_sleep(me, r->restless && chance(&p->seed, 4) ? 20000 : 0);
				slept = true;
			}
		}
		/* Woken, but not by that to what it got, or leaving: the wake-up is somebody else's. */
		if (finish(p, queue, me) && !slept)
			wake(p, queue);
		free(me);
	}
	return done;
}

static void announce_end(struct player *p)
{
	if (!load_relaxed(&p->round->over))
		return;
	p->said_woken += waitq_wake_all(&p->round->not_empty);
	p->said_woken += waitq_wake_all(&p->round->not_full);
}

static void produce(struct player *p)
{
	while (load_relaxed(&p->round->posted) < p->round->tokens) {
		if (!wait_for(p, &p->round->not_full, try_post))
			return;
		if (chance(&p->seed, 2) || waitq_active(&p->round->not_empty))
			wake(p, &p->round->not_empty);
	}
}

static void consume(struct player *p)
{
	while (wait_for(p, &p->round->not_empty, try_take)) {
		if (chance(&p->seed, 2) || waitq_active(&p->round->not_full))
			wake(p, &p->round->not_full);
	}
	announce_end(p);
}

/* Waits for its turn, changes what goes with it, and gives the turn to the other. */
static void take_turns(struct player *p)
{
	struct round *r = p->round;

	for (uint32_t mine = p->side; mine < 2 * TURNS; mine += 2) {
		for (;;) {
			struct waiter me;
			bool there;

			waitq_prepare(&r->not_empty, &me, WAIT_EXCLUSIVE);
			there = load_acquire(&r->turn) == mine;
			if (!there)
				waitq_sleep(&me, 0);
			finish(p, &r->not_empty, &me);
			if (there)
				break;
		}
		if (r->handed != mine)
			FAIL("turn %u brought %u", mine, r->handed);
		r->handed++;
		store_release(&r->turn, mine + 1);
		if (waitq_active(&r->not_empty))
			wake(p, &r->not_empty);
	}
}

/* Returns when both players have come here, as near to one instant as the CPUs allow. */
static void meet(struct round *r)
{
	/* Release and acquire: a step ends before the other's next one begins. */
	uint32_t goal = add_acq_rel(&r->arrived, 1) / 2 * 2 + 2;

	for (unsigned spin = 0; load_acquire(&r->arrived) < goal; spin++) {
		if (spin % 1024 == 1023)
			sched_yield();
	}
}

static void dally(struct player *p)
{
	for (uint64_t left = random_next(&p->seed) % 64; left; left--)
		__asm__ volatile("" ::: "memory");
}

static void look_as_waiter(struct player *p)
{
	struct round *r = p->round;

	for (uint32_t i = 0; i < LOOKS; i++) {
		struct waiter me;

		meet(r);
		dally(p);
		waitq_prepare(&r->not_empty, &me, WAIT_EXCLUSIVE);
		r->condition_seen[i] = load_relaxed(&r->condition) == i + 1;
		meet(r);
		finish(p, &r->not_empty, &me);
	}
}

static void look_as_waker(struct player *p)
{
	struct round *r = p->round;

	for (uint32_t i = 0; i < LOOKS; i++) {
		meet(r);
		/* Has the queue's line here, and the condition's not: the store is seen late, the look is early. */
		(void)waitq_active(&r->not_empty);
		dally(p);
		store_relaxed(&r->condition, i + 1);
		r->waiter_seen[i] = waitq_active(&r->not_empty);
		meet(r);
	}
}

static void end(struct player *p)
{
	add_relaxed(&p->round->said_woken, p->said_woken);
	add_relaxed(&p->round->was_woken, p->was_woken);
	/* The last access to the round but for the wake-up of a word; pthread_join orders the rest. */
	sub_acq_rel(&p->round->running, 1);
	(void)futex_wake(&p->round->running, 1);
}

static void *producer(void *arg)
{
	produce(arg);
	end(arg);
	return NULL;
}

static void *consumer(void *arg)
{
	consume(arg);
	end(arg);
	return NULL;
}

static void *turner(void *arg)
{
	take_turns(arg);
	end(arg);
	return NULL;
}

static void *looking_waiter(void *arg)
{
	look_as_waiter(arg);
	end(arg);
	return NULL;
}

static void *looking_waker(void *arg)
{
	look_as_waker(arg);
	end(arg);
	return NULL;
}

/* Invariant 1. Threads of a stuck round cannot be joined, so this comes before pthread_join. */
static void wait_for_end(struct round *r)
{
	uint64_t last = 0, since = now_ns();
	uint32_t running;

	while ((running = load_acquire(&r->running)) != 0) {
		uint64_t moved = (uint64_t)load_relaxed(&r->posted) + load_relaxed(&r->taken) +
				 load_relaxed(&r->turn) + load_relaxed(&r->condition) +
				 (MAX_SIDE * 2 - running);

		if (moved != last) {
			last = moved;
			since = now_ns();
		} else if (now_ns() - since > STUCK_NS) {
			FAIL("a wake-up was lost: %u threads wait, %u posted, %u taken of %u, turn "
			     "%u, "
			     "%u and %u in the queues",
			     running, load_relaxed(&r->posted), load_relaxed(&r->taken), r->tokens,
			     load_relaxed(&r->turn), load_relaxed(&r->not_empty.queued),
			     load_relaxed(&r->not_full.queued));
		}
		(void)futex_wait(&r->running, running, 1000000000);
	}
}

static void play(struct round *r, void *(*const bodies[])(void *), unsigned count, uint64_t *seed)
{
	struct player player[MAX_SIDE * 2];
	pthread_t thread[MAX_SIDE * 2];

	store_relaxed(&r->running, count);
	for (unsigned i = 0; i < count; i++) {
		player[i] = (struct player){.round = r, .seed = random_next(seed), .side = i};
		if (pthread_create(&thread[i], NULL, bodies[i], &player[i]))
			FAIL("no thread");
	}
	wait_for_end(r);
	for (unsigned i = 0; i < count; i++)
		pthread_join(thread[i], NULL);
	if (load_relaxed(&r->said_woken) != load_relaxed(&r->was_woken))
		FAIL("%" PRIu64 " wake-ups were given, %" PRIu64 " arrived",
		     load_relaxed(&r->said_woken), load_relaxed(&r->was_woken));
	if (waitq_active(&r->not_empty) || waitq_active(&r->not_full))
		FAIL("all have left, but a queue is not empty");
}

static uint64_t play_tokens(struct round *r, uint64_t *seed)
{
	void *(*bodies[MAX_SIDE * 2])(void *);
	unsigned count = 0;

	*r = (struct round){
		.producers = 1 + (unsigned)(random_next(seed) % MAX_SIDE),
		.consumers = 1 + (unsigned)(random_next(seed) % MAX_SIDE),
		.tokens = 1 + (unsigned)(random_next(seed) % MAX_TOKENS),
		.room = 1 + (unsigned)(random_next(seed) % 6),
		.shared_of_8 = chance(seed, 3)	 ? 8
			       : chance(seed, 2) ? 0
						 : 2,
		.restless = chance(seed, 2),
	};
	waitq_init(&r->not_empty);
	waitq_init(&r->not_full);
	for (unsigned i = 0; i < r->producers; i++)
		bodies[count++] = producer;
	for (unsigned i = 0; i < r->consumers; i++)
		bodies[count++] = consumer;
	play(r, bodies, count, seed);
	for (unsigned i = 0; i < r->tokens; i++) {
		if (r->times[i] != 1)
			FAIL("token %u of %u was taken %u times", i, r->tokens, r->times[i]);
	}
	return r->tokens;
}

static uint64_t play_turns(struct round *r, uint64_t *seed)
{
	void *(*const bodies[])(void *) = {turner, turner};

	*r = (struct round){0};
	waitq_init(&r->not_empty);
	waitq_init(&r->not_full);
	play(r, bodies, 2, seed);
	if (r->handed != 2 * TURNS)
		FAIL("%u turns were taken instead of %u", r->handed, 2 * TURNS);
	return r->handed;
}

static uint64_t play_looks(struct round *r, uint64_t *seed)
{
	void *(*const bodies[])(void *) = {looking_waiter, looking_waker};

	*r = (struct round){0};
	waitq_init(&r->not_empty);
	waitq_init(&r->not_full);
	play(r, bodies, 2, seed);
	for (unsigned i = 0; i < LOOKS; i++) {
		if (!r->condition_seen[i] && !r->waiter_seen[i])
			FAIL("look %u: the waiter would sleep, the waker saw nobody", i);
	}
	return LOOKS;
}

int main(int argc, char **argv)
{
	static struct round round;
	uint64_t seed, start = now_ns(), tokens = 0, turns = 0, looks = 0;
	unsigned rounds = 0;

	first_seed = argc > 1 ? strtoull(argv[1], NULL, 0) : start;
	seed = first_seed;
	printf("seed %" PRIu64 "\n", first_seed);
	fflush(stdout);
	for (; now_ns() - start < RUN_NS; rounds++) {
		if (rounds % 8 == 6)
			looks += play_looks(&round, &seed);
		else if (rounds % 8 == 7)
			turns += play_turns(&round, &seed);
		else
			tokens += play_tokens(&round, &seed);
	}
	printf("%u rounds: %" PRIu64 " tokens, %" PRIu64 " turns, %" PRIu64 " looks\n", rounds,
	       tokens, turns, looks);
	return 0;
}
