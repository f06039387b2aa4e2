/* SPDX-License-Identifier: BSD-2-Clause */
#include "os/socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "os/pass.h"

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
	return message_send(fd, bytes, size, &pass, pass >= 0, MSG_DONTWAIT);
}

ssize_t socket_receive(int fd, void *bytes, size_t room, int *passed)
{
	unsigned count = 1;
	ssize_t n = message_receive(fd, bytes, room, passed, &count, MSG_DONTWAIT);

	/* Said once, before what was sent: the other end has closed without reading all that it was told. */
	if (n == -ECONNRESET)
		n = message_receive(fd, bytes, room, passed, &count, MSG_DONTWAIT);
	if (passed && ((n < 0 && n != -EMSGSIZE) || !count))
		*passed = -1;
	return n;
}

int socket_poll(struct pollfd *fds, unsigned count, int timeout_ms)
{
	int n = poll(fds, count, timeout_ms);

	return n < 0 ? -errno : n;
}
