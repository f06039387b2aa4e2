/* SPDX-License-Identifier: BSD-2-Clause */
/* The tree and its values. Charging is in charge.c. */
#include "control/container.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "control/stock.h"
#include "os/mem.h"
#include "os/thread.h"

#define CONTAINER_BYTES ALIGN_UP(sizeof(struct weir_container), PAGE_SIZE)

/* --- marks --- */

void container_marks(struct weir_container *c)
{
	const uint64_t max = load_relaxed(&c->max);
	uint64_t gap = MAX(MIN(max / 16, MIB(8)), MIN(max / 2, 16 * PAGE_SIZE));
	uint64_t limit = c->parent ? MIN(max, load_relaxed(&c->parent->limit)) : max;
	uint64_t batch = MIN((uint64_t)STOCK_BATCH, limit / 512);

	store_relaxed(&c->limit, limit);
	store_relaxed(&c->mark,
		      MIN(load_relaxed(&c->high), max == WEIR_NO_LIMIT ? max : max - gap));
	/* Where a batch is less than two pages a stock is not worth its place. */
	store_relaxed(&c->batch, batch < 2 * PAGE_SIZE ? 0 : ALIGN_DOWN(batch, PAGE_SIZE));
}

static void value_store(_Atomic uint64_t *value, struct weir_container *c, uint64_t bytes)
{
	struct tree *tree = c->tree;

	lock_acquire(&tree->lock);
	store_relaxed(value, bytes);
	for (struct weir_container *d = c; d; d = container_next(c, d))
		container_marks(d);
	lock_release(&tree->lock);
}

void container_set_max(struct weir_container *c, uint64_t max)
{
	value_store(&c->max, c, max);
}

/* --- the tree --- */

static struct weir_container *container_new(struct tree *tree, const char *name)
{
	struct weir_container *c = mem_alloc(CONTAINER_BYTES);

	if (!c)
		return NULL;
	c->tree = tree;
	memcpy(c->name, name, strnlen(name, WEIR_NAME_MAX));
	store_relaxed(&c->max, WEIR_NO_LIMIT);
	store_relaxed(&c->high, WEIR_NO_LIMIT);
	store_relaxed(&c->swap_max, WEIR_NO_LIMIT);
	pressure_init(&c->pressure, now_ns());
	return c;
}

int tree_init(struct tree *tree, uint64_t max)
{
	memset(tree, 0, sizeof(*tree));
	lock_init(&tree->shape, RANK_TREE, "tree");
	lock_init(&tree->lock, RANK_CONTAINER, "containers");
	tree->root = container_new(tree, "");
	if (!tree->root)
		return -ENOMEM;
	store_relaxed(&tree->count, 1);
	container_set_max(tree->root, max);
	return 0;
}

struct weir_container *container_next(const struct weir_container *root, struct weir_container *c)
{
	if (c->child)
		return c->child;
	while (c != root && !c->next)
		c = c->parent;
	return c == root ? NULL : c->next;
}

void tree_destroy(struct tree *tree)
{
	struct weir_container *c = tree->root;

	if (!c)
		return;
	(void)stocks_drain(tree, NULL, true);
	/* Leaves first. */
	while (c) {
		struct weir_container *parent = c->parent;

		if (c->child) {
			c = c->child;
			continue;
		}
		if (parent)
			parent->child = c->next;
		mem_release(c, CONTAINER_BYTES);
		c = parent;
	}
	tree->root = NULL;
}

static int name_check(const char *name)
{
	size_t len = strnlen(name, WEIR_NAME_MAX + 1);

	if (len > WEIR_NAME_MAX)
		return -ENAMETOOLONG;
	if (!len || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (name[i] == '/' || (unsigned char)name[i] < ' ' || name[i] == 0x7f)
			return -EINVAL;
	}
	return 0;
}

static struct weir_container *child_named(struct weir_container *parent, const char *name,
					  size_t len)
{
	for (struct weir_container *c = parent->child; c; c = c->next) {
		if (!strncmp(c->name, name, len) && !c->name[len])
			return c;
	}
	return NULL;
}

/* Levels below c, itself included. */
static unsigned height(struct weir_container *c)
{
	unsigned most = c->depth;

	for (struct weir_container *d = c; d; d = container_next(c, d))
		most = MAX(most, d->depth);
	return most - c->depth + 1;
}

/* The lock is held. */
static int link_check(struct weir_container *c, const struct weir_container *parent)
{
	if (child_named((struct weir_container *)parent, c->name, strlen(c->name)))
		return -EEXIST;
	return parent->depth + height(c) > WEIR_DEPTH_MAX ? -ENOSPC : 0;
}

static void tree_link(struct weir_container *c, struct weir_container *parent)
{
	c->parent = parent;
	c->next = parent->child;
	parent->child = c;
	for (struct weir_container *d = c; d; d = container_next(c, d)) {
		d->depth = d->parent->depth + 1;
		container_marks(d);
	}
}

static void tree_unlink(struct weir_container *c)
{
	struct weir_container **at = &c->parent->child;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->next = NULL;
}

int weir_container_create(struct weir_container *parent, const char *name,
			  struct weir_container **out)
{
	struct tree *tree = parent->tree;
	int err = name_check(name);
	struct weir_container *c;
	THREAD_SIGNALS_BLOCKED;

	if (err)
		return err;
	c = container_new(tree, name);
	if (!c)
		return -ENOMEM;
	lock_acquire(&tree->shape);
	lock_acquire(&tree->lock);
	err = link_check(c, parent);
	if (!err) {
		tree_link(c, parent);
		add_relaxed(&tree->count, 1);
	}
	lock_release(&tree->lock);
	lock_release(&tree->shape);
	if (err)
		mem_release(c, CONTAINER_BYTES);
	else
		*out = c;
	return err;
}

static struct weir_container *find(struct weir_container *parent, const char *path, bool pin)
{
	struct weir_container *c = parent;
	/* The path may lie in a region, and a fault takes the lock: nothing of it is touched under that. */
	char copy[WEIR_DEPTH_MAX * (WEIR_NAME_MAX + 1)];
	const char *at = copy;
	const size_t bytes = strnlen(path, sizeof(copy));
	THREAD_SIGNALS_BLOCKED;

	if (bytes == sizeof(copy))
		return NULL;
	memcpy(copy, path, bytes);
	copy[bytes] = '\0';
	lock_acquire(&parent->tree->lock);
	while (c && *at) {
		size_t len = strcspn(at, "/");

		if (len)
			c = child_named(c, at, len);
		at += len;
		at += *at == '/';
	}
	if (c && pin)
		add_relaxed(&c->pins, 1);
	lock_release(&parent->tree->lock);
	return c;
}

struct weir_container *weir_container_find(struct weir_container *parent, const char *path)
{
	return find(parent, path, false);
}

struct weir_container *container_pin(struct weir_container *parent, const char *path)
{
	return find(parent, path, true);
}

void container_unpin(struct weir_container *c)
{
	/* Pairs with the acquire in pins_wait. From here on c may be gone: a wake-up of what is no futex does nothing. */
	sub_acq_rel(&c->pins, 1);
	(void)futex_wake(&c->pins, 1u << 30);
}

/* c is in no list any more, so nobody new comes. */
static void pins_wait(struct weir_container *c)
{
	uint32_t pins;

	/* Pairs with the release in container_unpin. */
	while ((pins = load_acquire(&c->pins)))
		(void)futex_wait(&c->pins, pins, 0);
}

int container_path(const struct weir_container *container, char *path, size_t room)
{
	size_t len = 0, end;

	for (const struct weir_container *c = container; c->parent; c = c->parent)
		len += strlen(c->name) + 1;
	if (len > room || !room)
		return -ENAMETOOLONG;
	/* From the end to the front; each but the last is followed by a slash. */
	end = len ? len - 1 : 0;
	path[end] = '\0';
	for (const struct weir_container *c = container; c->parent; c = c->parent) {
		const size_t bytes = strlen(c->name);

		end -= bytes;
		memcpy(path + end, c->name, bytes);
		if (end)
			path[--end] = '/';
	}
	return len ? (int)len - 1 : 0;
}

const char *weir_container_name(const struct weir_container *container)
{
	return container->name;
}

int weir_container_delete(struct weir_container *c)
{
	struct tree *tree = c->tree;
	int err = 0;
	THREAD_SIGNALS_BLOCKED;

	if (!c->parent)
		return -EINVAL;
	lock_acquire(&tree->shape);
	lock_acquire(&tree->lock);
	if (c->child)
		err = -EBUSY;
	else
		tree_unlink(c);
	lock_release(&tree->lock);
	if (err)
		goto end;
	/* The parent's counters hold all that was charged here: nothing is added up. */
	if (tree->ops.reparent)
		tree->ops.reparent(tree->ops.data, c);
	(void)stocks_drain(tree, c, true);
	pins_wait(c);
	lock_acquire(&tree->lock);
	sub_relaxed(&tree->count, 1);
	lock_release(&tree->lock);
	mem_release(c, CONTAINER_BYTES);
end:
	lock_release(&tree->shape);
	return err;
}

/* Does anybody have one of them in hands? The lock is held. */
static bool in_use(struct weir_container *c)
{
	const struct control_ops *ops = &c->tree->ops;
	bool used = load_relaxed(&c->charged) || load_relaxed(&c->swap);

	for (struct weir_container *d = c; d && !used; d = container_next(c, d))
		used = ops->used && ops->used(ops->data, d);
	return used;
}

int weir_container_move(struct weir_container *c, struct weir_container *parent)
{
	struct tree *tree = c->tree;
	int err = 0;
	THREAD_SIGNALS_BLOCKED;

	if (!c->parent)
		return -EINVAL;
	if (parent->tree != tree)
		return -EXDEV;
	(void)stocks_drain(tree, NULL, true);
	lock_acquire(&tree->shape);
	lock_acquire(&tree->lock);
	if (container_below(parent, c))
		err = -ELOOP;
	else if (in_use(c))
		err = -EBUSY;
	else if (parent != c->parent)
		err = link_check(c, parent);
	if (!err) {
		tree_unlink(c);
		tree_link(c, parent);
	}
	lock_release(&tree->lock);
	lock_release(&tree->shape);
	return err;
}

/* --- values --- */

uint64_t weir_container_get(struct weir_container *c, enum weir_value value)
{
	switch (value) {
	case WEIR_CURRENT:
		/* Pairs with the release in level_add: whoever asks for the peak next finds it no lower. */
		return positive(load_acquire(&c->charged));
	case WEIR_PEAK:
		return positive(load_relaxed(&c->peak));
	case WEIR_MAX:
		return load_relaxed(&c->max);
	case WEIR_HIGH:
		return load_relaxed(&c->high);
	case WEIR_LOW:
		return load_relaxed(&c->low);
	case WEIR_SWAP_CURRENT:
		return positive(load_relaxed(&c->swap));
	case WEIR_SWAP_MAX:
		return load_relaxed(&c->swap_max);
	case WEIR_VALUES:
		break;
	}
	return 0;
}

int weir_container_reclaim(struct weir_container *c, uint64_t bytes)
{
	const struct control_ops *ops = &c->tree->ops;
	uint64_t before, after, freed;
	THREAD_SIGNALS_BLOCKED;

	before = container_charged(c);
	(void)stocks_drain(c->tree, NULL, false);
	/* What other containers' stocks had is not the container's. */
	after = container_charged(c);
	freed = before > after ? before - after : 0;
	if (freed < bytes && ops->reclaim)
		freed += ops->reclaim(ops->data, c, MIN(bytes - freed, container_held(c)));
	return freed < bytes ? -EAGAIN : 0;
}

/* A limit that holds from now on, and what is above it already. */
static int limit_store(_Atomic uint64_t *value, struct weir_container *c, uint64_t bytes)
{
	uint64_t held;

	value_store(value, c, bytes);
	/* Slots of stocks know how much they may hold. */
	(void)stocks_drain(c->tree, NULL, false);
	if (c->tree->ops.notice)
		c->tree->ops.notice(c->tree->ops.data);
	held = container_held(c);
	if (held > bytes)
		(void)weir_container_reclaim(c, held - bytes);
	return container_held(c) > bytes ? -EAGAIN : 0;
}

int weir_container_set(struct weir_container *c, enum weir_value value, uint64_t bytes)
{
	THREAD_SIGNALS_BLOCKED;

	switch (value) {
	case WEIR_MAX:
		if (!c->parent && (bytes < WEIR_LIMIT_MIN || bytes > INT64_MAX))
			return -EINVAL;
		return limit_store(&c->max, c, bytes);
	case WEIR_HIGH:
		return limit_store(&c->high, c, bytes);
	case WEIR_LOW:
		store_relaxed(&c->low, bytes);
		return 0;
	case WEIR_SWAP_MAX:
		store_relaxed(&c->swap_max, bytes);
		return 0;
	case WEIR_PEAK:
		lock_acquire(&c->tree->lock);
		store_relaxed(&c->peak, load_relaxed(&c->charged));
		lock_release(&c->tree->lock);
		return 0;
	case WEIR_CURRENT:
	case WEIR_SWAP_CURRENT:
	case WEIR_VALUES:
		break;
	}
	return -EINVAL;
}

int weir_container_set_text(struct weir_container *c, const char *value, const char *text)
{
	static const char *const names[WEIR_VALUES] = {
		[WEIR_CURRENT] = "current",   [WEIR_PEAK] = "peak",
		[WEIR_MAX] = "max",	      [WEIR_HIGH] = "high",
		[WEIR_LOW] = "low",	      [WEIR_SWAP_CURRENT] = "swap.current",
		[WEIR_SWAP_MAX] = "swap.max",
	};
	uint64_t bytes = WEIR_NO_LIMIT;

	for (unsigned i = 0; i < WEIR_VALUES; i++) {
		int err = 0;

		if (strcmp(names[i], value) != 0)
			continue;
		if (strcmp(text, "max") != 0)
			err = size_parse(text, 0, &bytes);
		return err ? err : weir_container_set(c, (enum weir_value)i, bytes);
	}
	return -ENOENT;
}

void weir_container_on_oom(struct weir_container *c, weir_oom_fn fn, void *data)
{
	THREAD_SIGNALS_BLOCKED;

	/* A child of fork has both, or neither. */
	lock_acquire(&c->tree->shape);
	lock_acquire(&c->tree->lock);
	c->oom = fn;
	c->oom_data = data;
	lock_release(&c->tree->lock);
	lock_release(&c->tree->shape);
}

/* --- for reclaim --- */

uint64_t container_own_usage(const struct weir_container *c, enum charge_kind kind)
{
	int64_t own = load_relaxed(&c->usage[kind]);

	for (const struct weir_container *child = c->child; child; child = child->next)
		own -= load_relaxed(&child->usage[kind]);
	return positive(own);
}

uint64_t container_own_charged(const struct weir_container *c)
{
	int64_t own = load_relaxed(&c->charged);

	for (const struct weir_container *child = c->child; child; child = child->next)
		own -= load_relaxed(&child->charged);
	return positive(own);
}

/* What a child uses of its low. */
static uint64_t low_used(const struct weir_container *c)
{
	return MIN(container_charged(c), load_relaxed(&c->low));
}

void container_protect(struct weir_container *target)
{
	target->elow = WEIR_NO_LIMIT;
	target->safe = false;
	for (struct weir_container *p = target; p; p = container_next(target, p)) {
		uint64_t sum = 0;

		for (struct weir_container *c = p->child; c; c = c->next)
			sum += low_used(c);
		for (struct weir_container *c = p->child; c; c = c->next) {
			c->elow = load_relaxed(&c->low);
			/* More is asked for than the parent has: each gets its share of that. */
			if (p->elow != WEIR_NO_LIMIT && sum > p->elow)
				c->elow =
					(uint64_t)((unsigned __int128)p->elow * low_used(c) / sum);
			else if (p->elow != WEIR_NO_LIMIT)
				c->elow = MIN(c->elow, p->elow);
			c->safe = p->safe || container_charged(c) <= c->elow;
		}
	}
}

struct weir_container *container_pressed(struct weir_container *container)
{
	struct weir_container *c = container;

	while (c && !container_above_mark(c))
		c = c->parent;
	return c;
}

struct weir_container *container_over_high(struct weir_container *container)
{
	struct weir_container *c = container;

	while (c && likely(container_charged(c) <= load_relaxed(&c->high)))
		c = c->parent;
	return c;
}

void container_throttle(struct weir_container *container)
{
	const struct control_ops *ops = &container->tree->ops;

	for (struct weir_container *c = container_over_high(container); c;
	     c = container_over_high(c->parent)) {
		container_event(c, EVENT_HIGH);
		if (ops->throttle)
			ops->throttle(ops->data, c);
	}
}

uint64_t container_delay_ns(struct weir_container *container)
{
	/* Twice high would be TWICE_NS. Less than LEAST_NS is not worth a system call. */
	enum { WHOLE = 1024, TWICE_NS = 100000000, LEAST_NS = 50000 };
	uint64_t over = 0, delay;

	for (struct weir_container *c = container_over_high(container); c;
	     c = container_over_high(c->parent)) {
		const uint64_t high = load_relaxed(&c->high), charged = container_charged(c);

		if (charged > high)
			over = MAX(over, MIN((charged - high) / MAX(high / WHOLE, 1ull),
					     (uint64_t)WHOLE));
	}
	delay = over * over * TWICE_NS / (WHOLE * WHOLE);
	return delay < LEAST_NS ? 0 : MIN(delay, (uint64_t)DELAY_MOST_NS);
}
