/* SPDX-License-Identifier: BSD-2-Clause */
#include "tenants.h"

#include <setjmp.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "access.h"
#include "control/stock.h"

unsigned below(uint64_t *s, unsigned n)
{
	return (unsigned)((random_next(s) >> 32) * n >> 32);
}

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void page_make(unsigned char *page, uint64_t number, uint64_t version, bool noise)
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

void page_write(unsigned char *page, uint64_t number, uint64_t version, bool noise)
{
	_Alignas(8) unsigned char right[PAGE];

	page_make(right, number, version, noise);
	access_copy(page, right, PAGE);
}

void page_check(const unsigned char *page, uint64_t number, uint64_t version, bool noise)
{
	unsigned char right[PAGE];

	page_make(right, number, version, noise);
	CHECK(!memcmp(page, right, PAGE),
	      "page %" PRIu64 " of version %" PRIu64 " has other contents", number, version);
}

struct weir *open_or_skip(uint64_t limit)
{
	struct weir_options options = {
		.size = sizeof(options), .limit = limit, .mode = mode, .kmap_slots = kmap_slots};
	struct weir *weir;
	int err = weir_open(&options, &weir);

	if (err == -EPERM || err == -ENOSYS) {
		printf("skipped: %s\n", strerrorname_np(-err));
		exit(SKIPPED);
	}
	CHECK(!err, "weir_open: %s", strerrorname_np(-err));
	return weir;
}

struct weir_container *child_of(struct weir_container *parent, const char *name, uint64_t max)
{
	struct weir_container *c = NULL;
	int err = weir_container_create(parent, name, &c);

	CHECK(!err, "creating '%s': %s", name, strerrorname_np(-err));
	(void)weir_container_set(c, WEIR_MAX, max);
	return c;
}

uint64_t current(struct weir_container *c)
{
	return weir_container_get(c, WEIR_CURRENT);
}

uint64_t used(struct weir *weir)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	CHECK(!weir_stats_read(weir, &stats), "statistics");
	return current(weir_container_root(weir)) - stats.packet_bytes;
}

void drain(struct weir *weir)
{
	(void)stocks_drain(weir_container_root(weir)->tree, NULL, true);
}

void wait_charged(struct weir_container *c, uint64_t at_least, uint64_t at_most)
{
	const double until = now() + 20;
	uint64_t bytes;

	for (;;) {
		(void)stocks_drain(c->tree, NULL, true);
		bytes = current(c);
		if (bytes >= at_least && bytes <= at_most)
			return;
		CHECK(now() < until, "%" PRIu64 " are charged, not %" PRIu64 " to %" PRIu64, bytes,
		      at_least, at_most);
		usleep(1000);
	}
}

static sigjmp_buf from_bus;

static void on_bus(int signal_)
{
	(void)signal_;
	siglongjmp(from_bus, 1);
}

NO_TSAN bool touch_is_bus(volatile unsigned char *at, bool write)
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
