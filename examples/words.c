/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Counts the words of a file that is ten times larger than the memory that may be used for it.
 *
 *     words FILE [LIMIT_MIB]      a tenth of the file if not given, and at least 1
 *
 * The file is a region of weir (weir_region_open): read as if all of it were in memory, like a file that is mapped, but with
 * a limit of its own. It is told that it will be read from the beginning to the end (weir_region_advise). A word is a run of letters, digits and '_', in lower case. Words and how often each occurs go to
 * standard output, sorted by word; how fast that was and what weir did goes to standard error.
 *
 * Ends with 0, or 1 when something failed, 2 for wrong arguments, 77 where this system cannot run weir.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <weir/weir.h>

/* Different words are few, so they live in plain memory. */
struct word {
	char *text; /* NULL: free */
	size_t length;
	uint64_t count;
};

struct table {
	struct word *word;
	size_t size, used; /* size: a power of two */
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

_Noreturn static void out_of_memory(void)
{
	fprintf(stderr, "words: no memory for so many different words\n");
	exit(1);
}

static void *must_have(void *memory)
{
	if (!memory)
		out_of_memory();
	return memory;
}

/* --- the table --- */

/* ASCII only, whatever the locale: the small letter, digit or '_', else 0. */
static char word_char(unsigned char c)
{
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')
		return (char)c;
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : 0;
}

static uint64_t hash(const char *text, size_t length)
{
	uint64_t h = 14695981039346656037u; /* FNV-1a */

	for (size_t i = 0; i < length; i++)
		h = (h ^ (unsigned char)text[i]) * 1099511628211u;
	return h ^ h >> 32;
}

static struct word *find(const struct table *t, const char *text, size_t length)
{
	size_t at = hash(text, length) & (t->size - 1);

	while (t->word[at].text &&
	       (t->word[at].length != length || memcmp(t->word[at].text, text, length) != 0))
		at = (at + 1) & (t->size - 1);
	return &t->word[at];
}

static void grow(struct table *t)
{
	struct table larger = {.size = t->size ? 2 * t->size : 1024, .used = t->used};

	larger.word = must_have(calloc(larger.size, sizeof(*larger.word)));
	for (size_t i = 0; i < t->size; i++) {
		if (t->word[i].text)
			*find(&larger, t->word[i].text, t->word[i].length) = t->word[i];
	}
	free(t->word);
	*t = larger;
}

static void count_word(struct table *t, const char *text, size_t length)
{
	struct word *w;

	if (t->used * 2 >= t->size)
		grow(t);
	w = find(t, text, length);
	if (!w->text) {
		w->text = must_have(malloc(length + 1));
		memcpy(w->text, text, length);
		w->text[length] = '\0';
		w->length = length;
		t->used++;
	}
	w->count++;
}

/* Returns how many words there are. */
static uint64_t count_all(struct table *t, const char *file, uint64_t bytes)
{
	char *word = NULL;
	size_t length = 0, room = 0;
	uint64_t words = 0;

	for (uint64_t i = 0; i <= bytes; i++) {
		const char c = i < bytes ? word_char((unsigned char)file[i]) : 0;

		if (c) {
			if (length == room) {
				room = room ? 2 * room : 64;
				word = must_have(realloc(word, room));
			}
			word[length++] = c;
		} else if (length) {
			count_word(t, word, length);
			length = 0;
			words++;
		}
	}
	free(word);
	return words;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(((const struct word *)a)->text, ((const struct word *)b)->text);
}

/* Sorts the words to the front, prints them and frees all. 0, or -errno of standard output. */
static int print_all(struct table *t)
{
	size_t used = 0;

	for (size_t i = 0; i < t->size; i++) {
		if (t->word[i].text)
			t->word[used++] = t->word[i];
	}
	if (used)
		qsort(t->word, used, sizeof(*t->word), by_text);
	for (size_t i = 0; i < used; i++) {
		printf("%" PRIu64 " %s\n", t->word[i].count, t->word[i].text);
		free(t->word[i].text);
	}
	free(t->word);
	return fflush(stdout) || ferror(stdout) ? -errno : 0;
}

/* --- --- */

static void statistics(struct weir *weir, uint64_t bytes, uint64_t words, size_t different,
		       double seconds)
{
	struct weir_stats s = {.size = sizeof(s)};

	if (weir_stats_read(weir, &s))
		return;
	fprintf(stderr,
		"%" PRIu64 " words, %zu different ones, of %.1f MiB in %.2f s: %.0f MiB/s\n", words,
		different, (double)bytes / 1048576, seconds, (double)bytes / 1048576 / seconds);
	fprintf(stderr,
		"limit %.1f MiB, at most %.1f were in use; %" PRIu64 " faults, %" PRIu64
		" pages read from the file\n",
		(double)s.limit / 1048576, (double)s.peak / 1048576, s.faults, s.stored_faults);
}

static int usage(const char *wrong)
{
	if (wrong)
		fprintf(stderr, "words: '%s' is no limit\n", wrong);
	fprintf(stderr, "Usage: words FILE [LIMIT_MIB]; MiB from 1 to 1048576, a tenth of the file "
			"if not given\n");
	return 2;
}

/* 0: it is none. */
static uint64_t limit_parse(const char *text)
{
	char *end;
	unsigned long long mib;

	errno = 0;
	mib = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || mib > 1u << 20)
		return 0;
	return (uint64_t)mib << 20;
}

static int run(struct weir *weir, const char *path)
{
	struct table table = {0};
	uint64_t bytes, words;
	double start = now();
	void *file;
	int err = weir_region_open(weir_container_root(weir), path, &file, &bytes);

	if (err) {
		fprintf(stderr, "words: %s: %s\n", path,
			err == -EINVAL ? "not a regular file, or an empty one" : strerror(-err));
		return err == -EOPNOTSUPP ? 77 : 1;
	}
	/* Only a hint: what it says of errors is not worth a word. */
	(void)weir_region_advise(weir, file, bytes, WEIR_ADVICE_SEQUENTIAL);
	words = count_all(&table, file, bytes);
	statistics(weir, bytes, words, table.used, now() - start);
	err = weir_region_destroy(weir, file);
	if (!err)
		err = print_all(&table);
	if (err)
		fprintf(stderr, "words: %s\n", strerror(-err));
	return err ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct weir_options options = {.size = sizeof(options)};
	struct weir *weir;
	struct stat st;
	int err, status;

	if (argc < 2 || argc > 3)
		return usage(NULL);
	if (stat(argv[1], &st)) {
		fprintf(stderr, "words: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	options.limit = argc > 2 ? limit_parse(argv[2]) : (uint64_t)st.st_size / 10;
	if (argc > 2 && !options.limit)
		return usage(argv[2]);
	if (options.limit < WEIR_LIMIT_MIN)
		options.limit = WEIR_LIMIT_MIN;
	err = weir_open(&options, &weir);
	if (err) {
		fprintf(stderr, "words: weir_open: %s; %s\n", strerror(-err), weir_advice(err));
		return err == -EPERM || err == -ENOSYS ? 77 : 1;
	}
	status = run(weir, argv[1]);
	weir_close(weir);
	return status;
}
