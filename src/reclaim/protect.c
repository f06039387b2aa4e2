/* SPDX-License-Identifier: BSD-2-Clause */
/* Victims of a job become write-protected, in as few calls as can be, or are given back. */
#include <errno.h>

#include "reclaim/reclaim.h"

enum { WRITE_GAP = 4096 };

struct victims_span {
	const struct victim *first, *last;
};

/* Is a page between two victims dirty and staying? Protecting it would cost its owner a fault. */
static bool bystander_between(const struct region *region, uint32_t from, uint32_t to)
{
	for (uint32_t page = from + 1; page < to; page++) {
		if (word_state(load_relaxed(&region->word[page])) == PAGE_DIRTY)
			return true;
	}
	return false;
}

static int protect(const struct victim *first, const struct victim *last)
{
	return uffd_writeprotect(first->region->uffd, page_address(first->region, first->page),
				 (size_t)(last->page - first->page + 1) << PAGE_SHIFT, true);
}

/* Gives pages back that the job had marked. False: some are busy, and stay CLEANING; they are what a later job finds. */
bool job_abandon(const struct victim *victims, unsigned count)
{
	bool all = true;

	for (unsigned i = 0; i < count; i++) {
		page_word_t *word = &victims[i].region->word[victims[i].page];
		uint64_t w = load_relaxed(word);

		while (!(w & WORD_BUSY) && word_state(w) == PAGE_CLEANING &&
		       !cas_relaxed(word, &w, word_with_state(w, PAGE_DIRTY)))
			;
		all = all && !((w & WORD_BUSY) && word_state(w) == PAGE_CLEANING);
	}
	return all;
}

/*
 * A span that is not all ours: the program has mapped something else in between, or taken a part away by the bare system
 * call; and before Linux 6.4 one call does not go over a border of protection. Page by page then; what is not there stays. If
 * it is busy the whole job does not take place: it would find the page CLEANING a moment later, and copy what nobody has protected.
 */
static int protect_apart(const struct victim *first, const struct victim *last)
{
	for (const struct victim *v = first; v <= last; v++) {
		int err = word_state(load_relaxed(&v->region->word[v->page])) == PAGE_CLEANING
				  ? protect(v, v)
				  : 0;

		if (err && err != -ENOENT)
			return err;
		if (err && !job_abandon(v, 1))
			return -EAGAIN;
	}
	return 0;
}

static int protect_span(const struct victim *first, const struct victim *last)
{
	int err = protect(first, last);

	return err == -ENOENT ? protect_apart(first, last) : err;
}

/* The next span of dirty victims from *at on, as long as the bystanders allow; *at moves behind it. False: there is none. */
static bool span_next(const struct reclaim *r, unsigned count, unsigned *at,
		      struct victims_span *span)
{
	*span = (struct victims_span){NULL, NULL};
	for (; *at < count; (*at)++) {
		const struct victim *v = &r->victim[*at];

		if (word_state(load_relaxed(&v->region->word[v->page])) != PAGE_CLEANING)
			continue;
		if (span->first &&
		    !(v->region == span->first->region && v->page > span->last->page &&
		      v->page - span->last->page < WRITE_GAP &&
		      !bystander_between(v->region, span->last->page, v->page)))
			return true;
		if (!span->first)
			span->first = v;
		span->last = v;
	}
	return span->first;
}

int protect_victims(struct reclaim *r, unsigned count)
{
	struct victims_span spans[JOB_MAX];
	unsigned n = 0, at = 0;
	bool gathered;
	int err = 0;

	/* As many as victims at the most. */
	while (n < JOB_MAX && span_next(r, count, &at, &spans[n]))
		n++;
	gathered = gather_begin(&r->gather, n);
	for (unsigned i = 0; i < n && !err; i++)
		err = protect_span(spans[i].first, spans[i].last);
	gather_end(&r->gather, gathered, n);
	return err;
}
