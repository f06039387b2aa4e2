/* SPDX-License-Identifier: BSD-2-Clause */
#include "control/pressure.h"

#include <string.h>

void pressure_init(struct pressure *p, uint64_t now)
{
	memset(p, 0, sizeof(*p));
	lock_init(&p->lock, RANK_PRESSURE, "pressure");
	p->seen_ns = p->folded_ns = now;
}

/* Brings the averages to `to`, which is a whole number of periods later, total[] being right up to there. */
static void fold(struct pressure *p, uint64_t to)
{
	enum { KEEP = 53656 }; /* e^(-2/10) of 1 << 16 */
	uint64_t periods = (to - p->folded_ns) / PRESSURE_PERIOD_NS;

	for (unsigned kind = 0; kind < PRESSURE_KINDS; kind++) {
		uint64_t share = (p->total[kind] - p->at_fold[kind]) * PRESSURE_ONE /
				 (periods * PRESSURE_PERIOD_NS);
		uint64_t avg = p->avg10[kind];

		for (uint64_t i = 0; i < MIN(periods, 64ull); i++)
			avg = (avg * KEEP + share * (PRESSURE_ONE - KEEP)) / PRESSURE_ONE;
		p->avg10[kind] = (uint32_t)avg;
		p->at_fold[kind] = p->total[kind];
	}
	p->folded_ns = to;
}

/* Stalls went on as they were since seen_ns. */
static void run(struct pressure *p, uint64_t to)
{
	uint64_t ns = to - p->seen_ns;

	if (p->stalled)
		p->total[PRESSURE_SOME] += ns;
	if (p->stalled && p->stalled >= p->active)
		p->total[PRESSURE_FULL] += ns;
	p->seen_ns = to;
}

static void advance(struct pressure *p, uint64_t now)
{
	uint64_t border =
		p->folded_ns + (now - p->folded_ns) / PRESSURE_PERIOD_NS * PRESSURE_PERIOD_NS;

	/* Another thread was here with a later time. */
	if (now < p->seen_ns)
		return;
	if (border > p->folded_ns) {
		run(p, MAX(border, p->seen_ns));
		fold(p, border);
	}
	run(p, now);
}

/* Remembers who faults, over the one not seen for longest, and counts who was seen lately. */
static void task_note(struct pressure *p, int tid, uint64_t now)
{
	unsigned at = 0, active = 0;

	for (unsigned i = 0; i < PRESSURE_TASKS; i++) {
		if (p->task[i].tid == tid) {
			at = i;
			break;
		}
		if (p->task[i].seen_ns < p->task[at].seen_ns)
			at = i;
	}
	p->task[at].tid = tid;
	p->task[at].seen_ns = now;
	for (unsigned i = 0; i < PRESSURE_TASKS; i++)
		active += p->task[i].seen_ns && now - p->task[i].seen_ns < PRESSURE_ACTIVE_NS;
	p->active = active;
}

void pressure_note(struct pressure *p, int tid, uint64_t now)
{
	lock_acquire(&p->lock);
	advance(p, now);
	task_note(p, tid, MAX(now, p->seen_ns));
	lock_release(&p->lock);
}

void pressure_begin(struct pressure *p, int tid, uint64_t now)
{
	lock_acquire(&p->lock);
	advance(p, now);
	task_note(p, tid, MAX(now, p->seen_ns));
	p->stalled++;
	lock_release(&p->lock);
}

void pressure_end(struct pressure *p, uint64_t now)
{
	lock_acquire(&p->lock);
	advance(p, now);
	assert_always(p->stalled);
	p->stalled--;
	lock_release(&p->lock);
}

void pressure_read(struct pressure *p, uint64_t now, uint64_t total_ns[PRESSURE_KINDS],
		   uint32_t avg10[PRESSURE_KINDS])
{
	lock_acquire(&p->lock);
	advance(p, now);
	memcpy(total_ns, p->total, sizeof(p->total));
	memcpy(avg10, p->avg10, sizeof(p->avg10));
	lock_release(&p->lock);
}
