/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages that weir cannot read back: who touches one gets SIGBUS, and goes on. */
#ifndef WEIR_TESTS_LOST_H
#define WEIR_TESTS_LOST_H

#include "stress.h"

/* Installs the handler; before weir_open. Any other SIGBUS ends the run. */
void lost_init(void);
/* Uses memory of one page (the one address lies in). True: it is lost, and the use ended at its first touch of it. */
bool page_lost(const void *address, void (*use)(void *data), void *data);
/* Does a touch of the cell give SIGBUS? */
bool is_lost(const struct area *area, uint32_t cell);

#endif
