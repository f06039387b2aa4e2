/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "cmdq/cmdq.h"

#define CMDQ_PROFILE(soc, threads, shift, offset)
#define CMDQ_SUBSYS(id, high)
#define CMDQ_LOGICAL(name, id)
#define CMDQ_EVENT(name, id) [id] = {sizeof(#name) - 1, #name},
static const struct event_name events_mt6779[] = {
#include "soc/mt6779.def"
};
static const struct event_name events_mt6795[] = {
#include "soc/mt6795.def"
};
static const struct event_name events_mt8173[] = {
#include "soc/mt8173.def"
};
static const struct event_name events_mt8183[] = {
#include "soc/mt8183.def"
};
static const struct event_name events_mt8186[] = {
#include "soc/mt8186.def"
};
static const struct event_name events_mt8188[] = {
#include "soc/mt8188.def"
};
static const struct event_name events_mt8192[] = {
#include "soc/mt8192.def"
};
static const struct event_name events_mt8195[] = {
#include "soc/mt8195.def"
};
static const struct event_name events_weir[] = {
#include "soc/weir.def"
};
#undef CMDQ_PROFILE
#undef CMDQ_SUBSYS
#undef CMDQ_LOGICAL
#undef CMDQ_EVENT

#define CMDQ_PROFILE(soc, threads_, shift_, offset_)                                               \
	.name = #soc, .threads = (threads_), .shift = (shift_), .offset = (offset_),               \
	.events = events_##soc, .event_count = ARRAY_SIZE(events_##soc),
#define CMDQ_SUBSYS(id, high_) .subsys[id] = {true, high_},
#define CMDQ_LOGICAL(name, id) .logical[CMDQ_EVENT_##name - CMDQ_EVENT_LOGICAL] = (id) + 1,
#define CMDQ_EVENT(name, id)
static const struct cmdq_profile profiles[] = {
	{
#include "soc/mt6779.def"
	},
	{
#include "soc/mt6795.def"
	},
	{
#include "soc/mt8173.def"
	},
	{
#include "soc/mt8183.def"
	},
	{
#include "soc/mt8186.def"
	},
	{
#include "soc/mt8188.def"
	},
	{
#include "soc/mt8192.def"
	},
	{
#include "soc/mt8195.def"
	},
	{
#include "soc/weir.def"
	},
};

const struct cmdq_profile *cmdq_profile_at(unsigned n)
{
	return n < ARRAY_SIZE(profiles) ? &profiles[n] : NULL;
}

const struct cmdq_profile *cmdq_profile_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(profiles); i++) {
		if (!strcmp(profiles[i].name, name))
			return &profiles[i];
	}
	return NULL;
}

const char *cmdq_profile_name(const struct cmdq_profile *profile)
{
	return profile->name;
}

unsigned cmdq_profile_threads(const struct cmdq_profile *profile)
{
	return profile->threads;
}

unsigned cmdq_profile_shift(const struct cmdq_profile *profile)
{
	return profile->shift;
}

uint64_t cmdq_profile_offset(const struct cmdq_profile *profile)
{
	return profile->offset;
}

/* --- events --- */

/* The drivers' names of logical events, for messages and for the assembler. */
static const char *const logical_names[CMDQ_LOGICAL_EVENTS] = {
#define NAME(name) [CMDQ_EVENT_##name - CMDQ_EVENT_LOGICAL] = #name
	NAME(DISP_OVL0_SOF),	      NAME(DISP_OVL1_SOF),	    NAME(DISP_RDMA0_SOF),
	NAME(DISP_RDMA1_SOF),	      NAME(DISP_RDMA2_SOF),	    NAME(DISP_WDMA0_SOF),
	NAME(DISP_WDMA1_SOF),	      NAME(DISP_OVL0_EOF),	    NAME(DISP_OVL1_EOF),
	NAME(DISP_RDMA0_EOF),	      NAME(DISP_RDMA1_EOF),	    NAME(DISP_RDMA2_EOF),
	NAME(DISP_WDMA0_EOF),	      NAME(DISP_WDMA1_EOF),	    NAME(DISP_MUTEX0_STREAM_EOF),
	NAME(DISP_MUTEX1_STREAM_EOF), NAME(DISP_MUTEX2_STREAM_EOF), NAME(DISP_MUTEX3_STREAM_EOF),
	NAME(DISP_MUTEX4_STREAM_EOF), NAME(DISP_RDMA0_UNDERRUN),    NAME(DISP_RDMA1_UNDERRUN),
	NAME(DISP_RDMA2_UNDERRUN),
#undef NAME
};

int cmdq_event_raw(const struct cmdq_profile *profile, uint32_t event)
{
	unsigned logical = event - CMDQ_EVENT_LOGICAL;

	if (event < CMDQ_EVENTS)
		return (int)event;
	if (logical >= CMDQ_LOGICAL_EVENTS)
		return cmdq_refuse(-EINVAL,
				   "event %u is out of range: 0 to %d, or an enum cmdq_event",
				   event, CMDQ_EVENTS - 1);
	if (!profile->logical[logical])
		return cmdq_refuse(-ENOENT, "%s has no event %s", profile->name,
				   logical_names[logical]);
	return profile->logical[logical] - 1;
}

static int event_named(const struct cmdq_profile *profile, const char *name, size_t length)
{
	static const char display[] = "DISP_";
	const size_t skip = sizeof(display) - 1;

	for (unsigned i = 0; i < profile->event_count; i++) {
		if (profile->events[i].length == length &&
		    !memcmp(profile->events[i].text, name, length))
			return (int)i;
	}
	/* Some bindings leave DISP_ away where drivers have it. */
	for (unsigned i = 0; i < profile->event_count; i++) {
		if (profile->events[i].length == length + skip &&
		    !memcmp(profile->events[i].text, display, skip) &&
		    !memcmp(profile->events[i].text + skip, name, length))
			return (int)i;
	}
	for (unsigned i = 0; i < CMDQ_LOGICAL_EVENTS; i++) {
		if (profile->logical[i] && !strncmp(logical_names[i], name, length) &&
		    !logical_names[i][length])
			return profile->logical[i] - 1;
	}
	return -ENOENT;
}

static bool skip_prefix(const char **name, size_t *length, const char *prefix)
{
	const size_t skip = strlen(prefix);

	if (*length <= skip || strncmp(*name, prefix, skip) != 0)
		return false;
	*name += skip;
	*length -= skip;
	return true;
}

int profile_event(const struct cmdq_profile *profile, const char *name, size_t length)
{
	/* As the kernel's headers have them: CMDQ_EVENT_..., CMDQ_SYNC_... */
	if (skip_prefix(&name, &length, "CMDQ_"))
		(void)skip_prefix(&name, &length, "EVENT_");
	return length ? event_named(profile, name, length) : -ENOENT;
}

int cmdq_event_find(const struct cmdq_profile *profile, const char *name)
{
	int raw = profile_event(profile, name, strlen(name));

	return raw >= 0 ? raw : cmdq_refuse(-ENOENT, "%s has no event %s", profile->name, name);
}

const char *cmdq_event_name(const struct cmdq_profile *profile, unsigned raw)
{
	if (raw >= profile->event_count || !profile->events[raw].length)
		return NULL;
	return profile->events[raw].text;
}

/* --- devices --- */

int profile_subsys(const struct cmdq_profile *profile, uint64_t address)
{
	for (unsigned id = 0; id < CMDQ_SUBSYS_MAX; id++) {
		if (profile->subsys[id].known && profile->subsys[id].high == address >> 16)
			return (int)id;
	}
	return -1;
}

int cmdq_register_device(const struct cmdq_profile *profile, uint64_t address,
			 struct cmdq_base *base)
{
	int id = profile_subsys(profile, address);

	if (address & 3)
		return cmdq_refuse(-EINVAL, "address 0x%llx is not a multiple of 4",
				   (unsigned long long)address);
	if (id < 0)
		return cmdq_refuse(-EINVAL, "address 0x%llx is in no subsys of %s",
				   (unsigned long long)address, profile->name);
	*base = (struct cmdq_base){
		.profile = profile,
		.write = (uint64_t)CMDQ_OP_WRITE << 56 | (uint64_t)id << 48 |
			 (address & 0xffff) << 32,
		.room = 0x10000 - (uint32_t)(address & 0xffff),
		.subsys = (uint8_t)id,
	};
	return 0;
}
