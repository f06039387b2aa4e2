/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Descriptors that go from one process to another: a pair of connected sockets, of which a fork gives one end to the
 * child. What was sent and not yet received keeps its descriptors open, whether the sender still lives or not; and the
 * other end is told when nobody has this one any more.
 */
#ifndef WEIR_OS_PASS_H
#define WEIR_OS_PASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/base.h"

enum { PASS_MOST = 32 /* descriptors in a message */ };

/*
 * A packet with descriptors, on any local socket; flags as of sendmsg and recvmsg. Bytes, or -errno. -E2BIG: more than PASS_MOST; -EMSGSIZE: a longer
 * packet than there is room for. *count: in the room for descriptors, out how many came; others are closed. fds NULL: none come in.
 */
ssize_t message_send(int fd, const void *data, size_t bytes, const int *fds, unsigned count,
		     int flags);
ssize_t message_receive(int fd, void *data, size_t bytes, int *fds, unsigned *count, int flags);

/* Both ends, close-on-exec, with high numbers. 0 or -errno. */
int pass_pair(int ends[2]) MUST_CHECK;
/* A descriptor of the program's table, in the caller's table as well. Takes a pidfd of this process. */
int pass_fetch(int pidfd, int fd) MUST_CHECK;
/* One message: bytes, and descriptors, which stay the sender's too. 0 or -errno (-EPIPE: nobody is there). */
int pass_send(int end, const void *data, size_t bytes, const int *fds, unsigned count);
/* Waits for a message. As message_receive, but -EPIPE: nobody is there any more. */
int64_t pass_receive(int end, void *data, size_t bytes, int *fds, unsigned *count);
void pass_close(int fd);
/* Is there room for another descriptor in the caller's table? Takes any of it. 0 or -EMFILE. */
int pass_room(int fd) MUST_CHECK;

/* Waits until something can be read from any of them, or an end has nobody on the other side; at most timeout_ms. ready gets
 * a bit each. Negative descriptors are passed over. At most 32. 0 or -errno. */
int pass_wait(const int *fds, unsigned count, int timeout_ms, uint32_t *ready);

#endif
