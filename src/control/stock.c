/* SPDX-License-Identifier: BSD-2-Clause */
#include "control/stock.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "os/mem.h"
#include "os/thread.h"
#include "base/waitq.h"

enum { PER_PAGE = 4096 / sizeof(struct stock), PAGES = STOCKS_MAX / PER_PAGE };

_Thread_local struct stock *stock_here __attribute__((tls_model("initial-exec")));

/* Of the process: a thread may charge containers of several instances. Stocks are never freed, only used again. */
static struct {
	struct lock lock;		 /* RANK_STOCKS */
	struct stock *page[PAGES];	 /* (K) under the lock */
	uint32_t made;			 /* (K) stocks that there are */
	_Atomic uint32_t open;		 /* (A) written under the lock */
	int barrier;			 /* (K) 1: registered, 0: not yet, else -errno */
	pthread_key_t key;		 /* (K) once keyed */
	bool keyed;			 /* (K) */
	_Atomic uint64_t drains, missed; /* (A) */
} stocks = {.lock = LOCK_INIT(RANK_STOCKS, "stocks")};

static struct stock *stock_at(uint32_t i)
{
	return &stocks.page[i / PER_PAGE][i % PER_PAGE];
}

/* --- opening and closing --- */

static int barrier_ready(void)
{
	if (!stocks.barrier) {
		int err = thread_barrier_register();

		stocks.barrier = err ? err : 1;
	}
	return stocks.barrier < 0 ? stocks.barrier : 0;
}

static int stock_find(struct stock **out)
{
	for (uint32_t i = 0; i < stocks.made; i++) {
		if (!stock_at(i)->open) {
			*out = stock_at(i);
			return 0;
		}
	}
	if (stocks.made == STOCKS_MAX)
		return -ENOSPC;
	if (stocks.made % PER_PAGE == 0) {
		struct stock *page = mem_alloc(PAGE_SIZE);

		if (!page)
			return -ENOMEM;
		stocks.page[stocks.made / PER_PAGE] = page;
	}
	*out = stock_at(stocks.made++);
	return 0;
}

int stock_open(void)
{
	struct stock *stock;
	int err;

	if (stock_here)
		return 0;
	lock_acquire(&stocks.lock);
	err = barrier_ready();
	if (!err)
		err = stock_find(&stock);
	if (!err) {
		stock->open = true;
		add_relaxed(&stocks.open, 1);
		stock_here = stock;
	}
	lock_release(&stocks.lock);
	return err;
}

void stock_close(void)
{
	struct stock *stock = stock_here;

	if (!stock)
		return;
	lock_acquire(&stocks.lock);
	for (unsigned i = 0; i < STOCK_SLOTS; i++) {
		struct stock_slot *slot = &stock->slot[i];

		if (slot->container)
			uncharge_levels(slot->container, slot->in - slot->out);
		*slot = (struct stock_slot){0};
	}
	stock->open = false;
	sub_relaxed(&stocks.open, 1);
	stock_here = NULL;
	lock_release(&stocks.lock);
}

static void thread_ends(void *stock)
{
	THREAD_SIGNALS_BLOCKED;

	(void)stock;
	stock_close();
}

int stock_open_for_life(void)
{
	int err;
	THREAD_SIGNALS_BLOCKED;

	err = stock_open();

	if (err)
		return err;
	lock_acquire(&stocks.lock);
	if (!stocks.keyed)
		err = -pthread_key_create(&stocks.key, thread_ends);
	stocks.keyed = stocks.keyed || !err;
	lock_release(&stocks.lock);
	if (!err)
		err = -pthread_setspecific(stocks.key, stock_here);
	/* Nobody would give it back. */
	if (err)
		stock_close();
	return err;
}

/* --- the owner's slow paths --- */

static struct stock_slot *slot_of(struct stock *stock, const struct weir_container *container)
{
	for (uint32_t i = 0; i < STOCK_SLOTS; i++) {
		if (stock->slot[i].container == container) {
			stock->last = i;
			return &stock->slot[i];
		}
	}
	return NULL;
}

/* A slot for a container that has none; what was in it goes to *old. */
static struct stock_slot *slot_new(struct stock *stock, struct weir_container *container,
				   struct stock_slot *old)
{
	struct stock_slot *slot = slot_of(stock, NULL);

	if (!slot) {
		stock->last = stock->hand;
		stock->hand = (stock->hand + 1) % STOCK_SLOTS;
		slot = &stock->slot[stock->last];
	}
	*old = *slot;
	*slot = (struct stock_slot){.container = container,
				    .most = 2 * load_relaxed(&container->batch)};
	return slot;
}

static void give_back(const struct stock_slot *old)
{
	if (old->container && old->in != old->out)
		uncharge_levels(old->container, old->in - old->out);
}

bool stock_take_slow(struct stock *stock, struct weir_container *container, uint64_t bytes)
{
	struct stock_slot *slot;
	bool enough;

	enough = stock_enter(stock);
	slot = enough ? slot_of(stock, container) : NULL;
	enough = slot && slot->in - slot->out >= bytes;
	if (enough)
		slot->out += bytes;
	stock_leave(stock);
	return enough;
}

bool stock_give_slow(struct stock *stock, struct weir_container *container, uint64_t bytes)
{
	struct stock_slot *slot, old = {0};
	uint64_t back;

	if (!stock_enter(stock)) {
		stock_leave(stock);
		return false;
	}
	slot = slot_of(stock, container);
	if (!slot)
		slot = slot_new(stock, container, &old);
	slot->in += bytes;
	back = slot->in - slot->out > slot->most ? slot->in - slot->out - slot->most / 2 : 0;
	slot->out += back;
	give_back(&old);
	if (back)
		uncharge_levels(container, back);
	stock_leave(stock);
	return true;
}

bool stock_refill(struct stock *stock, struct weir_container *container, uint64_t bytes,
		  uint64_t batch)
{
	struct stock_slot *slot, old = {0};
	bool done = stock_enter(stock) && !charge_levels(container, batch);

	if (done) {
		slot = slot_of(stock, container);
		if (!slot)
			slot = slot_new(stock, container, &old);
		slot->in += batch - bytes;
		give_back(&old);
	}
	stock_leave(stock);
	return done;
}

/* --- draining --- */

/* Waits for the owner to leave. False: it was preempted in there for 2 ms. */
static bool wait_idle(struct stock *stock)
{
	enum { SPINS = 200, NAPS = 20 };
	unsigned waited = 0;

	for (unsigned i = 0; i < SPINS + NAPS; i++) {
		/* Pairs with the release in stock_leave. */
		if (!load_acquire(&stock->busy))
			return true;
		if (i < SPINS)
			cpu_relax();
		else
			wait_a_little(&waited);
	}
	return false;
}

static uint64_t stock_empty(struct stock *stock, struct tree *tree,
			    const struct weir_container *container)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < STOCK_SLOTS; i++) {
		struct stock_slot *slot = &stock->slot[i];

		if (!slot->container || slot->container->tree != tree ||
		    (container && slot->container != container))
			continue;
		bytes += slot->in - slot->out;
		give_back(slot);
		*slot = (struct stock_slot){0};
	}
	return bytes;
}

/* Each stock once; *missed: those that had to be left alone. */
static uint64_t drain_once(struct tree *tree, const struct weir_container *container,
			   unsigned *missed)
{
	uint64_t bytes = 0;

	*missed = 0;
	lock_acquire(&stocks.lock);
	for (uint32_t i = 0; i < stocks.made; i++)
		store_relaxed(&stock_at(i)->flag, 1);
	/* Pairs with the compiler barrier in stock_enter: see stock.h. */
	if (stocks.made)
		thread_barrier();
	for (uint32_t i = 0; i < stocks.made; i++) {
		struct stock *stock = stock_at(i);

		if (wait_idle(stock))
			bytes += stock_empty(stock, tree, container);
		else
			++*missed;
		/* Pairs with the acquire in stock_enter. */
		store_release(&stock->flag, 0);
	}
	lock_release(&stocks.lock);
	return bytes;
}

uint64_t stocks_drain(struct tree *tree, struct weir_container *container, bool patient)
{
	unsigned missed, waits = 0;
	uint64_t bytes;

	add_relaxed(&stocks.drains, 1);
	bytes = drain_once(tree, container, &missed);
	/* Without the lock: an owner may be in there until somebody else has drained, which takes it (see stock.h). */
	while (patient && missed) {
		wait_a_little(&waits);
		bytes += drain_once(tree, container, &missed);
	}
	add_relaxed(&stocks.missed, missed);
	return bytes;
}

uint64_t stock_bound(const struct weir_container *container)
{
	return (uint64_t)load_relaxed(&stocks.open) * 2 * load_relaxed(&container->batch);
}

void stock_drains(uint64_t *drains, uint64_t *missed)
{
	*drains = load_relaxed(&stocks.drains);
	*missed = load_relaxed(&stocks.missed);
}

void stocks_after_fork(const struct tree *tree)
{
	lock_init(&stocks.lock, RANK_STOCKS, "stocks");
	/* It is not inherited everywhere. */
	stocks.barrier = 0;
	(void)barrier_ready();
	for (uint32_t i = 0; i < stocks.made; i++) {
		struct stock *stock = stock_at(i);

		store_relaxed(&stock->busy, 0);
		store_relaxed(&stock->flag, 0);
		for (unsigned k = 0; k < STOCK_SLOTS; k++) {
			struct stock_slot *slot = &stock->slot[k];

			if (!slot->container || slot->container->tree != tree)
				continue;
			/* Whatever it comes to: counters and stocks are of different moments. */
			for (struct weir_container *c = slot->container; c; c = c->parent)
				store_relaxed(&c->charged, load_relaxed(&c->charged) -
								   (int64_t)(slot->in - slot->out));
			*slot = (struct stock_slot){0};
		}
		if (stock->open && stock != stock_here) {
			stock->open = false;
			sub_relaxed(&stocks.open, 1);
		}
	}
}
