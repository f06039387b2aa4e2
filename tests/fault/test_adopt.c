/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Adopting memory beside threads that give pages of it back. The linker gives the test the look at what is in memory, and the waiting of
 * who discards: so the one is always between that look and what is made of it when the other one comes.
 */
#include "../unit.h"

#include <pthread.h>

#include "base/atomic.h"
#include "base/waitq.h"
#include "weir/weir.h"

enum { PAGES = 64, GIVEN_BACK = 5 };

static struct weir *weir;
static char *memory;

/* --- who is where --- */

enum { FREELY, STOP, LOOKED, GO_ON };
static _Atomic uint32_t stage;
static _Thread_local bool discards;

static void stage_set(uint32_t now)
{
	store_release(&stage, now);
	(void)futex_wake(&stage, INT32_MAX);
}

static void stage_wait(uint32_t until)
{
	uint32_t now;

	while ((now = load_acquire(&stage)) != until)
		(void)futex_wait(&stage, now, 0);
}

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker's names */
int __real_mem_resident(void *addr, size_t bytes, uint8_t *resident);
int __wrap_mem_resident(void *addr, size_t bytes, uint8_t *resident);
int __wrap_mem_resident(void *addr, size_t bytes, uint8_t *resident)
{
	int err = __real_mem_resident(addr, bytes, resident);

	if (load_relaxed(&stage) == STOP) {
		stage_set(LOOKED);
		stage_wait(GO_ON);
	}
	return err;
}

void __real_wait_a_little(unsigned *steps);
void __wrap_wait_a_little(unsigned *steps);
void __wrap_wait_a_little(unsigned *steps)
{
	if (discards)
		stage_set(GO_ON);
	__real_wait_a_little(steps);
}
/* NOLINTEND(bugprone-reserved-identifier) */

static void *adopter(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)weir_region_adopt(weir, memory, (uint64_t)PAGES << PAGE_SHIFT);
}

static char *page_at(unsigned page)
{
	return memory + ((size_t)page << PAGE_SHIFT);
}

/* weir reads pages in threads of its own, ordered by the kernel only. */
NO_TSAN static void assert_page(unsigned page, char value)
{
	for (unsigned i = 0; i < PAGE_SIZE; i++) {
		if (((volatile char *)page_at(page))[i] != value)
			fail_msg("page %u has %#x, not %#x", page,
				 (unsigned)((volatile char *)page_at(page))[i], (unsigned)value);
	}
}

NO_TSAN static void pages_write(void)
{
	for (size_t i = 0; i < (size_t)PAGES << PAGE_SHIFT; i++)
		((volatile char *)memory)[i] = 0x5a;
}

static void open_with(const struct weir_options *options)
{
	int err = weir_open(options, &weir);

	if (err == -EPERM || err == -ENOSYS)
		skip_because("userfaultfd: %s", weir_advice(err));
	assert_int_equal(err, 0);
	memory = mmap(NULL, (size_t)PAGES << PAGE_SHIFT, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	pages_write();
}

static void open_mode(enum weir_mode how)
{
	const struct weir_options options = {
		.size = sizeof(options), .limit = 64 << 20, .mode = how, .store = "mem:"};

	open_with(&options);
}

static void close_mode(void)
{
	weir_close(weir);
	assert_int_equal(munmap(memory, (size_t)PAGES << PAGE_SHIFT), 0);
}

/* Adopts; give_back is called when it has looked at what there is, and not yet made anything of it. */
static void adopt_beside(void (*give_back)(void))
{
	pthread_t thread;
	void *result;

	stage_set(STOP);
	assert_int_equal(pthread_create(&thread, NULL, adopter, NULL), 0);
	stage_wait(LOOKED);
	give_back();
	stage_set(GO_ON);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_int_equal((intptr_t)result, 0);
	stage_set(FREELY);
}

/* --- discarded: zeroes --- */

static void discard(void)
{
	discards = true;
	assert_int_equal(weir_region_discard(weir, page_at(GIVEN_BACK), PAGE_SIZE), 0);
	discards = false;
}

static void advise(void)
{
	discards = true;
	assert_int_equal(
		weir_region_advise(weir, page_at(GIVEN_BACK), PAGE_SIZE, WEIR_ADVICE_DONTNEED), 0);
	discards = false;
}

static void test_discard_beside_adoption(void **state)
{
	static void (*const ways[])(void) = {discard, advise};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
		open_mode(WEIR_MODE_THREAD);
		adopt_beside(ways[i]);
		for (unsigned page = 0; page < PAGES; page++)
			assert_page(page, page == GIVEN_BACK ? 0 : 0x5a);
		close_mode();
	}
}

/* --- given back by a bare madvise: a word says that there is a page, and there is none --- */

static void give_back(void)
{
	assert_int_equal(madvise(page_at(GIVEN_BACK), PAGE_SIZE, MADV_DONTNEED), 0);
}

/* What a job reads is given back just before; it goes on nevertheless, and what is written to the page once it has is not lost. */
static _Atomic(char *) vanishes;
static _Atomic bool written;

NO_TSAN static void written_while_read(char *at)
{
	at[PAGE_SIZE - 1] = 0x77;
}

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker's names */
bool __real_page_same_filled(const void *src, uint32_t *word);
bool __wrap_page_same_filled(const void *src, uint32_t *word);
bool __wrap_page_same_filled(const void *src, uint32_t *word)
{
	char *at = load_relaxed(&vanishes);
	bool same;

	if (src != at)
		return __real_page_same_filled(src, word);
	store_relaxed(&vanishes, NULL);
	(void)madvise(at, PAGE_SIZE, MADV_DONTNEED);
	same = __real_page_same_filled(src, word);
	/* No thread of the program would fault. */
	written_while_read(at);
	store_relaxed(&written, true);
	return same;
}
/* NOLINTEND(bugprone-reserved-identifier) */

static void reclaim_all(void)
{
	(void)weir_container_reclaim(weir_container_root(weir), 1 << 30);
}

static void test_pages_given_back_beside_adoption(void **state)
{
	(void)state;
	open_mode(WEIR_MODE_THREAD);
	adopt_beside(give_back);
	reclaim_all();
	for (unsigned page = 0; page < PAGES; page++)
		assert_page(page, page == GIVEN_BACK ? 0 : 0x5a);
	close_mode();
}

/* The only handler is the one that needs room, and takes pages for it. */
static void test_pages_given_back_and_one_handler(void **state)
{
	enum { MORE = 2000 };
	const struct weir_options options = {
		.size = sizeof(options), .limit = 2 << 20, .handlers = 1, .store = "mem:"};
	void *base;

	(void)state;
	open_with(&options);
	adopt_beside(give_back);
	assert_int_equal(weir_region_create(weir, (uint64_t)MORE << PAGE_SHIFT, &base), 0);
	for (unsigned page = 0; page < MORE; page++)
		((volatile char *)base)[(size_t)page << PAGE_SHIFT] = 1;
	for (unsigned page = 0; page < PAGES; page++)
		assert_page(page, page == GIVEN_BACK ? 0 : 0x5a);
	close_mode();
}

static void test_page_given_back_while_a_job_reads_it(void **state)
{
	static const enum weir_mode modes[] = {WEIR_MODE_THREAD};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		open_mode(modes[i]);
		assert_int_equal(weir_region_adopt(weir, memory, (uint64_t)PAGES << PAGE_SHIFT), 0);
		store_relaxed(&written, false);
		store_relaxed(&vanishes, page_at(GIVEN_BACK));
		reclaim_all();
		assert_true(load_relaxed(&written));
		reclaim_all();
		assert_int_equal(page_at(GIVEN_BACK)[PAGE_SIZE - 1], 0x77);
		assert_int_equal(page_at(GIVEN_BACK)[0], 0);
		close_mode();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_discard_beside_adoption),
		cmocka_unit_test(test_pages_given_back_beside_adoption),
		cmocka_unit_test(test_pages_given_back_and_one_handler),
		cmocka_unit_test(test_page_given_back_while_a_job_reads_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
