/* SPDX-License-Identifier: BSD-2-Clause */
/* weir top: the programs under weir, live. Where there is no terminal for that, one plain listing. */
#include "top.h"

#include <argp.h>
#include <curses.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <term.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/log.h"
#include "base/size.h"
#include "cli.h"
#include "os/mem.h"

enum { ESCAPE = 27, DELETE = 127, ANSWER_MS = 2000, NEW_MS = 100 };
#define PORTION MIB(16)

static volatile sig_atomic_t ended;

static const struct argp_option options[] = {
	{"delay", 'd', "SECONDS", 0, "between two looks, 1 to 3600 (default 1)", 1},
	{"once", '1', NULL, 0, "print one plain listing, and end", 1},
	{0},
};

static const char doc[] =
	"Shows the programs under weir that you may see, as they run, and lets you change what "
	"they may use."
	"\vKeys: up and down choose a program, s sorts, l changes its limit, r makes it give "
	"memory up, o and f bring memory for compressed pages on and off line, h helps, q quits. "
	"Without a terminal, or on one that cannot move its cursor, it prints one plain listing. "
	"No colours where NO_COLOR is set.";

struct arguments {
	unsigned delay_s;
	bool once;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;
	unsigned long seconds;
	char *end;

	switch (key) {
	case 'd':
		seconds = strtoul(arg, &end, 10);
		if (*end || !seconds || seconds > 3600) {
			log_line("delay '%s'; give seconds from 1 to 3600", arg);
			exit(EXIT_WEIR);
		}
		a->delay_s = (unsigned)seconds;
		return 0;
	case '1':
		a->once = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* --- the list --- */

static enum top_sort sort_now;
static bool sort_reverse;

static int by_sort(const void *a, const void *b)
{
	const struct process *left = a, *right = b;
	const uint64_t l = top_value(left, sort_now), r = top_value(right, sort_now);
	int order;

	/* Names and numbers begin with the first, figures with the largest. */
	if (sort_now == SORT_NAME)
		order = strcmp(left->program, right->program);
	else if (sort_now == SORT_PID)
		order = (l > r) - (l < r);
	else
		order = (l < r) - (l > r);
	order = order ? order : (left->pid > right->pid) - (left->pid < right->pid);
	return sort_reverse ? -order : order;
}

static void sort_list(struct top *top)
{
	sort_now = top->sort;
	sort_reverse = top->reverse;
	if (top->processes.count)
		qsort(top->processes.at, top->processes.count, sizeof(*top->processes.at), by_sort);
}

static void look(struct top *top)
{
	int err = processes_find(&top->processes, 0);

	if (err)
		snprintf(top->message, sizeof(top->message), "/proc/net/unix: %s", errno_name(err));
	processes_wait(&top->processes, NEW_MS);
	for (unsigned i = 0; i < top->processes.count; i++) {
		struct process *p = &top->processes.at[i];

		if (p->state == PROCESS_READY && process_read(p) == -ESRCH)
			snprintf(top->message, sizeof(top->message), "%s (%d) has ended",
				 p->program, (int)p->pid);
	}
	processes_sift(&top->processes);
	sort_list(top);
}

static struct process *chosen(struct top *top)
{
	for (unsigned i = 0; i < top->processes.count; i++) {
		if (top->processes.at[i].pid == top->selected)
			return &top->processes.at[i];
	}
	return NULL;
}

static void choose(struct top *top, int by)
{
	unsigned at = 0;

	if (!top->processes.count)
		return;
	while (at < top->processes.count && top->processes.at[at].pid != top->selected)
		at++;
	if (at == top->processes.count)
		at = 0;
	else if (by < 0 && at)
		at--;
	else if (by > 0 && at + 1 < top->processes.count)
		at++;
	top->selected = top->processes.at[at].pid;
}

/* --- what is typed --- */

static const struct action {
	int key;
	enum command_kind kind;
	const char *prompt, *done;
} actions[] = {
	{'l', COMMAND_SET, "New limit:", "limit is now"},
	{'r', COMMAND_RECLAIM, "Reclaim how much:", "reclaimed"},
	{'o', COMMAND_ONLINE, "Online, how much:", "online"},
	{'f', COMMAND_OFFLINE, "Offline, how much:", "offline"},
};

static void action_do(struct top *top, const struct action *action)
{
	struct process *p = chosen(top);
	struct command command = {.kind = action->kind, .value = WEIR_MAX, .path = ""};
	const uint64_t whole = action->kind == COMMAND_SET ? mem_machine()
			       : p && p->seen ? p->seen->value[WEIR_SEGMENT_managed_bytes]
					      : 0;
	uint64_t bytes, done = 0;
	char text[SIZE_TEXT];
	struct reply reply = {.result = 0};
	int err;

	if (!p || p->state != PROCESS_READY) {
		snprintf(top->message, sizeof(top->message),
			 "that program has ended, or does not answer");
		return;
	}
	if (size_parse(top->typed, whole, &bytes) || !bytes) {
		snprintf(top->message, sizeof(top->message),
			 "'%s' is not a size; give one such as 64M, 1.5G or 50%%", top->typed);
		return;
	}
	/* A limit as a whole, work in portions, so that the screen does not stand still for long. */
	do {
		command.bytes = action->kind == COMMAND_SET ? bytes : MIN(bytes - done, PORTION);
		err = process_command(p, &command, &reply, ANSWER_MS);
		err = err ? err : reply.result;
		done += reply.number;
		if (err == -EAGAIN && (reply.number || action->kind == COMMAND_SET))
			err = 0;
		snprintf(top->message, sizeof(top->message), "%s (%d): %s %s", p->program,
			 (int)p->pid, action->done,
			 size_print(action->kind == COMMAND_SET ? bytes : done, text));
		top_draw(top);
	} while (!err && reply.number && action->kind != COMMAND_SET && done < bytes);
	if (err == -ETIMEDOUT)
		snprintf(top->message, sizeof(top->message),
			 "%s (%d) does not answer; is it stopped?", p->program, (int)p->pid);
	else if (err)
		snprintf(top->message, sizeof(top->message), "%s (%d): %s %s, and no more (%s)",
			 p->program, (int)p->pid, action->done, size_print(done, text),
			 errno_name(err));
}

/* A key of the prompt. */
static void type(struct top *top, const struct action **action, int key)
{
	const size_t len = strlen(top->typed);

	if (key == '\n' || key == '\r' || key == KEY_ENTER) {
		top->prompt = NULL;
		if (len && *action)
			action_do(top, *action);
	} else if (key == ESCAPE) {
		top->prompt = NULL;
	} else if ((key == KEY_BACKSPACE || key == DELETE || key == '\b') && len) {
		top->typed[len - 1] = '\0';
	} else if (key > ' ' && key < DELETE && len + 1 < sizeof(top->typed)) {
		top->typed[len] = (char)key;
		top->typed[len + 1] = '\0';
	}
}

/* False: quit. */
static bool press(struct top *top, const struct action **action, int key)
{
	if (top->prompt) {
		type(top, action, key);
		return true;
	}
	if (key != ERR && key != KEY_RESIZE)
		top->message[0] = '\0';
	switch (key) {
	case 'q':
		return false;
	case 'h':
	case '?':
		top->help = !top->help;
		return true;
	case KEY_UP:
	case 'k':
		choose(top, -1);
		return true;
	case KEY_DOWN:
	case 'j':
		choose(top, 1);
		return true;
	case 's':
	case 'S':
		top->sort = (enum top_sort)((top->sort + (key == 's' ? 1 : SORTS - 1)) % SORTS);
		sort_list(top);
		return true;
	case 'v':
		top->reverse = !top->reverse;
		sort_list(top);
		return true;
	default:
		break;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(actions); i++) {
		if (actions[i].key == key && chosen(top)) {
			*action = &actions[i];
			top->prompt = actions[i].prompt;
			top->typed[0] = '\0';
		}
	}
	return true;
}

/* --- the screen --- */

static void end(int signal)
{
	(void)signal;
	ended = 1;
}

static void colours_start(struct top *top)
{
	const char *none = getenv("NO_COLOR");

	top->colours = !(none && *none) && has_colors() && start_color() == OK;
	if (!top->colours)
		return;
	(void)use_default_colors();
	init_pair(1, COLOR_GREEN, -1);
	init_pair(2, COLOR_YELLOW, -1);
	init_pair(3, COLOR_RED, -1);
	init_pair(4, COLOR_CYAN, -1);
}

static int top_run(unsigned delay_s)
{
	const struct sigaction act = {.sa_handler = end};
	struct top top = {.sort = SORT_FAULTS};
	const struct action *action = NULL;
	bool go = true;

	if (!initscr()) {
		log_line("top: the terminal cannot be set up");
		return 1;
	}
	(void)sigaction(SIGINT, &act, NULL);
	(void)sigaction(SIGTERM, &act, NULL);
	(void)sigaction(SIGHUP, &act, NULL);
	colours_start(&top);
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	set_escdelay(50);
	while (go && !ended) {
		const uint64_t next = now_ns() + delay_s * 1000000000ull;
		uint64_t now;

		look(&top);
		if (!chosen(&top)) {
			top.selected = 0;
			choose(&top, 0);
			/* What is typed was meant for another one. */
			top.prompt = NULL;
		}
		top_draw(&top);
		while (go && !ended && (now = now_ns()) < next) {
			int key;

			timeout((int)((next - now) / 1000000) + 1);
			key = getch();
			if (key == ERR && errno != EINTR && now_ns() < next) {
				/* Its terminal is gone. */
				go = false;
			} else if (key != ERR) {
				go = press(&top, &action, key);
				top_draw(&top);
			}
		}
	}
	endwin();
	processes_close(&top.processes);
	return 0;
}

/* Can it show and clear a screen? */
static bool terminal_usable(void)
{
	int err;

	if (setupterm(NULL, STDOUT_FILENO, &err) != OK)
		return false;
	return cursor_address && clear_screen;
}

int cli_top(int argc, char **argv)
{
	static const struct argp argp = {options, parse, NULL, doc, NULL, NULL, NULL};
	struct arguments a = {.delay_s = 1};

	argp_err_exit_status = EXIT_WEIR;
	argv[0] = "weir top";
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_WEIR;
	if (a.once || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
		return stat_list();
	if (!terminal_usable()) {
		const char *name = getenv("TERM");

		log_line("top: a terminal of the kind '%s' cannot move its cursor: this is what "
			 "there "
			 "is now; `weir stat` shows the same",
			 name ? name : "");
		return stat_list();
	}
	return top_run(a.delay_s);
}
