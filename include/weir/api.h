/* SPDX-License-Identifier: BSD-2-Clause */
/* What the library exports: everything else is hidden. */
#ifndef WEIR_API_H
#define WEIR_API_H

#define WEIR_API __attribute__((visibility("default")))

#endif
