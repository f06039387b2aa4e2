/* SPDX-License-Identifier: BSD-2-Clause */
/* Victims of a job become write-protected, in as few calls as can be, or are given back. */
#include <errno.h>

#include "reclaim/reclaim.h"

enum { WRITE_GAP = 4096 };

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

/* Gives pages back that the job had marked. */
void job_abandon(const struct victim *victims, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		page_word_t *word = &victims[i].region->word[victims[i].page];
		uint64_t w = load_relaxed(word);

		while (!(w & WORD_BUSY) && word_state(w) == PAGE_CLEANING &&
		       !cas_relaxed(word, &w, word_with_state(w, PAGE_DIRTY)))
			;
	}
}

/*
 * A span that is not all ours: the program has mapped something else in between, or taken a part away by the bare system
 * call; and before Linux 6.4 one call does not go over a border of protection. Page by page then; what is not there stays.
 */
static int protect_apart(const struct victim *first, const struct victim *last)
{
	for (const struct victim *v = first; v <= last; v++) {
		int err = word_state(load_relaxed(&v->region->word[v->page])) == PAGE_CLEANING
				  ? protect(v, v)
				  : 0;

		if (err && err != -ENOENT)
			return err;
		if (err)
			job_abandon(v, 1);
	}
	return 0;
}

static int protect_span(const struct victim *first, const struct victim *last)
{
	int err = protect(first, last);

	return err == -ENOENT ? protect_apart(first, last) : err;
}

/* Protects the spans of the dirty victims, in as few calls as the bystanders allow. */
int protect_victims(struct reclaim *r, unsigned count)
{
	const struct victim *first = NULL, *last = NULL;

	for (unsigned i = 0; i < count; i++) {
		const struct victim *v = &r->victim[i];
		int err;

		if (word_state(load_relaxed(&v->region->word[v->page])) != PAGE_CLEANING)
			continue;
		if (first && v->region == first->region && v->page > last->page &&
		    v->page - last->page < WRITE_GAP &&
		    !bystander_between(v->region, last->page, v->page)) {
			last = v;
			continue;
		}
		err = first ? protect_span(first, last) : 0;
		if (err)
			return err;
		first = last = v;
	}
	return first ? protect_span(first, last) : 0;
}
