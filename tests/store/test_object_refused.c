/* SPDX-License-Identifier: BSD-2-Clause */
/* Objects: nothing else is ever taken for a page: not one flipped bit, not another page, not a part. */
#include "objects.h"

#include <lz4.h>
#include <xxhash.h>
#include <zstd.h>

/* --- what is refused --- */

/* Each single bit of header and packed bytes, before the decompressor sees it. */
static void test_every_flipped_bit_is_refused(void **state)
{
	static const enum page_kind kinds[] = {KIND_TEXT, KIND_SPARSE, KIND_RANDOM};
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct object *obj;
		size_t size;

		page_make(src, kinds[k], random_next(&seed));
		obj = packed(PAGE_NO, &size);
		for (size_t bit = 0; bit < size * 8; bit++) {
			unsigned char *byte = (unsigned char *)obj + bit / 8;

			*byte ^= (unsigned char)(1u << bit % 8);
			refused_untouched(obj, size, PAGE_NO);
			*byte ^= (unsigned char)(1u << bit % 8);
		}
		assert_int_equal(object_unpack(packer, obj, size, PAGE_NO, dst), 0);
		/* With room behind it, a longer length could be read: refused all the same. */
		obj = copy_of(packer->out, OBJECT_MAX);
		for (unsigned bit = 0; bit < 13; bit++) {
			obj->bytes ^= 1u << bit;
			refused_untouched(obj, OBJECT_MAX, PAGE_NO);
			obj->bytes ^= 1u << bit;
		}
	}
}

/* Bursts, bytes that moved, zeroes over a part or all: what disks and stray writes do. */
static void test_random_damage_is_refused(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		struct object *obj;
		size_t size, from, n;

		page_make(src, KIND_TEXT + i % (PAGE_KINDS - KIND_TEXT), random_next(&seed));
		obj = packed(PAGE_NO, &size);
		from = random_below(&seed, (unsigned)size);
		n = 1 + random_below(&seed, (unsigned)(size - from));
		switch (random_below(&seed, 3)) {
		case 0:
			memset((char *)obj + from, 0, n);
			break;
		case 1:
			random_bytes(&seed, (char *)obj + from, n);
			break;
		default:
			memmove((char *)obj + from, (char *)obj + from / 2, n);
			break;
		}
		if (memcmp(obj, packer->out, size) != 0)
			refused_untouched(obj, size, PAGE_NO);
	}
	/* All zeroes: a slot that was never written. */
	memset(packer->out, 0, OBJECT_MAX);
	refused_untouched(copy_of(packer->out, OBJECT_MAX), OBJECT_MAX, PAGE_NO);
	refused_untouched(copy_of(packer->out, OBJECT_MAX), OBJECT_MAX, 0);
}

/* An object is one page's: right for its number and for no other. */
static void test_another_pages_object_is_refused(void **state)
{
	struct object *obj;
	size_t size;

	(void)state;
	for (unsigned kind = KIND_TEXT; kind < PAGE_KINDS; kind++) {
		page_make(src, kind, 5);
		obj = packed(PAGE_NO, &size);
		for (unsigned bit = 0; bit < 52; bit++)
			refused_untouched(obj, size, PAGE_NO ^ 1ull << bit);
		refused_untouched(obj, size, 0);
		refused_untouched(obj, size, PAGE_NO + 1);
		/* Nor does it help to write the other number over it: the checksum is the number's. */
		for (unsigned bit = 0; bit < 48; bit++) {
			obj->page = PAGE_NO ^ 1ull << bit;
			refused_untouched(obj, size, obj->page);
		}
	}
}

/* Cut short anywhere: refused without reading what is not there. */
static void test_short_room_is_refused_unread(void **state)
{
	size_t size;

	(void)state;
	for (unsigned kind = KIND_TEXT; kind < PAGE_KINDS; kind++) {
		page_make(src, kind, 6);
		size = object_pack(packer, level, PAGE_NO, src);
		for (size_t room = 0; room < size; room++)
			refused_untouched(copy_of(packer->out, room), room, PAGE_NO);
	}
}

/* --- objects that are well sealed and wrong inside --- */

/* Must be what object.c does; test_a_seal_of_the_tests_is_taken sees to that. */
static void seal(struct object *obj)
{
	uint64_t by = obj->page ^ (uint64_t)obj->bytes << 48 ^ (uint64_t)obj->codec << 40;

	obj->check = XXH3_64bits_withSeed(obj->packed, obj->bytes, by);
}

static struct object *sealed(unsigned codec, const void *bytes, size_t count)
{
	static struct {
		struct object header;
		char room[PAGE_SIZE];
	} made;

	memset(&made, 0, sizeof(made));
	made.header.page = PAGE_NO;
	made.header.codec = (uint16_t)codec;
	made.header.bytes = (uint16_t)count;
	memcpy(made.header.packed, bytes, count);
	seal(&made.header);
	return copy_of(&made, sizeof(made.header) + count);
}

/* Compresses so much text that it unpacks to exactly so many bytes. */
static size_t text_of(size_t bytes, char *out, size_t room)
{
	static char text[4 * PAGE_SIZE];
	size_t n;

	memset(text, 't', sizeof(text));
	page_make(text, KIND_TEXT, 1);
	if (level) {
		n = ZSTD_compress(out, room, text, bytes, (int)level);
		assert_false(ZSTD_isError(n));
	} else {
		n = (size_t)LZ4_compress_default(text, out, (int)bytes, (int)room);
	}
	assert_true(n > 0);
	return n;
}

static void test_a_seal_of_the_tests_is_taken(void **state)
{
	static char out[2 * PAGE_SIZE];
	struct object *obj;

	(void)state;
	page_make(src, KIND_RANDOM, 2);
	obj = sealed(CODEC_RAW, src, PAGE_SIZE);
	assert_int_equal(object_unpack(packer, obj, OBJECT_MAX, PAGE_NO, dst), 0);
	assert_memory_equal(dst, src, PAGE_SIZE);
	obj = sealed(CODEC, out, text_of(PAGE_SIZE, out, sizeof(out)));
	assert_int_equal(object_unpack(packer, obj, object_size(obj), PAGE_NO, dst), 0);
}

/* What unpacks to more or to less than a page is refused, and never writes beyond the page. */
static void test_only_a_whole_page_is_taken(void **state)
{
	static const size_t sizes[] = {1,    100,  PAGE_SIZE - 1, PAGE_SIZE + 1, PAGE_SIZE + 64,
				       8192, 16000};
	static char out[PAGE_SIZE];
	struct object *obj;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		obj = sealed(CODEC, out, text_of(sizes[i], out, sizeof(out)));
		refused(obj, object_size(obj), PAGE_NO);
	}
	page_make(src, KIND_RANDOM, 3);
	refused(sealed(CODEC_RAW, src, PAGE_SIZE - 1), OBJECT_MAX - 1, PAGE_NO);
	refused(sealed(CODEC_RAW, src, 0), sizeof(*obj), PAGE_NO);
	refused(sealed(CODEC, src, 0), sizeof(*obj), PAGE_NO);
}

static void test_unknown_codecs_are_refused(void **state)
{
	static char out[PAGE_SIZE];
	size_t n = text_of(PAGE_SIZE, out, sizeof(out));

	(void)state;
	for (unsigned codec = 0; codec < 8; codec++) {
		struct object *obj = sealed(codec, out, n);

		if (codec != CODEC)
			refused(obj, object_size(obj), PAGE_NO);
	}
}

/* Sealed nonsense: the decompressors stay inside the page whatever they are given. */
static void test_nonsense_stays_inside_the_page(void **state)
{
	static char out[PAGE_SIZE];
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		unsigned codec = random_chance(&seed, 2) ? CODEC : random_below(&seed, 5);
		size_t n = text_of(PAGE_SIZE, out, sizeof(out));
		struct object *obj;

		if (random_chance(&seed, 2)) {
			n = 1 + random_below(&seed, 600);
			random_bytes(&seed, out, n);
		} else {
			for (unsigned k = 1 + random_below(&seed, 4); k; k--)
				out[random_below(&seed, (unsigned)n)] = (char)random_next(&seed);
		}
		obj = sealed(codec, out, n);
		(void)!object_unpack(packer, obj, object_size(obj), PAGE_NO, dst);
	}
}

int main(void)
{
	int failed = 0;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_flipped_bit_is_refused),
		cmocka_unit_test(test_random_damage_is_refused),
		cmocka_unit_test(test_another_pages_object_is_refused),
		cmocka_unit_test(test_short_room_is_refused_unread),
		cmocka_unit_test(test_a_seal_of_the_tests_is_taken),
		cmocka_unit_test(test_only_a_whole_page_is_taken),
		cmocka_unit_test(test_unknown_codecs_are_refused),
		cmocka_unit_test(test_nonsense_stays_inside_the_page),
	};

	for (level = 0; level < ARRAY_SIZE(level_names); level++)
		failed +=
			cmocka_run_group_tests_name(level_names[level], tests, object_setup, NULL);
	return failed;
}
