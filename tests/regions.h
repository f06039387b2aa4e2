/* SPDX-License-Identifier: BSD-2-Clause */
/* Regions of one container, or of one mode. */
#ifndef WEIR_TESTS_REGIONS_H
#define WEIR_TESTS_REGIONS_H

#include "weir/weir.h"

static inline int region_in(struct weir *weir, struct weir_container *container, uint64_t bytes,
			    void **addr)
{
	const struct weir_region_options options = {.size = sizeof(options),
						    .container = container};

	return weir_region_create_with(weir, bytes, &options, addr);
}

static inline int region_as(struct weir *weir, uint64_t bytes, enum weir_mode mode, void **addr)
{
	const struct weir_region_options options = {.size = sizeof(options), .mode = mode};

	return weir_region_create_with(weir, bytes, &options, addr);
}

#endif
