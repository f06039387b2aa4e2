/* SPDX-License-Identifier: BSD-2-Clause */
/* What tests of command packets share. */
#ifndef WEIR_TESTS_CMDQ_PACKETS_H
#define WEIR_TESTS_CMDQ_PACKETS_H

#include "unit.h"

#include <stdio.h>

#include "cmdq/program.h"

static inline struct cmdq_pkt *packet(const char *soc)
{
	struct cmdq_pkt *pkt = NULL;

	assert_int_equal(cmdq_pkt_create_for(cmdq_profile_find(soc), NULL, &pkt), 0);
	return pkt;
}

static inline struct cmdq_base device(const char *soc, uint64_t address)
{
	struct cmdq_base base = {0};

	assert_int_equal(cmdq_register_device(cmdq_profile_find(soc), address, &base), 0);
	return base;
}

static inline size_t packet_count(const struct cmdq_pkt *pkt)
{
	size_t count;

	cmdq_pkt_words(pkt, &count);
	return count;
}

/* A refusal: the error, a message with these words, and a packet that is as it was. */
#define assert_refused(pkt, call, err, words)                                                      \
	do {                                                                                       \
		const size_t before_ = packet_count(pkt);                                          \
		assert_int_equal(call, err);                                                       \
		if (!strstr(cmdq_error(), words))                                                  \
			fail_msg("\"%s\" has no \"%s\"", cmdq_error(), words);                     \
		assert_int_equal(packet_count(pkt), before_);                                      \
	} while (0)

/* --- complaints --- */

struct complaints {
	unsigned count;
	char text[4096]; /* "line:column: message\n" each */
};

static inline void note_complaint(void *data, unsigned line, unsigned column, const char *message)
{
	struct complaints *complaints = data;
	const size_t used = strlen(complaints->text);

	complaints->count++;
	snprintf(complaints->text + used, sizeof(complaints->text) - used, "%u:%u: %s\n", line,
		 column, message);
}

/* Assembles; the words of a program without a complaint. */
static inline struct program assembled(const char *soc, const char *text)
{
	struct complaints complaints = {0};
	struct program program = {0};
	int err = asm_program(cmdq_profile_find(soc), BASE_UNKNOWN, text, strlen(text), &program,
			      note_complaint, &complaints);

	if (err)
		fail_msg("%s: %d, %s", text, err, complaints.text);
	return program;
}

#endif
