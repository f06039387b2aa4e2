/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What `weir run` tells the agent: one environment variable, WEIR_RUN, "key=value" pairs separated by ':', so that
 * programs that the program starts are told too. Values are percent-escaped where they hold ':' or '%'.
 */
#ifndef WEIR_AGENT_CONFIG_H
#define WEIR_AGENT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_VARIABLE "WEIR_RUN"

enum stats_form { STATS_NONE, STATS_TABLE, STATS_JSON };

struct config {
	uint64_t limit;
	uint64_t compressed_share; /* 0: default */
	uint64_t high;		   /* 0: none */
	unsigned handlers;	   /* 0: default */
	unsigned placement;	   /* enum weir_placement */
	unsigned churn_ms;	   /* 0: never */
	unsigned kmap_slots;	   /* 0: everything is mapped */
	enum stats_form stats;
	bool stats_children;   /* children of fork print their own, too */
	char stats_file[4096]; /* empty: standard error */
	char store[4096];      /* URI, or empty: default */
	char trace[4096];      /* empty: packets are not traced */
	char container[4096];  /* empty: the root */
	char compress[16];     /* as in struct weir_options, or empty: default */
	char preload[4096];    /* the agent's own path, as in LD_PRELOAD */
};

/* Both 0 or -errno: -ENAMETOOLONG; -EINVAL: not a configuration. */
int config_format(const struct config *config, char *text, size_t room);
int config_parse(const char *text, struct config *config);

#endif
