#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Signals and stops from outside do not disturb a managed program: a storm of SIGPROF (maps_storm.c), perf record, a debugger that attaches, steps and lets
# go. Each time the program pages, and comes to the same end.
# signals.sh storm | perf | gdb
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

how=${1:?storm, perf or gdb}
need_userfaultfd
patience=120
limit=$((8 * MiB))
set -- "$BIN/maps" storm 2 400 4711

case $how in
storm)
	set -- "$BIN/maps" profiled 2 400 4711
	under storm $limit "$@"
	;;
perf)
	need_tools perf
	perf record -o "$tmp/try" true >/dev/null 2>&1 || skip "perf record does not work here"
	"$WEIR" run --limit $limit --stats=json --stats-file "$tmp/perf.stats" -- \
		perf record -F 2000 -o "$tmp/perf.data" "$@" >"$tmp/perf.out" 2>"$tmp/perf.err"
	status=$?
	# perf itself is a process of weir's as well.
	grep '"program":"maps"' "$tmp/perf.stats" >"$tmp/maps.stats"
	mv "$tmp/maps.stats" "$tmp/perf.stats"
	[ -s "$tmp/perf.data" ] || failed_run perf "expected perf to have recorded something"
	;;
gdb)
	need_tools gdb
	set -- "$BIN/maps" storm 2 2000 4711
	"$WEIR" run --limit $limit --stats=json --stats-file "$tmp/gdb.stats" -- "$@" >"$tmp/gdb.out" 2>"$tmp/gdb.err" &
	weir=$!
	remember $weir
	# It becomes the program.
	until [ "$(readlink /proc/$weir/exe)" = "$BIN/maps" ]; do
		[ -d /proc/$weir ] || failed_run gdb "expected the program to start"
	done
	for round in 1 2 3; do
		timeout -k 5 60 gdb -p $weir -batch -nx -ex 'stepi' -ex 'stepi' -ex 'stepi' -ex 'info threads' -ex 'detach' \
			>"$tmp/gdb.$round" 2>&1
		attached=$?
		[ -d /proc/$weir ] || break
		grep -q 'Operation not permitted' "$tmp/gdb.$round" && skip "gdb may not attach here"
		[ $attached -eq 0 ] || fail "expected gdb to attach, step and let go; seen $attached: $(tail -n 3 "$tmp/gdb.$round")"
	done
	[ "$round" -gt 1 ] || fail "expected the program to live long enough for gdb"
	wait $weir
	status=$?
	forget
	;;
*) fail "unknown: $how" ;;
esac
[ "$status" -eq 0 ] || failed_run "$how" "expected status 0 under $how; seen $status"
check_paged "$how"
