/* SPDX-License-Identifier: BSD-2-Clause */
/* The soak's threads that use memory. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "lost.h"
#include "soak.h"

enum { SPAN_MAX = 32 };

/* Of a worker: what comes out of a region by a system call. */
static _Thread_local struct scratch {
	int file;
	_Alignas(16) char bytes[SPAN_MAX * PAGE_SIZE];
} *scratch;

/* --- pages that are lost --- */

static uint32_t page_first(const struct area *area, uint32_t cell)
{
	return ALIGN_DOWN(cell, area->per_page);
}

/* The caller holds no cell. Where somebody else holds one of the page, it stays for who comes next. */
static void mourn(struct area *area, uint32_t cell)
{
	const uint32_t first = page_first(area, cell);

	if (!cells_try(area, first, area->per_page, true)) {
		add_relaxed(&soak.passed, 1);
		return;
	}
	if (is_lost(area, first)) {
		int err = weir_region_discard(area->weir, cell_address(area, first), PAGE_SIZE);

		CHECK(!err, "discard of a lost page: %s", strerrorname_np(-err));
		for (uint32_t i = first; i < first + area->per_page; i++)
			cell_note(area, i, (struct contents){.kind = ZERO});
		add_relaxed(&soak.mourned, 1);
	}
	cells_done(area, first, area->per_page, true);
}

/* --- uses of a cell, each under its lock --- */

struct one {
	struct area *area;
	uint32_t cell;
};

static void read_one(void *data)
{
	const struct one *one = data;

	cell_check(one->area, one->cell, "reading");
}

static void touch_one(void *data)
{
	const struct one *one = data;

	(void)region_byte(cell_address(one->area, one->cell));
}

static void write_one(void *data)
{
	const struct one *one = data;

	cell_write(one->area, one->cell, contents_new(one->area, &me->random));
}

static void stamp_one(void *data)
{
	const struct one *one = data;

	cell_stamp(one->area, one->cell, (uint16_t)draw(&me->random, UINT16_MAX));
}

/* The cells one by one; which are lost goes to *lost. */
static void each(struct area *area, uint32_t first, uint32_t count, void (*use)(void *),
		 uint64_t *lost)
{
	const bool down = draw(&me->random, 4) == 0;

	for (uint32_t i = 0; i < count; i++) {
		const uint32_t at = down ? count - 1 - i : i;
		struct one one = {area, first + at};

		if (page_lost(cell_address(area, one.cell), use, &one))
			*lost |= 1ull << at;
	}
}

static void use_read(struct area *area, uint32_t first, uint32_t count, uint64_t *lost)
{
	each(area, first, count, draw(&me->random, 4) ? read_one : touch_one, lost);
	add_relaxed(&soak.reads, count);
}

static void use_write(struct area *area, uint32_t first, uint32_t count, uint64_t *lost)
{
	each(area, first, count, write_one, lost);
	add_relaxed(&soak.writes, count);
}

static void use_stamp(struct area *area, uint32_t first, uint32_t count, uint64_t *lost)
{
	each(area, first, count, stamp_one, lost);
	add_relaxed(&soak.writes, count);
}

static void use_discard(struct area *area, uint32_t first, uint32_t count, uint64_t *lost)
{
	const uint32_t from = DIV_UP(first, area->per_page), to = (first + count) / area->per_page;
	int err;

	if (from >= to)
		return;
	/* A lost page that is discarded unseen would be missing when they are counted. */
	each(area, first, count, touch_one, lost);
	if (*lost)
		return;
	doing("weir_region_discard", from);
	err = weir_region_discard(area->weir, area->base + ((size_t)from << PAGE_SHIFT),
				  (uint64_t)(to - from) << PAGE_SHIFT);
	CHECK(!err, "weir_region_discard: %s", strerrorname_np(-err));
	for (uint32_t i = from * area->per_page; i < to * area->per_page; i++)
		cell_note(area, i, (struct contents){.kind = ZERO});
	add_relaxed(&soak.discards, 1);
}

/* Pinned pages are there, stay, and are good for system calls. */
static void use_pin(struct area *area, uint32_t first, uint32_t count, uint64_t *lost)
{
	char *base = cell_address(area, first);
	const size_t bytes = count * area->cell_bytes;
	ssize_t n;
	int err;

	doing("weir_region_pin", first);
	err = weir_region_pin(area->weir, base, bytes, (int)draw(&me->random, 2));
	if (err == -EIO) {
		/* Nothing is pinned then; one of them at least is lost. */
		*lost = (1ull << count) - 1;
		return;
	}
	CHECK(!err, "weir_region_pin: %s", strerrorname_np(-err));
	for (uint32_t i = 0; i < count; i++)
		CHECK(page_resident(base + i * area->cell_bytes), "a pinned page is not there");
	n = syscall(SYS_pwrite64, scratch->file, base, bytes, 0);
	CHECK(n == (ssize_t)bytes, "pwrite of pinned memory gave %zd, %s", n,
	      strerrorname_np(errno));
	CHECK(!weir_region_unpin(area->weir, base, bytes), "weir_region_unpin failed");
	n = syscall(SYS_pread64, scratch->file, scratch->bytes, bytes, 0);
	CHECK(n == (ssize_t)bytes, "pread into plain memory gave %zd", n);
	for (uint32_t i = 0; i < count; i++)
		cell_compare(area, first + i, scratch->bytes + i * area->cell_bytes,
			     "pwrite of pinned pages");
	add_relaxed(&soak.pins, 1);
}

static const struct use {
	const char *name;
	void (*use)(struct area *area, uint32_t first, uint32_t count, uint64_t *lost);
	bool write;
	unsigned often; /* in a hundred */
} uses[] = {
	{"read", use_read, false, 50},	   {"write", use_write, true, 16},
	{"stamp", use_stamp, true, 22},	   {"pin", use_pin, false, 6},
	{"discard", use_discard, true, 6},
};

static void use_span(struct area *area, const struct use *use, uint32_t first, uint32_t count)
{
	uint64_t lost = 0;

	doing(use->name, (uintptr_t)cell_address(area, first));
	if (!cells_try(area, first, count, use->write))
		return;
	use->use(area, first, count, &lost);
	cells_done(area, first, count, use->write);
	for (uint32_t i = 0; i < count; i++) {
		if (lost >> i & 1)
			mourn(area, first + i);
	}
}

/* Memory of the program's own: what a container is charged comes from the thread's stock. */
static void charge_some(struct weir_container *container)
{
	const uint64_t bytes = (1 + draw(&me->random, 16)) << PAGE_SHIFT;
	int err;

	doing("weir_charge", bytes);
	err = weir_charge(container, bytes);
	CHECK(!err || err == -ENOMEM, "weir_charge: %s", strerrorname_np(-err));
	add_relaxed(err ? &soak.refused_charges : &soak.charges, 1);
	if (!err)
		weir_uncharge(container, bytes);
}

/* A hint, of any pages, whoever uses them. */
static void advise_some(struct area *area)
{
	static const enum weir_region_advice advice[] = {
		WEIR_ADVICE_NORMAL,   WEIR_ADVICE_NORMAL, WEIR_ADVICE_SEQUENTIAL,
		WEIR_ADVICE_WILLNEED, WEIR_ADVICE_RANDOM, WEIR_ADVICE_COLD,
	};
	const enum weir_region_advice one = advice[draw(&me->random, ARRAY_SIZE(advice))];
	/* Half of it may just have been cut off. */
	const uint32_t first = (uint32_t)draw(&me->random, area->pages / 2);
	const uint32_t count = 1 + (uint32_t)draw(&me->random, area->pages / 2 - first);
	int err;

	doing("weir_region_advise", one);
	err = weir_region_advise(area->weir, area->base + ((size_t)first << PAGE_SHIFT),
				 (uint64_t)count << PAGE_SHIFT, one);
	CHECK(!err, "weir_region_advise: %s", strerrorname_np(-err));
	add_relaxed(&soak.advised[one], 1);
}

static void use_some(struct area *area)
{
	unsigned at = (unsigned)draw(&me->random, 100), i = 0;
	uint32_t first, count;

	while (at >= uses[i].often)
		at -= uses[i++].often;
	first = (uint32_t)draw(&me->random,
			       draw(&me->random, 10) < 6 ? area->cells / 4 : area->cells);
	count = 1 + (uint32_t)draw(&me->random, draw(&me->random, 4) ? 3 : SPAN_MAX - 1);
	use_span(area, &uses[i], first, MIN(count, area->cells - first));
	if (draw(&me->random, 64) == 0)
		advise_some(area);
}

static void scratch_make(void)
{
	scratch = calloc(1, sizeof(*scratch));
	CHECK(scratch, "no memory");
	scratch->file = memfd_create("soak", MFD_CLOEXEC);
	CHECK(scratch->file >= 0, "no memfd: %s", strerrorname_np(errno));
}

static void scratch_end(void)
{
	close(scratch->file);
	free(scratch);
}

void worker_body(struct player *self)
{
	const bool attach = self->number % 3 != 2;

	scratch_make();
	if (attach)
		weir_thread_attach(soak.weir);
	while (!load_relaxed(&soak.stop)) {
		use_some(soak.area[draw(&me->random, AREAS)]);
		if (draw(&me->random, 32) == 0)
			charge_some(weir_container_root(soak.weir));
	}
	if (attach)
		weir_thread_detach(soak.weir);
	scratch_end();
}

void far_body(struct player *self)
{
	(void)self;
	scratch_make();
	while (!load_relaxed(&soak.stop))
		use_some(soak.far_area);
	scratch_end();
}

/* --- the end of a region comes and goes --- */

/* Waits for each cell with those before it held: the others only ever try. False: the run is over. */
static bool cells_take(struct area *area, uint32_t first)
{
	for (uint32_t i = first; i < area->cells; i++) {
		while (!cells_try(area, i, 1, true)) {
			if (load_relaxed(&soak.stop)) {
				cells_done(area, first, i - first, true);
				return false;
			}
			pause_ms(1);
		}
	}
	return true;
}

/* Lost pages are met before they go, or they would be missing when they are counted. */
static void tail_mourn(struct area *area, uint32_t first)
{
	for (uint32_t i = first; i < area->cells; i++) {
		struct one one = {area, i};

		/* Each may be a read from a disk that others use. */
		doing("look at what will be cut off", i);
		if (!page_lost(cell_address(area, i), read_one, &one))
			continue;
		CHECK(!weir_region_discard(area->weir, cell_address(area, page_first(area, i)),
					   PAGE_SIZE),
		      "discard of a lost page");
		for (uint32_t k = page_first(area, i); k < page_first(area, i) + area->per_page;
		     k++)
			cell_note(area, k, (struct contents){.kind = ZERO});
		add_relaxed(&soak.mourned, 1);
	}
}

void soak_resize(struct area *area)
{
	const uint32_t pages = area->pages - 1 - (uint32_t)draw(&me->random, 128);
	const uint32_t first = pages * area->per_page;
	int err;

	if (!cells_take(area, first))
		return;
	tail_mourn(area, first);
	doing("weir_region_shrink", pages);
	err = weir_region_shrink(area->weir, area->base, (uint64_t)pages << PAGE_SHIFT);
	CHECK(!err, "weir_region_shrink: %s", strerrorname_np(-err));
	for (uint32_t i = first; i < area->cells; i++)
		cell_note(area, i, (struct contents){.kind = ZERO});
	pause_ms((unsigned)draw(&me->random, 4));
	do {
		doing("weir_region_grow", area->pages);
		err = weir_region_grow(area->weir, area->base, (uint64_t)area->pages << PAGE_SHIFT);
		/* The errors of blocks without memory meet this too. */
		CHECK(!err || err == -ENOMEM, "weir_region_grow: %s", strerrorname_np(-err));
	} while (err);
	cells_done(area, first, area->cells - first, true);
	add_relaxed(&soak.resized, 1);
}

void soak_check(struct area *area, const char *how)
{
	const struct use use = {how, use_read, false, 0};

	for (uint32_t i = 0; i < area->cells; i += area->per_page)
		use_span(area, &use, i, area->per_page);
}

/* --- regions that come and go --- */

static void refused(int err, const char *what)
{
	CHECK(err == -ENOMEM, "%s: %s", what, strerrorname_np(-err));
	add_relaxed(&soak.refused_regions, 1);
}

static void passing_once(unsigned number)
{
	static const unsigned mixes[][KINDS] = {{1, 1, 8, 2}, {0, 0, 1, 1}, {2, 2, 1, 0}};
	const uint32_t pages = 1 + (uint32_t)draw(&me->random, 400);
	const bool arm = draw(&me->random, 3) == 0, late = draw(&me->random, 2);
	const enum weir_mode mode = (enum weir_mode)(WEIR_MODE_THREAD + draw(&me->random, 2));
	struct weir_container *box = NULL;
	struct area *area;
	void *base;
	char name[32];
	int err;

	(void)snprintf(name, sizeof(name), "passing-%u", number);
	doing("passing region", pages);
	arm_allocation(arm ? 1 + (unsigned)draw(&me->random, 5) : 0);
	err = weir_container_create(weir_container_root(soak.weir), name, &box);
	if (err) {
		refused(err, "weir_container_create");
		return;
	}
	err = region_as(soak.weir, (uint64_t)pages << PAGE_SHIFT, mode, &base);
	arm_allocation(0);
	if (err) {
		refused(err, "weir_region_create_with");
		CHECK(!weir_container_delete(box), "weir_container_delete");
		return;
	}
	err = weir_region_move(soak.weir, base, box, WEIR_MOVE_PAGES);
	CHECK(!err, "weir_region_move of an empty region: %s", strerrorname_np(-err));
	area = area_over(soak.weir, base, pages, 1);
	area->signal = mode == WEIR_MODE_SIGNAL;
	memcpy(area->weight, mixes[draw(&me->random, ARRAY_SIZE(mixes))], sizeof(area->weight));
	for (uint32_t i = 0; i < pages; i++)
		use_span(area, &uses[1], i, 1);
	if (draw(&me->random, 2))
		soak_check(area, "check of a passing region");
	/* With its pages it goes to the root where its container goes first. */
	if (!late)
		CHECK(!weir_container_delete(box), "weir_container_delete with pages");
	if (draw(&me->random, 2))
		soak_check(area, "check of a passing region");
	area_destroy(area);
	if (late)
		CHECK(!weir_container_delete(box), "weir_container_delete");
	add_relaxed(&soak.regions, 1);
}

void passing_body(struct player *self)
{
	(void)self;
	for (unsigned i = 0; !load_relaxed(&soak.stop); i++)
		passing_once(i);
}

/* --- a file --- */

/* Some pages are text, some noise. */
static void source_page(uint32_t page, char to[PAGE_SIZE])
{
	const uint64_t seed = mixed(setup.seed ^ page);

	for (unsigned i = 0; i < PAGE_SIZE; i += 8) {
		uint64_t word = page % 2 ? mixed(seed + i) : seed % 1000 + i / 256;

		memcpy(to + i, &word, 8);
	}
}

/* Without a name: nothing is left behind, whatever happens. */
int source_make(void)
{
	char page[PAGE_SIZE];
	int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		fd = memfd_create("source", MFD_CLOEXEC);
	CHECK(fd >= 0, "no file: %s", strerrorname_np(errno));
	for (uint32_t i = 0; i < SOURCE_PAGES; i++) {
		source_page(i, page);
		/* The last one is not whole. */
		CHECK(write(fd, page, i == SOURCE_PAGES - 1 ? 100 : PAGE_SIZE) > 0, "write: %s",
		      strerrorname_np(errno));
	}
	return fd;
}

struct file_read {
	const char *at;
	char *to;
};

static void read_page(void *data)
{
	const struct file_read *read = data;

	region_load(read->to, read->at, PAGE_SIZE);
}

/* False: the page is lost. */
static bool file_check(const char *base, uint32_t page)
{
	struct file_read read = {base + (size_t)page * PAGE_SIZE, me->seen};

	if (page_lost(read.at, read_page, &read)) {
		add_relaxed(&soak.file_lost, 1);
		return false;
	}
	source_page(page, me->buffer);
	if (page == SOURCE_PAGES - 1)
		memset(me->buffer + 100, 0, PAGE_SIZE - 100);
	CHECK(!memcmp(me->seen, me->buffer, PAGE_SIZE), "page %u of the file is wrong", page);
	add_relaxed(&soak.file_pages, 1);
	return true;
}

/* A page that could not be read stays SIGBUS in its region: the next region reads it again. */
static void file_once(struct weir_container *box, const char *path)
{
	const uint64_t expected = (uint64_t)(SOURCE_PAGES - 1) * PAGE_SIZE + 100;
	uint32_t page = (uint32_t)draw(&me->random, SOURCE_PAGES);
	uint64_t bytes;
	void *base;
	int err;

	doing("weir_region_open", 0);
	err = weir_region_open(box, path, &base, &bytes);
	CHECK(!err && bytes == expected, "weir_region_open: %s", strerrorname_np(-err));
	for (unsigned i = 0; i < 3000 && !load_relaxed(&soak.stop); i++) {
		doing("read a file region", page);
		if (!file_check(base, page))
			break;
		page = draw(&me->random, 8) ? (page + 1) % SOURCE_PAGES
					    : (uint32_t)draw(&me->random, SOURCE_PAGES);
	}
	doing("weir_region_destroy", 0);
	CHECK(!weir_region_destroy(soak.weir, base), "weir_region_destroy of a file region");
}

void file_body(struct player *self)
{
	struct weir_container *box;
	char path[64], name[16];

	(void)snprintf(name, sizeof(name), "file-%u", self->number);
	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), soak.source);
	CHECK(!weir_container_create(weir_container_root(soak.weir), name, &box), "a container");
	(void)weir_container_set(box, WEIR_MAX, MIB(2));
	while (!load_relaxed(&soak.stop))
		file_once(box, path);
	CHECK(!weir_container_delete(box), "weir_container_delete");
}
