/* SPDX-License-Identifier: BSD-2-Clause */
#include "kmap_rig.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"
#include "os/file.h"
#include "os/mem.h"
#include "weir/kmap.h"

enum { SPINS = 1000 };
#define RANGE ((size_t)1 << KMAP_RIG_SHIFT)

struct seat {
	NO_SHARING char *window; /* KMAP_THREAD */
	uint32_t key;
	uint64_t flushes;
	char page[4096]; /* KMAP_PREAD */
};

struct kmap_rig {
	enum kmap_design design;
	int fd;
	uint32_t keys;
	unsigned slots;
	struct weir_kmap *kmap;
	char *all;    /* KMAP_MAPALL: the file; the locked ones: their windows */
	size_t bytes; /* of all */
	/* The locked ones. A slot's count: 0 empty, 1 mapped and not in use, n - 1 users. */
	NO_SHARING _Atomic uint32_t spin;
	struct lock mutex;
	uint32_t *slot_of; /* by key: slot + 1 */
	uint32_t *key_of, *count;
	uint32_t hand;
	uint64_t flushes;
	struct seat seat[KMAP_RIG_THREADS];
};

static size_t table_bytes(uint32_t entries)
{
	return ALIGN_UP(entries * sizeof(uint32_t), PAGE_SIZE);
}

/* --- under a lock --- */

static void rig_lock(struct kmap_rig *rig)
{
	if (rig->design == KMAP_MUTEX) {
		lock_acquire(&rig->mutex);
		return;
	}
	/* A holder that has lost its CPU is given one in the end: without that, more threads than CPUs never finish. */
	for (unsigned spin = 1; exchange_acquire(&rig->spin, 1); spin++) {
		while (load_relaxed(&rig->spin) && spin % SPINS) {
			cpu_relax();
			spin++;
		}
		if (spin % SPINS == 0)
			(void)sched_yield();
	}
}

static void rig_unlock(struct kmap_rig *rig)
{
	if (rig->design == KMAP_MUTEX)
		lock_release(&rig->mutex);
	else
		store_release(&rig->spin, 0);
}

/* All that nobody uses, run by run. */
static void flush_unused(struct kmap_rig *rig)
{
	for (uint32_t i = 0, first; i < rig->slots; i++) {
		for (first = i; i < rig->slots && rig->count[i] == 1; i++) {
			rig->slot_of[rig->key_of[i]] = 0;
			rig->count[i] = 0;
		}
		if (i > first) {
			(void)mem_window_hide(rig->all + first * RANGE, (i - first) * RANGE);
			rig->flushes++;
		}
	}
}

static char *locked_map(struct kmap_rig *rig, uint32_t key)
{
	uint32_t slot;

	rig_lock(rig);
	slot = rig->slot_of[key];
	while (!slot) {
		rig->hand = (rig->hand + 1) % rig->slots;
		if (!rig->hand)
			flush_unused(rig);
		if (rig->count[rig->hand])
			continue;
		if (mem_window_map(rig->all + rig->hand * RANGE, RANGE, rig->fd,
				   (uint64_t)key * RANGE)) {
			rig_unlock(rig);
			return NULL;
		}
		slot = rig->hand + 1;
		rig->count[slot - 1] = 1;
		rig->key_of[slot - 1] = key;
		rig->slot_of[key] = slot;
	}
	rig->count[slot - 1]++;
	rig_unlock(rig);
	return rig->all + (slot - 1) * RANGE;
}

static void locked_unmap(struct kmap_rig *rig, const char *addr)
{
	rig_lock(rig);
	rig->count[(size_t)(addr - rig->all) / RANGE]--;
	rig_unlock(rig);
}

/* --- one thread's loop, for each design --- */

/* What stands at the start of each range: its number. */
static inline bool right(const char *addr, uint32_t key)
{
	uint32_t is = 0;

	if (addr)
		memcpy(&is, addr, sizeof(is));
	return addr && is == key;
}

static uint64_t run_weir(struct kmap_rig *rig, const uint32_t *key, unsigned count)
{
	uint64_t wrong = 0;
	void *addr;

	for (unsigned i = 0; i < count; i++) {
		if (weir_kmap(rig->kmap, key[i] << (KMAP_RIG_SHIFT - PAGE_SHIFT), &addr)) {
			wrong++;
			continue;
		}
		wrong += !right(addr, key[i]);
		(void)weir_kunmap(rig->kmap, addr);
	}
	return wrong;
}

static uint64_t run_locked(struct kmap_rig *rig, const uint32_t *key, unsigned count)
{
	uint64_t wrong = 0;

	for (unsigned i = 0; i < count; i++) {
		const char *addr = locked_map(rig, key[i]);

		wrong += !right(addr, key[i]);
		if (addr)
			locked_unmap(rig, addr);
	}
	return wrong;
}

static uint64_t run_pread(struct kmap_rig *rig, struct seat *seat, const uint32_t *key,
			  unsigned count)
{
	uint64_t wrong = 0;

	for (unsigned i = 0; i < count; i++) {
		wrong += pread(rig->fd, seat->page, PAGE_SIZE, (off_t)key[i] << KMAP_RIG_SHIFT) !=
				 (ssize_t)PAGE_SIZE ||
			 !right(seat->page, key[i]);
	}
	return wrong;
}

static uint64_t run_mapall(struct kmap_rig *rig, const uint32_t *key, unsigned count)
{
	uint64_t wrong = 0;

	for (unsigned i = 0; i < count; i++)
		wrong += !right(rig->all + key[i] * RANGE, key[i]);
	return wrong;
}

static uint64_t run_thread(struct kmap_rig *rig, struct seat *seat, const uint32_t *key,
			   unsigned count)
{
	uint64_t wrong = 0;

	for (unsigned i = 0; i < count; i++) {
		if (seat->key != key[i]) {
			if (mem_window_map(seat->window, RANGE, rig->fd, (uint64_t)key[i] * RANGE))
				return count;
			seat->flushes += seat->key != UINT32_MAX;
			seat->key = key[i];
		}
		wrong += !right(seat->window, key[i]);
	}
	return wrong;
}

uint64_t kmap_rig_run(struct kmap_rig *rig, unsigned thread, const uint32_t *key, unsigned count)
{
	struct seat *seat = &rig->seat[thread];

	switch (rig->design) {
	case KMAP_WEIR:
		return run_weir(rig, key, count);
	case KMAP_SPINLOCK:
	case KMAP_MUTEX:
		return run_locked(rig, key, count);
	case KMAP_PREAD:
		return run_pread(rig, seat, key, count);
	case KMAP_MAPALL:
		return run_mapall(rig, key, count);
	case KMAP_THREAD:
		return run_thread(rig, seat, key, count);
	case KMAP_DESIGNS:
		break;
	}
	return count;
}

uint64_t kmap_rig_flushes(struct kmap_rig *rig)
{
	struct weir_kmap_stats stats = {.size = sizeof(stats)};
	uint64_t flushes = rig->flushes;

	for (unsigned i = 0; i < KMAP_RIG_THREADS; i++)
		flushes += rig->seat[i].flushes;
	if (rig->kmap && !weir_kmap_stats_read(rig->kmap, &stats))
		flushes += stats.flushes;
	return flushes;
}

uint64_t kmap_rig_retired(struct kmap_rig *rig)
{
	struct weir_kmap_stats stats = {.size = sizeof(stats)};

	return rig->kmap && !weir_kmap_stats_read(rig->kmap, &stats) ? stats.retired : 0;
}

/* --- open and close --- */

static int windows_open(struct kmap_rig *rig)
{
	const struct weir_kmap_options options = {.size = sizeof(options),
						  .fd = rig->fd,
						  .bytes = (uint64_t)rig->keys * RANGE,
						  .slots = rig->slots,
						  .slot_bytes = RANGE,
						  .reserve = WEIR_KMAP_NO_RESERVE,
						  .flags = WEIR_KMAP_TABLED};

	return weir_kmap_create(&options, &rig->kmap);
}

static int parts_open(struct kmap_rig *rig)
{
	switch (rig->design) {
	case KMAP_WEIR:
		return windows_open(rig);
	case KMAP_SPINLOCK:
	case KMAP_MUTEX:
		lock_init(&rig->mutex, RANK_KMAP, "bench");
		rig->bytes = rig->slots * RANGE;
		rig->all = mem_reserve(rig->bytes);
		rig->slot_of = mem_alloc(table_bytes(rig->keys));
		rig->key_of = mem_alloc(table_bytes(rig->slots));
		rig->count = mem_alloc(table_bytes(rig->slots));
		return rig->all && rig->slot_of && rig->key_of && rig->count ? 0 : -ENOMEM;
	case KMAP_MAPALL:
		rig->bytes = rig->keys * RANGE;
		rig->all = mem_shared_map(rig->fd, rig->bytes);
		return rig->all ? 0 : -ENOMEM;
	case KMAP_THREAD:
		for (unsigned i = 0; i < KMAP_RIG_THREADS; i++) {
			rig->seat[i].key = UINT32_MAX;
			rig->seat[i].window = mem_reserve(RANGE);
			if (!rig->seat[i].window)
				return -ENOMEM;
		}
		return 0;
	case KMAP_PREAD:
	case KMAP_DESIGNS:
		break;
	}
	return 0;
}

int kmap_rig_open(enum kmap_design design, int fd, uint32_t keys, unsigned slots,
		  struct kmap_rig **out)
{
	struct kmap_rig *rig = mem_alloc(ALIGN_UP(sizeof(*rig), PAGE_SIZE));
	int err;

	if (!rig)
		return -ENOMEM;
	rig->design = design;
	rig->fd = fd;
	rig->keys = keys;
	rig->slots = slots;
	err = parts_open(rig);
	if (err)
		kmap_rig_close(rig);
	else
		*out = rig;
	return err;
}

void kmap_rig_close(struct kmap_rig *rig)
{
	(void)weir_kmap_destroy(rig->kmap);
	mem_release(rig->all, rig->bytes);
	mem_release(rig->slot_of, table_bytes(rig->keys));
	mem_release(rig->key_of, table_bytes(rig->slots));
	mem_release(rig->count, table_bytes(rig->slots));
	for (unsigned i = 0; i < KMAP_RIG_THREADS; i++)
		mem_release(rig->seat[i].window, RANGE);
	mem_release(rig, ALIGN_UP(sizeof(*rig), PAGE_SIZE));
}
