/* SPDX-License-Identifier: BSD-2-Clause */
#include "fault/service.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "control/stock.h"
#include "os/thread.h"

/* Initial-exec: no first use that would allocate. */
static _Thread_local struct pager *self_pager __attribute__((tls_model("initial-exec")));

struct pager *service_self(void)
{
	return self_pager;
}

void service_self_set(struct pager *pager)
{
	self_pager = pager;
}

/* Somebody else reads while this handler waits for a file. */
static void before_block(void *data)
{
	struct handler *h = data;

	readers_block(&h->service->readers, &h->place);
}

static unsigned readers_for(const struct service *s, unsigned threads)
{
	return threads > 1 ? MIN(s->handlers, s->placement.cpus) : 1;
}

/* --- serving --- */

static void serve(struct handler *h, const struct uffd_fault *fault)
{
	struct service *s = h->service;
	struct vm *vm = s->vm;
	struct region *region = vm_find(vm, fault->address);
	enum fault_access access = fault->wp	  ? ACCESS_WP
				   : fault->write ? ACCESS_WRITE
						  : ACCESS_READ;

	add_relaxed(&vm->count.faults, 1);
	/* The region is being destroyed: unregistering it lets the thread go. */
	if (!region)
		return;
	(void)pagein(vm, h->pager, region,
		     (uint32_t)((fault->address - (uintptr_t)region->base) >> PAGE_SHIFT), access);
}

static void *handler_main(void *data)
{
	struct handler *h = data;
	struct service *s = h->service;
	struct uffd_fault fault[1];

	self_pager = h->pager;
	/* Without a stock charges work too, and cost more. */
	(void)stock_open();
	for (;;) {
		uint64_t began;
		int n;

		readers_enter(&s->readers, &h->place);
		n = uffd_read(s->vm->uffd, fault, 1);
		/* A fork beside which no descriptor can be had: it waits until the program allows one again, and only it. */
		if (n == -EMFILE || n == -ENFILE || n == -ENOMEM) {
			log_once("a fork waits for a descriptor (%s): raise the limit (ulimit -n)",
				 errno_name(n));
			sleep_ns(1000000);
			continue;
		}
		if (n < 0 && n != -EINTR && n != -EAGAIN) {
			log_line("reading faults failed (%s): this handler ends, faults wait",
				 errno_name(n));
			break;
		}
		if (n <= 0)
			continue;
		if (fault[0].child) {
			before_block(h);
			s->forked(s->forked_data, h->pager, fault[0].child);
			continue;
		}
		if (fault[0].address == (uintptr_t)s->doorbell) {
			(void)uffd_zeropage(s->vm->uffd, s->doorbell, PAGE_SIZE, NULL);
			break;
		}
		/* Pairs with the fence in service_quiesce. */
		add_acq_rel(&h->serving, 1);
		began = now_ns();
		h->pager->tid = fault[0].tid;
		h->pager->began_ns = began;
		h->pager->ended_ns = 0;
		h->pager->container = NULL;
		h->pager->loads = 0;
		readers_set(&s->readers,
			    readers_for(s, placement_fault(&s->placement, fault[0].tid, &h->cpu)));
		reclaim_before_fault(s->reclaim);
		serve(h, &fault[0]);
		hist_add(&s->served_ns,
			 (h->pager->ended_ns ? h->pager->ended_ns : now_ns()) - began);
		reclaim_after_fault(s->reclaim, h->pager);
		pager_end(h->pager);
		add_acq_rel(&h->serving, 1);
		readers_yield(&s->readers, &h->place);
	}
	stock_close();
	return NULL;
}

int service_init(struct service *s, struct vm *vm, struct reclaim *reclaim, unsigned handlers,
		 enum placement_policy policy)
{
	memset(s, 0, sizeof(*s));
	s->vm = vm;
	s->reclaim = reclaim;
	placement_init(&s->placement, policy);
	/* Two at least: one may wait for a file. */
	s->handlers = handlers ? handlers : MIN(MAX(s->placement.cpus, 2u), 4u);
	s->handlers = MIN(s->handlers, (unsigned)HANDLERS_MAX);
	vm->asleep_most = s->handlers - 1;
	readers_init(&s->readers, 1);
	for (unsigned i = 0; i < s->handlers; i++) {
		struct handler *h = &s->handler[i];

		h->service = s;
		h->cpu = -1;
		h->pager = mem_alloc(ALIGN_UP(sizeof(*h->pager), PAGE_SIZE));
		if (!h->pager)
			return -ENOMEM;
		h->pager->before_block = before_block;
		h->pager->data = h;
	}
	return 0;
}

void service_stop(struct service *s)
{
	readers_stop(&s->readers);
	/* A handler that sleeps in read wakes for a fault only, so each is sent one; it ends when it has read it. */
	for (unsigned i = 0; i < s->started; i++) {
		*(volatile char *)s->doorbell = 1;
		(void)mem_discard(s->doorbell, PAGE_SIZE);
	}
	for (unsigned i = 0; i < s->started; i++)
		pthread_join(s->handler[i].thread, NULL);
	s->started = 0;
}

void service_destroy(struct service *s)
{
	for (unsigned i = 0; i < s->handlers; i++)
		mem_release(s->handler[i].pager, ALIGN_UP(sizeof(struct pager), PAGE_SIZE));
	mem_release(s->doorbell, PAGE_SIZE);
}

static int handlers_start(struct service *s)
{
	int err;

	for (unsigned i = 0; i < s->handlers; i++) {
		err = thread_start(&s->handler[i].thread, "weir-fault", handler_main,
				   &s->handler[i]);
		if (err)
			return err;
		s->started++;
	}
	return 0;
}

int service_start(struct service *s)
{
	int err;

	s->doorbell = mem_alloc_lowest(PAGE_SIZE);
	s->lowest = s->doorbell != NULL;
	if (!s->doorbell)
		s->doorbell = mem_alloc(PAGE_SIZE);
	if (!s->doorbell)
		return -ENOMEM;
	err = uffd_register(s->vm->uffd, s->doorbell, PAGE_SIZE, UFFD_MISSING);
	return err ? err : handlers_start(s);
}

int service_start_again(struct service *s)
{
	readers_init(&s->readers, 0);
	memset(&s->served_ns, 0, sizeof(s->served_ns));
	store_relaxed(&s->vm->asleep, 0);
	s->started = 0;
	for (unsigned i = 0; i < s->handlers; i++) {
		struct handler *h = &s->handler[i];

		h->place = PLACE_NONE;
		h->cpu = -1;
		store_relaxed(&h->serving, 0);
		h->pager->stalled = NULL;
		packer_after_fork(&h->pager->packer);
		h->pager->major = false;
	}
	return handlers_start(s);
}

void service_read_again(struct service *s)
{
	readers_set(&s->readers, 1);
}

void service_quiesce(struct service *s)
{
	uint64_t seen[HANDLERS_MAX] = {0};

	fence_seq_cst();
	for (unsigned i = 0; i < s->handlers; i++)
		seen[i] = load_acquire(&s->handler[i].serving);
	for (unsigned i = 0; i < s->handlers; i++) {
		unsigned waited = 0;

		while ((seen[i] & 1) && load_acquire(&s->handler[i].serving) == seen[i])
			wait_a_little(&waited);
	}
}
