/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * threads: many threads use the malloc heap in every way that a paged heap could get wrong, and compare every byte
 * with what it must be.
 *
 *     threads [-t THREADS] [-b BLOCKS] [-n STEPS] [-s SEED]
 *
 * Each thread has BLOCKS blocks of 1 KiB to 2 MiB, in chunks of 4 KiB. What a chunk must hold follows from the seed,
 * its block's id, its number and its version, so the oracle is a version per chunk, kept in static memory: it is not
 * in the heap, and cannot be lost with it. A thread's steps, drawn at random from the seed:
 *
 *   read a chunk, or a whole block;  write a chunk;  realloc;  free, then malloc, calloc (must be zero) or an aligned
 *   allocation;  exchange a block with another thread;  give chunks, absent or not, to writev, readv and read.
 *
 * Ends with 0; with 1 and one line that says what was wrong where; with 2 if it could not run.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	CHUNK = 4096,
	SIZE_MIN_LOG = 10, /* blocks are 1 KiB ... */
	SIZE_MAX_LOG = 21, /* ... to 2 MiB, as many in each power of two */
	CHUNKS = (1 << SIZE_MAX_LOG) / CHUNK,
	BLOCKS_MAX = 256,
	THREADS_MAX = 32,
	AT_ONCE = 4, /* chunks in one vectored call: all fit into a pipe */
};

/* The chunk was left all zero by calloc or read: a bit beside its version. */
static const uint32_t ZERO = 1u << 31;

struct block {
	unsigned char *data;
	size_t size;
	uint64_t id;
	uint32_t version[CHUNKS]; /* never the same again for other contents; with ZERO: all zero */
};

struct thread {
	pthread_t thread;
	uint64_t random; /* state of the generator */
	uint64_t made;	 /* blocks so far, for their ids */
	uint64_t digest;
	unsigned number;
	int pipe[2], zero;
	struct block block[BLOCKS_MAX];
};

static struct thread all[THREADS_MAX];
static unsigned threads = 4, blocks = 100;
static unsigned long steps = 40000;
static uint64_t seed;

/* Blocks on their way from one thread to another. */
static pthread_mutex_t mailbox_lock = PTHREAD_MUTEX_INITIALIZER;
static struct block mailbox[8];

static _Noreturn void cannot(const char *what)
{
	fprintf(stderr, "threads: %s: %m\n", what);
	_exit(2);
}

static _Noreturn void wrong(const struct thread *self, const struct block *block, size_t at,
			    const char *what, unsigned seen, unsigned expected)
{
	fprintf(stderr,
		"threads: seed %llu: thread %u: %s: block %#llx of %zu bytes at %p: byte %zu "
		"(chunk %zu, version %u)"
		" is %#x, expected %#x\n",
		(unsigned long long)seed, self->number, what, (unsigned long long)block->id,
		block->size, (void *)block->data, at, at / CHUNK, block->version[at / CHUNK], seen,
		expected);
	_exit(1);
}

static _Noreturn void wrong_call(const struct thread *self, const char *what, ssize_t seen,
				 size_t expected)
{
	fprintf(stderr,
		"threads: seed %llu: thread %u: %s gave %zd, expected %zu; errno says: %m\n",
		(unsigned long long)seed, self->number, what, seen, expected);
	_exit(1);
}

static uint64_t mixed(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static uint64_t draw(struct thread *self, uint64_t below)
{
	assert(below);
	self->random += 0x9e3779b97f4a7c15u;
	return mixed(self->random) % below;
}

static size_t chunk_len(const struct block *block, size_t chunk)
{
	size_t left = block->size - chunk * CHUNK;

	return left < CHUNK ? left : CHUNK;
}

static size_t chunk_count(const struct block *block)
{
	return (block->size + CHUNK - 1) / CHUNK;
}

/* Four kinds, so that pages are incompressible, compressible, filled with one word, and nearly empty. */
static void pattern(const struct block *block, size_t chunk, uint32_t version, void *to)
{
	uint64_t *word = to,
		 base = mixed(seed ^ mixed(block->id ^ mixed((uint64_t)chunk << 32 | version)));

	if (version & ZERO) {
		memset(to, 0, CHUNK);
		return;
	}
	for (size_t i = 0; i < CHUNK / sizeof(*word); i++) {
		switch (base & 3) {
		case 0:
			word[i] = mixed(base + i);
			break;
		case 1:
			word[i] = 0x2020202020202020u | (mixed(base + i / 4) & 0x0f0f0f0f0f0f0f0fu);
			break;
		case 2:
			word[i] = base;
			break;
		default:
			word[i] = i % 64 ? 0 : base + i;
		}
	}
}

static void compare(struct thread *self, const struct block *block, size_t chunk,
		    const unsigned char *seen, size_t len, const char *what)
{
	alignas(64) unsigned char expected[CHUNK];

	pattern(block, chunk, block->version[chunk], expected);
	if (memcmp(seen, expected, len) != 0) {
		size_t at = 0;

		while (seen[at] == expected[at] && at < len - 1)
			at++;
		wrong(self, block, chunk * CHUNK + at, what, seen[at], expected[at]);
	}
	self->digest = mixed(self->digest ^ expected[len / 2]);
}

static void verify(struct thread *self, const struct block *block, size_t chunk, const char *what)
{
	compare(self, block, chunk, block->data + chunk * CHUNK, chunk_len(block, chunk), what);
}

static void verify_all(struct thread *self, const struct block *block, const char *what)
{
	for (size_t chunk = 0; chunk < chunk_count(block); chunk++)
		verify(self, block, chunk, what);
}

/* What the chunk is to hold from now on. */
static void renew(struct block *block, size_t chunk, unsigned char *bytes)
{
	block->version[chunk] = (block->version[chunk] & ~ZERO) + 1;
	pattern(block, chunk, block->version[chunk], bytes);
}

static void rewrite(struct block *block, size_t chunk)
{
	alignas(64) unsigned char bytes[CHUNK];

	renew(block, chunk, bytes);
	memcpy(block->data + chunk * CHUNK, bytes, chunk_len(block, chunk));
}

/* ---- steps ---- */

static size_t random_size(struct thread *self)
{
	size_t power = (size_t)1 << (SIZE_MIN_LOG + draw(self, SIZE_MAX_LOG - SIZE_MIN_LOG));

	return power + draw(self, power);
}

static void *aligned(struct thread *self, size_t size)
{
	size_t alignment = (size_t)1 << (4 + draw(self, 13)); /* 16 bytes to 64 KiB */
	void *data = NULL;

	if (draw(self, 2)) {
		if (posix_memalign(&data, alignment, size) != 0)
			cannot("posix_memalign");
	} else {
		data = aligned_alloc(alignment, (size + alignment - 1) & -alignment);
	}
	if ((uintptr_t)data & (alignment - 1))
		wrong_call(self, "an aligned allocation: address modulo alignment",
			   (ssize_t)((uintptr_t)data & (alignment - 1)), 0);
	return data;
}

static void make(struct thread *self, struct block *block)
{
	uint64_t how = draw(self, 3);

	block->size = random_size(self);
	block->id = (uint64_t)self->number << 32 | ++self->made;
	memset(block->version, 0, sizeof(block->version));
	if (how == 0)
		block->data = calloc(1, block->size);
	else
		block->data = how == 1 ? malloc(block->size) : aligned(self, block->size);
	if (!block->data)
		cannot("malloc");
	for (size_t chunk = 0; chunk < chunk_count(block); chunk++) {
		if (how == 0)
			block->version[chunk] = ZERO;
		else
			rewrite(block, chunk);
	}
	/* Most are looked at now, some only after they have been elsewhere. */
	if (how == 0 && draw(self, 4))
		verify_all(self, block, "calloc");
}

static void step_realloc(struct thread *self, struct block *block)
{
	size_t new_size = random_size(self);
	size_t kept = new_size < block->size ? new_size : block->size;
	unsigned char *data = realloc(block->data, new_size);

	if (!data)
		cannot("realloc");
	block->data = data;
	block->size = new_size;
	for (size_t chunk = 0; chunk * CHUNK < kept; chunk++) {
		size_t len = kept - chunk * CHUNK;

		compare(self, block, chunk, block->data + chunk * CHUNK, len < CHUNK ? len : CHUNK,
			"realloc");
	}
	/* From the chunk in which the old contents ended. */
	for (size_t chunk = kept / CHUNK; chunk < chunk_count(block); chunk++)
		rewrite(block, chunk);
}

static void step_exchange(struct thread *self, struct block *block)
{
	static _Thread_local struct block other;
	struct block *slot = &mailbox[draw(self, sizeof(mailbox) / sizeof(*mailbox))];

	pthread_mutex_lock(&mailbox_lock);
	other = *slot;
	*slot = *block;
	pthread_mutex_unlock(&mailbox_lock);
	if (other.data) {
		*block = other;
		verify(self, block, draw(self, chunk_count(block)), "a block of another thread");
	} else {
		make(self, block);
	}
}

/* Some chunks, each of another block. */
static size_t choose(struct thread *self, struct block **block, size_t *chunk, struct iovec *iov)
{
	unsigned first = (unsigned)draw(self, blocks), count = 1 + (unsigned)draw(self, AT_ONCE);
	size_t total = 0;

	for (unsigned i = 0; i < AT_ONCE; i++) {
		block[i] = &self->block[(first + i * (blocks / AT_ONCE)) % blocks];
		chunk[i] = draw(self, chunk_count(block[i]));
		iov[i].iov_base = block[i]->data + chunk[i] * CHUNK;
		iov[i].iov_len = i < count ? chunk_len(block[i], chunk[i]) : 0;
		total += iov[i].iov_len;
	}
	return total;
}

static void step_writev(struct thread *self)
{
	alignas(64) unsigned char bytes[CHUNK];
	struct block *block[AT_ONCE];
	struct iovec iov[AT_ONCE];
	size_t chunk[AT_ONCE], total = choose(self, block, chunk, iov);
	ssize_t n = writev(self->pipe[1], iov, AT_ONCE);

	if (n != (ssize_t)total)
		wrong_call(self, "writev", n, total);
	for (unsigned i = 0; i < AT_ONCE; i++) {
		n = read(self->pipe[0], bytes, iov[i].iov_len);
		if (n != (ssize_t)iov[i].iov_len)
			wrong_call(self, "read after writev", n, iov[i].iov_len);
		if (n)
			compare(self, block[i], chunk[i], bytes, (size_t)n, "writev");
	}
}

static void step_readv(struct thread *self)
{
	alignas(64) unsigned char bytes[CHUNK];
	struct block *block[AT_ONCE];
	struct iovec iov[AT_ONCE];
	size_t chunk[AT_ONCE], total = choose(self, block, chunk, iov);
	ssize_t n;

	for (unsigned i = 0; i < AT_ONCE; i++) {
		if (!iov[i].iov_len)
			continue;
		renew(block[i], chunk[i], bytes);
		n = write(self->pipe[1], bytes, iov[i].iov_len);
		if (n != (ssize_t)iov[i].iov_len)
			wrong_call(self, "write before readv", n, iov[i].iov_len);
	}
	n = readv(self->pipe[0], iov, AT_ONCE);
	if (n != (ssize_t)total)
		wrong_call(self, "readv", n, total);
	for (unsigned i = 0; i < AT_ONCE; i++) {
		if (iov[i].iov_len)
			verify(self, block[i], chunk[i], "readv");
	}
}

/* A whole block at once from /dev/zero: many absent pages in one call. */
static void step_read(struct thread *self, struct block *block)
{
	ssize_t n = read(self->zero, block->data, block->size);

	if (n != (ssize_t)block->size)
		wrong_call(self, "read from /dev/zero", n, block->size);
	for (size_t chunk = 0; chunk < chunk_count(block); chunk++)
		block->version[chunk] |= ZERO;
	verify(self, block, draw(self, chunk_count(block)), "read");
}

static void step(struct thread *self)
{
	struct block *block = &self->block[draw(self, blocks)];
	size_t chunk = draw(self, chunk_count(block));
	uint64_t what = draw(self, 1000);

	if (what < 450) {
		verify(self, block, chunk, "read");
	} else if (what < 750) {
		rewrite(block, chunk);
	} else if (what < 830) {
		step_writev(self);
	} else if (what < 910) {
		step_readv(self);
	} else if (what < 950) {
		step_exchange(self, block);
	} else if (what < 960) {
		verify_all(self, block, "a whole block");
	} else if (what < 980) {
		step_realloc(self, block);
	} else if (what < 985) {
		step_read(self, block);
	} else {
		verify(self, block, chunk, "read before free");
		free(block->data);
		make(self, block);
	}
}

static void *run(void *arg)
{
	struct thread *self = arg;

	for (unsigned i = 0; i < blocks; i++)
		make(self, &self->block[i]);
	for (unsigned long i = 0; i < steps; i++)
		step(self);
	for (unsigned i = 0; i < blocks; i++) {
		verify_all(self, &self->block[i], "at the end");
		free(self->block[i].data);
	}
	return NULL;
}

/* NOLINTBEGIN(concurrency-mt-unsafe): before there are threads */
static unsigned long number(const char *text, unsigned long min, unsigned long max)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (!*text || *end || value < min || value > max) {
		fprintf(stderr, "threads: %s: expected a number from %lu to %lu\n", text, min, max);
		exit(2);
	}
	return value;
}

static void parse(int argc, char **argv)
{
	int option;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		cannot("getrandom");
	seed >>= 32;
	while ((option = getopt(argc, argv, "t:b:n:s:")) != -1) {
		switch (option) {
		case 't':
			threads = (unsigned)number(optarg, 1, THREADS_MAX);
			break;
		case 'b':
			blocks = (unsigned)number(optarg, AT_ONCE, BLOCKS_MAX);
			break;
		case 'n':
			steps = number(optarg, 0, 1000000000);
			break;
		case 's':
			seed = number(optarg, 0, UINT32_MAX);
			break;
		default:
			fprintf(stderr,
				"usage: threads [-t THREADS] [-b BLOCKS] [-n STEPS] [-s SEED]\n");
			exit(2);
		}
	}
}
/* NOLINTEND(concurrency-mt-unsafe) */

int main(int argc, char **argv)
{
	static struct thread end = {.number = THREADS_MAX};

	parse(argc, argv);
	printf("seed %llu: %u threads, %u blocks each, %lu steps each\n", (unsigned long long)seed,
	       threads, blocks, steps);
	fflush(stdout);
	for (unsigned i = 0; i < threads; i++) {
		all[i].number = i;
		all[i].random = mixed(seed ^ mixed(i + 1));
		if (pipe2(all[i].pipe, O_CLOEXEC) < 0)
			cannot("pipe");
		all[i].zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
		if (all[i].zero < 0)
			cannot("/dev/zero");
		errno = pthread_create(&all[i].thread, NULL, run, &all[i]);
		if (errno)
			cannot("pthread_create");
	}
	for (unsigned i = 0; i < threads; i++) {
		errno = pthread_join(all[i].thread, NULL);
		if (errno)
			cannot("pthread_join");
		end.digest ^= all[i].digest;
	}
	for (size_t i = 0; i < sizeof(mailbox) / sizeof(*mailbox); i++) {
		if (mailbox[i].data)
			verify_all(&end, &mailbox[i], "in the mailbox at the end");
		free(mailbox[i].data);
	}
	printf("every byte was right; digest %016llx\n", (unsigned long long)end.digest);
	return 0;
}
