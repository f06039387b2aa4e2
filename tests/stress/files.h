/* SPDX-License-Identifier: BSD-2-Clause */
/* What the cases of stress_files.c share: a file with contents that are known, and errors where weir meets the system. */
#ifndef WEIR_TESTS_FILES_H
#define WEIR_TESTS_FILES_H

#include "tenants.h"

/* Functions that the linker puts in the place of the real ones (files_inject.c). */
enum fault_kind {
	READ_ERROR,  /* pread of the file: EIO */
	READ_SHORT,  /* part of it only */
	WRITE_ERROR, /* pwrite of the file: EIO */
	WRITE_SHORT,
	WRITE_FULL,    /* ENOSPC */
	SYNC_ERROR,    /* fdatasync: EIO */
	MAP_ERROR,     /* UFFDIO_CONTINUE: ENOMEM, after part of the run */
	PROTECT_ERROR, /* UFFDIO_WRITEPROTECT: ENOENT */
	PUNCH_ERROR,
	NO_WINDOW,
	NO_CHARGE,   /* a charge for pages that nobody waits for */
	FLUSH_ERROR, /* sync_file_range: EIO, and the contents are lost */
	FAULT_KINDS,
};
/* One in so many calls fails from now on, 1: all, 0: none. */
void fail(enum fault_kind kind, unsigned one_in);
void fail_nothing(void);
uint64_t failed(enum fault_kind kind);
const char *fault_kind_name(enum fault_kind kind);
/* Only what concerns this file fails. */
void fail_file(const char *path);

enum { FILE_PAGES = 600, FILE_TAIL = 1234 };
#define FILE_SIZE ((uint64_t)(FILE_PAGES - 1) * PAGE + FILE_TAIL)

/* Makes the file, with page_make contents of version 1; right (FILE_SIZE bytes) is what it has. */
void file_begin(char path[64], unsigned char *right);
/* Compares every byte of the file itself, and its length. */
void file_compare(const char *path, const unsigned char *right);
struct weir_file *file_to_write(struct weir_container *c, const char *path);
unsigned char *file_map(struct weir_file *file);
/* Closes all, and nothing is left charged. */
void nothing_left(struct weir *weir);

void case_write(void);
void case_errors(void);
void case_lost(void);
void case_reads(void);
void case_advise(void);
void case_shorter(void);
void case_charges(void);
void case_oracle(void);

#endif
