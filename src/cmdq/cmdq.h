/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Command packets, inside. include/weir/cmdq.h has the words; ops.def and operands.def the commands; soc/NAME.def one
 * platform profile each, with where its facts are from.
 *
 *   profile.c  the tables that soc/ makes          packet.c  a packet and its memory
 *   encode.c   appending, and refusing             decode.c  which form a word is of
 *   text.c     words to text                       asm.c     text to words
 *   check.c    what is wrong with a program        input.c   binary, hex, pairs, kernel logs
 */
#ifndef WEIR_CMDQ_CMDQ_H
#define WEIR_CMDQ_CMDQ_H

#include <stdint.h>
#include <weir/cmdq.h>

#include "base/base.h"

/* --- errors --- */

/* Keeps the message for cmdq_error, and returns err. No malloc. */
int cmdq_refuse(int err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- profiles --- */

enum {
	CMDQ_NAME_MAX = 54,
	CMDQ_SUBSYS_MAX = 32,
	CMDQ_LOGICAL_EVENTS = CMDQ_EVENT_LOGICAL_END - CMDQ_EVENT_LOGICAL
};

struct event_name {
	uint8_t length; /* 0: the event has no name */
	char text[CMDQ_NAME_MAX + 1];
};

struct subsys {
	bool known;
	uint16_t high; /* bits 31:16 of its window's address */
};

/* (C) all of it */
struct cmdq_profile {
	const char *name;
	unsigned threads;
	unsigned shift;
	uint64_t offset;
	struct subsys subsys[CMDQ_SUBSYS_MAX]; /* by id */
	const struct event_name *events;       /* by raw number */
	unsigned event_count;		       /* that are there; higher numbers have no name */
	uint16_t logical[CMDQ_LOGICAL_EVENTS]; /* raw number + 1; 0: not on this chip */
};

/* As cmdq_event_find, of a part of a text, and without a message. */
int profile_event(const struct cmdq_profile *profile, const char *name, size_t length);
/* The id of the subsys that has the address, or -1. */
int profile_subsys(const struct cmdq_profile *profile, uint64_t address);

/* --- forms --- */

enum cmdq_operand_kind {
#define CMDQ_OPERAND(name, bits, bad_all, bad_any, syntax) OPERAND_##name,
#include "operands.def"
	OPERAND_KINDS
};

enum cmdq_form_id {
#define CMDQ_CODE(op, first, last)
#define CMDQ_FORM(id, mnemonic, value, operands, what) FORM_##id,
#include "ops.def"
	FORM_WORD, /* no form: .word */
	FORMS = FORM_WORD
};

enum { CMDQ_OPERANDS_MAX = 4 };

struct cmdq_form {
	uint64_t value, fixed;	   /* a word of this form has (word & fixed) == value */
	uint64_t bad_all, bad_any; /* and not all of these together with any of those */
	uint8_t operands
		[CMDQ_OPERANDS_MAX]; /* enum cmdq_operand_kind, OPERAND_NONE behind the last */
	uint8_t mnemonic_length;
	char mnemonic[15];
};

extern const struct cmdq_form cmdq_forms[FORMS];

/* For people: what a form does, how an operand is written. */
extern const char *const cmdq_form_meanings[FORMS];
extern const char *const cmdq_operand_syntax[OPERAND_KINDS];

/* Whether it takes the mask of the MASK before it: those whose mnemonic ends in _mask. */
bool form_uses_mask(const struct cmdq_form *form);

/* How a form is written: "write ADDRESS, VALUE|rN". room: CMDQ_LINE_MAX is enough. */
void form_usage(enum cmdq_form_id id, char *text, size_t room);

/* Where the forms of an op are. */
struct form_range {
	uint8_t first, end;
};
extern const struct form_range cmdq_form_ranges[256];

/* FORM_WORD where it is none. */
static inline enum cmdq_form_id form_of(uint64_t word)
{
	struct form_range range = cmdq_form_ranges[word >> 56];

	for (unsigned i = range.first; i < range.end; i++) {
		const struct cmdq_form *form = &cmdq_forms[i];

		if ((word & form->fixed) == form->value &&
		    ((word & form->bad_all) != form->bad_all || !(word & form->bad_any)))
			return (enum cmdq_form_id)i;
	}
	return FORM_WORD;
}

/* --- fields of the word --- */

static inline unsigned word_op(uint64_t word)
{
	return (unsigned)(word >> 56);
}

static inline unsigned word_sop(uint64_t word)
{
	return (unsigned)(word >> 48) & 0x1f;
}

static inline uint16_t word_a(uint64_t word)
{
	return (uint16_t)(word >> 32);
}

static inline uint16_t word_b(uint64_t word)
{
	return (uint16_t)(word >> 16);
}

static inline uint16_t word_c(uint64_t word)
{
	return (uint16_t)word;
}

static inline bool word_a_is_reg(uint64_t word)
{
	return word >> 55 & 1;
}

static inline bool word_b_is_reg(uint64_t word)
{
	return word >> 54 & 1;
}

static inline bool word_c_is_reg(uint64_t word)
{
	return word >> 53 & 1;
}

/* Bytes from a relative jump to its target, of JUMP_REL or JUMP_C_REL by value. */
static inline int64_t jump_rel_bytes(int32_t field, unsigned shift)
{
	return (int64_t)((uint64_t)(int64_t)field << shift);
}

/* --- packets --- */

/* Commands where an engine sees them. */
struct gce_code {
	uint64_t address, bytes;
	const uint64_t *words;
	struct gce_code *next;
};

/* A packet that a client has flushed; (L) the engine's lock. */
struct task {
	struct gce_code code;
	struct task *next;
	cmdq_async_flush_cb cb;
	void *data;
	uint64_t deadline; /* in ticks, from when it is the first; UINT64_MAX: none */
	int err;
};

/*
 * One page holds this struct at its end and the first commands before it; a packet that outgrows the page has its commands in
 * a buffer of their own. head.end is the end of the room, or head.next where the packet is finalized: then every short way of
 * appending finds no room, and the long one says why.
 */
struct pkt {
	struct cmdq_pkt head;	  /* (T) the thread that has the packet */
	uint64_t *words;	  /* (T) the first command; in first or in grown */
	uint64_t *room_end;	  /* (T) what head.end is while it is not finalized */
	bool finalized;		  /* (T) */
	_Atomic bool busy;	  /* an engine has it */
	struct cmdq_buffer first; /* (C) */
	struct cmdq_buffer grown; /* (T) .addr NULL: it fits the first page */
	const struct cmdq_buffer_ops *ops;
	struct weir_container *container;
	struct task task;
};

static inline struct pkt *pkt_of(const struct cmdq_pkt *head)
{
	return CONTAINER_OF(head, struct pkt, head);
}

/* The address of the first command, as the engine sees it. */
static inline uint64_t pkt_pa(const struct pkt *pkt)
{
	return pkt->grown.addr ? pkt->grown.pa : pkt->first.pa;
}

/* What cmdq_pkt_create does once it knows what its client has. ops NULL: plain memory, whose pa is its address. */
int pkt_create(const struct cmdq_profile *profile, const struct cmdq_buffer_ops *ops,
	       struct weir_container *container, struct cmdq_pkt **pkt);

/* All of the words, or none. */
int pkt_append(struct cmdq_pkt *pkt, const uint64_t *words, size_t count);

/* --- what the encoder and the assembler share --- */

bool reg_exists(uint16_t reg);
/* The field of a jump, or -EINVAL and a message with the valid range. bits: of the field, 16 or 32. */
int jump_abs_field(const struct cmdq_profile *profile, uint64_t addr, uint32_t *field);
int jump_rel_field(const struct cmdq_profile *profile, int64_t offset, unsigned bits,
		   unsigned align, uint32_t *field);

/* --- text --- */

enum { CMDQ_LINE_MAX = 160, CMDQ_LISTING_MAX = CMDQ_LINE_MAX + 48 };

/* The text of one word, no newline and no NUL: at most CMDQ_LINE_MAX bytes, of which all may be written to. Its length. */
size_t text_word(const struct cmdq_profile *profile, uint64_t word, char *line);
/* The same with a comment that has the offset and the word: at most CMDQ_LISTING_MAX bytes. */
size_t text_listing(const struct cmdq_profile *profile, size_t index, uint64_t word, char *line);

#endif
