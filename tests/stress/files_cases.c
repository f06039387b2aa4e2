/* SPDX-License-Identifier: BSD-2-Clause */
/* Cases of stress_files.c that are the same in every run. */
#include <fcntl.h>
#include <unistd.h>

#include "access.h"
#include "files.h"

static unsigned char right[FILE_PAGES * PAGE];
static char path[64];

static struct weir *begin(uint64_t limit, struct weir_container **a)
{
	struct weir *weir;

	file_begin(path, right);
	weir = open_or_skip(limit);
	*a = child_of(weir_container_root(weir), "a", limit / 2);
	return weir;
}

static void end(struct weir *weir)
{
	fail_nothing();
	file_compare(path, right);
	nothing_left(weir);
	weir_close(weir);
	unlink(path);
}

static void poke(unsigned char *region, uint64_t at, const char *text)
{
	access_copy(region + at, text, strlen(text));
	memcpy(right + at, text, strlen(text));
}

static void same(const unsigned char *region, uint64_t from, uint64_t bytes)
{
	CHECK(!memcmp(region + from, right + from, bytes), "bytes at %" PRIu64 " are wrong", from);
}

void case_write(void)
{
	struct weir_container *a;
	struct weir *weir = begin(MIB(8), &a);
	struct weir_file *file = file_to_write(a, path), *reader = NULL;
	unsigned char *one = file_map(file), *two = file_map(file), bytes[3 * PAGE];
	void *plain;
	uint64_t size;

	CHECK(!weir_file_open(a, path, WEIR_FILE_READ, &reader), "open to read");
	CHECK(!weir_region_open(a, path, &plain, &size) && size == FILE_SIZE, "open a region");
	/* Read first, so that the write meets a page that is mapped; and not. */
	same(one, 5 * PAGE, PAGE);
	poke(one, 5 * PAGE + 7, "written where it was read");
	poke(one, 9 * PAGE + 7, "written where nothing was");
	same(two, 5 * PAGE, PAGE);
	same(plain, 9 * PAGE, PAGE);
	/* Across a border, behind everything, nothing, and too far. */
	memset(bytes, 'x', sizeof(bytes));
	memcpy(right + 20 * PAGE + 100, bytes, 2 * PAGE);
	CHECK(weir_file_write(file, bytes, 2 * PAGE, 20 * PAGE + 100) == 2 * PAGE, "write");
	same(one, 20 * PAGE, 3 * PAGE);
	CHECK(weir_file_read(reader, bytes, 3 * PAGE, 20 * PAGE) == 3 * PAGE, "read");
	CHECK(!memcmp(bytes, right + 20 * PAGE, 3 * PAGE), "what was read");
	CHECK(weir_file_read(reader, bytes, PAGE, FILE_SIZE - 10) == 10, "read at the end");
	CHECK(weir_file_read(reader, bytes, PAGE, FILE_SIZE) == 0, "read behind the end");
	CHECK(weir_file_write(file, bytes, PAGE, FILE_SIZE) == -EFBIG, "write behind the end");
	memcpy(right + FILE_SIZE - 10, bytes, 10);
	CHECK(weir_file_write(file, bytes, PAGE, FILE_SIZE - 10) == 10, "write at the end");
	CHECK(weir_file_write(reader, bytes, 1, 0) == -EBADF, "write without leave");
	/* The tail's page is written up to the end of the file only. */
	one[FILE_SIZE + 5] = 1;
	poke(two, FILE_SIZE - 20, "the end");
	CHECK(!weir_region_sync(weir, one, (uint64_t)FILE_PAGES * PAGE), "sync");
	file_compare(path, right);
	/* Clean again: the next write is noticed. */
	poke(one, 5 * PAGE + 7, "once more");
	poke(two, 5 * PAGE + 99, "and by the other one");
	CHECK(!weir_file_sync(file), "sync");
	file_compare(path, right);
	/* More than there is room for. */
	for (unsigned i = 0; i < FILE_PAGES - 1; i++)
		poke(i % 2 ? one : two, (uint64_t)i * PAGE + i, "everywhere");
	CHECK(!weir_container_set(a, WEIR_MAX, MIB(1)) || true, "max");
	for (unsigned i = 0; i < FILE_PAGES - 1; i++)
		same(plain, (uint64_t)i * PAGE, PAGE);
	CHECK(!weir_region_destroy(weir, one) && !weir_file_close(file), "close");
	poke(two, 77 * PAGE, "the last one");
	CHECK(!weir_region_destroy(weir, plain) && !weir_file_close(reader), "close");
	CHECK(!weir_region_destroy(weir, two), "destroy");
	end(weir);
}

void case_errors(void)
{
	static const struct {
		enum fault_kind kind;
		int err;
	} each[] = {{WRITE_FULL, -ENOSPC}, {WRITE_ERROR, -EIO}, {SYNC_ERROR, -EIO}};
	struct weir_container *a;
	struct weir *weir = begin(MIB(8), &a);
	struct weir_file *file = file_to_write(a, path), *other = file_to_write(a, path);
	unsigned char *region = file_map(file);
	int err;

	for (unsigned i = 0; i < 3; i++) {
		const uint64_t before = failed(each[i].kind);

		poke(region, (uint64_t)(30 + i) * PAGE, "this must not be lost");
		fail(each[i].kind, 1);
		CHECK(weir_file_sync(file) == each[i].err, "sync on a disk that fails");
		CHECK(failed(each[i].kind) > before, "nothing failed");
		/* All stays readable, and writable. */
		poke(region, (uint64_t)(30 + i) * PAGE + 100, "nor this");
		same(region, 0, FILE_SIZE);
		CHECK(weir_file_sync(file) == each[i].err, "sync tries again, and is told again");
		fail_nothing();
		/* Both regions and files are told of what others met, once. */
		CHECK(weir_file_sync(other) == each[i].err, "the other one is told");
		CHECK(!weir_file_sync(other), "once");
		CHECK(weir_region_sync(weir, region, 1) == each[i].err, "and the region");
		CHECK(!weir_region_sync(weir, region, 1), "once");
		CHECK(!weir_file_sync(file), "everything is there");
		file_compare(path, right);
	}
	/* Pages that need one another's place, on a disk that fails: nothing is lost, and it goes on afterwards. */
	fail(WRITE_FULL, 1);
	CHECK(!weir_container_set(a, WEIR_MAX, MIB(1)) || true, "max");
	for (unsigned i = 0; i < FILE_PAGES - 1; i++)
		poke(region, (uint64_t)i * PAGE + 50, "all dirty");
	same(region, 0, FILE_SIZE);
	fail_nothing();
	err = weir_file_sync(file);
	CHECK(err == -ENOSPC, "told: %s", strerrorname_np(-err));
	err = weir_file_sync(file);
	CHECK(!err, "and written: %s", strerrorname_np(-err));
	/* The last page goes by way of the system's cache: what the disk refuses of that is not lost either. */
	poke(region, FILE_SIZE - 50, "the end of all");
	fail(FLUSH_ERROR, 1);
	CHECK(weir_file_sync(file) == -EIO, "a flush that fails");
	fail_nothing();
	CHECK(!weir_file_sync(file), "sync");
	file_compare(path, right);
	/* Not protected, a page is not written; and nobody is told that it was. */
	poke(region, 40 * PAGE, "not to be lost either");
	fail(PROTECT_ERROR, 1);
	CHECK(weir_file_sync(file) == -EAGAIN, "sync without protection");
	fail_nothing();
	CHECK(!weir_file_sync(file), "sync");
	file_compare(path, right);
	/* Short writes, and a region that cannot be protected just then: it takes longer. */
	fail(WRITE_SHORT, 2);
	fail(PROTECT_ERROR, 3);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < FILE_PAGES - 1; i++)
			poke(region, (uint64_t)i * PAGE + 80 + round, "once more");
		(void)weir_file_sync(file);
		if (failed(WRITE_SHORT) > 3 && failed(PROTECT_ERROR) > 3)
			break;
	}
	CHECK(failed(WRITE_SHORT) > 3 && failed(PROTECT_ERROR) > 3, "nothing failed");
	fail_nothing();
	(void)weir_file_sync(file);
	CHECK(!weir_file_sync(file), "sync");
	file_compare(path, right);
	(void)weir_file_close(other);
	CHECK(!weir_file_close(file), "close");
	(void)weir_region_destroy(weir, region);
	end(weir);
}

void case_lost(void)
{
	struct weir_container *a;
	struct weir *weir = begin(MIB(8), &a);
	struct weir_file *file = file_to_write(a, path);
	unsigned char *region = file_map(file);

	CHECK(!weir_file_close(file), "close");
	poke(region, 40 * PAGE, "written, and closed with a full disk");
	fail(WRITE_FULL, 1);
	CHECK(weir_region_destroy(weir, region) == -ENOSPC, "destroy tells");
	drain(weir);
	CHECK(used(weir) > 0, "and keeps what it could not write");
	file = file_to_write(a, path);
	region = file_map(file);
	same(region, 40 * PAGE, PAGE);
	fail_nothing();
	CHECK(!weir_file_sync(file), "whoever comes later writes it");
	file_compare(path, right);
	/* Where nobody comes, what is left goes by itself, once it can be written. */
	CHECK(!weir_file_close(file), "close");
	poke(region, 41 * PAGE, "the last one to know of it");
	fail(WRITE_FULL, 1);
	CHECK(weir_region_destroy(weir, region) == -ENOSPC, "destroy tells");
	fail_nothing();
	wait_charged(a, 0, 0);
	end(weir);
}

void case_reads(void)
{
	struct weir_container *a;
	struct weir *weir = begin(MIB(8), &a);
	struct weir_file *file = file_to_write(a, path);
	unsigned char *region = file_map(file), bytes[PAGE];

	/* A page that cannot be read: told by weir_file_read, SIGBUS for who touches it, and healed by advice. */
	fail(READ_ERROR, 1);
	CHECK(weir_file_read(file, bytes, PAGE, 3 * PAGE) == -EIO, "read");
	CHECK(touch_is_bus(region + 3 * PAGE, false), "wrong bytes instead of SIGBUS");
	fail_nothing();
	drain(weir);
	CHECK(!current(a), "%" PRIu64 " charged for nothing", current(a));
	CHECK(weir_file_read(file, bytes, PAGE, 3 * PAGE) == PAGE, "the file is well again");
	CHECK(!weir_region_advise(weir, region + 3 * PAGE, PAGE, WEIR_ADVICE_DONTNEED), "advise");
	same(region, 3 * PAGE, PAGE);
	/* Reads come in parts; one page of many fails; windows, mappings, charges and punches are refused now and then. */
	fail(READ_SHORT, 2);
	fail(MAP_ERROR, 3);
	fail(PUNCH_ERROR, 3);
	fail(NO_CHARGE, 3);
	fail(NO_WINDOW, 20);
	CHECK(!weir_container_set(a, WEIR_MAX, MIB(1)) || true, "max");
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < FILE_PAGES - 1; i++) {
			same(region, (uint64_t)i * PAGE, PAGE);
			CHECK(weir_file_read(file, bytes, PAGE, (uint64_t)i * PAGE) == PAGE &&
				      !memcmp(bytes, right + (size_t)i * PAGE, PAGE),
			      "page %u is read wrong", i);
		}
		if (round > 2 && failed(READ_SHORT) > 3 && failed(MAP_ERROR) > 3 &&
		    failed(PUNCH_ERROR) && failed(NO_CHARGE) && (!kmap_slots || failed(NO_WINDOW)))
			break;
	}
	CHECK(failed(READ_SHORT) > 3 && failed(MAP_ERROR) > 3 && failed(PUNCH_ERROR) &&
		      failed(NO_CHARGE) && (!kmap_slots || failed(NO_WINDOW)),
	      "nothing failed");
	CHECK(!weir_file_close(file) && !weir_region_destroy(weir, region), "close");
	end(weir);
}

void case_shorter(void)
{
	struct weir_container *a;
	struct weir *weir = begin(MIB(8), &a);
	struct weir_file *file = file_to_write(a, path);
	unsigned char *region = file_map(file), bytes[PAGE];
	int fd;

	same(region, 100 * PAGE, PAGE);
	poke(region, 101 * PAGE, "dirty, and behind the new end");
	CHECK(!truncate(path, 50 * PAGE), "truncate");
	same(region, 100 * PAGE, 2 * PAGE);
	CHECK(weir_file_read(file, bytes, PAGE, 300 * PAGE) == -ESTALE, "zeroes for contents");
	CHECK(touch_is_bus(region + 301 * PAGE, false), "zeroes for contents");
	CHECK(weir_file_sync(file) == -ESTALE, "it would grow again");
	/* As long as before, with what it had: what is dirty goes there. */
	fd = open(path, O_WRONLY | O_CLOEXEC);
	CHECK(fd >= 0 && pwrite(fd, right + 50 * PAGE, FILE_SIZE - 50 * PAGE, 50 * PAGE) ==
				 (ssize_t)(FILE_SIZE - 50 * PAGE),
	      "writing the rest");
	close(fd);
	CHECK(!weir_file_sync(file), "sync");
	file_compare(path, right);
	CHECK(!weir_file_close(file), "close");
	(void)weir_region_destroy(weir, region);
	end(weir);
}
