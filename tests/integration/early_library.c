/* SPDX-License-Identifier: BSD-2-Clause */
/* A library whose constructor makes a locale: the first malloc of the process is then libc's, with the lock of its locales (libp11-kit does so). */
#include <locale.h>

__attribute__((constructor)) static void early(void)
{
	freelocale(newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0));
}

/* Something to be linked for. */
__attribute__((visibility("default"))) int early_library(void);
int early_library(void)
{
	return 0;
}
