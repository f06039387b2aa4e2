/* SPDX-License-Identifier: BSD-2-Clause */
/* The child's part of a fork with a hand-over: see fork.h. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "control/stock.h"
#include "instance.h"
#include "os/pass.h"
#include "os/thread.h"
#include "pool/pool.h"

/* Is the descriptor for this memory? Of two forks at once, one of them unannounced, it might be for the other's. */
static bool own_memory(struct weir *weir)
{
	char *bell = weir->service.doorbell, *page = weir->pager->run[0];
	const int pid = process_id();
	bool own;

	(void)mem_discard(bell, PAGE_SIZE);
	memset(page, 0, PAGE_SIZE);
	memcpy(page, &pid, sizeof(pid));
	if (uffd_copy(weir->vm.uffd, bell, page, PAGE_SIZE, false, NULL))
		return false;
	own = !memcmp(bell, page, PAGE_SIZE);
	(void)mem_discard(bell, PAGE_SIZE);
	return own;
}

/* One page of which the parent tells. */
static void page_told(struct vm *vm, page_no_t number)
{
	const page_no_t at = number & ~fork_lost;
	struct region *region = vm_find(vm, (uintptr_t)at << PAGE_SHIFT);
	uint32_t page;

	if (!region)
		return;
	page = (uint32_t)(at - page_number(region, 0));
	if (number & fork_lost)
		page_lost_after_fork(vm, region, page);
	else
		page_after_fork(region, page);
}

/* The parent stops serving, and tells what it gave. */
static int take_over(struct weir *weir, int end, bool *all)
{
	struct vm *vm = &weir->vm;
	page_no_t *pages = (page_no_t *)weir->pager->stored;
	struct fork_answer answer;
	int64_t got;
	int err = pass_send(end, &fork_take, 1, NULL, 0);

	_Static_assert(BROUGHT_AT_ONCE * sizeof(page_no_t) <= STORE_READ_BYTES, "room for it");
	if (err)
		return err;
	got = pass_receive(end, &answer, sizeof(answer), NULL, NULL);
	if (got != (int64_t)sizeof(answer) || answer.plain)
		return got < 0 ? (int)got : -EPROTO;
	*all = answer.all;
	while (answer.count) {
		got = pass_receive(end, pages, BROUGHT_AT_ONCE * sizeof(*pages), NULL, NULL);
		if (got < 0)
			return (int)got;
		for (size_t i = 0; i < (size_t)got / sizeof(*pages) && answer.count;
		     i++, answer.count--)
			page_told(vm, pages[i]);
	}
	return 0;
}

static int receive(struct weir *weir, int end, bool *leased)
{
	int fds[PASS_MOST];
	unsigned count = PASS_MOST;
	char what;
	int64_t got = pass_receive(end, &what, 1, fds, &count);

	if (got < 0)
		return (int)got;
	weir->fork.heard = true;
	/* They could not be sent, or there is no room for them. */
	if (count < 1 + (weir->reclaim.movers.trace != NULL))
		return -EPROTO;
	weir->vm.uffd = fds[0];
	for (uint32_t i = 0; i < load_relaxed(&weir->vm.regions); i++) {
		struct region *region = load_acquire(&weir->vm.region[i]);

		if (region)
			region->uffd = fds[0];
	}
	*leased = store_after_fork(weir->vm.store, fds + 1, end);
	if (weir->reclaim.movers.trace)
		weir->trace_fd = fds[count - 1];
	return own_memory(weir) ? 0 : -ESRCH;
}

/* By the child's background thread: descriptors, then pages, then handlers. */
static int child_start(struct weir *weir)
{
	const int end = weir->fork.theirs;
	bool all = false, leased = false;
	int err = thread_own_table(&end, 1);

	if (!err)
		err = receive(weir, end, &leased);
	if (!err)
		err = service_start_again(&weir->service);
	/* Here, while the parent serves what starting a thread touches. */
	if (!err && weir->published)
		err = publish_start(weir);
	if (!err)
		err = take_over(weir, end, &all);
	if (!err)
		err = uffd_nonblocking(weir->vm.uffd, false);
	if (err)
		return err;
	for (uint32_t i = 0; i < load_relaxed(&weir->vm.regions); i++) {
		struct region *region = load_acquire(&weir->vm.region[i]);

		if (region)
			region_after_fork(&weir->vm, region, all);
	}
	for (uint32_t i = 0; i < load_relaxed(&weir->vm.regions); i++) {
		struct region *region = load_acquire(&weir->vm.region[i]);

		if (region)
			region_wipe_child(&weir->vm, weir->pager, region);
	}
	mem_dropper_init(&weir->vm.dropper);
	weir->vm.self_mem = mem_self_open();
	thread_log_to_program(weir->vm.dropper.pidfd);
	if (!leased)
		pass_close(end);
	if (weir->fork.in_child)
		weir->fork.in_child(weir);
	service_read_again(&weir->service);
	return 0;
}

static void *child_main(void *data)
{
	struct weir *weir = data;
	int err = child_start(weir);

	(void)stock_open();
	/* Handlers that have been started sleep for ever; the descriptor may not stay for them. */
	if (err && weir->vm.uffd >= 0)
		(void)uffd_close(weir->vm.uffd);
	instance_started(weir, err);
	if (!err)
		reclaim_run(&weir->reclaim);
	stock_close();
	return NULL;
}

/* Nobody else has run since the fork; but threads that are not here had locks, and were waiting. */
static void child_reset(struct weir *weir)
{
	thread_log_to_program(-1);
	vm_after_fork(&weir->vm);
	reclaim_after_fork(&weir->reclaim);
	placement_after_fork(&weir->service.placement);
	tree_after_fork(&weir->containers);
	compressed_after_fork(&weir->memory);
	pool_after_fork(weir->pool);
	/* Who replaces the store waits for the background thread, with the lock: the forking one does not have it. */
	lock_init(&weir->store_lock, RANK_STORE, "store");
	store_relaxed(&weir->reclaim.quiescing, false);
	weir->vm.uffd = -1;
	weir->fork.heard = false;
	memset(weir->fork.lease, 0, sizeof(weir->fork.lease));
	weir->fork.born = (struct lease){0};
	store_relaxed(&weir->fork.stage, FORK_NONE);
	store_relaxed(&weir->fork.handed_over, 0);
	weir->publish.started = false;
	store_relaxed(&weir->visitors[0], 0);
	store_relaxed(&weir->visitors[1], 0);
}

/* The child cannot serve itself, and has said so to nobody. -ENOTSUP: it has all its pages from the parent now, and needs nobody. */
static int plain_ask(struct weir *weir)
{
	char *bell = weir->service.doorbell;
	const int end = weir->fork.theirs;
	struct fork_answer answer = {0};
	uint8_t there = 0;
	int64_t got = 0;
	char what;
	int err;

	/* Who speaks before that is taken for one that has gone. */
	if (!weir->fork.heard)
		got = pass_receive(end, &what, 1, NULL, NULL);
	if (got < 0)
		return (int)got;
	(void)mem_discard(bell, PAGE_SIZE);
	err = pass_send(end, &fork_plain, 1, NULL, 0);
	if (err)
		return err;
	/* One that took over, and failed then, has been told something else, and gets no more. */
	got = pass_receive(end, &answer, sizeof(answer), NULL, NULL);
	if (got != (int64_t)sizeof(answer) || !answer.plain)
		return got < 0 ? (int)got : -EPROTO;
	/* As in own_memory. */
	return !mem_resident(bell, PAGE_SIZE, &there) && (there & 1) ? -ENOTSUP : -ESRCH;
}

int weir_after_fork_child(struct weir *weir)
{
	int err = -ENOTSUP;

	if (weir->fork.handed) {
		child_reset(weir);
		instance_starting(weir);
		err = thread_start(&weir->background, "weir-reclaim", child_main, weir);
		if (!err)
			err = instance_start_wait(weir);
		if (err && err != -ESRCH)
			err = plain_ask(weir);
		pass_close(weir->fork.theirs);
	}
	fork_end(weir);
	return err;
}
