/* SPDX-License-Identifier: BSD-2-Clause */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/log.h"
#include "cli.h"

#if __SIZEOF_POINTER__ == 8
typedef Elf64_Ehdr elf_header;
typedef Elf64_Phdr elf_segment;
enum { ELF_CLASS_HERE = ELFCLASS64 };
#else
typedef Elf32_Ehdr elf_header;
typedef Elf32_Phdr elf_segment;
enum { ELF_CLASS_HERE = ELFCLASS32 };
#endif

enum { SCRIPTS_DEEP = 4 };

/* 0, or the exit status that env(1) gives. */
static int lookup(const char *name, char *path, size_t room)
{
	const char *dirs = getenv("PATH");
	int err = ENOENT;

	if (strchr(name, '/')) {
		snprintf(path, room, "%s", name);
		return 0;
	}
	for (const char *dir = dirs ? dirs : "/bin:/usr/bin"; dir;
	     dir = strchr(dir, ':') ? strchr(dir, ':') + 1 : NULL) {
		int len = (int)strcspn(dir, ":");
		struct stat st;
		int n = snprintf(path, room, "%.*s%s%s", len, dir, len ? "/" : "./", name);

		if (n < 0 || (size_t)n >= room || stat(path, &st) || !S_ISREG(st.st_mode))
			continue;
		if (access(path, X_OK) == 0)
			return 0;
		err = errno;
	}
	if (err == ENOENT) {
		log_line("%s: not found; give its path, or look at PATH", name);
		return EXIT_NOT_FOUND;
	}
	log_line("%s: %s; make it executable with chmod +x", name, errno_name(err));
	return EXIT_CANNOT_RUN;
}

static int file_check(const char *path)
{
	struct stat st;

	if (stat(path, &st)) {
		log_line("%s: %s", path,
			 errno == ENOENT ? "not found; is the path right?" : errno_name(errno));
		return errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
	}
	if (S_ISDIR(st.st_mode)) {
		log_line("%s: a directory; name a program in it", path);
		return EXIT_CANNOT_RUN;
	}
	if (access(path, X_OK)) {
		log_line("%s: not executable (%s); make it so with chmod +x", path,
			 errno_name(errno));
		return EXIT_CANNOT_RUN;
	}
	/* The loader ignores LD_PRELOAD where a program gains rights, and where it does not is too fine a point. */
	if (st.st_mode & (S_ISUID | S_ISGID)) {
		log_line("%s: a %s program, which nothing can be loaded into; run it without weir, "
			 "or a copy without that "
			 "bit",
			 path, st.st_mode & S_ISUID ? "set-user-id" : "set-group-id");
		return EXIT_WEIR;
	}
	if (getxattr(path, "security.capability", NULL, 0) > 0 && geteuid() != 0) {
		log_line("%s: has file capabilities, so nothing can be loaded into it; run a copy "
			 "without them",
			 path);
		return EXIT_WEIR;
	}
	return 0;
}

/* The dynamic loader that the program names, or an exit status after a message. */
static int elf_check(const char *path, int fd, const elf_header *elf)
{
	char loader[PATH_MAX] = "";

	if (elf->e_ident[EI_CLASS] != ELF_CLASS_HERE) {
		log_line("%s: a program of %s bits; this weir is for %s", path,
			 elf->e_ident[EI_CLASS] == ELFCLASS32 ? "32" : "64",
			 ELF_CLASS_HERE == ELFCLASS32 ? "32" : "64");
		return EXIT_WEIR;
	}
	for (unsigned i = 0; i < elf->e_phnum; i++) {
		elf_segment segment;

		if (pread(fd, &segment, sizeof(segment),
			  (off_t)(elf->e_phoff + i * sizeof(segment))) != (ssize_t)sizeof(segment))
			break;
		if (segment.p_type != PT_INTERP || segment.p_filesz >= sizeof(loader))
			continue;
		if (pread(fd, loader, segment.p_filesz, (off_t)segment.p_offset) !=
		    (ssize_t)segment.p_filesz)
			loader[0] = '\0';
	}
	if (!loader[0]) {
		log_line("%s: a static program, which nothing can be loaded into; link it "
			 "dynamically, or use libweir in it",
			 path);
		return EXIT_WEIR;
	}
	if (!strstr(loader, "/ld-linux")) {
		log_line("%s: uses the loader %s; weir is built for glibc's", path, loader);
		return EXIT_WEIR;
	}
	return 0;
}

/* One file: a program, or a script whose interpreter comes next in path. */
static int step(char *path, size_t room, bool *script)
{
	union {
		char text[256];
		elf_header elf;
	} head;
	int fd, status = file_check(path);
	ssize_t got;

	*script = false;
	if (status)
		return status;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	/* Executable and not readable: whether it is static cannot be seen, and the loader will cope. */
	if (fd < 0)
		return 0;
	memset(&head, 0, sizeof(head));
	got = read(fd, &head, sizeof(head) - 1);
	if (got >= (ssize_t)sizeof(head.elf) && !memcmp(head.elf.e_ident, ELFMAG, SELFMAG)) {
		status = elf_check(path, fd, &head.elf);
	} else if (got > 2 && !memcmp(head.text, "#!", 2)) {
		const char *name = head.text + 2 + strspn(head.text + 2, " \t");

		*script = true;
		snprintf(path, room, "%.*s", (int)strcspn(name, " \t\r\n"), name);
	} else {
		/* execvp hands such files to the shell. */
		*script = true;
		snprintf(path, room, "/bin/sh");
	}
	close(fd);
	return status;
}

int program_check(const char *name, char *path, unsigned long room)
{
	char file[PATH_MAX];
	bool script = true;
	int status = lookup(name, path, room);

	if (!status)
		snprintf(file, sizeof(file), "%s", path);
	for (int depth = 0; !status && script && depth < SCRIPTS_DEEP; depth++)
		status = step(file, sizeof(file), &script);
	return status;
}
