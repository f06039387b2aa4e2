/* SPDX-License-Identifier: BSD-2-Clause */
#include "store/object.h"

#include <errno.h>
#include <lz4.h>
#include <string.h>
#include <xxhash.h>
#define ZSTD_STATIC_LINKING_ONLY /* contexts in memory of ours */
#include <zstd.h>

#include "base/atomic.h"

/* Above this a page is kept whole: unpacking would cost more than the few bytes are worth. */
enum { WORTH_IT = 3840 };

_Static_assert(sizeof(LZ4_stream_t) <= sizeof(((struct packer *)0)->lz4),
	       "room for the state of LZ4");

/* The program wrote the page; the kernel's write protection orders that before these reads, which ThreadSanitizer
 * cannot see. */
NO_TSAN static void page_copy(void *dst, const void *src)
{
#ifdef WEIR_TSAN
	for (size_t i = 0; i < PAGE_SIZE / sizeof(uint64_t); i++)
		((uint64_t *)dst)[i] = ((const volatile uint64_t *)src)[i];
#else
	memcpy(dst, src, PAGE_SIZE);
#endif
}

NO_TSAN bool page_same_filled(const void *src, uint32_t *word)
{
	const uint64_t *q = src;
	const size_t last = PAGE_SIZE / sizeof(*q) - 1;
	uint64_t first = q[0];

	/* The last word first: most pages that begin alike end otherwise. */
	if ((uint32_t)first != (uint32_t)(first >> 32) || q[last] != first)
		return false;
	for (size_t i = 1; i < last; i++) {
		if (q[i] != first)
			return false;
	}
	*word = (uint32_t)first;
	return true;
}

void page_fill(void *dst, uint32_t word)
{
	uint32_t *w = dst;

	for (size_t i = 0; i < PAGE_SIZE / sizeof(*w); i++)
		w[i] = word;
}

static uint64_t checksum(const struct object *obj, page_no_t page)
{
	uint64_t seed = page ^ (uint64_t)obj->bytes << 48 ^ (uint64_t)obj->codec << 40;

	return XXH3_64bits_withSeed(obj->packed, obj->bytes, seed);
}

/* --- zstd --- */

/* Digits, as many as a level may have and one more; 0: something else. */
static unsigned level_parse(const char *text)
{
	unsigned level = 0;

	for (unsigned i = 0; text[i]; i++) {
		if (text[i] < '0' || text[i] > '9' || i > 2)
			return 0;
		level = level * 10 + (unsigned)(text[i] - '0');
	}
	return level;
}

int object_codec_parse(const char *text, unsigned *zstd_level)
{
	unsigned level = ZSTD_LEVEL_DEFAULT;

	*zstd_level = 0;
	if (!text || !strcmp(text, "lz4"))
		return 0;
	if (strncmp(text, "zstd", 4) != 0 || (text[4] && text[4] != ':'))
		return -EINVAL;
	if (text[4])
		level = level_parse(text + 5);
	if (level < 1 || level > ZSTD_LEVEL_LAST)
		return -ERANGE;
	if (ZSTD_estimateDCtxSize() > sizeof(((struct packer *)0)->zstd.decompress) ||
	    ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams((int)level, PAGE_SIZE, 0)) >
		    sizeof(((struct packer *)0)->zstd.compress))
		return -ENOTSUP;
	*zstd_level = level;
	return 0;
}

/* Bytes, or 0: not worth it. */
static size_t zstd_pack(struct packer *packer, unsigned level, struct object *obj, const void *src)
{
	size_t packed;

	/* Made once: clearing its tables for each page takes half as long as the page. */
	if (!packer->compressor)
		packer->compressor =
			ZSTD_initStaticCCtx(packer->zstd.compress, sizeof(packer->zstd.compress));
	/* Unlike LZ4 it looks at the page more than once, and relies on seeing the same. */
	page_copy(packer->zstd.page, src);
	packed = ZSTD_compressCCtx(packer->compressor, obj->packed, WORTH_IT, packer->zstd.page,
				   PAGE_SIZE, (int)level);
	return ZSTD_isError(packed) ? 0 : packed;
}

static bool zstd_unpack(struct packer *packer, const struct object *obj, void *dst)
{
	ZSTD_DCtx *context =
		ZSTD_initStaticDCtx(packer->zstd.decompress, sizeof(packer->zstd.decompress));

	return context &&
	       ZSTD_decompressDCtx(context, dst, PAGE_SIZE, obj->packed, obj->bytes) == PAGE_SIZE;
}

/* The copy that the child has was made page by page, so that its parts need not be of one moment. */
void packer_after_fork(struct packer *packer)
{
	packer->compressor = NULL;
}

/* --- --- */

size_t object_pack(struct packer *packer, unsigned zstd_level, page_no_t page, const void *src)
{
	struct object *obj = (struct object *)packer->out;
	size_t packed =
		zstd_level
			? zstd_pack(packer, zstd_level, obj, src)
			: (size_t)LZ4_compress_fast_extState(packer->lz4, src, (char *)obj->packed,
							     (int)PAGE_SIZE, WORTH_IT, 1);

	obj->page = page;
	obj->codec = !packed ? CODEC_RAW : zstd_level ? CODEC_ZSTD : CODEC_LZ4;
	obj->bytes = (packed ? packed : PAGE_SIZE) & 0x1fff;
	if (!packed)
		page_copy(obj->packed, src);
	obj->check = checksum(obj, page);
	return object_size(obj);
}

bool object_sound(const struct object *obj, size_t room, page_no_t page)
{
	return room >= sizeof(*obj) && obj->page == page && object_size(obj) <= room &&
	       obj->bytes <= PAGE_SIZE && obj->check == checksum(obj, page);
}

int object_rename(struct object *obj, size_t room, page_no_t from, page_no_t to)
{
	if (!object_sound(obj, room, from))
		return -EBADMSG;
	obj->page = to;
	obj->check = checksum(obj, to);
	return 0;
}

int object_unpack(struct packer *packer, const struct object *obj, size_t room, page_no_t page,
		  void *dst)
{
	if (!object_sound(obj, room, page))
		return -EBADMSG;
	if (obj->codec == CODEC_RAW && obj->bytes == PAGE_SIZE) {
		memcpy(dst, obj->packed, PAGE_SIZE);
		return 0;
	}
	if (obj->codec == CODEC_LZ4 &&
	    LZ4_decompress_safe((const char *)obj->packed, dst, obj->bytes, (int)PAGE_SIZE) ==
		    (int)PAGE_SIZE)
		return 0;
	return obj->codec == CODEC_ZSTD && zstd_unpack(packer, obj, dst) ? 0 : -EBADMSG;
}
