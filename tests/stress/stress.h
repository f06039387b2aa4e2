/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the stress of regions shares.
 *
 * Oracle. An *area* is a region whose every byte is known. It is divided into *cells* (a page, or a part of one); what
 * a cell must hold follows from the area's number, the cell's, and its *contents*: kind, seed, stamp. Cells have a lock
 * for many readers or one writer, which is only ever tried, so that nobody waits for a fault of somebody else, and
 * any thread may use any cell. The oracle lives in plain memory.
 *
 * Players. Every thread says what it does and where (doing), which also counts as progress. A watchdog fails the run
 * when one of them makes none for half a minute, and prints what all were doing, and where they are in the kernel;
 * with WEIR_STRESS_STAY in the environment the process then stays, for a debugger.
 */
#ifndef WEIR_TESTS_STRESS_H
#define WEIR_TESTS_STRESS_H

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/base.h"
#include "../regions.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SLOW = 4 }; /* how much longer things may take, and how much less of them is done */
#else
enum { SLOW = 1 };
#endif

/* What this run was started with. */
struct setup {
	uint64_t seed;
	double seconds;
	unsigned kmap_slots;
	const char *compress; /* NULL: LZ4 */
	unsigned handlers;
	enum weir_placement placement;
	enum weir_mode mode; /* BOTH: regions of either in turn */
	const char *name;    /* of the case */
};
extern struct setup setup;

/* Ends the run with 1: what went wrong, what all were doing, and how to run it again. */
_Noreturn void fail_at(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
#define FAIL(...) fail_at(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond, ...)                                                                           \
	do {                                                                                       \
		if (unlikely(!(cond)))                                                             \
			FAIL(__VA_ARGS__);                                                         \
	} while (0)

/* --- random numbers --- */

static inline uint64_t mixed(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}
/* splitmix64, below a bound */
static inline uint64_t draw(uint64_t *state, uint64_t below)
{
	return mixed(*state += 0x9e3779b97f4a7c15u) % below;
}

/* --- players --- */

enum { PLAYERS_MAX = 128 };

struct player {
	pthread_t thread;
	const char *name;
	unsigned number;
	uint64_t random;
	void (*body)(struct player *me);
	void *arg;
	NO_SHARING _Atomic(const char *) what; /* (A) */
	_Atomic uint64_t where;		       /* (A) */
	_Atomic uint64_t steps;		       /* (A) own thread writes */
	_Atomic bool alive;		       /* (A) */
	_Alignas(64) char buffer[PAGE_SIZE];   /* own thread: what a cell should hold */
	_Alignas(64) char seen[PAGE_SIZE];     /* own thread: what it holds */
};

/* Starts the watchdog; the caller becomes a player, which is returned. */
struct player *players_init(void);
struct player *player_start(const char *name, unsigned number, void (*body)(struct player *me),
			    void *arg);
void player_join(struct player *player);
/* The calling thread's. */
extern _Thread_local struct player *me;

static inline void doing(const char *what, uint64_t where)
{
	store_relaxed(&me->what, what);
	store_relaxed(&me->where, where);
	store_relaxed(&me->steps, load_relaxed(&me->steps) + 1);
}
/* Before weir_open: ThreadSanitizer knows one descriptor table only, and would take weir's 3 and the program's for the
 * same. */
void descriptors_apart(void);
/* Sleeps in steps that count as progress. */
void pause_ms(unsigned ms);

/* --- the memory of regions --- */

/*
 * Every access to it goes through these, or through a system call itself (syscall): ThreadSanitizer notes an access
 * before it happens, so before the fault that puts it in order with what weir's threads do to the page.
 */
void region_load(void *to, const void *from, size_t bytes);
void region_store(void *to, const void *from, size_t bytes);
static inline unsigned char region_byte(const void *from)
{
	unsigned char byte;

	region_load(&byte, from, 1);
	return byte;
}
static inline void region_set_byte(void *to, unsigned char byte)
{
	region_store(to, &byte, 1);
}

/* --- areas --- */

enum content_kind { ZERO, FILLED, TEXT, NOISE, KINDS };

struct contents {
	uint32_t seed;
	uint16_t kind;
	uint16_t stamp; /* 0: none, else in one word of the cell */
};

struct cell {
	_Atomic int32_t lock;	/* (A) readers, or -1: a writer */
	struct contents now;	/* (L) */
	struct contents before; /* (L) for people: what was there earlier */
};

struct area {
	struct weir *weir;
	char *base;
	bool signal; /* its mode */
	uint64_t id;
	uint32_t pages, per_page, cells;
	size_t cell_bytes;
	unsigned weight[KINDS]; /* how likely new contents are of each kind */
	struct cell *cell;
};

/* per_page: cells in a page, 1 or 4. Weights of zero, filled, text, noise. */
struct area *area_create(struct weir *weir, uint32_t pages, uint32_t per_page,
			 const unsigned weight[KINDS]);
/* With an area over memory that is there already. */
struct area *area_adopt(struct weir *weir, void *base, uint32_t pages);
/* Over a region that is there already, zeroes. */
struct area *area_over(struct weir *weir, char *base, uint32_t pages, uint32_t per_page);
void area_destroy(struct area *area);
/* Forgets the area without a word to weir. */
void area_forget(struct area *area);

static inline char *cell_address(const struct area *area, uint32_t cell)
{
	return area->base + (size_t)cell * area->cell_bytes;
}

/* Cells [first, first + count); all or none. Ordered by acquire and release. */
bool cells_try(struct area *area, uint32_t first, uint32_t count, bool write);
void cells_done(struct area *area, uint32_t first, uint32_t count, bool write);

struct contents contents_new(const struct area *area, uint64_t *random);
void contents_make(const struct area *area, uint32_t cell, struct contents contents, void *to);
/* The caller holds the cell. */
void cell_check(const struct area *area, uint32_t cell, const char *how);
/* seen: plain memory. */
void cell_compare(const struct area *area, uint32_t cell, const void *seen, const char *how);
void cell_write(struct area *area, uint32_t cell, struct contents contents);
/* The contents are there already (by a system call, a discard). */
void cell_note(struct area *area, uint32_t cell, struct contents contents);
/* Writes one word of the cell only. */
void cell_stamp(struct area *area, uint32_t cell, uint16_t stamp);
void area_fill(struct area *area);
void area_check(struct area *area, const char *how);
/* Pages in memory, by mincore; and whether one is. */
uint32_t area_resident(const struct area *area);
bool page_resident(const void *address);

/* Around a system call that uses cells: in signal mode they are pinned. */
void cells_pin(const struct area *area, uint32_t first, uint32_t count, bool write);
void cells_unpin(const struct area *area, uint32_t first, uint32_t count);

/* --- instances --- */

/* Opens with the setup's options. Ends the run with 77 when there is no permission. */
struct weir *open_or_skip(uint64_t limit);
void set_limit(struct weir *weir, uint64_t limit);
struct weir_stats stats_now(struct weir *weir);
/* A report of a hang says what that one waits for. NULL before it is closed. */
void watch_instance(struct weir *weir);
/* Until nothing moves: within the limit, no charge changes any more, and weir's threads sleep. */
struct weir_stats stats_settled(struct weir *weir);
/* What must hold of a settled instance that has exactly these areas. */
void stats_check(struct weir *weir, struct area **areas, unsigned count);
/* What must hold when every region is gone. */
void stats_check_empty(struct weir *weir);

/* --- the cases (cases.c, churn.c, rot.c, resize.c); storm is in stress_region.c --- */

/* Threads that read and write random cells of an area, each a player (cases.c). */
void roam_start(struct player **player, unsigned count, struct area *area);
void roam_stop(struct player **player, unsigned count);

/* From now on a touch of what is not there any more can be told (resize.c). */
void catch_signal(int number);
/* One read: true, it was SIGSEGV; else what it has seen. */
bool touch_ends(const char *at, unsigned char *seen);

void case_resize(void);
void case_many(void);

void case_one_page(void);
void case_churn(void);
void case_doomed(void);
void case_reopen(void);
void case_closefds(void);
void case_lower(void);
void case_borders(void);
void case_rot(void);

#endif
