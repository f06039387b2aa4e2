/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the unit tests above base/ share: seeds, pages with a guard behind them, children that check, system calls
 * that fail on demand, descriptors.
 */
#ifndef WEIR_TESTS_UNIT_H
#define WEIR_TESTS_UNIT_H

#include "base/help.h"

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include "base/base.h"

/* meson's word for "cannot run here" */
enum { EXIT_SKIP = 77 };

/* A seed for one test: printed, and WEIR_TEST_SEED=N takes it back. */
static inline uint64_t test_seed(void)
{
	const char *given = getenv("WEIR_TEST_SEED"); // NOLINT(concurrency-mt-unsafe): a test
	uint64_t seed = 0;

	if (given)
		seed = strtoull(given, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = now_ns();
	print_message("             WEIR_TEST_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

#define skip_because(...)                                                                          \
	do {                                                                                       \
		print_message("             skipped: " __VA_ARGS__);                               \
		print_message("\n");                                                               \
		skip();                                                                            \
	} while (0)

/* 0 to n - 1 */
static inline unsigned random_below(uint64_t *seed, unsigned n)
{
	return (unsigned)((random_next(seed) >> 32) * n >> 32);
}

static inline bool random_chance(uint64_t *seed, unsigned one_in)
{
	return random_below(seed, one_in) == 0;
}

/* first to 255, as a char */
static inline char random_char(uint64_t *seed, unsigned first)
{
	unsigned char any = (unsigned char)(first + random_below(seed, 256 - first));
	char c;

	memcpy(&c, &any, 1);
	return c;
}

static inline void random_bytes(uint64_t *seed, void *data, size_t bytes)
{
	unsigned char *at = data;

	for (; bytes >= 8; bytes -= 8, at += 8) {
		uint64_t r = random_next(seed);

		memcpy(at, &r, 8);
	}
	for (; bytes; bytes--)
		*at++ = (unsigned char)random_next(seed);
}

/* Memory that ends where nothing is mapped any more: one byte beyond is a fault. For the life of the program. */
static inline char *guarded(size_t bytes)
{
	size_t room = ALIGN_UP(bytes, PAGE_SIZE);
	char *map = mmap(NULL, room + PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(map != MAP_FAILED);
	assert_int_equal(mprotect(map + room, PAGE_SIZE, PROT_NONE), 0);
	return map + room - bytes;
}

static inline bool all_bytes_are(const void *data, int value, size_t bytes)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < bytes; i++) {
		if (p[i] != (unsigned char)value)
			return false;
	}
	return true;
}

/* --- children --- */

/* For bodies of run_child, where an assertion of cmocka would go on with the parent's tests. */
#define child_check(cond)                                                                          \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			dprintf(STDERR_FILENO, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__,       \
				#cond, errno);                                                     \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

/* A child that cannot do its test here ends with EXIT_SKIP and has said why. */
static inline void assert_child_passed(const struct child *child)
{
	if (WIFEXITED(child->status) && WEXITSTATUS(child->status) == EXIT_SKIP)
		skip_because("%s", child->stderr_);
	if (child->status)
		fail_msg("child: status %#x, \"%s\"", (unsigned)child->status, child->stderr_);
}

static inline void child_passes(void (*body)(void *arg), void *arg)
{
	struct child child;

	run_child(&child, body, arg);
	assert_child_passed(&child);
}

/*
 * From now on the system call nr fails with err in this process, where (argument arg & mask) == value; mask 0: always.
 * It cannot be taken back: for children. Only the low 32 bits of the argument are looked at.
 */
static inline void deny_if(int nr, unsigned arg, uint32_t mask, uint32_t value, int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 (uint32_t)offsetof(struct seccomp_data, args) + arg * 8),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {ARRAY_SIZE(code), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		dprintf(STDERR_FILENO, "seccomp filters are not to be had (errno %d)", errno);
		_exit(EXIT_SKIP);
	}
}

static inline void deny(int nr, int err)
{
	deny_if(nr, 0, 0, 0, err);
}

/* --- descriptors --- */

/* How many the calling thread's table has. */
static inline int descriptors_open_now(void)
{
	DIR *dir = opendir("/proc/thread-self/fd");
	int count = 0;

	if (!dir)
		return -1;
	while (readdir(dir)) // NOLINT(concurrency-mt-unsafe): a test
		count++;
	closedir(dir);
	return count - 3; /* . and .. and that of dir */
}

#endif
