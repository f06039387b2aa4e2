/* SPDX-License-Identifier: BSD-2-Clause */
/* The soak's governor: limits, owners of pages, reclaim on demand, containers that come and go. */
#include <errno.h>

#include "soak.h"

static unsigned made;

static struct weir_container *box_new(struct weir_container *parent)
{
	struct weir_container *box = NULL;
	char name[32];
	int err;

	(void)snprintf(name, sizeof(name), "box-%u", made++);
	err = weir_container_create(parent, name, &box);
	CHECK(!err, "weir_container_create of '%s': %s", name, strerrorname_np(-err));
	return box;
}

/* Memory that cannot be made room for, while the disk is full: rather over the limit than a first touch that fails. */
static enum weir_oom over(void *data, struct weir_container *container, uint64_t bytes)
{
	(void)data;
	(void)container;
	(void)bytes;
	return WEIR_OOM_OVER;
}

static void set(struct weir_container *box, enum weir_value value, uint64_t bytes)
{
	int err = weir_container_set(box, value, bytes);

	CHECK(!err || err == -EAGAIN, "weir_container_set: %s", strerrorname_np(-err));
}

static struct area *any_area(void)
{
	return soak.area[draw(&me->random, AREAS)];
}

static void move_area(struct area *area, struct weir_container *to, enum weir_move how)
{
	int err = weir_region_move(soak.weir, area->base, to, how);

	/* Too full below the new owner, or too many owners before. */
	CHECK(!err || err == -ENOMEM || err == -ENOSPC, "weir_region_move: %s",
	      strerrorname_np(-err));
	add_relaxed(&soak.owners, !err);
}

/* --- what it does --- */

static void change_limit(struct weir_container **box)
{
	/* Small ones mostly: that is where pages move. */
	static const uint64_t limits[] = {MIB(3), MIB(4), MIB(4), MIB(6), MIB(8), MIB(16), MIB(64)};

	(void)box;
	set_limit(soak.weir, limits[draw(&me->random, ARRAY_SIZE(limits))]);
	set_limit(soak.far, MIB(2) + draw(&me->random, MIB(2)));
}

static void change_max(struct weir_container **box)
{
	set(*box, WEIR_MAX,
	    draw(&me->random, 4) ? MIB(1) + draw(&me->random, MIB(4)) : WEIR_NO_LIMIT);
}

static void change_high_low(struct weir_container **box)
{
	set(*box, WEIR_LOW, draw(&me->random, MIB(2)));
	set(*box, WEIR_HIGH,
	    draw(&me->random, 2) ? MIB(1) + draw(&me->random, MIB(3)) : WEIR_NO_LIMIT);
}

static void change_swap(struct weir_container **box)
{
	set(*box, WEIR_SWAP_MAX, draw(&me->random, 4) ? WEIR_NO_LIMIT : draw(&me->random, MIB(2)));
}

static void change_owner(struct weir_container **box)
{
	move_area(any_area(), *box, draw(&me->random, 2) ? WEIR_MOVE_PAGES : WEIR_MOVE_LATER);
}

static void reclaim_some(struct weir_container **box)
{
	int err =
		weir_container_reclaim(*box, draw(&me->random, 3) ? draw(&me->random, MIB(1)) : 0);

	CHECK(!err || err == -EAGAIN, "weir_container_reclaim: %s", strerrorname_np(-err));
}

/* What was charged to it goes to its parent; a new one takes its place, at times below another one. */
static void replace_box(struct weir_container **box)
{
	struct weir_container *root = weir_container_root(soak.weir), *parent = root;
	int err = weir_container_delete(*box);

	if (err == -EBUSY) /* another one is below it */
		return;
	CHECK(!err, "weir_container_delete: %s", strerrorname_np(-err));
	*box = NULL;
	if (draw(&me->random, 3) == 0)
		parent = soak.box[draw(&me->random, BOXES)];
	*box = box_new(parent ? parent : root);
	weir_container_on_oom(*box, over, NULL);
	change_max(box);
	change_owner(box);
}

static void look(struct weir_container **box)
{
	struct weir_container_stat stat = {.size = sizeof(stat)};
	struct weir_events all, own;
	struct weir_pressure pressure;

	CHECK(!weir_container_stat(*box, &stat), "weir_container_stat");
	weir_container_events(*box, 1, &own);
	weir_container_events(*box, 0, &all);
	CHECK(all.max >= own.max && all.high >= own.high && all.oom >= own.oom,
	      "events of a tree are fewer than those of its top");
	weir_container_pressure(*box, &pressure);
	CHECK(pressure.full_us <= pressure.some_us, "full pressure %" PRIu64 " above some %" PRIu64,
	      pressure.full_us, pressure.some_us);
	(void)stats_now(soak.weir);
}

static void resize(struct weir_container **box)
{
	(void)box;
	soak_resize(any_area());
}

static const struct {
	const char *name;
	void (*act)(struct weir_container **box);
	unsigned often; /* in a hundred */
} acts[] = {
	{"change the limit", change_limit, 15},
	{"change max", change_max, 15},
	{"change high and low", change_high_low, 10},
	{"change swap.max", change_swap, 5},
	{"change an owner", change_owner, 25},
	{"reclaim", reclaim_some, 10},
	{"replace a container", replace_box, 10},
	{"look", look, 7},
	{"resize", resize, 3},
};

void governor_body(struct player *self)
{
	(void)self;
	while (!load_relaxed(&soak.stop)) {
		unsigned at = (unsigned)draw(&me->random, 100), i = 0;

		while (at >= acts[i].often)
			at -= acts[i++].often;
		doing(acts[i].name, 0);
		acts[i].act(&soak.box[draw(&me->random, BOXES)]);
		add_relaxed(&soak.governed, 1);
		pause_ms(1 + (unsigned)draw(&me->random, 8));
	}
}

/* Areas begin in containers of their own, but for the last, which is the root's. */
void govern_init(void)
{
	for (unsigned i = 0; i < BOXES; i++) {
		soak.box[i] = box_new(weir_container_root(soak.weir));
		weir_container_on_oom(soak.box[i], over, NULL);
		move_area(soak.area[i], soak.box[i], WEIR_MOVE_PAGES);
		set(soak.box[i], WEIR_MAX, MIB(3));
	}
}

/* Limits of containers would keep what is to be checked over them. */
void govern_end(void)
{
	struct weir_container *root = weir_container_root(soak.weir);
	unsigned left = BOXES;

	for (unsigned i = 0; i < AREAS; i++)
		move_area(soak.area[i], root, WEIR_MOVE_LATER);
	/* From the lowest up. */
	while (left) {
		const unsigned before = left;

		for (unsigned i = 0; i < BOXES; i++) {
			int err = soak.box[i] ? weir_container_delete(soak.box[i]) : -EBUSY;

			CHECK(!err || err == -EBUSY, "weir_container_delete: %s",
			      strerrorname_np(-err));
			if (!err) {
				soak.box[i] = NULL;
				left--;
			}
		}
		CHECK(left < before, "containers that have no child are busy");
	}
}
