/* SPDX-License-Identifier: BSD-2-Clause */
/* weir probe: what this machine has of what weir uses, who may use it, and what weir does without. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/base.h"
#include "base/log.h"
#include "cli.h"
#include "os/mem.h"
#include "os/thread.h"
#include "os/uffd.h"

enum need {
	NEEDED,	  /* weir does not start without */
	SIGNAL,	  /* nor signal mode */
	BETTER,	  /* there is another way */
	NOT_USED, /* known, and not used: why is in the text */
};

static const struct {
	const char *name, *since;
	uint64_t bit;
	enum need need;
	const char *with_, *without;
} features[] = {
	{"write-protect", "5.7", UFFD_HAS_WRITEPROTECT, NEEDED,
	 "a page that was read back stays clean until it is written", "weir does not start"},
	{"thread-id", "4.14", UFFD_HAS_THREAD_ID, NEEDED,
	 "a handler runs on the CPU of the thread that faulted", "thread mode does not start"},
	{"sigbus", "4.14", UFFD_HAS_SIGBUS, SIGNAL, "signal mode: a thread serves its own faults",
	 "no signal mode"},
	{"poison", "6.6", UFFD_HAS_POISON, BETTER,
	 "a page that cannot be read back is SIGBUS for who touches it",
	 "such a page ends the process with a message (thread mode)"},
	{"exact-address", "5.18", UFFD_HAS_EXACT_ADDRESS, NOT_USED, "not used: pages are enough",
	 NULL},
	{"wp-unpopulated", "6.4", UFFD_HAS_WP_UNPOPULATED, NOT_USED,
	 "not used: absent pages fault anyhow", NULL},
	{"wp-async", "6.7", UFFD_HAS_WP_ASYNC, NOT_USED,
	 "not used: a write must be told, since a copy is let go", NULL},
	{"wp-shmem", "5.19", UFFD_HAS_WP_SHMEM, NOT_USED,
	 "not used: regions that are written are private", NULL},
	{"move", "6.8", UFFD_HAS_MOVE, NOT_USED,
	 "not used: dropping many pages by one call costs less", NULL},
	{"missing-shmem", "4.11", UFFD_HAS_MISSING_SHMEM, BETTER, "regions over files",
	 "no regions over files"},
	{"missing-hugetlb", "4.11", UFFD_HAS_MISSING_HUGETLB, NOT_USED,
	 "not used: regions have small pages", NULL},
	{"minor-shmem", "5.14", UFFD_HAS_MINOR_SHMEM, BETTER,
	 "regions over files: they share the pages that are in memory", "no regions over files"},
	{"minor-hugetlb", "5.13", UFFD_HAS_MINOR_HUGETLB, NOT_USED,
	 "not used: regions have small pages", NULL},
	{"event-fork", "4.11", UFFD_HAS_EVENT_FORK, NOT_USED,
	 "not used: before a fork all pages come in", NULL},
	{"event-remap", "4.11", UFFD_HAS_EVENT_REMAP, NOT_USED, "not used: a region is never moved",
	 NULL},
	{"event-remove", "4.11", UFFD_HAS_EVENT_REMOVE, NOT_USED,
	 "not used: a handler that drops pages would wait for itself", NULL},
	{"event-unmap", "4.11", UFFD_HAS_EVENT_UNMAP, NOT_USED,
	 "not used: regions end by weir_region_destroy", NULL},
};

static struct {
	struct utsname system;
	enum uffd_permission permission;
	int err; /* of the probe, as far as the permission goes */
	uint64_t has;
	bool scatter, rseq, scan;
} machine;

static void machine_read(void)
{
	struct mem_dropper dropper;

	(void)uname(&machine.system);
	machine.permission = uffd_permission();
	machine.err = machine.permission >= UFFD_BY_DEVICE ? uffd_probe(&machine.has)
							   : uffd_probe_user(&machine.has);
	mem_dropper_init(&dropper);
	machine.scatter = dropper.scatter;
	mem_dropper_close(&dropper);
	machine.rseq = thread_cpu_word() != NULL;
	machine.scan = uffd_can_scan();
}

static bool thread_mode(void)
{
	const uint64_t needs = UFFD_HAS_WRITEPROTECT | UFFD_HAS_THREAD_ID;

	return machine.permission >= UFFD_BY_DEVICE && (machine.has & needs) == needs;
}

static bool signal_mode(void)
{
	const uint64_t needs = UFFD_HAS_WRITEPROTECT | UFFD_HAS_SIGBUS;

	return machine.permission != UFFD_NOT && (machine.has & needs) == needs;
}

/* --- for people --- */

static void row(const char *name, const char *since, bool has, const char *with_,
		const char *without)
{
	printf("  %-16s %-5s %-4s %s\n", name, since, has ? "yes" : "no",
	       has || !without ? with_ : without);
}

static const char *permission_text(void)
{
	switch (machine.permission) {
	case UFFD_BY_CALL:
		return "all faults (root, CAP_SYS_PTRACE, or vm.unprivileged_userfaultfd=1)";
	case UFFD_BY_DEVICE:
		return "all faults, by /dev/userfaultfd";
	case UFFD_USER_MODE:
		return "faults of user mode only: enough for signal mode. For thread mode set\n"
		       "               vm.unprivileged_userfaultfd=1, or give access to "
		       "/dev/userfaultfd";
	case UFFD_NOT:
		break;
	}
	return uffd_advice(machine.err);
}

static void print_text(void)
{
	printf("machine        Linux %s, %s, %u CPUs, %llu MiB of memory\n", machine.system.release,
	       machine.system.machine, thread_cpu_count(),
	       (unsigned long long)(mem_machine() >> 20));
	printf("permission     %s\n", permission_text());
	printf("weir run       %s\n", thread_mode() ? "works" : "does not work");
	printf("thread mode    %s\n", thread_mode() ? "works" : "does not work");
	printf("signal mode    %s\n", signal_mode() ? "works" : "does not work");
	printf("\n  %-16s %-5s %-4s\n", "userfaultfd", "since", "here");
	for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
		row(features[i].name, features[i].since, machine.has & features[i].bit,
		    features[i].with_, features[i].without);
	printf("\n  %-16s %-5s %-4s\n", "other", "since", "here");
	row("process_madvise", "6.13", machine.scatter,
	    "many scattered pages are dropped by one call",
	    "one call for each run of pages: slower");
	row("rseq", "5.18", machine.rseq, "a thread's CPU is a plain load",
	    "handlers do not follow threads; a single thread is bound all the same");
	row("pagemap-scan", "6.7", machine.scan, "not used: page words know what is dirty", NULL);
}

/* --- for programs --- */

static const char *word(bool value)
{
	return value ? "true" : "false";
}

static void print_json(void)
{
	static const char *const by[] = {"none", "user-mode", "device", "call"};

	printf("{\"kernel\": \"%s\", \"machine\": \"%s\", \"cpus\": %u, \"mem_mib\": %llu, "
	       "\"permission\": \"%s\", \"thread_mode\": %s, \"signal_mode\": %s, \"userfaultfd\": "
	       "{",
	       machine.system.release, machine.system.machine, thread_cpu_count(),
	       (unsigned long long)(mem_machine() >> 20), by[machine.permission],
	       word(thread_mode()), word(signal_mode()));
	for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
		printf("%s\"%s\": {\"here\": %s, \"since\": \"%s\", \"needed\": %s, \"used\": %s}",
		       i ? ", " : "", features[i].name, word(machine.has & features[i].bit),
		       features[i].since, word(features[i].need == NEEDED),
		       word(features[i].need != NOT_USED));
	printf("}, \"process_madvise\": %s, \"rseq\": %s, \"pagemap_scan\": %s}\n",
	       word(machine.scatter), word(machine.rseq), word(machine.scan));
}

int cli_probe(int argc, char **argv)
{
	bool json = argc == 2 && !strcmp(argv[1], "--json");

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		puts("Usage: weir probe [--json]\n\nShows what this machine and its kernel have of "
		     "what weir uses, what this user may use,\nand what weir does without. Exits "
		     "with 0 where one of the modes works, else 77.");
		return 0;
	}
	if (argc > 1 && !json) {
		log_line("probe: '%s'; there is --json, and nothing else", argv[1]);
		return EXIT_WEIR;
	}
	machine_read();
	if (json)
		print_json();
	else
		print_text();
	if (fflush(stdout))
		return 1;
	return thread_mode() || signal_mode() ? 0 : 77;
}
