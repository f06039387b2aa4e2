/* SPDX-License-Identifier: BSD-2-Clause */
/* A packet and its memory; what the calling thread's last failed call found wrong. */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "cmdq/cmdq.h"
#include "os/mem.h"

/* --- messages --- */

enum { MESSAGE_MAX = 192 };

/* initial-exec: no call of malloc at the first use. */
static _Thread_local char message[MESSAGE_MAX] __attribute__((tls_model("initial-exec")));

int cmdq_refuse(int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	return err;
}

const char *cmdq_error(void)
{
	return message;
}

/* --- memory --- */

static int plain_alloc(void *data, struct weir_container *container, size_t bytes,
		       struct cmdq_buffer *buffer)
{
	void *addr = mem_alloc(bytes);

	(void)data;
	(void)container;
	if (!addr)
		return -ENOMEM;
	*buffer = (struct cmdq_buffer){.addr = addr, .pa = (uintptr_t)addr, .bytes = bytes};
	return 0;
}

static void plain_free(void *data, struct weir_container *container,
		       const struct cmdq_buffer *buffer)
{
	(void)data;
	(void)container;
	mem_release(buffer->addr, buffer->bytes);
}

static const struct cmdq_buffer_ops plain = {
	.size = sizeof(plain),
	.alloc = plain_alloc,
	.free = plain_free,
};

static int buffer_alloc(const struct cmdq_buffer_ops *ops, struct weir_container *container,
			size_t bytes, struct cmdq_buffer *buffer)
{
	int err = ops->alloc(ops->data, container, bytes, buffer);

	return err ? cmdq_refuse(err, "no memory for a packet of %zu bytes", bytes) : 0;
}

int pkt_create(const struct cmdq_profile *profile, const struct cmdq_buffer_ops *ops,
	       struct weir_container *container, struct cmdq_pkt **out)
{
	struct cmdq_buffer first;
	struct pkt *pkt;
	uint64_t *room_end;
	int err;

	if (!ops)
		ops = &plain;
	err = buffer_alloc(ops, container, PAGE_SIZE, &first);
	if (err)
		return err;
	pkt = (struct pkt *)((char *)first.addr + PAGE_SIZE) - 1;
	room_end = (uint64_t *)pkt;
	*pkt = (struct pkt){
		.head = {.next = first.addr, .end = room_end, .profile = profile},
		.words = first.addr,
		.room_end = room_end,
		.first = first,
		.ops = ops,
		.container = container,
	};
	*out = &pkt->head;
	return 0;
}

int cmdq_pkt_create_for(const struct cmdq_profile *profile, const struct cmdq_buffer_ops *ops,
			struct cmdq_pkt **pkt)
{
	if (!profile)
		return cmdq_refuse(-EINVAL, "no profile");
	if (ops && ops->size < sizeof(*ops))
		return cmdq_refuse(-EINVAL, "buffer operations of %zu bytes: %zu are known",
				   ops->size, sizeof(*ops));
	return pkt_create(profile, ops, NULL, pkt);
}

void cmdq_pkt_destroy(struct cmdq_pkt *head)
{
	struct pkt *pkt;
	struct cmdq_buffer first;

	if (!head)
		return;
	pkt = pkt_of(head);
	assert_always(!atomic_load_explicit(&pkt->busy, memory_order_relaxed));
	if (pkt->grown.addr)
		pkt->ops->free(pkt->ops->data, pkt->container, &pkt->grown);
	first = pkt->first; /* pkt itself lies in there */
	pkt->ops->free(pkt->ops->data, pkt->container, &first);
}

int cmdq_pkt_reset(struct cmdq_pkt *head)
{
	struct pkt *pkt = pkt_of(head);

	if (atomic_load_explicit(&pkt->busy, memory_order_relaxed))
		return cmdq_refuse(-EBUSY, "an engine has the packet: wait for its callback");
	pkt->finalized = false;
	head->next = pkt->words;
	head->end = pkt->room_end;
	return 0;
}

const uint64_t *cmdq_pkt_words(const struct cmdq_pkt *head, size_t *count)
{
	const struct pkt *pkt = pkt_of(head);

	*count = (size_t)(head->next - pkt->words);
	return pkt->words;
}

bool cmdq_pkt_finalized(const struct cmdq_pkt *head)
{
	return pkt_of(head)->finalized;
}

/* Moves to a buffer that has room for so many words more: twice as large, or as many times as it takes. */
static int grow(struct pkt *pkt, size_t words)
{
	const size_t used = (size_t)(pkt->head.next - pkt->words);
	size_t bytes = 2 * (pkt->grown.addr ? pkt->grown.bytes : PAGE_SIZE);
	struct cmdq_buffer buffer;
	int err;

	while (bytes / CMDQ_INST_SIZE < used + words)
		bytes *= 2;
	err = buffer_alloc(pkt->ops, pkt->container, bytes, &buffer);
	if (err)
		return err;
	memcpy(buffer.addr, pkt->words, used * CMDQ_INST_SIZE);
	if (pkt->grown.addr)
		pkt->ops->free(pkt->ops->data, pkt->container, &pkt->grown);
	pkt->grown = buffer;
	pkt->words = buffer.addr;
	pkt->room_end = pkt->words + bytes / CMDQ_INST_SIZE;
	pkt->head.next = pkt->words + used;
	pkt->head.end = pkt->room_end;
	return 0;
}

int pkt_append(struct cmdq_pkt *head, const uint64_t *words, size_t count)
{
	struct pkt *pkt = pkt_of(head);
	int err;

	if (pkt->finalized)
		return cmdq_refuse(-EBUSY, "the packet is finalized: reset it before appending");
	if ((size_t)(head->end - head->next) < count) {
		err = grow(pkt, count);
		if (err)
			return err;
	}
	memcpy(head->next, words, count * CMDQ_INST_SIZE);
	head->next += count;
	return 0;
}

int cmdq_pkt_finalize(struct cmdq_pkt *head)
{
	struct pkt *pkt = pkt_of(head);
	const uint64_t words[] = {
		(uint64_t)CMDQ_OP_EOC << 56 | 1,
		(uint64_t)CMDQ_OP_JUMP << 56 | CMDQ_INST_SIZE >> head->profile->shift,
	};
	int err;

	if (pkt->finalized)
		return 0;
	err = pkt_append(head, words, ARRAY_SIZE(words));
	if (err)
		return err;
	pkt->finalized = true;
	head->end = head->next;
	return 0;
}

void cmdq_pkt_dump(const struct cmdq_pkt *head, void (*line)(void *data, const char *text),
		   void *data)
{
	size_t count;
	const uint64_t *words = cmdq_pkt_words(head, &count);
	char text[CMDQ_LISTING_MAX + 1];

	for (size_t i = 0; i < count; i++) {
		text[text_listing(head->profile, i, words[i], text)] = '\0';
		line(data, text);
	}
}
