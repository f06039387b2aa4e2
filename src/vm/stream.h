/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Streams: readers and writers that go up or down page by page, told by the pages on which they fault. All of it is a
 * guess, kept without a lock: a lost update costs one readahead.
 */
#ifndef WEIR_VM_STREAM_H
#define WEIR_VM_STREAM_H

#include "vm/vm.h"

/*
 * The stream that a page continues, and how many pages from it on the reader is likely to want (negative: downwards);
 * 0: it continues none, and begins the candidate that is returned.
 */
struct stream *stream_match(struct vm *vm, page_no_t page, int32_t *window);
/* The stream has come by count pages from page on. */
void stream_advance(struct stream *s, page_no_t page, uint32_t count, int32_t window);
/* A new one, of which the next fault is expected there. */
void stream_begin(struct stream *s, page_no_t next);

/*
 * Pages read from a file around a fault that belongs to no stream: the access costs as much as eight pages do. Where
 * hardly a fault belongs to one, they would only take room from others: file_control.random.
 */
enum { FILE_AROUND = 8 };
/* A load from the file, and whether it continued a stream. */
void stream_note_file(struct vm *vm, bool in_stream);

#endif
