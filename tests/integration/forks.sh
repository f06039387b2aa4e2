#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Forks with a hand-over: forks.sh CASE runs one of the cases of forks.c with most of its heap elsewhere, a part of it in the
# file. The child sees what the parent had at the fork, both go on under their limit, and nothing is left behind.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

case=$1
seed=${SEED:-$$}
limit=$((4 * MiB))
need_userfaultfd
disk_folder
say "seed $seed"

# The kernel tells of forks to those who have CAP_SYS_PTRACE.
without=
limited=1
named=
# may_be_told: skips where the hand-over cannot be had.
may_be_told()
{
	grep -q '^CapEff:.*[89a-f]....$' /proc/self/status || skip "no CAP_SYS_PTRACE here: forks bring all pages in"
}

run()
{
	# shellcheck disable=SC2086 # words
	env FORKS_WEIR="$WEIR" ${limited:+FORKS_LIMITED=1} $without timeout -k 5 "$patience" "$WEIR" run --limit $limit --store "file:$store" $named --stats=json --stats-file "$tmp/forks.stats" -- \
		"$BIN/forks" "$case" "$seed" >"$tmp/forks.out" 2>"$tmp/forks.err" 3>"$tmp/result"
	status=$?
	[ "$status" -eq 0 ] || failed_run forks "expected status 0 of $case; seen $status, seed $seed"
}

# The kernel says so to those who may be told of forks; others have the simple way.
handed_over()
{
	# The first line: one that outlives the program prints its own after it.
	handed=$(grep '"program":"forks"' "$tmp/forks.stats" | head -n 1 | sed 's/^{[^{]*"forks_handed_over":\([0-9]*\).*/\1/')
	[ "${handed:-0}" -ge "$1" ] ||
		failed_run forks "expected $1 children of $case that went on with an instance of their own; seen ${handed:-none}"
	[ "$(lines_like "$tmp/forks.err" 'all its pages come in')" -eq "${2:-0}" ] ||
		failed_run forks "expected ${2:-0} forks for which all pages came in"
}

case $case in
simple)
	# Root without the capability still has the device, and the other way.
	need_tools setpriv
	[ -c /dev/userfaultfd ] || skip "no /dev/userfaultfd: without CAP_SYS_PTRACE there is nothing to be had"
	case=snapshot
	limited=
	without='setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace'
	$without "$BIN/may_userfaultfd" || skip "userfaultfd is not to be had without CAP_SYS_PTRACE"
	run
	handed_over 0 1
	;;
orphan)
	may_be_told
	run
	# The child outlives what was started: what it finds, it writes.
	tries=0
	while ! grep -q right "$tmp/result"; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || failed_run forks "expected the orphan to say that all is right"
		sleep 0.1
	done
	;;
killed)
	may_be_told
	run
	handed_over 1
	# Who loses its parent halfway is ended with a message, and sees nothing wrong.
	wrong=$(grep -c 'expected .* seen' "$tmp/forks.err" || :)
	[ "$wrong" -eq 0 ] || failed_run forks "expected no wrong page"
	;;
raw)
	may_be_told
	run
	;;
family)
	may_be_told
	run
	handed_over 1 1
	;;
bomb)
	may_be_told
	run
	handed_over 200
	# One line of all: who forked them has what they did.
	[ "$(lines_like "$tmp/forks.stats" '"program":"forks"')" -eq 1 ] ||
		failed_run forks "expected one line of statistics, and none of the children"
	ended=$(sed -n 's/.*"program":"forks".*"children":{"ended":\([0-9]*\),.*/\1/p' "$tmp/forks.stats")
	# 190 that execute nothing, the first one, and 27 of the second generation.
	[ "${ended:-0}" -ge 210 ] && [ "$ended" -le 218 ] ||
		failed_run forks "expected 218 children in the sum, or a few less; seen ${ended:-none}"
	;;
container)
	# Parent and child each have the container, with their own pages and the same limit.
	may_be_told
	named='--container batch/nightly'
	run
	handed_over 1
	[ "$(wc -l <"$tmp/result")" -eq 2 ] || failed_run forks "expected a line of statistics of parent and child"
	while read -r line; do
		echo "$line" >"$tmp/line"
		seen=$(sed 's/.*"path":"batch\/nightly",\([^}]*\)}.*/\1/' "$tmp/line" |
			sed -n 's/.*"current_bytes":\([0-9]*\).*/\1/p')
		[ "${seen:-0}" -gt $((limit / 2)) ] && [ "$seen" -le $((limit + MiB)) ] ||
			failed_run forks "expected batch/nightly charged with pages, within the limit; seen ${seen:-none} in $line"
	done <"$tmp/result"
	;;
snapshot | files | threads | exec)
	may_be_told
	run
	handed_over 3
	;;
*)
	fail "expected a case of forks.c; seen $case"
	;;
esac
paged=$(ls -A "$store")
[ ! "$paged" ] || fail "expected no file in the store's folder; seen $paged"
