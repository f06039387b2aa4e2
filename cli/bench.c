/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/base.h"
#include "base/log.h"
#include "cli.h"
#include "os/mem.h"
#include "os/thread.h"

static const char usage[] =
	"Usage: weir bench NAME [--json] [--svg FILE] [--quick]\n"
	"\n"
	"Measures what weir's parts cost on this machine, beside the least that the system calls\n"
	"alone would cost in the same run.\n"
	"\n"
	"  charge    what it costs to charge a page to a container and give it back, beside "
	"shared\n"
	"            counters and spinlocks\n"
	"  cmdq      commands appended to packets, simulated and disassembled a second; what "
	"packets "
	"cost of\n"
	"            a page that leaves\n"
	"  fault     how long a program waits for a page: first touches, reads of compressed "
	"pages,\n"
	"            writes to clean pages, reads of pages in the file; signal mode and thread "
	"mode;\n"
	"            many threads and handlers, woken in different ways\n"
	"  kmap      what it costs to reach a page that is not mapped, in six ways\n"
	"  paging    the same accesses to more memory than there is: weir, the kernel's swap on "
	"zram and\n"
	"            on a file, mmap, and the limit; as root it sets these up, and takes them "
	"down\n"
	"  pool      what a frame costs, and how fast blocks of memory come and go\n"
	"\n"
	"  --json    one JSON object instead of a text\n"
	"  --svg FILE  a picture, too (pool: by gnuplot)\n"
	"  --only GLOB  paging: only rows whose names match, like zram_text_*_2t, "
	"file_text_random_rw_1t,\n"
	"            mmap_text_seq_read_1t\n"
	"  --no-peers  paging: only weir and the limit\n"
	"  --runs N  paging: 1 to 5 runs; 3 otherwise\n"
	"  --quick   fewer and smaller runs, at most 20 s: shows that the bench works, for "
	"figures\n"
	"            leave it out\n"
	"\n"
	"Exits with 77 where userfaultfd is not permitted, 125 for a name or an option that there "
	"is not.\n";

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} benches[] = {
	{"charge", bench_charge}, {"cmdq", bench_cmdq},	    {"fault", bench_fault},
	{"kmap", bench_kmap},	  {"paging", bench_paging}, {"pool", bench_pool},
};

int cli_bench(int argc, char **argv)
{
	static const char names[] = "charge, cmdq, fault, kmap, paging and pool";

	if (argc < 2) {
		log_line("no bench named; there are %s: see `weir bench --help`", names);
		return EXIT_WEIR;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		fputs(usage, stdout);
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(benches); i++) {
		if (!strcmp(argv[1], benches[i].name))
			return benches[i].run(argc - 1, argv + 1);
	}
	log_line("no bench '%s'; there are %s: see `weir bench --help`", argv[1], names);
	return EXIT_WEIR;
}

int bench_options_parse(const char *name, int argc, char **argv, struct bench_options *options,
			int *status)
{
	memset(options, 0, sizeof(*options));
	*status = 0;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json")) {
			options->json = true;
		} else if (!strcmp(argv[i], "--quick")) {
			options->quick = true;
		} else if (!strcmp(argv[i], "--svg")) {
			if (++i == argc) {
				log_line("bench %s: --svg needs the name of a file for the picture",
					 name);
				*status = EXIT_WEIR;
				return -EINVAL;
			}
			options->svg = argv[i];
		} else if (!strcmp(name, "paging") && !strcmp(argv[i], "--no-peers")) {
			options->no_peers = true;
		} else if (!strcmp(name, "paging") && !strcmp(argv[i], "--runs")) {
			options->runs = ++i < argc ? (unsigned)strtoul(argv[i], NULL, 10) : 0;
			if (options->runs < 1 || options->runs > BENCH_RUNS) {
				log_line("bench paging: --runs needs a number from 1 to %d",
					 BENCH_RUNS);
				*status = EXIT_WEIR;
				return -EINVAL;
			}
		} else if (!strcmp(name, "paging") && !strcmp(argv[i], "--only")) {
			if (++i == argc) {
				log_line("bench paging: --only needs a pattern for names like "
					 "zram_text_random_read_1t");
				*status = EXIT_WEIR;
				return -EINVAL;
			}
			options->only = argv[i];
		} else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			fputs(usage, stdout);
			return -ECANCELED;
		} else {
			log_line("bench %s: no option '%s'; there are --json, --svg FILE and "
				 "--quick",
				 name, argv[i]);
			*status = EXIT_WEIR;
			return -EINVAL;
		}
	}
	return 0;
}

static size_t samples_bytes(unsigned room)
{
	return ALIGN_UP(room * sizeof(uint32_t), PAGE_SIZE);
}

int bench_samples_init(struct bench_samples *samples, unsigned room)
{
	*samples = (struct bench_samples){.ns = mem_alloc(samples_bytes(room)), .room = room};
	if (!samples->ns)
		return -ENOMEM;
	/* A first touch here must not be measured as part of something else. */
	memset(samples->ns, 1, samples_bytes(room));
	return 0;
}

void bench_samples_destroy(struct bench_samples *samples)
{
	mem_release(samples->ns, samples_bytes(samples->room));
	samples->ns = NULL;
}

void bench_samples_add(struct bench_samples *samples, uint64_t ns)
{
	if (samples->count < samples->room)
		samples->ns[samples->count++] = (uint32_t)MIN(ns, (uint64_t)UINT32_MAX);
}

static int compare_ns(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

struct bench_figures bench_samples_figures(struct bench_samples *samples)
{
	struct bench_figures f = {.count = samples->count};
	const unsigned n = samples->count;
	double sum = 0;

	if (!n)
		return f;
	qsort(samples->ns, n, sizeof(samples->ns[0]), compare_ns);
	for (unsigned i = 0; i < n; i++)
		sum += samples->ns[i];
	f.p50 = samples->ns[n / 2];
	f.p90 = samples->ns[(uint64_t)n * 90 / 100];
	f.p99 = samples->ns[(uint64_t)n * 99 / 100];
	f.max = samples->ns[n - 1];
	f.per_s = sum > 0 ? n * 1e9 / sum : 0;
	return f;
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct bench_spread bench_spread_of(const double *values, unsigned runs)
{
	double sorted[BENCH_RUNS];

	memcpy(sorted, values, runs * sizeof(sorted[0]));
	qsort(sorted, runs, sizeof(sorted[0]), compare_double);
	return (struct bench_spread){
		.median = (sorted[(runs - 1) / 2] + sorted[runs / 2]) / 2,
		.min = sorted[0],
		.max = sorted[runs - 1],
	};
}

void bench_machine_read(struct bench_machine *machine)
{
	struct utsname name;

	memset(machine, 0, sizeof(*machine));
	machine->cpus = thread_cpu_count();
	machine->mem_mib = mem_machine() >> 20;
	if (uname(&name) == 0)
		snprintf(machine->kernel, sizeof(machine->kernel), "%s", name.release);
	if (getloadavg(&machine->load, 1) != 1)
		machine->load = 0;
}

void bench_json_head(const char *name, const struct bench_machine *m, unsigned runs, bool quick)
{
	printf("{\"bench\": \"%s\", \"machine\": {\"cpus\": %u, \"kernel\": \"%s\", "
	       "\"mem_mib\": %llu, \"load\": %.2f}, \"runs\": %u, \"quick\": %s, ",
	       name, m->cpus, m->kernel, m->mem_mib, m->load, runs, quick ? "true" : "false");
}
