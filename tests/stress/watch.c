/* SPDX-License-Identifier: BSD-2-Clause */
/* Players and their watchdog; what instances must say of themselves. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>

#include "instance.h"
#include "stress.h"

enum { STUCK_S = 30 };

struct setup setup;
_Thread_local struct player *me;

static struct player player[PLAYERS_MAX];
static _Atomic unsigned players;
static _Atomic(struct weir *) watched; /* for the report of a hang; never closed while it is here */

/* --- reports --- */

static void print_file(const char *format, const char *task, const char *title)
{
	char path[64], text[2048];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), format, task);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return;
	text[n] = '\0';
	fprintf(stderr, "    %s %s%s", title, text, text[n - 1] == '\n' ? "" : "\n");
}

static void print_states(void)
{
	DIR *tasks;

	for (unsigned i = 0; i < load_acquire(&players); i++) {
		const char *what = load_relaxed(&player[i].what);

		if (load_relaxed(&player[i].alive))
			fprintf(stderr, "  %s %u: step %" PRIu64 ", %s at %" PRIu64 "\n",
				player[i].name, player[i].number, load_relaxed(&player[i].steps),
				what ? what : "starts", load_relaxed(&player[i].where));
	}
	tasks = opendir("/proc/self/task");
	for (struct dirent *d; tasks && (d = readdir(tasks));) {
		if (d->d_name[0] == '.')
			continue;
		fprintf(stderr, "  task %s\n", d->d_name);
		print_file("/proc/self/task/%s/comm", d->d_name, "name");
		print_file("/proc/self/task/%s/stack", d->d_name, "stack\n");
	}
	if (tasks)
		closedir(tasks);
}

static void print_stats(struct weir *weir)
{
	struct weir_stats s = stats_now(weir);

	fprintf(stderr,
		"  limit %" PRIu64 " charged %" PRIu64 " resident %" PRIu64 " compressed %" PRIu64
		" stored %" PRIu64 " faults %" PRIu64 " soft %" PRIu64 " first %" PRIu64
		" parked %" PRIu64 " moved out %" PRIu64 "\n",
		s.limit, s.charged, s.resident, s.compressed, s.stored, s.faults, s.soft_faults,
		s.first_faults, s.parked_faults, s.moved_out);
}

/* Who waits for whom, as far as the engine says; read as it runs. */
static void print_engine(const struct weir *weir)
{
	const struct vm *vm = &weir->vm;
	const struct readers *readers = &weir->service.readers;

	fprintf(stderr,
		"  reclaim: state %u, quiescing %d, visitors %u %u; reading %u of %u, blocked %u; "
		"serving",
		load_relaxed(&weir->reclaim.state), load_relaxed(&weir->reclaim.quiescing),
		load_relaxed(&weir->visitors[0]), load_relaxed(&weir->visitors[1]),
		load_relaxed(&readers->reading), load_relaxed(&readers->wanted),
		load_relaxed(&readers->blocked));
	for (unsigned i = 0; i < weir->service.handlers; i++)
		fprintf(stderr, " %" PRIu64, load_relaxed(&weir->service.handler[i].serving));
	fprintf(stderr, "\n");
	for (uint32_t i = 0; i < load_relaxed(&vm->regions); i++) {
		const struct region *region = load_acquire(&vm->region[i]);

		for (uint32_t page = 0; region && page < load_relaxed(&region->pages); page++) {
			const uint64_t w = load_relaxed(&region->word[page]);

			if (w & (WORD_BUSY | WORD_PARKED))
				fprintf(stderr, "  page %u of region %u: word %#" PRIx64 "\n", page,
					i, w);
		}
	}
}

_Noreturn void fail_at(const char *file, int line, const char *format, ...)
{
	static _Atomic bool failing;
	va_list args;

	/* The first report is the one that counts; the others wait for its _exit. */
	while (atomic_exchange(&failing, true))
		sleep(1);
	fprintf(stderr, "%s: %s:%d: ", program_invocation_short_name, file, line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n%s: %s failed; seed %" PRIu64 "\n", program_invocation_short_name,
		setup.name, setup.seed);
	print_states();
	/* For a debugger: who hangs stays where it is. */
	if (getenv("WEIR_STRESS_STAY"))
		while (true)
			pause();
	_exit(1);
}

/* --- players --- */

static void *watch(void *unused)
{
	static struct player watchdog = {.name = "watchdog"};
	uint64_t seen[PLAYERS_MAX] = {0};
	unsigned still[PLAYERS_MAX] = {0};

	(void)unused;
	me = &watchdog;
	for (;;) {
		sleep(1);
		for (unsigned i = 0; i < load_acquire(&players); i++) {
			uint64_t steps = load_relaxed(&player[i].steps);

			still[i] = load_relaxed(&player[i].alive) && steps == seen[i] ? still[i] + 1
										      : 0;
			seen[i] = steps;
			if (still[i] < STUCK_S)
				continue;
			if (load_relaxed(&watched)) {
				print_stats(load_relaxed(&watched));
				print_engine(load_relaxed(&watched));
			}
			FAIL("%s %u hangs: no progress for %u s", player[i].name, player[i].number,
			     STUCK_S);
		}
	}
	return NULL;
}

static void *player_main(void *arg)
{
	me = arg;
	me->body(me);
	store_relaxed(&me->alive, false);
	return NULL;
}

/* Only the main thread makes players; places of ended ones are used again. */
static struct player *player_new(const char *name, unsigned number)
{
	static uint64_t made;
	unsigned i = 0;

	while (i < load_relaxed(&players) && (load_relaxed(&player[i].alive) || player[i].thread))
		i++;
	CHECK(i < PLAYERS_MAX, "too many threads");
	player[i].name = name;
	player[i].number = number;
	player[i].random = setup.seed ^ mixed(++made);
	store_relaxed(&player[i].what, NULL);
	store_relaxed(&player[i].alive, true);
	/* Pairs with the acquire in watch. */
	if (i == load_relaxed(&players))
		store_release(&players, i + 1);
	return &player[i];
}

struct player *players_init(void)
{
	pthread_t watchdog;

	me = player_new("main", 0);
	CHECK(!pthread_create(&watchdog, NULL, watch, NULL), "no thread");
	pthread_detach(watchdog);
	return me;
}

struct player *player_start(const char *name, unsigned number, void (*body)(struct player *me),
			    void *arg)
{
	struct player *p = player_new(name, number);

	p->body = body;
	p->arg = arg;
	CHECK(!pthread_create(&p->thread, NULL, player_main, p), "no thread");
	return p;
}

void player_join(struct player *p)
{
	/* In steps, so that the watchdog blames the one that hangs and not the one that waits. */
	while (load_relaxed(&p->alive))
		pause_ms(1);
	pthread_join(p->thread, NULL);
	p->thread = 0;
}

void pause_ms(unsigned ms)
{
	do {
		doing("sleep", ms);
		usleep(1000 * MIN(ms, 100u));
		ms -= MIN(ms, 100u);
	} while (ms);
}

void descriptors_apart(void)
{
	enum { WEIRS = 64 };

	for (int fd = 0; fd >= 0 && fd < WEIRS - 1;)
		fd = (int)syscall(SYS_dup, STDOUT_FILENO);
}

/* --- instances --- */

struct weir *open_or_skip(uint64_t limit)
{
	struct weir_options options = {
		.size = sizeof(options),
		.limit = limit,
		.handlers = setup.handlers,
		.kmap_slots = setup.kmap_slots,
		.compress = setup.compress,
		.placement = setup.placement,
		.mode = setup.mode,
	};
	struct weir *weir;
	int err;

	doing("weir_open", limit);
	err = weir_open(&options, &weir);
	if (err == -EPERM || err == -ENOSYS) {
		printf("skipped: %s\n", err == -EPERM ? "no permission for userfaultfd"
						      : "this kernel's userfaultfd cannot do it");
		exit(77);
	}
	CHECK(!err, "weir_open: %s", strerrorname_np(-err));
	return weir;
}

void set_limit(struct weir *weir, uint64_t limit)
{
	int err = weir_set_limit(weir, limit);

	CHECK(!err, "weir_set_limit: %s", strerrorname_np(-err));
}

struct weir_stats stats_now(struct weir *weir)
{
	struct weir_stats stats = {.size = sizeof(stats)};
	int err = weir_stats_read(weir, &stats);

	CHECK(!err && stats.size == sizeof(stats), "weir_stats_read: %s", strerrorname_np(-err));
	return stats;
}

/* Do all of weir's threads sleep? On a busy machine one that has work may wait for a CPU longer than anybody polls. */
static bool threads_sleep(void)
{
	DIR *tasks = opendir("/proc/self/task");
	bool sleep = true;

	CHECK(tasks, "/proc/self/task");
	for (struct dirent *d; sleep && (d = readdir(tasks));) {
		char path[64], text[128];
		const char *state;
		ssize_t n;
		int fd;

		snprintf(path, sizeof(path), "/proc/self/task/%.20s/stat", d->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
		if (fd >= 0)
			close(fd);
		text[MAX(n, (ssize_t)0)] = '\0';
		/* "1234 (weir-reclaim) S ..." */
		state = strstr(text, "(weir-") ? strrchr(text, ')') : NULL;
		sleep = !state || !strncmp(state, ") S", 3);
	}
	closedir(tasks);
	return sleep;
}

void watch_instance(struct weir *weir)
{
	store_relaxed(&watched, weir);
}

struct weir_stats stats_settled(struct weir *weir)
{
	struct weir_stats before, now;

	watch_instance(weir);
	/* What threads have prepaid is charged too, and is nobody's page. */
	CHECK(!weir_container_reclaim(weir_container_root(weir), 0), "draining the stocks");
	now = stats_now(weir);
	for (unsigned same = 0, polls = 0; same < 8; polls++) {
		pause_ms(10);
		before = now;
		now = stats_now(weir);
		if (now.charged > now.limit || before.charged != now.charged ||
		    before.moved_out != now.moved_out || before.stored != now.stored ||
		    before.faults != now.faults)
			same = 0;
		else
			same += threads_sleep();
		CHECK(polls < 1000 * SLOW,
		      "it does not come to rest: charged %" PRIu64 ", limit %" PRIu64, now.charged,
		      now.limit);
	}
	watch_instance(NULL);
	return now;
}

void stats_check(struct weir *weir, struct area **areas, unsigned count)
{
	struct weir_stats s = stats_settled(weir);
	uint64_t resident = 0, written = 0, all = 0;

	for (unsigned i = 0; i < count; i++) {
		resident += (uint64_t)area_resident(areas[i]) << PAGE_SHIFT;
		all += (uint64_t)areas[i]->pages << PAGE_SHIFT;
		for (uint32_t page = 0; page < areas[i]->pages; page++) {
			bool any = false;

			for (uint32_t k = 0; k < areas[i]->per_page; k++) {
				struct contents *c =
					&areas[i]->cell[page * areas[i]->per_page + k].now;

				any = any || c->kind != ZERO || c->stamp;
			}
			written += any ? PAGE_SIZE : 0;
		}
	}
	CHECK(s.resident == resident, "resident is %" PRIu64 ", the kernel has %" PRIu64,
	      s.resident, resident);
	CHECK(s.charged >= s.resident + s.compressed &&
		      s.charged - s.resident - s.compressed <= s.overhead,
	      "charged %" PRIu64 " is not resident %" PRIu64 " + compressed %" PRIu64
	      " + a part of the overhead %" PRIu64,
	      s.charged, s.resident, s.compressed, s.overhead);
	CHECK(s.populated >= written && s.populated >= s.resident && s.populated <= all,
	      "populated %" PRIu64 ": at least %" PRIu64 " was written, %" PRIu64
	      " resident, all is %" PRIu64,
	      s.populated, written, s.resident, all);
	CHECK(s.charged <= s.limit, "charged %" PRIu64 " at rest, limit %" PRIu64, s.charged,
	      s.limit);
	CHECK(s.peak >= s.charged, "peak %" PRIu64 " below charged %" PRIu64, s.peak, s.charged);
	CHECK(s.fault_ns_p50 <= s.fault_ns_p90 && s.fault_ns_p90 <= s.fault_ns_p99,
	      "quantiles fall");
	CHECK(s.ahead <= (s.first_faults + s.compressed_faults + s.stored_faults) * 64,
	      "more pages ahead than faults could ask for");
}

void stats_check_empty(struct weir *weir)
{
	struct weir_stats s = stats_settled(weir);

	CHECK(!s.resident && !s.compressed && !s.stored && !s.populated &&
		      s.charged == s.packet_bytes,
	      "without regions resident is %" PRIu64 ", compressed %" PRIu64 ", stored %" PRIu64
	      ", populated %" PRIu64 ", charged %" PRIu64,
	      s.resident, s.compressed, s.stored, s.populated, s.charged);
}
