/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For libFuzzer: nothing that is read crashes, and what was understood is understood again. The last byte says which platform, and
 * as what the rest is read: a newline says assembler text, so that the examples are something to begin with.
 *
 *   words           text of each, and assembled again: the same words; the checker ends; the simulator runs them
 *   assembler text  if it is right, the words' own text makes the same words
 *   hex, pairs, binary, log
 *
 *     mkdir corpus; build-ci/clang/tests/cmdq/fuzz_cmdq -max_total_time=60 corpus examples/cmdq
 */
#include "../fuzz.h"

#include "cmdq/gce.h"
#include "cmdq/program.h"

static void no_complaint(void *data, unsigned line, unsigned column, const char *message)
{
	(void)data;
	(void)column;
	fprintf(stderr, "%u: %s\n", line, message);
	abort();
}

static void any_complaint(void *data, unsigned line, unsigned column, const char *message)
{
	const size_t *size = data;

	(void)line;
	must(column <= *size + 2);
	must(*message);
}

static int bus_read(void *data, uint64_t address, uint32_t *value)
{
	*value = *(uint32_t *)data;
	return address % 4;
}

static int bus_write(void *data, uint64_t address, uint32_t value)
{
	*(uint32_t *)data = value;
	return address % 4;
}

/* A thread, so many commands: it stays in the program, fails, or stands. */
static void simulate(const struct cmdq_profile *profile, const struct program *program)
{
	enum { COMMANDS = 300 };
	static struct gce gce;
	uint32_t cell = 0;
	struct gce_code code = {.bytes = program->count * CMDQ_INST_SIZE, .words = program->words};

	gce_init(&gce, profile, &(struct cmdq_bus){bus_read, bus_write, &cell});
	gce_map(&gce, &code);
	gce_write(&gce, gce_thread_register(0, GCE_END), (uint32_t)(code.bytes >> profile->shift));
	gce_write(&gce, gce_thread_register(0, GCE_ENABLE), 1);
	must(gce_run(&gce, COMMANDS) <= COMMANDS);
	must(gce.thread[0].fault || gce.thread[0].pc <= code.bytes);
}

static void check_words(const struct cmdq_profile *profile, const struct program *program)
{
	size_t size = SIZE_MAX - 2;

	must(check_program(profile, BASE_UNKNOWN, program, any_complaint, &size) >= 0);
	must(check_program(profile, 0x80000000, program, any_complaint, &size) >= 0);
	simulate(profile, program);
}

static void round_trip(const struct cmdq_profile *profile, const uint64_t *words, size_t count)
{
	char *text = malloc(count * (CMDQ_LISTING_MAX + 1) + 1);
	struct program again = {0};
	size_t used = 0;

	must(text);
	for (size_t i = 0; i < count; i++) {
		/* The listing has more, all of it a comment. */
		used += i % 2 ? text_listing(profile, i, words[i], text + used)
			      : text_word(profile, words[i], text + used);
		text[used++] = '\n';
	}
	must(!asm_program(profile, BASE_UNKNOWN, text, used, &again, no_complaint, NULL));
	must(again.count == count);
	must(!count || !memcmp(again.words, words, count * sizeof(*words)));
	check_words(profile, &again);
	program_free(&again);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct cmdq_profile *profile;
	struct program program = {0};
	unsigned kind;
	char *text;
	int err;

	if (!size)
		return 0;
	size--;
	profile = cmdq_profile_at(data[size] % 9);
	kind = data[size] / 9 % 6;
	/* A copy of its own, so that a byte too far is seen. */
	text = malloc(size + 1);
	must(text);
	memcpy(text, data, size);
	if (kind < 2)
		err = asm_program(profile, kind ? 0x1000 : BASE_UNKNOWN, text, size, &program,
				  any_complaint, &size);
	else
		err = input_read((enum input_format)(kind - 2), text, size, &program, any_complaint,
				 &size);
	if (kind == 2)
		(void)input_looks_hex(text, size);
	if (!err)
		round_trip(profile, program.words, program.count);
	program_free(&program);
	free(text);
	return 0;
}
