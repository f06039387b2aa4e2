/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Windows for the unit tests of src/kmap, over a file whose every range says which one it is; and what the kernel is asked
 * for, in order, with a place to let it fail, or to do what another thread would do just then.
 */
#ifndef WEIR_TESTS_KMAP_WINDOWS_H
#define WEIR_TESTS_KMAP_WINDOWS_H

#include "../unit.h"

#include "kmap/kmap.h"
#include "os/mem.h"
#include "os/thread.h"

enum { RANGES = 256, SLOT = 16384, FRAMES_IN = SLOT / 4096 };

/* --- the kernel's side; in place of os/mem.c's, by the linker --- */

enum state { HIDDEN, MAPPED };
static struct {
	struct weir_kmap *kmap; /* whose windows are watched */
	enum state state[1024]; /* of each slot */
	unsigned maps, hides;	/* calls */
	unsigned remaps;	/* a range put in place of one that was not taken away before */
	unsigned held_moved;	/* calls that took a mapping away that was held */
	unsigned fail_nth;	/* of the maps; 0: none */
	unsigned alloc_nth, allocs;
	void (*in_map)(void), (*in_hide)(void); /* once, before the call is done */
} os;

int __real_mem_window_map(void *addr, size_t bytes, int fd, uint64_t offset);
int __wrap_mem_window_map(void *addr, size_t bytes, int fd, uint64_t offset);
int __real_mem_window_hide(void *addr, size_t bytes);
int __wrap_mem_window_hide(void *addr, size_t bytes);
void *__real_mem_alloc(size_t bytes);
void *__wrap_mem_alloc(size_t bytes);
void *__real_mem_reserve(size_t bytes);
void *__wrap_mem_reserve(size_t bytes);

static unsigned slot_at(const void *addr)
{
	return (unsigned)(((const char *)addr - os.kmap->base) >> os.kmap->shift);
}

static void meanwhile(void (**hook)(void))
{
	void (*fn)(void) = *hook;

	*hook = NULL;
	if (fn)
		fn();
}

int __wrap_mem_window_map(void *addr, size_t bytes, int fd, uint64_t offset)
{
	const unsigned slot = slot_at(addr);
	int err;

	meanwhile(&os.in_map);
	if (++os.maps == os.fail_nth)
		return -ENOMEM;
	/* The owner alone may: nobody holds it. */
	os.held_moved += slot_count(load_relaxed(&os.kmap->slot[slot].word)) != 0;
	os.remaps += os.state[slot] == MAPPED;
	err = __real_mem_window_map(addr, bytes, fd, offset);
	os.state[slot] = MAPPED;
	return err;
}

int __wrap_mem_window_hide(void *addr, size_t bytes)
{
	const unsigned slot = slot_at(addr);

	meanwhile(&os.in_hide);
	os.hides++;
	for (unsigned i = slot; i < slot + (bytes >> os.kmap->shift); i++) {
		os.held_moved += slot_count(load_relaxed(&os.kmap->slot[i].word)) != 0;
		os.state[i] = HIDDEN;
	}
	return __real_mem_window_hide(addr, bytes);
}

void *__wrap_mem_alloc(size_t bytes)
{
	return ++os.allocs == os.alloc_nth ? NULL : __real_mem_alloc(bytes);
}

void *__wrap_mem_reserve(size_t bytes)
{
	return ++os.allocs == os.alloc_nth ? NULL : __real_mem_reserve(bytes);
}

/* --- windows --- */

static int file_fd = -1;

static struct weir_kmap *windows_make(const struct weir_kmap_options *given)
{
	struct weir_kmap_options options = *given;
	struct weir_kmap *kmap;
	char *all;

	file_fd = mem_file_open((uint64_t)RANGES * SLOT);
	assert_true(file_fd >= 0);
	all = mem_shared_map(file_fd, (size_t)RANGES * SLOT);
	for (uint32_t frame = 0; frame < RANGES * FRAMES_IN; frame++)
		*(uint32_t *)(void *)(all + frame * PAGE_SIZE) = frame;
	mem_release(all, (size_t)RANGES * SLOT);
	options.size = sizeof(options);
	options.fd = file_fd;
	options.bytes = (uint64_t)RANGES * SLOT;
	options.slot_bytes = SLOT;
	memset(&os, 0, sizeof(os));
	assert_int_equal(weir_kmap_create(&options, &kmap), 0);
	os.kmap = kmap;
	return kmap;
}

/* No reserve. */
static struct weir_kmap *slots_make(unsigned slots, unsigned batch)
{
	return windows_make(&(struct weir_kmap_options){
		.slots = slots, .batch = batch, .reserve = WEIR_KMAP_NO_RESERVE});
}

/* Counts are back at 1, nothing was taken from a holder, and every mapping that went was flushed. */
static void windows_end(struct weir_kmap *kmap)
{
	struct weir_kmap_stats s = {.size = sizeof(s)};

	for (unsigned i = 0; i < kmap->slots; i++)
		assert_int_equal(slot_count(load_relaxed(&kmap->slot[i].word)), 1);
	assert_int_equal(weir_kmap_stats_read(kmap, &s), 0);
	assert_int_equal(s.held, 0);
	assert_int_equal(os.held_moved, 0);
	assert_int_equal(load_relaxed(&kmap->waiting), 0);
	assert_int_equal(load_relaxed(&kmap->settling), 0);
	assert_int_equal(weir_kmap_destroy(kmap), 0);
	mem_file_close(file_fd);
}

static struct weir_kmap_stats stats(struct weir_kmap *kmap)
{
	struct weir_kmap_stats s = {.size = sizeof(s)};

	assert_int_equal(weir_kmap_stats_read(kmap, &s), 0);
	return s;
}

/* The first frame of a range, mapped and right. */
static char *hold(struct weir_kmap *kmap, uint32_t range)
{
	void *addr = NULL;

	assert_int_equal(weir_kmap(kmap, range * FRAMES_IN, &addr), 0);
	assert_int_equal(*(uint32_t *)addr, range * FRAMES_IN);
	return addr;
}

static void let_go(struct weir_kmap *kmap, const void *addr)
{
	assert_int_equal(weir_kunmap(kmap, addr), 0);
}

static void visit(struct weir_kmap *kmap, uint32_t range)
{
	let_go(kmap, hold(kmap, range));
}

#endif
