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

enum weir_move {
	WEIR_MOVE_LATER, /* pages stay where they are charged until they come into memory anew */
	WEIR_MOVE_PAGES, /* pages and copies go over now */
};
/*
 * The region belongs to another container of its instance from now on: its later pages are charged there. -ENOENT: no
 * region begins at addr; -EXDEV: a container of another instance; -ENOSPC: pages of the region are charged to 16
 * containers already (move them); -ENOMEM, with WEIR_MOVE_PAGES: not all pages fit below the limits of the container;
 * those that do have gone over, the others follow when they come in anew.
 */
WEIR_API int weir_region_move(struct weir *weir, void *addr, struct weir_container *container,
			      enum weir_move how);

#ifdef __cplusplus
}
#endif

#endif
