/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Folders on a disk for the tests of files: a fresh one, and one on a file system of a few MiB that can be filled.
 */
#ifndef WEIR_TESTS_DISK_H
#define WEIR_TESTS_DISK_H

#include "unit.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/vfs.h>

enum { DIR_TEXT = 256 };

static inline bool dir_in_memory(const char *dir)
{
	struct statfs fs;

	return statfs(dir, &fs) || fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
}

/* A new empty folder on a disk. False: there is none. dir_remove takes it away again. */
static inline bool dir_make(char dir[static DIR_TEXT])
{
	const char *given = getenv("WEIR_TEST_DIR"); // NOLINT(concurrency-mt-unsafe): a test
	const char *places[] = {given, "/var/tmp", "/tmp", "."};

	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		if (!places[i] || dir_in_memory(places[i]))
			continue;
		snprintf(dir, DIR_TEXT, "%s/weir-test-XXXXXX", places[i]);
		if (mkdtemp(dir))
			return true;
	}
	return false;
}

static inline void dir_remove(const char *dir)
{
	assert_int_equal(rmdir(dir), 0); /* fails if anything was left in it */
}

static inline unsigned dir_entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned count = 0;

	if (!d) {
		fail_msg("%s: no folder", dir);
		return 0;
	}
	while (readdir(d)) // NOLINT(concurrency-mt-unsafe): a test
		count++;
	closedir(d);
	return count - 2;
}

/* Ends this child as a test that cannot run here. */
_Noreturn static inline void child_cannot(const char *why)
{
	dprintf(STDERR_FILENO, "%s", why);
	_exit(EXIT_SKIP);
}

/* For children: a mount table of their own, whose mounts are gone with the child. */
static inline void child_own_mounts(void)
{
	if (geteuid() != 0)
		child_cannot("only root may mount");
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		child_cannot("no mount table of its own to be had");
}

/* For children: mounts a new ext4 of 8 MiB over dir. It lies in a file in dir that is unlinked already. */
static inline void child_mount_small(const char *dir)
{
	char text[DIR_TEXT + 512];

	child_own_mounts();
	snprintf(text, sizeof(text),
		 "exec >/dev/null 2>&1; PATH=$PATH:/usr/sbin:/sbin; cd %s && truncate -s 8M image "
		 "&& "
		 "mkfs.ext4 -q -F -m 0 -O ^has_journal image && loop=$(losetup -f --show image); "
		 "rm -f image; [ \"$loop\" ] || exit 1; mount -t ext4 $loop $PWD; status=$?; "
		 "losetup -d $loop; exit $status",
		 dir);
	/* A mount keeps the device until it goes; -d only says: then free it. */
	if (system(text)) // NOLINT(bugprone-command-processor,concurrency-mt-unsafe): a test
		child_cannot("no small ext4 on a loop device to be had");
}

#endif
