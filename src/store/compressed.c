/* SPDX-License-Identifier: BSD-2-Clause */
#include "store/compressed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "os/mem.h"

static size_t class_size(unsigned class)
{
	return (size_t)(class + 1) << SLOT_SHIFT;
}

/* The order that wastes least at the end of a span; of equals the smallest. */
static void class_init(struct size_class *class, unsigned index)
{
	size_t size = class_size(index);
	size_t best_waste = SIZE_MAX;

	lock_init(&class->lock, RANK_CLASS, "size class");
	for (unsigned order = 0; order <= SPAN_ORDER_MAX; order++) {
		size_t bytes = PAGE_SIZE << order;
		size_t slots = bytes / size;
		/* per mille of the span */
		size_t waste;

		if (slots < 1 || slots > SPAN_SLOTS_MAX)
			continue;
		waste = (bytes - slots * size) * 1000 / bytes;
		if (waste < best_waste) {
			best_waste = waste;
			class->order = (uint8_t)order;
			class->per_span = (uint8_t)slots;
		}
	}
	assert_always(class->per_span);
}

static size_t table_bytes(const struct compressed *store)
{
	return ALIGN_UP((size_t)store->frames * sizeof(*store->span), PAGE_SIZE);
}

/* The table of a block that has gone goes, too: whole pages of it. */
static int block_event(void *data, enum weir_pool_event event, weir_pfn_t start, weir_pfn_t end)
{
	struct compressed *store = data;
	const size_t from = ALIGN_UP(start * sizeof(*store->span), PAGE_SIZE);
	const size_t to = ALIGN_DOWN(end * sizeof(*store->span), PAGE_SIZE);

	if (event == WEIR_OFFLINE && end <= store->frames && from < to)
		(void)mem_discard((char *)store->span + from, to - from);
	return 0;
}

static int span_migrate(void *data, weir_pfn_t from, unsigned order, uint64_t private_word,
			weir_pfn_t to);
static void span_describe(void *data, weir_pfn_t pfn, uint64_t private_word, char *text,
			  size_t room);

int compressed_init(struct compressed *store, struct weir_pool *pool)
{
	const struct weir_pool_owner owner = {.size = sizeof(owner),
					      .name = "compressed store",
					      .migrate = span_migrate,
					      .describe = span_describe,
					      .data = store,
					      .flags = WEIR_OWNER_OWN_ROOM};
	int id;

	memset(store, 0, sizeof(*store));
	store->pool = pool;
	store->base = weir_pool_base(pool);
	store->zone = store->base ? WEIR_ZONE_LOW : WEIR_ZONE_HIGH;
	store->frames = weir_pool_end(pool, store->zone);
	for (unsigned i = 0; i < CLASSES; i++)
		class_init(&store->class[i], i);
	id = weir_pool_owner_add(pool, &owner);
	if (id < 0)
		return id;
	store->owner = (unsigned)id;
	store->span = mem_alloc(table_bytes(store));
	if (!store->span)
		return -ENOMEM;
	store->listener = (struct weir_pool_listener){.fn = block_event, .data = store};
	return weir_pool_listen(pool, &store->listener);
}

void compressed_destroy(struct compressed *store)
{
	if (store->span) {
		(void)weir_pool_unlisten(store->pool, &store->listener);
		mem_release(store->span, table_bytes(store));
	}
	memset(store, 0, sizeof(*store));
}

void compressed_kmap_set(struct compressed *store, struct weir_kmap *kmap)
{
	store->kmap = kmap;
}

void compressed_relocate_set(struct compressed *store, relocate_fn relocate, void *data)
{
	store->relocate = relocate;
	store->relocate_data = data;
}

static void list_add(struct compressed *store, struct size_class *class, struct span *span)
{
	span->listed = true;
	span->prev = 0;
	span->next = class->partial;
	if (span->next)
		store->span[span->next - 1].prev = span->head + 1;
	class->partial = span->head + 1;
}

static void list_remove(struct compressed *store, struct size_class *class, struct span *span)
{
	span->listed = false;
	if (span->prev)
		store->span[span->prev - 1].next = span->next;
	else
		class->partial = span->next;
	if (span->next)
		store->span[span->next - 1].prev = span->prev;
}

static uint64_t all_slots(unsigned count)
{
	return count == 64 ? ~0ull : (1ull << count) - 1;
}

static unsigned span_class(const struct span *span)
{
	return load_relaxed(&span->kind) - 1u;
}

/* Never waits: where blocks are just coming or going there is no frame. */
static int64_t frames_get(struct compressed *store, unsigned order)
{
	const unsigned flags =
		WEIR_POOL_MOVABLE | (store->zone == WEIR_ZONE_HIGH ? WEIR_POOL_HIGH : 0);
	int64_t pfn = weir_pool_alloc(store->pool, order, flags, store->owner);

	if (pfn == -ENOMEM && weir_pool_grow(store->pool, store->zone) >= 0)
		pfn = weir_pool_alloc(store->pool, order, flags, store->owner);
	return pfn;
}

/* A new span with the class locked; RANK_CLASS < RANK_POOL. */
static int span_new(struct compressed *store, unsigned index)
{
	struct size_class *class = &store->class[index];
	int64_t pfn = frames_get(store, class->order);
	struct span *span;

	if (pfn < 0)
		return (int)pfn;
	for (weir_pfn_t i = 0; i < 1u << class->order; i++)
		store->span[pfn + i].head = (weir_pfn_t)pfn;
	span = &store->span[pfn];
	store_relaxed(&span->kind, (uint8_t)(index + 1));
	span->used = 0;
	span->free = all_slots(class->per_span);
	list_add(store, class, span);
	class->spans++;
	add_relaxed(&store->span_bytes, PAGE_SIZE << class->order);
	return 0;
}

static void span_release(struct compressed *store, struct size_class *class, struct span *span)
{
	if (span->listed)
		list_remove(store, class, span);
	if (load_relaxed(&store->draining) == span->head + 1)
		store_relaxed(&store->draining, 0);
	class->spans--;
	sub_relaxed(&store->span_bytes, PAGE_SIZE << class->order);
	store_relaxed(&span->kind, 0);
	assert_always(!weir_pool_free(store->pool, span->head, class->order));
}

/* The first span with room whose block stays, to the front; such that leave are few, and only while they do. */
static bool partial_find(struct compressed *store, struct size_class *class)
{
	enum { MOST = 64 };
	weir_pfn_t at = class->partial;

	for (unsigned looked = 0; at && looked < MOST; looked++) {
		struct span *span = &store->span[at - 1];

		if (likely(!weir_pool_isolated(store->pool, span->head))) {
			if (at != class->partial) {
				list_remove(store, class, span);
				list_add(store, class, span);
			}
			return true;
		}
		at = span->next;
	}
	return false;
}

/* A slot of its size, with nothing in it. Compaction may ask for it to be moved before anybody knows of it; relocate
 * declines what is no page's. */
static int slot_take(struct compressed *store, size_t size, slot_t *slot)
{
	unsigned index = (unsigned)((size - 1) >> SLOT_SHIFT);
	struct size_class *class = &store->class[index];
	struct span *span;
	unsigned at;
	int err = 0;

	assert_always(size && index < CLASSES);
	lock_acquire(&class->lock);
	if (!partial_find(store, class))
		err = span_new(store, index);
	if (err) {
		lock_release(&class->lock);
		return err;
	}
	span = &store->span[class->partial - 1];
	at = (unsigned)__builtin_ctzll(span->free);
	span->free &= span->free - 1;
	span->used++;
	class->used++;
	if (!span->free)
		list_remove(store, class, span);
	*slot = (slot_t)(((size_t)span->head << (PAGE_SHIFT - SLOT_SHIFT)) + at * (index + 1));
	lock_release(&class->lock);
	add_relaxed(&store->objects, 1);
	add_relaxed(&store->class_bytes, class_size(index));
	return 0;
}

int compressed_put(struct compressed *store, const void *object, size_t size, slot_t *slot)
{
	int err = slot_take(store, size, slot);
	struct object *to;

	if (err)
		return err;
	to = compressed_object(store, *slot);
	if (!to) {
		compressed_free(store, *slot);
		return -ENOMEM;
	}
	memcpy(to, object, size);
	compressed_object_end(store, to);
	return 0;
}

static weir_pfn_t slot_pfn(slot_t slot)
{
	return slot >> (PAGE_SHIFT - SLOT_SHIFT);
}

/* Both at once: who held one and waited for the other could wait for ever. */
int compressed_copy(struct compressed *store, slot_t from, slot_t *to)
{
	const size_t in_frame = PAGE_MASK >> SLOT_SHIFT, size = compressed_room(store, from);
	void *addr[2];
	int err = slot_take(store, size, to);

	if (err)
		return err;
	if (store->kmap) {
		err = weir_kmap_pair_fault(store->kmap,
					   (weir_pfn_t[]){slot_pfn(from), slot_pfn(*to)}, addr);
		if (err) {
			compressed_free(store, *to);
			return -ENOMEM;
		}
	} else {
		addr[0] = store->base + ((size_t)slot_pfn(from) << PAGE_SHIFT);
		addr[1] = store->base + ((size_t)slot_pfn(*to) << PAGE_SHIFT);
	}
	memcpy((char *)addr[1] + ((*to & in_frame) << SLOT_SHIFT),
	       (char *)addr[0] + ((from & in_frame) << SLOT_SHIFT), size);
	if (store->kmap) {
		(void)weir_kunmap(store->kmap, addr[0]);
		(void)weir_kunmap(store->kmap, addr[1]);
	}
	return 0;
}

static struct span *span_of(const struct compressed *store, slot_t slot)
{
	return &store->span[store->span[slot_pfn(slot)].head];
}

void compressed_free(struct compressed *store, slot_t slot)
{
	struct span *span = span_of(store, slot);
	const unsigned kind = load_relaxed(&span->kind), index = kind - 1;
	struct size_class *class;
	unsigned at;

	if (!kind)
		panic("compressed store: slot %u is freed twice", slot);
	class = &store->class[index];
	at = (slot - (span->head << (PAGE_SHIFT - SLOT_SHIFT))) / kind;
	lock_acquire(&class->lock);
	if (at >= class->per_span || (span->free >> at & 1))
		panic("compressed store: slot %u is freed twice", slot);
	span->free |= 1ull << at;
	span->used--;
	class->used--;
	if (!span->used)
		span_release(store, class, span);
	else if (!span->listed && load_relaxed(&store->draining) != span->head + 1)
		list_add(store, class, span);
	lock_release(&class->lock);
	sub_relaxed(&store->objects, 1);
	sub_relaxed(&store->class_bytes, class_size(index));
}

struct object *compressed_object(const struct compressed *store, slot_t slot)
{
	const size_t in_frame = PAGE_MASK >> SLOT_SHIFT;
	void *frame;

	if (likely(!store->kmap))
		return (struct object *)(store->base + ((size_t)slot << SLOT_SHIFT));
	if (store->trace)
		store->trace(store->trace_data, slot_pfn(slot));
	if (weir_kmap_fault(store->kmap, slot_pfn(slot), &frame))
		return NULL;
	return (struct object *)((char *)frame + ((slot & in_frame) << SLOT_SHIFT));
}

void compressed_object_end(const struct compressed *store, const struct object *object)
{
	if (store->kmap)
		(void)weir_kunmap(store->kmap, object);
}

/* The page of an object that its holder may be writing, freeing or moving just now: a guess, for who asks the page's word. */
NO_TSAN static page_no_t page_guess(const struct compressed *store, slot_t slot)
{
	const struct object *object = compressed_object(store, slot);
	page_no_t page = 0;

	if (object) {
		page = object_page_racing(object);
		compressed_object_end(store, object);
	}
	return page;
}

size_t compressed_room(const struct compressed *store, slot_t slot)
{
	return class_size(span_class(span_of(store, slot)));
}

uint64_t compressed_slack(struct compressed *store)
{
	uint64_t spans = load_relaxed(&store->span_bytes), used = load_relaxed(&store->class_bytes);

	return spans > used ? spans - used : 0;
}

/* The sparsest span of the class, taken out of use so that nothing new goes in. NULL: moving would free nothing. */
static struct span *span_pick(struct compressed *store, struct size_class *class)
{
	struct span *best = NULL;

	lock_acquire(&class->lock);
	if ((uint64_t)class->spans * class->per_span - class->used >= class->per_span) {
		unsigned looked = 0;

		for (weir_pfn_t at = class->partial; at && looked < 64; looked++) {
			struct span *span = &store->span[at - 1];

			if (!best || span->used < best->used)
				best = span;
			at = span->next;
		}
	}
	if (best) {
		list_remove(store, class, best);
		store_relaxed(&store->draining, best->head + 1);
	}
	lock_release(&class->lock);
	return best;
}

/* Has every object of the span moved? Returns frames freed. */
static unsigned span_drain(struct compressed *store, struct size_class *class, struct span *span,
			   relocate_fn relocate, void *data)
{
	const unsigned units = span_class(span) + 1u;
	const slot_t base = span->head << (PAGE_SHIFT - SLOT_SHIFT);
	bool emptied;

	lock_acquire(&class->lock);
	for (unsigned at = 0; at < class->per_span && load_relaxed(&store->draining); at++) {
		if (span->free >> at & 1)
			continue;
		/* Once the lock is let go the slot may be freed, and get another object: relocate compares with
		 * the page's word under its busy bit and decides. */
		lock_release(&class->lock);
		relocate(data, page_guess(store, base + at * units), base + at * units);
		lock_acquire(&class->lock);
	}
	emptied = !load_relaxed(&store->draining);
	if (!emptied) {
		store_relaxed(&store->draining, 0);
		if (span->free)
			list_add(store, class, span);
	}
	lock_release(&class->lock);
	return emptied ? 1u << class->order : 0;
}

unsigned compressed_compact(struct compressed *store, uint64_t slack, relocate_fn relocate,
			    void *data)
{
	unsigned frames = 0;

	for (unsigned index = 0; index < CLASSES; index++) {
		struct size_class *class = &store->class[index];

		while (compressed_slack(store) > slack) {
			struct span *span = span_pick(store, class);
			unsigned won = span ? span_drain(store, class, span, relocate, data) : 0;

			if (!won)
				break;
			frames += won;
		}
	}
	return frames;
}

/* --- for the pool --- */

/* The pool's frames are isolated, so no other span can start there meanwhile. */
static int span_migrate(void *data, weir_pfn_t from, unsigned order, uint64_t private_word,
			weir_pfn_t to)
{
	struct compressed *store = data;
	struct span *span = &store->span[from];
	const unsigned kind = load_relaxed(&span->kind);
	struct size_class *class;

	(void)order;
	(void)private_word;
	(void)to;
	/* Just got and not yet a span, or just freed: either is over soon. */
	if (!kind || !store->relocate)
		return -EAGAIN;
	class = &store->class[kind - 1];
	lock_acquire(&class->lock);
	if (load_relaxed(&span->kind) != kind) {
		lock_release(&class->lock);
		return -EAGAIN;
	}
	if (span->listed)
		list_remove(store, class, span);
	store_relaxed(&store->draining, from + 1);
	lock_release(&class->lock);
	return span_drain(store, class, span, store->relocate, store->relocate_data) ? -ENOENT
										     : -EAGAIN;
}

static void span_describe(void *data, weir_pfn_t pfn, uint64_t private_word, char *text,
			  size_t room)
{
	struct compressed *store = data;
	const unsigned kind = load_relaxed(&store->span[pfn].kind);

	(void)private_word;
	if (kind)
		snprintf(text, room, "objects of up to %zu bytes", class_size(kind - 1));
	else
		snprintf(text, room, "no objects yet");
}

int compressed_validate(struct compressed *store)
{
	uint64_t objects = 0, bytes = 0, spans = 0;
	int err = 0;

	for (unsigned index = 0; index < CLASSES; index++) {
		struct size_class *class = &store->class[index];
		weir_pfn_t prev = 0;

		lock_acquire(&class->lock);
		objects += class->used;
		bytes += class->used * class_size(index);
		spans += (uint64_t)class->spans * (PAGE_SIZE << class->order);
		for (weir_pfn_t at = class->partial; at; at = store->span[at - 1].next) {
			struct span *span = &store->span[at - 1];

			if (!span->free || !span->listed || span->prev != prev ||
			    span_class(span) != index ||
			    span->used + (unsigned)__builtin_popcountll(span->free) !=
				    class->per_span)
				err = -EINVAL;
			prev = at;
		}
		lock_release(&class->lock);
	}
	if (objects != load_relaxed(&store->objects) ||
	    bytes != load_relaxed(&store->class_bytes) || spans != load_relaxed(&store->span_bytes))
		err = -EINVAL;
	return err;
}

void compressed_after_fork(struct compressed *store)
{
	for (unsigned i = 0; i < CLASSES; i++)
		lock_init(&store->class[i].lock, RANK_CLASS, "size class");
}
