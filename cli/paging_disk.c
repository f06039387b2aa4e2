/* SPDX-License-Identifier: BSD-2-Clause */
#include "paging_disk.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "os/file.h"
#include "os/mem.h"

enum { THREADS_MAX = 4, PIECE_PAGES = 512 };

struct reader {
	const struct load *load;
	const struct file_source *source;
	pthread_t thread;
	unsigned index, count;
	uint64_t until_ns, pages;
	int err;
};

static void *reader_main(void *data)
{
	struct reader *r = data;
	const bool random = r->load->pattern != PATTERN_SEQ;
	const uint32_t n = random ? 1 : PIECE_PAGES, part = r->load->pages / r->count;
	const uint64_t size = (uint64_t)r->load->pages << PAGE_SHIFT;
	uint64_t s = r->index + 1, page = (uint64_t)part * r->index;
	/* A whole huge page: large pieces into small ones would get half of what the disk gives. */
	char *to = mem_buffer_alloc((size_t)n << PAGE_SHIFT);

	r->err = to ? 0 : -ENOMEM;
	while (!r->err && now_ns() < r->until_ns) {
		s = s * 6364136223846793005ull + 1442695040888963407ull;
		page = random ? (s >> 33) % r->load->pages : (page + n) % r->load->pages;
		r->err = file_source_read(r->source, to, (size_t)n << PAGE_SHIFT,
					  (off_t)(page << PAGE_SHIFT), size);
		r->pages += n;
	}
	mem_release(to, (size_t)n << PAGE_SHIFT);
	return NULL;
}

int disk_run(const struct load *load, const char *path, struct load_result *result)
{
	const unsigned threads = load->pattern == PATTERN_SEQ ? THREADS_MAX : load->threads;
	const uint64_t began = now_ns();
	struct reader reader[THREADS_MAX];
	struct file_source source;
	unsigned started = 0;
	uint64_t pages = 0;
	int err = file_source_open(&source, path, false, NULL);

	if (err)
		return err;
	for (; started < threads && !err; started += !err) {
		reader[started] = (struct reader){.load = load,
						  .source = &source,
						  .index = started,
						  .count = threads,
						  .until_ns = began + load->window_ns};
		err = -pthread_create(&reader[started].thread, NULL, reader_main, &reader[started]);
	}
	for (unsigned i = 0; i < started; i++) {
		pthread_join(reader[i].thread, NULL);
		pages += reader[i].pages;
		err = err ? err : reader[i].err;
	}
	file_source_close(&source);
	memset(result, 0, sizeof(*result));
	result->accesses = pages;
	result->per_s = (double)pages * 1e9 / (double)(now_ns() - began);
	return err;
}
