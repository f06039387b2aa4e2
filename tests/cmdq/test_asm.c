/* SPDX-License-Identifier: BSD-2-Clause */
/* The assembler: what it takes beyond what the disassembler writes, and what it says of what it does not take. */
#include "packets.h"

static void makes(const char *soc, const char *text, const uint64_t *words, size_t count)
{
	struct program program = assembled(soc, text);

	if (program.count != count)
		fail_msg("%s: %zu words, expected %zu", text, program.count, count);
	for (size_t i = 0; i < count; i++) {
		if (program.words[i] != words[i])
			fail_msg("%s: word %zu is %016llx, expected %016llx", text, i,
				 (unsigned long long)program.words[i],
				 (unsigned long long)words[i]);
	}
	program_free(&program);
}

#define MAKES(soc, text, ...)                                                                      \
	makes(soc, text, (const uint64_t[]){__VA_ARGS__},                                          \
	      sizeof((const uint64_t[]){__VA_ARGS__}) / 8)

static void test_writing(void **state)
{
	(void)state;
	MAKES("mt8173", "wfe 53", 0x2000003580008001);
	MAKES("mt8173", "\twfe\tDISP_MUTEX0_STREAM_EOF ; comment\r\n", 0x2000003580008001);
	MAKES("mt8173", "wfe CMDQ_EVENT_DISP_MUTEX0_STREAM_EOF", 0x2000003580008001);
	/* a driver's name, where the chip's is another one */
	MAKES("mt8183", "wfe DISP_MUTEX0_STREAM_EOF", 0x2000008280008001);
	MAKES("mt8183", "wfe MUTEX_STREAM_DONE0", 0x2000008280008001);
	MAKES("mt8173", "# nothing\n\n  // nothing\neoc", 0x4000000000000001);
	MAKES("mt8173", "write 0x14022004,16", 0x0403200400000010);
	MAKES("mt8173", "write 3:0x2004, 0b10000", 0x0403200400000010);
	MAKES("mt8173", "write 3:0x2004, -1", 0x04032004ffffffff);
	MAKES("mt8173", "assign r3, 0xffffffff", 0xa0800023ffffffff);
	MAKES("mt8173", "assign reg35, 2+3-1", 0xa080002300000004);
	MAKES("mt8173", ".word 1, 0xffffffffffffffff,-1", 1, UINT64_MAX, UINT64_MAX);
	/* two commands that belong together */
	MAKES("mt8173", "write_mask 0x14022004, 0x10, 0xff", 0x02000000ffffff00,
	      0x0403200500000010);
	MAKES("mt8173", "poll_mask [r15], 7, 0xf", 0x02000000fffffff0, 0x088f000100000007);
	MAKES("mt8173", "write_s_mask spr0:0x5678, spr1, 0xf0", 0x02000000ffffff0f,
	      0x9140567a00010000);
	MAKES("mt8173", "finalize", 0x4000000000000001, 0x1000000000000008);
	MAKES("mt8192", "finalize", 0x4000000000000001, 0x1000000000000001);
}

static void test_names(void **state)
{
	(void)state;
	MAKES("mt8173", ".equ OVL, 0x1400c000\n.equ EN, OVL + 0xc\nwrite EN, 1\nwrite OVL+4-4, 2",
	      0x0401c00c00000001, 0x0401c00000000002);
	MAKES("mt8173", "a: eoc\njump_rel a\njump_rel b\nb:", 0x4000000000000001,
	      0x10000000fffffff8, 0x1000000000000008);
	MAKES("mt8192", "a: eoc\njump_rel a", 0x4000000000000001, 0x10000000ffffffff);
	MAKES("mt8192", "a: b: eoc\njump_c_rel a, spr0 < 3", 0x4000000000000001,
	      0xb145ffff00000003);
	/* two words of one line: a label behind them knows */
	MAKES("mt8173", "jump_rel end\nwrite_mask 0x14000000, 1, 1\nend: eoc", 0x1000000000000018,
	      0x02000000fffffffe, 0x0401000100000001, 0x4000000000000001);
	/* a name that is defined further down */
	MAKES("mt8173", "jump_rel a\nwrite SUB:LOW, 1\na: eoc\n.equ SUB, 3\n.equ LOW, 4",
	      0x1000000000000010, 0x0403000400000001, 0x4000000000000001);
	/* the difference of labels is a number */
	MAKES("mt8173", "a: eoc\nb: assign spr0, b - a", 0x4000000000000001, 0xa080000000000008);
}

static void test_base(void **state)
{
	static const char text[] = "eoc\na: jump_abs a";
	struct complaints complaints = {0};
	struct program program = {0};

	(void)state;
	assert_int_equal(asm_program(cmdq_profile_find("mt8192"), 0x80000000, text, strlen(text),
				     &program, note_complaint, &complaints),
			 0);
	assert_int_equal(program.words[1], 0x1000000110000001);
	program_free(&program);
}

/* Each: file position, and words of the message. */
static const struct {
	const char *text, *place, *words;
} wrong[] = {
	{"eoc\n  wrte 1", "2:3: ", "no command 'wrte'; expected a label, or one of: "},
	{"write 0x14022004", "1:17: ", "expected `write ADDRESS, VALUE|rN` or `write [rN]"},
	{"write r3, 1", "1:7: ", "expected `write ADDRESS"},
	{"write 0x15000000, 1", "1:7: ", "in no subsys of mt8173, which has 0x1400xxxx"},
	{"write 32:0, 1", "1:7: ", "subsys 32 is out of range: 0 to 31"},
	{"write 3:0x10000, 1", "1:7: ", "offset 0x10000 is out of range: 0x0 to 0xffff"},
	{"write 3:1, 1", "1:7: ", "not a multiple of 4"},
	{"write 3:0, 0x100000000",
	 "1:12: ", "0x100000000 is out of range: -0x80000000 to 0xffffffff"},
	{"wfe DISP_OVL9_SOF", "1:5: ", "mt8173 has no event 'DISP_OVL9_SOF'; 0 to 1023"},
	{"wfe 1024", "1:5: ", "event 1024 is out of range: 0 to 1023"},
	{"add spr0, spr1", "1:15: ", "expected `add REG, VALUE|REG, VALUE|REG`"},
	{"add spr0, spr1, 65536", "1:17: ", "value 0x10000 is out of range: 0x0 to 0xffff"},
	{"assign spr4, 1", "1:8: ", "no register spr4: spr0 to spr3"},
	{"assign r16, 1", "1:8: ", "no register r16: r0 to r15"},
	{"assign cpr1312, 1", "1:8: ", "no register cpr1312: cpr0 to cpr1311"},
	{"move spr0, 1", "1:6: ", "r0 to r15"},
	{"write_s r0:4, 1", "1:9: ", "spr0 to spr3"},
	{"write_s spr0:2, 1", "1:9: ", "multiple of 4"},
	{"write_s spr0:0x10000, 1", "1:9: ", "0x0 to 0xfffc"},
	{"jump_rel nowhere", "1:10: ", "'nowhere' is not defined"},
	{"jump_rel 0x80000000", "1:10: ", "-2147483648 to "},
	{"jump_abs 0x100000000", "1:10: ", "0 to 0xffffffff on mt8173 (shift 0)"},
	{"a: jump_abs a", "1:13: ", "--base"},
	{"jump_c_rel 8, spr0 = 1", "1:20: ", "expected a comma or the end of the line, found '='"},
	{"jump_c_rel 0x8000, spr0 == 1", "1:12: ", "-32768 to 32767"},
	{"a: eoc\n a: eoc", "2:2: ", "'a' is defined already, in line 1"},
	{"spr1: eoc", "1:1: ", "name of a register"},
	{".equ r0, 1", "1:6: ", "a register"},
	{".equ x 1", "1:8: ", "expected a comma"},
	{".equ x, y", "1:9: ", "expected a number"},
	/* The sum lacked a term where it was used. */
	{"write 0x1400c000, A\n.equ A, B + 1\n.equ B, 5", "2:6: ", "one that is defined below"},
	{"write 3:0, N\n.equ N, end - start\nstart: eoc\nend: eoc",
	 "2:6: ", "one that is defined below"},
	{".word", "1:6: ", "expected an operand, found the end of the line"},
	{".word 0x10000000000000000", "1:7: ", "0 to 0xffffffffffffffff"},
	{".word 12a", "1:9: ", "'a' is no digit of base 10"},
	{".word 0x", "1:9: ", "expected digits"},
	{".word spr0", "1:7: ", "a register is no word"},
	{"eoc 1 2", "1:7: ", "expected a comma or the end of the line, found '2'"},
	{"eoc 1, 2", "1:8: ", "expected `eoc` or `eoc VALUE`"},
	{"read_s spr0, [5]", "1:15: ", "expected a register between [ and ]"},
	{"read_s spr0, [spr1", "1:19: ", "expected ]"},
	{"finalize 1", "1:10: ", "no operands"},
	{"eoc 1,,2", "1:7: ", "expected an operand, found ','"},
	{"eoc \x01", "1:5: ", "found '?'"},
	{"assign spr0, spr1 + 1", "1:14: ", "a register cannot be part of a number"},
};

static void test_complaints(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct complaints complaints = {0};
		struct program program = {0};

		assert_int_equal(asm_program(cmdq_profile_find("mt8173"), BASE_UNKNOWN,
					     wrong[i].text, strlen(wrong[i].text), &program,
					     note_complaint, &complaints),
				 -EINVAL);
		assert_int_equal(complaints.count, 1);
		if (strncmp(complaints.text, wrong[i].place, strlen(wrong[i].place)) != 0 ||
		    !strstr(complaints.text, wrong[i].words))
			fail_msg("%s: \"%s\", expected \"%s...%s\"", wrong[i].text, complaints.text,
				 wrong[i].place, wrong[i].words);
		program_free(&program);
	}
}

/* All of them are told in one run, up to twenty. */
static void test_many_complaints(void **state)
{
	struct complaints complaints = {0};
	struct program program = {0};
	char text[400] = "";

	(void)state;
	for (unsigned i = 0; i < 50; i++)
		strcat(text, "wfe x\n");
	assert_int_equal(asm_program(cmdq_profile_find("mt8173"), BASE_UNKNOWN, text, strlen(text),
				     &program, note_complaint, &complaints),
			 -EINVAL);
	assert_int_equal(complaints.count, 20);
	program_free(&program);
}

/* A packet that the helpers made is what its text makes. */
static void test_as_helpers(void **state)
{
	static const char text[] = "wfe DISP_MUTEX0_STREAM_EOF\n"
				   "write_mask 0x14022004, 0x10, 0xff\n"
				   "assign spr0, 0x1234\n"
				   "write_s spr0:0x5678, spr1\n"
				   "finalize\n";
	struct cmdq_base base = device("mt8173", 0x14022000);
	struct program program = assembled("mt8173", text);
	struct cmdq_pkt *pkt = packet("mt8173");
	const uint64_t *words;
	size_t count;

	(void)state;
	assert_int_equal(cmdq_pkt_wfe(pkt, CMDQ_EVENT_DISP_MUTEX0_STREAM_EOF), 0);
	assert_int_equal(cmdq_pkt_write_mask(pkt, 0x10, &base, 4, 0xff), 0);
	assert_int_equal(cmdq_pkt_assign(pkt, CMDQ_REG_SPR(0), 0x1234), 0);
	assert_int_equal(cmdq_pkt_write_s(pkt, CMDQ_REG_SPR(0), 0x5678, CMDQ_REG_SPR(1)), 0);
	assert_int_equal(cmdq_pkt_finalize(pkt), 0);
	words = cmdq_pkt_words(pkt, &count);
	assert_int_equal(program.count, count);
	assert_memory_equal(program.words, words, count * 8);
	cmdq_pkt_destroy(pkt);
	program_free(&program);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writing),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_base),
		cmocka_unit_test(test_complaints),
		cmocka_unit_test(test_many_complaints),
		cmocka_unit_test(test_as_helpers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
