/* SPDX-License-Identifier: BSD-2-Clause */
#include "segment.h"

#include <errno.h>
#include <string.h>

#define NUMBER(name_, kind_, help_) {#name_, help_, SEGMENT_##kind_},
const struct segment_number segment_number[] = {WEIR_SEGMENT_VALUES(NUMBER)};
const struct segment_number segment_container_number[] = {WEIR_SEGMENT_CONTAINER_VALUES(NUMBER)};

void segment_values(const struct weir_stats *s, uint64_t peak_rss,
		    uint64_t value[static WEIR_SEGMENT_VALUE_COUNT])
{
	const uint64_t all[] = {
		[WEIR_SEGMENT_limit_bytes] = s->limit,
		[WEIR_SEGMENT_managed_bytes] = s->charged,
		[WEIR_SEGMENT_peak_managed_bytes] = s->peak,
		[WEIR_SEGMENT_peak_rss_bytes] = peak_rss,
		[WEIR_SEGMENT_resident_bytes] = s->resident,
		[WEIR_SEGMENT_compressed_bytes] = s->compressed,
		[WEIR_SEGMENT_stored_bytes] = s->stored,
		[WEIR_SEGMENT_populated_bytes] = s->populated,
		[WEIR_SEGMENT_overhead_bytes] = s->overhead,
		[WEIR_SEGMENT_faults] = s->faults,
		[WEIR_SEGMENT_soft_faults] = s->soft_faults,
		[WEIR_SEGMENT_first_faults] = s->first_faults,
		[WEIR_SEGMENT_compressed_faults] = s->compressed_faults,
		[WEIR_SEGMENT_stored_faults] = s->stored_faults,
		[WEIR_SEGMENT_parked_faults] = s->parked_faults,
		[WEIR_SEGMENT_pages_ahead] = s->ahead,
		[WEIR_SEGMENT_refaults] = s->refaults,
		[WEIR_SEGMENT_same_filled] = s->same_filled,
		[WEIR_SEGMENT_moved_out] = s->moved_out,
		[WEIR_SEGMENT_compressed_bytes_in] = s->packed_in,
		[WEIR_SEGMENT_compressed_bytes_out] = s->packed_out,
		[WEIR_SEGMENT_written_pages] = s->written,
		[WEIR_SEGMENT_write_failed] = s->write_failed,
		[WEIR_SEGMENT_over_max] = s->over_max,
		[WEIR_SEGMENT_poisoned] = s->poisoned,
		[WEIR_SEGMENT_fork_loaded] = s->fork_loaded,
		[WEIR_SEGMENT_forks_handed_over] = s->forks_handed_over,
		[WEIR_SEGMENT_bindings] = s->bindings,
		[WEIR_SEGMENT_blocks_onlined] = s->blocks_onlined,
		[WEIR_SEGMENT_blocks_offlined] = s->blocks_offlined,
		[WEIR_SEGMENT_blocks_offlined_live] = s->blocks_offlined_live,
		[WEIR_SEGMENT_blocks_refused] = s->blocks_refused,
		[WEIR_SEGMENT_frames_migrated] = s->frames_migrated,
		[WEIR_SEGMENT_kmap_hits] = s->kmap_hits,
		[WEIR_SEGMENT_kmap_misses] = s->kmap_misses,
		[WEIR_SEGMENT_kmap_retired] = s->kmap_retired,
		[WEIR_SEGMENT_kmap_flushes] = s->kmap_flushes,
		[WEIR_SEGMENT_kmap_waits] = s->kmap_waits,
		[WEIR_SEGMENT_kmap_busy] = s->kmap_busy,
		[WEIR_SEGMENT_fault_ns_p50] = s->fault_ns_p50,
		[WEIR_SEGMENT_fault_ns_p90] = s->fault_ns_p90,
		[WEIR_SEGMENT_fault_ns_p99] = s->fault_ns_p99,
		[WEIR_SEGMENT_fault_ns_max] = s->fault_ns_max,
		[WEIR_SEGMENT_fault_ns_sum] = s->fault_ns_sum,
	};

	_Static_assert(ARRAY_SIZE(all) == WEIR_SEGMENT_VALUE_COUNT, "each number has its place");
	memcpy(value, all, sizeof(all));
}

/* A number at an offset that need not be a multiple of anything. */
static uint64_t number_at(const char *at)
{
	uint64_t n;

	memcpy(&n, at, sizeof(n));
	return n;
}

/* As many as both know. */
static void numbers_take(uint64_t *to, unsigned mine, const char *from, unsigned theirs)
{
	for (unsigned i = 0; i < mine; i++)
		to[i] = i < theirs ? number_at(from + i * sizeof(*to)) : 0;
}

static void path_take(char to[static WEIR_SEGMENT_PATH], const char *from)
{
	size_t len = strnlen(from, WEIR_SEGMENT_PATH - 1);

	memset(to, 0, WEIR_SEGMENT_PATH);
	memcpy(to, from, len);
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)to[i] < ' ' || to[i] == 0x7f)
			to[i] = '?';
	}
}

int segment_parse(const void *bytes, size_t size, struct seen *seen)
{
	const char *at = bytes;
	struct weir_segment head;
	uint64_t stride, end;

	if (size < sizeof(head))
		return -EINVAL;
	memcpy(&head, at, sizeof(head));
	if (head.sequence % 2)
		return -EAGAIN;
	if (head.magic != WEIR_SEGMENT_MAGIC || head.bytes > size || head.header < sizeof(head) ||
	    !head.containers)
		return -EINVAL;
	/* None of it overflows 64 bits: each is a product of two of 32. */
	stride = head.container_values * sizeof(uint64_t) + (uint64_t)WEIR_SEGMENT_PATH;
	end = head.header + head.values * sizeof(uint64_t);
	if (end > head.bytes || head.containers > (head.bytes - end) / stride)
		return -EINVAL;
	seen->sequence = head.sequence;
	seen->now_ns = head.now_ns;
	seen->start_ns = MIN(head.start_ns, head.now_ns);
	numbers_take(seen->value, WEIR_SEGMENT_VALUE_COUNT, at + head.header, head.values);
	seen->containers = MIN(head.containers, (uint32_t)WEIR_SEGMENT_CONTAINERS);
	seen->more = head.more + head.containers - seen->containers;
	at += end;
	for (unsigned i = 0; i < seen->containers; i++, at += stride) {
		struct weir_segment_container *c = &seen->container[i];

		numbers_take(c->value, WEIR_SEGMENT_CONTAINER_VALUE_COUNT, at,
			     head.container_values);
		path_take(c->path, at + head.container_values * sizeof(uint64_t));
	}
	return 0;
}
