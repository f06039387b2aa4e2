/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the unit tests of base/ share: threads that start together, a child that may die, random numbers.
 *
 * cmocka leaves a failed assertion by longjmp, so only the main thread may assert: thread bodies write what
 * they saw into their argument, and the test asserts after run_threads.
 */
#ifndef WEIR_TESTS_BASE_HELP_H
#define WEIR_TESTS_BASE_HELP_H

/* cmocka.h needs these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../random.h"

enum { MAX_THREADS = 16 };

typedef void (*thread_body)(unsigned index, void *arg);

struct thread_start {
	thread_body body;
	void *arg;
	unsigned index;
	pthread_barrier_t *together;
};

static inline void *thread_main(void *p)
{
	struct thread_start *start = p;

	pthread_barrier_wait(start->together);
	start->body(start->index, start->arg);
	return NULL;
}

/* Runs body on count threads that start together; returns when all have ended. */
static inline void run_threads(unsigned count, thread_body body, void *arg)
{
	struct thread_start start[MAX_THREADS];
	pthread_t thread[MAX_THREADS];
	pthread_barrier_t together;

	assert_in_range(count, 1, MAX_THREADS);
	assert_int_equal(pthread_barrier_init(&together, NULL, count), 0);
	for (unsigned i = 0; i < count; i++) {
		start[i] = (struct thread_start){body, arg, i, &together};
		assert_int_equal(pthread_create(&thread[i], NULL, thread_main, &start[i]), 0);
	}
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	pthread_barrier_destroy(&together);
}

struct child {
	int status;	    /* of waitpid */
	char stderr_[2048]; /* what it wrote to descriptor 2, as a string */
};

/* Runs body in a child process, which ends with 0 if body returns. */
static inline void run_child(struct child *child, void (*body)(void *arg), void *arg)
{
	size_t len = 0;
	ssize_t n;
	int ends[2];
	pid_t pid;

	fflush(NULL);
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		signal(SIGABRT, SIG_DFL);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		body(arg);
		_exit(0);
	}
	close(ends[1]);
	while ((n = read(ends[0], child->stderr_ + len, sizeof(child->stderr_) - 1 - len)) > 0)
		len += (size_t)n;
	child->stderr_[len] = 0;
	close(ends[0]);
	assert_int_equal(waitpid(pid, &child->status, 0), pid);
}

static inline void assert_panicked(const struct child *child)
{
	if (!WIFSIGNALED(child->status) || WTERMSIG(child->status) != SIGABRT)
		fail_msg("no panic: status %#x, \"%s\"", (unsigned)child->status, child->stderr_);
}

static inline void assert_says(const struct child *child, const char *words)
{
	if (!strstr(child->stderr_, words))
		fail_msg("\"%s\" is not in \"%s\"", words, child->stderr_);
}

/* Every magnitude is as likely as any other. */
static inline uint64_t random_magnitude(uint64_t *seed)
{
	unsigned shift = (unsigned)(random_next(seed) % 64);

	return random_next(seed) >> shift;
}

#endif
