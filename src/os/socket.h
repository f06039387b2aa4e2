/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Local sockets that keep packets apart (SOCK_SEQPACKET) and have a name, but no file: they are gone with their process. All
 * are close-on-exec, and but for connecting nothing blocks. Descriptors, lengths, or -errno.
 */
#ifndef WEIR_OS_SOCKET_H
#define WEIR_OS_SOCKET_H

#include <poll.h>
#include <sys/types.h>

#include "base/base.h"

/* name: without the leading zero byte. -EADDRINUSE: somebody has it. */
int socket_listen(const char *name);
/* -ECONNREFUSED: nobody has the name; -EAGAIN: too many wait. */
int socket_connect(const char *name);
int socket_accept(int fd);
/* Ends a listening socket: who polls it finds it ready, from now on. */
void socket_shutdown(int fd);
void socket_close(int fd);

/* Who is at the other end: as it was when that called listen or connect. pid 0: in another namespace. */
struct socket_peer {
	pid_t pid;
	uid_t uid;
};
int socket_peer(int fd, struct socket_peer *peer);
/* The effective user of this process. */
uid_t socket_user(void);

/* One packet, with a descriptor unless pass is -1. */
ssize_t socket_send(int fd, const void *bytes, size_t size, int pass);
/* One packet; 0: the other end is gone. A longer one than room is -EMSGSIZE. passed: NULL, then descriptors that came along
 * do not come in; else one, or -1. */
ssize_t socket_receive(int fd, void *bytes, size_t room, int *passed);
/* Waits until one is ready, or so many milliseconds (-1: for ever). */
int socket_poll(struct pollfd *fds, unsigned count, int timeout_ms);

#endif
