/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files on the real kernel: regions over them that are written to, weir_file_read and weir_file_write, sync, and every
 * error on the way, which the linker injects (files_inject.c).
 *
 *   write     what one way writes the others read, and the file has after a sync, to the byte; never behind its end
 *   errors    no space, EIO, short writes, a failed fdatasync: told once to each, nothing is lost, a later sync succeeds
 *   lost      closing with a full disk says so, and what was written is there when the file is opened again
 *   reads     EIO, short reads, windows, mappings and charges that are refused: no wrong byte, and the program goes on
 *   advise    what was said of a range: read ahead, dropped, first to go; none of it changes contents
 *   shorter   the file is cut off behind weir's back: an error, no zeroes
 *   charges   of pages that are read ahead or written, also of a container that is deleted
 *   oracle    threads at random, with all of these errors, through several regions and files; compared to the byte
 *
 * stress_files [--seed N] [--seconds S] [--kmap SLOTS] [CASE]. Prints its seed. 77: userfaultfd is not permitted, or writes to shared
 * memory cannot be tracked.
 */
#include "files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

uint64_t seed;
double seconds = 2;
atomic_bool stop;
enum weir_mode mode = WEIR_MODE_THREAD;
unsigned kmap_slots;

void file_begin(char path[64], unsigned char *right)
{
	int fd;

	(void)snprintf(path, 64, "/var/tmp/weir-files-%d", (int)getpid());
	for (unsigned i = 0; i < FILE_PAGES; i++) {
		unsigned char page[PAGE];

		page_make(page, i, 1, true);
		memcpy(right + (size_t)i * PAGE, page, i == FILE_PAGES - 1 ? FILE_TAIL : PAGE);
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CHECK(fd >= 0, "%s: %s", path, strerrorname_np(errno));
	CHECK(write(fd, right, FILE_SIZE) == (ssize_t)FILE_SIZE, "writing %s", path);
	close(fd);
	fail_file(path);
}

void file_compare(const char *path, const unsigned char *right)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char page[PAGE];
	struct stat st;

	CHECK(fd >= 0 && !fstat(fd, &st), "%s: %s", path, strerrorname_np(errno));
	CHECK((uint64_t)st.st_size == FILE_SIZE, "the file has %" PRIu64 " bytes",
	      (uint64_t)st.st_size);
	for (uint64_t at = 0; at < FILE_SIZE; at += PAGE) {
		ssize_t n = read(fd, page, PAGE);

		CHECK(n > 0 && !memcmp(page, right + at, (size_t)n),
		      "page %" PRIu64 " of the file is wrong", at / PAGE);
	}
	close(fd);
}

struct weir_file *file_to_write(struct weir_container *c, const char *path)
{
	struct weir_file *file = NULL;
	int err = weir_file_open(c, path, WEIR_FILE_WRITE, &file);

	if (err == -EOPNOTSUPP) {
		printf("skipped: writes to shared memory cannot be tracked here\n");
		unlink(path);
		exit(SKIPPED);
	}
	CHECK(!err, "%s: %s", path, strerrorname_np(-err));
	return file;
}

unsigned char *file_map(struct weir_file *file)
{
	uint64_t bytes = 0;
	void *addr = NULL;
	int err = weir_file_map(file, &addr, &bytes);

	CHECK(!err && bytes == FILE_SIZE, "map: %s", strerrorname_np(-err));
	return addr;
}

void nothing_left(struct weir *weir)
{
	drain(weir);
	CHECK(!used(weir), "%" PRIu64 " are left", used(weir));
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
		{"write", case_write},	   {"errors", case_errors}, {"lost", case_lost},
		{"reads", case_reads},	   {"advise", case_advise}, {"shorter", case_shorter},
		{"charges", case_charges}, {"oracle", case_oracle},
	};
	const char *only = NULL;

	seed = (uint64_t)(now() * 1e9);
	for (int i = 1; i < argc && argv[i]; i++) {
		if (!strcmp(argv[i], "--seed") && argv[i + 1])
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--seconds") && argv[i + 1])
			seconds = strtod(argv[++i], NULL);
		else if (!strcmp(argv[i], "--kmap") && argv[i + 1])
			kmap_slots = (unsigned)strtoul(argv[++i], NULL, 0);
		else
			only = argv[i];
	}
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (only && strcmp(only, cases[i].name) != 0)
			continue;
		printf("%s, seed %" PRIu64 "\n", cases[i].name, seed);
		fflush(stdout);
		atomic_store(&stop, false);
		fail_nothing();
		cases[i].run();
	}
	return 0;
}
