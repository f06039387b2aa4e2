/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli.h"

static const char usage[] =
	"Usage: weir run --limit SIZE [OPTION...] [--] PROGRAM [ARGUMENT...]\n"
	"       weir top [OPTION...]\n"
	"       weir stat [PID] [--json | --prometheus]\n"
	"       weir set PID [CONTAINER:]VALUE=SIZE...\n"
	"       weir reclaim|online|offline PID SIZE\n"
	"       weir setup [GROUP]\n"
	"       weir probe [--json]\n"
	"       weir bench NAME [OPTION...]\n"
	"       weir stress fault MIB BOUNCES [OPTION...]\n"
	"       weir cmdq COMMAND [OPTION...] FILE\n"
	"       weir --help | --version\n"
	"\n"
	"Lets a program finish in a fraction of the memory it needs: cold pages of its heap are\n"
	"compressed, or go to an unlinked file, and come back when they are touched.\n"
	"\n"
	"  run      run a program with its heap held at a limit; `weir run --help` tells more\n"
	"  top      the programs under weir, live\n"
	"  stat     what programs under weir do: all of them, or one in detail\n"
	"  set      change limits of a program while it runs\n"
	"  reclaim  make a program give memory up\n"
	"  online   give a program memory for compressed pages; offline takes it away\n"
	"  setup    how to give a group the permission that `weir run` needs\n"
	"  probe    what this machine and its kernel can do, and what weir does without\n"
	"  bench    measure; `weir bench --help` tells what\n"
	"  stress   show that faults are served right; `weir stress --help` tells how\n"
	"  cmdq     command packets: assemble, disassemble, check; `weir cmdq --help` tells how\n"
	"\n"
	"The manual page weir(1) has more.\n";

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*main)(int argc, char **argv);
	} commands[] = {
		{"run", cli_run},	  {"top", cli_top},	    {"stat", cli_stat},
		{"set", cli_set},	  {"reclaim", cli_reclaim}, {"online", cli_online},
		{"offline", cli_offline}, {"setup", cli_setup},	    {"probe", cli_probe},
		{"bench", cli_bench},	  {"stress", cli_stress},   {"cmdq", cli_cmdq},
	};

	if (argc < 2) {
		log_line("no command; try `weir run --limit 256M -- PROGRAM`, or `weir --help`");
		return EXIT_WEIR;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		fputs(usage, stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("weir " WEIR_VERSION);
		return 0;
	}
	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].main(argc - 1, argv + 1);
	}
	log_line("no command '%s'; `weir --help` lists them", argv[1]);
	return EXIT_WEIR;
}
