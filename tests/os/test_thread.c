/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads of weir's own: a descriptor table that is not the program's, log lines that reach the program all the same,
 * signals that never run there, and where threads run.
 */
#include "../unit.h"

#include <fcntl.h>
#include <semaphore.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/atomic.h"
#include "base/log.h"
#include "os/thread.h"

/* A thread of weir's and the main thread go on step by step; results are read after the step. */
struct guest {
	pthread_t thread;
	pthread_barrier_t step;
	thread_fn body;
	int err, tid;
	int number; /* a descriptor, as the test means it */
	int count;
	bool ok;
	char text[64];
	sigset_t mask;
};

static void meet(struct guest *g)
{
	pthread_barrier_wait(&g->step);
}

static void guest_start(struct guest *g, thread_fn body)
{
	assert_int_equal(pthread_barrier_init(&g->step, NULL, 2), 0);
	assert_int_equal(thread_start(&g->thread, "weir-guest", body, g), 0);
}

static void guest_end(struct guest *g)
{
	assert_int_equal(pthread_join(g->thread, NULL), 0);
	pthread_barrier_destroy(&g->step);
}

/* --- the descriptor table --- */

static bool is_null_device(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

static void *table_main(void *arg)
{
	struct guest *g = arg;

	g->err = thread_own_table(NULL, 0);
	g->ok = is_null_device(0) && is_null_device(1) && is_null_device(2);
	for (int fd = 3; fd < 4096; fd++)
		g->ok = g->ok && fcntl(fd, F_GETFD) < 0;
	g->count = descriptors_open_now();
	return NULL;
}

/* Nothing of the program's is in the table: 0 to 2 are the null device, all else is free. The program's is as it was. */
static void test_own_table_starts_empty(void **state)
{
	int before = descriptors_open_now();
	struct guest g = {0};

	(void)state;
	guest_start(&g, table_main);
	guest_end(&g);
	assert_int_equal(g.err, 0);
	assert_true(g.ok);
	assert_int_equal(g.count, 3);
	assert_int_equal(descriptors_open_now(), before);
	assert_true(fcntl(STDERR_FILENO, F_GETFD) >= 0);
}

static void *keeper_main(void *arg)
{
	struct guest *g = arg;

	g->err = thread_own_table(NULL, 0);
	/* At a number that the program uses too. */
	g->number = memfd_create("weir", MFD_CLOEXEC);
	g->ok = dup3(g->number, 500, O_CLOEXEC) == 500 && write(500, "ours", 4) == 4;
	meet(g); /* main looks, opens and closes */
	meet(g);
	g->count = (int)pread(500, g->text, sizeof(g->text), 0);
	g->ok = g->ok && pread(g->number, g->text, 4, 0) == 4 && fcntl(501, F_GETFD) < 0;
	return NULL;
}

static void keep_while_the_program_closes(void *arg)
{
	struct guest g = {0};

	(void)arg;
	guest_start(&g, keeper_main);
	meet(&g);
	child_check(!g.err && g.ok);
	child_check(fcntl(500, F_GETFD) < 0);
	child_check(dup2(STDERR_FILENO, 501) == 501);
	child_check(syscall(SYS_close_range, 3u, ~0u, 0u) == 0);
	child_check(dup2(STDERR_FILENO, 501) == 501);
	close(500);
	meet(&g);
	child_check(pthread_join(g.thread, NULL) == 0);
	child_check(g.ok && g.count == 4 && !memcmp(g.text, "ours", 4));
}

/* What either opens the other does not see, and closefrom(3) in the program closes nothing of weir's. */
static void test_tables_do_not_touch(void **state)
{
	(void)state;
	child_passes(keep_while_the_program_closes, NULL);
}

static void *second_main(void *arg)
{
	struct guest *g = arg;

	g->count = (int)pread(g->number, g->text, sizeof(g->text), 0);
	g->number = memfd_create("second", MFD_CLOEXEC);
	return NULL;
}

static void *first_main(void *arg)
{
	struct guest *g = arg, second = {0};

	g->err = thread_own_table(NULL, 0);
	second.number = memfd_create("first", MFD_CLOEXEC);
	(void)!write(second.number, "shared", 6);
	g->ok = thread_start(&second.thread, "weir-second", second_main, &second) == 0;
	pthread_join(second.thread, NULL);
	/* What the second one opened is there. */
	g->ok = g->ok && fcntl(second.number, F_GETFD) >= 0;
	g->count = second.count;
	return NULL;
}

/* Threads that it starts share its table. */
static void test_its_threads_share_its_table(void **state)
{
	struct guest g = {0};

	(void)state;
	guest_start(&g, first_main);
	guest_end(&g);
	assert_int_equal(g.err, 0);
	assert_true(g.ok);
	assert_int_equal(g.count, 6);
}

static void *bystander_main(void *arg)
{
	struct guest *g = arg;

	g->err = thread_own_table(NULL, 0);
	meet(g);
	meet(g);
	return NULL;
}

/* A pipe of the program ends when the program closes it, while the thread lives on. */
static void test_a_pipe_of_the_program_sees_its_end(void **state)
{
	struct guest g = {0};
	int ends[2];
	char c;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	guest_start(&g, bystander_main);
	meet(&g);
	assert_int_equal(g.err, 0);
	close(ends[1]);
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(read(ends[0], &c, 1), 0); /* not EAGAIN */
	close(ends[0]);
	meet(&g);
	guest_end(&g);
}

static void own_table_on_old_kernel(void *arg)
{
	(void)arg;
	deny(SYS_close_range, ENOSYS);
	child_check(thread_own_table(NULL, 0) == -ENOSYS);
	child_check(fcntl(STDERR_FILENO, F_GETFD) >= 0);
}

static void test_own_table_before_linux_5_9(void **state)
{
	(void)state;
	child_passes(own_table_on_old_kernel, NULL);
}

/* --- log lines --- */

static void *logger_main(void *arg)
{
	struct guest *g = arg;
	int store;

	g->err = thread_own_table(NULL, 0);
	g->number = (int)syscall(SYS_pidfd_open, getpid(), 0u);
	thread_log_to_program(g->number);
	/* The first file that is opened: no line may ever go there. */
	store = memfd_create("store", MFD_CLOEXEC);
	g->ok = store > STDERR_FILENO;
	meet(g);
	log_line("first line");
	meet(g); /* main points its descriptor 2 elsewhere */
	meet(g);
	log_line("second line");
	meet(g); /* main closes its descriptor 2 */
	meet(g);
	log_line("third line");
	for (unsigned i = 0; i < 2000; i++)
		log_line("lost");
	g->count = (int)lseek(store, 0, SEEK_END);
	g->ok = g->ok && descriptors_open_now() == 5;
	meet(g);
	thread_log_to_program(-1);
	return NULL;
}

static void log_from_own_table(void *arg)
{
	struct guest g = {0};
	char line[256] = "";
	int ends[2], kept;

	(void)arg;
	child_check(pipe2(ends, O_CLOEXEC) == 0);
	guest_start(&g, logger_main);
	meet(&g);
	child_check(!g.err && g.ok && g.number >= 0);
	meet(&g);
	log_line("program's line");
	kept = dup(STDERR_FILENO);
	child_check(kept >= 0);
	dup2(ends[1], STDERR_FILENO);
	meet(&g);
	meet(&g);
	log_line("program's second");
	close(STDERR_FILENO);
	meet(&g);
	meet(&g);
	log_line("program's third"); /* lost, quietly */
	dup2(kept, STDERR_FILENO);
	child_check(pthread_join(g.thread, NULL) == 0);
	child_check(read(ends[0], line, sizeof(line) - 1) > 0);
	child_check(!strcmp(line, "weir: second line\nweir: program's second\n"));
	child_check(g.ok);
	child_check(g.count == 0);
	log_line("program's fourth");
}

/*
 * A line of a thread with a table of its own goes to the program's standard error, as it is at that moment. If the
 * program has closed it the line is lost; it never goes into what weir itself has open, and no descriptor is left over.
 */
static void test_lines_reach_the_programs_stderr(void **state)
{
	struct child child;

	(void)state;
	run_child(&child, log_from_own_table, NULL);
	assert_child_passed(&child);
	assert_string_equal(child.stderr_, "weir: first line\nweir: program's line\n"
					   "weir: program's fourth\n");
}

/* --- starting threads --- */

static _Atomic int handled_by; /* (A) tid of the thread that a handler ran on */
static sem_t handled;	       /* so often did one run */

static void on_signal(int sig)
{
	(void)sig;
	store_relaxed(&handled_by, thread_id());
	(void)sem_post(&handled);
}

static void *signals_main(void *arg)
{
	struct guest *g = arg;
	sigset_t pending;

	g->tid = thread_id();
	pthread_sigmask(SIG_SETMASK, NULL, &g->mask);
	meet(g); /* main sends signals */
	meet(g);
	g->count = sigpending(&pending) ? -1 : sigismember(&pending, SIGUSR2);
	g->ok = load_relaxed(&handled_by) != g->tid;
	return NULL;
}

/* Every signal that can be blocked is, in the thread and not in its starter; no handler ever runs there. */
static void test_no_handler_runs_there(void **state)
{
	struct sigaction act = {.sa_handler = on_signal}, old[2];
	sigset_t before, after;
	struct guest g = {0};

	(void)state;
	assert_int_equal(sem_init(&handled, 0, 0), 0);
	sigaction(SIGUSR1, &act, &old[0]);
	sigaction(SIGUSR2, &act, &old[1]);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	guest_start(&g, signals_main);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	meet(&g);
	for (int sig = 1; sig < NSIG; sig++) {
		assert_int_equal(sigismember(&before, sig), sigismember(&after, sig));
		/* 32 and 33 are glibc's own, between threads. */
		if (sig != SIGKILL && sig != SIGSTOP && sig != 32 && sig != 33)
			assert_true(sigismember(&g.mask, sig));
	}
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	while (sem_wait(&handled) && errno == EINTR)
		;
	assert_int_equal(load_relaxed(&handled_by), thread_id());
	assert_int_equal(pthread_kill(g.thread, SIGUSR2), 0);
	meet(&g);
	guest_end(&g);
	assert_true(g.ok);
	assert_int_equal(g.count, 1);
	sigaction(SIGUSR1, &old[0], NULL);
	sigaction(SIGUSR2, &old[1], NULL);
}

static void *named_main(void *arg)
{
	struct guest *g = arg;

	g->tid = thread_id();
	meet(g);
	meet(g);
	return NULL;
}

/* The name is what ps shows, and the number is the kernel's. Who starts a thread keeps its own. */
static void test_threads_have_names_and_numbers(void **state)
{
	char path[64], name[32] = "", own[32] = "";
	struct guest g = {0};

	(void)state;
	assert_int_equal(pthread_getname_np(pthread_self(), own, sizeof(own)), 0);
	guest_start(&g, named_main);
	meet(&g);
	assert_int_equal(pthread_getname_np(pthread_self(), name, sizeof(name)), 0);
	assert_string_equal(name, own);
	assert_int_equal(pthread_getname_np(g.thread, name, sizeof(name)), 0);
	assert_string_equal(name, "weir-guest");
	snprintf(path, sizeof(path), "/proc/self/task/%d", g.tid);
	assert_int_equal(access(path, F_OK), 0);
	assert_true(g.tid > 0 && g.tid != thread_id());
	assert_int_equal(thread_id(), getpid());
	meet(&g);
	guest_end(&g);
}

static void start_where_none_may(void *arg)
{
	sigset_t before, after;
	pthread_t thread;
	int err;

	(void)arg;
	deny(SYS_clone, EAGAIN);
	deny(SYS_clone3, EAGAIN);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	err = thread_start(&thread, "none", named_main, NULL);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	child_check(err == -EAGAIN);
	for (int sig = 1; sig < NSIG; sig++)
		child_check(sigismember(&before, sig) == sigismember(&after, sig));
}

/* No thread to be had is an error, and the starter's signals are as they were. */
static void test_failing_to_start_leaves_no_trace(void **state)
{
	(void)state;
	child_passes(start_where_none_may, NULL);
}

/* --- where threads run --- */

static cpu_set_t allowed; /* at the start of the program */

static int keep_affinity(void **state)
{
	(void)state;
	return thread_affinity_get(0, &allowed);
}

static int restore_affinity(void **state)
{
	(void)state;
	return thread_affinity_set(0, &allowed);
}

/* Bound to a CPU, a thread runs there and nowhere else, and says so. */
static void test_bound_threads_run_there(void **state)
{
	const volatile uint32_t *word = thread_cpu_word();
	cpu_set_t set;

	(void)state;
	assert_int_equal(thread_cpu_count(), CPU_COUNT(&allowed));
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed))
			continue;
		assert_int_equal(thread_bind(0, cpu), 0);
		assert_int_equal(thread_affinity_get(0, &set), 0);
		assert_int_equal(CPU_COUNT(&set), 1);
		assert_true(CPU_ISSET(cpu, &set));
		assert_int_equal(thread_cpu_count(), 1);
		assert_int_equal(thread_cpu_now(), cpu);
		if (word)
			assert_int_equal(*word, cpu);
	}
	assert_int_equal(thread_affinity_set(0, &allowed), 0);
	assert_int_equal(thread_affinity_get(0, &set), 0);
	assert_true(CPU_EQUAL(&set, &allowed));
}

struct spinner {
	pthread_t thread;
	pthread_barrier_t begun;
	int tid;
	const volatile uint32_t *word;
	_Atomic bool stop;
};

static void *spin_main(void *arg)
{
	struct spinner *s = arg;

	s->word = thread_cpu_word();
	s->tid = thread_id();
	pthread_barrier_wait(&s->begun);
	while (!load_relaxed(&s->stop))
		cpu_relax();
	return NULL;
}

/* Another thread can be bound by its number, and its word tells where it runs. */
static void test_another_thread_can_be_moved_and_watched(void **state)
{
	struct spinner s = {0};
	cpu_set_t set;

	(void)state;
	assert_int_equal(pthread_barrier_init(&s.begun, NULL, 2), 0);
	assert_int_equal(thread_start(&s.thread, "spinner", spin_main, &s), 0);
	pthread_barrier_wait(&s.begun);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed))
			continue;
		assert_int_equal(thread_bind(s.tid, cpu), 0);
		assert_int_equal(thread_affinity_get(s.tid, &set), 0);
		assert_true(CPU_COUNT(&set) == 1 && CPU_ISSET(cpu, &set));
		/* The kernel writes the word when the thread runs there, and wakes nobody: it is polled. */
		for (unsigned i = 0; s.word && i < 10000; i++) {
			if (*s.word == (uint32_t)cpu)
				break;
			usleep(100);
			assert_true(i < 9999);
		}
	}
	/* The caller is where it was. */
	assert_int_equal(thread_affinity_get(0, &set), 0);
	assert_true(CPU_EQUAL(&set, &allowed));
	store_relaxed(&s.stop, true);
	pthread_join(s.thread, NULL);
	pthread_barrier_destroy(&s.begun);
}

/* A CPU that there is not: -EINVAL; a thread that there is not: -ESRCH; nothing has changed. */
static void test_binding_to_nothing_is_refused(void **state)
{
	cpu_set_t set, none;

	(void)state;
	CPU_ZERO(&none);
	assert_int_equal(thread_bind(0, CPU_SETSIZE - 1), -EINVAL);
	assert_int_equal(thread_affinity_set(0, &none), -EINVAL);
	assert_int_equal(thread_bind(0x3fffffff, 0), -ESRCH);
	assert_int_equal(thread_affinity_get(0x3fffffff, &set), -ESRCH);
	assert_int_equal(thread_affinity_get(0, &set), 0);
	assert_true(CPU_EQUAL(&set, &allowed));
}

#define TEST_AFFINITY(test) cmocka_unit_test_setup_teardown(test, keep_affinity, restore_affinity)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_table_starts_empty),
		cmocka_unit_test(test_tables_do_not_touch),
		cmocka_unit_test(test_its_threads_share_its_table),
		cmocka_unit_test(test_a_pipe_of_the_program_sees_its_end),
		cmocka_unit_test(test_own_table_before_linux_5_9),
		cmocka_unit_test(test_lines_reach_the_programs_stderr),
		cmocka_unit_test(test_no_handler_runs_there),
		cmocka_unit_test(test_threads_have_names_and_numbers),
		cmocka_unit_test(test_failing_to_start_leaves_no_trace),
		TEST_AFFINITY(test_bound_threads_run_there),
		TEST_AFFINITY(test_another_thread_can_be_moved_and_watched),
		TEST_AFFINITY(test_binding_to_nothing_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
