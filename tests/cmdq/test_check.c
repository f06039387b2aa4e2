/* SPDX-License-Identifier: BSD-2-Clause */
/* The checker: one program for each defect, which is all that it says of it; and programs of which it says nothing. */
#include "packets.h"

struct found {
	int defects;
	struct complaints complaints;
};

static struct found check_words(const char *soc, uint64_t base, const struct program *program)
{
	struct found found = {0};

	found.defects = check_program(cmdq_profile_find(soc), base, program, note_complaint,
				      &found.complaints);
	return found;
}

static struct found check(const char *soc, uint64_t base, const char *text)
{
	struct program program = assembled(soc, text);
	struct found found = check_words(soc, base, &program);

	program_free(&program);
	return found;
}

/* One defect, in that line, with these words. */
static void finds_at(const char *soc, uint64_t base, const char *text, unsigned line,
		     const char *words)
{
	const struct found found = check(soc, base, text);
	char place[16];

	snprintf(place, sizeof(place), "%u:0: ", line);
	if (found.defects != 1 || found.complaints.count != 1 ||
	    strncmp(found.complaints.text, place, strlen(place)) != 0 ||
	    !strstr(found.complaints.text, words))
		fail_msg("%s\nfound %d:\n%sexpected \"%s...%s\"", text, found.defects,
			 found.complaints.text, place, words);
}

static void finds(const char *soc, const char *text, unsigned line, const char *words)
{
	finds_at(soc, BASE_UNKNOWN, text, line, words);
}

static void silent(const char *soc, const char *text)
{
	const struct found found = check(soc, 0x80000000, text);

	if (found.defects || found.complaints.count)
		fail_msg("%s\nfound %d:\n%s", text, found.defects, found.complaints.text);
}

static void test_silent(void **state)
{
	(void)state;
	silent("mt8173", "finalize");
	silent("mt8173", "wfe DISP_OVL0_SOF\nwrite_mask 0x14000000, 1, 1\nfinalize");
	/* what stands between a mask and its user, and does not use it, does no harm */
	silent("mt8192", "mask 0xff\nassign spr0, 1\nwrite_s_mask spr0:0, 1\nfinalize");
	silent("mt8192", "a: add spr0, spr0, 1\njump_c_rel a, spr0 < 10\nfinalize");
	silent("mt8173", "jump_rel b\na: jump_rel e\nb: jump_rel a\ne: finalize");
	silent("mt8173", "eoc\njump_abs 0x80000000");
	/* where a register says: anything may be reached */
	silent("mt8192", "jump_c_rel spr0, spr1 == 1\njump_rel e\nassign spr1, 1\ne: finalize");
}

static void test_no_terminating_jump(void **state)
{
	struct program none = {0};
	struct found found;

	(void)state;
	finds("mt8173", "eoc", 1, "no terminating jump");
	finds("mt8173", "wfe DISP_OVL0_SOF\n\neoc\n", 3, "no terminating jump");
	finds("mt8173", "wfe DISP_OVL0_SOF\njump_rel 8", 2, "no eoc before the terminating jump");
	found = check_words("mt8173", BASE_UNKNOWN, &none);
	assert_int_equal(found.defects, 1);
	assert_non_null(strstr(found.complaints.text, "no commands"));
}

static void test_masks(void **state)
{
	(void)state;
	finds("mt8173", "write_mask 0x14000000, 1\nfinalize", 1,
	      "masked write without a fresh mask");
	/* a mask is for one user */
	finds("mt8173", "write_mask 0x14000000, 1, 1\nwrite_mask 0x14000004, 1\nfinalize", 2,
	      "without a fresh mask");
	finds("mt8192", "write_s_mask 0x14000000, 1\nfinalize", 1, "without a fresh mask");
	finds("mt8173", "mask 1\nwrite 0x14000000, 1\nfinalize", 1, "mask not used");
	finds("mt8173", "mask 1\nmask 2\nwrite_mask 0x14000000, 1\nfinalize", 1, "mask not used");
	/* a jump that lands behind the mask: both are wrong */
	assert_int_equal(
		check("mt8192", BASE_UNKNOWN,
		      "mask 1\na: write_mask 0x14000000, 1\njump_c_rel a, spr0 == 1\nfinalize")
			.defects,
		2);
}

static void test_unknown(void **state)
{
	(void)state;
	finds("mt8173", "write 9:0, 1\nfinalize", 1, "unknown subsys 9");
	finds("mt8192", "read_s spr0, 31:0\nfinalize", 1, "unknown subsys 31");
	finds("mt8173", "write 3:2, 1\nfinalize", 1, "not a multiple of 4");
	finds("mt8173", "clear_event 600\nfinalize", 1, "unknown event 600: mt8173");
	finds("mt8173", ".word 0\nfinalize", 1, "0x0000000000000000 is no command");
	finds("mt8173", "assign reg4, 1\nfinalize", 1, "no register 4");
	finds("mt8173", "add spr0, reg48, 1\nfinalize", 1, "no register 48");
	finds("mt8173", "assign timer, 1\nfinalize", 1, "the timer, is only read");
}

/* Events with a name are set by hardware, and others by somebody. */
static void test_events_nobody_sets(void **state)
{
	(void)state;
	finds("mt8173", "wfe 600\nfinalize", 1, "nothing in this packet sets it");
	assert_null(strstr(
		check("mt8173", BASE_UNKNOWN, "set_event 600\nwfe 600\nfinalize").complaints.text,
		"nothing in this packet"));
	assert_non_null(strstr(check("mt8173", BASE_UNKNOWN, "clear_event 600\nwait 600\nfinalize")
				       .complaints.text,
			       "nothing in this packet"));
}

static void test_jumps(void **state)
{
	(void)state;
	finds("mt8173", "jump_c_rel a, spr0 == 1\njump_rel 100000\na: finalize", 2,
	      "jump outside the packet");
	finds("mt8173", "wfe DISP_OVL0_SOF\njump_c_rel -16, spr0 == 1\nfinalize", 2,
	      "jump outside the packet");
	finds("mt8173", "jump_c_rel 24, spr0 == 1\nfinalize", 1, "jump outside the packet");
	finds("mt8173", "jump_c_rel 4, spr0 == 1\nfinalize", 1, "inside a command");
	finds("mt8173", "a: jump_c_abs 8, spr0 == 1\nfinalize", 1, "--base");
	finds_at("mt8173", 0x1000, "jump_c_abs 0x1018, spr0 == 1\nfinalize", 1,
		 "jump outside the packet");
}

static void test_negative_jumps(void **state)
{
	(void)state;
	/* -8, shifted logically */
	finds("mt8192",
	      "a: wfe DISP_OVL0_SOF\njump_c_rel b, spr0 == 1\n.word 0x100000001fffffff\nb: "
	      "finalize",
	      3, "negative jump under a shift: 0x1fffffff is -8 shifted logically");
	/* and arithmetically: right, but not what every helper makes */
	finds("mt8192", "a: wfe DISP_OVL0_SOF\njump_c_rel b, spr0 == 1\njump_rel a\nb: finalize", 3,
	      "negative jump under a shift");
	silent("mt8183", "a: add spr0, 1, 1\njump_c_rel b, spr0 == 1\njump_rel a\nb: finalize");
}

static void test_beyond_the_shift(void **state)
{
	(void)state;
	finds_at("mt8173", 0xfffffff8, "finalize", 1, "address beyond the shift");
	finds_at("mt8192", 0x800000000, "finalize", 1, "address beyond the shift");
	finds_at("mt8192", 0x80000004, "finalize", 1, "not a multiple of 8");
	silent("mt8192", "finalize");
}

static void test_poll(void **state)
{
	(void)state;
	finds("mt8173", "poll 0x14000000, 1\nfinalize", 1, "poll stalls all threads");
	finds("mt8173", "move r15, 0x10000000\npoll [r15], 1\nfinalize", 2, "poll stalls all");
}

static void test_dead_code(void **state)
{
	(void)state;
	finds("mt8173", "jump_rel b\nwfe DISP_OVL0_SOF\nwfe DISP_OVL0_SOF\nb: finalize", 2,
	      "dead code");
}

/* Whatever the words are: it ends, and a defect is a word of the program. */
static void test_random_programs(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		const struct cmdq_profile *profile = cmdq_profile_at(round % 9);
		struct complaints complaints = {0};
		struct program program = {0};
		const size_t count = random_below(&seed, 40);

		for (size_t i = 0; i < count; i++) {
			const struct cmdq_form *form = &cmdq_forms[random_below(&seed, FORMS)];
			uint64_t bits = random_next(&seed);

			/* short jumps */
			if (random_chance(&seed, 2))
				bits &= 0x00ff00ff00000038;
			assert_int_equal(program_add(&program, form->value | (bits & ~form->fixed),
						     (unsigned)i + 1),
					 0);
		}
		assert_true(check_program(profile, round % 3 ? BASE_UNKNOWN : 0x80000000, &program,
					  note_complaint, &complaints) >= 0);
		program_free(&program);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_silent),
		cmocka_unit_test(test_no_terminating_jump),
		cmocka_unit_test(test_masks),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_events_nobody_sets),
		cmocka_unit_test(test_jumps),
		cmocka_unit_test(test_negative_jumps),
		cmocka_unit_test(test_beyond_the_shift),
		cmocka_unit_test(test_poll),
		cmocka_unit_test(test_dead_code),
		cmocka_unit_test(test_random_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
