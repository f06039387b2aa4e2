/* SPDX-License-Identifier: BSD-2-Clause */
#include "store.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 1 << 16, HELD_MAX = 16 };

struct test_store_plan test_store_plan;

static struct {
	pthread_mutex_t lock;
	pthread_cond_t more;
	pthread_t thread;
	bool open, threaded, stop;
	unsigned unit;
	uint32_t next, pages;
	uint64_t bytes, reads, writes;
	struct {
		char *data;
		uint32_t bytes;
	} key[KEYS];
	struct weir_store_batch *held[HELD_MAX];
	unsigned holds;
} store = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

static void must(bool true_, const char *what)
{
	if (true_)
		return;
	fprintf(stderr, "test store: %s\n", what);
	abort();
}

static void check(const struct weir_store_batch *batch)
{
	const char *next = batch->page[0].data;

	must(store.open, "used while it is not open");
	must(batch->count && batch->count <= WEIR_STORE_BATCH_MAX && batch->done, "a bad batch");
	for (unsigned i = 0; i < batch->count; i++) {
		const struct weir_store_page *p = &batch->page[i];

		must(p->bytes && p->bytes <= WEIR_STORE_PAGE_MAX && p->bytes % store.unit == 0,
		     "bytes of a page");
		must((uintptr_t)p->data % store.unit == 0, "data of a page lie badly");
		must(p->data == next, "data do not lie one behind the other");
		next += p->bytes;
	}
}

/* --- writing --- */

static void keep(struct weir_store_page *p)
{
	const struct test_store_plan *plan = &test_store_plan;

	if (plan->room && store.bytes + p->bytes > plan->room) {
		p->error = -ENOSPC;
		return;
	}
	do
		store.next = store.next % (KEYS - 1) + 1;
	while (store.key[store.next].data);
	store.key[store.next].data = malloc(p->bytes);
	must(store.key[store.next].data, "no memory");
	memcpy(store.key[store.next].data, p->data, p->bytes);
	store.key[store.next].bytes = p->bytes;
	store.bytes += p->bytes;
	store.pages++;
	store.writes++;
	p->key = store.next;
	p->error = 0;
}

/* The lock is held but for done. */
static void complete(struct weir_store_batch *batch)
{
	struct test_store_plan *plan = &test_store_plan;

	for (unsigned i = 0; i < batch->count; i++) {
		struct weir_store_page *p = &batch->page[i];

		if (plan->dies_after && store.writes >= plan->dies_after)
			plan->dead = true;
		if (plan->dead)
			p->error = -ENODEV;
		else if (plan->fail_page == i + 1 || plan->fail_page == UINT32_MAX)
			p->error = plan->fail_err;
		else
			keep(p);
	}
	pthread_mutex_unlock(&store.lock);
	batch->done(batch);
	pthread_mutex_lock(&store.lock);
}

static struct weir_store_batch *take(bool last)
{
	struct weir_store_batch *batch = store.held[last ? store.holds - 1 : 0];

	store.holds--;
	for (unsigned i = 0; !last && i < store.holds; i++)
		store.held[i] = store.held[i + 1];
	return batch;
}

static void write_batch(void *data, struct weir_store_batch *batch)
{
	(void)data;
	check(batch);
	pthread_mutex_lock(&store.lock);
	if (!test_store_plan.late && !store.threaded) {
		complete(batch);
	} else {
		must(store.holds < HELD_MAX, "too many batches under way");
		store.held[store.holds++] = batch;
		pthread_cond_signal(&store.more);
	}
	pthread_mutex_unlock(&store.lock);
}

unsigned test_store_complete(unsigned most)
{
	unsigned left;

	pthread_mutex_lock(&store.lock);
	while (store.holds && most--)
		complete(take(test_store_plan.reversed));
	left = store.holds;
	pthread_mutex_unlock(&store.lock);
	return left;
}

static void poll_writes(void *data, int wait)
{
	(void)data;
	if (wait && !store.threaded)
		(void)test_store_complete(1);
	else if (wait)
		sched_yield();
}

static void *thread_main(void *data)
{
	uint64_t n = 0;

	(void)data;
	pthread_mutex_lock(&store.lock);
	for (;;) {
		while (!store.holds && !store.stop)
			pthread_cond_wait(&store.more, &store.lock);
		if (!store.holds)
			break;
		/* Others come meanwhile, and may be served first. */
		pthread_mutex_unlock(&store.lock);
		for (unsigned i = 0; i < n % 5; i++)
			sched_yield();
		pthread_mutex_lock(&store.lock);
		complete(take(n++ % 3 == 0));
	}
	pthread_mutex_unlock(&store.lock);
	return NULL;
}

/* --- reading --- */

static void give(struct weir_store_page *p)
{
	static unsigned turn;
	const struct test_store_plan *plan = &test_store_plan;
	const bool due = !plan->read_every || ++turn % plan->read_every == 0;
	const enum test_store_read how = due ? plan->read : READ_RIGHT;
	uint32_t key = p->key;

	must(key < KEYS && store.key[key].data && store.key[key].bytes == p->bytes,
	     "a key that it has not given");
	store.reads++;
	p->error = plan->dead ? -ENODEV : how == READ_FAILS ? -EIO : 0;
	if (p->error || how == READ_NOTHING)
		return;
	if (how == READ_OTHERS) {
		for (uint32_t k = 1; k < KEYS; k++) {
			if (k != key && store.key[k].data && store.key[k].bytes >= p->bytes) {
				key = k;
				break;
			}
		}
	}
	if (how == READ_SHORT || how == READ_HALF) {
		memcpy(p->data, store.key[key].data, p->bytes / 2);
		p->error = how == READ_SHORT ? -EIO : 0;
		return;
	}
	memcpy(p->data, store.key[key].data, p->bytes);
	if (how == READ_ROTTEN)
		((char *)p->data)[20 + turn % 64] ^= 4;
}

static void read_batch(void *data, struct weir_store_batch *batch)
{
	(void)data;
	check(batch);
	pthread_mutex_lock(&store.lock);
	for (unsigned i = 0; i < batch->count; i++)
		give(&batch->page[i]);
	pthread_mutex_unlock(&store.lock);
	batch->done(batch);
}

/* --- the rest --- */

static void discard(void *data, const uint32_t *keys, unsigned count)
{
	(void)data;
	pthread_mutex_lock(&store.lock);
	for (unsigned i = 0; i < count; i++) {
		must(keys[i] < KEYS && store.key[keys[i]].data, "a key is discarded twice");
		free(store.key[keys[i]].data);
		store.key[keys[i]].data = NULL;
		store.bytes -= store.key[keys[i]].bytes;
		store.pages--;
	}
	pthread_mutex_unlock(&store.lock);
}

static uint32_t bytes_of(void *data, uint32_t key)
{
	uint32_t bytes;

	(void)data;
	pthread_mutex_lock(&store.lock);
	must(key < KEYS && store.key[key].data, "a key that it has not");
	bytes = store.key[key].bytes;
	pthread_mutex_unlock(&store.lock);
	return bytes;
}

static int flush(void *data)
{
	(void)data;
	while (test_store_complete(HELD_MAX))
		sched_yield();
	return 0;
}

static void stat(void *data, struct weir_store_stat *stat)
{
	(void)data;
	stat->bytes = store.bytes;
	stat->bytes_max = test_store_plan.room ? test_store_plan.room : UINT64_MAX;
}

static int open_store(const struct weir_store_config *config, struct weir_store_info *info,
		      void **out)
{
	(void)config;
	if (test_store_plan.open_err)
		return test_store_plan.open_err;
	must(!store.open, "opened twice");
	store.open = true;
	store.stop = false;
	store.unit = test_store_plan.unit ? test_store_plan.unit : 512;
	info->unit = store.unit;
	store.threaded =
		test_store_plan.threads && !pthread_create(&store.thread, NULL, thread_main, NULL);
	*out = &store;
	return 0;
}

static void close_store(void *data)
{
	(void)data;
	must(!store.holds, "closed while batches are under way");
	if (store.threaded) {
		pthread_mutex_lock(&store.lock);
		store.stop = true;
		pthread_cond_signal(&store.more);
		pthread_mutex_unlock(&store.lock);
		pthread_join(store.thread, NULL);
	}
	store.threaded = false;
	store.open = false;
}

static const struct weir_store_ops ops = {
	.size = sizeof(ops),
	.open = open_store,
	.close = close_store,
	.write = write_batch,
	.read = read_batch,
	.discard = discard,
	.bytes = bytes_of,
	.flush = flush,
	.stat = stat,
	.poll = poll_writes,
};

void test_store_reset(void)
{
	static bool registered;

	if (!registered)
		must(weir_store_register("test", &ops) == 0, "it cannot be registered");
	registered = true;
	for (uint32_t k = 0; k < KEYS; k++) {
		free(store.key[k].data);
		store.key[k].data = NULL;
	}
	store.open = false;
	store.holds = store.pages = store.next = 0;
	store.bytes = store.reads = store.writes = 0;
	test_store_plan = (struct test_store_plan){0};
}

const void *test_store_peek(uint32_t key, uint32_t *bytes)
{
	*bytes = key < KEYS ? store.key[key].bytes : 0;
	return key < KEYS ? store.key[key].data : NULL;
}

unsigned test_store_pages(void)
{
	return store.pages;
}

uint64_t test_store_reads(void)
{
	return store.reads;
}

uint64_t test_store_writes(void)
{
	return store.writes;
}

bool test_store_open(void)
{
	return store.open;
}
