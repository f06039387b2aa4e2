/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/lock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

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

void lock_order_check(const struct lock *lock)
{
	for (unsigned i = 0; i < held.count; i++) {
		if (held.lock[i]->rank >= lock->rank)
			panic("lock order: %s (rank %u) is taken while %s (rank %u) is held",
			      lock->name, lock->rank, held.lock[i]->name, held.lock[i]->rank);
	}
}

void lock_order_push(const struct lock *lock)
{
	assert_always(held.count < MAX_HELD);
	held.lock[held.count++] = lock;
}

void lock_order_pop(const struct lock *lock)
{
	for (unsigned i = held.count; i-- > 0;) {
		if (held.lock[i] == lock) {
			held.lock[i] = held.lock[--held.count];
			return;
		}
	}
	panic("lock %s is released by a thread that does not hold it", lock->name);
}
#endif

void lock_init(struct lock *lock, enum lock_rank rank, const char *name)
{
	*lock = (struct lock)LOCK_INIT((uint16_t)rank, name);
	(void)rank;
	(void)name;
}

/*
 * Looks again at growing distances: each look takes the line from the holder, who would have let it go meanwhile, or
 * taken it again for nothing.
 */
void lock_wait(struct lock *lock)
{
	enum { LONGEST = 64 };

	for (int spins = 1; spins <= LONGEST; spins *= 2) {
		uint32_t seen = LOCK_FREE;

		for (int i = 0; i < spins; i++)
			cpu_relax();
		/* Pairs with the exchange in lock_release. */
		if (load_relaxed(&lock->word) == LOCK_FREE &&
		    cas_acquire(&lock->word, &seen, LOCK_HELD))
			return;
	}
	while (exchange_acquire(&lock->word, LOCK_WAITED) != LOCK_FREE)
		(void)futex_wait(&lock->word, LOCK_WAITED, 0);
}

void lock_wake(struct lock *lock)
{
	(void)futex_wake(&lock->word, 1);
}

bool lock_try(struct lock *lock)
{
	uint32_t seen = LOCK_FREE;

	if (!cas_acquire(&lock->word, &seen, LOCK_HELD))
		return false;
	lock_order_push(lock);
	return true;
}
