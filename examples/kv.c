/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A key-value table four times larger than the memory that it may use: fills it, reads every key back, checks each value,
 * and says how fast that was and what weir did for it.
 *
 *     kv [LIMIT_MIB]      64 if not given
 *
 * The table is open addressing over fixed slots, in one region of weir, and does not know that most of it is elsewhere. A hash
 * says where a key is, so its region is told that it will be used at random: what lies beside a page is not loaded with it.
 *
 * It is in signal mode: the thread that touches a page fetches it itself, and no permission is needed. What that asks for
 * is that region memory is not handed to system calls unpinned; this program only copies from and to it.
 *
 * Ends with 0 when every value was right, 1 when not, 2 for wrong arguments, 77 where this system cannot run weir.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <weir/weir.h>

enum { KEY_MAX = 24, SLOT = 256, VALUE_MAX = SLOT - KEY_MAX };

struct slot {
	char key[KEY_MAX]; /* "": free */
	char value[VALUE_MAX];
};

struct table {
	struct slot *slot; /* in a region: reads as zeroes, so all are free */
	uint64_t slots;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- the table --- */

static uint64_t hash(const char *key)
{
	uint64_t h = 14695981039346656037u; /* FNV-1a */

	for (; *key; key++)
		h = (h ^ (unsigned char)*key) * 1099511628211u;
	return h ^ h >> 32;
}

/* Where the key is, or the free slot where it would be. NULL: the table is full. */
static struct slot *find(const struct table *t, const char *key)
{
	const uint64_t start = hash(key) % t->slots;

	for (uint64_t n = 0; n < t->slots; n++) {
		struct slot *s = &t->slot[(start + n) % t->slots];

		if (!*s->key || !strcmp(s->key, key))
			return s;
	}
	return NULL;
}

static bool put(struct table *t, const char *key, const char *value)
{
	struct slot *s = find(t, key);

	if (!s || strlen(key) >= KEY_MAX || strlen(value) >= VALUE_MAX)
		return false;
	strcpy(s->key, key);
	strcpy(s->value, value);
	return true;
}

static const char *get(const struct table *t, const char *key)
{
	const struct slot *s = find(t, key);

	return s && *s->key ? s->value : NULL;
}

/* --- what is kept there --- */

static void key_make(uint64_t n, char key[KEY_MAX])
{
	(void)snprintf(key, KEY_MAX, "customer:%" PRIu64, n);
}

/* About as compressible as records of a database are. */
static void value_make(uint64_t n, char value[VALUE_MAX])
{
	static const char *const city[] = {"Antwerp", "Bergen", "Cadiz", "Delft",
					   "Essen",   "Faro",	"Ghent", "Hull"};
	const uint64_t r = n * 6364136223846793005u + 1442695040888963407u;

	(void)snprintf(value, VALUE_MAX,
		       "{\"id\":%" PRIu64 ",\"name\":\"customer %" PRIx64 "\",\"city\":\"%s\","
		       "\"balance\":%" PRIu64 ".%02u,\"currency\":\"EUR\",\"orders\":%u,"
		       "\"note\":\"delivers to the back door, rings twice\"}",
		       n, r >> 24, city[r >> 40 & 7], r >> 44, (unsigned)(r >> 20 & 63),
		       (unsigned)(r >> 30 & 255));
}

static bool fill(struct table *t, uint64_t keys)
{
	char key[KEY_MAX], value[VALUE_MAX];

	for (uint64_t n = 0; n < keys; n++) {
		key_make(n, key);
		value_make(n, value);
		if (!put(t, key, value)) {
			fprintf(stderr, "kv: '%s' does not fit the table\n", key);
			return false;
		}
	}
	return true;
}

/* Returns how many are missing or have another value. */
static uint64_t read_back(const struct table *t, uint64_t keys)
{
	char key[KEY_MAX], right[VALUE_MAX];
	uint64_t wrong = 0;

	for (uint64_t n = 0; n < keys; n++) {
		const char *value;

		key_make(n, key);
		value_make(n, right);
		value = get(t, key);
		if (value && !strcmp(value, right))
			continue;
		if (!wrong++)
			fprintf(stderr, "kv: '%s' %s\n", key,
				value ? "has another value" : "is missing");
	}
	return wrong;
}

/* --- --- */

static void report(const char *what, uint64_t keys, double seconds)
{
	printf("%-10s %9" PRIu64 " keys in %7.2f s: %9.0f a second\n", what, keys, seconds,
	       (double)keys / seconds);
}

static void statistics(struct weir *weir)
{
	struct weir_stats s = {.size = sizeof(s)};

	if (weir_stats_read(weir, &s))
		return;
	printf("in memory %" PRIu64 " MiB as they are and %" PRIu64 " MiB compressed, %" PRIu64
	       " MiB in a file; limit %" PRIu64 " MiB, at most %" PRIu64 " were in use\n",
	       s.resident >> 20, s.compressed >> 20, s.stored >> 20, s.limit >> 20, s.peak >> 20);
	printf("%" PRIu64 " faults: %" PRIu64 " first touches, %" PRIu64 " decompressed, %" PRIu64
	       " read from the file; half of them took less than %.1f us\n",
	       s.faults, s.first_faults, s.compressed_faults, s.stored_faults,
	       (double)s.fault_ns_p50 / 1000);
}

/* The argument in MiB, or 0. */
static uint64_t limit_parse(const char *text)
{
	char *end;
	unsigned long long mib;

	errno = 0;
	mib = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || mib > 1u << 20)
		return 0;
	return mib;
}

int main(int argc, char **argv)
{
	const uint64_t limit = (argc > 1 ? limit_parse(argv[1]) : 64) << 20;
	struct weir_options options = {
		.size = sizeof(options), .limit = limit, .mode = WEIR_MODE_SIGNAL};
	const struct weir_region_options use = {.size = sizeof(use), .access = WEIR_ADVICE_RANDOM};
	struct table table = {.slots = 4 * limit / SLOT};
	const uint64_t keys = table.slots / 5 * 4;
	struct weir *weir;
	void *memory;
	uint64_t wrong;
	double start;
	int err;

	if (argc > 2 || !limit) {
		if (argc == 2)
			fprintf(stderr, "kv: '%s' is no limit\n", argv[1]);
		fprintf(stderr, "Usage: kv [LIMIT_MIB]; MiB from 1 to 1048576, 64 if not given\n");
		return 2;
	}
	err = weir_open(&options, &weir);
	if (err) {
		fprintf(stderr, "kv: weir_open: %s; %s\n", strerror(-err), weir_advice(err));
		return err == -EPERM || err == -ENOSYS ? 77 : 1;
	}
	err = weir_region_create_with(weir, table.slots * SLOT, &use, &memory);
	if (err) {
		fprintf(stderr, "kv: no region of %" PRIu64 " MiB: %s; try a smaller limit\n",
			table.slots * SLOT >> 20, strerror(-err));
		weir_close(weir);
		return 1;
	}
	table.slot = memory;
	printf("a table of %" PRIu64 " MiB under a limit of %" PRIu64 " MiB\n",
	       table.slots * SLOT >> 20, limit >> 20);
	start = now();
	if (!fill(&table, keys)) {
		weir_close(weir);
		return 1;
	}
	report("filled", keys, now() - start);
	start = now();
	wrong = read_back(&table, keys);
	report("read back", keys, now() - start);
	statistics(weir);
	weir_close(weir);
	if (wrong)
		fprintf(stderr, "kv: %" PRIu64 " of %" PRIu64 " values are wrong\n", wrong, keys);
	else
		printf("all values are right\n");
	return wrong ? 1 : 0;
}
