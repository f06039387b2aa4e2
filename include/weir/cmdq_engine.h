/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A Global Command Engine in software, faithful in what drivers can see: packets (<weir/cmdq.h>) run on its threads, with
 * registers, events, interrupts and time-outs.
 *
 *     struct cmdq_engine_options options = {.size = sizeof(options), .profile = profile, .bus = bus};
 *     struct cmdq_engine *engine;
 *     struct cmdq_client *client;
 *     int err = cmdq_engine_create(&options, &engine);
 *     if (!err)
 *             err = cmdq_mbox_create(engine, 0, NULL, &client);
 *     if (!err)
 *             err = cmdq_pkt_flush_async(client, pkt, done, NULL);
 *     while (cmdq_engine_run(engine, 1000))
 *             ;
 *
 * An engine has no thread and no clock: it runs in cmdq_engine_run and in cmdq_pkt_flush, by the thread that calls them, and its
 * time goes on by one tick a command and by cmdq_engine_pass. So what it does is the same each time.
 *
 * A client's packets run one behind the other on its channel, without a gap: the last command of one becomes a jump to the
 * next. One that fails is called back with -EFAULT, and the next one begins.
 *
 * Any thread may call, one at a time runs. The bus is called with the engine's lock held (unless it is `unshared`), and must not
 * call the engine; callbacks of packets are called without it.
 */
#ifndef WEIR_CMDQ_ENGINE_H
#define WEIR_CMDQ_ENGINE_H

#include <weir/cmdq.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CMDQ_TICKS_PER_MS 26000u

/* Registers of devices and memory: 32 bits each at multiples of 4, 48-bit addresses. Not 0: there is nothing, or it refuses,
 * and the command fails. */
struct cmdq_bus {
	int (*read)(void *data, uint64_t address, uint32_t *value);
	int (*write)(void *data, uint64_t address, uint32_t value);
	void *data;
};

/* New fields are added at the end; size tells which the caller knows. */
struct cmdq_engine_options {
	size_t size;
	const struct cmdq_profile *profile;
	struct cmdq_bus bus;
	/* Of its clients' packets, for as long as there is one; NULL: plain memory. */
	const struct cmdq_buffer_ops *buffers;
	/* One thread at a time has the engine, as the caller sees to: then it takes no lock, and holds none while it calls the bus. */
	bool unshared;
};

/* -EINVAL: no profile, no bus; -ENOMEM. All events are clear, and all threads are reset. */
WEIR_API int cmdq_engine_create(const struct cmdq_engine_options *options,
				struct cmdq_engine **engine);
/* Packets that have not ended are called back with -ECONNABORTED; its clients are gone. NULL is allowed. */
WEIR_API void cmdq_engine_destroy(struct cmdq_engine *engine);
/* Memory for packets, charged to the container of the client (which is of this instance), or to the root: for
 * options.buffers, or cmdq_pkt_create_for. -ENOMEM of what creates or appends then means a limit, too. */
struct weir;
WEIR_API void weir_packet_buffers(struct weir *weir, struct cmdq_buffer_ops *ops);
/* Memory that an engine takes, without packets. */
WEIR_API size_t cmdq_engine_bytes(void);
/* Runs at most so many commands and calls back what ends. Returns how many ran; less than were asked for: no thread can go
 * on until an event is set, a packet comes or time passes. */
WEIR_API uint64_t cmdq_engine_run(struct cmdq_engine *engine, uint64_t commands);
/* Time passes; packets that took too long are called back with -ETIMEDOUT. */
WEIR_API void cmdq_engine_pass(struct cmdq_engine *engine, uint64_t ticks);
WEIR_API uint64_t cmdq_engine_ticks(struct cmdq_engine *engine);
/* As hardware would. Events as in cmdq_event_raw, and its errors. */
WEIR_API int cmdq_engine_set_event(struct cmdq_engine *engine, uint32_t event, bool value);
/* The register file, by offset. */
WEIR_API uint32_t cmdq_engine_read(struct cmdq_engine *engine, unsigned offset);
WEIR_API void cmdq_engine_write(struct cmdq_engine *engine, unsigned offset, uint32_t value);
/* A register of a thread by its index (CMDQ_REG_...); -EINVAL: there is none. */
WEIR_API int cmdq_engine_register(struct cmdq_engine *engine, unsigned channel, unsigned reg,
				  uint32_t *value);

/* Why a packet failed. */
enum cmdq_fault {
	CMDQ_FAULT_NONE,
	CMDQ_FAULT_COMMAND,  /* not a command */
	CMDQ_FAULT_REGISTER, /* no such register */
	CMDQ_FAULT_SUBSYS,   /* no such subsys on this chip */
	CMDQ_FAULT_BUS,	     /* nothing at the address, or it refused */
	CMDQ_FAULT_PC,	     /* no commands there */
};
/* Of the last packet of the channel that failed: why, and the offset in bytes of the command in it. */
WEIR_API enum cmdq_fault cmdq_engine_fault(struct cmdq_engine *engine, unsigned channel,
					   uint64_t *offset);
/* In words. */
WEIR_API const char *cmdq_fault_text(enum cmdq_fault fault);

#ifdef __cplusplus
}
#endif

#endif
