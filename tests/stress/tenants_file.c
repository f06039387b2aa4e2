/* SPDX-License-Identifier: BSD-2-Clause */
/* Regions over files, the cases file, readers and eio: see stress_tenants.c. */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tenants.h"

static void file_make(const char *path, unsigned pages, unsigned tail)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	unsigned char page[PAGE];

	CHECK(fd >= 0, "%s: %s", path, strerrorname_np(errno));
	for (unsigned i = 0; i < pages; i++) {
		size_t bytes = i == pages - 1 && tail ? tail : PAGE;

		page_make(page, i, 1, true);
		CHECK(write(fd, page, bytes) == (ssize_t)bytes, "writing %s", path);
	}
	close(fd);
}

static void file_name(char path[64])
{
	(void)snprintf(path, 64, "/var/tmp/weir-test-%d", (int)getpid());
}

static void *file_open(struct weir_container *c, const char *path, uint64_t expected)
{
	uint64_t bytes = 0;
	void *addr = NULL;
	int err = weir_region_open(c, path, &addr, &bytes);

	if (err == -EOPNOTSUPP) {
		printf("skipped: no minor faults of shared memory here\n");
		unlink(path);
		exit(SKIPPED);
	}
	CHECK(!err && bytes == expected, "%s: %s", path, strerrorname_np(-err));
	return addr;
}

/* All pages once, and never two that are neighbours one soon after the other. */
static unsigned hop(unsigned i, unsigned pages)
{
	return i * 37 % pages;
}

void case_file(void)
{
	enum { PAGES = 1024, TAIL = 100 };
	const uint64_t bytes = (uint64_t)(PAGES - 1) * PAGE + TAIL;
	struct weir *weir = open_or_skip(MIB(64));
	struct weir_container *a = child_of(weir_container_root(weir), "a", MIB(16));
	struct weir_container *b = child_of(weir_container_root(weir), "b", MIB(16));
	unsigned char *one, *two, right[PAGE];
	uint64_t ignored;
	void *none;
	char path[64];

	file_name(path);
	CHECK(weir_region_open(a, "/nonexistent/file", &none, &ignored) == -ENOENT, "no file");
	CHECK(weir_region_open(a, "/", &none, &ignored) == -EINVAL, "a folder");
	CHECK(weir_region_open(a, "/dev/null", &none, &ignored) == -EINVAL, "no regular file");
	file_make(path, PAGES, TAIL);
	one = file_open(a, path, bytes);
	two = file_open(b, path, bytes);
	CHECK(weir_region_discard(weir, one, PAGE) == -EINVAL, "a file is not discarded");
	CHECK(weir_region_move(weir, one, b, WEIR_MOVE_LATER) == -EINVAL, "nor moved");
	/* Who comes first pays. Nothing is read ahead: over pages that are cached even hops may look like a reader. */
	CHECK(!weir_region_advise(weir, one, bytes, WEIR_ADVICE_RANDOM) &&
		      !weir_region_advise(weir, two, bytes, WEIR_ADVICE_RANDOM),
	      "random");
	for (unsigned i = 0; i < 200; i++)
		page_check(one + (size_t)hop(i, 200) * PAGE, hop(i, 200), 1, true);
	for (unsigned i = 0; i < 400; i++)
		page_check(two + (size_t)hop(i, 400) * PAGE, hop(i, 400), 1, true);
	drain(weir);
	CHECK(current(a) == 200 * PAGE && current(b) == 200 * PAGE, "%" PRIu64 " and %" PRIu64,
	      current(a), current(b));
	/* The first holder goes; the page stays, and stays charged to it. */
	CHECK(!weir_region_destroy(weir, one), "destroy");
	drain(weir);
	CHECK(current(a) == 200 * PAGE, "%" PRIu64, current(a));
	/* And to its parent when it is deleted. */
	CHECK(!weir_container_delete(a), "delete");
	CHECK(used(weir) == 400 * PAGE, "reparented");
	/* Larger than max: pages go and come. */
	CHECK(!weir_container_set(b, WEIR_MAX, MIB(1)) || true, "max");
	CHECK(!weir_region_advise(weir, two, bytes, WEIR_ADVICE_NORMAL), "normal");
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < PAGES - 1; i++)
			page_check(two + (size_t)i * PAGE, i, 1, true);
	}
	page_make(right, PAGES - 1, 1, true);
	memset(right + TAIL, 0, PAGE - TAIL);
	CHECK(!memcmp(two + (size_t)(PAGES - 1) * PAGE, right, PAGE),
	      "behind the end there are zeroes");
	wait_charged(b, 0, MIB(1));
	/* A second region again, then all go: nothing is left. */
	one = file_open(b, path, bytes);
	page_check(one, 0, 1, true);
	CHECK(!weir_region_destroy(weir, two), "destroy");
	page_check(one + PAGE, 1, 1, true);
	CHECK(!weir_region_destroy(weir, one), "destroy");
	drain(weir);
	CHECK(!used(weir), "%" PRIu64 " are left", used(weir));
	unlink(path);
	weir_close(weir);
}

/* A page of a file for which there is no room: SIGBUS, nothing is charged or held, and the next region reads it. */
void case_refused(void)
{
	struct weir *weir = open_or_skip(MIB(64));
	struct weir_container *a = child_of(weir_container_root(weir), "a", MIB(1));
	unsigned char *addr;
	uint64_t peak;
	char path[64];

	file_name(path);
	file_make(path, 8, 0);
	addr = file_open(a, path, 8ull * PAGE);
	/* All but a page is the program's own, which reclaim cannot take; of two pages of the file one is there at a time. */
	CHECK(!weir_charge(a, MIB(1) - PAGE), "charge");
	for (unsigned i = 0; i < 4; i++)
		page_check(addr + (size_t)i * PAGE, i, 1, true);
	peak = weir_container_get(a, WEIR_PEAK);
	CHECK(peak >= MIB(1), "the page was not charged: %" PRIu64, peak);
	/* Or none, since the container is above the mark beyond which pages are taken in the background. Over max is what a fault
	 * that could not wait for room any longer took, and that is taken back. */
	wait_charged(a, MIB(1) - PAGE, MIB(1));
	CHECK(!weir_region_destroy(weir, addr), "destroy");
	CHECK(!weir_charge(a, PAGE), "the page was given back");
	addr = file_open(a, path, 8ull * PAGE);
	CHECK(touch_is_bus(addr + 5 * PAGE, false), "a page came over the limit");
	CHECK(weir_charge(a, PAGE) == -ENOMEM, "and more");
	drain(weir);
	CHECK(current(a) == MIB(1), "%" PRIu64, current(a));
	weir_uncharge(a, MIB(1));
	page_check(addr + 6 * PAGE, 6, 1, true);
	CHECK(!weir_region_destroy(weir, addr), "destroy");
	addr = file_open(a, path, 8ull * PAGE);
	page_check(addr + 5 * PAGE, 5, 1, true);
	CHECK(!weir_region_destroy(weir, addr), "destroy");
	drain(weir);
	CHECK(!current(a), "%" PRIu64, current(a));
	CHECK(!weir_container_delete(a), "delete");
	unlink(path);
	weir_close(weir);
}

struct reader {
	struct weir *weir;
	struct weir_container *container;
	const char *path;
	pthread_t thread;
	unsigned index;
	uint64_t pages;
};

enum { READ_PAGES = 1024 };

static void *reader_main(void *data)
{
	struct reader *r = data;
	uint64_t s = seed + r->index;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		unsigned char *addr = file_open(r->container, r->path, (uint64_t)READ_PAGES * PAGE);

		for (unsigned n = 0; n < 2000; n++, r->pages++) {
			unsigned page = below(&s, READ_PAGES);

			page_check(addr + (size_t)page * PAGE, page, 1, true);
		}
		CHECK(!weir_region_destroy(r->weir, addr), "destroy");
	}
	return NULL;
}

void case_readers(void)
{
	struct weir *weir = open_or_skip(MIB(8));
	struct weir_container *root = weir_container_root(weir);
	struct reader reader[TENANTS] = {0};
	double end = now() + seconds;
	uint64_t s = seed, pages = 0;
	char path[64], name[8];

	file_name(path);
	file_make(path, READ_PAGES, 0);
	for (unsigned i = 0; i < TENANTS; i++) {
		(void)snprintf(name, sizeof(name), "r%u", i);
		reader[i] = (struct reader){.weir = weir, .path = path, .index = i};
		reader[i].container = child_of(root, name, MIB(1));
		CHECK(!pthread_create(&reader[i].thread, NULL, reader_main, &reader[i]), "thread");
	}
	while (now() < end) {
		(void)weir_container_set(reader[below(&s, TENANTS)].container, WEIR_MAX,
					 MIB(1) + below(&s, MIB(4)));
		(void)weir_container_reclaim(reader[below(&s, TENANTS)].container, MIB(1));
		usleep(1000);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < TENANTS; i++) {
		pthread_join(reader[i].thread, NULL);
		pages += reader[i].pages;
	}
	drain(weir);
	for (unsigned i = 0; i < TENANTS; i++) {
		CHECK(!current(reader[i].container), "%" PRIu64, current(reader[i].container));
		CHECK(!weir_container_delete(reader[i].container), "delete");
	}
	CHECK(!used(weir) && pages > 1000, "%" PRIu64 " are left, %" PRIu64 " pages read",
	      used(weir), pages);
	unlink(path);
	weir_close(weir);
	printf("%" PRIu64 " pages read\n", pages);
}

/* --- a page that cannot be read --- */

/* pread at one offset fails from now on, in threads that are started from here. */
static void fail_pread_at(uint32_t offset)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, offset, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
		      !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter),
	      "seccomp: %s", strerrorname_np(errno));
}

static void eio_body(void)
{
	struct weir *weir;
	struct weir_container *a;
	unsigned char *addr;
	char path[64];

	file_name(path);
	file_make(path, 8, 0);
	fail_pread_at(3 * PAGE);
	weir = open_or_skip(MIB(8));
	a = child_of(weir_container_root(weir), "a", MIB(4));
	addr = file_open(a, path, 8ull * PAGE);
	page_check(addr + 2 * PAGE, 2, 1, true);
	CHECK(touch_is_bus(addr + 3 * PAGE, false), "wrong bytes instead of SIGBUS");
	CHECK(touch_is_bus(addr + 3 * PAGE, false), "and again");
	page_check(addr + 6 * PAGE, 6, 1, true);
	drain(weir);
	CHECK(current(a) == 2 * PAGE, "%" PRIu64, current(a));
	CHECK(!weir_region_destroy(weir, addr), "destroy");
	drain(weir);
	CHECK(!current(a), "%" PRIu64, current(a));
	unlink(path);
	weir_close(weir);
}

/* Its filter is for the life of the process. */
void case_eio(void)
{
	int status = 0;
	pid_t pid = fork();

	CHECK(pid >= 0, "fork");
	if (!pid) {
		eio_body();
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		exit(SKIPPED);
	CHECK(!status, "the child ended with %#x", (unsigned)status);
}
