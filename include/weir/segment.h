/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Statistics: what a process under weir publishes, how to find it, and its layout. That is any under `weir run`, and those that ask for
 * it (`publish` of struct weir_options). `weir stat` and `weir top` read nothing else.
 *
 * Finding them. The process listens on a socket of the type SOCK_SEQPACKET with an abstract name, "@weir/PID" (or "@weir/PID.N",
 * where somebody else has taken that); /proc/net/unix lists them. There is no file: when the process ends, however it does, its
 * socket and its statistics are gone. Who connects looks at SO_PEERCRED, and trusts the same user and root only; so does the process.
 *
 * Asking. A packet is a command, a packet comes back: "RESULT NUMBER\n", RESULT being 0 or -errno.
 *
 *     watch                     comes back with a descriptor (SCM_RIGHTS) of a sealed memfd, of which this header tells. As long as
 *                               somebody who watches is connected the process writes it anew every WEIR_SEGMENT_PERIOD_MS
 *     set VALUE BYTES [PATH]    VALUE: max, high, low, swap.max, or peak; BYTES: a number, or max for no limit; PATH: a
 *                               container, as in "batch/nightly", the root by default. -EAGAIN: set, but there is still
 *                               more than that
 *     reclaim BYTES [PATH]      NUMBER: bytes that it now has less; -EAGAIN: less than was asked for
 *     online BYTES, offline BYTES    NUMBER: bytes of memory for compressed pages that came or went
 *
 * Reading. struct weir_segment, at offset 0, then `values` numbers of 64 bits, then `containers` times
 * `container_values` numbers and a path of WEIR_SEGMENT_PATH bytes, ending in zeroes. All in the byte order of the machine. The root is
 * the first container, and its path is empty. New numbers are added at the end of either list, so who knows fewer passes over
 * the rest, and who knows more sees how many there are.
 *
 * `sequence` is odd while the process writes. Read it, then the rest, then it again: if both are equal and even, what was read
 * belongs together. The memfd cannot be made shorter, and nobody else can write it. Its contents are another
 * process's all the same: check every count before using it.
 */
#ifndef WEIR_SEGMENT_H
#define WEIR_SEGMENT_H

#include <stdint.h>

#define WEIR_SEGMENT_MAGIC 0x7461747372696577ull /* "weirstat" */

enum {
	WEIR_SEGMENT_PERIOD_MS = 200,
	WEIR_SEGMENT_PATH = 256,       /* a container with a longer one is left out */
	WEIR_SEGMENT_CONTAINERS = 128, /* at most; `more` tells how many are left out */
	WEIR_COMMAND_BYTES = 9216,     /* a packet has at most */
};

struct weir_segment {
	uint64_t magic;
	uint32_t bytes; /* of the whole, so many are worth reading */
	uint32_t values, container_values, containers;
	uint32_t more;	 /* containers that found no room */
	uint32_t header; /* offset of the first number: sizeof(struct weir_segment) of the writer */
	uint64_t sequence;
	uint64_t now_ns,
		start_ns; /* CLOCK_MONOTONIC: when this was written, when the instance began */
};

/*
 * VALUE(name, kind, what it is). Kinds: SIZE, bytes now; PEAK, the most there were; COUNT, of events since the start, and BYTES,
 * of bytes, which only grow; and NS, of the time in the handler, from a fault's message to its page.
 */
#define WEIR_SEGMENT_VALUES(VALUE)                                                                 \
	VALUE(limit_bytes, SIZE, "Limit of resident and compressed pages.")                        \
	VALUE(managed_bytes, SIZE, "Charged now: resident and compressed pages.")                  \
	VALUE(peak_managed_bytes, PEAK, "Most that was charged.")                                  \
	VALUE(peak_rss_bytes, PEAK, "Most resident memory of the process, as the kernel counts.")  \
	VALUE(resident_bytes, SIZE, "Pages that are in memory.")                                   \
	VALUE(compressed_bytes, SIZE, "Memory that compressed pages take.")                        \
	VALUE(stored_bytes, SIZE, "Pages in the file.")                                            \
	VALUE(populated_bytes, SIZE, "Pages that were touched and not given back.")                \
	VALUE(overhead_bytes, SIZE, "Tables, unused room of the store, free frames.")              \
	VALUE(faults, COUNT, "Faults.")                                                            \
	VALUE(soft_faults, COUNT, "Faults that loaded nothing: writes to clean pages, races.")     \
	VALUE(first_faults, COUNT, "First touches.")                                               \
	VALUE(compressed_faults, COUNT, "Faults served from compressed memory.")                   \
	VALUE(stored_faults, COUNT, "Faults served from the file.")                                \
	VALUE(parked_faults, COUNT, "Faults that waited for a busy page.")                         \
	VALUE(pages_ahead, COUNT, "Pages loaded before they were asked for.")                      \
	VALUE(refaults, COUNT, "Pages that came back soon.")                                       \
	VALUE(same_filled, COUNT, "Pages kept as one word.")                                       \
	VALUE(moved_out, COUNT, "Pages moved out.")                                                \
	VALUE(compressed_bytes_in, BYTES, "Bytes that were compressed.")                           \
	VALUE(compressed_bytes_out, BYTES, "Bytes that they became.")                              \
	VALUE(written_pages, COUNT, "Pages written to the file.")                                  \
	VALUE(write_failed, COUNT, "Pages that could not be written, and stayed.")                 \
	VALUE(over_max, COUNT, "Charges over the limit, for want of anything to move out.")        \
	VALUE(poisoned, COUNT, "Pages lost.")                                                      \
	VALUE(fork_loaded, COUNT, "Pages loaded for forks.")                                       \
	VALUE(forks_handed_over, COUNT, "Children that went on with an instance of their own.")    \
	VALUE(bindings, COUNT, "Times that a thread was bound beside its handler.")                \
	VALUE(blocks_onlined, COUNT, "Blocks of memory for compressed pages that came.")           \
	VALUE(blocks_offlined, COUNT, "Blocks that went.")                                         \
	VALUE(blocks_offlined_live, COUNT, "Blocks that went while they held pages.")              \
	VALUE(blocks_refused, COUNT, "Blocks that did not go.")                                    \
	VALUE(frames_migrated, COUNT, "Frames emptied for it.")                                    \
	VALUE(kmap_hits, COUNT, "Windows that were mapped already.")                               \
	VALUE(kmap_misses, COUNT, "Windows that had to be mapped.")                                \
	VALUE(kmap_retired, COUNT, "Windows that lost their mapping.")                             \
	VALUE(kmap_flushes, COUNT, "Calls that took mappings away.")                               \
	VALUE(kmap_waits, COUNT, "Waits for a window.")                                            \
	VALUE(kmap_busy, COUNT, "Windows asked for in vain.")                                      \
	VALUE(fault_ns_p50, NS, "Median.")                                                         \
	VALUE(fault_ns_p90, NS, "Nine of ten take no longer.")                                     \
	VALUE(fault_ns_p99, NS, "99 of 100 take no longer.")                                       \
	VALUE(fault_ns_max, NS, "The longest.")                                                    \
	VALUE(fault_ns_sum, NS, "All of them.")

/* Of each container, descendants included. Kinds as above; LIMIT: UINT64_MAX is none; US: microseconds since the start; SHARE: per ten
 * thousand of the time, over the last ten seconds. */
#define WEIR_SEGMENT_CONTAINER_VALUES(VALUE)                                                       \
	VALUE(current_bytes, SIZE, "Charged now.")                                                 \
	VALUE(peak_bytes, PEAK, "Most that was charged.")                                          \
	VALUE(max_bytes, LIMIT, "Limit.")                                                          \
	VALUE(high_bytes, LIMIT, "Above this it reclaims from itself.")                            \
	VALUE(low_bytes, LIMIT, "At or below this nothing is reclaimed while others can give.")    \
	VALUE(swap_current_bytes, SIZE, "In the file now.")                                        \
	VALUE(swap_max_bytes, LIMIT, "The most that may be in the file.")                          \
	VALUE(resident_bytes, SIZE, "Pages that are in memory.")                                   \
	VALUE(compressed_bytes, SIZE, "Memory that compressed pages take.")                        \
	VALUE(pressure_some_us, US, "Time in which at least one thread waited for memory.")        \
	VALUE(pressure_full_us, US, "Time in which all active threads waited for memory.")         \
	VALUE(pressure_some_avg10, SHARE, "At least one thread waited for memory, lately.")        \
	VALUE(pressure_full_avg10, SHARE, "All active threads waited for memory, lately.")         \
	VALUE(events_low, COUNT, "Reclaimed from at or below low.")                                \
	VALUE(events_high, COUNT, "Throttled for being above high.")                               \
	VALUE(events_max, COUNT, "A charge met max.")                                              \
	VALUE(events_oom, COUNT, "Nothing could be reclaimed.")                                    \
	VALUE(events_swap_max, COUNT, "A page was kept out of the file by swap.max.")              \
	VALUE(events_swap_fail, COUNT, "A page could not be written.")                             \
	VALUE(compressed_share_bytes, LIMIT,                                                       \
	      "What compressed pages may take now; more goes to the file.")

#define WEIR_SEGMENT_NAME(name, kind, help) WEIR_SEGMENT_##name,
#define WEIR_SEGMENT_CONTAINER_NAME(name, kind, help) WEIR_SEGMENT_CONTAINER_##name,
enum weir_segment_value { WEIR_SEGMENT_VALUES(WEIR_SEGMENT_NAME) WEIR_SEGMENT_VALUE_COUNT };
enum weir_segment_container_value {
	WEIR_SEGMENT_CONTAINER_VALUES(WEIR_SEGMENT_CONTAINER_NAME)
		WEIR_SEGMENT_CONTAINER_VALUE_COUNT
};

/* One container as it lies in the segment of a writer that has exactly these numbers. */
struct weir_segment_container {
	uint64_t value[WEIR_SEGMENT_CONTAINER_VALUE_COUNT];
	char path[WEIR_SEGMENT_PATH];
};

#endif
