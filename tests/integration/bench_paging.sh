#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# weir bench paging --quick: its JSON has every key that is documented, each ratio or the reason why there is none; and
# nothing that it set up for its peers stays behind: not at its end, not after SIGTERM, not after kill -9.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl
need_userfaultfd
disk_folder

# What the bench changes on the machine, but for what has its process in the name.
machine()
{
	cat /proc/swaps /proc/sys/vm/page-cluster
	ls -d /sys/block/zram* 2>/dev/null
	ls -A "$store"
}

# as_before PID WHEN
as_before()
{
	machine >"$tmp/after"
	cmp -s "$tmp/before" "$tmp/after" ||
		fail "expected swaps, zram devices, page-cluster and TMPDIR as they were, $2; < before, > now:" \
			"$(diff "$tmp/before" "$tmp/after")"
	left=$(find /sys/fs/cgroup -type d -name "weir-bench-$1-*" 2>/dev/null)
	[ ! "$left" ] || fail "expected no cgroup $2; left: $left"
}

# keeper_of PID: the process that takes down what a bench has set up.
keeper_of()
{
	for of in /proc/[0-9]*/status; do
		[ "$(sed -n 's/^\(Name\|PPid\):\t//p' "$of" 2>/dev/null | tr '\n' ' ')" = "bench-keeper $1 " ] || continue
		of=${of#/proc/}
		say "${of%/status}"
	done
}

# end_early SIGNAL STATUS: in the middle, with swap on.
end_early()
{
	TMPDIR=$store "$WEIR" bench paging --quick --json >"$tmp/cut.out" 2>"$tmp/cut.err" &
	bench=$!
	remember $bench
	while [ "$(cat /proc/swaps)" = "$swaps" ]; do
		kill -0 $bench 2>/dev/null || failed_run cut "expected the bench to run until it gets SIG$1"
		perl -e 'select undef, undef, undef, .01'
	done
	keeper=$(keeper_of $bench)
	[ "$keeper" ] || failed_run cut "expected a process bench-keeper beside the bench"
	kill -"$1" $bench
	wait $bench
	status=$?
	forget
	[ $status -eq "$2" ] || failed_run cut "expected status $2 after SIG$1; seen $status"
	timeout -k 5 "$patience" tail --pid="$keeper" -f /dev/null ||
		fail "expected the keeper to end after SIG$1"
	as_before $bench "after SIG$1"
	[ ! -s "$tmp/cut.out" ] || fail "expected no figures after SIG$1"
}

swaps=$(cat /proc/swaps)
machine >"$tmp/before"
TMPDIR=$store "$WEIR" bench paging --quick --json --svg "$tmp/picture.svg" >"$tmp/json" 2>"$tmp/quick.err" &
bench=$!
remember $bench
wait $bench || failed_run quick "expected weir bench paging --quick to end with 0"
forget
as_before $bench "at the end"
for picture in picture picture-growth; do
	grep -q '</svg>' "$tmp/$picture.svg" || fail "expected a picture"
done

[ "$(json "$tmp/json" bench quick runs bytes resident_bytes)" = "paging true 1 33554432 8388608" ] ||
	fail "expected a quick bench of 32 MiB over 8: $(cat "$tmp/json")"
json "$tmp/json" machine.cpus machine.kernel machine.mem_mib results skipped >/dev/null || exit 1
for design in weir zram swapfile mmap limit; do
	grep -q "\"design\": \"$design\"" "$tmp/json" || fail "expected results of $design"
done

# A figure above zero, or null with the reason.
check_ratio()
{
	value=$(json "$tmp/json" "ratios.$1") || exit 1
	case $value in
	null)
		why=$(json "$tmp/json" "skipped.$1") || exit 1
		say "$1: not measured: $why"
		skipped=$((skipped + 1))
		;;
	*) perl -e 'exit !($ARGV[0] > 0)' "$value" || fail "expected $1 to be above zero; seen $value" ;;
	esac
}

skipped=0
for key in fault_p50_us fault_p99_us growth_size growth_limit growth_regions; do
	check_ratio $key
done
for threads in 1t 2t; do
	for name in random_read random_rw skew_read skew_rw seq_read seq_rw; do
		check_ratio zram_${name}_$threads
		check_ratio thread_zram_${name}_$threads
	done
	for name in file_random_read file_random_rw file_seq_read mmap_random_read mmap_seq_read; do
		check_ratio ${name}_$threads
	done
done
# This one needs no peer.
for threads in 1t 2t; do
	for name in random_read random_rw skew_read skew_rw seq_read seq_rw; do
		[ "$(json "$tmp/json" ratios.of_limit_zram_${name}_$threads)" != null ] ||
			fail "expected a limit for $name with $threads"
	done
done

# Only what is asked for; the rest is null, with the reason.
TMPDIR=$store "$WEIR" bench paging --quick --json --no-peers --only 'zram_text_skew_r*_1t' >"$tmp/only" 2>"$tmp/only.err" ||
	failed_run only "expected --only to end with 0"
[ "$(json "$tmp/only" ratios.of_limit_zram_skew_read_1t)" != null ] || fail "expected the row that was asked for"
[ "$(json "$tmp/only" ratios.of_limit_zram_skew_read_2t ratios.zram_skew_read_1t ratios.growth_size ratios.fault_p50_us)" = \
	"null null null null" ] || fail "expected nothing that was not asked for"
json "$tmp/only" skipped.of_limit_zram_skew_read_2t skipped.zram_skew_read_1t skipped.growth_size skipped.fault_p50_us \
	>/dev/null || exit 1
"$WEIR" bench paging --only nothing 2>"$tmp/none.err"
[ $? -eq 125 ] || fail "expected 125 for a row that there is not"

# Without root: the same, with reasons instead of peers.
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null &&
	setpriv --reuid=65534 --clear-groups test -x "$WEIR" 2>/dev/null; then
	chmod 1777 "$store"
	TMPDIR=$store setpriv --reuid=65534 --regid=65534 --clear-groups "$WEIR" bench paging --quick --json \
		>"$tmp/nobody" 2>"$tmp/nobody.err" || failed_run nobody "expected the bench to work for nobody, without peers"
	[ "$(json "$tmp/nobody" ratios.zram_random_read_1t)" = null ] || fail "expected no peer for nobody"
	json "$tmp/nobody" skipped.zram_random_read_1t skipped.mmap_random_read_1t || exit 1
	[ "$(json "$tmp/nobody" ratios.of_limit_zram_random_read_1t)" != null ] || fail "expected a limit for nobody"
	as_before 0 "after nobody's"
fi

if [ $skipped -gt 0 ] && [ "$(id -u)" -ne 0 ]; then
	say "no peers without root: nothing to take down"
	exit 0
fi
if [ "$(json "$tmp/json" ratios.zram_random_read_1t ratios.file_random_read_1t)" = "null null" ]; then
	say "no swap here: nothing to take down"
	exit 0
fi
end_early TERM 143
end_early KILL 137
