/* SPDX-License-Identifier: BSD-2-Clause */
#include "world.h"

#include "../frames.h"
#include "store.h"
#include "store/filestore.h"

#include "base/log.h"

enum { LOG_BYTES = 1 << 16 };

static char said[LOG_BYTES];
static size_t said_bytes;

static void log_sink(const char *line, size_t len)
{
	len = MIN(len, LOG_BYTES - 1 - said_bytes);
	memcpy(said + said_bytes, line, len);
	said_bytes += len;
	said[said_bytes] = '\0';
}

bool world_said(const char *words)
{
	return strstr(said, words) != NULL;
}

/* --- beginning and end --- */

static enum room make_room(void *data, struct weir_container *level, uint64_t bytes)
{
	struct world *w = data;

	return reclaim_make_room(&w->reclaim, w->pager, level, bytes);
}

static void throttle(void *data, struct weir_container *level)
{
	struct world *w = data;

	reclaim_throttle(&w->reclaim, w->pager, level);
}

static uint64_t give(void *data, struct weir_container *container, uint64_t bytes)
{
	return reclaim_give(&((struct world *)data)->reclaim, container, bytes);
}

static void reparent(void *data, struct weir_container *container)
{
	struct world *w = data;

	for (unsigned i = 0; i < w->regions; i++)
		owners_reparent(&w->region[i]->owners, container);
	reclaim_quiesce(&w->reclaim);
}

static uint64_t slack(void *data)
{
	return reclaim_slack(&((struct world *)data)->reclaim);
}

static void *must(void *p)
{
	assert_non_null(p);
	return p;
}

static void region_open(struct world *w, uint32_t pages)
{
	const unsigned i = w->regions++;

	assert_int_equal(region_create(&w->vm, w->container, NULL, (size_t)pages << PAGE_SHIFT,
				       NULL, &w->region[i]),
			 0);
	assert_int_equal(region_register(w->region[i]), 0);
	w->content[i] = must(mem_alloc((size_t)pages << PAGE_SHIFT));
	w->lost[i] = must(mem_alloc(ALIGN_UP(pages * sizeof(bool), PAGE_SIZE)));
}

void world_open(struct world *w, const struct world_options *options)
{
	const uint32_t max = options->max ? options->max : 16384;
	uint64_t mark;

	fake_reset();
	said_bytes = 0;
	said[0] = '\0';
	log_set_sink(log_sink);
	memset(w, 0, sizeof(*w));
	assert_int_equal(tree_init(&w->tree, (uint64_t)max << PAGE_SHIFT), 0);
	w->container = w->tree.root;
	w->pool = frames_open(options->pool ? options->pool : MIB(16));
	if (options->free_frames)
		frames_leave(w->pool, options->free_frames);
	w->not_ours = frames_used(w->pool);
	assert_int_equal(compressed_init(&w->memory, w->pool), 0);
	assert_int_equal(store_init(&w->store, options->store, options->store ? NULL : "/a/disk"),
			 0);
	assert_int_equal(vm_init(&w->vm, w->container, &w->memory, &w->store), 0);
	w->vm.uffd = uffd_open(0);
	w->vm.can_poison = true;
	w->pager = must(mem_alloc(ALIGN_UP(sizeof(struct pager), PAGE_SIZE)));
	w->background = must(mem_alloc(ALIGN_UP(sizeof(struct pager), PAGE_SIZE)));
	assert_int_equal(reclaim_init(&w->reclaim, &w->vm, w->background), 0);
	/* What the mover's packets take is not the tests' to count with. */
	w->packets = container_charged(w->container);
	mark = load_relaxed(&w->container->mark);
	container_set_max(w->container, ((uint64_t)max << PAGE_SHIFT) + w->packets);
	store_relaxed(&w->container->mark, mark + w->packets);
	w->tree.ops = (struct control_ops){.make_room = make_room,
					   .throttle = throttle,
					   .reclaim = give,
					   .reparent = reparent,
					   .slack = slack,
					   .data = w};
	for (unsigned i = 0; i < WORLD_REGIONS && options->pages[i]; i++)
		region_open(w, options->pages[i]);
	if (!w->regions)
		region_open(w, 256);
	w->only = w->region[0];
	w->check_each = options->check_each;
	w->streams = options->streams;
}

void world_close(struct world *w)
{
	assert_int_equal(fake_calm(), 0);
	world_check(w);
	for (unsigned i = 0; i < w->regions; i++) {
		const uint32_t pages = w->region[i]->room;

		region_hide(&w->vm, w->region[i]);
		region_unregister(w->region[i]);
		region_destroy(&w->vm, w->region[i]);
		mem_release(w->content[i], (size_t)pages << PAGE_SHIFT);
		mem_release(w->lost[i], ALIGN_UP(pages * sizeof(bool), PAGE_SIZE));
	}
	assert_int_equal(load_relaxed(&w->container->charged), w->packets);
	assert_int_equal(load_relaxed(&w->memory.objects), 0);
	assert_int_equal(load_relaxed(&w->store.bytes), 0);
	assert_int_equal(load_relaxed(&w->container->swap), 0);
	assert_int_equal(frames_used(w->pool), w->not_ours);
	assert_int_equal(compressed_validate(&w->memory), 0);
	assert_int_equal(weir_pool_validate(w->pool), 0);
	reclaim_destroy(&w->reclaim);
	assert_int_equal(load_relaxed(&w->container->charged), 0);
	mem_release(w->pager, ALIGN_UP(sizeof(struct pager), PAGE_SIZE));
	mem_release(w->background, ALIGN_UP(sizeof(struct pager), PAGE_SIZE));
	vm_destroy(&w->vm);
	store_close(&w->store);
	compressed_destroy(&w->memory);
	weir_pool_destroy(w->pool);
	tree_destroy(&w->tree);
	log_set_sink(NULL);
	fake_reset();
}

/* --- the oracle of words, charges and copies --- */

/* What all words together say. */
struct tally {
	uint64_t resident, compressed, objects, stored;
};

/* Names the page in what is printed when an assertion fails. */
#define page_assert(cond)                                                                          \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fail_msg("region %u, page %u, word %#llx: %s", r, page,                    \
				 (unsigned long long)x, #cond);                                    \
	} while (0)

/* Each copy is named by one word only. */
static void mark_once(uint8_t *seen, size_t bytes, size_t bit)
{
	assert_true(bit / 8 < bytes);
	assert_false(seen[bit / 8] >> (bit % 8) & 1);
	seen[bit / 8] |= (uint8_t)(1u << (bit % 8));
}

/* One bit a slot of a pool of at most 64 MiB, and one a unit of the file. */
static uint8_t seen_slot[MIB(64) >> (SLOT_SHIFT + 3)], seen_unit[FAKE_FILE_MAX / 512 / 8];

static void check_state(struct world *w, unsigned r, uint32_t page, uint64_t x)
{
	const char *addr = page_address(w->region[r], page);
	const enum page_state state = word_state(x);

	page_assert(!(x & (WORD_BUSY | WORD_PARKED)));
	page_assert(state <= PAGE_GUARDED);
	page_assert((word_kind(x) != COPY_NONE) == (state == PAGE_CLEAN || state == PAGE_ABSENT));
	page_assert(word_kind(x) != COPY_NONE || word_location(x) == 0);
	page_assert(!(x & WORD_WRITEBACK) || word_kind(x) == COPY_MEMORY);
	page_assert(fake_present(addr) == word_resident(x));
	page_assert(fake_poisoned(addr) == (state == PAGE_POISONED));
	page_assert((state != PAGE_CLEAN && state != PAGE_GUARDED) || fake_protected(addr));
	page_assert(state != PAGE_CLEANING || load_relaxed(&w->reclaim.state) != 0);
	page_assert(word_resident(x) || state == PAGE_ABSENT || !word_credit(x));
	page_assert(word_grade(x) <= GRADE_MAX);
	page_assert(state != PAGE_NONE || x == 0);
	page_assert(state != PAGE_POISONED || x == PAGE_POISONED);
}

/* Where the store has it. Reading would count as a call; these bytes do not. NULL: nowhere. */
static const struct object *stored_object(struct world *w, uint32_t key, size_t *bytes)
{
	uint32_t room;
	const void *kept;
	size_t offset;

	if (w->store.ops != &filestore_ops) {
		mark_once(seen_unit, sizeof(seen_unit), key);
		kept = test_store_peek(key, &room);
		*bytes = room;
		return kept;
	}
	for (uint32_t i = 0; i <= (key & 15); i++)
		mark_once(seen_unit, sizeof(seen_unit), (key >> FILE_UNITS_SHIFT) + i);
	kept = fake_file(bytes);
	offset = (size_t)(key >> FILE_UNITS_SHIFT) * w->store.unit;
	if (!kept || offset >= *bytes)
		return NULL;
	*bytes -= offset;
	return (const struct object *)((const char *)kept + offset);
}

static void check_copy(struct world *w, unsigned r, uint32_t page, uint64_t x, struct tally *sum)
{
	static _Alignas(4096) char unpacked[4096];
	const page_no_t number = page_number(w->region[r], page);
	const uint32_t slot = word_location(x);
	int err = 0;

	switch (word_kind(x)) {
	case COPY_NONE:
		return;
	case COPY_FILLED:
		page_fill(unpacked, slot);
		break;
	case COPY_MEMORY:
		mark_once(seen_slot, sizeof(seen_slot), slot);
		sum->compressed += compressed_room(&w->memory, slot);
		sum->objects++;
		err = object_unpack(&w->pager->packer, compressed_object(&w->memory, slot),
				    compressed_room(&w->memory, slot), number, unpacked);
		break;
	case COPY_FILE: {
		size_t bytes;
		const struct object *object = stored_object(w, slot, &bytes);

		page_assert(object);
		sum->stored += store_key_bytes(&w->store, slot);
		err = object_unpack(&w->pager->packer, object, bytes, number, unpacked);
		break;
	}
	}
	if (w->lost[r][page])
		return;
	page_assert(err == 0);
	page_assert(memcmp(unpacked, content_of(w, r, page), PAGE_SIZE) == 0);
}

static void check_region(struct world *w, unsigned r, struct tally *sum)
{
	struct region *region = w->region[r];
	uint32_t populated = 0;

	for (uint32_t page = 0; page < region->pages; page++) {
		const uint64_t x = load_relaxed(&region->word[page]);

		check_state(w, r, page, x);
		check_copy(w, r, page, x, sum);
		sum->resident += word_resident(x);
		page_assert(word_state(x) == PAGE_NONE || page < load_relaxed(&region->top));
		if (word_resident(x) && !w->lost[r][page])
			page_assert(memcmp(page_address(region, page), content_of(w, r, page),
					   PAGE_SIZE) == 0);
		populated += word_state(x) != PAGE_NONE;
		if (page % (1u << CHUNK_SHIFT) == (1u << CHUNK_SHIFT) - 1 ||
		    page == region->pages - 1) {
			page_assert(load_relaxed(&region->populated[page >> CHUNK_SHIFT]) ==
				    populated);
			populated = 0;
		}
	}
}

/* Every page is charged to the container that its word names, and to no other. */
static void check_owners(struct world *w)
{
	/* One has it all: the sums say so. */
	if (load_relaxed(&w->tree.count) == 1)
		return;
	for (struct weir_container *c = w->container; c; c = container_next(w->container, c)) {
		uint64_t resident = 0, compressed = 0, stored = 0;
		int64_t swap = load_relaxed(&c->swap);

		for (unsigned r = 0; r < w->regions; r++) {
			struct region *region = w->region[r];

			for (uint32_t page = 0; page < region->pages; page++) {
				const uint64_t x = load_relaxed(&region->word[page]);

				if (word_state(x) == PAGE_NONE || word_state(x) == PAGE_POISONED ||
				    page_owner(region, x) != c)
					continue;
				resident += word_resident(x) ? PAGE_SIZE : 0;
				if (word_kind(x) == COPY_MEMORY)
					compressed += compressed_room(&w->memory, word_location(x));
				else if (word_kind(x) == COPY_FILE)
					stored += store_key_bytes(&w->store, word_location(x));
			}
		}
		assert_int_equal(container_own_usage(c, CHARGE_RESIDENT), resident);
		assert_int_equal(container_own_usage(c, CHARGE_COMPRESSED), compressed);
		for (struct weir_container *child = c->child; child; child = child->next)
			swap -= load_relaxed(&child->swap);
		assert_int_equal(swap, stored);
	}
}

void world_check(struct world *w)
{
	struct tally sum = {0};
	int64_t usage = (int64_t)w->own;

	memset(seen_slot, 0, sizeof(seen_slot));
	memset(seen_unit, 0, sizeof(seen_unit));
	for (unsigned r = 0; r < w->regions; r++)
		check_region(w, r, &sum);
	assert_int_equal(container_usage(w->container, CHARGE_RESIDENT),
			 sum.resident << PAGE_SHIFT);
	assert_int_equal(container_usage(w->container, CHARGE_COMPRESSED), sum.compressed);
	assert_int_equal(load_relaxed(&w->memory.class_bytes), sum.compressed);
	assert_int_equal(load_relaxed(&w->memory.objects), sum.objects);
	assert_int_equal(load_relaxed(&w->store.bytes), sum.stored);
	assert_int_equal(load_relaxed(&w->container->swap), load_relaxed(&w->store.bytes));
	for (unsigned kind = 0; kind < CHARGE_KINDS; kind++)
		usage += load_relaxed(&w->container->usage[kind]);
	assert_int_equal(load_relaxed(&w->container->charged), usage + (int64_t)w->packets);
	assert_true(load_relaxed(&w->container->peak) >= usage);
	check_owners(w);
	assert_int_equal(compressed_validate(&w->memory), 0);
	if (store_is_open(&w->store) && w->store.ops == &filestore_ops)
		assert_int_equal(filestore_validate(w->store.handle), 0);
	assert_int_equal(weir_pool_validate(w->pool), 0);
	assert_int_equal((frames_used(w->pool) - w->not_ours) << PAGE_SHIFT,
			 load_relaxed(&w->memory.span_bytes));
}

/* --- the program --- */

static enum pagein_result serve(struct world *w, unsigned region, uint32_t page,
				enum fault_access access)
{
	w->faults++;
	if (!w->streams)
		memset(w->vm.stream, 0, sizeof(w->vm.stream));
	return pagein(&w->vm, w->pager, w->region[region], page, access);
}

enum pagein_result world_fault(struct world *w, uint32_t page, enum fault_access access)
{
	return serve(w, 0, page, access);
}

unsigned world_touch(struct world *w, unsigned region, uint32_t page, bool write)
{
	const char *addr = page_address(w->region[region], page);

	/* A run downwards that meets a lost page leaves its target to the next fault, once for each stream that goes there. */
	for (unsigned faults = 0; faults < STREAMS + 8; faults++) {
		enum fake_touch touch = fake_touch(addr, write);
		enum fault_access access = write ? ACCESS_WRITE : ACCESS_READ;
		enum pagein_result result;

		if (touch == TOUCH_DONE || touch == TOUCH_SIGBUS) {
			if (w->check_each)
				world_check(w);
			return faults;
		}
		if (touch == TOUCH_PROTECTED)
			access = ACCESS_WP;
		result = serve(w, region, page, access);
		assert_true(result == PAGEIN_DONE || result == PAGEIN_RETRY);
		if (fake_waiting(addr))
			fail_msg("page %u: its fault was served and nobody woke the thread", page);
	}
	fail_msg("page %u faults for ever, word %#llx", page,
		 (unsigned long long)word_at(w, region, page));
	return 0;
}

void world_read(struct world *w, unsigned region, uint32_t page)
{
	const char *addr = page_address(w->region[region], page);

	(void)world_touch(w, region, page, false);
	if (fake_poisoned(addr)) {
		if (!w->lost[region][page])
			fail_msg("page %u is poisoned, and its copy was good", page);
		return;
	}
	if (fake_is_pattern(addr))
		fail_msg("page %u is read and not there", page);
	if (memcmp(addr, content_of(w, region, page), PAGE_SIZE) != 0)
		fail_msg("page %u has contents that are not its own, word %#llx", page,
			 (unsigned long long)word_at(w, region, page));
}

void world_write(struct world *w, unsigned region, uint32_t page, const char *contents)
{
	char *addr = page_address(w->region[region], page);

	(void)world_touch(w, region, page, true);
	if (fake_poisoned(addr)) {
		assert_true(w->lost[region][page]);
		return;
	}
	/* A thread reads what it does not overwrite. */
	assert_memory_equal(addr, content_of(w, region, page), PAGE_SIZE);
	memcpy(addr, contents, PAGE_SIZE);
	memcpy(content_of(w, region, page), contents, PAGE_SIZE);
	/* Whatever copy there was has gone. */
	w->lost[region][page] = false;
}

void world_poke(struct world *w, unsigned region, uint32_t page, unsigned word, uint64_t value)
{
	static _Alignas(4096) char contents[4096];

	memcpy(contents, content_of(w, region, page), PAGE_SIZE);
	((uint64_t *)contents)[word] = value;
	world_write(w, region, page, contents);
}

int world_discard(struct world *w, unsigned region, uint32_t page, uint32_t count, bool have_uffd)
{
	int err =
		region_discard(&w->vm, have_uffd ? w->pager : NULL, w->region[region], page, count);

	if (!err) {
		memset(content_of(w, region, page), 0, (size_t)count << PAGE_SHIFT);
		memset(&w->lost[region][page], 0, count * sizeof(bool));
	}
	if (w->check_each)
		world_check(w);
	return err;
}

/* --- contents --- */

void fill_text(char *page, uint64_t seed)
{
	static const char *const words[] = {"page",	"frame",     "region", "container",
					    "resident", "cleaning",  "of",     "the",
					    "stored",	"writeback", "fault",  "channel",
					    "a",	"is",	     "pinned"};
	size_t n = 0;

	while (n < PAGE_SIZE) {
		const char *word = words[random_next(&seed) % ARRAY_SIZE(words)];

		n += (size_t)snprintf(page + n, PAGE_SIZE - n, "%s of weir, ", word);
	}
}

void fill_noise(char *page, uint64_t seed)
{
	for (size_t i = 0; i < PAGE_SIZE / 8; i++)
		((uint64_t *)page)[i] = random_next(&seed);
}

void fill_half_noise(char *page, uint64_t seed)
{
	fill_noise(page, seed);
	memset(page + PAGE_SIZE / 4 * 3, (int)(seed & 0x7f), PAGE_SIZE / 4);
}

void fill_word(char *page, uint32_t word)
{
	for (size_t i = 0; i < PAGE_SIZE / 4; i++)
		((uint32_t *)page)[i] = word;
}

void fill_as(char *page, enum contents contents, uint64_t seed)
{
	switch (contents) {
	case TEXT:
		fill_text(page, seed);
		return;
	case NOISE:
		fill_noise(page, seed);
		return;
	case HALF_NOISE:
		fill_half_noise(page, seed);
		return;
	case FILLED:
		fill_word(page, (uint32_t)seed);
		return;
	}
}

void write_pages(struct world *w, uint32_t first, uint32_t count, enum contents contents)
{
	static _Alignas(4096) char page[4096];

	for (uint32_t i = first; i < first + count; i++) {
		fill_as(page, contents, i + 1);
		world_write(w, 0, i, page);
	}
}

/* --- reclaim --- */

unsigned evict_all(struct world *w)
{
	unsigned all = 0, dropped;

	do {
		dropped = reclaim_once(&w->reclaim, w->pager);
		all += dropped;
		if (w->check_each)
			world_check(w);
	} while (dropped && resident(w));
	return all;
}

void evict(struct world *w, unsigned expected)
{
	assert_int_equal(reclaim_once(&w->reclaim, w->pager), expected);
	if (w->check_each)
		world_check(w);
}

void world_pass(struct world *w, unsigned limits)
{
	add_relaxed(&tenant_of(w->container)->evictions,
		    limits * (load_relaxed(&w->container->max) >> PAGE_SHIFT));
}

unsigned write_all(struct world *w)
{
	const uint64_t share = load_relaxed(&w->vm.memory_share),
		       written = load_relaxed(&w->vm.count.written);
	int n;

	store_relaxed(&w->vm.memory_share, 0);
	do {
		n = writeback_once(&w->reclaim);
		assert_true(n >= 0);
		if (w->check_each)
			world_check(w);
	} while (n > 0);
	store_relaxed(&w->vm.memory_share, share);
	world_pass(w, 16);
	return (unsigned)(load_relaxed(&w->vm.count.written) - written);
}

int write_until_failure(struct world *w)
{
	const uint64_t share = load_relaxed(&w->vm.memory_share);
	int n;

	store_relaxed(&w->vm.memory_share, 0);
	for (unsigned i = 0; i < 1000; i++) {
		n = writeback_once(&w->reclaim);
		if (n <= 0)
			break;
	}
	store_relaxed(&w->vm.memory_share, share);
	if (w->check_each)
		world_check(w);
	return n;
}

static unsigned turns_left;

static void turn_ends(void *data)
{
	if (--turns_left == 0)
		reclaim_stop(data);
}

/* Each look at the clock takes a tick of the thread's: it ticks, and counts, once a turn. */
void background_turns(struct world *w, unsigned turns)
{
	turns_left = turns;
	w->reclaim.tick = turn_ends;
	w->reclaim.tick_data = &w->reclaim;
	fake_time_step(50000000);
	reclaim_run(&w->reclaim);
	fake_time_step(0);
	w->reclaim.tick = NULL;
	store_relaxed(&w->reclaim.stop, false);
}
