/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * direct FILE READS: threads that read blocks of a file past the page cache, by every call that there is, into memory that is pressed out by
 * others all the while. What each word must be follows from its place in the file. Ends with 0, or 1 and says what was wrong; 77: no O_DIRECT here.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCK = 1 << 19, BLOCKS = 8, READERS = 3, PRESSERS = 2, PRESSED = 8 << 20, PAGE = 4096 };

static const char *name;
static unsigned reads_each;
static atomic_bool over;
static atomic_uint wrong;

static uint64_t word_at(uint64_t offset)
{
	return (offset + 1) * 0x9e3779b97f4a7c15u;
}

/* One block by one of the calls. The descriptor is the thread's own, since two of them move its offset. */
static ssize_t block_read(unsigned how, int fd, char *to, off_t offset)
{
	const struct iovec two[2] = {{to, BLOCK / 4}, {to + BLOCK / 4, BLOCK - BLOCK / 4}};

	switch (how % 6) {
	case 0:
		return pread(fd, to, BLOCK, offset);
	case 1:
		return preadv(fd, two, 2, offset);
	case 2:
		return lseek(fd, offset, SEEK_SET) < 0 ? -1 : read(fd, to, BLOCK);
	case 3:
		return preadv2(fd, two, 2, offset, 0);
	case 4:
		return lseek(fd, offset, SEEK_SET) < 0 ? -1 : preadv2(fd, two, 2, -1, 0);
	default:
		return lseek(fd, offset, SEEK_SET) < 0 ? -1 : readv(fd, two, 2);
	}
}

static void *reader(void *data)
{
	const unsigned id = (unsigned)(uintptr_t)data;
	const int fd = open(name, O_RDONLY | O_DIRECT);
	uint64_t random = id + 1;
	char *to = id % 2 ? mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				 -1, 0)
			  : aligned_alloc(PAGE, BLOCK);

	if (fd < 0 || !to || to == MAP_FAILED) {
		perror(name);
		exit(1);
	}
	for (unsigned i = 0; i < reads_each && !wrong; i++) {
		off_t offset;

		random = random * 6364136223846793005u + 1442695040888963407u;
		offset = (off_t)(random >> 33) % BLOCKS * BLOCK;
		memset(to, 0xee, BLOCK);
		if (block_read(i, fd, to, offset) != BLOCK) {
			fprintf(stderr, "read %u of reader %u: %s\n", i, id, strerror(errno));
			exit(1);
		}
		for (unsigned w = 0; w < BLOCK / 8; w++) {
			uint64_t seen;

			memcpy(&seen, to + (size_t)w * 8, 8);
			if (seen == word_at((uint64_t)offset + w * 8))
				continue;
			fprintf(stderr, "read %u of reader %u, word %u: expected %llx, seen %llx\n",
				i, id, w, (unsigned long long)word_at((uint64_t)offset + w * 8),
				(unsigned long long)seen);
			wrong++;
			break;
		}
	}
	close(fd);
	return NULL;
}

static void *presser(void *data)
{
	volatile uint64_t *p = malloc(PRESSED);
	uint64_t random = (uintptr_t)data;

	while (p && !over) {
		for (size_t at = 0; at < PRESSED / 8 && !over; at += PAGE / 8) {
			random = random * 6364136223846793005u + 1;
			p[at] = random;
		}
	}
	free((void *)(uintptr_t)p);
	return NULL;
}

/* What the kernel refuses it refuses here: memory that may not be written, or is none. */
static void refusals(void)
{
	const int fd = open(name, O_RDONLY | O_DIRECT);
	char *none = mmap(NULL, BLOCK, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	const struct iovec one = {none, BLOCK};

	if (fd < 0 || pread(fd, none, BLOCK, 0) != -1 || errno != EFAULT ||
	    preadv2(fd, &one, 1, -2, 0) != -1 || errno != EINVAL ||
	    preadv2(fd, &one, 1, 0, 1 << 30) != -1 || errno != EOPNOTSUPP ||
	    pread(fd, none, BLOCK, (off_t)BLOCK * BLOCKS) != 0 || read(-1, none, BLOCK) != -1 ||
	    errno != EBADF) {
		fprintf(stderr,
			"a read that cannot be: expected EFAULT, EINVAL, EOPNOTSUPP, 0 and EBADF; "
			"the last was %s\n",
			strerror(errno));
		exit(1);
	}
	munmap(none, BLOCK);
	close(fd);
}

static int file_make(void)
{
	uint64_t *block = malloc(BLOCK);
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);

	for (uint64_t b = 0; block && fd >= 0 && b < BLOCKS; b++) {
		for (uint64_t w = 0; w < BLOCK / 8; w++)
			block[w] = word_at(b * BLOCK + w * 8);
		if (write(fd, block, BLOCK) != BLOCK)
			return -1;
	}
	free(block);
	return fd < 0 || fsync(fd) || close(fd) ? -1 : 0;
}

int main(int argc, char **argv)
{
	pthread_t thread[READERS + PRESSERS];
	int fd;

	if (argc != 3)
		return 2;
	name = argv[1];
	reads_each = (unsigned)strtoul(argv[2], NULL, 0);
	if (file_make()) {
		perror(name);
		return 1;
	}
	fd = open(name, O_RDONLY | O_DIRECT);
	if (fd < 0)
		return 77;
	close(fd);
	refusals();
	for (uintptr_t i = 0; i < READERS + PRESSERS; i++) {
		if (pthread_create(&thread[i], NULL, i < READERS ? reader : presser, (void *)i))
			return 1;
	}
	for (unsigned i = 0; i < READERS + PRESSERS; i++) {
		if (i == READERS)
			over = true;
		pthread_join(thread[i], NULL);
	}
	return wrong != 0;
}
