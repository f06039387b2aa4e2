/* SPDX-License-Identifier: BSD-2-Clause */
/* A live instance: it is seen and steered by who knows how to ask, answers nonsense with an error, and leaves nothing behind. */
#include "unit.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "command.h"
#include "instance.h"
#include "os/socket.h"
#include "segment.h"
#include "weir/weir.h"

static struct weir *weir;
static struct seen seen;

static const char *own_name(unsigned n)
{
	static char name[64];

	snprintf(name, sizeof(name), n ? "weir/%d.%u" : "weir/%d", (int)getpid(), n);
	return name;
}

/* Signal mode needs no permission, but cmocka has a SIGBUS handler of its own: then no region is touched. */
static enum weir_mode mode = WEIR_MODE_THREAD;

static int open_instance(void **state)
{
	struct weir_options options = {
		.size = sizeof(options), .limit = MIB(8), .mode = mode, .publish = 1};
	int err = weir_open(&options, &weir);

	if (err == -EPERM && mode == WEIR_MODE_THREAD) {
		mode = WEIR_MODE_SIGNAL;
		return open_instance(state);
	}
	if (err == -ENOSYS || err == -EPERM) {
		print_message("skipped: userfaultfd is not to be had here\n");
		exit(EXIT_SKIP);
	}
	return err;
}

static void need_thread_mode(void)
{
	if (mode != WEIR_MODE_THREAD)
		skip_because("no permission for userfaultfd, and so no region that can be touched");
}

static int close_instance(void **state)
{
	(void)state;
	weir_close(weir);
	return 0;
}

/* The thread listens a moment after weir_open has returned. */
static int connected(unsigned n)
{
	int fd;

	while ((fd = socket_connect(own_name(n))) == -ECONNREFUSED)
		sched_yield();
	assert_true(fd >= 0);
	return fd;
}

/* The next packet; passed may be NULL. */
static struct reply received(int fd, int *passed)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	struct reply reply;
	char text[128];
	ssize_t n;

	assert_int_equal(socket_poll(&ready, 1, 30000), 1);
	n = socket_receive(fd, text, sizeof(text) - 1, passed);
	assert_true(n > 0);
	assert_int_equal(reply_parse(text, (size_t)n, &reply), 0);
	return reply;
}

static struct reply asked(int fd, const char *text, int *passed)
{
	assert_int_equal(socket_send(fd, text, strlen(text), -1), strlen(text));
	return received(fd, passed);
}

/* Asks to watch, and reads what comes. */
static int watched(int fd)
{
	char bytes[128 << 10];
	int segment;
	ssize_t n;

	assert_int_equal(asked(fd, "watch\n", &segment).result, 0);
	assert_true(segment >= 0);
	n = pread(segment, bytes, sizeof(bytes), 0);
	assert_true(n > 0);
	assert_int_equal(segment_parse(bytes, (size_t)n, &seen), 0);
	return segment;
}

static void its_figures_are_seen(void **state)
{
	struct weir_stats stats = {.size = sizeof(stats)};
	struct weir_region_options in_night = {.size = sizeof(in_night)};
	struct weir_container *batch, *night;
	int fd, segment;
	char *region;

	(void)state;
	need_thread_mode();
	fd = connected(0);
	assert_int_equal(weir_container_create(weir_container_root(weir), "batch", &batch), 0);
	assert_int_equal(weir_container_create(batch, "a night", &night), 0);
	assert_int_equal(weir_container_set(night, WEIR_HIGH, MIB(3)), 0);
	in_night.container = night;
	assert_int_equal(weir_region_create_with(weir, MIB(1), &in_night, (void **)&region), 0);
	memset(region, 1, MIB(1));
	segment = watched(fd);
	assert_int_equal(weir_stats_read(weir, &stats), 0);
	assert_int_equal(seen.value[WEIR_SEGMENT_limit_bytes], MIB(8));
	assert_int_equal(seen.value[WEIR_SEGMENT_first_faults], stats.first_faults);
	assert_int_equal(seen.value[WEIR_SEGMENT_populated_bytes], MIB(1));
	assert_true(seen.value[WEIR_SEGMENT_peak_rss_bytes] > MIB(1));
	assert_int_equal(seen.containers, 3);
	assert_string_equal(seen.container[0].path, "");
	assert_string_equal(seen.container[2].path, "batch/a night");
	assert_int_equal(seen.container[2].value[WEIR_SEGMENT_CONTAINER_high_bytes], MIB(3));
	assert_true(seen.container[2].value[WEIR_SEGMENT_CONTAINER_resident_bytes] >= MIB(1) / 2);
	assert_true(seen.container[0].value[WEIR_SEGMENT_CONTAINER_max_bytes] == MIB(8));
	assert_true(seen.container[0].value[WEIR_SEGMENT_CONTAINER_compressed_share_bytes] ==
		    MIB(6));
	/* Nothing presses on it. */
	assert_true(seen.container[2].value[WEIR_SEGMENT_CONTAINER_compressed_share_bytes] ==
		    WEIR_NO_LIMIT);
	close(segment);
	close(fd);
	assert_int_equal(weir_region_destroy(weir, region), 0);
	assert_int_equal(weir_container_delete(night), 0);
	assert_int_equal(weir_container_delete(batch), 0);
}

/* What compressed pages may take is what was said, and then nothing changes it (reclaim/test_share.c). */
static void a_share_that_is_given_is_fixed(void **state)
{
	struct weir_options options = {.size = sizeof(options),
				       .limit = MIB(8),
				       .compressed_share = MIB(3),
				       .mode = mode,
				       .publish = 1};
	struct weir *other;
	int fd, segment;

	(void)state;
	assert_false(weir->vm.share_fixed);
	assert_int_equal(weir_open(&options, &other), 0);
	assert_true(other->vm.share_fixed);
	fd = connected(1);
	segment = watched(fd);
	assert_true(seen.container[0].value[WEIR_SEGMENT_CONTAINER_compressed_share_bytes] ==
		    MIB(3));
	close(segment);
	close(fd);
	weir_close(other);
}

static void it_is_written_anew_while_somebody_watches(void **state)
{
	int fd = connected(0), segment = watched(fd);
	uint64_t sequence = seen.sequence, now;

	(void)state;
	do {
		assert_int_equal(pread(segment, &now, 8, offsetof(struct weir_segment, sequence)),
				 8);
		sched_yield();
	} while (now < sequence + 4);
	close(segment);
	close(fd);
}

static void nobody_else_can_write_it(void **state)
{
	int fd = connected(0), segment = watched(fd), again;
	char path[64];

	(void)state;
	assert_int_equal(pwrite(segment, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(segment, 0), -1);
	assert_ptr_equal(mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, segment, 0),
			 MAP_FAILED);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", segment);
	again = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);
	assert_true(again < 0 || pwrite(again, "x", 1, 0) < 0);
	if (again >= 0)
		close(again);
	close(segment);
	close(fd);
}

static void limits_are_set(void **state)
{
	struct weir_container *root = weir_container_root(weir), *a;
	int fd = connected(0);

	(void)state;
	assert_int_equal(weir_container_create(root, "a", &a), 0);
	assert_int_equal(asked(fd, "set max 4194304\n", NULL).result, 0);
	assert_int_equal(weir_container_get(root, WEIR_MAX), MIB(4));
	assert_int_equal(asked(fd, "set high 3145728", NULL).result, 0);
	assert_int_equal(weir_container_get(root, WEIR_HIGH), MIB(3));
	assert_int_equal(asked(fd, "set high max", NULL).result, 0);
	assert_true(weir_container_get(root, WEIR_HIGH) == WEIR_NO_LIMIT);
	assert_int_equal(asked(fd, "set max 1048576 a", NULL).result, 0);
	assert_int_equal(weir_container_get(a, WEIR_MAX), MIB(1));
	assert_int_equal(asked(fd, "set swap.max 0 a", NULL).result, 0);
	assert_int_equal(weir_container_get(a, WEIR_SWAP_MAX), 0);
	assert_int_equal(asked(fd, "set low 65536 /a", NULL).result, 0);
	assert_int_equal(weir_container_get(a, WEIR_LOW), 65536);
	assert_int_equal(asked(fd, "set max 4095", NULL).result, -EINVAL);
	assert_int_equal(asked(fd, "set max max", NULL).result, -EINVAL);
	assert_int_equal(asked(fd, "set max 4194304 b", NULL).result, -ENOENT);
	assert_int_equal(asked(fd, "reclaim 4194304 b", NULL).result, -ENOENT);
	assert_int_equal(weir_container_get(root, WEIR_MAX), MIB(4));
	close(fd);
	assert_int_equal(weir_container_delete(a), 0);
}

static void memory_is_reclaimed(void **state)
{
	struct weir_container *root = weir_container_root(weir);
	struct reply reply;
	uint64_t before;
	char *region;
	int fd;

	(void)state;
	need_thread_mode();
	fd = connected(0);
	assert_int_equal(weir_region_create(weir, MIB(2), (void **)&region), 0);
	/* All alike: reclaimed, a page is a word. */
	memset(region, 7, MIB(2));
	before = weir_container_get(root, WEIR_CURRENT);
	reply = asked(fd, "reclaim 1048576", NULL);
	assert_int_equal(reply.result, 0);
	assert_true(reply.number >= MIB(1));
	assert_true(weir_container_get(root, WEIR_CURRENT) <= before - MIB(1));
	/* More than there is. */
	assert_int_equal(asked(fd, "reclaim 1073741824", NULL).result, -EAGAIN);
	for (size_t i = 0; i < MIB(2); i++)
		assert_int_equal(region[i], 7);
	close(fd);
	assert_int_equal(weir_region_destroy(weir, region), 0);
}

static void nonsense_is_an_error(void **state)
{
	static char long_one[WEIR_COMMAND_BYTES + 2];
	uint64_t seed = test_seed();
	int fd = connected(0);

	(void)state;
	memset(long_one, 'a', sizeof(long_one) - 1);
	assert_int_equal(asked(fd, long_one, NULL).result, -EMSGSIZE);
	assert_int_equal(asked(fd, "drop all", NULL).result, -EINVAL);
	for (unsigned i = 0; i < 500; i++) {
		char text[64];
		size_t len = 1 + random_below(&seed, sizeof(text) - 1);

		for (size_t k = 0; k < len; k++)
			text[k] = random_char(&seed, 0);
		assert_int_equal(socket_send(fd, text, len, -1), len);
		assert_true(received(fd, NULL).result < 0);
	}
	assert_int_equal(asked(fd, "set low 0", NULL).result, 0);
	close(fd);
}

/* Descriptors that come along are not taken: nobody could make the process run out of them. */
static void descriptors_are_not_taken(void **state)
{
	int fd = connected(0), pipe_fd[2];
	char byte;

	(void)state;
	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(socket_send(fd, "set low 0", 9, pipe_fd[1]), 9);
	assert_int_equal(received(fd, NULL).result, 0);
	close(pipe_fd[1]);
	assert_int_equal(read(pipe_fd[0], &byte, 1), 0);
	close(pipe_fd[0]);
	close(fd);
}

static void too_many_are_told(void **state)
{
	int fd[33], late;

	(void)state;
	for (unsigned i = 0; i < 32; i++) {
		fd[i] = connected(0);
		assert_int_equal(asked(fd[i], "set low 0", NULL).result, 0);
	}
	late = connected(0);
	assert_int_equal(received(late, NULL).result, -EBUSY);
	close(late);
	for (unsigned i = 0; i < 32; i++)
		close(fd[i]);
	/* Their ends are seen in time. */
	for (;;) {
		late = connected(0);
		(void)socket_send(late, "set low 0", 9, -1);
		int result = received(late, NULL).result;

		close(late);
		if (!result)
			break;
		assert_int_equal(result, -EBUSY);
	}
}

/* Who asks and does not read is dropped, and holds nobody up. */
static void who_does_not_read_is_dropped(void **state)
{
	int deaf = connected(0), fd;

	(void)state;
	while (socket_send(deaf, "set low 0", 9, -1) > 0)
		;
	fd = connected(0);
	assert_int_equal(asked(fd, "set low 0", NULL).result, 0);
	close(fd);
	close(deaf);
}

static void a_name_that_is_taken(void **state)
{
	int taken = -EADDRINUSE, fd, segment;

	(void)state;
	weir_close(weir);
	while (taken == -EADDRINUSE)
		taken = socket_listen(own_name(0));
	assert_true(taken >= 0);
	assert_int_equal(open_instance(NULL), 0);
	fd = connected(1);
	segment = watched(fd);
	assert_int_equal(seen.value[WEIR_SEGMENT_limit_bytes], MIB(8));
	close(segment);
	close(fd);
	close(taken);
}

/* What the program may have is weir's to have, too (RLIMIT_NOFILE): who waits is answered when there are descriptors again. */
static void without_descriptors_it_waits(void **state)
{
	struct rlimit before, less;
	struct pollfd ready = {.events = POLLIN};
	int fd = connected(0), later;

	(void)state;
	assert_int_equal(asked(fd, "reclaim 0 \n", NULL).result, 0);
	later = connected(0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	less = before;
	less.rlim_cur = 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &less), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(socket_send(later, "reclaim 0 \n", 11, -1), 11);
		assert_int_equal(socket_send(fd, "reclaim 0 \n", 11, -1), 11);
	}
	ready.fd = fd;
	(void)socket_poll(&ready, 1, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(received(fd, NULL).result, 0);
		assert_int_equal(received(later, NULL).result, 0);
	}
	close(later);
	close(fd);
}

static void nothing_is_left(void **state)
{
	int fd = connected(0), segment = watched(fd);
	struct pollfd end = {.fd = fd, .events = POLLIN};
	char byte;

	(void)state;
	weir_close(weir);
	assert_int_equal(socket_connect(own_name(0)), -ECONNREFUSED);
	assert_int_equal(socket_poll(&end, 1, 30000), 1);
	assert_int_equal(read(fd, &byte, 1), 0);
	close(segment);
	close(fd);
	/* Not published: nobody listens, and it ends as well. */
	struct weir_options options = {.size = sizeof(options), .limit = MIB(8), .mode = mode};

	assert_int_equal(weir_open(&options, &weir), 0);
	assert_int_equal(socket_connect(own_name(0)), -ECONNREFUSED);
	weir_close(weir);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(open_instance(NULL), 0);
		if (i < 19)
			weir_close(weir);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(its_figures_are_seen),
		cmocka_unit_test(a_share_that_is_given_is_fixed),
		cmocka_unit_test(it_is_written_anew_while_somebody_watches),
		cmocka_unit_test(nobody_else_can_write_it),
		cmocka_unit_test(limits_are_set),
		cmocka_unit_test(memory_is_reclaimed),
		cmocka_unit_test(nonsense_is_an_error),
		cmocka_unit_test(descriptors_are_not_taken),
		cmocka_unit_test(too_many_are_told),
		cmocka_unit_test(who_does_not_read_is_dropped),
		cmocka_unit_test(without_descriptors_it_waits),
		cmocka_unit_test(nothing_is_left),
		cmocka_unit_test(a_name_that_is_taken),
	};

	return cmocka_run_group_tests(tests, open_instance, close_instance);
}
