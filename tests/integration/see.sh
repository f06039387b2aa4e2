#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# What people see and steer: `weir stat` as a table, JSON and for Prometheus, `weir set`, `reclaim`, `online`, `offline`; wrong
# commands; another user's program; one that is stopped; and that one that was killed leaves nothing.
#
# In a network namespace of its own, where that can be had: there it sees its own programs only.
if [ -z "${WEIR_SEE_APART-}" ] && unshare -n true 2>/dev/null; then
	WEIR_SEE_APART=1 exec unshare -n sh "$0"
fi
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl awk
need_userfaultfd

cat >"$tmp/holder.pl" <<'PERL'
my @block;
push @block, "block $_ " . join ' ', map { $_ * 7919 } $_ .. $_ + 300 for 1 .. 8000;
open my $ready, '>', $ARGV[0] or die; print $ready "ready\n"; close $ready;
open my $go, '<', $ARGV[1] or die; <$go>;
$block[$_] =~ /^block (\d+) / && $1 == $_ + 1 or die "block $_ has other contents\n" for 0 .. $#block;
print "whole\n";
PERL
mkfifo "$tmp/ready" "$tmp/go" || fail "expected to make fifos"

# hold OPTION...: a program that has some 30 MiB, waits, and then looks at all of it. Sets $pid.
hold()
{
	"$WEIR" run "$@" -- perl "$tmp/holder.pl" "$tmp/ready" "$tmp/go" >"$tmp/hold.out" 2>"$tmp/hold.err" &
	pid=$!
	remember $pid
	from_fifo "$tmp/ready" >"$tmp/line"
}

# wants STATUS PATTERN COMMAND...: the command ends so, and says something like that on one of its streams.
wants()
{
	wanted=$1 pattern=$2
	shift 2
	timeout -k 5 60 "$@" >"$tmp/wants.out" 2>"$tmp/wants.err"
	seen=$?
	cat "$tmp/wants.out" "$tmp/wants.err" >"$tmp/wants.both"
	[ $seen -eq "$wanted" ] || failed_run wants "expected status $wanted of: $*; seen $seen"
	[ -z "$pattern" ] || [ "$(lines_like "$tmp/wants.both" "$pattern")" -gt 0 ] ||
		failed_run wants "expected '$pattern' from: $*; seen $(cat "$tmp/wants.both")"
}

# figure KEY: of the program, by weir stat.
figure()
{
	"$WEIR" stat "$pid" --json >"$tmp/figure.json" || fail "expected weir stat $pid --json to work"
	json "$tmp/figure.json" "$1" || fail "expected $1 in: $(cat "$tmp/figure.json")"
}

hold --limit 64M --high 90% --container batch/nightly

# The three forms.
wants 0 "^ *$pid perl +64M" "$WEIR" stat
wants 0 "limit +64M" "$WEIR" stat "$pid"
[ "$(figure limit_bytes)" -eq $((64 * MiB)) ] || fail "expected a limit of 64M"
[ "$(figure program)" = perl ] || fail "expected the program's name"
[ "$(figure managed_bytes)" -gt $((16 * MiB)) ] || fail "expected at least 16M to be managed"
grep -q '"high_bytes":60397977,' "$tmp/figure.json" ||
	fail "expected a high of 90 % of 64M: $(cat "$tmp/figure.json")"
perl -ne 'exit !/"path":"batch\/nightly","current_bytes":(\d+)/ || $1 < 16 << 20' "$tmp/figure.json" ||
	fail "expected the program's memory in its container: $(cat "$tmp/figure.json")"
"$WEIR" stat --json | perl -0777 -ne 'exit !/^\[.*\{"pid":'"$pid"',.*\}\]\n$/s' ||
	fail "expected an array with process $pid: $("$WEIR" stat --json)"
esc=$(printf '\033')
! "$WEIR" stat | grep -q "$esc" || fail "expected no colours where standard output is no terminal"

# Prometheus: names, labels and numbers as its text format wants them, HELP and TYPE once each and before the samples.
"$WEIR" stat --prometheus >"$tmp/metrics" || fail "expected weir stat --prometheus to work"
perl -ne '
	chomp;
	my $name = "[a-zA-Z_:][a-zA-Z0-9_:]*";
	my $label = "[a-zA-Z_][a-zA-Z0-9_]*=\"(?:[^\"\\\\\n]|\\\\[\\\\\"n])*\"";
	if (/^# HELP ($name) \S/) { $help{$1}++ and die "HELP twice: $_\n"; next }
	if (/^# TYPE ($name) (counter|gauge|summary)$/) {
		$type{$1} and die "TYPE twice: $_\n";
		$type{$1} = $2;
		$2 eq "counter" && $1 !~ /_total$/ and die "a counter that is no _total: $_\n";
		next;
	}
	/^($name)\{$label(?:,$label)*\} (?:[0-9]+(?:\.[0-9]+)?|\+Inf)$/ or die "no sample: $_\n";
	(my $family = $1) =~ s/_(sum|count)$// if !$type{$1};
	$family //= $1;
	$type{$family} && $help{$family} or die "no HELP or TYPE before: $_\n";
	$seen{$_}++ and die "twice: $_\n";
	$count++;
	END { $count > 40 or die "only $count samples\n" }
' "$tmp/metrics" || fail "expected Prometheus' text format; see above"
grep -q "^weir_limit_bytes{pid=\"$pid\",program=\"perl\"} $((64 * MiB))$" "$tmp/metrics" ||
	fail "expected the limit among the metrics"
if command -v promtool >/dev/null; then
	promtool check metrics <"$tmp/metrics" >"$tmp/promtool" 2>&1 || [ $? -eq 3 ] || fail "promtool: $(cat "$tmp/promtool")"
fi

# Steering. Reclaimed, the program has less.
before=$(figure managed_bytes)
wants 0 "reclaimed" "$WEIR" reclaim "$pid" 2M
[ "$(figure managed_bytes)" -le $((before - 2 * MiB)) ] || fail "expected 2M less than $before bytes after weir reclaim"
wants 0 "reclaimed" "$WEIR" reclaim "$pid" 10%
wants 1 "no more to give" "$WEIR" reclaim "$pid" 10G

# A lowered limit holds, and the pages are moved out.
"$WEIR" set "$pid" max=16M high=12M swap.max=1G >"$tmp/set.out" 2>&1 ||
	[ "$(lines_like "$tmp/set.out" 'is set, and holds')" -gt 0 ] || fail "expected limits to be set: $(cat "$tmp/set.out")"
[ "$(figure limit_bytes)" -eq $((16 * MiB)) ] || fail "expected a limit of 16M after weir set"
grep -q "\"high_bytes\":$((12 * MiB)),.*\"swap_max_bytes\":$((1024 * MiB))," "$tmp/figure.json" || fail "expected high and swap.max"
[ "$(figure managed_bytes)" -le $((16 * MiB)) ] || fail "expected at most 16M after weir set"
wants 0 "" "$WEIR" set "$pid" max=128M high=max

# Blocks of memory for compressed pages come and go.
before=$(figure blocks_onlined)
wants 0 "^online" "$WEIR" online "$pid" 16M
[ "$(figure blocks_onlined)" -gt "$before" ] || fail "expected more than $before blocks after weir online"
before=$(figure blocks_offlined)
wants 0 "^offline" "$WEIR" offline "$pid" 4M
[ "$(figure blocks_offlined)" -gt "$before" ] || fail "expected more than $before blocks gone after weir offline"
wants 1 "went; what is left" "$WEIR" offline "$pid" 10G

# What is wrong, and what to do.
wants 125 "no value 'maximum'" "$WEIR" set "$pid" maximum=3M
wants 125 "not a size" "$WEIR" set "$pid" max=3X
wants 125 "too large" "$WEIR" set "$pid" max=99999999999G
wants 125 "at least 1M" "$WEIR" set "$pid" max=64K
wants 125 "at least 1M" "$WEIR" set "$pid" max=max
wants 125 "sets nothing" "$WEIR" set "$pid" max
wants 125 "a process and what to set" "$WEIR" set "$pid"
wants 0 "" "$WEIR" set "$pid" batch/nightly:max=126M
grep -q . "$tmp/wants.both" && fail "expected no word about a limit that is set"
figure pid >"$tmp/out"
grep -q "\"path\":\"batch/nightly\",[^}]*\"max_bytes\":$((126 * MiB))," "$tmp/figure.json" || fail "expected a limit of the container"
wants 1 "no such container" "$WEIR" set "$pid" batch/daily:max=3M
wants 1 "no such container" "$WEIR" reclaim --container daily "$pid" 3M
wants 125 "not a size" "$WEIR" reclaim "$pid" much
wants 125 "a process and a size" "$WEIR" reclaim "$pid"
wants 125 "is no process" "$WEIR" stat perl
wants 125 "is no process" "$WEIR" set 0 max=3M
wants 1 "not under weir" "$WEIR" stat $$
wants 1 "not under weir" "$WEIR" set $$ max=3M
[ "$(figure limit_bytes)" -eq $((128 * MiB)) ] || fail "expected wrong commands to change nothing"

# Another user.
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
	for command in "stat $pid" "set $pid max=1G" "reclaim $pid 1M"; do
		# shellcheck disable=SC2086 # words
		wants 1 "belongs to root" setpriv --reuid 65534 --regid 65534 --clear-groups "$WEIR" $command
	done
	wants 0 "no program" setpriv --reuid 65534 --regid 65534 --clear-groups "$WEIR" stat
	[ "$(figure limit_bytes)" -eq $((128 * MiB)) ] || fail "expected another user to change nothing"
else
	say "not root, or no setpriv: another user is left out"
fi

# One that is stopped holds nobody up.
kill -STOP "$pid"
wants 1 "does not answer" "$WEIR" stat "$pid"
wants 0 "does not answer" "$WEIR" stat
kill -CONT "$pid"

# After all that it has the memory that it had.
to_fifo "$tmp/go"
wait "$pid" || failed_run hold "expected the program to find its memory as it was"
grep -q whole "$tmp/hold.out" || failed_run hold "expected the program to find its memory as it was"
wants 1 "no process" "$WEIR" stat "$pid"
forget

# Killed, nothing is left: no socket, no file.
hold --limit 64M
"$WEIR" stat "$pid" >"$tmp/out" || fail "expected weir stat $pid"
kill -KILL "$pid"
wait "$pid" 2>"$tmp/err"
forget
! grep -q "@weir/$pid" /proc/net/unix || fail "expected no socket of a dead process"
wants 1 "no process" "$WEIR" stat "$pid"
for place in /dev/shm /run "${XDG_RUNTIME_DIR:-/run}" /tmp; do
	! find "$place" -maxdepth 2 -name "*weir*$pid*" 2>/dev/null | grep -q . || fail "expected no file in $place"
done

# Full output is an error.
if [ -c /dev/full ]; then
	"$WEIR" stat --json >/dev/full 2>"$tmp/full.err"
	[ $? -eq 1 ] && grep -q ENOSPC "$tmp/full.err" || fail "expected an error for output that cannot be written"
fi
