/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * killed FILE STEP: a program that has everything that the library can have, and stops in the middle of step STEP, to be
 * killed: writes its pid and a newline to standard output and goes on with that step until then. 77: cannot run here.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <weir/weir.h>

enum { MIB = 1 << 20, PAGE = 4096, BYTES = 6 * MIB };

static int stop_at, step;

static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "killed: %s: %s\n", what, strerror(-err));
	exit(err == -EPERM || err == -ENOSYS || err == -EOPNOTSUPP ? 77 : 1);
}

/* Does something again and again, for ever if this is the step. */
static void doing(void (*work)(void *data), void *data)
{
	const int here = ++step == stop_at;

	work(data);
	if (!here)
		return;
	printf("%d\n", (int)getpid());
	fflush(stdout);
	for (;;)
		work(data);
}

/* What does not compress, so that it goes to the file. */
static void fill(void *data)
{
	static uint64_t x = 88172645463325252u;
	uint64_t *word = data;

	for (size_t i = 0; i < BYTES / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		word[i] = x;
	}
}

static void read_all(void *data)
{
	for (size_t i = 0; i < BYTES; i += PAGE)
		(void)*(volatile char *)((char *)data + i);
}

static struct {
	struct weir *weir;
	const char *path;
	uint64_t bytes;
} with;

static void region_of_a_file(void *data)
{
	void *file;

	(void)data;
	must(weir_region_open(weir_container_root(with.weir), with.path, &file, &with.bytes),
	     "open");
	for (size_t i = 0; i < with.bytes; i += PAGE)
		(void)*(volatile char *)((char *)file + i);
	must(weir_region_destroy(with.weir, file), "destroy");
}

static void open_and_close(void *data)
{
	struct weir *weir;

	must(weir_open(data, &weir), "weir_open");
	weir_close(weir);
}

static void nothing(void *data)
{
	(void)data;
}

static void instance(struct weir_options *options)
{
	void *memory, *other;

	doing(open_and_close, options);
	must(weir_open(options, &with.weir), "weir_open");
	must(weir_region_create(with.weir, BYTES, &memory), "a region");
	must(weir_region_create(with.weir, BYTES, &other), "another one");
	doing(nothing, NULL);
	doing(fill, memory);
	doing(fill, other);
	doing(read_all, memory);
	if (options->mode != WEIR_MODE_SIGNAL)
		doing(region_of_a_file, NULL);
}

int main(int argc, char **argv)
{
	struct weir_options options = {.size = sizeof(options), .limit = 2 * MIB};

	if (argc != 3)
		return 2;
	with.path = argv[1];
	stop_at = atoi(argv[2]);
	/* In memory that is not mapped; then as it is by default, then in signal mode: all of them at once at the end. */
	options.kmap_slots = 8;
	instance(&options);
	options.kmap_slots = 0;
	instance(&options);
	options.mode = WEIR_MODE_SIGNAL;
	instance(&options);
	return 0;
}
