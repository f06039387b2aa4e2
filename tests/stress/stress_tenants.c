/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tenants on the real kernel, by the public functions only. Every page says what it is, so that a wrong one is seen.
 *
 *   storm     regions of several containers under limits, threads that read and write them; meanwhile limits move, regions
 *             change hands with and without their pages, containers come and go, memory is asked back
 *   storm-signal  the same in signal mode
 *   file      two regions over one file: charged once, to whoever came first, and uncharged with the last; larger than max
 *   readers   threads read one file through regions of several containers, which come and go, under limits
 *   eio       a page of a file that cannot be read is SIGBUS, nothing stays charged, and its neighbours are well
 *   oom       nothing can be reclaimed: the handler is asked, and without one a first touch is SIGBUS
 *   high      a tenant above high is throttled, and never fails
 *   swap      swap.max = 0 keeps a tenant's pages out of the file
 *
 * stress_tenants [--seed N] [--seconds S] [CASE]. Prints its seed. 77: userfaultfd is not permitted.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <weir/weir.h>

#include "access.h"
#include "../random.h"

#define CHECK(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "stress_tenants: %s:%d: %s: ", __FILE__, __LINE__, #cond); \
			fprintf(stderr, __VA_ARGS__);                                              \
			fprintf(stderr, "; seed %" PRIu64 "\n", seed);                             \
			abort();                                                                   \
		}                                                                                  \
	} while (0)
#define MIB(n) ((uint64_t)(n) << 20)

enum { PAGE = 4096, TENANTS = 4, SKIPPED = 77 };

static uint64_t seed;
static double seconds = 2;
static atomic_bool stop;
static enum weir_mode mode; /* of the instance */

static unsigned below(uint64_t *s, unsigned n)
{
	return (unsigned)((random_next(s) >> 32) * n >> 32);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* noise: words that do not compress. */
static void page_make(unsigned char *page, uint64_t number, uint64_t version, bool noise)
{
	uint64_t s = number * 1000003 + version;

	for (unsigned i = 0; i < PAGE; i += noise ? 8 : 64) {
		uint64_t word = random_next(&s);

		if (!noise)
			memset(page + i, (int)(word & 0x7f), 64);
		memcpy(page + i, &word, 8);
	}
	memcpy(page, &number, 8);
	memcpy(page + 8, &version, 8);
}

/* To a page of a region. */
static void page_write(unsigned char *page, uint64_t number, uint64_t version, bool noise)
{
	_Alignas(8) unsigned char right[PAGE];

	page_make(right, number, version, noise);
	access_copy(page, right, PAGE);
}

static void page_check(const unsigned char *page, uint64_t number, uint64_t version, bool noise)
{
	unsigned char right[PAGE];

	page_make(right, number, version, noise);
	CHECK(!memcmp(page, right, PAGE),
	      "page %" PRIu64 " of version %" PRIu64 " has other contents", number, version);
}

static struct weir *open_or_skip(uint64_t limit)
{
	struct weir_options options = {.size = sizeof(options), .limit = limit, .mode = mode};
	struct weir *weir;
	int err = weir_open(&options, &weir);

	if (err == -EPERM || err == -ENOSYS) {
		printf("skipped: %s\n", strerrorname_np(-err));
		exit(SKIPPED);
	}
	CHECK(!err, "weir_open: %s", strerrorname_np(-err));
	return weir;
}

static struct weir_container *child_of(struct weir_container *parent, const char *name,
				       uint64_t max)
{
	struct weir_container *c = NULL;
	int err = weir_container_create(parent, name, &c);

	CHECK(!err, "creating '%s': %s", name, strerrorname_np(-err));
	(void)weir_container_set(c, WEIR_MAX, max);
	return c;
}

static uint64_t current(struct weir_container *c)
{
	return weir_container_get(c, WEIR_CURRENT);
}

/* Stocks are nobody's pages. */
static void drain(struct weir *weir)
{
	CHECK(!weir_container_reclaim(weir_container_root(weir), 0), "draining");
}

/* --- the storm --- */

enum { STORM_PAGES = 1024 };

struct area {
	unsigned char *memory;
	uint64_t version[STORM_PAGES];
	struct weir_container *container;
	pthread_t thread;
	unsigned index;
	uint64_t touches;
};

static void *area_main(void *data)
{
	struct area *a = data;
	uint64_t s = seed + a->index;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		unsigned page = below(&s, STORM_PAGES);
		unsigned char *at = a->memory + (size_t)page * PAGE;

		if (a->version[page])
			page_check(at, page, a->version[page], page % 3 == 0);
		if (below(&s, 3) == 0)
			page_write(at, page, ++a->version[page], page % 3 == 0);
		a->touches++;
	}
	return NULL;
}

static void govern(struct weir *weir, struct area area[TENANTS],
		   struct weir_container *box[TENANTS], uint64_t *s)
{
	struct area *a = &area[below(s, TENANTS)];
	unsigned to = below(s, TENANTS);
	char name[16];
	int err;

	switch (below(s, 6)) {
	case 0:
		(void)weir_container_set(box[to], WEIR_MAX, MIB(1 + below(s, 4)));
		break;
	case 1:
		(void)weir_container_set(box[to], WEIR_LOW, MIB(below(s, 3)));
		(void)weir_container_set(box[to], WEIR_HIGH,
					 below(s, 2) ? MIB(1 + below(s, 3)) : WEIR_NO_LIMIT);
		break;
	case 2:
		err = weir_region_move(weir, a->memory, box[to],
				       below(s, 2) ? WEIR_MOVE_PAGES : WEIR_MOVE_LATER);
		CHECK(!err || err == -ENOMEM || err == -ENOSPC, "move: %s", strerrorname_np(-err));
		break;
	case 3:
		(void)weir_container_reclaim(box[to], MIB(below(s, 2)));
		break;
	default:
		/* Its regions and pages go to the parent, and a new one takes its place. */
		(void)snprintf(name, sizeof(name), "t%u-%u", to, below(s, 1000000));
		CHECK(!weir_container_delete(box[to]), "delete");
		box[to] = child_of(weir_container_root(weir), name, MIB(1 + below(s, 4)));
		CHECK(!weir_region_move(weir, a->memory, box[to], WEIR_MOVE_LATER) || true, "move");
		break;
	}
	if (below(s, 4) == 0)
		(void)weir_container_set(weir_container_root(weir), WEIR_MAX, MIB(4 + below(s, 8)));
}

static void case_storm(void)
{
	struct weir *weir = open_or_skip(MIB(8));
	struct weir_container *root = weir_container_root(weir), *box[TENANTS];
	static struct area area[TENANTS];
	uint64_t s = seed, touches = 0, rounds = 0;
	double end = now() + seconds;
	struct weir_container_stat stat = {.size = sizeof(stat)};
	char name[16];

	memset(area, 0, sizeof(area));
	for (unsigned i = 0; i < TENANTS; i++) {
		void *memory;

		(void)snprintf(name, sizeof(name), "t%u", i);
		box[i] = child_of(root, name, MIB(3));
		CHECK(!weir_region_create_in(box[i], (uint64_t)STORM_PAGES * PAGE, &memory),
		      "region");
		area[i].memory = memory;
		area[i].index = i;
		CHECK(!pthread_create(&area[i].thread, NULL, area_main, &area[i]), "thread");
	}
	/* On a machine that is busy with others it takes longer until enough has happened. */
	for (; now() < end || (rounds <= 100 && now() < end + 30); rounds++) {
		govern(weir, area, box, &s);
		usleep(500);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < TENANTS; i++) {
		pthread_join(area[i].thread, NULL);
		touches += area[i].touches;
		for (unsigned page = 0; page < STORM_PAGES; page++) {
			if (area[i].version[page])
				page_check(area[i].memory + (size_t)page * PAGE, page,
					   area[i].version[page], page % 3 == 0);
		}
	}
	CHECK(!weir_container_stat(root, &stat), "stat");
	CHECK(stat.stolen && stat.major_faults && touches > 1000 && rounds > 20,
	      "the run idled: %" PRIu64 " stolen, %" PRIu64 " major faults, %" PRIu64
	      " touches, %" PRIu64 " rounds",
	      stat.stolen, stat.major_faults, touches, rounds);
	for (unsigned i = 0; i < TENANTS; i++)
		CHECK(!weir_region_destroy(weir, area[i].memory), "destroy");
	drain(weir);
	CHECK(!current(root) && !weir_container_get(root, WEIR_SWAP_CURRENT),
	      "%" PRIu64 " and %" PRIu64 " are left", current(root),
	      weir_container_get(root, WEIR_SWAP_CURRENT));
	for (unsigned i = 0; i < TENANTS; i++) {
		/* What was deleted left nothing behind, and what moved was taken off. */
		CHECK(!current(box[i]), "%" PRIu64, current(box[i]));
		CHECK(!weir_container_delete(box[i]), "delete");
	}
	weir_close(weir);
	printf("%" PRIu64 " touches, %" PRIu64 " rounds, %" PRIu64 " pages stolen\n", touches,
	       rounds, stat.stolen);
}

/* Containers go while threads serve their own faults: none has one in its hands that is no more. */
static void case_storm_signal(void)
{
	mode = WEIR_MODE_SIGNAL;
	case_storm();
	mode = WEIR_MODE_THREAD;
}

/* --- files --- */

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

static void case_file(void)
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
	/* Who comes first pays. */
	for (unsigned i = 0; i < 200; i++)
		page_check(one + (size_t)i * PAGE, i, 1, true);
	for (unsigned i = 0; i < 400; i++)
		page_check(two + (size_t)i * PAGE, i, 1, true);
	drain(weir);
	CHECK(current(a) == 200 * PAGE && current(b) == 200 * PAGE, "%" PRIu64 " and %" PRIu64,
	      current(a), current(b));
	/* The first holder goes; the page stays, and stays charged to it. */
	CHECK(!weir_region_destroy(weir, one), "destroy");
	drain(weir);
	CHECK(current(a) == 200 * PAGE, "%" PRIu64, current(a));
	/* And to its parent when it is deleted. */
	CHECK(!weir_container_delete(a), "delete");
	CHECK(current(weir_container_root(weir)) == 400 * PAGE, "reparented");
	/* Larger than max: pages go and come. */
	CHECK(!weir_container_set(b, WEIR_MAX, MIB(1)) || true, "max");
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < PAGES - 1; i++)
			page_check(two + (size_t)i * PAGE, i, 1, true);
	}
	page_make(right, PAGES - 1, 1, true);
	memset(right + TAIL, 0, PAGE - TAIL);
	CHECK(!memcmp(two + (size_t)(PAGES - 1) * PAGE, right, PAGE),
	      "behind the end there are zeroes");
	drain(weir);
	CHECK(current(b) <= MIB(1), "%" PRIu64, current(b));
	/* A second region again, then all go: nothing is left. */
	one = file_open(b, path, bytes);
	page_check(one, 0, 1, true);
	CHECK(!weir_region_destroy(weir, two), "destroy");
	page_check(one + PAGE, 1, 1, true);
	CHECK(!weir_region_destroy(weir, one), "destroy");
	drain(weir);
	CHECK(!current(weir_container_root(weir)), "%" PRIu64 " are left",
	      current(weir_container_root(weir)));
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

static void case_readers(void)
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
	CHECK(!current(root) && pages > 1000, "%" PRIu64 " are left, %" PRIu64 " pages read",
	      current(root), pages);
	unlink(path);
	weir_close(weir);
	printf("%" PRIu64 " pages read\n", pages);
}

/* --- what fails --- */

static sigjmp_buf from_bus;

static void on_bus(int signal_)
{
	(void)signal_;
	siglongjmp(from_bus, 1);
}

/* Does a touch give SIGBUS? */
NO_TSAN static bool touch_is_bus(volatile unsigned char *at, bool write)
{
	struct sigaction act = {.sa_handler = on_bus}, before;
	bool bus = false;

	sigaction(SIGBUS, &act, &before);
	if (sigsetjmp(from_bus, 1))
		bus = true;
	else if (write)
		*at = 1;
	else
		(void)*at;
	sigaction(SIGBUS, &before, NULL);
	return bus;
}

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
	page_check(addr + 4 * PAGE, 4, 1, true);
	drain(weir);
	CHECK(current(a) == 2 * PAGE, "%" PRIu64, current(a));
	CHECK(!weir_region_destroy(weir, addr), "destroy");
	drain(weir);
	CHECK(!current(a), "%" PRIu64, current(a));
	unlink(path);
	weir_close(weir);
}

/* Its filter is for the life of the process. */
static void case_eio(void)
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

static _Atomic unsigned asked;

static enum weir_oom over_once(void *data, struct weir_container *c, uint64_t bytes)
{
	(void)data;
	(void)c;
	(void)bytes;
	return atomic_fetch_add(&asked, 1) ? WEIR_OOM_FAIL : WEIR_OOM_OVER;
}

static void case_oom(void)
{
	struct weir *weir = open_or_skip(MIB(64));
	struct weir_container *a = child_of(weir_container_root(weir), "a", MIB(1));
	struct weir_events events;
	unsigned char *memory;
	void *addr;

	/* Its own memory fills the limit: nothing that reclaim could take. */
	CHECK(!weir_charge(a, MIB(1)), "charge");
	CHECK(!weir_region_create_in(a, MIB(1), &addr), "region");
	memory = addr;
	CHECK(touch_is_bus(memory, true), "a page came over the limit");
	CHECK(weir_charge(a, PAGE) == -ENOMEM, "and more");
	weir_container_events(a, 1, &events);
	CHECK(events.oom >= 2 && events.max >= 2, "%" PRIu64 " and %" PRIu64, events.oom,
	      events.max);
	weir_container_on_oom(a, over_once, NULL);
	page_write(memory + PAGE, 1, 1, true);
	page_check(memory + PAGE, 1, 1, true);
	/* Once for the first touch; again where the page was taken in the background and comes back. */
	CHECK(atomic_load(&asked) >= 1, "it was not asked");
	/* There is room again; the poison stays until the page is discarded. */
	weir_uncharge(a, MIB(1));
	drain(weir);
	CHECK(current(a) == PAGE, "%" PRIu64, current(a));
	CHECK(touch_is_bus(memory, false), "still poisoned");
	CHECK(!weir_region_discard(weir, memory, PAGE), "discard");
	CHECK(!touch_is_bus(memory, false) && !*memory, "zeroes");
	CHECK(!weir_region_destroy(weir, memory), "destroy");
	drain(weir);
	CHECK(!current(a), "%" PRIu64, current(a));
	weir_close(weir);
}

static void fill(unsigned char *memory, unsigned pages, bool noise)
{
	for (unsigned i = 0; i < pages; i++)
		page_write(memory + (size_t)i * PAGE, i, 1, noise);
	for (unsigned i = 0; i < pages; i++)
		page_check(memory + (size_t)i * PAGE, i, 1, noise);
}

static void case_high(void)
{
	struct weir *weir = open_or_skip(MIB(256));
	struct weir_container *a = child_of(weir_container_root(weir), "a", WEIR_NO_LIMIT);
	struct weir_events events;
	void *memory;

	CHECK(!weir_container_set(a, WEIR_HIGH, MIB(4)), "high");
	CHECK(!weir_region_create_in(a, MIB(32), &memory), "region");
	fill(memory, MIB(32) / PAGE, false);
	weir_container_events(a, 1, &events);
	CHECK(events.high > 0 && !events.max && !events.oom, "high %" PRIu64, events.high);
	/* It is no hard limit: half of what is wanted is far above what it comes to. */
	CHECK(weir_container_get(a, WEIR_PEAK) < MIB(16), "peak %" PRIu64,
	      weir_container_get(a, WEIR_PEAK));
	weir_close(weir);
}

static void case_swap(void)
{
	struct weir *weir = open_or_skip(MIB(64));
	struct weir_container *a = child_of(weir_container_root(weir), "a", MIB(4));
	struct weir_container *b = child_of(weir_container_root(weir), "b", MIB(4));
	void *mine, *theirs;

	CHECK(!weir_container_set(a, WEIR_SWAP_MAX, 0), "swap.max");
	CHECK(!weir_region_create_in(a, MIB(6), &mine) &&
		      !weir_region_create_in(b, MIB(16), &theirs),
	      "regions");
	fill(mine, MIB(6) / PAGE, false);
	fill(theirs, MIB(16) / PAGE, true);
	CHECK(!weir_container_get(a, WEIR_SWAP_CURRENT), "a page of it went to the file");
	CHECK(weir_container_get(b, WEIR_SWAP_CURRENT) > MIB(8), "none of the other's did");
	weir_close(weir);
}

/* --- --- */

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
		{"storm", case_storm}, {"storm-signal", case_storm_signal},
		{"file", case_file},   {"readers", case_readers},
		{"eio", case_eio},     {"oom", case_oom},
		{"high", case_high},   {"swap", case_swap},
	};
	const char *only = NULL;

	seed = (uint64_t)(now() * 1e9);
	for (int i = 1; i < argc && argv[i]; i++) {
		if (!strcmp(argv[i], "--seed") && argv[i + 1])
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--seconds") && argv[i + 1])
			seconds = strtod(argv[++i], NULL);
		else
			only = argv[i];
	}
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (only && strcmp(only, cases[i].name) != 0)
			continue;
		printf("%s, seed %" PRIu64 "\n", cases[i].name, seed);
		fflush(stdout);
		atomic_store(&stop, false);
		cases[i].run();
	}
	return 0;
}
