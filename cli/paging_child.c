/* SPDX-License-Identifier: BSD-2-Clause */
#include "paging_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "base/log.h"
#include "os/mem.h"
#include "paging_disk.h"
#include "paging_limit.h"
#include "weir/weir.h"

enum what { RUN, VERIFY };
struct order {
	enum what what;
	struct load load;
	uint64_t limit;
	uint64_t writes; /* VERIFY: how many have been made */
};

/* --- in the child --- */

static struct {
	const struct child_setup *setup;
	struct child_figures *figures;
	char *region;
	size_t bytes;
	struct weir *weir;
	uint64_t missed, ahead, stored; /* until the window opened; then within it */
} me;

static void attach(void)
{
	weir_thread_attach(me.weir);
}

static void detach(void)
{
	weir_thread_unbind(me.weir);
	weir_thread_detach(me.weir);
}

static void weir_mark(void *data, bool open)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	(void)data;
	(void)weir_stats_read(me.weir, &stats);
	if (me.setup->table == TABLE_MMAP)
		me.missed = stats.faults - (open ? 0 : me.missed);
	else
		me.missed = stats.compressed_faults + stats.stored_faults - (open ? 0 : me.missed);
	me.ahead = stats.ahead - (open ? 0 : me.ahead);
	me.stored = stats.stored_faults - (open ? 0 : me.stored);
}

static int weir_start(void)
{
	const struct child_setup *setup = me.setup;
	const struct weir_options options = {
		.size = sizeof(options),
		.limit = MAX(setup->limit, (uint64_t)WEIR_LIMIT_MIN),
		/* All that it may: this is about compressed memory. With a file the default. */
		.compressed_share = setup->table == TABLE_ZRAM ? UINT64_MAX : 0,
		.store_dir = setup->table == TABLE_FILE ? setup->path : NULL,
		.mode = setup->design == SIGNAL ? WEIR_MODE_SIGNAL : WEIR_MODE_THREAD,
	};
	uint64_t bytes;
	void *addr;
	int err = weir_open(&options, &me.weir);

	if (err)
		return err;
	attach();
	if (setup->table == TABLE_MMAP)
		err = weir_region_open(weir_container_root(me.weir), setup->path, &addr, &bytes);
	else
		err = weir_region_create(me.weir, me.bytes, &addr);
	me.region = err ? NULL : addr;
	return err;
}

static int peer_start(void)
{
	int fd = -1;

	if (me.setup->table == TABLE_MMAP) {
		fd = open(me.setup->path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		me.region = mmap(NULL, me.bytes, PROT_READ, MAP_SHARED, fd, 0);
		close(fd);
	} else {
		me.region = mmap(NULL, me.bytes, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	}
	if (me.region == MAP_FAILED)
		return -errno;
	/* A huge page would come and go for each of its 512 pages. */
	(void)madvise(me.region, me.bytes, MADV_NOHUGEPAGE);
	return 0;
}

static int start(void)
{
	const struct child_setup *setup = me.setup;
	int err = setup->group >= 0 ? peers_group_enter((enum peer_group)setup->group) : 0;

	if (err)
		return err;
	if (setup->design == LIMIT && setup->table == TABLE_MMAP)
		return 0;
	if (setup->design == LIMIT)
		return limit_open(setup->pages, setup->resident, setup->contents);
	err = setup->design == PEER ? peer_start() : weir_start();
	if (!err && setup->table != TABLE_MMAP)
		load_fill(me.region, setup->pages, setup->contents);
	return err;
}

static int run_limit(const struct load *load)
{
	struct load hits = *load;
	struct load_result all_there;
	uint64_t loads = 0;
	int err;

	if (me.setup->table == TABLE_MMAP) {
		me.figures->hit_ns = 0;
		me.figures->loads = 1;
		return disk_run(load, me.setup->path, &me.figures->load);
	}
	hits.window_ns = load->window_ns / 4;
	hits.warm_ns = load->warm_ns / 4;
	err = limit_hits(hits, &all_there);
	if (!err)
		err = limit_run(*load, &me.figures->load, &loads);
	me.figures->hit_ns = load->threads * 1e9 / MAX(all_there.per_s, 1);
	me.figures->loads = (double)loads / (double)MAX(me.figures->load.accesses, 1u);
	return err;
}

static int run_peer(struct load *load)
{
	struct load_result *result = &me.figures->load;
	int err;

	if (me.setup->table == TABLE_MMAP)
		(void)madvise(me.region, me.bytes,
			      load->pattern == PATTERN_SEQ ? MADV_SEQUENTIAL : MADV_RANDOM);
	err = load_run(load, result, &me.figures->hist);
	me.figures->miss = (double)result->major / (double)MAX(result->accesses, 1u);
	return err;
}

static int run_weir(struct load *load)
{
	struct child_figures *f = me.figures;
	struct weir_container_stat stat = {.size = sizeof(stat)};
	struct weir_stats stats = {.size = sizeof(stats)};
	int err;

	load->thread_begin = attach;
	load->thread_end = detach;
	load->mark = weir_mark;
	err = load_run(load, &f->load, &f->hist);
	f->miss = (double)me.missed / (double)MAX(f->load.accesses, 1u);
	f->loads = (double)(me.missed + me.ahead) / (double)MAX(f->load.accesses, 1u);
	f->stored_faults = me.stored;
	(void)weir_stats_read(me.weir, &stats);
	(void)weir_container_stat(weir_container_root(me.weir), &stat);
	f->limit = stats.limit;
	f->resident = stats.resident;
	f->charged = stats.charged;
	f->overhead = stats.overhead;
	f->kept = stat.swapcache;
	return err;
}

static int obey(struct order *order)
{
	uint64_t sum;
	int err = 0;

	if (order->what == VERIFY) {
		sum = load_verify(me.region, me.setup->pages, me.setup->contents);
		return sum == order->writes ? 0 : -EBADMSG;
	}
	memset(&me.figures->hist, 0, sizeof(me.figures->hist));
	order->load.region = me.region;
	if (me.setup->design == LIMIT)
		return run_limit(&order->load);
	if (me.setup->design == PEER)
		return run_peer(&order->load);
	if (order->limit)
		err = weir_set_limit(me.weir, order->limit);
	return err ? err : run_weir(&order->load);
}

static void child_main(int fd)
{
	static struct order order;
	int err = start();

	/* The bench went away while we were on our way. */
	while (write(fd, &err, sizeof(err)) == (ssize_t)sizeof(err) &&
	       read(fd, &order, sizeof(order)) == (ssize_t)sizeof(order))
		err = obey(&order);
	/* Not by way of weir_close: nobody measures it, and the memory goes at once. */
	_exit(0);
}

/* --- in the bench --- */

static _Atomic pid_t alive[2 * DESIGNS]; /* (A) for the signal handler */

static void alive_set(pid_t from, pid_t to)
{
	for (unsigned i = 0; i < ARRAY_SIZE(alive); i++) {
		if (load_relaxed(&alive[i]) == from) {
			store_relaxed(&alive[i], to);
			return;
		}
	}
}

void children_kill(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(alive); i++) {
		pid_t pid = load_relaxed(&alive[i]);

		if (pid > 0)
			(void)kill(pid, SIGKILL);
	}
}

/* An answer; meanwhile the peer's statistics are read, as anybody who watches it would. */
static int answer(struct child *child)
{
	enum { EVERY_MS = 25 };
	struct pollfd wait = {.fd = child->fd, .events = POLLIN};
	int err, n;

	for (;;) {
		n = poll(&wait, 1, EVERY_MS);
		if (n > 0)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (child->grouped)
			peers_group_poke(GROUP_PEER);
	}
	if (read(child->fd, &err, sizeof(err)) == (ssize_t)sizeof(err))
		return err;
	child_end(child);
	return -ECHILD;
}

int child_start(struct child *child, const struct child_setup *setup)
{
	int ends[2];
	const pid_t bench = getpid();

	memset(child, 0, sizeof(*child));
	child->figures = mmap(NULL, sizeof(*child->figures), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (child->figures == MAP_FAILED)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
		(void)munmap(child->figures, sizeof(*child->figures));
		return -errno;
	}
	child->grouped = setup->group == GROUP_PEER;
	child->fd = ends[0];
	child->pid = fork();
	if (!child->pid) {
		close(ends[0]);
		peers_child();
		/* A terminal's Ctrl-C is the bench's to deal with. */
		(void)signal(SIGINT, SIG_IGN);
		(void)signal(SIGTERM, SIG_DFL);
		(void)signal(SIGHUP, SIG_DFL);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != bench)
			_exit(1);
		me.setup = setup;
		me.figures = child->figures;
		me.bytes = (size_t)setup->pages << PAGE_SHIFT;
		child_main(ends[1]);
	}
	close(ends[1]);
	if (child->pid < 0) {
		child->pid = 0;
		return -EAGAIN;
	}
	alive_set(0, child->pid);
	return answer(child);
}

static int tell(struct child *child, const struct order *order)
{
	if (!child->pid)
		return -ECHILD;
	if (send(child->fd, order, sizeof(*order), MSG_NOSIGNAL) != (ssize_t)sizeof(*order)) {
		child_end(child);
		return -ECHILD;
	}
	return answer(child);
}

int child_run(struct child *child, const struct load *load, uint64_t limit)
{
	const struct order order = {.what = RUN, .load = *load, .limit = limit};
	int err = tell(child, &order);

	if (err)
		return err;
	child->writes += child->figures->load.writes;
	return child->figures->load.wrong ? -EBADMSG : 0;
}

int child_verify(struct child *child)
{
	const struct order order = {.what = VERIFY, .writes = child->writes};

	return tell(child, &order);
}

void child_end(struct child *child)
{
	if (child->pid > 0) {
		(void)kill(child->pid, SIGKILL);
		while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
			;
		alive_set(child->pid, 0);
		close(child->fd);
		(void)munmap(child->figures, sizeof(*child->figures));
	}
	child->pid = 0;
	child->figures = NULL;
}
