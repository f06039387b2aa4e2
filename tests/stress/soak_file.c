/* SPDX-License-Identifier: BSD-2-Clause */
/* A file that is written through a region and by calls, synced, closed and opened again, while writes to it fail; each byte is
 * compared with what it must be, at the end with the file itself. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lost.h"
#include "soak.h"

enum { PAGES = 700, TAIL = 77, PIECE = 6000 };
#define BYTES ((uint64_t)(PAGES - 1) * PAGE_SIZE + TAIL)

static char right[PAGES * PAGE_SIZE];

int scribe_make(void)
{
	int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		fd = memfd_create("scribe", MFD_CLOEXEC);
	CHECK(fd >= 0 && !ftruncate(fd, (off_t)BYTES), "no file: %s", strerrorname_np(errno));
	return fd;
}

struct access {
	char *to;
	const char *from;
	size_t bytes;
};

static void copy(void *data)
{
	const struct access *access = data;

	region_load(access->to, access->from, access->bytes);
}

/* Another thread's page may be lost; none of this file is. */
static void copied(char *to, const char *from, size_t bytes)
{
	struct access access = {to, from, bytes};

	CHECK(!page_lost(from, copy, &access), "a page of the written file is lost");
}

static void told(int err)
{
	CHECK(!err || err == -EIO || err == -ENOSPC, "%s", strerrorname_np(-err));
	add_relaxed(&soak.file_told, err != 0);
}

static void act(struct weir_file *file, char *base)
{
	const uint64_t at = draw(&me->random, BYTES);
	const uint64_t bytes = 1 + draw(&me->random, MIN(BYTES - at, (uint64_t)PIECE));
	const uint64_t turn = mixed(load_relaxed(&soak.file_written) + at);
	char piece[PIECE];
	int64_t n;

	for (uint64_t i = 0; i < bytes; i++)
		piece[i] = (char)(turn >> i % 57);
	switch (draw(&me->random, 8)) {
	case 0:
	case 1:
		doing("write a file region", at);
		memcpy(base + at, piece, bytes);
		memcpy(right + at, piece, bytes);
		add_relaxed(&soak.file_written, 1);
		break;
	case 2:
	case 3:
		doing("weir_file_write", at);
		n = weir_file_write(file, piece, bytes, at);
		CHECK(n > 0, "weir_file_write: %s", strerrorname_np((int)-n));
		memcpy(right + at, piece, (size_t)n);
		add_relaxed(&soak.file_written, 1);
		break;
	case 4:
		doing("weir_file_read", at);
		n = weir_file_read(file, piece, bytes, at);
		CHECK(n > 0 && !memcmp(piece, right + at, (size_t)n), "weir_file_read: %s",
		      strerrorname_np((int)-n));
		break;
	case 5:
		if (draw(&me->random, 20))
			break;
		doing("weir_file_sync", 0);
		told(weir_file_sync(file));
		add_relaxed(&soak.file_syncs, 1);
		break;
	default:
		doing("read a written file region", at);
		copied(piece, base + at, bytes);
		CHECK(!memcmp(piece, right + at, bytes), "the written file is wrong at %" PRIu64,
		      at);
	}
}

void scribe_body(struct player *self)
{
	struct weir_container *box;
	char path[64];

	(void)self;
	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), soak.scribe);
	CHECK(!weir_container_create(weir_container_root(soak.weir), "scribe", &box),
	      "a container");
	(void)weir_container_set(box, WEIR_MAX, MIB(2));
	while (!load_relaxed(&soak.stop)) {
		struct weir_file *file;
		uint64_t bytes;
		void *base;

		doing("weir_file_open", 0);
		CHECK(!weir_file_open(box, path, WEIR_FILE_WRITE, &file), "weir_file_open");
		CHECK(!weir_file_map(file, &base, &bytes) && bytes == BYTES, "weir_file_map");
		for (unsigned i = 0; i < 1000 && !load_relaxed(&soak.stop); i++)
			act(file, base);
		doing("weir_file_close", 0);
		told(weir_file_close(file));
		told(weir_region_destroy(soak.weir, base));
	}
	CHECK(!weir_container_delete(box), "weir_container_delete");
}

void scribe_end(void)
{
	struct weir_container *root = weir_container_root(soak.weir);
	struct weir_file *file;
	char path[64], *there = malloc(BYTES);
	int err;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), soak.scribe);
	CHECK(there && !weir_file_open(root, path, WEIR_FILE_WRITE, &file), "weir_file_open");
	(void)weir_file_sync(file);
	err = weir_file_sync(file);
	CHECK(!err, "the last sync: %s", strerrorname_np(-err));
	CHECK(!weir_file_close(file), "weir_file_close");
	CHECK(pread(soak.scribe, there, BYTES, 0) == (ssize_t)BYTES && !memcmp(there, right, BYTES),
	      "the written file has other contents");
	free(there);
}
