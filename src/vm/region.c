/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "vm/file.h"

#define SLOTS_BYTES (REGIONS_MAX * sizeof(void *))

int vm_init(struct vm *vm, struct weir_container *root, struct compressed *memory,
	    struct store *store)
{
	int err;

	memset(vm, 0, sizeof(*vm));
	vm->uffd = -1;
	vm->signal_uffd = -1;
	vm->dropper.pidfd = -1;
	vm->self_mem = -1;
	vm->root = root;
	vm->memory = memory;
	vm->store = store;
	store_relaxed(&vm->memory_share, UINT64_MAX);
	waitq_init(&vm->attention);
	lock_init(&vm->advised_lock, RANK_ADVISED, "advised");
	vm->region = mem_alloc(SLOTS_BYTES);
	if (!vm->region)
		return -ENOMEM;
	err = index_init(vm);
	if (err)
		vm_destroy(vm);
	return err;
}

void vm_destroy(struct vm *vm)
{
	index_destroy(vm);
	mem_release((void *)vm->region, SLOTS_BYTES);
	vm->region = NULL;
	store_relaxed(&vm->regions, 0);
}

void vm_attention(struct vm *vm)
{
	if (waitq_active(&vm->attention))
		waitq_wake_all(&vm->attention);
}

static uint64_t clock_unit(const struct weir_container *container)
{
	return MAX(load_relaxed(&container->limit) >> (PAGE_SHIFT + 9), 1);
}

unsigned vm_clock_after(const struct weir_container *container, unsigned evictions)
{
	return (unsigned)((load_relaxed(&tenant_of(container)->evictions) + evictions) /
			  clock_unit(container)) &
	       STAMP_MASK;
}

unsigned vm_clock(const struct weir_container *container)
{
	return vm_clock_after(container, 0);
}

unsigned vm_age(const struct weir_container *container, uint64_t w)
{
	return (vm_clock(container) - word_stamp(w)) & STAMP_MASK;
}

uint64_t vm_away(const struct weir_container *container, uint64_t w)
{
	return vm_age(container, w) * clock_unit(container);
}

/* A region and its tables are one allocation: itself, what there is for each chunk, and for each page. */
static size_t words_offset(uint32_t pages)
{
	const size_t chunks = ((size_t)pages >> CHUNK_SHIFT) + 1;

	return ALIGN_UP(sizeof(struct region) + chunks * (sizeof(uint32_t) + sizeof(uint8_t)),
			sizeof(page_word_t));
}

static size_t tables_bytes(uint32_t pages)
{
	return ALIGN_UP(words_offset(pages) + (size_t)pages * sizeof(page_word_t), PAGE_SIZE);
}

static struct region *tables_alloc(uint32_t pages, uint8_t access)
{
	const size_t chunks = ((size_t)pages >> CHUNK_SHIFT) + 1;
	struct region *region = mem_alloc(tables_bytes(pages));

	if (!region)
		return NULL;
	region->room = pages;
	region->populated = (void *)(region + 1);
	region->access = (void *)(region->populated + chunks);
	region->word = (void *)((char *)region + words_offset(pages));
	/* NORMAL is what is there: no memory for what says nothing. */
	for (size_t i = 0; access && i < chunks; i++)
		store_relaxed(&region->access[i], access);
	return region;
}

uint64_t region_overhead(const struct region *region)
{
	const size_t top = load_relaxed(&region->top);

	return region->file ? top * sizeof(page_word_t)
			    : ALIGN_UP(words_offset(region->room) + top * sizeof(page_word_t),
				       PAGE_SIZE);
}

static size_t turned_bytes(uint32_t pages)
{
	return ALIGN_UP(((size_t)(pages / 64) + 1) * sizeof(uint64_t), PAGE_SIZE);
}

int region_track(struct region *region, bool readable)
{
	_Atomic uint64_t *turned = mem_alloc(turned_bytes(region->room));

	if (!turned)
		return -ENOMEM;
	region->readable = readable;
	/* Pairs with the acquire in page_readable: reclaim may be at work on an adopted region already. */
	store_release(&region->turned, turned);
	return 0;
}

int region_place(struct vm *vm)
{
	uint32_t count = load_relaxed(&vm->regions);

	for (uint32_t i = 0; index_count(vm) < count && i < count; i++) {
		if (!load_relaxed(&vm->region[i]))
			return (int)i;
	}
	return count < REGIONS_MAX ? (int)count : -ENOSPC;
}

static bool overlaps(const struct vm *vm, const char *addr, size_t bytes)
{
	for (uint32_t i = 0; i < load_relaxed(&vm->regions); i++) {
		const struct region *region = load_relaxed(&vm->region[i]);

		if (region && addr < region->base + ((size_t)region->room << PAGE_SHIFT) &&
		    region->base < addr + bytes)
			return true;
	}
	return false;
}

void region_publish(struct vm *vm, int place, struct region *region)
{
	region->slot = (uint32_t)place;
	/* Pairs with the acquire of those who go through the list. */
	store_release(&vm->region[place], region);
	if ((uint32_t)place == load_relaxed(&vm->regions))
		store_release(&vm->regions, (uint32_t)place + 1);
	index_add(vm, region);
}

int region_create(struct vm *vm, struct weir_container *container, void *addr, size_t bytes,
		  const struct region_options *options, struct region **out)
{
	static const struct region_options none;
	const size_t align = MIB(2);
	struct region *region;
	size_t room;
	int slot = region_place(vm);

	options = options ? options : &none;
	room = MAX(bytes, options->max_bytes);
	if (!bytes || (bytes | room | (uintptr_t)addr) & PAGE_MASK ||
	    room >> PAGE_SHIFT >= UINT32_MAX || (addr && overlaps(vm, addr, bytes)))
		return -EINVAL;
	if (slot < 0)
		return slot;
	region = tables_alloc((uint32_t)(room >> PAGE_SHIFT), options->access);
	if (!region)
		return -ENOMEM;
	store_relaxed(&region->pages, (uint32_t)(bytes >> PAGE_SHIFT));
	region->cluster = options->cluster;
	region->signal = options->signal;
	region->uffd = options->signal ? vm->signal_uffd : vm->uffd;
	region->mapped_here = !addr;
	/* Before it can be found. */
	store_relaxed(&region->adopting, addr != NULL);
	owners_set(&region->owners, 0, container);
	region->base = addr ? addr : mem_region_map(room, align);
	if (!region->base)
		goto fail;
	if (room > bytes && mem_protect_none(region->base + bytes, room - bytes))
		goto fail_map;
	region_publish(vm, slot, region);
	*out = region;
	return 0;
fail_map:
	mem_release(region->base, room);
fail:
	mem_release(region, tables_bytes(region->room));
	return -ENOMEM;
}

void region_populate(struct region *region, uint32_t page, uint32_t count)
{
	uint32_t top = load_relaxed(&region->top), end = page + count;

	while (end > top && !cas_relaxed(&region->top, &top, end))
		;
	for (; page < end; page++)
		add_relaxed(&region->populated[page >> CHUNK_SHIFT], 1);
}

/* Memory that was touched before there was anybody to fault to. Runs after registration, beside faults: a page that
 * a handler installs meanwhile has left NONE, and is passed over. Not beside discards: what they find in NONE is nothing to them, and what
 * was there when this looked would be taken for what is there. */
static int adopt(struct region *region)
{
	enum { STEP = 32768 };
	uint8_t resident[STEP / 8];

	for (uint32_t page = 0; page < region->room; page += STEP) {
		uint32_t n = MIN((uint32_t)STEP, region->room - page);
		bool any = false;
		int err =
			mem_resident(page_address(region, page), (size_t)n << PAGE_SHIFT, resident);

		if (err)
			return err;
		for (uint32_t i = 0; i < n; i++) {
			uint64_t none = PAGE_NONE;

			if (!resident[i / 8]) {
				i |= 7;
				continue;
			}
			if (!(resident[i / 8] >> (i % 8) & 1))
				continue;
			any = true;
			/* A region is adopted by the thread that makes it: its first owner is the only one. */
			if (!cas_relaxed(&region->word[page + i], &none, PAGE_DIRTY))
				continue;
			region_populate(region, page + i, 1);
			container_force(owners_get(&region->owners, 0), CHARGE_RESIDENT, PAGE_SIZE);
		}
		/* An allocator starts at the bottom: the first 128 MiB without a page are the end of it. */
		if (!any)
			break;
	}
	return 0;
}

/* With the room to grow: what nobody may access does not fault, and grows without another registration. */
static size_t region_bytes(const struct region *region)
{
	return (size_t)region->room << PAGE_SHIFT;
}

int region_register(struct region *region)
{
	int err = uffd_register(region->uffd, region->base, region_bytes(region),
				UFFD_MISSING | UFFD_WP);

	if (!err && !region->mapped_here)
		err = adopt(region);
	/* Pairs with the acquire of who would discard. One that fails is hidden next. */
	if (!err)
		store_release(&region->adopting, false);
	return err;
}

void region_unregister(struct region *region)
{
	const size_t bytes = region_bytes(region);

	/* What is ours goes at once: unregistered and still mapped it would read as zeroes. */
	if (region->mapped_here)
		mem_release(region->base, bytes);
	else
		(void)uffd_unregister(region->uffd, region->base, bytes);
	region->mapped_here = false;
	/* Nobody goes to sleep there any more. The kernel wakes who does before it ends the registration, and misses one
	 * that comes between (seen on 6.18, stress_region --case churn). */
	(void)uffd_wake(region->uffd, region->base, bytes);
}

void region_hide(struct vm *vm, struct region *region)
{
	store_relaxed(&vm->region[region->slot], NULL);
	index_remove(vm, region);
	advised_forget(vm, region);
	if (region->file)
		file_region_hide(region);
}

void region_destroy(struct vm *vm, struct region *region)
{
	_Atomic uint64_t *turned = load_relaxed(&region->turned);
	struct dues dues = {0};

	for (uint32_t page = 0; page < load_relaxed(&region->top); page++) {
		uint64_t w = load_relaxed(&region->word[page]);

		page_copy_free(vm, region, w);
		if (word_resident(w))
			dues_add(&dues, page_owner(region, w));
		vm_wake_meanwhile(vm);
	}
	dues_settle(&dues);
	if (region->mapped_here)
		mem_release(region->base, (size_t)region->room << PAGE_SHIFT);
	if (turned)
		mem_release(turned, turned_bytes(region->room));
	if (load_relaxed(&region->wiped))
		mem_release(load_relaxed(&region->wiped), turned_bytes(region->room));
	mem_release(region, tables_bytes(region->room));
}

enum forget {
	FORGET_WORDS,	 /* the memory is gone already */
	FORGET_UNPINNED, /* the memory too; -EBUSY where a page is pinned */
	FORGET_PINNED,	 /* the memory too, with the pins */
};

static int discard_window(struct vm *vm, struct region *region, uint32_t page, uint32_t count,
			  enum forget what, bool have_uffd)
{
	const bool memory = what != FORGET_WORDS;
	uint64_t w[1 << CHUNK_SHIFT];
	struct dues dues = {0};
	uint32_t populated = 0;
	bool pinned = false;
	int err;

	/* Absent pages are locked too: one that is loaded meanwhile must not be caught in the drop. */
	for (uint32_t i = 0; i < count; i++)
		w[i] = page_lock_wait(&region->word[page + i]);
	for (uint32_t i = 0; i < count; i++)
		pinned |= word_pins(w[i]) != 0;
	/* Otherwise pins go with their pages, under the busy bit like all that is said of a page: what a device still writes goes to
	 * memory that the kernel keeps for it, and page_unpin bears a page that is not pinned. */
	pinned = pinned && what == FORGET_UNPINNED;
	err = pinned   ? -EBUSY
	      : memory ? mem_discard(page_address(region, page), (size_t)count << PAGE_SHIFT)
		       : 0;
	for (uint32_t i = 0; i < count; i++) {
		/* A call that failed (mlock) has dropped a part. A word that calls such a page resident would let a
		 * job read it, which is a fault of our own; so each page is asked again, as in reclaim's job_drop. */
		if (!err || (!pinned && !mem_discard(page_address(region, page + i), PAGE_SIZE))) {
			populated += word_state(w[i]) != PAGE_NONE;
			if (word_resident(w[i]))
				dues_add(&dues, page_owner(region, w[i]));
			page_copy_free(vm, region, w[i]);
			w[i] = PAGE_NONE;
		}
		page_unlock(vm, region, page + i, w[i], have_uffd);
	}
	if (populated)
		sub_relaxed(&region->populated[page >> CHUNK_SHIFT], populated);
	dues_settle(&dues);
	return err;
}

static int forget(struct vm *vm, struct region *region, uint32_t page, uint32_t count,
		  enum forget what, bool have_uffd)
{
	const uint32_t chunk = 1u << CHUNK_SHIFT;
	uint32_t end = MIN(page + count, load_relaxed(&region->top));
	int err = 0;

	/* Pages above top were never populated; a fault on one that runs beside this call comes after it. */
	while (page < end && !err) {
		uint32_t n = MIN(chunk - page % chunk, end - page);

		if (load_relaxed(&region->populated[page >> CHUNK_SHIFT]))
			err = discard_window(vm, region, page, n, what, have_uffd);
		page += n;
	}
	return err;
}

int region_discard(struct vm *vm, struct pager *self, struct region *region, uint32_t page,
		   uint32_t count)
{
	return forget(vm, region, page, count, FORGET_UNPINNED, self != NULL);
}

int region_discard_pinned(struct vm *vm, struct region *region, uint32_t page, uint32_t count)
{
	return forget(vm, region, page, count, FORGET_PINNED, false);
}

void region_forget(struct vm *vm, struct region *region, uint32_t page, uint32_t count)
{
	(void)forget(vm, region, page, count, FORGET_WORDS, false);
}

/* Bits of the words [from, to). */
static void bits_assign(_Atomic uint64_t *bits, uint32_t from, uint32_t to, bool value)
{
	for (uint32_t at = from; at < to;) {
		const uint32_t n = MIN(64 - at % 64, to - at);
		const uint64_t mask = (n == 64 ? UINT64_MAX : (1ull << n) - 1) << at % 64;

		if (value)
			or_relaxed(&bits[at / 64], mask);
		else
			and_relaxed(&bits[at / 64], ~mask);
		at += n;
	}
}

void region_protect(struct vm *vm, struct region *region, uint32_t page, uint32_t count,
		    bool readable)
{
	const uint32_t end = page + count;
	uint32_t at = page;

	bits_assign(load_relaxed(&region->turned), page, end, readable != region->readable);
	/* Who reads a page where it stands looks at its bit under the busy bit. So one that had it before has done with it now,
	 * and one that gets it from now on sees the bit. Pages that are not there are not read. */
	while (!readable && at < MIN(end, load_relaxed(&region->top))) {
		if (!load_relaxed(&region->populated[at >> CHUNK_SHIFT])) {
			at = ALIGN_DOWN(at, 1u << CHUNK_SHIFT) + (1u << CHUNK_SHIFT);
			continue;
		}
		page_unlock(vm, region, at, page_lock_wait(&region->word[at]), false);
		at++;
	}
}

int region_wipe(struct region *region, uint32_t page, uint32_t count, bool wiped)
{
	_Atomic uint64_t *bits = load_acquire(&region->wiped), *none = NULL;

	if (!bits && !wiped)
		return 0;
	if (!bits) {
		bits = mem_alloc(turned_bytes(region->room));
		if (!bits)
			return -ENOMEM;
		/* Pairs with the acquires here and in page_wiped. */
		if (!cas_acq_rel(&region->wiped, &none, bits)) {
			mem_release(bits, turned_bytes(region->room));
			bits = none;
		}
	}
	bits_assign(bits, page, page + count, wiped);
	return 0;
}

bool page_wiped(const struct region *region, uint32_t page)
{
	const _Atomic uint64_t *bits = load_acquire(&region->wiped);

	return unlikely(bits) && (load_relaxed(&bits[page / 64]) >> (page % 64) & 1);
}

const void *page_source(struct vm *vm, const struct region *region, uint32_t page, void *buffer)
{
	const char *address = page_address(region, page);

	if (likely(page_readable(region, page)))
		return address;
	return vm->self_mem >= 0 && !mem_self_read(vm->self_mem, address, buffer, PAGE_SIZE)
		       ? buffer
		       : NULL;
}
