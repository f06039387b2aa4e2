/* SPDX-License-Identifier: BSD-2-Clause */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "os/socket.h"

/* --- one of them --- */

static void process_close(struct process *process)
{
	if (process->fd >= 0)
		socket_close(process->fd);
	if (process->segment_fd >= 0)
		close(process->segment_fd);
	free(process->seen);
	process->fd = process->segment_fd = -1;
	process->seen = NULL;
}

/* As the kernel names it, and nothing that a terminal takes for a command. */
static void program_name(struct process *process)
{
	char path[64];
	ssize_t got = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)process->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		got = read(fd, process->program, sizeof(process->program) - 1);
		close(fd);
	}
	if (got <= 0)
		got = snprintf(process->program, sizeof(process->program), "?\n");
	process->program[got - 1] = '\0';
	for (char *c = process->program; *c; c++) {
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	}
}

/* A descriptor that another process has sent: only a file in memory that cannot become shorter is read; a read of anything else
 * might wait for ever. */
static bool is_segment(int fd)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_SHRINK) && !fstat(fd, &st) && S_ISREG(st.st_mode) &&
	       st.st_size >= (off_t)sizeof(struct weir_segment) && st.st_size <= SEGMENT_MOST;
}

static void answer_take(struct process *process)
{
	char text[WEIR_COMMAND_BYTES + 1];
	struct reply reply;
	int passed;
	ssize_t n = socket_receive(process->fd, text, WEIR_COMMAND_BYTES, &passed);

	if (n == -EAGAIN || n == -EINTR)
		return;
	process->state = PROCESS_GONE;
	if (n > 0 && !reply_parse(text, (size_t)n, &reply)) {
		if (reply.result == -EBUSY)
			process->state = PROCESS_BUSY;
		else if (reply.result == -EPERM)
			process->state = PROCESS_FOREIGN;
		else if (!reply.result && passed >= 0 && is_segment(passed))
			process->state = PROCESS_READY;
	}
	if (process->state == PROCESS_READY) {
		process->segment_fd = passed;
		return;
	}
	if (passed >= 0)
		close(passed);
}

/* Once; -EAGAIN: it is being written. */
static int segment_once(const struct process *process, char *bytes, struct seen *seen)
{
	const off_t at = offsetof(struct weir_segment, sequence);
	uint64_t before, after;
	ssize_t n;
	int err;

	if (pread(process->segment_fd, &before, sizeof(before), at) != sizeof(before))
		return -EINVAL;
	/* Each pairs with the fence and the release of the writer. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	n = pread(process->segment_fd, bytes, SEGMENT_MOST, 0);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (n < 0 || pread(process->segment_fd, &after, sizeof(after), at) != sizeof(after))
		return -EINVAL;
	err = segment_parse(bytes, (size_t)n, seen);
	return err ? err : before != after || before != seen->sequence ? -EAGAIN : 0;
}

int process_read(struct process *process)
{
	enum { TRIES = 1000 };
	struct pollfd end = {.fd = process->fd};
	uint64_t before_ns, before_faults;
	static char *bytes;
	int err = -EAGAIN;

	if (process->state != PROCESS_READY)
		return -ESRCH;
	if (!bytes)
		bytes = malloc(SEGMENT_MOST);
	if (!process->seen)
		process->seen = calloc(1, sizeof(*process->seen));
	if (!bytes || !process->seen)
		return -ENOMEM;
	/* Nothing comes unasked: what is ready is the end. */
	if (socket_poll(&end, 1, 0) > 0 && end.revents & (POLLHUP | POLLERR)) {
		process->state = PROCESS_GONE;
		return -ESRCH;
	}
	before_ns = process->seen->now_ns;
	before_faults = process->seen->value[WEIR_SEGMENT_faults];
	for (unsigned i = 0; i < TRIES && err == -EAGAIN; i++)
		err = segment_once(process, bytes, process->seen);
	/* Not when it is the same again: then there is no time between them. */
	if (!err && process->seen->now_ns != before_ns) {
		process->before_ns = before_ns;
		process->before_faults = before_faults;
	}
	if (err)
		process->state = PROCESS_GONE;
	return err;
}

int process_command(struct process *process, const struct command *command, struct reply *reply,
		    int timeout_ms)
{
	char text[WEIR_COMMAND_BYTES + 1];
	int n = command_format(command, text, WEIR_COMMAND_BYTES);
	struct pollfd answer = {.fd = process->fd, .events = POLLIN};
	ssize_t got;

	if (n < 0)
		return n;
	got = socket_send(process->fd, text, (size_t)n, -1);
	if (got < 0)
		return got == -EPIPE || got == -ECONNRESET ? -ESRCH : (int)got;
	/* It may have much to do; when it ends, that is an answer, too. */
	for (;;) {
		int ready = socket_poll(&answer, 1, timeout_ms);

		if (!ready) {
			/* An answer that comes later would be taken for another one's. */
			process->state = PROCESS_GONE;
			return -ETIMEDOUT;
		}
		if (ready < 0 && ready != -EINTR)
			return ready;
		got = ready > 0 ? socket_receive(process->fd, text, WEIR_COMMAND_BYTES, NULL)
				: -EAGAIN;
		if (got != -EAGAIN && got != -EINTR)
			break;
	}
	return got <= 0 ? -ESRCH : reply_parse(text, (size_t)got, reply) ? -EPROTO : 0;
}

/* --- finding them --- */

static struct process *process_of(struct processes *processes, pid_t pid)
{
	for (unsigned i = 0; i < processes->count; i++) {
		if (processes->at[i].pid == pid)
			return &processes->at[i];
	}
	return NULL;
}

/* A new one, of a name that listens. Its own word for who it is counts, not the name's: that may be another's. */
static int process_add(struct processes *processes, const char *name, pid_t wanted)
{
	struct process new = {.fd = socket_connect(name), .segment_fd = -1};
	struct socket_peer who;
	struct process *grown;

	if (new.fd < 0)
		return 0;
	if (socket_peer(new.fd, &who) || !who.pid || (wanted && who.pid != wanted) ||
	    process_of(processes, who.pid)) {
		socket_close(new.fd);
		return 0;
	}
	new.pid = who.pid;
	new.uid = who.uid;
	new.state = PROCESS_ASKED;
	/* Root is believed, and so am I. */
	if (socket_user() != 0 && who.uid != 0 && who.uid != socket_user())
		new.state = PROCESS_FOREIGN;
	else /* Where that fails it has refused us, and we shall read it. */
		(void)socket_send(new.fd, "watch\n", 6, -1);
	grown = new.state == PROCESS_FOREIGN && !wanted
			? NULL
			: reallocarray(processes->at, processes->count + 1, sizeof(new));
	if (!grown) {
		socket_close(new.fd);
		return new.state == PROCESS_ASKED ? -ENOMEM : 0;
	}
	program_name(&new);
	processes->at = grown;
	processes->at[processes->count++] = new;
	return 0;
}

/* Drops what is of no more use. */
void processes_sift(struct processes *processes)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < processes->count; i++) {
		if (processes->at[i].state == PROCESS_GONE)
			process_close(&processes->at[i]);
		else
			processes->at[kept++] = processes->at[i];
	}
	processes->count = kept;
}

/* The name of a socket that listens, from a line of /proc/net/unix; NULL: none of ours. */
static const char *line_name(char *line, pid_t *pid)
{
	enum { ACCEPTS = 1 << 16 };
	unsigned flags;
	char *name = strstr(line, " @weir/"), *end;
	long n;

	/* Num RefCount Protocol Flags Type St Inode Path */
	if (!name || sscanf(line, "%*s %*x %*x %x", &flags) != 1 || !(flags & ACCEPTS))
		return NULL;
	name += 2;
	name[strcspn(name, "\n")] = '\0';
	n = strtol(name + 5, &end, 10);
	if (n <= 0 || n > INT32_MAX || name[5 + strspn(name + 5, "0123456789.")])
		return NULL;
	*pid = (pid_t)n;
	return name;
}

/* Those whose name has the number (0: any); who is known already is not connected to again. */
static int names_scan(struct processes *processes, pid_t named, pid_t wanted)
{
	FILE *list = fopen("/proc/net/unix", "re");
	char *line = NULL;
	size_t room = 0;
	int err = 0;

	if (!list)
		return -errno;
	while (!err && getline(&line, &room, list) > 0) {
		pid_t pid;
		const char *name = line_name(line, &pid);

		if (name && (!named || named == pid) && !process_of(processes, pid))
			err = process_add(processes, name, wanted);
	}
	free(line);
	fclose(list);
	return err;
}

int processes_find(struct processes *processes, pid_t pid)
{
	int err;

	processes_sift(processes);
	err = names_scan(processes, pid, pid);
	/* In a namespace of its own a process has another number for itself than for us. */
	if (!err && pid && !process_of(processes, pid))
		err = names_scan(processes, 0, pid);
	return err;
}

void processes_wait(struct processes *processes, int timeout_ms)
{
	const uint64_t until = now_ns() + (uint64_t)timeout_ms * 1000000;
	struct pollfd *fds = calloc(processes->count + 1, sizeof(*fds));

	while (fds) {
		unsigned waiting = 0;
		uint64_t now = now_ns();

		for (unsigned i = 0; i < processes->count; i++) {
			const bool asked = processes->at[i].state == PROCESS_ASKED;

			fds[i] = (struct pollfd){.fd = asked ? processes->at[i].fd : -1,
						 .events = POLLIN};
			waiting += asked;
		}
		if (!waiting || socket_poll(fds, processes->count,
					    now >= until ? 0 : (int)((until - now) / 1000000)) < 0)
			break;
		for (unsigned i = 0; i < processes->count; i++) {
			if (fds[i].revents)
				answer_take(&processes->at[i]);
		}
		if (now >= until)
			break;
	}
	free(fds);
}

void processes_close(struct processes *processes)
{
	for (unsigned i = 0; i < processes->count; i++)
		process_close(&processes->at[i]);
	free(processes->at);
	*processes = (struct processes){.at = NULL};
}

/* --- one by its number --- */

pid_t pid_parse(const char *text)
{
	char *end;
	long pid = strtol(text, &end, 10);

	if (*end || pid < 1 || pid > INT32_MAX) {
		log_line("'%s' is no process; give its number, as `weir stat` lists them", text);
		return 0;
	}
	return (pid_t)pid;
}

static const char *user_name(uid_t uid, char text[static 16])
{
	const struct passwd *user = getpwuid(uid);

	snprintf(text, 16, "%u", uid);
	return user ? user->pw_name : text;
}

/* Whose it is; false: there is no such process. */
static bool process_user(pid_t pid, uid_t *uid)
{
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	if (stat(path, &st))
		return false;
	*uid = st.st_uid;
	return true;
}

static void refuse(pid_t pid, const struct process *process)
{
	char text[16];
	uid_t uid;

	if (process && process->state == PROCESS_FOREIGN)
		log_line("process %d belongs to %s; only that user and root may see and change it",
			 (int)pid, user_name(process->uid, text));
	else if (process && process->state == PROCESS_BUSY)
		log_line("process %d serves as many as it can already; end a `weir top`, and try "
			 "again",
			 (int)pid);
	else if (process)
		log_line("process %d does not answer; is it stopped? Try again when it runs",
			 (int)pid);
	else if (!process_user(pid, &uid))
		log_line("no process %d; `weir stat` lists those that are under weir", (int)pid);
	else if (uid != socket_user() && socket_user() != 0)
		log_line("process %d belongs to %s, and is not under weir as far as can be seen",
			 (int)pid, user_name(uid, text));
	else
		log_line("process %d is not under weir; start it by `weir run`, or see `weir "
			 "stat` for those that are",
			 (int)pid);
}

struct process *processes_one(struct processes *processes, pid_t pid)
{
	struct process *process;
	int err = processes_find(processes, pid);

	if (err) {
		log_line("/proc/net/unix: %s", errno_name(err));
		return NULL;
	}
	processes_wait(processes, PROCESS_PATIENCE_MS);
	process = process_of(processes, pid);
	if (process && process->state == PROCESS_READY && !process_read(process))
		return process;
	if (process && process->state == PROCESS_GONE)
		process = NULL;
	refuse(pid, process);
	return NULL;
}
