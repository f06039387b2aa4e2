/* SPDX-License-Identifier: BSD-2-Clause */
/* Errors of the soak: functions that the linker puts in the place of the real ones (--wrap, see meson.build). */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "os/mem.h"
#include "os/ring.h"
#include "os/uffd.h"
#include "soak.h"
#include "store/compressed.h"

static const struct {
	const char *name;
	unsigned every; /* so many calls, on the average */
} kinds[INJECTIONS] = {
	[SHORT_WRITE] = {"short writes", 8},
	[FULL_WRITE] = {"short writes that met a full disk", 2},
	[NO_SPACE] = {"writes to a full disk", 50},
	[WRITE_ERROR] = {"writes with EIO", 40},
	[RING_FAILED] = {"requests that a ring did not do", 2},
	[SHORT_READ] = {"short reads", 60},
	[READ_ERROR] = {"reads with EIO", 200},
	[DAMAGED_READ] = {"reads with damage", 200},
	[DAMAGED_OBJECT] = {"damaged objects", 2000},
	[SOURCE_SHORT] = {"short reads of a file region", 50},
	[SOURCE_ERROR] = {"reads with EIO of a file region", 500},
	[NO_TABLE] = {"tables without memory", 1},
	[NO_FRAME] = {"frames not to be had", 300},
	[NO_BLOCK] = {"blocks without memory", 8},
	[NO_COPY] = {"pages without memory", 1000},
};

static struct {
	uint64_t seed;		      /* (C) */
	dev_t device;		      /* (C) of the file regions' file */
	ino_t inode;		      /* (C) */
	ino_t scribe;		      /* (C) of the file that is written, on the same device */
	_Atomic bool on;	      /* (A) */
	_Atomic uint64_t moved, busy; /* (A) */
	struct weir_pool_owner store; /* (C) once weir_open has returned */
	struct {
		NO_SHARING _Atomic uint64_t calls; /* (A) */
		_Atomic uint64_t done;		   /* (A) */
	} kind[INJECTIONS];
} injections;

static _Thread_local unsigned armed;

void inject_init(uint64_t seed, int source, int scribe)
{
	struct stat st;

	CHECK(!fstat(source, &st), "fstat: %s", strerrorname_np(errno));
	injections.seed = seed;
	injections.device = st.st_dev;
	injections.inode = st.st_ino;
	CHECK(!fstat(scribe, &st), "fstat: %s", strerrorname_np(errno));
	injections.scribe = st.st_ino;
}

void inject(bool on)
{
	store_relaxed(&injections.on, on);
}

uint64_t injected(enum injection kind)
{
	return load_relaxed(&injections.kind[kind].done);
}

const char *injection_name(enum injection kind)
{
	return kinds[kind].name;
}

unsigned arm_allocation(unsigned nth)
{
	unsigned left = armed;

	armed = nth;
	return left;
}

uint64_t moves_done(void)
{
	return load_relaxed(&injections.moved);
}

uint64_t moves_busy(void)
{
	return load_relaxed(&injections.busy);
}

static bool due(enum injection kind)
{
	uint64_t n;

	if (!load_relaxed(&injections.on))
		return false;
	n = add_relaxed(&injections.kind[kind].calls, 1);
	if (mixed(injections.seed ^ mixed((uint64_t)kind << 48 | n)) % kinds[kind].every)
		return false;
	add_relaxed(&injections.kind[kind].done, 1);
	return true;
}

static bool is_file(int fd, ino_t inode)
{
	struct stat st;

	return !fstat(fd, &st) && st.st_ino == inode && st.st_dev == injections.device;
}

/* --- the system --- */

ssize_t __real_pwrite64(int fd, const void *data, size_t bytes, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t bytes, off_t offset);
ssize_t __real_pread64(int fd, void *data, size_t bytes, off_t offset);
ssize_t __wrap_pread64(int fd, void *data, size_t bytes, off_t offset);

/* Half of it, in units that O_DIRECT takes. */
static size_t half(size_t bytes)
{
	return bytes >= 2 * PAGE_SIZE ? ALIGN_DOWN(bytes / 2, PAGE_SIZE) : bytes;
}

/* Memory has no errors of its own, but it may be full, or take a part. */
static bool is_memory(int fd)
{
	return fcntl(fd, F_GET_SEALS) >= 0;
}

ssize_t __wrap_pwrite64(int fd, const void *data, size_t bytes, off_t offset)
{
	static _Thread_local bool cut;
	const bool rest = cut;

	cut = false;
	if (rest ? due(FULL_WRITE) : due(NO_SPACE)) {
		if (is_memory(fd))
			add_relaxed(&soak.memory_full, 1);
		errno = ENOSPC;
		return -1;
	}
	if (!is_memory(fd) && due(WRITE_ERROR)) {
		errno = EIO;
		return -1;
	}
	if (half(bytes) < bytes && due(SHORT_WRITE)) {
		cut = true;
		bytes = half(bytes);
	}
	return __real_pwrite64(fd, data, bytes, offset);
}

ssize_t __wrap_pread64(int fd, void *data, size_t bytes, off_t offset)
{
	const bool source = is_file(fd, injections.inode);
	ssize_t got;

	if (is_file(fd, injections.scribe))
		return __real_pread64(fd, data, due(SOURCE_SHORT) ? half(bytes) : bytes, offset);
	if (due(source ? SOURCE_ERROR : READ_ERROR)) {
		errno = EIO;
		return -1;
	}
	if (source && due(SOURCE_SHORT))
		bytes = half(bytes);
	else if (!source && half(bytes) < bytes && due(SHORT_READ))
		bytes = half(bytes);
	got = __real_pread64(fd, data, bytes, offset);
	if (!source && got > 0 && due(DAMAGED_READ))
		((unsigned char *)data)[mixed((uint64_t)offset) % (size_t)got] ^= 0x20;
	return got;
}

bool __real_ring_reap(struct ring *ring, uint64_t *tag, int *result);
bool __wrap_ring_reap(struct ring *ring, uint64_t *tag, int *result);

/* Not done, or half of it: then it is done by pread or pwrite, which have errors of their own. */
bool __wrap_ring_reap(struct ring *ring, uint64_t *tag, int *result)
{
	if (!__real_ring_reap(ring, tag, result))
		return false;
	if (due(RING_FAILED))
		*result = *result > (int)PAGE_SIZE ? (int)PAGE_SIZE : -EAGAIN;
	return true;
}

void *__real_mem_alloc(size_t bytes);
void *__wrap_mem_alloc(size_t bytes);
int __real_mem_commit(void *addr, size_t bytes);
int __wrap_mem_commit(void *addr, size_t bytes);
int __real_uffd_copy(int fd, void *dst, const void *src, size_t bytes, bool write_protected,
		     size_t *done);
int __wrap_uffd_copy(int fd, void *dst, const void *src, size_t bytes, bool write_protected,
		     size_t *done);

void *__wrap_mem_alloc(size_t bytes)
{
	if (armed && --armed == 0 && due(NO_TABLE))
		return NULL;
	return __real_mem_alloc(bytes);
}

int __wrap_mem_commit(void *addr, size_t bytes)
{
	return due(NO_BLOCK) ? -ENOMEM : __real_mem_commit(addr, bytes);
}

int __wrap_uffd_copy(int fd, void *dst, const void *src, size_t bytes, bool write_protected,
		     size_t *done)
{
	if (!due(NO_COPY))
		return __real_uffd_copy(fd, dst, src, bytes, write_protected, done);
	if (done)
		*done = 0;
	return -ENOMEM;
}

/* --- between the layers --- */

int64_t __real_weir_pool_alloc(struct weir_pool *pool, unsigned order, unsigned flags,
			       unsigned owner);
int64_t __wrap_weir_pool_alloc(struct weir_pool *pool, unsigned order, unsigned flags,
			       unsigned owner);
int __real_compressed_put(struct compressed *store, const void *object, size_t size, slot_t *slot);
int __wrap_compressed_put(struct compressed *store, const void *object, size_t size, slot_t *slot);
int __real_weir_pool_owner_add(struct weir_pool *pool, const struct weir_pool_owner *owner);
int __wrap_weir_pool_owner_add(struct weir_pool *pool, const struct weir_pool_owner *owner);

int64_t __wrap_weir_pool_alloc(struct weir_pool *pool, unsigned order, unsigned flags,
			       unsigned owner)
{
	return due(NO_FRAME) ? -ENOMEM : __real_weir_pool_alloc(pool, order, flags, owner);
}

/* The slot is the caller's alone until a page's word names it. */
int __wrap_compressed_put(struct compressed *store, const void *object, size_t size, slot_t *slot)
{
	int err = __real_compressed_put(store, object, size, slot);

	if (!err && due(DAMAGED_OBJECT)) {
		struct object *obj = compressed_object(store, *slot);

		/* No window just now: not this one. */
		if (obj) {
			obj->packed[obj->bytes / 2] ^= 0x10;
			compressed_object_end(store, obj);
		}
	}
	return err;
}

static int counted_migrate(void *data, weir_pfn_t from, unsigned order, uint64_t private_word,
			   weir_pfn_t to)
{
	int err = injections.store.migrate(data, from, order, private_word, to);

	add_relaxed(err == -EAGAIN ? &injections.busy : &injections.moved, 1);
	return err;
}

/* The first owner is the compressed store. */
int __wrap_weir_pool_owner_add(struct weir_pool *pool, const struct weir_pool_owner *owner)
{
	struct weir_pool_owner counted = *owner;

	if (!injections.store.migrate) {
		injections.store = *owner;
		counted.migrate = counted_migrate;
	}
	return __real_weir_pool_owner_add(pool, &counted);
}
