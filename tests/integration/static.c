/* SPDX-License-Identifier: BSD-2-Clause */
/* Linked statically, so nothing can be loaded into it. Makes the files that it is given: whoever ran it sees that. */
#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		int fd = open(argv[i], O_WRONLY | O_CREAT, 0644);

		if (fd < 0)
			return 1;
		close(fd);
	}
	return 0;
}
