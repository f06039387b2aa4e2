/* SPDX-License-Identifier: BSD-2-Clause */
/* The descriptors of an instance, and in which table they are: what differs between the modes. */
#include <errno.h>

#include "instance.h"
#include "os/file.h"
#include "os/thread.h"

static int thread_mode_open(struct weir *weir)
{
	const uint64_t wanted = UFFD_HAS_WRITEPROTECT | UFFD_HAS_THREAD_ID;
	const uint64_t shared = UFFD_HAS_MISSING_SHMEM | UFFD_HAS_MINOR_SHMEM;
	const uint64_t more = shared | UFFD_HAS_POISON | UFFD_HAS_WP_SHMEM;
	uint64_t has;
	int err = uffd_probe(&has);

	if (err)
		return err;
	if ((has & wanted) != wanted)
		return -ENOSYS;
	weir->vm.can_poison = has & UFFD_HAS_POISON;
	weir->vm.can_minor = (has & shared) == shared;
	has &= wanted | more | (weir->fork.asked ? UFFD_HAS_EVENT_FORK : 0u);
	weir->vm.uffd = uffd_open(has);
	/* To be told of forks takes CAP_SYS_PTRACE, whichever way the descriptor comes. */
	if (weir->vm.uffd == -EPERM)
		weir->vm.uffd = uffd_open(has &= ~(uint64_t)UFFD_HAS_EVENT_FORK);
	weir->fork.can = has & UFFD_HAS_EVENT_FORK;
	if (weir->vm.uffd < 0)
		return weir->vm.uffd;
	weir->vm.can_track = weir->vm.can_minor && has & UFFD_HAS_WP_SHMEM &&
			     uffd_can_continue_protected(weir->vm.uffd);
	return 0;
}

int modes_open_own(struct weir *weir)
{
	int keep[SHARED_MAX], err;

	for (unsigned i = 0; i < weir->shares; i++)
		keep[i] = weir->shared[i].fd;
	err = thread_own_table(keep, weir->shares);
	if (!err && weir->mode != WEIR_MODE_SIGNAL)
		err = thread_mode_open(weir);
	if (!err && store_there(weir->vm.store) && !weir->vm.store->late)
		err = store_open(weir->vm.store);
	if (!err && weir->trace)
		err = trace_open(weir, weir->trace);
	if (err)
		return err;
	if (weir->mode == WEIR_MODE_THREAD)
		mem_dropper_init(&weir->vm.dropper);
	if (weir->mode == WEIR_MODE_THREAD)
		weir->vm.self_mem = mem_self_open();
	thread_log_to_program(weir->vm.dropper.pidfd);
	return 0;
}

int modes_close_own(void *data)
{
	struct weir *weir = data;

	/* Nothing is begun any more. */
	store_relaxed(&weir->reclaim.stop, true);
	writeback_flush(&weir->reclaim);
	thread_log_to_program(-1);
	if (weir->vm.uffd >= 0)
		(void)uffd_close(weir->vm.uffd);
	if (weir->vm.signal_uffd >= 0)
		(void)uffd_close(weir->vm.signal_uffd);
	mem_dropper_close(&weir->vm.dropper);
	if (weir->vm.self_mem >= 0)
		mem_file_close(weir->vm.self_mem);
	trace_close(weir);
	fork_close(weir);
	store_close(weir->vm.store);
	if (weir->frames_fd >= 0)
		mem_file_close(weir->frames_fd);
	return 0;
}

/* Keeps them in rising order, as thread_own_table wants them. Returns the number that it has from now on. */
static int share(struct weir *weir, int fd)
{
	struct shared new = {.fd = thread_fd_high(fd)};
	unsigned i = weir->shares++;

	(void)file_identity(new.fd, &new.device, &new.inode);
	for (; i && weir->shared[i - 1].fd > new.fd; i--)
		weir->shared[i] = weir->shared[i - 1];
	weir->shared[i] = new;
	return new.fd;
}

static int share_fd(void *weir, int fd)
{
	return share(weir, fd);
}

int modes_open_frames(struct weir *weir, uint64_t bytes)
{
	const int fd = mem_file_open(bytes);

	if (fd < 0)
		return fd;
	weir->frames_fd = share(weir, fd);
	return 0;
}

/* What the program has closed, and perhaps opened as something else, is not ours to close. */
static void shared_close(struct weir *weir)
{
	for (unsigned i = 0; i < weir->shares; i++) {
		dev_t device;
		ino_t inode;

		if (!file_identity(weir->shared[i].fd, &device, &inode) &&
		    device == weir->shared[i].device && inode == weir->shared[i].inode)
			(void)uffd_close(weir->shared[i].fd);
	}
	weir->shares = 0;
}

void modes_hand_over(struct weir *weir)
{
	if (weir->mode == WEIR_MODE_THREAD)
		shared_close(weir);
}

int modes_open_signal(struct weir *weir)
{
	const uint64_t wanted = UFFD_HAS_WRITEPROTECT | UFFD_HAS_SIGBUS;
	uint64_t has;
	int fd, err = uffd_probe_user(&has);

	if (err)
		return err;
	if ((has & wanted) != wanted)
		return -ENOSYS;
	weir->vm.can_poison = has & UFFD_HAS_POISON;
	fd = uffd_open_user(wanted | (has & UFFD_HAS_POISON));
	if (fd < 0)
		return fd;
	weir->vm.signal_uffd = share(weir, fd);
	mem_dropper_init(&weir->vm.dropper);
	if (weir->vm.dropper.pidfd >= 0)
		weir->vm.dropper.pidfd = share(weir, weir->vm.dropper.pidfd);
	if (store_there(weir->vm.store)) {
		int err_store = store_open(weir->vm.store);

		/* A late one the background thread opens when it is needed, and reads it for others. */
		if (err_store && !weir->vm.store->late)
			return err_store;
		store_share(weir->vm.store, share_fd, weir);
	}
	return signal_start(&weir->signal, &weir->vm, &weir->reclaim, &weir->service.served_ns);
}

void modes_close_signal(struct weir *weir)
{
	signal_stop(&weir->signal);
	shared_close(weir);
}
