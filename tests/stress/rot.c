/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rot: what weir keeps of a page changes behind its back, in memory and in the file.
 *
 * What must hold: the reader of such a page gets SIGBUS (EFAULT in a system call), nobody sees a wrong byte, nothing
 * hangs or crashes, and all other pages go on. A discard makes the page usable again.
 *
 * The objects in memory are found by their header in the big mapping of the pool; the file is opened through the
 * descriptor table of weir's threads. Both happen while the instance is at rest.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "lost.h"
#include "os/mem.h"
#include "os/uffd.h"
#include "store/object.h"
#include "stress.h"

static const unsigned texts[KINDS] = {0, 0, 1, 0}, mixture[KINDS] = {0, 0, 3, 2};

/* A lost page says so to everybody, and is a page like any other after a discard. */
static void lost_and_found(struct area *area, uint32_t cell, int pipe)
{
	char *address = cell_address(area, cell);
	ssize_t n;

	CHECK(is_lost(area, cell), "a lost page was readable later");
	n = syscall(SYS_write, pipe, address, 1);
	CHECK(n == -1 && errno == EFAULT, "write(2) of a lost page gave %zd, %s", n,
	      strerrorname_np(errno));
	CHECK(!weir_region_discard(area->weir, address, PAGE_SIZE), "weir_region_discard failed");
	cell_note(area, cell, (struct contents){.kind = ZERO});
	CHECK(!is_lost(area, cell), "a page is lost after its discard");
	cell_check(area, cell, "reading after a discard");
	cell_write(area, cell, contents_new(area, &me->random));
	cell_check(area, cell, "reading what was written after a discard");
}

/* --- objects in memory --- */

/* ThreadSanitizer would see races with weir's threads, which are at rest. */
NO_TSAN static bool is_object_of(const struct object *obj, page_no_t page)
{
	return obj->page == page && obj->bytes <= PAGE_SIZE &&
	       (obj->codec == (setup.compress ? CODEC_ZSTD : CODEC_LZ4) || obj->codec == CODEC_RAW);
}

NO_TSAN static unsigned hurt_in_page(char *at, page_no_t page, void (*hurt)(struct object *))
{
	unsigned found = 0;

	for (size_t slot = 0; slot < PAGE_SIZE; slot += 64) {
		struct object *obj = (struct object *)(at + slot);

		if (is_object_of(obj, page)) {
			hurt(obj);
			found++;
		}
	}
	return found;
}

static unsigned hurt_in_mapping(char *from, char *to, page_no_t page, void (*hurt)(struct object *))
{
	enum { STEP = 32768 };
	static uint8_t there[STEP / 8];
	unsigned found = 0;

	for (char *at = from; at < to; at += STEP * PAGE_SIZE) {
		size_t pages = MIN((size_t)STEP, (size_t)(to - at) >> PAGE_SHIFT);

		CHECK(!mem_resident(at, pages << PAGE_SHIFT, there), "mincore of the pool");
		for (size_t i = 0; i < pages; i++) {
			if (there[i / 8] >> (i % 8) & 1)
				found += hurt_in_page(at + (i << PAGE_SHIFT), page, hurt);
		}
	}
	return found;
}

/* A mapping without a file, as /proc/self/maps has it. */
struct mapping {
	uintptr_t from, to;
	bool open; /* to read and write; else closed */
};

static unsigned mappings_read(struct mapping *list, unsigned most)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned count = 0;
	char line[512];

	CHECK(maps, "/proc/self/maps");
	while (count < most && fgets(line, sizeof(line), maps)) {
		struct mapping *m = &list[count];
		char access[5];
		int name = 0;

		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*x %*s 0 %n", &m->from, &m->to,
			   access, &name) < 3 ||
		    !name || line[name] == '[')
			continue;
		m->open = !strcmp(access, "rw-p");
		count += m->open || !strcmp(access, "---p");
	}
	fclose(maps);
	return count;
}

/* All copies of a page, old ones too. The pool reserves as much as the machine has, in whole blocks of 16 MiB, and only it
 * does. What of it is not online is closed, and that is most of it, up to its end. */
static void hurt_object(const struct area *area, uint32_t cell, void (*hurt)(struct object *))
{
	enum { MAPPINGS = 4096 };
	static struct mapping list[MAPPINGS];
	const size_t reserved = ALIGN_UP(MIN(mem_machine(), GIB(256)), MIB(16));
	const unsigned count = mappings_read(list, MAPPINGS);
	uintptr_t start = 0, end = 0;
	unsigned found = 0;

	doing("look for an object", cell);
	for (unsigned i = 0; i < count; i++) {
		const size_t bytes = list[i].to - list[i].from;

		if (!list[i].open && bytes <= reserved && bytes > reserved / 2) {
			end = list[i].to;
			start = end - reserved;
		}
	}
	CHECK(end, "no pool among the mappings");
	for (unsigned i = 0; i < count; i++) {
		const uintptr_t from = MAX(list[i].from, start), to = MIN(list[i].to, end);

		if (list[i].open && from < to)
			found += hurt_in_mapping((char *)from, (char *)to,
						 (uintptr_t)cell_address(area, cell) >> PAGE_SHIFT,
						 hurt);
	}
	CHECK(found, "the copy of page %u is not in memory", cell);
}

NO_TSAN static void hurt_packed(struct object *obj)
{
	obj->packed[obj->bytes / 2] ^= 0x10;
}

NO_TSAN static void hurt_check(struct object *obj)
{
	obj->check++;
}

NO_TSAN static void hurt_owner(struct object *obj)
{
	obj->page += 1;
}

NO_TSAN static void hurt_owner_wildly(struct object *obj)
{
	obj->page ^= 1ull << 33;
}

NO_TSAN static void hurt_length(struct object *obj)
{
	obj->bytes--;
}

NO_TSAN static void hurt_length_by_half(struct object *obj)
{
	obj->bytes /= 2;
}

NO_TSAN static void hurt_length_wildly(struct object *obj)
{
	obj->bytes = 0x1fff;
}

NO_TSAN static void hurt_codec(struct object *obj)
{
	obj->codec ^= CODEC_RAW | CODEC_LZ4;
}

static void (*const hurts[])(struct object *) = {
	hurt_packed, hurt_check,	  hurt_owner,	      hurt_owner_wildly,
	hurt_length, hurt_length_by_half, hurt_length_wildly, hurt_codec,
};

/* Reads others until the page is not in memory. */
static void leave(struct area *area, uint32_t cell, struct area *others)
{
	for (uint32_t i = 0; page_resident(cell_address(area, cell)); i++) {
		CHECK(i < 1000 * others->cells, "page %u stays in memory whatever is touched",
		      cell);
		doing("push out", i);
		cell_check(others, (uint32_t)draw(&me->random, others->cells), "reading others");
	}
	(void)stats_settled(area->weir);
}

static void rot_in_memory(int pipe)
{
	struct weir *weir = open_or_skip(MIB(2));
	/* The others alone are nearly as large as the limit, so that they push the area out. Together they compress to less than
	 * the store's share: nothing goes to the file. */
	struct area *area = area_create(weir, 192, 1, texts),
		    *others = area_create(weir, 448, 1, texts);
	unsigned lost = 0;

	area_fill(area);
	area_fill(others);
	for (unsigned round = 0; round < 3 * ARRAY_SIZE(hurts); round++) {
		uint32_t cell = (uint32_t)draw(&me->random, area->cells);

		leave(area, cell, others);
		hurt_object(area, cell, hurts[round % ARRAY_SIZE(hurts)]);
		/* Who pins it is told by an error. */
		if (round % 2) {
			doing("pin what is lost", cell);
			CHECK(weir_region_pin(weir, cell_address(area, cell), PAGE_SIZE,
					      round % 4 == 1) == -EIO,
			      "weir_region_pin said nothing of a lost page");
		}
		CHECK(is_lost(area, cell), "kind %u of rot was not noticed",
		      round % (unsigned)ARRAY_SIZE(hurts));
		CHECK(stats_now(weir).poisoned == ++lost,
		      "%" PRIu64 " pages poisoned instead of %u", stats_now(weir).poisoned, lost);
		CHECK(weir_before_fork(weir) == -EIO,
		      "weir_before_fork said nothing of a lost page");
		weir_after_fork(weir);
		lost_and_found(area, cell, pipe);
		area_check(area, "check after rot");
	}
	CHECK(!stats_now(weir).written, "the file was used");
	stats_check(weir, (struct area *[]){area, others}, 2);
	area_destroy(area);
	area_destroy(others);
	stats_check_empty(weir);
	weir_close(weir);
}

/* The rotten objects are moved, by compaction or to the file, before anybody reads them. */
static void rot_on_its_way(uint64_t limit_after, bool sparse)
{
	struct weir *weir = open_or_skip(MIB(24));
	struct area *area = area_create(weir, 9000, 1, texts);
	enum { STRIDE = 4, FIRST = 1000 };
	struct weir_stats before, after;
	unsigned lost = 0;

	area_fill(area);
	before = stats_settled(weir);
	CHECK(before.compressed > MIB(5), "only %" PRIu64 " bytes are compressed",
	      before.compressed);
	for (unsigned i = 0; i < ARRAY_SIZE(hurts); i++)
		hurt_object(area, FIRST + i * STRIDE, hurts[i]);
	/* Three pages of four go: what is left is moved together, where there is no reason to write it. */
	for (uint32_t i = 0; sparse && i < area->cells; i++) {
		doing("discard", i);
		if (i % STRIDE == 0)
			continue;
		CHECK(!weir_region_discard(weir, cell_address(area, i), PAGE_SIZE),
		      "discard failed");
		cell_note(area, i, (struct contents){.kind = ZERO});
	}
	set_limit(weir, limit_after);
	after = stats_settled(weir);
	CHECK(after.compressed <= limit_after / 4 * 3 + MIB(1),
	      "compressed stays at %" PRIu64 ", limit %" PRIu64, after.compressed, limit_after);
	CHECK(sparse || after.written > before.written, "nothing was written");
	for (uint32_t i = 0; i < area->cells; i++) {
		if (is_lost(area, i)) {
			lost++;
			CHECK(i >= FIRST && i < FIRST + STRIDE * ARRAY_SIZE(hurts) &&
				      i % STRIDE == 0,
			      "page %u is lost and was not hurt", i);
		} else {
			cell_check(area, i, "reading after rot");
		}
	}
	CHECK(lost == ARRAY_SIZE(hurts), "%u pages are lost, %u were hurt", lost,
	      (unsigned)ARRAY_SIZE(hurts));
	area_destroy(area);
	stats_check_empty(weir);
	weir_close(weir);
}

/* --- the file --- */

/* Opens the unlinked file of cold pages anew, through the descriptors of the background thread. */
static int open_file(void)
{
	DIR *tasks = opendir("/proc/self/task");
	int file = -1;

	CHECK(tasks, "/proc/self/task");
	for (struct dirent *d; file < 0 && (d = readdir(tasks));) {
		for (int fd = 0; fd < 512 && file < 0; fd++) {
			char path[NAME_MAX + 64], to[PATH_MAX];
			ssize_t n;

			snprintf(path, sizeof(path), "/proc/self/task/%s/fd/%d", d->d_name, fd);
			n = readlink(path, to, sizeof(to) - 1);
			if (n <= 0)
				continue;
			to[n] = '\0';
			/* O_TMPFILE: "/var/tmp/#1234 (deleted)" */
			if (to[0] == '/' && strstr(to, "(deleted)") && !strstr(to, "memfd"))
				file = open(path, O_RDWR | O_CLOEXEC);
		}
	}
	closedir(tasks);
	return file;
}

static void file_rot(int file)
{
	struct stat st;
	char sector[512];

	CHECK(!fstat(file, &st) && st.st_size > (off_t)MIB(1), "the file is small: %jd",
	      (intmax_t)st.st_size);
	for (off_t at = 0; at < st.st_size; at += (off_t)(1 + draw(&me->random, 400)) * 512) {
		doing("rot in the file", (uint64_t)at);
		CHECK(pread(file, sector, sizeof(sector), at) == sizeof(sector),
		      "reading the file");
		if (draw(&me->random, 2))
			sector[draw(&me->random, sizeof(sector))] ^=
				(char)(1 << draw(&me->random, 8));
		else
			memset(sector, (int)draw(&me->random, 256), sizeof(sector));
		CHECK(pwrite(file, sector, sizeof(sector), at) == sizeof(sector),
		      "writing the file");
	}
	CHECK(!fsync(file), "fsync: %s", strerrorname_np(errno));
}

static void rot_in_file(int pipe)
{
	struct weir *weir = open_or_skip(MIB(2));
	struct area *area = area_create(weir, 2048, 1, mixture);
	unsigned lost = 0, right = 0;
	int file;

	area_fill(area);
	(void)stats_settled(weir);
	file = open_file();
	CHECK(file >= 0, "the file of cold pages was not found");
	file_rot(file);
	for (uint32_t i = 0; i < area->cells; i++) {
		if (is_lost(area, i)) {
			lost++;
			lost_and_found(area, i, pipe);
		} else {
			cell_check(area, i, "reading after rot");
			right++;
		}
	}
	printf("rot in the file: %u pages lost, %u right\n", lost, right);
	CHECK(lost && right, "the run idled");
	close(file);
	area_check(area, "check after rot");
	area_destroy(area);
	stats_check_empty(weir);
	weir_close(weir);
}

/* See the top. */
void case_rot(void)
{
	uint64_t features = 0;
	int pipes[2];

	if (!uffd_probe(&features) && !(features & UFFD_HAS_POISON)) {
		printf("skipped: this kernel has no UFFDIO_POISON\n");
		exit(77);
	}
	lost_init();
	CHECK(!pipe(pipes), "pipe");
	rot_in_memory(pipes[1]);
	rot_in_file(pipes[1]);
	rot_on_its_way(MIB(4), false);
	rot_on_its_way(MIB(24), true);
}
