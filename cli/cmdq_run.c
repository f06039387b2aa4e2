/* SPDX-License-Identifier: BSD-2-Clause */
/* weir cmdq run: runs a packet on a thread of its own, with registers of devices and memory that begin as 0. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli.h"
#include "cmdq.h"
#include "cmdq/gce.h"

enum { ACTIONS_MAX = 256, STEPS_DEFAULT = 1000000 };
#define BASE_DEFAULT 0x40000000u
#define ADDRESS_MOST ((1ull << 48) - 4)

static const char usage[] =
	"Usage: weir cmdq run --soc NAME [OPTION...] FILE\n"
	"\n"
	"Runs a packet and prints what it has changed: registers, memory, events. A step is a\n"
	"command, and a tick of the 26 MHz timer. Registers of devices and memory begin as 0, and "
	"all\n"
	"events are clear.\n"
	"\n"
	"  --event EVENT@STEP        set an event, by name or number, when so many steps have run\n"
	"  --set ADDRESS=VALUE@STEP  likewise a register or memory; without @STEP from the start\n"
	"  --until OFFSET            stop before the command so many bytes from the start\n"
	"  --max-steps N             stop after so many steps (default 1000000)\n"
	"  --trace                   print each step, and what it reads and writes\n"
	"  --base, --binary, --pairs, --log  as for check; FILE is hex or assembler text\n"
	"\n"
	"Exits with 0 if it has ended, or come to --until; 1 if it failed, or stands, or ran out "
	"of\n"
	"steps; 2 for bad input or options.\n";

/* What happens from outside. */
struct action {
	uint64_t step;
	bool is_event;
	uint64_t where; /* event or address */
	uint32_t value;
};

/* A cell of 32 bits that was used; a table by hash. */
struct cell {
	uint64_t key; /* address + 1; 0: free */
	uint32_t value;
	bool written;
};

struct simulation {
	struct cmdq_options options;
	struct action action[ACTIONS_MAX];
	unsigned actions;
	uint64_t max_steps, until; /* until: an address; UINT64_MAX: none */
	bool trace;
	struct program program;
	struct gce gce;
	struct gce_code code;
	struct cell *cells;
	size_t room, used;
	bool no_memory;
};

/* --- registers of devices, and memory --- */

static struct cell *cell_find(struct cell *cells, size_t room, uint64_t address)
{
	size_t i = (address * 0x9e3779b97f4a7c15 >> 20) & (room - 1);

	while (cells[i].key && cells[i].key != address + 1)
		i = (i + 1) & (room - 1);
	return &cells[i];
}

static bool cells_grow(struct simulation *s)
{
	const size_t room = s->room ? 2 * s->room : 1024;
	struct cell *more = calloc(room, sizeof(*more));

	if (!more)
		return false;
	for (size_t i = 0; i < s->room; i++) {
		if (s->cells[i].key)
			*cell_find(more, room, s->cells[i].key - 1) = s->cells[i];
	}
	free(s->cells);
	s->cells = more;
	s->room = room;
	return true;
}

static struct cell *cell_at(struct simulation *s, uint64_t address)
{
	struct cell *cell;

	if (2 * s->used >= s->room && !cells_grow(s)) {
		s->no_memory = true;
		return NULL;
	}
	cell = cell_find(s->cells, s->room, address);
	if (!cell->key) {
		cell->key = address + 1;
		s->used++;
	}
	return cell;
}

static int bus_read(void *data, uint64_t address, uint32_t *value)
{
	struct simulation *s = data;
	const struct cell *cell = address % 4 ? NULL : cell_at(s, address);

	if (!cell)
		return -EINVAL;
	*value = cell->value;
	if (s->trace)
		printf("%30s[0x%08llx] is 0x%08x\n", "", (unsigned long long)address, *value);
	return 0;
}

static int bus_write(void *data, uint64_t address, uint32_t value)
{
	struct simulation *s = data;
	struct cell *cell = address % 4 ? NULL : cell_at(s, address);

	if (!cell)
		return -EINVAL;
	cell->value = value;
	cell->written = true;
	if (s->trace)
		printf("%30s[0x%08llx] = 0x%08x\n", "", (unsigned long long)address, value);
	return 0;
}

/* --- options --- */

static int action_order(const void *a, const void *b)
{
	const struct action *x = a, *y = b;

	return (x->step > y->step) - (x->step < y->step);
}

/* The part of text behind the character, which becomes its end; NULL: it is not there. */
static char *cut(char *text, char at)
{
	char *found = strrchr(text, at);

	if (found)
		*found++ = '\0';
	return found;
}

static bool event_parse(struct simulation *s, const char *text, struct action *action)
{
	const int event = cmdq_event_find(s->options.profile, text);

	action->is_event = true;
	action->where = event >= 0 ? (uint64_t)event : 0;
	if (event >= 0)
		return true;
	if (*text < '0' || *text > '9') {
		log_line("cmdq run: --event: %s; expected a name that `weir cmdq soc %s` lists, or "
			 "0 to %u",
			 cmdq_error(), cmdq_profile_name(s->options.profile), CMDQ_EVENTS - 1);
		return false;
	}
	return cmdq_number(&s->options, "--event", text, CMDQ_EVENTS - 1, &action->where);
}

static bool set_parse(struct simulation *s, char *text, struct action *action)
{
	const char *value = cut(text, '=');
	uint64_t number;

	if (!value) {
		log_line("cmdq run: --set '%s': expected ADDRESS=VALUE or ADDRESS=VALUE@STEP",
			 text);
		return false;
	}
	if (!cmdq_number(&s->options, "--set", text, ADDRESS_MOST, &action->where) ||
	    !cmdq_number(&s->options, "--set", value, UINT32_MAX, &number))
		return false;
	if (action->where % 4) {
		log_line("cmdq run: --set: address %s is not a multiple of 4", text);
		return false;
	}
	action->value = (uint32_t)number;
	return true;
}

/* EVENT@STEP, ADDRESS=VALUE@STEP. What they name depends on the platform, and so waits until all options are read. */
static bool action_parse(struct simulation *s, const char *option, const char *given)
{
	struct action *action = &s->action[s->actions];
	char text[256];
	const char *step;

	if (s->actions == ACTIONS_MAX || strlen(given) >= sizeof(text)) {
		log_line("cmdq run: %s '%.40s': too long, or more than %d of them", option, given,
			 ACTIONS_MAX);
		return false;
	}
	strcpy(text, given);
	*action = (struct action){0};
	step = cut(text, '@');
	if (step && !cmdq_number(&s->options, option, step, UINT64_MAX - 1, &action->step))
		return false;
	if (!(strcmp(option, "--event") ? set_parse(s, text, action)
					: event_parse(s, text, action)))
		return false;
	s->actions++;
	return true;
}

static bool option_parse(struct simulation *s, int argc, char **argv, int *i)
{
	const char *option = argv[*i], *argument;
	const bool until = !strcmp(option, "--until"), steps = !strcmp(option, "--max-steps");

	if (!strcmp(option, "--trace")) {
		s->trace = true;
		return true;
	}
	/* Taken when the platform is known. */
	if (!strcmp(option, "--event") || !strcmp(option, "--set"))
		return cmdq_argument(&s->options, argc, argv, i);
	if (!until && !steps) {
		log_line("cmdq run: no option '%s'; see `weir cmdq run --help`", option);
		return false;
	}
	argument = cmdq_argument(&s->options, argc, argv, i);
	return argument && cmdq_number(&s->options, option, argument, UINT64_MAX - 1,
				       until ? &s->until : &s->max_steps);
}

static bool options_parse(struct simulation *s, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const int taken = cmdq_option(&s->options, argc, argv, &i);

		if (taken < 0 || (!taken && !option_parse(s, argc, argv, &i)))
			return false;
	}
	if (!cmdq_options_complete(&s->options))
		return false;
	for (int i = 1; i + 1 < argc; i++) {
		if (!strcmp(argv[i], "--event") || !strcmp(argv[i], "--set")) {
			if (!action_parse(s, argv[i], argv[i + 1]))
				return false;
			i++;
		}
	}
	qsort(s->action, s->actions, sizeof(s->action[0]), action_order);
	return true;
}

/* --- running --- */

static struct gce_thread *thread_of(struct simulation *s)
{
	return &s->gce.thread[0];
}

static uint64_t offset_of(struct simulation *s)
{
	return thread_of(s)->pc - s->code.address;
}

static void print_step(struct simulation *s)
{
	const uint64_t offset = offset_of(s);
	char text[CMDQ_LINE_MAX];

	if (offset >= s->code.bytes || offset % CMDQ_INST_SIZE)
		return;
	printf("%10llu  0x%04llx  %.*s\n", (unsigned long long)s->gce.ticks,
	       (unsigned long long)offset,
	       (int)text_word(s->options.profile, s->code.words[offset / CMDQ_INST_SIZE], text),
	       text);
}

static void act(struct simulation *s, const struct action *action)
{
	if (!action->is_event) {
		(void)bus_write(s, action->where, action->value);
		return;
	}
	gce_event_set(&s->gce, (unsigned)action->where, true);
	if (s->trace)
		printf("%30sevent %llu is set\n", "", (unsigned long long)action->where);
}

/* Until it stops, or something is to happen from outside. */
static uint64_t stretch(struct simulation *s, uint64_t next)
{
	const uint64_t steps = MIN(next, s->max_steps) - s->gce.ticks;

	if (!s->trace && s->until == UINT64_MAX)
		return gce_run(&s->gce, steps);
	if (s->trace && !s->gce.blocked)
		print_step(s);
	return gce_run(&s->gce, 1);
}

static bool stands(struct simulation *s)
{
	const struct gce_thread *t = thread_of(s);

	return t->fault || t->pc == t->end ||
	       (s->until != UINT64_MAX && offset_of(s) == s->until && t->pc != t->end);
}

static void run(struct simulation *s)
{
	unsigned done = 0;

	while (s->gce.ticks < s->max_steps && !stands(s)) {
		uint64_t next;

		while (done < s->actions && s->action[done].step <= s->gce.ticks)
			act(s, &s->action[done++]);
		next = done < s->actions ? s->action[done].step : UINT64_MAX;
		if (stretch(s, next) || stands(s))
			continue;
		/* It waits: time goes on, until something comes. */
		if (next >= s->max_steps)
			break;
		s->gce.ticks = next;
	}
}

/* --- what came out --- */

static int cell_order(const void *a, const void *b)
{
	const struct cell *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

static void print_event(struct simulation *s, unsigned event)
{
	const char *name = cmdq_event_name(s->options.profile, event);

	if (name)
		printf("%s\n", name);
	else
		printf("%u\n", event);
}

static void print_state(struct simulation *s)
{
	const struct gce_thread *t = thread_of(s);

	for (unsigned i = 0; i < CMDQ_SPRS; i++) {
		if (t->spr[i])
			printf("spr%u          0x%08x\n", i, t->spr[i]);
	}
	for (unsigned i = 0; i < CMDQ_GPRS; i++) {
		if (s->gce.gpr[i])
			printf("r%-12u 0x%08x\n", i, s->gce.gpr[i]);
	}
	for (unsigned i = 0; i < CMDQ_CPRS; i++) {
		if (s->gce.cpr[i])
			printf("cpr%-10u 0x%08x\n", i, s->gce.cpr[i]);
	}
	if (s->used)
		qsort(s->cells, s->room, sizeof(s->cells[0]), cell_order);
	for (size_t i = 0; i < s->room; i++) {
		if (s->cells[i].key && s->cells[i].written)
			printf("[0x%08llx]  0x%08x\n", (unsigned long long)s->cells[i].key - 1,
			       s->cells[i].value);
	}
	for (unsigned event = 0; event < CMDQ_EVENTS; event++) {
		if (gce_event(&s->gce, event)) {
			printf("event         ");
			print_event(s, event);
		}
	}
	if (t->irq_status & GCE_IRQ_DONE)
		printf("interrupt     done\n");
}

/* How it ended, and the exit status of that. */
static int print_end(struct simulation *s)
{
	const struct gce_thread *t = thread_of(s);
	const uint64_t offset = offset_of(s);
	const unsigned long long steps = s->gce.ticks;
	const bool inside = offset < s->code.bytes;
	const unsigned line = inside ? s->program.lines[offset / CMDQ_INST_SIZE] : 0;

	if (t->fault && inside) {
		printf("failed        at 0x%llx (line %u) after %llu steps: %s\n",
		       (unsigned long long)offset, line, steps, cmdq_fault_text(t->fault));
	} else if (t->fault) {
		printf("failed        after %llu steps: went to 0x%llx, outside of the packet\n",
		       steps, (unsigned long long)t->pc);
	} else if (t->pc == t->end) {
		printf("ended         after %llu steps\n", steps);
		return 0;
	} else if (stands(s)) {
		printf("stopped       at 0x%llx (line %u) after %llu steps\n",
		       (unsigned long long)offset, line, steps);
		return 0;
	} else if (t->wait_token) {
		printf("waits         at 0x%llx (line %u) after %llu steps for event ",
		       (unsigned long long)offset, line, steps);
		print_event(s, t->wait_token % CMDQ_EVENTS);
	} else {
		printf("ran on        at 0x%llx (line %u) after %llu steps: the most that "
		       "--max-steps allows\n",
		       (unsigned long long)offset, line, steps);
	}
	return EXIT_DEFECT;
}

static int simulate(struct simulation *s)
{
	const struct cmdq_profile *profile = s->options.profile;
	const struct cmdq_bus bus = {bus_read, bus_write, s};
	const uint64_t base = s->options.base == BASE_UNKNOWN ? BASE_DEFAULT : s->options.base;
	int status;

	if (base % CMDQ_INST_SIZE || (base + profile->offset + s->program.count * CMDQ_INST_SIZE) >>
					     profile->shift > UINT32_MAX) {
		log_line("cmdq run: --base 0x%llx: expected a multiple of 8, and no more than 32 "
			 "bits, shifted by %u, where the packet ends",
			 (unsigned long long)base, profile->shift);
		return EXIT_WEIR;
	}
	gce_init(&s->gce, profile, &bus);
	s->code = (struct gce_code){.address = base + profile->offset,
				    .bytes = s->program.count * CMDQ_INST_SIZE,
				    .words = s->program.words};
	gce_map(&s->gce, &s->code);
	gce_write(&s->gce, gce_thread_register(0, GCE_PC),
		  (uint32_t)(s->code.address >> profile->shift));
	gce_write(&s->gce, gce_thread_register(0, GCE_END),
		  (uint32_t)((s->code.address + s->code.bytes) >> profile->shift));
	gce_write(&s->gce, gce_thread_register(0, GCE_ENABLE), 1);
	run(s);
	if (s->no_memory) {
		log_line("cmdq run: out of memory");
		return EXIT_INPUT;
	}
	status = print_end(s);
	print_state(s);
	return cmdq_flush() ? EXIT_INPUT : status;
}

int cmdq_run_main(int argc, char **argv)
{
	static struct simulation s = {.options = {.command = "run", .base = BASE_UNKNOWN},
				      .max_steps = STEPS_DEFAULT,
				      .until = UINT64_MAX};
	int status = EXIT_WEIR;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			fputs(usage, stdout);
			return cmdq_flush();
		}
	}
	if (options_parse(&s, argc, argv))
		status = cmdq_load(&s.options, &s.program) ? simulate(&s) : EXIT_INPUT;
	program_free(&s.program);
	free(s.cells);
	return status;
}
