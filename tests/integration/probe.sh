#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# weir probe says the same to people and in JSON, as root and as nobody; weir stress fault prints what it did in its
# form, and both refuse what makes no sense.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl
need_userfaultfd

"$WEIR" probe >"$tmp/text" || fail "expected weir probe to end with 0 where userfaultfd works"
"$WEIR" probe --json >"$tmp/json" || fail "expected weir probe --json to end with 0"
[ "$(json "$tmp/json" userfaultfd.write-protect.here userfaultfd.write-protect.needed)" = "true true" ] ||
	fail "expected write protection to be here and needed: $(cat "$tmp/json")"
# Regions over files are made of them.
[ "$(json "$tmp/json" userfaultfd.minor-shmem.used userfaultfd.missing-shmem.used)" = "true true" ] ||
	fail "expected minor faults of shared memory to be used: $(cat "$tmp/json")"
for mode in thread signal; do
	[ "$(json "$tmp/json" ${mode}_mode)" = true ] && words='works' || words='does not work'
	grep -q "^$mode mode  *$words\$" "$tmp/text" || fail "expected '$mode mode  $words' as in the JSON: $(cat "$tmp/text")"
done

if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null &&
	setpriv --reuid=65534 --clear-groups test -x "$WEIR" 2>/dev/null; then
	setpriv --reuid=65534 --regid=65534 --clear-groups "$WEIR" probe --json >"$tmp/nobody" ||
		say "nobody has neither mode on this kernel"
	[ "$(json "$tmp/nobody" permission)" != call ] || [ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 1 ] ||
		fail "expected nobody not to have all of userfaultfd"
fi

"$WEIR" stress fault 4 16 --cpus 3 --wake one,all,epoll --runs 2 --seed 7 >"$tmp/stress" ||
	fail "expected weir stress fault to end with 0"
grep -q '^nr_pages: 1023, nr_pages_per_cpu: 341$' "$tmp/stress" || fail "expected pages rounded to the CPUs"
[ "$(lines_like "$tmp/stress" '^bounces: 15, mode: rnd racing ver poll, userfaults: [0-9]+ [0-9]+ [0-9]+$')" = 6 ] ||
	fail "expected bounce 15 once a run and way, with a count for each of 3 handlers"
[ "$(lines_like "$tmp/stress" '^bounces: 0, mode:, userfaults:')" = 6 ] || fail "expected bounce 0 to be the last"
for way in one all epoll; do
	grep -q "^wake $way, 3 CPUs, 3 handlers (2 runs):\$" "$tmp/stress" || fail "expected a summary of wake $way"
done
for figure in 'seconds of wall time' 'ms of task-clock' context-switches cpu-migrations page-faults 'faults served per second'; do
	[ "$(lines_like "$tmp/stress" "[0-9d]  $figure")" = 3 ] || fail "expected $figure for each of three ways"
done
[ "$(tail -n 1 "$tmp/stress")" = 'all pages were right, in every run' ] || fail "expected the verdict at the end"

# refused PATTERN ARGS...: 125, and one message.
refused()
{
	pattern=$1
	shift
	"$WEIR" "$@" >"$tmp/out" 2>"$tmp/err"
	seen=$?
	[ $seen -eq 125 ] || fail "expected status 125 of weir $*; seen $seen"
	[ "$(wc -l <"$tmp/err")" -eq 1 ] && grep -q -e "$pattern" "$tmp/err" ||
		fail "expected one line with '$pattern' of weir $*; seen $(cat "$tmp/err")"
}
refused 'json' probe --xml
refused 'stress fault 64 32' stress
refused 'stress fault 64 32' stress memory
refused 'bounces' stress fault 64
refused 'from 1 to' stress fault 0 1
refused 'from 1 to' stress fault 4 x
refused 'half of this machine' stress fault 1048576 1
refused 'from 1 to' stress fault 4 4 --cpus 65
refused 'one, all and epoll' stress fault 4 4 --wake none
refused 'one, all and epoll' stress fault 4 4 --wake one,
refused 'one too many' stress fault 4 4 4
refused 'needs a value' stress fault 4 4 --seed
"$WEIR" stress fault --help | grep -q '^Usage: weir stress fault' || fail "expected help of weir stress fault --help"
