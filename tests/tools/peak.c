/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * peak: runs a program and measures, from outside, the most memory that it held.
 *
 *     peak [--out FILE] [--cgroup] [--] CMD ARGS...
 *
 * Nothing of the program's own account is trusted: every 5 ms the tree of processes below CMD is walked through
 * /proc, and with --cgroup it lives in a memory cgroup of its own, whose figures are a second witness. One line of
 * JSON goes to FILE (else to standard error); the exit status is CMD's, or 128 + n if signal n ended it.
 *
 *   peak_rss_bytes          the largest resident set of any one process: the kernel's high-water marks (VmHWM, and
 *                           ru_maxrss, which also knows processes that lived between two samples)
 *   peak_memfd_bytes        the blocks of all memfds that are open in the tree, each counted once. Every thread's
 *                           descriptors are looked at where they are not the process's. What is mapped and open
 *                           counts in both figures: their sum errs upwards.
 *   peak_tree_rss_bytes     the sum of all resident sets in one sample; pages shared after a fork count in each
 *   cgroup_anon_peak_bytes  the cgroup's anonymous memory, shmem (memfds and tmpfs) and swap, in one sample
 *   cgroup_peak_bytes       all that was charged to the cgroup, page cache included, as the kernel kept it
 *
 * A signal that a person types reaches CMD by itself; one that is sent to peak alone is passed on. Either way peak
 * goes on until CMD ends, so that the cgroup is removed and the figures are written.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "peak.h"

enum {
	EXIT_CANNOT = 125, /* peak itself failed, as in env(1) */
	EXIT_NOT_RUNNABLE = 126,
	EXIT_NOT_FOUND = 127,
};

struct options {
	const char *out;
	bool cgroup;
	char **argv;
};

/* Lists of one sample; they grow to what the tree needs, and are used again. */
struct pids {
	pid_t *pid;
	size_t count, room;
};

struct file_id {
	dev_t dev;
	ino_t ino;
};

struct sample {
	struct pids pids;
	struct file_id *memfd;
	size_t memfds, memfd_room;
	uint64_t memfd_bytes, tree_rss, largest_rss;
};

static void *grown(void *list, size_t count, size_t *room, size_t size)
{
	void *more;

	if (count < *room)
		return list;
	*room = *room ? 2 * *room : 64;
	more = realloc(list, *room * size);
	if (!more)
		err(EXIT_CANNOT, "a list of %zu entries", *room);
	return more;
}

/* NOLINTBEGIN(concurrency-mt-unsafe): one thread */

/* ---- small files ---- */

ssize_t read_small(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = 0;

	if (fd < 0)
		return -1;
	while (len < size - 1 && (n = read(fd, text + len, size - 1 - len)) > 0)
		len += (size_t)n;
	close(fd);
	text[len] = 0;
	return n < 0 ? -1 : (ssize_t)len;
}

uint64_t value_of(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line && *line;) {
		if (strncmp(line, key, len) == 0 && strchr(" :\t", line[len]))
			return strtoull(line + len + strspn(line + len, ": \t"), NULL, 10);
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	return 0;
}

/* ---- the tree of processes ---- */

static void add_children(struct sample *sample, pid_t pid, pid_t tid)
{
	char path[64], text[65536], *save = NULL;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)tid);
	if (read_small(path, text, sizeof(text)) <= 0)
		return;
	for (char *child = strtok_r(text, " ", &save); child; child = strtok_r(NULL, " ", &save)) {
		struct pids *pids = &sample->pids;

		pids->pid = grown(pids->pid, pids->count, &pids->room, sizeof(*pids->pid));
		pids->pid[pids->count++] = (pid_t)strtol(child, NULL, 10);
	}
}

static void add_memfd(struct sample *sample, const struct stat *st)
{
	for (size_t i = 0; i < sample->memfds; i++) {
		if (sample->memfd[i].ino == st->st_ino && sample->memfd[i].dev == st->st_dev)
			return;
	}
	sample->memfd =
		grown(sample->memfd, sample->memfds, &sample->memfd_room, sizeof(*sample->memfd));
	sample->memfd[sample->memfds++] = (struct file_id){st->st_dev, st->st_ino};
	sample->memfd_bytes += (uint64_t)st->st_blocks * 512;
}

static void add_memfds(struct sample *sample, pid_t pid, pid_t tid)
{
	static const char memfd[] = "/memfd:";
	char path[64], target[sizeof(memfd)];
	struct dirent *entry;
	struct stat st;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/fd", (int)pid, (int)tid);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		const int fd = dirfd(dir);
		ssize_t n = fd < 0 ? -1 : readlinkat(fd, entry->d_name, target, sizeof(target) - 1);

		if (n == (ssize_t)sizeof(memfd) - 1 && memcmp(target, memfd, (size_t)n) == 0 &&
		    fstatat(fd, entry->d_name, &st, 0) == 0)
			add_memfd(sample, &st);
	}
	closedir(dir);
}

/* Threads may have a descriptor table of their own; most share the process's, and are not looked at twice. */
static bool own_table(pid_t pid, pid_t tid)
{
	return pid != tid && syscall(SYS_kcmp, pid, tid, KCMP_FILES, 0, 0) != 0;
}

static void sample_process(struct sample *sample, pid_t pid)
{
	char path[64], text[8192];
	struct dirent *entry;
	uint64_t rss;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (read_small(path, text, sizeof(text)) < 0)
		return;
	rss = value_of(text, "VmRSS") * 1024;
	sample->tree_rss += rss;
	raise_to(&sample->largest_rss, rss);
	raise_to(&sample->largest_rss, value_of(text, "VmHWM") * 1024);

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (tid <= 0)
			continue;
		add_children(sample, pid, tid);
		if (pid == tid || own_table(pid, tid))
			add_memfds(sample, pid, tid);
	}
	closedir(dir);
}

/* peak is the subreaper, so orphans of the tree turn up among its own children. */
static void sample_tree(struct sample *sample, struct peaks *peaks)
{
	sample->pids.count = sample->memfds = 0;
	sample->memfd_bytes = sample->tree_rss = sample->largest_rss = 0;
	add_children(sample, getpid(), getpid());
	for (size_t i = 0; i < sample->pids.count; i++)
		sample_process(sample, sample->pids.pid[i]);
	raise_to(&peaks->rss, sample->largest_rss);
	raise_to(&peaks->memfd, sample->memfd_bytes);
	raise_to(&peaks->tree_rss, sample->tree_rss);
}

/* ---- running it ---- */

/* The child waits for a byte on go (there may be a cgroup for it to enter), then becomes CMD; the error of an exec
 * that failed comes back through failed. */
static pid_t start(char **argv, const sigset_t *mask, bool chld_ignored, int *go, int *failed)
{
	int go_pipe[2], failed_pipe[2], failure;
	char byte;
	pid_t child;

	if (pipe2(go_pipe, O_CLOEXEC) < 0 || pipe2(failed_pipe, O_CLOEXEC) < 0)
		err(EXIT_CANNOT, "pipe");
	child = fork();
	if (child < 0)
		err(EXIT_CANNOT, "fork");
	if (child) {
		close(go_pipe[0]);
		close(failed_pipe[1]);
		*go = go_pipe[1];
		*failed = failed_pipe[0];
		return child;
	}
	close(go_pipe[1]);
	if (read(go_pipe[0], &byte, 1) != 1)
		_exit(EXIT_CANNOT);
	if (chld_ignored)
		signal(SIGCHLD, SIG_IGN);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(argv[0], argv);
	failure = errno;
	if (write(failed_pipe[1], &failure, sizeof(failure)) < 0)
		_exit(EXIT_CANNOT);
	_exit(failure == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE);
}

/* Reaps whatever ended; true once it was CMD. */
static bool reap(pid_t child, int *status, struct peaks *peaks)
{
	struct rusage usage;
	bool ended = false;
	pid_t pid;
	int any;

	while ((pid = wait4(-1, &any, WNOHANG, &usage)) > 0) {
		raise_to(&peaks->rss, (uint64_t)usage.ru_maxrss * 1024);
		if (pid == child) {
			*status = any;
			ended = true;
		}
	}
	return ended;
}

static int watch(pid_t child, const sigset_t *signals, const struct cgroup *cgroup,
		 struct peaks *peaks)
{
	const struct timespec pause = {0, SAMPLE_NS};
	struct sample sample = {0};
	siginfo_t info;
	int status = 0;

	do {
		sample_tree(&sample, peaks);
		cgroup_sample(cgroup, peaks);
		if (sigtimedwait(signals, &info, &pause) > 0 && info.si_signo != SIGCHLD &&
		    info.si_code <= 0)
			kill(child, info.si_signo);
	} while (!reap(child, &status, peaks));
	free(sample.pids.pid);
	free(sample.memfd);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void print_or_null(FILE *out, const char *key, bool known, uint64_t value)
{
	if (known)
		fprintf(out, ",\"%s\":%" PRIu64, key, value);
	else
		fprintf(out, ",\"%s\":null", key);
}

static void report(FILE *out, double wall_s, const struct peaks *peaks, bool cgroup, int code)
{
	fprintf(out, "{\"wall_s\":%.3f", wall_s);
	print_or_null(out, "peak_rss_bytes", true, peaks->rss);
	print_or_null(out, "peak_memfd_bytes", true, peaks->memfd);
	print_or_null(out, "peak_tree_rss_bytes", true, peaks->tree_rss);
	print_or_null(out, "cgroup_anon_peak_bytes", cgroup, peaks->cgroup_anon);
	print_or_null(out, "cgroup_peak_bytes", cgroup, peaks->cgroup_all);
	fprintf(out, ",\"exit\":%d}\n", code);
}

static void usage(FILE *to)
{
	fputs("usage: peak [--out FILE] [--cgroup] [--] CMD ARGS...\n"
	      "Runs CMD and measures from outside the most memory that it held, as one line of "
	      "JSON.\n"
	      "  --out FILE  write it to FILE, not to standard error\n"
	      "  --cgroup    measure in a memory cgroup as well, where that is permitted\n",
	      to);
}

static void parse(char **argv, struct options *options)
{
	for (argv++; *argv && (*argv)[0] == '-'; argv++) {
		if (strcmp(*argv, "--") == 0) {
			argv++;
			break;
		}
		if (strcmp(*argv, "--cgroup") == 0) {
			options->cgroup = true;
		} else if (strcmp(*argv, "--out") == 0 && argv[1]) {
			options->out = *++argv;
		} else if (strcmp(*argv, "--help") == 0) {
			usage(stdout);
			exit(0);
		} else {
			warnx("%s: unknown option, or one without its value", *argv);
			usage(stderr);
			exit(EXIT_CANNOT);
		}
	}
	if (!*argv) {
		warnx("no program given");
		usage(stderr);
		exit(EXIT_CANNOT);
	}
	options->argv = argv;
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	static struct cgroup cgroup;
	struct options options = {0};
	struct peaks peaks = {0};
	sigset_t signals, mask;
	FILE *out = stderr;
	int go, failed, failure = 0, code;
	bool chld_ignored, failed_exec;
	double started, wall_s;
	pid_t child;

	if (argc < 2) {
		usage(stderr);
		return EXIT_CANNOT;
	}
	parse(argv, &options);
	if (options.out)
		out = fopen(options.out, "we");
	if (!out)
		err(EXIT_CANNOT, "cannot write %s", options.out);

	sigemptyset(&signals);
	for (const int *s = (int[]){SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, 0}; *s; s++)
		sigaddset(&signals, *s);
	sigprocmask(SIG_BLOCK, &signals, &mask);
	chld_ignored = signal(SIGCHLD, SIG_DFL) == SIG_IGN;
	prctl(PR_SET_CHILD_SUBREAPER, 1);

	child = start(options.argv, &mask, chld_ignored, &go, &failed);
	if (options.cgroup)
		cgroup_make(&cgroup, child);
	started = seconds();
	if (write(go, "", 1) != 1)
		err(EXIT_CANNOT, "cannot start %s", options.argv[0]);
	close(go);
	/* Until exec has come through, or failed: what is measured is CMD. */
	failed_exec = read(failed, &failure, sizeof(failure)) == (ssize_t)sizeof(failure);
	close(failed);
	code = watch(child, &signals, &cgroup, &peaks);
	wall_s = seconds() - started;
	if (failed_exec) {
		errno = failure;
		warn("%s", options.argv[0]);
	}
	cgroup_remove(&cgroup, &peaks);
	report(out, wall_s, &peaks, cgroup.version != 0, code);
	if (fflush(out) || ferror(out))
		err(EXIT_CANNOT, "%s", options.out ? options.out : "standard error");
	return code;
}
/* NOLINTEND(concurrency-mt-unsafe) */
