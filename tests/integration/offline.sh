#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Blocks of memory that hold compressed pages go offline while a sort runs: its output is the same as alone, and the
# counters say that such blocks went.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

need_tools sort seq awk
need_userfaultfd

# 48 MiB of lines; sorted by a text that repeats, so that much of it compresses.
awk 'BEGIN { srand(7); for (i = 0; i < 600000; i++)
	printf "%08x a line of text that is like the others %d of them\n", int(rand() * 4294967295), i }' >"$tmp/in"
sort -S 1G --parallel=2 "$tmp/in" >"$tmp/alone" || fail "expected sort to work alone"

limit=$((32 * MiB))
"$WEIR" run --limit $limit --churn 100 --stats=json --stats-file "$tmp/sort.stats" -- \
	timeout -k 5 "$patience" sort -S 1G --parallel=2 "$tmp/in" >"$tmp/sort.out" 2>"$tmp/sort.err"
status=$?
[ $status -eq 0 ] || failed_run sort "expected sort to end with 0 under weir; seen $status"
same "$tmp/sort.out" "$tmp/alone" "sort, with blocks going offline under it"

# timeout(1) has left statistics, too: the sort's are the last to be written, or the first.
live=$(sed -n 's/.*"program":"sort".*"blocks_offlined_live":\([0-9]*\).*/\1/p' "$tmp/sort.stats")
moved=$(sed -n 's/.*"program":"sort".*"frames_migrated":\([0-9]*\).*/\1/p' "$tmp/sort.stats")
say "blocks that went offline while they held pages: ${live:-none}; frames emptied for it: ${moved:-none}"
[ "${live:-0}" -gt 0 ] || failed_run sort "expected blocks with compressed pages in them to go offline; seen ${live:-none}"
[ "${moved:-0}" -gt 0 ] || failed_run sort "expected frames to be emptied; seen ${moved:-none}"
