/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The simulator does what the table of encodings says: equal to a naive interpreter (naive.c) after every stretch of random
 * programs; and what the register file of an engine shows meanwhile.
 */
#include "../unit.h"

#include "cmdq/gce.h"
#include "naive.h"

/* --- a bus: some addresses answer, with memory that all of them share --- */

enum { CELLS = 1 << 12, PROGRAM = 96 };

struct cells {
	uint32_t cell[CELLS];
	uint64_t history; /* of all accesses, in order */
};

static bool answers(uint64_t address)
{
	return !(address & 3) && (address >> 4 & 0x3f) != 0x3f;
}

static void remember(struct cells *cells, uint64_t what)
{
	cells->history = (cells->history ^ what) * 0x9e3779b97f4a7c15;
	cells->history ^= cells->history >> 29;
}

static uint32_t *cell_at(struct cells *cells, uint64_t address)
{
	return &cells->cell[(address * 0x9e3779b97f4a7c15 >> 40) % CELLS];
}

static int cells_read(void *data, uint64_t address, uint32_t *value)
{
	remember(data, address * 2);
	if (!answers(address))
		return -EIO;
	*value = *cell_at(data, address);
	return 0;
}

static int cells_write(void *data, uint64_t address, uint32_t value)
{
	remember(data, address * 2 + 1);
	remember(data, value);
	if (!answers(address))
		return -EIO;
	*cell_at(data, address) = value;
	return 0;
}

/* --- random programs --- */

static uint64_t seed;

static unsigned below(unsigned n)
{
	return random_below(&seed, n);
}

/* Mostly one that there is. */
static uint64_t random_register(void)
{
	switch (below(16)) {
	case 0:
		if (!below(16))
			return random_next(&seed) & 0xffff;
		return 0;
	case 1:
		return CMDQ_REG_TIMER;
	case 2:
	case 3:
		return CMDQ_REG_CPR(below(4) ? below(4) : below(CMDQ_CPRS + 1));
	case 4:
	case 5:
	case 6:
		return CMDQ_REG_GPR(below(4) ? below(4) : below(CMDQ_GPRS));
	default:
		return CMDQ_REG_SPR(below(CMDQ_SPRS));
	}
}

/* Small numbers, so that conditions hold now and then and shifts matter. */
static uint64_t random_value(void)
{
	switch (below(4)) {
	case 0:
		return below(4);
	case 1:
		return below(64);
	case 2:
		return random_next(&seed) & 0xffff;
	default:
		return random_next(&seed) >> 32;
	}
}

static uint64_t random_subsys(const struct cmdq_profile *profile)
{
	unsigned id = below(CMDQ_SUBSYS_MAX);

	for (unsigned i = 0; i < CMDQ_SUBSYS_MAX && below(512) && !profile->subsys[id].known; i++)
		id = (id + 1) % CMDQ_SUBSYS_MAX;
	return id;
}

/* The bits of one operand, where they stand in the word. */
static uint64_t random_operand(const struct cmdq_profile *profile, enum cmdq_operand_kind kind,
			       unsigned at)
{
	const uint64_t low = below(2), reg = random_register();
	const int64_t jump = (int64_t)below(16) - (below(3) ? 1 : (int64_t)below(at + 1));

	switch (kind) {
	case OPERAND_ADDR_OLD:
	case OPERAND_ADDR_A:
		return random_subsys(profile) << 48 | (uint64_t)below(64) << 34;
	case OPERAND_ADDR_B:
		return random_subsys(profile) << 48 | below(64) << 18;
	case OPERAND_ADDR48_A:
		return (uint64_t)below(below(64) ? 4 : 32) << 48 | (uint64_t)below(64) << 34;
	case OPERAND_ADDR48_B:
		return (uint64_t)below(below(64) ? 4 : 32) << 48 | below(64) << 18;
	case OPERAND_GPR_LOW:
		return below(CMDQ_GPRS);
	case OPERAND_GPR_SOP:
	case OPERAND_GPR_ADDR:
		return (uint64_t)below(CMDQ_GPRS) << 48;
	case OPERAND_REG_A:
	case OPERAND_REG_ADDR_A:
		return reg << 32;
	case OPERAND_REG_ADDR_B:
		return reg << 16;
	case OPERAND_VALUE:
	case OPERAND_MASK:
		return random_value();
	case OPERAND_SOURCE_OLD:
		return low ? 1ull << 54 | below(CMDQ_GPRS) : random_value();
	case OPERAND_SOURCE:
		return low ? 1ull << 54 | reg << 16 : random_value();
	case OPERAND_OPERAND_B:
		return low ? 1ull << 54 | reg << 16 : (random_value() & 0xffff) << 16;
	case OPERAND_OPERAND_C:
		return low ? 1ull << 53 | reg : random_value() & 0xffff;
	case OPERAND_EVENT:
		return (uint64_t)(below(8) ? below(4) : below(CMDQ_EVENTS)) << 32;
	case OPERAND_REL:
		return (uint32_t)((uint64_t)jump * CMDQ_INST_SIZE >> profile->shift);
	case OPERAND_TARGET_REL:
		if (!below(4))
			return 1ull << 55 | reg << 32;
		return ((uint64_t)jump * CMDQ_INST_SIZE >> profile->shift & 0xffff) << 32;
	case OPERAND_ABS:
		return (uint64_t)below(PROGRAM) * CMDQ_INST_SIZE >> profile->shift;
	case OPERAND_TARGET_ABS:
		if (!below(4))
			return 1ull << 55 | reg << 32;
		return (uint64_t)below(PROGRAM) * CMDQ_INST_SIZE >> profile->shift << 32;
	case OPERAND_CONDITION:
		return (uint64_t)below(6) << 48;
	default:
		return 0;
	}
}

static uint64_t random_word(const struct cmdq_profile *profile, unsigned at)
{
	const struct cmdq_form *form = &cmdq_forms[below(FORMS)];
	uint64_t word = form->value;

	for (unsigned i = 0; i < CMDQ_OPERANDS_MAX; i++)
		word |= random_operand(profile, form->operands[i], at);
	/* A few words that are nothing, or nearly something. */
	if (!below(256))
		word ^= 1ull << below(64);
	if (!below(1024))
		word = random_next(&seed);
	return word;
}

/* --- both side by side --- */

struct pair {
	struct gce gce;
	struct naive naive;
	struct cells gce_cells, naive_cells;
	struct gce_code code;
	uint64_t program[PROGRAM];
};

static struct pair pair;

static void pair_open(const struct cmdq_profile *profile, const uint64_t *program, unsigned count)
{
	const struct cmdq_bus bus = {cells_read, cells_write, &pair.gce_cells};

	memset(&pair, 0, sizeof(pair));
	memcpy(pair.program, program, count * sizeof(*program));
	gce_init(&pair.gce, profile, &bus);
	/* From address 0: 16 bits of a conditional jump reach it. */
	pair.code = (struct gce_code){.bytes = count * CMDQ_INST_SIZE, .words = pair.program};
	gce_map(&pair.gce, &pair.code);
	gce_write(&pair.gce, gce_thread_register(3, GCE_END),
		  (uint32_t)(pair.code.bytes >> profile->shift));
	gce_write(&pair.gce, gce_thread_register(3, GCE_ENABLE), 1);
	pair.naive = (struct naive){.shift = profile->shift,
				    .program = pair.program,
				    .count = count,
				    .end = pair.code.bytes,
				    .read = cells_read,
				    .write = cells_write,
				    .data = &pair.naive_cells};
	for (unsigned i = 0; i < CMDQ_SUBSYS_MAX; i++)
		pair.naive.high[i] = profile->subsys[i].known ? profile->subsys[i].high : -1;
}

/* Until it has run so long, or stands. stood: the other one stood before that. */
static void naive_run(uint64_t ticks, bool stood)
{
	struct naive *n = &pair.naive;

	n->state = n->state == NAIVE_WAITS || n->state == NAIVE_POLLS ? NAIVE_RUNS : n->state;
	while (n->ticks < ticks && n->state != NAIVE_FAILED && n->state != NAIVE_ENDED &&
	       n->state != NAIVE_WAITS)
		naive_step(n);
	/* What takes no time; and a jump to nowhere fails as it is made. */
	if (stood || n->pc >= n->end || n->pc % 8)
		naive_step(n);
	assert_int_equal(n->ticks, ticks);
}

static void pair_compare(void)
{
	const struct gce_thread *t = &pair.gce.thread[3];
	const struct naive *n = &pair.naive;

	if (pair.gce.ticks != n->ticks || t->pc != n->pc || !t->fault != (n->state != NAIVE_FAILED))
		fail_msg("ticks %llu %llu, pc %#llx %#llx, fault %u, state %u",
			 (unsigned long long)pair.gce.ticks, (unsigned long long)n->ticks,
			 (unsigned long long)t->pc, (unsigned long long)n->pc, t->fault, n->state);
	assert_memory_equal(t->spr, n->spr, sizeof(t->spr));
	assert_memory_equal(pair.gce.gpr, n->general, sizeof(n->general));
	assert_memory_equal(pair.gce.cpr, n->shared, sizeof(n->shared));
	assert_int_equal(t->mask, n->mask);
	assert_int_equal(t->irq_status & GCE_IRQ_DONE, n->interrupt);
	assert_int_equal(t->wait_token >> 31, n->state == NAIVE_WAITS);
	for (unsigned i = 0; i < CMDQ_EVENTS; i++)
		assert_int_equal(gce_event(&pair.gce, i), n->event[i]);
	assert_true(pair.gce_cells.history == pair.naive_cells.history);
	assert_memory_equal(pair.gce_cells.cell, pair.naive_cells.cell,
			    sizeof(pair.gce_cells.cell));
}

static void set_event(unsigned event, bool value)
{
	gce_event_set(&pair.gce, event, value);
	pair.naive.event[event] = value;
}

/* Stretches of random length; in between events come and registers change, as from outside. */
static void pair_run(unsigned *ended, unsigned *failed, unsigned *waited)
{
	for (unsigned i = 0; i < 24; i++) {
		const uint64_t asked = 1 + below(64), ran = gce_run(&pair.gce, asked);

		naive_run(pair.naive.ticks + ran, ran < asked);
		pair_compare();
		if (pair.naive.state == NAIVE_ENDED || pair.naive.state == NAIVE_FAILED)
			break;
		*waited += pair.naive.state == NAIVE_WAITS;
		for (unsigned event = 0; event < 4; event++)
			set_event(event, below(2));
	}
	*ended += pair.naive.state == NAIVE_ENDED;
	*failed += pair.naive.state == NAIVE_FAILED;
}

static void test_equal_to_the_naive_one(void **state)
{
	static const char *const names[] = {"mt8173", "mt8192", "weir"};
	enum { PROGRAMS = 10000 };
	unsigned ended = 0, failed = 0, waited = 0;

	(void)state;
	seed = test_seed();
	for (unsigned i = 0; i < PROGRAMS; i++) {
		const struct cmdq_profile *profile = cmdq_profile_find(names[i % 3]);
		const unsigned count = 4 + below(PROGRAM - 4);
		uint64_t program[PROGRAM];

		for (unsigned k = 0; k < count; k++)
			program[k] = random_word(profile, k);
		pair_open(profile, program, count);
		pair_run(&ended, &failed, &waited);
	}
	/* Else the programs are not worth running. */
	print_message("             %u ended, %u failed, %u waits\n", ended, failed, waited);
	assert_true(ended > PROGRAMS / 100 && failed > PROGRAMS / 100 && waited > PROGRAMS / 100);
}

/* One word, with the registers full: whether it is a command at all, goes by the table. */
static void test_words_that_are_no_command(void **state)
{
	const struct cmdq_profile *profile = cmdq_profile_find("mt8173");

	(void)state;
	seed = test_seed();
	for (unsigned i = 0; i < 200000; i++) {
		/* One bit off a command, or anything with an op that there is. */
		uint64_t word = cmdq_forms[below(FORMS)].value | (uint64_t)below(2) << below(63);

		if (i % 2)
			word = (word & 0xffull << 56) | random_next(&seed) >> 8;
		memset(&pair.gce, 0, sizeof(pair.gce));
		gce_init(&pair.gce, profile,
			 &(struct cmdq_bus){cells_read, cells_write, &pair.gce_cells});
		pair.code = (struct gce_code){.bytes = sizeof(word), .words = &word};
		gce_map(&pair.gce, &pair.code);
		pair.gce.thread[0].end = 1 << 20;
		gce_write(&pair.gce, gce_thread_register(0, GCE_ENABLE), 1);
		(void)gce_run(&pair.gce, 1);
		if ((pair.gce.thread[0].fault == CMDQ_FAULT_COMMAND) !=
		    (form_of(word) == FORM_WORD))
			fail_msg("%016llx: fault %u, form %u", (unsigned long long)word,
				 pair.gce.thread[0].fault, form_of(word));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_to_the_naive_one),
		cmocka_unit_test(test_words_that_are_no_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
