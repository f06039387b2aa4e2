/* SPDX-License-Identifier: BSD-2-Clause */
/* Containers and the parts of an instance: what control asks for, and regions that change hands. */
#include <errno.h>
#include <string.h>

#include "instance.h"
#include "os/thread.h"
#include "vm/file.h"

/* --- visitors --- */

unsigned instance_visit(struct weir *weir)
{
	unsigned turn = load_relaxed(&weir->turn) % 2;

	add_relaxed(&weir->visitors[turn], 1);
	/* Pairs with the fence in visitors_wait: it sees the visitor, or the visitor finds the region hidden. */
	fence_seq_cst();
	return turn;
}

void instance_leave(struct weir *weir, unsigned turn)
{
	/* Pairs with the acquire in visitors_wait. */
	sub_acq_rel(&weir->visitors[turn], 1);
}

bool instance_pages(struct weir *weir, const volatile void *address)
{
	const unsigned turn = instance_visit(weir);
	const bool found = vm_find(&weir->vm, (uintptr_t)address) != NULL;

	instance_leave(weir, turn);
	return found;
}

static void quiesce_visitors(struct weir *weir)
{
	fence_seq_cst();
	for (unsigned i = 0; i < 2; i++) {
		unsigned turn = add_relaxed(&weir->turn, 1) % 2, waited = 0;

		while (load_acquire(&weir->visitors[turn])) {
			wait_a_little(&waited);
			/* One may discard for long, and have met a fault on its way. */
			vm_wake_meanwhile(&weir->vm);
		}
	}
}

void instance_quiesce(struct weir *weir)
{
	/* Who makes room meanwhile does not wait for this thread to write. */
	store_relaxed(&weir->reclaim.quiescing, true);
	service_quiesce(&weir->service);
	if (weir->mode != WEIR_MODE_THREAD)
		signal_quiesce(&weir->signal);
	file_crew_quiesce(&weir->vm);
	quiesce_visitors(weir);
	store_relaxed(&weir->reclaim.quiescing, false);
	reclaim_quiesce(&weir->reclaim);
}

/* What control asks for. Handlers reclaim themselves; a thread of the program has no descriptor for it, and has it done. */
struct give_errand {
	struct weir *weir;
	struct weir_container *container;
	uint64_t bytes, given;
};

static int give_errand(void *data)
{
	struct give_errand *e = data;

	e->given = reclaim_give(&e->weir->reclaim, e->container, e->bytes);
	return 0;
}

static uint64_t ask_background(void *data, struct weir_container *container, uint64_t bytes)
{
	struct give_errand e = {.weir = data, .container = container, .bytes = bytes};

	(void)reclaim_errand(&e.weir->reclaim, give_errand, &e);
	return e.given;
}

static enum room make_room(void *data, struct weir_container *level, uint64_t bytes)
{
	struct weir *weir = data;
	struct pager *self = service_self();

	if (self)
		return reclaim_make_room(&weir->reclaim, self, level, bytes);
	return ask_background(weir, level, bytes) ? ROOM_MADE : ROOM_NEVER;
}

static void throttle(void *data, struct weir_container *level)
{
	reclaim_throttle(&((struct weir *)data)->reclaim, service_self(), level);
}

static uint64_t slack(void *data)
{
	return reclaim_slack(&((struct weir *)data)->reclaim);
}

static void notice(void *data)
{
	struct weir *weir = data;

	lock_acquire(&weir->lock);
	tenants_share(weir);
	lock_release(&weir->lock);
	vm_attention(&weir->vm);
}

void tenants_share(struct weir *weir)
{
	const uint64_t limit = load_relaxed(&weir->containers.root->max);

	/* An eighth at least stays for resident pages: with nothing to choose, reclaim would only search. */
	store_relaxed(&weir->vm.memory_share,
		      weir->share ? MIN(weir->share, limit - limit / 8) : limit / 4 * 3);
}

/* --- regions and their containers --- */

struct tenant_errand {
	struct weir *weir;
	struct weir_container *container;
	struct region *region;
};

static int reparent_errand(void *data)
{
	struct tenant_errand *e = data;
	struct vm *vm = &e->weir->vm;

	for (uint32_t i = 0; i < load_relaxed(&vm->regions); i++) {
		struct region *region = load_acquire(&vm->region[i]);

		if (region)
			owners_reparent(&region->owners, e->container);
	}
	for (unsigned i = 0; i < FILES_MAX; i++) {
		struct file_object *file = load_acquire(&vm->file_object[i]);

		if (file)
			owners_reparent(&file->owners, e->container);
	}
	instance_quiesce(e->weir);
	return 0;
}

static void reparent(void *data, struct weir_container *container)
{
	struct tenant_errand e = {.weir = data, .container = container};

	lock_acquire(&e.weir->lock);
	(void)reclaim_errand(&e.weir->reclaim, reparent_errand, &e);
	lock_release(&e.weir->lock);
}

static bool used(void *data, struct weir_container *container)
{
	struct weir *weir = data;
	unsigned turn = instance_visit(weir);
	uint32_t mask = 0;

	for (uint32_t i = 0; i < load_relaxed(&weir->vm.regions); i++) {
		struct region *region = load_acquire(&weir->vm.region[i]);

		if (region && !region->file)
			mask |= owners_mask(&region->owners, container, false);
	}
	for (unsigned i = 0; i < FILES_MAX; i++) {
		struct file_object *file = load_acquire(&weir->vm.file_object[i]);

		if (file)
			mask |= owners_mask(&file->owners, container, false);
	}
	instance_leave(weir, turn);
	return mask != 0;
}

/* What only the page words tell. */
static void stat_fill(void *data, struct weir_container *container,
		      struct weir_container_stat *stat)
{
	struct weir *weir = data;
	unsigned turn;
	THREAD_SIGNALS_BLOCKED;

	turn = instance_visit(weir);
	for (uint32_t i = 0; i < load_relaxed(&weir->vm.regions); i++) {
		struct region *region = load_acquire(&weir->vm.region[i]);

		if (region)
			region_stat(&weir->vm, region, container, stat);
	}
	instance_leave(weir, turn);
}

/* --- moving a region --- */

static int move_errand(void *data)
{
	struct tenant_errand *e = data;
	int slot = region_owner_slot(e->region, e->container);

	if (slot < 0)
		return slot;
	owners_set(&e->region->owners, (unsigned)slot, e->container);
	store_relaxed(&e->region->owners.current, (uint32_t)slot);
	/* A handler that has the old slot in its hands still charges there: until it is through the slot is not free. */
	instance_quiesce(e->weir);
	return 0;
}

static int pages_errand(void *data)
{
	struct tenant_errand *e = data;

	return region_transfer(&e->weir->vm, e->region);
}

int weir_region_move(struct weir *weir, void *addr, struct weir_container *container,
		     enum weir_move how)
{
	struct tenant_errand e = {.weir = weir, .container = container};
	int err = -ENOENT;
	THREAD_SIGNALS_BLOCKED;

	if (container->tree != &weir->containers)
		return -EXDEV;
	lock_acquire(&weir->lock);
	e.region = vm_find(&weir->vm, (uintptr_t)addr);
	if (e.region && e.region->base == addr)
		err = e.region->file ? -EINVAL : reclaim_errand(&weir->reclaim, move_errand, &e);
	if (!err && how == WEIR_MOVE_PAGES)
		err = reclaim_errand(&weir->reclaim, pages_errand, &e);
	lock_release(&weir->lock);
	return err;
}

/* --- --- */

void tenants_init(struct weir *weir)
{
	weir->containers.ops = (struct control_ops){
		.make_room = make_room,
		.throttle = throttle,
		.reclaim = ask_background,
		.reparent = reparent,
		.used = used,
		.stat = stat_fill,
		.notice = notice,
		.slack = slack,
		.data = weir,
	};
}

struct weir_container *weir_container_root(struct weir *weir)
{
	return weir->containers.root;
}
