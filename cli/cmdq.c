/* SPDX-License-Identifier: BSD-2-Clause */
/* weir cmdq: assemble, disassemble, check and simulate command packets. */
#include "cmdq.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli.h"

static const char usage[] =
	"Usage: weir cmdq as --soc NAME [--hex] [--base ADDRESS] [-o FILE] FILE\n"
	"       weir cmdq dis --soc NAME [--binary | --pairs | --log] [--list] FILE\n"
	"       weir cmdq check --soc NAME [--binary | --pairs | --log] [--base ADDRESS] FILE\n"
	"       weir cmdq run --soc NAME [OPTION...] FILE\n"
	"       weir cmdq soc [NAME]\n"
	"       weir cmdq commands\n"
	"\n"
	"Command packets of MediaTek's Global Command Engine, and of weir's own mover.\n"
	"\n"
	"  as        assemble text; writes binary\n"
	"  dis       disassemble; what it writes can be assembled again\n"
	"  check     look for defects: one line for each, with its place and reason\n"
	"  run       simulate, and print what has changed; `weir cmdq run --help`\n"
	"  soc       the platforms there are; of one, its windows of registers and its events\n"
	"  commands  how commands are written, and what they do\n"
	"\n"
	"FILE is - for standard input. dis reads words of 16 hexadecimal digits, one a line, "
	"unless\n"
	"told otherwise; check reads these or assembler text, whichever it finds.\n"
	"\n"
	"  --soc NAME      the platform; `weir cmdq soc` lists them\n"
	"  --binary        FILE is binary: 8 bytes a command, little-endian\n"
	"  --pairs         FILE has 32-bit words in memory order, the low half first\n"
	"  --log           FILE is a kernel log: the words are taken out of its lines\n"
	"  --base ADDRESS  where the packet will lie, for absolute jumps\n"
	"  --hex           write words of 16 digits, one a line\n"
	"  --list          with the offset and the word behind each line\n"
	"  -o FILE         write to FILE, not to standard output\n"
	"\n"
	"Exits with 0; 1 where check found a defect; 2 for bad input, or output that cannot be\n"
	"written; 125 for wrong options. With 2 for bad input and 125 nothing has been written.\n";

/* --- options --- */

const char *cmdq_argument(const struct cmdq_options *options, int argc, char **argv, int *i)
{
	if (*i + 1 < argc)
		return argv[++*i];
	log_line("cmdq %s: %s needs an argument; see `weir cmdq --help`", options->command,
		 argv[*i]);
	return NULL;
}

bool cmdq_number(const struct cmdq_options *options, const char *option, const char *text,
		 uint64_t most, uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 0);
	if (*text >= '0' && *text <= '9' && !*end && !errno && *number <= most)
		return true;
	log_line("cmdq %s: %s '%s': expected a number, 0 to 0x%llx", options->command, option, text,
		 (unsigned long long)most);
	return false;
}

static int take_soc(struct cmdq_options *options, const char *name)
{
	char names[128] = "";

	if (!name)
		return -1;
	options->profile = cmdq_profile_find(name);
	if (options->profile)
		return 1;
	for (unsigned i = 0; cmdq_profile_at(i); i++) {
		const size_t used = strlen(names);

		snprintf(names + used, sizeof(names) - used, " %s",
			 cmdq_profile_name(cmdq_profile_at(i)));
	}
	log_line("cmdq %s: no platform '%s'; expected one of:%s", options->command, name, names);
	return -1;
}

static int take_base(struct cmdq_options *options, const char *text)
{
	if (!text || !cmdq_number(options, "--base", text, UINT64_MAX - 1, &options->base))
		return -1;
	if (options->base % 8) {
		log_line("cmdq %s: --base %s is no multiple of 8, as a packet's address is",
			 options->command, text);
		return -1;
	}
	return 1;
}

static int take_file(struct cmdq_options *options, const char *file)
{
	if (options->file) {
		log_line("cmdq %s: '%s' and '%s': expected one file", options->command,
			 options->file, file);
		return -1;
	}
	options->file = file;
	return 1;
}

static int take_format(struct cmdq_options *options, enum input_format format)
{
	if (options->format_given && options->format != format) {
		log_line("cmdq %s: expected one of --binary, --pairs and --log", options->command);
		return -1;
	}
	options->format_given = true;
	options->format = format;
	return 1;
}

int cmdq_option(struct cmdq_options *options, int argc, char **argv, int *i)
{
	const char *arg = argv[*i];

	if (!strcmp(arg, "--soc"))
		return take_soc(options, cmdq_argument(options, argc, argv, i));
	if (!strncmp(arg, "--soc=", 6))
		return take_soc(options, arg + 6);
	if (!strcmp(arg, "--base"))
		return take_base(options, cmdq_argument(options, argc, argv, i));
	if (!strncmp(arg, "--base=", 7))
		return take_base(options, arg + 7);
	if (!strcmp(arg, "--binary"))
		return take_format(options, INPUT_BINARY);
	if (!strcmp(arg, "--pairs"))
		return take_format(options, INPUT_PAIRS);
	if (!strcmp(arg, "--log"))
		return take_format(options, INPUT_LOG);
	if (arg[0] != '-' || !arg[1])
		return take_file(options, arg);
	return 0;
}

bool cmdq_options_complete(const struct cmdq_options *options)
{
	if (!options->profile)
		log_line("cmdq %s: which platform? --soc NAME, where `weir cmdq soc` lists the "
			 "names",
			 options->command);
	else if (!options->file)
		log_line("cmdq %s: no file; - is standard input", options->command);
	else
		return true;
	return false;
}

static int parse(struct cmdq_options *options, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const bool as = !strcmp(options->command, "as");
		int taken = cmdq_option(options, argc, argv, &i);

		if (taken < 0)
			return -EINVAL;
		if (taken)
			continue;
		if (as && !strcmp(argv[i], "--hex")) {
			options->hex = true;
		} else if (as && !strcmp(argv[i], "-o")) {
			options->output = cmdq_argument(options, argc, argv, &i);
			if (!options->output)
				return -EINVAL;
		} else if (!strcmp(options->command, "dis") && !strcmp(argv[i], "--list")) {
			options->listing = true;
		} else {
			log_line("cmdq %s: no option '%s'; see `weir cmdq --help`",
				 options->command, argv[i]);
			return -EINVAL;
		}
	}
	if (!strcmp(options->command, "as") && options->format_given) {
		log_line("cmdq as: reads text; --binary, --pairs and --log are for dis and check");
		return -EINVAL;
	}
	return cmdq_options_complete(options) ? 0 : -EINVAL;
}

/* --- files --- */

void cmdq_complain(void *data, unsigned line, unsigned column, const char *message)
{
	const struct cmdq_options *options = data;

	if (column)
		fprintf(stderr, "%s:%u:%u: %s\n", options->file, line, column, message);
	else
		fprintf(stderr, "%s:%u: %s\n", options->file, line, message);
}

static char *read_all(FILE *file, size_t *length)
{
	size_t room = 1 << 16;
	char *text = malloc(room);

	*length = 0;
	while (text) {
		char *more;

		*length += fread(text + *length, 1, room - *length, file);
		if (ferror(file))
			break;
		if (*length < room)
			return text;
		room *= 2;
		more = realloc(text, room);
		if (!more) {
			errno = ENOMEM;
			break;
		}
		text = more;
	}
	free(text);
	return NULL;
}

static char *read_file(const char *name, size_t *length)
{
	char *text = NULL;
	FILE *file;

	if (!strcmp(name, "-")) {
		text = read_all(stdin, length);
	} else {
		file = fopen(name, "rb");
		if (file) {
			text = read_all(file, length);
			fclose(file); // NOLINT(bugprone-unused-return-value): it was read from
		}
	}
	if (!text)
		log_line("cmdq: %s: %s", name, strerror(errno));
	return text;
}

bool cmdq_load(const struct cmdq_options *options, struct program *program)
{
	enum input_format format = options->format;
	void *data = (void *)options;
	bool assemble = !strcmp(options->command, "as");
	size_t length;
	char *text = read_file(options->file, &length);
	int err;

	if (!text)
		return false;
	if (!options->format_given) {
		format = INPUT_HEX;
		if (strcmp(options->command, "dis") != 0)
			assemble = assemble || !input_looks_hex(text, length);
	}
	if (assemble)
		err = asm_program(options->profile, options->base, text, length, program,
				  cmdq_complain, data);
	else
		err = input_read(format, text, length, program, cmdq_complain, data);
	if (err == -ENOMEM)
		log_line("cmdq %s: out of memory", options->command);
	free(text);
	return !err;
}

int cmdq_flush(void)
{
	if (!fflush(stdout) && !ferror(stdout))
		return 0;
	log_line("cmdq: standard output: %s", strerror(errno));
	return EXIT_INPUT;
}

/* --- as --- */

static void write_words(const struct cmdq_options *options, const struct program *program,
			FILE *file)
{
	/* weir is built for little-endian machines only. */
	if (!options->hex)
		fwrite(program->words, CMDQ_INST_SIZE, program->count, file);
	for (size_t i = 0; options->hex && i < program->count; i++)
		fprintf(file, "%016llx\n", (unsigned long long)program->words[i]);
}

static int write_file(const struct cmdq_options *options, const struct program *program)
{
	FILE *file = fopen(options->output, "wb");
	bool failed;

	if (!file) {
		log_line("cmdq as: %s: %s", options->output, strerror(errno));
		return EXIT_INPUT;
	}
	write_words(options, program, file);
	failed = ferror(file);
	if (!fclose(file) && !failed)
		return 0;
	log_line("cmdq as: %s: %s; what is there is not whole", options->output, strerror(errno));
	return EXIT_INPUT;
}

static int cmdq_as(struct cmdq_options *options)
{
	struct program program = {0};
	int status = EXIT_INPUT;

	if (cmdq_load(options, &program)) {
		if (options->output) {
			status = write_file(options, &program);
		} else {
			write_words(options, &program, stdout);
			status = cmdq_flush();
		}
	}
	program_free(&program);
	return status;
}

/* --- dis --- */

static void write_text(const struct cmdq_options *options, const struct program *program)
{
	static char text[1 << 16];
	size_t used = 0;

	for (size_t i = 0; i < program->count; i++) {
		if (sizeof(text) - used < CMDQ_LISTING_MAX + 1) {
			fwrite(text, 1, used, stdout);
			used = 0;
		}
		used += options->listing
				? text_listing(options->profile, i, program->words[i], text + used)
				: text_word(options->profile, program->words[i], text + used);
		text[used++] = '\n';
	}
	fwrite(text, 1, used, stdout);
}

static int cmdq_dis(struct cmdq_options *options)
{
	struct program program = {0};
	int status = EXIT_INPUT;

	if (cmdq_load(options, &program)) {
		write_text(options, &program);
		status = cmdq_flush();
	}
	program_free(&program);
	return status;
}

/* --- check --- */

static void report_defect(void *data, unsigned line, unsigned column, const char *message)
{
	const struct cmdq_options *options = data;

	(void)column;
	printf("%s:%u: %s\n", options->file, line, message);
}

static int cmdq_check(struct cmdq_options *options)
{
	struct program program = {0};
	int status = EXIT_INPUT;

	if (cmdq_load(options, &program)) {
		int defects = check_program(options->profile, options->base, &program,
					    report_defect, options);

		if (defects < 0)
			log_line("cmdq check: out of memory");
		else if (!cmdq_flush())
			status = defects ? EXIT_DEFECT : 0;
	}
	program_free(&program);
	return status;
}

/* --- what there is --- */

static void list_profiles(void)
{
	const struct cmdq_profile *profile;

	printf("%-8s %7s %5s %10s\n", "soc", "threads", "shift", "offset");
	for (unsigned i = 0; (profile = cmdq_profile_at(i)); i++)
		printf("%-8s %7u %5u 0x%08llx\n", cmdq_profile_name(profile),
		       cmdq_profile_threads(profile), cmdq_profile_shift(profile),
		       (unsigned long long)cmdq_profile_offset(profile));
}

static int cmdq_soc(int argc, char **argv)
{
	struct cmdq_options options = {.command = "soc"};

	if (argc < 2) {
		list_profiles();
		return cmdq_flush();
	}
	if (argc > 2) {
		log_line("cmdq soc: expected one name");
		return EXIT_WEIR;
	}
	if (take_soc(&options, argv[1]) < 0)
		return EXIT_WEIR;
	for (unsigned id = 0; id < CMDQ_SUBSYS_MAX; id++) {
		if (options.profile->subsys[id].known)
			printf("subsys %2u   0x%04x0000\n", id, options.profile->subsys[id].high);
	}
	for (unsigned event = 0; event < CMDQ_EVENTS; event++) {
		if (cmdq_event_name(options.profile, event))
			printf("event %4u  %s\n", event, cmdq_event_name(options.profile, event));
	}
	return cmdq_flush();
}

static int cmdq_commands(void)
{
	char text[CMDQ_LINE_MAX];

	for (unsigned i = 0; i < FORMS; i++) {
		form_usage((enum cmdq_form_id)i, text, sizeof(text));
		printf("%-48s %s\n", text, cmdq_form_meanings[i]);
	}
	return cmdq_flush();
}

/* --- */

int cli_cmdq(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*main)(struct cmdq_options *options);
	} commands[] = {{"as", cmdq_as}, {"dis", cmdq_dis}, {"check", cmdq_check}};
	struct cmdq_options options = {.base = BASE_UNKNOWN};

	if (argc < 2) {
		log_line("cmdq: as, dis, check, run, soc or commands? See `weir cmdq --help`");
		return EXIT_WEIR;
	}
	if (!strcmp(argv[1], "run"))
		return cmdq_run_main(argc - 1, argv + 1);
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			fputs(usage, stdout);
			return cmdq_flush();
		}
	}
	if (!strcmp(argv[1], "soc"))
		return cmdq_soc(argc - 1, argv + 1);
	if (!strcmp(argv[1], "commands"))
		return cmdq_commands();
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		options.command = commands[i].name;
		if (parse(&options, argc - 1, argv + 1))
			return EXIT_WEIR;
		return commands[i].main(&options);
	}
	log_line("cmdq: no command '%s'; there are as, dis, check, run, soc and commands", argv[1]);
	return EXIT_WEIR;
}
