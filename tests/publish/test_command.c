/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands: what is written is read again, all else is refused, and nothing behind the packet is looked at. */
#include "unit.h"

#include "command.h"

static struct command parsed(const char *text, int expected)
{
	struct command command = {.path = "untouched"};
	const size_t size = strlen(text);
	/* Static, as the path points into it; one byte more than the packet, which the parser may set. */
	static char copy[WEIR_COMMAND_BYTES + 1];

	assert_true(size < sizeof(copy));
	memset(copy, 'x', sizeof(copy));
	memcpy(copy, text, size);
	assert_int_equal(command_parse(copy, size, &command), expected);
	return command;
}

static void commands_are_understood(void **state)
{
	struct command c;

	(void)state;
	assert_int_equal(parsed("watch\n", 0).kind, COMMAND_WATCH);
	assert_int_equal(parsed("watch", 0).kind, COMMAND_WATCH);
	c = parsed("set max 536870912\n", 0);
	assert_int_equal(c.kind, COMMAND_SET);
	assert_int_equal(c.value, WEIR_MAX);
	assert_int_equal(c.bytes, 536870912);
	assert_string_equal(c.path, "");
	c = parsed("set swap.max max batch/a night = 1:2\n", 0);
	assert_int_equal(c.value, WEIR_SWAP_MAX);
	assert_true(c.bytes == WEIR_NO_LIMIT);
	assert_string_equal(c.path, "batch/a night = 1:2");
	c = parsed("reclaim 18446744073709551615 /", 0);
	assert_int_equal(c.kind, COMMAND_RECLAIM);
	assert_string_equal(c.path, "/");
	assert_int_equal(parsed("online 134217728\n", 0).kind, COMMAND_ONLINE);
	assert_int_equal(parsed("offline 134217728\n", 0).kind, COMMAND_OFFLINE);
}

static void anything_else_is_refused(void **state)
{
	static const char *const wrong[] = {
		"",
		"\n",
		" ",
		" watch",
		"watch ever",
		"watc",
		"watchx",
		"set",
		"set ",
		"set max",
		"set max ",
		"set  max 1",
		"set current 1",
		"set MAX 1",
		"set max 0x10",
		"set max 64M",
		"set max -1",
		"set max +1",
		"set max 1.5",
		"reclaim",
		"reclaim x",
		"online",
		"online 1 here",
		"offline",
		"offline 1 x",
		"set max 1 a\nb",
		"set max 1 a\tb",
		"set max 1 \x7f",
		"watch\n\n",
		"\x01",
		"set swap.current 1",
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
		(void)parsed(wrong[i], -EINVAL);
	(void)parsed("set max 18446744073709551616", -ERANGE);
	(void)parsed("reclaim 99999999999999999999999999", -ERANGE);
}

static void a_zero_byte_is_refused(void **state)
{
	char text[] = "set max 1 a\0b";
	struct command command;

	(void)state;
	assert_int_equal(command_parse(text, sizeof(text) - 1, &command), -EINVAL);
}

static void what_is_written_is_read_again(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		static const enum weir_value values[] = {WEIR_PEAK, WEIR_MAX, WEIR_HIGH, WEIR_LOW,
							 WEIR_SWAP_MAX};
		char path[300], text[WEIR_COMMAND_BYTES + 1];
		struct command c = {.kind = (enum command_kind)random_below(&seed, 5), .path = ""};
		struct command again;
		unsigned len = random_below(&seed, sizeof(path));
		int n;

		for (unsigned k = 0; k < len; k++) {
			do
				path[k] = random_char(&seed, ' ');
			while (path[k] == 0x7f);
		}
		path[len] = '\0';
		if (c.kind == COMMAND_SET || c.kind == COMMAND_RECLAIM)
			c.path = path;
		if (c.kind == COMMAND_SET)
			c.value = values[random_below(&seed, ARRAY_SIZE(values))];
		if (c.kind != COMMAND_WATCH)
			c.bytes = random_chance(&seed, 4) ? WEIR_NO_LIMIT : random_next(&seed);
		n = command_format(&c, text, sizeof(text));
		assert_true(n > 0 && text[n - 1] == '\n');
		assert_int_equal(command_parse(text, (size_t)n, &again), 0);
		assert_int_equal(again.kind, c.kind);
		assert_int_equal(again.value, c.value);
		assert_true(again.bytes == c.bytes);
		assert_string_equal(again.path, c.path);
	}
}

static void replies(void **state)
{
	char text[64],
		wrong[][24] = {"", "1 2\n", "-1\n", "-1 \n", "-4096 0", "0 0 0", "0 -1", "- 1"};
	struct reply r = {.result = -EAGAIN, .number = UINT64_MAX}, again;
	int n = reply_format(&r, text, sizeof(text));

	(void)state;
	assert_true(n > 0);
	assert_int_equal(reply_parse(text, (size_t)n, &again), 0);
	assert_int_equal(again.result, -EAGAIN);
	assert_true(again.number == UINT64_MAX);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(reply_parse(wrong[i], strlen(wrong[i]), &again), -EINVAL);
	assert_int_equal(reply_format(&r, text, 5), -ENAMETOOLONG);
}

static void a_packet_that_does_not_fit(void **state)
{
	char path[WEIR_COMMAND_BYTES + 1], text[WEIR_COMMAND_BYTES];
	struct command c = {.kind = COMMAND_RECLAIM, .path = path};

	(void)state;
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(command_format(&c, text, sizeof(text)), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_are_understood),
		cmocka_unit_test(anything_else_is_refused),
		cmocka_unit_test(a_zero_byte_is_refused),
		cmocka_unit_test(what_is_written_is_read_again),
		cmocka_unit_test(replies),
		cmocka_unit_test(a_packet_that_does_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
