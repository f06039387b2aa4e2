/* SPDX-License-Identifier: BSD-2-Clause */
/* What tests of one file share: it, and a region over it. */
#ifndef WEIR_TESTS_VM_ONE_FILE_H
#define WEIR_TESTS_VM_ONE_FILE_H

#include "files.h"

static struct files f;

/* A file of so many bytes, and a region over it, whose number is returned. max: of the root, in pages; 0: no bound. */
static inline unsigned begin(uint32_t max, size_t bytes, bool write)
{
	files_open(&f, max, bytes, 0);
	return files_map(&f, 0, write, NULL);
}

/* As it is now. */
static inline void finish(void)
{
	files_check(&f);
	files_close(&f);
}

/* When the crew has done what it was asked for. */
static inline void end(void)
{
	fake_threads_run();
	finish();
}

static inline int sync_all(unsigned r)
{
	return file_sync(&f.w.vm, file_region_hold(f.region[r]), 0, f.source[f.of[r]].pages);
}

#endif
