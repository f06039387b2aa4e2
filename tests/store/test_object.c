/* SPDX-License-Identifier: BSD-2-Clause */
/* Objects: every page comes back as it was. */
#include "objects.h"
#include "../allocations.h"

#include "base/atomic.h"

/* --- same-filled pages --- */

static void test_same_filled_is_one_word_repeated(void **state)
{
	static const uint32_t words[] = {0, 1, 0xffffffff, 0x80000000, 0x01010101, 0x12345678};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		uint32_t word = ~words[i];

		page_fill(src, words[i]);
		for (size_t w = 0; w < PAGE_SIZE / 4; w++)
			assert_int_equal(((uint32_t *)src)[w], words[i]);
		assert_true(page_same_filled(src, &word));
		assert_int_equal(word, words[i]);
	}
}

/* One word that differs in one bit, wherever it stands, is enough: at the first and the last, too. */
static void test_one_bit_makes_a_page_other(void **state)
{
	uint32_t *words = (uint32_t *)src, word;

	(void)state;
	for (unsigned fill = 0; fill < 3; fill++) {
		const uint32_t value = fill == 0 ? 0 : fill == 1 ? 0xffffffff : 0xabcdef01;

		page_fill(src, value);
		for (size_t i = 0; i < PAGE_SIZE / 4; i++) {
			words[i] ^= 1u << ((i * 7 + fill) % 32);
			assert_false(page_same_filled(src, &word));
			words[i] = value;
		}
		assert_true(page_same_filled(src, &word));
	}
	/* Two words by turns are not one. */
	for (size_t i = 0; i < PAGE_SIZE / 4; i++)
		words[i] = i % 2 ? 5 : 6;
	assert_false(page_same_filled(src, &word));
	/* The last word alone, the first alone. */
	page_fill(src, 9);
	words[PAGE_SIZE / 4 - 1] = 8;
	assert_false(page_same_filled(src, &word));
	page_fill(src, 9);
	words[0] = 8;
	assert_false(page_same_filled(src, &word));
}

/* --- round trip --- */

static void test_every_page_comes_back(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		enum page_kind kind = i % PAGE_KINDS;
		page_no_t page = random_next(&seed) >> 16; /* 48 bits */
		struct object *obj;
		size_t size;

		page_make(src, kind, random_next(&seed));
		obj = packed(page, &size);
		assert_int_equal(size, object_size(obj));
		assert_in_range(size, sizeof(*obj) + 1, OBJECT_MAX);
		assert_int_equal(obj->page, page);
		memset(dst, 0xee, PAGE_SIZE);
		assert_int_equal(object_unpack(packer, obj, size, page, dst), 0);
		assert_memory_equal(dst, src, PAGE_SIZE);
		/* More room than the object takes is as well. */
		obj = copy_of(packer->out, OBJECT_MAX);
		memset(dst, 0xee, PAGE_SIZE);
		assert_int_equal(object_unpack(packer, obj, OBJECT_MAX, page, dst), 0);
		assert_memory_equal(dst, src, PAGE_SIZE);
	}
}

/* Text shrinks, what does not compress is kept whole, and never anything between the two lines. */
static void test_sizes_are_what_pages_are_worth(void **state)
{
	uint64_t seed = test_seed();
	unsigned whole = 0, mixed = 0;

	(void)state;
	for (unsigned i = 0; i < 400; i++) {
		size_t size;

		page_make(src, KIND_ZERO, 0);
		assert_true(object_pack(packer, level, PAGE_NO, src) < 64);
		page_make(src, KIND_TEXT, random_next(&seed));
		assert_true(object_pack(packer, level, PAGE_NO, src) < PAGE_SIZE * 3 / 4);
		page_make(src, KIND_RANDOM, random_next(&seed));
		assert_int_equal(object_pack(packer, level, PAGE_NO, src), OBJECT_MAX);
		page_make(src, KIND_MIXED, random_next(&seed));
		size = object_pack(packer, level, PAGE_NO, src) - sizeof(struct object);
		assert_true(size == PAGE_SIZE || size <= PAGE_SIZE * 15 / 16);
		whole += size == PAGE_SIZE;
		mixed++;
	}
	assert_in_range(whole, 1, mixed - 1);
}

/* The same page gives the same object: nothing of the one before it is left in the packer. */
static void test_packing_keeps_nothing(void **state)
{
	static char first[OBJECT_MAX];
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned kind = 0; kind < PAGE_KINDS; kind++) {
		uint64_t s = random_next(&seed);
		size_t size, again;

		page_make(src, kind, s);
		size = object_pack(packer, level, PAGE_NO, src);
		memcpy(first, packer->out, size);
		for (unsigned other = 0; other < PAGE_KINDS; other++) {
			page_make(src, other, random_next(&seed));
			(void)object_pack(packer, level, PAGE_NO + 1, src);
		}
		/* Nor what a fork may have caught half done. */
		random_bytes(&seed, packer->zstd.compress, sizeof(packer->zstd.compress));
		packer_after_fork(packer);
		page_make(src, kind, s);
		again = object_pack(packer, level, PAGE_NO, src);
		assert_int_equal(size, again);
		assert_memory_equal(first, packer->out, size);
	}
}

/* An object names its codec: those of all of them are read, whatever is packed with now. */
static void test_all_codecs_are_read_side_by_side(void **state)
{
	static char kept[ZSTD_LEVEL_LAST + 1][OBJECT_MAX + 8];
	const unsigned codec_of[] = {CODEC_LZ4, CODEC_ZSTD};
	size_t size[ZSTD_LEVEL_LAST + 1];

	(void)state;
	page_make(src, KIND_TEXT, 9);
	for (unsigned l = 0; l <= ZSTD_LEVEL_LAST; l++) {
		size[l] = object_pack(packer, l, PAGE_NO, src);
		memcpy(kept[l], packer->out, size[l]);
	}
	for (unsigned l = 0; l <= ZSTD_LEVEL_LAST; l++) {
		const struct object *obj = copy_of(kept[l], size[l]);

		assert_int_equal(obj->codec, codec_of[l > 0]);
		memset(dst, 0xee, PAGE_SIZE);
		assert_int_equal(object_unpack(packer, obj, size[l], PAGE_NO, dst), 0);
		assert_memory_equal(dst, src, PAGE_SIZE);
		assert_true(!l || size[l] < size[0]);
	}
}

static void test_codecs_have_names(void **state)
{
	static const struct {
		const char *text;
		int err;
		unsigned level;
	} names[] = {
		{NULL, 0, 0},
		{"lz4", 0, 0},
		{"zstd", 0, ZSTD_LEVEL_DEFAULT},
		{"zstd:1", 0, 1},
		{"zstd:10", 0, ZSTD_LEVEL_LAST},
		{"zstd:11", -ERANGE, 0},
		{"zstd:0", -ERANGE, 0},
		{"zstd:-1", -ERANGE, 0},
		{"zstd:", -ERANGE, 0},
		{"zstd:3x", -ERANGE, 0},
		{"zstd: 3", -ERANGE, 0},
		{"zstd:4294967297", -ERANGE, 0},
		{"zstd3", -EINVAL, 0},
		{"zst", -EINVAL, 0},
		{"ZSTD", -EINVAL, 0},
		{"lz4:1", -EINVAL, 0},
		{"", -EINVAL, 0},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		unsigned found = 77;

		assert_int_equal(object_codec_parse(names[i].text, &found), names[i].err);
		assert_int_equal(found, names[i].level);
	}
}

/* --- threads --- */

struct crowd {
	uint64_t seed;
	_Atomic unsigned wrong;
};

static void pack_and_unpack(unsigned index, void *arg)
{
	struct crowd *c = arg;
	uint64_t seed = c->seed + index;
	struct packer *mine = (struct packer *)guarded(sizeof(*mine));
	char *page = malloc(PAGE_SIZE), *back = malloc(PAGE_SIZE);
	char *kept = aligned_alloc(8, ALIGN_UP((size_t)OBJECT_MAX, 8u));

	for (unsigned i = 0; i < 400; i++) {
		size_t size;

		page_make(page, KIND_TEXT + i % 3, random_next(&seed));
		size = object_pack(mine, level, PAGE_NO + i, page);
		memcpy(kept, mine->out, size);
		if (object_unpack(mine, (struct object *)kept, size, PAGE_NO + i, back) ||
		    memcmp(page, back, PAGE_SIZE) != 0)
			add_relaxed(&c->wrong, 1);
	}
	free(page);
	free(back);
	free(kept);
}

/* Each thread has a packer of its own, and gets its own pages back. */
static void test_threads_do_not_mix_pages(void **state)
{
	struct crowd c = {.seed = test_seed()};

	(void)state;
	run_threads(4, pack_and_unpack, &c);
	assert_int_equal(load_relaxed(&c.wrong), 0);
}

/* --- pages that change, and malloc --- */

struct changing {
	char *page;
	_Atomic bool stop;
	unsigned wrong;
};

/* As a program does it, of which weir knows nothing. */
NO_TSAN static void change_until_stopped(struct changing *c)
{
	volatile char *page = c->page;
	unsigned at = 0;

	while (!load_relaxed(&c->stop)) {
		at = (at * 5 + 12345) % PAGE_SIZE;
		page[at] = (char)(page[at] ^ 0x55);
	}
}

static void write_or_pack(unsigned index, void *arg)
{
	struct changing *c = arg;

	if (index == 1) {
		change_until_stopped(c);
		return;
	}
	for (unsigned i = 0; i < 3000; i++) {
		uint32_t word;
		size_t size = object_pack(packer, level, PAGE_NO, c->page);

		(void)page_same_filled(c->page, &word);
		if (size > OBJECT_MAX || size != object_size((struct object *)packer->out))
			c->wrong++;
	}
	store_relaxed(&c->stop, true);
}

/* A page that is written meanwhile may give nonsense, but stays inside the packer. */
static void test_packing_a_page_that_changes(void **state)
{
	struct changing c = {.page = src};

	(void)state;
	page_make(src, KIND_MIXED, 4);
	run_threads(2, write_or_pack, &c);
	assert_int_equal(c.wrong, 0);
}

/* No malloc on these ways: under weir run it is the program's, and lives in a region. */
static void test_objects_call_no_malloc(void **state)
{
	unsigned long before;

	(void)state;
	if (!ALLOCATIONS_COUNTED)
		skip_because("a sanitizer has taken malloc");
	before = load_relaxed(&allocations);
	free(strdup("counted"));
	assert_true(load_relaxed(&allocations) > before);
	before = load_relaxed(&allocations);
	for (unsigned kind = 0; kind < PAGE_KINDS; kind++) {
		size_t size;
		struct object *obj;

		page_make(src, kind, kind);
		obj = packed(PAGE_NO, &size);
		(void)!object_unpack(packer, obj, size, PAGE_NO, dst);
	}
	assert_int_equal(load_relaxed(&allocations) - before, 0);
}

int main(void)
{
	int failed = 0;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_filled_is_one_word_repeated),
		cmocka_unit_test(test_one_bit_makes_a_page_other),
		cmocka_unit_test(test_every_page_comes_back),
		cmocka_unit_test(test_sizes_are_what_pages_are_worth),
		cmocka_unit_test(test_packing_keeps_nothing),
		cmocka_unit_test(test_all_codecs_are_read_side_by_side),
		cmocka_unit_test(test_codecs_have_names),
		cmocka_unit_test(test_threads_do_not_mix_pages),
		cmocka_unit_test(test_packing_a_page_that_changes),
		cmocka_unit_test(test_objects_call_no_malloc),
	};

	for (level = 0; level < ARRAY_SIZE(level_names); level++)
		failed +=
			cmocka_run_group_tests_name(level_names[level], tests, object_setup, NULL);
	return failed;
}
