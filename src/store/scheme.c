/* SPDX-License-Identifier: BSD-2-Clause */
/* Store URIs: the one place that knows their form, and which stores there are. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"
#include "base/size.h"
#include "os/file.h"
#include "store/filestore.h"

enum { SCHEMES_MAX = 16, SCHEME_TEXT = 16 };

struct scheme {
	char name[SCHEME_TEXT];		  /* (C) once counted */
	const struct weir_store_ops *ops; /* (C) once counted */
};

static struct {
	struct lock lock;
	_Atomic uint32_t count; /* (A) written under the lock */
	struct scheme scheme[SCHEMES_MAX];
} schemes = {.lock = LOCK_INIT(RANK_SCHEMES, "schemes")};

static bool name_right(const char *name, size_t length)
{
	if (length < 2 || length >= SCHEME_TEXT || name[0] < 'a' || name[0] > 'z')
		return false;
	for (size_t i = 0; i < length; i++) {
		if (!(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= '0' && name[i] <= '9'))
			return false;
	}
	return true;
}

static bool is(const char *name, const char *text, size_t length)
{
	return strlen(name) == length && !memcmp(name, text, length);
}

static const struct weir_store_ops *scheme_find(const char *name, size_t length)
{
	/* Pairs with the release in weir_store_register. */
	const uint32_t count = load_acquire(&schemes.count);

	if (is("file", name, length))
		return &filestore_ops;
	for (uint32_t i = 0; i < count; i++) {
		if (is(schemes.scheme[i].name, name, length))
			return schemes.scheme[i].ops;
	}
	return NULL;
}

int weir_store_register(const char *scheme, const struct weir_store_ops *ops)
{
	const size_t length = strlen(scheme);
	uint32_t n;
	int err = 0;

	if (!name_right(scheme, length) || !store_ops_valid(ops))
		return -EINVAL;
	lock_acquire(&schemes.lock);
	n = load_relaxed(&schemes.count);
	if (is("mem", scheme, length) || scheme_find(scheme, length))
		err = -EEXIST;
	else if (n == SCHEMES_MAX)
		err = -ENOSPC;
	else {
		memcpy(schemes.scheme[n].name, scheme, length + 1);
		schemes.scheme[n].ops = ops;
		/* Pairs with the acquire in scheme_find. */
		store_release(&schemes.count, n + 1);
	}
	lock_release(&schemes.lock);
	return err;
}

/* "size=8G&keep=1G" behind the place. */
static int parameters_parse(const char *text, struct weir_store_config *config)
{
	while (*text) {
		const size_t length = strcspn(text, "&");
		char value[SIZE_TEXT];
		uint64_t *to = NULL;
		int err;

		if (!strncmp(text, "size=", 5))
			to = &config->bytes_max;
		else if (!strncmp(text, "keep=", 5))
			to = &config->keep_free;
		if (!to || length - 5 >= sizeof(value))
			return -EINVAL;
		memcpy(value, text + 5, length - 5);
		value[length - 5] = '\0';
		err = size_parse(value, 0, to);
		if (err)
			return err;
		text += length;
		if (*text != '&')
			break;
		text++;
		if (!*text)
			return -EINVAL;
	}
	return config->bytes_max ? 0 : -EINVAL;
}

/* A folder: the parameters are the defaults'. */
static int folder_init(struct store *s, const char *dir)
{
	s->ops = &filestore_ops;
	s->late = true;
	/* Now: the variable may change, and lie in a region. */
	if (!dir)
		dir = getenv("TMPDIR");
	if (dir && strlen(dir) >= sizeof(s->place))
		return -ENAMETOOLONG;
	strcpy(s->place, dir ? dir : "");
	return 0;
}

int store_init(struct store *s, const char *uri, const char *dir)
{
	const char *colon = uri ? strchr(uri, ':') : NULL, *question;
	size_t length;

	memset(s, 0, sizeof(*s));
	s->config = (struct weir_store_config){.size = sizeof(s->config),
					       .place = s->place,
					       .bytes_max = UINT64_MAX,
					       .keep_free = UINT64_MAX};
	if (!uri)
		return folder_init(s, dir);
	if (!colon || !name_right(uri, (size_t)(colon - uri)))
		return -EINVAL;
	length = (size_t)(colon - uri);
	if (is("mem", uri, length))
		return colon[1] ? -EINVAL : 0;
	s->ops = scheme_find(uri, length);
	if (!s->ops)
		return -ENOSYS;
	question = strchrnul(colon, '?');
	length = (size_t)(question - colon - 1);
	if (length >= sizeof(s->place))
		return -ENAMETOOLONG;
	memcpy(s->place, colon + 1, length);
	s->place[length] = '\0';
	if (s->ops == &filestore_ops) {
		if (!length)
			return -EINVAL;
		s->late = file_is_folder(s->place);
		if (!s->late)
			s->ops = &filestore_named_ops;
	}
	if (*question) {
		int err = parameters_parse(question + 1, &s->config);

		if (err)
			return err;
	}
	/* A folder that is misspelled is not to become a file that fills the disk. */
	return s->ops == &filestore_named_ops && s->config.bytes_max == UINT64_MAX ? -EINVAL : 0;
}
