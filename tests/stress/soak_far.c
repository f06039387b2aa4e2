/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The soak's second instance, whose compressed pages are in frames that are not mapped, reached through four windows; and
 * windows of the soak's own on a file, fewer than the threads that want one, so that they wait for each other.
 */
#include <errno.h>
#include <sys/mman.h>

#include "instance.h"
#include "soak.h"

enum { FAR_PAGES = 1200, WINDOW_PAGES = 64, WINDOWS = 4 };

static struct {
	int fd;
	_Atomic uint64_t stamp[WINDOW_PAGES]; /* (A) what the page's first word is */
} file;

void far_init(void)
{
	static const unsigned weights[KINDS] = {1, 1, 8, 2};
	const struct weir_kmap_options options = {.size = sizeof(options),
						  .fd = memfd_create("soak-far", MFD_CLOEXEC),
						  .bytes = (uint64_t)WINDOW_PAGES << PAGE_SHIFT,
						  .slots = WINDOWS,
						  .slot_bytes = PAGE_SIZE};
	int err;

	setup.mode = WEIR_MODE_THREAD;
	setup.kmap_slots = WINDOWS;
	soak.far = open_or_skip(MIB(2));
	setup.kmap_slots = 0;
	soak.far_area = area_create(soak.far, FAR_PAGES, 1, weights);
	area_fill(soak.far_area);
	file.fd = options.fd;
	CHECK(file.fd >= 0 && !ftruncate(file.fd, (off_t)options.bytes), "a file for windows: %s",
	      strerrorname_np(errno));
	err = weir_kmap_create(&options, &soak.windows);
	CHECK(!err, "weir_kmap_create: %s", strerrorname_np(-err));
}

/* Each thread has pages of its own, and looks whether they are what it wrote: a window that shows another page is found. */
void windows_body(struct player *self)
{
	while (!load_relaxed(&soak.stop)) {
		const weir_pfn_t page =
			(weir_pfn_t)(draw(&me->random, WINDOW_PAGES / WORKERS) * WORKERS +
				     self->number);
		uint64_t *word;
		void *at;
		int err;

		doing("weir_kmap", page);
		err = weir_kmap(soak.windows, page, &at);
		CHECK(!err, "weir_kmap: %s", strerrorname_np(-err));
		word = at;
		CHECK(*word == load_relaxed(&file.stamp[page]), "window on page %u shows %" PRIu64,
		      (unsigned)page, *word);
		*word = draw(&me->random, UINT64_MAX);
		store_relaxed(&file.stamp[page], *word);
		if (draw(&me->random, 8) == 0)
			pause_ms(1);
		CHECK(!weir_kunmap(soak.windows, at), "weir_kunmap");
		add_relaxed(&soak.window_uses, 1);
		if (draw(&me->random, 4) == 0)
			pause_ms(1);
	}
}

void far_end(void)
{
	int err = weir_kmap_destroy(soak.windows);

	CHECK(!err, "weir_kmap_destroy: %s", strerrorname_np(-err));
	close(file.fd);
	area_destroy(soak.far_area);
}
