/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The compressed store: objects stay what they are and where they are until they are freed or moved, no two share a
 * byte, what is charged is what is held, and compaction gives frames back.
 */
#include "../unit.h"
#include "../allocations.h"
#include "../frames.h"

#include <sched.h>

#include "base/atomic.h"
#include "store/compressed.h"

enum { SLOT_BYTES = 1 << SLOT_SHIFT, OBJECTS = 4096 };

struct fixture {
	struct weir_pool *pool;
	struct compressed store;
};

static struct fixture *fixture_make(size_t pool_bytes)
{
	static struct fixture f;

	f.pool = frames_open(pool_bytes);
	assert_int_equal(compressed_init(&f.store, f.pool), 0);
	return &f;
}

static void fixture_end(struct fixture *f)
{
	assert_int_equal(compressed_validate(&f->store), 0);
	assert_int_equal(weir_pool_validate(f->pool), 0);
	compressed_destroy(&f->store);
	weir_pool_destroy(f->pool);
}

/* An object of so many bytes whose contents follow from its page and its seed. */
static void object_make(void *room, page_no_t page, size_t size, uint64_t seed)
{
	struct object *obj = room;

	obj->page = page;
	obj->bytes = (size - sizeof(*obj)) & 0x1fff;
	obj->codec = CODEC_RAW;
	obj->check = seed;
	random_bytes(&seed, obj->packed, obj->bytes);
}

/* What the oracle knows of one page. */
struct entry {
	slot_t slot;
	uint64_t seed;
	uint16_t size; /* 0: the page has no object */
};

static bool entry_intact(struct compressed *store, const struct entry *e, page_no_t page)
{
	_Alignas(8) char expected[OBJECT_MAX];

	object_make(expected, page, e->size, e->seed);
	return compressed_room(store, e->slot) >= e->size &&
	       !memcmp(compressed_object(store, e->slot), expected, e->size);
}

static int entry_put(struct compressed *store, struct entry *e, page_no_t page, size_t size,
		     uint64_t seed)
{
	_Alignas(8) char object[OBJECT_MAX];
	int err;

	object_make(object, page, size, seed);
	err = compressed_put(store, object, size, &e->slot);
	if (!err) {
		e->size = (uint16_t)size;
		e->seed = seed;
	}
	return err;
}

/* Sizes as pages give them: some tiny, most in the middle, some whole. */
static size_t size_random(uint64_t *seed)
{
	switch (random_below(seed, 4)) {
	case 0:
		return OBJECT_MAX;
	case 1:
		return sizeof(struct object) + 1 + random_below(seed, 200);
	default:
		return sizeof(struct object) + 1 + random_below(seed, 1 << PAGE_SHIFT);
	}
}

static size_t class_bytes_of(size_t size)
{
	return ALIGN_UP(size, (size_t)SLOT_BYTES);
}

/* --- classes --- */

/* A slot is at least as large as the object, less than a step larger, and what it costs is charged: for every size. */
static void test_every_size_has_its_class(void **state)
{
	struct fixture *f = fixture_make(MIB(16));
	static char object[OBJECT_MAX];

	(void)state;
	for (size_t size = 1; size <= OBJECT_MAX; size++) {
		slot_t slot;
		size_t room;

		memset(object, (int)size, size);
		assert_int_equal(compressed_put(&f->store, object, size, &slot), 0);
		room = compressed_room(&f->store, slot);
		assert_in_range(room, size, size + SLOT_BYTES - 1);
		assert_int_equal(room, class_bytes_of(size));
		assert_int_equal((uintptr_t)compressed_object(&f->store, slot) % SLOT_BYTES, 0);
		assert_memory_equal(compressed_object(&f->store, slot), object, size);
		assert_int_equal(load_relaxed(&f->store.class_bytes), room);
		assert_int_equal(load_relaxed(&f->store.class_bytes), room);
		compressed_free(&f->store, slot);
		assert_int_equal(load_relaxed(&f->store.class_bytes), 0);
		assert_int_equal(frames_used(f->pool), 0);
	}
	fixture_end(f);
}

/* A full span of any class wastes at most 6 % of its frames. */
static void test_full_spans_waste_little(void **state)
{
	struct fixture *f = fixture_make(MIB(16));
	static char object[OBJECT_MAX];

	(void)state;
	for (size_t size = SLOT_BYTES; size <= ALIGN_UP(OBJECT_MAX, SLOT_BYTES);
	     size += SLOT_BYTES) {
		slot_t slots[2 * SPAN_SLOTS_MAX];
		unsigned count = 0;
		uint64_t one;

		assert_int_equal(compressed_put(&f->store, object, MIN(size, (size_t)OBJECT_MAX),
						&slots[count++]),
				 0);
		one = load_relaxed(&f->store.span_bytes);
		assert_in_range(one, PAGE_SIZE, PAGE_SIZE << SPAN_ORDER_MAX);
		assert_int_equal(one, frames_used(f->pool) << PAGE_SHIFT);
		/* Until it needs a second span. */
		while (load_relaxed(&f->store.span_bytes) == one) {
			assert_in_range(compressed_slack(&f->store), 0, one);
			assert_in_range(count, 1, SPAN_SLOTS_MAX);
			assert_int_equal(compressed_put(&f->store, object,
							MIN(size, (size_t)OBJECT_MAX),
							&slots[count++]),
					 0);
		}
		assert_true(one - (count - 1) * size <= one * 6 / 100);
		while (count)
			compressed_free(&f->store, slots[--count]);
		assert_int_equal(load_relaxed(&f->store.span_bytes), 0);
	}
	fixture_end(f);
}

/* --- an oracle --- */

struct oracle {
	struct fixture *f;
	struct entry entry[OBJECTS];
	uint64_t live, bytes, seed;
};

static void oracle_counts(struct oracle *o)
{
	struct compressed *store = &o->f->store;
	uint64_t spans = load_relaxed(&store->span_bytes);

	assert_int_equal(load_relaxed(&store->objects), o->live);
	assert_int_equal(load_relaxed(&store->class_bytes), o->bytes);
	assert_int_equal(load_relaxed(&o->f->store.class_bytes), o->bytes);
	assert_int_equal(spans, frames_used(o->f->pool) << PAGE_SHIFT);
	assert_int_equal(compressed_slack(store), spans - o->bytes);
}

static void oracle_put(struct oracle *o, page_no_t page)
{
	size_t size = size_random(&o->seed);

	assert_int_equal(
		entry_put(&o->f->store, &o->entry[page], page, size, random_next(&o->seed)), 0);
	o->live++;
	o->bytes += class_bytes_of(size);
}

static void oracle_free(struct oracle *o, page_no_t page)
{
	struct entry *e = &o->entry[page];

	assert_true(entry_intact(&o->f->store, e, page));
	compressed_free(&o->f->store, e->slot);
	o->live--;
	o->bytes -= class_bytes_of(e->size);
	e->size = 0;
}

/* Is the frame a part of something that is allocated? */
static bool frame_is_used(struct weir_pool *pool, weir_pfn_t pfn)
{
	struct weir_frame_info info;

	for (unsigned order = 0; order <= WEIR_POOL_ORDER_MAX; order++) {
		assert_int_equal(weir_pool_frame_read(pool, pfn & ~((1u << order) - 1), &info), 0);
		if (info.state == WEIR_FRAME_ALLOCATED && info.order >= order)
			return true;
	}
	return false;
}

/* Every object whole; no two slots share a unit; all of them in frames that the pool has handed out. */
static void oracle_compare(struct oracle *o)
{
	const size_t units = (size_t)o->f->store.frames << (PAGE_SHIFT - SLOT_SHIFT);
	char *taken = calloc(1, units);

	for (page_no_t page = 0; page < OBJECTS; page++) {
		const struct entry *e = &o->entry[page];
		weir_pfn_t first, last;

		if (!e->size)
			continue;
		assert_true(entry_intact(&o->f->store, e, page));
		for (size_t u = 0; u < class_bytes_of(e->size) >> SLOT_SHIFT; u++) {
			assert_true(e->slot + u < units);
			assert_false(taken[e->slot + u]);
			taken[e->slot + u] = 1;
		}
		first = e->slot >> (PAGE_SHIFT - SLOT_SHIFT);
		last = (weir_pfn_t)((e->slot + (class_bytes_of(e->size) >> SLOT_SHIFT) - 1) >>
				    (PAGE_SHIFT - SLOT_SHIFT));
		for (weir_pfn_t pfn = first; pfn <= last; pfn++)
			assert_true(frame_is_used(o->f->pool, pfn));
	}
	free(taken);
	oracle_counts(o);
	assert_int_equal(compressed_validate(&o->f->store), 0);
}

static struct oracle *oracle_make(size_t pool_bytes)
{
	static struct oracle o;

	memset(&o, 0, sizeof(o));
	o.f = fixture_make(pool_bytes);
	o.seed = test_seed();
	return &o;
}

/* Frees what is left: then everything is as it was at the start. */
static void oracle_end(struct oracle *o)
{
	for (page_no_t page = 0; page < OBJECTS; page++) {
		if (o->entry[page].size)
			oracle_free(o, page);
	}
	oracle_counts(o);
	assert_int_equal(frames_used(o->f->pool), 0);
	assert_int_equal(load_relaxed(&o->f->store.class_bytes), 0);
	fixture_end(o->f);
}

static void test_random_objects_against_an_oracle(void **state)
{
	struct oracle *o = oracle_make(MIB(64));

	(void)state;
	for (unsigned step = 0; step < 30000; step++) {
		page_no_t page = random_below(&o->seed, step / 5000 % 2 ? OBJECTS / 8 : OBJECTS);

		if (o->entry[page].size)
			oracle_free(o, page);
		else
			oracle_put(o, page);
		if (step % 100 == 0)
			oracle_counts(o);
		if (step % 3000 == 0)
			oracle_compare(o);
	}
	oracle_compare(o);
	oracle_end(o);
}

/* --- refusals --- */

/* No frames: -ENOMEM, and not one count, charge or object is other than before; a freed slot is enough to go on. */
static void test_out_of_frames_changes_nothing(void **state)
{
	struct oracle *o = oracle_make(MIB(4));
	unsigned failed = 0;

	(void)state;
	for (page_no_t page = 0; page < OBJECTS; page++) {
		struct entry *e = &o->entry[page];
		size_t size = size_random(&o->seed);
		int err = entry_put(&o->f->store, e, page, size, random_next(&o->seed));

		assert_true(err == 0 || err == -ENOMEM);
		if (err) {
			failed++;
		} else {
			o->live++;
			o->bytes += class_bytes_of(size);
		}
		oracle_counts(o);
	}
	assert_true(failed > 1200);
	oracle_compare(o);
	/* One out, one of the same size in. */
	for (page_no_t page = 0; page < OBJECTS; page++) {
		size_t size = o->entry[page].size;

		if (!size)
			continue;
		oracle_free(o, page);
		assert_int_equal(entry_put(&o->f->store, &o->entry[page], page, size, 77), 0);
		o->live++;
		o->bytes += class_bytes_of(size);
	}
	oracle_compare(o);
	oracle_end(o);
}

enum misuse { FREE_TWICE, FREE_TWICE_SHARED, FREE_LAST_TWICE, PUT_TOO_MUCH };

static void misuse(void *arg)
{
	struct fixture *f = fixture_make(MIB(4));
	static char object[OBJECT_MAX + 64];
	slot_t slot[3];

	for (unsigned i = 0; i < 3; i++)
		child_check(compressed_put(&f->store, object, 100, &slot[i]) == 0);
	switch (*(enum misuse *)arg) {
	case FREE_TWICE_SHARED:
		compressed_free(&f->store, slot[0]);
		compressed_free(&f->store, slot[2]);
		compressed_free(&f->store, slot[0]);
		break;
	case FREE_LAST_TWICE: /* the span is gone */
		compressed_free(&f->store, slot[0]);
		compressed_free(&f->store, slot[1]);
		compressed_free(&f->store, slot[2]);
		compressed_free(&f->store, slot[2]);
		break;
	case PUT_TOO_MUCH:
		(void)!compressed_put(&f->store, object, CLASSES * SLOT_BYTES + 1, &slot[0]);
		break;
	default:
		compressed_free(&f->store, slot[1]);
		compressed_free(&f->store, slot[1]);
		break;
	}
}

static void test_misuse_panics(void **state)
{
	enum misuse cases[] = {FREE_TWICE, FREE_TWICE_SHARED, FREE_LAST_TWICE};
	enum misuse too_much = PUT_TOO_MUCH;
	struct child child;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		run_child(&child, misuse, &cases[i]);
		assert_panicked(&child);
		assert_says(&child, "is freed twice");
	}
	run_child(&child, misuse, &too_much);
	if (child.status == 0)
		fail_msg("an object larger than every class is taken");
}

/* --- compaction --- */

struct mover {
	struct oracle *o;
	unsigned asked, moved, decline_one_in, free_one_in;
};

/* As reclaim does it: looks whether the object is still that page's, then puts and frees. */
static void relocate(void *data, page_no_t page, slot_t slot)
{
	struct mover *m = data;
	struct entry *e;
	slot_t to;

	m->asked++;
	assert_true(page < OBJECTS);
	e = &m->o->entry[page];
	assert_true(e->size && e->slot == slot);
	if (m->decline_one_in && random_chance(&m->o->seed, m->decline_one_in))
		return;
	if (m->free_one_in && random_chance(&m->o->seed, m->free_one_in)) {
		oracle_free(m->o, page);
		return;
	}
	if (compressed_put(&m->o->f->store, compressed_object(&m->o->f->store, slot), e->size, &to))
		return;
	compressed_free(&m->o->f->store, slot);
	e->slot = to;
	m->moved++;
}

/* Fills the store and leaves one object in keep_one_in. */
static void oracle_thin_out(struct oracle *o, unsigned keep_one_in)
{
	for (page_no_t page = 0; page < OBJECTS; page++) {
		if (!o->entry[page].size)
			oracle_put(o, page);
	}
	for (page_no_t page = 0; page < OBJECTS; page++) {
		if (!random_chance(&o->seed, keep_one_in))
			oracle_free(o, page);
	}
}

/* Nothing can be won any more: no class has as many free slots as a span of it holds. */
static void nothing_left_to_win(struct compressed *store)
{
	for (unsigned i = 0; i < CLASSES; i++) {
		const struct size_class *class = &store->class[i];

		assert_true((uint64_t)class->spans * class->per_span - class->used <
			    class->per_span);
	}
}

/* Contents stay, frames come back, as many as it says, until nothing can be won. */
static void test_compaction_keeps_contents_and_frees_frames(void **state)
{
	struct oracle *o = oracle_make(MIB(64));
	struct mover m = {.o = o};

	(void)state;
	for (unsigned round = 0; round < 4; round++) {
		unsigned before, freed;
		uint64_t slack;

		oracle_thin_out(o, 2 + 2 * round);
		before = frames_used(o->f->pool);
		slack = compressed_slack(&o->f->store);
		m.moved = m.asked = 0;
		freed = compressed_compact(&o->f->store, 0, relocate, &m);
		assert_true(freed > 0);
		assert_int_equal(m.asked, m.moved);
		assert_int_equal(before - frames_used(o->f->pool), freed);
		assert_int_equal(slack - compressed_slack(&o->f->store),
				 (uint64_t)freed << PAGE_SHIFT);
		assert_int_equal(load_relaxed(&o->f->store.draining), 0);
		nothing_left_to_win(&o->f->store);
		oracle_compare(o);
		/* And again: nothing to do. */
		m.asked = 0;
		assert_int_equal(compressed_compact(&o->f->store, 0, relocate, &m), 0);
		assert_int_equal(m.asked, 0);
	}
	oracle_end(o);
}

/* It stops at the slack that was asked for, and asks for nothing where there is no more than that. */
static void test_compaction_stops_at_the_slack(void **state)
{
	struct oracle *o = oracle_make(MIB(64));
	struct mover m = {.o = o};
	uint64_t slack, goal;

	(void)state;
	oracle_thin_out(o, 4);
	slack = compressed_slack(&o->f->store);
	assert_int_equal(compressed_compact(&o->f->store, slack, relocate, &m), 0);
	assert_int_equal(m.asked, 0);
	goal = slack / 2;
	assert_true(compressed_compact(&o->f->store, goal, relocate, &m) > 0);
	assert_in_range(compressed_slack(&o->f->store), goal - (PAGE_SIZE << SPAN_ORDER_MAX), goal);
	oracle_compare(o);
	oracle_end(o);
}

/* Objects that cannot be moved, or are freed meanwhile: nothing is lost, nothing hangs, the store takes new ones. */
static void test_compaction_of_what_will_not_move(void **state)
{
	struct oracle *o = oracle_make(MIB(64));
	struct mover never = {.o = o, .decline_one_in = 1};
	struct mover some = {.o = o, .decline_one_in = 50, .free_one_in = 20};
	unsigned before;

	(void)state;
	oracle_thin_out(o, 4);
	before = frames_used(o->f->pool);
	assert_int_equal(compressed_compact(&o->f->store, 0, relocate, &never), 0);
	assert_true(never.asked > 0 && never.moved == 0);
	assert_int_equal(frames_used(o->f->pool), before);
	assert_int_equal(load_relaxed(&o->f->store.draining), 0);
	oracle_compare(o);
	for (unsigned round = 0; round < 10; round++) {
		(void)compressed_compact(&o->f->store, 0, relocate, &some);
		assert_int_equal(load_relaxed(&o->f->store.draining), 0);
		oracle_compare(o);
	}
	assert_true(frames_used(o->f->pool) < before);
	/* Spans that were given up on take new objects again: no class grows while it has room. */
	for (page_no_t page = 0; page < OBJECTS; page++) {
		size_t size = 1000;
		const struct size_class *class = &o->f->store.class[(size - 1) >> SLOT_SHIFT];
		uint32_t spans = class->spans;
		bool room = (uint64_t)spans * class->per_span > class->used;

		if (o->entry[page].size)
			continue;
		assert_int_equal(entry_put(&o->f->store, &o->entry[page], page, size, 5), 0);
		o->live++;
		o->bytes += class_bytes_of(size);
		assert_int_equal(class->spans, spans + !room);
	}
	oracle_compare(o);
	oracle_end(o);
}

/* With no frame to be had a move fails: everything stays. */
static void test_compaction_without_frames(void **state)
{
	struct oracle *o = oracle_make(MIB(8));
	struct mover m = {.o = o};
	unsigned taken = 0;

	(void)state;
	for (page_no_t page = 0; page < 300; page++)
		oracle_put(o, page);
	for (page_no_t page = 0; page < 300; page++) {
		if (!random_chance(&o->seed, 3))
			oracle_free(o, page);
	}
	while (weir_pool_alloc(o->f->pool, 0, 0, 0) >= 0)
		taken++;
	assert_true(taken > 0);
	(void)compressed_compact(&o->f->store, 0, relocate, &m);
	for (page_no_t page = 0; page < 300; page++) {
		if (o->entry[page].size)
			assert_true(entry_intact(&o->f->store, &o->entry[page], page));
	}
	assert_int_equal(compressed_validate(&o->f->store), 0);
	assert_int_equal(load_relaxed(&o->f->store.objects), o->live);
	compressed_destroy(&o->f->store);
	weir_pool_destroy(o->f->pool);
}

/* --- threads --- */

enum { WORKERS = 2, PAGES_EACH = 600, SHARED = WORKERS * PAGES_EACH, STEPS = 12000 };

/* As a page word: who has it busy may put, read and free. */
struct shared_entry {
	_Atomic bool busy;
	struct entry e;
};

struct crowd {
	struct fixture *f;
	struct shared_entry page[SHARED];
	uint64_t seed;
	_Atomic unsigned working, wrong, moved, freed;
};

static bool busy_try(struct shared_entry *p)
{
	bool was = false;

	/* Pairs with the release in busy_clear. */
	return cas_acquire(&p->busy, &was, true);
}

static void busy_clear(struct shared_entry *p)
{
	store_release(&p->busy, false);
}

static void relocate_shared(void *data, page_no_t page, slot_t slot)
{
	struct crowd *c = data;
	struct shared_entry *p = &c->page[page % SHARED];
	slot_t to;

	/* Of a slot that was just taken, and has not got its object yet: what stands there is anything. */
	if (page >= SHARED)
		return;
	if (!busy_try(p))
		return;
	if (p->e.size && p->e.slot == slot &&
	    compressed_put(&c->f->store, compressed_object(&c->f->store, slot), p->e.size, &to) ==
		    0) {
		compressed_free(&c->f->store, slot);
		p->e.slot = to;
		add_relaxed(&c->moved, 1);
	}
	busy_clear(p);
}

static void work_on(struct crowd *c, page_no_t page, uint64_t *seed, bool shrink)
{
	struct shared_entry *p = &c->page[page];

	/* Its holder may not be running. */
	while (!busy_try(p))
		sched_yield();
	if (p->e.size) {
		if (!entry_intact(&c->f->store, &p->e, page))
			add_relaxed(&c->wrong, 1);
		compressed_free(&c->f->store, p->e.slot);
		p->e.size = 0;
	} else if (!shrink) {
		/* A few classes, so that spans fill and empty. */
		size_t size = 200 + 700 * (size_t)random_below(seed, 4);

		if (entry_put(&c->f->store, &p->e, page, size, random_next(seed)))
			add_relaxed(&c->wrong, 1);
	}
	busy_clear(p);
}

static void work_or_compact(unsigned index, void *arg)
{
	struct crowd *c = arg;
	uint64_t seed = c->seed + index;

	if (index == WORKERS) {
		while (load_relaxed(&c->working))
			add_relaxed(&c->freed,
				    compressed_compact(&c->f->store, 0, relocate_shared, c));
		return;
	}
	/* Until there was something to see: the third thread may get little of the CPU. */
	for (unsigned step = 0;
	     step < STEPS || (step < 50 * STEPS && load_relaxed(&c->moved) < 100); step++)
		work_on(c, index * PAGES_EACH + random_below(&seed, PAGES_EACH), &seed,
			step / 1500 % 2);
	sub_relaxed(&c->working, 1);
}

/* Two put and free while a third compacts: every object is whole when it is freed, and the sums come out. */
static void test_compaction_beside_running_threads(void **state)
{
	static struct crowd c;
	uint64_t seed = 1;

	(void)state;
	memset(&c, 0, sizeof(c));
	c.f = fixture_make(MIB(16));
	c.seed = test_seed();
	c.working = WORKERS;
	run_threads(WORKERS + 1, work_or_compact, &c);
	assert_int_equal(load_relaxed(&c.wrong), 0);
	assert_true(load_relaxed(&c.moved) > 0);
	assert_true(load_relaxed(&c.freed) > 0);
	assert_int_equal(load_relaxed(&c.f->store.draining), 0);
	assert_int_equal(compressed_validate(&c.f->store), 0);
	for (page_no_t page = 0; page < SHARED; page++) {
		if (c.page[page].e.size)
			work_on(&c, page, &seed, true);
	}
	assert_int_equal(load_relaxed(&c.wrong), 0);
	assert_int_equal(load_relaxed(&c.f->store.objects), 0);
	assert_int_equal(frames_used(c.f->pool), 0);
	assert_int_equal(load_relaxed(&c.f->store.class_bytes), 0);
	fixture_end(c.f);
}

/* No malloc on these ways: under weir run it is the program's, and lives in a region. */
static void test_the_store_calls_no_malloc(void **state)
{
	struct oracle *o = oracle_make(MIB(16));
	struct mover m = {.o = o};
	unsigned long before = load_relaxed(&allocations);

	(void)state;
	if (!ALLOCATIONS_COUNTED)
		skip_because("a sanitizer has taken malloc");
	for (page_no_t page = 0; page < 1000; page++)
		oracle_put(o, page);
	for (page_no_t page = 0; page < 1000; page += 3)
		oracle_free(o, page);
	(void)compressed_compact(&o->f->store, 0, relocate, &m);
	assert_int_equal(compressed_validate(&o->f->store), 0);
	assert_int_equal(load_relaxed(&allocations), before);
	oracle_end(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_size_has_its_class),
		cmocka_unit_test(test_full_spans_waste_little),
		cmocka_unit_test(test_random_objects_against_an_oracle),
		cmocka_unit_test(test_out_of_frames_changes_nothing),
		cmocka_unit_test(test_misuse_panics),
		cmocka_unit_test(test_compaction_keeps_contents_and_frees_frames),
		cmocka_unit_test(test_compaction_stops_at_the_slack),
		cmocka_unit_test(test_compaction_of_what_will_not_move),
		cmocka_unit_test(test_compaction_without_frames),
		cmocka_unit_test(test_compaction_beside_running_threads),
		cmocka_unit_test(test_the_store_calls_no_malloc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
