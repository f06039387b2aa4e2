/* SPDX-License-Identifier: BSD-2-Clause */
/* What tests of the hand-over share: an instance that can hand over, or the test is skipped. */
#ifndef WEIR_TESTS_FORK_OPEN_H
#define WEIR_TESTS_FORK_OPEN_H

#include "../unit.h"

#include "instance.h"
#include "os/thread.h"
#include "weir/weir.h"

static inline struct weir *open_for_forks(uint64_t limit)
{
	const struct weir_options options = {
		.size = sizeof(options), .limit = limit, .handlers = 2, .hand_over = 1};
	struct weir *weir;
	int err = weir_open(&options, &weir);

	if (err) {
		print_message("skipped: userfaultfd: %s\n", weir_advice(err));
		exit(err == -EPERM || err == -ENOSYS ? EXIT_SKIP : 1);
	}
	if (!weir->fork.can) {
		print_message("skipped: no CAP_SYS_PTRACE here: forks bring all pages in\n");
		exit(EXIT_SKIP);
	}
	return weir;
}

/*
 * Until all handlers look for faults. A thread that begins has locks of AddressSanitizer's, which come to the child of a fork as they are
 * (gcc 12), or keep a handler from being told of it (clang 19). So who forks waits for threads that it has just started.
 */
static inline void handlers_begun(const struct weir *weir)
{
	const struct readers *r = &weir->service.readers;

	while (load_relaxed(&r->reading) + load_relaxed(&r->followers.queued) <
	       weir->service.handlers)
		sleep_ns(100000);
}

#endif
