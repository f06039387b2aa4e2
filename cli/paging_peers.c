/* SPDX-License-Identifier: BSD-2-Clause */
#include "paging_peers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

#define CLUSTER "/proc/sys/vm/page-cluster"
#define V2_ROOT "/sys/fs/cgroup"
#define V1_ROOT "/sys/fs/cgroup/memory"
enum { GROUP_MAX = PATH_MAX / 2 };

/* What is up, in memory that the keeper shares: written before the act, so that there is never more up than is said. */
static struct state {
	char group[GROUPS][GROUP_MAX]; /* "": none */
	char swap[PATH_MAX];	       /* device or file; "": none */
	int zram;		       /* its number; -1: none */
	bool file;		       /* swap is a file */
	char cluster[16];	       /* page-cluster as it was; "": untouched */
	bool subtree; /* v2: the memory controller was switched on for the root's children */
} *state;
static pid_t keeper;
static int lifeline = -1;

/* --- small files of the kernel --- */

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int get(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, room - 1);
	close(fd);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	return 0;
}

static void pause_ms(long ms)
{
	const struct timespec t = {.tv_nsec = ms * 1000000};

	(void)nanosleep(&t, NULL);
}

/* --- down --- */

/* Kills who is in the group. False: nobody is. */
static bool group_kill(const char *group)
{
	char path[PATH_MAX], text[4096];
	bool any = false;

	snprintf(path, sizeof(path), "%s/cgroup.procs", group);
	if (get(path, text, sizeof(text)))
		return false;
	for (const char *at = text; *at;) {
		pid_t pid = 0;

		while (*at >= '0' && *at <= '9')
			pid = pid * 10 + (*at++ - '0');
		while (*at && (*at < '0' || *at > '9'))
			at++;
		if (pid > 1 && pid != getpid()) {
			(void)kill(pid, SIGKILL);
			any = true;
		}
	}
	return any;
}

static void group_down(char *group)
{
	enum { TRIES = 2000 }; /* of 5 ms */

	if (!*group)
		return;
	for (unsigned i = 0; i < TRIES && group_kill(group); i++)
		pause_ms(5);
	/* Memory of the dead goes a moment later. */
	for (unsigned i = 0; i < TRIES && rmdir(group) && errno == EBUSY; i++)
		pause_ms(5);
	*group = '\0';
}

static void zram_down(void)
{
	char path[PATH_MAX];

	if (state->zram < 0)
		return;
	snprintf(path, sizeof(path), "/sys/block/zram%d/reset", state->zram);
	for (unsigned i = 0; i < 200 && put(path, "1") == -EBUSY; i++)
		pause_ms(5);
	snprintf(path, sizeof(path), "%d", state->zram);
	for (unsigned i = 0; i < 200 && put("/sys/class/zram-control/hot_remove", path) == -EBUSY;
	     i++)
		pause_ms(5);
	state->zram = -1;
}

void peers_swap_off(void)
{
	if (*state->swap) {
		(void)swapoff(state->swap);
		if (state->file)
			(void)unlink(state->swap);
		*state->swap = '\0';
	}
	zram_down();
	if (*state->cluster)
		(void)put(CLUSTER, state->cluster);
	*state->cluster = '\0';
}

static void all_down(void)
{
	/* First those who have pages in the swap. */
	for (unsigned i = 0; i < GROUPS; i++)
		group_down(state->group[i]);
	peers_swap_off();
	if (state->subtree)
		(void)put(V2_ROOT "/cgroup.subtree_control", "-memory");
	state->subtree = false;
}

/* --- the keeper --- */

static void keep(int fd)
{
	char byte;
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	(void)setsid();
	(void)prctl(PR_SET_NAME, "bench-keeper");
	/* Whoever reads what the bench prints must not wait for us. */
	for (int i = 0; i < 3; i++)
		close(i);
	while (read(fd, &byte, 1) < 0 && errno == EINTR)
		;
	all_down();
	_exit(0);
}

int peers_open(void)
{
	int ends[2];

	state = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (state == MAP_FAILED)
		return -errno;
	state->zram = -1;
	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	keeper = fork();
	if (keeper < 0) {
		close(ends[0]);
		close(ends[1]);
		return -errno;
	}
	if (!keeper) {
		close(ends[1]);
		keep(ends[0]);
	}
	close(ends[0]);
	lifeline = ends[1];
	return 0;
}

void peers_close(void)
{
	if (lifeline < 0)
		return;
	close(lifeline);
	lifeline = -1;
	while (waitpid(keeper, NULL, 0) < 0 && errno == EINTR)
		;
}

void peers_child(void)
{
	if (lifeline >= 0)
		close(lifeline);
	lifeline = -1;
}

/* --- groups --- */

/* Is the memory controller in v2, and not given to v1? */
static bool version_2(void)
{
	char text[512];

	return get(V2_ROOT "/cgroup.controllers", text, sizeof(text)) == 0 &&
	       strstr(text, "memory");
}

/* The folder of our own group of v1. */
static int own_group(char *path, size_t room)
{
	static char text[8192];
	int err = get("/proc/self/cgroup", text, sizeof(text));

	if (err)
		return err;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char *at = strstr(line, ":memory:");

		if (!at)
			continue;
		at += strlen(":memory:");
		snprintf(path, room, "%s%s", V1_ROOT, strcmp(at, "/") ? at : "");
		/* In a container the name may be that of outside. */
		if (access(path, W_OK))
			snprintf(path, room, "%s", V1_ROOT);
		return access(path, W_OK) ? -errno : 0;
	}
	return -ENOENT;
}

const char *peers_group_why(void)
{
	static char path[GROUP_MAX - 64];

	if (geteuid())
		return "not root, so no memory cgroup and no swap for the peer";
	if (!version_2() && own_group(path, sizeof(path)))
		return "no memory cgroup, neither in /sys/fs/cgroup (v2) nor in "
		       "/sys/fs/cgroup/memory (v1)";
	return NULL;
}

static int subtree_on(void)
{
	char text[512];
	int err = get(V2_ROOT "/cgroup.subtree_control", text, sizeof(text));

	if (err || strstr(text, "memory"))
		return err;
	state->subtree = true;
	return put(V2_ROOT "/cgroup.subtree_control", "+memory");
}

int peers_group_make(enum peer_group group, uint64_t bytes)
{
	static char base[GROUP_MAX - 64];
	const bool v2 = version_2();
	char path[PATH_MAX], text[32];
	int err;

	if (v2) {
		snprintf(base, sizeof(base), "%s", V2_ROOT);
		err = subtree_on();
	} else {
		err = own_group(base, sizeof(base));
	}
	if (err)
		return err;
	snprintf(state->group[group], GROUP_MAX, "%s/weir-bench-%d-%d", base, getpid(), group);
	if (mkdir(state->group[group], 0755) && errno != EEXIST)
		err = -errno;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	snprintf(path, sizeof(path), "%s/%s", state->group[group],
		 v2 ? "memory.max" : "memory.limit_in_bytes");
	if (!err)
		err = put(path, text);
	if (err)
		peers_group_remove(group);
	return err;
}

void peers_group_remove(enum peer_group group)
{
	if (state)
		group_down(state->group[group]);
}

int peers_group_enter(enum peer_group group)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/cgroup.procs", state->group[group]);
	return put(path, "0");
}

void peers_group_poke(enum peer_group group)
{
	char path[PATH_MAX], text[8192];

	if (!*state->group[group])
		return;
	snprintf(path, sizeof(path), "%s/memory.stat", state->group[group]);
	(void)get(path, text, sizeof(text));
}

/* --- swap --- */

/* The first page of swap space, as mkswap(8) writes it: version, last page, no bad ones, and the mark at its end. */
static int swap_header(const char *path, uint64_t bytes)
{
	static _Alignas(4096) char page[PAGE_SIZE];
	static const char mark[] = {'S', 'W', 'A', 'P', 'S', 'P', 'A', 'C', 'E', '2'};
	const uint32_t words[] = {1, (uint32_t)(bytes >> PAGE_SHIFT) - 1, 0};
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	memcpy(page + 1024, words, sizeof(words));
	memcpy(page + PAGE_SIZE - sizeof(mark), mark, sizeof(mark));
	if (pwrite(fd, page, PAGE_SIZE, 0) != (ssize_t)PAGE_SIZE || fsync(fd))
		err = errno ? -errno : -EIO;
	close(fd);
	return err;
}

static int swap_on(uint64_t bytes)
{
	int err = swap_header(state->swap, bytes);

	if (!err && swapon(state->swap, SWAP_FLAG_PREFER | 100))
		err = -errno;
	return err;
}

const char *peers_zram_why(void)
{
	const char *why = peers_group_why();

	if (why)
		return why;
	if (access("/sys/class/zram-control/hot_add", R_OK))
		return "no zram in this kernel (/sys/class/zram-control; modprobe zram?)";
	return NULL;
}

int peers_zram_on(uint64_t bytes)
{
	char path[64], text[32];
	int err = get("/sys/class/zram-control/hot_add", text, sizeof(text));

	if (err)
		return err;
	state->zram = (int)strtol(text, NULL, 10);
	snprintf(path, sizeof(path), "/sys/block/zram%d/comp_algorithm", state->zram);
	err = put(path, "lz4");
	snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", state->zram);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	if (!err)
		err = put(path, text);
	snprintf(state->swap, sizeof(state->swap), "/dev/zram%d", state->zram);
	state->file = false;
	if (!err)
		err = swap_on(bytes);
	if (err)
		peers_swap_off();
	return err;
}

uint64_t peers_zram_used(void)
{
	char path[64], text[512], *at = text;
	uint64_t used = 0;

	snprintf(path, sizeof(path), "/sys/block/zram%d/mm_stat", state->zram);
	if (state->zram < 0 || get(path, text, sizeof(text)))
		return 0;
	/* orig_data_size compr_data_size mem_used_total ... */
	for (unsigned i = 0; i < 3; i++)
		used = strtoull(at, &at, 10);
	return used;
}

int peers_file_on(const char *dir, uint64_t bytes)
{
	int fd, err;

	snprintf(state->swap, sizeof(state->swap), "%s/weir-bench-swap.%d", dir, getpid());
	state->file = true;
	fd = open(state->swap, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	err = fd < 0 ? -errno : -posix_fallocate(fd, 0, (off_t)bytes);
	if (fd >= 0)
		close(fd);
	if (!err)
		err = swap_on(bytes);
	if (err)
		peers_swap_off();
	return err;
}

void peers_cluster_set(int value)
{
	char text[16];

	if (!*state->cluster && get(CLUSTER, state->cluster, sizeof(state->cluster)))
		return;
	snprintf(text, sizeof(text), "%d", value);
	(void)put(CLUSTER, text);
}
