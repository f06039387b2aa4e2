/* SPDX-License-Identifier: BSD-2-Clause */
/* The page word at work: its busy bit, who waits for it, and the copy that it names. See page.h. */
#include <errno.h>

#include "vm/vm.h"

_Thread_local bool vm_borrowed __attribute__((tls_model("initial-exec")));
_Thread_local bool vm_wakes __attribute__((tls_model("initial-exec")));
_Thread_local const page_word_t *vm_untouched __attribute__((tls_model("initial-exec")));

/* The half of a page's word that has BUSY and PARKED. */
static _Atomic uint32_t *page_futex(page_word_t *word)
{
	_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the low half comes first");
	return (_Atomic uint32_t *)word;
}

void page_wait(page_word_t *word)
{
	uint64_t w = load_relaxed(word);

	while (w & WORD_BUSY) {
		/* The holder's exchange in page_unlock sees the bit, or this fails. */
		if (!(w & WORD_PARKED) && !cas_relaxed(word, &w, w | WORD_PARKED))
			continue;
		(void)futex_wait(page_futex(word), (uint32_t)(w | WORD_PARKED), 0);
		w = load_relaxed(word);
	}
}

void page_unlock(struct vm *vm, struct region *region, uint32_t page, uint64_t w, bool have_uffd)
{
	/* Pairs with the acquire in page_lock. An exchange, since a handler may set PARKED at any moment. */
	uint64_t before = exchange_release(&region->word[page], w & ~(WORD_BUSY | WORD_PARKED));

	assert_debug(before & WORD_BUSY);
	if (unlikely(before & WORD_PARKED)) {
		if (region->signal) {
			(void)futex_wake(page_futex(&region->word[page]), INT32_MAX);
		} else if (have_uffd && !vm_borrowed) {
			(void)uffd_wake(region->uffd, page_address(region, page), PAGE_SIZE);
		} else {
			/* Pairs with the exchange in vm_wake_parked. */
			store_release(&vm->wake_all, true);
			vm_attention(vm);
		}
	}
	/* Here, since whatever goes on for long comes by: nothing that the background thread does for others can forget it. */
	vm_wake_meanwhile(vm);
}

void vm_wake_parked(struct vm *vm)
{
	/* Pairs with the releases in page_unlock and page_wake_later. */
	if (!load_relaxed(&vm->wake_all) || !exchange_acquire(&vm->wake_all, false))
		return;
	for (uint32_t i = 0; i < load_relaxed(&vm->regions); i++) {
		struct region *region = load_acquire(&vm->region[i]);

		if (region)
			(void)uffd_wake(region->uffd, region->base,
					(size_t)region->room << PAGE_SHIFT);
	}
}

void page_copy_free(struct vm *vm, const struct region *region, uint64_t w)
{
	if (word_kind(w) == COPY_MEMORY) {
		uint64_t bytes = compressed_room(vm->memory, word_location(w));

		compressed_free(vm->memory, word_location(w));
		container_uncharge(page_owner(region, w), CHARGE_COMPRESSED, bytes);
	} else if (word_kind(w) == COPY_FILE) {
		container_swap_uncharge(page_owner(region, w),
					store_key_bytes(vm->store, word_location(w)));
		store_discard(vm->store, word_location(w));
	}
}

uint64_t page_copy_leave(struct vm *vm, const struct region *region, uint64_t w, unsigned owner)
{
	/* Set before the fork waits for whoever has a page (instance_quiesce). */
	if (unlikely(load_relaxed(&vm->forking)) && word_kind(w) != COPY_NONE) {
		if (word_owner(w) != owner)
			copy_transfer(vm, region, w, owner);
		return word_copy_of(w);
	}
	page_copy_free(vm, region, w);
	return 0;
}

void page_wake_later(struct vm *vm, const struct region *region, uint32_t page, int err)
{
	if (err == -EAGAIN && load_relaxed(&vm->forking))
		/* Pairs with the exchange in vm_wake_parked. */
		store_release(&vm->wake_all, true);
	else
		(void)uffd_wake(region->uffd, page_address(region, page), PAGE_SIZE);
}

uint64_t page_lock_wait(page_word_t *word)
{
	uint64_t w = load_relaxed(word);
	unsigned waited = 0;

	for (unsigned spin = 0; (w & WORD_BUSY) || !page_lock(word, &w); spin++) {
		if (spin < 100)
			cpu_relax();
		else
			wait_a_little(&waited);
		w = load_relaxed(word);
	}
	return w;
}

bool page_lock_counted(struct region *region, uint32_t page, uint64_t *w)
{
	page_word_t *word = &region->word[page];

	if (word_state(*w) != PAGE_NONE)
		return page_lock(word, w);
	region_populate(region, page, 1);
	/* Pairs with the release in page_unlock; and its release, with the fork that copies the tables: see vm.h. */
	if (cas_acq_rel(word, w, *w | WORD_BUSY))
		return true;
	sub_relaxed(&region->populated[page >> CHUNK_SHIFT], 1);
	return false;
}

void page_unlock_uncounted(struct vm *vm, struct region *region, uint32_t page, uint64_t w)
{
	page_unlock(vm, region, page, w, true);
	/* Pairs with the fork: not before the word. */
	if (word_state(w) == PAGE_NONE)
		sub_acq_rel(&region->populated[page >> CHUNK_SHIFT], 1);
}
