/* SPDX-License-Identifier: BSD-2-Clause */
/* Forks with a hand-over: see fork.h. Below, in this order: what a page of a child has; the background thread and the child
 * that it serves; the handler that is told; the forking thread. */
#include "fork.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "control/stock.h"
#include "instance.h"
#include "os/pass.h"
#include "os/thread.h"

enum {
	TURN_MS = 5, /* how often the background thread looks for what it is not told */
	NAP_NS = 1000000,
};

/* --- pages of a child --- */

static void brought_forget(struct lease *lease)
{
	while (lease->brought) {
		struct brought *next = lease->brought->next;

		mem_release(lease->brought, sizeof(*next));
		lease->brought = next;
	}
}

/* One more page. False: there is no memory for it. */
static bool brought_note(struct lease *lease, page_no_t number)
{
	struct brought *b = lease->brought;

	if (!b || b->count == BROUGHT_PAGES) {
		b = mem_alloc(sizeof(*b));
		if (!b)
			return false;
		b->next = lease->brought;
		lease->brought = b;
	}
	b->page[b->count++] = number;
	return true;
}

/* Gives a child what a page has, given the parent's word of it, whose busy bit is held. -ESRCH: the child has gone. */
static int page_give(struct vm *vm, struct pager *self, struct lease *lease, struct region *region,
		     uint32_t page, uint64_t w)
{
	char *address = page_address(region, page);
	int err = word_state(w) == PAGE_POISONED ? -EIO : page_read(vm, self, region, page, w);

	if (!err)
		return uffd_copy(lease->child, address, self->run[0], PAGE_SIZE, false, NULL);
	if (!vm->can_poison)
		return err;
	err = uffd_poison(lease->child, address, PAGE_SIZE);
	/* One that takes over must not take it for a page that is there. */
	while (!err && !brought_note(lease, page_number(region, page) | fork_lost))
		sleep_ns(NAP_NS);
	return err;
}

/* One page, if the parent has a copy of it; what is there already stays, and may be written. */
static int page_offer(struct vm *vm, struct pager *self, struct lease *lease, struct region *region,
		      uint32_t page)
{
	uint64_t w = load_relaxed(&region->word[page]);
	int err = 0;

	if (word_kind(w) == COPY_NONE || page_wiped(region, page))
		return 0;
	w = page_lock_wait(&region->word[page]);
	if (word_kind(w) != COPY_NONE)
		err = page_give(vm, self, lease, region, page, w);
	page_unlock(vm, region, page, w, true);
	if (err == -EEXIST)
		err = uffd_writeprotect(lease->child, page_address(region, page), PAGE_SIZE, false);
	/* The program has mapped something else there, or nothing. */
	return err == -ENOENT ? 0 : err;
}

/* Every page. -ESRCH: the child has gone. -EIO: one cannot be read, and not be poisoned. */
static int region_give(struct vm *vm, struct pager *self, struct lease *lease,
		       struct region *region)
{
	for (uint32_t page = 0; page < load_relaxed(&region->top); page++) {
		int err;

		if (!load_relaxed(&region->populated[page >> CHUNK_SHIFT])) {
			page |= (1u << CHUNK_SHIFT) - 1;
			continue;
		}
		/* The system may have no memory just now: the child waits. */
		while ((err = page_offer(vm, self, lease, region, page)) == -ENOMEM ||
		       err == -EAGAIN)
			sleep_ns(NAP_NS);
		if (err)
			return err;
	}
	return 0;
}

static int all_give(struct vm *vm, struct pager *self, struct lease *lease)
{
	int err = 0;

	for (uint32_t i = 0; i < load_relaxed(&vm->regions) && !err; i++) {
		struct region *region = load_acquire(&vm->region[i]);

		if (region && !region->file && !region->signal)
			err = region_give(vm, self, lease, region);
	}
	return err;
}

/* --- the background thread --- */

static void lease_end(struct weir *weir, struct lease *lease)
{
	if (lease->child)
		(void)uffd_close(lease->child);
	pass_close(lease->end);
	brought_forget(lease);
	if (lease->keeps)
		store_unkeep(weir->vm.store);
	*lease = (struct lease){0};
}

/* Tells the child what it has that it does not know of. From here on it serves itself. */
static int lease_answer(const struct lease *lease)
{
	struct fork_answer answer = {.all = lease->all};
	int err;

	for (const struct brought *b = lease->brought; b; b = b->next)
		answer.count += b->count;
	err = pass_send(lease->end, &answer, sizeof(answer), NULL, 0);
	for (const struct brought *b = lease->brought; b && !err; b = b->next) {
		for (unsigned at = 0; at < b->count && !err; at += BROUGHT_AT_ONCE)
			err = pass_send(lease->end, b->page + at,
					MIN(b->count - at, (unsigned)BROUGHT_AT_ONCE) *
						sizeof(page_no_t),
					NULL, 0);
	}
	return err;
}

/* The child cannot serve itself: it is given all its pages, is told, and is on its own. */
static void lease_plain(struct weir *weir, struct lease *lease)
{
	const struct fork_answer answer = {.plain = 1};
	int err = lease->all ? 0 : all_give(&weir->vm, weir->pager, lease);

	log_once("a child of fork has no room for threads or descriptors: it is given all its "
		 "pages, and runs "
		 "without a limit");
	/* By which it knows that it was its own userfaultfd. */
	if (!err)
		err = uffd_copy(lease->child, weir->service.doorbell, weir->pager->run[0],
				PAGE_SIZE, false, NULL);
	if (!err)
		(void)pass_send(lease->end, &answer, sizeof(answer), NULL, 0);
}

/* The child says something, or has gone. False: it has gone, or needs nothing any more. */
static bool lease_hear(struct weir *weir, struct lease *lease)
{
	char what;

	if (pass_receive(lease->end, &what, 1, NULL, NULL) != 1 || !lease->child)
		return false;
	if (what == fork_plain)
		lease_plain(weir, lease);
	if (what != fork_take)
		return false;
	/* Its descriptor is closed before the child begins: nobody else serves it then. */
	(void)uffd_close(lease->child);
	lease->child = 0;
	if (lease_answer(lease))
		return false;
	add_relaxed(&weir->fork.handed_over, 1);
	brought_forget(lease);
	return lease->keeps;
}

/* One fault of the child. What it is given is noted before: a child that takes over knows of all of it. */
static void child_fault(struct weir *weir, struct lease *lease, const struct uffd_fault *fault)
{
	struct vm *vm = &weir->vm;
	struct region *region = vm_find(vm, fault->address);
	uint32_t page;
	uint64_t w;
	int err;

	if (!region)
		return;
	page = (uint32_t)((fault->address - (uintptr_t)region->base) >> PAGE_SHIFT);
	while (!brought_note(lease, page_number(region, page)))
		sleep_ns(NAP_NS);
	if (fault->wp) {
		err = uffd_writeprotect(lease->child, page_address(region, page), PAGE_SIZE, false);
	} else {
		w = page_lock_wait(&region->word[page]);
		/* Once it has everything, our words are of later, and what it lacks had nothing. */
		err = page_give(vm, weir->pager, lease, region, page,
				lease->all || page_wiped(region, page) ? PAGE_NONE : w);
		page_unlock(vm, region, page, w, true);
	}
	/* It is there, or the system has no memory just now: the child goes and sees. */
	if (err && err != -ESRCH)
		(void)uffd_wake(lease->child, page_address(region, page), PAGE_SIZE);
}

static void child_read(struct weir *weir, struct lease *lease)
{
	struct uffd_fault fault;

	if (uffd_read(lease->child, &fault, 1) == 1 && !fault.child)
		child_fault(weir, lease, &fault);
}

/* Until the child serves itself, has gone, or the parent has waited for long enough. True: the lease goes on. */
static bool child_serve(struct weir *weir, struct lease *lease)
{
	const uint64_t until = now_ns() + weir->fork.patience_ns;
	const int fds[2] = {lease->end, lease->child};

	/* It was not told, and will see. */
	if (lease->end < 0)
		return false;
	while (now_ns() < until) {
		uint32_t ready;

		vm_wake_parked(&weir->vm);
		if (pass_wait(fds, 2, TURN_MS, &ready))
			break;
		/* A fault first: while the thread that takes over faults it says nothing. */
		if (ready & 2)
			child_read(weir, lease);
		else if (ready & 1)
			return lease_hear(weir, lease);
	}
	log_once("a child of fork does not get to run (is it stopped?): it is given all its pages, "
		 "and may block if it is ended halfway");
	lease->all = true;
	/* Else it lacks a page that nobody can give it: it is ended. */
	return !all_give(&weir->vm, weir->pager, lease);
}

static struct lease *lease_free(struct weir *weir)
{
	for (unsigned i = 0; i < LEASES_MAX; i++) {
		if (!weir->fork.lease[i].end)
			return &weir->fork.lease[i];
	}
	return NULL;
}

/*
 * Waits until a handler has sent the child what it needs. The forking thread goes on as soon as that handler has read the event,
 * so it cannot tell whether there is a child: if there is none, nobody has the other end of the socket. True: there is one.
 */
static bool child_wait(struct fork *f)
{
	for (;;) {
		/* Pairs with the releases in fork_told and weir_after_fork. */
		uint32_t stage = load_acquire(&f->stage), ready = 0;

		if (stage == FORK_BORN)
			return true;
		if (stage != FORK_RETURNED)
			(void)futex_wait(&f->stage, stage, 0);
		else if (!pass_wait(&f->born.end, 1, 1, &ready) && ready &&
			 cas_acquire(&f->stage, &stage, FORK_FAILED))
			return false;
	}
}

/* From READY on: waits for the child, serves it, lets everything go. */
static void fork_attend(void *data)
{
	struct weir *weir = data;
	struct fork *f = &weir->fork;

	if (child_wait(f) && child_serve(weir, &f->born)) {
		*lease_free(weir) = f->born;
		f->born = (struct lease){0};
	} else {
		lease_end(weir, &f->born);
	}
	sub_relaxed(&weir->vm.forking, 1);
	store_release(&weir->vm.wake_all, true);
	reclaim_release(&weir->reclaim);
	/* Pairs with the acquire in weir_after_fork. */
	store_release(&f->stage, FORK_OVER);
	(void)futex_wake(&f->stage, INT32_MAX);
}

void fork_tick(struct weir *weir)
{
	struct fork *f = &weir->fork;

	for (unsigned first = 0; first < LEASES_MAX; first += LEASES_AT_ONCE) {
		int fds[2 * LEASES_AT_ONCE];
		uint32_t ready = 0;
		bool any = false;

		for (unsigned i = 0; i < LEASES_AT_ONCE; i++) {
			const struct lease *lease = &f->lease[first + i];

			fds[2 * i] = lease->end ? lease->end : -1;
			fds[2 * i + 1] = lease->child ? lease->child : -1;
			any |= lease->end != 0;
		}
		if (!any || pass_wait(fds, 2 * LEASES_AT_ONCE, 0, &ready))
			continue;
		for (unsigned i = 0; i < LEASES_AT_ONCE; i++) {
			struct lease *lease = &f->lease[first + i];

			if (ready >> (2 * i + 1) & 1)
				child_read(weir, lease);
			else if ((ready >> (2 * i) & 1) && !lease_hear(weir, lease))
				lease_end(weir, lease);
		}
	}
}

void fork_close(struct weir *weir)
{
	for (unsigned i = 0; i < LEASES_MAX; i++) {
		if (weir->fork.lease[i].end)
			lease_end(weir, &weir->fork.lease[i]);
	}
}

/* --- the handler that is told --- */

/* Nobody said that there would be a child. It gets everything, and is plain memory then. */
static void stray_serve(struct weir *weir, struct pager *self, int child)
{
	struct lease lease = {.child = child};
	int err;

	add_relaxed(&weir->vm.forking, 1);
	reclaim_hold(&weir->reclaim);
	err = all_give(&weir->vm, self, &lease);
	brought_forget(&lease);
	/* Closed it would make zeroes of what is not there: open, it has who touches that wait. */
	if (err && err != -ESRCH)
		log_once("a process made by clone lacks pages that cannot be read (%s): it waits "
			 "there",
			 errno_name(err));
	else
		(void)uffd_close(child);
	sub_relaxed(&weir->vm.forking, 1);
	store_release(&weir->vm.wake_all, true);
	reclaim_release(&weir->reclaim);
}

void fork_told(void *data, struct pager *self, int child)
{
	struct weir *weir = data;
	struct fork *f = &weir->fork;
	uint32_t stage = load_relaxed(&f->stage);
	int fds[PASS_MOST], count = 1, more, err;

	do {
		if (stage == FORK_PLAIN) {
			(void)uffd_close(child);
			return;
		}
		if (stage != FORK_READY && stage != FORK_RETURNED) {
			stray_serve(weir, self, child);
			return;
		}
		/* Pairs with the release in fork_ready: the socket is there. */
	} while (!cas_acquire(&f->stage, &stage, FORK_SENDING));
	fds[0] = child;
	more = store_pass(weir->vm.store, fds + 1);
	count += more > 0 ? more : 0;
	if (weir->reclaim.movers.trace)
		fds[count++] = weir->trace_fd;
	err = pass_send(f->born.end, &fork_take, 1, fds, (unsigned)count);
	/* Without them it asks for everything. */
	if (err)
		err = pass_send(f->born.end, &fork_take, 1, NULL, 0);
	if (err) {
		log_line("handing over to a child of fork failed (%s): it is ended",
			 errno_name(err));
		pass_close(f->born.end);
		f->born.end = -1;
	}
	f->born.child = child;
	/* The same for all who have it: poll wants it so, and the child takes it back. */
	(void)uffd_nonblocking(child, true);
	/* Pairs with the acquire in child_wait. */
	store_release(&f->stage, FORK_BORN);
	(void)futex_wake(&f->stage, INT32_MAX);
}

/* --- the forking thread --- */

/* On the background thread: nothing is under way, and nothing will be until fork_attend has ended. */
static int fork_ready(void *data)
{
	struct weir *weir = data;
	struct fork *f = &weir->fork;
	int fds[STORE_PASS_MAX], shared, end;

	instance_quiesce(weir);
	shared = store_pass(weir->vm.store, fds);
	if (shared < 0 || !lease_free(weir))
		return -EMFILE;
	end = pass_fetch(weir->vm.dropper.pidfd, f->born.end);
	if (end < 0)
		return end;
	f->born = (struct lease){
		.end = end, .keeps = shared > 0, .brought = mem_alloc(sizeof(struct brought))};
	/* Now, while there is another way to fork: later there is none. */
	if (!f->born.brought) {
		pass_close(end);
		return -ENOMEM;
	}
	if (shared)
		store_keep(weir->vm.store);
	weir->reclaim.next_data = weir;
	store_relaxed(&weir->reclaim.next, fork_attend);
	/* Pairs with the acquire in fork_told. */
	store_release(&f->stage, FORK_READY);
	return 0;
}

/*
 * What the child would have to do without. Windows (kmap) are on frames in a file, and a cache of a file of the program's is in one: parent
 * and child would have the same memory there, so all of it would have to be copied while both wait. In signal mode nobody reads the
 * userfaultfd, and the kernel would wait for ever for somebody to read the event.
 */
static bool fork_possible(const struct weir *weir)
{
	const struct vm *vm = &weir->vm;

	if (!weir->fork.asked || !weir->fork.can || weir->mode != WEIR_MODE_THREAD || weir->kmap ||
	    !weir->service.lowest || vm->crew)
		return false;
	for (uint32_t i = 0; i < load_relaxed(&vm->regions); i++) {
		const struct region *region = load_acquire(&vm->region[i]);

		if (region && region->file)
			return false;
	}
	return true;
}

static int hand_over_prepare(struct weir *weir)
{
	struct fork *f = &weir->fork;
	int ends[2], err;

	if (!fork_possible(weir))
		return -ENOTSUP;
	err = pass_pair(ends);
	if (err)
		return err;
	f->theirs = ends[0];
	f->born.end = ends[1];
	add_relaxed(&weir->vm.forking, 1);
	reclaim_hold(&weir->reclaim);
	err = reclaim_errand(&weir->reclaim, fork_ready, weir);
	pass_close(ends[1]);
	if (!err)
		return 0;
	pass_close(ends[0]);
	sub_relaxed(&weir->vm.forking, 1);
	reclaim_release(&weir->reclaim);
	return err;
}

static int room_errand(void *data)
{
	const struct weir *weir = data;

	return pass_room(weir->vm.uffd);
}

bool fork_room(struct weir *weir)
{
	THREAD_SIGNALS_BLOCKED;

	return weir->mode != WEIR_MODE_THREAD || !reclaim_errand(&weir->reclaim, room_errand, weir);
}

int weir_before_fork(struct weir *weir)
{
	struct fork *f = &weir->fork;
	sigset_t signals;
	int err;

	/* Until after the fork, in both: a handler of the program in the child would come too early. */
	thread_signals_block(&signals);
	lock_acquire(&f->lock);
	f->signals = signals;
	tree_before_fork(&weir->containers);
	lock_acquire(&weir->lock);
	f->handed = !hand_over_prepare(weir);
	if (f->handed)
		return 0;
	err = reclaim_hold_for_fork(&weir->reclaim);
	store_relaxed(&f->stage, FORK_PLAIN);
	return err;
}

void fork_end(struct weir *weir)
{
	const sigset_t signals = weir->fork.signals;

	lock_release(&weir->lock);
	tree_fork_end(&weir->containers);
	lock_release(&weir->fork.lock);
	thread_signals_restore(&signals);
}

void weir_after_fork(struct weir *weir)
{
	struct fork *f = &weir->fork;
	uint32_t stage = FORK_READY;

	if (f->handed) {
		/* Else the background thread would not see the child go. */
		pass_close(f->theirs);
		/* Pairs with the acquire in child_wait. */
		if (cas_release(&f->stage, &stage, FORK_RETURNED))
			(void)futex_wake(&f->stage, INT32_MAX);
		while ((stage = load_acquire(&f->stage)) != FORK_OVER)
			(void)futex_wait(&f->stage, stage, 0);
	} else {
		reclaim_release(&weir->reclaim);
	}
	store_relaxed(&f->stage, FORK_NONE);
	fork_end(weir);
}

bool fork_wait(struct weir *weir, uint32_t turns)
{
	for (uint32_t i = 0; load_relaxed(&weir->vm.forking); i++) {
		if (i == turns)
			return false;
		sleep_ns(NAP_NS);
	}
	return true;
}

bool fork_discard(struct weir *weir, void *addr, uint64_t bytes)
{
	enum { TURNS = 50 };

	/* Not for long: who forks may wait for what this thread holds. */
	if (fork_wait(weir, TURNS))
		return false;
	memset(addr, 0, bytes);
	return true;
}
