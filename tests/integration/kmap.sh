#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# All frames high: compressed pages are in a memfd that is not mapped, reached through 4 windows by more threads than that,
# while blocks of it go offline. Every byte is right, every counter of kmap has moved, and memory stays within the limit.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl
need_userfaultfd
seed=${WEIR_TEST_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
say "seed $seed"

# under_windows NAME LIMIT PROGRAM ARGS...: as `under`, through 4 windows.
under_windows()
{
	name=$1
	windows_limit=$2
	shift 2
	"$PEAK" --cgroup --out "$tmp/$name.peak" -- timeout -k 5 "$patience" \
		"$WEIR" run --limit "$windows_limit" --kmap 4 --handlers 16 --no-bind --churn 200 \
		--stats=json --stats-file "$tmp/$name.stats" -- "$@" >"$tmp/$name.out" 2>"$tmp/$name.err"
	status=$?
	[ $status -ne 124 ] && [ $status -ne 137 ] ||
		failed_run "$name" "expected an end within $patience s: $*; it hung with 4 windows"
}

set -- "$BIN/threads" -s "$seed" -t 16 -b 25 -n 2000
needs "$@"
[ "$need_status" -eq 0 ] || failed_run huge "expected status 0 at 8G with seed $seed; seen $need_status"
# So tight that handlers crowd at the windows.
limit=$((need / 12))
under_windows high $limit "$@"
cat "$tmp/high.out"
[ "$status" -eq 0 ] || failed_run high "expected status 0 through 4 windows with seed $seed; seen $status"
check_paged high
# Resident and in the memfd, at one moment: their peaks apart would count twice what was resident first and compressed later.
bound=$((limit + slack + need * 2 / 100))
held=$(json "$tmp/high.peak" cgroup_anon_peak_bytes) || exit 1
say "limit $limit, bound $bound; anonymous memory and memfds together: $held"
[ "$held" = null ] || [ "$held" -le "$bound" ] ||
	failed_run high "expected at most $bound bytes in memory; seen $held"
for counter in hits misses retired flushes waits; do
	seen=$(stat_of high kmap_$counter) || exit 1
	say "kmap $counter: $seen"
	[ "$seen" -gt 0 ] || failed_run high "expected windows to be short and in use; seen no $counter"
done
[ "$(stat_of high blocks_offlined_live)" -gt 0 ] ||
	failed_run high "expected blocks of the memfd that hold pages to go offline; none did"
[ "$(stat_of high poisoned)" -eq 0 ] || failed_run high "expected no page to be lost"
