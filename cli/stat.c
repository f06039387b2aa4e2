/* SPDX-License-Identifier: BSD-2-Clause */
/* weir stat: what programs under weir publish, as a table, as JSON, or for Prometheus. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/size.h"
#include "cli.h"
#include "out.h"
#include "process.h"

typedef unsigned long long ull;

enum form { TEXT, JSON, PROMETHEUS };
enum { KEY_JSON = 256, KEY_PROMETHEUS };

static const struct argp_option options[] = {
	{"json", KEY_JSON, NULL, 0, "print JSON: an object of the process, or an array of all", 1},
	{"prometheus", KEY_PROMETHEUS, NULL, 0, "print Prometheus' text format", 1},
	{0},
};

static const char doc[] =
	"Shows what programs under weir do: all that you may see, or one in detail."
	"\vRoot sees everybody's, others their own. Exits with 0, 1 where there is no such program "
	"or "
	"it may not be seen, 125 for a wrong option.";

struct arguments {
	enum form form;
	pid_t pid;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case KEY_JSON:
		a->form = JSON;
		return 0;
	case KEY_PROMETHEUS:
		a->form = PROMETHEUS;
		return 0;
	case ARGP_KEY_ARG:
		if (a->pid) {
			log_line("stat: one process at a time, or none for all of them");
			exit(EXIT_WEIR);
		}
		a->pid = pid_parse(arg);
		if (!a->pid)
			exit(EXIT_WEIR);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* --- tables --- */

static const uint64_t *root_of(const struct process *process)
{
	return process->seen->container[0].value;
}

static char *limit_print(uint64_t bytes, char text[static SIZE_TEXT])
{
	return bytes == WEIR_NO_LIMIT ? strcpy(text, "max") : size_print(bytes, text);
}

static const char *path_of(const struct weir_segment_container *container)
{
	return *container->path ? container->path : "/";
}

static void list_print(const struct processes *processes)
{
	printf("%8s %-16s %8s %8s %8s %10s %8s %12s %8s\n", "PID", "PROGRAM", "LIMIT", "USED",
	       "RESIDENT", "COMPRESSED", "STORED", "FAULTS", "PRESSURE");
	for (unsigned i = 0; i < processes->count; i++) {
		const struct process *p = &processes->at[i];
		const uint64_t *v = p->seen ? p->seen->value : NULL;
		char text[5][SIZE_TEXT];
		uint64_t share;

		if (!v) {
			printf("%8d %-16.16s %s\n", (int)p->pid, p->program,
			       p->state == PROCESS_BUSY ? "is watched by too many"
							: "does not answer: stopped?");
			continue;
		}
		share = root_of(p)[WEIR_SEGMENT_CONTAINER_pressure_some_avg10];
		printf("%8d %-16.16s %8s %8s %8s %10s %8s %12llu %5llu.%02llu%%\n", (int)p->pid,
		       p->program, size_print(v[WEIR_SEGMENT_limit_bytes], text[0]),
		       size_print(v[WEIR_SEGMENT_managed_bytes], text[1]),
		       size_print(v[WEIR_SEGMENT_resident_bytes], text[2]),
		       size_print(v[WEIR_SEGMENT_compressed_bytes], text[3]),
		       size_print(v[WEIR_SEGMENT_stored_bytes], text[4]),
		       (ull)v[WEIR_SEGMENT_faults], (ull)(share / 100), (ull)(share % 100));
	}
}

static void number_print(const char *name, enum segment_kind kind, uint64_t n, const char *help)
{
	char text[32];
	int column = 0;

	switch (kind) {
	case SEGMENT_COUNT:
		snprintf(text, sizeof(text), "%llu", (ull)n);
		break;
	case SEGMENT_NS:
		snprintf(text, sizeof(text), "%llu.%03llu us", (ull)(n / 1000), (ull)(n % 1000));
		break;
	case SEGMENT_US:
		snprintf(text, sizeof(text), "%llu.%03llu s", (ull)(n / 1000000),
			 (ull)(n / 1000 % 1000));
		break;
	case SEGMENT_SHARE:
		snprintf(text, sizeof(text), "%llu.%02llu%%", (ull)(n / 100), (ull)(n % 100));
		break;
	default:
		limit_print(n, text);
		break;
	}
	printf("  ");
	/* Without its unit, which stands behind the number. */
	for (const char *c = name; *c && strcmp(c, "_bytes") && strcmp(c, "_us"); c++, column++)
		putchar(*c == '_' ? ' ' : *c);
	printf("%*s  %s\n", 38 - column, text, help);
}

static void detail_print(const struct process *process)
{
	const struct seen *s = process->seen;
	const uint64_t ms = (s->now_ns - s->start_ns) / 1000000;

	printf("%s (%d), under weir for %llu.%03llu s\n", process->program, (int)process->pid,
	       (ull)(ms / 1000), (ull)(ms % 1000));
	for (unsigned i = 0; i < WEIR_SEGMENT_VALUE_COUNT; i++)
		number_print(segment_number[i].name, segment_number[i].kind, s->value[i],
			     segment_number[i].help);
	for (unsigned c = 0; c < s->containers; c++) {
		printf("\ncontainer %s\n", path_of(&s->container[c]));
		for (unsigned i = 0; i < WEIR_SEGMENT_CONTAINER_VALUE_COUNT; i++)
			number_print(segment_container_number[i].name,
				     segment_container_number[i].kind, s->container[c].value[i],
				     segment_container_number[i].help);
	}
	if (s->more)
		printf("\nand %u containers more\n", s->more);
}

/* --- JSON --- */

static void number_json(const struct segment_number *number, uint64_t n)
{
	if (number->kind == SEGMENT_LIMIT && n == WEIR_NO_LIMIT)
		printf(",\"%s\":null", number->name);
	else
		printf(",\"%s\":%llu", number->name, (ull)n);
}

static void process_json(const struct process *process)
{
	static const char *const states[] = {"silent", "ready", "gone", "busy", "foreign"};
	const struct seen *s = process->seen;

	printf("{\"pid\":%d,\"uid\":%u,\"program\":", (int)process->pid, process->uid);
	json_string(stdout, process->program);
	if (!s) {
		printf(",\"state\":\"%s\"}", states[process->state]);
		return;
	}
	const uint64_t ms = (s->now_ns - s->start_ns) / 1000000;

	printf(",\"uptime_s\":%llu.%03llu", (ull)(ms / 1000), (ull)(ms % 1000));
	for (unsigned i = 0; i < WEIR_SEGMENT_VALUE_COUNT; i++) {
		if (segment_number[i].kind != SEGMENT_NS)
			number_json(&segment_number[i], s->value[i]);
	}
	printf(",\"fault_ns\":{\"p50\":%llu,\"p90\":%llu,\"p99\":%llu,\"max\":%llu,\"sum\":%llu}",
	       (ull)s->value[WEIR_SEGMENT_fault_ns_p50], (ull)s->value[WEIR_SEGMENT_fault_ns_p90],
	       (ull)s->value[WEIR_SEGMENT_fault_ns_p99], (ull)s->value[WEIR_SEGMENT_fault_ns_max],
	       (ull)s->value[WEIR_SEGMENT_fault_ns_sum]);
	printf(",\"containers\":[");
	for (unsigned c = 0; c < s->containers; c++) {
		printf("%s{\"path\":", c ? "," : "");
		json_string(stdout, path_of(&s->container[c]));
		for (unsigned i = 0; i < WEIR_SEGMENT_CONTAINER_VALUE_COUNT; i++)
			number_json(&segment_container_number[i], s->container[c].value[i]);
		putchar('}');
	}
	printf("],\"containers_left_out\":%u}", s->more);
}

static void all_json(const struct processes *processes)
{
	putchar('[');
	for (unsigned i = 0; i < processes->count; i++) {
		if (i)
			putchar(',');
		process_json(&processes->at[i]);
	}
	puts("]");
}

/* --- Prometheus --- */

static bool is_counter(enum segment_kind kind)
{
	return kind == SEGMENT_COUNT || kind == SEGMENT_BYTES || kind == SEGMENT_US;
}

/* weir_faults_total, weir_container_pressure_some_seconds_total: units are bytes and seconds, shares are of 1. */
static void metric_name(const char *prefix, const struct segment_number *number)
{
	const char *name = number->name;
	int len = (int)strlen(name);

	if (number->kind == SEGMENT_US)
		printf("%s%.*s_seconds_total", prefix, len - 3, name);
	else if (number->kind == SEGMENT_SHARE)
		printf("%s%s_ratio", prefix, name);
	else
		printf("%s%s%s", prefix, name, is_counter(number->kind) ? "_total" : "");
}

static void labels_print(const struct process *process, const char *container, const char *quantile)
{
	printf("{pid=\"%d\",program=", (int)process->pid);
	label_value(stdout, process->program);
	if (container) {
		printf(",container=");
		label_value(stdout, container);
	}
	if (quantile)
		printf(",quantile=\"%s\"", quantile);
	printf("} ");
}

static void seconds_print(uint64_t n, unsigned digits)
{
	uint64_t unit = 1;

	for (unsigned i = 0; i < digits; i++)
		unit *= 10;
	printf("%llu.%0*llu\n", (ull)(n / unit), (int)digits, (ull)(n % unit));
}

static void sample_print(const struct segment_number *number, uint64_t n)
{
	if (number->kind == SEGMENT_US)
		seconds_print(n, 6);
	else if (number->kind == SEGMENT_SHARE)
		seconds_print(n, 4);
	else if (number->kind == SEGMENT_LIMIT && n == WEIR_NO_LIMIT)
		puts("+Inf");
	else
		printf("%llu\n", (ull)n);
}

static void metric_head(const char *prefix, const struct segment_number *number)
{
	printf("# HELP ");
	metric_name(prefix, number);
	printf(" %s\n# TYPE ", number->help);
	metric_name(prefix, number);
	puts(is_counter(number->kind) ? " counter" : " gauge");
}

static void metric_print(const struct processes *processes, unsigned value)
{
	const struct segment_number *number = &segment_number[value];

	metric_head("weir_", number);
	for (unsigned i = 0; i < processes->count; i++) {
		if (!processes->at[i].seen)
			continue;
		metric_name("weir_", number);
		labels_print(&processes->at[i], NULL, NULL);
		sample_print(number, processes->at[i].seen->value[value]);
	}
}

static void container_metric_print(const struct processes *processes, unsigned value)
{
	static const char prefix[] = "weir_container_";
	const struct segment_number *number = &segment_container_number[value];

	metric_head(prefix, number);
	for (unsigned i = 0; i < processes->count; i++) {
		const struct seen *s = processes->at[i].seen;

		for (unsigned c = 0; s && c < s->containers; c++) {
			metric_name(prefix, number);
			labels_print(&processes->at[i], path_of(&s->container[c]), NULL);
			sample_print(number, s->container[c].value[value]);
		}
	}
}

static void fault_metrics_print(const struct processes *processes)
{
	static const struct {
		const char *quantile;
		enum weir_segment_value value;
	} parts[] = {{"0.5", WEIR_SEGMENT_fault_ns_p50},
		     {"0.9", WEIR_SEGMENT_fault_ns_p90},
		     {"0.99", WEIR_SEGMENT_fault_ns_p99},
		     {"1", WEIR_SEGMENT_fault_ns_max}};

	puts("# HELP weir_fault_seconds Time in the handler, from a fault's message to its page.\n"
	     "# TYPE weir_fault_seconds summary");
	for (unsigned i = 0; i < processes->count; i++) {
		const struct process *p = &processes->at[i];

		if (!p->seen)
			continue;
		for (unsigned k = 0; k < ARRAY_SIZE(parts); k++) {
			printf("weir_fault_seconds");
			labels_print(p, NULL, parts[k].quantile);
			seconds_print(p->seen->value[parts[k].value], 9);
		}
		printf("weir_fault_seconds_sum");
		labels_print(p, NULL, NULL);
		seconds_print(p->seen->value[WEIR_SEGMENT_fault_ns_sum], 9);
		printf("weir_fault_seconds_count");
		labels_print(p, NULL, NULL);
		printf("%llu\n", (ull)p->seen->value[WEIR_SEGMENT_faults]);
	}
}

static void prometheus_print(const struct processes *processes)
{
	for (unsigned i = 0; i < WEIR_SEGMENT_VALUE_COUNT; i++) {
		if (segment_number[i].kind != SEGMENT_NS)
			metric_print(processes, i);
	}
	fault_metrics_print(processes);
	for (unsigned i = 0; i < WEIR_SEGMENT_CONTAINER_VALUE_COUNT; i++)
		container_metric_print(processes, i);
}

/* --- --- */

static int by_pid(const void *a, const void *b)
{
	const struct process *left = a, *right = b;

	return (left->pid > right->pid) - (left->pid < right->pid);
}

static int stat_one(const struct arguments *a)
{
	struct processes processes = {.at = NULL};
	struct process *process = processes_one(&processes, a->pid);
	struct processes one = {process, 1};

	if (process && a->form == JSON) {
		process_json(process);
		putchar('\n');
	} else if (process && a->form == PROMETHEUS) {
		prometheus_print(&one);
	} else if (process) {
		detail_print(process);
	}
	processes_close(&processes);
	return process ? 0 : 1;
}

/* What ended while we looked is none of them; what does not answer is said. */
static int stat_all(const struct arguments *a)
{
	struct processes processes = {.at = NULL};
	unsigned kept = 0;
	int err = processes_find(&processes, 0);

	if (err) {
		log_line("/proc/net/unix: %s", errno_name(err));
		return 1;
	}
	processes_wait(&processes, PROCESS_PATIENCE_MS);
	for (unsigned i = 0; i < processes.count; i++) {
		(void)process_read(&processes.at[i]);
		if (processes.at[i].state != PROCESS_GONE &&
		    processes.at[i].state != PROCESS_FOREIGN) {
			struct process moved = processes.at[i];

			processes.at[i] = processes.at[kept];
			processes.at[kept++] = moved;
		}
	}
	struct processes shown = {processes.at, kept};

	qsort(shown.at, shown.count, sizeof(*shown.at), by_pid);
	if (a->form == JSON)
		all_json(&shown);
	else if (a->form == PROMETHEUS)
		prometheus_print(&shown);
	else if (kept)
		list_print(&shown);
	else
		puts("No program is under weir here, as far as you may see; start one by `weir run "
		     "--limit 256M -- PROGRAM`.");
	processes_close(&processes);
	return 0;
}

static int stat_end(int status)
{
	if (!fflush(stdout) && !ferror(stdout))
		return status;
	log_line("standard output: %s", errno_name(errno));
	return 1;
}

int stat_list(void)
{
	return stat_end(stat_all(&(struct arguments){.form = TEXT}));
}

int cli_stat(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "[PID]", doc, NULL, NULL, NULL};
	struct arguments a = {.form = TEXT};

	argp_err_exit_status = EXIT_WEIR;
	argv[0] = "weir stat";
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_WEIR;
	return stat_end(a.pid ? stat_one(&a) : stat_all(&a));
}
