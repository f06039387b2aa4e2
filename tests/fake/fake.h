/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A fake of os/ for tests: the kernel's side of regions, and the disk, without either.
 *
 * The linker puts it in place of the real functions (--wrap, see meson.build), so the layers above run unchanged.
 * Memory of a region is real mapped memory; what the kernel would know of it, the fake keeps as bits per page:
 *
 *                      copy, zeropage, install_behind
 *      (missing) ─────────────────────────────────────▶ present ◀──writeprotect──▶ present, protected
 *        │    ▲            discard, drop                   │
 *        │    └────────────────────────────────────────────┘
 *        └──▶ poisoned: a touch is SIGBUS, until it is discarded
 *
 *   waiting   a touch found the page missing or protected, and nobody has woken the page since
 *   hidden    no access, a touch is SIGSEGV
 *   locked    as by mlock(2): dropping it is -EINVAL, and ends the call there
 *
 * The memory of a page that is not present holds a pattern that no test writes (and is poisoned for
 * AddressSanitizer), so that a read behind the kernel's back is seen at once.
 *
 * Nothing faults by itself: a test asks fake_touch what a touch would do, and serves the fault. Thread-safe; the
 * injections and counts are for all threads together.
 */
#ifndef WEIR_TESTS_FAKE_FAKE_H
#define WEIR_TESTS_FAKE_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The functions that are counted, and that fail when told to. In parentheses the units that each is made of. */
enum fake_call {
	FAKE_OPEN,	   /* uffd_probe, uffd_open */
	FAKE_REGISTER,	   /* uffd_register */
	FAKE_UNREGISTER,   /* uffd_unregister */
	FAKE_READ,	   /* uffd_read */
	FAKE_COPY,	   /* uffd_copy (pages) */
	FAKE_ZEROPAGE,	   /* uffd_zeropage (pages) */
	FAKE_WAKE,	   /* uffd_wake (pages) */
	FAKE_PROTECT,	   /* uffd_writeprotect, protect (pages) */
	FAKE_UNPROTECT,	   /* uffd_writeprotect, release (pages) */
	FAKE_POISON,	   /* uffd_poison (pages) */
	FAKE_ALLOC,	   /* mem_alloc, mem_region_map: NULL */
	FAKE_DISCARD,	   /* mem_discard of a region (pages) */
	FAKE_DROP,	   /* mem_drop (runs) */
	FAKE_RESIDENT,	   /* mem_resident of a region (pages) */
	FAKE_HIDE,	   /* mem_protect_none of a region (pages) */
	FAKE_COMMIT,	   /* mem_commit of a region (pages) */
	FAKE_FILE_OPEN,	   /* file_store_open */
	FAKE_FILE_WRITE,   /* file_write (bytes) */
	FAKE_FILE_READ,	   /* file_read (bytes) */
	FAKE_CONTINUE,	   /* uffd_continue (pages) */
	FAKE_PUNCH,	   /* mem_shared_punch (pages) */
	FAKE_SHARED_WRITE, /* mem_shared_write (pages) */
	FAKE_SOURCE_OPEN,
	FAKE_SOURCE_READ,  /* (bytes) */
	FAKE_SOURCE_WRITE, /* (bytes) */
	FAKE_SOURCE_SYNC,
	FAKE_THREAD, /* thread_start, of fake_threads */
	FAKE_CALLS
};

/* Forgets everything: ranges, injections, counts, the file, the time. */
void fake_reset(void);

/* The nth call from now (1: the next) does the first `done` of its units and answers err. err 0 with a file_read: the
 * rest of the buffer is rubbish, and nobody says so. */
void fake_fail(enum fake_call call, unsigned nth, size_t done, int err);
/* Takes every injection and fake_meanwhile back that has not happened. Returns how many those were. */
unsigned fake_calm(void);
/* The next call of that function first calls fn(data), once, and with nothing held: for what another thread would do
 * just then. */
void fake_meanwhile(enum fake_call call, void (*fn)(void *data), void *data);
/* Calls since fake_reset, and their units. */
uint64_t fake_count(enum fake_call call);
uint64_t fake_units(enum fake_call call);

/* now_ns is the fake's: it stands still but for these. Each call of now_ns adds step_ns afterwards. */
void fake_time_pass(uint64_t ns);
void fake_time_step(uint64_t step_ns);
/* How long threads of weir have slept on purpose, since fake_reset. */
uint64_t fake_slept(void);

/* What weir's sched_yield does: lets another thread run, which in a test of one thread is fn(data). NULL: the real one. */
void fake_on_yield(void (*fn)(void *data), void *data);

/* --- pages; addresses anywhere in the page --- */

enum fake_touch { TOUCH_DONE, TOUCH_MISSING, TOUCH_PROTECTED, TOUCH_SIGBUS, TOUCH_HIDDEN };
/* What a touch by a thread of the program would be. MISSING and PROTECTED: that thread waits from now on. */
enum fake_touch fake_touch(const void *addr, bool write);
bool fake_present(const void *addr);
bool fake_protected(const void *addr);
bool fake_poisoned(const void *addr);
bool fake_waiting(const void *addr);
/* A thread whose fault comes late: it waits, whatever the page is. */
void fake_wait(const void *addr);
/* What a program can do behind weir's back: a raw madvise(DONTNEED), another way to have a page, mlock(2). */
void fake_drop_behind(void *addr);
void fake_install_behind(void *addr, const void *page);
void fake_lock(const void *addr, bool locked);
/* Does the memory hold the pattern of a page that is not there? */
bool fake_is_pattern(const void *page);

/* Is it in the memory that its region shares, mapped or not? */
bool fake_cached(const void *addr);

/* --- faults for uffd_read, which blocks while there is none --- */

struct uffd_fault;
void fake_fault(const struct uffd_fault *fault);

/* --- the file; one at a time --- */

enum { FAKE_FILE_MAX = 64 << 20 };
/* For files opened from now on: 512 or 4096. */
void fake_file_unit(unsigned unit);
/* The disk holds so many bytes: a write that goes beyond is -ENOSPC. */
void fake_disk(size_t bytes);
/* Where the file stands in memory, to break bytes of it; NULL: there is none. */
unsigned char *fake_file(size_t *bytes);

/* --- files of the program --- */

enum { FAKE_SOURCE_MAX = 16 << 20 };
/* There is a file of that name from now on, so long; or it becomes so long, or another one. Its contents, zeroes at first. */
unsigned char *fake_source(const char *path, size_t bytes, uint64_t inode);
/* How many times one is open. */
unsigned fake_sources_open(void);

/* --- threads that weir starts --- */

/* From now on they run only while the test waits for them, yields, or calls fake_threads_run: until all sleep. */
void fake_threads(bool fake);
void fake_threads_run(void);

#endif
