/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Command packets: programs for a Global Command Engine (the GCE of MediaTek's chips, or weir's own mover).
 *
 * A *packet* is a program of 64-bit *commands*. Appending to it is cheap: a check and a store. A *client* is a user of one
 * *channel* (thread) of an *engine*. To *flush* a packet finalizes it, hands it to the channel, and calls back when it
 * has run: registers are written at the right moment (after an *event*) without the CPU waiting. A *profile* says
 * what one chip makes of it: how many threads, by how many bits addresses are shifted, which *subsys* (window of 64 KiB of
 * registers) and which events have which number. It is explicit everywhere, since the same number means different things on
 * different chips.
 *
 *     const struct cmdq_profile *profile = cmdq_profile_find("mt8173");
 *     struct cmdq_base ovl;
 *     struct cmdq_pkt *pkt;
 *     int err = cmdq_register_device(profile, 0x1400c000, &ovl);
 *     if (!err)
 *             err = cmdq_pkt_create_for(profile, NULL, &pkt);
 *     if (!err)
 *             err = cmdq_pkt_wfe(pkt, CMDQ_EVENT_DISP_MUTEX0_STREAM_EOF);
 *     if (!err)
 *             err = cmdq_pkt_write_mask(pkt, 0x10, &ovl, 0x24, 0xff);
 *
 * Names are those that display drivers know (include/linux/soc/mediatek/mtk-cmdq.h), and mean the same.
 *
 * Errors: 0, or -errno; cmdq_error() tells the calling thread in words what its last failed call found wrong, and what
 * the valid range is. A call that fails leaves the packet as it was, also where it appends more than one command. -EBUSY: the
 * packet is finalized, nothing is appended to it any more. -ENOMEM: no memory for it to grow. -EINVAL: an argument.
 *
 * Threads: a packet belongs to one thread at a time, and between flush and callback to the engine. Everything else may be
 * called by any thread. None may be called from a signal handler.
 */
#ifndef WEIR_CMDQ_H
#define WEIR_CMDQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <weir/api.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_container;

/* What was wrong with the calling thread's last call that failed here; "" before the first. Valid until its next call. */
WEIR_API const char *cmdq_error(void);

/* --- the command word ---
 *
 * op[63:56] a_type[55] b_type[54] c_type[53] s_op[52:48] arg_a[47:32] arg_b[31:16] arg_c[15:0]; in memory little-endian. A type
 * bit says that its argument is the index of a register. In the older commands (below 0x80) the low half is one value of
 * 32 bits. src/cmdq/ops.def has every form.
 */
#define CMDQ_INST_SIZE 8u /* bytes */

enum cmdq_op {
	CMDQ_OP_READ = 0x01,
	CMDQ_OP_MASK = 0x02, /* with a_type: MOVE */
	CMDQ_OP_WRITE = 0x04,
	CMDQ_OP_POLL = 0x08,
	CMDQ_OP_JUMP = 0x10,
	CMDQ_OP_WFE = 0x20,
	CMDQ_OP_EOC = 0x40,
	CMDQ_OP_READ_S = 0x80,
	CMDQ_OP_WRITE_S = 0x90,
	CMDQ_OP_WRITE_S_MASK = 0x91,
	CMDQ_OP_LOGIC = 0xa0,
	CMDQ_OP_JUMP_C_ABS = 0xb0,
	CMDQ_OP_JUMP_C_REL = 0xb1,
};

/* s_op of LOGIC */
enum cmdq_logic {
	CMDQ_LOGIC_ASSIGN = 0, /* 32 bits of arg_b and arg_c */
	CMDQ_LOGIC_ADD = 1,
	CMDQ_LOGIC_SUBTRACT = 2,
	CMDQ_LOGIC_MULTIPLY = 3,
	CMDQ_LOGIC_XOR = 8,
	CMDQ_LOGIC_NOT = 9, /* of the left operand */
	CMDQ_LOGIC_OR = 10,
	CMDQ_LOGIC_AND = 11,
	CMDQ_LOGIC_LEFT_SHIFT = 12,
	CMDQ_LOGIC_RIGHT_SHIFT = 13,
};

/* s_op of JUMP_C: left against right, unsigned */
enum cmdq_condition {
	CMDQ_EQUAL = 0,
	CMDQ_NOT_EQUAL = 1,
	CMDQ_GREATER_THAN_AND_EQUAL = 2,
	CMDQ_LESS_THAN_AND_EQUAL = 3,
	CMDQ_GREATER_THAN = 4,
	CMDQ_LESS_THAN = 5,
};

/* Indices of registers of 32 bits. (MOVE, POLL, WRITE and READ know general registers only, and by n, not by index.) */
#define CMDQ_REG_SPR(n) (n)	       /* 0 to 3: a thread's own */
#define CMDQ_REG_GPR(n) (32 + (n))     /* 0 to 15: general registers */
#define CMDQ_REG_TIMER 56	       /* counts at 26 MHz */
#define CMDQ_REG_CPR(n) (0x8000 + (n)) /* 0 to 1311: shared by all threads */
#define CMDQ_SPRS 4
#define CMDQ_GPRS 16
#define CMDQ_CPRS 1312

/* --- profiles --- */

struct cmdq_profile;

/* "mt8173" and other chips, or "weir"; NULL: no such profile. */
WEIR_API const struct cmdq_profile *cmdq_profile_find(const char *name);
/* Counts from 0; NULL behind the last. */
WEIR_API const struct cmdq_profile *cmdq_profile_at(unsigned n);
WEIR_API const char *cmdq_profile_name(const struct cmdq_profile *profile);
WEIR_API unsigned cmdq_profile_threads(const struct cmdq_profile *profile);
/* Addresses that the engine takes (PC, END, jumps) are (address + offset) >> shift, in 32 bits. */
WEIR_API unsigned cmdq_profile_shift(const struct cmdq_profile *profile);
WEIR_API uint64_t cmdq_profile_offset(const struct cmdq_profile *profile);

/*
 * Events: 1024 flags of the engine, set by hardware or by commands. Functions take a raw number, 0 to 1023, or a logical
 * name of enum cmdq_event, which the profile maps.
 */
#define CMDQ_EVENTS 1024
#define CMDQ_EVENT_LOGICAL 0x10000
enum cmdq_event {
	CMDQ_EVENT_DISP_OVL0_SOF = CMDQ_EVENT_LOGICAL,
	CMDQ_EVENT_DISP_OVL1_SOF,
	CMDQ_EVENT_DISP_RDMA0_SOF,
	CMDQ_EVENT_DISP_RDMA1_SOF,
	CMDQ_EVENT_DISP_RDMA2_SOF,
	CMDQ_EVENT_DISP_WDMA0_SOF,
	CMDQ_EVENT_DISP_WDMA1_SOF,
	CMDQ_EVENT_DISP_OVL0_EOF,
	CMDQ_EVENT_DISP_OVL1_EOF,
	CMDQ_EVENT_DISP_RDMA0_EOF,
	CMDQ_EVENT_DISP_RDMA1_EOF,
	CMDQ_EVENT_DISP_RDMA2_EOF,
	CMDQ_EVENT_DISP_WDMA0_EOF,
	CMDQ_EVENT_DISP_WDMA1_EOF,
	CMDQ_EVENT_DISP_MUTEX0_STREAM_EOF,
	CMDQ_EVENT_DISP_MUTEX1_STREAM_EOF,
	CMDQ_EVENT_DISP_MUTEX2_STREAM_EOF,
	CMDQ_EVENT_DISP_MUTEX3_STREAM_EOF,
	CMDQ_EVENT_DISP_MUTEX4_STREAM_EOF,
	CMDQ_EVENT_DISP_RDMA0_UNDERRUN,
	CMDQ_EVENT_DISP_RDMA1_UNDERRUN,
	CMDQ_EVENT_DISP_RDMA2_UNDERRUN,
	CMDQ_EVENT_LOGICAL_END
};

/* The raw number of an event in either form. -EINVAL: out of range; -ENOENT: this chip has no such event. */
WEIR_API int cmdq_event_raw(const struct cmdq_profile *profile, uint32_t event);
/* The raw number of the profile's event of that name. -ENOENT. */
WEIR_API int cmdq_event_find(const struct cmdq_profile *profile, const char *name);
/* The profile's name of a raw number; NULL: it has none. */
WEIR_API const char *cmdq_event_name(const struct cmdq_profile *profile, unsigned raw);

/* A device's registers, as commands address them. To be filled by cmdq_register_device, and not to be looked into. */
struct cmdq_base {
	const struct cmdq_profile *profile;
	uint64_t write; /* WRITE to the first register, of value 0 */
	uint32_t room;	/* bytes from there to the end of the window */
	uint8_t subsys;
};

/* address: of the device's first register, a multiple of 4. -EINVAL: in no subsys of this chip. */
WEIR_API int cmdq_register_device(const struct cmdq_profile *profile, uint64_t address,
				  struct cmdq_base *base);

/* --- buffers: where packets get their memory from --- */

struct cmdq_buffer {
	void *addr;  /* aligned to 8 */
	uint64_t pa; /* as the engine sees it: contiguous, a multiple of 1 << shift */
	size_t bytes;
};

/* New fields are added at the end; size tells which the caller knows. A profile that needs contiguous memory gets it from
 * here. container: of the client, NULL for the root. Called by the thread that creates, appends or destroys. */
struct cmdq_buffer_ops {
	size_t size; /* sizeof(struct cmdq_buffer_ops) */
	/* bytes: a power of two, at least 4096. 0, or -errno. */
	int (*alloc)(void *data, struct weir_container *container, size_t bytes,
		     struct cmdq_buffer *buffer);
	void (*free)(void *data, struct weir_container *container,
		     const struct cmdq_buffer *buffer);
	void *data;
};

/* --- packets --- */

/* The rest is weir's. These three are part of the ABI, for the functions below; nobody else touches them. */
struct cmdq_pkt {
	uint64_t *next; /* where the next command goes */
	uint64_t *end;	/* end of the room; equals next where the packet is finalized */
	const struct cmdq_profile *profile;
};

struct cmdq_client;

/* For a client: its engine's profile and buffers, charged to its container. -ENOMEM. */
WEIR_API int cmdq_pkt_create(struct cmdq_client *client, struct cmdq_pkt **pkt);
/* Without a client. ops: as long as the packet lives; NULL: plain memory. What it takes is charged to the root. */
WEIR_API int cmdq_pkt_create_for(const struct cmdq_profile *profile,
				 const struct cmdq_buffer_ops *ops, struct cmdq_pkt **pkt);
/* Not between flush and callback. NULL is allowed. */
WEIR_API void cmdq_pkt_destroy(struct cmdq_pkt *pkt);
/* Empty again, and not finalized; its memory stays. -EBUSY: an engine has it. */
WEIR_API int cmdq_pkt_reset(struct cmdq_pkt *pkt);
/* Its commands, and how many there are. Valid until the next append. */
WEIR_API const uint64_t *cmdq_pkt_words(const struct cmdq_pkt *pkt, size_t *count);
WEIR_API bool cmdq_pkt_finalized(const struct cmdq_pkt *pkt);

/* --- appending --- */

/* The parts of the functions below that are not the short way: growing, refusing, logical events. */
WEIR_API int cmdq_pkt_write_slow(struct cmdq_pkt *pkt, uint32_t value, const struct cmdq_base *base,
				 uint32_t offset);
WEIR_API int cmdq_pkt_write_mask_slow(struct cmdq_pkt *pkt, uint32_t value,
				      const struct cmdq_base *base, uint32_t offset, uint32_t mask);
WEIR_API int cmdq_pkt_event_slow(struct cmdq_pkt *pkt, uint32_t event, uint32_t low);

/* A register of a device: offset in bytes, a multiple of 4, inside the subsys of base. */
WEIR_API inline int cmdq_pkt_write(struct cmdq_pkt *pkt, uint32_t value,
				   const struct cmdq_base *base, uint32_t offset)
{
	if (offset >= base->room || offset & 3 || base->profile != pkt->profile ||
	    pkt->next == pkt->end)
		return cmdq_pkt_write_slow(pkt, value, base, offset);
	*pkt->next++ = base->write + ((uint64_t)offset << 32) + value;
	return 0;
}

/* Only the bits of mask: MASK and WRITE. All ones: a plain write. */
WEIR_API inline int cmdq_pkt_write_mask(struct cmdq_pkt *pkt, uint32_t value,
					const struct cmdq_base *base, uint32_t offset,
					uint32_t mask)
{
	if (offset >= base->room || offset & 3 || base->profile != pkt->profile ||
	    pkt->end - pkt->next < 2 || mask == UINT32_MAX)
		return cmdq_pkt_write_mask_slow(pkt, value, base, offset, mask);
	pkt->next[0] = (uint64_t)CMDQ_OP_MASK << 56 | (uint32_t)~mask;
	pkt->next[1] = base->write + ((uint64_t)(offset | 1) << 32) + value;
	pkt->next += 2;
	return 0;
}

/* The low halves of WFE. */
#define CMDQ_WFE_WAIT_CLEAR 0x80008001u
#define CMDQ_WFE_WAIT 0x00008001u
#define CMDQ_WFE_CLEAR 0x80000000u
#define CMDQ_WFE_SET 0x80010000u
#define CMDQ_WFE_ACQUIRE 0x80018000u

/* WFE with any low half. */
WEIR_API inline int cmdq_pkt_event(struct cmdq_pkt *pkt, uint32_t event, uint32_t low)
{
	if (event >= CMDQ_EVENTS || pkt->next == pkt->end)
		return cmdq_pkt_event_slow(pkt, event, low);
	*pkt->next++ = (uint64_t)CMDQ_OP_WFE << 56 | (uint64_t)event << 32 | low;
	return 0;
}

/* Waits for the event, then clears it. -ENOENT, here and below: a logical event that this chip does not have. */
static inline int cmdq_pkt_wfe(struct cmdq_pkt *pkt, uint32_t event)
{
	return cmdq_pkt_event(pkt, event, CMDQ_WFE_WAIT_CLEAR);
}

/* Waits, and leaves it set. */
static inline int cmdq_pkt_wait_no_clear(struct cmdq_pkt *pkt, uint32_t event)
{
	return cmdq_pkt_event(pkt, event, CMDQ_WFE_WAIT);
}

static inline int cmdq_pkt_clear_event(struct cmdq_pkt *pkt, uint32_t event)
{
	return cmdq_pkt_event(pkt, event, CMDQ_WFE_CLEAR);
}

static inline int cmdq_pkt_set_event(struct cmdq_pkt *pkt, uint32_t event)
{
	return cmdq_pkt_event(pkt, event, CMDQ_WFE_SET);
}

/* Waits until it is clear, then sets it: a lock that clear_event gives back. */
static inline int cmdq_pkt_acquire_event(struct cmdq_pkt *pkt, uint32_t event)
{
	return cmdq_pkt_event(pkt, event, CMDQ_WFE_ACQUIRE);
}

/* Waits until the register equals value. All threads of the engine stand meanwhile. */
WEIR_API int cmdq_pkt_poll(struct cmdq_pkt *pkt, uint32_t value, const struct cmdq_base *base,
			   uint32_t offset);
WEIR_API int cmdq_pkt_poll_mask(struct cmdq_pkt *pkt, uint32_t value, const struct cmdq_base *base,
				uint32_t offset, uint32_t mask);
/* The same where no subsys covers the register: its address (32 bits) goes through general register 15. */
WEIR_API int cmdq_pkt_poll_addr(struct cmdq_pkt *pkt, uint32_t addr, uint32_t value, uint32_t mask);

/*
 * Memory and registers by 48-bit address: bits 47:16 are in a register (by assign, high_reg: an index below 32, in practice
 * an SPR), bits 15:2 in the command. CMDQ_ADDR_HIGH and _LOW split an address; low may have bit 1 set or not.
 */
#define CMDQ_ADDR_HIGH(addr) ((uint32_t)((uint64_t)(addr) >> 16))
#define CMDQ_ADDR_LOW(addr) ((uint16_t)(((uint64_t)(addr) & 0xfffc) | 2))
WEIR_API int cmdq_pkt_read_s(struct cmdq_pkt *pkt, uint16_t high_reg, uint16_t addr_low,
			     uint16_t reg);
WEIR_API int cmdq_pkt_write_s(struct cmdq_pkt *pkt, uint16_t high_reg, uint16_t addr_low,
			      uint16_t src_reg);
WEIR_API int cmdq_pkt_write_s_mask(struct cmdq_pkt *pkt, uint16_t high_reg, uint16_t addr_low,
				   uint16_t src_reg, uint32_t mask);
WEIR_API int cmdq_pkt_write_s_value(struct cmdq_pkt *pkt, uint16_t high_reg, uint16_t addr_low,
				    uint32_t value);
WEIR_API int cmdq_pkt_write_s_mask_value(struct cmdq_pkt *pkt, uint16_t high_reg, uint16_t addr_low,
					 uint32_t value, uint32_t mask);
/* 32 bits from memory to memory: addresses below 1 << 48, multiples of 4. Uses SPR 0 and 1. */
WEIR_API int cmdq_pkt_mem_move(struct cmdq_pkt *pkt, uint64_t src_addr, uint64_t dst_addr);

struct cmdq_operand {
	bool reg; /* value is the index of a register */
	uint16_t value;
};

WEIR_API int cmdq_pkt_assign(struct cmdq_pkt *pkt, uint16_t reg, uint32_t value);
/* reg = left op right; right is not looked at by NOT. -EINVAL: ASSIGN, which takes 32 bits: cmdq_pkt_assign. */
WEIR_API int cmdq_pkt_logic(struct cmdq_pkt *pkt, enum cmdq_logic op, uint16_t reg,
			    struct cmdq_operand left, struct cmdq_operand right);

/* addr: as the CPU has it (the profile's offset is added here), a multiple of 8, at most what 32 shifted bits express. */
WEIR_API int cmdq_pkt_jump_abs(struct cmdq_pkt *pkt, uint64_t addr);
/* offset: bytes from this jump itself, a multiple of 8, back or forth. */
WEIR_API int cmdq_pkt_jump_rel(struct cmdq_pkt *pkt, int64_t offset);
/*
 * Jumps where left stands to right as condition says. target in a register: address or offset, as the engine takes it (already
 * shifted). As a value: 16 bits, likewise shifted; in case of a relative jump they are signed.
 */
WEIR_API int cmdq_pkt_jump_c_abs(struct cmdq_pkt *pkt, enum cmdq_condition condition,
				 struct cmdq_operand target, struct cmdq_operand left,
				 struct cmdq_operand right);
WEIR_API int cmdq_pkt_jump_c_rel(struct cmdq_pkt *pkt, enum cmdq_condition condition,
				 struct cmdq_operand target, struct cmdq_operand left,
				 struct cmdq_operand right);

/* A word as it is. It is not looked at: an EOC that comes this way does not finalize. */
WEIR_API int cmdq_pkt_raw(struct cmdq_pkt *pkt, uint64_t word);
/* End of commands, with the interrupt. The packet is not finalized by it. */
WEIR_API int cmdq_pkt_eoc(struct cmdq_pkt *pkt);
/* EOC, and the jump of one instruction with which an engine links packets. Finalized already: 0, and nothing is done. */
WEIR_API int cmdq_pkt_finalize(struct cmdq_pkt *pkt);

/* The text of a word, as `weir cmdq dis` has it; returns what snprintf would. For every word, also for one that is no command. */
WEIR_API int cmdq_text(const struct cmdq_profile *profile, uint64_t word, char *text, size_t room);
/* The packet's commands, one line each, with their offset and word behind it. */
WEIR_API void cmdq_pkt_dump(const struct cmdq_pkt *pkt, void (*line)(void *data, const char *text),
			    void *data);

/* --- engines and clients --- */

struct cmdq_engine;

/*
 * The end of a flush: err is 0; -EFAULT, the engine reported an error in this packet; -ETIMEDOUT, it did not end in the client's
 * time; -ECONNABORTED, the client or the engine went. Called exactly once for each flush that returned 0, by the thread that
 * runs the engine, which holds no lock; the packet belongs to the callback then, and may be flushed again or destroyed there.
 */
typedef void (*cmdq_async_flush_cb)(void *data, int err, struct cmdq_pkt *pkt);

/* Zero means the default. New fields are added at the end; size tells which the caller knows. */
struct cmdq_client_options {
	size_t size;
	unsigned timeout_ms; /* for each packet, from when it begins to run; default none */
	unsigned priority;   /* 0 to 7, of the channel; higher first */
	struct weir_container *container; /* pays for its packets; default the root */
};

/* options: NULL for defaults. -EINVAL: no such channel; -EBUSY: it has a client; -ENOMEM. */
WEIR_API int cmdq_mbox_create(struct cmdq_engine *engine, unsigned channel,
			      const struct cmdq_client_options *options,
			      struct cmdq_client **client);
/* Packets that have not ended are called back with -ECONNABORTED before this returns. */
WEIR_API void cmdq_mbox_destroy(struct cmdq_client *client);

/*
 * Finalizes the packet if need be, and runs it. 0, or what the callback would be given. -EINVAL: a packet of another
 * profile; -EBUSY: an engine has it; -ENOMEM: it could not be finalized. Then nothing is sent, and no callback comes.
 *
 * The engine has no thread and no clock. So where nothing can run any more, time passes until the next client's time-out, and
 * without one the packet that stands first on the channel ends with -ETIMEDOUT: an event that another thread sets later
 * comes too late. Who waits for such events flushes asynchronously.
 */
WEIR_API int cmdq_pkt_flush(struct cmdq_client *client, struct cmdq_pkt *pkt);
WEIR_API int cmdq_pkt_flush_async(struct cmdq_client *client, struct cmdq_pkt *pkt,
				  cmdq_async_flush_cb cb, void *data);

#ifdef __cplusplus
}
#endif

#endif
