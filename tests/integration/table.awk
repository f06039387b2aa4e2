# SPDX-License-Identifier: BSD-2-Clause
# Keeps all lines and counts all words; prints the lines backwards, then how often each word is there.
{
	line[NR] = $0
	for (i = 1; i <= NF; i++)
		count[$i]++
}

END {
	for (i = NR; i > 0; i--)
		print line[i]
	for (word in count)
		print count[word], word
}
