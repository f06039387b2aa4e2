/* SPDX-License-Identifier: BSD-2-Clause */
#include "top.h"

#include <curses.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/size.h"

enum { COLOUR_RESIDENT = 1, COLOUR_COMPRESSED, COLOUR_PRESSED, COLOUR_HEAD };
enum {
	ROWS_LEAST = 6,
	COLUMNS_LEAST = 24,
	BAR_LEAST = 8,
	PROGRAM_LEAST = 8,
	SILENT_NS = 2000000000
};

/* In the order on the screen. The one with the lowest rank goes first where there is no room; PID and program stay. */
static const struct column {
	const char *title;
	enum top_sort sort;
	int width, rank;
} columns[] = {
	{"PID", SORT_PID, 7, 100},	   {"PROGRAM", SORT_NAME, PROGRAM_LEAST, 100},
	{"USED", SORT_USED, BAR_LEAST, 8}, {"LIMIT", SORT_LIMIT, 7, 9},
	{"RESID", SORT_RESIDENT, 7, 5},	   {"COMPR", SORT_COMPRESSED, 7, 3},
	{"STORED", SORT_STORED, 7, 2},	   {"FLT/S", SORT_FAULTS, 7, 7},
	{"PRESS", SORT_PRESSURE, 6, 6},
};

static const char *const sort_names[SORTS] = {
	[SORT_PID] = "pid",	  [SORT_NAME] = "name",		[SORT_LIMIT] = "limit",
	[SORT_USED] = "used",	  [SORT_RESIDENT] = "resident", [SORT_COMPRESSED] = "compressed",
	[SORT_STORED] = "stored", [SORT_FAULTS] = "faults/s",	[SORT_PRESSURE] = "pressure",
};

const char *top_sort_name(enum top_sort sort)
{
	return sort_names[sort];
}

/* How wide each is on this screen; 0: not shown. What is left over makes the bar and the names longer. */
struct layout {
	int width[ARRAY_SIZE(columns)];
};

static struct layout layout_make(int room)
{
	struct layout l;
	int used = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(columns); i++) {
		l.width[i] = columns[i].width;
		used += columns[i].width + 1;
	}
	while (used - 1 > room) {
		unsigned least = 0;

		for (unsigned i = 0; i < ARRAY_SIZE(columns); i++) {
			if (l.width[i] &&
			    (!l.width[least] || columns[i].rank < columns[least].rank))
				least = i;
		}
		if (columns[least].rank == 100)
			break;
		used -= columns[least].width + 1;
		l.width[least] = 0;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(columns); i++) {
		const int spare = room - (used - 1);
		int more = 0;

		if (spare > 0 && columns[i].sort == SORT_NAME)
			more = MIN(spare / 3, 16);
		if (spare > 0 && columns[i].sort == SORT_USED && l.width[i])
			more = MIN(spare, 40);
		l.width[i] += more;
		used += more;
	}
	return l;
}

/* --- values --- */

static uint64_t rate(const struct process *p)
{
	const struct seen *s = p->seen;
	const uint64_t faults = s->value[WEIR_SEGMENT_faults];

	if (!p->before_ns || s->now_ns <= p->before_ns || faults < p->before_faults)
		return 0;
	return (faults - p->before_faults) * 1000000 / ((s->now_ns - p->before_ns) / 1000 + 1);
}

uint64_t top_value(const struct process *p, enum top_sort sort)
{
	const struct seen *s = p->seen;

	if (!s)
		return 0;
	switch (sort) {
	case SORT_LIMIT:
		return s->value[WEIR_SEGMENT_limit_bytes];
	case SORT_USED:
		return s->value[WEIR_SEGMENT_managed_bytes] * 1000 /
		       MAX(s->value[WEIR_SEGMENT_limit_bytes], 1u);
	case SORT_RESIDENT:
		return s->value[WEIR_SEGMENT_resident_bytes];
	case SORT_COMPRESSED:
		return s->value[WEIR_SEGMENT_compressed_bytes];
	case SORT_STORED:
		return s->value[WEIR_SEGMENT_stored_bytes];
	case SORT_FAULTS:
		return rate(p);
	case SORT_PRESSURE:
		return s->container[0].value[WEIR_SEGMENT_CONTAINER_pressure_some_avg10];
	default:
		return (uint64_t)p->pid;
	}
}

bool top_silent(const struct process *p)
{
	return !p->seen || now_ns() > p->seen->now_ns + SILENT_NS;
}

/* --- parts of the screen --- */

static void colour_on(const struct top *top, int colour)
{
	if (top->colours)
		attron(COLOR_PAIR(colour));
}

static void colour_off(const struct top *top, int colour)
{
	if (top->colours)
		attroff(COLOR_PAIR(colour));
}

/* [####====   ]: of the limit, what is resident and what is compressed. */
static void bar_draw(const struct top *top, const struct process *p, int y, int x, int width)
{
	const uint64_t limit = MAX(top_value(p, SORT_LIMIT), 1u), inner = (uint64_t)width - 2;
	const uint64_t resident = top_value(p, SORT_RESIDENT),
		       all = resident + top_value(p, SORT_COMPRESSED);
	/* Of shares: a limit and a size may be anything. */
	const int first = (int)MIN(
			  (uint64_t)((double)resident / (double)limit * (double)inner + 0.5),
			  inner),
		  second = (int)MIN((uint64_t)((double)all / (double)limit * (double)inner + 0.5),
				    inner);

	mvaddch(y, x, '[');
	colour_on(top, COLOUR_RESIDENT);
	for (int i = 0; i < first; i++)
		addch('#');
	colour_off(top, COLOUR_RESIDENT);
	colour_on(top, COLOUR_COMPRESSED);
	for (int i = first; i < second; i++)
		addch('=');
	colour_off(top, COLOUR_COMPRESSED);
	for (int i = MAX(first, second); i < (int)inner; i++)
		addch(' ');
	addch(']');
}

static void cell_draw(const struct top *top, const struct process *p, const struct column *c, int y,
		      int x, int width)
{
	const uint64_t value = top_value(p, c->sort);
	char text[SIZE_TEXT];

	switch (c->sort) {
	case SORT_USED:
		bar_draw(top, p, y, x, width);
		break;
	case SORT_FAULTS:
		mvprintw(y, x, "%*llu", width, (unsigned long long)MIN(value, 9999999u));
		break;
	case SORT_PRESSURE:
		if (value >= 1000)
			colour_on(top, COLOUR_PRESSED);
		mvprintw(y, x, "%*llu.%llu%%", width - 3,
			 (unsigned long long)MIN(value, 10000u) / 100,
			 (unsigned long long)value / 10 % 10);
		colour_off(top, COLOUR_PRESSED);
		break;
	default:
		mvprintw(y, x, "%*s", width, size_print(value, text));
		break;
	}
}

static void name_draw(const struct process *p, int y, int x, int width)
{
	char name[sizeof(p->program)];

	for (unsigned i = 0; i < sizeof(name); i++)
		name[i] = (char)((unsigned char)p->program[i] > '~' ? '?' : p->program[i]);
	mvprintw(y, x, "%-*.*s", width, width, name);
}

static void row_draw(const struct top *top, const struct layout *l, const struct process *p, int y)
{
	const bool selected = p->pid == top->selected;
	int x = 0;

	if (selected) {
		attron(A_REVERSE);
		mvhline(y, 0, ' ', COLS);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(columns); i++) {
		const int width = l->width[i];

		if (!width)
			continue;
		if (columns[i].sort == SORT_PID) {
			mvprintw(y, x, "%*d", width, (int)p->pid);
		} else if (columns[i].sort == SORT_NAME) {
			name_draw(p, y, x, width);
			if (top_silent(p)) {
				mvaddnstr(y, x + width + 1,
					  p->state == PROCESS_BUSY ? "is watched by too many"
								   : "does not answer: stopped?",
					  MAX(COLS - (x + width + 1), 0));
				break;
			}
		} else {
			cell_draw(top, p, &columns[i], y, x, width);
		}
		x += width + 1;
	}
	attroff(A_REVERSE);
}

static void head_draw(const struct top *top, const struct layout *l)
{
	uint64_t limit = 0, used = 0, stored = 0;
	char text[3][SIZE_TEXT], line[160], clock[16] = "";
	const time_t now = time(NULL);
	struct tm local;
	int x = 0;

	for (unsigned i = 0; i < top->processes.count; i++) {
		const struct process *p = &top->processes.at[i];

		limit += top_value(p, SORT_LIMIT);
		used += top_value(p, SORT_RESIDENT) + top_value(p, SORT_COMPRESSED);
		stored += top_value(p, SORT_STORED);
	}
	if (localtime_r(&now, &local))
		(void)strftime(clock, sizeof(clock), "%H:%M:%S", &local);
	snprintf(line, sizeof(line),
		 "weir top by %s%s: %u program%s, limits %s, used %s, stored %s  %s",
		 sort_names[top->sort], top->reverse ? ", reversed" : "", top->processes.count,
		 top->processes.count == 1 ? "" : "s", size_print(limit, text[0]),
		 size_print(used, text[1]), size_print(stored, text[2]), clock);
	attron(A_BOLD);
	mvaddnstr(0, 0, line, COLS);
	attroff(A_BOLD);
	colour_on(top, COLOUR_HEAD);
	attron(A_UNDERLINE);
	for (unsigned i = 0; i < ARRAY_SIZE(columns); i++) {
		const bool left = columns[i].sort == SORT_NAME || columns[i].sort == SORT_USED;

		if (!l->width[i])
			continue;
		mvprintw(2, x, left ? "%-*s" : "%*s", l->width[i], columns[i].title);
		x += l->width[i] + 1;
	}
	attroff(A_UNDERLINE);
	colour_off(top, COLOUR_HEAD);
}

static void help_draw(void)
{
	static const char *const lines[] = {
		"up, down   choose a program (also k, j)",
		"s, S       sort by the next, the previous column",
		"v          the other way round",
		"l          change its limit: 512M, 50% of the machine's memory",
		"r          make it give memory up: 64M",
		"o, f       bring memory for compressed pages on, off line: 128M",
		"h, ?       this help, and back",
		"q          quit",
		"",
		"USED is [####==== ]: # resident, = compressed, of the limit. FLT/S are faults",
		"a second, PRESS is the share of the last ten seconds in which a thread waited",
		"for memory. What is stored in the file is beyond the limit.",
	};

	for (unsigned i = 0; i < ARRAY_SIZE(lines) && (int)i + 2 < LINES; i++)
		mvaddnstr((int)i + 2, 0, lines[i], COLS);
}

static void foot_draw(const struct top *top)
{
	char line[256];

	if (top->prompt)
		snprintf(line, sizeof(line), "%s %s", top->prompt, top->typed);
	else if (*top->message)
		snprintf(line, sizeof(line), "%s", top->message);
	else
		snprintf(line, sizeof(line), "%s",
			 top->help ? "h back  q quit"
				   : "s sort  l limit  r reclaim  o online  f offline  h help  q "
				     "quit");
	attron(A_BOLD);
	mvaddnstr(LINES - 1, 0, line, COLS - 1);
	attroff(A_BOLD);
	curs_set(top->prompt != NULL);
	if (top->prompt)
		move(LINES - 1, MIN((int)strlen(line), COLS - 1));
}

/* Keeps the chosen row on the screen. */
static void scroll_to(struct top *top, unsigned rows)
{
	unsigned at = 0;

	while (at < top->processes.count && top->processes.at[at].pid != top->selected)
		at++;
	if (at == top->processes.count)
		at = 0;
	top->first = MIN(top->first, at);
	if (at >= top->first + rows)
		top->first = at - rows + 1;
	if (top->first + rows > top->processes.count)
		top->first = top->processes.count > rows ? top->processes.count - rows : 0;
}

void top_draw(struct top *top)
{
	const struct layout l = layout_make(COLS);
	const int rows = LINES - 4;

	erase();
	if (LINES < ROWS_LEAST || COLS < COLUMNS_LEAST) {
		mvaddnstr(0, 0, "weir: too small", MAX(COLS, 1));
		refresh();
		return;
	}
	head_draw(top, &l);
	if (top->help) {
		move(2, 0);
		clrtobot();
		help_draw();
	} else if (!top->processes.count) {
		mvaddnstr(3, 0, "No program is under weir here, as far as you may see.", COLS);
		if (LINES > ROWS_LEAST)
			mvaddnstr(4, 0, "Start one: weir run --limit 256M -- PROGRAM", COLS);
	} else {
		scroll_to(top, (unsigned)rows);
		for (int i = 0; i < rows && top->first + (unsigned)i < top->processes.count; i++)
			row_draw(top, &l, &top->processes.at[top->first + (unsigned)i], 3 + i);
	}
	foot_draw(top);
	refresh();
}
