/* SPDX-License-Identifier: BSD-2-Clause */
#include "os/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/membarrier.h>
#include <linux/rseq.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/log.h"

int thread_start(pthread_t *thread, const char *name, thread_fn fn, void *arg)
{
	pthread_attr_t attr;
	char own[16] = "";
	sigset_t all, before;
	int err;

	err = pthread_attr_init(&attr);
	if (err)
		return -err;
	/* Buffers live in mappings of their own; a small stack keeps the address space of small programs small. */
	(void)pthread_attr_setstacksize(&attr, 256 << 10);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	/* It inherits its name: to give it one from here is a file of /proc to open and write, a twentieth of a start. */
	(void)prctl(PR_GET_NAME, own);
	(void)prctl(PR_SET_NAME, name);
	err = pthread_create(thread, &attr, fn, arg);
	(void)prctl(PR_SET_NAME, own);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return -err;
}

/* Leaves the shared table as well, when it is the first of several. */
static int close_from_to(unsigned from, unsigned to, bool first)
{
	if (syscall(SYS_close_range, from, to, first ? (unsigned)CLOSE_RANGE_UNSHARE : 0u))
		return -errno;
	return 0;
}

int thread_own_table(const int *keep, unsigned count)
{
	unsigned from = 0;
	bool first = true;
	int err;

	for (unsigned i = 0; i < count; i++) {
		unsigned kept = (unsigned)keep[i];

		if (kept > from) {
			err = close_from_to(from, kept - 1, first);
			if (err)
				return err;
			first = false;
		}
		from = kept + 1;
	}
	err = close_from_to(from, ~0u, first);
	if (err)
		return err;
	/* Whatever writes to 0, 1 or 2 here by mistake (an assertion of libc) must not hit a file of weir's. */
	for (;;) {
		int fd = open("/dev/null", O_RDWR);

		if (fd < 0 || fd > STDERR_FILENO) {
			if (fd > STDERR_FILENO)
				close(fd);
			return 0;
		}
	}
}

/* The system call itself: libc's function may be the agent's. The kernel's set is the first 64 bits of libc's. */
enum { KERNEL_SIGSET = 8 };

void thread_signals_asynchronous(sigset_t *set)
{
	/* SIGABRT is none of them: it is only ever sent, and abort(3) unblocks it itself. */
	static const int synchronous[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};

	/* Those of libc's own as well, which sigfillset leaves out. */
	memset(set, 0xff, sizeof(*set));
	for (unsigned i = 0; i < ARRAY_SIZE(synchronous); i++)
		sigdelset(set, synchronous[i]);
}

void thread_signals_block(sigset_t *before)
{
	sigset_t set;

	thread_signals_asynchronous(&set);
	sigemptyset(before);
	(void)syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, before, (size_t)KERNEL_SIGSET);
}

void thread_signals_restore(const sigset_t *before)
{
	(void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, before, NULL, (size_t)KERNEL_SIGSET);
}

int thread_fd_high(int fd)
{
	enum { HIGH = 480 };
	int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);

	if (high < 0)
		return fd;
	close(fd);
	return high;
}

static _Atomic int program_pidfd = -1; /* (A) set before the first line is logged */

/* A line of ours must not end the program: where nobody reads its standard error, the SIGPIPE is taken back. */
static void write_quietly(int fd, const char *line, size_t len)
{
	const struct timespec now = {0};
	sigset_t before, pipe, pending;

	thread_signals_block(&before);
	sigemptyset(&pending);
	(void)sigpending(&pending);
	while (len) {
		ssize_t n = write(fd, line, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EPIPE && !sigismember(&pending, SIGPIPE)) {
			sigemptyset(&pipe);
			sigaddset(&pipe, SIGPIPE);
			(void)sigtimedwait(&pipe, NULL, &now);
		}
		if (n <= 0)
			break;
		line += n;
		len -= (size_t)n;
	}
	thread_signals_restore(&before);
}

static void program_sink(const char *line, size_t len)
{
	int fd = (int)syscall(SYS_pidfd_getfd, load_relaxed(&program_pidfd), STDERR_FILENO, 0u);
	int to = fd < 0 ? STDERR_FILENO : fd;

	/* EBADF: the pidfd is valid in weir's table only; in a thread of the program descriptor 2 is right. Or
	 * the program has closed its standard error: then 2 is /dev/null (weir's table) or nothing. */
	write_quietly(to, line, len);
	if (fd >= 0)
		close(fd);
}

void thread_log_to_program(int pidfd)
{
	store_relaxed(&program_pidfd, pidfd);
	log_set_sink(pidfd < 0 ? NULL : program_sink);
}

int thread_id(void)
{
	return (int)syscall(SYS_gettid);
}

int process_id(void)
{
	return (int)getpid();
}

unsigned thread_cpu_count(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ? 1 : (unsigned)CPU_COUNT(&set);
}

unsigned thread_cpu_most(void)
{
	long most = sysconf(_SC_NPROCESSORS_CONF);

	return most > 0 ? (unsigned)most : 1;
}

int thread_cpu_now(void)
{
	return sched_getcpu();
}

int thread_affinity_get(int tid, cpu_set_t *set)
{
	CPU_ZERO(set);
	/* The system call itself: libc's wrapper may be the agent's. */
	return syscall(SYS_sched_getaffinity, tid, sizeof(*set), set) < 0 ? -errno : 0;
}

int thread_affinity_set(int tid, const cpu_set_t *set)
{
	return syscall(SYS_sched_setaffinity, tid, sizeof(*set), set) < 0 ? -errno : 0;
}

int thread_bind(int tid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return thread_affinity_set(tid, &set);
}

const volatile uint32_t *thread_cpu_word(void)
{
	if (__rseq_size == 0)
		return NULL;
	return (const volatile uint32_t *)((char *)__builtin_thread_pointer() + __rseq_offset +
					   offsetof(struct rseq, cpu_id));
}

int thread_barrier_register(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0u, 0) ? -errno
											 : 0;
}

void thread_barrier(void)
{
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0u, 0))
		panic("membarrier, registered for, fails: %s", errno_name(errno));
}
