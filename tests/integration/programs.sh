#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# programs.sh sort | perl | awk | sqlite | python | memtester: a real program writes the same bytes, and ends with the same status, at
# limits of 1/2, 1/4 and 1/8 of the memory that it needs; it pages, and its peak stays within the limit.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

program=${1:?sort, perl, awk, sqlite, python or memtester}

# make_text MEGABYTES: text made of the machine's headers and documents: as often as it takes, each time a little different.
make_text()
{
	pass=0
	size=$(($1 * 1000 * 1000))
	: >"$tmp/text"
	while [ "$(stat -c %s "$tmp/text")" -lt $size ]; do
		pass=$((pass + 1))
		[ $pass -le 100 ] || fail "expected text in /usr/include and /usr/share; found too little"
		find /usr/include /usr/share/perl /usr/share/common-licenses -type f -size +0 \
			! -name '*.gz' -exec cat {} + 2>/dev/null |
			sed "s/\$/ $pass/" | head -c $size >>"$tmp/text"
	done
	truncate -s $size "$tmp/text"
	# The last line is cut anywhere: all programs agree on one that ends.
	echo >>"$tmp/text"
}

# plain FILE: without what differs each time: memtester locks its memory if it may, says so, and shows its progress.
plain()
{
	[ "$program" = memtester ] || return 0
	tr -d '\b' <"$1" | sed -n 's/  \([A-Z][^:]*:\).* \([a-zA-Z]*\)$/\1 \2/p' >"$tmp/plain"
	mv "$tmp/plain" "$1"
}

case $program in
sort)
	need_tools sort
	make_text 24
	set -- sort -S 1G "$tmp/text"
	;;
perl)
	need_tools perl
	# A page in three or four comes from the disk, one by one, at 1/8: that is the time it takes. KEYS=1000000 is the same at length.
	set -- perl "$here/hash.pl" "${KEYS:-50000}"
	patience=${PATIENCE:-1000}
	;;
awk)
	need_tools mawk
	make_text 2
	set -- mawk -f "$here/table.awk" "$tmp/text"
	;;
sqlite)
	need_tools sqlite3
	set -- sqlite3 -bail -init /dev/null :memory: ".read $here/queries.sql"
	;;
python)
	# Debian's own, not what else a PATH may find first.
	need_tools /usr/bin/python3
	set -- /usr/bin/python3 "$here/arrays.py"
	;;
memtester)
	need_tools memtester
	# Random values, XOR, sequential increments, beside the stuck addresses that it always looks for.
	export MEMTESTER_TEST_MASK=0x83
	set -- memtester 18M 1
	;;
*) fail "unknown program $program" ;;
esac
need_tools perl
need_userfaultfd

"$@" >"$tmp/alone.out" 2>"$tmp/alone.err"
alone_status=$?
plain "$tmp/alone.out"
[ -s "$tmp/alone.out" ] || failed_run alone "expected output of $program alone"

needs "$@"
plain "$tmp/huge.out"
[ "$need_status" -eq $alone_status ] ||
	failed_run huge "expected exit status $alone_status of $program at 8G, as alone; seen $need_status"
same "$tmp/huge.out" "$tmp/alone.out" "$program at 8G"
say "$program needs $need bytes"

for part in 2 4 8; do
	limit=$((need / part))
	under "1in$part" $limit "$@"
	[ "$status" -eq $alone_status ] ||
		failed_run "1in$part" "expected exit status $alone_status of $program at 1/$part; seen $status"
	plain "$tmp/1in$part.out"
	same "$tmp/1in$part.out" "$tmp/alone.out" "$program at 1/$part"
	check_paged "1in$part"
	check_peak "1in$part" "$limit" "$need"
	rm "$tmp/1in$part.out"
done
