/* SPDX-License-Identifier: BSD-2-Clause */
#include "lost.h"

#include <setjmp.h>
#include <signal.h>

static _Thread_local sigjmp_buf back;
static _Thread_local volatile uintptr_t expected; /* a page, or 0 */

static void on_bus(int signal, siginfo_t *info, void *context)
{
	(void)context;
	if (expected && ALIGN_DOWN((uintptr_t)info->si_addr, PAGE_SIZE) == expected)
		siglongjmp(back, 1);
	FAIL("signal %d at %p, where %#" PRIxPTR " may be lost", signal, info->si_addr, expected);
}

void lost_init(void)
{
	struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER};

	CHECK(!sigaction(SIGBUS, &action, NULL), "sigaction");
}

bool page_lost(const void *address, void (*use)(void *data), void *data)
{
	if (sigsetjmp(back, 1)) {
		expected = 0;
		return true;
	}
	expected = ALIGN_DOWN((uintptr_t)address, PAGE_SIZE);
	use(data);
	expected = 0;
	return false;
}

static void touch(void *address)
{
	(void)region_byte(address);
}

bool is_lost(const struct area *area, uint32_t cell)
{
	char *address = cell_address(area, cell) + draw(&me->random, area->cell_bytes);

	doing("touch what may be lost", cell);
	return page_lost(address, touch, address);
}
