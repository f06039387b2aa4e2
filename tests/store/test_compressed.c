/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The compressed store: objects stay what they are and where they are until they are freed, no two share a byte, and what is
 * charged is what is held.
 */
#include "object_oracle.h"

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

/* --- objects --- */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_size_has_its_class),
		cmocka_unit_test(test_full_spans_waste_little),
		cmocka_unit_test(test_random_objects_against_an_oracle),
		cmocka_unit_test(test_out_of_frames_changes_nothing),
		cmocka_unit_test(test_misuse_panics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
