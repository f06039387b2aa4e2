/* SPDX-License-Identifier: BSD-2-Clause */
/* The forms of input: the same two words out of each, and what is said of what is cut off. */
#include "packets.h"

static const uint64_t two[] = {0x2000003580008001, 0x0403200500000010};

static void reads(enum input_format format, const char *text, size_t length, const uint64_t *words,
		  size_t count)
{
	struct complaints complaints = {0};
	struct program program = {0};

	if (input_read(format, text, length, &program, note_complaint, &complaints))
		fail_msg("%s: %s", text, complaints.text);
	assert_int_equal(program.count, count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(program.words[i], words[i]);
	program_free(&program);
}

static void refuses(enum input_format format, const char *text, size_t length, const char *place,
		    const char *words)
{
	struct complaints complaints = {0};
	struct program program = {0};

	assert_int_equal(input_read(format, text, length, &program, note_complaint, &complaints),
			 -EINVAL);
	if (strncmp(complaints.text, place, strlen(place)) != 0 || !strstr(complaints.text, words))
		fail_msg("%s: \"%s\", expected \"%s...%s\"", text, complaints.text, place, words);
	program_free(&program);
}

#define READS(format, text) reads(format, text, strlen(text), two, 2)
#define REFUSES(format, text, place, words) refuses(format, text, strlen(text), place, words)

static void test_hex(void **state)
{
	(void)state;
	READS(INPUT_HEX, "2000003580008001\n0403200500000010\n");
	READS(INPUT_HEX, "; a comment\n\n  0x2000003580008001 # wait\r\n0403200500000010");
	REFUSES(INPUT_HEX, "2000003580008001\n040320050000001\n",
		"2:1: ", "16 hexadecimal digits a line, found 15");
	REFUSES(INPUT_HEX, "2000003580008001 0403200500000010\n", "1:18: ", "one word a line");
	REFUSES(INPUT_HEX, "\nwfe 53\n", "2:1: ", "16 hexadecimal digits");
	reads(INPUT_HEX, "", 0, NULL, 0);
}

static void test_pairs(void **state)
{
	(void)state;
	READS(INPUT_PAIRS, "80008001 20000035\n00000010 04032005\n");
	READS(INPUT_PAIRS, "0x80008001, 0x20000035, 0x00000010, 0x04032005");
	READS(INPUT_PAIRS, "80008001\n20000035 00000010\n04032005\n");
	REFUSES(INPUT_PAIRS, "80008001 20000035\n  00000010\n", "2:3: ", "no high half");
	REFUSES(INPUT_PAIRS, "80008001 2000003\n", "1:10: ", "8 hexadecimal digits");
}

static void test_binary(void **state)
{
	char bytes[19];

	(void)state;
	memcpy(bytes, two, 16);
	memcpy(bytes + 16, "abc", 3);
	reads(INPUT_BINARY, bytes, 16, two, 2);
	reads(INPUT_BINARY, bytes, 0, NULL, 0);
	refuses(INPUT_BINARY, bytes, 19, "3:4: ", "19 bytes end with 3 left over");
	refuses(INPUT_BINARY, bytes, 7, "1:8: ", "7 bytes end with 7 left over");
}

/* Dumps as drivers write them: with time stamps, offsets, addresses, and lines that are none. */
static void test_log(void **state)
{
	(void)state;
	READS(INPUT_LOG, "[   12.345678] cmdq 10212000.mailbox: timeout, pc 0x80001000\n"
			 "[   12.345679] cmdq: 0x2000003580008001\n"
			 "[   12.345680] cmdq: 0x0403200500000010 write\n");
	READS(INPUT_LOG, "[   12.345679] cmdq: 0x80001000: 0x80008001:0x20000035 => SYNC\n"
			 "[   12.345680] cmdq: 0x80001008: 0x00000010:0x04032005 => WRIT\n");
	/* print_hex_dump, in groups of 8, 4 and 1 */
	READS(INPUT_LOG, "[1.0] pkt 00000000: 2000003580008001 0403200500000010\n");
	READS(INPUT_LOG, "[1.0] pkt 00000000: 80008001 20000035 00000010 04032005\n");
	READS(INPUT_LOG, "[1.0] pkt 00000000: 01 80 00 80 35 00 00 20 10 00 00 00 05 20 03 04\n");
	/* addresses of 16 digits in front */
	READS(INPUT_LOG, "ffffff80098a0000: 2000003580008001 0403200500000010\n");
	/* times, dates, numbers of processes, single addresses */
	READS(INPUT_LOG, "[Sat Nov 21 12:34:56 2026] cmdq [00000010]: [80008001 20000035]\n"
			 "12345678 01:02:03 T12345678: 12345678 end 12345678 of ffffff80098a0000\n"
			 "<4>[12345678.123456][ T10212000] 10 04032005: 00000010,04032005\n");
	REFUSES(INPUT_LOG, "[1.0] pkt: 80008001 20000035 00000010\n", "1:12: ", "odd number");
	REFUSES(INPUT_LOG, "[1.0] nothing here\n", "1:1: ", "no words found");
	REFUSES(INPUT_LOG, "", "1:1: ", "no words found");
}

static void test_looks_hex(void **state)
{
	static const char *const hex[] = {"2000003580008001", "\n ; x\n0x2000003580008001\n"},
				 *const text[] = {"", "wfe 53", "# x", "; x\neoc",
						  "200000358000800"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(hex); i++)
		assert_true(input_looks_hex(hex[i], strlen(hex[i])));
	for (unsigned i = 0; i < ARRAY_SIZE(text); i++)
		assert_false(input_looks_hex(text[i], strlen(text[i])));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hex),	  cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_binary),	  cmocka_unit_test(test_log),
		cmocka_unit_test(test_looks_hex),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
