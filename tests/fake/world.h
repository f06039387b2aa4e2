/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A world for tests of vm/ and reclaim/: all layers below fault/ put together over the fake, without threads; a
 * program that touches pages; and two oracles:
 *
 *   world_check      every page word against what the kernel (the fake) has, what the stores hold, and what the
 *                    container is charged
 *   contents         what every page must read as, kept by world_write and friends, compared at every read
 *
 * Both assert with cmocka: main thread only. A failed test leaves its world as it is; the next world_open starts anew.
 */
#ifndef WEIR_TESTS_FAKE_WORLD_H
#define WEIR_TESTS_FAKE_WORLD_H

#include "../base/help.h"

#include <errno.h>

#include "fake.h"
#include "reclaim/reclaim.h"

enum { WORLD_REGIONS = 4 };

struct world_options {
	uint32_t
		max; /* of the container, in pages; 0: 16384, so that nothing presses and runs are not cut */
	uint32_t pages[WORLD_REGIONS]; /* of each region; none: one of 256 */
	size_t pool;		       /* bytes, whole blocks; 0: 16 MiB */
	size_t free_frames;	       /* of the pool, at the start; 0: all */
	bool check_each;	       /* world_check after every touch and every job */
	const char *store;	       /* URI; NULL: the file of the fake */
	bool streams; /* faults in a row bring more pages; else each fault is the first of its kind */
};

struct world {
	struct weir_pool *pool;
	uint64_t not_ours; /* frames that were taken at the start */
	uint64_t own;	   /* bytes that the test has charged itself, without a page */
	uint64_t packets; /* bytes that the mover's packets are charged with; max is so much more */
	struct tree tree;
	struct weir_container *container;
	struct compressed memory;
	struct store store;
	struct vm vm;
	struct reclaim reclaim;
	struct pager *pager; /* of the handler that serves the program's faults */
	struct pager *background;
	struct region *region[WORLD_REGIONS], *only; /* only: region[0] */
	char *content[WORLD_REGIONS];
	bool *lost
		[WORLD_REGIONS]; /* pages whose copy a test has broken: SIGBUS is right, other contents never */
	unsigned regions;
	unsigned faults; /* taken so far */
	bool check_each, streams;
};

void world_open(struct world *w, const struct world_options *options);
/* Checks, destroys all, and sees that nothing is left charged. */
void world_close(struct world *w);
/* Every invariant that holds while nobody works on a page. */
void world_check(struct world *w);

static inline uint64_t word_at(const struct world *w, unsigned region, uint32_t page)
{
	return load_relaxed(&w->region[region]->word[page]);
}
static inline uint64_t word_of(const struct world *w, uint32_t page)
{
	return word_at(w, 0, page);
}
static inline char *at(const struct world *w, uint32_t page)
{
	return page_address(w->only, page);
}
static inline char *content_of(const struct world *w, unsigned region, uint32_t page)
{
	return w->content[region] + ((size_t)page << PAGE_SHIFT);
}
/* In pages. */
static inline uint64_t resident(struct world *w)
{
	return container_usage(w->container, CHARGE_RESIDENT) >> PAGE_SHIFT;
}
static inline uint64_t compressed(struct world *w)
{
	return container_usage(w->container, CHARGE_COMPRESSED);
}

/* --- a thread of the program --- */

/* One touch until it goes through or is SIGBUS. Each fault must end with the thread woken. Returns faults taken. */
unsigned world_touch(struct world *w, unsigned region, uint32_t page, bool write);
/* Reads a page of a region, and compares. SIGBUS is a failure, unless the page was lost. */
void world_read(struct world *w, unsigned region, uint32_t page);
/* Makes a page all new, or changes one word of it. */
void world_write(struct world *w, unsigned region, uint32_t page, const char *contents);
void world_poke(struct world *w, unsigned region, uint32_t page, unsigned word, uint64_t value);
int world_discard(struct world *w, unsigned region, uint32_t page, uint32_t count, bool have_uffd);
/* One fault, without what comes after. */
enum pagein_result world_fault(struct world *w, uint32_t page, enum fault_access access);

/* Region 0 in short. */
static inline unsigned touch(struct world *w, uint32_t page, bool write)
{
	return world_touch(w, 0, page, write);
}
static inline void read_page(struct world *w, uint32_t page)
{
	world_read(w, 0, page);
}

/* --- contents --- */

/* As compressible as text; as little as can be; about three quarters of a page when packed; one word. */
void fill_text(char *page, uint64_t seed);
void fill_noise(char *page, uint64_t seed);
void fill_half_noise(char *page, uint64_t seed);
void fill_word(char *page, uint32_t word);

enum contents { TEXT, NOISE, HALF_NOISE, FILLED };
void fill_as(char *page, enum contents contents, uint64_t seed);
/* Pages [first, first + count) of region 0 written. */
void write_pages(struct world *w, uint32_t first, uint32_t count, enum contents contents);

/* --- reclaim --- */

/* Jobs until nothing is resident or a job drops nothing. Returns pages dropped. */
unsigned evict_all(struct world *w);
/* One job; asserts how many pages it dropped. */
void evict(struct world *w, unsigned expected);
/* The clock of evictions goes on, as if so many limits' worth of other pages had been dropped. */
void world_pass(struct world *w, unsigned limits);
/* Everything that is compressed in memory goes to the file, and has been there for long. Returns pages written. */
unsigned write_all(struct world *w);
/* The same with a disk that fails: until a write does. Returns its -errno. */
int write_until_failure(struct world *w);
/* So many turns of the background thread, by the caller. */
void background_turns(struct world *w, unsigned turns);

/* --- what was logged since world_open --- */
bool world_said(const char *words);

#endif
