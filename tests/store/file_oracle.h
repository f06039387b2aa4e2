/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the tests of the file store share: one store in a folder on a disk, and an oracle that knows what every page is to read
 * as, how much of the file is in use, and that no two objects lie on each other.
 */
#ifndef WEIR_TESTS_STORE_FILE_ORACLE_H
#define WEIR_TESTS_STORE_FILE_ORACLE_H

#include "../disk.h"
#include "pages.h"

#include <sys/stat.h>

#include "base/atomic.h"
#include "store/filestore.h"
#include "store/store.h"

static char dir[DIR_TEXT]; /* on a disk, for all tests */
static struct packer *packer;
static char *read_buffer, *page_buffer, *back;

static struct store store;
static struct store_batch batch;
static struct store_reader reader;
#define fs ((struct filestore *)store.handle)

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
	(void)state;
	if (dir[0])
		dir_remove(dir);
	free(packer);
	return 0;
}

static inline void store_open_in_dir(void)
{
	if (!dir[0])
		skip_because("no folder on a disk; set WEIR_TEST_DIR to one");
	assert_int_equal(store_init(&store, NULL, dir), 0);
	assert_int_equal(store_open(&store), 0);
}

static inline void store_end(void)
{
	assert_int_equal(filestore_validate(fs), 0);
	store_close(&store);
	assert_int_equal(dir_entries(dir), 0);
}

/* What the oracle knows of one page. */
struct entry {
	bool live;
	store_key_t slot;
	uint64_t seed;
	enum page_kind kind;
	unsigned units;
};

static inline void batch_start(void)
{
	store_batch_start(&batch);
}

/* Until the store has done it. */
static inline int write_batch(void)
{
	store_write(&store, &batch);
	store_poll(&store, &batch, true);
	return store_batch_end(&store, &batch);
}

static inline int read_keys(const store_key_t *key, unsigned count)
{
	return store_read(&store, &reader, key, count, read_buffer, false);
}

static inline void keys_of(store_key_t *key, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		key[i] = batch.page[i].key;
}

static inline int read_one(store_key_t key, page_no_t page, void *to)
{
	int got = read_keys(&key, 1);

	return got < 0 ? got : store_unpack(&reader, packer, 0, page, to);
}

/* Packs the page that the entry describes, and adds it. */
static inline bool batch_put(struct entry *e, page_no_t page)
{
	size_t size;

	page_make(page_buffer, e->kind, e->seed);
	size = object_pack(packer, 0, page, page_buffer);
	e->units = (unsigned)DIV_UP(size, fs->file.unit);
	return store_batch_add(&store, &batch, (struct object *)packer->out, page);
}

static inline bool entry_reads_back(const struct entry *e, page_no_t page)
{
	memset(back, 0xee, PAGE_SIZE);
	page_make(page_buffer, e->kind, e->seed);
	return read_one(e->slot, page, back) == 0 && !memcmp(back, page_buffer, PAGE_SIZE);
}

static inline unsigned slot_start(unsigned i)
{
	return batch.page[i].key >> FILE_UNITS_SHIFT;
}

/* --- an oracle --- */

enum { PAGES = 3000 };

struct oracle {
	struct entry entry[PAGES];
	uint64_t seed, units, most; /* most: the largest use so far, in units */
	unsigned live;
};

static struct oracle oracle;

static inline void oracle_start(void)
{
	memset(&oracle, 0, sizeof(oracle));
	oracle.seed = test_seed();
}

/* Writes a batch of pages that have no object. Returns what the store says. */
static inline int oracle_write(unsigned want, enum page_kind only)
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

static inline void oracle_free(page_no_t page)
{
	struct entry *e = &oracle.entry[page];

	store_discard(&store, e->slot);
	e->live = false;
	oracle.units -= e->units;
	oracle.live--;
}

static inline void oracle_free_random(unsigned count)
{
	while (count && oracle.live) {
		page_no_t page = random_below(&oracle.seed, PAGES);

		if (oracle.entry[page].live) {
			oracle_free(page);
			count--;
		}
	}
}

static inline void oracle_counts(void)
{
	assert_int_equal(load_relaxed(&store.bytes), oracle.units * fs->file.unit);
	assert_int_equal(fs->used, oracle.units);
	assert_int_equal(filestore_validate(fs), 0);
}

static inline bool oracle_all_read_back(void)
{
	for (page_no_t page = 0; page < PAGES; page++) {
		if (oracle.entry[page].live && !entry_reads_back(&oracle.entry[page], page))
			return false;
	}
	return true;
}

/* No two objects share a unit. */
static inline bool oracle_apart(void)
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

static inline void oracle_end(void)
{
	oracle_free_random(PAGES);
	oracle_counts();
	assert_int_equal(load_relaxed(&store.bytes), 0);
	store_end();
}

#endif
