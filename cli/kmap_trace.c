/* SPDX-License-Identifier: BSD-2-Clause */
#include "kmap_trace.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "bench_text.h"
#include "instance.h"
#include "kmap_rig.h"
#include "os/mem.h"

enum { THREADS = 2, ACCESSES_MOST = 4000000 };

struct recorder {
	struct kmap_trace *trace;
	_Atomic uint32_t next; /* (A) place in the trace, may go beyond it */
	_Atomic bool on;       /* (A) */
};

struct toucher {
	pthread_t thread;
	struct recorder *recorder;
	volatile char *region;
	uint32_t pages;
	uint64_t seed;
};

static void record(void *data, weir_pfn_t pfn)
{
	struct recorder *r = data;
	uint32_t at;

	if (!load_relaxed(&r->on))
		return;
	at = add_relaxed(&r->next, 1);
	if (at < r->trace->room)
		r->trace->key[at] = pfn >> (KMAP_RIG_SHIFT - PAGE_SHIFT);
}

static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Four of five accesses to a fifth of the pages, one in four a write, until the trace is full. */
static void *touch(void *data)
{
	struct toucher *t = data;

	for (unsigned i = 0; i < ACCESSES_MOST; i++) {
		const uint64_t r = random_next(&t->seed);
		const uint32_t of = (r & 0xff) < 205 ? t->pages / 5 : t->pages;
		volatile char *at = t->region + ((r >> 20) % of << PAGE_SHIFT);

		if ((r >> 8 & 3) == 0)
			(*at)++;
		else
			(void)*at;
		if (load_relaxed(&t->recorder->next) >= t->recorder->trace->room)
			break;
	}
	return NULL;
}

/* Both at once: neighbours in the trace are of any thread. */
static int touch_all(struct recorder *r, char *region, uint64_t bytes)
{
	struct toucher t[THREADS];
	unsigned started = 0;
	int err = 0;

	store_relaxed(&r->on, true);
	for (; started < THREADS && !err; started += !err) {
		t[started] = (struct toucher){.recorder = r,
					      .region = region,
					      .pages = (uint32_t)(bytes >> PAGE_SHIFT),
					      .seed = 88172645463325252u + started};
		err = -pthread_create(&t[started].thread, NULL, touch, &t[started]);
	}
	for (unsigned i = 0; i < started; i++)
		pthread_join(t[i].thread, NULL);
	store_relaxed(&r->on, false);
	return err;
}

static void summarize(struct kmap_trace *trace, const struct recorder *r, struct weir *weir,
		      const struct weir_stats *before, uint64_t ns)
{
	struct weir_stats after = {.size = sizeof(after)};
	uint64_t hits, misses;

	(void)weir_stats_read(weir, &after);
	hits = after.kmap_hits - before->kmap_hits;
	misses = after.kmap_misses - before->kmap_misses;
	trace->count = MIN(load_relaxed(&r->next), trace->room);
	for (unsigned i = 0; i < trace->count; i++)
		trace->keys = MAX(trace->keys, trace->key[i] + 1);
	trace->us_apart = trace->count ? (double)ns / 1000 / trace->count : 0;
	trace->hits = hits + misses ? 100.0 * (double)hits / (double)(hits + misses) : 0;
	trace->waits = after.kmap_waits - before->kmap_waits;
	trace->busy = after.kmap_busy - before->kmap_busy;
}

static int record_with(struct weir *weir, struct kmap_trace *trace, uint64_t bytes,
		       uint64_t *first_word)
{
	struct recorder r = {.trace = trace};
	struct weir_stats before = {.size = sizeof(before)};
	uint64_t began;
	void *region;
	int err;

	/* Nothing is compressed yet. */
	weir->memory.trace_data = &r;
	weir->memory.trace = record;
	err = weir_region_create(weir, bytes, &region);
	if (err)
		return err;
	bench_text_fill(region, (uint32_t)(bytes >> PAGE_SHIFT), first_word);
	(void)weir_stats_read(weir, &before);
	began = now_ns();
	err = touch_all(&r, region, bytes);
	summarize(trace, &r, weir, &before, now_ns() - began);
	/* The recorder ends here; compressing may not. */
	(void)weir_region_destroy(weir, region);
	return err;
}

static size_t trace_bytes(const struct kmap_trace *trace)
{
	return ALIGN_UP(trace->room * sizeof(*trace->key), PAGE_SIZE);
}

int kmap_trace_record(struct kmap_trace *trace, unsigned room, uint64_t bytes, unsigned slots)
{
	const struct weir_options options = {
		.size = sizeof(options), .limit = bytes / 2, .kmap_slots = slots};
	const size_t words = (bytes >> PAGE_SHIFT) * sizeof(uint64_t);
	uint64_t *first_word = mem_alloc(words);
	struct weir *weir;
	int err;

	*trace = (struct kmap_trace){.room = room};
	trace->key = mem_alloc(trace_bytes(trace));
	err = trace->key && first_word ? weir_open(&options, &weir) : -ENOMEM;
	if (!err) {
		bench_words_make();
		err = record_with(weir, trace, bytes, first_word);
		weir_close(weir);
	}
	mem_release(first_word, words);
	return err;
}

void kmap_trace_destroy(struct kmap_trace *trace)
{
	mem_release(trace->key, trace_bytes(trace));
	trace->key = NULL;
}
