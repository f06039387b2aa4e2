#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A program that closes every descriptor above 2, first of all, then half-way, then at its end: it still pages.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

count=60000
need_tools perl
need_userfaultfd

perl "$here/hash.pl" $count close >"$tmp/alone.out" || fail "expected status 0 of the program alone; seen $?"
needs perl "$here/hash.pl" $count close
same "$tmp/huge.out" "$tmp/alone.out" "the program at 8G"
limit=$((need / 4))
under quarter $limit perl "$here/hash.pl" $count close
[ "$status" -eq 0 ] || failed_run quarter "expected status 0; seen $status"
same "$tmp/quarter.out" "$tmp/alone.out" "the program at 1/4"
check_paged quarter
check_peak quarter "$limit" "$need"
