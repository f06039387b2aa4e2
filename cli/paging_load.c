/* SPDX-License-Identifier: BSD-2-Clause */
#include "paging_load.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/base.h"
#include "bench_text.h"
#include "os/mem.h"
#include "os/thread.h"

/* Of a page: a word that says which it is, one that writes add to, and words that a touch looks at. */
enum {
	WORD_TAG = 8,
	WORD_COUNT = 9,
	WORD_FIRST = 16,
	WORDS = 512,
	SAMPLES = 1024,
	BURST = 16,
	PATIENCE = 1000
};

static uint64_t *samples; /* SAMPLES pages of text, and as many of noise */
static const uint64_t zeroes[WORDS];

static uint64_t random_step(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

int load_contents_make(void)
{
	static uint64_t first[SAMPLES];
	uint64_t state = 0x2545f4914f6cdd1d;

	samples = mem_alloc((size_t)2 * SAMPLES * PAGE_SIZE);
	if (!samples)
		return -ENOMEM;
	bench_words_make();
	bench_text_fill((char *)samples, SAMPLES, first);
	for (size_t i = (size_t)SAMPLES * WORDS; i < (size_t)2 * SAMPLES * WORDS; i++)
		samples[i] = random_step(&state);
	return 0;
}

static const uint64_t *sample_of(enum contents contents, uint32_t page)
{
	const uint64_t *from = samples + (contents == RANDOM ? (size_t)SAMPLES * WORDS : 0);

	if (contents == ZERO)
		return zeroes;
	return from + (size_t)((page * 2654435761u >> 7) % SAMPLES) * WORDS;
}

static uint64_t tag_of(enum contents contents, uint32_t page)
{
	return contents == ZERO ? 0 : (page + 1) * 0x9e3779b97f4a7c15ull;
}

void load_page_make(enum contents contents, uint32_t page, void *at)
{
	uint64_t *words = at;

	memcpy(words, sample_of(contents, page), PAGE_SIZE);
	words[WORD_TAG] = tag_of(contents, page);
	words[WORD_COUNT] = 0;
}

void load_fill(char *region, uint32_t pages, enum contents contents)
{
	for (uint32_t i = 0; i < pages; i++)
		load_page_make(contents, i, region + ((size_t)i << PAGE_SHIFT));
}

/* --- one thread --- */

enum phase { WAIT, WARM, WINDOW, OVER };

static struct run {
	const struct load *load;
	struct hist *hist;
	NO_SHARING _Atomic int phase; /* (A) */
	struct member {
		NO_SHARING pthread_t thread;
		unsigned number;
		uint64_t random;
		uint32_t at, from, to;
		_Atomic uint64_t accesses, counted; /* (A) by the thread; counted: in the window */
		_Atomic bool wrong;		    /* (A) */
		struct hist hist;
	} member[LOAD_THREADS];
} run;

static uint32_t page_next(struct member *m, uint64_t r)
{
	const uint32_t pages = run.load->pages, hot = pages / 5;
	uint32_t page = (uint32_t)(r >> 8) & (pages - 1), low = (uint32_t)(r >> 8) & 0xffffff;

	switch (run.load->pattern) {
	case PATTERN_SEQ:
		page = m->at;
		m->at = m->at + 1 == m->to ? m->from : m->at + 1;
		return page;
	case PATTERN_SKEW:
		/* Four fifths of the accesses go to a fifth of the pages, which lie scattered. */
		page = (r >> 40) % 10 < 8 ? low % hot : hot + low % (pages - hot);
		return page * 0x9e3779b1u & (pages - 1);
	default:
		return page;
	}
}

/* False: not what belongs there. */
static bool touch(const struct load *load, uint32_t page, unsigned word)
{
	void *const at = load->region + ((size_t)page << PAGE_SHIFT);
	const volatile uint64_t *look = at;
	_Atomic uint64_t *words = at; /* (A) the one that is written, by all threads */

	if (look[WORD_TAG] != tag_of(load->contents, page) ||
	    look[word] != sample_of(load->contents, page)[word])
		return false;
	/* Zeroes stay zeroes. */
	if (load->write)
		add_relaxed(&words[WORD_COUNT], load->contents == ZERO ? 0 : 1);
	return true;
}

static void *member_main(void *data)
{
	struct member *m = data;
	const struct load *load = run.load;
	uint64_t n = 0, counted = 0, before;
	int phase;

	if (load->thread_begin)
		load->thread_begin();
	/* Pairs with the releases in load_run. */
	while (load_acquire(&run.phase) == WAIT)
		sched_yield();
	before = now_ns();
	while ((phase = load_acquire(&run.phase)) != OVER) {
		for (unsigned i = 0; i < BURST; i++) {
			uint64_t r = random_step(&m->random), now;
			unsigned word = WORD_FIRST + (unsigned)(r >> 33) % (WORDS - WORD_FIRST);

			if (!touch(load, page_next(m, r), word))
				store_relaxed(&m->wrong, true);
			now = now_ns();
			if (phase == WINDOW && now - before >= LOAD_WAIT_NS)
				hist_add(&m->hist, now - before);
			before = now;
		}
		n += BURST;
		if (phase == WINDOW)
			counted += BURST;
		store_relaxed(&m->accesses, n);
		store_relaxed(&m->counted, counted);
	}
	if (load->thread_end)
		load->thread_end();
	return NULL;
}

/* --- all --- */

struct usage {
	uint64_t ns, cpu_ns, major;
};

static struct usage usage_now(void)
{
	struct rusage u;

	(void)getrusage(RUSAGE_SELF, &u);
	return (struct usage){
		.ns = now_ns(),
		.cpu_ns = (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u +
			  (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u,
		.major = (uint64_t)u.ru_majflt,
	};
}

static void sleep_ns(uint64_t ns)
{
	struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u),
			     .tv_nsec = (long)(ns % 1000000000u)};

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

static void mark(const struct load *load, bool open)
{
	if (load->mark)
		load->mark(load->data, open);
}

static int members_start(const struct load *load)
{
	static unsigned seed;
	const uint32_t part = load->pages / load->threads;
	unsigned i = 0;
	int err = 0;

	for (; i < load->threads && !err; i++) {
		struct member *m = &run.member[i];

		memset(m, 0, sizeof(*m));
		m->number = i;
		m->random = 88172645463325252ull * (++seed * 7 + 3);
		m->at = m->from = i * part;
		m->to = m->from + part;
		err = -pthread_create(&m->thread, NULL, member_main, m);
	}
	if (!err)
		return 0;
	store_release(&run.phase, OVER);
	while (i-- > 1)
		pthread_join(run.member[i - 1].thread, NULL);
	return err;
}

int load_run(const struct load *load, struct load_result *result, struct hist *hist)
{
	struct usage begin, end;
	int err;

	memset(result, 0, sizeof(*result));
	run.load = load;
	store_relaxed(&run.phase, WAIT);
	err = members_start(load);
	if (err)
		return err;
	store_release(&run.phase, WARM);
	sleep_ns(load->warm_ns);
	mark(load, true);
	begin = usage_now();
	store_release(&run.phase, WINDOW);
	sleep_ns(load->window_ns);
	/* Where a single touch takes longer than that. */
	for (unsigned i = 0; i < PATIENCE && !load_relaxed(&run.member[0].counted); i++)
		sleep_ns(10000000);
	store_release(&run.phase, OVER);
	end = usage_now();
	mark(load, false);
	for (unsigned i = 0; i < load->threads; i++) {
		struct member *m = &run.member[i];

		pthread_join(m->thread, NULL);
		result->accesses += load_relaxed(&m->counted);
		if (load->write && load->contents != ZERO)
			result->writes += load_relaxed(&m->accesses);
		result->wrong |= load_relaxed(&m->wrong);
		hist_merge(hist, &m->hist);
	}
	result->per_s = (double)result->accesses * 1e9 / (double)(end.ns - begin.ns);
	result->cpus = (double)(end.cpu_ns - begin.cpu_ns) / (double)(end.ns - begin.ns);
	result->major = end.major - begin.major;
	return 0;
}

uint64_t load_verify(const char *region, uint32_t pages, enum contents contents)
{
	static _Alignas(4096) uint64_t page[WORDS];
	uint64_t sum = 0;

	for (uint32_t i = 0; i < pages; i++) {
		const void *there = region + ((size_t)i << PAGE_SHIFT);
		const uint64_t *at = there;

		load_page_make(contents, i, page);
		page[WORD_COUNT] = at[WORD_COUNT];
		sum += page[WORD_COUNT];
		if (memcmp(page, at, PAGE_SIZE))
			return UINT64_MAX;
	}
	return sum;
}
