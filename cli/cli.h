/* SPDX-License-Identifier: BSD-2-Clause */
/* The command: one function a subcommand, all with the arguments after its name. */
#ifndef WEIR_CLI_CLI_H
#define WEIR_CLI_CLI_H

#include <stdbool.h>

/* Exit statuses as in env(1). */
enum { EXIT_WEIR = 125, EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127 };

int cli_run(int argc, char **argv);
int cli_probe(int argc, char **argv);
int cli_stress(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_cmdq(int argc, char **argv);
int cli_stat(int argc, char **argv);
int cli_top(int argc, char **argv);
int cli_setup(int argc, char **argv);
/* What `weir stat` shows of all programs. An exit status. */
int stat_list(void);
int cli_set(int argc, char **argv);
int cli_reclaim(int argc, char **argv);
int cli_online(int argc, char **argv);
int cli_offline(int argc, char **argv);
int bench_charge(int argc, char **argv);
int bench_cmdq(int argc, char **argv);
int bench_fault(int argc, char **argv);
int bench_kmap(int argc, char **argv);
int bench_paging(int argc, char **argv);
int bench_pool(int argc, char **argv);

/*
 * Looks a program up as execvp(3) would, and tells whether the agent can be loaded into it. Returns 0 and the path, or an
 * exit status, after a message.
 */
int program_check(const char *name, char *path, unsigned long room);

#endif
