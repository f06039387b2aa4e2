/* SPDX-License-Identifier: BSD-2-Clause */
/* A program with such a library: it can have locales itself. */
#include <locale.h>
#include <stdio.h>

int early_library(void);

int main(void)
{
	if (early_library() || !setlocale(LC_ALL, "C.UTF-8") || !setlocale(LC_MESSAGES, "C"))
		return 1;
	puts("has locales");
	return 0;
}
