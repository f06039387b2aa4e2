/* SPDX-License-Identifier: BSD-2-Clause */
/* weir set, reclaim, online, offline: what programs under weir are told while they run. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/size.h"
#include "cli.h"
#include "os/mem.h"
#include "process.h"

/* Work is asked for in portions, so that there is something to show, and an end when it is broken off. */
#define PORTION MIB(16)

/* --- progress, where somebody looks --- */

static bool shown;

static void progress(const char *what, uint64_t done, uint64_t whole)
{
	char text[2][SIZE_TEXT];

	if (!isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r%s: %s of %s", what, size_print(done, text[0]),
		size_print(whole, text[1]));
	fputs("   ", stderr);
	shown = true;
}

static void progress_end(void)
{
	if (shown)
		fputs("\r                                                  \r", stderr);
	shown = false;
}

/* Why a command was not carried out. */
static void complain(const struct process *process, const char *what, int err)
{
	switch (err) {
	case -ESRCH:
		log_line("process %d has ended meanwhile", (int)process->pid);
		break;
	case -ENOENT:
		log_line("%s: process %d has no such container; `weir stat %d` lists them", what,
			 (int)process->pid, (int)process->pid);
		break;
	case -ENOTSUP:
		log_line("%s: process %d runs with a weir that cannot do this", what,
			 (int)process->pid);
		break;
	default:
		log_line("%s: process %d refused: %s", what, (int)process->pid, errno_name(err));
		break;
	}
}

static error_t ignore(int key, char *arg, struct argp_state *state)
{
	(void)key;
	(void)arg;
	(void)state;
	return ARGP_ERR_UNKNOWN;
}

/* --- set --- */

struct assignment {
	const char *text;
	struct command command;
};

/* "max=512M", "batch/nightly:high=64M": the last '=' and the last ':' before it, as names may have both. */
static int assignment_parse(char *text, struct assignment *a)
{
	char *equals = strrchr(text, '='), *name = text;
	int err;

	a->text = text;
	a->command = (struct command){.kind = COMMAND_SET, .path = "", .bytes = WEIR_NO_LIMIT};
	if (!equals) {
		log_line("'%s' sets nothing; write a value and a size, such as max=512M", text);
		return -1;
	}
	*equals = '\0';
	for (char *c = equals; c-- > text;) {
		if (*c == ':') {
			*c = '\0';
			a->command.path = text;
			name = c + 1;
			break;
		}
	}
	if (command_value_find(name, strlen(name), &a->command.value)) {
		log_line("no value '%s'; there are max, high, low, swap.max and peak", name);
		return -1;
	}
	a->text = name;
	err = strcmp(equals + 1, "max") ? size_parse(equals + 1, mem_machine(), &a->command.bytes)
					: 0;
	if (err == -ERANGE)
		log_line("%s '%s' is too large; give a size such as 64M, 1.5G or 50%%, or max for "
			 "no "
			 "limit",
			 name, equals + 1);
	else if (err)
		log_line("%s '%s' is not a size; give one such as 64M, 1.5G or 50%%, or max for no "
			 "limit",
			 name, equals + 1);
	else if (a->command.value == WEIR_MAX && !*a->command.path &&
		 (a->command.bytes < WEIR_LIMIT_MIN || a->command.bytes > INT64_MAX)) {
		log_line("max '%s': a program's own limit is at least 1M, and there always is one",
			 equals + 1);
		err = -1;
	}
	return err;
}

/* A lowered limit holds at once; what is above it is moved out behind it. False: that comes to a stand. */
static bool wait_below(struct process *process, uint64_t bytes)
{
	enum { STILL = 15 }; /* looks without any progress */
	uint64_t least = UINT64_MAX, first = 0;

	for (unsigned still = 0; still < STILL; still++) {
		uint64_t now;

		if (process_read(process))
			return true;
		now = process->seen->value[WEIR_SEGMENT_managed_bytes];
		if (now <= bytes)
			return true;
		if (least == UINT64_MAX)
			first = now;
		if (now < least) {
			least = now;
			still = 0;
		}
		progress("moving out", first - least, first - bytes);
		usleep(WEIR_SEGMENT_PERIOD_MS * 1000);
	}
	return false;
}

static int assignment_do(struct process *process, const struct assignment *a)
{
	const bool own = a->command.value == WEIR_MAX && !*a->command.path;
	struct reply reply;
	char text[SIZE_TEXT];
	uint64_t over;
	int err = process_command(process, &a->command, &reply, -1);

	if (!err)
		err = reply.result;
	if (err && err != -EAGAIN) {
		complain(process, a->text, err);
		return 1;
	}
	if (!err || (own && wait_below(process, a->command.bytes))) {
		progress_end();
		return 0;
	}
	progress_end();
	over = own ? process->seen->value[WEIR_SEGMENT_managed_bytes] : reply.number;
	over = over > a->command.bytes ? over - a->command.bytes : 0;
	log_line("%s is set, and holds from now on; but process %d has %s more, which cannot be "
		 "moved out just now",
		 a->text, (int)process->pid, size_print(over, text));
	return 1;
}

int cli_set(int argc, char **argv)
{
	static const char doc[] =
		"Sets limits of a program under weir while it runs: max, high, low or swap.max, of "
		"the program or of one of its containers; peak begins anew. Sizes as 64M, 1.5G, "
		"50% "
		"of the machine's memory, or max for no limit."
		"\vA limit that is lowered holds at once; pages above it are moved out. Exits with "
		"0, 1 where the program is not there, refuses, or cannot come below, and 125 for a "
		"wrong option or value: then nothing has been set.";
	static const struct argp argp = {NULL, ignore, "PID [CONTAINER:]VALUE=SIZE...", doc, NULL,
					 NULL, NULL};
	struct processes processes = {.at = NULL};
	struct assignment *all;
	struct process *process;
	int first, status = 0, count;
	pid_t pid;

	argp_err_exit_status = EXIT_WEIR;
	argv[0] = "weir set";
	if (argp_parse(&argp, argc, argv, ARGP_NO_ARGS, &first, NULL))
		return EXIT_WEIR;
	count = argc - first - 1;
	if (count < 1) {
		log_line("set: a process and what to set, such as: weir set 1234 max=512M");
		return EXIT_WEIR;
	}
	pid = pid_parse(argv[first]);
	all = calloc((size_t)count, sizeof(*all));
	if (!pid || !all) {
		free(all);
		return EXIT_WEIR;
	}
	for (int i = 0; i < count && !status; i++)
		status = assignment_parse(argv[first + 1 + i], &all[i]) ? EXIT_WEIR : 0;
	process = status ? NULL : processes_one(&processes, pid);
	if (!status && !process)
		status = 1;
	for (int i = 0; process && i < count; i++)
		status |= assignment_do(process, &all[i]);
	processes_close(&processes);
	free(all);
	return status;
}

/* --- reclaim, online, offline --- */

struct work {
	enum command_kind kind;
	const char *verb, *done; /* for messages */
	const char *pid, *size, *container;
};

static error_t work_parse(int key, char *arg, struct argp_state *state)
{
	struct work *w = state->input;

	switch (key) {
	case 'c':
		w->container = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num > 1) {
			log_line("%s: a process and a size, and nothing else", w->verb);
			exit(EXIT_WEIR);
		}
		*(state->arg_num ? &w->size : &w->pid) = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void work_refused(const struct work *w, const struct process *process, uint64_t done,
			 int err)
{
	char text[SIZE_TEXT];

	progress_end();
	if (w->kind == COMMAND_RECLAIM && err == -EAGAIN)
		log_line("reclaim: process %d had no more to give than %s", (int)process->pid,
			 size_print(done, text));
	else if (w->kind == COMMAND_ONLINE && err == -ENOMEM)
		log_line("online: %s came; process %d has no block left, or the machine no memory "
			 "for its tables",
			 size_print(done, text), (int)process->pid);
	else if (w->kind == COMMAND_OFFLINE && (err == -EBUSY || err == -ENOENT))
		log_line("offline: %s went; what is left is needed by process %d, or cannot move "
			 "just now",
			 size_print(done, text), (int)process->pid);
	else
		complain(process, w->verb, err);
}

/* In portions. Online and offline round up to whole blocks: a portion may do more than it was asked for. */
static int work_do(const struct work *w, struct process *process, uint64_t bytes)
{
	struct command command = {.kind = w->kind, .path = w->container ? w->container : ""};
	uint64_t done = 0;
	char text[SIZE_TEXT];

	while (done < bytes) {
		struct reply reply;
		int err;

		progress(w->done, done, bytes);
		command.bytes = MIN(bytes - done, PORTION);
		err = process_command(process, &command, &reply, -1);
		if (!err) {
			done += reply.number;
			err = reply.result;
		}
		/* Less than it was asked for: the next portion may do better, until there is nothing. */
		if (err == -EAGAIN && reply.number)
			err = 0;
		if (err || !reply.number) {
			work_refused(w, process, done, err ? err : -EAGAIN);
			return 1;
		}
	}
	progress_end();
	printf("%s %s\n", w->done, size_print(done, text));
	return fflush(stdout) ? 1 : 0;
}

static int work_main(struct work *w, const struct argp_option *options, const char *doc, int argc,
		     char **argv)
{
	const struct argp argp = {options, work_parse, "PID SIZE", doc, NULL, NULL, NULL};
	struct processes processes = {.at = NULL};
	struct process *process;
	char name[32];
	int err, status = 1;
	uint64_t bytes;
	pid_t pid;

	argp_err_exit_status = EXIT_WEIR;
	snprintf(name, sizeof(name), "weir %s", w->verb);
	argv[0] = name;
	if (argp_parse(&argp, argc, argv, 0, NULL, w))
		return EXIT_WEIR;
	if (!w->size) {
		log_line("%s: a process and a size, such as: weir %s 1234 64M", w->verb, w->verb);
		return EXIT_WEIR;
	}
	pid = pid_parse(w->pid);
	/* What a percentage is of is known later; that it is one, now. */
	err = size_parse(w->size, UINT64_MAX, &bytes);
	if (!pid)
		return EXIT_WEIR;
	if (err || !bytes) {
		log_line("%s '%s' is not a size; give one such as 64M, 1.5G, or 50%% of what the "
			 "program has",
			 w->verb, w->size);
		return EXIT_WEIR;
	}
	process = processes_one(&processes, pid);
	if (process) {
		(void)size_parse(w->size, process->seen->value[WEIR_SEGMENT_managed_bytes], &bytes);
		status = work_do(w, process, bytes);
	}
	processes_close(&processes);
	return status;
}

int cli_reclaim(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"container", 'c', "PATH", 0, "from one of its containers, such as batch/nightly",
		 1},
		{0}};
	static const char doc[] =
		"Makes a program under weir move pages out, and give memory up that it holds for "
		"more: 64M, or 50% of what it has."
		"\vPrints what it gave. Exits with 0, 1 where it had less to give, is not there or "
		"refuses, and 125 for a wrong option.";
	struct work w = {.kind = COMMAND_RECLAIM, .verb = "reclaim", .done = "reclaimed"};

	return work_main(&w, options, doc, argc, argv);
}

int cli_online(int argc, char **argv)
{
	static const char doc[] =
		"Gives a program under weir more memory for compressed pages, before it is needed: "
		"in whole blocks, within the limit."
		"\vBlocks come and go by themselves as compressed pages do. Exits with 0, 1 where "
		"there was less to be had, and 125 for a wrong option.";
	struct work w = {.kind = COMMAND_ONLINE, .verb = "online", .done = "online"};

	return work_main(&w, NULL, doc, argc, argv);
}

int cli_offline(int argc, char **argv)
{
	static const char doc[] = "Takes memory for compressed pages away from a program under "
				  "weir: whole blocks, the "
				  "emptiest first; what they hold is moved."
				  "\vBlocks that are needed again come back by themselves. Exits "
				  "with 0, 1 where less "
				  "could go, and 125 for a wrong option.";
	struct work w = {.kind = COMMAND_OFFLINE, .verb = "offline", .done = "offline"};

	return work_main(&w, NULL, doc, argc, argv);
}
