/* SPDX-License-Identifier: BSD-2-Clause */
/* A packet: it grows, it is finalized, a call that fails leaves it as it was, arguments out of range are refused. */
#include "packets.h"

/* --- memory that fails on demand --- */

static struct {
	unsigned allocations, live;
	unsigned fail_at; /* the nth allocation from now; 0: none */
	struct weir_container *container;
	size_t bytes[32];
} memory;

static int fake_alloc(void *data, struct weir_container *container, size_t bytes,
		      struct cmdq_buffer *buffer)
{
	assert_ptr_equal(data, &memory);
	assert_ptr_equal(container, memory.container);
	if (memory.fail_at && --memory.fail_at == 0)
		return -ENOMEM;
	memory.bytes[memory.allocations++ % 32] = bytes;
	memory.live++;
	*buffer = (struct cmdq_buffer){.addr = guarded(bytes), .pa = 0x1000, .bytes = bytes};
	return 0;
}

static void fake_free(void *data, struct weir_container *container,
		      const struct cmdq_buffer *buffer)
{
	assert_ptr_equal(data, &memory);
	assert_ptr_equal(container, memory.container);
	memory.live--;
	munmap(buffer->addr, buffer->bytes);
}

static const struct cmdq_buffer_ops ops = {sizeof(ops), fake_alloc, fake_free, &memory};

static struct cmdq_pkt *test_packet(const char *soc)
{
	struct cmdq_pkt *pkt = NULL;

	memset(&memory, 0, sizeof(memory));
	assert_int_equal(cmdq_pkt_create_for(cmdq_profile_find(soc), &ops, &pkt), 0);
	return pkt;
}

/* Until so many words would not need to grow it. */
static void fill(struct cmdq_pkt *pkt, size_t room)
{
	while ((size_t)(pkt->end - pkt->next) > room)
		assert_int_equal(cmdq_pkt_raw(pkt, packet_count(pkt)), 0);
}

/* --- */

static void test_growth(void **state)
{
	struct cmdq_pkt *pkt = test_packet("mt8192");
	const uint64_t *words;
	size_t count;

	(void)state;
	for (uint64_t i = 0; i < 10000; i++)
		assert_int_equal(cmdq_pkt_raw(pkt, i * 0x9e3779b97f4a7c15u), 0);
	words = cmdq_pkt_words(pkt, &count);
	assert_int_equal(count, 10000);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(words[i], i * 0x9e3779b97f4a7c15u);
	/* one page, then twice as much each time; the old one goes, but for the first, which has the packet */
	assert_int_equal(memory.allocations, 6);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(memory.bytes[i], 4096 << i);
	assert_int_equal(memory.live, 2);
	cmdq_pkt_destroy(pkt);
	assert_int_equal(memory.live, 0);
	cmdq_pkt_destroy(NULL);
}

static void test_reset_keeps_memory(void **state)
{
	struct cmdq_pkt *pkt = test_packet("mt8173");
	unsigned allocations;

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 5000; i++)
			assert_int_equal(cmdq_pkt_raw(pkt, i), 0);
		assert_int_equal(cmdq_pkt_finalize(pkt), 0);
		assert_true(cmdq_pkt_finalized(pkt));
		if (round == 0)
			allocations = memory.allocations;
		assert_int_equal(memory.allocations, allocations);
		assert_int_equal(cmdq_pkt_reset(pkt), 0);
		assert_false(cmdq_pkt_finalized(pkt));
		assert_int_equal(packet_count(pkt), 0);
	}
	cmdq_pkt_destroy(pkt);
}

/* Each call that appends, by number; -1: no such call. */
static int append(struct cmdq_pkt *pkt, const struct cmdq_base *base, unsigned call)
{
	const struct cmdq_operand one = {false, 1};

	switch (call) {
	case 0:
		return cmdq_pkt_write(pkt, 1, base, 4);
	case 1:
		return cmdq_pkt_write_mask(pkt, 1, base, 4, 1);
	case 2:
		return cmdq_pkt_event(pkt, 1, CMDQ_WFE_WAIT);
	case 3:
		return cmdq_pkt_poll(pkt, 1, base, 4);
	case 4:
		return cmdq_pkt_poll_mask(pkt, 1, base, 4, 1);
	case 5:
		return cmdq_pkt_poll_addr(pkt, 4, 1, 1);
	case 6:
		return cmdq_pkt_read_s(pkt, 0, 4, 1);
	case 7:
		return cmdq_pkt_write_s(pkt, 0, 4, 1);
	case 8:
		return cmdq_pkt_write_s_mask(pkt, 0, 4, 1, 1);
	case 9:
		return cmdq_pkt_write_s_value(pkt, 0, 4, 1);
	case 10:
		return cmdq_pkt_write_s_mask_value(pkt, 0, 4, 1, 1);
	case 11:
		return cmdq_pkt_mem_move(pkt, 4, 8);
	case 12:
		return cmdq_pkt_assign(pkt, 0, 1);
	case 13:
		return cmdq_pkt_logic(pkt, CMDQ_LOGIC_ADD, 0, one, one);
	case 14:
		return cmdq_pkt_jump_abs(pkt, 8);
	case 15:
		return cmdq_pkt_jump_rel(pkt, 8);
	case 16:
		return cmdq_pkt_jump_c_abs(pkt, CMDQ_EQUAL, one, one, one);
	case 17:
		return cmdq_pkt_jump_c_rel(pkt, CMDQ_EQUAL, one, one, one);
	case 18:
		return cmdq_pkt_raw(pkt, 1);
	case 19:
		return cmdq_pkt_eoc(pkt);
	case 20:
		return cmdq_pkt_finalize(pkt);
	default:
		return -1;
	}
}

enum { CALLS = 21 };

/* Whatever a call appends is there whole, or not at all, at each place where the room may end. */
static void test_failed_append_changes_nothing(void **state)
{
	(void)state;
	for (unsigned call = 0; call < CALLS; call++) {
		for (size_t room = 0; room < 4; room++) {
			struct cmdq_pkt *pkt = test_packet("mt8173");
			const struct cmdq_base base = device("mt8173", 0x14000000);
			size_t before, after;

			fill(pkt, room);
			before = packet_count(pkt);
			memory.fail_at = 1;
			if (append(pkt, &base, call) == -ENOMEM) {
				assert_non_null(strstr(cmdq_error(), "no memory"));
				assert_int_equal(packet_count(pkt), before);
				assert_false(cmdq_pkt_finalized(pkt));
				/* and the next time there is memory */
				assert_int_equal(append(pkt, &base, call), 0);
			} else {
				memory.fail_at = 0;
			}
			after = packet_count(pkt);
			assert_true(after > before);
			for (size_t i = 0; i < before; i++)
				assert_int_equal(cmdq_pkt_words(pkt, &after)[i], i);
			cmdq_pkt_destroy(pkt);
			assert_int_equal(memory.live, 0);
		}
	}
}

static void test_create_fails(void **state)
{
	const struct cmdq_buffer_ops small = {.size = 8};
	struct cmdq_pkt *pkt = NULL;

	(void)state;
	memset(&memory, 0, sizeof(memory));
	memory.fail_at = 1;
	assert_int_equal(cmdq_pkt_create_for(cmdq_profile_find("weir"), &ops, &pkt), -ENOMEM);
	assert_int_equal(cmdq_pkt_create_for(cmdq_profile_find("weir"), &small, &pkt), -EINVAL);
	assert_int_equal(cmdq_pkt_create_for(NULL, NULL, &pkt), -EINVAL);
	assert_null(pkt);
}

static void test_finalized_is_busy(void **state)
{
	struct cmdq_pkt *pkt = test_packet("mt8173");
	const struct cmdq_base base = device("mt8173", 0x14000000);

	(void)state;
	assert_int_equal(cmdq_pkt_finalize(pkt), 0);
	for (unsigned call = 0; call < CALLS - 1; call++)
		assert_refused(pkt, append(pkt, &base, call), -EBUSY, "finalized");
	/* once more is no error, and no second end */
	assert_int_equal(cmdq_pkt_finalize(pkt), 0);
	assert_int_equal(packet_count(pkt), 2);
	cmdq_pkt_destroy(pkt);
}

/* The first helper of the field looked for an EOC near the end. */
static void test_raw_eoc_does_not_finalize(void **state)
{
	struct cmdq_pkt *pkt = test_packet("mt8173");

	(void)state;
	assert_int_equal(cmdq_pkt_raw(pkt, 0x4000000000000001), 0);
	assert_int_equal(cmdq_pkt_raw(pkt, 0x1000000000000008), 0);
	assert_false(cmdq_pkt_finalized(pkt));
	assert_int_equal(cmdq_pkt_wfe(pkt, 1), 0);
	assert_int_equal(cmdq_pkt_finalize(pkt), 0);
	assert_int_equal(packet_count(pkt), 5);
	cmdq_pkt_destroy(pkt);
}

static void test_refused_devices(void **state)
{
	const struct cmdq_profile *profile = cmdq_profile_find("mt8173");
	struct cmdq_pkt *pkt = test_packet("mt8173");
	const struct cmdq_base base = device("mt8173", 0x1402c000),
			       other = device("mt8183", 0x14000000);
	struct cmdq_base none;

	(void)state;
	assert_refused(pkt, cmdq_register_device(profile, 0x15000000, &none), -EINVAL,
		       "0x15000000 is in no subsys of mt8173");
	assert_refused(pkt, cmdq_register_device(profile, 0x114000000, &none), -EINVAL,
		       "is in no subsys");
	assert_refused(pkt, cmdq_register_device(profile, 0x14000002, &none), -EINVAL,
		       "multiple of 4");
	assert_refused(pkt, cmdq_pkt_write(pkt, 1, &base, 2), -EINVAL, "0 to 0x3ffc");
	assert_refused(pkt, cmdq_pkt_write(pkt, 1, &base, 0x4000), -EINVAL, "0 to 0x3ffc");
	assert_refused(pkt, cmdq_pkt_write(pkt, 1, &base, 0xfffffffc), -EINVAL, "0 to 0x3ffc");
	assert_refused(pkt, cmdq_pkt_write_mask(pkt, 1, &base, 0x4000, 1), -EINVAL, "0 to 0x3ffc");
	assert_refused(pkt, cmdq_pkt_write_mask(pkt, 1, &base, 1, 1), -EINVAL, "0 to 0x3ffc");
	assert_refused(pkt, cmdq_pkt_poll(pkt, 1, &base, 0x4000), -EINVAL, "0 to 0x3ffc");
	assert_refused(pkt, cmdq_pkt_poll_mask(pkt, 1, &base, 3, 1), -EINVAL, "0 to 0x3ffc");
	assert_refused(pkt, cmdq_pkt_write(pkt, 1, &other, 0), -EINVAL,
		       "a device of mt8183 in a packet for mt8173");
	assert_refused(pkt, cmdq_pkt_write_mask(pkt, 1, &other, 0, 1), -EINVAL, "mt8183");
	assert_refused(pkt, cmdq_pkt_poll_addr(pkt, 2, 1, 1), -EINVAL, "multiple of 4");
	cmdq_pkt_destroy(pkt);
}

static void test_refused_events(void **state)
{
	struct cmdq_pkt *pkt = test_packet("mt8173");

	(void)state;
	assert_int_equal(cmdq_pkt_wfe(pkt, 1023), 0);
	assert_refused(pkt, cmdq_pkt_wfe(pkt, 1024), -EINVAL, "0 to 1023");
	assert_refused(pkt, cmdq_pkt_set_event(pkt, CMDQ_EVENT_LOGICAL - 1), -EINVAL, "0 to 1023");
	assert_refused(pkt, cmdq_pkt_clear_event(pkt, CMDQ_EVENT_LOGICAL_END), -EINVAL,
		       "0 to 1023");
	assert_refused(pkt, cmdq_pkt_wait_no_clear(pkt, UINT32_MAX), -EINVAL, "0 to 1023");
	cmdq_pkt_destroy(pkt);
}

static void test_refused_registers(void **state)
{
	static const uint16_t no_such[] = {4, 31, 48, 55, 57, 0x7fff, 0x8520, 0xffff};
	struct cmdq_pkt *pkt = test_packet("mt8192");
	const struct cmdq_operand one = {false, 1};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(no_such); i++) {
		const struct cmdq_operand bad = {true, no_such[i]};

		assert_refused(pkt, cmdq_pkt_assign(pkt, no_such[i], 1), -EINVAL, "no register");
		assert_refused(pkt, cmdq_pkt_read_s(pkt, 0, 4, no_such[i]), -EINVAL, "no register");
		assert_refused(pkt, cmdq_pkt_write_s(pkt, 0, 4, no_such[i]), -EINVAL,
			       "no register");
		assert_refused(pkt, cmdq_pkt_write_s_mask(pkt, 0, 4, no_such[i], 1), -EINVAL,
			       "no register");
		assert_refused(pkt, cmdq_pkt_write_s_value(pkt, no_such[i], 4, 1), -EINVAL,
			       "0 to 3");
		assert_refused(pkt, cmdq_pkt_write_s_mask_value(pkt, no_such[i], 4, 1, 1), -EINVAL,
			       "0 to 3");
		assert_refused(pkt, cmdq_pkt_logic(pkt, CMDQ_LOGIC_ADD, no_such[i], one, one),
			       -EINVAL, "no register");
		assert_refused(pkt, cmdq_pkt_logic(pkt, CMDQ_LOGIC_ADD, 0, bad, one), -EINVAL,
			       "no register");
		assert_refused(pkt, cmdq_pkt_logic(pkt, CMDQ_LOGIC_ADD, 0, one, bad), -EINVAL,
			       "no register");
		assert_refused(pkt, cmdq_pkt_jump_c_rel(pkt, CMDQ_EQUAL, bad, one, one), -EINVAL,
			       "no register");
		assert_refused(pkt, cmdq_pkt_jump_c_abs(pkt, CMDQ_EQUAL, one, bad, one), -EINVAL,
			       "no register");
		assert_refused(pkt, cmdq_pkt_jump_c_abs(pkt, CMDQ_EQUAL, one, one, bad), -EINVAL,
			       "no register");
	}
	assert_refused(pkt, cmdq_pkt_assign(pkt, CMDQ_REG_TIMER, 1), -EINVAL, "read only");
	assert_refused(pkt, cmdq_pkt_read_s(pkt, 0, 5, 1), -EINVAL, "multiple of 4");
	cmdq_pkt_destroy(pkt);
}

static void test_refused_operations(void **state)
{
	struct cmdq_pkt *pkt = test_packet("mt8173");
	const struct cmdq_operand one = {false, 1};
	static const int no_logic[] = {0, 4, 7, 14, 31, -1}, no_condition[] = {6, 7, -1};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(no_logic); i++)
		assert_refused(pkt, cmdq_pkt_logic(pkt, (enum cmdq_logic)no_logic[i], 0, one, one),
			       -EINVAL, "no logic operation");
	for (unsigned i = 0; i < ARRAY_SIZE(no_condition); i++)
		assert_refused(pkt,
			       cmdq_pkt_jump_c_rel(pkt, (enum cmdq_condition)no_condition[i], one,
						   one, one),
			       -EINVAL, "no condition");
	assert_refused(pkt, cmdq_pkt_mem_move(pkt, 1ull << 48, 0), -EINVAL, "1 << 48");
	assert_refused(pkt, cmdq_pkt_mem_move(pkt, 0, 2), -EINVAL, "multiples of 4");
	cmdq_pkt_destroy(pkt);
}

/* What 32 shifted bits cannot express. */
static void test_refused_addresses(void **state)
{
	struct cmdq_pkt *pkt = test_packet("mt8173");

	(void)state;
	assert_int_equal(cmdq_pkt_jump_abs(pkt, 0xfffffff8), 0);
	assert_refused(pkt, cmdq_pkt_jump_abs(pkt, 0x100000000), -EINVAL, "0 to 0xfffffff8");
	assert_refused(pkt, cmdq_pkt_jump_abs(pkt, 4), -EINVAL, "multiple of 8");
	assert_int_equal(cmdq_pkt_jump_rel(pkt, INT32_MIN), 0);
	assert_refused(pkt, cmdq_pkt_jump_rel(pkt, 0x80000000ll), -EINVAL,
		       "-2147483648 to 2147483640");
	assert_refused(pkt, cmdq_pkt_jump_rel(pkt, -0x80000008ll), -EINVAL, "-2147483648");
	assert_refused(pkt, cmdq_pkt_jump_rel(pkt, -4), -EINVAL, "multiple of 8");
	cmdq_pkt_destroy(pkt);
	pkt = test_packet("mt8192");
	assert_int_equal(cmdq_pkt_jump_abs(pkt, 0x7fffffff8), 0);
	assert_refused(pkt, cmdq_pkt_jump_abs(pkt, 0x800000000), -EINVAL, "0 to 0x7fffffff8");
	assert_refused(pkt, cmdq_pkt_jump_abs(pkt, UINT64_MAX & ~7ull), -EINVAL,
		       "0 to 0x7fffffff8");
	assert_int_equal(cmdq_pkt_jump_rel(pkt, 0x3fffffff8), 0);
	assert_refused(pkt, cmdq_pkt_jump_rel(pkt, 0x400000000), -EINVAL, "17179869176");
	assert_int_equal(cmdq_pkt_jump_rel(pkt, -0x400000000), 0);
	cmdq_pkt_destroy(pkt);
}

static void count_line(void *data, const char *text)
{
	const char *const expected[] = {"wfe DISP_OVL0_SOF ", "eoc ", "jump_rel +8 "};
	unsigned *lines = data;

	assert_true(*lines < 3);
	assert_memory_equal(text, expected[*lines], strlen(expected[*lines]));
	++*lines;
}

static void test_dump(void **state)
{
	struct cmdq_pkt *pkt = test_packet("mt8173");
	unsigned lines = 0;
	char text[24];

	(void)state;
	assert_int_equal(cmdq_pkt_wfe(pkt, 11), 0);
	assert_int_equal(cmdq_pkt_finalize(pkt), 0);
	cmdq_pkt_dump(pkt, count_line, &lines);
	assert_int_equal(lines, 3);
	/* as snprintf: cut, but the whole length told */
	assert_int_equal(cmdq_text(pkt->profile, 0x2000000b80008001, text, sizeof(text)), 17);
	assert_string_equal(text, "wfe DISP_OVL0_SOF");
	assert_int_equal(cmdq_text(pkt->profile, 0x2000000b80008001, text, 5), 17);
	assert_string_equal(text, "wfe ");
	assert_int_equal(cmdq_text(pkt->profile, 0x2000000b80008001, NULL, 0), 17);
	cmdq_pkt_destroy(pkt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_reset_keeps_memory),
		cmocka_unit_test(test_failed_append_changes_nothing),
		cmocka_unit_test(test_create_fails),
		cmocka_unit_test(test_finalized_is_busy),
		cmocka_unit_test(test_raw_eoc_does_not_finalize),
		cmocka_unit_test(test_refused_devices),
		cmocka_unit_test(test_refused_events),
		cmocka_unit_test(test_refused_registers),
		cmocka_unit_test(test_refused_operations),
		cmocka_unit_test(test_refused_addresses),
		cmocka_unit_test(test_dump),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
