/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file store: what a batch wrote comes back page by page or in one read, room is used again, a failed write leaves
 * nothing behind, and bytes that changed on the disk are refused.
 */
#include "../disk.h"
#include "pages.h"
#include "../allocations.h"

#include <sys/stat.h>

#include "base/atomic.h"
#include "base/log.h"
#include "store/filestore.h"
#include "store/store.h"

static char dir[DIR_TEXT]; /* on a disk, for all tests */
static struct packer *packer;
static char *read_buffer, *page_buffer, *back;

static struct store store;
static struct store_batch batch;
static struct store_reader reader;
#define fs ((struct filestore *)store.handle)

static int setup(void **state)
{
	(void)state;
	if (!dir_make(dir))
		dir[0] = 0;
	packer = aligned_alloc(64, sizeof(*packer));
	batch.buffer = guarded(STORE_BATCH_BYTES);
	read_buffer = guarded(STORE_READ_BYTES);
	page_buffer = guarded(PAGE_SIZE);
	back = guarded(PAGE_SIZE);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (dir[0])
		dir_remove(dir);
	free(packer);
	return 0;
}

static void store_open_in_dir(void)
{
	if (!dir[0])
		skip_because("no folder on a disk; set WEIR_TEST_DIR to one");
	assert_int_equal(store_init(&store, NULL, dir), 0);
	assert_int_equal(store_open(&store), 0);
}

static void store_end(void)
{
	assert_int_equal(filestore_validate(fs), 0);
	store_close(&store);
	assert_int_equal(dir_entries(dir), 0);
}

static off_t file_size(void)
{
	struct stat st;

	return fstat(fs->file.fd, &st) ? -1 : st.st_size;
}

/* What the oracle knows of one page. */
struct entry {
	bool live;
	store_key_t slot;
	uint64_t seed;
	enum page_kind kind;
	unsigned units;
};

static void batch_start(void)
{
	store_batch_start(&batch);
}

/* Until the store has done it. */
static int write_batch(void)
{
	store_write(&store, &batch);
	store_poll(&store, &batch, true);
	return store_batch_end(&store, &batch);
}

static int read_keys(const store_key_t *key, unsigned count)
{
	return store_read(&store, &reader, key, count, read_buffer, false);
}

static void keys_of(store_key_t *key, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		key[i] = batch.page[i].key;
}

static int read_one(store_key_t key, page_no_t page, void *to)
{
	int got = read_keys(&key, 1);

	return got < 0 ? got : store_unpack(&reader, packer, 0, page, to);
}

/* Packs the page that the entry describes, and adds it. */
static bool batch_put(struct entry *e, page_no_t page)
{
	size_t size;

	page_make(page_buffer, e->kind, e->seed);
	size = object_pack(packer, 0, page, page_buffer);
	e->units = (unsigned)DIV_UP(size, fs->file.unit);
	return store_batch_add(&store, &batch, (struct object *)packer->out, page);
}

static bool entry_reads_back(const struct entry *e, page_no_t page)
{
	memset(back, 0xee, PAGE_SIZE);
	page_make(page_buffer, e->kind, e->seed);
	return read_one(e->slot, page, back) == 0 && !memcmp(back, page_buffer, PAGE_SIZE);
}

/* --- an oracle --- */

enum { PAGES = 3000 };

struct oracle {
	struct entry entry[PAGES];
	uint64_t seed, units, most; /* most: the largest use so far, in units */
	unsigned live;
};

static struct oracle oracle;

static void oracle_start(void)
{
	memset(&oracle, 0, sizeof(oracle));
	oracle.seed = test_seed();
}

/* Writes a batch of pages that have no object. Returns what the store says. */
static int oracle_write(unsigned want, enum page_kind only)
{
	page_no_t at = random_below(&oracle.seed, PAGES);
	int err;

	batch_start();
	for (unsigned i = 0; i < PAGES && batch.count < want; i++) {
		page_no_t page = (at + i) % PAGES;
		struct entry *e = &oracle.entry[page];

		if (e->live)
			continue;
		e->seed = random_next(&oracle.seed);
		e->kind = only != PAGE_KINDS ? only : random_below(&oracle.seed, PAGE_KINDS);
		if (!batch_put(e, page))
			break;
	}
	err = write_batch();
	for (unsigned i = 0; !err && i < batch.count; i++) {
		struct entry *e = &oracle.entry[batch.tag[i]];

		e->live = true;
		e->slot = batch.page[i].key;
		oracle.units += e->units;
		oracle.live++;
	}
	oracle.most = MAX(oracle.most, oracle.units);
	return err;
}

static void oracle_free(page_no_t page)
{
	struct entry *e = &oracle.entry[page];

	store_discard(&store, e->slot);
	e->live = false;
	oracle.units -= e->units;
	oracle.live--;
}

static void oracle_free_random(unsigned count)
{
	while (count && oracle.live) {
		page_no_t page = random_below(&oracle.seed, PAGES);

		if (oracle.entry[page].live) {
			oracle_free(page);
			count--;
		}
	}
}

static void oracle_counts(void)
{
	assert_int_equal(load_relaxed(&store.bytes), oracle.units * fs->file.unit);
	assert_int_equal(fs->used, oracle.units);
	assert_int_equal(filestore_validate(fs), 0);
}

static bool oracle_all_read_back(void)
{
	for (page_no_t page = 0; page < PAGES; page++) {
		if (oracle.entry[page].live && !entry_reads_back(&oracle.entry[page], page))
			return false;
	}
	return true;
}

/* No two objects share a unit. */
static bool oracle_apart(void)
{
	char *taken = calloc(1, fs->size + 16);
	bool apart = true;

	for (page_no_t page = 0; page < PAGES; page++) {
		const struct entry *e = &oracle.entry[page];

		for (unsigned u = 0; e->live && u < e->units; u++)
			apart = apart && !taken[(e->slot >> FILE_UNITS_SHIFT) + u]++;
	}
	free(taken);
	return apart;
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

static void oracle_end(void)
{
	oracle_free_random(PAGES);
	oracle_counts();
	assert_int_equal(load_relaxed(&store.bytes), 0);
	store_end();
}

/* --- writing and reading --- */

/* Every page comes back, objects lie apart, and the counts are the oracle's, through hundreds of batches. */
static void test_random_batches_against_an_oracle(void **state)
{
	(void)state;
	store_open_in_dir();
	oracle_start();
	for (unsigned step = 0; step < 250; step++) {
		if (oracle.live > PAGES - 2 * STORE_BATCH || random_chance(&oracle.seed, 3))
			oracle_free_random(random_below(&oracle.seed, 3 * STORE_BATCH));
		assert_int_equal(
			oracle_write(1 + random_below(&oracle.seed, STORE_BATCH), PAGE_KINDS), 0);
		oracle_counts();
		if (step % 50 == 0) {
			assert_true(oracle_all_read_back());
			assert_true(oracle_apart());
		}
	}
	assert_true(oracle_all_read_back());
	assert_true(oracle_apart());
	assert_int_equal(load_relaxed(&store.failures), 0);
	oracle_end();
}

/* A batch takes so many objects, or so many bytes, and says when it is full; what it took stays as it was. */
static void test_a_batch_says_when_it_is_full(void **state)
{
	struct entry e[STORE_BATCH + 1];

	(void)state;
	store_open_in_dir();
	batch_start();
	for (unsigned i = 0; i <= STORE_BATCH; i++) {
		e[i] = (struct entry){.kind = KIND_RANDOM, .seed = i};
		assert_int_equal(batch_put(&e[i], i), i < STORE_BATCH);
	}
	assert_int_equal(batch.count, STORE_BATCH);
	assert_int_equal(write_batch(), 0);
	for (unsigned i = 0; i < STORE_BATCH; i++) {
		e[i].slot = batch.page[i].key;
		assert_int_equal(batch.tag[i], i);
		assert_true(entry_reads_back(&e[i], i));
		store_discard(&store, e[i].slot);
	}
	store_end();
}

/* Objects of one batch lie one behind the other, and are read in one go as far as the buffer reaches. */
static void test_neighbours_are_read_in_one_go(void **state)
{
	struct entry e[STORE_BATCH];
	store_key_t slots[STORE_BATCH];
	unsigned pages;
	uint64_t seed = test_seed();

	(void)state;
	store_open_in_dir();
	for (unsigned round = 0; round < 10; round++) {
		size_t fits = 0;
		unsigned expected = 0;
		int got;

		batch_start();
		pages = 1 + random_below(&seed, STORE_BATCH);
		for (unsigned i = 0; i < pages; i++) {
			e[i].kind = round ? random_below(&seed, PAGE_KINDS) : KIND_RANDOM;
			e[i].seed = random_next(&seed);
			assert_true(batch_put(&e[i], i));
		}
		assert_int_equal(write_batch(), 0);
		for (unsigned i = 0; i < pages; i++) {
			e[i].slot = batch.page[i].key;
			if (i)
				assert_int_equal(e[i].slot >> FILE_UNITS_SHIFT,
						 (e[i - 1].slot >> FILE_UNITS_SHIFT) +
							 e[i - 1].units);
		}
		for (; expected < pages; expected++) {
			fits += (size_t)e[expected].units * fs->file.unit;
			if (fits > STORE_READ_BYTES)
				break;
		}
		keys_of(slots, pages);
		got = read_keys(slots, pages);
		assert_int_equal(got, expected);
		for (unsigned i = 0; i < expected; i++) {
			page_make(page_buffer, e[i].kind, e[i].seed);
			assert_int_equal(store_unpack(&reader, packer, i, i, back), 0);
			assert_memory_equal(back, page_buffer, PAGE_SIZE);
			/* Another's number gets nothing. */
			assert_int_equal(store_unpack(&reader, packer, i, i + 1, back), -EBADMSG);
		}
		/* Asked for fewer, it takes no more. */
		assert_int_equal(read_keys(slots, 1), 1);
	}
	store_close(&store);
}

/* Objects that do not lie one behind the other, in any order, even one twice: one read gives all of them, with rings and without. */
static void test_what_lies_apart_is_read_in_one_go(void **state)
{
	static const unsigned order[] = {4, 5, 0, 2, 2, 1, 3};
	struct entry e[6];
	store_key_t slots[6], apart[ARRAY_SIZE(order)];

	(void)state;
	store_open_in_dir();
	batch_start();
	for (unsigned i = 0; i < 6; i++) {
		e[i] = (struct entry){.kind = i % 2 ? KIND_TEXT : KIND_RANDOM, .seed = i};
		assert_true(batch_put(&e[i], i));
	}
	assert_int_equal(write_batch(), 0);
	keys_of(slots, 6);
	for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
		apart[i] = slots[order[i]];
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(read_keys(apart, ARRAY_SIZE(order)), ARRAY_SIZE(order));
		for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
			page_make(page_buffer, e[order[i]].kind, e[order[i]].seed);
			assert_int_equal(store_unpack(&reader, packer, i, order[i], back), 0);
			assert_memory_equal(back, page_buffer, PAGE_SIZE);
		}
		/* All taken, as by other threads. */
		store_relaxed(&fs->rings_taken, (1u << FILE_READ_RINGS) - 1);
	}
	store_relaxed(&fs->rings_taken, 0);
	store_close(&store);
}

/* --- room in the file --- */

static unsigned slot_start(unsigned i)
{
	return batch.page[i].key >> FILE_UNITS_SHIFT;
}

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

/* --- bytes that changed --- */

/* Changes one byte of the file behind the store's back. */
static void rot(off_t offset, unsigned char by)
{
	static char block[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
	off_t start = ALIGN_DOWN(offset, (off_t)fs->file.unit);

	assert_int_equal(pread(fs->file.fd, block, fs->file.unit, start), fs->file.unit);
	((unsigned char *)block)[offset - start] ^= by;
	assert_int_equal(pwrite(fs->file.fd, block, fs->file.unit, start), fs->file.unit);
}

/* One byte that rotted anywhere in an object is refused; beside it, and when it is mended, the page comes back. */
static void test_rotten_bytes_are_refused(void **state)
{
	uint64_t seed = test_seed();
	struct entry e[3];

	(void)state;
	store_open_in_dir();
	batch_start();
	for (unsigned i = 0; i < 3; i++) {
		e[i] = (struct entry){.kind = i == 1 ? KIND_RANDOM : KIND_TEXT, .seed = i};
		assert_true(batch_put(&e[i], i));
	}
	assert_int_equal(write_batch(), 0);
	for (unsigned i = 0; i < 3; i++)
		e[i].slot = batch.page[i].key;
	for (unsigned round = 0; round < 300; round++) {
		unsigned i = round % 3;
		size_t size = object_size((struct object *)batch.page[i].data);
		off_t at =
			(off_t)slot_start(i) * fs->file.unit + random_below(&seed, (unsigned)size);
		unsigned char by = (unsigned char)(1 + random_below(&seed, 255));

		rot(at, by);
		memset(back, 0xee, PAGE_SIZE);
		assert_int_equal(read_one(e[i].slot, i, back), -EBADMSG);
		assert_true(all_bytes_are(back, 0xee, PAGE_SIZE));
		assert_true(entry_reads_back(&e[(i + 1) % 3], (i + 1) % 3));
		rot(at, by);
		assert_true(entry_reads_back(&e[i], i));
	}
	store_close(&store);
}

/* A write that went to the wrong place: the object there is another page's, and refused. */
static void test_misplaced_objects_are_refused(void **state)
{
	struct entry e[2];
	store_key_t slots[2];

	(void)state;
	store_open_in_dir();
	batch_start();
	for (unsigned i = 0; i < 2; i++) {
		e[i] = (struct entry){.kind = KIND_RANDOM, .seed = 3};
		assert_true(batch_put(&e[i], i));
	}
	assert_int_equal(write_batch(), 0);
	e[0].slot = batch.page[1].key;
	e[1].slot = batch.page[0].key;
	assert_int_equal(read_one(e[0].slot, 0, back), -EBADMSG);
	assert_int_equal(read_one(e[1].slot, 1, back), -EBADMSG);
	/* Cut short: the file ends before the object does. */
	assert_int_equal(ftruncate(fs->file.fd, fs->file.unit), 0);
	assert_int_equal(read_one(batch.page[1].key, 1, back), -EIO);
	keys_of(slots, 2);
	assert_int_equal(read_keys(slots, 2), 2);
	assert_int_equal(store_unpack(&reader, packer, 0, 0, back), -EIO);
	assert_int_equal(store_unpack(&reader, packer, 1, 1, back), -EIO);
	store_close(&store);
}

static void read_from_a_bad_disk(void *arg)
{
	struct entry e = {.kind = KIND_TEXT};

	(void)arg;
	child_check(store_init(&store, NULL, dir) == 0 && store_open(&store) == 0);
	batch_start();
	child_check(batch_put(&e, 1));
	child_check(write_batch() == 0);
	deny(SYS_pread64, EIO);
	child_check(read_one(batch.page[0].key, 1, back) == -EIO);
}

static void test_errors_of_reading_are_told(void **state)
{
	store_key_t slot = 0;

	(void)state;
	child_passes(read_from_a_bad_disk, NULL);
	/* Nothing was ever opened. */
	assert_int_equal(store_init(&store, NULL, dir), 0);
	assert_int_equal(read_one(slot, 1, back), -EBADF);
	store_close(&store);
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

/* --- where the file is --- */

struct place {
	const char *dir, *tmpdir; /* NULL: none */
	int err;
	const char *says;
};

static void open_at(void *arg)
{
	const struct place *p = arg;

	if (p->tmpdir)
		setenv("TMPDIR", p->tmpdir, 1); // NOLINT(concurrency-mt-unsafe): a child of its own
	else
		unsetenv("TMPDIR"); // NOLINT(concurrency-mt-unsafe): a child of its own
	child_check(store_init(&store, NULL, p->dir) == 0);
	child_check(store_open_late(&store) == p->err);
	child_check(store_open_late(&store) == p->err); /* said once */
	child_check(store_is_open(&store) == !p->err);
	for (unsigned i = 0; i < 2 && !p->err; i++) {
		struct entry e = {.kind = KIND_TEXT};

		batch_start();
		child_check(batch_put(&e, 1));
		child_check(write_batch() == 0);
	}
	store_close(&store);
}

static void opens_and_says(const struct place *place)
{
	struct child child;
	const char *line;

	run_child(&child, open_at, (void *)place);
	assert_child_passed(&child);
	assert_says(&child, place->says);
	line = strchr(child.stderr_, '\n');
	assert_true(line && !line[1]); /* one line */
}

/* The folder given, else TMPDIR, then /var/tmp: the first that is on a disk, and the log says which. */
static void test_places_are_tried_in_order(void **state)
{
	char in_dir[DIR_TEXT + 64];
	const bool var_tmp = !dir_in_memory("/var/tmp") && !access("/var/tmp", W_OK);
	const bool shm = dir_in_memory("/dev/shm") && !access("/dev/shm", W_OK);
	const char *in_var = "an unlinked file in /var/tmp";

	(void)state;
	snprintf(in_dir, sizeof(in_dir), "an unlinked file in %s", dir);
	opens_and_says(&(struct place){dir, "/nowhere", 0, in_dir});
	opens_and_says(&(struct place){NULL, dir, 0, in_dir});
	if (!var_tmp)
		skip_because("/var/tmp is on no disk");
	opens_and_says(&(struct place){NULL, NULL, 0, in_var});
	opens_and_says(&(struct place){NULL, "", 0, in_var});
	opens_and_says(&(struct place){"/nowhere", dir, 0, in_var});
	opens_and_says(&(struct place){NULL, "/proc/self/exe", 0, in_var});
	if (!shm)
		skip_because("/dev/shm is no tmpfs");
	opens_and_says(&(struct place){"/dev/shm", NULL, 0, in_var});
	opens_and_says(&(struct place){NULL, "/dev/shm", 0, in_var});
}

static void open_nowhere(void *arg)
{
	deny_if(SYS_openat, 2, 020000000, 020000000, EROFS); /* the bit of O_TMPFILE */
	open_at(arg);
}

/* No place at all: the error of the last, and the line names it. */
static void test_no_place_is_told(void **state)
{
	struct place place = {dir, NULL, -EROFS, ""};
	struct child child;

	(void)state;
	run_child(&child, open_nowhere, &place);
	assert_child_passed(&child);
	assert_says(&child, "no place for cold pages (EROFS)");
	assert_says(&child, "Set TMPDIR");
}

/* Nothing is made before it is needed, and nothing is left when the store goes. */
static void test_nothing_is_opened_before_its_time(void **state)
{
	int before = descriptors_open_now();

	(void)state;
	assert_int_equal(store_init(&store, NULL, dir), 0);
	assert_int_equal(descriptors_open_now(), before);
	assert_int_equal(store_open(&store), 0);
	assert_int_equal(store_open(&store), 0);
	assert_int_equal(descriptors_open_now(), before + 1);
	assert_int_equal(dir_entries(dir), 0);
	store_close(&store);
	assert_int_equal(descriptors_open_now(), before);
}

/* No malloc on these ways: under weir run it is the program's, and lives in a region. */
static void test_the_file_store_calls_no_malloc(void **state)
{
	unsigned long before = load_relaxed(&allocations);

	(void)state;
	if (!ALLOCATIONS_COUNTED)
		skip_because("a sanitizer has taken malloc");
	memset(&oracle, 0, sizeof(oracle));
	assert_int_equal(store_init(&store, NULL, dir), 0);
	assert_int_equal(store_open(&store), 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(oracle_write(STORE_BATCH, PAGE_KINDS), 0);
	assert_true(oracle_all_read_back());
	oracle_free_random(PAGES);
	store_close(&store);
	assert_int_equal(load_relaxed(&allocations), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* First those that read the log, which says it once a process. */
		cmocka_unit_test(test_places_are_tried_in_order),
		cmocka_unit_test(test_no_place_is_told),
		cmocka_unit_test(test_random_batches_against_an_oracle),
		cmocka_unit_test(test_a_batch_says_when_it_is_full),
		cmocka_unit_test(test_neighbours_are_read_in_one_go),
		cmocka_unit_test(test_what_lies_apart_is_read_in_one_go),
		cmocka_unit_test(test_batches_are_written_in_order),
		cmocka_unit_test(test_the_file_stays_small),
		cmocka_unit_test(test_double_free_panics),
		cmocka_unit_test(test_rotten_bytes_are_refused),
		cmocka_unit_test(test_misplaced_objects_are_refused),
		cmocka_unit_test(test_errors_of_reading_are_told),
		cmocka_unit_test(test_a_limit_on_files_does_no_harm),
		cmocka_unit_test(test_a_full_disk_does_no_harm),
		cmocka_unit_test(test_errors_of_writing_do_no_harm),
		cmocka_unit_test(test_without_rings_everything_works),
		cmocka_unit_test(test_batches_in_flight_meet_a_full_file),
		cmocka_unit_test(test_nothing_is_opened_before_its_time),
		cmocka_unit_test(test_the_file_store_calls_no_malloc),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
