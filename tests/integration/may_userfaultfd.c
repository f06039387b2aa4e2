/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ends with 0 if this process may use userfaultfd for faults in system calls too (what `weir run` needs), by either
 * of the two ways in; else with 77. Asks the kernel, not weir, so that a refusal by weir is never taken for one by it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	const unsigned long new_userfaultfd =
		_IO(0xAA, 0); /* USERFAULTFD_IOC_NEW: newer than some headers */
	long fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	int device;

	if (fd >= 0)
		return 0;
	device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (device >= 0 && ioctl(device, new_userfaultfd, O_CLOEXEC) >= 0)
		return 0;
	fprintf(stderr,
		"may_userfaultfd: neither the system call nor /dev/userfaultfd is permitted\n");
	return 77;
}
