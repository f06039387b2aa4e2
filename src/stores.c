/* SPDX-License-Identifier: BSD-2-Clause */
/* The store of an instance is replaced while it is used: see weir_store_replace. */
#include <errno.h>
#include <string.h>

#include "instance.h"
#include "os/thread.h"

struct replace_errand {
	struct weir *weir;
	struct store *next;
};

/* Children of fork still read what they share of it. */
static bool shared_with_children(const struct weir *weir)
{
	bool shared = weir->fork.born.keeps;

	for (unsigned i = 0; i < LEASES_MAX; i++)
		shared = shared || weir->fork.lease[i].keeps;
	return shared;
}

/* By the background thread, in whose table of descriptors stores are. */
static int replace_errand(void *data)
{
	struct replace_errand *e = data;
	struct weir *weir = e->weir;
	struct store *old = weir->vm.store;
	int err = shared_with_children(weir) ? -EBUSY : 0;

	if (!err)
		err = store_there(e->next) && !e->next->late ? store_open(e->next) : 0;

	if (err)
		return err;
	/* Who has no pager asks this thread for room. */
	service_self_set(weir->pager);
	err = store_is_open(old) ? store_empty(&weir->reclaim) : 0;
	service_self_set(NULL);
	if (err) {
		store_close(e->next);
		return err;
	}
	/* No word names a page of the old one any more, and only this thread makes such words. */
	weir->vm.store = e->next;
	store_relaxed(&weir->reclaim.retry_ns, 0);
	store_relaxed(&weir->reclaim.retry_step_ns, 0);
	instance_quiesce(weir);
	store_close(old);
	vm_attention(&weir->vm);
	return 0;
}

int weir_store_replace(struct weir *weir, const char *uri)
{
	struct replace_errand e = {.weir = weir};
	char copy[STORE_PLACE_MAX + 64];
	int err;
	THREAD_SIGNALS_BLOCKED;

	/* A thread that serves its own fault may be reading the old one's descriptor. */
	if (weir->mode != WEIR_MODE_THREAD)
		return -ENOTSUP;
	/* It may lie in a region. */
	if (uri && strnlen(uri, sizeof(copy)) == sizeof(copy))
		return -ENAMETOOLONG;
	if (uri)
		strcpy(copy, uri);
	lock_acquire(&weir->store_lock);
	e.next = &weir->stores[weir->vm.store == &weir->stores[0]];
	err = store_init(e.next, uri ? copy : NULL, NULL);
	if (!err)
		err = reclaim_errand(&weir->reclaim, replace_errand, &e);
	lock_release(&weir->store_lock);
	return err;
}
