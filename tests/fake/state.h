/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the fake share. */
#ifndef WEIR_TESTS_FAKE_STATE_H
#define WEIR_TESTS_FAKE_STATE_H

#include "fake.h"

/* What was injected into a call. */
struct fake_failure {
	size_t done;
	int err;
};

void fake_guard_enter(void);
void fake_guard_leave(void);
/* Every call of the kernel begins with this: what happens meanwhile. Not within the guard. */
void fake_before(enum fake_call call);
/* Counts a call; true: it is to fail as *failure says. Within the guard. */
bool fake_called(enum fake_call call, size_t units, struct fake_failure *failure);

void fake_memory_reset(void);
void fake_file_reset(void);
/* Ends the program: weir called the kernel in a way that breaks the contract of os/. */
_Noreturn void fake_misuse(const char *what);

#endif
