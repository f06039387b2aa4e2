/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench_bare.h"

#include <errno.h>
#include <string.h>

#include "crew.h"
#include "os/mem.h"
#include "os/signal.h"
#include "os/thread.h"

static struct {
	int uffd;
	char *region;
	uint32_t pages;
	_Alignas(4096) char page[PAGE_SIZE];
} bare;

static int region_open(uint32_t pages, int uffd)
{
	const size_t bytes = (size_t)pages << PAGE_SHIFT;

	if (uffd < 0)
		return uffd;
	bare.uffd = uffd;
	bare.pages = pages;
	memset(bare.page, 1, sizeof(bare.page));
	bare.region = mem_region_map(bytes, MIB(2));
	if (!bare.region)
		return -ENOMEM;
	return uffd_register(uffd, bare.region, bytes, UFFD_MISSING);
}

static void region_close(void)
{
	if (bare.uffd >= 0)
		(void)uffd_close(bare.uffd);
	mem_release(bare.region, (size_t)bare.pages << PAGE_SHIFT);
	bare.region = NULL;
}

static void serve(void *data, struct crew_member *member, const struct uffd_fault *fault)
{
	(void)data;
	(void)member;
	(void)uffd_copy(bare.uffd, (void *)fault->address, bare.page, PAGE_SIZE, false, NULL);
}

int bench_bare_thread(uint32_t pages, void (*measure)(char *region, uint32_t pages))
{
	static struct crew crew;
	cpu_set_t before;
	int err = region_open(pages, uffd_open(0));

	if (!err)
		err = thread_affinity_get(0, &before);
	crew = (struct crew){
		.uffd = bare.uffd,
		.way = CREW_READ,
		.count = 1,
		.cpu = thread_cpu_now(),
		.serve = serve,
	};
	if (!err)
		err = crew_start(&crew);
	if (!err) {
		(void)thread_bind(0, crew.cpu);
		measure(bare.region, pages);
		(void)thread_affinity_set(0, &before);
		crew_stop(&crew);
	}
	region_close();
	return err;
}

static bool serve_signal(const struct bus_fault *fault)
{
	if (fault->address - (uintptr_t)bare.region >= (size_t)bare.pages << PAGE_SHIFT)
		return false;
	return uffd_copy(bare.uffd, (void *)ALIGN_DOWN(fault->address, PAGE_SIZE), bare.page,
			 PAGE_SIZE, false, NULL) == 0;
}

int bench_bare_signal(uint32_t pages, void (*measure)(char *region, uint32_t pages))
{
	uint64_t has;
	int err = uffd_probe_user(&has);

	if (!err && !(has & UFFD_HAS_SIGBUS))
		err = -ENOSYS;
	if (!err)
		err = region_open(pages, uffd_open_user(UFFD_HAS_SIGBUS));
	if (!err)
		err = bus_handler_install(serve_signal);
	if (!err) {
		measure(bare.region, pages);
		bus_handler_remove();
	}
	region_close();
	return err;
}
