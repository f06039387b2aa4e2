/* SPDX-License-Identifier: BSD-2-Clause */
/* Listeners: who wants to know that blocks come and go, and may refuse. */
#include "pool/pool.h"

void listeners_tell(struct weir_pool *pool, enum weir_pool_event event, weir_pfn_t start,
		    weir_pfn_t end)
{
	for (struct weir_pool_listener *l = pool->listener; l; l = l->next)
		(void)l->fn(l->data, event, start, end);
}

/* The chain is short, and this is seldom: each one is looked for from the start. */
void listeners_cancel(struct weir_pool *pool, const struct weir_pool_listener *until,
		      enum weir_pool_event going, weir_pfn_t start, weir_pfn_t end)
{
	const enum weir_pool_event cancel =
		going == WEIR_GOING_ONLINE ? WEIR_CANCEL_ONLINE : WEIR_CANCEL_OFFLINE;

	while (until != pool->listener) {
		struct weir_pool_listener *l = pool->listener;

		while (l->next != until)
			l = l->next;
		(void)l->fn(l->data, cancel, start, end);
		until = l;
	}
}

int listeners_going(struct weir_pool *pool, enum weir_pool_event event, weir_pfn_t start,
		    weir_pfn_t end)
{
	for (struct weir_pool_listener *l = pool->listener; l; l = l->next) {
		int err = l->fn(l->data, event, start, end);

		if (err) {
			listeners_cancel(pool, l, event, start, end);
			return err < 0 ? err : -err;
		}
	}
	return 0;
}

int weir_pool_listen(struct weir_pool *pool, struct weir_pool_listener *listener)
{
	struct weir_pool_listener **last = &pool->listener;
	int err = 0;

	if (!listener || !listener->fn)
		return -EINVAL;
	lock_acquire(&pool->hotplug);
	while (*last && *last != listener)
		last = &(*last)->next;
	if (*last) {
		err = -EEXIST;
	} else {
		listener->next = NULL;
		*last = listener;
	}
	lock_release(&pool->hotplug);
	return err;
}

int weir_pool_unlisten(struct weir_pool *pool, struct weir_pool_listener *listener)
{
	struct weir_pool_listener **at = &pool->listener;
	int err = -ENOENT;

	lock_acquire(&pool->hotplug);
	while (*at && *at != listener)
		at = &(*at)->next;
	if (*at) {
		*at = listener->next;
		err = 0;
	}
	lock_release(&pool->hotplug);
	return err;
}

/* --- windows --- */

void windows_add(struct weir_pool *pool, struct windows *windows)
{
	lock_acquire(&pool->windows_lock);
	windows->next = pool->windows;
	pool->windows = windows;
	lock_release(&pool->windows_lock);
}

void windows_remove(struct weir_pool *pool, struct windows *windows)
{
	struct windows **at = &pool->windows;

	lock_acquire(&pool->windows_lock);
	while (*at != windows)
		at = &(*at)->next;
	*at = windows->next;
	lock_release(&pool->windows_lock);
}

unsigned windows_held(struct weir_pool *pool, weir_pfn_t start, weir_pfn_t end)
{
	unsigned held = 0;

	if (!zone_index(pool, start))
		return 0;
	lock_acquire(&pool->windows_lock);
	for (struct windows *w = pool->windows; w; w = w->next)
		held += w->held(w->data, start, end);
	lock_release(&pool->windows_lock);
	return held;
}
