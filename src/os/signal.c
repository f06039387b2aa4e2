/* SPDX-License-Identifier: BSD-2-Clause */
#include "os/signal.h"

#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/lock.h"
#include "os/thread.h"

enum { SET_BYTES = 8 }; /* the kernel's sigset_t */

/* The system call itself: libc's may be the agent's, and keeps two signals of its own unblocked. */
static void mask(int how, const sigset_t *set, sigset_t *before)
{
	(void)syscall(SYS_rt_sigprocmask, how, set, before, (size_t)SET_BYTES);
}

void signals_unblock_bus(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGBUS);
	mask(SIG_UNBLOCK, &set, NULL);
}

/* --- SIGBUS --- */

static struct {
	struct lock lock;	/* (L) of installing and removing */
	unsigned users;		/* (L) */
	struct sigaction first; /* (L) what was there before ours */
	/* (L) without users: the program's handler that stands over ours, and calls it for what is not its own */
	struct sigaction over;
	bus_serve_fn serve; /* (C) once installed */
} bus = {.lock = LOCK_INIT(RANK_BUS, "bus handler")};

static struct bus_fault fault_of(const siginfo_t *info, const void *context)
{
	struct bus_fault f = {
		.address = (uintptr_t)info->si_addr,
		/* A userfaultfd says this and nothing else. Memory that the machine has lost (BUS_MCEERR_AR, BUS_MCEERR_AO)
		 * is no fault that could be served. */
		.fault = info->si_code == BUS_ADRERR,
		.present = true,
	};

#if defined(__x86_64__)
	/* The processor's error code of a page fault: bit 0 is a page that is there, bit 1 is a write. */
	f.present = ((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 1;
	f.write = ((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2;
	f.write_known = true;
#else
	(void)context;
#endif
	return f;
}

/* As the kernel would have called it. */
static void chain(int number, siginfo_t *info, void *context)
{
	const struct sigaction before = bus.first;
	const ucontext_t *user = context;
	sigset_t set = user->uc_sigmask;

	if (!(before.sa_flags & SA_SIGINFO) &&
	    (before.sa_handler == SIG_DFL || (before.sa_handler == SIG_IGN && info->si_code > 0))) {
		struct sigaction plain = {.sa_handler = SIG_DFL};

		/* The touch happens again, and ends the process where it stands. A kill(2) is sent on. */
		(void)sigaction(SIGBUS, &plain, NULL);
		if (info->si_code <= 0)
			(void)syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), number);
		return;
	}
	if (!(before.sa_flags & SA_SIGINFO) && before.sa_handler == SIG_IGN)
		return;
	/* It may leave by siglongjmp: nothing of ours may be open. */
	sigorset(&set, &set, &before.sa_mask);
	if (!(before.sa_flags & SA_NODEFER))
		sigaddset(&set, SIGBUS);
	mask(SIG_SETMASK, &set, NULL);
	if (before.sa_flags & SA_RESETHAND)
		bus.first = (struct sigaction){.sa_handler = SIG_DFL};
	if (before.sa_flags & SA_SIGINFO)
		before.sa_sigaction(number, info, context);
	else
		before.sa_handler(number);
}

static void on_bus(int number, siginfo_t *info, void *context)
{
	const int saved = errno;
	const struct bus_fault fault = fault_of(info, context);
	int cancel;
	bool served;

	/* To load a page is to call what may be a cancellation point: a thread that ended there would leave its page busy. */
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	served = fault.fault && bus.serve(&fault);
	(void)pthread_setcancelstate(cancel, NULL);
	errno = saved;
	if (!served)
		chain(number, info, context);
}

/* Is the program's handler that stood over ours when the last user went still there? It calls ours: once more over it, each
 * of the two would call the other for ever. */
static bool stands_over(void)
{
	struct sigaction now;

	/* sa_handler and sa_sigaction are one. */
	return bus.over.sa_handler != SIG_DFL && !sigaction(SIGBUS, NULL, &now) &&
	       now.sa_handler == bus.over.sa_handler;
}

int bus_handler_install(bus_serve_fn serve)
{
	/* Nested SIGBUS comes through, to be told as what it is. */
	struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER};
	int err = 0;

	thread_signals_asynchronous(&action.sa_mask);
	lock_acquire(&bus.lock);
	bus.serve = serve;
	if (!bus.users && !stands_over() && sigaction(SIGBUS, &action, &bus.first))
		err = -errno;
	bus.users += !err;
	lock_release(&bus.lock);
	return err;
}

void bus_handler_remove(void)
{
	struct sigaction now;

	lock_acquire(&bus.lock);
	if (--bus.users == 0 && !sigaction(SIGBUS, NULL, &now)) {
		bus.over = (struct sigaction){.sa_handler = SIG_DFL};
		if (now.sa_flags & SA_SIGINFO && now.sa_sigaction == on_bus)
			(void)sigaction(SIGBUS, &bus.first, NULL);
		else
			bus.over = now;
	}
	lock_release(&bus.lock);
}
