/* SPDX-License-Identifier: BSD-2-Clause */
/* What a program maps, with a live instance: pages that are unmapped beside a fork wait for its end. Nobody has access to them any more,
 * so that zeroes cannot be written instead. */
#include "unit.h"

#include <pthread.h>
#include <sys/mman.h>

#include "instance.h"
#include "maps.h"
#include "weir/weir.h"

static struct weir *weir;
static char *base;
static _Atomic bool done;

static void *discard_main(void *arg)
{
	(void)arg;
	maps_discard(weir, base, MIB(1));
	store_release(&done, true);
	return NULL;
}

static void a_discard_waits_for_a_fork(void **state)
{
	struct weir_options options = {.size = sizeof(options), .limit = MIB(8)};
	int err = weir_open(&options, &weir);
	pthread_t thread;
	char *other;

	(void)state;
	if (err == -EPERM || err == -ENOSYS)
		skip_because("no permission for userfaultfd, and so no region that can be touched");
	assert_int_equal(err, 0);
	assert_int_equal(weir_region_create(weir, MIB(1), (void **)&other), 0);
	assert_int_equal(maps_create(weir, MIB(1), &base), 0);
	assert_int_equal(mprotect(base, MIB(1), PROT_READ | PROT_WRITE), 0);
	memset(base, 1, MIB(1));
	memset(other, 2, MIB(1));
	maps_readable(weir, base, MIB(1), false);
	assert_int_equal(mprotect(base, MIB(1), PROT_NONE), 0);
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
	assert_int_equal(mprotect(base, MIB(1), PROT_READ | PROT_WRITE), 0);
	maps_readable(weir, base, MIB(1), true);
	for (size_t i = 0; i < MIB(1); i++)
		assert_int_equal(base[i], 0);
	weir_close(weir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_discard_waits_for_a_fork)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
