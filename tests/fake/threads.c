/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * weir's own threads, one at a time and when the test lets them: each runs until it sleeps on a futex or yields. Every
 * run of a test is the same.
 *
 *                 the test waits, yields, or says so              it sleeps on a futex
 *      RUNNABLE ─────────────────────────────────▶ running ──────────────────────────▶ ASLEEP
 *         ▲ ▲                                         │                                  │
 *         │ └──────────────── it yields ──────────────┘                                  │
 *         └───────────────────────── woken, by the test or another ──────────────────────┘
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/lock.h"
#include "os/thread.h"
#include "state.h"

enum { THREADS_MAX = 256 };
enum state { NONE, RUNNABLE, ASLEEP, ENDED, LEFT };

struct thread {
	pthread_t real;
	thread_fn fn;
	void *arg;
	enum state state;
	_Atomic uint32_t *word; /* ASLEEP */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t passed = PTHREAD_COND_INITIALIZER;
static struct thread thread[THREADS_MAX], *running; /* running NULL: the test */
static _Atomic bool on;
static _Thread_local struct thread *self;

int __real_thread_start(pthread_t *real, const char *name, thread_fn fn, void *arg);
int __wrap_thread_start(pthread_t *real, const char *name, thread_fn fn, void *arg);
int __real_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns);
int __wrap_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns);
int __real_futex_wake(_Atomic uint32_t *word, int count);
int __wrap_futex_wake(_Atomic uint32_t *word, int count);
int __real_pthread_join(pthread_t real, void **result);
int __wrap_pthread_join(pthread_t real, void **result);

void fake_threads(bool fake)
{
	store_relaxed(&on, fake);
}

void fake_threads_reset(void)
{
	store_relaxed(&on, false);
	/* A test that failed leaves some. They wait for ever, and their places stay theirs. */
	for (struct thread *t = thread; t < thread + THREADS_MAX; t++) {
		if (t->state != NONE)
			t->state = LEFT;
	}
}

/* It is to's turn, and the caller's again some time. With the lock. */
static void pass(struct thread *to)
{
	running = to;
	pthread_cond_broadcast(&passed);
	while (running != self)
		pthread_cond_wait(&passed, &lock);
}

static void *main_of(void *data)
{
	self = data;
	pthread_mutex_lock(&lock);
	while (running != self)
		pthread_cond_wait(&passed, &lock);
	pthread_mutex_unlock(&lock);
	(void)self->fn(self->arg);
	pthread_mutex_lock(&lock);
	self->state = ENDED;
	running = NULL;
	pthread_cond_broadcast(&passed);
	pthread_mutex_unlock(&lock);
	return NULL;
}

int __wrap_thread_start(pthread_t *real, const char *name, thread_fn fn, void *arg)
{
	struct fake_failure failure = {0};
	struct thread *t = thread;
	bool fails;

	if (!load_relaxed(&on))
		return __real_thread_start(real, name, fn, arg);
	fake_guard_enter();
	fails = fake_called(FAKE_THREAD, 1, &failure);
	fake_guard_leave();
	if (fails)
		return failure.err;
	while (t < thread + THREADS_MAX && t->state != NONE)
		t++;
	if (t == thread + THREADS_MAX)
		fake_misuse("too many threads");
	*t = (struct thread){.fn = fn, .arg = arg, .state = RUNNABLE};
	if (pthread_create(&t->real, NULL, main_of, t))
		fake_misuse("no thread");
	*real = t->real;
	return 0;
}

/* One turn for each that can run. By the test. False: none can. */
static bool turn(void)
{
	bool some = false;

	pthread_mutex_lock(&lock);
	for (struct thread *t = thread; t < thread + THREADS_MAX; t++) {
		if (t->state != RUNNABLE)
			continue;
		some = true;
		pass(t);
	}
	pthread_mutex_unlock(&lock);
	return some;
}

bool fake_threads_yield(void)
{
	if (!load_relaxed(&on))
		return false;
	if (!self)
		return turn();
	pthread_mutex_lock(&lock);
	pass(NULL);
	pthread_mutex_unlock(&lock);
	return true;
}

void fake_threads_run(void)
{
	while (turn())
		;
}

int __wrap_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
	if (!load_relaxed(&on))
		return __real_futex_wait(word, expected, timeout_ns);
	if (!self) {
		while (load_relaxed(word) == expected && turn())
			;
		if (load_relaxed(word) == expected && !timeout_ns)
			fake_misuse("the test waits for what nobody does");
		return load_relaxed(word) == expected ? -ETIMEDOUT : 0;
	}
	pthread_mutex_lock(&lock);
	if (load_relaxed(word) == expected) {
		self->state = ASLEEP;
		self->word = word;
		pass(NULL);
	}
	pthread_mutex_unlock(&lock);
	return 0;
}

int __wrap_futex_wake(_Atomic uint32_t *word, int count)
{
	if (!load_relaxed(&on))
		return __real_futex_wake(word, count);
	for (struct thread *t = thread; t < thread + THREADS_MAX && count; t++) {
		if (t->state != ASLEEP || t->word != word)
			continue;
		t->state = RUNNABLE;
		count--;
	}
	return 0;
}

int __wrap_pthread_join(pthread_t real, void **result)
{
	struct thread *t = thread;

	while (t < thread + THREADS_MAX && (t->state == NONE || !pthread_equal(t->real, real)))
		t++;
	if (!load_relaxed(&on) || t == thread + THREADS_MAX)
		return __real_pthread_join(real, result);
	while (t->state != ENDED) {
		if (!turn())
			fake_misuse("a thread is joined that never ends");
	}
	t->state = NONE;
	return __real_pthread_join(real, result);
}
