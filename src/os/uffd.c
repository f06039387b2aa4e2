/* SPDX-License-Identifier: BSD-2-Clause */
#include "os/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/log.h"
#include "os/mem.h"

/* Newer than Debian 12's <linux/userfaultfd.h>: the same layout under our own names. */
struct move_args {
	uint64_t dst, src, len, mode;
	int64_t move;
};
struct poison_args {
	uint64_t start, len, mode;
	int64_t updated;
};
#define IOCTL_MOVE _IOWR(UFFDIO, 0x05, struct move_args)
#define IOCTL_POISON _IOWR(UFFDIO, 0x08, struct poison_args)
#define IOCTL_PAGEMAP_SCAN 0xc0606610ul /* struct pm_scan_arg: 96 bytes, type 'f', 16 */
#define IOCTL_DEVICE_NEW _IO(0xAA, 0x00)
enum { MOVE_ALLOW_HOLES = 2, CONTINUE_PROTECTED = 2 };

_Static_assert(IOCTL_MOVE == 0xc028aa05, "documented number of UFFDIO_MOVE");
_Static_assert(IOCTL_POISON == 0xc020aa08, "documented number of UFFDIO_POISON");

static int call(int fd, unsigned long request, void *args)
{
	return ioctl(fd, request, args) ? -errno : 0;
}

/* Newer than Linux 5.10. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static int descriptor_by_call(int flags)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | flags);

	return fd < 0 ? -errno : fd;
}

static int descriptor_by_device(void)
{
	int err, fd, dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

	if (dev < 0)
		return -EPERM;
	fd = ioctl(dev, IOCTL_DEVICE_NEW, O_CLOEXEC);
	err = fd < 0 ? -errno : fd;
	close(dev);
	return err;
}

/* The system call needs CAP_SYS_PTRACE or the sysctl; the device needs file permission only. */
static int descriptor_new(void)
{
	int fd = descriptor_by_call(0);

	return fd == -EPERM ? descriptor_by_device() : fd;
}

/* Faults of user mode only, which anybody may have. Kernels before 5.11 do not know the flag; they ask for none, or for
 * the same permission. */
static int descriptor_new_user(void)
{
	int fd = descriptor_by_call(UFFD_USER_MODE_ONLY);

	return fd == -EINVAL ? descriptor_new() : fd;
}

static int handshake(int fd, uint64_t *features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = *features};
	int err = call(fd, UFFDIO_API, &api);

	if (!err)
		*features = api.features;
	return err;
}

static int probe(int fd, uint64_t *features)
{
	int err;

	if (fd < 0)
		return fd;
	*features = 0;
	err = handshake(fd, features);
	close(fd);
	return err;
}

int uffd_probe(uint64_t *features)
{
	return probe(descriptor_new(), features);
}

int uffd_probe_user(uint64_t *features)
{
	return probe(descriptor_new_user(), features);
}

enum uffd_permission uffd_permission(void)
{
	uint64_t features;

	if (!probe(descriptor_by_call(0), &features))
		return UFFD_BY_CALL;
	if (!probe(descriptor_by_device(), &features))
		return UFFD_BY_DEVICE;
	return uffd_probe_user(&features) ? UFFD_NOT : UFFD_USER_MODE;
}

bool uffd_can_scan(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	bool can;

	if (fd < 0)
		return false;
	/* No argument: EFAULT where the call is known, ENOTTY where it is not. */
	can = ioctl(fd, IOCTL_PAGEMAP_SCAN, NULL) < 0 && errno != ENOTTY;
	close(fd);
	return can;
}

bool uffd_can_continue_protected(int fd)
{
	int memory = mem_shared_create(PAGE_SIZE);
	char *at = memory < 0 ? NULL : mem_shared_map(memory, PAGE_SIZE);
	bool can = false;

	if (at) {
		*at = 1;
		(void)mem_discard(at, PAGE_SIZE);
		can = !uffd_register(fd, at, PAGE_SIZE, UFFD_MINOR | UFFD_WP) &&
		      !uffd_continue(fd, at, PAGE_SIZE, true, NULL);
	}
	mem_release(at, PAGE_SIZE);
	if (memory >= 0)
		mem_file_close(memory);
	return can;
}

const char *uffd_advice(int err)
{
	switch (err) {
	case -EPERM:
		return "permission denied; set vm.unprivileged_userfaultfd=1, or give access to "
		       "/dev/userfaultfd";
	case -ENOSYS:
		return "not in this kernel, or without write protection; Linux 5.9 or later with "
		       "CONFIG_USERFAULTFD is needed";
	case -EAGAIN:
		return "threads cannot be started; look at ulimit -u and ulimit -v";
	case -ENOMEM:
		return "no memory, or no address space; look at ulimit -v and "
		       "vm.overcommit_memory";
	default:
		return errno_name(err);
	}
}

static int open_with(int fd, uint64_t features)
{
	int err;

	if (fd < 0)
		return fd;
	err = handshake(fd, &features);
	if (!err)
		return fd;
	close(fd);
	return err;
}

int uffd_open(uint64_t features)
{
	return open_with(descriptor_new(), features);
}

int uffd_open_user(uint64_t features)
{
	return open_with(descriptor_new_user(), features);
}

int uffd_close(int fd)
{
	return close(fd) ? -errno : 0;
}

int uffd_register(int fd, void *addr, size_t bytes, unsigned modes)
{
	struct uffdio_register args = {.range = {(uintptr_t)addr, bytes}, .mode = modes};

	return call(fd, UFFDIO_REGISTER, &args);
}

int uffd_unregister(int fd, void *addr, size_t bytes)
{
	struct uffdio_range args = {(uintptr_t)addr, bytes};

	return call(fd, UFFDIO_UNREGISTER, &args);
}

int uffd_read(int fd, struct uffd_fault *faults, unsigned max)
{
	struct uffd_msg msg[16];
	int count = 0;
	ssize_t got = read(fd, msg, sizeof(msg[0]) * MIN(max, (unsigned)ARRAY_SIZE(msg)));

	if (got < 0)
		return -errno;
	for (size_t i = 0; i < (size_t)got / sizeof(msg[0]); i++) {
		uint64_t flags = msg[i].arg.pagefault.flags;

		if (msg[i].event == UFFD_EVENT_FORK)
			faults[count++] = (struct uffd_fault){.child = (int)msg[i].arg.fork.ufd};
		if (msg[i].event != UFFD_EVENT_PAGEFAULT)
			continue;
		faults[count++] = (struct uffd_fault){
			.address = msg[i].arg.pagefault.address,
			.tid = (int)msg[i].arg.pagefault.feat.ptid,
			.write = flags & UFFD_PAGEFAULT_FLAG_WRITE,
			.wp = flags & UFFD_PAGEFAULT_FLAG_WP,
			.minor = flags & UFFD_PAGEFAULT_FLAG_MINOR,
		};
	}
	return count;
}

int uffd_nonblocking(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK))
		return -errno;
	return 0;
}

int uffd_poll(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, -1) < 0 ? -errno : 0;
}

int uffd_queue_open(int fd)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE};
	int queue = epoll_create1(EPOLL_CLOEXEC);
	int err;

	if (queue < 0)
		return -errno;
	if (!epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event))
		return queue;
	err = -errno;
	close(queue);
	return err;
}

int uffd_queue_wait(int queue)
{
	struct epoll_event event;

	return epoll_wait(queue, &event, 1, -1) < 0 ? -errno : 0;
}

/*
 * COPY, ZEROPAGE, MOVE and CONTINUE answer alike: done in full, or -1 and either the bytes done so far (then
 * the errno is EAGAIN and the cause comes with the next try) or -errno in the same field.
 */
static bool advance(int err, int64_t field, uint64_t *start, uint64_t *len)
{
	if (err != -EAGAIN || field <= 0)
		return false;
	*start += (uint64_t)field;
	*len -= (uint64_t)field;
	return *len != 0;
}

static int finish(int err, uint64_t left, size_t bytes, size_t *done)
{
	if (!err || left == 0) {
		err = 0;
		left = 0;
	}
	if (done)
		*done = bytes - left;
	return err;
}

int uffd_copy(int fd, void *dst, const void *src, size_t bytes, bool write_protected, size_t *done)
{
	struct uffdio_copy args = {
		.mode = write_protected ? UFFDIO_COPY_MODE_WP : 0,
	};
	uint64_t at = 0, left = bytes;
	int err;

	tsan_release(dst);
	do {
		args.copy = 0;
		args.dst = (uintptr_t)dst + at;
		args.src = (uintptr_t)src + at;
		args.len = left;
		err = call(fd, UFFDIO_COPY, &args);
	} while (advance(err, args.copy, &at, &left));
	return finish(err, left, bytes, done);
}

int uffd_zeropage(int fd, void *dst, size_t bytes, size_t *done)
{
	struct uffdio_zeropage args = {.range = {(uintptr_t)dst, bytes}};
	uint64_t at = (uintptr_t)dst, left = bytes;
	int err;

	tsan_release(dst);
	do {
		args.zeropage = 0;
		args.range.start = at;
		args.range.len = left;
		err = call(fd, UFFDIO_ZEROPAGE, &args);
	} while (advance(err, args.zeropage, &at, &left));
	return finish(err, left, bytes, done);
}

int uffd_wake(int fd, void *addr, size_t bytes)
{
	struct uffdio_range args = {(uintptr_t)addr, bytes};

	return call(fd, UFFDIO_WAKE, &args);
}

int uffd_writeprotect(int fd, void *addr, size_t bytes, bool protect)
{
	struct uffdio_writeprotect args = {
		.range = {(uintptr_t)addr, bytes},
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return call(fd, UFFDIO_WRITEPROTECT, &args);
}

int uffd_move(int fd, void *dst, void *src, size_t bytes, bool holes, size_t *done)
{
	struct move_args args = {.mode = holes ? MOVE_ALLOW_HOLES : 0};
	uint64_t at = 0, left = bytes;
	int err;

	do {
		args.dst = (uintptr_t)dst + at;
		args.src = (uintptr_t)src + at;
		args.len = left;
		args.move = 0;
		err = call(fd, IOCTL_MOVE, &args);
	} while (advance(err, args.move, &at, &left));
	return finish(err, left, bytes, done);
}

int uffd_continue(int fd, void *addr, size_t bytes, bool write_protected, size_t *done)
{
	struct uffdio_continue args = {.mode = write_protected ? CONTINUE_PROTECTED : 0};
	uint64_t at = (uintptr_t)addr, left = bytes;
	int err;

	do {
		args.range.start = at;
		args.range.len = left;
		args.mapped = 0;
		err = call(fd, UFFDIO_CONTINUE, &args);
	} while (advance(err, args.mapped, &at, &left));
	return finish(err, left, bytes, done);
}

int uffd_poison(int fd, void *addr, size_t bytes)
{
	struct poison_args args = {.start = (uintptr_t)addr, .len = bytes};

	return call(fd, IOCTL_POISON, &args);
}
