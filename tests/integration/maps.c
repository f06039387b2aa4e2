/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * maps: what programs do with mmap and its kin, against an oracle of what every byte must be.
 *
 *     maps storm THREADS ROUNDS [SEED]   random mappings, each thread's own, and what each page must hold
 *     maps profiled THREADS ROUNDS SEED  the same under a storm of SIGPROF, whose handler looks at memory, too
 *     maps rules                         one case each: errors, what is mapped, guards, MAP_FIXED, mremap
 *     maps fork                          the child sees what the parent had mapped; advice about forks is kept
 *
 * Ends with 0; 1 and a line that says what was wrong; 2 if it could not run.
 */
#include <setjmp.h>
#include <signal.h>

#include "maps.h"

unsigned long long seed_given;

static __thread sigjmp_buf back;
static __thread volatile sig_atomic_t expecting;

static void on_segv(int sig)
{
	if (!expecting)
		_exit(100 + sig);
	siglongjmp(back, 1);
}

bool touches(volatile unsigned char *p, bool write)
{
	bool done = false;

	expecting = 1;
	if (!sigsetjmp(back, 1)) {
		unsigned char c = *p;

		if (write)
			*p = c;
		done = true;
	}
	expecting = 0;
	return done;
}

/* A page's first and last word, and some between; some pages compress, some are one word throughout, some do neither. */
void page_write(unsigned char *page, uint32_t value)
{
	uint32_t *w = (uint32_t *)page;

	for (unsigned i = 0; i < PAGE / 4; i++)
		w[i] = value % 3 == 0	? value
		       : value % 3 == 1 ? value + i / 64
					: value * (i + 1) * 2654435761u;
}

bool page_holds(const unsigned char *page, uint32_t value)
{
	const uint32_t *w = (const uint32_t *)page;

	for (unsigned i = 0; i < PAGE / 4; i++) {
		uint32_t is = !value	       ? 0
			      : value % 3 == 0 ? value
			      : value % 3 == 1 ? value + i / 64
					       : value * (i + 1) * 2654435761u;

		if (w[i] != is) {
			fprintf(stderr, "maps: word %u of %p is %#x, expected %#x\n", i,
				(const void *)page, w[i], is);
			return false;
		}
	}
	return true;
}

unsigned char *map(size_t pages, int prot)
{
	unsigned char *p = mmap(NULL, pages * PAGE, prot, ANON, -1, 0);

	must(p != MAP_FAILED);
	return p;
}

void fill(unsigned char *p, size_t pages, uint32_t value)
{
	for (size_t i = 0; i < pages; i++)
		page_write(p + i * PAGE, value + (uint32_t)i);
}

void holds(unsigned char *p, size_t pages, uint32_t value)
{
	for (size_t i = 0; i < pages; i++)
		must(page_holds(p + i * PAGE, value + (uint32_t)i));
}

int main(int argc, char **argv)
{
	const struct sigaction action = {.sa_handler = on_segv};

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	if (argc >= 4 && !strcmp(argv[1], "storm")) {
		seed_given = argc > 4 ? strtoull(argv[4], NULL, 0) : (unsigned long long)getpid();
		return storm((unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
	}
	if (argc == 5 && !strcmp(argv[1], "profiled")) {
		seed_given = strtoull(argv[4], NULL, 0);
		return profiled((unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
	}
	if (argc == 2 && !strcmp(argv[1], "rules"))
		return rules();
	if (argc == 2 && !strcmp(argv[1], "fork"))
		return forks();
	fprintf(stderr, "maps: storm THREADS ROUNDS [SEED], rules or fork\n");
	return 2;
}
