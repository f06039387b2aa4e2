/* SPDX-License-Identifier: BSD-2-Clause */
#include "out.h"

#include <stdint.h>

/* Bytes of the character at text, 0: it is none (RFC 3629: no long forms, no surrogates, nothing above U+10FFFF). */
static unsigned utf8_length(const unsigned char *text)
{
	static const struct {
		unsigned char first, last, low, high; /* of the first byte, and of the second */
		unsigned length;
	} forms[] = {
		{0x01, 0x7f, 0, 0, 1},	     {0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		unsigned n = 1;

		if (text[0] < forms[i].first || text[0] > forms[i].last)
			continue;
		if (forms[i].length > 1 && (text[1] < forms[i].low || text[1] > forms[i].high))
			return 0;
		while (n < forms[i].length && (n < 2 || (text[n] & 0xc0) == 0x80))
			n++;
		return n == forms[i].length ? n : 0;
	}
	return 0;
}

/* Which of the characters that are to be escaped become what. */
static void quoted(FILE *out, const char *text, const char *escape, const char *as,
		   const char *control)
{
	fputc('"', out);
	while (*text) {
		const unsigned char *at = (const unsigned char *)text;
		unsigned length = utf8_length(at), i = 0;

		while (escape[i] && escape[i] != *text)
			i++;
		if (escape[i])
			fprintf(out, "\\%c", as[i]);
		else if (!length)
			fputs("\xef\xbf\xbd", out);
		else if (*at < ' ' && control)
			fprintf(out, control, *at);
		else
			fwrite(text, 1, length, out);
		text += length ? length : 1;
	}
	fputc('"', out);
}

void json_string(FILE *out, const char *text)
{
	quoted(out, text, "\"\\\n\t", "\"\\nt", "\\u%04x");
}

void label_value(FILE *out, const char *text)
{
	quoted(out, text, "\"\\\n", "\"\\n", NULL);
}
