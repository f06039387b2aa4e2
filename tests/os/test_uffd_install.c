/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What userfaultfd's calls do on the real kernel, and what each error means: pages that are installed, and write protection.
 */
#include "uffd_area.h"

/* --- installing --- */

static void test_copy_installs_exactly_the_bytes(void **state)
{
	struct area a = area_open(0, UFFD_MISSING);
	uint64_t seed = test_seed();
	size_t done = 0;

	(void)state;
	random_bytes(&seed, source, sizeof(source));
	assert_int_equal(uffd_copy(a.fd, page_of(a.base, 8), source, 16 * PAGE_SIZE, false, &done),
			 0);
	assert_int_equal(done, 16 * PAGE_SIZE);
	assert_memory_equal(page_of(a.base, 8), source, 16 * PAGE_SIZE);
	for (unsigned page = 0; page < PAGES; page++)
		assert_int_equal(pte_of(page_of(a.base, page)),
				 page >= 8 && page < 24 ? PTE_PRESENT : 0);
	/* Writable: not under protection. */
	page_of(a.base, 9)[0] ^= 1;
	/* done may be NULL. */
	assert_int_equal(uffd_copy(a.fd, a.base, source, PAGE_SIZE, false, NULL), 0);
	area_close(&a);
}

static void test_zeropage_reads_as_zero_and_wakes(void **state)
{
	struct area a = area_open(0, UFFD_MISSING);
	struct toucher t;
	size_t done = 0;

	(void)state;
	touch_start(&t, page_of(a.base, 4), false, 'x');
	next_fault(a.fd, page_of(a.base, 4));
	assert_int_equal(uffd_zeropage(a.fd, page_of(a.base, 2), 4 * PAGE_SIZE, &done), 0);
	assert_int_equal(done, 4 * PAGE_SIZE);
	assert_int_equal(touch_end(&t), 0);
	assert_true(all_bytes_are(page_of(a.base, 2), 0, 4 * PAGE_SIZE));
	page_of(a.base, 3)[5] = 'w';
	assert_int_equal(page_of(a.base, 3)[5], 'w');
	assert_int_equal(pte_of(page_of(a.base, 1)), 0);
	assert_int_equal(pte_of(page_of(a.base, 6)), 0);
	assert_int_equal(uffd_zeropage(a.fd, a.base, PAGE_SIZE, NULL), 0);
	area_close(&a);
}

/* What stopped the call, and how far it had come: the pages before are installed, those behind are not. */
static void test_eexist_says_how_far_it_came(void **state)
{
	(void)state;
	for (unsigned there = 0; there < 6; there++) {
		struct area a = area_open(UFFD_HAS_WRITEPROTECT, UFFD_MISSING | UFFD_WP);
		size_t done = 99;

		put_page(&a, 10 + there, 'o', false);
		assert_int_equal(uffd_copy(a.fd, page_of(a.base, 10), source_of('n'), 6 * PAGE_SIZE,
					   true, &done),
				 -EEXIST);
		assert_int_equal(done, there * PAGE_SIZE);
		put_page(&a, 30 + there, 'o', false);
		assert_int_equal(uffd_zeropage(a.fd, page_of(a.base, 30), 6 * PAGE_SIZE, &done),
				 -EEXIST);
		assert_int_equal(done, there * PAGE_SIZE);
		for (unsigned i = 0; i < 6; i++) {
			assert_int_equal(pte_of(page_of(a.base, 10 + i)),
					 i < there    ? PTE_PRESENT | PTE_PROTECTED
					 : i == there ? PTE_PRESENT
						      : 0);
			assert_int_equal(pte_of(page_of(a.base, 30 + i)),
					 i <= there ? PTE_PRESENT : 0);
			if (i <= there) {
				assert_true(all_bytes_are(page_of(a.base, 10 + i),
							  i < there ? 'n' : 'o', PAGE_SIZE));
				assert_true(all_bytes_are(page_of(a.base, 30 + i),
							  i < there ? 0 : 'o', PAGE_SIZE));
			}
		}
		/* done may be NULL where the call stops, too. */
		assert_int_equal(
			uffd_copy(a.fd, page_of(a.base, 10), source, 6 * PAGE_SIZE, false, NULL),
			-EEXIST);
		area_close(&a);
	}
}

/* -ENOENT: not, or no longer, a range of this userfaultfd. */
static void test_enoent_where_nothing_is_registered(void **state)
{
	struct area a = area_open(UFFD_HAS_WRITEPROTECT, UFFD_MISSING | UFFD_WP);
	char *plain = anonymous(BYTES);
	size_t done = 99;

	(void)state;
	assert_int_equal(uffd_copy(a.fd, plain, source, PAGE_SIZE, false, &done), -ENOENT);
	assert_int_equal(done, 0);
	done = 99;
	assert_true(uffd_zeropage(a.fd, plain, PAGE_SIZE, &done) < 0);
	assert_int_equal(done, 0);
	assert_int_equal(uffd_writeprotect(a.fd, plain, PAGE_SIZE, true), -ENOENT);
	munmap(plain, BYTES);
	assert_int_equal(uffd_copy(a.fd, plain, source, PAGE_SIZE, false, NULL), -ENOENT);
	assert_int_equal(uffd_unregister(a.fd, a.base, BYTES), 0);
	assert_int_equal(uffd_copy(a.fd, a.base, source, PAGE_SIZE, false, NULL), -ENOENT);
	area_close(&a);
}

struct owner {
	char *base;
	int tell[2], hold[2];
};

/* Registers its own memory, says with which descriptor, and lives until told. */
static pid_t owner_start(struct owner *o)
{
	pid_t pid;

	assert_int_equal(pipe2(o->tell, O_CLOEXEC), 0);
	assert_int_equal(pipe2(o->hold, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = uffd_open(0);
		char c, value;

		close(o->hold[1]);
		if (fd < 0 || uffd_register(fd, o->base, BYTES, UFFD_MISSING))
			_exit(1);
		(void)!write(o->tell[1], &fd, sizeof(fd));
		value = *(volatile char *)o->base; /* served by the parent */
		(void)!write(o->tell[1], &value, 1);
		(void)!read(o->hold[0], &c, 1);
		_exit(0);
	}
	close(o->hold[0]);
	close(o->tell[1]);
	return pid;
}

/* A copy of the descriptor works into the process that made it; -ESRCH when that is gone. */
static void test_esrch_when_the_process_is_gone(void **state)
{
	struct owner o = {.base = anonymous(BYTES)};
	pid_t pid = owner_start(&o);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), theirs = -1, fd, status;
	char got = 0;

	(void)state;
	assert_int_equal(read(o.tell[0], &theirs, sizeof(theirs)), sizeof(theirs));
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, theirs, 0);
	assert_true(fd >= 0);
	assert_int_equal(uffd_copy(fd, o.base, source_of('c'), PAGE_SIZE, false, NULL), 0);
	assert_int_equal(read(o.tell[0], &got, 1), 1);
	assert_int_equal(got, 'c');
	assert_int_equal(o.base[0], 0); /* ours is another */
	close(o.hold[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(uffd_copy(fd, o.base + PAGE_SIZE, source, PAGE_SIZE, false, NULL), -ESRCH);
	assert_int_equal(uffd_zeropage(fd, o.base + PAGE_SIZE, PAGE_SIZE, NULL), -ESRCH);
	close(fd);
	close(pidfd);
	close(o.tell[0]);
	munmap(o.base, BYTES);
}

static void *discard_main(void *arg)
{
	struct area *a = arg;

	(void)madvise(page_of(a->base, 32), PAGE_SIZE, MADV_DONTNEED);
	return NULL;
}

/*
 * -EAGAIN while a mapping change waits for its event to be read: returned, not retried. Reading the event, which is no
 * fault (0), lets the change happen and the copy succeed.
 */
static void test_eagain_until_the_event_is_read(void **state)
{
	struct uffd_fault f;
	pthread_t thread;
	struct area a;
	int err;

	(void)state;
	need(UFFD_HAS_EVENT_REMOVE, "EVENT_REMOVE");
	a = area_open(UFFD_HAS_EVENT_REMOVE, UFFD_MISSING);
	put_page(&a, 0, 'a', false);
	assert_int_equal(pthread_create(&thread, NULL, discard_main, &a), 0);
	do {
		size_t done = 99;

		err = uffd_copy(a.fd, a.base, source, PAGE_SIZE, false, &done);
		assert_int_equal(done, 0);
	} while (err == -EEXIST);
	assert_int_equal(err, -EAGAIN);
	assert_int_equal(uffd_zeropage(a.fd, page_of(a.base, 1), PAGE_SIZE, NULL), -EAGAIN);
	assert_int_equal(uffd_read(a.fd, &f, 1), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	put_page(&a, 1, 'b', false);
	area_close(&a);
}

/* --- write protection --- */

/* A page copied in write-protected is read freely; a write waits, says so, and goes on when released. */
static void test_a_protected_copy_faults_at_writes_only(void **state)
{
	struct area a =
		area_open(UFFD_HAS_WRITEPROTECT | UFFD_HAS_THREAD_ID, UFFD_MISSING | UFFD_WP);
	struct uffd_fault f;
	struct toucher t;

	(void)state;
	put_page(&a, 6, 'p', true);
	assert_int_equal(pte_of(page_of(a.base, 6)), PTE_PRESENT | PTE_PROTECTED);
	assert_true(all_bytes_are(page_of(a.base, 6), 'p', PAGE_SIZE));
	touch_start(&t, page_of(a.base, 6) + 100, true, 'W');
	f = next_fault(a.fd, page_of(a.base, 6));
	assert_true(f.wp);
	assert_false(f.minor);
	assert_int_equal(f.tid, load_relaxed(&t.tid));
	assert_false(load_acquire(&t.done));
	assert_int_equal(peek(page_of(a.base, 6) + 100), 'p');
	assert_int_equal(uffd_writeprotect(a.fd, page_of(a.base, 6), PAGE_SIZE, false), 0);
	touch_end(&t);
	assert_int_equal(page_of(a.base, 6)[100], 'W');
	assert_int_equal(page_of(a.base, 6)[99], 'p');
	area_close(&a);
}

/* Protecting a range passes absent pages over: they fault as missing, and come in as they are installed. */
static void test_protecting_passes_absent_pages_over(void **state)
{
	struct area a = area_open(UFFD_HAS_WRITEPROTECT, UFFD_MISSING | UFFD_WP);
	struct uffd_fault f;
	struct toucher t;

	(void)state;
	put_page(&a, 1, 'a', false);
	put_page(&a, 3, 'c', false);
	assert_int_equal(uffd_writeprotect(a.fd, a.base, 4 * PAGE_SIZE, true), 0);
	assert_int_equal(pte_of(page_of(a.base, 1)), PTE_PRESENT | PTE_PROTECTED);
	assert_int_equal(pte_of(page_of(a.base, 3)), PTE_PRESENT | PTE_PROTECTED);
	touch_start(&t, page_of(a.base, 2), true, 'x');
	f = next_fault(a.fd, page_of(a.base, 2));
	assert_true(f.write);
	assert_false(f.wp);
	put_page(&a, 2, 'b', false);
	touch_end(&t);
	/* Released, and protected again: the contents stay. */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(uffd_writeprotect(a.fd, a.base, 4 * PAGE_SIZE, false), 0);
		assert_int_equal(pte_of(page_of(a.base, 1)), PTE_PRESENT);
		page_of(a.base, 1)[0] = (char)i;
		assert_int_equal(uffd_writeprotect(a.fd, a.base, 4 * PAGE_SIZE, true), 0);
		assert_int_equal(page_of(a.base, 1)[0], i);
		assert_true(all_bytes_are(page_of(a.base, 3), 'c', PAGE_SIZE));
	}
	area_close(&a);
}

/* --- everything at random against an oracle --- */

struct oracle {
	struct area a;
	struct {
		bool present, protected;
		char fill;
	} page[PAGES];
	uint64_t seed;
};

static void oracle_install(struct oracle *o, unsigned first, unsigned count, bool zero)
{
	char fill = random_char(&o->seed, 1);
	bool protected = !zero && random_chance(&o->seed, 2);
	unsigned free = 0;
	size_t done = 99;
	int err;

	if (zero)
		fill = 0;
	while (free < count && !o->page[first + free].present)
		free++;
	err = zero ? uffd_zeropage(o->a.fd, page_of(o->a.base, first), count * PAGE_SIZE, &done)
		   : uffd_copy(o->a.fd, page_of(o->a.base, first), source_of(fill),
			       count * PAGE_SIZE, protected, &done);
	assert_int_equal(err, free < count ? -EEXIST : 0);
	assert_int_equal(done, free * PAGE_SIZE);
	for (unsigned i = first; i < first + free; i++) {
		o->page[i].present = true;
		o->page[i].protected = protected;
		o->page[i].fill = fill;
	}
}

static void oracle_protect(struct oracle *o, unsigned first, unsigned count, bool protect)
{
	assert_int_equal(
		uffd_writeprotect(o->a.fd, page_of(o->a.base, first), count * PAGE_SIZE, protect),
		0);
	for (unsigned i = first; i < first + count; i++) {
		if (o->page[i].present)
			o->page[i].protected = protect;
	}
}

static void oracle_drop(struct oracle *o, unsigned first, unsigned count)
{
	assert_int_equal(madvise(page_of(o->a.base, first), count * PAGE_SIZE, MADV_DONTNEED), 0);
	for (unsigned i = first; i < first + count; i++)
		o->page[i].present = o->page[i].protected = false;
}

static void oracle_write(struct oracle *o, unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++) {
		if (!o->page[i].present || o->page[i].protected)
			continue;
		o->page[i].fill = (char)random_next(&o->seed);
		memset(page_of(o->a.base, i), o->page[i].fill, PAGE_SIZE);
	}
}

static void oracle_compare(struct oracle *o)
{
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(pte_of(page_of(o->a.base, i)),
				 (o->page[i].present ? PTE_PRESENT : 0) |
					 (o->page[i].protected ? PTE_PROTECTED : 0));
		if (o->page[i].present)
			assert_true(
				all_bytes_are(page_of(o->a.base, i), o->page[i].fill, PAGE_SIZE));
	}
}

/* Present, protected, contents, and what each call answers are as predicted, after every call. */
static void test_random_calls_against_an_oracle(void **state)
{
	struct oracle o = {
		.a = area_open(UFFD_HAS_WRITEPROTECT, UFFD_MISSING | UFFD_WP),
		.seed = test_seed(),
	};

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		unsigned first = random_below(&o.seed, PAGES);
		unsigned count = 1 + random_below(&o.seed, MIN(16u, PAGES - first));

		switch (random_below(&o.seed, 6)) {
		case 0:
		case 1:
			oracle_install(&o, first, count, false);
			break;
		case 2:
			oracle_install(&o, first, count, true);
			break;
		case 3:
			oracle_protect(&o, first, count, random_chance(&o.seed, 2));
			break;
		case 4:
			oracle_drop(&o, first, count);
			break;
		default:
			oracle_write(&o, first, count);
			break;
		}
		if (i % 20 == 0)
			oracle_compare(&o);
	}
	oracle_compare(&o);
	area_close(&o.a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copy_installs_exactly_the_bytes),
		cmocka_unit_test(test_zeropage_reads_as_zero_and_wakes),
		cmocka_unit_test(test_eexist_says_how_far_it_came),
		cmocka_unit_test(test_enoent_where_nothing_is_registered),
		cmocka_unit_test(test_esrch_when_the_process_is_gone),
		cmocka_unit_test(test_eagain_until_the_event_is_read),
		cmocka_unit_test(test_a_protected_copy_faults_at_writes_only),
		cmocka_unit_test(test_protecting_passes_absent_pages_over),
		cmocka_unit_test(test_random_calls_against_an_oracle),
	};

	uffd_probe_or_skip();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
