# SPDX-License-Identifier: BSD-2-Clause
# A large associative array, built, read back and verified; sums over it.
function value(i, k) {
	return "text of " i " and " k
}

BEGIN {
	count = 150000
	for (i = 0; i < count; i++) {
		k = (i * 7919) % 1000003
		table["k" k] = value(i, k)
		sum[k % 1000] += i
	}
	for (i = 0; i < count; i++) {
		k = (i * 7919) % 1000003
		if (table["k" k] != value(i, k))
			wrong++
		digest = (digest * 31 + length(table["k" k])) % 1000000007
	}
	for (k = 0; k < 1000; k++)
		print k, sum[k]
	print "digest", digest, "wrong", wrong + 0
}
