/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SIGBUS, by which a thread is told of its own faults (signal mode).
 */
#ifndef WEIR_OS_SIGNAL_H
#define WEIR_OS_SIGNAL_H

#include <signal.h>

#include "base/base.h"

/* The calling thread takes SIGBUS from now on. */
void signals_unblock_bus(void);

/* What a SIGBUS is about. */
struct bus_fault {
	uintptr_t address;
	bool fault; /* a touch, and no kill(2) */
	bool write; /* where the processor does not tell: false */
	bool write_known;
	bool present; /* the page is there, and what is refused is the write; where the processor does not tell: true */
};
/* Serves a fault. False: it is none of ours, and goes to the handler that was there before. */
typedef bool (*bus_serve_fn)(const struct bus_fault *fault);

/* Installs the handler, on the normal stack, all asynchronous signals (os/thread.h) blocked in it; counts callers. 0 or -errno. */
int bus_handler_install(bus_serve_fn serve);
/* The last one puts the handler back that was there before, unless the program has put another one over ours. */
void bus_handler_remove(void);

#endif
