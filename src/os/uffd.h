/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * userfaultfd: every call that weir makes, with the meaning of each error.
 *
 * The numbers of the calls newer than Debian 12's headers are from the documented kernel ABI
 * (Documentation/admin-guide/mm/userfaultfd.rst, ioctl_userfaultfd(2)). uffd_probe tells which of them this
 * kernel has.
 *
 * All functions return 0 or -errno unless they say otherwise. They may be called from any thread that has the
 * descriptor in its table, and keep nothing between calls.
 */
#ifndef WEIR_OS_UFFD_H
#define WEIR_OS_UFFD_H

#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

/* Bits of the features word. */
enum uffd_feature {
	UFFD_HAS_WRITEPROTECT = 1 << 0,
	UFFD_HAS_EVENT_FORK = 1 << 1,
	UFFD_HAS_EVENT_REMAP = 1 << 2,
	UFFD_HAS_EVENT_REMOVE = 1 << 3,
	UFFD_HAS_MISSING_HUGETLB = 1 << 4,
	UFFD_HAS_MISSING_SHMEM = 1 << 5,
	UFFD_HAS_EVENT_UNMAP = 1 << 6,
	UFFD_HAS_SIGBUS = 1 << 7,
	UFFD_HAS_THREAD_ID = 1 << 8,
	UFFD_HAS_MINOR_HUGETLB = 1 << 9,
	UFFD_HAS_MINOR_SHMEM = 1 << 10,
	UFFD_HAS_EXACT_ADDRESS = 1 << 11,
	UFFD_HAS_WP_SHMEM = 1 << 12,
	UFFD_HAS_WP_UNPOPULATED = 1 << 13,
	UFFD_HAS_POISON = 1 << 14,
	UFFD_HAS_WP_ASYNC = 1 << 15,
	UFFD_HAS_MOVE = 1 << 16,
};

enum uffd_mode { UFFD_MISSING = 1, UFFD_WP = 2, UFFD_MINOR = 4 };

/* What a handler is told of one fault. */
struct uffd_fault {
	uintptr_t
		address; /* as the kernel gives it: page aligned unless EXACT_ADDRESS was asked for */
	int tid;	 /* of the thread that waits; 0 without UFFD_HAS_THREAD_ID */
	bool write;	 /* a write to a page that is not there */
	bool wp;	 /* a write to a page that is write-protected */
	bool minor;	 /* the page cache has it, the page table does not */
	/* Not 0: no fault, but the process has forked (UFFD_HAS_EVENT_FORK), and this is a descriptor for the child's
	 * memory, the caller's to close. Until it was read the kernel refused every call that changes pages (-EAGAIN). */
	int child;
};

/* The features of this kernel in *features. -EPERM: no permission (neither the system call nor
 * /dev/userfaultfd); -ENOSYS: this kernel was built without userfaultfd. */
int uffd_probe(uint64_t *features);
/* The same with what anybody may have: a userfaultfd for faults of user mode only (Linux 5.11). */
int uffd_probe_user(uint64_t *features);
/* What this process may do, and by which way. */
enum uffd_permission { UFFD_NOT, UFFD_USER_MODE, UFFD_BY_DEVICE, UFFD_BY_CALL };
enum uffd_permission uffd_permission(void);
/* Has this kernel PAGEMAP_SCAN (Linux 6.7)? */
bool uffd_can_scan(void);
/* Can a page of shared memory be mapped write-protected? No bit of the features says so. */
bool uffd_can_continue_protected(int fd);
/* What is wrong and what to do, for an error of uffd_probe, uffd_open or weir_open: "permission denied; set ...". */
const char *uffd_advice(int err);
/* A descriptor, close-on-exec, read by blocking reads, with exactly these features; or -errno as above, or
 * -EINVAL: a feature is missing. */
int uffd_open(uint64_t features) MUST_CHECK;
/* For faults of user mode only: for signal mode (UFFD_HAS_SIGBUS), in which nobody reads it. */
int uffd_open_user(uint64_t features) MUST_CHECK;
int uffd_close(int fd);
int uffd_register(int fd, void *addr, size_t bytes, unsigned modes);
int uffd_unregister(int fd, void *addr, size_t bytes);

/* Blocks for faults and forks; fills at most max. Returns how many (0 for another event), or -errno; -EINTR is an
 * everyday answer. */
int uffd_read(int fd, struct uffd_fault *faults, unsigned max);

/*
 * Other ways to wait, for the bench and the stress test that compare them; both want reads that do not block (-EAGAIN:
 * somebody else took the fault). A poll wakes every thread that waits; a queue one of those that wait in queues of their
 * own (epoll with EPOLLEXCLUSIVE).
 */
int uffd_nonblocking(int fd, bool on);
int uffd_poll(int fd);
/* A descriptor for uffd_queue_wait and uffd_close, or -errno. */
int uffd_queue_open(int fd) MUST_CHECK;
int uffd_queue_wait(int queue);

/*
 * Installs bytes at dst from src and wakes who waits there. *done (may be NULL) says how many bytes were
 * installed, also when an error stopped the call in the middle.
 *   -EEXIST  a page is there already
 *   -ENOENT, -ESRCH  the range or the process is going away
 *   -EAGAIN  a mapping change waits for its event to be read: go back and read, never retry in a loop
 *   -ENOMEM  the system has no memory
 */
int uffd_copy(int fd, void *dst, const void *src, size_t bytes, bool write_protected, size_t *done);
int uffd_zeropage(int fd, void *dst, size_t bytes, size_t *done);
int uffd_wake(int fd, void *addr, size_t bytes);
/* Protects or releases a range; releasing wakes who waits. Absent pages in it are passed over. */
int uffd_writeprotect(int fd, void *addr, size_t bytes, bool protect);
/* Later kernels. UFFDIO_MOVE: -EBUSY after a fork, for a pinned page, and while the kernel has one in
 * its hands, which passes; -EINVAL at a border of protection. */
int uffd_move(int fd, void *dst, void *src, size_t bytes, bool holes, size_t *done);
/* A page that its file in memory has and this mapping has not. write_protected: Linux 6.4, see uffd_can_continue_protected. */
int uffd_continue(int fd, void *addr, size_t bytes, bool write_protected, size_t *done);
/* Every later touch gets SIGBUS (EFAULT in a system call). -EEXIST: a page is there. -EINVAL on older kernels. */
int uffd_poison(int fd, void *addr, size_t bytes);

#endif
