/* SPDX-License-Identifier: BSD-2-Clause */
/* Slots that change hands: the clock's hand, retiring, mapping, waiting. */
#include "kmap/kmap.h"
#include "os/mem.h"

/* --- holds --- */

enum pin slot_pin(struct weir_kmap *kmap, uint32_t index, uint32_t key)
{
	struct slot *slot = &kmap->slot[index];
	uint64_t word = load_relaxed(&slot->word);

	do {
		if (unlikely(!slot_count(word)))
			return OWNED;
		/* Acquire: pairs with slot_release and slot_map. The key that is read next is that of this mapping. */
	} while (!cas_acquire(&slot->word, &word, (word | SLOT_YOUNG) + 1 + SLOT_HIT));
	if (unlikely(load_relaxed(&slot->key) != key)) {
		(void)sub_relaxed(&slot->word, SLOT_HIT);
		(void)slot_put(kmap, index);
		return MOVED;
	}
	if (unlikely(word >> 32 == UINT32_MAX))
		add_relaxed(&slot->hits_above, 1ull << 32);
	return PINNED;
}

static int put_unbalanced(struct weir_kmap *kmap, uint32_t index)
{
#ifdef WEIR_DEBUG
	const uint32_t key = load_relaxed(&kmap->slot[index].key);

	if (key == KEY_NONE)
		panic("kunmap of slot %u, where no frame is mapped", index);
	panic("kunmap of pfn %u (slot %u), which nobody holds", kmap->start + (key << kmap->order),
	      index);
#else
	(void)kmap;
	(void)index;
	return -EINVAL;
#endif
}

int slot_put(struct weir_kmap *kmap, uint32_t index)
{
	struct slot *slot = &kmap->slot[index];
	uint64_t word;

	if (unlikely(slot_count(load_relaxed(&slot->word)) <= 1))
		return put_unbalanced(kmap, index);
	/* Releases what was written through the window, to slot_own; and changes the count before `waiting` is read. */
	word = sub_seq_cst(&slot->word, 1);
	/* Two that put what one of them held: the count is another's now. */
	if (unlikely(slot_count(word) <= 1))
		panic("kunmap of pfn %u (slot %u), which nobody holds",
		      kmap->start + (load_relaxed(&slot->key) << kmap->order), index);
	if (slot_count(word) == 2 && unlikely(load_seq_cst(&kmap->waiting)))
		slot_freed(kmap, index, 1);
	return 0;
}

void slot_freed(struct weir_kmap *kmap, uint32_t index, unsigned count)
{
	/* Before the wake-up: who has looked and does not sleep yet will not. */
	add_seq_cst(&kmap->freed, 1);
	(void)futex_wake(&kmap->freed, index < kmap->reserve || load_seq_cst(&kmap->choosy)
					       ? INT32_MAX
					       : (int)count);
}

/* --- ownership --- */

/* The half of the word that has the count: 0 exactly while it is owned. */
static _Atomic uint32_t *slot_futex(struct slot *slot)
{
	return &slot->half[__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__];
}

/* From 1 to 0, if it is at 1. */
static bool slot_own(struct slot *slot, uint64_t word)
{
	/* Acquire: pairs with the release in slot_put: nobody uses the window any more. */
	while (slot_count(word) == 1) {
		if (cas_acquire(&slot->word, &word, (word & ~SLOT_YOUNG) - 1))
			return true;
	}
	return false;
}

/* From 0 to 1 (free) or 2 (held), and whoever waits for that is told. */
static void slot_disown(struct weir_kmap *kmap, uint32_t index, unsigned count)
{
	struct slot *slot = &kmap->slot[index];

	/* Releases key and mapping, to slot_pin and slot_own; and changes the count before `settling` is read. */
	add_seq_cst(&slot->word, count);
	if (unlikely(load_seq_cst(&kmap->settling)))
		(void)futex_wake(slot_futex(slot), INT32_MAX);
}

static void slot_release(struct weir_kmap *kmap, uint32_t index)
{
	slot_disown(kmap, index, 1);
	if (unlikely(load_seq_cst(&kmap->waiting)))
		slot_freed(kmap, index, 1);
}

/* Waits until the slot is owned no longer: for as long as a system call takes. */
static void slot_settle(struct weir_kmap *kmap, uint32_t index)
{
	enum { SPINS = 64 };
	struct slot *slot = &kmap->slot[index];

	add_relaxed(&kmap->busy, 1);
	for (unsigned spin = 0; spin < SPINS; spin++) {
		if (slot_count(load_relaxed(&slot->word)))
			return;
		cpu_relax();
	}
	/* Before the count is read, by the kernel. */
	add_seq_cst(&kmap->settling, 1);
	if (!slot_count(load_seq_cst(&slot->word)))
		(void)futex_wait(slot_futex(slot), 0, 0);
	sub_relaxed(&kmap->settling, 1);
}

/* --- retiring --- */

/*
 * The slot at index, which the caller owns and which is mapped, loses its range; with it those ahead that are neither held nor
 * young, as many as a batch has: one system call, and one shootdown, for all. They are empty afterwards, the first still
 * the caller's. Where it stays alone, the mapping that comes next does both at once.
 */
static void slots_retire(struct weir_kmap *kmap, uint32_t first, bool hide_alone)
{
	uint32_t end = first + 1;
	unsigned mapped = 0;

	for (; end < kmap->slots && end - first < kmap->batch; end++) {
		struct slot *slot = &kmap->slot[end];
		uint64_t word = load_relaxed(&slot->word);

		/* Between reserved ones and others, too: whom they wake is not the same. */
		if (end == kmap->reserve || word & SLOT_YOUNG || !slot_own(slot, word))
			break;
	}
	for (uint32_t i = first; i < end; i++) {
		const uint32_t key = load_relaxed(&kmap->slot[i].key);

		if (key == KEY_NONE)
			continue;
		assoc_drop(kmap, key, i);
		mapped++;
	}
	/* Where it fails the old mappings stay, without anybody who knows of them, until others are put in their place. */
	if (end - first > 1 || hide_alone)
		(void)mem_window_hide(slot_address(kmap, first), (size_t)(end - first)
									 << kmap->shift);
	add_relaxed(&kmap->flushes, 1);
	add_relaxed(&kmap->retired, mapped);
	for (uint32_t i = first + 1; i < end; i++)
		slot_disown(kmap, i, 1);
	if (end - first > 1 && unlikely(load_seq_cst(&kmap->waiting)))
		slot_freed(kmap, first, end - first - 1);
}

/* --- an empty slot --- */

static int64_t slot_emptied(struct weir_kmap *kmap, uint32_t index)
{
	if (load_relaxed(&kmap->slot[index].key) != KEY_NONE)
		slots_retire(kmap, index, false);
	return index;
}

/* The next one that is free at the hand, owned and empty; one that is young gets a second chance. -EAGAIN: not in two
 * rounds, which is enough to come by each of them when it is no longer young. */
static int64_t slot_by_hand(struct weir_kmap *kmap, unsigned how)
{
	for (unsigned looked = 0; looked < 2 * kmap->slots; looked++) {
		const uint32_t index = add_relaxed(&kmap->hand, 1) & kmap->mask;
		struct slot *slot = &kmap->slot[index];
		uint64_t word = load_relaxed(&slot->word);

		if (!slot_usable(kmap, index, how) || slot_count(word) != 1)
			continue;
		/* Where this fails somebody has just taken it. */
		if (word & SLOT_YOUNG)
			(void)cas_relaxed(&slot->word, &word, word & ~SLOT_YOUNG);
		else if (slot_own(slot, word))
			return slot_emptied(kmap, index);
	}
	return -EAGAIN;
}

/* Any that is free, young or not, from a look at each of them. */
static int64_t slot_any(struct weir_kmap *kmap, unsigned how)
{
	for (uint32_t index = how & HOW_FAULT ? 0 : kmap->reserve; index < kmap->slots; index++) {
		/* In the order of all that is sequentially consistent: after `waiting` was changed. */
		if (slot_own(&kmap->slot[index], load_seq_cst(&kmap->slot[index].word)))
			return slot_emptied(kmap, index);
	}
	return -EAGAIN;
}

/* Sleeps until there is a slot, which it returns, owned and empty; or until the range has a slot that it is worth looking
 * at: -EAGAIN. */
static int64_t slot_wait(struct weir_kmap *kmap, uint32_t key, unsigned how)
{
	int64_t index = -EAGAIN;
	bool slept = false, choosy = false;

	/* Before the last look: pairs with slot_put and slot_release. */
	add_seq_cst(&kmap->waiting, 1);
	for (;;) {
		const uint32_t seen = load_seq_cst(&kmap->freed);
		const uint32_t found = assoc_find(kmap, key);

		if (!found)
			index = slot_any(kmap, how);
		if (index >= 0 ||
		    (found && (slot_usable(kmap, found - 1, how) ||
			       slot_count(load_seq_cst(&kmap->slot[found - 1].word)) <= 1)))
			break;
		/* Not any slot will do: a wake-up that was meant for one waiter would end here. Looks again once this is known. */
		if (found && !choosy) {
			choosy = true;
			add_seq_cst(&kmap->choosy, 1);
			continue;
		}
		add_relaxed(&kmap->waits, 1);
		(void)futex_wait(&kmap->freed, seen, 0);
		slept = true;
	}
	if (choosy)
		sub_relaxed(&kmap->choosy, 1);
	sub_relaxed(&kmap->waiting, 1);
	if (index < 0 && slept)
		slot_freed(kmap, kmap->reserve, 1);
	return index;
}

/* --- the slow path --- */

/* Maps the range in a slot that the caller owns, and holds it. -EEXIST: another one has it now. */
static int slot_map(struct weir_kmap *kmap, uint32_t index, uint32_t key)
{
	int err = -EEXIST;

	if (assoc_publish(kmap, key, index)) {
		add_relaxed(&kmap->races, 1);
	} else {
		add_relaxed(&kmap->misses, 1);
		err = mem_window_map(slot_address(kmap, index), (size_t)1 << kmap->shift, kmap->fd,
				     (uint64_t)key << kmap->shift);
		if (err)
			assoc_drop(kmap, key, index);
	}
	if (err)
		slot_release(kmap, index);
	else
		slot_disown(kmap, index, 2);
	return err;
}

/* The range has a slot. Its index, held; -EAGAIN: look again; -EBUSY: held by others, and not for such a caller. */
static int64_t slot_hold(struct weir_kmap *kmap, uint32_t index, uint32_t key, unsigned how)
{
	struct slot *slot = &kmap->slot[index];
	uint64_t word = load_relaxed(&slot->word);

	if (!slot_count(word)) {
		slot_settle(kmap, index);
		return -EAGAIN;
	}
	if (slot_usable(kmap, index, how))
		return slot_pin(kmap, index, key) == PINNED ? (int64_t)index : -EAGAIN;
	/* Mapped by the fault path, where it must not be held for long: it goes, to come back elsewhere. */
	if (!slot_own(slot, word))
		return slot_count(load_relaxed(&slot->word)) > 1 ? -EBUSY : -EAGAIN;
	if (load_relaxed(&slot->key) != KEY_NONE)
		slots_retire(kmap, index, true);
	slot_release(kmap, index);
	return -EAGAIN;
}

int64_t slot_get(struct weir_kmap *kmap, uint32_t key, unsigned how)
{
	for (;;) {
		const uint32_t found = assoc_find(kmap, key);
		int64_t index =
			found ? slot_hold(kmap, found - 1, key, how) : slot_by_hand(kmap, how);
		int err;

		if (found && (index >= 0 || index == -EAGAIN)) {
			if (index >= 0)
				return index;
			continue;
		}
		if (index < 0) {
			if (how & HOW_TRY)
				return -EAGAIN;
			index = slot_wait(kmap, key, how);
			if (index < 0)
				continue;
		}
		err = slot_map(kmap, (uint32_t)index, key);
		if (!err)
			return index;
		if (err != -EEXIST)
			return err;
	}
}
