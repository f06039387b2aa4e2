/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tenants on the real kernel, by the public functions only. Every page says what it is, so that a wrong one is seen.
 *
 *   storm     regions of several containers under limits, threads that read and write them; meanwhile limits move, regions
 *             change hands with and without their pages, containers come and go, memory is asked back
 *   file      two regions over one file: charged once, to whoever came first, and uncharged with the last; larger than max
 *   refused   a page of a file that the limit has no room for is SIGBUS, and nothing stays charged
 *   readers   threads read one file through regions of several containers, which come and go, under limits
 *   eio       a page of a file that cannot be read is SIGBUS, nothing stays charged, and its neighbours are well
 *   oom       nothing can be reclaimed: the handler is asked, and without one a first touch is SIGBUS
 *   high      a tenant above high is throttled, and never fails
 *   swap      swap.max = 0 keeps a tenant's pages out of the file
 *   packets   memory for packets is charged to who asks for it
 *
 * stress_tenants [--seed N] [--seconds S] [--signal] [CASE]. --signal: threads serve their own faults. Prints its seed. 77: userfaultfd is not permitted.
 */
#include "tenants.h"

uint64_t seed;
double seconds = 2;
atomic_bool stop;
enum weir_mode mode = WEIR_MODE_THREAD;
unsigned kmap_slots;

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
		{"storm", case_storm},	   {"file", case_file}, {"refused", case_refused},
		{"readers", case_readers}, {"eio", case_eio},	{"oom", case_oom},
		{"high", case_high},	   {"swap", case_swap}, {"packets", case_packets},
	};
	const char *only = NULL;

	seed = (uint64_t)(now() * 1e9);
	for (int i = 1; i < argc && argv[i]; i++) {
		if (!strcmp(argv[i], "--seed") && argv[i + 1])
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--seconds") && argv[i + 1])
			seconds = strtod(argv[++i], NULL);
		else if (!strcmp(argv[i], "--signal"))
			mode = WEIR_MODE_SIGNAL;
		else if (!strcmp(argv[i], "--kmap") && argv[i + 1])
			kmap_slots = (unsigned)strtoul(argv[++i], NULL, 0);
		else
			only = argv[i];
	}
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (only && strcmp(only, cases[i].name) != 0)
			continue;
		printf("%s, seed %" PRIu64 "\n", cases[i].name, seed);
		fflush(stdout);
		atomic_store(&stop, false);
		cases[i].run();
	}
	return 0;
}
