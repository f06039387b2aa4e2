/* SPDX-License-Identifier: BSD-2-Clause */
/* Files and regions over them, for the program: <weir/file.h>. What needs descriptors is an errand of the background thread, or a
 * job of the crew (vm/file_crew.c). */
#include <errno.h>
#include <string.h>

#include "instance.h"
#include "os/thread.h"
#include "vm/file.h"

struct weir_file {
	struct weir *weir;
	struct file_hold hold;
};

#define FILE_BYTES ALIGN_UP(sizeof(struct weir_file), PAGE_SIZE)

/* --- the instance --- */

static void quiesce(void *data)
{
	instance_quiesce(data);
}

void files_init(struct weir *weir)
{
	weir->vm.crew_begin = service_self_set;
	weir->vm.quiesce = quiesce;
	weir->vm.quiesce_data = weir;
}

int files_close(void *data)
{
	struct weir *weir = data;

	files_destroy(&weir->vm, weir->pager);
	return 0;
}

/* --- open, map, close --- */

struct file_errand {
	struct weir *weir;
	struct weir_container *container;
	struct file_hold *hold;
	struct region *region;
	bool write;
	char path[4096];
};

static int open_errand(void *data)
{
	struct file_errand *e = data;

	return file_hold_open(&e->weir->vm, e->container, e->path, e->write, e->hold);
}

static int map_errand(void *data)
{
	struct file_errand *e = data;

	return file_region_create(&e->weir->vm, e->hold, &e->region);
}

static int close_errand(void *data)
{
	struct file_errand *e = data;

	return file_hold_close(&e->weir->vm, e->weir->pager, e->hold);
}

/* Opened, mapped, and only the region keeps it. */
static int region_errand(void *data)
{
	struct file_errand *e = data;
	int err = open_errand(e);

	if (err)
		return err;
	err = map_errand(e);
	(void)close_errand(e);
	return err;
}

static int errand(struct file_errand *e, int (*fn)(void *data))
{
	int err;
	THREAD_SIGNALS_BLOCKED;

	lock_acquire(&e->weir->lock);
	err = reclaim_errand(&e->weir->reclaim, fn, e);
	lock_release(&e->weir->lock);
	return err;
}

/* The path may lie in a region, which weir's own threads never touch. */
static int path_take(struct file_errand *e, const char *path)
{
	if (e->weir->mode == WEIR_MODE_SIGNAL)
		return -ENOTSUP;
	if (strnlen(path, sizeof(e->path)) == sizeof(e->path))
		return -ENAMETOOLONG;
	memcpy(e->path, path, strlen(path) + 1);
	return 0;
}

int weir_region_open(struct weir_container *container, const char *path, void **addr,
		     uint64_t *bytes)
{
	struct file_hold hold;
	struct file_errand e = {
		.weir = instance_of(container), .container = container, .hold = &hold};
	int err = path_take(&e, path);

	if (!err)
		err = errand(&e, region_errand);
	if (err)
		return err;
	*addr = e.region->base;
	*bytes = e.region->file->id.bytes;
	return 0;
}

int weir_file_open(struct weir_container *container, const char *path, unsigned flags,
		   struct weir_file **out)
{
	struct file_errand e = {.weir = instance_of(container),
				.container = container,
				.write = flags & WEIR_FILE_WRITE};
	struct weir_file *file;
	int err = flags & ~(unsigned)WEIR_FILE_WRITE ? -EINVAL : path_take(&e, path);

	if (err)
		return err;
	file = mem_alloc(FILE_BYTES);
	if (!file)
		return -ENOMEM;
	file->weir = e.weir;
	e.hold = &file->hold;
	err = errand(&e, open_errand);
	if (err)
		mem_release(file, FILE_BYTES);
	else
		*out = file;
	return err;
}

int weir_file_map(struct weir_file *file, void **addr, uint64_t *bytes)
{
	struct file_errand e = {.weir = file->weir, .hold = &file->hold};
	int err = errand(&e, map_errand);

	if (err)
		return err;
	*addr = e.region->base;
	*bytes = e.region->file->id.bytes;
	return 0;
}

static int sync_hold(struct weir *weir, struct file_hold *hold, uint32_t page, uint32_t count)
{
	THREAD_SIGNALS_BLOCKED;

	return file_sync(&weir->vm, hold, page, count);
}

int weir_file_close(struct weir_file *file)
{
	struct file_errand e = {.weir = file->weir, .hold = &file->hold};
	int err = 0, last;

	/* What takes long, before anybody waits for it. */
	if (file->hold.write)
		err = sync_hold(file->weir, &file->hold, 0, UINT32_MAX);
	last = errand(&e, close_errand);
	mem_release(file, FILE_BYTES);
	return err ? err : last;
}

/* --- contents --- */

uint64_t weir_file_size(const struct weir_file *file)
{
	return file->hold.file->id.bytes;
}

/* What of the stack will be used comes into memory now: it is used under locks of the crew, which handlers take, too. */
__attribute__((noinline)) static void stack_bring_in(void)
{
	volatile char below[PAGE_SIZE];

	below[0] = 0;
	(void)below[0];
}

/* Does the stack of the calling thread lie in a region? */
static bool stack_paged(struct weir *weir)
{
	/* A variable may lie elsewhere (AddressSanitizer). */
	const bool paged = instance_pages(weir, __builtin_frame_address(0));

	if (paged)
		stack_bring_in();
	return paged;
}

/* As a visitor, since another thread may delete the container that the file was opened for. */
static int64_t noted(struct weir_file *file, uint64_t offset, int64_t done)
{
	unsigned turn;
	THREAD_SIGNALS_BLOCKED;

	if (done <= 0)
		return done;
	turn = instance_visit(file->weir);
	file_note(&file->weir->vm, &file->hold, offset, (uint64_t)done);
	instance_leave(file->weir, turn);
	return done;
}

int64_t weir_file_read(struct weir_file *file, void *buffer, uint64_t bytes, uint64_t offset)
{
	const bool paged = stack_paged(file->weir);
	int64_t done = file_pread(&file->weir->vm, &file->hold, buffer, bytes, offset, paged);

	return noted(file, offset, done);
}

int64_t weir_file_write(struct weir_file *file, const void *buffer, uint64_t bytes, uint64_t offset)
{
	int64_t done;

	if (!file->hold.write)
		return -EBADF;
	done = file_pwrite(&file->weir->vm, &file->hold, buffer, bytes, offset,
			   stack_paged(file->weir));
	return noted(file, offset, done);
}

int weir_file_sync(struct weir_file *file)
{
	return sync_hold(file->weir, &file->hold, 0, UINT32_MAX);
}

int weir_region_sync(struct weir *weir, void *addr, uint64_t bytes)
{
	struct region *region;
	unsigned turn;
	int err = -EINVAL;
	THREAD_SIGNALS_BLOCKED;

	turn = instance_visit(weir);
	region = vm_find(&weir->vm, (uintptr_t)addr);
	if (region && region->file && bytes) {
		uint64_t offset = (uint64_t)((uintptr_t)addr - (uintptr_t)region->base);
		uint64_t first = offset >> PAGE_SHIFT;

		bytes = MIN(bytes, ((uint64_t)region->pages << PAGE_SHIFT) - offset);
		err = file_sync(&weir->vm, file_region_hold(region), (uint32_t)first,
				(uint32_t)(DIV_UP(offset + bytes, PAGE_SIZE) - first));
	}
	instance_leave(weir, turn);
	return err;
}

void files_flush(struct weir *weir, void *addr)
{
	struct region *region;
	unsigned turn;
	THREAD_SIGNALS_BLOCKED;

	turn = instance_visit(weir);
	region = vm_find(&weir->vm, (uintptr_t)addr);
	if (region && region->file)
		file_write_out(&weir->vm, file_region_hold(region));
	instance_leave(weir, turn);
}
