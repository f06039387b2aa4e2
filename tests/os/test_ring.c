/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * io_uring: a wait lasts until what is waited for is there, whatever interrupts it. Requests are reads of pipes, which are
 * ready when the test says so.
 */
#include "../unit.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "os/ring.h"

enum { REQUESTS = 3, SIGNALS = 1000 };

static int ends[REQUESTS][2];

static void interrupt(int signal)
{
	(void)signal;
}

/* Between one request's data and the next one's the waiter is interrupted, as by a stop signal or a debugger, which no mask
 * holds back. */
static void *feed(void *waiter)
{
	for (unsigned i = 0; i < REQUESTS; i++) {
		/* Not counted where they arrive: ThreadSanitizer puts handlers off while a thread waits. */
		for (unsigned n = 0; n < SIGNALS; n++) {
			pthread_kill(*(pthread_t *)waiter, SIGUSR1);
			sched_yield();
		}
		assert_always(write(ends[i][1], "ring", 4) == 4);
	}
	return NULL;
}

static void test_a_wait_is_not_cut_short(void **state)
{
	const struct sigaction action = {.sa_handler = interrupt};
	struct file file[REQUESTS] = {0};
	char text[REQUESTS][4] = {0};
	pthread_t me = pthread_self(), feeder;
	static struct ring ring;
	uint64_t tag, seen = 0;
	int result;

	(void)state;
	if (ring_open(&ring, 4)) {
		print_message("io_uring is not to be had here\n");
		skip();
	}
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	for (unsigned i = 0; i < REQUESTS; i++) {
		assert_int_equal(pipe(ends[i]), 0);
		file[i].fd = ends[i][0];
		ring_read(&ring, &file[i], text[i], 4, 0, i);
	}
	assert_int_equal(pthread_create(&feeder, NULL, feed, &me), 0);
	ring_submit(&ring, REQUESTS);
	while (ring_reap(&ring, &tag, &result)) {
		assert_int_equal(result, 4);
		assert_memory_equal(text[tag], "ring", 4);
		seen |= 1u << tag;
	}
	assert_int_equal(seen, (1u << REQUESTS) - 1);
	assert_int_equal(pthread_join(feeder, NULL), 0);
	ring_close(&ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_wait_is_not_cut_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
