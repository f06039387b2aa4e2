#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# What programs map themselves (maps.c): the rules that the kernel has are weir's too, whatever happens to the pages; contents are what was
# written, through random mappings, moves, protection and files mapped over. Alone first: what is expected is what the kernel does.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_userfaultfd
patience=120
seed=${WEIR_TEST_SEED:-$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}
limit=$((8 * MiB))

"$BIN/maps" rules || fail "expected status 0 from the rules alone; seen $?"
"$BIN/maps" fork || fail "expected status 0 from the forks alone; seen $?"
"$BIN/maps" storm 3 300 "$seed" || fail "expected status 0 from the storm alone, seed $seed; seen $?"

under rules $limit "$BIN/maps" rules
[ "$status" -eq 0 ] || failed_run rules "expected status 0 from the rules; seen $status"
check_paged rules
check_peak rules $limit $((128 * MiB))

under fork $limit "$BIN/maps" fork
[ "$status" -eq 0 ] || failed_run fork "expected status 0 from the forks; seen $status"
check_paged fork
# The same where forks cannot be told, and children are plain.
without='setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace'
# shellcheck disable=SC2086 # words
if $without "$BIN/may_userfaultfd" 2>/dev/null; then
	timeout -k 5 "$patience" $without "$WEIR" run --limit $limit -- "$BIN/maps" fork 2>"$tmp/plain.err" ||
		failed_run plain "expected status 0 from the forks without CAP_SYS_PTRACE; seen $?"
fi

# Each on its own, and with pages moving behind weir's back: blocks that come and go, few windows.
for how in '' '--churn 20' '--kmap 8'; do
	for threads in 1 4; do
		# shellcheck disable=SC2086 # words
		timeout -k 5 "$patience" "$WEIR" run --limit $limit $how -- "$BIN/maps" storm $threads 120 "$seed" \
			2>"$tmp/storm.err" ||
			failed_run storm "expected status 0 from the storm of $threads threads with '$how', seed $seed; seen $?"
	done
done
under storm $limit "$BIN/maps" storm 2 400 "$seed"
[ "$status" -eq 0 ] || failed_run storm "expected status 0 from the storm, seed $seed; seen $status"
check_paged storm
check_peak storm $limit $((64 * MiB))
