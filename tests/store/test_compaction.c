/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compaction of the compressed store: every object stays what it is, and frames come back, also while some will not move, others
 * are freed, and threads put and free beside it.
 */
#include "object_oracle.h"

#include "../allocations.h"

#include <sched.h>

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
		cmocka_unit_test(test_compaction_keeps_contents_and_frees_frames),
		cmocka_unit_test(test_compaction_stops_at_the_slack),
		cmocka_unit_test(test_compaction_of_what_will_not_move),
		cmocka_unit_test(test_compaction_without_frames),
		cmocka_unit_test(test_compaction_beside_running_threads),
		cmocka_unit_test(test_the_store_calls_no_malloc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
