/* SPDX-License-Identifier: BSD-2-Clause */
#include "files.h"

#include <unistd.h>

#include "control/stock.h"

enum { INODE = 7 };

static void quiesce(void *data)
{
	(void)data;
}

void files_open(struct files *f, uint32_t max, size_t bytes, size_t bytes_of_another)
{
	const size_t sizes[FILES_SOURCES] = {bytes, bytes_of_another};
	const struct world_options options = {.max = max, .pages = {1}};

	memset(f, 0, sizeof(*f));
	world_open(&f->w, &options);
	fake_threads(true);
	f->w.vm.can_minor = f->w.vm.can_track = true;
	f->w.vm.quiesce = quiesce;
	for (unsigned i = 0; i < FILES_SOURCES && sizes[i]; i++) {
		struct source *s = &f->source[i];

		s->bytes = sizes[i];
		s->pages = (uint32_t)DIV_UP(s->bytes, PAGE_SIZE);
		s->disk = fake_source(files_path[i], s->bytes, INODE + i);
		s->right = mem_alloc((size_t)s->pages << PAGE_SHIFT);
		assert_non_null(s->right);
		for (uint32_t page = 0; page < s->pages; page++)
			fill_noise((char *)s->right + ((size_t)page << PAGE_SHIFT), page + 1 + i);
		memset(s->right + s->bytes, 0, ((size_t)s->pages << PAGE_SHIFT) - s->bytes);
		memcpy(s->disk, s->right, s->bytes);
		/* Behind its end lies what nobody may see, or change. */
		memset(s->disk + s->bytes, 0x5a, PAGE_SIZE);
	}
}

void files_close(struct files *f)
{
	for (unsigned r = 0; r < FILES_MAPS; r++) {
		if (f->region[r])
			assert_int_equal(files_unmap(f, r), 0);
	}
	for (unsigned i = 0; i < FILES_MAX; i++)
		assert_null(load_relaxed(&f->w.vm.file_object[i]));
	assert_int_equal(file_usage(f), 0);
	assert_int_equal(fake_sources_open(), 0);
	file_crew_stop(&f->w.vm);
	for (unsigned i = 0; i < FILES_SOURCES && f->source[i].pages; i++) {
		assert_true(files_on_disk(f, i, 0, f->source[i].pages));
		mem_release(f->source[i].right, (size_t)f->source[i].pages << PAGE_SHIFT);
	}
	world_close(&f->w);
}

struct file_hold files_hold(struct files *f, unsigned source, bool write,
			    struct weir_container *container)
{
	struct file_hold hold;

	assert_int_equal(file_hold_open(&f->w.vm, container ? container : f->w.container,
					files_path[source], write, &hold),
			 0);
	return hold;
}

unsigned files_map(struct files *f, unsigned source, bool write, struct weir_container *container)
{
	struct file_hold hold = files_hold(f, source, write, container);
	unsigned r = 0;

	while (f->region[r])
		r++;
	assert_int_equal(file_region_create(&f->w.vm, &hold, &f->region[r]), 0);
	assert_int_equal(file_hold_close(&f->w.vm, f->w.background, &hold), 0);
	f->of[r] = source;
	return r;
}

int files_unmap(struct files *f, unsigned r)
{
	struct region *region = f->region[r];

	f->region[r] = NULL;
	region_hide(&f->w.vm, region);
	region_unregister(region);
	return file_region_close(&f->w.vm, f->w.background, region);
}

/* --- the oracle --- */

#define page_assert(cond)                                                                          \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fail_msg("page %u, state %#x: %s", page, s, #cond);                        \
	} while (0)

static const unsigned char *right_of(struct files *f, unsigned source, uint32_t page)
{
	return f->source[source].right + ((size_t)page << PAGE_SHIFT);
}

bool files_on_disk(struct files *f, unsigned source, uint32_t page, uint32_t count)
{
	const struct source *s = &f->source[source];
	const size_t from = (size_t)page << PAGE_SHIFT, to = from + ((size_t)count << PAGE_SHIFT);

	/* And nothing was written behind its end. */
	assert_int_equal(s->disk[s->bytes], 0x5a);
	assert_memory_equal(s->disk + s->bytes, s->disk + s->bytes + 1, PAGE_SIZE - 1);
	return memcmp(s->disk + from, s->right + from, MIN(to, s->bytes) - from) == 0;
}

/* Returns whether the region holds the page. */
static bool check_mapped(struct region *region, uint32_t page, uint32_t s)
{
	const uint64_t word = load_relaxed(&region->word[page]);
	const char *addr = page_address(region, page);
	const enum page_state state = word_state(word);

	page_assert(word == state);
	page_assert(state == PAGE_NONE || state == PAGE_CLEAN || state == PAGE_DIRTY ||
		    state == PAGE_POISONED);
	page_assert(fake_present(addr) == word_resident(word));
	page_assert(fake_poisoned(addr) == (state == PAGE_POISONED));
	page_assert(!fake_waiting(addr));
	/* Who can write to it without a fault has it dirty. */
	page_assert(state != PAGE_DIRTY || (s & FILE_DIRTY && file_region_hold(region)->write));
	if (state == PAGE_CLEAN && file_region_hold(region)->write)
		page_assert(fake_protected(addr));
	return word_resident(word);
}

static void check_page(struct files *f, struct file_object *o, unsigned source, uint32_t page)
{
	static _Alignas(4096) unsigned char contents[4096];
	const uint32_t s = load_relaxed(&o->state[page]);
	const off_t at = (off_t)page << PAGE_SHIFT;
	unsigned holders = 0;

	page_assert(!(s & (FILE_BUSY | FILE_PARKED | FILE_WRITING)));
	page_assert(s & FILE_CACHED || !(s & (FILE_DIRTY | FILE_AHEAD)));
	page_assert(s & FILE_DIRTY || !(s & FILE_REFUSED));
	page_assert((lseek(o->cache, at, SEEK_DATA) == at) == !!(s & FILE_CACHED));
	for (unsigned i = 0; i < FILE_REGIONS; i++) {
		struct region *region = load_relaxed(&o->region[i]);

		holders += region && check_mapped(region, page, s);
	}
	page_assert(!holders || s & FILE_CACHED);
	page_assert(account_holders(&o->account[page]) == holders + !!(s & FILE_CACHED));
	if (s & FILE_CACHED) {
		page_assert(pread(o->cache, contents, PAGE_SIZE, at) == (ssize_t)PAGE_SIZE);
		page_assert(memcmp(contents, right_of(f, source, page), PAGE_SIZE) == 0);
	}
	page_assert(s & FILE_DIRTY || files_on_disk(f, source, page, 1));
}

static void check_object(struct files *f, struct file_object *o)
{
	const unsigned source = (unsigned)(o->id.inode - INODE);
	uint32_t cached = 0, dirty = 0, refused = 0;

	for (uint32_t page = 0; page < o->pages; page++) {
		check_page(f, o, source, page);
		cached += !!(load_relaxed(&o->state[page]) & FILE_CACHED);
		dirty += !!(load_relaxed(&o->state[page]) & FILE_DIRTY);
		refused += !!(load_relaxed(&o->state[page]) & FILE_REFUSED);
		if (page % (1u << CHUNK_SHIFT) == (1u << CHUNK_SHIFT) - 1 || page == o->pages - 1) {
			assert_int_equal(load_relaxed(&o->cached[page >> CHUNK_SHIFT]), cached);
			cached = 0;
		}
	}
	assert_int_equal(load_relaxed(&o->dirty), dirty);
	assert_int_equal(load_relaxed(&o->refused), refused);
}

/* Each page is charged once, to the container that its account names. */
static void check_charges(struct files *f)
{
	struct weir_container *root = f->w.container;

	for (struct weir_container *c = root; c; c = container_next(root, c)) {
		uint64_t pages = 0;

		for (unsigned i = 0; i < FILES_MAX; i++) {
			struct file_object *o = load_relaxed(&f->w.vm.file_object[i]);

			for (uint32_t page = 0; o && page < o->pages; page++)
				pages += load_relaxed(&o->state[page]) & FILE_CACHED &&
					 owners_get(&o->owners, load_relaxed(&o->account[page]) %
									OWNERS_MAX) == c;
		}
		assert_int_equal(container_own_usage(c, CHARGE_FILE), pages << PAGE_SHIFT);
	}
}

void files_check(struct files *f)
{
	for (unsigned i = 0; i < FILES_MAX; i++) {
		struct file_object *o = load_relaxed(&f->w.vm.file_object[i]);

		if (o)
			check_object(f, o);
	}
	check_charges(f);
	/* What threads of the crew have charged and not used. */
	(void)stocks_drain(&f->w.tree, f->w.container, true);
	world_check(&f->w);
}

/* --- the program --- */

enum pagein_result files_fault(struct files *f, unsigned r, uint32_t page, enum fault_access access)
{
	return pagein(&f->w.vm, f->w.pager, f->region[r], page, access);
}

unsigned files_touch(struct files *f, unsigned r, uint32_t page, bool write)
{
	const char *addr = page_address(f->region[r], page);

	for (unsigned faults = 0; faults < 8; faults++) {
		enum fake_touch touch = fake_touch(addr, write);
		enum fault_access access = touch == TOUCH_PROTECTED ? ACCESS_WP
					   : write		    ? ACCESS_WRITE
								    : ACCESS_READ;

		if (touch == TOUCH_DONE || touch == TOUCH_SIGBUS)
			return faults;
		if (files_fault(f, r, page, access) == PAGEIN_PARKED)
			fake_threads_run();
		if (fake_waiting(addr))
			fail_msg("page %u: its fault was served and nobody woke the thread", page);
	}
	fail_msg("page %u faults for ever, state %#x", page, state_of(f, r, page));
	return 0;
}

void files_read(struct files *f, unsigned r, uint32_t page)
{
	(void)files_touch(f, r, page, false);
	if (memcmp(page_address(f->region[r], page), right_of(f, f->of[r], page), PAGE_SIZE) != 0)
		fail_msg("page %u is not what was written last", page);
}

void files_wrote(struct files *f, unsigned source, const void *bytes, size_t count, size_t offset)
{
	memcpy(f->source[source].right + offset, bytes, count);
}

void files_write(struct files *f, unsigned r, uint32_t page, uint64_t value)
{
	const size_t at = (size_t)page << PAGE_SHIFT;

	(void)files_touch(f, r, page, true);
	memcpy(page_address(f->region[r], page), &value, sizeof(value));
	files_wrote(f, f->of[r], &value, sizeof(value), at);
}
