/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/lock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FREE, HELD, WAITED };

int futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(timeout_ns / 1000000000u),
		.tv_nsec = (long)(timeout_ns % 1000000000u),
	};

	if (syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns ? &ts : NULL, NULL,
		    0))
		return -errno;
	return 0;
}

int futex_wake(_Atomic uint32_t *word, int count)
{
	long woken = syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);

	return woken < 0 ? -errno : (int)woken;
}

#ifdef WEIR_DEBUG
enum { MAX_HELD = 16 };
static _Thread_local struct {
	const struct lock *lock[MAX_HELD];
	unsigned count;
} held __attribute__((tls_model("initial-exec")));

static void order_check(const struct lock *lock)
{
	for (unsigned i = 0; i < held.count; i++) {
		if (held.lock[i]->rank >= lock->rank)
			panic("lock order: %s (rank %u) is taken while %s (rank %u) is held",
			      lock->name, lock->rank, held.lock[i]->name, held.lock[i]->rank);
	}
}

static void order_push(const struct lock *lock)
{
	assert_always(held.count < MAX_HELD);
	held.lock[held.count++] = lock;
}

static void order_pop(const struct lock *lock)
{
	for (unsigned i = held.count; i-- > 0;) {
		if (held.lock[i] == lock) {
			held.lock[i] = held.lock[--held.count];
			return;
		}
	}
	panic("lock %s is released by a thread that does not hold it", lock->name);
}
#else
static inline void order_check(const struct lock *lock)
{
	(void)lock;
}
static inline void order_push(const struct lock *lock)
{
	(void)lock;
}
static inline void order_pop(const struct lock *lock)
{
	(void)lock;
}
#endif

void lock_init(struct lock *lock, enum lock_rank rank, const char *name)
{
	*lock = (struct lock)LOCK_INIT((uint16_t)rank, name);
	(void)rank;
	(void)name;
}

void lock_acquire(struct lock *lock)
{
	uint32_t seen = FREE;

	order_check(lock);
	/* Pairs with the exchange in lock_release. */
	if (likely(cas_acquire(&lock->word, &seen, HELD)))
		goto out;
	for (int spin = 0; spin < 64; spin++) {
		cpu_relax();
		seen = FREE;
		if (load_relaxed(&lock->word) == FREE && cas_acquire(&lock->word, &seen, HELD))
			goto out;
	}
	while (exchange_acquire(&lock->word, WAITED) != FREE)
		(void)futex_wait(&lock->word, WAITED, 0);
out:
	order_push(lock);
}

bool lock_try(struct lock *lock)
{
	uint32_t seen = FREE;

	if (!cas_acquire(&lock->word, &seen, HELD))
		return false;
	order_push(lock);
	return true;
}

void lock_release(struct lock *lock)
{
	order_pop(lock);
	/* Pairs with the acquires above: the next holder sees what this one wrote. */
	if (exchange_release(&lock->word, FREE) == WAITED)
		(void)futex_wake(&lock->word, 1);
}
