/* SPDX-License-Identifier: BSD-2-Clause */
#include "publish.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "command.h"
#include "control/container.h"
#include "instance.h"
#include "os/mem.h"
#include "os/socket.h"
#include "os/thread.h"
#include "segment.h"

enum {
	PERIOD_NS = WEIR_SEGMENT_PERIOD_MS * 1000000,
	NAMES = 16, /* others may have taken names of ours */
};

/* Exactly what follows the header here. */
struct numbers {
	uint64_t value[WEIR_SEGMENT_VALUE_COUNT];
	struct weir_segment_container container[WEIR_SEGMENT_CONTAINERS];
};

#define SEGMENT_BYTES ALIGN_UP(sizeof(struct weir_segment) + sizeof(struct numbers), PAGE_SIZE)

/* --- the segment --- */

static void container_values(struct weir_container *c, uint64_t *value)
{
	struct weir_pressure pressure;
	struct weir_events events;

	weir_container_pressure(c, &pressure);
	weir_container_events(c, 0, &events);
	const uint64_t all[] = {
		[WEIR_SEGMENT_CONTAINER_current_bytes] = weir_container_get(c, WEIR_CURRENT),
		[WEIR_SEGMENT_CONTAINER_peak_bytes] = weir_container_get(c, WEIR_PEAK),
		[WEIR_SEGMENT_CONTAINER_max_bytes] = weir_container_get(c, WEIR_MAX),
		[WEIR_SEGMENT_CONTAINER_high_bytes] = weir_container_get(c, WEIR_HIGH),
		[WEIR_SEGMENT_CONTAINER_low_bytes] = weir_container_get(c, WEIR_LOW),
		[WEIR_SEGMENT_CONTAINER_swap_current_bytes] =
			weir_container_get(c, WEIR_SWAP_CURRENT),
		[WEIR_SEGMENT_CONTAINER_swap_max_bytes] = weir_container_get(c, WEIR_SWAP_MAX),
		[WEIR_SEGMENT_CONTAINER_resident_bytes] =
			container_usage(c, CHARGE_RESIDENT) + container_usage(c, CHARGE_FILE),
		[WEIR_SEGMENT_CONTAINER_compressed_bytes] = container_usage(c, CHARGE_COMPRESSED),
		[WEIR_SEGMENT_CONTAINER_pressure_some_us] = pressure.some_us,
		[WEIR_SEGMENT_CONTAINER_pressure_full_us] = pressure.full_us,
		[WEIR_SEGMENT_CONTAINER_pressure_some_avg10] = pressure.some_avg10,
		[WEIR_SEGMENT_CONTAINER_pressure_full_avg10] = pressure.full_avg10,
		[WEIR_SEGMENT_CONTAINER_events_low] = events.low,
		[WEIR_SEGMENT_CONTAINER_events_high] = events.high,
		[WEIR_SEGMENT_CONTAINER_events_max] = events.max,
		[WEIR_SEGMENT_CONTAINER_events_oom] = events.oom,
		[WEIR_SEGMENT_CONTAINER_events_swap_max] = events.swap_max,
		[WEIR_SEGMENT_CONTAINER_events_swap_fail] = events.swap_fail,
		[WEIR_SEGMENT_CONTAINER_compressed_share_bytes] =
			reclaim_share(&instance_of(c)->reclaim, c),
	};

	_Static_assert(ARRAY_SIZE(all) == WEIR_SEGMENT_CONTAINER_VALUE_COUNT,
		       "each number has its place");
	memcpy(value, all, sizeof(all));
}

/* Under the tree's lock, so that none of them goes away. */
static void containers_write(struct tree *tree, struct weir_segment *segment,
			     struct weir_segment_container *out)
{
	unsigned count = 0, more = 0;

	lock_acquire(&tree->lock);
	for (struct weir_container *c = tree->root; c; c = container_next(tree->root, c)) {
		if (count == WEIR_SEGMENT_CONTAINERS ||
		    container_path(c, out[count].path, sizeof(out[count].path)) < 0) {
			more++;
			continue;
		}
		container_values(c, out[count].value);
		count++;
	}
	lock_release(&tree->lock);
	segment->containers = count;
	segment->more = more;
}

static void segment_write(struct weir *weir)
{
	struct publish *p = &weir->publish;
	struct weir_segment *segment = p->segment;
	struct numbers *numbers = (struct numbers *)(segment + 1);
	_Atomic uint64_t *sequence = (_Atomic uint64_t *)&segment->sequence;
	const uint64_t before = load_relaxed(sequence);
	struct weir_stats stats = {.size = sizeof(stats)};

	assert_always(segment);
	(void)weir_stats_read(weir, &stats);
	store_relaxed(sequence, before + 1);
	/* Pairs with what a reader does between its reads: it sees the odd number, or nothing of what follows. */
	atomic_thread_fence(memory_order_release);
	segment->magic = WEIR_SEGMENT_MAGIC;
	segment->header = sizeof(*segment);
	segment->values = WEIR_SEGMENT_VALUE_COUNT;
	segment->container_values = WEIR_SEGMENT_CONTAINER_VALUE_COUNT;
	segment->start_ns = p->start_ns;
	segment->now_ns = p->written_ns = now_ns();
	segment_values(&stats, mem_peak_rss(), numbers->value);
	containers_write(&weir->containers, segment, numbers->container);
	segment->bytes =
		(uint32_t)((char *)&numbers->container[segment->containers] - (char *)segment);
	store_release(sequence, before + 2);
}

/* For the first one who watches. */
static int segment_make(struct weir *weir)
{
	struct publish *p = &weir->publish;

	if (p->segment)
		return 0;
	p->segment_fd = mem_published_create(SEGMENT_BYTES, (void **)&p->segment);
	if (p->segment_fd < 0) {
		p->segment = NULL;
		return p->segment_fd;
	}
	return 0;
}

/* --- commands --- */

static struct reply set(struct weir *weir, struct weir_container *c, const struct command *command)
{
	int err;

	/* The root's is lowered in the background, as any program does it; and what else belongs to it is set, too. */
	if (command->value == WEIR_MAX && c == weir->containers.root) {
		err = weir_set_limit(weir, command->bytes);
		if (!err && container_held(c) > command->bytes)
			err = -EAGAIN;
	} else {
		err = weir_container_set(c, command->value, command->bytes);
	}
	return (struct reply){.result = err, .number = container_charged(c)};
}

static struct reply reclaim(struct weir_container *c, uint64_t bytes)
{
	const uint64_t before = container_charged(c);
	int err = weir_container_reclaim(c, bytes);
	const uint64_t after = container_charged(c);

	return (struct reply){.result = err, .number = before > after ? before - after : 0};
}

static struct reply container_command(struct weir *weir, const struct command *command)
{
	struct weir_container *c = container_pin(weir->containers.root, command->path);
	struct reply reply;

	if (!c)
		return (struct reply){.result = -ENOENT};
	reply = command->kind == COMMAND_SET ? set(weir, c, command) : reclaim(c, command->bytes);
	container_unpin(c);
	return reply;
}

/* Of bytes, or -errno. */
static struct reply moved(int64_t bytes)
{
	return bytes < 0 ? (struct reply){.result = (int)bytes}
			 : (struct reply){.number = (uint64_t)bytes};
}

static struct reply run(struct weir *weir, struct client *client, const struct command *command)
{
	int err;

	switch (command->kind) {
	case COMMAND_WATCH:
		err = segment_make(weir);
		client->watches |= !err;
		return (struct reply){.result = err};
	case COMMAND_SET:
	case COMMAND_RECLAIM:
		return container_command(weir, command);
	case COMMAND_ONLINE:
		return moved(weir_memory_online(weir, command->bytes));
	case COMMAND_OFFLINE:
		return moved(weir_memory_offline(weir, command->bytes));
	}
	return (struct reply){.result = -ENOTSUP};
}

static int answer(int fd, const struct reply *reply, int pass)
{
	char text[64];
	int n = reply_format(reply, text, sizeof(text));

	/* Who does not read what he has asked for has himself to blame: a socket that is full is closed. */
	return n < 0 || socket_send(fd, text, (size_t)n, pass) < 0 ? -1 : 0;
}

/* --- clients --- */

/* -1: it is gone, or not to be talked to. */
static int serve(struct weir *weir, struct client *client)
{
	char text[WEIR_COMMAND_BYTES + 1];
	struct command command;
	struct reply reply;
	ssize_t n = socket_receive(client->fd, text, WEIR_COMMAND_BYTES, NULL);

	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n == 0 || (n < 0 && n != -EMSGSIZE))
		return -1;
	reply.result = n < 0 ? (int)n : command_parse(text, (size_t)n, &command);
	reply.number = 0;
	if (!reply.result)
		reply = run(weir, client, &command);
	else
		return answer(client->fd, &reply, -1);
	if (command.kind != COMMAND_WATCH || reply.result)
		return answer(client->fd, &reply, -1);
	segment_write(weir);
	return answer(client->fd, &reply, weir->publish.segment_fd);
}

static bool peer_allowed(int fd)
{
	struct socket_peer peer;

	return !socket_peer(fd, &peer) && (peer.uid == 0 || peer.uid == socket_user());
}

/* The program may allow no descriptors, or fewer than there are here (RLIMIT_NOFILE): then neither poll nor accept can be had, and whoever
 * waits for us waits on. False: it is to end. */
static bool nap(struct publish *p)
{
	sleep_ns(PERIOD_NS);
	return !atomic_load(&p->stop);
}

static void admit(struct publish *p, int listen_fd)
{
	int fd = socket_accept(listen_fd);
	struct reply refusal = {.result = 0};

	if (fd == -EMFILE || fd == -ENFILE)
		(void)nap(p);
	if (fd < 0)
		return;
	if (!peer_allowed(fd))
		refusal.result = -EPERM;
	else if (p->clients == PUBLISH_CLIENTS)
		refusal.result = -EBUSY;
	if (!refusal.result) {
		p->client[p->clients++] = (struct client){.fd = fd};
		return;
	}
	(void)answer(fd, &refusal, -1);
	socket_close(fd);
}

/* Milliseconds until the segment is to be written again; -1: nobody reads it. */
static int until_next(const struct publish *p)
{
	bool watched = false;
	uint64_t past;

	if (!p->segment)
		return -1;
	for (unsigned i = 0; i < p->clients; i++)
		watched |= p->client[i].watches;
	if (!watched)
		return -1;
	past = now_ns() - p->written_ns;
	return past >= PERIOD_NS ? 0 : (int)((PERIOD_NS - past) / 1000000 + 1);
}

/* False: it is to end. */
static bool turn(struct weir *weir, int listen_fd)
{
	struct publish *p = &weir->publish;
	struct pollfd fds[PUBLISH_CLIENTS + 1];
	const unsigned clients = p->clients;

	fds[clients] = (struct pollfd){.fd = listen_fd, .events = POLLIN};
	for (unsigned i = 0; i < clients; i++)
		fds[i] = (struct pollfd){.fd = p->client[i].fd, .events = POLLIN};
	if (socket_poll(fds, clients + 1, until_next(p)) < 0)
		return nap(p);
	/* From the last on: the last one takes the place of one that goes. */
	for (unsigned i = clients; i--;) {
		if (fds[i].revents && serve(weir, &p->client[i])) {
			socket_close(p->client[i].fd);
			p->client[i] = p->client[--p->clients];
		}
	}
	if (until_next(p) == 0)
		segment_write(weir);
	if (fds[clients].revents & ~POLLIN)
		return false;
	if (fds[clients].revents)
		admit(p, listen_fd);
	return true;
}

/* --- start and stop --- */

/* A name of ours: that somebody has taken the first one must not hide us. */
static int listen_somewhere(void)
{
	char name[64];
	int fd = -EADDRINUSE;

	for (unsigned i = 0; i < NAMES && fd == -EADDRINUSE; i++) {
		snprintf(name, sizeof(name), i ? "weir/%d.%u" : "weir/%d", process_id(), i);
		fd = socket_listen(name);
	}
	return fd;
}

static void *publish_main(void *data)
{
	struct weir *weir = data;
	struct publish *p = &weir->publish;
	const int fd = listen_somewhere();

	if (fd < 0) {
		log_line("`weir stat` and `weir top` cannot see this program: no socket (%s)",
			 errno_name(fd));
		return NULL;
	}
	/* Either this thread sees that it is to stop, or who stops it sees the socket: pairs with stop_errand. */
	(void)atomic_exchange(&p->listen_fd, fd);
	if (!atomic_load(&p->stop)) {
		while (turn(weir, fd))
			;
	}
	return NULL;
}

int publish_start(struct weir *weir)
{
	struct publish *p = &weir->publish;
	int err;

	memset(p, 0, sizeof(*p));
	store_relaxed(&p->listen_fd, -1);
	p->start_ns = now_ns();
	err = thread_start(&p->thread, "weir-publish", publish_main, weir);
	p->started = !err;
	return err;
}

/* The sockets are in weir's table, which of the others only the background thread has. */
static int stop_errand(void *data)
{
	struct publish *p = data;
	int fd;

	/* Pairs with publish_main. */
	(void)atomic_exchange(&p->stop, true);
	fd = atomic_load(&p->listen_fd);
	if (fd >= 0)
		socket_shutdown(fd);
	return 0;
}

static int close_errand(void *data)
{
	struct publish *p = data;

	for (unsigned i = 0; i < p->clients; i++)
		socket_close(p->client[i].fd);
	if (load_relaxed(&p->listen_fd) >= 0)
		socket_close(load_relaxed(&p->listen_fd));
	if (p->segment) {
		mem_release(p->segment, SEGMENT_BYTES);
		mem_file_close(p->segment_fd);
	}
	return 0;
}

void publish_stop(struct weir *weir)
{
	struct publish *p = &weir->publish;

	if (!p->started)
		return;
	(void)reclaim_errand(&weir->reclaim, stop_errand, p);
	pthread_join(p->thread, NULL);
	(void)reclaim_errand(&weir->reclaim, close_errand, p);
	p->started = false;
}
