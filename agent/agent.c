/* SPDX-License-Identifier: BSD-2-Clause */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <mimalloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/base.h"
#include "base/log.h"
#include "config.h"
#include "mapping.h"
#include "maps.h"
#include "os/mem.h"
#include "os/uffd.h"
#include "report.h"

struct agent agent;

/* mimalloc cuts its memory into segments of 32 MiB; the region starts at a multiple of that. */
enum { SEGMENT = 32 << 20 };

static struct config config;   /* (C) after the constructor */
static pid_t agent_pid;	       /* (C) whose statistics these are: not a vfork child's */
static pid_t agent_parent;     /* (C) who forked it; 0: it was executed */
static uint64_t began_ns;      /* (C) */
static _Atomic bool reported;  /* (A) */
static _Atomic bool fork_told; /* (A) */

struct weir *agent_weir(void)
{
	/* Pairs with the release in the constructor. */
	return load_acquire(&agent.state) == AGENT_MANAGED ? agent.weir : NULL;
}

/* Before main: a message, and nothing started. */
static _Noreturn void refuse(const char *what, int err)
{
	log_line("%s: %s", what, uffd_advice(err));
	syscall(SYS_exit_group, 125);
	__builtin_unreachable();
}

/* --- the region, before anything else --- */

static void region_map(void)
{
	/* Address space costs nothing until it is used. Where it is limited, half of it: the rest is for weir's pool and
	 * the program's stacks, files and own mappings. */
	uint64_t most = MIN(GIB(256), ALIGN_DOWN(mem_address_space() / 2, (uint64_t)SEGMENT));

	for (uint64_t bytes = most; bytes >= MIN(most, MIB(256)) && bytes; bytes /= 2) {
		char *region = mem_region_map(bytes, SEGMENT);

		if (region) {
			agent.region_bytes = bytes;
			agent.region = region;
			return;
		}
	}
	refuse("no address space for a region", -ENOMEM);
}

static void before_fork(void);
static void after_fork_parent(void);
static void after_fork_child(void);

void agent_early(void)
{
	region_map();
	/* All of malloc comes from the region, nothing from the system. */
	mi_option_set(mi_option_limit_os_alloc, 1);
	/* Not "committed": then mimalloc gives the memory of freed segments back, which costs us a discard and
	 * saves compressing garbage. */
	if (!mi_manage_os_memory_ex(agent.region, agent.region_bytes, false, false, true, -1, false,
				    NULL))
		refuse("mimalloc did not take the region", -ENOMEM);
	/* The first of all: in a child before anybody else, and before a fork behind all others. */
	if (pthread_atfork(before_fork, after_fork_parent, after_fork_child))
		refuse("pthread_atfork", -ENOMEM);
	store_release(&agent.state, AGENT_EARLY);
}

/* --- forks --- */

static uint64_t fork_loaded(struct weir *weir)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	return weir_stats_read(weir, &stats) ? 0 : stats.fork_loaded;
}

static void before_fork(void)
{
	struct weir *weir = agent_weir();
	uint64_t loaded;

	mapping_before_fork();
	if (!weir)
		return;
	loaded = fork_loaded(weir);
	weir_thread_unbind(weir);
	(void)weir_before_fork(weir);
	/* Every shell forks: who has nothing to bring in has nothing to tell. */
	if (fork_loaded(weir) != loaded && !exchange_relaxed(&fork_told, true))
		log_line("the program forks: all its pages come in first, and the child runs "
			 "without a limit");
}

static void after_fork_parent(void)
{
	struct weir *weir = agent_weir();

	if (weir)
		weir_after_fork(weir);
	mapping_after_fork();
}

/* The child has taken over: what else the agent has in a process is made anew here. */
static void agent_taken_over(void)
{
	weir_thread_attach(agent.weir);
	agent_parent = agent_pid;
	agent_pid = (pid_t)syscall(SYS_getpid);
	began_ns = now_ns();
	store_relaxed(&reported, false);
	report_forked(agent.weir);
}

static void child_take_over(void)
{
	int err;

	if (load_relaxed(&agent.state) != AGENT_MANAGED)
		return;
	/* Meanwhile threads are weir's own, and what mimalloc gives back is not weir's to know. */
	store_release(&agent.state, AGENT_EARLY);
	err = weir_after_fork_child(agent.weir);
	if (err == -ENOTSUP) {
		/* All of its memory is there, without handlers and userfaultfd. */
		mapping_child_plain();
		store_release(&agent.state, AGENT_PLAIN);
		return;
	}
	if (err) {
		log_line("the process that forked this one has ended, or could not hand its memory "
			 "over (%s): this one ends as well",
			 errno_name(err));
		syscall(SYS_exit_group, 125);
	}
	/* Pairs with the acquire in agent_weir. */
	store_release(&agent.state, AGENT_MANAGED);
	agent_taken_over();
}

static void after_fork_child(void)
{
	child_take_over();
	mapping_after_fork();
}

/* --- start and end --- */

static void options_fill(struct weir_options *options)
{
	*options = (struct weir_options){
		.size = sizeof(*options),
		.limit = config.limit,
		.compressed_share = config.compressed_share,
		.store = config.store[0] ? config.store : NULL,
		.handlers = config.handlers,
		.placement = (enum weir_placement)config.placement,
		.churn_ms = config.churn_ms,
		.trace = config.trace[0] ? config.trace : NULL,
		.kmap_slots = config.kmap_slots,
		.hand_over = 1,
		.publish = 1,
		.container = config.container[0] ? config.container : NULL,
		.compress = config.compress[0] ? config.compress : NULL,
	};
}

/* file:/folder/name?size=8G becomes file:/folder?size=8G. */
static void store_beside(void)
{
	char *question = strchrnul(config.store, '?');
	char *slash = memrchr(config.store, '/', (size_t)(question - config.store));

	if (!slash)
		return;
	/* Of a name in the root folder that one stays. */
	slash += slash == config.store + strlen("file:");
	memmove(slash, question, strlen(question) + 1);
}

/* An instance cannot be opened: can it without a store? */
static bool store_is_the_reason(struct weir_options options)
{
	if (!options.store)
		return false;
	options.store = "mem:";
	return weir_open(&options, &agent.weir) == 0;
}

/* weir run has tried it, but the place may have changed since, and what a program starts later comes here without being asked. */
static _Noreturn void refuse_store(int err)
{
	const char *advice =
		err == -ENOENT	? "there is no such folder any more; give one that stays"
		: err == -EBUSY ? "another process uses it; give another name"
		: err == -EEXIST
			? "is there, and weir has not made it; give another name, or remove it"
			: "give a place that the program may write to";

	log_line("store %s: %s: %s", config.store, errno_name(err), advice);
	syscall(SYS_exit_group, 125);
	__builtin_unreachable();
}

__attribute__((constructor)) static void agent_start(void)
{
	const char *text = getenv(CONFIG_VARIABLE);
	struct weir_options options;
	int err;

	began_ns = now_ns();
	if (!agent.region)
		agent_early();
	if (!text || config_parse(text, &config)) {
		log_line("the agent is loaded without a limit; use weir run");
		return;
	}
	direct_prepare();
	agent_pid = (pid_t)syscall(SYS_getpid);
	report_prepare(&config);
	options_fill(&options);
	err = weir_open(&options, &agent.weir);
	if (err == -EBUSY) {
		/* A named file has one user: what the program starts meanwhile has one without a name beside it. */
		store_beside();
		err = weir_open(&options, &agent.weir);
	}
	if (err && store_is_the_reason(options))
		refuse_store(err);
	if (err)
		refuse("userfaultfd", err);
	if (config.high)
		(void)weir_container_set(weir_container_root(agent.weir), WEIR_HIGH, config.high);
	err = weir_region_adopt(agent.weir, agent.region, agent.region_bytes);
	if (err)
		refuse("userfaultfd cannot take the region", err);
	maps_in_child(agent.weir, mapping_child);
	err = maps_track(agent.weir, agent.region);
	if (err)
		refuse("no memory for a table of the region", err);
	weir_thread_attach(agent.weir);
	/* Pairs with the acquire in agent_weir. */
	store_release(&agent.state, AGENT_MANAGED);
}

void agent_report(void)
{
	struct weir *weir = agent_weir();

	if (!weir || config.stats == STATS_NONE || (pid_t)syscall(SYS_getpid) != agent_pid ||
	    exchange_relaxed(&reported, true))
		return;
	report_print(weir, &config, now_ns() - began_ns, agent_parent);
}

__attribute__((destructor)) static void agent_end(void)
{
	agent_report();
}
