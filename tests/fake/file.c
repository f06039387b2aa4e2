/* SPDX-License-Identifier: BSD-2-Clause */
/* os/file.h over memory. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "os/ring.h"
#include "state.h"

enum { FAKE_FD = 2000 };

static unsigned char *data;
static size_t size, disk = FAKE_FILE_MAX;
static unsigned unit = 512;
static bool open_;

int __wrap_file_store_open(struct file *file, const char *place);
int __wrap_file_disk_free(const struct file *file, uint64_t *bytes);
uint64_t __wrap_file_disk_reserve(const struct file *file);
int __wrap_file_flush(const struct file *file);
int __wrap_ring_open(struct ring *ring, unsigned entries);
void __wrap_file_close(struct file *file);
int __wrap_file_write(const struct file *file, const void *from, size_t bytes, off_t offset);
int __wrap_file_read(const struct file *file, void *to, size_t bytes, off_t offset);

void fake_file_reset(void)
{
	fake_guard_enter();
	if (data)
		munmap(data, FAKE_FILE_MAX);
	data = NULL;
	size = 0;
	disk = FAKE_FILE_MAX;
	unit = 512;
	open_ = false;
	fake_guard_leave();
}

void fake_file_unit(unsigned bytes)
{
	unit = bytes;
}

void fake_disk(size_t bytes)
{
	fake_guard_enter();
	disk = bytes;
	fake_guard_leave();
}

unsigned char *fake_file(size_t *bytes)
{
	*bytes = size;
	return data;
}

/* Its disk tells by -ENOSPC only, and what it has written is there. */
int __wrap_file_disk_free(const struct file *file, uint64_t *bytes)
{
	(void)file;
	(void)bytes;
	return -ENOSYS;
}

uint64_t __wrap_file_disk_reserve(const struct file *file)
{
	(void)file;
	return 0;
}

int __wrap_file_flush(const struct file *file)
{
	(void)file;
	return 0;
}

/* One thread, and the kernel is not there: everything is done at once. */
int __wrap_ring_open(struct ring *ring, unsigned entries)
{
	(void)entries;
	memset(ring, 0, sizeof(*ring));
	return -ENOSYS;
}

int __wrap_file_store_open(struct file *file, const char *dir)
{
	struct fake_failure failure = {0};
	int err = 0;

	(void)dir;
	fake_before(FAKE_FILE_OPEN);
	fake_guard_enter();
	if (fake_called(FAKE_FILE_OPEN, 1, &failure)) {
		err = failure.err;
	} else {
		if (open_)
			fake_misuse("a second file is opened");
		data = mmap(NULL, FAKE_FILE_MAX, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (data == MAP_FAILED)
			fake_misuse("no address space for the file");
		open_ = true;
		*file = (struct file){
			.fd = FAKE_FD, .unit = unit, .direct = true, .where = "a fake"};
	}
	fake_guard_leave();
	return err;
}

void __wrap_file_close(struct file *file)
{
	if (file->fd >= 0 && file->fd != FAKE_FD)
		fake_misuse("a file is closed that is not open");
	if (file->fd == FAKE_FD)
		fake_file_reset();
	file->fd = -1;
}

/* Direct input and output: everything is a multiple of the unit. */
static void check(const struct file *file, const void *buffer, size_t bytes, off_t offset)
{
	if (file->fd != FAKE_FD || !open_)
		fake_misuse("input or output on a file that is not open");
	if (((uintptr_t)buffer | bytes | (size_t)offset) & (file->unit - 1) || !bytes || offset < 0)
		fake_misuse("input or output that is no multiple of the file's unit");
	if ((size_t)offset + bytes > FAKE_FILE_MAX)
		fake_misuse("the file grows beyond what the fake has room for");
}

int __wrap_file_write(const struct file *file, const void *from, size_t bytes, off_t offset)
{
	struct fake_failure failure = {0};
	int err = 0;

	fake_before(FAKE_FILE_WRITE);
	fake_guard_enter();
	check(file, from, bytes, offset);
	if (fake_called(FAKE_FILE_WRITE, bytes, &failure)) {
		bytes = MIN(bytes, failure.done);
		err = failure.err;
	} else if ((size_t)offset + bytes > disk) {
		bytes = (size_t)offset < disk ? disk - (size_t)offset : 0;
		err = -ENOSPC;
	}
	memcpy(data + offset, from, bytes);
	if (bytes)
		size = MAX(size, (size_t)offset + bytes);
	fake_guard_leave();
	return err;
}

int __wrap_file_read(const struct file *file, void *to, size_t bytes, off_t offset)
{
	struct fake_failure failure = {0};
	size_t good = bytes;
	int err = 0;

	fake_before(FAKE_FILE_READ);
	fake_guard_enter();
	check(file, to, bytes, offset);
	if (fake_called(FAKE_FILE_READ, bytes, &failure)) {
		good = MIN(bytes, failure.done);
		err = failure.err;
	}
	if ((size_t)offset + good > size) {
		good = (size_t)offset < size ? size - (size_t)offset : 0;
		err = -EIO;
	}
	memcpy(to, data + offset, good);
	memset((char *)to + good, 0xe5, bytes - good);
	fake_guard_leave();
	return err;
}
