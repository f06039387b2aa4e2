/* SPDX-License-Identifier: BSD-2-Clause */
/* What the parts of peak share, see peak.c. */
#ifndef WEIR_TESTS_PEAK_H
#define WEIR_TESTS_PEAK_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SAMPLE_NS = 5 * 1000 * 1000 };

struct cgroup {
	int version;	      /* 0: none */
	size_t mount_len;     /* path never gets shorter than its mount point */
	char path[PATH_MAX];  /* the one made for CMD */
	char above[PATH_MAX]; /* where it was made */
};

struct peaks {
	uint64_t rss, memfd, tree_rss, cgroup_anon, cgroup_all;
};

static inline void raise_to(uint64_t *peak, uint64_t value)
{
	if (*peak < value)
		*peak = value;
}

/* The whole of a small file as a string; its length, or -1. A process that has just gone is no error. */
ssize_t read_small(const char *path, char *text, size_t size);
/* "key value" or "key: value" at the start of a line; 0 where there is none. */
uint64_t value_of(const char *text, const char *key);

/* A cgroup for the child, where one can be made; says why not. */
void cgroup_make(struct cgroup *cgroup, pid_t child);
void cgroup_sample(const struct cgroup *cgroup, struct peaks *peaks);
void cgroup_remove(struct cgroup *cgroup, struct peaks *peaks);

#endif
