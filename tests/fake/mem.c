/* SPDX-License-Identifier: BSD-2-Clause */
/* What of os/mem.h concerns regions, over the bits of memory.c. */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "os/mem.h"
#include "state.h"

int __real_mem_discard(void *addr, size_t bytes);
int __wrap_mem_discard(void *addr, size_t bytes);
int __wrap_mem_drop(const struct mem_dropper *dropper, const struct iovec *runs, unsigned count);
int __real_mem_resident(void *addr, size_t bytes, uint8_t *resident);
int __wrap_mem_resident(void *addr, size_t bytes, uint8_t *resident);
void __real_mem_release(void *addr, size_t bytes);
void __wrap_mem_release(void *addr, size_t bytes);
int __wrap_mem_protect_none(void *addr, size_t bytes);
int __real_mem_commit(void *addr, size_t bytes);
int __wrap_mem_commit(void *addr, size_t bytes);
int __wrap_mem_unlock(void *addr, size_t bytes);
void *__real_mem_alloc(size_t bytes);
void *__wrap_mem_alloc(size_t bytes);
void *__real_mem_region_map(size_t bytes, size_t align);
void *__wrap_mem_region_map(size_t bytes, size_t align);
/* Up to the first page that is locked: a call that meets one has dropped what comes before. */
static int pages_drop(char *addr, uint8_t *bits, size_t pages)
{
	const struct range *r = fake_range(addr);

	for (size_t i = 0; i < pages; i++) {
		if (bits[i] & LOCKED)
			return -EINVAL;
		bits[i] &= WAITING;
		ASAN_UNPOISON_MEMORY_REGION(addr + (i << PAGE_SHIFT), PAGE_SIZE);
		fake_page_vacate(r, addr + (i << PAGE_SHIFT));
	}
	return 0;
}

void fake_drop_behind(void *addr)
{
	uint8_t *bits;

	fake_guard_enter();
	bits = fake_bits(addr, PAGE_SIZE);
	if (!bits || pages_drop(addr, bits, 1))
		fake_misuse("no page to drop");
	fake_guard_leave();
}

int __wrap_mem_discard(void *addr, size_t bytes)
{
	struct fake_failure failure = {0};
	size_t pages = bytes >> PAGE_SHIFT;
	uint8_t *bits;
	int err = 0;

	fake_before(FAKE_DISCARD);
	fake_guard_enter();
	bits = fake_bits(addr, bytes);
	if (bits && fake_called(FAKE_DISCARD, pages, &failure)) {
		(void)pages_drop(addr, bits, MIN(pages, failure.done));
		err = failure.err;
	} else if (bits) {
		err = pages_drop(addr, bits, pages);
	}
	fake_guard_leave();
	return bits ? err : __real_mem_discard(addr, bytes);
}

int __wrap_mem_drop(const struct mem_dropper *dropper, const struct iovec *runs, unsigned count)
{
	struct fake_failure failure = {0};
	bool fails;
	int err = 0;

	(void)dropper;
	fake_before(FAKE_DROP);
	fake_guard_enter();
	fails = fake_called(FAKE_DROP, count, &failure);
	for (unsigned i = 0; i < count && !err; i++) {
		uint8_t *bits = fake_bits(runs[i].iov_base, runs[i].iov_len);

		if (!bits || (((uintptr_t)runs[i].iov_base | runs[i].iov_len) & PAGE_MASK))
			fake_misuse("a run to drop that is no region's");
		if (fails && i == failure.done)
			err = failure.err;
		else
			err = pages_drop(runs[i].iov_base, bits, runs[i].iov_len >> PAGE_SHIFT);
	}
	fake_guard_leave();
	return err;
}

int __wrap_mem_resident(void *addr, size_t bytes, uint8_t *resident)
{
	struct fake_failure failure = {0};
	size_t pages = bytes >> PAGE_SHIFT;
	uint8_t *bits;
	int err = 0;

	fake_guard_enter();
	bits = fake_bits(addr, bytes);
	if (bits && fake_called(FAKE_RESIDENT, pages, &failure))
		err = failure.err;
	if (bits && !err) {
		memset(resident, 0, DIV_UP(pages, 8));
		for (size_t i = 0; i < pages; i++)
			resident[i / 8] |= (uint8_t)((bits[i] & PRESENT) << (i % 8));
	}
	fake_guard_leave();
	return bits ? err : __real_mem_resident(addr, bytes, resident);
}

void __wrap_mem_release(void *addr, size_t bytes)
{
	fake_guard_enter();
	fake_ranges_forget(addr, bytes);
	fake_unshared(addr, bytes);
	fake_guard_leave();
	__real_mem_release(addr, bytes);
}

/* -EINVAL: not of a region; then the caller decides. */
static int protection_change(enum fake_call call, void *addr, size_t bytes, bool hide)
{
	struct fake_failure failure = {0};
	uint8_t *bits;
	int err = -EINVAL;

	fake_before(call);
	fake_guard_enter();
	bits = fake_bits(addr, bytes);
	if (bits)
		err = fake_called(call, bytes >> PAGE_SHIFT, &failure) ? failure.err : 0;
	for (size_t i = 0; !err && i < bytes >> PAGE_SHIFT; i++) {
		if (hide && bits[i] & PRESENT)
			fake_misuse("a page is hidden that weir may still read");
		bits[i] = hide ? bits[i] | HIDDEN : bits[i] & (uint8_t)~HIDDEN;
	}
	fake_guard_leave();
	return err;
}

/* Of a range that is not registered yet: all of it will be written the pattern. */
int __wrap_mem_protect_none(void *addr, size_t bytes)
{
	int err = protection_change(FAKE_HIDE, addr, bytes, true);

	return err == -EINVAL ? 0 : err;
}

int __wrap_mem_commit(void *addr, size_t bytes)
{
	int err = protection_change(FAKE_COMMIT, addr, bytes, false);

	return err == -EINVAL ? __real_mem_commit(addr, bytes) : err;
}

int __wrap_mem_unlock(void *addr, size_t bytes)
{
	uint8_t *bits;

	fake_guard_enter();
	bits = fake_bits(addr, bytes);
	for (size_t i = 0; bits && i < bytes >> PAGE_SHIFT; i++)
		bits[i] &= (uint8_t)~LOCKED;
	fake_guard_leave();
	return 0;
}

static bool alloc_fails(void)
{
	struct fake_failure failure = {0};
	bool fails;

	fake_guard_enter();
	fails = fake_called(FAKE_ALLOC, 1, &failure);
	fake_guard_leave();
	return fails;
}

void *__wrap_mem_alloc(size_t bytes)
{
	return alloc_fails() ? NULL : __real_mem_alloc(bytes);
}

void *__wrap_mem_region_map(size_t bytes, size_t align)
{
	return alloc_fails() ? NULL : __real_mem_region_map(bytes, align);
}
