/* SPDX-License-Identifier: BSD-2-Clause */
#include "stress_fault.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>

#include "os/mem.h"
#include "os/thread.h"

enum { MODE_RND = 1, MODE_RACING = 2, MODE_VER = 4, MODE_POLL = 8 };
enum { PATIENCE_S = 30 };

/* The lock is not the first word: ThreadSanitizer holds a lock of its own over an atomic access that faults, and the handler
 * tells it of the page by the address of that word. */
struct page {
	uint64_t count; /* under the lock */
	_Atomic uint32_t lock;
	uint32_t number;
	uint64_t pattern[PAGE_SIZE / 8 - 2];
};
_Static_assert(sizeof(struct page) == PAGE_SIZE, "a page is a page");

struct toucher {
	struct state *state;
	pthread_t thread;
	unsigned number;
	uint64_t random;
	_Atomic uint64_t steps; /* (A) own thread writes */
	_Atomic bool over;	/* (A) */
	void (*body)(struct toucher *self);
};

struct state {
	struct stress_fault *run; /* &own: threads of a run that hangs outlive the caller's */
	struct stress_fault own;
	struct page *area[2];
	struct page *from, *to;
	uint64_t *expected; /* by page, under the lock of the page in `to` */
	uint32_t pages, share;
	unsigned mode;
	bool verify; /* all bytes: in bounces that say so, and in the last one */
	struct crew crew;
	struct toucher *toucher;
	unsigned touchers;   /* under way */
	_Atomic bool failed; /* (A) run->wrong is somebody's */
	_Atomic bool told;   /* (A) run->wrong is written */
};

static uint64_t mixed(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t draw(uint64_t *state)
{
	return mixed(*state += 0x9e3779b97f4a7c15u);
}

static size_t area_bytes(const struct state *s)
{
	return (size_t)s->pages << PAGE_SHIFT;
}

static void page_make(struct page *page, uint32_t number)
{
	uint64_t random = number;

	page->number = number;
	page->count = 1;
	for (unsigned i = 0; i < ARRAY_SIZE(page->pattern); i++)
		page->pattern[i] = draw(&random);
}

static bool pattern_right(const struct page *page, uint32_t number)
{
	uint64_t random = number;

	if (page->number != number)
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(page->pattern); i++) {
		if (page->pattern[i] != draw(&random))
			return false;
	}
	return true;
}

/* The first one that finds something wrong says so, and all end. */
__attribute__((format(printf, 2, 3))) static void wrong(struct state *s, const char *format, ...)
{
	va_list args;

	if (exchange_relaxed(&s->failed, true))
		return;
	va_start(args, format);
	(void)vsnprintf(s->run->wrong, sizeof(s->run->wrong), format, args);
	va_end(args);
	/* Pairs with the acquire in stress_fault_run. */
	store_release(&s->told, true);
}

static void wrong_count(struct state *s, uint32_t number, uint64_t count, uint64_t expected)
{
	wrong(s, "page %" PRIu32 ": counter %" PRIu64 ", expected %" PRIu64, number, count,
	      expected);
}

/* --- who faults --- */

static void page_lock(struct page *page)
{
	/* Pairs with the release in page_unlock. This is the access that faults. */
	while (exchange_acquire(&page->lock, 1))
		sched_yield();
}

static void page_unlock(struct page *page)
{
	store_release(&page->lock, 0);
}

static void touch(struct state *s, uint32_t number)
{
	struct page *page = &s->to[number];

	page_lock(page);
	if (page->count != s->expected[number])
		wrong_count(s, number, page->count, s->expected[number]);
	page->count++;
	s->expected[number]++;
	page_unlock(page);
}

static void step(struct toucher *t)
{
	store_relaxed(&t->steps, load_relaxed(&t->steps) + 1);
}

static void touch_pages(struct toucher *t)
{
	struct state *s = t->state;
	const bool racing = s->mode & MODE_RACING;
	const uint32_t count = racing ? s->pages : s->share;
	const uint32_t first = racing ? 0 : t->number * s->share;

	for (uint32_t i = 0; i < count && !load_relaxed(&s->failed); i++) {
		uint32_t at = s->mode & MODE_RND ? (uint32_t)(draw(&t->random) % count) : i;

		touch(s, first + at);
		step(t);
	}
}

/* Brings over what nobody has touched, and compares: counters always, all bytes where the bounce verifies. */
static void check_pages(struct toucher *t)
{
	struct state *s = t->state;

	for (uint32_t i = 0; i < s->pages && !load_relaxed(&s->failed); i++, step(t)) {
		const struct page *page = &s->to[i];

		if (page->count != s->expected[i])
			wrong_count(s, i, page->count, s->expected[i]);
		else if (s->from[i].count > page->count)
			wrong_count(s, i, page->count, s->from[i].count);
		else if (s->verify && !pattern_right(page, i))
			wrong(s,
			      "page %" PRIu32 ": wrong contents; counter %" PRIu64 " of %" PRIu64,
			      i, page->count, s->expected[i]);
	}
}

static void *toucher_main(void *data)
{
	struct toucher *t = data;

	t->body(t);
	store_release(&t->over, true);
	return NULL;
}

/* --- who serves --- */

static int install(int uffd, char *dst, const char *src)
{
	return uffd_copy(uffd, dst, src, PAGE_SIZE, false, NULL);
}

static void serve(void *data, struct crew_member *member, const struct uffd_fault *fault)
{
	struct state *s = data;
	uintptr_t offset = ALIGN_DOWN(fault->address, PAGE_SIZE) - (uintptr_t)s->to;
	char *dst = (char *)s->to + offset;
	int err;

	(void)member;
	if (offset >= area_bytes(s)) {
		wrong(s, "a fault at %#" PRIxPTR ", outside of the area", fault->address);
		return;
	}
	err = (s->run->install ? s->run->install : install)(s->crew.uffd, dst,
							    (char *)s->from + offset);
	/* Several threads wait for one page: the others' messages find it there. */
	if (err == -EEXIST || err == -EAGAIN)
		(void)uffd_wake(s->crew.uffd, dst, PAGE_SIZE);
	else if (err)
		wrong(s, "page %zu cannot be installed: errno %d", (size_t)(offset >> PAGE_SHIFT),
		      -err);
}

/* --- a bounce --- */

static uint64_t progress(struct state *s)
{
	uint64_t sum = crew_served(&s->crew);

	for (unsigned i = 0; i < s->touchers; i++)
		sum += load_relaxed(&s->toucher[i].steps);
	return sum;
}

static bool all_over(struct state *s)
{
	for (unsigned i = 0; i < s->touchers; i++) {
		/* Pairs with the release in toucher_main. */
		if (!load_acquire(&s->toucher[i].over))
			return false;
	}
	return true;
}

static int hang_tell(struct state *s)
{
	uintptr_t at = 0;
	unsigned who = 0;

	/* Something wrong was found before, and somebody waits for a page that does not come. Pairs with wrong. */
	if (load_acquire(&s->told))
		return -EBADMSG;

	for (unsigned i = 0; i < s->crew.count && !at; i++) {
		at = load_relaxed(&s->crew.member[i].serving);
		who = i;
	}
	if (at)
		wrong(s, "nothing goes on: handler %u does not come back from page %zu", who,
		      (size_t)((at - (uintptr_t)s->to) >> PAGE_SHIFT));
	else
		wrong(s, "nothing goes on: a fault was read and not served, or nobody was woken "
			 "for it");
	return -ETIMEDOUT;
}

/* Until all have touched their pages. */
static int touchers_wait(struct state *s)
{
	const uint64_t patience =
		(uint64_t)(s->run->patience_s ? s->run->patience_s : PATIENCE_S) * 1000000000u;
	uint64_t seen = progress(s), since = now_ns();

	while (!all_over(s)) {
		uint64_t now = progress(s);

		if (now != seen)
			since = now_ns();
		else if (now_ns() - since > (load_relaxed(&s->failed) ? 1000000000u : patience))
			return hang_tell(s);
		seen = now;
		sleep_ns(1000000);
	}
	for (unsigned i = 0; i < s->touchers; i++)
		pthread_join(s->toucher[i].thread, NULL);
	return 0;
}

static void bounce_print(const struct state *s, unsigned number)
{
	FILE *out = s->run->out;

	if (!out)
		return;
	fprintf(out, "bounces: %u, mode:%s%s%s%s, userfaults:", number,
		s->mode & MODE_RND ? " rnd" : "", s->mode & MODE_RACING ? " racing" : "",
		s->mode & MODE_VER ? " ver" : "", s->mode & MODE_POLL ? " poll" : "");
	for (unsigned i = 0; i < s->crew.count; i++)
		fprintf(out, " %" PRIu64, load_relaxed(&s->crew.member[i].served));
	fputc('\n', out);
}

/* Runs body in so many threads. An error leaves threads behind. */
static int touchers_run(struct state *s, unsigned count, unsigned bounce,
			void (*body)(struct toucher *self))
{
	for (s->touchers = 0; s->touchers < count; s->touchers++) {
		struct toucher *t = &s->toucher[s->touchers];
		int err;

		*t = (struct toucher){
			.state = s,
			.number = s->touchers,
			.random = mixed(s->run->seed ^ (uint64_t)bounce << 32 ^ s->touchers),
			.body = body,
		};
		err = thread_start(&t->thread, "touch", toucher_main, t);
		if (err)
			return err;
	}
	return touchers_wait(s);
}

static int bounce(struct state *s, unsigned number)
{
	struct page *was = s->from;
	int err;

	s->mode = number & 15;
	s->verify = s->mode & MODE_VER || number == 0;
	s->crew.way = s->run->way;
	/* A bounce without `poll` blocks in read; waiting by epoll is a way of its own. */
	if (s->run->way == CREW_READ && s->mode & MODE_POLL)
		s->crew.way = CREW_POLL;
	s->crew.poll = s->run->way == CREW_ONE && s->mode & MODE_POLL;
	err = uffd_register(s->crew.uffd, s->to, area_bytes(s), UFFD_MISSING);
	if (!err)
		err = crew_start(&s->crew);
	if (!err)
		err = touchers_run(s, s->run->cpus, number, touch_pages);
	if (!err)
		err = touchers_run(s, 1, number, check_pages);
	if (err)
		return err;
	s->run->woken += load_relaxed(&s->crew.places.woken);
	crew_stop(&s->crew);
	s->run->faults += crew_served(&s->crew);
	s->run->in_read_most = MAX(s->run->in_read_most, load_relaxed(&s->crew.in_read_most));
	bounce_print(s, number);
	err = uffd_unregister(s->crew.uffd, s->to, area_bytes(s));
	if (!err)
		err = mem_discard(s->from, area_bytes(s));
	s->from = s->to;
	s->to = was;
	return err;
}

/* --- a run --- */

uint32_t stress_fault_pages(const struct stress_fault *run)
{
	uint64_t pages = run->bytes >> PAGE_SHIFT;

	return (uint32_t)(pages - pages % run->cpus);
}

static int state_open(struct state *s, struct stress_fault *run)
{
	s->own = *run;
	s->run = &s->own;
	s->pages = stress_fault_pages(run);
	s->share = s->pages / run->cpus;
	s->expected = mem_alloc(ALIGN_UP(s->pages * sizeof(uint64_t), PAGE_SIZE));
	s->toucher = mem_alloc(ALIGN_UP(run->cpus * sizeof(struct toucher), PAGE_SIZE));
	for (unsigned i = 0; i < 2; i++)
		s->area[i] = mem_region_map(area_bytes(s), MIB(2));
	if (!s->expected || !s->toucher || !s->area[0] || !s->area[1])
		return -ENOMEM;
	s->crew = (struct crew){
		.uffd = uffd_open(0),
		.count = run->cpus,
		.readers = run->cpus,
		.cpu = -1,
		.serve = serve,
		.data = s,
	};
	/* As weir's own service has it: no more readers than CPUs. */
	s->crew.readers = MIN(run->cpus, thread_cpu_count());
	s->from = s->area[0];
	s->to = s->area[1];
	for (uint32_t i = 0; i < s->pages; i++) {
		page_make(&s->from[i], i);
		s->expected[i] = 1;
	}
	return s->crew.uffd < 0 ? s->crew.uffd : 0;
}

static void state_close(struct state *s)
{
	if (s->crew.uffd >= 0)
		(void)uffd_close(s->crew.uffd);
	for (unsigned i = 0; i < 2; i++)
		mem_release(s->area[i], area_bytes(s));
	mem_release(s->toucher, ALIGN_UP(s->run->cpus * sizeof(struct toucher), PAGE_SIZE));
	mem_release(s->expected, ALIGN_UP(s->pages * sizeof(uint64_t), PAGE_SIZE));
}

int stress_fault_run(struct stress_fault *run)
{
	/* Threads of a run that hangs still use it when this returns. */
	struct state *s = mem_alloc(ALIGN_UP(sizeof(*s), PAGE_SIZE));
	struct usage_meter meter;
	struct usage before, after;
	bool wrong_pages = false;
	int err;

	if (!s)
		return -ENOMEM;
	run->faults = run->woken = 0;
	run->in_read_most = 0;
	err = state_open(s, run);
	if (err)
		goto out;
	usage_open(&meter);
	usage_read(&meter, &before);
	for (unsigned i = run->bounces; i-- > 0 && !err && !load_relaxed(&s->failed);)
		err = bounce(s, i);
	usage_read(&meter, &after);
	usage_close(&meter);
	run->used = usage_since(&before, &after);
	run->faults = s->own.faults;
	run->woken = s->own.woken;
	run->in_read_most = s->own.in_read_most;
	/* Pairs with the release in wrong. */
	if (load_acquire(&s->told)) {
		memcpy(run->wrong, s->own.wrong, sizeof(run->wrong));
		wrong_pages = true;
	}
	if (err)
		return err; /* its threads may be under way */
	err = wrong_pages ? -EBADMSG : 0;
out:
	state_close(s);
	mem_release(s, ALIGN_UP(sizeof(*s), PAGE_SIZE));
	return err;
}
