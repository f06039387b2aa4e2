/* SPDX-License-Identifier: BSD-2-Clause */
#include "os/socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { WAITING = 64 };

static int fail(int fd)
{
	int err = -errno;

	close(fd);
	return err;
}

/* A socket, and the address that it is bound or connected to. Abstract: the first byte is zero, and the length tells where it ends. */
static int named(const char *name, int (*fn)(int fd, const struct sockaddr *address, socklen_t len))
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	const size_t len = strlen(name);
	int fd;

	if (len >= sizeof(at.sun_path))
		return -ENAMETOOLONG;
	memcpy(at.sun_path + 1, name, len);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (fn(fd, (struct sockaddr *)&at,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)))
		return fail(fd);
	return fd;
}

int socket_listen(const char *name)
{
	int fd = named(name, bind);

	return fd >= 0 && listen(fd, WAITING) ? fail(fd) : fd;
}

int socket_connect(const char *name)
{
	return named(name, connect);
}

int socket_accept(int fd)
{
	int new = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return new < 0 ? -errno : new;
}

void socket_shutdown(int fd)
{
	(void)shutdown(fd, SHUT_RDWR);
}

void socket_close(int fd)
{
	close(fd);
}

int socket_peer(int fd, struct socket_peer *peer)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len))
		return -errno;
	*peer = (struct socket_peer){.pid = who.pid, .uid = who.uid};
	return 0;
}

uid_t socket_user(void)
{
	return geteuid();
}

ssize_t socket_send(int fd, const void *bytes, size_t size, int pass)
{
	struct iovec io = {(void *)(uintptr_t)bytes, size};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.room = {0}};
	struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
	ssize_t n;

	if (pass >= 0) {
		control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)),
						  .cmsg_level = SOL_SOCKET,
						  .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.header), &pass, sizeof(pass));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control.room);
	}
	n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

/* The first of the descriptors; more than one are not asked for, and are closed. */
static int take(struct msghdr *message)
{
	int first = -1;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0);
		     at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + at, sizeof(fd));
			if (first < 0)
				first = fd;
			else
				close(fd);
		}
	}
	return first;
}

ssize_t socket_receive(int fd, void *bytes, size_t room, int *passed)
{
	struct iovec io = {bytes, room};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
	const int flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
	ssize_t n;

	if (passed) {
		*passed = -1;
		message.msg_control = &control;
		message.msg_controllen = sizeof(control.room);
	}
	n = recvmsg(fd, &message, flags);
	/* Said once, before what was sent: the other end has closed without reading all that it was told. */
	if (n < 0 && errno == ECONNRESET)
		n = recvmsg(fd, &message, flags);
	if (n < 0)
		return -errno;
	if (passed)
		*passed = take(&message);
	return message.msg_flags & MSG_TRUNC ? -EMSGSIZE : n;
}

int socket_poll(struct pollfd *fds, unsigned count, int timeout_ms)
{
	int n = poll(fds, count, timeout_ms);

	return n < 0 ? -errno : n;
}
