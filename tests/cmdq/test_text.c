/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Text: what the disassembler writes of any word, the assembler makes that word of again; two words never have the same text.
 * Random words are mostly no commands, so half of them are made from a form, and a few bits turned.
 */
#include "packets.h"

enum { WORDS = 30000 };

static uint64_t random_word(uint64_t *seed)
{
	uint64_t word = random_next(seed);
	const struct cmdq_form *form = &cmdq_forms[random_below(seed, FORMS)];

	if (random_chance(seed, 8))
		return word;
	/* Operands at random, and often with zeroes. */
	if (random_chance(seed, 2))
		word &= random_next(seed) & random_next(seed);
	word = form->value | (word & ~form->fixed);
	if (random_chance(seed, 8))
		word ^= (uint64_t)1 << random_below(seed, 64);
	return word;
}

static size_t put_lines(const struct cmdq_profile *profile, const uint64_t *words, size_t count,
			char *text)
{
	size_t used = 0;

	for (size_t i = 0; i < count; i++) {
		size_t length = text_word(profile, words[i], text + used);

		assert_true(length <= CMDQ_LINE_MAX);
		used += length;
		text[used++] = '\n';
	}
	return used;
}

static void round_trip(const struct cmdq_profile *profile, const uint64_t *words, size_t count)
{
	char *text = malloc(count * (CMDQ_LINE_MAX + 1));
	struct complaints complaints = {0};
	struct program program = {0};
	size_t length;

	assert_non_null(text);
	length = put_lines(profile, words, count, text);
	if (asm_program(profile, BASE_UNKNOWN, text, length, &program, note_complaint, &complaints))
		fail_msg("%s", complaints.text);
	assert_int_equal(program.count, count);
	for (size_t i = 0; i < count; i++) {
		char line[CMDQ_LINE_MAX + 1];

		line[text_word(profile, words[i], line)] = '\0';
		if (program.words[i] != words[i])
			fail_msg("%s: %016llx became `%s`, and that %016llx", profile->name,
				 (unsigned long long)words[i], line,
				 (unsigned long long)program.words[i]);
		assert_int_equal(program.lines[i], i + 1);
	}
	program_free(&program);
	free(text);
}

static void test_random_words(void **state)
{
	uint64_t seed = test_seed();
	uint64_t *words = malloc(WORDS * sizeof(*words));

	(void)state;
	assert_non_null(words);
	for (unsigned i = 0; cmdq_profile_at(i); i++) {
		for (unsigned k = 0; k < WORDS; k++)
			words[k] = random_word(&seed);
		round_trip(cmdq_profile_at(i), words, WORDS);
	}
	free(words);
}

/* Each form, with all operands 0, with all their bits set, and with each bit alone. */
static void test_corners(void **state)
{
	uint64_t *words = malloc((size_t)FORMS * 66 * sizeof(*words));
	size_t count = 0;

	(void)state;
	assert_non_null(words);
	for (unsigned f = 0; f < FORMS; f++) {
		const struct cmdq_form *form = &cmdq_forms[f];

		words[count++] = form->value;
		words[count++] = form->value | ~form->fixed;
		for (unsigned bit = 0; bit < 64; bit++)
			words[count++] = form->value ^ (uint64_t)1 << bit;
	}
	for (unsigned i = 0; cmdq_profile_at(i); i++)
		round_trip(cmdq_profile_at(i), words, count);
	free(words);
}

/* An offset that the engine sees but the program does not (mt8196 has one): addresses are modulo what a field can hold. */
static void test_offset_wraps(void **state)
{
	static const uint64_t words[] = {0x1000000100000000, 0x1000000110000000, 0x10000001ffffffff,
					 0x1000000112345678};
	struct cmdq_profile profile = *cmdq_profile_find("mt8192");

	(void)state;
	profile.offset = 0x80000000;
	round_trip(&profile, words, ARRAY_SIZE(words));
}

/* One line for each form: how it looks is what people's scripts look for. */
static void test_looks(void **state)
{
	static const struct {
		uint64_t word;
		const char *text;
	} lines[] = {
		{0x0143200400000005, "read r5, 0x14022004"},
		{0x01cf000000000000, "read r0, [r15]"},
		{0x02000000ffffff00, "mask 0xff"},
		{0x028e000014001000, "move r14, 0x14001000"},
		{0x0403200400000010, "write 0x14022004, 0x10"},
		{0x0443200400000001, "write 0x14022004, r1"},
		{0x0403200500000010, "write_mask 0x14022004, 0x10"},
		{0x0485000000000001, "write [r5], 1"},
		{0x0485000100000001, "write_mask [r5], 1"},
		{0x0809200400000001, "poll 9:0x2004, 1"},
		{0x0803200500000001, "poll_mask 0x14022004, 1"},
		{0x088f000000000001, "poll [r15], 1"},
		{0x088f000100000001, "poll_mask [r15], 1"},
		{0x1000000000000008, "jump_rel +8"},
		{0x10000000fffffff0, "jump_rel -16"},
		{0x1000000180001000, "jump_abs 0x80001000"},
		{0x2000003580008001, "wfe DISP_MUTEX0_STREAM_EOF"},
		{0x2000003500008001, "wait DISP_MUTEX0_STREAM_EOF"},
		{0x2000000b80000000, "clear_event DISP_OVL0_SOF"},
		{0x2000025880010000, "set_event 600"},
		{0x200003ff80018000, "acquire_event 1023"},
		{0x2000000b00000000, "wfe DISP_OVL0_SOF, 0"},
		{0x4000000000000001, "eoc"},
		{0x4000000000000000, "eoc 0"},
		{0x8080000156720000 | 0x20000, "read_s spr1, spr0:0x5670"},
		{0x8083002056700000, "read_s r0, 0x14025670"},
		{0x80c0000100020000, "read_s spr1, [spr2]"},
		{0x90005672deadbeef, "write_s spr0:0x5670, 0xdeadbeef"},
		{0x9040567200010000, "write_s spr0:0x5670, spr1"},
		{0x9003567000000001, "write_s 0x14025670, 1"},
		{0x90c0000180000000, "write_s [spr1], cpr0"},
		{0x9100567200000001, "write_s_mask spr0:0x5670, 1"},
		{0x9103567000000001, "write_s_mask 0x14025670, 1"},
		{0x9180000100000001, "write_s_mask [spr1], 1"},
		{0xa080000112345678, "assign spr1, 0x12345678"},
		{0xa0c1000100010001, "add spr1, spr1, 1"},
		{0xa0a2000100010001, "sub spr1, 1, spr1"},
		{0xa0e3000100010038, "mul spr1, spr1, timer"},
		{0xa0c9851f00040000, "not cpr1311, reg4"},
		{0xb0c000200001000a, "jump_c_abs r0, spr1 == 0xa"},
		{0xb145fff00001000a, "jump_c_rel -16, spr1 < 0xa"},
		/* other type bits, or operands that there are not: no command */
		{0xb146fff00001000a, ".word 0xb146fff00001000a"},
		{0xa001000100010001, ".word 0xa001000100010001"},
		{0x0143200400000010, ".word 0x0143200400000010"},
		{0x9040567200010001, ".word 0x9040567200010001"},
		{0x2000040080008001, ".word 0x2000040080008001"},
		{0, ".word 0x0000000000000000"},
		{UINT64_MAX, ".word 0xffffffffffffffff"},
	};
	const struct cmdq_profile *profile = cmdq_profile_find("mt8173");

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
		char text[CMDQ_LINE_MAX + 1];

		cmdq_text(profile, lines[i].word, text, sizeof(text));
		assert_string_equal(text, lines[i].text);
	}
	/* Shifted back to bytes. */
	profile = cmdq_profile_find("mt8192");
	for (unsigned i = 0; i < 2; i++) {
		char text[CMDQ_LINE_MAX + 1];

		cmdq_text(profile, i ? 0x10000000fffffffe : 0x1000000180000000, text, sizeof(text));
		assert_string_equal(text, i ? "jump_rel -16" : "jump_abs 0x400000000");
	}
}

/* The table itself: a form's range is that of its op, no form hides behind one before it. */
static void test_table(void **state)
{
	(void)state;
	for (unsigned f = 0; f < FORMS; f++) {
		const struct cmdq_form *form = &cmdq_forms[f];
		const struct form_range range = cmdq_form_ranges[form->value >> 56];

		assert_true(range.first <= f && f < range.end);
		assert_int_equal(form->value & ~form->fixed, 0);
		assert_int_equal(form->fixed >> 56, 0xff);
		assert_int_equal(form_of(form->value), f);
		assert_int_equal(strlen(form->mnemonic), form->mnemonic_length);
	}
	/* Each window has one number, so that an address has one, too. */
	for (unsigned i = 0; cmdq_profile_at(i); i++) {
		const struct cmdq_profile *profile = cmdq_profile_at(i);

		for (unsigned id = 0; id < CMDQ_SUBSYS_MAX; id++) {
			if (profile->subsys[id].known)
				assert_int_equal(
					profile_subsys(profile,
						       (uint64_t)profile->subsys[id].high << 16),
					id);
		}
		for (unsigned event = 0; event < CMDQ_EVENTS; event++) {
			const char *name = cmdq_event_name(profile, event);

			if (name)
				assert_int_equal(cmdq_event_find(profile, name), event);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),	     cmocka_unit_test(test_looks),
		cmocka_unit_test(test_corners),	     cmocka_unit_test(test_offset_wraps),
		cmocka_unit_test(test_random_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
