/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads of weir's own, and where threads run.
 *
 * weir's threads block every signal, so none of the program's handlers ever runs on them, and have a table of file
 * descriptors that is not the program's: the first of them leaves the program's table (thread_own_table), and
 * the others are started by it. So closefrom(3) in the program cannot close the userfaultfd, which would turn every
 * later fault into a page of zeroes; and no pipe of the program is kept open by weir.
 */
#ifndef WEIR_OS_THREAD_H
#define WEIR_OS_THREAD_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "base/base.h"

typedef void *(*thread_fn)(void *arg);

/* Starts a thread with all signals blocked. 0 or -errno. */
int thread_start(pthread_t *thread, const char *name, thread_fn fn, void *arg);
/* Leaves the descriptor table that is shared with the program, with one that has only keep[], which rises (count may be
 * 0). -ENOSYS before Linux 5.9. */
int thread_own_table(const int *keep, unsigned count);
/* Moves a descriptor to a high number, out of the way of programs that count on low ones, close-on-exec. Returns the new
 * one, or fd where there is no room. */
int thread_fd_high(int fd);
/* Lets log lines of threads with a table of their own go to the program's standard error, as it is at that
 * moment. Takes a pidfd of this process (-1: back to descriptor 2). */
void thread_log_to_program(int pidfd);

/*
 * Around what a program's thread does under a lock that handlers take too, or while it holds busy bits: a signal handler
 * of the program that ran there and touched a page that is not in memory would wait for a handler that waits for this
 * thread.
 */
void thread_signals_block(sigset_t *before);
/* What that blocks: all signals but those that a thread causes by what it does, which would end the process if they were
 * blocked; and by SIGBUS a thread is told of its faults in signal mode. */
void thread_signals_asynchronous(sigset_t *set);
void thread_signals_restore(const sigset_t *before);
/* The same for the rest of a block of C. */
#define THREAD_SIGNALS_BLOCKED                                                                     \
	sigset_t signals_before_ __attribute__((cleanup(thread_signals_restore)));                 \
	thread_signals_block(&signals_before_)
/* membarrier(2), private expedited: when it returns, every running thread of the process has passed a full barrier.
 * Register once before; -ENOSYS, -EPERM: not to be had here. */
int thread_barrier_register(void);
void thread_barrier(void);

int thread_id(void);
int process_id(void);
unsigned thread_cpu_count(void); /* those that this process may use */
unsigned
thread_cpu_most(void); /* those that this machine may ever have: above every CPU's number */
int thread_cpu_now(void);
/* Where a thread may run. tid 0: the caller. */
int thread_affinity_get(int tid, cpu_set_t *set);
int thread_affinity_set(int tid, const cpu_set_t *set);
int thread_bind(int tid, int cpu);
/* The word in which the kernel keeps the caller's CPU (its rseq area): a plain load for other threads, valid
 * as long as the caller lives. NULL without rseq. */
const volatile uint32_t *thread_cpu_word(void);

#endif
