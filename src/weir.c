/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An instance and its parts: wiring, start and stop. The layers below know nothing of each other but what points down;
 * where one must ask a higher one, it does so through an operation that is registered here.
 *
 * Start:  weir_open ──▶ background thread: own descriptor table, userfaultfd, pidfd ──▶ handlers ──▶ ready
 * Stop:   handlers (doorbell), then the background thread, then the memory.
 */
#include "weir/weir.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/log.h"
#include "control/stock.h"
#include "instance.h"
#include "os/signal.h"
#include "os/thread.h"
#include "vm/file.h"

enum start_state { STARTING, RUNNING, FAILED };
enum { CACHE_FRAMES = 4 }; /* for each CPU and order */

#define WEIR_BYTES ALIGN_UP(sizeof(struct weir), PAGE_SIZE)
#define PAGER_BYTES ALIGN_UP(sizeof(struct pager), PAGE_SIZE)

static void tick(void *data)
{
	struct weir *weir = data;

	placement_tick(&weir->service.placement);
	fork_tick(weir);
	file_tick(&weir->vm);
}

/* --- the background thread --- */

void instance_starting(struct weir *weir)
{
	store_relaxed(&weir->started, STARTING);
}

void instance_started(struct weir *weir, int err)
{
	weir->start_error = err;
	/* Pairs with the acquire in instance_start_wait. */
	store_release(&weir->started, err ? FAILED : RUNNING);
	(void)futex_wake(&weir->started, 1);
}

int instance_start_wait(struct weir *weir)
{
	while (load_acquire(&weir->started) == STARTING)
		(void)futex_wait(&weir->started, STARTING, 0);
	return weir->start_error;
}

static void *background_main(void *data)
{
	struct weir *weir = data;
	int err = modes_open_own(weir);
	bool stay;

	(void)stock_open();
	if (!err && weir->vm.uffd >= 0)
		err = service_start(&weir->service);
	/* While malloc's memory is no region yet, where a new thread has things. */
	if (!err && weir->published)
		err = publish_start(weir);
	/* Else nobody is left to be stopped. Looked at before the opener goes on. */
	stay = !err || weir->service.started;
	if (!stay)
		store_close(weir->vm.store);
	instance_started(weir, err);
	if (stay)
		reclaim_run(&weir->reclaim);
	stock_close();
	return NULL;
}

/* --- open and close --- */

static int options_check(const struct weir_options *in, struct weir_options *out)
{
	unsigned level;
	int err;

	if (!in || in->size < offsetof(struct weir_options, compressed_share))
		return -EINVAL;
	memset(out, 0, sizeof(*out));
	memcpy(out, in, MIN(in->size, sizeof(*out)));
	if (out->mode == WEIR_MODE_DEFAULT)
		out->mode = WEIR_MODE_THREAD;
	if (out->limit < WEIR_LIMIT_MIN || out->limit > INT64_MAX || out->handlers > HANDLERS_MAX ||
	    (unsigned)out->placement >= PLACEMENT_POLICIES ||
	    (unsigned)out->mode > WEIR_MODE_BOTH || (out->trace && out->mode != WEIR_MODE_THREAD))
		return -EINVAL;
	err = object_codec_parse(out->compress, &level);
	if (err)
		return err == -ERANGE ? -EINVAL : err;
	/* A thread that serves its own fault has the program's descriptors, where the file of frames is not. */
	return out->kmap_slots && out->mode != WEIR_MODE_THREAD ? -ENOTSUP : 0;
}

static void frames_short(void *data, enum weir_zone zone)
{
	(void)zone;
	vm_attention(&((struct weir *)data)->vm);
}

/* The pool's frames in a file instead, and windows on them. -EINVAL: the number of windows. */
static int pool_high(struct weir *weir, struct weir_pool_options *options, unsigned slots)
{
	struct weir_kmap_options windows = {
		.size = sizeof(windows), .slots = slots, .slot_bytes = PAGE_SIZE << SPAN_ORDER_MAX};
	int err = slots < 4 ? -EINVAL : modes_open_frames(weir, options->low_max);

	if (err)
		return err;
	options->high_max = options->low_max;
	options->low_max = 0;
	options->flags = WEIR_POOL_GIVEN_FD;
	options->high_fd = weir->frames_fd;
	err = weir_pool_create(options, &weir->pool);
	if (err)
		return err;
	windows.pool = weir->pool;
	return weir_kmap_create(&windows, &weir->kmap);
}

/* A pool for compressed pages, all of it offline yet. Blocks are small, so that it follows the load closely, and caches
 * hold little: what they hold is nobody's, and comes on top of the limit. */
static int pool_open(struct weir *weir, uint64_t limit, unsigned slots)
{
	/* Room over the limit, too: with a full disk compressed pages stay in memory. Where address space is limited, an
	 * eighth of it; a page that finds no room for its copy stays as it is. */
	const uint64_t most = MIN(MIN(mem_machine(), GIB(256)), mem_address_space() / 8);
	struct weir_pool_options options = {.size = sizeof(options),
					    .low_max = ALIGN_UP(most, MIB(16)),
					    .block = MIB(4),
					    .cache_frames = CACHE_FRAMES,
					    .low = FOLLOW_FREE_LOW,
					    .high = FOLLOW_FREE_LOW,
					    .below = frames_short,
					    .data = weir};
	uint32_t first;
	int err;

	while (options.block < MIB(16) && options.block < limit / 32)
		options.block *= 2;
	err = slots ? pool_high(weir, &options, slots) : weir_pool_create(&options, &weir->pool);
	/* vm.overcommit_memory=2: what there is shows only by trying. */
	while (err == -ENOMEM && !slots && options.low_max > MIB(64)) {
		options.low_max = ALIGN_UP(options.low_max / 2, MIB(16));
		err = weir_pool_create(&options, &weir->pool);
	}
	if (err)
		return err;
	return weir_pool_add(weir->pool, slots ? WEIR_ZONE_HIGH : WEIR_ZONE_LOW,
			     (uint32_t)((options.low_max + options.high_max) / options.block),
			     &first);
}

_Static_assert((int)WEIR_PLACEMENT_AUTO == PLACEMENT_AUTO &&
		       (int)WEIR_PLACEMENT_NONE == PLACEMENT_NONE &&
		       (int)WEIR_PLACEMENT_PAIR == PLACEMENT_PAIR &&
		       (int)WEIR_PLACEMENT_FOLLOW == PLACEMENT_FOLLOW,
	       "the program's placements are the service's");

/* The containers of a path, each of which is made. */
static int home_make(struct weir *weir, const char *path)
{
	weir->home = weir->containers.root;
	for (const char *at = path ? path : ""; *at;) {
		char name[WEIR_NAME_MAX + 1];
		const size_t len = strcspn(at, "/");
		int err;

		if (len > WEIR_NAME_MAX)
			return -EINVAL;
		memcpy(name, at, len);
		name[len] = '\0';
		err = weir_container_create(weir->home, name, &weir->home);
		if (err)
			return err;
		at += len;
		at += *at == '/';
	}
	return 0;
}

static int parts_init(struct weir *weir, const struct weir_options *options)
{
	int err;

	weir->mode = options->mode;
	weir->trace = options->trace;
	weir->published = options->publish;
	lock_init(&weir->lock, RANK_INSTANCE, "instance");
	lock_init(&weir->store_lock, RANK_STORE, "store");
	lock_init(&weir->fork.lock, RANK_FORK, "fork");
	weir->fork.asked = options->hand_over;
	weir->fork.patience_ns = 3000000000u;
	err = tree_init(&weir->containers, options->limit);
	if (err)
		return err;
	err = home_make(weir, options->container);
	if (err)
		return err;
	weir->frames_fd = -1;
	err = pool_open(weir, options->limit, options->kmap_slots);
	if (err)
		return err;
	err = compressed_init(&weir->memory, weir->pool);
	if (err)
		return err;
	compressed_kmap_set(&weir->memory, weir->kmap);
	err = store_init(&weir->stores[0], options->store, options->store_dir);
	if (err)
		return err;
	err = vm_init(&weir->vm, weir->containers.root, &weir->memory, &weir->stores[0]);
	if (err)
		return err;
	weir->vm.kmap_slots = options->kmap_slots;
	(void)!object_codec_parse(options->compress, &weir->vm.zstd_level);
	weir->share = options->compressed_share;
	weir->vm.share_fixed = weir->share > 0;
	tenants_share(weir);
	weir->pager = mem_alloc(PAGER_BYTES);
	if (!weir->pager)
		return -ENOMEM;
	err = reclaim_init(&weir->reclaim, &weir->vm, weir->pager);
	if (err)
		return err;
	tenants_init(weir);
	files_init(weir);
	weir->reclaim.follow.churn_ns = (uint64_t)options->churn_ms * 1000000;
	follow_grow(&weir->reclaim);
	weir->reclaim.tick = tick;
	weir->reclaim.tick_data = weir;
	err = service_init(&weir->service, &weir->vm, &weir->reclaim, options->handlers,
			   (enum placement_policy)options->placement);
	weir->service.forked = fork_told;
	weir->service.forked_data = weir;
	return err;
}

static void parts_destroy(struct weir *weir)
{
	service_destroy(&weir->service);
	reclaim_destroy(&weir->reclaim);
	mem_release(weir->pager, PAGER_BYTES);
	for (uint32_t i = 0; i < load_relaxed(&weir->vm.regions); i++) {
		if (load_relaxed(&weir->vm.region[i]))
			region_destroy(&weir->vm, load_relaxed(&weir->vm.region[i]));
	}
	vm_destroy(&weir->vm);
	compressed_destroy(&weir->memory);
	(void)weir_kmap_destroy(weir->kmap);
	weir_pool_destroy(weir->pool);
	tree_destroy(&weir->containers);
}

int weir_open(const struct weir_options *options, struct weir **out)
{
	struct weir_options checked;
	struct weir *weir;
	int err = options_check(options, &checked);

	if (err)
		return err;
	weir = mem_alloc(WEIR_BYTES);
	if (!weir)
		return -ENOMEM;
	/* It is used from the first page to the last: one call instead of a fault for each. */
	(void)mem_populate(weir, WEIR_BYTES, true);
	err = parts_init(weir, &checked);
	if (!err && weir->mode != WEIR_MODE_THREAD)
		err = modes_open_signal(weir);
	if (err)
		goto fail;
	/* Here, where there may be one thread only: with several the kernel waits for all CPUs, 10 ms and more. stock_open does it
	 * again at no cost, and says where it is not to be had. */
	(void)thread_barrier_register();
	err = thread_start(&weir->background, "weir-reclaim", background_main, weir);
	if (err)
		goto fail;
	err = instance_start_wait(weir);
	if (err) {
		reclaim_stop(&weir->reclaim);
		service_stop(&weir->service);
		pthread_join(weir->background, NULL);
		goto fail;
	}
	weir->trace = NULL;
	modes_hand_over(weir);
	*out = weir;
	return 0;
fail:
	modes_close_signal(weir);
	store_close(&weir->stores[0]);
	store_close(&weir->stores[1]);
	parts_destroy(weir);
	mem_release(weir, WEIR_BYTES);
	return err;
}

void weir_close(struct weir *weir)
{
	if (!weir)
		return;
	publish_stop(weir);
	placement_unbind(&weir->service.placement, 0);
	service_stop(&weir->service);
	(void)reclaim_errand(&weir->reclaim, files_close, weir);
	(void)reclaim_errand(&weir->reclaim, modes_close_own, weir);
	reclaim_stop(&weir->reclaim);
	pthread_join(weir->background, NULL);
	modes_close_signal(weir);
	store_close(&weir->stores[0]);
	store_close(&weir->stores[1]);
	parts_destroy(weir);
	mem_release(weir, WEIR_BYTES);
}

const char *weir_advice(int err)
{
	return uffd_advice(err);
}

int weir_set_limit(struct weir *weir, uint64_t limit)
{
	sigset_t signals;

	if (limit < WEIR_LIMIT_MIN || limit > INT64_MAX)
		return -EINVAL;
	/* Several words that belong together. */
	thread_signals_block(&signals);
	lock_acquire(&weir->lock);
	container_set_max(weir->containers.root, limit);
	tenants_share(weir);
	lock_release(&weir->lock);
	(void)stocks_drain(&weir->containers, NULL, false);
	vm_attention(&weir->vm);
	thread_signals_restore(&signals);
	return 0;
}

/* --- memory by hand --- */

struct memory_errand {
	struct reclaim *reclaim;
	uint64_t bytes;
	int64_t result;
};

static int online_errand(void *data)
{
	struct memory_errand *e = data;

	e->result = follow_online(e->reclaim, e->bytes);
	return 0;
}

static int offline_errand(void *data)
{
	struct memory_errand *e = data;

	e->result = follow_offline(e->reclaim, e->bytes);
	return 0;
}

static int64_t memory_errand(struct weir *weir, uint64_t bytes, int (*fn)(void *data))
{
	struct memory_errand e = {.reclaim = &weir->reclaim, .bytes = bytes};
	THREAD_SIGNALS_BLOCKED;

	if (!bytes)
		return -EINVAL;
	(void)reclaim_errand(&weir->reclaim, fn, &e);
	return e.result;
}

int64_t weir_memory_online(struct weir *weir, uint64_t bytes)
{
	return memory_errand(weir, bytes, online_errand);
}

int64_t weir_memory_offline(struct weir *weir, uint64_t bytes)
{
	return memory_errand(weir, bytes, offline_errand);
}

/* --- --- */

void weir_packet_buffers(struct weir *weir, struct cmdq_buffer_ops *ops)
{
	*ops = mover_buffers(weir->containers.root);
}

void weir_thread_attach(struct weir *weir)
{
	sigset_t signals;

	if (weir->mode != WEIR_MODE_THREAD)
		signals_unblock_bus();
	/* A stack that lies in a region: the word is a page that may leave, and handlers must not touch it. */
	thread_signals_block(&signals);
	if (!instance_pages(weir, thread_cpu_word()))
		placement_attach(&weir->service.placement);
	thread_signals_restore(&signals);
}

void weir_thread_detach(struct weir *weir)
{
	sigset_t signals;

	thread_signals_block(&signals);
	placement_detach(&weir->service.placement);
	thread_signals_restore(&signals);
}

void weir_thread_unbind(struct weir *weir)
{
	sigset_t signals;

	thread_signals_block(&signals);
	placement_unbind(&weir->service.placement, 100000000);
	thread_signals_restore(&signals);
}

/* --- statistics --- */

static uint64_t tables_bytes(struct weir *weir)
{
	uint64_t bytes = load_relaxed(&weir->memory.span_bytes) / PAGE_SIZE * sizeof(struct span);
	unsigned turn = instance_visit(weir);

	for (uint32_t i = 0; i < load_relaxed(&weir->vm.regions); i++) {
		struct region *region = load_acquire(&weir->vm.region[i]);

		if (region)
			bytes += region_overhead(region);
	}
	instance_leave(weir, turn);
	return bytes +
	       (weir->service.handlers + 1) *
		       (sizeof(struct pager) -
			(weir->vm.zstd_level ? 0 : sizeof(struct packer_zstd))) +
	       weir->reclaim.movers.count * cmdq_engine_bytes();
}

static uint64_t populated_bytes(struct weir *weir)
{
	uint64_t pages = 0;
	unsigned turn = instance_visit(weir);

	for (uint32_t i = 0; i < load_relaxed(&weir->vm.regions); i++) {
		struct region *region = load_acquire(&weir->vm.region[i]);
		uint32_t chunks =
			region ? DIV_UP(load_relaxed(&region->top), 1u << CHUNK_SHIFT) : 0;

		for (uint32_t c = 0; c < chunks; c++)
			pages += load_relaxed(&region->populated[c]);
	}
	instance_leave(weir, turn);
	return pages << PAGE_SHIFT;
}

int weir_stats_read(struct weir *weir, struct weir_stats *out)
{
	struct vm_counters *n = &weir->vm.count;
	struct hist *h = &weir->service.served_ns;
	struct weir_container *root = weir->containers.root;
	const enum weir_zone zone = weir->memory.zone;
	struct weir_pool_stats pool = {.size = sizeof(pool)};
	struct weir_kmap_stats kmap = {.size = sizeof(kmap)};
	struct weir_stats s;

	if (out->size < sizeof(size_t))
		return -EINVAL;
	(void)weir_pool_stats_read(weir->pool, &pool);
	if (weir->kmap)
		(void)weir_kmap_stats_read(weir->kmap, &kmap);
	s = (struct weir_stats){
		.size = MIN(out->size, sizeof(s)),
		.limit = load_relaxed(&root->max),
		.charged = container_charged(root),
		.peak = weir_container_get(root, WEIR_PEAK),
		.resident = container_usage(root, CHARGE_RESIDENT),
		.compressed = container_usage(root, CHARGE_COMPRESSED),
		.overhead = tables_bytes(weir) + pool.tables + compressed_slack(&weir->memory) +
			    ((pool.zone[zone].backed + pool.zone[zone].cached) << PAGE_SHIFT),
		.populated = populated_bytes(weir),
		.faults = load_relaxed(&n->faults),
		.soft_faults = load_relaxed(&n->soft),
		.first_faults = load_relaxed(&n->first),
		.compressed_faults = load_relaxed(&n->compressed),
		.stored_faults = load_relaxed(&n->stored),
		.parked_faults = load_relaxed(&n->parked),
		.ahead = load_relaxed(&n->ahead),
		.refaults = load_relaxed(&n->refaults),
		.same_filled = load_relaxed(&n->same_filled),
		.moved_out = load_relaxed(&n->moved_out),
		.packed_in = load_relaxed(&n->packed_in),
		.packed_out = load_relaxed(&n->packed_out),
		.stored = load_relaxed(&weir->vm.store->bytes),
		.written = load_relaxed(&n->written),
		.write_failed = load_relaxed(&n->write_failed),
		.over_max = load_relaxed(&root->count[COUNT_OVER_MAX]),
		.poisoned = load_relaxed(&n->poisoned),
		.fork_loaded = load_relaxed(&n->fork_loaded),
		.bindings = load_relaxed(&weir->service.placement.bindings),
		.fault_ns_p50 = hist_quantile(h, 500),
		.fault_ns_p90 = hist_quantile(h, 900),
		.fault_ns_p99 = hist_quantile(h, 990),
		.fault_ns_max = load_relaxed(&h->max),
		.fault_ns_sum = load_relaxed(&h->sum),
		.blocks_onlined = pool.onlined,
		.blocks_offlined = pool.offlined,
		.blocks_offlined_live = pool.offlined_live,
		.blocks_refused = pool.offline_failed,
		.frames_migrated = pool.migrated,
		.packets = load_relaxed(&weir->reclaim.movers.packets),
		.packets_failed = load_relaxed(&weir->reclaim.movers.failures),
		.packet_bytes = weir->reclaim.movers.count * PAGE_SIZE,
		.kmap_hits = kmap.hits,
		.kmap_misses = kmap.misses,
		.kmap_retired = kmap.retired,
		.kmap_flushes = kmap.flushes,
		.kmap_waits = kmap.waits,
		.kmap_busy = kmap.busy,
		.forks_handed_over = load_relaxed(&weir->fork.handed_over),
	};
	memcpy(out, &s, s.size);
	return 0;
}
