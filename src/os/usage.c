/* SPDX-License-Identifier: BSD-2-Clause */
#include "os/usage.h"

#include <linux/perf_event.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void usage_open(struct usage_meter *meter)
{
	static const uint64_t config[USAGE_COUNTERS] = {
		[USAGE_SWITCHES] = PERF_COUNT_SW_CONTEXT_SWITCHES,
		[USAGE_MIGRATIONS] = PERF_COUNT_SW_CPU_MIGRATIONS,
		[USAGE_FAULTS] = PERF_COUNT_SW_PAGE_FAULTS,
	};

	for (unsigned i = 0; i < USAGE_COUNTERS; i++) {
		struct perf_event_attr attr = {
			.type = PERF_TYPE_SOFTWARE,
			.size = sizeof(attr),
			.config = config[i],
			.inherit = 1,
		};

		meter->fd[i] = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1,
					    (unsigned long)PERF_FLAG_FD_CLOEXEC);
	}
}

static uint64_t process_ns(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t))
		return 0;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void usage_read(const struct usage_meter *meter, struct usage *usage)
{
	struct rusage r = {0};

	(void)getrusage(RUSAGE_SELF, &r);
	*usage = (struct usage){
		.wall_ns = now_ns(),
		.task_ns = process_ns(),
		.counter = {[USAGE_SWITCHES] = (uint64_t)r.ru_nvcsw + (uint64_t)r.ru_nivcsw,
			    [USAGE_MIGRATIONS] = USAGE_UNKNOWN,
			    [USAGE_FAULTS] = (uint64_t)r.ru_minflt + (uint64_t)r.ru_majflt},
	};
	for (unsigned i = 0; i < USAGE_COUNTERS; i++) {
		uint64_t value;

		if (meter->fd[i] >= 0 && read(meter->fd[i], &value, sizeof(value)) == sizeof(value))
			usage->counter[i] = value;
	}
}

void usage_close(struct usage_meter *meter)
{
	for (unsigned i = 0; i < USAGE_COUNTERS; i++) {
		if (meter->fd[i] >= 0)
			close(meter->fd[i]);
		meter->fd[i] = -1;
	}
}

struct usage usage_since(const struct usage *before, const struct usage *after)
{
	struct usage d = {
		.wall_ns = after->wall_ns - before->wall_ns,
		.task_ns = after->task_ns - before->task_ns,
	};

	for (unsigned i = 0; i < USAGE_COUNTERS; i++)
		d.counter[i] = after->counter[i] == USAGE_UNKNOWN
				       ? USAGE_UNKNOWN
				       : after->counter[i] - before->counter[i];
	return d;
}
