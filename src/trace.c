/* SPDX-License-Identifier: BSD-2-Clause */
/* Packets as text, before they run: a word of 16 digits a line, as `weir cmdq dis --soc weir` reads them. */
#include <errno.h>

#include "base/log.h"
#include "instance.h"
#include "os/file.h"

enum { LINE = 17, LINES = 256 /* more than a packet of the mover has */ };

static void print_word(char *line, uint64_t word)
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < LINE - 1; i++)
		line[i] = digits[word >> (60 - 4 * i) & 15];
	line[LINE - 1] = '\n';
}

static void trace_packet(void *data, const uint64_t *words, size_t count)
{
	const struct weir *weir = data;
	char text[LINES * LINE];

	while (count) {
		const size_t now = MIN(count, (size_t)LINES);
		int err;

		for (size_t i = 0; i < now; i++)
			print_word(text + i * LINE, words[i]);
		err = file_append(weir->trace_fd, text, now * LINE);
		if (err) {
			log_once("writing the trace of packets failed (%s): it has a gap",
				 errno_name(err));
			return;
		}
		words += now;
		count -= now;
	}
}

int trace_open(struct weir *weir, const char *path)
{
	weir->trace_fd = file_append_open(path);
	if (weir->trace_fd < 0)
		return weir->trace_fd;
	weir->reclaim.movers.trace_data = weir;
	weir->reclaim.movers.trace = trace_packet;
	return 0;
}

void trace_close(struct weir *weir)
{
	if (weir->reclaim.movers.trace)
		file_append_close(weir->trace_fd);
}
