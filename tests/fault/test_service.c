/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A region whose handlers are dead blocks: a thread that touches it waits, and never reads zeroes; also when the program
 * closes every descriptor that it can.
 */
#include "../unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>

#include "base/atomic.h"
#include "os/thread.h"
#include "weir/weir.h"

/* Handlers, weir's background thread, this one and the one that touches. */
enum { HANDLERS = 2, ALL = HANDLERS + 3 };

static struct {
	volatile char *page;
	_Atomic int tid;
	_Atomic bool done;
} dead;

static void *touch_main(void *arg)
{
	(void)arg;
	store_relaxed(&dead.tid, thread_id());
	(void)*dead.page;
	store_release(&dead.done, true);
	return NULL;
}

/* Does the thread sleep? By pread: read(2) is what handlers are denied. */
static bool sleeps(int tid)
{
	char path[64], text[512] = "";
	const char *state;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	child_check(fd >= 0 && pread(fd, text, sizeof(text) - 1, 0) > 0);
	close(fd);
	state = strrchr(text, ')');
	return state && (state[2] == 'S' || state[2] == 'D');
}

static unsigned threads_left(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned left = 0;

	child_check(tasks);
	for (struct dirent *task; (task = readdir(tasks));)
		left += task->d_name[0] != '.';
	closedir(tasks);
	return left;
}

/* Handlers end at their first read, of which the other waits for its turn. */
static void dead_handlers(void *arg)
{
	struct weir_options options = {
		.size = sizeof(options), .limit = MIB(4), .handlers = HANDLERS};
	const bool closes = *(bool *)arg;
	struct weir *weir;
	pthread_t thread;
	void *base;
	int err;

	deny(SYS_read, EIO);
	err = weir_open(&options, &weir);
	if (err == -EPERM || err == -ENOSYS) {
		dprintf(STDERR_FILENO, "%s", weir_advice(err));
		_exit(EXIT_SKIP);
	}
	child_check(!err && !weir_region_create(weir, MIB(1), &base));
	dead.page = base;
	child_check(!pthread_create(&thread, NULL, touch_main, NULL));
	/* It sleeps in its fault: seen asleep many times in a row, with everything else that runs in between; and a handler has ended,
	 * which has said why before. */
	for (unsigned asleep = 0; asleep < 200 || threads_left() == ALL; sched_yield()) {
		if (closes)
			(void)syscall(SYS_close_range, 3u, ~0u, 0u);
		child_check(!load_acquire(&dead.done));
		asleep =
			load_relaxed(&dead.tid) && sleeps(load_relaxed(&dead.tid)) ? asleep + 1 : 0;
	}
	child_check(!load_acquire(&dead.done));
	/* Who waits is left behind, which sanitizers would count. */
	syscall(SYS_exit_group, 0);
}

static void dead_handlers_block(bool closes)
{
	struct child child;

	run_child(&child, dead_handlers, &closes);
	assert_child_passed(&child);
	/* And it was that: they are dead, and have said so. */
	if (!strstr(child.stderr_, "reading faults failed (EIO)"))
		fail_msg("\"%s\"", child.stderr_);
}

static void test_dead_handlers_block(void **state)
{
	(void)state;
	dead_handlers_block(false);
}

static void test_dead_handlers_block_after_closefrom(void **state)
{
	(void)state;
	dead_handlers_block(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dead_handlers_block),
		cmocka_unit_test(test_dead_handlers_block_after_closefrom),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
