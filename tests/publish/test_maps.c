/* SPDX-License-Identifier: BSD-2-Clause */
/* What a program maps, with a live instance: pages that are unmapped beside a fork wait for its end. Nobody has access to them any more,
 * so that zeroes cannot be written instead. And nothing is left of them where a read past the page cache has pages pinned. */
#include "unit.h"

#include <pthread.h>
#include <sys/mman.h>

#include "instance.h"
#include "maps.h"
#include "weir/weir.h"

/* More than one window of a discard (2 MiB). */
#define BYTES MIB(5)

static struct weir *weir;
static char *base;
static _Atomic bool done;

static void *discard_main(void *arg)
{
	(void)arg;
	(void)maps_discard(weir, base, BYTES);
	store_release(&done, true);
	return NULL;
}

/* Has the program access to what it maps? */
static void access_set(bool access)
{
	if (!access)
		maps_readable(weir, base, BYTES, false);
	assert_int_equal(mprotect(base, BYTES, access ? PROT_READ | PROT_WRITE : PROT_NONE), 0);
	if (access)
		maps_readable(weir, base, BYTES, true);
}

static void open_and_map(void)
{
	struct weir_options options = {.size = sizeof(options), .limit = MIB(8)};
	int err = weir_open(&options, &weir);

	if (err == -EPERM || err == -ENOSYS)
		skip_because("no permission for userfaultfd, and so no region that can be touched");
	assert_int_equal(err, 0);
	assert_int_equal(maps_create(weir, BYTES, &base), 0);
	access_set(true);
	memset(base, 1, BYTES);
}

static void assert_zeroes(void)
{
	for (size_t i = 0; i < BYTES; i++)
		assert_int_equal(base[i], 0);
}

static void a_discard_waits_for_a_fork(void **state)
{
	pthread_t thread;
	char *other;

	(void)state;
	open_and_map();
	assert_int_equal(weir_region_create(weir, MIB(1), (void **)&other), 0);
	memset(other, 2, MIB(1));
	access_set(false);
	add_relaxed(&weir->vm.forking, 1);
	assert_int_equal(pthread_create(&thread, NULL, discard_main, NULL), 0);
	/* These have no patience: as long as they take, twice, the other one would have taken. */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(weir_region_discard(weir, other, MIB(1)), 0);
		assert_int_equal(other[MIB(1) - 1], 0);
	}
	assert_false(load_acquire(&done));
	sub_relaxed(&weir->vm.forking, 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(load_acquire(&done));
	access_set(true);
	assert_zeroes();
	weir_close(weir);
}

/* A mapping goes while another thread reads into it past the page cache: the next one there is zero, all of it. */
static void a_discard_takes_pinned_pages_along(void **state)
{
	(void)state;
	open_and_map();
	assert_int_equal(weir_region_pin(weir, base + MIB(1), PAGE_SIZE, 1), 0);
	access_set(false);
	assert_int_equal(maps_discard(weir, base, BYTES), 0);
	access_set(true);
	assert_zeroes();
	/* The read ends, when somebody else uses the place already. */
	base[MIB(1)] = 5;
	assert_int_equal(weir_region_unpin(weir, base + MIB(1), PAGE_SIZE), 0);
	assert_int_equal(base[MIB(1)], 5);
	weir_close(weir);
}

/* And MADV_DONTNEED is not refused for it. */
static void advice_takes_pinned_pages_along(void **state)
{
	(void)state;
	open_and_map();
	assert_int_equal(weir_region_pin(weir, base + MIB(1), PAGE_SIZE, 1), 0);
	assert_int_equal(weir_region_discard(weir, base, BYTES), -EBUSY);
	assert_int_equal(maps_advise_dontneed(weir, base, BYTES), 0);
	assert_zeroes();
	assert_int_equal(weir_region_unpin(weir, base + MIB(1), PAGE_SIZE), 0);
	weir_close(weir);
}

/* What another thread has just unmapped cannot be pinned, and nobody gets a signal: neither where pages are there, nor where none are. */
static void what_has_no_access_is_not_pinned(void **state)
{
	(void)state;
	open_and_map();
	if (mem_populate(base, 0, true)) {
		weir_close(weir);
		skip_because("a kernel without MADV_POPULATE_WRITE");
	}
	access_set(false);
	assert_int_equal(weir_region_pin(weir, base, MIB(1), 1), -EFAULT);
	(void)maps_discard(weir, base, BYTES);
	assert_int_equal(weir_region_pin(weir, base, MIB(1), 1), -EFAULT);
	assert_int_equal(weir_region_pin(weir, base, MIB(1), 0), -EFAULT);
	access_set(true);
	assert_zeroes();
	/* No pin is left. */
	assert_int_equal(weir_region_discard(weir, base, BYTES), 0);
	weir_close(weir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_discard_waits_for_a_fork),
		cmocka_unit_test(a_discard_takes_pinned_pages_along),
		cmocka_unit_test(advice_takes_pinned_pages_along),
		cmocka_unit_test(what_has_no_access_is_not_pinned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
