/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Included before everything else in a second build of src/kmap, of locks and of the designs that bench kmap compares: each atomic
 * read-modify-write counts itself, and the functions have other names. So what is counted is the code that is measured.
 */
#ifndef WEIR_CLI_COUNT_ATOMICS_H
#define WEIR_CLI_COUNT_ATOMICS_H

#include "base/atomic.h"

extern _Thread_local uint64_t atomics_counted;

#undef add_relaxed
#undef sub_relaxed
#undef add_seq_cst
#undef sub_seq_cst
#undef exchange_acquire
#undef exchange_release
#undef cas_relaxed
#undef cas_acquire
#undef cas_release
#define COUNTED(op) (atomics_counted++, (op))
#define add_relaxed(p, v) COUNTED(atomic_fetch_add_explicit((p), (v), memory_order_relaxed))
#define sub_relaxed(p, v) COUNTED(atomic_fetch_sub_explicit((p), (v), memory_order_relaxed))
#define add_seq_cst(p, v) COUNTED(atomic_fetch_add_explicit((p), (v), memory_order_seq_cst))
#define sub_seq_cst(p, v) COUNTED(atomic_fetch_sub_explicit((p), (v), memory_order_seq_cst))
#define exchange_acquire(p, v) COUNTED(atomic_exchange_explicit((p), (v), memory_order_acquire))
#define exchange_release(p, v) COUNTED(atomic_exchange_explicit((p), (v), memory_order_release))
#define COUNTED_CAS(p, old, v, order)                                                              \
	COUNTED(atomic_compare_exchange_strong_explicit((p), (old), (v), order,                    \
							memory_order_relaxed))
#define cas_relaxed(p, old, v) COUNTED_CAS(p, old, v, memory_order_relaxed)
#define cas_acquire(p, old, v) COUNTED_CAS(p, old, v, memory_order_acquire)
#define cas_release(p, old, v) COUNTED_CAS(p, old, v, memory_order_release)

#define weir_kmap counted_kmap
#define weir_kmap_create counted_kmap_create
#define weir_kmap_destroy counted_kmap_destroy
#define weir_kmap_try counted_kmap_try
#define weir_kmap_fault counted_kmap_fault
#define weir_kmap_pair counted_kmap_pair
#define weir_kmap_pair_fault counted_kmap_pair_fault
#define weir_kmap_address counted_kmap_address
#define weir_kunmap counted_kunmap
#define weir_kmap_stats_read counted_kmap_stats_read
#define assoc_find counted_assoc_find
#define assoc_publish counted_assoc_publish
#define assoc_drop counted_assoc_drop
#define slot_get counted_slot_get
#define slot_freed counted_slot_freed
#define slot_pin counted_slot_pin
#define slot_put counted_slot_put
#define lock_init counted_lock_init
#define lock_acquire counted_lock_acquire
#define lock_try counted_lock_try
#define lock_release counted_lock_release
#define lock_wait counted_lock_wait
#define lock_wake counted_lock_wake
#define lock_order_check counted_lock_order_check
#define lock_order_push counted_lock_order_push
#define lock_order_pop counted_lock_order_pop
#define futex_wait counted_futex_wait
#define futex_wake counted_futex_wake
#define kmap_rig_open counted_rig_open
#define kmap_rig_close counted_rig_close
#define kmap_rig_run counted_rig_run
#define kmap_rig_flushes counted_rig_flushes
#define kmap_rig_retired counted_rig_retired

#endif
