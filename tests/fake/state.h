/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the fake share. */
#ifndef WEIR_TESTS_FAKE_STATE_H
#define WEIR_TESTS_FAKE_STATE_H

#include "fake.h"

#if defined(__has_include)
#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(addr, bytes) ((void)(addr), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(addr, bytes) ((void)(addr), (void)(bytes))
#endif

/* What was injected into a call. */
struct fake_failure {
	size_t done;
	int err;
};

void fake_guard_enter(void);
void fake_guard_leave(void);
/* Every call of the kernel begins with this: what happens meanwhile. Not within the guard. */
void fake_before(enum fake_call call);
/* Counts a call; true: it is to fail as *failure says. Within the guard. */
bool fake_called(enum fake_call call, size_t units, struct fake_failure *failure);

/* A range that is registered. */
enum { PRESENT = 1, PROTECTED = 2, POISONED = 4, WAITING = 8, LOCKED = 16, HIDDEN = 32 };
struct range {
	char *base;
	size_t pages;
	unsigned modes;
	uint8_t *page; /* bits of each page; NULL: the range is not in use */
	int shared;    /* the memory that it maps; -1: its own */
};
/* All of these within the guard. The range of an address, or NULL; the bits of the first page of [addr, addr + bytes), which
 * lies in one range, or NULL: it lies in none. */
struct range *fake_range(const void *addr);
uint8_t *fake_bits(const void *addr, size_t bytes);
/* What is there is no page of the program's any more. */
void fake_page_vacate(const struct range *range, char *at);
/* Those that begin in [addr, addr + bytes). */
void fake_ranges_forget(char *addr, size_t bytes);
/* Pages of shared memory leave all ranges that map it. */
void fake_ranges_punched(int fd, size_t first, size_t pages);
/* Ends the program, unless it is a userfaultfd, and whole pages. */
void fake_check(int fd, const void *addr, size_t bytes);
/* The shared memory that is mapped there, or -1; and it is no more. */
int fake_shared(const void *addr);
void fake_unshared(const char *addr, size_t bytes);

void fake_memory_reset(void);
void fake_shared_reset(void);
void fake_source_reset(void);
void fake_threads_reset(void);
/* The caller's turn is over. False: there are no others. */
bool fake_threads_yield(void);
void fake_file_reset(void);
/* Ends the program: weir called the kernel in a way that breaks the contract of os/. */
_Noreturn void fake_misuse(const char *what);

#endif
