/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a thread of the program has in its hands inside weir_file_read and weir_file_write, on the real kernel. The linker gives the test
 * some of weir's functions first, so that it looks where others would have to come at the wrong moment.
 */
#include "../unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "instance.h"
#include "vm/file_page.h"
#include "weir/weir.h"

enum { PAGES = 600 };

static struct weir *weir;
static struct weir_file *file;
static unsigned char bytes[PAGES * PAGE_SIZE];

/* Of a thread that is in one of the functions. */
static _Thread_local bool inside;
static unsigned asked, interruptible;

static void look_at_signals(void)
{
	sigset_t blocked;

	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &blocked), 0);
	interruptible += !sigismember(&blocked, SIGUSR1);
}

/* Within place_add. */
bool __real_waitq_active(struct waitq *queue);
bool __wrap_waitq_active(struct waitq *queue);
bool __wrap_waitq_active(struct waitq *queue)
{
	if (inside) {
		asked++;
		look_at_signals();
	}
	return __real_waitq_active(queue);
}

/* With the lock of a queue, if it is waitq.c that calls. */
int __real_futex_wake(_Atomic uint32_t *word, int count);
int __wrap_futex_wake(_Atomic uint32_t *word, int count);
int __wrap_futex_wake(_Atomic uint32_t *word, int count)
{
	if (inside)
		look_at_signals();
	return __real_futex_wake(word, count);
}

/* Who waits until nobody has a container any more waits for visitors. */
static _Thread_local unsigned visits;

unsigned __real_instance_visit(struct weir *of);
unsigned __wrap_instance_visit(struct weir *of);
unsigned __wrap_instance_visit(struct weir *of)
{
	visits++;
	return __real_instance_visit(of);
}

void __real_instance_leave(struct weir *of, unsigned turn);
void __wrap_instance_leave(struct weir *of, unsigned turn);
void __wrap_instance_leave(struct weir *of, unsigned turn)
{
	visits--;
	__real_instance_leave(of, turn);
}

/* Looks into the container. */
static unsigned looked, unseen;

uint32_t __real_flow_most(const struct file_object *f, unsigned slot);
uint32_t __wrap_flow_most(const struct file_object *f, unsigned slot);
uint32_t __wrap_flow_most(const struct file_object *f, unsigned slot)
{
	if (inside) {
		looked++;
		unseen += !visits;
	}
	return __real_flow_most(f, slot);
}

/* With the page's lock, if a thread of the program copies. */
static unsigned copied;

bool __real_cache_copy(struct file_object *f, uint32_t page, uint32_t at, void *to, uint32_t count,
		       bool in);
bool __wrap_cache_copy(struct file_object *f, uint32_t page, uint32_t at, void *to, uint32_t count,
		       bool in);
bool __wrap_cache_copy(struct file_object *f, uint32_t page, uint32_t at, void *to, uint32_t count,
		       bool in)
{
	copied += inside;
	return __real_cache_copy(f, page, at, to, count, in);
}

static void begin(struct weir_container *container)
{
	char path[64];
	int fd, err;

	(void)snprintf(path, sizeof(path), "/var/tmp/weir-callers-%d", (int)getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	for (uint32_t page = 0; page < PAGES; page++)
		memset(bytes + page * PAGE_SIZE, (int)(page % 251 + 1), PAGE_SIZE);
	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	close(fd);
	memset(bytes, 0, sizeof(bytes));
	asked = interruptible = looked = unseen = copied = 0;
	err = weir_file_open(container, path, WEIR_FILE_WRITE, &file);
	unlink(path);
	if (err == -EOPNOTSUPP) {
		print_message("skipped: no minor faults of shared memory here\n");
		exit(EXIT_SKIP);
	}
	assert_int_equal(err, 0);
}

static void read_page(uint32_t page)
{
	inside = true;
	assert_int_equal(weir_file_read(file, bytes, PAGE_SIZE, page * PAGE_SIZE), PAGE_SIZE);
	inside = false;
	assert_true(all_bytes_are(bytes, (char)(page % 251 + 1), PAGE_SIZE));
}

/* A handler of signals that touches a region may have its fault served by a thread that asks the crew, too: no signal comes while a
 * thread of the program has the locks for that. */
static void test_signals(void **state)
{
	(void)state;
	begin(weir_container_root(weir));
	/* By the crew, which is asked to read ahead as well; then from the cache. */
	for (uint32_t page = 0; page < PAGES; page++)
		read_page(page);
	inside = true;
	assert_int_equal(weir_file_write(file, bytes, sizeof(bytes), 0), sizeof(bytes));
	assert_int_equal(weir_file_sync(file), 0);
	inside = false;
	assert_true(asked > 0);
	assert_int_equal(interruptible, 0);
	assert_int_equal(weir_file_close(file), 0);
}

/* The container that a file was opened for may be deleted at any moment: who looks into it is waited for. */
static void test_container(void **state)
{
	struct weir_container *container;

	(void)state;
	assert_int_equal(weir_container_create(weir_container_root(weir), "some", &container), 0);
	begin(container);
	for (uint32_t page = 0; page < 10; page++)
		read_page(page);
	memset(bytes, 1, PAGE_SIZE);
	inside = true;
	assert_int_equal(weir_file_write(file, bytes, PAGE_SIZE, 0), PAGE_SIZE);
	inside = false;
	assert_true(looked >= 11);
	assert_int_equal(unseen, 0);
	assert_int_equal(weir_container_delete(container), 0);
	read_page(0);
	assert_int_equal(weir_file_close(file), 0);
}

static void *read_some(void *data)
{
	for (uint32_t page = 0; page < 10; page++)
		read_page(page);
	return data;
}

/* A thread whose stack lies in a region holds no page's lock: its stack is used then, and a page of it may have to come in first. */
static void test_stack(void **state)
{
	enum { STACK = 1 << 20 };
	pthread_attr_t attributes;
	pthread_t thread;
	void *stack;

	(void)state;
	begin(weir_container_root(weir));
	/* What the crew has read, others copy themselves. */
	(void)read_some(NULL);
	copied = 0;
	(void)read_some(NULL);
	assert_int_equal(copied, 10);
	copied = 0;
	assert_int_equal(weir_region_create(weir, STACK, &stack), 0);
	assert_int_equal(pthread_attr_init(&attributes), 0);
	assert_int_equal(pthread_attr_setstack(&attributes, stack, STACK), 0);
	assert_int_equal(pthread_create(&thread, &attributes, read_some, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(copied, 0);
	assert_int_equal(pthread_attr_destroy(&attributes), 0);
	assert_int_equal(weir_region_destroy(weir, stack), 0);
	assert_int_equal(weir_file_close(file), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_container),
		cmocka_unit_test(test_stack),
	};
	const struct weir_options options = {.size = sizeof(options), .limit = 64 << 20};
	int err = weir_open(&options, &weir);

	if (err) {
		print_message("skipped: userfaultfd: %s\n", weir_advice(err));
		return err == -EPERM || err == -ENOSYS ? EXIT_SKIP : 1;
	}
	err = cmocka_run_group_tests(tests, NULL, NULL);
	weir_close(weir);
	return err;
}
