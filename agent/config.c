/* SPDX-License-Identifier: BSD-2-Clause */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct out {
	char *at;
	size_t room;
	int err;
};

static void put(struct out *out, char c)
{
	if (out->room < 2) {
		out->err = -ENAMETOOLONG;
		return;
	}
	*out->at++ = c;
	*out->at = '\0';
	out->room--;
}

static void put_text(struct out *out, const char *key, const char *value)
{
	static const char hex[] = "0123456789abcdef";

	if (!*value)
		return;
	for (; *key; key++)
		put(out, *key);
	put(out, '=');
	for (; *value; value++) {
		if (*value == ':' || *value == '%') {
			put(out, '%');
			put(out, hex[(unsigned char)*value >> 4]);
			put(out, hex[*value & 15]);
		} else {
			put(out, *value);
		}
	}
	put(out, ':');
}

static void put_number(struct out *out, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	if (value)
		put_text(out, key, text);
}

int config_format(const struct config *config, char *text, size_t room)
{
	struct out out = {text, room, 0};

	*text = '\0';
	put_number(&out, "limit", config->limit);
	put_number(&out, "share", config->compressed_share);
	put_number(&out, "high", config->high);
	put_number(&out, "handlers", config->handlers);
	put_number(&out, "placement", config->placement);
	put_number(&out, "churn", config->churn_ms);
	put_number(&out, "kmap", config->kmap_slots);
	put_number(&out, "stats", config->stats);
	put_number(&out, "children", config->stats_children);
	put_text(&out, "file", config->stats_file);
	put_text(&out, "store", config->store);
	put_text(&out, "trace", config->trace);
	put_text(&out, "container", config->container);
	put_text(&out, "compress", config->compress);
	put_text(&out, "agent", config->preload);
	return out.err;
}

static int unhex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The value up to ':' into buf. Returns what follows the ':', or NULL: malformed or too long. */
static const char *value_read(const char *text, char *buf, size_t room)
{
	for (; *text && *text != ':'; text++) {
		char c = *text;

		if (c == '%') {
			int high = unhex(text[1]), low = high < 0 ? -1 : unhex(text[2]);

			if (low < 0)
				return NULL;
			c = (char)(high << 4 | low);
			if (!c)
				return NULL;
			text += 2;
		}
		if (room < 2)
			return NULL;
		*buf++ = c;
		room--;
	}
	*buf = '\0';
	return *text == ':' ? text + 1 : NULL;
}

/* Digits and nothing else: strtoull would take blanks and signs, too. */
static int number_read(const char *text, unsigned long long *number)
{
	unsigned long long n = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, *text - '0', &n))
			return -EINVAL;
	}
	*number = n;
	return 0;
}

static int set(struct config *config, const char *key, size_t len, const char *value)
{
	const struct {
		const char *key;
		char *text;
		size_t room;
	} texts[] = {
		{"file", config->stats_file, sizeof(config->stats_file)},
		{"store", config->store, sizeof(config->store)},
		{"trace", config->trace, sizeof(config->trace)},
		{"container", config->container, sizeof(config->container)},
		{"compress", config->compress, sizeof(config->compress)},
		{"agent", config->preload, sizeof(config->preload)},
	};
	unsigned long long n;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (strlen(texts[i].key) == len && !memcmp(key, texts[i].key, len)) {
			if (strlen(value) >= texts[i].room)
				return -ENAMETOOLONG;
			memcpy(texts[i].text, value, strlen(value) + 1);
			return 0;
		}
	}
	if (number_read(value, &n))
		return -EINVAL;
	if (len == 5 && !memcmp(key, "limit", 5))
		config->limit = n;
	else if (len == 5 && !memcmp(key, "share", 5))
		config->compressed_share = n;
	else if (len == 4 && !memcmp(key, "high", 4))
		config->high = n;
	else if (len == 8 && !memcmp(key, "handlers", 8) && n <= UINT32_MAX)
		config->handlers = (unsigned)n;
	else if (len == 9 && !memcmp(key, "placement", 9) && n <= UINT32_MAX)
		config->placement = (unsigned)n;
	else if (len == 5 && !memcmp(key, "churn", 5) && n <= UINT32_MAX)
		config->churn_ms = (unsigned)n;
	else if (len == 4 && !memcmp(key, "kmap", 4) && n <= UINT32_MAX)
		config->kmap_slots = (unsigned)n;
	else if (len == 5 && !memcmp(key, "stats", 5) && n <= STATS_JSON)
		config->stats = (enum stats_form)n;
	else if (len == 8 && !memcmp(key, "children", 8) && n <= 1)
		config->stats_children = n;
	else
		return -EINVAL;
	return 0;
}

int config_parse(const char *text, struct config *config)
{
	char value[4096];

	memset(config, 0, sizeof(*config));
	while (*text) {
		const char *equals = strchr(text, '=');
		int err;

		if (!equals)
			return -EINVAL;
		const char *key = text;

		text = value_read(equals + 1, value, sizeof(value));
		if (!text)
			return -EINVAL;
		err = set(config, key, (size_t)(equals - key), value);
		if (err)
			return err;
	}
	return config->limit ? 0 : -EINVAL;
}
