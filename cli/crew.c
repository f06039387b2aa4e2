/* SPDX-License-Identifier: BSD-2-Clause */
#include "crew.h"

#include <errno.h>

#include "base/log.h"
#include "os/mem.h"
#include "os/thread.h"

const char *const crew_way_name[CREW_WAYS] = {"weir", "one", "read", "poll", "epoll"};

/* Each of those who read wakes for a fault: how many are there at a time? */
static void count_in(struct crew *crew)
{
	uint32_t in = add_relaxed(&crew->in_read, 1) + 1, most = load_relaxed(&crew->in_read_most);

	while (in > most && !cas_relaxed(&crew->in_read_most, &most, in))
		;
}

/* The next fault; 0 or less: none this time. */
static int next_fault(struct crew_member *m, struct uffd_fault *fault)
{
	struct crew *crew = m->crew;
	int n;

	if (crew->way <= CREW_ONE) {
		readers_enter(&crew->places, &m->place);
		/* Without a place: all are to end. */
		if (m->place == PLACE_READING)
			count_in(crew);
	}
	if (crew->way == CREW_EPOLL)
		(void)uffd_queue_wait(m->queue);
	else if (crew->way == CREW_POLL || crew->poll)
		(void)uffd_poll(crew->uffd);
	n = uffd_read(crew->uffd, fault, 1);
	if (crew->way <= CREW_ONE && m->place == PLACE_READING)
		sub_relaxed(&crew->in_read, 1);
	return n;
}

static void *member_main(void *data)
{
	struct crew_member *m = data;
	struct crew *crew = m->crew;
	struct uffd_fault fault;

	if (crew->cpu >= 0)
		(void)thread_bind(0, crew->cpu);
	for (;;) {
		int n = next_fault(m, &fault);

		if (n == -EINTR || n == -EAGAIN || n == 0)
			continue;
		if (n < 0)
			panic("reading a userfaultfd failed: %s", errno_name(n));
		if (fault.address == (uintptr_t)crew->doorbell) {
			(void)uffd_zeropage(crew->uffd, crew->doorbell, PAGE_SIZE, NULL);
			return NULL;
		}
		if (crew->way == CREW_WEIR)
			readers_set(&crew->places,
				    placement_fault(&crew->placement, fault.tid, &m->cpu) > 1
					    ? crew->readers
					    : 1);
		store_relaxed(&m->serving, fault.address);
		crew->serve(crew->data, m, &fault);
		store_relaxed(&m->serving, 0);
		store_relaxed(&m->served, load_relaxed(&m->served) + 1);
		if (crew->way <= CREW_ONE)
			readers_yield(&crew->places, &m->place);
	}
}

static void members_end(struct crew *crew, unsigned started)
{
	readers_stop(&crew->places);
	/* Each doorbell is one message, which one member reads. */
	for (unsigned i = 0; i < started; i++) {
		*(volatile char *)crew->doorbell = 1;
		(void)mem_discard(crew->doorbell, PAGE_SIZE);
	}
	for (unsigned i = 0; i < started; i++)
		pthread_join(crew->member[i].thread, NULL);
	for (unsigned i = 0; i < crew->count; i++) {
		if (crew->member[i].queue >= 0)
			(void)uffd_close(crew->member[i].queue);
	}
	(void)uffd_unregister(crew->uffd, crew->doorbell, PAGE_SIZE);
	mem_release(crew->doorbell, PAGE_SIZE);
}

int crew_start(struct crew *crew)
{
	const bool waits_elsewhere =
		crew->way == CREW_POLL || crew->way == CREW_EPOLL || crew->poll;
	unsigned started = 0;
	int err = uffd_nonblocking(crew->uffd, waits_elsewhere);

	if (err)
		return err;
	crew->doorbell = mem_alloc(PAGE_SIZE);
	if (!crew->doorbell)
		return -ENOMEM;
	readers_init(&crew->places, crew->readers);
	store_relaxed(&crew->in_read, 0);
	store_relaxed(&crew->in_read_most, 0);
	placement_init(&crew->placement, PLACEMENT_AUTO);
	for (unsigned i = 0; i < crew->count; i++)
		crew->member[i] =
			(struct crew_member){.crew = crew, .number = i, .queue = -1, .cpu = -1};
	err = uffd_register(crew->uffd, crew->doorbell, PAGE_SIZE, UFFD_MISSING);
	for (; !err && started < crew->count; started++) {
		struct crew_member *m = &crew->member[started];

		if (crew->way == CREW_EPOLL) {
			m->queue = uffd_queue_open(crew->uffd);
			if (m->queue < 0) {
				err = m->queue;
				break;
			}
		}
		err = thread_start(&m->thread, "crew", member_main, m);
		if (err)
			break;
	}
	if (err)
		members_end(crew, started);
	return err;
}

void crew_stop(struct crew *crew)
{
	members_end(crew, crew->count);
}

uint64_t crew_served(const struct crew *crew)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < crew->count; i++)
		sum += load_relaxed(&crew->member[i].served);
	return sum;
}
