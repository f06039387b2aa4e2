/* SPDX-License-Identifier: BSD-2-Clause */
/* What can be read of a container: events, counts, figures, pressure. */
#include "control/container.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "os/thread.h"

void container_event(struct weir_container *container, enum container_event event)
{
	add_relaxed(&container->local[event], 1);
	for (struct weir_container *c = container; c; c = c->parent)
		add_relaxed(&c->all[event], 1);
}

void container_count(struct weir_container *container, enum container_count count, uint64_t n)
{
	for (struct weir_container *c = container; c; c = c->parent)
		add_relaxed(&c->count[count], n);
}

void weir_container_events(struct weir_container *c, int local, struct weir_events *events)
{
	const _Atomic uint64_t *n = local ? c->local : c->all;

	*events = (struct weir_events){
		.low = load_relaxed(&n[EVENT_LOW]),
		.high = load_relaxed(&n[EVENT_HIGH]),
		.max = load_relaxed(&n[EVENT_MAX]),
		.oom = load_relaxed(&n[EVENT_OOM]),
		.swap_max = load_relaxed(&n[EVENT_SWAP_MAX]),
		.swap_fail = load_relaxed(&n[EVENT_SWAP_FAIL]),
	};
}

int weir_container_stat(struct weir_container *c, struct weir_container_stat *out)
{
	const struct control_ops *ops = &c->tree->ops;
	struct weir_container_stat s = {
		.size = MIN(out->size, sizeof(s)),
		.anon = container_usage(c, CHARGE_RESIDENT),
		.file = container_usage(c, CHARGE_FILE),
		.compressed = container_usage(c, CHARGE_COMPRESSED),
		.soft_faults = load_relaxed(&c->count[COUNT_SOFT]),
		.major_faults = load_relaxed(&c->count[COUNT_MAJOR]),
		.refaults = load_relaxed(&c->count[COUNT_REFAULTS]),
		.scanned = load_relaxed(&c->count[COUNT_SCANNED]),
		.stolen = load_relaxed(&c->count[COUNT_STOLEN]),
		.charge_failures = load_relaxed(&c->count[COUNT_FAILURES]),
	};

	if (out->size < sizeof(out->size))
		return -EINVAL;
	if (ops->stat)
		ops->stat(ops->data, c, &s);
	memcpy(out, &s, s.size);
	return 0;
}

void container_fault_note(struct weir_container *container, int tid, uint64_t now)
{
	for (struct weir_container *c = container; c; c = c->parent)
		pressure_note(&c->pressure, tid, now);
}

void container_stall_begin(struct weir_container *container, int tid, uint64_t now)
{
	for (struct weir_container *c = container; c; c = c->parent)
		pressure_begin(&c->pressure, tid, now);
}

void container_stall_end(struct weir_container *container, uint64_t now)
{
	for (struct weir_container *c = container; c; c = c->parent)
		pressure_end(&c->pressure, now);
}

void weir_container_pressure(struct weir_container *c, struct weir_pressure *out)
{
	uint64_t total[PRESSURE_KINDS];
	uint32_t avg10[PRESSURE_KINDS];
	THREAD_SIGNALS_BLOCKED;

	pressure_read(&c->pressure, now_ns(), total, avg10);
	*out = (struct weir_pressure){
		.some_us = total[PRESSURE_SOME] / 1000,
		.full_us = total[PRESSURE_FULL] / 1000,
		.some_avg10 = (unsigned)((uint64_t)avg10[PRESSURE_SOME] * 10000 / PRESSURE_ONE),
		.full_avg10 = (unsigned)((uint64_t)avg10[PRESSURE_FULL] * 10000 / PRESSURE_ONE),
	};
}

int weir_pressure_print(const struct weir_pressure *p, char *text, size_t room)
{
	return snprintf(text, room,
			"some avg10=%u.%02u total=%llu\nfull avg10=%u.%02u total=%llu\n",
			p->some_avg10 / 100, p->some_avg10 % 100, (unsigned long long)p->some_us,
			p->full_avg10 / 100, p->full_avg10 % 100, (unsigned long long)p->full_us);
}
