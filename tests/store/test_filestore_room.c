/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file store: room in the file is used again, the file stays small, and a write that fails, for want of room or of a disk
 * that works, leaves nothing behind.
 */
#include "file_oracle.h"

static off_t file_size(void)
{
	struct stat st;

	return fstat(fs->file.fd, &st) ? -1 : st.st_size;
}

/* --- room in the file --- */

/* Batches follow each other in the file; when a lower half is free they start there again, and go on from there. */
static void test_batches_are_written_in_order(void **state)
{
	unsigned next = 0, half;

	(void)state;
	store_open_in_dir();
	oracle_start();
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(oracle_write(STORE_BATCH, PAGE_KINDS), 0);
		assert_int_equal(slot_start(0), next);
		next += (unsigned)(batch.fill / fs->file.unit);
	}
	assert_int_equal(fs->size, next);
	half = next * 6 / 10;
	for (page_no_t page = 0; page < PAGES; page++) {
		struct entry *e = &oracle.entry[page];

		if (e->live && (e->slot >> FILE_UNITS_SHIFT) + e->units <= half)
			oracle_free(page);
	}
	next = 0;
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(oracle_write(STORE_BATCH / 8, PAGE_KINDS), 0);
		assert_int_equal(slot_start(0), next);
		next += (unsigned)(batch.fill / fs->file.unit);
	}
	assert_true(oracle_all_read_back());
	oracle_end();
}

/*
 * How much larger than the largest use the file may get. Where pages go in the order in which they came, whole batches
 * are free again: twice. Where they go in no order at all, no run for a whole batch is left long before.
 */
enum { GROWTH_IN_ORDER = 2, GROWTH_AT_RANDOM = 6 };

static void oracle_free_oldest(unsigned count)
{
	static page_no_t by_unit[1 << 20];
	unsigned unit = fs->cursor % fs->size;

	memset(by_unit, 0xff, fs->size * sizeof(by_unit[0]));
	for (page_no_t page = 0; page < PAGES; page++) {
		if (oracle.entry[page].live)
			by_unit[oracle.entry[page].slot >> FILE_UNITS_SHIFT] = page;
	}
	for (unsigned i = 0; i < fs->size && count; i++, unit = (unit + 1) % fs->size) {
		if (by_unit[unit] == UINT64_MAX)
			continue;
		oracle_free(by_unit[unit]);
		count--;
	}
}

static void file_stays_small(unsigned live, enum page_kind kind, bool in_order)
{
	const uint64_t batch_units = STORE_BATCH_BYTES / fs->file.unit;
	uint64_t bound;

	oracle_start();
	while (oracle.live < live)
		assert_int_equal(oracle_write(STORE_BATCH, kind), 0);
	for (unsigned step = 0; step < 200; step++) {
		if (in_order)
			oracle_free_oldest(STORE_BATCH);
		else
			oracle_free_random(STORE_BATCH);
		assert_int_equal(oracle_write(STORE_BATCH, kind), 0);
	}
	oracle_counts();
	bound = (in_order ? GROWTH_IN_ORDER : GROWTH_AT_RANDOM) * oracle.most + batch_units;
	if (fs->size > bound || file_size() > (off_t)(bound * fs->file.unit))
		fail_msg("%u units (file: %lld bytes) for %llu at most in use", fs->size,
			 (long long)file_size(), (unsigned long long)oracle.most);
	assert_true(oracle_all_read_back());
	oracle_end();
}

/* The file is at most so many times the largest use, and a batch: however long pages come and go. */
static void test_the_file_stays_small(void **state)
{
	static const struct {
		unsigned live;
		enum page_kind kind;
		bool in_order;
	} cases[] = {
		{1200, KIND_RANDOM, true},  {2000, KIND_TEXT, true},  {1200, PAGE_KINDS, true},
		{1200, KIND_RANDOM, false}, {2000, KIND_TEXT, false}, {600, PAGE_KINDS, false},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		store_open_in_dir();
		file_stays_small(cases[i].live, cases[i].kind, cases[i].in_order);
	}
}

struct misuse {
	unsigned times;
	int shift; /* the slot that is freed, relative to that which was got */
};

static void free_wrongly(void *arg)
{
	const struct misuse *m = arg;
	struct entry e = {.kind = KIND_TEXT};

	child_check(store_init(&store, NULL, dir) == 0 && store_open(&store) == 0);
	batch_start();
	child_check(batch_put(&e, 1));
	child_check(write_batch() == 0);
	for (unsigned i = 0; i < m->times; i++)
		store_discard(&store,
			      batch.page[0].key + (store_key_t)(m->shift << FILE_UNITS_SHIFT));
}

static void test_double_free_panics(void **state)
{
	struct misuse cases[] = {{2, 0}, {1, 1}, {1, 100}};
	struct child child;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		run_child(&child, free_wrongly, &cases[i]);
		assert_panicked(&child);
		assert_says(&child, "is freed twice");
	}
}

/* Pages from all over the file, as many at a time as a read takes. */
static bool oracle_scattered(void)
{
	store_key_t key[STORE_BATCH];
	page_no_t page[STORE_BATCH];
	unsigned n = 0;
	int got;

	for (page_no_t i = 0; i < PAGES && n < STORE_BATCH; i++) {
		page[n] = i * 7 % PAGES;
		key[n] = oracle.entry[page[n]].slot;
		n += oracle.entry[page[n]].live;
	}
	got = read_keys(key, n);
	for (int i = 0; i < got; i++) {
		const struct entry *e = &oracle.entry[page[i]];

		page_make(page_buffer, e->kind, e->seed);
		if (store_unpack(&reader, packer, (unsigned)i, page[i], back) ||
		    memcmp(back, page_buffer, PAGE_SIZE))
			return false;
	}
	return got > 0;
}

/* --- full disks --- */

/* As fits a child: everything that was confirmed is there, the counts are those of the oracle. */
static void child_checks_oracle(void)
{
	child_check(load_relaxed(&store.bytes) == oracle.units * fs->file.unit);
	child_check(filestore_validate(fs) == 0);
	child_check(oracle_all_read_back());
	child_check(oracle_apart());
}

static int write_until_it_fails(unsigned most)
{
	int err = 0;

	for (unsigned i = 0; !err && i < most; i++)
		err = oracle_write(STORE_BATCH, KIND_RANDOM);
	return err;
}

/* What must hold around a full disk. room_again makes room after it. */
static void fill_and_go_on(int full, void (*room_again)(void))
{
	off_t size;
	int err;

	memset(&oracle, 0, sizeof(oracle));
	oracle.seed = 1;
	err = write_until_it_fails(200);
	child_check(err == full);
	child_check(load_relaxed(&store.failures) == 1);
	child_checks_oracle();
	/* While the disk counts as full (a second; here an hour, however slow the machine) the file does not try to grow:
	 * -ENOSPC, and no write is tried. */
	child_check(fs->full_until_ns != 0);
	fs->full_until_ns = now_ns() + 3600000000000u;
	size = file_size();
	child_check(oracle_write(STORE_BATCH, KIND_RANDOM) == -ENOSPC);
	child_check(file_size() == size);
	child_checks_oracle();
	/* Room inside the file is used all the while. */
	for (page_no_t page = 0; page < PAGES; page++) {
		if (oracle.entry[page].live &&
		    oracle.entry[page].slot >> FILE_UNITS_SHIFT < 2 * 9 * STORE_BATCH)
			oracle_free(page);
	}
	child_check(oracle_write(STORE_BATCH, KIND_RANDOM) == 0);
	child_checks_oracle();
	/* When there is room again, and that time has passed, the file grows. */
	room_again();
	fs->full_until_ns = now_ns();
	child_check(write_until_it_fails(8) == 0);
	child_check(file_size() > size);
	child_checks_oracle();
	oracle_free_random(PAGES);
	child_check(load_relaxed(&store.bytes) == 0);
}

static void raise_the_limit(void)
{
	struct rlimit limit = {MIB(32), MIB(32)};

	child_check(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static void fill_up_to_a_limit(void *arg)
{
	/* Ends inside a batch. */
	struct rlimit limit = {MIB(3) + KIB(20), MIB(32)};

	(void)arg;
	signal(SIGXFSZ, SIG_IGN);
	child_check(store_init(&store, NULL, dir) == 0 && store_open(&store) == 0);
	child_check(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	fill_and_go_on(-EFBIG, raise_the_limit);
}

/* A write that fails for want of room leaves nothing allocated, what was confirmed stays, and later it goes on. */
static void test_a_limit_on_files_does_no_harm(void **state)
{
	(void)state;
	child_passes(fill_up_to_a_limit, NULL);
}

static int ballast = -1;

static void remove_ballast(void)
{
	child_check(ftruncate(ballast, 0) == 0);
}

static void fill_a_small_disk(void *arg)
{
	char path[DIR_TEXT + 16];

	(void)arg;
	child_mount_small(dir);
	snprintf(path, sizeof(path), "%s/ballast", dir);
	ballast = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	child_check(ballast >= 0 && posix_fallocate(ballast, 0, MIB(4)) == 0);
	child_check(store_init(&store, NULL, dir) == 0 && store_open(&store) == 0);
	fill_and_go_on(-ENOSPC, remove_ballast);
}

static void test_a_full_disk_does_no_harm(void **state)
{
	(void)state;
	child_passes(fill_a_small_disk, NULL);
}

/* Which call fails, and when: there never was a ring, or a filter takes it away. */
enum without { NO_RING_AT_ALL, NO_RING_ANY_MORE };

static void write_to_a_bad_disk(void *arg)
{
	const enum without without = *(const enum without *)arg;

	if (without == NO_RING_AT_ALL)
		deny(SYS_io_uring_setup, ENOSYS);
	child_check(store_init(&store, NULL, dir) == 0 && store_open(&store) == 0);
	memset(&oracle, 0, sizeof(oracle));
	child_check(write_until_it_fails(3) == 0);
	child_check(ring_is_open(&fs->write_ring) == (without != NO_RING_AT_ALL));
	if (without == NO_RING_ANY_MORE)
		deny(SYS_io_uring_enter, EPERM);
	deny(SYS_pwrite64, EIO);
	for (unsigned i = 1; i <= 5; i++) {
		child_check(oracle_write(STORE_BATCH, KIND_RANDOM) == -EIO);
		child_check(load_relaxed(&store.failures) == i);
		child_checks_oracle();
	}
	/* The map does not grow where the file did not. */
	child_check((uint64_t)fs->size <= oracle.units + STORE_BATCH_BYTES / fs->file.unit);
}

static void test_errors_of_writing_do_no_harm(void **state)
{
	enum without without[] = {NO_RING_AT_ALL, NO_RING_ANY_MORE};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(without); i++)
		child_passes(write_to_a_bad_disk, &without[i]);
}

static void work_without_rings(void *arg)
{
	const enum without without = *(const enum without *)arg;

	if (without == NO_RING_AT_ALL)
		deny(SYS_io_uring_setup, EPERM);
	child_check(store_init(&store, NULL, dir) == 0 && store_open(&store) == 0);
	memset(&oracle, 0, sizeof(oracle));
	oracle.seed = 7;
	child_check(write_until_it_fails(3) == 0);
	child_check(oracle_scattered());
	if (without == NO_RING_ANY_MORE)
		deny(SYS_io_uring_enter, EPERM);
	child_check(write_until_it_fails(10) == 0);
	child_check(oracle_scattered());
	child_check(!ring_is_open(&fs->write_ring) && !ring_is_open(&fs->read_ring[0]));
	child_checks_oracle();
}

/* A kernel without io_uring, and a filter that forbids it to a program that is under way: everything is done by pread and pwrite. */
static void test_without_rings_everything_works(void **state)
{
	enum without without[] = {NO_RING_AT_ALL, NO_RING_ANY_MORE};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(without); i++)
		child_passes(work_without_rings, &without[i]);
}

/* Batches under way together, more than there is room for in flight, and writes that the kernel cuts short or refuses on the way. */
static void fly_into_a_limit(void *arg)
{
	enum { BATCHES = 8 };
	static struct store_batch many[BATCHES];
	const struct rlimit limit = {MIB(1) + KIB(20), MIB(32)};
	uint64_t kept = 0;

	(void)arg;
	signal(SIGXFSZ, SIG_IGN);
	child_check(store_init(&store, NULL, dir) == 0 && store_open(&store) == 0);
	child_check(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	for (unsigned b = 0; b < BATCHES; b++) {
		many[b].buffer = aligned_alloc(PAGE_SIZE, STORE_BATCH_BYTES);
		store_batch_start(&many[b]);
		for (unsigned i = 0; i < STORE_BATCH; i++) {
			page_make(page_buffer, KIND_RANDOM, b * STORE_BATCH + i);
			(void)object_pack(packer, 0, b * STORE_BATCH + i, page_buffer);
			child_check(
				store_batch_add(&store, &many[b], (struct object *)packer->out, 0));
		}
		store_write(&store, &many[b]);
	}
	for (unsigned b = BATCHES; b-- > 0;) {
		int err;

		store_poll(&store, &many[b], true);
		err = store_batch_end(&store, &many[b]);
		child_check(err == 0 || err == -EFBIG || err == -ENOSPC);
		for (unsigned i = 0; i < STORE_BATCH; i++) {
			const struct entry e = {.slot = many[b].page[i].key,
						.seed = b * STORE_BATCH + i,
						.kind = KIND_RANDOM};

			child_check(many[b].page[i].error == err);
			if (!err) {
				child_check(entry_reads_back(&e, b * STORE_BATCH + i));
				kept += many[b].page[i].bytes;
			}
		}
	}
	child_check(kept && kept <= limit.rlim_cur && kept == load_relaxed(&store.bytes));
	child_check(filestore_validate(fs) == 0 && fs->used * (uint64_t)fs->file.unit == kept);
	child_check(store.ops->flush(store.handle) == 0);
}

static void test_batches_in_flight_meet_a_full_file(void **state)
{
	(void)state;
	child_passes(fly_into_a_limit, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batches_are_written_in_order),
		cmocka_unit_test(test_the_file_stays_small),
		cmocka_unit_test(test_double_free_panics),
		cmocka_unit_test(test_a_limit_on_files_does_no_harm),
		cmocka_unit_test(test_a_full_disk_does_no_harm),
		cmocka_unit_test(test_errors_of_writing_do_no_harm),
		cmocka_unit_test(test_without_rings_everything_works),
		cmocka_unit_test(test_batches_in_flight_meet_a_full_file),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
