/* SPDX-License-Identifier: BSD-2-Clause */
#include "fault/signal.h"

#include <errno.h>
#include <sched.h>

#include "base/log.h"
#include "control/stock.h"
#include "fault/service.h"
#include "os/signal.h"
#include "os/thread.h"

enum { INSTANCES_MAX = 64 };
#define PAGER_BYTES ALIGN_UP(sizeof(struct pager), PAGE_SIZE)

static _Atomic(struct signal_service *) registered[INSTANCES_MAX]; /* (A) */
static _Atomic uint32_t visitors[2], turn;			   /* (A) as in weir.c's visit */

/* Whose the visitors and instances are. */
static struct {
	struct lock lock;
	int id; /* under the lock */
} process = {.lock = LOCK_INIT(RANK_BUS, "process of signal mode")};

/* The pager that this thread had last: its memory is there, and may be warm. */
static _Thread_local unsigned last_pager __attribute__((tls_model("initial-exec")));
/* The last fault that no region had: told to the program only when it comes again, since the region may have gone between
 * the fault and the look. */
static _Thread_local uintptr_t unknown __attribute__((tls_model("initial-exec")));

/* --- visitors --- */

static unsigned visit(void)
{
	unsigned mine = load_relaxed(&turn) % 2;

	add_relaxed(&visitors[mine], 1);
	/* Pairs with the fence in signal_quiesce: it sees the visitor, or the visitor finds the region hidden. */
	fence_seq_cst();
	return mine;
}

static void visit_end(unsigned mine)
{
	/* Pairs with the acquire in signal_quiesce. */
	sub_acq_rel(&visitors[mine], 1);
}

void signal_quiesce(struct signal_service *s)
{
	(void)s;
	fence_seq_cst();
	for (unsigned i = 0; i < 2; i++) {
		unsigned other = add_relaxed(&turn, 1) % 2, waited = 0;

		while (load_acquire(&visitors[other]))
			wait_a_little(&waited);
	}
}

/* --- pagers --- */

static struct pager *pager_take(struct signal_service *s)
{
	uint64_t taken = load_relaxed(&s->taken);
	unsigned waited = 0;

	for (;;) {
		unsigned i = last_pager;

		if (!~taken) {
			wait_a_little(&waited);
			taken = load_relaxed(&s->taken);
			continue;
		}
		if (taken >> i & 1)
			i = (unsigned)__builtin_ctzll(~taken);
		/* Pairs with the release in pager_give. */
		if (cas_acquire(&s->taken, &taken, taken | 1ull << i)) {
			last_pager = i;
			return (struct pager *)(s->pagers + i * PAGER_BYTES);
		}
	}
}

static void pager_give(struct signal_service *s)
{
	(void)sub_acq_rel(&s->taken, 1ull << last_pager);
}

/* --- a fault --- */

static struct signal_service *find(uintptr_t address, struct region **region, bool *going)
{
	*going = false;
	for (unsigned i = 0; i < INSTANCES_MAX; i++) {
		/* Pairs with the release in signal_start. */
		struct signal_service *s = load_acquire(&registered[i]);

		if (!s)
			continue;
		*region = vm_find(s->vm, address);
		if (*region)
			return (*region)->signal ? s : NULL;
		*going |= address - load_relaxed(&s->going) < load_relaxed(&s->going_bytes);
	}
	return NULL;
}

static uint32_t page_at(const struct region *region, uintptr_t address)
{
	return (uint32_t)((address - (uintptr_t)region->base) >> PAGE_SHIFT);
}

static enum fault_access access_of(const struct bus_fault *fault, uint64_t w)
{
	if (fault->write_known && !fault->write)
		return ACCESS_READ;
	/* Not there although the word says so: a bare madvise has dropped it. pagein looks again. */
	if (word_resident(w))
		return fault->present ? ACCESS_WP : ACCESS_WRITE;
	return fault->write ? ACCESS_WRITE : ACCESS_READ;
}

/* weir itself touched a page: the job reads one that its word calls resident, and somebody has dropped it by a bare
 * madvise. That means zeroes. */
static bool serve_inside(const struct bus_fault *fault)
{
	struct signal_service *s;
	struct region *region;
	bool going;

	s = find(fault->address, &region, &going);
	if (s && page_revive(s->vm, region, page_at(region, fault->address)))
		return true;
	log_line("a fault inside of weir, at %p: a bug in weir, or a handler of the program for a "
		 "signal like SIGSEGV or "
		 "SIGTRAP that was sent by kill, and that touches a region",
		 (void *)fault->address);
	return false;
}

static enum pagein_result serve_here(struct signal_service *s, struct region *region,
				     const struct bus_fault *fault)
{
	const uint32_t page = page_at(region, fault->address);
	/* A signal handler of the program may have come between its thread's charge and the stock's next word. */
	struct stock *const stock = stock_here;
	struct pager *pager = pager_take(s);
	enum pagein_result result;

	stock_here = NULL;
	pager->tid = thread_id();
	pager->began_ns = now_ns();
	pager->ended_ns = 0;
	pager->container = NULL;
	pager->loads = 0;
	vm_borrowed = true;
	service_self_set(pager);
	add_relaxed(&s->vm->count.faults, 1);
	result = pagein(s->vm, pager, region, page,
			access_of(fault, load_relaxed(&region->word[page])));
	if (result != PAGEIN_ELSEWHERE && result != PAGEIN_PARKED) {
		hist_add(s->served_ns,
			 (pager->ended_ns ? pager->ended_ns : now_ns()) - pager->began_ns);
		vm_untouched = &region->word[page];
		reclaim_after_fault(s->reclaim, pager);
		vm_untouched = NULL;
		pager_end(pager);
	}
	service_self_set(NULL);
	vm_borrowed = false;
	stock_here = stock;
	pager_give(s);
	if (result == PAGEIN_PARKED)
		page_wait(&region->word[page]);
	return result;
}

/* What the background thread does for a thread that cannot. */
struct elsewhere {
	struct signal_service *signal;
	const struct bus_fault *fault;
};

static int serve_elsewhere(void *data)
{
	const struct elsewhere *e = data;
	struct vm *vm = e->signal->vm;
	struct region *region = vm_find(vm, e->fault->address);
	uint32_t page;

	if (!region)
		return 0;
	page = page_at(region, e->fault->address);
	/* Who has no pager asks this thread for room. */
	service_self_set(e->signal->reclaim->pager);
	/* Busy: the thread faults again, and waits then. */
	(void)pagein(vm, e->signal->reclaim->pager, region, page,
		     access_of(e->fault, load_relaxed(&region->word[page])));
	service_self_set(NULL);
	return 0;
}

static bool serve_fault(const struct bus_fault *fault)
{
	struct elsewhere e = {.fault = fault};
	enum pagein_result result;
	struct region *region;
	unsigned mine;
	bool going;

	if (vm_borrowed)
		return serve_inside(fault);
	mine = visit();
	e.signal = find(fault->address, &region, &going);
	if (!e.signal) {
		visit_end(mine);
		if (going)
			sched_yield();
		else if (unknown == fault->address)
			return false;
		else
			unknown = fault->address;
		return true;
	}
	unknown = 0;
	if (word_state(load_relaxed(&region->word[page_at(region, fault->address)])) ==
	    PAGE_POISONED) {
		visit_end(mine);
		return false;
	}
	reclaim_before_fault(e.signal->reclaim);
	result = serve_here(e.signal, region, fault);
	/* Before the errand: it may stand behind one that waits for visitors. */
	visit_end(mine);
	if (result == PAGEIN_ELSEWHERE)
		(void)reclaim_errand(e.signal->reclaim, serve_elsewhere, &e);
	return true;
}

void signal_serve(uintptr_t address, bool write)
{
	const struct bus_fault fault = {
		.address = address,
		.fault = true,
		.write = write,
		.write_known = true,
		.present = true,
	};

	(void)serve_fault(&fault);
}

/* --- start and stop --- */

/* A child of fork has none of the threads that were in the handler just then, and nobody who would count them out. */
static void forget_parent(void)
{
	const int self = process_id();

	lock_acquire(&process.lock);
	for (unsigned i = 0; process.id != self && i < 2; i++)
		store_relaxed(&visitors[i], 0);
	for (unsigned i = 0; process.id != self && i < INSTANCES_MAX; i++)
		store_relaxed(&registered[i], NULL);
	process.id = self;
	lock_release(&process.lock);
}

int signal_start(struct signal_service *s, struct vm *vm, struct reclaim *reclaim,
		 struct hist *served_ns)
{
	unsigned slot = 0;
	int err;

	s->vm = vm;
	s->reclaim = reclaim;
	s->served_ns = served_ns;
	forget_parent();
	s->pagers = mem_reserve(SIGNAL_PAGERS * PAGER_BYTES);
	if (!s->pagers)
		return -ENOMEM;
	err = mem_commit(s->pagers, SIGNAL_PAGERS * PAGER_BYTES);
	if (err)
		goto fail;
	for (unsigned i = 0; i < SIGNAL_PAGERS; i++)
		((struct pager *)(s->pagers + i * PAGER_BYTES))->borrowed = true;
	err = bus_handler_install(serve_fault);
	if (err)
		goto fail;
	for (struct signal_service *none = NULL;
	     slot < INSTANCES_MAX && !cas_release(&registered[slot], &none, s); none = NULL)
		slot++;
	if (slot < INSTANCES_MAX)
		return 0;
	err = -ENOSPC;
	bus_handler_remove();
fail:
	mem_release(s->pagers, SIGNAL_PAGERS * PAGER_BYTES);
	s->pagers = NULL;
	return err;
}

void signal_stop(struct signal_service *s)
{
	if (!s->pagers)
		return;
	for (unsigned i = 0; i < INSTANCES_MAX; i++) {
		if (load_relaxed(&registered[i]) == s)
			store_relaxed(&registered[i], NULL);
	}
	signal_quiesce(s);
	bus_handler_remove();
	mem_release(s->pagers, SIGNAL_PAGERS * PAGER_BYTES);
	s->pagers = NULL;
}

void signal_going(struct signal_service *s, const void *base, size_t bytes)
{
	store_relaxed(&s->going_bytes, 0);
	store_relaxed(&s->going, (uintptr_t)base);
	/* Before region_hide: who does not find the region any more finds this. Pairs with visit's fence. */
	store_release(&s->going_bytes, bytes);
	fence_seq_cst();
}
