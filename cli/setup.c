/* SPDX-License-Identifier: BSD-2-Clause */
/* weir setup: what this machine has of the permission for userfaultfd, and how to give it to a group. Changes nothing. */
#include <argp.h>
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/log.h"
#include "cli.h"
#include "os/uffd.h"

#define DEVICE "/dev/userfaultfd"
#define SYSCTL "/proc/sys/vm/unprivileged_userfaultfd"

static const char doc[] =
	"Says who may use userfaultfd on this machine, which weir run needs, and prints what gives "
	"the "
	"permission to a group (default: weir). It changes nothing."
	"\vExits with 0 where you have the permission, else 1; 125 for a wrong option.";

struct arguments {
	const char *group;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	if (key != ARGP_KEY_ARG)
		return ARGP_ERR_UNKNOWN;
	/* What a udev rule and a shell take as it stands. */
	if (state->arg_num || !*arg || *arg == '-' ||
	    arg[strspn(arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")]) {
		log_line("setup: '%s' is no name of a group; give one such as weir", arg);
		exit(EXIT_WEIR);
	}
	a->group = arg;
	return 0;
}

/* The sysctl: 0, 1, or -1 where there is none. */
static int sysctl_value(void)
{
	FILE *file = fopen(SYSCTL, "re");
	int c = file ? fgetc(file) : EOF;

	if (file)
		fclose(file);
	return c == '0' || c == '1' ? c - '0' : -1;
}

static void here_print(bool allowed, bool device, int sysctl)
{
	struct utsname system;
	struct stat st;

	(void)uname(&system);
	printf("On this machine (Linux %s)\n", system.release);
	printf("  you may use userfaultfd           %s\n", allowed ? "yes" : "no");
	printf("  vm.unprivileged_userfaultfd       %s\n", sysctl < 0 ? "is not there"
							   : sysctl   ? "1: everybody may"
								      : "0: only root may");
	if (device && !stat(DEVICE, &st)) {
		const struct group *owner = getgrgid(st.st_gid);

		printf("  %-33s mode %04o, group %s\n", DEVICE, st.st_mode & 07777,
		       owner ? owner->gr_name : "without a name");
	} else {
		printf("  %-33s is not there (Linux 6.1 and later have it)\n", DEVICE);
	}
}

static void device_print(const char *group)
{
	printf("\nFor a group: as root, once\n\n");
	if (!getgrnam(group))
		printf("    groupadd --system %s\n", group);
	printf("    echo 'KERNEL==\"userfaultfd\", GROUP=\"%s\", MODE=\"0660\"' "
	       ">/etc/udev/rules.d/60-weir.rules\n"
	       "    udevadm control --reload && udevadm trigger /dev/userfaultfd\n"
	       "    usermod -a -G %s USER        # each user, who then logs in anew\n",
	       group, group);
}

static void sysctl_print(bool device)
{
	printf("\n%s: as root\n\n"
	       "    echo vm.unprivileged_userfaultfd=1 >/etc/sysctl.d/60-weir.conf\n"
	       "    sysctl vm.unprivileged_userfaultfd=1\n",
	       device ? "Or for everybody"
		      : "For everybody, as this kernel cannot do it for a group");
}

int cli_setup(int argc, char **argv)
{
	static const struct argp argp = {NULL, parse, "[GROUP]", doc, NULL, NULL, NULL};
	const bool device = access(DEVICE, F_OK) == 0;
	const int sysctl = sysctl_value();
	struct arguments a = {.group = "weir"};
	uint64_t features;
	bool allowed;

	argp_err_exit_status = EXIT_WEIR;
	argv[0] = "weir setup";
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_WEIR;
	allowed = !uffd_probe(&features);
	here_print(allowed, device, sysctl);
	if (device)
		device_print(a.group);
	if (sysctl == 0)
		sysctl_print(device);
	puts("\nWhat it means: who has the permission can stop another thread, or the kernel on "
	     "its behalf, in\n"
	     "the middle of an access to its own memory. That gives no rights by itself, but has "
	     "helped\n"
	     "exploits of kernel bugs; so give it to those who need it. Root needs none of this, "
	     "and\n"
	     "neither does the library's signal mode. `weir probe` tells what works here.");
	if (fflush(stdout)) {
		log_line("standard output: %s", errno_name(errno));
		return 1;
	}
	return allowed ? 0 : 1;
}
