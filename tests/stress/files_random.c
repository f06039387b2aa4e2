/* SPDX-License-Identifier: BSD-2-Clause */
/* What is charged, what was advised, and threads at random: see stress_files.c. */
#include <pthread.h>
#include <unistd.h>

#include "access.h"
#include "files.h"

static unsigned char right[FILE_PAGES * PAGE];
static char path[64];

static bool right_page(const unsigned char *region, unsigned page)
{
	return !memcmp(region + (size_t)page * PAGE, right + (size_t)page * PAGE, PAGE);
}

void case_advise(void)
{
	struct weir *weir;
	struct weir_container *a;
	struct weir_file *file;
	struct weir_stats stats = {.size = sizeof(stats)};
	unsigned char *region;
	uint64_t faults;

	file_begin(path, right);
	weir = open_or_skip(MIB(8));
	a = child_of(weir_container_root(weir), "a", MIB(8));
	file = file_to_write(a, path);
	region = file_map(file);
	CHECK(weir_region_advise(weir, region, PAGE, (enum weir_region_advice)17) == -EINVAL, "17");
	/* Of nothing, at the first page. */
	for (unsigned advice = WEIR_ADVICE_NORMAL; advice <= WEIR_ADVICE_COLD; advice++)
		CHECK(!weir_region_advise(weir, region, 0, (enum weir_region_advice)advice), "0");
	/* Random: neighbours do not come along. */
	CHECK(!weir_region_advise(weir, region, 512 * PAGE, WEIR_ADVICE_RANDOM), "random");
	for (unsigned i = 0; i < 40; i++)
		CHECK(right_page(region, i), "page %u", i);
	wait_charged(a, 40 * PAGE, 40 * PAGE);
	/* Dirty ones are written before they leave. */
	region[5 * PAGE] = right[5 * PAGE] = 'd';
	CHECK(!weir_region_advise(weir, region, 512 * PAGE, WEIR_ADVICE_DONTNEED), "dontneed");
	wait_charged(a, 0, 0);
	CHECK(right_page(region, 5), "page 5");
	CHECK(!weir_region_advise(weir, region, 512 * PAGE, WEIR_ADVICE_DONTNEED), "dontneed");
	wait_charged(a, 0, 0);
	/* In the background, without a touch; charged to who asked. */
	CHECK(!weir_region_advise(weir, region, 256 * PAGE, WEIR_ADVICE_WILLNEED), "willneed");
	wait_charged(a, 256 * PAGE, 256 * PAGE);
	CHECK(!weir_region_advise(weir, region, 512 * PAGE, WEIR_ADVICE_SEQUENTIAL), "sequential");
	CHECK(!weir_stats_read(weir, &stats), "statistics");
	faults = stats.faults;
	for (unsigned i = 0; i < 256; i++)
		CHECK(right_page(region, i), "page %u", i);
	CHECK(!weir_stats_read(weir, &stats), "statistics");
	CHECK(stats.faults - faults < 64, "%" PRIu64 " faults for 256 pages in a row",
	      stats.faults - faults);
	/* Cold: the first to go. */
	CHECK(!weir_region_advise(weir, region, 256 * PAGE, WEIR_ADVICE_NORMAL), "normal");
	CHECK(!weir_region_advise(weir, region + 100 * PAGE, 32 * PAGE, WEIR_ADVICE_COLD), "cold");
	CHECK(!weir_file_close(file) && !weir_region_destroy(weir, region), "close");
	file_compare(path, right);
	nothing_left(weir);
	weir_close(weir);
	unlink(path);
}

void case_charges(void)
{
	struct weir *weir;
	struct weir_container *root, *a, *b;
	struct weir_file *file, *second;
	unsigned char bytes[PAGE];

	file_begin(path, right);
	weir = open_or_skip(MIB(8));
	root = weir_container_root(weir);
	a = child_of(root, "a", MIB(2));
	b = child_of(root, "b", MIB(2));
	file = file_to_write(a, path);
	second = file_to_write(b, path);
	/* Who reads in a row pays for what is read ahead, too, and stays below its limit. */
	for (unsigned i = 0; i < FILE_PAGES - 1; i++) {
		CHECK(weir_file_read(file, bytes, PAGE, (uint64_t)i * PAGE) == PAGE, "read");
		CHECK(!memcmp(bytes, right + (size_t)i * PAGE, PAGE), "page %u", i);
		CHECK(current(a) <= MIB(2), "%" PRIu64 " are charged", current(a));
	}
	wait_charged(a, 64 * PAGE, MIB(2));
	wait_charged(b, 0, 0);
	/* Pages that are written are charged like others, once, and change hands with their container. */
	(void)memset(right, 'w', 100 * PAGE);
	CHECK(weir_file_write(second, right, 100 * PAGE, 0) == 100 * PAGE, "write");
	wait_charged(b, PAGE, 200 * PAGE);
	CHECK(!weir_container_delete(b), "delete");
	CHECK(!weir_file_close(file) && !weir_file_close(second), "close");
	wait_charged(a, 0, 0);
	file_compare(path, right);
	nothing_left(weir);
	weir_close(weir);
	unlink(path);
}

/* --- at random --- */

enum { THREADS = 4, STRIPE = 10007 };

struct worker {
	struct weir *weir;
	struct weir_container *container;
	pthread_t thread;
	unsigned index;
	uint64_t ops, told;
};

/* Bytes of the file that are this thread's alone: borders lie within pages. */
static uint64_t own_bytes(struct worker *w, uint64_t *s, uint64_t *count)
{
	const uint64_t stripes = FILE_SIZE / STRIPE / THREADS;
	uint64_t at = (below(s, (unsigned)stripes) * THREADS + w->index) * STRIPE;
	uint64_t skip = below(s, STRIPE - 1);

	*count = 1 + below(s, (unsigned)(STRIPE - skip));
	return at + skip;
}

static void check_bytes(const unsigned char *bytes, uint64_t at, uint64_t count)
{
	CHECK(!memcmp(bytes, right + at, count), "%" PRIu64 " bytes at %" PRIu64 " are wrong",
	      count, at);
}

static void one_op(struct worker *w, uint64_t *s, struct weir_file *file, unsigned char *region)
{
	unsigned char bytes[STRIPE];
	uint64_t count, at = own_bytes(w, s, &count);
	int64_t n;

	for (uint64_t i = 0; i < count; i += 8) {
		uint64_t word = random_next(s);

		memcpy(bytes + i, &word, count - i < 8 ? count - i : 8);
	}
	switch (below(s, 8)) {
	case 0:
	case 1:
		access_copy(region + at, bytes, count);
		memcpy(right + at, bytes, count);
		break;
	case 2:
	case 3:
		access_copy(bytes, region + at, count);
		check_bytes(bytes, at, count);
		break;
	case 4:
		for (uint64_t done = 0; done < count; done += (uint64_t)n) {
			n = weir_file_write(file, bytes + done, count - done, at + done);
			if (n <= 0)
				n = 0;
		}
		memcpy(right + at, bytes, count);
		break;
	case 5:
	case 6:
		n = weir_file_read(file, bytes, count, at);
		check_bytes(bytes, at, n > 0 ? (uint64_t)n : 0);
		break;
	default:
		if (below(s, 8) == 0)
			w->told += weir_file_sync(file) != 0;
		else if (below(s, 8) == 0)
			(void)weir_region_advise(w->weir, region, 512 * PAGE,
						 (enum weir_region_advice)below(s, 6));
		break;
	}
}

static void *worker_main(void *data)
{
	struct worker *w = data;
	uint64_t s = seed + w->index;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		struct weir_file *file = file_to_write(w->container, path);
		unsigned char *region = file_map(file);

		for (unsigned n = 0; n < 200; n++, w->ops++)
			one_op(w, &s, file, region);
		/* In either order; what they are told of errors is whatever came by. */
		if (below(&s, 2)) {
			w->told += weir_file_close(file) != 0;
			w->told += weir_region_destroy(w->weir, region) != 0;
		} else {
			w->told += weir_region_destroy(w->weir, region) != 0;
			w->told += weir_file_close(file) != 0;
		}
	}
	return NULL;
}

/* Reads are not among them: a page that a region cannot read is SIGBUS. */
static void errors(bool on)
{
	fail(READ_SHORT, on ? 10 : 0);
	fail(WRITE_ERROR, on ? 20 : 0);
	fail(WRITE_FULL, on ? 20 : 0);
	fail(WRITE_SHORT, on ? 5 : 0);
	fail(SYNC_ERROR, on ? 5 : 0);
	fail(FLUSH_ERROR, on ? 1 : 0);
	fail(MAP_ERROR, on ? 50 : 0);
	fail(PROTECT_ERROR, on ? 50 : 0);
	fail(PUNCH_ERROR, on ? 20 : 0);
	fail(NO_CHARGE, on ? 10 : 0);
	fail(NO_WINDOW, on ? 100 : 0);
}

static bool enough(void)
{
	for (unsigned i = 0; i < FAULT_KINDS; i++) {
		if (!failed((enum fault_kind)i) && i != READ_ERROR &&
		    (i != NO_WINDOW || kmap_slots))
			return false;
	}
	return true;
}

void case_oracle(void)
{
	struct weir *weir;
	struct worker worker[THREADS] = {0};
	struct weir_file *file;
	uint64_t s = seed, ops = 0, told = 0;
	double end;
	char name[8];

	file_begin(path, right);
	weir = open_or_skip(MIB(4));
	for (unsigned i = 0; i < THREADS; i++) {
		(void)snprintf(name, sizeof(name), "w%u", i);
		worker[i] = (struct worker){.weir = weir, .index = i};
		worker[i].container = child_of(weir_container_root(weir), name, MIB(1));
		CHECK(!pthread_create(&worker[i].thread, NULL, worker_main, &worker[i]), "thread");
	}
	end = now() + seconds;
	while (now() < end || (!enough() && now() < end + 60)) {
		struct weir_container *c = worker[below(&s, THREADS)].container;

		errors(below(&s, 2));
		(void)weir_container_set(c, WEIR_MAX, MIB(1) / 2 + below(&s, (unsigned)MIB(1)));
		(void)weir_container_reclaim(c, MIB(1) / 4);
		usleep(2000);
	}
	atomic_store(&stop, true);
	fail_nothing();
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(worker[i].thread, NULL);
		ops += worker[i].ops;
		told += worker[i].told;
	}
	file = file_to_write(weir_container_root(weir), path);
	(void)weir_file_sync(file);
	CHECK(!weir_file_sync(file), "the last sync");
	file_compare(path, right);
	CHECK(!weir_file_close(file), "close");
	for (unsigned i = 0; i < THREADS; i++)
		CHECK(!weir_container_delete(worker[i].container), "delete");
	nothing_left(weir);
	weir_close(weir);
	file_compare(path, right);
	unlink(path);
	printf("%" PRIu64 " operations, %" PRIu64 " times told of an error\n", ops, told);
	for (unsigned i = 0; i < FAULT_KINDS; i++)
		printf("%8" PRIu64 " %s\n", failed((enum fault_kind)i),
		       fault_kind_name((enum fault_kind)i));
	CHECK(enough() && told && ops > 100, "it idled");
}
