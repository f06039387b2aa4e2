/* SPDX-License-Identifier: BSD-2-Clause */
/* Text for programs: what other processes and users have named, so that it is valid wherever it is put. */
#ifndef WEIR_CLI_OUT_H
#define WEIR_CLI_OUT_H

#include <stdio.h>

/* With its quotes; what is not UTF-8 becomes U+FFFD. */
void json_string(FILE *out, const char *text);
/* The value of a label in Prometheus' text format, with its quotes. */
void label_value(FILE *out, const char *text);

#endif
