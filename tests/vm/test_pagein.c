/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pagein: one fault, with each answer that the kernel and the stores may give. After every touch world_check compares
 * words, kernel, stores and charges.
 */
#include "world.h"
#include "store/filestore.h"

#include "base/log.h"

static struct world w;
static const struct world_options plain = {.pages = {512}, .check_each = true};

static enum page_state state_of(uint32_t page)
{
	return word_state(word_of(&w, page));
}

static struct object *object_of(uint32_t page)
{
	return compressed_object(&w.memory, word_location(word_of(&w, page)));
}

/* Pages [0, count) written and moved out. */
static void away(uint32_t count, enum contents contents)
{
	write_pages(&w, 0, count, contents);
	assert_int_equal(evict_all(&w), count);
}

/* --- what a page reads as --- */

static void test_first_touch_reads_zeroes(void **state)
{
	(void)state;
	world_open(&w, &plain);
	for (uint32_t page = 0; page < 512; page += 37) {
		touch(&w, page, page & 1);
		read_page(&w, page);
		for (size_t i = 0; i < PAGE_SIZE; i++)
			assert_int_equal(at(&w, page)[i], 0);
	}
	assert_int_equal(load_relaxed(&w.vm.count.first), 14);
	assert_int_equal(load_relaxed(&w.vm.count.compressed) + load_relaxed(&w.vm.count.stored),
			 0);
	world_close(&w);
}

/* Read back, and away again: nothing is packed, nothing is protected, the copy is the same. */
static void test_second_eviction_of_a_page_that_was_only_read_costs_nothing(void **state)
{
	uint64_t copy[16], packed, protect_calls, objects;

	(void)state;
	world_open(&w, &plain);
	away(16, TEXT);
	packed = load_relaxed(&w.vm.count.packed_in);
	protect_calls = fake_count(FAKE_PROTECT);
	objects = compressed(&w);
	assert_int_equal(packed, 16 * PAGE_SIZE);
	for (unsigned round = 0; round < 3; round++) {
		for (uint32_t page = 0; page < 16; page++) {
			copy[page] = word_copy_of(word_of(&w, page));
			read_page(&w, page);
			assert_int_equal(state_of(page), PAGE_CLEAN);
		}
		assert_int_equal(evict_all(&w), 16);
		for (uint32_t page = 0; page < 16; page++)
			assert_true(word_copy_of(word_of(&w, page)) == copy[page]);
	}
	assert_int_equal(load_relaxed(&w.vm.count.packed_in), packed);
	assert_int_equal(fake_count(FAKE_PROTECT), protect_calls);
	assert_int_equal(compressed(&w), objects);
	assert_int_equal(load_relaxed(&w.vm.count.compressed), 3 * 16);
	world_close(&w);
}

/* The copy of a page that is written is let go at once, and what was written is what comes back. */
static void test_write_fault_on_a_clean_page_frees_its_copy(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(4, TEXT);
	for (uint32_t page = 0; page < 4; page++)
		read_page(&w, page);
	for (uint32_t page = 0; page < 4; page++) {
		uint64_t soft = load_relaxed(&w.vm.count.soft),
			 objects = load_relaxed(&w.memory.objects);

		world_poke(&w, 0, page, 3, page);
		assert_int_equal(load_relaxed(&w.memory.objects), objects - 1);
		assert_int_equal(load_relaxed(&w.vm.count.soft), soft + 1);
		assert_true(word_of(&w, page) & 3ull << REWRITTEN_SHIFT);
	}
	assert_int_equal(compressed(&w), 0);
	assert_int_equal(evict_all(&w), 4);
	for (uint32_t page = 0; page < 4; page++)
		read_page(&w, page);
	world_close(&w);
}

/* 3 after a write to a clean page; one less with each load that protects it all the same, of which there is one in 64 at first,
 * and then, since none of them is written, all: so it is clean again, and for good at 0. */
static void test_rewritten_counts_down(void **state)
{
	unsigned loads = 0, guarded = 0, left = REWRITTEN_MAX;

	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	read_page(&w, 0);
	assert_int_equal(word_rewritten(word_of(&w, 0)), 0);
	world_poke(&w, 0, 0, 0, 1);
	for (; left > 0; loads++) {
		assert_int_equal(word_rewritten(word_of(&w, 0)), left);
		evict(&w, 1);
		read_page(&w, 0);
		left -= state_of(0) == PAGE_CLEAN;
		assert_int_equal(word_rewritten(word_of(&w, 0)), left);
	}
	assert_int_equal(loads, 64 * REWRITTEN_MAX);
	for (unsigned i = 0; i < 20; i++) {
		evict(&w, 1);
		read_page(&w, 0);
		assert_int_equal(state_of(0), PAGE_CLEAN);
	}
	/* A load for a write is no news: the counter stays as it is. */
	world_poke(&w, 0, 0, 0, 2);
	evict(&w, 1);
	assert_int_equal(touch(&w, 0, true), 1);
	assert_int_equal(word_rewritten(word_of(&w, 0)), REWRITTEN_MAX);
	/* Written again by none of so many, 16 of which are looked at: not believed any more, until that changes. */
	for (unsigned i = 0; i < 64 * 16; i++) {
		for (uint32_t page = 0; page < 4; page++)
			guarded += i >= 64 * 16 - 8 && word_state(word_of(&w, page)) == PAGE_CLEAN;
		evict_all(&w);
		w.region[0]->word[0] |= 3ull << REWRITTEN_SHIFT;
		read_page(&w, 0);
	}
	assert_int_equal(guarded, 8);
	world_close(&w);
}

/* As long as pages that were rewritten are, those come back writable, but for the one in 64 that asks: it takes more than that 16 of these were
 * looked at. */
static void test_rewrites_stay_expected_while_they_come(void **state)
{
	enum { LOADS = 64 * 64 };
	unsigned guarded = 0;

	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	read_page(&w, 0);
	for (unsigned i = 0; i < LOADS; i++) {
		world_poke(&w, 0, 0, 0, i);
		evict(&w, 1);
		read_page(&w, 0);
		guarded += state_of(0) != PAGE_DIRTY;
	}
	assert_int_equal(guarded, LOADS / 64);
	world_close(&w);
}

/* Where nearly all that is loaded for a read is written then, pages come back writable that never were rewritten before. */
static void test_rewrites_are_expected_where_they_rule(void **state)
{
	enum { PAGES = 256 };
	unsigned dirty = 0, soft;

	(void)state;
	world_open(&w, &plain);
	away(PAGES, TEXT);
	for (uint32_t page = 0; page < PAGES / 2; page++) {
		const uint32_t at = page * 2; /* no stream of neighbours */

		read_page(&w, at);
		world_poke(&w, 0, at, 1, page);
	}
	evict_all(&w);
	for (uint32_t page = 1; page < PAGES; page += 2) {
		read_page(&w, page);
		dirty += state_of(page) == PAGE_DIRTY;
	}
	assert_in_range(dirty, PAGES / 2 - PAGES / 16, PAGES / 2 - 1);
	/* And no more when reads alone rule again. */
	for (unsigned i = 0; i < 16; i++) {
		evict_all(&w);
		for (uint32_t page = 1; page < PAGES; page += 2)
			read_page(&w, page);
	}
	soft = (unsigned)load_relaxed(&w.vm.count.soft);
	for (uint32_t page = 1; page < PAGES; page += 2)
		assert_int_equal(state_of(page), PAGE_CLEAN);
	assert_int_equal(load_relaxed(&w.vm.count.soft), soft);
	world_close(&w);
}

/* A copy larger than half a page is not worth its memory beside the page. */
static void test_large_copies_are_not_kept(void **state)
{
	static const enum contents large[] = {NOISE, HALF_NOISE};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(large); i++) {
		world_open(&w, &plain);
		away(1, large[i]);
		assert_true(compressed(&w) > PAGE_SIZE / 2);
		read_page(&w, 0);
		assert_int_equal(state_of(0), PAGE_GUARDED);
		assert_int_equal(compressed(&w), 0);
		world_close(&w);
	}
}

/* A page of one word costs no memory at all, zeroes among them. */
static void test_same_filled_pages_are_a_word(void **state)
{
	static const uint32_t words[] = {0, 1, 0xffffffff, 0xa5a5a5a5, 0x12345678};
	char page[4096];

	(void)state;
	world_open(&w, &plain);
	for (uint32_t i = 0; i < ARRAY_SIZE(words); i++) {
		fill_word(page, words[i]);
		world_write(&w, 0, i, page);
	}
	/* Nearly: the last byte differs. */
	page[4095] ^= 1;
	world_write(&w, 0, ARRAY_SIZE(words), page);
	assert_int_equal(evict_all(&w), ARRAY_SIZE(words) + 1);
	assert_int_equal(load_relaxed(&w.vm.count.same_filled), ARRAY_SIZE(words));
	assert_int_equal(load_relaxed(&w.memory.objects), 1);
	for (uint32_t i = 0; i < ARRAY_SIZE(words); i++) {
		assert_int_equal(word_kind(word_of(&w, i)), COPY_FILLED);
		assert_int_equal(word_location(word_of(&w, i)), words[i]);
	}
	for (uint32_t i = 0; i <= ARRAY_SIZE(words); i++) {
		read_page(&w, i);
		assert_int_equal(state_of(i), PAGE_CLEAN);
	}
	world_poke(&w, 0, 1, 7, 7);
	evict_all(&w);
	assert_int_equal(word_kind(word_of(&w, 1)), COPY_MEMORY);
	for (uint32_t i = 0; i <= ARRAY_SIZE(words); i++)
		read_page(&w, i);
	world_close(&w);
}

/* What is in the file comes back from it, clean, with its copy kept there; a write frees that. */
static void test_load_from_the_file(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(8, NOISE);
	assert_int_equal(write_all(&w), 8);
	assert_int_equal(compressed(&w), 0);
	for (uint32_t page = 0; page < 8; page++)
		read_page(&w, page);
	assert_int_equal(load_relaxed(&w.vm.count.stored) + load_relaxed(&w.vm.count.ahead), 8);
	for (uint32_t page = 0; page < 8; page++) {
		assert_int_equal(state_of(page), PAGE_CLEAN);
		assert_int_equal(word_kind(word_of(&w, page)), COPY_FILE);
	}
	assert_int_equal(evict_all(&w), 8);
	assert_int_equal(load_relaxed(&w.vm.count.packed_in), 8 * PAGE_SIZE);
	world_poke(&w, 0, 0, 0, 1);
	assert_int_equal(word_kind(word_of(&w, 0)), COPY_NONE);
	world_close(&w);
}

/* --- busy, there already, gone --- */

/* Somebody else has loaded it: the thread is woken, and nothing changes. */
static void test_fault_on_a_page_that_is_there_wakes_only(void **state)
{
	uint64_t x, copies;

	(void)state;
	world_open(&w, &plain);
	away(2, TEXT);
	write_pages(&w, 1, 1, TEXT);
	read_page(&w, 0);
	for (uint32_t page = 0; page < 2; page++) {
		x = word_of(&w, page);
		copies = fake_count(FAKE_COPY);
		fake_wait(at(&w, page));
		assert_int_equal(world_fault(&w, page, ACCESS_READ), PAGEIN_DONE);
		assert_false(fake_waiting(at(&w, page)));
		fake_wait(at(&w, page));
		assert_int_equal(world_fault(&w, page, ACCESS_WRITE), PAGEIN_DONE);
		assert_false(fake_waiting(at(&w, page)));
		assert_true(word_of(&w, page) == x);
		assert_int_equal(fake_count(FAKE_COPY), copies);
	}
	assert_int_equal(load_relaxed(&w.vm.count.vanished), 0);
	world_close(&w);
}

struct meddling {
	uint32_t page;
	uint64_t word;
	bool done;
};

/* For control_ops.make_room: another handler loads the page while this one makes room. */
static enum room load_meanwhile(void *data, struct weir_container *level, uint64_t bytes)
{
	struct meddling *m = data;

	(void)level;
	(void)bytes;
	container_set_max(w.container, MIB(64));
	assert_int_equal(world_fault(&w, m->page, ACCESS_READ), PAGEIN_DONE);
	m->done = true;
	return ROOM_MADE;
}

static enum room lock_meanwhile(void *data, struct weir_container *level, uint64_t bytes)
{
	struct meddling *m = data;

	(void)level;
	(void)bytes;
	container_set_max(w.container, MIB(64));
	m->word = page_lock_wait(&w.only->word[m->page]);
	m->done = true;
	return ROOM_MADE;
}

/* The charge for a page that somebody else loaded meanwhile is given back. */
static void test_page_loaded_while_room_is_made(void **state)
{
	struct meddling m = {.page = 0};

	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	w.tree.ops = (struct control_ops){.make_room = load_meanwhile, .data = &m};
	container_set_max(w.container, 0);
	read_page(&w, 0);
	assert_true(m.done);
	assert_int_equal(resident(&w), 1);
	assert_int_equal(load_relaxed(&w.vm.count.soft), 1);
	world_close(&w);
}

/* A page that got busy meanwhile parks the fault, uncharged. */
static void test_page_locked_while_room_is_made(void **state)
{
	struct meddling m = {.page = 0};

	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	w.tree.ops = (struct control_ops){.make_room = lock_meanwhile, .data = &m};
	container_set_max(w.container, 0);
	assert_int_equal(fake_touch(at(&w, 0), false), TOUCH_MISSING);
	assert_int_equal(world_fault(&w, 0, ACCESS_READ), PAGEIN_PARKED);
	assert_true(m.done);
	assert_int_equal(resident(&w), 0);
	page_unlock(&w.vm, w.only, 0, m.word, true);
	assert_false(fake_waiting(at(&w, 0)));
	read_page(&w, 0);
	world_close(&w);
}

/* Meanwhile, for the calls of a load: a second thread faults on the same page. */
static void fault_meanwhile(void *data)
{
	struct meddling *m = data;

	fake_wait(at(&w, m->page));
	assert_int_equal(world_fault(&w, m->page, ACCESS_READ), PAGEIN_PARKED);
	m->done = true;
}

/* A page is busy all through its load, be it from memory or from the file; who comes meanwhile is woken by it. */
static void test_second_fault_during_a_load_parks_and_is_woken(void **state)
{
	struct meddling m = {.page = 0};

	(void)state;
	world_open(&w, &plain);
	away(1, NOISE);
	fake_meanwhile(FAKE_COPY, fault_meanwhile, &m);
	read_page(&w, 0);
	assert_true(m.done);
	assert_false(fake_waiting(at(&w, 0)));
	evict_all(&w);
	write_all(&w);
	m.done = false;
	fake_meanwhile(FAKE_FILE_READ, fault_meanwhile, &m);
	read_page(&w, 0);
	assert_true(m.done);
	assert_false(fake_waiting(at(&w, 0)));
	assert_int_equal(load_relaxed(&w.vm.count.parked), 2);
	world_close(&w);
}

/* --- dropped behind weir's back --- */

static void drop_behind(uint32_t page)
{
	fake_drop_behind(at(&w, page));
	memset(content_of(&w, 0, page), 0, PAGE_SIZE);
	read_page(&w, page);
	assert_int_equal(state_of(page), PAGE_DIRTY);
}

/* A raw madvise means zeroes. The copy of a clean page is no longer one, and goes. */
static void test_page_dropped_behind_weirs_back_reads_zeroes(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 3, TEXT);
	drop_behind(0);
	evict_all(&w);
	for (uint32_t page = 0; page < 3; page++)
		read_page(&w, page);
	assert_int_equal(state_of(1), PAGE_CLEAN);
	drop_behind(1);
	write_all(&w);
	drop_behind(2);
	assert_int_equal(load_relaxed(&w.vm.count.vanished), 3);
	assert_int_equal(resident(&w), 3);
	assert_int_equal(compressed(&w), 0);
	world_close(&w);
}

/* The check itself may fail: then the thread is woken, and faults again. */
static void test_recheck_that_fails_wakes(void **state)
{
	(void)state;
	world_open(&w, &plain);
	write_pages(&w, 0, 1, TEXT);
	fake_drop_behind(at(&w, 0));
	memset(content_of(&w, 0, 0), 0, PAGE_SIZE);
	fake_fail(FAKE_ZEROPAGE, 1, 0, -EAGAIN);
	assert_int_equal(touch(&w, 0, false), 2);
	read_page(&w, 0);
	world_close(&w);
}

/* --- answers of UFFDIO_COPY --- */

/* Somebody has put a page there: it is what the program sees, so it counts, and the copy goes. */
static void test_copy_eexist(void **state)
{
	static char mine[4096];

	(void)state;
	world_open(&w, &plain);
	away(2, TEXT);
	fill_text(mine, 4711);
	for (uint32_t page = 1; page < 4; page++) {
		/* 1: absent; 2, 3: never touched */
		fake_wait(at(&w, page));
		fake_install_behind(at(&w, page), mine);
		memcpy(content_of(&w, 0, page), mine, PAGE_SIZE);
		fake_wait(at(&w, page));
		assert_int_equal(world_fault(&w, page, ACCESS_READ), PAGEIN_DONE);
		assert_false(fake_waiting(at(&w, page)));
		assert_int_equal(state_of(page), PAGE_DIRTY);
		world_check(&w);
	}
	assert_int_equal(load_relaxed(&w.memory.objects), 1);
	assert_int_equal(resident(&w), 3);
	for (uint32_t page = 0; page < 4; page++)
		read_page(&w, page);
	world_close(&w);
}

struct answer {
	int err;
	enum pagein_result result;
	bool woken;
};

/* The range or the process goes away: unregistering will wake. Or the system is short of something for the moment: the
 * thread is woken to fault again. In any case nothing is as if the page had been loaded. */
static void test_copy_errors(void **state)
{
	static const struct answer answers[] = {
		{-ENOENT, PAGEIN_GONE, true},  {-ESRCH, PAGEIN_GONE, false},
		{-EINVAL, PAGEIN_GONE, false}, {-ENOMEM, PAGEIN_RETRY, true},
		{-EAGAIN, PAGEIN_RETRY, true},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(answers); i++) {
		const struct answer *a = &answers[i];
		uint64_t x, held;

		world_open(&w, &plain);
		away(2, TEXT);
		write_all(&w);
		write_pages(&w, 2, 2, TEXT);
		evict_all(&w);
		x = word_of(&w, 3);
		held = compressed(&w);
		/* 3: in memory; 1: in the file, with a neighbour; 100: never touched */
		for (unsigned k = 0; k < 3; k++) {
			const uint32_t page = (const uint32_t[]){3, 1, 100}[k];

			assert_int_equal(fake_touch(at(&w, page), false), TOUCH_MISSING);
			fake_fail(FAKE_COPY, 1, 0, a->err);
			/* A run is tried again page by page. */
			if (a->err == -ENOENT)
				fake_fail(FAKE_COPY, 2, 0, a->err);
			assert_int_equal(world_fault(&w, page, ACCESS_READ), a->result);
			assert_true(fake_waiting(at(&w, page)) == !a->woken);
			assert_int_equal(resident(&w), 0);
			assert_int_equal(compressed(&w), held);
			(void)fake_calm();
			world_check(&w);
		}
		assert_true(word_copy_of(word_of(&w, 3)) == word_copy_of(x));
		assert_int_equal(state_of(100), PAGE_NONE);
		/* And the next fault finds all as it was. */
		for (uint32_t page = 0; page < 4; page++)
			read_page(&w, page);
		read_page(&w, 100);
		world_close(&w);
	}
}

/* A page that comes back from the file sooner than memory would have let it go belongs into memory: it gives its copy
 * up, and is compressed again. One that comes back late stays the file's. Either way its neighbours leave as they came. */
static void test_pages_that_come_back_soon_leave_the_file(void **state)
{
	(void)state;
	for (unsigned late = 0; late < 2; late++) {
		world_open(&w, &plain);
		away(64, NOISE);
		write_all(&w); /* and time passes */
		write_pages(&w, 100, 400, TEXT);
		for (uint32_t page = 0; page < 64; page++)
			read_page(&w, page);
		assert_int_equal(evict_all(&w), 464);
		if (late)
			world_pass(&w, 1);
		read_page(&w, 10);
		assert_int_equal(state_of(10), late ? PAGE_CLEAN : PAGE_GUARDED);
		assert_int_equal(word_kind(word_of(&w, 10)), late ? COPY_FILE : COPY_NONE);
		assert_int_equal(state_of(11), PAGE_CLEAN);
		assert_int_equal(word_kind(word_of(&w, 11)), COPY_FILE);
		evict_all(&w);
		assert_int_equal(word_kind(word_of(&w, 10)), late ? COPY_FILE : COPY_MEMORY);
		read_page(&w, 10);
		world_close(&w);
	}
}

/* The file's neighbours come along, until hardly a fault continues a stream. */
static void test_random_faults_bring_no_neighbours(void **state)
{
	enum { PAGES = 4096 };
	uint32_t page = 0;

	(void)state;
	world_open(&w, &(struct world_options){.pages = {PAGES}, .streams = true});
	away(PAGES, HALF_NOISE);
	write_all(&w);
	read_page(&w, 0);
	assert_true(resident(&w) > 1);
	for (unsigned i = 0; i < 1024; i++) {
		evict_all(&w);
		page = (page * 5 + 1231) % PAGES; /* in no order */
		touch(&w, page, false);
	}
	assert_int_equal(resident(&w), 1);
	/* And again when they do. */
	for (unsigned pass = 0; pass < 8; pass++) {
		evict_all(&w);
		for (page = 0; page < PAGES; page++)
			touch(&w, page, false);
	}
	evict_all(&w);
	touch(&w, 77, false);
	assert_true(resident(&w) > 1);
	world_close(&w);
}

/* The kernel copies into one mapping at a time: a run over a border comes in page by page, and a neighbour that is not
 * mapped stays where it was. */
static void test_copy_over_a_border(void **state)
{
	(void)state;
	for (unsigned gone = 0; gone < 2; gone++) {
		world_open(&w, &plain);
		away(2, TEXT);
		write_all(&w);
		assert_int_equal(fake_touch(at(&w, 0), false), TOUCH_MISSING);
		fake_fail(FAKE_COPY, 1, 0, -ENOENT);
		if (gone)
			fake_fail(FAKE_COPY, 3, 0, -ENOENT);
		assert_int_equal(world_fault(&w, 0, ACCESS_READ), PAGEIN_DONE);
		assert_false(fake_waiting(at(&w, 0)));
		assert_int_equal(resident(&w), gone ? 1 : 2);
		assert_int_equal(fake_calm(), 0);
		world_check(&w);
		read_page(&w, 1);
		assert_int_equal(resident(&w), 2);
		world_close(&w);
	}
}

/* --- what cannot be read back --- */

static void assert_poisoned(uint32_t page)
{
	w.lost[0][page] = true;
	read_page(&w, page);
	assert_true(word_of(&w, page) == PAGE_POISONED);
	assert_true(fake_poisoned(at(&w, page)));
	assert_false(fake_waiting(at(&w, page)));
}

/* A flipped bit anywhere in the object, header or packed bytes: refused, and the reader is told. */
static void test_checksum_mismatch_poisons(void **state)
{
	uint32_t page = 0;

	(void)state;
	world_open(&w, &plain);
	w.check_each = false;
	away(300, TEXT);
	for (size_t byte = 0; byte < sizeof(struct object) + 200; byte++) {
		((unsigned char *)object_of(page))[byte] ^= (unsigned char)(1u << (byte % 8));
		assert_poisoned(page);
		page++;
	}
	world_check(&w);
	assert_int_equal(load_relaxed(&w.vm.count.poisoned), page);
	assert_true(world_said("cannot be read back (EBADMSG)"));
	for (; page < 300; page++)
		read_page(&w, page);
	assert_int_equal(resident(&w), 300 - load_relaxed(&w.vm.count.poisoned));
	/* Discarding is the way back. */
	assert_int_equal(world_discard(&w, 0, 0, 300, true), 0);
	for (page = 0; page < 300; page++)
		read_page(&w, page);
	world_close(&w);
}

/* A good object of another page is as wrong as a broken one. */
static void test_object_of_another_page_poisons(void **state)
{
	uint64_t x, y;

	(void)state;
	world_open(&w, &plain);
	away(2, TEXT);
	x = word_of(&w, 0);
	y = word_of(&w, 1);
	store_relaxed(&w.only->word[0], y);
	store_relaxed(&w.only->word[1], x);
	w.lost[0][0] = w.lost[0][1] = true;
	assert_poisoned(0);
	assert_poisoned(1);
	assert_int_equal(compressed(&w), 0);
	world_close(&w);
}

static void store_in_file(uint32_t count)
{
	away(count, NOISE);
	assert_int_equal(write_all(&w), count);
}

/* The file's slot of a page in the fake. */
static unsigned char *slot_of(uint32_t page)
{
	size_t bytes;

	return fake_file(&bytes) +
	       (size_t)(word_location(word_of(&w, page)) >> FILE_UNITS_SHIFT) * w.store.unit;
}

static void test_flipped_bit_in_the_file_poisons(void **state)
{
	(void)state;
	world_open(&w, &plain);
	store_in_file(4);
	slot_of(0)[100] ^= 4;
	assert_poisoned(0);
	assert_int_equal(resident(&w), 0);
	/* The neighbours are as good as before. */
	for (uint32_t page = 1; page < 4; page++)
		read_page(&w, page);
	world_close(&w);
}

/* A read that ends early and says nothing is found by the checksum; one that says so by its errno. */
static void test_short_and_failed_reads_poison(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		world_open(&w, &plain);
		store_in_file(1);
		fake_fail(FAKE_FILE_READ, 1, i ? 1024 : 0, i == 1 ? 0 : -EIO);
		assert_poisoned(0);
		assert_int_equal(load_relaxed(&w.store.bytes), 0);
		assert_true(world_said(i == 1 ? "(EBADMSG)" : "(EIO)"));
		world_close(&w);
	}
}

/* Only the page that faulted is condemned: a neighbour may be readable later. */
static void test_unreadable_neighbour_is_left_alone(void **state)
{
	(void)state;
	world_open(&w, &plain);
	store_in_file(8);
	slot_of(3)[100] ^= 4;
	w.lost[0][3] = true;
	/* Reads around: pages 0 to 7, as far as they can be read. */
	read_page(&w, 0);
	assert_int_equal(state_of(2), PAGE_CLEAN);
	for (uint32_t page = 3; page < 8; page++)
		assert_int_equal(state_of(page), PAGE_ABSENT);
	assert_int_equal(resident(&w), 3);
	assert_int_equal(load_relaxed(&w.vm.count.poisoned), 0);
	/* The disk has a good day. */
	slot_of(3)[100] ^= 4;
	w.lost[0][3] = false;
	for (uint32_t page = 0; page < 8; page++)
		read_page(&w, page);
	world_close(&w);
}

/* A reader that goes downwards, and the lower neighbour cannot be read: the page itself comes all the same. */
static void test_run_downwards_that_breaks_before_its_target(void **state)
{
	(void)state;
	world_open(&w, &plain);
	store_in_file(60);
	w.streams = true;
	/* The first fault reads 50 to 57; the next ones go down. */
	read_page(&w, 50);
	slot_of(48)[100] ^= 4;
	w.lost[0][48] = true;
	read_page(&w, 49);
	assert_int_equal(state_of(48), PAGE_ABSENT);
	assert_int_equal(load_relaxed(&w.vm.count.poisoned), 0);
	assert_poisoned(48);
	read_page(&w, 47);
	world_close(&w);
}

static void poison_without_kernel(void *arg)
{
	(void)arg;
	w.vm.can_poison = false;
	touch(&w, 0, false);
}

/* Where the kernel has no UFFDIO_POISON the process ends, with the reason: it must not go on with wrong bytes. */
static void test_without_uffdio_poison_the_process_ends(void **state)
{
	struct child child;

	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	object_of(0)->packed[0] ^= 1;
	w.lost[0][0] = true;
	w.check_each = false;
	log_set_sink(NULL);
	run_child(&child, poison_without_kernel, NULL);
	assert_panicked(&child);
	assert_says(&child, "UFFDIO_POISON");
	world_discard(&w, 0, 0, 1, true);
	world_close(&w);
}

/* A thread that faulted before the page was poisoned, and is heard after: it must be woken to get its SIGBUS. */
static void test_late_fault_on_a_poisoned_page_is_woken(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	object_of(0)->packed[0] ^= 1;
	assert_poisoned(0);
	fake_wait(at(&w, 0));
	assert_int_equal(world_fault(&w, 0, ACCESS_READ), PAGEIN_DONE);
	assert_false(fake_waiting(at(&w, 0)));
	assert_true(word_of(&w, 0) == PAGE_POISONED);
	world_close(&w);
}

/* --- write faults --- */

/* Releasing the protection fails: the thread must be woken all the same, and faults again. */
static void test_failed_release_of_protection_wakes(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	read_page(&w, 0);
	fake_fail(FAKE_UNPROTECT, 1, 0, -EAGAIN);
	assert_int_equal(touch(&w, 0, true), 2);
	world_poke(&w, 0, 0, 0, 1);
	evict_all(&w);
	read_page(&w, 0);
	world_close(&w);
}

/* The page was dropped between the write fault and its handler: it is loaded, for writing. */
static void test_write_fault_on_a_page_that_has_left(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	read_page(&w, 0);
	assert_int_equal(fake_touch(at(&w, 0), true), TOUCH_PROTECTED);
	evict(&w, 1);
	assert_int_equal(world_fault(&w, 0, ACCESS_WP), PAGEIN_DONE);
	assert_false(fake_waiting(at(&w, 0)));
	assert_int_equal(touch(&w, 0, true), 0);
	assert_int_equal(state_of(0), PAGE_DIRTY);
	world_close(&w);
}

/* --- charges --- */

/* At the limit a fault makes room first, and the limit holds but for the copies that a job makes. */
static void test_fault_at_the_limit_makes_room(void **state)
{
	const struct world_options tight = {.max = 64, .pages = {512}};

	(void)state;
	world_open(&w, &tight);
	write_pages(&w, 0, 40, TEXT);
	write_pages(&w, 40, 472, FILLED);
	for (uint32_t page = 0; page < 512; page++)
		read_page(&w, page);
	world_check(&w);
	assert_int_equal(load_relaxed(&w.container->count[COUNT_OVER_MAX]), 0);
	assert_true(load_relaxed(&w.container->peak) <= (64 + 8) * (int64_t)PAGE_SIZE);
	assert_true(load_relaxed(&tenant_of(w.container)->evictions) >= 512 - 64);
	world_close(&w);
}

/* With nothing to be had it goes over, counted: over the limit is better than lost. */
static void test_fault_goes_over_the_limit_for_want_of_room(void **state)
{
	const struct world_options tight = {.max = 64, .pages = {512}, .check_each = true};

	(void)state;
	world_open(&w, &tight);
	add_relaxed(&w.vm.hold, 1);
	write_pages(&w, 0, 100, TEXT);
	assert_int_equal(resident(&w), 100);
	assert_int_equal(load_relaxed(&w.container->count[COUNT_OVER_MAX]), 36);
	assert_int_equal(fake_count(FAKE_DROP), 0);
	sub_relaxed(&w.vm.hold, 1);
	world_close(&w);
}

/* --- credits --- */

/* What was away for a limit's worth of evictions or more comes back slowly. */
static void let_time_pass(void)
{
	uint64_t limit_pages = load_relaxed(&w.container->max) >> PAGE_SHIFT;

	add_relaxed(&tenant_of(w.container)->evictions, limit_pages + limit_pages / 64);
}

static void test_grade_and_credit_of_quick_and_slow_returns(void **state)
{
	static const unsigned credits[] = {1, 2, 4, 8, 15, 15};
	static const unsigned grades[] = {1, 2, 3, 4, 5, 5};
	static const unsigned slow_credits[] = {4, 1, 0, 0}, slow_grades[] = {3, 1, 0, 0};

	(void)state;
	world_open(&w, &plain);
	store_relaxed(&tenant_of(w.container)->credit.on, true);
	away(1, TEXT);
	for (unsigned i = 0; i < ARRAY_SIZE(credits); i++) {
		read_page(&w, 0);
		assert_int_equal(word_grade(word_of(&w, 0)), grades[i]);
		assert_int_equal(word_credit(word_of(&w, 0)), credits[i]);
		assert_int_equal(load_relaxed(&w.vm.count.refaults), i + 1);
		assert_int_equal(evict_all(&w), 1);
		assert_int_equal(word_grade(word_of(&w, 0)), grades[i]);
		assert_int_equal(word_credit(word_of(&w, 0)), 0);
	}
	/* Quartered with each slow one, down to none. */
	for (unsigned i = 0; i < ARRAY_SIZE(slow_grades); i++) {
		let_time_pass();
		read_page(&w, 0);
		assert_int_equal(word_grade(word_of(&w, 0)), slow_grades[i]);
		assert_int_equal(word_credit(word_of(&w, 0)), slow_credits[i]);
		assert_int_equal(evict_all(&w), 1);
	}
	assert_int_equal(load_relaxed(&w.vm.count.refaults), ARRAY_SIZE(credits));
	world_close(&w);
}

/* While refaults are not concentrated pages get grades and no credit. A write keeps both. */
static void test_no_credit_while_credits_are_off(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	read_page(&w, 0);
	assert_int_equal(word_grade(word_of(&w, 0)), 1);
	assert_int_equal(word_credit(word_of(&w, 0)), 0);
	evict_all(&w);
	store_relaxed(&tenant_of(w.container)->credit.on, true);
	read_page(&w, 0);
	world_poke(&w, 0, 0, 0, 1);
	assert_int_equal(word_grade(word_of(&w, 0)), 2);
	assert_int_equal(word_credit(word_of(&w, 0)), 2);
	world_close(&w);
}

/* After 4096 loads: on where pages that came back quickly do so again, half as often again as others do. */
static void test_credits_are_switched_by_how_refaults_are_spread(void **state)
{
	struct credit_control *c = &tenant_of(w.container)->credit;
	static const struct {
		uint32_t quick, graded, graded_quick;
		bool on;
	} windows[] = {
		{2000, 1000, 900, true},
		{2000, 1000, 300, false},
		{2000, 1000, 900, true},
		/* Nearly all are quick, and nearly all graded; then as many of both sorts. */
		{3500, 3000, 2900, true},
		{3500, 3000, 2560, false},
		/* Too few of either to tell. */
		{2000, 10, 10, false},
		{4000, 4060, 4000, false},
		/* What a race leaves behind. */
		{10, 5000, 5000, false},
	};

	(void)state;
	world_open(&w, &plain);
	away(1, TEXT);
	for (unsigned i = 0; i < ARRAY_SIZE(windows); i++) {
		store_relaxed(&c->loads, 4095);
		store_relaxed(&c->quick, windows[i].quick);
		store_relaxed(&c->graded, windows[i].graded);
		store_relaxed(&c->graded_quick, windows[i].graded_quick);
		read_page(&w, 0);
		assert_true(load_relaxed(&c->on) == windows[i].on);
		assert_int_equal(load_relaxed(&c->loads), 0);
		assert_int_equal(load_relaxed(&c->graded_quick), 0);
		evict_all(&w);
	}
	world_close(&w);
}

/* --- reading is handed over before a load that may block --- */

static void count_blocking(void *data)
{
	/* Before the read, not after. */
	assert_int_equal(fake_count(FAKE_FILE_READ), *(unsigned *)data);
	++*(unsigned *)data;
}

static void test_before_block_is_called_for_file_loads_only(void **state)
{
	unsigned blocked = 0;

	(void)state;
	world_open(&w, &plain);
	w.pager->before_block = count_blocking;
	w.pager->data = &blocked;
	away(2, NOISE);
	read_page(&w, 0);
	world_poke(&w, 0, 1, 0, 1);
	evict_all(&w);
	assert_int_equal(blocked, 0);
	write_all(&w);
	read_page(&w, 0);
	assert_int_equal(blocked, 1);
	w.pager->before_block = NULL;
	world_close(&w);
}

/* --- everything comes in --- */

/* Pages in memory, as a word, in the file, and those never touched; over the limit, and clean where they can be. */
static void test_bring_in_loads_every_absent_page(void **state)
{
	const struct world_options two = {.max = 64, .pages = {2048, 600}};

	(void)state;
	world_open(&w, &two);
	write_pages(&w, 0, 40, NOISE);
	evict_all(&w);
	write_all(&w);
	write_pages(&w, 1000, 40, TEXT);
	write_pages(&w, 1040, 20, FILLED);
	world_poke(&w, 1, 599, 0, 1);
	evict_all(&w);
	assert_int_equal(vm_bring_in(&w.vm, w.pager), 0);
	world_check(&w);
	assert_int_equal(resident(&w), 101);
	assert_int_equal(load_relaxed(&w.vm.count.fork_loaded), 101);
	for (uint32_t page = 0; page < 2048; page++) {
		bool there = page < 40 || (page >= 1000 && page < 1060);

		assert_true(word_resident(word_of(&w, page)) == there);
	}
	assert_true(word_resident(word_at(&w, 1, 599)));
	assert_int_equal(state_of(1000), PAGE_CLEAN);
	/* Again: nothing left to do. */
	assert_int_equal(vm_bring_in(&w.vm, w.pager), 0);
	assert_int_equal(load_relaxed(&w.vm.count.fork_loaded), 101);
	world_close(&w);
}

/* A page that is lost is told, and the others come all the same; also when it was lost before. */
static void test_bring_in_tells_of_lost_pages(void **state)
{
	(void)state;
	world_open(&w, &plain);
	away(4, TEXT);
	object_of(1)->packed[0] ^= 1;
	w.lost[0][1] = true;
	assert_int_equal(vm_bring_in(&w.vm, w.pager), -EIO);
	assert_int_equal(state_of(1), PAGE_POISONED);
	assert_int_equal(resident(&w), 3);
	assert_int_equal(vm_bring_in(&w.vm, w.pager), -EIO);
	world_close(&w);
}

/* A child would read zeroes where a page stayed out: a failed load is tried again, or at least told. */
static void test_bring_in_never_leaves_a_page_out_in_silence(void **state)
{
	static const int errors[] = {-ENOMEM, -EAGAIN};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
		int err;

		world_open(&w, &plain);
		away(4, TEXT);
		fake_fail(FAKE_COPY, 2, 0, errors[i]);
		err = vm_bring_in(&w.vm, w.pager);
		world_check(&w);
		if (!err)
			assert_int_equal(resident(&w), 4);
		world_close(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_touch_reads_zeroes),
		cmocka_unit_test(test_second_eviction_of_a_page_that_was_only_read_costs_nothing),
		cmocka_unit_test(test_write_fault_on_a_clean_page_frees_its_copy),
		cmocka_unit_test(test_rewritten_counts_down),
		cmocka_unit_test(test_rewrites_stay_expected_while_they_come),
		cmocka_unit_test(test_rewrites_are_expected_where_they_rule),
		cmocka_unit_test(test_large_copies_are_not_kept),
		cmocka_unit_test(test_same_filled_pages_are_a_word),
		cmocka_unit_test(test_load_from_the_file),
		cmocka_unit_test(test_fault_on_a_page_that_is_there_wakes_only),
		cmocka_unit_test(test_page_loaded_while_room_is_made),
		cmocka_unit_test(test_page_locked_while_room_is_made),
		cmocka_unit_test(test_second_fault_during_a_load_parks_and_is_woken),
		cmocka_unit_test(test_page_dropped_behind_weirs_back_reads_zeroes),
		cmocka_unit_test(test_recheck_that_fails_wakes),
		cmocka_unit_test(test_copy_eexist),
		cmocka_unit_test(test_copy_errors),
		cmocka_unit_test(test_pages_that_come_back_soon_leave_the_file),
		cmocka_unit_test(test_random_faults_bring_no_neighbours),
		cmocka_unit_test(test_copy_over_a_border),
		cmocka_unit_test(test_checksum_mismatch_poisons),
		cmocka_unit_test(test_object_of_another_page_poisons),
		cmocka_unit_test(test_flipped_bit_in_the_file_poisons),
		cmocka_unit_test(test_short_and_failed_reads_poison),
		cmocka_unit_test(test_unreadable_neighbour_is_left_alone),
		cmocka_unit_test(test_run_downwards_that_breaks_before_its_target),
		cmocka_unit_test(test_without_uffdio_poison_the_process_ends),
		cmocka_unit_test(test_late_fault_on_a_poisoned_page_is_woken),
		cmocka_unit_test(test_failed_release_of_protection_wakes),
		cmocka_unit_test(test_write_fault_on_a_page_that_has_left),
		cmocka_unit_test(test_fault_at_the_limit_makes_room),
		cmocka_unit_test(test_fault_goes_over_the_limit_for_want_of_room),
		cmocka_unit_test(test_grade_and_credit_of_quick_and_slow_returns),
		cmocka_unit_test(test_no_credit_while_credits_are_off),
		cmocka_unit_test(test_credits_are_switched_by_how_refaults_are_spread),
		cmocka_unit_test(test_before_block_is_called_for_file_loads_only),
		cmocka_unit_test(test_bring_in_loads_every_absent_page),
		cmocka_unit_test(test_bring_in_tells_of_lost_pages),
		cmocka_unit_test(test_bring_in_never_leaves_a_page_out_in_silence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
