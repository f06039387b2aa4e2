/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Atomics, named by their order.
 *
 * The order is in the name, never an argument, so that a reader sees which edges matter. Every use of
 * an order other than relaxed says in a comment which access it pairs with.
 *
 * tsan_release() and tsan_acquire() tell ThreadSanitizer of an edge that it cannot see because it goes
 * through the kernel: contents installed by a userfaultfd call (release before the call) are read by the
 * thread that faulted (acquire after the touch). Outside TSan builds they are nothing.
 */
#ifndef WEIR_BASE_ATOMIC_H
#define WEIR_BASE_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__SANITIZE_THREAD__)
#define WEIR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEIR_TSAN 1
#endif
#endif

#define load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define load_acquire(p) atomic_load_explicit((p), memory_order_acquire)
#define store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)
#define add_relaxed(p, v) atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define sub_relaxed(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_relaxed)
#define add_acq_rel(p, v) atomic_fetch_add_explicit((p), (v), memory_order_acq_rel)
#define sub_acq_rel(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_acq_rel)
/* Store-to-load ordering by the operations themselves, where each side changes something anyhow: all four of "change mine, look
 * at yours" are of this order. No fence is needed, and x86 makes no difference to a weaker change. */
#define load_seq_cst(p) atomic_load_explicit((p), memory_order_seq_cst)
#define add_seq_cst(p, v) atomic_fetch_add_explicit((p), (v), memory_order_seq_cst)
#define sub_seq_cst(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_seq_cst)
#define or_relaxed(p, v) atomic_fetch_or_explicit((p), (v), memory_order_relaxed)
#define and_relaxed(p, v) atomic_fetch_and_explicit((p), (v), memory_order_relaxed)
#define exchange_acquire(p, v) atomic_exchange_explicit((p), (v), memory_order_acquire)
#define exchange_release(p, v) atomic_exchange_explicit((p), (v), memory_order_release)
#define exchange_relaxed(p, v) atomic_exchange_explicit((p), (v), memory_order_relaxed)
/* On failure *old is what stands there, read relaxed. Strong: fails only where the value differs. */
#define cas_relaxed(p, old, v)                                                                     \
	atomic_compare_exchange_strong_explicit((p), (old), (v), memory_order_relaxed,             \
						memory_order_relaxed)
#define cas_acquire(p, old, v)                                                                     \
	atomic_compare_exchange_strong_explicit((p), (old), (v), memory_order_acquire,             \
						memory_order_relaxed)
#define cas_release(p, old, v)                                                                     \
	atomic_compare_exchange_strong_explicit((p), (old), (v), memory_order_release,             \
						memory_order_relaxed)
#define cas_acq_rel(p, old, v)                                                                     \
	atomic_compare_exchange_strong_explicit((p), (old), (v), memory_order_acq_rel,             \
						memory_order_relaxed)
/* Store-to-load ordering (Dekker pairs: publish mine, then look at yours). ThreadSanitizer knows no fences; an atomic
 * that everybody changes has the same effect. */
static inline void fence_seq_cst(void)
{
#ifdef WEIR_TSAN
	static _Atomic unsigned all;

	atomic_fetch_add(&all, 1);
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#endif
}

#ifdef WEIR_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define tsan_acquire(addr) __tsan_acquire((void *)(addr))
#define tsan_release(addr) __tsan_release((void *)(addr))
/* Reads that may meet a write, and know it. */
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
#define tsan_reads_ignore() AnnotateIgnoreReadsBegin(__FILE__, __LINE__)
#define tsan_reads_heed() AnnotateIgnoreReadsEnd(__FILE__, __LINE__)
#define NO_TSAN __attribute__((no_sanitize("thread")))
#else
#define tsan_acquire(addr) ((void)(addr))
#define tsan_release(addr) ((void)(addr))
#define tsan_reads_ignore() ((void)0)
#define tsan_reads_heed() ((void)0)
#define NO_TSAN
#endif

#endif
