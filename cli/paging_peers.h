/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the peers of weir bench paging need from the kernel: a memory cgroup, and swap on zram or on a file. All of it is
 * the machine's, not this process's, so a *keeper* takes it down however the bench ends: a process that waits until the
 * bench is gone (the other end of a pipe closes), kills what is left in the cgroups, and undoes the rest.
 *
 *   up                         down, by the bench or by the keeper
 *   mkdir of a cgroup          its processes killed, rmdir
 *   hot_add, lz4, swapon       swapoff, reset, hot_remove
 *   fallocate, swapon          swapoff, unlink
 *   vm.page-cluster written    what was there before, written back
 *
 * cgroup v2 and v1 both; a group is made below the root of v2, or below this process's own group of v1. Not for several
 * threads.
 */
#ifndef WEIR_CLI_PAGING_PEERS_H
#define WEIR_CLI_PAGING_PEERS_H

#include <limits.h>
#include <stdint.h>

enum peer_group { GROUP_PEER, GROUP_WEIR, GROUPS };

/* Starts the keeper. 0 or -errno. */
int peers_open(void);
/* Everything down, and the keeper gone. May be called from a signal handler, too. */
void peers_close(void);
/* In a child of the bench, first thing: the keeper must not wait for it. */
void peers_child(void);

/* Why there can be no groups, or no swap on zram; NULL: there can. */
const char *peers_group_why(void);
const char *peers_zram_why(void);

int peers_group_make(enum peer_group group, uint64_t bytes);
void peers_group_remove(enum peer_group group);
/* The caller belongs to it from now on. */
int peers_group_enter(enum peer_group group);
/* Without a reader of the group's statistics the kernel takes everything for active, and kills. */
void peers_group_poke(enum peer_group group);

int peers_zram_on(uint64_t bytes);
/* Bytes of memory that the zram device uses. */
uint64_t peers_zram_used(void);
/* dir: on the disk that weir's file is on. */
int peers_file_on(const char *dir, uint64_t bytes);
void peers_swap_off(void);
/* Pages that the kernel reads at once from swap: 2 to the power of this. */
void peers_cluster_set(int value);

#endif
