/* SPDX-License-Identifier: BSD-2-Clause */
/* What weir run tells the agent: every configuration comes back as it was, and everything else is refused. */
#include "../unit.h"

#include "config.h"

/* Room for three paths of which every byte is escaped. */
enum { ROOM = 4 * 3 * 4096 + 256 };

static void path_random(uint64_t *seed, char *path, size_t room)
{
	static const char often[] = ":%=/a0 \n\t%25%3a\"'\\";
	size_t len = random_chance(seed, 4) ? random_below(seed, (unsigned)room)
					    : random_below(seed, MIN(40u, (unsigned)room));

	for (size_t i = 0; i < len; i++) {
		path[i] = random_char(seed, 1);
		if (random_chance(seed, 2))
			path[i] = often[random_below(seed, sizeof(often) - 1)];
	}
	path[len] = 0;
}

static void assert_same(const struct config *a, const struct config *b)
{
	assert_int_equal(a->limit, b->limit);
	assert_int_equal(a->compressed_share, b->compressed_share);
	assert_int_equal(a->handlers, b->handlers);
	assert_int_equal(a->churn_ms, b->churn_ms);
	assert_int_equal(a->kmap_slots, b->kmap_slots);
	assert_int_equal(a->placement, b->placement);
	assert_int_equal(a->stats, b->stats);
	assert_int_equal(a->stats_children, b->stats_children);
	assert_string_equal(a->stats_file, b->stats_file);
	assert_string_equal(a->trace, b->trace);
	assert_string_equal(a->container, b->container);
	assert_true(a->high == b->high);
	assert_string_equal(a->store, b->store);
	assert_string_equal(a->compress, b->compress);
	assert_string_equal(a->preload, b->preload);
}

static void config_random(uint64_t *seed, struct config *c)
{
	memset(c, 0, sizeof(*c));
	c->limit = random_magnitude(seed) | 1;
	if (random_chance(seed, 2))
		c->compressed_share = random_magnitude(seed);
	if (random_chance(seed, 2))
		c->handlers = (unsigned)random_magnitude(seed);
	if (random_chance(seed, 2))
		c->churn_ms = (unsigned)random_magnitude(seed);
	if (random_chance(seed, 2))
		c->kmap_slots = (unsigned)random_magnitude(seed);
	c->placement = random_below(seed, 4);
	c->stats = (enum stats_form)random_below(seed, STATS_JSON + 1);
	c->stats_children = random_chance(seed, 2);
	path_random(seed, c->stats_file, sizeof(c->stats_file));
	path_random(seed, c->trace, sizeof(c->trace));
	path_random(seed, c->container, sizeof(c->container));
	c->high = random_magnitude(seed);
	path_random(seed, c->store, sizeof(c->store));
	path_random(seed, c->compress, sizeof(c->compress));
	path_random(seed, c->preload, sizeof(c->preload));
}

/* Whatever a path may hold, what is parsed is what was formatted, and formats the same again. */
static void test_every_configuration_comes_back(void **state)
{
	static struct config c, back;
	static char text[ROOM], again[ROOM];
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		config_random(&seed, &c);
		assert_int_equal(config_format(&c, text, sizeof(text)), 0);
		assert_true(strlen(text) < sizeof(text));
		memset(&back, 0x5a, sizeof(back));
		assert_int_equal(config_parse(text, &back), 0);
		assert_same(&c, &back);
		assert_int_equal(config_format(&back, again, sizeof(again)), 0);
		assert_string_equal(text, again);
	}
}

/* The longest paths, of plain letters and of nothing but what must be escaped. */
static void test_the_longest_paths(void **state)
{
	static const char fills[] = "x:%=";
	static struct config c, back;
	static char text[ROOM];

	(void)state;
	for (unsigned i = 0; i < sizeof(fills) - 1; i++) {
		memset(&c, 0, sizeof(c));
		c.limit = UINT64_MAX;
		memset(c.stats_file, fills[i], sizeof(c.stats_file) - 1);
		memset(c.trace, fills[i], sizeof(c.trace) - 1);
		memset(c.store, fills[i], sizeof(c.store) - 1);
		memset(c.preload, fills[i], sizeof(c.preload) - 1);
		assert_int_equal(config_format(&c, text, sizeof(text)), 0);
		assert_int_equal(config_parse(text, &back), 0);
		assert_same(&c, &back);
	}
}

/* The text is made of "key=value:", and no ':' stands in a value. */
static void test_the_text_is_as_documented(void **state)
{
	struct config c = {
		.limit = MIB(64),
		.handlers = 2,
		.placement = 3,
		.stats = STATS_JSON,
		.stats_file = "/tmp/100%:a",
		.preload = "/lib/agent.so",
	};
	char text[256];

	(void)state;
	assert_int_equal(config_format(&c, text, sizeof(text)), 0);
	assert_string_equal(text,
			    "limit=67108864:handlers=2:placement=3:stats=2:file=/tmp/100%25%3aa:"
			    "agent=/lib/agent.so:");
}

/* Too little room is -ENAMETOOLONG, never a byte beyond the room, and what stands there ends with a NUL. */
static void test_too_little_room_is_told(void **state)
{
	struct config c = {.limit = 4096, .store = "/a:b%c", .stats = STATS_TABLE};
	char text[256];
	size_t len;

	(void)state;
	assert_int_equal(config_format(&c, text, sizeof(text)), 0);
	len = strlen(text);
	for (size_t room = 1; room <= len + 3; room++) {
		char *tight = guarded(room);

		memset(tight, 'x', room);
		assert_int_equal(config_format(&c, tight, room), room > len ? 0 : -ENAMETOOLONG);
		assert_non_null(memchr(tight, 0, room));
		if (room > len)
			assert_string_equal(tight, text);
	}
}

/* Empty and zero values are left out and come back as such; a key may come in any order, and the last one counts. */
static void test_what_may_be_left_out(void **state)
{
	static struct config c;

	(void)state;
	assert_int_equal(config_parse("limit=1:", &c), 0);
	assert_true(c.limit == 1 && !c.compressed_share && !c.handlers && !c.placement);
	assert_true(c.stats == STATS_NONE && !c.stats_file[0] && !c.store[0] && !c.preload[0]);
	assert_int_equal(config_parse("agent=/x:store=/y:placement=1:limit=77:share=5:", &c), 0);
	assert_true(c.limit == 77 && c.compressed_share == 5 && c.placement == 1);
	assert_string_equal(c.store, "/y");
	assert_string_equal(c.preload, "/x");
	assert_int_equal(config_parse("store=:limit=5:", &c), 0);
	assert_string_equal(c.store, "");
	assert_int_equal(config_parse("limit=18446744073709551615:handlers=4294967295:", &c), 0);
	assert_true(c.limit == UINT64_MAX && c.handlers == 4294967295u);
}

static void test_everything_else_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		"=",
		"limit",
		"limit=",
		"limit=1",   /* no ':' */
		"limit=:",   /* no number */
		"limit=0:",  /* no limit */
		"share=5:",  /* no limit at all */
		"limit=1::", /* an empty pair */
		":limit=1:",
		"limit=1:x",
		"limit=1:x:",
		"limit=1:x=:",
		"limit=1:x=1:", /* no such key */
		"limit=1:=1:",
		"limi=1:",
		"limits=1:",
		"Limit=1:",
		" limit=1:",
		"limit =1:",
		"limit= 1:",
		"limit=1 :",
		"limit=+1:",
		"limit=-1:",
		"limit=\t1:",
		"limit=0x10:",
		"limit=1K:",
		"limit=1.5:",
		"limit=1;",
		"limit==1:",
		"limit=18446744073709551616:",
		"limit=99999999999999999999999:",
		"limit=1:handlers=4294967296:", /* would be 0 */
		"limit=1:churn=4294967296:",
		"limit=1:kmap=4294967296:",
		"limit=1:handlers=-1:",
		"limit=1:handlers=x:",
		"limit=1:placement=:",
		"limit=1:placement=yes:",
		"limit=1:stats=3:",
		"limit=1:stats=4294967296:",
		"limit=1:stats=json:",
		"limit=%31",
		"limit=1%:",
		"limit=1%0:",
		"limit=1:store=/a%:",
		"limit=1:store=/a%2:",
		"limit=1:store=/a%2g:",
		"limit=1:store=/a%G0:",
		"limit=1:store=/a%%:",
		"limit=1:store=/a%",
		"limit=1:store=/a%2",
		"limit=1:store=/a%25",
		"limit=1%00:", /* a NUL inside would hide the rest */
		"limit=1%0099:",
		"limit=1:store=/a%00b:",
		"limit=1:store=%00:",
	};
	static struct config c;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		/* At the end of a page: nothing behind the text may be read. */
		char *text = guarded(strlen(bad[i]) + 1);

		memcpy(text, bad[i], strlen(bad[i]) + 1);
		if (config_parse(text, &c) != -EINVAL)
			fail_msg("\"%s\": %d", bad[i], config_parse(text, &c));
	}
}

/* A path longer than there is room for is an error, whichever it is, and writes nothing beyond. */
static void test_too_long_paths_are_refused(void **state)
{
	static const char *const keys[] = {"file", "store", "agent", "limit", "nokey"};
	static char text[3 * 8192];
	static struct config c;

	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(keys); k++) {
		for (size_t len = 4090; len < 4102; len++) {
			bool path = k < 3;
			int n = snprintf(text, sizeof(text), "limit=1:%s=", keys[k]);
			int err;

			memset(text + n, 'p', len);
			memcpy(text + n + len, ":", 2);
			err = config_parse(text, &c);
			if (path && len <= 4095)
				assert_int_equal(err, 0);
			else
				assert_true(err == -EINVAL || err == -ENAMETOOLONG);
		}
	}
}

/* Any text at all is answered by 0 or an error; what is taken survives the way there and back. */
static void test_random_text_does_no_harm(void **state)
{
	static const char often[] =
		"limit=1:limit=store=/a%25:file=%stats=2:%3a::0123456789handlers=placement=";
	static struct config c, back;
	static char again[ROOM];
	uint64_t seed = test_seed();
	unsigned taken = 0;

	(void)state;
	for (unsigned i = 0; i < 50000; i++) {
		char text[64];
		unsigned len = random_below(&seed, sizeof(text) - 1), n = 0;

		if (random_chance(&seed, 2))
			n = (unsigned)snprintf(text, sizeof(text),
					       "limit=%u:", random_below(&seed, 100));
		while (n < len) {
			unsigned from = random_below(&seed, sizeof(often) - 1);
			unsigned count = 1 + random_below(&seed, 8);

			for (; count && n < len; count--, n++) {
				text[n] = often[from++ % (sizeof(often) - 1)];
				if (random_chance(&seed, 30))
					text[n] = random_char(&seed, 1);
			}
		}
		text[n] = 0;
		if (config_parse(text, &c))
			continue;
		taken++;
		assert_int_equal(config_format(&c, again, sizeof(again)), 0);
		assert_int_equal(config_parse(again, &back), 0);
		assert_same(&c, &back);
	}
	assert_true(taken > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_configuration_comes_back),
		cmocka_unit_test(test_the_longest_paths),
		cmocka_unit_test(test_the_text_is_as_documented),
		cmocka_unit_test(test_too_little_room_is_told),
		cmocka_unit_test(test_what_may_be_left_out),
		cmocka_unit_test(test_everything_else_is_refused),
		cmocka_unit_test(test_too_long_paths_are_refused),
		cmocka_unit_test(test_random_text_does_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
