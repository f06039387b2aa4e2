/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every call, byte by byte, at shift 0 and at shift 3. The words are written down from the description of the encoding, not taken
 * from the encoder.
 */
#include "packets.h"

static const struct {
	const char *soc;
	unsigned shift;
} socs[] = {{"mt6795", 0}, {"mt8173", 0}, {"mt8183", 0}, {"mt6779", 3}, {"mt8186", 3},
	    {"mt8188", 3}, {"mt8192", 3}, {"mt8195", 3}, {"weir", 3}};

#define expect(call, ...)                                                                          \
	expect_words(pkt, call, (const uint64_t[]){__VA_ARGS__},                                   \
		     sizeof((const uint64_t[]){__VA_ARGS__}) / 8, #call)

static void expect_words(struct cmdq_pkt *pkt, int err, const uint64_t *words, size_t count,
			 const char *call)
{
	size_t has;
	const uint64_t *got = cmdq_pkt_words(pkt, &has);

	if (err)
		fail_msg("%s: %d, %s", call, err, cmdq_error());
	if (has != count)
		fail_msg("%s: %zu words, expected %zu", call, has, count);
	for (size_t i = 0; i < count; i++) {
		if (got[i] != words[i])
			fail_msg("%s: word %zu is %016llx, expected %016llx", call, i,
				 (unsigned long long)got[i], (unsigned long long)words[i]);
	}
	assert_int_equal(cmdq_pkt_reset(pkt), 0);
}

/* Subsys 3 is 0x1402 on all of these. */
static void test_registers(void **state)
{
	static const char *const with_subsys[] = {"mt6779", "mt6795", "mt8173",
						  "mt8183", "mt8186", "mt8192"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(with_subsys); i++) {
		struct cmdq_pkt *pkt = packet(with_subsys[i]);
		const struct cmdq_base base = device(with_subsys[i], 0x14022000);
		const struct cmdq_base start = device(with_subsys[i], 0x14020000);

		assert_int_equal(base.subsys, 3);
		expect(cmdq_pkt_write(pkt, 0x10, &base, 4), 0x0403200400000010);
		expect(cmdq_pkt_write(pkt, UINT32_MAX, &base, 0xdffc), 0x0403fffcffffffff);
		expect(cmdq_pkt_write(pkt, 0, &start, 0xfffc), 0x0403fffc00000000);
		expect(cmdq_pkt_write_mask(pkt, 0x10, &base, 4, 0xff), 0x02000000ffffff00,
		       0x0403200500000010);
		expect(cmdq_pkt_write_mask(pkt, 0x10, &base, 4, 0), 0x02000000ffffffff,
		       0x0403200500000010);
		/* all ones: a plain write */
		expect(cmdq_pkt_write_mask(pkt, 0x10, &base, 4, UINT32_MAX), 0x0403200400000010);
		expect(cmdq_pkt_poll(pkt, 1, &base, 8), 0x0803200800000001);
		expect(cmdq_pkt_poll_mask(pkt, 1, &base, 8, 0x80000001), 0x020000007ffffffe,
		       0x0803200900000001);
		expect(cmdq_pkt_poll_mask(pkt, 1, &base, 8, UINT32_MAX), 0x0803200800000001);
		cmdq_pkt_destroy(pkt);
	}
}

static void test_poll_addr(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(socs); i++) {
		struct cmdq_pkt *pkt = packet(socs[i].soc);

		expect(cmdq_pkt_poll_addr(pkt, 0x1c001000, 7, 0xf), 0x02000000fffffff0,
		       0x028f00001c001000, 0x088f000100000007);
		expect(cmdq_pkt_poll_addr(pkt, 0x1c001000, 7, UINT32_MAX), 0x028f00001c001000,
		       0x088f000000000007);
		cmdq_pkt_destroy(pkt);
	}
}

static void test_events(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(socs); i++) {
		struct cmdq_pkt *pkt = packet(socs[i].soc);

		expect(cmdq_pkt_wfe(pkt, 53), 0x2000003580008001);
		expect(cmdq_pkt_wfe(pkt, 0), 0x2000000080008001);
		/* the last of 1024 */
		expect(cmdq_pkt_wfe(pkt, 1023), 0x200003ff80008001);
		expect(cmdq_pkt_wait_no_clear(pkt, 53), 0x2000003500008001);
		expect(cmdq_pkt_clear_event(pkt, 11), 0x2000000b80000000);
		expect(cmdq_pkt_set_event(pkt, 11), 0x2000000b80010000);
		expect(cmdq_pkt_acquire_event(pkt, 11), 0x2000000b80018000);
		expect(cmdq_pkt_event(pkt, 11, 0x12345678), 0x2000000b12345678);
		cmdq_pkt_destroy(pkt);
	}
}

/* The 22 names of drivers, on the chip that they were made for. */
static void test_logical_events(void **state)
{
	static const uint16_t raw[] = {11, 12, 13, 14, 15, 16, 17, 39, 40, 41, 42,
				       43, 44, 45, 53, 54, 55, 56, 57, 63, 64, 65};
	struct cmdq_pkt *pkt = packet("mt8173");

	(void)state;
	assert_int_equal(ARRAY_SIZE(raw), CMDQ_LOGICAL_EVENTS);
	for (unsigned i = 0; i < CMDQ_LOGICAL_EVENTS; i++)
		expect(cmdq_pkt_wfe(pkt, CMDQ_EVENT_LOGICAL + i),
		       0x2000000080008001 | (uint64_t)raw[i] << 32);
	cmdq_pkt_destroy(pkt);
	pkt = packet("mt8183");
	expect(cmdq_pkt_wfe(pkt, CMDQ_EVENT_DISP_MUTEX0_STREAM_EOF), 0x2000008280008001);
	assert_refused(pkt, cmdq_pkt_wfe(pkt, CMDQ_EVENT_DISP_OVL1_SOF), -ENOENT,
		       "mt8183 has no event DISP_OVL1_SOF");
	cmdq_pkt_destroy(pkt);
}

/* Numbers mean something else on each chip. */
static void test_profiles(void **state)
{
	static const struct {
		const char *soc;
		unsigned threads, shift;
		uint8_t subsys; /* of 0x1400 */
		int mutex0;	/* DISP_MUTEX0_STREAM_EOF */
	} chips[] = {
		{"mt6779", 24, 3, 1, 130}, {"mt6795", 16, 0, 1, 52},  {"mt8173", 16, 0, 1, 53},
		{"mt8183", 24, 0, 1, 130}, {"mt8186", 24, 3, 1, 434}, {"mt8188", 32, 3, 0, 574},
		{"mt8192", 24, 3, 1, 434}, {"mt8195", 24, 3, 0, 597},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(chips); i++) {
		const struct cmdq_profile *profile = cmdq_profile_find(chips[i].soc);

		assert_non_null(profile);
		assert_int_equal(cmdq_profile_threads(profile), chips[i].threads);
		assert_int_equal(cmdq_profile_shift(profile), chips[i].shift);
		assert_int_equal(cmdq_profile_offset(profile), 0);
		assert_int_equal(device(chips[i].soc, 0x14000000).subsys, chips[i].subsys);
		assert_int_equal(cmdq_event_raw(profile, CMDQ_EVENT_DISP_MUTEX0_STREAM_EOF),
				 chips[i].mutex0);
		assert_int_equal(cmdq_event_find(profile, "DISP_MUTEX0_STREAM_EOF"),
				 chips[i].mutex0);
	}
	assert_int_equal(cmdq_event_find(cmdq_profile_find("mt8173"), "MUTEX0_STREAM_EOF"), 53);
	assert_int_equal(
		cmdq_event_find(cmdq_profile_find("mt8173"), "CMDQ_EVENT_MUTEX0_STREAM_EOF"), 53);
	assert_int_equal(cmdq_event_find(cmdq_profile_find("mt8186"), "CMDQ_SYNC_TOKEN_STREAM_EOF"),
			 641);
	assert_int_equal(cmdq_event_find(cmdq_profile_find("mt8173"), ""), -ENOENT);
	assert_null(cmdq_profile_find("mt9999"));
	assert_null(cmdq_profile_at(99));
}

static void test_memory(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(socs); i++) {
		struct cmdq_pkt *pkt = packet(socs[i].soc);

		expect(cmdq_pkt_read_s(pkt, 0, 0x5678, CMDQ_REG_SPR(1)), 0x80800001567a0000);
		expect(cmdq_pkt_read_s(pkt, 3, CMDQ_ADDR_LOW(0x5678), CMDQ_REG_CPR(1311)),
		       0x8083851f567a0000);
		expect(cmdq_pkt_write_s(pkt, 0, 0x5678, CMDQ_REG_GPR(2)), 0x9040567a00220000);
		expect(cmdq_pkt_write_s(pkt, 1, 0x5678, CMDQ_REG_TIMER), 0x9041567a00380000);
		expect(cmdq_pkt_write_s_mask(pkt, 0, 0x5678, 1, 0xf0), 0x02000000ffffff0f,
		       0x9140567a00010000);
		expect(cmdq_pkt_write_s_mask(pkt, 0, 0x5678, 1, UINT32_MAX), 0x9040567a00010000);
		expect(cmdq_pkt_write_s_value(pkt, 2, 0xfffe, 0xdeadbeef), 0x9002fffedeadbeef);
		expect(cmdq_pkt_write_s_mask_value(pkt, 2, 0xfffe, 0xdeadbeef, 1),
		       0x02000000fffffffe, 0x9102fffedeadbeef);
		expect(cmdq_pkt_write_s_mask_value(pkt, 2, 0xfffe, 1, UINT32_MAX),
		       0x9002fffe00000001);
		expect(cmdq_pkt_mem_move(pkt, 0x123456789abc, 0x000140001234), 0xa080000012345678,
		       0x808000019abe0000, 0xa080000000014000, 0x9040123600010000);
		cmdq_pkt_destroy(pkt);
	}
}

static const struct cmdq_operand spr1 = {true, CMDQ_REG_SPR(1)}, gpr0 = {true, CMDQ_REG_GPR(0)},
				 cpr5 = {true, CMDQ_REG_CPR(5)}, ten = {false, 10},
				 most = {false, 0xffff};

static void test_logic(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(socs); i++) {
		struct cmdq_pkt *pkt = packet(socs[i].soc);

		expect(cmdq_pkt_assign(pkt, CMDQ_REG_SPR(3), 0x12345678), 0xa080000312345678);
		expect(cmdq_pkt_assign(pkt, CMDQ_REG_CPR(0), 0), 0xa080800000000000);
		expect(cmdq_pkt_logic(pkt, CMDQ_LOGIC_ADD, 1, spr1, ten), 0xa0c100010001000a);
		expect(cmdq_pkt_logic(pkt, CMDQ_LOGIC_SUBTRACT, 1, ten, spr1), 0xa0a20001000a0001);
		expect(cmdq_pkt_logic(pkt, CMDQ_LOGIC_MULTIPLY, 1, spr1, gpr0), 0xa0e3000100010020);
		expect(cmdq_pkt_logic(pkt, CMDQ_LOGIC_XOR, 2, cpr5, most), 0xa0c800028005ffff);
		expect(cmdq_pkt_logic(pkt, CMDQ_LOGIC_NOT, 2, cpr5, most), 0xa0c9000280050000);
		expect(cmdq_pkt_logic(pkt, CMDQ_LOGIC_OR, 0x20, ten, ten), 0xa08a0020000a000a);
		expect(cmdq_pkt_logic(pkt, CMDQ_LOGIC_AND, 0, spr1, ten), 0xa0cb00000001000a);
		expect(cmdq_pkt_logic(pkt, CMDQ_LOGIC_LEFT_SHIFT, 0, spr1, ten),
		       0xa0cc00000001000a);
		expect(cmdq_pkt_logic(pkt, CMDQ_LOGIC_RIGHT_SHIFT, 0, spr1, ten),
		       0xa0cd00000001000a);
		cmdq_pkt_destroy(pkt);
	}
}

static void test_jumps(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(socs); i++) {
		struct cmdq_pkt *pkt = packet(socs[i].soc);
		const bool shifted = socs[i].shift;

		expect(cmdq_pkt_jump_rel(pkt, 8),
		       shifted ? 0x1000000000000001 : 0x1000000000000008);
		/* arithmetic: the upper bits stay */
		expect(cmdq_pkt_jump_rel(pkt, -16),
		       shifted ? 0x10000000fffffffe : 0x10000000fffffff0);
		expect(cmdq_pkt_jump_abs(pkt, 0x80001000),
		       shifted ? 0x1000000110000200 : 0x1000000180001000);
		/* fields as the engine takes them: nothing is shifted here */
		expect(cmdq_pkt_jump_c_abs(pkt, CMDQ_EQUAL, gpr0, spr1, ten), 0xb0c000200001000a);
		expect(cmdq_pkt_jump_c_abs(pkt, CMDQ_NOT_EQUAL, ten, ten, spr1),
		       0xb021000a000a0001);
		expect(cmdq_pkt_jump_c_rel(pkt, CMDQ_GREATER_THAN_AND_EQUAL, most, spr1, gpr0),
		       0xb162ffff00010020);
		expect(cmdq_pkt_jump_c_rel(pkt, CMDQ_LESS_THAN_AND_EQUAL, most, ten, ten),
		       0xb103ffff000a000a);
		expect(cmdq_pkt_jump_c_rel(pkt, CMDQ_GREATER_THAN, cpr5, ten, ten),
		       0xb1848005000a000a);
		expect(cmdq_pkt_jump_c_rel(pkt, CMDQ_LESS_THAN, spr1, spr1, spr1),
		       0xb1e5000100010001);
		cmdq_pkt_destroy(pkt);
	}
}

static void test_end(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(socs); i++) {
		struct cmdq_pkt *pkt = packet(socs[i].soc);

		expect(cmdq_pkt_eoc(pkt), 0x4000000000000001);
		expect(cmdq_pkt_raw(pkt, 0x0123456789abcdef), 0x0123456789abcdef);
		expect(cmdq_pkt_finalize(pkt), 0x4000000000000001,
		       socs[i].shift ? 0x1000000000000001 : 0x1000000000000008);
		cmdq_pkt_destroy(pkt);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers), cmocka_unit_test(test_poll_addr),
		cmocka_unit_test(test_events),	  cmocka_unit_test(test_logical_events),
		cmocka_unit_test(test_profiles),  cmocka_unit_test(test_memory),
		cmocka_unit_test(test_logic),	  cmocka_unit_test(test_jumps),
		cmocka_unit_test(test_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
