/* SPDX-License-Identifier: BSD-2-Clause */
#include "control/container.h"

#include <errno.h>
#include <string.h>

void container_init(struct container *container, uint64_t max)
{
	memset(container, 0, sizeof(*container));
	container_set_max(container, max);
}

void container_set_max(struct container *container, uint64_t max)
{
	uint64_t gap = MAX(MIN(max / 16, MIB(8)), MIN(max / 2, 16 * PAGE_SIZE));

	store_relaxed(&container->max, max);
	store_relaxed(&container->high, max - gap);
}

static void peak_raise(struct container *container, int64_t now)
{
	int64_t peak = load_relaxed(&container->peak);

	while (now > peak && !cas_relaxed(&container->peak, &peak, now))
		;
}

bool container_try(struct container *container, enum charge_kind kind, uint64_t bytes)
{
	int64_t now = add_relaxed(&container->charged, (int64_t)bytes) + (int64_t)bytes;
	int64_t slack =
		container->ops.slack ? (int64_t)container->ops.slack(container->ops.data) : 0;

	/* Taking back what did not fit may fail a smaller charge beside it that would have: that one then asks
	 * for room and tries again. */
	if (now + slack > (int64_t)load_relaxed(&container->max)) {
		sub_relaxed(&container->charged, (int64_t)bytes);
		return false;
	}
	add_relaxed(&container->usage[kind], (int64_t)bytes);
	peak_raise(container, now);
	return true;
}

int container_charge(struct container *container, enum charge_kind kind, uint64_t bytes)
{
	while (!container_try(container, kind, bytes)) {
		if (!container->ops.make_room ||
		    !container->ops.make_room(container->ops.data, bytes))
			return -ENOMEM;
	}
	return 0;
}

void container_force(struct container *container, enum charge_kind kind, uint64_t bytes)
{
	int64_t now = add_relaxed(&container->charged, (int64_t)bytes) + (int64_t)bytes;

	add_relaxed(&container->usage[kind], (int64_t)bytes);
	peak_raise(container, now);
}

void container_uncharge(struct container *container, enum charge_kind kind, uint64_t bytes)
{
	int64_t before = sub_relaxed(&container->usage[kind], (int64_t)bytes);

	assert_always(before >= (int64_t)bytes);
	sub_relaxed(&container->charged, (int64_t)bytes);
}
