/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading and writing files without mapping them: the same pages as regions have, whoever has the descriptors. */
#include "files.h"

enum { PAGES = 600, TAIL = 77 };
#define BYTES (((size_t)PAGES - 1) * PAGE_SIZE + TAIL)

static struct files f;
static struct file_hold hold;
static unsigned char bytes[PAGES * PAGE_SIZE];

static void begin(unsigned kmap_slots)
{
	files_open(&f, 0, BYTES, 0);
	f.w.vm.kmap_slots = kmap_slots;
	hold = files_hold(&f, 0, true, NULL);
}

static void end(void)
{
	fake_threads_run();
	files_check(&f);
	assert_int_equal(file_hold_close(&f.w.vm, f.w.background, &hold), 0);
	files_close(&f);
}

static void read_at(uint64_t offset, uint64_t count, int64_t expected)
{
	memset(bytes, 0x11, sizeof(bytes));
	assert_int_equal(file_pread(&f.w.vm, &hold, bytes, count, offset, false), expected);
	if (expected > 0)
		file_note(&f.w.vm, &hold, offset, (uint64_t)expected);
	if (expected > 0)
		assert_memory_equal(bytes, f.source[0].right + offset, (size_t)expected);
	/* And not a byte more. */
	if (expected >= 0 && (size_t)expected < sizeof(bytes))
		assert_int_equal(bytes[expected], 0x11);
}

static void write_at(uint64_t offset, uint64_t count, uint64_t seed)
{
	for (uint64_t i = 0; i < count; i++)
		bytes[i] = (unsigned char)random_next(&seed);
	assert_int_equal(file_pwrite(&f.w.vm, &hold, bytes, count, offset, false), (int64_t)count);
	file_note(&f.w.vm, &hold, offset, count);
	files_wrote(&f, 0, bytes, count, offset);
}

/* Any bytes, cached or not, up to the end and not beyond; what is cached is not read again. */
static void test_read(void **state)
{
	uint64_t seed = 2;

	(void)state;
	for (unsigned slots = 0; slots <= 8; slots += 8) {
		begin(slots);
		read_at(0, 1, 1);
		read_at(4000, 200, 200);
		read_at(100 * PAGE_SIZE + 5, 70 * PAGE_SIZE, 70 * PAGE_SIZE);
		read_at(BYTES - 10, 50, 10);
		read_at(BYTES, 50, 0);
		read_at(BYTES + PAGE_SIZE, 50, 0);
		read_at(7, 0, 0);
		for (unsigned i = 0; i < 50; i++) {
			const uint64_t offset = random_next(&seed) % BYTES;

			read_at(offset, 3000, (int64_t)MIN(BYTES - offset, 3000u));
		}
		read_at(0, BYTES, BYTES);
		fake_threads_run();
		assert_int_equal(pages_read(), PAGES);
		read_at(0, BYTES, BYTES);
		assert_int_equal(pages_read(), PAGES);
		end();
	}
}

/* Any bytes; a part of a page keeps the rest of it, what is written a region sees, and the other way round. */
static void test_write(void **state)
{
	uint64_t seed = 9;
	unsigned r;

	(void)state;
	for (unsigned slots = 0; slots <= 8; slots += 8) {
		begin(slots);
		r = files_map(&f, 0, true, NULL);
		write_at(4090, 12, 1);
		write_at(20 * PAGE_SIZE + 9, 30 * PAGE_SIZE, 2);
		write_at(BYTES - 5, 5, 3);
		for (uint32_t page = 0; page < 60; page++)
			files_read(&f, r, page);
		files_write(&f, r, 300, 77);
		read_at(300 * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE);
		for (unsigned i = 0; i < 50; i++)
			write_at(random_next(&seed) % (BYTES - 5000), 5000, i);
		files_check(&f);
		assert_int_equal(file_sync(&f.w.vm, &hold, 0, PAGES), 0);
		assert_true(files_on_disk(&f, 0, 0, PAGES));
		end();
	}
}

/* Nothing behind the end: files do not grow. */
static void test_no_growth(void **state)
{
	(void)state;
	begin(0);
	memset(bytes, 1, 100);
	assert_int_equal(file_pwrite(&f.w.vm, &hold, bytes, 100, BYTES, false), -EFBIG);
	assert_int_equal(file_pwrite(&f.w.vm, &hold, bytes, 0, BYTES, false), 0);
	assert_int_equal(file_pwrite(&f.w.vm, &hold, bytes, 100, BYTES - 40, false), 40);
	files_wrote(&f, 0, bytes, 40, BYTES - 40);
	end();
}

/* A read that fails in the middle has given what came before; at the beginning it is the error. No page is lost by it. */
static void test_errors(void **state)
{
	(void)state;
	begin(0);
	fake_fail(FAKE_SOURCE_READ, 1, 0, -EIO);
	fake_fail(FAKE_SOURCE_READ, 2, 0, -EIO);
	read_at(0, 2 * PAGE_SIZE, -EIO);
	read_at(0, 2 * PAGE_SIZE, 2 * PAGE_SIZE);
	assert_int_equal(file_usage(&f), 2);
	fake_threads_run();
	read_at(300 * PAGE_SIZE, 10, 10);
	fake_fail(FAKE_SOURCE_READ, 1, 0, -EIO);
	fake_fail(FAKE_SOURCE_READ, 2, 0, -EIO);
	read_at(300 * PAGE_SIZE, 10 * PAGE_SIZE, PAGE_SIZE);
	assert_int_equal(fake_calm(), 0);
	read_at(300 * PAGE_SIZE, 20 * PAGE_SIZE, 20 * PAGE_SIZE);
	fake_threads_run();
	/* Nor does a write that cannot read the rest of its page change anything. */
	fake_fail(FAKE_SOURCE_READ, 1, 0, -EIO);
	assert_int_equal(file_pwrite(&f.w.vm, &hold, "x", 1, 580 * PAGE_SIZE, false), -EIO);
	end();
}

/* Who reads in a row finds the pages cached: the crew has been asked in time. */
static void test_row(void **state)
{
	uint64_t reads;

	(void)state;
	begin(0);
	for (uint32_t page = 0; page < 64; page++) {
		read_at(page * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE);
		fake_threads_run();
	}
	reads = fake_count(FAKE_SOURCE_READ);
	for (uint32_t page = 64; page < PAGES - 1; page++) {
		assert_true(load_relaxed(&hold.file->state[page]) & FILE_CACHED);
		read_at(page * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE);
		fake_threads_run();
	}
	assert_in_range(fake_count(FAKE_SOURCE_READ) - reads, 0, 4);
	assert_int_equal(pages_read(), PAGES);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),	  cmocka_unit_test(test_write),
		cmocka_unit_test(test_no_growth), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
