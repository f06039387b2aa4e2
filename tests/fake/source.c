/* SPDX-License-Identifier: BSD-2-Clause */
/* The program's files (os/file.h, file_source) over memory. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "os/file.h"
#include "state.h"

enum { SOURCES_MAX = 4, SOURCE_FD = 3000 };

static struct {
	char path[64];
	unsigned char *data;
	size_t bytes;
	uint64_t inode;
} source[SOURCES_MAX];
static unsigned opened;

int __wrap_file_source_open(struct file_source *s, const char *path, bool write,
			    struct file_id *id);
void __wrap_file_source_close(struct file_source *s);
int __wrap_file_source_read(const struct file_source *s, void *dst, size_t bytes, off_t offset,
			    uint64_t size);
int __wrap_file_source_write(const struct file_source *s, const void *src, size_t bytes,
			     off_t offset, uint64_t size);
int __wrap_file_source_sync(const struct file_source *s);

static unsigned find(const char *path)
{
	unsigned i = 0;

	while (i < SOURCES_MAX && (!source[i].data || strcmp(source[i].path, path) != 0))
		i++;
	return i;
}

unsigned char *fake_source(const char *path, size_t bytes, uint64_t inode)
{
	unsigned i = find(path);

	fake_guard_enter();
	for (unsigned k = 0; i == SOURCES_MAX && k < SOURCES_MAX; k++) {
		if (!source[k].data)
			i = k;
	}
	if (i == SOURCES_MAX || bytes > FAKE_SOURCE_MAX || strlen(path) >= sizeof(source[i].path))
		fake_misuse("too many files, or too large a file");
	if (!source[i].data)
		source[i].data = mmap(NULL, FAKE_SOURCE_MAX, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (source[i].data == MAP_FAILED)
		fake_misuse("no address space for a file");
	strcpy(source[i].path, path);
	source[i].bytes = bytes;
	source[i].inode = inode;
	fake_guard_leave();
	return source[i].data;
}

unsigned fake_sources_open(void)
{
	return opened;
}

void fake_source_reset(void)
{
	fake_guard_enter();
	for (unsigned i = 0; i < SOURCES_MAX; i++) {
		if (source[i].data)
			(void)munmap(source[i].data, FAKE_SOURCE_MAX);
	}
	memset(source, 0, sizeof(source));
	opened = 0;
	fake_guard_leave();
}

int __wrap_file_source_open(struct file_source *s, const char *path, bool write, struct file_id *id)
{
	struct fake_failure failure = {0};
	unsigned i;
	int err = 0;

	(void)write;
	fake_guard_enter();
	i = find(path);
	if (fake_called(FAKE_SOURCE_OPEN, 1, &failure))
		err = failure.err;
	else if (i == SOURCES_MAX)
		err = -ENOENT;
	*s = (struct file_source){err ? -1 : SOURCE_FD + (int)i, -1};
	opened += !err;
	if (!err && id)
		*id = (struct file_id){1, source[i].inode, source[i].bytes};
	fake_guard_leave();
	return err;
}

void __wrap_file_source_close(struct file_source *s)
{
	fake_guard_enter();
	opened -= s->plain >= 0;
	*s = (struct file_source){-1, -1};
	fake_guard_leave();
}

/* Where it stands in memory; *there: how many of the bytes lie within the size. */
static unsigned char *place(const struct file_source *s, size_t bytes, off_t offset, uint64_t size,
			    size_t *there)
{
	const unsigned i = (unsigned)(s->plain - SOURCE_FD);

	if (i >= SOURCES_MAX || !source[i].data)
		fake_misuse("input or output on a file that is not open");
	if ((bytes | (size_t)offset) & PAGE_MASK || !bytes)
		fake_misuse("input or output that is not whole pages");
	*there = (uint64_t)offset < size ? MIN(bytes, size - (uint64_t)offset) : 0;
	return source[i].data + offset;
}

/* Has it become shorter? */
static bool shorter(const struct file_source *s, off_t offset, size_t there)
{
	return (size_t)offset + there > source[s->plain - SOURCE_FD].bytes;
}

int __wrap_file_source_read(const struct file_source *s, void *dst, size_t bytes, off_t offset,
			    uint64_t size)
{
	struct fake_failure failure = {0};
	unsigned char *from;
	size_t there;
	int err = 0;

	fake_before(FAKE_SOURCE_READ);
	fake_guard_enter();
	from = place(s, bytes, offset, size, &there);
	if (fake_called(FAKE_SOURCE_READ, bytes, &failure)) {
		there = MIN(there, failure.done);
		err = failure.err;
	} else if (shorter(s, offset, there)) {
		err = -ESTALE;
	}
	memcpy(dst, from, err == -ESTALE ? 0 : there);
	/* What a read that failed has left there is nobody's to see. */
	memset((char *)dst + there, err ? 0xe5 : 0, bytes - there);
	fake_guard_leave();
	return err;
}

int __wrap_file_source_write(const struct file_source *s, const void *src, size_t bytes,
			     off_t offset, uint64_t size)
{
	struct fake_failure failure = {0};
	unsigned char *to;
	size_t there;
	int err = 0;

	fake_before(FAKE_SOURCE_WRITE);
	fake_guard_enter();
	to = place(s, bytes, offset, size, &there);
	if (fake_called(FAKE_SOURCE_WRITE, bytes, &failure)) {
		there = MIN(there, failure.done);
		err = failure.err;
	} else if (shorter(s, offset, there)) {
		const size_t end = source[s->plain - SOURCE_FD].bytes;

		there = (size_t)offset < end ? end - (size_t)offset : 0;
		err = -ESTALE;
	}
	memcpy(to, src, there);
	fake_guard_leave();
	return err;
}

int __wrap_file_source_sync(const struct file_source *s)
{
	struct fake_failure failure = {0};
	bool fails;

	(void)s;
	fake_before(FAKE_SOURCE_SYNC);
	fake_guard_enter();
	fails = fake_called(FAKE_SOURCE_SYNC, 1, &failure);
	fake_guard_leave();
	return fails ? failure.err : 0;
}
