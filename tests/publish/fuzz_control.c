/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For libFuzzer: whatever another process sends or publishes is understood or refused. The last byte says as what the rest is read:
 * a command, a reply, or a segment. What is understood is written and understood again.
 *
 *     mkdir corpus; build-ci/clang/tests/publish/fuzz_control -max_total_time=30 corpus
 */
#include "../fuzz.h"

#include <errno.h>

#include "command.h"
#include "segment.h"

static void a_command(char *text, size_t size)
{
	struct command c, again;
	char out[WEIR_COMMAND_BYTES + 64];
	int n, err = command_parse(text, size, &c);

	must(err == 0 || err == -EINVAL || err == -ERANGE);
	if (err)
		return;
	must(strlen(c.path) <= size);
	n = command_format(&c, out, sizeof(out));
	if (n == -ENAMETOOLONG)
		return;
	must(n > 0 && !command_parse(out, (size_t)n, &again));
	must(again.kind == c.kind && again.value == c.value && again.bytes == c.bytes);
	must(!strcmp(again.path, c.path));
}

static void a_reply(char *text, size_t size)
{
	struct reply r, again;
	char out[64];
	int n;

	if (reply_parse(text, size, &r))
		return;
	must(r.result <= 0 && r.result >= -4095);
	n = reply_format(&r, out, sizeof(out));
	must(n > 0 && !reply_parse(out, (size_t)n, &again));
	must(again.result == r.result && again.number == r.number);
}

static void a_segment(const void *bytes, size_t size)
{
	static struct seen seen;

	if (segment_parse(bytes, size, &seen))
		return;
	must(seen.containers >= 1 && seen.containers <= WEIR_SEGMENT_CONTAINERS);
	must(seen.start_ns <= seen.now_ns);
	for (unsigned i = 0; i < seen.containers; i++) {
		const char *path = seen.container[i].path;

		must(memchr(path, 0, WEIR_SEGMENT_PATH));
		for (; *path; path++)
			must((unsigned char)*path >= ' ' && *path != 0x7f);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t magic = WEIR_SEGMENT_MAGIC;
	unsigned kind;
	char *copy;

	if (!size)
		return 0;
	kind = data[--size] % 4;
	/* A copy of its own, so that a byte too far is seen; text has room for its end. */
	copy = malloc(size + (kind < 2));
	must(copy || !size);
	if (size)
		memcpy(copy, data, size);
	if (kind == 3 && size >= sizeof(magic))
		memcpy(copy, &magic, sizeof(magic));
	if (kind == 0)
		a_command(copy, size);
	else if (kind == 1)
		a_reply(copy, size);
	else
		a_segment(copy, size);
	free(copy);
	return 0;
}
