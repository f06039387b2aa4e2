/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * weir run: checks everything that can be checked, then becomes the program, with the agent loaded into it. There is no
 * process in between: exit status, signals, streams, process group and terminal are the program's own.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/size.h"
#include "cli.h"
#include "config.h"
#include "os/file.h"
#include "os/mem.h"
#include "os/uffd.h"
#include "store/store.h"
#include "weir/weir.h"

enum {
	KEY_STATS = 256,
	KEY_STATS_FILE,
	KEY_STATS_CHILDREN,
	KEY_STORE,
	KEY_HIGH,
	KEY_CONTAINER,
	KEY_COMPRESSED,
	KEY_COMPRESS,
	KEY_HANDLERS,
	KEY_NO_BIND,
	KEY_PLACEMENT,
	KEY_CHURN,
	KEY_KMAP,
	KEY_TRACE
};

static const struct argp_option options[] = {
	{"limit", 'l', "SIZE", 0,
	 "memory that each process may use for its heap, compressed pages included: 64M, 1.5G, or "
	 "50% of the machine's",
	 1},
	{"high", KEY_HIGH, "SIZE", 0,
	 "above this the program moves pages out itself before each page that it gets: a size, or "
	 "a "
	 "percentage of the limit (default: no such mark)",
	 2},
	{"container", KEY_CONTAINER, "NAME", 0,
	 "a name for what the program has, as `weir stat` shows it and `weir set` takes it: "
	 "nightly, or batch/nightly",
	 2},
	{"store", KEY_STORE, "URI", 0,
	 "where pages go that do not fit when compressed: file:DIR, an unlinked file there "
	 "(default: TMPDIR, "
	 "then /var/tmp; never one in memory), file:NAME?size=8G, a file of that name, or mem:, "
	 "nowhere",
	 2},
	{"compressed", KEY_COMPRESSED, "SIZE", 0,
	 "compressed pages beyond this go to the file: a size, or a percentage of the limit "
	 "(default: 25 to 75%, following what faults cost)",
	 2},
	{"compress", KEY_COMPRESS, "CODEC", 0,
	 "what cold pages are compressed with: lz4 (default), or zstd, or zstd:LEVEL, 1 to 10 "
	 "(default 3): smaller, but several times slower",
	 2},
	{"handlers", KEY_HANDLERS, "N", 0,
	 "threads that serve faults, 1 to 16 (default: one a CPU, 2 to 4)", 2},
	{"no-bind", KEY_NO_BIND, NULL, 0,
	 "never bind a thread of the program to the CPU of its handler: --placement=none", 2},
	{"placement", KEY_PLACEMENT, "POLICY", 0,
	 "where handlers run: auto (default), pair (on one CPU with the thread that faulted last, "
	 "which "
	 "is bound), follow (on the CPU of the thread that each serves), none (no affinity is "
	 "touched)",
	 2},
	{"churn", KEY_CHURN, "MS", 0,
	 "for tests: every so many milliseconds take a block of memory that holds compressed pages "
	 "offline, moving them",
	 2},
	{"kmap", KEY_KMAP, "SLOTS", 0,
	 "keep compressed pages in memory that is not mapped, and reach them through so many "
	 "windows of 64 KiB: a power of two, 4 at least (default: everything is mapped, which is "
	 "faster)",
	 2},
	{"stats", KEY_STATS, "FORM", OPTION_ARG_OPTIONAL,
	 "print a table at the end, or one line of JSON: --stats=json", 3},
	{"stats-file", KEY_STATS_FILE, "FILE", 0, "append the statistics to a file instead", 3},
	{"stats-children", KEY_STATS_CHILDREN, NULL, 0,
	 "children that the program forks print theirs as well; else only their sum is in the "
	 "program's",
	 3},
	{"trace", KEY_TRACE, "FILE", 0,
	 "write the packets by which pages leave to a file, for `weir cmdq dis --soc weir FILE`",
	 3},
	{0},
};

static const char doc[] = "Runs PROGRAM with its heap held at a limit. Cold pages are compressed, "
			  "or written to an unlinked file, and come "
			  "back when they are touched. The limit is per process: programs that "
			  "PROGRAM starts get the same limit each."
			  "\vThe program is not changed: its exit status, signals and streams are "
			  "its own. weir itself exits with 125 when "
			  "it cannot start the program, 126 when the program cannot be run, 127 "
			  "when it is not found.\n\n"
			  "Permission: root, or the sysctl vm.unprivileged_userfaultfd=1, or "
			  "access to /dev/userfaultfd.";

struct arguments {
	struct config config;
	const char *compressed, *high;
	char **program;
};

static int refuse_size(const char *what, const char *text, int err)
{
	if (err == -ERANGE)
		log_line("%s '%s' is too large; give a size such as 64M, 1.5G or 50%%", what, text);
	else
		log_line("%s '%s' is not a size; give one such as 64M, 1.5G or 50%%", what, text);
	exit(EXIT_WEIR);
}

static void limit_set(struct arguments *a, const char *text)
{
	int err = size_parse(text, mem_machine(), &a->config.limit);
	char least[SIZE_TEXT];

	if (!err && a->config.limit > INT64_MAX)
		err = -ERANGE;
	if (err)
		refuse_size("limit", text, err);
	if (a->config.limit < WEIR_LIMIT_MIN) {
		log_line("limit '%s' is too small, the least is %s; give one such as 64M, 1.5G or "
			 "50%%",
			 text, size_print(WEIR_LIMIT_MIN, least));
		exit(EXIT_WEIR);
	}
}

static _Noreturn void store_refuse(const char *text, const char *why)
{
	log_line("store %s: %s", text, why);
	exit(EXIT_WEIR);
}

/* The program may change its folder: an absolute path, of a file that perhaps is not there yet. */
static void store_absolute(struct arguments *a, const char *text, const struct store *store)
{
	const char *name = store->late ? NULL : strrchr(store->place, '/');
	const char *rest = strchrnul(text, '?');
	char folder[STORE_PLACE_MAX], path[PATH_MAX];
	int n;

	if (store->late)
		strcpy(folder, store->place);
	else if (name)
		snprintf(folder, sizeof(folder), "%.*s/", (int)(name - store->place), store->place);
	else
		strcpy(folder, ".");
	if (!realpath(folder, path))
		store_refuse(text, "no such folder; give one that is there");
	n = snprintf(a->config.store, sizeof(a->config.store), "file:%s%s%s%s", path,
		     store->late ? "" : "/",
		     store->late ? ""
		     : name	 ? name + 1
				 : store->place,
		     rest);
	if (n < 0 || (size_t)n >= sizeof(a->config.store))
		store_refuse(text, "its path is too long; give another folder");
}

/* A file is made when the first page must go there, or when the program has started: too late to refuse. So it is tried here. */
static void store_set(struct arguments *a, const char *text)
{
	static struct store store;
	struct file file;
	int err = store_init(&store, text, NULL);

	if (err == -ENOSYS)
		store_refuse(text, "this weir has no module for such stores; give a folder on a "
				   "disk, such as file:/var/tmp, or mem:");
	if (err == -EINVAL && !strncmp(text, "file:", 5) && text[5])
		store_refuse(text, "there is no such folder; give one, such as file:/var/tmp, or "
				   "the size of a "
				   "file of that name, such as file:/var/tmp/cold?size=8G");
	if (err)
		store_refuse(text, "is none; give a folder on a disk, such as file:/var/tmp, a "
				   "file, such as "
				   "file:/var/tmp/cold?size=8G, or mem:");
	if (!store_there(&store)) {
		strcpy(a->config.store, "mem:");
		return;
	}
	err = store.late ? file_temp_open(&file, store.place) : file_named_open(&file, store.place);
	if (err == -EOPNOTSUPP)
		store_refuse(text,
			     "lies in memory; give a folder on a disk, such as file:/var/tmp");
	if (err == -EEXIST)
		store_refuse(text,
			     "is there, and weir has not made it; give another name, or remove it");
	if (err == -EBUSY)
		store_refuse(text, "another process uses it; give another name");
	if (err) {
		log_line("store %s: no file can be made there (%s); give a folder on a disk that "
			 "you may write to, such as file:/var/tmp",
			 text, errno_name(err));
		exit(EXIT_WEIR);
	}
	file_close(&file);
	store_absolute(a, text, &store);
}

/* A file that the agent appends to, and what it is, for messages. */
static void file_set(char path[static 4096], const char *given, const char *what, int how)
{
	enum { ROOM = 4096 };
	int fd = open(given, O_WRONLY | O_CREAT | O_CLOEXEC | how, 0666);

	/* Absolute, since the program may change its folder. */
	if (fd < 0 || (given[0] != '/' && !getcwd(path, ROOM - 1)) ||
	    strlen(path) + strlen(given) + 2 > ROOM) {
		log_line("%s %s: %s; give a file that you may write to", what, given,
			 errno_name(errno));
		exit(EXIT_WEIR);
	}
	close(fd);
	if (given[0] == '/')
		path[0] = '\0';
	else
		strcat(path, "/");
	strcat(path, given);
}

/* Names between slashes, as weir_container_create takes them. */
static void container_set(struct arguments *a, const char *path)
{
	bool right = *path && strlen(path) < sizeof(a->config.container);
	unsigned depth = 0;

	for (const char *at = path; right && *at; at += *at == '/') {
		const size_t len = strcspn(at, "/");

		right = len && len <= WEIR_NAME_MAX && !(len == 1 && *at == '.') &&
			!(len == 2 && !memcmp(at, "..", 2)) && ++depth < WEIR_DEPTH_MAX;
		for (size_t i = 0; i < len; i++)
			right &= (unsigned char)at[i] >= ' ' && at[i] != 0x7f;
		at += len;
	}
	if (!right) {
		log_line("container '%s' is no name; give one such as nightly or batch/nightly",
			 path);
		exit(EXIT_WEIR);
	}
	strcpy(a->config.container, path);
}

static unsigned number_of(const char *what, const char *text, unsigned long most)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || n < 1 || n > most) {
		log_line("'%s' %s; give a number from 1 to %lu", text, what, most);
		exit(EXIT_WEIR);
	}
	return (unsigned)n;
}

static void kmap_set(struct arguments *a, const char *text)
{
	const unsigned slots = number_of("windows", text, WEIR_KMAP_SLOTS_MOST);

	if (slots < 4 || slots & (slots - 1)) {
		log_line("windows '%s' are no power of two from 4 on; give one such as 4, 64 or "
			 "512",
			 text);
		exit(EXIT_WEIR);
	}
	a->config.kmap_slots = slots;
}

static void placement_set(struct arguments *a, const char *name)
{
	static const char *const names[] = {
		[WEIR_PLACEMENT_AUTO] = "auto",
		[WEIR_PLACEMENT_NONE] = "none",
		[WEIR_PLACEMENT_PAIR] = "pair",
		[WEIR_PLACEMENT_FOLLOW] = "follow",
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(name, names[i])) {
			a->config.placement = i;
			return;
		}
	}
	log_line("no placement '%s'; there are auto, pair, follow and none", name);
	exit(EXIT_WEIR);
}

static void compress_set(struct arguments *a, const char *text)
{
	unsigned level;
	int err = object_codec_parse(text, &level);

	if (err == -ERANGE)
		log_line("compression '%s': no such level; give zstd:1 to zstd:%d", text,
			 ZSTD_LEVEL_LAST);
	else if (err == -ENOTSUP)
		log_line("compression '%s': this libzstd needs more memory than weir has for it; "
			 "use lz4, or build weir with a libzstd that it knows",
			 text);
	else if (err || strlen(text) >= sizeof(a->config.compress))
		log_line("no compression '%s'; there are lz4, zstd and zstd:LEVEL", text);
	else {
		strcpy(a->config.compress, text);
		return;
	}
	exit(EXIT_WEIR);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'l':
		limit_set(a, arg);
		return 0;
	case KEY_STATS:
		if (arg && strcmp(arg, "json") && strcmp(arg, "table")) {
			log_line("no form '%s' of statistics; there are --stats and --stats=json",
				 arg);
			exit(EXIT_WEIR);
		}
		a->config.stats = arg && !strcmp(arg, "json") ? STATS_JSON : STATS_TABLE;
		return 0;
	case KEY_STATS_FILE:
		file_set(a->config.stats_file, arg, "statistics file", O_APPEND);
		if (a->config.stats == STATS_NONE)
			a->config.stats = STATS_TABLE;
		return 0;
	case KEY_STATS_CHILDREN:
		a->config.stats_children = true;
		if (a->config.stats == STATS_NONE)
			a->config.stats = STATS_TABLE;
		return 0;
	case KEY_STORE:
		store_set(a, arg);
		return 0;
	case KEY_HIGH:
		a->high = arg;
		return 0;
	case KEY_CONTAINER:
		container_set(a, arg);
		return 0;
	case KEY_COMPRESSED:
		a->compressed = arg;
		return 0;
	case KEY_COMPRESS:
		compress_set(a, arg);
		return 0;
	case KEY_HANDLERS:
		a->config.handlers = number_of("handlers", arg, 16);
		return 0;
	case KEY_NO_BIND:
		a->config.placement = WEIR_PLACEMENT_NONE;
		return 0;
	case KEY_PLACEMENT:
		placement_set(a, arg);
		return 0;
	case KEY_CHURN:
		a->config.churn_ms = number_of("milliseconds", arg, 3600000);
		return 0;
	case KEY_KMAP:
		kmap_set(a, arg);
		return 0;
	case KEY_TRACE:
		file_set(a->config.trace, arg, "trace", O_TRUNC);
		return 0;
	case ARGP_KEY_ARG:
		a->program = state->argv + state->next - 1;
		state->next = state->argc;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Beside the command in the build, or where it was installed. */
static int agent_find(char *path, size_t room)
{
	static const char *const places[] = {"../agent", "../lib/weir",
					     "../lib/x86_64-linux-gnu/weir",
					     "../lib/aarch64-linux-gnu/weir", "../lib64/weir"};
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (len > 0) {
		self[len] = '\0';
		slash = strrchr(self, '/');
		*slash = '\0';
		for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
			char candidate[PATH_MAX * 2];

			snprintf(candidate, sizeof(candidate), "%s/%s/libweir-agent.so", self,
				 places[i]);
			if (access(candidate, R_OK) == 0 && realpath(candidate, path))
				return 0;
		}
	}
	snprintf(path, room, "%s/libweir-agent.so", WEIR_LIBDIR);
	return access(path, R_OK) ? -errno : 0;
}

static void permission_check(void)
{
	uint64_t features;
	int err = uffd_probe(&features);

	if (err)
		log_line("userfaultfd: %s", uffd_advice(err));
	else if (!(features & UFFD_HAS_WRITEPROTECT) || !(features & UFFD_HAS_THREAD_ID))
		log_line("userfaultfd cannot write-protect here; Linux 5.9 or later is needed");
	else
		return;
	exit(EXIT_WEIR);
}

static int preload_set(struct arguments *a)
{
	const char *before = getenv("LD_PRELOAD");
	char agent[PATH_MAX], text[PATH_MAX * 4], *configuration;
	const size_t room = 4 * PATH_MAX;
	int err = agent_find(agent, sizeof(agent));

	if (err) {
		log_line("the agent is missing (%s: %s); build or install weir again", agent,
			 errno_name(err));
		return EXIT_WEIR;
	}
	if (strpbrk(agent, " :")) {
		log_line("the agent's path '%s' has a space or a colon, which the loader takes for "
			 "a separator; move "
			 "weir elsewhere",
			 agent);
		return EXIT_WEIR;
	}
	strcpy(a->config.preload, agent);
	configuration = malloc(room);
	snprintf(text, sizeof(text), "%s%s%s", agent, before && *before ? ":" : "",
		 before ? before : "");
	if (!configuration || config_format(&a->config, configuration, room) ||
	    setenv(CONFIG_VARIABLE, configuration, 1) || setenv("LD_PRELOAD", text, 1)) {
		log_line("the environment has no room for weir's settings; give shorter paths");
		return EXIT_WEIR;
	}
	free(configuration);
	return 0;
}

int cli_run(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "[--] PROGRAM [ARGUMENT...]", doc, NULL,
					 NULL,	  NULL};
	static struct arguments a;
	char path[PATH_MAX];
	int err, status;

	argp_err_exit_status = EXIT_WEIR;
	argv[0] = "weir";
	err = argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &a);
	if (err)
		return EXIT_WEIR;
	if (!a.config.limit) {
		log_line("no limit; give one such as --limit 256M");
		return EXIT_WEIR;
	}
	if (!a.program) {
		log_line("no program; write it behind the options: weir run --limit 256M -- "
			 "PROGRAM");
		return EXIT_WEIR;
	}
	err = a.compressed ? size_parse(a.compressed, a.config.limit, &a.config.compressed_share)
			   : 0;
	if (err)
		return refuse_size("the share of compressed pages", a.compressed, err);
	if (a.compressed &&
	    (!a.config.compressed_share || a.config.compressed_share > a.config.limit)) {
		log_line("the share of compressed pages '%s' is nothing, or more than the limit; "
			 "give "
			 "a part of it, such as 75%%",
			 a.compressed);
		return EXIT_WEIR;
	}
	err = a.high ? size_parse(a.high, a.config.limit, &a.config.high) : 0;
	if (err)
		return refuse_size("high", a.high, err);
	if (a.high && (!a.config.high || a.config.high > a.config.limit)) {
		log_line("high '%s' is nothing, or more than the limit; give a part of it, such as "
			 "90%%",
			 a.high);
		return EXIT_WEIR;
	}
	status = program_check(a.program[0], path, sizeof(path));
	if (status)
		return status;
	permission_check();
	status = preload_set(&a);
	if (status)
		return status;
	execvp(a.program[0], a.program);
	log_line("%s: %s", a.program[0], errno_name(errno));
	return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}
