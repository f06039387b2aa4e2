/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory that a file's page cache and regions share: a real memfd, and what the kernel would know of who has mapped it. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "os/mem.h"
#include "os/uffd.h"
#include "state.h"

enum { SHARED_MAX = 32 };

static struct {
	const char *base;
	int fd;
} shared[SHARED_MAX];

void *__real_mem_shared_region_map(int fd, size_t bytes, bool write);
void *__wrap_mem_shared_region_map(int fd, size_t bytes, bool write);
int __real_mem_shared_punch(int fd, size_t offset, size_t bytes);
int __wrap_mem_shared_punch(int fd, size_t offset, size_t bytes);
int __real_mem_shared_write(int fd, const void *from, size_t bytes, size_t offset);
int __wrap_mem_shared_write(int fd, const void *from, size_t bytes, size_t offset);
int __wrap_uffd_continue(int fd, void *addr, size_t bytes, bool write_protected, size_t *done);

void fake_shared_reset(void)
{
	fake_guard_enter();
	memset(shared, 0, sizeof(shared));
	fake_guard_leave();
}

int fake_shared(const void *addr)
{
	for (unsigned i = 0; i < SHARED_MAX; i++) {
		if (shared[i].base == addr)
			return shared[i].fd;
	}
	return -1;
}

void fake_unshared(const char *addr, size_t bytes)
{
	for (unsigned i = 0; i < SHARED_MAX; i++) {
		if (shared[i].base >= addr && shared[i].base < addr + bytes)
			shared[i].base = NULL;
	}
}

bool fake_cached(const void *addr)
{
	const struct range *r;
	off_t at;
	bool cached;

	fake_guard_enter();
	r = fake_range(addr);
	if (!r || r->shared < 0)
		fake_misuse("no shared memory");
	at = ((const char *)addr - r->base) & ~(off_t)PAGE_MASK;
	cached = lseek(r->shared, at, SEEK_DATA) == at;
	fake_guard_leave();
	return cached;
}

void *__wrap_mem_shared_region_map(int fd, size_t bytes, bool write)
{
	void *base = __real_mem_shared_region_map(fd, bytes, write);
	unsigned i = 0;

	fake_guard_enter();
	while (i < SHARED_MAX && shared[i].base)
		i++;
	if (i == SHARED_MAX)
		fake_misuse("too many mappings of shared memory");
	shared[i].base = base;
	shared[i].fd = fd;
	fake_guard_leave();
	return base;
}

int __wrap_mem_shared_punch(int fd, size_t offset, size_t bytes)
{
	struct fake_failure failure = {0};
	int err;

	fake_before(FAKE_PUNCH);
	fake_guard_enter();
	if (fake_called(FAKE_PUNCH, bytes >> PAGE_SHIFT, &failure)) {
		err = failure.err;
	} else {
		err = __real_mem_shared_punch(fd, offset, bytes);
		fake_ranges_punched(fd, offset >> PAGE_SHIFT, bytes >> PAGE_SHIFT);
	}
	fake_guard_leave();
	return err;
}

int __wrap_mem_shared_write(int fd, const void *from, size_t bytes, size_t offset)
{
	struct fake_failure failure = {0};
	bool fails;

	fake_guard_enter();
	fails = fake_called(FAKE_SHARED_WRITE, bytes >> PAGE_SHIFT, &failure);
	fake_guard_leave();
	if (!fails)
		return __real_mem_shared_write(fd, from, bytes, offset);
	bytes = MIN(bytes, failure.done << PAGE_SHIFT);
	if (bytes && __real_mem_shared_write(fd, from, bytes, offset))
		fake_misuse("no memory");
	return failure.err;
}

static int page_continue(const struct range *r, char *at, uint8_t *bits, bool protect)
{
	const off_t offset = at - r->base;

	if (*bits & POISONED)
		fake_misuse("a page is mapped over a poisoned one");
	if (*bits & PRESENT)
		return -EEXIST;
	if (lseek(r->shared, offset, SEEK_DATA) != offset)
		return -EFAULT;
	ASAN_UNPOISON_MEMORY_REGION(at, PAGE_SIZE);
	*bits = (uint8_t)(PRESENT | (protect ? PROTECTED : 0));
	return 0;
}

int __wrap_uffd_continue(int fd, void *addr, size_t bytes, bool write_protected, size_t *done)
{
	struct fake_failure failure = {0};
	size_t pages = bytes >> PAGE_SHIFT, at = 0;
	uint8_t *bits;
	bool fails;
	int err = 0;

	fake_check(fd, addr, bytes);
	fake_before(FAKE_CONTINUE);
	fake_guard_enter();
	bits = fake_bits(addr, bytes);
	fails = fake_called(FAKE_CONTINUE, pages, &failure);
	if (!bits)
		err = -ENOENT;
	else if (fake_range(addr)->shared < 0 || !(fake_range(addr)->modes & UFFD_MINOR))
		err = -EINVAL;
	for (; !err && at < pages; at += !err)
		err = fails && at == failure.done
			      ? failure.err
			      : page_continue(fake_range(addr), (char *)addr + (at << PAGE_SHIFT),
					      &bits[at], write_protected);
	if (done)
		*done = at << PAGE_SHIFT;
	fake_guard_leave();
	return err;
}
