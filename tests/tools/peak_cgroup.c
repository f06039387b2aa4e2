/* SPDX-License-Identifier: BSD-2-Clause */
/* The memory cgroup in which peak lets a program live, of version 1 or 2. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "peak.h"

enum {
	REMOVE_TRIES = 400
}; /* of 5 ms: a cgroup is busy until the last process has gone for good */

/* NOLINTBEGIN(concurrency-mt-unsafe): one thread */

static bool write_small(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t len = strlen(text);
	bool written;
	int saved;

	if (fd < 0)
		return false;
	written = write(fd, text, len) == (ssize_t)len;
	saved = errno;
	close(fd);
	errno = saved;
	return written;
}

static uint64_t number_in(const char *dir, const char *name)
{
	char path[PATH_MAX], text[64];

	snprintf(path, sizeof(path), "%.4000s/%.80s", dir, name);
	return read_small(path, text, sizeof(text)) < 0 ? 0 : strtoull(text, NULL, 10);
}

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at += len) {
		bool starts = at == list || strchr(", \n", at[-1]);

		if (starts && strchr(", \n", at[len]))
			return true;
	}
	return false;
}

/* One line of mountinfo: "id parent dev root mountpoint options ... - type source superoptions". */
static int memory_mount(char *line, char **root, char **mount)
{
	char *dash = strstr(line, " - "), *save = NULL, *type, *field[5] = {NULL};
	char path[PATH_MAX], controllers[1024];

	if (!dash)
		return 0;
	type = dash + 3;
	*dash = 0;
	for (int i = 0; i < 5; i++) {
		field[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!field[i])
			return 0;
	}
	*root = field[3];
	*mount = field[4];
	if (strncmp(type, "cgroup ", 7) == 0 && has_word(type + 7, "memory"))
		return 1;
	if (strncmp(type, "cgroup2 ", 8) != 0)
		return 0;
	snprintf(path, sizeof(path), "%.4000s/cgroup.controllers", *mount);
	if (read_small(path, controllers, sizeof(controllers)) < 0)
		return 0;
	return has_word(controllers, "memory") ? 2 : 0;
}

/* The path of this process's group in /proc/self/cgroup: "4:memory:/path", or "0::/path" for version 2. */
static bool own_group(int version, char *path, size_t size)
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	char *line = NULL;
	size_t room = 0;
	bool found = false;

	if (!file)
		return false;
	while (!found && getline(&line, &room, file) > 0) {
		char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;

		if (!group)
			continue;
		*group++ = 0;
		group[strcspn(group, "\n")] = 0;
		found = version == 2 ? !names[1] : has_word(names + 1, "memory");
		if (found)
			snprintf(path, size, "%s", group);
	}
	free(line);
	fclose(file);
	return found;
}

/* Where this process is in the hierarchy that has the memory controller. */
static bool cgroup_find(struct cgroup *cgroup)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *root = NULL, *mount = NULL, group[PATH_MAX] = "";
	size_t room = 0;

	if (!file)
		return false;
	while (!cgroup->version && getline(&line, &room, file) > 0) {
		line[strcspn(line, "\n")] = 0;
		cgroup->version = memory_mount(line, &root, &mount);
	}
	if (root && mount && own_group(cgroup->version, group, sizeof(group))) {
		const char *below = group;
		size_t root_len = strlen(root);

		if (root_len > 1 && strncmp(group, root, root_len) == 0)
			below += root_len;
		cgroup->mount_len = strlen(mount);
		snprintf(cgroup->above, sizeof(cgroup->above), "%.2000s%.2000s", mount,
			 strcmp(below, "/") == 0 ? "" : below);
		if (access(cgroup->above, F_OK) < 0)
			cgroup->above[cgroup->mount_len] = 0;
	} else {
		cgroup->version = 0;
	}
	free(line);
	fclose(file);
	return cgroup->version != 0;
}

static bool cgroup_make_here(struct cgroup *cgroup, pid_t child)
{
	char file[PATH_MAX], pid[32];
	const char *usage = cgroup->version == 1 ? "memory.usage_in_bytes" : "memory.current";
	int saved;

	snprintf(cgroup->path, sizeof(cgroup->path), "%.4000s/peak.%d", cgroup->above,
		 (int)getpid());
	if (mkdir(cgroup->path, 0755) < 0)
		return false;
	snprintf(file, sizeof(file), "%.4000s/%s", cgroup->path, usage);
	snprintf(pid, sizeof(pid), "%d", (int)child);
	if (access(file, R_OK) == 0) {
		snprintf(file, sizeof(file), "%.4000s/cgroup.procs", cgroup->path);
		if (write_small(file, pid))
			return true;
	}
	saved = errno;
	rmdir(cgroup->path);
	errno = saved;
	return false;
}

/* Version 2 has no memory figures below a group that holds processes: so, upwards until one admits the child. */
void cgroup_make(struct cgroup *cgroup, pid_t child)
{
	if (!cgroup_find(cgroup)) {
		warnx("no memory cgroup hierarchy is mounted: measuring without one");
		return;
	}
	while (!cgroup_make_here(cgroup, child)) {
		char *slash = strrchr(cgroup->above, '/');

		if (strlen(cgroup->above) <= cgroup->mount_len || !slash) {
			warn("measuring without a memory cgroup: cannot make one in %s",
			     cgroup->above);
			cgroup->version = 0;
			return;
		}
		*slash = 0;
	}
}

void cgroup_sample(const struct cgroup *cgroup, struct peaks *peaks)
{
	char path[PATH_MAX], text[8192];

	if (!cgroup->version)
		return;
	snprintf(path, sizeof(path), "%.4000s/memory.stat", cgroup->path);
	if (read_small(path, text, sizeof(text)) < 0)
		return;
	if (cgroup->version == 1) {
		raise_to(&peaks->cgroup_anon, value_of(text, "total_rss") +
						      value_of(text, "total_shmem") +
						      value_of(text, "total_swap"));
		return;
	}
	raise_to(&peaks->cgroup_anon, value_of(text, "anon") + value_of(text, "shmem") +
					      number_in(cgroup->path, "memory.swap.current"));
	raise_to(&peaks->cgroup_all, number_in(cgroup->path, "memory.current"));
}

/* Processes that outlive CMD go back to where they would have been. */
static void cgroup_empty(const struct cgroup *cgroup)
{
	char path[PATH_MAX], above[PATH_MAX], text[65536], *save = NULL;

	snprintf(path, sizeof(path), "%.4000s/cgroup.procs", cgroup->path);
	snprintf(above, sizeof(above), "%.4000s/cgroup.procs", cgroup->above);
	if (read_small(path, text, sizeof(text)) <= 0)
		return;
	for (char *pid = strtok_r(text, "\n", &save); pid; pid = strtok_r(NULL, "\n", &save))
		write_small(above, pid);
}

void cgroup_remove(struct cgroup *cgroup, struct peaks *peaks)
{
	const struct timespec pause = {0, SAMPLE_NS};

	if (!cgroup->version)
		return;
	raise_to(&peaks->cgroup_all,
		 number_in(cgroup->path,
			   cgroup->version == 1 ? "memory.max_usage_in_bytes" : "memory.peak"));
	cgroup_empty(cgroup);
	for (int i = 0; i < REMOVE_TRIES; i++) {
		if (rmdir(cgroup->path) == 0 || errno != EBUSY)
			return;
		nanosleep(&pause, NULL);
	}
	warnx("%s is still busy; remove it with rmdir", cgroup->path);
}

/* NOLINTEND(concurrency-mt-unsafe) */
