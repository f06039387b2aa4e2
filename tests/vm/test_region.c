/* SPDX-License-Identifier: BSD-2-Clause */
/* Regions: made, found, adopted, hidden, destroyed. */
#include "world.h"

#include <sys/mman.h>

static struct world w;
static const struct world_options plain = {.pages = {16}};

static void test_create_refuses_what_is_no_region(void **state)
{
	struct region *region = NULL;
	uint64_t charged;

	(void)state;
	world_open(&w, &plain);
	charged = container_charged(w.container);
	assert_int_equal(region_create(&w.vm, w.container, NULL, 0, NULL, &region), -EINVAL);
	assert_int_equal(region_create(&w.vm, w.container, NULL, PAGE_SIZE + 1, NULL, &region),
			 -EINVAL);
	assert_int_equal(region_create(&w.vm, w.container, (void *)(PAGE_SIZE / 2), PAGE_SIZE, NULL,
				       &region),
			 -EINVAL);
	assert_int_equal(region_create(&w.vm, w.container, NULL, (size_t)UINT32_MAX << PAGE_SHIFT,
				       NULL, &region),
			 -EINVAL);
	assert_null(region);
	assert_int_equal(load_relaxed(&w.vm.regions), 1);
	assert_int_equal(container_charged(w.container), charged);
	world_close(&w);
}

/* Whatever allocation fails: -ENOMEM, and nothing is left behind. */
static void test_create_without_memory(void **state)
{
	struct region *region = NULL;
	unsigned n;

	(void)state;
	world_open(&w, &plain);
	for (n = 1; n < 10; n++) {
		int err;

		fake_fail(FAKE_ALLOC, n, 0, -ENOMEM);
		err = region_create(&w.vm, w.container, NULL, 16 * PAGE_SIZE, NULL, &region);
		if (!err)
			break;
		assert_int_equal(err, -ENOMEM);
		assert_null(region);
		assert_int_equal(load_relaxed(&w.vm.regions), 1);
	}
	/* The region with its tables, and its addresses. */
	assert_int_equal(n, 3);
	assert_int_equal(fake_calm(), 1);
	region_hide(&w.vm, region);
	region_destroy(&w.vm, region);
	world_close(&w);
}

static void test_fresh_region(void **state)
{
	struct region *region;

	(void)state;
	world_open(&w, &plain);
	assert_int_equal(region_create(&w.vm, w.container, NULL, 3 * PAGE_SIZE, NULL, &region), 0);
	assert_int_equal(region->pages, 3);
	assert_int_equal((uintptr_t)region->base % MIB(2), 0);
	for (uint32_t page = 0; page < 3; page++)
		assert_true(load_relaxed(&region->word[page]) == PAGE_NONE);
	assert_int_equal(load_relaxed(&region->top), 0);
	region_hide(&w.vm, region);
	region_destroy(&w.vm, region);
	world_close(&w);
}

static void test_find_by_address(void **state)
{
	const struct world_options three = {.pages = {16, 1, 300}};

	(void)state;
	world_open(&w, &three);
	for (unsigned i = 0; i < 3; i++) {
		uintptr_t base = (uintptr_t)w.region[i]->base,
			  end = base + ((size_t)w.region[i]->pages << PAGE_SHIFT);

		assert_ptr_equal(vm_find(&w.vm, base), w.region[i]);
		assert_ptr_equal(vm_find(&w.vm, end - 1), w.region[i]);
		assert_ptr_not_equal(vm_find(&w.vm, base - 1), w.region[i]);
		assert_ptr_not_equal(vm_find(&w.vm, end), w.region[i]);
	}
	assert_null(vm_find(&w.vm, 0));
	assert_null(vm_find(&w.vm, UINTPTR_MAX));
	world_close(&w);
}

/* A hidden region is not found; its slot is the next one's. */
static void test_slots_are_used_again(void **state)
{
	static struct region *region[REGIONS_MAX];
	struct region *more;

	(void)state;
	world_open(&w, &plain);
	for (unsigned i = 1; i < REGIONS_MAX; i++)
		assert_int_equal(
			region_create(&w.vm, w.container, NULL, PAGE_SIZE, NULL, &region[i]), 0);
	assert_int_equal(region_create(&w.vm, w.container, NULL, PAGE_SIZE, NULL, &more), -ENOSPC);
	assert_int_equal(load_relaxed(&w.vm.regions), REGIONS_MAX);
	region_hide(&w.vm, region[500]);
	assert_null(vm_find(&w.vm, (uintptr_t)region[500]->base));
	region_destroy(&w.vm, region[500]);
	assert_int_equal(region_create(&w.vm, w.container, NULL, PAGE_SIZE, NULL, &region[500]), 0);
	assert_int_equal(load_relaxed(&w.vm.regions), REGIONS_MAX);
	assert_ptr_equal(vm_find(&w.vm, (uintptr_t)region[500]->base), region[500]);
	for (unsigned i = 1; i < REGIONS_MAX; i++) {
		region_hide(&w.vm, region[i]);
		region_destroy(&w.vm, region[i]);
	}
	world_close(&w);
}

/* --- memory that is there --- */

enum { ADOPTED = 700 };

static char *some_memory(void)
{
	char *addr = mmap(NULL, (size_t)ADOPTED << PAGE_SHIFT, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(addr != MAP_FAILED);
	assert_int_equal(madvise(addr, (size_t)ADOPTED << PAGE_SHIFT, MADV_NOHUGEPAGE), 0);
	for (uint32_t page = 0; page < ADOPTED; page += 3)
		fill_text(addr + ((size_t)page << PAGE_SHIFT), page);
	return addr;
}

static void test_adopted_pages_are_dirty_and_charged(void **state)
{
	char *addr;

	(void)state;
	world_open(&w, &plain);
	addr = some_memory();
	w.regions = 2;
	assert_int_equal(region_create(&w.vm, w.container, addr, (size_t)ADOPTED << PAGE_SHIFT,
				       NULL, &w.region[1]),
			 0);
	assert_ptr_equal(w.region[1]->base, addr);
	w.content[1] = mem_alloc((size_t)ADOPTED << PAGE_SHIFT);
	w.lost[1] = mem_alloc(ALIGN_UP(ADOPTED * sizeof(bool), PAGE_SIZE));
	for (uint32_t page = 0; page < ADOPTED; page += 3)
		memcpy(content_of(&w, 1, page), page_address(w.region[1], page), PAGE_SIZE);
	assert_int_equal(region_register(w.region[1]), 0);
	world_check(&w);
	assert_int_equal(resident(&w), ADOPTED / 3 + 1);
	assert_int_equal(load_relaxed(&w.region[1]->top), ADOPTED);
	for (uint32_t page = 0; page < ADOPTED; page++)
		assert_true(word_at(&w, 1, page) == (page % 3 ? PAGE_NONE : PAGE_DIRTY));
	/* From now on they are pages like any other. */
	while (resident(&w))
		assert_true(evict_all(&w) > 0);
	for (uint32_t page = 0; page < ADOPTED; page++)
		world_read(&w, 1, page);
	world_close(&w);
	/* The memory was not the region's to unmap. */
	assert_int_equal(madvise(addr, PAGE_SIZE, MADV_DONTNEED), 0);
	munmap(addr, (size_t)ADOPTED << PAGE_SHIFT);
}

static void test_register_that_fails(void **state)
{
	struct region *region;
	char *addr;

	(void)state;
	world_open(&w, &plain);
	addr = some_memory();
	assert_int_equal(region_create(&w.vm, w.container, addr, (size_t)ADOPTED << PAGE_SHIFT,
				       NULL, &region),
			 0);
	fake_fail(FAKE_REGISTER, 1, 0, -EBUSY);
	assert_int_equal(region_register(region), -EBUSY);
	assert_int_equal(resident(&w), 0);
	fake_fail(FAKE_RESIDENT, 1, 0, -EAGAIN);
	assert_int_equal(region_register(region), -EAGAIN);
	region_hide(&w.vm, region);
	assert_int_equal(uffd_unregister(w.vm.uffd, addr, (size_t)ADOPTED << PAGE_SHIFT), 0);
	region_destroy(&w.vm, region);
	munmap(addr, (size_t)ADOPTED << PAGE_SHIFT);
	world_close(&w);
}

/* --- the end --- */

/* Destroying gives back what pages of every kind were charged, and their copies. world_close sees that nothing is left. */
static void test_destroy_uncharges_everything(void **state)
{
	const struct world_options two = {.pages = {64, 64}};

	(void)state;
	world_open(&w, &two);
	write_pages(&w, 0, 40, NOISE);
	evict_all(&w);
	write_all(&w);
	write_pages(&w, 40, 24, TEXT);
	evict_all(&w);
	for (uint32_t page = 0; page < 64; page += 2)
		read_page(&w, page);
	for (uint32_t page = 0; page < 64; page += 4)
		world_poke(&w, 0, page, 0, page);
	world_poke(&w, 1, 63, 0, 1);
	world_check(&w);
	assert_true(resident(&w) > 30 && compressed(&w) > 0 && load_relaxed(&w.store.bytes) > 0);
	world_close(&w);
}

/* The clock of stamps counts in 512ths of the limit, and wraps in its 15 bits. */
static void test_clock_of_stamps(void **state)
{
	(void)state;
	world_open(&w, &plain);
	container_set_max(w.container, MIB(64));
	assert_int_equal(vm_clock(w.container), 0);
	store_relaxed(&tenant_of(w.container)->evictions, 31);
	assert_int_equal(vm_clock(w.container), 0);
	store_relaxed(&tenant_of(w.container)->evictions, 32);
	assert_int_equal(vm_clock(w.container), 1);
	store_relaxed(&tenant_of(w.container)->evictions, 16384);
	assert_int_equal(vm_clock(w.container), 512);
	store_relaxed(&tenant_of(w.container)->evictions, 32ull * 32768 + 64);
	assert_int_equal(vm_clock(w.container), 2);
	/* A limit of less than 512 pages: single evictions. */
	container_set_max(w.container, MIB(1));
	store_relaxed(&tenant_of(w.container)->evictions, 9);
	assert_int_equal(vm_clock(w.container), 9);
	store_relaxed(&tenant_of(w.container)->evictions, 0);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_refuses_what_is_no_region),
		cmocka_unit_test(test_create_without_memory),
		cmocka_unit_test(test_fresh_region),
		cmocka_unit_test(test_find_by_address),
		cmocka_unit_test(test_slots_are_used_again),
		cmocka_unit_test(test_adopted_pages_are_dirty_and_charged),
		cmocka_unit_test(test_register_that_fails),
		cmocka_unit_test(test_destroy_uncharges_everything),
		cmocka_unit_test(test_clock_of_stamps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
