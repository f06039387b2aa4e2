/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stocks: what a thread has prepaid, so that most charges touch no memory that another thread writes.
 *
 * A stock has eight slots, each for one container (one slot a thread thrashes as soon as a thread serves two). A slot
 * is filled by a batch and gives back what it has above two.
 *
 * Its owner changes it with plain loads and stores. Another thread may empty it (drain) without costing the owner an
 * atomic, by the asymmetry of membarrier(2):
 *
 *        owner, each charge                         drainer, under RANK_STOCKS
 *        1  busy = 1                                1  flag = 1
 *        2  (compiler barrier)                      2  membarrier: a full barrier in every running thread
 *        3  flag set? then leave, use no stock      3  wait until busy = 0
 *        4  change slots                            4  empty the slots
 *        5  busy = 0 (release)                      5  flag = 0 (release)
 *
 * Of "busy = 1" and "flag = 1" each side writes its own, then reads the other's. The barrier of the drainer falls into
 * the owner's code somewhere: before 3, then the owner sees the flag and leaves; or after 1, then the drainer sees that
 * it is busy. Never neither. An owner that finds the flag does not wait: it charges the counters directly, that once.
 * An owner that refills its stock, or gives back, takes the tree's lock while it is busy, so that no batch is ever
 * between the counters and a stock when the drainer comes by. The drainer waits for ten instructions of the owner, or for
 * that. Where the owner was preempted in there it sleeps in steps, about 2 ms in all, then leaves that one
 * stock alone: drained in bounded time, and what can be left behind is bounded as well. Deleting a container drains
 * again until none was left alone, and holds nothing in between: an owner that the program's signal interrupts in there
 * may touch a page in its handler, and that fault drains before it fails, or goes over. Were the lock held until the owner has
 * left, the fault would wait for the lock, and the owner for the fault.
 *
 * Threads of weir open and close a stock by hand. A thread of the program gets one at its first weir_charge. Threads
 * without one use the counters directly. Where the kernel refuses membarrier there are no stocks.
 */
#ifndef WEIR_CONTROL_STOCK_H
#define WEIR_CONTROL_STOCK_H

#include "control/container.h"

enum { STOCK_SLOTS = 8, STOCKS_MAX = 1024 };

struct stock_slot {
	struct weir_container *container; /* NULL: free */
	/* What went in and what was taken out so far; it has the difference. Two words, so that a charge and the uncharge
	 * after it do not wait for each other's store (measured: one word 5.7 ns a pair). */
	uint64_t in, out;
	uint64_t most; /* beyond it all but half goes back */
};

/* Slots and last: the owner while busy is 1, the drainer while flag is 1 and busy 0. */
struct stock {
	NO_SHARING _Atomic uint32_t busy; /* (A) written by the owner */
	_Atomic uint32_t flag;		  /* (A) written by the drainer */
	uint32_t last; /* the slot that was used last; written by the owner only */
	uint32_t hand; /* the slot that is given up next */
	struct stock_slot slot[STOCK_SLOTS];
	bool open; /* under RANK_STOCKS */
};

/* The calling thread's, or NULL. Initial-exec: no first use that would allocate. */
extern _Thread_local struct stock *stock_here __attribute__((tls_model("initial-exec")));

/* Gives the thread a stock; -ENOSYS: no membarrier; -ENOSPC, -ENOMEM. Without one charges work all the same. */
int stock_open(void);
/* The same, given back when the thread ends. May allocate once a process: not for weir's own threads. */
int stock_open_for_life(void);
void stock_close(void);

/* Empties the slots of the tree's containers (container NULL), or of one, in all stocks. patient: until none was
 * passed over. Returns the bytes that went back. */
uint64_t stocks_drain(struct tree *tree, struct weir_container *container, bool patient);
/* What stocks can hold of a container at most. */
uint64_t stock_bound(const struct weir_container *container);
/* Counted since the start: drains, and stocks that one had to leave alone. */
void stock_drains(uint64_t *drains, uint64_t *missed);

/* In the child of a fork, by its thread: other threads have gone, and their stocks of this tree with them. What these had of it is charged to
 * no level any more. */
void stocks_after_fork(const struct tree *tree);

/* --- for charge.c --- */

/* Any slot, where the one used last will not do. False: not enough there, or it is being drained. */
bool stock_take_slow(struct stock *stock, struct weir_container *container, uint64_t bytes);
/* At most two batches. False: it is being drained. */
bool stock_give_slow(struct stock *stock, struct weir_container *container, uint64_t bytes);
/* Charges a batch, of which bytes are for the caller and the rest for the stock. False: the batch does not fit, or the
 * stock is being drained. */
bool stock_refill(struct stock *stock, struct weir_container *container, uint64_t bytes,
		  uint64_t batch);

static inline bool stock_enter(struct stock *stock)
{
	store_relaxed(&stock->busy, 1);
	/* Pairs with the membarrier of stocks_drain. */
	atomic_signal_fence(memory_order_seq_cst);
	/* Pairs with the release of flag in stocks_drain: the slots are as the drainer left them. */
	return !load_acquire(&stock->flag);
}

static inline void stock_leave(struct stock *stock)
{
	/* Pairs with the acquire of busy in stocks_drain. */
	store_release(&stock->busy, 0);
}

/* From the slot that was used last, if it has so many bytes of the container. */
static inline bool stock_take(struct stock *stock, struct weir_container *container, uint64_t bytes)
{
	bool open = stock_enter(stock);
	struct stock_slot *slot = &stock->slot[stock->last];

	open = likely(open) && likely(slot->container == container) &&
	       likely(slot->in - slot->out >= bytes);
	if (likely(open))
		slot->out += bytes;
	stock_leave(stock);
	return open;
}

/* To the slot that was used last, if it is the container's and has room. */
static inline bool stock_give(struct stock *stock, struct weir_container *container, uint64_t bytes)
{
	bool open = stock_enter(stock);
	struct stock_slot *slot = &stock->slot[stock->last];

	open = likely(open) && likely(slot->container == container) &&
	       likely(slot->in - slot->out + bytes <= slot->most);
	if (likely(open))
		slot->in += bytes;
	stock_leave(stock);
	return open;
}

#endif
