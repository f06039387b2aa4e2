/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The limit of a file that is read, for weir bench paging: what the disk gives with nothing in between. At random each thread
 * reads single pages past the system's cache, one after the other; in a row four threads read 1 MiB each at a time.
 */
#ifndef WEIR_CLI_PAGING_DISK_H
#define WEIR_CLI_PAGING_DISK_H

#include "paging_load.h"

/* result: pages a second. 0 or -errno. */
int disk_run(const struct load *load, const char *path, struct load_result *result);

#endif
