/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A world (world.h) with files of the program, regions over them, and the crew, which runs when the test lets it
 * (fake_threads). Its oracle:
 *
 *   files_check   every page of every file object against what the kernel (the fake) has cached and mapped, the words of all
 *                 regions, who is charged, the contents that were written last, and, where it is clean, the file
 */
#ifndef WEIR_TESTS_FAKE_FILES_H
#define WEIR_TESTS_FAKE_FILES_H

#include "vm/file.h"
#include "world.h"

enum { FILES_SOURCES = 2, FILES_MAPS = 4 };

struct files {
	struct world w;
	struct source {
		unsigned char *disk;  /* the file */
		unsigned char *right; /* what it must read as, whole pages */
		size_t bytes;
		uint32_t pages;
	} source[FILES_SOURCES];
	struct region *region[FILES_MAPS];
	unsigned of[FILES_MAPS]; /* the source of each */
};

static const char *const files_path[FILES_SOURCES] = {"/a/file", "/another"};

/* Files of so many bytes; 0: there is none. max: of the root, in pages, as in world_options. */
void files_open(struct files *f, uint32_t max, size_t bytes, size_t bytes_of_another);
/* Closes what is mapped, which must succeed. Then nothing is charged, open or running any more, and the files are right. */
void files_close(struct files *f);
void files_check(struct files *f);

/* Opens the file for a container, NULL: the root. */
struct file_hold files_hold(struct files *f, unsigned source, bool write,
			    struct weir_container *container);
/* A region over it, which is all that keeps it. Its number. */
unsigned files_map(struct files *f, unsigned source, bool write, struct weir_container *container);
int files_unmap(struct files *f, unsigned r);
static inline struct file_object *object(struct files *f, unsigned r)
{
	return f->region[r]->file;
}
static inline uint32_t state_of(struct files *f, unsigned r, uint32_t page)
{
	return load_relaxed(&object(f, r)->state[page]);
}
/* Charged for pages of files, in pages. */
static inline uint64_t file_usage(struct files *f)
{
	return container_usage(f->w.container, CHARGE_FILE) >> PAGE_SHIFT;
}
/* Pages that were read from files, at one time or another. */
static inline uint64_t pages_read(void)
{
	return fake_units(FAKE_SOURCE_READ) >> PAGE_SHIFT;
}

/* One fault of a region, without what comes after. */
enum pagein_result files_fault(struct files *f, unsigned r, uint32_t page,
			       enum fault_access access);
/* A thread touches a page until that goes through, or is SIGBUS; the crew runs only where it must wait for it. Returns faults. */
unsigned files_touch(struct files *f, unsigned r, uint32_t page, bool write);
/* Reads it, and compares. */
void files_read(struct files *f, unsigned r, uint32_t page);
/* Writes a word of it. */
void files_write(struct files *f, unsigned r, uint32_t page, uint64_t value);
/* What weir's own functions have written there. */
void files_wrote(struct files *f, unsigned source, const void *bytes, size_t count, size_t offset);
/* Has the file itself what was written last to these pages? */
bool files_on_disk(struct files *f, unsigned source, uint32_t page, uint32_t count);

#endif
