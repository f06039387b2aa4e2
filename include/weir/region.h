/* SPDX-License-Identifier: BSD-2-Clause */
/* Regions of a container. What <weir/weir.h> says of regions holds; a region made there belongs to the root. */
#ifndef WEIR_REGION_H
#define WEIR_REGION_H

#include <stddef.h>
#include <stdint.h>

#include <weir/api.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir;
struct weir_container;

/* bytes: rounded up to pages. Reads as zeroes. What comes into memory is charged to the container. Errors as
 * weir_region_create; it ends with weir_region_destroy, or with the instance. */
WEIR_API int weir_region_create_in(struct weir_container *container, uint64_t bytes, void **addr);

/*
 * A region over a file, read-only (to write: weir_file_map in <weir/file.h>): its pages come from the file when they are touched, and are charged to the container whose
 * region touches them first, once, however many regions of the instance are over the file. A touch of a page that
 * cannot be read is SIGBUS, and the log says why. bytes: the file's size at this moment; what lies behind it in the
 * last page reads as zeroes. The file must not change meanwhile. A child of fork does not have the region. The errors of
 * open(2); -EINVAL: not a regular file, or an empty one; -EOPNOTSUPP: before Linux 5.14; -ENOSPC: 16 regions over one
 * file, 64 files, or 1024 regions in all; -ENOMEM; -ENOTSUP: the instance has signal mode only.
 */
WEIR_API int weir_region_open(struct weir_container *container, const char *path, void **addr,
			      uint64_t *bytes);

/*
 * What was written to these bytes of a region over a file, and all that was before, is in the file and on the disk when it returns
 * 0. Else an error of writing back that this region was not told of yet: <weir/file.h> says what that means. -EINVAL: no such
 * region, or no bytes. The region is not to be destroyed meanwhile.
 */
WEIR_API int weir_region_sync(struct weir *weir, void *addr, uint64_t bytes);

enum weir_move {
	WEIR_MOVE_LATER, /* pages stay where they are charged until they come into memory anew */
	WEIR_MOVE_PAGES, /* pages and copies go over now */
};
/*
 * The region belongs to another container of its instance from now on: its later pages are charged there. -ENOENT: no
 * region begins at addr; -EXDEV: a container of another instance; -ENOSPC: pages of the region are charged to 16
 * containers already (move them); -EINVAL: a region over a file; -ENOMEM, with WEIR_MOVE_PAGES: not all pages fit below the limits of the container;
 * those that do have gone over, the others follow when they come in anew.
 */
WEIR_API int weir_region_move(struct weir *weir, void *addr, struct weir_container *container,
			      enum weir_move how);

#ifdef __cplusplus
}
#endif

#endif
