/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How the cost of a fault grows, of weir bench paging: reads of a text, in random order, in signal mode, where all pages fit
 * when most of them are compressed. One thing grows at a time: the address space that the pages lie in, the limit (and the
 * pages with it), or the regions among which they are divided.
 */
#ifndef WEIR_CLI_PAGING_GROWTH_H
#define WEIR_CLI_PAGING_GROWTH_H

#include <stdbool.h>

/* What --only does not leave out, of one run. 0 or -errno, with a message. */
int growth_run(unsigned run, bool quick);
/* Is any of it measured? */
bool growth_chosen(void);
void growth_print_text(void);
/* As many of each as are measured, with ", " behind each; and reasons for those that are not. */
void growth_json_results(void);
void growth_json_ratios(void);
void growth_json_skipped(bool *first);
int growth_print_svg(const char *path);

#endif
