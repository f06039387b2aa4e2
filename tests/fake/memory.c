/* SPDX-License-Identifier: BSD-2-Clause */
/* os/uffd.h over bits per page. What of os/mem.h concerns regions: mem.c. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "os/mem.h"
#include "os/uffd.h"
#include "state.h"

enum { FAKE_UFFD = 1000, RANGES_MAX = 1100, FAULTS_MAX = 256 };

static struct range range[RANGES_MAX],
	*range_end = range; /* from range_end on none was ever in use */
static struct uffd_fault fault[FAULTS_MAX];
static unsigned fault_first, fault_count;
static pthread_cond_t fault_came = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;

int __wrap_uffd_probe(uint64_t *features);
int __wrap_uffd_open(uint64_t features);
int __wrap_uffd_close(int fd);
int __wrap_uffd_register(int fd, void *addr, size_t bytes, unsigned modes);
int __wrap_uffd_unregister(int fd, void *addr, size_t bytes);
int __wrap_uffd_read(int fd, struct uffd_fault *faults, unsigned max);
int __wrap_uffd_copy(int fd, void *dst, const void *src, size_t bytes, bool write_protected,
		     size_t *done);
int __wrap_uffd_zeropage(int fd, void *dst, size_t bytes, size_t *done);
int __wrap_uffd_wake(int fd, void *addr, size_t bytes);
int __wrap_uffd_writeprotect(int fd, void *addr, size_t bytes, bool protect);
int __wrap_uffd_move(int fd, void *dst, void *src, size_t bytes, bool holes, size_t *done);
int __wrap_uffd_poison(int fd, void *addr, size_t bytes);
int __real_mem_resident(void *addr, size_t bytes, uint8_t *resident);

/* --- the pages --- */

static uint64_t pattern(size_t i)
{
	return 0xdeadfacedeadface ^ i * 0x9e3779b97f4a7c15;
}

bool fake_is_pattern(const void *page)
{
	return ((const uint64_t *)page)[0] == pattern(0) &&
	       ((const uint64_t *)page)[1] == pattern(1);
}

/* What other regions and the cache share is not overwritten. */
void fake_page_vacate(const struct range *r, char *at)
{
	for (size_t i = 0; r->shared < 0 && i < PAGE_SIZE / sizeof(uint64_t); i++)
		((uint64_t *)at)[i] = pattern(i);
	ASAN_POISON_MEMORY_REGION(at, PAGE_SIZE);
}

struct range *fake_range(const void *addr)
{
	for (struct range *r = range; r < range_end; r++) {
		if (r->page && (uintptr_t)addr - (uintptr_t)r->base < r->pages << PAGE_SHIFT)
			return r;
	}
	return NULL;
}

/* The bits of the first page of [addr, addr + bytes), which lies in one range; NULL: it lies in none. */
uint8_t *fake_bits(const void *addr, size_t bytes)
{
	struct range *r = fake_range(addr);
	size_t first;

	if (!r)
		return NULL;
	first = ((uintptr_t)addr - (uintptr_t)r->base) >> PAGE_SHIFT;
	if (first + (bytes >> PAGE_SHIFT) > r->pages)
		fake_misuse("a call goes beyond the end of a region");
	return r->page + first;
}

void fake_check(int fd, const void *addr, size_t bytes)
{
	if (fd != FAKE_UFFD)
		fake_misuse("a descriptor that is no userfaultfd");
	if ((((uintptr_t)addr | bytes) & PAGE_MASK) || !bytes)
		fake_misuse("a range that is not whole pages");
}

static void range_forget(struct range *r)
{
	ASAN_UNPOISON_MEMORY_REGION(r->base, r->pages << PAGE_SHIFT);
	free(r->page);
	*r = (struct range){0};
}

void fake_ranges_forget(char *addr, size_t bytes)
{
	for (struct range *r = range; r < range_end; r++) {
		if (r->page && r->base >= addr && r->base < addr + bytes)
			range_forget(r);
	}
}

void fake_ranges_punched(int fd, size_t first, size_t pages)
{
	for (struct range *r = range; r < range_end; r++) {
		if (!r->page || r->shared != fd)
			continue;
		for (size_t i = first; i < MIN(first + pages, r->pages); i++) {
			r->page[i] &= (uint8_t)~(PRESENT | PROTECTED);
			fake_page_vacate(r, r->base + (i << PAGE_SHIFT));
		}
	}
}

void fake_memory_reset(void)
{
	fake_guard_enter();
	for (struct range *r = range; r < range_end; r++) {
		if (r->page)
			range_forget(r);
	}
	fake_guard_leave();
	pthread_mutex_lock(&fault_lock);
	fault_first = fault_count = 0;
	pthread_mutex_unlock(&fault_lock);
}

static bool has_bit(const void *addr, unsigned bit)
{
	uint8_t *bits;
	bool has;

	fake_guard_enter();
	bits = fake_bits(addr, 0);
	has = bits && *bits & bit;
	fake_guard_leave();
	return has;
}

bool fake_present(const void *addr)
{
	return has_bit(addr, PRESENT);
}

bool fake_protected(const void *addr)
{
	return has_bit(addr, PROTECTED);
}

bool fake_poisoned(const void *addr)
{
	return has_bit(addr, POISONED);
}

bool fake_waiting(const void *addr)
{
	return has_bit(addr, WAITING);
}

static void set_bit(const void *addr, unsigned bit, bool on)
{
	uint8_t *bits;

	fake_guard_enter();
	bits = fake_bits(addr, 0);
	if (!bits)
		fake_misuse("a page of no region");
	*bits = (uint8_t)(on ? *bits | bit : *bits & ~bit);
	fake_guard_leave();
}

void fake_wait(const void *addr)
{
	set_bit(addr, WAITING, true);
}

void fake_lock(const void *addr, bool locked)
{
	set_bit(addr, LOCKED, locked);
}

enum fake_touch fake_touch(const void *addr, bool write)
{
	enum fake_touch touch = TOUCH_DONE;
	uint8_t *bits;

	fake_guard_enter();
	bits = fake_bits(addr, 0);
	if (!bits)
		fake_misuse("a touch outside every region");
	if (*bits & HIDDEN)
		touch = TOUCH_HIDDEN;
	else if (*bits & POISONED)
		touch = TOUCH_SIGBUS;
	else if (!(*bits & PRESENT))
		touch = TOUCH_MISSING;
	else if (write && *bits & PROTECTED)
		touch = TOUCH_PROTECTED;
	if (touch == TOUCH_MISSING || touch == TOUCH_PROTECTED)
		*bits |= WAITING;
	fake_guard_leave();
	return touch;
}

/* --- installing --- */

/* One page with contents; src NULL: zeroes. */
static int page_install(char *at, uint8_t *bits, const void *src, bool protect)
{
	if (*bits & POISONED)
		fake_misuse("a page is installed over a poisoned one");
	if (*bits & PRESENT)
		return -EEXIST;
	ASAN_UNPOISON_MEMORY_REGION(at, PAGE_SIZE);
	if (src)
		memcpy(at, src, PAGE_SIZE);
	else
		memset(at, 0, PAGE_SIZE);
	*bits = (uint8_t)((*bits & LOCKED) | PRESENT | (protect ? PROTECTED : 0));
	return 0;
}

void fake_install_behind(void *addr, const void *page)
{
	uint8_t *bits;

	fake_guard_enter();
	bits = fake_bits(addr, PAGE_SIZE);
	if (!bits || page_install(addr, bits, page, false))
		fake_misuse("no place for a page");
	fake_guard_leave();
}

static int install(enum fake_call call, char *dst, const char *src, size_t bytes, bool protect,
		   size_t *done)
{
	struct fake_failure failure = {0};
	size_t pages = bytes >> PAGE_SHIFT, at = 0;
	uint8_t *bits;
	bool fails;
	int err = 0;

	fake_before(call);
	fake_guard_enter();
	bits = fake_bits(dst, bytes);
	fails = fake_called(call, pages, &failure);
	if (!bits)
		err = -ENOENT;
	while (!err && at < pages) {
		const char *from = src ? src + (at << PAGE_SHIFT) : NULL;

		err = fails && at == failure.done
			      ? failure.err
			      : page_install(dst + (at << PAGE_SHIFT), &bits[at], from, protect);
		at += !err;
	}
	if (done)
		*done = at << PAGE_SHIFT;
	fake_guard_leave();
	return err;
}

int __wrap_uffd_copy(int fd, void *dst, const void *src, size_t bytes, bool write_protected,
		     size_t *done)
{
	fake_check(fd, dst, bytes);
	fake_check(fd, src, bytes);
	return install(FAKE_COPY, dst, src, bytes, write_protected, done);
}

int __wrap_uffd_zeropage(int fd, void *dst, size_t bytes, size_t *done)
{
	fake_check(fd, dst, bytes);
	return install(FAKE_ZEROPAGE, dst, NULL, bytes, false, done);
}

/* --- the other calls on a userfaultfd --- */

/* Counts; 0, an injected errno, or -ENOENT for memory that is not registered. */
static int call_begin(enum fake_call call, const void *addr, size_t bytes, uint8_t **bits)
{
	struct fake_failure failure = {0};

	*bits = fake_bits(addr, bytes);
	if (fake_called(call, bytes >> PAGE_SHIFT, &failure))
		return failure.err;
	return *bits ? 0 : -ENOENT;
}

int __wrap_uffd_wake(int fd, void *addr, size_t bytes)
{
	uint8_t *bits;
	int err;

	fake_check(fd, addr, bytes);
	fake_before(FAKE_WAKE);
	fake_guard_enter();
	err = call_begin(FAKE_WAKE, addr, bytes, &bits);
	for (size_t i = 0; !err && i < bytes >> PAGE_SHIFT; i++)
		bits[i] &= (uint8_t)~WAITING;
	fake_guard_leave();
	return err;
}

int __wrap_uffd_writeprotect(int fd, void *addr, size_t bytes, bool protect)
{
	const enum fake_call call = protect ? FAKE_PROTECT : FAKE_UNPROTECT;
	uint8_t *bits;
	int err;

	fake_check(fd, addr, bytes);
	fake_before(call);
	fake_guard_enter();
	err = call_begin(call, addr, bytes, &bits);
	for (size_t i = 0; !err && i < bytes >> PAGE_SHIFT; i++) {
		if (!protect)
			bits[i] &= (uint8_t)~(PROTECTED | WAITING);
		else if (bits[i] & PRESENT)
			bits[i] |= PROTECTED;
	}
	fake_guard_leave();
	return err;
}

int __wrap_uffd_poison(int fd, void *addr, size_t bytes)
{
	uint8_t *bits;
	int err;

	fake_check(fd, addr, bytes);
	fake_before(FAKE_POISON);
	fake_guard_enter();
	err = call_begin(FAKE_POISON, addr, bytes, &bits);
	for (size_t i = 0; !err && i < bytes >> PAGE_SHIFT; i++) {
		if (bits[i] & PRESENT)
			err = -EEXIST;
		else
			bits[i] = (uint8_t)((bits[i] & LOCKED) | POISONED);
	}
	fake_guard_leave();
	return err;
}

/* This kernel has it not. */
int __wrap_uffd_move(int fd, void *dst, void *src, size_t bytes, bool holes, size_t *done)
{
	fake_check(fd, dst, bytes);
	(void)src;
	(void)holes;
	if (done)
		*done = 0;
	return -EINVAL;
}

int __wrap_uffd_probe(uint64_t *features)
{
	struct fake_failure failure = {0};
	bool fails;

	fake_guard_enter();
	fails = fake_called(FAKE_OPEN, 1, &failure);
	fake_guard_leave();
	*features = UFFD_HAS_WRITEPROTECT | UFFD_HAS_THREAD_ID | UFFD_HAS_POISON;
	return fails ? failure.err : 0;
}

int __wrap_uffd_open(uint64_t features)
{
	struct fake_failure failure = {0};
	bool fails;

	(void)features;
	fake_guard_enter();
	fails = fake_called(FAKE_OPEN, 1, &failure);
	fake_guard_leave();
	return fails ? failure.err : FAKE_UFFD;
}

int __wrap_uffd_close(int fd)
{
	return fd == FAKE_UFFD ? 0 : -EBADF;
}

/* What is in memory now is present; the rest of the range becomes the pattern. */
static int range_add(char *addr, size_t bytes, unsigned modes)
{
	struct range *r = range;
	uint8_t resident;

	while (r < range + RANGES_MAX && r->page)
		r++;
	if (r == range + RANGES_MAX)
		fake_misuse("too many ranges");
	if (fake_range(addr))
		return -EBUSY;
	range_end = MAX(range_end, r + 1);
	*r = (struct range){addr, bytes >> PAGE_SHIFT, modes, calloc(bytes >> PAGE_SHIFT, 1),
			    fake_shared(addr)};
	for (size_t i = 0; i < r->pages; i++) {
		char *at = addr + (i << PAGE_SHIFT);

		if (__real_mem_resident(at, PAGE_SIZE, &resident))
			fake_misuse("registering memory that is not mapped");
		/* Of shared memory: in the cache, but not mapped here. */
		if (resident & 1 && r->shared < 0)
			r->page[i] = PRESENT;
		else
			fake_page_vacate(r, at);
	}
	return 0;
}

int __wrap_uffd_register(int fd, void *addr, size_t bytes, unsigned modes)
{
	struct fake_failure failure = {0};
	int err;

	fake_check(fd, addr, bytes);
	fake_guard_enter();
	if (fake_called(FAKE_REGISTER, bytes >> PAGE_SHIFT, &failure))
		err = failure.err;
	else
		err = range_add(addr, bytes, modes);
	fake_guard_leave();
	return err;
}

int __wrap_uffd_unregister(int fd, void *addr, size_t bytes)
{
	struct fake_failure failure = {0};
	struct range *r;
	int err = 0;

	fake_check(fd, addr, bytes);
	fake_guard_enter();
	r = fake_range(addr);
	if (fake_called(FAKE_UNREGISTER, bytes >> PAGE_SHIFT, &failure))
		err = failure.err;
	else if (r && r->base == addr && r->pages == bytes >> PAGE_SHIFT)
		range_forget(r);
	fake_guard_leave();
	return err;
}

void fake_fault(const struct uffd_fault *f)
{
	pthread_mutex_lock(&fault_lock);
	if (fault_count == FAULTS_MAX)
		fake_misuse("too many faults at once");
	fault[(fault_first + fault_count++) % FAULTS_MAX] = *f;
	pthread_cond_signal(&fault_came);
	pthread_mutex_unlock(&fault_lock);
}

int __wrap_uffd_read(int fd, struct uffd_fault *faults, unsigned max)
{
	struct fake_failure failure = {0};
	unsigned n = 0;
	bool fails;

	if (fd != FAKE_UFFD)
		return -EBADF;
	fake_guard_enter();
	fails = fake_called(FAKE_READ, 1, &failure);
	fake_guard_leave();
	if (fails)
		return failure.err;
	pthread_mutex_lock(&fault_lock);
	while (!fault_count)
		pthread_cond_wait(&fault_came, &fault_lock);
	for (; n < max && fault_count; n++) {
		faults[n] = fault[fault_first];
		fault_first = (fault_first + 1) % FAULTS_MAX;
		fault_count--;
	}
	pthread_mutex_unlock(&fault_lock);
	return (int)n;
}
