/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls of the program, and of mimalloc, that weir must know of.
 *
 * madvise and mprotect: what mimalloc gives back is discarded through the page states. What the program maps itself is in
 * mapping.c.
 *
 * Threads and processes inherit the CPU affinity of their creator: a thread that weir has bound beside its handler is
 * let go before it creates one, and before the program looks at its affinity. SIGBUS stays unblocked, since a
 * poisoned page is told by it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/syscall.h>
#include <threads.h>
#include <unistd.h>

#include "agent.h"
#include "base/atomic.h"
#include "base/base.h"
#include "base/log.h"
#include "mapping.h"
#include "fork.h"
#include "maps.h"
#include "os/mem.h"

/* The next definition of a name behind the agent's. Looked up once each; a race looks it up twice. */
#define NEXT(name)                                                                                 \
	({                                                                                         \
		static __typeof__(&name) next_;                                                    \
		if (!next_)                                                                        \
			next_ = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                        \
		next_;                                                                             \
	})

static void let_go(void)
{
	struct weir *weir = agent_weir();

	if (weir)
		weir_thread_unbind(weir);
}

/* --- memory --- */

/* Of malloc memory: a child of fork has zeroes there. The kernel sees to what it copies, weir to what it brings. */
static int wipe_heap(struct weir *weir, void *addr, size_t length, int advice)
{
	const size_t bytes = ALIGN_UP(length, PAGE_SIZE);
	const bool inside = bytes <= agent.region_bytes - (size_t)((char *)addr - agent.region);
	const int before = errno;
	int err = syscall(SYS_madvise, addr, length, advice) ? -errno : 0;

	/* Beyond the region nothing is anonymous memory of one mapping: the kernel has refused. */
	if (!err && inside)
		err = maps_wipe(weir, addr, bytes, advice == MADV_WIPEONFORK);
	return agent_answer(before, err);
}

AGENT_EXPORT int madvise(void *addr, size_t bytes, int advice)
{
	struct weir *weir = agent_weir();
	const int before = errno;

	if (weir && mapping_touches(addr, bytes))
		return agent_answer(before, mapping_advise(weir, addr, bytes, advice));
	if (!weir || !agent.region || !agent_owns(addr))
		return (int)syscall(SYS_madvise, addr, bytes, advice);
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_FREE:
		return agent_answer(before,
				    maps_advise_dontneed(weir, addr, ALIGN_UP(bytes, PAGE_SIZE)));
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
		return wipe_heap(weir, addr, bytes, advice);
	case MADV_NORMAL:
	case MADV_RANDOM:
	case MADV_SEQUENTIAL:
	case MADV_WILLNEED:
	case MADV_COLD:
	case MADV_PAGEOUT:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
	case MADV_DONTFORK:
	case MADV_DOFORK:
	case MADV_DONTDUMP:
	case MADV_DODUMP:
	case MADV_POPULATE_READ:
	case MADV_POPULATE_WRITE:
		/* Huge pages, sharing and the kernel's own reclaim are not for a region; and a child that has what it is not to have does no harm. */
		return 0;
	default:
		/* As for mappings: guards, what is for shared memory, and what nobody knows. */
		return agent_answer(before, -EINVAL);
	}
}

AGENT_EXPORT int posix_madvise(void *addr, size_t bytes, int advice)
{
	/* POSIX's DONTNEED is only a hint that must not destroy contents. */
	if ((agent.region && agent_owns(addr)) || mapping_touches(addr, bytes))
		return 0;
	return advice == POSIX_MADV_DONTNEED		   ? 0
	       : syscall(SYS_madvise, addr, bytes, advice) ? errno
							   : 0;
}

/* What is locked cannot leave. A quarter of the limit may be; whoever asks for more learns that he may not, and mostly does without. */
static bool may_lock(struct weir *weir, const void *addr, size_t bytes)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	if (weir)
		mapping_locking(addr, bytes);
	if (!weir || !(agent_owns(addr) || mapping_touches(addr, bytes)) ||
	    weir_stats_read(weir, &stats) || mem_locked() + bytes <= stats.limit / 4)
		return true;
	log_once("mlock of more than a quarter of the limit is refused");
	errno = EPERM;
	return false;
}

AGENT_EXPORT int mlock(const void *addr, size_t bytes)
{
	return may_lock(agent_weir(), addr, bytes) ? (int)syscall(SYS_mlock, addr, bytes) : -1;
}

AGENT_EXPORT int mlock2(const void *addr, size_t bytes, unsigned flags)
{
	return may_lock(agent_weir(), addr, bytes) ? (int)syscall(SYS_mlock2, addr, bytes, flags)
						   : -1;
}

/* It would bring all of weir's reservations into memory, the region's 256 GiB among them. */
AGENT_EXPORT int mlockall(int flags)
{
	if (!agent.region)
		return NEXT(mlockall)(flags);
	log_once("mlockall is refused: memory under a limit cannot all stay in memory");
	errno = EPERM;
	return -1;
}

/* Of malloc memory. Before there is an instance nobody keeps count of what cannot be read, and weir's threads will read pages where they
 * stand to compress them: a guard catches writes only. */
static int protect_heap(struct weir *weir, void *addr, size_t length, int protection, int key)
{
	const bool readable = (protection & (PROT_READ | PROT_WRITE)) && key <= 0;
	const size_t bytes = ALIGN_UP(length, PAGE_SIZE);
	const bool whole = !((uintptr_t)addr & PAGE_MASK) && bytes &&
			   bytes <= agent.region_bytes - (size_t)((char *)addr - agent.region);
	int err;

	if (!weir)
		protection |= PROT_READ;
	else if (whole && !readable)
		maps_readable(weir, addr, bytes, false);
	err = (int)(key < 0 ? syscall(SYS_mprotect, addr, length, protection)
			    : syscall(SYS_pkey_mprotect, addr, length, protection, key));
	if (weir && whole && readable && !err)
		maps_readable(weir, addr, bytes, true);
	return err;
}

static int protect_any(void *addr, size_t bytes, int protection, int key)
{
	struct weir *weir = agent_weir();
	const int before = errno;

	if (agent.region && agent_owns(addr) && load_relaxed(&agent.state) != AGENT_PLAIN)
		return protect_heap(weir, addr, bytes, protection, key);
	if (!weir || !mapping_touches(addr, bytes))
		return (int)(key < 0 ? syscall(SYS_mprotect, addr, bytes, protection)
				     : syscall(SYS_pkey_mprotect, addr, bytes, protection, key));
	return agent_answer(before, mapping_protect(weir, addr, bytes, protection, key));
}

AGENT_EXPORT int mprotect(void *addr, size_t bytes, int protection)
{
	return protect_any(addr, bytes, protection, -1);
}

AGENT_EXPORT int pkey_mprotect(void *addr, size_t bytes, int protection, int key)
{
	return protect_any(addr, bytes, protection, key);
}

/* --- threads --- */

struct start {
	void *(*fn)(void *);
	thrd_start_t c11; /* where fn is NULL */
	void *arg;
};

/*
 * Where a stack lies in managed memory, so does libc's data of its thread. When that has ended the kernel writes there, and wakes who joins; it does
 * not wait for a fault of a thread that ends, so the page must be there then. The stack's next thread lets it go, or who joins, or who unmaps it.
 */
enum { OWN_DATA = 1024 };

static void own_data_stay(struct weir *weir, pthread_t thread, bool stay)
{
	void *data = (void *)thread; // NOLINT(performance-no-int-to-ptr)

	if (!agent_owns(data) && !mapping_touches(data, OWN_DATA))
		return;
	if (stay)
		(void)weir_region_pin(weir, data, OWN_DATA, 1);
	else
		(void)weir_region_unpin(weir, data, OWN_DATA);
}

static void thread_over(void *data)
{
	struct weir *weir = agent_weir();

	(void)data;
	if (!weir)
		return;
	weir_thread_detach(weir);
	own_data_stay(weir, pthread_self(), true);
}

AGENT_EXPORT int pthread_join(pthread_t thread, void **result)
{
	struct weir *weir = agent_weir();
	int err = NEXT(pthread_join)(thread, result);

	if (!err && weir)
		own_data_stay(weir, thread, false);
	return err;
}

static void *thread_begin(void *data)
{
	struct start start = *(struct start *)data;
	struct weir *weir = agent_weir();
	void *result;

	free(data);
	if (weir) {
		/* Of the stack's last thread. */
		own_data_stay(weir, pthread_self(), false);
		weir_thread_attach(weir);
	}
	pthread_cleanup_push(thread_over, NULL);
	result = start.fn ? start.fn(start.arg) : (void *)(intptr_t)start.c11(start.arg);
	pthread_cleanup_pop(1);
	return result;
}

static int thread_begin_c11(void *data)
{
	return (int)(intptr_t)thread_begin(data);
}

/* Before a thread is created. NULL: no memory. */
static struct start *start_new(struct start start)
{
	struct start *copy = malloc(sizeof(*copy));

	if (!copy)
		return NULL;
	*copy = start;
	let_go();
	return copy;
}

AGENT_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
				void *arg)
{
	__typeof__(&pthread_create) next = NEXT(pthread_create);
	struct start *start;
	int err;

	/* weir's own threads are created before there is an instance. */
	if (!agent_weir())
		return next(thread, attr, fn, arg);
	start = start_new((struct start){.fn = fn, .arg = arg});
	if (!start)
		return EAGAIN;
	err = next(thread, attr, thread_begin, start);
	if (err)
		free(start);
	return err;
}

/* libc's does not pass through pthread_create. */
AGENT_EXPORT int thrd_create(thrd_t *thread, thrd_start_t fn, void *arg)
{
	struct start *start;
	int result;

	if (!agent_weir())
		return NEXT(thrd_create)(thread, fn, arg);
	start = start_new((struct start){.c11 = fn, .arg = arg});
	if (!start)
		return thrd_nomem;
	result = NEXT(thrd_create)(thread, thread_begin_c11, start);
	if (result != thrd_success)
		free(start);
	return result;
}

AGENT_EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	__typeof__(&pthread_sigmask) next = NEXT(pthread_sigmask);
	sigset_t without;

	if (!set || how == SIG_UNBLOCK || !agent_weir())
		return next(how, set, old);
	without = *set;
	sigdelset(&without, SIGBUS);
	return next(how, &without, old);
}

AGENT_EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	int err = pthread_sigmask(how, set, old);

	errno = err ? err : errno;
	return err ? -1 : 0;
}

/* --- affinity --- */

AGENT_EXPORT int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
	let_go();
	return NEXT(sched_getaffinity)(pid, size, set);
}

AGENT_EXPORT int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
{
	let_go();
	return NEXT(sched_setaffinity)(pid, size, set);
}

AGENT_EXPORT int pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *set)
{
	let_go();
	return NEXT(pthread_getaffinity_np)(thread, size, set);
}

AGENT_EXPORT int pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set)
{
	let_go();
	return NEXT(pthread_setaffinity_np)(thread, size, set);
}

AGENT_EXPORT int get_nprocs(void)
{
	let_go();
	return NEXT(get_nprocs)();
}

AGENT_EXPORT long sysconf(int name)
{
	if (name == _SC_NPROCESSORS_ONLN)
		let_go();
	return NEXT(sysconf)(name);
}

/* --- processes --- */

AGENT_EXPORT int posix_spawn(pid_t *pid, const char *path,
			     const posix_spawn_file_actions_t *actions,
			     const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	let_go();
	return NEXT(posix_spawn)(pid, path, actions, attr, argv, envp);
}

AGENT_EXPORT int posix_spawnp(pid_t *pid, const char *file,
			      const posix_spawn_file_actions_t *actions,
			      const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	let_go();
	return NEXT(posix_spawnp)(pid, file, actions, attr, argv, envp);
}

AGENT_EXPORT int system(const char *command)
{
	let_go();
	return NEXT(system)(command);
}

AGENT_EXPORT FILE *popen(const char *command, const char *mode)
{
	let_go();
	return NEXT(popen)(command, mode);
}

AGENT_EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	let_go();
	return NEXT(execve)(path, argv, envp);
}

AGENT_EXPORT int execv(const char *path, char *const argv[])
{
	let_go();
	return NEXT(execv)(path, argv);
}

AGENT_EXPORT int execvp(const char *file, char *const argv[])
{
	let_go();
	return NEXT(execvp)(file, argv);
}

AGENT_EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	let_go();
	return NEXT(execvpe)(file, argv, envp);
}

AGENT_EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	let_go();
	return NEXT(fexecve)(fd, argv, envp);
}

/* The forms with a list of arguments: made into a vector on the stack, as exec may be called where malloc may not. */
#define EXEC_LIST(first, last, call)                                                               \
	va_list list;                                                                              \
	size_t count = 1;                                                                          \
	va_start(list, first);                                                                     \
	while (va_arg(list, char *))                                                               \
		count++;                                                                           \
	va_end(list);                                                                              \
	char *argv[count + 1];                                                                     \
	argv[0] = (char *)(uintptr_t)(first);                                                      \
	va_start(list, first);                                                                     \
	for (size_t i = 1; i <= count; i++)                                                        \
		argv[i] = va_arg(list, char *);                                                    \
	last;                                                                                      \
	va_end(list);                                                                              \
	return call

AGENT_EXPORT int execl(const char *path, const char *arg, ...)
{
	EXEC_LIST(arg, (void)0, execv(path, argv));
}

AGENT_EXPORT int execlp(const char *file, const char *arg, ...)
{
	EXEC_LIST(arg, (void)0, execvp(file, argv));
}

AGENT_EXPORT int execle(const char *path, const char *arg, ...)
{
	char *const *envp;

	EXEC_LIST(arg, envp = va_arg(list, char *const *), execve(path, argv, envp));
}

/* Of a fork the kernel tells weir by a descriptor. Where there cannot be one more, the fork would wait for ever. */
AGENT_EXPORT pid_t fork(void)
{
	enum { PLENTY = 1024 };
	struct weir *weir = agent_weir();
	struct rlimit limit;

	if (!weir || getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= PLENTY ||
	    fork_room(weir))
		return NEXT(fork)();
	log_once("a fork is refused: no more descriptors are allowed; raise the limit (ulimit -n)");
	errno = EAGAIN;
	return -1;
}

/* vfork returns twice from the caller's frame, so nothing may stand between: let go, then jump. */
void agent_let_go(void);
void *(*agent_next_vfork)(void);

void agent_let_go(void)
{
	let_go();
	if (!agent_next_vfork)
		agent_next_vfork = (void *(*)(void))dlsym(RTLD_NEXT, "vfork");
}

#if defined(__x86_64__)
__asm__(".text\n"
	".globl vfork\n"
	".type vfork, @function\n"
	"vfork:\n"
	"	endbr64\n"
	"	subq $8, %rsp\n"
	"	call agent_let_go\n"
	"	addq $8, %rsp\n"
	"	movq agent_next_vfork(%rip), %rax\n"
	"	jmp *%rax\n"
	".size vfork, . - vfork\n");
#endif

/* A program that leaves without exit(3) is reported too; exit(3) itself reports from the agent's destructor. */
AGENT_EXPORT _Noreturn void _exit(int status)
{
	agent_report();
	syscall(SYS_exit_group, status);
	__builtin_unreachable();
}

AGENT_EXPORT _Noreturn void _Exit(int status)
{
	_exit(status);
}
