/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of objects share: pages that are packed, each with every codec, and what is refused. */
#ifndef WEIR_TESTS_STORE_OBJECTS_H
#define WEIR_TESTS_STORE_OBJECTS_H

#include "pages.h"

#include "store/object.h"

#define PAGE_NO ((page_no_t)0x7f1234567)

/* All of these end where nothing is mapped: a byte too far is a fault. */
static struct packer *packer;
static char *src, *dst;

/* Everything is done with LZ4 (0), then with zstd. */
static unsigned level;
static const char *const level_names[] = {"lz4", "zstd:1"};
#define CODEC (level ? CODEC_ZSTD : CODEC_LZ4)

static inline int object_setup(void **state)
{
	(void)state;
	packer = (struct packer *)guarded(sizeof(*packer));
	src = guarded(PAGE_SIZE);
	dst = guarded(PAGE_SIZE);
	return 0;
}

/* A copy of the object at the end of a page, with room bytes and less than eight more: objects are aligned. */
static inline struct object *copy_of(const void *object, size_t room)
{
	static char *pages;

	if (!pages)
		pages = guarded(2 * PAGE_SIZE);
	return memcpy(pages + ALIGN_DOWN(2 * PAGE_SIZE - room, _Alignof(struct object)), object,
		      room);
}

/* Packs src and gives a copy that is exactly as long as the object. */
static inline struct object *packed(page_no_t page, size_t *size)
{
	*size = object_pack(packer, level, page, src);
	return copy_of(packer->out, *size);
}

static inline void refused(const struct object *obj, size_t room, page_no_t page)
{
	int err;

	memset(dst, 0xee, PAGE_SIZE);
	err = object_unpack(packer, obj, room, page, dst);
	assert_int_equal(err, -EBADMSG);
}

/* Refused, and before anything is unpacked. */
static inline void refused_untouched(const struct object *obj, size_t room, page_no_t page)
{
	refused(obj, room, page);
	assert_true(all_bytes_are(dst, 0xee, PAGE_SIZE));
}

#endif
