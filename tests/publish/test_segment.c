/* SPDX-License-Identifier: BSD-2-Clause */
/* Segments: what another version has written is understood as far as both know it, what contradicts itself is refused. */
#include "unit.h"

#include "segment.h"

enum { ROOM = 64 << 10 };

static struct seen seen;
static uint64_t words[ROOM / 8];

/* A segment of a version with so many numbers, the first of each list counted from first. Its bytes. */
static uint32_t make(unsigned header, unsigned values, unsigned container_values,
		     unsigned containers)
{
	struct weir_segment head = {
		.magic = WEIR_SEGMENT_MAGIC,
		.header = header,
		.values = values,
		.container_values = container_values,
		.containers = containers,
		.more = 1,
		.sequence = 8,
		.now_ns = 5000,
		.start_ns = 2000,
	};
	char *at = (char *)words + header;

	memset(words, 0x5a, sizeof(words));
	for (uint64_t i = 0; i < values; i++, at += 8)
		memcpy(at, &(uint64_t){1000 + i}, 8);
	for (unsigned c = 0; c < containers; c++) {
		for (uint64_t i = 0; i < container_values; i++, at += 8)
			memcpy(at, &(uint64_t){(c + 1) * 100 + i}, 8);
		memset(at, 0, WEIR_SEGMENT_PATH);
		snprintf(at, WEIR_SEGMENT_PATH, "path/%u", c);
		at += WEIR_SEGMENT_PATH;
	}
	head.bytes = (uint32_t)(at - (char *)words);
	memcpy(words, &head, sizeof(head));
	return head.bytes;
}

static struct weir_segment *head(void)
{
	return (struct weir_segment *)words;
}

static void every_version_is_understood(void **state)
{
	static const unsigned more[] = {0, 1, 7};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(more); i++) {
		uint32_t bytes = make(sizeof(struct weir_segment) + 8 * more[i],
				      WEIR_SEGMENT_VALUE_COUNT + more[i],
				      WEIR_SEGMENT_CONTAINER_VALUE_COUNT + more[i], 3);

		assert_int_equal(segment_parse(words, bytes, &seen), 0);
		assert_int_equal(seen.containers, 3);
		assert_int_equal(seen.more, 1);
		assert_int_equal(seen.value[0], 1000);
		assert_int_equal(seen.value[WEIR_SEGMENT_VALUE_COUNT - 1],
				 1000 + WEIR_SEGMENT_VALUE_COUNT - 1);
		assert_int_equal(seen.container[2].value[1], 301);
		assert_string_equal(seen.container[2].path, "path/2");
	}
	/* One that knew less. */
	assert_int_equal(segment_parse(words, make(sizeof(struct weir_segment), 2, 1, 2), &seen),
			 0);
	assert_int_equal(seen.value[1], 1001);
	assert_int_equal(seen.value[2], 0);
	assert_int_equal(seen.container[1].value[0], 200);
	assert_int_equal(seen.container[1].value[1], 0);
}

static void more_containers_than_have_room(void **state)
{
	const unsigned many = WEIR_SEGMENT_CONTAINERS + 5;

	(void)state;
	assert_int_equal(segment_parse(words, make(sizeof(struct weir_segment), 1, 1, many), &seen),
			 0);
	assert_int_equal(seen.containers, WEIR_SEGMENT_CONTAINERS);
	assert_int_equal(seen.more, 6);
}

static void what_contradicts_itself_is_refused(void **state)
{
	const uint32_t bytes = make(sizeof(struct weir_segment), 10, 4, 2);
	const struct weir_segment right = *head();

	(void)state;
#define WRONG(field, value, expected)                                                              \
	do {                                                                                       \
		*head() = right;                                                                   \
		head()->field = (value);                                                           \
		assert_int_equal(segment_parse(words, bytes, &seen), expected);                    \
	} while (0)
	WRONG(sequence, 9, -EAGAIN);
	WRONG(magic, 0, -EINVAL);
	WRONG(bytes, bytes + 1, -EINVAL);
	WRONG(bytes, 0, -EINVAL);
	WRONG(header, sizeof(struct weir_segment) - 1, -EINVAL);
	WRONG(header, UINT32_MAX, -EINVAL);
	WRONG(values, UINT32_MAX, -EINVAL);
	WRONG(values, right.values + 1, -EINVAL);
	WRONG(container_values, UINT32_MAX, -EINVAL);
	WRONG(container_values, right.container_values + 1, -EINVAL);
	WRONG(containers, 0, -EINVAL);
	WRONG(containers, 3, -EINVAL);
	WRONG(containers, UINT32_MAX, -EINVAL);
#undef WRONG
	*head() = right;
	assert_int_equal(segment_parse(words, bytes, &seen), 0);
	for (uint32_t size = 0; size < bytes; size++)
		assert_int_equal(segment_parse(words, size, &seen), -EINVAL);
}

static void paths_are_printable_and_end(void **state)
{
	const uint32_t bytes = make(sizeof(struct weir_segment), 1, 1, 1);
	char *path = (char *)words + bytes - WEIR_SEGMENT_PATH;

	(void)state;
	memset(path, 'a', WEIR_SEGMENT_PATH);
	memcpy(path, "\x1b[2Jx\n\x7f", 7);
	assert_int_equal(segment_parse(words, bytes, &seen), 0);
	assert_int_equal(strlen(seen.container[0].path), WEIR_SEGMENT_PATH - 1);
	assert_memory_equal(seen.container[0].path, "?[2Jx??aa", 9);
}

static void times_do_not_go_backwards(void **state)
{
	const uint32_t bytes = make(sizeof(struct weir_segment), 1, 1, 1);

	(void)state;
	head()->start_ns = UINT64_MAX;
	assert_int_equal(segment_parse(words, bytes, &seen), 0);
	assert_true(seen.start_ns <= seen.now_ns);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_version_is_understood),
		cmocka_unit_test(more_containers_than_have_room),
		cmocka_unit_test(what_contradicts_itself_is_refused),
		cmocka_unit_test(paths_are_printable_and_end),
		cmocka_unit_test(times_do_not_go_backwards),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
