/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which store there is: one that is taken away gives back all that it has, or tells what it cannot; none at all; and what a URI
 * names.
 */
#include "stores.h"

/* --- removal --- */

static unsigned stored(void)
{
	unsigned n = 0;

	for (uint32_t page = 0; page < w.only->pages; page++)
		n += kind_of(page) == COPY_FILE;
	return n;
}

/* Absent pages come back compressed, resident ones are dirty, batches that were under way have landed; charges follow (world_check). */
static void test_removal_brings_all_back(void **state)
{
	(void)state;
	for (unsigned late = 0; late < 2; late++) {
		start();
		away(0, 300);
		write_pages(&w, 300, 100, TEXT);
		evict_all(&w);
		assert_int_equal(write_all(&w), 400);
		for (uint32_t page = 300; page < 340; page++)
			read_page(&w, page);
		write_pages(&w, 400, 60, TEXT);
		evict_all(&w);
		test_store_plan.late = late;
		assert_int_equal(write_once(), 60);
		assert_true(stored() > 300);
		assert_int_equal(store_empty(&w.reclaim), 0);
		assert_int_equal(stored(), 0);
		assert_int_equal(test_store_pages(), 0);
		assert_int_equal(load_relaxed(&w.store.bytes), 0);
		world_check(&w);
		read_all(460);
		/* And it can be used again. */
		test_store_plan.late = false;
		evict_all(&w);
		assert_true(write_all(&w) > 0);
		end();
	}
}

/* A fork leaves copies behind that their pages have no use for. Named by a word after the store has gone, one would be let go in
 * the next one, where its key is another page's. */
static void test_removal_takes_stale_copies(void **state)
{
	(void)state;
	start();
	write_pages(&w, 0, 40, TEXT);
	evict_all(&w);
	assert_int_equal(write_all(&w), 40);
	w.check_each = false;
	store_relaxed(&w.vm.forking, 1);
	for (uint32_t page = 0; page < 20; page++)
		world_poke(&w, 0, page, 3, page);
	w.lost[0][39] = true;
	test_store_plan.read = READ_FAILS;
	read_page(&w, 39);
	test_store_plan.read = READ_RIGHT;
	store_relaxed(&w.vm.forking, 0);
	assert_int_equal(word_state(word_of(&w, 39)), PAGE_POISONED);
	assert_int_equal(stored(), 40);
	assert_int_equal(store_empty(&w.reclaim), 0);
	assert_int_equal(stored(), 0);
	assert_int_equal(test_store_pages(), 0);
	w.check_each = true;
	world_check(&w);
	read_all(40);
	end();
}

/* They do not fit: it is found out before the first one moves. Room that others can be made to give is room. */
static void test_removal_that_does_not_fit(void **state)
{
	const struct world_options tight = {.max = 256, .pages = {PAGES}, .store = "test:"};
	unsigned before;
	uint64_t charged;

	(void)state;
	test_store_reset();
	world_open(&w, &tight);
	for (uint32_t page = 0; page < 400; page++) {
		write_pages(&w, page, 1, NOISE);
		if (page % 50 == 49) {
			evict_all(&w);
			(void)write_all(&w);
		}
	}
	before = stored();
	assert_int_equal(before, 400);
	charged = container_charged(w.container);
	assert_int_equal(store_empty(&w.reclaim), -ENOMEM);
	world_check(&w);
	assert_int_equal(stored(), before);
	assert_int_equal(container_charged(w.container), charged);
	/* The rest fits only when resident pages are compressed for it. */
	assert_int_equal(world_discard(&w, 0, 0, 300, true), 0);
	write_pages(&w, 0, 140, TEXT);
	assert_int_equal(store_empty(&w.reclaim), 0);
	world_check(&w);
	assert_int_equal(stored(), 0);
	read_all(400);
	world_close(&w);
}

/* Some cannot be read: all others come, those stay, nobody is condemned; when they can be read again the rest comes. */
static void test_removal_with_pages_that_cannot_be_read(void **state)
{
	(void)state;
	for (enum test_store_read how = READ_FAILS; how < READ_KINDS; how++) {
		start();
		away(0, 200);
		assert_int_equal(write_all(&w), 200);
		test_store_plan.read = how;
		test_store_plan.read_every = 7;
		assert_int_equal(store_empty(&w.reclaim), -EIO);
		world_check(&w);
		assert_in_range(stored(), 20, 40);
		assert_int_equal(load_relaxed(&w.vm.count.poisoned), 0);
		test_store_plan.read = READ_RIGHT;
		assert_int_equal(store_empty(&w.reclaim), 0);
		world_check(&w);
		assert_int_equal(stored(), 0);
		read_all(200);
		end();
	}
}

/* The pool has no frame: pages that came stay, the others are where they were. */
static void test_removal_without_frames(void **state)
{
	const struct world_options poor = {
		.pages = {PAGES}, .check_each = true, .store = "test:", .free_frames = 220};

	(void)state;
	test_store_reset();
	world_open(&w, &poor);
	for (uint32_t first = 0; first < 400; first += 100) {
		away(first, 100);
		assert_int_equal(write_all(&w), 100);
	}
	assert_int_equal(store_empty(&w.reclaim), -ENOMEM);
	world_check(&w);
	assert_in_range(stored(), 100, 399);
	read_all(400);
	world_close(&w);
}

/* --- beside faults --- */

/* What other threads do while the background thread reads: one discards a page, to which another one comes meanwhile. */
struct beside {
	uint32_t page;
	unsigned reads;
};

static void fault_beside(void *data)
{
	const struct beside *b = data;

	fake_wait(at(&w, b->page));
	assert_int_equal(world_fault(&w, b->page, ACCESS_READ), PAGEIN_PARKED);
}

static void read_again(void *data)
{
	struct beside *b = data;

	b->reads++;
	assert_false(fake_waiting(at(&w, b->page)));
}

static void discard_beside(void *data)
{
	struct beside *b = data;

	b->reads++;
	/* A thread of the program, which has no userfaultfd. */
	vm_wakes = false;
	fake_meanwhile(FAKE_DISCARD, fault_beside, b);
	assert_int_equal(world_discard(&w, 0, b->page, 1, false), 0);
	assert_true(fake_waiting(at(&w, b->page)));
	vm_wakes = true;
	fake_meanwhile(FAKE_FILE_READ, read_again, b);
}

static int empty_errand(void *data)
{
	(void)data;
	return store_empty(&w.reclaim);
}

/* Of a fault that met a page which such a thread had, the next read of a removal is not waited for, let alone all of them. */
static void test_removal_forgets_no_parked_fault(void **state)
{
	static const struct world_options file = {.pages = {PAGES}};
	struct beside b = {.page = 400};
	struct errand errand = {.fn = empty_errand};

	(void)state;
	test_store_reset();
	world_open(&w, &file);
	away(0, 300);
	assert_int_equal(write_all(&w), 300);
	write_pages(&w, b.page, 1, TEXT);
	fake_meanwhile(FAKE_FILE_READ, discard_beside, &b);
	store_relaxed(&w.reclaim.errand, &errand);
	background_turns(&w, 1);
	assert_int_equal(errand.result, 0);
	assert_int_equal(b.reads, 2);
	assert_int_equal(stored(), 0);
	read_all(PAGES);
	world_close(&w);
}

/* Nor of one, the end of a job that others are at. */
struct quiet {
	unsigned yields;
	uint32_t page;
};

static void job_goes_on(void *data)
{
	struct quiet *q = data;

	switch (q->yields++) {
	case 0:
		fake_wait(at(&w, q->page));
		store_relaxed(&w.vm.wake_all, true);
		break;
	case 1:
		assert_false(fake_waiting(at(&w, q->page)));
		add_relaxed(&w.reclaim.ended, 1);
		store_relaxed(&w.reclaim.state, IDLE);
		break;
	default:
		break;
	}
}

static int quiesce_errand(void *data)
{
	(void)data;
	store_relaxed(&w.reclaim.state, OPEN);
	reclaim_quiesce(&w.reclaim);
	return 0;
}

static void test_quiesce_forgets_no_parked_fault(void **state)
{
	struct quiet q = {.page = 3};
	struct errand errand = {.fn = quiesce_errand};

	(void)state;
	start();
	write_pages(&w, 0, 10, TEXT);
	fake_on_yield(job_goes_on, &q);
	store_relaxed(&w.reclaim.errand, &errand);
	background_turns(&w, 1);
	fake_on_yield(NULL, NULL);
	assert_int_equal(q.yields, 2);
	end();
}

/* --- none --- */

/* mem: nothing leaves memory. Copies of resident pages go when there are too many, and it is not called a failure. */
static void test_no_store(void **state)
{
	const struct world_options nowhere = {
		.pages = {PAGES}, .check_each = true, .store = "mem:"};

	(void)state;
	test_store_reset();
	world_open(&w, &nowhere);
	write_pages(&w, 0, 50, TEXT);
	evict_all(&w);
	read_all(20);
	assert_true(store_failing(&w.reclaim));
	store_relaxed(&w.vm.memory_share, 0);
	background_turns(&w, 5);
	world_check(&w);
	assert_int_equal(load_relaxed(&w.vm.count.written), 0);
	assert_int_equal(load_relaxed(&w.memory.objects), 30);
	assert_false(world_said("failed"));
	store_relaxed(&w.vm.memory_share, UINT64_MAX);
	read_all(50);
	world_close(&w);
}

/* --- URIs --- */

static void test_uris(void **state)
{
	static const struct {
		const char *uri;
		int err;
		uint64_t bytes_max, keep;
		const char *place;
	} cases[] = {
		{"mem:", 0, UINT64_MAX, UINT64_MAX, ""},
		{"mem:x", -EINVAL, 0, 0, NULL},
		{"file:/var/tmp", 0, UINT64_MAX, UINT64_MAX, "/var/tmp"},
		{"file:/var/tmp?size=8G", 0, GIB(8), UINT64_MAX, "/var/tmp"},
		{"file:/x/y?size=1.5M&keep=2G", 0, MIB(1) + KIB(512), GIB(2), "/x/y"},
		{"file:/x/y?size=8G&keep=0", 0, GIB(8), 0, "/x/y"},
		{"file:/x/y", -EINVAL, 0, 0, NULL},
		{"file:/x/y?keep=0", -EINVAL, 0, 0, NULL},
		{"test:a b&c", 0, UINT64_MAX, UINT64_MAX, "a b&c"},
		{"test:?size=1", 0, 1, UINT64_MAX, ""},
		{"file:", -EINVAL, 0, 0, NULL},
		{"file:/x?size=", -EINVAL, 0, 0, NULL},
		{"file:/x?size=0", -EINVAL, 0, 0, NULL},
		{"file:/x?size=8G&", -EINVAL, 0, 0, NULL},
		{"file:/x?size=50%", -EINVAL, 0, 0, NULL},
		{"file:/x?colour=red", -EINVAL, 0, 0, NULL},
		{"file:/x?size=99999999999999999999G", -ERANGE, 0, 0, NULL},
		{"/var/tmp", -EINVAL, 0, 0, NULL},
		{"", -EINVAL, 0, 0, NULL},
		{":", -EINVAL, 0, 0, NULL},
		{"File:/x", -EINVAL, 0, 0, NULL},
		{"nbd://host/export", -ENOSYS, 0, 0, NULL},
		{"rados://pool", -ENOSYS, 0, 0, NULL},
		{"nosuch:", -ENOSYS, 0, 0, NULL},
	};
	static char long_uri[STORE_PLACE_MAX + 16];
	struct store s;

	(void)state;
	test_store_reset();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		if (store_init(&s, cases[i].uri, "/ignored") != cases[i].err)
			fail_msg("%s: %d", cases[i].uri, store_init(&s, cases[i].uri, NULL));
		if (cases[i].err)
			continue;
		assert_int_equal(s.config.bytes_max, cases[i].bytes_max);
		assert_int_equal(s.config.keep_free, cases[i].keep);
		assert_string_equal(s.place, cases[i].place);
		assert_int_equal(store_there(&s), strcmp(cases[i].uri, "mem:") != 0);
	}
	memset(long_uri, 'x', sizeof(long_uri) - 1);
	snprintf(long_uri, 7, "file:/");
	long_uri[6] = 'x';
	assert_int_equal(store_init(&s, long_uri, NULL), -ENAMETOOLONG);
}

static void test_registering(void **state)
{
	static struct weir_store_ops ops;
	struct store s;

	(void)state;
	test_store_reset();
	assert_int_equal(store_init(&s, "test:", NULL), 0);
	ops = *s.ops;
	assert_int_equal(weir_store_register("test", &ops), -EEXIST);
	assert_int_equal(weir_store_register("file", &ops), -EEXIST);
	assert_int_equal(weir_store_register("mem", &ops), -EEXIST);
	assert_int_equal(weir_store_register("x", &ops), -EINVAL);
	assert_int_equal(weir_store_register("Upper", &ops), -EINVAL);
	assert_int_equal(weir_store_register("1st", &ops), -EINVAL);
	assert_int_equal(weir_store_register("asixteenletterxx", &ops), -EINVAL);
	/* A table of the first size has no poll and no share; one that is smaller is none. */
	ops.size = offsetof(struct weir_store_ops, poll);
	assert_int_equal(weir_store_register("older", &ops), 0);
	assert_int_equal(store_init(&s, "older:", NULL), 0);
	ops.size--;
	assert_int_equal(weir_store_register("broken", &ops), -EINVAL);
	ops.size = sizeof(ops);
	ops.bytes = NULL;
	assert_int_equal(weir_store_register("broken", &ops), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_removal_brings_all_back),
		cmocka_unit_test(test_removal_takes_stale_copies),
		cmocka_unit_test(test_removal_that_does_not_fit),
		cmocka_unit_test(test_removal_with_pages_that_cannot_be_read),
		cmocka_unit_test(test_removal_without_frames),
		cmocka_unit_test(test_removal_forgets_no_parked_fault),
		cmocka_unit_test(test_quiesce_forgets_no_parked_fault),
		cmocka_unit_test(test_no_store),
		cmocka_unit_test(test_uris),
		cmocka_unit_test(test_registering),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
