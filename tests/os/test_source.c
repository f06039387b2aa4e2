/* SPDX-License-Identifier: BSD-2-Clause */
/* Files of the program (file_source), past the system's page cache and through it, and the memory that they are read into. */
#include "../disk.h"

#include <sys/stat.h>

#include "os/file.h"
#include "os/mem.h"

enum { PAGES = 5, TAIL = 777 };
#define BYTES (((size_t)PAGES - 1) * PAGE_SIZE + TAIL)

static char dir[DIR_TEXT], path[DIR_TEXT + 16];
static char *buffer; /* PAGES pages */
static char right[PAGES * PAGE_SIZE];

static int setup(void **state)
{
	FILE *file;

	(void)state;
	if (!dir_make(dir)) {
		dir[0] = '\0';
		return 0;
	}
	snprintf(path, sizeof(path), "%s/file", dir);
	for (size_t i = 0; i < BYTES; i++)
		right[i] = (char)(i * 7 + i / PAGE_SIZE + 1);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(right, 1, BYTES, file), BYTES);
	assert_int_equal(fclose(file), 0);
	buffer = mem_buffer_alloc(PAGES * PAGE_SIZE);
	assert_non_null(buffer);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (!dir[0])
		return 0;
	mem_release(buffer, PAGES * PAGE_SIZE);
	unlink(path);
	dir_remove(dir);
	return 0;
}

/* Opens it; without the way past the cache, as on file systems that have none, if so said. */
static struct file_source open_it(bool write, bool direct, struct file_id *id)
{
	struct file_source source;

	if (!dir[0])
		skip_because("no folder on a disk; set WEIR_TEST_DIR to one");
	assert_int_equal(file_source_open(&source, path, write, id), 0);
	if (!direct && source.direct >= 0) {
		close(source.direct);
		source.direct = -1;
	}
	return source;
}

/* A read that ends behind the file's end is a short one for the system: the rest is zeroes, also where all of it lies there. */
static void test_end(void **state)
{
	(void)state;
	for (unsigned direct = 0; direct < 2; direct++) {
		struct file_id id;
		struct file_source source = open_it(false, direct, &id);

		assert_int_equal(id.bytes, BYTES);
		memset(buffer, 0x55, PAGES * PAGE_SIZE);
		assert_int_equal(file_source_read(&source, buffer, PAGES * PAGE_SIZE, 0, BYTES), 0);
		assert_memory_equal(buffer, right, PAGES * PAGE_SIZE);
		memset(buffer, 0x55, PAGE_SIZE);
		assert_int_equal(
			file_source_read(&source, buffer, PAGE_SIZE, PAGES * PAGE_SIZE, BYTES), 0);
		assert_memory_equal(buffer, right + BYTES, PAGE_SIZE - TAIL);
		file_source_close(&source);
	}
}

/* It has become shorter since: an error for what is gone, no zeroes; what is there is read. */
static void test_shorter(void **state)
{
	(void)state;
	for (unsigned direct = 0; direct < 2; direct++) {
		struct file_source source = open_it(true, direct, NULL);
		struct stat st;

		assert_int_equal(truncate(path, 2 * PAGE_SIZE + 9), 0);
		assert_int_equal(file_source_read(&source, buffer, 2 * PAGE_SIZE, 0, BYTES), 0);
		assert_memory_equal(buffer, right, 2 * PAGE_SIZE);
		assert_int_equal(file_source_read(&source, buffer, 2 * PAGE_SIZE, PAGE_SIZE, BYTES),
				 -ESTALE);
		/* What lies before its end now is written, and no more. */
		memset(buffer, 'a' + (int)direct, 2 * PAGE_SIZE);
		assert_int_equal(
			file_source_write(&source, buffer, 2 * PAGE_SIZE, PAGE_SIZE, BYTES),
			-ESTALE);
		assert_int_equal(
			file_source_write(&source, buffer, PAGE_SIZE, 3 * PAGE_SIZE, BYTES),
			-ESTALE);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_size, 2 * PAGE_SIZE + 9);
		memset(buffer + 2 * PAGE_SIZE, 0, 2 * PAGE_SIZE);
		assert_int_equal(file_source_read(&source, buffer + 2 * PAGE_SIZE, 2 * PAGE_SIZE,
						  PAGE_SIZE, PAGE_SIZE + PAGE_SIZE + 9),
				 0);
		assert_memory_equal(buffer, buffer + 2 * PAGE_SIZE, PAGE_SIZE + 9);
		file_source_close(&source);
		teardown(NULL);
		setup(NULL);
	}
}

/* A write makes it neither longer nor shorter, and changes what it is for. */
static void test_write(void **state)
{
	(void)state;
	for (unsigned direct = 0; direct < 2; direct++) {
		struct file_source source = open_it(true, direct, NULL);
		struct stat st;

		memcpy(buffer, right, sizeof(right));
		memset(buffer + 3 * PAGE_SIZE, 'a' + (int)direct, 2 * PAGE_SIZE);
		assert_int_equal(file_source_write(&source, buffer + 3 * PAGE_SIZE, 2 * PAGE_SIZE,
						   3 * PAGE_SIZE, BYTES),
				 0);
		assert_int_equal(file_source_sync(&source), 0);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_size, BYTES);
		memcpy(right + 3 * PAGE_SIZE, buffer + 3 * PAGE_SIZE, BYTES - 3 * PAGE_SIZE);
		assert_int_equal(file_source_read(&source, buffer, PAGES * PAGE_SIZE, 0, BYTES), 0);
		assert_memory_equal(buffer, right, PAGES * PAGE_SIZE);
		file_source_close(&source);
	}
}

/* What is no regular file, or empty, or not there, is refused. */
static void test_refused(void **state)
{
	struct file_source source;

	(void)state;
	source = open_it(false, true, NULL);
	file_source_close(&source);
	assert_int_equal(file_source_open(&source, dir, false, NULL), -EINVAL);
	assert_int_equal(file_source_open(&source, "/dev/null", false, NULL), -EINVAL);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(file_source_open(&source, path, false, NULL), -EINVAL);
	unlink(path);
	assert_int_equal(file_source_open(&source, path, false, NULL), -ENOENT);
}

/* What is written to shared memory all mappings have, and what is punched out is zeroes in all. */
static void test_shared(void **state)
{
	const int fd = mem_shared_create(PAGES * PAGE_SIZE);
	char *view, *region;

	(void)state;
	assert_true(fd >= 0);
	view = mem_shared_map(fd, PAGES * PAGE_SIZE);
	region = mem_shared_region_map(fd, PAGES * PAGE_SIZE, false);
	assert_non_null(view);
	assert_non_null(region);
	assert_int_equal(mem_shared_write(fd, right, 2 * PAGE_SIZE, 3 * PAGE_SIZE), 0);
	assert_memory_equal(view + 3 * PAGE_SIZE, right, 2 * PAGE_SIZE);
	assert_memory_equal(region + 3 * PAGE_SIZE, right, 2 * PAGE_SIZE);
	assert_int_equal(mem_shared_punch(fd, 3 * PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(region[3 * PAGE_SIZE], 0);
	assert_int_equal(view[4 * PAGE_SIZE], right[PAGE_SIZE]);
	assert_int_equal(mem_shared_write(-1, right, PAGE_SIZE, 0), -EBADF);
	mem_release(view, PAGES * PAGE_SIZE);
	mem_release(region, PAGES * PAGE_SIZE);
	mem_file_close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shorter, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shared, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
