/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A page as the stores keep it: a header and the packed bytes, the same in memory and in a file.
 *
 * The checksum covers the header's other fields and the packed bytes, and is seeded with the number of the page:
 * bytes that rotted, were cut short, or belong to another page are all refused, before the decompressor sees them.
 */
#ifndef WEIR_STORE_OBJECT_H
#define WEIR_STORE_OBJECT_H

#include "base/base.h"

/* Address of the page divided by the page size: unique in the process. */
typedef uint64_t page_no_t;

/* As written in objects, so that each is read back whatever the instance packs with by now. */
enum object_codec { CODEC_RAW = 1, CODEC_LZ4 = 2, CODEC_ZSTD = 3 };
/*
 * What pages are packed with: 0 is LZ4, above it a level of zstd. Higher ones than the last gain nothing on 4 KiB that anybody would
 * see, take a millisecond a page, and three times the memory.
 */
enum { ZSTD_LEVEL_DEFAULT = 3, ZSTD_LEVEL_LAST = 10 };

struct object {
	uint64_t page : 48;  /* page_no_t */
	uint64_t bytes : 13; /* of packed[] */
	uint64_t codec : 3;
	uint64_t check; /* XXH3-64 */
	uint8_t packed[];
};

enum { OBJECT_MAX = sizeof(struct object) + (1 << PAGE_SHIFT) };

/* Memory for one thread that packs and unpacks, zeroed: no allocation happens later. With LZ4 that of zstd is never touched. */
struct packer {
	_Alignas(64) char lz4[16 * 1024 + 64];
	_Alignas(64) char out[OBJECT_MAX + 64];
	struct ZSTD_CCtx_s *compressor; /* in zstd.compress; NULL: to be made */
	struct packer_zstd {
		_Alignas(64) char page[1 << PAGE_SHIFT];
		/* Not three times what a level needs: that is waste, and libzstd refuses to work in it. */
		_Alignas(64) char compress[160 * 1024];
		_Alignas(64) char decompress[128 * 1024];
	} zstd;
};

/*
 * "lz4", "zstd" or "zstd:LEVEL"; NULL is "lz4". 0, and the level; -EINVAL: none of these; -ERANGE: no such level; -ENOTSUP: libzstd
 * needs more memory than a packer has.
 */
int object_codec_parse(const char *text, unsigned *zstd_level) MUST_CHECK;
/* In the child of a fork, which may have come in the middle of a page. */
void packer_after_fork(struct packer *packer);

/* Is the page one 32-bit word repeated? */
bool page_same_filled(const void *src, uint32_t *word);
void page_fill(void *dst, uint32_t word);
/* Packs a page into packer->out, zstd_level as above. Returns the size of the object, header included. The page may be written
 * meanwhile only where the caller throws the result away. */
size_t object_pack(struct packer *packer, unsigned zstd_level, page_no_t page, const void *src);
/* Checks and unpacks into a page. room: bytes that may be read at obj. 0; -EBADMSG: not the page it should be,
 * or not as it was stored. */
int object_unpack(struct packer *packer, const struct object *obj, size_t room, page_no_t page,
		  void *dst) MUST_CHECK;

/* Is it the page that it should be, as it was packed? */
bool object_sound(const struct object *obj, size_t room, page_no_t page) MUST_CHECK;
/* The same contents as another page's, from now on. Checked first: 0, or -EBADMSG, and nothing changed. */
int object_rename(struct object *obj, size_t room, page_no_t from, page_no_t to) MUST_CHECK;

/* Which page it says it is, while its holder may be at it: somebody looks again under the page's busy bit. */
__attribute__((no_sanitize("thread"))) static inline page_no_t
object_page_racing(const struct object *obj)
{
	return *(const volatile uint64_t *)obj & ((1ull << 48) - 1);
}

static inline size_t object_size(const struct object *obj)
{
	return sizeof(*obj) + obj->bytes;
}

#endif
