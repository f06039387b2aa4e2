/* SPDX-License-Identifier: BSD-2-Clause */
/* Six ways to reach pages of a file that is not mapped, for bench kmap: the same sequence of ranges through each. */
#ifndef WEIR_CLI_KMAP_RIG_H
#define WEIR_CLI_KMAP_RIG_H

#include <stdint.h>

/*
 *   WEIR      src/kmap
 *   SPINLOCK  one spinlock around everything, a table of who has which slot, a linear scan for the next slot, and all that are
 *             not in use lose their mapping when it wraps
 *   MUTEX     the same under a mutex
 *   PREAD     a copy of the page by pread(2)
 *   MAPALL    the whole file is mapped
 *   THREAD    each thread has one window for itself, without any count, and remaps it when it wants another range
 */
enum kmap_design {
	KMAP_WEIR,
	KMAP_SPINLOCK,
	KMAP_MUTEX,
	KMAP_PREAD,
	KMAP_MAPALL,
	KMAP_THREAD,
	KMAP_DESIGNS
};

struct kmap_rig;

/* keys: ranges of 64 KiB in the file. 0 or -errno. */
int kmap_rig_open(enum kmap_design design, int fd, uint32_t keys, unsigned slots,
		  struct kmap_rig **rig);
void kmap_rig_close(struct kmap_rig *rig);
/* One thread's: maps each range in turn, reads a word of it, unmaps it. thread: below 16. Returns how many were not right. */
uint64_t kmap_rig_run(struct kmap_rig *rig, unsigned thread, const uint32_t *key, unsigned count);
/* Calls that took mappings away so far; KMAP_WEIR: and how many they took. */
uint64_t kmap_rig_flushes(struct kmap_rig *rig);
uint64_t kmap_rig_retired(struct kmap_rig *rig);

/* The same, with each atomic read-modify-write of the calling thread counted. */
int counted_rig_open(enum kmap_design design, int fd, uint32_t keys, unsigned slots,
		     struct kmap_rig **rig);
void counted_rig_close(struct kmap_rig *rig);
uint64_t counted_rig_run(struct kmap_rig *rig, unsigned thread, const uint32_t *key,
			 unsigned count);
uint64_t counted_rig_flushes(struct kmap_rig *rig);
extern _Thread_local uint64_t atomics_counted;

enum { KMAP_RIG_THREADS = 16, KMAP_RIG_SHIFT = 16 };

#endif
