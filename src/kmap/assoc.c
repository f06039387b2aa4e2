/* SPDX-License-Identifier: BSD-2-Clause */
/* Which slot has a range: a table by range, or a hash table with one entry for each slot. */
#include "kmap/kmap.h"

/* A reader that goes through a chain without the lock may be led into another one, by a slot that changes buckets under it.
 * So it gives up after so many steps, and looks once more with the lock; chains have one slot on average. */
enum { STEPS_MOST = 32 };

static struct bucket *bucket_of(const struct weir_kmap *kmap, uint32_t key)
{
	/* Fibonacci hashing: the upper bits, on which all of the key's have a bearing. */
	return &kmap->bucket[(uint64_t)(key * 2654435769u) * kmap->slots >> 32];
}

static uint32_t bucket_find(const struct weir_kmap *kmap, const struct bucket *bucket, uint32_t key)
{
	uint32_t at = load_relaxed(&bucket->head);

	while (at && load_relaxed(&kmap->slot[at - 1].key) != key)
		at = load_relaxed(&kmap->slot[at - 1].next);
	return at;
}

uint32_t assoc_find(const struct weir_kmap *kmap, uint32_t key)
{
	struct bucket *bucket;
	uint32_t at;

	/* Acquire: pairs with the release in assoc_publish; though what counts is the count, see kmap.h. */
	if (kmap->table)
		return load_acquire(&kmap->table[key]);
	bucket = bucket_of(kmap, key);
	at = load_acquire(&bucket->head);
	for (unsigned steps = 0; at && steps < STEPS_MOST; steps++) {
		const struct slot *slot = &kmap->slot[at - 1];

		if (load_relaxed(&slot->key) == key)
			return at;
		at = load_acquire(&slot->next);
	}
	/* Led astray, or not there: a caller that is told "not there" maps a second slot, or lets go of what is held. */
	lock_acquire(&bucket->lock);
	at = bucket_find(kmap, bucket, key);
	lock_release(&bucket->lock);
	return at;
}

uint32_t assoc_publish(struct weir_kmap *kmap, uint32_t key, uint32_t index)
{
	struct slot *slot = &kmap->slot[index];
	struct bucket *bucket;
	uint32_t found = 0;

	if (kmap->table) {
		if (!cas_release(&kmap->table[key], &found, index + 1))
			return found;
		store_relaxed(&slot->key, key);
		return 0;
	}
	bucket = bucket_of(kmap, key);
	lock_acquire(&bucket->lock);
	found = bucket_find(kmap, bucket, key);
	if (!found) {
		store_relaxed(&slot->key, key);
		store_release(&slot->next, load_relaxed(&bucket->head));
		/* Pairs with the acquire in assoc_find. */
		store_release(&bucket->head, index + 1);
	}
	lock_release(&bucket->lock);
	return found;
}

void assoc_drop(struct weir_kmap *kmap, uint32_t key, uint32_t index)
{
	struct slot *slot = &kmap->slot[index];
	_Atomic uint32_t *link;
	struct bucket *bucket;

	store_relaxed(&slot->key, KEY_NONE);
	if (kmap->table) {
		store_relaxed(&kmap->table[key], 0);
		return;
	}
	bucket = bucket_of(kmap, key);
	lock_acquire(&bucket->lock);
	link = &bucket->head;
	while (load_relaxed(link) != index + 1)
		link = &kmap->slot[load_relaxed(link) - 1].next;
	store_release(link, load_relaxed(&slot->next));
	lock_release(&bucket->lock);
}
