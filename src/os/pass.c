/* SPDX-License-Identifier: BSD-2-Clause */
#include "os/pass.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/thread.h"

int pass_pair(int ends[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return -errno;
	for (unsigned i = 0; i < 2; i++)
		ends[i] = thread_fd_high(ends[i]);
	return 0;
}

int pass_fetch(int pidfd, int fd)
{
	int own = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0u);

	return own < 0 ? -errno : own;
}

/* Room for the descriptors of a message, aligned as the kernel wants it. */
union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(PASS_MOST * sizeof(int))];
};

ssize_t message_send(int fd, const void *data, size_t bytes, const int *fds, unsigned count,
		     int flags)
{
	struct iovec iov = {(void *)(uintptr_t)data, bytes};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	union control control;
	ssize_t sent;

	if (count > PASS_MOST)
		return -E2BIG;
	if (count) {
		struct cmsghdr *header = &control.header;

		memset(&control, 0, sizeof(control));
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(header), fds, count * sizeof(int));
	}
	do
		sent = sendmsg(fd, &message, flags | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

/* The descriptors of a message; what there is no room for is closed. */
static unsigned take(struct msghdr *message, int *fds, unsigned room)
{
	unsigned got = 0;

	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
	     header = CMSG_NXTHDR(message, header)) {
		const size_t n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
			if (got < room)
				fds[got++] = fd;
			else
				close(fd);
		}
	}
	return got;
}

ssize_t message_receive(int fd, void *data, size_t bytes, int *fds, unsigned *count, int flags)
{
	struct iovec iov = {data, bytes};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	union control control;
	ssize_t got;

	if (fds) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(*count * sizeof(int));
	}
	do
		got = recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (fds)
		*count = take(&message, fds, *count);
	return message.msg_flags & MSG_TRUNC ? -EMSGSIZE : got;
}

int pass_send(int end, const void *data, size_t bytes, const int *fds, unsigned count)
{
	ssize_t sent = message_send(end, data, bytes, fds, count, 0);

	return sent < 0 ? (int)sent : 0;
}

int64_t pass_receive(int end, void *data, size_t bytes, int *fds, unsigned *count)
{
	ssize_t got = message_receive(end, data, bytes, fds, count, 0);

	return !got || got == -ECONNRESET ? -EPIPE : got;
}

void pass_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

int pass_room(int fd)
{
	int other = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (other < 0)
		return errno == EINVAL ? -EMFILE : -errno;
	close(other);
	return 0;
}

int pass_wait(const int *fds, unsigned count, int timeout_ms, uint32_t *ready)
{
	struct pollfd p[32];
	unsigned bit[32], used = 0;

	*ready = 0;
	/* Not more than there are: poll counts them against RLIMIT_NOFILE, which may be small. */
	for (unsigned i = 0; i < MIN(count, (unsigned)ARRAY_SIZE(p)); i++) {
		if (fds[i] < 0)
			continue;
		bit[used] = i;
		p[used++] = (struct pollfd){.fd = fds[i], .events = POLLIN};
	}
	if (poll(p, used, timeout_ms) < 0)
		return errno == EINTR ? 0 : -errno;
	for (unsigned i = 0; i < used; i++)
		*ready |= (uint32_t)(p[i].revents != 0) << bit[i];
	return 0;
}
